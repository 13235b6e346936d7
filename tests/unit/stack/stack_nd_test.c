/*
 * IPv6 on the link: duplicate address detection, group reports, neighbour discovery, advertisements and
 * lifetimes.
 */
#include "env.h"
#include "fake_engine.h"

#define ROUTER "fe80::ff:fe00:fe"
#define PEER   "fe80::2"

static void dad_succeeds(void **state)
{
    struct env *e = env_bare(NULL, mac_us.b, 1500);
    struct stack_addr a;
    const uint8_t *p;
    size_t n;
    const struct frame *f;
    struct ip_addr target = ip(US_LL), group = nd_solicited_node(&target, 1);

    (void)state;
    assert_true(env_addr(e, US_LL, &a));
    assert_int_equal(a.state, STACK_ADDR_TENTATIVE);
    env_sleep(e, 10 * MSEC);
    /* The group is told before the first probe (RFC 4862 section 5.4.2), from :: while there is no address. */
    f = env_next_icmp6(e, ICMP6_TYPE_MLD2_REPORT, &p, &n);
    assert_non_null(f);
    assert_int_equal(f->bytes[14 + 7], 1); /* hop limit */
    assert_memory_equal(f->bytes, "\x33\x33\0\0\0\x16", 6);
    assert_memory_equal(f->bytes + 22, any6.b, 16);
    assert_int_equal(get_be16(p + 6), 1);
    assert_int_equal(p[8], MLD_CHANGE_TO_EXCLUDE_MODE);
    assert_memory_equal(p + 12, group.b, 16);
    env_sleep(e, SEC);
    f = env_next_icmp6(e, ICMP6_TYPE_NEIGHBOUR_SOLICIT, &p, &n);
    assert_non_null(f);
    assert_int_equal(n, 24); /* no option */
    assert_int_equal(f->bytes[14 + 7], 255);
    assert_memory_equal(f->bytes + 22, any6.b, 16);
    assert_memory_equal(p + 8, target.b, 16);
    assert_memory_equal(f->bytes, "\x33\x33\xff\0\0\1", 6);
    env_sleep(e, SEC);
    assert_true(env_addr(e, US_LL, &a));
    assert_int_equal(a.state, STACK_ADDR_PREFERRED);
    env_sleep(e, 2 * SEC); /* reported again, now from the address */
    do
        assert_non_null(f = env_next_icmp6(e, ICMP6_TYPE_MLD2_REPORT, &p, &n));
    while (f->at < SEC + SEC);
    assert_memory_equal(f->bytes + 22, target.b, 16);
    env_free(e);
}

static void dad_conflict(void **state)
{
    uint8_t frame[128];

    (void)state;
    for (int variant = 0; variant < 2; variant++) {
        struct env *e = env_bare(NULL, mac_us.b, 1500);
        struct stack_addr a;
        struct stack_event ev;

        env_sleep(e, 100 * MSEC);
        if (variant)
            env_in(e, frame, mk_na(frame, US_LL, "ff02::1", US_LL, false, true, &mac_peer));
        else
            env_in(e, frame, mk_ns(frame, "::", US_LL, NULL));
        assert_true(env_addr(e, US_LL, &a));
        assert_int_equal(a.state, STACK_ADDR_DUPLICATE);
        assert_true(env_event(e, STACK_EVENT_CONFLICT, &ev));
        assert_memory_equal(ev.mac, mac_peer.b, 6);
        env_sleep(e, 30 * SEC);
        assert_true(env_addr(e, US_LL, &a));
        assert_int_equal(a.state, STACK_ADDR_DUPLICATE);
        env_free(e);
    }
}

static void own_probe_coming_back_is_no_conflict(void **state)
{
    struct env *e = env_bare(NULL, mac_us.b, 1500);
    struct stack_addr a;
    uint8_t frame[128];
    size_t n = mk_ns(frame, "::", US_LL, NULL);

    (void)state;
    memcpy(frame + 6, mac_us.b, 6);
    env_in(e, frame, n);
    assert_int_equal(env_drops(e, STACK_DROP_SOURCE_MAC), 1);
    env_sleep(e, 3 * SEC);
    assert_true(env_addr(e, US_LL, &a));
    assert_int_equal(a.state, STACK_ADDR_PREFERRED);
    env_free(e);
}

