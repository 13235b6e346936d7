/*
 * stack/kept.c: a stack that goes on for one that died knows what the other had committed: neighbours, addresses, routes,
 * path MTUs, variables of the link, counters. It asks nobody again, and what was damaged is not used.
 */
#include "env.h"
#include "fake_engine.h"

#define ROUTER "fe80::ff:fe00:fe"
#define SLAAC  "2001:db8:1::ff:fe00:1"
#define STATIC "2001:db8:9::1"

static struct env *begin(void)
{
    struct keep_spec spec[STACK_KEEP_TABLES];
    struct stack_config config;
    unsigned n;

    stack_config_defaults(&config);
    config.neigh_max = 64;
    n = stack_keep_specs(&config, spec);
    assert_int_equal(n, STACK_KEEP_TABLES);
    env_before = (struct env_before){.keep = calloc(1, keep_bytes(spec, n))};
    keep_format(env_before.keep, spec, n);
    return env_bare(&config, mac_us.b, 1500);
}

/* The memory is as the last commit left it. */
static struct env *crash(struct env *e)
{
    struct stack_config config = e->config;

    env_before.now = e->now;
    env_before.resumed = true;
    env_free(e);
    return env_bare(&config, mac_us.b, 1500);
}

static void end(struct env *e)
{
    env_free(e);
    free(env_before.keep);
    env_before = (struct env_before){0};
}

static struct stack_keep_found found(const struct env *e)
{
    struct stack_keep_found f;

    stack_get_keep_found(e->st, &f);
    return f;
}

static void add4(struct env *e)
{
    struct ip_addr a = ip("192.0.2.1");

    assert_int_equal(stack_addr_add(e->st, &a, 24, e->now), 0);
}

static void send_to(struct env *e, const char *dst)
{
    struct tcp_seg seg = {.src = ip("192.0.2.1"), .dst = ip(dst), .flags = TCP_ACK};

    fake_ready(stack_tcp(e->st), &seg);
    env_pull(e);
}

/* All that came out since the last look is one segment to this station. */
static void only_a_segment(struct env *e, const struct eth_addr *mac)
{
    const struct frame *f = env_next(e);

    assert_non_null(f);
    assert_true(f->is_tcp);
    assert_memory_equal(f->bytes, mac->b, 6);
    assert_null(env_next(e));
}

static void neighbours(void **state)
{
    struct env *e = begin();
    struct stack_neigh n;
    uint64_t end_at;

    (void)state;
    add4(e);
    env_sleep(e, 20 * SEC);
    send_to(e, "192.0.2.7");
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    in_arp(e, ARP_REQUEST, "192.0.2.8", &mac_router, "192.0.2.1"); /* stale: never confirmed */
    send_to(e, "192.0.2.9");                                       /* nobody answers */
    env_sleep(e, 100 * MSEC);
    end_at = e->now - 100 * MSEC + st_neigh_find(e->st, &(struct ip_addr){.b = {192, 0, 2, 7}, .family = IP_V4})->reachable_ns;
    e = crash(e);
    assert_int_equal(found(e).neighbours, 2);
    add4(e);
    env_pull(e);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_REACHABLE);
    assert_int_equal(n.age_ns, 100 * MSEC);
    assert_true(env_neigh(e, "192.0.2.8", &n));
    assert_int_equal(n.state, STACK_NEIGH_STALE);
    assert_memory_equal(n.mac, mac_router.b, 6);
    assert_false(env_neigh(e, "192.0.2.9", &n));
    env_forget(e);
    send_to(e, "192.0.2.7");
    only_a_segment(e, &mac_peer);
    send_to(e, "192.0.2.8");
    only_a_segment(e, &mac_router);
    /* As old as it would be: it is stale when it would have been. */
    env_run(e, end_at - 1);
    assert_true(env_neigh(e, "192.0.2.7", &n) && n.state == STACK_NEIGH_REACHABLE);
    env_run(e, end_at + 10 * MSEC);
    assert_true(env_neigh(e, "192.0.2.7", &n) && n.state == STACK_NEIGH_STALE);
    end(e);
}

