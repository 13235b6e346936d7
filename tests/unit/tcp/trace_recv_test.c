/*
 * tests/unit/tcp/trace_recv_test.c: the receiving half: ACK timing, out-of-order data, SACK and D-SACK,
 * windows, PAWS, RFC 5961, urgent data, super-frames that come in.
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

static struct harness *established_ts(void)
{
    return h_passive("mss 1460,nop,nop,TS val 100 ecr 0", 65535);
}

/* Sends in-order segments of `len` bytes at relative number *seq until one is not acknowledged at once. */
static int until_delayed(struct harness *h, unsigned *seq, unsigned len)
{
    char text[128];

    for (int k = 0; k < 64; k++) {
        snprintf(text, sizeof text, "P. %u:%u(%u) ack 1 win 65535", *seq, *seq + len, len);
        in(h, text);
        *seq += len;
        if (!h_pending(h))
            return k;
        snprintf(text, sizeof text, ". 1:1(0) ack %u", *seq);
        out(h, text);
    }
    return 64;
}

static void quick_then_delayed(void **st)
{
    struct harness *h = established();
    unsigned seq = 1;
    char text[64];
    int quick = until_delayed(h, &seq, 100);

    (void)st;
    assert_true(quick >= 2 && quick <= 17); /* TCP_MAX_QUICKACKS */
    snprintf(text, sizeof text, ". 1:1(0) ack %u", seq);
    out_in(h, 40, text);
    assert_int_equal(h->cause, TCP_CAUSE_ACK_DELAYED);
    assert_int_equal(tcp_get_counters(h->t)->delayed_acks, 1);
    h_free(h);
}

static void quickack_off_delays(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_QUICKACK, 0), 0);
    in(h, "P. 1:101(100) ack 1 win 65535");
    out_in(h, 40, ". 1:1(0) ack 101");
    h_free(h);
}

static void two_full_segments(void **st)
{
    struct harness *h = established();
    unsigned seq = 1;
    char text[128];

    (void)st;
    (void)until_delayed(h, &seq, 1460);
    expect(h, h_recv(h, 1000000),
           seq - 1); /* with data unread the window shrinks, and Linux delays this ACK too */
    skip_out(h);
    quiet(h, 10);
    for (int k = 0; k < 5; k++) {
        snprintf(text, sizeof text, ". %u:%u(1460) ack 1 win 65535", seq, seq + 1460);
        in(h, text);
        assert_int_equal(h_pending(h), 0);
        expect(h, h_recv(h, 1460), 1460);
        assert_int_equal(h_pending(h), 0);
        seq += 1460;
        snprintf(text, sizeof text, ". %u:%u(1460) ack 1 win 65535", seq, seq + 1460);
        in(h, text); /* the second one: RFC 5681 section 4.2 */
        seq += 1460;
        snprintf(text, sizeof text, ". 1:1(0) ack %u", seq);
        out(h, text);
        expect(h, h_recv(h, 1460), 1460);
        skip_out(h);
    }
    h_free(h);
}

static void ack_rides_on_data(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_QUICKACK, 0), 0);
    in(h, "P. 1:101(100) ack 1 win 65535");
    expect(h, h_send(h, 50), 50);
    out(h, "P. 1:51(50) ack 101");
    in(h, ". 101:101(0) ack 51 win 65535");
    quiet(h, 1000);
    h_free(h);
}

static void out_of_order_burst(void **st)
{
    struct harness *h = established();
    char text[128];

    (void)st;
    h->hold = true;
    for (unsigned k = 1; k <= 20; k++) {
        snprintf(text, sizeof text, ". %u:%u(100) ack 1 win 65535", 1 + 100 * k, 101 + 100 * k);
        in(h, text);
    }
    h->hold = false;
    flush(h);
    for (int k = 0; k < 20; k++) {
        out(h, ". 1:1(0) ack 1");
        assert_int_equal(h->cause, TCP_CAUSE_ACK_OUT_OF_ORDER);
    }
    in(h, ". 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 2101");
    expect(h, h_recv(h, 5000), 2100);
    h_free(h);
}

