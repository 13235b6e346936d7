/*
 * Bind rules: the conflict table of inet_csk_get_port() row by row, addresses refused, ports chosen, what closed
 * sockets leave behind, RFC 6056.
 */
#include "env.h"

enum first_state { BOUND, LISTENING };
struct conflict_row {
    const char *first;
    bool first_reuse;
    enum first_state state;
    bool first_v6only;
    const char *second;
    bool second_reuse;
    bool second_v6only;
    int result;
};
static const struct conflict_row conflicts_table[] = {
    /* the same address */
    {"0.0.0.0", false, BOUND, false, "0.0.0.0", false, false, -EADDRINUSE},
    {"0.0.0.0", true, BOUND, false, "0.0.0.0", false, false, -EADDRINUSE},
    {"0.0.0.0", false, BOUND, false, "0.0.0.0", true, false, -EADDRINUSE},
    {"0.0.0.0", true, BOUND, false, "0.0.0.0", true, false, 0},
    {"0.0.0.0", true, LISTENING, false, "0.0.0.0", true, false, -EADDRINUSE},
    {"10.0.0.1", true, LISTENING, false, "10.0.0.1", true, false, -EADDRINUSE},
    /* wildcard and specific, either way round */
    {"0.0.0.0", false, BOUND, false, "10.0.0.1", false, false, -EADDRINUSE},
    {"10.0.0.1", false, BOUND, false, "0.0.0.0", false, false, -EADDRINUSE},
    {"10.0.0.1", true, LISTENING, false, "0.0.0.0", true, false, -EADDRINUSE},
    {"0.0.0.0", true, BOUND, false, "10.0.0.1", true, false, 0},
    /* two specific ones */
    {"10.0.0.1", false, LISTENING, false, "10.0.0.2", false, false, 0},
    /* families */
    {"::", false, BOUND, false, "0.0.0.0", false, false, -EADDRINUSE},
    {"0.0.0.0", false, BOUND, false, "::", false, false, -EADDRINUSE},
    {"::", false, BOUND, true, "0.0.0.0", false, false, 0},
    {"0.0.0.0", false, LISTENING, false, "::", false, true, 0},
    {"::", false, BOUND, false, "::", false, true, -EADDRINUSE},
    {"::", false, BOUND, false, "10.0.0.1", false, false, -EADDRINUSE},
    {"2001:db8::1", false, LISTENING, false, "0.0.0.0", false, false, 0},
    {"0.0.0.0", false, LISTENING, false, "2001:db8::1", false, false, 0},
    {"2001:db8::1", false, LISTENING, false, "::", false, false, -EADDRINUSE},
    {"2001:db8::1", false, LISTENING, false, "::", false, true, -EADDRINUSE},
    {"::ffff:10.0.0.1", false, LISTENING, false, "10.0.0.1", false, false, -EADDRINUSE},
    {"::ffff:10.0.0.1", false, LISTENING, false, "10.0.0.2", false, false, 0},
    {"::ffff:10.0.0.1", false, LISTENING, false, "::", false, false, -EADDRINUSE},
    {"::ffff:10.0.0.1", false, LISTENING, false, "::", false, true, 0},
    {"::ffff:0.0.0.0", false, LISTENING, false, "10.0.0.2", false, false, -EADDRINUSE},
};

static struct sock *bound6(struct env *e, const char *addr, uint16_t port, bool reuse, bool v6only, int *ret)
{
    struct ip_addr a = addr_of(addr);
    struct sock *s = sock_new(e->ss, a.family == IP_V6 ? IP_V6 : IP_V4, NULL);
    int32_t on = reuse, only = v6only;

    sock_setopt(s, SOCK_LEVEL_SOCKET, SOCK_SO_REUSEADDR, &on, sizeof on, 0);
    if (a.family == IP_V6)
        sock_setopt(s, SOCK_LEVEL_IPV6, SOCK_IPV6_V6ONLY, &only, sizeof only, 0);
    *ret = sock_bind(s, &a, port);
    return s;
}

