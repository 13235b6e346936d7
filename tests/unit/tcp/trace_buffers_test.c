/*
 * Buffers and budgets, as traces: what grows with the path, what shrinks when the engine's memory runs short, and that
 * the window that was announced holds whatever happens to it.
 */
#include "harness.h"

#include <stdio.h>

#define SHORT_OF (96u * CHUNK_BIG_BYTES) /* an arena that a few connections fill */

static const struct tcp_counters *count(const struct harness *h)
{
    return tcp_get_counters(h->t);
}

static void in_f(struct harness *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void in_f(struct harness *h, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    in(h, text);
}

/* Data that nobody reads, as much as the window takes; false once something was refused. */
static bool fill_by(struct harness *h, unsigned segs, unsigned bytes)
{
    for (unsigned k = 0; k < segs; k++) {
        struct tcp_info i = h_info(h);
        uint32_t seq = i.rcv_nxt - i.irs;
        uint64_t refused = h_drops(h, TCP_DROP_RCVBUF);

        if (i.rcv_open < bytes)
            return true;
        in_f(h, ". %u:%u(%u) ack 1 win 65535", seq, seq + bytes, bytes);
        skip_out(h);
        if (h_drops(h, TCP_DROP_RCVBUF) != refused)
            return false;
    }
    return true;
}

static bool fill(struct harness *h, unsigned segs)
{
    return fill_by(h, segs, 1000);
}

static struct harness *short_of_memory(void)
{
    struct harness *h = h_new_args(&(struct h_args){.arena_bytes = SHORT_OF});

    h_listen(h, 64);
    return h;
}

/* Connections that nobody reads, until memory is short; how many. */
static unsigned until_pressure(struct harness *h)
{
    unsigned flows = 0;

    while (chunk_pool_used_bytes(h->pool) <= SHORT_OF - SHORT_OF / 8 && flows < 60) {
        flow(h, (int)flows++);
        h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
        (void)fill(h, 30);
    }
    assert_true(flows > 1 && flows < 60);
    return flows;
}

/*
 * Under pressure a half-full buffer offers four segments, and the window does not grow (tcp_select_window,
 * tcp_grow_window); when memory is free again it does.
 */
static void pressure_lowers_windows(void **st)
{
    struct harness *h = short_of_memory();
    unsigned flows = until_pressure(h);
    uint32_t low;

    (void)st;
    flow(h, (int)flows - 1);
    (void)fill(h, 4);
    low = h_info(h).rcv_ssthresh;
    assert_true(low <= 4u * h_info(h).advmss);
    for (unsigned k = 0; k + 1 < flows; k++) {
        flow(h, (int)k);
        (void)h_recv(h, 10000000);
        skip_out(h);
    }
    flow(h, (int)flows - 1);
    (void)h_recv(h, 10000000);
    skip_out(h);
    for (unsigned k = 0; k < 4; k++) {
        (void)fill(h, 2);
        (void)h_recv(h, 10000000);
        skip_out(h);
    }
    assert_true(h_info(h).rcv_ssthresh > low);
    h_free(h);
}

/* The send buffer does not grow either. */
static void pressure_keeps_send_buffers(void **st)
{
    struct harness *h = short_of_memory();
    uint32_t before;

    (void)st;
    (void)until_pressure(h);
    before = h_info(h).sndbuf;
    for (unsigned k = 0; k < 150; k++) {
        uint32_t una = h_info(h).snd_una - h_info(h).iss;

        while (h_send(h, 100000) > 0)
            skip_out(h);
        skip_out(h);
        in_f(h, ". %u:%u(0) ack %u win 65535", h_info(h).rcv_nxt - h_info(h).irs, h_info(h).rcv_nxt - h_info(h).irs,
             una + 1000);
        skip_out(h);
    }
    assert_true(h_info(h).snd_cwnd > h_info(h).unacked); /* the buffer is what limits */
    assert_int_equal(h_info(h).sndbuf, before);
    h_free(h);
}

/* Tiny segments that leave holes: each costs a chunk. */
static void holes(struct harness *h, unsigned from, unsigned n)
{
    for (unsigned at = from; at < from + n * 400; at += 400) {
        in_f(h, ". %u:%u(100) ack 1 win 65535", at, at + 100);
        skip_out(h);
    }
}

/*
 * A buffer full of overhead grows to what it holds, and to tcp_rmem[2] at most; not one that the program has set, and
 * none while memory is short: then the window comes down to two segments (tcp_clamp_window).
 */
static void full_buffers_grow_unless_memory_is_short(void **st)
{
    enum how { FREE, LOCKED, SHORT, LIMITED, HOWS };

    (void)st;
    for (enum how how = 0; how < HOWS; how++) {
        struct harness *h = how == SHORT ? short_of_memory() : h_new();
        struct tcp_info i;
        uint32_t first, from;

        if (how == SHORT) {
            flow(h, (int)until_pressure(h));
        } else {
            h_listen(h, 4);
        }
        h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
        if (how == LOCKED)
            expect(h, h_opt(h, TCP_OPT_RCVBUF, 65536), 0);
        if (how == LIMITED)
            h->cfg.tcp_rmem_max = 140000;
        first = h_info(h).rcvbuf;
        assert_int_equal(first, 131072);
        from = h_info(h).rcv_nxt - h_info(h).irs + 1000;
        holes(h, from, 80); /* 80 chunks of 2048 bytes; one may be over before the next is refused */
        i = h_info(h);
        assert_int_equal(i.rcvbuf, how == FREE ? 79 * 2048 : how == LIMITED ? 140000 : first);
        assert_int_equal(i.rcvbuf_used, (how == FREE ? 80 : i.rcvbuf / 2048 + 1) * 2048);
        assert_int_equal(i.rcv_ssthresh, how == FREE ? 65536 - 1460 : 2 * 1460);
        assert_int_equal(i.ooo_bytes, i.rcvbuf_used / 2048 * 100);
        assert_int_equal(count(h)->rcv_pruned, 80 - i.rcvbuf_used / 2048);
        assert_int_equal(count(h)->ofo_drop, 80 - i.rcvbuf_used / 2048);
        assert_int_equal(h_drops(h, TCP_DROP_RCVBUF), 80 - i.rcvbuf_used / 2048);
        assert_int_equal(count(h)->ofo_queue, i.rcvbuf_used / 2048);
        h_free(h);
    }
}

/* What comes in order opens the window further, but under pressure it comes down to four segments (tcp_grow_window). */
static void pressure_keeps_windows_from_growing(void **st)
{
    (void)st;
    for (int is_short = 0; is_short < 2; is_short++) {
        struct harness *h = is_short ? short_of_memory() : h_new();

        if (is_short)
            flow(h, (int)until_pressure(h));
        else
            h_listen(h, 4);
        h->path.initrwnd = 10; /* so that there is something to grow to */
        h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
        assert_int_equal(h_info(h).rcv_ssthresh, 14600);
        in(h, ". 1:1001(1000) ack 1 win 65535");
        skip_out(h);
        expect(h, h_recv(h, 1000), 1000);
        skip_out(h);
        if (is_short)
            assert_int_equal(h_info(h).rcv_ssthresh, 4 * 1460);
        else
            assert_true(h_info(h).rcv_ssthresh >= 14600 + 2000);
        h_free(h);
    }
}

/*
 * Not one buffer but the whole budget is spent: a connection's out-of-order data makes way for its data in order; one
 * that has none is refused, and its window closes (tcp_try_rmem_schedule, ICSK_ACK_NOMEM).
 */
static void budget_is_spent(void **st)
{
    struct harness *h = short_of_memory();
    unsigned flows;
    uint64_t pruned;

    (void)st;
    h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
    holes(h, 2001, 40);
    for (flows = 1; flows < 60; flows++) {
        flow(h, (int)flows);
        h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
        if (!fill_by(h, 120, 500)) /* small ones are copied: the wire needs no chunk */
            break;
    }
    assert_in_range(flows, 2, 59);
    assert_true(h_drops(h, TCP_DROP_RCVBUF) > 0);
    assert_int_equal(h_info(h).rcv_wnd, 0); /* of the one that was refused */
    assert_true(h_info(h).rcvbuf_used < h_info(h).rcvbuf);
    assert_in_range(chunk_pool_used_bytes(h->pool), SHORT_OF - SHORT_OF / 16 + 1, SHORT_OF - SHORT_OF / 16 + 4096);
    assert_int_equal(count(h)->ofo_pruned, 0);

    /* What is left is for those that hold little (tcp_rmem_min, tcp_wmem_min): messages both ways. */
    flow(h, (int)flows + 1);
    h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
    in(h, ". 1:501(500) ack 1 win 65535");
    assert_int_equal(h_info(h).rcv_nxt - h_info(h).irs, 501);
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    in(h, ". 501:1501(1000) ack 1 win 65535");
    in(h, ". 1501:2501(1000) ack 1 win 65535");
    in(h, ". 2501:3501(1000) ack 1 win 65535");
    assert_int_equal(h_info(h).rcv_nxt - h_info(h).irs, 2501); /* a third chunk would be more than that */
    skip_out(h);

    flow(h, 0);
    assert_int_equal(h_info(h).ooo_bytes, 4000);
    assert_true(h_info(h).rcvbuf_used < h_info(h).rcvbuf);
    pruned = h_drops(h, TCP_DROP_OOO_PRUNED);
    in(h, ". 1:501(500) ack 1 win 65535");
    skip_out(h);
    assert_int_equal(h_info(h).rcv_nxt - h_info(h).irs, 501);
    assert_true(h_info(h).ooo_bytes > 0 && h_info(h).ooo_bytes < 4000);
    assert_int_equal(count(h)->ofo_pruned, 1);
    assert_int_equal(h_drops(h, TCP_DROP_OOO_PRUNED), pruned + 1);
    h_free(h);
}

/* Out-of-order data goes first when data in order finds no room, and what goes is counted. */
static void out_of_order_data_makes_way(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);
    unsigned at;

    (void)st;
    expect(h, h_opt(h, TCP_OPT_RCVBUF, 20000), 0);
    in(h, ". 1:1001(1000) ack 1 win 65535");
    skip_out(h);
    for (at = 3001; at < 60000; at += 2000) { /* each alone: a chunk of its own */
        in_f(h, ". %u:%u(100) ack 1 win 65535", at, at + 100);
        skip_out(h);
    }
    assert_true(h_info(h).ooo_bytes > 0);
    for (at = 1001; at < 3001; at += 1000) {
        in_f(h, ". %u:%u(1000) ack 1 win 65535", at, at + 1000);
        skip_out(h);
    }
    assert_true(count(h)->ofo_pruned > 0 || count(h)->ofo_drop > 0);
    assert_int_equal(h_info(h).rcv_nxt - h_info(h).irs, 3101); /* all in order got in, and joined the nearest */
    h_free(h);
}