/* Another station answers for the address, or it goes: committed or not, that is what the next one knows. */
static void neighbours_change(void **state)
{
    struct env *e = begin();
    struct ip_addr who = ip("192.0.2.7");
    struct stack_neigh n;

    (void)state;
    add4(e);
    env_sleep(e, 20 * SEC);
    send_to(e, "192.0.2.7");
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    st_neigh_heard(e->st, &who, &mac_router, e->now); /* the crash comes before the commit */
    e = crash(e);
    add4(e);
    env_pull(e);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_memory_equal(n.mac, mac_peer.b, 6);
    in_arp(e, ARP_REQUEST, "192.0.2.7", &mac_router, "192.0.2.1");
    e = crash(e);
    add4(e);
    env_pull(e);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_memory_equal(n.mac, mac_router.b, 6);
    assert_int_equal(n.state, STACK_NEIGH_STALE);
    /* And one that is stale already. */
    in_arp(e, ARP_REQUEST, "192.0.2.7", &mac_peer, "192.0.2.1");
    e = crash(e);
    add4(e);
    env_pull(e);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_memory_equal(n.mac, mac_peer.b, 6);
    /* Nobody is there any more. */
    send_to(e, "192.0.2.7");
    env_sleep(e, 9 * SEC);
    assert_true(env_neigh(e, "192.0.2.7", &n) && n.state == STACK_NEIGH_FAILED);
    e = crash(e);
    assert_int_equal(found(e).neighbours, 0);
    end(e);
}

static void link_down(void **state)
{
    struct env *e = begin();
    uint16_t mtu;
    bool up;

    (void)state;
    add4(e);
    env_sleep(e, 20 * SEC);
    send_to(e, "192.0.2.7");
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    stack_set_mtu(e->st, 1400, e->now);
    stack_set_link(e->st, false, e->now);
    env_pull(e);
    e = crash(e);
    stack_get_link(e->st, &up, &mtu);
    assert_false(up);
    assert_int_equal(mtu, 1400);
    assert_int_equal(found(e).neighbours, 0);
    add4(e);
    stack_set_link(e->st, true, e->now); /* perhaps another one: announced, and asked */
    env_forget(e);
    env_sleep(e, 5 * SEC);
    assert_non_null(env_next_type(e, ETH_P_ARP));
    end(e);
}

/* ---- Addresses, routes ---------------------------------------------------------------------------------- */

static void in_ra(struct env *e, uint16_t lifetime, uint32_t valid, uint32_t preferred)
{
    uint8_t msg[64] = {ICMP6_TYPE_ROUTER_ADVERT, [4] = 33, [16] = 1, 1}, frame[256];
    struct ip_addr s = ip(ROUTER), d = ip("ff02::1"), prefix = ip("2001:db8:1::");
    size_t n = 24, frame_bytes;

    put_be16(msg + 6, lifetime);
    memcpy(msg + 18, mac_router.b, 6);
    if (valid) {
        memcpy(msg + n, (const uint8_t[]){ND_OPT_PREFIX, 4, 64, 0xc0}, 4);
        put_be32(msg + n + 4, valid);
        put_be32(msg + n + 8, preferred);
        memcpy(msg + n + 16, prefix.b, 16);
        n += 32;
    }
    put_be16(msg + 2, csum_fold(csum_partial(msg, n, csum_pseudo(&s, &d, IP_PROTO_ICMPV6, (uint32_t)n))));
    frame_bytes = mk_ip6(frame, ROUTER, "ff02::1", IP_PROTO_ICMPV6, 255, msg, n);
    memcpy(frame + 6, mac_router.b, 6);
    env_in(e, frame, frame_bytes);
}

static void add6(struct env *e)
{
    struct ip_addr a = ip(STATIC);

    assert_int_equal(stack_addr_add(e->st, &a, 64, e->now), 0);
}

static unsigned state_of(struct env *e, const char *text)
{
    struct stack_addr a;

    return env_addr(e, text, &a) ? a.state : 99;
}

/* Neither a solicitation (of duplicates, of neighbours) nor one for routers comes out within five seconds. */
static void nobody_is_asked(struct env *e)
{
    const uint8_t *p;
    size_t n;
    unsigned seen;

    env_sleep(e, 5 * SEC);
    seen = e->seen;
    assert_null(env_next_icmp6(e, ICMP6_TYPE_NEIGHBOUR_SOLICIT, &p, &n));
    e->seen = seen;
    assert_null(env_next_icmp6(e, ICMP6_TYPE_ROUTER_SOLICIT, &p, &n));
    e->seen = seen;
    assert_null(env_next_type(e, ETH_P_ARP));
}

static unsigned routes(struct env *e)
{
    struct stack_route r;
    unsigned n = 0;

    while (stack_route_get(e->st, n, &r))
        n++;
    return n;
}

