/*
 * The timer wheel against a naive model (an array that is searched). After every step:
 *
 *     a timer comes out exactly when at <= now;  wheel_deadline() <= earliest at;  after NULL,
 * wheel_deadline() > now
 *
 * and a shell that only sleeps until wheel_deadline() meets every deadline to the nanosecond, with few extra
 * wakes.
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
#include "base/wheel.h"

#define TIMERS 300u

struct model {
    struct wheel wheel;
    struct rng rng;
    uint64_t now;
    struct wheel_timer timer[TIMERS];
    uint64_t at[TIMERS]; /* the model: TIME_NEVER while disarmed */
    bool ahead[TIMERS];  /* was armed for the future */
    uint64_t expired;
};

static uint64_t earliest(const struct model *m)
{
    uint64_t at = TIME_NEVER;

    for (unsigned i = 0; i < TIMERS; i++)
        at = time_min(at, m->at[i]);
    return at;
}

static struct model *model_new(uint64_t seed, uint64_t now)
{
    struct model *m = calloc(1, sizeof *m);

    rng_seed(&m->rng, seed);
    m->now = now;
    wheel_init(&m->wheel, now);
    for (unsigned i = 0; i < TIMERS; i++) {
        wheel_timer_init(&m->timer[i]);
        m->at[i] = TIME_NEVER;
    }
    return m;
}

static void check(const struct model *m)
{
    uint64_t armed = 0;

    for (unsigned i = 0; i < TIMERS; i++) {
        assert_int_equal(wheel_armed(&m->timer[i]), m->at[i] != TIME_NEVER);
        armed += m->at[i] != TIME_NEVER;
    }
    assert_int_equal(m->wheel.armed, armed);
    assert_true(wheel_deadline(&m->wheel) <= earliest(m));
    if (armed == 0)
        assert_int_equal(wheel_deadline(&m->wheel), TIME_NEVER);
}

/* Every order of magnitude, with a liking for crowds: the same tick, the same coarse slot, the past. */
static uint64_t random_at(struct model *m)
{
    uint64_t distance = rng_next(&m->rng) >> rng_below(&m->rng, 64);

    switch (rng_below(&m->rng, 8)) {
    case 0:
        return m->now - time_min(m->now, distance);
    case 1:
        return time_add(m->now, rng_below(&m->rng, 3000));
    case 2:
        return time_add(m->now, 200 * NSEC_PER_MSEC + rng_below(&m->rng, 5000));
    case 3:
        return time_add(m->now, 3600 * NSEC_PER_SEC + rng_below(&m->rng, NSEC_PER_SEC));
    case 4:
        return time_add((m->now | 0xfffff) + 1, 0);
    default:
        return time_add(m->now, distance);
    }
}

static void arm(struct model *m, unsigned i, uint64_t at)
{
    wheel_arm(&m->wheel, &m->timer[i], at);
    m->at[i] = at;
    m->ahead[i] = at > m->now;
}

static void disarm(struct model *m, unsigned i)
{
    wheel_disarm(&m->wheel, &m->timer[i]);
    m->at[i] = TIME_NEVER;
}

/* Drains what is due; with some luck it re-arms what came out, as a connection does. */
static void expire_all(struct model *m)
{
    uint64_t last_tick = 0;
    unsigned rearmed = 0;
    struct wheel_timer *t;

    while ((t = wheel_expire(&m->wheel, m->now)) != NULL) {
        unsigned i = (unsigned)(t - m->timer);

        assert_true(m->at[i] <= m->now);
        assert_false(wheel_armed(t));
        if (m->ahead[i]) {
            assert_true(m->at[i] >> WHEEL_TICK_SHIFT >= last_tick);
            last_tick = m->at[i] >> WHEEL_TICK_SHIFT;
        }
        m->at[i] = TIME_NEVER;
        m->expired++;
        if (rearmed < 5 && rng_below(&m->rng, 4) == 0) {
            arm(m, i, random_at(m));
            rearmed++;
        }
    }
    assert_true(earliest(m) > m->now);
    assert_true(wheel_deadline(&m->wheel) > m->now);
    check(m);
}

static void advance(struct model *m)
{
    uint64_t deadline = wheel_deadline(&m->wheel);

    switch (rng_below(&m->rng, 4)) {
    case 0:
        if (deadline != TIME_NEVER)
            m->now = time_max(m->now, deadline);
        break;
    case 1:
        m->now = time_add(m->now, rng_below(&m->rng, 2000));
        break;
    case 2:
        m->now = time_add(m->now, rng_below(&m->rng, NSEC_PER_SEC));
        break;
    default:
        m->now = time_add(m->now, rng_next(&m->rng) >> (8 + rng_below(&m->rng, 56)));
        break;
    }
    m->now = time_min(m->now, TIME_NEVER - 1);
}

static void run_random(uint64_t seed, uint64_t start)
{
    struct model *m = model_new(seed, start);

    for (unsigned step = 0; step < 3000; step++) {
        unsigned ops = (unsigned)rng_below(&m->rng, 12);

        for (unsigned n = 0; n < ops; n++) {
            unsigned i = (unsigned)rng_below(&m->rng, TIMERS);

            if (rng_below(&m->rng, 5) == 0)
                disarm(m, i);
            else
                arm(m, i, random_at(m));
        }
        check(m);
        if (step % 400 == 399)
            for (unsigned i = 0; i < TIMERS; i++)
                disarm(m, i);
        advance(m);
        expire_all(m);
    }
    assert_true(m->expired > 1000);
    free(m);
}

