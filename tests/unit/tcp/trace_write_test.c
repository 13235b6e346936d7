/*
 * tests/unit/tcp/trace_write_test.c: what a program may queue and how it is cut: SO_SNDBUF's account, TCP_NOTSENT_LOWAT,
 * MSG_EOR, PSH; what busy_time, rwnd_limited and sndbuf_limited count; a device that is full.
 */
#include "harness.h"

#include <stdio.h>

#define OPTS "mss 1000,nop,nop,sackOK,nop,wscale 7"

/* mss 1000, super-frames, a window of 32896: cells of 16 segments. */
static struct harness *bulk(void)
{
    struct harness *h = h_new();

    h->cfg.tcp_wmem_default = 50000;
    tcp_set_gso_max(h->t, 65536);
    h_listen(h, 16);
    h_passive_on(h, OPTS, 257);
    return h;
}

static struct harness *plain(void)
{
    return h_passive("mss 1000,nop,nop,sackOK", 60000);
}

static uint32_t sent(struct harness *h)
{
    struct tcp_info i = h_info(h);

    return i.snd_nxt - i.iss - 1;
}

static void ack_all(struct harness *h)
{
    char text[64];

    skip_out(h);
    snprintf(text, sizeof text, ". 1:1(0) ack %u win 257", sent(h) + 1);
    in(h, text);
}

/* ---- SO_SNDBUF ----------------------------------------------------------------------------------------------- */

/* A cell is begun while anything is free, then filled: 10000 leave at once, cells end at 26000, 42000, 58000. */
static void sndbuf_is_looked_at_per_cell(void **st)
{
    struct harness *h = bulk();

    (void)st;
    expect(h, h_send(h, 59000), 58000);
    assert_int_equal(sent(h), 10000);
    expect(h, h_send(h, 1), -EAGAIN);
    assert_int_equal(h_info(h).sndbuf_used, 58000 + 1280 * 5); /* two super-frames of half of cwnd, three cells */
    skip_out(h);
    h_free(h);
}

/* Room is told when a third is free, counting what is in flight by then; the buffer grows where cwnd has room. */
static void writable_after_what_may_go(void **st)
{
    struct harness *h = bulk();

    (void)st;
    expect(h, h_send(h, 59000), 58000);
    h_flow(h)->events = 0;
    ack_all(h); /* cwnd 20, all used: 48000 queued of 50000 */
    assert_int_equal(sent(h), 30000);
    assert_int_equal(h_flow(h)->events & TCP_EVENT_WRITABLE, 0);
    ack_all(h);
    event(h, TCP_EVENT_WRITABLE);
    assert_true(h_info(h).sndbuf > 50000);
    skip_out(h);
    h_free(h);
}

/* Each segment costs its overhead: many small records fill the buffer before their bytes do. */
static void overhead_counts(void **st)
{
    struct harness *h = plain();
    int n = 0;

    (void)st;
    expect(h, h_opt(h, TCP_OPT_SNDBUF, 10000), 0);
    while (h_send_flags(h, 1, TCP_SEND_EOR) == 1)
        n++;
    assert_int_equal(n, 16); /* 16 * 1281 >= 20000 > 15 * 1281 */
    skip_out(h);
    h_free(h);
}

/* A third of it must be free before the program hears of room. */
static void writable_at_a_third(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_SNDBUF, 10000), 0);
    expect(h, h_send(h, 40000), 9000);
    skip_out(h);
    h_flow(h)->events = 0;
    in(h, ". 1:1(0) ack 3001 win 60000"); /* 6 * 2280 of 20000 */
    assert_int_equal(h_flow(h)->events & TCP_EVENT_WRITABLE, 0);
    in(h, ". 1:1(0) ack 4001 win 60000");
    event(h, TCP_EVENT_WRITABLE);
    skip_out(h);
    h_free(h);
}

/* ---- TCP_NOTSENT_LOWAT --------------------------------------------------------------------------------------- */

