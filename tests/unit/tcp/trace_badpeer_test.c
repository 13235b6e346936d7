/*
 * Peers that lie or misbehave, as traces: what they do costs a bounded amount, does not inflate cwnd, and is counted.
 *
 * Split, stretched and optimistic ACKs, ACKs of what was never sent, floods of D-SACKs, SACK holes and duplicate ACKs,
 * blocks of nonsense, forged timestamps and ICMP, tiny MSS and windows, windows that shrink or stay closed.
 */
#include "harness.h"

#include <stdio.h>

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

static struct harness *plain(void)
{
    return h_passive("mss 1000", 65535);
}

static struct harness *sack(void)
{
    return h_passive("mss 1000,nop,nop,sackOK", 65535);
}

static void send_segs(struct harness *h, unsigned n)
{
    expect(h, h_send(h, n * 1000u), n * 1000u);
    skip_out(h);
}

/* ---- ACKs ---- */

/*
 * ACK division (Savage et al. 1999): 100 ACKs for ten segments grow cwnd as one would, for it counts whole segments
 * (RFC 3465 section 2.3 counts bytes to the same end).
 */
static void split_acks(void **st)
{
    struct harness *h = plain();

    (void)st;
    send_segs(h, 10);
    for (unsigned k = 1; k <= 100; k++)
        in_f(h, ". 1:1(0) ack %u win 65535", 100 * k + 1);
    assert_int_equal(h_info(h).snd_cwnd, 20);
    assert_int_equal(h_info(h).delivered, 11); /* with the SYN */
    h_free(h);
}

/* A byte at a time, with more data waiting: what may be in flight is never more than acknowledged segments allow. */
static void split_acks_let_out_no_more(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_send(h, 39000), 39000);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
    for (unsigned k = 1; k < 1000; k++) {
        in_f(h, ". 1:1(0) ack %u win 65535", 1 + k);
        assert_int_equal(h_pending(h), 0); /* not one whole segment */
    }
    assert_int_equal(h_info(h).snd_cwnd, 10);
    in(h, ". 1:1(0) ack 1001 win 65535");
    assert_int_equal(h_pending(h), 2);
    skip_out(h);
    h_free(h);
}

/* One ACK for ten segments is worth ten (Linux; RFC 3465 would allow two), and no more than it acknowledges. */
static void stretch_ack(void **st)
{
    struct harness *h = plain();

    (void)st;
    send_segs(h, 10);
    in(h, ". 1:1(0) ack 10001 win 65535");
    assert_int_equal(h_info(h).snd_cwnd, 20);
    h_free(h);
}

/* ACKs of data that is still on the way: it can be acknowledged once only, and what was not sent not at all. */
static void optimistic_acks(void **st)
{
    struct harness *h = plain();
    uint64_t before;

    (void)st;
    expect(h, h_send(h, 39000), 39000);
    skip_out(h);
    before = h_drops(h, TCP_DROP_ACK_UNSENT);
    for (unsigned k = 0; k < 100; k++) {
        in_f(h, ". 1:1(0) ack %u win 65535", 10002 + k * 100);
        assert_int_equal(h_pending(h), 0);
    }
    assert_int_equal(h_drops(h, TCP_DROP_ACK_UNSENT), before + 100);
    assert_int_equal(h_info(h).snd_cwnd, 10);
    assert_int_equal(h_info(h).bytes_acked, 0);
    for (unsigned k = 1; k <= 10; k++) { /* each one early, twice */
        in_f(h, ". 1:1(0) ack %u win 65535", k * 1000 + 1);
        skip_out(h);
        in_f(h, ". 1:1(0) ack %u win 65535", k * 1000 + 1);
        skip_out(h);
    }
    assert_true(h_info(h).snd_cwnd <= 20);
    assert_true(h_info(h).unacked - h_info(h).sacked <= h_info(h).snd_cwnd);
    skip_out(h);
    h_free(h);
}

/*
 * Duplicate ACKs without end: one fast retransmit; what they let out stays within half of cwnd (PRR) and the window.
 * Each stands for one segment at most, and never for one that was not sent.
 */
