/*
 * daemon/program.c: the descriptors of programs (theory of operation in program.h).
 *
 * A listener moves connections in three steps, so that nothing is written where it is read: in the first half
 * listener_fill() accepts at most HAND_MAX connections if the program's queue has credit, and gives each a
 * pump; in the second half listener_send() sends them; then the write watcher waits for credit again. So at
 * most HAND_MAX plus what the queue holds (6) are out of the accept queue and unread; the listen backlog is
 * lowered by HAND_MAX for it.
 *
 * A program that goes resets what it had not accepted: what waits in the accept queue (sock_close), what was
 * not sent yet, and what was sent but never received; the last is told by its descriptor having hung up
 * together with the listener, so the listener's watcher has a higher priority than the pumps'.
 *
 * Invariant: a struct program_conn lives while its pump lives or while it waits to be sent.
 */
#include "daemon/program.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

#include "daemon/call.h"
#include "daemon/events.h"
#include "daemon/ids.h"
#include "daemon/pump.h"

#define HAND_MAX   2
#define RECENT_MAX 8 /* more than a listener's queue holds */

struct program_listener;

struct program_conn {
    struct list_node link;   /* in programs->conns */
    struct list_node recent; /* in listener->recent: may be unreceived */
    struct list_node queued; /* in listener->queued: not sent yet */
    struct programs *programs;
    struct pump *pump; /* NULL: has ended */
    int our_fd;        /* the pump's; valid while it lives */
    int program_fd;    /* waits to be sent, else -1 */
    char text[256];    /* the message that goes with it */
};

struct program_listener {
    struct sock_owner owner;
    struct list_node link; /* in programs->listeners */
    struct programs *programs;
    struct sock *sock;
    int fd;
    pid_t pid;
    uint32_t number;
    ev_io rd, wr;
    struct deferred send;
    struct list_node queued, recent;
};

/* ---- Connections
 * ------------------------------------------------------------------------------------------------- */

static void conn_put(struct program_conn *c)
{
    if (c->pump || c->program_fd >= 0)
        return;
    list_del(&c->link);
    list_del(&c->recent);
    list_del(&c->queued);
    free(c);
}

static void pump_ended(void *user, enum pump_end how, int error)
{
    struct program_conn *c = user;

    (void)error;
    if (how == PUMP_LOCAL_GONE)
        c->programs->d->counters.program_gone++;
    c->pump = NULL;
    c->our_fd = -1;
    list_del(&c->recent);
    conn_put(c);
}

/* A pair of connected descriptors; ours non-blocking and with the poison byte. 0 or -errno. */
static int poisoned_pair(int *ret_ours, int *ret_theirs)
{
    int fd[2], one = 1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
        return -errno;
    if (fcntl(fd[0], F_SETFL, O_NONBLOCK) != 0 || send(fd[1], "", 1, MSG_NOSIGNAL) != 1 ||
        setsockopt(fd[0], SOL_SOCKET, SO_PEEK_OFF, &one, sizeof one) != 0) {
        int err = errno;

        close(fd[0]);
        close(fd[1]);
        return -err;
    }
    *ret_ours = fd[0];
    *ret_theirs = fd[1];
    return 0;
}

/* 0 with a connection whose program_fd is set, or -errno; then s is still the caller's. */
static int conn_new(struct daemon *d, struct sock *s, pid_t pid, struct program_conn **ret)
{
    struct program_conn *c = calloc(1, sizeof *c);
    struct pump_params params = {.poison = true, .ended = pump_ended, .user = c};
    char owner[64];
    int r;

    if (!c)
        return -ENOMEM;
    list_init(&c->link);
    list_init(&c->recent);
    list_init(&c->queued);
    c->programs = d->programs;
    r = poisoned_pair(&c->our_fd, &c->program_fd);
    if (r < 0) {
        free(c);
        return r;
    }
    snprintf(owner, sizeof owner, "program pid %d", (int)pid);
    params.owner = owner;
    c->pump = pump_new(d, s, c->our_fd, &params);
    if (!c->pump) {
        r = errno ? -errno : -ENOMEM;
        close(c->our_fd);
        close(c->program_fd);
        free(c);
        return r;
    }
    list_add_tail(&d->programs->conns, &c->link);
    *ret = c;
    return 0;
}

int program_hand_over(struct daemon *d, struct sock *s, pid_t pid, int *ret_fd)
{
    struct program_conn *c;
    int r = conn_new(d, s, pid, &c);

    if (r < 0)
        return r;
    *ret_fd = c->program_fd;
    c->program_fd = -1;
    conn_put(c);
    return 0;
}

/* ---- Listeners
 * --------------------------------------------------------------------------------------------------- */

static void listener_free(struct program_listener *l)
{
    struct ev_loop *loop = l->programs->d->loop;

    ev_io_stop(loop, &l->rd);
    ev_io_stop(loop, &l->wr);
    list_del(&l->send.link);
    list_del(&l->link);
    close(l->fd);
    free(l);
}

