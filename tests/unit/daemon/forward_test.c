/*
 * daemon/forward.c: forwards between a peer's stack and real backends on loopback and Unix sockets (net.h): refusals,
 * time-outs, resets, limits, PROXY headers, reload, and ends with live links.
 */
#include "net.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "daemon/forward.h"
#include "daemon/service.h"

#define PORT 8080
#define ARENA (32u << 20)

struct env {
    struct net *n;
    int listen_fd; /* of the backend */
    uint16_t port;
    char dir[64], path[100];
};

static int listen_tcp(uint16_t *ret_port, int backlog)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &bytes), 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static int listen_unix(const char *path, int backlog)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static struct config_forward *forward_config(struct daemon_config *c, const char *name, uint16_t port)
{
    struct config_forward *f = &c->forward[c->n_forwards++];

    *f = (struct config_forward){.listen_port = port, .connect_timeout_ms = 5000, .backlog = 128, .max_connections = 1000};
    snprintf(f->name, sizeof f->name, "%s", name);
    return f;
}

static struct config_forward *to_tcp(struct config_forward *f, uint16_t port)
{
    f->target = FORWARD_TCP;
    f->to_addr = ip("127.0.0.1");
    f->to_port = port;
    return f;
}

static struct config_forward *to_unix(struct config_forward *f, const char *path)
{
    f->target = FORWARD_UNIX;
    snprintf(f->to_path, sizeof f->to_path, "%s", path);
    return f;
}

static void open_all(struct env *e)
{
    char error[CONFIG_ERROR_MAX];

    if (forwards_open(&e->n->d, error, sizeof error) < 0)
        fail_msg("%s", error);
}

/* A daemon with a backend's listening TCP socket; forwards are the test's. */
static struct env *env_new(void)
{
    struct env *e = calloc(1, sizeof *e);

    e->n = net_new(ARENA);
    e->listen_fd = listen_tcp(&e->port, 64);
    snprintf(e->dir, sizeof e->dir, "/tmp/taut-test-XXXXXX");
    assert_non_null(mkdtemp(e->dir));
    snprintf(e->path, sizeof e->path, "%s/backend", e->dir);
    return e;
}

static struct env *env_simple(void)
{
    struct env *e = env_new();

    to_tcp(forward_config(&e->n->config, "web", PORT), e->port);
    open_all(e);
    return e;
}

static void env_free(struct env *e)
{
    forwards_close(&e->n->d);
    net_free(e->n);
    close(e->listen_fd);
    unlink(e->path);
    rmdir(e->dir);
    free(e);
}

