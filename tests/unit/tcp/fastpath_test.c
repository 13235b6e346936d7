/*
 * tests/unit/tcp/fastpath_test.c: header prediction changes nothing. Two engines get the same random stream of segments,
 * sends, reads and time, one with the fast path and one without; after every step their connection records must be
 * equal byte for byte, and so must every segment that leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tcp/tcp_priv.h"
#include "tcp/tcp_record.h"

#define ARENA (64u * CHUNK_BIG_BYTES)
#define STEPS 400
#define SEEDS 1000

struct side {
    struct tcp_config config;
    uint8_t *arena;
    struct chunk_pool *pool;
    struct tcp *t;
    tcp_id id;
    uint32_t iss;
};

static const struct ip_tuple tuple = {.local = {.b = {10, 0, 0, 1}, .family = IP_V4},
                                      .remote = {.b = {10, 0, 0, 2}, .family = IP_V4},
                                      .local_port = 80,
                                      .remote_port = 4000};
static const struct tcp_path path = {.mtu = 1500};
static uint8_t bytes[65536];

static void side_new(struct side *s, bool slow, uint64_t now)
{
    struct tcp_params p = {
        .now = now, .max_conns = 4, .max_half_open = 4, .max_time_wait = 4, .check = true, .secrets = {.isn = {1, 2}}};

    memset(s, 0, sizeof *s);
    tcp_config_defaults(&s->config);
    s->arena = aligned_alloc(4096, ARENA);
    s->pool = chunk_pool_create(s->arena, ARENA);
    p.config = &s->config;
    p.pool = s->pool;
    s->t = tcp_create(&p);
    assert_non_null(s->t);
    s->t->no_fast_path = slow;
    tcp_set_gso_max(s->t, 65536);
}

static void side_free(struct side *s)
{
    tcp_destroy(s->t);
    chunk_pool_destroy(s->pool);
    free(s->arena);
}

static bool same_segment(const struct tcp_out *a, const struct tcp_out *b)
{
    return a->cause == b->cause && a->seg.seq == b->seg.seq && a->seg.ack == b->seg.ack && a->seg.wnd == b->seg.wnd &&
           a->seg.flags == b->seg.flags && a->seg.len == b->seg.len && a->seg.gso_size == b->seg.gso_size &&
           memcmp(&a->seg.opt, &b->seg.opt, sizeof a->seg.opt) == 0;
}

static bool next(struct side *s, uint64_t now, struct tcp_out *out)
{
    memset(out, 0, sizeof *out);
    if (tcp_next_reply(s->t, now, out))
        return true;
    while (tcp_next_ready(s->t, out))
        if (tcp_output(s->t, out->id, now, out))
            return true;
    return false;
}

static void compare(struct side *a, struct side *b, uint64_t now, uint64_t seed, int step)
{
    struct tcp_record ra, rb;
    struct tcp_event ea, eb;
    struct tcp_out oa, ob;

    for (;;) {
        bool more_a = next(a, now, &oa), more_b = next(b, now, &ob);

        if (more_a != more_b || (more_a && !same_segment(&oa, &ob)))
            fail_msg("seed %llu step %d: another segment", (unsigned long long)seed, step);
        if (!more_a)
            break;
    }
    for (;;) {
        bool more_a = tcp_next_event(a->t, &ea), more_b = tcp_next_event(b->t, &eb);

        if (more_a != more_b || (more_a && (ea.bits != eb.bits || ea.state != eb.state || ea.error != eb.error)))
            fail_msg("seed %llu step %d: another event", (unsigned long long)seed, step);
        if (!more_a)
            break;
    }
    if (tcp_record_save(a->t, a->id, &ra) != tcp_record_save(b->t, b->id, &rb))
        fail_msg("seed %llu step %d: only one lives", (unsigned long long)seed, step);
    if (tcp_conn_by_id(a->t, a->id) && memcmp(&ra, &rb, sizeof ra)) {
        char ta[8192], tb[8192];

        tcp_record_dump(&ra, ta, sizeof ta);
        tcp_record_dump(&rb, tb, sizeof tb);
        fail_msg("seed %llu step %d: records differ\n%s\n%s", (unsigned long long)seed, step, ta, tb);
    }
    if (tcp_deadline(a->t) != tcp_deadline(b->t))
        fail_msg("seed %llu step %d: another deadline", (unsigned long long)seed, step);
}

/* What a record leaves out: timers, ACKs owed, the sent queue's counts, the receive queue's autotuning. */
static void compare_rest(const struct side *a, const struct side *b, uint64_t seed, int step)
{
    const struct tcp_conn *x = tcp_conn_by_id(a->t, a->id), *y = tcp_conn_by_id(b->t, b->id);

    if (!x || !y)
        return;
    if (memcmp(x->timer_at, y->timer_at, sizeof x->timer_at) || x->ackowed.pending != y->ackowed.pending ||
        x->ackowed.ato_ms != y->ackowed.ato_ms || x->ackowed.quick != y->ackowed.quick ||
        x->ackowed.pingpong != y->ackowed.pingpong || x->ackowed.fact_count != y->ackowed.fact_count ||
        x->sndq.packets_out != y->sndq.packets_out || x->sndq.lost_out != y->sndq.lost_out ||
        x->sndq.retrans_out != y->sndq.retrans_out || x->sndq.sacked_out != y->sndq.sacked_out ||
        x->ca_state != y->ca_state || x->high_seq != y->high_seq || x->undo_marker != y->undo_marker ||
        x->pacing_next_at != y->pacing_next_at || x->tso_deferred != y->tso_deferred ||
        x->rcvq.rtt_us8 != y->rcvq.rtt_us8 || x->rcvq.rtt_last_tsecr != y->rcvq.rtt_last_tsecr ||
        x->rcvq.truesize != y->rcvq.truesize || memcmp(x->causes, y->causes, sizeof x->causes) ||
        memcmp(x->drops, y->drops, sizeof x->drops))
        fail_msg("seed %llu step %d: hidden state differs", (unsigned long long)seed, step);
}

