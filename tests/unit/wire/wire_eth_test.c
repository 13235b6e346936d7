/* Ethernet headers, MAC text, group MACs, ARP with its probes and announcements. */
#include "wire_test.h"
#include "wire/eth.h"

static const struct eth_addr mac_a = {{2, 0, 0, 0, 0, 1}};
static const struct eth_addr mac_b = {{2, 0, 0, 0, 0, 2}};

static void test_header(void **state)
{
    struct eth_header h = {.dst = mac_b, .src = mac_a, .type = ETH_P_IPV6};
    struct eth_header back;
    uint8_t bytes[ETH_HEADER_BYTES];

    (void)state;
    eth_header_encode(&h, bytes);
    assert_memory_equal(bytes, "\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x86\xdd", 14);
    assert_int_equal(eth_header_decode(bytes, 14, &back), ETH_DECODE_OK);
    assert_true(eth_addr_eq(&back.src, &mac_a) && eth_addr_eq(&back.dst, &mac_b));
    assert_int_equal(back.type, ETH_P_IPV6);
    assert_int_equal(eth_header_decode(bytes, 13, &back), ETH_DECODE_SHORT);
    bytes[6] = 1;
    assert_int_equal(eth_header_decode(bytes, 14, &back), ETH_DECODE_BAD_SOURCE);
    memset(bytes + 6, 0, 6);
    assert_int_equal(eth_header_decode(bytes, 14, &back), ETH_DECODE_BAD_SOURCE);
    bytes[6] = 2;
    bytes[12] = 5;
    assert_int_equal(eth_header_decode(bytes, 14, &back), ETH_DECODE_NOT_ETHERNET_II);
}

static void test_text(void **state)
{
    struct eth_addr a = eth_addr_zero;
    char text[ETH_ADDR_TEXT_MAX];
    static const char *const bad[] = {"",
                                      "02:00:00:00:00",
                                      "02:00:00:00:00:0",
                                      "02:00:00:00:00:0g",
                                      "02:00:00:00:00:01:",
                                      "02-00:00-00-00-01",
                                      "020000000001",
                                      "2:0:0:0:0:1",
                                      "02.00.00.00.00.01"};

    (void)state;
    assert_true(eth_addr_parse("0A:1b:2C:3d:4e:5F", &a));
    assert_string_equal(eth_addr_format(&a, text), "0a:1b:2c:3d:4e:5f");
    assert_true(eth_addr_parse("02-00-00-00-00-02", &a));
    assert_true(eth_addr_eq(&a, &mac_b));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(eth_addr_parse(bad[i], &a));
    assert_true(eth_addr_eq(&a, &mac_b));
}

static void test_multicast(void **state)
{
    static const uint8_t group6[16] = {0xff, 2, [11] = 1, 0xff, 0x10, 0, 1};
    struct ip_addr ip = ip_addr_v4(239, 129, 2, 3);
    struct eth_addr a;
    char text[ETH_ADDR_TEXT_MAX];

    (void)state;
    assert_true(eth_addr_of_multicast(&ip, &a));
    assert_string_equal(eth_addr_format(&a, text), "01:00:5e:01:02:03");
    ip = ip_addr_v6_bytes(group6, 1);
    assert_true(eth_addr_of_multicast(&ip, &a));
    assert_string_equal(eth_addr_format(&a, text), "33:33:ff:10:00:01");
    ip = ip_addr_v4(255, 255, 255, 255);
    assert_true(eth_addr_of_multicast(&ip, &a) && eth_addr_is_broadcast(&a) && eth_addr_is_group(&a));
    ip = ip_addr_v4(192, 0, 2, 1);
    assert_false(eth_addr_of_multicast(&ip, &a));
}

static void test_arp(void **state)
{
    static const char request[] = "0001080006040001020000000001c0000201000000000000c0000202";
    struct ip_addr ip_a = ip_addr_v4(192, 0, 2, 1);
    struct ip_addr ip_b = ip_addr_v4(192, 0, 2, 2);
    struct arp_packet q = arp_request(&mac_a, &ip_a, &ip_b);
    struct arp_packet p;
    uint8_t out[ARP_BYTES];
    size_t n;
    uint8_t *bytes = unhex(request, &n);

    (void)state;
    arp_encode(&q, out);
    assert_memory_equal(out, bytes, ARP_BYTES);
    assert_int_equal(arp_decode(bytes, n, &p), ARP_DECODE_OK);
    assert_true(ip_addr_eq(&p.sender_ip, &ip_a) && ip_addr_eq(&p.target_ip, &ip_b));
    assert_false(arp_is_probe(&p) || arp_is_gratuitous(&p));
    q = arp_reply(&mac_b, &p);
    arp_encode(&q, out);
    assert_int_equal(arp_decode(out, ARP_BYTES, &p), ARP_DECODE_OK);
    assert_int_equal(p.op, ARP_REPLY);
    assert_true(eth_addr_eq(&p.sender_mac, &mac_b) && eth_addr_eq(&p.target_mac, &mac_a));
    assert_true(ip_addr_eq(&p.sender_ip, &ip_b) && ip_addr_eq(&p.target_ip, &ip_a));
    q = arp_probe(&mac_a, &ip_a);
    assert_true(arp_is_probe(&q) && !arp_is_gratuitous(&q));
    q = arp_announcement(&mac_a, &ip_a);
    assert_true(arp_is_gratuitous(&q) && !arp_is_probe(&q));
    free(bytes);
}

static void test_arp_malformed(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        enum arp_decode_result result;
    } cases[] = {{1, 6, ARP_DECODE_BAD_HARDWARE}, {4, 8, ARP_DECODE_BAD_HARDWARE},
                 {3, 1, ARP_DECODE_BAD_PROTOCOL}, {5, 16, ARP_DECODE_BAD_PROTOCOL},
                 {7, 3, ARP_DECODE_BAD_OP},       {7, 0, ARP_DECODE_BAD_OP},
                 {8, 1, ARP_DECODE_BAD_SENDER}};
    struct ip_addr ip = ip_addr_v4(192, 0, 2, 1);
    struct arp_packet p = arp_announcement(&mac_a, &ip);
    uint8_t bytes[ARP_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        arp_encode(&p, bytes);
        bytes[cases[i].at] = cases[i].value;
        assert_int_equal(arp_decode(bytes, ARP_BYTES, &p), cases[i].result);
        assert_string_not_equal(arp_decode_result_name(cases[i].result), "?");
    }
    assert_int_equal(arp_decode(bytes, ARP_BYTES - 1, &p), ARP_DECODE_SHORT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header), cmocka_unit_test(test_text),          cmocka_unit_test(test_multicast),
        cmocka_unit_test(test_arp),    cmocka_unit_test(test_arp_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
