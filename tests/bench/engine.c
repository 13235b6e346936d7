/*
 * tests/bench/engine.c: what the engine alone costs, in virtual time: no device, no system call, no other process.
 *
 *     engine [--scenario NAME]... [--json] [--scale PERCENT] [--trace LEVEL]
 *
 * Each scenario is made, warmed up by one share of its work, then SHARES more are measured in the thread's processor
 * time: the best and the median share are told. "segment" is a data segment of at most an MSS, with all that belongs to
 * it at both ends (the wire's copy, ACKs, one copy in by the program and one out); of the scenarios with many
 * connections it is a segment in or out at one end. Checksums are none of the engine's.
 *
 * For counting instructions (scripts/bench-budget): the work lies in measured_share() and nowhere else, and with
 * --scale the same work is done every time.
 */
#include <getopt.h>
#include <inttypes.h>
#include <time.h>

#include "bench.h"

#define SHARES 8u

struct scenario {
    const char *name, *help, *unit;
    uint64_t units; /* of a share, at --scale 100 */
    struct pair_params pair;
    uint32_t peers, active; /* 0: a pair */
    enum peers_state state;
    bool memory; /* nothing is run: what it takes to be there */
    bool large;  /* only if asked for by name, or --all */
};

#define BULK .unit = "segment", .units = 40000, .pair.app = PAIR_BULK
static const struct scenario scenarios[] = {
    {.name = "bulk", .help = "one connection, MTU 1500, no super-frames, turns of 8 frames",
     BULK, .pair.burst = 8, .pair.buffer_bytes = 131072},
    {.name = "bulk_share", .help = "the same, without the wire's copy",
     BULK, .pair.burst = 8, .pair.buffer_bytes = 131072, .pair.share = true},
    {.name = "bulk_ack2", .help = "bulk with an ACK for every two segments",
     BULK, .pair.burst = 2, .pair.buffer_bytes = 131072},
    {.name = "bulk_wide", .help = "bulk with buffers as they grow (megabytes)", BULK, .pair.burst = 8},
    {.name = "bulk_super", .help = "bulk in super-frames",
     BULK, .pair.burst = 8, .pair.gso = true, .pair.buffer_bytes = 1 << 20},
    {.name = "bulk_super_share", .help = "the same, without the wire's copy",
     BULK, .pair.burst = 8, .pair.gso = true, .pair.buffer_bytes = 1 << 20, .pair.share = true},
    {.name = "loss", .help = "bulk, 1 % of the segments lost",
     BULK, .pair.burst = 8, .pair.buffer_bytes = 131072, .pair.loss_ppm = 10000},
    {.name = "loss_wide", .help = "the same with buffers as they grow", BULK, .pair.burst = 8, .pair.loss_ppm = 10000},
    {.name = "request", .help = "one connection, 100 bytes and 1000 back", .unit = "exchange", .units = 10000,
     .pair = {.app = PAIR_REQUESTS, .burst = 8, .request_bytes = 100, .response_bytes = 1000}},
    {.name = "connect", .help = "connect and close, one after another", .unit = "connection", .units = 3000,
     .pair = {.app = PAIR_CONNECTS, .burst = 8}},
    {.name = "conns_1", .help = "one connection, exchanges of 100 and 200 bytes; one end", .unit = "exchange",
     .units = 20000, .peers = 1, .active = 1},
    {.name = "conns_1k", .help = "the same over 1,000 connections by chance", .unit = "exchange", .units = 20000,
     .peers = 1000, .active = 1000},
    {.name = "conns_100k", .help = "over 100,000", .unit = "exchange", .units = 40000, .peers = 100000,
     .active = 100000},
    {.name = "conns_1m", .help = "over 1,000,000", .unit = "exchange", .units = 80000, .peers = 1000000,
     .active = 1000000, .large = true},
    {.name = "idle_100k", .help = "64 active among 100,000", .unit = "exchange", .units = 20000, .peers = 100000,
     .active = 64},
    {.name = "idle_1m", .help = "64 active among 1,000,000", .unit = "exchange", .units = 20000, .peers = 1000000,
     .active = 64, .large = true},
    {.name = "memory_established", .help = "bytes of an idle connection", .peers = 100000, .memory = true,
     .state = PEERS_ESTABLISHED},
    {.name = "memory_half_open", .help = "bytes of a half-open one", .peers = 100000, .memory = true,
     .state = PEERS_HALF_OPEN},
    {.name = "memory_time_wait", .help = "bytes of one in TIME-WAIT", .peers = 100000, .memory = true,
     .state = PEERS_TIME_WAIT},
    {.name = "memory_1m", .help = "bytes of an idle connection of 1,000,000", .peers = 1000000, .memory = true,
     .state = PEERS_ESTABLISHED, .large = true},
};
#undef BULK
#define N_SCENARIOS (sizeof scenarios / sizeof scenarios[0])

