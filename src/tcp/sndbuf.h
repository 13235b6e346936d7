/*
 * tcp/sndbuf.h: the bytes of the program that are not acknowledged yet, in chunks, by sequence number.
 *
 * The bytes [start, end) lie in pieces, one chunk each, in a growable ring ordered by sequence. All pieces
 * but the first (its head may be acknowledged) and the last (it may have room) are full, so 64 KiB touch at
 * most 34 pieces; but for pieces of shared chunks (tcp_sndbuf_share()), which their owner sees to. Appending is reserve + commit: the tail chunk's room first, then new chunks, small ones for
 * small data. SYN and FIN are no bytes: start is iss + 1 at first, end is write_seq without the FIN.
 *
 * Invariant: sum of piece lengths = end - start; truesize = sum of chunk sizes, reserved ones included. A
 * pure value: it knows no connection; limits and events are the caller's.
 */
#ifndef TAUT_TCP_SNDBUF_H
#define TAUT_TCP_SNDBUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/chunk.h"
#include "wire/tcp.h"

struct tcp_iov;

struct tcp_snd_piece {
    struct chunk *chunk;
    uint32_t seq;    /* of its first byte */
    uint32_t offset; /* of its first byte in the chunk */
    uint32_t len;    /* bytes; 0 for chunks that are reserved only */
    uint32_t note;   /* in the pool's journal, 0: none yet */
};

struct tcp_sndbuf {
    struct tcp_snd_piece *ring;
    uint32_t cap;      /* a power of two, or 0 */
    uint32_t head;     /* index of the first piece */
    uint32_t count;    /* pieces with bytes */
    uint32_t reserved; /* empty pieces behind them, between reserve and commit */
    uint32_t start, end;
    uint32_t truesize; /* bytes charged */
    uint32_t near;     /* place in the ring of the piece that was sent from last; only tells where to look first */
    uint32_t limit;    /* SO_SNDBUF, or what autotuning made of it; kept for sndmem.c, no business of this file */
};

/* Empty; the first byte will be `seq`. No memory is taken. */
void tcp_sndbuf_init(struct tcp_sndbuf *b, uint32_t seq, uint32_t limit);
/* Releases all chunks and the ring; start becomes end. Usable afterwards. */
void tcp_sndbuf_clear(struct tcp_sndbuf *b, struct chunk_pool *pool);

static inline uint32_t tcp_sndbuf_bytes(const struct tcp_sndbuf *b)
{
    return b->end - b->start;
}

/*
 * Up to `max` places (struct tcp_iov of tcp/tcp.h) of together at most `want` bytes. Returns their number,
 * -ENOMEM when the pool or memory is spent. A second reserve gives the same places
 * again.
 */
int tcp_sndbuf_reserve(struct tcp_sndbuf *b, struct chunk_pool *pool, size_t want, struct tcp_iov *iov,
                       int max);
/* The first `bytes` of the reserved places were written; what was reserved beyond them is given back. */
void tcp_sndbuf_commit(struct tcp_sndbuf *b, struct chunk_pool *pool, size_t bytes);
/* Frees the bytes below `seq`, start <= seq <= end. */
void tcp_sndbuf_free_to(struct tcp_sndbuf *b, struct chunk_pool *pool, uint32_t seq);

/*
 * The bytes [seq, seq + len) within [start, end), as slices. Returns the bytes covered: fewer than len only
 * if `max` slices did not suffice.
 */
uint32_t tcp_sndbuf_slices(struct tcp_sndbuf *b, uint32_t seq, uint32_t len, struct tcp_slice *slice,
                           unsigned max, uint16_t *ret_n);
/*
 * Brings the pool's journal up to date: what was appended since the last call; with `room` also the reserved places, so
 * that bytes that the kernel writes there can be found although nobody committed them.
 */
void tcp_sndbuf_note(struct tcp_sndbuf *b, struct chunk_pool *pool, uint64_t owner, bool room);
/* The restored piece behind the last one; takes over the reference to its chunk. False: no memory. */
bool tcp_sndbuf_adopt(struct tcp_sndbuf *b, struct chunk *chunk, uint32_t offset, uint32_t len, uint32_t note);
/*
 * A piece that lies in a chunk of somebody who will not change it, whoever else sends from it; takes a reference of its
 * own. What was reserved is given back. False: no memory.
 */
bool tcp_sndbuf_share(struct tcp_sndbuf *b, struct chunk_pool *pool, const struct tcp_slice *slice);
/* The i-th piece, i < count, in order of sequence: for records. */
const struct tcp_snd_piece *tcp_sndbuf_piece(const struct tcp_sndbuf *b, uint32_t i);
/* NULL, or a sentence that says which invariant is broken. */
const char *tcp_sndbuf_check(const struct tcp_sndbuf *b);

#endif
