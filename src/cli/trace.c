/*
 * cli/trace.c: `taut trace`: what the flight recorder has, from the daemon or from a file that was saved.
 *
 * A record is fetched as one or more sections (trace.get, base64), each a head and events; they are decoded and turned
 * into text by src/trace. Following asks again every FOLLOW_MS: what was overwritten meanwhile is told as lost. Files
 * are dumps as docs/trace-format.md has them; anything else is refused with a sentence.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/out.h"
#include "cli/record.h"
#include "trace/trace.h"

#define FOLLOW_MS 100

struct options {
    bool follow, pkt, dead;
    const char *out;
};

/* ---- showing ---- */

int cli_damaged(const char *what, const char *why)
{
    fprintf(stderr, "taut: %s%s%s\n", what ? what : "", what ? ": " : "", why);
    return EXIT_REFUSED;
}

/* Prints the events of one section; what: the file, or NULL. */
static int show_events(const struct cli *c, const char *what, const struct trace *tr, struct trace_story *story)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    int r;

    while ((r = trace_next(tr, &cursor, &ev)) == 1) {
        struct trace_text text = {0};

        if (c->json) {
            trace_json_event(tr, &ev, &text);
            trace_print(&text, "\n");
        } else {
            trace_story_event(tr, &ev, story, &text);
        }
        if (text.at)
            fwrite(text.at, 1, text.len, stdout);
        trace_text_free(&text);
    }
    return r < 0 ? cli_damaged(what, "the trace is damaged from here on") : EXIT_OK;
}

static void show_head(const struct cli *c, const struct trace *tr)
{
    struct trace_text text = {0};

    if (c->json) {
        trace_json_head(tr, &text);
        trace_print(&text, "\n");
    } else {
        trace_story_head(tr, &text);
    }
    if (text.at)
        fwrite(text.at, 1, text.len, stdout);
    trace_text_free(&text);
}

static int show_packetdrill(const char *what, const struct trace *tr)
{
    struct trace_text text = {0};
    const char *why = "?";
    int r = trace_packetdrill(tr, &text, &why);

    if (r == 0)
        fwrite(text.at, 1, text.len, stdout);
    trace_text_free(&text);
    return r == 0 ? EXIT_OK : cli_damaged(what, why);
}

/* Every section of a dump; of scripts, every record. */
static int show_dump(const struct cli *c, const struct options *o, const char *what, const struct bytes *b)
{
    struct trace_story story = {0};
    size_t pos = 0;
    int status = EXIT_OK;

    while (status == EXIT_OK && pos < b->n) {
        const char *why = "?";
        size_t used, bytes = b->n - pos;
        struct trace tr;

        if ((o->pkt && trace_join(b->at + pos, bytes, &used, &bytes, &why) < 0) ||
            trace_open(b->at + pos, bytes, &tr, o->pkt ? NULL : &used, &why) < 0)
            return cli_damaged(what, why);
        pos += used;
        if (o->pkt) {
            status = show_packetdrill(what, &tr);
            continue;
        }
        if (!story.began || tr.head.first_event == 0)
            show_head(c, &tr);
        status = show_events(c, what, &tr, &story);
    }
    return status;
}

int cli_save_file(const char *path, const void *bytes, size_t n)
{
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "wb");
    bool ok = f && fwrite(bytes, 1, n, f) == n;

    ok = f && (to_stdout ? fflush(f) : fclose(f)) == 0 && ok;
    if (!ok)
        fprintf(stderr, "taut: %s: %s\n", path, strerror(errno));
    return ok ? EXIT_OK : EXIT_REFUSED;
}

/* ---- from the daemon ---- */

/* Appends what base64 stands for; false: it is none, or no memory. */
static bool append_base64(struct bytes *b, const char *text)
{
    uint8_t *more = realloc(b->at, b->n + strlen(text) / 4 * 3 + 4);
    ptrdiff_t n;

    if (!more)
        return false;
    b->at = more;
    n = trace_base64(text, b->at + b->n);
    if (n > 0)
        b->n += (size_t)n;
    return n >= 0;
}

/* Where a reader of a record stands. */
struct reading {
    json_int_t next, end; /* end: of the record, at the last answer */
    bool dead;
};

