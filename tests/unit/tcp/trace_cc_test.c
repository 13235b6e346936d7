/*
 * tests/unit/tcp/trace_cc_test.c: congestion controllers on a connection: by name, changed while it lives,
 * called when and with what cc/README.md says; delivery rate; the pacing gate.
 */
#include <stdio.h>

#include "harness.h"
#include "tcp/tcp_priv.h"

enum { RENO, CUBIC, DCTCP, BBR }; /* cc_name() */

static struct harness *server(int cc)
{
    struct harness *h = h_new();

    h->cfg.tcp_congestion_control = cc;
    h->cfg.tcp_early_retrans = 0;
    tcp_set_gso_max(h->t, 0);
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK,nop,wscale 4>");
    out(h, "S. 0:0(0) ack 1 <...>");
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    return h;
}

static void send_segments(struct harness *h, int from, int n)
{
    char text[80];

    h_send(h, (size_t)n * 1000);
    for (int k = from; k < from + n; k++) {
        snprintf(text, sizeof text, "%s %d:%d(1000) ack 1", k == from + n - 1 ? "P." : ".", 1 + 1000 * k,
                 1001 + 1000 * k);
        out(h, text);
    }
}

/* The configuration's for new connections; the listener's own for those that it makes; a name that isn't
 * there. */