static void test_conflicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof conflicts_table / sizeof conflicts_table[0]; i++) {
        const struct conflict_row *row = &conflicts_table[i];
        struct sock *a, *b;
        struct env e;
        int r;

        env_init(&e);
        a = bound6(&e, row->first, 80, row->first_reuse, row->first_v6only, &r);
        assert_int_equal(r, 0);
        if (row->state == LISTENING)
            assert_int_equal(sock_listen(a, 1), 0);
        b = bound6(&e, row->second, 80, row->second_reuse, row->second_v6only, &r);
        if (r != row->result)
            fail_msg("row %zu: %s, %s: %d", i, row->first, row->second, r);
        sock_close(a, 0);
        sock_close(b, 0);
        env_free(&e);
    }
}

struct addr_row {
    enum ip_family family;
    bool v6only;
    const char *addr; /* "": IP_NONE */
    int result;
    const char *name; /* read back */
};
static const struct addr_row addrs_table[] = {
    {IP_V4, false, "", 0, "0.0.0.0"},
    {IP_V6, false, "", 0, "::"},
    {IP_V4, false, "10.0.0.1", 0, "10.0.0.1"},
    {IP_V4, false, "10.0.0.77", -EADDRNOTAVAIL, NULL},
    {IP_V4, false, "2001:db8::1", -EAFNOSUPPORT, NULL},
    {IP_V6, false, "10.0.0.1", -EAFNOSUPPORT, NULL},
    {IP_V6, false, "2001:db8::1", 0, "2001:db8::1"},
    {IP_V6, false, "2001:db8::2", -EADDRNOTAVAIL, NULL},
    {IP_V6, false, "::ffff:10.0.0.1", 0, "::ffff:10.0.0.1"},
    {IP_V6, false, "::ffff:10.0.0.77", -EADDRNOTAVAIL, NULL},
    {IP_V6, true, "::ffff:10.0.0.1", -EINVAL, NULL},
    {IP_V6, false, "fe80::1", -EINVAL, NULL},
    {IP_V6, false, "fe80::1%1", 0, "fe80::1%1"},
    {IP_V6, false, "ff02::1%1", -EINVAL, NULL},
    {IP_V4, false, "224.0.0.1", 0, "224.0.0.1"},
};

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof addrs_table / sizeof addrs_table[0]; i++) {
        const struct addr_row *row = &addrs_table[i];
        struct ip_addr a = addr_of(row->addr), name, want;
        int32_t only = row->v6only;
        uint16_t port;
        struct sock *s;
        struct env e;

        env_init(&e);
        s = sock_new(e.ss, row->family, NULL);
        if (only)
            assert_int_equal(sock_setopt(s, SOCK_LEVEL_IPV6, SOCK_IPV6_V6ONLY, &only, sizeof only, 0), 0);
        if (sock_bind(s, &a, 80) != row->result)
            fail_msg("row %zu: %s", i, row->addr);
        if (row->result == 0) {
            want = addr_of(row->name);
            sock_name(s, &name, &port);
            assert_true(ip_addr_eq(&name, &want));
            assert_int_equal(port, 80);
            assert_int_equal(sock_bind(s, &a, 81), -EINVAL); /* once only */
        }
        sock_close(s, 0);
        env_free(&e);
    }
}

static void test_second_listener_loses(void **state)
{
    struct env e;
    struct sock *a, *b;
    int r;

    (void)state;
    env_init(&e);
    a = bound(&e, "0.0.0.0", 80, true, &r);
    b = bound(&e, "10.0.0.1", 80, true, &r);
    assert_int_equal(r, 0);
    assert_int_equal(sock_listen(a, 1), 0);
    assert_int_equal(sock_listen(b, 1), -EADDRINUSE);
    sock_close(a, 0);
    assert_int_equal(sock_listen(b, 1), 0);
    sock_close(b, 0);
    env_free(&e);
}

