/*
 * What RTT, cwnd and the recovery states do with ACKs that lie: Karn's rule, undo by D-SACK and by
 * timestamps, peers that forget what they SACKed, idle and unused windows; and that facts leave before data.
 */
#include "harness.h"

#include <stdio.h>

static void send_ten(struct harness *h, unsigned mss)
{
    expect(h, h_send(h, 10 * mss), 10 * mss);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
}

/* RFC 6298 section 3: an ACK of something retransmitted gives no sample, whatever else it acknowledges. */
static void karn(void **st)
{
    struct harness *h = h_passive("mss 1460", 65535);
    uint32_t rtt = h_info(h).rtt;

    (void)st;
    expect(h, h_send(h, 2920), 2920);
    skip_out(h);
    out_in(h, 201, ". 1:1461(1460) ack 1");
    in(h, ". 1:1(0) ack 2921 win 65535");
    assert_int_equal(h_info(h).rtt, rtt);
    assert_int_equal(h_info(h).backoff, 1); /* stays until a sample comes (section 5.7) */
    expect(h, h_send(h, 1460), 1460);
    skip_out(h);
    pass_ms(h, 50);
    in(h, ". 1:1(0) ack 4381 win 65535");
    assert_true(h_info(h).rtt > rtt);
    assert_int_equal(h_info(h).backoff, 0);
    h_free(h);
}

/* RFC 2883, RFC 3708: all that was retransmitted arrived twice: the reduction is taken back. */
static void undo_by_dsack(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);

    (void)st;
    h->cfg.tcp_recovery = 0; /* SACKs count (RFC 6675), not time: the round trip is 0 here */
    send_ten(h, 1000);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>");
    out(h, ". 1:1001(1000) ack 1");
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    assert_int_equal(h_info(h).snd_ssthresh, 5);
    in(h, ". 1:1(0) ack 4001 win 65535"); /* the original, late */
    skip_out(h);
    in(h, ". 1:1(0) ack 4001 win 65535 <nop,nop,sack 1:1001>"); /* the retransmission */
    assert_true(h_info(h).snd_cwnd >= 10);
    assert_int_not_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    in(h, ". 1:1(0) ack 10001 win 65535");
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    skip_out(h);
    h_free(h);
}

/* RFC 3522 (Eifel): the ACK echoes the original's timestamp, so the timeout was spurious. */
static void undo_by_timestamps(void **st)
{
    struct harness *h = h_passive("mss 1000,sackOK,TS val 100 ecr 0", 65535);

    (void)st;
    expect(h, h_send(h, 9880), 9880);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
    pass_ms(h, 250);
    assert_int_equal(h_info(h).ca_state, TCP_CA_LOSS);
    assert_int_equal(h_info(h).snd_cwnd, 1);
    skip_out(h);
    in(h, ". 1:1(0) ack 989 win 65535 <nop,nop,TS val 501 ecr 1000000>");
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    assert_int_equal(tcp_get_counters(h->t)->loss_undo, 1);
    assert_true(h_info(h).snd_cwnd >= 10);
    skip_out(h);
    h_free(h);
}

/* The same ACK with a new timestamp: the retransmission was needed. */
static void no_undo_when_needed(void **st)
{
    struct harness *h = h_passive("mss 1000,sackOK,TS val 100 ecr 0", 65535);

    (void)st;
    expect(h, h_send(h, 9880), 9880);
    skip_out(h);
    pass_ms(h, 250);
    skip_out(h);
    in(h, ". 1:1(0) ack 989 win 65535 <nop,nop,TS val 501 ecr 1000250>");
    assert_int_equal(h_info(h).ca_state, TCP_CA_LOSS);
    assert_int_equal(tcp_get_counters(h->t)->loss_undo, 0);
    assert_int_equal(h_pending(h), 2); /* slow start */
    skip_out(h);
    h_free(h);
}

