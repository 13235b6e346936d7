/*
 * daemon/revive.c: a daemon that is abandoned as it stands, and another one on the same arena, descriptors and epoll set: as
 * after a kill, but in one process. What the dead one had left of its memory is never touched again.
 */
#include "net.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "daemon/arena.h"
#include "daemon/program.h"
#include "daemon/revive.h"

#define PORT 80
#define CONNS 3

struct host {
    struct net n; /* n.d is the present daemon */
    struct arena arena;
    int epoll_fd;
    struct sock_owner owner;
    struct sock *listener, *accepted[CONNS], *peer[CONNS];
    unsigned n_accepted;
    int fd[CONNS]; /* programs' ends */
};

static void *graveyard[128]; /* what dead daemons leave is reachable, so that it is no leak */
static unsigned n_graves;

static void bury(void *p)
{
    assert_true(n_graves < 128);
    graveyard[n_graves++] = p;
}

static void log_nothing(void *user, enum log_level level, const char *text)
{
    (void)user, (void)level, (void)text;
}

static void on_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct host *h = list_entry(self, struct host, owner);
    struct sock *a;

    (void)bits, (void)now;
    while (h->n_accepted < CONNS && (a = sock_accept(s, NULL)) != NULL)
        h->accepted[h->n_accepted++] = a;
}

static struct stack *stack_on(struct host *h)
{
    struct arena_head *head = h->arena.head;
    struct stack_params p = {.mac = {2, 0, 0, 0, 0, 1},
                             .config = &h->n.config.stack,
                             .tcp_config = &h->n.config.tcp,
                             .pool = h->n.d.pool,
                             .log = &h->n.d.log,
                             .now = daemon_now(),
                             .mtu = 1500,
                             .ifindex = 1,
                             .max_conns = head->max_conns,
                             .max_half_open = head->max_half_open,
                             .max_time_wait = head->max_time_wait,
                             .check = true,
                             .secrets = head->secrets,
                             .generation = ++head->generation,
                             .record_arena = arena_at(&h->arena, ARENA_RECORDS),
                             .request_arena = arena_at(&h->arena, ARENA_REQUESTS),
                             .time_wait_arena = arena_at(&h->arena, ARENA_TIME_WAIT),
                             .md5_arena = arena_at(&h->arena, ARENA_KEYS),
                             .max_md5_keys = head->n_keys,
                             .kept = &head->kept};
    struct ip_addr here = ip(HERE);
    struct stack *st = stack_create(&p);

    assert_non_null(st);
    assert_int_equal(stack_addr_add(st, &here, 24, p.now), 0);
    return st;
}

static void boot(struct host *h)
{
    struct daemon *d = &h->n.d;
    struct arena *a = &h->arena;

    *d = (struct daemon){.config = &h->n.config, .log = {.write = log_nothing}, .tap = &h->n.tap, .arena = a};
    list_init(&d->deferred);
    list_init(&d->starved);
    d->loop = ev_loop_new(EVFLAG_AUTO);
    d->fds = fdset_new(d->loop, h->epoll_fd);
    d->pool = chunk_pool_create(arena_at(a, ARENA_PAYLOAD), h->n.config.buffer_bytes);
    assert_int_equal(chunk_pool_journal(d->pool, arena_at(a, ARENA_JOURNAL), a->head->notes), 0);
    assert_int_equal(arena_links_restored(a), 0);
    a->head->watched = 1; /* or the supervisor, whoever is our parent, would be woken by a signal */
    d->stack = stack_on(h);
    d->tcp = stack_tcp(d->stack);
    d->socks = stack_socks(d->stack);
    memset(h->n.tap.rx, 0, sizeof h->n.tap.rx);
    assert_int_equal(tap_attach_pool(&h->n.tap, d->pool), 0);
    assert_int_equal(programs_open(d), 0);
    h->owner.ready = on_ready;
    h->listener = sock_new(d->socks, IP_V4, &h->owner);
    assert_int_equal(sock_bind(h->listener, &(struct ip_addr){0}, PORT), 0);
    assert_int_equal(sock_listen(h->listener, 16), 0);
    assert_non_null(loop_new(d));
}

