/*
 * tests/unit/tcp/trace_ecn_test.c: ECN (RFC 3168) in traces: who asks, who grants, what is marked, what is
 * echoed and what a sender does about it; and DCTCP's exact echo (RFC 8257 section 3.2).
 */
#include <stdio.h>

#include "harness.h"

#define DCTCP 2 /* cc_name() */

static struct harness *ecn_server(void)
{
    struct harness *h = h_new();

    h->cfg.tcp_early_retrans = 0;
    h_listen(h, 8);
    in(h, "SEW 0:0(0) win 32792 <mss 1000,sackOK,nop,nop>");
    out(h, "S.E 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
    in(h, ". 1:1(0) ack 1 win 32792");
    h_accept(h);
    assert_true(h_info(h).options & TCP_INFO_OPT_ECN);
    return h;
}

/* RFC 3168 section 6.1.1: granted where asked for, if the SYN itself is not marked and it is allowed. */
static void granted(void **st)
{
    static const struct {
        int tcp_ecn;
        const char *syn, *synack;
    } tries[] = {
        {2, "SEW 0:0(0) win 32792 <mss 1000>", "S.E 0:0(0) ack 1 <mss 1460>"},
        {1, "SEW 0:0(0) win 32792 <mss 1000>", "S.E 0:0(0) ack 1 <mss 1460>"},
        {0, "SEW 0:0(0) win 32792 <mss 1000>", "S. 0:0(0) ack 1 <mss 1460>"},
        {2, "SE 0:0(0) win 32792 <mss 1000>", "S. 0:0(0) ack 1 <mss 1460>"},
        {2, "SW 0:0(0) win 32792 <mss 1000>", "S. 0:0(0) ack 1 <mss 1460>"},
        {2, "SEW 0:0(0) win 32792 <mss 1000> ecn 2", "S. 0:0(0) ack 1 <mss 1460>"},
        {1, "S 0:0(0) win 32792 <mss 1000>", "S. 0:0(0) ack 1 <mss 1460>"},
    };

    (void)st;
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        struct harness *h = h_new();

        h->cfg.tcp_ecn = tries[i].tcp_ecn;
        h_listen(h, 8);
        in(h, tries[i].syn);
        out(h, tries[i].synack);
        out_in(h, 1000, tries[i].synack); /* the half-open entry remembers it */
        in(h, ". 1:1(0) ack 1 win 32792");
        h_accept(h);
        expect(h, !!(h_info(h).options & TCP_INFO_OPT_ECN), strchr(tries[i].synack, 'E') != NULL);
        h_send(h, 1000);
        out(h, strchr(tries[i].synack, 'E') ? "P. 1:1001(1000) ack 1 ecn 2" : "P. 1:1001(1000) ack 1");
        h_free(h);
    }
}

/* A SYN cookie remembers it in the timestamp, if there is one. */
static void cookie_remembers(void **st)
{
    for (int ts = 0; ts < 2; ts++) {
        struct harness *h = h_new();
        char ack[64];

        (void)st;
        h->cfg.tcp_syncookies = 2;
        h_listen(h, 8);
        in(h,
           ts ? "SEW 0:0(0) win 32792 <mss 1000,nop,nop,TS val 7 ecr 0>" : "SEW 0:0(0) win 32792 <mss 1000>");
        out(h, ts ? "S.E 0:0(0) ack 1 <...>" : "S. 0:0(0) ack 1 <...>");
        snprintf(ack, sizeof ack, ". 1:1(0) ack 1 win 32792 <nop,nop,TS val 8 ecr %u>", h->tsval);
        in(h, ts ? ack : ". 1:1(0) ack 1 win 32792");
        h_accept(h);
        expect(h, !!(h_info(h).options & TCP_INFO_OPT_ECN), ts);
        h_free(h);
    }
}

/* Asked for with tcp_ecn 1; only ECE alone grants (section 6.1.1); SYNs sent again don't ask
 * (section 6.1.1.1). */
static void asked_for(void **st)
{
    static const struct {
        const char *synack;
        bool ok;
    } tries[] = {{"S.E 0:0(0) ack 1 win 65535 <mss 1000>", true},
                 {"S. 0:0(0) ack 1 win 65535 <mss 1000>", false},
                 {"S.EW 0:0(0) ack 1 win 65535 <mss 1000>", false}};

    (void)st;
    for (size_t i = 0; i < 3; i++) {
        struct harness *h = h_new();

        h->cfg.tcp_ecn = 1;
        h_connect(h);
        out(h, "SEW 0:0(0) win * <...>");
        in(h, tries[i].synack);
        out(h, ". 1:1(0) ack 1");
        h_send(h, 1000);
        out(h, tries[i].ok ? "P. 1:1001(1000) ack 1 ecn 2" : "P. 1:1001(1000) ack 1");
        h_free(h);
    }
}

