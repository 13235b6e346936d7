/*
 * daemon/forward.c: forwards (theory of operation).
 *
 * A forward listens on the stack. For each connection that it accepts it begins a non-blocking connect to the backend
 * (TCP or Unix socket of the host); while that is under way the peer's bytes wait in its receive buffer, so the window
 * is the back-pressure. Connected: both go to a pump, with a PROXY protocol header in front if asked for. Refused,
 * failed or not connected in time: the peer is reset, with a counter and a limited log line. A Unix backend whose
 * backlog is full says EAGAIN and offers nothing to wait for: it is tried again, from RETRY_FIRST on ever more seldom,
 * until connect_timeout. A link is in one of two places: on its forward's list while it lives, or freed.
 *
 * Invariant: connecting + pumped links of a forward = its list's length = its share of max_connections.
 */
#include "daemon/forward.h"
#include "daemon/md5.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "daemon/fdset.h"
#include "daemon/pump.h"
#include "daemon/room.h"

#define RETRY_FIRST 0.002 /* s */
#define RETRY_MOST 0.1

struct forward {
    struct list_node link;
    struct sock_owner owner; /* of the listener */
    struct forwards *all;
    struct config_forward config;
    struct sock *listener; /* NULL: closed by a reload, lives on for its links */
    struct list_node links;
    uint32_t n_links, n_connecting;
    uint64_t accepted, failed;
    struct deferred accept_work; /* a place below max_connections came free */
    char label[48];              /* "forward NAME" */
};

struct forwards {
    struct daemon *d;
    struct list_node list;
    struct log_limit log_limit;
};

/* One accepted connection and its backend. */
struct flink {
    struct list_node link;
    struct forward *forward;
    struct sock_owner owner; /* while connecting */
    struct fdwatch watch;    /* the backend, while connecting */
    struct deferred free_work;
    ev_timer timeout;
    ev_timer retry; /* watch.fd < 0 while it runs */
    struct sock *sock;
    struct pump *pump; /* NULL while connecting */
    struct link_slot *slot; /* the pump's when there is one */
    bool done;
};

/* ---- The end of a link ------------------------------------------------------------------------------------------- */

static void flink_free(struct deferred *self, uint64_t now)
{
    (void)now;
    free(list_entry(self, struct flink, free_work));
}

static void forward_free_if_idle(struct forward *f)
{
    if (f->listener || f->n_links > 0)
        return;
    list_del(&f->accept_work.link);
    list_del(&f->link);
    free(f);
}

/* Takes the link off its forward; whatever it held is no longer its own. */
static void flink_gone(struct flink *k)
{
    struct forward *f = k->forward;

    if (k->done)
        return;
    k->done = true;
    ev_timer_stop(f->all->d->loop, &k->timeout);
    ev_timer_stop(f->all->d->loop, &k->retry);
    list_del(&k->link);
    f->n_links--;
    if (f->listener)
        daemon_defer(f->all->d, &f->accept_work);
    daemon_defer(f->all->d, &k->free_work);
    daemon_kick(f->all->d);
    forward_free_if_idle(f);
}

/* Ends a link that has no pump: the peer is reset. */
static void flink_abort_waiting(struct flink *k, uint64_t now)
{
    k->forward->n_connecting--;
    if (k->watch.fd >= 0) {
        fdset_del(&k->watch);
        close(k->watch.fd);
    }
    if (k->slot)
        link_free(k->forward->all->d, k->slot);
    sock_abort(k->sock, now);
    flink_gone(k);
}

/* The backend could not be had. */
static void flink_failed(struct flink *k, int error, uint64_t now)
{
    struct forward *f = k->forward;
    struct daemon *d = f->all->d;

    f->failed++;
    if (error == ETIMEDOUT)
        d->counters.forward_timeouts++;
    else if (error == EMFILE || error == ENFILE)
        d->counters.forward_no_fds++;
    else
        d->counters.forward_refused++;
    log_limited(&d->log, &f->all->log_limit, now, 5, LOG_LVL_WARNING, "forward %s: backend: %s; connection reset",
                f->config.name, strerror(error));
    flink_abort_waiting(k, now);
}

