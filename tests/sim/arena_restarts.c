/*
 * tests/sim/arena_restarts.c: engines that lose their memory, again and again, and go on from the arenas that they left.
 *
 *     arena_restarts --seeds 1:2000        runs them, says which one failed and how to replay it
 *     arena_restarts --seed 17             replays one with its trace in packetdrill's notation
 *     arena_restarts --damage ...          now and then a bit of the arenas is flipped before the restore
 *
 * Two engines back to back in virtual time over a link that delays, loses, reorders and duplicates, all drawn from one seed
 * (seeds.c has larger nets, and engines that go on from saved records). After every turn, or at every verb with some
 * chance, an engine's memory is lost, and all that another one gets is the arenas: records, half-open and TIME-WAIT
 * entries, notes and payload, as the last commit and the hints of the program's reads and writes left them. What an
 * uncommitted turn did to the program's own view (accepted, shut down, closed) is undone, as a shell finds it out again;
 * bytes that it read or wrote are not.
 *
 * Metrics of destinations and counters must be the same after each crash; at the end of a seed another connection is made
 * after one more crash, and begins with what the first one learnt.
 *
 * What a seed must keep: every byte arrives once, in order and right (a pattern of its position); both sides end, in CLOSE
 * or TIME-WAIT, and leave nothing behind; tcp_check_all() holds after every verb; the deadline lies in the future after
 * output (no busy loop) and is never "never" while something is left to do (no stall); programs that wait for an event
 * get it; the same seed gives the same trace. Some seeds also suspend connections (neighbour unresolved), let the device
 * refuse segments, or make the path's MTU smaller and say so by ICMP.
 */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/rng.h"
#include "tcp/tcp.h"
#include "tcp/tcp_record.h"
#include "wire/gso.h"
#include "wire/text.h"

#define ARENA_BYTES (16u << 20)
#define STEPS_MAX   3000000u
/*
 * Of virtual time for the transfer. Without time stamps an engine that dies at every step never has a sample for its RTO,
 * and each loss waits for one of 3 s.
 */
#define LIMIT_S     20000u

struct packet {
    struct packet *next;
    uint64_t at, order;
    int to;
    struct tcp_seg seg;
    uint8_t *data;
};

/* How this side's program behaves. */
struct plan {
    uint64_t bytes;      /* it writes so many */
    uint64_t abort_at;   /* it aborts after having read or written so many, UINT64_MAX: never */
    uint64_t close_at;   /* the same with close(), perhaps with data unread */
    bool shutdown_early; /* FIN as soon as everything is written; else only after the peer's FIN (other side
                            early) */
    bool slow_reader;
    uint32_t write_max, read_max;
    uint64_t think_ns; /* mean time between its calls */
};

/* What the program knows of its connection, as far as a crash makes it forget it. */
struct view {
    tcp_id id;
    bool connected, shut, eof, closed;
    int error;
};

#define NOTES 16384u
#define SLOTS 16u
#define KEYS  4u

/* What outlives the engine, with --crash. */
struct arena {
    uint8_t *journal, *records, *requests, *time_wait, *keys, *caches;
    size_t cache_bytes;
    struct tcp_kept kept;
};

/* What the next engine must know of destinations and counters: as after the last commit. */
#define DESTINATIONS 4u
struct known {
    unsigned n;
    struct tcp_metrics of[DESTINATIONS];
    struct tcp_counters counters;
    uint64_t drops[TCP_DROP_MAX], causes[TCP_CAUSE_MAX];
};

struct side {
    struct tcp *t;
    struct arena keeps;
    struct view committed;
    struct known known;
    bool has_write, has_read;
    uint32_t write_seq, copied_seq; /* behind what it wrote, read */
    uint64_t news, news_at_crash;   /* segments in and out, calls, expiries: nothing new, no crash */
    struct tcp_config cfg;
    struct chunk_pool *pool;
    void *arena;
    tcp_id id;
    uint32_t listener;
    struct ip_tuple tuple;
    struct tcp_path path;
    struct plan plan;
    uint64_t app_at; /* the program's next call, TIME_NEVER: it waits for an event */
    uint64_t written, read;
    uint32_t iss;
    bool connected, shut, eof, closed;
    int error;
    uint64_t resume_at;   /* TIME_NEVER: not suspended */
    struct tcp_icmp icmp; /* to be delivered, if error is set */
    uint32_t gso_max, generation;
};

struct link {
    uint64_t delay_ns, jitter_ns;
    uint32_t loss_ppm, dup_ppm, reorder_ppm;
    uint64_t rate;        /* bytes/s, 0: none */
    uint32_t queue_bytes; /* with a rate */
    uint64_t busy_until;
    bool whole;        /* super-frames pass whole */
    uint16_t mtu;      /* of the path, 0: the interface's; larger segments are answered by ICMP */
    uint64_t mtu_from; /* packets until it gets so small */
};

struct sim {
    uint64_t seed, now, order;
    struct rng rng;
    struct side side[2];
    struct link link[2]; /* from side i */
    struct packet *wire; /* sorted by (at, order) */
    bool verbose, may_reset, simultaneous;
    bool md5, recorder; /* segments are signed; the flight recorder runs */
    uint32_t suspend_ppm, refuse_ppm;
    uint64_t hash, packets, lost, segs, restarts;
    bool damage, damaged, ended_by_damage;
    uint32_t crash_ppm, torn_ppm; /* after a turn; within one, uncommitted */
    char failure[512];
};

static unsigned learnt_from; /* next connections that began with something */

static bool fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (s->failure[0])
        return false;
    va_start(ap, fmt);
    vsnprintf(s->failure, sizeof s->failure, fmt, ap);
    va_end(ap);
    return false;
}

static uint8_t pattern(int from, uint64_t pos)
{
    return (uint8_t)(pos * 131 + (pos >> 8) * 17 + (pos >> 16) * 7 + (uint64_t)from * 91);
}

static bool chance(struct sim *s, uint32_t ppm)
{
    return rng_below(&s->rng, 1000000) < ppm;
}

static uint64_t between(struct sim *s, uint64_t low, uint64_t high)
{
    return low + rng_below(&s->rng, high - low + 1);
}

