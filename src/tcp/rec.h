/*
 * tcp/rec.h: the flight recorder inside the engine: the hooks that the rest of src/tcp calls. Included by tcp_priv.h.
 *
 * A hook is one test of t->rec where nothing is recorded. The hooks hang at the choke points (state, drop, what leaves,
 * what comes, expiry) and at the ends of verbs (tcp_rec_settle(): timers and congestion state, told where they differ
 * from what was told last). None changes anything but the record. rec.c says how rings and pool work.
 */
#ifndef TAUT_TCP_REC_H
#define TAUT_TCP_REC_H

#include "tcp/tcp_trace.h"

struct tcp_conn;
struct tcp_rec; /* rec.c */

/* Of a connection: where its ring is, and what was told last. Zeroed: nothing yet. */
struct tcp_rec_conn {
    uint32_t ring, ring_gen; /* valid while the ring's generation is this one */
    uint8_t timers;          /* bits: told as running */
    uint8_t rtx, ca_state;
    uint8_t limit, limit_arg;
    uint8_t end;             /* enum tcp_rec_end, once it ended */
    bool told_limit, stalled;
    bool timers_moved;       /* one was set or stopped since the last settle */
    uint16_t mtu;            /* of the path, at the beginning */
    uint64_t ready_at;
};

int tcp_rec_init(struct tcp *t);
void tcp_rec_destroy(struct tcp *t);

/* What the inline hooks call; t->rec is there. */
void tcp_rec_put_seg(struct tcp *t, struct tcp_conn *c, enum tcp_rec_type type, unsigned code, unsigned flags,
                     const struct tcp_seg *seg, uint64_t now);
void tcp_rec_put_bare(struct tcp *t, struct tcp_conn *c, enum tcp_rec_type type, unsigned code, uint32_t arg);
void tcp_rec_put_call(struct tcp *t, struct tcp_conn *c, enum tcp_rec_call call, uint32_t arg, int64_t result,
                      uint32_t want, uint32_t left, uint64_t now);
void tcp_rec_put_limit(struct tcp *t, struct tcp_conn *c, enum tcp_limit limit, uint64_t now);
void tcp_rec_put_cong(struct tcp *t, struct tcp_conn *c, enum tcp_rec_type type, unsigned code, uint32_t arg);
void tcp_rec_put_settle(struct tcp *t, struct tcp_conn *c, uint64_t now);
void tcp_rec_put_fired(struct tcp *t, struct tcp_conn *c, unsigned timer, uint64_t now);
void tcp_rec_put_metrics(struct tcp *t, struct tcp_conn *c, uint32_t rtt, uint32_t ssthresh, uint32_t reordering,
                         uint64_t now);
void tcp_rec_put_icmp(struct tcp *t, struct tcp_conn *c, const struct tcp_icmp *icmp, uint64_t now);
/* The connection's memory goes: its ring is given back, or kept as a black box. */
void tcp_rec_put_freed(struct tcp *t, struct tcp_conn *c);
/* Sets the time of events whose hooks don't know it, and the connection that replies are for. */
void tcp_rec_begin(struct tcp *t, struct tcp_conn *c, uint64_t now);
struct tcp_conn *tcp_rec_current(const struct tcp *t, const struct ip_tuple *tuple);

#endif