static void pump_ended(void *user, enum pump_end how, int error)
{
    struct flink *k = user;
    struct forward *f = k->forward;

    if (how == PUMP_LOCAL_ERROR) {
        struct pump_info info;

        pump_get_info(k->pump, &info);
        f->all->d->counters.forward_resets++;
        log_limited(&f->all->d->log, &f->all->log_limit, daemon_now(), 5, LOG_LVL_INFO,
                    "forward %s: backend: %s; connection reset, %llu bytes not delivered", f->config.name,
                    strerror(error), (unsigned long long)info.bytes_lost);
    }
    k->pump = NULL;
    flink_gone(k);
}

/* ---- PROXY protocol, version 2 ------------------------------------------------------------------------------------ */

#define PROXY_V2_MAX 52

static size_t proxy_put_port(uint8_t *at, uint16_t port)
{
    at[0] = (uint8_t)(port >> 8);
    at[1] = (uint8_t)port;
    return 2;
}

/* Source is the peer, destination is our address. Returns the header's length; 0: the connection is gone. */
static size_t proxy_header(const struct flink *k, uint8_t out[PROXY_V2_MAX])
{
    static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";
    struct ip_addr peer, local;
    uint16_t peer_port, local_port;
    size_t at = 16, addr_bytes;

    if (sock_peer(k->sock, &peer, &peer_port) < 0 || sock_name(k->sock, &local, &local_port) < 0)
        return 0;
    /* A dual-stack listener's socket names IPv4 peers as v4-mapped. */
    bool mapped = ip_addr_is_v4_mapped(&peer), v4 = mapped || peer.family == IP_V4;

    addr_bytes = v4 ? 4 : 16;
    memcpy(out, signature, sizeof signature);
    out[12] = 0x21; /* version 2, PROXY */
    out[13] = v4 ? 0x11 : 0x21;
    out[14] = 0;
    out[15] = (uint8_t)(2 * addr_bytes + 4);
    memcpy(out + at, peer.b + (mapped ? 12 : 0), addr_bytes);
    at += addr_bytes;
    memcpy(out + at, local.b + (mapped ? 12 : 0), addr_bytes);
    at += addr_bytes;
    at += proxy_put_port(out + at, peer_port);
    at += proxy_put_port(out + at, local_port);
    return at;
}

/* ---- Connecting ----------------------------------------------------------------------------------------------------- */

static void flink_connected(struct flink *k, uint64_t now)
{
    struct forward *f = k->forward;
    struct pump_params params = {.owner = f->label, .ended = pump_ended, .user = k, .link = k->slot};
    int fd = k->watch.fd;

    ev_timer_stop(f->all->d->loop, &k->timeout);
    fdset_del(&k->watch);
    if (f->config.proxy == FORWARD_PROXY_V2) {
        k->slot->preface_bytes = (uint32_t)proxy_header(k, k->slot->preface);
        if (k->slot->preface_bytes == 0) { /* never without: the backend would take the peer's bytes for the header */
            flink_failed(k, ENOTCONN, now);
            return;
        }
    }
    k->slot->watched = false; /* from now on under the pump's name */
    __atomic_store_n(&k->slot->kind, (uint8_t)LINK_FORWARD, __ATOMIC_RELEASE);
    k->pump = pump_new(f->all->d, k->sock, fd, &params);
    if (!k->pump) {
        flink_failed(k, errno, now);
        return;
    }
    k->slot = NULL;
    f->n_connecting--;
}

static void backend_ready(struct fdwatch *self, uint32_t events, uint64_t now)
{
    struct flink *k = list_entry(self, struct flink, watch);
    int error = 0;
    socklen_t n = sizeof error;

    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        return;
    if (getsockopt(self->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
        error = errno;
    if (error)
        flink_failed(k, error, now);
    else if (events & EPOLLOUT)
        flink_connected(k, now);
}

static void timeout_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct flink *k = w->data;

    (void)loop, (void)revents;
    flink_failed(k, ETIMEDOUT, daemon_now());
}

/* The peer went away while the backend was being connected to. Its bytes wait; only an error ends the link. */
static void waiting_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct flink *k = list_entry(self, struct flink, owner);

    (void)s;
    if (bits & SOCK_POLLERR)
        flink_abort_waiting(k, now);
}

static void waiting_describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    snprintf(ret->name, sizeof ret->name, "%s (connecting)", list_entry(self, const struct flink, owner)->forward->label);
}

