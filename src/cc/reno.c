/*
 * cc/reno.c: NewReno's window rules (RFC 5681 sections 3.1 and 3.2): one segment per acknowledged one below
 * ssthresh, one per window above it, half the window on loss. Keeps no state of its own, so that other
 * controllers use these functions as they are.
 */
#include "cc/reno.h"

static void reno_init(void *state, struct cc_window *w, uint64_t now)
{
    (void)state;
    (void)w;
    (void)now;
}

/*
 * RFC 5681 equation (4), on cwnd instead of flight size, as Linux: the engine keeps cwnd honest when it is
 * not used. RFC 8511 section 3.1, if asked for: a mark means a short queue, 0.8 is enough.
 */
uint32_t cc_reno_ssthresh(void *state, const struct cc_window *w, uint32_t in_flight)
{
    uint32_t reduced = w->cwnd / 2;

    (void)state;
    (void)in_flight;
    if (w->cause == CC_CAUSE_ECN && (w->options & CC_OPT_ABE))
        reduced = (uint32_t)((uint64_t)w->cwnd * 4 / 5);
    return reduced > 2 ? reduced : 2;
}

void cc_reno_cong_avoid(void *state, struct cc_window *w, const struct cc_sample *s)
{
    uint32_t acked = s->acked;

    (void)state;
    if (!s->cwnd_limited)
        return;
    if (w->cwnd < w->ssthresh) {
        acked = cc_slow_start(w, acked);
        if (acked == 0)
            return;
    }
    cc_additive_increase(w, w->cwnd, acked);
}

uint32_t cc_reno_undo_cwnd(void *state, const struct cc_window *w, uint32_t prior_cwnd)
{
    (void)state;
    return w->cwnd > prior_cwnd ? w->cwnd : prior_cwnd;
}

const struct cc_ops cc_reno = {
    .name = "reno",
    .init = reno_init,
    .ssthresh = cc_reno_ssthresh,
    .cong_avoid = cc_reno_cong_avoid,
    .undo_cwnd = cc_reno_undo_cwnd,
};
