/*
 * tests/unit/tcp/trace_close_test.c: ending connections: half-close on both sides, simultaneous close,
 * TIME-WAIT, orphans, and the RSTs of a program that closes with data unread or coming.
 */
#include "harness.h"

static struct harness *established(void)
{
    return h_passive("mss 1460", 65535);
}

static void active_close(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_FIN);
    state(h, TCP_STATE_FIN_WAIT1);
    in(h, ". 1:1(0) ack 2 win 65535");
    state(h, TCP_STATE_FIN_WAIT2);
    in(h, "F. 1:1(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 2");
    state(h, TCP_STATE_TIME_WAIT);
    quiet(h, 59900);
    state(h, TCP_STATE_TIME_WAIT);
    quiet(h, 200);
    state(h, H_GONE);
    h_free(h);
}

static void passive_close(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "F. 1:1(0) ack 1 win 65535");
    out(h, ". 1:1(0) ack 2");
    state(h, TCP_STATE_CLOSE_WAIT);
    event(h, TCP_EVENT_PEER_CLOSED);
    expect(h, h_recv(h, 10), 0);
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 2");
    state(h, TCP_STATE_LAST_ACK);
    in(h, ". 2:2(0) ack 2 win 65535");
    state(h, H_GONE);
    quiet(h, 1000);
    h_free(h);
}

static void half_close_ours(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_shutdown(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, ". 1:1(0) ack 2 win 65535");
    state(h, TCP_STATE_FIN_WAIT2);
    expect(h, h_send(h, 5), -EPIPE);
    quiet(h, 200000); /* an owned FIN-WAIT-2 waits for ever */
    state(h, TCP_STATE_FIN_WAIT2);
    in(h, "P. 1:1001(1000) ack 2 win 65535"); /* the peer still sends */
    out(h, ". 2:2(0) ack 1001");
    expect(h, h_recv(h, 2000), 1000);
    in(h, "F. 1001:1001(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 1002");
    state(h, TCP_STATE_TIME_WAIT);
    event(h, TCP_EVENT_PEER_CLOSED);
    expect(h, h_recv(h, 10), 0);
    h_close(h);
    pass_ms(h, 61000);
    state(h, H_GONE);
    h_free(h);
}

static void half_close_theirs(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "FP. 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 102");
    state(h, TCP_STATE_CLOSE_WAIT);
    expect(h, h_send(h, 3000), 3000); /* we still send */
    out(h, "* 1:1461(1460) ack 102 win *");
    out(h, "* 1461:2921(1460) ack 102 win *");
    if (!h_pending(h))
        in(h, ". 102:102(0) ack 2921 win 65535");
    out(h, "P. 2921:3001(80) ack 102");
    in(h, ". 102:102(0) ack 3001 win 65535");
    expect(h, h_recv(h, 1000), 100);
    expect(h, h_recv(h, 1000), 0);
    expect(h, h_shutdown(h), 0);
    out(h, "F. 3001:3001(0) ack 102");
    state(h, TCP_STATE_LAST_ACK);
    in(h, ". 102:102(0) ack 3002 win 65535");
    state(h, TCP_STATE_CLOSE); /* owned: stays until its owner closes it */
    event(h, TCP_EVENT_CLOSED);
    expect(h, h_close(h), 0);
    state(h, H_GONE);
    h_free(h);
}

static void fin_with_last_data(void **st)
{
    struct harness *h = established();

    (void)st;
    h->hold = true;
    h_send(h, 100);
    h_shutdown(h);
    h->hold = false;
    flush(h);
    out(h, "FP. 1:101(100) ack 1");
    state(h, TCP_STATE_FIN_WAIT1);
    in(h, ". 1:1(0) ack 101 win 65535"); /* the data only */
    state(h, TCP_STATE_FIN_WAIT1);
    in(h, ". 1:1(0) ack 102 win 65535");
    state(h, TCP_STATE_FIN_WAIT2);
    h_free(h);
}

