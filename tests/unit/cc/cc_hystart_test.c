/*
 * HyStart and HyStart++ (RFC 9406): slow start ends before the queue overflows, not too early, and not for a
 * passing delay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cc/hystart.h"
#include "link.h"

/* Segments that the first slow start lost, and the window it ended with, on links of one BDP of queue. */
static uint64_t slow_start_losses(uint64_t rate, uint64_t rtt_ms, uint32_t options, uint32_t *ret_cwnd)
{
    uint32_t bdp = (uint32_t)(rate * rtt_ms / 1000);
    struct link *l = link_new("cubic", rate, rtt_ms, bdp, options);
    uint64_t lost;

    while (l->slow_start_left_at == 0)
        link_run(l, 1);
    link_run(l, 2 * rtt_ms);
    lost = l->drops;
    *ret_cwnd = l->slow_start_left_at;
    link_free(l);
    return lost;
}

static const struct {
    uint64_t rate, rtt_ms;
} links[] = {{1000, 100}, {5000, 40}, {20000, 20}, {20000, 100}};

static void leaves_before_overflow(void **state)
{
    uint32_t cwnd, plain;

    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        uint32_t bdp = (uint32_t)(links[i].rate * links[i].rtt_ms / 1000);

        assert_int_equal(slow_start_losses(links[i].rate, links[i].rtt_ms, 0, &cwnd), 0);
        assert_in_range(cwnd, bdp / 2, 2 * bdp);
        /* without it the same link overflows */
        assert_true(slow_start_losses(links[i].rate, links[i].rtt_ms, CC_OPT_NO_HYSTART, &plain) > bdp / 2);
    }
}

/* Five more rounds at a quarter of the speed may still overflow a queue of one BDP, but by less. */
static void plus_plus_overflows_less(void **state)
{
    uint32_t cwnd, plain;

    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        uint64_t rate = links[i].rate, rtt = links[i].rtt_ms;
        uint64_t lost = slow_start_losses(rate, rtt, CC_OPT_HYSTART_PP, &cwnd);

        printf("%u/s, %u ms: %u lost, %u without\n", (unsigned)rate, (unsigned)rtt, (unsigned)lost,
               (unsigned)slow_start_losses(rate, rtt, CC_OPT_NO_HYSTART, &plain));
        assert_true(lost * 4 < 3 * slow_start_losses(rate, rtt, CC_OPT_NO_HYSTART, &plain));
        assert_true(cwnd > rate * rtt / 2000);
    }
}

/* ---- sample by sample -------------------------------------------------------------------------------- */

struct run {
    struct hystart h;
    struct cc_window w;
    uint64_t now;
};

static void begin(struct run *r, uint32_t cwnd, uint32_t options)
{
    *r = (struct run){.w = {.cwnd = cwnd, .ssthresh = CC_SSTHRESH_INFINITE, .options = options},
                      .now = NSEC_PER_SEC};
    r->w.snd_nxt = 1000;
    hystart_reset(&r->h, &r->w, r->now);
}

static void samples(struct run *r, unsigned n, uint32_t rtt_us, uint32_t spacing_us)
{
    for (unsigned i = 0; i < n; i++) {
        r->now += spacing_us * NSEC_PER_USEC;
        if (r->h.delay_min_us == 0 || rtt_us < r->h.delay_min_us)
            r->h.delay_min_us = rtt_us;
        hystart_sample(&r->h, &r->w, rtt_us, r->now);
    }
}

static void next_round(struct run *r)
{
    r->w.snd_una = r->w.snd_nxt + 1;
    r->w.snd_nxt += 1000;
}

/* An eighth of the minimum, 4 ms at least, 16 ms at most: and one more than 8 samples. */
static void delay_threshold(void **state)
{
    static const uint32_t cases[][2] = {{10000, 14000}, {80000, 90000}, {400000, 416000}};
    struct run r;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        begin(&r, 100, 0);
        samples(&r, 9, cases[i][0], 3000);
        next_round(&r);
        samples(&r, 20, cases[i][1], 3000);
        assert_false(r.h.found);
        next_round(&r);
        samples(&r, 8, cases[i][1] + 1, 3000);
        assert_false(r.h.found);
        samples(&r, 1, cases[i][1] + 1, 3000);
        assert_true(r.h.found);
        assert_int_equal(r.w.ssthresh, 100);
    }
}

