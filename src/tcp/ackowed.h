/*
 * tcp/ackowed.h: what ACKs a connection owes, and when.
 *
 * Two kinds. Wishes: in-order data wants an ACK, now or by the delayed-ACK timer; any number of wishes is
 * paid by one ACK (Linux's icsk_ack: ato, quick credits, pingpong). Facts: every out-of-order segment,
 * duplicate and filled hole owes an ACK of its own, because the sender counts them (RFC 5681 section 4.2, RFC
 * 2883); they lie in a FIFO of at most TCP_ACK_FACTS_MAX entries, equal plain ones in a row as a count. A
 * full FIFO coalesces into its last entry and counts that.
 *
 * Facts are paid first, in order, then the one in-order ACK (tcp_ack_take()). Used by rcv.c and input.c
 * (owe), output.c (take, tcp_ack_sent(), tcp_ackowed_data_sent()) and timers.c (tcp_delack_timeout()).
 */
#ifndef TAUT_TCP_ACKOWED_H
#define TAUT_TCP_ACKOWED_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/tcp_enums.h"
#include "wire/tcp.h"

#define TCP_ACK_FACTS_MAX   64u
#define TCP_MAX_QUICKACKS   16u /* Linux TCP_MAX_QUICKACKS */
#define TCP_PINGPONG_THRESH 1u  /* Linux: replies within ato that make a connection interactive */

/* Bits of tcp_ackowed.pending, as inet_connection_sock's. */
enum tcp_ack_pending {
    TCP_ACK_SCHED = 1,   /* something in order is not acknowledged yet */
    TCP_ACK_TIMER = 2,   /* TCP_TIMER_DELACK runs */
    TCP_ACK_PUSHED = 4,  /* a small segment is among it */
    TCP_ACK_PUSHED2 = 8, /* two */
    TCP_ACK_NOW = 16,    /* at once, whatever the other rules say */
    TCP_ACK_DUE = 32,    /* decided: an ACK is to leave now, with `cause` */
    TCP_ACK_NOMEM =
        64, /* data was dropped for lack of memory: announce a closed window where that is possible */
};

/* One owed ACK, or `count` equal ones. */
struct tcp_ackowed_fact {
    uint32_t ack;
    struct tcp_sack_block dsack;
    uint32_t sack_seq; /* the segment that caused it lies in the out-of-order range that holds this, if has_sack */
    uint16_t count;
    uint8_t cause; /* enum tcp_cause */
    bool has_dsack : 1, has_sack : 1;
    bool ece : 1; /* as it was then */
};

struct tcp_ackowed {
    uint8_t pending;  /* enum tcp_ack_pending */
    uint8_t quick;    /* ACKs that may still go out at once */
    uint8_t pingpong; /* >= TCP_PINGPONG_THRESH: interactive, ACKs ride on replies */
    uint8_t cause;    /* enum tcp_cause of the ACK that is due */
    bool ece;         /* ECN: ECE on ACKs from now on (RFC 3168 section 6.1.3); facts keep theirs */
    bool taken_fact;  /* the ACK being made pays a fact, not the in-order one */
    uint32_t ato_ms;  /* delayed-ACK timeout, 0: nothing received yet */
    uint32_t last_seg_size;
    uint64_t delack_at;                       /* when the timer runs out, if TCP_ACK_TIMER */
    uint64_t lrcvtime;                        /* last data received, for ato */
    struct tcp_ackowed_fact *fact;            /* ring; NULL until the first fact */
    uint8_t fact_size, fact_head, fact_count; /* size is a power of two <= TCP_ACK_FACTS_MAX */
    uint32_t coalesced;                       /* facts that found no place of their own */
};

void tcp_ackowed_init(struct tcp_ackowed *o);
void tcp_ackowed_release(struct tcp_ackowed *o);
/* Forgets facts and wishes (the connection ended); keeps nothing due. */
void tcp_ackowed_clear(struct tcp_ackowed *o);

/* One more ACK of its own; dsack may be NULL. False: coalesced into an earlier one. */
bool tcp_ackowed_fact(struct tcp_ackowed *o, uint32_t ack, enum tcp_cause cause,
                      const struct tcp_sack_block *dsack);
/* The same; sack_seq, if not NULL: where in the out-of-order ranges its segment lies (RFC 2018 section 4). */
bool tcp_ackowed_fact_at(struct tcp_ackowed *o, uint32_t ack, enum tcp_cause cause,
                         const struct tcp_sack_block *dsack, const uint32_t *sack_seq);
/* Is there a fact that acknowledges `ack`? */
bool tcp_ackowed_covers(const struct tcp_ackowed *o, uint32_t ack);
/* Number of ACKs owed as facts. */
uint32_t tcp_ackowed_facts(const struct tcp_ackowed *o);
/* NULL if the invariants hold, else a sentence. */
const char *tcp_ackowed_check(const struct tcp_ackowed *o);

static inline bool tcp_ackowed_in_pingpong(const struct tcp_ackowed *o)
{
    return o->pingpong >= TCP_PINGPONG_THRESH;
}

#endif
