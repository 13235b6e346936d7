/*
 * tests/sim/watch.h: what must hold on the wire and over time, judged from outside of the engines.
 *
 * For each direction of a flow: the right edge that a receiver announces never moves back; what lies left of it is
 * accepted; nobody sends beyond the largest edge that has arrived at him (probes lie below it), nor new data beyond
 * cwnd. For each flow: no stall without a reason. Progress is a change of snd_una, rcv_nxt, copied_seq, write_seq or
 * state at either end, or a program that sleeps. Without progress a flow may stand still for the largest timer that
 * its ends have (RTO as backed off) plus the longest way of its packets, and twice as long again for each of its
 * packets that was lost meanwhile, every step 120 s at most: whoever stands longer hangs, and the state is told.
 * A path that swallows large segments silently is found by the fifth timeout: no more than that go into it.
 */
#ifndef TAUT_SIM_WATCH_H
#define TAUT_SIM_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/tcp.h"

struct net;
struct node;
struct flow;

/* What one end announced, and what of it the other end can know. */
struct edge {
    bool announced_ok, arrived_ok;
    uint32_t announced, arrived, iss;
    int8_t wscale; /* of its SYN, -1: none */
    uint32_t hole_seq, hole_rtos; /* what timeouts sent into a black hole, how often in a row */
};

struct watch {
    struct edge edge[2];
    uint64_t progress_at, worst_ns, sum;
    uint64_t rate_low[2]; /* lowest pacing rate that each end was seen to have, bytes/s; 0: none yet */
    uint32_t losses; /* since, and at most one look before it */
    uint32_t fresh;  /* since the last look */
    uint64_t looked_at;
};

void watch_start(struct net *n, struct flow *f);
bool watch_sent(struct net *n, struct node *from, const struct tcp_out *o);
/* Before a segment of `from` is put into its receiver; what must not be counted by it. */
struct watch_before {
    struct flow *flow;
    uint64_t refused;
};
void watch_arrives(struct net *n, struct node *to, const struct tcp_seg *seg, struct watch_before *ret);
bool watch_arrived(struct net *n, struct node *to, const struct tcp_seg *seg, const struct watch_before *b);
void watch_lost(struct net *n, const struct tcp_seg *seg);
/* A retransmission timeout sent it into a black hole. */
void watch_hole(struct net *n, const struct tcp_seg *seg);
/* Time is about to move to `to`: has any flow stood still for too long? */
bool watch_time(struct net *n, uint64_t to);

#endif
