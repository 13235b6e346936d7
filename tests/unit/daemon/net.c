/* See net.h. */
#include "net.h"

#include <fcntl.h>
#include <poll.h>
#include <time.h>

static uint64_t rnd_state;

void rnd_seed(void)
{
    const char *given = getenv("TAUT_SEED");

    rnd_state = given ? strtoull(given, NULL, 0) : daemon_now() | 1;
    print_message("TAUT_SEED=%llu\n", (unsigned long long)rnd_state);
}

uint32_t rnd(void)
{
    if (!rnd_state)
        rnd_seed();
    rnd_state ^= rnd_state << 13;
    rnd_state ^= rnd_state >> 7;
    rnd_state ^= rnd_state << 17;
    return (uint32_t)(rnd_state >> 16);
}

void fill(uint8_t *out, uint64_t from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = pattern(from + i);
}

void check(const uint8_t *data, uint64_t from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != pattern(from + i))
            fail_msg("byte %llu is %u, not %u", (unsigned long long)(from + i), data[i], pattern(from + i));
}

struct ip_addr ip(const char *text)
{
    struct ip_addr a;

    if (!ip_addr_parse(text, &a))
        fail_msg("bad address %s", text);
    return a;
}

static void log_write(void *user, enum log_level level, const char *text)
{
    struct net *n = user;
    size_t room = sizeof n->log - n->logged;
    int r = snprintf(n->log + n->logged, room, "<%d>%s\n", (int)level, text);

    if (r > 0 && (size_t)r < room)
        n->logged += (size_t)r;
}

static struct chunk_pool *pool_new(void **ret_arena, size_t bytes)
{
    *ret_arena = aligned_alloc(4096, bytes);
    assert_non_null(*ret_arena);
    return chunk_pool_create(*ret_arena, bytes);
}

static struct stack *host_new(struct stack_params *p, const char *v4, const char *v6)
{
    struct ip_addr a4 = ip(v4), a6 = ip(v6);
    struct stack *st;

    p->now = daemon_now();
    p->mtu = 1500;
    p->ifindex = 1;
    p->max_conns = 4096;
    p->max_half_open = p->max_time_wait = 1024;
    p->generation = 1;
    p->check = true;
    st = stack_create(p);
    assert_non_null(st);
    assert_int_equal(stack_addr_add(st, &a4, 24, p->now), 0);
    assert_int_equal(stack_addr_add(st, &a6, 64, p->now), 0);
    return st;
}

static void make_daemon(struct net *n, size_t arena_bytes)
{
    struct daemon *d = &n->d;
    struct stack_params p = {.mac = {2, 0, 0, 0, 0, 1}, .secrets = {.rng_seed = 1}};

    list_init(&d->deferred);
    list_init(&d->starved);
    d->config = &n->config;
    d->log = (struct log_sink){.write = log_write, .user = n, .level = LOG_LVL_DEBUG};
    d->loop = ev_default_loop(EVFLAG_AUTO);
    d->fds = fdset_new(d->loop, -1);
    assert_non_null(d->fds);
    d->pool = pool_new(&n->arena, arena_bytes);
    p.config = &n->config.stack;
    p.tcp_config = &n->config.tcp;
    p.pool = d->pool;
    p.log = &d->log;
    d->stack = host_new(&p, HERE, HERE6);
    d->tcp = stack_tcp(d->stack);
    d->socks = stack_socks(d->stack);
    assert_int_equal(tap_attach_pool(&n->tap, d->pool), 0);
    d->tap = &n->tap;
    assert_non_null(loop_new(d));
}

static void make_peer(struct net *n)
{
    struct stack_params p = {.mac = {2, 0, 0, 0, 0, 2}, .secrets = {.rng_seed = 2}};

    n->peer_pool = pool_new(&n->peer_arena, 64u << 20);
    stack_config_defaults(&n->peer_config);
    tcp_config_defaults(&n->peer_tcp);
    n->peer_config.ipv6_dad_transmits = 0;
    p.config = &n->peer_config;
    p.tcp_config = &n->peer_tcp;
    p.pool = n->peer_pool;
    p.log = &n->d.log;
    n->peer = host_new(&p, THERE, THERE6);
}

static bool addresses_usable(const struct stack *st)
{
    struct stack_addr a;

    for (unsigned i = 0; stack_addr_get(st, i, &a); i++)
        if (a.state != STACK_ADDR_PREFERRED)
            return false;
    return true;
}

struct net *net_new(size_t arena_bytes)
{
    struct net *n = calloc(1, sizeof *n);
    int fd[2], big = 8 << 20;

    config_defaults(&n->config);
    n->config.stack.ipv6_dad_transmits = 0;
    n->config.tcp.tcp_wmem_default = 1 << 20; /* room for what a test writes in one go */
    n->config.tcp.tcp_hystart = 0; /* buffers grow with cwnd, and that not by this machine's timing */
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    for (int i = 0; i < 2; i++)
        if (setsockopt(fd[i], SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big) != 0)
            setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    n->tap.fd = fd[0];
    n->wire = fd[1];
    make_daemon(n, arena_bytes);
    make_peer(n);
    WAIT(n, addresses_usable(n->d.stack) && addresses_usable(n->peer));
    return n;
}

