/*
 * Two stacks with the real engine, joined by frames with a delay, in virtual time: connect, bytes both ways,
 * close. Once for each family and each kind of device. Then one stack that talks to itself.
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
#include "coverage_stack.h"
#include "base/rng.h"
#include "stack/stack.h"

#define MSEC     NSEC_PER_MSEC
#define SEC      NSEC_PER_SEC
#define WIRE_MAX 4096
#define BYTES    (1u << 20)

struct wire_frame {
    uint8_t *bytes;
    uint32_t n;
    uint64_t at;
};

struct host {
    struct stack *st;
    struct stack_config config;
    struct tcp_config tcp_config;
    struct chunk_pool *pool;
    void *arena;
    struct wire_frame in[WIRE_MAX]; /* a ring */
    unsigned head, n_in;
    struct sock *listener, *conn;
    size_t received, sent;
    bool eof, shut;
    uint64_t frames, longest;
};

struct world {
    struct host host[2];
    uint64_t now;
    struct rng rng;
    unsigned loss_percent;
};

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 131 + (i >> 8) * 7);
}

static void host_init(struct host *h, int number, uint64_t now, const struct stack_offload *o)
{
    struct stack_params p = {.max_conns = 16,
                             .max_half_open = 16,
                             .max_time_wait = 16,
                             .generation = 1,
                             .ifindex = 1,
                             .mtu = 1500,
                             .now = now,
                             .check = true};
    size_t arena = 512 * CHUNK_BIG_BYTES;

    stack_config_defaults(&h->config);
    tcp_config_defaults(&h->tcp_config);
    h->arena = aligned_alloc(4096, arena);
    h->pool = chunk_pool_create(h->arena, arena);
    p.config = &h->config;
    p.tcp_config = &h->tcp_config;
    p.pool = h->pool;
    memcpy(p.mac, (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(number + 1)}, 6);
    p.secrets.rng_seed = 1000 + (uint64_t)number;
    p.secrets.isn.k0 = 5 + (uint64_t)number;
    p.secrets.hash.k1 = 6 + (uint64_t)number;
    h->st = stack_create(&p);
    assert_non_null(h->st);
    stack_set_offload(h->st, o);
    for (int v6 = 0; v6 < 2; v6++) {
        struct ip_addr a;

        ip_addr_parse(v6 ? "2001:db8::1" : "192.0.2.1", &a);
        a.b[v6 ? 15 : 3] = (uint8_t)(number + 1);
        assert_int_equal(stack_addr_add(h->st, &a, v6 ? 64 : 24, now), 0);
    }
}

static void host_free(struct host *h)
{
    for (; h->n_in; h->n_in--, h->head++)
        free(h->in[h->head % WIRE_MAX].bytes);
    coverage_stack(h->st);
    stack_destroy(h->st);
    chunk_pool_destroy(h->pool);
    free(h->arena);
}

static void to_wire(struct world *w, struct host *from, struct host *to, const struct stack_tx *tx)
{
    struct wire_frame *f = &to->in[(to->head + to->n_in) % WIRE_MAX];
    size_t at = tx->header_bytes;

    from->frames++;
    if (tx->frame_bytes > from->longest)
        from->longest = tx->frame_bytes;
    if (tx->is_tcp && rng_below(&w->rng, 100) < w->loss_percent)
        return;
    assert_true(to->n_in < WIRE_MAX);
    f->bytes = malloc(tx->frame_bytes);
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

    rx.slice[0] = (struct tcp_slice){.data = f->bytes, .len = first};
    for (uint32_t at = first; at < f->n;) {
        uint32_t len = f->n - at < CHUNK_BIG_BYTES ? f->n - at : CHUNK_BIG_BYTES;

        chunk[n] = chunk_alloc(h->pool, CHUNK_BIG_BYTES);
        assert_non_null(chunk[n]);
        memcpy(chunk[n]->data, f->bytes + at, len);
        rx.slice[rx.n_slices++] = (struct tcp_slice){.data = chunk[n]->data, .len = len, .chunk = chunk[n]};
        at += len;
        n++;
    }
    stack_input(h->st, &rx, w->now);
    while (n)
        chunk_unref(h->pool, chunk[--n]);
    free(f->bytes);
    h->head++;
    h->n_in--;
}

