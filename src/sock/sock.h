/*
 * sock/sock.h: socket semantics, once.
 *
 * What a program on Linux expects of socket(), bind(), listen(), accept(), connect(), send, recv, shutdown(), close(),
 * setsockopt(), poll(): errno values and their order, readiness, bind rules (wildcards, v4-mapped), the accept queue,
 * linger and orphans, buffer accounting. The daemon's control socket, its forwards and built-in services, libtaut and
 * the packetdrill shim are thin layers over this header; none of them knows these rules again.
 *
 * All calls are non-blocking: -EAGAIN, -EINPROGRESS; a shell that blocks waits for the event. Errors are negative
 * errno. A struct sock belongs to its creator from sock_new() or sock_accept() until sock_close() or sock_abort(),
 * which end the pointer's life.
 */
#ifndef TAUT_SOCK_H
#define TAUT_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"
#include "tcp/tcp.h"

struct sock;
struct socks;

/* What sock asks of the layer that knows addresses and routes: pure look-ups. */
struct sock_net {
    void *ctx;
    /*
     * The way to dst. *inout_src: unspecified (family IP_NONE) to have one chosen (RFC 6724), else to be kept. 0 with
     * ret filled, -ENETUNREACH, -EADDRNOTAVAIL (src is not ours), -EACCES (broadcast), -EINVAL.
     */
    int (*route)(void *ctx, const struct ip_addr *dst, struct ip_addr *inout_src, struct tcp_path *ret);
    bool (*is_local)(void *ctx, const struct ip_addr *addr);
};

struct socks_params {
    struct tcp *tcp; /* stays the caller's */
    const struct tcp_config *config;
    struct sock_net net;
    struct siphash_key port_key; /* RFC 6056 */
    uint64_t rng_seed;
};
struct socks *socks_create(const struct socks_params *params);
void socks_destroy(struct socks *ss);

/* family: IP_V4 or IP_V6. `user` comes back in events. NULL: no memory. */
struct sock *sock_new(struct socks *ss, enum ip_family family, void *user);
void sock_set_user(struct sock *s, void *user);
void *sock_user(const struct sock *s);
/* The engine's id of its connection; 0 before connect, for listeners, and after the connection is gone. */
tcp_id sock_conn_id(const struct sock *s);

/* As bind(2): addr IP_NONE or unspecified: wildcard; port 0: chosen now. -EADDRINUSE, -EADDRNOTAVAIL, -EINVAL. */
int sock_bind(struct sock *s, const struct ip_addr *addr, uint16_t port);
int sock_listen(struct sock *s, uint32_t backlog);
/* The next established connection, owned by the caller; NULL: none (-EAGAIN). */
struct sock *sock_accept(struct sock *s, void *user);
/* -EINPROGRESS on success; the event SOCK_WRITABLE or SOCK_ERROR tells how it ended. Else as connect(2). */
int sock_connect(struct sock *s, const struct ip_addr *addr, uint16_t port, uint64_t now);

/* As tcp_send_reserve() etc. of tcp/tcp.h with Linux's errors. */
uint32_t sock_send_goal(const struct sock *s);
int sock_send_reserve(struct sock *s, size_t want, struct tcp_iov *iov, int max);
int sock_send_commit(struct sock *s, size_t bytes, unsigned flags, uint64_t now);
int64_t sock_send(struct sock *s, const void *data, size_t bytes, unsigned flags, uint64_t now);
int64_t sock_send_shared(struct sock *s, const struct tcp_slice *slice, unsigned n, unsigned flags, uint64_t now);
/*
 * sendto(2) with an address (NULL: none; family IP_NONE: AF_UNSPEC) and SOCK_SEND_FASTOPEN among the flags
 * (MSG_FASTOPEN): connects, with as many bytes in the SYN as a cookie allows. Bytes taken; -EINPROGRESS: the SYN left
 * without data; -EALREADY, -EOPNOTSUPP, and as connect(2) and sock_send(). Also what is sent first after a connect()
 * that TCP_FASTOPEN_CONNECT put off. A shell that blocks waits for SOCK_POLLOUT, then sends the rest.
 */
#define SOCK_SEND_FASTOPEN 0x100u
int64_t sock_sendto(struct sock *s, const struct ip_addr *addr, uint16_t port, const void *data, size_t bytes,
                    unsigned flags, uint64_t now);
/* connect() said 0, but its SYN waits for the first send (TCP_FASTOPEN_CONNECT). */
bool sock_is_deferred(const struct sock *s);
/* A shell's writer sleeps until the socket is connected (sk_write_pending): its data will carry the handshake's ACK. */
void sock_set_write_pending(struct sock *s, bool on);
/* Places of unread bytes; 0 with *ret_eof: end of stream; -EAGAIN: nothing now; -errno once for an error. */
int sock_recv_peek(struct sock *s, struct tcp_iov *iov, int max, bool *ret_eof);
void sock_recv_consume(struct sock *s, size_t bytes, uint64_t now);
int64_t sock_recv(struct sock *s, void *data, size_t bytes, uint64_t now); /* 0: end of stream */
/* The same with flags: PEEK leaves the bytes unread, TRUNC throws them away uncopied (data may be NULL then). */
enum sock_recv_flag { SOCK_RECV_PEEK = 1, SOCK_RECV_TRUNC = 2 };
int64_t sock_recvmsg(struct sock *s, void *data, size_t bytes, unsigned flags, uint64_t now);

