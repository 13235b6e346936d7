/*
 * sock/sock_priv.h: the inside of the socket layer. Only src/sock and its unit tests include it.
 *
 *   sock.c      life cycle: new, close, abort, names
 *   bind.c      who has which local address and port: bind rules, ports chosen, what closed sockets leave behind
 *   connect.c   connect, listen, accept
 *   io.c        send, receive, shutdown, errors, readiness
 *   event.c     the engine's events become socket state and readiness
 *   watch.c     state changes for listings
 *   restore.c   sockets of connections that outlived their process
 *   options.c   setsockopt, getsockopt
 *   linux_info.c  TCP_INFO in Linux's byte layout
 *
 * What a socket knows of its connection it knows from events: every call begins with socks_drain(), so a socket is
 * never behind the engine. err is Linux's sk_err, told once: by whichever of send, receive, connect and SO_ERROR comes
 * first. The engine's own copy of it is never passed on.
 */
#ifndef TAUT_SOCK_PRIV_H
#define TAUT_SOCK_PRIV_H

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/rng.h"
#include "base/siphash.h"
#include "sock/sock.h"

/* Numbers of Linux. Levels and options: */
enum sock_level { SOCK_LEVEL_IP = 0, SOCK_LEVEL_SOCKET = 1, SOCK_LEVEL_TCP = 6, SOCK_LEVEL_IPV6 = 41 };
enum sock_so {
    SOCK_SO_REUSEADDR = 2,
    SOCK_SO_TYPE = 3,
    SOCK_SO_ERROR = 4,
    SOCK_SO_SNDBUF = 7,
    SOCK_SO_RCVBUF = 8,
    SOCK_SO_KEEPALIVE = 9,
    SOCK_SO_LINGER = 13,
    SOCK_SO_REUSEPORT = 15,
    SOCK_SO_ACCEPTCONN = 30,
    SOCK_SO_SNDBUFFORCE = 32,
    SOCK_SO_RCVBUFFORCE = 33,
    SOCK_SO_PROTOCOL = 38,
    SOCK_SO_DOMAIN = 39,
    SOCK_SO_MAX_PACING_RATE = 47
};
enum sock_tcp_opt {
    SOCK_TCP_NODELAY = 1,
    SOCK_TCP_MAXSEG = 2,
    SOCK_TCP_CORK = 3,
    SOCK_TCP_KEEPIDLE = 4,
    SOCK_TCP_KEEPINTVL = 5,
    SOCK_TCP_KEEPCNT = 6,
    SOCK_TCP_SYNCNT = 7,
    SOCK_TCP_LINGER2 = 8,
    SOCK_TCP_DEFER_ACCEPT = 9,
    SOCK_TCP_WINDOW_CLAMP = 10,
    SOCK_TCP_INFO = 11,
    SOCK_TCP_QUICKACK = 12,
    SOCK_TCP_CONGESTION = 13,
    SOCK_TCP_MD5SIG = 14,
    SOCK_TCP_USER_TIMEOUT = 18,
    SOCK_TCP_FASTOPEN = 23,
    SOCK_TCP_NOTSENT_LOWAT = 25,
    SOCK_TCP_FASTOPEN_CONNECT = 30,
    SOCK_TCP_MD5SIG_EXT = 32,
    SOCK_TCP_FASTOPEN_KEY = 33,
    SOCK_TCP_FASTOPEN_NO_COOKIE = 34,
    SOCK_TCP_INQ = 36
};
enum { SOCK_IP_TOS = 1, SOCK_IP_MTU_DISCOVER = 10, SOCK_IP_FREEBIND = 15, SOCK_IPV6_V6ONLY = 26, SOCK_IPV6_TCLASS = 67 };
enum { SOCK_PMTUDISC_WANT = 1, SOCK_PMTUDISC_MAX = 5 };
enum { SOCK_TYPE_STREAM = 1, SOCK_AF_INET = 2, SOCK_AF_INET6 = 10 };
#define SOCK_MIN_SNDBUF 4608
#define SOCK_MIN_RCVBUF 2304

enum { SOCK_SHUTDOWN_RCV = 1, SOCK_SHUTDOWN_SEND = 2, SOCK_SHUTDOWN_MASK = 3 };

/* struct socket's state in Linux: what connect() has told the program so far. */
enum sock_phase { SOCK_UNCONNECTED, SOCK_CONNECTING, SOCK_CONNECTED, SOCK_DISCONNECTING };

/*
 * Somebody's claim on a local address and port. It outlives its socket as long as the connection does (orphan,
 * TIME-WAIT): then owner is NULL.
 */
struct sock_bind {
    struct list_node port_link; /* in ss->ports[local port] */
    struct list_node left_link; /* in ss->left while without owner */
    struct sock *owner;
    uint32_t sharers;           /* accepted sockets; then it has no owner, and of the tuple the local half only */
    struct ip_tuple tuple;      /* local: IP_NONE any of both families, unspecified any of one; mapped is IPv4 */
    tcp_id conn;
    bool reuse;                 /* SO_REUSEADDR */
    bool listening;
    bool bound;                 /* by bind() or listen(), or inherited from a listener: connect() picks other ports */
};

