/*
 * tests/bench/peers.c: one engine, many connections.
 *
 * The peers are made up: two sequence numbers each and a tuple that follows from their number. So a million
 * connections cost what the engine makes of them, and what is measured is one end. A turn is a shell's: up to BATCH
 * segments go in, events are answered, records committed, segments taken.
 */
#include <malloc.h>
#include <sys/mman.h>

#include "bench.h"

#define ARENA_BYTES (1ull << 30)
#define OPEN_NS (4 * NSEC_PER_MSEC) /* for BATCH connections */
#define BATCH       64u
#define PORT        80
#define PORTS       50000u /* of one peer's address */
#define FIRST_PORT  1024u
#define ISS         1000u
#define REQUEST     100u
#define RESPONSE    200u

struct peer {
    uint32_t snd, rcv; /* the next we send, the next we expect */
    uint32_t tsecr;
};

struct peers {
    struct tcp *t;
    struct tcp_config cfg;
    struct chunk_pool *pool;
    void *arena;
    uint32_t listener, n, opened;
    struct peer *peer;
    tcp_id *id; /* of established ones, in the order in which they were accepted */
    uint64_t now;
    struct rng rng;
    struct tcp_seg seg;
    struct bench_work work;
    uint64_t malloc_before, rss_before;
};

static const struct tcp_path path = {.mtu = BENCH_MTU};
static uint8_t payload[2048];

static struct ip_addr address_of(uint32_t i)
{
    uint32_t host = i / PORTS;

    return ip_addr_v4(10, 1, (uint8_t)(host >> 8), (uint8_t)(host + 1));
}

static struct peer *peer_of(struct peers *p, const struct tcp_seg *out)
{
    uint32_t host = (uint32_t)out->dst.b[2] << 8 | (uint32_t)(out->dst.b[3] - 1);

    return &p->peer[host * PORTS + out->dst_port - FIRST_PORT];
}

/* A segment of peer i, without payload. */
static struct tcp_seg *from_peer(struct peers *p, uint32_t i, unsigned flags)
{
    struct tcp_seg *s = &p->seg;

    memset(s, 0, offsetof(struct tcp_seg, slice));
    s->src = address_of(i);
    s->dst = ip_addr_v4(10, 0, 0, 1);
    s->src_port = (uint16_t)(FIRST_PORT + i % PORTS);
    s->dst_port = PORT;
    s->seq = p->peer[i].snd;
    s->ack = flags & TCP_ACK ? p->peer[i].rcv : 0;
    s->wnd = 8192;
    s->flags = (uint16_t)flags;
    s->ttl = 64;
    s->opt.timestamps_ok = true;
    s->opt.tsval = (uint32_t)(p->now / NSEC_PER_MSEC);
    s->opt.tsecr = p->peer[i].tsecr;
    return s;
}

static void input(struct peers *p, uint32_t i, unsigned flags)
{
    struct tcp_seg *s = from_peer(p, i, flags);

    if (flags & TCP_SYN) {
        s->opt.mss_ok = s->opt.wscale_ok = s->opt.sack_permitted = true;
        s->opt.mss = 1460;
        s->opt.wscale = 7;
    }
    if (flags & (TCP_SYN | TCP_FIN))
        p->peer[i].snd++;
    tcp_input(p->t, s, &path, p->now);
}

static void request(struct peers *p, uint32_t i)
{
    struct tcp_seg *s = from_peer(p, i, TCP_ACK | TCP_PSH);

    s->len = REQUEST;
    s->n_slices = 1;
    s->slice[0] = (struct tcp_slice){.data = payload, .len = REQUEST};
    p->peer[i].snd += REQUEST;
    p->work.segments++;
    p->work.bytes += REQUEST;
    tcp_input(p->t, s, &path, p->now);
}

static void arrived(struct peers *p, const struct tcp_out *out)
{
    struct peer *peer = peer_of(p, &out->seg);

    peer->rcv = out->seg.seq + out->seg.len + (out->seg.flags & (TCP_SYN | TCP_FIN) ? 1 : 0);
    peer->tsecr = out->seg.opt.tsval;
    p->work.frames++;
    if (out->seg.len) {
        p->work.segments++;
        p->work.units++;
    }
}