/* The ACKs of one burst have numbers of their own; the edge that they announce is the same (RFC 7323 section 2.4). */
static void burst_keeps_the_edge(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, ". 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 101 win 64140");
    h->hold = true;
    in(h, ". 201:301(100) ack 1 win 65535");
    in(h, ". 101:201(100) ack 1 win 65535");
    h->hold = false;
    flush(h);
    out(h, ". 1:1(0) ack 101 win 64140");
    out(h, ". 1:1(0) ack 301 win 63940");
    expect(h, h_recv(h, 5000), 300);
    h_free(h);
}

static void out_of_order_burst_sack(void **st)
{
    struct harness *h = established_sack();
    char text[128];
    unsigned acks;

    (void)st;
    h->hold = true;
    for (unsigned k = 1; k <= 20; k++) {
        snprintf(text, sizeof text, ". %u:%u(100) ack 1 win 65535", 1 + 100 * k, 101 + 100 * k);
        in(h, text);
    }
    h->hold = false;
    flush(h);
    acks = h_pending(h);
    /* All 20, or what SACK compression leaves of them: the first three at once. */
    assert_true(acks >= 4 && acks <= 20);
    skip_out(h);
    in(h, ". 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 2101");
    h_free(h);
}

static void sack_blocks(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    in(h, ". 101:201(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 101:201>");
    in(h, ". 301:401(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 301:401 101:201>");
    in(h, ". 501:601(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 501:601 301:401 101:201>");
    in(h, ". 701:801(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 701:801 501:601 301:401 101:201>");
    in(h, ". 201:301(100) ack 1 win 65535"); /* joins two blocks; the newest comes first */
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 101:401 701:801 501:601>");
    in(h, ". 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 401 win * <nop,nop,sack 701:801 501:601>");
    in(h, ". 401:501(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 601 win * <nop,nop,sack 701:801>");
    in(h, ". 601:701(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 801");
    expect(h, h_recv(h, 5000), 800);
    assert_int_equal(h_info(h).ooo_bytes, 0);
    h_free(h);
}

static void dsack_old(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    in(h, "P. 1:1001(1000) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1001");
    in(h, "P. 1:1001(1000) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1001 win * <nop,nop,sack 1:1001>");
    assert_int_equal(h->cause, TCP_CAUSE_ACK_DUPLICATE);
    assert_int_equal(tcp_get_counters(h->t)->dsack_old_sent, 1);
    in(h, "P. 501:1501(1000) ack 1 win 65535"); /* partly old */
    out(h, ". 1:1(0) ack 1501 win * <nop,nop,sack 501:1001>");
    h_free(h);
}

static void dsack_out_of_order(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    in(h, ". 101:301(200) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 101:301>");
    in(h, ". 101:201(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 101:201 101:301>");
    h_free(h);
}

static void dsack_off(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    h->cfg.tcp_dsack = 0;
    in(h, "P. 1:1001(1000) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1001");
    in(h, "P. 1:1001(1000) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1001");
    h_free(h);
}

static void overlaps_every_way(void **st)
{
    struct harness *h = established();
    static const char *const segs[] = {
        ". 301:401(100) ack 1 win 65535", ". 501:601(100) ack 1 win 65535", ". 351:551(200) ack 1 win 65535",
        ". 201:701(500) ack 1 win 65535", ". 101:801(700) ack 1 win 65535", ". 51:151(100) ack 1 win 65535",
        ". 1:61(60) ack 1 win 65535",
    };

    (void)st;
    for (size_t k = 0; k < sizeof segs / sizeof segs[0]; k++) {
        in(h, segs[k]);
        skip_out(h);
    }
    assert_int_equal(h_info(h).rcv_nxt - h_info(h).irs, 801);
    expect(h, h_recv(h, 5000), 800); /* checked byte by byte */
    h_free(h);
}

