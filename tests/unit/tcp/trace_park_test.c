/*
 * tcp/park.c: who is parked when, what wakes it, and that nobody can tell. (That whole runs come out the same with
 * everything parked at every commit: meson's suite "parked"; after a crash: restore_test.c.)
 */
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"

static bool no_memory;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
    return no_memory ? NULL : __real_malloc(bytes);
}

static struct harness *established(void)
{
    return h_passive("mss 1460,sackOK", 65535);
}

static uint32_t parked(struct harness *h)
{
    struct tcp_totals t;

    tcp_get_totals(h->t, &t);
    return t.parked;
}

/* What doesn't change by itself as time passes. */
static struct tcp_info lasting(struct harness *h)
{
    struct tcp_info i = h_info(h);

    i.last_data_sent = i.last_data_recv = i.last_ack_recv = 0;
    i.age = 0;
    return i;
}

/* A program reads what came, and answers. */
static void exchange(struct harness *h, unsigned n)
{
    char text[64];

    snprintf(text, sizeof text, "P. %u:%u(10) ack %u win 65535", 1 + n * 10, 11 + n * 10, 1 + n * 20);
    in(h, text);
    expect(h, h_recv(h, 10), 10);
    expect(h, h_send(h, 20), 20);
    skip_out(h);
    snprintf(text, sizeof text, ". %u:%u(0) ack %u win 65535", 11 + n * 10, 11 + n * 10, 21 + n * 20);
    in(h, text);
    skip_out(h);
}

/* Flow k, accepted, with one exchange behind it. */
static void exchanged(struct harness *h, int k, const char *syn)
{
    flow(h, k);
    in(h, syn);
    skip_out(h);
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    exchange(h, 0);
}

static void parks_and_wakes(void **st)
{
    struct harness *h = established();
    struct tcp_info before, after;

    (void)st;
    for (unsigned n = 0; n < 3; n++) {
        exchange(h, n);
        quiet(h, 900);
        expect(h, parked(h), 0);
        before = lasting(h);
        quiet(h, 1200);
        expect(h, parked(h), 1);
        after = lasting(h);
        assert_memory_equal(&before, &after, sizeof before);
        assert_true(tcp_deadline(h->t) == TIME_NEVER); /* and it asks for no wake-up */
        quiet(h, 3600000);
        expect(h, parked(h), 1);
    }
    expect(h, tcp_get_counters(h->t)->parked, 3);
    expect(h, tcp_get_counters(h->t)->woken, 2);
    in(h, "F. 31:31(0) ack 61 win 65535");
    out(h, ". 61:61(0) ack 32");
    quiet(h, 5000);
    expect(h, parked(h), 0); /* an end has come: the program has to see it */
    expect(h, h_close(h), 0);
    out(h, "F. 61:61(0) ack 32");
    in(h, ". 32:32(0) ack 62 win 65535");
    h_free(h);
}

static void never(void **st)
{
    struct harness *h = established();

    (void)st;
    h->cfg.tcp_park_after = 0;
    exchange(h, 0);
    pass_ms(h, 10000);
    expect(h, parked(h), 0);
    h_free(h);
}

static void unread(struct harness *h)
{
    in(h, "P. 1:11(10) ack 1 win 65535");
}

static void out_of_order(struct harness *h)
{
    in(h, ". 11:21(10) ack 1 win 65535");
}

static void in_flight(struct harness *h)
{
    expect(h, h_send(h, 100), 100);
}

static void unsent(struct harness *h)
{
    in(h, ". 1:1(0) ack 1 win 0");
    expect(h, h_send(h, 100), 100);
}

static void shut_down(struct harness *h)
{
    expect(h, h_shutdown(h), 0);
    skip_out(h);
    in(h, ". 1:1(0) ack 2 win 65535");
}

static void peer_closed(struct harness *h)
{
    in(h, "F. 1:1(0) ack 1 win 65535");
}

static void event_untaken(struct harness *h)
{
    h->hold_events = true;
    in(h, "P. 1:11(10) ack 1 win 65535");
    expect(h, h_recv(h, 10), 10);
}

/* Whatever is under way keeps it awake, for as long as it is. */
static void not_at_rest(void **st)
{
    static void (*const what[])(struct harness *) = {unread,    out_of_order, in_flight,    unsent,
                                                     shut_down, peer_closed,  event_untaken};

    (void)st;
    for (size_t i = 0; i < sizeof what / sizeof *what; i++) {
        struct harness *h = established();

        what[i](h);
        skip_out(h);
        pass_ms(h, 9000);
        skip_out(h);
        if (parked(h))
            fail_msg("case %zu is parked", i);
        h->hold_events = false;
        h_abort(h);
        skip_out(h);
        h_free(h);
    }
}

/* Nobody has accepted it yet. */
static void in_the_accept_queue(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 5);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <mss 1460>");
    in(h, ". 1:1(0) ack 1 win 65535");
    quiet(h, 5000);
    expect(h, parked(h), 0);
    h_accept(h);
    exchange(h, 0);
    quiet(h, 5000);
    expect(h, parked(h), 1);
    h_free(h);
}

