/*
 * cc/bbr.c: BBRv3, from draft-ietf-ccwg-bbr-06 (sections are its).
 *
 * A model of the path: the most bandwidth seen in this and the last probing cycle (max_bw), the least RTT of
 * 10 s (min_rtt), bounds on what may be in flight: inflight_longterm, where probing found too much loss, and
 * the short-term bounds bw_shortterm and inflight_shortterm, cut by 0.7 in each round with a loss that
 * happens while not probing and forgotten at the next probe. From it come pacing rate = pacing gain x
 * min(max_bw, bw_shortterm) less 1 % cwnd       <= cwnd gain x BDP + aggregation, within the bounds and a
 * cycle of states (Startup, Drain, then DOWN, CRUISE, REFILL, UP, with ProbeRTT now and then) that picks
 * gains.
 *
 * Bandwidth counts in segments a microsecond, shifted by 24, as in Linux; gains in 1/256; durations in ms or
 * us of a clock that wraps, so that only differences are taken. Infinity is UINT32_MAX.
 *
 * What deviates from the draft, and why:
 *   - units are segments; has_selective_acks is w->sack_ok;
 *   - the first RTT sample sets the pacing rate anew (as Linux): the nominal 1 ms would leave Startup unpaced;
 *   - IsTimeToGoDown compares what was in flight before the ACK: just after one it never reaches the window;
 *   - undo state is saved once for a loss episode, at its first loss: a second save, on entering recovery, would
 *     store bounds that the episode has already cut;
 *   - Startup counts ACKs that brought losses for "discontiguous ranges", as Linux;
 *   - ECN: the draft asks that a CE mark be treated as congestion: here like a lost segment;
 *   - the aggregation filter is two slots of five rounds instead of an exact window of ten, as Linux;
 *   - noise (CC_OPT_BBR_NOISE, tcp_bbr_noise, on by default): one loss and 2 % of what was in flight, in a round
 *     or in the flight of a probe, are no congestion; the draft judges a single loss in less than 50 so;
 *   - pkt_lost need not be called: then losses of the ACK are judged by what was in flight before it.
 *
 * Wants cong_control, ssthresh, undo_cwnd, set_state, TX_START, if possible pkt_lost; asks for pacing.
 */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "cc/bbr.h"

#define INFINITE            UINT32_MAX
#define BW_SHIFT            24
#define GAIN_SHIFT          8
#define GAIN(percent)       ((percent)*256u / 100u)
#define MARGIN_PERCENT      1u
#define MIN_PIPE_CWND       4u
#define LOSS_THRESH_PERCENT 2u
#define BETA_NUM            7u /* / 10 */
#define FULL_LOSS_CNT       6u
#define MIN_RTT_WINDOW_MS   10000u
#define PROBE_RTT_EVERY_MS  5000u
#define PROBE_RTT_MS        200u
#define PROBE_WAIT_MS       2000u
#define EXTRA_ACKED_ROUNDS  5u /* x 2 slots */
#define RENO_ROUNDS_MAX     63u
#define RTT_MAX_US          (1u << 27) /* keeps bw x rtt x gain within 64 bits */
#define MSS_DEFAULT         1448u
#define NOISE_SEGS          1u /* with CC_OPT_BBR_NOISE */

enum ack_phase { ACKS_INIT, ACKS_REFILLING, ACKS_PROBE_STARTING, ACKS_PROBE_FEEDBACK, ACKS_PROBE_STOPPING };
enum undo_state { UNDO_NONE, UNDO_STARTUP, UNDO_UP };

struct bbr {
    uint32_t min_rtt_us, min_rtt_at_ms;
    uint32_t probe_rtt_min_us, probe_rtt_min_at_ms;
    uint32_t probe_rtt_since_ms;
    uint32_t max_bw[2]; /* last cycle, this cycle */
    uint32_t bw_latest, bw_shortterm, full_bw;
    uint32_t inflight_latest, inflight_shortterm, inflight_longterm;
    uint32_t next_round_delivered, loss_round_delivered;
    uint32_t probe_up_acked_per_inc, bw_probe_up_acked;
    uint32_t cycle_at_ms;
    uint32_t extra_at_us, extra_delivered;
    uint32_t random;
    uint32_t lost_in_round;
    uint16_t bw_probe_wait_ms;
    uint8_t bw_probe_up_rounds, rounds_since_probe_up;
    uint8_t extra_rounds, drain_rounds, loss_events, full_bw_count;
    uint8_t state : 3, ack_phase : 3, undo : 2;
    bool full_bw_reached : 1, full_bw_now : 1, round_start : 1, loss_round_start : 1;
    bool loss_in_round : 1, probe_sample : 1, probe_too_high : 1, probe_precautionary : 1;
    bool idle_restart : 1, probe_rtt_expired : 1, probe_rtt_holding : 1, probe_rtt_round_done : 1;
    bool has_seen_rtt : 1, saw_pkt_lost : 1;

    /* zero after a restart of the daemon, which is right for all of these */
    uint32_t prior_cwnd;
    uint32_t lost_tx_in_flight; /* most in flight when something was sent that counts in lost_in_round */
    uint32_t undo_bw_shortterm, undo_inflight_shortterm, undo_inflight_longterm;
    uint32_t extra_acked[2];
};