/*
 * It had the descriptor, and went after that: it wrote (our queue holds more than the poison, or held it), or it read what
 * it was given. A Unix socket that ends with bytes unread, received or not, tells its peer ECONNRESET.
 */
static bool program_received(const struct program_conn *c)
{
    struct pump_info info;
    socklen_t n = sizeof(int);
    int inq = 0, error = 0;

    pump_get_info(c->pump, &info);
    if (info.bytes_out > 0 || (ioctl(c->our_fd, SIOCINQ, &inq) == 0 && inq > 1))
        return true;
    return info.bytes_in > 0 && getsockopt(c->our_fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0;
}

/* Resets what the program never got. */
static void reset_unreceived(struct program_listener *l, uint64_t now)
{
    while (!list_empty(&l->queued)) {
        struct program_conn *c = list_entry(list_pop(&l->queued), struct program_conn, queued);

        close(c->program_fd);
        c->program_fd = -1;
        if (c->pump)
            pump_abort(c->pump, now);
        else
            conn_put(c);
    }
    while (!list_empty(&l->recent)) {
        struct program_conn *c = list_entry(list_pop(&l->recent), struct program_conn, recent);
        struct pollfd p = {.fd = c->our_fd};

        if (c->pump && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) && !program_received(c))
            pump_abort(c->pump, now);
    }
}

static void listener_end(struct program_listener *l, uint64_t now)
{
    struct ip_addr addr = {0};
    uint16_t port = 0;
    char owner[64];

    sock_name(l->sock, &addr, &port);
    snprintf(owner, sizeof owner, "program pid %d", (int)l->pid);
    sock_close(l->sock, now);
    reset_unreceived(l, now);
    events_listener(l->programs->d, &addr, port, owner, true);
    daemon_kick(l->programs->d);
    listener_free(l);
}

static void describe_conn(struct daemon *d, struct sock *s, char *text, size_t n)
{
    char id[ID_TEXT_MAX], local[IP_ADDR_PORT_MAX], peer[IP_ADDR_PORT_MAX];
    struct tcp_info info;

    memset(&info, 0, sizeof info);
    tcp_get_info(d->tcp, sock_conn_id(s), daemon_now(), &info);
    snprintf(text, n, "{\"id\":\"%s\",\"peer\":\"%s\",\"local\":\"%s\"}", id_format(sock_conn_id(s), id),
             ip_addr_port_format(&info.tuple.remote, info.tuple.remote_port, peer),
             ip_addr_port_format(&info.tuple.local, info.tuple.local_port, local));
}

/* Accepts one; false when none waits. */
static bool accept_one(struct program_listener *l, uint64_t now)
{
    struct daemon *d = l->programs->d;
    struct sock *s = sock_accept(l->sock, NULL);
    struct program_conn *c;
    char text[sizeof c->text];
    int r;

    if (!s)
        return false;
    describe_conn(d, s, text, sizeof text);
    r = conn_new(d, s, l->pid, &c);
    if (r < 0) {
        log_limited(&d->log, &l->programs->log, now, 1, LOG_LVL_WARNING, "a connection was reset: %s",
                    strerror(-r));
        sock_abort(s, now);
        return true;
    }
    memcpy(c->text, text, sizeof text);
    list_add_tail(&l->queued, &c->queued);
    return true;
}

static bool has_credit(const struct program_listener *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLOUT};

    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static void listener_fill(struct program_listener *l, uint64_t now)
{
    struct daemon *d = l->programs->d;

    if (!list_empty(&l->queued))
        return;
    if (!has_credit(l)) {
        ev_io_start(d->loop, &l->wr);
        return;
    }
    ev_io_stop(d->loop, &l->wr);
    for (int i = 0; i < HAND_MAX && accept_one(l, now); i++)
        ;
    if (!list_empty(&l->queued)) {
        daemon_defer(d, &l->send);
        daemon_kick(d);
    }
}

static int send_conn(const struct program_listener *l, const struct program_conn *c)
{
    struct iovec iov = {.iov_base = (char *)(uintptr_t)c->text, .iov_len = strlen(c->text)};
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof control.buf};
    struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);

    cm->cmsg_level = SOL_SOCKET;
    cm->cmsg_type = SCM_RIGHTS;
    cm->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cm), &c->program_fd, sizeof(int));
    return sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static void remember(struct program_listener *l, struct program_conn *c)
{
    unsigned n = 0;

    if (!c->pump)
        return;
    list_add_tail(&l->recent, &c->recent);
    list_for_each(node, &l->recent) n++;
    if (n > RECENT_MAX)
        list_del(list_first(&l->recent));
}

