/*
 * No memory. The allocator (malloc, calloc, realloc, chunk_alloc: wrapped by the linker) fails the N-th call, or
 * all from the N-th on for a while of virtual time, for every N over a scripted exchange: two hosts with stack,
 * sockets and engine, one connection that is there before, one that is made, bytes both ways over a wire that
 * loses some, the end of both.
 *
 * Whatever N: no crash and no leak (sanitizers), every invariant holds (stack_params.check), no busy loop
 * (run() asserts the deadline), the old connection brings all its bytes and ends in good order, and the new one
 * either does the same or says why not. With everything failing for a while something new must be refused, and
 * by name.
 */
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
#include "stack/stack.h"

#define MSEC     NSEC_PER_MSEC
#define SEC      NSEC_PER_SEC
#define WIRE_MAX 1024
#define BYTES    60000u
#define RETRY    (20 * MSEC) /* a program that found no memory asks again so much later */

/* ---- the allocator ------------------------------------------------------------------------------------ */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
struct chunk *__real_chunk_alloc(struct chunk_pool *pool, uint32_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
struct chunk *__wrap_chunk_alloc(struct chunk_pool *pool, uint32_t size);

static unsigned wire_seed = 3; /* which frames are lost */

static struct {
    bool on;             /* calls are counted */
    unsigned calls;      /* since on */
    unsigned first;      /* this one fails, 0: none */
    bool for_a_while;    /* and those after it, until `on` or this is taken back */
    unsigned failed;
} allocator;

static bool fails(void)
{
    if (!allocator.on)
        return false;
    allocator.calls++;
    if (!allocator.first || allocator.calls < allocator.first)
        return false;
    if (allocator.calls > allocator.first && !allocator.for_a_while)
        return false;
    allocator.failed++;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

struct chunk *__wrap_chunk_alloc(struct chunk_pool *pool, uint32_t size)
{
    return fails() ? NULL : __real_chunk_alloc(pool, size);
}

/* ---- two hosts ---------------------------------------------------------------------------------------- */

struct wire_frame {
    uint8_t *bytes;
    uint32_t n;
    uint64_t at;
};

/* One end of a connection, and its program. */
struct end {
    struct sock *s;
    size_t sent, received, due; /* due: bytes to send in all */
    bool finish;                /* close when all is sent */
    bool shut, eof;
    bool ready;                 /* it was told to look */
    uint64_t retry_at;          /* it looks again by itself, 0: it does not */
    int error;
};

struct host {
    struct stack *st;
    struct stack_config config;
    struct tcp_config tcp_config;
    struct chunk_pool *pool;
    void *arena;
    struct wire_frame in[WIRE_MAX];
    unsigned head, n_in;
    struct end old, new;
    struct sock *listener[2];
    uint64_t lost; /* frames for which there was no chunk, as the daemon's spare one */
};

struct world {
    struct host host[2];
    uint64_t now;
    uint64_t fail_until;
    struct rng rng;
    unsigned loss_percent;
    const struct stack_offload *device;
};

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 131 + (i >> 8) * 7);
}

static void log_write(void *user, enum log_level level, const char *text)
{
    (void)user;
    if (level <= LOG_LVL_ERR)
        print_error("seed %u, call %u of %u, %u failed: %s\n", wire_seed, allocator.first, allocator.calls, allocator.failed, text);
}

static const struct log_sink to_stderr = {.write = log_write, .level = LOG_LVL_ERR};

static bool host_create(struct host *h, int number, uint64_t now)
{
    struct stack_params p = {.max_conns = 16,
                             .max_half_open = 16,
                             .max_time_wait = 16,
                             .generation = 1,
                             .ifindex = 1,
                             .mtu = 1500,
                             .now = now,
                             .check = true};

    p.config = &h->config;
    p.tcp_config = &h->tcp_config;
    p.pool = h->pool;
    p.log = (struct log_sink *)&to_stderr;
    memcpy(p.mac, (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(number + 1)}, 6);
    p.secrets.rng_seed = 1000 + (uint64_t)number;
    p.secrets.isn.k0 = 5 + (uint64_t)number;
    p.secrets.hash.k1 = 6 + (uint64_t)number;
    h->st = stack_create(&p);
    return h->st != NULL;
}

