/*
 * daemon/call.h: what the parts of the control API share: clients, calls, the method table, errors.
 *
 *   control.c   sockets, clients, framing, rights, sending        rpc.c        one request -> one answer
 *   methods.c   THE table: names, parameters, results, help       args.c       checks arguments by the table
 *   method_*.c  the handlers                                      discover.c   the table as an OpenRPC
 * document
 *
 * A handler runs in the first half of a turn. It may change state; it never writes to a descriptor: what it
 * answers is queued and leaves in the second half. A handler that cannot answer yet embeds a struct
 * control_pending in its own state, calls control_pend(), and later control_resolve() or control_reject(),
 * exactly once, unless cancel() came.
 */
#ifndef TAUT_DAEMON_CALL_H
#define TAUT_DAEMON_CALL_H

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/daemon.h"

#define CONTROL_REQUEST_MAX       (1024u * 1024u)      /* bytes of one request */
#define CONTROL_QUEUE_MAX         (4u * 1024u * 1024u) /* answers a client may leave unread */
#define CONTROL_CLIENTS_MAX       1024u
#define CONTROL_PENDING_MAX       1024u /* unanswered calls of one client */
#define CONTROL_REQUESTS_PER_TURN 16

/* X(NAME, code, errno, "when it comes"). The name is stable; the message is for people. */
#define CONTROL_ERRORS(X)                                                                                    \
    X(PARSE_ERROR, -32700, EBADMSG, "the request is not JSON")                                               \
    X(INVALID_REQUEST, -32600, EPROTO, "JSON, but not a request; batches are not served")                    \
    X(METHOD_NOT_FOUND, -32601, ENOSYS, "no such method")                                                    \
    X(INVALID_PARAMS, -32602, EINVAL, "a parameter is unknown, missing, of another type or out of range")    \
    X(INTERNAL_ERROR, -32603, EIO, "a fault of the daemon's, or an errno without a name here")               \
    X(NO_SUCH_CONNECTION, -32000, ENOENT, "no connection has this id (any more)")                            \
    X(PERMISSION_DENIED, -32001, EACCES, "the method needs root, the daemon's user or its control group")    \
    X(REQUEST_TOO_LONG, -32002, EMSGSIZE, "the request is longer than 1 MiB")                                \
    X(ANSWER_TOO_LONG, -32003, EMSGSIZE,                                                                     \
      "the answer does not fit into one message: page it, or use control.sock")                              \
    X(NEEDS_SEQPACKET, -32004, EOPNOTSUPP, "the method answers with a descriptor: call it on control.seq")   \
    X(TOO_MANY_CALLS, -32005, EUSERS, "too many calls or pings of this client are unanswered")               \
    X(SHUTTING_DOWN, -32006, ESHUTDOWN, "the daemon is ending and makes no new connections")                 \
    X(CONFIG_INVALID, -32007, EINVAL,                                                                        \
      "the configuration or a value for it is refused; the message says where")                              \
    X(NO_SUCH_KEY, -32008, ENOENT, "the configuration has no key of this name")                              \
    X(WRONG_STATE, -32009, EBUSY, "the connection is not in a state, or of an owner, that allows this")      \
    X(ALREADY_SUBSCRIBED, -32010, EALREADY, "one subscription per client")                                   \
    X(NO_DESCRIPTORS, -32011, EMFILE, "the daemon is out of descriptors")                                    \
    X(NO_MEMORY, -32012, ENOMEM, "the daemon is out of memory or connections")                               \
    X(UPGRADE_REFUSED, -32013, EINVAL, "the new binary cannot take over; everything goes on as before")      \
    X(TOO_MANY_CLIENTS, -32014, EUSERS, "the daemon serves no more clients, or is out of descriptors for them") \
    X(CONNECTION_REFUSED, -32020, ECONNREFUSED, "the peer answered with RST")                                \
    X(CONNECTION_RESET, -32021, ECONNRESET, "the peer reset the connection")                                 \
    X(TIMED_OUT, -32022, ETIMEDOUT, "no answer in time")                                                     \
    X(HOST_UNREACHABLE, -32023, EHOSTUNREACH, "the next hop or the host does not answer")                    \
    X(NETWORK_UNREACHABLE, -32024, ENETUNREACH, "no route to the address")                                   \
    X(ADDRESS_IN_USE, -32025, EADDRINUSE, "the address and port are taken")                                  \
    X(ADDRESS_NOT_AVAILABLE, -32026, EADDRNOTAVAIL, "the local address is none of ours, or no port is free")

