/*
 * sock/sock.c: the life of a socket, and the names of its two ends.
 *
 * A struct sock belongs to its creator until sock_close() or sock_abort(). One that waits in an accept queue belongs
 * to its listener. Invariant: s->conn != 0 exactly if the engine counts us as that connection's owner, and then the
 * socket is in ss->by_conn; s->more->listener != 0 exactly in state LISTEN, and then it is in ss->listeners.
 */
#include "sock/sock_priv.h"

/* Of sockets that have nothing of it. */
static const struct sock_more none = {.mtu_discover = SOCK_PMTUDISC_WANT};

struct socks *socks_create(const struct socks_params *params)
{
    struct socks *ss = calloc(1, sizeof *ss);

    if (!ss)
        return NULL;
    ss->by_conn_size = 256;
    ss->by_conn = calloc(ss->by_conn_size, sizeof *ss->by_conn);
    ss->perturb = calloc(SOCK_PERTURB, sizeof *ss->perturb);
    ss->ports = calloc(SOCK_PORTS, sizeof *ss->ports);
    ss->past_first = calloc(SOCK_PORTS, sizeof *ss->past_first);
    if (!ss->by_conn || !ss->perturb || !ss->ports || !ss->past_first) {
        free(ss->by_conn);
        free(ss->ports);
        free(ss->past_first);
        free(ss->perturb);
        free(ss);
        return NULL;
    }
    ss->tcp = params->tcp;
    ss->config = params->config;
    ss->net = params->net;
    ss->port_key = params->port_key;
    rng_seed(&ss->rng, params->rng_seed);
    list_init(&ss->left);
    list_init(&ss->listeners);
    list_init(&ss->pending);
    list_init(&ss->later);
    list_init(&ss->starving);
    return ss;
}

void socks_destroy(struct socks *ss)
{
    if (!ss)
        return;
    for (uint32_t i = 0; i < SOCK_PORTS; i++) {
        if (!ss->ports[i].next)
            continue;
        list_for_each_safe(node, &ss->ports[i])
            sock_bind_free(list_entry(node, struct sock_bind, port_link));
    }
    free(ss->ports);
    free(ss->past_first);
    free(ss->past);
    free(ss->watch);
    free(ss->by_conn);
    free(ss->perturb);
    free(ss);
}

struct sock *sock_alloc(struct socks *ss, enum ip_family family, void *user)
{
    struct sock *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->ss = ss;
    s->user = user;
    s->family = (uint8_t)family;
    s->more = (struct sock_more *)(uintptr_t)&none;
    s->state = TCP_STATE_CLOSE;
    list_init(&s->queue);
    return s;
}

bool sock_more_own(struct sock *s)
{
    struct sock_more *more;

    if (s->more != &none)
        return true;
    more = malloc(sizeof *more);
    if (!more)
        return false;
    *more = none;
    more->sock = s;
    list_init(&more->listener_link);
    list_init(&more->accept_queue);
    s->more = more;
    return true;
}

/* A program's: it will bind, listen, connect, and set options, and is to hear now that there is no memory for it. */
struct sock *sock_new(struct socks *ss, enum ip_family family, void *user)
{
    struct sock *s = family == IP_V4 || family == IP_V6 ? sock_alloc(ss, family, user) : NULL;

    if (s && !sock_more_own(s)) {
        free(s);
        return NULL;
    }
    return s;
}

static struct sock **conn_bucket(const struct socks *ss, tcp_id id)
{
    return &ss->by_conn[(id ^ id >> 32) & (ss->by_conn_size - 1)];
}

static void conn_unlink(struct sock *s)
{
    struct sock **at = conn_bucket(s->ss, s->conn);

    while (*at != s)
        at = &(*at)->conn_next;
    *at = s->conn_next;
    s->conn_next = NULL;
    s->ss->n_conns--;
    s->conn = 0;
}

