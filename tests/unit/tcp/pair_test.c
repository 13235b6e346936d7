/* Two engines, no harness between them: the whole library's first handshake, data, loss and close. */
#include "pair.h"

static int state_of(struct side *s, uint64_t now)
{
    struct tcp_info info;

    return tcp_get_info(s->t, s->id, now, &info) ? 0 : info.state;
}

static void handshake_data_close(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    pair_transfer(&p, 3000000, p.now + 60 * NSEC_PER_SEC);
    assert_int_equal(p.b.received, 3000000);
    assert_int_equal(tcp_close(p.a.t, p.a.id, p.now), 0);
    p.a.id = 0;
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    side_read(&p, &p.b);
    assert_true(p.b.eof);
    assert_int_equal(state_of(&p.b, p.now), TCP_STATE_CLOSE_WAIT);
    assert_int_equal(tcp_close(p.b.t, p.b.id, p.now), 0);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    {
        struct tcp_totals totals;

        tcp_get_totals(p.b.t, &totals);
        assert_int_equal(totals.conns, 0);
        tcp_get_totals(p.a.t, &totals);
        assert_int_equal(totals.conns, 0);
        assert_int_equal(totals.time_wait, 1);
        pair_run(&p, p.now + 61 * NSEC_PER_SEC);
        tcp_get_totals(p.a.t, &totals);
        assert_int_equal(totals.time_wait, 0);
    }
    pair_end(&p);
}

static void transfer_with_loss(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    p.loss_percent = 3;
    pair_transfer(&p, 2000000, p.now + 600 * NSEC_PER_SEC);
    assert_int_equal(p.b.received, 2000000);
    assert_true(tcp_get_counters(p.a.t)->retrans_segs > 0);
    pair_end(&p);
}

static void half_close(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    assert_int_equal(tcp_shutdown_write(p.b.t, p.b.id, p.now), 0);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    side_read(&p, &p.a);
    assert_true(p.a.eof);
    pair_transfer(&p, 500000, p.now + 60 * NSEC_PER_SEC);
    assert_int_equal(p.b.received, 500000);
    assert_int_equal(tcp_shutdown_write(p.a.t, p.a.id, p.now), 0);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    assert_int_equal(state_of(&p.b, p.now), TCP_STATE_CLOSE);
    assert_int_equal(state_of(&p.a, p.now), TCP_STATE_CLOSE);
    assert_int_equal(p.a.error, 0);
    assert_int_equal(p.b.error, 0);
    assert_int_equal(tcp_close(p.a.t, p.a.id, p.now), 0);
    assert_int_equal(tcp_close(p.b.t, p.b.id, p.now), 0);
    pair_end(&p);
}

static void close_with_unread_data_resets(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    side_write(&p, &p.a, 1000);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    assert_int_equal(tcp_close(p.b.t, p.b.id, p.now), 0);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    assert_int_equal(p.a.error, ECONNRESET);
    assert_true(p.a.events & TCP_EVENT_CLOSED);
    {
        uint8_t byte = 0;
        struct tcp_iov iov;
        bool eof = false;

        /* The error once, then the end. */
        assert_int_equal(tcp_send(p.a.t, p.a.id, &byte, 1, 0, p.now), -ECONNRESET);
        assert_int_equal(tcp_send(p.a.t, p.a.id, &byte, 1, 0, p.now), -EPIPE);
        assert_int_equal(tcp_recv_peek(p.a.t, p.a.id, &iov, 1, &eof), 0);
        assert_true(eof);
    }
    pair_end(&p);
}

static void abort_both_ways(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    assert_int_equal(tcp_abort(p.a.t, p.a.id, p.now), 0);
    assert_int_equal(tcp_abort(p.a.t, p.a.id, p.now), -ENOENT);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    assert_int_equal(p.b.error, ECONNRESET);
    assert_int_equal(tcp_get_causes(p.a.t)[TCP_CAUSE_RST_ABORT], 1);
    pair_end(&p);
}

static void simultaneous_open(void **unused)
{
    struct pair p;
    struct tcp_connect_args args = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};

    (void)unused;
    pair_init(&p);
    assert_int_equal(tcp_connect(p.a.t, &args, p.now, &p.a.id), 0);
    args.tuple = (struct ip_tuple){args.tuple.remote, args.tuple.local, PAIR_PORT, 40000};
    assert_int_equal(tcp_connect(p.b.t, &args, p.now, &p.b.id), 0);
    pair_run(&p, p.now + 20 * NSEC_PER_MSEC);
    assert_int_equal(state_of(&p.a, p.now), TCP_STATE_ESTABLISHED);
    assert_int_equal(state_of(&p.b, p.now), TCP_STATE_ESTABLISHED);
    pair_transfer(&p, 100000, p.now + 60 * NSEC_PER_SEC);
    assert_int_equal(p.b.received, 100000);
    pair_end(&p);
}

