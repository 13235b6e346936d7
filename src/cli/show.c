/*
 * cli/show.c: status, conns, neigh and config as tables. Each asks once and prints; `conns -w` asks
 * again until it is interrupted: on a terminal the screen is drawn anew, otherwise one table follows the
 * other.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/out.h"

#define PAGE 500 /* rows of one conn.list */

/* ---- status
 * ------------------------------------------------------------------------------------------------------ */

static void print_interface(const json_t *j)
{
    const json_t *i = json_object_get(j, "interface"), *o = json_object_get(i, "offload");
    char up[32];

    printf("tautd %s, pid %lld, up %s\n", jstr(j, "version"), (long long)jint(j, "pid"),
           human_us(json_number_value(json_object_get(j, "uptime_s")) * 1e6, up, sizeof up));
    printf("%s  %s  %s  MTU %lld  %s%s%s%s\n", jstr(i, "name"), jstr(i, "mac"),
           json_is_true(json_object_get(i, "up")) ? "up" : "down", (long long)jint(i, "mtu"),
           json_is_true(json_object_get(o, "csum")) ? "checksum offload " : "",
           json_is_true(json_object_get(o, "tso4")) ? "TSO4 " : "",
           json_is_true(json_object_get(o, "tso6")) ? "TSO6 " : "",
           json_is_true(json_object_get(j, "draining")) ? "DRAINING" : "");
}

static void print_addresses(const json_t *j)
{
    static const char *const head[] = {"ADDRESS", "STATE", "ORIGIN"}, *const route_head[] = {"ROUTE", "VIA",
                                                                                             ">MTU"};
    struct table t;
    size_t i;
    json_t *row;
    char a[128], n[16];

    table_init(&t, head, 3);
    json_array_foreach(json_object_get(j, "addresses"), i, row)
    {
        snprintf(a, sizeof a, "%s/%lld", jstr(row, "address"), (long long)jint(row, "prefix"));
        table_row(&t, (const char *[]){a, jstr(row, "state"), jstr(row, "origin")});
    }
    putchar('\n');
    table_print(&t, stdout);
    table_init(&t, route_head, 3);
    json_array_foreach(json_object_get(j, "routes"), i, row)
    {
        snprintf(n, sizeof n, "%lld", (long long)jint(row, "mtu"));
        table_row(&t,
                  (const char *[]){jstr(row, "prefix"), jstr(row, "gateway"), jint(row, "mtu") ? n : NULL});
    }
    putchar('\n');
    table_print(&t, stdout);
}

static void print_totals(const json_t *j)
{
    const json_t *t = json_object_get(j, "totals"), *m = json_object_get(j, "memory"),
                 *r = json_object_get(j, "rates");
    char a[32], b[32];

    printf("\nconnections %lld (established %lld, half-open %lld, time-wait %lld, orphans %lld), listeners "
           "%lld\n",
           (long long)jint(t, "connections"), (long long)jint(t, "established"),
           (long long)jint(t, "half_open"), (long long)jint(t, "time_wait"), (long long)jint(t, "orphans"),
           (long long)jint(t, "listeners"));
    printf("buffers %s of %s", human_bytes((uint64_t)jint(m, "chunk_bytes_used"), a, sizeof a),
           human_bytes((uint64_t)jint(m, "chunk_bytes_budget"), b, sizeof b));
    printf(", received %s", human_bytes((uint64_t)jint(r, "rx_bytes"), a, sizeof a));
    printf(", sent %s\n", human_bytes((uint64_t)jint(r, "tx_bytes"), b, sizeof b));
}

