/*
 * daemon/upgrade.h: another binary in place: same process, same descriptors, same arena.
 *
 *     worker       server.upgrade: asks the supervisor (SIGUSR2), waits for its refusal
 *     supervisor   runs the binary that lies at its own path now with its own arguments and --check-arena, which reads
 *                  the configuration and the arena as a start would; unless it says "usable" nothing was touched
 *     supervisor   kills the worker (any instant is good enough), keeps descriptors over execve(), executes it
 *     new binary   $TAUT_HOLDINGS names the descriptors; it attaches the arena, converts it if it is a predecessor's,
 *                  and goes on as a supervisor whose worker died
 */
#ifndef TAUT_DAEMON_UPGRADE_H
#define TAUT_DAEMON_UPGRADE_H

#include "daemon/arena.h"

/* What a supervisor holds beside links' descriptors. */
struct holdings {
    int arena, tap, epoll, control[2];
    int activated; /* the control sockets are the service manager's */
};

/* Where this binary lies; before anything replaces it. */
void upgrade_remember_binary(void);
/* True if the binary there can use the arena; else why not, in the arena's answer and in the log. At most 5 s. */
bool upgrade_check(struct daemon *d, const struct holdings *h, char *const *argv);
/* Executes it; returns only if that failed. The worker is dead. */
void upgrade_exec(struct daemon *d, const struct holdings *h, char *const *argv);
/* From $TAUT_HOLDINGS, which is forgotten; false: this is an ordinary start. */
bool upgrade_holdings(struct holdings *ret);
/* There is something to go on with, by either of the ways below. */
bool upgrade_pending(void);
/*
 * What the service manager passed ($LISTEN_FDS): "tap" and "arena" that it stored for us, and control sockets that it
 * listens on. What is not there is -1. False: nothing.
 */
bool upgrade_passed(struct holdings *ret);
/* --check-arena N: exit status. */
int upgrade_check_arena(int fd, const struct daemon_config *config);

#endif