void sock_free(struct sock *s)
{
    if (s->conn)
        conn_unlink(s);
    sock_bind_release(s, s->conn);
    list_del(&s->queue);
    if (s->more != &none) {
        list_del(&s->more->listener_link);
        sock_md5_free(s);
        free(s->more);
    }
    free(s);
}

void sock_set_user(struct sock *s, void *user)
{
    s->user = user;
}

void *sock_user(const struct sock *s)
{
    return s->user;
}

tcp_id sock_conn_id(const struct sock *s)
{
    return s->conn;
}

/* Lack of memory only makes the chains longer. */
static void by_conn_grow(struct socks *ss)
{
    uint32_t old_size = ss->by_conn_size;
    struct sock **old = ss->by_conn, **bigger = calloc((size_t)old_size * 2, sizeof *bigger);

    if (!bigger)
        return;
    ss->by_conn = bigger;
    ss->by_conn_size = old_size * 2;
    for (uint32_t i = 0; i < old_size; i++) {
        for (struct sock *s = old[i], *next; s; s = next) {
            struct sock **to = conn_bucket(ss, s->conn);

            next = s->conn_next;
            s->conn_next = *to;
            *to = s;
        }
    }
    free(old);
}

void sock_conn_attach(struct sock *s, tcp_id id, const struct ip_tuple *tuple)
{
    struct socks *ss = s->ss;

    s->conn = id;
    s->tuple = *tuple;
    if (s->bind && !s->bind->sharers)
        s->bind->conn = id;
    if (++ss->n_conns > ss->by_conn_size)
        by_conn_grow(ss);
    s->conn_next = *conn_bucket(ss, id);
    *conn_bucket(ss, id) = s;
}

void sock_conn_detach(struct sock *s)
{
    if (s->conn == 0)
        return;
    sock_watch_note(s->ss, s->conn, 0, s->err);
    conn_unlink(s);
}

struct sock *sock_any_by_conn(const struct socks *ss, tcp_id id)
{
    struct sock *s = id ? *conn_bucket(ss, id) : NULL;

    while (s && s->conn != id)
        s = s->conn_next;
    return s;
}

struct sock *sock_by_conn(struct socks *ss, tcp_id id)
{
    struct sock *s = sock_any_by_conn(ss, id);

    return s && !s->waiting ? s : NULL;
}

void sock_listen_stop(struct sock *s, uint64_t now)
{
    uint32_t number = s->more->listener;

    s->more->listener = 0;
    s->state = TCP_STATE_CLOSE;
    list_del(&s->more->listener_link);
    if (s->bind)
        s->bind->listening = false;
    /* The engine resets what nobody accepted (inet_csk_listen_stop); the ids are stale for us after it. */
    tcp_listen_close(s->ss->tcp, number, now);
    for (struct list_node *node; (node = list_pop(&s->more->accept_queue)) != NULL;) {
        struct sock *child = list_entry(node, struct sock, queue);
        tcp_id id = child->conn;

        sock_conn_detach(child);
        tcp_abort(s->ss->tcp, id, now);
        sock_free(child);
    }
}

/* tcp_need_reset() and what else of tcp_disconnect() sets sk_err. */
static bool disconnect_is_reset(uint8_t state)
{
    return ((1u << state) & (SOCK_ST(ESTABLISHED) | SOCK_ST(CLOSE_WAIT) | SOCK_ST(FIN_WAIT1) | SOCK_ST(FIN_WAIT2) |
                             SOCK_ST(SYN_RECV) | SOCK_ST(SYN_SENT) | SOCK_ST(CLOSING) | SOCK_ST(LAST_ACK))) != 0;
}

