/*
 * tests/unit/tcp/rcvq_test.c: the receive queue against a model: an array that knows which sequence numbers were put in.
 * Every byte's value is a function of its sequence number, so a byte in the wrong place shows. After every step the
 * queue's own invariants are checked, and at the end the pool must be empty.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/seq.h"
#include "tcp/rcvq.h"
#include "tcp/tcp.h"

#define ARENA (64u * CHUNK_BIG_BYTES)
#define SPAN 200000u

struct fixture {
    uint8_t *arena;
    struct chunk_pool *pool;
    struct tcp_rcvq q;
    uint32_t first;    /* sequence number of the model's first byte */
    uint32_t copied;   /* read up to here, as offset */
    uint32_t nxt;      /* in order up to here, as offset */
    uint8_t have[SPAN];
};

static uint8_t byte_at(uint32_t seq)
{
    return (uint8_t)((seq * 2654435761u) >> 23);
}

static struct fixture *fixture_new(uint32_t first, uint32_t arena_bytes)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->arena = aligned_alloc(4096, arena_bytes);
    f->pool = chunk_pool_create(f->arena, arena_bytes);
    f->first = first;
    tcp_rcvq_init(&f->q, 1u << 20);
    return f;
}

static void fixture_free(struct fixture *f)
{
    tcp_rcvq_release(&f->q, f->pool);
    assert_int_equal(f->q.truesize, 0);
    assert_int_equal(f->q.ooo_bytes, 0);
    assert_int_equal(chunk_pool_used_bytes(f->pool), 0);
    chunk_pool_destroy(f->pool);
    free(f->arena);
    free(f);
}

static void check(struct fixture *f)
{
    const char *bad = tcp_rcvq_check(&f->q, f->first + f->nxt);

    if (bad)
        fail_msg("%s", bad);
    assert_int_equal(f->q.bytes, f->nxt - f->copied);
}

/* A segment [off, off + len) of the model: in chunks as a stack delivers them, or in caller's memory. */
struct built {
    struct tcp_seg seg;
    struct chunk *chunk[8];
    unsigned n_chunks;
    uint8_t *plain;
};

static void fill(uint8_t *to, uint32_t seq, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = byte_at(seq + i);
}

static bool build(struct fixture *f, struct built *b, uint32_t off, uint32_t len, bool chunks, uint32_t headers)
{
    uint32_t done = 0;

    memset(b, 0, sizeof *b);
    b->seg.seq = f->first + off;
    b->seg.len = len;
    if (!chunks) {
        b->plain = malloc(len ? len : 1);
        fill(b->plain, b->seg.seq, len);
        b->seg.slice[0] = (struct tcp_slice){.data = b->plain, .len = len};
        b->seg.n_slices = 1;
        return true;
    }
    while (done < len) {
        uint32_t size = done == 0 ? CHUNK_SMALL_BYTES : CHUNK_BIG_BYTES, skip = done == 0 ? headers : 0;
        struct chunk *c = chunk_alloc(f->pool, size);
        uint32_t n = len - done < size - skip ? len - done : size - skip;

        if (!c)
            return false;
        b->chunk[b->n_chunks++] = c;
        fill(c->data + skip, b->seg.seq + done, n);
        b->seg.slice[b->seg.n_slices++] = (struct tcp_slice){.data = c->data + skip, .len = n, .chunk = c};
        done += n;
    }
    return true;
}

static void unbuild(struct fixture *f, struct built *b)
{
    for (unsigned i = 0; i < b->n_chunks; i++)
        chunk_unref(f->pool, b->chunk[i]);
    free(b->plain);
}

