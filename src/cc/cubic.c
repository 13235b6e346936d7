/*
 * cc/cubic.c: CUBIC (RFC 9438) in Linux's fixed point.
 *
 * After a reduction the window follows W(t) = C (t - K)^3 + Wmax, with C = 0.4 and K = cbrt((Wmax - cwnd) /
 * C) so that W(0) is where it starts; or what Reno would have by now, where that is more (section 4.3). Time
 * counts in 1/1024 s from a millisecond clock (Linux with HZ = 1000), C is 410/1024, beta 717/1024. The state
 * keeps how many ACKs one segment costs (`cnt`), recomputed at most once a millisecond.
 *
 * One deviation from Linux's arithmetic: the cube root is the exact integer one. Linux's table with one
 * Newton step is up to 0.2 % off, which moves K, not the shape of the curve.
 *
 * Slow start is hystart.c's business; wants init, cong_avoid, set_state, pkts_acked and the TX_START event.
 */
#include <assert.h>
#include <string.h>

#include "cc/cubic.h"
#include "cc/hystart.h"
#include "cc/reno.h"

#define BETA_SCALE   1024u
#define BETA         717u /* section 4.6: 0.7 */
#define BETA_ECN     870u /* RFC 8511 section 3.1: 0.85 for CUBIC */
#define HZ           1000u
#define TIME_SHIFT   10   /* curve time is in 1/1024 s */
#define C_SCALED     410u /* C in 1/1024: 41/1024 for an RTT of 100 ms, ten of them in a second */
#define BETA_RENO    (8 * (BETA_SCALE + BETA) / 3 / (BETA_SCALE - BETA)) /* ACKs per window and segment, x8 */
#define CUBE_FACTOR  ((1ull << (10 + 3 * TIME_SHIFT)) / C_SCALED)
#define SAME_CWND_MS (HZ / 32)
#define UNKNOWN_CNT  20u /* no maximum known yet: 5 % an RTT at least */
#define FASTEST_CNT  2u  /* never faster than by half in an RTT */

struct cubic {
    uint32_t cnt; /* ACKs per segment of growth */
    uint32_t last_max_cwnd;
    uint32_t last_cwnd, last_ms; /* when cnt was computed, and for which window */
    uint32_t origin;             /* Wmax of this epoch */
    uint32_t k;                  /* in 1/1024 s */
    uint32_t epoch_ms;
    uint32_t ack_cnt;   /* acked segments that reno_cwnd has not had yet */
    uint32_t reno_cwnd; /* W_est of section 4.3 */
    bool in_epoch;
    struct hystart hystart;
};

static_assert(sizeof(struct cubic) <= CC_STATE_SAVED_BYTES, "fits");

static uint32_t to_ms(uint64_t now)
{
    return (uint32_t)(now / NSEC_PER_MSEC);
}

static void reset(struct cubic *c, const struct cc_window *w, uint64_t now)
{
    memset(c, 0, sizeof *c);
    hystart_reset(&c->hystart, w, now);
}

static void cubic_init(void *state, struct cc_window *w, uint64_t now)
{
    reset(state, w, now);
}

/* The largest r with r^3 <= a, bit by bit. */
static uint32_t cube_root(uint64_t a)
{
    uint64_t r = 0;

    for (int shift = 63; shift >= 0; shift -= 3) {
        uint64_t step;

        r *= 2;
        step = 3 * r * (r + 1) + 1;
        if ((a >> shift) >= step) {
            a -= step << shift;
            r++;
        }
    }
    return (uint32_t)r;
}

static void begin_epoch(struct cubic *c, uint32_t cwnd, uint32_t acked, uint32_t now_ms)
{
    c->in_epoch = true;
    c->epoch_ms = now_ms;
    c->ack_cnt = acked;
    c->reno_cwnd = cwnd;
    if (c->last_max_cwnd <= cwnd) {
        c->k = 0;
        c->origin = cwnd;
    } else {
        c->k = cube_root(CUBE_FACTOR * (c->last_max_cwnd - cwnd));
        c->origin = c->last_max_cwnd;
    }
}

/* W(t + RTT), section 4.2: where the window should be one RTT from now. */
static uint64_t target(const struct cubic *c, uint32_t now_ms)
{
    uint64_t t = (uint64_t)(int64_t)(int32_t)(now_ms - c->epoch_ms), off, delta;

    t += (c->hystart.delay_min_us + 999) / 1000; /* a begun millisecond counts */
    t = (t << TIME_SHIFT) / HZ;
    off = t < c->k ? c->k - t : t - c->k;
    delta = (C_SCALED * off * off * off) >> (10 + 3 * TIME_SHIFT);
    if (t < c->k)
        return delta < c->origin ? c->origin - delta : 0;
    return c->origin + delta;
}

static void follow_curve(struct cubic *c, uint32_t cwnd, uint32_t now_ms)
{
    uint64_t goal = target(c, now_ms);

    if (goal > cwnd)
        c->cnt = (uint32_t)(cwnd / (goal - cwnd));
    else
        c->cnt = 100 * cwnd; /* hardly */
    if (c->last_max_cwnd == 0 && c->cnt > UNKNOWN_CNT)
        c->cnt = UNKNOWN_CNT;
}

