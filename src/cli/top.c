/*
 * cli/top.c: `taut top`: the screen and its keys (theory of operation).
 *
 * One list of lines is made for a width (header(), heading(), rows or a connection's page) and either drawn by ncurses or,
 * in batch mode, printed; so both show the same. The loop waits for a key until the next look is due. Nothing is kept of
 * the screen's size: each drawing asks for it and takes the columns that fit, by their rank. Texts of others were cleaned
 * when they came (clean.h), so no name can steer the terminal.
 */
#include <curses.h>
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/clean.h"
#include "cli/out.h"
#include "cli/top.h"

const char top_options[] =
    "  -d SECONDS  delay between two looks, 0.1 to 3600 (default 2)\n"
    "  -n N        end after N looks\n"
    "  -b          batch: print instead of drawing; for scripts, needs no terminal\n"
    "  -s COLUMN   sort by id, state, local, peer, owner, in, out, retrans, rtt, cwnd or limit (default out)\n"
    "  -r          the other way round\n"
    "  -a          idle connections too, in tables of more than 2,000\n"
    "  FILTER      as of 'taut ss'; default: all states but listeners\n"
    "\n"
    "  Keys: I O R T W L P U S N sort by in, out, retrans, rtt, cwnd, limit, peer, owner, state, id; r reverse; < > next\n"
    "  column; arrows, PgUp, PgDn move; Enter opens a connection, Esc leaves it; f filter; a idle too; space pause;\n"
    "  h help; q quit.\n";

enum view { VIEW_LIST, VIEW_CONN, VIEW_HELP };
enum style { PLAIN, BOLD, REVERSE };

struct top {
    struct top_data d;
    bool batch, paused, quit;
    long looks, looked;
    enum view view;
    size_t selected, first; /* rows */
    int scroll;             /* lines of VIEW_CONN */
    char opened[TAUT_ID_MAX], message[256], typed[200];
    bool typing;
    json_t *conn;
    double next;
    int y, width, height; /* of this drawing */
};

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- Lines ------------------------------------------------------------------------------------------------------------- */

/* Cuts to a number of characters (of UTF-8), not bytes. */
static void cut(char *text, int characters)
{
    char *p = text;

    while (*p && (characters > 0 || ((unsigned char)*p & 0xc0) == 0x80)) {
        characters -= ((unsigned char)*p & 0xc0) != 0x80;
        p++;
    }
    if (((unsigned char)*p & 0xc0) != 0x80)
        *p = '\0';
}

