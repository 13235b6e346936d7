/*
 * daemon/revive.c: from arena to running daemon (theory of operation in revive.h).
 *
 * A connection that has an owner and was accepted is claimed by the link that names its id, or, without a link, by a
 * built-in service (the engine keeps its tag). One that nobody claims had an owner that died with the worker (a connect
 * whose answer was not sent): it is reset. A link whose connection is not there, or was not accepted as far as the last
 * commit knows, is closed; a program reads ECONNRESET then, unless its end had been begun.
 */
#include "daemon/revive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/close_range.h>

#include "daemon/forward.h"
#include "daemon/ids.h"
#include "daemon/program.h"
#include "daemon/pump.h"
#include "daemon/service.h"
#include "tcp/tcp_record.h"

#define NEAR 1024u /* free numbers behind the last descriptor: more than a start opens */

struct claim {
    struct tcp_restore_hint hint; /* first: bsearch() by id */
    struct link_slot *link;
};

struct claims {
    struct claim *of;
    struct tcp_restore_hint *hints;
    uint32_t n;
};

static bool has_conn(const struct link_slot *l)
{
    return l->kind == LINK_PROGRAM || l->kind == LINK_FORWARD || l->kind == LINK_CONNECTING;
}

static int by_id(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;

    return x->hint.id < y->hint.id ? -1 : x->hint.id > y->hint.id;
}

static int find_claims(struct daemon *d, struct claims *ret)
{
    uint32_t n = d->arena->head->links_touched;

    *ret = (struct claims){.of = calloc(n ? n : 1, sizeof *ret->of), .hints = calloc(n ? n : 1, sizeof *ret->hints)};
    if (!ret->of || !ret->hints)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        struct link_slot *l = arena_link(d->arena, i);
        struct claim *c = &ret->of[ret->n];

        if (!has_conn(l))
            continue;
        c->link = l;
        c->hint.id = l->conn;
        pump_hints(l, &c->hint.write_seq, &c->hint.has_write, &c->hint.copied_seq, &c->hint.has_read);
        ret->n++;
    }
    qsort(ret->of, ret->n, sizeof *ret->of, by_id);
    for (uint32_t i = 0; i < ret->n; i++)
        ret->hints[i] = ret->of[i].hint;
    return 0;
}

static struct claim *find_claim(const struct claims *c, tcp_id id)
{
    struct claim key = {.hint = {.id = id}};

    return c->n ? bsearch(&key, c->of, c->n, sizeof *c->of, by_id) : NULL;
}

void revive_listeners(struct daemon *d)
{
    for (uint32_t i = 0; i < d->arena->head->links_touched; i++) {
        struct link_slot *l = arena_link(d->arena, i);
        int r;

        if (l->kind != LINK_LISTENER)
            continue;
        r = l->fd < 0 ? -EBADF : program_restore_listener(d, l);
        if (r == 0)
            continue;
        log_msg(&d->log, LOG_LVL_ERR, "a listener of program pid %d is lost: %s", l->pid, strerror(-r));
        if (l->fd >= 0)
            close(l->fd);
        link_free(d, l);
    }
    program_sweep_keys(d);
}

/* The link's connection is gone, or is to go: the descriptor ends as the last worker meant it to, else as a reset. */
static void end_link(struct daemon *d, struct link_slot *l)
{
    bool clean = l->ending == LINK_ENDS_CLEAN;
    struct linger linger = {.l_onoff = 1};
    char byte;

    if (l->fd >= 0 && l->kind == LINK_PROGRAM && clean)
        recv(l->fd, &byte, 1, MSG_DONTWAIT);
    if (l->fd >= 0 && l->kind != LINK_PROGRAM && !clean)
        setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (l->fd >= 0)
        close(l->fd);
    if (l->program_fd >= 0)
        close(l->program_fd);
    link_free(d, l);
}

static void record_lost(void *ctx, uint32_t slot, const struct tcp_record *r, const char *why)
{
    struct daemon *d = ctx;
    char id[ID_TEXT_MAX];

    log_msg(&d->log, LOG_LVL_ERR, "connection in slot %u (id %s) is lost: %s", slot, id_format(r->id, id), why);
}

