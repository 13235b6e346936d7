/*
 * tests/bench/pair.c: two engines back to back in virtual time.
 *
 * Side 0 connects and sends, side 1 listens. A turn of one side is a shell's: a burst of frames goes in, the program
 * does what events tell it, records are committed, what is to be sent goes onto the wire. The other side gets it in its
 * next turn, DELAY_NS later. When nothing is on its way the time goes to the next deadline.
 */
#include <sys/mman.h>

#include "bench.h"

#define ARENA_BYTES (256u << 20)
#define WIRE_MAX    16384u /* frames, a power of two */
#define DELAY_NS    (10 * NSEC_PER_USEC)
#define IO_BYTES    65536u
#define PORT        80

struct wire {
    struct tcp_seg *seg; /* only as many slices of each are touched as it has */
    uint32_t head, count;
};

struct side {
    struct tcp *t;
    struct tcp_config cfg;
    struct chunk_pool *pool;
    uint32_t listener;
    tcp_id id;
    bool connected, peer_closed;
    uint64_t unread; /* of a request or response: bytes yet to come */
    struct wire in;
};

struct pair {
    struct pair_params params;
    struct side side[2];
    void *arena[2];
    uint64_t now;
    struct rng rng;
    uint16_t port;
    uint64_t delivered, target;
    struct bench_work work;
};

static const struct tcp_path path = {.mtu = BENCH_MTU};
static uint8_t data_out[IO_BYTES], data_in[IO_BYTES];

static void make(struct pair *p, unsigned i, const struct bench_options *o)
{
    struct side *me = &p->side[i];
    struct tcp_params params = {.config = &me->cfg, .now = p->now, .max_conns = 1 << 17, .max_half_open = 1024,
                                .max_time_wait = 1 << 17, .generation = 1,
                                .secrets = {{o->seed, 2}, {3, 4}, {5, 6}, {7, 8}, o->seed + i},
                                .trace_bytes = o->trace_level < 0 ? 0 : 16 << 20};

    tcp_config_defaults(&me->cfg);
    me->cfg.trace_level = o->trace_level < 0 ? 0 : o->trace_level;
    me->cfg.tcp_max_tw_buckets = 1 << 17;
    if (i == 0 || !p->params.share) {
        p->arena[i] = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        me->pool = chunk_pool_create(p->arena[i], ARENA_BYTES);
    } else {
        me->pool = p->side[0].pool;
    }
    params.pool = me->pool;
    me->t = tcp_create(&params);
    me->in.seg = malloc(WIRE_MAX * sizeof *me->in.seg);
    if (!me->pool || !me->t || !me->in.seg)
        abort();
    tcp_set_gso_max(me->t, p->params.gso ? 65535 : 0);
}

static void connect_one(struct pair *p)
{
    struct tcp_connect_args args = {.path = path};

    p->side[0].connected = false;
    if (p->port++ == 60000)
        p->port = 1024;
    args.tuple = (struct ip_tuple){ip_addr_v4(10, 0, 0, 1), ip_addr_v4(10, 0, 0, 2), p->port, PORT};
    if (tcp_connect(p->side[0].t, &args, p->now, &p->side[0].id) < 0)
        abort();
    if (p->params.buffer_bytes)
        tcp_set_opt(p->side[0].t, p->side[0].id, TCP_OPT_SNDBUF, p->params.buffer_bytes, p->now);
    tcp_set_opt(p->side[0].t, p->side[0].id, TCP_OPT_NODELAY, 1, p->now);
}

struct pair *pair_create(const struct bench_options *o, const struct pair_params *params)
{
    struct tcp_listen_args listen = {.port = PORT, .backlog = 100};
    struct pair *p = calloc(1, sizeof *p);

    if (!p)
        abort();
    p->params = *params;
    p->now = NSEC_PER_SEC;
    p->port = 1024;
    rng_seed(&p->rng, o->seed);
    make(p, 0, o);
    make(p, 1, o);
    if (tcp_listen(p->side[1].t, &listen, &p->side[1].listener) < 0)
        abort();
    if (params->buffer_bytes)
        tcp_listen_set_opt(p->side[1].t, p->side[1].listener, TCP_OPT_RCVBUF, params->buffer_bytes);
    if (params->app != PAIR_CONNECTS)
        connect_one(p);
    return p;
}