/* Section 4.3: not slower than Reno with the same beta, alpha = 3 (1 - beta) / (1 + beta). */
static void reno_friendly(struct cubic *c, uint32_t cwnd)
{
    uint32_t per = (uint32_t)(((uint64_t)cwnd * BETA_RENO) >> 3);

    if (per > 0 && c->ack_cnt > per) {
        uint32_t steps = (c->ack_cnt - 1) / per;

        c->ack_cnt -= steps * per;
        c->reno_cwnd += steps;
    }
    if (c->reno_cwnd > cwnd) {
        uint32_t most = cwnd / (c->reno_cwnd - cwnd);

        if (c->cnt > most)
            c->cnt = most;
    }
}

static void update(struct cubic *c, uint32_t cwnd, uint32_t acked, uint32_t now_ms)
{
    c->ack_cnt += acked;
    if (c->last_cwnd == cwnd && (int32_t)(now_ms - c->last_ms) <= (int32_t)SAME_CWND_MS)
        return;
    if (!c->in_epoch || now_ms != c->last_ms) {
        c->last_cwnd = cwnd;
        c->last_ms = now_ms;
        if (!c->in_epoch)
            begin_epoch(c, cwnd, acked, now_ms);
        follow_curve(c, cwnd, now_ms);
    }
    reno_friendly(c, cwnd);
    if (c->cnt < FASTEST_CNT)
        c->cnt = FASTEST_CNT;
}

static void cubic_cong_avoid(void *state, struct cc_window *w, const struct cc_sample *s)
{
    struct cubic *c = state;
    uint32_t acked = s->acked;

    if (!s->cwnd_limited)
        return;
    if (w->cwnd < w->ssthresh) {
        if (w->options & CC_OPT_HYSTART_PP)
            acked = hystart_pp_growth(&c->hystart, w, acked);
        acked = cc_slow_start(w, acked);
        if (acked == 0)
            return;
    }
    update(c, w->cwnd, acked, to_ms(s->now));
    cc_additive_increase(w, c->cnt, acked);
}

/* Sections 4.6 and 4.7: multiplicative decrease and fast convergence. */
static uint32_t cubic_ssthresh(void *state, const struct cc_window *w, uint32_t in_flight)
{
    struct cubic *c = state;
    bool abe = w->cause == CC_CAUSE_ECN && (w->options & CC_OPT_ABE);
    uint64_t beta = abe ? BETA_ECN : BETA, reduced = w->cwnd * beta / BETA_SCALE;

    (void)in_flight;
    c->in_epoch = false;
    if (w->cwnd < c->last_max_cwnd)
        c->last_max_cwnd = (uint32_t)(w->cwnd * (BETA_SCALE + beta) / (2 * BETA_SCALE));
    else
        c->last_max_cwnd = w->cwnd;
    return reduced > 2 ? (uint32_t)reduced : 2;
}

/*
 * Section 5.8: idle time does not count, the curve goes on where it stopped.
 */
static void cubic_event(void *state, struct cc_window *w, enum cc_event event, uint64_t now)
{
    struct cubic *c = state;
    int32_t idle = (int32_t)(to_ms(now) - to_ms(w->lsndtime));

    if (event != CC_EVENT_TX_START || !c->in_epoch || idle <= 0)
        return;
    c->epoch_ms += (uint32_t)idle;
    if ((int32_t)(c->epoch_ms - to_ms(now)) > 0)
        c->epoch_ms = to_ms(now);
}

/* A timeout forgets all, the minimum RTT too (section 4.8). */
static void cubic_set_state(void *state, struct cc_window *w, enum cc_ca_state new_state, uint64_t now)
{
    if (new_state == CC_CA_LOSS)
        reset(state, w, now);
}

static void cubic_pkts_acked(void *state, struct cc_window *w, const struct cc_ack_sample *s)
{
    struct cubic *c = state;
    uint32_t rtt_us;

    if (s->rtt_us == CC_NO_RTT)
        return;
    /* Just after a recovery delays are not the path's. */
    if (c->in_epoch && (int32_t)(to_ms(s->now) - c->epoch_ms) < (int32_t)HZ)
        return;
    rtt_us = s->rtt_us > INT32_MAX ? INT32_MAX : s->rtt_us == 0 ? 1 : (uint32_t)s->rtt_us;
    if (c->hystart.delay_min_us == 0 || c->hystart.delay_min_us > rtt_us)
        c->hystart.delay_min_us = rtt_us;
    hystart_sample(&c->hystart, w, rtt_us, s->now);
}

const struct cc_ops cc_cubic = {
    .name = "cubic",
    .init = cubic_init,
    .ssthresh = cubic_ssthresh,
    .cong_avoid = cubic_cong_avoid,
    .undo_cwnd = cc_reno_undo_cwnd,
    .event = cubic_event,
    .set_state = cubic_set_state,
    .pkts_acked = cubic_pkts_acked,
};
