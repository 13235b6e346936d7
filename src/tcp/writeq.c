/*
 * tcp/writeq.c: see tcp/writeq.h.
 *
 * A ring of ends: each cell begins where the one before it ends, the first at `start`. The ring goes when the queue
 * runs empty, so that an idle connection holds none.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/seq.h"
#include "tcp/writeq.h"

#define RING_MIN  4u
#define RING_KEEP 16u /* a larger ring is given back when the queue runs empty */

void tcp_writeq_init(struct tcp_writeq *q, uint32_t seq)
{
    memset(q, 0, sizeof *q);
    q->start = seq;
}

void tcp_writeq_clear(struct tcp_writeq *q)
{
    uint32_t end = tcp_writeq_end(q);

    free(q->ring);
    tcp_writeq_init(q, end);
}

bool tcp_writeq_prepare(struct tcp_writeq *q, uint32_t n)
{
    uint32_t cap = q->cap ? q->cap : RING_MIN;
    struct tcp_cell *ring;

    while (cap < q->count + n)
        cap *= 2;
    if (cap == q->cap)
        return true;
    ring = malloc(cap * sizeof *ring);
    if (!ring)
        return false;
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *tcp_writeq_at(q, i);
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return true;
}

bool tcp_writeq_push(struct tcp_writeq *q, uint32_t end, uint32_t flags)
{
    struct tcp_cell *last = q->count ? tcp_writeq_at(q, q->count - 1) : NULL;

    assert(seq_lt(tcp_writeq_end(q), end));
    if (!tcp_writeq_prepare(q, 1)) {
        if (!last)
            return false;
        last->end = end;
        last->flags |= flags;
        return true;
    }
    q->count++;
    *tcp_writeq_at(q, q->count - 1) = (struct tcp_cell){.end = end, .flags = flags};
    return true;
}

void tcp_writeq_cut(struct tcp_writeq *q, uint32_t seq)
{
    struct tcp_cell last = *tcp_writeq_at(q, q->count - 1);

    assert(seq_lt(tcp_writeq_begin_of(q, q->count - 1), seq) && seq_lt(seq, last.end));
    if (!tcp_writeq_prepare(q, 1))
        return;
    *tcp_writeq_at(q, q->count - 1) = (struct tcp_cell){.end = seq};
    q->count++;
    *tcp_writeq_at(q, q->count - 1) = last;
}

void tcp_writeq_sent(struct tcp_writeq *q, uint32_t seq)
{
    assert(seq_leq(q->start, seq) && seq_leq(seq, tcp_writeq_end(q)));
    while (q->count && seq_leq(tcp_writeq_at(q, 0)->end, seq)) {
        q->head = (q->head + 1) & (q->cap - 1);
        q->count--;
    }
    q->start = seq;
    if (q->count == 0 && q->cap > RING_KEEP)
        tcp_writeq_clear(q);
}

void tcp_writeq_unsent(struct tcp_writeq *q, uint32_t seq, uint32_t flags)
{
    uint32_t end = q->start;

    assert(seq_lt(seq, end));
    q->start = seq;
    if (!tcp_writeq_prepare(q, 1))
        return;
    q->head = (q->head - 1) & (q->cap - 1);
    q->count++;
    *tcp_writeq_at(q, 0) = (struct tcp_cell){.end = end, .flags = flags};
}

const char *tcp_writeq_check(const struct tcp_writeq *q)
{
    uint32_t seq = q->start;

    if (q->cap & (q->cap - 1) || q->count > q->cap)
        return "writeq: ring size";
    for (uint32_t i = 0; i < q->count; i++) {
        if (!seq_lt(seq, tcp_writeq_at(q, i)->end))
            return "writeq: an empty cell";
        seq = tcp_writeq_at(q, i)->end;
    }
    return NULL;
}
