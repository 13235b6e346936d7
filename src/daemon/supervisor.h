/*
 * daemon/supervisor.h: worker processes that may die.
 *
 * The supervisor holds what must outlive a worker (the TAP, the arena, the control sockets, the epoll set of programs'
 * descriptors) and parses nothing from the network. A worker is a child that shares its descriptor table
 * (clone(CLONE_FILES)): every descriptor that it makes stays open under its number when it dies.
 */
#ifndef TAUT_DAEMON_SUPERVISOR_H
#define TAUT_DAEMON_SUPERVISOR_H

#include "daemon/arena.h"
#include "daemon/upgrade.h"

#define SUPERVISOR_FDS_MAX 64

struct supervisor {
    const struct daemon_config *config;
    const struct log_sink *log;
    struct arena *arena;
    /* The worker's main function, in the child: its exit status. doomed: a connection to reset, 0: none. */
    int (*worker)(void *ctx, tcp_id doomed);
    void *ctx;
    struct holdings holdings;
    int notify_fd[2];     /* a worker's messages to the service manager: worker's end, ours */
    struct daemon *d;     /* log and arena, for upgrades */
    char *const *argv;    /* of this process, for the next binary */
    /* Descriptors that are no link's and no worker's own: they survive a sweep. Filled by supervise(). */
    int known[SUPERVISOR_FDS_MAX];
    unsigned n_known;
};

/* Runs workers until one ends in an orderly way; the process's exit status. Single-threaded from here on. */
int supervise(struct supervisor *sv);

#endif
