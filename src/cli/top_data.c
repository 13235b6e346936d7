/*
 * cli/top_data.c: what `taut top` shows: a look at the daemon, rates against the look before, sorting (theory of
 * operation).
 *
 * A look is server.status, stats.get and all pages of conn.list. In a table of more than TOP_SMALL connections those on
 * which nothing moved since twice the delay are left out by the daemon already (active_ms), for they would sort last by
 * any rate: so a look costs what is active, not what there is. The rows of a look, sorted by id, are the "before" of the
 * next. In "only active" looks a connection may come that the look before did not have; its rate is known one look later.
 */
#include "cli/top.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const top_column_names[TOP_COLUMNS] = {"id",  "state",   "local", "peer", "owner", "in",
                                                   "out", "retrans", "rtt",   "cwnd", "limit"};

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double num(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

/* ---- Counters ---------------------------------------------------------------------------------------------------------- */

double top_counter_rate(const struct top_data *d, const char *group, const char *name)
{
    double now = num(json_object_get(d->stats, group), name), dt = d->at - d->at_before;

    if (!d->stats_before || dt <= 0)
        return 0;
    return (now - num(json_object_get(d->stats_before, group), name)) / dt;
}

/* Keeps the largest TOP_RATES, in order. */
static void insert_rate(struct top_rate *list, const char *name, double per_s)
{
    unsigned at = TOP_RATES;

    while (at > 0 && per_s > list[at - 1].per_s)
        at--;
    if (at == TOP_RATES || per_s <= 0)
        return;
    memmove(&list[at + 1], &list[at], (TOP_RATES - 1 - at) * sizeof *list);
    snprintf(list[at].name, sizeof list[at].name, "%s", name);
    list[at].per_s = per_s;
}

static void group_rates(struct top_data *d, const char *group, struct top_rate *list)
{
    const char *name;
    json_t *v;

    json_object_foreach(json_object_get(d->stats, group), name, v)
        insert_rate(list, name, top_counter_rate(d, group, name));
}

/* ---- Rows -------------------------------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct top_row *)a)->id, ((const struct top_row *)b)->id);
}

static void row_rates(const struct top_data *d, struct top_row *r)
{
    const struct top_row *old =
        d->n_before ? bsearch(r, d->before, d->n_before, sizeof *r, by_id) : NULL;
    double dt = d->at - d->at_before;

    r->in_s = r->out_s = r->retrans_s = -1;
    if (!old || dt <= 0)
        return;
    r->in_s = (r->bytes_in - old->bytes_in) / dt;
    r->out_s = (r->bytes_out - old->bytes_out) / dt;
    r->retrans_s = (r->retrans - old->retrans) / dt;
}

static void text(const json_t *j, const char *key, char *to, size_t n)
{
    snprintf(to, n, "%s", jstr(j, key));
}

static bool take_row(void *user, json_t *j)
{
    struct top_data *d = user;
    struct top_row *r;

    if (d->filter && !filter_match(d->filter, jstr(j, "state"), jstr(j, "local"), jstr(j, "peer")))
        return true;
    if (d->rows == d->room) {
        size_t room = d->room ? d->room * 2 : 256;
        struct top_row *bigger = realloc(d->row, room * sizeof *bigger);

        if (!bigger)
            return false;
        d->row = bigger;
        d->room = room;
    }
    r = &d->row[d->rows++];
    text(j, "id", r->id, sizeof r->id);
    snprintf(r->state, sizeof r->state, "%s", state_ss_name(jstr(j, "state")));
    text(j, "local", r->local, sizeof r->local);
    text(j, "peer", r->peer, sizeof r->peer);
    text(j, "owner", r->owner, sizeof r->owner);
    text(j, "limit", r->limit, sizeof r->limit);
    r->bytes_in = num(j, "bytes_in");
    r->bytes_out = num(j, "bytes_out");
    r->retrans = num(j, "total_retrans");
    r->rtt_us = num(j, "rtt_us");
    r->cwnd = num(j, "cwnd");
    return true;
}

static bool page_done(void *user)
{
    struct top_data *d = user;

    return !d->interrupted || !d->interrupted(d->user);
}

/* The rows of the last look become those to compare with. */
static void turn_over(struct top_data *d)
{
    free(d->before);
    d->before = d->row;
    d->n_before = d->rows;
    if (d->n_before)
        qsort(d->before, d->n_before, sizeof *d->before, by_id);
    d->row = NULL;
    d->rows = d->room = 0;
}

int top_look(struct top_data *d)
{
    struct conns_query q = {
        .filter = d->filter, .fields = "total_retrans", .row = take_row, .page = page_done, .user = d};
    json_t *status, *stats = NULL, *totals;
    int result;

    status = cli_call(d->c, "server.status", NULL, &result);
    if (status)
        stats = cli_call(d->c, "stats.get", NULL, &result);
    if (!stats) {
        json_decref(status);
        return result;
    }
    turn_over(d);
    json_decref(d->status);
    json_decref(d->stats_before);
    d->status = status;
    d->stats_before = d->stats;
    d->stats = stats;
    d->at_before = d->at;
    d->at = seconds();
    totals = json_object_get(status, "totals");
    d->only_active = !d->idle_too && num(totals, "connections") + num(totals, "time_wait") > TOP_SMALL;
    q.active_ms = d->only_active ? (long)(d->delay_s * 2000) + 1 : 0;
    q.active_ms = q.active_ms > 3600000 ? 3600000 : q.active_ms;
    result = conns_each(d->c, &q);
    for (size_t i = 0; i < d->rows; i++)
        row_rates(d, &d->row[i]);
    memset(d->drops, 0, sizeof d->drops);
    memset(d->causes, 0, sizeof d->causes);
    group_rates(d, "tcp_drops", d->drops);
    group_rates(d, "stack_drops", d->drops);
    group_rates(d, "tcp_causes", d->causes);
    top_sort(d);
    return result;
}

/* ---- Order ------------------------------------------------------------------------------------------------------------- */

static int compare_number(double a, double b)
{
    return (a < b) - (a > b); /* the largest first */
}

static int compare(const void *x, const void *y, void *user)
{
    const struct top_row *a = x, *b = y;
    const struct top_data *d = user;
    int r;

    switch (d->sort) {
    case TOP_ID:
        r = strcmp(a->id, b->id);
        break;
    case TOP_STATE:
        r = strcmp(a->state, b->state);
        break;
    case TOP_LOCAL:
        r = strcmp(a->local, b->local);
        break;
    case TOP_PEER:
        r = strcmp(a->peer, b->peer);
        break;
    case TOP_OWNER:
        r = strcmp(a->owner, b->owner);
        break;
    case TOP_LIMIT:
        r = strcmp(a->limit, b->limit);
        break;
    case TOP_IN:
        r = compare_number(a->in_s, b->in_s);
        break;
    case TOP_RETRANS:
        r = compare_number(a->retrans_s, b->retrans_s);
        r = r ? r : compare_number(a->retrans, b->retrans);
        break;
    case TOP_RTT:
        r = compare_number(a->rtt_us, b->rtt_us);
        break;
    case TOP_CWND:
        r = compare_number(a->cwnd, b->cwnd);
        break;
    case TOP_OUT:
    case TOP_COLUMNS:
    default:
        r = compare_number(a->out_s, b->out_s);
        break;
    }
    r = r ? r : compare_number(a->in_s + a->out_s, b->in_s + b->out_s);
    r = r ? r : strcmp(a->id, b->id); /* rows that are equal keep their places */
    return d->reverse ? -r : r;
}

void top_sort(struct top_data *d)
{
    if (d->rows)
        qsort_r(d->row, d->rows, sizeof *d->row, compare, d);
}

void top_free(struct top_data *d)
{
    free(d->row);
    free(d->before);
    json_decref(d->status);
    json_decref(d->stats);
    json_decref(d->stats_before);
    filter_free(d->filter);
}
