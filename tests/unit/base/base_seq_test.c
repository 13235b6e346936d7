/*
 * Sequence arithmetic on both sides of the wrap, and time arithmetic at its ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/seq.h"
#include "base/time.h"

static const uint32_t origins[] = {0, 1, 1000, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
#define ORIGINS (sizeof origins / sizeof *origins)

static void test_order_survives_wrap(void **state)
{
    static const uint32_t distances[] = {1, 2, 1460, 65535, 1u << 30, 0x7fffffff};

    (void)state;
    for (unsigned o = 0; o < ORIGINS; o++) {
        for (unsigned d = 0; d < sizeof distances / sizeof *distances; d++) {
            uint32_t a = origins[o], b = a + distances[d];

            assert_true(seq_lt(a, b) && seq_leq(a, b) && !seq_gt(a, b) && !seq_geq(a, b));
            assert_true(seq_gt(b, a) && seq_geq(b, a) && !seq_lt(b, a) && !seq_leq(b, a));
            assert_int_equal(seq_max(a, b), b);
            assert_int_equal(seq_max(b, a), b);
            assert_int_equal(seq_min(a, b), a);
            assert_int_equal(seq_min(b, a), a);
            assert_int_equal(seq_diff(b, a), distances[d]);
        }
        assert_true(seq_leq(origins[o], origins[o]) && seq_geq(origins[o], origins[o]));
        assert_false(seq_lt(origins[o], origins[o]) || seq_gt(origins[o], origins[o]));
    }
}

static void test_between_survives_wrap(void **state)
{
    (void)state;
    for (unsigned o = 0; o < ORIGINS; o++) {
        uint32_t low = origins[o], high = low + 100;

        assert_true(seq_between(low, low, high) && seq_between(high, low, high));
        assert_true(seq_between(low + 50, low, high));
        assert_false(seq_between(low - 1, low, high) || seq_between(high + 1, low, high));
        assert_true(seq_between(low, low, low));
        assert_false(seq_between(low + 1, low, low));
    }
}

static void test_time_saturates(void **state)
{
    (void)state;
    assert_int_equal(time_add(5, 7), 12);
    assert_int_equal(time_add(TIME_NEVER, 0), TIME_NEVER);
    assert_int_equal(time_add(TIME_NEVER - 1, 1), TIME_NEVER);
    assert_int_equal(time_add(TIME_NEVER - 1, 2), TIME_NEVER);
    assert_int_equal(time_add(1, TIME_NEVER), TIME_NEVER);
    assert_int_equal(time_since(9, 4), 5);
    assert_int_equal(time_since(4, 9), 0);
    assert_int_equal(time_min(3, TIME_NEVER), 3);
    assert_int_equal(time_max(3, TIME_NEVER), TIME_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_survives_wrap),
        cmocka_unit_test(test_between_survives_wrap),
        cmocka_unit_test(test_time_saturates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
