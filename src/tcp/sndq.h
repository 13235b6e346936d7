/*
 * tcp/sndq.h: the sent-segment queue: one descriptor per thing sent and not acknowledged, meaning what a
 * Linux skb on the retransmit queue means.
 *
 * Descriptors cover [una, nxt) of the sequence space without holes or overlap, in order, SYN and FIN
 * included. A descriptor counts as many segments as it makes on the wire: pcount = max(1, ceil(payload /
 * mss)). They split and merge at multiples of mss only, so that counts stay what the peer saw.
 *
 * Invariants (tcp_sndq_check()):
 *     packets_out = sum of pcount              sacked_out = ... of those SACKED
 *     lost_out    = ... of those LOST          retrans_out = ... of those RETRANS
 *     a SACKED descriptor is neither LOST nor RETRANS
 *     on the list by time sent: what is in flight, that is neither SACKED nor LOST without RETRANS
 *     lost_cnt = segments SACKED below lost_hint
 * All counters change in one function (account()), by taking a descriptor out of the sums and putting it in again.
 *
 * The index is a ring of pointers with binary search; descriptors come from a slab shared by the engine's
 * connections. What an ACK costs is proportional to what it changes: newly acked or sacked descriptors, plus
 * O(log n) per block; what the last blocks covered is passed over, also where it could not be merged. A pure value:
 * knows no connection, sends nothing.
 */
#ifndef TAUT_TCP_SNDQ_H
#define TAUT_TCP_SNDQ_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "tcp/rack.h"

enum tcp_desc_flag {
    TCP_DESC_SYN = 0x0001, /* occupies seq */
    TCP_DESC_FIN = 0x0002, /* occupies end - 1 */
    TCP_DESC_PSH = 0x0004,
    TCP_DESC_EOR = 0x0008, /* never merged with what follows */
    TCP_DESC_CWR = 0x0010,
    TCP_DESC_SACKED = 0x0100,       /* the peer has it */
    TCP_DESC_LOST = 0x0200,         /* thought to have left the network */
    TCP_DESC_RETRANS = 0x0400,      /* retransmitted, and that is in flight (TCPCB_SACKED_RETRANS) */
    TCP_DESC_EVER_RETRANS = 0x0800, /* Karn: its ACK gives no RTT sample */
    TCP_DESC_APP_LIMITED = 0x1000,
    TCP_DESC_PROBE = 0x2000, /* a path-MTU probe: larger than mss on purpose, counts one until it is sent again */
};

struct tcp_desc {
    struct list_node tsorted; /* in q->tsorted by time last sent, while in flight; in the slab while free */
    uint32_t seq, end;
    uint32_t pcount;
    uint16_t mss;                    /* payload per segment (gso_size) */
    uint16_t flags;                  /* enum tcp_desc_flag */
    uint16_t tx_count;               /* times sent */
    uint64_t first_sent_at, sent_at; /* ns; 0: unknown (restored) */
    /* snapshot for the rate sample when last sent */
    uint64_t delivered_at, first_tx_at;
    uint32_t delivered, delivered_ce, tx_lost, tx_in_flight;
};

/* Free descriptors; zero-initialised is empty. */
struct tcp_desc_slab {
    struct tcp_desc *free;
    void *blocks;
    uint32_t in_use, n_free;
};
/* Every queue must have been cleared. */
void tcp_desc_slab_destroy(struct tcp_desc_slab *s);

#define TCP_SNDQ_SEEN 4u /* as many as an ACK has blocks (Linux recv_sack_cache) */
struct tcp_seq_range {
    uint32_t start, end;
};