/* ACKs at most 2 ms apart for more than half of the minimum RTT, all of it where sending is paced. */
static void ack_train(void **state)
{
    struct run r;

    (void)state;
    begin(&r, 100, 0);
    samples(&r, 50, 100000, 1000);
    assert_false(r.h.found);
    samples(&r, 1, 100000, 1000);
    assert_true(r.h.found);

    begin(&r, 100, 0);
    r.w.paced = true;
    samples(&r, 100, 100000, 1000);
    assert_false(r.h.found);
    samples(&r, 1, 100000, 1000);
    assert_true(r.h.found);

    begin(&r, 100, 0);
    samples(&r, 100, 100000, 2001); /* no train */
    assert_false(r.h.found);
    begin(&r, 15, 0);
    samples(&r, 100, 100000, 1000); /* too small a window to judge */
    assert_false(r.h.found);
    begin(&r, 100, CC_OPT_NO_HYSTART);
    samples(&r, 100, 100000, 1000);
    assert_false(r.h.found);
}

/* Large super-frames cost time by themselves: up to a millisecond is forgiven. */
static void aggregation_is_forgiven(void **state)
{
    struct run r;

    (void)state;
    begin(&r, 100, 0);
    r.w.gate_rate = 1000000000;
    r.w.gso_max_bytes = 65536; /* 262 us */
    samples(&r, 113, 200, 1);
    assert_false(r.h.found);
    samples(&r, 118, 200, 1); /* (200 + 262) / 2 = 231 */
    assert_false(r.h.found);
    samples(&r, 1, 200, 1);
    assert_true(r.h.found);
}

/* RFC 9406 section 4.2: in conservative slow start a quarter of the speed; five rounds of it end slow start.
 */
static void conservative_slow_start(void **state)
{
    struct run r;

    (void)state;
    begin(&r, 100, CC_OPT_HYSTART_PP);
    samples(&r, 8, 40000, 1000);
    assert_int_equal(hystart_pp_growth(&r.h, &r.w, 20), 8); /* L */
    r.w.paced = true;
    assert_int_equal(hystart_pp_growth(&r.h, &r.w, 20), 20);
    next_round(&r);
    samples(&r, 8, 45000, 1000); /* 40 + 40/8 */
    assert_true(r.h.in_css);
    assert_int_equal(hystart_pp_growth(&r.h, &r.w, 6), 1);
    assert_int_equal(hystart_pp_growth(&r.h, &r.w, 6), 2);
    for (int round = 0; round < 4; round++) {
        next_round(&r);
        samples(&r, 8, 46000, 1000);
        assert_false(r.h.found);
    }
    next_round(&r);
    samples(&r, 1, 46000, 1000);
    assert_true(r.h.found);
    assert_int_equal(r.w.ssthresh, 100);
}

static void passing_delay(void **state)
{
    struct run r;

    (void)state;
    begin(&r, 100, CC_OPT_HYSTART_PP);
    samples(&r, 8, 40000, 1000);
    next_round(&r);
    samples(&r, 8, 45000, 1000);
    assert_true(r.h.in_css);
    next_round(&r);
    samples(&r, 8, 41000, 1000); /* less than what began it */
    assert_false(r.h.in_css);
    assert_false(r.h.found);
    r.w.ssthresh = 500; /* not the first slow start */
    next_round(&r);
    samples(&r, 20, 90000, 1000);
    assert_false(r.h.in_css);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_before_overflow),  cmocka_unit_test(plus_plus_overflows_less),
        cmocka_unit_test(delay_threshold),         cmocka_unit_test(ack_train),
        cmocka_unit_test(aggregation_is_forgiven), cmocka_unit_test(conservative_slow_start),
        cmocka_unit_test(passing_delay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