static void test_random_against_model(void **state)
{
    static const uint64_t starts[] = {
        0, 1023, 123456789, 86400 * NSEC_PER_SEC, 1ull << 40, (1ull << 46) - 1, 1ull << 63};

    (void)state;
    for (unsigned i = 0; i < sizeof starts / sizeof *starts; i++) {
        print_message("seed %u, start %llu\n", i + 1, (unsigned long long)starts[i]);
        run_random(i + 1, starts[i]);
    }
}

/* A shell that sleeps exactly until wheel_deadline(): no deadline is missed by a nanosecond, few wakes are in
 * vain. */
static void test_sleeping_shell_is_exact(void **state)
{
    struct model *m = model_new(99, 5 * NSEC_PER_SEC);
    unsigned in_vain = 0;

    (void)state;
    print_message("seed 99\n");
    for (unsigned i = 0; i < TIMERS; i++)
        arm(m, i, time_min(m->now + 1 + (rng_next(&m->rng) >> rng_below(&m->rng, 60)), TIME_NEVER - 1));
    while (m->wheel.armed > 0) {
        struct wheel_timer *t;
        uint64_t before = m->expired;

        assert_true(wheel_deadline(&m->wheel) > m->now);
        m->now = wheel_deadline(&m->wheel);
        while ((t = wheel_expire(&m->wheel, m->now)) != NULL) {
            unsigned i = (unsigned)(t - m->timer);

            assert_int_equal(m->at[i], m->now);
            m->at[i] = TIME_NEVER;
            m->expired++;
        }
        in_vain += m->expired == before;
    }
    assert_int_equal(m->expired, TIMERS);
    assert_true(in_vain <= TIMERS / 4);
    free(m);
}

/* A crowd far away is approached in at most one wake for each level. */
static void test_few_wakes_on_the_way(void **state)
{
    struct model *m = model_new(1, 777);
    uint64_t at = 2 * 3600 * NSEC_PER_SEC + 12345;
    unsigned wakes = 0;

    (void)state;
    for (unsigned i = 0; i < TIMERS; i++)
        arm(m, i, at);
    for (;;) {
        m->now = wheel_deadline(&m->wheel);
        assert_true(m->now <= at);
        wakes++;
        if (wheel_expire(&m->wheel, m->now))
            break;
    }
    assert_int_equal(m->now, at);
    assert_true(wakes <= WHEEL_LEVELS + 1);
    free(m);
}

/* Due and not due in one tick: the crowd that isn't due doesn't hide the deadline, nor come out early. */
static void test_one_tick_crowd(void **state)
{
    struct model *m = model_new(1, 0);
    uint64_t tick = 50ull << WHEEL_TICK_SHIFT;

    (void)state;
    for (unsigned i = 0; i < TIMERS; i++)
        arm(m, i, tick + 2 * i);
    for (unsigned i = 0; i < TIMERS; i++) {
        m->now = tick + 2 * i;
        assert_ptr_equal(wheel_expire(&m->wheel, m->now), &m->timer[i]);
        assert_null(wheel_expire(&m->wheel, m->now));
        assert_int_equal(wheel_deadline(&m->wheel), i + 1 < TIMERS ? m->now + 2 : TIME_NEVER);
    }
    free(m);
}

static void test_nanosecond_edges(void **state)
{
    struct model *m = model_new(1, 0);

    (void)state;
    arm(m, 0, TIME_NEVER - 1);
    arm(m, 1, 1ull << 62);
    assert_int_equal(wheel_deadline(&m->wheel), 1ull << 62);
    assert_null(wheel_expire(&m->wheel, (1ull << 62) - 1));
    assert_ptr_equal(wheel_expire(&m->wheel, 1ull << 62), &m->timer[1]);
    assert_null(wheel_expire(&m->wheel, TIME_NEVER - 2));
    assert_int_equal(wheel_deadline(&m->wheel), TIME_NEVER - 1);
    assert_ptr_equal(wheel_expire(&m->wheel, TIME_NEVER - 1), &m->timer[0]);
    assert_int_equal(wheel_deadline(&m->wheel), TIME_NEVER);
    free(m);
}

static void test_arm_again_moves(void **state)
{
    struct model *m = model_new(1, 1000000);
    struct wheel_timer *t = &m->timer[0];

    (void)state;
    wheel_disarm(&m->wheel, t);
    wheel_arm(&m->wheel, t, 2000000);
    wheel_arm(&m->wheel, t, 9000000);
    assert_int_equal(m->wheel.armed, 1);
    assert_null(wheel_expire(&m->wheel, 8999999));
    wheel_arm(&m->wheel, t, 9000001);
    assert_null(wheel_expire(&m->wheel, 9000000));
    assert_ptr_equal(wheel_expire(&m->wheel, 9000001), t);
    wheel_arm(&m->wheel, t, 5);
    assert_int_equal(wheel_deadline(&m->wheel), 5);
    assert_ptr_equal(wheel_expire(&m->wheel, 9000001), t);
    wheel_arm(&m->wheel, t, 9000002);
    wheel_arm(&m->wheel, t, TIME_NEVER);
    assert_int_equal(m->wheel.armed, 0);
    assert_null(wheel_expire(&m->wheel, TIME_NEVER - 1));
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_against_model), cmocka_unit_test(test_sleeping_shell_is_exact),
        cmocka_unit_test(test_few_wakes_on_the_way), cmocka_unit_test(test_one_tick_crowd),
        cmocka_unit_test(test_nanosecond_edges),     cmocka_unit_test(test_arm_again_moves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
