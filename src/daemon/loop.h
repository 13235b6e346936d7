/*
 * daemon/loop.h: the libev loop and its turns.
 */
#ifndef TAUT_DAEMON_LOOP_H
#define TAUT_DAEMON_LOOP_H

#include "daemon/daemon.h"

/* Watches TAP (if any), timer, netlink (if any) and signals of d. NULL with errno. */
struct loop *loop_new(struct daemon *d);
void loop_free(struct loop *l);
/* After a restore: what may leave at once leaves, before anything is read from anywhere. */
void loop_first_batch(struct loop *l);
/* Then what waits in the TAP is read, before the bytes of programs: it may let more leave. */
void loop_first_frames(struct loop *l);
/* Writes what is marked (resets at the end, say) and runs deferred work until nothing is left; bounded. */
void loop_flush(struct loop *l);
/* Resets every connection that is left, orphans too, and flushes; their number. Owners hear nothing of it. */
unsigned loop_reset_all(struct loop *l);
/* Runs until daemon_stop() has drained, a second signal, or the TAP is gone; returns d->exit_status. */
int loop_run(struct loop *l);

#endif
