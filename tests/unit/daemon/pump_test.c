/*
 * daemon/pump.c over a real connection between two stacks (net.h) and real socket pairs: bytes exact both ways,
 * back-pressure, each way of ending, memory running out.
 */
#include "net.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "daemon/arena.h"
#include "daemon/pump.h"

#define PORT 80
#define ARENA (32u << 20)

struct env {
    struct net *n;
    struct sock_owner owner; /* of the listener */
    struct sock *listener, *accepted, *peer;
    struct pump *pump; /* NULL: has ended */
    int fd;            /* the program's or backend's end, non-blocking */
    bool ended;
    enum pump_end how;
    int error;
};

static void on_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct env *e = list_entry(self, struct env, owner);

    (void)bits, (void)now;
    e->accepted = sock_accept(s, NULL);
}

static void on_ended(void *user, enum pump_end how, int error)
{
    struct env *e = user;

    assert_false(e->ended);
    e->ended = true;
    e->how = how;
    e->error = error;
    e->pump = NULL;
}

/* An established connection without a pump. */
static struct env *env_connected(size_t arena)
{
    struct env *e = calloc(1, sizeof *e);

    e->n = net_new(arena);
    e->fd = -1;
    e->owner.ready = on_ready;
    e->listener = sock_new(e->n->d.socks, IP_V4, &e->owner);
    assert_int_equal(sock_bind(e->listener, &(struct ip_addr){0}, PORT), 0);
    assert_int_equal(sock_listen(e->listener, 16), 0);
    e->peer = peer_socket(e->n, HERE, PORT);
    WAIT(e->n, e->accepted && peer_established(e->n, e->peer));
    return e;
}

/* As program.c makes it, or without poison as forward.c does. sndbuf 0: the default. */
static void attach(struct env *e, bool poison, const void *preface, size_t preface_bytes, int sndbuf)
{
    struct pump_params p = {.poison = poison, .preface = preface, .preface_bytes = preface_bytes,
                            .owner = "test", .ended = on_ended, .user = e};
    int fd[2], one = 1;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    if (poison) {
        assert_int_equal(send(fd[1], "", 1, 0), 1);
        assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_PEEK_OFF, &one, sizeof one), 0);
    }
    if (sndbuf)
        setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf);
    fcntl(fd[1], F_SETFL, O_NONBLOCK);
    e->fd = fd[1];
    e->pump = pump_new(&e->n->d, e->accepted, fd[0], &p);
    assert_non_null(e->pump);
}

static struct env *env_new(bool poison)
{
    struct env *e = env_connected(ARENA);

    attach(e, poison, NULL, 0, 0);
    return e;
}

static void env_free(struct env *e)
{
    if (e->pump)
        pump_abort(e->pump, daemon_now());
    if (e->fd >= 0)
        close(e->fd);
    if (e->peer)
        sock_abort(e->peer, daemon_now());
    sock_close(e->listener, daemon_now());
    net_free(e->n);
    free(e);
}

/* Bytes, 0: end of stream, -errno. */
static int64_t local_read(struct env *e, void *data, size_t bytes)
{
    ssize_t r = read(e->fd, data, bytes);

    return r < 0 ? -errno : r;
}

static int64_t local_write(struct env *e, const void *data, size_t bytes)
{
    ssize_t r = send(e->fd, data, bytes, MSG_NOSIGNAL);

    return r < 0 ? -errno : r;
}

static int local_read_pattern(struct env *e, uint64_t from, uint64_t *ret_bytes)
{
    static uint8_t buf[65536];
    uint64_t at = from, until = daemon_now() + 20 * NSEC_PER_SEC;

    for (;;) {
        int64_t r = local_read(e, buf, sizeof buf);

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
            fail_msg("the program's stream neither goes on nor ends behind byte %llu", (unsigned long long)at);
        net_turn(e->n);
    }
}

static void local_write_pattern(struct env *e, uint64_t from, uint64_t to)
{
    static uint8_t buf[65536];
    uint64_t until = daemon_now() + 20 * NSEC_PER_SEC;

    while (from < to) {
        size_t part = to - from < sizeof buf ? (size_t)(to - from) : sizeof buf;
        int64_t r;

        fill(buf, from, part);
        r = local_write(e, buf, part);
        if (r > 0)
            from += (uint64_t)r;
        else if (r != -EAGAIN)
            fail_msg("write: %s", strerror((int)-r));
        if (daemon_now() > until)
            fail_msg("no room to write byte %llu", (unsigned long long)from);
        net_turn(e->n);
    }
}

