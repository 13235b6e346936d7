/* TCP header and options: foreign segments, Linux's order and padding, strict lengths, random round trips. */
#include "wire_test.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/tcp.h"

static void assert_bytes(const char *hex, const uint8_t *got, size_t got_n)
{
    size_t n;
    uint8_t *want = unhex(hex, &n);

    assert_int_equal(got_n, n);
    assert_memory_equal(got, want, n);
    free(want);
}

static void test_foreign_syn(void **state)
{
    static const char syn[] =
        "9c4000501122334400000000a002faf07fdb0000020405b40402080a000000010000000001030307";
    struct ip_addr src = ip_addr_v4(192, 0, 2, 1);
    struct ip_addr dst = ip_addr_v4(198, 51, 100, 7);
    struct tcp_seg seg;
    uint8_t out[60];
    size_t n;
    size_t header;
    uint8_t *p = unhex(syn, &n);

    (void)state;
    memset(&seg, 0, sizeof seg);
    assert_int_equal(tcp_header_decode(p, n, &seg, &header), TCP_DECODE_OK);
    assert_int_equal(header, 40);
    assert_int_equal(seg.src_port, 40000);
    assert_int_equal(seg.dst_port, 80);
    assert_int_equal(seg.seq, 0x11223344);
    assert_int_equal(seg.flags, TCP_SYN);
    assert_int_equal(seg.wnd, 64240);
    assert_true(seg.opt.mss_ok && seg.opt.sack_permitted && seg.opt.timestamps_ok && seg.opt.wscale_ok);
    assert_int_equal(seg.opt.mss, 1460);
    assert_int_equal(seg.opt.wscale, 7);
    assert_int_equal(seg.opt.tsval, 1);
    assert_int_equal(tcp_header_encode(&seg, out), 40);
    put_be16(out + 16, csum_tcp(&src, &dst, out, 40, NULL, 0));
    assert_memory_equal(out, p, 40);
    free(p);
}

static void test_foreign_sack(void **state)
{
    static const char sack[] =
        "00509c400000000100000002a01001f5cb0000000101051200000064000000c80000012c00000190";
    struct tcp_seg seg;
    uint8_t out[60];
    size_t n;
    size_t header;
    uint8_t *p = unhex(sack, &n);

    (void)state;
    memset(&seg, 0, sizeof seg);
    assert_int_equal(tcp_header_decode(p, n, &seg, &header), TCP_DECODE_OK);
    assert_int_equal(seg.opt.sack_count, 2);
    assert_int_equal(seg.opt.sack[1].start, 300);
    assert_int_equal(seg.opt.sack[1].end, 400);
    assert_int_equal(tcp_header_encode(&seg, out), 40);
    memcpy(out + 16, p + 16, 2);
    assert_memory_equal(out, p, 40);
    free(p);
}

/* Linux's layouts, in its order with its padding. */
static void test_layout(void **state)
{
    struct tcp_options o = {0};
    uint8_t md5[16] = {0xaa, [15] = 0xbb};
    uint8_t out[TCP_OPTIONS_MAX];

    (void)state;
    assert_int_equal(tcp_options_encode(&o, true, out), 0);
    o = (struct tcp_options){
        .mss_ok = true, .mss = 1460, .sack_permitted = true, .wscale_ok = true, .wscale = 9};
    assert_bytes("020405b40101040201030309", out, tcp_options_encode(&o, true, out));
    assert_int_equal(tcp_options_encode(&o, false, out), 0); /* these belong on SYNs */
    o.timestamps_ok = true;
    o.tsval = 0x01020304;
    o.tsecr = 5;
    assert_bytes("020405b40402080a010203040000000501030309", out, tcp_options_encode(&o, true, out));
    assert_int_equal(tcp_options_bytes(&o, true), 20);
    assert_bytes("0101080a0102030400000005", out, tcp_options_encode(&o, false, out));
    o.sack_permitted = false;
    assert_bytes("020405b40101080a010203040000000501030309", out, tcp_options_encode(&o, true, out));
    o.sack_permitted = true;
    o.md5_ok = true;
    memcpy(o.md5, md5, 16);
    assert_bytes("01011312aa0000000000000000000000000000bb020405b40402080a010203040000000501030309", out,
                 tcp_options_encode(&o, true, out));
    o.fastopen_ok = true; /* no room left */
    assert_int_equal(tcp_options_encode(&o, true, out), 40);
    o.timestamps_ok = false;
    o.sack_permitted = false;
    assert_bytes("01011312aa0000000000000000000000000000bb020405b40103030922020101", out,
                 tcp_options_encode(&o, true, out));
}

