/*
 * sock/sock.c: the life of a socket, and the names of its two ends.
 *
 * A struct sock belongs to its creator until sock_close() or sock_abort(). One that waits in an accept queue belongs
 * to its listener. Invariant: s->conn != 0 exactly if the engine counts us as that connection's owner, and then the
 * socket is in ss->by_conn; s->listener != 0 exactly in state LISTEN, and then it is in ss->listeners.
 */
#include "sock/sock_priv.h"

static void lists_init(struct list_node *buckets, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        list_init(&buckets[i]);
}

struct socks *socks_create(const struct socks_params *params)
{
    struct socks *ss = calloc(1, sizeof *ss);

    if (!ss)
        return NULL;
    ss->by_conn_size = 256;
    ss->by_conn = malloc(ss->by_conn_size * sizeof *ss->by_conn);
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
    lists_init(ss->by_conn, ss->by_conn_size);
    list_init(&ss->left);
    list_init(&ss->listeners);
    list_init(&ss->pending);
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
    s->mtu_discover = SOCK_PMTUDISC_WANT;
    s->state = TCP_STATE_CLOSE;
    list_init(&s->conn_link);
    list_init(&s->listener_link);
    list_init(&s->accept_queue);
    list_init(&s->accept_link);
    list_init(&s->pending);
    return s;
}

struct sock *sock_new(struct socks *ss, enum ip_family family, void *user)
{
    return family == IP_V4 || family == IP_V6 ? sock_alloc(ss, family, user) : NULL;
}

void sock_free(struct sock *s)
{
    sock_bind_release(s);
    list_del(&s->conn_link);
    list_del(&s->listener_link);
    list_del(&s->accept_link);
    list_del(&s->pending);
    sock_md5_free(s);
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

struct list_node *sock_conn_bucket(const struct socks *ss, tcp_id id)
{
    return &ss->by_conn[(id ^ id >> 32) & (ss->by_conn_size - 1)];
}

/* Lack of memory only makes the chains longer. */
static void by_conn_grow(struct socks *ss)
{
    uint32_t old_size = ss->by_conn_size;
    struct list_node *old = ss->by_conn;
    struct list_node *bigger = malloc((size_t)old_size * 2 * sizeof *bigger);

    if (!bigger)
        return;
    lists_init(bigger, old_size * 2);
    ss->by_conn = bigger;
    ss->by_conn_size = old_size * 2;
    for (uint32_t i = 0; i < old_size; i++) {
        for (struct list_node *node; (node = list_pop(&old[i])) != NULL;) {
            struct sock *s = list_entry(node, struct sock, conn_link);

            list_add_tail(sock_conn_bucket(ss, s->conn), node);
        }
    }
    free(old);
}

void sock_conn_attach(struct sock *s, tcp_id id, const struct ip_tuple *tuple)
{
    struct socks *ss = s->ss;

    s->conn = id;
    s->tuple = *tuple;
    if (s->bind)
        s->bind->conn = id;
    if (++ss->n_conns > ss->by_conn_size)
        by_conn_grow(ss);
    list_add_tail(sock_conn_bucket(ss, id), &s->conn_link);
}

void sock_conn_detach(struct sock *s)
{
    if (s->conn == 0)
        return;
    sock_watch_note(s->ss, s->conn, 0, s->err);
    s->ss->n_conns--;
    list_del(&s->conn_link);
    s->conn = 0;
}

struct sock *sock_by_conn(struct socks *ss, tcp_id id)
{
    if (id == 0)
        return NULL;
    list_for_each(node, sock_conn_bucket(ss, id)) {
        struct sock *s = list_entry(node, struct sock, conn_link);

        if (s->conn == id)
            return s->parent ? NULL : s;
    }
    return NULL;
}

void sock_listen_stop(struct sock *s, uint64_t now)
{
    uint32_t number = s->listener;

    s->listener = 0;
    s->state = TCP_STATE_CLOSE;
    list_del(&s->listener_link);
    if (s->bind)
        s->bind->listening = false;
    /* The engine resets what nobody accepted (inet_csk_listen_stop); the ids are stale for us after it. */
    tcp_listen_close(s->ss->tcp, number, now);
    for (struct list_node *node; (node = list_pop(&s->accept_queue)) != NULL;) {
        struct sock *child = list_entry(node, struct sock, accept_link);
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
    if (s->listener != 0) {
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
    if (!s->addr_locked)
        memset(&s->bind_addr, 0, sizeof s->bind_addr);
    if (!s->port_locked) {
        sock_bind_release(s);
    } else if (s->bind) {
        uint16_t port = s->bind->tuple.local_port;

        /* A new claim like the one bind() made. It can't fail for conflicts: the port was ours all the time. */
        s->bind->conn = 0;
        memset(&s->bind->tuple, 0, sizeof s->bind->tuple);
        s->bind->tuple.local = s->bind_addr;
        s->bind->tuple.local_port = port;
    }
}

void sock_close(struct sock *s, uint64_t now)
{
    struct tcp *t = s->ss->tcp;
    tcp_id id;

    socks_enter(s->ss, now);
    id = s->conn;
    if (s->listener != 0) {
        sock_listen_stop(s, now);
    } else if (id != 0) {
        sock_conn_detach(s);
        /* SO_LINGER with 0 seconds: RST (tcp_close). With more, close() waits; we don't block: an orphan goes on. */
        if (s->linger_on && s->linger_s == 0)
            tcp_abort(t, id, now);
        else
            tcp_close(t, id, now);
    }
    sock_bind_collect(s->ss, 2);
    sock_free(s);
}

void sock_abort(struct sock *s, uint64_t now)
{
    s->linger_on = true;
    s->linger_s = 0;
    sock_close(s, now);
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
        *ret = program_view(s, &s->bind_addr);
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
    struct list_node *node = after ? after->listener_link.next : ss->listeners.next;

    return node == &ss->listeners ? NULL : list_entry(node, struct sock, listener_link);
}

int sock_listen_info(const struct sock *s, struct tcp_listen_info *ret)
{
    return s->listener != 0 ? tcp_listen_info(s->ss->tcp, s->listener, ret) : -EINVAL;
}
