/*
 * daemon/service.c: echo, discard and chargen on the stack (theory of operation).
 *
 * Each is a listener and, per connection, a small struct that moves bytes when its sock says that it can: echo from the
 * receive to the send buffer (RFC 862), discard to nowhere (RFC 863), chargen the rotating pattern of RFC 864 for as long
 * as the peer takes it. No descriptor is involved, so these are the stack's ceiling in every measurement. A connection
 * is served at most SERVE_BYTES in one go and comes back by deferred work, so that one does not starve the others.
 */
#include "daemon/md5.h"
#include "daemon/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SERVE_BYTES (256u * 1024)
#define PLACES 16
/* RFC 864: 95 printable characters, lines of 72, each beginning one further, CR LF at the end. */
#define PRINTABLE 95
#define LINE_CHARS 72
#define LINE_BYTES (LINE_CHARS + 2)
#define PATTERN_BYTES (PRINTABLE * LINE_BYTES)

/* With the kind: what the engine keeps of a service's connection, so that a successor knows it. */
#define USER_TAG 0x7365727669636500ull

enum kind { ECHO, DISCARD, CHARGEN, KINDS };

static const char *const kind_names[KINDS] = {"echo", "discard", "chargen"};

struct service {
    struct sock_owner owner; /* of the listener */
    struct services *all;
    enum kind kind;
    uint16_t port;
    struct sock *listener; /* NULL: off */
    struct list_node conns;
    uint32_t n_conns;
    uint64_t accepted;
};

struct services {
    struct daemon *d;
    struct service service[KINDS];
    struct chunk *pattern; /* chargen's, over and over; while it has connections */
};

struct conn {
    struct sock_owner owner;
    struct deferred work;
    struct deferred starved;
    struct list_node link;
    struct service *service;
    struct sock *sock;
    uint32_t position; /* in chargen's pattern */
    bool eof, done;
};

static void drop_pattern(struct services *all)
{
    if (all->pattern)
        chunk_unref_part(all->d->pool, all->pattern);
    all->pattern = NULL;
}

static void conn_end(struct conn *c, bool reset, uint64_t now)
{
    if (c->done)
        return;
    c->done = true;
    if (reset)
        sock_abort(c->sock, now);
    else
        sock_close(c->sock, now);
    list_del(&c->link);
    list_del(&c->starved.link);
    if (--c->service->n_conns == 0 && c->service->kind == CHARGEN)
        drop_pattern(c->service->all);
    daemon_defer(c->service->all->d, &c->work); /* frees */
    daemon_kick(c->service->all->d);
}

/* Throws away what came; true if the end of the stream was reached. */
static bool swallow(struct conn *c, uint64_t now)
{
    struct tcp_iov data[PLACES];
    bool eof = false;
    int n;

    while ((n = sock_recv_peek(c->sock, data, PLACES, &eof)) > 0) {
        size_t bytes = 0;

        for (int i = 0; i < n; i++)
            bytes += data[i].len;
        sock_recv_consume(c->sock, bytes, now);
    }
    if (n < 0 && n != -EAGAIN)
        conn_end(c, true, now);
    return n == 0 && eof;
}

static void serve_discard(struct conn *c, uint64_t now)
{
    if (swallow(c, now))
        conn_end(c, false, now);
}

/* No room: SOCK_POLLOUT comes, or chunks come free, or the connection is over. */
static void send_refused(struct conn *c, int64_t r, uint64_t now)
{
    if (r == -ENOMEM || r == -ENOBUFS)
        daemon_starve(c->service->all->d, &c->starved);
    else if (r < 0 && r != -EAGAIN)
        conn_end(c, true, now);
}

/* Copies the first place of what was received; bytes moved, 0: nothing to read or no room. */
static size_t echo_step(struct conn *c, uint64_t now)
{
    struct tcp_iov data[1];
    int n = sock_recv_peek(c->sock, data, 1, &c->eof);

    if (n < 0 && n != -EAGAIN) {
        conn_end(c, true, now);
        return 0;
    }
    if (n <= 0)
        return 0;
    int64_t sent = sock_send(c->sock, data[0].data, data[0].len, 0, now);

    if (sent <= 0) {
        send_refused(c, sent, now);
        c->eof = false;
        return 0;
    }
    c->eof = false;
    sock_recv_consume(c->sock, (size_t)sent, now);
    return (size_t)sent;
}

static void serve_echo(struct conn *c, uint64_t now)
{
    size_t moved = 0, step;

    do {
        step = echo_step(c, now);
        moved += step;
    } while (step > 0 && moved < SERVE_BYTES);
    if (c->done)
        return;
    if (c->eof)
        conn_end(c, false, now);
    else if (step > 0)
        daemon_defer(c->service->all->d, &c->work);
}

