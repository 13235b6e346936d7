/*
 * connect, listen, accept: every errno row of the two, and what a socket is after each.
 */
#include "env.h"

struct target_row {
    enum ip_family family;
    bool v6only;
    const char *bind; /* "": not bound */
    const char *to;
    int route_result;
    int engine_result;
    int result;
    const char *dst; /* the engine's */
    const char *src;
};
static const struct target_row targets[] = {
    {IP_V4, false, "", "10.0.0.9", 0, 0, -EINPROGRESS, "10.0.0.9", "10.0.0.1"},
    {IP_V4, false, "10.0.0.2", "10.0.0.9", 0, 0, -EINPROGRESS, "10.0.0.9", "10.0.0.2"},
    {IP_V4, false, "", "0.0.0.0", 0, 0, -EINPROGRESS, "127.0.0.1", NULL},
    {IP_V4, false, "10.0.0.2", "0.0.0.0", 0, 0, -EINPROGRESS, "10.0.0.2", "10.0.0.2"},
    {IP_V6, false, "", "2001:db8::9", 0, 0, -EINPROGRESS, "2001:db8::9", "2001:db8::1"},
    {IP_V6, false, "", "::", 0, 0, -EINPROGRESS, "::1", NULL},
    {IP_V6, false, "", "::ffff:10.0.0.9", 0, 0, -EINPROGRESS, "10.0.0.9", "10.0.0.1"},
    {IP_V6, false, "::ffff:10.0.0.2", "::ffff:10.0.0.9", 0, 0, -EINPROGRESS, "10.0.0.9", "10.0.0.2"},
    {IP_V6, true, "", "::ffff:10.0.0.9", 0, 0, -ENETUNREACH, NULL, NULL},
    {IP_V6, false, "::ffff:10.0.0.2", "2001:db8::9", 0, 0, -EAFNOSUPPORT, NULL, NULL},
    {IP_V6, false, "2001:db8::1", "::ffff:10.0.0.9", 0, 0, -ENETUNREACH, NULL, NULL},
    {IP_V6, false, "", "fe80::9", 0, 0, -EINVAL, NULL, NULL},
    {IP_V6, false, "", "ff02::1%1", 0, 0, -ENETUNREACH, NULL, NULL},
    {IP_V4, false, "", "224.0.0.1", 0, 0, -ENETUNREACH, NULL, NULL},
    {IP_V4, false, "", "255.255.255.255", 0, 0, -ENETUNREACH, NULL, NULL},
    {IP_V4, false, "", "2001:db8::9", 0, 0, -EAFNOSUPPORT, NULL, NULL},
    {IP_V6, false, "", "10.0.0.9", 0, 0, -EAFNOSUPPORT, NULL, NULL},
    {IP_V4, false, "", "10.0.0.255", -EACCES, 0, -ENETUNREACH, NULL, NULL},
    {IP_V4, false, "", "10.0.0.9", -ENETUNREACH, 0, -ENETUNREACH, NULL, NULL},
    {IP_V4, false, "", "10.0.0.9", -EHOSTUNREACH, 0, -EHOSTUNREACH, NULL, NULL},
    {IP_V4, false, "", "10.0.0.9", -EADDRNOTAVAIL, 0, -EADDRNOTAVAIL, NULL, NULL},
    {IP_V4, false, "", "10.0.0.9", 0, -EADDRINUSE, -EADDRNOTAVAIL, NULL, NULL},
    {IP_V4, false, "", "10.0.0.9", 0, -ENFILE, -ENFILE, NULL, NULL},
    {IP_V4, false, "", "10.0.0.9", 0, -ENOMEM, -ENOMEM, NULL, NULL},
};

static void check_tuple(const struct env *e, const struct sock *s, const struct target_row *row, size_t i)
{
    const struct ip_tuple *t = &fake_conn(e->tcp, sock_conn_id(s))->tuple;
    struct ip_addr dst = addr_of(row->dst);

    if (!ip_addr_eq(&t->remote, &dst))
        fail_msg("row %zu: remote", i);
    if (row->src) {
        struct ip_addr src = addr_of(row->src);

        if (!ip_addr_eq(&t->local, &src))
            fail_msg("row %zu: local", i);
    }
}

