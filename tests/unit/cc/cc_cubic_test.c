/*
 * CUBIC (RFC 9438): its windows against a second computation of Linux's arithmetic (cubic_table.py) and
 * against the formula itself, its reductions, idle time, and its behaviour on a link.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "link.h"

struct sample {
    uint32_t ms, cwnd;
};

#include "cubic_table.h"

#define N(a) (sizeof(a) / sizeof(a)[0])

struct run {
    const struct cc_ops *cubic;
    uint64_t state[CC_STATE_BYTES / 8];
    struct cc_window w;
    uint32_t rtt_ms, credit;
    uint64_t now;
};

static void begin(struct run *r, uint32_t cwnd, uint32_t rtt_ms)
{
    struct cc_ack_sample s = {.rtt_us = rtt_ms * 1000ull, .pkts_acked = 1};

    *r = (struct run){.cubic = cc_find("cubic"), .rtt_ms = rtt_ms, .now = 1000 * NSEC_PER_MSEC};
    r->w = (struct cc_window){.cwnd = cwnd, .ssthresh = cwnd, .cwnd_clamp = UINT32_MAX};
    s.now = r->now;
    r->cubic->init(r->state, &r->w, r->now);
    r->cubic->pkts_acked(r->state, &r->w, &s);
}

static void reduce(struct run *r, enum cc_cause cause)
{
    r->w.cause = (uint8_t)cause;
    r->w.cwnd = r->w.ssthresh = r->cubic->ssthresh(r->state, &r->w, r->w.cwnd);
    r->w.cwnd_cnt = 0;
}

/* A millisecond, with the ACKs that a full window brings in it. */
static void tick(struct run *r)
{
    struct cc_sample s = {.now = r->now, .cwnd_limited = true};

    r->credit += r->w.cwnd;
    s.acked = r->credit / r->rtt_ms;
    r->credit %= r->rtt_ms;
    if (s.acked)
        r->cubic->cong_avoid(r->state, &r->w, &s);
    r->w.lsndtime = r->now;
    r->now += NSEC_PER_MSEC;
}

/* Reductions at `at[]` ms, the last for `last`, the others for loss. */
static void compare(struct run *r, const struct sample *rows, size_t n, const uint32_t *at, size_t n_at,
                    enum cc_cause last)
{
    uint32_t t = 0;

    for (size_t i = 0; i < n; i++) {
        for (; t <= rows[i].ms; t++) {
            for (size_t k = 0; k < n_at; k++)
                if (at[k] == t)
                    reduce(r, k + 1 == n_at ? last : CC_CAUSE_LOSS);
            tick(r);
        }
        if (r->w.cwnd != rows[i].cwnd)
            fail_msg("at %u ms: cwnd %u, expected %u", rows[i].ms, r->w.cwnd, rows[i].cwnd);
    }
}

static void as_linux_computes(void **state)
{
    static const uint32_t first[] = {0}, three[] = {0, 4000, 8000};
    struct run r;

    (void)state;
    begin(&r, 1000, 100);
    compare(&r, wan, N(wan), first, 1, CC_CAUSE_LOSS);
    begin(&r, 10000, 60);
    compare(&r, long_, N(long_), three, 3, CC_CAUSE_ECN);
    begin(&r, 40, 10);
    compare(&r, friendly, N(friendly), first, 1, CC_CAUSE_LOSS);
    begin(&r, 500, 50);
    compare(&r, unknown_max, N(unknown_max), NULL, 0, CC_CAUSE_LOSS);
    begin(&r, 800, 40);
    r.w.options = CC_OPT_ABE;
    compare(&r, abe, N(abe), first, 1, CC_CAUSE_ECN);
}

/* Section 5.8: the curve stands still while nothing is sent. */
static void idle_time_does_not_count(void **state)
{
    struct run r;
    size_t i = 0;

    (void)state;
    begin(&r, 800, 40);
    reduce(&r, CC_CAUSE_LOSS);
    for (uint32_t t = 0; i < N(idle); t++) {
        if (t == 2000) {
            t = 3500;
            r.now += 1500 * NSEC_PER_MSEC;
            r.cubic->event(r.state, &r.w, CC_EVENT_TX_START, r.now);
        }
        tick(&r);
        if (idle[i].ms == t)
            assert_int_equal(r.w.cwnd, idle[i++].cwnd);
    }
}

/* W(t) = 0.4 (t - K)^3 + Wmax with 0.4 K^3 = Wmax - cwnd: within 2 % (the window follows its goal stepwise).
 */