/* RFC 2018 section 8: the peer acknowledged up to what it has SACKed, and no further: it forgot. */
static void reneging(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);

    (void)st;
    h->cfg.tcp_recovery = 0; /* SACKs count (RFC 6675), not time: the round trip is 0 here */
    send_ten(h, 1000);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>");
    assert_int_equal(h_info(h).sacked, 2);
    in(h, ". 1:1(0) ack 1001 win 65535");
    out_in(h, 10, ". 1001:2001(1000) ack 1"); /* sooner than the RTO */
    assert_int_equal(tcp_get_counters(h->t)->reneging, 1);
    assert_int_equal(h_info(h).sacked, 0);
    assert_int_equal(h_info(h).lost, 9);
    in(h, ". 1:1(0) ack 10001 win 65535");
    skip_out(h);
    quiet(h, 3000);
    h_free(h);
}

/* RFC 5681 section 4.1: after an idle RTO cwnd falls back, by halves, to the initial one. */
static void idle_restart(void **st)
{
    struct harness *h = h_passive("mss 1000", 65535);
    uint32_t grown;

    (void)st;
    for (int i = 0; i < 3; i++) {
        expect(h, h_send(h, 10000), 10000);
        skip_out(h);
        for (int k = 0; k < 5; k++) {
            char ack[64];

            snprintf(ack, sizeof ack, ". 1:1(0) ack %d win 65535", i * 10000 + 2000 * (k + 1) + 1);
            in(h, ack);
        }
    }
    grown = h_info(h).snd_cwnd;
    assert_true(grown > 15);
    pass_ms(h, 5000);
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    assert_int_equal(h_info(h).snd_cwnd, 10);
    in(h, ". 1:1(0) ack 31001 win 65535");
    h_free(h);
}

/* RFC 7661 in spirit, tcp_is_cwnd_limited: a window that is not used does not grow. */
static void unused_window(void **st)
{
    struct harness *h = h_passive("mss 1000", 65535);

    (void)st;
    for (int i = 0; i < 50; i++) {
        char ack[64];

        expect(h, h_send(h, 1000), 1000);
        skip_out(h);
        snprintf(ack, sizeof ack, ". 1:1(0) ack %d win 65535", (i + 1) * 1000 + 1);
        in(h, ack);
    }
    assert_int_equal(h_info(h).snd_cwnd, 10);
    h_free(h);
}

/* Duplicate ACKs that are owed leave before data that would acknowledge more, and each on its own. */
static void facts_before_data(void **st)
{
    struct harness *h = h_passive("mss 1000", 65535);

    (void)st;
    h->hold = true;
    in(h, ". 1001:2001(1000) ack 1 win 65535");
    in(h, ". 2001:3001(1000) ack 1 win 65535");
    expect(h, h_send(h, 100), 100);
    h->hold = false;
    flush(h);
    out(h, ". 1:1(0) ack 1");
    out(h, ". 1:1(0) ack 1");
    out(h, "P. 1:101(100) ack 1");
    skip_out(h);
    in(h, ". 3001:3001(0) ack 101 win 65535");
    skip_out(h);
    h_free(h);
}

/* A SACK block takes room from the payload of a full segment (tcp_current_mss). */
static void sack_blocks_shorten_segments(void **st)
{
    struct harness *h = h_passive("mss 1460,nop,nop,sackOK", 65535);

    (void)st;
    in(h, ". 1001:2001(1000) ack 1 win 65535");
    skip_out(h);
    expect(h, h_send(h, 1460), 1460);
    out(h, "* 1:1449(1448) ack 1 win * <...>");
    skip_out(h);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(karn),
        cmocka_unit_test(undo_by_dsack),
        cmocka_unit_test(undo_by_timestamps),
        cmocka_unit_test(no_undo_when_needed),
        cmocka_unit_test(reneging),
        cmocka_unit_test(idle_restart),
        cmocka_unit_test(unused_window),
        cmocka_unit_test(facts_before_data),
        cmocka_unit_test(sack_blocks_shorten_segments),
    };

    return cmocka_run_group_tests_name("trace_recovery", tests, NULL, NULL);
}
