/*
 * tests/unit/stack/coverage_stack.h: the stack's part of tests/unit/coverage.h.
 */
#ifndef TAUT_TESTS_COVERAGE_STACK_H
#define TAUT_TESTS_COVERAGE_STACK_H

#include "../coverage.h"
#include "stack/stack.h"

static inline const char *coverage_stack_drop(unsigned i)
{
    return stack_drop_name((enum stack_drop)i);
}

/* Before stack_destroy(). */
static inline void coverage_stack(struct stack *st)
{
    coverage_of("STACK_DROP", stack_get_drops(st), STACK_DROP_MAX, coverage_stack_drop);
}

#endif