static void hash_add(struct sim *s, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        s->hash ^= (v >> (8 * i)) & 0xff;
        s->hash *= 0x100000001b3ull;
    }
}

static bool check(struct sim *s, int i, const char *verb)
{
    const char *what = tcp_check_all(s->side[i].t);

    return what ? fail(s, "side %d after %s: %s", i, verb, what) : true;
}

static void note(const struct sim *s, int i, const char *what)
{
    if (s->verbose)
        printf("%12.6f %c %s\n", (double)s->now / 1e9, "AB"[i], what);
}

static void print_seg(const struct sim *s, int from, const struct tcp_seg *seg, const char *fate)
{
    char text[TEXT_SEG_MAX];

    if (!s->verbose)
        return;
    text_format_seg(seg, s->side[from].iss, s->side[!from].iss, text, sizeof text);
    printf("%12.6f %s %s%s%s\n", (double)s->now / 1e9, from ? "B > A" : "A > B", text,
           seg->gso_size ? " (super) " : " ", fate);
}

/* ---- The link
 * --------------------------------------------------------------------------------------------------- */

static void wire_insert(struct sim *s, struct packet *p)
{
    struct packet **at = &s->wire;

    p->order = s->order++;
    while (*at && ((*at)->at < p->at || ((*at)->at == p->at && (*at)->order < p->order)))
        at = &(*at)->next;
    p->next = *at;
    *at = p;
}

static void wire_put(struct sim *s, int from, const struct tcp_seg *seg, uint64_t at)
{
    struct packet *p = calloc(1, sizeof *p);
    uint32_t n = 0;

    p->at = at;
    p->to = !from;
    p->seg = *seg;
    p->data = malloc(seg->len ? seg->len : 1);
    for (unsigned i = 0; i < seg->n_slices; i++) {
        memcpy(p->data + n, seg->slice[i].data, seg->slice[i].len);
        n += seg->slice[i].len;
    }
    wire_insert(s, p);
}

static void send_one(struct sim *s, int from, const struct tcp_seg *seg)
{
    struct link *l = &s->link[from];
    uint64_t at = s->now + l->delay_ns;

    s->packets++;
    hash_add(s, s->now);
    hash_add(s, (uint64_t)seg->seq << 32 | seg->ack);
    hash_add(s, (uint64_t)seg->flags << 48 | (uint64_t)seg->wnd << 32 | seg->len);
    if (l->mtu && s->packets > l->mtu_from &&
        (seg->gso_size ? seg->gso_size : seg->len) + 40u + tcp_options_bytes(&seg->opt, false) > l->mtu) {
        struct side *me = &s->side[from];

        print_seg(s, from, seg, "TOO BIG");
        me->icmp = (struct tcp_icmp){.tuple = me->tuple, .seq = seg->seq, .error = EMSGSIZE, .mtu = l->mtu};
        return;
    }
    if (chance(s, l->loss_ppm)) {
        s->lost++;
        print_seg(s, from, seg, "LOST");
        return;
    }
    if (l->rate) {
        uint64_t start = time_max(s->now, l->busy_until);
        uint64_t took = (uint64_t)(seg->len + 60) * NSEC_PER_SEC / l->rate;

        if ((start - s->now) * l->rate / NSEC_PER_SEC > l->queue_bytes) {
            s->lost++;
            print_seg(s, from, seg, "QUEUE FULL");
            return;
        }
        l->busy_until = start + took;
        at = l->busy_until + l->delay_ns;
    }
    if (l->jitter_ns && chance(s, l->reorder_ppm))
        at += rng_below(&s->rng, l->jitter_ns);
    print_seg(s, from, seg, "");
    wire_put(s, from, seg, at);
    if (chance(s, l->dup_ppm))
        wire_put(s, from, seg, at + rng_below(&s->rng, l->jitter_ns + 1));
}

static bool emit(struct sim *s, int from, const struct tcp_out *o)
{
    const struct tcp_seg *seg = &o->seg;
    struct side *me = &s->side[from];
    uint32_t mss = me->path.mtu - 40u, sum = 0;
    struct tcp_seg part;
    struct gso g;

    s->segs++;
    me->news++;
    if (seg->flags & TCP_SYN)
        me->iss = seg->seq;
    for (unsigned i = 0; i < seg->n_slices; i++)
        sum += seg->slice[i].len;
    if (sum != seg->len)
        return fail(s, "side %d: slices hold %u bytes, len %u", from, sum, seg->len);
    if ((seg->gso_size ? seg->gso_size : seg->len) > mss)
        return fail(s, "side %d: segment of %u bytes, MTU %u", from, seg->gso_size ? seg->gso_size : seg->len,
                    me->path.mtu);
    if (s->link[from].whole || !seg->gso_size) {
        send_one(s, from, seg);
        return true;
    }
    gso_begin(&g, seg);
    while (gso_step(&g, &part))
        send_one(s, from, &part);
    return true;
}

/* Delivers one packet; payload in chunks of the receiver's pool or plain, as chance wants. */
static bool deliver(struct sim *s, struct packet *p)
{
    struct side *to = &s->side[p->to];
    struct chunk *chunks[TCP_SLICES_MAX];
    unsigned n = 0;
    uint32_t done = 0;
    bool adopt = chance(s, 500000);

    p->seg.n_slices = 0;
    while (done < p->seg.len) {
        uint32_t left = p->seg.len - done, len = left < CHUNK_BIG_BYTES ? left : CHUNK_BIG_BYTES;
        struct tcp_slice *slice = &p->seg.slice[p->seg.n_slices++];

        *slice = (struct tcp_slice){.data = p->data + done, .len = len};
        if (adopt) {
            struct chunk *c =
                chunk_alloc(to->pool, len > CHUNK_SMALL_BYTES ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES);

            if (c) {
                memcpy(c->data, p->data + done, len);
                slice->data = c->data;
                slice->chunk = chunks[n++] = c;
            }
        }
        done += len;
    }
    to->news++;
    tcp_input(to->t, &p->seg, &to->path, s->now);
    while (n)
        chunk_unref(to->pool, chunks[--n]);
    free(p->data);
    free(p);
    return check(s, (int)(to - s->side), "input");
}