static void answers_solicitations(void **state)
{
    struct env *e = env_new();
    struct ip_addr us = ip(US_LL);
    uint8_t frame[128];
    const uint8_t *p;
    size_t n;
    const struct frame *f;
    struct stack_neigh ne;

    (void)state;
    env_in(e, frame, mk_ns(frame, PEER, US_LL, &mac_peer));
    f = env_next_icmp6(e, ICMP6_TYPE_NEIGHBOUR_ADVERT, &p, &n);
    assert_non_null(f);
    assert_int_equal(p[4], 0x60); /* solicited, override, no router */
    assert_memory_equal(p + 8, us.b, 16);
    assert_memory_equal(f->bytes, mac_peer.b, 6);
    assert_memory_equal(p + 26, mac_us.b, 6);
    assert_true(env_neigh(e, PEER, &ne));
    assert_int_equal(ne.state, STACK_NEIGH_STALE);
    /* A DAD probe for our address is answered to everybody. */
    env_in(e, frame, mk_ns(frame, "::", US_LL, NULL));
    f = env_next_icmp6(e, ICMP6_TYPE_NEIGHBOUR_ADVERT, &p, &n);
    assert_non_null(f);
    assert_int_equal(p[4], 0x20);
    assert_memory_equal(f->bytes, "\x33\x33\0\0\0\1", 6);
    /* From off-link: refused. */
    n = mk_ns(frame, PEER, US_LL, &mac_peer);
    frame[14 + 7] = 64;
    env_in(e, frame, n);
    assert_null(env_next(e));
    assert_int_equal(env_drops(e, STACK_DROP_ND_INVALID), 1);
    env_free(e);
}

static void resolves(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = {.src = ip(US_LL), .dst = ip(PEER), .flags = TCP_ACK};
    uint8_t frame[128];
    const uint8_t *p;
    size_t n;
    const struct frame *f;
    struct stack_neigh ne;

    (void)state;
    fake_ready(t, &seg);
    env_pull(e);
    f = env_next_icmp6(e, ICMP6_TYPE_NEIGHBOUR_SOLICIT, &p, &n);
    assert_non_null(f);
    assert_int_equal(n, 32);
    assert_memory_equal(f->bytes, "\x33\x33\xff\0\0\2", 6);
    assert_memory_equal(p + 26, mac_us.b, 6);
    /* An advertisement without an address teaches nothing. */
    env_in(e, frame, mk_na(frame, PEER, US_LL, PEER, true, true, NULL));
    assert_null(env_next(e));
    env_in(e, frame, mk_na(frame, PEER, US_LL, PEER, true, true, &mac_peer));
    f = env_next(e);
    assert_true(f && f->is_tcp);
    assert_memory_equal(f->bytes, mac_peer.b, 6);
    assert_true(env_neigh(e, PEER, &ne));
    assert_int_equal(ne.state, STACK_NEIGH_REACHABLE);
    /* RFC 4861 section 7.2.5: without override another address only makes it stale. */
    env_in(e, frame, mk_na(frame, PEER, US_LL, PEER, true, false, &mac_router));
    assert_true(env_neigh(e, PEER, &ne));
    assert_int_equal(ne.state, STACK_NEIGH_STALE);
    assert_memory_equal(ne.mac, mac_peer.b, 6);
    env_in(e, frame, mk_na(frame, PEER, US_LL, PEER, true, true, &mac_router));
    assert_true(env_neigh(e, PEER, &ne));
    assert_int_equal(ne.state, STACK_NEIGH_REACHABLE);
    assert_memory_equal(ne.mac, mac_router.b, 6);
    env_free(e);
}

/* ---- Advertisements ----------------------------------------------------------------------------------- */

struct ra {
    uint16_t lifetime;
    uint32_t mtu;
    uint8_t hop_limit;
    uint32_t valid, preferred;
    uint8_t flags; /* L 0x80, A 0x40 */
    uint8_t bits;  /* 0: no prefix option */
};

