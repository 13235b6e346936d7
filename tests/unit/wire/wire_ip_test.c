/* IPv4, IPv6 with its extension headers, UDP: foreign frames, every refusal, random round trips. */
#include "wire_test.h"
#include "wire/bytes.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/udp.h"

static const char udp4[] = "4500001f1234400040113c5ec0000201c633640714e90009000b0c3078797a";

static void test_ipv4_frame(void **state)
{
    size_t n;
    uint8_t *p = unhex(udp4, &n);
    struct ipv4_header h;
    struct udp_header u;
    uint8_t out[IPV4_HEADER_BYTES];

    (void)state;
    assert_int_equal(ipv4_header_decode(p, n, true, &h), IPV4_DECODE_OK);
    assert_int_equal(h.total_bytes, 31);
    assert_int_equal(h.id, 0x1234);
    assert_true(h.dont_fragment && !ipv4_is_fragment(&h) && !h.source_route);
    assert_int_equal(h.ttl, 64);
    assert_int_equal(h.proto, IP_PROTO_UDP);
    assert_memory_equal(h.src.b, "\xc0\0\x02\x01", 4);
    ipv4_header_encode(&h, out);
    assert_memory_equal(out, p, IPV4_HEADER_BYTES);
    assert_int_equal(udp_header_decode(p + 20, n - 20, &u), UDP_DECODE_OK);
    assert_int_equal(u.src_port, 5353);
    assert_int_equal(u.dst_port, 9);
    assert_int_equal(u.bytes, 11);
    assert_int_equal(udp_header_decode(p + 20, 7, &u), UDP_DECODE_SHORT);
    assert_int_equal(udp_header_decode(p + 20, 10, &u), UDP_DECODE_BAD_LENGTH);
    p[25] = 7;
    assert_int_equal(udp_header_decode(p + 20, n - 20, &u), UDP_DECODE_BAD_LENGTH);
    free(p);
}

static enum ipv4_decode_result with_byte(size_t at, uint8_t value, size_t n, bool verify)
{
    size_t all;
    uint8_t *p = unhex(udp4, &all);
    struct ipv4_header h = {.ttl = 99};
    enum ipv4_decode_result r;

    p[at] = value;
    r = ipv4_header_decode(p, n, verify, &h);
    assert_true(r == IPV4_DECODE_OK || h.ttl == 99); /* untouched on failure */
    assert_string_not_equal(ipv4_decode_result_name(r), "?");
    free(p);
    return r;
}

static void test_ipv4_malformed(void **state)
{
    (void)state;
    assert_int_equal(with_byte(0, 0x45, 0, true), IPV4_DECODE_SHORT);
    assert_int_equal(with_byte(0, 0x45, 19, true), IPV4_DECODE_SHORT);
    assert_int_equal(with_byte(0, 0x65, 31, true), IPV4_DECODE_BAD_VERSION);
    assert_int_equal(with_byte(0, 0x44, 31, true), IPV4_DECODE_BAD_HEADER_BYTES);
    assert_int_equal(with_byte(0, 0x4f, 31, true), IPV4_DECODE_BAD_HEADER_BYTES);
    assert_int_equal(with_byte(3, 19, 31, true), IPV4_DECODE_BAD_TOTAL);
    assert_int_equal(with_byte(3, 32, 31, true), IPV4_DECODE_TRUNCATED);
    assert_int_equal(with_byte(8, 63, 31, true), IPV4_DECODE_BAD_CSUM);
    assert_int_equal(with_byte(8, 63, 31, false), IPV4_DECODE_OK);
    assert_int_equal(with_byte(6, 0x1f, 31, false), IPV4_DECODE_OK);
    {
        struct ipv4_header h = {.total_bytes = 60, .frag_offset = 65528, .ttl = 1};
        uint8_t p[60] = {0};

        ipv4_header_encode(&h, p);
        assert_int_equal(ipv4_header_decode(p, 60, true, &h), IPV4_DECODE_BAD_FRAGMENT);
        assert_int_equal(ipv4_header_decode_quoted(p, 20, &h), IPV4_DECODE_OK);
    }
}

static void test_ipv4_options(void **state)
{
    static const struct {
        uint8_t opt[8];
        bool source_route;
    } cases[] = {{{1, 1, 1, 131, 4, 4, 0, 0}, true},  {{148, 4, 0, 0, 137, 3, 4, 0}, true},
                 {{0, 131, 3, 4, 0, 0, 0, 0}, false}, {{7, 0, 131, 3, 4, 0, 0, 0}, false},
                 {{7, 8, 131, 3, 4, 0, 0, 0}, false}, {{7, 200, 131, 3, 4, 0, 0, 0}, false},
                 {{1, 1, 1, 1, 1, 1, 1, 7}, false}};
    struct ipv4_header h;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t p[28] = {0x47, 0, 0, 28, [8] = 1, 6};

        memcpy(p + 20, cases[i].opt, 8);
        assert_int_equal(ipv4_header_decode(p, 28, false, &h), IPV4_DECODE_OK);
        assert_int_equal(h.header_bytes, 28);
        assert_int_equal(h.source_route, cases[i].source_route);
    }
}

