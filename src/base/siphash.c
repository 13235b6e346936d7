/*
 * base/siphash.c: SipHash-2-4 after Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
 *
 * For hash tables that a peer can fill, initial sequence numbers, SYN cookies and Fast Open cookies: without
 * the key the output can't be told from random. A pure function of (key, data); the same on every byte order.
 */
#include <string.h>
#include "base/siphash.h"

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, unsigned n)
{
    return (x << n) | (x >> (64 - n));
}

static inline uint64_t load_le64(const uint8_t *p)
{
    uint64_t x;

    memcpy(&x, p, 8); /* one load: a loop over bytes took more than the rounds */
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(x) : x;
}

static inline void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotl(s->v1, 13) ^ s->v0;
    s->v3 = rotl(s->v3, 16) ^ s->v2;
    s->v0 = rotl(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotl(s->v1, 17) ^ s->v2;
    s->v3 = rotl(s->v3, 21) ^ s->v0;
    s->v2 = rotl(s->v2, 32);
}

static inline void sip_word(struct sip_state *s, uint64_t m)
{
    s->v3 ^= m;
    sip_round(s);
    sip_round(s);
    s->v0 ^= m;
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t bytes)
{
    /* The constants spell "somepseudorandomlygeneratedbytes". */
    struct sip_state s = {
        key->k0 ^ 0x736f6d6570736575ull,
        key->k1 ^ 0x646f72616e646f6dull,
        key->k0 ^ 0x6c7967656e657261ull,
        key->k1 ^ 0x7465646279746573ull,
    };
    const uint8_t *p = data;
    size_t whole = bytes / 8;
    uint64_t last = (uint64_t)bytes << 56;

    for (size_t i = 0; i < whole; i++, p += 8)
        sip_word(&s, load_le64(p));
    if (bytes % 8 == 4) { /* tuples */
        uint32_t half;

        memcpy(&half, p, 4);
        last |= __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(half) : half;
    } else {
        for (unsigned i = 0; i < bytes % 8; i++)
            last |= (uint64_t)p[i] << (8 * i);
    }
    sip_word(&s, last);
    s.v2 ^= 0xff;
    for (unsigned i = 0; i < 4; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
