/*
 * base/rng.c: xoshiro256** (Blackman, Vigna), seeded through splitmix64.
 *
 * The state lies with the caller, so two holders of the same seed draw the same numbers: simulation and crash
 * recovery rely on it. Not a cryptographic generator; what must stay secret is handed in at creation.
 */
#include <assert.h>
#include "base/rng.h"

static uint64_t rotl(uint64_t x, unsigned n)
{
    return (x << n) | (x >> (64 - n));
}

/* splitmix64 turns any seed, zero included, into a state that is not all zero. */
static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void rng_seed(struct rng *r, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++)
        r->s[i] = splitmix64(&seed);
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t bound)
{
    uint64_t biased, x;

    assert(bound > 0);
    /* 2^64 mod bound numbers too many: the lowest of them are drawn again, what stays is a multiple of bound.
     */
    biased = (0 - bound) % bound;
    do {
        x = rng_next(r);
    } while (x < biased);
    return x % bound;
}