static void test_port_zero(void **state)
{
    struct env e;
    struct sock *s[11];
    bool seen[10] = {false};
    struct ip_addr a;
    uint16_t port;
    int r;

    (void)state;
    env_init(&e);
    e.config.ip_local_port_low = 40000;
    e.config.ip_local_port_high = 40009;
    for (int i = 0; i < 11; i++) {
        s[i] = bound(&e, "0.0.0.0", 0, true, &r); /* SO_REUSEADDR does not make a chosen port be shared */
        assert_int_equal(r, i < 10 ? 0 : -EADDRINUSE);
        sock_name(s[i], &a, &port);
        if (i < 10) {
            assert_in_range(port, 40000, 40009);
            assert_false(seen[port - 40000]);
            seen[port - 40000] = true;
        }
    }
    for (int i = 0; i < 11; i++)
        sock_close(s[i], 0);
    env_free(&e);
}

/* After a server closed first, its port has a connection in TIME-WAIT: bind wants SO_REUSEADDR on both. */
static void test_left_behind(void **state)
{
    const struct ip_tuple tuple = {addr_of("10.0.0.1"), addr_of("10.0.0.9"), 80, 999};
    static const struct {
        bool first, second;
        int result;
    } rows[] = {{false, false, -EADDRINUSE}, {false, true, -EADDRINUSE}, {true, false, -EADDRINUSE}, {true, true, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sock *l, *c, *s;
        struct env e;
        tcp_id id;
        int r;

        env_init(&e);
        l = bound(&e, "0.0.0.0", 80, rows[i].first, &r);
        sock_listen(l, 5);
        id = fake_accept(e.tcp, l->more->listener, &tuple);
        c = sock_accept(l, NULL);
        assert_non_null(c);
        sock_close(c, 0);
        sock_close(l, 0);
        fake_conn(e.tcp, id)->state = TCP_STATE_TIME_WAIT;
        s = bound(&e, "0.0.0.0", 80, rows[i].second, &r);
        assert_int_equal(r, rows[i].result);
        sock_close(s, 0);
        fake_conn(e.tcp, id)->used = false; /* TIME-WAIT is over */
        s = bound(&e, "0.0.0.0", 80, false, &r);
        assert_int_equal(r, 0);
        sock_close(s, 0);
        assert_true(list_empty(&e.ss->left));
        env_free(&e);
    }
}

static void accept_and_leave(struct env *e, struct sock *l, const char *local, uint16_t port, uint16_t remote_port)
{
    const struct ip_tuple tuple = {addr_of(local), addr_of("10.0.0.9"), port, remote_port};
    tcp_id id = fake_accept(e->tcp, l->more->listener, &tuple);
    struct sock *c = sock_accept(l, NULL);

    assert_non_null(c);
    sock_close(c, 0);
    fake_conn(e->tcp, id)->state = TCP_STATE_TIME_WAIT;
}

static int try_bind(struct env *e, const char *addr, uint16_t port, bool reuse)
{
    int r;
    struct sock *s = bound(e, addr, port, reuse, &r);

    sock_close(s, 0);
    return r;
}

/* Many connections in TIME-WAIT share a claim for each address, port and use of SO_REUSEADDR; it ends with the last. */
static void test_left_behind_by_many(void **state)
{
    struct ip_tuple to = {addr_of("10.0.0.1"), addr_of("10.0.0.9"), 0, 80};
    struct sock *l, *l2;
    struct env e;
    int r;

    (void)state;
    env_init(&e);
    l = bound(&e, "0.0.0.0", 80, true, &r);
    sock_listen(l, 5);
    l2 = bound(&e, "10.0.0.1", 32768, false, &r);
    assert_int_equal(r, 0);
    sock_listen(l2, 5);
    for (uint16_t p = 1; p <= 8; p++)
        accept_and_leave(&e, l, "10.0.0.1", 80, p);
    accept_and_leave(&e, l, "10.0.0.2", 80, 9);
    accept_and_leave(&e, l2, "10.0.0.1", 32768, 10);
    sock_close(l, 0);
    sock_close(l2, 0);
    (void)try_bind(&e, "10.0.0.2", 70, false); /* closing collects */
    assert_true(list_empty(&e.ss->left));
    assert_int_equal(e.ss->n_past, 3);
    assert_int_equal(try_bind(&e, "10.0.0.1", 80, true), 0);
    assert_int_equal(try_bind(&e, "10.0.0.1", 80, false), -EADDRINUSE);
    assert_int_equal(try_bind(&e, "10.0.0.1", 32768, true), -EADDRINUSE);
    assert_int_equal(try_bind(&e, "10.0.0.2", 32768, false), 0);
    e.config.ip_local_port_low = 32768; /* a bind() had it: connect() takes another one */
    e.config.ip_local_port_high = 32769;
    assert_int_equal(sock_bind_ephemeral(e.ss, &to), 32769);
    assert_int_equal(sock_bind_ephemeral(e.ss, &to), 32769);
    for (tcp_id id = 1; id <= 8; id++) { /* those of 10.0.0.1:80 end, the last one last */
        assert_int_equal(try_bind(&e, "10.0.0.1", 80, false), -EADDRINUSE);
        fake_conn(e.tcp, id)->used = false;
    }
    assert_int_equal(try_bind(&e, "10.0.0.1", 80, false), 0);
    assert_int_equal(try_bind(&e, "10.0.0.2", 80, false), -EADDRINUSE);
    for (tcp_id id = 9; id <= 10; id++)
        fake_conn(e.tcp, id)->used = false;
    for (unsigned i = 0; i < 3; i++) /* closing collects those that nobody asks for, too */
        (void)try_bind(&e, "10.0.0.2", 70, false);
    assert_true(!e.ss->past_first[80] && !e.ss->past_first[32768]);
    env_free(&e);
}

/* One of them without SO_REUSEADDR is enough to hold the port. */
static void test_left_behind_without_reuse(void **state)
{
    int32_t off = 0;
    struct sock *l;
    struct env e;
    int r;

    (void)state;
    env_init(&e);
    l = bound(&e, "0.0.0.0", 80, true, &r);
    sock_listen(l, 5);
    accept_and_leave(&e, l, "10.0.0.1", 80, 1);
    sock_setopt(l, SOCK_LEVEL_SOCKET, SOCK_SO_REUSEADDR, &off, sizeof off, 0);
    accept_and_leave(&e, l, "10.0.0.1", 80, 2);
    sock_close(l, 0);
    (void)try_bind(&e, "10.0.0.2", 70, false);
    assert_true(list_empty(&e.ss->left));
    assert_int_equal(try_bind(&e, "10.0.0.1", 80, true), -EADDRINUSE);
    fake_conn(e.tcp, 2)->used = false;
    assert_int_equal(try_bind(&e, "10.0.0.1", 80, true), 0);
    env_free(&e);
}

/* Accepted sockets of one address and port share a claim, which stands against bind() until the last has gone. */
static void test_shared_claims(void **state)
{
    struct ip_tuple tuple = {addr_of("10.0.0.1"), addr_of("10.0.0.9"), 80, 1000};
    struct sock *l, *c[3], *s;
    tcp_id id[3];
    struct env e;
    int r;

    (void)state;
    env_init(&e);
    l = bound(&e, "0.0.0.0", 80, true, &r);
    sock_listen(l, 5);
    for (unsigned i = 0; i < 3; i++, tuple.remote_port++) {
        id[i] = fake_accept(e.tcp, l->more->listener, &tuple);
        c[i] = sock_accept(l, NULL);
        assert_ptr_equal(c[i]->bind, c[0]->bind);
        assert_int_equal(c[i]->bind->sharers, i + 1);
    }
    for (int32_t on = 0; on < 2; on++) { /* an option of one of them is no other's */
        sock_setopt(c[1], SOCK_LEVEL_SOCKET, SOCK_SO_REUSEADDR, &on, sizeof on, 0);
        assert_true(c[0]->bind->reuse && c[2]->bind->reuse);
        assert_int_equal(c[0]->bind->sharers, 2 + on);
        assert_int_equal(c[1]->bind->reuse, on);
    }
    sock_close(l, 0);
    for (unsigned i = 0; i < 3; i++) {
        s = bound(&e, "0.0.0.0", 80, false, &r);
        assert_int_equal(r, -EADDRINUSE);
        sock_close(s, 0);
        s = bound(&e, "10.0.0.2", 80, false, &r); /* not the address that they share */
        assert_int_equal(r, 0);
        sock_close(s, 0);
        assert_ptr_equal(list_first(&e.ss->ports[80]), &c[2]->bind->port_link); /* first, whatever was left behind */
        fake_conn(e.tcp, id[i])->used = i == 1; /* nothing is left of it; of the second one an orphan */
        sock_close(c[i], 0);
        assert_int_equal(list_empty(&e.ss->left), i == 0);
    }
    s = bound(&e, "0.0.0.0", 80, false, &r);
    assert_int_equal(r, -EADDRINUSE); /* the orphan's own claim */
    sock_close(s, 0);
    fake_conn(e.tcp, id[1])->used = false;
    s = bound(&e, "0.0.0.0", 80, false, &r);
    assert_int_equal(r, 0);
    sock_close(s, 0);
    env_free(&e);
}

/* RFC 6056 algorithm 4: one destination counts up, others start elsewhere; taken tuples and bound ports are skipped. */
static void test_ephemeral(void **state)
{
    struct ip_tuple tuple = {addr_of("10.0.0.1"), addr_of("10.0.0.9"), 0, 80};
    uint16_t p1, p2, p3;
    struct sock *s, *b;
    struct env e;
    int r;

    (void)state;
    env_init(&e);
    p1 = sock_bind_ephemeral(e.ss, &tuple);
    p2 = sock_bind_ephemeral(e.ss, &tuple);
    assert_in_range(p1, 32768, 60999);
    assert_int_equal(p2, p1 == 60999 ? 32768 : p1 + 1);
    tuple.remote_port = 81;
    assert_int_not_equal(sock_bind_ephemeral(e.ss, &tuple), p2 + 1);
    tuple.remote_port = 80;
    e.tcp->busy[0] = tuple;
    e.tcp->busy[0].local_port = (uint16_t)(p2 + 1);
    b = bound(&e, "10.0.0.1", (uint16_t)(p2 + 2), true, &r);
    p3 = sock_bind_ephemeral(e.ss, &tuple);
    assert_int_equal(p3, p2 + 3);
    e.config.ip_local_port_low = e.config.ip_local_port_high = p2 + 1;
    assert_int_equal(sock_bind_ephemeral(e.ss, &tuple), 0);
    s = sock_new(e.ss, IP_V4, NULL);
    assert_int_equal(sock_connect(s, &tuple.remote, 80, 0), -EADDRNOTAVAIL);
    assert_null(s->bind);
    sock_close(s, 0);
    sock_close(b, 0);
    env_free(&e);
}

/* Two connections to different places may share a local port; one that bind() has may be used by its owner only. */
static void test_connect_bound_port(void **state)
{
    struct ip_addr dst = addr_of("10.0.0.9");
    struct sock *a, *b;
    struct env e;
    int r;

    (void)state;
    env_init(&e);
    a = bound(&e, "10.0.0.1", 5000, true, &r);
    b = bound(&e, "10.0.0.1", 5000, true, &r);
    assert_int_equal(sock_connect(a, &dst, 80, 0), -EINPROGRESS);
    assert_int_equal(sock_connect(b, &dst, 80, 0), -EADDRNOTAVAIL);
    assert_int_equal(sock_connect(b, &dst, 81, 0), -EINPROGRESS);
    assert_int_equal(fake_conn(e.tcp, sock_conn_id(b))->tuple.local_port, 5000);
    sock_close(a, 0);
    sock_close(b, 0);
    env_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conflicts),     cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_second_listener_loses), cmocka_unit_test(test_port_zero),
        cmocka_unit_test(test_left_behind), cmocka_unit_test(test_left_behind_by_many),
        cmocka_unit_test(test_left_behind_without_reuse), cmocka_unit_test(test_shared_claims), cmocka_unit_test(test_ephemeral),
        cmocka_unit_test(test_connect_bound_port),
    };

    printf("seed %u\n", SEED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