static void test_targets(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        const struct target_row *row = &targets[i];
        struct ip_addr to = addr_of(row->to), from = addr_of(row->bind);
        int32_t only = row->v6only;
        struct sock *s;
        struct env e;
        int r;

        env_init(&e);
        e.route_result = row->route_result;
        e.tcp->connect_result = row->engine_result;
        s = sock_new(e.ss, row->family, NULL);
        if (only)
            sock_setopt(s, SOCK_LEVEL_IPV6, SOCK_IPV6_V6ONLY, &only, sizeof only, 0);
        if (from.family != IP_NONE)
            assert_int_equal(sock_bind(s, &from, 0), 0);
        r = sock_connect(s, &to, 80, 0);
        if (r != row->result)
            fail_msg("row %zu: connect to %s: %d", i, row->to, r);
        if (r == -EINPROGRESS) {
            check_tuple(&e, s, row, i);
        } else { /* a failed call leaves the socket as it was */
            e.route_result = 0;
            e.tcp->connect_result = 0;
            assert_int_equal(s->phase, SOCK_UNCONNECTED);
            assert_int_equal(sock_poll(s), SOCK_POLLOUT | SOCK_POLLHUP);
            assert_int_equal(s->bind != NULL, from.family != IP_NONE);
        }
        sock_close(s, 0);
        env_free(&e);
    }
}

/* What happens to the SYN, and what the next three calls say. */
struct outcome_row {
    enum tcp_state state;
    int error;        /* that ends it, 0: none */
    bool read_error;  /* SO_ERROR is read first */
    int again[3];
};
static const struct outcome_row outcomes[] = {
    {TCP_STATE_SYN_SENT, 0, false, {-EALREADY, -EALREADY, -EALREADY}},
    {TCP_STATE_SYN_RECV, 0, false, {-EALREADY, -EALREADY, -EALREADY}},
    {TCP_STATE_ESTABLISHED, 0, false, {0, -EISCONN, -EISCONN}},
    {TCP_STATE_CLOSE_WAIT, 0, false, {0, -EISCONN, -EISCONN}},
    {TCP_STATE_CLOSE, ECONNREFUSED, false, {-ECONNREFUSED, -EINPROGRESS, -EALREADY}},
    {TCP_STATE_CLOSE, ETIMEDOUT, false, {-ETIMEDOUT, -EINPROGRESS, -EALREADY}},
    {TCP_STATE_CLOSE, EHOSTUNREACH, false, {-EHOSTUNREACH, -EINPROGRESS, -EALREADY}},
    {TCP_STATE_CLOSE, ENETUNREACH, false, {-ENETUNREACH, -EINPROGRESS, -EALREADY}},
    {TCP_STATE_CLOSE, ECONNREFUSED, true, {-ECONNABORTED, -EINPROGRESS, -EALREADY}},
};

static void test_outcomes(void **state)
{
    struct ip_addr to = addr_of("10.0.0.9");

    (void)state;
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        const struct outcome_row *row = &outcomes[i];
        struct sock *s;
        struct env e;

        env_init(&e);
        s = connecting(&e);
        fake_event(e.tcp, sock_conn_id(s), row->state, row->error ? TCP_EVENT_ERROR | TCP_EVENT_CLOSED : 0, row->error);
        if (row->read_error) {
            assert_int_equal(sock_poll(s), SOCK_POLLIN | SOCK_POLLOUT | SOCK_POLLERR | SOCK_POLLHUP | SOCK_POLLRDHUP);
            assert_int_equal(sock_take_error(s), row->error);
            assert_int_equal(sock_take_error(s), 0);
        }
        for (int k = 0; k < 3; k++) {
            int r = sock_connect(s, &to, 80, 0);

            if (r != row->again[k])
                fail_msg("row %zu: call %d: %d", i, k, r);
        }
        sock_close(s, 0);
        env_free(&e);
    }
}

static void test_events_of_connect(void **state)
{
    struct sock_event ev;
    struct sock *s;
    struct env e;
    int mark;

    (void)state;
    env_init(&e);
    s = connecting(&e);
    sock_set_user(s, &mark);
    assert_int_equal(sock_poll(s), 0);
    assert_false(sock_next_event(e.ss, &ev));
    fake_establish(e.tcp, sock_conn_id(s));
    assert_true(sock_next_event(e.ss, &ev));
    assert_ptr_equal(ev.sock, s);
    assert_ptr_equal(ev.user, &mark);
    assert_int_equal(ev.bits, SOCK_POLLOUT);
    assert_false(sock_next_event(e.ss, &ev));
    assert_ptr_equal(sock_by_conn(e.ss, sock_conn_id(s)), s);
    sock_close(s, 0);
    s = connecting(&e);
    fake_reset(e.tcp, sock_conn_id(s), ECONNREFUSED);
    assert_true(sock_next_event(e.ss, &ev));
    assert_int_equal(ev.bits, SOCK_POLLIN | SOCK_POLLOUT | SOCK_POLLERR | SOCK_POLLHUP | SOCK_POLLRDHUP);
    sock_close(s, 0);
    assert_false(sock_next_event(e.ss, &ev));
    env_free(&e);
}