static void notsent(struct harness *h)
{
    expect(h, h_send(h, 59000), 26000);
    h_flow(h)->events = 0;
    skip_out(h);
    in(h, ". 1:1(0) ack 7001 win 257"); /* cwnd 17 */
    assert_int_equal(h_info(h).notsent_bytes, 2000);
    assert_int_equal(h_flow(h)->events & TCP_EVENT_WRITABLE, 0); /* half of 4000 is the mark */
    assert_false(tcp_send_writable(h->t, h_flow(h)->id));
    skip_out(h);
    in(h, ". 1:1(0) ack 8001 win 257");
    event(h, TCP_EVENT_WRITABLE);
    assert_int_equal(h_info(h).notsent_bytes, 0);
    assert_true(tcp_send_writable(h->t, h_flow(h)->id));
    skip_out(h);
    h_free(h);
}

static void notsent_lowat_option(void **st)
{
    struct harness *h = bulk();
    int32_t v;

    (void)st;
    assert_int_equal(tcp_get_opt(h->t, h_flow(h)->id, TCP_OPT_NOTSENT_LOWAT, &v), 0);
    assert_int_equal(v, 0);
    expect(h, h_opt(h, TCP_OPT_NOTSENT_LOWAT, 4000), 0);
    notsent(h);
}

static void notsent_lowat_configured(void **st)
{
    struct harness *h = bulk();

    (void)st;
    h->cfg.tcp_notsent_lowat = 4000;
    notsent(h);
}

/* -1 is the largest unsigned number, also where the configuration has a limit. */
static void notsent_lowat_unlimited(void **st)
{
    struct harness *h = bulk();

    (void)st;
    h->cfg.tcp_notsent_lowat = 4000;
    expect(h, h_opt(h, TCP_OPT_NOTSENT_LOWAT, -1), 0);
    expect(h, h_send(h, 59000), 58000);
    skip_out(h);
    h_free(h);
}

/* Setting it may make room at once. */
static void notsent_lowat_raised(void **st)
{
    struct harness *h = bulk();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_NOTSENT_LOWAT, 4000), 0);
    expect(h, h_send(h, 59000), 26000);
    h_flow(h)->events = 0;
    expect(h, h_opt(h, TCP_OPT_NOTSENT_LOWAT, 100000), 0);
    flush(h);
    event(h, TCP_EVENT_WRITABLE);
    skip_out(h);
    h_free(h);
}

/* ---- PSH ----------------------------------------------------------------------------------------------------- */

/* A send that fills what is queued takes PSH away from where the one before it ended. */
static void push_moves_to_the_end(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_CORK, 1), 0);
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1:1001(1000) ack 1");
    expect(h, h_send(h, 400), 400);
    expect(h, h_send(h, 900), 900);
    out(h, ". 1001:2001(1000) ack 1");
    expect(h, h_opt(h, TCP_OPT_CORK, 0), 0);
    flush(h);
    out(h, "P. 2001:2301(300) ack 1");
    h_free(h);
}

/* ---- MSG_EOR ------------------------------------------------------------------------------------------------- */

static void eor_ends_a_segment(void **st)
{
    struct harness *h = plain();

    (void)st;
    h->hold = true;
    expect(h, h_send_flags(h, 400, TCP_SEND_EOR), 400);
    expect(h, h_send_flags(h, 1500, TCP_SEND_EOR), 1500);
    expect(h, h_send(h, 100), 100);
    h->hold = false;
    flush(h);
    out(h, "P. 1:401(400) ack 1"); /* not the last that is queued: Nagle has no say */
    out(h, ". 401:1401(1000) ack 1");
    out(h, "P. 1401:1901(500) ack 1");
    in(h, ". 1:1(0) ack 1901 win 60000");
    out(h, "P. 1901:2001(100) ack 1");
    h_free(h);
}