/* ---- The programs
 * ------------------------------------------------------------------------------------------------ */

static void look(struct side *me, uint64_t now, struct known *ret)
{
    uint32_t at = 0;

    memset(ret, 0, sizeof *ret);
    while (ret->n < DESTINATIONS && tcp_metrics_next(me->t, &at, now, &ret->of[ret->n]))
        ret->n++;
    for (unsigned i = 0; i < ret->n; i++)
        ret->of[i].age = 0;
    ret->counters = *tcp_get_counters(me->t);
    memcpy(ret->drops, tcp_get_drops(me->t), sizeof ret->drops);
    memcpy(ret->causes, tcp_get_causes(me->t), sizeof ret->causes);
}

static void commit(struct sim *s, struct side *me)
{
    tcp_commit(me->t, s->now);
    look(me, s->now, &me->known);
    me->committed = (struct view){.id = me->id, .connected = me->connected, .shut = me->shut, .eof = me->eof,
                                  .closed = me->closed, .error = me->error};
}

/* The witness: how far the program's bytes came, whatever becomes of the engine. */
static void witness(struct side *me)
{
    if (me->closed || tcp_stream_at(me->t, me->id, &me->write_seq, &me->copied_seq))
        return;
    tcp_send_note(me->t, me->id);
    me->has_write = me->has_read = true;
}

static void app_soon(struct sim *s, struct side *me)
{
    uint64_t at = s->now + (me->plan.think_ns ? rng_below(&s->rng, 2 * me->plan.think_ns) : 0);

    if (me->app_at > at)
        me->app_at = at;
}

static bool app_write(struct sim *s, int i, bool *again)
{
    struct side *me = &s->side[i];
    uint8_t buf[65536];
    uint64_t left = me->plan.bytes - me->written;
    size_t want = (size_t)between(s, 1, me->plan.write_max);
    int64_t rc;

    if (!left || me->shut)
        return true;
    if (want > left)
        want = (size_t)left;
    if (want > sizeof buf)
        want = sizeof buf;
    for (size_t k = 0; k < want; k++)
        buf[k] = pattern(i, me->written + k);
    rc = tcp_send(me->t, me->id, buf, want, chance(s, 30000) ? TCP_SEND_EOR : 0, s->now);
    if (rc == -EAGAIN)
        return true; /* TCP_EVENT_WRITABLE will come */
    if (rc <= 0)
        return me->error || s->may_reset || fail(s, "side %d: send: %s", i, strerror((int)-rc));
    me->written += (uint64_t)rc;
    witness(me);
    me->news++;
    *again = true;
    return check(s, i, "send");
}

static bool app_read(struct sim *s, int i, bool *again)
{
    struct side *me = &s->side[i];
    struct tcp_iov iov[8];
    size_t want = (size_t)between(s, 1, me->plan.read_max), got = 0;
    int n;

    if (me->eof)
        return true;
    commit(s, me); /* nothing is given to a program before it is */
    n = tcp_recv_peek(me->t, me->id, iov, 8, &me->eof);
    if (n < 0)
        return me->error || s->may_reset || fail(s, "side %d: recv: %s", i, strerror(-n));
    for (int v = 0; v < n; v++)
        for (size_t k = 0; k < iov[v].len && got < want; k++, got++)
            if (iov[v].data[k] != pattern(!i, me->read + got))
                return fail(s, "side %d: byte %" PRIu64 " is wrong", i, me->read + got);
    if (n > 0) {
        me->eof = false; /* it follows what is unread */
        tcp_recv_consume(me->t, me->id, got, s->now);
        me->read += got;
        witness(me);
        me->news++;
        *again = true;
    }
    return check(s, i, "recv");
}

static bool app_end(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    bool all = me->written == me->plan.bytes;

    if (me->written + me->read >= me->plan.abort_at) {
        tcp_abort(me->t, me->id, s->now);
        me->closed = true;
        return check(s, i, "abort");
    }
    if (me->written + me->read >= me->plan.close_at) {
        tcp_close(me->t, me->id, s->now);
        me->closed = true;
        return check(s, i, "early close");
    }
    if (all && !me->shut && (me->plan.shutdown_early || me->eof)) {
        int rc = tcp_shutdown_write(me->t, me->id, s->now);

        if (rc && !s->may_reset)
            return fail(s, "side %d: shutdown: %s", i, strerror(-rc));
        me->shut = true;
        if (!check(s, i, "shutdown"))
            return false;
    }
    if (me->eof && (me->shut || me->error)) {
        tcp_close(me->t, me->id, s->now);
        me->closed = true;
        return check(s, i, "close");
    }
    return true;
}

static bool app_run(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    bool again = false;

    me->app_at = TIME_NEVER;
    if (!me->id || me->closed)
        return true;
    if (me->error) {
        tcp_close(me->t, me->id, s->now);
        me->closed = true;
        return check(s, i, "close after an error");
    }
    if (!me->connected)
        return true;
    if (!app_write(s, i, &again) || !app_read(s, i, &again) || !app_end(s, i))
        return false;
    if (again && !me->closed)
        app_soon(s, me);
    return true;
}

/* A reset is not repeated: with resets in the plan both sides look after their peer by keepalive. */
static void keepalive(struct side *me, uint64_t now)
{
    tcp_set_opt(me->t, me->id, TCP_OPT_KEEPIDLE, 20, now);
    tcp_set_opt(me->t, me->id, TCP_OPT_KEEPINTVL, 2, now);
    tcp_set_opt(me->t, me->id, TCP_OPT_KEEPCNT, 5, now);
    tcp_set_opt(me->t, me->id, TCP_OPT_KEEPALIVE, 1, now);
}