/* The next piece of a record, appended to b; at->next moves on. False with the status. */
static bool fetch(struct cli *c, const char *id, struct reading *at, struct bytes *b, int *ret_status)
{
    json_t *j = cli_call(c, "trace.get", json_pack("{s:s, s:I}", "id", id, "after", at->next), ret_status);
    bool ok;

    if (!j)
        return false;
    ok = append_base64(b, jstr(j, "data"));
    at->next = jint(j, "next");
    at->end = jint(j, "end");
    at->dead = strcmp(jstr(j, "kind"), "dead") == 0;
    json_decref(j);
    if (!ok)
        *ret_status = cli_damaged(NULL, "the daemon's answer can't be read");
    return ok;
}

/*
 * Up to where it ended when it was first asked for: a busy connection's never ends. A record that began anew meanwhile
 * (its end is behind) makes that end nearer, never further.
 */
int cli_fetch_record(struct cli *c, const char *id, struct bytes *ret)
{
    struct reading at = {0};
    json_int_t end = INT64_MAX, before;
    const char *why = "?";
    size_t used, bytes;
    int status = EXIT_OK;

    do {
        before = at.next;
        if (!fetch(c, id, &at, ret, &status))
            return status;
        if (at.end < end)
            end = at.end;
    } while (at.next < end && at.next != before && !*c->stopped);
    if (trace_join(ret->at, ret->n, &used, &bytes, &why) < 0)
        return cli_damaged(NULL, "the daemon's answer can't be read");
    ret->n = bytes;
    return EXIT_OK;
}

static int trace_record(struct cli *c, const struct options *o, const char *id)
{
    struct bytes b = {0};
    int status = cli_fetch_record(c, id, &b);

    if (status == EXIT_OK)
        status = o->out ? cli_save_file(o->out, b.at, b.n) : show_dump(c, o, NULL, &b);
    free(b.at);
    return status;
}

static int follow_record(struct cli *c, const char *id)
{
    const struct timespec wait = {.tv_nsec = FOLLOW_MS * 1000000L};
    struct trace_story story = {0};
    struct reading at = {0};
    bool began = false;
    int status = EXIT_OK;

    while (!*c->stopped && status == EXIT_OK) {
        struct bytes b = {0};
        json_int_t before = at.next;
        struct trace tr;

        if (!fetch(c, id, &at, &b, &status)) {
            free(b.at);
            return began && status == EXIT_REFUSED ? EXIT_OK : status; /* it ended in good order */
        }
        if (at.next != before && trace_open(b.at, b.n, &tr, NULL, NULL) == 0) {
            if (!began)
                show_head(c, &tr);
            else if (tr.head.first_event > (uint64_t)before && !c->json)
                printf("# %llu events lost\n", (unsigned long long)(tr.head.first_event - (uint64_t)before));
            began = true;
            status = show_events(c, NULL, &tr, &story);
            fflush(stdout);
        }
        free(b.at);
        if (at.next == before && at.dead)
            break;
        if (at.next == before)
            nanosleep(&wait, NULL);
    }
    return status;
}

/* ---- the list ---- */

static void list_table(const json_t *rows)
{
    static const char *const head[] = {"ID", "KIND", "LOCAL", "PEER", ">EVENTS", ">LOST", ">SILENT", "END"};
    struct table t;
    size_t i;
    const json_t *row;

    table_init(&t, head, 8);
    json_array_foreach(rows, i, row)
    {
        char events[32], lost[32], silent[32], end[64];
        const char *error = jstr(row, "error");

        snprintf(events, sizeof events, "%lld", (long long)jint(row, "events"));
        snprintf(lost, sizeof lost, "%lld", (long long)jint(row, "lost"));
        snprintf(end, sizeof end, "%s%s%s", jstr(row, "end"), *error ? " " : "", error);
        table_row(&t, (const char *[]){jstr(row, "id"), jstr(row, "kind"), jstr(row, "local"), jstr(row, "peer"), events,
                                       lost,
                                       human_us(json_number_value(json_object_get(row, "silent_s")) * 1e6, silent,
                                                sizeof silent),
                                       end});
    }
    table_print(&t, stdout);
}