/* What rcv.c does: append or insert, then join. */
static void take(struct fixture *f, uint32_t off, uint32_t len, bool chunks)
{
    struct tcp_sack_block dup;
    struct built b;
    uint32_t lost, skip = off < f->nxt ? f->nxt - off : 0;

    if (!build(f, &b, off, len, chunks, 66) || skip >= len) {
        unbuild(f, &b);
        return;
    }
    if (off + skip == f->nxt) {
        f->nxt += tcp_rcvq_append(&f->q, f->pool, &b.seg, skip, len - skip);
        f->nxt += tcp_rcvq_join(&f->q, f->pool, f->first + f->nxt, &dup, &lost);
        for (uint32_t i = off; i < off + len; i++)
            f->have[i] = 1;
    } else {
        uint32_t missing = 0, held;

        for (uint32_t i = off; i < off + len; i++)
            missing += !f->have[i];
        held = tcp_rcvq_insert(&f->q, f->pool, b.seg.seq, &b.seg, 0, len, &dup);
        assert_int_equal(held, missing);
        /* the first overlap of the model */
        for (uint32_t i = off; i < off + len; i++) {
            if (!f->have[i])
                continue;
            assert_int_equal(dup.start, f->first + i);
            break;
        }
        if (missing == len)
            assert_int_equal(dup.start, dup.end);
        memset(&f->have[off], 1, len);
    }
    unbuild(f, &b);
    check(f);
}

static void model_matches(struct fixture *f)
{
    uint32_t ooo = 0, nxt = f->copied;

    while (nxt < SPAN && f->have[nxt])
        nxt++;
    assert_int_equal(nxt, f->nxt);
    for (uint32_t i = f->nxt; i < SPAN; i++)
        ooo += f->have[i];
    assert_int_equal(ooo, f->q.ooo_bytes);
}

static void read_some(struct fixture *f, uint32_t max)
{
    struct tcp_iov iov[7];
    uint32_t got = 0;
    int n = tcp_rcvq_peek(&f->q, 0, iov, 7);

    for (int i = 0; i < n && got < max; i++) {
        for (size_t k = 0; k < iov[i].len && got < max; k++, got++)
            assert_int_equal(iov[i].data[k], byte_at(f->first + f->copied + got));
    }
    tcp_rcvq_consume(&f->q, f->pool, got);
    f->copied += got;
    check(f);
}

/* ---- tests ---- */

static void in_order_coalesces_small(void **state)
{
    struct fixture *f = fixture_new(1000, ARENA);

    (void)state;
    for (uint32_t i = 0; i < 200; i++)
        take(f, i * 10, 10, i & 1);
    assert_int_equal(f->q.truesize, CHUNK_SMALL_BYTES); /* 2000 bytes in one small chunk */
    assert_int_equal(f->q.count, 1);
    read_some(f, 5000);
    assert_int_equal(f->copied, 2000);
    assert_int_equal(f->q.truesize, 0);
    fixture_free(f);
}

static void large_is_adopted_not_copied(void **state)
{
    struct fixture *f = fixture_new(7, ARENA);
    struct built b;
    struct tcp_iov iov[4];

    (void)state;
    assert_true(build(f, &b, 0, 1448, true, 66));
    assert_int_equal(tcp_rcvq_append(&f->q, f->pool, &b.seg, 0, 1448), 1448);
    assert_int_equal(b.chunk[0]->refs, 2);
    assert_int_equal(tcp_rcvq_peek(&f->q, 0, iov, 4), 1);
    assert_ptr_equal(iov[0].data, b.seg.slice[0].data);
    assert_int_equal(f->q.truesize, CHUNK_SMALL_BYTES);
    /* the same chunk again: charged once */
    assert_int_equal(tcp_rcvq_append(&f->q, f->pool, &b.seg, 700, 748), 748);
    assert_int_equal(f->q.truesize, CHUNK_SMALL_BYTES);
    tcp_rcvq_consume(&f->q, f->pool, 1448);
    assert_int_equal(f->q.truesize, CHUNK_SMALL_BYTES); /* the second piece inherits the charge */
    tcp_rcvq_consume(&f->q, f->pool, 748);
    assert_int_equal(f->q.truesize, 0);
    unbuild(f, &b);
    fixture_free(f);
}

