/*
 * BBRv3 over a link in virtual time: it finds the bandwidth, drains what Startup queued, probes, measures the
 * minimum RTT, and answers losses and marks; the test cases are those of the draft's appendix where one flow
 * shows them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cc/bbr.h"
#include "link.h"

static struct bbr_info info_of(const struct link *l)
{
    struct bbr_info info;

    bbr_info(l->state, &l->w, &info);
    return info;
}

/* Until it is in that state, at most `ms`. */
static void until(struct link *l, enum bbr_state state, uint64_t ms)
{
    for (; info_of(l).state != state; ms--) {
        if (ms == 0)
            fail_msg("never in %s, but %s", bbr_state_name(state), bbr_state_name(info_of(l).state));
        link_run(l, 1);
    }
}

static void assert_near(uint64_t value, uint64_t expected, uint64_t percent)
{
    if (value * 100 < expected * (100 - percent) || value * 100 > expected * (100 + percent))
        fail_msg("%llu is not within %llu %% of %llu", (unsigned long long)value, (unsigned long long)percent,
                 (unsigned long long)expected);
}

static const struct {
    uint64_t rate, rtt_ms;
} links[] = {{100, 50}, {1000, 40}, {10000, 20}, {20000, 100}, {80000, 5}};

static void finds_bandwidth_and_drains(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        uint64_t bdp = links[i].rate * links[i].rtt_ms / 1000;
        struct link *l = link_new("bbr", links[i].rate, links[i].rtt_ms, (uint32_t)(3 * bdp + 50), 0);

        until(l, BBR_DRAIN, 40 * links[i].rtt_ms);
        assert_near(info_of(l).max_bw / LINK_MSS, links[i].rate, 5);
        assert_true(link_queue(l) * 2 > bdp); /* Startup left a queue */
        until(l, BBR_CRUISE, 6 * links[i].rtt_ms + 20);
        assert_true(link_queue(l) <= bdp / 4 + 20);
        assert_near(l->w.pacing_rate / LINK_MSS, links[i].rate, 5);
        assert_in_range(info_of(l).min_rtt_us, links[i].rtt_ms * 1000, links[i].rtt_ms * 1100 + 10000);
        l->queue_sum = l->queue_samples = 0;
        assert_near(link_goodput(l, 10000), links[i].rate, 5);
        assert_true(l->queue_sum / l->queue_samples <= bdp / 4 + 20);
        assert_int_equal(l->drops, 0);
        assert_int_equal(l->timeouts, 0);
        link_free(l);
    }
}

static void startup_doubles(void **state)
{
    struct link *l = link_new("bbr", 100000, 100, 100000, 0);
    uint64_t last, now;

    (void)state;
    link_run(l, 250);
    last = l->delivered;
    for (int round = 0; round < 5; round++) {
        link_run(l, 100);
        now = l->delivered;
        assert_true(now * 10 >= last * 17); /* cumulative, so close to 2 */
        last = now;
    }
    assert_int_equal(info_of(l).state, BBR_STARTUP);
    link_free(l);
}

/* The whole cycle goes round within the Reno bound and 3 s. */
static void probes(void **state)
{
    struct link *l = link_new("bbr", 10000, 20, 400, 0);

    (void)state;
    until(l, BBR_CRUISE, 2000);
    for (int i = 0; i < 3; i++) {
        until(l, BBR_REFILL, 3100);
        assert_int_equal(info_of(l).pacing_gain, 256);
        until(l, BBR_UP, 200);
        assert_int_equal(info_of(l).pacing_gain, 320);
        assert_int_equal(info_of(l).cwnd_gain, 576);
        until(l, BBR_DOWN, 500);
        assert_int_equal(info_of(l).pacing_gain, 230);
        until(l, BBR_CRUISE, 1000);
    }
    link_free(l);
}

static void probe_rtt(void **state)
{
    struct link *l = link_new("bbr", 10000, 20, 400, 0);
    uint64_t began;

    (void)state;
    until(l, BBR_CRUISE, 2000);
    until(l, BBR_PROBE_RTT, 6000);
    began = l->now;
    link_run(l, 100);
    assert_in_range(l->w.in_flight, 90, 101); /* half of the BDP */
    assert_int_equal(link_queue(l), 0);
    until(l, BBR_CRUISE, 300);
    assert_in_range((l->now - began) / NSEC_PER_MSEC, 200, 270);
    assert_near(link_goodput(l, 1000), 10000, 5);
    link_free(l);
}

