/*
 * tests/unit/cc/link.h: one flow over one bottleneck in virtual time, for one controller alone.
 *
 * The link serves `rate` segments a second from a drop-tail queue and adds a constant delay; the receiver
 * acknowledges each segment by itself. The sender is an engine in small: it counts in segments, knows a loss
 * when the third segment behind it was acknowledged, and sends lost ones again under new numbers. It fills in
 * what cc.h says the engine fills in, and calls what cc.h says it calls.
 */
#ifndef CC_LINK_H
#define CC_LINK_H

#include "base/rng.h"
#include "cc/cc.h"

#define LINK_RING 65536u
#define LINK_MSS  1448u

struct link_pkt {
    uint64_t sent_at, ack_at, delivered_at, first_sent_at; /* rate sampling: as Linux's tcp_rate.c */
    uint32_t delivered, delivered_ce, lost, tx_in_flight;
    bool dropped, marked, app_limited;
};

struct link {
    /* the link; may be changed while it runs */
    uint64_t rate;     /* segments/s */
    uint64_t delay_ns; /* RTT of an empty link, without the service time */
    uint32_t queue;    /* segments that may wait */
    uint32_t mark_at;  /* mark CE from so many on, 0: never */
    uint32_t loss_ppm; /* lost at random */
    uint64_t app_rate; /* segments/s that the program writes, 0: as many as may be sent */
    bool no_pkt_lost;  /* an engine that does not call pkt_lost() */

    /* the sender */
    const struct cc_ops *ops;
    uint64_t state[CC_STATE_BYTES / 8];
    struct cc_window w;
    uint64_t now, busy_until, pace_at, app_at, delivered_at, first_sent_at;
    uint32_t una, nxt, high_seq, next_ack, prior_cwnd;
    uint32_t repaired_at; /* Recovery lasts until what was lost below high_seq has arrived */
    uint64_t min_rtt_us;
    bool ecn_waits; /* one reduction a window */

    /* what came of it */
    uint64_t delivered, drops, marks, timeouts;
    uint32_t queue_max, slow_start_left_at; /* cwnd when ssthresh was first set */
    uint64_t queue_sum, queue_samples;
    struct rng rng;
    struct link_pkt ring[LINK_RING];
};

/* All zero but the link's own figures; `options` of enum cc_option. */
struct link *link_new(const char *cc, uint64_t rate, uint64_t rtt_ms, uint32_t queue, uint32_t options);
void link_free(struct link *l);
void link_run(struct link *l, uint64_t ms);
/* Segments delivered a second over the next `ms`. */
uint64_t link_goodput(struct link *l, uint64_t ms);
/* Segments waiting now. */
uint32_t link_queue(const struct link *l);

#endif