static int list_records(struct cli *c, const struct options *o)
{
    json_t *all = json_array(), *next = NULL;
    int status = EXIT_OK;

    do {
        json_t *page = cli_call(c, "trace.list", json_pack("{s:b, s:o*}", "dead", (int)o->dead, "after", next), &status);

        next = NULL;
        if (!page)
            break;
        json_array_extend(all, json_object_get(page, "records"));
        next = json_incref(json_object_get(page, "next"));
        json_decref(page);
    } while (json_is_integer(next) && !*c->stopped);
    json_decref(next);
    if (status == EXIT_OK && c->json)
        cli_print_json(all);
    else if (status == EXIT_OK)
        list_table(all);
    json_decref(all);
    return status;
}

/* ---- from a file ---- */

int cli_load_file(const char *path, size_t max, struct bytes *ret)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    int status = EXIT_REFUSED;

    if (!f || fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode)) {
        cli_damaged(path, f ? "no file" : strerror(errno));
    } else if ((size_t)st.st_size > max) {
        cli_damaged(path, "too long to be read");
    } else if (!(ret->at = malloc((size_t)st.st_size + 1))) {
        cli_damaged(path, "no memory");
    } else {
        ret->n = fread(ret->at, 1, (size_t)st.st_size, f);
        status = ret->n ? EXIT_OK : cli_damaged(path, "the file is empty");
    }
    if (f)
        fclose(f);
    return status;
}

static int trace_file(struct cli *c, const struct options *o, const char *path)
{
    struct bytes b = {0};
    int status = cli_load_file(path, CLI_RECORD_MAX, &b);

    if (status == EXIT_OK)
        status = show_dump(c, o, path, &b);
    free(b.at);
    return status;
}

bool cli_is_id(const char *text)
{
    size_t n = strspn(text, "0123456789");

    if (strcmp(text, "engine") == 0)
        return true;
    return n > 0 && text[n] == '.' && text[n + 1] && strspn(text + n + 1, "0123456789abcdef") == strlen(text + n + 1);
}

static int describe(void)
{
    struct trace_text text = {0};

    trace_describe(&text);
    if (text.at)
        fwrite(text.at, 1, text.len, stdout);
    trace_text_free(&text);
    return EXIT_OK;
}

/* One thing at a time, and nothing that would be ignored. */
static bool fits(const struct cli *c, const struct options *o, int names, bool file, bool format)
{
    int ways = o->follow + o->pkt + o->dead + (o->out != NULL) + format;

    if (names > 1 || ways > 1 || (c->json && (o->pkt || o->out || format)))
        return false;
    if (names == 0)
        return !o->follow && !o->pkt && !o->out;
    return !o->dead && !format && !(file && (o->follow || o->out));
}

int cmd_trace(struct cli *c, int argc, char **argv)
{
    static const struct option longs[] = {{"follow", no_argument, NULL, 'f'}, {"pkt", no_argument, NULL, 'p'},
                                          {"dead", no_argument, NULL, 'd'},   {"output", required_argument, NULL, 'o'},
                                          {"format", no_argument, NULL, 'F'}, {NULL, 0, NULL, 0}};
    struct options o = {0};
    const char *what;
    bool format = false, file;
    int opt;

    while ((opt = getopt_long(argc, argv, "fpdo:", longs, NULL)) != -1) {
        switch (opt) {
        case 'f':
            o.follow = true;
            break;
        case 'p':
            o.pkt = true;
            break;
        case 'd':
            o.dead = true;
            break;
        case 'o':
            o.out = optarg;
            break;
        case 'F':
            format = true;
            break;
        default:
            return EXIT_USAGE;
        }
    }
    what = optind < argc ? argv[optind] : NULL;
    file = what && !cli_is_id(what);
    if (!fits(c, &o, argc - optind, file, format))
        return cli_usage("trace [--dead] | ID|engine|FILE [--pkt] | ID|engine [--follow | -o FILE] | --format");
    if (format)
        return describe();
    if (file)
        return trace_file(c, &o, what);
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    if (!what)
        return list_records(c, &o);
    return o.follow ? follow_record(c, what) : trace_record(c, &o, what);
}