static void zero_window_and_reopen(void **st)
{
    struct harness *h = established();
    unsigned seq = 1;
    char text[128];
    uint32_t wnd;

    (void)st;
    for (int k = 0; k < 400; k++) {
        unsigned len;

        wnd = h_info(h).rcv_open;
        len = wnd < 1460 ? wnd : 1460;
        if (!len)
            break;
        snprintf(text, sizeof text, "P. %u:%u(%u) ack 1 win 65535", seq, seq + len, len);
        in(h, text);
        seq += len;
        skip_out(h);
        pass_ms(h, 50);
        skip_out(h);
        if (h_info(h).rcv_open == 0)
            break;
    }
    assert_int_equal(h_info(h).rcv_open, 0);
    assert_true(tcp_get_counters(h->t)->zero_window_adv >= 1);
    /* A probe with one byte is answered and not taken. */
    snprintf(text, sizeof text, ". %u:%u(1) ack 1 win 65535", seq, seq + 1);
    in(h, text);
    snprintf(text, sizeof text, ". 1:1(0) ack %u win 0", seq);
    out(h, text);
    /* Reading a little does not open it (SWS), reading all does. */
    expect(h, h_recv(h, 10), 10);
    assert_int_equal(h_pending(h), 0);
    assert_true(h_recv(h, 10000000) > 0);
    snprintf(text, sizeof text, ". 1:1(0) ack %u win [1-9]*", seq);
    out(h, text);
    assert_int_equal(h->cause, TCP_CAUSE_ACK_WINDOW);
    h_free(h);
}

static void beyond_window(void **st)
{
    struct harness *h = established();
    uint32_t wnd = h_info(h).rcv_open;
    char text[128];

    (void)st;
    snprintf(text, sizeof text, ". %u:%u(100) ack 1 win 65535", 1 + wnd + 1, 101 + wnd + 1);
    in(h, text);
    out(h, ". 1:1(0) ack 1");
    assert_int_equal(h_drops(h, TCP_DROP_OUT_OF_WINDOW), 1);
    assert_int_equal(h_info(h).ooo_bytes, 0);
    h_free(h);
}

static void paws(void **st)
{
    struct harness *h = established_ts();

    (void)st;
    in(h, "P. 1:101(100) ack 1 win 65535 <nop,nop,TS val 200 ecr 1000000>");
    out(h, ". 1:1(0) ack 101 win * <nop,nop,TS val 1000000 ecr 200>");
    in(h, "P. 101:201(100) ack 1 win 65535 <nop,nop,TS val 150 ecr 1000000>");
    out(h, ". 1:1(0) ack 101 win * <nop,nop,TS val 1000000 ecr 200>");
    assert_int_equal(h_drops(h, TCP_DROP_PAWS), 1);
    assert_int_equal(tcp_get_counters(h->t)->paws_estab, 1);
    in(h, "P. 101:201(100) ack 1 win 65535 <nop,nop,TS val 200 ecr 1000000>");
    out(h, ". 1:1(0) ack 201 <...>");
    in(h, "R. 201:201(0) ack 1 win 0 <nop,nop,TS val 1 ecr 1000000>"); /* a RST is not subject to it */
    state(h, TCP_STATE_CLOSE);
    h_free(h);
}

static void paws_after_24_days(void **st)
{
    struct harness *h = established_ts();

    (void)st;
    in(h, "P. 1:101(100) ack 1 win 65535 <nop,nop,TS val 200 ecr 1000000>");
    out(h, ". 1:1(0) ack 101 <...>");
    quiet(h, 25ull * 24 * 3600 * 1000);
    in(h, "P. 101:201(100) ack 1 win 65535 <nop,nop,TS val 150 ecr 1000000>");
    out(h, ". 1:1(0) ack 201 <...>");
    h_free(h);
}

/* RFC 7323 section 4.3: ts_recent is taken from the segment that lies at last_ack_sent. */
static void ts_echo_of_delayed_ack(void **st)
{
    struct harness *h = established_ts();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_QUICKACK, 0), 0);
    in(h, "P. 1:11(10) ack 1 win 65535 <nop,nop,TS val 200 ecr 1000000>");
    in(h, "P. 11:21(10) ack 1 win 65535 <nop,nop,TS val 210 ecr 1000000>");
    out_in(h, 40, ". 1:1(0) ack 21 win * <nop,nop,TS val 1000040 ecr 200>");
    h_free(h);
}

static void rst_rules(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "R 100000:100000(0) win 0"); /* outside the window */
    assert_int_equal(h_drops(h, TCP_DROP_RST_OUT_OF_WINDOW), 1);
    state(h, TCP_STATE_ESTABLISHED);
    in(h, "R 2:2(0) win 0"); /* inside, not exact: RFC 5961 section 3.2 */
    out(h, ". 1:1(0) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_ACK_CHALLENGE);
    state(h, TCP_STATE_ESTABLISHED);
    in(h, "R 1:1(0) win 0");
    state(h, TCP_STATE_CLOSE);
    h_free(h);
}

