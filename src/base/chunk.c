/*
 * base/chunk.c: the chunk pool.
 *
 * The arena is a row of big blocks. A block is whole (free, or one big chunk) or broken into sixteen small
 * chunks, whose free ones are the bits of `free_mask`. Where each block is:
 *
 *     fresh    index >= pool->fresh: never used, its descriptor and its pages untouched
 *     whole    free, on pool->whole
 *     partial  broken, free_mask != 0, on pool->partial
 *     in use   a big chunk with refs > 0, or broken with free_mask == 0: on no list
 *
 * A broken block with all sixteen bits set is whole again at once. So every operation is O(1), and used_bytes
 * = sum of the sizes of chunks with refs > 0 <= budget_bytes. Small chunks come from the block that most
 * recently went from full to partial, which lets emptier blocks run empty and merge.
 *
 * Descriptors lie apart from the arena; a chunk finds its block by its offset. Called by stack, sock and tcp;
 * never reads or writes a payload byte.
 */
#include <assert.h>
#include <stdlib.h>
#include "base/chunk.h"

#define ALL_FREE 0xffffu
static_assert(CHUNK_SMALL_PER_BIG == 16, "free_mask has one bit for each small chunk of a block");

struct block {
    struct chunk big;
    uint32_t free_mask;
    bool broken;
    struct chunk small[CHUNK_SMALL_PER_BIG];
};

struct chunk_pool {
    uint8_t *arena;
    size_t blocks;
    size_t fresh;
    size_t used_bytes;
    struct list_node whole;   /* of block.big.link */
    struct list_node partial; /* of block.big.link */
    struct block *block;
};

struct chunk_pool *chunk_pool_create(void *arena, size_t arena_bytes)
{
    struct chunk_pool *pool = calloc(1, sizeof *pool);

    assert(arena_bytes % CHUNK_BIG_BYTES == 0);
    if (!pool)
        return NULL;
    pool->arena = arena;
    pool->blocks = arena_bytes / CHUNK_BIG_BYTES;
    list_init(&pool->whole);
    list_init(&pool->partial);
    /* At least one, so that NULL means lack of memory. */
    pool->block = calloc(pool->blocks ? pool->blocks : 1, sizeof *pool->block);
    if (!pool->block) {
        free(pool);
        return NULL;
    }
    return pool;
}

void chunk_pool_destroy(struct chunk_pool *pool)
{
    if (!pool)
        return;
    assert(pool->used_bytes == 0);
    free(pool->block);
    free(pool);
}

static struct block *block_of_link(struct list_node *link)
{
    return list_entry(link, struct block, big.link);
}

static struct block *take_whole(struct chunk_pool *pool)
{
    struct list_node *link = list_pop(&pool->whole);
    struct block *b;

    if (link)
        return block_of_link(link);
    if (pool->fresh == pool->blocks)
        return NULL;
    b = &pool->block[pool->fresh];
    b->big.data = pool->arena + pool->fresh * CHUNK_BIG_BYTES;
    b->big.size = CHUNK_BIG_BYTES;
    list_init(&b->big.link);
    pool->fresh++;
    return b;
}

static void break_up(struct chunk_pool *pool, struct block *b)
{
    for (unsigned i = 0; i < CHUNK_SMALL_PER_BIG; i++) {
        b->small[i].data = b->big.data + i * CHUNK_SMALL_BYTES;
        b->small[i].size = CHUNK_SMALL_BYTES;
        list_init(&b->small[i].link);
    }
    b->broken = true;
    b->free_mask = ALL_FREE;
    list_add_head(&pool->partial, &b->big.link);
}

static struct chunk *take_small(struct chunk_pool *pool)
{
    struct list_node *link = list_first(&pool->partial);
    struct block *b;
    unsigned i;

    if (!link) {
        b = take_whole(pool);
        if (!b)
            return NULL;
        break_up(pool, b);
    } else {
        b = block_of_link(link);
    }
    i = (unsigned)__builtin_ctz(b->free_mask);
    b->free_mask &= b->free_mask - 1;
    if (b->free_mask == 0)
        list_del(&b->big.link);
    return &b->small[i];
}

struct chunk *chunk_alloc(struct chunk_pool *pool, uint32_t size)
{
    struct chunk *c;

    assert(size == CHUNK_BIG_BYTES || size == CHUNK_SMALL_BYTES);
    if (size == CHUNK_SMALL_BYTES) {
        c = take_small(pool);
    } else {
        struct block *b = take_whole(pool);

        c = b ? &b->big : NULL;
    }
    if (!c)
        return NULL;
    assert(c->refs == 0);
    c->refs = 1;
    pool->used_bytes += size;
    return c;
}

static void give_back_small(struct chunk_pool *pool, struct block *b, struct chunk *c)
{
    unsigned i = (unsigned)(c - b->small);

    assert(b->broken && !(b->free_mask & (1u << i)));
    if (b->free_mask == 0)
        list_add_head(&pool->partial, &b->big.link);
    b->free_mask |= 1u << i;
    if (b->free_mask != ALL_FREE)
        return;
    b->broken = false;
    b->free_mask = 0;
    list_del(&b->big.link);
    list_add_head(&pool->whole, &b->big.link);
}

void chunk_unref(struct chunk_pool *pool, struct chunk *c)
{
    struct block *b;

    assert(c->refs > 0);
    if (--c->refs > 0)
        return;
    assert(!list_linked(&c->link)); /* still in its holder's list */
    assert(pool->used_bytes >= c->size);
    pool->used_bytes -= c->size;
    b = &pool->block[chunk_offset(pool, c) / CHUNK_BIG_BYTES];
    if (c->size == CHUNK_SMALL_BYTES)
        give_back_small(pool, b, c);
    else
        list_add_head(&pool->whole, &b->big.link);
}

size_t chunk_pool_budget_bytes(const struct chunk_pool *pool)
{
    return pool->blocks * CHUNK_BIG_BYTES;
}

size_t chunk_pool_used_bytes(const struct chunk_pool *pool)
{
    return pool->used_bytes;
}

uint64_t chunk_offset(const struct chunk_pool *pool, const struct chunk *c)
{
    return (uint64_t)(c->data - pool->arena);
}
