/*
 * Two hosts, each a socket layer on a real engine, back to back in virtual time: what the fake engine can only claim.
 * Segments cross with 5 ms of delay each way (all that one side has goes over at once); nothing else is simulated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "sock/sock_priv.h"

#define SEED 77u
#define MS 1000000ull
#define ARENA (64u * 32768)

struct host {
    struct ip_addr a4, a6;
    struct tcp_config config;
    void *arena;
    struct chunk_pool *pool;
    struct tcp *tcp;
    struct socks *ss;
};
struct net {
    struct host h[2];
    uint64_t now;
    bool cut;           /* segments are lost */
    unsigned rsts;      /* seen on the wire */
    uint16_t syn_mss, synack_mss;
};

static bool is_local(void *ctx, const struct ip_addr *addr)
{
    const struct host *h = ctx;

    return ip_addr_eq(addr, &h->a4) || ip_addr_eq(addr, &h->a6);
}

static int route(void *ctx, const struct ip_addr *dst, struct ip_addr *inout_src, struct tcp_path *ret)
{
    const struct host *h = ctx;

    if (inout_src->family == IP_NONE)
        *inout_src = dst->family == IP_V4 ? h->a4 : h->a6;
    ret->mtu = 1500;
    return 0;
}

static void host_init(struct host *h, unsigned n, uint64_t now)
{
    struct tcp_params p = {.config = &h->config, .now = now, .max_conns = 256, .max_half_open = 64, .max_time_wait = 64,
                           .generation = 1, .check = true, .park_eager = getenv("TAUT_PARK") != NULL};
    struct socks_params sp = {.config = &h->config, .net = {.ctx = h, .route = route, .is_local = is_local},
                              .port_key = {SEED, n}, .rng_seed = SEED};
    uint8_t b6[16] = {0x20, 1, 0x0d, 0xb8, [15] = (uint8_t)(n + 1)};

    h->a4 = ip_addr_v4(10, 0, 0, (uint8_t)(n + 1));
    h->a6 = ip_addr_v6_bytes(b6, 0);
    tcp_config_defaults(&h->config);
    h->arena = aligned_alloc(4096, ARENA);
    h->pool = chunk_pool_create(h->arena, ARENA);
    p.pool = h->pool;
    p.secrets.rng_seed = SEED + n;
    p.secrets.hash = p.secrets.isn = p.secrets.ts_offset = (struct siphash_key){SEED, n};
    h->tcp = tcp_create(&p);
    assert_non_null(h->tcp);
    sp.tcp = h->tcp;
    h->ss = socks_create(&sp);
    assert_non_null(h->ss);
}

static void net_init(struct net *n)
{
    memset(n, 0, sizeof *n);
    n->now = 1000 * MS;
    host_init(&n->h[0], 0, n->now);
    host_init(&n->h[1], 1, n->now);
}

static void net_free(struct net *n)
{
    for (int i = 0; i < 2; i++) {
        assert_null(tcp_check_all(n->h[i].tcp));
        socks_destroy(n->h[i].ss);
        tcp_destroy(n->h[i].tcp);
        assert_int_equal(chunk_pool_used_bytes(n->h[i].pool), 0);
        chunk_pool_destroy(n->h[i].pool);
        free(n->h[i].arena);
    }
}

static void cross(struct net *n, int to, struct tcp_out *out)
{
    struct tcp_path path = {.mtu = 1500};

    n->rsts += (out->seg.flags & TCP_RST) != 0;
    if (out->seg.flags & TCP_SYN)
        *(out->seg.flags & TCP_ACK ? &n->synack_mss : &n->syn_mss) = out->seg.opt.mss;
    if (n->cut)
        return;
    for (unsigned i = 0; i < out->seg.n_slices; i++)
        out->seg.slice[i].chunk = NULL; /* the other host has a pool of its own */
    tcp_input(n->h[to].tcp, &out->seg, &path, n->now);
}

