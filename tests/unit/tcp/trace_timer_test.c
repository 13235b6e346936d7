/*
 * tests/unit/tcp/trace_timer_test.c: timers that end connections: keepalive and user timeout; and what they
 * leave alone.
 */
#include "harness.h"

static struct harness *established(void)
{
    return h_passive("mss 1460", 65535);
}

static void keepalive_on(struct harness *h)
{
    expect(h, h_opt(h, TCP_OPT_KEEPIDLE, 10), 0);
    expect(h, h_opt(h, TCP_OPT_KEEPINTVL, 5), 0);
    expect(h, h_opt(h, TCP_OPT_KEEPCNT, 3), 0);
    expect(h, h_opt(h, TCP_OPT_KEEPALIVE, 1), 0);
}

static void keepalive_gives_up(void **st)
{
    struct harness *h = established();

    (void)st;
    keepalive_on(h);
    out_in(h, 10000, ". 0:0(0) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_PROBE_KEEPALIVE);
    out_in(h, 5000, ". 0:0(0) ack 1");
    out_in(h, 5000, ". 0:0(0) ack 1");
    out_in(h, 5000, "R. 1:1(0) ack 1");
    assert_int_equal(h->cause, TCP_CAUSE_RST_TIMEOUT);
    state(h, TCP_STATE_CLOSE);
    event(h, TCP_EVENT_ERROR | TCP_EVENT_CLOSED);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    h_free(h);
}

static void keepalive_answered(void **st)
{
    struct harness *h = established();

    (void)st;
    keepalive_on(h);
    for (int k = 0; k < 5; k++) {
        out_in(h, 10000, ". 0:0(0) ack 1");
        in(h, ". 1:1(0) ack 1 win 65535");
    }
    state(h, TCP_STATE_ESTABLISHED);
    h_free(h);
}

static void keepalive_put_off_by_data(void **st)
{
    struct harness *h = established();

    (void)st;
    keepalive_on(h);
    quiet(h, 6000);
    in(h, "P. 1:11(10) ack 1 win 65535");
    skip_out(h);
    quiet(h, 9900);
    pass_ms(h, 200);
    out(h, ". 0:0(0) ack 11");
    expect(h, h_opt(h, TCP_OPT_KEEPALIVE, 0), 0);
    quiet(h, 100000);
    h_free(h);
}

static void keepalive_default_is_off(void **st)
{
    struct harness *h = established();

    (void)st;
    quiet(h, 8000000);
    expect(h, h_opt(h, TCP_OPT_KEEPALIVE, 1), 0);
    in(h, "P. 1:11(10) ack 1 win 65535");
    skip_out(h);
    quiet(h, 7199000);
    pass_ms(h, 2000);
    out(h, ". 0:0(0) ack 11");
    h_free(h);
}

/* The idle time that has passed counts; the probe leaves at once, but by the timer (the deadline lies in the
 * future). */
static void keepidle_shorter_than_idle_time(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_KEEPALIVE, 1), 0);
    quiet(h, 60000);
    expect(h, h_opt(h, TCP_OPT_KEEPIDLE, 10), 0);
    out_in(h, 1, ". 0:0(0) ack 1");
    h_free(h);
}

static void user_timeout_data(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_USER_TIMEOUT, 3000), 0);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1:101(100) ack 1");
    pass_ms(h, 2500);
    state(h, TCP_STATE_ESTABLISHED);
    skip_out(h);
    pass_ms(h, 2000);
    skip_out(h);
    state(h, TCP_STATE_CLOSE);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    h_free(h);
}

static void user_timeout_window_probe(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_opt(h, TCP_OPT_USER_TIMEOUT, 3000), 0);
    in(h, ". 1:1(0) ack 1 win 0");
    expect(h, h_send(h, 100), 100);
    pass_ms(h, 2000);
    state(h, TCP_STATE_ESTABLISHED);
    skip_out(h);
    pass_ms(h, 5000);
    skip_out(h);
    state(h, TCP_STATE_CLOSE);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    h_free(h);
}

static void user_timeout_connect(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.tcp_user_timeout = 5000;
    expect(h, h_connect(h), 0);
    skip_out(h);
    pass_ms(h, 4500);
    state(h, TCP_STATE_SYN_SENT);
    skip_out(h);
    pass_ms(h, 4000);
    skip_out(h);
    state(h, TCP_STATE_CLOSE);
    assert_int_equal(h_flow(h)->error, ETIMEDOUT);
    h_free(h);
}

static void syncnt(void **st)
{
    struct harness *h = h_new();

    (void)st;
    expect(h, h_connect(h), 0);
    skip_out(h);
    expect(h, h_opt(h, TCP_OPT_SYNCNT, 1), 0);
    out_in(h, 1000, "S 0:0(0) <...>");
    quiet(h, 2100);
    state(h, TCP_STATE_CLOSE);
    h_free(h);
}

static void idle_is_silent(void **st)
{
    struct harness *h = established();

    (void)st;
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1:101(100) ack 1");
    in(h, ". 1:1(0) ack 101 win 65535");
    assert_true(tcp_deadline(h->t) == TIME_NEVER || tcp_deadline(h->t) > h->now);
    quiet(h, 10000000);
    assert_true(tcp_deadline(h->t) == TIME_NEVER);
    h_free(h);
}

static void options_round_trip(void **st)
{
    static const struct {
        enum tcp_opt opt;
        int32_t set, get;
    } rows[] = {
        {TCP_OPT_NODELAY, 1, 1},    {TCP_OPT_CORK, 1, 1},        {TCP_OPT_KEEPALIVE, 1, 1},
        {TCP_OPT_KEEPIDLE, 77, 77}, {TCP_OPT_KEEPINTVL, 33, 33}, {TCP_OPT_KEEPCNT, 4, 4},
        {TCP_OPT_SYNCNT, 3, 3},     {TCP_OPT_LINGER2, 30, 30},   {TCP_OPT_USER_TIMEOUT, 1234, 1234},
        {TCP_OPT_TOS, 0x20, 0x20},
    };
    struct harness *h = established();

    (void)st;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int32_t got = -99;

        expect(h, h_opt(h, rows[i].opt, rows[i].set), 0);
        assert_int_equal(tcp_get_opt(h->t, h_flow(h)->id, rows[i].opt, &got), 0);
        assert_int_equal(got, rows[i].get);
    }
    expect(h, h_opt(h, TCP_OPT_KEEPCNT, 0), -EINVAL);
    expect(h, h_opt(h, TCP_OPT_KEEPCNT, 128), -EINVAL);
    expect(h, h_opt(h, TCP_OPT_KEEPIDLE, 0), -EINVAL);
    expect(h, h_opt(h, TCP_OPT_USER_TIMEOUT, -1), -EINVAL);
    expect(h, h_opt(h, TCP_OPT_MAX, 0), -EINVAL);
    assert_int_equal(tcp_set_opt(h->t, 999, TCP_OPT_CORK, 0, h->now), -ENOENT);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keepalive_gives_up),
        cmocka_unit_test(keepalive_answered),
        cmocka_unit_test(keepalive_put_off_by_data),
        cmocka_unit_test(keepalive_default_is_off),
        cmocka_unit_test(keepidle_shorter_than_idle_time),
        cmocka_unit_test(user_timeout_data),
        cmocka_unit_test(user_timeout_window_probe),
        cmocka_unit_test(user_timeout_connect),
        cmocka_unit_test(syncnt),
        cmocka_unit_test(idle_is_silent),
        cmocka_unit_test(options_round_trip),
    };

    return cmocka_run_group_tests_name("tcp_trace_timer", tests, NULL, NULL);
}
