/*
 * daemon/events.c: subscriptions (theory of operation in events.h).
 *
 * Every event passes publish(), the only place where seq and dropped move: seq counts each event that a
 * subscriber asked for, dropped those among them that were not queued; so a subscriber that sees seq jump by
 * n sees dropped grow by n - 1. Queueing happens in the first half, sending in the second (control_send).
 * Without subscribers for connections the socket layer keeps no state changes.
 */
#include "daemon/events.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/call.h"

enum kind { KIND_CONN, KIND_LISTENER, KIND_ADDR, KIND_NEIGH, KIND_LINK, KIND_LOG, KIND_MAX };
static const char *const kind_names[KIND_MAX] = {"conn", "listener", "addr", "neigh", "link", "log"};

struct events_sub {
    struct list_node link; /* in control->subs */
    struct control_client *client;
    unsigned kinds; /* bit per enum kind */
    uint64_t seq, dropped;
};

static json_t *time_json(void)
{
    struct timespec ts;
    struct tm tm;
    char text[64];
    size_t n;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%06ldZ", ts.tv_nsec / 1000);
    return json_string(text);
}

static bool wanted(const struct daemon *d, enum kind kind)
{
    if (!d->control)
        return false;
    list_for_each(node, &d->control->subs)
    {
        if (list_entry(node, struct events_sub, link)->kinds & 1u << kind)
            return true;
    }
    return false;
}