static void duplicate_ack_flood(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_send(h, 39000), 39000);
    skip_out(h);
    for (unsigned k = 0; k < 1000; k++) {
        in(h, ". 1:1(0) ack 1 win 65535");
        skip_out(h);
        assert_true(h_info(h).snd_cwnd <= 10);
        assert_true(h_info(h).delivered <= 1 + h_info(h).data_segs_out);
    }
    assert_int_equal(count(h)->reno_recovery, 1);
    assert_int_equal(h_info(h).bytes_retrans, 1000);
    assert_true(h_info(h).reordering <= 300); /* tcp_max_reordering */
    h_free(h);
}

/* ---- SACK ---- */

/* Outside what is in flight, reversed, beginning where the ACK is: counted, nothing marked (tcp_is_sackblock_valid). */
static void sack_of_nonsense(void **st)
{
    struct harness *h = sack();

    (void)st;
    send_segs(h, 10);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 10001:11001>"); /* never sent */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 9001:10002>");  /* in part */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 5001:3001>");   /* reversed */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 5001:5001>");   /* empty */
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1:2001>");      /* what the ACK should acknowledge */
    assert_int_equal(count(h)->sack_discard, 5);
    assert_int_equal(h_info(h).sacked, 0);
    assert_int_equal(h_info(h).lost, 0);
    skip_out(h);
    h_free(h);
}

/* D-SACKs without a retransmission are not believed: no undo, no wider reordering window, nothing delivered. */
static void dsack_flood(void **st)
{
    struct harness *h = sack();
    uint32_t delivered;

    (void)st;
    send_segs(h, 10);
    in(h, ". 1:1(0) ack 5001 win 65535");
    skip_out(h);
    delivered = h_info(h).delivered;
    for (unsigned k = 0; k < 1000; k++)
        in_f(h, ". 1:1(0) ack 5001 win 65535 <nop,nop,sack %u:%u>", k % 4 * 1000 + 1, k % 4 * 1000 + 1001);
    assert_int_equal(count(h)->dsack_recv, 1000);
    assert_int_equal(count(h)->dsack_ignored_dubious, 1000);
    assert_int_equal(count(h)->dsack_recv_segs, 0);
    assert_int_equal(h_info(h).delivered, delivered);
    assert_int_equal(h_info(h).dsack_dups, 1000); /* as tcp_info shows them */
    assert_int_equal(h_info(h).snd_cwnd, 15);
    assert_int_equal(h_info(h).ca_state, TCP_CA_OPEN);
    skip_out(h);
    h_free(h);
}

/* One retransmission, many D-SACKs of it: the first is believed, the undo happens once, cwnd is what it was. */
static void dsack_of_one_retransmission(void **st)
{
    struct harness *h = sack();

    (void)st;
    h->cfg.tcp_recovery = 0; /* SACKs count, not time: the round trip is 0 here */
    send_segs(h, 10);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>");
    out(h, ". 1:1001(1000) ack 1");
    assert_int_equal(h_info(h).ca_state, TCP_CA_RECOVERY);
    assert_int_equal(h_info(h).total_retrans, 1);
    in(h, ". 1:1(0) ack 6001 win 65535");
    skip_out(h);
    for (unsigned k = 0; k < 100; k++)
        in(h, ". 1:1(0) ack 6001 win 65535 <nop,nop,sack 1:1001>");
    assert_int_equal(count(h)->dsack_recv_segs, 1);
    assert_int_equal(count(h)->dsack_undo + count(h)->full_undo, 1);
    assert_int_equal(count(h)->dsack_ignored_dubious, 99);
    assert_int_equal(h_info(h).snd_cwnd, 10);
    skip_out(h);
    h_free(h);
}

/* A segment sent again in vain left the network: it is one more delivered (tcp_dsack_seen). */
static void dsack_is_delivery(void **st)
{
    struct harness *h = sack();
    uint32_t delivered;

    (void)st;
    h->cfg.tcp_recovery = 0;
    send_segs(h, 10);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>");
    skip_out(h);
    in(h, ". 1:1(0) ack 4001 win 65535");
    delivered = h_info(h).delivered;
    in(h, ". 1:1(0) ack 4001 win 65535 <nop,nop,sack 1:1001>");
    assert_int_equal(h_info(h).delivered, delivered + 1);
    skip_out(h);
    h_free(h);
}