static void test_ipv4_random(void **state)
{
    struct rng r = test_rng();

    (void)state;
    for (int i = 0; i < 5000; i++) {
        struct ipv4_header h = {0};
        struct ipv4_header back;
        uint8_t out[IPV4_HEADER_BYTES];
        uint8_t a[4];

        fill_random(&r, a, 4);
        h.src = ip_addr_v4_bytes(a);
        fill_random(&r, a, 4);
        h.dst = ip_addr_v4_bytes(a);
        h.tos = (uint8_t)(below(&r, 64) << 2);
        h.ecn = (uint8_t)below(&r, 4);
        h.ttl = (uint8_t)below(&r, 256);
        h.proto = (uint8_t)below(&r, 256);
        h.id = (uint16_t)below(&r, 65536);
        h.frag_offset = (uint16_t)(below(&r, 8192) * 8);
        h.dont_fragment = below(&r, 2);
        h.more_fragments = below(&r, 2);
        h.header_bytes = 20;
        h.total_bytes = 20;
        if (h.frag_offset > 65515)
            continue;
        ipv4_header_encode(&h, out);
        assert_int_equal(ipv4_header_decode(out, sizeof out, true, &back), IPV4_DECODE_OK);
        assert_true(back.tos == h.tos && back.ecn == h.ecn && back.ttl == h.ttl && back.proto == h.proto);
        assert_true(back.dont_fragment == h.dont_fragment && back.more_fragments == h.more_fragments);
        assert_true(back.frag_offset == h.frag_offset && back.id == h.id &&
                    back.total_bytes == h.total_bytes);
        assert_true(ip_addr_eq(&back.src, &h.src) && ip_addr_eq(&back.dst, &h.dst));
    }
}

static void test_ipv6_random(void **state)
{
    struct rng r = test_rng();

    (void)state;
    for (int i = 0; i < 5000; i++) {
        struct ipv6_header h;
        struct ipv6_header back;
        uint8_t out[IPV6_HEADER_BYTES];
        uint8_t a[16];

        fill_random(&r, a, 16);
        h.src = ip_addr_v6_bytes(a, 3);
        fill_random(&r, a, 16);
        h.dst = ip_addr_v6_bytes(a, 3);
        h.tos = (uint8_t)(below(&r, 64) << 2);
        h.ecn = (uint8_t)below(&r, 4);
        h.hop_limit = (uint8_t)below(&r, 256);
        h.next = (uint8_t)below(&r, 256);
        h.flow_label = below(&r, 1u << 20);
        h.payload_bytes = (uint16_t)below(&r, 65536);
        h.total_bytes = 40u + h.payload_bytes;
        ipv6_header_encode(&h, out);
        assert_int_equal(ipv6_header_decode_quoted(out, sizeof out, 3, &back), IPV6_DECODE_OK);
        assert_true(back.tos == h.tos && back.ecn == h.ecn && back.hop_limit == h.hop_limit);
        assert_true(back.next == h.next && back.flow_label == h.flow_label &&
                    back.total_bytes == h.total_bytes);
        assert_true(ip_addr_eq(&back.src, &h.src) && ip_addr_eq(&back.dst, &h.dst));
        assert_int_equal(ipv6_header_decode(out, sizeof out, 3, &back),
                         h.payload_bytes ? IPV6_DECODE_TRUNCATED : IPV6_DECODE_OK);
        assert_int_equal(ipv6_header_decode(out, 39, 3, &back), IPV6_DECODE_SHORT);
        out[0] = 0x45;
        assert_int_equal(ipv6_header_decode(out, 40, 3, &back), IPV6_DECODE_BAD_VERSION);
    }
}

/* Walks a packet of an IPv6 header that names `next` and the `n` bytes in exts. */
static enum ipv6_walk_result walk(uint8_t next, const void *exts, size_t n, struct ipv6_walk *w)
{
    struct ipv6_header h = {.next = next, .payload_bytes = (uint16_t)n, .hop_limit = 1};
    uint8_t *p = malloc(40 + n);
    enum ipv6_walk_result r;

    assert_non_null(p);
    ipv6_header_encode(&h, p);
    memcpy(p + 40, exts, n);
    ipv6_walk_init(w, &h);
    r = ipv6_walk(p, 40 + n, w);
    assert_true(w->pos <= 40 + n);
    assert_string_not_equal(ipv6_walk_result_name(r), "?");
    free(p);
    return r;
}