/* ---- Bytes --------------------------------------------------------------------------------------------------------- */

#define MANY (3u << 20)

static size_t some(void)
{
    static const uint32_t sizes[] = {1, 2, 3, 17, 1447, 1448, 1449, 2048, 4096, 32768, 65536};

    return rnd() % 3 ? 1 + rnd() % sizes[rnd() % 11] : sizes[rnd() % 11];
}

struct stream {
    uint64_t sent, got;
};

static void step_up(struct env *e, struct stream *s, uint8_t *buf)
{
    size_t part = some();
    int64_t r;

    part = part < MANY - s->sent ? part : (size_t)(MANY - s->sent);
    fill(buf, s->sent, part);
    r = part ? local_write(e, buf, part) : 0;
    assert_true(r >= 0 || r == -EAGAIN);
    s->sent += r > 0 ? (uint64_t)r : 0;
    r = peer_read(e->peer, buf, some());
    assert_true(r > 0 || r == -EAGAIN);
    if (r > 0)
        check(buf, s->got, (size_t)r);
    s->got += r > 0 ? (uint64_t)r : 0;
}

static void step_down(struct env *e, struct stream *s, uint8_t *buf)
{
    size_t part = some();
    int64_t r;

    part = part < MANY - s->sent ? part : (size_t)(MANY - s->sent);
    fill(buf, s->sent, part);
    r = part ? peer_write(e->peer, buf, part) : 0;
    assert_true(r >= 0 || r == -EAGAIN);
    s->sent += r > 0 ? (uint64_t)r : 0;
    r = local_read(e, buf, some());
    assert_true(r > 0 || r == -EAGAIN);
    if (r > 0)
        check(buf, s->got, (size_t)r);
    s->got += r > 0 ? (uint64_t)r : 0;
}

static void exact(bool poison)
{
    static uint8_t buf[65536];
    struct env *e = env_new(poison);
    struct stream up = {0}, down = {0};
    struct pump_info info;

    rnd_seed();
    for (uint64_t until = daemon_now() + 60 * NSEC_PER_SEC; up.got < MANY || down.got < MANY;) {
        assert_true(daemon_now() < until);
        if (rnd() % 4)
            step_up(e, &up, buf);
        if (rnd() % 4)
            step_down(e, &down, buf);
        net_turn(e->n);
    }
    pump_get_info(e->pump, &info);
    assert_int_equal(info.bytes_in, MANY);
    assert_int_equal(info.bytes_out, MANY);
    assert_int_equal(info.bytes_lost, 0);
    assert_int_equal(local_read(e, buf, 1), -EAGAIN);
    assert_int_equal(peer_read(e->peer, buf, 1), -EAGAIN);
    env_free(e);
}

static void test_exact_program(void **state)
{
    (void)state;
    exact(true);
}

static void test_exact_backend(void **state)
{
    (void)state;
    exact(false);
}

static void test_one_byte_writes(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;
    uint8_t b;

    (void)state;
    for (uint64_t i = 0; i < 3000; i++) {
        b = pattern(i);
        while (local_write(e, &b, 1) != 1)
            net_turn(e->n);
        if (i % 3 == 0)
            net_turn(e->n);
    }
    shutdown(e->fd, SHUT_WR);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, 3000);
    env_free(e);
}

/* After the traffic an idle pump must hold no chunk: a million of them have to fit. */
static void test_idle_holds_no_chunk(void **state)
{
    struct env *e = env_new(true);
    uint8_t buf[100];

    (void)state;
    for (int i = 0; i < 5; i++) {
        fill(buf, 0, sizeof buf);
        assert_int_equal(local_write(e, buf, sizeof buf), sizeof buf);
        WAIT(e->n, peer_read(e->peer, buf, sizeof buf) == sizeof buf);
        assert_int_equal(peer_write(e->peer, buf, sizeof buf), sizeof buf);
        WAIT(e->n, local_read(e, buf, sizeof buf) == sizeof buf);
    }
    /* What the TAP holds to read the next frame into is all. */
    WAIT(e->n, chunk_pool_used_bytes(e->n->d.pool) <= CHUNK_SMALL_BYTES + 2 * CHUNK_BIG_BYTES);
    env_free(e);
}

