/* Neighbour discovery and MLD: foreign frames byte for byte, each validity rule of RFC 4861, addresses. */
#include "wire_test.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/icmp.h"
#include "wire/ipv6.h"
#include "wire/mld.h"
#include "wire/nd.h"

static const char ns[] = "6000000000203afffe8000000000000000005efffe100001ff0200000000000000000001ff000002"
                         "8700903e0000000020010db8000000000000000000000002010102005e100001";
static const char na[] = "6000000000203aff20010db800000000000000000000000220010db8000000000000000000000001"
                         "88002c626000000020010db8000000000000000000000002020102005e100001";
static const char rs[] = "6000000000103afffe8000000000000000005efffe100001ff020000000000000000000000000002"
                         "8500bf0b00000000010102005e100001";
static const char ra[] = "6000000000583afffe800000000000000000000000000001ff020000000000000000000000000001"
                         "8600dc0440c8070800007530000003e8010102005e1000010501000000000578030440c000015180"
                         "000038400000000020010db8000100000000000000000000180330180000025820010db800020000"
                         "0000000000000000";
static const char mld_report[] =
    "6000000000380001fe8000000000000000005efffe100001ff020000000000000000000000000016"
    "3a000502000001008f0012cb0000000204000000ff0200000000000000000001ff00000203000000"
    "ff0200000000000000000001ff100001";
static const char mld_query2[] =
    "6000000000240001fe800000000000000000000000000001ff020000000000000000000000000001"
    "3a00050200000100820056962710000000000000000000000000000000000000027d0000";
static const char mld_query1[] =
    "6000000000200001fe800000000000000000000000000001ff020000000000000000000000000001"
    "3a0005020000010082007e3803e80000ff0200000000000000000001ff000002";

static const struct eth_addr mac = {{2, 0, 0x5e, 0x10, 0, 1}};

/* A packet taken apart. */
struct packet {
    uint8_t *bytes;
    size_t n;
    struct nd_context ctx;
    uint8_t *icmp;
    size_t icmp_bytes;
};

static struct packet open_packet(const char *hex)
{
    struct packet p;
    struct ipv6_header h;
    struct ipv6_walk w;
    struct icmp_message m;

    p.bytes = unhex(hex, &p.n);
    assert_int_equal(ipv6_header_decode(p.bytes, p.n, 5, &h), IPV6_DECODE_OK);
    ipv6_walk_init(&w, &h);
    assert_int_equal(ipv6_walk(p.bytes, p.n, &w), IPV6_WALK_UPPER);
    p.ctx = (struct nd_context){.src = h.src, .dst = h.dst, .hop_limit = h.hop_limit, .scope = 5};
    p.icmp = p.bytes + w.pos;
    p.icmp_bytes = p.n - w.pos;
    assert_int_equal(icmp6_decode(&h.src, &h.dst, p.icmp, p.icmp_bytes, &m), ICMP_DECODE_OK);
    return p;
}

static void test_neighbour(void **state)
{
    struct packet p = open_packet(ns);
    struct nd_message m;
    uint8_t out[ND_MESSAGE_MAX];
    struct ip_addr target;
    struct ip_addr group;

    (void)state;
    assert_int_equal(nd_decode(&p.ctx, p.icmp, p.icmp_bytes, &m), ND_DECODE_OK);
    assert_int_equal(m.type, ICMP6_TYPE_NEIGHBOUR_SOLICIT);
    assert_true(m.source_ll_ok && eth_addr_eq(&m.source_ll, &mac) && !m.target_ll_ok);
    target = m.target;
    group = nd_solicited_node(&target, 5);
    assert_true(ip_addr_eq(&group, &p.ctx.dst));
    assert_int_equal(nd_ns_encode(&p.ctx.src, &p.ctx.dst, &target, &mac, out), 32);
    assert_memory_equal(out, p.icmp, 32);
    free(p.bytes);
    p = open_packet(na);
    assert_int_equal(nd_decode(&p.ctx, p.icmp, p.icmp_bytes, &m), ND_DECODE_OK);
    assert_true(m.solicited && m.override && !m.router && m.target_ll_ok && !m.source_ll_ok);
    assert_true(ip_addr_eq(&m.target, &target));
    assert_int_equal(nd_na_encode(&p.ctx.src, &p.ctx.dst, &target, true, true, &mac, out), 32);
    assert_memory_equal(out, p.icmp, 32);
    assert_int_equal(nd_na_encode(&p.ctx.src, &p.ctx.dst, &target, false, true, NULL, out), 24);
    assert_int_equal(out[4], 0x20);
    free(p.bytes);
}