static_assert(offsetof(struct bbr, prior_cwnd) <= CC_STATE_SAVED_BYTES, "what must survive is saved");
static_assert(sizeof(struct bbr) <= CC_STATE_BYTES, "fits");

/* Section 5.1, the table of 5.6.1: what a state does to rate and volume, in 1/256. */
static const struct {
    const char *name;
    uint16_t pacing_gain, cwnd_gain;
} gains[] = {
    [BBR_STARTUP] = {"Startup", GAIN(277) + 1, GAIN(200)}, /* 4 ln 2, not less */
    [BBR_DRAIN] = {"Drain", GAIN(50), GAIN(200)},
    [BBR_DOWN] = {"ProbeBW_DOWN", GAIN(90), GAIN(200)},
    [BBR_CRUISE] = {"ProbeBW_CRUISE", GAIN(100), GAIN(200)},
    [BBR_REFILL] = {"ProbeBW_REFILL", GAIN(100), GAIN(200)},
    [BBR_UP] = {"ProbeBW_UP", GAIN(125), GAIN(225)},
    [BBR_PROBE_RTT] = {"ProbeRTT", GAIN(100), GAIN(50)},
};

static_assert(sizeof gains / sizeof gains[0] == BBR_PROBE_RTT + 1, "a row for each state");

/* One ACK on its way through the model. */
struct step {
    struct cc_window *w;
    const struct cc_rate_sample *rs;
    uint64_t now;
    uint32_t bw; /* of the sample, 0: none */
    bool has_data;
};

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t cap_u32(uint64_t x)
{
    return x > UINT32_MAX ? UINT32_MAX : (uint32_t)x;
}

static uint32_t times_beta(uint32_t x)
{
    return (uint32_t)((uint64_t)x * BETA_NUM / 10);
}

static uint32_t ms(uint64_t now)
{
    return (uint32_t)(now / NSEC_PER_MSEC);
}

static uint32_t us(uint64_t now)
{
    return (uint32_t)(now / NSEC_PER_USEC);
}

static uint32_t segment_bytes(const struct cc_window *w)
{
    return w->mss ? w->mss : MSS_DEFAULT;
}

static uint32_t initial_cwnd(const struct cc_window *w)
{
    return w->init_cwnd ? w->init_cwnd : 10;
}

/* xorshift32; never 0. */
static uint32_t random_below(struct bbr *b, uint32_t bound)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 17;
    b->random ^= b->random << 5;
    return b->random % bound;
}

/* ---- the model in numbers ---------------------------------------------------------------------------- */

static uint32_t max_bw(const struct bbr *b)
{
    return max_u32(b->max_bw[0], b->max_bw[1]);
}

/* BoundBWForModel. */
static uint32_t bounded_bw(const struct bbr *b)
{
    return min_u32(max_bw(b), b->bw_shortterm);
}

static uint64_t bytes_per_second(const struct cc_window *w, uint32_t bw, uint32_t gain, uint32_t percent)
{
    uint64_t rate = ((uint64_t)bw * segment_bytes(w) * gain) >> GAIN_SHIFT, per = 10000u * percent;

    return (rate > UINT64_MAX / per ? UINT64_MAX : rate * per) >> BW_SHIFT;
}

/* BDPMultiple (section 5.6.4.2), rounded up. */
static uint32_t bdp_multiple(const struct bbr *b, const struct cc_window *w, uint32_t bw, uint32_t gain)
{
    uint64_t volume;

    if (b->min_rtt_us == INFINITE || bw == 0)
        return initial_cwnd(w);
    volume = (((uint64_t)bw * min_u32(b->min_rtt_us, RTT_MAX_US)) >> GAIN_SHIFT) * gain;
    return cap_u32((volume + (1u << BW_SHIFT) - 1) >> BW_SHIFT);
}

/* SetSendQuantum (section 5.6.3): about a millisecond, at least two segments, at most 64 KB. */
static uint32_t send_quantum(const struct cc_window *w)
{
    uint64_t bytes = w->pacing_rate / 1000;

    if (bytes > 65536)
        bytes = 65536;
    return max_u32((uint32_t)bytes / segment_bytes(w), 2);
}

static uint32_t quantization_budget(const struct bbr *b, const struct cc_window *w, uint32_t inflight)
{
    inflight = max_u32(inflight, 3 * send_quantum(w));
    inflight = max_u32(inflight, MIN_PIPE_CWND);
    return b->state == BBR_UP && inflight < INFINITE - 2 ? inflight + 2 : inflight;
}

static uint32_t bdp_inflight(const struct bbr *b, const struct cc_window *w, uint32_t bw)
{
    return quantization_budget(b, w, bdp_multiple(b, w, bw, GAIN(100)));
}

/* TargetInflight. */
static uint32_t target_inflight(const struct bbr *b, const struct cc_window *w)
{
    return min_u32(bdp_multiple(b, w, bounded_bw(b), GAIN(100)), w->cwnd);
}

/* InflightWithHeadroom: 15 % of the bound is left to others. */
static uint32_t inflight_with_headroom(const struct bbr *b)
{
    uint32_t headroom;

    if (b->inflight_longterm == INFINITE)
        return INFINITE;
    headroom = max_u32((uint32_t)((uint64_t)b->inflight_longterm * 15 / 100), 1);
    return b->inflight_longterm > headroom + MIN_PIPE_CWND ? b->inflight_longterm - headroom : MIN_PIPE_CWND;
}

