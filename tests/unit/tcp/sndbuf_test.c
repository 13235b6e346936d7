/*
 * The send buffer: reserve and commit, and random use against a flat copy of the bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "base/rng.h"
#include "tcp/sndbuf.h"
#include "tcp/tcp.h"

#define ARENA (64 * CHUNK_BIG_BYTES)
#define SEED  7u

struct fixture {
    void *arena;
    struct chunk_pool *pool;
    struct tcp_sndbuf b;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->arena = aligned_alloc(4096, ARENA);
    f->pool = chunk_pool_create(f->arena, ARENA);
    tcp_sndbuf_init(&f->b, 1000, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    bool leaked;

    tcp_sndbuf_clear(&f->b, f->pool);
    leaked = chunk_pool_used_bytes(f->pool) != 0 || f->b.truesize != 0;
    chunk_pool_destroy(f->pool);
    free(f->arena);
    free(f);
    return leaked ? -1 : 0;
}

static uint8_t byte_at(uint32_t seq)
{
    return (uint8_t)(seq * 167 + (seq >> 9));
}

/* Reserves `want`, writes and commits `commit` bytes of it; returns what was reserved. */
static size_t append(struct fixture *f, size_t want, size_t commit)
{
    struct tcp_iov iov[16];
    int n = tcp_sndbuf_reserve(&f->b, f->pool, want, iov, 16);
    size_t room = 0, done = 0;

    for (int i = 0; i < n; i++)
        room += iov[i].len;
    assert_true(room <= want);
    commit = commit < room ? commit : room;
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < iov[i].len && done < commit; k++, done++)
            iov[i].data[k] = byte_at(f->b.end + (uint32_t)done);
    tcp_sndbuf_commit(&f->b, f->pool, commit);
    assert_null(tcp_sndbuf_check(&f->b));
    assert_int_equal(f->b.reserved, 0);
    return room;
}

static void check_bytes(struct fixture *f, uint32_t seq, uint32_t len)
{
    struct tcp_slice slice[TCP_SLICES_MAX];
    uint32_t at = seq;
    uint16_t n;

    assert_int_equal(tcp_sndbuf_slices(&f->b, seq, len, slice, TCP_SLICES_MAX, &n), len);
    for (uint16_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < slice[i].len; k++)
            assert_int_equal(slice[i].data[k], byte_at(at++));
    assert_int_equal(at, seq + len);
}

static void small_writes_share_a_chunk(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 20; i++)
        assert_int_equal(append(f, 100, 100), 100);
    assert_int_equal(f->b.count, 1);
    assert_int_equal(f->b.truesize, CHUNK_SMALL_BYTES);
    append(f, 100, 100);
    assert_int_equal(f->b.count, 2);
    check_bytes(f, 1000, 2100);
}

static void bulk_takes_big_chunks(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(append(f, 65536, 65536), 65536);
    assert_int_equal(f->b.count, 2);
    assert_int_equal(f->b.truesize, 2 * CHUNK_BIG_BYTES);
    check_bytes(f, 1000, 65536);
}

/* What is not committed goes back; a second reserve gives the same places. */
static void uncommitted_goes_back(void **state)
{
    struct fixture *f = *state;
    struct tcp_iov one[8], two[8];
    int n = tcp_sndbuf_reserve(&f->b, f->pool, 50000, one, 8);

    assert_true(n > 1);
    assert_int_equal(tcp_sndbuf_reserve(&f->b, f->pool, 50000, two, 8), n);
    assert_memory_equal(one, two, (size_t)n * sizeof one[0]);
    tcp_sndbuf_commit(&f->b, f->pool, 0);
    assert_int_equal(chunk_pool_used_bytes(f->pool), 0);
}