static void print_listeners(const json_t *j)
{
    static const char *const head[] = {"LISTENING", ">QUEUE", "OWNER"};
    static const char *const forward_head[] = {"FORWARD", "LISTEN", "TO", ">CONNECTIONS", ">FAILED"};
    struct table t;
    size_t i;
    json_t *row;
    char a[48], b[48];

    table_init(&t, head, 3);
    json_array_foreach(json_object_get(j, "listeners"), i, row)
    {
        snprintf(a, sizeof a, "%lld/%lld", (long long)jint(row, "accept_queue"),
                 (long long)jint(row, "backlog"));
        table_row(&t, (const char *[]){jstr(row, "address"), a, jstr(row, "owner")});
    }
    if (t.rows) {
        putchar('\n');
        table_print(&t, stdout);
    }
    table_init(&t, forward_head, 5);
    json_array_foreach(json_object_get(j, "forwards"), i, row)
    {
        snprintf(a, sizeof a, "%lld", (long long)jint(row, "connections"));
        snprintf(b, sizeof b, "%lld", (long long)jint(row, "failed"));
        table_row(&t, (const char *[]){jstr(row, "name"), jstr(row, "listen"), jstr(row, "to"), a, b});
    }
    if (t.rows) {
        putchar('\n');
        table_print(&t, stdout);
    }
}

int cmd_status(struct cli *c, int argc, char **argv)
{
    int status;
    json_t *j;

    (void)argv;
    if (argc > 1)
        return cli_usage("status takes no arguments");
    j = cli_call(c, "server.status", NULL, &status);
    if (!j)
        return status;
    if (c->json) {
        cli_print_json(j);
    } else {
        print_interface(j);
        print_addresses(j);
        print_totals(j);
        print_listeners(j);
    }
    json_decref(j);
    return status;
}

/* ---- conns
 * ------------------------------------------------------------------------------------------------------- */

struct filter {
    const char *state;
    long port, interval;
    bool watch;
};

/* All pages as one array, or NULL with the status. */
static json_t *all_conns(struct cli *c, const struct filter *f, int *ret_status)
{
    json_t *all = json_array(), *page, *next = NULL;

    do {
        json_t *params = json_pack("{s:i, s:s*, s:o*}", "limit", PAGE, "state", f->state, "after", next);

        if (f->port >= 0)
            json_object_set_new(params, "local_port", json_integer(f->port));
        page = cli_call(c, "conn.list", params, ret_status);
        if (!page) {
            json_decref(all);
            return NULL;
        }
        json_array_extend(all, json_object_get(page, "connections"));
        next = json_incref(json_object_get(page, "next"));
        json_decref(page);
    } while (json_is_string(next) && !*c->stopped);
    json_decref(next);
    return all;
}

static void conns_table(const json_t *rows)
{
    static const char *const head[] = {"ID",   "STATE", "LOCAL", "PEER", "OWNER",
                                       ">RTT", ">CWND", ">IN",   ">OUT", "WAITS FOR"};
    struct table t;
    size_t i;
    const json_t *row;

    table_init(&t, head, 10);
    json_array_foreach(rows, i, row)
    {
        char rtt[32], cwnd[32], in[32], out[32];

        snprintf(cwnd, sizeof cwnd, "%lld", (long long)jint(row, "cwnd"));
        human_us((double)jint(row, "rtt_us"), rtt, sizeof rtt);
        human_bytes((uint64_t)jint(row, "bytes_in"), in, sizeof in);
        human_bytes((uint64_t)jint(row, "bytes_out"), out, sizeof out);
        table_row(&t,
                  (const char *[]){jstr(row, "id"), jstr(row, "state"), jstr(row, "local"), jstr(row, "peer"),
                                   jstr(row, "owner"), jint(row, "rtt_us") ? rtt : NULL,
                                   jint(row, "cwnd") ? cwnd : NULL, in, out,
                                   strcmp(jstr(row, "limit"), "NOTHING") == 0 ? NULL : jstr(row, "limit")});
    }
    table_print(&t, stdout);
}

static int show_conns(struct cli *c, const struct filter *f)
{
    int status = EXIT_OK;
    json_t *rows = all_conns(c, f, &status);

    if (!rows)
        return status;
    if (f->watch && isatty(STDOUT_FILENO))
        fputs("\033[H\033[J", stdout);
    if (c->json)
        cli_print_json(rows);
    else
        conns_table(rows);
    json_decref(rows);
    return fflush(stdout) == 0 ? status : EXIT_REFUSED;
}

