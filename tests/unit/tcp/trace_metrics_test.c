/*
 * tests/unit/tcp/trace_metrics_test.c: what a closed connection leaves for the next one to the same destination;
 * pacing rates; what a reused TIME-WAIT pair inherits.
 */
#include <stdio.h>
#include "harness.h"

static bool first_metrics(const struct harness *h, struct tcp_metrics *ret)
{
    uint32_t at = 0;

    return tcp_metrics_next(h->t, &at, h->now, ret);
}

/* Opens by connect with an RTT of `rtt` ms, closes in good order. */
static void open_and_close(struct harness *h, int k, uint64_t rtt)
{
    flow(h, k);
    assert_int_equal(h_connect(h), 0);
    skip_out(h);
    pass_ms(h, rtt);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    out(h, ". 1:1(0) ack 1");
    h_close(h);
    out(h, "F. 1:1(0) ack 1");
    in(h, "F. 1:1(0) ack 2 win 65535");
    out(h, ". 2:2(0) ack 2");
}

static void rtt_is_kept(void **st)
{
    struct harness *h = h_new();
    struct tcp_metrics m;

    (void)st;
    h->cfg.tcp_timestamps = 0;
    assert_false(first_metrics(h, &m));
    open_and_close(h, 0, 400);
    assert_true(first_metrics(h, &m));
    assert_true(ip_addr_eq(&m.remote, &h_flow(h)->tuple.remote));
    assert_true(m.rtt_us >= 200000 && m.rtt_us <= 400000);
    assert_true(m.cwnd >= 10);
    assert_int_equal(m.ssthresh, 0);
    /* The next one's RTO is the remembered RTT's, though its SYN was fast: crtt + max(2 crtt, rto_min). */
    flow(h, 1);
    assert_int_equal(h_connect(h), 0);
    skip_out(h);
    pass_ms(h, 1);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    skip_out(h);
    assert_int_equal(h_info(h).rto, 3 * m.rtt_us);
    assert_true(h_info(h).rtt < 5000);
    h_free(h);
}

static void grows_at_once_and_sinks_slowly(void **st)
{
    struct harness *h = h_new();
    struct tcp_metrics a, b, c;

    (void)st;
    h->cfg.tcp_timestamps = 0;
    open_and_close(h, 0, 100);
    assert_true(first_metrics(h, &a));
    open_and_close(h, 1, 400);
    assert_true(first_metrics(h, &b));
    assert_true(b.rtt_us > 2 * a.rtt_us);
    open_and_close(h, 2, 100);
    assert_true(first_metrics(h, &c));
    assert_true(c.rtt_us < b.rtt_us && c.rtt_us > b.rtt_us * 3 / 4);
    h_free(h);
}

static void bounded_flushed_outdated(void **st)
{
    struct harness *h = h_new();
    struct tcp_metrics m;
    uint32_t at = 0, n = 0;

    (void)st;
    for (int k = 0; k < H_FLOWS; k++)
        h->flows[k].tuple.remote.b[3] = (uint8_t)(100 + k);
    for (int k = 0; k < 20; k++)
        open_and_close(h, k, 10);
    while (tcp_metrics_next(h->t, &at, h->now, &m))
        n++;
    assert_true(n >= 10 && n <= 20);
    assert_int_equal(tcp_metrics_flush(h->t, &h_flow(h)->tuple.remote), 1);
    assert_int_equal(tcp_metrics_flush(h->t, NULL), n - 1);
    assert_false(first_metrics(h, &m));
    open_and_close(h, 21, 10);
    assert_true(first_metrics(h, &m));
    pass_ms(h, 3601000); /* an hour */
    skip_out(h);
    assert_false(first_metrics(h, &m));
    h_free(h);
}

static void not_saved_when_told_so(void **st)
{
    struct harness *h = h_new();
    struct tcp_metrics m;

    (void)st;
    h->cfg.tcp_no_metrics_save = 1;
    open_and_close(h, 0, 10);
    assert_false(first_metrics(h, &m));
    h_free(h);
}

/* mss * cwnd / srtt, 200 % in slow start; in super-frame sizes only, no gate. */
static void pacing_rate_is_no_gate(void **st)
{
    struct harness *h = h_new();
    struct tcp_info i;

    (void)st;
    h->cfg.tcp_timestamps = 0;
    assert_int_equal(h_connect(h), 0);
    skip_out(h);
    pass_ms(h, 100);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    skip_out(h);
    i = h_info(h);
    assert_int_equal(i.pacing_rate, 2ull * 1460 * 10 * 10);
    assert_true(h_send(h, 14600) == 14600);
    skip_out(h); /* ten segments at once */
    assert_int_equal(h_info(h).bytes_sent, 14600);
    assert_int_equal(h_info(h).unacked, 10);
    h_free(h);
}

/* SO_MAX_PACING_RATE: after the first ten segments, not faster. */
static void max_pacing_rate_is_a_gate(void **st)
{
    struct harness *h = h_passive("mss 1460", 65535);

    (void)st;
    expect(h, tcp_set_max_pacing_rate(h->t, h_flow(h)->id, 146000), 0); /* 100 segments/s */
    expect(h, h_send(h, 14600), 14600);
    skip_out(h);
    in(h, ". 1:1(0) ack 14601 win 65535");
    expect(h, h_send(h, 29200), 29200);
    skip_out(h);
    pass_ms(h, 50);
    skip_out(h);
    assert_in_range(h_info(h).bytes_sent - 14600, 4 * 1460, 8 * 1460);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_PACING);
    h_free(h);
}

/* RFC 6191: the new SYN echoes the old connection's last timestamp (Linux does). */
static void reused_pair_echoes_the_last_timestamp(void **st)
{
    struct harness *h = h_new();

    (void)st;
    assert_int_equal(h_connect(h), 0);
    skip_out(h);
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 7000 ecr 1000000>");
    skip_out(h);
    h_close(h);
    skip_out(h);
    in(h, "F. 1:1(0) ack 2 win 65535 <nop,nop,TS val 7001 ecr 1000000>");
    skip_out(h);
    state(h, TCP_STATE_TIME_WAIT);
    pass_ms(h, 3000);
    assert_int_equal(h_connect(h), 0);
    out(h, "S 0:0(0) win * <mss 1460,sackOK,TS val 1003000 ecr 7001,*>");
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rtt_is_kept),
        cmocka_unit_test(grows_at_once_and_sinks_slowly),
        cmocka_unit_test(bounded_flushed_outdated),
        cmocka_unit_test(not_saved_when_told_so),
        cmocka_unit_test(pacing_rate_is_no_gate),
        cmocka_unit_test(max_pacing_rate_is_a_gate),
        cmocka_unit_test(reused_pair_echoes_the_last_timestamp),
    };

    return cmocka_run_group_tests_name("trace_metrics", tests, NULL, NULL);
}
