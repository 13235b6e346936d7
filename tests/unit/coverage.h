/*
 * tests/unit/coverage.h: what a test provoked, by name: appended to the file $TAUT_COVERAGE, which tests/unit/coverage.py
 * merges, so that no cause and no drop reason is left that no test provokes.
 */
#ifndef TAUT_TESTS_COVERAGE_H
#define TAUT_TESTS_COVERAGE_H

#include <stdio.h>
#include <stdlib.h>

#include "tcp/tcp.h"

static inline void coverage_of(const char *prefix, const uint64_t *counts, unsigned n, const char *(*name)(unsigned))
{
    const char *path = getenv("TAUT_COVERAGE");
    FILE *f = path ? fopen(path, "a") : NULL;

    if (!f)
        return;
    for (unsigned i = 0; i < n; i++) {
        if (counts[i])
            fprintf(f, "%s_%s\n", prefix, name(i));
    }
    fclose(f);
}

static inline const char *coverage_cause(unsigned i)
{
    return tcp_cause_name((enum tcp_cause)i);
}

static inline const char *coverage_drop(unsigned i)
{
    return tcp_drop_name((enum tcp_drop)i);
}

/* Before tcp_destroy(). */
static inline void coverage_tcp(const struct tcp *t)
{
    coverage_of("CAUSE", tcp_get_causes(t), TCP_CAUSE_MAX, coverage_cause);
    coverage_of("DROP", tcp_get_drops(t), TCP_DROP_MAX, coverage_drop);
}

#endif
