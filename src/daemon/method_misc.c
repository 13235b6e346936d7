/*
 * daemon/method_misc.c: neigh.list, and icmp.ping with its unanswered requests.
 *
 * A ping lives from its call until every echo request came to its end (STACK_EVENT_PING: reply, error or
 * timeout), or until its client goes. What comes back from the stack is named by user = serial << 8 | seq, so
 * a late answer to a cancelled ping finds nobody and is dropped. Invariant: replies[i] is NULL exactly while
 * request i+1 is unanswered.
 */
#include "daemon/call.h"

#include <stdlib.h>
#include <string.h>

#define PINGS_MAX      256u
#define PING_COUNT_MAX 100

json_t *neigh_row(const struct stack_neigh *n)
{
    return json_pack(
        "{s:s, s:o, s:o, s:s, s:b, s:o, s:I}", "kind", "neigh", "address", json_addr(&n->addr), "mac",
        json_mac(n->mac), "state", stack_neigh_state_name((enum stack_neigh_state)n->state), "router",
        (int)n->router, "age_s",
        n->age_ns == UINT64_MAX ? json_null() : json_real((double)(n->age_ns / NSEC_PER_MSEC) / 1e3),
        "waiting", (json_int_t)n->waiting);
}

enum control_outcome method_neigh_list(struct control_call *call)
{
    json_t *rows = json_array();
    struct stack_neigh n;

    for (unsigned i = 0; stack_neigh_get(call->d->stack, i, call->now, &n); i++) {
        json_t *row = neigh_row(&n);

        json_object_del(row, "kind");
        json_array_append_new(rows, row);
    }
    call->result = json_pack("{s:o}", "neighbours", rows);
    return CONTROL_DONE;
}

/* ---- icmp.ping
 * --------------------------------------------------------------------------------------------------- */

struct ping {
    struct control_pending pending;
    struct list_node link;
    struct control *control;
    ev_timer timer;
    struct ip_addr addr;
    uint32_t serial;
    unsigned count, sent, ended, received;
    uint16_t bytes;
    uint8_t ttl;
    uint64_t timeout_ns;
    double min_us, max_us, sum_us;
    json_t *replies[PING_COUNT_MAX];
};

static void ping_free(struct ping *p)
{
    ev_timer_stop(p->control->d->loop, &p->timer);
    for (unsigned i = 0; i < p->sent; i++) {
        if (!p->replies[i])
            stack_ping_cancel(p->control->d->stack, (uint64_t)p->serial << 8 | i);
        json_decref(p->replies[i]);
    }
    list_del(&p->link);
    p->control->n_pings--;
    free(p);
}

static void ping_cancel(struct control_pending *pending, uint64_t now)
{
    (void)now;
    ping_free(list_entry(pending, struct ping, pending));
}

static json_t *rounded_us(double us)
{
    return json_real((double)(int64_t)(us * 10 + 0.5) / 10);
}

static void ping_finish(struct ping *p)
{
    json_t *replies = json_array(), *none = json_null();

    for (unsigned i = 0; i < p->count; i++)
        json_array_append(replies, p->replies[i] ? p->replies[i] : none);
    control_resolve(&p->pending,
                    json_pack("{s:o, s:o, s:i, s:i, s:o, s:o, s:o}", "address", json_addr(&p->addr),
                              "replies", replies, "sent", (int)p->sent, "received", (int)p->received,
                              "min_us", p->received ? rounded_us(p->min_us) : json_null(), "avg_us",
                              p->received ? rounded_us(p->sum_us / p->received) : json_null(), "max_us",
                              p->received ? rounded_us(p->max_us) : json_null()),
                    -1);
    ping_free(p);
}

static void ping_set_error(struct ping *p, unsigned i, int err)
{
    const char *name = strerrorname_np(err);

    p->replies[i] = json_pack("{s:i, s:s}", "seq", (int)i + 1, "error", name ? name : "EIO");
    p->ended++;
}

static void ping_send(struct ping *p, uint64_t now)
{
    unsigned i = p->sent++;
    int r = stack_ping(p->control->d->stack, &p->addr, p->bytes, p->ttl, p->timeout_ns,
                       (uint64_t)p->serial << 8 | i, now);

    if (p->sent == p->count)
        ev_timer_stop(p->control->d->loop, &p->timer);
    if (r < 0)
        ping_set_error(p, i, -r);
    daemon_kick(p->control->d);
}

static void ping_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct ping *p = w->data;

    (void)loop, (void)revents;
    ping_send(p, daemon_now());
    if (p->ended == p->count)
        ping_finish(p);
}

void ping_event(struct control *c, const struct stack_event *e, uint64_t now)
{
    unsigned i = (unsigned)(e->user & 0xff);
    struct ping *p = NULL;

    (void)now;
    list_for_each(node, &c->pings)
    {
        struct ping *q = list_entry(node, struct ping, link);

        if (q->serial == e->user >> 8)
            p = q;
    }
    if (!p || i >= p->sent || p->replies[i])
        return;
    if (e->error) {
        ping_set_error(p, i, e->error);
    } else {
        double us = (double)e->rtt_ns / 1e3;

        p->replies[i] = json_pack("{s:i, s:o, s:i, s:i}", "seq", (int)i + 1, "rtt_us", rounded_us(us), "ttl",
                                  (int)e->ttl, "bytes", (int)e->bytes);
        p->ended++;
        p->min_us = p->received == 0 || us < p->min_us ? us : p->min_us;
        p->max_us = us > p->max_us ? us : p->max_us;
        p->sum_us += us;
        p->received++;
    }
    if (p->ended == p->count)
        ping_finish(p);
}

enum control_outcome method_icmp_ping(struct control_call *call)
{
    struct control *c = call->client->control;
    double interval = (double)arg_int(call, "interval_ms", 1000) / 1e3;
    struct ping *p;

    if (c->n_pings >= PINGS_MAX)
        return control_fail(call, CONTROL_TOO_MANY_CALLS, 0, "%u pings are on their way already", c->n_pings);
    p = calloc(1, sizeof *p);
    if (!p)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    p->control = c;
    p->serial = ++c->ping_serial;
    arg_address(call, "address", &p->addr);
    p->count = (unsigned)arg_int(call, "count", 1);
    p->bytes = (uint16_t)arg_int(call, "bytes", 56);
    p->ttl = (uint8_t)arg_int(call, "ttl", 0);
    p->timeout_ns = (uint64_t)arg_int(call, "timeout_ms", 1000) * NSEC_PER_MSEC;
    ev_timer_init(&p->timer, ping_timer, interval, interval);
    p->timer.data = p;
    list_add_tail(&c->pings, &p->link);
    c->n_pings++;
    control_pend(call, &p->pending, ping_cancel);
    if (p->count > 1)
        ev_timer_start(c->d->loop, &p->timer);
    ping_send(p, call->now);
    if (p->ended == p->count)
        ping_finish(p);
    return CONTROL_PENDING;
}
