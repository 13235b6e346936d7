/*
 * cc/dctcp.h: DCTCP (RFC 8257), for networks whose switches mark at a shallow threshold. Without negotiated
 * ECN it behaves as Reno. Option: CC_OPT_DCTCP_ALPHA_ON_LOSS.
 *
 * The receiver's half (section 3.2) has nothing to do with the window: struct dctcp_ce belongs to the engine,
 * which asks dctcp_ce_arrived() for every segment with data and does what the answer says.
 */
#ifndef TAUT_CC_DCTCP_H
#define TAUT_CC_DCTCP_H

#include "cc/cc.h"

extern const struct cc_ops cc_dctcp;

/* alpha, the smoothed fraction of marked segments, in 1/1024. */
uint32_t dctcp_alpha(const void *state);

struct dctcp_ce {
    uint32_t prior_rcv_nxt; /* what a delayed ACK would have acknowledged */
    bool ce;                /* DCTCP.CE: the last segment was marked */
};

struct dctcp_echo {
    bool ack_prior; /* first an ACK of prior_rcv_nxt, with ECE as prior_ece says: the delayed one */
    bool prior_ece;
    uint32_t prior_ack;
    bool ack_now; /* then one for this segment without delay */
    bool ece;     /* ECE on every ACK from here on */
};

/* `rcv_nxt` is behind this segment, if it was in order; `ack_delayed`: an ACK is being held back. */
struct dctcp_echo dctcp_ce_arrived(struct dctcp_ce *d, bool ce, uint32_t rcv_nxt, bool ack_delayed);

#endif