static bool drain_events(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    struct tcp_event e;

    while (tcp_next_event(me->t, &e)) {
        if (s->verbose)
            printf("%12.6f %c event 0x%x error %d %s\n", (double)s->now / 1e9, "AB"[i], e.bits, e.error,
                   tcp_state_name(e.state));
        hash_add(s, e.bits);
        if (e.bits & TCP_EVENT_ACCEPT) {
            if (me->id)
                return fail(s, "side %d: accepted twice", i);
            me->id = e.id;
            tcp_listen_accepted(me->t, me->listener);
            me->connected = true;
            if (s->may_reset)
                keepalive(me, s->now);
        }
        if (e.id != me->id || me->closed)
            continue;
        if (e.bits & TCP_EVENT_CONNECTED)
            me->connected = true;
        if (e.bits & TCP_EVENT_ERROR) {
            me->error = e.error;
            if (!s->may_reset)
                return fail(s, "side %d: connection ended with %s", i, strerror(e.error));
        }
        if (e.bits & ~(unsigned)TCP_EVENT_STATE)
            app_soon(s, me);
    }
    return true;
}

static void *zeroed(size_t bytes)
{
    void *m = calloc(1, bytes);

    if (!m)
        abort();
    return m;
}

static void arenas_init(struct side *me)
{
    struct keep_spec spec[TCP_KEEP_TABLES];
    unsigned n = tcp_keep_specs(SLOTS, spec);

    me->arena =
        mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (me->arena == MAP_FAILED)
        abort();
    me->keeps = (struct arena){.journal = zeroed(chunk_journal_bytes(NOTES)),
                               .records = zeroed(tcp_records_bytes(SLOTS)),
                               .requests = zeroed(SLOTS * tcp_request_bytes()),
                               .time_wait = zeroed(SLOTS * tcp_time_wait_bytes()),
                               .keys = zeroed(KEYS * tcp_md5_slot_bytes()),
                               .caches = zeroed(keep_bytes(spec, n)),
                               .cache_bytes = keep_bytes(spec, n)};
    keep_format(me->keeps.caches, spec, n);
}

static void arenas_free(struct side *me)
{
    munmap(me->arena, ARENA_BYTES);
    free(me->keeps.journal);
    free(me->keeps.records);
    free(me->keeps.requests);
    free(me->keeps.time_wait);
    free(me->keeps.keys);
    free(me->keeps.caches);
}

/* Any function of all the bytes does for a signature here. */
static bool sign(void *ctx, const struct tcp_bytes *piece, unsigned n, uint8_t ret[TCP_MD5_BYTES])
{
    uint64_t h[2] = {0xcbf29ce484222325ull, 0x84222325cbf29ce4ull};

    (void)ctx;
    for (unsigned i = 0; i < n; i++)
        for (size_t k = 0; k < piece[i].len; k++)
            for (unsigned w = 0; w < 2; w++)
                h[w] = (h[w] ^ ((const uint8_t *)piece[i].data)[k]) * 0x100000001b3ull;
    memcpy(ret, h, TCP_MD5_BYTES);
    return true;
}
static const struct tcp_crypto crypto = {.md5 = sign};

static struct tcp_md5_key key_for(const struct side *me)
{
    return (struct tcp_md5_key){.addr = me->tuple.remote, .prefix = 32, .bytes = 6, .key = "secret"};
}

/* 0 or -errno. A listener, with its key. */
static int listen_on(struct sim *s, struct side *me)
{
    struct tcp_listen_args l = {.addr = me->tuple.local, .port = 80, .backlog = 8};
    struct tcp_md5_key k = key_for(me);
    int rc = tcp_listen(me->t, &l, &me->listener);

    return rc || !s->md5 ? rc : tcp_listen_md5_set(me->t, me->listener, &k);
}

static void engine_init(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    struct tcp_params p = {0};

    me->pool = chunk_pool_create(me->arena, ARENA_BYTES);
    if (chunk_pool_journal(me->pool, me->keeps.journal, NOTES))
        abort();
    chunk_pool_poison(me->pool, true);
    p.record_arena = me->keeps.records;
    p.request_arena = me->keeps.requests;
    p.time_wait_arena = me->keeps.time_wait;
    p.md5_arena = me->keeps.keys;
    p.max_md5_keys = KEYS;
    p.kept = &me->keeps.kept;
    p.keep = me->keeps.caches;
    p.crypto = &crypto;
    p.trace_bytes = s->recorder ? 256u << 10 : 0;
    p.config = &me->cfg;
    p.pool = me->pool;
    p.secrets = (struct tcp_secrets){{s->seed, 2}, {3, s->seed}, {5, 6}, {7, 8}, s->seed + (uint64_t)i};
    p.secrets.isn.k1 += (uint64_t)i;
    p.now = s->now;
    p.max_conns = p.max_half_open = p.max_time_wait = p.max_metrics = SLOTS;
    p.generation = ++me->generation;
    p.park_eager = s->seed % 2 == 0;
    me->t = tcp_create(&p);
    tcp_set_gso_max(me->t, me->gso_max);
}

/* ---- Crash: another engine goes on with the arenas --------------------------------------------------------------- */

static void *copy_of(const void *p, size_t n)
{
    return memcpy(zeroed(n), p, n);
}

static void put_back(void *to, void *copy, size_t n)
{
    memcpy(to, copy, n);
    free(copy);
}

/* tcp_destroy() tidies up; a crash doesn't. */
static void die(struct side *me)
{
    struct arena *k = &me->keeps;
    struct tcp_kept kept = k->kept;
    size_t journal_bytes = chunk_journal_bytes(chunk_notes_touched(me->pool));
    void *journal = copy_of(k->journal, journal_bytes);
    void *records = copy_of(k->records, tcp_records_bytes(SLOTS));
    void *requests = copy_of(k->requests, SLOTS * tcp_request_bytes());
    void *time_wait = copy_of(k->time_wait, SLOTS * tcp_time_wait_bytes());
    void *keys = copy_of(k->keys, KEYS * tcp_md5_slot_bytes());
    void *caches = copy_of(k->caches, k->cache_bytes);

    chunk_pool_poison(me->pool, false);
    tcp_destroy(me->t);
    chunk_pool_destroy(me->pool);
    put_back(k->journal, journal, journal_bytes);
    put_back(k->records, records, tcp_records_bytes(SLOTS));
    put_back(k->requests, requests, SLOTS * tcp_request_bytes());
    put_back(k->time_wait, time_wait, SLOTS * tcp_time_wait_bytes());
    put_back(k->keys, keys, KEYS * tcp_md5_slot_bytes());
    put_back(k->caches, caches, k->cache_bytes);
    k->kept = kept;
}