static void make_pattern(uint8_t *to, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        uint32_t line = i / LINE_BYTES % PRINTABLE, at = i % LINE_BYTES;

        to[i] = at < LINE_CHARS ? (uint8_t)(' ' + (line + at) % PRINTABLE) : (uint8_t)"\r\n"[at - LINE_CHARS];
    }
}

/* The chunk that all connections send from; false: no memory. */
static bool need_pattern(struct services *all)
{
    if (all->pattern)
        return true;
    all->pattern = chunk_alloc(all->d->pool, CHUNK_BIG_BYTES);
    if (all->pattern)
        make_pattern(all->pattern->data, all->pattern->size);
    return all->pattern != NULL;
}

/* `bytes` of the pattern from the connection's position on, as slices; returns their number. */
static unsigned pattern_slices(const struct conn *c, size_t bytes, struct tcp_slice *slice)
{
    struct chunk *pattern = c->service->all->pattern;
    uint32_t position = c->position;
    unsigned n = 0;

    for (; bytes > 0 && n < PLACES; n++) {
        uint32_t len = pattern->size - position;

        len = len < bytes ? len : (uint32_t)bytes;
        slice[n] = (struct tcp_slice){.data = pattern->data + position, .len = len, .chunk = pattern};
        position = (position + len) % PATTERN_BYTES;
        bytes -= len;
    }
    return n;
}

static void serve_chargen(struct conn *c, uint64_t now)
{
    struct tcp_slice slice[PLACES];
    size_t bytes;
    int64_t sent;

    swallow(c, now); /* RFC 864: what comes is thrown away; its end does not end the pattern */
    if (c->done)
        return;
    if (!need_pattern(c->service->all)) {
        send_refused(c, -ENOMEM, now);
        return;
    }
    /* Whole super-frames, without a small rest that would leave by itself. */
    bytes = sock_send_goal(c->sock);
    bytes = bytes < SERVE_BYTES ? SERVE_BYTES / bytes * bytes : bytes;
    sent = sock_send_shared(c->sock, slice, pattern_slices(c, bytes, slice), 0, now);
    if (sent > 0)
        c->position = (uint32_t)((c->position + (uint64_t)sent) % PATTERN_BYTES);
    if (sent == (int64_t)bytes)
        daemon_defer(c->service->all->d, &c->work);
    else
        send_refused(c, sent, now);
}

static void serve(struct conn *c, uint64_t now)
{
    switch (c->service->kind) {
    case ECHO:
        serve_echo(c, now);
        break;
    case DISCARD:
        serve_discard(c, now);
        break;
    case CHARGEN:
    case KINDS:
    default:
        serve_chargen(c, now);
    }
}

static void conn_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct conn *c = list_entry(self, struct conn, owner);

    (void)s;
    if (c->done)
        return;
    if (bits & (SOCK_POLLERR | SOCK_POLLHUP)) {
        int error = sock_take_error(c->sock);

        if (error || (bits & SOCK_POLLHUP)) {
            conn_end(c, error != 0, now);
            return;
        }
    }
    serve(c, now);
}

static void conn_work(struct deferred *self, uint64_t now)
{
    struct conn *c = list_entry(self, struct conn, work);

    if (!c->done)
        serve(c, now);
    if (c->done) {
        list_del(&c->work.link);
        free(c);
    }
}

static void conn_starved(struct deferred *self, uint64_t now)
{
    serve(list_entry(self, struct conn, starved), now);
}

static void conn_describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    const struct conn *c = list_entry(self, const struct conn, owner);

    snprintf(ret->name, sizeof ret->name, "%s", kind_names[c->service->kind]);
}

static void conn_owner_end(struct sock_owner *self, struct sock *s, bool reset, uint64_t now)
{
    (void)s;
    conn_end(list_entry(self, struct conn, owner), reset, now);
}

static void listener_describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    snprintf(ret->name, sizeof ret->name, "%s", kind_names[list_entry(self, const struct service, owner)->kind]);
}

static struct conn *conn_new(struct service *sv, struct sock *s)
{
    struct conn *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    *c = (struct conn){.owner = {.ready = conn_ready, .describe = conn_describe, .end = conn_owner_end},
                       .work = {.fn = conn_work},
                       .starved = {.fn = conn_starved},
                       .service = sv,
                       .sock = s};
    list_init(&c->work.link);
    list_init(&c->starved.link);
    list_add_tail(&sv->conns, &c->link);
    sv->n_conns++;
    sock_set_user(s, &c->owner);
    return c;
}

static void listener_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct service *sv = list_entry(self, struct service, owner);
    struct sock *accepted;

    (void)bits;
    while (sv->listener == s && (accepted = sock_accept(s, NULL))) {
        struct conn *c = conn_new(sv, accepted);

        if (!c) {
            sock_abort(accepted, now);
            continue;
        }
        sv->accepted++;
        tcp_set_user(sv->all->d->tcp, sock_conn_id(accepted), USER_TAG | sv->kind);
        serve(c, now);
    }
}

