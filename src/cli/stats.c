/*
 * cli/stats.c: `taut stats`: the counters, with the names of nstat(8) where they mean the same (theory of operation).
 *
 * stats.get tells groups of counters; here they become one list of names: Linux's SNMP and netstat counters of TCP are
 * Tcp... and TcpExt... as in /proc/net, everything else is Taut... (a test holds that against the kernel's own list).
 * Causes and reasons keep the enumeration's name behind a dot: TautCause.RETRANS_FAST, TautDrop.PAWS. Increments are
 * differences of two answers: with -i of two looks, with -d of now and a saved `taut stats --json`.
 */
#include <fnmatch.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

const char stats_options[] =
    "  -z, -a      counters that are 0 too\n"
    "  -x          the meaning of each\n"
    "  -i SECONDS  increments and rates over each of these intervals, 0.1 to 3600, again and again\n"
    "  -c N        with -i: end after N intervals\n"
    "  -d FILE     increments since FILE, an earlier output of 'taut stats --json'\n"
    "  PATTERN     only these, as 'TcpExt*', '*Retrans*' or PassiveOpens; shell patterns, capitals do not matter\n"
    "\n"
    "  Tcp... and TcpExt... mean what nstat(8) tells of the kernel's TCP; Taut... is taut's own.\n";

struct show {
    struct cli *c;
    bool zeros, help;
    double interval;
    long count;
    const char *since;
    int patterns;
    char **pattern;
    double seconds; /* between the two looks; 0: no rates */
};

/* ---- Names ------------------------------------------------------------------------------------------------------------- */

/* Members of group "tcp" in Linux's Tcp: line; of the others those that Linux has not, or means otherwise. */
static const char *const tcp_mib[] = {"ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets",
                                      "InSegs",      "OutSegs",      "RetransSegs",  "OutRsts", "InCsumErrors"};
static const char *const own[] = {"TCPInBytes",  "TCPOutBytes", "TCPInFrames",    "TCPOutFrames",
                                  "TW",          "TCPReqTimeouts", "TCPICMPErrors", "TCPTxFailed",
                                  "TCPFragment", "TCPSackShifted", "TCPRecordCommits", "TCPSACKWalked",
                                  "TCPTimeWaitEvicted", "TCPParked", "TCPWoken", "TCPParkNoRoom"};