/* What many claims have in common whose connections are in TIME-WAIT: past.c. */
struct sock_past {
    struct ip_addr local;
    uint16_t port;
    bool reuse, bound, used;
    uint32_t next; /* number of the next one on the port, or of the next free one; 0: none */
};

/*
 * What few sockets have: listeners, those that a program made, those with options. All others share one that is empty and
 * never written to; who writes asks sock_more_own() first.
 */
struct sock_more {
    struct ip_addr bind_addr;       /* IP_NONE: wildcard; engine's view (mapped is IPv4) */
    struct sock *sock;              /* whose it is */
    uint32_t listener;              /* number in the engine, 0: none */
    struct list_node listener_link; /* in ss->listeners, for listeners */
    struct list_node accept_queue;  /* of a listener: struct sock.queue */
    uint8_t mtu_discover;           /* IP_MTU_DISCOVER */
    uint8_t n_fastopen_keys;
    uint8_t fastopen_key[2][16];
    int32_t linger_s;
    int32_t tos, tclass;
    struct tcp_md5_key *md5; /* md5.c */
    unsigned n_md5;
    uint64_t max_pacing_rate; /* 0: not set */
    uint32_t opt_set; /* bit per enum tcp_opt: the program said so */
    int32_t opt[TCP_OPT_MAX];
};

/* There are as many as connections: what an accepted one does not need lies in sock_more. */
struct sock {
    struct socks *ss;
    void *user;
    struct sock_more *more; /* never NULL */
    struct sock_bind *bind; /* its own, or one that it shares */
    tcp_id conn;
    struct sock *conn_next; /* in ss->by_conn */
    /* In ss->pending, ss->later, ss->starving or, while `waiting`, in its listener's accept queue. */
    struct list_node queue;
    struct ip_tuple tuple; /* of the connection, engine's view */
    uint16_t err;          /* sk_err, positive errno, 0: none */
    uint16_t pending_bits;
    uint8_t family;   /* enum ip_family of the program's view */
    uint8_t phase;    /* enum sock_phase */
    uint8_t state;    /* enum tcp_state as far as events told */
    uint8_t shutdown; /* SOCK_SHUTDOWN_* */
    bool done : 1;    /* SOCK_DONE: the stream ended by the peer's FIN */
    bool urgent : 1;
    bool deferred : 1; /* TCP_FASTOPEN_CONNECT: connect() said 0, the first send makes the SYN */
    bool passive_fastopen : 1; /* accepted in SYN-RECEIVED: it may read and write already */
    bool port_locked : 1, addr_locked : 1; /* the program chose them: they stay when a connection ends */
    bool waiting : 1;  /* to be accepted */
    bool starving : 1; /* in ss->starving */
    bool again : 1;    /* its event comes, ready or not */
    /* options */
    bool reuse : 1, v6only : 1, linger_on : 1, inq : 1, freebind : 1, fastopen_connect : 1;
};
static_assert(sizeof(struct sock) <= 120, "with what malloc() adds 128 bytes a connection");

#define SOCK_PORTS 65536u
#define SOCK_PERTURB 65536u /* entries of RFC 6056's table */

struct socks {
    struct tcp *tcp;
    const struct tcp_config *config;
    struct sock_net net;
    struct siphash_key port_key;
    struct rng rng;
    uint64_t now;               /* the latest that a call brought: for those that bring none */
    struct list_node *ports;    /* claims by local port, zero until first used; those with `bound` come first */
    struct list_node left;      /* struct sock_bind.left_link, oldest first */
    struct sock_past *past;     /* by number - 1 */
    uint32_t *past_first;       /* by local port: a number, 0: none */
    uint32_t n_past, past_size, past_free, past_at;
    struct sock **by_conn;      /* by_conn_size buckets, a power of two */
    uint32_t by_conn_size, n_conns;
    struct list_node listeners; /* in the order of listen() */
    struct list_node pending;
    struct list_node later, starving; /* sock_later() */
    uint32_t *perturb;          /* 0: not drawn yet */
    struct sock_watch *watch; /* NULL: nobody watches */
};

/* ---- sock.c ---- */
struct sock *sock_alloc(struct socks *ss, enum ip_family family, void *user);
void sock_free(struct sock *s);
static inline struct sock *sock_of_listener(struct list_node *node)
{
    return list_entry(node, struct sock_more, listener_link)->sock;
}
/* So that s->more may be written to. False: no memory. */
bool sock_more_own(struct sock *s);
/* Joins a socket and a connection; the second ends it. */
void sock_conn_attach(struct sock *s, tcp_id id, const struct ip_tuple *tuple);
void sock_conn_detach(struct sock *s);
/* Waiting to be accepted, or not. */
struct sock *sock_any_by_conn(const struct socks *ss, tcp_id id);
/* tcp_disconnect(): back to an unconnected socket. May leave ECONNRESET in err. */
void sock_disconnect(struct sock *s, uint64_t now);
/* Ends a listener with all that waits in it. */
void sock_listen_stop(struct sock *s, uint64_t now);

