/*
 * Path-MTU probes (PLPMTUD, RFC 4821, RFC 8899) and what the stack tells of paths, as traces. What a peer and the wire
 * see of success, loss and black holes is in tests/packetdrill/scripts/pmtu; here is what scripts can't make: a full
 * device, ends of records, windows without room, tail loss probes, timeouts while one is out.
 */
#include "harness.h"

#include <stdio.h>

#define MSS   1024 /* tcp_base_mss */
#define PROBE 1242 /* half way to 1460 */

/* Accepted, probing always, 20 segments of window; the mss is what surely passes (the window grew). */
static struct harness *probing_of(unsigned peer_mss, unsigned wnd)
{
    struct tcp_config cfg;
    struct h_args args = {.config = &cfg};
    struct harness *h;
    char text[128];

    tcp_config_defaults(&cfg);
    cfg.tcp_timestamps = 0;
    cfg.tcp_mtu_probing = 2;
    cfg.tcp_initcwnd = 20;
    cfg.tcp_min_tso_segs = 1;
    h = h_new_args(&args);
    h_listen(h, 10);
    snprintf(text, sizeof text, "S 0:0(0) win %u <mss %u,nop,nop,sackOK>", wnd - 1000, peer_mss);
    in(h, text);
    skip_out(h);
    snprintf(text, sizeof text, ". 1:1(0) ack 1 win %u", wnd - 1000);
    in(h, text);
    h_accept(h);
    snprintf(text, sizeof text, ". 1:1(0) ack 1 win %u", wnd);
    in(h, text);
    skip_out(h);
    expect(h, h_opt(h, TCP_OPT_NODELAY, 1), 0);
    assert_int_equal(h_info(h).snd_mss, MSS);
    return h;
}

static struct harness *probing(void)
{
    return probing_of(1460, 60000);
}

