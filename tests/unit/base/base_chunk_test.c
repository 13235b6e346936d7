/*
 * The chunk pool against a model: every live chunk lies in the arena, apart from every other (each is filled
 * with its own pattern and checked on release), the budget adds up, broken blocks become whole again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/chunk.h"
#include "base/rng.h"

#define BLOCKS 8u
#define ARENA  (BLOCKS * CHUNK_BIG_BYTES)

static uint8_t arena[ARENA] __attribute__((aligned(4096)));

static void test_budget(void **state)
{
    struct chunk_pool *pool = chunk_pool_create(arena, ARENA);
    struct chunk *c[BLOCKS];

    (void)state;
    assert_int_equal(chunk_pool_budget_bytes(pool), ARENA);
    for (unsigned i = 0; i < BLOCKS; i++) {
        assert_int_equal(chunk_pool_used_bytes(pool), i * CHUNK_BIG_BYTES);
        c[i] = chunk_alloc(pool, CHUNK_BIG_BYTES);
        assert_non_null(c[i]);
        assert_int_equal(c[i]->refs, 1);
        assert_int_equal(c[i]->size, CHUNK_BIG_BYTES);
        assert_int_equal(chunk_offset(pool, c[i]) % CHUNK_BIG_BYTES, 0);
    }
    assert_null(chunk_alloc(pool, CHUNK_BIG_BYTES));
    assert_null(chunk_alloc(pool, CHUNK_SMALL_BYTES));
    assert_int_equal(chunk_pool_used_bytes(pool), ARENA);
    for (unsigned i = 0; i < BLOCKS; i++)
        chunk_unref(pool, c[i]);
    assert_int_equal(chunk_pool_used_bytes(pool), 0);
    chunk_pool_destroy(pool);
}

static void test_empty_pool(void **state)
{
    struct chunk_pool *pool = chunk_pool_create(arena, 0);

    (void)state;
    assert_non_null(pool);
    assert_int_equal(chunk_pool_budget_bytes(pool), 0);
    assert_null(chunk_alloc(pool, CHUNK_SMALL_BYTES));
    chunk_pool_destroy(pool);
}

static void test_references(void **state)
{
    struct chunk_pool *pool = chunk_pool_create(arena, ARENA);
    struct chunk *c = chunk_alloc(pool, CHUNK_SMALL_BYTES);

    (void)state;
    assert_ptr_equal(chunk_ref(c), c);
    assert_int_equal(c->refs, 2);
    chunk_unref(pool, c);
    assert_int_equal(chunk_pool_used_bytes(pool), CHUNK_SMALL_BYTES);
    chunk_unref(pool, c);
    assert_int_equal(chunk_pool_used_bytes(pool), 0);
    chunk_pool_destroy(pool);
}

/* Sixteen small chunks share one block; while one of them lives, the block isn't whole; then it is. */
static void test_break_and_merge(void **state)
{
    struct chunk_pool *pool = chunk_pool_create(arena, CHUNK_BIG_BYTES);
    struct chunk *small[CHUNK_SMALL_PER_BIG];
    struct chunk *big;

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < CHUNK_SMALL_PER_BIG; i++) {
            small[i] = chunk_alloc(pool, CHUNK_SMALL_BYTES);
            assert_non_null(small[i]);
            assert_null(chunk_alloc(pool, CHUNK_BIG_BYTES));
        }
        assert_null(chunk_alloc(pool, CHUNK_SMALL_BYTES));
        for (unsigned i = 0; i < CHUNK_SMALL_PER_BIG; i++) {
            assert_null(chunk_alloc(pool, CHUNK_BIG_BYTES));
            chunk_unref(pool, small[(i * 7 + round) % CHUNK_SMALL_PER_BIG]);
        }
        big = chunk_alloc(pool, CHUNK_BIG_BYTES);
        assert_non_null(big);
        assert_null(chunk_alloc(pool, CHUNK_SMALL_BYTES));
        chunk_unref(pool, big);
    }
    chunk_pool_destroy(pool);
}

