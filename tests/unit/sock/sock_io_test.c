/*
 * send, recv, shutdown, close and poll: errno and readiness row by row, as tcp_sendmsg(), tcp_recvmsg(),
 * inet_shutdown(), tcp_close() and tcp_poll() give them.
 */
#include "env.h"

enum {
    IN = SOCK_POLLIN,
    OUT = SOCK_POLLOUT,
    ERR = SOCK_POLLERR,
    HUP = SOCK_POLLHUP,
    RDHUP = SOCK_POLLRDHUP,
};

/* How a socket gets where it is tested. Letters, done in order: */
static struct sock *play(struct env *e, const char *script)
{
    struct sock *s = sock_new(e->ss, IP_V4, NULL);
    struct ip_addr to = addr_of("10.0.0.9");

    for (; *script; script++) {
        tcp_id id = sock_conn_id(s);

        switch (*script) {
        case 'c': /* connect */
            assert_int_equal(sock_connect(s, &to, 80, 0), -EINPROGRESS);
            break;
        case 'e': /* established */
            fake_establish(e->tcp, id);
            break;
        case 'd': /* data comes */
            fake_data(e->tcp, id, "ab");
            break;
        case 'f': /* FIN comes */
            fake_fin(e->tcp, id);
            break;
        case 'r': /* RST comes */
            fake_reset(e->tcp, id, ECONNRESET);
            break;
        case 'p': /* RST comes in CLOSE-WAIT */
            fake_reset(e->tcp, id, EPIPE);
            break;
        case 'x': /* connection refused */
            fake_reset(e->tcp, id, ECONNREFUSED);
            break;
        case 't': /* timed out */
            fake_reset(e->tcp, id, ETIMEDOUT);
            break;
        case 'F': /* send buffer full */
            fake_conn(e->tcp, id)->space = 0;
            fake_conn(e->tcp, id)->writable = false;
            break;
        case '3': /* less than a third free */
            fake_conn(e->tcp, id)->writable = false;
            break;
        case 'R':
            sock_shutdown(s, SOCK_SHUT_RD, 0);
            break;
        case 'W':
            sock_shutdown(s, SOCK_SHUT_WR, 0);
            break;
        case 'B':
            sock_shutdown(s, SOCK_SHUT_RDWR, 0);
            break;
        case 'l':
            assert_int_equal(sock_listen(s, 1), 0);
            break;
        default:
            fail_msg("script");
        }
    }
    return s;
}

struct io_row {
    const char *script;
    int64_t result[3]; /* of three calls in a row */
};

/* One byte a call. */
static const struct io_row sends[] = {
    {"", {-EPIPE, -EPIPE, -EPIPE}},
    {"l", {-EPIPE, -EPIPE, -EPIPE}},
    {"c", {-EAGAIN, -EAGAIN, -EAGAIN}},
    {"cx", {-ECONNREFUSED, -EPIPE, -EPIPE}},
    {"ct", {-ETIMEDOUT, -EPIPE, -EPIPE}},
    {"ce", {1, 1, 1}},
    {"ceF", {-EAGAIN, -EAGAIN, -EAGAIN}},
    {"ce3", {1, 1, 1}},
    {"ceW", {-EPIPE, -EPIPE, -EPIPE}},
    {"ceB", {-EPIPE, -EPIPE, -EPIPE}},
    {"ceR", {1, 1, 1}},
    {"cef", {1, 1, 1}},
    {"cefW", {-EPIPE, -EPIPE, -EPIPE}},
    {"cer", {-ECONNRESET, -EPIPE, -EPIPE}},
    {"ceWr", {-ECONNRESET, -EPIPE, -EPIPE}},
    {"cefp", {-EPIPE, -EPIPE, -EPIPE}},
    {"cet", {-ETIMEDOUT, -EPIPE, -EPIPE}},
    {"ceWf", {-EPIPE, -EPIPE, -EPIPE}},
    {"Wce", {-EPIPE, -EPIPE, -EPIPE}}, /* shutdown() before connect() fails, yet stays */
};