static void test_walk_good(void **state)
{
    /* Hop-by-hop with router alert 0 and PadN, destination options with an unknown skippable one, routing
     * 0/0. */
    static const uint8_t exts[] = {60, 0, 5, 2, 0, 0, 1, 0, 43, 0, 0x1e, 2,
                                   9,  9, 0, 0, 6, 0, 0, 0, 0,  0, 0,    0};
    static const uint8_t frag[24] = {59, 0, 0, 25, 0xde, 0xad, 0xbe, 0xef};
    static const uint8_t atomic[8] = {6, 0, 0, 0, 1, 2, 3, 4};
    struct ipv6_walk w;

    (void)state;
    assert_int_equal(walk(IP_PROTO_TCP, "", 0, &w), IPV6_WALK_UPPER);
    assert_int_equal(w.pos, 40);
    assert_int_equal(w.next_at, 6);
    assert_int_equal(walk(0, exts, sizeof exts, &w), IPV6_WALK_UPPER);
    assert_int_equal(w.next, IP_PROTO_TCP);
    assert_int_equal(w.pos, 64);
    assert_int_equal(w.next_at, 56);
    assert_true(w.router_alert && w.router_alert_value == 0);
    assert_int_equal(walk(44, frag, sizeof frag, &w), IPV6_WALK_FRAGMENT);
    assert_true(w.fragment && w.more_fragments);
    assert_int_equal(w.frag_offset, 24);
    assert_int_equal(w.frag_id, 0xdeadbeef);
    assert_int_equal(w.pos, 48);
    assert_int_equal(w.next, 59);
    assert_int_equal(w.frag_at, 40);
    assert_int_equal(w.frag_next_at, 6);
    assert_int_equal(walk(44, atomic, sizeof atomic, &w), IPV6_WALK_UPPER);
    assert_true(w.fragment && !w.more_fragments && !w.frag_offset);
    assert_int_equal(walk(59, "", 0, &w), IPV6_WALK_NO_NEXT);
}

static void test_walk_refused(void **state)
{
    uint8_t many[8 * 20];
    struct ipv6_walk w;

    (void)state;
    assert_int_equal(walk(60, "\6\0\0\0\0\0\0", 7, &w), IPV6_WALK_DROP_TRUNCATED);
    assert_int_equal(walk(60, "\6\1\0\0\0\0\0\0", 8, &w), IPV6_WALK_DROP_TRUNCATED);
    assert_int_equal(walk(60, "\6\0\x41\0\0\0\0\0", 8, &w), IPV6_WALK_DROP_OPTION);
    assert_int_equal(walk(60, "\6\0\1\5\0\0\0\0", 8, &w), IPV6_WALK_DROP_BAD_OPTION);
    assert_int_equal(walk(60, "\6\0\0\0\0\0\0\1", 8, &w), IPV6_WALK_DROP_BAD_OPTION);
    memset(many, 0, sizeof many);
    for (size_t i = 0; i < sizeof many; i += 8)
        many[i] = 60;
    assert_int_equal(walk(60, many, sizeof many, &w), IPV6_WALK_DROP_TOO_MANY);
    assert_int_equal(walk(44, "\x2c\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0", 16, &w), IPV6_WALK_DROP_TOO_MANY);
}

static void test_walk_problems(void **state)
{
    static const struct {
        uint8_t next;
        uint8_t n;
        uint8_t exts[24];
        uint8_t code;
        uint8_t pointer;
        bool multicast;
    } cases[] = {
        {60, 8, {6, 0, 0, 0x80, 2, 0, 0, 0}, ICMP6_PARAM_OPTION, 43, true},     /* action 10 */
        {60, 8, {6, 0, 0xc2, 4, 0, 1, 0, 0}, ICMP6_PARAM_OPTION, 42, false},    /* action 11 */
        {43, 8, {6, 0, 0, 1, 0, 0, 0, 0}, ICMP6_PARAM_HEADER_FIELD, 42, false}, /* RFC 5095 */
        {60, 16, {0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4}, ICMP6_PARAM_NEXT_HEADER, 40, false},
        {44, 11, {6, 0, 0, 1}, ICMP6_PARAM_HEADER_FIELD, 4, false},        /* not a multiple of 8 */
        {44, 24, {6, 0, 0xff, 0xf8}, ICMP6_PARAM_HEADER_FIELD, 42, false}, /* behind 65,535 */
    };
    struct ipv6_walk w;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(walk(cases[i].next, cases[i].exts, cases[i].n, &w), IPV6_WALK_PROBLEM);
        assert_int_equal(w.problem_code, cases[i].code);
        assert_int_equal(w.problem_pointer, cases[i].pointer);
        assert_int_equal(w.problem_multicast, cases[i].multicast);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4_frame),   cmocka_unit_test(test_ipv4_malformed),
        cmocka_unit_test(test_ipv4_options), cmocka_unit_test(test_ipv4_random),
        cmocka_unit_test(test_ipv6_random),  cmocka_unit_test(test_walk_good),
        cmocka_unit_test(test_walk_refused), cmocka_unit_test(test_walk_problems),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