static void make_peer(struct net *n)
{
    struct stack_params p = {.mac = {2, 0, 0, 0, 0, 2}, .secrets = {.rng_seed = 2}, .config = &n->peer_config,
                             .tcp_config = &n->peer_tcp, .now = daemon_now(), .mtu = 1500, .ifindex = 1,
                             .max_conns = 64, .max_half_open = 64, .max_time_wait = 64, .generation = 1, .check = true};
    struct ip_addr there = ip(THERE);

    stack_config_defaults(&n->peer_config);
    tcp_config_defaults(&n->peer_tcp);
    n->peer_arena = aligned_alloc(4096, 16u << 20);
    p.pool = n->peer_pool = chunk_pool_create(n->peer_arena, 16u << 20);
    p.log = &n->d.log;
    n->peer = stack_create(&p);
    assert_int_equal(stack_addr_add(n->peer, &there, 24, p.now), 0);
}

/* CONNS connections, each a program's; the last one's link is made first. */
static struct host *host_new(void)
{
    struct host *h = calloc(1, sizeof *h);
    char error[CONFIG_ERROR_MAX];
    int fd[2];

    bury(h);
    config_defaults(&h->n.config);
    h->n.config.stack.ipv6_dad_transmits = 0;
    h->n.config.buffer_bytes = 16u << 20;
    h->n.config.max_conns = h->n.config.max_half_open = 64;
    assert_int_equal(arena_create(&h->n.config, &h->arena, error, sizeof error), 0);
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    h->n.tap.fd = fd[0];
    h->n.wire = fd[1];
    boot(h);
    make_peer(&h->n);
    for (int i = 0; i < CONNS; i++) {
        h->peer[i] = peer_socket(&h->n, HERE, PORT);
        WAIT(&h->n, h->n_accepted == (unsigned)i + 1 && peer_established(&h->n, h->peer[i]));
    }
    for (int i = CONNS; i-- > 0;) {
        assert_int_equal(program_hand_over(&h->n.d, h->accepted[i], 1000 + i, &h->fd[i]), 0);
        fcntl(h->fd[i], F_SETFL, O_NONBLOCK);
    }
    net_turns(&h->n, 3);
    return h;
}

static void die(struct host *h)
{
    loop_free(h->n.d.runner); /* signals belong to one loop */
    bury(h->n.d.loop);
    bury(h->n.d.stack);
    bury(h->n.d.pool);
    bury(h->n.d.fds);
    bury(h->n.d.programs);
    bury(h->arena.free_links);
    h->arena.free_links = NULL;
}

static struct revived die_and_revive(struct host *h, tcp_id doomed)
{
    char error[256];
    struct revived r;

    die(h);
    boot(h);
    revive_listeners(&h->n.d);
    assert_int_equal(revive_connections(&h->n.d, doomed, &r, error, sizeof error), 0);
    return r;
}

static struct link_slot *link_of(struct host *h, pid_t pid)
{
    for (uint32_t i = 0; i < h->arena.head->links_touched; i++)
        if (arena_link(&h->arena, i)->kind == LINK_PROGRAM && arena_link(&h->arena, i)->pid == pid)
            return arena_link(&h->arena, i);
    fail_msg("no link of program %d", (int)pid);
    return NULL;
}

/* What the program reads next: bytes, 0, or -errno; waits. */
static ssize_t program_reads(struct host *h, int i, char *data, size_t bytes)
{
    uint64_t until = daemon_now() + 5 * NSEC_PER_SEC;
    ssize_t r;

    while ((r = read(h->fd[i], data, bytes)) < 0 && errno == EAGAIN && daemon_now() < until)
        net_turn(&h->n);
    return r < 0 ? -errno : r;
}

static int64_t peer_reads(struct host *h, int i, char *data, size_t bytes)
{
    uint64_t until = daemon_now() + 5 * NSEC_PER_SEC;
    int64_t r;

    while ((r = peer_read(h->peer[i], data, bytes)) == -EAGAIN && daemon_now() < until)
        net_turn(&h->n);
    return r;
}

static void goes_on(struct host *h, int i)
{
    char data[16];

    assert_int_equal(write(h->fd[i], "to the peer", 11), 11);
    assert_int_equal(peer_reads(h, i, data, sizeof data), 11);
    assert_memory_equal(data, "to the peer", 11);
    assert_int_equal(peer_write(h->peer[i], "and back", 8), 8);
    assert_int_equal(program_reads(h, i, data, sizeof data), 8);
    assert_memory_equal(data, "and back", 8);
}

