/*
 * The shared window arithmetic and Reno: RFC 5681 sections 3.1 and 3.2 in segments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "cc/cc.h"

static struct cc_window window(uint32_t cwnd, uint32_t ssthresh)
{
    return (struct cc_window){.cwnd = cwnd, .ssthresh = ssthresh, .cwnd_clamp = UINT32_MAX};
}

static void by_name(void **state)
{
    (void)state;
    assert_non_null(cc_find("reno"));
    assert_null(cc_find("nonesuch"));
    assert_string_equal(cc_name(0), "reno");
    assert_null(cc_name(1000));
    for (unsigned i = 0; cc_name(i); i++)
        assert_string_equal(cc_find(cc_name(i))->name, cc_name(i));
}

static void slow_start_stops_at_ssthresh(void **state)
{
    struct cc_window w = window(10, 16);

    (void)state;
    assert_int_equal(cc_slow_start(&w, 4), 0);
    assert_int_equal(w.cwnd, 14);
    assert_int_equal(cc_slow_start(&w, 5), 3);
    assert_int_equal(w.cwnd, 16);
    assert_int_equal(cc_slow_start(&w, 5), 5);
    assert_int_equal(w.cwnd, 16);
}

static void clamped(void **state)
{
    struct cc_window w = window(10, CC_SSTHRESH_INFINITE);

    (void)state;
    w.cwnd_clamp = 12;
    assert_int_equal(cc_slow_start(&w, 10), 0);
    assert_int_equal(w.cwnd, 12);
    cc_additive_increase(&w, 1, 10);
    assert_int_equal(w.cwnd, 12);
}

/* One segment more for each window acknowledged, however the ACKs are cut. */
static void one_per_window(void **state)
{
    struct cc_window one = window(10, 5), all = window(10, 5);

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(one.cwnd, 10);
        cc_additive_increase(&one, 10, 1);
    }
    assert_int_equal(one.cwnd, 11);
    cc_additive_increase(&all, 10, 25);
    assert_int_equal(all.cwnd, 12);
    assert_int_equal(all.cwnd_cnt, 5);
}

static void reno_rules(void **state)
{
    const struct cc_ops *reno = cc_find("reno");
    struct cc_window w = window(10, 12);
    struct cc_sample s = {.acked = 4, .cwnd_limited = true};

    (void)state;
    reno->cong_avoid(NULL, &w, &s); /* two of them in slow start, two count towards the next step */
    assert_int_equal(w.cwnd, 12);
    assert_int_equal(w.cwnd_cnt, 2);
    s.cwnd_limited = false; /* RFC 7661: an unused window does not grow */
    s.acked = 100;
    reno->cong_avoid(NULL, &w, &s);
    assert_int_equal(w.cwnd, 12);
    assert_int_equal(reno->ssthresh(NULL, &w, 3), 6);
    w.cwnd = 3;
    assert_int_equal(reno->ssthresh(NULL, &w, 3), 2);
    assert_int_equal(reno->undo_cwnd(NULL, &w, 20), 20);
    w.cwnd = 30;
    assert_int_equal(reno->undo_cwnd(NULL, &w, 20), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_name),    cmocka_unit_test(slow_start_stops_at_ssthresh),
        cmocka_unit_test(clamped),    cmocka_unit_test(one_per_window),
        cmocka_unit_test(reno_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
