/*
 * tests/unit/tcp/trace_open_test.c: opening connections: passive, active, simultaneous; options on and off;
 * half-open entries, their retransmissions and limits; the accept queue's overflow rules.
 */
#include "harness.h"

static void passive_all_options(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>");
    out(h, "S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 1000000 ecr 100,nop,wscale 7>");
    state(h, TCP_STATE_NEW_SYN_RECV);
    quiet(h, 10);
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,TS val 110 ecr 1000000>");
    state(h, TCP_STATE_ESTABLISHED);
    event(h, TCP_EVENT_ACCEPT);
    h_accept(h);
    assert_int_equal(h_info(h).options & 7,
                     TCP_INFO_OPT_TIMESTAMPS | TCP_INFO_OPT_SACK | TCP_INFO_OPT_WSCALE);
    assert_int_equal(h_info(h).snd_wnd, 512 << 7);
    assert_int_equal(h_info(h).snd_mss, 1448);
    assert_int_equal(tcp_get_counters(h->t)->passive_opens, 1);
    h_free(h);
}

static void passive_option_subsets(void **st)
{
    static const struct {
        const char *syn, *synack;
        int options;
    } rows[] = {
        {"S 0:0(0) win 65535", "S. 0:0(0) ack 1 win 64240 <mss 1460>", 0},
        {"S 0:0(0) win 65535 <mss 1000>", "S. 0:0(0) ack 1 win 64240 <mss 1460>", 0},
        {"S 0:0(0) win 65535 <mss 1460,nop,nop,sackOK>",
         "S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK>", TCP_INFO_OPT_SACK},
        {"S 0:0(0) win 65535 <mss 1460,nop,wscale 3>", "S. 0:0(0) ack 1 win 64240 <mss 1460,nop,wscale 7>",
         TCP_INFO_OPT_WSCALE},
        {"S 0:0(0) win 65535 <mss 1460,nop,nop,TS val 5 ecr 0>",
         "S. 0:0(0) ack 1 win 65160 <mss 1460,nop,nop,TS val 1000000 ecr 5>", TCP_INFO_OPT_TIMESTAMPS},
        {"S 0:0(0) win 65535 <mss 1460,nop,wscale 15>", "S. 0:0(0) ack 1 win 64240 <mss 1460,nop,wscale 7>",
         TCP_INFO_OPT_WSCALE},
    };

    (void)st;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct harness *h = h_new();

        h_listen(h, 8);
        in(h, rows[i].syn);
        out(h, rows[i].synack);
        if (rows[i].options & TCP_INFO_OPT_TIMESTAMPS)
            in(h, ". 1:1(0) ack 1 win 1000 <nop,nop,TS val 6 ecr 1000000>");
        else
            in(h, ". 1:1(0) ack 1 win 1000");
        state(h, TCP_STATE_ESTABLISHED);
        assert_int_equal(h_info(h).options & 7, rows[i].options);
        if (i == 5)
            assert_int_equal(h_info(h).snd_wscale, 14); /* RFC 7323 section 2.3 */
        h_free(h);
    }
}

static void local_options_off(void **st)
{
    struct tcp_config c;
    struct harness *h;

    (void)st;
    tcp_config_defaults(&c);
    c.tcp_timestamps = c.tcp_sack = c.tcp_window_scaling = 0;
    h = h_new_args(&(struct h_args){.config = &c});
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>");
    out(h, "S. 0:0(0) ack 1 win 64240 <mss 1460>");
    flow(h, 1);
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) win 64240 <mss 1460>");
    h_free(h);
}

static void small_peer_mss(void **st)
{
    struct harness *h = h_passive("mss 600", 65535);

    (void)st;
    h_send(h, 1000);
    out(h, "* 1:601(600) ack 1 win *");
    if (!h_pending(h)) /* Nagle may hold the rest */
        in(h, ". 1:1(0) ack 601 win 65535");
    out(h, "P. 601:1001(400) ack 1");
    h_free(h);
}

static void default_mss_536(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    assert_int_equal(h_info(h).snd_mss, 536);
    h_free(h);
}

static void data_with_completing_ack(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, "P. 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 101");
    state(h, TCP_STATE_ESTABLISHED);
    h_accept(h);
    expect(h, h_recv(h, 1000), 100);
    h_free(h);
}

