/*
 * tests/packetdrill/shim_call.c: the calls that may block, as continuations.
 *
 * A call tries; if it can't go on and its descriptor blocks, it waits in d->calls until what it waits for wakes it, as
 * a sleeping task in the kernel: a writer sleeps until there is room worth waking for, not until there is any. Its end
 * is stamped with the clock. Invariant: a call in d->calls has pending 1 and is the caller's memory.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include "shim_priv.h"

#define WAITS INT64_MIN /* "it would block" */

static bool may_wait(const struct drill_fd *f, const struct drill_call *c)
{
    return !f->nonblock && !(c->flags & MSG_DONTWAIT);
}

static int64_t try_accept(struct drill *d, struct drill_fd *f, struct drill_call *c)
{
    struct tcp_listen_info info;
    struct drill_fd *child;
    struct ip_addr ip;
    uint16_t port;
    struct sock *s;

    if (sock_listen_info(f->sock, &info) < 0)
        return -EINVAL;
    s = sock_accept(f->sock, NULL);
    if (!s)
        return f->nonblock ? -EAGAIN : WAITS;
    child = drill_fd_new(d, DRILL_FD_SOCK);
    if (!child) {
        sock_abort(s, d->now);
        return -EMFILE;
    }
    child->sock = s;
    child->nonblock = (c->flags & O_NONBLOCK) != 0;
    sock_set_user(s, child);
    sock_accepted_from(s, &ip, &port);
    drill_addr_from_ip(&ip, port, &c->addr);
    return child->number;
}

static int64_t try_connect(struct drill *d, struct drill_fd *f, struct drill_call *c)
{
    struct ip_addr ip = drill_addr_to_ip(&c->addr);
    int r = sock_connect(f->sock, &ip, c->addr.port, d->now);

    if (f->nonblock)
        return r;
    if (r == -EINPROGRESS || (r == -EALREADY && c->begun))
        return WAITS;
    return r;
}

static unsigned recv_flags(int flags)
{
    return (flags & MSG_PEEK ? (unsigned)SOCK_RECV_PEEK : 0) | (flags & MSG_TRUNC ? (unsigned)SOCK_RECV_TRUNC : 0);
}

/* The border between program and stack is here: a NULL buffer is EFAULT once something is to be copied. */
static bool is_bad_buffer(const struct drill_call *c)
{
    return !c->data && c->bytes > 0;
}

static int64_t try_recv(struct drill *d, struct drill_fd *f, struct drill_call *c)
{
    uint8_t *to = c->data, one;

    if (c->flags & MSG_ERRQUEUE)
        return -EAGAIN; /* no error queue */
    if (is_bad_buffer(c)) {
        int64_t r = sock_recvmsg(f->sock, &one, 1, SOCK_RECV_PEEK, d->now);

        return r > 0 ? -EFAULT : r;
    }
    for (;;) {
        int64_t r = sock_recvmsg(f->sock, to + c->moved, c->bytes - c->moved, recv_flags(c->flags), d->now);

        if (r > 0)
            c->moved += (uint64_t)r;
        if (r > 0 && (c->flags & MSG_WAITALL) && !(c->flags & MSG_PEEK) && c->moved < c->bytes)
            continue;
        if (r == -EAGAIN && may_wait(f, c) && (c->moved == 0 || (c->flags & MSG_WAITALL)))
            return WAITS;
        c->inq = f->asked_inq && (r >= 0 || c->moved) ? sock_inq_hint(f->sock) : -1;
        return c->moved ? (int64_t)c->moved : r;
    }
}

static unsigned send_flags(int flags)
{
    return (flags & MSG_MORE ? (unsigned)TCP_SEND_MORE : 0) | (flags & MSG_OOB ? (unsigned)TCP_SEND_URGENT : 0) |
           (flags & MSG_EOR ? (unsigned)TCP_SEND_EOR : 0);
}

/*
 * MSG_FASTOPEN, or the first send after a connect() that was put off: what the SYN takes first; a call that blocks
 * sleeps until the connection stands, and its data will carry the handshake's ACK.
 */
