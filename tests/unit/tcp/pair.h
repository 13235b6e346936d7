/*
 * Two engines and the wire between them, in virtual time: everything that one sends arrives at the other
 * after `delay` ns, in order, unless `lose` says no. pair_run() follows the documented order of calls and
 * asserts on the way what tcp.h promises: after the output verbs return false the deadline lies in the
 * future, and every invariant holds (tcp_params.check and tcp_check_all()).
 */
#ifndef TAUT_TESTS_PAIR_H
#define TAUT_TESTS_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include "base/rng.h"
#include "tcp/tcp.h"

#define PAIR_MTU   1500
#define PAIR_PORT  80
#define PAIR_ARENA (16u << 20)

struct wire_seg {
    struct wire_seg *next;
    uint64_t at;
    struct tcp_seg seg;
    uint8_t data[65536];
};

struct side {
    struct tcp *t;
    struct tcp_config config;
    struct chunk_pool *pool;
    void *arena;
    void *records; /* tcp_params.record_arena */
    tcp_id id;
    uint32_t listener;
    unsigned events; /* bits seen */
    int error;       /* of the last TCP_EVENT_ERROR */
    uint64_t sent, received;
    bool eof;
    struct wire_seg *first, *last; /* on the way from this side */
};

struct pair {
    uint64_t now;
    uint64_t delay;
    uint32_t generation;
    struct side a, b; /* a opens, b listens */
    struct rng rng;
    unsigned loss_percent;
    uint32_t hole; /* segments with more payload vanish, 0: none */
};

static inline struct ip_tuple pair_tuple(void)
{
    struct ip_tuple tuple = {ip_addr_v4(192, 0, 2, 1), ip_addr_v4(192, 0, 2, 2), 40000, PAIR_PORT};

    return tuple;
}

static inline void side_create(struct side *s, uint32_t generation, uint64_t now)
{
    struct tcp_params params = {
        .config = &s->config,
        .now = now,
        .max_conns = 16,
        .max_half_open = 16,
        .max_time_wait = 16,
        .generation = generation,
        .record_arena = s->records,
        .check = true,
        .secrets = {.isn = {1, 2}, .ts_offset = {3, 4}, .hash = {5, 6}, .port = {7, 8}, .rng_seed = 9},
    };

    s->arena = aligned_alloc(4096, PAIR_ARENA);
    assert_non_null(s->arena);
    s->pool = chunk_pool_create(s->arena, PAIR_ARENA);
    params.pool = s->pool;
    s->t = tcp_create(&params);
    assert_non_null(s->t);
}

static inline void side_init(struct side *s, uint32_t generation, uint64_t now)
{
    tcp_config_defaults(&s->config);
    s->records = calloc(16, tcp_record_slot_bytes());
    side_create(s, generation, now);
}

static inline void side_destroy(struct side *s)
{
    tcp_destroy(s->t);
    chunk_pool_destroy(s->pool);
    free(s->arena);
    s->t = NULL;
}

static inline void side_end(struct side *s)
{
    side_destroy(s);
    free(s->records);
    while (s->first) {
        struct wire_seg *next = s->first->next;

        free(s->first);
        s->first = next;
    }
}

static inline uint8_t pair_byte(uint64_t at)
{
    return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}

/* ---- the wire ---- */

static inline void wire_put(struct pair *p, struct side *s, const struct tcp_seg *seg)
{
    struct wire_seg *w;
    uint32_t at = 0;

    if (p->loss_percent && rng_below(&p->rng, 100) < p->loss_percent)
        return;
    if (p->hole && (seg->gso_size && seg->gso_size < seg->len ? seg->gso_size : seg->len) > p->hole)
        return;
    w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->seg = *seg;
    w->at = p->now + p->delay;
    for (unsigned i = 0; i < seg->n_slices; i++) {
        memcpy(w->data + at, seg->slice[i].data, seg->slice[i].len);
        at += seg->slice[i].len;
    }
    assert_int_equal(at, seg->len);
    w->seg.n_slices = seg->len ? 1 : 0;
    w->seg.slice[0] = (struct tcp_slice){w->data, seg->len, NULL};
    if (s->last)
        s->last->next = w;
    else
        s->first = w;
    s->last = w;
}

static inline void side_output(struct pair *p, struct side *s)
{
    struct tcp_out out;

    while (memset(&out, 0, sizeof out), tcp_next_reply(s->t, p->now, &out))
        wire_put(p, s, &out.seg);
    while (memset(&out, 0, sizeof out), tcp_next_ready(s->t, &out)) {
        tcp_id id = out.id;

        memset(&out, 0, sizeof out);
        if (tcp_output(s->t, id, p->now, &out))
            wire_put(p, s, &out.seg);
    }
    tcp_commit(s->t);
    assert_true(tcp_deadline(s->t) > p->now);
    {
        const char *wrong = tcp_check_all(s->t);

        if (wrong)
            fail_msg("%s", wrong);
    }
}

static inline void side_events(struct side *s)
{
    struct tcp_event e;

    while (tcp_next_event(s->t, &e)) {
        s->events |= e.bits;
        if (e.bits & TCP_EVENT_ACCEPT) {
            s->id = e.id;
            tcp_listen_accepted(s->t, e.listener);
        }
        if (e.bits & TCP_EVENT_ERROR)
            s->error = e.error;
    }
}