/* All that one host has to send now. */
static bool flush(struct net *n, int from)
{
    struct tcp *t = n->h[from].tcp;
    static struct tcp_out out;
    bool any = false;

    socks_drain(n->h[from].ss);
    tcp_commit(t, n->now);
    while (tcp_next_reply(t, n->now, &out)) {
        cross(n, 1 - from, &out);
        any = true;
    }
    while (tcp_next_ready(t, &out)) {
        tcp_id id = out.id;

        while (tcp_output(t, id, n->now, &out)) {
            cross(n, 1 - from, &out);
            any = true;
        }
    }
    return any;
}

/* Lets `ms` pass. */
static void run(struct net *n, uint64_t ms)
{
    uint64_t end = n->now + ms * MS;

    for (;;) {
        uint64_t next;
        bool any;

        do {
            any = flush(n, 0);
            any = flush(n, 1) || any;
            n->now += any ? 5 * MS : 0;
        } while (any);
        next = tcp_deadline(n->h[0].tcp);
        if (tcp_deadline(n->h[1].tcp) < next)
            next = tcp_deadline(n->h[1].tcp);
        if (next > end)
            break;
        if (next > n->now)
            n->now = next;
        tcp_expire(n->h[0].tcp, n->now);
        tcp_expire(n->h[1].tcp, n->now);
    }
    if (n->now < end)
        n->now = end;
}

static struct sock *listener_at(struct net *n, int host, enum ip_family family, uint16_t port)
{
    struct sock *s = sock_new(n->h[host].ss, family, NULL);
    struct ip_addr any = {.family = IP_NONE};

    assert_int_equal(sock_bind(s, &any, port), 0);
    assert_int_equal(sock_listen(s, 4), 0);
    return s;
}

static struct sock *connect_to(struct net *n, const struct ip_addr *addr, uint16_t port)
{
    struct sock *s = sock_new(n->h[0].ss, addr->family == IP_V6 ? IP_V6 : IP_V4, NULL);

    assert_int_equal(sock_connect(s, addr, port, n->now), -EINPROGRESS);
    return s;
}

static void pair(struct net *n, struct sock **c, struct sock **l, struct sock **a)
{
    *l = listener_at(n, 1, IP_V4, 80);
    *c = connect_to(n, &n->h[1].a4, 80);
    run(n, 50);
    *a = sock_accept(*l, NULL);
    assert_non_null(*a);
}