static void test_names_mapped(void **state)
{
    struct ip_addr to = addr_of("::ffff:10.0.0.9"), from = addr_of("::ffff:10.0.0.1"), a;
    struct sock *s;
    struct env e;
    uint16_t port;

    (void)state;
    env_init(&e);
    s = sock_new(e.ss, IP_V6, NULL);
    assert_int_equal(sock_peer(s, &a, &port), -ENOTCONN);
    sock_connect(s, &to, 80, 0);
    assert_int_equal(sock_peer(s, &a, &port), -ENOTCONN); /* SYN-SENT */
    fake_establish(e.tcp, sock_conn_id(s));
    socks_drain(e.ss);
    assert_int_equal(sock_peer(s, &a, &port), 0);
    assert_true(ip_addr_eq(&a, &to));
    assert_int_equal(port, 80);
    sock_name(s, &a, &port);
    assert_true(ip_addr_eq(&a, &from));
    assert_in_range(port, 32768, 60999);
    sock_close(s, 0);
    env_free(&e);
}

/* ---- listen ---------------------------------------------------------------------------------------------------- */

static void test_listen(void **state)
{
    struct ip_addr to = addr_of("10.0.0.9"), a;
    struct tcp_listen_info info;
    struct sock *l, *c;
    struct env e;
    uint16_t port;
    int r;

    (void)state;
    env_init(&e);
    e.config.somaxconn = 100;
    l = sock_new(e.ss, IP_V6, NULL);
    assert_int_equal(sock_listen_info(l, &info), -EINVAL);
    assert_int_equal(sock_listen(l, 1000), 0); /* not bound: any address, a chosen port */
    assert_int_equal(sock_listen_info(l, &info), 0);
    assert_int_equal(info.addr.family, IP_NONE);
    assert_int_equal(info.backlog, 100);
    sock_name(l, &a, &port);
    assert_int_equal(port, info.port);
    assert_int_equal(sock_listen(l, 7), 0); /* again: another backlog */
    sock_listen_info(l, &info);
    assert_int_equal(info.backlog, 7);
    assert_int_equal(sock_connect(l, &(struct ip_addr){.family = IP_V6, .b = {0x20, 1}}, 80, 0), -EISCONN);
    assert_int_equal(sock_bind(l, &(struct ip_addr){.family = IP_NONE}, 81), -EINVAL);
    assert_int_equal(sock_send(l, "x", 1, 0, 0), -EPIPE);
    assert_int_equal(sock_recv(l, (char[1]){0}, 1, 0), -ENOTCONN);
    assert_int_equal(sock_poll(l), 0);
    c = connecting(&e);
    assert_int_equal(sock_listen(c, 1), -EINVAL);
    assert_ptr_equal(sock_next_listener(e.ss, NULL), l);
    assert_null(sock_next_listener(e.ss, l));
    assert_int_equal(sock_shutdown(l, SOCK_SHUT_WR, 0), 0); /* no effect */
    assert_int_equal(l->state, TCP_STATE_LISTEN);
    assert_int_equal(sock_shutdown(l, SOCK_SHUT_RD, 0), 0); /* ends it */
    assert_null(sock_next_listener(e.ss, NULL));
    assert_false(e.tcp->listener[0].used);
    assert_int_equal(sock_listen(l, 7), 0);
    sock_close(l, 0);
    sock_close(c, 0);
    l = bound(&e, "10.0.0.1", 80, false, &r);
    assert_int_equal(sock_connect(l, &to, 1, 0), -EINPROGRESS);
    fake_establish(e.tcp, sock_conn_id(l));
    assert_int_equal(sock_listen(l, 1), -EINVAL);
    sock_close(l, 0);
    env_free(&e);
}

static struct ip_tuple peer_tuple(uint16_t port)
{
    return (struct ip_tuple){addr_of("10.0.0.1"), addr_of("10.0.0.9"), 80, port};
}