/* Everything that a side can read now, checked against the pattern. */
static inline void side_read(struct pair *p, struct side *s)
{
    struct tcp_iov iov[8];
    bool eof = false;
    int n;

    while (s->id && (n = tcp_recv_peek(s->t, s->id, iov, 8, &eof)) > 0) {
        size_t bytes = 0;

        for (int i = 0; i < n; i++) {
            for (size_t k = 0; k < iov[i].len; k++, bytes++) {
                if (iov[i].data[k] != pair_byte(s->received + bytes))
                    fail_msg("byte %llu is wrong", (unsigned long long)(s->received + bytes));
            }
        }
        s->received += bytes;
        tcp_recv_consume(s->t, s->id, bytes, p->now);
    }
    s->eof = s->eof || eof;
}

/* Writes until `total` bytes of the pattern were taken. */
static inline void side_write(struct pair *p, struct side *s, uint64_t total)
{
    uint8_t buffer[10000];

    while (s->sent < total) {
        size_t want = total - s->sent < sizeof buffer ? (size_t)(total - s->sent) : sizeof buffer;
        int64_t n;

        for (size_t i = 0; i < want; i++)
            buffer[i] = pair_byte(s->sent + i);
        n = tcp_send(s->t, s->id, buffer, want, 0, p->now);
        if (n <= 0)
            break;
        s->sent += (uint64_t)n;
    }
}

static inline void wire_deliver(struct pair *p, struct side *from, struct side *to)
{
    struct tcp_path path = {.mtu = PAIR_MTU};

    while (from->first && from->first->at <= p->now) {
        struct wire_seg *w = from->first;

        from->first = w->next;
        if (!from->first)
            from->last = NULL;
        tcp_input(to->t, &w->seg, &path, p->now);
        free(w);
    }
}

static inline uint64_t pair_next_at(const struct pair *p)
{
    uint64_t at = time_min(tcp_deadline(p->a.t), tcp_deadline(p->b.t));

    if (p->a.first)
        at = time_min(at, p->a.first->at);
    if (p->b.first)
        at = time_min(at, p->b.first->at);
    return at;
}

/* To what happens next; where nothing is pending the programs have their turn now. */
static inline void pair_pass(struct pair *p)
{
    uint64_t at = pair_next_at(p);

    if (at != TIME_NEVER)
        p->now = time_max(p->now, at);
}

static inline void pair_turn(struct pair *p)
{
    wire_deliver(p, &p->a, &p->b);
    wire_deliver(p, &p->b, &p->a);
    tcp_expire(p->a.t, p->now);
    tcp_expire(p->b.t, p->now);
    side_events(&p->a);
    side_events(&p->b);
    side_output(p, &p->a);
    side_output(p, &p->b);
}

/* Until `until`, or nothing is left to happen. */
static inline void pair_run(struct pair *p, uint64_t until)
{
    pair_turn(p);
    for (uint64_t at = pair_next_at(p); at <= until; at = pair_next_at(p)) {
        p->now = time_max(p->now, at);
        pair_turn(p);
    }
    p->now = time_max(p->now, until);
}

static inline void pair_init(struct pair *p)
{
    memset(p, 0, sizeof *p);
    p->now = 1000 * NSEC_PER_SEC;
    p->delay = NSEC_PER_MSEC;
    p->generation = 1;
    rng_seed(&p->rng, 42);
    side_init(&p->a, 1, p->now);
    side_init(&p->b, 1, p->now);
}

static inline void pair_end(struct pair *p)
{
    side_end(&p->a);
    side_end(&p->b);
}

static inline void pair_connect(struct pair *p)
{
    struct tcp_listen_args la = {.port = PAIR_PORT, .backlog = 8};
    struct tcp_connect_args ca = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};
    struct tcp_info info;

    assert_int_equal(tcp_listen(p->b.t, &la, &p->b.listener), 0);
    assert_int_equal(tcp_connect(p->a.t, &ca, p->now, &p->a.id), 0);
    pair_run(p, p->now + 10 * NSEC_PER_MSEC);
    assert_int_equal(tcp_get_info(p->a.t, p->a.id, p->now, &info), 0);
    assert_int_equal(info.state, TCP_STATE_ESTABLISHED);
    assert_int_equal(tcp_get_info(p->b.t, p->b.id, p->now, &info), 0);
    assert_int_equal(info.state, TCP_STATE_ESTABLISHED);
    assert_true(p->a.events & TCP_EVENT_CONNECTED);
    assert_true(p->b.events & TCP_EVENT_ACCEPT);
}

/* `total` bytes of the pattern from a to b, read as they come; until all have arrived or `until`. */
static inline void pair_transfer(struct pair *p, uint64_t total, uint64_t until)
{
    while (p->b.received < total && p->now <= until) {
        side_write(p, &p->a, total);
        pair_turn(p);
        side_read(p, &p->b);
        pair_turn(p);
        if (p->b.received < total)
            pair_pass(p);
    }
}

#endif