static void test_fastopen_layout(void **state)
{
    struct tcp_options o = {
        .fastopen_ok = true, .fastopen_bytes = 8, .fastopen_cookie = {1, 2, 3, 4, 5, 6, 7, 8}};
    uint8_t out[TCP_OPTIONS_MAX];

    (void)state;
    assert_bytes("220a01020304050607080101", out, tcp_options_encode(&o, true, out));
    o.fastopen_exp = true;
    assert_bytes("fe0cf9890102030405060708", out, tcp_options_encode(&o, true, out));
    o.fastopen_bytes = 0;
    assert_bytes("fe04f989", out, tcp_options_encode(&o, true, out));
    assert_int_equal(tcp_options_encode(&o, false, out), 0);
}

static void test_sack_room(void **state)
{
    struct tcp_options o = {.sack_count = 4, .sack = {{1, 2}, {3, 4}, {5, 6}, {7, 8}}};
    struct tcp_options back;
    uint8_t out[TCP_OPTIONS_MAX];

    (void)state;
    assert_int_equal(tcp_options_encode(&o, false, out), 36);
    o.timestamps_ok = true;
    assert_int_equal(tcp_options_encode(&o, false, out), 40);
    assert_true(tcp_options_decode(out, 40, false, &back));
    assert_int_equal(back.sack_count, 3);
    o.md5_ok = true; /* 32 bytes are taken: no block fits */
    assert_int_equal(tcp_options_encode(&o, false, out), 32);
    o.timestamps_ok = false;
    assert_int_equal(tcp_options_encode(&o, false, out), 40);
}

static struct tcp_options decode(const char *hex, bool is_syn, bool want_ok)
{
    struct tcp_options o;
    size_t n;
    uint8_t *p = unhex(hex, &n);

    memset(&o, 0xff, sizeof o);
    assert_int_equal(tcp_options_decode(p, n, is_syn, &o), want_ok);
    memset(o.md5, 0, 16);
    free(p);
    return o;
}

static void test_strictness(void **state)
{
    struct tcp_options o;

    (void)state;
    /* Wrong lengths of known kinds: skipped, and what follows counts. */
    o = decode("0205010000"
               "0304"
               "00",
               true, false); /* then a length behind the end */
    assert_true(!o.mss_ok && !o.wscale_ok);
    o = decode("0203ff"
               "03040707"
               "0403aa"
               "080901010101010101"
               "01"
               "020405b4",
               true, true);
    assert_true(o.mss_ok && !o.wscale_ok && !o.sack_permitted && !o.timestamps_ok);
    o = decode("02040000", true, true); /* an MSS of 0 is none */
    assert_false(o.mss_ok);
    /* SYN-only options elsewhere, SACK on a SYN. */
    o = decode("020405b40402030307"
               "220601020304",
               false, true);
    assert_true(!o.mss_ok && !o.sack_permitted && !o.wscale_ok && !o.fastopen_ok);
    o = decode("050a0000000100000002", true, true);
    assert_int_equal(o.sack_count, 0);
    o = decode("050a0000000100000002", false, true);
    assert_int_equal(o.sack_count, 1);
    o = decode("050b000000010000000201", false, true);
    assert_int_equal(o.sack_count, 0);
    o = decode("0502", false, true);
    assert_int_equal(o.sack_count, 0);
    /* The list ends at EOL, at a length below 2, at a lone kind. */
    o = decode("00020405b4", true, true);
    assert_false(o.mss_ok);
    o = decode("9900020405b4", true, false);
    assert_false(o.mss_ok);
    o = decode("9901020405b4", true, false);
    assert_false(o.mss_ok);
    o = decode("020405b403", true, false);
    assert_true(o.mss_ok);
    /* Unknown kinds are skipped by length. */
    o = decode("9904aabb020405b4", true, true);
    assert_true(o.mss_ok);
}

