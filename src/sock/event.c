/*
 * sock/event.c: what the engine tells becomes what a socket knows, and what a program must hear.
 *
 * socks_drain() empties the engine's event list into the sockets; each event finds its socket by connection id, never
 * by pointer, so an event of a connection that was closed meanwhile finds nobody. Every call of this room begins with
 * it. sock_mark() collects readiness per socket; sock_next_event() hands it out, keeping only bits that hold at that
 * moment (as epoll does): data read before the event was taken makes no event.
 */
#include "sock/sock_priv.h"

void sock_mark(struct sock *s, unsigned bits)
{
    s->pending_bits |= (uint16_t)bits;
    /* One in an accept queue has no program yet; its bits wait for accept(). */
    if (s->pending_bits == 0 || s->waiting)
        return;
    if (s->starving)
        list_del(&s->queue); /* what comes may be what it needs */
    s->starving = false;
    if (!list_linked(&s->queue))
        list_add_tail(&s->ss->pending, &s->queue);
}

void sock_later(struct sock *s, bool starving)
{
    s->again = true;
    if (list_linked(&s->queue))
        return;
    s->starving = starving;
    list_add_tail(starving ? &s->ss->starving : &s->ss->later, &s->queue);
}

bool socks_resume(struct socks *ss, bool starving, unsigned most)
{
    struct list_node *from = starving ? &ss->starving : &ss->later;

    for (struct list_node *node; most > 0 && (node = list_pop(from)) != NULL; most--) {
        list_entry(node, struct sock, queue)->starving = false;
        list_add_tail(&ss->pending, node);
    }
    return !list_empty(from);
}

/* Listeners by their engine number: few, and looked up once per accepted connection. */
static struct sock *listener_by_number(struct socks *ss, uint64_t user, uint32_t number)
{
    list_for_each(node, &ss->listeners) {
        struct sock *s = sock_of_listener(node);

        if (s->more->listener == number && (uint64_t)(uintptr_t)s == user)
            return s;
    }
    return NULL;
}

/*
 * A connection was established through a listener: it waits in the accept queue as a socket of its own, so that what
 * becomes of it meanwhile (data, RST) is there when it is accepted.
 */
static struct sock *event_accept(struct socks *ss, const struct tcp_event *e)
{
    struct sock *l = listener_by_number(ss, e->user, e->listener);
    struct sock *child = l ? sock_alloc(ss, l->family, NULL) : NULL;
    struct tcp_info info;

    if (child && !sock_inherit_options(child, l)) {
        free(child);
        child = NULL;
    }
    if (!child || tcp_get_info(ss->tcp, e->id, ss->now, &info) < 0) {
        if (l && !child)
            tcp_refuse(ss->tcp, e->id, ss->now);
        if (child)
            sock_free(child);
        tcp_abort(ss->tcp, e->id, ss->now); /* takes it out of the engine's accept queue too */
        return NULL;
    }
    child->phase = SOCK_CONNECTED;
    child->state = info.state;
    child->passive_fastopen = info.state == TCP_STATE_SYN_RECV; /* nothing else is accepted so early */
    child->waiting = true;
    sock_conn_attach(child, e->id, &info.tuple);
    (void)sock_bind_share(child); /* without memory: a bind conflict goes unseen */
    sock_apply_options(child, ss->now);
    list_add_tail(&l->more->accept_queue, &child->queue);
    sock_mark(l, SOCK_POLLIN);
    return child;
}

static void event_apply(struct sock *s, const struct tcp_event *e)
{
    const unsigned hup = SOCK_POLLIN | SOCK_POLLOUT | SOCK_POLLRDHUP | SOCK_POLLHUP;
    unsigned bits = 0;

    if (e->state != 0)
        s->state = (uint8_t)e->state;
    if (e->bits & TCP_EVENT_CONNECTED)
        bits |= SOCK_POLLOUT;
    if (e->bits & TCP_EVENT_READABLE)
        bits |= SOCK_POLLIN;
    if (e->bits & TCP_EVENT_WRITABLE)
        bits |= SOCK_POLLOUT;
    if (e->bits & TCP_EVENT_URGENT) {
        s->urgent = true;
        bits |= SOCK_POLLPRI;
    }
    if (e->bits & TCP_EVENT_PEER_CLOSED) {
        s->shutdown |= SOCK_SHUTDOWN_RCV;
        s->done = true;
        bits |= SOCK_POLLIN | SOCK_POLLRDHUP | SOCK_POLLHUP;
    }
    if (e->bits & TCP_EVENT_ERROR) {
        s->err = (uint16_t)e->error;
        bits |= SOCK_POLLERR | hup;
    }
    /* tcp_done(): both ways are shut, and a port that the program did not choose is free (inet_put_port()). */
    if (s->state == TCP_STATE_CLOSE) {
        if (!s->port_locked)
            sock_bind_release(s, s->conn);
        s->shutdown = SOCK_SHUTDOWN_MASK;
        bits |= hup;
    }
    sock_mark(s, bits);
}

void socks_drain(struct socks *ss)
{
    struct tcp_event e;

    while (tcp_next_event(ss->tcp, &e)) {
        struct sock *s = e.bits & TCP_EVENT_ACCEPT ? event_accept(ss, &e) : sock_any_by_conn(ss, e.id);

        if (s)
            event_apply(s, &e);
        if (e.bits & (TCP_EVENT_STATE | TCP_EVENT_ACCEPT | TCP_EVENT_CLOSED) && e.state != 0)
            sock_watch_note(ss, e.id, e.state, e.error);
    }
}

bool sock_next_event(struct socks *ss, struct sock_event *ret)
{
    struct list_node *node;

    socks_drain(ss);
    while ((node = list_pop(&ss->pending)) != NULL) {
        struct sock *s = list_entry(node, struct sock, queue);
        unsigned bits = s->pending_bits;

        s->pending_bits = 0;
        bits &= sock_poll(s);
        if (s->again)
            bits |= SOCK_POLLIN | SOCK_POLLOUT;
        s->again = false;
        if (bits == 0)
            continue;
        *ret = (struct sock_event){.sock = s, .user = s->user, .bits = bits};
        return true;
    }
    return false;
}
