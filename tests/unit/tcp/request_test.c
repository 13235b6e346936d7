/*
 * tests/unit/tcp/request_test.c: what has no connection block: half-open entries, TIME-WAIT entries, replies. Segments
 * go in by tcp_input(); answers are taken by tcp_next_reply().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "../coverage.h"
#include "tcp/tcp_priv.h"

#define ARENA (64u * CHUNK_BIG_BYTES)
#define IRS 5000u

struct eng {
    struct tcp_config config;
    uint8_t *arena;
    struct chunk_pool *pool;
    struct tcp *t;
    uint64_t now;
    uint32_t listener;
    struct tcp_out out;
};

static const struct tcp_path path = {.mtu = 1500};

static struct eng *eng_sized(uint32_t backlog, uint32_t max_half_open, uint32_t max_conns)
{
    struct eng *e = calloc(1, sizeof *e);
    struct tcp_params p = {
        .now = 1000 * NSEC_PER_SEC, .max_conns = max_conns, .max_half_open = max_half_open, .max_time_wait = 3};
    struct tcp_listen_args l = {.addr = ip_addr_v4(10, 0, 0, 1), .port = 80, .backlog = backlog, .user = 42};

    tcp_config_defaults(&e->config);
    e->arena = aligned_alloc(4096, ARENA);
    e->pool = chunk_pool_create(e->arena, ARENA);
    e->now = p.now;
    p.config = &e->config;
    p.pool = e->pool;
    e->t = tcp_create(&p);
    assert_non_null(e->t);
    assert_int_equal(tcp_listen(e->t, &l, &e->listener), 0);
    return e;
}

static struct eng *eng_new(uint32_t backlog, uint32_t max_half_open)
{
    return eng_sized(backlog, max_half_open, 4096);
}

static void eng_free(struct eng *e)
{
    const char *bad = tcp_check_all(e->t);

    if (bad)
        fail_msg("%s", bad);
    coverage_tcp(e->t);
    tcp_destroy(e->t);
    chunk_pool_destroy(e->pool);
    free(e->arena);
    free(e);
}

static struct tcp_seg seg(uint16_t port, unsigned flags, uint32_t seq, uint32_t ack)
{
    return (struct tcp_seg){.src = ip_addr_v4(10, 0, 0, 2),
                            .dst = ip_addr_v4(10, 0, 0, 1),
                            .src_port = port,
                            .dst_port = 80,
                            .seq = seq,
                            .ack = ack,
                            .wnd = 65535,
                            .flags = (uint16_t)flags};
}

static struct tcp_seg syn(uint16_t port)
{
    struct tcp_seg s = seg(port, TCP_SYN, IRS, 0);

    s.opt.mss_ok = s.opt.wscale_ok = s.opt.timestamps_ok = s.opt.sack_permitted = true;
    s.opt.mss = 1460;
    s.opt.wscale = 9;
    s.opt.tsval = 100;
    return s;
}

static void put(struct eng *e, struct tcp_seg s)
{
    tcp_input(e->t, &s, &path, e->now);
}

/* The next answer's flags, 0: none. */
static unsigned reply(struct eng *e)
{
    return tcp_next_reply(e->t, e->now, &e->out) ? e->out.seg.flags : 0;
}

static void pass(struct eng *e, uint64_t ms)
{
    e->now += ms * NSEC_PER_MSEC;
    tcp_expire(e->t, e->now);
}

static struct tcp_seg ack_of(struct eng *e, uint16_t port)
{
    struct tcp_seg s = seg(port, TCP_ACK, IRS + 1, e->out.seg.seq + 1);

    s.opt.timestamps_ok = true;
    s.opt.tsval = 200;
    s.opt.tsecr = e->out.seg.opt.tsval;
    return s;
}

static void accept_one(struct eng *e, uint16_t port)
{
    put(e, syn(port));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    put(e, ack_of(e, port));
}

static struct tcp_listen_info info(struct eng *e)
{
    struct tcp_listen_info i;

    assert_int_equal(tcp_listen_info(e->t, e->listener, &i), 0);
    return i;
}

/* ---- half-open ---- */