void pair_destroy(struct pair *p)
{
    for (unsigned i = 0; i < 2; i++) {
        free(p->side[i].in.seg);
        tcp_destroy(p->side[i].t);
    }
    for (unsigned i = 0; i < 2; i++)
        if (p->arena[i]) {
            chunk_pool_destroy(p->side[i].pool);
            munmap(p->arena[i], ARENA_BYTES);
        }
    free(p);
}

/* ---- The wire ---- */

static void onto_wire(struct pair *p, struct wire *w, const struct tcp_seg *seg)
{
    struct tcp_seg *to = &w->seg[(w->head + w->count) & (WIRE_MAX - 1)];

    if (seg->len && p->params.loss_ppm && rng_below(&p->rng, 1000000) < p->params.loss_ppm)
        return;
    if (w->count == WIRE_MAX)
        abort();
    memcpy(to, seg, offsetof(struct tcp_seg, slice) + seg->n_slices * sizeof seg->slice[0]);
    w->count++;
}

/* Payload into chunks of the receiver, as a device is read: a small one, then big ones. */
static unsigned copy_payload(struct side *me, struct tcp_seg *seg, struct chunk **ret)
{
    struct tcp_slice from[TCP_SLICES_MAX];
    unsigned n = seg->n_slices, made = 0;
    uint32_t room = 0;

    memcpy(from, seg->slice, n * sizeof from[0]);
    for (unsigned i = 0; i < n; i++)
        for (uint32_t at = 0, part; at < from[i].len; at += part) {
            if (!room) {
                struct chunk *c = ret[made] = chunk_alloc(me->pool, made ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES);

                if (!c)
                    abort();
                room = c->size;
                seg->slice[made++] = (struct tcp_slice){.data = c->data, .chunk = c};
            }
            part = from[i].len - at < room ? from[i].len - at : room;
            memcpy(ret[made - 1]->data + seg->slice[made - 1].len, from[i].data + at, part);
            seg->slice[made - 1].len += part;
            room -= part;
        }
    seg->n_slices = (uint16_t)made;
    return made;
}

static void deliver(struct pair *p, struct side *me, struct tcp_seg *seg)
{
    struct chunk *chunks[TCP_SLICES_MAX];
    unsigned made = seg->len && !p->params.share ? copy_payload(me, seg, chunks) : 0;

    p->work.frames++;
    p->work.segments += seg->gso_size ? (seg->len + seg->gso_size - 1) / seg->gso_size : seg->len ? 1 : 0;
    tcp_input(me->t, seg, &path, p->now);
    while (made)
        chunk_unref(me->pool, chunks[--made]);
}

/* ---- Programs ---- */

static uint64_t take(struct pair *p, struct side *me)
{
    struct tcp_iov iov[64];
    uint64_t bytes = 0, copied = 0;
    bool eof;
    int n = tcp_recv_peek(me->t, me->id, iov, 64, &eof);

    for (int i = 0; i < n; i++) {
        if (copied + iov[i].len > IO_BYTES)
            copied = 0;
        memcpy(data_in + copied, iov[i].data, iov[i].len);
        copied += iov[i].len;
        bytes += iov[i].len;
    }
    if (bytes)
        tcp_recv_consume(me->t, me->id, bytes, p->now);
    p->work.bytes += bytes;
    return bytes;
}

static void send_all(struct pair *p, struct side *me, uint32_t bytes)
{
    if (tcp_send(me->t, me->id, data_out, bytes, 0, p->now) != (int64_t)bytes)
        abort();
}

static void bulk(struct pair *p, struct side *me)
{
    if (me == &p->side[0])
        while (tcp_send(me->t, me->id, data_out, IO_BYTES, 0, p->now) > 0)
            ;
    else
        for (uint64_t n; (n = take(p, me)) > 0;)
            p->delivered += n;
    p->work.units = p->delivered / (BENCH_MTU - 40 - 12);
}

