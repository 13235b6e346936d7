/*
 * tcp/writeq.h: where what was not sent yet is cut. A cell is what a Linux skb on the write queue is: the bytes that
 * one segment or super-frame may take. Sends are appended to the last cell until it is full (size_goal) or ended by
 * MSG_EOR; the sender never joins cells, so no segment holds bytes of two.
 *
 * Invariant: cells cover [start, end) without holes, none is empty; start is the first byte not sent. A pure value: it
 * holds no bytes and knows no connection. Called by sndmem.c (append) and output.c (what is next, what left).
 */
#ifndef TAUT_TCP_WRITEQ_H
#define TAUT_TCP_WRITEQ_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

enum tcp_cell_flag {
    TCP_CELL_PSH = 1, /* its last segment has PSH */
    TCP_CELL_EOR = 2  /* MSG_EOR: nothing is appended, nor merged with what follows when it was sent */
};

struct tcp_cell {
    uint32_t end;
    uint32_t flags; /* enum tcp_cell_flag */
};

struct tcp_writeq {
    struct tcp_cell *ring;
    uint32_t cap; /* a power of two, or 0 */
    uint32_t head, count;
    uint32_t start;
};

/* Empty; the first byte will be `seq`. No memory is taken. */
void tcp_writeq_init(struct tcp_writeq *q, uint32_t seq);
/* Gives the memory back; start becomes end. Usable afterwards. */
void tcp_writeq_clear(struct tcp_writeq *q);
static inline uint32_t tcp_writeq_end(const struct tcp_writeq *q)
{
    return q->count ? q->ring[(q->head + q->count - 1) & (q->cap - 1)].end : q->start;
}
/* The i-th, i < count. */
static inline struct tcp_cell *tcp_writeq_at(const struct tcp_writeq *q, uint32_t i)
{
    assert(i < q->count);
    return &q->ring[(q->head + i) & (q->cap - 1)];
}
static inline uint32_t tcp_writeq_begin_of(const struct tcp_writeq *q, uint32_t i)
{
    return i ? tcp_writeq_at(q, i - 1)->end : q->start;
}
/* Memory for `n` cells more; false: none. */
bool tcp_writeq_prepare(struct tcp_writeq *q, uint32_t n);
/* A cell [end of the last, end). Without memory the last cell grows instead; false: there is not even that. */
bool tcp_writeq_push(struct tcp_writeq *q, uint32_t end, uint32_t flags);
/* Cuts the last cell at `seq`, within it; without memory it stays whole. Its flags stay with the end. */
void tcp_writeq_cut(struct tcp_writeq *q, uint32_t seq);
/* What lies below `seq` was sent. */
void tcp_writeq_sent(struct tcp_writeq *q, uint32_t seq);
/* What was sent from `seq` on was not: it is a cell of its own again, or, without memory, part of the first. */
void tcp_writeq_unsent(struct tcp_writeq *q, uint32_t seq, uint32_t flags);
/* NULL, or a sentence that says which invariant is broken. */
const char *tcp_writeq_check(const struct tcp_writeq *q);

#endif
