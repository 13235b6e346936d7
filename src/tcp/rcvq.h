/*
 * tcp/rcvq.h: received bytes, in order and out of order. A pure queue: it knows sequence numbers and chunks,
 * nothing of connections, windows or ACKs (rcv.c does).
 *
 * In order: a ring of pieces {chunk, data, len}; its first byte is the program's next one (copied_seq), its
 * end is rcv_nxt (without a FIN). Out of order: sorted, disjoint, never adjacent ranges, each with a chain of
 * pieces.
 *
 *     bytes     = sum of the lengths of the ring's pieces
 *     ooo_bytes = sum of (end - start) over the ranges
 *     truesize  = sum of what the pieces were charged for: a chunk's size for its first piece in a row, else
 * 0
 *
 * Payload of at least a copybreak that fills a good part of its chunk is adopted by reference, the rest is
 * copied into the free room of the tail piece's chunk (if nobody else holds that chunk) or into a new one.
 *
 * A zeroed struct is an empty queue without room (rcvbuf 0). Never called while a piece handed out by
 * tcp_rcvq_peek() is still in use, but for appending.
 */
#ifndef TAUT_TCP_RCVQ_H
#define TAUT_TCP_RCVQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chunk.h"
#include "wire/tcp.h"

struct tcp_iov;

#define TCP_RCVQ_COPYBREAK 512u /* smaller payload is copied */
#define TCP_RCVQ_RECENT    4u   /* ranges remembered for SACK (RFC 2018 section 4) */

struct rcvq_piece {
    struct chunk *chunk;
    uint8_t *data;
    uint32_t len;
    uint32_t
        charge; /* its part of truesize: chunk->size, or 0 where the piece before it holds the same chunk */
    uint32_t note; /* in the pool's journal, 0: none yet */
};

struct rcvq_node;

struct rcvq_range {
    uint32_t start, end;
    struct rcvq_node *head, *tail;
};

struct tcp_rcvq {
    /* in order */
    struct rcvq_piece *ring;
    uint32_t ring_size; /* a power of two, or 0 */
    uint32_t head;      /* index of the first piece */
    uint32_t count;     /* pieces */
    uint32_t bytes;     /* unread, in order */
    /* out of order, by sequence number */
    struct rcvq_range *range;
    uint32_t n_ranges, range_size;
    uint32_t ooo_bytes;
    bool ooo_changed;  /* since tcp_rcvq_note() */
    bool renote;       /* pieces below the newest ones changed */
    uint32_t unnoted;  /* bytes at the ring's end that came since */
    struct tcp_sack_block recent[TCP_RCVQ_RECENT]; /* ranges changed last, latest first */
    uint8_t n_recent;

    uint32_t truesize; /* bytes of chunks held: sk_rmem_alloc */
    uint32_t rcvbuf;   /* bytes of chunks allowed: sk_rcvbuf */

    /* receive-buffer autotuning (rcv.c): rcvq_space and rcv_rtt_est of Linux */
    bool established;   /* tcp_rcv_established() has run */
    uint32_t space;     /* most bytes read within one RTT */
    uint32_t space_seq; /* copied_seq at the begin of this measurement */
    uint64_t space_at;
    uint32_t rtt_us8; /* receiver's RTT, us << 3, 0: not yet known */
    uint32_t rtt_seq;
    uint64_t rtt_at; /* 0: no measurement runs */
    uint32_t rtt_last_tsecr;
};

void tcp_rcvq_init(struct tcp_rcvq *q, uint32_t rcvbuf);
/* Releases everything, in order and out of order; the queue is empty and usable afterwards. */
void tcp_rcvq_release(struct tcp_rcvq *q, struct chunk_pool *pool);
void tcp_rcvq_release_ooo(struct tcp_rcvq *q, struct chunk_pool *pool);

/* Appends `len` payload bytes of seg from offset `skip`. Bytes taken; fewer where memory ran out. */
uint32_t tcp_rcvq_append(struct tcp_rcvq *q, struct chunk_pool *pool, const struct tcp_seg *seg,
                         uint32_t skip, uint32_t len);
/*
 * Puts `len` payload bytes of seg from offset `skip`, whose first has sequence number `seq`, out of order.
 * What is there already stays; *ret_dup is the first overlap (start == end: none). Bytes newly held; fewer
 * than are missing where memory ran out.
 */
uint32_t tcp_rcvq_insert(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t seq, const struct tcp_seg *seg,
                         uint32_t skip, uint32_t len, struct tcp_sack_block *ret_dup);
/*
 * Moves what now is in order, at rcv_nxt, into the ring; returns its bytes (rcv_nxt moves by them). *ret_lost: bytes for
 * whose pieces the ring could not grow; they are gone, as if they had never come (RFC 2018 section 8).
 */
uint32_t tcp_rcvq_join(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t rcv_nxt,
                       struct tcp_sack_block *ret_dup, uint32_t *ret_lost);
/* Throws away out-of-order data at and behind `seq` (behind the peer's FIN). Bytes gone. */
uint32_t tcp_rcvq_cut_ooo(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t seq);

/* The out-of-order range that holds `seq`, or NULL. */
const struct rcvq_range *tcp_rcvq_range_of(const struct tcp_rcvq *q, uint32_t seq);

/* Unread bytes in order, `offset` behind the first unread one, at most `max` places. Number of places. */
int tcp_rcvq_peek(const struct tcp_rcvq *q, uint32_t offset, struct tcp_iov *iov, int max);
/* Frees the first `bytes` (<= q->bytes) unread ones. */
void tcp_rcvq_consume(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t bytes);

/* Copies badly filled pieces together. Truesize saved. */
uint32_t tcp_rcvq_collapse(struct tcp_rcvq *q, struct chunk_pool *pool);
/* Throws the highest out-of-order data away until truesize <= target, but nothing below `floor`. Bytes gone. */
uint32_t tcp_rcvq_prune_ooo(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t target, uint32_t floor);

/* Brings the pool's journal up to date; end: sequence number behind the last byte in order. */
void tcp_rcvq_note(struct tcp_rcvq *q, struct chunk_pool *pool, uint64_t owner, uint32_t end);
/*
 * A restored piece: at the ring's end, or (ooo) out of order: behind all others. Takes over the reference to its chunk.
 * False: no memory.
 */
bool tcp_rcvq_adopt(struct tcp_rcvq *q, struct chunk *chunk, uint8_t *data, uint32_t len, uint32_t note);
bool tcp_rcvq_adopt_ooo(struct tcp_rcvq *q, uint32_t seq, struct chunk *chunk, uint8_t *data, uint32_t len,
                        uint32_t note);

/*
 * The i-th piece, those in order first, then those out of order; first_seq: of the first unread byte. False:
 * no more. For records: it walks.
 */
bool tcp_rcvq_piece(const struct tcp_rcvq *q, uint32_t i, uint32_t first_seq, uint32_t *ret_seq,
                    const uint8_t **ret_data, uint32_t *ret_len);

/* Every invariant; NULL or a sentence. rcv_nxt: all ranges lie above it. */
const char *tcp_rcvq_check(const struct tcp_rcvq *q, uint32_t rcv_nxt);

#endif