/* ---- Back-pressure ------------------------------------------------------------------------------------------------- */

static void test_program_does_not_read(void **state)
{
    static uint8_t buf[65536];
    struct env *e = env_new(true);
    uint64_t sent = 0, got = 0, last = 1;

    (void)state;
    for (int idle = 0; idle < 3;) {
        fill(buf, sent, sizeof buf);
        int64_t r = peer_write(e->peer, buf, sizeof buf);

        sent += r > 0 ? (uint64_t)r : 0;
        net_turns(e->n, 20);
        idle = sent == last ? idle + 1 : 0;
        last = sent;
        assert_true(sent < 24u << 20); /* somebody has to say no */
        if (idle)
            net_sleep(e->n, 5);
    }
    assert_int_equal(e->n->d.counters.bytes_lost, 0);
    sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(local_read_pattern(e, 0, &got), 0);
    assert_int_equal(got, sent);
    env_free(e);
}

static void test_peer_does_not_read(void **state)
{
    static uint8_t buf[65536];
    struct env *e = env_new(true);
    uint64_t sent = 0, got = 0;

    (void)state;
    for (uint64_t quiet_since = daemon_now(); daemon_now() - quiet_since < 50 * NSEC_PER_MSEC;) {
        fill(buf, sent, sizeof buf);
        int64_t r = local_write(e, buf, sizeof buf);

        if (r > 0) {
            sent += (uint64_t)r;
            quiet_since = daemon_now();
        }
        assert_true(sent < 24u << 20);
        net_turn(e->n);
    }
    shutdown(e->fd, SHUT_WR);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, sent);
    env_free(e);
}

/* ---- Ends ---------------------------------------------------------------------------------------------------------- */

static void half_close_local(bool poison)
{
    struct env *e = env_new(poison);
    uint64_t got;
    uint8_t b;

    local_write_pattern(e, 0, 100000);
    shutdown(e->fd, SHUT_WR);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, 100000);
    assert_false(e->ended);
    peer_write_pattern(e->n, e->peer, 0, 1u << 17); /* the other way goes on */
    sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(local_read_pattern(e, 0, &got), 0);
    assert_int_equal(got, 1u << 17);
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_CLEAN);
    assert_int_equal(local_read(e, &b, 1), 0); /* still an end, no reset */
    assert_int_equal(local_write(e, &b, 1), -EPIPE);
    assert_int_equal(e->n->d.counters.bytes_lost, 0);
    assert_int_equal(e->n->d.counters.program_gone, 0);
    env_free(e);
}

static void half_close_peer(bool poison)
{
    struct env *e = env_new(poison);
    uint64_t got;

    peer_write_pattern(e->n, e->peer, 0, 100000);
    sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(local_read_pattern(e, 0, &got), 0);
    assert_int_equal(got, 100000);
    assert_false(e->ended);
    local_write_pattern(e, 0, 300000); /* the other way goes on */
    shutdown(e->fd, SHUT_WR);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, 300000);
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_CLEAN);
    env_free(e);
}

static void test_half_close(void **state)
{
    (void)state;
    half_close_local(true);
    half_close_local(false);
    half_close_peer(true);
    half_close_peer(false);
}

/* close() with everything read: what was written arrives, then FIN. */
static void test_close_after_write(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;

    (void)state;
    local_write_pattern(e, 0, 150000);
    close(e->fd);
    e->fd = -1;
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, 150000);
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_LOCAL_GONE);
    env_free(e);
}

/* As Linux's close(2): unread data means RST. */
static void test_close_unread(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;

    (void)state;
    peer_write_pattern(e->n, e->peer, 0, 1000);
    WAIT(e->n, poll(&(struct pollfd){.fd = e->fd, .events = POLLIN}, 1, 0) == 1);
    close(e->fd);
    e->fd = -1;
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), -ECONNRESET);
    assert_true(e->ended);
    assert_int_equal(e->how, PUMP_LOCAL_ERROR);
    assert_int_equal(e->n->d.counters.program_gone, 1);
    env_free(e);
}