static void answer(struct peers *p, tcp_id id)
{
    struct tcp_iov iov[4];
    uint8_t to[2048];
    uint64_t bytes = 0;
    bool eof;
    int n = tcp_recv_peek(p->t, id, iov, 4, &eof);

    for (int i = 0; i < n; i++) {
        memcpy(to, iov[i].data, iov[i].len);
        bytes += iov[i].len;
    }
    if (!bytes)
        return;
    tcp_recv_consume(p->t, id, bytes, p->now);
    if (tcp_send(p->t, id, payload, RESPONSE * (bytes / REQUEST), 0, p->now) <= 0)
        abort();
}

static void turn(struct peers *p)
{
    struct tcp_event e;
    struct tcp_out out;

    while (tcp_next_event(p->t, &e)) {
        if (e.bits & TCP_EVENT_ACCEPT) {
            p->id[p->opened++] = e.id;
            tcp_listen_accepted(p->t, p->listener);
        }
        if (e.bits & TCP_EVENT_READABLE)
            answer(p, e.id);
    }
    tcp_commit(p->t, p->now);
    while (tcp_next_reply(p->t, p->now, &out))
        arrived(p, &out);
    while (tcp_next_ready(p->t, &out))
        if (tcp_output(p->t, out.id, p->now, &out))
            arrived(p, &out);
    p->now += 20 * NSEC_PER_USEC;
    if (tcp_deadline(p->t) <= p->now)
        tcp_expire(p->t, p->now);
}

/* ---- Opening ---- */

static void configure(struct peers *p, const struct bench_options *o)
{
    struct tcp_config *cfg = &p->cfg;

    tcp_config_defaults(cfg);
    cfg->trace_level = o->trace_level < 0 ? 0 : o->trace_level;
    cfg->somaxconn = cfg->tcp_max_syn_backlog = 1 << 24;
    cfg->tcp_max_tw_buckets = (int32_t)p->n;
    cfg->tcp_max_orphans = (int32_t)p->n + 1;
    cfg->tcp_syncookies = 0;
}

