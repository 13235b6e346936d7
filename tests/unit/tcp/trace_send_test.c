/*
 * tests/unit/tcp/trace_send_test.c: the sending half: Nagle, cork, SWS, windows and their probes, RTO, fast
 * retransmit and recovery, super-frames, path MTU, the next hop.
 */
#include "harness.h"

#include <stdio.h>

static struct harness *established(void)
{
    return h_passive("mss 1460", 65535);
}

static struct harness *established_sack(void)
{
    return h_passive("mss 1460,nop,nop,sackOK", 65535);
}

static void nagle(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:11(10) ack 1");
    expect(h, h_send(h, 10), 10); /* waits for the ACK */
    quiet(h, 100);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_NAGLE);
    expect(h, h_send(h, 10), 10);
    quiet(h, 10);
    in(h, ". 1:1(0) ack 11 win 65535");
    out(h, "P. 11:31(20) ack 1");
    in(h, ". 1:1(0) ack 31 win 65535");
    h_free(h);
}

static void nagle_full_segment_goes(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:11(10) ack 1");
    expect(h, h_send(h, 1470), 1470);
    out(h, "* 11:1471(1460) ack 1 win *");
    if (h_pending(h)) /* Minshall: the tail may go unless a small segment is unacknowledged; one is */
        out(h, "nothing");
    in(h, ". 1:1(0) ack 1471 win 65535");
    out(h, "P. 1471:1481(10) ack 1");
    h_free(h);
}

static void minshall(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 1470), 1470); /* no small segment unacknowledged: the tail goes at once */
    out(h, "* 1:1461(1460) ack 1 win *");
    out(h, "P. 1461:1471(10) ack 1");
    h_free(h);
}

static void nodelay(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:11(10) ack 1");
    expect(h, h_send(h, 10), 10);
    out(h, "P. 11:21(10) ack 1");
    h_free(h);
}

static void nodelay_set_later(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:11(10) ack 1");
    expect(h, h_send(h, 10), 10);
    quiet(h, 10);
    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    out(h, "P. 11:21(10) ack 1");
    h_free(h);
}

static void cork(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_CORK, 1), 0);
    expect(h, h_send(h, 10), 10);
    quiet(h, 100);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_CORK);
    expect(h, h_send(h, 10), 10);
    expect(h, h_opt(h, TCP_OPT_CORK, 0), 0);
    out(h, "P. 1:21(20) ack 1");
    h_free(h);
}

/* Linux lets a corked tail go after 200 ms (the probe timer). */
static void cork_times_out(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_CORK, 1), 0);
    expect(h, h_send(h, 10), 10);
    out_in(h, 200, "P. 1:11(10) ack 1");
    h_free(h);
}

static void send_more(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send_flags(h, 10, TCP_SEND_MORE), 10);
    quiet(h, 50);
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:21(20) ack 1");
    h_free(h);
}

static void initial_window(void **st)
{
    struct harness *h = established();
    char text[96];

    (void)st;
    expect(h, h_send(h, 30000), 30000);
    for (unsigned k = 0; k < 10; k++) { /* RFC 6928 */
        snprintf(text, sizeof text, "* %u:%u(1460) ack 1 win *", 1 + 1460 * k, 1461 + 1460 * k);
        out(h, text);
    }
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).snd_cwnd, 10);
    assert_int_equal(h_info(h).unacked, 10);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_CWND);
    in(h, ". 1:1(0) ack 2921 win 65535"); /* slow start: two acked, four leave */
    for (unsigned k = 10; k < 14; k++) {
        snprintf(text, sizeof text, "* %u:%u(1460) ack 1 win *", 1 + 1460 * k, 1461 + 1460 * k);
        out(h, text);
    }
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).snd_cwnd, 12);
    h_free(h);
}