static uint32_t probe_rtt_cwnd(const struct bbr *b, const struct cc_window *w)
{
    return max_u32(bdp_multiple(b, w, bounded_bw(b), gains[BBR_PROBE_RTT].cwnd_gain), MIN_PIPE_CWND);
}

static bool in_probe_bw(const struct bbr *b)
{
    return b->state == BBR_DOWN || b->state == BBR_CRUISE || b->state == BBR_REFILL || b->state == BBR_UP;
}

/* IsProbingBW. */
static bool is_probing(const struct bbr *b)
{
    return b->state == BBR_STARTUP || b->state == BBR_REFILL || b->state == BBR_UP;
}

/* ---- pacing ------------------------------------------------------------------------------------------ */

/* InitPacingRate (section 5.6.2); again with the first RTT. */
static void init_pacing_rate(struct bbr *b, struct cc_window *w)
{
    uint32_t rtt_us = w->srtt_us ? w->srtt_us : 1000;
    uint64_t bw = ((uint64_t)max_u32(w->cwnd, initial_cwnd(w)) << BW_SHIFT) / rtt_us;

    b->has_seen_rtt = w->srtt_us > 0;
    w->pacing_rate = bytes_per_second(w, cap_u32(bw), gains[BBR_STARTUP].pacing_gain, 100);
}

/*
 * What keeps the smallest window moving, where that much was ever measured. The draft has no lower end: a short-term bound that
 * was never raised, or fell by 0.7 too often, would end below a byte a second, and the gate would stay closed for minutes.
 */
static uint32_t min_pipe_bw(const struct bbr *b, const struct cc_window *w)
{
    uint64_t bw = w->srtt_us ? ((uint64_t)MIN_PIPE_CWND << BW_SHIFT) / w->srtt_us : 0;

    return min_u32(cap_u32(bw), max_bw(b));
}

static void set_pacing_rate(struct bbr *b, struct cc_window *w, uint32_t gain)
{
    uint64_t rate = bytes_per_second(w, max_u32(bounded_bw(b), min_pipe_bw(b, w)), gain, 100 - MARGIN_PERCENT);

    if (!b->has_seen_rtt && w->srtt_us)
        init_pacing_rate(b, w);
    if (max_bw(b) == 0)
        return;
    if (b->full_bw_reached || rate > w->pacing_rate)
        w->pacing_rate = rate ? rate : 1;
}

/* ---- states (section 5.3) ---------------------------------------------------------------------------- */

static void start_round(struct bbr *b, const struct cc_window *w)
{
    b->next_round_delivered = w->delivered;
}

static void reset_full_bw(struct bbr *b, uint32_t baseline)
{
    b->full_bw = baseline;
    b->full_bw_count = 0;
    b->full_bw_now = false;
}

static void reset_short_term_model(struct bbr *b)
{
    b->bw_shortterm = INFINITE;
    b->inflight_shortterm = INFINITE;
}

static void enter_startup(struct bbr *b)
{
    b->state = BBR_STARTUP;
}

/* PickProbeWait: a round or none, 2 to 3 s. */
static void pick_probe_wait(struct bbr *b)
{
    b->rounds_since_probe_up = (uint8_t)random_below(b, 2);
    b->bw_probe_wait_ms = (uint16_t)(PROBE_WAIT_MS + random_below(b, 1000));
}

static void forget_round_losses(struct bbr *b)
{
    b->loss_in_round = false;
    b->lost_in_round = 0;
    b->lost_tx_in_flight = 0;
}

static void start_down(struct bbr *b, const struct cc_window *w, uint64_t now)
{
    forget_round_losses(b);
    b->bw_latest = 0;
    b->inflight_latest = 0;
    b->probe_up_acked_per_inc = INFINITE;
    pick_probe_wait(b);
    b->cycle_at_ms = ms(now);
    b->ack_phase = ACKS_PROBE_STOPPING;
    start_round(b, w);
    b->state = BBR_DOWN;
}

static void start_refill(struct bbr *b, const struct cc_window *w)
{
    reset_short_term_model(b);
    b->bw_probe_up_rounds = 0;
    b->bw_probe_up_acked = 0;
    b->probe_precautionary = false;
    b->ack_phase = ACKS_REFILLING;
    start_round(b, w);
    b->state = BBR_REFILL;
}

/* RaiseInflightLongtermSlope: twice as steep each round. */
static void raise_slope(struct bbr *b, const struct cc_window *w)
{
    uint32_t growth = 1u << b->bw_probe_up_rounds;

    if (b->bw_probe_up_rounds < 30)
        b->bw_probe_up_rounds++;
    b->probe_up_acked_per_inc = max_u32(w->cwnd / growth, 1);
}

static void start_up(struct bbr *b, const struct step *st)
{
    b->ack_phase = ACKS_PROBE_STARTING;
    start_round(b, st->w);
    reset_full_bw(b, st->bw);
    b->state = BBR_UP;
    raise_slope(b, st->w);
}

static void enter_drain(struct bbr *b)
{
    b->state = BBR_DRAIN;
    b->drain_rounds = 0;
}

