/*
 * cli/export.c: `taut export`: a record of the flight recorder, from the daemon or a file, for other programs. The work is
 * src/trace's; here is which record, and where to.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/record.h"
#include "trace/export.h"

#define APP "taut " TAUT_VERSION

struct format {
    void (*begin)(const struct trace *tr, const char *app, struct trace_text *out);
    int (*add)(const struct trace *tr, struct trace_text *out);
};

/* Every section of a dump: they are pieces of one record; what: the file, or NULL. */
static int export_dump(const char *what, const struct bytes *b, const struct format *f, const char *path)
{
    struct trace_text out = {0};
    size_t pos = 0, used;
    int r = 0, status;

    while (r == 0 && pos < b->n) {
        const char *why = "?";
        struct trace tr;

        if (trace_open(b->at + pos, b->n - pos, &tr, &used, &why) < 0) {
            trace_text_free(&out);
            return cli_damaged(what, why);
        }
        if (pos == 0)
            f->begin(&tr, APP, &out);
        pos += used;
        r = f->add(&tr, &out);
    }
    if (r < 0 || out.failed)
        status = cli_damaged(what, out.failed ? "no memory" : "the trace is damaged");
    else
        status = cli_save_file(path, out.at, out.len);
    trace_text_free(&out);
    return status;
}

int cmd_export(struct cli *c, int argc, char **argv)
{
    static const struct option longs[] = {{"pcapng", required_argument, NULL, 'p'}, {"qlog", required_argument, NULL, 'q'},
                                          {NULL, 0, NULL, 0}};
    static const struct format pcapng = {trace_pcapng_begin, trace_pcapng}, qlog = {trace_qlog_begin, trace_qlog};
    const char *to_pcapng = NULL, *to_qlog = NULL, *what, *file;
    struct bytes b = {0};
    int opt, status;

    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (opt == 'p')
            to_pcapng = optarg;
        else if (opt == 'q')
            to_qlog = optarg;
        else
            return EXIT_USAGE;
    }
    if (argc - optind != 1 || (!to_pcapng && !to_qlog))
        return cli_usage("export ID|engine|FILE [--pcapng FILE] [--qlog FILE]: one record, one format or both");
    if (to_pcapng && to_qlog && strcmp(to_pcapng, "-") == 0 && strcmp(to_qlog, "-") == 0)
        return cli_usage("one format only goes to standard output");
    what = argv[optind];
    file = cli_is_id(what) ? NULL : what;
    if (file)
        status = cli_load_file(what, CLI_RECORD_MAX, &b);
    else
        status = cli_daemon(c) ? cli_fetch_record(c, what, &b) : EXIT_NO_DAEMON;
    if (status == EXIT_OK && to_pcapng)
        status = export_dump(file, &b, &pcapng, to_pcapng);
    if (status == EXIT_OK && to_qlog)
        status = export_dump(file, &b, &qlog, to_qlog);
    free(b.at);
    return status;
}
