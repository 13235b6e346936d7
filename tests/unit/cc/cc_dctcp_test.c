/*
 * DCTCP (RFC 8257): alpha, the reductions for marks and for losses, the receiver's echo, and a link that
 * marks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cc/dctcp.h"
#include "link.h"

struct run {
    const struct cc_ops *ops;
    uint64_t state[CC_STATE_BYTES / 8];
    struct cc_window w;
};

static void begin(struct run *r)
{
    *r = (struct run){.ops = cc_find("dctcp")};
    r->w = (struct cc_window){.cwnd = 100, .ssthresh = 50, .cwnd_clamp = UINT32_MAX, .ecn_ok = true};
    r->ops->init(r->state, &r->w, 0);
}

/* A window of 100 segments, of which `marked` came with CE. */
static void window(struct run *r, uint32_t marked)
{
    r->w.snd_una = r->w.snd_nxt;
    r->w.snd_nxt += 100;
    r->w.delivered += 100;
    r->w.delivered_ce += marked;
    r->ops->in_ack_event(r->state, &r->w, marked ? CC_ACK_ECE : 0, 0);
}

/* alpha = 15/16 alpha + 1/16 F: begins at 1, converges to F from both sides, and reaches 0. */
static void alpha_converges(void **state)
{
    struct run r;

    (void)state;
    begin(&r);
    assert_int_equal(dctcp_alpha(r.state), 1024);
    window(&r, 0);
    assert_int_equal(dctcp_alpha(r.state), 1024 - 64);
    for (int i = 0; i < 200; i++)
        window(&r, 25);
    assert_in_range(dctcp_alpha(r.state), 240, 272);
    for (int i = 0; i < 200; i++)
        window(&r, 0);
    assert_int_equal(dctcp_alpha(r.state), 0);
    for (int i = 0; i < 300; i++)
        window(&r, 100);
    assert_in_range(dctcp_alpha(r.state), 1008, 1024);
}

/* Once a window of data, not with each ACK. */
static void once_a_window(void **state)
{
    struct run r;

    (void)state;
    begin(&r);
    window(&r, 0);
    r.w.snd_una = r.w.snd_nxt - 1;
    for (int i = 0; i < 50; i++)
        r.ops->in_ack_event(r.state, &r.w, 0, 0);
    assert_int_equal(dctcp_alpha(r.state), 960);
}

static void marks_cost_half_of_alpha(void **state)
{
    struct run r;

    (void)state;
    begin(&r);
    assert_int_equal(r.ops->ssthresh(r.state, &r.w, 0), 50);
    for (int i = 0; i < 300; i++)
        window(&r, 0);
    assert_int_equal(r.ops->ssthresh(r.state, &r.w, 0), 100);
    for (int i = 0; i < 300; i++)
        window(&r, 50);
    assert_in_range(r.ops->ssthresh(r.state, &r.w, 0), 74, 77);
    assert_int_equal(r.ops->undo_cwnd(r.state, &r.w, 1), 100);
    r.w.cwnd = 1;
    assert_int_equal(r.ops->ssthresh(r.state, &r.w, 0), 2);
}

/* Section 3.5: a loss is a loss, whatever alpha says. */
static void losses_cost_half(void **state)
{
    struct run r;

    (void)state;
    begin(&r);
    for (int i = 0; i < 300; i++)
        window(&r, 0);
    r.w.ssthresh = r.ops->ssthresh(r.state, &r.w, 0);
    r.ops->set_state(r.state, &r.w, CC_CA_RECOVERY, 0);
    assert_int_equal(r.w.ssthresh, 50);
    r.w.ssthresh = r.ops->ssthresh(r.state, &r.w, 0);
    r.ops->set_state(r.state, &r.w, CC_CA_CWR, 0); /* marks */
    assert_int_equal(r.w.ssthresh, 100);
    r.ops->event(r.state, &r.w, CC_EVENT_LOSS, 0);
    assert_int_equal(r.w.ssthresh, 50);
    assert_int_equal(dctcp_alpha(r.state), 0);
    r.w.options = CC_OPT_DCTCP_ALPHA_ON_LOSS;
    r.ops->event(r.state, &r.w, CC_EVENT_LOSS, 0);
    assert_int_equal(dctcp_alpha(r.state), 1024);
}

/* No ECN: Reno. */
static void without_ecn(void **state)
{
    struct run r;

    (void)state;
    begin(&r);
    r.w.ecn_ok = false;
    r.ops->init(r.state, &r.w, 0);
    window(&r, 0);
    assert_int_equal(dctcp_alpha(r.state), 1024);
    r.w.cwnd = 60;
    assert_int_equal(r.ops->ssthresh(r.state, &r.w, 0), 30);
    r.ops->set_state(r.state, &r.w, CC_CA_RECOVERY, 0);
    assert_int_equal(r.w.ssthresh, 50);
    assert_int_equal(r.ops->undo_cwnd(r.state, &r.w, 70), 70);
    assert_true(r.ops->flags & CC_NEEDS_ECN);
}

/* Section 3.2: each change of CE is told at once, and what a delayed ACK covered keeps its own ECE. */
static void receiver_echoes(void **state)
{
    struct dctcp_ce d = {.prior_rcv_nxt = 100};
    struct dctcp_echo e;

    (void)state;
    e = dctcp_ce_arrived(&d, false, 200, true);
    assert_false(e.ack_prior || e.ack_now || e.ece);
    e = dctcp_ce_arrived(&d, true, 300, true);
    assert_true(e.ack_prior && e.ack_now && e.ece);
    assert_false(e.prior_ece);
    assert_int_equal(e.prior_ack, 200);
    e = dctcp_ce_arrived(&d, true, 400, true);
    assert_false(e.ack_prior || e.ack_now);
    assert_true(e.ece);
    e = dctcp_ce_arrived(&d, false, 500, false); /* nothing delayed: nothing to say for it */
    assert_true(e.ack_now && !e.ack_prior && !e.ece && e.prior_ece);
    assert_int_equal(e.prior_ack, 400);
}

/* A switch that marks from K on: full rate, a queue near K, no loss; Reno with the same marks loses rate. */
static void on_a_link(void **state)
{
    struct link *l = link_new("dctcp", 80000, 1, 400, 0), *reno = link_new("reno", 80000, 1, 400, 0);
    uint64_t rate, of_reno;

    (void)state;
    l->mark_at = reno->mark_at = 12;
    link_run(l, 1000);
    link_run(reno, 1000);
    l->queue_sum = l->queue_samples = l->drops = l->queue_max = 0;
    rate = link_goodput(l, 3000);
    of_reno = link_goodput(reno, 3000);
    assert_true(rate > 78000);
    assert_true(rate > of_reno + 1000);
    assert_int_equal(l->drops, 0);
    assert_in_range(l->queue_sum / l->queue_samples, 4, 14);
    assert_in_range(l->queue_max, 12, 24);
    assert_in_range(dctcp_alpha(l->state), 20, 500);
    link_free(l);
    link_free(reno);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alpha_converges),
        cmocka_unit_test(once_a_window),
        cmocka_unit_test(marks_cost_half_of_alpha),
        cmocka_unit_test(losses_cost_half),
        cmocka_unit_test(without_ecn),
        cmocka_unit_test(receiver_echoes),
        cmocka_unit_test(on_a_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
