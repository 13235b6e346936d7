/*
 * tcp/enums.c: the names of the engine's vocabulary, from the X-macros of tcp_enums.h. Names are the
 * enumerators without their prefix; numbers outside a list are "?", never a crash: they may come out of a
 * damaged record.
 */
#include <assert.h>
#include "tcp/tcp_enums.h"

static_assert(TCP_STATE_ESTABLISHED == 1 && TCP_STATE_NEW_SYN_RECV == 12, "states have Linux's numbers");

const char *tcp_state_name(enum tcp_state s)
{
    switch (s) {
#define X(name, number)                                                                                      \
    case TCP_STATE_##name:                                                                                   \
        return #name;
        TCP_STATES(X)
#undef X
    default:
        return "?";
    }
}

#define NAMES(function, type, last, list, column)                                                            \
    const char *function(enum type v)                                                                        \
    {                                                                                                        \
        static const char *const names[] = {list(column)};                                                   \
        static_assert(sizeof names / sizeof names[0] == last, "one per enumerator");                         \
                                                                                                             \
        return (unsigned)v < last ? names[v] : "?";                                                          \
    }
#define NAME(name, text) #name,
#define TEXT(name, text) text,

NAMES(tcp_cause_name, tcp_cause, TCP_CAUSE_MAX, TCP_CAUSES, NAME)
NAMES(tcp_cause_text, tcp_cause, TCP_CAUSE_MAX, TCP_CAUSES, TEXT)
NAMES(tcp_drop_name, tcp_drop, TCP_DROP_MAX, TCP_DROPS, NAME)
NAMES(tcp_drop_text, tcp_drop, TCP_DROP_MAX, TCP_DROPS, TEXT)
NAMES(tcp_limit_name, tcp_limit, TCP_LIMIT_MAX, TCP_LIMITS, NAME)
NAMES(tcp_limit_text, tcp_limit, TCP_LIMIT_MAX, TCP_LIMITS, TEXT)