static void test_fastopen_lengths(void **state)
{
    struct tcp_options o;

    (void)state;
    o = decode("2202", true, true);
    assert_true(o.fastopen_ok && !o.fastopen_exp && o.fastopen_bytes == 0);
    o = decode("220601020304", true, true);
    assert_true(o.fastopen_ok && o.fastopen_bytes == 4);
    o = decode("22040102", true, true);
    assert_false(o.fastopen_ok);
    o = decode("22070102030405", true, true);
    assert_false(o.fastopen_ok);
    o = decode("2214"
               "010203040506070809101112131415161718",
               true, true);
    assert_false(o.fastopen_ok);
    o = decode("fe08f98901020304", true, true);
    assert_true(o.fastopen_ok && o.fastopen_exp && o.fastopen_bytes == 4);
    o = decode("fe08f98801020304", true, true);
    assert_false(o.fastopen_ok);
    o = decode("fe03f9", true, true);
    assert_false(o.fastopen_ok);
}

static void test_header_refusals(void **state)
{
    uint8_t p[60] = {[12] = 0x50};
    struct tcp_seg seg = {0};
    size_t header = 7;

    (void)state;
    assert_int_equal(tcp_header_decode(p, 19, &seg, &header), TCP_DECODE_SHORT);
    assert_int_equal(tcp_header_decode(p, 20, &seg, &header), TCP_DECODE_OK);
    p[12] = 0x40;
    assert_int_equal(tcp_header_decode(p, 60, &seg, &header), TCP_DECODE_BAD_OFFSET);
    p[12] = 0xf1;
    p[13] = 0xc2;
    assert_int_equal(tcp_header_decode(p, 59, &seg, &header), TCP_DECODE_SHORT);
    p[20] = 2;
    p[21] = 41;
    assert_int_equal(tcp_header_decode(p, 60, &seg, &header), TCP_DECODE_BAD_OPTIONS);
    assert_int_equal(header, 60);
    assert_int_equal(seg.flags, TCP_AE | TCP_CWR | TCP_ECE | TCP_SYN);
}

static struct tcp_options random_options(struct rng *r, bool is_syn, const uint8_t *md5)
{
    struct tcp_options o;

    memset(&o, 0, sizeof o);
    o.timestamps_ok = below(r, 2);
    if (o.timestamps_ok) {
        o.tsval = (uint32_t)rng_next(r);
        o.tsecr = (uint32_t)rng_next(r);
    }
    o.md5_ok = below(r, 4) == 0;
    if (o.md5_ok)
        memcpy(o.md5, md5, 16);
    if (!is_syn) {
        o.sack_count = (uint8_t)below(r, o.md5_ok ? 2 - o.timestamps_ok : 5 - o.timestamps_ok);
        for (size_t i = 0; i < o.sack_count; i++)
            o.sack[i] = (struct tcp_sack_block){(uint32_t)rng_next(r), (uint32_t)rng_next(r)};
        return o;
    }
    o.mss_ok = below(r, 2);
    o.mss = o.mss_ok ? (uint16_t)(1 + below(r, 65535)) : 0;
    o.sack_permitted = below(r, 2);
    o.wscale_ok = below(r, 2);
    o.wscale = o.wscale_ok ? (uint8_t)below(r, 256) : 0;
    o.fastopen_ok = !o.md5_ok && below(r, 2);
    if (o.fastopen_ok) {
        o.fastopen_exp = below(r, 2);
        o.fastopen_bytes = (uint8_t)(below(r, 7) * 2);
        if (o.fastopen_bytes == 2)
            o.fastopen_bytes = 16;
        fill_random(r, o.fastopen_cookie, o.fastopen_bytes);
    }
    return o;
}