static int backend_accept(struct env *e)
{
    int fd = -1;

    WAIT(e->n, (fd = accept4(e->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    return fd;
}

static struct sock *client(struct env *e)
{
    struct sock *s = peer_socket(e->n, HERE, PORT);

    WAIT(e->n, peer_established(e->n, s));
    return s;
}

static struct forward_info info_of(struct env *e, unsigned i)
{
    struct forward_info info = {0};

    assert_true(forwards_get(&e->n->d, i, &info));
    return info;
}

/* Both ends and the link of one connection go away cleanly. */
static void talk_and_end(struct env *e, struct sock *s, int fd)
{
    uint8_t buf[64] = {0};
    uint64_t got;

    assert_int_equal(peer_write(s, "ping", 4), 4);
    WAIT(e->n, recv(fd, buf, sizeof buf, 0) == 4);
    assert_int_equal(send(fd, "\x00", 1, MSG_NOSIGNAL), 1); /* pattern(0) */
    close(fd);
    assert_int_equal(peer_read_pattern(e->n, s, 0, &got), 0);
    assert_int_equal(got, 1);
    sock_close(s, daemon_now());
}

static void test_bytes(void **state)
{
    static uint8_t buf[65536];
    struct env *e = env_simple();
    struct sock *s = client(e);
    int fd = backend_accept(e);
    uint64_t got = 0;
    ssize_t r = 0;

    (void)state;
    peer_write_pattern(e->n, s, 0, 1u << 20);
    sock_shutdown(s, SOCK_SHUT_WR, daemon_now());
    WAIT(e->n, ({
             while ((r = recv(fd, buf, sizeof buf, 0)) > 0) {
                 check(buf, got, (size_t)r);
                 got += (uint64_t)r;
             }
             r == 0;
         }));
    assert_int_equal(got, 1u << 20);
    for (uint64_t at = 0; at < 1u << 20;) {
        fill(buf, at, sizeof buf);
        r = send(fd, buf, sizeof buf, MSG_NOSIGNAL);
        at += r > 0 ? (uint64_t)r : 0;
        while (peer_read(s, buf, 0) == 0 && r < 0 && errno == EAGAIN) { /* room comes when the peer reads */
            int64_t n = peer_read(s, buf, sizeof buf);

            if (n > 0)
                check(buf, got - (1u << 20), (size_t)n);
            got += n > 0 ? (uint64_t)n : 0;
            break;
        }
        net_turn(e->n);
    }
    close(fd);
    uint64_t rest;

    assert_int_equal(peer_read_pattern(e->n, s, got - (1u << 20), &rest), 0);
    assert_int_equal(got - (1u << 20) + rest, 1u << 20);
    sock_close(s, daemon_now());
    WAIT(e->n, info_of(e, 0).connections == 0);
    assert_int_equal(info_of(e, 0).accepted, 1);
    assert_int_equal(info_of(e, 0).failed, 0);
    assert_int_equal(e->n->d.counters.forward_resets, 0);
    env_free(e);
}

static void reset_expected(struct env *e, struct sock *s)
{
    uint64_t got;

    assert_int_equal(peer_read_pattern(e->n, s, 0, &got), -ECONNRESET);
    assert_int_equal(got, 0);
    sock_close(s, daemon_now());
    WAIT(e->n, info_of(e, 0).connections == 0);
    assert_int_equal(info_of(e, 0).connecting, 0);
}

static void test_refused(void **state)
{
    struct env *e = env_simple();

    (void)state;
    close(e->listen_fd);
    e->listen_fd = -1;
    reset_expected(e, client(e));
    assert_int_equal(e->n->d.counters.forward_refused, 1);
    assert_int_equal(info_of(e, 0).failed, 1);
    assert_non_null(strstr(e->n->log, "forward web: backend: Connection refused"));
    env_free(e);
}

static void test_no_unix_socket(void **state)
{
    struct env *e = env_new();

    (void)state;
    to_unix(forward_config(&e->n->config, "web", PORT), e->path);
    open_all(e);
    reset_expected(e, client(e));
    assert_int_equal(e->n->d.counters.forward_refused, 1);
    env_free(e);
}

/* A listener whose backlog is full answers no SYN. */
static void test_timeout(void **state)
{
    struct env *e = env_new();
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fill_fd[8];

    (void)state;
    close(e->listen_fd);
    e->listen_fd = listen_tcp(&e->port, 0);
    a.sin_port = htons(e->port);
    for (int i = 0; i < 8; i++) {
        fill_fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fill_fd[i], (struct sockaddr *)&a, sizeof a);
    }
    to_tcp(forward_config(&e->n->config, "web", PORT), e->port)->connect_timeout_ms = 50;
    open_all(e);
    net_sleep(e->n, 5);
    reset_expected(e, client(e));
    assert_int_equal(e->n->d.counters.forward_timeouts, 1);
    for (int i = 0; i < 8; i++)
        close(fill_fd[i]);
    env_free(e);
}

/* The peer resets while its backend is being connected to: nothing is left behind. */
static void test_peer_resets_while_connecting(void **state)
{
    struct env *e = env_new();
    int fill_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct sock *s;

    (void)state;
    close(e->listen_fd);
    e->listen_fd = listen_unix(e->path, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", e->path);
    assert_int_equal(connect(fill_fd, (struct sockaddr *)&a, sizeof a), 0);
    to_unix(forward_config(&e->n->config, "web", PORT), e->path);
    open_all(e);
    s = client(e);
    WAIT(e->n, info_of(e, 0).connecting == 1);
    sock_abort(s, daemon_now());
    WAIT(e->n, info_of(e, 0).connections == 0);
    assert_int_equal(info_of(e, 0).connecting, 0);
    close(fill_fd);
    env_free(e);
}

/* EAGAIN of a Unix backend whose backlog is full: tried again until there is room. */
static void test_unix_backlog_full(void **state)
{
    struct env *e = env_new();
    int fill_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), fd;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct sock *s;

    (void)state;
    close(e->listen_fd);
    e->listen_fd = listen_unix(e->path, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", e->path);
    assert_int_equal(connect(fill_fd, (struct sockaddr *)&a, sizeof a), 0);
    to_unix(forward_config(&e->n->config, "web", PORT), e->path);
    open_all(e);
    s = client(e);
    net_sleep(e->n, 30);
    assert_int_equal(info_of(e, 0).connecting, 1);
    assert_int_equal(info_of(e, 0).failed, 0);
    close(backend_accept(e)); /* the one that filled it */
    fd = backend_accept(e);
    talk_and_end(e, s, fd);
    WAIT(e->n, info_of(e, 0).connections == 0);
    close(fill_fd);
    env_free(e);
}

static void test_unix_backlog_timeout(void **state)
{
    struct env *e = env_new();
    int fill_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    (void)state;
    close(e->listen_fd);
    e->listen_fd = listen_unix(e->path, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", e->path);
    assert_int_equal(connect(fill_fd, (struct sockaddr *)&a, sizeof a), 0);
    to_unix(forward_config(&e->n->config, "web", PORT), e->path)->connect_timeout_ms = 60;
    open_all(e);
    reset_expected(e, client(e));
    assert_int_equal(e->n->d.counters.forward_timeouts, 1);
    close(fill_fd);
    env_free(e);
}

/* A backend's RST, behind what it had answered. */
static void test_backend_resets(void **state)
{
    struct env *e = env_simple();
    struct sock *s = client(e);
    int fd = backend_accept(e);
    struct linger l = {.l_onoff = 1};
    uint8_t buf[5000];
    uint64_t got;

    (void)state;
    fill(buf, 0, sizeof buf);
    assert_int_equal(send(fd, buf, sizeof buf, 0), sizeof buf);
    WAIT(e->n, sock_poll(s) & SOCK_POLLIN);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    close(fd);
    assert_int_equal(peer_read_pattern(e->n, s, 0, &got), -ECONNRESET);
    assert_int_equal(got, sizeof buf);
    sock_close(s, daemon_now());
    WAIT(e->n, info_of(e, 0).connections == 0);
    assert_int_equal(e->n->d.counters.forward_resets, 1);
    env_free(e);
}

/* The peer's RST reaches a TCP backend as one. */
static void test_peer_resets(void **state)
{
    struct env *e = env_simple();
    struct sock *s = client(e);
    int fd = backend_accept(e);
    uint8_t buf[100];
    ssize_t r;

    (void)state;
    assert_int_equal(peer_write(s, "abc", 3), 3);
    WAIT(e->n, peer_all_acked(e->n, s));
    sock_abort(s, daemon_now());
    WAIT(e->n, info_of(e, 0).connections == 0);
    /* A kernel's TCP may give the bytes before the error or the error at once; never an end. */
    r = recv(fd, buf, sizeof buf, 0);
    if (r == 3)
        r = recv(fd, buf, sizeof buf, 0);
    assert_int_equal(r, -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    env_free(e);
}

static void test_out_of_descriptors(void **state)
{
    struct env *e = env_simple();
    struct rlimit old, none;
    struct sock *s;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3; /* those that are open stay */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    s = peer_socket(e->n, HERE, PORT);
    WAIT(e->n, e->n->d.counters.forward_no_fds == 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    reset_expected(e, s);
    s = client(e); /* and it goes on */
    talk_and_end(e, s, backend_accept(e));
    env_free(e);
}

static void test_max_connections(void **state)
{
    struct env *e = env_new();
    struct sock *s[3];
    int fd[3];

    (void)state;
    to_tcp(forward_config(&e->n->config, "web", PORT), e->port)->max_connections = 2;
    open_all(e);
    for (int i = 0; i < 3; i++)
        s[i] = client(e);
    fd[0] = backend_accept(e);
    fd[1] = backend_accept(e);
    net_sleep(e->n, 20);
    assert_int_equal(info_of(e, 0).connections, 2);
    assert_int_equal(accept4(e->listen_fd, NULL, NULL, 0), -1);
    assert_int_equal(peer_write(s[2], "late", 4), 4); /* it waits in the accept queue */
    talk_and_end(e, s[0], fd[0]);
    fd[2] = backend_accept(e);
    uint8_t buf[10];

    WAIT(e->n, recv(fd[2], buf, sizeof buf, 0) == 4);
    sock_close(s[1], daemon_now());
    sock_close(s[2], daemon_now());
    close(fd[1]);
    close(fd[2]);
    WAIT(e->n, info_of(e, 0).connections == 0);
    env_free(e);
}

/* ---- PROXY protocol ---------------------------------------------------------------------------------------------- */

static void proxy(const char *to, const uint8_t *expected, size_t bytes)
{
    struct env *e = env_new();
    uint8_t head[64];
    struct sock *s;
    uint16_t port;
    struct ip_addr a;
    size_t got = 0;
    int fd;

    to_tcp(forward_config(&e->n->config, "web", PORT), e->port)->proxy = FORWARD_PROXY_V2;
    open_all(e);
    s = peer_socket(e->n, to, PORT);
    WAIT(e->n, peer_established(e->n, s));
    assert_int_equal(peer_write(s, "hello", 5), 5);
    fd = backend_accept(e);
    WAIT(e->n, ({
             ssize_t r = recv(fd, head + got, sizeof head - got, 0);
             got += r > 0 ? (size_t)r : 0;
             got >= bytes + 5;
         }));
    assert_int_equal(got, bytes + 5);
    sock_name(s, &a, &port);
    assert_int_equal(head[bytes - 4] << 8 | head[bytes - 3], port);
    head[bytes - 4] = head[bytes - 3] = 0; /* chosen by the peer */
    assert_memory_equal(head, expected, bytes);
    assert_memory_equal(head + bytes, "hello", 5);
    close(fd);
    sock_abort(s, daemon_now());
    env_free(e);
}

static void test_proxy(void **state)
{
    static const uint8_t v4[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11,
                                 0,    12,   192,  0,    2,    2,    192,  0,    2,    1,    0,    0,    0x1f, 0x90};
    static const uint8_t v6[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21,
                                 0x21, 0,    36,   0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,    0,    0,    0,
                                 0,    0,    0,    0,    0,    2,    0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,
                                 0,    0,    0,    0,    0,    0,    0,    0,    1,    0,    0,    0x1f, 0x90};

    (void)state;
    proxy(HERE, v4, sizeof v4); /* the listener is dual-stack: the address comes v4-mapped */
    proxy(HERE6, v6, sizeof v6);
}

/* ---- Reload and the end ------------------------------------------------------------------------------------------ */

static void reload(struct env *e, const struct daemon_config *next)
{
    char error[CONFIG_ERROR_MAX];

    if (forwards_reload(&e->n->d, next, error, sizeof error) < 0)
        fail_msg("%s", error);
    net_turns(e->n, 3);
}

static void test_reload(void **state)
{
    struct env *e = env_simple();
    struct daemon_config *next = calloc(1, sizeof *next);
    struct sock *old = client(e), *s;
    int old_fd = backend_accept(e), first_fd = e->listen_fd, fd;

    (void)state;
    /* Another target, and one more forward: the live link stays. */
    e->listen_fd = listen_tcp(&e->port, 8);
    to_tcp(forward_config(next, "web", PORT), e->port);
    to_tcp(forward_config(next, "more", PORT + 1), e->port);
    reload(e, next);
    s = client(e);
    fd = backend_accept(e);
    talk_and_end(e, s, fd);
    s = peer_socket(e->n, HERE, PORT + 1);
    WAIT(e->n, peer_established(e->n, s));
    talk_and_end(e, s, backend_accept(e));
    /* Both go; the live link still stays, and takes its forward with it when it ends. */
    next->n_forwards = 0;
    reload(e, next);
    s = peer_socket(e->n, HERE, PORT);
    WAIT(e->n, sock_poll(s) & SOCK_POLLERR);
    assert_int_equal(sock_take_error(s), ECONNREFUSED);
    sock_close(s, daemon_now());
    assert_int_equal(info_of(e, 0).connections, 1);
    /* The port again, with the old link still alive on it. */
    next->n_forwards = 1;
    reload(e, next);
    s = client(e);
    talk_and_end(e, s, backend_accept(e));
    next->n_forwards = 0;
    reload(e, next);
    talk_and_end(e, old, old_fd);
    WAIT(e->n, !forwards_get(&e->n->d, 0, &(struct forward_info){0}));
    close(first_fd);
    free(next);
    env_free(e);
}

/* One that moves to another's port, and one that can't be opened and keeps nobody back. */
static void test_reload_conflict(void **state)
{
    struct env *e = env_new();
    struct daemon_config *next = calloc(1, sizeof *next);
    char error[CONFIG_ERROR_MAX] = "";
    struct sock *s;

    (void)state;
    to_tcp(forward_config(&e->n->config, "a", PORT), e->port);
    to_tcp(forward_config(&e->n->config, "b", PORT + 1), e->port);
    open_all(e);
    to_tcp(forward_config(next, "b", PORT), e->port);
    to_tcp(forward_config(next, "c", PORT), e->port);
    to_tcp(forward_config(next, "d", PORT + 2), e->port);
    assert_int_equal(forwards_reload(&e->n->d, next, error, sizeof error), -1);
    assert_non_null(strstr(error, "forward c: cannot listen"));
    s = client(e);
    talk_and_end(e, s, backend_accept(e));
    s = peer_socket(e->n, HERE, PORT + 2);
    WAIT(e->n, peer_established(e->n, s));
    talk_and_end(e, s, backend_accept(e));
    free(next);
    env_free(e);
}

/* More room by a reload: what waits is taken at once. */
static void test_reload_raises_limit(void **state)
{
    struct env *e = env_new();
    struct daemon_config *next = calloc(1, sizeof *next);
    struct sock *s[2];
    int fd[2];

    (void)state;
    to_tcp(forward_config(&e->n->config, "web", PORT), e->port)->max_connections = 1;
    open_all(e);
    s[0] = client(e);
    s[1] = client(e);
    fd[0] = backend_accept(e);
    net_sleep(e->n, 5);
    to_tcp(forward_config(next, "web", PORT), e->port)->max_connections = 2;
    reload(e, next);
    fd[1] = backend_accept(e);
    for (int i = 0; i < 2; i++)
        talk_and_end(e, s[i], fd[i]);
    free(next);
    env_free(e);
}

static void test_drain(void **state)
{
    struct env *e = env_simple();
    struct sock *s = client(e);
    int fd = backend_accept(e);
    uint8_t buf[100];
    uint64_t got;

    (void)state;
    fill(buf, 0, sizeof buf);
    assert_int_equal(send(fd, buf, sizeof buf, 0), sizeof buf);
    forwards_drain(&e->n->d, daemon_now());
    assert_int_equal(peer_read_pattern(e->n, s, 0, &got), 0);
    assert_int_equal(got, sizeof buf); /* what was written is sent in front of the FIN */
    sock_close(s, daemon_now());
    WAIT(e->n, !forwards_get(&e->n->d, 0, &(struct forward_info){0}));
    close(fd);
    env_free(e);
}

static void test_close_with_live_links(void **state)
{
    struct env *e = env_new();
    struct sock *s[4], *waiting;
    int fill_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), unix_fd = listen_unix(e->path, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd[4];
    uint64_t got;

    (void)state;
    snprintf(a.sun_path, sizeof a.sun_path, "%s", e->path);
    assert_int_equal(connect(fill_fd, (struct sockaddr *)&a, sizeof a), 0);
    to_tcp(forward_config(&e->n->config, "web", PORT), e->port);
    to_unix(forward_config(&e->n->config, "stuck", PORT + 1), e->path);
    open_all(e);
    for (int i = 0; i < 4; i++) {
        s[i] = client(e);
        fd[i] = backend_accept(e);
    }
    waiting = peer_socket(e->n, HERE, PORT + 1);
    WAIT(e->n, info_of(e, 1).connecting == 1);
    peer_write_pattern(e->n, s[0], 0, 300000);
    forwards_close(&e->n->d);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(peer_read_pattern(e->n, s[i], 0, &got), -ECONNRESET);
        sock_close(s[i], daemon_now());
        close(fd[i]);
    }
    assert_int_equal(peer_read_pattern(e->n, waiting, 0, &got), -ECONNRESET);
    sock_close(waiting, daemon_now());
    close(fill_fd);
    close(unix_fd);
    env_free(e);
}

/* SIGHUP's whole way: a bad file changes nothing, a good one what it says. */
static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_reload_file(void **state)
{
    struct env *e = env_simple();
    char error[CONFIG_ERROR_MAX] = "", text[300];
    struct sock *s;

    (void)state;
    e->n->config.echo.enabled = e->n->config.discard.enabled = e->n->config.chargen.enabled = false;
    assert_int_equal(services_open(&e->n->d, error, sizeof error), 0);
    snprintf(e->n->config.path, sizeof e->n->config.path, "%s", e->path);
    write_file(e->path, "[forward web]\nlisten = 8080\nto = nonsense\n");
    assert_int_equal(daemon_reload(&e->n->d, NULL, NULL, error, sizeof error), -1);
    assert_non_null(strstr(error, ":3: "));
    s = client(e);
    talk_and_end(e, s, backend_accept(e));
    snprintf(text, sizeof text, "[forward other]\nlisten = 8090\nto = tcp:127.0.0.1:%u\n", e->port);
    write_file(e->path, text);
    if (daemon_reload(&e->n->d, NULL, NULL, error, sizeof error) < 0)
        fail_msg("%s", error);
    s = peer_socket(e->n, HERE, 8090);
    WAIT(e->n, peer_established(e->n, s));
    talk_and_end(e, s, backend_accept(e));
    e->n->d.draining = true; /* no new listeners then */
    assert_int_equal(daemon_reload(&e->n->d, NULL, NULL, error, sizeof error), -1);
    e->n->d.draining = false;
    services_close(&e->n->d);
    env_free(e);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_unix_socket),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_peer_resets_while_connecting),
        cmocka_unit_test(test_unix_backlog_full),
        cmocka_unit_test(test_unix_backlog_timeout),
        cmocka_unit_test(test_backend_resets),
        cmocka_unit_test(test_peer_resets),
        cmocka_unit_test(test_out_of_descriptors),
        cmocka_unit_test(test_max_connections),
        cmocka_unit_test(test_proxy),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reload_conflict),
        cmocka_unit_test(test_reload_raises_limit),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_close_with_live_links),
        cmocka_unit_test(test_reload_file),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]); /* one test by name */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
