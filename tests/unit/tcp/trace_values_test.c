/*
 * What tcp_info says, field by field (Linux's tcp_get_info): a connection that sends and loses, one that has timeouts,
 * one that receives, probes, marks, states. Each number follows from the trace beside it; a field that is 0 in one
 * trace has another value in the next, so that one which is forgotten, or taken from elsewhere, shows.
 */
#include "harness.h"

#include <stdio.h>

#define SAYS(h, field, value) expect(h, h_info(h).field, value)
#define SYN "S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK,nop,wscale 7>"

/* A passive open with a round trip of 100 ms. */
static struct harness *opened(const char *syn, const char *ack)
{
    struct harness *h = h_new();

    h_listen(h, 4);
    in(h, syn);
    out(h, strstr(syn, "SEW") ? "S.E 0:0(0) ack 1 <...>" : "S. 0:0(0) ack 1 <...>");
    pass_ms(h, 100);
    in(h, ack);
    h_accept(h);
    return h;
}

/* Thirteen segments, the last of 500 bytes, ten in the initial window. */
static void sent(void **st)
{
    struct harness *h = opened(SYN, ". 1:1(0) ack 1 win 512");

    (void)st;
    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    expect(h, h_send(h, 12500), 12500);
    skip_out(h);
    pass_ms(h, 100);
    SAYS(h, state, TCP_STATE_ESTABLISHED), SAYS(h, ca_state, TCP_CA_OPEN), SAYS(h, options, 2 | 4);
    SAYS(h, snd_wscale, 7), SAYS(h, rcv_wscale, 7), SAYS(h, snd_wnd, 512 << 7), SAYS(h, rcv_wnd, 502 << 7);
    SAYS(h, rcv_open, 502 << 7), SAYS(h, snd_mss, 1000), SAYS(h, advmss, 1460), SAYS(h, pmtu, 1500);
    SAYS(h, unacked, 10), SAYS(h, sacked, 0), SAYS(h, lost, 0), SAYS(h, retrans, 0), SAYS(h, notsent_bytes, 2500);
    SAYS(h, rtt, 100000), SAYS(h, rttvar, 50000), SAYS(h, min_rtt, 100000), SAYS(h, rto, 300000);
    SAYS(h, snd_cwnd, 10), SAYS(h, snd_ssthresh, 0x7fffffff), SAYS(h, reordering, 3), SAYS(h, delivered, 1);
    SAYS(h, pacing_rate, 200000); /* cwnd / RTT, twice as long as slow start lasts */
    expect(h, h_info(h).max_pacing_rate == UINT64_MAX, true);
    SAYS(h, segs_out, 10), SAYS(h, data_segs_out, 10), SAYS(h, segs_in, 1), SAYS(h, data_segs_in, 0);
    SAYS(h, bytes_sent, 10000), SAYS(h, bytes_acked, 0), SAYS(h, delivery_rate, 0), SAYS(h, busy_time, 100000);
    SAYS(h, last_data_sent, 100), SAYS(h, last_data_recv, 100), SAYS(h, last_ack_recv, 100), SAYS(h, age, 100000);
    SAYS(h, limit, TCP_LIMIT_CWND), SAYS(h, orphan, false), SAYS(h, error, 0), SAYS(h, sndbuf, 87380);
    SAYS(h, timer, TCP_INFO_TIMER_ON), SAYS(h, timer_expires, 102000), SAYS(h, timer_left, 102000);
    SAYS(h, snd_una - h_info(h).iss, 1), SAYS(h, snd_nxt - h_info(h).iss, 10001);
    SAYS(h, write_seq - h_info(h).iss, 12501);
    SAYS(h, causes[TCP_CAUSE_DATA], 10), SAYS(h, tuple.remote_port, H_PEER_PORT), SAYS(h, tuple.local_port, H_PORT);
    expect(h, strcmp(h_info(h).congestion, "reno"), 0);
    expect(h, h_info(h).sndbuf_used > 12500 && h_info(h).sndbuf_used < 87380, true);
    skip_out(h);
    h_free(h);
}

