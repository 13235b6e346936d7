/*
 * wire_test.h: what the wire tests share: cmocka's includes, hex vectors, a seed that is printed and can be
 * given as TAUT_TEST_SEED.
 */
#ifndef TAUT_WIRE_TEST_H
#define TAUT_WIRE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"

static inline struct rng test_rng(void)
{
    const char *text = getenv("TAUT_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 0x7461757400000001;
    struct rng r;

    printf("TAUT_TEST_SEED=%#llx\n", (unsigned long long)seed);
    rng_seed(&r, seed);
    return r;
}

/* A random number below bound, as a small type. */
static inline uint32_t below(struct rng *r, uint32_t bound)
{
    return (uint32_t)rng_below(r, bound);
}

static inline void fill_random(struct rng *r, void *to, size_t n)
{
    uint8_t *p = to;

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rng_next(r);
}

/* Bytes of a hex string in an allocation of exactly that size, so that the address sanitizer sees every
 * overrun. */
static inline uint8_t *unhex(const char *hex, size_t *ret_n)
{
    size_t n = strlen(hex) / 2;
    uint8_t *bytes = malloc(n ? n : 1);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};

        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    *ret_n = n;
    return bytes;
}

#endif
