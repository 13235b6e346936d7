/*
 * ARP and the neighbour cache: resolution, time, staleness, who waits, who gives way.
 */
#include "env.h"
#include "fake_engine.h"

static struct tcp_seg seg_to(const char *dst)
{
    return (struct tcp_seg){
        .src = ip("192.0.2.1"), .dst = ip(dst), .src_port = 1000, .dst_port = 80, .flags = TCP_ACK};
}

static struct arp_packet next_arp(struct env *e, struct eth_addr *ret_dst)
{
    const struct frame *f = env_next_type(e, ETH_P_ARP);
    struct arp_packet arp = {0};
    struct eth_header h;

    if (!f)
        return arp;
    assert_int_equal(f->n, 42);
    assert_int_equal(eth_header_decode(f->bytes, f->n, &h), ETH_DECODE_OK);
    assert_memory_equal(h.src.b, mac_us.b, 6);
    assert_int_equal(arp_decode(f->bytes + 14, f->n - 14, &arp), ARP_DECODE_OK);
    *ret_dst = h.dst;
    return arp;
}

static void answers_requests(void **state)
{
    struct env *e = env_new();
    struct eth_addr dst;
    struct arp_packet a;

    (void)state;
    in_arp(e, ARP_REQUEST, "192.0.2.7", &mac_peer, "192.0.2.1");
    a = next_arp(e, &dst);
    assert_int_equal(a.op, ARP_REPLY);
    assert_memory_equal(dst.b, mac_peer.b, 6);
    assert_memory_equal(a.sender_mac.b, mac_us.b, 6);
    assert_true(a.sender_ip.b[3] == 1 && a.target_ip.b[3] == 7);
    in_arp(e, ARP_REQUEST, "192.0.2.7", &mac_peer, "192.0.2.9");
    assert_null(env_next(e));
    assert_int_equal(env_drops(e, STACK_DROP_ARP_NOT_FOR_US), 1);
    in_arp(e, ARP_REQUEST, "0.0.0.0", &mac_peer, "192.0.2.1"); /* a probe for our address is answered */
    a = next_arp(e, &dst);
    assert_int_equal(a.op, ARP_REPLY);
    env_free(e);
}

static void resolves_and_sends(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = seg_to("192.0.2.7");
    struct stack_neigh n;
    struct eth_addr dst;
    struct arp_packet a;
    const struct frame *f;
    tcp_id id = fake_ready(t, &seg);

    (void)state;
    env_pull(e);
    a = next_arp(e, &dst);
    assert_int_equal(a.op, ARP_REQUEST);
    assert_true(eth_addr_is_broadcast(&dst));
    assert_true(a.target_ip.b[3] == 7 && a.sender_ip.b[3] == 1);
    assert_null(env_next(e));
    assert_true(t->conn[id - 1].suspended);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_INCOMPLETE);
    assert_int_equal(n.waiting, 1);
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    f = env_next(e);
    assert_non_null(f);
    assert_true(f->is_tcp);
    assert_memory_equal(f->bytes, mac_peer.b, 6);
    assert_false(t->conn[id - 1].suspended);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_REACHABLE);
    assert_int_equal(n.waiting, 0);
    env_free(e);
}

static void gives_up(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = seg_to("192.0.2.7");
    uint64_t start = e->now;
    struct stack_event ev;
    struct stack_neigh n;
    struct eth_addr dst;
    tcp_id id = fake_ready(t, &seg);

    (void)state;
    env_sleep(e, 2900 * MSEC);
    for (int i = 0; i < 3; i++)
        assert_int_equal(next_arp(e, &dst).op, ARP_REQUEST);
    assert_int_equal(e->out[2].at - start, 2 * SEC);
    assert_int_equal(t->conn[id - 1].unreachable, 0);
    env_sleep(e, 200 * MSEC);
    assert_int_equal(t->conn[id - 1].unreachable, EHOSTUNREACH);
    assert_false(t->conn[id - 1].suspended);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_FAILED);
    assert_true(env_event(e, STACK_EVENT_NEIGH, &ev));
    assert_int_equal(ev.state, STACK_NEIGH_FAILED);
    /* At once: refused without a new question; a second later asked again. */
    fake_more(t, id, &seg);
    t->conn[id - 1].unreachable = 0;
    env_pull(e);
    assert_int_equal(t->conn[id - 1].unreachable, EHOSTUNREACH);
    assert_null(env_next(e));
    env_sleep(e, SEC);
    fake_more(t, id, &seg);
    env_pull(e);
    assert_int_equal(next_arp(e, &dst).op, ARP_REQUEST);
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    assert_true(env_next(e)->is_tcp);
    env_free(e);
}

