/*
 * tcp/tcp.h: the TCP engine, sans-I/O (RFC 9293 and what Linux adds).
 *
 * An engine is a pure function of (state, input, now, seed). The order of calls in a turn of the shell:
 *
 *     tcp_input(), tcp_icmp(), tcp_expire(), the calls of programs      any number, any order; they mark, never build
 *     tcp_next_event() until false                                      what programs must hear
 *     tcp_next_reply() until false, then tcp_next_ready() / tcp_output()   the only makers of segments: a batch
 *     tcp_commit()                                    changed records become durable, before the batch is written
 *     tcp_deadline()                                                    when to call tcp_expire() next
 *
 * `now` is CLOCK_MONOTONIC in ns and never goes backwards. After tcp_next_reply() and tcp_next_ready() have returned
 * false, tcp_deadline() > now, and no state changes before it unless something is put in.
 *
 * Connections are named by id (generation, worker, slot), never by pointer: an id is stable over save and restore, and
 * a stale one is answered with -ENOENT. Every connection has an owner from creation (tcp_connect(), or the event
 * TCP_EVENT_ACCEPT) until tcp_close() or tcp_abort(); after that it is an orphan that lives as long as the protocol
 * needs it. An owned connection that ended stays in CLOSE, readable and inspectable, until its owner closes it.
 *
 * Errors are negative errno values with Linux's meaning.
 */
#ifndef TAUT_TCP_H
#define TAUT_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chunk.h"
#include "base/ipaddr.h"
#include "base/keep.h"
#include "base/log.h"
#include "base/siphash.h"
#include "base/time.h"
#include "tcp/tcp_config.h"
#include "tcp/tcp_enums.h"
#include "tcp/tcp_info.h"
#include "wire/tcp.h"

struct tcp;

/*
 * generation << 32 | worker << 24 | slot; 0 is never a connection. The generation's upper 12 bits are the engine's
 * (tcp_params.generation modulo 2^12), its lower 20 count the uses of the slot, so that an old id stays stale until
 * its slot was used 2^20 times again.
 */
typedef uint64_t tcp_id;

/* Given at creation, secret, kept over a restart. */
struct tcp_secrets {
    struct siphash_key isn;       /* RFC 6528 */
    struct siphash_key ts_offset; /* per-connection timestamp offsets */
    struct siphash_key hash;      /* the connection table */
    struct siphash_key port;      /* ephemeral ports, RFC 6056 */
    uint64_t rng_seed;
};

/* Cryptography, handed in: pure functions, so that nothing below the shell knows a library of it. */
struct tcp_bytes {
    const void *data;
    size_t len;
};
struct tcp_crypto {
    void *ctx;
    /* MD5 (RFC 1321) of `n` pieces, one behind the other; false: it can't be had. */
    bool (*md5)(void *ctx, const struct tcp_bytes *piece, unsigned n, uint8_t ret[TCP_MD5_BYTES]);
};

#define TCP_MD5_KEYS_MAX 2047

/* How much of the arenas was ever used, and what else an engine hands down. */
struct tcp_kept {
    uint32_t records_touched, requests_touched, time_wait_touched, cells_touched; /* the entries of IPv4 */
    uint32_t requests6_touched, time_wait6_touched;
    uint64_t cookie_sent_at;
    tcp_id busy; /* whose segment, timer or output is being worked on, 0: none */
};