static void host_memory(struct host *h)
{
    size_t arena = 64 * CHUNK_BIG_BYTES;

    stack_config_defaults(&h->config);
    tcp_config_defaults(&h->tcp_config);
    h->arena = aligned_alloc(4096, arena);
    h->pool = chunk_pool_create(h->arena, arena);
}

static void host_init(struct host *h, int number, uint64_t now, const struct stack_offload *o)
{
    host_memory(h);
    assert_true(host_create(h, number, now));
    stack_set_offload(h->st, o);
    for (int i = 0; i < 4; i++) { /* two of each family: the second one's neighbour entry is to be made yet */
        struct ip_addr a;

        ip_addr_parse(i & 1 ? "2001:db8::1" : "192.0.2.1", &a);
        a.b[i & 1 ? 15 : 3] = (uint8_t)(number + 1 + (i & 2) * 8);
        assert_int_equal(stack_addr_add(h->st, &a, i & 1 ? 64 : 24, now), 0);
    }
}

static void host_free(struct host *h)
{
    for (; h->n_in; h->n_in--, h->head++)
        free(h->in[h->head % WIRE_MAX].bytes);
    stack_destroy(h->st);
    assert_int_equal(chunk_pool_used_bytes(h->pool), 0);
    chunk_pool_destroy(h->pool);
    free(h->arena);
}

static void to_wire(struct world *w, struct host *to, const struct stack_tx *tx)
{
    struct wire_frame *f = &to->in[(to->head + to->n_in) % WIRE_MAX];
    size_t at = tx->header_bytes;

    if (tx->is_tcp && rng_below(&w->rng, 100) < w->loss_percent)
        return;
    assert_true(to->n_in < WIRE_MAX);
    f->bytes = __real_malloc(tx->frame_bytes);
    f->n = tx->frame_bytes;
    f->at = w->now + MSEC;
    memcpy(f->bytes, tx->header, tx->header_bytes);
    for (unsigned i = 0; i < tx->n_slices; i++) {
        memcpy(f->bytes + at, tx->slice[i].data, tx->slice[i].len);
        at += tx->slice[i].len;
    }
    to->n_in++;
}

/* As the daemon reads: the first bytes in one slice, the rest in chunks that may be kept. */
static void from_wire(struct world *w, struct host *h)
{
    struct wire_frame *f = &h->in[h->head % WIRE_MAX];
    struct stack_rx rx = {.n_slices = 1};
    uint32_t first = f->n < 2048 ? f->n : 256;
    struct chunk *chunk[4];
    unsigned n = 0;
    bool lost = false;

    rx.slice[0] = (struct tcp_slice){.data = f->bytes, .len = first};
    for (uint32_t at = first; at < f->n && !lost; n++) {
        uint32_t len = f->n - at < CHUNK_BIG_BYTES ? f->n - at : CHUNK_BIG_BYTES;

        chunk[n] = chunk_alloc(h->pool, CHUNK_BIG_BYTES);
        if (!chunk[n]) {
            lost = true;
            h->lost++;
            break;
        }
        memcpy(chunk[n]->data, f->bytes + at, len);
        rx.slice[rx.n_slices++] = (struct tcp_slice){.data = chunk[n]->data, .len = len, .chunk = chunk[n]};
        at += len;
    }
    if (!lost)
        stack_input(h->st, &rx, w->now);
    while (n)
        chunk_unref(h->pool, chunk[--n]);
    free(f->bytes);
    h->head++;
    h->n_in--;
}

/* ---- its program -------------------------------------------------------------------------------------- */

