/*
 * tests/sim/restart.c: an engine ends between two turns, another one goes on with the records of its connections, as
 * the daemon's worker does after a crash. Half-open and TIME-WAIT entries have no record yet: where there is one, the
 * node is left alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "tcp/tcp_record.h"

#define RANGES_MAX 20000u

struct saved {
    struct saved *next;
    struct tcp_record record;
    struct tcp_record_range send[RANGES_MAX], recv[RANGES_MAX];
    struct tcp_record_payload payload;
};

static void keep(struct tcp_record_range *r)
{
    uint8_t *copy = malloc(r->len ? r->len : 1);

    memcpy(copy, r->data, r->len);
    r->data = copy;
}

static bool save(const struct node *node, tcp_id id, struct saved *v)
{
    uint32_t n = 0;

    if (tcp_record_save(node->t, id, &v->record))
        return false;
    while (n < RANGES_MAX && tcp_record_send_range(node->t, id, n, &v->send[n]))
        keep(&v->send[n++]);
    v->payload.n_send = n;
    for (n = 0; n < RANGES_MAX && tcp_record_recv_range(node->t, id, n, &v->recv[n]); n++)
        keep(&v->recv[n]);
    v->payload.n_recv = n;
    v->payload.send = v->send;
    v->payload.recv = v->recv;
    return true;
}

static void forget(struct saved *v)
{
    while (v) {
        struct saved *next = v->next;

        for (uint32_t i = 0; i < v->payload.n_send; i++)
            free((void *)(uintptr_t)v->send[i].data);
        for (uint32_t i = 0; i < v->payload.n_recv; i++)
            free((void *)(uintptr_t)v->recv[i].data);
        free(v);
        v = next;
    }
}

/* Every entry is a connection whose program is there. */
static bool may_restart(struct net *n, const struct node *node)
{
    struct tcp_totals totals;

    tcp_get_totals(node->t, &totals);
    if (totals.half_open || totals.time_wait || !totals.conns)
        return false;
    for (tcp_id id = tcp_next_id(node->t, 0); id; id = tcp_next_id(node->t, id)) {
        const struct end *e = app_end_of(n, node, id);

        if (!e || !e->connected || e->closed || e->error)
            return false;
    }
    return true;
}

static bool restore(struct net *n, struct node *node, const struct saved *all)
{
    struct tcp_listen_args l = {.addr = node->addr, .port = NET_SERVER_PORT, .backlog = 16};

    for (const struct saved *v = all; v; v = v->next) {
        int rc = tcp_record_restore(node->t, &v->record, &v->payload, n->now);

        if (rc)
            return net_fail(n, "n%u: restore: %s", net_node_index(n, node), strerror(-rc));
    }
    tcp_listen(node->t, &l, &node->listener);
    for (tcp_id id = tcp_next_id(node->t, 0); id; id = tcp_next_id(node->t, id)) {
        struct end *e = app_end_of(n, node, id);

        if (!e)
            return net_fail(n, "n%u: a restored connection has another id", net_node_index(n, node));
        e->resume_at = TIME_NEVER;
        e->flow->watch.fresh++; /* what was in flight counts as sent at an unknown time */
        app_wake(n, e);
    }
    return true;
}

bool net_restart(struct net *n, struct node *node)
{
    struct saved *all = NULL;
    bool ok = true;

    if (!may_restart(n, node))
        return true;
    for (tcp_id id = tcp_next_id(node->t, 0); id && ok; id = tcp_next_id(node->t, id)) {
        struct saved *v = calloc(1, sizeof *v);

        v->next = all;
        all = v;
        ok = save(node, id, v);
    }
    if (!ok) {
        forget(all);
        return true;
    }
    net_note(n, node, "restart");
    n->restarts++;
    tcp_destroy(node->t);
    chunk_pool_destroy(node->pool);
    net_engine(n, node);
    ok = restore(n, node, all);
    forget(all);
    return ok && net_check(n, node, "restore");
}