static void sack_blocks_most_recent_first(void **state)
{
    struct fixture *f = fixture_new(UINT32_MAX - 3000, ARENA);

    (void)state;
    for (uint32_t i = 1; i <= 6; i++)
        take(f, i * 1000, 100, false);
    assert_int_equal(f->q.n_ranges, 6);
    assert_int_equal(f->q.n_recent, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(f->q.recent[i].start, f->first + (6 - i) * 1000);
    take(f, 3100, 100, false); /* grows the third: it comes first, as one block */
    assert_int_equal(f->q.recent[0].start, f->first + 3000);
    assert_int_equal(f->q.recent[0].end, f->first + 3200);
    assert_int_equal(f->q.n_recent, 4);
    take(f, 4100, 900, false); /* joins the fourth and the fifth */
    assert_int_equal(f->q.recent[0].start, f->first + 4000);
    assert_int_equal(f->q.recent[0].end, f->first + 5100);
    assert_int_equal(f->q.n_ranges, 5);
    take(f, 0, 3000, false); /* reaches the third */
    assert_int_equal(f->nxt, 3200);
    assert_int_equal(f->q.recent[0].start, f->first + 4000);
    fixture_free(f);
}

static void overlaps_report_the_first_duplicate(void **state)
{
    struct fixture *f = fixture_new(5, ARENA);
    struct tcp_sack_block dup;
    struct built b;
    uint32_t lost;

    (void)state;
    take(f, 100, 100, false);
    take(f, 300, 100, false);
    assert_true(build(f, &b, 150, 200, false, 0));
    assert_int_equal(tcp_rcvq_insert(&f->q, f->pool, b.seg.seq, &b.seg, 0, 200, &dup), 100);
    assert_int_equal(dup.start, f->first + 150);
    assert_int_equal(dup.end, f->first + 200);
    assert_int_equal(f->q.n_ranges, 1);
    assert_int_equal(f->q.ooo_bytes, 300);
    unbuild(f, &b);
    /* in order across it: the ranges' part is the duplicate */
    assert_true(build(f, &b, 0, 250, false, 0));
    f->nxt += tcp_rcvq_append(&f->q, f->pool, &b.seg, 0, 250);
    f->nxt += tcp_rcvq_join(&f->q, f->pool, f->first + f->nxt, &dup, &lost);
    assert_int_equal(lost, 0);
    assert_int_equal(dup.start, f->first + 100);
    assert_int_equal(dup.end, f->first + 250);
    assert_int_equal(f->nxt, 400);
    unbuild(f, &b);
    read_some(f, 1000);
    assert_int_equal(f->copied, 400);
    fixture_free(f);
}

static void prune_takes_the_highest_first(void **state)
{
    struct fixture *f = fixture_new(1, ARENA);

    (void)state;
    for (uint32_t i = 1; i <= 10; i++)
        take(f, i * 2000, 1000, true);
    assert_int_equal(f->q.truesize, 10 * CHUNK_SMALL_BYTES);
    assert_int_equal(tcp_rcvq_prune_ooo(&f->q, f->pool, 6 * CHUNK_SMALL_BYTES, f->first), 4000);
    assert_int_equal(f->q.n_ranges, 6);
    assert_int_equal(f->q.range[5].end, f->first + 13000);
    /* nothing below the floor, not even in part */
    assert_int_equal(tcp_rcvq_prune_ooo(&f->q, f->pool, 0, f->first + 13000), 0);
    assert_int_equal(tcp_rcvq_prune_ooo(&f->q, f->pool, 0, f->first + 10500), 1500);
    assert_int_equal(f->q.range[4].end, f->first + 10500);
    assert_null(tcp_rcvq_check(&f->q, f->first));
    /* of one long range only the end goes */
    tcp_rcvq_release_ooo(&f->q, f->pool);
    memset(f->have, 0, sizeof f->have);
    for (uint32_t i = 1; i <= 10; i++)
        take(f, i * 1000, 1000, true);
    assert_int_equal(f->q.n_ranges, 1);
    tcp_rcvq_prune_ooo(&f->q, f->pool, 6 * CHUNK_SMALL_BYTES, f->first);
    assert_int_equal(f->q.n_ranges, 1);
    assert_int_equal(f->q.ooo_bytes, 6000);
    assert_null(tcp_rcvq_check(&f->q, f->first));
    fixture_free(f);
}

static void collapse_saves_chunks(void **state)
{
    struct fixture *f = fixture_new(1, ARENA);

    (void)state;
    for (uint32_t i = 0; i < 20; i++)
        take(f, i * 600, 600, true);
    assert_int_equal(f->q.truesize, 20 * CHUNK_SMALL_BYTES);
    assert_true(tcp_rcvq_collapse(&f->q, f->pool) >= 10 * CHUNK_SMALL_BYTES);
    check(f);
    read_some(f, 20000);
    while (f->copied < 12000)
        read_some(f, 20000);
    fixture_free(f);
}

static void no_memory_keeps_a_prefix(void **state)
{
    struct fixture *f = fixture_new(1, CHUNK_BIG_BYTES);
    struct tcp_sack_block dup;
    struct built b;

    (void)state;
    assert_true(build(f, &b, 0, 60000, false, 0));
    assert_int_equal(tcp_rcvq_append(&f->q, f->pool, &b.seg, 0, 60000), CHUNK_BIG_BYTES);
    f->nxt = CHUNK_BIG_BYTES;
    check(f);
    assert_int_equal(tcp_rcvq_insert(&f->q, f->pool, 50001, &b.seg, 50000, 100, &dup), 0);
    assert_int_equal(f->q.n_ranges, 0);
    check(f);
    unbuild(f, &b);
    fixture_free(f);
}

static void random_against_model(void **state)
{
    uint64_t seed = 20240601;

    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct rng r;
        struct fixture *f = fixture_new(round & 1 ? UINT32_MAX - 40000 : 12345, ARENA);

        printf("seed %llu\n", (unsigned long long)(seed + round));
        rng_seed(&r, seed + round);
        for (unsigned step = 0; step < 600; step++) {
            uint32_t max = rng_below(&r, 4) ? 1500 : (rng_below(&r, 2) ? 40 : 40000);
            uint32_t off = f->nxt + (rng_below(&r, 3) ? (uint32_t)rng_below(&r, 30000) : 0);
            uint32_t len = 1 + (uint32_t)rng_below(&r, max);

            off -= off > 500 && rng_below(&r, 4) == 0 ? 500 : 0;
            if (off + len >= SPAN)
                break;
            take(f, off, len, rng_below(&r, 2));
            if (rng_below(&r, 3) == 0)
                read_some(f, (uint32_t)rng_below(&r, 20000));
            if (rng_below(&r, 40) == 0) {
                tcp_rcvq_collapse(&f->q, f->pool);
                check(f);
            }
            model_matches(f);
        }
        while (f->q.bytes)
            read_some(f, 100000);
        fixture_free(f);
    }
}