static void peer_window_limits(void **st)
{
    struct harness *h = h_passive("mss 1000", 3000);

    (void)st;
    expect(h, h_send(h, 10000), 10000);
    out(h, "* 1:1001(1000) ack 1 win *");
    out(h, "* 1001:2001(1000) ack 1 win *");
    out(h, "* 2001:3001(1000) ack 1 win *");
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_RWND);
    in(h, ". 1:1(0) ack 1001 win 2400"); /* 400 bytes more: SWS avoidance keeps them back */
    assert_int_equal(h_pending(h), 0);
    in(h, ". 1:1(0) ack 1001 win 3000");
    out(h, "* 3001:4001(1000) ack 1 win *");
    h_free(h);
}

static void zero_window_probes(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, ". 1:1(0) ack 1 win 0");
    expect(h, h_send(h, 1000), 1000);
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_RWND);
    out_in(h, 201, ". 0:0(0) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_PROBE_WINDOW);
    in(h, ". 1:1(0) ack 1 win 0");
    out_in(h, 402, ". 0:0(0) ack 1");
    in(h, ". 1:1(0) ack 1 win 0");
    out_in(h, 804, ". 0:0(0) ack 1");
    in(h, ". 1:1(0) ack 1 win 0");
    out_in(h, 1608, ". 0:0(0) ack 1");
    in(h, ". 1:1(0) ack 1 win 65535");
    out(h, "P. 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 1001 win 65535");
    quiet(h, 10000);
    h_free(h);
}

/* A peer that answers probes keeps the connection for ever. */
static void answered_probes_never_give_up(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, ". 1:1(0) ack 1 win 0");
    expect(h, h_send(h, 1000), 1000);
    for (int k = 0; k < 40; k++) {
        unsigned guard = 0;

        while (!h_pending(h) && guard++ < 200)
            pass_ms(h, 1000);
        skip_out(h);
        in(h, ". 1:1(0) ack 1 win 0");
        state(h, TCP_STATE_ESTABLISHED);
    }
    h_free(h);
}

static void unanswered_probes_give_up(void **st)
{
    struct harness *h = established();

    (void)st;
    h->cfg.tcp_retries2 = 3;
    in(h, ". 1:1(0) ack 1 win 0");
    expect(h, h_send(h, 1000), 1000);
    pass_ms(h, 60000);
    assert_true(h_pending(h) >= 3 && h_pending(h) <= 5);
    skip_out(h);
    state(h, TCP_STATE_CLOSE);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    h_free(h);
}

static void rto_backoff(void **st)
{
    struct harness *h = established();

    (void)st;
    assert_int_equal(h_info(h).rto / 1000, 201); /* srtt 1 us + 200 ms, in whole ms as Linux */
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1:1001(1000) ack 1");
    for (int k = 0; k < 6; k++) {
        out_in(h, 201 << k, "P. 1:1001(1000) ack 1");
        assert_int_equal(h->cause, TCP_CAUSE_RETRANS_RTO);
        assert_int_equal(h_info(h).backoff, k + 1);
        assert_int_equal(h_info(h).snd_cwnd, 1);
    }
    assert_int_equal(tcp_get_counters(h->t)->timeouts, 6);
    assert_int_equal(tcp_get_counters(h->t)->retrans_segs, 6);
    in(h, ". 1:1(0) ack 1001 win 65535"); /* Karn: no sample, so the backoff stays (RFC 6298 section 5) */
    assert_int_equal(h_info(h).retransmits, 0);
    assert_int_equal(h_info(h).backoff, 6);
    quiet(h, 5000);
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1001:2001(1000) ack 1");
    in(h, ". 1:1(0) ack 2001 win 65535");
    assert_int_equal(h_info(h).backoff, 0);
    h_free(h);
}