static void fin_retransmitted(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_shutdown(h), 0);
    out(h, "F. 1:1(0) ack 1");
    out_in(h, 201, "F. 1:1(0) ack 1"); /* srtt 1 us + 200 ms, in whole ms as Linux */
    out_in(h, 402, "F. 1:1(0) ack 1");
    in(h, ". 1:1(0) ack 2 win 65535");
    quiet(h, 10000);
    state(h, TCP_STATE_FIN_WAIT2);
    h_free(h);
}

static void simultaneous_close(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, "F. 1:1(0) ack 1 win 65535");
    out(h, ". 2:2(0) ack 2");
    state(h, TCP_STATE_CLOSING);
    in(h, ". 2:2(0) ack 2 win 65535");
    state(h, TCP_STATE_TIME_WAIT);
    quiet(h, 60100);
    state(h, H_GONE);
    h_free(h);
}

static void fin_acks_fin(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, "F. 1:1(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 2");
    state(h, TCP_STATE_TIME_WAIT);
    h_free(h);
}

static void fin_behind_hole(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "FP. 101:201(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1");
    state(h, TCP_STATE_ESTABLISHED);
    in(h, "P. 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 202");
    state(h, TCP_STATE_CLOSE_WAIT);
    expect(h, h_recv(h, 1000), 200);
    expect(h, h_recv(h, 1000), 0);
    h_free(h);
}

static void data_behind_fin(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "F. 1:1(0) ack 1 win 65535");
    out(h, ". 1:1(0) ack 2");
    in(h, "P. 2:102(100) ack 1 win 65535");
    skip_out(h);
    state(h, TCP_STATE_CLOSE_WAIT);
    expect(h, h_recv(h, 100), 0);
    in(h, "F. 1:1(0) ack 1 win 65535"); /* repeated: acknowledged again */
    out(h, ". 1:1(0) ack 2");
    h_free(h);
}

static void enter_time_wait(struct harness *h)
{
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1 <...>");
    in(h, "F. 1:1(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 2 <...>");
    state(h, TCP_STATE_TIME_WAIT);
}

static void time_wait_fin_restarts(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, "F. 1:1(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 2");
    quiet(h, 40000);
    in(h, "F. 1:1(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 2");
    assert_int_equal(h->cause, TCP_CAUSE_ACK_TIME_WAIT);
    quiet(h, 59000);
    state(h, TCP_STATE_TIME_WAIT);
    quiet(h, 1100);
    state(h, H_GONE);
    h_free(h);
}

static void time_wait_newer_syn(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, "F. 1:1(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 2");
    quiet(h, 10);
    in(h,
       "S 5000:5000(0) win 65535 <mss 1460>"); /* beyond the old sequence space: RFC 9293 section 3.10.7.4 */
    h_flow(h)->irs += 5000;
    out(h, "S. 0:0(0) * win * <...>");
    state(h, TCP_STATE_NEW_SYN_RECV);
    in(h, ". 1:1(0) ack 1 win 65535");
    state(h, TCP_STATE_ESTABLISHED);
    assert_int_equal(tcp_get_counters(h->t)->tw_recycled, 1);
    h_free(h);
}

static void time_wait_old_syn(void **st)
{
    struct harness *h = established();

    (void)st;
    enter_time_wait(h);
    in(h, "S 0:0(0) win 65535 <mss 1460>"); /* not beyond: an ACK */
    out(h, ". 2:2(0) ack 2");
    state(h, TCP_STATE_TIME_WAIT);
    h_free(h);
}

static void time_wait_rst(void **st)
{
    struct harness *h = established();

    (void)st;
    enter_time_wait(h);
    in(h, "R 2:2(0) win 0"); /* Linux: assassinated unless tcp_rfc1337 */
    state(h, H_GONE);
    h_free(h);
}

