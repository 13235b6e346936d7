/*
 * tcp/rec_priv.h: the flight recorder's pool, shared by rec.c (writes) and recread.c (reads). rec.c says how it works.
 */
#ifndef TAUT_TCP_REC_PRIV_H
#define TAUT_TCP_REC_PRIV_H

#include "tcp/tcp_priv.h"

#define REC_PAGE_BYTES   4096u
#define REC_NIL          UINT32_MAX
#define REC_PAGES_MIN    8u
#define REC_ENGINE_PAGES 16u

enum rec_kind { REC_FREE, REC_CONN, REC_DEAD, REC_ENGINE };

struct rec_page {
    uint64_t first; /* number of its first event */
    uint32_t next, prev; /* in its ring, or next: in the free list */
    uint32_t used, count; /* bytes, events */
    uint8_t data[REC_PAGE_BYTES - 24];
};

struct rec_ring {
    uint64_t id, serial; /* serial: of black boxes, by age */
    uint64_t next_event, begun_at, last_at, lru_at;
    uint32_t first_page, last_page, n_pages, last_used; /* last_used: where in last_page its last event lies */
    uint32_t lru_prev, lru_next, gen;
    uint8_t kind; /* enum rec_kind */
};

struct tcp_rec {
    void *pool;
    struct rec_page *pages;
    struct rec_ring *rings; /* n_pages of them: each has a page at least */
    uint32_t n_pages, touched_pages, used_pages, free_page;
    uint32_t n_rings, touched_rings, free_ring, lru_first, lru_last;
    uint32_t engine, n_boxes;
    uint64_t now, serial;
    struct tcp_conn *current;
    uint64_t events, stolen_rings, stolen_pages;
};

/* What the connection is now. */
void tcp_rec_fill_head(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct tcp_rec_head *ret);

#endif