static void rto_from_samples(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    quiet(h, 100);
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    /* RFC 6298 section 2.2 with Linux's floor: srtt 100 ms, rttvar 50 ms * 4 = 200 ms */
    assert_int_equal(h_info(h).rtt, 100000);
    assert_int_equal(h_info(h).rto / 1000, 300);
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1:1001(1000) ack 1");
    out_in(h, 300, "P. 1:1001(1000) ack 1");
    h_free(h);
}

static void rto_restarts_on_ack(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 2920), 2920);
    out(h, "* 1:1461(1460) ack 1 win *");
    out(h, "P. 1461:2921(1460) ack 1");
    quiet(h, 150);
    in(h, ". 1:1(0) ack 1461 win 65535"); /* RFC 6298 section 5.3 */
    quiet(h, 199);
    pass_ms(h, 400);
    out(h, "P. 1461:2921(1460) ack 1");
    skip_out(h);
    h_free(h);
}

static void retransmission_limit(void **st)
{
    struct harness *h = established();
    unsigned n;

    (void)st;
    h->cfg.tcp_retries2 = 3;
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1:1001(1000) ack 1");
    pass_ms(h, 2900);
    state(h, TCP_STATE_ESTABLISHED);
    n = h_pending(h);
    assert_int_equal(n, 3); /* 200, 600, 1400 ms */
    skip_out(h);
    pass_ms(h, 20000);
    assert_true(h_pending(h) <= 1);
    skip_out(h);
    state(h, TCP_STATE_CLOSE);
    event(h, TCP_EVENT_ERROR | TCP_EVENT_CLOSED);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    assert_int_equal(tcp_get_counters(h->t)->abort_on_timeout, 1);
    h_free(h);
}

static void retries2_default_is_924_s(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1:1001(1000) ack 1");
    pass_ms(h, 924000);
    state(h, TCP_STATE_ESTABLISHED);
    skip_out(h);
    pass_ms(h, 125000);
    skip_out(h);
    state(h, TCP_STATE_CLOSE);
    h_free(h);
}

static void send_ten(struct harness *h)
{
    expect(h, h_send(h, 14600), 14600);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
}

static void fast_retransmit_three_dupacks(void **st)
{
    struct harness *h = established();

    (void)st;
    send_ten(h);
    in(h, ". 1:1(0) ack 1 win 65535");
    in(h, ". 1:1(0) ack 1 win 65535");
    assert_int_equal(h_pending(h), 0);
    in(h, ". 1:1(0) ack 1 win 65535");
    out(h, "* 1:1461(1460) ack 1 win *");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_FAST);
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    assert_int_equal(tcp_get_counters(h->t)->reno_recovery, 1);
    in(h,
       ". 1:1(0) ack 14601 win 65535"); /* held until something above high_seq is acknowledged (RFC 6582) */
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    quiet(h, 50);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 14601:14701(100) ack 1");
    in(h, ". 1:1(0) ack 14701 win 65535");
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    assert_int_equal(h_info(h).snd_ssthresh, 5);
    quiet(h, 5000);
    h_free(h);
}

static void limited_transmit(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 29200), 29200);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
    in(h, ". 1:1(0) ack 1 win 65535"); /* RFC 3042 */
    out(h, "* 14601:16061(1460) ack 1 win *");
    in(h, ". 1:1(0) ack 1 win 65535");
    out(h, "* 16061:17521(1460) ack 1 win *");
    in(h, ". 1:1(0) ack 1 win 65535");
    out(h, "* 1:1461(1460) ack 1 win *");
    h_free(h);
}

static void newreno_partial_ack(void **st)
{
    struct harness *h = established();

    (void)st;
    send_ten(h);
    for (int k = 0; k < 3; k++)
        in(h, ". 1:1(0) ack 1 win 65535");
    out(h, "* 1:1461(1460) ack 1 win *");
    in(h, ". 1:1(0) ack 2921 win 65535"); /* RFC 6582: the next hole, as soon as PRR lets it */
    if (!h_pending(h))
        in(h, ". 1:1(0) ack 2921 win 65535");
    out(h, "* 2921:4381(1460) ack 1 win *");
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    skip_out(h);
    in(h, ". 1:1(0) ack 14601 win 65535");
    skip_out(h);
    assert_int_equal(h_info(h).unacked, 0);
    quiet(h, 5000);
    h_free(h);
}

