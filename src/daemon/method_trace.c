/*
 * daemon/method_trace.c: the flight recorder through the control API: trace.list, trace.get, trace.follow.
 *
 * Records are copied out of the engine's pool, piece by piece; nothing is kept here but where a follower stands. A
 * follower that does not read gets nothing more until it does; what its record overwrote meanwhile is counted in the
 * next piece (lost). So its cost is bounded: by FOLLOW_QUEUE_MAX unread bytes, and one piece each FOLLOW_S.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/call.h"
#include "daemon/ids.h"
#include "tcp/tcp_trace.h"
#include "trace/trace.h"

#define PIECE_MAX        (256u * 1024u)
#define JSON_MAX         (16u * 1024u) /* of events as JSON: text costs the turn a hundred times what a copy does */
#define FOLLOW_QUEUE_MAX (1024u * 1024u)
#define FOLLOW_S         0.05

struct trace_sub {
    struct control_client *client;
    uint64_t id, next, lost;
    bool ended;
    ev_timer timer;
    struct tcp_rec_head head;
};

uint64_t trace_wall_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* ---- base64 (RFC 4648 section 4) ---- */

static json_t *base64(const uint8_t *b, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((n + 2) / 3 * 4 + 1), *at = text;
    json_t *j;

    if (!text)
        return NULL;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)b[i] << 16 | (i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0) | (i + 2 < n ? b[i + 2] : 0u);

        *at++ = digits[v >> 18];
        *at++ = digits[v >> 12 & 63];
        *at++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *at++ = i + 2 < n ? digits[v & 63] : '=';
    }
    j = json_stringn_nocheck(text, (size_t)(at - text));
    free(text);
    return j;
}

/* ---- trace.list ---- */

static const char *kind_name(unsigned kind)
{
    static const char *const names[] = {"connection", "dead", "engine"};

    return kind < 3 ? names[kind] : "?";
}

static json_t *trace_row(const struct tcp_trace_row *r, uint64_t now)
{
    json_t *row = json_pack("{s:o, s:s, s:I, s:I, s:I, s:f, s:f}", "id",
                            r->kind == TCP_REC_KIND_ENGINE ? json_string("engine") : json_conn_id(r->id), "kind",
                            kind_name(r->kind), "events", (json_int_t)(r->next_event - r->first_event), "lost",
                            (json_int_t)r->first_event, "bytes", (json_int_t)r->bytes, "begun_s",
                            (double)(now - r->begun_at) / 1e9, "silent_s", (double)(now - r->last_at) / 1e9);

    if (r->tuple.local.family) {
        json_object_set_new(row, "local", json_addr_port(&r->tuple.local, r->tuple.local_port));
        json_object_set_new(row, "peer", json_addr_port(&r->tuple.remote, r->tuple.remote_port));
    }
    if (r->kind == TCP_REC_KIND_DEAD) {
        json_object_set_new(row, "end", json_string(tcp_rec_code_name(TCP_REC_T_END, r->end)));
        json_object_set_new(row, "error", r->error ? json_string(strerrorname_np(r->error)) : json_null());
    }
    return row;
}

enum control_outcome method_trace_list(struct control_call *call)
{
    uint32_t at = (uint32_t)arg_int(call, "after", 0), before = at;
    int64_t limit = arg_int(call, "limit", 1000);
    bool dead = arg_bool(call, "dead");
    json_t *rows = json_array(), *next = NULL;
    struct tcp_trace_totals totals;
    struct tcp_trace_row r;

    while (tcp_trace_next(call->d->tcp, &at, &r)) {
        if (dead && r.kind != TCP_REC_KIND_DEAD)
            continue;
        if ((int64_t)json_array_size(rows) == limit) {
            next = json_integer((json_int_t)before); /* this one begins the next page */
            break;
        }
        json_array_append_new(rows, trace_row(&r, call->now));
        before = at;
    }
    tcp_trace_totals(call->d->tcp, &totals);
    call->result = json_pack("{s:o, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "records", rows, "next",
                             next ? next : json_null(), "totals", "pool_bytes", (json_int_t)totals.pool_bytes,
                             "used_bytes", (json_int_t)totals.used_bytes, "records", (json_int_t)totals.rings, "events",
                             (json_int_t)totals.events, "stolen", (json_int_t)totals.stolen_rings, "dead",
                             (json_int_t)totals.boxes);
    return CONTROL_DONE;
}

