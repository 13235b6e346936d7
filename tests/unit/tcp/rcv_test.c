/*
 * tests/unit/tcp/rcv_test.c: the receiving half of a connection block without a sender: data goes in by tcp_data_in(),
 * the test plays output.c (takes owed ACKs, chooses the window). After every step: advertised window = enforced window,
 * never moved back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "../coverage.h"
#include "tcp/tcp_priv.h"

#define ARENA (1024u * CHUNK_BIG_BYTES)
#define MSS 1448u

struct rx {
    struct tcp_config config;
    uint8_t *arena;
    struct chunk_pool *pool;
    struct tcp *t;
    struct tcp_conn *c;
    uint64_t now;
    uint32_t edge; /* right edge announced */
    struct tcp_ack_fact ack[256];
    struct tcp_options opt; /* of the last ACK */
    unsigned acks;
};

static struct rx *rx_new(void)
{
    struct rx *x = calloc(1, sizeof *x);
    struct tcp_params p = {.now = 1000 * NSEC_PER_SEC, .max_conns = 4, .max_half_open = 4, .max_time_wait = 4};
    struct tcp_conn *c;

    tcp_config_defaults(&x->config);
    x->arena = aligned_alloc(4096, ARENA);
    x->pool = chunk_pool_create(x->arena, ARENA);
    x->now = p.now;
    p.config = &x->config;
    p.pool = x->pool;
    x->t = tcp_create(&p);
    assert_non_null(x->t);
    c = x->c = tcp_conn_new(x->t, x->now);
    c->owned = true;
    c->tuple = (struct ip_tuple){.local = ip_addr_v4(10, 0, 0, 1), .remote = ip_addr_v4(10, 0, 0, 2), .local_port = 80,
                                 .remote_port = 9};
    c->id = tcp_table_enter(x->t, TCP_KIND_CONN, c, &c->tuple);
    c->irs = UINT32_MAX - 50000;
    c->rcv_nxt = c->copied_seq = c->irs + 1;
    c->advmss = 1460;
    c->mss = MSS;
    c->pmtu = 1500;
    c->path.mtu = 1500;
    c->sack_ok = c->wscale_ok = true;
    tcp_rcv_init(x->t, c, MSS, true);
    tcp_set_state(x->t, c, TCP_STATE_ESTABLISHED, x->now);
    tcp_rcv_established(x->t, c, x->now);
    x->edge = c->rcv_wup + c->rcv_wnd;
    return x;
}

static void rx_free(struct rx *x)
{
    coverage_tcp(x->t);
    tcp_destroy(x->t);
    assert_int_equal(chunk_pool_used_bytes(x->pool), 0);
    chunk_pool_destroy(x->pool);
    free(x->arena);
    free(x);
}

static uint32_t base(const struct rx *x)
{
    return x->c->irs + 1;
}

static void rx_check(const struct rx *x)
{
    const struct tcp_conn *c = x->c;
    const char *bad = tcp_rcvq_check(&c->rcvq, c->rcv_nxt);

    if (!bad)
        bad = tcp_ackowed_check(&c->ackowed);
    if (bad)
        fail_msg("%s", bad);
    assert_int_equal(c->copied_seq + c->rcvq.bytes + (c->fin_received ? 1 : 0), c->rcv_nxt);
    assert_int_equal(c->rcv_wup + c->rcv_wnd, x->edge);
    assert_true(seq_leq(c->rcv_nxt, x->edge + 1));
}

/* Data at an offset from the first byte, in chunks as from the device: one for each segment's worth. */
static void in_flags(struct rx *x, uint32_t off, uint32_t len, unsigned flags, uint16_t gso)
{
    struct tcp_seg seg = {.seq = base(x) + off, .len = len, .flags = (uint16_t)(TCP_ACK | flags), .gso_size = gso};
    uint32_t done = 0;

    while (done < len) {
        uint32_t left = len - done, size = left > 1900 ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES;
        struct chunk *k = chunk_alloc(x->pool, size);
        uint32_t n = left < size - 66 ? left : size - 66;

        assert_non_null(k);
        for (uint32_t i = 0; i < n; i++)
            k->data[66 + i] = (uint8_t)(off + done + i);
        seg.slice[seg.n_slices++] = (struct tcp_slice){.data = k->data + 66, .len = n, .chunk = k};
        done += n;
    }
    tcp_data_in(x->t, x->c, &seg, x->now);
    for (unsigned i = 0; i < seg.n_slices; i++)
        chunk_unref(x->pool, seg.slice[i].chunk);
    rx_check(x);
}