static void addresses(void **state)
{
    struct env *e = begin();
    struct stack_addr before, after;
    struct stack_event ev;
    struct tcp_path path;
    struct ip_addr src = {0}, far = ip("2001:db8:ffff::1");
    struct st_hop hop;

    (void)state;
    add4(e);
    add6(e);
    env_sleep(e, 20 * SEC);
    in_ra(e, 1800, 7200, 3600);
    env_sleep(e, 5 * SEC);
    assert_int_equal(state_of(e, SLAAC), STACK_ADDR_PREFERRED);
    assert_true(env_addr(e, SLAAC, &before));
    for (int i = 0; i < 3; i++) {
        e = crash(e);
        add4(e);
        add6(e);
        /* At once, before any timer ran. */
        assert_int_equal(state_of(e, SLAAC), STACK_ADDR_PREFERRED);
        assert_int_equal(state_of(e, STATIC), STACK_ADDR_PREFERRED);
        assert_int_equal(state_of(e, US_LL), STACK_ADDR_PREFERRED);
        assert_false(env_event(e, STACK_EVENT_ADDR, &ev));
        assert_true(env_addr(e, SLAAC, &after));
        assert_memory_equal(&after, &before, sizeof after);
        src = (struct ip_addr){0};
        assert_int_equal(st_net_route(e->st, &far, &src, &path), 0);
        assert_true(st_route_lookup(e->st, &far, &hop));
        assert_true(ip_addr_eq(&hop.next, &(struct ip_addr){0}) == false && hop.next.b[15] == 0xfe);
        assert_int_equal(e->st->hop_limit6, 33);
        assert_int_equal(found(e).addresses, 4);
        assert_int_equal(found(e).routes, 2);
        assert_int_equal(routes(e), 2);
        nobody_is_asked(e);
    }
    /* Their time ends when it would have. */
    env_run(e, before.preferred_until + MSEC * 20);
    assert_int_equal(state_of(e, SLAAC), STACK_ADDR_DEPRECATED);
    assert_int_equal(routes(e), 1); /* the router went before */
    e = crash(e);
    assert_int_equal(state_of(e, SLAAC), STACK_ADDR_DEPRECATED);
    env_run(e, before.valid_until + MSEC * 20);
    assert_int_equal(state_of(e, SLAAC), 99);
    assert_int_equal(routes(e), 0);
    e = crash(e);
    assert_int_equal(found(e).routes, 0);
    assert_int_equal(state_of(e, SLAAC), 99);
    /* The crash before brought no configured address: it is nobody's now, and new if it comes again. */
    assert_int_equal(found(e).addresses, 1);
    end(e);
}

static void tentative_begins_anew(void **state)
{
    struct env *e = begin();
    const uint8_t *p;
    size_t n;

    (void)state;
    env_sleep(e, 20 * SEC);
    in_ra(e, 1800, 7200, 3600);
    env_sleep(e, 10 * MSEC);
    assert_int_equal(state_of(e, SLAAC), STACK_ADDR_TENTATIVE);
    e = crash(e);
    assert_int_equal(state_of(e, SLAAC), STACK_ADDR_TENTATIVE);
    env_forget(e);
    env_sleep(e, 3 * SEC);
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_NEIGHBOUR_SOLICIT, &p, &n));
    assert_int_equal(state_of(e, SLAAC), STACK_ADDR_PREFERRED);
    end(e);
}

static void duplicate_stays(void **state)
{
    struct env *e = begin();
    uint8_t frame[128];

    (void)state;
    env_sleep(e, 20 * SEC);
    add6(e);
    env_pull(e);
    env_in(e, frame, mk_ns(frame, "::", STATIC, NULL));
    env_sleep(e, 3 * SEC);
    assert_int_equal(state_of(e, STATIC), STACK_ADDR_DUPLICATE);
    e = crash(e);
    add6(e);
    assert_int_equal(state_of(e, STATIC), STACK_ADDR_DUPLICATE);
    env_sleep(e, 3 * SEC);
    assert_int_equal(state_of(e, STATIC), STACK_ADDR_DUPLICATE);
    end(e);
}

/* Nothing is known any more (another layout): configured addresses go on; what an advertisement brings is asked for. */
static void forgotten(void **state)
{
    struct env *e = begin();

    (void)state;
    add6(e);
    env_sleep(e, 20 * SEC);
    in_ra(e, 1800, 7200, 3600);
    env_sleep(e, 5 * SEC);
    memset(env_before.keep, 0, 4096);
    e = crash(e);
    assert_int_equal(found(e).addresses, 0);
    add6(e);
    assert_int_equal(state_of(e, STATIC), STACK_ADDR_PREFERRED);
    assert_int_equal(state_of(e, US_LL), STACK_ADDR_PREFERRED);
    in_ra(e, 1800, 7200, 3600);
    assert_int_equal(state_of(e, SLAAC), STACK_ADDR_TENTATIVE);
    /* And no start is a resumption by itself. */
    env_before.resumed = false;
    end(e);
    e = begin();
    add6(e);
    assert_int_equal(state_of(e, STATIC), STACK_ADDR_TENTATIVE);
    end(e);
}

