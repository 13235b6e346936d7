/*
 * What `taut top` makes of two looks: a row's rates, and the order by each column. The daemon is a list of rows here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <time.h>

#include "cli/top.h"

struct fake {
    const char *id, *state, *local, *peer, *owner, *limit;
    int in, out, retrans, rtt_us, cwnd;
};

static const struct fake *shown;
static size_t n_shown;

/* ---- The daemon that top_data.c asks ------------------------------------------------------------------------------------ */

json_t *cli_call(struct cli *c, const char *method, json_t *params, int *ret_status)
{
    (void)c;
    (void)params;
    *ret_status = EXIT_OK;
    if (strcmp(method, "server.status") == 0)
        return json_pack("{s:{s:i}}", "totals", "connections", (int)n_shown);
    assert_string_equal(method, "stats.get");
    return json_pack("{s:{s:i}}", "tcp_causes", "DATA", 1);
}

int conns_each(struct cli *c, const struct conns_query *q)
{
    (void)c;
    assert_string_equal(q->fields, "total_retrans");
    for (size_t i = 0; i < n_shown; i++) {
        const struct fake *f = &shown[i];
        json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i}", "id", f->id, "state", f->state, "local",
                              f->local, "peer", f->peer, "owner", f->owner, "limit", f->limit, "bytes_in", f->in,
                              "bytes_out", f->out, "total_retrans", f->retrans, "rtt_us", f->rtt_us, "cwnd", f->cwnd);

        assert_non_null(j);
        assert_true(q->row(q->user, j));
        json_decref(j);
    }
    return EXIT_OK;
}

const char *jstr(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void look(struct top_data *d, const struct fake *rows, size_t n)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* rates need a time */
    shown = rows;
    n_shown = n;
    assert_int_equal(top_look(d), EXIT_OK);
    assert_int_equal(d->rows, n);
}

/* ---- Tests ------------------------------------------------------------------------------------------------------------- */

static const struct fake before[] = {
    {"0.1", "ESTABLISHED", "10.0.0.2:7", "10.0.0.1:30", "echo", "NOTHING", 1000, 1000, 50, 300, 10},
    {"0.2", "CLOSE_WAIT", "10.0.0.2:9", "10.0.0.1:20", "web", "RWND", 1000, 1000, 1, 200, 30},
    {"0.3", "FIN_WAIT_1", "10.0.0.2:8", "10.0.0.1:10", "discard", "CWND", 1000, 1000, 2, 100, 20},
};
/* 0.1 sent most again once, 0.3 does now; 0.2 receives most, 0.1 sends most. */
static const struct fake after[] = {
    {"0.1", "ESTABLISHED", "10.0.0.2:7", "10.0.0.1:30", "echo", "NOTHING", 1000, 9000, 50, 300, 10},
    {"0.2", "CLOSE_WAIT", "10.0.0.2:9", "10.0.0.1:20", "web", "RWND", 9000, 2000, 3, 200, 30},
    {"0.3", "FIN_WAIT_1", "10.0.0.2:8", "10.0.0.1:10", "discard", "CWND", 3000, 3000, 7, 100, 20},
};

/* The last digits of the ids in the order of a column. */
static const char *order(struct top_data *d, enum top_column sort, bool reverse)
{
    static char text[8];
    size_t i;

    d->sort = sort;
    d->reverse = reverse;
    top_sort(d);
    for (i = 0; i < d->rows && i < sizeof text - 1; i++)
        text[i] = d->row[i].id[2];
    text[i] = '\0';
    return text;
}

static void sorted_by_each_column(void **state)
{
    static const struct {
        enum top_column by;
        const char *order, *reversed;
    } cases[] = {
        {TOP_ID, "123", "321"},      {TOP_STATE, "213", "312"}, {TOP_LOCAL, "132", "231"}, {TOP_PEER, "321", "123"},
        {TOP_OWNER, "312", "213"},   {TOP_IN, "231", "132"},    {TOP_OUT, "132", "231"},   {TOP_RETRANS, "321", "123"},
        {TOP_RTT, "123", "321"},     {TOP_CWND, "231", "132"},  {TOP_LIMIT, "312", "213"},
    };
    struct top_data d = {.idle_too = true, .delay_s = 2, .sort = TOP_OUT};

    (void)state;
    look(&d, before, 3);
    assert_string_equal(order(&d, TOP_RETRANS, false), "132"); /* no rate yet: by what there was in all */
    look(&d, after, 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(order(&d, cases[i].by, false), cases[i].order);
        assert_string_equal(order(&d, cases[i].by, true), cases[i].reversed);
    }
    top_free(&d);
}

static void rates_between_two_looks(void **state)
{
    struct top_data d = {.idle_too = true, .delay_s = 2, .sort = TOP_ID};

    (void)state;
    look(&d, before, 2);
    assert_true(d.row[0].in_s == -1 && d.row[0].out_s == -1 && d.row[0].retrans_s == -1);
    look(&d, after, 3);
    double dt = d.at - d.at_before;

    assert_true(dt >= 0.001);
    assert_true(d.row[0].in_s == 0 && d.row[0].retrans_s == 0);
    assert_true(fabs(d.row[0].out_s * dt - 8000) < 0.01);
    assert_true(fabs(d.row[1].in_s * dt - 8000) < 0.01);
    assert_true(fabs(d.row[1].out_s * dt - 1000) < 0.01);
    assert_true(fabs(d.row[1].retrans_s * dt - 2) < 0.0001);
    assert_true(d.row[2].in_s == -1 && d.row[2].retrans_s == -1); /* was not there before */
    assert_string_equal(d.row[1].limit, "RWND");
    top_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorted_by_each_column),
        cmocka_unit_test(rates_between_two_looks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