/* A D-SACK in the middle of what is queued says nothing about segments that were sent once only. */
static void dsack_of_what_was_sent_once(void **st)
{
    struct harness *h = sack();

    (void)st;
    h->cfg.tcp_recovery = 0;
    send_segs(h, 10);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>");
    out(h, ". 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 2001:3001,sack 1001:4001>"); /* it was the head that was sent again */
    assert_int_equal(count(h)->dsack_ofo_recv, 1);
    in(h, ". 1:1(0) ack 10001 win 65535");
    assert_int_equal(count(h)->dsack_undo + count(h)->full_undo, 0);
    assert_true(h_info(h).snd_cwnd < 10);
    skip_out(h);
    h_free(h);
}

static struct harness *large_flight(unsigned segs, unsigned bytes)
{
    struct harness *h;

    struct tcp_config cfg;
    struct h_args args = {.config = &cfg};

    tcp_config_defaults(&cfg);
    cfg.tcp_initcwnd = (int32_t)segs;
    h = h_new_args(&args);
    h_listen(h, 10);
    h_passive_on(h, "mss 1000,nop,nop,sackOK,nop,wscale 7", 65535);
    expect(h, h_opt(h, TCP_OPT_SNDBUF, 4000000), 0);
    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    if (bytes == 1000) {
        for (unsigned k = 0; k < segs; k += 20)
            expect(h, h_send(h, 20000), 20000);
    } else {
        for (unsigned k = 0; k < segs; k++)
            expect(h, h_send_flags(h, bytes, TCP_SEND_EOR), bytes);
    }
    skip_out(h);
    assert_int_equal(h_info(h).unacked, segs);
    return h;
}

/*
 * Every second of 400 segments SACKed, from the end down, four holes an ACK: each ACK looks at what it changes, not at
 * the queue; super-frames split into segments and no further.
 */
static void sack_holes(void **st)
{
    struct harness *h = large_flight(400, 1000);
    unsigned long long walked, most = 0;

    (void)st;
    h->cfg.tcp_recovery = 0; /* nothing is lost by time while the round trip is 0 */
    h->cfg.tcp_reordering = 1000;
    for (unsigned k = 396; k >= 8; k -= 8) {
        walked = count(h)->sack_walked;
        in_f(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack %u:%u,sack %u:%u,sack %u:%u,sack %u:%u>", k * 1000 + 1,
             k * 1000 + 1001, (k - 2) * 1000 + 1, (k - 2) * 1000 + 1001, (k - 4) * 1000 + 1, (k - 4) * 1000 + 1001,
             (k - 6) * 1000 + 1, (k - 6) * 1000 + 1001);
        skip_out(h);
        walked = count(h)->sack_walked - walked;
        most = walked > most ? walked : most;
    }
    assert_true(most <= 4 * 2);
    assert_true(count(h)->split <= 400);
    h_free(h);
}

