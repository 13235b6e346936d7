/*
 * cc/cc.h: congestion controllers behind one table of functions.
 *
 * A controller sees a sample and its own state, never a connection. Units are Linux's: cwnd, ssthresh, acked, in
 * flight count segments. The engine owns cwnd and ssthresh (struct cc_window) and applies recovery (PRR, loss marking);
 * the controller says how cwnd grows on ACKs, where ssthresh falls to on loss, and later at which rate to send.
 */
#ifndef TAUT_CC_CC_H
#define TAUT_CC_CC_H

#include <stdbool.h>
#include <stdint.h>
#include "base/time.h"

#define CC_STATE_BYTES 104 /* as Linux's ICSK_CA_PRIV_SIZE */
#define CC_NAME_MAX 16
#define CC_SSTHRESH_INFINITE 0x7fffffffu

struct cc_window {
    uint32_t cwnd;       /* segments */
    uint32_t cwnd_cnt;   /* acked segments towards the next increase */
    uint32_t cwnd_clamp; /* never above */
    uint32_t ssthresh;
};

/* What one ACK said, after loss marking. */
struct cc_sample {
    uint64_t now;
    uint32_t acked;          /* segments newly acked in order or sacked */
    uint32_t prior_in_flight;
    uint32_t in_flight;
    uint64_t rtt_us;         /* UINT64_MAX: no sample */
    uint32_t srtt_us;
    uint32_t min_rtt_us;
    bool cwnd_limited;       /* cwnd was what limited sending */
    bool ece;
};

enum cc_event { CC_EVENT_TX_START, CC_EVENT_CWND_RESTART, CC_EVENT_LOSS, CC_EVENT_COMPLETE_CWR };

struct cc_ops {
    const char *name;
    void (*init)(void *state, struct cc_window *w, uint64_t now);
    /* New ssthresh when loss or ECN asks for it. */
    uint32_t (*ssthresh)(void *state, const struct cc_window *w, uint32_t in_flight);
    /* Called in Open and Disorder, and in Loss: grows the window. */
    void (*cong_avoid)(void *state, struct cc_window *w, const struct cc_sample *s);
    uint32_t (*undo_cwnd)(void *state, const struct cc_window *w, uint32_t prior_cwnd);
    void (*event)(void *state, struct cc_window *w, enum cc_event event, uint64_t now); /* may be NULL */
};

/* By name ("reno"); NULL if there is none. */
const struct cc_ops *cc_find(const char *name);
/* Names for listings; NULL behind the last. */
const char *cc_name(unsigned index);

/* Slow start by `acked` segments up to ssthresh; returns what is left of acked (tcp_slow_start). */
uint32_t cc_slow_start(struct cc_window *w, uint32_t acked);
/* Adds 1 per `per` acked segments (tcp_cong_avoid_ai). */
void cc_additive_increase(struct cc_window *w, uint32_t per, uint32_t acked);

#endif
