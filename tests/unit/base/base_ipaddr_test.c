/*
 * Addresses: what the parsers take and refuse, RFC 5952 text, round trips, prefixes and kinds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/ipaddr.h"
#include "base/rng.h"

static struct ip_addr addr(const char *text)
{
    struct ip_addr a;

    if (!ip_addr_parse(text, &a))
        fail_msg("refused: %s", text);
    return a;
}

static void assert_text(const char *text, const char *expected)
{
    struct ip_addr a = addr(text), again;
    char out[IP_ADDR_TEXT_MAX];

    assert_ptr_equal(ip_addr_format(&a, out), out);
    assert_string_equal(out, expected);
    again = addr(out);
    assert_true(ip_addr_eq(&a, &again));
}

static void test_text(void **state)
{
    static const char *const pairs[][2] = {
        {"192.0.2.1", "192.0.2.1"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"::", "::"},
        {"::1", "::1"},
        {"1::", "1::"},
        {"0:0:0:0:0:0:0:0", "::"},
        /* RFC 5952 section 4.1: no leading zeros; 4.2.1: as short as can be; 4.3: lower case */
        {"2001:0db8:0000:0000:0000:0000:0002:0001", "2001:db8::2:1"},
        {"2001:DB8:AaAa::FFFF", "2001:db8:aaaa::ffff"},
        /* 4.2.2: not for one group only */
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
        {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
        /* 4.2.3: the longest run, the first of equals */
        {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"0:0:1:2:3:4:0:0", "::1:2:3:4:0:0"},
        {"1:0:0:2:3:4:0:0", "1::2:3:4:0:0"},
        {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
        /* 5: IPv4-mapped */
        {"::ffff:192.0.2.128", "::ffff:192.0.2.128"},
        {"::ffff:c000:280", "::ffff:192.0.2.128"},
        {"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
        {"1:2:3:4:5:6:7.8.9.10", "1:2:3:4:5:6:708:90a"},
        {"::1.2.3.4", "::102:304"},
        /* RFC 4007 section 11 */
        {"fe80::1%3", "fe80::1%3"},
        {"fe80::1%65535", "fe80::1%65535"},
        {"ff02::fb%2", "ff02::fb%2"},
        {"fe80:1111:2222:3333:4444:5555:6666:7777%65535", "fe80:1111:2222:3333:4444:5555:6666:7777%65535"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_text(pairs[i][0], pairs[i][1]);
}

static void test_bytes(void **state)
{
    static const uint8_t six[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0xab, 0xcd};
    struct ip_addr a = addr("192.0.2.1"), b = ip_addr_v4(192, 0, 2, 1);
    struct ip_addr c = addr("2001:db8::12:abcd"), d = ip_addr_v6_bytes(six, 9);

    (void)state;
    assert_true(ip_addr_eq(&a, &b));
    assert_true(ip_addr_eq(&c, &d));
    assert_int_equal(d.scope, 0);
    assert_false(ip_addr_eq(&a, &c));
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "1",
        "1.2.3",
        "1.2.3.",
        ".1.2.3",
        "1.2.3.4.",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.4 ",
        " 1.2.3.4",
        "01.2.3.4",
        "1.2.3.00",
        "1.2.3.-4",
        "1.2.3.+4",
        "1..2.3",
        "0x1.2.3.4",
        "1.2.3.4294967297",
        "host",
        ":",
        ":::",
        "::::",
        "1:",
        ":1",
        "1:2",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8",
        "1:2:3:4::5:6:7:8",
        "1::2::3",
        "1:::2",
        "12345::",
        "::g",
        "1:2:3:4:5:6:7:",
        "::1:",
        "::1.2.3",
        "::1.2.3.4.5",
        "::1.2.3.4:5",
        "1:2:3:4:5:6:7:1.2.3.4",
        "1.2.3.4::",
        "::256.1.1.1",
        "::ffff:1.2.3.04",
        "fe80::1%",
        "fe80::1%0",
        "fe80::1%03",
        "fe80::1%65536",
        "fe80::1%eth0",
        "fe80::1%3x",
        "2001:db8::1%3",
        "%3",
        "1.2.3.4%3",
        "::1%1",
        "[::1]",
        "::1/64",
        "1.2.3.4/8",
        "::1 ",
        "::\n",
        "1.2.3.4:80",
    };

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ip_addr a, before;

        memset(&a, 0xa5, sizeof a);
        before = a;
        if (ip_addr_parse(bad[i], &a))
            fail_msg("taken: \"%s\"", bad[i]);
        assert_memory_equal(&a, &before, sizeof a);
    }
}

static void test_prefix_text(void **state)
{
    static const char *const bad[] = {
        "1.2.3.4/33",  "::/129", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/08",
        "1.2.3.4/8/8", "/8",     "1.2.3/8",  "::1/64 ",    "1.2.3.4/4294967304"};
    struct ip_addr a, b;
    unsigned bits;

    (void)state;
    assert_true(ip_prefix_parse("192.0.2.1/24", &a, &bits));
    b = ip_addr_v4(192, 0, 2, 1);
    assert_true(ip_addr_eq(&a, &b));
    assert_int_equal(bits, 24);
    assert_true(ip_prefix_parse("192.0.2.1", &a, &bits));
    assert_int_equal(bits, 32);
    assert_true(ip_prefix_parse("2001:db8::", &a, &bits));
    assert_int_equal(bits, 128);
    assert_true(ip_prefix_parse("::/0", &a, &bits));
    assert_int_equal(bits, 0);
    assert_true(ip_prefix_parse("fe80::1%3/64", &a, &bits));
    assert_int_equal(bits, 64);
    assert_int_equal(a.scope, 3);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        bits = 77;
        b = a;
        if (ip_prefix_parse(bad[i], &a, &bits))
            fail_msg("taken: \"%s\"", bad[i]);
        assert_int_equal(bits, 77);
        assert_true(ip_addr_eq(&a, &b));
    }
}