static void eor_in_super_frames(void **st)
{
    struct harness *h = bulk();

    (void)st;
    h->hold = true;
    expect(h, h_send_flags(h, 3400, TCP_SEND_EOR), 3400);
    expect(h, h_send(h, 2000), 2000);
    h->hold = false;
    flush(h);
    out(h, "P. 1:3401(3400) ack 1 gso 1000");
    out(h, "P. 3401:5401(2000) ack 1 gso 1000");
    h_free(h);
}

/* A FIN is in the last segment only, and not in front of a record's end. */
static void eor_then_fin(void **st)
{
    struct harness *h = plain();

    (void)st;
    h->hold = true;
    expect(h, h_send_flags(h, 10, TCP_SEND_EOR), 10);
    expect(h, h_send(h, 10), 10);
    expect(h, h_shutdown(h), 0);
    h->hold = false;
    flush(h);
    out(h, "P. 1:11(10) ack 1");
    out(h, "FP. 11:21(10) ack 1");
    h_free(h);
}

/* Small segments, all lost: what the timeout sends again is joined with what follows. */
static void four_lost(unsigned second_flags, const char *joined)
{
    struct harness *h = plain();

    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    expect(h, h_send(h, 100), 100);
    expect(h, h_send_flags(h, 100, second_flags), 100);
    expect(h, h_send(h, 100), 100);
    expect(h, h_send(h, 100), 100);
    skip_out(h);
    pass_ms(h, 150); /* tail loss probe */
    skip_out(h);
    pass_ms(h, 150);
    out(h, joined);
    skip_out(h);
    h_free(h);
}

static void eor_in_retransmission(void **st)
{
    (void)st;
    four_lost(0, "P. 1:401(400) ack 1");
    four_lost(TCP_SEND_EOR, "P. 1:201(200) ack 1");
}

/* ---- what held it back --------------------------------------------------------------------------------------- */

static void busy(void **st)
{
    struct harness *h = plain();

    (void)st;
    pass_ms(h, 100);
    assert_int_equal(h_info(h).busy_time, 0);
    expect(h, h_send(h, 100), 100);
    skip_out(h);
    pass_ms(h, 30);
    assert_int_equal(h_info(h).busy_time, 30000);
    in(h, ". 1:1(0) ack 101 win 60000");
    pass_ms(h, 100);
    assert_int_equal(h_info(h).busy_time, 30000);
    assert_int_equal(h_info(h).rwnd_limited, 0);
    assert_int_equal(h_info(h).sndbuf_limited, 0);
    h_free(h);
}

static void rwnd_limited(void **st)
{
    struct harness *h = plain();

    (void)st;
    in(h, ". 1:1(0) ack 1 win 0");
    assert_int_equal(h_info(h).rwnd_limited, 0); /* nothing to send */
    expect(h, h_send(h, 1000), 1000);
    pass_ms(h, 100);
    assert_int_equal(h_info(h).rwnd_limited, 100000);
    in(h, ". 1:1(0) ack 1 win 2000");
    out(h, "P. 1:1001(1000) ack 1");
    pass_ms(h, 30);
    assert_int_equal(h_info(h).rwnd_limited, 100000);
    in(h, ". 1:1(0) ack 1001 win 10");
    expect(h, h_send(h, 1000), 1000);
    pass_ms(h, 50);
    assert_int_equal(h_info(h).rwnd_limited, 150000);
    assert_int_equal(h_info(h).busy_time, 180000);
    in(h, ". 1:1(0) ack 1001 win 2000");
    skip_out(h);
    in(h, ". 1:1(0) ack 2001 win 2000");
    h_free(h);
}

static void sndbuf_limited(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_SNDBUF, 2304), 0);
    expect(h, h_send(h, 20000), 3000); /* 3 * 2280 >= 4608 > 2 * 2280: the third cell is full too */
    skip_out(h);
    pass_ms(h, 20);
    assert_int_equal(h_info(h).sndbuf_limited, 20000);
    skip_out(h);
    in(h, ". 1:1(0) ack 3001 win 60000");
    event(h, TCP_EVENT_WRITABLE);
    pass_ms(h, 20);
    assert_int_equal(h_info(h).sndbuf_limited, 20000);
    assert_int_equal(h_info(h).busy_time, 20000);
    h_free(h);
}

