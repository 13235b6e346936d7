/*
 * The shared window arithmetic and Reno: RFC 5681 sections 3.1 and 3.2 in segments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "cc/cc.h"

static struct cc_window window(uint32_t cwnd, uint32_t ssthresh)
{
    return (struct cc_window){.cwnd = cwnd, .ssthresh = ssthresh, .cwnd_clamp = UINT32_MAX};
}

/* A call that an engine might make, with anything in it. */
static void any_call(const struct cc_ops *ops, void *mem, struct cc_window *w, struct rng *r, uint64_t now)
{
    uint32_t some = (uint32_t)rng_below(r, 1u << rng_below(r, 32));
    struct cc_sample s = {.now = now, .acked = some, .cwnd_limited = some & 1};
    struct cc_ack_sample as = {.now = now, .rtt_us = rng_below(r, 8) ? some : CC_NO_RTT, .pkts_acked = 1};
    struct cc_rate_sample rs = {.delivered = (int32_t)some,
                                .interval_us = (int32_t)rng_next(r),
                                .rtt_us = some,
                                .prior_delivered = w->delivered - some,
                                .losses = (uint32_t)rng_below(r, 3),
                                .acked_sacked = some,
                                .prior_in_flight = some,
                                .cwnd_limited = some & 2,
                                .is_app_limited = some & 4,
                                .delivered_ce = (int32_t)rng_below(r, 2)};
    struct cc_lost lost = {.segs = some, .tx_in_flight = (uint32_t)rng_below(r, 1000), .tx_lost = w->lost};

    w->snd_una += some;
    w->snd_nxt = w->snd_una + some;
    w->delivered += some;
    w->in_flight = (uint32_t)rng_below(r, w->cwnd + 1);
    w->srtt_us = some;
    w->gate_rate = some;
    w->mss = (uint32_t)rng_below(r, 65536);
    w->cause = (uint8_t)rng_below(r, 2);
    switch (rng_below(r, 9)) {
    case 0:
        w->ssthresh = ops->ssthresh(mem, w, some);
        break;
    case 1:
        w->cwnd = ops->undo_cwnd(mem, w, 10);
        w->cwnd = w->cwnd > w->cwnd_clamp ? w->cwnd_clamp : w->cwnd;
        break;
    case 2:
        w->lost += some;
        if (ops->pkt_lost)
            ops->pkt_lost(mem, w, &lost, now);
        break;
    case 3:
        if (ops->set_state)
            ops->set_state(mem, w, (enum cc_ca_state)(some % 5), now);
        w->ca_state = (uint8_t)(some % 5);
        break;
    case 4:
        if (ops->event)
            ops->event(mem, w, (enum cc_event)(some % 6), now);
        break;
    case 5:
        if (ops->pkts_acked)
            ops->pkts_acked(mem, w, &as);
        if (ops->in_ack_event)
            ops->in_ack_event(mem, w, some & 7, now);
        break;
    default:
        if (ops->cong_control)
            ops->cong_control(mem, w, &rs, now);
        else
            ops->cong_avoid(mem, w, &s);
        break;
    }
}

static void by_name(void **state)
{
    (void)state;
    assert_non_null(cc_find("reno"));
    assert_non_null(cc_find("cubic"));
    assert_non_null(cc_find("dctcp"));
    assert_non_null(cc_find("bbr"));
    assert_null(cc_find("nonesuch"));
    assert_string_equal(cc_name(0), "reno");
    assert_null(cc_name(1000));
    for (unsigned i = 0; cc_name(i); i++)
        assert_string_equal(cc_find(cc_name(i))->name, cc_name(i));
}

static void slow_start_stops_at_ssthresh(void **state)
{
    struct cc_window w = window(10, 16);

    (void)state;
    assert_int_equal(cc_slow_start(&w, 4), 0);
    assert_int_equal(w.cwnd, 14);
    assert_int_equal(cc_slow_start(&w, 5), 3);
    assert_int_equal(w.cwnd, 16);
    assert_int_equal(cc_slow_start(&w, 5), 5);
    assert_int_equal(w.cwnd, 16);
}