static void data(struct rx *x, uint32_t off, uint32_t len)
{
    in_flags(x, off, len, 0, 0);
}

/* Plays output.c: sends every ACK owed. Their number. */
static unsigned acks(struct rx *x)
{
    struct tcp_conn *c = x->c;

    x->acks = 0;
    while (tcp_ack_owed(c)) {
        struct tcp_ack_fact f;
        uint32_t edge;

        assert_true(tcp_ack_take(c, &f));
        x->ack[x->acks++] = f;
        memset(&x->opt, 0, sizeof x->opt);
        if (f.dsack)
            x->opt.sack[x->opt.sack_count++] = f.dsack_block;
        tcp_sack_blocks(c, &x->opt, 3);
        edge = c->rcv_nxt + tcp_select_window(x->t, c);
        assert_true(seq_geq(edge, x->edge) || x->c->rcv_wnd == 0);
        assert_true((c->rcv_wnd & ((1u << c->rcv_wscale) - 1)) == 0 || c->rcv_wscale == 0);
        x->edge = edge;
        tcp_ack_sent(x->t, c, x->now);
        rx_check(x);
    }
    return x->acks;
}

static void consume(struct rx *x, uint32_t bytes)
{
    struct tcp_conn *c = x->c;

    while (bytes) {
        struct tcp_iov iov;
        uint32_t n;

        assert_int_equal(tcp_rcvq_peek(&c->rcvq, 0, &iov, 1), 1);
        n = iov.len < bytes ? (uint32_t)iov.len : bytes;
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(iov.data[i], (uint8_t)(c->copied_seq - base(x) + i));
        tcp_rcvq_consume(&c->rcvq, x->t->pool, n);
        c->copied_seq += n;
        bytes -= n;
    }
    tcp_rcv_read(x->t, c, 1, x->now);
    rx_check(x);
}

static void pass(struct rx *x, uint64_t ms)
{
    x->now += ms * NSEC_PER_MSEC;
    if (x->c->timer_at[TCP_TIMER_DELACK] <= x->now)
        tcp_delack_timeout(x->t, x->c, x->now);
}

/* Uses up the credits for ACKs at once. */
static uint32_t no_quick(struct rx *x)
{
    uint32_t off = 0;

    for (unsigned i = 0; i < 40; i++, off += MSS) {
        data(x, off, MSS);
        acks(x);
        consume(x, MSS);
        acks(x);
    }
    x->c->rcvq.rcvbuf = 1 << 20; /* so that unread data leaves the window as it is */
    x->c->ackowed.quick = 0;
    return off;
}

/* ---- tests ---- */

static void first_window_is_linux(void **state)
{
    struct rx *x = rx_new();
    uint16_t wnd;
    uint8_t scale;

    (void)state;
    tcp_rcv_initial_window(x->t, 131072, 1460, true, &wnd, &scale);
    assert_int_equal(wnd, 64240);
    assert_int_equal(scale, 7);
    tcp_rcv_initial_window(x->t, 131072, 1460, false, &wnd, &scale);
    assert_int_equal(wnd, 64240);
    assert_int_equal(scale, 0);
    x->config.tcp_rmem_max = 4 << 20;
    tcp_rcv_initial_window(x->t, 131072, 1448, true, &wnd, &scale);
    assert_int_equal(wnd, 65160);
    assert_int_equal(scale, 7);
    rx_free(x);
}

static void first_segments_are_acked_at_once(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        data(x, i * MSS, MSS);
        assert_int_equal(acks(x), 1);
        assert_int_equal(x->ack[0].ack, base(x) + (i + 1) * MSS);
        assert_int_equal(x->ack[0].cause, TCP_CAUSE_ACK_QUICK);
    }
    rx_free(x);
}

static void in_order_burst_owes_one(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        data(x, i * MSS, MSS);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].ack, base(x) + 10 * MSS);
    rx_free(x);
}

static void later_every_second_one(void **state)
{
    struct rx *x = rx_new();
    uint32_t off = no_quick(x);

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        x->c->ackowed.quick = 0;
        data(x, off, MSS);
        off += MSS;
        assert_int_equal(acks(x), i & 1);
    }
    rx_free(x);
}

