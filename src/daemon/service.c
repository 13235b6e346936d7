/*
 * daemon/service.c: echo, discard and chargen on the stack (theory of operation).
 *
 * Each is a listener that moves the bytes of its connections when their socks say that they can be moved: echo from the
 * receive to the send buffer (RFC 862), discard to nowhere (RFC 863), chargen the rotating pattern of RFC 864 for as long
 * as the peer takes it. No descriptor is involved, so these are the stack's ceiling in every measurement.
 *
 * A connection has nothing of its own here, so that an idle one costs nothing: its sock's owner is the service, or for
 * chargen, which is never idle, a place that remembers where its pattern is. One is served at most SERVE_BYTES in one go;
 * what is left waits in the socket layer (sock_later()) for deferred work of the service's, so that one does not starve the
 * others. The functions that may end a connection return false if they did: its sock is gone then.
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
#define STARVED_AT_ONCE 64
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
    struct sock_owner conns; /* of the connections, but for chargen's */
    struct services *all;
    enum kind kind;
    uint16_t port;
    struct sock *listener; /* NULL: off */
    uint32_t n_conns;
    uint64_t accepted;
};

struct services {
    struct daemon *d;
    struct deferred later, starved; /* for the socks of which sock_later() was said */
    struct service service[KINDS];
    struct chunk *pattern; /* chargen's, over and over; while it has connections */
};

/* Whose position is in the pattern. */
struct generator {
    struct sock_owner owner;
    struct service *service;
    uint32_t position;
};

static void drop_pattern(struct services *all)
{
    if (all->pattern)
        chunk_unref_part(all->d->pool, all->pattern);
    all->pattern = NULL;
}

static void conn_end(struct service *sv, struct sock *s, bool reset, uint64_t now)
{
    struct sock_owner *owner = sock_user(s);

    if (reset)
        sock_abort(s, now);
    else
        sock_close(s, now);
    if (owner != &sv->conns)
        free(list_entry(owner, struct generator, owner));
    if (--sv->n_conns == 0 && sv->kind == CHARGEN)
        drop_pattern(sv->all);
    daemon_kick(sv->all->d);
}

/* More in the next turn. */
static void later(struct service *sv, struct sock *s)
{
    sock_later(s, false);
    daemon_defer(sv->all->d, &sv->all->later);
}

static void resume(struct deferred *self, uint64_t now)
{
    (void)now;
    socks_resume(list_entry(self, struct services, later)->d->socks, false, UINT32_MAX);
}

/* Some of those that lack memory; the others' turn comes when these found some. */
static void resume_starved(struct deferred *self, uint64_t now)
{
    struct services *all = list_entry(self, struct services, starved);

    (void)now;
    if (socks_resume(all->d->socks, true, STARVED_AT_ONCE))
        daemon_starve(all->d, &all->starved);
}

/* Throws away what came. */
static bool swallow(struct service *sv, struct sock *s, bool *ret_eof, uint64_t now)
{
    struct tcp_iov data[PLACES];
    bool eof = false;
    int n;

    while ((n = sock_recv_peek(s, data, PLACES, &eof)) > 0) {
        size_t bytes = 0;

        for (int i = 0; i < n; i++)
            bytes += data[i].len;
        sock_recv_consume(s, bytes, now);
    }
    *ret_eof = n == 0 && eof;
    if (n >= 0 || n == -EAGAIN)
        return true;
    conn_end(sv, s, true, now);
    return false;
}

static void serve_discard(struct service *sv, struct sock *s, uint64_t now)
{
    bool eof;

    if (swallow(sv, s, &eof, now) && eof)
        conn_end(sv, s, false, now);
}

/* No room: SOCK_POLLOUT comes, or chunks come free, or the connection is over. */
static bool send_refused(struct service *sv, struct sock *s, int64_t r, uint64_t now)
{
    if (r == -ENOMEM || r == -ENOBUFS) {
        sock_later(s, true);
        daemon_starve(sv->all->d, &sv->all->starved);
    } else if (r < 0 && r != -EAGAIN) {
        conn_end(sv, s, true, now);
        return false;
    }
    return true;
}

/* Copies the first place of what was received. *ret_moved 0: nothing to read (then *ret_eof is true at the end) or no room. */
static bool echo_step(struct service *sv, struct sock *s, size_t *ret_moved, bool *ret_eof, uint64_t now)
{
    struct tcp_iov data[1];
    int n = sock_recv_peek(s, data, 1, ret_eof);
    int64_t sent;

    *ret_moved = 0;
    if (n < 0 && n != -EAGAIN) {
        conn_end(sv, s, true, now);
        return false;
    }
    if (n <= 0)
        return true;
    *ret_eof = false;
    sent = sock_send(s, data[0].data, data[0].len, 0, now);
    if (sent <= 0)
        return send_refused(sv, s, sent, now);
    sock_recv_consume(s, (size_t)sent, now);
    *ret_moved = (size_t)sent;
    return true;
}