/* More than its socket holds: what we still hold is counted. */
static void test_close_unread_much(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;
    int in_socket = 0;

    (void)state;
    peer_write_pattern(e->n, e->peer, 0, 600000);
    WAIT(e->n, peer_all_acked(e->n, e->peer));
    net_turns(e->n, 10);
    ioctl(e->fd, FIONREAD, &in_socket);
    close(e->fd);
    e->fd = -1;
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), -ECONNRESET);
    assert_int_equal(e->n->d.counters.bytes_lost, 600000 - in_socket);
    env_free(e);
}

/* SHUT_RD: what comes is thrown away as Linux acknowledges it, and counted; the program may go on writing. */
static void test_program_reads_no_more(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;

    (void)state;
    shutdown(e->fd, SHUT_RD);
    peer_write_pattern(e->n, e->peer, 0, 5000);
    WAIT(e->n, e->n->d.counters.bytes_lost == 5000);
    local_write_pattern(e, 0, 5000);
    shutdown(e->fd, SHUT_WR);
    close(e->fd);
    e->fd = -1;
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, 5000);
    env_free(e);
}

/* ---- The peer resets ------------------------------------------------------------------------------------------------ */

enum { NOTHING, SOME_ODD, ONE_BYTES, SHUT, STUCK, WAYS };

static void program_did(struct env *e, int what)
{
    static uint8_t buf[65536];

    switch (what) {
    case SOME_ODD:
        local_write_pattern(e, 0, 4099);
        WAIT(e->n, e->pump && peer_read(e->peer, buf, sizeof buf) > 0);
        break;
    case ONE_BYTES:
        for (int i = 0; i < 7; i++)
            assert_int_equal(local_write(e, "x", 1), 1);
        break;
    case SHUT:
        local_write_pattern(e, 0, 100);
        shutdown(e->fd, SHUT_WR);
        break;
    case STUCK: /* its queue is full: the pump would read if it could send */
        for (uint64_t since = daemon_now(); daemon_now() - since < 50 * NSEC_PER_MSEC;) {
            if (local_write(e, buf, sizeof buf) > 0)
                since = daemon_now();
            net_turn(e->n);
        }
        break;
    default:
        break;
    }
    net_turns(e->n, 20);
}

/* What was delivered is read first, then ECONNRESET once. */
static void reset_after(int what, uint32_t bytes)
{
    struct env *e = env_new(true);
    uint64_t got;
    uint8_t b = 0;

    program_did(e, what);
    peer_write_pattern(e->n, e->peer, 0, bytes);
    WAIT(e->n, peer_all_acked(e->n, e->peer));
    sock_abort(e->peer, daemon_now());
    e->peer = NULL;
    net_sleep(e->n, 5);
    if (bytes == 0)
        WAIT(e->n, e->ended);
    assert_int_equal(local_read_pattern(e, 0, &got), -ECONNRESET);
    assert_int_equal(got, bytes);
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_PEER_RESET);
    assert_int_equal(local_read(e, &b, 1), 0);
    assert_int_equal(local_write(e, &b, 1), -EPIPE);
    env_free(e);
}

static void test_peer_resets(void **state)
{
    (void)state;
    for (int what = 0; what < WAYS; what++) {
        print_message("way %d\n", what);
        reset_after(what, 0);
        reset_after(what, 1);
        reset_after(what, 5001);
        reset_after(what, 500000); /* more than its queue holds: the rest is with us when the reset comes */
    }
}

/* With unread data and a dead connection a program's write must fail, not wait for ever. */
static void test_write_after_reset(void **state)
{
    static uint8_t buf[65536];
    struct env *e = env_new(true);
    uint64_t got, since = daemon_now();
    int64_t r;

    (void)state;
    peer_write_pattern(e->n, e->peer, 0, 500000);
    WAIT(e->n, peer_all_acked(e->n, e->peer));
    sock_abort(e->peer, daemon_now());
    e->peer = NULL;
    do {
        r = local_write(e, buf, sizeof buf);
        net_turn(e->n);
        assert_true(daemon_now() - since < 5 * NSEC_PER_SEC);
    } while (r >= 0 || r == -EAGAIN);
    assert_true(r == -EPIPE);
    assert_int_equal(local_read_pattern(e, 0, &got), -ECONNRESET);
    assert_int_equal(got, 500000);
    env_free(e);
}