/* ---- trace.get ---- */

static bool record_id(struct control_call *call, uint64_t *ret)
{
    const char *text = arg_string(call, "id");
    tcp_id id;

    if (strcmp(text, "engine") == 0) {
        *ret = TCP_TRACE_ENGINE;
        return true;
    }
    if (!id_parse(text, &id) || id == 0) {
        control_fail(call, CONTROL_INVALID_PARAMS, 0, "parameter \"id\": a connection's id or \"engine\" is expected");
        return false;
    }
    *ret = id;
    return true;
}

/* One piece of a record: a head and events, from *inout_next on. NULL: no such record, or no memory. */
struct piece {
    uint8_t *at; /* to be freed */
    size_t bytes;
    struct tcp_rec_head head;
    uint64_t lost, end; /* end: where the record ends now */
};

static int read_piece(struct daemon *d, uint64_t id, uint64_t *inout_next, size_t room, uint64_t now, struct piece *ret)
{
    size_t config = 0;
    uint64_t from;
    int64_t n;
    int r = tcp_trace_head(d->tcp, id, now, &ret->head);

    if (r < 0)
        return r;
    ret->end = ret->head.next_event;
    if (*inout_next > ret->end)
        *inout_next = 0; /* the record began anew meanwhile */
    from = *inout_next;
    ret->at = malloc(sizeof ret->head + room + 8192);
    if (!ret->at)
        return -ENOMEM;
    if (from == 0)
        config = tcp_trace_config(d->tcp, ret->at + sizeof ret->head, 8192);
    n = tcp_trace_read(d->tcp, id, inout_next, ret->at + sizeof ret->head + config, room, &ret->lost);
    if (n < 0) {
        free(ret->at);
        return (int)n;
    }
    ret->head.wall_at = trace_wall_ns();
    ret->head.first_event = ret->head.lost_events = from + ret->lost;
    ret->head.next_event = *inout_next;
    ret->head.event_bytes = (uint32_t)(config + (size_t)n);
    memcpy(ret->at, &ret->head, sizeof ret->head);
    ret->bytes = sizeof ret->head + ret->head.event_bytes;
    return 0;
}

/* The piece as head and events in JSON. */
static json_t *piece_json(const struct piece *p)
{
    struct trace_text text = {0};
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    struct trace tr;
    bool first = true;
    json_t *j = NULL;

    if (trace_open(p->at, p->bytes, &tr, NULL, NULL) < 0)
        return NULL;
    trace_print(&text, "{\"head\": ");
    trace_json_head(&tr, &text);
    trace_print(&text, ", \"events\": [");
    while (trace_next(&tr, &cursor, &ev) == 1) {
        trace_print(&text, first ? "\n" : ",\n");
        trace_json_event(&tr, &ev, &text);
        first = false;
    }
    trace_print(&text, "]}");
    if (!text.failed)
        j = json_loadb(text.at, text.len, 0, NULL);
    trace_text_free(&text);
    return j;
}

enum control_outcome method_trace_get(struct control_call *call)
{
    const char *format = arg_string(call, "format");
    bool as_json = strcmp(format, "json") == 0;
    uint64_t id, next = (uint64_t)arg_int(call, "after", 0);
    struct piece p = {0};
    size_t room;
    int r;

