/*
 * sock/restore.c: the socket of a connection that outlived its process.
 *
 * The engine was restored; the socket layer is made anew. Listeners are made by their owners, connections that wait in
 * accept queues come by events, as they did; what was accepted or connected gets its socket here, from what the engine
 * knows. Options that the engine does not keep (linger, IP_TOS as the program wrote it) have their defaults again.
 */
#include "sock/sock_priv.h"

static struct sock *listener_of(struct socks *ss, const struct ip_tuple *tuple)
{
    struct sock *best = NULL;

    list_for_each(node, &ss->listeners) {
        struct sock *l = sock_of_listener(node);
        bool any = l->more->bind_addr.family == IP_NONE || ip_addr_is_unspecified(&l->more->bind_addr);

        if (!l->bind || l->bind->tuple.local_port != tuple->local_port)
            continue;
        if (ip_addr_eq(&l->more->bind_addr, &tuple->local))
            return l;
        if (any && (l->more->bind_addr.family == IP_NONE || l->more->bind_addr.family == tuple->local.family))
            best = l;
    }
    return best;
}

struct sock *sock_restore(struct socks *ss, tcp_id id, const struct tcp_info *info, uint64_t now)
{
    struct sock *s, *l;

    socks_enter(ss, now);
    l = listener_of(ss, &info->tuple);
    s = sock_alloc(ss, l ? (enum ip_family)l->family : (enum ip_family)info->tuple.local.family, NULL);
    if (!s)
        return NULL;
    s->state = info->state;
    s->phase = sock_state_in(s, SOCK_ST(SYN_SENT)) ? SOCK_CONNECTING : SOCK_CONNECTED;
    s->reuse = l ? l->reuse : false;
    sock_conn_attach(s, id, &info->tuple);
    (void)(l ? sock_bind_share(s) : sock_bind_claim_tuple(s, &info->tuple, false));
    if (info->peer_closed) {
        s->shutdown |= SOCK_SHUTDOWN_RCV;
        s->done = true;
    }
    s->shutdown |= (uint8_t)(info->shut_write ? SOCK_SHUTDOWN_SEND : 0);
    if (s->state == TCP_STATE_CLOSE) {
        s->shutdown = SOCK_SHUTDOWN_MASK;
        s->err = (uint16_t)info->error;
    }
    sock_mark(s, SOCK_POLLIN | SOCK_POLLOUT | SOCK_POLLERR | SOCK_POLLHUP | SOCK_POLLRDHUP);
    return s;
}