static void synack_offers_what_was_offered(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct tcp_seg bare = seg(4001, TCP_SYN, IRS, 0);

    (void)state;
    put(e, syn(4000));
    assert_int_equal(info(e).half_open, 1);
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_int_equal(e->out.seg.ack, IRS + 1);
    assert_int_equal(e->out.seg.wnd, 65160);
    assert_true(e->out.seg.opt.mss_ok && e->out.seg.opt.wscale_ok && e->out.seg.opt.sack_permitted);
    assert_int_equal(e->out.seg.opt.mss, 1460);
    assert_int_equal(e->out.seg.opt.wscale, 7);
    assert_int_equal(e->out.seg.opt.tsecr, 100);
    assert_int_equal(e->out.cause, TCP_CAUSE_SYNACK);
    assert_int_equal(reply(e), 0);
    put(e, bare);
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_false(e->out.seg.opt.wscale_ok || e->out.seg.opt.sack_permitted || e->out.seg.opt.timestamps_ok);
    eng_free(e);
}

static void synack_goes_again_with_backoff(void **state)
{
    struct eng *e = eng_new(8, 64);
    uint64_t wait_ms = 1000;

    (void)state;
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    for (unsigned i = 0; i < 5; i++, wait_ms *= 2) {
        assert_int_equal(tcp_deadline(e->t), e->now + wait_ms * NSEC_PER_MSEC);
        pass(e, wait_ms - 1);
        assert_int_equal(reply(e), 0);
        pass(e, 1);
        assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
        assert_int_equal(e->out.cause, TCP_CAUSE_SYNACK_RETRANS);
        assert_true(e->out.retransmission);
    }
    pass(e, wait_ms);
    assert_int_equal(reply(e), 0);
    assert_int_equal(info(e).half_open, 0);
    assert_int_equal(e->t->counters.req_timeouts, 1);
    assert_true(tcp_deadline(e->t) == TIME_NEVER);
    eng_free(e);
}

static void repeated_syn_is_answered_at_a_limited_rate(void **state)
{
    struct eng *e = eng_new(8, 64);
    uint32_t iss;

    (void)state;
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    iss = e->out.seg.seq;
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_int_equal(e->out.seg.seq, iss);
    put(e, syn(4000));
    assert_int_equal(reply(e), 0);
    pass(e, 500);
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_int_equal(e->t->drops[TCP_DROP_REQ_DUP_SYN], 3);
    eng_free(e);
}

static void completing_ack_makes_a_connection(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct tcp_event ev;
    struct tcp_info i;
    tcp_id half;

    (void)state;
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    half = tcp_next_id(e->t, 0);
    put(e, ack_of(e, 4000));
    assert_true(tcp_next_event(e->t, &ev));
    assert_int_equal(ev.id, half); /* one id all the way */
    assert_true(ev.bits & TCP_EVENT_ACCEPT);
    assert_int_equal(ev.user, 42);
    assert_int_equal(ev.state, TCP_STATE_ESTABLISHED);
    assert_int_equal(info(e).accept_queue, 1);
    assert_int_equal(info(e).half_open, 0);
    assert_int_equal(tcp_get_info(e->t, half, e->now, &i), 0);
    assert_int_equal(i.rcv_nxt, IRS + 1);
    assert_int_equal(i.snd_una, i.iss + 1);
    assert_int_equal(i.snd_wscale, 9);
    assert_int_equal(i.rcv_wscale, 7);
    assert_int_equal(i.snd_wnd, 65535u << 9);
    eng_free(e);
}

static void full_accept_queue_keeps_the_entry(void **state)
{
    struct eng *e = eng_new(1, 64);
    struct tcp_seg late;

    (void)state;
    put(e, syn(4002));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    late = ack_of(e, 4002);
    accept_one(e, 4000);
    accept_one(e, 4001);
    assert_int_equal(info(e).accept_queue, 2); /* backlog + 1, as Linux */
    put(e, late);
    assert_int_equal(reply(e), 0);
    assert_int_equal(info(e).half_open, 1);
    assert_int_equal(e->t->counters.listen_overflows, 1);
    put(e, syn(4003)); /* a new SYN gets nothing at all */
    assert_int_equal(reply(e), 0);
    assert_int_equal(e->t->drops[TCP_DROP_LISTEN_BACKLOG], 2);
    tcp_listen_accepted(e->t, e->listener);
    put(e, late);
    assert_int_equal(info(e).half_open, 0);
    assert_int_equal(info(e).accept_queue, 2);
    e->config.tcp_abort_on_overflow = 1;
    eng_free(e);
}