/* FIN, then RST: the program that still writes must hear of it; so must one that does nothing. */
static void fin_then_reset(bool writes)
{
    struct env *e = env_new(true);
    struct sock *s = e->peer;
    uint64_t got, since = daemon_now();
    uint8_t b = 0;

    peer_write_pattern(e->n, s, 0, 1000);
    sock_shutdown(s, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(local_read_pattern(e, 0, &got), 0);
    assert_false(e->ended);
    sock_abort(s, daemon_now());
    e->peer = NULL;
    while (!e->ended) {
        if (writes && local_write(e, &b, 1) == -EPIPE)
            break;
        net_turn(e->n);
        assert_true(daemon_now() - since < 5 * NSEC_PER_SEC);
    }
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_PEER_RESET);
    env_free(e);
}

static void test_fin_then_reset(void **state)
{
    (void)state;
    fin_then_reset(false);
    fin_then_reset(true);
}

/* The clean end is one also when the program has written in odd pieces and the last of them was just taken. */
static void test_clean_end(void **state)
{
    (void)state;
    for (int what = NOTHING; what < SHUT; what++) {
        struct env *e = env_new(true);
        uint64_t got;

        program_did(e, what);
        sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
        assert_int_equal(local_read_pattern(e, 0, &got), 0);
        shutdown(e->fd, SHUT_WR);
        WAIT(e->n, e->ended);
        assert_int_equal(e->how, PUMP_CLEAN);
        assert_int_equal(local_read_pattern(e, 0, &got), 0);
        env_free(e);
    }
}

/* ---- Backends that fail ---------------------------------------------------------------------------------------------- */

/* It answers and closes with the request unread: the answer arrives, then the reset. */
static void test_backend_answers_and_resets(void **state)
{
    struct env *e = env_new(false);
    uint64_t got;

    (void)state;
    peer_write_pattern(e->n, e->peer, 0, 50000);
    WAIT(e->n, peer_all_acked(e->n, e->peer));
    net_turns(e->n, 10);
    local_write_pattern(e, 0, 500000);
    close(e->fd);
    e->fd = -1;
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), -ECONNRESET);
    assert_int_equal(got, 500000);
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_LOCAL_ERROR);
    env_free(e);
}

/* The same, and the peer keeps sending: it is counted. */
static void test_backend_gone_peer_sends(void **state)
{
    static uint8_t buf[4096];
    struct env *e = env_new(false);
    uint64_t since = daemon_now();
    int64_t r = 0;

    (void)state;
    peer_write_pattern(e->n, e->peer, 0, 50000);
    WAIT(e->n, peer_all_acked(e->n, e->peer));
    close(e->fd);
    e->fd = -1;
    while (r >= 0 || r == -EAGAIN) {
        r = peer_write(e->peer, buf, sizeof buf);
        net_turn(e->n);
        assert_true(daemon_now() - since < 5 * NSEC_PER_SEC);
    }
    assert_int_equal(r, -ECONNRESET);
    assert_int_equal(e->how, PUMP_LOCAL_ERROR);
    env_free(e);
}

/* The peer resets while a backend is busy writing and does not read: it must not hang. */
static void test_reset_under_backend(void **state)
{
    static uint8_t buf[65536];
    struct env *e = env_new(false);
    uint64_t got, wrote = 0, since = daemon_now();

    (void)state;
    peer_write_pattern(e->n, e->peer, 0, 500000);
    WAIT(e->n, peer_all_acked(e->n, e->peer));
    sock_abort(e->peer, daemon_now());
    e->peer = NULL;
    while (wrote < 5u << 20) {
        int64_t r = local_write(e, buf, sizeof buf);

        assert_true(r > 0 || r == -EAGAIN);
        wrote += r > 0 ? (uint64_t)r : 0;
        net_turn(e->n);
        assert_true(daemon_now() - since < 10 * NSEC_PER_SEC);
    }
    local_read_pattern(e, 0, &got); /* a Unix socket's close without poison reads as an end */
    assert_int_equal(got, 500000);
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_PEER_RESET);
    assert_true(e->n->d.counters.bytes_lost > 0);
    env_free(e);
}