/* min_rtt is a minimum of 10 s: a longer path is found, a shorter one with the next ProbeRTT. */
static void the_path_changes(void **state)
{
    struct link *l = link_new("bbr", 10000, 20, 1000, 0);

    (void)state;
    link_run(l, 3000);
    l->delay_ns = 50 * NSEC_PER_MSEC;
    link_run(l, 22000);
    assert_in_range(info_of(l).min_rtt_us, 50000, 60000);
    assert_near(link_goodput(l, 4000), 10000, 7);
    l->delay_ns = 10 * NSEC_PER_MSEC;
    link_run(l,
             6000); /* the queue that the longer path's window now makes is there until the next ProbeRTT */
    assert_in_range(info_of(l).min_rtt_us, 10000, 12000);
    link_free(l);
}

static void bandwidth_changes(void **state)
{
    struct link *l = link_new("bbr", 1000, 40, 600, 0);

    (void)state;
    link_run(l, 5000);
    l->rate = 10000;
    link_run(l, 15000);
    assert_near(link_goodput(l, 5000), 10000, 7);
    l->rate = 1000;
    link_run(l, 20000); /* two cycles, slowed down by the queue and by ProbeRTT */
    assert_near(info_of(l).max_bw / LINK_MSS, 1000, 10);
    assert_near(link_goodput(l, 5000), 1000, 7);
    assert_int_equal(l->timeouts, 0);
    link_free(l);
}

/* A queue of a fifth of the BDP: the bound is found, and losses stay rare. */
static void shallow_queue(void **state)
{
    struct link *l = link_new("bbr", 10000, 50, 100, 0);
    uint64_t drops;

    (void)state;
    link_run(l, 10000);
    assert_true(info_of(l).inflight_longterm < 700);
    drops = l->drops;
    assert_near(link_goodput(l, 20000), 10000, 8);
    assert_true((l->drops - drops) * 100 < 200000 * 1); /* less than 1 % */
    link_free(l);
}

static void losses_end_startup(void **state)
{
    struct link *l = link_new("bbr", 10000, 50, 30, 0);

    (void)state;
    until(l, BBR_DRAIN, 2000);
    assert_true(info_of(l).full_bw_reached);
    assert_in_range(info_of(l).inflight_longterm, 300, 1000);
    link_free(l);
    l = link_new("bbr", 100000, 50, 10000, 0);
    link_run(l, 300);
    l->loss_ppm = 100000; /* long before bandwidth could tell */
    until(l, BBR_DRAIN, 250);
    assert_true(info_of(l).max_bw / LINK_MSS < 50000);
    link_free(l);
}

/* Loss while not probing cuts the short-term bounds once a round, by 0.7 at most; the next probe forgets
 * them. */
static void short_term_bounds(void **state)
{
    struct link *l = link_new("bbr", 10000, 50, 1000, 0);

    (void)state;
    until(l, BBR_CRUISE, 3000);
    link_run(l, 300);
    assert_int_equal(info_of(l).inflight_shortterm, UINT32_MAX);
    l->loss_ppm = 300000;
    link_run(l, 250);
    l->loss_ppm = 0;
    assert_true(info_of(l).bw < info_of(l).max_bw * 9 / 10);
    assert_true(info_of(l).bw > info_of(l).max_bw * 3 / 10);
    assert_true(info_of(l).inflight_shortterm < 500);
    assert_true(l->w.cwnd <= info_of(l).inflight_shortterm);
    until(l, BBR_REFILL, 4000);
    assert_int_equal(info_of(l).inflight_shortterm, UINT32_MAX);
    assert_int_equal(info_of(l).bw, info_of(l).max_bw);
    link_free(l);
}

static uint64_t goodput_with_loss(uint64_t rate, uint64_t rtt_ms, uint32_t ppm, uint32_t options,
                                  bool no_pkt_lost)
{
    struct link *l = link_new("bbr", rate, rtt_ms, (uint32_t)(rate * rtt_ms / 1000 + 50), options);
    uint64_t goodput;

    l->loss_ppm = ppm;
    l->no_pkt_lost = no_pkt_lost;
    link_run(l, 5000);
    goodput = link_goodput(l, 30000);
    link_free(l);
    return goodput;
}

