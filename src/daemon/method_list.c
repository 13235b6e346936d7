/*
 * daemon/method_list.c: conn.list, page by page.
 *
 * A table of a million connections must not hold up the stack: a call works for LIST_BUDGET_NS at most, asked for every
 * LIST_STRIDE entries looked at and after every row made (a row costs much more than a look), and then answers with what
 * it has and where to go on. What is to be left out is left out here, before it is made into text; so a search for few
 * among many costs looks only. The answer's text is made in the second half of the turn, in proportion to its rows.
 */
#include "daemon/call.h"

#include <string.h>

#define LIST_BUDGET_NS NSEC_PER_MSEC
#define LIST_STRIDE    64

struct filter {
    unsigned states; /* bit by enum tcp_state; 0: all */
    int64_t local_port, peer_port, active_ms;
};

static bool add_state(const char *name, unsigned *states)
{
    for (int i = 1; i < TCP_STATE_MAX; i++) {
        const char *have = tcp_state_name((enum tcp_state)i);

        if (have && strcasecmp(have, name) == 0) {
            *states |= 1u << i;
            return true;
        }
    }
    return false;
}

static bool read_filter(struct control_call *call, struct filter *ret)
{
    const json_t *states = json_object_get(call->args, "states"), *fields = json_object_get(call->args, "fields"), *v;
    const char *one = arg_string(call, "state"), *wrong = NULL;
    size_t i;

    *ret = (struct filter){.local_port = arg_int(call, "local_port", -1),
                           .peer_port = arg_int(call, "peer_port", -1),
                           .active_ms = arg_int(call, "active_ms", -1)};
    if (one && !add_state(one, &ret->states))
        wrong = one;
    json_array_foreach(states, i, v)
        if (!add_state(json_string_value(v), &ret->states))
            wrong = json_string_value(v);
    if (wrong) {
        control_fail(call, CONTROL_INVALID_PARAMS, 0,
                     "\"%.32s\" is no state; one is expected, as ESTABLISHED, FIN_WAIT2 or TIME_WAIT", wrong);
        return false;
    }
    json_array_foreach(fields, i, v)
    {
        const char *name = json_string_value(v);

        if (conn_is_field(name) || (i == 0 && strcmp(name, "*") == 0))
            continue;
        control_fail(call, CONTROL_INVALID_PARAMS, 0, "parameter \"fields\": conn.get tells no number \"%.32s\"", name);
        return false;
    }
    return true;
}

static bool matches(const struct filter *f, const struct tcp_brief *b)
{
    return (!f->states || (f->states >> b->state & 1)) &&
           (f->local_port < 0 || b->tuple.local_port == f->local_port) &&
           (f->peer_port < 0 || b->tuple.remote_port == f->peer_port) &&
           (f->active_ms < 0 || (b->idle_ms != UINT32_MAX && b->idle_ms <= f->active_ms));
}

enum control_outcome method_conn_list(struct control_call *call)
{
    struct daemon *d = call->d;
    const json_t *fields = json_object_get(call->args, "fields");
    int64_t limit = arg_int(call, "limit", 1000);
    tcp_id last = arg_string(call, "after") ? arg_conn(call, "after") : 0, id;
    uint64_t until = daemon_now() + LIST_BUDGET_NS;
    struct tcp_totals totals;
    struct filter filter;
    struct tcp_brief brief;
    struct tcp_info info;
    unsigned looked = 0;
    bool late = false;
    json_t *rows;

    if (!read_filter(call, &filter))
        return CONTROL_FAILED;
    rows = json_array();
    while ((id = tcp_next_id(d->tcp, last)) != 0 && (int64_t)json_array_size(rows) < limit && !late) {
        bool row = tcp_get_brief(d->tcp, id, call->now, &brief) == 0 && matches(&filter, &brief) &&
                   tcp_get_info(d->tcp, id, call->now, &info) == 0;

        last = id;
        if (row) {
            json_t *o = conn_row(d, id, &info);

            if (json_array_size(fields))
                conn_add_fields(o, &info, fields);
            json_array_append_new(rows, o);
        }
        late = (row || ++looked % LIST_STRIDE == 0) && daemon_now() > until;
    }
    tcp_get_totals(d->tcp, &totals);
    call->result =
        json_pack("{s:o, s:o, s:I}", "connections", rows, "next", id ? json_conn_id(last) : json_null(),
                  "total", (json_int_t)totals.conns + totals.half_open + totals.time_wait);
    return CONTROL_DONE;
}
