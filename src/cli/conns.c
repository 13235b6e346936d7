/*
 * cli/conns.c: conn.list again and again until "next" is null. The daemon works for a bounded time a call, so a page may
 * hold few rows or none; what the filter knows of states and ports is left out over there already.
 */
#include "cli/conns.h"

#include <string.h>

#define PAGE 500

static json_t *words(const char *text)
{
    json_t *a = json_array();

    while (*text) {
        size_t n = strcspn(text, ",");

        json_array_append_new(a, json_stringn(text, n));
        text += n + (text[n] == ',');
    }
    return a;
}

static json_t *params_of(const struct conns_query *q)
{
    json_t *p = json_pack("{s:i}", "limit", PAGE);
    unsigned states = q->filter ? filter_states(q->filter) : FILTER_ALL;
    int local = q->filter ? filter_local_port(q->filter) : -1, peer = q->filter ? filter_peer_port(q->filter) : -1;

    if ((states & FILTER_ALL & ~FILTER_LISTEN) != (FILTER_ALL & ~FILTER_LISTEN)) {
        json_t *a = json_array();

        for (unsigned i = 0; state_in_mask(states, i); i++)
            json_array_append_new(a, json_string(state_in_mask(states, i)));
        json_object_set_new(p, "states", a);
    }
    if (local >= 0)
        json_object_set_new(p, "local_port", json_integer(local));
    if (peer >= 0)
        json_object_set_new(p, "peer_port", json_integer(peer));
    if (q->active_ms > 0)
        json_object_set_new(p, "active_ms", json_integer(q->active_ms));
    if (q->fields[0])
        json_object_set_new(p, "fields", words(q->fields));
    return p;
}

int conns_each(struct cli *c, const struct conns_query *q)
{
    json_t *params = params_of(q), *next = NULL;
    int status = EXIT_OK;
    bool go_on = true;

    do {
        json_t *page, *row;
        size_t i;

        if (next)
            json_object_set(params, "after", next);
        json_decref(next);
        next = NULL;
        page = cli_call(c, "conn.list", json_incref(params), &status);
        json_array_foreach(json_object_get(page, "connections"), i, row)
            go_on = go_on && q->row(q->user, row);
        next = json_incref(json_object_get(page, "next"));
        json_decref(page);
        go_on = go_on && (!q->page || q->page(q->user));
    } while (json_is_string(next) && go_on && !*c->stopped);
    json_decref(next);
    json_decref(params);
    return status;
}