struct tcp_params {
    const struct tcp_config *config; /* stays the caller's; may be changed between calls */
    struct chunk_pool *pool;         /* stays the caller's; outlives the engine */
    const struct log_sink *log;      /* may be NULL */
    struct tcp_secrets secrets;
    uint64_t now;
    uint32_t max_conns;     /* size of the slot table, at most 2^24 */
    uint32_t max_half_open; /* over all listeners */
    uint32_t max_time_wait; /* size of its table; the configuration may lower it */
    uint32_t max_metrics;   /* destinations that the metrics cache remembers, 0: 4096 */
    uint32_t generation;    /* of ids; a restart continues with another one */
    uint8_t worker;
    const struct tcp_crypto *crypto; /* stays the caller's; NULL: no TCP-MD5 */
    uint32_t max_md5_keys;     /* different TCP-MD5 keys, 0: 1024, at most TCP_MD5_KEYS_MAX */
    size_t trace_bytes;        /* pool of the flight recorder (tcp_trace.h), 0: none */
    /*
     * Memory that outlives the engine, zeroed for the first one, for tcp_commit() and tcp_restore() (tcp_record.h); the
     * first and that of the keys may be alone, the others only come together. NULL: own memory, nothing can be restored.
     */
    void *record_arena;        /* tcp_records_bytes(max_conns) */
    void *request_arena;       /* max_half_open * tcp_request_bytes() */
    void *time_wait_arena;     /* max_time_wait * tcp_time_wait_bytes() */
    void *md5_arena;           /* max_md5_keys * tcp_md5_slot_bytes(); tcp_md5_sweep() once all have their keys */
    struct tcp_kept *kept;
    void *keep; /* tables of tcp_keep_specs() (base/keep.h), checked: metrics and counters that outlive it; NULL: none */
    uint16_t crash_port;       /* tests of crashes: a segment with URG for this port of ours aborts; 0: none */
    bool park_eager;           /* tests: park what is at rest at the end of every commit */
    bool check;                /* run tcp_check() after every verb and assert it: tests, fuzzing, debugging */
};

#define TCP_KEEP_TABLES 2
/* What tcp_params.keep holds for an engine of that max_metrics; returns TCP_KEEP_TABLES. */
unsigned tcp_keep_specs(uint32_t max_metrics, struct keep_spec *ret);
/* What was found in it at creation: destinations; entries that were damaged and are forgotten. */
struct tcp_keep_found {
    unsigned metrics, damaged;
};
void tcp_get_keep_found(const struct tcp *t, struct tcp_keep_found *ret);

/* NULL on lack of memory. */
struct tcp *tcp_create(const struct tcp_params *params);
/* Frees everything, tells nobody. */
void tcp_destroy(struct tcp *t);

/* What the stack knows of the way to a peer. */
struct tcp_path {
    uint16_t mtu;     /* bytes of IP header and payload */
    uint16_t advmss;  /* 0: from mtu */
    uint8_t initcwnd; /* segments, 0: from the configuration */
    uint8_t initrwnd; /* segments, 0: from the configuration */
};

/* ---- Input ---------------------------------------------------------------------------------------------------- */

/*
 * Takes a decoded, checksummed segment from a valid unicast source. `path` is the way back to its source; needed for
 * SYNs, else it may be NULL. Slices with a chunk may be adopted by reference (chunk_ref()), others are copied.
 */
void tcp_input(struct tcp *t, const struct tcp_seg *seg, const struct tcp_path *path, uint64_t now);
/*
 * Does it begin where its established connection's received bytes end, nothing out of order waiting behind them? Then the
 * segments that follow it may come with it as one; out of order each owes an ACK of its own.
 */
bool tcp_rcv_in_order(struct tcp *t, const struct tcp_seg *seg);
/* Is `path` needed for segments without SYN too? (SYN cookies were sent lately: an ACK may make a connection) */
bool tcp_wants_path(const struct tcp *t, uint64_t now);

struct tcp_icmp {
    struct ip_tuple tuple; /* of the embedded segment, which we sent: local is its source */
    uint32_t seq;
    int error;      /* errno as Linux maps it (EHOSTUNREACH, ECONNREFUSED, ...); EMSGSIZE for packet too big */
    bool hard;      /* Linux's "fatal" column of icmp_err_convert */
    uint16_t mtu;   /* next-hop MTU for EMSGSIZE */
};
void tcp_icmp(struct tcp *t, const struct tcp_icmp *icmp, uint64_t now);

/* Takes every timer whose time has come. */
void tcp_expire(struct tcp *t, uint64_t now);

/* ---- Output --------------------------------------------------------------------------------------------------- */

