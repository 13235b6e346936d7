/*
 * A device that is full (net.h: the pair's buffer holds few frames and the peer reads when it pleases): what it refuses
 * is taken back and goes later, so nothing counts as lost that never left, and the daemon does not spin meanwhile.
 */
#include "net.h"

#include "daemon/service.h"

#define CHARGEN 19
#define MORE (1u << 20)

static struct net *full_device(int sndbuf)
{
    struct net *n = net_new(32u << 20);
    char error[CONFIG_ERROR_MAX];

    n->config.chargen = (struct config_service){true, CHARGEN};
    n->config.tcp.tcp_early_retrans = 0; /* a tail loss probe on a busy machine is no loss */
    n->config.tcp.tcp_rto_min = 2000;
    n->config.tcp.tcp_rto_initial = 2000;
    if (services_open(&n->d, error, sizeof error) < 0)
        fail_msg("%s", error);
    assert_int_equal(setsockopt(n->tap.fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf), 0);
    return n;
}

static void refused_is_not_lost(void **state)
{
    static uint8_t buf[65536];
    struct net *n = full_device(20000);
    struct sock *s = peer_socket(n, HERE, CHARGEN);
    uint64_t got = 0;

    (void)state;
    WAIT(n, peer_established(n, s));
    while (got < MORE) {
        int64_t r = peer_read(s, buf, sizeof buf);

        assert_true(r > 0 || r == -EAGAIN);
        got += r > 0 ? (uint64_t)r : 0;
        net_turn(n);
    }
    assert_true(n->d.counters.tap_write_errors > 10);
    assert_true(stack_get_counters(n->d.stack)->tx_failed > 10);
    assert_int_equal(tcp_get_counters(n->d.tcp)->retrans_segs, 0);
    assert_null(tcp_check_all(n->d.tcp));
    sock_abort(s, daemon_now());
    services_close(&n->d);
    net_free(n);
}

/* The peer reads nothing at all: a handful of attempts, then quiet. */
static void no_busy_loop(void **state)
{
    struct net *n = full_device(4608);
    struct sock *s = peer_socket(n, HERE, CHARGEN);
    unsigned long long errors;

    (void)state;
    WAIT(n, peer_established(n, s));
    for (int i = 0; i < 1000; i++)
        ev_run(n->d.loop, EVRUN_NOWAIT);
    errors = n->d.counters.tap_write_errors;
    assert_true(errors > 0);
    for (int i = 0; i < 1000; i++)
        ev_run(n->d.loop, EVRUN_NOWAIT);
    assert_in_range(n->d.counters.tap_write_errors - errors, 0, 64);
    sock_abort(s, daemon_now());
    services_close(&n->d);
    net_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_is_not_lost),
        cmocka_unit_test(no_busy_loop),
    };

    return cmocka_run_group_tests_name("daemon_device", tests, NULL, NULL);
}