/* ---- Preface, abort, drain ------------------------------------------------------------------------------------------- */

static void test_preface(void **state)
{
    static uint8_t preface[60000];
    struct env *e = env_connected(ARENA);
    uint64_t got;

    (void)state;
    fill(preface, 0, sizeof preface);
    attach(e, false, preface, sizeof preface, 1); /* 4608 bytes: it goes in many pieces */
    memset(preface, 0, sizeof preface);           /* it was copied */
    peer_write_pattern(e->n, e->peer, sizeof preface, 200000);
    sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
    net_turns(e->n, 20);
    assert_int_equal(local_read_pattern(e, 0, &got), 0);
    assert_int_equal(got, 200000);
    env_free(e);
}

static void test_abort(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;

    (void)state;
    pump_abort(e->pump, daemon_now());
    assert_true(e->ended);
    assert_int_equal(e->how, PUMP_ABORTED);
    assert_int_equal(local_read_pattern(e, 0, &got), -ECONNRESET);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), -ECONNRESET);
    env_free(e);
}

static void test_drain(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;

    (void)state;
    net_turns(e->n, 5);
    uint8_t buf[1000];

    fill(buf, 0, sizeof buf);
    assert_int_equal(local_write(e, buf, sizeof buf), sizeof buf); /* not seen by the pump yet */
    pump_drain(e->pump, daemon_now());
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, sizeof buf);
    peer_write_pattern(e->n, e->peer, 0, 2000); /* the other way goes on */
    sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(local_read_pattern(e, 0, &got), 0);
    assert_int_equal(got, 2000);
    WAIT(e->n, e->ended);
    assert_int_equal(e->how, PUMP_CLEAN);
    env_free(e);
}

/* More was written than the send buffer takes: all of it goes in front of the FIN. */
static void drain_much(bool poison)
{
    static uint8_t buf[65536];
    struct env *e = env_new(poison);
    uint64_t sent = 0, got;

    for (uint64_t since = daemon_now(); daemon_now() - since < 50 * NSEC_PER_MSEC;) {
        fill(buf, sent, sizeof buf);
        int64_t r = local_write(e, buf, sizeof buf);

        sent += r > 0 ? (uint64_t)r : 0;
        since = r > 0 ? daemon_now() : since;
        net_turn(e->n);
    }
    pump_drain(e->pump, daemon_now());
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, sent);
    env_free(e);
}

static void test_drain_much(void **state)
{
    (void)state;
    drain_much(true);
    drain_much(false);
}

/* What is written behind the drain is not sent; the program reads a reset for it, no clean end. */
static void test_write_behind_drain(void **state)
{
    struct env *e = env_new(true);
    uint64_t got;

    (void)state;
    net_turns(e->n, 5);
    pump_drain(e->pump, daemon_now());
    assert_int_equal(local_write(e, "lost", 4), 4);
    net_turns(e->n, 5);
    sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
    WAIT(e->n, e->ended);
    assert_int_equal(local_read_pattern(e, 0, &got), -ECONNRESET);
    assert_int_equal(e->n->d.counters.bytes_lost, 4);
    env_free(e);
}

/* ---- Memory ---------------------------------------------------------------------------------------------------------- */

struct hog {
    struct chunk *chunk[1024];
    unsigned n;
};

static void take_all(struct env *e, struct hog *h)
{
    struct chunk *c;

    while ((c = chunk_alloc(e->n->d.pool, CHUNK_SMALL_BYTES)) != NULL) {
        assert_true(h->n < 1024);
        h->chunk[h->n++] = c;
    }
}

static void give_all(struct env *e, struct hog *h)
{
    while (h->n > 0)
        chunk_unref(e->n->d.pool, h->chunk[--h->n]);
}