/* The same, and the first and the fourth are lost. */
static void lost(void **st)
{
    struct harness *h = opened(SYN, ". 1:1(0) ack 1 win 512");

    (void)st;
    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    expect(h, h_send(h, 12500), 12500);
    skip_out(h);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,sack 1001:3001>"); /* two more may leave (RFC 3042) */
    SAYS(h, ca_state, TCP_CA_DISORDER), SAYS(h, unacked, 12), SAYS(h, sacked, 2), SAYS(h, lost, 0);
    SAYS(h, delivered, 3), SAYS(h, delivery_rate, 20000), SAYS(h, rttvar, 37500), SAYS(h, notsent_bytes, 500);
    SAYS(h, segs_in, 2);
    skip_out(h);
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,sack 4001:7001,nop,nop,sack 1001:3001>");
    SAYS(h, ca_state, TCP_CA_RECOVERY), SAYS(h, sacked, 5), SAYS(h, lost, 2), SAYS(h, retrans, 1);
    SAYS(h, total_retrans, 1), SAYS(h, retransmits, 0), SAYS(h, snd_ssthresh, 5), SAYS(h, snd_cwnd, 6);
    SAYS(h, bytes_retrans, 1000);
    SAYS(h, bytes_sent, 13000), SAYS(h, segs_out, 13), SAYS(h, data_segs_out, 13), SAYS(h, delivered, 6);
    SAYS(h, rtt, 101250), SAYS(h, rttvar, 30625), SAYS(h, rto, 302000), SAYS(h, min_rtt, 100000);
    SAYS(h, delivery_rate, 5000 * 1000 / 110), SAYS(h, delivery_rate_app_limited, true);
    SAYS(h, causes[TCP_CAUSE_RETRANS_FAST], 1);
    skip_out(h);
    pass_ms(h, 50);
    in(h, ". 1:1(0) ack 3001 win 512 <nop,nop,sack 4001:7001>"); /* of the retransmission, which no sample times */
    SAYS(h, unacked, 9), SAYS(h, sacked, 3), SAYS(h, lost, 1), SAYS(h, retrans, 0), SAYS(h, bytes_acked, 3000);
    SAYS(h, rtt, 101250), SAYS(h, last_ack_recv, 0), SAYS(h, last_data_sent, 50), SAYS(h, last_data_recv, 160);
    SAYS(h, delivery_rate_app_limited, false), SAYS(h, snd_una - h_info(h).iss, 3001);
    skip_out(h);
    h_free(h);
}

/* A tail loss probe and two timeouts without an answer, then one. */
static void timeouts(void **st)
{
    struct harness *h = opened(SYN, ". 1:1(0) ack 1 win 512");

    (void)st;
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    pass_ms(h, 2000);
    skip_out(h);
    SAYS(h, ca_state, TCP_CA_LOSS), SAYS(h, retransmits, 2), SAYS(h, backoff, 2), SAYS(h, rto, 1200000);
    SAYS(h, unacked, 3), SAYS(h, lost, 3), SAYS(h, retrans, 1), SAYS(h, snd_cwnd, 1), SAYS(h, snd_ssthresh, 5);
    SAYS(h, total_retrans, 3), SAYS(h, bytes_retrans, 3000), SAYS(h, bytes_sent, 6000), SAYS(h, segs_out, 6);
    SAYS(h, total_rto, 2), SAYS(h, total_rto_recoveries, 1), SAYS(h, busy_time, 2000000);
    SAYS(h, causes[TCP_CAUSE_RETRANS_TLP], 1), SAYS(h, causes[TCP_CAUSE_RETRANS_RTO], 2);
    in(h, ". 1:1(0) ack 1001 win 512");
    SAYS(h, retransmits, 0), SAYS(h, backoff, 2), SAYS(h, unacked, 2), SAYS(h, snd_cwnd, 2), SAYS(h, delivered, 2);
    SAYS(h, total_retrans, 5);
    skip_out(h);
    in(h, ". 1:1(0) ack 3001 win 512");
    SAYS(h, ca_state, TCP_CA_OPEN), SAYS(h, unacked, 0), SAYS(h, bytes_acked, 3000);
    expect(h, h_info(h).timer_left == UINT64_MAX && h_info(h).timer_expires == UINT64_MAX, true);
    SAYS(h, timer, TCP_INFO_TIMER_OFF);
    skip_out(h);
    h_free(h);
}