/* The program on each host: sends BYTES, then shuts down; reads and checks until the end. */
static void program(struct host *h, uint64_t now)
{
    uint8_t buffer[16384];
    struct sock_event ev;

    while (sock_next_event(stack_socks(h->st), &ev))
        ;
    if (h->listener && !h->conn)
        h->conn = sock_accept(h->listener, NULL);
    if (!h->conn)
        return;
    while (h->sent < BYTES) {
        size_t n = sizeof buffer < BYTES - h->sent ? sizeof buffer : BYTES - h->sent;
        int64_t got;

        for (size_t i = 0; i < n; i++)
            buffer[i] = byte_at(h->sent + i);
        got = sock_send(h->conn, buffer, n, 0, now);
        if (got <= 0)
            break;
        h->sent += (size_t)got;
    }
    if (h->sent == BYTES && !h->shut) {
        h->shut = true;
        assert_int_equal(sock_shutdown(h->conn, SOCK_SHUT_WR, now), 0);
    }
    while (!h->eof) {
        int64_t got = sock_recv(h->conn, buffer, sizeof buffer, now);

        if (got < 0)
            break;
        h->eof = got == 0;
        for (int64_t i = 0; i < got; i++)
            assert_int_equal(buffer[i], byte_at(h->received + (size_t)i));
        h->received += (size_t)got;
    }
}

static void turn(struct world *w, unsigned number)
{
    struct host *h = &w->host[number];
    struct stack_tx tx;

    stack_expire(h->st, w->now);
    while (h->n_in && h->in[h->head % WIRE_MAX].at <= w->now)
        from_wire(w, h);
    program(h, w->now);
    stack_commit(h->st, w->now);
    while (stack_output(h->st, w->now, &tx))
        to_wire(w, h, &w->host[1 - number], &tx);
}

static uint64_t next_at(const struct world *w)
{
    uint64_t at = TIME_NEVER;

    for (unsigned i = 0; i < 2; i++) {
        const struct host *h = &w->host[i];

        assert_true(stack_deadline(h->st) > w->now);
        at = time_min(at, stack_deadline(h->st));
        if (h->n_in)
            at = time_min(at, h->in[h->head % WIRE_MAX].at);
    }
    return at;
}

static void run(struct world *w, uint64_t until)
{
    uint64_t turns = 0;

    for (;;) {
        turn(w, 0);
        turn(w, 1);
        if (next_at(w) > until)
            break;
        w->now = time_max(next_at(w), w->now);
        assert_true(++turns < 400000);
    }
    w->now = until;
}

static struct world *world_new(const struct stack_offload *o)
{
    struct world *w = calloc(1, sizeof *w);

    w->now = SEC;
    rng_seed(&w->rng, 7);
    host_init(&w->host[0], 0, w->now, o);
    host_init(&w->host[1], 1, w->now, o);
    run(w, 5 * SEC); /* DAD */
    return w;
}

static void world_free(struct world *w)
{
    host_free(&w->host[0]);
    host_free(&w->host[1]);
    free(w);
}

static const struct stack_offload devices[] = {
    {0},
    {.vnet_hdr = true, .vnet_hdr_bytes = 12},
    {.vnet_hdr = true, .vnet_hdr_bytes = 10, .csum = true},
    {.vnet_hdr = true, .vnet_hdr_bytes = 10, .csum = true, .tso4 = true, .tso6 = true, .tso_ecn = true},
    {.vnet_hdr = true, .vnet_hdr_bytes = 12, .csum = true, .tso4 = true},
};