static void test_port_text(void **state)
{
    static const char *const good[] = {"192.0.2.1:80", "0.0.0.0:0", "[2001:db8::1]:65535", "[fe80::1%3]:22",
                                       "[::ffff:1.2.3.4]:443"};
    static const char *const bad[] = {
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:080",
        "192.0.2.1:-1",
        "::1:80",
        "[::1]",
        "[::1]:",
        "[::1]80",
        "[::1:80",
        "::1]:80",
        "[192.0.2.1]:80",
        "[]:80",
        "[:80",
        ":80",
        "",
        "[",
        "]:1",
        "192.0.2.1:80 ",
        "[[::1]]:80",
    };
    char text[IP_ADDR_PORT_MAX];
    struct ip_addr a, before;
    uint16_t port;

    (void)state;
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        if (!ip_addr_port_parse(good[i], &a, &port))
            fail_msg("refused: \"%s\"", good[i]);
        assert_string_equal(ip_addr_port_format(&a, port, text), good[i]);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        port = 7;
        before = a;
        if (ip_addr_port_parse(bad[i], &a, &port))
            fail_msg("taken: \"%s\"", bad[i]);
        assert_int_equal(port, 7);
        assert_true(ip_addr_eq(&a, &before));
    }
}

static void test_no_address(void **state)
{
    struct ip_addr none = {.family = IP_NONE};
    char text[IP_ADDR_PORT_MAX];

    (void)state;
    assert_string_equal(ip_addr_format(&none, text), "none");
    assert_string_equal(ip_addr_port_format(&none, 5, text), "none:5");
}