/* The final FIN need not wait for cwnd, but data whose FIN the window cuts off must. */
static void fin_cut_off_waits_for_cwnd(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_initcwnd = 1;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 2000 <mss 1000>");
    out(h, "S. 0:0(0) ack 1 win * <...>");
    in(h, ". 1:1(0) ack 1 win 2000");
    h_accept(h);
    h->hold = true;
    h_send(h, 2000);
    expect(h, tcp_shutdown_write(h->t, h_id(h), h->now), 0);
    h->hold = false;
    flush(h);
    out(h, ". 1:1001(1000) ack 1");
    assert_int_equal(h_pending(h), 0);
    expect(h, h_info(h).limit, TCP_LIMIT_CWND);
    in(h, ". 1:1(0) ack 1001 win 2000");
    out(h, "FP. 1001:2001(1000) ack 1");
    h_free(h);
}

static void window_update_is_no_dupack(void **st)
{
    struct harness *h = h_passive("mss 1460", 60000);

    (void)st;
    send_ten(h);
    in(h, ". 1:1(0) ack 1 win 60500"); /* one that shrinks is none, for Linux */
    in(h, ". 1:1(0) ack 1 win 61000");
    in(h, ". 1:1(0) ack 1 win 61500");
    in(h, ". 1:1(0) ack 1 win 62000");
    assert_int_equal(h_pending(h), 0);
    in(h, "P. 1:11(10) ack 1 win 62000"); /* with data: none either */
    skip_out(h);
    in(h, "P. 11:21(10) ack 1 win 62000");
    skip_out(h);
    in(h, "P. 21:31(10) ack 1 win 62000");
    skip_out(h);
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    h_free(h);
}

static void sack_recovery(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    h->cfg.tcp_recovery = 0; /* SACKs count (RFC 6675), not time: the round trip is 0 here */
    send_ten(h);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1461:2921>");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1461:4381>");
    assert_int_equal(h_info(h).sacked, 2);
    assert_int_equal(h_pending(h), 0);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1461:5841>");
    out(h, "* 1:1461(1460) ack 1 win *");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_FAST);
    assert_int_equal(h_info(h).sacked, 3);
    assert_int_equal(h_info(h).lost, 1);
    assert_int_equal(h_info(h).retrans, 1);
    assert_int_equal(tcp_get_counters(h->t)->sack_recovery, 1);
    assert_int_equal(h_pending(h), 0);
    in(h, ". 1:1(0) ack 14601 win 65535");
    assert_int_equal(h_info(h).unacked, 0);
    quiet(h, 5000);
    h_free(h);
}

/* One ACK that SACKs three segments is as good as three. */
static void sack_recovery_one_ack(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    send_ten(h);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 4381:8761>");
    out(h, "* 1:1461(1460) ack 1 win *");
    skip_out(h); /* PRR may allow more of the lost ones */
    in(h, ". 1:1(0) ack 4381 win 65535 <nop,nop,sack 4381:14601>");
    skip_out(h);
    in(h, ". 1:1(0) ack 14601 win 65535");
    skip_out(h);
    assert_int_equal(h_info(h).unacked, 0);
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    h_free(h);
}

static void sack_partial_segment(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    send_ten(h);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 2000:3000>"); /* not at segment borders */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 2000:9000>");
    skip_out(h);
    pass_ms(h, 2000);
    skip_out(h);
    in(h, ". 1:1(0) ack 14601 win 65535");
    skip_out(h);
    assert_int_equal(h_info(h).unacked, 0);
    assert_int_equal(h_info(h).sacked, 0);
    h_free(h);
}