static int64_t try_fastopen(struct drill *d, struct drill_fd *f, struct drill_call *c)
{
    struct ip_addr ip = drill_addr_to_ip(&c->addr);
    unsigned flags = send_flags(c->flags) | (c->flags & MSG_FASTOPEN ? SOCK_SEND_FASTOPEN : 0);
    int64_t r;

    if (c->begun) {
        ip.family = IP_V4; /* what became of the connect() in progress; where to is known */
        r = sock_connect(f->sock, &ip, c->addr.port, d->now);
        if (r == -EALREADY)
            return WAITS;
        sock_set_write_pending(f->sock, false);
        c->opening = 0;
        return r;
    }
    r = sock_sendto(f->sock, c->flags & MSG_FASTOPEN ? &ip : NULL, c->addr.port, c->data, c->bytes, flags, d->now);
    if (r > 0)
        c->moved = (uint64_t)r;
    if (r != -EINPROGRESS && (sock_poll(f->sock) & SOCK_POLLOUT))
        return r; /* connected before: an ordinary send */
    if ((r == -EINPROGRESS || r > 0) && may_wait(f, c)) {
        sock_set_write_pending(f->sock, c->bytes > c->moved);
        c->opening = 1;
        return WAITS;
    }
    return r;
}

static int64_t try_send(struct drill *d, struct drill_fd *f, struct drill_call *c)
{
    const uint8_t *from = c->data;

    if (is_bad_buffer(c))
        return -EFAULT;
    if (c->opening || (!c->begun && ((c->flags & MSG_FASTOPEN) || sock_is_deferred(f->sock)))) {
        int64_t r = try_fastopen(d, f, c);

        if (r != 0 || c->moved >= c->bytes)
            return r == 0 ? (int64_t)c->moved : r;
    }
    for (;;) {
        int64_t r = sock_send(f->sock, from + c->moved, c->bytes - c->moved, send_flags(c->flags), d->now);

        if (r > 0) {
            c->moved += (uint64_t)r;
            if (c->moved < c->bytes)
                continue;
        }
        if (r == -EAGAIN && may_wait(f, c))
            return WAITS;
        return c->moved ? (int64_t)c->moved : r;
    }
}

static int64_t try_poll(struct drill *d, struct drill_call *c)
{
    struct drill_pollfd *p = c->data;
    int64_t n = 0;

    for (uint64_t i = 0; i < c->bytes; i++) {
        struct drill_fd *f = drill_fd_get(d, p[i].fd, DRILL_FD_SOCK);

        p[i].revents = 0;
        if (p[i].fd < 0)
            continue;
        if (f)
            p[i].revents = (uint16_t)(sock_poll(f->sock) & (p[i].events | SOCK_POLLERR | SOCK_POLLHUP));
        else
            p[i].revents = 0x20; /* POLLNVAL */
        n += p[i].revents != 0;
    }
    return n == 0 && c->expire_at > d->now ? WAITS : n;
}

static int64_t try_epoll_wait(struct drill *d, struct drill_call *c)
{
    struct drill_fd *set = drill_fd_get(d, c->fd, DRILL_FD_EPOLL);
    int n;

    if (!set)
        return drill_fd_get(d, c->fd, DRILL_FD_SOCK) ? -EINVAL : -EBADF;
    if (c->bytes == 0 || c->bytes > 1024)
        return -EINVAL;
    n = drill_epoll_collect(set, c->data, (int)c->bytes);
    return n == 0 && c->expire_at > d->now ? WAITS : n;
}