static void overflow_may_abort(void **state)
{
    struct eng *e = eng_new(1, 64);
    struct tcp_seg late;

    (void)state;
    e->config.tcp_abort_on_overflow = 1;
    put(e, syn(4002));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    late = ack_of(e, 4002);
    accept_one(e, 4000);
    accept_one(e, 4001);
    put(e, late);
    assert_int_equal(reply(e), TCP_RST);
    assert_int_equal(e->out.seg.seq, late.ack);
    assert_int_equal(info(e).half_open, 0);
    eng_free(e);
}

static void bad_segments_for_an_entry(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct tcp_seg s;
    uint32_t iss;

    (void)state;
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    iss = e->out.seg.seq;
    put(e, seg(4000, TCP_ACK, IRS + 1, iss + 2)); /* bad ACK: RST with its number, the entry stays */
    assert_int_equal(reply(e), TCP_RST);
    assert_int_equal(e->out.seg.seq, iss + 2);
    put(e, seg(4000, TCP_RST, IRS + 100000, 0)); /* RST outside the window: nothing */
    assert_int_equal(reply(e), 0);
    assert_int_equal(e->t->drops[TCP_DROP_REQ_OUT_OF_WINDOW], 1);
    put(e, seg(4000, TCP_ACK, IRS + 100000, iss + 1)); /* outside: told where we are, at a limited rate */
    assert_int_equal(reply(e), TCP_ACK);
    assert_int_equal(e->out.seg.seq, iss + 1);
    assert_int_equal(e->out.seg.ack, IRS + 1);
    put(e, seg(4000, TCP_ACK, IRS + 100000, iss + 1));
    assert_int_equal(reply(e), 0);
    s = seg(4000, TCP_ACK, IRS + 1, iss + 1); /* older than its SYN */
    s.opt.timestamps_ok = true;
    s.opt.tsval = 99;
    put(e, s);
    assert_int_equal(e->t->drops[TCP_DROP_REQ_PAWS], 1);
    assert_int_equal(info(e).half_open, 1);
    put(e, seg(4000, TCP_RST, IRS + 1, 0));
    assert_int_equal(reply(e), 0);
    assert_int_equal(info(e).half_open, 0);
    assert_int_equal(e->t->drops[TCP_DROP_REQ_RST], 1);
    eng_free(e);
}

static void a_flood_is_bounded_and_passes(void **state)
{
    struct eng *e = eng_new(4096, 100);

    (void)state;
    e->config.tcp_syncookies = 0;
    for (uint16_t p = 1; p <= 1000; p++)
        put(e, syn(p));
    assert_int_equal(info(e).half_open, 100);
    assert_int_equal(tcp_req_count(e->t), 100);
    assert_int_equal(e->t->drops[TCP_DROP_SYN_QUEUE_FULL], 900);
    while (reply(e))
        ;
    for (unsigned i = 0; i < 70; i++) {
        pass(e, 1000);
        while (reply(e))
            ;
    }
    assert_int_equal(tcp_req_count(e->t), 0);
    accept_one(e, 4000);
    assert_int_equal(info(e).accept_queue, 1);
    eng_free(e);
}

static void closing_the_listener_drops_entries(void **state)
{
    struct eng *e = eng_new(8, 64);

    (void)state;
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    put(e, syn(4001));
    tcp_listen_close(e->t, e->listener, e->now);
    assert_int_equal(tcp_req_count(e->t), 0);
    assert_int_equal(tcp_next_id(e->t, 0), 0);
    assert_int_equal(reply(e), 0);
    eng_free(e);
}

/* ---- replies ---- */