static void time_wait_rst_rfc1337(void **st)
{
    struct harness *h = established();

    (void)st;
    h->cfg.tcp_rfc1337 = 1;
    enter_time_wait(h);
    in(h, "R 2:2(0) win 0");
    state(h, TCP_STATE_TIME_WAIT);
    assert_int_equal(h_drops(h, TCP_DROP_TIME_WAIT_RST), 1);
    h_free(h);
}

static void time_wait_configured(void **st)
{
    struct harness *h = established();

    (void)st;
    h->cfg.tcp_timewait_len = 5;
    enter_time_wait(h);
    quiet(h, 4990);
    state(h, TCP_STATE_TIME_WAIT);
    quiet(h, 20);
    state(h, H_GONE);
    h_free(h);
}

static void time_wait_limit(void **st)
{
    struct harness *h = h_new_args(&(struct h_args){.max_time_wait = 2});
    struct tcp_totals totals;

    (void)st;
    h_listen(h, 16);
    for (int k = 0; k < 4; k++) {
        flow(h, k);
        h_passive_on(h, "mss 1460", 65535);
    }
    for (int k = 0; k < 4; k++) {
        flow(h, k);
        expect(h, h_close(h), 0);
        out(h, "F. 1:1(0) ack 1");
        in(h, "F. 1:1(0) ack 2 win 65535");
        skip_out(h);
    }
    tcp_get_totals(h->t, &totals);
    assert_int_equal(totals.time_wait, 2);
    assert_int_equal(tcp_get_counters(h->t)->tw_overflow, 2);
    pass_ms(h, 61000);
    tcp_get_totals(h->t, &totals);
    assert_int_equal(totals.time_wait, 0);
    assert_int_equal(totals.conns, 0);
    h_free(h);
}

static void time_wait_reuse_by_connect(void **st)
{
    struct harness *h = h_active("mss 1460,sackOK,TS val 500", 65535);
    uint32_t old_iss = h_flow(h)->iss;

    (void)st;
    enter_time_wait(h);
    assert_true(tcp_tuple_in_use(h->t, &h_flow(h)->tuple, h->now));
    expect(h, h_connect(h), -EADDRINUSE); /* within a second */
    quiet(h, 2100);
    assert_false(tcp_tuple_in_use(h->t, &h_flow(h)->tuple, h->now));
    expect(h, h_connect(h), 0); /* RFC 6191: timestamps tell old segments apart */
    out(h, "S 0:0(0) <...>");
    assert_true((int32_t)(h_flow(h)->iss - old_iss) > 0);
    state(h, TCP_STATE_SYN_SENT);
    h_free(h);
}

static void close_with_unread_data(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "P. 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 101");
    expect(h, h_close(h), 0);
    out(h, "R. 1:1(0) ack 101 win *");
    assert_int_equal(h->cause, TCP_CAUSE_RST_UNREAD_DATA);
    state(h, H_GONE);
    assert_int_equal(tcp_get_counters(h->t)->out_rsts, 1);
    h_free(h);
}

static void data_after_close(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, ". 1:1(0) ack 2 win 65535");
    in(h, "P. 1:101(100) ack 2 win 65535");
    out(h, "R* 2:2(0)*");
    assert_int_equal(h->cause, TCP_CAUSE_RST_DATA_AFTER_CLOSE);
    state(h, H_GONE);
    h_free(h);
}

static void data_after_close_fin_wait1(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, "P. 1:101(100) ack 1 win 65535");
    out(h, "R* *:*(0)*");
    state(h, H_GONE);
    quiet(h, 1000);
    h_free(h);
}

static void abort_sends_rst(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_abort(h), 0);
    out(h, "R. 1:1(0) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RST_ABORT);
    state(h, H_GONE);
    h_free(h);
}

static void abort_drops_queued_data(void **st)
{
    struct harness *h = established();

    (void)st;
    h->hold = true;
    h_send(h, 1000);
    h_abort(h);
    h->hold = false;
    flush(h);
    out(h, "R. *:*(0) ack 1");
    state(h, H_GONE);
    quiet(h, 1000);
    h_free(h);
}