/* Where more than tcp_park_warm have working memory, 5 ms are enough, but not none. */
static void crowd(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_park_warm = 3;
    h_listen(h, 100);
    for (int k = 0; k < 12; k++) {
        exchanged(h, k, "S 0:0(0) win 65535 <mss 1460>");
        if (k == 5)
            expect(h, parked(h), 0);
        if (k >= 5)
            pass_ms(h, 15);
    }
    assert_in_range(parked(h), 6, 9);
    for (int k = 0; k < 12; k++) { /* each goes on where it was */
        flow(h, k);
        exchange(h, 1);
    }
    h_free(h);
}

/* Looks don't wake; what changes something does. */
static void looks(void **st)
{
    struct harness *h = established();
    tcp_id id = h_id(h);
    struct tcp_connect_args again = {.tuple = h_flow(h)->tuple, .path = h->path};
    struct tcp_iov iov;
    int32_t value;
    bool eof = true;

    (void)st;
    exchange(h, 0);
    quiet(h, 3000);
    expect(h, tcp_get_opt(h->t, id, TCP_OPT_NODELAY, &value), 0);
    assert_string_equal(tcp_congestion_name(h->t, id), "reno");
    expect(h, tcp_recv_peek(h->t, id, &iov, 1, &eof), 0);
    assert_false(eof);
    assert_true(tcp_send_writable(h->t, id));
    tcp_path_mtu(h->t, id, 1500);
    assert_true(tcp_tuple_in_use(h->t, &again.tuple, h->now));
    expect(h, tcp_connect(h->t, &again, h->now, &id), -EADDRINUSE);
    flush(h);
    expect(h, parked(h), 1);
    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    expect(h, parked(h), 0);
    quiet(h, 3000);
    expect(h, parked(h), 1);
    expect(h, tcp_get_opt(h->t, h_id(h), TCP_OPT_NODELAY, &value), 0);
    expect(h, value, 1);
    tcp_path_mtu(h->t, h_id(h), 1400);
    flush(h);
    expect(h, h_info(h).snd_mss, 1360);
    quiet(h, 3000);
    expect(h, h_opt(h, TCP_OPT_MAX, 1), -EINVAL); /* woken for nothing */
    expect(h, parked(h), 0);
    quiet(h, 3000);
    expect(h, parked(h), 1);
    h_icmp(h, 21, EHOSTUNREACH, false, 0); /* nothing is in flight */
    expect(h, h_drops(h, TCP_DROP_ICMP_BAD_SEQ), 1);
    h_free(h);
}

/* A keepalive timer runs on, to the nanosecond. */
static void keepalive(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_KEEPALIVE, 1), 0);
    expect(h, h_opt(h, TCP_OPT_KEEPIDLE, 10), 0);
    quiet(h, 5000);
    expect(h, parked(h), 1);
    expect(h, h_info(h).timer, TCP_INFO_TIMER_KEEPALIVE);
    expect(h, h_info(h).timer_expires, 5000000);
    out_in(h, 5000, ". 0:0(0) ack 1");
    in(h, ". 1:1(0) ack 1 win 65535");
    quiet(h, 6000);
    expect(h, parked(h), 1);
    out_in(h, 69000, ". 0:0(0) ack 1"); /* tcp_keepalive_intvl after the last */
    in(h, ". 1:1(0) ack 1 win 65535");
    quiet(h, 6000);
    expect(h, h_opt(h, TCP_OPT_KEEPALIVE, 0), 0);
    quiet(h, 60000);
    expect(h, parked(h), 1);
    h_free(h);
}

static struct harness *many_parked(int n)
{
    struct harness *h = h_new();

    h_listen(h, 100);
    for (int k = 0; k < n; k++) {
        exchanged(h, k, "S 0:0(0) win 65535 <mss 1460>");
    }
    pass_ms(h, 3000);
    expect(h, parked(h), n);
    return h;
}

/*
 * Some blocks are kept for waking. Without them and without memory the segment is dropped, by name; the peer sends it
 * again.
 */
static void without_memory(void **st)
{
    struct harness *h = many_parked(12);

    (void)st;
    no_memory = true;
    for (int k = 0; k < 9; k++) {
        flow(h, k);
        in(h, "P. 11:21(10) ack 21 win 65535");
        skip_out(h);
    }
    no_memory = false;
    expect(h, h_drops(h, TCP_DROP_WAKE_NO_MEMORY), 1);
    expect(h, parked(h), 4);
    in(h, "P. 11:21(10) ack 21 win 65535");
    skip_out(h);
    expect(h, parked(h), 3);
    expect(h, h_recv(h, 10), 10);
    skip_out(h);
    h_free(h);
}