/* Up to eight bytes a call. */
static const struct io_row recvs[] = {
    {"", {-ENOTCONN, -ENOTCONN, -ENOTCONN}},
    {"l", {-ENOTCONN, -ENOTCONN, -ENOTCONN}},
    {"c", {-EAGAIN, -EAGAIN, -EAGAIN}},
    {"cx", {-ECONNREFUSED, 0, 0}},
    {"ce", {-EAGAIN, -EAGAIN, -EAGAIN}},
    {"ced", {2, -EAGAIN, -EAGAIN}},
    {"cedf", {2, 0, 0}},
    {"cef", {0, 0, 0}},
    {"cer", {-ECONNRESET, 0, 0}},
    {"cedr", {2, -ECONNRESET, 0}},
    {"cefp", {0, 0, 0}},
    {"cedt", {2, -ETIMEDOUT, 0}},
    {"ceR", {0, 0, 0}},
    {"cedR", {2, 0, 0}},
    {"ceW", {-EAGAIN, -EAGAIN, -EAGAIN}},
    {"ceWd", {2, -EAGAIN, -EAGAIN}},
    {"ceWdf", {2, 0, 0}},
    {"R", {0, 0, 0}},
    {"W", {-ENOTCONN, -ENOTCONN, -ENOTCONN}},
};

static void run_io(const struct io_row *rows, size_t n, bool is_send)
{
    for (size_t i = 0; i < n; i++) {
        struct sock *s;
        struct env e;
        char buf[8];

        env_init(&e);
        s = play(&e, rows[i].script);
        for (int k = 0; k < 3; k++) {
            int64_t r = is_send ? sock_send(s, "x", 1, 0, 0) : sock_recv(s, buf, sizeof buf, 0);

            if (r != rows[i].result[k])
                fail_msg("%s after \"%s\", call %d: %lld", is_send ? "send" : "recv", rows[i].script, k, (long long)r);
        }
        sock_close(s, 0);
        env_free(&e);
    }
}

static void test_send(void **state)
{
    (void)state;
    run_io(sends, sizeof sends / sizeof sends[0], true);
}

static void test_recv(void **state)
{
    (void)state;
    run_io(recvs, sizeof recvs / sizeof recvs[0], false);
}

static const struct {
    const char *script;
    unsigned bits;
} polls[] = {
    {"", OUT | HUP},
    {"l", 0},
    {"c", 0},
    {"cx", IN | OUT | ERR | HUP | RDHUP},
    {"ce", OUT},
    {"ced", IN | OUT},
    {"ceF", 0},
    {"ce3", 0},
    {"ce3d", IN},
    {"cef", IN | OUT | RDHUP},
    {"cef3", IN | RDHUP},
    {"ceR", IN | OUT | RDHUP},
    {"ceW", OUT},
    {"ce3W", OUT},
    {"ceB", IN | OUT | HUP | RDHUP},
    {"ceWf", IN | OUT | HUP | RDHUP},
    {"cefW", IN | OUT | HUP | RDHUP},
    {"cer", IN | OUT | ERR | HUP | RDHUP},
};

static void test_poll(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof polls / sizeof polls[0]; i++) {
        struct sock *s;
        struct env e;
        unsigned bits;

        env_init(&e);
        s = play(&e, polls[i].script);
        bits = sock_poll(s);
        if (bits != polls[i].bits)
            fail_msg("poll after \"%s\": %#x", polls[i].script, bits);
        sock_close(s, 0);
        env_free(&e);
    }
}

static const struct {
    const char *script;
    enum sock_how how;
    int result, writes, reads, error;
    uint8_t state;
} shutdowns[] = {
    {"", SOCK_SHUT_RDWR, -ENOTCONN, 0, 0, 0, TCP_STATE_CLOSE},
    {"c", SOCK_SHUT_WR, 0, 0, 0, ECONNRESET, TCP_STATE_CLOSE},
    {"ce", SOCK_SHUT_RD, 0, 0, 0, 0, TCP_STATE_ESTABLISHED},
    {"ce", SOCK_SHUT_WR, 0, 1, 0, 0, TCP_STATE_FIN_WAIT1},
    {"ce", SOCK_SHUT_RDWR, 0, 1, 1, 0, TCP_STATE_FIN_WAIT1},
    {"cef", SOCK_SHUT_WR, 0, 1, 1, 0, TCP_STATE_LAST_ACK},
    {"ced", SOCK_SHUT_RDWR, 0, 1, 0, 0, TCP_STATE_FIN_WAIT1}, /* unread: still to be had */
    {"cer", SOCK_SHUT_WR, -ENOTCONN, 0, 0, ECONNRESET, TCP_STATE_CLOSE},
    {"ce", (enum sock_how)3, -EINVAL, 0, 0, 0, TCP_STATE_ESTABLISHED},
};

