/*
 * Loss told by time (RACK, RFC 8985), tail loss probes, spurious timeouts (F-RTO, RFC 5682), as traces on a
 * path with a round trip of 100 ms. Each mechanism has a trace in which it acts and one in which it must not.
 */
#include "harness.h"

#include <stdio.h>

#define RTT 100

/* An accepted connection whose handshake took a round trip; what the peer offers besides its MSS of 1000. */
static struct harness *path(const char *opts)
{
    struct harness *h = h_new();
    char syn[128];

    h_listen(h, 10);
    snprintf(syn, sizeof syn, "S 0:0(0) win 65535 <mss 1000%s>", opts);
    in(h, syn);
    skip_out(h);
    pass_ms(h, RTT);
    in(h, strstr(opts, "TS") ? ". 1:1(0) ack 1 win 65535 <nop,nop,TS val 200 ecr 1000000>"
                             : ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    return h;
}

static struct harness *sack_path(void)
{
    return path(",nop,nop,sackOK");
}

/* `n` segments leave, and a round trip passes without an answer. */
static void send_and_wait(struct harness *h, unsigned n)
{
    expect(h, h_send(h, n * 1000u), n * 1000u);
    assert_int_equal(h_pending(h), n);
    skip_out(h);
    pass_ms(h, RTT);
}

static const struct tcp_counters *count(const struct harness *h)
{
    return tcp_get_counters(h->t);
}

/* ---- RACK ---- */

/* One SACK of a later segment is enough; a quarter of the round trip is waited for reordering (section 6.2).
 */
static void one_sack_after_the_window(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    send_and_wait(h, 4);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 3001:4001>");
    assert_int_equal(h_info(h).ca_state, TCP_CA_DISORDER);
    out_in(h, 27, ". 1:1001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_FAST);
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    assert_int_equal(h_info(h).lost, 3);
    assert_int_equal(count(h)->sack_recovery, 1);
    skip_out(h);
    h_free(h);
}

/* What was only late comes within the window: nothing goes again, and the path is known to reorder. */
static void reordering_within_the_window(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    send_and_wait(h, 4);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>"); /* even three of them, once it is known */
    skip_out(h);
    in(h, ". 1:1(0) ack 4001 win 65535");
    assert_int_equal(h_info(h).reord_seen, 0); /* it went again: nothing can be told */
    send_and_wait(h, 4);
    in(h, ". 1:1(0) ack 4001 win 65535 <nop,nop,sack 6001:8001>");
    pass_ms(h, 20);
    in(h, ". 1:1(0) ack 8001 win 65535");
    assert_int_equal(h_info(h).reord_seen, 1);
    assert_int_equal(count(h)->sack_reorder, 1);
    send_and_wait(h, 5);
    in(h, ". 1:1(0) ack 8001 win 65535 <nop,nop,sack 9001:13001>");
    quiet(h, 20); /* four SACKed ones, and it waits */
    in(h, ". 1:1(0) ack 13001 win 65535");
    quiet(h, 1000);
    assert_int_equal(h_info(h).reord_seen, 2);
    h_free(h);
}

/* With three segments out of order the first time, there is no window. */
static void three_sacks_at_once(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    send_and_wait(h, 6);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>");
    assert_int_equal(h_pending(h), 0);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>");
    out(h, ". 1:1001(1000) ack 1");
    assert_int_equal(h_info(h).lost, 1); /* 4001: is as old as what arrived, but not older */
    skip_out(h);
    h_free(h);
}

/* tcp_recovery 4 keeps the window all the same; 0 counts SACKs and knows no window. */
static void recovery_modes(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    h->cfg.tcp_recovery = 1 | 4;
    send_and_wait(h, 6);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:5001>");
    out_in(h, 27, ". 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 6001 win 65535");
    skip_out(h);
    h->cfg.tcp_recovery = 0;
    send_and_wait(h, 4);
    in(h, ". 1:1(0) ack 6001 win 65535 <nop,nop,sack 8001:10001>");
    quiet(h, 90);
    h_free(h);
}

/* A retransmission is lost too: what is SACKed and was sent after it says so, without an RTO. */
static void lost_retransmission(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    expect(h, h_send(h, 20000), 20000);
    skip_out(h);
    pass_ms(h, RTT);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:6001>");
    out(h, ". 1:1001(1000) ack 1");
    skip_out(h); /* and new data with it, or behind it */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:10001>");
    skip_out(h);
    pass_ms(h, 1);
    assert_true(h_info(h).snd_nxt - h_info(h).iss > 10001);
    skip_out(h);
    pass_ms(h, RTT);
    assert_int_equal(count(h)->lost_retransmit, 0);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:11001>");
    out(h, "* 1:1001(1000) ack 1 win *");
    skip_out(h);
    assert_int_equal(h_info(h).causes[TCP_CAUSE_RETRANS_FAST] >= 2, 1);
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    in(h, ". 1:1(0) ack 11001 win 65535");
    assert_int_equal(count(h)->lost_retransmit, 1);
    assert_int_equal(count(h)->timeouts, 0);
    skip_out(h);
    h_free(h);
}

/* D-SACKs widen the window, at most once a round trip, and only after the path was seen to reorder. */
static void dsacks_widen_the_window(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    send_and_wait(h, 4);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 2001:4001>");
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 4001 win 65535");
    assert_int_equal(h_info(h).reord_seen, 1);
    send_and_wait(h, 4);
    in(h, ". 1:1(0) ack 4001 win 65535 <nop,nop,sack 5001:8001>");
    out_in(h, 27, ". 4001:5001(1000) ack 1");
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 8001 win 65535"); /* the original, as would show in a moment */
    skip_out(h);
    in(h, ". 1:1(0) ack 8001 win 65535 <nop,nop,sack 4001:5001>");
    assert_int_equal(count(h)->dsack_recv, 1);
    send_and_wait(h, 4); /* the update comes with the next ACK that delivers something */
    in(h, ". 1:1(0) ack 9001 win 65535");
    in(h, ". 1:1(0) ack 9001 win 65535 <nop,nop,sack 10001:12001>");
    quiet(h, 14); /* a round trip at most: srtt is what bounds it, 27 ms would do without */
    quiet(h, 20);
    skip_out(h);
    pass_ms(h, 40);
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    skip_out(h);
    h_free(h);
}

/*
 * The answer comes sooner than the shortest round trip, or echoes an older timestamp: it is the original's,
 * and says nothing of what was sent before the retransmission (section 6.2 step 2).
 */
static void answer_to_the_original(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    send_and_wait(h, 6);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>");
    out(h, ". 1:1001(1000) ack 1");
    pass_ms(h, 5);
    in(h, ". 1:1(0) ack 4001 win 65535");
    assert_int_equal(h_info(h).lost, 0);
    quiet(h, 20);
    in(h, ". 1:1(0) ack 6001 win 65535");
    h_free(h);

    h = path(",sackOK,TS val 100 ecr 0");
    expect(h, h_send(h, 6 * 988), 6 * 988);
    skip_out(h);
    pass_ms(h, RTT);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,TS val 300 ecr 1000100,nop,nop,sack 989:3953>");
    out(h, ". 1:989(988) ack 1 <...>");
    pass_ms(h, RTT + 20);
    in(h, ". 1:1(0) ack 3953 win 65535 <nop,nop,TS val 420 ecr 1000100>");
    assert_int_equal(h_info(h).lost, 0);
    in(h, ". 1:1(0) ack 5929 win 65535 <nop,nop,TS val 421 ecr 1000100>");
    skip_out(h);
    h_free(h);
}

/* Fewer duplicates than three, without SACK: RACK has nothing to go by, NewReno waits. */
static void without_sack(void **st)
{
    struct harness *h = path("");

    (void)st;
    send_and_wait(h, 4);
    in(h, ". 1:1(0) ack 1 win 65535");
    in(h, ". 1:1(0) ack 1 win 65535");
    quiet(h, 100);
    in(h, ". 1:1(0) ack 1 win 65535");
    out(h, ". 1:1001(1000) ack 1");
    assert_int_equal(count(h)->reno_recovery, 1);
    in(h, ". 1:1(0) ack 4001 win 65535");
    h_free(h);
}

/* ---- tail loss probes ---- */

/* Section 7: two round trips of silence, then the last segment; its SACK repairs the tail without an RTO. */
static void probe_repairs_the_tail(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    out_in(h, 2 * RTT + 2, "P. 2001:3001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_TLP);
    assert_int_equal(count(h)->loss_probes, 1);
    assert_int_equal(h_info(h).retrans, 0); /* not counted on top of what is in flight */
    assert_int_equal(h_info(h).snd_cwnd, 10);
    pass_ms(h, RTT);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 2001:3001>");
    out(h, ". 1:1001(1000) ack 1"); /* much older than the probe: no window is left */
    assert_int_equal(count(h)->timeouts, 0);
    skip_out(h);
    in(h, ". 1:1(0) ack 3001 win 65535");
    h_free(h);
}

/* One segment out: its ACK may be delayed, the probe waits for rto_min more; here the RTO is as soon. */
static void probe_of_one_segment(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    out_in(h, 300, "P. 1:1001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_TLP);
    out_in(h, 300, "P. 1:1001(1000) ack 1"); /* the RTO, from the probe on */
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_RTO);
    assert_int_equal(count(h)->timeouts, 1);
    in(h, ". 1:1(0) ack 1001 win 65535");
    h_free(h);
}

/* New data goes in the place of old, whatever cwnd says. */
static void probe_with_new_data(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    expect(h, h_send(h, 12000), 12000);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
    out_in(h, 2 * RTT + 2, ". 10001:11001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_TLP);
    assert_int_equal(h_info(h).unacked, 11);
    assert_int_equal(h_info(h).total_retrans, 0);
    in(h, ". 1:1(0) ack 11001 win 65535");
    skip_out(h);
    assert_int_equal(count(h)->loss_probe_recovery, 0);
    in(h, ". 1:1(0) ack 12001 win 65535");
    h_free(h);
}

/* The probe's ACK acknowledges beyond it, once only: it repaired a loss, cwnd answers for it (section 7.4).
 */
static void probe_recovery_reduces_cwnd(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    out_in(h, 2 * RTT + 2, "P. 2001:3001(1000) ack 1");
    in(h, ". 1:1(0) ack 3001 win 65535");
    assert_int_equal(count(h)->loss_probe_recovery, 0); /* not known yet */
    send_and_wait(h, 1);
    in(h, ". 1:1(0) ack 4001 win 65535");
    assert_int_equal(count(h)->loss_probe_recovery, 1);
    assert_int_equal(h_info(h).snd_cwnd, 5);
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    h_free(h);
}

/* A D-SACK of the probe: the tail had arrived. */
static void probe_in_vain(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    out_in(h, 2 * RTT + 2, "P. 2001:3001(1000) ack 1");
    in(h, ". 1:1(0) ack 3001 win 65535");
    in(h, ". 1:1(0) ack 3001 win 65535 <nop,nop,sack 2001:3001>");
    send_and_wait(h, 1);
    in(h, ". 1:1(0) ack 4001 win 65535");
    assert_int_equal(count(h)->loss_probe_recovery, 0);
    assert_int_equal(h_info(h).snd_cwnd, 10);
    expect(h, h_send(h, 3000), 3000); /* both in one ACK */
    skip_out(h);
    pass_ms(h, 3 * RTT);
    assert_int_equal(count(h)->loss_probes, 2);
    skip_out(h);
    in(h, ". 1:1(0) ack 7001 win 65535 <nop,nop,sack 6001:7001>");
    send_and_wait(h, 1);
    in(h, ". 1:1(0) ack 8001 win 65535");
    assert_int_equal(count(h)->loss_probe_recovery, 0);
    h_free(h);
}

/* No probe: switched off, without SACK, out of order. */
static void no_probe(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    h->cfg.tcp_early_retrans = 0;
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    out_in(h, 300, ". 1:1001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_RTO);
    skip_out(h);
    h_free(h);
    h = path("");
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    out_in(h, 300, ". 1:1001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_RTO);
    skip_out(h);
    assert_int_equal(count(h)->loss_probes, 0);
    h_free(h);
}

/* ---- F-RTO ---- */

/* After the RTO (and no probe) the head has gone again; 10 segments of 12 are out. */
static struct harness *timed_out(const char *opts)
{
    struct harness *h = path(opts);

    h->cfg.tcp_early_retrans = 0;
    expect(h, h_send(h, 12000), 12000);
    skip_out(h);
    out_in(h, 300, ". 1:1001(1000) ack 1");
    assert_int_equal(h_info(h).ca_state, TCP_CA_LOSS);
    assert_int_equal(h_info(h).snd_cwnd, 1);
    return h;
}

/* Step 2b: the first ACK lets new data out, not what seems lost; step 3b: the originals arrive: undone. */
static void frto_spurious(void **st)
{
    struct harness *h = timed_out(",nop,nop,sackOK");

    (void)st;
    in(h, ". 1:1(0) ack 1001 win 65535");
    out(h, ". 10001:11001(1000) ack 1");
    out(h, "P. 11001:12001(1000) ack 1");
    assert_int_equal(h_pending(h), 0);
    in(h, ". 1:1(0) ack 2001 win 65535");
    assert_int_equal(count(h)->spurious_rto, 1);
    assert_int_equal(count(h)->loss_undo, 1);
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    assert_true(h_info(h).snd_cwnd >= 10);
    assert_int_equal(h_info(h).lost, 0);
    in(h, ". 1:1(0) ack 12001 win 65535");
    quiet(h, 1000);
    h_free(h);
}

/* Step 3a: duplicate ACKs after the new data: the loss was real, conventional recovery. */
static void frto_real(void **st)
{
    struct harness *h = timed_out("");

    (void)st;
    in(h, ". 1:1(0) ack 1001 win 65535");
    out(h, ". 10001:11001(1000) ack 1");
    out(h, "P. 11001:12001(1000) ack 1");
    in(h, ". 1:1(0) ack 1001 win 65535");
    out(h, ". 1001:2001(1000) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_RTO);
    assert_int_equal(count(h)->spurious_rto, 0);
    assert_int_equal(h_info(h).ca_state, TCP_CA_LOSS);
    skip_out(h);
    h_free(h);
}

/* No new data to send: conventional recovery at once; and with tcp_frto 0 in any case. */
static void frto_without_data(void **st)
{
    struct harness *h = path(",nop,nop,sackOK");

    (void)st;
    h->cfg.tcp_early_retrans = 0;
    expect(h, h_send(h, 10000), 10000);
    skip_out(h);
    out_in(h, 300, ". 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 1001 win 65535");
    out(h, ". 1001:2001(1000) ack 1");
    out(h, ". 2001:3001(1000) ack 1");
    h_free(h);

    h = path(",nop,nop,sackOK");
    h->cfg.tcp_early_retrans = 0;
    h->cfg.tcp_frto = 0;
    expect(h, h_send(h, 12000), 12000);
    skip_out(h);
    out_in(h, 300, ". 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 1001 win 65535");
    out(h, ". 1001:2001(1000) ack 1");
    skip_out(h);
    h_free(h);
}

/* On an RTO what was sent within the last round trip is not lost yet. */
static void timeout_spares_the_young(void **st)
{
    struct harness *h = sack_path();

    (void)st;
    h->cfg.tcp_early_retrans = 0;
    send_and_wait(h, 1);
    in(h, ". 1:1(0) ack 1001 win 65535");
    expect(h, h_send(h, 2000), 2000);
    skip_out(h);
    pass_ms(h, 250);
    expect(h, h_send(h, 2000), 2000);
    skip_out(h);
    out_in(h, 50, "* 1001:2001(1000) ack 1 win *");
    assert_int_equal(h_info(h).ca_state, TCP_CA_LOSS);
    assert_int_equal(h_info(h).lost, 2);
    assert_int_equal(h_info(h).unacked, 4);
    in(h, ". 1:1(0) ack 5001 win 65535");
    skip_out(h);
    h_free(h);
}

/* ---- undo ---- */

/* A partial ACK that echoes the original's timestamp ends the recovery; what is then lost after all is found.
 */
static void partial_undo(void **st)
{
    struct harness *h = path(",sackOK,TS val 100 ecr 0");

    (void)st;
    expect(h, h_send(h, 9880), 9880);
    skip_out(h);
    pass_ms(h, RTT);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,TS val 300 ecr 1000100,nop,nop,sack 989:3953>");
    out(h, ". 1:989(988) ack 1 <...>");
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    pass_ms(h, 5);
    in(h, ". 1:1(0) ack 3953 win 65535 <nop,nop,TS val 305 ecr 1000100>");
    assert_int_equal(count(h)->partial_undo, 1);
    assert_int_equal(count(h)->ts_reorder, 1);
    assert_true(h_info(h).snd_cwnd >= 10);
    in(h, ". 1:1(0) ack 9881 win 65535 <nop,nop,TS val 306 ecr 1000100>");
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    skip_out(h);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sack_after_the_window),
        cmocka_unit_test(reordering_within_the_window),
        cmocka_unit_test(three_sacks_at_once),
        cmocka_unit_test(recovery_modes),
        cmocka_unit_test(lost_retransmission),
        cmocka_unit_test(dsacks_widen_the_window),
        cmocka_unit_test(answer_to_the_original),
        cmocka_unit_test(without_sack),
        cmocka_unit_test(probe_repairs_the_tail),
        cmocka_unit_test(probe_of_one_segment),
        cmocka_unit_test(probe_with_new_data),
        cmocka_unit_test(probe_recovery_reduces_cwnd),
        cmocka_unit_test(probe_in_vain),
        cmocka_unit_test(no_probe),
        cmocka_unit_test(frto_spurious),
        cmocka_unit_test(frto_real),
        cmocka_unit_test(frto_without_data),
        cmocka_unit_test(timeout_spares_the_young),
        cmocka_unit_test(partial_undo),
    };

    return cmocka_run_group_tests_name("trace_rack", tests, NULL, NULL);
}