static void failed(struct world *w, struct end *e, int64_t r)
{
    if (r == -EAGAIN)
        return;
    if (r == -ENOMEM || r == -ENOBUFS)
        e->retry_at = w->now + RETRY;
    else if (!e->error)
        e->error = (int)-r;
}

static void end_send(struct world *w, struct end *e)
{
    uint8_t buffer[4096];

    while (!e->error && e->sent < e->due) {
        size_t n = sizeof buffer < e->due - e->sent ? sizeof buffer : e->due - e->sent;
        int64_t got;

        for (size_t i = 0; i < n; i++)
            buffer[i] = byte_at(e->sent + i);
        got = sock_send(e->s, buffer, n, 0, w->now);
        if (got <= 0) {
            failed(w, e, got ? got : -EAGAIN);
            return;
        }
        e->sent += (size_t)got;
    }
    if (e->sent == e->due && e->finish && !e->shut && !e->error) {
        e->shut = true;
        assert_int_equal(sock_shutdown(e->s, SOCK_SHUT_WR, w->now), 0);
    }
}

static void end_receive(struct world *w, struct end *e)
{
    uint8_t buffer[4096];

    while (!e->eof && !e->error) {
        int64_t got = sock_recv(e->s, buffer, sizeof buffer, w->now);

        if (got < 0) {
            failed(w, e, got);
            return;
        }
        e->eof = got == 0;
        for (int64_t i = 0; i < got; i++)
            assert_int_equal(buffer[i], byte_at(e->received + (size_t)i));
        e->received += (size_t)got;
    }
}

/* It does something when it is told that it can, and not before: who should tell it and does not leaves it hanging. */
static void end_run(struct world *w, struct end *e)
{
    if (e->retry_at && e->retry_at <= w->now) {
        e->retry_at = 0;
        e->ready = true;
    }
    if (!e->s || !e->ready)
        return;
    e->ready = false;
    if (!e->error && (sock_poll(e->s) & SOCK_POLLERR))
        e->error = sock_take_error(e->s);
    if (e->error)
        return;
    end_receive(w, e);
    end_send(w, e);
}

static void program(struct world *w, struct host *h)
{
    struct sock_event ev;

    while (sock_next_event(stack_socks(h->st), &ev))
        for (int i = 0; i < 2; i++) {
            struct end *e = i ? &h->new : &h->old;

            if (ev.sock == e->s) {
                e->ready = true;
            } else if (ev.sock == h->listener[i]) {
                assert_null(e->s);
                e->s = sock_accept(ev.sock, NULL);
                e->ready = e->s != NULL;
            }
        }
    end_run(w, &h->old);
    end_run(w, &h->new);
}

/* ---- time --------------------------------------------------------------------------------------------- */

static void turn(struct world *w, unsigned number)
{
    struct host *h = &w->host[number];
    struct stack_tx tx;

    stack_expire(h->st, w->now);
    while (h->n_in && h->in[h->head % WIRE_MAX].at <= w->now)
        from_wire(w, h);
    program(w, h);
    stack_commit(h->st, w->now);
    while (stack_output(h->st, w->now, &tx))
        to_wire(w, &w->host[1 - number], &tx);
}

static uint64_t next_at(struct world *w)
{
    uint64_t at = TIME_NEVER;

    for (unsigned i = 0; i < 2; i++) {
        const struct host *h = &w->host[i];

        assert_true(stack_deadline(h->st) > w->now); /* no busy loop, memory or not */
        at = time_min(at, stack_deadline(h->st));
        at = time_min(at, h->old.retry_at ? h->old.retry_at : TIME_NEVER);
        at = time_min(at, h->new.retry_at ? h->new.retry_at : TIME_NEVER);
        if (h->n_in)
            at = time_min(at, h->in[h->head % WIRE_MAX].at);
    }
    if (w->fail_until > w->now)
        at = time_min(at, w->fail_until);
    return at;
}