static void in_ra_from(struct env *e, const char *src, const struct ra *ra)
{
    uint8_t msg[128] = {ICMP6_TYPE_ROUTER_ADVERT}, frame[256];
    struct ip_addr s = ip(src), d = ip("ff02::1"), prefix = ip("2001:db8:1::");
    size_t n = 16, frame_bytes;

    msg[4] = ra->hop_limit;
    put_be16(msg + 6, ra->lifetime);
    memcpy(msg + n, (const uint8_t[]){1, 1}, 2);
    memcpy(msg + n + 2, mac_router.b, 6);
    n += 8;
    if (ra->mtu) {
        msg[n] = ND_OPT_MTU;
        msg[n + 1] = 1;
        put_be32(msg + n + 4, ra->mtu);
        n += 8;
    }
    if (ra->bits) {
        msg[n] = ND_OPT_PREFIX;
        msg[n + 1] = 4;
        msg[n + 2] = ra->bits;
        msg[n + 3] = ra->flags;
        put_be32(msg + n + 4, ra->valid);
        put_be32(msg + n + 8, ra->preferred);
        memcpy(msg + n + 16, prefix.b, 16);
        n += 32;
    }
    put_be16(msg + 2, csum_fold(csum_partial(msg, n, csum_pseudo(&s, &d, IP_PROTO_ICMPV6, (uint32_t)n))));
    frame_bytes = mk_ip6(frame, src, "ff02::1", IP_PROTO_ICMPV6, 255, msg, n);
    memcpy(frame + 6, mac_router.b, 6);
    env_in(e, frame, frame_bytes);
}

static void in_ra(struct env *e, const struct ra *ra)
{
    in_ra_from(e, ROUTER, ra);
}

#define SLAAC "2001:db8:1::ff:fe00:1"

static void solicits_routers(void **state)
{
    struct env *e = env_bare(NULL, mac_us.b, 1500);
    const struct frame *f[4];
    const uint8_t *p;
    size_t n;

    (void)state;
    env_sleep(e, 30 * SEC);
    for (int i = 0; i < 3; i++)
        assert_non_null(f[i] = env_next_icmp6(e, ICMP6_TYPE_ROUTER_SOLICIT, &p, &n));
    assert_null(env_next_icmp6(e, ICMP6_TYPE_ROUTER_SOLICIT, &p, &n));
    assert_int_equal(f[1]->at - f[0]->at, 4 * SEC);
    assert_int_equal(f[2]->at - f[1]->at, 4 * SEC);
    assert_memory_equal(f[0]->bytes, "\x33\x33\0\0\0\2", 6);
    env_free(e);
    /* An answer ends it. */
    e = env_bare(NULL, mac_us.b, 1500);
    env_sleep(e, 4 * SEC);
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ROUTER_SOLICIT, &p, &n));
    in_ra(e, &(struct ra){.lifetime = 1800});
    env_sleep(e, 30 * SEC);
    assert_null(env_next_icmp6(e, ICMP6_TYPE_ROUTER_SOLICIT, &p, &n));
    env_free(e);
}

static int net_route(struct env *e, const char *dst, struct ip_addr *src, struct tcp_path *path)
{
    struct ip_addr d = ip(dst);

    *src = (struct ip_addr){0};
    return st_net_route(e->st, &d, src, path);
}

static void autoconfigures(void **state)
{
    struct env *e = env_new();
    struct stack_addr a;
    struct tcp_path path;
    struct ip_addr src, slaac = ip(SLAAC);

    (void)state;
    in_ra(e, &(struct ra){.lifetime = 1800,
                          .mtu = 1400,
                          .hop_limit = 33,
                          .valid = 7200,
                          .preferred = 3600,
                          .flags = 0xc0,
                          .bits = 64});
    assert_true(env_addr(e, SLAAC, &a));
    assert_int_equal(a.state, STACK_ADDR_TENTATIVE);
    assert_int_equal(net_route(e, "2001:db8:2::1", &src, &path), 0); /* only the link-local one is there */
    env_sleep(e, 3 * SEC);
    assert_true(env_addr(e, SLAAC, &a));
    assert_int_equal(a.state, STACK_ADDR_PREFERRED);
    assert_int_equal(a.origin, STACK_ADDR_SLAAC);
    assert_int_equal(net_route(e, "2001:db8:2::1", &src, &path), 0);
    assert_true(ip_addr_eq(&src, &slaac));
    assert_int_equal(path.mtu, 1400);
    assert_int_equal(net_route(e, PEER, &src, &path), 0);
    assert_true(ip_addr_is_link_local(&src));
    assert_int_equal(net_route(e, "192.0.2.9", &src, &path), 0);
    assert_int_equal(path.mtu, 1500); /* the option is IPv6's */
    /* Preferred for an hour, valid for two, the router for half an hour. */
    env_sleep(e, 1800 * SEC);
    assert_int_equal(net_route(e, "2001:db8:2::1", &src, &path), -ENETUNREACH);
    env_sleep(e, 1800 * SEC);
    assert_true(env_addr(e, SLAAC, &a));
    assert_int_equal(a.state, STACK_ADDR_DEPRECATED);
    env_sleep(e, 3600 * SEC);
    assert_false(env_addr(e, SLAAC, &a));
    env_free(e);
}