static void syn_challenge(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "S 1:1(0) win 65535 <mss 1460>");
    out(h, ". 1:1(0) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_ACK_CHALLENGE);
    in(h, "S 1000:1000(0) win 65535 <mss 1460>"); /* within tcp_invalid_ratelimit: held back */
    assert_true(tcp_get_counters(h->t)->skipped_challenges >= 1);
    quiet(h, 501);
    in(h, "S. 1:1(0) ack 1 win 65535 <mss 1460>");
    out(h, ". 1:1(0) ack 1");
    state(h, TCP_STATE_ESTABLISHED);
    assert_int_equal(tcp_get_counters(h->t)->challenge_acks, 2);
    assert_true(tcp_get_counters(h->t)->syn_challenges >= 2);
    h_free(h);
}

static void challenge_limit_is_global(void **st)
{
    struct harness *h = h_new();
    unsigned acks = 0;

    (void)st;
    h->cfg.tcp_challenge_ack_limit = 10;
    h_listen(h, 70);
    for (int k = 0; k < 60; k++) {
        flow(h, k);
        h_passive_on(h, "mss 1460", 65535);
    }
    for (int k = 0; k < 60; k++) {
        flow(h, k);
        in(h, "R 2:2(0) win 0");
        acks += h_pending(h);
        skip_out(h);
    }
    assert_true(acks >= 5 && acks <= 15); /* RFC 5961 section 7; Linux draws half of it at random */
    assert_int_equal(tcp_get_counters(h->t)->skipped_challenges, 60 - acks);
    assert_true(h_drops(h, TCP_DROP_CHALLENGE_LIMIT) == 60 - acks);
    pass_ms(h, 1100);
    in(h, "R 2:2(0) win 0");
    out(h, ". 1:1(0) ack 1");
    h_free(h);
}

static void bad_acks(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, ". 1:1(0) ack 2 win 65535"); /* of what was never sent */
    skip_out(h);
    assert_int_equal(h_drops(h, TCP_DROP_ACK_UNSENT), 1);
    assert_int_equal(h_info(h).snd_una - h_info(h).iss, 1);
    quiet(h, 1000);
    {
        char text[96];

        /* Older than max_window: RFC 5961 section 5.2 */
        snprintf(text, sizeof text, ". 1:1(0) ack %u win 65535", (uint32_t)(1 - 70000));
        in(h, text);
    }
    out(h, ". 1:1(0) ack 1");
    assert_int_equal(h_drops(h, TCP_DROP_ACK_TOO_OLD), 1);
    in(h, "P 1:11(10) win 65535"); /* no ACK bit */
    assert_int_equal(h_drops(h, TCP_DROP_BAD_FLAGS), 1);
    expect(h, h_recv(h, 10), -EAGAIN);
    h_free(h);
}

static void keepalive_probe_answered(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, ". 0:0(0) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1");
    in(h, ". 0:0(0) ack 1 win 65535"); /* within the rate limit: silence */
    assert_int_equal(h_pending(h), 0);
    quiet(h, 600);
    in(h, ". 0:0(0) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1");
    h_free(h);
}

static void urgent_in_line(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "PU. 1:11(10) ack 1 win 65535 urg 10");
    skip_out(h);
    event(h, TCP_EVENT_URGENT | TCP_EVENT_READABLE);
    expect(h, h_recv(h, 100), 10);
    in(h, "P. 11:21(10) ack 1 win 65535");
    skip_out(h);
    expect(h, h_recv(h, 100), 10);
    pass_ms(h, 200);
    skip_out(h);
    h_free(h);
}

static void super_frame(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "P. 1:14601(14600) ack 1 win 65535 gso 1460");
    out(h, ". 1:1(0) ack 14601");
    assert_int_equal(tcp_get_counters(h->t)->in_frames, tcp_get_counters(h->t)->in_segs - 9);
    assert_int_equal(h_info(h).rcv_mss, 1460);
    expect(h, h_recv(h, 100000), 14600);
    skip_out(h);
    h_free(h);
}