/* No chunk to send with: nothing is lost, and it goes on by itself when there are chunks again. */
static void starve(bool poison)
{
    struct hog h = {.n = 0};
    struct env *e = env_connected(1u << 20);
    uint8_t buf[3000];
    uint64_t got;

    attach(e, poison, NULL, 0, 0);
    net_turns(e->n, 20);
    take_all(e, &h);
    fill(buf, 0, sizeof buf);
    assert_int_equal(local_write(e, buf, sizeof buf), sizeof buf);
    net_sleep(e->n, 20);
    assert_int_equal(e->n->d.counters.starved, 1);
    assert_int_equal(e->n->d.counters.bytes_from_programs, 0);
    assert_false(e->ended);
    give_all(e, &h);
    shutdown(e->fd, SHUT_WR);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), 0);
    assert_int_equal(got, sizeof buf);
    env_free(e);
}

static void test_starved(void **state)
{
    (void)state;
    starve(true);
    starve(false);
}

/* Chunks come free without any event of the starved connection: nobody but the list wakes it. */
static void test_starved_is_woken(void **state)
{
    struct hog h = {.n = 0};
    struct env *e = env_connected(1u << 20);
    uint8_t buf[3000];

    (void)state;
    attach(e, true, NULL, 0, 0);
    net_turns(e->n, 20);
    take_all(e, &h);
    fill(buf, 0, sizeof buf);
    assert_int_equal(local_write(e, buf, sizeof buf), sizeof buf);
    net_sleep(e->n, 20);
    give_all(e, &h);
    WAIT_MS(e->n, 1000, e->n->d.counters.bytes_from_programs == sizeof buf);
    env_free(e);
}

/* It goes away while it waits for memory. */
static void test_starved_and_gone(void **state)
{
    struct hog h = {.n = 0};
    struct env *e = env_connected(1u << 20);
    uint64_t got;

    (void)state;
    attach(e, true, NULL, 0, 0);
    net_turns(e->n, 20);
    take_all(e, &h);
    assert_int_equal(local_write(e, "abc", 3), 3);
    net_turns(e->n, 20);
    assert_int_equal(e->n->d.counters.starved, 1);
    pump_abort(e->pump, daemon_now());
    give_all(e, &h);
    net_turns(e->n, 20);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &got), -ECONNRESET);
    env_free(e);
}

/* The pool is spent while data is in flight both ways: ACKs still come in, and in the end every byte arrives. */
static void test_spent_pool(void **state)
{
    struct hog h = {.n = 0};
    struct env *e = env_connected(1u << 20);
    static uint8_t buf[65536];
    uint64_t up, down;

    (void)state;
    attach(e, true, NULL, 0, 0);
    fill(buf, 0, sizeof buf);
    assert_int_equal(local_write(e, buf, sizeof buf), sizeof buf);
    assert_true(peer_write(e->peer, buf, 30000) == 30000);
    ev_run(e->n->d.loop, EVRUN_NOWAIT);
    take_all(e, &h);
    for (int i = 0; i < 200; i++) { /* whatever comes free is taken */
        net_turn(e->n);
        take_all(e, &h);
    }
    give_all(e, &h);
    shutdown(e->fd, SHUT_WR);
    assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &up), 0);
    assert_int_equal(up, sizeof buf);
    WAIT(e->n, peer_all_acked(e->n, e->peer));
    sock_shutdown(e->peer, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(local_read_pattern(e, 0, &down), 0);
    assert_int_equal(down, 30000);
    env_free(e);
}

/* Not even the TAP has a chunk to read into: acknowledgements must come in, or nothing would ever come free again. */
static void test_no_chunk_to_read_into(void **state)
{
    struct hog h = {.n = 0};
    struct env *e = env_connected(1u << 20);
    struct tap *tap = &e->n->tap;
    struct tcp_info info;
    uint8_t buf[1000] = {0};

    (void)state;
    attach(e, true, NULL, 0, 0);
    net_turns(e->n, 20);
    assert_int_equal(local_write(e, buf, sizeof buf), sizeof buf);
    for (int i = 0; i < 3; i++) /* the program's bytes leave, the answer is not looked at */
        ev_run(e->n->d.loop, EVRUN_NOWAIT);
    for (int i = 0; i < 3; i++) {
        if (tap->rx[i])
            chunk_unref(tap->pool, tap->rx[i]);
        tap->rx[i] = NULL;
    }
    take_all(e, &h);
    WAIT_MS(e->n, 2000,
            tcp_get_info(e->n->d.tcp, sock_conn_id(e->accepted), daemon_now(), &info) == 0 &&
                info.bytes_acked >= sizeof buf && info.snd_una == info.write_seq);
    assert_true(e->n->d.counters.rx_no_memory > 0);
    give_all(e, &h);
    env_free(e);
}

