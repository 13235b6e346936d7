/*
 * sock/connect.c: how a socket gets its connection: connect, listen, accept.
 *
 * connect() is __inet_stream_connect() of Linux without waiting: `phase` remembers what the program was told, so that
 * calling it again gives EALREADY, 0 once, EISCONN, or the error and a socket that may try again. The accept queue is
 * first in, first out; a connection that died in it stays and is accepted with its error.
 */
#include "sock/sock_priv.h"

/* The engine's view of where to go, or why not (the address checks of tcp_v4_connect() and tcp_v6_connect()). */
static int connect_target(const struct sock *s, const struct ip_addr *addr, struct ip_addr *ret)
{
    struct ip_addr a;

    if (addr->family != s->family)
        return -EAFNOSUPPORT;
    a = sock_addr_unmap(addr);
    if (s->family == IP_V6 && a.family == IP_V4 && s->v6only)
        return -ENETUNREACH;
    if (ip_addr_is_unspecified(&a)) {
        /* "This host": the source if one is bound, else loopback. */
        if (s->more->bind_addr.family == a.family && !ip_addr_is_unspecified(&s->more->bind_addr)) {
            a = s->more->bind_addr;
        } else if (a.family == IP_V4) {
            a = ip_addr_v4(127, 0, 0, 1);
        } else {
            a.b[15] = 1;
        }
    }
    if (ip_addr_is_multicast(&a) || ip_addr_is_broadcast(&a))
        return -ENETUNREACH;
    if (a.family == IP_V6 && ip_addr_is_link_local(&a) && a.scope == 0)
        return -EINVAL;
    *ret = a;
    return 0;
}

/* Source address and path; the port is still to be chosen. */
static int connect_route(const struct sock *s, struct ip_tuple *tuple, struct tcp_path *path)
{
    struct ip_addr src = {.family = IP_NONE};
    int r;

    if (s->more->bind_addr.family != IP_NONE && !ip_addr_is_unspecified(&s->more->bind_addr)) {
        src = s->more->bind_addr;
        if (src.family != tuple->remote.family)
            return src.family == IP_V4 ? -EAFNOSUPPORT : -ENETUNREACH;
    }
    memset(path, 0, sizeof *path);
    r = s->ss->net.route(s->ss->net.ctx, &tuple->remote, &src, path);
    tuple->local = src;
    /* TCP never speaks to a broadcast address: tcp_v4_connect() says ENETUNREACH, not EACCES. */
    return r == -EACCES ? -ENETUNREACH : r;
}

/* Port, claim and connection. A port that the program chose is kept; its tuple may be taken: EADDRNOTAVAIL. */
static int connect_start(struct sock *s, struct tcp_connect_args *args, uint64_t now)
{
    struct socks *ss = s->ss;
    bool was_bound = s->bind != NULL;
    struct ip_tuple before = was_bound ? s->bind->tuple : (struct ip_tuple){0};
    tcp_id id;
    int r;

    args->tuple.local_port = was_bound ? before.local_port : sock_bind_ephemeral(ss, &args->tuple);
    if (args->tuple.local_port == 0 || (was_bound && tcp_tuple_in_use(ss->tcp, &args->tuple, now)))
        return -EADDRNOTAVAIL;
    r = sock_bind_claim_tuple(s, &args->tuple, false);
    if (r < 0)
        return r;
    r = tcp_connect(ss->tcp, args, now, &id);
    if (r < 0) {
        if (was_bound)
            s->bind->tuple = before;
        else
            sock_bind_release(s, s->conn);
        return r == -EADDRINUSE ? -EADDRNOTAVAIL : r;
    }
    sock_conn_attach(s, id, &args->tuple);
    s->state = TCP_STATE_SYN_SENT;
    sock_apply_options(s, now);
    r = sock_md5_apply(s, now);
    if (r < 0)
        sock_disconnect(s, now); /* never without its keys */
    s->err = 0;
    return r;
}

/* connect() called again: what became of the first call? 0 once when established; the error, and a fresh socket. */
static int connect_again(struct sock *s, uint64_t now)
{
    int r;

    if (sock_state_in(s, SOCK_ST(SYN_SENT) | SOCK_ST(SYN_RECV)))
        return s->deferred ? -EISCONN : -EALREADY;
    if (s->state != TCP_STATE_CLOSE) {
        s->phase = SOCK_CONNECTED;
        return 0;
    }
    r = sock_error_once(s);
    sock_disconnect(s, now);
    s->err = 0;
    return r != 0 ? r : -ECONNABORTED;
}

/* A connection in SYN-SENT; fastopen: without a SYN as yet. */
static int connect_new(struct sock *s, const struct ip_addr *addr, uint16_t port, bool fastopen, uint64_t now)
{
    struct tcp_connect_args args = {.fastopen = fastopen};
    int r;

    if (s->state != TCP_STATE_CLOSE)
        return -EISCONN;
    r = connect_target(s, addr, &args.tuple.remote);
    if (r == 0)
        r = connect_route(s, &args.tuple, &args.path);
    if (r < 0)
        return r;
    args.tuple.remote_port = port;
    r = connect_start(s, &args, now);
    if (r == 0)
        s->phase = SOCK_CONNECTING;
    return r;
}