static void fin_with_completing_ack(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, "F. 1:1(0) ack 1 win 65535");
    out(h, ". 1:1(0) ack 2");
    state(h, TCP_STATE_CLOSE_WAIT);
    h_accept(h);
    expect(h, h_recv(h, 10), 0);
    h_free(h);
}

static void active_all_options(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) win 64240 <mss 1460,sackOK,TS val 1000000 ecr 0,nop,wscale 7>");
    assert_int_equal(h->cause, TCP_CAUSE_SYN);
    state(h, TCP_STATE_SYN_SENT);
    quiet(h, 30);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1400,sackOK,TS val 700 ecr 1000000,nop,wscale 2>");
    out(h, ". 1:1(0) ack 1 win 502 <nop,nop,TS val 1000030 ecr 700>");
    assert_int_equal(h->cause, TCP_CAUSE_ACK_HANDSHAKE);
    state(h, TCP_STATE_ESTABLISHED);
    event(h, TCP_EVENT_CONNECTED);
    assert_int_equal(h_info(h).snd_wnd, 65535);
    assert_int_equal(h_info(h).snd_mss, 1388);
    assert_int_equal(h_info(h).rtt, 30000);
    assert_int_equal(tcp_get_counters(h->t)->active_opens, 1);
    h_free(h);
}

static void active_no_options(void **st)
{
    struct harness *h = h_active("mss 1000", 5000);

    (void)st;
    assert_int_equal(h_info(h).options & 7, 0);
    assert_int_equal(h_info(h).snd_mss, 1000);
    assert_int_equal(h_info(h).snd_wnd, 5000);
    h_free(h);
}

static void active_refused(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    in(h, "R. 0:0(0) ack 1 win 0");
    state(h, TCP_STATE_CLOSE);
    event(h, TCP_EVENT_ERROR | TCP_EVENT_CLOSED);
    assert_int_equal(h_flow(h)->error, ECONNREFUSED);
    expect(h, h_close(h), 0);
    state(h, H_GONE);
    assert_int_equal(tcp_get_counters(h->t)->attempt_fails, 1);
    h_free(h);
}

static void syn_sent_bad_answers(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    in(h, "S. 0:0(0) ack 2 win 65535 <mss 1460>"); /* an ACK of what was never sent: RST, stay */
    out(h, "R 2:2(0) win 0");
    state(h, TCP_STATE_SYN_SENT);
    in(h, "S. 0:0(0) ack 0 win 65535 <mss 1460>");
    out(h, "R 0:0(0) win 0");
    in(h, "R. 0:0(0) ack 2 win 0"); /* RST without a good ACK: dropped */
    state(h, TCP_STATE_SYN_SENT);
    in(h, "R 0:0(0) win 0");
    state(h, TCP_STATE_SYN_SENT);
    in(h, ". 0:0(0) ack 1 win 65535"); /* a good ACK alone: dropped */
    state(h, TCP_STATE_SYN_SENT);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    out(h, ". 1:1(0) ack 1");
    state(h, TCP_STATE_ESTABLISHED);
    h_free(h);
}

static void syn_retransmission(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) win 64240 <...>");
    for (int k = 0; k < 6; k++) {
        out_in(h, 1000 << k, "S 0:0(0) win 64240 <...>");
        assert_int_equal(h->cause, TCP_CAUSE_SYN_RETRANS);
    }
    quiet(h, 63999);
    state(h, TCP_STATE_SYN_SENT);
    quiet(h, 2);
    state(h, TCP_STATE_CLOSE);
    event(h, TCP_EVENT_ERROR);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    h_free(h);
}

static void syn_retransmission_then_answer(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) win 64240 <...>");
    out_in(h, 1000, "S 0:0(0) win 64240 <mss 1460,sackOK,TS val 1001000 ecr 0,nop,wscale 7>");
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    out(h, ". 1:1(0) ack 1");
    state(h, TCP_STATE_ESTABLISHED);
    quiet(h, 5000);
    h_free(h);
}

static void simultaneous_open(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    state(h, TCP_STATE_SYN_RECV);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    if (h_pending(h)) /* Linux answers the crossed SYN-ACK with an ACK */
        out(h, ". 1:1(0) ack 1");
    state(h, TCP_STATE_ESTABLISHED);
    event(h, TCP_EVENT_CONNECTED);
    h_send(h, 10);
    out(h, "P. 1:11(10) ack 1");
    in(h, "P. 1:11(10) ack 11 win 65535");
    skip_out(h);
    expect(h, h_recv(h, 100), 10);
    pass_ms(h, 500);
    skip_out(h);
    h_free(h);
}

