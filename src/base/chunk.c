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
 * With a journal there is a fifth place, limbo: given up since the last commit, waiting for the next one; a limbo chunk
 * has refs == 0 and is on pool->limbo.
 *
 * Descriptors lie apart from the arena; a chunk finds its block by its offset. Called by stack, sock and tcp;
 * never writes a payload byte (but for chunk_pool_poison()), and reads one only to have a block's pages mapped (meet()).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/chunk.h"

#define ALL_FREE 0xffffu
static_assert(CHUNK_SMALL_PER_BIG == 16, "free_mask has one bit for each small chunk of a block");

struct block {
    struct chunk big;
    uint32_t free_mask;
    bool broken, met;
};

struct chunk_pool {
    uint8_t *arena;
    size_t blocks;
    size_t fresh;
    size_t used_bytes;
    struct list_node whole;   /* of block.big.link */
    struct list_node partial; /* of block.big.link */
    struct block *block;
    struct chunk *small; /* CHUNK_SMALL_PER_BIG for each block; apart, so that those of whole ones stay untouched */
    uint32_t epoch; /* commits so far */
    bool poison;
    struct list_node limbo; /* of chunk.link */
    /* The journal; NULL: none. Note i + 1 is note[i]. */
    struct chunk_journal *journal;
    struct chunk_note *note;
    uint32_t n_notes;
    uint32_t *note_born;            /* epoch in which a note was put; while restoring: 1 kept, 0 not */
    uint32_t *free_note, *old_note; /* stacks: free; given up since the last commit */
    uint32_t n_free, n_old;
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
    list_init(&pool->limbo);
    /* At least one, so that NULL means lack of memory. */
    pool->block = calloc(pool->blocks ? pool->blocks : 1, sizeof *pool->block);
    pool->small = calloc(pool->blocks ? pool->blocks : 1, CHUNK_SMALL_PER_BIG * sizeof *pool->small);
    if (!pool->block || !pool->small) {
        free(pool->small);
        free(pool->block);
        free(pool);
        return NULL;
    }
    return pool;
}

void chunk_pool_destroy(struct chunk_pool *pool)
{
    assert(!pool || pool->used_bytes == 0);
    chunk_pool_abandon(pool);
}

void chunk_pool_abandon(struct chunk_pool *pool)
{
    if (!pool)
        return;
    free(pool->note_born);
    free(pool->free_note);
    free(pool->old_note);
    free(pool->small);
    free(pool->block);
    free(pool);
}

static struct chunk *small_of(const struct chunk_pool *pool, const struct block *b)
{
    return &pool->small[(size_t)(b - pool->block) * CHUNK_SMALL_PER_BIG];
}

static struct block *block_of_link(struct list_node *link)
{
    return list_entry(link, struct block, big.link);
}

/*
 * After a restart the pages of an arena that outlived its last user are there but not mapped. Of shared memory a read maps
 * those around it too, a write only its own page, at four times the cost.
 */
static struct block *meet(const struct chunk_pool *pool, struct block *b)
{
    if (pool->journal && !b->met)
        (void)*(volatile uint8_t *)b->big.data;
    b->met = true;
    return b;
}

static struct block *take_whole(struct chunk_pool *pool)
{
    struct list_node *link = list_pop(&pool->whole);
    struct block *b;

    if (link)
        return meet(pool, block_of_link(link));
    if (pool->fresh == pool->blocks)
        return NULL;
    b = &pool->block[pool->fresh];
    b->big.data = pool->arena + pool->fresh * CHUNK_BIG_BYTES;
    b->big.size = CHUNK_BIG_BYTES;
    list_init(&b->big.link);
    pool->fresh++;
    return meet(pool, b);
}