/* TCP_FASTOPEN_CONNECT: with a cookie connect() is over, and the SYN waits for data (tcp_fastopen_defer_connect). */
static int connect_deferred(struct sock *s, uint64_t now)
{
    s->deferred = tcp_fastopen_ready(s->ss->tcp, s->conn, now);
    if (s->deferred) {
        sock_mark(s, SOCK_POLLOUT);
        return 0;
    }
    (void)tcp_fastopen_connect(s->ss->tcp, s->conn, NULL, 0, now);
    return -EINPROGRESS;
}

/* What a connect() in progress, or over, says to MSG_FASTOPEN (__inet_stream_connect with is_sendmsg). */
static int fastopen_again(struct sock *s, uint64_t now)
{
    if (s->phase == SOCK_CONNECTING)
        return connect_again(s, now);
    return s->phase == SOCK_CONNECTED ? -EISCONN : -EINVAL;
}

int sock_fastopen(struct sock *s, const struct ip_addr *addr, uint16_t port, const void *data, size_t bytes,
                  uint64_t now, size_t *ret_copied)
{
    int64_t n;
    int r;

    *ret_copied = 0;
    if (!(s->ss->config->tcp_fastopen & 1) || (addr && addr->family == IP_NONE))
        return -EOPNOTSUPP;
    if (!s->deferred) {
        if (s->phase != SOCK_UNCONNECTED)
            return fastopen_again(s, now);
        if (!addr)
            return -EINVAL;
        r = connect_new(s, addr, port, true, now);
        if (r < 0)
            return r;
    }
    s->deferred = false;
    n = tcp_fastopen_connect(s->ss->tcp, s->conn, data, bytes, now);
    if (n < 0)
        return (int)n;
    *ret_copied = (size_t)n;
    return -EINPROGRESS;
}

int sock_connect(struct sock *s, const struct ip_addr *addr, uint16_t port, uint64_t now)
{
    int r;

    socks_enter(s->ss, now);
    if (addr->family == IP_NONE) { /* AF_UNSPEC */
        sock_disconnect(s, now);
        return 0;
    }
    if (s->phase == SOCK_CONNECTED)
        return -EISCONN;
    if (s->phase == SOCK_DISCONNECTING)
        return -EINVAL;
    if (s->phase == SOCK_CONNECTING)
        return connect_again(s, now);
    r = connect_new(s, addr, port, s->fastopen_connect, now);
    if (r < 0)
        return r;
    return s->fastopen_connect ? connect_deferred(s, now) : -EINPROGRESS;
}

/* The socket has a claim that allows listening, made now if it has none (inet_csk_listen_start). */
static int listen_claim(struct sock *s)
{
    if (s->bind)
        return sock_bind_may_listen(s) ? 0 : -EADDRINUSE;
    s->more->bind_addr = (struct ip_addr){.family = s->family == IP_V4 ? IP_V4 : s->v6only ? IP_V6 : IP_NONE};
    return sock_bind_claim(s, 0);
}

int sock_listen(struct sock *s, uint32_t backlog)
{
    struct tcp *t = s->ss->tcp;
    struct tcp_listen_args args = {.user = (uint64_t)(uintptr_t)s};
    uint32_t most = (uint32_t)s->ss->config->somaxconn;
    int r;

    socks_drain(s->ss);
    if (backlog > most)
        backlog = most;
    if (s->more->listener != 0)
        return tcp_listen_set_backlog(t, s->more->listener, backlog);
    if (!sock_more_own(s))
        return -ENOMEM;
    if (s->phase != SOCK_UNCONNECTED || s->state != TCP_STATE_CLOSE)
        return -EINVAL;
    r = listen_claim(s);
    if (r < 0)
        return r;
    args.addr = s->more->bind_addr;
    args.port = s->bind->tuple.local_port;
    args.backlog = backlog;
    r = tcp_listen(t, &args, &s->more->listener);
    if (r < 0) {
        s->more->listener = 0;
        return r;
    }
    s->state = TCP_STATE_LISTEN;
    s->bind->listening = true;
    list_add_tail(&s->ss->listeners, &s->more->listener_link);
    for (unsigned o = 0; o < TCP_OPT_MAX; o++) {
        if (s->more->opt_set & 1u << o)
            (void)tcp_listen_set_opt(t, s->more->listener, (enum tcp_opt)o, s->more->opt[o]);
    }
    if (s->more->n_fastopen_keys)
        (void)tcp_fastopen_set_keys(t, s->more->listener, s->more->fastopen_key, s->more->n_fastopen_keys);
    r = sock_md5_apply(s, s->ss->now);
    if (r < 0)
        sock_listen_stop(s, s->ss->now); /* never without its keys */
    return r;
}

struct sock *sock_accept(struct sock *s, void *user)
{
    struct list_node *node;
    struct sock *child;

    socks_drain(s->ss);
    node = list_pop(&s->more->accept_queue);
    if (!node)
        return NULL;
    tcp_listen_accepted(s->ss->tcp, s->more->listener);
    child = list_entry(node, struct sock, queue);
    child->waiting = false;
    child->user = user;
    sock_mark(child, child->pending_bits); /* what came while it waited */
    return child;
}
