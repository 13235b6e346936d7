/*
 * cli/ss.c: `taut ss`: the columns, options and filters of ss(8) (theory of operation).
 *
 * The order of columns and the names on the lines are those of iproute2's ss, so that fingers and scripts work; ss_line.c
 * writes the part behind the addresses. Rows come page by page (conn.list works a bounded time a call): a first screenful
 * fixes the widths, later ones only widen them, so a table of any size is printed in bounded memory and begins at once.
 */
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/conns.h"
#include "cli/filter.h"
#include "cli/ss_line.h"

#define BATCH 1000 /* rows whose widths are looked at together */

const char ss_options[] =
    "  -t, --tcp        accepted: there is nothing but TCP\n"
    "  -a, --all        listeners, half-open and TIME-WAIT entries too\n"
    "  -l, --listening  listeners only\n"
    "  -n, --numeric    ports and rates as plain numbers\n"
    "  -o, --options    timers; with -i the negotiated options too\n"
    "  -e, --extended   the connection's id (for 'taut conn ID') and age\n"
    "  -m, --memory     buffers\n"
    "  -p, --processes  who has it\n"
    "  -i, --info       tcp_info, and what the next byte waits for\n"
    "  -s, --summary    counts only\n"
    "  -4, -6           one family only\n"
    "  -H, --no-header  no heading\n"
    "  -O, --oneline    everything of a connection on one line\n"
    "  FILTER           [state STATE | exclude STATE]... [EXPRESSION], as in ss(8):\n"
    "                   STATE: established, syn-sent, syn-recv, fin-wait-1, fin-wait-2, time-wait, closed, close-wait,\n"
    "                   last-ack, listening, closing, all, connected, synchronized, bucket, big\n"
    "                   EXPRESSION: src HOST, dst HOST, sport OP PORT, dport OP PORT, joined by and, or, not, ( )\n"
    "                   as in  dst 10.0.0.0/8 and ( dport = :80 or sport gt :1024 )\n";

struct row {
    char state[12], recv_q[12], send_q[12], local[TAUT_ADDR_MAX], lport[24], peer[TAUT_ADDR_MAX], pport[24];
    char *rest;
};

struct ss {
    struct cli *c;
    struct ss_show show;
    bool header, header_done, summary;
    struct filter *filter;
    struct row row[BATCH];
    unsigned rows;
    int width[7];
    unsigned long count[2]; /* of IPv4, IPv6 */
    json_t *all;            /* --json */
};

/* ---- The table --------------------------------------------------------------------------------------------------------- */

static void widen(int *width, const char *text)
{
    int n = (int)strlen(text);

    *width = n > *width ? n : *width;
}

static void measure(struct ss *s)
{
    int *w = s->width;

    for (unsigned i = 0; i < s->rows; i++) {
        const struct row *r = &s->row[i];

        widen(&w[0], r->state);
        widen(&w[1], r->recv_q);
        widen(&w[2], r->send_q);
        widen(&w[3], r->local);
        widen(&w[4], r->lport);
        widen(&w[5], r->peer);
        widen(&w[6], r->pport);
    }
}

static void print_rows(struct ss *s)
{
    const int *w = s->width;

    if (s->header && !s->header_done) {
        widen(&s->width[0], "State");
        widen(&s->width[1], "Recv-Q");
        widen(&s->width[2], "Send-Q");
        widen(&s->width[3], "Local Address");
        widen(&s->width[4], "Port");
        widen(&s->width[5], "Peer Address");
        widen(&s->width[6], "Port");
    }
    measure(s);
    if (s->header && !s->header_done)
        printf("%-*s %-*s %-*s %*s:%-*s %*s:%-*s %s\n", w[0], "State", w[1], "Recv-Q", w[2], "Send-Q", w[3],
               "Local Address", w[4], "Port", w[5], "Peer Address", w[6], "Port", "Process");
    s->header_done = true;
    for (unsigned i = 0; i < s->rows; i++) {
        struct row *r = &s->row[i];

        printf("%-*s %-*s %-*s %*s:%-*s %*s:%-*s%s\n", w[0], r->state, w[1], r->recv_q, w[2], r->send_q, w[3],
               r->local, w[4], r->lport, w[5], r->peer, r->rest[0] ? w[6] : 0, r->pport, r->rest);
        free(r->rest);
    }
    s->rows = 0;
}

