/*
 * base/time.h: time as everything below the daemon knows it.
 *
 * Time is an argument (`now`), a count of nanoseconds of CLOCK_MONOTONIC in a uint64_t, read by the shell. An
 * absolute deadline ends in `_at`; a duration ends in its unit. TIME_NEVER is later than any deadline.
 */
#ifndef TAUT_BASE_TIME_H
#define TAUT_BASE_TIME_H

#include <stdint.h>

#define NSEC_PER_USEC 1000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC 1000000000ull
#define TIME_NEVER UINT64_MAX

static inline uint64_t time_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t time_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* `at` plus a duration, saturating at TIME_NEVER. */
static inline uint64_t time_add(uint64_t at, uint64_t duration_ns)
{
    return at > TIME_NEVER - duration_ns ? TIME_NEVER : at + duration_ns;
}

/* The time from `from` to `to`, zero where `to` is earlier. */
static inline uint64_t time_since(uint64_t to, uint64_t from)
{
    return to > from ? to - from : 0;
}

#endif