/* One block that grows by a segment with each ACK, over descriptors that never merge: not walked again and again. */
static void sack_of_small_segments(void **st)
{
    struct harness *h = large_flight(600, 10);

    (void)st;
    h->cfg.tcp_recovery = 0;
    h->cfg.tcp_reordering = 1000;
    for (unsigned k = 2; k < 600; k++) {
        in_f(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 11:%u>", k * 10 + 1);
        skip_out(h);
    }
    assert_int_equal(h_info(h).sacked, 598);
    assert_int_equal(count(h)->merged, 0);
    assert_true(count(h)->sack_walked < 4 * 600); /* else 600 * 600 / 2 */
    h_free(h);
}

/* What was SACKed is passed over, what was not is seen: a block with a hole in it that is filled later. */
static void sack_fills_hole_in_passed_over(void **st)
{
    struct harness *h = large_flight(40, 10);

    (void)st;
    h->cfg.tcp_recovery = 0;
    h->cfg.tcp_reordering = 1000;
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 101:201,sack 211:301>");
    skip_out(h);
    assert_int_equal(h_info(h).sacked, 19);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 101:205,sack 206:301>"); /* no whole segment more */
    skip_out(h);
    assert_int_equal(h_info(h).sacked, 19);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 101:301>");
    skip_out(h);
    assert_int_equal(h_info(h).sacked, 20);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 51:351>");
    assert_int_equal(h_info(h).sacked, 30);
    skip_out(h);
    h_free(h);
}

/* ---- timestamps ---- */

/* An echo from long before the segment was sent is no round trip, one of the future neither. */
static void forged_echo(void **st)
{
    static const unsigned forged[] = {1, 500000, 2000000, 0xffffffffu};

    (void)st;
    for (unsigned k = 0; k < sizeof forged / sizeof forged[0]; k++) {
        struct harness *h = h_passive("mss 1000,sackOK,TS val 100 ecr 0", 65535);
        uint32_t rtt;

        pass_ms(h, 5000);
        rtt = h_info(h).rtt;
        expect(h, h_send(h, 500), 500);
        skip_out(h);
        pass_ms(h, 700); /* sent again: only the echo could tell a round trip (Karn) */
        skip_out(h);
        in_f(h, ". 1:1(0) ack 501 win 65535 <nop,nop,TS val 600 ecr %u>", forged[k]);
        assert_true(h_info(h).rtt <= 701000);
        assert_int_equal(h_info(h).rtt, rtt);
        h_free(h);
    }
}

/* An honest echo is taken. */
static void honest_echo(void **st)
{
    struct harness *h = h_passive("mss 1000,sackOK,TS val 100 ecr 0", 65535);
    uint32_t rtt = h_info(h).rtt;

    (void)st;
    expect(h, h_send(h, 500), 500);
    skip_out(h);
    pass_ms(h, 700);
    skip_out(h);
    in(h, ". 1:1(0) ack 501 win 65535 <nop,nop,TS val 600 ecr 1000000>");
    assert_true(h_info(h).rtt > rtt);
    h_free(h);
}

/* ---- sizes ---- */

/* An MSS of next to nothing is taken as 48, less the timestamps (tcp_min_snd_mss; CVE-2019-11477 to 11479). */
static void tiny_mss(void **st)
{
    (void)st;
    for (unsigned mss = 0; mss <= 49; mss++) {
        char opt[64];
        struct harness *h;

        snprintf(opt, sizeof opt, "mss %u,sackOK,TS val 1 ecr 0", mss);
        h = h_passive(opt, 65535);
        assert_int_equal(h_info(h).snd_mss, mss == 0 ? 536 - 12 : mss == 49 ? 37 : 36);
        assert_true(h_send(h, 100000) > 360);
        assert_int_equal(h_pending(h), 10);
        skip_out(h);
        in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,TS val 2 ecr 1000000,nop,nop,sack 38:74>");
        skip_out(h);
        h_free(h);
    }
}

/* RFC 7323 section 2.3: a window scale of more than 14 is taken as 14. */
static void window_scale_15(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,wscale 15", 1);

    (void)st;
    assert_int_equal(h_info(h).snd_wscale, 14);
    assert_int_equal(h_info(h).snd_wnd, 1 << 14);
    h_free(h);
}

/* A window of a few bytes: no stream of tiny segments, but one when the persist timer runs (RFC 9293 3.8.6.2.1). */
static void silly_window(void **st)
{
    struct harness *h = plain();

    (void)st;
    send_segs(h, 1);
    in(h, ". 1:1(0) ack 1001 win 10");
    expect(h, h_send(h, 5000), 5000);
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_RWND);
    for (unsigned k = 0; k < 20; k++) {
        in_f(h, ". 1:1(0) ack 1001 win %u", 11 + k);
        assert_int_equal(h_pending(h), 0);
    }
    out_in(h, 201, "* 1001:1031(30) ack 1");
    in(h, ". 1:1(0) ack 1031 win 65535");
    skip_out(h);
    h_free(h);
}

/* ---- windows ---- */

/* Shrunk under what is in flight (RFC 9293 section 3.8.6): nothing new leaves, the head goes again, no more. */
static void shrinking_window(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_send(h, 20000), 20000);
    assert_int_equal(h_pending(h), 10);
    skip_out(h);
    in(h, ". 1:1(0) ack 1001 win 2000"); /* the right edge goes back from 65536 to 3001 */
    assert_int_equal(h_pending(h), 0);
    out_in(h, 201, ". 1001:2001(1000) ack 1");
    in(h, ". 1:1(0) ack 2001 win 1000");
    for (unsigned k = 0; k < 4; k++)
        if (h_pending(h))
            skip_out(h);
    assert_true(h_info(h).bytes_sent - h_info(h).bytes_retrans <= 10000); /* never beyond what the window was */
    in(h, ". 1:1(0) ack 10001 win 65535");
    assert_true(h_pending(h) > 0);
    skip_out(h);
    h_free(h);
}