enum control_error {
#define X(name, code, err, help) CONTROL_##name,
    CONTROL_ERRORS(X)
#undef X
        CONTROL_ERROR_MAX
};

struct control_fault {
    enum control_error error;
    int err; /* errno, > 0; 0: the error's own */
    char text[CONFIG_ERROR_MAX]; /* the longest is a configuration file's */
};

/* ---- Methods
 * --------------------------------------------------------------------------------------------------- */

enum control_outcome { CONTROL_DONE, CONTROL_FAILED, CONTROL_PENDING };
enum control_level { CONTROL_LEVEL_READ, CONTROL_LEVEL_CONTROL };

enum param_type {
    PARAM_STRING,
    PARAM_INT,
    PARAM_BOOL,
    PARAM_ADDRESS,
    PARAM_CONN,
    PARAM_STRINGS,
    PARAM_SCALAR
};

struct control_param { /* rows ended by name NULL */
    const char *name;
    enum param_type type;
    bool required;
    const char *def;  /* JSON text filled in when absent; NULL: stays absent */
    int64_t min, max; /* of PARAM_INT; lengths of PARAM_STRING (max 0: 256) */
    const char *help;
};

struct control_field { /* rows ended by name NULL */
    const char *name, *type, *help;
};

struct control_client;
struct control_call;

struct control_method {
    const char *name;
    enum control_outcome (*handler)(struct control_call *call);
    const struct control_param *params;
    const struct control_field *result;
    enum control_level level;
    bool carries_fd; /* answered with a descriptor: control.seq only */
    const char *help;
};
extern const struct control_method control_methods[]; /* ended by name NULL */
const struct control_method *control_method_find(const char *name);
const char *control_param_type_name(enum param_type type);

struct control_call {
    struct daemon *d;
    struct control_client *client;
    const struct control_method *method;
    json_t *id;   /* NULL: a notification */
    json_t *args; /* checked, defaults filled in */
    uint64_t now;
    json_t *result; /* set by the handler with CONTROL_DONE */
    int fd;         /* to go with it; -1 */
    struct control_fault fault;
};

/* Checks params (NULL: none) against the table; false with call->fault. */
bool control_check_args(struct control_call *call, const json_t *params);
const char *arg_string(const struct control_call *call, const char *name); /* NULL: absent */
int64_t arg_int(const struct control_call *call, const char *name, int64_t absent);
bool arg_bool(const struct control_call *call, const char *name);
bool arg_address(const struct control_call *call, const char *name, struct ip_addr *ret); /* false: absent */
tcp_id arg_conn(const struct control_call *call, const char *name);

/* Sets the fault; returns CONTROL_FAILED. err 0: the error's own errno. */
enum control_outcome control_fail(struct control_call *call, enum control_error e, int err, const char *fmt,
                                  ...) __attribute__((format(printf, 4, 5)));
/* The error that an errno of a socket call stands for. */
enum control_error control_error_of_errno(int err);
/* A refused socket call: "WHAT: strerror". */
enum control_outcome control_fail_errno(struct control_call *call, int err, const char *what);

struct control_pending {
    struct list_node link; /* in its client's list */
    struct control_client *client;
    json_t *id;
    /* The client is gone; frees what the call holds. control_resolve() and control_reject() must not follow.
     */
    void (*cancel)(struct control_pending *p, uint64_t now);
};
/* The call will be answered later. Return CONTROL_PENDING after it. */
void control_pend(struct control_call *call, struct control_pending *p,
                  void (*cancel)(struct control_pending *p, uint64_t now));
/* Takes the reference of result, and fd (-1: none). */
void control_resolve(struct control_pending *p, json_t *result, int fd);
void control_reject(struct control_pending *p, enum control_error e, int err, const char *text);

/* ---- Clients (control.c)
 * --------------------------------------------------------------------------------------- */

struct control_out {
    struct list_node link;
    size_t len, sent;
    int fd; /* goes with the first byte; -1 */
    char data[];
};