static void simultaneous_open_plain_ack(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    out_in(h, 1000, "S. 0:0(0) ack 1 <...>"); /* it is repeated */
    in(h, ". 1:1(0) ack 1 win 65535");
    state(h, TCP_STATE_ESTABLISHED);
    quiet(h, 3000);
    h_free(h);
}

static void synack_retransmission(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    for (int k = 0; k < 5; k++) {
        out_in(h, 1000 << k, "S. 0:0(0) ack 1 win 64240 <mss 1460>");
        assert_int_equal(h->cause, TCP_CAUSE_SYNACK_RETRANS);
    }
    quiet(h, 31990);
    state(h, TCP_STATE_NEW_SYN_RECV);
    quiet(h, 20);
    state(h, H_GONE);
    assert_int_equal(tcp_get_counters(h->t)->req_timeouts, 1);
    in(h, ". 1:1(0) ack 1 win 65535"); /* too late: no such connection */
    out(h, "R 1:1(0) win 0");
    h_free(h);
}

static void repeated_syn(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    pass_ms(h, 600);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, ". 1:1(0) ack 1 win 65535");
    state(h, TCP_STATE_ESTABLISHED);
    h_free(h);
}

static void half_open_rst(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, "R 1:1(0) win 0");
    state(h, H_GONE);
    quiet(h, 10000);
    h_free(h);
}

static void half_open_bad_ack(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, ". 1:1(0) ack 100 win 65535");
    out(h, "R 100:100(0) win 0");
    state(h, TCP_STATE_NEW_SYN_RECV);
    in(h, ". 1:1(0) ack 1 win 65535");
    state(h, TCP_STATE_ESTABLISHED);
    h_free(h);
}

/* A SYN-ACK for a half-open entry: bare, it lies before the window; with text its SYN is cut off and the rest
 * completes. */
static void half_open_completed_by_syn_ack(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460,nop,wscale 2>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, "S. 0:0(0) ack 1 win 60000 <mss 1460,nop,wscale 2>");
    out(h, ". 1:1(0) ack 1");
    state(h, TCP_STATE_NEW_SYN_RECV);
    in(h, "S. 0:10(10) ack 1 win 60000 <mss 1460,nop,wscale 2>");
    out(h, ". 1:1(0) ack 11");
    state(h, TCP_STATE_ESTABLISHED);
    assert_int_equal(h_info(h).snd_wnd, 60000); /* not scaled */
    h_accept(h);
    assert_int_equal(h_info(h).unread_bytes, 10);
    skip_out(h);
    h_free(h);
}

static void listener_segments(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    in(h, "R 0:0(0) win 0");
    in(h, "F 0:0(0) win 0");
    in(h, ". 0:0(0) ack 5 win 0"); /* an ACK in LISTEN: RST with its number (RFC 9293 section 3.10.7.2) */
    out(h, "R 5:5(0) win 0");
    in(h, "S. 0:0(0) ack 5 win 0");
    out(h, "R 5:5(0) win 0");
    in(h, "- 0:10(10) win 0");
    in(h, "SF 0:0(0) win 65535 <mss 1460>"); /* Linux drops SYN-FIN */
    skip_out(h);
    h_free(h);
}

static void closed_port(void **st)
{
    struct harness *h = h_new();

    (void)st;
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "R. 0:0(0) ack 1 win 0");
    assert_int_equal(h->cause, TCP_CAUSE_RST_NO_SOCKET);
    in(h, ". 10:10(0) ack 77 win 65535");
    out(h, "R 77:77(0) win 0");
    in(h, "PF 10:20(10) win 65535");
    out(h, "R. 0:0(0) ack 21 win 0");
    in(h, "R 10:10(0) win 0");
    in(h, "R. 10:10(0) ack 1 win 0");
    in(h, "SE 0:0(0) win 65535 <mss 1460>");
    out(h, "R. 0:0(0) ack 1 win 0");
    h_free(h);
}

static void open_flow(struct harness *h, int k)
{
    flow(h, k);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
}

static void complete_flow(struct harness *h, int k)
{
    flow(h, k);
    in(h, ". 1:1(0) ack 1 win 65535");
}