static void super_frame_out_of_order(void **st)
{
    struct harness *h = established_sack();

    (void)st;
    in(h, ". 14601:29201(14600) ack 1 win 65535 gso 1460");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 14601:29201>");
    skip_out(h); /* one ACK for the frame, or one for each of its segments: Linux owes one */
    in(h, ". 1:14601(14600) ack 1 win 65535 gso 1460");
    out(h, ". 1:1(0) ack 29201");
    expect(h, h_recv(h, 100000), 29200);
    skip_out(h);
    h_free(h);
}

static void max_size_frame(void **st)
{
    struct harness *h = h_passive("mss 1460,nop,wscale 7", 65535);

    (void)st;
    in(h, "P. 1:62781(62780) ack 1 win 512 gso 1460");
    out(h, ". 1:1(0) ack 62781");
    expect(h, h_recv(h, 100000), 62780);
    skip_out(h);
    h_free(h);
}

static void window_never_shrinks(void **st)
{
    struct harness *h = established();
    uint32_t edge = 0;
    unsigned seq = 1;

    (void)st;
    for (int k = 0; k < 60; k++) {
        struct tcp_info i;
        char text[96];
        unsigned len = 1 + (unsigned)(k * 37) % 1400;

        snprintf(text, sizeof text, "P. %u:%u(%u) ack 1 win 65535", seq, seq + len, len);
        in(h, text);
        skip_out(h);
        seq += len;
        pass_ms(h, 41);
        skip_out(h);
        i = h_info(h);
        assert_true(k == 0 || (int32_t)(i.rcv_nxt + i.rcv_open - edge) >= 0);
        edge = i.rcv_nxt + i.rcv_open;
    }
    h_free(h);
}

static void small_reads(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "P. 1:5001(5000) ack 1 win 65535 gso 1000");
    out(h, ". 1:1(0) ack 5001");
    for (int k = 0; k < 50; k++)
        expect(h, h_recv(h, 100), 100);
    expect(h, h_recv(h, 100), -EAGAIN);
    skip_out(h);
    h_free(h);
}

static void events_are_edges(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "P. 1:101(100) ack 1 win 65535");
    skip_out(h);
    event(h, TCP_EVENT_READABLE);
    pass_ms(h, 100);
    skip_out(h);
    assert_int_equal(h_flow(h)->events & TCP_EVENT_READABLE, 0);
    in(h, "P. 101:201(100) ack 1 win 65535");
    skip_out(h);
    event(h, TCP_EVENT_READABLE);
    pass_ms(h, 100);
    skip_out(h);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quick_then_delayed),
        cmocka_unit_test(quickack_off_delays),
        cmocka_unit_test(two_full_segments),
        cmocka_unit_test(ack_rides_on_data),
        cmocka_unit_test(out_of_order_burst),
        cmocka_unit_test(burst_keeps_the_edge),
        cmocka_unit_test(out_of_order_burst_sack),
        cmocka_unit_test(sack_blocks),
        cmocka_unit_test(dsack_old),
        cmocka_unit_test(dsack_out_of_order),
        cmocka_unit_test(dsack_off),
        cmocka_unit_test(overlaps_every_way),
        cmocka_unit_test(zero_window_and_reopen),
        cmocka_unit_test(beyond_window),
        cmocka_unit_test(paws),
        cmocka_unit_test(paws_after_24_days),
        cmocka_unit_test(ts_echo_of_delayed_ack),
        cmocka_unit_test(rst_rules),
        cmocka_unit_test(syn_challenge),
        cmocka_unit_test(challenge_limit_is_global),
        cmocka_unit_test(bad_acks),
        cmocka_unit_test(keepalive_probe_answered),
        cmocka_unit_test(urgent_in_line),
        cmocka_unit_test(super_frame),
        cmocka_unit_test(super_frame_out_of_order),
        cmocka_unit_test(max_size_frame),
        cmocka_unit_test(window_never_shrinks),
        cmocka_unit_test(small_reads),
        cmocka_unit_test(events_are_edges),
    };

    return cmocka_run_group_tests_name("tcp_trace_recv", tests, NULL, NULL);
}
