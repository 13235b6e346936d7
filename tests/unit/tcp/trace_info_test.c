/*
 * What tcp_info says, where its meaning is easily missed: timeouts and the time in them, sizes with timestamps, the SYN
 * among bytes acknowledged, the window announced against the one left, round trips that the peer's delayed ACK made.
 */
#include "harness.h"

#include <stdio.h>

/* tcpi_total_rto counts each timeout, ..._recoveries the first of a row, ..._time the ms until it was over. */
static void timeouts_are_counted(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);

    (void)st;
    assert_int_equal(h_info(h).total_rto, 0);
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    pass_ms(h, 900); /* a tail loss probe, then the RTO twice, at 400 and 800 ms */
    skip_out(h);
    assert_int_equal(h_info(h).total_rto, 2);
    assert_int_equal(h_info(h).total_rto_recoveries, 1);
    assert_true(h_info(h).total_rto_time > 400); /* not over, but counted */
    in(h, ". 1:1(0) ack 1001 win 65535");
    assert_true(h_info(h).total_rto_time > 400 && h_info(h).total_rto_time <= 500);
    pass_ms(h, 1000);
    assert_true(h_info(h).total_rto_time <= 500);
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    pass_ms(h, 1200); /* backed off still (RFC 6298 section 5.7) */
    skip_out(h);
    assert_int_equal(h_info(h).total_rto_recoveries, 2);
    in(h, ". 1:1(0) ack 2001 win 65535");
    skip_out(h);
    h_free(h);
}

/* SYNs sent again count too, and SYN-ACKs before there was a connection. */
static void handshake_timeouts_are_counted(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    out_in(h, 1000, "S 0:0(0) <...>");
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1000>");
    skip_out(h);
    assert_int_equal(h_info(h).total_rto, 1);
    assert_int_equal(h_info(h).total_rto_recoveries, 1);
    assert_int_equal(h_info(h).total_rto_time, 0); /* from the timeout on */
    h_free(h);

    h = h_new();
    h_listen(h, 4);
    in(h, "S 0:0(0) win 65535 <mss 1000>");
    out(h, "S. 0:0(0) ack 1 <...>");
    out_in(h, 1000, "S. 0:0(0) ack 1 <...>");
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    assert_int_equal(h_info(h).total_rto, 1);
    assert_int_equal(h_info(h).total_rto_recoveries, 1);
    assert_int_equal(h_info(h).total_rto_time, 1000);
    h_free(h);
}

/* Once both send timestamps, what a segment of the peer's holds is less by them (tp->advmss). */
static void advmss_is_less_timestamps(void **st)
{
    struct harness *h = h_passive("mss 1460,sackOK,TS val 100 ecr 0", 65535);

    (void)st;
    assert_int_equal(h_info(h).advmss, 1448);
    h_free(h);
    h = h_passive("mss 1460,nop,nop,sackOK", 65535);
    assert_int_equal(h_info(h).advmss, 1460);
    h_free(h);
    h = h_active("mss 1460,sackOK,TS val 100", 65535);
    assert_int_equal(h_info(h).advmss, 1448);
    h_free(h);
}

/* Linux counts the SYN of an active open, and not the SYN-ACK of a passive one. */
static void bytes_acked_and_the_syn(void **st)
{
    struct harness *h = h_active("mss 1460", 65535);

    (void)st;
    assert_int_equal(h_info(h).bytes_acked, 1);
    h_free(h);
    h = h_passive("mss 1460", 65535);
    assert_int_equal(h_info(h).bytes_acked, 0);
    expect(h, h_send(h, 10), 10);
    skip_out(h);
    in(h, ". 1:1(0) ack 11 win 65535");
    assert_int_equal(h_info(h).bytes_acked, 10);
    h_free(h);
}

/* tcpi_rcv_wnd is what was announced last; what is left of it is taut's own rcv_open. */
static void window_announced_and_left(void **st)
{
    struct harness *h = h_passive("mss 1000", 65535);
    uint32_t wnd = h_info(h).rcv_wnd;

    (void)st;
    h->hold = true;
    in(h, ". 1:1001(1000) ack 1 win 65535");
    assert_int_equal(h_info(h).rcv_wnd, wnd);
    assert_int_equal(h_info(h).rcv_open, wnd - 1000);
    h->hold = false;
    flush(h);
    skip_out(h);
    h_free(h);
}

/*
 * A lone small segment may wait for the peer's delayed ACK: such a round trip does not become the shortest when the old
 * one is forgotten after five minutes; a full-sized one does.
 */
static void delayed_ack_is_no_minimum(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);
    uint32_t min;

    (void)st;
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 1001 win 65535");
    skip_out(h);
    min = h_info(h).min_rtt;
    pass_ms(h, 301000);
    expect(h, h_send(h, 100), 100);
    skip_out(h);
    pass_ms(h, 50);
    in(h, ". 1:1(0) ack 1101 win 65535");
    skip_out(h);
    assert_int_equal(h_info(h).min_rtt, min);
    expect(h, h_send(h, 1000), 1000);
    skip_out(h);
    pass_ms(h, 20);
    in(h, ". 1:1(0) ack 2101 win 65535");
    skip_out(h);
    assert_in_range(h_info(h).min_rtt, 20000, 20100);
    h_free(h);
}

/* Before anything was delivered, and for what is sent first, the program is the limit (tcp_init_sock). */
static void first_flight_is_app_limited(void **st)
{
    struct harness *h = h_passive("mss 1000", 65535);

    (void)st;
    assert_true(h_info(h).delivery_rate_app_limited);
    for (unsigned round = 0; round < 2; round++) {
        expect(h, h_send(h, 15000), 15000); /* more than cwnd: not the program's fault */
        skip_out(h);
        pass_ms(h, 10);
        in(h, round ? ". 1:1(0) ack 20001 win 65535" : ". 1:1(0) ack 5001 win 65535");
        skip_out(h);
        assert_int_equal(h_info(h).delivery_rate_app_limited, round == 0);
        in(h, round ? ". 1:1(0) ack 30001 win 65535" : ". 1:1(0) ack 15001 win 65535");
        skip_out(h);
    }
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts_are_counted),      cmocka_unit_test(handshake_timeouts_are_counted),
        cmocka_unit_test(advmss_is_less_timestamps), cmocka_unit_test(bytes_acked_and_the_syn),
        cmocka_unit_test(first_flight_is_app_limited),
        cmocka_unit_test(window_announced_and_left), cmocka_unit_test(delayed_ack_is_no_minimum),
    };

    return cmocka_run_group_tests_name("trace_info", tests, NULL, NULL);
}
