/*
 * cc/hystart.h: leaving slow start before the queue overflows: Linux's HyStart and HyStart++ (RFC 9406).
 *
 * Private to the controllers. The state lies inside that of the controller which uses it.
 */
#ifndef TAUT_CC_HYSTART_H
#define TAUT_CC_HYSTART_H

#include "cc/cc.h"

struct hystart {
    uint32_t end_seq;      /* snd_nxt when the round began */
    uint32_t round_min_us; /* of this round, UINT32_MAX: none yet */
    uint32_t delay_min_us; /* of the connection, 0: none yet; the controller keeps it up to date */
    /* Linux's: */
    uint32_t round_start_us;
    uint32_t last_ack_us; /* end of the ACK train so far */
    /* RFC 9406: */
    uint32_t last_round_min_us;
    uint32_t css_baseline_us;
    uint8_t css_rounds;
    uint8_t css_cnt; /* acked segments towards the next one of conservative slow start */
    bool in_css;

    uint8_t samples; /* of this round */
    bool found;      /* no more to look for */
};

void hystart_reset(struct hystart *h, const struct cc_window *w, uint64_t now);

/* An RTT sample in slow start: sets ssthresh = cwnd when it is time to leave it. */
void hystart_sample(struct hystart *h, struct cc_window *w, uint32_t rtt_us, uint64_t now);

/*
 * RFC 9406 section 4.2: how many of `acked` slow start may add, where CC_OPT_HYSTART_PP is set: no more than
 * L, a quarter of that in conservative slow start.
 */
uint32_t hystart_pp_growth(struct hystart *h, const struct cc_window *w, uint32_t acked);

#endif