static void delayed_ack_after_40_ms(void **state)
{
    struct rx *x = rx_new();
    uint32_t off = no_quick(x);

    (void)state;
    x->c->ackowed.quick = 0;
    data(x, off, 100);
    assert_int_equal(acks(x), 0);
    assert_int_equal(x->c->timer_at[TCP_TIMER_DELACK], x->now + 40 * NSEC_PER_MSEC);
    pass(x, 39);
    assert_int_equal(acks(x), 0);
    pass(x, 1);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].cause, TCP_CAUSE_ACK_DELAYED);
    assert_int_equal(x->t->counters.delayed_acks, 1);
    assert_true(x->c->timer_at[TCP_TIMER_DELACK] == TIME_NEVER);
    rx_free(x);
}

static void a_super_frame_counts_its_segments(void **state)
{
    struct rx *x = rx_new();
    uint32_t off = no_quick(x);

    (void)state;
    x->c->ackowed.quick = 0;
    in_flags(x, off, 10 * MSS, TCP_PSH, MSS);
    assert_int_equal(x->c->rcv_mss, MSS);
    assert_int_equal(acks(x), 1);
    rx_free(x);
}

/* RFC 5681 section 4.2; the heart of fast retransmit after a burst. */
static void twenty_out_of_order_owe_twenty(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    for (uint32_t i = 1; i <= 20; i++)
        data(x, i * MSS, MSS);
    assert_int_equal(acks(x), 20);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(x->ack[i].ack, base(x));
        assert_int_equal(x->ack[i].cause, TCP_CAUSE_ACK_OUT_OF_ORDER);
    }
    assert_int_equal(x->opt.sack_count, 1);
    assert_int_equal(x->opt.sack[0].start, base(x) + MSS);
    assert_int_equal(x->opt.sack[0].end, base(x) + 21 * MSS);
    data(x, 0, MSS);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].ack, base(x) + 21 * MSS);
    assert_int_equal(x->opt.sack_count, 0);
    assert_int_equal(x->c->rcv_ooopack, 20);
    consume(x, 21 * MSS);
    rx_free(x);
}

/* A burst of both: the facts keep the ACK numbers that each had. */
static void facts_then_the_cumulative_ack(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    data(x, 2 * MSS, MSS);
    data(x, 0, MSS);
    data(x, MSS, MSS);
    assert_int_equal(acks(x), 3);
    assert_int_equal(x->ack[0].ack, base(x));
    assert_int_equal(x->ack[1].ack, base(x) + MSS);
    assert_int_equal(x->ack[2].ack, base(x) + 3 * MSS);
    rx_free(x);
}

static void old_data_is_reported_by_dsack(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    data(x, 0, 2 * MSS);
    acks(x);
    data(x, 0, MSS);
    assert_int_equal(acks(x), 1);
    assert_true(x->ack[0].dsack);
    assert_int_equal(x->ack[0].dsack_block.start, base(x));
    assert_int_equal(x->ack[0].dsack_block.end, base(x) + MSS);
    assert_int_equal(x->t->counters.dsack_old_sent, 1);
    assert_int_equal(x->c->drops[TCP_DROP_OLD_DATA], 1);
    /* part of it old: the rest is used, the block tells the old part */
    data(x, MSS, 2 * MSS);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].dsack_block.start, base(x) + MSS);
    assert_int_equal(x->ack[0].dsack_block.end, base(x) + 2 * MSS);
    assert_int_equal(x->ack[0].ack, base(x) + 3 * MSS);
    /* out of order twice: RFC 2883 section 4.1 with the range as second block */
    data(x, 5 * MSS, 2 * MSS);
    data(x, 5 * MSS, MSS);
    assert_int_equal(acks(x), 2);
    assert_true(x->ack[1].dsack);
    assert_int_equal(x->opt.sack_count, 2);
    assert_int_equal(x->opt.sack[0].end, base(x) + 6 * MSS);
    assert_int_equal(x->opt.sack[1].end, base(x) + 7 * MSS);
    assert_int_equal(x->t->counters.ofo_merge, 1);
    rx_free(x);
}