int cmd_conns(struct cli *c, int argc, char **argv)
{
    struct filter f = {.port = -1, .interval = 1};
    int o, status;

    while ((o = getopt(argc, argv, "wi:s:p:")) != -1) {
        if (o == 'w')
            f.watch = true;
        else if (o == 's')
            f.state = optarg;
        else if (o == 'i' && !cli_number("-i", optarg, 1, 3600, &f.interval))
            return EXIT_USAGE;
        else if (o == 'p' && !cli_number("-p", optarg, 0, 65535, &f.port))
            return EXIT_USAGE;
        else if (o == '?')
            return EXIT_USAGE;
    }
    if (optind < argc)
        return cli_usage("conns takes no arguments but options");
    for (status = show_conns(c, &f); status == EXIT_OK && f.watch && !*c->stopped;
         status = show_conns(c, &f)) {
        nanosleep(&(struct timespec){.tv_sec = f.interval}, NULL);
        if (*c->stopped)
            break;
        if (!isatty(STDOUT_FILENO) && !c->json)
            putchar('\n');
    }
    return status;
}

/* ---- neigh
 * ------------------------------------------------------------------------------------------------------- */

int cmd_neigh(struct cli *c, int argc, char **argv)
{
    static const char *const head[] = {"ADDRESS", "MAC", "STATE", ">AGE", ">WAITING"};
    struct table t;
    int status;
    json_t *j, *row;
    size_t i;

    (void)argv;
    if (argc > 1)
        return cli_usage("neigh takes no arguments");
    j = cli_call(c, "neigh.list", NULL, &status);
    if (!j)
        return status;
    if (c->json) {
        cli_print_json(j);
        json_decref(j);
        return status;
    }
    table_init(&t, head, 5);
    json_array_foreach(json_object_get(j, "neighbours"), i, row)
    {
        const json_t *age = json_object_get(row, "age_s");
        char a[32], n[32];

        human_us(json_number_value(age) * 1e6, a, sizeof a);
        snprintf(n, sizeof n, "%lld", (long long)jint(row, "waiting"));
        table_row(&t, (const char *[]){jstr(row, "address"), jstr(row, "mac"), jstr(row, "state"),
                                       json_is_null(age) ? NULL : a, n});
    }
    table_print(&t, stdout);
    json_decref(j);
    return status;
}

/* ---- config
 * ------------------------------------------------------------------------------------------------------ */

static void config_table(const json_t *rows)
{
    static const char *const head[] = {"KEY", "VALUE", "DEFAULT", "UNIT", "TAKES EFFECT", "MEANING"};
    struct table t;
    size_t i;
    const json_t *row;

    table_init(&t, head, 6);
    json_array_foreach(rows, i, row)
        table_row(&t, (const char *[]){jstr(row, "name"), jstr(row, "value"), jstr(row, "default"),
                                       jstr(row, "unit"), jstr(row, "scope"), jstr(row, "help")});
    table_print(&t, stdout);
}

int cmd_config(struct cli *c, int argc, char **argv)
{
    int status;
    json_t *j;

    if (argc > 3)
        return cli_usage("config [KEY [VALUE]]");
    if (argc == 3)
        j = cli_call(c, "config.set", json_pack("{s:s, s:s}", "name", argv[1], "value", argv[2]), &status);
    else
        j = cli_call(c, "config.get", json_pack("{s:s*}", "name", argc > 1 ? argv[1] : NULL), &status);
    if (j && c->json)
        cli_print_json(j);
    else if (j && argc == 3)
        printf("%s = %s\n", jstr(j, "name"), jstr(j, "value"));
    else if (j)
        config_table(json_object_get(j, "rows"));
    json_decref(j);
    return status;
}