static void test_echo_and_close(void **state)
{
    struct sock *c, *l, *a;
    struct sock_event ev;
    struct net n;
    char buf[64];

    (void)state;
    net_init(&n);
    pair(&n, &c, &l, &a);
    assert_true(sock_next_event(n.h[0].ss, &ev));
    assert_ptr_equal(ev.sock, c);
    assert_int_equal(ev.bits, SOCK_POLLOUT);
    assert_int_equal(sock_send(c, "hello", 5, 0, n.now), 5);
    run(&n, 50);
    assert_int_equal(sock_poll(a), SOCK_POLLIN | SOCK_POLLOUT);
    assert_int_equal(sock_recv(a, buf, sizeof buf, n.now), 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(sock_recv(a, buf, sizeof buf, n.now), -EAGAIN);
    assert_int_equal(sock_send(a, "world!", 6, 0, n.now), 6);
    assert_int_equal(sock_shutdown(a, SOCK_SHUT_WR, n.now), 0);
    assert_int_equal(sock_send(a, "x", 1, 0, n.now), -EPIPE);
    run(&n, 50);
    assert_int_equal(sock_poll(c), SOCK_POLLIN | SOCK_POLLOUT | SOCK_POLLRDHUP);
    assert_int_equal(sock_recv(c, buf, sizeof buf, n.now), 6);
    assert_int_equal(sock_recv(c, buf, sizeof buf, n.now), 0);
    assert_int_equal(sock_send(c, "more", 4, 0, n.now), 4); /* half closed */
    run(&n, 50);
    assert_int_equal(sock_recv(a, buf, sizeof buf, n.now), 4);
    sock_close(c, n.now);
    run(&n, 50);
    assert_int_equal(sock_recv(a, buf, sizeof buf, n.now), 0);
    assert_true(sock_poll(a) & SOCK_POLLHUP);
    sock_close(a, n.now);
    sock_close(l, n.now);
    assert_int_equal(n.rsts, 0);
    run(&n, 120000);
    net_free(&n);
}

static void test_refused_and_again(void **state)
{
    struct sock *c, *l, *a;
    struct sock_event ev;
    struct net n;

    (void)state;
    net_init(&n);
    c = connect_to(&n, &n.h[1].a4, 80);
    assert_int_equal(sock_connect(c, &n.h[1].a4, 80, n.now), -EALREADY);
    assert_int_equal(sock_send(c, "x", 1, 0, n.now), -EAGAIN);
    run(&n, 50);
    assert_true(sock_next_event(n.h[0].ss, &ev));
    assert_true(ev.bits & SOCK_POLLERR);
    assert_int_equal(sock_connect(c, &n.h[1].a4, 80, n.now), -ECONNREFUSED);
    l = listener_at(&n, 1, IP_V4, 80);
    assert_int_equal(sock_connect(c, &n.h[1].a4, 80, n.now), -EINPROGRESS);
    run(&n, 50);
    assert_int_equal(sock_connect(c, &n.h[1].a4, 80, n.now), 0);
    assert_int_equal(sock_connect(c, &n.h[1].a4, 80, n.now), -EISCONN);
    a = sock_accept(l, NULL);
    assert_non_null(a);
    sock_abort(a, n.now);
    run(&n, 50);
    assert_int_equal(sock_take_error(c), ECONNRESET);
    assert_int_equal(sock_send(c, "x", 1, 0, n.now), -EPIPE);
    assert_int_equal(sock_recv(c, (char[1]){0}, 1, n.now), 0);
    sock_close(c, n.now);
    sock_close(l, n.now);
    run(&n, 50);
    net_free(&n);
}

static void test_timed_out(void **state)
{
    int32_t one = 1;
    struct sock *c;
    struct net n;

    (void)state;
    net_init(&n);
    n.cut = true;
    c = sock_new(n.h[0].ss, IP_V4, NULL);
    sock_setopt(c, SOCK_LEVEL_TCP, SOCK_TCP_SYNCNT, &one, sizeof one, n.now);
    assert_int_equal(sock_connect(c, &n.h[1].a4, 80, n.now), -EINPROGRESS);
    run(&n, 2500);
    assert_int_equal(sock_poll(c), 0);
    run(&n, 2000); /* 1 s + 2 s */
    assert_int_equal(sock_recv(c, (char[1]){0}, 1, n.now), -ETIMEDOUT);
    assert_int_equal(sock_recv(c, (char[1]){0}, 1, n.now), 0);
    sock_close(c, n.now);
    net_free(&n);
}

/* Dual stack, a connection that dies in the accept queue, and a listener closed with one in it. */
static void test_accept_queue(void **state)
{
    struct ip_addr peer;
    struct sock *l, *c[3], *a;
    uint16_t port;
    struct net n;

    (void)state;
    net_init(&n);
    l = listener_at(&n, 1, IP_V6, 80);
    for (int i = 0; i < 3; i++) {
        c[i] = connect_to(&n, i == 1 ? &n.h[1].a6 : &n.h[1].a4, 80);
        run(&n, 50);
    }
    sock_abort(c[0], n.now);
    run(&n, 50);
    a = sock_accept(l, NULL);
    assert_int_equal(sock_recv(a, (char[1]){0}, 1, n.now), -ECONNRESET);
    sock_close(a, n.now);
    a = sock_accept(l, NULL);
    assert_int_equal(sock_peer(a, &peer, &port), 0);
    assert_true(ip_addr_eq(&peer, &n.h[0].a6));
    n.rsts = 0;
    sock_close(l, n.now);
    run(&n, 50);
    assert_int_equal(n.rsts, 1);
    assert_int_equal(sock_take_error(c[2]), ECONNRESET);
    sock_close(a, n.now);
    sock_close(c[1], n.now);
    sock_close(c[2], n.now);
    run(&n, 120000);
    net_free(&n);
}

static int bind_to(struct net *n, int host, uint16_t port, int32_t reuse)
{
    struct sock *s = sock_new(n->h[host].ss, IP_V4, NULL);
    struct ip_addr any = {.family = IP_NONE};
    int r;

    sock_setopt(s, SOCK_LEVEL_SOCKET, SOCK_SO_REUSEADDR, &reuse, sizeof reuse, n->now);
    r = sock_bind(s, &any, port);
    sock_close(s, n->now);
    return r;
}

/* The server closed first: its port is not free until TIME-WAIT ends; with SO_REUSEADDR on both, at once. */
static void test_time_wait_bind(void **state)
{
    (void)state;
    for (int32_t reuse = 0; reuse < 2; reuse++) {
        struct sock *c, *l, *a;
        struct ip_addr any = {.family = IP_NONE};
        struct net n;

        net_init(&n);
        l = sock_new(n.h[1].ss, IP_V4, NULL);
        sock_setopt(l, SOCK_LEVEL_SOCKET, SOCK_SO_REUSEADDR, &reuse, sizeof reuse, n.now);
        sock_bind(l, &any, 80);
        sock_listen(l, 4);
        c = connect_to(&n, &n.h[1].a4, 80);
        run(&n, 50);
        a = sock_accept(l, NULL);
        sock_close(a, n.now);
        sock_close(l, n.now);
        run(&n, 50);
        sock_close(c, n.now);
        run(&n, 5000);
        assert_int_equal(bind_to(&n, 1, 80, 0), -EADDRINUSE);
        assert_int_equal(bind_to(&n, 1, 80, 1), reuse ? 0 : -EADDRINUSE);
        run(&n, 60000);
        assert_int_equal(bind_to(&n, 1, 80, 0), 0);
        net_free(&n);
    }
}

static void test_options_reach_the_wire(void **state)
{
    int32_t mss = 1000, buf = 3000, v;
    size_t bytes = sizeof v;
    struct sock *l, *c, *a;
    struct net n;

    (void)state;
    net_init(&n);
    l = listener_at(&n, 1, IP_V4, 80);
    sock_setopt(l, SOCK_LEVEL_SOCKET, SOCK_SO_RCVBUF, &buf, sizeof buf, n.now);
    sock_setopt(l, SOCK_LEVEL_TCP, SOCK_TCP_MAXSEG, &(int32_t){900}, sizeof v, n.now);
    c = sock_new(n.h[0].ss, IP_V4, NULL);
    sock_setopt(c, SOCK_LEVEL_TCP, SOCK_TCP_MAXSEG, &mss, sizeof mss, n.now);
    sock_setopt(c, SOCK_LEVEL_SOCKET, SOCK_SO_SNDBUF, &buf, sizeof buf, n.now);
    sock_connect(c, &n.h[1].a4, 80, n.now);
    run(&n, 50);
    assert_int_equal(n.syn_mss, 1000);
    assert_int_equal(n.synack_mss, 900);
    a = sock_accept(l, NULL);
    sock_getopt(a, SOCK_LEVEL_SOCKET, SOCK_SO_RCVBUF, &v, &bytes, n.now);
    assert_int_equal(v, 6000);
    sock_getopt(c, SOCK_LEVEL_SOCKET, SOCK_SO_SNDBUF, &v, &bytes, n.now);
    assert_int_equal(v, 6000);
    sock_close(l, n.now);
    sock_close(c, n.now);
    sock_close(a, n.now);
    run(&n, 120000);
    net_free(&n);
}

/* A full send buffer: EAGAIN, no POLLOUT; the event comes when a third is free. All bytes arrive in order. */
static void test_full_buffer(void **state)
{
    static uint8_t data[300000];
    struct sock *c, *l, *a;
    struct sock_event ev;
    size_t sent = 0, got = 0;
    unsigned writable = 0;
    struct net n;

    (void)state;
    net_init(&n);
    pair(&n, &c, &l, &a);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    while (sock_next_event(n.h[0].ss, &ev))
        ;
    for (int turn = 0; turn < 1000 && got < sizeof data; turn++) {
        static uint8_t buf[sizeof data];
        int64_t r;

        while (sent < sizeof data && (r = sock_send(c, data + sent, sizeof data - sent, 0, n.now)) > 0)
            sent += (size_t)r;
        if (sent < sizeof data) {
            assert_int_equal(sock_send(c, data, 1, 0, n.now), -EAGAIN);
            assert_int_equal(sock_poll(c) & SOCK_POLLOUT, 0);
        }
        run(&n, 20);
        while (sock_next_event(n.h[0].ss, &ev))
            writable += (ev.bits & SOCK_POLLOUT) != 0;
        while ((r = sock_recv(a, buf, sizeof buf, n.now)) > 0) {
            assert_memory_equal(buf, data + got, (size_t)r);
            got += (size_t)r;
        }
        assert_int_equal(r, -EAGAIN);
    }
    assert_int_equal(got, sizeof data);
    assert_true(writable > 0);
    sock_close(a, n.now);
    run(&n, 50);
    sock_close(c, n.now);
    sock_close(l, n.now);
    run(&n, 120000);
    net_free(&n);
}

/* close() with unread data, and with linger 0: RST. */
static void test_reset_closes(void **state)
{
    (void)state;
    for (int linger_first = 0; linger_first < 2; linger_first++) {
        int32_t linger[2] = {linger_first, 0};
        struct sock *c, *l, *a;
        struct net n;

        net_init(&n);
        pair(&n, &c, &l, &a);
        sock_setopt(a, SOCK_LEVEL_SOCKET, SOCK_SO_LINGER, linger, sizeof linger, n.now);
        if (!linger_first) {
            sock_send(c, "unread", 6, 0, n.now);
            run(&n, 50);
        }
        sock_close(a, n.now);
        run(&n, 50);
        assert_int_equal(n.rsts, 1);
        assert_int_equal(sock_send(c, "x", 1, 0, n.now), -ECONNRESET);
        assert_int_equal(sock_send(c, "x", 1, 0, n.now), -EPIPE);
        sock_close(c, n.now);
        sock_close(l, n.now);
        run(&n, 100);
        net_free(&n);
    }
}

/* Active close by shutdown with the socket kept: TIME-WAIT is the engine's, the socket reads the end and hangs up. */
static void test_owned_time_wait(void **state)
{
    struct sock *c, *l, *a;
    struct net n;

    (void)state;
    net_init(&n);
    pair(&n, &c, &l, &a);
    sock_shutdown(c, SOCK_SHUT_WR, n.now);
    run(&n, 50);
    sock_send(a, "bye", 3, 0, n.now);
    sock_close(a, n.now);
    run(&n, 50);
    assert_int_equal(c->state, TCP_STATE_CLOSE);
    assert_int_equal(sock_poll(c), SOCK_POLLIN | SOCK_POLLOUT | SOCK_POLLHUP | SOCK_POLLRDHUP);
    assert_int_equal(sock_recv(c, (char[8]){0}, 8, n.now), 3);
    assert_int_equal(sock_recv(c, (char[8]){0}, 8, n.now), 0);
    assert_int_equal(sock_take_error(c), 0);
    sock_close(c, n.now);
    sock_close(l, n.now);
    run(&n, 120000);
    assert_int_equal(n.rsts, 0);
    net_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_and_close),  cmocka_unit_test(test_refused_and_again),
        cmocka_unit_test(test_timed_out),       cmocka_unit_test(test_accept_queue),
        cmocka_unit_test(test_time_wait_bind),  cmocka_unit_test(test_options_reach_the_wire),
        cmocka_unit_test(test_full_buffer),     cmocka_unit_test(test_reset_closes),
        cmocka_unit_test(test_owned_time_wait),
    };

    printf("seed %u\n", SEED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