/* SIOCINQ: unread bytes; SIOCOUTQ: bytes not acknowledged yet; SIOCOUTQNSD: bytes not sent yet. -EINVAL: a listener. */
enum sock_queue { SOCK_QUEUED_IN, SOCK_QUEUED_OUT, SOCK_QUEUED_UNSENT };
int64_t sock_queued(struct sock *s, enum sock_queue which);
/* TCP_CM_INQ of a socket with TCP_INQ: unread bytes, one more if the peer's FIN follows them. */
int sock_inq_hint(struct sock *s);

enum sock_how { SOCK_SHUT_RD, SOCK_SHUT_WR, SOCK_SHUT_RDWR };
int sock_shutdown(struct sock *s, enum sock_how how, uint64_t now);
/* As close(2): FIN or, with unread data or linger 0, RST; unaccepted connections of a listener are reset. */
void sock_close(struct sock *s, uint64_t now);
void sock_abort(struct sock *s, uint64_t now);

/* Readiness as poll(2) gives it; the bits are Linux's numbers. */
enum sock_poll_bit {
    SOCK_POLLIN = 0x001,
    SOCK_POLLPRI = 0x002,
    SOCK_POLLOUT = 0x004,
    SOCK_POLLERR = 0x008,
    SOCK_POLLHUP = 0x010,
    SOCK_POLLRDHUP = 0x2000
};
unsigned sock_poll(struct sock *s);
/* SO_ERROR: the pending error (positive errno), cleared by reading. */
int sock_take_error(struct sock *s);

int sock_name(const struct sock *s, struct ip_addr *ret, uint16_t *ret_port); /* getsockname */
int sock_peer(const struct sock *s, struct ip_addr *ret, uint16_t *ret_port); /* getpeername, -ENOTCONN */
/* What accept(2) says of the peer, also of a connection that has ended meanwhile. */
void sock_accepted_from(const struct sock *s, struct ip_addr *ret, uint16_t *ret_port);

/*
 * setsockopt/getsockopt with Linux's numbers of level and name (SOL_SOCKET 1, IPPROTO_TCP 6, IPPROTO_IP 0,
 * IPPROTO_IPV6 41); int-valued options take 4 bytes, SO_LINGER 8. -ENOPROTOOPT, -EINVAL.
 */
int sock_setopt(struct sock *s, int level, int name, const void *value, size_t bytes, uint64_t now);
/* TCP_MD5SIG as a call: key bytes 0 forgets it; a mapped prefix is given as IPv4. As tcp_md5_set(). */
int sock_md5_set(struct sock *s, const struct tcp_md5_key *key, uint64_t now);
int sock_getopt(struct sock *s, int level, int name, void *value, size_t *inout_bytes, uint64_t now);

/* The socket of a restored connection that has an owner and was accepted, as its info says. NULL: no memory. */
struct sock *sock_restore(struct socks *ss, tcp_id id, const struct tcp_info *info, uint64_t now);

/* Events: bits of readiness that became true since the last event of this socket. */
struct sock_event {
    struct sock *sock;
    void *user;
    unsigned bits; /* enum sock_poll_bit; POLLIN on a listener: a connection can be accepted */
};
/* Drains the engine's events into sockets and returns the next socket whose readiness changed. */
bool sock_next_event(struct socks *ss, struct sock_event *ret);

/*
 * For an owner that could do more now: its socket gets an event, whatever the readiness, after socks_resume(). starving:
 * it lacks memory; another event may come before. socks_resume() lets `most` of one kind have theirs; true: some are left.
 */
void sock_later(struct sock *s, bool starving);
bool socks_resume(struct socks *ss, bool starving, unsigned most);

/*
 * State changes of connections that have a socket, for whoever follows them all; kept (at most 1024) only while watched.
 * state 0: the socket was closed; what is left of the connection (an orphan, TIME-WAIT) is told no more.
 */
struct sock_state_change {
    tcp_id id;
    uint8_t state; /* enum tcp_state, or 0 */
    int error;     /* errno > 0 that ended it */
    uint32_t lost; /* changes dropped since the last one: the ring was full */
};
void socks_watch_states(struct socks *ss, bool on);
bool sock_next_state_change(struct socks *ss, struct sock_state_change *ret);

/* Listeners, for listings: iterate from NULL. */
struct sock *sock_next_listener(struct socks *ss, struct sock *after);
int sock_listen_info(const struct sock *s, struct tcp_listen_info *ret);
/* The socket that owns a connection, NULL: none (orphan, unaccepted). */
struct sock *sock_by_conn(struct socks *ss, tcp_id id);

#endif
