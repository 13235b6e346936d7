/*
 * web/ask.c: asking the daemon. One client, used by libmicrohttpd's thread only; if the connection is lost it is made
 * again once. What the overview needs of the whole daemon is kept for half a second, so that many lookers cost one look;
 * rates are differences between looks that are at least half a second apart.
 */
#include "web/web.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRESH_S   0.5
#define CALLS_MAX 40 /* of conn.list for a page: each works a millisecond at most */

double web_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

bool web_id_ok(const char *id)
{
    size_t n = strspn(id, "0123456789abcdef.");

    return n > 0 && n < TAUT_ID_MAX && !id[n];
}

double web_number(json_t *object, const char *group, const char *name)
{
    json_t *g = group ? json_object_get(object, group) : object;
    json_t *v = json_object_get(g, name);

    if (json_is_object(v))
        v = json_object_get(v, "value");
    return json_number_value(v);
}

/* One call; NULL with the error's text where it fails. Opens the client when there is none (any more). */
json_t *ask(struct web *w, const char *method, const char *params, char *error, size_t bytes)
{
    char *text = NULL;
    json_t *result = NULL;
    int r = -ENOTCONN;

    for (int tries = 0; tries < 2 && r < 0; tries++) {
        if (!w->query && !(w->query = taut_open(w->socket_path))) {
            snprintf(error, bytes, "tautd cannot be reached: %s", strerror(errno));
            return NULL;
        }
        r = taut_call(w->query, method, params, &text, NULL);
        if (r < 0) {
            snprintf(error, bytes, "%s", taut_error(w->query));
            if (r != -EPIPE && r != -ECONNRESET && r != -ENOTCONN)
                return NULL; /* the daemon's answer, not a lost connection */
            taut_close(w->query);
            w->query = NULL;
        }
    }
    if (r == 0)
        result = json_loads(text, 0, NULL);
    free(text);
    return result;
}

static double sum(json_t *stats, const char *group)
{
    const char *name;
    json_t *v;
    double s = 0;

    json_object_foreach(json_object_get(stats, group), name, v) s += web_number(stats, group, name);
    return s;
}

static void sample(struct web *w)
{
    struct web_sample now = {
        .at_s = web_seconds(),
        .in_bytes = web_number(w->stats, "tcp", "TCPInBytes"),
        .out_bytes = web_number(w->stats, "tcp", "TCPOutBytes"),
        .in_segs = web_number(w->stats, "tcp", "InSegs"),
        .out_segs = web_number(w->stats, "tcp", "OutSegs"),
        .retrans = web_number(w->stats, "tcp", "RetransSegs"),
        .drops = sum(w->stats, "tcp_drops") + sum(w->stats, "stack_drops"),
    };

    if (now.at_s - w->last.at_s >= FRESH_S) {
        w->before_last = w->last;
        w->last = now;
    }
}

static bool ask_whole(struct web *w, char *error, size_t bytes)
{
    json_t *status, *stats;

    if (w->status && web_seconds() - w->cached_at < FRESH_S)
        return true;
    status = ask(w, "server.status", NULL, error, bytes);
    stats = status ? ask(w, "stats.get", "{\"help\":true}", error, bytes) : NULL;
    json_decref(w->status);
    json_decref(w->stats);
    w->status = stats ? status : NULL;
    w->stats = stats;
    w->cached_at = web_seconds();
    if (!stats)
        json_decref(status);
    else
        sample(w);
    return stats != NULL;
}

char *ask_list_params(const struct web_select *s, const char *after, unsigned limit)
{
    json_t *p = json_pack("{s:i}", "limit", (int)limit);
    char *text;

    if (after[0])
        json_object_set_new(p, "after", json_string(after));
    if (s->state[0])
        json_object_set_new(p, "state", json_string(s->state));
    if (s->local_port >= 0)
        json_object_set_new(p, "local_port", json_integer(s->local_port));
    if (s->peer_port >= 0)
        json_object_set_new(p, "peer_port", json_integer(s->peer_port));
    if (s->active)
        json_object_set_new(p, "active_ms", json_integer(10000));
    text = json_dumps(p, JSON_COMPACT);
    json_decref(p);
    return text;
}

/* A page's rows: conn.list answers short where it worked long, so it is asked on, for a bounded time. */
static json_t *ask_rows(struct web *w, const struct web_select *s, char *error, size_t bytes)
{
    json_t *rows = json_array(), *answer = NULL;
    char after[TAUT_ID_MAX];

    snprintf(after, sizeof after, "%s", s->after);
    for (int calls = 0; calls < CALLS_MAX && json_array_size(rows) < s->rows; calls++) {
        char *params = ask_list_params(s, after, s->rows - (unsigned)json_array_size(rows));
        const char *next;

        json_decref(answer);
        answer = ask(w, "conn.list", params, error, bytes);
        free(params);
        json_array_extend(rows, json_object_get(answer, "connections"));
        next = json_string_value(json_object_get(answer, "next"));
        if (!next)
            break;
        snprintf(after, sizeof after, "%s", next);
    }
    if (answer)
        json_object_set(answer, "connections", rows);
    json_decref(rows);
    return answer;
}

bool ask_overview(struct web *w, const struct web_select *select, struct web_data *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->select = *select;
    ret->control = w->control;
    if (!ask_whole(w, ret->error, sizeof ret->error))
        return false;
    ret->status = json_incref(w->status);
    ret->stats = json_incref(w->stats);
    ret->now = w->last;
    ret->before = w->before_last;
    if (select->rows)
        ret->conns = ask_rows(w, select, ret->error, sizeof ret->error);
    return true;
}

void ask_free(struct web_data *data)
{
    json_decref(data->status);
    json_decref(data->stats);
    json_decref(data->conns);
}
