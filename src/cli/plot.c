/*
 * cli/plot.c: `taut plot`: the time-sequence graph of a record, from the daemon or a file, or of a connection in a capture
 * that somebody else made (pcap, pcapng). Drawing is src/trace's. Output goes to a file only when it is whole.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"
#include "cli/record.h"
#include "trace/plot.h"

#define CAPTURE_MAX ((size_t)2 << 30)

const char plot_options[] =
    "  -o, --output FILE  the picture (default, and \"-\": standard output)\n"
    "  -s, --stream N of a capture: connection N, counted from 0 (default: the one with the most data)\n"
    "  -l, --streams  of a capture: lists its connections\n"
    "  --sent, --received  data that we sent, or received; of a capture: that the sender of its first packet sent, or\n"
    "                 received (default: the direction with more data)\n"
    "  --from SECONDS, --to SECONDS  this part of the time only\n"
    "  --title TEXT   goes before the addresses\n";

struct options {
    const char *out;
    long stream; /* -1: the largest */
    bool list;
    enum plot_direction direction;
    struct plot_style style;
};

static int draw(const char *what, const struct plot *p, const struct options *o)
{
    struct trace_text out = {0};
    int status;

    if (!p->any)
        return cli_damaged(what, "there are no segments of a connection");
    plot_svg(p, &o->style, &out);
    status = out.failed ? cli_damaged(what, "no memory") : cli_save_file(o->out, out.at, out.len);
    trace_text_free(&out);
    return status;
}

/* ---- records ---- */

static int plot_record(const char *what, const struct bytes *b, const struct options *o)
{
    struct plot p = {0};
    enum plot_direction direction = o->direction;
    const char *why = NULL;
    size_t pos = 0, used;
    int status;

    while (!why && pos < b->n) {
        struct trace tr;
        int r;

        if (trace_open(b->at + pos, b->n - pos, &tr, &used, &why) < 0)
            break;
        pos += used;
        if (direction == PLOT_MORE)
            direction = plot_trace_direction(&tr);
        r = plot_from_trace(&p, &tr, direction);
        if (r < 0)
            why = r == -EINVAL ? "what belongs to no connection has no graph" : r == -ENOMEM ? "no memory"
                                                                                            : "the trace is damaged";
    }
    status = why ? cli_damaged(what, why) : draw(what, &p, o);
    plot_free(&p);
    return status;
}

/* ---- captures ---- */

static size_t largest(const struct capture_streams *s)
{
    size_t best = 0;

    for (size_t i = 1; i < s->n; i++) {
        if (s->at[i].bytes[0] + s->at[i].bytes[1] > s->at[best].bytes[0] + s->at[best].bytes[1])
            best = i;
    }
    return best;
}

static void list(const struct capture_streams *s)
{
    static const char *const titles[] = {">STREAM", "FROM", "TO", ">PACKETS", ">BYTES", ">BACK", ">SECONDS"};
    struct table t;

    table_init(&t, titles, 7);
    for (size_t i = 0; i < s->n; i++) {
        const struct capture_stream *x = &s->at[i];
        char n[5][32], from[IP_ADDR_PORT_MAX], to[IP_ADDR_PORT_MAX];

        snprintf(n[0], sizeof n[0], "%zu", i);
        snprintf(n[1], sizeof n[1], "%llu", (unsigned long long)x->packets);
        snprintf(n[2], sizeof n[2], "%llu", (unsigned long long)x->bytes[0]);
        snprintf(n[3], sizeof n[3], "%llu", (unsigned long long)x->bytes[1]);
        snprintf(n[4], sizeof n[4], "%.3f", (double)(int64_t)(x->last_ns - x->first_ns) / 1e9);
        table_row(&t, (const char *[]){n[0], trace_addr_text(x->addr[0].b, x->addr[0].family, x->port[0], from),
                                       trace_addr_text(x->addr[1].b, x->addr[1].family, x->port[1], to), n[1], n[2], n[3],
                                       n[4]});
    }
    table_print(&t, stdout);
}