/* A segment to send. The slices point into chunks that stay until the next call of any other kind than output. */
struct tcp_out {
    tcp_id id; /* 0 for replies */
    enum tcp_cause cause;
    bool retransmission;
    struct tcp_seg seg; /* src is ours; ecn, tos, ttl (0: default) and gso_size are set */
};

/* Replies and SYN-ACKs: no payload, no connection to hold; the caller keeps them where the next hop is unresolved. */
bool tcp_next_reply(struct tcp *t, uint64_t now, struct tcp_out *ret);

/* The connection that is to be served next, urgent ones (only ACKs or little data owed) first, else round-robin. */
bool tcp_next_ready(struct tcp *t, struct tcp_out *ret); /* sets id, seg.src, seg.dst, ports only */
/*
 * Makes one segment or super-frame of that connection; false if it has nothing to send now (it left READY). With true
 * it goes to the tail of READY as long as it has more.
 */
bool tcp_output(struct tcp *t, tcp_id id, uint64_t now, struct tcp_out *ret);
/* The next hop is unresolved: takes the connection off READY until tcp_resume() or tcp_unreachable(). */
void tcp_suspend(struct tcp *t, tcp_id id);
void tcp_resume(struct tcp *t, tcp_id id);
/* No way to the peer: soft error as Linux (ends a SYN-SENT, else noted and RTO goes on). Also resumes. */
void tcp_unreachable(struct tcp *t, tcp_id id, int error, uint64_t now);
/*
 * What the path carries now, as the stack knows: told before tcp_output(). Smaller: at once; larger: from the next ACK or
 * send on, as Linux, which looks at the route when a segment leaves. What is in flight is not touched.
 */
void tcp_path_mtu(struct tcp *t, tcp_id id, uint16_t mtu);
/* The device refused a segment that tcp_output() made: counted, as good as lost. */
void tcp_tx_failed(struct tcp *t, const struct tcp_out *out);
/*
 * The same because its queue is full (Linux's local congestion): new data counts as not sent, if it is the last that
 * this connection sent; it is tried again with the next send or ACK, at the latest after 500 ms. Lost segments are to be
 * sent again still. What else was refused is as good as lost. Where several were refused, tell the last one first.
 */
void tcp_tx_refused(struct tcp *t, const struct tcp_out *out, uint64_t now);
/* Largest super-frame payload the device takes, 0: none (no TSO); takes effect at once. */
void tcp_set_gso_max(struct tcp *t, uint32_t bytes);

uint64_t tcp_deadline(const struct tcp *t);

/* ---- Calls of programs ---------------------------------------------------------------------------------------- */

struct tcp_listen_args {
    struct ip_addr addr; /* IP_NONE: any address of both families; unspecified address: any of that family */
    uint16_t port;
    uint32_t backlog; /* accept queue; capped by somaxconn */
    uint64_t user;    /* comes back in TCP_EVENT_ACCEPT */
};
/* 0 with a listener number > 0, -EADDRINUSE for the same addr and port, -ENOMEM. Bind rules are sock's. */
int tcp_listen(struct tcp *t, const struct tcp_listen_args *args, uint32_t *ret_listener);
/* Ends it: half-open entries go, unaccepted connections are reset. */
void tcp_listen_close(struct tcp *t, uint32_t listener, uint64_t now);
/* The owner took the oldest connection out of its accept queue (the engine counts what lies in it). */
void tcp_listen_accepted(struct tcp *t, uint32_t listener);
/* listen(2) again: another accept backlog, capped by somaxconn. 0 or -ENOENT. */
int tcp_listen_set_backlog(struct tcp *t, uint32_t listener, uint32_t backlog);

struct tcp_listen_info {
    struct ip_addr addr;
    uint16_t port;
    uint32_t backlog, accept_queue, half_open;
    uint64_t user;
};
int tcp_listen_info(const struct tcp *t, uint32_t listener, struct tcp_listen_info *ret);

