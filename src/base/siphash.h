/*
 * base/siphash.h: SipHash-2-4 (Aumasson, Bernstein), 64-bit output; tested with its reference vectors.
 */
#ifndef TAUT_BASE_SIPHASH_H
#define TAUT_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k0;
    uint64_t k1;
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t bytes);

#endif
