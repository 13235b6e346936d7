/* tests/unit/tcp/trace_cookies_test.c: SYN cookies (RFC 4987), the SYN queue's limits, defer-accept. */
#include <stdio.h>
#include "harness.h"

#define NO_TS "<mss 1460,sackOK,nop,nop>"

static const struct tcp_counters *count(const struct harness *h)
{
    return tcp_get_counters(h->t);
}

static uint32_t half_open(const struct harness *h)
{
    struct tcp_totals totals;

    tcp_get_totals(h->t, &totals);
    return totals.half_open;
}

static struct harness *always(uint32_t backlog)
{
    struct harness *h = h_new();

    h->cfg.tcp_syncookies = 2;
    h_listen(h, backlog);
    return h;
}

static void connection_without_an_entry(void **st)
{
    struct harness *h = always(4);

    (void)st;
    in(h, "S 0:0(0) win 65535 <mss 1400,sackOK,TS val 100 ecr 0,nop,wscale 5>");
    out(h, "S. 0:0(0) ack 1 win * <mss 1460,sackOK,TS val * ecr 100,nop,wscale 7>");
    assert_int_equal(half_open(h), 0);
    assert_int_equal(h_id(h), 0);
    assert_true(h->tsval <= H_START_MS && h->tsval > H_START_MS - 64);
    {
        char text[128];

        snprintf(text, sizeof text, "P. 1:101(100) ack 1 win 1000 <nop,nop,TS val 110 ecr %u>", h->tsval);
        in(h, text);
    }
    state(h, TCP_STATE_ESTABLISHED);
    out(h, ". 1:1(0) ack 101 win * <nop,nop,TS val * ecr 110>");
    assert_int_equal(h_info(h).snd_wscale, 5);
    assert_int_equal(h_info(h).snd_wnd, 1000 << 5);
    assert_int_equal(h_info(h).snd_mss, 1300 - 12); /* the table's entry below 1400 */
    assert_true(h_info(h).options & TCP_INFO_OPT_SACK);
    h_accept(h);
    expect(h, h_recv(h, 200), 100);
    assert_int_equal(count(h)->syncookies_sent, 1);
    assert_int_equal(count(h)->syncookies_recv, 1);
    h_free(h);
}

/* At max_connections a cookie would make the peer believe that it is connected. */
static void none_at_max_connections(void **st)
{
    struct tcp_config config;
    struct harness *h;

    (void)st;
    tcp_config_defaults(&config);
    config.tcp_syncookies = 2;
    h = h_new_args(&(struct h_args){.max_conns = 1, .config = &config});
    h_listen(h, 4);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <mss 1460>");
    in(h, ". 1:1(0) ack 1 win 1000");
    state(h, TCP_STATE_ESTABLISHED);
    flow(h, 1);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    quiet(h, 0);
    assert_int_equal(count(h)->syncookies_sent, 1);
    assert_int_equal(h_drops(h, TCP_DROP_CONN_LIMIT), 1);
    h_free(h);
}

static void without_timestamps_only_the_mss(void **st)
{
    struct harness *h = always(4);

    (void)st;
    in(h, "S 0:0(0) win 65535 <mss 1460,nop,nop,sackOK,nop,wscale 5>");
    out(h, "S. 0:0(0) ack 1 <mss 1460>");
    in(h, ". 1:1(0) ack 1 win 1000");
    state(h, TCP_STATE_ESTABLISHED);
    assert_int_equal(h_info(h).snd_wnd, 1000);
    assert_int_equal(h_info(h).snd_mss, 500); /* half of the window */
    assert_int_equal(h_info(h).options & (TCP_INFO_OPT_SACK | TCP_INFO_OPT_WSCALE), 0);
    h_free(h);
}

static void forged_or_outdated(void **st)
{
    struct harness *h = always(4);

    (void)st;
    in(h, "S 0:0(0) win 65535 " NO_TS);
    out(h, "S. 0:0(0) ack 1 <mss 1460>");
    in(h, ". 1:1(0) ack 2 win 1000");
    out(h, "R 2:2(0) win 0");
    in(h, ". 100:100(0) ack 1 win 1000"); /* another IRS */
    out(h, "R 1:1(0) win 0");
    assert_int_equal(count(h)->syncookies_failed, 2);
    pass_ms(h, 119000); /* two minutes at most */
    in(h, ". 1:1(0) ack 1 win 1000");
    out(h, "R 1:1(0) win 0");
    assert_int_equal(count(h)->syncookies_failed, 3);
    assert_int_equal(h_id(h), 0);
    h_free(h);
}