static void two_hour_rule(void **state)
{
    struct env *e = env_new();
    struct stack_addr a;
    uint64_t until;
    const struct ra day = {.valid = 86400, .preferred = 86400, .flags = 0xc0, .bits = 64};

    (void)state;
    in_ra(e, &day);
    env_sleep(e, 3 * SEC);
    in_ra(e, &(struct ra){.valid = 1, .preferred = 0, .flags = 0x40, .bits = 64});
    assert_true(env_addr(e, SLAAC, &a)); /* cut to two hours, deprecated at once */
    until = e->now + 7200 * SEC;
    assert_int_equal(a.valid_until, until);
    env_sleep(e, 1);
    assert_true(env_addr(e, SLAAC, &a));
    assert_int_equal(a.state, STACK_ADDR_DEPRECATED);
    env_sleep(e, 3600 * SEC);
    in_ra(e, &(struct ra){.valid = 1, .preferred = 0, .flags = 0x40, .bits = 64});
    assert_true(env_addr(e, SLAAC, &a)); /* what remains is neither shortened nor made longer */
    assert_int_equal(a.valid_until, until);
    env_sleep(e, 3500 * SEC);
    in_ra(e, &day);
    assert_true(env_addr(e, SLAAC, &a));
    assert_int_equal(a.state, STACK_ADDR_PREFERRED);
    env_free(e);
}

static void ra_is_checked(void **state)
{
    struct env *e = env_new();
    struct stack_addr a;
    struct stack_route r;
    unsigned routes = 0;

    (void)state;
    in_ra_from(e, "2001:db8::1", &(struct ra){.lifetime = 1800, .valid = 7200, .flags = 0xc0, .bits = 64});
    assert_int_equal(env_drops(e, STACK_DROP_ND_INVALID), 1); /* not from link-local */
    in_ra(e, &(struct ra){.valid = 100, .preferred = 200, .flags = 0x40, .bits = 64});
    assert_false(env_addr(e, SLAAC, &a)); /* preferred > valid */
    in_ra(e, &(struct ra){.valid = 100, .preferred = 100, .flags = 0x40, .bits = 56});
    assert_false(env_addr(e, SLAAC, &a)); /* not 64 bits */
    in_ra(e, &(struct ra){.mtu = 1000});
    assert_int_equal(st_link_mtu(e->st, IP_V6), 1500);
    in_ra(e, &(struct ra){.lifetime = 1800});
    in_ra(e, &(struct ra){.lifetime = 0}); /* withdrawn */
    while (stack_route_get(e->st, routes, &r))
        routes++;
    assert_int_equal(routes, 1); /* the configured one */
    env_free(e);
}

static void mld_query_is_answered(void **state)
{
    struct env *e = env_new();
    static const uint8_t hbh[8] = {IP_PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
    uint8_t msg[8 + 28] = {0}, frame[128];
    struct ip_addr s = ip(ROUTER), d = ip("ff02::1"), us = ip(US_LL), group = nd_solicited_node(&us, 1);
    const uint8_t *p;
    size_t n;

    (void)state;
    memcpy(msg, hbh, 8);
    msg[8] = ICMP6_TYPE_MLD_QUERY;
    put_be16(msg + 12, 1000);
    put_be16(msg + 10, csum_fold(csum_partial(msg + 8, 28, csum_pseudo(&s, &d, IP_PROTO_ICMPV6, 28))));
    env_in(e, frame, mk_ip6(frame, ROUTER, "ff02::1", IP_PROTO_HOP_BY_HOP, 1, msg, sizeof msg));
    env_sleep(e, 1000 * MSEC);
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_MLD2_REPORT, &p, &n));
    assert_int_equal(get_be16(p + 6), 1);
    assert_int_equal(p[8], MLD_MODE_IS_EXCLUDE);
    assert_memory_equal(p + 12, group.b, 16);
    assert_null(env_next(e));
    env_free(e);
}

