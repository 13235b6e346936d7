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
#include <netinet/in.h>

#include "daemon/arena.h"
#include "daemon/call.h"
#include "daemon/events.h"
#include "daemon/ids.h"
#include "daemon/md5.h"
#include "daemon/pump.h"
#include "daemon/room.h"

#define HAND_MAX   2
#define RECENT_MAX 8 /* more than a listener's queue holds */
#define LATER      0.02 /* s */
#define PAIR_BYTES (512 * 1024) /* of each way, and as much for the kernel's overhead */

struct program_listener;

struct program_conn {
    struct list_node link;   /* in programs->conns */
    struct list_node recent; /* in listener->recent: may be unreceived */
    struct list_node queued; /* in listener->queued: not sent yet */
    struct programs *programs;
    struct pump *pump; /* NULL: has ended */
    struct link_slot *slot; /* the pump's; NULL with it */
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
    struct link_slot *slot;
    bool has_keys; /* in links, for a successor */
    ev_io rd, wr;
    ev_timer later; /* the kernel refused to pass a descriptor, though there was credit */
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
    c->slot = NULL;
    c->our_fd = -1;
    list_del(&c->recent);
    conn_put(c);
}

/*
 * As much as a writer may be ahead of a reader. A Unix socket tells a writer that waits of room only when three quarters
 * are free: with the default of 208 KiB a program that writes 128 KiB at once and the daemon take turns instead of
 * working at the same time. (net.core.wmem_max may cap it.)
 */