/* Second half. Any failure but "no credit" shows on the read watcher as a hang-up. */
static void listener_send(struct deferred *w, uint64_t now)
{
    struct program_listener *l = list_entry(w, struct program_listener, send);

    (void)now;
    while (!list_empty(&l->queued)) {
        struct program_conn *c = list_entry(list_first(&l->queued), struct program_conn, queued);

        if (send_conn(l, c) < 0)
            break;
        list_del(&c->queued);
        close(c->program_fd);
        c->program_fd = -1;
        remember(l, c);
        conn_put(c);
    }
    ev_io_start(l->programs->d->loop, &l->wr); /* fills or sends again as soon as there is credit */
}

static void listener_writable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct program_listener *l = w->data;

    (void)revents;
    if (list_empty(&l->queued)) {
        listener_fill(l, daemon_now());
        return;
    }
    ev_io_stop(loop, w);
    daemon_defer(l->programs->d, &l->send);
    daemon_kick(l->programs->d);
}

static void listener_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct program_listener *l = w->data;
    char ignored[64];
    ssize_t n = recv(l->fd, ignored, sizeof ignored, MSG_DONTWAIT);

    (void)loop, (void)revents;
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return; /* nothing is to be said to a listener */
    listener_end(l, daemon_now());
}

static void listener_ready(struct sock_owner *owner, struct sock *s, unsigned bits, uint64_t now)
{
    (void)s, (void)bits;
    listener_fill(list_entry(owner, struct program_listener, owner), now);
}

static void listener_describe(const struct sock_owner *owner, struct sock_owner_info *ret)
{
    const struct program_listener *l = list_entry(owner, const struct program_listener, owner);

    snprintf(ret->name, sizeof ret->name, "program pid %d", (int)l->pid);
}

static void listener_init(struct program_listener *l, struct daemon *d, struct sock *s, pid_t pid, int fd)
{
    int smallest = 1; /* the kernel's minimum, 4608 bytes: six messages */

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest);
    l->owner.ready = listener_ready;
    l->owner.describe = listener_describe;
    l->programs = d->programs;
    l->sock = s;
    l->fd = fd;
    l->pid = pid;
    l->number = ++d->programs->listener_serial;
    l->send.fn = listener_send;
    list_init(&l->send.link);
    list_init(&l->queued);
    list_init(&l->recent);
    ev_io_init(&l->rd, listener_readable, fd, EV_READ);
    ev_io_init(&l->wr, listener_writable, fd, EV_WRITE);
    ev_set_priority(&l->rd, EV_MAXPRI); /* before the pumps of what it never received */
    l->rd.data = l->wr.data = l;
    list_add_tail(&d->programs->listeners, &l->link);
    ev_io_start(d->loop, &l->rd);
    sock_set_user(s, &l->owner);
}

int program_listen(struct daemon *d, struct sock *s, pid_t pid, uint32_t *ret_number, int *ret_fd)
{
    struct program_listener *l = calloc(1, sizeof *l);
    struct ip_addr addr = {0};
    uint16_t port = 0;
    char owner[64];
    int fd[2];

    if (!l)
        return -ENOMEM;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0) {
        int err = errno;

        free(l);
        return -err;
    }
    listener_init(l, d, s, pid, fd[0]);
    *ret_number = l->number;
    *ret_fd = fd[1];
    sock_name(s, &addr, &port);
    snprintf(owner, sizeof owner, "program pid %d", (int)pid);
    events_listener(d, &addr, port, owner, false);
    listener_fill(l, daemon_now());
    return 0;
}

/* ---- All of them
 * ------------------------------------------------------------------------------------------------- */

int programs_open(struct daemon *d)
{
    struct programs *ps = calloc(1, sizeof *ps);

    if (!ps)
        return -1;
    ps->d = d;
    list_init(&ps->conns);
    list_init(&ps->listeners);
    list_init(&ps->connecting);
    d->programs = ps;
    return 0;
}

static void end_listeners(struct programs *ps, uint64_t now)
{
    while (!list_empty(&ps->listeners))
        listener_end(list_entry(list_first(&ps->listeners), struct program_listener, link), now);
}

void programs_drain(struct daemon *d, uint64_t now)
{
    if (!d->programs)
        return;
    program_connects_end(d, now);
    end_listeners(d->programs, now);
    list_for_each_safe(node, &d->programs->conns)
    {
        struct program_conn *c = list_entry(node, struct program_conn, link);

        if (c->pump)
            pump_drain(c->pump, now);
    }
}

void programs_close(struct daemon *d)
{
    struct programs *ps = d->programs;
    uint64_t now = daemon_now();

    if (!ps)
        return;
    program_connects_end(d, now);
    end_listeners(ps, now);
    while (!list_empty(&ps->conns)) {
        struct program_conn *c = list_entry(list_first(&ps->conns), struct program_conn, link);
        struct pump *pump = c->pump;

        if (pump)
            pump_abort(pump, now); /* ended() unlinks it */
    }
    free(ps);
    d->programs = NULL;
}