static void resolve(struct env *e, const char *who, const struct eth_addr *mac)
{
    struct tcp_seg seg = seg_to(who);

    fake_ready(stack_tcp(e->st), &seg);
    env_pull(e);
    in_arp(e, ARP_REPLY, who, mac, "192.0.2.1");
    env_forget(e);
}

static void goes_stale_and_is_probed(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = seg_to("192.0.2.7");
    struct stack_neigh n;
    struct arp_packet a;
    struct eth_addr dst;

    (void)state;
    resolve(e, "192.0.2.7", &mac_peer);
    env_sleep(e, 46 * SEC); /* ReachableTime is at most 1.5 * 30 s */
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_STALE);
    fake_more(t, 1, &seg);
    env_pull(e);
    assert_true(env_next(e)->is_tcp); /* stale is still used */
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_DELAY);
    env_sleep(e, 5 * SEC);
    a = next_arp(e, &dst);
    assert_int_equal(a.op, ARP_REQUEST);
    assert_memory_equal(dst.b, mac_peer.b, 6); /* unicast */
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_PROBE);
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_REACHABLE);
    /* Again, and it stays silent. */
    env_sleep(e, 46 * SEC);
    fake_more(t, 1, &seg);
    env_sleep(e, 9 * SEC);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_FAILED);
    env_sleep(e, 20 * SEC);
    assert_false(env_neigh(e, "192.0.2.7", &n));
    env_free(e);
}

static void progress_confirms(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = seg_to("192.0.2.7"), in = {.src_port = 80, .dst_port = 1000, .flags = TCP_ACK};
    uint8_t frame[128], tcp[64];
    struct stack_neigh n;
    struct ip_addr s = ip("192.0.2.7"), d = ip("192.0.2.1");

    (void)state;
    resolve(e, "192.0.2.7", &mac_peer);
    env_sleep(e, 46 * SEC);
    fake_more(t, 1, &seg);
    env_pull(e);
    env_forget(e);
    tcp_header_encode(&in, tcp);
    memset(tcp + 20, 'x', 10);
    put_be16(tcp + 16, csum_fold(csum_partial(tcp, 30, csum_pseudo(&s, &d, IP_PROTO_TCP, 30))));
    env_in(e, frame, mk_ip4(frame, "192.0.2.7", "192.0.2.1", IP_PROTO_TCP, tcp, 30));
    assert_int_equal(t->n_in, 1);
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_REACHABLE);
    env_sleep(e, 8 * SEC);
    assert_null(env_next_type(e, ETH_P_ARP));
    env_free(e);
}

static void held_replies_are_bounded(void **state)
{
    struct env *e = env_new();
    uint8_t frame[128];

    (void)state;
    for (int i = 0; i < 5; i++)
        env_in(e, frame, mk_echo(frame, "192.0.2.7", "192.0.2.1", (uint16_t)i, 16));
    assert_int_equal(env_drops(e, STACK_DROP_NEIGH_QUEUE_FULL), 2);
    env_forget(e);
    in_arp(e, ARP_REPLY, "192.0.2.7", &mac_peer, "192.0.2.1");
    for (int i = 2; i < 5; i++) { /* the newest three, in order */
        const uint8_t *p;
        size_t n;

        assert_non_null(env_next_icmp4(e, 0, &p, &n));
        assert_int_equal(get_be16(p + 6), i);
    }
    assert_null(env_next(e));
    env_in(e, frame, mk_echo(frame, "192.0.2.8", "192.0.2.1", 1, 16));
    env_sleep(e, 4 * SEC);
    assert_int_equal(env_drops(e, STACK_DROP_NEIGH_UNREACHABLE), 1);
    env_free(e);
}

static void syn_ack_waits(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = seg_to("198.51.100.1"); /* by the router */
    struct arp_packet a;
    struct eth_addr dst;

    const uint8_t *p;

    (void)state;
    seg.opt.md5_ok = true; /* signed when it was made: the signature waits with it */
    memset(seg.opt.md5, 0x5a, sizeof seg.opt.md5);
    t->reply[t->n_reply++] = (struct tcp_out){.cause = TCP_CAUSE_SYNACK, .seg = seg};
    env_pull(e);
    a = next_arp(e, &dst);
    assert_int_equal(a.target_ip.b[3], 254);
    in_arp(e, ARP_REPLY, "192.0.2.254", &mac_router, "192.0.2.1");
    p = env_next(e)->bytes;
    assert_memory_equal(p, mac_router.b, 6);
    assert_memory_equal(p + 14 + 20 + 20 + 4, seg.opt.md5, sizeof seg.opt.md5);
    env_free(e);
}