static void sack_nonsense(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    send_ten(h);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 2921:1461>");   /* backwards */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 14601:30000>"); /* never sent */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 5000000:6000000>");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1461:1461>");
    assert_int_equal(h_info(h).sacked, 0);
    skip_out(h);
    h_free(h);
}

static void dsack_is_counted(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1:1001(1000) ack 1");
    out_in(h, 200, "P. 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 1001 win 65535 <nop,nop,sack 1:1001>");
    assert_int_equal(tcp_get_counters(h->t)->dsack_recv, 1);
    assert_int_equal(h_info(h).dsack_dups, 1);
    h_free(h);
}

/* After an RTO everything unacknowledged is lost and goes again by slow start. */
static void rto_loss_recovery(void **st)
{
    struct harness *h = established();

    (void)st;
    send_ten(h);
    out_in(h, 200, "* 1:1461(1460) ack 1 win *");
    assert_int_equal(h_info(h).ca_state, TCP_CA_LOSS);
    assert_int_equal(h_info(h).snd_ssthresh, 5);
    in(h, ". 1:1(0) ack 1461 win 65535");
    out(h, "* 1461:2921(1460) ack 1 win *");
    out(h, "* 2921:4381(1460) ack 1 win *");
    assert_int_equal(h_pending(h), 0);
    in(h, ". 1:1(0) ack 4381 win 65535");
    assert_true(h_pending(h) >= 3);
    skip_out(h);
    in(h, ". 1:1(0) ack 14601 win 65535");
    skip_out(h);
    assert_int_equal(h_info(h).unacked, 0);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 14601:14701(100) ack 1");
    in(h, ". 1:1(0) ack 14701 win 65535");
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    h_free(h);
}

static void partial_ack_of_segment(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 1000), 1000);
    out(h, "P. 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 501 win 65535");
    pass_ms(h, 250);
    out(h, "P. *501:1001(500) ack 1");
    skip_out(h);
    in(h, ". 1:1(0) ack 1001 win 65535");
    h_free(h);
}

static void shrunk_window(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 5840), 5840);
    assert_int_equal(h_pending(h), 4);
    skip_out(h);
    in(h, ". 1:1(0) ack 1461 win 1000"); /* the peer took window back: RFC 9293 section 3.8.6 */
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    pass_ms(h, 3000); /* what is out is still retransmitted */
    assert_true(h_pending(h) >= 1);
    skip_out(h);
    in(h, ". 1:1(0) ack 5841 win 65535");
    skip_out(h);
    in(h, ". 1:1(0) ack 6841 win 65535");
    skip_out(h);
    h_free(h);
}

/* What is sent again ends where a window ends that the peer took back (tcp_wnd_end); the rest waits for the window. */
static void retransmission_cut_at_the_window(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 4380), 4380);
    skip_out(h);
    in(h, ". 1:1(0) ack 1461 win 1000");
    out_in(h, 201, ". 1461:2461(1000) ack 1");
    in(h, ". 1:1(0) ack 2461 win 300");
    out(h, ". 2461:2761(300) ack 1");
    in(h, ". 1:1(0) ack 2761 win 1000");
    out(h, ". 2761:2921(160) ack 1");
    out(h, ". 2921:3761(840) ack 1");
    in(h, ". 1:1(0) ack 3761 win 65535");
    out(h, "P. 3761:4381(620) ack 1");
    in(h, ". 1:1(0) ack 4381 win 65535");
    expect(h, h_info(h).unacked, 0);
    h_free(h);
}

/* A peer that closes its window under data in flight and answers is never given up, even after timeouts in a
 * row. */