static void run(struct world *w, uint64_t until)
{
    for (unsigned turns = 0;; turns++) {
        uint64_t at;

        if (allocator.on && allocator.failed && w->fail_until == 0)
            w->fail_until = w->now + 300 * MSEC;
        if (w->fail_until && w->now >= w->fail_until)
            allocator.for_a_while = false;
        turn(w, 0);
        turn(w, 1);
        at = next_at(w);
        if (at > until)
            break;
        w->now = time_max(at, w->now);
        assert_true(turns < 40000);
    }
    w->now = until;
}

/* ---- the script --------------------------------------------------------------------------------------- */

static const struct stack_offload devices[] = {
    {0},
    {.vnet_hdr = true, .vnet_hdr_bytes = 12, .csum = true, .tso4 = true, .tso6 = true, .tso_ecn = true},
};

static struct ip_addr address(bool v6, unsigned host, unsigned which)
{
    struct ip_addr a;

    ip_addr_parse(v6 ? "2001:db8::1" : "192.0.2.1", &a);
    a.b[v6 ? 15 : 3] = (uint8_t)(host + 1 + which * 16);
    return a;
}

/* Again until it works: a program that is told ENOMEM. */
static int connect_to(struct world *w, struct end *e, bool v6, unsigned which, uint16_t port)
{
    struct ip_addr dst = address(v6, 1, which);
    int r = -ENOMEM;

    e->s = sock_new(stack_socks(w->host[0].st), v6 ? IP_V6 : IP_V4, NULL);
    if (e->s)
        r = sock_connect(e->s, &dst, port, w->now);
    if (r == -EINPROGRESS)
        return 0;
    if (e->s)
        sock_close(e->s, w->now);
    e->s = NULL;
    return r;
}

static int listen_at(struct world *w, unsigned i, bool v6, uint16_t port)
{
    struct host *h = &w->host[1];
    struct ip_addr any = {0};
    int r = -ENOMEM;

    h->listener[i] = sock_new(stack_socks(h->st), v6 ? IP_V6 : IP_V4, NULL);
    if (h->listener[i])
        r = sock_bind(h->listener[i], &any, port);
    if (r == 0)
        r = sock_listen(h->listener[i], 5);
    if (r < 0 && h->listener[i]) {
        sock_close(h->listener[i], w->now);
        h->listener[i] = NULL;
    }
    return r;
}

static struct world *world_new(const struct stack_offload *o, bool v6)
{
    struct world *w = calloc(1, sizeof *w);

    memset(&allocator, 0, sizeof allocator);
    w->now = SEC;
    w->device = o;
    rng_seed(&w->rng, wire_seed);
    host_init(&w->host[0], 0, w->now, o);
    host_init(&w->host[1], 1, w->now, o);
    run(w, 5 * SEC); /* DAD */
    assert_int_equal(listen_at(w, 0, v6, 80), 0);
    assert_int_equal(connect_to(w, &w->host[0].old, v6, 0, 80), 0);
    w->host[0].old.due = w->host[1].old.due = 1000;
    w->host[0].old.ready = true;
    run(w, w->now + 2 * SEC);
    assert_int_equal(w->host[0].old.received, 1000);
    assert_int_equal(w->host[1].old.received, 1000);
    return w;
}

static void close_all(struct world *w)
{
    for (unsigned i = 0; i < 2; i++) {
        struct host *h = &w->host[i];
        struct sock **all[] = {&h->old.s, &h->new.s, &h->listener[0], &h->listener[1]};

        for (unsigned k = 0; k < 4; k++) {
            if (*all[k])
                sock_close(*all[k], w->now);
            *all[k] = NULL;
        }
    }
}

static void world_free(struct world *w)
{
    close_all(w);
    run(w, w->now + 200 * SEC);
    host_free(&w->host[0]);
    host_free(&w->host[1]);
    free(w);
}

