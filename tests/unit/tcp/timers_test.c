/*
 * Timers against a peer that has vanished: when a connection gives up, what it sends until then, and what its
 * owner hears. pair_run() asserts on every turn that the deadline lies in the future and that the invariants
 * hold.
 */
#include "pair.h"
#include "tcp/tcp_priv.h"

static uint64_t seconds_until_closed(struct pair *p, struct side *s, unsigned most)
{
    uint64_t begin = p->now;

    s->events = 0;
    while (!(s->events & TCP_EVENT_CLOSED)) {
        uint64_t at = pair_next_at(p);

        if (at > begin + most * NSEC_PER_SEC)
            return UINT64_MAX;
        p->now = at;
        pair_turn(p);
    }
    return (p->now - begin + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
}

/* RFC 6298, Linux: 1, 2, 4, ... s; 6 retries end after 127 s. */
static void syn_gives_up(void **unused)
{
    struct tcp_connect_args args = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};
    struct pair p;

    (void)unused;
    pair_init(&p);
    p.loss_percent = 100;
    assert_int_equal(tcp_connect(p.a.t, &args, p.now, &p.a.id), 0);
    pair_turn(&p);
    assert_int_equal(seconds_until_closed(&p, &p.a, 1000), 127);
    assert_int_equal(p.a.error, ETIMEDOUT);
    assert_int_equal(tcp_get_causes(p.a.t)[TCP_CAUSE_SYN], 1);
    assert_int_equal(tcp_get_causes(p.a.t)[TCP_CAUSE_SYN_RETRANS], 6);
    pair_end(&p);
}

static void syncnt_option(void **unused)
{
    struct tcp_connect_args args = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};
    struct pair p;

    (void)unused;
    pair_init(&p);
    p.loss_percent = 100;
    assert_int_equal(tcp_connect(p.a.t, &args, p.now, &p.a.id), 0);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_SYNCNT, 2, p.now), 0);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_SYNCNT, 0, p.now), -EINVAL);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_USER_TIMEOUT, 100000, p.now), 0);
    pair_turn(&p);
    assert_int_equal(seconds_until_closed(&p, &p.a, 1000), 7);
    pair_end(&p);
}

/* tcp_retries2 = 15 is a time: the sum of 200 ms doubled up to 120 s, 924.6 s; the next timeout behind it
 * ends it. */
static void data_gives_up(void **unused)
{
    struct pair p;
    uint64_t s;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    p.loss_percent = 100;
    side_write(&p, &p.a, 1000);
    pair_turn(&p);
    s = seconds_until_closed(&p, &p.a, 2000);
    assert_true(s >= 924 && s <= 924 + 121);
    assert_int_equal(p.a.error, ETIMEDOUT);
    assert_int_equal(tcp_get_counters(p.a.t)->abort_on_timeout, 1);
    pair_end(&p);
}

static void user_timeout(void **unused)
{
    struct pair p;
    uint64_t s;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_USER_TIMEOUT, 10000, p.now), 0);
    p.loss_percent = 100;
    side_write(&p, &p.a, 1000);
    pair_turn(&p);
    s = seconds_until_closed(&p, &p.a, 2000);
    assert_true(s >= 10 && s <= 11);
    pair_end(&p);
}

/* First probe after KEEPIDLE, then KEEPCNT of them KEEPINTVL apart, then RST and ETIMEDOUT. */
static void keepalive_gives_up(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_KEEPALIVE, 1, p.now), 0);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_KEEPIDLE, 100, p.now), 0);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_KEEPINTVL, 10, p.now), 0);
    assert_int_equal(tcp_set_opt(p.a.t, p.a.id, TCP_OPT_KEEPCNT, 3, p.now), 0);
    pair_run(&p, p.now + 1000 * NSEC_PER_SEC); /* the peer answers */
    assert_false(p.a.events & TCP_EVENT_CLOSED);
    assert_true(tcp_get_causes(p.a.t)[TCP_CAUSE_PROBE_KEEPALIVE] >= 9);
    assert_true(tcp_get_causes(p.b.t)[TCP_CAUSE_ACK_KEEPALIVE] >= 9);
    p.loss_percent = 100;
    {
        uint64_t s = seconds_until_closed(&p, &p.a, 1000);

        assert_true(s >= 30 && s <= 130);
    }
    assert_int_equal(p.a.error, ETIMEDOUT);
    assert_int_equal(tcp_get_causes(p.a.t)[TCP_CAUSE_RST_TIMEOUT], 1);
    pair_end(&p);
}

/* An orphan in FIN-WAIT-2 goes after tcp_fin_timeout; an owned one stays. */
static void fin_wait2(void **unused)
{
    struct pair p;
    struct tcp_totals totals;

    (void)unused;
    pair_init(&p);
    p.a.config.tcp_fin_timeout = 20;
    pair_connect(&p);
    assert_int_equal(tcp_shutdown_write(p.a.t, p.a.id, p.now), 0);
    pair_run(&p, p.now + 1000 * NSEC_PER_SEC);
    tcp_get_totals(p.a.t, &totals);
    assert_int_equal(totals.conns, 1);
    assert_int_equal(totals.orphans, 0);
    assert_int_equal(tcp_close(p.a.t, p.a.id, p.now), 0);
    tcp_get_totals(p.a.t, &totals);
    assert_int_equal(totals.orphans, 1);
    pair_run(&p, p.now + 19 * NSEC_PER_SEC);
    tcp_get_totals(p.a.t, &totals);
    assert_int_equal(totals.conns, 1);
    pair_run(&p, p.now + 2 * NSEC_PER_SEC);
    tcp_get_totals(p.a.t, &totals);
    assert_int_equal(totals.conns, 0);
    assert_int_equal(totals.orphans, 0);
    pair_end(&p);
}

