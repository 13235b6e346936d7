/*
 * tests/bench/bench.h: what the engine's benchmarks share.
 *
 * A scenario is made, then its work is done in equal shares of virtual time's events; only the shares are measured. The
 * same seed and scale give the same instructions: nothing asks a clock but the one who measures.
 */
#ifndef TAUT_BENCH_H
#define TAUT_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tcp/tcp.h"
#include "tcp/tcp_trace.h"

#define BENCH_MTU 1500

struct bench_options {
    uint64_t seed;
    int trace_level; /* -1: no flight recorder */
};

/* What the shares so far have done. */
struct bench_work {
    uint64_t segments; /* data segments of at most an MSS, whatever they travelled in; both ends have handled them */
    uint64_t frames;   /* all that one end gave to the other */
    uint64_t bytes;    /* payload that reached a program */
    uint64_t units;    /* exchanges or connections, where the scenario counts those */
};

/* ---- pair.c: two engines back to back ---- */

struct pair_params {
    bool gso;             /* super-frames */
    bool share;           /* the wire hands chunks over as they are; else it copies, as the read of a device does */
    uint32_t loss_ppm;    /* of frames with data */
    unsigned burst;       /* frames that an end takes before it looks what to send: one turn of a shell */
    int32_t buffer_bytes; /* SO_SNDBUF and SO_RCVBUF, 0: as they grow */
    enum pair_app { PAIR_BULK, PAIR_REQUESTS, PAIR_CONNECTS } app;
    uint32_t request_bytes, response_bytes;
};
struct pair;
struct pair *pair_create(const struct bench_options *o, const struct pair_params *p);
void pair_destroy(struct pair *p);
/* Until so many units more are done: segments of BENCH_MTU for PAIR_BULK, exchanges, connections. */
void pair_run(struct pair *p, uint64_t units);
void pair_work(const struct pair *p, struct bench_work *ret);

/* ---- peers.c: one engine and many peers, which are but sequence numbers ---- */

enum peers_state { PEERS_HALF_OPEN, PEERS_ESTABLISHED, PEERS_TIME_WAIT };
struct peers;
/* `n` of them in that state; established ones have had one exchange each. */
struct peers *peers_create(const struct bench_options *o, uint32_t n, enum peers_state state);
void peers_destroy(struct peers *p);
/* So many exchanges, each with one of the first `active` peers by chance: request, response, in the next turn its ACK. */
void peers_exchange(struct peers *p, uint32_t active, uint64_t exchanges);
void peers_rest(struct peers *p);
/* Bytes of each that malloc gave, tables included; and of resident memory. */
void peers_memory(const struct peers *p, uint64_t *ret_malloc, uint64_t *ret_rss);
void peers_work(const struct peers *p, struct bench_work *ret);

#endif