static void paths(void **state)
{
    struct env *e = begin();
    struct ip_addr a = ip("198.51.100.1"), b = ip("198.51.100.2");

    (void)state;
    st_path_learn(e->st, &a, 1300, e->now);
    st_path_learn(e->st, &b, 1200, e->now);
    env_sleep(e, 300 * SEC);
    st_path_learn(e->st, &a, 1250, e->now);
    env_pull(e);
    e = crash(e);
    assert_int_equal(found(e).paths, 2);
    assert_int_equal(st_path_mtu(e->st, &a, 1500, e->now), 1250);
    assert_int_equal(st_path_mtu(e->st, &b, 1500, e->now), 1200);
    env_sleep(e, 301 * SEC);
    assert_int_equal(st_path_mtu(e->st, &a, 1500, e->now), 1250);
    assert_int_equal(st_path_mtu(e->st, &b, 1500, e->now), 1500);
    e = crash(e);
    assert_int_equal(found(e).paths, 1);
    assert_int_equal(st_path_mtu(e->st, &a, 1500, e->now), 1250);
    end(e);
}

static void counters(void **state)
{
    struct env *e = begin();
    uint8_t junk[20] = {2};
    unsigned long long before;

    (void)state;
    add4(e);
    in_arp(e, ARP_REQUEST, "192.0.2.8", &mac_router, "192.0.2.1");
    env_in(e, junk, 10);
    env_in(e, junk, 10);
    env_pull(e); /* frames are counted when they are made: the next turn's commit has them */
    before = stack_get_counters(e->st)->rx_frames;
    assert_int_equal(before, 3);
    e = crash(e);
    assert_int_equal(stack_get_counters(e->st)->rx_frames, before);
    assert_int_equal(stack_get_counters(e->st)->arp_in, 1);
    assert_int_equal(env_drops(e, STACK_DROP_FRAME_SHORT), 2);
    env_in(e, junk, 10);
    e = crash(e);
    assert_int_equal(env_drops(e, STACK_DROP_FRAME_SHORT), 3);
    end(e);
}

/* A turn in which nothing changed writes nothing. */
static void idle(void **state)
{
    struct env *e = begin();
    struct keep_spec spec[STACK_KEEP_TABLES];
    size_t bytes = keep_bytes(spec, stack_keep_specs(&e->config, spec));
    uint8_t *copy = malloc(bytes);

    (void)state;
    add4(e);
    env_sleep(e, 20 * SEC);
    send_to(e, "192.0.2.7");
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    env_pull(e);
    memcpy(copy, env_before.keep, bytes);
    for (int i = 0; i < 10; i++)
        stack_commit(e->st, e->now);
    assert_memory_equal(copy, env_before.keep, bytes);
    free(copy);
    end(e);
}

/* A wrong bit in any one entry: it alone is not used, and said to be damaged. */
static void damaged(void **state)
{
    struct env *e = begin();
    struct stack_keep_found f;
    struct ip_addr far = ip("198.51.100.1");
    const struct keep *k[5];

    (void)state;
    for (int i = 0; i < 5; i++) {
        if (i) {
            end(e);
            e = begin();
        }
        add4(e);
        env_sleep(e, 20 * SEC);
        send_to(e, "192.0.2.7");
        in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
        in_ra(e, 1800, 0, 0);
        st_path_learn(e->st, &far, 1300, e->now);
        env_pull(e);
        k[0] = &e->st->keep.neigh, k[1] = &e->st->keep.addr, k[2] = &e->st->keep.route, k[3] = &e->st->keep.path;
        k[4] = &e->st->keep.link;
        assert_true(keep_touched(k[i]) >= 1);
        k[i]->slot[8 + 9] ^= 0x10; /* in both copies: whichever counts */
        k[i]->slot[8 + (k[i]->step - 8) / 2 + 9] ^= 0x10;
        e = crash(e);
        f = found(e);
        assert_int_equal(f.damaged, 1);
        assert_int_equal(f.neighbours, i == 0 ? 1 : 2);
        assert_int_equal(f.addresses, i == 1 ? 1 : 2);
        assert_int_equal(f.routes, i != 2);
        assert_int_equal(f.paths, i != 3);
        assert_int_equal(e->st->hop_limit6, i == 4 ? 0 : 33);
        add4(e);
        env_pull(e);
        e = crash(e);
        assert_int_equal(found(e).damaged, 0); /* told once */
    }
    end(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours), cmocka_unit_test(neighbours_change),    cmocka_unit_test(link_down),
        cmocka_unit_test(addresses),  cmocka_unit_test(tentative_begins_anew), cmocka_unit_test(duplicate_stays),
        cmocka_unit_test(forgotten),  cmocka_unit_test(paths),                cmocka_unit_test(counters),
        cmocka_unit_test(idle),       cmocka_unit_test(damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
