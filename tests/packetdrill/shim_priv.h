/*
 * tests/packetdrill/shim_priv.h: the inside of the shim.
 *
 *   shim.c        one host: clock, route, device, the turn that drains events and pulls segments
 *   shim_wire.c   raw IP packets <-> segments and ICMP errors
 *   shim_fd.c     descriptors and the calls that never block
 *   shim_call.c   the calls that may, as continuations
 *   shim_epoll.c  epoll: interest, the ready list, edge and level
 */
#ifndef TAUT_DRILL_SHIM_PRIV_H
#define TAUT_DRILL_SHIM_PRIV_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "shim.h"
#include "sock/sock.h"

#define DRILL_FDS    64
#define DRILL_FIRST_FD 3
#define DRILL_LOCALS 4
#define DRILL_LEFT 64 /* frames of a turn and more */

enum drill_fd_kind { DRILL_FD_FREE, DRILL_FD_SOCK, DRILL_FD_EPOLL };

/* One descriptor. A socket's `watchers` are the epoll items that look at it. */
struct drill_fd {
    uint8_t kind;
    bool nonblock;
    bool asked_inq; /* TCP_INQ */
    int number;
    struct sock *sock;
    struct list_node watchers; /* struct drill_item.sock_link */
    struct list_node items;    /* of an epoll set: struct drill_item.set_link */
    struct list_node ready;    /* of an epoll set: struct drill_item.ready_link, oldest first */
};

/* One entry of an epoll set. */
struct drill_item {
    struct list_node set_link, sock_link, ready_link;
    struct drill_fd *set, *file;
    uint32_t events;
    uint64_t data;
};

struct drill_out {
    struct drill_out *next;
    struct drill_packet info;
    uint8_t bytes[];
};

/* A segment that left, as far as the engine has to know to take it back. */
struct drill_left {
    tcp_id id;
    uint32_t seq, len;
    uint16_t flags;
    bool retransmission;
    enum tcp_cause cause;
};

struct drill {
    struct tcp_config config;
    void *arena;
    struct chunk_pool *pool;
    struct tcp *tcp;
    struct socks *ss;
    uint64_t now;
    struct ip_addr local[DRILL_LOCALS];
    unsigned n_local;
    struct tcp_path path;
    bool path_news; /* connections have not heard of its MTU yet */
    bool refuse;
    bool held;
    tcp_id asked;   /* last, for a segment */
    tcp_id waits;   /* for its next hop */
    uint32_t front; /* drill_chunks() */
    bool runs;
    struct drill_left left[DRILL_LEFT]; /* a ring: what was pulled last */
    unsigned n_left;
    uint16_t ip_id;
    struct drill_out *out, **out_tail;
    struct drill_call *calls; /* pending */
    struct drill_fd fds[DRILL_FDS];
    uint64_t drops[TCP_DROP_MAX];
    struct tcp_out scratch;
};

/* ---- shim.c ---- */
/* Everything that follows from what was just done: events, segments, calls that can go on; until all is quiet. */
void drill_turn(struct drill *d);

/* ---- shim_wire.c ---- */
void drill_emit(struct drill *d, const struct tcp_out *out);

/* ---- shim_fd.c ---- */
struct drill_fd *drill_fd_get(struct drill *d, int fd, enum drill_fd_kind kind);
struct drill_fd *drill_fd_new(struct drill *d, enum drill_fd_kind kind);
struct ip_addr drill_addr_to_ip(const struct drill_addr *a);
void drill_addr_from_ip(const struct ip_addr *a, uint16_t port, struct drill_addr *ret);

/* ---- shim_call.c ---- */
/* Readiness of a socket changed: calls that wait for it may try again. */
void drill_calls_wake(struct drill *d, const struct drill_fd *f, unsigned bits);
/* Lets every woken or expired call try; true if one went on. */
bool drill_calls_run(struct drill *d);
uint64_t drill_calls_deadline(const struct drill *d);
/* Its descriptor is gone. */
void drill_calls_closed(struct drill *d, int fd);

/* ---- shim_epoll.c ---- */
void drill_epoll_wake(struct drill_fd *f, unsigned bits);
int drill_epoll_collect(struct drill_fd *set, struct drill_epoll_event *events, int max);
void drill_epoll_forget(struct drill_fd *f);

#endif
