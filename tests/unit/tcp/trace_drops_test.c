/*
 * tests/unit/tcp/trace_drops_test.c: drop reasons that no other trace provokes, each by name.
 */
#include <stdio.h>
#include "harness.h"

static void opened(struct harness *h, int k)
{
    flow(h, k);
    in(h, "S 0:0(0) win 65535 <mss 1000>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
}

/* A SYN-ACK whose echo is of a time when no SYN had left. */
static void echo_of_what_was_never_sent(void **st)
{
    struct harness *h = h_new();

    (void)st;
    assert_int_equal(h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK,TS val 5 ecr 99>");
    out(h, "R 1:1(0)*");
    assert_int_equal(h->cause, TCP_CAUSE_RST_BAD_ACK);
    assert_int_equal(h_drops(h, TCP_DROP_TSECR), 1);
    state(h, TCP_STATE_SYN_SENT);
    h_free(h);
}

/* As many connections as there may be: a SYN more is refused. */
static void connection_limit(void **st)
{
    struct h_args args = {.max_conns = 2};
    struct harness *h = h_new_args(&args);

    (void)st;
    h_listen(h, 10);
    opened(h, 0);
    opened(h, 1);
    flow(h, 2);
    in(h, "S 0:0(0) win 65535 <mss 1000>");
    quiet(h, 100);
    assert_int_equal(h_drops(h, TCP_DROP_CONN_LIMIT), 1);
    h_free(h);
}

/* An ICMP error about a connection that isn't there. */
static void icmp_about_nobody(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h_icmp(h, 1, EHOSTUNREACH, false, 0);
    assert_int_equal(h_drops(h, TCP_DROP_ICMP_NO_SOCKET), 1);
    h_free(h);
}

/* Without cookies the last quarter of the SYN queue is kept for peers that are known (tcp_conn_request). */
static void last_quarter_is_for_known_peers(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_syncookies = 0;
    h->cfg.tcp_max_syn_backlog = 8;
    h_listen(h, 50);
    for (int k = 0; k < 8; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 <mss 1000>");
        skip_out(h);
    }
    assert_int_equal(h_drops(h, TCP_DROP_PEER_NOT_PROVEN), 1);
    h_free(h);
}

/* No chunk is left: what comes out of order is forgotten. Small segments, which the stack hands over as bytes. */
static void no_memory(void **st)
{
    struct h_args args = {.arena_bytes = 4 * CHUNK_BIG_BYTES};
    struct harness *h = h_new_args(&args);

    (void)st;
    h_listen(h, 10);
    opened(h, 0);
    opened(h, 1);
    flow(h, 0);
    h->cfg.tcp_wmem_max = 1 << 20;
    assert_int_equal(h_opt(h, TCP_OPT_SNDBUF, 1 << 19), 0);
    while (h_send(h, 4096) > 0)
        skip_out(h);
    skip_out(h);
    flow(h, 1);
    in(h, "P. 1001:1401(400) ack 1 win 65535");
    skip_out(h);
    assert_int_equal(h_drops(h, TCP_DROP_NO_MEMORY), 1);
    in(h, "P. 1:401(400) ack 1 win 65535");
    skip_out(h);
    h_free(h);
}

/* The receive buffer is full of small pieces: what goes beyond is not taken. */
static void receive_buffer_full(void **st)
{
    struct harness *h = h_new();
    char text[80];

    (void)st;
    h_listen(h, 10);
    opened(h, 0);
    assert_int_equal(h_opt(h, TCP_OPT_RCVBUF, 2304), 0);
    for (unsigned i = 0; i < 60 && !h_drops(h, TCP_DROP_RCVBUF); i++) {
        snprintf(text, sizeof text, "P. %u:%u(1000) ack 1 win 65535", i * 1000 + 1, i * 1000 + 1001);
        in(h, text);
        skip_out(h);
    }
    assert_true(h_drops(h, TCP_DROP_RCVBUF) > 0);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_of_what_was_never_sent),     cmocka_unit_test(connection_limit),
        cmocka_unit_test(icmp_about_nobody),               cmocka_unit_test(last_quarter_is_for_known_peers),
        cmocka_unit_test(no_memory),                       cmocka_unit_test(receive_buffer_full),
    };

    return cmocka_run_group_tests_name("trace_drops", tests, NULL, NULL);
}