/* Closed under what is in flight, and answering for ever: one segment at a time, ever more slowly. */
static void window_closed_for_a_day(void **st)
{
    struct harness *h = plain();
    unsigned sent = 0;

    (void)st;
    send_segs(h, 10);
    in(h, ". 1:1(0) ack 1 win 0");
    for (unsigned s = 0; s < 24 * 3600; s += 30) {
        pass_ms(h, 30000);
        if (!h_pending(h))
            continue;
        sent += h_pending(h);
        skip_out(h);
        in(h, ". 1:1(0) ack 1 win 0");
        state(h, TCP_STATE_ESTABLISHED);
    }
    assert_true(sent < 24 * 3600 / 120 + 100); /* at most every 120 s (tcp_rto_max) once backed off */
    in(h, ". 1:1(0) ack 10001 win 65535");
    h_free(h);
}

/* ---- ICMP ---- */

/* "Fragmentation needed" with next to no MTU, again and again, for what is in flight: down to the floor, no further. */
static void icmp_flood(void **st)
{
    struct harness *h = plain();
    uint32_t floor;

    (void)st;
    send_segs(h, 10);
    h_icmp(h, 1, EMSGSIZE, false, 68);
    floor = h_info(h).snd_mss;
    assert_true(floor >= 48);
    skip_out(h);
    for (unsigned k = 0; k < 1000; k++)
        h_icmp(h, 1, EMSGSIZE, false, (uint16_t)(k % 68));
    assert_int_equal(h_pending(h), 0); /* nothing is sent again for what is not news */
    assert_int_equal(h_info(h).snd_mss, floor);
    assert_true(h_info(h).snd_cwnd <= 10);
    for (unsigned k = 0; k < 1000; k++)
        h_icmp(h, 2000000 + k, EMSGSIZE, false, 600);
    assert_int_equal(h_drops(h, TCP_DROP_ICMP_BAD_SEQ), 1000);
    assert_int_equal(count(h)->out_of_window_icmps, 1000);
    h_free(h);
}

/* ---- ACKs that we would owe ---- */

/* Segments outside the window and old timestamps: an answer each tcp_invalid_ratelimit, the rest counted by reason. */
static void answers_are_held_back(void **st)
{
    struct harness *h = h_passive("mss 1000,sackOK,TS val 50 ecr 0", 65535);

    (void)st;
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,TS val 100000 ecr 1000000>");
    for (unsigned k = 0; k < 100; k++) {
        in(h, ". 1000000:1000000(0) ack 1 win 65535 <nop,nop,TS val 100000 ecr 1000000>");
        assert_int_equal(h_pending(h), k == 0);
        skip_out(h);
    }
    assert_int_equal(count(h)->skipped_seq, 99);
    pass_ms(h, 501);
    for (unsigned k = 0; k < 100; k++) {
        in(h, ". 2:2(0) ack 1 win 65535 <nop,nop,TS val 5 ecr 1000000>");
        assert_int_equal(h_pending(h), k == 0);
        skip_out(h);
    }
    assert_int_equal(count(h)->skipped_paws, 99);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_acks),
        cmocka_unit_test(split_acks_let_out_no_more),
        cmocka_unit_test(stretch_ack),
        cmocka_unit_test(optimistic_acks),
        cmocka_unit_test(duplicate_ack_flood),
        cmocka_unit_test(sack_of_nonsense),
        cmocka_unit_test(dsack_flood),
        cmocka_unit_test(dsack_of_one_retransmission),
        cmocka_unit_test(dsack_is_delivery),
        cmocka_unit_test(dsack_of_what_was_sent_once),
        cmocka_unit_test(sack_holes),
        cmocka_unit_test(sack_of_small_segments),
        cmocka_unit_test(sack_fills_hole_in_passed_over),
        cmocka_unit_test(forged_echo),
        cmocka_unit_test(honest_echo),
        cmocka_unit_test(tiny_mss),
        cmocka_unit_test(window_scale_15),
        cmocka_unit_test(silly_window),
        cmocka_unit_test(shrinking_window),
        cmocka_unit_test(window_closed_for_a_day),
        cmocka_unit_test(icmp_flood),
        cmocka_unit_test(answers_are_held_back),
    };

    return cmocka_run_group_tests_name("trace_badpeer", tests, NULL, NULL);
}