/* What happened to the new connection, its ends together: 0 all arrived, else an errno. */
static int script(struct world *w, bool v6)
{
    struct end *old[] = {&w->host[0].old, &w->host[1].old}, *new[] = {&w->host[0].new, &w->host[1].new};
    int refused, r;

    w->loss_percent = 4;
    allocator.on = true;
    for (unsigned i = 0; i < 2; i++) {
        old[i]->ready = true;
        old[i]->due = BYTES;
        new[i]->due = BYTES;
        old[i]->finish = new[i]->finish = true;
    }
    refused = listen_at(w, 1, v6, 81);
    if (refused == 0)
        refused = connect_to(w, new[0], v6, 1, 81);
    run(w, w->now + 150 * SEC);
    allocator.on = false;
    run(w, w->now + 2 * SEC);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(old[i]->error, 0);
        assert_int_equal(old[i]->received, BYTES);
        assert_true(old[i]->eof);
    }
    if (refused)
        return -refused;
    r = new[0]->error ? new[0]->error : new[1]->error;
    if (!r && (new[0]->received != BYTES || new[1]->received != BYTES || !new[0]->eof || !new[1]->eof))
        r = EPROTO; /* neither all nor an error */
    return r;
}

/* Sums over all runs. */
static struct {
    uint64_t no_memory, conn_limit, rcvbuf;
    unsigned refused;
} told;

static void add_drops(struct world *w)
{
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t *drops = tcp_get_drops(stack_tcp(w->host[i].st));

        told.no_memory += drops[TCP_DROP_NO_MEMORY];
        told.conn_limit += drops[TCP_DROP_CONN_LIMIT];
        told.rcvbuf += drops[TCP_DROP_RCVBUF];
    }
}

static void one(unsigned n, bool for_a_while, unsigned device, bool v6)
{
    struct world *w = world_new(&devices[device], v6);
    int r;

    allocator.first = n;
    allocator.for_a_while = for_a_while;
    r = script(w, v6);
    if (r == EPROTO)
        fail_msg("call %u%s: the new connection hangs", n, for_a_while ? " and on" : "");
    told.refused += r != 0;
    add_drops(w);
    world_free(w);
}

static unsigned calls_of_script(unsigned device, bool v6)
{
    struct world *w = world_new(&devices[device], v6);

    assert_int_equal(script(w, v6), 0);
    world_free(w);
    return allocator.calls;
}

static void every_allocation(void **state)
{
    unsigned given = wire_seed;

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        bool v6 = i == 2 || i == 3;
        unsigned device = i & 1, calls;

        wire_seed = i < 4 ? given : given + 1;
        calls = calls_of_script(device, v6);

        assert_true(calls > 30);
        for (unsigned n = 1; n <= calls; n++) {
            one(n, false, device, v6);
            one(n, true, device, v6);
        }
        print_message("%s, %s: %u allocations\n", v6 ? "IPv6" : "IPv4", device ? "super-frames" : "plain", calls);
    }
    print_message("%u new connections were refused; NO_MEMORY %llu, RCVBUF %llu\n", told.refused,
                  (unsigned long long)told.no_memory, (unsigned long long)told.rcvbuf);
    assert_true(told.refused > 0 && told.no_memory > 0 && told.rcvbuf > 0);
    assert_int_equal(told.conn_limit, 0); /* a limit was never what was missing */
}

static void the_start(void **state)
{
    struct host *h = calloc(1, sizeof *h);

    (void)state;
    host_memory(h);
    for (unsigned n = 1; !h->st; n++) {
        memset(&allocator, 0, sizeof allocator);
        allocator.on = true;
        allocator.first = n;
        host_create(h, 0, SEC);
        allocator.on = false;
        assert_true(n < 500);
        assert_true((h->st == NULL) == (allocator.failed > 0));
    }
    host_free(h);
    free(h);
}

/* An argument: the wire's seed. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_start),
        cmocka_unit_test(every_allocation),
    };

    wire_seed = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : wire_seed;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
