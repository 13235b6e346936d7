/*
 * cc/hystart.c: when slow start should end although nothing is lost yet.
 *
 * Linux's HyStart looks for one of two signs in each round, from cwnd 16 on (a round ends when what was snd_nxt at its
 * begin is acknowledged; rounds are counted below 16 too, or the first one looked at would begin amid a flight):
 *
 *     ACK train   ACKs at most 2 ms apart that last for longer than half of the minimum RTT
 *     delay       the least of the first 8 RTTs of the round (and of what follows) exceeds the minimum RTT by an eighth
 *                 of it, at least 4 ms, at most 16 ms
 *
 * HyStart++ has the delay sign only, compares with the round before, and does not end slow start at once: it grows at a
 * quarter of the speed for five rounds, and goes back if the RTT falls again.
 *
 * Called by cubic.c with every RTT sample; writes nothing but its own state and ssthresh.
 */
#include "cc/hystart.h"

#define LOW_WINDOW     16u
#define MIN_SAMPLES    8u     /* N_RTT_SAMPLE */
#define DELAY_MIN_US   4000u  /* MIN_RTT_THRESH */
#define DELAY_MAX_US   16000u /* MAX_RTT_THRESH */
#define ACK_DELTA_US   2000u
#define ACK_CUSHION_US 1000u
#define CSS_DIVISOR    4u /* CSS_GROWTH_DIVISOR */
#define CSS_ROUNDS     5u
#define L_LIMIT        8u /* section 4.3: where sending is not paced */
#define NO_RTT         UINT32_MAX

static uint32_t clamp_u32(uint32_t x, uint32_t low, uint32_t high)
{
    return x < low ? low : x > high ? high : x;
}

static void begin_round(struct hystart *h, const struct cc_window *w, uint64_t now)
{
    h->round_start_us = h->last_ack_us = (uint32_t)(now / NSEC_PER_USEC);
    h->end_seq = w->snd_nxt;
    h->last_round_min_us = h->round_min_us;
    h->round_min_us = NO_RTT;
    h->samples = 0;
}

void hystart_reset(struct hystart *h, const struct cc_window *w, uint64_t now)
{
    *h = (struct hystart){.round_min_us = NO_RTT, .css_baseline_us = NO_RTT, .delay_min_us = h->delay_min_us};
    begin_round(h, w, now);
}

/* What aggregation of super-frames may add to the delay: two each way, capped (Linux's hystart_ack_delay). */
static uint32_t ack_cushion_us(const struct cc_window *w)
{
    uint64_t us;

    if (w->gate_rate == 0)
        return 0;
    us = (uint64_t)w->gso_max_bytes * 4 * 1000000u / w->gate_rate;
    return us < ACK_CUSHION_US ? (uint32_t)us : ACK_CUSHION_US;
}

static bool train_is_long(struct hystart *h, const struct cc_window *w, uint32_t now_us)
{
    uint32_t threshold = h->delay_min_us + ack_cushion_us(w);

    if ((int32_t)(now_us - h->last_ack_us) > (int32_t)ACK_DELTA_US)
        return false;
    h->last_ack_us = now_us;
    /* Pacing itself stretches a window over half an RTT. */
    if (!w->paced)
        threshold /= 2;
    return now_us - h->round_start_us > threshold;
}

static bool delay_grew(struct hystart *h, uint32_t rtt_us)
{
    if (rtt_us < h->round_min_us)
        h->round_min_us = rtt_us;
    if (h->samples < MIN_SAMPLES) {
        h->samples++;
        return false;
    }
    return h->round_min_us > h->delay_min_us + clamp_u32(h->delay_min_us / 8, DELAY_MIN_US, DELAY_MAX_US);
}

static void leave_slow_start(struct hystart *h, struct cc_window *w)
{
    h->found = true;
    w->ssthresh = w->cwnd;
}

static void linux_sample(struct hystart *h, struct cc_window *w, uint32_t rtt_us, uint64_t now)
{
    bool train, delay;

    /* Before the low window is looked at: Linux since 6.13. */
    if ((int32_t)(w->snd_una - h->end_seq) > 0)
        begin_round(h, w, now);
    if (w->cwnd < LOW_WINDOW)
        return;
    train = train_is_long(h, w, (uint32_t)(now / NSEC_PER_USEC));
    delay = delay_grew(h, rtt_us);
    if (train || delay)
        leave_slow_start(h, w);
}

/* RFC 9406 section 4.2, once enough samples of the round are there. */
static void pp_judge(struct hystart *h)
{
    uint32_t threshold;

    if (h->in_css) {
        if (h->round_min_us < h->css_baseline_us) { /* it was no queue */
            h->css_baseline_us = NO_RTT;
            h->in_css = false;
        }
        return;
    }
    if (h->last_round_min_us == NO_RTT || h->round_min_us == NO_RTT)
        return;
    threshold = clamp_u32(h->last_round_min_us / 8, DELAY_MIN_US, DELAY_MAX_US);
    if (h->round_min_us >= h->last_round_min_us + threshold) {
        h->css_baseline_us = h->round_min_us;
        h->css_rounds = 0;
        h->css_cnt = 0;
        h->in_css = true;
    }
}

static void pp_sample(struct hystart *h, struct cc_window *w, uint32_t rtt_us, uint64_t now)
{
    if (w->ssthresh < CC_SSTHRESH_INFINITE) /* section 4.3: the first slow start only */
        return;
    if ((int32_t)(w->snd_una - h->end_seq) > 0) {
        begin_round(h, w, now);
        if (h->in_css && ++h->css_rounds >= CSS_ROUNDS) {
            leave_slow_start(h, w);
            return;
        }
    }
    if (rtt_us < h->round_min_us)
        h->round_min_us = rtt_us;
    if (h->samples < MIN_SAMPLES)
        h->samples++;
    if (h->samples >= MIN_SAMPLES)
        pp_judge(h);
}

void hystart_sample(struct hystart *h, struct cc_window *w, uint32_t rtt_us, uint64_t now)
{
    if (h->found || w->cwnd >= w->ssthresh)
        return;
    if (w->options & CC_OPT_HYSTART_PP)
        pp_sample(h, w, rtt_us, now);
    else if (!(w->options & CC_OPT_NO_HYSTART))
        linux_sample(h, w, rtt_us, now);
}

uint32_t hystart_pp_growth(struct hystart *h, const struct cc_window *w, uint32_t acked)
{
    uint32_t limited = !w->paced && acked > L_LIMIT ? L_LIMIT : acked;
    uint32_t total;

    if (w->ssthresh < CC_SSTHRESH_INFINITE)
        return acked;
    if (!h->in_css)
        return limited;
    total = limited + h->css_cnt;
    h->css_cnt = (uint8_t)(total % CSS_DIVISOR);
    return total / CSS_DIVISOR;
}
