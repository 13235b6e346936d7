/*
 * daemon/notify.h: sd_notify(3)'s datagram, by hand: tells the service manager READY=1, RELOADING=1, STOPPING=1, STATUS=.
 */
#ifndef TAUT_DAEMON_NOTIFY_H
#define TAUT_DAEMON_NOTIFY_H

#include <stdbool.h>

/* printf-like; nothing happens without $NOTIFY_SOCKET. */
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * The supervisor's part: the manager listens to one process only, so a worker's messages go through `fd` (one end of a
 * datagram pair; -1: directly), whose other end notify_relay() empties. notify_store() keeps a descriptor with the
 * manager under a name (FDSTORE=1, and FDPOLL=0: it stays whatever happens at its other end); notify_remove() ends that.
 */
void notify_through(int fd);
void notify_relay(int fd);
void notify_store(const char *name, int fd);
void notify_remove(const char *name);
/* Until the manager has dealt with all that was sent, at most a second. */
void notify_barrier(void);
/* A manager listens. */
bool notify_managed(void);
/* Half of $WATCHDOG_USEC in ns, if it is meant for this process; 0: no watchdog. */
unsigned long long notify_watchdog_ns(void);

#endif
