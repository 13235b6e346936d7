/*
 * tests/unit/tcp/writeq_test.c: the write queue against a flat list of ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/seq.h"
#include "tcp/writeq.h"

#define MOST 200u

struct model {
    struct tcp_cell cell[MOST];
    uint32_t n, start;
};

static void same(const struct tcp_writeq *q, const struct model *m)
{
    assert_null(tcp_writeq_check(q));
    assert_int_equal(q->count, m->n);
    assert_int_equal(q->start, m->start);
    assert_int_equal(tcp_writeq_end(q), m->n ? m->cell[m->n - 1].end : m->start);
    for (uint32_t i = 0; i < m->n; i++) {
        assert_int_equal(tcp_writeq_at(q, i)->end, m->cell[i].end);
        assert_int_equal(tcp_writeq_at(q, i)->flags, m->cell[i].flags);
        assert_int_equal(tcp_writeq_begin_of(q, i), i ? m->cell[i - 1].end : m->start);
    }
}

static void push(struct tcp_writeq *q, struct model *m, struct rng *rng)
{
    uint32_t end = tcp_writeq_end(q) + 1 + (uint32_t)rng_below(rng, 5000), flags = (uint32_t)rng_below(rng, 4);

    if (m->n == MOST)
        return;
    assert_true(tcp_writeq_push(q, end, flags));
    m->cell[m->n++] = (struct tcp_cell){.end = end, .flags = flags};
}

static void cut(struct tcp_writeq *q, struct model *m, struct rng *rng)
{
    uint32_t begin = m->n > 1 ? m->cell[m->n - 2].end : m->start, seq;

    if (m->n == 0 || m->n == MOST || m->cell[m->n - 1].end - begin < 2)
        return;
    seq = begin + 1 + (uint32_t)rng_below(rng, m->cell[m->n - 1].end - begin - 1);
    tcp_writeq_cut(q, seq);
    m->cell[m->n] = m->cell[m->n - 1];
    m->cell[m->n - 1] = (struct tcp_cell){.end = seq};
    m->n++;
}

static void send(struct tcp_writeq *q, struct model *m, struct rng *rng)
{
    uint32_t seq = m->start + (uint32_t)rng_below(rng, tcp_writeq_end(q) - m->start + 1), gone = 0;

    tcp_writeq_sent(q, seq);
    while (gone < m->n && seq_leq(m->cell[gone].end, seq))
        gone++;
    memmove(m->cell, m->cell + gone, (m->n - gone) * sizeof m->cell[0]);
    m->n -= gone;
    m->start = seq;
}

static void unsend(struct tcp_writeq *q, struct model *m, struct rng *rng)
{
    uint32_t seq = m->start - 1 - (uint32_t)rng_below(rng, 3000), flags = (uint32_t)rng_below(rng, 4);

    if (m->n == MOST)
        return;
    tcp_writeq_unsent(q, seq, flags);
    memmove(m->cell + 1, m->cell, m->n * sizeof m->cell[0]);
    m->cell[0] = (struct tcp_cell){.end = m->start, .flags = flags};
    m->n++;
    m->start = seq;
}

static void random_use(void **state)
{
    void (*const op[])(struct tcp_writeq *, struct model *, struct rng *) = {push, push, push, cut, send, unsend};
    struct model m = {.start = 0xffffff00u};
    struct tcp_writeq q;
    struct rng rng;

    (void)state;
    printf("seed 11\n");
    rng_seed(&rng, 11);
    tcp_writeq_init(&q, m.start);
    for (int i = 0; i < 50000; i++) {
        op[rng_below(&rng, 6)](&q, &m, &rng);
        same(&q, &m);
    }
    tcp_writeq_clear(&q);
    assert_null(q.ring);
}

/* An idle connection holds no memory for it. */
static void empty_holds_little(void **state)
{
    struct tcp_writeq q;

    (void)state;
    tcp_writeq_init(&q, 1);
    for (uint32_t i = 0; i < 100; i++)
        assert_true(tcp_writeq_push(&q, 2 + i, 0));
    tcp_writeq_sent(&q, 101);
    assert_null(q.ring);
    assert_int_equal(q.start, 101);
    assert_int_equal(tcp_writeq_end(&q), 101);
    tcp_writeq_clear(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_use), cmocka_unit_test(empty_holds_little)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