static void rst_has_the_numbers_of_the_rfc(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct tcp_seg s = seg(4000, TCP_ACK, 77, 88);

    (void)state;
    s.dst_port = 81;
    put(e, s);
    assert_int_equal(reply(e), TCP_RST);
    assert_int_equal(e->out.seg.seq, 88);
    assert_int_equal(e->out.cause, TCP_CAUSE_RST_NO_SOCKET);
    s = syn(4000);
    s.dst_port = 81;
    put(e, s);
    assert_int_equal(reply(e), TCP_RST | TCP_ACK);
    assert_int_equal(e->out.seg.seq, 0);
    assert_int_equal(e->out.seg.ack, IRS + 1);
    s.flags = TCP_RST;
    put(e, s);
    assert_int_equal(reply(e), 0);
    eng_free(e);
}

static void reply_ring_is_bounded(void **state)
{
    struct eng *e = eng_new(8, 64);
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        struct tcp_seg s = seg(4000, TCP_ACK, i, i);

        s.dst_port = 81;
        put(e, s);
    }
    while (reply(e))
        assert_int_equal(e->out.seg.seq, n++);
    assert_int_equal(n, 1024);
    assert_int_equal(e->t->drops[TCP_DROP_REPLY_RING_FULL], 3000 - 1024);
    eng_free(e);
}

static void challenge_acks_are_limited(void **state)
{
    struct eng *e = eng_new(8, 64);
    unsigned n = 0;

    (void)state;
    e->config.tcp_challenge_ack_limit = 100;
    for (unsigned i = 0; i < 1000; i++)
        n += tcp_challenge_allowed(e->t, e->now);
    assert_in_range(n, 50, 150);
    assert_int_equal(e->t->counters.challenge_acks, n);
    assert_int_equal(e->t->counters.skipped_challenges, 1000 - n);
    assert_true(tcp_challenge_allowed(e->t, e->now + NSEC_PER_SEC));
    eng_free(e);
}

/* ---- TIME-WAIT ---- */

/* A connection that both sides have closed, we first; it is a TIME-WAIT entry now. */
static tcp_id time_wait(struct eng *e, uint16_t port)
{
    struct tcp_conn *c = tcp_conn_new(e->t, e->now);
    struct ip_tuple tuple = {.local = ip_addr_v4(10, 0, 0, 1), .remote = ip_addr_v4(10, 0, 0, 2), .local_port = 80};
    tcp_id id;

    tuple.remote_port = port;
    c->tuple = tuple;
    id = c->id = tcp_table_enter(e->t, TCP_KIND_CONN, c, &c->tuple);
    c->rcv_nxt = c->rcv_wup = c->copied_seq = 7001;
    c->rcv_wnd = 65000;
    c->iss = 900;
    tcp_snd_init(e->t, c);
    c->snd_una = c->snd_nxt = c->write_seq = 1001;
    c->ts_ok = true;
    c->ts_recent = 100;
    c->ts_recent_at = e->now;
    c->fin_received = true;
    tcp_time_wait(e->t, c, e->now);
    tcp_conn_reap(e->t, c);
    return id;
}

static struct tcp_seg with_ts(struct tcp_seg s, uint32_t tsval)
{
    s.opt.timestamps_ok = true;
    s.opt.tsval = tsval;
    return s;
}

static void time_wait_keeps_the_id_and_ends(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct tcp_info i;
    tcp_id id = time_wait(e, 4000);

    (void)state;
    assert_int_equal(tcp_tw_count(e->t), 1);
    assert_int_equal(tcp_get_info(e->t, id, e->now, &i), 0);
    assert_int_equal(i.state, TCP_STATE_TIME_WAIT);
    assert_int_equal(tcp_deadline(e->t), e->now + 60 * NSEC_PER_SEC);
    pass(e, 59999);
    assert_int_equal(tcp_tw_count(e->t), 1);
    pass(e, 1);
    assert_int_equal(tcp_tw_count(e->t), 0);
    assert_int_equal(tcp_get_info(e->t, id, e->now, &i), -ENOENT);
    eng_free(e);
}

static void time_wait_answers_the_fin_again(void **state)
{
    struct eng *e = eng_new(8, 64);

    (void)state;
    time_wait(e, 4000);
    pass(e, 30000);
    put(e, with_ts(seg(4000, TCP_FIN | TCP_ACK, 7000, 1001), 101));
    assert_int_equal(reply(e), TCP_ACK);
    assert_int_equal(e->out.seg.seq, 1001);
    assert_int_equal(e->out.seg.ack, 7001);
    assert_int_equal(e->out.seg.wnd, 65000);
    assert_int_equal(e->out.cause, TCP_CAUSE_ACK_TIME_WAIT);
    assert_int_equal(tcp_deadline(e->t), e->now + 60 * NSEC_PER_SEC); /* 2 MSL anew */
    eng_free(e);
}