static void record_lost(void *ctx, uint32_t slot, const struct tcp_record *r, const char *why)
{
    char *text = ctx;

    (void)r;
    snprintf(text, 128, "slot %u lost: %s", slot, why);
}

/* Every byte that was restored is the one of its position, whether or not anybody ever looks at it. */
static bool right_bytes(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    struct tcp_record_range range;
    uint32_t write_seq, copied_seq;

    if (!me->id || !me->connected || tcp_stream_at(me->t, me->id, &write_seq, &copied_seq))
        return true;
    for (uint32_t n = 0; tcp_record_send_range(me->t, me->id, n, &range); n++)
        for (uint32_t k = 0; k < range.len; k++)
            if (range.data[k] != pattern(i, me->written - (write_seq - range.seq) + k))
                return fail(s, "side %d: restored byte %u of those to send is wrong", i, range.seq - me->iss + k);
    for (uint32_t n = 0; tcp_record_recv_range(me->t, me->id, n, &range); n++)
        for (uint32_t k = 0; k < range.len; k++)
            if (range.data[k] != pattern(!i, me->read + (range.seq - copied_seq) + k))
                return fail(s, "side %d: restored byte %" PRIu64 " of those received is wrong (piece %u: %u + %u)", i,
                            me->read + (range.seq - copied_seq) + k, n, range.seq - copied_seq, range.len);
    return true;
}

/* One bit of records, half-open or TIME-WAIT entries, or notes. */
static void damage(struct sim *s, struct side *me)
{
    struct arena *k = &me->keeps;
    struct {
        uint8_t *at;
        size_t bytes;
    } where[] = {{k->records, tcp_records_bytes(SLOTS)},
                 {k->journal, chunk_journal_bytes(chunk_notes_touched(me->pool))},
                 {k->requests, SLOTS * tcp_request_bytes()},
                 {k->time_wait, SLOTS * tcp_time_wait_bytes()},
                 {k->caches + 4096, k->cache_bytes - 4096}}; /* behind the directory, which is the shell's to check */
    unsigned which = (unsigned)rng_below(&s->rng, 5);
    size_t byte = rng_below(&s->rng, where[which].bytes);

    where[which].at[byte] = (uint8_t)(where[which].at[byte] ^ 1u << rng_below(&s->rng, 8));
    s->damaged = true;
}

/* What was known of destinations and counted is as the last commit left it; a damaged entry is gone, and said so. */
static bool same_knowledge(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    struct tcp_keep_found found;
    struct known now;

    look(me, s->now, &now);
    tcp_get_keep_found(me->t, &found);
    if (s->damaged && found.damaged)
        return true;
    if (found.damaged)
        return fail(s, "side %d: %u entries of caches are damaged", i, found.damaged);
    if (now.n != me->known.n || memcmp(now.of, me->known.of, sizeof now.of) != 0)
        return fail(s, "side %d: metrics of %u destinations, not the %u of before", i, now.n, me->known.n);
    if (memcmp(&now.counters, &me->known.counters, sizeof now.counters) != 0 ||
        memcmp(now.drops, me->known.drops, sizeof now.drops) != 0 ||
        memcmp(now.causes, me->known.causes, sizeof now.causes) != 0)
        return fail(s, "side %d: counters are not those of before", i);
    return true;
}

static bool crash(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    struct tcp_restore_hint hint = {.id = me->committed.id, .write_seq = me->write_seq, .copied_seq = me->copied_seq,
                                    .has_write = me->has_write, .has_read = me->has_read};
    char why[128] = "";
    struct tcp_restore_params p = {.hints = &hint, .n_hints = 1, .lost = record_lost, .ctx = why};
    struct tcp_restored done;

    note(s, i, "crash");
    s->restarts++;
    me->news_at_crash = me->news;
    if (s->damage && !s->damaged && chance(s, 20000))
        damage(s, me);
    die(me);
    engine_init(s, i);
    if (!same_knowledge(s, i))
        return false;
    if (me->listener && listen_on(s, me))
        return fail(s, "side %d: cannot listen again", i);
    if (tcp_restore(me->t, &p, s->now, &done))
        return fail(s, "side %d: restore", i);
    me->id = me->committed.id;
    me->connected = me->committed.connected;
    me->shut = me->committed.shut;
    me->eof = me->committed.eof;
    me->closed = me->committed.closed;
    me->error = me->committed.error;
    if (s->damaged && s->damage) { /* lost and said so, or as it was; then another seed */
        if (!done.lost && (!check(s, i, "restore of what was damaged") || !right_bytes(s, i)))
            return false;
        s->ended_by_damage = true;
        return true;
    }
    if (done.lost && !s->may_reset)
        return fail(s, "side %d: %s", i, why);
    if (done.lost)
        me->closed = true;
    me->resume_at = TIME_NEVER;
    /* The successor looks at everything, a while later: or an engine that always crashes would hold up time. */
    me->app_at = time_min(me->app_at, s->now + between(s, 20000, 2000000));
    return check(s, i, "restore") && right_bytes(s, i);
}

/* ---- One turn of one engine
 * --------------------------------------------------------------------------------------- */

#define BATCH 32

/* One segment, if there is one that may leave now; *ret_any: READY was not empty. */
static bool pull(struct sim *s, int i, struct tcp_out *o, bool *ret_any)
{
    struct side *me = &s->side[i];
    tcp_id id;

    if (tcp_next_reply(me->t, s->now, o))
        return *ret_any = true;
    *ret_any = tcp_next_ready(me->t, o);
    if (!*ret_any)
        return false;
    id = o->id;
    if (me->connected && chance(s, s->suspend_ppm)) {
        tcp_suspend(me->t, id);
        me->resume_at = s->now + rng_below(&s->rng, 50000000);
        note(s, i, "suspended");
        return false;
    }
    if (!tcp_output(me->t, id, s->now, o))
        return false;
    if (!chance(s, s->refuse_ppm))
        return true;
    note(s, i, "refused");
    tcp_tx_failed(me->t, o);
    return false;
}

