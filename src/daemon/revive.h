/*
 * daemon/revive.h: what a new worker takes over from a dead one.
 *
 * The order of a start with an arena that was used:
 *
 *     revive_listeners()     behind stack, addresses and programs_open(): programs' listeners listen again
 *     forwards_open(), services_open()                                    theirs do, too
 *     revive_connections()   the engine is restored, every connection gets its owner back, strangers are closed
 */
#ifndef TAUT_DAEMON_REVIVE_H
#define TAUT_DAEMON_REVIVE_H

#include "daemon/arena.h"

void revive_listeners(struct daemon *d);
struct revived {
    unsigned conns, requests, time_wait; /* that live on */
    unsigned lost;                       /* could not be restored */
    unsigned ownerless;                  /* were reset: their owner is gone */
};
/* `doomed`: id of a connection that is reset instead of resumed, 0: none. 0, or -1 with a sentence. */
int revive_connections(struct daemon *d, tcp_id doomed, struct revived *ret, char *ret_error, size_t error_bytes);
/*
 * Closes every descriptor but `known` ones and those of links: a dead worker's own, and what it had accepted but not
 * written down; whoever is at the other end sees an end instead of silence. Before the worker opens any. The numbers from
 * the returned one on, where there is hardly ever one and looking at all takes a while, are for revive_sweep_rest(), before
 * the first turn: what was opened meanwhile has lower numbers.
 */
unsigned revive_sweep(struct daemon *d, const int *known, unsigned n_known);
void revive_sweep_rest(unsigned from);

#endif