static void pool_runs_out(void **state)
{
    struct fixture *f = *state;
    struct tcp_iov iov[4];

    while (append(f, 300000, 300000) > 0)
        ;
    assert_int_equal(chunk_pool_used_bytes(f->pool), ARENA);
    assert_int_equal(tcp_sndbuf_reserve(&f->b, f->pool, 1, iov, 4), -ENOMEM);
    check_bytes(f, 1000 + ARENA / 2 - 7, 60000);
}

static void super_frame_of_small_chunks_fits(void **state)
{
    struct fixture *f = *state;
    struct tcp_slice slice[TCP_SLICES_MAX];
    uint16_t n;

    for (int i = 0; i < 200; i++)
        append(f, 1000, 1000);
    for (uint32_t off = 0; off < 3000; off += 37)
        assert_int_equal(tcp_sndbuf_slices(&f->b, 1000 + off, 65535, slice, TCP_SLICES_MAX, &n), 65535);
    assert_int_equal(tcp_sndbuf_slices(&f->b, 1000, 65535, slice, 1, &n), CHUNK_SMALL_BYTES);
}

/* Pieces of one chunk, which is somebody's; what is written behind them lies elsewhere. */
static void shared_pieces(void **state)
{
    struct fixture *f = *state;
    struct chunk *c = chunk_alloc(f->pool, CHUNK_BIG_BYTES);
    struct tcp_iov reserved[2];

    append(f, 100, 100);
    for (uint32_t i = 0; i < CHUNK_BIG_BYTES; i++)
        c->data[i] = i < 6000 ? byte_at(1100 + i) : 0x55;
    tcp_sndbuf_reserve(&f->b, f->pool, 5000, reserved, 2); /* forgotten by what comes */
    for (uint32_t at = 0; at < 6000; at += 2000) {
        struct tcp_slice slice = {.data = c->data + at, .len = 2000, .chunk = c};

        assert_true(tcp_sndbuf_share(&f->b, f->pool, &slice));
        assert_null(tcp_sndbuf_check(&f->b));
    }
    assert_int_equal(c->refs, 4);
    append(f, 1000, 1000);
    for (uint32_t i = 6000; i < CHUNK_BIG_BYTES; i++)
        assert_int_equal(c->data[i], 0x55);
    check_bytes(f, 1000, 7100);
    tcp_sndbuf_free_to(&f->b, f->pool, 3200); /* the middle of the second */
    assert_int_equal(c->refs, 3);
    check_bytes(f, 3200, 4900);
    tcp_sndbuf_free_to(&f->b, f->pool, 7100);
    assert_int_equal(c->refs, 1);
    chunk_unref_part(f->pool, c);
}

static void random_use(void **state)
{
    struct fixture *f = *state;
    struct rng rng;

    printf("seed %u\n", SEED);
    rng_seed(&rng, SEED);
    tcp_sndbuf_init(&f->b, 0xfffff000u, 0);
    for (int i = 0; i < 20000; i++) {
        uint32_t bytes = tcp_sndbuf_bytes(&f->b);

        if (rng_below(&rng, 2)) {
            size_t want = rng_below(&rng, 4) ? rng_below(&rng, 3000) : rng_below(&rng, 60000);

            append(f, want, rng_below(&rng, want + 1));
        } else if (bytes > 0) {
            uint32_t at = f->b.start + (uint32_t)rng_below(&rng, bytes), left = f->b.end - at;

            check_bytes(f, at, left < 3000 ? left : 3000);
            tcp_sndbuf_free_to(&f->b, f->pool, f->b.start + (uint32_t)rng_below(&rng, bytes + 1));
        }
        assert_null(tcp_sndbuf_check(&f->b));
        assert_int_equal(chunk_pool_used_bytes(f->pool), f->b.truesize);
        assert_true(f->b.truesize <= bytes + 60000 + 2 * CHUNK_BIG_BYTES);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(small_writes_share_a_chunk),
        T(bulk_takes_big_chunks),
        T(uncommitted_goes_back),
        T(pool_runs_out),
        T(super_frame_of_small_chunks_fits),
        T(shared_pieces),
        T(random_use),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
