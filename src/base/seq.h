/*
 * base/seq.h: arithmetic on TCP sequence numbers (RFC 9293 section 3.4), the one place where wrap-around is known.
 *
 * Two numbers compare as the sign of their difference modulo 2^32; that is meaningful while they are less than
 * 2^31 apart, which the largest window (2^30) ensures.
 */
#ifndef TAUT_BASE_SEQ_H
#define TAUT_BASE_SEQ_H

#include <stdbool.h>
#include <stdint.h>

static inline bool seq_lt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static inline bool seq_leq(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}

static inline bool seq_gt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static inline bool seq_geq(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) >= 0;
}

/* low <= s <= high, where low <= high. */
static inline bool seq_between(uint32_t s, uint32_t low, uint32_t high)
{
    return high - low >= s - low;
}

static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
    return seq_gt(a, b) ? a : b;
}

static inline uint32_t seq_min(uint32_t a, uint32_t b)
{
    return seq_lt(a, b) ? a : b;
}

/* How far `to` lies behind `from`; the caller knows that from <= to. */
static inline uint32_t seq_diff(uint32_t to, uint32_t from)
{
    return to - from;
}

#endif