/* ---- loss (sections 5.5.10 and 5.5.11) --------------------------------------------------------------- */

static void save_cwnd(struct bbr *b, const struct cc_window *w)
{
    if (w->ca_state < CC_CA_RECOVERY && b->state != BBR_PROBE_RTT)
        b->prior_cwnd = w->cwnd;
    else
        b->prior_cwnd = max_u32(b->prior_cwnd, w->cwnd);
}

static void note_loss(struct bbr *b, const struct cc_window *w)
{
    if (b->loss_in_round)
        return;
    b->loss_in_round = true;
    b->loss_round_delivered = w->delivered;
    save_cwnd(b, w);
    if (w->ca_state >= CC_CA_RECOVERY)
        return; /* saved when this episode began */
    b->undo = UNDO_NONE;
    b->undo_bw_shortterm = b->bw_shortterm;
    b->undo_inflight_shortterm = b->inflight_shortterm;
    b->undo_inflight_longterm = b->inflight_longterm;
}

/*
 * CC_OPT_BBR_NOISE: losses that random noise explains. The draft lets a single loss in a window of less than
 * 50, or in each of many rounds, ratchet the bounds down: at 1 % of random loss that costs a third of the
 * rate.
 */
static bool is_noise(const struct cc_window *w, uint32_t lost, uint32_t of)
{
    return (w->options & CC_OPT_BBR_NOISE) && w->sack_ok &&
           (uint64_t)lost * 100 <= NOISE_SEGS * 100 + (uint64_t)of * LOSS_THRESH_PERCENT;
}

/* IsInflightTooHigh: more than 2 % of what was in flight. */
static bool too_high(const struct cc_window *w, uint32_t lost, uint32_t tx_in_flight)
{
    if (is_noise(w, lost, tx_in_flight))
        return false;
    return (uint64_t)lost * 100 > (uint64_t)tx_in_flight * LOSS_THRESH_PERCENT || (lost > 0 && !w->sack_ok);
}

static void handle_inflight_too_high(struct bbr *b, const struct cc_window *w, uint32_t inflight,
                                     bool is_app_limited, uint64_t now)
{
    b->probe_too_high = true;
    b->probe_sample = false; /* once for a probe */
    if (!is_app_limited)
        b->inflight_longterm = max_u32(max_u32(inflight, times_beta(target_inflight(b, w))), MIN_PIPE_CWND);
    if (b->state == BBR_UP) {
        b->undo = UNDO_UP;
        start_down(b, w, now);
    }
}

/* InflightAtLoss: where within the lost descriptor the losses crossed 2 %. */
static uint32_t inflight_at_loss(uint32_t tx_in_flight, uint32_t lost, uint32_t segs)
{
    int64_t inflight_prev = (int64_t)tx_in_flight - segs, lost_prev = (int64_t)lost - segs, prefix;

    if (inflight_prev < 0)
        return tx_in_flight;
    if (lost_prev < 0)
        lost_prev = 0;
    prefix = ((int64_t)LOSS_THRESH_PERCENT * inflight_prev - 100 * lost_prev) /
             (100 - (int64_t)LOSS_THRESH_PERCENT);
    return (uint32_t)(inflight_prev + (prefix > 0 ? prefix : 0));
}

static void lost_segments(struct bbr *b, const struct cc_window *w, const struct cc_lost *l, uint64_t now)
{
    uint32_t lost = w->lost - l->tx_lost;

    note_loss(b, w);
    b->lost_in_round = cap_u32((uint64_t)b->lost_in_round + l->segs);
    b->lost_tx_in_flight = max_u32(b->lost_tx_in_flight, l->tx_in_flight);
    if (!b->probe_sample || !too_high(w, lost, l->tx_in_flight))
        return;
    handle_inflight_too_high(b, w, inflight_at_loss(l->tx_in_flight, lost, l->segs), l->is_app_limited, now);
}

static void bbr_pkt_lost(void *state, struct cc_window *w, const struct cc_lost *lost, uint64_t now)
{
    struct bbr *b = state;

    if (lost->tx_in_flight == 0)
        return;
    b->saw_pkt_lost = true;
    lost_segments(b, w, lost, now);
}

/* CE marks, and losses of an engine that does not name what it lost. */
static void congestion_of_ack(struct bbr *b, const struct step *st)
{
    const struct cc_rate_sample *rs = st->rs;
    uint32_t marked = rs->delivered_ce > 0 ? (uint32_t)rs->delivered_ce : 0;
    struct cc_lost l = {.segs = rs->losses,
                        .tx_in_flight = rs->prior_in_flight,
                        .tx_lost = st->w->lost - rs->losses,
                        .is_app_limited = rs->is_app_limited};

    if (rs->losses > 0 && !b->saw_pkt_lost)
        lost_segments(b, st->w, &l, st->now);
    b->saw_pkt_lost = false;
    if (marked == 0)
        return;
    note_loss(b, st->w);
    b->lost_in_round = INFINITE; /* no noise makes marks */
    if (b->probe_sample && too_high(st->w, marked, rs->prior_in_flight))
        handle_inflight_too_high(b, st->w, rs->prior_in_flight, rs->is_app_limited, st->now);
}

static uint32_t sample_tx_in_flight(const struct cc_rate_sample *rs)
{
    return rs->tx_in_flight ? rs->tx_in_flight : rs->prior_in_flight;
}