static void listener_close_resets(void **unused)
{
    struct pair p;
    struct tcp_listen_args la = {.port = PAIR_PORT, .backlog = 8};
    struct tcp_connect_args ca = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};
    struct tcp_listen_info info;

    (void)unused;
    pair_init(&p);
    assert_int_equal(tcp_listen(p.b.t, &la, &p.b.listener), 0);
    assert_int_equal(tcp_listen(p.b.t, &la, &p.b.listener), -EADDRINUSE);
    assert_int_equal(tcp_connect(p.a.t, &ca, p.now, &p.a.id), 0);
    side_output(&p, &p.a);
    p.now += 2 * p.delay;
    wire_deliver(&p, &p.a, &p.b);
    side_output(&p, &p.b);
    p.now += 2 * p.delay;
    wire_deliver(&p, &p.b, &p.a);
    side_output(&p, &p.a);
    p.now += 2 * p.delay;
    wire_deliver(&p, &p.a, &p.b);
    assert_int_equal(tcp_listen_info(p.b.t, p.b.listener, &info), 0);
    assert_int_equal(info.accept_queue, 1);
    tcp_listen_close(p.b.t, p.b.listener, p.now);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    assert_int_equal(p.a.error, ECONNRESET);
    pair_end(&p);
}

static struct tcp_info info_of(struct side *s, uint64_t now)
{
    struct tcp_info info;

    assert_int_equal(tcp_get_info(s->t, s->id, now, &info), 0);
    return info;
}

/* RFC 5927: only what is in flight can have provoked an error; on a connection it is remembered, no more. */
static void icmp_on_a_connection(void **unused)
{
    struct pair p;
    struct tcp_icmp icmp = {.tuple = pair_tuple(), .error = EHOSTUNREACH, .hard = true};
    struct tcp_info info;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    p.loss_percent = 100;
    side_write(&p, &p.a, 8000);
    side_output(&p, &p.a);
    info = info_of(&p.a, p.now);
    icmp.seq = info.snd_una - 1;
    tcp_icmp(p.a.t, &icmp, p.now);
    icmp.seq = info.snd_nxt;
    tcp_icmp(p.a.t, &icmp, p.now);
    assert_int_equal(tcp_get_drops(p.a.t)[TCP_DROP_ICMP_BAD_SEQ], 2);
    assert_int_equal(tcp_get_counters(p.a.t)->icmp_errors, 0);
    icmp.seq = info.snd_una;
    tcp_icmp(p.a.t, &icmp, p.now);
    assert_int_equal(tcp_get_counters(p.a.t)->icmp_errors, 1);
    assert_int_equal(state_of(&p.a, p.now), TCP_STATE_ESTABLISHED);
    pair_run(&p, p.now + 2000 * NSEC_PER_SEC); /* retransmissions go nowhere */
    assert_int_equal(p.a.error, EHOSTUNREACH);
    icmp.tuple.local_port++;
    tcp_icmp(p.a.t, &icmp, p.now);
    assert_int_equal(tcp_get_drops(p.a.t)[TCP_DROP_ICMP_NO_SOCKET], 1);
    pair_end(&p);
}

/* Packet too big: never raised, never below the least; what was too large leaves again, in pieces, at once.
 */
static void icmp_too_big(void **unused)
{
    struct pair p;
    struct tcp_icmp icmp = {.tuple = pair_tuple(), .error = EMSGSIZE};

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    p.loss_percent = 100;
    side_write(&p, &p.a, 5 * 1448);
    side_output(&p, &p.a);
    p.loss_percent = 0;
    icmp.seq = info_of(&p.a, p.now).snd_una;
    icmp.mtu = 1600;
    tcp_icmp(p.a.t, &icmp, p.now);
    assert_int_equal(info_of(&p.a, p.now).pmtu, 1500);
    icmp.mtu = 1000;
    tcp_icmp(p.a.t, &icmp, p.now);
    assert_int_equal(info_of(&p.a, p.now).pmtu, 1000);
    assert_true(info_of(&p.a, p.now).snd_mss <= 960);
    pair_run(&p, p.now + 100 * NSEC_PER_MSEC); /* sooner than any RTO */
    side_read(&p, &p.b);
    assert_int_equal(p.b.received, 5 * 1448);
    assert_int_equal(tcp_get_counters(p.a.t)->timeouts, 0);
    side_write(&p, &p.a, 9000);
    side_output(&p, &p.a);
    icmp.seq = info_of(&p.a, p.now).snd_una;
    icmp.mtu = 68;
    tcp_icmp(p.a.t, &icmp, p.now);
    assert_int_equal(info_of(&p.a, p.now).pmtu, 552);
    pair_end(&p);
}

static void icmp_ends_an_open(void **unused)
{
    struct pair p;
    struct tcp_connect_args args = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};
    struct tcp_icmp icmp = {.tuple = pair_tuple(), .error = ECONNREFUSED, .hard = true};

    (void)unused;
    pair_init(&p);
    p.loss_percent = 100;
    assert_int_equal(tcp_connect(p.a.t, &args, p.now, &p.a.id), 0);
    pair_turn(&p);
    icmp.seq = info_of(&p.a, p.now).iss;
    tcp_icmp(p.a.t, &icmp, p.now);
    pair_turn(&p);
    assert_int_equal(p.a.error, ECONNREFUSED);
    assert_int_equal(state_of(&p.a, p.now), TCP_STATE_CLOSE);
    pair_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_data_close),
        cmocka_unit_test(transfer_with_loss),
        cmocka_unit_test(half_close),
        cmocka_unit_test(close_with_unread_data_resets),
        cmocka_unit_test(abort_both_ways),
        cmocka_unit_test(simultaneous_open),
        cmocka_unit_test(listener_close_resets),
        cmocka_unit_test(icmp_on_a_connection),
        cmocka_unit_test(icmp_too_big),
        cmocka_unit_test(icmp_ends_an_open),
    };

    return cmocka_run_group_tests_name("tcp_pair", tests, NULL, NULL);
}