static void test_shutdown(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shutdowns / sizeof shutdowns[0]; i++) {
        struct sock *s;
        struct env e;
        int r;

        env_init(&e);
        s = play(&e, shutdowns[i].script);
        r = sock_shutdown(s, shutdowns[i].how, 0);
        if (r != shutdowns[i].result)
            fail_msg("row %zu: %d", i, r);
        socks_drain(e.ss);
        assert_int_equal(s->state, shutdowns[i].state);
        if (sock_conn_id(s)) {
            assert_int_equal(fake_conn(e.tcp, sock_conn_id(s))->shutdown_writes, shutdowns[i].writes);
            assert_int_equal(fake_conn(e.tcp, sock_conn_id(s))->shutdown_reads, shutdowns[i].reads);
        }
        assert_int_equal(sock_take_error(s), shutdowns[i].error);
        sock_close(s, 0);
        env_free(&e);
    }
}

static const struct {
    int32_t on, seconds;
    bool abort;
    int closes, aborts;
} closes[] = {
    {0, 0, false, 1, 0},
    {1, 5, false, 1, 0}, /* we don't wait: an orphan */
    {1, 0, false, 0, 1}, /* RST */
    {0, 0, true, 0, 1},
};

static void test_close(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof closes / sizeof closes[0]; i++) {
        int32_t linger[2] = {closes[i].on, closes[i].seconds};
        struct sock *s;
        struct env e;

        env_init(&e);
        s = play(&e, "ce");
        sock_setopt(s, SOCK_LEVEL_SOCKET, SOCK_SO_LINGER, linger, sizeof linger, 0);
        if (closes[i].abort)
            sock_abort(s, 0);
        else
            sock_close(s, 0);
        assert_int_equal(e.tcp->closes, closes[i].closes);
        assert_int_equal(e.tcp->aborts, closes[i].aborts);
        env_free(&e);
    }
}

/* Bytes across several places, in parts; zero-copy; an error behind data waits for the next call. */
static void test_bytes(void **state)
{
    struct tcp_iov iov[4];
    struct sock *s;
    struct env e;
    char buf[16];
    bool eof;

    (void)state;
    env_init(&e);
    s = play(&e, "ce");
    fake_data(e.tcp, sock_conn_id(s), "hello world");
    assert_int_equal(sock_recv(s, buf, 4, 0), 4);
    assert_memory_equal(buf, "hell", 4);
    assert_int_equal(sock_recv_peek(s, iov, 4, &eof), 2);
    assert_false(eof);
    assert_memory_equal(iov[1].data, "orld", 4);
    sock_recv_consume(s, 1, 0);
    fake_reset(e.tcp, sock_conn_id(s), ECONNRESET);
    assert_int_equal(sock_recv(s, buf, 16, 0), 6);
    assert_memory_equal(buf, " world", 6);
    assert_int_equal(sock_recv(s, buf, 0, 0), 0);
    assert_int_equal(sock_recv(s, buf, 16, 0), -ECONNRESET);
    assert_int_equal(sock_recv(s, buf, 16, 0), 0);
    sock_close(s, 0);
    s = play(&e, "ce");
    e.tcp->tx_len = 0;
    fake_conn(e.tcp, sock_conn_id(s))->space = 5;
    assert_int_equal(sock_send_reserve(s, 100, iov, 4), 1);
    assert_int_equal(iov[0].len, 5);
    memcpy(iov[0].data, "abc", 3);
    assert_int_equal(sock_send_commit(s, 3, 0, 0), 0);
    assert_int_equal(sock_send(s, "defg", 4, 0, 0), 2);
    assert_int_equal(sock_send_reserve(s, 1, iov, 4), -EAGAIN);
    assert_memory_equal(e.tcp->tx, "abcde", 5);
    assert_int_equal(sock_send(s, "", 0, 0, 0), 0);
    sock_close(s, 0);
    env_free(&e);
}