static int resume(struct daemon *d, struct sock *s, struct link_slot *l, const struct tcp_info *info)
{
    if (!l)
        return service_restore(d, s, info) ? 0 : -ENOENT;
    if (l->kind == LINK_PROGRAM)
        return program_restore_conn(d, s, l);
    return forward_restore(d, s, l);
}

static void revive_conn(struct daemon *d, const struct claims *claims, tcp_id id, tcp_id doomed, struct revived *ret)
{
    struct claim *claim = find_claim(claims, id);
    struct link_slot *l = claim ? claim->link : NULL;
    struct tcp_info info;
    uint64_t now = daemon_now();
    struct sock *s;

    if (tcp_get_info(d->tcp, id, now, &info) < 0 || !info.accepted)
        return;
    s = sock_restore(d->socks, id, &info, now);
    if (!s) {
        tcp_abort(d->tcp, id, now);
        return;
    }
    if (id != doomed && !(l && (l->ending || (l->fd < 0 && l->kind != LINK_CONNECTING))) && resume(d, s, l, &info) == 0) {
        if (claim)
            claim->link = NULL;
        return;
    }
    if (l && l->ending == LINK_ENDS_CLEAN && id != doomed) {
        sock_close(s, now);
        return;
    }
    ret->ownerless++;
    sock_abort(s, now);
}

int revive_connections(struct daemon *d, tcp_id doomed, struct revived *ret, char *error, size_t bytes)
{
    struct tcp_restored restored = {0};
    struct claims claims;
    int r = find_claims(d, &claims);
    struct tcp_restore_params params = {.hints = claims.hints, .n_hints = claims.n, .lost = record_lost, .ctx = d};

    *ret = (struct revived){0};
    if (r == 0)
        r = tcp_restore(d->tcp, &params, daemon_now(), &restored);
    for (tcp_id id = r ? 0 : tcp_next_id(d->tcp, 0), next; id; id = next) {
        next = tcp_next_id(d->tcp, id);
        revive_conn(d, &claims, id, doomed, ret);
    }
    for (uint32_t i = 0; r == 0 && i < claims.n; i++)
        if (claims.of[i].link)
            end_link(d, claims.of[i].link);
    free(claims.of);
    free(claims.hints);
    if (r < 0) {
        snprintf(error, bytes, "cannot restore: %s", strerror(-r));
        return -1;
    }
    ret->conns = restored.conns;
    ret->requests = restored.requests;
    ret->time_wait = restored.time_wait;
    ret->lost = restored.lost;
    return 0;
}

/* ---- Strangers ----------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

unsigned revive_sweep(struct daemon *d, const int *known, unsigned n_known)
{
    uint32_t touched = d->arena->head->links_touched;
    int *fds = malloc(((size_t)touched * 2 + n_known + 1) * sizeof *fds), from = 0;
    size_t n = 0;

    if (!fds)
        return ~0u; /* they stay: nothing depends on it but those who wait at their other ends */
    for (unsigned i = 0; i < n_known; i++)
        fds[n++] = known[i];
    for (uint32_t i = 0; i < touched; i++) {
        const struct link_slot *l = arena_link(d->arena, i);

        if (l->kind == LINK_FREE)
            continue;
        if (l->fd >= 0)
            fds[n++] = l->fd;
        if (l->program_fd >= 0)
            fds[n++] = l->program_fd;
    }
    qsort(fds, n, sizeof *fds, by_number);
    for (size_t i = 0; i < n; i++) {
        if (fds[i] > from)
            close_range((unsigned)from, (unsigned)fds[i] - 1, 0);
        from = fds[i] + 1;
    }
    close_range((unsigned)from, (unsigned)from + NEAR, 0);
    free(fds);
    return (unsigned)from + NEAR + 1;
}

void revive_sweep_rest(unsigned from)
{
    if (from != ~0u)
        close_range(from, ~0u, 0);
}