static void closed_window_with_data_in_flight(void **st)
{
    struct harness *h = established();

    (void)st;
    h->cfg.tcp_retries2 = 5;
    expect(h, h_send(h, 2920), 2920);
    skip_out(h);
    pass_ms(h, 1000); /* two timeouts without an answer */
    skip_out(h);
    for (int k = 0; k < 60; k++) {
        in(h, ". 1:1(0) ack 1 win 0");
        skip_out(h);
        pass_ms(h, 5000);
        skip_out(h);
        state(h, TCP_STATE_ESTABLISHED);
    }
    in(h, ". 1:1(0) ack 2921 win 65535");
    skip_out(h);
    assert_int_equal(h_info(h).unacked, 0);
    h_free(h);
}

static void gso_out(void **st)
{
    struct harness *h = established();
    unsigned frames;

    (void)st;
    tcp_set_gso_max(h->t, 65536);
    expect(h, h_send(h, 14600), 14600);
    frames = h_pending(h);
    assert_true(frames >= 1 && frames < 10);
    skip_out(h);
    assert_int_equal(h_info(h).unacked, 10); /* units are segments */
    assert_int_equal(tcp_get_counters(h->t)->out_frames, frames + 1);
    in(h, ". 1:1(0) ack 1461 win 65535"); /* cuts the super-frame's descriptor */
    assert_int_equal(h_info(h).unacked, 9);
    skip_out(h);
    in(h, ". 1:1(0) ack 14601 win 65535");
    assert_int_equal(h_info(h).unacked, 0);
    skip_out(h);
    h_free(h);
}

static void gso_retransmit_one_segment(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    tcp_set_gso_max(h->t, 65536);
    expect(h, h_send(h, 14600), 14600);
    skip_out(h);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1461:5841>"); /* splits the descriptor at MSS borders */
    out(h, "* 1:1461(1460) ack 1 win *");
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).sacked, 3);
    in(h, ". 1:1(0) ack 14601 win 65535");
    skip_out(h);
    h_free(h);
}

static void gso_off_again(void **st)
{
    struct harness *h = established();

    (void)st;
    tcp_set_gso_max(h->t, 65536);
    tcp_set_gso_max(h->t, 0);
    expect(h, h_send(h, 14600), 14600);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
    h_free(h);
}

static void pmtu_reduction(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 2920), 2920);
    skip_out(h);
    h_icmp(h, 1, EMSGSIZE, false, 1000);
    out(h, "* 1:961(960) ack 1 win *");
    skip_out(h);
    assert_int_equal(h_info(h).pmtu, 1000);
    assert_int_equal(h_info(h).snd_mss, 960);
    pass_ms(h, 3000);
    skip_out(h);
    in(h, ". 1:1(0) ack 2921 win 65535");
    skip_out(h);
    expect(h, h_send(h, 2000), 2000);
    out(h, "* 2921:3881(960) ack 1 win *");
    skip_out(h);
    h_icmp(h, 2921, EMSGSIZE, false, 1400); /* never up by ICMP */
    skip_out(h);
    assert_int_equal(h_info(h).snd_mss, 960);
    h_free(h);
}

static void pmtu_bad_seq(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 1460), 1460);
    skip_out(h);
    h_icmp(h, 100000, EMSGSIZE, false, 600); /* RFC 5927 section 4.1: not in flight */
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).snd_mss, 1460);
    assert_int_equal(h_drops(h, TCP_DROP_ICMP_BAD_SEQ), 1);
    h_free(h);
}

static void icmp_soft_and_hard(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    h_icmp(h, 1, EHOSTUNREACH, false, 0); /* soft in ESTABLISHED */
    state(h, TCP_STATE_ESTABLISHED);
    h_icmp(h, 1, ECONNREFUSED, true, 0); /* RFC 5927: hard errors are soft in synchronised states */
    state(h, TCP_STATE_ESTABLISHED);
    flow(h, 1);
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    h_icmp(h, 0, ECONNREFUSED, true, 0);
    state(h, TCP_STATE_CLOSE);
    assert_int_equal(h_flow(h)->error, ECONNREFUSED);
    h_close(h);
    h_free(h);
}

