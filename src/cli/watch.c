/*
 * cli/watch.c: ping, events, reload, version. ping sends one request a call and prints as it goes, so that
 * what it shows is never older than one echo; its summary comes on Ctrl-C too. events prints a line an event
 * until it is interrupted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "cli/clean.h"
#include "cli/cli.h"
#include "cli/out.h"

/* ---- ping
 * -------------------------------------------------------------------------------------------------------- */

struct pings {
    char address[INET6_ADDRSTRLEN + 16];
    long count, bytes;
    double interval;
    unsigned sent, received;
    double min, max, sum;
    json_t *replies;
};

static bool resolve(const char *host, struct pings *p)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int r;

    if (strchr(host, ':') || inet_pton(AF_INET, host, p->address) == 1) {
        snprintf(p->address, sizeof p->address, "%s", host);
        return true;
    }
    r = getaddrinfo(host, NULL, &hints, &list);
    if (r) {
        fprintf(stderr, "taut: %s: %s\n", host, gai_strerror(r));
        return false;
    }
    r = getnameinfo(list->ai_addr, list->ai_addrlen, p->address, sizeof p->address, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(list);
    return r == 0;
}

static void count_reply(struct cli *c, struct pings *p, json_t *reply)
{
    double us = json_number_value(json_object_get(reply, "rtt_us"));
    char text[32];

    json_object_set_new(reply, "seq", json_integer(p->sent));
    json_array_append(p->replies, reply);
    if (json_object_get(reply, "error")) {
        if (!c->json)
            printf("%s: seq=%u %s\n", p->address, p->sent, jstr(reply, "error"));
        return;
    }
    p->min = p->received == 0 || us < p->min ? us : p->min;
    p->max = us > p->max ? us : p->max;
    p->sum += us;
    p->received++;
    if (!c->json)
        printf("%lld bytes from %s: seq=%u ttl=%lld time=%s\n", (long long)jint(reply, "bytes"), p->address,
               p->sent, (long long)jint(reply, "ttl"), human_us(us, text, sizeof text));
}

static void ping_summary(struct cli *c, const struct pings *p)
{
    char a[32], b[32], m[32];
    double mean = p->received ? p->sum / p->received : 0;

    if (c->json) {
        json_t *j = json_pack("{s:s, s:O, s:i, s:i, s:f, s:f, s:f}", "address", p->address, "replies",
                              p->replies, "sent", (int)p->sent, "received", (int)p->received, "min_us",
                              p->min, "avg_us", mean, "max_us", p->max);

        cli_print_json(j);
        json_decref(j);
        return;
    }
    printf("%u sent, %u received, %.0f%% lost", p->sent, p->received,
           p->sent ? 100.0 * (p->sent - p->received) / p->sent : 0.0);
    if (p->received)
        printf(", min/avg/max %s / %s / %s", human_us(p->min, a, sizeof a), human_us(mean, m, sizeof m),
               human_us(p->max, b, sizeof b));
    putchar('\n');
}

static int ping_loop(struct cli *c, struct pings *p)
{
    int status = EXIT_OK;

    while (!*c->stopped && (p->count == 0 || p->sent < (unsigned)p->count)) {
        struct timespec wait = {.tv_sec = (time_t)p->interval,
                                .tv_nsec = (long)((p->interval - (double)(time_t)p->interval) * 1e9)};
        json_t *j;

        if (p->sent > 0)
            nanosleep(&wait, NULL);
        if (*c->stopped)
            break;
        j = cli_call(c, "icmp.ping", json_pack("{s:s, s:i}", "address", p->address, "bytes", (int)p->bytes),
                     &status);
        if (!j)
            break;
        p->sent++;
        count_reply(c, p, json_array_get(json_object_get(j, "replies"), 0));
        json_decref(j);
        fflush(stdout);
    }
    return status;
}