static void close_in_syn_sent(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    expect(h, h_close(h), 0);
    state(h, H_GONE);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    out(h, "R 1:1(0) win 0");
    h_free(h);
}

static void fin_wait2_orphan(void **st)
{
    struct harness *h = established();
    struct tcp_totals totals;

    (void)st;
    h->cfg.tcp_fin_timeout = 20;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, ". 1:1(0) ack 2 win 65535");
    state(h, TCP_STATE_FIN_WAIT2);
    quiet(h, 19900);
    state(h, TCP_STATE_FIN_WAIT2);
    pass_ms(h, 200);
    skip_out(h);
    state(h, H_GONE);
    tcp_get_totals(h->t, &totals);
    assert_int_equal(totals.orphans, 0);
    h_free(h);
}

static void fin_wait2_owned_then_orphan(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_shutdown(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, ". 1:1(0) ack 2 win 65535");
    quiet(h, 100000);
    expect(h, h_close(h), 0);
    quiet(h, 59000);
    state(h, TCP_STATE_FIN_WAIT2);
    pass_ms(h, 1100);
    skip_out(h);
    state(h, H_GONE);
    h_free(h);
}

static void linger2_negative(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_LINGER2, -1), 0);
    expect(h, h_shutdown(h), 0);
    out(h, "F. 1:1(0) ack 1");
    in(h, ". 1:1(0) ack 2 win 65535");
    expect(h, h_close(h), 0); /* no FIN-WAIT-2 for orphans: RST */
    out(h, "R* 2:2(0)*");
    state(h, H_GONE);
    assert_int_equal(tcp_get_counters(h->t)->abort_on_linger, 1);
    h_free(h);
}

static void orphan_limit(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_listen(h, 16);
    for (int k = 0; k < 3; k++) {
        flow(h, k);
        h_passive_on(h, "mss 1460", 65535);
    }
    h->cfg.tcp_max_orphans = 1;
    flow(h, 0);
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    state(h, TCP_STATE_FIN_WAIT1);
    flow(h, 1);
    expect(h, h_close(h), 0);
    flow(h, 2);
    expect(h, h_close(h), 0);
    state(h, H_GONE);
    assert_true(h_causes(h, TCP_CAUSE_RST_ORPHAN_LIMIT) >= 1);
    assert_true(tcp_get_counters(h->t)->abort_on_memory >= 1);
    skip_out(h);
    pass_ms(h, 400000);
    skip_out(h);
    h_free(h);
}

/* tcp_orphan_retries 0 means 8: an orphan whose FIN nobody acknowledges goes away by itself. */
static void orphan_given_up(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 1");
    pass_ms(h, 300000);
    assert_true(h_pending(h) >= 7 && h_pending(h) <= 10);
    skip_out(h);
    state(h, H_GONE);
    h_free(h);
}

static void shutdown_read(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, tcp_shutdown_read(h->t, h_flow(h)->id, h->now), 0);
    in(h, "P. 1:1001(1000) ack 1 win 65535");
    out(h, ". 1:1(0) ack 1001");
    state(h, TCP_STATE_ESTABLISHED);
    expect(h, h_recv(h, 100), 0);
    h_free(h);
}

static void reset_by_peer(void **st)
{
    struct harness *h = established();
    uint8_t buf[4] = {0};

    (void)st;
    in(h, "P. 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 101");
    in(h, "R. 101:101(0) ack 1 win 0");
    state(h, TCP_STATE_CLOSE);
    event(h, TCP_EVENT_ERROR | TCP_EVENT_CLOSED);
    assert_int_equal(h_flow(h)->error, ECONNRESET);
    assert_int_equal(h_info(h).error, ECONNRESET);
    assert_true(tcp_send(h->t, h_flow(h)->id, buf, 4, 0, h->now) < 0);
    expect(h, tcp_send(h->t, h_flow(h)->id, buf, 4, 0, h->now), -EPIPE);
    expect(h, h_close(h), 0);
    state(h, H_GONE);
    assert_int_equal(tcp_get_counters(h->t)->estab_resets, 1);
    h_free(h);
}