void sock_disconnect(struct sock *s, uint64_t now)
{
    tcp_id id = s->conn;
    uint8_t state = s->state;

    s->err = 0;
    if (s->more->listener != 0) {
        sock_listen_stop(s, now);
    } else if (id != 0) {
        sock_conn_detach(s);
        tcp_abort(s->ss->tcp, id, now);
        s->state = TCP_STATE_CLOSE;
        s->err = disconnect_is_reset(state) ? ECONNRESET : 0;
    }
    s->shutdown = 0;
    s->done = false;
    s->urgent = false;
    s->deferred = false;
    s->passive_fastopen = false;
    s->phase = SOCK_UNCONNECTED;
    memset(&s->tuple, 0, sizeof s->tuple);
    if (!s->addr_locked && s->more != &none)
        memset(&s->more->bind_addr, 0, sizeof s->more->bind_addr);
    if (!s->port_locked) {
        sock_bind_release(s, s->conn);
    } else if (s->bind) {
        uint16_t port = s->bind->tuple.local_port;

        /* A new claim like the one bind() made. It can't fail for conflicts: the port was ours all the time. */
        s->bind->conn = 0;
        memset(&s->bind->tuple, 0, sizeof s->bind->tuple);
        s->bind->tuple.local = s->more->bind_addr;
        s->bind->tuple.local_port = port;
    }
}

static void end(struct sock *s, bool reset, uint64_t now)
{
    struct tcp *t = s->ss->tcp;
    tcp_id id;

    socks_enter(s->ss, now);
    id = s->conn;
    if (s->more->listener != 0) {
        sock_listen_stop(s, now);
    } else if (id != 0) {
        sock_conn_detach(s);
        /* SO_LINGER with 0 seconds: RST (tcp_close). With more, close() waits; we don't block: an orphan goes on. */
        if (reset || (s->linger_on && s->more->linger_s == 0))
            tcp_abort(t, id, now);
        else
            tcp_close(t, id, now);
    }
    sock_bind_release(s, id);
    sock_bind_collect(s->ss, 2);
    sock_free(s);
}

void sock_close(struct sock *s, uint64_t now)
{
    end(s, false, now);
}

void sock_abort(struct sock *s, uint64_t now)
{
    end(s, true, now);
}

/* ---- Names ----------------------------------------------------------------------------------------------------- */

/* How the program sees an address: an IPv6 socket sees IPv4 as mapped, the wildcard as its family's. */
static struct ip_addr program_view(const struct sock *s, const struct ip_addr *a)
{
    static const uint8_t zero[16];

    if (a->family == IP_NONE)
        return s->family == IP_V6 ? ip_addr_v6_bytes(zero, 0) : ip_addr_v4(0, 0, 0, 0);
    return s->family == IP_V6 && a->family == IP_V4 ? sock_addr_map(a) : *a;
}

int sock_name(const struct sock *s, struct ip_addr *ret, uint16_t *ret_port)
{
    if (s->tuple.local_port != 0) {
        *ret = program_view(s, &s->tuple.local);
        *ret_port = s->tuple.local_port;
    } else {
        *ret = program_view(s, &s->more->bind_addr);
        *ret_port = s->bind ? s->bind->tuple.local_port : 0;
    }
    return 0;
}

/* inet_getname(): the peer's port is known, and the state is neither CLOSE nor SYN-SENT. */
int sock_peer(const struct sock *s, struct ip_addr *ret, uint16_t *ret_port)
{
    if (s->tuple.remote_port == 0 || sock_state_in(s, SOCK_ST(CLOSE) | SOCK_ST(SYN_SENT)))
        return -ENOTCONN;
    *ret = program_view(s, &s->tuple.remote);
    *ret_port = s->tuple.remote_port;
    return 0;
}

/* The same without the look at the state (peer is 2). */
void sock_accepted_from(const struct sock *s, struct ip_addr *ret, uint16_t *ret_port)
{
    *ret = program_view(s, &s->tuple.remote);
    *ret_port = s->tuple.remote_port;
}

struct sock *sock_next_listener(struct socks *ss, struct sock *after)
{
    struct list_node *node = after ? after->more->listener_link.next : ss->listeners.next;

    return node == &ss->listeners ? NULL : sock_of_listener(node);
}

int sock_listen_info(const struct sock *s, struct tcp_listen_info *ret)
{
    return s->more->listener != 0 ? tcp_listen_info(s->ss->tcp, s->more->listener, ret) : -EINVAL;
}