static void window_closes_and_opens(void **state)
{
    struct rx *x = rx_new();
    uint32_t off = 0;

    (void)state;
    x->c->rcvbuf_locked = true;
    for (unsigned i = 0; i < 200 && tcp_receive_window(x->c) > 0; i++) {
        uint32_t n = tcp_receive_window(x->c) < MSS ? tcp_receive_window(x->c) : MSS;

        data(x, off, n);
        off += n;
        pass(x, 200);
        acks(x);
    }
    assert_int_equal(tcp_receive_window(x->c), 0);
    assert_int_equal(x->c->rcvq.bytes, off);
    data(x, off, 1); /* a probe */
    assert_int_equal(x->c->drops[TCP_DROP_ZERO_WINDOW], 1);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].cause, TCP_CAUSE_ACK_WINDOW_PROBE);
    assert_int_equal(x->c->rcv_wnd, 0);
    assert_int_equal(x->t->counters.zero_window_adv, 1);
    consume(x, off);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].cause, TCP_CAUSE_ACK_WINDOW);
    assert_true(x->c->rcv_wnd > 20000);
    assert_int_equal(x->t->counters.from_zero_window_adv, 1);
    rx_free(x);
}

static void beyond_the_window_is_cut(void **state)
{
    struct rx *x = rx_new();
    uint32_t wnd = x->c->rcv_wnd;

    (void)state;
    data(x, wnd - 100, 300);
    assert_int_equal(x->c->drops[TCP_DROP_BEYOND_WINDOW], 1);
    assert_int_equal(x->c->rcvq.ooo_bytes, 100);
    assert_int_equal(acks(x), 1);
    rx_free(x);
}

static void fin_behind_a_hole(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    in_flags(x, MSS, MSS, TCP_FIN, 0);
    assert_int_equal(x->c->state, TCP_STATE_ESTABLISHED);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->opt.sack[0].end, base(x) + 2 * MSS + 1); /* with the FIN */
    data(x, 2 * MSS + 1, 10);
    assert_int_equal(x->c->drops[TCP_DROP_AFTER_FIN], 1);
    acks(x);
    data(x, 0, MSS);
    assert_int_equal(x->c->state, TCP_STATE_CLOSE_WAIT);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].ack, base(x) + 2 * MSS + 1);
    assert_int_equal(x->ack[0].cause, TCP_CAUSE_ACK_FIN);
    in_flags(x, MSS, MSS, TCP_FIN, 0); /* the FIN again */
    assert_int_equal(acks(x), 1);
    assert_true(x->ack[0].dsack);
    data(x, 2 * MSS + 1, 10);
    assert_int_equal(x->c->drops[TCP_DROP_AFTER_FIN], 2);
    rx_free(x);
}

static void shut_rd_discards(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    x->c->shutdown |= TCP_SHUT_RD;
    data(x, 0, 3 * MSS);
    assert_int_equal(x->c->rcvq.bytes, 0);
    assert_int_equal(x->c->rcvq.truesize, 0);
    assert_int_equal(acks(x), 1);
    assert_int_equal(x->ack[0].ack, base(x) + 3 * MSS);
    rx_free(x);
}

/* A program that reads as fast as data comes, 10 ms away, gets a larger buffer. */
static void autotuning_grows_the_buffer(void **state)
{
    struct rx *x = rx_new();
    uint32_t off = 0, first = x->c->rcvq.rcvbuf;

    (void)state;
    for (unsigned rtt = 0; rtt < 30; rtt++) {
        uint32_t wnd = tcp_receive_window(x->c);

        while (wnd >= MSS) {
            data(x, off, MSS);
            off += MSS;
            wnd -= MSS;
            consume(x, x->c->rcvq.bytes);
        }
        acks(x);
        x->now += 10 * NSEC_PER_MSEC;
    }
    assert_true(x->c->rcvq.rtt_us8 >> 3 >= 9000);
    assert_true(x->c->rcvq.rcvbuf > 4 * first);
    assert_true(x->c->rcvq.rcvbuf <= (uint32_t)x->config.tcp_rmem_max);
    assert_true(x->c->rcv_wnd > 500000);
    rx_free(x);
}

/* Without scaling: an empty buffer never offers nothing, though segments came that are larger than rcv_ssthresh. */
static void small_ssthresh_large_segments(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    x->c->rcv_wscale = 0;
    x->c->rcv_ssthresh = 4460;
    x->c->rcv_mss = 7152;
    x->c->rcv_wnd = 0;
    x->c->rcv_wup = x->c->rcv_nxt;
    assert_int_equal(tcp_wanted_window(x->t, x->c), 4460);
    rx_free(x);
}