/* Bytes that malloc has handed out. */
static uint64_t malloc_bytes(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static uint64_t rss_bytes(void)
{
    unsigned long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (uint64_t)resident * 4096;
}

/* Left alone for a few seconds: timers that run for nothing have run, idle connections are parked. */
void peers_rest(struct peers *p)
{
    uint64_t until = p->now + 5 * NSEC_PER_SEC;

    while (tcp_deadline(p->t) < until) {
        p->now = tcp_deadline(p->t);
        tcp_expire(p->t, p->now);
        turn(p);
    }
    p->now = until;
}

void peers_memory(const struct peers *p, uint64_t *ret_malloc, uint64_t *ret_rss)
{
    *ret_malloc = (malloc_bytes() - p->malloc_before) / p->n;
    *ret_rss = (rss_bytes() - p->rss_before) / p->n;
}

static void engine(struct peers *p, const struct bench_options *o, enum peers_state state)
{
    struct tcp_params params = {.config = &p->cfg, .now = p->now, .max_conns = p->n + BATCH,
                                .max_half_open = state == PEERS_HALF_OPEN ? p->n : BATCH,
                                .max_time_wait = state == PEERS_TIME_WAIT ? p->n : BATCH, .generation = 1,
                                .secrets = {{o->seed, 2}, {3, 4}, {5, 6}, {7, 8}, o->seed},
                                .trace_bytes = o->trace_level < 0 ? 0 : 16 << 20};
    struct tcp_listen_args listen = {.port = PORT, .backlog = 1 << 24};

    p->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    p->pool = p->arena == MAP_FAILED ? NULL : chunk_pool_create(p->arena, ARENA_BYTES);
    params.pool = p->pool;
    memset(p->peer, 1, p->n * sizeof *p->peer); /* ours is not to count */
    memset(p->id, 1, p->n * sizeof *p->id);
    p->malloc_before = malloc_bytes();
    p->rss_before = rss_bytes();
    p->t = tcp_create(&params);
    if (!p->pool || !p->t || tcp_listen(p->t, &listen, &p->listener) < 0)
        abort();
}

static void open_batch(struct peers *p, uint32_t first, uint32_t n, enum peers_state state)
{
    for (uint32_t i = first; i < first + n; i++) {
        p->peer[i] = (struct peer){.snd = ISS};
        input(p, i, TCP_SYN);
    }
    turn(p);
    if (state == PEERS_HALF_OPEN)
        return;
    for (uint32_t i = first; i < first + n; i++)
        input(p, i, TCP_ACK);
    turn(p);
    for (uint32_t i = first; i < first + n; i++)
        request(p, i);
    turn(p);
    for (uint32_t i = first; i < first + n; i++)
        input(p, i, TCP_ACK);
    turn(p);
    if (state != PEERS_TIME_WAIT)
        return;
    for (uint32_t i = first; i < first + n; i++)
        tcp_close(p->t, p->id[i], p->now);
    turn(p);
    for (uint32_t i = first; i < first + n; i++)
        input(p, i, TCP_ACK | TCP_FIN);
    turn(p);
}

static void expect(const struct peers *p, enum peers_state state)
{
    struct tcp_totals n;

    tcp_get_totals(p->t, &n);
    if ((state == PEERS_HALF_OPEN ? n.half_open : state == PEERS_TIME_WAIT ? n.time_wait : n.established) == p->n)
        return;
    fprintf(stderr, "of %u peers: %u half-open, %u established, %u in TIME-WAIT\n", p->n, n.half_open, n.established,
            n.time_wait);
    abort();
}

struct peers *peers_create(const struct bench_options *o, uint32_t n, enum peers_state state)
{
    struct peers *p = calloc(1, sizeof *p);

    if (!p)
        abort();
    p->n = n;
    p->now = 10 * NSEC_PER_SEC;
    rng_seed(&p->rng, o->seed);
    p->peer = mmap(NULL, n * sizeof *p->peer, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p->id = mmap(NULL, n * sizeof *p->id, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->peer == MAP_FAILED || p->id == MAP_FAILED)
        abort();
    configure(p, o);
    engine(p, o, state);
    for (uint32_t i = 0; i < n; i += BATCH) {
        open_batch(p, i, n - i < BATCH ? n - i : BATCH, state);
        if (state == PEERS_ESTABLISHED)
            p->now += OPEN_NS; /* as fast as a machine could really open them */
    }
    expect(p, state);
    return p;
}

void peers_destroy(struct peers *p)
{
    tcp_destroy(p->t);
    chunk_pool_destroy(p->pool);
    munmap(p->arena, ARENA_BYTES);
    munmap(p->peer, p->n * sizeof *p->peer);
    munmap(p->id, p->n * sizeof *p->id);
    free(p);
}

/* ---- Exchanges ---- */

/*
 * A response is acknowledged in the next turn, with the requests of others. (Were it by the next request of its own, a
 * million connections would leave each other no time for that before the RTO, and hold a chunk each meanwhile.)
 */
void peers_exchange(struct peers *p, uint32_t active, uint64_t exchanges)
{
    uint32_t which[2][BATCH], *now = which[0], *before = which[1], batch = active < BATCH ? active : BATCH, n = 0;

    for (uint64_t done = 0; done < exchanges; done += batch) {
        uint32_t *swap = before;

        before = now;
        now = swap;
        for (uint32_t i = 0; i < batch; i++) {
            now[i] = active <= BATCH ? i : (uint32_t)rng_below(&p->rng, active);
            __builtin_prefetch(&p->peer[now[i]]); /* they are not what is measured */
        }
        for (uint32_t i = 0; i < n; i++)
            input(p, before[i], TCP_ACK);
        for (uint32_t i = 0; i < batch; i++)
            request(p, now[i]);
        turn(p);
        n = batch;
    }
    for (uint32_t i = 0; i < n; i++)
        input(p, now[i], TCP_ACK);
    turn(p);
}

void peers_work(const struct peers *p, struct bench_work *ret)
{
    *ret = p->work;
}
