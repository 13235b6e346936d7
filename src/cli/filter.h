/*
 * cli/filter.h: the filters of ss(8): states, and expressions over addresses and ports; for `taut ss` and `taut top`.
 */
#ifndef TAUT_CLI_FILTER_H
#define TAUT_CLI_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits by Linux's numbers of states (1 ESTABLISHED .. 11 CLOSING); a half-open entry counts as SYN-RECV. */
#define FILTER_BIT(number) (1u << (number))
#define FILTER_ESTAB       FILTER_BIT(1)
#define FILTER_SYN_RECV    FILTER_BIT(3)
#define FILTER_TIME_WAIT   FILTER_BIT(6)
#define FILTER_CLOSE       FILTER_BIT(7)
#define FILTER_LISTEN      FILTER_BIT(10)
#define FILTER_ALL         0xffeu
/* What ss shows without -a, -l and without a state filter. */
#define FILTER_DEFAULT     (FILTER_ALL & ~(FILTER_LISTEN | FILTER_CLOSE | FILTER_TIME_WAIT | FILTER_SYN_RECV))

struct filter;

/* Words as behind `ss`, each may hold several. `states` is taken where the words name none. NULL with *ret_error, a
 * sentence, which is valid until the next call. */
struct filter *filter_parse(int words, char **word, unsigned states, const char **ret_error);
void filter_free(struct filter *f);

unsigned filter_states(const struct filter *f);
/* A port that every match must have, or -1: what the daemon may leave out already. */
int filter_local_port(const struct filter *f);
int filter_peer_port(const struct filter *f);
/* 4, 6: only this family; 0: both. */
void filter_set_family(struct filter *f, int family);

/* state as the daemon names it ("FIN_WAIT1"); addresses as "192.0.2.1:80", "[2001:db8::1]:80", "*:80". */
bool filter_match(const struct filter *f, const char *state, const char *local, const char *peer);

/* The bit of a state of the daemon's, and what ss calls it. */
unsigned state_bit(const char *state);
const char *state_ss_name(const char *state);
/* The daemon's names in a mask, each "NAME"; the i-th, NULL behind the last. */
const char *state_in_mask(unsigned mask, unsigned i);

#endif