static int service_listen(struct services *all, enum kind kind, const struct config_service *config, char *error,
                          size_t bytes)
{
    struct service *sv = &all->service[kind];
    int r, on = 1;

    if (!config->enabled)
        return 0;
    sv->listener = sock_new(all->d->socks, IP_V6, &sv->owner); /* dual-stack wildcard */
    /* Or connections that live on would keep the port from being opened again by a reload. */
    r = sv->listener ? sock_setopt(sv->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on, daemon_now()) : -ENOMEM;
    if (r == 0)
        r = sock_bind(sv->listener, &(struct ip_addr){0}, config->port);
    if (r == 0)
        r = md5_apply(all->d, sv->listener, config->port, daemon_now());
    if (r == 0)
        r = sock_listen(sv->listener, 4096);
    if (r < 0) {
        snprintf(error, bytes, "services.%s: cannot listen on port %u: %s", kind_names[kind], config->port,
                 strerror(-r));
        if (sv->listener)
            sock_close(sv->listener, daemon_now());
        sv->listener = NULL;
        return -1;
    }
    sv->port = config->port;
    return 0;
}

static const struct config_service *service_config(const struct daemon_config *c, enum kind kind)
{
    return kind == ECHO ? &c->echo : kind == DISCARD ? &c->discard : &c->chargen;
}

int services_open(struct daemon *d, char *error, size_t bytes)
{
    struct services *all = calloc(1, sizeof *all);

    if (!all) {
        snprintf(error, bytes, "out of memory");
        return -1;
    }
    all->d = d;
    d->services = all;
    for (enum kind k = ECHO; k < KINDS; k++) {
        all->service[k] = (struct service){
            .owner = {.ready = listener_ready, .describe = listener_describe}, .all = all, .kind = k};
        list_init(&all->service[k].conns);
    }
    for (enum kind k = ECHO; k < KINDS; k++)
        if (service_listen(all, k, service_config(d->config, k), error, bytes) < 0)
            return -1;
    return 0;
}

static void close_listener(struct service *sv)
{
    if (sv->listener)
        sock_close(sv->listener, daemon_now());
    sv->listener = NULL;
}

/* Where chargen's pattern goes on: behind all that was ever written, which its counters know. */
static uint32_t position_of(const struct tcp_info *info)
{
    uint64_t unacknowledged = info->write_seq - info->snd_una;

    return (uint32_t)((info->bytes_acked + unacknowledged) % PATTERN_BYTES);
}

bool service_restore(struct daemon *d, struct sock *s, const struct tcp_info *info)
{
    enum kind kind = (enum kind)(info->user & 0xff);
    struct conn *c;

    if ((info->user & ~0xffull) != USER_TAG || kind >= KINDS)
        return false;
    c = conn_new(&d->services->service[kind], s);
    if (!c)
        return false;
    c->position = position_of(info);
    daemon_defer(d, &c->work);
    return true;
}

/* First what goes or moves, so that its port is free for another. */
int services_reload(struct daemon *d, const struct daemon_config *next, char *error, size_t bytes)
{
    int r = 0;

    for (enum kind k = ECHO; k < KINDS; k++) {
        struct service *sv = &d->services->service[k];
        const struct config_service *c = service_config(next, k);

        if (sv->listener && (!c->enabled || sv->port != c->port))
            close_listener(sv);
    }
    for (enum kind k = ECHO; k < KINDS; k++) {
        struct service *sv = &d->services->service[k];
        const struct config_service *c = service_config(next, k);

        if (!sv->listener && service_listen(d->services, k, c, error, bytes) < 0)
            r = -1;
    }
    return r;
}

void services_drain(struct daemon *d, uint64_t now)
{
    for (enum kind k = ECHO; k < KINDS; k++) {
        struct service *sv = &d->services->service[k];

        close_listener(sv);
        list_for_each_safe(node, &sv->conns) conn_end(list_entry(node, struct conn, link), false, now);
    }
}

void services_close(struct daemon *d)
{
    if (!d->services)
        return;
    services_drain(d, daemon_now());
    daemon_run_deferred(d); /* frees the connections */
    drop_pattern(d->services);
    free(d->services);
    d->services = NULL;
}

bool services_get(const struct daemon *d, unsigned i, struct service_info *ret)
{
    if (i >= KINDS)
        return false;
    const struct service *sv = &d->services->service[i];

    *ret = (struct service_info){.name = kind_names[i],
                                 .port = sv->listener ? sv->port : 0,
                                 .connections = sv->n_conns,
                                 .accepted = sv->accepted};
    return true;
}