static int64_t attempt(struct drill *d, struct drill_call *c)
{
    struct drill_fd *f = drill_fd_get(d, c->fd, DRILL_FD_SOCK);

    if (c->op == DRILL_POLL)
        return try_poll(d, c);
    if (c->op == DRILL_EPOLL_WAIT)
        return try_epoll_wait(d, c);
    if (!f)
        return drill_fd_get(d, c->fd, DRILL_FD_EPOLL) ? -ENOTSOCK : -EBADF;
    switch (c->op) {
    case DRILL_ACCEPT:
        return try_accept(d, f, c);
    case DRILL_CONNECT:
        return try_connect(d, f, c);
    case DRILL_RECV:
        return try_recv(d, f, c);
    case DRILL_SEND:
        return try_send(d, f, c);
    default:
        return -ENOSYS;
    }
}

static void finish(struct drill *d, struct drill_call *c, int64_t result)
{
    c->pending = 0;
    c->result = result;
    c->done_at = d->now;
}

void drill_begin(struct drill *d, struct drill_call *c)
{
    struct drill_call **tail = &d->calls;
    int64_t r;

    c->moved = 0;
    c->woken = c->begun = c->opening = 0;
    c->inq = -1;
    c->next = NULL;
    c->expire_at = UINT64_MAX;
    if ((c->op == DRILL_POLL || c->op == DRILL_EPOLL_WAIT) && c->timeout_ms >= 0)
        c->expire_at = d->now + (uint64_t)c->timeout_ms * (uint64_t)NSEC_PER_MSEC;
    r = attempt(d, c);
    if (r == WAITS) {
        c->pending = 1;
        c->begun = 1;
        while (*tail)
            tail = &(*tail)->next;
        *tail = c;
    } else {
        finish(d, c, r);
    }
    drill_turn(d);
}

void drill_forget(struct drill *d, struct drill_call *c)
{
    for (struct drill_call **at = &d->calls; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            c->pending = 0;
            return;
        }
    }
}

/* Does the call wait for one of these bits of this socket? (the wait queue's key) */
static bool waits_for(struct drill *d, const struct drill_call *c, const struct drill_fd *f, unsigned bits)
{
    const struct drill_pollfd *p = c->data;

    if (c->op == DRILL_EPOLL_WAIT) {
        struct drill_fd *set = drill_fd_get(d, c->fd, DRILL_FD_EPOLL);

        return set && !list_empty(&set->ready);
    }
    if (c->op == DRILL_POLL) {
        for (uint64_t i = 0; i < c->bytes; i++) {
            if (p[i].fd == f->number && (bits & (p[i].events | SOCK_POLLERR | SOCK_POLLHUP)))
                return true;
        }
        return false;
    }
    if (c->fd != f->number)
        return false;
    return c->op != DRILL_SEND || (bits & (SOCK_POLLOUT | SOCK_POLLERR | SOCK_POLLHUP));
}

void drill_calls_wake(struct drill *d, const struct drill_fd *f, unsigned bits)
{
    for (struct drill_call *c = d->calls; c; c = c->next) {
        if (waits_for(d, c, f, bits))
            c->woken = 1;
    }
}

bool drill_calls_run(struct drill *d)
{
    bool any = false;

    for (struct drill_call **at = &d->calls; *at;) {
        struct drill_call *c = *at;
        uint64_t moved = c->moved;
        int64_t r;

        if (!c->woken && c->expire_at > d->now) {
            at = &c->next;
            continue;
        }
        c->woken = 0;
        r = attempt(d, c);
        any = any || r != WAITS || c->moved != moved;
        if (r == WAITS) {
            at = &c->next;
        } else {
            *at = c->next;
            finish(d, c, r);
        }
    }
    return any;
}

uint64_t drill_calls_deadline(const struct drill *d)
{
    uint64_t at = UINT64_MAX;

    for (const struct drill_call *c = d->calls; c; c = c->next) {
        if (c->expire_at < at)
            at = c->expire_at;
    }
    return at;
}

void drill_calls_closed(struct drill *d, int fd)
{
    for (struct drill_call **at = &d->calls; *at;) {
        struct drill_call *c = *at;

        if (c->fd == fd && c->op != DRILL_POLL) {
            *at = c->next;
            finish(d, c, -EBADF);
        } else {
            at = &c->next;
        }
    }
}