static void both_in(struct side *a, struct side *b, const struct tcp_seg *seg, uint64_t now)
{
    tcp_input(a->t, seg, &path, now);
    tcp_input(b->t, seg, &path, now);
}

static struct tcp_seg segment(unsigned flags, uint32_t seq, uint32_t ack, uint32_t len, uint16_t wnd)
{
    struct tcp_seg s = {.src = tuple.remote, .dst = tuple.local, .src_port = tuple.remote_port, .dst_port = tuple.local_port};

    s.flags = (uint16_t)flags;
    s.seq = seq;
    s.ack = ack;
    s.len = len;
    s.wnd = wnd;
    s.n_slices = len ? 1 : 0;
    s.slice[0] = (struct tcp_slice){.data = bytes, .len = len};
    return s;
}

static void put_ts(struct tcp_seg *s, bool ts, uint64_t now, uint32_t tsecr)
{
    s->opt.timestamps_ok = ts;
    s->opt.tsval = (uint32_t)(now / NSEC_PER_MSEC) + 77;
    s->opt.tsecr = tsecr;
}

/* A random segment of the peer: mostly the expected one. */
static struct tcp_seg random_segment(struct rng *rng, const struct tcp_conn *c, bool ts, uint64_t now)
{
    uint32_t dice = (uint32_t)rng_below(rng, 100), flight = c->snd_nxt - c->snd_una;
    uint32_t ack = c->snd_una + (flight ? (uint32_t)rng_below(rng, flight + 1) : 0), seq = c->rcv_nxt;
    uint32_t len = dice < 55 ? 1 + (uint32_t)rng_below(rng, 2900) : 0;
    uint16_t wnd = (uint16_t)(c->snd_wnd >> c->snd_wscale);
    struct tcp_seg s;

