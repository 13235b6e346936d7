/*
 * base/rng.h: a seeded generator (xoshiro256**, public domain algorithm), for choices that need no secrecy beyond the
 * secrecy of its seed: ports, probe jitter, tests. Secrets are given at creation, never drawn from here.
 */
#ifndef TAUT_BASE_RNG_H
#define TAUT_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, bound), without modulo bias; bound > 0. */
uint64_t rng_below(struct rng *r, uint64_t bound);

#endif