static void requests(struct pair *p, struct side *me, uint32_t mine, uint32_t theirs)
{
    uint64_t n;

    if (me == &p->side[0] && !me->unread) { /* the first one */
        send_all(p, me, mine);
        me->unread = theirs;
    }
    while ((n = take(p, me)) > 0) {
        if (!me->unread)
            me->unread = theirs;
        me->unread -= n;
        if (me->unread)
            continue;
        p->work.units += me == &p->side[0];
        send_all(p, me, mine);
        if (me == &p->side[0])
            me->unread = theirs;
    }
}

/* The connector closes first; when both have closed the next one is made. */
static void connects(struct pair *p, struct side *me)
{
    if (me == &p->side[1] && !me->peer_closed)
        return;
    tcp_close(me->t, me->id, p->now);
    me->id = 0;
    if (me == &p->side[1])
        p->work.units++;
}

static void program(struct pair *p, struct side *me)
{
    if (!me->id || !me->connected) {
        if (p->params.app == PAIR_CONNECTS && me == &p->side[0] && !me->id && !p->side[1].id)
            connect_one(p);
        return;
    }
    switch (p->params.app) {
    case PAIR_BULK: bulk(p, me); break;
    case PAIR_REQUESTS:
        if (me == &p->side[0])
            requests(p, me, p->params.request_bytes, p->params.response_bytes);
        else
            requests(p, me, p->params.response_bytes, p->params.request_bytes);
        break;
    case PAIR_CONNECTS: connects(p, me); break;
    }
}

static void events(struct side *me)
{
    struct tcp_event e;

    while (tcp_next_event(me->t, &e)) {
        if (e.bits & TCP_EVENT_ACCEPT) {
            me->id = e.id;
            me->connected = true;
            me->peer_closed = false;
            tcp_listen_accepted(me->t, me->listener);
        }
        if (e.bits & TCP_EVENT_CONNECTED)
            me->connected = true;
        if (e.bits & TCP_EVENT_PEER_CLOSED)
            me->peer_closed = true;
    }
}

/* ---- Turns ---- */

static void output(struct pair *p, struct side *me, struct side *other)
{
    struct tcp_out out;

    while (tcp_next_reply(me->t, p->now, &out))
        onto_wire(p, &other->in, &out.seg);
    while (tcp_next_ready(me->t, &out))
        if (tcp_output(me->t, out.id, p->now, &out))
            onto_wire(p, &other->in, &out.seg);
}

/* All that is on its way to this side, a burst at a time. */
static void turn(struct pair *p, struct side *me, struct side *other)
{
    p->now += DELAY_NS;
    if (tcp_deadline(me->t) <= p->now)
        tcp_expire(me->t, p->now);
    do {
        for (unsigned i = 0; i < p->params.burst && me->in.count; i++) {
            struct tcp_seg *seg = &me->in.seg[me->in.head];

            me->in.head = (me->in.head + 1) & (WIRE_MAX - 1);
            me->in.count--;
            deliver(p, me, seg);
        }
        if (!me->in.count)
            me->in.head = 0; /* places that are still in the cache: all of them are 18 MB */
        events(me);
        program(p, me);
        tcp_commit(me->t, p->now);
        output(p, me, other);
        p->now += NSEC_PER_USEC;
    } while (me->in.count);
}

void pair_run(struct pair *p, uint64_t units)
{
    for (p->target += units; p->work.units < p->target;) {
        uint64_t before = p->work.frames;

        turn(p, &p->side[0], &p->side[1]);
        turn(p, &p->side[1], &p->side[0]);
        if (before == p->work.frames && !p->side[0].in.count && !p->side[1].in.count) {
            uint64_t at = time_min(tcp_deadline(p->side[0].t), tcp_deadline(p->side[1].t));

            if (at == TIME_NEVER && p->params.app != PAIR_CONNECTS) {
                fprintf(stderr, "stall: nothing is on its way and nothing is armed\n");
                abort();
            }
            if (at != TIME_NEVER)
                p->now = time_max(p->now, at - DELAY_NS);
        }
    }
}

void pair_work(const struct pair *p, struct bench_work *ret)
{
    *ret = p->work;
}
