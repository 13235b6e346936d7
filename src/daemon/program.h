/*
 * daemon/program.h: connections and listeners in programs' hands (tcp.connect, tcp.listen; design section 6).
 *
 * A connection is one end of a Unix stream socket; the other end is ours and belongs to a pump. Before it is
 * handed over, one byte (the poison byte) is written through the program's end: it lies first in our receive
 * queue for good, and SO_PEEK_OFF starts behind it. Closing our end with it unread gives the program
 * ECONNRESET, taking it out first gives a clean end.
 *
 * A listener is one end of a SEQPACKET pair; each accepted connection is one message {"id","peer","local"}
 * with one descriptor. Our end's send buffer holds a few messages only, and its writability is the credit: as
 * long as the program does not receive, connections stay in the socket's accept queue under Linux's overflow
 * rules.
 */
#ifndef TAUT_DAEMON_PROGRAM_H
#define TAUT_DAEMON_PROGRAM_H

#include <jansson.h>
#include <sys/types.h>

#include "daemon/daemon.h"

/* Sets d->programs. 0 or -1 with errno. Called by control_open(). */
int programs_open(struct daemon *d);
/* Resets what is left. d->programs may be NULL. */
void programs_close(struct daemon *d);
/* No new connections: listeners end, pending connects fail; FIN on those that are. */
void programs_drain(struct daemon *d, uint64_t now);

/* ---- For method_tcp.c
 * ------------------------------------------------------------------------------------------- */

struct programs {
    struct daemon *d;
    struct list_node conns;      /* struct program_conn (program.c) */
    struct list_node listeners;  /* struct program_listener (program.c) */
    struct list_node connecting; /* struct connecting (method_tcp.c) */
    uint32_t listener_serial;
    struct log_limit log;
};

/*
 * Gives an established connection to a program: a socketpair with its poison byte, a pump behind our end.
 * *ret_fd: the program's end (blocking, close-on-exec). 0, or -errno (EMFILE, ENOMEM); then s is still the
 * caller's.
 */
int program_hand_over(struct daemon *d, struct sock *s, pid_t pid, int *ret_fd);
/* Gives a listening socket to a program; keys: its own of TCP-MD5 as tcp.listen has them, or NULL. 0 with its number and the program's end, or -errno; then s is the
 * caller's. */
int program_listen(struct daemon *d, struct sock *s, pid_t pid, const json_t *keys, uint32_t *ret_number, int *ret_fd);
/* Fails every connect that is under way (programs_close(), programs_drain()). */
void program_connects_end(struct daemon *d, uint64_t now);

/* ---- After a crash (revive.c): links of a dead worker. 0, or -errno: the link is still the caller's. */
struct link_slot;
int program_restore_listener(struct daemon *d, struct link_slot *slot);
/* What no listener has any more. */
void program_sweep_keys(struct daemon *d);
int program_restore_conn(struct daemon *d, struct sock *s, struct link_slot *slot);

#endif