static void reset_in_close_wait_is_epipe(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "F. 1:1(0) ack 1 win 65535");
    out(h, ". 1:1(0) ack 2");
    in(h, "R. 2:2(0) ack 1 win 0");
    event(h, TCP_EVENT_ERROR);
    assert_int_equal(h_flow(h)->error, EPIPE);
    h_close(h);
    h_free(h);
}

static void last_ack_lost(void **st)
{
    struct harness *h = established();

    (void)st;
    in(h, "F. 1:1(0) ack 1 win 65535");
    out(h, ". 1:1(0) ack 2");
    expect(h, h_close(h), 0);
    out(h, "F. 1:1(0) ack 2");
    out_in(h, 200, "F. 1:1(0) ack 2");
    in(h, "F. 1:1(0) ack 1 win 65535"); /* our ACK was lost */
    skip_out(h);
    state(h, TCP_STATE_LAST_ACK);
    in(h, ". 2:2(0) ack 2 win 65535");
    state(h, H_GONE);
    h_free(h);
}

static void many_opens_and_closes(void **st)
{
    struct harness *h = h_new_args(&(struct h_args){.max_conns = 4});
    struct tcp_totals totals;

    (void)st;
    h->cfg.tcp_timewait_len = 1;
    h_listen(h, 16);
    for (int k = 0; k < 300; k++) {
        flow(h, k % H_FLOWS);
        h_passive_on(h, "mss 1460", 65535);
        expect(h, h_close(h), 0);
        skip_out(h);
        in(h, "F. 1:1(0) ack 2 win 65535");
        skip_out(h);
        pass_ms(h, 1001);
        state(h, H_GONE);
    }
    tcp_get_totals(h->t, &totals);
    assert_int_equal(totals.conns + totals.half_open + totals.time_wait + totals.orphans, 0);
    assert_int_equal(chunk_pool_used_bytes(h->pool), 0);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(active_close),
        cmocka_unit_test(passive_close),
        cmocka_unit_test(half_close_ours),
        cmocka_unit_test(half_close_theirs),
        cmocka_unit_test(fin_with_last_data),
        cmocka_unit_test(fin_retransmitted),
        cmocka_unit_test(simultaneous_close),
        cmocka_unit_test(fin_acks_fin),
        cmocka_unit_test(fin_behind_hole),
        cmocka_unit_test(data_behind_fin),
        cmocka_unit_test(time_wait_fin_restarts),
        cmocka_unit_test(time_wait_newer_syn),
        cmocka_unit_test(time_wait_old_syn),
        cmocka_unit_test(time_wait_rst),
        cmocka_unit_test(time_wait_rst_rfc1337),
        cmocka_unit_test(time_wait_configured),
        cmocka_unit_test(time_wait_limit),
        cmocka_unit_test(time_wait_reuse_by_connect),
        cmocka_unit_test(close_with_unread_data),
        cmocka_unit_test(data_after_close),
        cmocka_unit_test(data_after_close_fin_wait1),
        cmocka_unit_test(abort_sends_rst),
        cmocka_unit_test(abort_drops_queued_data),
        cmocka_unit_test(close_in_syn_sent),
        cmocka_unit_test(fin_wait2_orphan),
        cmocka_unit_test(fin_wait2_owned_then_orphan),
        cmocka_unit_test(linger2_negative),
        cmocka_unit_test(orphan_limit),
        cmocka_unit_test(orphan_given_up),
        cmocka_unit_test(shutdown_read),
        cmocka_unit_test(reset_by_peer),
        cmocka_unit_test(reset_in_close_wait_is_epipe),
        cmocka_unit_test(last_ack_lost),
        cmocka_unit_test(many_opens_and_closes),
    };

    return cmocka_run_group_tests_name("tcp_trace_close", tests, NULL, NULL);
}