/* ---- a full device ------------------------------------------------------------------------------------------- */

/* Sends, and the device takes nothing. */
static void refuse_all(struct harness *h)
{
    struct tcp_out o;

    while (tcp_next_ready(h->t, &o))
        if (tcp_output(h->t, o.id, h->now, &o))
            tcp_tx_refused(h->t, &o, h->now);
}

static struct harness *refused(void)
{
    struct harness *h = plain();

    h->hold = true;
    expect(h, h_send(h, 100), 100);
    refuse_all(h);
    h->hold = false;
    assert_int_equal(h_info(h).unacked, 0);
    assert_int_equal(h_info(h).notsent_bytes, 100);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_DEVICE);
    return h;
}

static void refused_data_waits_for_the_timer(void **st)
{
    struct harness *h = refused();

    (void)st;
    out_in(h, 200, "P. 1:101(100) ack 1"); /* an RTO; not as a retransmission */
    assert_int_equal(h_info(h).total_retrans, 0);
    in(h, ". 1:1(0) ack 101 win 60000");
    quiet(h, 10000);
    h_free(h);
}

static void refused_data_goes_with_the_next_send(void **st)
{
    struct harness *h = refused();

    (void)st;
    expect(h, h_send(h, 50), 50);
    out(h, "P. 1:151(150) ack 1"); /* what had not left takes more in */
    h_free(h);
}

static void refused_data_goes_with_an_ack(void **st)
{
    struct harness *h = refused();

    (void)st;
    in(h, ". 1:1(0) ack 1 win 50000");
    out(h, "P. 1:101(100) ack 1");
    h_free(h);
}

/* Probes that are refused come every 500 ms without backing off, and end the connection by the user timeout only. */
static void refused_probes(void **st)
{
    struct harness *h = plain();
    uint64_t last_at = 0;
    unsigned probes = 0;

    (void)st;
    expect(h, h_opt(h, TCP_OPT_USER_TIMEOUT, 12000), 0);
    h->hold = true;
    expect(h, h_send(h, 100), 100);
    refuse_all(h);
    for (int i = 0; i < 100 && h_info(h).state != TCP_STATE_CLOSE; i++) {
        unsigned before = h_info(h).probes;

        h->now = tcp_deadline(h->t);
        tcp_expire(h->t, h->now);
        refuse_all(h);
        probes = h_info(h).probes;
        assert_int_equal(h_info(h).backoff, 0);
        if (probes == before)
            continue; /* a timer that had moved */
        if (last_at)
            assert_int_equal(h->now - last_at, 500000000);
        last_at = h->now;
    }
    assert_int_equal(probes, 24);
    h->hold = false;
    flush(h);
    state(h, TCP_STATE_CLOSE);
    event(h, TCP_EVENT_ERROR);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    h_free(h);
}

/* Only the last can be taken back; the others are lost, and come back by their timers. */
static void refused_out_of_order(void **st)
{
    struct harness *h = plain();
    struct tcp_out o, first;

    (void)st;
    h->hold = true;
    expect(h, h_send(h, 2000), 2000);
    assert_true(tcp_next_ready(h->t, &o));
    assert_true(tcp_output(h->t, o.id, h->now, &first));
    assert_true(tcp_output(h->t, o.id, h->now, &o));
    tcp_tx_refused(h->t, &first, h->now);
    assert_int_equal(h_info(h).unacked, 2);
    tcp_tx_refused(h->t, &o, h->now);
    assert_int_equal(h_info(h).unacked, 1);
    tcp_tx_refused(h->t, &first, h->now);
    assert_int_equal(h_info(h).unacked, 0);
    h->hold = false;
    in(h, ". 1:1(0) ack 1 win 50000");
    out(h, ". 1:1001(1000) ack 1");
    out(h, "P. 1001:2001(1000) ack 1");
    h_free(h);
}