/* Small chunks fill a broken block before they break another. */
static void test_small_ones_keep_together(void **state)
{
    struct chunk_pool *pool = chunk_pool_create(arena, 2 * CHUNK_BIG_BYTES);
    struct chunk *small[CHUNK_SMALL_PER_BIG];
    struct chunk *big;

    (void)state;
    for (unsigned i = 0; i < CHUNK_SMALL_PER_BIG; i++)
        small[i] = chunk_alloc(pool, CHUNK_SMALL_BYTES);
    chunk_unref(pool, small[5]);
    big = chunk_alloc(pool, CHUNK_BIG_BYTES);
    assert_non_null(big);
    small[5] = chunk_alloc(pool, CHUNK_SMALL_BYTES);
    assert_non_null(small[5]);
    chunk_unref(pool, big);
    for (unsigned i = 0; i < CHUNK_SMALL_PER_BIG; i++)
        chunk_unref(pool, small[i]);
    chunk_pool_destroy(pool);
}

static void fill(struct chunk *c, unsigned tag)
{
    memset(c->data, (int)(tag & 0xff), c->size);
}

static void assert_filled(const struct chunk *c, unsigned tag)
{
    for (uint32_t i = 0; i < c->size; i += 509)
        assert_int_equal(c->data[i], tag & 0xff);
    assert_int_equal(c->data[c->size - 1], tag & 0xff);
}

/* In the model a small chunk can be had unless all blocks are full, a big one if some block has no live
 * chunk. */
static bool model_has_room(struct chunk_pool *pool, struct chunk **live, unsigned n, uint32_t size)
{
    uint32_t used[BLOCKS] = {0};

    for (unsigned i = 0; i < n; i++)
        used[chunk_offset(pool, live[i]) / CHUNK_BIG_BYTES] += live[i]->size;
    for (unsigned b = 0; b < BLOCKS; b++)
        if (used[b] + size <= CHUNK_BIG_BYTES)
            return true;
    return false;
}

static void run_model(uint64_t seed)
{
    struct chunk_pool *pool = chunk_pool_create(arena, ARENA);
    struct chunk *live[BLOCKS * CHUNK_SMALL_PER_BIG];
    unsigned tag[BLOCKS * CHUNK_SMALL_PER_BIG];
    unsigned n = 0;
    size_t used = 0;
    struct rng r;

    rng_seed(&r, seed);
    for (unsigned step = 0; step < 4000; step++) {
        unsigned bias = (step / 500) % 2 ? 3 : 7; /* fill for a while, drain for a while */

        if (rng_below(&r, 10) < bias) {
            uint32_t size = rng_below(&r, 12) == 0 ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES;
            bool room = model_has_room(pool, live, n, size);
            struct chunk *c = chunk_alloc(pool, size);

            assert_int_equal(c != NULL, room);
            if (!c)
                continue;
            assert_int_equal(c->size, size);
            assert_false(list_linked(&c->link));
            assert_true(chunk_offset(pool, c) + size <= ARENA);
            fill(c, step);
            tag[n] = step;
            live[n++] = c;
            used += size;
        } else if (n > 0) {
            unsigned i = (unsigned)rng_below(&r, n);

            assert_filled(live[i], tag[i]);
            used -= live[i]->size;
            chunk_unref(pool, live[i]);
            live[i] = live[--n];
            tag[i] = tag[n];
        }
        assert_int_equal(chunk_pool_used_bytes(pool), used);
    }
    while (n > 0)
        chunk_unref(pool, live[--n]);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_non_null(live[i] = chunk_alloc(pool, CHUNK_BIG_BYTES));
    for (unsigned i = 0; i < BLOCKS; i++)
        chunk_unref(pool, live[i]);
    chunk_pool_destroy(pool);
}

static void test_random_against_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_model(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_empty_pool),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_break_and_merge),
        cmocka_unit_test(test_small_ones_keep_together),
        cmocka_unit_test(test_random_against_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
