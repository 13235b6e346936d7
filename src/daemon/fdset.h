/*
 * daemon/fdset.h: the descriptors of programs and backends: one edge-triggered epoll set, watched by libev as one.
 *
 * Edge-triggered because a program's descriptor may hold a poison byte and then is always readable; and a set of its own
 * because a set that outlives the worker is how registrations survive a crash (design section 5).
 */
#ifndef TAUT_DAEMON_FDSET_H
#define TAUT_DAEMON_FDSET_H

#include "daemon/daemon.h"

/* Embedded by whoever owns a descriptor. */
struct fdwatch {
    int fd;
    struct fdset *set; /* NULL: not watched */
    uint32_t slot;
    /* events: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR. Runs in the first half of a turn. */
    void (*ready)(struct fdwatch *self, uint32_t events, uint64_t now);
};

/* epoll_fd: one that outlives this process and stays the caller's, or -1: its own. NULL with errno. */
struct fdset *fdset_new(struct ev_loop *loop, int epoll_fd);
void fdset_free(struct fdset *set);
/* Readable while an event waits; it stays the set's. */
int fdset_fd(const struct fdset *set);
/* Watches w->fd for everything. 0 or -errno. */
int fdset_add(struct fdset *set, struct fdwatch *w);
/* The same; its slot and generation are stored before anything is watched, for fdset_adopt(). */
int fdset_add_as(struct fdset *set, struct fdwatch *w, uint32_t *ret_slot, uint32_t *ret_generation);
/* Takes over what a dead process watched with fdset_add_as(); only before any other call but this one. 0 or -ENOMEM. */
int fdset_adopt(struct fdset *set, struct fdwatch *w, uint32_t slot, uint32_t generation);
/* Safe to repeat; events already fetched for it are not delivered any more. The descriptor stays open. */
void fdset_del(struct fdwatch *w);

#endif