void net_free(struct net *n)
{
    while (daemon_run_deferred(&n->d))
        ;
    if (n->d.runner)
        loop_free(n->d.runner);
    fdset_free(n->d.fds);
    stack_destroy(n->d.stack);
    stack_destroy(n->peer);
    tap_close(&n->tap);
    close(n->wire);
    chunk_pool_destroy(n->d.pool); /* asserts that nothing leaked */
    chunk_pool_destroy(n->peer_pool);
    free(n->arena);
    free(n->peer_arena);
    free(n);
}

static bool peer_in(struct net *n)
{
    uint8_t frame[2048];
    ssize_t r = recv(n->wire, frame, sizeof frame, MSG_DONTWAIT);

    if (r <= 0)
        return false;
    struct stack_rx rx = {.slice = {{.data = frame, .len = (uint32_t)r}}, .n_slices = 1};

    stack_input(n->peer, &rx, daemon_now());
    return true;
}

static void peer_out(struct net *n)
{
    struct stack_tx tx;

    for (int k = 0; k < 64 && stack_output(n->peer, daemon_now(), &tx); k++) {
        uint8_t frame[2048];
        size_t at = tx.header_bytes;

        memcpy(frame, tx.header, tx.header_bytes);
        for (unsigned i = 0; i < tx.n_slices; i++) {
            memcpy(frame + at, tx.slice[i].data, tx.slice[i].len);
            at += tx.slice[i].len;
        }
        n->frames_to_daemon++;
        if (n->drop_next > 0)
            n->drop_next--;
        else if (send(n->wire, frame, at, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            stack_tx_failed(n->peer, &tx);
    }
}

void net_turn(struct net *n)
{
    struct sock_event se;
    struct stack_event ke;

    ev_run(n->d.loop, EVRUN_NOWAIT);
    for (int i = 0; i < 64 && peer_in(n); i++)
        ;
    if (stack_deadline(n->peer) <= daemon_now())
        stack_expire(n->peer, daemon_now());
    while (sock_next_event(stack_socks(n->peer), &se))
        ;
    while (stack_next_event(n->peer, &ke))
        ;
    stack_commit(n->peer, daemon_now());
    peer_out(n);
}

void net_turns(struct net *n, unsigned count)
{
    while (count-- > 0)
        net_turn(n);
}

void net_sleep(struct net *n, unsigned ms)
{
    uint64_t until = daemon_now() + ms * NSEC_PER_MSEC;
    struct timespec ts = {.tv_nsec = 200000};

    while (daemon_now() < until) {
        net_turn(n);
        nanosleep(&ts, NULL);
    }
}

/* ---- The peer's sockets ------------------------------------------------------------------------------------------ */

struct sock *peer_socket(struct net *n, const char *to, uint16_t port)
{
    struct ip_addr a = ip(to);
    struct sock *s = sock_new(stack_socks(n->peer), (enum ip_family)a.family, NULL);

    assert_non_null(s);
    assert_int_equal(sock_connect(s, &a, port, daemon_now()), -EINPROGRESS);
    return s;
}

bool peer_established(const struct net *n, struct sock *s)
{
    struct ip_addr a = {0};
    uint16_t port;

    (void)n;
    return sock_poll(s) & SOCK_POLLOUT && sock_peer(s, &a, &port) == 0;
}

int64_t peer_read(struct sock *s, void *data, size_t bytes)
{
    return sock_recv(s, data, bytes, daemon_now());
}

int64_t peer_write(struct sock *s, const void *data, size_t bytes)
{
    return sock_send(s, data, bytes, 0, daemon_now());
}

bool peer_all_acked(struct net *n, struct sock *s)
{
    struct tcp_info info;

    return tcp_get_info(stack_tcp(n->peer), sock_conn_id(s), daemon_now(), &info) < 0 ||
           info.snd_una == info.write_seq;
}

int peer_read_pattern(struct net *n, struct sock *s, uint64_t from, uint64_t *ret_bytes)
{
    static uint8_t buf[65536];
    uint64_t at = from, until = daemon_now() + 20 * NSEC_PER_SEC;

    for (;;) {
        int64_t r = peer_read(s, buf, sizeof buf);

        if (r > 0) {
            check(buf, at, (size_t)r);
            at += (uint64_t)r;
            continue;
        }
        if (r != -EAGAIN) {
            *ret_bytes = at - from;
            return (int)r;
        }
        if (daemon_now() > until)
            fail_msg("the stream neither goes on nor ends behind byte %llu", (unsigned long long)at);
        net_turn(n);
    }
}

void peer_write_pattern(struct net *n, struct sock *s, uint64_t from, uint64_t to)
{
    static uint8_t buf[65536];
    uint64_t until = daemon_now() + 20 * NSEC_PER_SEC;

    while (from < to) {
        size_t part = to - from < sizeof buf ? (size_t)(to - from) : sizeof buf;
        int64_t r;

        fill(buf, from, part);
        r = peer_write(s, buf, part);
        if (r > 0)
            from += (uint64_t)r;
        else if (r != -EAGAIN)
            fail_msg("send: %s", strerror((int)-r));
        if (daemon_now() > until)
            fail_msg("no room to send byte %llu", (unsigned long long)from);
        net_turn(n);
    }
}
