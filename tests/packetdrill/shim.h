/*
 * tests/packetdrill/shim.h: BSD calls in virtual time: one host on src/sock, its device and its clock in the caller's
 * hand. Called through ctypes by drill.
 *
 * A thin layer: descriptors, blocking, poll() and epoll are the kernel's own and live here; what a socket answers comes
 * from src/sock. Packets go in and come out as raw IP packets, each with its time; super-frames leave cut to MSS.
 * Nothing here waits: the clock stands still until drill_advance() moves it, and a call that would block becomes a
 * continuation (struct drill_call.pending) that a later verb completes.
 *
 * Results are those of the system calls with -errno in place of errno.
 */
#ifndef TAUT_DRILL_SHIM_H
#define TAUT_DRILL_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct drill;

struct drill_addr {
    uint8_t family; /* 4, 6, or 0: AF_UNSPEC or none given */
    uint8_t pad;
    uint16_t port;  /* host order */
    uint8_t b[16];  /* network order, IPv4 in the first four */
};

enum drill_op { DRILL_ACCEPT, DRILL_CONNECT, DRILL_RECV, DRILL_SEND, DRILL_POLL, DRILL_EPOLL_WAIT };

struct drill_pollfd {
    int32_t fd;
    uint16_t events, revents;
};

struct drill_epoll_event {
    uint32_t events;
    uint32_t pad;
    uint64_t data;
};

/* One call that may block. The caller keeps it, and what it points at, until pending is 0 again. */
struct drill_call {
    int32_t op; /* enum drill_op */
    int32_t fd;
    int32_t flags;      /* MSG_*; accept4's flags */
    int32_t timeout_ms; /* poll, epoll_wait; < 0: none */
    void *data;         /* bytes, struct drill_pollfd[] or struct drill_epoll_event[] */
    uint64_t bytes;     /* bytes, or entries of data[] */
    struct drill_addr addr; /* connect, sendto: where to; accept, recvfrom: filled */
    int32_t pending;        /* 1: it blocks */
    int32_t inq;            /* after RECV: what TCP_CM_INQ would say, -1: not asked for */
    int64_t result;
    uint64_t done_at; /* ns */
    /* the shim's own */
    uint64_t moved, expire_at;
    int32_t woken, begun, opening;
    int32_t pad;
    struct drill_call *next;
};

/* A packet that left. */
struct drill_packet {
    uint64_t at;    /* ns */
    uint32_t bytes; /* of the IP packet */
    int32_t cause;  /* enum tcp_cause */
};

/* local: "192.168.0.1 fd00::1", separated by spaces. Every verb of the engine is checked (tcp_check()). NULL: no memory. */
struct drill *drill_create(uint64_t seed, const char *local, uint16_t mtu);
/* The same with the clock at `now` to begin with, ns. */
struct drill *drill_create_at(uint64_t seed, const char *local, uint16_t mtu, uint64_t now);
void drill_destroy(struct drill *d);
/* A broken invariant of the engine, or NULL. */
const char *drill_check(const struct drill *d);

/* A row of the engine's configuration table. 0, -ENOENT, -ERANGE. */
int drill_sysctl(struct drill *d, const char *name, int64_t value);
/* The same for a value that has a name. */
int drill_sysctl_text(struct drill *d, const char *name, const char *value);
/* tcp_fastopen_key: one key or two, of 16 bytes each. 0 or -EINVAL. */
int drill_fastopen_key(struct drill *d, const uint8_t *keys, uint32_t bytes);
/* Is there a listener on this port? */
bool drill_listens(const struct drill *d, uint16_t port);
/* `ip tcp_metrics flush`: returns how many destinations are forgotten. */
uint32_t drill_metrics_flush(struct drill *d);
/* What was remembered of a destination: rtt in us << 3, the others in segments; 0: nothing. */
int drill_metrics(struct drill *d, const char *remote, uint32_t rtt, uint32_t ssthresh, uint32_t reordering);
/* The one route: advmss, initcwnd, initrwnd 0: not given. Told to connections that begin afterwards. */
void drill_route(struct drill *d, uint16_t mtu, uint16_t advmss, uint8_t initcwnd, uint8_t initrwnd);
/* gso 0: super-frames are not made; refuse: the device takes no packet (each one fails locally). */
void drill_device(struct drill *d, uint32_t gso_max, int32_t refuse);