static void unreachable_syn_sent(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    skip_out(h);
    tcp_unreachable(h->t, h_flow(h)->id, EHOSTUNREACH, h->now);
    flush(h);
    state(h, TCP_STATE_CLOSE);
    event(h, TCP_EVENT_ERROR);
    assert_int_equal(h_flow(h)->error, EHOSTUNREACH);
    h_close(h);
    h_free(h);
}

static void unreachable_established(void **st)
{
    struct harness *h = established();

    (void)st;
    h->cfg.tcp_retries2 = 3;
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    tcp_unreachable(h->t, h_flow(h)->id, EHOSTUNREACH, h->now);
    flush(h);
    state(h, TCP_STATE_ESTABLISHED);
    pass_ms(h, 20000);
    skip_out(h);
    state(h, TCP_STATE_CLOSE); /* the soft error is what is told in the end */
    assert_int_equal(h_flow(h)->error, EHOSTUNREACH);
    h_free(h);
}

static void suspend_and_resume(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->hold = true;
    expect(h, h_connect(h), 0);
    tcp_suspend(h->t, h_flow(h)->id);
    h->hold = false;
    flush(h);
    quiet(h, 300);
    tcp_resume(h->t, h_flow(h)->id);
    flush(h);
    out(h, "S 0:0(0) <...>");
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    out(h, ". 1:1(0) ack 1");
    tcp_suspend(h->t, h_flow(h)->id);
    expect(h, h_send(h, 100), 100);
    quiet(h, 150);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_NEIGHBOUR);
    tcp_resume(h->t, h_flow(h)->id);
    flush(h);
    out(h, "P. 1:101(100) ack 1");
    h_free(h);
}

static void suspended_for_long(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 100), 100);
    skip_out(h);
    tcp_suspend(h->t, h_flow(h)->id);
    quiet(h, 5000); /* RTOs run out meanwhile; nothing leaves, nothing spins */
    tcp_resume(h->t, h_flow(h)->id);
    flush(h);
    out(h, "P. 1:101(100) ack 1");
    skip_out(h);
    h_free(h);
}

static void tx_failed(void **st)
{
    struct harness *h = established();
    struct tcp_out o;

    (void)st;
    h->hold = true;
    expect(h, h_send(h, 100), 100);
    assert_true(tcp_next_ready(h->t, &o));
    assert_true(tcp_output(h->t, o.id, h->now, &o));
    tcp_tx_failed(h->t, &o);
    h->hold = false;
    flush(h);
    assert_int_equal(tcp_get_counters(h->t)->tx_failed, 1);
    pass_ms(h, 250);
    out(h, "P. 1:101(100) ack 1"); /* as good as lost */
    h_free(h);
}

static void urgent_out(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send_flags(h, 10, TCP_SEND_URGENT), 10);
    out(h, "P.U 1:11(10) ack 1 win * urg 10"); /* behind the last urgent byte, as BSD and Linux have it */
    in(h, ". 1:1(0) ack 6 win 65535");
    pass_ms(h, 250);
    out(h, "P.U 6:11(5) ack 1 win * urg 5"); /* still urgent */
    in(h, ". 1:1(0) ack 11 win 65535");
    expect(h, h_send(h, 10), 10);
    out(h, "P. 11:21(10) ack 1");
    h_free(h);
}

static void send_buffer_full_then_writable(void **st)
{
    struct harness *h = established();
    int64_t total = 0, rc;
    unsigned acked = 1;

    (void)st;
    expect(h, h_opt(h, TCP_OPT_SNDBUF, 65536), 0);
    for (int k = 0; k < 1000; k++) {
        rc = h_send(h, 4000);
        skip_out(h);
        if (rc < 0)
            break;
        total += rc;
    }
    assert_int_equal(rc, -EAGAIN);
    assert_true(total >= 16384 && total <= 400000);
    h_flow(h)->events = 0;
    for (int k = 0; k < 1000 && (int64_t)acked <= total; k++) {
        char text[96];

        acked = h_info(h).snd_nxt - h_info(h).iss;
        snprintf(text, sizeof text, ". 1:1(0) ack %u win 65535", acked);
        in(h, text);
        skip_out(h);
    }
    event(h, TCP_EVENT_WRITABLE);
    assert_int_equal(h_info(h).unacked, 0);
    assert_true(tcp_send_space(h->t, h_flow(h)->id) > 0);
    h_free(h);
}