/* A batch: pulled, committed, sent. *ret_more: there may be another one. */
static bool batch(struct sim *s, int i, bool *ret_more)
{
    static struct tcp_out out[BATCH];
    struct side *me = &s->side[i];
    int n = 0, tries = 0;
    bool any = true;

    while (any && n < BATCH && tries++ < 100000)
        n += pull(s, i, &out[n], &any);
    if (any && tries >= 100000)
        return fail(s, "side %d: READY does not get empty", i);
    commit(s, me);
    for (int k = 0; k < n; k++)
        if (!emit(s, i, &out[k]))
            return false;
    *ret_more = any;
    return check(s, i, "output");
}

static bool turn(struct sim *s, int i)
{
    struct side *me = &s->side[i];
    bool more = true;

    for (int round = 0; round < 2 || more; round++) {
        if (round > 10000)
            return fail(s, "side %d: READY does not get empty", i);
        if (!drain_events(s, i) || !batch(s, i, &more))
            return false;
    }
    if (tcp_deadline(me->t) <= s->now)
        return fail(s, "side %d: deadline in the past: busy loop", i);
    return true;
}

/* Nothing is left. A reset may have ended the connection before this side knew of it. */
static bool side_over(const struct sim *s, const struct side *me)
{
    return (me->closed || (s->may_reset && !me->id)) && tcp_next_id(me->t, 0) == 0;
}

static uint64_t next_time(const struct sim *s)
{
    uint64_t at = s->wire ? s->wire->at : TIME_NEVER;

    for (int i = 0; i < 2; i++)
        at = time_min(
            at, time_min(tcp_deadline(s->side[i].t), time_min(s->side[i].app_at, s->side[i].resume_at)));
    return at;
}

/* The neighbour's answer, or none; ICMP errors. */
static bool side_news(struct sim *s, int i)
{
    struct side *me = &s->side[i];

    if (me->resume_at <= s->now) {
        me->resume_at = TIME_NEVER;
        if (chance(s, 200000)) {
            note(s, i, "unreachable");
            tcp_unreachable(me->t, me->id, EHOSTUNREACH, s->now);
        } else {
            note(s, i, "resumed");
            tcp_resume(me->t, me->id);
        }
        if (!check(s, i, "resume"))
            return false;
    }
    if (me->icmp.error) {
        tcp_icmp(me->t, &me->icmp, s->now);
        me->icmp.error = 0;
        return check(s, i, "icmp");
    }
    return true;
}

static bool loop(struct sim *s)
{
    uint64_t limit = s->now + LIMIT_S * NSEC_PER_SEC;

    for (unsigned step = 0;; step++) {
        uint64_t at;

        for (int i = 0; i < 2; i++)
            if (!turn(s, i))
                return false;
        if (side_over(s, &s->side[0]) && side_over(s, &s->side[1]))
            return true;
        for (int i = 0; i < 2; i++)
            if (chance(s, s->crash_ppm) && s->side[i].news != s->side[i].news_at_crash &&
                (!crash(s, i) || (!s->ended_by_damage && !turn(s, i))))
                return false;
        if (s->ended_by_damage)
            return true;
        if (s->side[0].icmp.error || s->side[1].icmp.error) {
            if (!side_news(s, 0) || !side_news(s, 1))
                return false;
            continue;
        }
        at = next_time(s);
        if (at == TIME_NEVER) {
            for (int i = 0; i < 2 && s->verbose; i++) {
                struct tcp_record r;
                char text[8192];

                if (tcp_record_save(s->side[i].t, s->side[i].id, &r) == 0 && tcp_record_dump(&r, text, sizeof text) > 0)
                    printf("%c: %s\n", "AB"[i], text);
            }
            return fail(s,
                        "stall: nothing is armed; A wrote %" PRIu64 " read %" PRIu64 ", B wrote %" PRIu64
                        " read %" PRIu64,
                        s->side[0].written, s->side[0].read, s->side[1].written, s->side[1].read);
        }
        if (at > limit)
            return fail(s,
                        "not over after %u s: A closed %d wrote %" PRIu64 "/%" PRIu64 " read %" PRIu64
                        ", B closed %d wrote %" PRIu64 "/%" PRIu64 " read %" PRIu64,
                        LIMIT_S, s->side[0].closed, s->side[0].written, s->side[0].plan.bytes,
                        s->side[0].read, s->side[1].closed, s->side[1].written, s->side[1].plan.bytes,
                        s->side[1].read);
        if (step > STEPS_MAX)
            return fail(s, "more than %u steps", STEPS_MAX);
        s->now = time_max(s->now, at);
        while (s->wire && s->wire->at <= s->now) {
            struct packet *p = s->wire;

            s->wire = p->next;
            if (!deliver(s, p))
                return false;
        }
        for (int i = 0; i < 2; i++) {
            if (tcp_deadline(s->side[i].t) <= s->now) {
                tcp_expire(s->side[i].t, s->now);
                s->side[i].news++;
                if (!check(s, i, "expire"))
                    return false;
            }
            if (!side_news(s, i) || (s->side[i].app_at <= s->now && !app_run(s, i)))
                return false;
            if (chance(s, s->torn_ppm) && !crash(s, i))
                return false;
            if (s->ended_by_damage)
                return true;
        }
    }
}

/* ---- A seed
 * ---------------------------------------------------------------------------------------------------------
 */

