/*
 * cli/metrics.c: what tautd remembers of destinations (metrics.list, page by page, and metrics.flush).
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/out.h"

/* All pages as one array, or NULL with the status. */
static json_t *all_metrics(struct cli *c, const char *address, int *ret_status)
{
    json_t *all = json_array(), *next = NULL;

    do {
        json_t *params = json_pack("{s:s*, s:o*}", "address", address, "after", next);
        json_t *page = cli_call(c, "metrics.list", params, ret_status);

        if (!page) {
            json_decref(all);
            return NULL;
        }
        json_array_extend(all, json_object_get(page, "metrics"));
        next = json_incref(json_object_get(page, "next"));
        json_decref(page);
    } while (json_is_integer(next) && !*c->stopped);
    json_decref(next);
    return all;
}

/* The number, or NULL for what was never learnt. */
static const char *number(const json_t *row, const char *key, char *buf, size_t size)
{
    if (!json_is_integer(json_object_get(row, key)))
        return NULL;
    snprintf(buf, size, "%lld", (long long)jint(row, key));
    return buf;
}

static const char *duration(const json_t *row, const char *key, double us_per_unit, char *buf, size_t size)
{
    const json_t *v = json_object_get(row, key);

    return json_is_number(v) ? human_us(json_number_value(v) * us_per_unit, buf, size) : NULL;
}

static void metrics_table(const json_t *rows)
{
    static const char *const head[] = {"ADDRESS", "SOURCE",    ">AGE",     ">RTT",          ">VAR",
                                       ">CWND",   ">SSTHRESH", ">REORDER", ">FASTOPEN MSS", "COOKIE"};
    struct table t;
    size_t i;
    const json_t *row;

    table_init(&t, head, 10);
    json_array_foreach(rows, i, row)
    {
        char b[7][32];
        const char *cookie = jstr(row, "fastopen_cookie");

        table_row(
            &t, (const char *[]){
                    jstr(row, "address"), jstr(row, "source"), duration(row, "age_s", 1e6, b[0], sizeof b[0]),
                    duration(row, "rtt_us", 1, b[1], sizeof b[1]),
                    duration(row, "rttvar_us", 1, b[2], sizeof b[2]), number(row, "cwnd", b[3], sizeof b[3]),
                    number(row, "ssthresh", b[4], sizeof b[4]), number(row, "reordering", b[5], sizeof b[5]),
                    number(row, "fastopen_mss", b[6], sizeof b[6]), cookie[0] ? cookie : NULL});
    }
    table_print(&t, stdout);
}

static int flush(struct cli *c, const char *address)
{
    int status;
    json_t *j = cli_call(c, "metrics.flush", json_pack("{s:s*}", "address", address), &status);

    if (j && c->json)
        cli_print_json(j);
    else if (j)
        printf("%lld forgotten\n", (long long)jint(j, "forgotten"));
    json_decref(j);
    return status;
}

int cmd_metrics(struct cli *c, int argc, char **argv)
{
    bool forget = argc > 1 && strcmp(argv[1], "flush") == 0;
    const char *address = argc > 1 + forget ? argv[1 + forget] : NULL;
    json_t *rows;
    int status;

    if (argc > 2 + forget)
        return cli_usage("metrics [flush] [ADDRESS]");
    if (forget)
        return flush(c, address);
    rows = all_metrics(c, address, &status);
    if (!rows)
        return status;
    if (c->json)
        cli_print_json(rows);
    else
        metrics_table(rows);
    json_decref(rows);
    return status;
}