/* SO_SNDBUF grows with cwnd, so that a path is filled; not one that the program has set, nor when memory is short. */
static void send_buffer_grows_with_cwnd(void **st)
{
    for (int locked = 0; locked < 2; locked++) {
        struct harness *h = h_passive("mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
        uint32_t first, acked = 0;

        (void)st;
        if (locked)
            expect(h, h_opt(h, TCP_OPT_SNDBUF, 20000), 0);
        first = h_info(h).sndbuf;
        for (unsigned round = 0; round < 7; round++) {
            while (h_send(h, 100000) > 0)
                skip_out(h);
            skip_out(h);
            while (h_info(h).unacked) {
                acked = h_info(h).snd_una - h_info(h).iss + 1000;
                in_f(h, ". 1:1(0) ack %u win 65535", acked);
                skip_out(h);
                if (round < 6)
                    (void)h_send(h, 100000);
                skip_out(h);
                if (acked > 2000000)
                    break;
            }
        }
        if (locked)
            assert_int_equal(h_info(h).sndbuf, first);
        else
            assert_true(h_info(h).sndbuf >= 2 * first);
        assert_true(h_info(h).sndbuf <= (uint32_t)h->cfg.tcp_wmem_max);
        h_free(h);
    }
}

/* The program lowers the clamp, or the buffer: what was announced is still taken, to the last byte, and no more. */
static void announced_is_enforced(void **st)
{
    for (int how = 0; how < 2; how++) {
        struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);
        uint32_t open = h_info(h).rcv_open, edge = 1 + open, seq = 1;

        (void)st;
        in(h, ". 1:1001(1000) ack 1 win 65535");
        skip_out(h);
        seq = 1001;
        edge = h_info(h).rcv_nxt - h_info(h).irs + h_info(h).rcv_open;
        if (how == 0)
            expect(h, h_opt(h, TCP_OPT_WINDOW_CLAMP, 4096), 0);
        else
            expect(h, h_opt(h, TCP_OPT_RCVBUF, 40000), 0);
        while (seq < edge) {
            uint32_t n = edge - seq < 1000 ? edge - seq : 1000;

            in_f(h, ". %u:%u(%u) ack 1 win 65535", seq, seq + n, n);
            skip_out(h);
            seq += n;
            assert_int_equal(h_info(h).rcv_nxt - h_info(h).irs, seq);
            assert_true(h_info(h).rcv_nxt - h_info(h).irs + h_info(h).rcv_open >= edge); /* never back */
            (void)h_recv(h, 1000000);
            skip_out(h);
            if (h_info(h).rcv_nxt - h_info(h).irs + h_info(h).rcv_open > edge)
                edge = h_info(h).rcv_nxt - h_info(h).irs + h_info(h).rcv_open;
            if (seq > 200000)
                break;
        }
        h_free(h);
    }
}

/* Of the route: how much goes first, and how much may come first (initcwnd, initrwnd). */
static void first_flights_of_the_route(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->path.initcwnd = 3;
    h->path.initrwnd = 4;
    h_listen(h, 4);
    h_passive_on(h, "mss 1000", 65535);
    assert_int_equal(h_info(h).rcv_open, 4 * 1460);
    expect(h, h_send(h, 10000), 10000);
    assert_int_equal(h_pending(h), 3);
    skip_out(h);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pressure_lowers_windows),      cmocka_unit_test(pressure_keeps_send_buffers),
        cmocka_unit_test(full_buffers_grow_unless_memory_is_short),
        cmocka_unit_test(pressure_keeps_windows_from_growing),
        cmocka_unit_test(budget_is_spent),
        cmocka_unit_test(out_of_order_data_makes_way),  cmocka_unit_test(send_buffer_grows_with_cwnd),
        cmocka_unit_test(announced_is_enforced),        cmocka_unit_test(first_flights_of_the_route),
    };

    return cmocka_run_group_tests_name("trace_buffers", tests, NULL, NULL);
}