/* Takes the reference of `body`, which holds everything but seq, dropped and time. */
static void publish(struct daemon *d, enum kind kind, json_t *body)
{
    list_for_each_safe(node, &d->control->subs)
    {
        struct events_sub *sub = list_entry(node, struct events_sub, link);
        json_t *params;

        if (!(sub->kinds & 1u << kind))
            continue;
        sub->seq++;
        if (sub->client->dead || sub->client->out_bytes > EVENTS_QUEUE_MAX) {
            sub->dropped++;
            d->counters.events_dropped++;
            continue;
        }
        params = json_pack("{s:I, s:I, s:o}", "seq", (json_int_t)sub->seq, "dropped",
                           (json_int_t)sub->dropped, "time", time_json());
        json_object_update(params, body);
        control_send(sub->client,
                     json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", "event", "params", params), -1);
    }
    json_decref(body);
}

/* ---- Rows
 * -------------------------------------------------------------------------------------------------------- */

static const char *addr_state_name(unsigned s)
{
    static const char *const names[] = {"tentative", "preferred", "deprecated", "duplicate"};

    return s < sizeof names / sizeof *names ? names[s] : "?";
}

json_t *addr_row(const struct stack_addr *a)
{
    static const char *const origins[] = {"static", "link-local", "slaac"};

    return json_pack("{s:s, s:o, s:i, s:s, s:s}", "kind", "addr", "address", json_addr(&a->addr), "prefix",
                     (int)a->prefix_bits, "state", addr_state_name(a->state), "origin",
                     a->origin < sizeof origins / sizeof *origins ? origins[a->origin] : "?");
}

json_t *link_row(const struct daemon *d)
{
    return json_pack("{s:s, s:s, s:b, s:i}", "kind", "link", "interface", d->ifname, "up", (int)d->link_up,
                     "mtu", (int)d->mtu);
}

static json_t *listener_json(const struct ip_addr *addr, uint16_t port, const char *owner, bool gone)
{
    return json_pack("{s:s, s:o, s:s, s:b}", "kind", "listener", "address", json_addr_port(addr, port),
                     "owner", owner, "gone", (int)gone);
}

json_t *listener_row(struct sock *s)
{
    struct sock_owner *owner = sock_user(s);
    struct sock_owner_info who = {.name = "daemon"};
    struct tcp_listen_info info;
    json_t *row;

    if (owner && owner->describe)
        owner->describe(owner, &who);
    if (sock_listen_info(s, &info) < 0)
        memset(&info, 0, sizeof info);
    row = listener_json(&info.addr, info.port, who.name, false);
    json_object_set_new(row, "backlog", json_integer(info.backlog));
    json_object_set_new(row, "accept_queue", json_integer(info.accept_queue));
    json_object_set_new(row, "half_open", json_integer(info.half_open));
    return row;
}

/* state 0: its socket was closed; told is what is left of it then, CLOSE if nothing is. */
static json_t *conn_event(struct daemon *d, tcp_id id, unsigned state, int error)
{
    struct tcp_info info;
    json_t *row = json_pack("{s:s, s:o}", "kind", "conn", "id", json_conn_id(id));

    memset(&info, 0, sizeof info);
    info.state = TCP_STATE_CLOSE;
    if (tcp_get_info(d->tcp, id, daemon_now(), &info) == 0) {
        json_object_set_new(row, "local", json_addr_port(&info.tuple.local, info.tuple.local_port));
        json_object_set_new(row, "peer", json_addr_port(&info.tuple.remote, info.tuple.remote_port));
    }
    if (error == 0)
        error = info.error;
    json_object_set_new(row, "state",
                        json_string(tcp_state_name((enum tcp_state)(state ? state : info.state))));
    json_object_set_new(row, "closed", json_boolean(state == 0));
    json_object_set_new(row, "error", error ? json_string(strerrorname_np(error)) : json_null());
    return row;
}

/* ---- What happens
 * ------------------------------------------------------------------------------------------------ */

void events_listener(struct daemon *d, const struct ip_addr *addr, uint16_t port, const char *owner,
                     bool gone)
{
    if (wanted(d, KIND_LISTENER))
        publish(d, KIND_LISTENER, listener_json(addr, port, owner, gone));
}

void events_log(struct daemon *d, int level, const char *text)
{
    json_t *body;

    if (!wanted(d, KIND_LOG))
        return;
    body = json_pack("{s:s, s:i, s:s}", "kind", "log", "level", level, "text", text);
    if (body) /* NULL: not UTF-8 */
        publish(d, KIND_LOG, body);
}

static void addr_event(struct daemon *d, const struct stack_event *e)
{
    json_t *body = json_pack("{s:s, s:o, s:s, s:b}", "kind", "addr", "address", json_addr(&e->addr), "state",
                             e->kind == STACK_EVENT_CONFLICT ? "conflict" : addr_state_name(e->state), "gone",
                             (int)e->gone);

    if (e->kind == STACK_EVENT_CONFLICT)
        json_object_set_new(body, "conflict_mac", json_mac(e->mac));
    publish(d, KIND_ADDR, body);
}

void events_on_stack(struct daemon *d, const struct stack_event *e, uint64_t now)
{
    switch (e->kind) {
    case STACK_EVENT_PING:
        ping_event(d->control, e, now);
        break;
    case STACK_EVENT_ADDR:
    case STACK_EVENT_CONFLICT:
        if (wanted(d, KIND_ADDR))
            addr_event(d, e);
        break;
    case STACK_EVENT_NEIGH:
        if (wanted(d, KIND_NEIGH))
            publish(d, KIND_NEIGH,
                    json_pack("{s:s, s:o, s:o, s:s}", "kind", "neigh", "address", json_addr(&e->addr), "mac",
                              json_mac(e->mac), "state",
                              stack_neigh_state_name((enum stack_neigh_state)e->state)));
        break;
    case STACK_EVENT_LINK:
        d->link_up = e->up;
        d->mtu = e->mtu;
        if (wanted(d, KIND_LINK))
            publish(d, KIND_LINK, link_row(d));
        break;
    default:
        break;
    }
}

/* Changes that the socket layer had no room for were events too. */
static void lose(struct daemon *d, uint32_t n)
{
    if (n == 0)
        return;
    list_for_each(node, &d->control->subs)
    {
        struct events_sub *sub = list_entry(node, struct events_sub, link);

        if (!(sub->kinds & 1u << KIND_CONN))
            continue;
        sub->seq += n;
        sub->dropped += n;
        d->counters.events_dropped += n;
    }
}

void events_on_turn(struct daemon *d, uint64_t now)
{
    struct sock_state_change change;

    (void)now;
    while (sock_next_state_change(d->socks, &change)) {
        lose(d, change.lost);
        if (wanted(d, KIND_CONN))
            publish(d, KIND_CONN, conn_event(d, change.id, change.state, change.error));
    }
}

/* ---- Subscribing
 * ------------------------------------------------------------------------------------------------- */

static void watch_as_needed(struct daemon *d)
{
    socks_watch_states(d->socks, wanted(d, KIND_CONN));
}

void events_unsubscribe(struct control_client *cl)
{
    struct events_sub *sub = cl->sub;

    if (!sub)
        return;
    cl->sub = NULL;
    list_del(&sub->link);
    free(sub);
    watch_as_needed(cl->control->d);
}

static bool snapshot_conns(struct daemon *d, json_t *rows, uint64_t now)
{
    unsigned n = 0;
    tcp_id id = 0;

    while ((id = tcp_next_id(d->tcp, id)) != 0) {
        struct tcp_info info;

        if (n++ == EVENTS_SNAPSHOT_CONNS)
            return true;
        if (tcp_get_info(d->tcp, id, now, &info) == 0)
            json_array_append_new(rows, conn_event(d, id, info.state, info.error));
    }
    return false;
}

/* Present state of the kinds asked for; true if it is not all. */
static bool snapshot(struct daemon *d, unsigned kinds, json_t *rows, uint64_t now)
{
    struct stack_addr addr;
    struct stack_neigh neigh;

    if (kinds & 1u << KIND_LINK)
        json_array_append_new(rows, link_row(d));
    for (unsigned i = 0; (kinds & 1u << KIND_ADDR) && stack_addr_get(d->stack, i, &addr); i++)
        json_array_append_new(rows, addr_row(&addr));
    for (unsigned i = 0; (kinds & 1u << KIND_NEIGH) && stack_neigh_get(d->stack, i, now, &neigh); i++)
        json_array_append_new(rows, neigh_row(&neigh));
    if (kinds & 1u << KIND_LISTENER) {
        for (struct sock *s = NULL; (s = sock_next_listener(d->socks, s)) != NULL;)
            json_array_append_new(rows, listener_row(s));
    }
    return (kinds & 1u << KIND_CONN) && snapshot_conns(d, rows, now);
}

static bool parse_kinds(struct control_call *call, unsigned *ret)
{
    const json_t *names = json_object_get(call->args, "kinds");
    size_t i;
    json_t *name;

    *ret = names ? 0 : (1u << KIND_MAX) - 1;
    json_array_foreach((json_t *)(uintptr_t)names, i, name)
    {
        unsigned k = 0;

        while (k < KIND_MAX && strcmp(kind_names[k], json_string_value(name)) != 0)
            k++;
        if (k == KIND_MAX) {
            control_fail(
                call, CONTROL_INVALID_PARAMS, 0,
                "parameter \"kinds\": conn, listener, addr, neigh, link or log is expected, not \"%.32s\"",
                json_string_value(name));
            return false;
        }
        *ret |= 1u << k;
    }
    return true;
}

enum control_outcome method_events_subscribe(struct control_call *call)
{
    struct control_client *cl = call->client;
    struct events_sub *sub;
    json_t *rows;
    bool truncated;
    unsigned kinds;

    if (cl->sub)
        return control_fail(call, CONTROL_ALREADY_SUBSCRIBED, 0, "this client has a subscription already");
    if (!parse_kinds(call, &kinds))
        return CONTROL_FAILED;
    sub = calloc(1, sizeof *sub);
    if (!sub)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    events_on_turn(call->d, call->now); /* older changes belong before the snapshot */
    sub->client = cl;
    sub->kinds = kinds;
    list_add_tail(&cl->control->subs, &sub->link);
    cl->sub = sub;
    watch_as_needed(call->d);
    rows = json_array();
    truncated = snapshot(call->d, kinds, rows, call->now);
    call->result = json_pack("{s:i, s:o, s:b}", "seq", 0, "snapshot", rows, "truncated", (int)truncated);
    return CONTROL_DONE;
}
