/* ICMP and ICMPv6: foreign frames, quotes, errors written and read back. */
#include "wire_test.h"
#include "wire/bytes.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

static const char ping4[] = "450000231234400040013c6ac0000201c6336407080066c80007000361626364656667";
static const char ping6[] = "60212345000f3a4020010db800000000000000000000000120010db8000000000000000000000002"
                            "800093090007000361626364656667";
static const char frag_needed[] =
    "450000440001000040017cb5cb007101c00002010304e98e00000578450005dc000940003c064c"
    "d7c0000201c63364079c400050010203040000000050022000fd5b0000";
static const char too_big[] =
    "60000000004c3a4020010db8000f0000000000000000000120010db80000000000000000000000010200f4"
    "17000005006000000005b43c4020010db800000000000000000000000120010db80000000000000000000000"
    "0206000104000000009c40005001020304000000005002200093d70000";

static void test_echo(void **state)
{
    size_t n;
    uint8_t *p = unhex(ping4, &n);
    struct ip_addr src = ip_addr_v4_bytes(p + 12);
    struct ip_addr dst = ip_addr_v4_bytes(p + 16);
    struct icmp_message m;
    uint8_t out[64];

    (void)state;
    assert_int_equal(icmp4_decode(p + 20, n - 20, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_ECHO_REQUEST);
    assert_int_equal(m.echo_id, 7);
    assert_int_equal(m.echo_seq, 3);
    assert_int_equal(m.body_bytes, 7);
    assert_int_equal(icmp_echo_encode(&src, &dst, false, 7, 3, m.body, 7, out, sizeof out), 15);
    assert_memory_equal(out, p + 20, 15);
    assert_int_equal(icmp_echo_encode(&dst, &src, true, 7, 3, m.body, 7, out, sizeof out), 15);
    assert_int_equal(icmp4_decode(out, 15, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_ECHO_REPLY);
    assert_int_equal(icmp_echo_encode(&dst, &src, true, 7, 3, m.body, 7, out, 14), 0);
    p[30] ^= 1;
    assert_int_equal(icmp4_decode(p + 20, n - 20, &m), ICMP_DECODE_BAD_CSUM);
    assert_int_equal(icmp4_decode(p + 20, 7, &m), ICMP_DECODE_SHORT);
    free(p);
}

static void test_echo6(void **state)
{
    size_t n;
    uint8_t *p = unhex(ping6, &n);
    struct ip_addr src = ip_addr_v6_bytes(p + 8, 0);
    struct ip_addr dst = ip_addr_v6_bytes(p + 24, 0);
    struct icmp_message m;
    uint8_t out[64];

    (void)state;
    assert_int_equal(icmp6_decode(&src, &dst, p + 40, n - 40, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_ECHO_REQUEST);
    assert_int_equal(icmp_echo_encode(&src, &dst, false, m.echo_id, m.echo_seq, m.body, 7, out, sizeof out),
                     15);
    assert_memory_equal(out, p + 40, 15);
    assert_int_equal(icmp6_decode(&src, &src, p + 40, n - 40, &m), ICMP_DECODE_BAD_CSUM);
    free(p);
}

static void test_frag_needed(void **state)
{
    size_t n;
    uint8_t *p = unhex(frag_needed, &n);
    struct icmp_message m;
    struct icmp_quote q;
    struct ip_addr ours = ip_addr_v4(192, 0, 2, 1);

    (void)state;
    assert_int_equal(icmp4_decode(p + 20, n - 20, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_TOO_BIG);
    assert_int_equal(m.mtu, 1400);
    assert_true(icmp_is_error(&m));
    assert_int_equal(icmp_quote_decode(IP_V4, m.body, m.body_bytes, 0, &q), ICMP_QUOTE_OK);
    assert_true(ip_addr_eq(&q.src, &ours));
    assert_true(q.ports_ok && q.tcp_seq_ok);
    assert_int_equal(q.src_port, 40000);
    assert_int_equal(q.dst_port, 80);
    assert_int_equal(q.tcp_seq, 0x01020304);
    assert_int_equal(q.total_bytes, 1500);
    assert_int_equal(q.hop_limit, 60);
    /* The 8 bytes that RFC 792 promises suffice; fewer say less. */
    assert_int_equal(icmp_quote_decode(IP_V4, m.body, 28, 0, &q), ICMP_QUOTE_OK);
    assert_true(q.tcp_seq_ok);
    assert_int_equal(icmp_quote_decode(IP_V4, m.body, 27, 0, &q), ICMP_QUOTE_OK);
    assert_true(q.ports_ok && !q.tcp_seq_ok);
    assert_int_equal(icmp_quote_decode(IP_V4, m.body, 23, 0, &q), ICMP_QUOTE_OK);
    assert_false(q.ports_ok);
    assert_int_equal(icmp_quote_decode(IP_V4, m.body, 19, 0, &q), ICMP_QUOTE_SHORT);
    assert_int_equal(icmp_quote_decode(IP_V6, m.body, m.body_bytes, 0, &q), ICMP_QUOTE_BAD);
    p[20 + 8 + 7] = 1; /* fragment offset */
    assert_int_equal(icmp_quote_decode(IP_V4, m.body, m.body_bytes, 0, &q), ICMP_QUOTE_FRAGMENT);
    free(p);
}

static void test_too_big(void **state)
{
    size_t n;
    uint8_t *p = unhex(too_big, &n);
    struct ip_addr src = ip_addr_v6_bytes(p + 8, 0);
    struct ip_addr dst = ip_addr_v6_bytes(p + 24, 0);
    struct icmp_message m;
    struct icmp_quote q;

    (void)state;
    assert_int_equal(icmp6_decode(&src, &dst, p + 40, n - 40, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_TOO_BIG);
    assert_int_equal(m.mtu, 1280);
    assert_int_equal(icmp_quote_decode(IP_V6, m.body, m.body_bytes, 0, &q), ICMP_QUOTE_OK);
    assert_int_equal(q.proto, IP_PROTO_TCP); /* behind destination options */
    assert_true(q.tcp_seq_ok && q.tcp_seq == 0x01020304 && q.src_port == 40000 && q.dst_port == 80);
    assert_int_equal(q.total_bytes, 1500);
    for (size_t cut = 0; cut < 48; cut++)
        assert_int_equal(icmp_quote_decode(IP_V6, m.body, cut, 0, &q), ICMP_QUOTE_SHORT);
    free(p);
}

static void test_errors(void **state)
{
    struct ip_addr a4 = ip_addr_v4(192, 0, 2, 1);
    struct ip_addr b4 = ip_addr_v4(192, 0, 2, 2);
    uint8_t v6[16] = {0x20, 1, 0x0d, 0xb8, [15] = 1};
    struct ip_addr a6 = ip_addr_v6_bytes(v6, 0);
    struct icmp_message m;
    uint8_t packet[2000];
    uint8_t out[ICMP_ERROR_MAX];
    size_t n;

    (void)state;
    memset(packet, 0x5a, sizeof packet);
    n = icmp_error_encode(&a4, &b4, ICMP4_TYPE_UNREACHABLE, ICMP4_UNREACH_PORT, 0, packet, 2000, out,
                          sizeof out);
    assert_int_equal(n, 576 - 20);
    assert_int_equal(icmp4_decode(out, n, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_UNREACHABLE);
    assert_int_equal(m.code, ICMP4_UNREACH_PORT);
    n = icmp_error_encode(&a4, &b4, ICMP4_TYPE_PARAM_PROBLEM, 0, 20, packet, 30, out, sizeof out);
    assert_int_equal(icmp4_decode(out, n, &m), ICMP_DECODE_OK);
    assert_int_equal(m.pointer, 20);
    assert_int_equal(m.body_bytes, 30);
    n = icmp_error_encode(&a4, &b4, ICMP4_TYPE_UNREACHABLE, ICMP4_UNREACH_FRAG_NEEDED, 1400, packet, 30, out,
                          64);
    assert_int_equal(icmp4_decode(out, n, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_TOO_BIG);
    assert_int_equal(m.mtu, 1400);
    n = icmp_error_encode(&a6, &a6, ICMP6_TYPE_PARAM_PROBLEM, ICMP6_PARAM_OPTION, 42, packet, 2000, out,
                          sizeof out);
    assert_int_equal(n, 1280 - 40);
    assert_int_equal(icmp6_decode(&a6, &a6, out, n, &m), ICMP_DECODE_OK);
    assert_int_equal(m.kind, ICMP_KIND_PARAM_PROBLEM);
    assert_int_equal(m.pointer, 42);
    n = icmp_error_encode(&a6, &a6, ICMP6_TYPE_TOO_BIG, 0, 70000, packet, 100, out, 20);
    assert_int_equal(n, 20);
    assert_int_equal(icmp6_decode(&a6, &a6, out, n, &m), ICMP_DECODE_OK);
    assert_int_equal(m.mtu, 70000);
    assert_int_equal(icmp_error_encode(&a6, &a6, 1, 0, 0, packet, 9, out, 7), 0);
}

static void test_kinds(void **state)
{
    static const uint8_t v4[][2] = {{5, ICMP_KIND_REDIRECT},
                                    {11, ICMP_KIND_TIME_EXCEEDED},
                                    {4, ICMP_KIND_SOURCE_QUENCH},
                                    {13, ICMP_KIND_OTHER}};
    static const uint8_t v6[][2] = {
        {1, ICMP_KIND_UNREACHABLE}, {3, ICMP_KIND_TIME_EXCEEDED}, {132, ICMP_KIND_MLD},  {133, ICMP_KIND_ND},
        {137, ICMP_KIND_ND},        {143, ICMP_KIND_MLD},         {138, ICMP_KIND_OTHER}};
    struct ip_addr a4 = ip_addr_v4(192, 0, 2, 1);
    uint8_t any[16] = {0};
    struct ip_addr a6 = ip_addr_v6_bytes(any, 0);
    struct icmp_message m;
    uint8_t out[8];

    (void)state;
    for (size_t i = 0; i < sizeof v4 / 2; i++) {
        icmp_error_encode(&a4, &a4, v4[i][0], 0, 0, NULL, 0, out, 8);
        assert_int_equal(icmp4_decode(out, 8, &m), ICMP_DECODE_OK);
        assert_int_equal(m.kind, v4[i][1]);
    }
    for (size_t i = 0; i < sizeof v6 / 2; i++) {
        icmp_error_encode(&a6, &a6, v6[i][0], 0, 0, NULL, 0, out, 8);
        assert_int_equal(icmp6_decode(&a6, &a6, out, 8, &m), ICMP_DECODE_OK);
        assert_int_equal(m.kind, v6[i][1]);
    }
    assert_string_equal(icmp_kind_name(ICMP_KIND_MLD), "mld");
    assert_string_equal(icmp_kind_name(ICMP_KIND_OTHER), "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),    cmocka_unit_test(test_echo6),  cmocka_unit_test(test_frag_needed),
        cmocka_unit_test(test_too_big), cmocka_unit_test(test_errors), cmocka_unit_test(test_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
