/*
 * daemon/service.c over two stacks (net.h): echo is exact, chargen is RFC 864's pattern, discard takes everything; half-
 * closes, resets, memory, reload and a failed start.
 */
#include "net.h"

#include "daemon/service.h"

#define ARENA (32u << 20)

static struct net *env_new(size_t arena)
{
    struct net *n = net_new(arena);
    char error[CONFIG_ERROR_MAX];

    n->config.echo = (struct config_service){true, 7};
    n->config.discard = (struct config_service){true, 9};
    n->config.chargen = (struct config_service){true, 19};
    if (services_open(&n->d, error, sizeof error) < 0)
        fail_msg("%s", error);
    return n;
}

static void env_free(struct net *n)
{
    services_close(&n->d);
    net_free(n);
}

static struct sock *client(struct net *n, const char *to, uint16_t port)
{
    struct sock *s = peer_socket(n, to, port);

    WAIT(n, peer_established(n, s));
    return s;
}

static uint32_t conns(struct net *n, unsigned which)
{
    struct service_info info;

    assert_true(services_get(&n->d, which, &info));
    return info.connections;
}

static void test_echo(void **state)
{
    static uint8_t buf[65536];
    struct net *n = env_new(ARENA);
    struct sock *s = client(n, HERE6, 7);
    uint64_t sent = 0, got = 0, most = 2u << 20;

    (void)state;
    rnd_seed();
    while (sent < most) {
        size_t part = 1 + rnd() % sizeof buf;

        part = part < most - sent ? part : (size_t)(most - sent);
        fill(buf, sent, part);
        int64_t r = peer_write(s, buf, part);

        assert_true(r > 0 || r == -EAGAIN);
        sent += r > 0 ? (uint64_t)r : 0;
        if (rnd() % 2) { /* it reads more slowly than it writes */
            r = peer_read(s, buf, 1 + rnd() % 20000);
            assert_true(r > 0 || r == -EAGAIN);
            if (r > 0)
                check(buf, got, (size_t)r);
            got += r > 0 ? (uint64_t)r : 0;
        }
        net_turn(n);
    }
    sock_shutdown(s, SOCK_SHUT_WR, daemon_now());
    uint64_t rest;

    assert_int_equal(peer_read_pattern(n, s, got, &rest), 0); /* all of it, then the end */
    assert_int_equal(got + rest, most);
    sock_close(s, daemon_now());
    WAIT(n, conns(n, 0) == 0);
    env_free(n);
}

static void test_echo_reset(void **state)
{
    struct net *n = env_new(ARENA);
    struct sock *s = client(n, HERE, 7);

    (void)state;
    peer_write_pattern(n, s, 0, 1000);
    WAIT(n, conns(n, 0) == 1);
    sock_abort(s, daemon_now());
    WAIT(n, conns(n, 0) == 0);
    env_free(n);
}

/* RFC 864: 72 characters a line out of 95, each line begins one further. */
static uint8_t chargen(uint64_t at)
{
    uint64_t line = at / 74 % 95, column = at % 74;

    return column == 72 ? '\r' : column == 73 ? '\n' : (uint8_t)(' ' + (line + column) % 95);
}

static void test_chargen(void **state)
{
    static uint8_t buf[30000];
    struct net *n = env_new(ARENA);
    struct sock *s = client(n, HERE, 19);
    uint64_t got = 0;

    (void)state;
    peer_write_pattern(n, s, 0, 100); /* is thrown away */
    while (got < 3u << 20) {
        int64_t r = peer_read(s, buf, 1 + rnd() % sizeof buf);

        assert_true(r > 0 || r == -EAGAIN);
        for (int64_t i = 0; i < r; i++)
            if (buf[i] != chargen(got + (uint64_t)i))
                fail_msg("byte %llu is %u", (unsigned long long)(got + (uint64_t)i), buf[i]);
        got += r > 0 ? (uint64_t)r : 0;
        net_turn(n);
    }
    assert_memory_equal(" !\"#", ((uint8_t[]){chargen(0), chargen(1), chargen(2), chargen(3)}), 4);
    sock_abort(s, daemon_now());
    WAIT(n, conns(n, 2) == 0);
    env_free(n);
}

