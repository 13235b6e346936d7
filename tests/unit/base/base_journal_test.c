/*
 * The chunk pool's journal: what was committed stays readable until the next commit, whoever gives it up before; notes are
 * whole or none; and a pool that takes over from a dead one claims what notes name and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/chunk.h"

#define BLOCKS 4u
#define ARENA  (BLOCKS * CHUNK_BIG_BYTES)
#define NOTES  8u
#define OWNER  0x500000007ull

static uint8_t arena[ARENA] __attribute__((aligned(4096)));
static uint64_t journal[512];

static struct chunk_pool *boot(void)
{
    struct chunk_pool *pool = chunk_pool_create(arena, ARENA);

    assert_true(chunk_journal_bytes(NOTES) <= sizeof journal);
    assert_int_equal(chunk_pool_journal(pool, journal, NOTES), 0);
    return pool;
}

static struct chunk_pool *fresh(void)
{
    memset(journal, 0, sizeof journal);
    return boot();
}

/* The pool is gone as it stands; its chunks, too. */
static void die(struct chunk_pool *pool, struct chunk **held, unsigned n)
{
    uint64_t copy[512];

    memcpy(copy, journal, sizeof copy);
    while (n)
        chunk_unref(pool, held[--n]);
    chunk_pool_destroy(pool);
    memcpy(journal, copy, sizeof copy);
}

/* May be taken again only when the turn that gave it up is committed. */
static void test_limbo(void **state)
{
    struct chunk_pool *pool = fresh();
    struct chunk *c[BLOCKS], *again;

    (void)state;
    for (unsigned i = 0; i < BLOCKS; i++)
        c[i] = chunk_alloc(pool, CHUNK_BIG_BYTES);
    chunk_unref(pool, c[0]); /* taken in this turn: nothing committed names it */
    again = chunk_alloc(pool, CHUNK_BIG_BYTES);
    assert_ptr_equal(again, c[0]);
    chunk_pool_commit(pool);
    chunk_unref(pool, c[1]);
    assert_int_equal(chunk_pool_used_bytes(pool), ARENA - CHUNK_BIG_BYTES);
    assert_null(chunk_alloc(pool, CHUNK_BIG_BYTES));
    chunk_pool_commit(pool);
    again = chunk_alloc(pool, CHUNK_BIG_BYTES);
    assert_ptr_equal(again, c[1]);
    for (unsigned i = 0; i < BLOCKS; i++)
        chunk_unref(pool, c[i]);
    chunk_pool_destroy(pool);
}

/* A part given up while others hold the rest: nobody writes behind theirs, until the chunk is a new one. */
static void test_cut(void **state)
{
    struct chunk_pool *pool = fresh();
    struct chunk *c = chunk_alloc(pool, CHUNK_SMALL_BYTES), *again;

    (void)state;
    assert_false(c->cut);
    chunk_ref(c);
    chunk_unref(pool, c); /* a reference that named no bytes of its own */
    assert_false(c->cut);
    chunk_ref(c);
    chunk_unref_part(pool, c);
    assert_true(c->cut);
    assert_int_equal(c->refs, 1);
    chunk_unref_part(pool, c);
    chunk_pool_commit(pool);
    again = chunk_alloc(pool, CHUNK_SMALL_BYTES);
    assert_ptr_equal(again, c);
    assert_false(again->cut);
    chunk_unref(pool, again);
    chunk_pool_destroy(pool);
}

static uint32_t put(struct chunk_pool *pool, const struct chunk *c, uint32_t seq, uint32_t offset, uint32_t len)
{
    return chunk_note_put(pool, OWNER, CHUNK_NOTE_SEND, seq, c, c->data + offset, len);
}

static void test_notes(void **state)
{
    struct chunk_pool *pool = fresh();
    struct chunk *c = chunk_alloc(pool, CHUNK_SMALL_BYTES);
    struct chunk_note n;
    uint32_t a = put(pool, c, 1000, 100, 50), b = put(pool, c, 0xfffffff0u, 0, 32);

    (void)state;
    assert_int_equal(a, 1);
    assert_true(chunk_note_get(pool, a - 1, &n));
    assert_true(n.owner == OWNER && n.seq == 1000 && n.len == 50 && n.kind == CHUNK_NOTE_SEND && !n.big);
    assert_int_equal(n.offset, chunk_offset(pool, c) + 100);
    assert_int_equal(chunk_note_end(pool, b), 16); /* sequence numbers wrap */
    chunk_note_set_end(pool, a, 1200);
    assert_true(chunk_note_get(pool, a - 1, &n));
    assert_int_equal(n.len, 200);
    chunk_note_drop(pool, b); /* of this turn: its place is free at once */
    assert_false(chunk_note_get(pool, b - 1, &n));
    assert_int_equal(put(pool, c, 5, 0, 1), b);
    chunk_pool_commit(pool);
    chunk_note_drop(pool, a); /* of an earlier one: readable until the commit */
    assert_true(chunk_note_get(pool, a - 1, &n));
    assert_int_not_equal(put(pool, c, 6, 0, 1), a);
    chunk_pool_commit(pool);
    assert_false(chunk_note_get(pool, a - 1, &n));
    assert_int_equal(put(pool, c, 7, 0, 1), a);
    chunk_unref(pool, c);
    chunk_pool_destroy(pool);
}