static void fallback(void **st)
{
    for (int on = 0; on < 2; on++) {
        struct harness *h = h_new();

        (void)st;
        h->cfg.tcp_ecn = 1;
        h->cfg.tcp_ecn_fallback = on;
        h_connect(h);
        out(h, "SEW 0:0(0) win * <...>");
        out_in(h, 1000, on ? "S 0:0(0) win * <...>" : "SEW 0:0(0) win * <...>");
        h_abort(h);
        h_free(h);
    }
}

/* Section 6.1.4, 6.1.5: new data is marked; what is sent again, ACKs and FINs are not. */
static void what_is_marked(void **st)
{
    struct harness *h = ecn_server();

    (void)st;
    h_send(h, 1000);
    out(h, "P. 1:1001(1000) ack 1 ecn 2");
    out_in(h, 200, "P. 1:1001(1000) ack 1");
    in(h, ". 1:1(0) ack 1001 win 32792");
    in(h, "P. 1:101(100) ack 1001 win 32792");
    out_in(h, 0, ". 1001:1001(0) ack 101");
    h_shutdown(h);
    out(h, "F. 1001:1001(0) ack 101");
    h_abort(h);
    skip_out(h);
    h_free(h);
}

/* Section 6.1.3: ECE from the first mark on, whatever is sent, until CWR. */
static void echoed_until_cwr(void **st)
{
    struct harness *h = ecn_server();

    (void)st;
    in(h, "P. 1:1001(1000) ack 1 win 32792 ecn 2");
    out(h, ". 1:1(0) ack 1001");
    in(h, "P. 1001:2001(1000) ack 1 win 32792 ecn 3");
    out(h, ".E 1:1(0) ack 2001");
    in(h, "P. 2001:3001(1000) ack 1 win 32792 ecn 2");
    out(h, ".E 1:1(0) ack 3001");
    h_send(h, 100);
    out(h, "P.E 1:101(100) ack 3001 ecn 2");
    in(h, "P.W 3001:4001(1000) ack 101 win 32792 ecn 2");
    out(h, ". 101:101(0) ack 4001");
    assert_true(h_info(h).options & TCP_INFO_OPT_ECN_SEEN);
    h_recv(h, 4000);
    h_free(h);
}

/* Mark and CWR in one burst: the mark is told before CWR ends it. */
static void told_in_a_burst(void **st)
{
    struct harness *h = ecn_server();

    (void)st;
    h->hold = true;
    in(h, "P. 1:1001(1000) ack 1 win 32792 ecn 3");
    in(h, "P.W 1001:2001(1000) ack 1 win 32792 ecn 2");
    h->hold = false;
    flush(h);
    out(h, ".E 1:1(0) ack 1001");
    assert_int_equal(h->cause, TCP_CAUSE_ACK_CE_CHANGE);
    out(h, ". 1:1(0) ack 2001");
    h_recv(h, 2000);
    h_free(h);
}

/* A mark on data out of order, CWR on a pure ACK. */
static void out_of_order_and_pure(void **st)
{
    struct harness *h = ecn_server();

    (void)st;
    in(h, "P. 1001:2001(1000) ack 1 win 32792 ecn 3");
    out(h, ".E 1:1(0) ack 1 win * <nop,nop,sack 1001:2001>");
    in(h, ".W 1:1(0) ack 1 win 32792");
    in(h, "P. 1:1001(1000) ack 1 win 32792 ecn 2");
    out(h, ". 1:1(0) ack 2001");
    h_recv(h, 2000);
    h_free(h);
}

/* Two duplicate ACKs of one burst that differ by ECE only. */
static void facts_keep_their_own(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "SEW 0:0(0) win 32792 <mss 1000>");
    out(h, "S.E 0:0(0) ack 1 <mss 1460>");
    in(h, ". 1:1(0) ack 1 win 32792");
    h_accept(h);
    h->hold = true;
    in(h, "P. 1001:2001(1000) ack 1 win 32792 ecn 2");
    in(h, "P. 2001:3001(1000) ack 1 win 32792 ecn 3");
    h->hold = false;
    flush(h);
    out(h, ". 1:1(0) ack 1");
    out(h, ".E 1:1(0) ack 1");
    h_free(h);
}

/* Section 6.1.2: one reduction a round trip, CWR once on new data, and nothing is undone. */
static void sender_reduces(void **st)
{
    struct harness *h = ecn_server();
    struct tcp_info i;

    (void)st;
    tcp_set_gso_max(h->t, 0);
    h_send(h, 10000);
    for (int k = 0; k < 10; k++) {
        char text[64];

        snprintf(text, sizeof text, "%s %d:%d(1000) ack 1 ecn 2", k == 9 ? "P." : ".", 1 + 1000 * k,
                 1001 + 1000 * k);
        out(h, text);
    }
    pass_ms(h, 10);
    in(h, ".E 1:1(0) ack 2001 win 32792");
    i = h_info(h);
    expect(h, i.ca_state, TCP_CA_CWR);
    expect(h, i.snd_ssthresh, 5);
    expect(h, i.delivered_ce, 2);
    in(h, ".E 1:1(0) ack 4001 win 32792");
    expect(h, h_info(h).snd_ssthresh, 5);
    expect(h, h_info(h).delivered_ce, 4);
    in(h, ". 1:1(0) ack 9001 win 32792");
    h_send(h, 3000);
    out(h, ".W 10001:11001(1000) ack 1 ecn 2");
    out(h, ". 11001:12001(1000) ack 1 ecn 2");
    out(h, "P. 12001:13001(1000) ack 1 ecn 2");
    in(h, ". 1:1(0) ack 10001 win 32792");
    expect(h, h_info(h).ca_state, TCP_CA_CWR); /* held until CWR itself has arrived */
    in(h, ". 1:1(0) ack 11001 win 32792");
    i = h_info(h);
    expect(h, i.ca_state, TCP_CA_OPEN);
    expect(h, i.snd_cwnd, 5);
    expect(h, i.delivered_ce, 4);
    h_free(h);
}