/* An orphan whose FIN is never acknowledged. */
static void orphan_gives_up(void **unused)
{
    struct pair p;
    struct tcp_totals totals;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    p.loss_percent = 100;
    assert_int_equal(tcp_close(p.a.t, p.a.id, p.now), 0);
    pair_run(&p, p.now + 50 * NSEC_PER_SEC);
    tcp_get_totals(p.a.t, &totals);
    assert_int_equal(totals.orphans, 1);
    pair_run(&p, p.now + 250 * NSEC_PER_SEC);
    tcp_get_totals(p.a.t, &totals);
    assert_int_equal(totals.orphans, 0);
    assert_int_equal(totals.conns, 0);
    pair_end(&p);
}

static void orphan_limit(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    p.a.config.tcp_max_orphans = 0;
    assert_int_equal(tcp_close(p.a.t, p.a.id, p.now), 0);
    pair_run(&p, p.now + NSEC_PER_SEC);
    assert_int_equal(tcp_get_causes(p.a.t)[TCP_CAUSE_RST_ORPHAN_LIMIT], 1);
    assert_int_equal(p.b.error, ECONNRESET);
    pair_end(&p);
}

/* Moving deadlines about: the wheel is never later than the earliest, and nothing happens before one. */
static void lazy_wheel(void **unused)
{
    struct pair p;
    struct tcp_conn *c;
    struct rng rng;

    (void)unused;
    printf("seed 3\n");
    rng_seed(&rng, 3);
    pair_init(&p);
    p.a.config.tcp_park_after = 0; /* c stays where it is */
    pair_connect(&p);
    c = tcp_conn_by_id(p.a.t, p.a.id);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = p.now + 1 + rng_below(&rng, 5 * NSEC_PER_SEC);
        uint64_t due;

        tcp_timer_set(p.a.t, c, TCP_TIMER_PACING, rng_below(&rng, 5) ? at : TIME_NEVER);
        due = c->timer_at[TCP_TIMER_PACING];
        assert_true(c->timer.at <= due);
        p.now += rng_below(&rng, 3 * NSEC_PER_SEC);
        tcp_expire(p.a.t, p.now);
        assert_int_equal(c->timer_at[TCP_TIMER_PACING], due <= p.now ? TIME_NEVER : due);
        assert_int_equal(list_linked(&c->ready), due <= p.now);
        side_output(&p, &p.a);
    }
    pair_end(&p);
}

/* The last ACK takes the sender's last deadline, and its timer goes with it: nothing wakes up for nothing later. */
static void idle_has_no_timer(void **unused)
{
    struct pair p;

    (void)unused;
    pair_init(&p);
    p.a.config.tcp_park_after = 0;
    pair_connect(&p);
    pair_run(&p, p.now + 10 * NSEC_PER_SEC);
    side_write(&p, &p.a, 100);
    side_output(&p, &p.a);
    assert_true(tcp_deadline(p.a.t) < p.now + 2 * NSEC_PER_SEC);
    while (p.b.received < 100 || p.a.first || p.b.first) {
        p.now = pair_next_at(&p);
        pair_turn(&p);
        side_read(&p, &p.b);
        side_output(&p, &p.b); /* quickly: reading may owe a window update */
    }
    assert_true(tcp_deadline(p.a.t) > p.now);
    pair_run(&p, p.now + 50 * NSEC_PER_MSEC); /* the ACK may have been delayed */
    assert_true(tcp_deadline(p.a.t) == TIME_NEVER);
    pair_end(&p);
}

/* No route: it ends a SYN-SENT; others are tried again by the timer, without spinning (asserted by
 * pair_turn()). */
static void unreachable(void **unused)
{
    struct tcp_connect_args args = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    side_write(&p, &p.a, 100);
    tcp_suspend(p.a.t, p.a.id);
    side_output(&p, &p.a);
    assert_null(p.a.first);
    tcp_unreachable(p.a.t, p.a.id, EHOSTUNREACH, p.now);
    side_output(&p, &p.a);
    assert_null(p.a.first);
    pair_run(&p, p.now + 2 * NSEC_PER_SEC);
    side_read(&p, &p.b);
    assert_int_equal(p.b.received, 100);
    args.tuple.local_port = 40001;
    assert_int_equal(tcp_connect(p.b.t, &args, p.now, &p.b.id), 0);
    tcp_unreachable(p.b.t, p.b.id, EHOSTUNREACH, p.now);
    side_events(&p.b);
    assert_int_equal(p.b.error, EHOSTUNREACH);
    pair_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(syn_gives_up),       cmocka_unit_test(syncnt_option),
        cmocka_unit_test(data_gives_up),      cmocka_unit_test(user_timeout),
        cmocka_unit_test(keepalive_gives_up), cmocka_unit_test(fin_wait2),
        cmocka_unit_test(orphan_gives_up),    cmocka_unit_test(orphan_limit),
        cmocka_unit_test(lazy_wheel),         cmocka_unit_test(unreachable),
        cmocka_unit_test(idle_has_no_timer),
    };

    return cmocka_run_group_tests_name("tcp_timers", tests, NULL, NULL);
}
