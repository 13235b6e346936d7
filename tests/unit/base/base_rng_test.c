/*
 * The generator against published values of splitmix64 and xoshiro256**, and the fairness of rng_below().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"

static void test_xoshiro_vector(void **state)
{
    static const uint64_t expected[10] = {
        11520ull,
        0ull,
        1509978240ull,
        1215971899390074240ull,
        1216172134540287360ull,
        607988272756665600ull,
        16172922978634559625ull,
        8476171486693032832ull,
        10595114339597558777ull,
        2904607092377533576ull,
    };
    struct rng r = {{1, 2, 3, 4}};

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(rng_next(&r), expected[i]);
}

static void test_seed_is_splitmix64(void **state)
{
    struct rng r;

    (void)state;
    rng_seed(&r, 1234567);
    assert_int_equal(r.s[0], 6457827717110365317ull);
    assert_int_equal(r.s[1], 3203168211198807973ull);
    assert_int_equal(r.s[2], 9817491932198370423ull);
    assert_int_equal(r.s[3], 4593380528125082431ull);
}

static void test_same_seed_same_numbers(void **state)
{
    struct rng a, b, c;
    unsigned differ = 0;

    (void)state;
    rng_seed(&a, 0);
    rng_seed(&b, 0);
    rng_seed(&c, 1);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t x = rng_next(&a);

        assert_int_equal(x, rng_next(&b));
        differ += x != rng_next(&c);
    }
    assert_true(differ > 990);
}

static void test_below_stays_below(void **state)
{
    static const uint64_t bounds[] = {1, 2, 3, 7, 64, 1000003, 1ull << 63, (1ull << 63) + 1, UINT64_MAX};
    struct rng r;

    (void)state;
    rng_seed(&r, 42);
    for (unsigned i = 0; i < sizeof bounds / sizeof *bounds; i++)
        for (unsigned n = 0; n < 1000; n++)
            assert_true(rng_below(&r, bounds[i]) < bounds[i]);
}

/* With plain modulo the lowest third of 3 * 2^62 would be drawn half of the time, not a third. */
static void test_below_has_no_modulo_bias(void **state)
{
    uint64_t third = 1ull << 62;
    unsigned count[3] = {0};
    struct rng r;

    (void)state;
    rng_seed(&r, 7);
    for (unsigned n = 0; n < 30000; n++)
        count[rng_below(&r, 3 * third) / third]++;
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(count[i], 9600, 10400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xoshiro_vector),           cmocka_unit_test(test_seed_is_splitmix64),
        cmocka_unit_test(test_same_seed_same_numbers),   cmocka_unit_test(test_below_stays_below),
        cmocka_unit_test(test_below_has_no_modulo_bias),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