/*
 * RFC 8511, ABE: with tcp_abe an echo costs a fifth of cwnd with Reno and 15 % with CUBIC, a loss what it always did;
 * without, as Linux.
 */
static void abe(void **st)
{
    static const struct {
        int cc, on;
        bool loss;
        uint32_t ssthresh;
    } tries[] = {{0, 0, false, 5}, {0, 1, false, 8}, {0, 1, true, 5}, {1, 0, false, 7}, {1, 1, false, 8}, {1, 1, true, 7}};

    (void)st;
    for (size_t k = 0; k < sizeof tries / sizeof tries[0]; k++) {
        struct harness *h = ecn_server();

        h->cfg.tcp_abe = tries[k].on;
        h->cfg.tcp_recovery = 0;
        expect(h, h_opt(h, TCP_OPT_CONGESTION, tries[k].cc), 0);
        h_send(h, 10000);
        skip_out(h);
        in(h, tries[k].loss ? ". 1:1(0) ack 1 win 32792 <nop,nop,sack 1001:4001>" : ".E 1:1(0) ack 1001 win 32792");
        expect(h, h_info(h).snd_ssthresh, tries[k].ssthresh);
        skip_out(h);
        h_free(h);
    }
}

/* CWR on a super-frame; ECE without ECN agreed says nothing. */
static void super_frame(void **st)
{
    struct harness *h = ecn_server();

    (void)st;
    tcp_set_gso_max(h->t, 65535);
    h_send(h, 4000);
    out(h, "P. 1:4001(4000) ack 1 gso 1000 ecn 2");
    in(h, ".E 1:1(0) ack 4001 win 32792");
    h_send(h, 2000);
    out(h, "P.W 4001:6001(2000) ack 1 gso 1000 ecn 2");
    h_free(h);

    h = h_passive("mss 1000", 32792);
    h_send(h, 1000);
    out(h, "P. 1:1001(1000) ack 1");
    in(h, ".E 1:1(0) ack 1001 win 32792");
    expect(h, h_info(h).ca_state, TCP_CA_OPEN);
    in(h, "P. 1:1001(1000) ack 1001 win 32792 ecn 3");
    out(h, ". 1001:1001(0) ack 1001");
    h_recv(h, 1000);
    h_free(h);
}

/* RFC 8257 section 3.1, 3.2: everything is ECN-capable, every change of marks has its own ACK. */
static void dctcp_echo(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_congestion_control = DCTCP;
    h_connect(h);
    out(h, "SEW 0:0(0) win * <...> ecn 2");
    in(h, "S.E 0:0(0) ack 1 win 65535 <mss 1000>");
    out(h, ". 1:1(0) ack 1 ecn 2");
    h_opt(h, TCP_OPT_QUICKACK, 0); /* ACKs are delayed */
    in(h, "P. 1:101(100) ack 1 win 65535 ecn 2");
    quiet(h, 0);
    in(h, "P. 101:201(100) ack 1 win 65535 ecn 3");
    out(h, ". 1:1(0) ack 101 ecn 2");
    assert_int_equal(h->cause, TCP_CAUSE_ACK_CE_CHANGE);
    out(h, ".E 1:1(0) ack 201 ecn 2");
    h->hold = true;
    in(h, "P. 201:301(100) ack 1 win 65535 ecn 2");
    in(h, "P. 301:401(100) ack 1 win 65535 ecn 3");
    h->hold = false;
    flush(h);
    out(h, ". 1:1(0) ack 301 ecn 2");
    out(h, ".E 1:1(0) ack 401 ecn 2");
    h_recv(h, 400);
    skip_out(h);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(granted),
        cmocka_unit_test(cookie_remembers),
        cmocka_unit_test(asked_for),
        cmocka_unit_test(fallback),
        cmocka_unit_test(what_is_marked),
        cmocka_unit_test(echoed_until_cwr),
        cmocka_unit_test(told_in_a_burst),
        cmocka_unit_test(out_of_order_and_pure),
        cmocka_unit_test(facts_keep_their_own),
        cmocka_unit_test(sender_reduces),
        cmocka_unit_test(abe),
        cmocka_unit_test(super_frame),
        cmocka_unit_test(dctcp_echo),
    };

    return cmocka_run_group_tests_name("trace_ecn", tests, NULL, NULL);
}