static void waiting_end(struct sock_owner *self, struct sock *s, bool reset, uint64_t now)
{
    (void)s, (void)reset;
    flink_abort_waiting(list_entry(self, struct flink, owner), now);
}

static socklen_t backend_address(const struct config_forward *c, struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof *ret);
    if (c->target == FORWARD_UNIX) {
        struct sockaddr_un *un = (struct sockaddr_un *)ret;

        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, c->to_path, strlen(c->to_path) + 1);
        return sizeof *un;
    }
    if (c->to_addr.family == IP_V4) {
        struct sockaddr_in *in = (struct sockaddr_in *)ret;

        in->sin_family = AF_INET;
        in->sin_port = htons(c->to_port);
        memcpy(&in->sin_addr, c->to_addr.b, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(c->to_port);
    in6->sin6_scope_id = c->to_addr.scope;
    memcpy(&in6->sin6_addr, c->to_addr.b, 16);
    return sizeof *in6;
}

/* A socket whose connect is under way or done, or -errno. */
static int backend_connect(const struct config_forward *c)
{
    struct sockaddr_storage addr;
    socklen_t bytes = backend_address(c, &addr);
    int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (room_for(ROOM_PROGRAM, fd) < 0)
        return -EMFILE;
    if (connect(fd, (struct sockaddr *)&addr, bytes) == 0 || errno == EINPROGRESS)
        return fd;
    int error = errno;

    close(fd);
    return -error;
}

static void flink_connect(struct flink *k, uint64_t now)
{
    struct forward *f = k->forward;
    int r = backend_connect(&f->config);

    k->watch = (struct fdwatch){.fd = r, .ready = backend_ready};
    k->slot->fd = r < 0 ? -1 : r;
    if (r == -EAGAIN) {
        k->retry.repeat = k->retry.repeat * 2 < RETRY_MOST ? k->retry.repeat * 2 : RETRY_MOST;
        ev_timer_again(f->all->d->loop, &k->retry);
        return;
    }
    ev_timer_stop(f->all->d->loop, &k->retry);
    if (r >= 0)
        r = fdset_add(f->all->d->fds, &k->watch);
    if (r < 0)
        flink_failed(k, -r, now);
}

static void retry_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    flink_connect(w->data, daemon_now());
}

static void flink_begin(struct flink *k, uint64_t now)
{
    struct forward *f = k->forward;

    f->n_connecting++;
    ev_timer_init(&k->timeout, timeout_cb, f->config.connect_timeout_ms / 1000.0, 0.);
    ev_timer_init(&k->retry, retry_cb, 0., RETRY_FIRST / 2);
    k->timeout.data = k->retry.data = k;
    ev_timer_start(f->all->d->loop, &k->timeout);
    if (!k->slot) {
        struct link_slot fields = {.fd = -1, .program_fd = -1, .conn = sock_conn_id(k->sock)};

        memcpy(fields.text, f->config.name, sizeof f->config.name);
        k->slot = link_new(f->all->d, LINK_CONNECTING, &fields);
    }
    if (k->slot)
        flink_connect(k, now);
    else
        flink_failed(k, ENOMEM, now);
}

static struct flink *flink_new(struct forward *f, struct sock *s)
{
    struct flink *k = calloc(1, sizeof *k);

    if (!k)
        return NULL;
    *k = (struct flink){.forward = f,
                        .owner = {.ready = waiting_ready, .describe = waiting_describe, .end = waiting_end},
                        .watch = {.fd = -1},
                        .sock = s,
                        .free_work = {.fn = flink_free}};
    list_init(&k->free_work.link);
    list_add_tail(&f->links, &k->link);
    f->n_links++;
    return k;
}

static void listener_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct forward *f = list_entry(self, struct forward, owner);
    struct sock *accepted;

    (void)bits;
    while (f->listener == s && f->n_links < f->config.max_connections && (accepted = sock_accept(s, NULL))) {
        struct flink *k = flink_new(f, accepted);

        if (!k) {
            f->all->d->counters.no_memory++;
            sock_abort(accepted, now);
            continue;
        }
        f->accepted++;
        f->all->d->counters.forward_accepts++;
        sock_set_user(accepted, &k->owner);
        flink_begin(k, now);
    }
}

static void accept_more(struct deferred *self, uint64_t now)
{
    struct forward *f = list_entry(self, struct forward, accept_work);

    if (f->listener)
        listener_ready(&f->owner, f->listener, SOCK_POLLIN, now);
}