static void clamped(void **state)
{
    struct cc_window w = window(10, CC_SSTHRESH_INFINITE);

    (void)state;
    w.cwnd_clamp = 12;
    assert_int_equal(cc_slow_start(&w, 10), 0);
    assert_int_equal(w.cwnd, 12);
    cc_additive_increase(&w, 1, 10);
    assert_int_equal(w.cwnd, 12);
}

/* RFC 8511: 0.8 for a mark where asked for, a half for a loss. */
static void reno_abe(void **state)
{
    const struct cc_ops *reno = cc_find("reno");
    struct cc_window w = window(100, 12);

    (void)state;
    w.cause = CC_CAUSE_ECN;
    assert_int_equal(reno->ssthresh(NULL, &w, 0), 50);
    w.options = CC_OPT_ABE;
    assert_int_equal(reno->ssthresh(NULL, &w, 0), 80);
    w.cause = CC_CAUSE_LOSS;
    assert_int_equal(reno->ssthresh(NULL, &w, 0), 50);
}

/* What every controller must stand: calls in any order with an empty window, and limits that hold. */
static void any_input(void **state)
{
    struct rng rng;

    (void)state;
    for (unsigned i = 0; cc_name(i); i++) {
        const struct cc_ops *ops = cc_find(cc_name(i));

        for (uint64_t seed = 1; seed <= 200; seed++) {
            uint64_t mem[CC_STATE_BYTES / 8] = {0}, now = seed * 977777;
            struct cc_window w = {.cwnd_clamp = 5000, .ssthresh = CC_SSTHRESH_INFINITE};

            rng_seed(&rng, seed);
            w.cwnd = 1 + (uint32_t)rng_below(&rng, 100);
            w.options = (uint32_t)rng_below(&rng, 32);
            w.sack_ok = rng_below(&rng, 2);
            w.ecn_ok = rng_below(&rng, 2);
            ops->init(mem, &w, now);
            for (int k = 0; k < 500; k++)
                any_call(ops, mem, &w, &rng, now += rng_below(&rng, 30 * NSEC_PER_MSEC));
            if (w.cwnd < 1 || w.cwnd > w.cwnd_clamp || w.ssthresh < 2)
                fail_msg("%s, seed %u: cwnd %u, ssthresh %u", ops->name, (unsigned)seed, w.cwnd, w.ssthresh);
        }
    }
}

/* One segment more for each window acknowledged, however the ACKs are cut. */
static void one_per_window(void **state)
{
    struct cc_window one = window(10, 5), all = window(10, 5);

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(one.cwnd, 10);
        cc_additive_increase(&one, 10, 1);
    }
    assert_int_equal(one.cwnd, 11);
    cc_additive_increase(&all, 10, 25);
    assert_int_equal(all.cwnd, 12);
    assert_int_equal(all.cwnd_cnt, 5);
}

static void reno_rules(void **state)
{
    const struct cc_ops *reno = cc_find("reno");
    struct cc_window w = window(10, 12);
    struct cc_sample s = {.acked = 4, .cwnd_limited = true};

    (void)state;
    reno->cong_avoid(NULL, &w, &s); /* two of them in slow start, two count towards the next step */
    assert_int_equal(w.cwnd, 12);
    assert_int_equal(w.cwnd_cnt, 2);
    s.cwnd_limited = false; /* RFC 7661: an unused window does not grow */
    s.acked = 100;
    reno->cong_avoid(NULL, &w, &s);
    assert_int_equal(w.cwnd, 12);
    assert_int_equal(reno->ssthresh(NULL, &w, 3), 6);
    w.cwnd = 3;
    assert_int_equal(reno->ssthresh(NULL, &w, 3), 2);
    assert_int_equal(reno->undo_cwnd(NULL, &w, 20), 20);
    w.cwnd = 30;
    assert_int_equal(reno->undo_cwnd(NULL, &w, 20), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_name),    cmocka_unit_test(slow_start_stops_at_ssthresh),
        cmocka_unit_test(clamped),    cmocka_unit_test(one_per_window),
        cmocka_unit_test(reno_rules), cmocka_unit_test(reno_abe),
        cmocka_unit_test(any_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