static bool sample_too_high(const struct step *st)
{
    const struct cc_rate_sample *rs = st->rs;
    uint32_t marked = rs->delivered_ce > 0 ? (uint32_t)rs->delivered_ce : 0;

    return too_high(st->w, max_u32(rs->lost, rs->losses) + marked, sample_tx_in_flight(rs));
}

/* ---- updating the model (section 5.5) ---------------------------------------------------------------- */

static void update_round(struct bbr *b, const struct step *st)
{
    const struct cc_window *w = st->w;

    if ((int32_t)(b->next_round_delivered - w->delivered) > 0) /* counters began anew */
        b->next_round_delivered = b->loss_round_delivered = w->delivered;
    b->round_start = st->has_data && (int32_t)(st->rs->prior_delivered - b->next_round_delivered) >= 0;
    if (!b->round_start)
        return;
    start_round(b, w);
    if (b->rounds_since_probe_up < UINT8_MAX)
        b->rounds_since_probe_up++;
    if (b->drain_rounds < UINT8_MAX)
        b->drain_rounds++;
}

static void update_latest_signals(struct bbr *b, const struct step *st)
{
    b->loss_round_start = false;
    if (!st->has_data)
        return;
    b->bw_latest = max_u32(b->bw_latest, st->bw);
    b->inflight_latest = max_u32(b->inflight_latest, (uint32_t)st->rs->delivered);
    if ((int32_t)(st->rs->prior_delivered - b->loss_round_delivered) >= 0) {
        b->loss_round_delivered = st->w->delivered;
        b->loss_round_start = true;
    }
}

static void advance_latest_signals(struct bbr *b, const struct step *st)
{
    if (!b->loss_round_start)
        return;
    b->bw_latest = st->bw;
    b->inflight_latest = (uint32_t)st->rs->delivered;
}

static void update_max_bw(struct bbr *b, const struct step *st)
{
    update_round(b, st);
    if (st->bw > 0 && (st->bw >= max_bw(b) || !st->rs->is_app_limited))
        b->max_bw[1] = max_u32(b->max_bw[1], st->bw);
}

static void advance_max_bw_filter(struct bbr *b)
{
    if (b->max_bw[1] == 0)
        return; /* nothing measured in this cycle: keep what is known */
    b->max_bw[0] = b->max_bw[1];
    b->max_bw[1] = 0;
}

/* Once a round with loss, unless probing: the short-term bounds fall (section 5.5.10.3). */
static void adapt_lower_bounds(struct bbr *b, const struct cc_window *w)
{
    if (is_probing(b) || !b->loss_in_round ||
        is_noise(w, b->lost_in_round, max_u32(b->lost_tx_in_flight, b->inflight_latest)))
        return;
    if (b->bw_shortterm == INFINITE)
        b->bw_shortterm = max_bw(b);
    if (b->inflight_shortterm == INFINITE)
        b->inflight_shortterm = w->cwnd;
    b->bw_shortterm = max_u32(b->bw_latest, times_beta(b->bw_shortterm));
    b->inflight_shortterm = max_u32(b->inflight_latest, times_beta(b->inflight_shortterm));
}

/* CheckStartupHighLoss (section 5.3.1.3), at the end of a round. */
static void check_startup_high_loss(struct bbr *b, const struct step *st)
{
    const struct cc_window *w = st->w;
    bool recovering = w->ca_state == CC_CA_RECOVERY || w->ca_state == CC_CA_CWR;
    bool enough = b->loss_events >= (w->sack_ok ? FULL_LOSS_CNT : 1);

    if (b->full_bw_reached || !recovering || !enough || !sample_too_high(st))
        return;
    b->full_bw_reached = true;
    b->undo = UNDO_STARTUP;
    b->inflight_longterm = max_u32(bdp_multiple(b, w, bounded_bw(b), GAIN(100)), b->inflight_latest);
}

static void update_congestion_signals(struct bbr *b, const struct step *st)
{
    update_max_bw(b, st);
    if ((st->rs->losses > 0 || st->rs->delivered_ce > 0) && b->loss_events < UINT8_MAX)
        b->loss_events++;
    if (!b->loss_round_start)
        return;
    check_startup_high_loss(b, st);
    adapt_lower_bounds(b, st->w);
    forget_round_losses(b);
    b->loss_events = 0;
}

/* UpdateACKAggregation (section 5.5.9). */
static void update_ack_aggregation(struct bbr *b, const struct step *st)
{
    uint64_t expected = (uint64_t)bounded_bw(b) * (us(st->now) - b->extra_at_us) >> BW_SHIFT, extra;

    if (st->rs->acked_sacked == 0)
        return;
    if (b->round_start && ++b->extra_rounds >= (b->full_bw_reached ? EXTRA_ACKED_ROUNDS : 1)) {
        b->extra_rounds = 0;
        b->extra_acked[0] = b->extra_acked[1];
        b->extra_acked[1] = 0;
    }
    if (b->extra_delivered <= expected) {
        b->extra_delivered = 0;
        b->extra_at_us = us(st->now);
        expected = 0;
    }
    b->extra_delivered = cap_u32((uint64_t)b->extra_delivered + st->rs->acked_sacked);
    extra = b->extra_delivered - expected;
    b->extra_acked[1] = max_u32(b->extra_acked[1], min_u32(cap_u32(extra), st->w->cwnd));
}

