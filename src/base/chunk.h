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
    struct list_node link; /* in the pool's free list while free; the holder's while sole owner */
};

struct chunk_pool;

/* `arena` (page-aligned, arena_bytes a multiple of CHUNK_BIG_BYTES) stays the caller's. NULL on lack of memory. */
struct chunk_pool *chunk_pool_create(void *arena, size_t arena_bytes);
/* Every chunk must have been released (asserted in debug builds). */
void chunk_pool_destroy(struct chunk_pool *pool);

/* A chunk with one reference, or NULL when the budget is spent. size: CHUNK_BIG_BYTES or CHUNK_SMALL_BYTES. */
struct chunk *chunk_alloc(struct chunk_pool *pool, uint32_t size);
static inline struct chunk *chunk_ref(struct chunk *c)
{
    c->refs++;
    return c;
}
void chunk_unref(struct chunk_pool *pool, struct chunk *c);

size_t chunk_pool_budget_bytes(const struct chunk_pool *pool);
size_t chunk_pool_used_bytes(const struct chunk_pool *pool);
/* Index of a chunk's first byte in the arena: what a flat record stores instead of a pointer. */
uint64_t chunk_offset(const struct chunk_pool *pool, const struct chunk *c);

#endif