static void let_run_ahead(int fd)
{
    int bytes = PAIR_BYTES;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

/* A pair of connected descriptors; ours non-blocking and with the poison byte. 0 or -errno. */
static int poisoned_pair(int *ret_ours, int *ret_theirs)
{
    int fd[2], one = 1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
        return -errno;
    if (room_for(ROOM_PROGRAM, fd[1]) < 0) {
        close(fd[0]);
        return -EMFILE;
    }
    if (fcntl(fd[0], F_SETFL, O_NONBLOCK) != 0 || send(fd[1], "", 1, MSG_NOSIGNAL) != 1 ||
        setsockopt(fd[0], SOL_SOCKET, SO_PEEK_OFF, &one, sizeof one) != 0) {
        int err = errno;

        close(fd[0]);
        close(fd[1]);
        return -err;
    }
    let_run_ahead(fd[0]);
    let_run_ahead(fd[1]);
    *ret_ours = fd[0];
    *ret_theirs = fd[1];
    return 0;
}

static struct program_conn *conn_alloc(struct daemon *d)
{
    struct program_conn *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    list_init(&c->link);
    list_init(&c->recent);
    list_init(&c->queued);
    c->programs = d->programs;
    c->program_fd = c->our_fd = -1;
    return c;
}

/* The pump behind c->our_fd, with c->slot. 0 or -errno. */
static int conn_pump(struct daemon *d, struct program_conn *c, struct sock *s, bool restored)
{
    struct pump_params params = {
        .poison = true, .ended = pump_ended, .user = c, .link = c->slot, .restored = restored};
    char owner[64];

    snprintf(owner, sizeof owner, "program pid %d", (int)c->slot->pid);
    params.owner = owner;
    c->pump = pump_new(d, s, c->our_fd, &params);
    if (!c->pump)
        return errno ? -errno : -ENOMEM;
    list_add_tail(&d->programs->conns, &c->link);
    return 0;
}

static int refused(struct daemon *d, int r)
{
    d->counters.program_refused++;
    return r;
}

/*
 * 0 with a connection whose program_fd is set, or -errno; then s is still the caller's. number, text: of the listener
 * that it goes to, and the message; 0 and NULL: it goes with an answer.
 */
static int conn_new(struct daemon *d, struct sock *s, pid_t pid, uint32_t number, const char *text,
                    struct program_conn **ret)
{
    struct program_conn *c = conn_alloc(d);
    struct link_slot fields = {.conn = sock_conn_id(s), .pid = pid, .number = number, .handed = !text};
    int r;

    if (!c)
        return refused(d, -ENOMEM);
    r = poisoned_pair(&c->our_fd, &c->program_fd);
    if (r < 0) {
        free(c);
        return refused(d, r);
    }
    fields.fd = c->our_fd;
    fields.program_fd = text ? c->program_fd : -1;
    snprintf(fields.text, sizeof fields.text, "%s", text ? text : "");
    snprintf(c->text, sizeof c->text, "%s", text ? text : "");
    c->slot = link_new(d, LINK_PROGRAM, &fields);
    r = c->slot ? conn_pump(d, c, s, false) : -ENOMEM;
    if (r < 0) {
        if (c->slot)
            link_free(d, c->slot);
        close(c->our_fd);
        close(c->program_fd);
        free(c);
        return refused(d, r);
    }
    *ret = c;
    return 0;
}

int program_hand_over(struct daemon *d, struct sock *s, pid_t pid, int *ret_fd)
{
    struct program_conn *c;
    int r = conn_new(d, s, pid, 0, NULL, &c);

    if (r < 0)
        return r;
    *ret_fd = c->program_fd;
    c->program_fd = -1;
    conn_put(c);
    return 0;
}

/* ---- Listeners
 * --------------------------------------------------------------------------------------------------- */

static void forget_key(struct daemon *d, struct link_slot *k)
{
    explicit_bzero(k->text, sizeof k->text);
    link_free(d, k);
}

static void forget_keys(struct daemon *d, uint32_t listener)
{
    for (uint32_t i = 0; d->arena && i < d->arena->head->links_touched; i++) {
        struct link_slot *k = arena_link(d->arena, i);

        if (k->kind == LINK_KEY && k->number == listener)
            forget_key(d, k);
    }
}

/* A successor listens again with its keys, or not at all. */
static bool keep_keys(struct daemon *d, uint32_t listener, const json_t *keys)
{
    const json_t *item;
    size_t i;

    json_array_foreach(keys, i, item)
    {
        struct link_slot fields = {.fd = -1, .program_fd = -1, .number = listener};
        struct link_slot *k = NULL;

        if (strlen(json_string_value(item)) < sizeof fields.text) {
            memcpy(fields.text, json_string_value(item), strlen(json_string_value(item)));
            k = link_new(d, LINK_KEY, &fields);
        }
        explicit_bzero(fields.text, sizeof fields.text);
        if (!k)
            return false;
    }
    return true;
}

static void listener_free(struct program_listener *l)
{
    struct ev_loop *loop = l->programs->d->loop;

    ev_io_stop(loop, &l->rd);
    ev_io_stop(loop, &l->wr);
    ev_timer_stop(loop, &l->later);
    list_del(&l->send.link);
    list_del(&l->link);
    close(l->fd);
    if (l->slot)
        link_free(l->programs->d, l->slot);
    if (l->has_keys)
        forget_keys(l->programs->d, l->number);
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
    r = conn_new(d, s, l->pid, l->number, text, &c);
    if (r < 0) {
        log_limited(&d->log, &l->programs->log, now, 1, LOG_LVL_WARNING, "a connection was reset: %s",
                    strerror(-r));
        sock_abort(s, now);
        return true;
    }
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

/* The witness tells a successor whether it went: a message goes whole, with its descriptor, or not at all. */
static int send_conn(const struct program_listener *l, const struct program_conn *c)
{
    struct witness unwatched = {0}, *w = c->slot ? &c->slot->sent : &unwatched;
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
    ssize_t r = witness_send(w, l->fd, &msg, 0);

    return r < 0 ? (int)r : 0;
}

/* The program has it. */
static void conn_sent(struct program_conn *c)
{
    if (c->slot) {
        c->slot->handed = true;
        c->slot->program_fd = -1;
    }
    close(c->program_fd);
    c->program_fd = -1;
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

/* Second half. Any failure but "no credit" and "not now" shows on the read watcher as a hang-up. */
static void listener_send(struct deferred *w, uint64_t now)
{
    struct program_listener *l = list_entry(w, struct program_listener, send);

    while (!list_empty(&l->queued)) {
        struct program_conn *c = list_entry(list_first(&l->queued), struct program_conn, queued);
        int r = send_conn(l, c);

        if (r < 0 && r != -EAGAIN && r != -EINTR) {
            /* Too many descriptors are under way (ETOOMANYREFS), no memory: its being writable says nothing. */
            log_limited(&l->programs->d->log, &l->programs->log, now, 1, LOG_LVL_WARNING,
                        "a connection waits for its program: %s", strerror(-r));
            ev_io_stop(l->programs->d->loop, &l->wr);
            ev_timer_again(l->programs->d->loop, &l->later);
            return;
        }
        if (r < 0)
            break;
        list_del(&c->queued);
        conn_sent(c);
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

static void listener_later(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct program_listener *l = w->data;

    (void)revents;
    ev_timer_stop(loop, w);
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

static void listener_init(struct program_listener *l, struct daemon *d, struct sock *s, struct link_slot *slot)
{
    int smallest = 1; /* the kernel's minimum, 4608 bytes: six messages */

    setsockopt(slot->fd, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest);
    l->owner.ready = listener_ready;
    l->owner.describe = listener_describe;
    l->programs = d->programs;
    l->sock = s;
    l->slot = slot;
    l->fd = slot->fd;
    l->pid = slot->pid;
    l->number = slot->number;
    l->send.fn = listener_send;
    list_init(&l->send.link);
    list_init(&l->queued);
    list_init(&l->recent);
    ev_io_init(&l->rd, listener_readable, l->fd, EV_READ);
    ev_io_init(&l->wr, listener_writable, l->fd, EV_WRITE);
    ev_set_priority(&l->rd, EV_MAXPRI); /* before the pumps of what it never received */
    ev_timer_init(&l->later, listener_later, 0., LATER);
    l->rd.data = l->wr.data = l->later.data = l;
    list_add_tail(&d->programs->listeners, &l->link);
    ev_io_start(d->loop, &l->rd);
    sock_set_user(s, &l->owner);
}

/* How it was bound, for a successor that listens again. */
static void fill_listener(struct link_slot *f, struct sock *s, uint64_t now)
{
    struct tcp_listen_info info = {0};
    int reuse = 0, v6only = 0, domain = 0;
    size_t n = sizeof(int);

    sock_listen_info(s, &info);
    sock_getopt(s, SOL_SOCKET, SO_REUSEADDR, &reuse, &n, now);
    n = sizeof(int);
    sock_getopt(s, SOL_SOCKET, SO_DOMAIN, &domain, &n, now);
    n = sizeof(int);
    if (domain == AF_INET6)
        sock_getopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &n, now);
    f->family = domain == AF_INET6 ? IP_V6 : IP_V4;
    f->addr = info.addr;
    f->port = info.port;
    f->backlog = info.backlog;
    f->reuse = reuse != 0;
    f->v6only = v6only != 0;
}

/* 0, or -1 with errno. */
static int listener_pair(int fd[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return -1;
    if (room_for(ROOM_PROGRAM, fd[1]) >= 0)
        return 0;
    close(fd[0]);
    errno = EMFILE;
    return -1;
}

int program_listen(struct daemon *d, struct sock *s, pid_t pid, const json_t *keys, uint32_t *ret_number,
                   int *ret_fd)
{
    struct link_slot fields = {.pid = pid, .program_fd = -1};
    struct program_listener *l = calloc(1, sizeof *l);
    struct link_slot *slot = NULL;
    struct ip_addr addr = {0};
    uint16_t port = 0;
    char owner[64];
    int fd[2], err = ENOMEM;

    if (!l)
        return -ENOMEM;
    if (listener_pair(fd) < 0) {
        err = errno;
        free(l);
        return -err;
    }
    fill_listener(&fields, s, daemon_now());
    fields.fd = fd[0];
    fields.number = ++d->programs->listener_serial;
    if (!d->arena)
        keys = NULL; /* nobody comes after us */
    if (keep_keys(d, fields.number, keys))
        slot = link_new(d, LINK_LISTENER, &fields);
    if (!slot) {
        forget_keys(d, fields.number);
        close(fd[0]);
        close(fd[1]);
        free(l);
        return -err;
    }
    listener_init(l, d, s, slot);
    l->has_keys = json_array_size(keys) > 0;
    *ret_number = l->number;
    *ret_fd = fd[1];
    sock_name(s, &addr, &port);
    snprintf(owner, sizeof owner, "program pid %d", (int)pid);
    events_listener(d, &addr, port, owner, false);
    listener_fill(l, daemon_now());
    return 0;
}

/* ---- After a crash
 * ------------------------------------------------------------------------------------------------- */

/* The configuration's keys, then the program's own. */
static int keys_again(struct daemon *d, struct sock *s, const struct link_slot *slot, bool *ret_own)
{
    int r = md5_apply(d, s, slot->port, daemon_now());

    for (uint32_t i = 0; r == 0 && i < d->arena->head->links_touched; i++) {
        const struct link_slot *k = arena_link(d->arena, i);
        struct tcp_md5_key key;

        if (k->kind != LINK_KEY || k->number != slot->number)
            continue;
        *ret_own = true;
        r = memchr(k->text, 0, sizeof k->text) && md5_parse(k->text, &key) ? sock_md5_set(s, &key, daemon_now()) : -EINVAL;
        explicit_bzero(&key, sizeof key);
    }
    return r;
}

static int listen_again(struct daemon *d, const struct link_slot *slot, struct sock **ret, bool *ret_keys)
{
    struct ip_addr addr = slot->addr;
    int on = 1, v6only = slot->v6only, r = 0;
    struct sock *s = sock_new(d->socks, (enum ip_family)slot->family, NULL);

    if (!s)
        return -ENOMEM;
    if (ip_addr_is_unspecified(&addr))
        addr = (struct ip_addr){0};
    if (slot->reuse)
        r = sock_setopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on, daemon_now());
    if (r == 0 && slot->family == IP_V6)
        r = sock_setopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only, daemon_now());
    if (r == 0)
        r = sock_bind(s, &addr, slot->port);
    if (r == 0)
        r = keys_again(d, s, slot, ret_keys);
    if (r == 0)
        r = sock_listen(s, slot->backlog);
    if (r < 0)
        sock_close(s, daemon_now());
    else
        *ret = s;
    return r;
}

int program_restore_listener(struct daemon *d, struct link_slot *slot)
{
    struct program_listener *l = calloc(1, sizeof *l);
    struct sock *s = NULL;
    int r = l ? listen_again(d, slot, &s, &l->has_keys) : -ENOMEM;

    if (r < 0) {
        free(l);
        return r;
    }
    listener_init(l, d, s, slot);
    ev_io_start(d->loop, &l->wr); /* looks for credit, and for what waits */
    if (d->programs->listener_serial < slot->number)
        d->programs->listener_serial = slot->number;
    return 0;
}

static struct program_listener *listener_of(struct daemon *d, uint32_t number)
{
    list_for_each(node, &d->programs->listeners)
    {
        struct program_listener *l = list_entry(node, struct program_listener, link);

        if (l->number == number)
            return l;
    }
    return NULL;
}

void program_sweep_keys(struct daemon *d)
{
    for (uint32_t i = 0; i < d->arena->head->links_touched; i++) {
        struct link_slot *k = arena_link(d->arena, i);

        if (k->kind == LINK_KEY && !listener_of(d, k->number))
            forget_key(d, k);
    }
}

/* Was it given to its listener's program? If not it waits for that again. */
static void resume_sending(struct daemon *d, struct program_conn *c)
{
    struct program_listener *l = listener_of(d, c->slot->number);
    uint64_t at;
    uint32_t bytes;

    if (c->program_fd < 0)
        return;
    if ((witness_last(&c->slot->sent, &at, &bytes) && bytes > 0) || !l) {
        conn_sent(c); /* without a listener the hang-up ends it */
        return;
    }
    memcpy(c->text, c->slot->text, sizeof c->text);
    list_add_tail(&l->queued, &c->queued);
}

int program_restore_conn(struct daemon *d, struct sock *s, struct link_slot *slot)
{
    struct program_conn *c = conn_alloc(d);
    int r;

    if (!c)
        return -ENOMEM;
    c->slot = slot;
    c->our_fd = slot->fd;
    c->program_fd = slot->program_fd;
    r = conn_pump(d, c, s, true);
    if (r < 0) {
        free(c);
        return r;
    }
    resume_sending(d, c);
    pump_look(c->pump, daemon_now());
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