/* CheckFullBWReached: three rounds without a quarter more. */
static void check_full_bw(struct bbr *b, const struct step *st)
{
    if (b->full_bw_now || !b->round_start || st->rs->is_app_limited || st->bw == 0)
        return;
    if (st->bw >= (uint64_t)b->full_bw * 5 / 4) {
        reset_full_bw(b, st->bw);
        return;
    }
    b->full_bw_count++;
    b->full_bw_now = b->full_bw_count >= 3;
    if (b->full_bw_now)
        b->full_bw_reached = true;
}

static void update_min_rtt(struct bbr *b, const struct step *st)
{
    uint32_t now_ms = ms(st->now);
    bool expired;

    b->probe_rtt_expired = now_ms - b->probe_rtt_min_at_ms > PROBE_RTT_EVERY_MS;
    if (st->rs->rtt_us >= 0 && ((uint64_t)st->rs->rtt_us < b->probe_rtt_min_us ||
                                (b->probe_rtt_expired && !st->rs->is_ack_delayed))) {
        b->probe_rtt_min_us = max_u32(cap_u32((uint64_t)st->rs->rtt_us), 1);
        b->probe_rtt_min_at_ms = now_ms;
    }
    expired = now_ms - b->min_rtt_at_ms > MIN_RTT_WINDOW_MS;
    if (b->probe_rtt_min_us < b->min_rtt_us || expired) {
        b->min_rtt_us = b->probe_rtt_min_us;
        b->min_rtt_at_ms = b->probe_rtt_min_at_ms;
    }
}

/* ---- the cycle (section 5.3.3) ----------------------------------------------------------------------- */

/* Waited long enough, or so many rounds that a Reno flow of this size would have filled its window again. */
static bool start_probe_in_time(struct bbr *b, const struct step *st)
{
    uint32_t rounds = min_u32(target_inflight(b, st->w), RENO_ROUNDS_MAX);

    if (ms(st->now) - b->cycle_at_ms <= b->bw_probe_wait_ms && b->rounds_since_probe_up < rounds)
        return false;
    start_refill(b, st->w);
    return true;
}

static bool is_time_to_cruise(const struct bbr *b, const struct cc_window *w)
{
    return w->in_flight <= inflight_with_headroom(b) && w->in_flight <= bdp_inflight(b, w, max_bw(b));
}

static bool is_time_to_go_down(struct bbr *b, const struct step *st)
{
    if (b->probe_too_high && st->rs->prior_in_flight >= b->inflight_longterm) {
        b->probe_precautionary = true;
        return true;
    }
    if (st->rs->cwnd_limited && st->w->cwnd >= b->inflight_longterm)
        reset_full_bw(b, st->bw); /* the bound is what limits it */
    else if (b->full_bw_now)
        return true;
    return false;
}

static void probe_longterm_upward(struct bbr *b, const struct step *st)
{
    uint32_t steps;

    if (!st->rs->cwnd_limited || st->w->cwnd < b->inflight_longterm)
        return;
    b->bw_probe_up_acked = cap_u32((uint64_t)b->bw_probe_up_acked + st->rs->acked_sacked);
    if (b->bw_probe_up_acked >= b->probe_up_acked_per_inc) {
        steps = b->bw_probe_up_acked / b->probe_up_acked_per_inc;
        b->bw_probe_up_acked -= steps * b->probe_up_acked_per_inc;
        b->inflight_longterm = cap_u32((uint64_t)b->inflight_longterm + steps);
    }
    if (b->round_start)
        raise_slope(b, st->w);
}

/* AdaptLongTermModel: true if it changed the state. */
static bool adapt_long_term_model(struct bbr *b, const struct step *st)
{
    if (b->ack_phase == ACKS_PROBE_STARTING && b->round_start)
        b->ack_phase = ACKS_PROBE_FEEDBACK;
    if (b->ack_phase == ACKS_PROBE_STOPPING && b->round_start) {
        b->probe_sample = false;
        b->ack_phase = ACKS_INIT;
        if (in_probe_bw(b) && !st->rs->is_app_limited)
            advance_max_bw_filter(b);
        if (in_probe_bw(b) && b->probe_precautionary && !b->probe_too_high) {
            start_refill(b, st->w);
            return true;
        }
    }
    if (sample_too_high(st) || b->inflight_longterm == INFINITE)
        return false;
    if (sample_tx_in_flight(st->rs) > b->inflight_longterm)
        b->inflight_longterm = sample_tx_in_flight(st->rs);
    if (b->state == BBR_UP)
        probe_longterm_upward(b, st);
    return false;
}

static void update_cycle_phase(struct bbr *b, const struct step *st)
{
    if (!b->full_bw_reached || adapt_long_term_model(b, st))
        return;
    switch (b->state) {
    case BBR_DOWN:
        if (!start_probe_in_time(b, st) && is_time_to_cruise(b, st->w))
            b->state = BBR_CRUISE;
        break;
    case BBR_CRUISE:
        start_probe_in_time(b, st);
        break;
    case BBR_REFILL:
        if (b->round_start) {
            b->probe_sample = true;
            start_up(b, st);
        }
        break;
    case BBR_UP:
        if (is_time_to_go_down(b, st)) {
            b->probe_too_high = false;
            start_down(b, st->w, st->now);
        }
        break;
    default:
        break;
    }
}