static void static_address_and_leave(void **state)
{
    struct env *e = env_new();
    struct ip_addr a = ip("2001:db8:5::77"), dup = ip("2001:db8:5::77");
    struct stack_addr got;
    const uint8_t *p;
    size_t n;

    (void)state;
    assert_int_equal(stack_addr_add(e->st, &a, 64, e->now), 0);
    assert_int_equal(stack_addr_add(e->st, &dup, 64, e->now), -EEXIST);
    assert_int_equal(stack_addr_add(e->st, &a, 129, e->now), -EINVAL);
    assert_false(st_net_is_local(e->st, &a)); /* tentative */
    env_sleep(e, 3 * SEC);
    assert_true(st_net_is_local(e->st, &a));
    env_forget(e);
    assert_int_equal(stack_addr_del(e->st, &a, e->now), 0);
    assert_false(env_addr(e, "2001:db8:5::77", &got));
    env_pull(e);
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_MLD2_REPORT, &p, &n));
    assert_int_equal(p[8], MLD_CHANGE_TO_INCLUDE_MODE);
    assert_int_equal(stack_addr_del(e->st, &a, e->now), -EADDRNOTAVAIL);
    env_free(e);
}

static void link_up_again_probes(void **state)
{
    struct env *e = env_new();
    struct stack_addr a;
    const uint8_t *p;
    size_t n;

    (void)state;
    stack_set_link(e->st, false, e->now);
    env_sleep(e, SEC);
    stack_set_link(e->st, true, e->now);
    assert_true(env_addr(e, US_LL, &a));
    assert_int_equal(a.state, STACK_ADDR_TENTATIVE);
    env_sleep(e, 3 * SEC);
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_NEIGHBOUR_SOLICIT, &p, &n));
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ROUTER_SOLICIT, &p, &n));
    env_free(e);
}

/* RFC 6724 section 10.1, those of its examples that one interface can show. */
static void source_selection(void **state)
{
    static const struct {
        const char *dst, *have[2], *want;
    } cases[] = {
        {"2001:db8:1::1", {"2001:db8:3::1", "fe80::9"}, "2001:db8:3::1"},       /* scope */
        {"ff05::1", {"2001:db8:3::1", "fe80::9"}, "2001:db8:3::1"},             /* scope */
        {"2001:db8:1::1", {"2001:db8:1::1", "2001:db8:2::1"}, "2001:db8:1::1"}, /* same address */
        {"fe80::1", {"fe80::2", "2001:db8:1::1"}, "fe80::2"},                   /* scope */
        {"2001:db8:1::5", {"2001:db8:1::2", "2001:db8:3::2"}, "2001:db8:1::2"}, /* longest match */
        {"2002:c633:6401::1", {"2002:c633:6401::d5e3", "2001:db8:1::2"}, "2002:c633:6401::d5e3"}, /* label */
        {"2001:db8:1::1",
         {"fd00::1", "2002:c633:6401::2"},
         "2002:c633:6401::2"}, /* neither label: match length */
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct env *e = env_new();
        struct ip_addr got, dst = ip(cases[i].dst), want = ip(cases[i].want);

        for (int k = 0; k < 2; k++) {
            struct ip_addr a = ip(cases[i].have[k]);

            assert_int_equal(stack_addr_add(e->st, &a, 64, e->now), 0);
        }
        env_sleep(e, 3 * SEC);
        assert_true(st_source_for(e->st, &dst, &dst, &got));
        if (!ip_addr_is_link_local(&want) || !ip_addr_is_link_local(&got))
            assert_true(ip_addr_eq(&got, &want));
        env_free(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dad_succeeds),
        cmocka_unit_test(dad_conflict),
        cmocka_unit_test(own_probe_coming_back_is_no_conflict),
        cmocka_unit_test(answers_solicitations),
        cmocka_unit_test(resolves),
        cmocka_unit_test(solicits_routers),
        cmocka_unit_test(autoconfigures),
        cmocka_unit_test(two_hour_rule),
        cmocka_unit_test(ra_is_checked),
        cmocka_unit_test(mld_query_is_answered),
        cmocka_unit_test(static_address_and_leave),
        cmocka_unit_test(link_up_again_probes),
        cmocka_unit_test(source_selection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
