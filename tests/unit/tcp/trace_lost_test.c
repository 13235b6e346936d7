/*
 * tests/unit/tcp/trace_lost_test.c: what a congestion controller is told of losses (cc_ops.pkt_lost): each descriptor when
 * it is marked, by whatever rule, and no loss that is not the path's. The controller is put in by hand, hence tcp_priv.h.
 */
#include "harness.h"
#include "tcp/tcp_priv.h"

static struct cc_lost told[16];
static uint32_t lost_then[16];
static unsigned n_told;

static void note_lost(void *state, struct cc_window *w, const struct cc_lost *lost, uint64_t now)
{
    (void)state;
    (void)now;
    assert_true(n_told < 16);
    lost_then[n_told] = w->lost;
    told[n_told++] = *lost;
}

static struct cc_ops listener;

static struct harness *connection(const char *options, int32_t recovery)
{
    struct harness *h = h_new();

    listener = *cc_find("reno");
    listener.pkt_lost = note_lost;
    n_told = 0;
    h->cfg.tcp_congestion_control = 0;
    h->cfg.tcp_early_retrans = 0;
    h->cfg.tcp_recovery = recovery;
    tcp_set_gso_max(h->t, 0);
    h_listen(h, 8);
    in(h, options);
    out(h, "S. 0:0(0) ack 1 <...>");
    pass_ms(h, 100);
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    tcp_conn_by_id(h->t, h_id(h))->cc = &listener;
    expect(h, h_send(h, 6000), 6000);
    skip_out(h);
    pass_ms(h, 100);
    return h;
}

static void end(struct harness *h)
{
    skip_out(h);
    tcp_conn_by_id(h->t, h_id(h))->cc = cc_find("reno");
    in(h, ". 1:1(0) ack 6001 win 65535");
    h_free(h);
}

/* The first two of six are lost. */
static void by_sack(int32_t recovery)
{
    struct harness *h = connection("S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK,nop,wscale 4>", recovery);

    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,sack 2001:6001>");
    skip_out(h);
    pass_ms(h, 40); /* the reordering window */
    assert_int_equal(n_told, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(told[i].segs, 1);
        assert_int_equal(told[i].tx_in_flight, i + 1); /* when it was sent, with itself */
        assert_int_equal(told[i].tx_lost, 0);
        assert_int_equal(lost_then[i], i + 1); /* counted already */
        assert_true(told[i].is_app_limited); /* the program had no more */
    }
    skip_out(h);
    pass_ms(h, 1000); /* the retransmissions are lost too: the timeout says so */
    assert_true(n_told >= 3);
    assert_int_equal(told[2].tx_lost, 2);
    end(h);
}

static void rack(void **st)
{
    (void)st;
    by_sack(1);
}

static void rfc6675(void **st)
{
    (void)st;
    by_sack(0);
}

static void newreno(void **st)
{
    struct harness *h = connection("S 0:0(0) win 65535 <mss 1000>", 1);

    (void)st;
    for (int i = 0; i < 3; i++)
        in(h, ". 1:1(0) ack 1 win 65535");
    skip_out(h);
    assert_int_equal(n_told, 1);
    assert_int_equal(told[0].tx_in_flight, 1);
    assert_int_equal(lost_then[0], 1);
    end(h);
}

/* Too large for the path: lost for a reason that is no congestion. */
static void not_the_paths_fault(void **st)
{
    struct harness *h = connection("S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK,nop,wscale 4>", 1);

    (void)st;
    h_icmp(h, 1, EMSGSIZE, false, 600);
    assert_int_equal(n_told, 0);
    assert_true(h_info(h).lost > 0);
    end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rack),
        cmocka_unit_test(rfc6675),
        cmocka_unit_test(newreno),
        cmocka_unit_test(not_the_paths_fault),
    };

    return cmocka_run_group_tests_name("trace_lost", tests, NULL, NULL);
}