static void test_accept_queue(void **state)
{
    struct ip_tuple t1 = peer_tuple(1001), t2 = peer_tuple(1002), t3 = peer_tuple(1003);
    struct ip_addr a, any6 = addr_of("::");
    struct sock *l, *c1, *c2, *c3;
    struct sock_event ev;
    tcp_id id1, id2;
    uint16_t port;
    struct env e;
    char buf[8];

    (void)state;
    env_init(&e);
    l = sock_new(e.ss, IP_V6, NULL);
    sock_bind(l, &any6, 80);
    sock_listen(l, 5);
    assert_null(sock_accept(l, NULL));
    id1 = fake_accept(e.tcp, l->more->listener, &t1);
    id2 = fake_accept(e.tcp, l->more->listener, &t2);
    assert_int_equal(sock_poll(l), SOCK_POLLIN);
    assert_true(sock_next_event(e.ss, &ev));
    assert_ptr_equal(ev.sock, l);
    assert_int_equal(ev.bits, SOCK_POLLIN);
    fake_data(e.tcp, id1, "hello");
    fake_reset(e.tcp, id2, ECONNRESET); /* it dies in the queue, and stays */
    assert_false(sock_next_event(e.ss, &ev));
    assert_null(sock_by_conn(e.ss, id1));
    c1 = sock_accept(l, &e);
    assert_ptr_equal(sock_by_conn(e.ss, id1), c1);
    assert_ptr_equal(sock_user(c1), &e);
    sock_peer(c1, &a, &port);
    assert_true(ip_addr_is_v4_mapped(&a));
    assert_int_equal(port, 1001);
    assert_true(sock_next_event(e.ss, &ev)); /* what came while it waited */
    assert_ptr_equal(ev.sock, c1);
    assert_int_equal(ev.bits, SOCK_POLLIN | SOCK_POLLOUT);
    c2 = sock_accept(l, NULL);
    assert_int_equal(sock_recv(c2, buf, 8, 0), -ECONNRESET);
    assert_int_equal(sock_recv(c2, buf, 8, 0), 0);
    assert_int_equal(sock_connect(c1, &any6, 1, 0), -EISCONN);
    assert_int_equal(e.tcp->listener[0].accepted, 2);
    assert_null(sock_accept(l, NULL));
    fake_accept(e.tcp, l->more->listener, &t3);
    sock_close(l, 0); /* the one not accepted is reset */
    assert_int_equal(e.tcp->aborts, 1);
    assert_false(e.tcp->listener[0].used);
    /* an event for a listener that is gone */
    c3 = sock_new(e.ss, IP_V4, NULL);
    fake_accept(e.tcp, 1, &t3);
    assert_int_equal(sock_poll(c3), SOCK_POLLOUT | SOCK_POLLHUP);
    assert_int_equal(e.tcp->aborts, 2);
    sock_close(c1, 0);
    sock_close(c2, 0);
    sock_close(c3, 0);
    assert_int_equal(e.ss->n_conns, 0);
    env_free(&e);
}

/* AF_UNSPEC: back to an unconnected socket. */
static void test_disconnect(void **state)
{
    struct ip_addr none = {.family = IP_NONE}, to = addr_of("10.0.0.9"), a;
    struct sock *s;
    uint16_t port;
    struct env e;
    int r;

    (void)state;
    env_init(&e);
    s = established(&e);
    assert_int_equal(sock_connect(s, &none, 0, 0), 0);
    assert_int_equal(e.tcp->aborts, 1);
    assert_int_equal(sock_take_error(s), ECONNRESET);
    sock_name(s, &a, &port);
    assert_int_equal(port, 0);
    assert_int_equal(sock_connect(s, &to, 80, 0), -EINPROGRESS);
    sock_close(s, 0);
    s = bound(&e, "10.0.0.1", 5000, false, &r);
    sock_connect(s, &to, 80, 0);
    fake_reset(e.tcp, sock_conn_id(s), ECONNREFUSED);
    assert_int_equal(sock_connect(s, &to, 80, 0), -ECONNREFUSED);
    sock_name(s, &a, &port);
    assert_int_equal(port, 5000); /* the program's choice stays */
    assert_int_equal(sock_connect(s, &to, 80, 0), -EINPROGRESS);
    sock_close(s, 0);
    env_free(&e);
}

/* Many at once: the table of connections grows, everyone is found, nothing is left. */
static void test_many(void **state)
{
    static struct sock *s[2000];
    struct ip_addr to = addr_of("10.0.0.9");
    struct env e;

    (void)state;
    env_init(&e);
    for (int i = 0; i < 2000; i++) {
        s[i] = sock_new(e.ss, IP_V4, NULL);
        assert_int_equal(sock_connect(s[i], &to, (uint16_t)(i + 1), 0), -EINPROGRESS);
    }
    assert_true(e.ss->by_conn_size >= 2000);
    for (int i = 0; i < 2000; i++)
        assert_ptr_equal(sock_by_conn(e.ss, sock_conn_id(s[i])), s[i]);
    for (int i = 0; i < 2000; i++)
        sock_abort(s[i], 0);
    assert_int_equal(e.tcp->aborts, 2000);
    assert_true(list_empty(&e.ss->left));
    env_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),      cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_events_of_connect), cmocka_unit_test(test_names_mapped),
        cmocka_unit_test(test_listen),       cmocka_unit_test(test_accept_queue),
        cmocka_unit_test(test_disconnect),   cmocka_unit_test(test_many),
    };

    printf("seed %u\n", SEED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