/* In order, with a hole, and read in part. */
static void received(void **st)
{
    struct harness *h = opened(SYN, ". 1:1(0) ack 1 win 512");

    (void)st;
    SAYS(h, rcv_mss, 536); /* before anything came */
    in(h, ". 1:901(900) ack 1 win 512");
    skip_out(h);
    pass_ms(h, 30);
    in(h, "P. 1801:2501(700) ack 1 win 512");
    skip_out(h);
    pass_ms(h, 7);
    SAYS(h, rcv_mss, 900), SAYS(h, rcv_nxt - h_info(h).irs, 901), SAYS(h, unread_bytes, 900), SAYS(h, ooo_bytes, 700);
    SAYS(h, rcv_ooopack, 1), SAYS(h, bytes_received, 900), SAYS(h, segs_in, 3), SAYS(h, data_segs_in, 2);
    SAYS(h, segs_out, 2);
    SAYS(h, last_data_recv, 37), SAYS(h, last_ack_recv, 7), SAYS(h, ato, 40000), SAYS(h, rcv_space, 14600);
    SAYS(h, rcv_ssthresh, 65536 - 1460); /* half the buffer, less a segment in reserve */
    SAYS(h, rcvbuf, 131072), SAYS(h, causes[TCP_CAUSE_ACK_QUICK], 1), SAYS(h, rcv_rtt, 0);
    expect(h, h_info(h).rcvbuf_used >= 1600, true);
    expect(h, h_recv(h, 400), 400);
    skip_out(h);
    SAYS(h, unread_bytes, 500), SAYS(h, copied_seq - h_info(h).irs, 401);
    in(h, ". 901:1801(900) ack 1 win 512");
    skip_out(h);
    SAYS(h, rcv_nxt - h_info(h).irs, 2501), SAYS(h, ooo_bytes, 0), SAYS(h, unread_bytes, 2100);
    SAYS(h, bytes_received, 2500);
    in(h, ". 2501:3201(700) ack 1 win 512"); /* smaller ones: the first may be the end of a write, two are no chance */
    SAYS(h, rcv_mss, 900);
    skip_out(h);
    in(h, ". 3201:3901(700) ack 1 win 512");
    SAYS(h, rcv_mss, 700);
    skip_out(h);
    in(h, ". 3901:5901(2000) ack 1 win 512"); /* never more than what was announced */
    SAYS(h, rcv_mss, 1460);
    skip_out(h);
    in(h, ". 1:101(100) ack 1 win 512");
    SAYS(h, drops[TCP_DROP_OLD_DATA], 1);
    skip_out(h);
    h_free(h);
}

/* The receiver's round trip by timestamps, smoothed over eight, and what was read in one of them. */
static void receivers_round_trip(void **st)
{
    struct harness *h = opened("S 0:0(0) win 65535 <mss 1000,sackOK,TS val 1 ecr 0,nop,wscale 7>",
                               ". 1:1(0) ack 1 win 512 <nop,nop,TS val 101 ecr 1000000>");

    (void)st;
    SAYS(h, rcv_rtt, 0), SAYS(h, advmss, 1448), SAYS(h, rcv_space, 14600), SAYS(h, options, 1 | 2 | 4);
    in(h, ". 1:1001(1000) ack 1 win 512 <nop,nop,TS val 101 ecr 1000000>");
    SAYS(h, rcv_rtt, 0); /* it echoes what the handshake's ACK did */
    skip_out(h);
    pass_ms(h, 60);
    in(h, ". 1001:2001(1000) ack 1 win 512 <nop,nop,TS val 161 ecr 1000100>");
    SAYS(h, rcv_rtt, 60000);
    skip_out(h);
    pass_ms(h, 100);
    in(h, ". 2001:20001(18000) ack 1 win 512 <nop,nop,TS val 261 ecr 1000160>");
    SAYS(h, rcv_rtt, 65000); /* seven eighths of 60 and one of 100 */
    skip_out(h);
    pass_ms(h, 10);
    expect(h, h_recv(h, 20000), 20000);
    SAYS(h, rcv_space, 20000);
    /* Twice what was read and 16 segments; of that, again twice what the rate grew by; and as much for overhead. */
    SAYS(h, rcvbuf, 2 * ((40000 + 16 * 1448) + 2 * ((40000 + 16 * 1448) * (20000 - 14600) / 14600)));
    skip_out(h);
    h_free(h);
}