static void test_random_round_trip(void **state)
{
    struct rng r = test_rng();
    uint8_t md5[16];

    (void)state;
    fill_random(&r, md5, 16);
    for (int i = 0; i < 20000; i++) {
        struct tcp_seg seg;
        struct tcp_seg back;
        uint8_t out[60];
        size_t header = 0;
        size_t n;

        memset(&seg, 0, sizeof seg);
        memset(&back, 0, sizeof back);
        seg.src_port = (uint16_t)rng_next(&r);
        seg.dst_port = (uint16_t)rng_next(&r);
        seg.seq = (uint32_t)rng_next(&r);
        seg.ack = (uint32_t)rng_next(&r);
        seg.wnd = (uint16_t)rng_next(&r);
        seg.urg_ptr = (uint16_t)rng_next(&r);
        seg.flags = (uint16_t)below(&r, 512);
        seg.opt = random_options(&r, seg.flags & TCP_SYN, md5);
        if (seg.opt.fastopen_ok && seg.opt.fastopen_bytes > 12) /* may not fit: then it is left out whole */
            seg.opt.mss_ok = seg.opt.timestamps_ok = seg.opt.wscale_ok = seg.opt.sack_permitted = false;
        if (!seg.opt.mss_ok)
            seg.opt.mss = 0;
        if (!seg.opt.wscale_ok)
            seg.opt.wscale = 0;
        if (!seg.opt.timestamps_ok)
            seg.opt.tsval = seg.opt.tsecr = 0;
        n = tcp_header_encode(&seg, out);
        assert_int_equal(tcp_header_decode(out, n, &back, &header), TCP_DECODE_OK);
        assert_int_equal(header, n);
        assert_int_equal(back.offset, n / 4 << 4 | seg.flags >> 8);
        back.offset = 0;
        assert_memory_equal(&back, &seg, sizeof seg);
    }
}

/* Whatever the bytes: the walk ends, stays inside, and sets nothing impossible. */
static void test_random_bytes(void **state)
{
    struct rng r = test_rng();

    (void)state;
    for (int i = 0; i < 50000; i++) {
        size_t n = below(&r, 41);
        uint8_t *p = malloc(n + 1);
        struct tcp_options o;
        size_t pos = 0;
        size_t before = 0;
        bool bad = false;

        assert_non_null(p);
        fill_random(&r, p, n);
        for (size_t k = 0; k + 1 < n && i % 2; k += 2 + below(&r, 8)) { /* plausible kinds and lengths */
            p[k] = (uint8_t[]){1, 2, 3, 4, 5, 8, 19, 34, 254}[below(&r, 9)];
            p[k + 1] = (uint8_t)below(&r, 14);
        }
        memset(&o, 0, sizeof o);
        while (tcp_option_step(p, n, &pos, i & 4, &o, &bad)) {
            assert_true(pos > before && pos <= n);
            before = pos;
        }
        assert_true(o.sack_count <= TCP_SACK_BLOCKS_MAX && o.fastopen_bytes <= TCP_FASTOPEN_COOKIE_MAX);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_syn),
        cmocka_unit_test(test_foreign_sack),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_fastopen_layout),
        cmocka_unit_test(test_sack_room),
        cmocka_unit_test(test_strictness),
        cmocka_unit_test(test_fastopen_lengths),
        cmocka_unit_test(test_header_refusals),
        cmocka_unit_test(test_random_round_trip),
        cmocka_unit_test(test_random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