/* A probe of the first bytes, and `n` bytes in all, left. */
static void send_probe(struct harness *h, unsigned n)
{
    expect(h, h_send(h, n), n);
    out(h, ". 1:1243(1242) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_MTU_PROBE);
    assert_int_equal(h_info(h).snd_cwnd, 19);
    skip_out(h);
}

static const struct tcp_counters *count(const struct harness *h)
{
    return tcp_get_counters(h->t);
}

static void acked(void **st)
{
    struct harness *h = probing();

    (void)st;
    send_probe(h, 6000);
    in(h, ". 1:1(0) ack 1243 win 60000");
    assert_int_equal(h_info(h).snd_mss, PROBE);
    assert_int_equal(h_info(h).pmtu, 1500);
    assert_int_equal(h_info(h).snd_cwnd, 19 * (MSS + 40) / (PROBE + 40));
    assert_int_equal(count(h)->mtup_success, 1);
    in(h, ". 1:1(0) ack 6001 win 60000");
    h_free(h);
}

/* A probe needs enough behind it that its loss is noticed: bytes, and window. */
static void too_little_to_send(void **st)
{
    struct harness *h = probing();

    (void)st;
    expect(h, h_send(h, PROBE + 4 * MSS - 1), PROBE + 4 * MSS - 1);
    out(h, ". 1:1025(1024) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_DATA);
    skip_out(h);
    h_free(h);
    h = probing_of(1460, PROBE + 4 * MSS - 1);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1:101(100) ack 1");
    expect(h, h_send(h, 8000), 8000);
    out(h, ". 101:1125(1024) ack 1"); /* nor is it waited for */
    skip_out(h);
    h_abort(h);
    skip_out(h);
    h_free(h);
}

/* No SACK blocks: they would take room from the segments, and the sizes would mean nothing. */
static void not_while_data_is_missing(void **st)
{
    struct harness *h = probing();

    (void)st;
    in(h, ". 101:201(100) ack 1 win 60000");
    skip_out(h);
    expect(h, h_send(h, 6000), 6000);
    out(h, ". 1:1013(1012) ack 1 win * <nop,nop,sack 101:201>");
    skip_out(h);
    h_free(h);
}

/* The window is in use: the probe, and what is behind it, wait until ACKs have made room. */
static void waits_for_room(void **st)
{
    struct harness *h = probing();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_SNDBUF, 200000), 0);
    for (unsigned i = 0; i < 19; i++) /* each too little for a probe */
        expect(h, h_send(h, MSS), MSS);
    assert_int_equal(h_info(h).unacked, 19);
    skip_out(h);
    expect(h, h_send(h, 8000), 8000);
    assert_int_equal(h_pending(h), 0);
    assert_int_equal(h_info(h).limit, TCP_LIMIT_MTU_PROBE);
    in(h, ". 1:1(0) ack 2049 win 60000");
    out(h, ". 19457:20699(1242) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_MTU_PROBE);
    skip_out(h);
    in(h, ". 1:1(0) ack 27457 win 60000");
    skip_out(h);
    h_free(h);
}

/* One probe takes bytes of several cells, but never of two records. */
static void cells_and_records(void **st)
{
    struct harness *h = probing();

    (void)st;
    h->hold = true;
    expect(h, h_send_flags(h, 100, TCP_SEND_EOR), 100);
    expect(h, h_send(h, 6000), 6000);
    h->hold = false;
    flush(h);
    out(h, "P. 1:101(100) ack 1"); /* the record's end lies within a probe: none */
    assert_int_equal(h->cause, TCP_CAUSE_DATA);
    out(h, ". 101:1343(1242) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_MTU_PROBE);
    skip_out(h);
    in(h, ". 1:1(0) ack 6101 win 60000");
    assert_int_equal(h_info(h).snd_mss, PROBE);
    h_free(h);
}

/* Our own side of the path takes 1500 bytes: larger probes would never leave, whatever the peer's MSS says. */
static void not_beyond_our_link(void **st)
{
    struct harness *h = probing_of(8960, 60000);

    (void)st;
    send_probe(h, 6000);
    h_abort(h);
    skip_out(h);
    flow(h, 1);
    in(h, "S 0:0(0) win 60000 <mss 8960,nop,nop,sackOK>");
    skip_out(h);
    in(h, ". 1:1(0) ack 1 win 60000"); /* the window never grows: the search was never limited by the path's MTU */
    h_accept(h);
    expect(h, h_send(h, 8000), 8000);
    out(h, ". 1:1243(1242) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_MTU_PROBE);
    h_abort(h);
    skip_out(h);
    h_free(h);
}

/* The device was full: the probe was never sent. */
static void refused_by_the_device(void **st)
{
    struct harness *h = probing();
    struct tcp_out o;

    (void)st;
    h->hold = true;
    expect(h, h_send(h, 6000), 6000);
    assert_true(tcp_next_ready(h->t, &o));
    assert_true(tcp_output(h->t, o.id, h->now, &o));
    assert_int_equal(o.cause, TCP_CAUSE_MTU_PROBE);
    tcp_tx_refused(h->t, &o, h->now);
    assert_int_equal(h_info(h).snd_cwnd, 20);
    assert_int_equal(h_info(h).unacked, 0);
    assert_null(tcp_check_all(h->t));
    h->hold = false;
    in(h, ". 1:1(0) ack 1 win 50000"); /* tried again */
    out(h, ". 1:1243(1242) ack 1");
    skip_out(h);
    in(h, ". 1:1(0) ack 6001 win 60000");
    assert_int_equal(count(h)->mtup_success, 1);
    h_free(h);
}

/* Not the probe alone, but it is the first: it failed, all of it goes again, and nothing was congested. */
static void lost_with_another(void **st)
{
    struct harness *h = probing();

    (void)st;
    send_probe(h, 6000);
    in(h, ". 1:1(0) ack 1 win 60000 <nop,nop,sack 2049:6001>");
    out(h, ". 1:1025(1024) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_MTU);
    skip_out(h);
    assert_int_equal(count(h)->mtup_fail, 1);
    assert_int_equal(h_info(h).snd_cwnd, 20);
    assert_int_equal(h_info(h).retrans, 2); /* what is left of the probe and the one behind it fit one segment */
    in(h, ". 1:1(0) ack 6001 win 60000");
    assert_int_equal(h_info(h).snd_mss, MSS);
    h_free(h);
}

/* The path became larger, the connection has not followed yet: a router's word below the probe, above mss. */
static void too_big_for_the_probe_alone(void **st)
{
    struct tcp_config cfg;
    struct h_args args = {.config = &cfg};
    struct harness *h;

    (void)st;
    tcp_config_defaults(&cfg);
    cfg.tcp_timestamps = 0;
    cfg.tcp_mtu_probing = 2;
    cfg.tcp_initcwnd = 20;
    h = h_new_args(&args);
    h->path.mtu = 1000;
    h_listen(h, 10);
    h_passive_on(h, "mss 1460,nop,nop,sackOK", 60000);
    h->hold = true;
    expect(h, h_send(h, 6000), 6000);
    tcp_path_mtu(h->t, h_id(h), 1500);
    h->hold = false;
    flush(h);
    out(h, ". 1:1243(1242) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_MTU_PROBE);
    skip_out(h);
    h_icmp(h, 1, EMSGSIZE, false, 1100);
    assert_int_equal(h_info(h).snd_cwnd, 20);
    assert_int_equal(h_info(h).snd_mss, 960);
    assert_int_equal(count(h)->mtup_fail, 1);
    out(h, "* 1:961(960) ack 1 win *");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_MTU);
    skip_out(h);
    in(h, ". 1:1(0) ack 6001 win 60000");
    skip_out(h);
    h_free(h);
}

/* Something behind the probe goes again first: nothing is known of the probe, though it is acknowledged later. */
static void inconclusive(void **st)
{
    struct harness *h = probing();

    (void)st;
    expect(h, h_send(h, PROBE + 4 * MSS - 1), PROBE + 4 * MSS - 1); /* too little for a probe */
    out(h, ". 1:1025(1024) ack 1");
    skip_out(h);
    expect(h, h_send(h, 6000), 6000);
    out(h, ". 5338:6580(1242) ack 1");
    skip_out(h);
    in(h, ". 1:1(0) ack 1025 win 60000 <nop,nop,sack 2049:5338>");
    out(h, ". 1025:2049(1024) ack 1");
    skip_out(h);
    in(h, ". 1:1(0) ack 11338 win 60000");
    assert_int_equal(count(h)->mtup_success + count(h)->mtup_fail, 0);
    assert_int_equal(h_info(h).snd_mss, MSS);
    h_free(h);
}

/* A tail loss probe sends again: the path-MTU probe is inconclusive. */
static void tail_loss_probe(void **st)
{
    struct harness *h = probing();

    (void)st;
    send_probe(h, 6000);
    while (count(h)->loss_probes == 0)
        pass_ms(h, 1);
    skip_out(h);
    in(h, ". 1:1(0) ack 6001 win 60000");
    assert_int_equal(count(h)->mtup_success, 0);
    assert_int_equal(h_info(h).snd_mss, MSS);
    h_free(h);
}

/* The RTO: all goes again in segments of mss; cwnd is the timeout's business, and F-RTO keeps out. */
static void timeout_while_out(void **st)
{
    struct harness *h = probing();

    (void)st;
    h->cfg.tcp_early_retrans = 0;
    send_probe(h, 30000);
    while (h_info(h).ca_state != TCP_CA_LOSS)
        pass_ms(h, 1);
    out(h, ". 1:1025(1024) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RETRANS_MTU);
    in(h, ". 1:1(0) ack 1025 win 60000");
    out(h, ". 1025:2049(1024) ack 1"); /* F-RTO would send new data */
    skip_out(h);
    in(h, ". 1:1(0) ack 19457 win 60000");
    skip_out(h);
    assert_int_equal(count(h)->mtup_success, 0);
    assert_int_equal(count(h)->mtup_fail, 0);
    h_free(h);
}

/* The floor: neither timeouts nor configuration make segments smaller than tcp_mtu_probe_floor. */
static void black_hole_floor(void **st)
{
    struct harness *h = probing();

    (void)st;
    h->cfg.tcp_early_retrans = 0;
    h->cfg.tcp_mtu_probe_floor = 300;
    expect(h, h_send(h, 3000), 3000);
    skip_out(h);
    for (unsigned i = 0; i < 8; i++) {
        pass_ms(h, 40000);
        skip_out(h);
    }
    assert_int_equal(h_info(h).snd_mss, 300);
    h_abort(h);
    skip_out(h);
    h_free(h);
}

/* ---- what the stack tells ---- */

static struct harness *plain(void)
{
    struct harness *h = h_passive("mss 1460", 60000);

    assert_int_equal(h_info(h).snd_mss, 1460);
    return h;
}

/* Smaller at once; larger when there is something to do for the connection: an ACK, or data. */
static void follows_the_path(void **st)
{
    struct harness *h = plain();

    (void)st;
    tcp_path_mtu(h->t, h_id(h), 1000);
    assert_int_equal(h_info(h).snd_mss, 960);
    tcp_path_mtu(h->t, h_id(h), 1400);
    assert_int_equal(h_info(h).snd_mss, 960);
    expect(h, h_send(h, 2000), 2000);
    out(h, ". 1:1361(1360) ack 1");
    out(h, "P. 1361:2001(640) ack 1");
    tcp_path_mtu(h->t, h_id(h), 1500);
    in(h, ". 1:1(0) ack 2001 win 60000");
    assert_int_equal(h_info(h).snd_mss, 1460);
    assert_int_equal(h_info(h).pmtu, 1500);
    h_free(h);
}

/* What ICMP said stays until the path is said to be larger again. */
static void icmp_lasts(void **st)
{
    struct harness *h = plain();

    (void)st;
    expect(h, h_send(h, 1460), 1460);
    skip_out(h);
    h_icmp(h, 1, EMSGSIZE, false, 1000);
    skip_out(h);
    in(h, ". 1:1(0) ack 1461 win 60000");
    expect(h, h_send(h, 100), 100);
    skip_out(h);
    assert_int_equal(h_info(h).snd_mss, 960);
    tcp_path_mtu(h->t, h_id(h), 1000);
    in(h, ". 1:1(0) ack 1561 win 60000");
    assert_int_equal(h_info(h).snd_mss, 960);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acked),
        cmocka_unit_test(too_little_to_send),
        cmocka_unit_test(not_while_data_is_missing),
        cmocka_unit_test(waits_for_room),
        cmocka_unit_test(cells_and_records),
        cmocka_unit_test(not_beyond_our_link),
        cmocka_unit_test(refused_by_the_device),
        cmocka_unit_test(lost_with_another),
        cmocka_unit_test(too_big_for_the_probe_alone),
        cmocka_unit_test(inconclusive),
        cmocka_unit_test(tail_loss_probe),
        cmocka_unit_test(timeout_while_out),
        cmocka_unit_test(black_hole_floor),
        cmocka_unit_test(follows_the_path),
        cmocka_unit_test(icmp_lasts),
    };

    return cmocka_run_group_tests_name("tcp_trace_pmtu", tests, NULL, NULL);
}