static int characters(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

__attribute__((format(printf, 3, 4))) static void put(struct top *t, enum style style, const char *fmt, ...)
{
    char text[2048];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cut(text, t->width);
    if (t->batch) {
        size_t n = strlen(text);

        while (n > 0 && text[n - 1] == ' ')
            text[--n] = '\0';
        puts(text);
        return;
    }
    if (t->y >= t->height)
        return;
    attrset(style == BOLD ? A_BOLD : style == REVERSE ? A_REVERSE : A_NORMAL);
    mvaddstr(t->y, 0, text);
    if (style == REVERSE)
        for (int x = characters(text); x < t->width; x++)
            addch(' ');
    attrset(A_NORMAL);
    t->y++;
}

static void put_rates(struct top *t, const char *title, const struct top_rate *list, double total)
{
    char text[512];
    size_t n = (size_t)snprintf(text, sizeof text, "%s %.0f/s", title, total);

    for (unsigned i = 0; i < TOP_RATES && list[i].per_s > 0; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s %.3g", i ? ", " : ": ", list[i].name, list[i].per_s);
    put(t, PLAIN, "%s", text);
}

static double sum_rates(const struct top_data *d, const char *group)
{
    double sum = 0;
    const char *name;
    json_t *v;

    json_object_foreach(json_object_get(d->stats, group), name, v)
        sum += top_counter_rate(d, group, name);
    return sum;
}

static void header(struct top *t)
{
    const struct top_data *d = &t->d;
    const json_t *totals = json_object_get(d->status, "totals"), *memory = json_object_get(d->status, "memory");
    double out = top_counter_rate(d, "tcp", "OutSegs"), again = top_counter_rate(d, "tcp", "RetransSegs");
    char up[32], in_rate[32], out_rate[32], used[32], budget[32];

    put(t, BOLD, "taut top  %s  up %s  every %g s%s%s", jstr(json_object_get(d->status, "interface"), "name"),
        human_us(json_number_value(json_object_get(d->status, "uptime_s")) * 1e6, up, sizeof up), d->delay_s,
        t->paused ? "  PAUSED" : "", json_is_true(json_object_get(d->status, "draining")) ? "  DRAINING" : "");
    put(t, PLAIN, "connections %lld: established %lld, half-open %lld, time-wait %lld, orphans %lld; buffers %s of %s",
        (long long)(jint(totals, "connections") + jint(totals, "half_open") + jint(totals, "time_wait")),
        (long long)jint(totals, "established"), (long long)jint(totals, "half_open"),
        (long long)jint(totals, "time_wait"), (long long)jint(totals, "orphans"),
        human_bytes((uint64_t)jint(memory, "chunk_bytes_used"), used, sizeof used),
        human_bytes((uint64_t)jint(memory, "chunk_bytes_budget"), budget, sizeof budget));
    put(t, PLAIN, "in %s, out %s; segments in %.0f/s, out %.0f/s, again %.0f/s (%.1f %%)",
        human_rate((uint64_t)(top_counter_rate(d, "tcp", "TCPInBytes")), in_rate, sizeof in_rate),
        human_rate((uint64_t)(top_counter_rate(d, "tcp", "TCPOutBytes")), out_rate, sizeof out_rate),
        top_counter_rate(d, "tcp", "InSegs"), out, again, out + again > 0 ? 100 * again / (out + again) : 0.0);
    put_rates(t, "dropped", d->drops, sum_rates(d, "tcp_drops") + sum_rates(d, "stack_drops"));
    put_rates(t, "sent", d->causes, sum_rates(d, "tcp_causes"));
}

/* ---- The table --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *title;
    int width;
    bool right;
    char key;
} columns[TOP_COLUMNS] = {
    [TOP_ID] = {"ID", 10, false, 'N'},       [TOP_STATE] = {"STATE", 10, false, 'S'},
    [TOP_LOCAL] = {"LOCAL", 21, false, 0},   [TOP_PEER] = {"PEER", 21, false, 'P'},
    [TOP_OWNER] = {"OWNER", 16, false, 'U'}, [TOP_IN] = {"IN", 13, true, 'I'},
    [TOP_OUT] = {"OUT", 13, true, 'O'},      [TOP_RETRANS] = {"RETR/s", 7, true, 'R'},
    [TOP_RTT] = {"RTT", 9, true, 'T'},       [TOP_CWND] = {"CWND", 6, true, 'W'},
    [TOP_LIMIT] = {"WAITS FOR", 10, false, 'L'},
};

/* Which columns fit, by rank; what is left over widens addresses and owner. */
static void choose(const struct top *t, int width[TOP_COLUMNS])
{
    static const enum top_column rank[TOP_COLUMNS] = {TOP_PEER,  TOP_OUT,   TOP_IN,    TOP_RTT,   TOP_RETRANS, TOP_LIMIT,
                                                      TOP_STATE, TOP_CWND, TOP_LOCAL, TOP_OWNER, TOP_ID};
    static const enum top_column wide[] = {TOP_PEER, TOP_LOCAL, TOP_OWNER};
    int left = t->width;

    memset(width, 0, TOP_COLUMNS * sizeof *width);
    for (unsigned i = 0; i < TOP_COLUMNS && left >= columns[rank[i]].width; i++) {
        width[rank[i]] = columns[rank[i]].width;
        left -= columns[rank[i]].width + 1;
    }
    if (!width[TOP_PEER])
        width[TOP_PEER] = t->width;
    for (unsigned i = 0; i < 3; i++) {
        int more = left > 26 ? 26 : left;

        if (width[wide[i]] && more > 0) {
            width[wide[i]] += more;
            left -= more;
        }
    }
}

static void cell(char *line, size_t n, int width, bool right, const char *text)
{
    size_t at = strlen(line);
    char copy[128];
    int pad;

    if (width == 0)
        return;
    snprintf(copy, sizeof copy, "%s", text);
    cut(copy, width);
    pad = width - characters(copy);
    snprintf(line + at, n - at, "%*s%s%*s ", right ? pad : 0, "", copy, right ? 0 : pad, "");
}

static void heading(struct top *t, const int *width)
{
    char line[1024] = "", title[32];

    for (int i = 0; i < TOP_COLUMNS; i++) {
        snprintf(title, sizeof title, "%s%s", columns[i].title,
                 (int)t->d.sort != i ? "" : t->d.reverse ? "^" : "*");
        cell(line, sizeof line, width[i], columns[i].right, title);
    }
    put(t, REVERSE, "%s", line);
}

static const char *rate_text(double per_s, char *buf, size_t n)
{
    if (per_s < 0)
        snprintf(buf, n, "-");
    else if (per_s == 0)
        snprintf(buf, n, "0");
    else
        human_rate((uint64_t)(per_s + 0.5), buf, n);
    return buf;
}

static void put_row(struct top *t, const int *width, const struct top_row *r, bool selected)
{
    char line[1024] = "", in[32], out[32], again[24], rtt[32], cwnd[24];
    const char *text[TOP_COLUMNS] = {
        [TOP_ID] = r->id,
        [TOP_STATE] = r->state,
        [TOP_LOCAL] = r->local,
        [TOP_PEER] = r->peer,
        [TOP_OWNER] = r->owner,
        [TOP_IN] = rate_text(r->in_s, in, sizeof in),
        [TOP_OUT] = rate_text(r->out_s, out, sizeof out),
        [TOP_RETRANS] = again,
        [TOP_RTT] = r->rtt_us > 0 ? human_us(r->rtt_us, rtt, sizeof rtt) : "-",
        [TOP_CWND] = cwnd,
        [TOP_LIMIT] = strcmp(r->limit, "NOTHING") == 0 ? "-" : r->limit,
    };

    snprintf(again, sizeof again, r->retrans_s < 0 ? "-" : "%.3g", r->retrans_s);
    snprintf(cwnd, sizeof cwnd, r->cwnd > 0 ? "%.0f" : "-", r->cwnd);
    for (int i = 0; i < TOP_COLUMNS; i++)
        cell(line, sizeof line, width[i], columns[i].right, text[i]);
    put(t, selected ? REVERSE : PLAIN, "%s", line);
}

static void note(struct top *t)
{
    const struct top_data *d = &t->d;

    if (t->typing)
        put(t, BOLD, "filter: %s_", t->typed);
    else if (t->message[0])
        put(t, BOLD, "%s", t->message);
    else if (d->only_active)
        put(t, PLAIN, "%zu active connections are shown; 'a' shows idle ones too", d->rows);
    else if (t->typed[0])
        put(t, PLAIN, "%zu connections, filter: %s", d->rows, t->typed);
    else
        put(t, PLAIN, "%s", t->batch ? "" : "h: help");
}

static void list(struct top *t)
{
    const struct top_data *d = &t->d;
    int width[TOP_COLUMNS];
    size_t visible;

    header(t);
    note(t);
    choose(t, width);
    heading(t, width);
    visible = t->batch ? d->rows : t->height > t->y ? (size_t)(t->height - t->y) : 0;
    if (t->selected >= d->rows)
        t->selected = d->rows ? d->rows - 1 : 0;
    if (t->first > t->selected)
        t->first = t->selected;
    if (visible && t->selected >= t->first + visible)
        t->first = t->selected - visible + 1;
    for (size_t i = t->first; i < d->rows && i < t->first + visible; i++)
        put_row(t, width, &d->row[i], !t->batch && i == t->selected);
}

/* ---- One connection, and help ------------------------------------------------------------------------------------------ */

/* Every number of conn.get, as many columns as fit. */
static void all_numbers(FILE *out, const json_t *conn, int width)
{
    int each = 36, per_line = width / each > 0 ? width / each : 1, n = 0;
    const char *name;
    json_t *v;

    fputs("  tcp_info\n", out);
    json_object_foreach((json_t *)(uintptr_t)conn, name, v)
    {
        char value[32] = "-";

        if (!json_is_integer(v) && !json_is_null(v))
            continue;
        if (json_is_integer(v))
            snprintf(value, sizeof value, "%lld", (long long)json_integer_value(v));
        fprintf(out, "    %-16s %14s%s", name, value, ++n % per_line ? " " : "\n");
    }
    fputs(n % per_line ? "\n" : "", out);
}

static void connection(struct top *t)
{
    char *text = NULL, *line, *rest;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    int skip = t->scroll;

    put(t, REVERSE, "connection %s  (Esc: back, arrows scroll)%s", t->opened, t->paused ? "  PAUSED" : "");
    if (!out)
        return;
    if (t->conn) {
        conn_page(out, t->conn);
        all_numbers(out, t->conn, t->width);
    } else {
        fprintf(out, "%s\n", t->message[0] ? t->message : "not looked at yet");
    }
    fclose(out);
    for (rest = text; (line = strsep(&rest, "\n")) != NULL && rest;)
        if (skip-- <= 0)
            put(t, PLAIN, "%s", line);
    free(text);
}

static void help(struct top *t)
{
    char copy[sizeof top_options], *line, *rest = copy;

    memcpy(copy, top_options, sizeof copy);
    put(t, REVERSE, "taut top: help (any key: back)");
    while ((line = strsep(&rest, "\n")) != NULL)
        put(t, PLAIN, "%s", line);
    put(t, PLAIN, "  Rates are payload bits a second since the look before; \"-\": not seen then.");
    put(t, PLAIN, "  WAITS FOR: what the next byte waits for (RWND: peer's window, CWND: congestion window, ...).");
}

static void draw(struct top *t)
{
    if (!t->batch) {
        getmaxyx(stdscr, t->height, t->width);
        erase();
    }
    t->y = 0;
    if (t->view == VIEW_LIST)
        list(t);
    else if (t->view == VIEW_CONN)
        connection(t);
    else
        help(t);
    if (!t->batch)
        refresh();
}

/* ---- Looking ----------------------------------------------------------------------------------------------------------- */

static void look_at_conn(struct top *t)
{
    int status;
    json_t *j = cli_call(t->d.c, "conn.get", json_pack("{s:s}", "id", t->opened), &status);

    if (j) {
        json_decref(t->conn);
        t->conn = j;
        t->message[0] = '\0';
    } else {
        snprintf(t->message, sizeof t->message, "%s", t->d.c->said);
    }
}

/* A daemon that went away may come back: tried at each look. */
static int look(struct top *t)
{
    struct cli *c = t->d.c;
    int status;

    c->said[0] = '\0';
    status = top_look(&t->d);
    if (status != EXIT_OK) {
        snprintf(t->message, sizeof t->message, "%s", c->said);
        taut_close(c->t);
        c->t = NULL;
    } else {
        t->message[0] = '\0';
        t->looked++;
        if (t->view == VIEW_CONN)
            look_at_conn(t);
    }
    t->next = seconds() + t->d.delay_s;
    return status;
}

static int batch(struct top *t)
{
    int status = EXIT_OK;

    while (!*t->d.c->stopped && status == EXIT_OK && (t->looks == 0 || t->looked < t->looks)) {
        if (t->looked > 0)
            nanosleep(&(struct timespec){.tv_sec = (time_t)t->d.delay_s,
                                         .tv_nsec = (long)((t->d.delay_s - (double)(time_t)t->d.delay_s) * 1e9)},
                      NULL);
        if (*t->d.c->stopped)
            break;
        status = look(t);
        if (status != EXIT_OK)
            break;
        if (t->looked > 1)
            putchar('\n');
        draw(t);
        if (fflush(stdout) != 0)
            status = EXIT_REFUSED;
    }
    return status;
}

/* ---- Keys -------------------------------------------------------------------------------------------------------------- */

static void set_filter(struct top *t)
{
    char *word = t->typed;
    const char *error;
    struct filter *f = filter_parse(1, &word, FILTER_ALL & ~FILTER_LISTEN, &error);

    if (!f) {
        snprintf(t->message, sizeof t->message, "filter: %s", error);
        clean_text(t->message);
        return;
    }
    filter_free(t->d.filter);
    t->d.filter = f;
    t->message[0] = '\0';
    t->selected = t->first = 0;
    t->next = 0;
}

static void type(struct top *t, int key)
{
    size_t n = strlen(t->typed);

    if (key == '\n' || key == '\r' || key == KEY_ENTER) {
        t->typing = false;
        set_filter(t);
    } else if (key == 27) {
        t->typing = false;
    } else if (key == KEY_BACKSPACE || key == 127 || key == 8) {
        t->typed[n ? n - 1 : 0] = '\0';
    } else if (key == 21) { /* ^U */
        t->typed[0] = '\0';
    } else if (key >= 32 && key < 127 && n + 1 < sizeof t->typed) {
        t->typed[n] = (char)key;
        t->typed[n + 1] = '\0';
    }
}

static bool sort_key(struct top *t, int key)
{
    int step = key == '<' ? TOP_COLUMNS - 1 : key == '>' ? 1 : 0;

    if (step) {
        t->d.sort = (enum top_column)(((int)t->d.sort + step) % TOP_COLUMNS);
        top_sort(&t->d);
        return true;
    }
    for (int i = 0; i < TOP_COLUMNS; i++) {
        if (!columns[i].key || columns[i].key != key)
            continue;
        t->d.sort = (enum top_column)i;
        top_sort(&t->d);
        return true;
    }
    return false;
}

static void move_by(struct top *t, long by)
{
    long at = t->view == VIEW_CONN ? t->scroll + by : (long)t->selected + by;

    at = at < 0 ? 0 : at;
    if (t->view == VIEW_CONN)
        t->scroll = at > 200 ? 200 : (int)at;
    else
        t->selected = at < (long)t->d.rows ? (size_t)at : t->d.rows ? t->d.rows - 1 : 0;
}

static void open_selected(struct top *t)
{
    if (t->view != VIEW_LIST || t->selected >= t->d.rows)
        return;
    snprintf(t->opened, sizeof t->opened, "%s", t->d.row[t->selected].id);
    t->view = VIEW_CONN;
    t->scroll = 0;
    json_decref(t->conn);
    t->conn = NULL;
    look_at_conn(t);
}

static void go_back(struct top *t)
{
    t->view = VIEW_LIST;
    t->message[0] = '\0';
}

static void command_key(struct top *t, int key)
{
    switch (key) {
    case 'q':
        t->quit = true;
        break;
    case 'r':
        t->d.reverse = !t->d.reverse;
        top_sort(&t->d);
        break;
    case ' ':
    case 'p':
        t->paused = !t->paused;
        t->next = t->paused ? t->next : 0;
        break;
    case 'a':
        t->d.idle_too = !t->d.idle_too;
        t->next = 0;
        break;
    case 'f':
    case '/':
        t->typing = t->view == VIEW_LIST;
        break;
    case 'h':
    case '?':
        t->view = VIEW_HELP;
        break;
    case '\n':
    case '\r':
    case KEY_ENTER:
        open_selected(t);
        break;
    case 27:
    case KEY_BACKSPACE:
    case 127:
        go_back(t);
        break;
    default:
        sort_key(t, key);
    }
}

static void handle(struct top *t, int key)
{
    int page = t->height > 8 ? t->height - 8 : 1;

    if (key == ERR || key == KEY_RESIZE)
        return;
    if (t->typing) {
        type(t, key);
        return;
    }
    if (t->view == VIEW_HELP) {
        t->view = VIEW_LIST;
        return;
    }
    if (key == KEY_UP || key == 'k')
        move_by(t, -1);
    else if (key == KEY_DOWN || key == 'j')
        move_by(t, 1);
    else if (key == KEY_PPAGE)
        move_by(t, -page);
    else if (key == KEY_NPAGE)
        move_by(t, page);
    else if (key == KEY_HOME)
        move_by(t, -1000000000);
    else if (key == KEY_END)
        move_by(t, 1000000000);
    else
        command_key(t, key);
}

/* Behind each page of a long look: q and signals end it; another key waits. */
static bool key_waits(void *user)
{
    struct top *t = user;
    int key;

    if (*t->d.c->stopped || t->batch)
        return *t->d.c->stopped != 0;
    timeout(0);
    key = getch();
    if (key == 'q' && !t->typing)
        t->quit = true;
    else if (key != ERR)
        ungetch(key);
    return t->quit || key != ERR;
}

static void wait_key(struct top *t)
{
    double left = t->paused ? 3600 : t->next - seconds();

    timeout(left <= 0 ? 0 : left > 3600 ? 3600000 : (int)(left * 1000) + 1);
    handle(t, getch());
}

static int screen(struct top *t)
{
    SCREEN *s;

    setlocale(LC_CTYPE, "");
    set_escdelay(50);
    s = newterm(NULL, stdout, stdin);
    if (!s) {
        fprintf(stderr, "taut: this terminal (TERM) is not known; -b prints instead\n");
        return EXIT_REFUSED;
    }
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    while (!t->quit && !*t->d.c->stopped && (t->looks == 0 || t->looked < t->looks)) {
        if (!t->paused && seconds() >= t->next)
            look(t);
        draw(t);
        if (t->looks == 0 || t->looked < t->looks)
            wait_key(t);
    }
    endwin();
    delscreen(s);
    return EXIT_OK;
}

/* ---- The command ------------------------------------------------------------------------------------------------------- */

static bool column_by_name(const char *name, enum top_column *ret)
{
    for (int i = 0; i < TOP_COLUMNS; i++) {
        if (strcmp(top_column_names[i], name) == 0) {
            *ret = (enum top_column)i;
            return true;
        }
    }
    cli_usage("-s: id, state, local, peer, owner, in, out, retrans, rtt, cwnd or limit is expected, not \"%s\"", name);
    return false;
}

static bool read_options(struct top *t, int argc, char **argv)
{
    char *end;
    int o;

    while ((o = getopt(argc, argv, "+d:n:bs:ra")) != -1) {
        t->batch |= o == 'b';
        t->d.reverse |= o == 'r';
        t->d.idle_too |= o == 'a';
        if (o == '?' || (o == 'n' && !cli_number("-n", optarg, 1, 1000000000, &t->looks)) ||
            (o == 's' && !column_by_name(optarg, &t->d.sort)))
            return false;
        if (o != 'd')
            continue;
        t->d.delay_s = strtod(optarg, &end);
        if (end == optarg || *end || !(t->d.delay_s >= 0.1 && t->d.delay_s <= 3600)) {
            cli_usage("-d: seconds from 0.1 to 3600 are expected, not \"%s\"", optarg);
            return false;
        }
    }
    return true;
}

int cmd_top(struct cli *c, int argc, char **argv)
{
    struct top t = {.d = {.c = c, .delay_s = 2, .sort = TOP_OUT, .interrupted = key_waits}, .width = 240};
    const char *error;
    int status;

    t.d.user = &t;
    if (!read_options(&t, argc, argv))
        return EXIT_USAGE;
    t.d.filter = filter_parse(argc - optind, argv + optind, FILTER_ALL & ~FILTER_LISTEN, &error);
    if (!t.d.filter)
        return cli_usage("%s", error);
    for (int i = optind; i < argc; i++)
        snprintf(t.typed + strlen(t.typed), sizeof t.typed - strlen(t.typed), "%s%s", i > optind ? " " : "", argv[i]);
    clean_text(t.typed);
    c->json = false;
    if (!t.batch && !(isatty(STDOUT_FILENO) && isatty(STDIN_FILENO)))
        status = cli_usage("top needs a terminal; -b prints instead");
    else if (!cli_daemon(c))
        status = EXIT_NO_DAEMON;
    else {
        c->quiet = !t.batch;
        status = t.batch ? batch(&t) : screen(&t);
    }
    json_decref(t.conn);
    top_free(&t.d);
    return status;
}