struct tcp_connect_args {
    struct ip_tuple tuple; /* complete: source address and port are sock's choice */
    struct tcp_path path;
    uint64_t user;         /* comes back in events */
    bool fastopen;         /* no SYN yet: tcp_fastopen_connect() will mark it */
};
/* Marks a SYN (unless fastopen). 0, -EADDRINUSE (tuple exists; TIME-WAIT that may not be reused), -ENOMEM, -ENFILE (max_conns). */
int tcp_connect(struct tcp *t, const struct tcp_connect_args *args, uint64_t now, tcp_id *ret);
/* True if a connection, half-open entry or TIME-WAIT entry that may not be reused has this tuple. */
bool tcp_tuple_in_use(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now);
void tcp_set_user(struct tcp *t, tcp_id id, uint64_t user);
/*
 * Marks the TIME-WAIT entry of this tuple by a small number > 0 of the caller's choice (sock's claims on ports); a restart
 * forgets it. 0, -ENOENT, -ENOMEM. marked: how many there are with that mark.
 */
int tcp_tw_mark(struct tcp *t, const struct ip_tuple *tuple, uint32_t mark);
uint32_t tcp_tw_marked(const struct tcp *t, uint32_t mark);

/*
 * Fast Open (RFC 7413), active side, for a connection made with args.fastopen. May data go out with its SYN (there is a
 * cookie, or none is needed, and no black hole)? What TCP_FASTOPEN_CONNECT asks before it puts the SYN off.
 */
bool tcp_fastopen_ready(struct tcp *t, tcp_id id, uint64_t now);
/*
 * Marks its SYN, with as many of `bytes` as a SYN takes; else it asks for a cookie. Returns the bytes taken (their
 * connection is not established, so 0 or more stands for -EINPROGRESS), -ENOENT, or -EALREADY (its SYN was marked).
 */
int64_t tcp_fastopen_connect(struct tcp *t, tcp_id id, const void *data, size_t bytes, uint64_t now);
/* Somebody waits for the connection in order to send: the handshake's ACK may ride on that data (sk_write_pending). */
void tcp_set_write_pending(struct tcp *t, tcp_id id, bool on);
/*
 * Cookie keys of 16 bytes each, primary and (n 2) backup, in the byte order of Linux's TCP_FASTOPEN_KEY; of the engine
 * (listener 0: tcp_fastopen_key) or of one listener; n 0: forget a listener's. -ENOENT, -EINVAL. get returns their number.
 */
int tcp_fastopen_set_keys(struct tcp *t, uint32_t listener, const uint8_t (*keys)[16], unsigned n);
int tcp_fastopen_get_keys(const struct tcp *t, uint32_t listener, uint8_t (*ret_keys)[16]);

/*
 * MORE: small segments wait for the next send or an ACK. URGENT: its end is urgent. EOR: a record ends with it; no
 * segment, sent or sent again, holds bytes of both sides of that end.
 */
enum tcp_send_flag { TCP_SEND_MORE = 1, TCP_SEND_URGENT = 2, TCP_SEND_EOR = 4 };

/*
 * Bytes that a send would take now (0: none; TCP_EVENT_WRITABLE will come once a third is free). The limits are Linux's:
 * SO_SNDBUF counts bytes and an overhead for each segment or super-frame, and is looked at only when one is begun, so
 * that a send may go beyond it by nearly one; TCP_OPT_NOTSENT_LOWAT limits what has not left.
 */
size_t tcp_send_space(struct tcp *t, tcp_id id);
/* Bytes of a whole super-frame: what is sent in multiples of it leaves without a small rest. At least 1. */
uint32_t tcp_send_goal(const struct tcp *t, tcp_id id);
/*
 * Linux's sk_stream_is_writeable(): a third is free, and unsent is less than half of TCP_OPT_NOTSENT_LOWAT. False marks it for TCP_EVENT_WRITABLE (SOCK_NOSPACE). True for
 * what is no connection of an owner: sending tells why.
 */