/* MSS and IRS are summands (Linux secure_tcp_syn_cookie): one more of the one is one less of the other. */
static void off_by_one_is_another_mss(void **st)
{
    struct harness *h = always(4);

    (void)st;
    in(h, "S 0:0(0) win 65535 " NO_TS);
    out(h, "S. 0:0(0) ack 1 <mss 1460>");
    in(h, ". 5:5(0) ack 1 win 1000"); /* four: there is no such MSS */
    out(h, "R 1:1(0) win 0");
    in(h, ". 2:2(0) ack 1 win 65535");
    h_accept(h);
    assert_int_equal(h_info(h).snd_mss, 1440);
    h_free(h);
}

static void never_where_none_were_sent(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 4);
    in(h, ". 1:1(0) ack 1 win 1000");
    skip_out(h);
    assert_int_equal(count(h)->syncookies_failed, 0);
    h_free(h);
}

/* They begin where the queue is full, and end when it is not any more. */
static void begin_when_the_queue_is_full(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 2);
    for (int k = 0; k < 5; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 " NO_TS);
        if (k < 2)
            out(h, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
        else
            out(h, "S. 0:0(0) ack 1 <mss 1460>");
    }
    assert_int_equal(half_open(h), 2);
    assert_int_equal(count(h)->syncookies_sent, 3);
    assert_int_equal(count(h)->req_queue_full_cookies, 3);
    in(h, ". 1:1(0) ack 1 win 1000"); /* flow 4 */
    state(h, TCP_STATE_ESTABLISHED);
    flow(h, 1);
    in(h, ". 1:1(0) ack 1 win 1000");
    flow(h, 5);
    in(h, "S 0:0(0) win 65535 " NO_TS);
    out(h, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
    h_free(h);
}

static void accept_queue_full(void **st)
{
    struct harness *h = always(1);

    (void)st;
    for (int k = 0; k < 3; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 " NO_TS);
        out(h, "S. 0:0(0) ack 1 <mss 1460>");
    }
    for (int k = 0; k < 3; k++) {
        flow(h, k);
        in(h, ". 1:1(0) ack 1 win 1000");
    }
    assert_int_equal(h_id(h), 0); /* the third: dropped without a word, it will try again */
    assert_int_equal(count(h)->listen_overflows, 1);
    flow(h, 0);
    h_accept(h);
    flow(h, 2);
    in(h, "P. 1:11(10) ack 1 win 1000");
    state(h, TCP_STATE_ESTABLISHED);
    skip_out(h);
    h_free(h);
}

static void off_the_syn_is_dropped(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_syncookies = 0;
    h_listen(h, 1);
    in(h, "S 0:0(0) win 65535 " NO_TS);
    skip_out(h);
    flow(h, 1);
    in(h, "S 0:0(0) win 65535 " NO_TS);
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(count(h)->req_queue_full_drop, 1);
    assert_int_equal(h_drops(h, TCP_DROP_SYN_QUEUE_FULL), 1);
    h_free(h);
}

/* ---- TCP_DEFER_ACCEPT ---- */

static struct harness *deferring(int32_t seconds)
{
    struct harness *h = h_new();

    h->cfg.tcp_timestamps = 0;
    h_listen(h, 4);
    assert_int_equal(tcp_listen_set_opt(h->t, h->listener, TCP_OPT_DEFER_ACCEPT, seconds), 0);
    in(h, "S 0:0(0) win 65535 " NO_TS);
    out(h, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
    in(h, ". 1:1(0) ack 1 win 1000");
    state(h, TCP_STATE_NEW_SYN_RECV);
    return h;
}

static void data_makes_the_connection(void **st)
{
    struct harness *h = deferring(3);

    (void)st;
    assert_int_equal(count(h)->defer_accept_drop, 1);
    in(h, "P. 1:101(100) ack 1 win 1000");
    state(h, TCP_STATE_ESTABLISHED);
    out(h, ". 1:1(0) ack 101");
    h_accept(h);
    h_free(h);
}

/* Quiet until the period is over, then the SYN-ACK asks for an ACK that counts. */
static void without_data_a_last_synack(void **st)
{
    struct harness *h = deferring(3); /* two time-outs: 1 s, 3 s */

    (void)st;
    quiet(h, 2999);
    out_in(h, 1, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
    in(h, ". 1:1(0) ack 1 win 1000");
    state(h, TCP_STATE_ESTABLISHED);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connection_without_an_entry),
        cmocka_unit_test(none_at_max_connections),
        cmocka_unit_test(without_timestamps_only_the_mss),
        cmocka_unit_test(forged_or_outdated),
        cmocka_unit_test(off_by_one_is_another_mss),
        cmocka_unit_test(never_where_none_were_sent),
        cmocka_unit_test(begin_when_the_queue_is_full),
        cmocka_unit_test(accept_queue_full),
        cmocka_unit_test(off_the_syn_is_dropped),
        cmocka_unit_test(data_makes_the_connection),
        cmocka_unit_test(without_data_a_last_synack),
    };

    return cmocka_run_group_tests_name("trace_cookies", tests, NULL, NULL);
}
