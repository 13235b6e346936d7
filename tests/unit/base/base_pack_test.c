/*
 * base/pack.h: what is packed comes back, whatever it is; and costs little where it should.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pack.h"
#include "base/rng.h"

#define WORDS 700u

/* A word as structs have them: none, small, large, or near one that was there before. */
static uint32_t word(struct rng *rng, const uint32_t *before, unsigned n)
{
    switch (rng_below(rng, 8)) {
    case 0:
        return (uint32_t)rng_next(rng);
    case 1:
        return (uint32_t)rng_below(rng, 0x100);
    case 2:
        return (uint32_t)rng_below(rng, 0x10000);
    case 3:
        return n ? before[rng_below(rng, n)] : 1;
    case 4:
        return (n ? before[rng_below(rng, n)] : 1) + (uint32_t)rng_below(rng, 300) - 150;
    default:
        return 0;
    }
}

static void round_trips(void **state)
{
    static uint32_t from[WORDS], like[WORDS], to[WORDS];
    static uint8_t packed[WORDS * 8];
    struct rng rng;

    (void)state;
    rng_seed(&rng, 7);
    printf("seed 7\n");
    for (unsigned turn = 0; turn < 20000; turn++) {
        unsigned n = (unsigned)rng_below(&rng, WORDS) + 1;
        bool templated = rng_below(&rng, 2) == 1;
        size_t bytes;

        for (unsigned i = 0; i < n; i++) {
            from[i] = word(&rng, from, i);
            like[i] = rng_below(&rng, 3) ? from[i] : word(&rng, from, i);
        }
        if (turn % 16 == 0) /* long runs of nothing */
            memset(from, 0, rng_below(&rng, n) * 4);
        bytes = pack(from, templated ? like : NULL, n * 4, packed, sizeof packed);
        assert_true(bytes <= n * 6 + n / 271 * 2 + 2);
        assert_int_equal(unpack(packed, bytes, templated ? like : NULL, to, n * 4), 0);
        assert_memory_equal(from, to, n * 4);
    }
}

/* No more than there is room is written, and it says so. */
static void room(void **state)
{
    static uint32_t from[64];
    static uint8_t packed[512];
    struct rng rng;
    size_t bytes;

    (void)state;
    rng_seed(&rng, 8);
    for (unsigned i = 0; i < 64; i++)
        from[i] = word(&rng, from, i);
    bytes = pack(from, NULL, sizeof from, packed, sizeof packed);
    for (size_t n = 0; n < bytes + 4; n++) {
        memset(packed, 0xa5, sizeof packed);
        assert_true(pack(from, NULL, sizeof from, packed, n) == (n < bytes ? SIZE_MAX : bytes));
        for (size_t i = n; i < sizeof packed; i++)
            assert_int_equal(packed[i], 0xa5);
    }
}

static void small(void **state)
{
    uint32_t same[100], seqs[17], flags[40] = {[3] = 1, [39] = 7};
    uint8_t packed[512];

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        same[i] = i * 0x1234567;
    assert_int_equal(pack(same, same, sizeof same, packed, sizeof packed), 0);
    for (unsigned i = 0; i < 17; i++)
        seqs[i] = (i % 2 ? 0xdeadbeef : 0x12345678) + i / 8; /* of two directions */
    assert_true(pack(seqs, NULL, sizeof seqs, packed, sizeof packed) <= 2 * 5 + 15 * 3);
    assert_int_equal(pack(flags, NULL, sizeof flags, packed, sizeof packed), 2 + 3);
}

/* Any bytes: it ends, and writes nowhere else. */
static void garbage(void **state)
{
    uint8_t bytes[64];
    uint32_t to[20];
    struct rng rng;
    unsigned whole = 0;

    (void)state;
    rng_seed(&rng, 9);
    for (unsigned turn = 0; turn < 200000; turn++) {
        size_t n = rng_below(&rng, sizeof bytes);

        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)rng_next(&rng);
        to[19] = 0x5a5a5a5a;
        whole += unpack(bytes, n, NULL, to, 19 * 4) == 0;
        assert_int_equal(to[19], 0x5a5a5a5a);
    }
    assert_true(whole > 1000 && whole < 199000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(room), cmocka_unit_test(small),
                                       cmocka_unit_test(garbage)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