bool tcp_send_writable(struct tcp *t, tcp_id id);
/*
 * Room to fill: up to `max` places of together at most `want` bytes, into which the caller writes (readv, recvmmsg)
 * and then commits the bytes written, a prefix. Returns the number of places, 0 when there is no room now (marked for
 * TCP_EVENT_WRITABLE), or -ENOENT, -EPIPE (shut down, or CLOSE; -ECONNRESET and others once, as Linux's sk_err),
 * -ENOTCONN. Nothing is held between the two calls but for the caller.
 */
struct tcp_iov {
    uint8_t *data;
    size_t len;
};
int tcp_send_reserve(struct tcp *t, tcp_id id, size_t want, struct tcp_iov *iov, int max);
int tcp_send_commit(struct tcp *t, tcp_id id, size_t bytes, unsigned flags, uint64_t now);
/* Both, with a copy. Bytes taken (may be fewer than asked), or as above; -EAGAIN when there is no room. */
int64_t tcp_send(struct tcp *t, tcp_id id, const void *data, size_t bytes, unsigned flags, uint64_t now);
/*
 * The same without a copy, for bytes that are sent again and again: slices of chunks of the pool, which the caller has a
 * reference to and will never write to again. The send buffer takes references of its own.
 */
int64_t tcp_send_shared(struct tcp *t, tcp_id id, const struct tcp_slice *slice, unsigned n, unsigned flags,
                        uint64_t now);

/*
 * Unread bytes in order, at most `max` places. Number of places; 0: none now; *ret_eof: the peer's FIN follows them.
 * -ENOENT, or the connection's error once everything was read (once, as sk_err; then 0 with eof).
 */
int tcp_recv_peek(struct tcp *t, tcp_id id, struct tcp_iov *iov, int max, bool *ret_eof);
/* Frees the first `bytes` of them; may owe a window update. */
void tcp_recv_consume(struct tcp *t, tcp_id id, size_t bytes, uint64_t now);

/* FIN behind what is queued. 0, -ENOTCONN, -ENOENT. */
int tcp_shutdown_write(struct tcp *t, tcp_id id, uint64_t now);
/* The owner reads no more: what comes is acknowledged and thrown away, as Linux's SHUT_RD. */
int tcp_shutdown_read(struct tcp *t, tcp_id id, uint64_t now);
/* The owner is gone: FIN (RST if data is unread), then an orphan. The id must not be used after it. */
int tcp_close(struct tcp *t, tcp_id id, uint64_t now);
/* RST where the state asks for it, of an orphan too; the id must not be used after it. */
int tcp_abort(struct tcp *t, tcp_id id, uint64_t now);
/* The same of one that waits to be accepted and can't be for lack of memory: counted as that. */
void tcp_refuse(struct tcp *t, tcp_id id, uint64_t now);

/* Options of one connection, Linux's meaning and units as in the comment. 0, -ENOENT, -EINVAL. */
enum tcp_opt {
    TCP_OPT_NODELAY,         /* 0/1 */
    TCP_OPT_CORK,            /* 0/1 */
    TCP_OPT_QUICKACK,        /* 0/1 */
    TCP_OPT_KEEPALIVE,       /* 0/1: SO_KEEPALIVE */
    TCP_OPT_KEEPIDLE,        /* s */
    TCP_OPT_KEEPINTVL,       /* s */
    TCP_OPT_KEEPCNT,
    TCP_OPT_USER_TIMEOUT,    /* ms */
    TCP_OPT_LINGER2,         /* s; < 0: no FIN-WAIT-2 for orphans */
    TCP_OPT_SYNCNT,
    TCP_OPT_MAXSEG,          /* before connect/listen */
    TCP_OPT_WINDOW_CLAMP,    /* bytes */
    TCP_OPT_SNDBUF,          /* bytes; doubled for overhead (read back so); locks autotuning */
    TCP_OPT_RCVBUF,          /* the same */
    TCP_OPT_TOS,
    TCP_OPT_FASTOPEN,        /* listeners: pending Fast Opens at most, 0: none; connections: ignored */
    TCP_OPT_FASTOPEN_NO_COOKIE, /* 0/1 */
    TCP_OPT_DEFER_ACCEPT,    /* s; listeners: no connection before data; active: the handshake's ACK is delayed */
    TCP_OPT_CONGESTION,      /* index of the congestion control: tcp_congestion_find() */
    TCP_OPT_NOTSENT_LOWAT,   /* bytes not sent yet from which on a send takes no more; unsigned, 0: configuration */
    TCP_OPT_MAX
};
int tcp_set_opt(struct tcp *t, tcp_id id, enum tcp_opt opt, int32_t value, uint64_t now);
int tcp_get_opt(const struct tcp *t, tcp_id id, enum tcp_opt opt, int32_t *ret);
/*
 * What its half-open entries need to know: TCP_OPT_MAXSEG, RCVBUF, FASTOPEN, FASTOPEN_NO_COOKIE, DEFER_ACCEPT; others:
 * 0, ignored.
 */