/* SYNs from ever new sources on the link: their SYN-ACKs wait, but not in the room that others need. */
static void flood_leaves_room(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct ip_addr wide = ip("10.80.0.1");
    uint8_t frame[128];
    const uint8_t *p;
    size_t n;

    (void)state;
    assert_int_equal(stack_addr_add(e->st, &wide, 16, e->now), 0);
    resolve(e, "192.0.2.7", &mac_peer);
    for (unsigned i = 0; i < 4000; i++) {
        struct tcp_seg seg = seg_to("10.80.0.2");

        seg.dst = ip_addr_v4(10, 80, (uint8_t)(i / 250 + 1), (uint8_t)(i % 250));
        t->n_reply = t->reply_at = 0;
        t->reply[t->n_reply++] = (struct tcp_out){.cause = TCP_CAUSE_SYNACK, .seg = seg};
        env_pull(e);
        env_forget(e);
    }
    assert_in_range(env_drops(e, STACK_DROP_NEIGH_QUEUE_FULL), 2000, 3900);
    assert_int_equal(env_drops(e, STACK_DROP_REPLY_RING_FULL), 0);
    env_in(e, frame, mk_echo(frame, "192.0.2.7", "192.0.2.1", 1, 16));
    assert_non_null(env_next_icmp4(e, 0, &p, &n));
    /* What was held leaves whole. */
    env_forget(e);
    in_arp(e, ARP_REPLY, "10.80.1.0", &mac_peer, "10.80.0.1");
    assert_memory_equal(env_next(e)->bytes, mac_peer.b, 6);
    assert_null(env_next(e));
    env_free(e);
}

static void mac_changes(void **state)
{
    struct env *e = env_new();
    struct tcp_seg seg = seg_to("192.0.2.7");
    struct stack_neigh n;

    (void)state;
    resolve(e, "192.0.2.7", &mac_peer);
    in_arp(e, ARP_REQUEST, "192.0.2.7", &mac_router,
           "192.0.2.7"); /* an announcement: used, but not believed for sure */
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.state, STACK_NEIGH_STALE);
    assert_memory_equal(n.mac, mac_router.b, 6);
    fake_more(stack_tcp(e->st), 1, &seg);
    env_pull(e);
    assert_memory_equal(env_next(e)->bytes, mac_router.b, 6);
    in_arp(e, ARP_REQUEST, "192.0.2.66", &mac_router, "192.0.2.66"); /* gratuitous ARP makes no entry */
    assert_false(env_neigh(e, "192.0.2.66", &n));
    env_free(e);
}

static void table_is_bounded(void **state)
{
    struct stack_config c;
    struct env *e;
    struct stack_neigh n;
    struct ip_addr a = ip("192.0.2.1");
    char text[32];
    unsigned count = 0;

    (void)state;
    stack_config_defaults(&c);
    c.neigh_max = 16;
    e = env_bare(&c, mac_us.b, 1500);
    stack_addr_add(e->st, &a, 24, e->now);
    for (int i = 0; i < 16; i++) {
        snprintf(text, sizeof text, "192.0.2.%d", 10 + i);
        resolve(e, text, &mac_peer);
    }
    for (int i = 0; i < 100; i++) { /* strangers that ask for us, and invented sources of echo requests */
        uint8_t frame[128];

        snprintf(text, sizeof text, "192.0.2.%d", 100 + i);
        in_arp(e, ARP_REQUEST, text, &mac_router, "192.0.2.1");
        env_in(e, frame, mk_echo(frame, text, "192.0.2.1", 1, 8));
    }
    for (int i = 0; i < 16; i++) {
        snprintf(text, sizeof text, "192.0.2.%d", 10 + i);
        assert_true(env_neigh(e, text, &n));
        assert_int_equal(n.state, STACK_NEIGH_REACHABLE);
    }
    while (stack_neigh_get(e->st, count, e->now, &n))
        count++;
    assert_int_equal(count, 16);
    assert_true(env_drops(e, STACK_DROP_NEIGH_TABLE_FULL) >= 100);
    env_sleep(e, 200 * SEC); /* verified, but stale and idle: give way now */
    resolve(e, "192.0.2.200", &mac_peer);
    assert_true(env_neigh(e, "192.0.2.200", &n));
    env_free(e);
}

static void waiting_connection_survives_flood(void **state)
{
    struct stack_config c;
    struct env *e;
    struct ip_addr a = ip("192.0.2.1");
    struct tcp_seg seg = seg_to("192.0.2.7");
    struct stack_neigh n;
    char text[32];

    (void)state;
    stack_config_defaults(&c);
    c.neigh_max = 16;
    e = env_bare(&c, mac_us.b, 1500);
    stack_addr_add(e->st, &a, 24, e->now);
    fake_ready(stack_tcp(e->st), &seg);
    env_pull(e);
    for (int i = 0; i < 100; i++) {
        uint8_t frame[128];

        snprintf(text, sizeof text, "192.0.2.%d", 100 + i);
        env_in(e, frame, mk_echo(frame, text, "192.0.2.1", 1, 8));
    }
    assert_true(env_neigh(e, "192.0.2.7", &n));
    assert_int_equal(n.waiting, 1);
    env_free(e);
}