int cmd_ping(struct cli *c, int argc, char **argv)
{
    struct pings p = {.bytes = 56, .interval = 1};
    char *end;
    int o, status;

    while ((o = getopt(argc, argv, "c:i:s:")) != -1) {
        if (o == '?' || (o == 'c' && !cli_number("-c", optarg, 1, 1000000, &p.count)) ||
            (o == 's' && !cli_number("-s", optarg, 0, 1400, &p.bytes)))
            return EXIT_USAGE;
        if (o != 'i')
            continue;
        p.interval = strtod(optarg, &end);
        if (end == optarg || *end || !(p.interval >= 0.01 && p.interval <= 3600))
            return cli_usage("-i: seconds from 0.01 to 3600 are expected, not \"%s\"", optarg);
    }
    if (argc - optind != 1)
        return cli_usage("ping HOST");
    if (!resolve(argv[optind], &p))
        return EXIT_REFUSED;
    p.replies = json_array();
    status = ping_loop(c, &p);
    if (status == EXIT_OK || p.sent)
        ping_summary(c, &p);
    json_decref(p.replies);
    return status != EXIT_OK ? status : p.received ? EXIT_OK : EXIT_REFUSED;
}

/* ---- events
 * ------------------------------------------------------------------------------------------------------ */

static void print_event(const json_t *e)
{
    static const char *const hidden[] = {"seq", "dropped", "time", "kind"};
    const char *time = jstr(e, "time"), *key;
    json_t *v;

    printf("%-27s %-8s", time[0] ? time : "(now)", jstr(e, "kind"));
    json_object_foreach((json_t *)(uintptr_t)e, key, v)
    {
        bool hide = json_is_null(v) || json_is_false(v);

        for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
            hide |= strcmp(key, hidden[i]) == 0;
        if (hide)
            continue;
        if (json_is_string(v))
            printf(" %s=%s", key, json_string_value(v));
        else if (json_is_true(v))
            printf(" %s", key);
        else
            printf(" %s=%g", key, json_number_value(v));
    }
    putchar('\n');
}

int cmd_events(struct cli *c, int argc, char **argv)
{
    const char *kinds = NULL;
    json_int_t dropped = 0;
    char *text;
    int o, r;

    while ((o = getopt(argc, argv, "k:")) != -1) {
        if (o == '?')
            return EXIT_USAGE;
        kinds = optarg;
    }
    if (optind < argc)
        return cli_usage("events takes no arguments but options");
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    r = taut_subscribe(c->t, kinds);
    while (r == 0 && !*c->stopped && (r = taut_next_event(c->t, -1, &text)) == 0) {
        json_t *e = json_loads(text, 0, NULL);

        clean_json(e);
        if (c->json)
            puts(text);
        else if (jint(e, "dropped") > dropped)
            printf("(%lld events dropped)\n", (long long)(jint(e, "dropped") - dropped));
        if (!c->json)
            print_event(e);
        dropped = jint(e, "dropped");
        json_decref(e);
        free(text);
        if (fflush(stdout) != 0)
            return EXIT_REFUSED;
    }
    return r < 0 && r != -EINTR ? cli_failed(c, r) : EXIT_OK;
}

/* ---- reload, version
 * --------------------------------------------------------------------------------------------- */

static void print_reload(const json_t *j)
{
    const json_t *ignored = json_object_get(j, "needs_restart"), *row;
    size_t i;

    puts("reloaded: forwards, services, log level");
    if (json_array_size(ignored))
        puts("changed in the file, but without effect until the daemon is started again:");
    json_array_foreach(ignored, i, row)
        printf("  %s: %s in the file, %s in use\n", jstr(row, "name"), jstr(row, "file"), jstr(row, "value"));
}

int cmd_reload(struct cli *c, int argc, char **argv)
{
    int status;
    json_t *j;

    (void)argv;
    if (argc > 1)
        return cli_usage("reload takes no arguments");
    j = cli_call(c, "server.reload", NULL, &status);
    if (j && c->json)
        cli_print_json(j);
    else if (j)
        print_reload(j);
    json_decref(j);
    return status;
}

int cmd_version(struct cli *c, int argc, char **argv)
{
    int status = EXIT_OK;
    json_t *j = NULL;

    (void)argv;
    if (argc > 1)
        return cli_usage("version takes no arguments");
    if (c->t || (c->t = taut_open(c->socket)) != NULL)
        j = cli_call(c, "server.hello", json_pack("{s:s}", "client", "taut"), &status);
    if (c->json && j)
        cli_print_json(j);
    else
        printf("taut %s\n%s %s\n", TAUT_VERSION, j ? "tautd" : "no daemon reachable",
               j ? jstr(j, "version") : "");
    json_decref(j);
    return status;
}