int tcp_listen_set_opt(struct tcp *t, uint32_t listener, enum tcp_opt opt, int32_t value);
/* Bytes/s, UINT64_MAX: none; the pacing gate then holds new segments back (SO_MAX_PACING_RATE). 0 or -ENOENT. */
int tcp_set_max_pacing_rate(struct tcp *t, tcp_id id, uint64_t rate);
/* Index of a congestion control by its name of at most `bytes`, for TCP_OPT_CONGESTION; -ENOENT. */
int tcp_congestion_find(const char *name, size_t bytes);
/* Its name; NULL behind the last. */
const char *tcp_congestion_at(unsigned index);
/* Name of its congestion control ("reno"); id 0: of new connections. NULL: no such connection. */
const char *tcp_congestion_name(const struct tcp *t, tcp_id id);

/* ---- TCP-MD5 (RFC 2385) --------------------------------------------------------------------------------------- */

#define TCP_MD5_KEY_MAX 80 /* Linux TCP_MD5SIG_MAXKEYLEN */

/* One key for the peers of a prefix (Linux's struct tcp_md5sig). */
struct tcp_md5_key {
    struct ip_addr addr; /* family IP_V4 or IP_V6; bits behind the prefix don't count */
    uint8_t prefix;      /* bits, at most those of the family */
    uint8_t bytes;       /* of the key, 0: forget the one of this prefix */
    uint8_t key[TCP_MD5_KEY_MAX];
};
/*
 * Sets, changes or (bytes 0) forgets a key; the longest prefix that holds the peer counts. On a connection of which the
 * peer is not in the prefix it is refused (-EINVAL). An accepted connection has its listener's key of that moment, with
 * the peer's whole address as prefix. From then on each segment of the peer must be signed with it, and each of ours is.
 * 0, -ENOENT (no such connection or listener; nothing to forget), -ENOPROTOOPT (no crypto), -EINVAL, -ENOMEM (more than
 * max_md5_keys, or than four prefixes on a connection).
 */
int tcp_md5_set(struct tcp *t, tcp_id id, const struct tcp_md5_key *key, uint64_t now);
int tcp_listen_md5_set(struct tcp *t, uint32_t listener, const struct tcp_md5_key *key);
/* Was cryptography handed in? */
bool tcp_md5_available(const struct tcp *t);
/* Are the segments of this connection signed? */
bool tcp_md5_is_on(const struct tcp *t, tcp_id id);
/*
 * Records name their keys by their place in the key table, never by their bytes: who restores them gives the same
 * md5_arena again. Keys that no restored record nor listener has taken by then are wiped by tcp_md5_sweep().
 */
size_t tcp_md5_slot_bytes(void);
void tcp_md5_sweep(struct tcp *t);

/* ---- Events --------------------------------------------------------------------------------------------------- */

struct tcp_event {
    tcp_id id;
    uint64_t user;     /* of the connection; for TCP_EVENT_ACCEPT of the listener */
    uint32_t listener; /* for TCP_EVENT_ACCEPT, else 0 */
    unsigned bits;     /* enum tcp_event_bit */
    int error;         /* errno > 0 for TCP_EVENT_ERROR */
    enum tcp_state state;
};
bool tcp_next_event(struct tcp *t, struct tcp_event *ret);

