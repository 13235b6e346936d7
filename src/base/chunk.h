/*
 * base/chunk.h: the pool of payload chunks, one budget for all buffers.
 *
 * All payload bytes (received frames, send and receive buffers) lie in chunks carved from one contiguous arena that
 * the creator hands in (an mmap'ed memfd in the daemon, malloc in tests). Two sizes: CHUNK_BIG (32 KiB) for bulk,
 * CHUNK_SMALL (2 KiB, an MTU-sized frame) for small data; a big one is broken into sixteen small ones when needed and
 * becomes whole again when all sixteen are free. Chunks are counted references; descriptors lie apart from the bytes,
 * so that untouched payload pages stay untouched.
 *
 * Invariant: used_bytes = sum of the sizes of chunks with refs > 0 <= budget_bytes.
 *
 * With a journal (chunk_pool_journal()) the bytes can be found again by whoever maps the arena after their owner died:
 * a note {owner, direction, sequence number, place, length} lies beside the arena for each piece of a stream. What was
 * committed must stay readable until the next commit: a chunk or note that is given up stays as it is, out of use, until
 * chunk_pool_commit(); only what was taken since the last commit is free at once. A chunk that some holder gave up a part
 * of (`cut`) is not written to behind the parts that others hold.
 */
#ifndef TAUT_BASE_CHUNK_H
#define TAUT_BASE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/list.h"

#define CHUNK_BIG_BYTES 32768u
#define CHUNK_SMALL_BYTES 2048u
#define CHUNK_SMALL_PER_BIG (CHUNK_BIG_BYTES / CHUNK_SMALL_BYTES)

struct chunk {
    uint8_t *data;
    uint32_t size; /* CHUNK_BIG_BYTES or CHUNK_SMALL_BYTES: the truesize to charge */
    uint32_t refs; /* 0: free */
    uint32_t born; /* the pool's epoch when it was taken */
    bool cut;      /* bytes that no holder has may be somebody's committed ones */
    struct list_node link; /* in the pool's free list while free; the holder's while sole owner */
};

struct chunk_pool;

/* `arena` (page-aligned, arena_bytes a multiple of CHUNK_BIG_BYTES) stays the caller's. NULL on lack of memory. */
struct chunk_pool *chunk_pool_create(void *arena, size_t arena_bytes);
/* Every chunk must have been released (asserted in debug builds). */
void chunk_pool_destroy(struct chunk_pool *pool);
/* The same where chunks are still taken: whoever has them will not touch them again. */
void chunk_pool_abandon(struct chunk_pool *pool);

/* A chunk with one reference, or NULL when the budget is spent. size: CHUNK_BIG_BYTES or CHUNK_SMALL_BYTES. */
struct chunk *chunk_alloc(struct chunk_pool *pool, uint32_t size);
static inline struct chunk *chunk_ref(struct chunk *c)
{
    c->refs++;
    return c;
}
void chunk_unref(struct chunk_pool *pool, struct chunk *c);
/* The same for a part of a stream: what others still hold of the chunk gets no room behind it any more. */
void chunk_unref_part(struct chunk_pool *pool, struct chunk *c);

size_t chunk_pool_budget_bytes(const struct chunk_pool *pool);
size_t chunk_pool_used_bytes(const struct chunk_pool *pool);
/* Index of a chunk's first byte in the arena: what a flat record stores instead of a pointer. */
uint64_t chunk_offset(const struct chunk_pool *pool, const struct chunk *c);

/* ---- The journal ---- */

enum chunk_note_kind { CHUNK_NOTE_FREE, CHUNK_NOTE_SEND, CHUNK_NOTE_RECV };
struct chunk_note {
    uint64_t owner;
    uint64_t offset; /* of the first byte in the arena */
    uint32_t len;    /* changes after the note was published, with sum: both by one store */
    uint32_t sum;    /* of all else */
    uint32_t seq;    /* of the first byte */
    uint8_t kind;    /* enum chunk_note_kind; stored last */
    uint8_t big;     /* the chunk's size */
    uint16_t unused;
};
/* At the begin of the notes' memory; the notes follow. */
struct chunk_journal {
    uint32_t touched; /* notes at and behind it were never used */
    uint32_t unused[15];
};
size_t chunk_journal_bytes(uint32_t notes);
/* From now on it keeps notes, in memory of chunk_journal_bytes() that stays the caller's. 0 or -ENOMEM. */
int chunk_pool_journal(struct chunk_pool *pool, void *memory, uint32_t notes);
/* Tests: bytes of chunks that come free are overwritten, so that nobody who needs them still gets away with it. */
void chunk_pool_poison(struct chunk_pool *pool, bool on);
bool chunk_pool_has_journal(const struct chunk_pool *pool);
/* Publishes a note; 0: no room (the piece will be missing after a crash), else its number. */
uint32_t chunk_note_put(struct chunk_pool *pool, uint64_t owner, enum chunk_note_kind kind, uint32_t seq,
                        const struct chunk *c, const uint8_t *data, uint32_t len);
/* Sequence number behind its last byte. */
void chunk_note_set_end(struct chunk_pool *pool, uint32_t note, uint32_t end);
uint32_t chunk_note_end(const struct chunk_pool *pool, uint32_t note);
/* The piece is gone; 0 is no note. */
void chunk_note_drop(struct chunk_pool *pool, uint32_t note);
/* What was given up is free now: everything that depends on it is committed. */
void chunk_pool_commit(struct chunk_pool *pool);

/*
 * After a crash, on a new pool over the same arena and journal, before anything is taken from it: the i-th note that is
 * whole, false behind the last one (or for one that isn't); claiming its chunk (one reference more; NULL: the place is no
 * chunk's), then forgetting the notes that nobody kept.
 */
uint32_t chunk_notes_touched(const struct chunk_pool *pool);
bool chunk_note_get(const struct chunk_pool *pool, uint32_t i, struct chunk_note *ret);
struct chunk *chunk_claim(struct chunk_pool *pool, const struct chunk_note *n);
void chunk_note_keep(struct chunk_pool *pool, uint32_t i);
void chunk_notes_restored(struct chunk_pool *pool);

#endif