static void test_discard(void **state)
{
    struct net *n = env_new(ARENA);
    struct sock *s = client(n, HERE, 9);
    uint64_t got;

    (void)state;
    peer_write_pattern(n, s, 0, 2u << 20);
    sock_shutdown(s, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(peer_read_pattern(n, s, 0, &got), 0);
    assert_int_equal(got, 0);
    sock_close(s, daemon_now());
    WAIT(n, conns(n, 1) == 0);
    env_free(n);
}

/* Without chunks echo and chargen wait; they reset nobody and go on when there are some. */
static void test_memory(void **state)
{
    static struct chunk *held[1024];
    struct net *n = env_new(1u << 20);
    struct sock *s = client(n, HERE, 7), *c;
    struct chunk *chunk;
    unsigned count = 0;
    uint64_t got;

    (void)state;
    while ((chunk = chunk_alloc(n->d.pool, CHUNK_SMALL_BYTES)) != NULL)
        held[count++] = chunk;
    peer_write_pattern(n, s, 0, 1000); /* the TAP's chunk holds it */
    c = peer_socket(n, HERE, 19);
    net_sleep(n, 20);
    assert_true(n->d.counters.starved >= 1);
    assert_int_equal(conns(n, 0), 1); /* nobody was reset */
    while (count > 0)
        chunk_unref(n->d.pool, held[--count]);
    sock_shutdown(s, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(peer_read_pattern(n, s, 0, &got), 0);
    assert_int_equal(got, 1000);
    uint8_t b;

    WAIT(n, peer_read(c, &b, 1) == 1);
    assert_int_equal(b, ' ');
    sock_close(s, daemon_now());
    sock_abort(c, daemon_now());
    env_free(n);
}

static void test_reload(void **state)
{
    struct net *n = env_new(ARENA);
    struct daemon_config *next = calloc(1, sizeof *next);
    struct sock *live = client(n, HERE, 7), *s;
    char error[CONFIG_ERROR_MAX];
    uint64_t got;

    (void)state;
    WAIT(n, conns(n, 0) == 1);
    next->echo = (struct config_service){true, 9}; /* discard's port */
    next->discard = (struct config_service){true, 7};
    assert_int_equal(services_reload(&n->d, next, error, sizeof error), 0);
    s = client(n, HERE, 9);
    peer_write_pattern(n, s, 0, 10);
    sock_shutdown(s, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(peer_read_pattern(n, s, 0, &got), 0);
    assert_int_equal(got, 10);
    sock_close(s, daemon_now());
    peer_write_pattern(n, live, 0, 10); /* as it was */
    sock_shutdown(live, SOCK_SHUT_WR, daemon_now());
    assert_int_equal(peer_read_pattern(n, live, 0, &got), 0);
    assert_int_equal(got, 10);
    sock_close(live, daemon_now());
    s = peer_socket(n, HERE, 19);
    WAIT(n, sock_poll(s) & SOCK_POLLERR);
    sock_close(s, daemon_now());
    free(next);
    env_free(n);
}

/* The first one can't listen: what was begun is undone. */
static void test_failed_start(void **state)
{
    struct net *n = net_new(ARENA);
    struct sock *taken = sock_new(n->d.socks, IP_V6, NULL);
    char error[CONFIG_ERROR_MAX] = "";

    (void)state;
    assert_int_equal(sock_bind(taken, &(struct ip_addr){0}, 7), 0);
    assert_int_equal(sock_listen(taken, 1), 0);
    n->config.echo = (struct config_service){true, 7};
    assert_int_equal(services_open(&n->d, error, sizeof error), -1);
    assert_non_null(strstr(error, "services.echo: cannot listen on port 7"));
    services_close(&n->d);
    sock_close(taken, daemon_now());
    net_free(n);
}

static void test_drain_and_close(void **state)
{
    struct net *n = env_new(ARENA);
    struct sock *echo = client(n, HERE, 7), *gen = client(n, HERE, 19);
    uint64_t got;

    (void)state;
    net_turns(n, 20);
    services_drain(&n->d, daemon_now());
    assert_int_equal(peer_read_pattern(n, echo, 0, &got), 0);
    services_close(&n->d); /* with chargen's data on the way */
    sock_close(echo, daemon_now());
    sock_abort(gen, daemon_now());
    net_turns(n, 20);
    net_free(n);
}

static unsigned asked;
static struct daemon *asked_of;

static void ask_again(struct deferred *self, uint64_t now)
{
    (void)now;
    if (++asked < 3)
        daemon_starve(asked_of, self); /* what is missing is no chunk */
}

/* Work that waits for memory is tried again though no chunk came free, and not as fast as the loop turns. */
static void test_starved_is_asked_again(void **state)
{
    struct net *n = env_new(ARENA);
    struct deferred work = {.fn = ask_again};
    uint64_t began = daemon_now();

    (void)state;
    asked = 0;
    asked_of = &n->d;
    list_init(&work.link);
    daemon_starve(&n->d, &work);
    WAIT(n, asked == 3);
    assert_true(daemon_now() - began > 3 * 15 * NSEC_PER_MSEC);
    assert_int_equal(n->d.counters.starved, 3);
    env_free(n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_echo_reset),
        cmocka_unit_test(test_starved_is_asked_again),
        cmocka_unit_test(test_chargen),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_failed_start),
        cmocka_unit_test(test_drain_and_close),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]); /* one test by name */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