static void by_name(void **st)
{
    struct harness *h = server(CUBIC);
    int32_t v = -1;

    (void)st;
    assert_string_equal(h_info(h).congestion, "cubic");
    assert_string_equal(tcp_congestion_name(h->t, 0), "cubic");
    assert_string_equal(tcp_congestion_name(h->t, h_id(h)), "cubic");
    expect(h, tcp_congestion_find("bbr", 3), BBR);
    expect(h, tcp_congestion_find("bbr\0x", 5), BBR);
    expect(h, tcp_congestion_find("bb", 2), -ENOENT);
    expect(h, h_opt(h, TCP_OPT_CONGESTION, 99), -EINVAL);
    expect(h, h_opt(h, TCP_OPT_CONGESTION, -1), -EINVAL);
    expect(h, tcp_get_opt(h->t, h_id(h), TCP_OPT_CONGESTION, &v), 0);
    expect(h, v, CUBIC);
    expect(h, tcp_listen_set_opt(h->t, h->listener, TCP_OPT_CONGESTION, 99), -EINVAL);
    expect(h, tcp_listen_set_opt(h->t, h->listener, TCP_OPT_CONGESTION, RENO), 0);
    flow(h, 1);
    in(h, "S 0:0(0) win 65535 <mss 1000>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    assert_string_equal(h_info(h).congestion, "reno");
    h_free(h);
}

/*
 * Slow start over a path of 200 ms and 1 ms a segment, whose ACKs are read `batch` at a time; what they let out leaves
 * behind each of them, or behind the batch. Returns the cwnd at which HyStart ends it.
 */
static uint32_t slow_start_ends(unsigned batch, bool send_between)
{
    enum { SEGS = 1000 };
    uint64_t sent_at[SEGS], acked_at = 0;
    struct harness *h = server(CUBIC);
    unsigned sent = 0, acked = 0, first;
    uint32_t cwnd;
    char text[80];

    while (h_info(h).snd_ssthresh == 0x7fffffff && sent < SEGS - 200) {
        h_send(h, 100000); /* always more than the window takes */
        for (unsigned k = h_pending(h); k > 0; k--)
            sent_at[sent++] = h->now;
        skip_out(h);
        for (first = acked; acked < first + batch && acked < sent; acked++) {
            acked_at = time_max(sent_at[acked] + 200 * NSEC_PER_MSEC, acked_at + NSEC_PER_MSEC);
            if (acked_at > h->now)
                pass_ms(h, (acked_at - h->now) / NSEC_PER_MSEC);
        }
        h->hold = true;
        for (unsigned k = first; k < acked; k++) {
            snprintf(text, sizeof text, ". 1:1(0) ack %u win 65535", 1001 + 1000 * k);
            in(h, text);
            h->hold = !send_between;
            flush(h);
            h->hold = true;
        }
        h->hold = false;
        flush(h);
    }
    cwnd = h_info(h).snd_cwnd;
    skip_out(h);
    h_abort(h);
    skip_out(h);
    h_free(h);
    return cwnd;
}

/*
 * Linux sends between two ACKs. HyStart's rounds, which end with what is sent when they begin, must not become shorter
 * where a batch of ACKs is read first.
 */
static void hystart_rounds_of_batches(void **st)
{
    (void)st;
    for (unsigned batch = 2; batch <= 32; batch++)
        assert_int_equal(slow_start_ends(batch, false), slow_start_ends(batch, true));
}

/* ACKs up to segment `to`, each for `step` more, all of which let out what cwnd allows. */
static void ack_segments(struct harness *h, unsigned from, unsigned to, unsigned step)
{
    char text[80];

    for (unsigned k = from + step; k <= to; k += step) {
        skip_out(h);
        snprintf(text, sizeof text, ". 1:1(0) ack %u win 65535", 1 + 1000 * k);
        in(h, text);
        h_send(h, 20000);
    }
    skip_out(h);
}

/*
 * HyStart's rounds are flights from the first one on, below its window of 16 too (Linux since 6.13). The end of the third
 * flight comes late but its begin did not, so slow start goes on; a round that began amid a flight would end it here.
 */
static void hystart_rounds_are_flights(void **st)
{
    struct harness *h = server(CUBIC);

    (void)st;
    h_send(h, 60000);
    skip_out(h);
    pass_ms(h, 100);
    ack_segments(h, 0, 10, 2);
    pass_ms(h, 100);
    ack_segments(h, 10, 30, 2);
    assert_int_equal(h_info(h).snd_cwnd, 40);
    pass_ms(h, 100);
    ack_segments(h, 30, 44, 2);
    pass_ms(h, 30);
    ack_segments(h, 44, 70, 1);
    assert_int_equal(h_info(h).snd_cwnd, 80);
    assert_int_equal(h_info(h).snd_ssthresh, 0x7fffffff);
    h_abort(h);
    skip_out(h);
    h_free(h);
}

/*
 * The gate lets a segment out every 10 ms, cwnd would let out all: a round ends with what is sent, or it would last for as
 * many round trips as cwnd holds of what the gate lets through.
 */
static void rounds_behind_the_gate(void **st)
{
    struct harness *h = server(DCTCP);
    struct tcp_conn *c = tcp_conn_by_id(h->t, h_id(h));

    (void)st;
    tcp_set_max_pacing_rate(h->t, h_id(h), 100000);
    h_send(h, 30000);
    skip_out(h); /* the first ten leave as they come */
    for (unsigned k = 1; k < 6; k++) {
        char text[80];

        pass_ms(h, 20);
        skip_out(h);
        snprintf(text, sizeof text, ". 1:1(0) ack %u win 65535", 1 + 2000 * k);
        in(h, text);
        skip_out(h);
        pass_ms(h, 1);
        tcp_cc_refresh(h->t, c, h->now);
        assert_true(c->win.cwnd > tcp_in_flight(c)); /* there was room */
        assert_int_equal(c->win.snd_nxt - c->iss, c->snd_nxt - c->iss);
    }
    skip_out(h);
    h_abort(h);
    skip_out(h);
    h_free(h);
}

/* Before the SYN leaves: DCTCP asks for ECN although the configuration doesn't. */
static void chosen_before_the_syn(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->hold = true;
    h_connect(h);
    expect(h, h_opt(h, TCP_OPT_CONGESTION, DCTCP), 0);
    h->hold = false;
    flush(h);
    out(h, "SEW 0:0(0) win * <...> ecn 2");
    h_abort(h);
    h_free(h);
}

/* Three SACKed segments: a half for reno, 0.7 for cubic. */
static void each_its_own_reduction(void **st)
{
    static const uint32_t ssthresh[] = {[RENO] = 5, [CUBIC] = 7};

    (void)st;
    for (int cc = RENO; cc <= CUBIC; cc++) {
        struct harness *h = server(cc);

        send_segments(h, 0, 10);
        pass_ms(h, 100);
        in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:8001>");
        out(h, ". 1:1001(1000) ack 1");
        expect(h, h_info(h).ca_state, TCP_CA_RECOVERY);
        expect(h, h_info(h).snd_ssthresh, ssthresh[cc]);
        in(h, ". 1:1(0) ack 10001 win 65535");
        expect(h, h_info(h).snd_cwnd, ssthresh[cc]);
        h_free(h);
    }
}

/* Window and threshold stay, the rules change (tcp_reinit_congestion_control). */
static void changed_while_it_lives(void **st)
{
    struct harness *h = server(RENO);
    uint64_t rate;

    (void)st;
    send_segments(h, 0, 10);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 10001 win 65535");
    expect(h, h_info(h).snd_cwnd, 20);
    rate = h_info(h).pacing_rate;
    expect(h, h_opt(h, TCP_OPT_CONGESTION, CUBIC), 0);
    assert_string_equal(h_info(h).congestion, "cubic");
    expect(h, h_info(h).snd_cwnd, 20);
    expect(h, h_info(h).pacing_rate, rate);
    expect(h, h_opt(h, TCP_OPT_CONGESTION, BBR), 0);
    expect(h, h_info(h).snd_cwnd, 20);
    assert_true(h_info(h).pacing_rate != rate); /* its own now */
    expect(h, h_opt(h, TCP_OPT_CONGESTION, RENO), 0);
    expect(h, h_info(h).pacing_rate, rate);
    h_free(h);
}

/* Slow start ends where round trips grow (cubic's HyStart), not where it is switched off. */
static void hystart(void **st)
{
    (void)st;
    for (int on = 0; on < 2; on++) {
        struct harness *h = server(CUBIC);
        char text[64];
        int acked = 0, sent = 20, rtt = 20;

        h->cfg.tcp_hystart = on;
        h->cfg.tcp_initcwnd = 20;
        flow(h, 1);
        h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 4", 65535);
        expect(h, h_info(h).snd_cwnd, 20);
        h_send(h, 80000);
        skip_out(h);
        for (int round = 0; round < 3; round++, rtt += 15) {
            int end = sent, step = 1;

            pass_ms(h, (uint64_t)rtt);
            skip_out(h);
            for (; acked < end && acked < 80; acked += step) {
                snprintf(text, sizeof text, ". 1:1(0) ack %d win 65535", 1 + 1000 * (acked + step));
                in(h, text);
                skip_out(h);
                sent += 2 * step;
            }
        }
        expect(h, h_info(h).snd_ssthresh < 0x7fffffff, on);
        h_free(h);
    }
}

/* What was delivered over the longer of sending and acknowledging; limited by the program or not. */
static void delivery_rate(void **st)
{
    struct harness *h = server(RENO);
    struct tcp_info i;

    (void)st;
    expect(h, h_info(h).delivery_rate, 0);
    send_segments(h, 0, 10);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 5001 win 65535");
    expect(h, h_info(h).delivery_rate, 5 * 1000 * 10); /* 5 segments in 100 ms */
    pass_ms(h, 25);
    in(h, ". 1:1(0) ack 10001 win 65535");
    i = h_info(h);
    expect(h, i.delivery_rate, 10 * 1000 * 8); /* 10 in 125 ms */
    assert_true(i.delivery_rate_app_limited);  /* the send found nothing queued */
    send_segments(h, 10, 1);
    pass_ms(h, 200);
    in(h, ". 1:1(0) ack 11001 win 65535");
    expect(h, h_info(h).delivery_rate, 80000); /* a lower one that the program limited says nothing */
    h_free(h);
}

/* SACKed segments count when they are SACKed, and once. */
static void delivery_rate_sack(void **st)
{
    struct harness *h = server(RENO);

    (void)st;
    send_segments(h, 0, 4);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>");
    expect(h, h_info(h).delivered, 1 + 2);
    expect(h, h_info(h).delivery_rate, 2 * 1000 * 10);
    pass_ms(h, 1);
    skip_out(h);
    in(h, ". 1:1(0) ack 4001 win 65535");
    expect(h, h_info(h).delivered, 1 + 4);
    assert_in_range(h_info(h).delivery_rate, 39000, 40000);
    h_free(h);
}

/* What was SACKed gives no second sample when it is acknowledged. */
static void one_sample_each(void **st)
{
    struct harness *h = server(RENO);

    (void)st;
    h->cfg.tcp_recovery = 0;
    send_segments(h, 0, 2);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1001 win 65535");
    send_segments(h, 2, 1);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1001 win 65535 <nop,nop,sack 2001:3001>");
    expect(h, h_info(h).delivery_rate, 10000);
    pass_ms(h, 20);
    in(h, ". 1:1(0) ack 3001 win 65535");
    expect(h, h_info(h).delivery_rate, 3 * 1000 * 1000 / 220); /* the second one's: all 3 since it left */
    h->cfg.tcp_recovery = 1;
    h_free(h);
}

/* Ten segments go as they come; then each waits for what the ones before it cost at the rate
 * (SO_MAX_PACING_RATE). */
static void max_pacing_rate(void **st)
{
    struct harness *h = server(RENO);

    (void)st;
    expect(h, tcp_set_max_pacing_rate(h->t, h_id(h), 100000), 0); /* 10 ms a segment */
    send_segments(h, 0, 10);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 10001 win 65535");
    expect(h, h_info(h).pacing_rate, 100000);
    h_send(h, 4000);
    out(h, ". 10001:11001(1000) ack 1");
    out_in(h, 9, ". 11001:12001(1000) ack 1"); /* a millisecond of credit */
    expect(h, h_info(h).limit, TCP_LIMIT_PACING);
    out_in(h, 10, ". 12001:13001(1000) ack 1");
    out_in(h, 10, "P. 13001:14001(1000) ack 1");
    h_free(h);
}

/* The RTO's own retransmission goes at its time, though the gate is closed for longer (tcp_retransmit_timer). */
static void rto_opens_the_gate(void **st)
{
    struct harness *h = server(RENO);

    (void)st;
    send_segments(h, 0, 10);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 10001 win 65535");
    expect(h, tcp_set_max_pacing_rate(h->t, h_id(h), 100), 0); /* 10 s a segment */
    h_send(h, 1000);
    out(h, "P. 10001:11001(1000) ack 1");
    pass_ms(h, 1000);
    out(h, "P. 10001:11001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_RTO);
    skip_out(h);
    h_free(h);
}

/* tcp_pacing: every connection keeps to its rate, cwnd per round trip times 2 in slow start. */
static void all_paced(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_pacing = 1;
    tcp_set_gso_max(h->t, 0);
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>");
    out(h, "S. 0:0(0) ack 1 <...>");
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    send_segments(h, 0, 10);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 10001 win 65535");
    expect(h, h_info(h).pacing_rate, 2 * 20 * 1000 * 10);
    h_send(h, 3000);
    out(h, ". 10001:11001(1000) ack 1");
    out_in(h, 2, ". 11001:12001(1000) ack 1");
    out_in(h, 2, "P. 12001:13001(1000) ack 1");
    h_free(h);
}

/* bbr rules window and rate alone: no PRR, a pacing rate of its own, more of both with each round in Startup.
 */
static void bbr_rules(void **st)
{
    struct harness *h = server(BBR);
    uint64_t rate = h_info(h).pacing_rate;
    char text[64];

    (void)st;
    assert_in_range(rate, 200000, 300000); /* 2.77 x 10 segments in 100 ms */
    h_send(h, 60000);
    skip_out(h);
    pass_ms(h, 100);
    skip_out(h);
    for (int k = 1; k <= 10; k++) {
        snprintf(text, sizeof text, ". 1:1(0) ack %d win 65535", 1 + 1000 * k);
        in(h, text);
        skip_out(h);
        pass_ms(h, 1);
        skip_out(h);
    }
    assert_true(h_info(h).snd_cwnd > 15);
    assert_true(h_info(h).delivery_rate > 50000);
    in(h, ". 1:1(0) ack 10001 win 65535 <nop,nop,sack 11001:14001>");
    skip_out(h);
    expect(h, h_info(h).ca_state, TCP_CA_RECOVERY);
    assert_true(h_info(h).snd_cwnd > 10);
    h_free(h);
}

/* ACKs with ECE make dctcp's alpha, and alpha its reduction: all marked, a half; see cc_dctcp_test for less.
 */
static void dctcp_hears_of_marks(void **st)
{
    struct harness *h = h_new();
    struct tcp_info i;

    (void)st;
    h->cfg.tcp_congestion_control = DCTCP;
    tcp_set_gso_max(h->t, 0);
    h_listen(h, 8);
    in(h, "SEW 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>");
    out(h, "S.E 0:0(0) ack 1 <...> ecn 2");
    in(h, ". 1:1(0) ack 1 win 65535 ecn 2");
    h_accept(h);
    h_send(h, 10000);
    skip_out(h);
    in(h, ". 1:1(0) ack 5001 win 65535");
    in(h, ". 1:1(0) ack 10001 win 65535");
    expect(h, h_info(h).snd_cwnd, 20);
    h_send(h, 20000);
    skip_out(h);
    in(h, ".E 1:1(0) ack 12001 win 65535"); /* alpha was 1, and is 15/16 after the first window */
    i = h_info(h);
    expect(h, i.ca_state, TCP_CA_CWR);
    expect(h, i.delivered_ce, 2);
    assert_in_range(i.snd_ssthresh, 11, 12);
    h_free(h);
}

/* A loss takes dctcp down by a half, not by alpha: it hears of the change of state (RFC 8257 section 3.5). */
static void dctcp_hears_of_losses(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_congestion_control = DCTCP;
    tcp_set_gso_max(h->t, 0);
    h_listen(h, 8);
    in(h, "SEW 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>");
    out(h, "S.E 0:0(0) ack 1 <...> ecn 2");
    in(h, ". 1:1(0) ack 1 win 65535 ecn 2");
    h_accept(h);
    h_send(h, 10000);
    skip_out(h);
    in(h, ". 1:1(0) ack 10001 win 65535");
    expect(h, h_info(h).snd_cwnd, 20);
    h_send(h, 20000);
    skip_out(h);
    in(h, ". 1:1(0) ack 10001 win 65535 <nop,nop,sack 11001:15001>");
    skip_out(h);
    expect(h, h_info(h).ca_state, TCP_CA_RECOVERY);
    expect(h, h_info(h).snd_ssthresh, 10);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_name),
        cmocka_unit_test(hystart_rounds_of_batches),
        cmocka_unit_test(hystart_rounds_are_flights),
        cmocka_unit_test(rounds_behind_the_gate),
        cmocka_unit_test(chosen_before_the_syn),
        cmocka_unit_test(each_its_own_reduction),
        cmocka_unit_test(changed_while_it_lives),
        cmocka_unit_test(hystart),
        cmocka_unit_test(delivery_rate),
        cmocka_unit_test(delivery_rate_sack),
        cmocka_unit_test(one_sample_each),
        cmocka_unit_test(max_pacing_rate),
        cmocka_unit_test(rto_opens_the_gate),
        cmocka_unit_test(all_paced),
        cmocka_unit_test(bbr_rules),
        cmocka_unit_test(dctcp_hears_of_marks),
        cmocka_unit_test(dctcp_hears_of_losses),
    };

    return cmocka_run_group_tests_name("trace_cc", tests, NULL, NULL);
}
