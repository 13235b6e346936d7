/*
 * tests/bench/trace_cost.c: what the flight recorder costs: a bulk transfer between two engines in virtual time.
 *
 *     trace_cost LEVEL [MIB] [one]     LEVEL -1: no recorder, else trace_level; "one": no super-frames
 *
 * Both ends record, and nothing but the engines and one copy of the bytes on each side costs anything: the share is larger
 * than a daemon's, which has system calls to make too. Compare instructions: perf stat -e instructions:u trace_cost ...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tcp/tcp_trace.h"

#define ARENA_BYTES (64u << 20)
#define QUEUE_MAX   4096
#define STEP_NS     (50 * NSEC_PER_USEC)

struct side {
    struct tcp *t;
    struct tcp_config cfg;
    tcp_id id;
};

static struct side sides[2];
static uint64_t now = NSEC_PER_SEC;
static const struct tcp_path path = {.mtu = 1500};
static struct tcp_seg queue[QUEUE_MAX];
static unsigned queued;

static void make(struct side *me, int level, bool one)
{
    struct tcp_params p = {.config = &me->cfg, .now = now, .max_conns = 64, .max_half_open = 64, .max_time_wait = 64,
                           .secrets = {{1, 2}, {3, 4}, {5, 6}, {7, 8}, 9}, .generation = 1,
                           .trace_bytes = level < 0 ? 0 : 16 << 20};

    tcp_config_defaults(&me->cfg);
    me->cfg.trace_level = level < 0 ? 0 : level;
    p.pool = chunk_pool_create(aligned_alloc(4096, ARENA_BYTES), ARENA_BYTES);
    me->t = tcp_create(&p);
    tcp_set_gso_max(me->t, one ? 0 : 65535);
}

/* What this side sends now, straight into the other one. */
static void carry(unsigned from)
{
    struct tcp *t = sides[from].t;
    struct tcp_out out;

    while (queued < QUEUE_MAX && tcp_next_reply(t, now, &out))
        queue[queued++] = out.seg;
    while (queued < QUEUE_MAX && tcp_next_ready(t, &out)) {
        if (tcp_output(t, out.id, now, &out))
            queue[queued++] = out.seg;
    }
    now += STEP_NS;
    for (unsigned i = 0; i < queued; i++) {
        for (unsigned k = 0; k < queue[i].n_slices; k++)
            queue[i].slice[k].chunk = NULL; /* the other side's pool */
        tcp_input(sides[!from].t, &queue[i], &path, now);
    }
    queued = 0;
}

static void events(struct side *me, uint32_t listener)
{
    struct tcp_event e;

    if (tcp_deadline(me->t) <= now)
        tcp_expire(me->t, now);
    while (tcp_next_event(me->t, &e)) {
        if (e.bits & TCP_EVENT_ACCEPT) {
            me->id = e.id;
            tcp_listen_accepted(me->t, listener);
        }
    }
}

static uint64_t take(struct side *me)
{
    static uint8_t to[1 << 20];
    struct tcp_iov iov[64];
    uint64_t bytes = 0;
    bool eof;
    int n = me->id ? tcp_recv_peek(me->t, me->id, iov, 64, &eof) : 0;

    for (int i = 0; i < n && bytes + iov[i].len <= sizeof to; i++) {
        memcpy(to + bytes, iov[i].data, iov[i].len);
        bytes += iov[i].len;
    }
    if (bytes)
        tcp_recv_consume(me->t, me->id, bytes, now);
    return bytes;
}

int main(int argc, char **argv)
{
    static uint8_t data[256 << 10];
    int level = argc > 1 ? atoi(argv[1]) : 2;
    uint64_t total = (uint64_t)(argc > 2 ? atoi(argv[2]) : 1024) << 20, got = 0;
    struct tcp_listen_args listen = {.port = 80, .backlog = 10};
    struct tcp_connect_args connect = {
        .tuple = {ip_addr_v4(10, 0, 0, 1), ip_addr_v4(10, 0, 0, 2), 1000, 80}, .path = path};
    struct tcp_trace_totals totals;
    uint32_t listener;

    make(&sides[0], level, argc > 3);
    make(&sides[1], level, argc > 3);
    if (tcp_listen(sides[1].t, &listen, &listener) < 0 || tcp_connect(sides[0].t, &connect, now, &sides[0].id) < 0)
        return 1;
    while (got < total) {
        while (tcp_send(sides[0].t, sides[0].id, data, sizeof data, 0, now) > 0)
            ;
        carry(0);
        events(&sides[1], listener);
        got += take(&sides[1]);
        carry(1);
        events(&sides[0], listener);
    }
    tcp_trace_totals(sides[0].t, &totals);
    printf("%llu MiB in %.3f s of virtual time, %llu events\n", (unsigned long long)(got >> 20),
           (double)(now - NSEC_PER_SEC) / 1e9, (unsigned long long)totals.events);
    return 0;
}