static void test_router(void **state)
{
    struct packet p = open_packet(rs);
    struct nd_message m;
    struct nd_option o;
    uint8_t out[ND_MESSAGE_MAX];
    size_t pos = 0;
    unsigned seen = 0;

    (void)state;
    assert_int_equal(nd_decode(&p.ctx, p.icmp, p.icmp_bytes, &m), ND_DECODE_OK);
    assert_int_equal(nd_rs_encode(&p.ctx.src, &p.ctx.dst, &mac, out), 16);
    assert_memory_equal(out, p.icmp, 16);
    free(p.bytes);
    p = open_packet(ra);
    assert_int_equal(nd_decode(&p.ctx, p.icmp, p.icmp_bytes, &m), ND_DECODE_OK);
    assert_true(m.managed && m.other && m.preference == 1 && m.source_ll_ok && m.mtu_ok);
    assert_int_equal(m.mtu, 1400);
    assert_int_equal(m.cur_hop_limit, 64);
    assert_int_equal(m.router_lifetime_s, 1800);
    assert_int_equal(m.reachable_ms, 30000);
    assert_int_equal(m.retrans_ms, 1000);
    while (nd_option_step(m.options, m.options_bytes, &pos, &o) == ND_OPTION_OK) {
        if (o.type == ND_OPT_PREFIX) {
            assert_true(o.prefix.on_link && o.prefix.autonomous && o.prefix.bits == 64);
            assert_int_equal(o.prefix.valid_s, 86400);
            assert_int_equal(o.prefix.preferred_s, 14400);
            assert_memory_equal(o.prefix.prefix.b, "\x20\x01\x0d\xb8\0\1\0\0\0\0\0\0\0\0\0\0", 16);
            seen |= 1;
        } else if (o.type == ND_OPT_ROUTE) {
            assert_true(o.route.bits == 48 && o.route.preference == -1 && o.route.lifetime_s == 600);
            seen |= 2;
        }
    }
    assert_int_equal(seen, 3);
    free(p.bytes);
}

/* Decodes `hex` after one byte of its ICMPv6 message changed. */
static enum nd_decode_result changed(const char *hex, size_t at, uint8_t value, size_t cut)
{
    struct packet p = open_packet(hex);
    struct nd_message m = {.type = 99};
    enum nd_decode_result r;

    p.icmp[at] = value;
    r = nd_decode(&p.ctx, p.icmp, p.icmp_bytes - cut, &m);
    assert_true(r == ND_DECODE_OK || m.type == 99);
    assert_string_not_equal(nd_decode_result_name(r), "?");
    free(p.bytes);
    return r;
}

static void test_message_rules(void **state)
{
    (void)state;
    assert_int_equal(changed(ns, 1, 1, 0), ND_DECODE_BAD_CODE);
    assert_int_equal(changed(ns, 0, 128, 0), ND_DECODE_NOT_ND);
    assert_int_equal(changed(ns, 8, 0xff, 0), ND_DECODE_BAD_TARGET);
    assert_int_equal(changed(na, 8, 0xff, 0), ND_DECODE_BAD_TARGET);
    assert_int_equal(changed(ns, 25, 0, 0), ND_DECODE_BAD_OPTION);
    assert_int_equal(changed(ns, 25, 2, 0), ND_DECODE_BAD_OPTION);
    assert_int_equal(changed(ns, 24, 1, 1), ND_DECODE_BAD_OPTION);
    assert_int_equal(changed(ns, 24, 1, 9), ND_DECODE_SHORT);
    assert_int_equal(changed(ns, 24, 1, 25), ND_DECODE_SHORT);
    assert_int_equal(changed(ns, 24, 77, 0), ND_DECODE_OK);  /* unknown options are skipped */
    assert_int_equal(changed(ra, 34, 129, 0), ND_DECODE_OK); /* a nonsense prefix is skipped too */
}