/* ---- Looking in ----------------------------------------------------------------------------------------------- */

/* 0 or -ENOENT. Half-open and TIME-WAIT entries have ids too; they fill what they have. */
int tcp_get_info(const struct tcp *t, tcp_id id, uint64_t now, struct tcp_info *ret);
/* The little by which a search looks through many: much cheaper than all of it. 0 or -ENOENT. */
struct tcp_brief {
    enum tcp_state state;
    struct ip_tuple tuple;
    uint32_t idle_ms; /* since data or an ACK moved; UINT32_MAX: half-open and TIME-WAIT entries */
};
int tcp_get_brief(const struct tcp *t, tcp_id id, uint64_t now, struct tcp_brief *ret);
/* Iterates over connections, half-open and TIME-WAIT entries: start with 0; returns 0 at the end. */
tcp_id tcp_next_id(const struct tcp *t, tcp_id after);

struct tcp_totals {
    uint32_t conns, established, half_open, time_wait, orphans, listeners, ready, parked;
};
void tcp_get_totals(const struct tcp *t, struct tcp_totals *ret);

/* All since creation; drops and causes are indexed by their enumerations. The pointers stay valid. */
const struct tcp_counters *tcp_get_counters(const struct tcp *t);
const uint64_t *tcp_get_drops(const struct tcp *t);
const uint64_t *tcp_get_causes(const struct tcp *t);

/* ---- Metrics ---- */

/* What is remembered of a destination (Linux's tcp_metrics); 0: not known. */
struct tcp_metrics {
    struct ip_addr local, remote;
    uint64_t age; /* us since it was last written */
    uint32_t rtt_us, rttvar_us;
    uint32_t rtt; /* us << 3 */
    uint32_t ssthresh, cwnd, reordering; /* segments */
    uint16_t fastopen_mss;
    uint8_t fastopen_cookie_bytes;
    uint8_t fastopen_cookie[TCP_FASTOPEN_COOKIE_MAX];
    uint32_t fastopen_syn_loss; /* SYNs with data lost in a row */
};
/* The next one at or behind place *inout_at (0 at first), which moves on; false: no more. */
bool tcp_metrics_next(const struct tcp *t, uint32_t *inout_at, uint64_t now, struct tcp_metrics *ret);
/* For replays of a record: round-trip time (rtt), ssthresh and reordering as if a connection had left them. */
void tcp_metrics_learn(struct tcp *t, const struct ip_addr *local, const struct ip_addr *remote,
                       const struct tcp_metrics *what, uint64_t now);
/* Forgets one destination, or all (NULL); returns how many. */
uint32_t tcp_metrics_flush(struct tcp *t, const struct ip_addr *remote);

/* ---- Records -------------------------------------------------------------------------------------------------- */

/* The record arena: of each connection a double-buffered record with its selector, and the cell where it is parked. */
size_t tcp_records_bytes(uint32_t max_conns);
/* Of the arena of half-open or TIME-WAIT entries, for each that there may be: one of IPv4 and one of IPv6. */
size_t tcp_request_bytes(void);
size_t tcp_time_wait_bytes(void);
/* The parts of such an arena for `max` of them that were ever used, by family: for whoever copies it. */
void tcp_requests_used(const struct tcp_kept *kept, uint32_t max, size_t ret_offset[2], size_t ret_bytes[2]);
void tcp_time_wait_used(const struct tcp_kept *kept, uint32_t max, size_t ret_offset[2], size_t ret_bytes[2]);
/* Publishes the records of all connections changed since the last call; returns their number. */
uint32_t tcp_commit(struct tcp *t, uint64_t now);

/* ---- Checking ------------------------------------------------------------------------------------------------- */

/*
 * Every invariant of a connection (sequence order, descriptor sums, chunks against sequence, timer exclusivity,
 * advertised window = enforced window); NULL if they hold, else a sentence that says which one does not.
 */
const char *tcp_check(const struct tcp *t, tcp_id id);
/* The same for the whole engine: tables, lists, counters and every connection. */
const char *tcp_check_all(const struct tcp *t);

#endif