static void time_wait_and_rst(void **state)
{
    struct eng *e = eng_new(8, 64);

    (void)state;
    time_wait(e, 4000);
    put(e, seg(4000, TCP_RST, 7002, 0));
    assert_int_equal(tcp_tw_count(e->t), 1);
    e->config.tcp_rfc1337 = 1;
    put(e, seg(4000, TCP_RST, 7001, 0));
    assert_int_equal(tcp_tw_count(e->t), 1);
    e->config.tcp_rfc1337 = 0;
    put(e, seg(4000, TCP_RST, 7001, 0));
    assert_int_equal(tcp_tw_count(e->t), 0);
    assert_int_equal(reply(e), 0);
    eng_free(e);
}

static void newer_syn_takes_over(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct tcp_seg s = syn(4000);

    (void)state;
    time_wait(e, 4000);
    s.seq = 6000;
    s.opt.tsval = 100; /* neither newer by number nor by time */
    put(e, s);
    assert_int_equal(reply(e), TCP_ACK);
    assert_int_equal(tcp_tw_count(e->t), 1);
    s.opt.tsval = 101;
    put(e, s);
    assert_int_equal(tcp_tw_count(e->t), 0);
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_int_equal(e->out.seg.seq, 1001 + 65535 + 2);
    assert_int_equal(e->t->counters.tw_recycled, 1);
    eng_free(e);
}

static void time_wait_is_bounded(void **state)
{
    struct eng *e = eng_new(8, 64);

    (void)state;
    for (uint16_t p = 1; p <= 5; p++)
        time_wait(e, p);
    assert_int_equal(tcp_tw_count(e->t), 3);
    assert_int_equal(e->t->counters.tw_overflow, 2);
    pass(e, 60000);
    assert_int_equal(tcp_tw_count(e->t), 0);
    eng_free(e);
}

/*
 * A table full of TIME-WAIT entries has room for a connection that comes and one that is made: the oldest go. For one
 * more entry in TIME-WAIT none goes: the connection just ends, as in Linux at tcp_max_tw_buckets.
 */
static void time_wait_makes_room(void **state)
{
    struct eng *e = eng_sized(8, 64, 3);
    struct tcp_connect_args a = {.tuple = {ip_addr_v4(10, 0, 0, 1), ip_addr_v4(10, 0, 0, 2), 5000, 80},
                                 .path = {.mtu = 1500}};
    struct tcp_info i;
    struct tcp_conn *c;
    tcp_id first, second, third, id;

    (void)state;
    first = time_wait(e, 4001);
    second = time_wait(e, 4002);
    third = time_wait(e, 4003);
    put(e, with_ts(seg(4001, TCP_FIN | TCP_ACK, 7000, 1001), 101)); /* its 2 MSL begin anew: the second is the oldest */
    assert_int_equal(reply(e), TCP_ACK);
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_int_equal(e->t->counters.tw_evicted, 1);
    assert_int_equal(tcp_get_info(e->t, second, e->now, &i), -ENOENT);
    assert_int_equal(tcp_connect(e->t, &a, e->now, &id), 0);
    assert_int_equal(tcp_get_info(e->t, third, e->now, &i), -ENOENT);
    assert_int_equal(tcp_get_info(e->t, first, e->now, &i), 0);
    assert_int_equal(e->t->counters.tw_evicted, 2);
    /* An owned one becomes TIME-WAIT and keeps its own id: its entry would need a fourth. */
    c = tcp_conn_by_id(e->t, id);
    tcp_set_state(e->t, c, TCP_STATE_FIN_WAIT2, e->now);
    tcp_time_wait(e->t, c, e->now);
    assert_int_equal(e->t->counters.tw_overflow, 1);
    assert_int_equal(tcp_tw_count(e->t), 1);
    put(e, syn(4004)); /* the last one goes, too */
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_int_equal(tcp_tw_count(e->t), 0);
    put(e, syn(4005));
    assert_int_equal(reply(e), 0);
    assert_int_equal(e->t->drops[TCP_DROP_CONN_LIMIT], 1);
    eng_free(e);
}