/* Edge events: once for each thing that happened, none for what no longer holds. */
static void test_events(void **state)
{
    struct sock_event ev;
    struct sock *s, *s2;
    struct env e;
    char buf[8];

    (void)state;
    env_init(&e);
    s = play(&e, "ce");
    s2 = play(&e, "ce");
    while (sock_next_event(e.ss, &ev))
        ;
    fake_data(e.tcp, sock_conn_id(s), "x");
    assert_true(sock_next_event(e.ss, &ev));
    assert_ptr_equal(ev.sock, s);
    assert_int_equal(ev.bits, IN);
    assert_false(sock_next_event(e.ss, &ev));
    fake_data(e.tcp, sock_conn_id(s), "y");
    assert_int_equal(sock_recv(s, buf, 8, 0), 2);
    assert_false(sock_next_event(e.ss, &ev)); /* read already */
    fake_fin(e.tcp, sock_conn_id(s));
    fake_conn(e.tcp, sock_conn_id(s2))->bits |= TCP_EVENT_WRITABLE;
    assert_true(sock_next_event(e.ss, &ev));
    assert_int_equal(ev.bits, IN | RDHUP);
    assert_true(sock_next_event(e.ss, &ev));
    assert_ptr_equal(ev.sock, s2);
    assert_int_equal(ev.bits, OUT);
    fake_conn(e.tcp, sock_conn_id(s2))->bits |= TCP_EVENT_URGENT;
    assert_true(sock_next_event(e.ss, &ev));
    assert_int_equal(ev.bits, SOCK_POLLPRI);
    sock_shutdown(s, SOCK_SHUT_WR, 0);
    assert_true(sock_next_event(e.ss, &ev));
    assert_true(ev.bits & HUP);
    fake_data(e.tcp, sock_conn_id(s2), "z");
    socks_drain(e.ss);
    sock_close(s2, 0); /* with an event pending */
    assert_false(sock_next_event(e.ss, &ev));
    sock_close(s, 0);
    env_free(&e);
}

/* sock_later(): an event whatever the readiness, after socks_resume(); one that starves may have another before. */
static void test_later(void **state)
{
    struct sock_event ev;
    struct sock *a, *b, *c;
    struct env e;

    (void)state;
    env_init(&e);
    a = play(&e, "ceF");
    b = play(&e, "ceF");
    c = play(&e, "ceF");
    while (sock_next_event(e.ss, &ev))
        ;
    sock_later(a, false);
    sock_later(b, true);
    sock_later(c, true);
    sock_later(c, true); /* once is enough */
    assert_false(sock_next_event(e.ss, &ev));
    fake_data(e.tcp, sock_conn_id(b), "x");
    assert_true(sock_next_event(e.ss, &ev));
    assert_ptr_equal(ev.sock, b);
    fake_data(e.tcp, sock_conn_id(a), "x"); /* work that was left waits for its turn */
    assert_false(sock_next_event(e.ss, &ev));
    assert_false(socks_resume(e.ss, false, 10));
    assert_true(sock_next_event(e.ss, &ev));
    assert_ptr_equal(ev.sock, a);
    assert_false(sock_next_event(e.ss, &ev));
    sock_later(a, true);
    assert_true(socks_resume(e.ss, true, 1)); /* the oldest first; one is left */
    assert_true(sock_next_event(e.ss, &ev));
    assert_ptr_equal(ev.sock, c);
    assert_int_equal(ev.bits, IN | OUT); /* though it is neither */
    assert_false(sock_next_event(e.ss, &ev));
    sock_close(a, 0); /* forgets it */
    assert_false(socks_resume(e.ss, true, 1));
    assert_false(sock_next_event(e.ss, &ev));
    sock_close(b, 0);
    sock_close(c, 0);
    env_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_later),
        cmocka_unit_test(test_send),  cmocka_unit_test(test_recv),  cmocka_unit_test(test_poll),
        cmocka_unit_test(test_shutdown), cmocka_unit_test(test_close), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_events),
    };

    printf("seed %u\n", SEED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