struct events_sub; /* events.c */
struct trace_sub;  /* method_trace.c */

struct control_client {
    struct list_node link;
    struct control *control;
    int fd;
    bool seq, eof, skipping, dead;
    enum control_level level;
    pid_t pid;
    uid_t uid;
    ev_io rd, wr;
    ev_timer more, later; /* later: the kernel refused an answer though it could be written */
    struct deferred flush;
    char *in;
    size_t in_len, in_cap;
    struct list_node out;
    size_t out_bytes;
    struct list_node pending;
    unsigned n_pending;
    struct events_sub *sub;
    struct trace_sub *trace;
};

struct control {
    struct daemon *d;
    int fd[2]; /* stream, seqpacket */
    ev_io accept_io[2];
    int spare_fd; /* given up to refuse a client when descriptors have run out */
    ev_timer accept_later; /* not even that: a waiting client would wake us for ever */
    struct log_limit log_limit;
    bool has_group;
    gid_t group;
    struct list_node clients;
    unsigned n_clients;
    struct list_node pings; /* method_misc.c */
    uint32_t ping_serial;
    unsigned n_pings;
    struct list_node subs;                                                 /* events.c */
    void (*log_write)(void *user, enum log_level level, const char *text); /* d->log's own */
    void *log_user;
    bool in_log;
};

/* Queues one object for the client and takes its reference; fd is closed once sent. */
void control_send(struct control_client *cl, json_t *object, int fd);
/* The client is to end, in the second half of this turn. */
void control_client_end(struct control_client *cl);

/* ---- rpc.c
 * ----------------------------------------------------------------------------------------------------- */

/* One request as text; queues the answer, if any. */
void control_request(struct control_client *cl, const char *text, size_t len, uint64_t now);
void control_answer_error(struct control_client *cl, const json_t *id, const struct control_fault *f);
json_t *control_discover(void);

/* ---- Shared by handlers
 * ---------------------------------------------------------------------------------------- */

json_t *json_addr(const struct ip_addr *a);
json_t *json_addr_port(const struct ip_addr *a, uint16_t port);
json_t *json_u64(uint64_t v); /* beyond INT64_MAX: null */
json_t *json_mac(const uint8_t mac[STACK_MAC_BYTES]);
json_t *json_conn_id(tcp_id id);
/* Who has this connection: "program pid 7", "forward web", "echo", "orphan", "listener", "not accepted". */
void conn_owner(struct daemon *d, tcp_id id, const struct tcp_info *info, struct sock_owner_info *ret);
/* What conn.list tells of a connection. */
json_t *conn_row(struct daemon *d, tcp_id id, const struct tcp_info *info);
/* Adds the numbers of these names. NULL: all of them, and what else conn.get tells in words; "*" first: the same, but
 * numbers that are 0 are left out. */
void conn_add_fields(json_t *row, const struct tcp_info *info, const json_t *names);
bool conn_is_field(const char *name);
json_t *addr_row(const struct stack_addr *a);
json_t *neigh_row(const struct stack_neigh *n);
json_t *link_row(const struct daemon *d);
json_t *listener_row(struct sock *s);
/* method_misc.c: the answer to a ping; and all pings end (control_close()). */
void ping_event(struct control *c, const struct stack_event *e, uint64_t now);

/* method_trace.c: the client goes; the time of day. */
void trace_unfollow(struct control_client *cl);
uint64_t trace_wall_ns(void);

/* Handlers, in the order of the table. */
#define CONTROL_HANDLERS(X)                                                                                  \
    X(server_hello)                                                                                          \
    X(server_status) X(server_reload) X(server_upgrade) X(rpc_discover) X(tcp_listen) X(tcp_connect) X(conn_list) X(conn_get)  \
        X(conn_set) X(conn_close) X(conn_abort) X(neigh_list) X(metrics_list) X(metrics_flush) X(trace_list) X(trace_get) X(trace_follow) X(capture_open) X(stats_get) X(config_get) X(config_set)       \
            X(events_subscribe) X(icmp_ping)
#define X(name) enum control_outcome method_##name(struct control_call *call);
CONTROL_HANDLERS(X)
#undef X

#endif