/* Entries with a mark are counted for as long as they are there, however they end. */
static void time_wait_marks(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct ip_tuple t = {ip_addr_v4(10, 0, 0, 1), ip_addr_v4(10, 0, 0, 2), 80, 0};

    (void)state;
    put(e, syn(4009));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    for (t.remote_port = 4001; t.remote_port <= 4003; t.remote_port++) {
        time_wait(e, t.remote_port);
        assert_int_equal(tcp_tw_mark(e->t, &t, t.remote_port == 4002 ? 9 : 300), 0);
    }
    assert_int_equal(tcp_tw_mark(e->t, &t, 9), -ENOENT);
    t.remote_port = 4009; /* half-open */
    assert_int_equal(tcp_tw_mark(e->t, &t, 9), -ENOENT);
    assert_true(tcp_tw_marked(e->t, 300) == 2 && tcp_tw_marked(e->t, 9) == 1);
    assert_true(!tcp_tw_marked(e->t, 1) && !tcp_tw_marked(e->t, 301) && !tcp_tw_marked(e->t, UINT32_MAX));
    t.remote_port = 4003;
    assert_int_equal(tcp_tw_mark(e->t, &t, 9), 0);
    assert_true(tcp_tw_marked(e->t, 300) == 1 && tcp_tw_marked(e->t, 9) == 2);
    put(e, seg(4002, TCP_RST, 7001, 0));
    assert_true(tcp_tw_marked(e->t, 300) == 1 && tcp_tw_marked(e->t, 9) == 1);
    assert_true(tcp_tw_evict(e->t));
    assert_true(tcp_tw_marked(e->t, 300) == 0 && tcp_tw_marked(e->t, 9) == 1);
    pass(e, 60000);
    assert_true(tcp_tw_marked(e->t, 9) == 0);
    eng_free(e);
}

/* A SYN-ACK that left within a millisecond's fraction goes again with the next whole one, never before its time. */
static void deadlines_are_whole_milliseconds(void **state)
{
    struct eng *e = eng_new(8, 64);
    struct tcp_info i;

    (void)state;
    e->now += 300 * NSEC_PER_USEC;
    put(e, syn(4000));
    assert_int_equal(reply(e), TCP_SYN | TCP_ACK);
    assert_int_equal(tcp_deadline(e->t), e->now + 1000700 * NSEC_PER_USEC);
    e->now += 250 * NSEC_PER_USEC;
    assert_int_equal(tcp_get_info(e->t, tcp_next_id(e->t, 0), e->now, &i), 0);
    assert_int_equal(i.age, 250);
    put(e, ack_of(e, 4000)); /* the RTT sample is of microseconds still */
    assert_int_equal(tcp_get_info(e->t, tcp_next_id(e->t, 0), e->now, &i), 0);
    assert_int_equal(i.rtt, 250);
    eng_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synack_offers_what_was_offered),
        cmocka_unit_test(synack_goes_again_with_backoff),
        cmocka_unit_test(repeated_syn_is_answered_at_a_limited_rate),
        cmocka_unit_test(completing_ack_makes_a_connection),
        cmocka_unit_test(full_accept_queue_keeps_the_entry),
        cmocka_unit_test(overflow_may_abort),
        cmocka_unit_test(bad_segments_for_an_entry),
        cmocka_unit_test(a_flood_is_bounded_and_passes),
        cmocka_unit_test(closing_the_listener_drops_entries),
        cmocka_unit_test(rst_has_the_numbers_of_the_rfc),
        cmocka_unit_test(reply_ring_is_bounded),
        cmocka_unit_test(challenge_acks_are_limited),
        cmocka_unit_test(time_wait_keeps_the_id_and_ends),
        cmocka_unit_test(time_wait_answers_the_fin_again),
        cmocka_unit_test(time_wait_and_rst),
        cmocka_unit_test(newer_syn_takes_over),
        cmocka_unit_test(time_wait_is_bounded),
        cmocka_unit_test(time_wait_makes_room),
        cmocka_unit_test(time_wait_marks),
        cmocka_unit_test(deadlines_are_whole_milliseconds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