static void listener_describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    snprintf(ret->name, sizeof ret->name, "%s", list_entry(self, const struct forward, owner)->label);
}

/* ---- Opening, reloading, ending --------------------------------------------------------------------------------- */

static bool same_listener(const struct config_forward *a, const struct config_forward *b)
{
    return ip_addr_eq(&a->listen_addr, &b->listen_addr) && a->listen_port == b->listen_port;
}

static int forward_listen(struct forward *f, char *error, size_t bytes)
{
    const struct config_forward *c = &f->config;
    enum ip_family family = c->listen_addr.family == IP_V4 ? IP_V4 : IP_V6;
    char text[IP_ADDR_PORT_MAX];
    int r, on = 1;

    f->listener = sock_new(f->all->d->socks, family, &f->owner);
    /* Or links that live on would keep the port from being opened again by a reload. */
    r = f->listener ? sock_setopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on, daemon_now()) : -ENOMEM;
    if (r == 0)
        r = sock_bind(f->listener, &c->listen_addr, c->listen_port);
    if (r == 0)
        r = md5_apply(f->all->d, f->listener, c->listen_port, daemon_now());
    if (r == 0)
        r = sock_listen(f->listener, c->backlog);
    if (r == 0)
        return 0;
    snprintf(error, bytes, "forward %s: cannot listen on %s: %s", c->name,
             ip_addr_port_format(&c->listen_addr, c->listen_port, text), strerror(-r));
    if (f->listener)
        sock_close(f->listener, daemon_now());
    f->listener = NULL;
    return -1;
}

static struct forward *forward_alloc(struct forwards *all, const struct config_forward *c)
{
    struct forward *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->all = all;
    f->config = *c;
    f->owner = (struct sock_owner){.ready = listener_ready, .describe = listener_describe};
    f->accept_work.fn = accept_more;
    list_init(&f->accept_work.link);
    list_init(&f->links);
    snprintf(f->label, sizeof f->label, "forward %s", c->name);
    list_add_tail(&all->list, &f->link);
    return f;
}

static int forward_new(struct forwards *all, const struct config_forward *c, char *error, size_t bytes)
{
    struct forward *f = forward_alloc(all, c);

    if (!f) {
        snprintf(error, bytes, "forward %s: out of memory", c->name);
        return -1;
    }
    if (forward_listen(f, error, bytes) == 0)
        return 0;
    forward_free_if_idle(f);
    return -1;
}

int forwards_open(struct daemon *d, char *error, size_t bytes)
{
    struct forwards *all = calloc(1, sizeof *all);

    if (!all) {
        snprintf(error, bytes, "out of memory");
        return -1;
    }
    all->d = d;
    list_init(&all->list);
    d->forwards = all;
    for (unsigned i = 0; i < d->config->n_forwards; i++)
        if (forward_new(all, &d->config->forward[i], error, bytes) < 0)
            return -1;
    return 0;
}

static const struct config_forward *find_config(const struct daemon_config *c, const char *name)
{
    for (unsigned i = 0; i < c->n_forwards; i++)
        if (strcmp(c->forward[i].name, name) == 0)
            return &c->forward[i];
    return NULL;
}

static struct forward *find_forward(struct forwards *all, const char *name)
{
    list_for_each(node, &all->list)
    {
        struct forward *f = list_entry(node, struct forward, link);

        if (f->listener && strcmp(f->config.name, name) == 0)
            return f;
    }
    return NULL;
}

static void stop_listening(struct forward *f)
{
    if (f->listener)
        sock_close(f->listener, daemon_now());
    f->listener = NULL;
    forward_free_if_idle(f);
}

/* New target and limits, for connections accepted from now on. */
static void update_config(struct forward *f, const struct config_forward *c)
{
    f->config = *c;
    sock_listen(f->listener, c->backlog);
    daemon_defer(f->all->d, &f->accept_work); /* max_connections may be higher */
}