/* Many zero groups, so that "::" falls everywhere. */
static void test_random_round_trips(void **state)
{
    uint64_t seed = 20260101;
    struct rng r;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    rng_seed(&r, seed);
    for (unsigned n = 0; n < 20000; n++) {
        struct ip_addr a, again;
        uint8_t bytes[16];
        char text[IP_ADDR_PORT_MAX];
        uint16_t port = (uint16_t)rng_next(&r), port_again;

        for (unsigned i = 0; i < 8; i++) {
            unsigned group = rng_below(&r, 2) ? 0 : (unsigned)rng_next(&r) & 0xffff;

            group >>= rng_below(&r, 16);
            bytes[2 * i] = (uint8_t)(group >> 8);
            bytes[2 * i + 1] = (uint8_t)group;
        }
        a = n % 3 ? ip_addr_v6_bytes(bytes, (uint16_t)n) : ip_addr_v4_bytes(bytes + 4);
        assert_true(ip_addr_parse(ip_addr_format(&a, text), &again));
        assert_true(ip_addr_eq(&a, &again));
        assert_true(ip_addr_port_parse(ip_addr_port_format(&a, port, text), &again, &port_again));
        assert_true(ip_addr_eq(&a, &again));
        assert_int_equal(port, port_again);
    }
}

static void test_kinds(void **state)
{
    static const struct {
        const char *text;
        const char
            *kinds; /* u: unspecified, l: loopback, m: multicast, L: link-local, b: broadcast, 4: v4-mapped */
    } cases[] = {
        {"0.0.0.0", "u"},
        {"::", "u"},
        {"0.0.0.1", ""},
        {"127.0.0.1", "l"},
        {"127.255.0.9", "l"},
        {"128.0.0.1", ""},
        {"::1", "l"},
        {"::2", ""},
        {"223.255.255.255", ""},
        {"224.0.0.1", "m"},
        {"239.255.255.255", "m"},
        {"240.0.0.1", ""},
        {"ff02::1", "m"},
        {"feff::1", ""},
        {"169.254.1.1", "L"},
        {"169.253.1.1", ""},
        {"fe80::1", "L"},
        {"febf::1", "L"},
        {"fec0::1", ""},
        {"255.255.255.255", "b"},
        {"255.255.255.254", ""},
        {"::ffff:127.0.0.1", "4"},
        {"::fffe:1.2.3.4", ""},
        {"1::ffff:1.2.3.4", ""},
        {"7f00::", ""},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ip_addr a = addr(cases[i].text);
        char kinds[8] = "";
        size_t n = 0;

        if (ip_addr_is_unspecified(&a))
            kinds[n++] = 'u';
        if (ip_addr_is_loopback(&a))
            kinds[n++] = 'l';
        if (ip_addr_is_multicast(&a))
            kinds[n++] = 'm';
        if (ip_addr_is_link_local(&a))
            kinds[n++] = 'L';
        if (ip_addr_is_broadcast(&a))
            kinds[n++] = 'b';
        if (ip_addr_is_v4_mapped(&a))
            kinds[n++] = '4';
        assert_string_equal(kinds, cases[i].kinds);
    }
}

static void test_prefixes(void **state)
{
    struct ip_addr base[2] = {addr("170.85.204.51"), addr("2001:db8:aaaa:5555:cccc:3333:f0f0:0f0f")};
    struct ip_addr mapped = addr("::ffff:170.85.204.51");

    (void)state;
    for (unsigned f = 0; f < 2; f++) {
        unsigned width = f ? 128 : 32;

        for (unsigned bit = 0; bit < width; bit++) {
            struct ip_addr other = base[f];

            other.b[bit / 8] ^= (uint8_t)(0x80 >> (bit % 8));
            assert_int_equal(ip_addr_common_bits(&base[f], &other), bit);
            for (unsigned n = 0; n <= width; n++)
                assert_int_equal(ip_addr_prefix_eq(&base[f], &other, n), n <= bit);
        }
        assert_int_equal(ip_addr_common_bits(&base[f], &base[f]), width);
        assert_true(ip_addr_prefix_eq(&base[f], &base[f], width));
        assert_false(ip_addr_prefix_eq(&base[f], &base[f], width + 1));
    }
    assert_false(ip_addr_prefix_eq(&base[0], &mapped, 0));
    assert_int_equal(ip_addr_common_bits(&base[0], &mapped), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),      cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_prefix_text),
        cmocka_unit_test(test_port_text), cmocka_unit_test(test_no_address),
        cmocka_unit_test(test_kinds),     cmocka_unit_test(test_random_round_trips),
        cmocka_unit_test(test_prefixes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