/* Each finds the link that names it, whatever the order of links; bytes under way arrive once. */
static void test_all_go_on(void **state)
{
    struct host *h = host_new();
    struct revived r;
    char data[16];

    (void)state;
    for (int i = 0; i < CONNS; i++)
        goes_on(h, i);
    assert_int_equal(write(h->fd[1], "unread", 6), 6);
    assert_int_equal(peer_write(h->peer[2], "untold", 6), 6);
    r = die_and_revive(h, 0);
    assert_int_equal(r.conns, CONNS);
    assert_int_equal(r.lost + r.ownerless, 0);
    assert_int_equal(peer_reads(h, 1, data, sizeof data), 6);
    assert_memory_equal(data, "unread", 6);
    assert_int_equal(program_reads(h, 2, data, sizeof data), 6);
    assert_memory_equal(data, "untold", 6);
    for (int i = 0; i < CONNS; i++)
        goes_on(h, i);
    die(h);
}

/* The doomed one is reset on both sides, alone. */
static void test_doomed(void **state)
{
    struct host *h = host_new();
    tcp_id id = link_of(h, 1001)->conn;
    struct revived r = die_and_revive(h, id);
    char data[16];

    (void)state;
    assert_int_equal(r.ownerless, 1);
    assert_int_equal(program_reads(h, 1, data, sizeof data), -ECONNRESET);
    assert_int_equal(peer_reads(h, 1, data, sizeof data), -ECONNRESET);
    goes_on(h, 0);
    goes_on(h, 2);
    die(h);
}

/* The last worker had begun to end them, and its connection's end was not committed: they end as it meant it. */
static void test_ending(void **state)
{
    struct host *h = host_new();
    char data[16];

    (void)state;
    link_of(h, 1000)->ending = LINK_ENDS_CLEAN;
    link_of(h, 1001)->ending = LINK_ENDS_RESET;
    die_and_revive(h, 0);
    assert_int_equal(program_reads(h, 0, data, sizeof data), 0);
    assert_int_equal(peer_reads(h, 0, data, sizeof data), 0);
    assert_int_equal(program_reads(h, 1, data, sizeof data), -ECONNRESET);
    assert_int_equal(peer_reads(h, 1, data, sizeof data), -ECONNRESET);
    goes_on(h, 2);
    die(h);
}