/* "192.0.2.1:80" -> "192.0.2.1" and "80", or the service's name. */
static void split(const struct ss *s, const char *text, char *addr, size_t addr_size, char *port, size_t port_size)
{
    const char *colon = strrchr(text, ':');
    const struct servent *service = NULL;

    snprintf(addr, addr_size, "%.*s", colon ? (int)(colon - text) : 0, text);
    snprintf(port, port_size, "%s", colon ? colon + 1 : "*");
    if (!s->show.numeric && colon && colon[1] != '*')
        service = getservbyport(htons((uint16_t)atoi(colon + 1)), "tcp");
    if (service)
        snprintf(port, port_size, "%s", service->s_name);
}

static struct row *next_row(struct ss *s)
{
    if (s->rows == BATCH)
        print_rows(s);
    return &s->row[s->rows++];
}

static void add_conn(struct ss *s, const json_t *j)
{
    struct row *r = next_row(s);

    snprintf(r->state, sizeof r->state, "%s", state_ss_name(jstr(j, "state")));
    snprintf(r->recv_q, sizeof r->recv_q, "%lld", (long long)jint(j, "unread_bytes"));
    snprintf(r->send_q, sizeof r->send_q, "%u", (unsigned)(jint(j, "write_seq") - jint(j, "snd_una")));
    split(s, jstr(j, "local"), r->local, sizeof r->local, r->lport, sizeof r->lport);
    split(s, jstr(j, "peer"), r->peer, sizeof r->peer, r->pport, sizeof r->pport);
    r->rest = ss_line(j, &s->show);
}

static void add_listener(struct ss *s, const json_t *j)
{
    const char *address = jstr(j, "address");
    struct row *r = next_row(s);
    json_t *as_conn = json_pack("{s:s}", "owner", jstr(j, "owner"));

    snprintf(r->state, sizeof r->state, "LISTEN");
    snprintf(r->recv_q, sizeof r->recv_q, "%lld", (long long)jint(j, "accept_queue"));
    snprintf(r->send_q, sizeof r->send_q, "%lld", (long long)jint(j, "backlog"));
    split(s, address, r->local, sizeof r->local, r->lport, sizeof r->lport);
    snprintf(r->peer, sizeof r->peer, "%s", address[0] == '[' ? "[::]" : address[0] == '*' ? "*" : "0.0.0.0");
    snprintf(r->pport, sizeof r->pport, "*");
    r->rest = ss_listener_line(as_conn, &s->show);
    json_decref(as_conn);
}

/* ---- Asking ------------------------------------------------------------------------------------------------------------ */

static bool take_conn(void *user, json_t *j)
{
    struct ss *s = user;

    if (!filter_match(s->filter, jstr(j, "state"), jstr(j, "local"), jstr(j, "peer")))
        return true;
    if (s->all)
        json_array_append(s->all, j);
    else if (s->summary)
        s->count[jstr(j, "local")[0] == '[']++;
    else
        add_conn(s, j);
    return !ferror(stdout);
}

static int listeners(struct ss *s)
{
    int status;
    json_t *j, *row;
    size_t i;

    if (!(filter_states(s->filter) & FILTER_LISTEN))
        return EXIT_OK;
    j = cli_call(s->c, "server.status", NULL, &status);
    json_array_foreach(json_object_get(j, "listeners"), i, row)
    {
        if (!filter_match(s->filter, "LISTEN", jstr(row, "address"), "*:0"))
            continue;
        if (s->all) {
            json_object_set_new(row, "state", json_string("LISTEN"));
            json_array_append(s->all, row);
        } else if (s->summary) {
            s->count[jstr(row, "address")[0] == '[']++;
        } else {
            add_listener(s, row);
        }
    }
    json_decref(j);
    return status;
}

