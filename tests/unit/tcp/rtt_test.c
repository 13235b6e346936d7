/*
 * The RTT estimator against figures worked out by hand from tcp_rtt_estimator's rules, and its bounds on
 * random input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/time.h"
#include "tcp/rtt.h"

#define MIN_US 200000u
#define MAX_US 120000000u
#define SEED   20261123u

static void sample(struct tcp_rtt *r, uint32_t us, uint32_t una, uint32_t nxt)
{
    tcp_rtt_sample(r, us, una, nxt, MIN_US, MAX_US);
}

static void first(void **state)
{
    struct tcp_rtt r;

    (void)state;
    tcp_rtt_init(&r, 1000000);
    assert_int_equal(r.rto_us, 1000000);
    assert_int_equal(r.srtt_us, 0);
    sample(&r, 100000, 1, 1001);
    assert_int_equal(r.srtt_us, 800000);
    assert_int_equal(r.mdev_us, 200000);
    assert_int_equal(r.rttvar_us, 200000);
    assert_int_equal(r.rtt_seq, 1001);
    assert_int_equal(r.rto_us, 300000);
    tcp_rtt_init(&r, 1000000);
    sample(&r, 300000, 1, 1001); /* RFC 6298 section 2.2: R + 4 * R / 2 */
    assert_int_equal(r.rto_us, 900000);
}

/* The least RTO is srtt + tcp_rto_min, in whole milliseconds, upwards. */
static void lower_bound(void **state)
{
    struct tcp_rtt r;

    (void)state;
    tcp_rtt_init(&r, 1000000);
    for (uint32_t i = 0; i < 100; i++)
        sample(&r, 50, i * 1000, i * 1000 + 1000);
    assert_int_equal(r.srtt_us >> 3, 50);
    assert_int_equal(r.rto_us, 201000);
    tcp_rtt_init(&r, 1000000);
    sample(&r, 0, 1, 2);
    assert_int_equal(r.srtt_us, 8);
}

static void second(void **state)
{
    struct tcp_rtt r;

    (void)state;
    tcp_rtt_init(&r, 1000000);
    sample(&r, 100000, 1, 1001);
    sample(&r, 180000, 500, 1001); /* err 80000: srtt 110000, mdev 200000 + 80000 - 50000 */
    assert_int_equal(r.srtt_us, 880000);
    assert_int_equal(r.mdev_us, 230000);
    assert_int_equal(r.mdev_max_us, 230000);
    assert_int_equal(r.rttvar_us, 230000);
    assert_int_equal(r.rto_us, 340000);
    sample(&r, 30000, 600, 1001); /* err -80000; the excess over mdev counts an eighth: (80000 - 57500) / 8 */
    assert_int_equal(r.srtt_us, 800000);
    assert_int_equal(r.mdev_us, 232812);
}

/* rttvar rises at once and sinks by a quarter of the difference each round trip. */
static void sinks_once_a_round_trip(void **state)
{
    struct tcp_rtt r;
    uint32_t before;

    (void)state;
    tcp_rtt_init(&r, 1000000);
    sample(&r, 100000, 1, 1000);
    sample(&r, 900000, 500, 1000);
    before = r.rttvar_us;
    assert_true(before > 900000);
    sample(&r, 100000, 1000, 2000); /* una = rtt_seq: not over yet */
    assert_int_equal(r.rttvar_us, before);
    for (uint32_t i = 0; i < 40; i++)
        sample(&r, 200000, 1001, 2000);
    before = r.rttvar_us;
    sample(&r, 200000, 2001, 3000);
    assert_true(r.rttvar_us <= before);
    assert_int_equal(r.mdev_max_us, MIN_US);
}

static void bounds(void **state)
{
    struct tcp_rtt r;
    struct rng rng;
    uint32_t seq = 0xfffff000u;

    (void)state;
    printf("seed %u\n", SEED);
    rng_seed(&rng, SEED);
    tcp_rtt_init(&r, 1000000);
    for (int i = 0; i < 100000; i++) {
        seq += (uint32_t)rng_below(&rng, 3000);
        sample(&r, (uint32_t)rng_next(&rng) >> rng_below(&rng, 32), seq, seq + 5000);
        assert_true(r.rto_us >= MIN_US && r.rto_us <= MAX_US);
        assert_true(r.rttvar_us >= MIN_US && r.srtt_us > 0);
        assert_true(r.mdev_max_us >= MIN_US);
    }
}

static void backoff(void **state)
{
    struct tcp_rtt r;

    (void)state;
    tcp_rtt_init(&r, 1000000);
    assert_int_equal(tcp_rtt_backed_off_us(&r, 0, MAX_US), 1000000);
    assert_int_equal(tcp_rtt_backed_off_us(&r, 3, MAX_US), 8000000);
    assert_int_equal(tcp_rtt_backed_off_us(&r, 7, MAX_US), MAX_US);
    assert_int_equal(tcp_rtt_backed_off_us(&r, 255, MAX_US), MAX_US);
}

static void minimum(void **state)
{
    struct tcp_rtt r;

    (void)state;
    tcp_rtt_init(&r, 1000000);
    tcp_rtt_update_min(&r, 500, 1);
    tcp_rtt_update_min(&r, 700, 2);
    assert_int_equal(r.min_rtt_us, 500);
    tcp_rtt_update_min(&r, 400, 3);
    assert_int_equal(r.min_rtt_us, 400);
    tcp_rtt_update_min(&r, 900, 3 + 300 * NSEC_PER_SEC);
    assert_int_equal(r.min_rtt_us, 400);
    tcp_rtt_update_min(&r, 900, 4 + 300 * NSEC_PER_SEC);
    assert_int_equal(r.min_rtt_us, 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first),   cmocka_unit_test(lower_bound), cmocka_unit_test(second),
        cmocka_unit_test(bounds),  cmocka_unit_test(backoff),     cmocka_unit_test(sinks_once_a_round_trip),
        cmocka_unit_test(minimum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