static void random_loss(void **state)
{
    (void)state;
    for (size_t i = 1; i < 4; i++) {
        uint64_t rate = links[i].rate, rtt = links[i].rtt_ms;

        assert_true(goodput_with_loss(rate, rtt, 1000, 0, false) * 100 > rate * 85);
        assert_true(goodput_with_loss(rate, rtt, 1000, 0, true) * 100 > rate * 85);
        assert_true(goodput_with_loss(rate, rtt, 10000, 0, false) * 100 > rate * 60);
        assert_true(goodput_with_loss(rate, rtt, 10000, CC_OPT_BBR_NOISE, false) * 100 > rate * 90);
    }
    assert_true(goodput_with_loss(10000, 20, 10000, 0, false) < 9000); /* the draft itself is not so deaf */
}

/* Even so real congestion is seen: a queue of 8 segments does not lose more than 3 %. */
static void noise_option_is_no_blindness(void **state)
{
    struct link *l = link_new("bbr", 5000, 40, 8, CC_OPT_BBR_NOISE);
    uint64_t drops;

    (void)state;
    link_run(l, 10000);
    drops = l->drops;
    link_run(l, 20000);
    assert_true((l->drops - drops) * 100 < 100000 * 3);
    assert_true(info_of(l).inflight_longterm < 400);
    link_free(l);
}