/* The shell cut a super-frame, and the device took its first half: the other half is not in flight. */
static void refused_in_the_middle(void **st)
{
    struct harness *h = plain();
    struct tcp_out o;

    (void)st;
    tcp_set_gso_max(h->t, 65535);
    h->hold = true;
    expect(h, h_send(h, 4000), 4000);
    assert_true(tcp_next_ready(h->t, &o));
    assert_true(tcp_output(h->t, o.id, h->now, &o));
    assert_true(o.seg.len >= 2000 && o.seg.gso_size == 1000);
    while (tcp_next_ready(h->t, &o) && tcp_output(h->t, o.id, h->now, &o))
        ;
    assert_int_equal(h_info(h).unacked, 4);
    o = (struct tcp_out){.id = h_id(h), .cause = TCP_CAUSE_DATA};
    for (uint32_t at = 3001; at >= 1001; at -= 1000) {
        o.seg.seq = h_flow(h)->iss + at;
        tcp_tx_refused(h->t, &o, h->now);
    }
    assert_int_equal(h_info(h).unacked, 1);
    o.seg.seq = h_flow(h)->iss + 501; /* no segment begins there */
    tcp_tx_refused(h->t, &o, h->now);
    assert_int_equal(h_info(h).unacked, 1);
    assert_null(tcp_check_all(h->t));
    h->hold = false;
    in(h, ". 1:1(0) ack 1001 win 60000");
    skip_out(h);
    assert_int_equal(h_info(h).unacked, 3);
    assert_int_equal(h_info(h).total_retrans, 0);
    in(h, ". 1:1(0) ack 4001 win 60000");
    h_free(h);
}

/* A retransmission that the device refuses is to be made still; an ACK tries it again, or the RTO. */
static void refused_retransmission(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_send(h, 5000), 5000);
    skip_out(h);
    h->hold = true;
    in(h, ". 1:1(0) ack 1 win 60000 <nop,nop,sack 1001:5001>");
    refuse_all(h);
    assert_int_equal(h_info(h).lost, 1);
    assert_int_equal(h_info(h).retrans, 0);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_DEVICE);
    refuse_all(h); /* nothing: it waits */
    assert_int_equal(tcp_get_counters(h->t)->tx_failed, 1);
    h->hold = false;
    in(h, ". 1:1(0) ack 1 win 50000 <nop,nop,sack 1001:5001>");
    out(h, ". 1:1001(1000) ack 1");
    assert_int_equal(h_info(h).retrans, 1);
    in(h, ". 1:1(0) ack 5001 win 60000");
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sndbuf_is_looked_at_per_cell),
        cmocka_unit_test(writable_after_what_may_go),
        cmocka_unit_test(overhead_counts),
        cmocka_unit_test(writable_at_a_third),
        cmocka_unit_test(notsent_lowat_option),
        cmocka_unit_test(notsent_lowat_configured),
        cmocka_unit_test(notsent_lowat_unlimited),
        cmocka_unit_test(notsent_lowat_raised),
        cmocka_unit_test(push_moves_to_the_end),
        cmocka_unit_test(eor_ends_a_segment),
        cmocka_unit_test(eor_in_super_frames),
        cmocka_unit_test(eor_then_fin),
        cmocka_unit_test(eor_in_retransmission),
        cmocka_unit_test(busy),
        cmocka_unit_test(rwnd_limited),
        cmocka_unit_test(sndbuf_limited),
        cmocka_unit_test(refused_data_waits_for_the_timer),
        cmocka_unit_test(refused_data_goes_with_the_next_send),
        cmocka_unit_test(refused_data_goes_with_an_ack),
        cmocka_unit_test(refused_probes),
        cmocka_unit_test(refused_out_of_order),
        cmocka_unit_test(refused_in_the_middle),
        cmocka_unit_test(refused_retransmission),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