struct tcp_sndq {
    struct tcp_desc_slab *slab;
    struct tcp_desc **ring;
    uint32_t cap, head, count;
    struct list_node tsorted;
    uint32_t una, nxt;                                       /* the sequence space it covers */
    uint32_t packets_out, sacked_out, lost_out, retrans_out; /* segments */
    uint32_t lost_pending;                                   /* LOST and not RETRANS */
    uint32_t retrans_hint;                                   /* nothing below is LOST without RETRANS */
    uint32_t lost_hint, lost_cnt;
    uint32_t highest_sack; /* end of the highest SACKED, or una */
    uint32_t lost;         /* segments ever marked LOST; retransmissions that were lost count again */
    uint32_t splits, merges, lost_retrans; /* counted since the caller last took them */
    uint32_t walked, refused;              /* so too: descriptors that SACK blocks made look at; splits refused */
    uint32_t count_max;                    /* SACK blocks split nothing beyond so many descriptors; 0: no limit */
    struct tcp_seq_range seen[TCP_SNDQ_SEEN]; /* blocks done before: what in them is SACKED is passed over */
    uint32_t next_seen, next_aged;
};

/* Empty; the next descriptor pushed begins at seq. No memory is taken. */
void tcp_sndq_init(struct tcp_sndq *q, struct tcp_desc_slab *slab, uint32_t seq);
/* Gives everything back; una becomes nxt. Usable afterwards. */
void tcp_sndq_clear(struct tcp_sndq *q);

static inline bool tcp_sndq_empty(const struct tcp_sndq *q)
{
    return q->count == 0;
}
/* The i-th in order of sequence, i < count. */
static inline struct tcp_desc *tcp_sndq_at(const struct tcp_sndq *q, uint32_t i)
{
    assert(i < q->count);
    return q->ring[(q->head + i) & (q->cap - 1)];
}
/* Index of the descriptor that holds `seq`; count if seq >= nxt, 0 if seq < una. */
uint32_t tcp_sndq_find(const struct tcp_sndq *q, uint32_t seq);
/* Payload bytes. */
static inline uint32_t tcp_desc_len(const struct tcp_desc *d)
{
    return d->end - d->seq - ((d->flags & TCP_DESC_SYN) ? 1u : 0u) - ((d->flags & TCP_DESC_FIN) ? 1u : 0u);
}

/* Memory for one more push and two splits; false: none. Call before building a segment. */
bool tcp_sndq_prepare(struct tcp_sndq *q);
/*
 * What was just sent: [nxt, nxt + len + SYN + FIN). The descriptor, or NULL without memory (never after
 * prepare). To restore a record push with TCP_DESC_EVER_RETRANS and sent_at 0.
 */
struct tcp_desc *tcp_sndq_push(struct tcp_sndq *q, uint32_t len, uint16_t mss, unsigned flags,
                               uint64_t sent_at);
/* Removes the last, sent once and not SACKED: it did not leave. */
void tcp_sndq_unpush(struct tcp_sndq *q);
/* Removes the first. */
void tcp_sndq_pop(struct tcp_sndq *q);
/* seq within the first: its head goes, pcount follows (tcp_trim_head). Returns the segments that went. */
uint32_t tcp_sndq_trim(struct tcp_sndq *q, uint32_t seq);
/* Cuts descriptor i into [.., +segs * mss) and the rest, 0 < segs < pcount. False: no memory. */
bool tcp_sndq_split(struct tcp_sndq *q, uint32_t i, uint32_t segs);
/* The same after so many bytes of payload, 0 < bytes < its length: where the peer's window ends within a segment. */
bool tcp_sndq_cut(struct tcp_sndq *q, uint32_t i, uint32_t bytes);

/* What the newest descriptor delivered remembers of its sending (rate.c). */
struct tcp_rate_pick {
    bool any, app_limited, retrans;
    uint64_t delivered_at, sent_at, first_tx_at;
    uint32_t delivered, delivered_ce, tx_lost, tx_in_flight, end;
};
/* d was delivered, by SACK or ACK, whichever came first (tcp_rate_skb_delivered). */
void tcp_rate_delivered(struct tcp_rate_pick *p, struct tcp_desc *d);