    if (dice % 7 == 0)
        wnd = (uint16_t)rng_below(rng, 2000);
    if (dice % 3)
        ack = dice % 2 ? c->snd_una : c->snd_nxt;
    if (dice > 90)
        seq += (uint32_t)rng_below(rng, 4000) - 1000;
    s = segment(TCP_ACK | (dice & 1 ? TCP_PSH : 0u), seq, ack, len, wnd);
    if (len > 1448)
        s.gso_size = 1448;
    put_ts(&s, ts, now, tcp_ts_clock(now, c->ts_offset) - (uint32_t)rng_below(rng, 5));
    if (dice == 97)
        s.opt.tsval -= 1000;
    if (dice == 98)
        s.flags |= TCP_URG, s.urg_ptr = 1;
    if (c->sack_ok && flight > 3000 && dice > 70 && dice < 76) {
        s.ack = c->snd_una;
        s.opt.sack_count = 1;
        s.opt.sack[0] = (struct tcp_sack_block){c->snd_una + 1448, c->snd_una + 2896};
    }
    return s;
}

static void establish(struct side *a, struct side *b, bool ts, uint64_t now)
{
    struct tcp_connect_args args = {.tuple = tuple, .path = path};
    struct tcp_seg s;

    assert_int_equal(tcp_connect(a->t, &args, now, &a->id), 0);
    assert_int_equal(tcp_connect(b->t, &args, now, &b->id), 0);
    compare(a, b, now, 0, -2);
    a->iss = tcp_conn_by_id(a->t, a->id)->iss;
    s = segment(TCP_SYN | TCP_ACK, 1000, a->iss + 1, 0, 60000);
    s.opt = (struct tcp_options){.mss_ok = true, .mss = 1460, .sack_permitted = true, .wscale_ok = true, .wscale = 3};
    put_ts(&s, ts, now, tcp_ts_clock(now, tcp_conn_by_id(a->t, a->id)->ts_offset));
    both_in(a, b, &s, now);
    compare(a, b, now, 0, -1);
}

static void one_step(struct rng *rng, struct side *a, struct side *b, bool ts, uint64_t *now)
{
    const struct tcp_conn *c = tcp_conn_by_id(a->t, a->id);
    uint32_t what = (uint32_t)rng_below(rng, 10), n = 1 + (uint32_t)rng_below(rng, rng_below(rng, 4) ? 6000 : 60000);

    if (what < 6) {
        struct tcp_seg s = random_segment(rng, c, ts, *now);

        both_in(a, b, &s, *now);
    } else if (what < 8) {
        assert_int_equal(tcp_send(a->t, a->id, bytes, n, 0, *now), tcp_send(b->t, b->id, bytes, n, 0, *now));
    } else if (what == 8) {
        tcp_recv_consume(a->t, a->id, n * 3, *now);
        tcp_recv_consume(b->t, b->id, n * 3, *now);
    } else {
        *now += rng_below(rng, rng_below(rng, 20) ? 5 * NSEC_PER_MSEC : 400 * NSEC_PER_MSEC);
        tcp_expire(a->t, *now);
        tcp_expire(b->t, *now);
    }
}

static void equal_both_ways(void **state)
{
    unsigned long long hits = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t now = 1000 * NSEC_PER_SEC;
        bool ts = seed % 2;
        struct side a, b;
        struct rng rng;

        rng_seed(&rng, seed);
        side_new(&a, false, now);
        side_new(&b, true, now);
        establish(&a, &b, ts, now);
        for (int i = 0; i < STEPS && tcp_conn_by_id(a.t, a.id)->state == TCP_STATE_ESTABLISHED; i++) {
            one_step(&rng, &a, &b, ts, &now);
            compare(&a, &b, now, seed, i);
            compare_rest(&a, &b, seed, i);
        }
        hits += a.t->counters.hp_hits;
        assert_int_equal(b.t->counters.hp_hits, 0);
        side_free(&a);
        side_free(&b);
    }
    print_message("seeds 1..%d: %llu segments on the fast path\n", SEEDS, hits);
    assert_true(hits > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_both_ways)};

    return cmocka_run_group_tests_name("fastpath", tests, NULL, NULL);
}
