/*
 * cc/bbr.h: BBRv3 as draft-ietf-ccwg-bbr-06 (July 2026) describes it; bbr.c says what is done otherwise.
 */
#ifndef TAUT_CC_BBR_H
#define TAUT_CC_BBR_H

#include "cc/cc.h"

extern const struct cc_ops cc_bbr;

enum bbr_state { BBR_STARTUP, BBR_DRAIN, BBR_DOWN, BBR_CRUISE, BBR_REFILL, BBR_UP, BBR_PROBE_RTT };

/* For tcp_info and tests. */
struct bbr_info {
    enum bbr_state state;
    uint64_t bw;                                    /* bytes/s, bounded by the short-term model */
    uint64_t max_bw;                                /* bytes/s */
    uint32_t min_rtt_us;                            /* UINT32_MAX: none yet */
    uint32_t inflight_longterm, inflight_shortterm; /* segments, UINT32_MAX: no bound */
    uint32_t pacing_gain, cwnd_gain;                /* in 1/256 */
    bool full_bw_reached;
};

void bbr_info(const void *state, const struct cc_window *w, struct bbr_info *ret_info);
/* "Startup" and so on. */
const char *bbr_state_name(enum bbr_state state);

#endif