static int connections(struct ss *s)
{
    bool more = s->show.info || s->show.memory || s->show.timer || s->show.extended || s->all;
    struct conns_query q = {
        .filter = s->filter,
        .fields = s->summary ? "" : more ? "*" : "unread_bytes,write_seq,snd_una",
        .row = take_conn,
        .user = s,
    };

    if (!(filter_states(s->filter) & ~FILTER_LISTEN))
        return EXIT_OK;
    return conns_each(s->c, &q);
}

static int summary(struct ss *s)
{
    int status;
    json_t *j = cli_call(s->c, "server.status", NULL, &status), *t = json_object_get(j, "totals");
    unsigned long total;

    if (!j)
        return status;
    status = connections(s);
    if (status == EXIT_OK)
        status = listeners(s);
    total = s->count[0] + s->count[1];
    printf("Total: %lu\nTCP:   %lu (estab %lld, closed %lld, orphaned %lld, timewait %lld)\n\n", total, total,
           (long long)jint(t, "established"), (long long)jint(t, "time_wait"), (long long)jint(t, "orphans"),
           (long long)jint(t, "time_wait"));
    printf("Transport Total     IP        IPv6\nTCP\t  %-9lu %-9lu %-9lu\n", total, s->count[0], s->count[1]);
    json_decref(j);
    return status;
}

static int show(struct ss *s)
{
    int status;

    if (s->summary)
        return summary(s);
    if (s->c->json)
        s->all = json_array();
    status = listeners(s);
    if (status == EXIT_OK)
        status = connections(s);
    if (s->all) {
        if (status == EXIT_OK)
            cli_print_json(s->all);
        json_decref(s->all);
    } else if (status == EXIT_OK || s->rows) {
        print_rows(s);
    }
    return status;
}

static const struct option longs[] = {
    {"tcp", no_argument, NULL, 't'},       {"all", no_argument, NULL, 'a'},       {"listening", no_argument, NULL, 'l'},
    {"numeric", no_argument, NULL, 'n'},   {"options", no_argument, NULL, 'o'},   {"extended", no_argument, NULL, 'e'},
    {"memory", no_argument, NULL, 'm'},    {"processes", no_argument, NULL, 'p'}, {"info", no_argument, NULL, 'i'},
    {"summary", no_argument, NULL, 's'},   {"ipv4", no_argument, NULL, '4'},      {"ipv6", no_argument, NULL, '6'},
    {"no-header", no_argument, NULL, 'H'}, {"oneline", no_argument, NULL, 'O'},   {NULL, 0, NULL, 0},
};

int cmd_ss(struct cli *c, int argc, char **argv)
{
    struct ss *s = calloc(1, sizeof *s);
    unsigned states = FILTER_DEFAULT;
    int o, family = 0, status = EXIT_USAGE;
    const char *error;

    if (!s)
        return EXIT_REFUSED;
    s->c = c;
    s->header = true;
    while ((o = getopt_long(argc, argv, "+talnoempis46HO", longs, NULL)) != -1) {
        if (o == '?')
            goto out;
        states = o == 'a' ? FILTER_ALL : o == 'l' ? FILTER_LISTEN | FILTER_CLOSE : states;
        family = o == '4' || o == '6' ? o - '0' : family;
        s->show.numeric |= o == 'n';
        s->show.timer |= o == 'o';
        s->show.extended |= o == 'e';
        s->show.memory |= o == 'm';
        s->show.owner |= o == 'p';
        s->show.info |= o == 'i';
        s->show.one_line |= o == 'O';
        s->summary |= o == 's';
        s->header &= o != 'H';
    }
    if (s->summary)
        states = FILTER_ALL;
    s->filter = filter_parse(argc - optind, argv + optind, states, &error);
    if (!s->filter) {
        cli_usage("%s", error);
        goto out;
    }
    filter_set_family(s->filter, family);
    status = show(s);
out:
    filter_free(s->filter);
    free(s);
    return status;
}