/* What is noise is judged by the flight that it was lost from: 15 of 1000 are, 15 of 500 are not. */
static void noise_of_which_flight(void **state)
{
    static const struct {
        uint32_t segs, of;
        bool noise;
    } cases[] = {{15, 1000, true}, {15, 500, false}, {11, 500, true}, {12, 500, false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct link *l = link_new("bbr", 10000, 50, 1000, CC_OPT_BBR_NOISE);
        struct cc_lost lost = {.segs = cases[i].segs, .tx_in_flight = cases[i].of};

        until(l, BBR_CRUISE, 3000);
        link_run(l, 500); /* Startup is forgotten */
        l->w.lost += lost.segs;
        l->ops->pkt_lost(l->state, &l->w, &lost, l->now);
        link_run(l, 150);
        assert_int_equal(info_of(l).inflight_shortterm == UINT32_MAX, cases[i].noise);
        link_free(l);
    }
}

/* Marks count as losses do (the draft's section on ECN). */
static void marks(void **state)
{
    struct link *l = link_new("bbr", 10000, 40, 1000, 0), *blind = link_new("bbr", 10000, 40, 1000, 0);

    (void)state;
    l->mark_at = 40;
    link_run(l, 10000);
    link_run(blind, 10000);
    assert_true(info_of(l).inflight_longterm < 1000);
    assert_int_equal(info_of(blind).inflight_longterm, UINT32_MAX);
    l->queue_max = blind->queue_max = 0;
    assert_near(link_goodput(l, 10000), 10000, 12);
    link_run(blind, 10000);
    assert_true(l->queue_max < blind->queue_max);
    link_free(l);
    link_free(blind);
}

/* An undone recovery gives back bounds, window and state. */
static void undo(void **state)
{
    struct link *l = link_new("bbr", 10000, 50, 1000, 0);
    struct cc_lost lost = {.segs = 400, .tx_in_flight = 500};
    uint32_t cwnd;

    (void)state;
    until(l, BBR_CRUISE, 3000);
    until(l, BBR_UP, 4000);
    cwnd = l->w.cwnd;
    l->w.lost += 400;
    l->ops->pkt_lost(l->state, &l->w, &lost, l->now);
    assert_int_equal(info_of(l).state, BBR_DOWN);
    assert_in_range(info_of(l).inflight_longterm, 100, 500);
    l->w.cwnd = 100;
    assert_int_equal(l->ops->undo_cwnd(l->state, &l->w, 0), cwnd);
    assert_int_equal(info_of(l).state, BBR_REFILL);
    assert_int_equal(info_of(l).inflight_longterm, UINT32_MAX);
    link_free(l);
}

static void after_a_timeout(void **state)
{
    struct link *l = link_new("bbr", 10000, 50, 500, 0);

    (void)state;
    link_run(l, 5000);
    l->loss_ppm = 1000000;
    link_run(l, 3000);
    assert_true(l->timeouts > 0);
    l->loss_ppm = 0;
    link_run(l, 3000);
    assert_near(link_goodput(l, 4000), 10000, 10);
    link_free(l);
}

/* A program that writes little: no samples that lower the estimate, no ProbeRTT out of nothing. */
static void application_limited(void **state)
{
    struct link *l = link_new("bbr", 10000, 20, 400, 0);

    (void)state;
    link_run(l, 3000);
    l->app_rate = 500;
    link_run(l, 4000);
    assert_near(info_of(l).max_bw / LINK_MSS, 10000, 10);
    l->app_rate = 0;
    assert_near(link_goodput(l, 3000), 10000, 10);
    link_free(l);
}

static void small_things(void **state)
{
    struct link *l = link_new("bbr", 10000, 20, 400, 0);

    (void)state;
    assert_true(l->w.pacing_rate > 0); /* before any sample */
    assert_int_equal(info_of(l).min_rtt_us, UINT32_MAX);
    assert_int_equal(l->ops->sndbuf_expand(l->state, &l->w), 3);
    l->w.pacing_rate = 149999;
    assert_int_equal(l->ops->min_tso_segs(l->state, &l->w), 1);
    l->w.pacing_rate = 150000;
    assert_int_equal(l->ops->min_tso_segs(l->state, &l->w), 2);
    assert_string_equal(bbr_state_name(BBR_PROBE_RTT), "ProbeRTT");
    link_free(l);
}

/* Counters that begin anew (a restored connection) must not stop the round clock. */
static void after_a_restart(void **state)
{
    struct link *l = link_new("bbr", 1000, 40, 400, 0);

    (void)state;
    link_run(l, 150);
    assert_int_equal(info_of(l).state, BBR_STARTUP);
    memset((char *)l->state + CC_STATE_SAVED_BYTES, 0, CC_STATE_BYTES - CC_STATE_SAVED_BYTES);
    for (uint32_t id = l->una; id != l->nxt; id++)
        l->ring[id % LINK_RING].delivered -= 1000000;
    l->w.delivered -= 1000000;
    until(l, BBR_DRAIN, 1000);
    assert_near(link_goodput(l, 4000), 1000, 7);
    link_free(l);
}

/* After a probe that went too high the next one only touches the bound, and is repeated at once if that did
 * no harm. */
static void precautionary_probe(void **state)
{
    struct link *l = link_new("bbr", 10000, 50, 100, 0);
    bool repeated = false;

    (void)state;
    link_run(l, 5000);
    for (int cycle = 0; cycle < 8 && !repeated; cycle++) {
        until(l, BBR_UP, 10000);
        until(l, BBR_DOWN, 1000);
        for (int t = 0; t < 160 && !repeated; t++) {
            link_run(l, 1);
            repeated = info_of(l).state == BBR_REFILL;
        }
    }
    assert_true(repeated);
    link_free(l);
}

/* A second loss in the same recovery does not take the place of what the first one saved. */
static void undo_of_a_long_recovery(void **state)
{
    struct link *l = link_new("bbr", 10000, 50, 1000, 0);
    struct cc_lost lost = {.segs = 400, .tx_in_flight = 500};

    (void)state;
    until(l, BBR_CRUISE, 3000);
    until(l, BBR_UP, 4000);
    l->w.lost += 400;
    l->ops->pkt_lost(l->state, &l->w, &lost, l->now);
    l->w.ca_state = CC_CA_RECOVERY;
    l->high_seq = l->nxt + 1000000;
    link_run(l, 300);
    lost.segs = 1;
    l->ops->pkt_lost(l->state, &l->w, &lost, l->now);
    assert_true(info_of(l).inflight_longterm < UINT32_MAX);
    l->ops->undo_cwnd(l->state, &l->w, 0);
    assert_int_equal(info_of(l).inflight_longterm, UINT32_MAX);
    assert_int_equal(info_of(l).state, BBR_REFILL);
    link_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_bandwidth_and_drains),
        cmocka_unit_test(startup_doubles),
        cmocka_unit_test(probes),
        cmocka_unit_test(probe_rtt),
        cmocka_unit_test(the_path_changes),
        cmocka_unit_test(bandwidth_changes),
        cmocka_unit_test(shallow_queue),
        cmocka_unit_test(losses_end_startup),
        cmocka_unit_test(short_term_bounds),
        cmocka_unit_test(random_loss),
        cmocka_unit_test(noise_option_is_no_blindness),
        cmocka_unit_test(noise_of_which_flight),
        cmocka_unit_test(marks),
        cmocka_unit_test(undo),
        cmocka_unit_test(after_a_timeout),
        cmocka_unit_test(application_limited),
        cmocka_unit_test(small_things),
        cmocka_unit_test(after_a_restart),
        cmocka_unit_test(precautionary_probe),
        cmocka_unit_test(undo_of_a_long_recovery),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