static void cut_behind_fin(void **state)
{
    struct fixture *f = fixture_new(1, ARENA);

    (void)state;
    take(f, 100, 100, false);
    take(f, 300, 100, true);
    take(f, 500, 100, false);
    assert_int_equal(tcp_rcvq_cut_ooo(&f->q, f->pool, f->first + 350), 150);
    assert_int_equal(f->q.n_ranges, 2);
    assert_int_equal(f->q.ooo_bytes, 150);
    assert_null(tcp_rcvq_check(&f->q, f->first));
    fixture_free(f);
}

/*
 * What was given up of a chunk may be committed and still be needed after a crash: nothing is written behind what is left
 * of it, in order or out of order.
 */
static void test_cut_chunk_is_not_filled(void **state)
{
    struct fixture *f = fixture_new(1000, ARENA);
    uint8_t bytes[300];
    struct tcp_seg seg = {.len = 100, .n_slices = 1, .slice = {{.data = bytes, .len = 100}}};
    struct tcp_sack_block dup;
    struct tcp_iov iov[4];
    struct built b;

    (void)state;
    memset(bytes, 7, sizeof bytes);
    assert_int_equal(tcp_rcvq_append(&f->q, f->pool, &seg, 0, 100), 100);
    assert_int_equal(tcp_rcvq_append(&f->q, f->pool, &seg, 0, 100), 100);
    assert_int_equal(tcp_rcvq_peek(&f->q, 0, iov, 4), 1); /* there is room behind */
    f->q.ring[f->q.head].chunk->cut = true;
    assert_int_equal(tcp_rcvq_append(&f->q, f->pool, &seg, 0, 100), 100);
    assert_int_equal(tcp_rcvq_peek(&f->q, 0, iov, 4), 2);
    assert_true(iov[1].data < iov[0].data || iov[1].data >= iov[0].data - 1 + CHUNK_SMALL_BYTES);
    /* An end that a FIN cuts off. */
    assert_true(build(f, &b, 5000, 1500, true, 0));
    assert_int_equal(tcp_rcvq_insert(&f->q, f->pool, b.seg.seq, &b.seg, 0, 1500, &dup), 1500);
    assert_int_equal(b.chunk[0]->refs, 2); /* it was adopted */
    assert_false(b.chunk[0]->cut);
    assert_int_equal(tcp_rcvq_cut_ooo(&f->q, f->pool, b.seg.seq + 500), 1000);
    assert_true(b.chunk[0]->cut);
    chunk_unref(f->pool, b.chunk[0]);
    tcp_rcvq_consume(&f->q, f->pool, 300);
    tcp_rcvq_release_ooo(&f->q, f->pool);
    fixture_free(f);
}