static bool among(const char *const *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

static void full_name(const char *group, const char *name, char *ret, size_t n)
{
    const char *prefix = "Taut";

    if (strcmp(group, "tcp") == 0 && among(tcp_mib, sizeof tcp_mib / sizeof *tcp_mib, name))
        prefix = "Tcp";
    else if (strcmp(group, "tcp") == 0 && !among(own, sizeof own / sizeof *own, name))
        prefix = "TcpExt";
    else if (strcmp(group, "tcp_causes") == 0)
        prefix = "TautCause.";
    else if (strcmp(group, "tcp_drops") == 0)
        prefix = "TautDrop.";
    else if (strcmp(group, "stack_drops") == 0)
        prefix = "TautStackDrop.";
    snprintf(ret, n, "%s%s", prefix, name);
}

static const char *unit_of(const char *name)
{
    if (strstr(name, "Bytes"))
        return "bytes";
    if (strstr(name, "Segs") || strstr(name, "Cause.") || strstr(name, "TautDrop."))
        return "segments";
    if (strstr(name, "Frames") || strcmp(name, "TautTapReads") == 0 || strcmp(name, "TautTapWrites") == 0)
        return "frames";
    return "";
}

static bool wanted(const struct show *s, const char *name, const char *full)
{
    bool found = s->patterns == 0;

    for (int i = 0; i < s->patterns && !found; i++)
        found = fnmatch(s->pattern[i], full, FNM_CASEFOLD) == 0 || fnmatch(s->pattern[i], name, FNM_CASEFOLD) == 0;
    return found;
}

/* ---- Printing ---------------------------------------------------------------------------------------------------------- */

static json_int_t value_of(const json_t *v)
{
    return json_integer_value(json_is_object(v) ? json_object_get(v, "value") : v);
}

static void print_one(const struct show *s, const char *group, const char *name, const json_t *v, const json_t *before)
{
    json_int_t n = value_of(v);
    char full[80];

    full_name(group, name, full, sizeof full);
    if (before)
        n -= value_of(json_object_get(json_object_get(before, group), name));
    if ((n == 0 && !s->zeros) || !wanted(s, name, full))
        return;
    printf("%-36s %15lld", full, (long long)n);
    if (s->seconds > 0)
        printf(" %12.1f/s", (double)n / s->seconds);
    if (s->help)
        printf("  %s", jstr(v, "help"));
    else if (unit_of(full)[0])
        printf(" %s", unit_of(full));
    putchar('\n');
}

static void print_all(const struct show *s, const json_t *now, const json_t *before)
{
    const char *group, *name;
    json_t *o, *v;

    json_object_foreach((json_t *)(uintptr_t)now, group, o)
        json_object_foreach(o, name, v)
            print_one(s, group, name, v, before);
}

/* Linux's TcpInCsumErrors is one of the stack's drop reasons. */
static json_t *ask(struct show *s, int *ret_status)
{
    json_t *j = cli_call(s->c, "stats.get", json_pack("{s:b}", "help", (int)s->help), ret_status);
    json_t *drop = json_object_get(json_object_get(j, "stack_drops"), "TCP_CHECKSUM");

    if (j && drop && !s->c->json)
        json_object_set(json_object_get(j, "tcp"), "InCsumErrors", drop);
    return j;
}

static double seconds_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int repeat(struct show *s)
{
    int status;
    json_t *before = ask(s, &status), *now;
    double at = seconds_now();

    for (long i = 0; before && !*s->c->stopped && (s->count == 0 || i < s->count); i++) {
        double then = at;

        nanosleep(&(struct timespec){.tv_sec = (time_t)s->interval,
                                     .tv_nsec = (long)((s->interval - floor(s->interval)) * 1e9)},
                  NULL);
        if (*s->c->stopped || !(now = ask(s, &status)))
            break;
        at = seconds_now();
        s->seconds = at - then;
        if (i > 0)
            putchar('\n');
        print_all(s, now, before);
        json_decref(before);
        before = now;
        if (fflush(stdout) != 0)
            status = EXIT_REFUSED;
        if (status != EXIT_OK)
            break;
    }
    json_decref(before);
    return status;
}

static int once(struct show *s)
{
    json_t *before = NULL, *now;
    json_error_t error;
    int status;

    if (s->since) {
        before = json_load_file(s->since, 0, &error);
        if (!before || !json_is_object(json_object_get(before, "tcp"))) {
            fprintf(stderr, "taut: %s: %s\n", s->since,
                    before ? "is no output of 'taut stats --json'" : error.text);
            json_decref(before);
            return EXIT_REFUSED;
        }
    }
    now = ask(s, &status);
    if (now && s->c->json)
        cli_print_json(now);
    else if (now)
        print_all(s, now, before);
    json_decref(before);
    json_decref(now);
    return status;
}

int cmd_stats(struct cli *c, int argc, char **argv)
{
    struct show s = {.c = c};
    char *end;
    int o;

    while ((o = getopt(argc, argv, "azxi:c:d:")) != -1) {
        s.zeros |= o == 'a' || o == 'z';
        s.help |= o == 'x';
        if (o == '?' || (o == 'c' && !cli_number("-c", optarg, 1, 1000000000, &s.count)))
            return EXIT_USAGE;
        if (o == 'd')
            s.since = optarg;
        if (o != 'i')
            continue;
        s.interval = strtod(optarg, &end);
        if (end == optarg || *end || !(s.interval >= 0.1 && s.interval <= 3600))
            return cli_usage("-i: seconds from 0.1 to 3600 are expected, not \"%s\"", optarg);
    }
    s.patterns = argc - optind;
    s.pattern = argv + optind;
    if (s.interval > 0 && (s.since || c->json))
        return cli_usage("-i goes together neither with -d nor with --json");
    if (s.count && s.interval <= 0)
        return cli_usage("-c goes together with -i only");
    return s.interval > 0 ? repeat(&s) : once(&s);
}