struct run {
    const struct scenario *s;
    struct pair *pair;
    struct peers *peers;
    uint64_t units;
    uint32_t active;
};

static struct {
    struct bench_options bench;
    bool json, all, list;
    uint64_t scale, shares;
    const char *wanted[32];
    unsigned n_wanted, told;
} opt = {.bench = {.seed = 1, .trace_level = -1}, .scale = 100, .shares = SHARES};

static uint64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void work(const struct run *r, struct bench_work *ret)
{
    if (r->peers)
        peers_work(r->peers, ret);
    else
        pair_work(r->pair, ret);
}

static void share(struct run *r)
{
    if (r->peers)
        peers_exchange(r->peers, r->active, r->units);
    else
        pair_run(r->pair, r->units);
}

/* Named for callgrind: only what happens in here counts. */
__attribute__((noinline)) static void measured_share(struct run *r)
{
    share(r);
    __asm__ volatile(""); /* not the same code as share() */
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void tell(const char *what, double value, bool last)
{
    if (!opt.json)
        printf("  %s %.*f", what, value < 10 ? 3 : value < 100 ? 1 : 0, value);
    else
        printf(", \"%s\": %.4f", what, value);
    if (last)
        printf(opt.json ? "}" : "\n");
}

static void run(struct run *r)
{
    struct bench_work before, after;
    double per_unit[64], per_segment[64], ns = 0, total;

    share(r);
    work(r, &before);
    for (unsigned i = 0; i < opt.shares; i++) {
        struct bench_work a, b;
        uint64_t began = cpu_ns(), took;

        work(r, &a);
        measured_share(r);
        took = cpu_ns() - began;
        work(r, &b);
        ns += (double)took;
        per_unit[i] = (double)took / (double)(b.units - a.units);
        per_segment[i] = (double)took / (double)(b.segments - a.segments ? b.segments - a.segments : 1);
    }
    work(r, &after);
    qsort(per_unit, opt.shares, sizeof per_unit[0], by_value);
    qsort(per_segment, opt.shares, sizeof per_segment[0], by_value);
    total = (double)(after.segments - before.segments);
    if (strcmp(r->s->unit, "segment") != 0) {
        char name[64];

        snprintf(name, sizeof name, "ns_per_%s", r->s->unit);
        tell(name, per_unit[opt.shares / 2], false);
    }
    if (total > 0) {
        tell("ns_per_segment", per_segment[opt.shares / 2], false);
        tell("best", per_segment[0], false);
        tell("ns_per_byte", ns / (double)(after.bytes - before.bytes), false);
        tell("frames_per_segment", (double)(after.frames - before.frames) / total, false);
    }
    tell("units", (double)(after.units - before.units), true);
}

static void scenario(const struct scenario *s)
{
    struct run r = {.s = s, .units = s->units * opt.scale / 100 ? s->units * opt.scale / 100 : 1};
    uint32_t peers = (uint32_t)(opt.scale < 100 && s->peers > 1000 ? s->peers * opt.scale / 100 : s->peers);

    if (opt.json)
        printf("%s{\"scenario\": \"%s\"", opt.told++ ? ",\n " : "[", s->name);
    else
        printf("%-20s", s->name);
    fflush(stdout);
    r.active = s->active < peers ? s->active : peers;
    if (s->peers)
        r.peers = peers_create(&opt.bench, peers, s->memory ? s->state : PEERS_ESTABLISHED);
    else
        r.pair = pair_create(&opt.bench, &s->pair);
    if (s->memory) {
        uint64_t bytes, rss;

        if (s->state == PEERS_ESTABLISHED)
            peers_rest(r.peers);
        peers_memory(r.peers, &bytes, &rss);
        tell("malloc_bytes", (double)bytes, false);
        tell("rss_bytes", (double)rss, true);
    } else {
        run(&r);
    }
    if (r.peers)
        peers_destroy(r.peers);
    else
        pair_destroy(r.pair);
    fflush(stdout);
}

static void usage(FILE *to)
{
    fprintf(to, "Usage: engine [--scenario NAME]... [--all] [--json] [--scale PERCENT] [--shares N] [--trace LEVEL]\n\n"
                "What the engine alone costs, in virtual time.\n\n"
                "  --scenario NAME  only this one; may be given again\n"
                "  --all            the large ones too (4 GB of memory)\n"
                "  --json           a list of objects\n"
                "  --scale PERCENT  of the work, below 100 also of the connections (100)\n"
                "  --shares N       of the work that are measured, at most 64 (8)\n"
                "  --trace LEVEL    with the flight recorder at this trace_level (none)\n"
                "  --list           the scenarios' names\n\nScenarios:\n");
    for (unsigned i = 0; i < N_SCENARIOS; i++)
        fprintf(to, "  %-20s %s\n", scenarios[i].name, scenarios[i].help);
}

static bool wanted(const struct scenario *s)
{
    for (unsigned i = 0; i < opt.n_wanted; i++)
        if (strcmp(opt.wanted[i], s->name) == 0)
            return true;
    return opt.n_wanted == 0 && (opt.all || !s->large);
}

static const struct scenario *find(const char *name)
{
    for (unsigned i = 0; i < N_SCENARIOS; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}

static int options(int argc, char **argv)
{
    static const struct option longs[] = {{"scenario", 1, 0, 's'}, {"all", 0, 0, 'a'},   {"json", 0, 0, 'j'},
                                          {"scale", 1, 0, 'c'},    {"trace", 1, 0, 't'}, {"shares", 1, 0, 'n'},
                                          {"list", 0, 0, 'l'},     {"help", 0, 0, 'h'},  {0}};

    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;)
        switch (c) {
        case 's':
            if (!find(optarg) || opt.n_wanted == 32) {
                fprintf(stderr, "engine: no scenario '%s'\n", optarg);
                return 2;
            }
            opt.wanted[opt.n_wanted++] = optarg;
            break;
        case 'a': opt.all = true; break;
        case 'j': opt.json = true; break;
        case 'l': opt.list = true; break;
        case 'c': opt.scale = strtoull(optarg, NULL, 10); break;
        case 't': opt.bench.trace_level = atoi(optarg); break;
        case 'n':
            opt.shares = strtoull(optarg, NULL, 10);
            opt.shares = opt.shares < 1 ? 1 : opt.shares > 64 ? 64 : opt.shares;
            break;
        case 'h': usage(stdout); exit(0);
        default: usage(stderr); return 2;
        }
    if (optind == argc)
        return 0;
    usage(stderr);
    return 2;
}

int main(int argc, char **argv)
{
    int rc = options(argc, argv);

    if (rc)
        return rc;
    for (unsigned i = 0; i < N_SCENARIOS; i++)
        if (opt.list)
            puts(scenarios[i].name);
        else if (wanted(&scenarios[i]))
            scenario(&scenarios[i]);
    if (opt.json && !opt.list)
        puts(opt.told ? "]" : "[]");
    return 0;
}