static void transfer(const struct stack_offload *o, bool v6, unsigned loss)
{
    struct world *w = world_new(o);
    struct host *a = &w->host[0], *b = &w->host[1];
    struct ip_addr any = {0}, dst;
    bool tso = v6 ? o->tso6 : o->tso4;

    w->loss_percent = loss;
    ip_addr_parse(v6 ? "2001:db8::2" : "192.0.2.2", &dst);
    b->listener = sock_new(stack_socks(b->st), v6 ? IP_V6 : IP_V4, NULL);
    assert_int_equal(sock_bind(b->listener, &any, 80), 0);
    assert_int_equal(sock_listen(b->listener, 5), 0);
    a->conn = sock_new(stack_socks(a->st), v6 ? IP_V6 : IP_V4, NULL);
    assert_int_equal(sock_connect(a->conn, &dst, 80, w->now), -EINPROGRESS);
    run(w, w->now + (loss ? 120 : 20) * SEC);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(w->host[i].received, BYTES);
        assert_true(w->host[i].eof);
        assert_int_equal(stack_get_drops(w->host[i].st)[STACK_DROP_TCP_CHECKSUM], 0);
        assert_int_equal(stack_get_drops(w->host[i].st)[STACK_DROP_TCP_MALFORMED], 0);
        assert_int_equal(stack_get_drops(w->host[i].st)[STACK_DROP_VNET_HEADER], 0);
        if (tso)
            assert_true(w->host[i].longest > 3000);
        else
            assert_true(w->host[i].longest <= 1514u + o->vnet_hdr_bytes);
    }
    sock_close(a->conn, w->now);
    sock_close(b->conn, w->now);
    sock_close(b->listener, w->now);
    a->conn = b->conn = b->listener = NULL;
    run(w, w->now + 200 * SEC);
    world_free(w);
}

static void every_device(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof devices / sizeof devices[0]; i++)
        for (int v6 = 0; v6 < 2; v6++)
            transfer(&devices[i], v6, 0);
}

static void with_loss(void **state)
{
    (void)state;
    transfer(&devices[0], false, 2);
    transfer(&devices[3], true, 2);
}

static void refused_and_unreachable(void **state)
{
    struct world *w = world_new(&devices[0]);
    struct host *a = &w->host[0];
    static const struct {
        const char *dst;
        int error;
    } cases[] = {{"192.0.2.2", ECONNREFUSED},
                 {"2001:db8::2", ECONNREFUSED},
                 {"192.0.2.77", EHOSTUNREACH},
                 {"2001:db8::77", EHOSTUNREACH}};

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ip_addr dst;
        struct sock *s;

        ip_addr_parse(cases[i].dst, &dst);
        s = sock_new(stack_socks(a->st), (enum ip_family)dst.family, NULL);
        assert_int_equal(sock_connect(s, &dst, 81, w->now), -EINPROGRESS);
        run(w, w->now + 5 * SEC);
        assert_int_equal(sock_take_error(s), cases[i].error);
        sock_close(s, w->now);
    }
    world_free(w);
}

/* A host that talks to its own address: client and server are two programs on host 0. */
static void own_address(void **state)
{
    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        struct world *w = world_new(&devices[3]);
        struct host *a = &w->host[0];
        struct ip_addr any = {0}, dst;
        struct sock *listener = sock_new(stack_socks(a->st), v6 ? IP_V6 : IP_V4, NULL), *client,
                    *server = NULL;
        uint8_t buffer[8192];
        size_t sent = 0, received = 0;
        uint64_t frames;

        ip_addr_parse(v6 ? "2001:db8::1" : "192.0.2.1", &dst);
        assert_int_equal(sock_bind(listener, &any, 80), 0);
        assert_int_equal(sock_listen(listener, 5), 0);
        client = sock_new(stack_socks(a->st), v6 ? IP_V6 : IP_V4, NULL);
        assert_int_equal(sock_connect(client, &dst, 80, w->now), -EINPROGRESS);
        frames = a->frames;
        for (int i = 0; i < 200000 && received < BYTES; i++) {
            int64_t got;

            w->now += 10000;
            turn(w, 0);
            if (!server)
                server = sock_accept(listener, NULL);
            for (size_t k = 0; k < sizeof buffer; k++)
                buffer[k] = byte_at(sent + k);
            got = server && sent < BYTES ? sock_send(client, buffer, sizeof buffer, 0, w->now) : 0;
            sent += got > 0 ? (size_t)got : 0;
            got = server ? sock_recv(server, buffer, sizeof buffer, w->now) : 0;
            for (int64_t k = 0; k < got; k++)
                assert_int_equal(buffer[k], byte_at(received + (size_t)k));
            received += got > 0 ? (size_t)got : 0;
        }
        assert_int_equal(received, sent);
        assert_true(received >= BYTES);
        assert_int_equal(a->frames, frames); /* nothing of it reached the device */
        assert_true(stack_get_counters(a->st)->looped > 10);
        sock_close(client, w->now);
        sock_close(server, w->now);
        sock_close(listener, w->now);
        run(w, w->now + 200 * SEC);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device),
        cmocka_unit_test(with_loss),
        cmocka_unit_test(refused_and_unreachable),
        cmocka_unit_test(own_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