static void break_up(struct chunk_pool *pool, struct block *b)
{
    struct chunk *small = small_of(pool, b);
    bool first = small[0].size == 0; /* else they are as they were before it was whole */

    for (unsigned i = 0; first && i < CHUNK_SMALL_PER_BIG; i++) {
        small[i].data = b->big.data + i * CHUNK_SMALL_BYTES;
        small[i].size = CHUNK_SMALL_BYTES;
        list_init(&small[i].link);
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
    return &small_of(pool, b)[i];
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
    c->born = pool->epoch;
    c->cut = false;
    pool->used_bytes += size;
    return c;
}

static void give_back_small(struct chunk_pool *pool, struct block *b, struct chunk *c)
{
    unsigned i = (unsigned)(c - small_of(pool, b));

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

static void give_back(struct chunk_pool *pool, struct chunk *c)
{
    struct block *b = &pool->block[chunk_offset(pool, c) / CHUNK_BIG_BYTES];

    if (pool->poison)
        memset(c->data, 0xdb, c->size);
    if (c->size == CHUNK_SMALL_BYTES)
        give_back_small(pool, b, c);
    else
        list_add_head(&pool->whole, &b->big.link);
}

void chunk_unref(struct chunk_pool *pool, struct chunk *c)
{
    assert(c->refs > 0);
    if (--c->refs > 0)
        return;
    assert(!list_linked(&c->link)); /* still in its holder's list */
    assert(pool->used_bytes >= c->size);
    pool->used_bytes -= c->size;
    if (pool->journal && c->born != pool->epoch)
        list_add_tail(&pool->limbo, &c->link);
    else
        give_back(pool, c);
}

void chunk_unref_part(struct chunk_pool *pool, struct chunk *c)
{
    if (c->refs > 1)
        c->cut = true;
    chunk_unref(pool, c);
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

/* ---- The journal ---- */

size_t chunk_journal_bytes(uint32_t notes)
{
    return sizeof(struct chunk_journal) + (size_t)notes * sizeof(struct chunk_note);
}

int chunk_pool_journal(struct chunk_pool *pool, void *memory, uint32_t notes)
{
    pool->journal = memory;
    pool->note = (struct chunk_note *)(pool->journal + 1);
    pool->n_notes = notes;
    pool->epoch = 1;
    pool->note_born = calloc(notes ? notes : 1, sizeof *pool->note_born);
    pool->free_note = malloc((notes ? notes : 1) * sizeof *pool->free_note);
    pool->old_note = malloc((notes ? notes : 1) * sizeof *pool->old_note);
    if (pool->note_born && pool->free_note && pool->old_note)
        return 0;
    pool->journal = NULL;
    return -ENOMEM;
}

void chunk_pool_poison(struct chunk_pool *pool, bool on)
{
    pool->poison = on;
}

bool chunk_pool_has_journal(const struct chunk_pool *pool)
{
    return pool->journal != NULL;
}

static uint32_t note_sum(const struct chunk_note *n)
{
    uint64_t h = n->owner * 0x9e3779b97f4a7c15ull;

    h = (h ^ h >> 29 ^ n->offset) * 0xbf58476d1ce4e5b9ull;
    h = (h ^ h >> 32 ^ ((uint64_t)n->seq << 8 | n->big)) * 0x94d049bb133111ebull;
    h = (h ^ h >> 31 ^ ((uint64_t)n->len << 8 | n->kind)) * 0xd6e8feb86659fd93ull;
    return (uint32_t)(h >> 32);
}

/* A crash finds both or neither. */
static void store_len(struct chunk_note *n, uint32_t len)
{
    struct chunk_note next = *n;
    uint64_t both;

    next.len = len;
    next.sum = note_sum(&next);
    memcpy(&both, &next.len, sizeof both);
    __atomic_store_n((uint64_t *)(void *)&n->len, both, __ATOMIC_RELEASE);
}

static_assert(offsetof(struct chunk_note, sum) == offsetof(struct chunk_note, len) + 4 &&
                  offsetof(struct chunk_note, len) % 8 == 0,
              "one word");

uint32_t chunk_note_put(struct chunk_pool *pool, uint64_t owner, enum chunk_note_kind kind, uint32_t seq,
                        const struct chunk *c, const uint8_t *data, uint32_t len)
{
    struct chunk_note n = {.owner = owner, .seq = seq, .len = len, .kind = (uint8_t)kind};
    uint32_t i;

    if (pool->n_free)
        i = pool->free_note[--pool->n_free];
    else if (pool->journal->touched < pool->n_notes)
        i = pool->journal->touched++;
    else
        return 0;
    n.offset = (uint64_t)(data - pool->arena);
    n.big = c->size == CHUNK_BIG_BYTES;
    n.sum = note_sum(&n);
    n.kind = CHUNK_NOTE_FREE;
    pool->note[i] = n;
    pool->note_born[i] = pool->epoch;
    __atomic_store_n(&pool->note[i].kind, (uint8_t)kind, __ATOMIC_RELEASE);
    return i + 1;
}

void chunk_note_set_end(struct chunk_pool *pool, uint32_t note, uint32_t end)
{
    store_len(&pool->note[note - 1], end - pool->note[note - 1].seq);
}

uint32_t chunk_note_end(const struct chunk_pool *pool, uint32_t note)
{
    return pool->note[note - 1].seq + pool->note[note - 1].len;
}

static void note_free(struct chunk_pool *pool, uint32_t i)
{
    __atomic_store_n(&pool->note[i].kind, CHUNK_NOTE_FREE, __ATOMIC_RELEASE);
    pool->free_note[pool->n_free++] = i;
}

void chunk_note_drop(struct chunk_pool *pool, uint32_t note)
{
    if (!note)
        return;
    if (pool->note_born[note - 1] == pool->epoch)
        note_free(pool, note - 1);
    else
        pool->old_note[pool->n_old++] = note - 1;
}

void chunk_pool_commit(struct chunk_pool *pool)
{
    struct list_node *link;

    if (!pool->journal)
        return;
    pool->epoch++;
    while (pool->n_old)
        note_free(pool, pool->old_note[--pool->n_old]);
    while ((link = list_pop(&pool->limbo)) != NULL)
        give_back(pool, list_entry(link, struct chunk, link));
}

/* ---- After a crash ---- */

uint32_t chunk_notes_touched(const struct chunk_pool *pool)
{
    uint32_t n = pool->journal ? pool->journal->touched : 0;

    return n < pool->n_notes ? n : pool->n_notes;
}

bool chunk_note_get(const struct chunk_pool *pool, uint32_t i, struct chunk_note *ret)
{
    uint64_t size, bytes = (uint64_t)pool->blocks * CHUNK_BIG_BYTES;

    *ret = pool->note[i];
    if (ret->kind != CHUNK_NOTE_SEND && ret->kind != CHUNK_NOTE_RECV)
        return false;
    size = ret->big ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES;
    return ret->sum == note_sum(ret) && ret->big <= 1 && ret->offset < bytes &&
           ret->offset % size + ret->len <= size;
}

static void touch_blocks(struct chunk_pool *pool, size_t upto)
{
    size_t from = pool->fresh;

    while (pool->fresh <= upto) {
        struct block *b = &pool->block[pool->fresh];

        b->big.data = pool->arena + pool->fresh * CHUNK_BIG_BYTES;
        b->big.size = CHUNK_BIG_BYTES;
        list_init(&b->big.link);
        pool->fresh++;
    }
    for (size_t i = pool->fresh; i-- > from;)
        list_add_tail(&pool->whole, &pool->block[i].big.link);
}

static void claimed(struct chunk_pool *pool, struct chunk *c)
{
    c->cut = c->refs > 0; /* several have parts; behind the only one lies nothing that anybody claimed */
    c->refs++;
    c->born = 0;
    if (c->refs == 1)
        pool->used_bytes += c->size;
}

struct chunk *chunk_claim(struct chunk_pool *pool, const struct chunk_note *n)
{
    size_t at = n->offset / CHUNK_BIG_BYTES;
    unsigned i = (unsigned)(n->offset % CHUNK_BIG_BYTES / CHUNK_SMALL_BYTES);
    struct block *b = &pool->block[at];

    touch_blocks(pool, at);
    if (n->big) {
        if (b->broken)
            return NULL;
        list_del(&b->big.link);
        claimed(pool, &b->big);
        return &b->big;
    }
    if (b->big.refs)
        return NULL;
    if (!b->broken) {
        list_del(&b->big.link);
        break_up(pool, b);
    }
    if (b->free_mask & 1u << i) {
        b->free_mask &= ~(1u << i);
        if (!b->free_mask)
            list_del(&b->big.link);
    }
    claimed(pool, &small_of(pool, b)[i]);
    return &small_of(pool, b)[i];
}

void chunk_note_keep(struct chunk_pool *pool, uint32_t i)
{
    pool->note_born[i] = 1;
}

void chunk_notes_restored(struct chunk_pool *pool)
{
    for (uint32_t i = chunk_notes_touched(pool); i-- > 0;)
        if (!pool->note_born[i])
            note_free(pool, i);
    pool->epoch = 2;
}