/* The same by the time that a whole window took, where there are no timestamps: the shortest seen. */
static void receivers_round_trip_by_window(void **st)
{
    struct harness *h = opened(SYN, ". 1:1(0) ack 1 win 512");

    (void)st;
    h->cfg.tcp_moderate_rcvbuf = 0; /* the window stays below 70000 bytes */
    in(h, ". 1:1001(1000) ack 1 win 512");
    skip_out(h);
    expect(h, h_recv(h, 1000), 1000);
    for (unsigned i = 0; i < 3; i++) {
        static const unsigned ms[] = {200, 150, 300};

        pass_ms(h, ms[i]);
        for (unsigned half = 0; half < 2; half++) {
            char text[100];
            unsigned from = 1001 + i * 70000 + half * 35000;

            SAYS(h, rcv_rtt, i == 0 ? 0 : i == 1 ? 200000 : 150000);
            snprintf(text, sizeof text, ". %u:%u(35000) ack 1 win 512", from, from + 35000);
            in(h, text);
            skip_out(h);
            expect(h, h_recv(h, 35000), 35000);
            skip_out(h);
        }
        SAYS(h, rcv_rtt, i == 0 ? 200000 : 150000);
    }
    h_free(h);
}

/* A window that is closed is probed; a silent connection too. */
static void probes(void **st)
{
    struct harness *h = opened(SYN, ". 1:1(0) ack 1 win 0");

    (void)st;
    expect(h, h_send(h, 3000), 3000);
    SAYS(h, limit, TCP_LIMIT_RWND), SAYS(h, snd_wnd, 0), SAYS(h, notsent_bytes, 3000), SAYS(h, probes, 0);
    SAYS(h, timer, TCP_INFO_TIMER_PERSIST), SAYS(h, timer_expires, 300000);
    pass_ms(h, 1000); /* at 300 and 900 ms */
    skip_out(h);
    SAYS(h, probes, 2), SAYS(h, backoff, 2), SAYS(h, retransmits, 0), SAYS(h, total_retrans, 0);
    SAYS(h, timer_left, 1100000);
    SAYS(h, rwnd_limited, 1000000), SAYS(h, busy_time, 1000000);
    in(h, ". 1:1(0) ack 1 win 0");
    SAYS(h, probes, 0), SAYS(h, backoff, 2); /* answered, and closed still */
    in(h, ". 1:1(0) ack 1 win 512");
    SAYS(h, backoff, 0), SAYS(h, unacked, 3);
    skip_out(h);
    in(h, ". 1:1(0) ack 3001 win 512");
    expect(h, h_opt(h, TCP_OPT_KEEPALIVE, 1), 0);
    expect(h, h_opt(h, TCP_OPT_KEEPIDLE, 10), 0);
    SAYS(h, timer, TCP_INFO_TIMER_KEEPALIVE), SAYS(h, timer_expires, 10000000);
    pass_ms(h, 10001);
    skip_out(h);
    SAYS(h, probes, 1), SAYS(h, causes[TCP_CAUSE_PROBE_KEEPALIVE], 1);
    h_free(h);
}

/* ECE: cwnd is being reduced, and what was marked is counted. */
static void marks(void **st)
{
    struct harness *h = opened("SEW 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>", ". 1:1(0) ack 1 win 65535");

    (void)st;
    SAYS(h, options, 2 | 8);
    in(h, "P. 1:101(100) ack 1 win 65535 ecn 2");
    SAYS(h, options, 2 | 8 | 16);
    skip_out(h);
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    in(h, ".E 101:101(0) ack 2001 win 65535");
    SAYS(h, ca_state, TCP_CA_CWR), SAYS(h, delivered, 3), SAYS(h, delivered_ce, 2), SAYS(h, snd_ssthresh, 5);
    skip_out(h);
    in(h, ". 101:101(0) ack 3001 win 65535");
    SAYS(h, delivered_ce, 2);
    skip_out(h);
    h_free(h);
}