static void draw_config(struct sim *s, struct tcp_config *c)
{
    static const int32_t rmem[] = {4096, 16384, 65536, 131072, 1 << 20},
                         wmem[] = {8192, 32768, 87380, 1 << 20};

    tcp_config_defaults(c);
    c->tcp_timestamps = chance(s, 700000) ? 2 : 0;
    c->tcp_sack = chance(s, 750000);
    c->tcp_dsack = chance(s, 800000);
    c->tcp_window_scaling = chance(s, 750000);
    c->tcp_rmem_default = rmem[rng_below(&s->rng, 5)];
    c->tcp_wmem_default = wmem[rng_below(&s->rng, 4)];
    if (chance(s, 300000))
        c->tcp_rmem_max = c->tcp_rmem_default;
    if (chance(s, 300000))
        c->tcp_wmem_max = c->tcp_wmem_default;
    c->tcp_moderate_rcvbuf = chance(s, 700000);
    c->tcp_slow_start_after_idle = chance(s, 500000);
    c->tcp_timewait_len = 10;
    c->tcp_no_ssthresh_metrics_save = s->seed % 2 == 0;
    c->tcp_congestion_control = (int32_t)rng_below(&s->rng, 4);
    c->tcp_ecn = (int32_t)rng_below(&s->rng, 3);
    c->tcp_hystart = (int32_t)rng_below(&s->rng, 3);
    c->tcp_pacing = chance(s, 200000);
    c->tcp_mtu_probing = chance(s, 300000) ? 2 : 0;
}

static void draw_plan(struct sim *s, int i)
{
    static const uint64_t sizes[] = {0, 100, 1460, 10000, 60000, 200000, 500000, 1500000};
    struct plan *p = &s->side[i].plan;

    p->bytes = rng_below(&s->rng, sizes[rng_below(&s->rng, 8)] + 1);
    p->abort_at = p->close_at = UINT64_MAX;
    p->write_max = (uint32_t)between(s, 1, chance(s, 500000) ? 3000 : 60000);
    p->read_max = (uint32_t)between(s, 1, chance(s, 500000) ? 3000 : 100000);
    if (p->bytes > 20000 && p->write_max < 300)
        p->write_max = 300;
    if (p->read_max < 300)
        p->read_max = 300;
    p->think_ns = chance(s, 500000) ? 0 : rng_below(&s->rng, 4000000);
}

static void draw_link(struct sim *s, struct link *l)
{
    static const uint64_t delays[] = {0, 50000, 1000000, 20000000, 150000000};

    l->delay_ns = rng_below(&s->rng, delays[rng_below(&s->rng, 5)] + 1);
    l->jitter_ns = rng_below(&s->rng, l->delay_ns + 1000000);
    if (chance(s, 600000))
        l->loss_ppm = (uint32_t)rng_below(&s->rng, 100000);
    if (chance(s, 400000))
        l->dup_ppm = (uint32_t)rng_below(&s->rng, 50000);
    if (chance(s, 400000))
        l->reorder_ppm = (uint32_t)rng_below(&s->rng, 300000);
    if (chance(s, 400000)) {
        l->rate = between(s, 100000, 100000000);
        l->queue_bytes = (uint32_t)between(s, 5000, 200000);
    }
    l->whole = chance(s, 400000);
}

static void side_init(struct sim *s, int i, uint16_t mtu)
{
    struct side *me = &s->side[i];
    struct ip_addr a = ip_addr_v4(192, 0, 2, 1), b = ip_addr_v4(192, 0, 2, 2);

    me->path.mtu = mtu;
    me->tuple = (struct ip_tuple){i ? b : a, i ? a : b, i ? 80 : 40000, i ? 40000 : 80};
    me->app_at = me->resume_at = TIME_NEVER;
    if (chance(s, 600000))
        me->gso_max = chance(s, 800000) ? 65536 : (uint32_t)between(s, 3000, 65535);
    arenas_init(me);
    engine_init(s, i);
}

static void draw(struct sim *s)
{
    static const uint16_t mtus[] = {576, 1280, 1500, 1500, 9000};
    uint16_t mtu = mtus[rng_below(&s->rng, 5)];

    s->now = between(s, 1, 1000000) * NSEC_PER_MSEC;
    for (int i = 0; i < 2; i++) {
        draw_config(s, &s->side[i].cfg);
        draw_plan(s, i);
        draw_link(s, &s->link[i]);
    }
    s->side[0].plan.shutdown_early = chance(s, 600000);
    s->side[1].plan.shutdown_early = !s->side[0].plan.shutdown_early || chance(s, 500000);
    if (chance(s, 120000)) {
        struct plan *p = &s->side[rng_below(&s->rng, 2)].plan;

        s->may_reset = true;
        if (chance(s, 500000))
            p->abort_at = rng_below(&s->rng, 50000);
        else
            p->close_at = rng_below(&s->rng, 50000);
    }
    for (int i = 0; i < 2 && !s->may_reset; i++) /* whoever closed first must not give up where the other would not */
        s->side[i].cfg.tcp_retries2 = s->side[i].cfg.tcp_orphan_retries = 255;
    s->simultaneous = chance(s, 80000);
    if (chance(s, 150000))
        s->suspend_ppm = (uint32_t)rng_below(&s->rng, 50000);
    if (chance(s, 100000))
        s->refuse_ppm = (uint32_t)rng_below(&s->rng, 50000);
    if (mtu > 900 && chance(s, 120000)) {
        struct link *l = &s->link[rng_below(&s->rng, 2)];

        l->mtu = (uint16_t)between(s, 700, 900);
        l->mtu_from = rng_below(&s->rng, 60);
    }
    s->md5 = chance(s, 200000);
    s->recorder = chance(s, 100000);
    for (int i = 0; i < 2; i++)
        side_init(s, i, mtu);
    s->crash_ppm = chance(s, 500000) ? 1000000 : (uint32_t)rng_below(&s->rng, 300000);
    s->torn_ppm = (uint32_t)rng_below(&s->rng, 30000);
}

static bool start(struct sim *s)
{
    for (int i = 0; i < 2; i++) {
        struct side *me = &s->side[i];
        struct tcp_connect_args c = {.tuple = me->tuple, .path = me->path};
        struct tcp_md5_key k = key_for(me);
        int rc;

        if (i == 1 && !s->simultaneous)
            rc = listen_on(s, me);
        else
            rc = tcp_connect(me->t, &c, s->now, &me->id);
        if (!rc && me->id && s->md5)
            rc = tcp_md5_set(me->t, me->id, &k, s->now);
        if (rc)
            return fail(s, "side %d: %s", i, strerror(-rc));
        if (me->id && chance(s, 300000))
            tcp_set_opt(me->t, me->id, TCP_OPT_NODELAY, 1, s->now);
    }
    return true;
}