static void follows_the_formula(void **state)
{
    struct run r;
    double k = 0, wmax = 2000, start;

    (void)state;
    begin(&r, 2000, 50);
    reduce(&r, CC_CAUSE_LOSS);
    start = r.w.cwnd;
    assert_int_equal(r.w.cwnd, 2000 * 717 / 1024);
    while (0.4 * k * k * k < wmax - start)
        k += 0.0001;
    for (int t = 0; t < 20000; t++) {
        double d = t / 1000.0 - k, w = 0.4 * d * d * d + wmax;

        tick(&r);
        if (r.w.cwnd < w * 0.98 - 2 || r.w.cwnd > w * 1.02 + 2)
            fail_msg("at %d ms: cwnd %u, formula %f", t, r.w.cwnd, w);
    }
}

/* Section 4.3: where the curve is flat for long, as fast as Reno with alpha = 3 (1 - beta)/(1 + beta) = 0.53.
 */
static void friendly_region(void **state)
{
    struct run r;
    uint32_t start;
    double reno;

    (void)state;
    begin(&r, 20, 5); /* K is 2.5 s, 500 round trips */
    reduce(&r, CC_CAUSE_LOSS);
    start = r.w.cwnd;
    for (int t = 0; t < 500; t++)
        tick(&r);
    reno = start + 0.529 * 100;
    assert_in_range(r.w.cwnd, (uint32_t)(reno * 0.9), (uint32_t)(reno * 1.05));
}

static void reductions(void **state)
{
    struct run r;

    (void)state;
    begin(&r, 1000, 100);
    assert_int_equal(r.cubic->ssthresh(r.state, &r.w, 0), 700);
    r.w.cwnd = 700; /* below the last maximum: fast convergence, Wmax = 700 (1 + 0.7) / 2 */
    assert_int_equal(r.cubic->ssthresh(r.state, &r.w, 0), 490);
    r.w.cwnd = r.w.ssthresh = 490;
    for (int t = 0; t < 3400; t++) /* K = cbrt((595 - 490) / 0.4) = 6.4 s: 595 - 0.4 x 3^3 */
        tick(&r);
    assert_in_range(r.w.cwnd, 580, 588);
    r.w.cause = CC_CAUSE_ECN;
    r.w.cwnd = 1000;
    assert_int_equal(r.cubic->ssthresh(r.state, &r.w, 0), 700);
    r.w.options = CC_OPT_ABE;
    assert_int_equal(r.cubic->ssthresh(r.state, &r.w, 0), 849);
    r.w.cwnd = 2;
    assert_int_equal(r.cubic->ssthresh(r.state, &r.w, 0), 2);
    assert_int_equal(r.cubic->undo_cwnd(r.state, &r.w, 50), 50);
}

/* RFC 7661: an unused window does not grow; nor over the clamp. */
static void does_not_grow(void **state)
{
    struct cc_sample s = {.acked = 100};
    struct run r;

    (void)state;
    begin(&r, 100, 10);
    s.now = r.now;
    for (int i = 0; i < 100; i++)
        r.cubic->cong_avoid(r.state, &r.w, &s);
    assert_int_equal(r.w.cwnd, 100);
    r.w.cwnd_clamp = 103;
    for (int t = 0; t < 3000; t++)
        tick(&r);
    assert_int_equal(r.w.cwnd, 103);
}

static void on_a_link(void **state)
{
    struct link *l = link_new("cubic", 10000, 50, 500, 0);

    (void)state;
    link_run(l, 5000);
    assert_in_range(link_goodput(l, 20000), 9900, 10000);
    assert_int_equal(l->timeouts, 0);
    assert_true(l->drops > 0); /* it does probe */
    link_free(l);
}

static void after_a_timeout(void **state)
{
    struct link *l = link_new("cubic", 10000, 50, 500, 0);

    (void)state;
    link_run(l, 5000);
    l->loss_ppm = 1000000; /* dark */
    link_run(l, 3000);
    assert_true(l->timeouts > 0);
    assert_in_range(l->w.cwnd, 1, 2);
    l->loss_ppm = 0;
    link_run(l, 6000);
    assert_in_range(link_goodput(l, 5000), 9800, 10000);
    link_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_linux_computes),   cmocka_unit_test(idle_time_does_not_count),
        cmocka_unit_test(follows_the_formula), cmocka_unit_test(friendly_region),
        cmocka_unit_test(reductions),          cmocka_unit_test(does_not_grow),
        cmocka_unit_test(on_a_link),           cmocka_unit_test(after_a_timeout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