/* Three connections in an accept queue of 2 (Linux: one more than the backlog fits), the ACK of a fourth. */
static void fill_backlog(struct harness *h)
{
    h_listen(h, 2); /* two half-open entries at a time, too */
    open_flow(h, 0);
    open_flow(h, 1);
    complete_flow(h, 0);
    open_flow(h, 2);
    complete_flow(h, 1);
    open_flow(h, 3);
    complete_flow(h, 2);
    complete_flow(h, 3);
}

static void backlog_overflow(void **st)
{
    struct harness *h = h_new();

    (void)st;
    fill_backlog(h);
    flow(h, 2);
    state(h, TCP_STATE_ESTABLISHED);
    flow(h, 3); /* its ACK was ignored, the entry stays */
    state(h, TCP_STATE_NEW_SYN_RECV);
    assert_true(tcp_get_counters(h->t)->listen_overflows >= 1);
    flow(h, 4); /* a new SYN is ignored */
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    state(h, H_GONE);
    flow(h, 0);
    h_accept(h);
    flow(h, 3);
    pass_ms(h, 8000); /* the SYN-ACK goes again, the peer answers it */
    skip_out(h);
    in(h, ". 1:1(0) ack 1 win 65535");
    skip_out(h);
    state(h, TCP_STATE_ESTABLISHED);
    h_free(h);
}

static void backlog_abort_on_overflow(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_abort_on_overflow = 1;
    fill_backlog(h);
    out(h, "R* 1:1(0)*");
    assert_int_equal(h->cause, TCP_CAUSE_RST_OVERFLOW);
    state(h, H_GONE);
    h_free(h);
}

static void half_open_limit(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_syncookies = 0;
    h_listen(h, 5);
    for (int k = 0; k < 64; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 <mss 1460>");
        skip_out(h);
    }
    {
        struct tcp_totals totals;

        tcp_get_totals(h->t, &totals);
        assert_true(totals.half_open >= 1 && totals.half_open <= 5);
        assert_true(h_drops(h, TCP_DROP_SYN_QUEUE_FULL) >= 59);
    }
    h_free(h);
}

static void engine_half_open_limit(void **st)
{
    struct harness *h = h_new_args(&(struct h_args){.max_half_open = 3});
    struct tcp_totals totals;

    (void)st;
    h->cfg.tcp_syncookies = 0;
    h_listen(h, 64);
    for (int k = 0; k < 10; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 <mss 1460>");
        skip_out(h);
    }
    tcp_get_totals(h->t, &totals);
    assert_int_equal(totals.half_open, 3);
    pass_ms(h, 70000); /* they time out and leave no slot behind */
    skip_out(h);
    tcp_get_totals(h->t, &totals);
    assert_int_equal(totals.half_open, 0);
    flow(h, 9);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
    h_free(h);
}

static void conn_limit(void **st)
{
    struct harness *h = h_new_args(&(struct h_args){.max_conns = 2});

    (void)st;
    for (int k = 0; k < 2; k++) {
        flow(h, k);
        expect(h, h_connect(h), 0);
        out(h, "S 0:0(0) <...>");
    }
    flow(h, 2);
    expect(h, h_connect(h), -ENFILE);
    flow(h, 0);
    expect(h, h_abort(h), 0);
    skip_out(h);
    flow(h, 2);
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    h_free(h);
}

static void listener_close(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 8);
    for (int k = 0; k < 3; k++)
        open_flow(h, k);
    for (int k = 0; k < 2; k++) {
        flow(h, k);
        in(h, ". 1:1(0) ack 1 win 65535");
    }
    flow(h, 0);
    h_accept(h);
    tcp_listen_close(h->t, h->listener, h->now);
    flush(h);
    flow(h, 1); /* unaccepted: reset */
    out(h, "R* 1:1(0)*");
    assert_int_equal(h->cause, TCP_CAUSE_RST_LISTENER_CLOSED);
    state(h, H_GONE);
    flow(h, 2); /* half-open: gone */
    state(h, H_GONE);
    flow(h, 0); /* accepted: lives on */
    state(h, TCP_STATE_ESTABLISHED);
    flow(h, 3);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "R. 0:0(0) ack 1 win 0");
    h_free(h);
}