/* Connection and end were committed, but the descriptor was not closed yet. */
static void test_connection_is_gone(void **state)
{
    struct host *h = host_new();
    char data[16];

    (void)state;
    link_of(h, 1000)->ending = LINK_ENDS_CLEAN;
    link_of(h, 1000)->conn ^= 1ull << 40;
    link_of(h, 1001)->conn ^= 1ull << 40;
    die_and_revive(h, 0);
    assert_int_equal(program_reads(h, 0, data, sizeof data), 0);
    assert_int_equal(program_reads(h, 1, data, sizeof data), -ECONNRESET);
    assert_int_equal(peer_reads(h, 1, data, sizeof data), -ECONNRESET);
    die(h);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* The last worker was told that the program writes no more, and died: nobody is told again. */
static void test_told_once(void **state)
{
    struct host *h = host_new();
    struct epoll_event told[8];
    char data[16];

    (void)state;
    assert_int_equal(write(h->fd[0], "last", 4), 4);
    shutdown(h->fd[0], SHUT_WR);
    assert_true(epoll_wait(h->epoll_fd, told, 8, 1000) > 0);
    die_and_revive(h, 0);
    assert_int_equal(peer_reads(h, 0, data, sizeof data), 4);
    assert_int_equal(peer_reads(h, 0, data, sizeof data), 0);
    goes_on(h, 1);
    die(h);
}

/* The last worker died before, or right after, it gave a connection to a listener's program: it comes, once. */
static void test_given_once(void **state)
{
    struct host *h = host_new();
    struct sock *s = sock_new(h->n.d.socks, IP_V4, NULL);
    int fd, waits = dup(h->fd[0]), went = dup(h->fd[1]);
    uint32_t number;
    char data[256];

    (void)state;
    assert_int_equal(sock_bind(s, &(struct ip_addr){0}, 81), 0);
    assert_int_equal(sock_listen(s, 16), 0);
    assert_int_equal(program_listen(&h->n.d, s, 77, NULL, &number, &fd), 0);
    for (int i = 0; i < 2; i++) {
        struct link_slot *l = link_of(h, 1000 + i);

        l->number = number;
        l->handed = false;
        snprintf(l->text, sizeof l->text, "message %d", i);
        l->program_fd = i ? went : waits;
    }
    link_of(h, 1001)->sent.selector = 3;
    link_of(h, 1001)->sent.slot[1].call.msg_len = 9;
    die_and_revive(h, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    net_turns(&h->n, 20);
    assert_int_equal(recv(fd, data, sizeof data, MSG_DONTWAIT), 9);
    assert_memory_equal(data, "message 0", 9);
    assert_int_equal(recv(fd, data, sizeof data, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN); /* the listener lives */
    assert_false(is_open(waits) || is_open(went));
    assert_true(link_of(h, 1000)->handed && link_of(h, 1001)->handed);
    for (int i = 0; i < CONNS; i++)
        goes_on(h, i);
    close(fd);
    die(h);
}

/* A backend over TCP: RST or FIN. */
static void test_backend(void **state)
{
    struct host *h = host_new();

    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct link_slot fields = {.program_fd = -1, .conn = 1ull << 50 | 5, .ending = LINK_LIVES};
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t n = sizeof a;
        int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), s;
        char byte;

        assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof a), 0);
        assert_int_equal(listen(l, 1), 0);
        assert_int_equal(getsockname(l, (struct sockaddr *)&a, &n), 0);
        assert_int_equal(connect(c, (struct sockaddr *)&a, sizeof a), 0);
        s = accept(l, NULL, NULL);
        fields.fd = c;
        assert_non_null(link_new(&h->n.d, LINK_FORWARD, &fields));
        for (uint32_t i = 0; i < h->arena.head->links_touched; i++)
            if (arena_link(&h->arena, i)->kind == LINK_FORWARD)
                arena_link(&h->arena, i)->ending = clean ? LINK_ENDS_CLEAN : LINK_LIVES;
        die_and_revive(h, 0);
        errno = 0;
        assert_int_equal(recv(s, &byte, 1, 0), clean ? 0 : -1);
        assert_int_equal(errno, clean ? 0 : ECONNRESET);
        close(s);
        close(l);
    }
    die(h);
}

/* In a process of its own: everything but what is known or a link's is closed, in two steps. */
static int sweep(struct host *h)
{
    static const int kept[] = {0, 1, 2, 305}, strangers[] = {300, 304, 306, 309, 3000};
    unsigned rest;
    int known[68], n_known = 0;

    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        if (dup2(2, strangers[i]) < 0)
            return 1;
    if (dup2(2, 305) < 0 || dup2(2, 307) < 0 || dup2(2, 308) < 0)
        return 2;
    link_of(h, 1000)->program_fd = 307;
    link_of(h, 1001)->program_fd = 308;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        known[n_known++] = kept[i];
    rest = revive_sweep(&h->n.d, known, (unsigned)n_known);
    for (size_t i = 0; i + 1 < sizeof strangers / sizeof *strangers; i++)
        if (is_open(strangers[i]))
            return 3;
    if (!is_open(305) || !is_open(307) || !is_open(308) || !is_open(2) || !is_open(link_of(h, 1002)->fd))
        return 4;
    if (is_open(h->epoll_fd) || is_open(h->n.wire))
        return 5;
    if (rest <= 309 || rest > 3000)
        return 6;
    revive_sweep_rest(rest);
    return is_open(3000) ? 7 : !is_open(308) ? 8 : 0;
}

static void test_sweep(void **state)
{
    struct host *h = host_new();
    pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0)
        _exit(sweep(h));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    link_of(h, 1000)->program_fd = link_of(h, 1001)->program_fd = -1; /* the arena is shared */
    die(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_go_on),         cmocka_unit_test(test_doomed),  cmocka_unit_test(test_ending),
        cmocka_unit_test(test_connection_is_gone), cmocka_unit_test(test_told_once), cmocka_unit_test(test_given_once),
        cmocka_unit_test(test_backend), cmocka_unit_test(test_sweep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