static void reserve_and_commit(void **st)
{
    struct harness *h = established();
    struct tcp_iov iov[4];
    size_t n = 0;
    int places;

    (void)st;
    places = tcp_send_reserve(h->t, h_flow(h)->id, 5000, iov, 4);
    assert_true(places >= 1);
    for (int i = 0; i < places; i++)
        for (size_t k = 0; k < iov[i].len; k++)
            iov[i].data[k] = h_pattern(n++);
    assert_true(n >= 1460 && n <= 5000);
    assert_int_equal(tcp_send_commit(h->t, h_flow(h)->id, 1000, 0, h->now), 0); /* a prefix */
    h_flow(h)->tx_pos += 1000;
    flush(h);
    out(h, "P. 1:1001(1000) ack 1");
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nagle),
        cmocka_unit_test(nagle_full_segment_goes),
        cmocka_unit_test(minshall),
        cmocka_unit_test(nodelay),
        cmocka_unit_test(nodelay_set_later),
        cmocka_unit_test(cork),
        cmocka_unit_test(cork_times_out),
        cmocka_unit_test(send_more),
        cmocka_unit_test(initial_window),
        cmocka_unit_test(peer_window_limits),
        cmocka_unit_test(zero_window_probes),
        cmocka_unit_test(answered_probes_never_give_up),
        cmocka_unit_test(unanswered_probes_give_up),
        cmocka_unit_test(rto_backoff),
        cmocka_unit_test(rto_from_samples),
        cmocka_unit_test(rto_restarts_on_ack),
        cmocka_unit_test(retransmission_limit),
        cmocka_unit_test(retries2_default_is_924_s),
        cmocka_unit_test(fast_retransmit_three_dupacks),
        cmocka_unit_test(limited_transmit),
        cmocka_unit_test(newreno_partial_ack),
        cmocka_unit_test(fin_cut_off_waits_for_cwnd),
        cmocka_unit_test(window_update_is_no_dupack),
        cmocka_unit_test(sack_recovery),
        cmocka_unit_test(sack_recovery_one_ack),
        cmocka_unit_test(sack_partial_segment),
        cmocka_unit_test(sack_nonsense),
        cmocka_unit_test(dsack_is_counted),
        cmocka_unit_test(rto_loss_recovery),
        cmocka_unit_test(partial_ack_of_segment),
        cmocka_unit_test(shrunk_window),
        cmocka_unit_test(retransmission_cut_at_the_window),
        cmocka_unit_test(closed_window_with_data_in_flight),
        cmocka_unit_test(gso_out),
        cmocka_unit_test(gso_retransmit_one_segment),
        cmocka_unit_test(gso_off_again),
        cmocka_unit_test(pmtu_reduction),
        cmocka_unit_test(pmtu_bad_seq),
        cmocka_unit_test(icmp_soft_and_hard),
        cmocka_unit_test(unreachable_syn_sent),
        cmocka_unit_test(unreachable_established),
        cmocka_unit_test(suspend_and_resume),
        cmocka_unit_test(suspended_for_long),
        cmocka_unit_test(tx_failed),
        cmocka_unit_test(urgent_out),
        cmocka_unit_test(send_buffer_full_then_writable),
        cmocka_unit_test(reserve_and_commit),
    };

    return cmocka_run_group_tests_name("tcp_trace_send", tests, NULL, NULL);
}