static void test_notes_run_out(void **state)
{
    struct chunk_pool *pool = fresh();
    struct chunk *c = chunk_alloc(pool, CHUNK_SMALL_BYTES);

    (void)state;
    for (unsigned i = 0; i < NOTES; i++)
        assert_int_equal(put(pool, c, i, i, 1), i + 1);
    assert_int_equal(put(pool, c, 9, 9, 1), 0);
    chunk_note_drop(pool, 0); /* no note */
    chunk_note_drop(pool, 3);
    assert_int_equal(put(pool, c, 9, 9, 1), 3);
    chunk_unref(pool, c);
    chunk_pool_destroy(pool);
}

/* Each bit of a note, turned: never taken for another note. */
static void test_damaged_note(void **state)
{
    struct chunk_pool *pool = fresh();
    struct chunk *c = chunk_alloc(pool, CHUNK_BIG_BYTES);
    uint8_t *note = (uint8_t *)journal + chunk_journal_bytes(0);
    struct chunk_note n;

    (void)state;
    put(pool, c, 1000, 100, 50);
    for (unsigned bit = 0; bit < offsetof(struct chunk_note, unused) * 8; bit++) {
        note[bit / 8] = (uint8_t)(note[bit / 8] ^ 1u << bit % 8);
        assert_false(chunk_note_get(pool, 0, &n));
        note[bit / 8] = (uint8_t)(note[bit / 8] ^ 1u << bit % 8);
    }
    assert_true(chunk_note_get(pool, 0, &n));
    chunk_note_set_end(pool, 1, 1000 + CHUNK_BIG_BYTES - 100);
    assert_true(chunk_note_get(pool, 0, &n));
    chunk_note_set_end(pool, 1, 1001 + CHUNK_BIG_BYTES - 100); /* longer than its chunk */
    assert_false(chunk_note_get(pool, 0, &n));
    chunk_unref(pool, c);
    chunk_pool_destroy(pool);
}

static void test_takeover(void **state)
{
    struct chunk_pool *pool = fresh();
    struct chunk *held[3] = {chunk_alloc(pool, CHUNK_SMALL_BYTES), chunk_alloc(pool, CHUNK_BIG_BYTES),
                             chunk_alloc(pool, CHUNK_SMALL_BYTES)};
    struct chunk *small, *big, *other, *all[BLOCKS * CHUNK_SMALL_PER_BIG];
    struct chunk_note n;
    unsigned n_small;
    uint64_t offset[3];

    (void)state;
    put(pool, held[0], 1, 0, 10);
    put(pool, held[0], 11, 10, 10);
    put(pool, held[1], 21, 0, 30000);
    put(pool, held[2], 99, 0, 10); /* nobody will want it */
    for (int i = 0; i < 3; i++)
        offset[i] = chunk_offset(pool, held[i]);
    memset(held[0]->data, 'x', 20);
    chunk_pool_commit(pool);
    die(pool, held, 3);
    pool = boot();
    assert_int_equal(chunk_notes_touched(pool), 4);
    assert_true(chunk_note_get(pool, 0, &n));
    small = chunk_claim(pool, &n);
    chunk_note_keep(pool, 0);
    assert_true(chunk_note_get(pool, 1, &n));
    assert_false(small->cut); /* the only part: behind it may be written */
    assert_ptr_equal(chunk_claim(pool, &n), small);
    chunk_note_keep(pool, 1);
    assert_int_equal(small->refs, 2);
    assert_true(small->cut); /* somebody else's committed bytes may lie behind */
    assert_int_equal(chunk_offset(pool, small), offset[0]);
    assert_memory_equal(small->data, "xxxxxxxxxxxxxxxxxxxx", 20);
    assert_int_equal(chunk_pool_used_bytes(pool), CHUNK_SMALL_BYTES);
    n.big = 1; /* a small one's place as a big one, and the reverse */
    assert_null(chunk_claim(pool, &n));
    assert_true(chunk_note_get(pool, 2, &n));
    big = chunk_claim(pool, &n);
    chunk_note_keep(pool, 2);
    assert_int_equal(chunk_offset(pool, big), offset[1]);
    n.big = 0;
    assert_null(chunk_claim(pool, &n));
    chunk_notes_restored(pool);
    assert_false(chunk_note_get(pool, 3, &n));
    other = chunk_alloc(pool, CHUNK_SMALL_BYTES);
    assert_int_equal(put(pool, other, 5, 0, 1), 4);
    assert_int_not_equal(chunk_offset(pool, other), offset[0]);
    chunk_note_drop(pool, 1); /* what was kept is of an earlier turn */
    assert_true(chunk_note_get(pool, 0, &n));
    chunk_unref(pool, small);
    chunk_unref(pool, small);
    assert_int_equal(small->refs, 0);
    for (n_small = 0; n_small < BLOCKS * CHUNK_SMALL_PER_BIG; n_small++)
        if (!(all[n_small] = chunk_alloc(pool, CHUNK_SMALL_BYTES)))
            break;
    for (unsigned i = 0; i < n_small; i++)
        assert_ptr_not_equal(all[i], small); /* in limbo until the commit */
    chunk_pool_commit(pool);
    assert_ptr_equal(chunk_alloc(pool, CHUNK_SMALL_BYTES), small);
    chunk_unref(pool, small);
    while (n_small)
        chunk_unref(pool, all[--n_small]);
    chunk_unref(pool, other);
    chunk_unref(pool, big);
    chunk_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limbo),          cmocka_unit_test(test_cut),          cmocka_unit_test(test_notes),
        cmocka_unit_test(test_notes_run_out), cmocka_unit_test(test_damaged_note), cmocka_unit_test(test_takeover),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
