/*
 * cc/dctcp.c: DCTCP (RFC 8257) over Reno, as Linux.
 *
 * Once a window of data: alpha = (1 - g) alpha + g F, F the fraction of segments delivered with a mark, g =
 * 1/16; alpha counts in 1/1024 and begins at 1, which is careful. A mark reduces the window by alpha/2, a
 * loss by a half (section 3.5): the state change to Recovery and the LOSS event come after ssthresh() and
 * overrule it.
 *
 * Wants in_ack_event on each ACK, set_state and events; w->delivered, delivered_ce, snd_una, snd_nxt, ecn_ok.
 */
#include <assert.h>
#include <stddef.h>

#include "cc/dctcp.h"
#include "cc/reno.h"

#define MAX_ALPHA 1024u
#define SHIFT_G   4

struct dctcp {
    uint32_t alpha;
    uint32_t old_delivered, old_delivered_ce; /* when the window of data began */
    uint32_t next_seq;                        /* its end */
    uint32_t loss_cwnd;
    bool on; /* ECN is there; otherwise plain Reno */
};

static_assert(sizeof(struct dctcp) <= CC_STATE_SAVED_BYTES, "fits");

static void begin_window(struct dctcp *d, const struct cc_window *w)
{
    d->next_seq = w->snd_nxt;
    d->old_delivered = w->delivered;
    d->old_delivered_ce = w->delivered_ce;
}

static void dctcp_init(void *state, struct cc_window *w, uint64_t now)
{
    struct dctcp *d = state;

    (void)now;
    *d = (struct dctcp){.alpha = MAX_ALPHA, .on = w->ecn_ok};
    begin_window(d, w);
}

uint32_t dctcp_alpha(const void *state)
{
    return ((const struct dctcp *)state)->alpha;
}

/* Section 3.3, equation (9); also asked for loss, see react_to_loss. */
static uint32_t dctcp_ssthresh(void *state, const struct cc_window *w, uint32_t in_flight)
{
    struct dctcp *d = state;
    uint32_t reduced;

    if (!d->on)
        return cc_reno_ssthresh(NULL, w, in_flight);
    d->loss_cwnd = w->cwnd;
    reduced = w->cwnd - (uint32_t)(((uint64_t)w->cwnd * d->alpha) >> 11);
    return reduced > 2 ? reduced : 2;
}

static void react_to_loss(struct dctcp *d, struct cc_window *w)
{
    if (!d->on)
        return;
    d->loss_cwnd = w->cwnd;
    w->ssthresh = w->cwnd / 2 > 2 ? w->cwnd / 2 : 2;
}

/* Section 3.3, step 5 and 6. */
static void dctcp_in_ack_event(void *state, struct cc_window *w, uint32_t flags, uint64_t now)
{
    struct dctcp *d = state;
    uint32_t marked = w->delivered_ce - d->old_delivered_ce, all = w->delivered - d->old_delivered, decay;

    (void)flags;
    (void)now;
    if (!d->on || (int32_t)(w->snd_una - d->next_seq) < 0)
        return;
    decay = d->alpha >> SHIFT_G;
    d->alpha -= decay ? decay : d->alpha; /* else it would never reach 0 */
    if (marked > 0) {
        uint64_t gain = ((uint64_t)marked << (10 - SHIFT_G)) / (all ? all : 1);

        d->alpha = d->alpha + gain < MAX_ALPHA ? d->alpha + (uint32_t)gain : MAX_ALPHA;
    }
    begin_window(d, w);
}

static void dctcp_set_state(void *state, struct cc_window *w, enum cc_ca_state new_state, uint64_t now)
{
    (void)now;
    if (new_state == CC_CA_RECOVERY && w->ca_state != CC_CA_RECOVERY)
        react_to_loss(state, w);
}

static void dctcp_event(void *state, struct cc_window *w, enum cc_event event, uint64_t now)
{
    struct dctcp *d = state;

    (void)now;
    if (event != CC_EVENT_LOSS)
        return;
    react_to_loss(d, w);
    if (w->options & CC_OPT_DCTCP_ALPHA_ON_LOSS)
        d->alpha = MAX_ALPHA;
}

static uint32_t dctcp_undo_cwnd(void *state, const struct cc_window *w, uint32_t prior_cwnd)
{
    const struct dctcp *d = state;

    return cc_reno_undo_cwnd(NULL, w, d->on ? d->loss_cwnd : prior_cwnd);
}

const struct cc_ops cc_dctcp = {
    .name = "dctcp",
    .flags = CC_NEEDS_ECN,
    .init = dctcp_init,
    .ssthresh = dctcp_ssthresh,
    .cong_avoid = cc_reno_cong_avoid,
    .undo_cwnd = dctcp_undo_cwnd,
    .event = dctcp_event,
    .set_state = dctcp_set_state,
    .in_ack_event = dctcp_in_ack_event,
};

/* ---- the receiver ------------------------------------------------------------------------------------ */

/* Section 3.2, figure 1: a change of CE must not hide behind a delayed ACK. */
struct dctcp_echo dctcp_ce_arrived(struct dctcp_ce *d, bool ce, uint32_t rcv_nxt, bool ack_delayed)
{
    struct dctcp_echo echo = {.ece = ce};

    if (d->ce != ce) {
        echo.ack_prior = ack_delayed;
        echo.prior_ece = d->ce;
        echo.prior_ack = d->prior_rcv_nxt;
        echo.ack_now = true;
    }
    d->prior_rcv_nxt = rcv_nxt;
    d->ce = ce;
    return echo;
}