/*
 * What a SACK block newly said; accumulates over the blocks of one ACK. Zero-initialised but for the first
 * three, which the caller gives: what is SACKED advances `rack` (NULL: it doesn't).
 */
struct tcp_sack_result {
    struct tcp_rack *rack;
    uint64_t now;
    uint32_t min_rtt_us;
    uint32_t segs;          /* newly SACKED */
    uint32_t retrans_segs;  /* of them ones with RETRANS */
    uint64_t first_sent_at; /* earliest and latest of those never retransmitted, 0: none */
    uint64_t last_sent_at;
    bool reordered;     /* something never retransmitted was sacked below highest_sack */
    uint32_t reord_seq; /* lowest such, if reordered */
    bool orig;          /* something sent once only was SACKED */
    uint32_t orig_end;  /* end of the lowest such, if orig */
    struct tcp_rate_pick rate;
    uint64_t
        newest_sent_at; /* of all delivered by this ACK the one sent last: 0: none; end; `delivered` then */
    uint32_t newest_end, newest_delivered;
};
/* `d` was delivered: SACKED, or acknowledged without having been. */
void tcp_sndq_note_delivered(const struct tcp_desc *d, struct tcp_sack_result *acc);
/*
 * Marks whole segments in [start, end) SACKED, splits and merges as needed. LOST and RETRANS go (the peer has
 * it).
 */
void tcp_sndq_sack(struct tcp_sndq *q, uint32_t start, uint32_t end, struct tcp_sack_result *acc);

/*
 * LOST, RETRANS off, off the list by time sent: sent again later. No effect on SACKED ones. Returns true if
 * it was not LOST before.
 */
bool tcp_sndq_mark_lost(struct tcp_sndq *q, struct tcp_desc *d);
/* RFC 6675: what has at least `dupthresh` SACKed segments above it is LOST. One a call: the one marked; NULL: no more. */
struct tcp_desc *tcp_sndq_mark_by_sack(struct tcp_sndq *q, uint32_t dupthresh);
/*
 * The first, if it is neither SACKED nor LOST (one mss of it where it is a super-frame). Segments newly LOST.
 */
uint32_t tcp_sndq_mark_head(struct tcp_sndq *q);
/* RTO: everything that is not SACKED is LOST and to be sent again; forget: SACK marks go first (reneging). */
void tcp_sndq_mark_all_lost(struct tcp_sndq *q, bool forget);
/* LOST marks go (undo). */
void tcp_sndq_unmark_lost(struct tcp_sndq *q);
/* First LOST without RETRANS: *ret_index; NULL: none. */
struct tcp_desc *tcp_sndq_next_lost(struct tcp_sndq *q, uint32_t *ret_index);
/* Descriptor i was sent again because it is LOST. */
void tcp_sndq_sent_again(struct tcp_sndq *q, struct tcp_desc *d, uint64_t now);
/* It was sent again as a probe, not because it is LOST: not on top of what is in flight. */
void tcp_sndq_probed(struct tcp_sndq *q, struct tcp_desc *d, uint64_t now);
/* It was sent again, and did not leave: as it was before, but for its times. */
void tcp_sndq_unsent_again(struct tcp_sndq *q, struct tcp_desc *d);
/* Joins i with i + 1 if both are single segments of bytes that wait to be sent again and together fit mss. */
bool tcp_sndq_collapse(struct tcp_sndq *q, uint32_t i, uint16_t mss);

/* Segments are at most `mss` from now on: recounts what was cut larger, but for probes. Returns segments that became
 * more. */
uint32_t tcp_sndq_set_mss(struct tcp_sndq *q, uint16_t mss);
/* A probe that is LOST goes again, in segments of mss. */
void tcp_sndq_unprobe(struct tcp_sndq *q, struct tcp_desc *d, uint16_t mss);

/* NULL, or a sentence that says which invariant is broken. */
const char *tcp_sndq_check(const struct tcp_sndq *q);

#endif