static int plot_capture(const char *path, const struct bytes *b, const struct options *o)
{
    struct capture_streams s;
    struct plot p = {0};
    const char *why = "?";
    size_t number;
    int status;

    if (capture_list(b->at, b->n, &s, &why) < 0)
        return cli_damaged(path, why);
    number = o->stream >= 0 ? (size_t)o->stream : largest(&s);
    if (s.n == 0) {
        status = cli_damaged(path, "the capture has no TCP segments of a known link type");
    } else if (o->list) {
        list(&s);
        status = EXIT_OK;
    } else if (plot_from_capture(&p, b->at, b->n, number, o->direction, &why) < 0) {
        status = cli_damaged(path, why);
    } else {
        status = draw(path, &p, o);
    }
    plot_free(&p);
    capture_streams_free(&s);
    return status;
}

static int plot_file(const char *path, const struct options *o)
{
    struct bytes b = {0};
    int status = cli_load_file(path, CAPTURE_MAX, &b);

    if (status == EXIT_OK) {
        if (capture_is_one(b.at, b.n))
            status = plot_capture(path, &b, o);
        else if (o->list || o->stream >= 0)
            status = cli_damaged(path, "this is no pcap or pcapng file");
        else if (b.n < 8 || memcmp(b.at, "TAUTREC1", 8) != 0)
            status = cli_damaged(path, "this is no trace of taut's, no pcap and no pcapng file");
        else
            status = plot_record(path, &b, o);
    }
    free(b.at);
    return status;
}

static bool seconds(const char *what, const char *text, double *ret)
{
    char *end;

    *ret = strtod(text, &end);
    if (end != text && !*end && *ret >= 0 && *ret < 1e9)
        return true;
    cli_usage("%s: seconds are expected, not \"%s\"", what, text);
    return false;
}

/* EXIT_OK: go on. */
static int parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {{"output", required_argument, NULL, 'o'}, {"stream", required_argument, NULL, 's'},
                                          {"streams", no_argument, NULL, 'l'},      {"sent", no_argument, NULL, 'O'},
                                          {"received", no_argument, NULL, 'I'},     {"from", required_argument, NULL, 'f'},
                                          {"to", required_argument, NULL, 't'},     {"title", required_argument, NULL, 'T'},
                                          {NULL, 0, NULL, 0}};
    bool ok = true;
    int opt;

    while (ok && (opt = getopt_long(argc, argv, "o:s:l", longs, NULL)) != -1) {
        switch (opt) {
        case 'o':
            o->out = optarg;
            break;
        case 's':
            ok = cli_number("--stream", optarg, 0, 1 << 22, &o->stream);
            break;
        case 'l':
            o->list = true;
            break;
        case 'O':
        case 'I':
            o->direction = opt == 'O' ? PLOT_OUT : PLOT_IN;
            break;
        case 'f':
        case 't':
            ok = seconds(opt == 'f' ? "--from" : "--to", optarg, opt == 'f' ? &o->style.from : &o->style.to);
            break;
        case 'T':
            o->style.title = optarg;
            break;
        default:
            return EXIT_USAGE;
        }
    }
    if (ok && o->style.from > 0 && o->style.to <= o->style.from) {
        cli_usage("--from needs a --to behind it");
        ok = false;
    }
    return ok ? EXIT_OK : EXIT_USAGE;
}

int cmd_plot(struct cli *c, int argc, char **argv)
{
    struct options o = {.out = "-", .stream = -1};
    struct bytes b = {0};
    int status = parse(argc, argv, &o);

    if (status != EXIT_OK)
        return status;
    if (argc - optind != 1)
        return cli_usage("plot ID|FILE [-o FILE.svg]");
    if (!cli_is_id(argv[optind]))
        return plot_file(argv[optind], &o);
    if (o.list || o.stream >= 0)
        return cli_usage("--stream and --streams are for captures");
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    status = cli_fetch_record(c, argv[optind], &b);
    if (status == EXIT_OK)
        status = plot_record(NULL, &b, &o);
    free(b.at);
    return status;
}