static void conflict_is_told_and_defended(void **state)
{
    struct env *e = env_new();
    struct stack_event ev;
    struct eth_addr dst;
    struct arp_packet a;

    (void)state;
    in_arp(e, ARP_REQUEST, "192.0.2.1", &mac_peer, "192.0.2.1");
    a = next_arp(e, &dst);
    assert_true(arp_is_gratuitous(&a));
    assert_true(env_event(e, STACK_EVENT_CONFLICT, &ev));
    assert_memory_equal(ev.mac, mac_peer.b, 6);
    assert_int_equal(stack_get_counters(e->st)->arp_conflicts, 1);
    assert_int_equal(e->logged, 1);
    in_arp(e, ARP_REQUEST, "192.0.2.1", &mac_peer, "192.0.2.1");
    assert_null(env_next(e)); /* no war: once in ten seconds */
    env_sleep(e, 11 * SEC);
    in_arp(e, ARP_REQUEST, "192.0.2.1", &mac_peer, "192.0.2.1");
    assert_non_null(env_next(e));
    env_free(e);
}

static void announces(void **state)
{
    struct env *e = env_bare(NULL, mac_us.b, 1500);
    struct ip_addr a = ip("192.0.2.1");
    struct eth_addr dst;
    struct arp_packet arp;

    (void)state;
    stack_addr_add(e->st, &a, 24, e->now);
    env_sleep(e, 5 * SEC);
    for (int i = 0; i < 2; i++) {
        arp = next_arp(e, &dst);
        assert_true(arp_is_gratuitous(&arp) && arp.sender_ip.b[3] == 1);
    }
    assert_int_equal(next_arp(e, &dst).op, 0);
    stack_set_link(e->st, false, e->now);
    env_sleep(e, SEC);
    stack_set_link(e->st, true, e->now);
    env_sleep(e, 5 * SEC);
    assert_int_equal(next_arp(e, &dst).op, ARP_REQUEST);
    env_free(e);
}

static void link_down_sends_nothing(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = seg_to("192.0.2.7");
    uint8_t frame[128];

    (void)state;
    stack_set_link(e->st, false, e->now);
    fake_ready(t, &seg);
    env_sleep(e, 10 * SEC);
    assert_null(env_next(e));
    assert_int_equal(t->n_failed, 1); /* made and lost */
    env_in(e, frame, mk_echo(frame, "192.0.2.7", "192.0.2.1", 1, 8));
    assert_int_equal(env_drops(e, STACK_DROP_LINK_DOWN), 2);
    env_free(e);
}

/* Nobody takes what happened: the oldest events go, counted. */
static void events_overflow(void **state)
{
    struct env *e = env_new();
    struct stack_event ev = {.kind = STACK_EVENT_LINK};

    (void)state;
    for (unsigned i = 0; i < EVENTS_MAX + 10; i++)
        st_event(e->st, &ev);
    assert_true(env_drops(e, STACK_DROP_EVENT_RING_FULL) >= 10);
    env_free(e);
}

/* More replies than may wait for output: the newest are not made, counted. */
static void replies_overflow(void **state)
{
    struct env *e = env_new();

    (void)state;
    for (unsigned i = 0; i < INTENTS_MAX + 3; i++) {
        struct intent *in = st_intent_new(e->st, INTENT_ARP, 0);

        assert_int_equal(in != NULL, i < INTENTS_MAX);
        if (in)
            st_intent_add(e->st, in);
    }
    assert_int_equal(env_drops(e, STACK_DROP_REPLY_RING_FULL), 3);
    st_intents_flush(e->st, STACK_DROP_LINK_DOWN, e->now);
    env_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_overflow),
        cmocka_unit_test(replies_overflow),
        cmocka_unit_test(answers_requests),
        cmocka_unit_test(resolves_and_sends),
        cmocka_unit_test(gives_up),
        cmocka_unit_test(goes_stale_and_is_probed),
        cmocka_unit_test(progress_confirms),
        cmocka_unit_test(held_replies_are_bounded),
        cmocka_unit_test(syn_ack_waits),
        cmocka_unit_test(flood_leaves_room),
        cmocka_unit_test(mac_changes),
        cmocka_unit_test(table_is_bounded),
        cmocka_unit_test(waiting_connection_survives_flood),
        cmocka_unit_test(conflict_is_told_and_defended),
        cmocka_unit_test(announces),
        cmocka_unit_test(link_down_sends_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