/* Those that are at rest themselves give theirs. */
static void blocks_of_others(void **st)
{
    struct harness *h = many_parked(12);

    (void)st;
    no_memory = true;
    for (int round = 0; round < 2; round++)
        for (int k = 0; k < 12; k++) {
            flow(h, k);
            in(h, ". 11:11(0) ack 21 win 65535");
            pass_ms(h, 1);
        }
    no_memory = false;
    expect(h, h_drops(h, TCP_DROP_WAKE_NO_MEMORY), 0);
    expect(h, parked(h), 4);
    h_free(h);
}

/* One that is left can't stay: a RST tells the peer, and its place is free. */
static void left_without_memory(void **st)
{
    struct harness *h = many_parked(20);
    struct tcp_totals t;
    int closed = 0;

    (void)st;
    no_memory = true;
    for (int k = 0; k < 20; k++) {
        flow(h, k);
        expect(h, h_close(h), 0);
        closed += h_pending(h) > 0;
        skip_out(h);
    }
    no_memory = false;
    tcp_get_totals(h->t, &t);
    expect(h, closed, 12); /* by RST; a FIN waits for memory */
    expect(h, t.parked, 0);
    expect(h, t.conns, 8); /* orphans whose FIN is to be acknowledged: those that blocks were kept for */
    expect(h, tcp_get_counters(h->t)->abort_on_memory, 12);
    assert_true(h_causes(h, TCP_CAUSE_RST_ABORT) >= 12);
    for (int k = 0; k < 20; k++) {
        flow(h, k);
        h_abort(h);
        skip_out(h);
    }
    h_free(h);
}

/* A call that needs one that can't be woken is told to come again. */
static void later_without_memory(void **st)
{
    struct harness *h = many_parked(10);

    (void)st;
    no_memory = true;
    for (int k = 0; k < 10; k++) {
        flow(h, k);
        expect(h, tcp_send(h->t, h_id(h), "x", 1, 0, h->now), -ENOMEM); /* woken or not */
    }
    no_memory = false;
    flow(h, 9);
    expect(h, h_send(h, 20), 20);
    skip_out(h);
    h_free(h);
}

/* One that reads no more has an end to tell. */
static void shut_for_reading(void **st)
{
    struct harness *h = established();
    struct tcp_iov iov;
    bool eof = false;

    (void)st;
    exchange(h, 0);
    expect(h, tcp_shutdown_read(h->t, h_id(h), h->now), 0);
    flush(h);
    quiet(h, 3000);
    expect(h, tcp_recv_peek(h->t, h_id(h), &iov, 1, &eof), 0);
    assert_true(eof);
    h_free(h);
}

/* Each congestion control has a template of its own, and each is woken as it was. */
static void controllers(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 100);
    for (int k = 0; k < 8; k++) {
        h->cfg.tcp_congestion_control = k % 4;
        exchanged(h, k, "S 0:0(0) win 65535 <mss 1460,sackOK>");
    }
    pass_ms(h, 3000);
    expect(h, parked(h), 8);
    expect(h, tcp_get_counters(h->t)->park_no_room, 0);
    for (int k = 0; k < 8; k++) {
        flow(h, k);
        assert_string_equal(tcp_congestion_name(h->t, h_id(h)), tcp_congestion_at((unsigned)k % 4));
        exchange(h, 1);
    }
    h_free(h);
}

/* Nor do those that differ in what was agreed, in sizes and in windows, keep each other awake. */
static void kinds(void **st)
{
    static const char *const syn[] = {
        "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>", "S 0:0(0) win 65535 <mss 1460>",
        "S 0:0(0) win 29200 <mss 536,sackOK>", "S 0:0(0) win 8192 <mss 1220,nop,wscale 2>",
        "S 0:0(0) win 64240 <mss 9000,sackOK,TS val 4000000000 ecr 0,nop,wscale 14>"};
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 100);
    for (int k = 0; k < 60; k++) {
        const char *how = syn[k % 5];

        flow(h, k);
        in(h, how);
        skip_out(h);
        in(h, !strstr(how, "TS")       ? ". 1:1(0) ack 1 win 500"
              : strstr(how, "TS val 100") ? ". 1:1(0) ack 1 win 501 <nop,nop,TS val 101 ecr 1000000>"
                                       : ". 1:1(0) ack 1 win 502 <nop,nop,TS val 4000000001 ecr 1000000>");
        h_accept(h);
    }
    pass_ms(h, 3000);
    skip_out(h);
    expect(h, parked(h), 60);
    expect(h, tcp_get_counters(h->t)->park_no_room, 0);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parks_and_wakes), cmocka_unit_test(never), cmocka_unit_test(not_at_rest),
        cmocka_unit_test(in_the_accept_queue), cmocka_unit_test(crowd), cmocka_unit_test(looks),
        cmocka_unit_test(keepalive), cmocka_unit_test(without_memory), cmocka_unit_test(blocks_of_others),
        cmocka_unit_test(shut_for_reading),
        cmocka_unit_test(controllers),
        cmocka_unit_test(kinds), cmocka_unit_test(left_without_memory), cmocka_unit_test(later_without_memory),
    };

    unsetenv("TAUT_PARK");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