/* One byte in every second place: the buffer, not the peer, decides how much is held. */
static void tiny_holes_are_bounded(void **state)
{
    struct rx *x = rx_new();

    (void)state;
    x->c->rcvbuf_locked = true;
    for (uint32_t i = 1; i < 20000; i++) {
        data(x, 2 * i, 1);
        if (i % 100 == 0)
            acks(x);
        assert_true(x->c->rcvq.truesize <= x->c->rcvq.rcvbuf + CHUNK_SMALL_BYTES);
    }
    /* What was told by SACK stays; what would come last does not get in. */
    assert_int_equal(x->t->counters.ofo_pruned, 0);
    assert_true(x->t->counters.ofo_drop > 0);
    data(x, 0, MSS); /* and what is in order still gets in, for which the last go */
    assert_true(seq_geq(x->c->rcv_nxt, base(x) + MSS));
    assert_true(x->t->counters.ofo_pruned > 0);
    rx_free(x);
}

/* The other way round, each nearer than all before: those make way, an eighth of the buffer at a time. */
static void tiny_holes_backwards_are_bounded(void **state)
{
    struct rx *x = rx_new();
    uint32_t far;

    (void)state;
    x->c->rcvbuf_locked = true;
    far = tcp_receive_window(x->c) / 2 * 2 - 2;
    for (uint32_t i = 0; i < far / 2; i++) {
        data(x, far - 2 * i, 1);
        if (i % 100 == 0)
            acks(x);
        assert_true(x->c->rcvq.truesize <= x->c->rcvq.rcvbuf + CHUNK_SMALL_BYTES);
    }
    assert_true(x->t->counters.ofo_pruned > 0);
    assert_true(x->t->counters.ofo_pruned <=
                1 + 8ull * (far / 2) * CHUNK_SMALL_BYTES / x->c->rcvq.rcvbuf); /* not once for each */
    data(x, 0, 1);
    assert_int_equal(x->c->rcv_nxt, base(x) + 1);
    rx_free(x);
}

static void random_traffic_keeps_the_invariants(void **state)
{
    uint64_t seed = 4711;
    struct rng r;
    struct rx *x = rx_new();

    (void)state;
    printf("seed %llu\n", (unsigned long long)seed);
    rng_seed(&r, seed);
    for (unsigned i = 0; i < 6000; i++) {
        uint32_t at = x->c->rcv_nxt - base(x), len = 1 + (uint32_t)rng_below(&r, rng_below(&r, 9) ? 1460 : 30000);
        uint32_t back = at > 3000 ? 3000 : at;

        switch (rng_below(&r, 4)) {
        case 0:
            at = at - back + (uint32_t)rng_below(&r, 2 * back + 1);
            break;
        case 1:
            at += (uint32_t)rng_below(&r, 80000);
            break;
        default:
            break;
        }
        data(x, at, len);
        x->now += rng_below(&r, 2 * NSEC_PER_MSEC);
        pass(x, 0);
        if (rng_below(&r, 3))
            acks(x);
        if (rng_below(&r, 3) == 0 && x->c->rcvq.bytes)
            consume(x, 1 + (uint32_t)rng_below(&r, x->c->rcvq.bytes));
    }
    rx_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_window_is_linux),
        cmocka_unit_test(first_segments_are_acked_at_once),
        cmocka_unit_test(in_order_burst_owes_one),
        cmocka_unit_test(later_every_second_one),
        cmocka_unit_test(delayed_ack_after_40_ms),
        cmocka_unit_test(a_super_frame_counts_its_segments),
        cmocka_unit_test(twenty_out_of_order_owe_twenty),
        cmocka_unit_test(facts_then_the_cumulative_ack),
        cmocka_unit_test(old_data_is_reported_by_dsack),
        cmocka_unit_test(window_closes_and_opens),
        cmocka_unit_test(beyond_the_window_is_cut),
        cmocka_unit_test(fin_behind_a_hole),
        cmocka_unit_test(shut_rd_discards),
        cmocka_unit_test(autotuning_grows_the_buffer),
        cmocka_unit_test(small_ssthresh_large_segments),
        cmocka_unit_test(tiny_holes_are_bounded),
        cmocka_unit_test(tiny_holes_backwards_are_bounded),
        cmocka_unit_test(random_traffic_keeps_the_invariants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