    if (!as_json && strcmp(format, "binary") != 0)
        return control_fail(call, CONTROL_INVALID_PARAMS, 0, "parameter \"format\": binary or json is expected");
    if (!record_id(call, &id))
        return CONTROL_FAILED;
    room = (size_t)arg_int(call, "max", PIECE_MAX);
    if (room > (as_json ? JSON_MAX : PIECE_MAX))
        room = as_json ? JSON_MAX : PIECE_MAX;
    r = read_piece(call->d, id, &next, room, call->now, &p);
    if (r == -ENOMEM)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    if (r < 0)
        return control_fail(call, CONTROL_NO_SUCH_CONNECTION, 0, "no record of %.64s", arg_string(call, "id"));
    call->result = as_json ? piece_json(&p) : json_pack("{s:o*}", "data", base64(p.at, p.bytes));
    free(p.at);
    if (!call->result)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    json_object_set_new(call->result, "id", json_string(arg_string(call, "id")));
    json_object_set_new(call->result, "kind", json_string(kind_name(p.head.kind)));
    json_object_set_new(call->result, "next", json_integer((json_int_t)next));
    json_object_set_new(call->result, "end", json_integer((json_int_t)p.end));
    json_object_set_new(call->result, "lost", json_integer((json_int_t)p.lost));
    return CONTROL_DONE;
}

/* ---- trace.follow ---- */

static void send_piece(struct trace_sub *sub, const struct piece *p, bool gone)
{
    json_t *params = json_pack("{s:o, s:I, s:I, s:b, s:o*}", "id",
                               sub->id == TCP_TRACE_ENGINE ? json_string("engine") : json_conn_id(sub->id), "next",
                               (json_int_t)sub->next, "lost", (json_int_t)sub->lost, "gone", (int)gone, "data",
                               p ? base64(p->at, p->bytes) : NULL);

    control_send(sub->client, json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", "trace", "params", params), -1);
}

/* What came since; true: go on. A connection that is gone is followed in its black box, if it left one. */
static bool follow(struct trace_sub *sub, struct daemon *d)
{
    uint64_t before = sub->next;
    struct piece p = {0};
    int r;

    if (sub->client->dead || sub->client->out_bytes > FOLLOW_QUEUE_MAX)
        return true;
    r = read_piece(d, sub->id, &sub->next, PIECE_MAX, daemon_now(), &p);
    if (r == -ENOMEM)
        return true;
    if (r < 0) {
        send_piece(sub, NULL, true);
        return false;
    }
    sub->lost += p.lost;
    if (sub->next != before || p.lost)
        send_piece(sub, &p, p.head.kind == TCP_REC_KIND_DEAD);
    free(p.at);
    return p.head.kind != TCP_REC_KIND_DEAD;
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct trace_sub *sub = w->data;

    (void)revents;
    if (!follow(sub, sub->client->control->d))
        ev_timer_stop(loop, w);
    daemon_kick(sub->client->control->d);
}

void trace_unfollow(struct control_client *cl)
{
    if (!cl->trace)
        return;
    ev_timer_stop(cl->control->d->loop, &cl->trace->timer);
    free(cl->trace);
    cl->trace = NULL;
}

enum control_outcome method_trace_follow(struct control_call *call)
{
    struct control_client *cl = call->client;
    struct tcp_rec_head head;
    struct trace_sub *sub;
    uint64_t id;

    if (cl->trace)
        return control_fail(call, CONTROL_ALREADY_SUBSCRIBED, 0, "this client follows a record already");
    if (!record_id(call, &id))
        return CONTROL_FAILED;
    if (tcp_trace_head(call->d->tcp, id, call->now, &head) < 0)
        return control_fail(call, CONTROL_NO_SUCH_CONNECTION, 0, "no record of %.64s", arg_string(call, "id"));
    sub = calloc(1, sizeof *sub);
    if (!sub)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    sub->client = cl;
    sub->id = id;
    sub->next = (uint64_t)arg_int(call, "after", 0);
    ev_timer_init(&sub->timer, on_timer, 0.001, FOLLOW_S);
    sub->timer.data = sub;
    ev_timer_start(call->d->loop, &sub->timer);
    cl->trace = sub;
    call->result = json_pack("{s:s, s:I}", "id", arg_string(call, "id"), "next", (json_int_t)sub->next);
    return CONTROL_DONE;
}