static void check_startup_and_drain(struct bbr *b, const struct step *st)
{
    if (b->state == BBR_STARTUP && b->full_bw_reached)
        enter_drain(b);
    if (b->state == BBR_DRAIN &&
        (st->w->in_flight <= bdp_inflight(b, st->w, bounded_bw(b)) || b->drain_rounds > 3))
        start_down(b, st->w, st->now);
}

/* ---- ProbeRTT (section 5.3.4) ------------------------------------------------------------------------ */

static void exit_probe_rtt(struct bbr *b, const struct cc_window *w, uint64_t now)
{
    reset_short_term_model(b);
    if (b->full_bw_reached) {
        start_down(b, w, now);
        b->state = BBR_CRUISE;
    } else {
        enter_startup(b);
    }
}

static void check_probe_rtt_done(struct bbr *b, struct cc_window *w, uint64_t now)
{
    if (!b->probe_rtt_holding || ms(now) - b->probe_rtt_since_ms <= PROBE_RTT_MS)
        return;
    b->probe_rtt_min_at_ms = ms(now);
    w->cwnd = max_u32(w->cwnd, b->prior_cwnd);
    exit_probe_rtt(b, w, now);
}

static void handle_probe_rtt(struct bbr *b, const struct step *st)
{
    struct cc_window *w = st->w;

    w->app_limited = max_u32(w->delivered + w->in_flight, 1); /* samples from here on say nothing */
    if (!b->probe_rtt_holding) {
        if (w->in_flight > probe_rtt_cwnd(b, w))
            return;
        b->probe_rtt_holding = true;
        b->probe_rtt_since_ms = ms(st->now);
        b->probe_rtt_round_done = false;
        start_round(b, w);
        return;
    }
    if (b->round_start)
        b->probe_rtt_round_done = true;
    if (b->probe_rtt_round_done)
        check_probe_rtt_done(b, w, st->now);
}

static void check_probe_rtt(struct bbr *b, const struct step *st)
{
    if (b->state != BBR_PROBE_RTT && b->probe_rtt_expired && !b->idle_restart) {
        save_cwnd(b, st->w);
        b->state = BBR_PROBE_RTT;
        b->probe_rtt_holding = false;
        b->ack_phase = ACKS_PROBE_STOPPING;
        start_round(b, st->w);
    }
    if (b->state == BBR_PROBE_RTT)
        handle_probe_rtt(b, st);
    if (st->rs->delivered > 0)
        b->idle_restart = false;
}

/* ---- cwnd (section 5.6.4) ---------------------------------------------------------------------------- */

static uint32_t max_inflight(const struct bbr *b, const struct cc_window *w)
{
    uint64_t inflight = bdp_multiple(b, w, bounded_bw(b), gains[b->state].cwnd_gain);

    inflight += max_u32(b->extra_acked[0], b->extra_acked[1]);
    return quantization_budget(b, w, cap_u32(inflight));
}

static uint32_t model_cap(const struct bbr *b)
{
    uint32_t cap = INFINITE;

    if (b->state == BBR_CRUISE || b->state == BBR_PROBE_RTT)
        cap = inflight_with_headroom(b);
    else if (in_probe_bw(b))
        cap = b->inflight_longterm;
    return max_u32(min_u32(cap, b->inflight_shortterm), MIN_PIPE_CWND);
}

static void set_cwnd(const struct bbr *b, const struct step *st)
{
    struct cc_window *w = st->w;
    uint32_t most = max_inflight(b, w), cwnd = cap_u32((uint64_t)w->cwnd + st->rs->acked_sacked);

    if (b->full_bw_reached)
        w->cwnd = min_u32(cwnd, most);
    else if (w->cwnd < most || w->delivered < initial_cwnd(w))
        w->cwnd = cwnd;
    w->cwnd = max_u32(w->cwnd, MIN_PIPE_CWND);
    if (b->state == BBR_PROBE_RTT)
        w->cwnd = min_u32(w->cwnd, probe_rtt_cwnd(b, w));
    w->cwnd = min_u32(min_u32(w->cwnd, model_cap(b)), w->cwnd_clamp);
}

/* ---- the table --------------------------------------------------------------------------------------- */

static void bbr_init(void *state, struct cc_window *w, uint64_t now)
{
    struct bbr *b = state;

    *b = (struct bbr){
        .min_rtt_us = w->srtt_us ? w->srtt_us : INFINITE,
        .min_rtt_at_ms = ms(now),
        .probe_rtt_min_at_ms = ms(now),
        .inflight_longterm = INFINITE,
        .probe_up_acked_per_inc = INFINITE,
        .extra_at_us = us(now),
        .cycle_at_ms = ms(now),
        .random = w->seed | 1,
        .state = BBR_STARTUP,
        .loss_round_delivered = w->delivered,
        .next_round_delivered = w->delivered,
    };
    b->probe_rtt_min_us = b->min_rtt_us;
    reset_short_term_model(b);
    w->ssthresh = CC_SSTHRESH_INFINITE;
    init_pacing_rate(b, w);
}