/* A segment that was only late, and one that came twice. */
static void reordered(void **st)
{
    struct harness *h = opened(SYN, ". 1:1(0) ack 1 win 512");

    (void)st;
    expect(h, h_send(h, 8000), 8000);
    skip_out(h);
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,sack 5001:6001>");
    SAYS(h, reord_seen, 0);
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,sack 1001:2001,nop,nop,sack 5001:6001>");
    SAYS(h, reord_seen, 1), SAYS(h, reordering, 5), SAYS(h, dsack_dups, 0);
    in(h, ". 1:1(0) ack 8001 win 512 <nop,nop,sack 1:1001>");
    SAYS(h, dsack_dups, 1), SAYS(h, reordering, 8) /* the first came behind all eight */, SAYS(h, delivered, 9);
    skip_out(h);
    h_free(h);
}

/* Both ends of every road through the states; half-open and TIME-WAIT are small entries that say less. */
static void states(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    SAYS(h, state, TCP_STATE_SYN_SENT), SAYS(h, limit, TCP_LIMIT_HANDSHAKE);
    out(h, "S 0:0(0) <...>");
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1000>");
    SAYS(h, state, TCP_STATE_ESTABLISHED), SAYS(h, bytes_acked, 1), SAYS(h, orphan, false);
    skip_out(h);
    expect(h, h_shutdown(h), 0);
    SAYS(h, state, TCP_STATE_FIN_WAIT1), SAYS(h, limit, TCP_LIMIT_NOTHING);
    out(h, "F. 1:1(0) ack 1");
    in(h, ". 1:1(0) ack 2 win 65535");
    SAYS(h, state, TCP_STATE_FIN_WAIT2);
    expect(h, h_close(h), 0);
    SAYS(h, orphan, true), SAYS(h, timer, TCP_INFO_TIMER_KEEPALIVE);
    in(h, "F. 1:1(0) ack 2 win 65535");
    SAYS(h, state, TCP_STATE_TIME_WAIT), SAYS(h, timer, TCP_INFO_TIMER_TIMEWAIT), SAYS(h, timer_expires, 60000000);
    skip_out(h);
    h_free(h);

    h = h_new();
    h_listen(h, 4);
    in(h, SYN);
    out(h, "S. 0:0(0) ack 1 <...>");
    SAYS(h, state, TCP_STATE_NEW_SYN_RECV), SAYS(h, options, 2 | 4), SAYS(h, timer, TCP_INFO_TIMER_ON);
    SAYS(h, timer_expires, 1000000), SAYS(h, snd_wscale, 7), SAYS(h, rcv_wscale, 7);
    in(h, ". 1:1(0) ack 1 win 512");
    h_accept(h);
    in(h, "F. 1:1(0) ack 1 win 512");
    SAYS(h, state, TCP_STATE_CLOSE_WAIT);
    skip_out(h);
    expect(h, h_close(h), 0);
    SAYS(h, state, TCP_STATE_LAST_ACK), SAYS(h, orphan, true);
    skip_out(h);
    h_free(h);

    h = h_passive("mss 1000", 65535);
    expect(h, h_shutdown(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, "F. 1:1(0) ack 1 win 65535");
    SAYS(h, state, TCP_STATE_CLOSING);
    skip_out(h);
    in(h, "R 2:2(0) win 0");
    SAYS(h, state, TCP_STATE_CLOSE);
    h_free(h);

    h = h_passive("mss 1000", 65535);
    in(h, "R 1:1(0) win 0");
    SAYS(h, state, TCP_STATE_CLOSE), SAYS(h, error, ECONNRESET);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sent),
        cmocka_unit_test(lost),
        cmocka_unit_test(timeouts),
        cmocka_unit_test(received),
        cmocka_unit_test(receivers_round_trip),
        cmocka_unit_test(receivers_round_trip_by_window),
        cmocka_unit_test(probes),
        cmocka_unit_test(marks),
        cmocka_unit_test(reordered),
        cmocka_unit_test(states),
    };

    return cmocka_run_group_tests_name("trace_values", tests, NULL, NULL);
}