uint64_t drill_now(const struct drill *d);
/* When something will happen by itself; UINT64_MAX: never. */
uint64_t drill_deadline(const struct drill *d);
/* Moves the clock to `to`, taking every timer on the way at its own time. False: it does not stop (engine busy loop). */
bool drill_advance(struct drill *d, uint64_t to);
/*
 * Held: nothing leaves, no timer runs out and no event is told by itself, as in a daemon between the parts of its turn;
 * the caller says when, by the verbs below, as a record does. Calls that would block can't go on.
 */
void drill_hold(struct drill *d);
/*
 * Packets come in chunks of the pool from here on, as the daemon reads a TAP: a small one that begins with `front` bytes
 * of other headers, then two big ones. 0: in none.
 */
void drill_chunks(struct drill *d, uint32_t front);
/* Then of coalesced packets each segment comes in a small chunk of its own (the stack coalesced frames). */
void drill_runs(struct drill *d, bool on);
/*
 * Asks for one segment: 1: it left; 0: who was asked had none; -1: nobody is ready. again: then the one that was asked
 * last is asked, ready or not.
 */
int drill_pull(struct drill *d, bool again);
/*
 * The next hop of the connection that is ready, or waits: 0: its address is not known yet, the connection waits;
 * 1: known; 2: it does not answer, or there is no route: `error`.
 */
void drill_next_hop(struct drill *d, int what, int error);
/* The device did not take the segment that began at `seq`, one of the last that left: tcp_tx_refused(). 0 or -ENOENT. */
int drill_refused(struct drill *d, uint32_t seq);
/* Timers run out that are due. 0: none is; 1: none of which a record tells (the pacing gate); 2: one that it tells of. */
int drill_expire(struct drill *d);
/*
 * A packet from the wire. gso_size: bytes per segment if it is a coalesced one, else 0. 0 or -EINVAL (not an intact TCP
 * or ICMP packet for us).
 */
int drill_input(struct drill *d, const uint8_t *packet, size_t bytes, uint16_t gso_size);
/* The next packet that left, oldest first: its bytes; 0: none; -EMSGSIZE: `room` is too small. */
int drill_output(struct drill *d, uint8_t *packet, size_t room, struct drill_packet *ret);
const char *drill_cause_name(int32_t cause);
/* Writes the names of drop reasons counted since the last call, separated by spaces; returns buf. */
char *drill_drops(struct drill *d, char *buf, size_t n);
/* What the flight recorder has of the n-th record, 0 first: bytes of its dump; 0: no more; -errno. */
int64_t drill_trace(const struct drill *d, uint32_t n, uint8_t *buf, uint64_t room);
/* Counts of causes and drops since the start as "CAUSE_xxx 3\n" lines; returns buf. */
char *drill_coverage(const struct drill *d, char *buf, uint64_t room);
/* A counter by its exported name (TCPChallengeACK, ...), -1: no such. */
int64_t drill_counter(const struct drill *d, const char *metric);

int drill_socket(struct drill *d, int family, int flags); /* family 4 or 6; flags O_NONBLOCK */
int drill_bind(struct drill *d, int fd, const struct drill_addr *addr);
int drill_listen(struct drill *d, int fd, int backlog);
int drill_shutdown(struct drill *d, int fd, int how);
int drill_close(struct drill *d, int fd);
int drill_setsockopt(struct drill *d, int fd, int level, int name, const void *value, uint32_t bytes);
int drill_getsockopt(struct drill *d, int fd, int level, int name, void *value, uint32_t *inout_bytes);
int drill_getname(struct drill *d, int fd, int peer, struct drill_addr *ret);
int drill_fcntl(struct drill *d, int fd, int cmd, int arg);
int drill_ioctl(struct drill *d, int fd, uint32_t request, int32_t *value);
int drill_epoll_create(struct drill *d);
int drill_epoll_ctl(struct drill *d, int epfd, int op, int fd, const struct drill_epoll_event *event);

/* Begins a call that may block; it is done (pending 0, result, done_at) now or in a later verb. */
void drill_begin(struct drill *d, struct drill_call *call);
/* The caller gives up waiting; the call is forgotten. */
void drill_forget(struct drill *d, struct drill_call *call);

#endif