static void test_context_rules(void **state)
{
    static const uint8_t any[16];
    struct packet p = open_packet(ns);
    struct packet r = open_packet(ra);
    struct packet a = open_packet(na);
    struct nd_message m;

    (void)state;
    p.ctx.hop_limit = 254;
    assert_int_equal(nd_decode(&p.ctx, p.icmp, p.icmp_bytes, &m), ND_DECODE_BAD_HOP_LIMIT);
    p.ctx.hop_limit = 255;
    p.ctx.src = ip_addr_v6_bytes(any, 0);
    assert_int_equal(nd_decode(&p.ctx, p.icmp, p.icmp_bytes, &m), ND_DECODE_BAD_SOURCE);
    assert_int_equal(nd_decode(&p.ctx, p.icmp, 24, &m), ND_DECODE_OK); /* a DAD probe has no option */
    p.ctx.dst = m.target;
    assert_int_equal(nd_decode(&p.ctx, p.icmp, 24, &m), ND_DECODE_BAD_DESTINATION);
    r.ctx.src = m.target;
    assert_int_equal(nd_decode(&r.ctx, r.icmp, r.icmp_bytes, &m), ND_DECODE_BAD_SOURCE);
    a.ctx.dst = nd_all_nodes(5);
    assert_int_equal(nd_decode(&a.ctx, a.icmp, a.icmp_bytes, &m), ND_DECODE_BAD_DESTINATION);
    a.icmp[4] = 0x20;
    assert_int_equal(nd_decode(&a.ctx, a.icmp, a.icmp_bytes, &m), ND_DECODE_OK);
    free(p.bytes);
    free(r.bytes);
    free(a.bytes);
}

static void test_redirect(void **state)
{
    uint8_t p[40] = {ICMP6_TYPE_REDIRECT, [8] = 0xfe, 0x80, [23] = 9, [24] = 0x20, 1, [39] = 7};
    struct nd_context ctx = {.hop_limit = 255, .scope = 5};
    struct nd_message m;

    (void)state;
    ctx.src = nd_link_local(&mac, 5);
    assert_int_equal(nd_decode(&ctx, p, 39, &m), ND_DECODE_SHORT);
    assert_int_equal(nd_decode(&ctx, p, 40, &m), ND_DECODE_OK);
    assert_int_equal(m.target.scope, 5);
    assert_int_equal(m.redirect_dst.b[15], 7);
    p[8] = 0x20;
    assert_int_equal(nd_decode(&ctx, p, 40, &m), ND_DECODE_BAD_TARGET);
    memcpy(p + 8, p + 24, 16);
    assert_int_equal(nd_decode(&ctx, p, 40, &m), ND_DECODE_OK); /* "on link" */
    p[24] = 0xff;
    assert_int_equal(nd_decode(&ctx, p, 40, &m), ND_DECODE_BAD_DESTINATION);
    ctx.src = m.target;
    assert_int_equal(nd_decode(&ctx, p, 40, &m), ND_DECODE_BAD_SOURCE);
}