static void take(int fd, char *got, size_t *n, size_t bytes)
{
    ssize_t r = read(fd, got + *n, bytes - 1 - *n);

    *n += r > 0 ? (size_t)r : 0;
}

/* A pump on what a dead worker knew of the descriptor. */
static void attach_restored(struct env *e, struct link_slot fields)
{
    struct pump_params p = {.owner = "test", .ended = on_ended, .user = e, .restored = true};
    int fd[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    fcntl(fd[1], F_SETFL, O_NONBLOCK);
    e->fd = fd[1];
    fields.fd = fd[0];
    fields.program_fd = -1;
    fields.conn = sock_conn_id(e->accepted);
    p.link = link_new(&e->n->d, LINK_FORWARD, &fields);
    e->pump = pump_new(&e->n->d, e->accepted, fd[0], &p);
    assert_non_null(e->pump);
}

/* The last worker died somewhere in the preface: what the witness says that the kernel took is not sent again. */
static void test_preface_goes_on(void **state)
{
    static const struct {
        unsigned at, moved;
        const char *rest;
    } died[] = {{0, 0, "PROXY line"}, {0, 4, "Y line"}, {4, 3, "ine"}, {4, 6, ""}};

    (void)state;
    for (unsigned i = 0; i < sizeof died / sizeof *died; i++) {
        struct env *e = env_connected(ARENA);
        struct link_slot fields = {.preface_bytes = 10, .preface = "PROXY line"};
        char got[64] = "", want[32];
        size_t n = 0;

        fields.sent.selector = 7;
        fields.sent.slot[1].at = died[i].at;
        fields.sent.slot[1].call.msg_len = died[i].moved;
        attach_restored(e, fields);
        assert_int_equal(peer_write(e->peer, "data", 4), 4);
        snprintf(want, sizeof want, "%sdata", died[i].rest);
        WAIT(e->n, (take(e->fd, got, &n, sizeof got), strstr(got, "data")));
        assert_string_equal(got, want);
        env_free(e);
    }
}

/* What SO_ERROR said once, to the last worker: a backend that failed, not one that ended. */
static void test_error_is_remembered(void **state)
{
    (void)state;
    for (int failed = 0; failed < 2; failed++) {
        struct env *e = env_connected(ARENA);
        uint64_t bytes;

        attach_restored(e, (struct link_slot){.so_error = failed ? ECONNRESET : 0});
        close(e->fd);
        e->fd = -1;
        pump_look(e->pump, daemon_now());
        assert_int_equal(peer_read_pattern(e->n, e->peer, 0, &bytes), failed ? -ECONNRESET : 0);
        env_free(e);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_program),
        cmocka_unit_test(test_exact_backend),
        cmocka_unit_test(test_one_byte_writes),
        cmocka_unit_test(test_idle_holds_no_chunk),
        cmocka_unit_test(test_program_does_not_read),
        cmocka_unit_test(test_peer_does_not_read),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_close_after_write),
        cmocka_unit_test(test_close_unread),
        cmocka_unit_test(test_close_unread_much),
        cmocka_unit_test(test_program_reads_no_more),
        cmocka_unit_test(test_peer_resets),
        cmocka_unit_test(test_write_after_reset),
        cmocka_unit_test(test_fin_then_reset),
        cmocka_unit_test(test_clean_end),
        cmocka_unit_test(test_backend_answers_and_resets),
        cmocka_unit_test(test_backend_gone_peer_sends),
        cmocka_unit_test(test_reset_under_backend),
        cmocka_unit_test(test_preface),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_much),
        cmocka_unit_test(test_write_behind_drain),
        cmocka_unit_test(test_starved),
        cmocka_unit_test(test_starved_is_woken),
        cmocka_unit_test(test_starved_and_gone),
        cmocka_unit_test(test_spent_pool),
        cmocka_unit_test(test_no_chunk_to_read_into),
        cmocka_unit_test(test_preface_goes_on),
        cmocka_unit_test(test_error_is_remembered),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]); /* one test by name */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