static void listen_in_use(void **st)
{
    struct harness *h = h_new();
    struct tcp_listen_args args = {.port = H_PORT, .backlog = 5};
    uint32_t number = 0;

    (void)st;
    h_listen(h, 8);
    args.addr = h->flows[0].tuple.local;
    assert_int_equal(tcp_listen(h->t, &args, &number), -EADDRINUSE);
    args.port = H_PORT + 1;
    assert_int_equal(tcp_listen(h->t, &args, &number), 0);
    assert_int_not_equal(number, h->listener);
    tcp_listen_close(h->t, number, h->now);
    assert_int_equal(tcp_listen(h->t, &args, &number), 0);
    expect(h, h_connect(h), 0);
    expect(h, h_connect(h), -EADDRINUSE);
    out(h, "S 0:0(0) <...>");
    h_free(h);
}

static void ipv6_open(void **st)
{
    struct harness *h = h_new_args(&(struct h_args){.ipv6 = true});

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) win 64800 <mss 1440,sackOK,TS val 1000000 ecr 0,nop,wscale 7>");
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1440>");
    out(h, ". 1:1(0) ack 1");
    h_send(h, 2880);
    out(h, "* 1:1441(1440) ack 1 win *");
    out(h, "P. 1441:2881(1440) ack 1");
    h_free(h);
}

static void isn_differs(void **st)
{
    struct harness *h = h_new();
    uint32_t a, b;

    (void)st;
    flow(h, 0);
    h_connect(h);
    a = h_flow(h)->iss;
    flow(h, 1);
    h_connect(h);
    b = h_flow(h)->iss;
    assert_int_not_equal(a, b);
    skip_out(h);
    h_free(h);
}

static void connect_unowned_calls(void **st)
{
    struct harness *h = h_new();

    (void)st;
    assert_int_equal(tcp_close(h->t, 12345, h->now), -ENOENT);
    assert_int_equal(tcp_abort(h->t, 12345, h->now), -ENOENT);
    assert_int_equal(tcp_send(h->t, 12345, "x", 1, 0, h->now), -ENOENT);
    assert_int_equal(tcp_shutdown_write(h->t, 12345, h->now), -ENOENT);
    assert_int_equal(tcp_get_info(h->t, 12345, h->now, &(struct tcp_info){0}), -ENOENT);
    assert_int_equal(tcp_next_id(h->t, 0), 0);
    h_free(h);
}

/* What is written before the handshake completes waits for it. */
static void send_in_syn_sent(void **st)
{
    struct harness *h = h_new();
    int64_t rc;

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    rc = h_send(h, 10);
    assert_true(rc == 10 || rc == -EAGAIN || rc == -ENOTCONN);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    if (rc == 10)
        out(h, "P. 1:11(10) ack 1");
    else
        out(h, ". 1:1(0) ack 1");
    skip_out(h);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passive_all_options),
        cmocka_unit_test(passive_option_subsets),
        cmocka_unit_test(local_options_off),
        cmocka_unit_test(small_peer_mss),
        cmocka_unit_test(default_mss_536),
        cmocka_unit_test(data_with_completing_ack),
        cmocka_unit_test(fin_with_completing_ack),
        cmocka_unit_test(active_all_options),
        cmocka_unit_test(active_no_options),
        cmocka_unit_test(active_refused),
        cmocka_unit_test(syn_sent_bad_answers),
        cmocka_unit_test(syn_retransmission),
        cmocka_unit_test(syn_retransmission_then_answer),
        cmocka_unit_test(simultaneous_open),
        cmocka_unit_test(simultaneous_open_plain_ack),
        cmocka_unit_test(synack_retransmission),
        cmocka_unit_test(repeated_syn),
        cmocka_unit_test(half_open_rst),
        cmocka_unit_test(half_open_bad_ack),
        cmocka_unit_test(half_open_completed_by_syn_ack),
        cmocka_unit_test(listener_segments),
        cmocka_unit_test(closed_port),
        cmocka_unit_test(backlog_overflow),
        cmocka_unit_test(backlog_abort_on_overflow),
        cmocka_unit_test(half_open_limit),
        cmocka_unit_test(engine_half_open_limit),
        cmocka_unit_test(conn_limit),
        cmocka_unit_test(listener_close),
        cmocka_unit_test(listen_in_use),
        cmocka_unit_test(ipv6_open),
        cmocka_unit_test(isn_differs),
        cmocka_unit_test(connect_unowned_calls),
        cmocka_unit_test(send_in_syn_sent),
    };

    return cmocka_run_group_tests_name("tcp_trace_open", tests, NULL, NULL);
}