static void test_addresses(void **state)
{
    /* RFC 4291 appendix A's pattern; RFC 2464 section 4: 34-56-78-9A-BC-DE gives 36-56-78-FF-FE-9A-BC-DE. */
    static const struct eth_addr rfc2464 = {{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}};
    /* RFC 4291 section 2.7.1: 4037::01:800:200e:8c6c gives ff02::1:ff0e:8c6c. */
    static const uint8_t rfc4291[16] = {0x40, 0x37, [10] = 0, 1, 8, 0, 0x20, 0x0e};
    uint8_t host[16];
    uint8_t id[8];
    struct ip_addr a;
    struct ip_addr b;

    (void)state;
    nd_interface_id(&rfc2464, id);
    assert_memory_equal(id, "\x36\x56\x78\xff\xfe\x9a\xbc\xde", 8);
    a = nd_link_local(&rfc2464, 2);
    assert_memory_equal(a.b, "\xfe\x80\0\0\0\0\0\0\x36\x56\x78\xff\xfe\x9a\xbc\xde", 16);
    assert_int_equal(a.scope, 2);
    memcpy(host, rfc4291, 16);
    memcpy(host + 13, "\x0e\x8c\x6c", 3);
    a = ip_addr_v6_bytes(host, 0);
    b = nd_solicited_node(&a, 2);
    assert_memory_equal(b.b, "\xff\2\0\0\0\0\0\0\0\0\0\1\xff\x0e\x8c\x6c", 16);
    assert_true(nd_is_solicited_node(&b) && !nd_is_solicited_node(&a));
    a = nd_prefix_address(&a, id, 2);
    assert_memory_equal(a.b, "\x40\x37\0\0\0\0\0\0\x36\x56\x78\xff\xfe\x9a\xbc\xde", 16);
    assert_int_equal(a.scope, 0);
    a = nd_all_routers(2);
    assert_memory_equal(a.b, "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16);
}

static void test_mld_report(void **state)
{
    struct packet p = open_packet(mld_report);
    struct mld_record record[2];
    uint8_t out[MLD_REPORT_BYTES(2)];

    (void)state;
    record[0] = (struct mld_record){MLD_CHANGE_TO_EXCLUDE_MODE, ip_addr_v6_bytes(p.icmp + 12, 5)};
    record[1] = (struct mld_record){MLD_CHANGE_TO_INCLUDE_MODE, ip_addr_v6_bytes(p.icmp + 32, 5)};
    assert_int_equal(mld_report_encode(&p.ctx.src, record, 2, out, sizeof out), sizeof out);
    assert_int_equal(p.n, sizeof out);
    assert_memory_equal(out, p.bytes, sizeof out);
    assert_int_equal(mld_report_encode(&p.ctx.src, record, 2, out, sizeof out - 1), 0);
    free(p.bytes);
}

static void test_mld_query(void **state)
{
    struct packet p = open_packet(mld_query2);
    struct mld_query q;

    (void)state;
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, p.icmp_bytes, 5, &q), MLD_DECODE_OK);
    assert_true(q.version == 2 && q.general && q.robustness == 2 && !q.suppress && !q.group_and_source);
    assert_int_equal(q.max_delay_ms, 10000);
    assert_int_equal(q.interval_s, 125);
    put_be16(p.icmp + 4, 0x8000 | 2 << 12 | 0x123);
    p.icmp[25] = 0x80 | 3 << 4 | 5;
    p.icmp[24] = 8;
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, p.icmp_bytes, 5, &q), MLD_DECODE_OK);
    assert_int_equal(q.max_delay_ms, 0x1123u << 5);
    assert_int_equal(q.interval_s, 0x15u << 6);
    assert_true(q.suppress);
    assert_int_equal(mld_query_decode(&p.ctx.src, 2, true, p.icmp, 28, 5, &q), MLD_DECODE_BAD_HOP_LIMIT);
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, false, p.icmp, 28, 5, &q), MLD_DECODE_BAD_HOP_LIMIT);
    assert_int_equal(mld_query_decode(&p.ctx.dst, 1, true, p.icmp, 28, 5, &q), MLD_DECODE_BAD_SOURCE);
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, 27, 5, &q), MLD_DECODE_BAD_LENGTH);
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, 23, 5, &q), MLD_DECODE_SHORT);
    p.icmp[27] = 1;
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, 28, 5, &q), MLD_DECODE_BAD_LENGTH);
    p.icmp[8] = 0x20;
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, 28, 5, &q), MLD_DECODE_BAD_GROUP);
    p.icmp[0] = 131;
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, 28, 5, &q), MLD_DECODE_NOT_QUERY);
    free(p.bytes);
    p = open_packet(mld_query1);
    assert_int_equal(mld_query_decode(&p.ctx.src, 1, true, p.icmp, p.icmp_bytes, 5, &q), MLD_DECODE_OK);
    assert_true(q.version == 1 && !q.general && q.max_delay_ms == 1000 && nd_is_solicited_node(&q.group));
    assert_int_equal(q.group.scope, 5);
    free(p.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_neighbour),     cmocka_unit_test(test_router),
        cmocka_unit_test(test_message_rules), cmocka_unit_test(test_context_rules),
        cmocka_unit_test(test_redirect),      cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_mld_report),    cmocka_unit_test(test_mld_query),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