static void serve_echo(struct service *sv, struct sock *s, uint64_t now)
{
    size_t moved = 0, step;
    bool eof = false;

    do {
        if (!echo_step(sv, s, &step, &eof, now))
            return;
        moved += step;
    } while (step > 0 && moved < SERVE_BYTES);
    if (eof)
        conn_end(sv, s, false, now);
    else if (step > 0)
        later(sv, s);
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
static unsigned pattern_slices(const struct generator *g, size_t bytes, struct tcp_slice *slice)
{
    struct chunk *pattern = g->service->all->pattern;
    uint32_t position = g->position;
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

static void serve_chargen(struct service *sv, struct sock *s, uint64_t now)
{
    struct generator *g = list_entry(sock_user(s), struct generator, owner);
    struct tcp_slice slice[PLACES];
    size_t bytes;
    int64_t sent;
    bool eof;

    if (!swallow(sv, s, &eof, now)) /* RFC 864: what comes is thrown away; its end does not end the pattern */
        return;
    if (!need_pattern(sv->all)) {
        (void)send_refused(sv, s, -ENOMEM, now);
        return;
    }
    /* Whole super-frames, without a small rest that would leave by itself. */
    bytes = sock_send_goal(s);
    bytes = bytes < SERVE_BYTES ? SERVE_BYTES / bytes * bytes : bytes;
    sent = sock_send_shared(s, slice, pattern_slices(g, bytes, slice), 0, now);
    if (sent > 0)
        g->position = (uint32_t)((g->position + (uint64_t)sent) % PATTERN_BYTES);
    if (sent == (int64_t)bytes)
        later(sv, s);
    else
        (void)send_refused(sv, s, sent, now);
}

static void serve(struct service *sv, struct sock *s, uint64_t now)
{
    switch (sv->kind) {
    case ECHO:
        serve_echo(sv, s, now);
        break;
    case DISCARD:
        serve_discard(sv, s, now);
        break;
    case CHARGEN:
    case KINDS:
    default:
        serve_chargen(sv, s, now);
    }
}

static void ready(struct service *sv, struct sock *s, unsigned bits, uint64_t now)
{
    if (bits & (SOCK_POLLERR | SOCK_POLLHUP)) {
        int error = sock_take_error(s);

        if (error || (bits & SOCK_POLLHUP)) {
            conn_end(sv, s, error != 0, now);
            return;
        }
    }
    serve(sv, s, now);
}

static void conn_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    ready(list_entry(self, struct service, conns), s, bits, now);
}

static void conn_describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    snprintf(ret->name, sizeof ret->name, "%s", kind_names[list_entry(self, const struct service, conns)->kind]);
}

static void conn_owner_end(struct sock_owner *self, struct sock *s, bool reset, uint64_t now)
{
    conn_end(list_entry(self, struct service, conns), s, reset, now);
}

static void generator_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    ready(list_entry(self, struct generator, owner)->service, s, bits, now);
}

static void generator_describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    snprintf(ret->name, sizeof ret->name, "%s", kind_names[list_entry(self, const struct generator, owner)->service->kind]);
}

static void generator_end(struct sock_owner *self, struct sock *s, bool reset, uint64_t now)
{
    conn_end(list_entry(self, struct generator, owner)->service, s, reset, now);
}

static void listener_describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    snprintf(ret->name, sizeof ret->name, "%s", kind_names[list_entry(self, const struct service, owner)->kind]);
}

/* The connection is the service's. False: no memory. */
static bool conn_new(struct service *sv, struct sock *s, uint32_t position)
{
    struct generator *g;

    if (sv->kind != CHARGEN) {
        sock_set_user(s, &sv->conns);
    } else {
        g = malloc(sizeof *g);
        if (!g)
            return false;
        *g = (struct generator){.owner = {.ready = generator_ready, .describe = generator_describe, .end = generator_end},
                                .service = sv,
                                .position = position};
        sock_set_user(s, &g->owner);
    }
    sv->n_conns++;
    return true;
}

static void listener_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct service *sv = list_entry(self, struct service, owner);
    struct sock *accepted;

    (void)bits;
    while (sv->listener == s && (accepted = sock_accept(s, NULL))) {
        if (!conn_new(sv, accepted, 0)) {
            sv->all->d->counters.no_memory++;
            sock_abort(accepted, now);
            continue;
        }
        sv->accepted++;
        tcp_set_user(sv->all->d->tcp, sock_conn_id(accepted), USER_TAG | sv->kind);
        serve(sv, accepted, now);
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
    all->later.fn = resume;
    all->starved.fn = resume_starved;
    list_init(&all->later.link);
    list_init(&all->starved.link);
    d->services = all;
    for (enum kind k = ECHO; k < KINDS; k++) {
        all->service[k] =
            (struct service){.owner = {.ready = listener_ready, .describe = listener_describe},
                             .conns = {.ready = conn_ready, .describe = conn_describe, .end = conn_owner_end},
                             .all = all,
                             .kind = k};
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

    /* Its sock has an event that is not given yet, and is served with it. */
    return (info->user & ~0xffull) == USER_TAG && kind < KINDS &&
           conn_new(&d->services->service[kind], s, position_of(info));
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

/* The service whose connection it is; NULL: another owner's. */
static struct service *service_of(const struct sock *s)
{
    struct sock_owner *owner = sock_user(s);

    if (owner && owner->ready == conn_ready)
        return list_entry(owner, struct service, conns);
    if (owner && owner->ready == generator_ready)
        return list_entry(owner, struct generator, owner)->service;
    return NULL;
}

void services_drain(struct daemon *d, uint64_t now)
{
    for (enum kind k = ECHO; k < KINDS; k++)
        close_listener(&d->services->service[k]);
    for (tcp_id id = tcp_next_id(d->tcp, 0), next; id; id = next) {
        struct sock *s = sock_by_conn(d->socks, id);
        struct service *sv = s ? service_of(s) : NULL;

        next = tcp_next_id(d->tcp, id);
        if (sv)
            conn_end(sv, s, false, now);
    }
}

void services_close(struct daemon *d)
{
    if (!d->services)
        return;
    services_drain(d, daemon_now());
    list_del(&d->services->later.link);
    list_del(&d->services->starved.link);
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