/* A restored piece has its note already; it goes with the piece, in order or out of order. */
static void restored_notes_go_with_their_pieces(void **state)
{
    struct fixture *f = fixture_new(1000, ARENA);
    void *journal = calloc(1, chunk_journal_bytes(16));
    struct chunk_note got;

    (void)state;
    assert_int_equal(chunk_pool_journal(f->pool, journal, 16), 0);
    for (unsigned ooo = 0; ooo < 2; ooo++) {
        struct chunk *c = chunk_alloc(f->pool, CHUNK_SMALL_BYTES);
        uint32_t note = chunk_note_put(f->pool, 1, CHUNK_NOTE_RECV, 1000, c, c->data, 100);

        assert_int_not_equal(note, 0);
        chunk_pool_commit(f->pool);
        assert_true(ooo ? tcp_rcvq_adopt_ooo(&f->q, 1000, c, c->data, 100, note)
                        : tcp_rcvq_adopt(&f->q, c, c->data, 100, note));
        tcp_rcvq_note(&f->q, f->pool, 1, 1100);
        chunk_pool_commit(f->pool);
        assert_true(chunk_note_get(f->pool, note - 1, &got)); /* still the only one */
        assert_int_equal(chunk_notes_touched(f->pool), 1);
        tcp_rcvq_release(&f->q, f->pool);
        chunk_pool_commit(f->pool);
        assert_false(chunk_note_get(f->pool, note - 1, &got));
    }
    fixture_free(f);
    free(journal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_coalesces_small),
        cmocka_unit_test(restored_notes_go_with_their_pieces),
        cmocka_unit_test(large_is_adopted_not_copied),
        cmocka_unit_test(sack_blocks_most_recent_first),
        cmocka_unit_test(overlaps_report_the_first_duplicate),
        cmocka_unit_test(prune_takes_the_highest_first),
        cmocka_unit_test(collapse_saves_chunks),
        cmocka_unit_test(no_memory_keeps_a_prefix),
        cmocka_unit_test(cut_behind_fin),
        cmocka_unit_test(random_against_model),
        cmocka_unit_test(test_cut_chunk_is_not_filled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