static bool run_until_over(struct sim *s)
{
    if (!start(s))
        return false;
    if (s->may_reset)
        for (int i = 0; i < 2; i++)
            if (s->side[i].id)
                keepalive(&s->side[i], s->now);
    return loop(s);
}

/*
 * The next connection between the two, after one more crash of both: it begins with what the first one learnt. Only the
 * threshold of slow start can be told from outside; it is set where the first connection met loss.
 */
static bool next_connection(struct sim *s)
{
    struct side *a = &s->side[0];
    struct tcp_connect_args args = {.tuple = a->tuple, .path = a->path};
    struct tcp_info info;
    struct tcp_out o;
    unsigned rounds = 0;
    uint32_t wanted;

    if (!a->known.n || s->md5)
        return true;
    wanted = a->known.of[0].ssthresh;
    for (int i = 0; i < 2; i++) {
        commit(s, &s->side[i]);
        a->news++;
        if (!crash(s, i))
            return false;
        s->side[i].connected = s->side[i].closed = false;
        s->side[i].id = 0;
    }
    args.tuple.local_port = 40001;
    if (!s->side[1].listener && listen_on(s, &s->side[1]))
        return fail(s, "cannot listen for the next connection");
    if (tcp_connect(a->t, &args, s->now, &a->id))
        return fail(s, "no next connection");
    while (tcp_get_info(a->t, a->id, s->now, &info) == 0 && info.state != TCP_STATE_ESTABLISHED && rounds++ < 20)
        for (int i = 0; i < 2; i++) {
            struct side *me = &s->side[i], *peer = &s->side[!i];

            while (tcp_next_reply(me->t, s->now, &o) || (tcp_next_ready(me->t, &o) && tcp_output(me->t, o.id, s->now, &o)))
                tcp_input(peer->t, &o.seg, &peer->path, s->now);
            tcp_commit(me->t, s->now);
            s->now += NSEC_PER_MSEC;
        }
    if (info.state != TCP_STATE_ESTABLISHED)
        return fail(s, "the next connection is in %s", tcp_state_name((enum tcp_state)info.state));
    if (wanted && info.snd_ssthresh != wanted)
        return fail(s, "the next connection begins with ssthresh %u, learnt was %u", (unsigned)info.snd_ssthresh, wanted);
    learnt_from += wanted != 0;
    return true;
}

static bool verdict(struct sim *s)
{
    for (int i = 0; i < 2; i++) {
        struct side *me = &s->side[i], *peer = &s->side[!i];

        if (!s->may_reset && me->read != peer->plan.bytes)
            return fail(s, "side %d read %" PRIu64 " of %" PRIu64 " bytes", i, me->read, peer->plan.bytes);
        if (!s->may_reset && me->error)
            return fail(s, "side %d: %s", i, strerror(me->error));
        if (chunk_pool_used_bytes(me->pool))
            return fail(s, "side %d: %zu bytes of chunks leaked", i, chunk_pool_used_bytes(me->pool));
    }
    return true;
}

static void sim_free(struct sim *s)
{
    while (s->wire) {
        struct packet *p = s->wire;

        s->wire = p->next;
        free(p->data);
        free(p);
    }
    for (int i = 0; i < 2; i++) {
        tcp_destroy(s->side[i].t);
        if (!s->failure[0])
            chunk_pool_destroy(s->side[i].pool);
        arenas_free(&s->side[i]);
    }
}

static bool with_damage;
static uint64_t total_restarts;

static bool run_seed(uint64_t seed, bool verbose, uint64_t *ret_hash)
{
    struct sim *s = calloc(1, sizeof *s);
    bool ok;

    s->damage = with_damage;

    s->seed = seed;
    s->verbose = verbose;
    s->hash = 0xcbf29ce484222325ull;
    rng_seed(&s->rng, seed);
    draw(s);
    ok = run_until_over(s) && (s->ended_by_damage || verdict(s));
    if (ok && !s->ended_by_damage && !s->damaged)
        ok = next_connection(s);
    *ret_hash = s->hash;
    if (!ok)
        printf("seed %" PRIu64 " FAILED at %.6f s: %s\n  replay: arena_restarts%s --seed %" PRIu64 "\n", seed,
               (double)s->now / 1e9, s->failure, s->damage ? " --damage" : "", seed);
    else if (verbose)
        printf("seed %" PRIu64 ": ok, %" PRIu64 " packets, %" PRIu64 " lost, hash %016" PRIx64 "\n", seed,
               s->packets, s->lost, s->hash);
    total_restarts += s->restarts;
    sim_free(s);
    free(s);
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, to = 200, hash, again;
    unsigned failed = 0;

    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* engines come and go */
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    if (argc > 1 && strcmp(argv[1], "--damage") == 0) {
        with_damage = true;
        argv[1] = argv[0];
        argv++, argc--;
    }
    if (argc == 3 && strcmp(argv[1], "--seed") == 0)
        return run_seed(strtoull(argv[2], NULL, 0), true, &hash) ? 0 : 1;
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        char *colon = strchr(argv[2], ':');

        from = strtoull(argv[2], NULL, 0);
        to = colon ? strtoull(colon + 1, NULL, 0) : from;
    } else if (argc != 1) {
        fprintf(stderr, "usage: arena_restarts [--damage] [--seeds A:B | --seed N]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seeds %" PRIu64 ":%" PRIu64 "\n", from, to);
    for (uint64_t seed = from; seed <= to && failed < 5; seed++) {
        if (!run_seed(seed, false, &hash)) {
            failed++;
        } else if (seed % 16 == 0 && (!run_seed(seed, false, &again) || again != hash)) {
            printf("seed %" PRIu64 " FAILED: another trace the second time\n", seed);
            failed++;
        }
    }
    if (to - from >= 40 && !with_damage && !learnt_from && !failed) {
        printf("no next connection began with anything\n");
        failed++;
    }
    printf("%s, %" PRIu64 " restarts, %u next connections began with what was learnt\n", failed ? "FAILED" : "ok",
           total_restarts, learnt_from);
    return failed ? 1 : 0;
}