int forwards_reload(struct daemon *d, const struct daemon_config *next, char *error, size_t bytes)
{
    struct forwards *all = d->forwards;
    int r = 0;

    /* First what goes or moves, so that its port is free for what comes. */
    list_for_each_safe(node, &all->list)
    {
        struct forward *f = list_entry(node, struct forward, link);
        const struct config_forward *c = f->listener ? find_config(next, f->config.name) : NULL;

        if (f->listener && (!c || !same_listener(c, &f->config)))
            stop_listening(f);
        else if (c)
            update_config(f, c);
    }
    for (unsigned i = 0; i < next->n_forwards; i++)
        if (!find_forward(all, next->forward[i].name) && forward_new(all, &next->forward[i], error, bytes) < 0)
            r = -1;
    return r;
}

void forwards_drain(struct daemon *d, uint64_t now)
{
    list_for_each_safe(node, &d->forwards->list)
    {
        struct forward *f = list_entry(node, struct forward, link);

        f->n_links++; /* holds the forward while its links go */
        list_for_each_safe(at, &f->links)
        {
            struct flink *k = list_entry(at, struct flink, link);

            if (k->pump)
                pump_drain(k->pump, now);
            else
                flink_abort_waiting(k, now);
        }
        f->n_links--;
        stop_listening(f);
    }
}

static void flink_abort(struct flink *k, uint64_t now)
{
    if (k->pump)
        pump_abort(k->pump, now);
    else
        flink_abort_waiting(k, now);
}

void forwards_close(struct daemon *d)
{
    struct forwards *all = d->forwards;

    if (!all)
        return;
    list_for_each_safe(node, &all->list)
    {
        struct forward *f = list_entry(node, struct forward, link);

        f->n_links++; /* holds the forward while its links go */
        list_for_each_safe(at, &f->links) flink_abort(list_entry(at, struct flink, link), daemon_now());
        f->n_links--;
        stop_listening(f);
    }
    free(all);
    d->forwards = NULL;
}

/* ---- After a crash ------------------------------------------------------------------------------------------------ */

/* The forward may have been taken out of the configuration: then it lives for its links only. */
static struct forward *forward_of(struct forwards *all, const struct link_slot *slot)
{
    struct config_forward gone = {.max_connections = 1};
    struct forward *f;

    memcpy(gone.name, slot->text, sizeof gone.name - 1);
    f = find_forward(all, gone.name);
    return f ? f : forward_alloc(all, &gone);
}

/* A connect that was under way begins anew: its backend saw no byte of it. */
static int restore_connecting(struct flink *k, struct link_slot *slot, uint64_t now)
{
    if (!k->forward->listener)
        return -ECONNABORTED;
    if (slot->fd >= 0)
        close(slot->fd);
    slot->fd = -1;
    k->slot = slot;
    sock_set_user(k->sock, &k->owner);
    flink_begin(k, now);
    return 0;
}

int forward_restore(struct daemon *d, struct sock *s, struct link_slot *slot)
{
    struct forward *f = forward_of(d->forwards, slot);
    struct flink *k = f ? flink_new(f, s) : NULL;
    struct pump_params params = {.ended = pump_ended, .user = k, .link = slot, .restored = true};
    uint64_t now = daemon_now();
    int r;

    if (!k)
        return -ENOMEM;
    params.owner = f->label;
    if (slot->kind == LINK_CONNECTING) {
        r = restore_connecting(k, slot, now);
    } else {
        k->pump = pump_new(d, s, slot->fd, &params);
        r = k->pump ? 0 : errno ? -errno : -ENOMEM;
        if (k->pump)
            pump_look(k->pump, now);
    }
    if (r < 0)
        flink_gone(k);
    return r;
}

bool forwards_get(const struct daemon *d, unsigned i, struct forward_info *ret)
{
    list_for_each(node, &d->forwards->list)
    {
        const struct forward *f = list_entry(node, struct forward, link);
        const struct config_forward *c = &f->config;
        char text[IP_ADDR_PORT_MAX];

        if (i-- > 0)
            continue;
        *ret = (struct forward_info){.name = c->name, .listen_addr = c->listen_addr, .listen_port = c->listen_port,
                                     .connections = f->n_links, .connecting = f->n_connecting,
                                     .accepted = f->accepted, .failed = f->failed};
        if (c->target == FORWARD_UNIX)
            snprintf(ret->to, sizeof ret->to, "unix:%s", c->to_path);
        else
            snprintf(ret->to, sizeof ret->to, "tcp:%s", ip_addr_port_format(&c->to_addr, c->to_port, text));
        return true;
    }
    return false;
}
