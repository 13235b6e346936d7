/*
 * tests/unit/tcp/isn_test.c: initial sequence numbers grow with time, differ by tuple and secret (RFC 6528 section 3);
 * timestamp offsets are one per pair of hosts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tcp/tcp_priv.h"

static struct tcp_config config;
static const struct ip_tuple tuple = {
    .local = {.b = {10, 0, 0, 1}, .family = IP_V4},
    .remote = {.b = {10, 0, 0, 2}, .family = IP_V4},
    .local_port = 80,
    .remote_port = 4000,
};

static struct tcp *engine(void)
{
    static struct tcp t;

    tcp_config_defaults(&config);
    t.config = &config;
    t.secrets = (struct tcp_secrets){.isn = {1, 2}, .ts_offset = {3, 4}};
    return &t;
}

static void isn_is_hash_plus_clock(void **state)
{
    struct tcp *t = engine();
    uint32_t at_0 = tcp_isn(t, &tuple, 0);

    (void)state;
    assert_int_equal(at_0, (uint32_t)siphash(&t->secrets.isn, &tuple, sizeof tuple));
    assert_int_equal(tcp_isn(t, &tuple, 64), at_0 + 1);
    assert_int_equal(tcp_isn(t, &tuple, NSEC_PER_SEC), at_0 + 15625000u);
}

static void isn_differs_by_tuple_and_secret(void **state)
{
    struct tcp *t = engine();
    struct ip_tuple other = tuple;
    uint32_t one = tcp_isn(t, &tuple, 5);

    (void)state;
    other.remote_port++;
    assert_int_not_equal(tcp_isn(t, &other, 5), one);
    t->secrets.isn.k0++;
    assert_int_not_equal(tcp_isn(t, &tuple, 5), one);
}

static void ts_offset_is_of_the_hosts(void **state)
{
    struct tcp *t = engine();
    struct ip_tuple other = tuple;

    (void)state;
    other.remote_port++;
    assert_int_equal(tcp_ts_offset(t, &other), tcp_ts_offset(t, &tuple));
    other.remote.b[3]++;
    assert_int_not_equal(tcp_ts_offset(t, &other), tcp_ts_offset(t, &tuple));
    config.tcp_timestamps = 2;
    assert_int_equal(tcp_ts_offset(t, &tuple), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(isn_is_hash_plus_clock),
        cmocka_unit_test(isn_differs_by_tuple_and_secret),
        cmocka_unit_test(ts_offset_is_of_the_hosts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