/* ---- bind.c ---- */
/* ::ffff:a.b.c.d -> a.b.c.d; anything else as it is. */
struct ip_addr sock_addr_unmap(const struct ip_addr *a);
struct ip_addr sock_addr_map(const struct ip_addr *a);
/* Claims s->bind_addr and port (0: chooses one). -EADDRINUSE, -ENOMEM. */
int sock_bind_claim(struct sock *s, uint16_t port);
/* May the socket, which has its claim, listen? (bind's rules again, as a listener) */
bool sock_bind_may_listen(const struct sock *s);
/* SO_REUSEADDR, of its claim too; out of one that it shares. 0 or -ENOMEM. */
int sock_bind_set_reuse(struct sock *s, bool reuse);
/* Claims the tuple of a connection that connect() or a listener gave. */
int sock_bind_claim_tuple(struct sock *s, const struct ip_tuple *tuple, bool bound);
/* The same for a socket that was accepted: all of a local address and port share one. */
int sock_bind_share(struct sock *s);
/* Port for an active open from tuple->local to tuple->remote; 0: none is free. RFC 6056 section 3.3.4. */
uint16_t sock_bind_ephemeral(struct socks *ss, const struct ip_tuple *tuple);
/* The socket gives its claim up; it stays behind while its connection, which was `id`, lives. */
void sock_bind_release(struct sock *s, tcp_id id);
/* Forgets claims of connections that are gone, a few at a time. */
void sock_bind_collect(struct socks *ss, unsigned steps);
void sock_bind_free(struct sock_bind *b);

/* ---- past.c ---- */
/* Nobody owns the claim: if its connection is in TIME-WAIT, that will be known without it. */
bool sock_past_take(struct socks *ss, const struct sock_bind *b);
/* The next of a port (after NULL: the first), all of them with a connection in TIME-WAIT; NULL: no more. */
const struct sock_past *sock_past_of_port(struct socks *ss, uint16_t port, const struct sock_past *after);
void sock_past_collect(struct socks *ss);

/* ---- event.c ---- */
void socks_drain(struct socks *ss);
/* The same, and notes the time. */
static inline void socks_enter(struct socks *ss, uint64_t now)
{
    ss->now = now;
    socks_drain(ss);
}
/* Readiness changed: the socket gets an event with those bits that still hold then. */
void sock_mark(struct sock *s, unsigned bits);

/* ---- watch.c ---- */
void sock_watch_note(struct socks *ss, tcp_id id, unsigned state, int error);

/* ---- io.c ---- */
static inline int sock_error_once(struct sock *s)
{
    int e = s->err;

    s->err = 0;
    return -e;
}
static inline bool sock_state_in(const struct sock *s, unsigned mask)
{
    return ((1u << s->state) & mask) != 0;
}
#define SOCK_ST(name) (1u << TCP_STATE_##name)

/* ---- connect.c ---- */
/* MSG_FASTOPEN, or the send that a put-off connect() waits for. 0: connected, send; -EINPROGRESS with *ret_copied. */
int sock_fastopen(struct sock *s, const struct ip_addr *addr, uint16_t port, const void *data, size_t bytes,
                  uint64_t now, size_t *ret_copied);

/* ---- options.c ---- */
/* Gives the connection what the program set before it existed. */
void sock_apply_options(struct sock *s, uint64_t now);
/* False: no memory. */
bool sock_inherit_options(struct sock *child, const struct sock *listener);

/* ---- md5.c ---- */
void sock_md5_free(struct sock *s);
/* Gives the connection or the listener that the socket has become the keys that were set before. */
int sock_md5_apply(struct sock *s, uint64_t now);
/* TCP_MD5SIG, TCP_MD5SIG_EXT. */
int sock_md5_setopt(struct sock *s, bool ext, const void *value, size_t bytes, uint64_t now);

/* ---- linux_info.c ---- */
/* struct tcp_info of Linux 6.9 (uapi/linux/tcp.h), by its names without the prefix tcpi_. */
struct sock_linux_info {
    uint8_t state, ca_state, retransmits, probes, backoff, options;
    uint8_t wscales; /* snd_wscale in the low four bits, rcv_wscale in the high ones */
    uint8_t flags;   /* delivery_rate_app_limited 1 bit, fastopen_client_fail 2 bits */
    uint32_t rto, ato, snd_mss, rcv_mss;
    uint32_t unacked, sacked, lost, retrans, fackets;
    uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
    uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
    uint32_t rcv_rtt, rcv_space, total_retrans;
    uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
    uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
    uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
    uint32_t delivered, delivered_ce;
    uint64_t bytes_sent, bytes_retrans;
    uint32_t dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash;
    uint16_t total_rto, total_rto_recoveries;
    uint32_t total_rto_time;
};
void sock_linux_info(struct sock *s, uint64_t now, struct sock_linux_info *ret);

#endif