static uint32_t sample_bw(const struct cc_rate_sample *rs)
{
    if (rs->delivered <= 0 || rs->interval_us <= 0)
        return 0;
    return cap_u32(((uint64_t)rs->delivered << BW_SHIFT) / (uint64_t)rs->interval_us);
}

/* UpdateOnACK (section 5.2.3). */
static void bbr_cong_control(void *state, struct cc_window *w, const struct cc_rate_sample *rs, uint64_t now)
{
    struct bbr *b = state;
    struct step st = {.w = w, .rs = rs, .now = now, .bw = sample_bw(rs), .has_data = rs->delivered >= 0};

    congestion_of_ack(b, &st);
    update_latest_signals(b, &st);
    update_congestion_signals(b, &st);
    update_ack_aggregation(b, &st);
    check_full_bw(b, &st);
    check_startup_and_drain(b, &st);
    update_cycle_phase(b, &st);
    update_min_rtt(b, &st);
    check_probe_rtt(b, &st);
    advance_latest_signals(b, &st);
    set_pacing_rate(b, w, gains[b->state].pacing_gain);
    set_cwnd(b, &st);
}

/* The model bounds sending, not ssthresh; but cwnd comes back when recovery is over. */
static uint32_t bbr_ssthresh(void *state, const struct cc_window *w, uint32_t in_flight)
{
    struct bbr *b = state;

    (void)in_flight;
    note_loss(b, w);
    save_cwnd(b, w);
    return w->ssthresh;
}

/* HandleSpuriousLossDetection (section 5.5.11.2). */
static uint32_t bbr_undo_cwnd(void *state, const struct cc_window *w, uint32_t prior_cwnd)
{
    struct bbr *b = state;

    (void)prior_cwnd;
    forget_round_losses(b);
    reset_full_bw(b, 0);
    b->bw_shortterm = max_u32(b->bw_shortterm, b->undo_bw_shortterm);
    b->inflight_shortterm = max_u32(b->inflight_shortterm, b->undo_inflight_shortterm);
    b->inflight_longterm = max_u32(b->inflight_longterm, b->undo_inflight_longterm);
    if (b->undo == UNDO_STARTUP && b->state != BBR_STARTUP) {
        b->full_bw_reached = false;
        if (b->state != BBR_PROBE_RTT)
            enter_startup(b);
    } else if (b->undo == UNDO_UP && b->state != BBR_UP && b->state != BBR_PROBE_RTT) {
        start_refill(b, w);
    }
    b->undo = UNDO_NONE;
    return max_u32(w->cwnd, b->prior_cwnd);
}

static void bbr_set_state(void *state, struct cc_window *w, enum cc_ca_state new_state, uint64_t now)
{
    struct bbr *b = state;

    (void)now;
    if (new_state == CC_CA_LOSS)
        reset_full_bw(b, 0); /* what was measured may be no more */
    else if (new_state < CC_CA_RECOVERY && w->ca_state >= CC_CA_RECOVERY)
        w->cwnd = max_u32(w->cwnd, b->prior_cwnd);
}

/* HandleRestartFromIdle (section 5.4.1). */
static void bbr_event(void *state, struct cc_window *w, enum cc_event event, uint64_t now)
{
    struct bbr *b = state;

    if (event != CC_EVENT_TX_START || w->app_limited == 0)
        return;
    b->idle_restart = true;
    b->extra_at_us = us(now);
    b->extra_delivered = 0;
    if (in_probe_bw(b))
        set_pacing_rate(b, w, GAIN(100));
    else if (b->state == BBR_PROBE_RTT)
        check_probe_rtt_done(b, w, now);
}

static uint32_t bbr_min_tso_segs(const void *state, const struct cc_window *w)
{
    (void)state;
    return w->pacing_rate < 150000 ? 1 : 2; /* 1.2 Mbit/s, as Linux */
}

/* Twice the BDP in flight and as much to retransmit. */
static uint32_t bbr_sndbuf_expand(const void *state, const struct cc_window *w)
{
    (void)state;
    (void)w;
    return 3;
}

void bbr_info(const void *state, const struct cc_window *w, struct bbr_info *ret_info)
{
    const struct bbr *b = state;

    *ret_info = (struct bbr_info){
        .state = (enum bbr_state)b->state,
        .bw = bytes_per_second(w, bounded_bw(b), GAIN(100), 100),
        .max_bw = bytes_per_second(w, max_bw(b), GAIN(100), 100),
        .min_rtt_us = b->min_rtt_us,
        .inflight_longterm = b->inflight_longterm,
        .inflight_shortterm = b->inflight_shortterm,
        .pacing_gain = gains[b->state].pacing_gain,
        .cwnd_gain = gains[b->state].cwnd_gain,
        .full_bw_reached = b->full_bw_reached,
    };
}

const char *bbr_state_name(enum bbr_state state)
{
    return gains[state].name;
}

const struct cc_ops cc_bbr = {
    .name = "bbr",
    .init = bbr_init,
    .ssthresh = bbr_ssthresh,
    .undo_cwnd = bbr_undo_cwnd,
    .event = bbr_event,
    .set_state = bbr_set_state,
    .cong_control = bbr_cong_control,
    .pkt_lost = bbr_pkt_lost,
    .min_tso_segs = bbr_min_tso_segs,
    .sndbuf_expand = bbr_sndbuf_expand,
};
