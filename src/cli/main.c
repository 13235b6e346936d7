/*
 * cli/main.c: the `taut` command: options, the table of commands, errors and exit statuses.
 *
 * Exit status: 0 ok, 1 the daemon answered an error (or a connection failed), 2 wrong usage, 3 no daemon
 * reachable. The daemon is looked for when a command first asks it something, so wrong usage is told without one. What it
 * says goes through clean.h before anything prints it. SIGINT and SIGTERM set a flag; system calls return EINTR (no SA_RESTART), the command cleans up
 * and ends. It knows the daemon by taut.h only.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/clean.h"
#include "cli/cli.h"

static volatile sig_atomic_t stopped;
static const struct command *current; /* for the hint behind a usage error */

static const struct command commands[] = {
    {"status", "", "interface, addresses, routes, totals, forwards, services", "", cmd_status},
    {"ss", "[OPTIONS] [FILTER]", "connections with the columns, options and filters of ss(8)", ss_options, cmd_ss},
    {"top", "[OPTIONS] [FILTER]", "connections by rate, live; keys sort, filter and open one", top_options, cmd_top},
    {"conns", "[-w] [-i SECONDS] [-s STATE] [-p PORT]", "connections; -w: again and again",
     "  -w          again and again, until interrupted\n"
     "  -i SECONDS  with -w: pause between two looks, 1 to 3600 (default 1)\n"
     "  -s STATE    only connections in this state, as ESTABLISHED\n"
     "  -p PORT     only connections of this local port\n",
     cmd_conns},
    {"conn", "ID", "all about one connection", "", cmd_conn},
    {"connect", "[-d] [-f] [-t SECONDS] [-b SOURCE] [--md5-key-file FILE] HOST PORT", "connects standard input and output to HOST PORT",
     "  -d          no delay (TCP_NODELAY)\n"
     "  -f          Fast Open: the first input travels in the SYN where it may\n"
     "  -t SECONDS  give up after this time, 1 to 86400 (default: tcp_syn_retries decides)\n"
     "  -b SOURCE   local address (default: chosen)\n"
     "  --md5-key-file FILE  sign with the TCP-MD5 key in FILE\n",
     cmd_connect},
    {"listen", "[-k] [-a ADDRESS] [--md5-key-file FILE [--md5-peer PREFIX]] PORT", "takes a connection on PORT",
     "  -k          one connection after the other\n"
     "  -a ADDRESS  local address (default: all)\n"
     "  --md5-key-file FILE  peers sign with the TCP-MD5 key in FILE\n"
     "  --md5-peer PREFIX    only those within PREFIX (default: all)\n",
     cmd_listen},
    {"close", "ID", "ends a connection in order (FIN)", "", cmd_close},
    {"abort", "ID", "resets a connection", "", cmd_abort},
    {"set", "ID OPTION VALUE", "sets a socket option: nodelay, cork, keepidle, sndbuf, ...",
     "  OPTION      nodelay, cork, quickack, keepalive, keepidle (s), keepintvl (s), keepcnt, user_timeout (ms),\n"
     "              linger2 (s), sndbuf, rcvbuf, window_clamp, notsent_lowat (bytes), tos, congestion (a name),\n"
     "              max_pacing_rate (bytes a second)\n"
     "  VALUE       as setsockopt(2) takes it\n",
     cmd_set},
    {"ping", "[-c N] [-i SECONDS] [-s BYTES] HOST", "sends echo requests",
     "  -c N        end after N requests, 1 to 1000000 (default: go on)\n"
     "  -i SECONDS  pause between two, 0.01 to 3600 (default 1)\n"
     "  -s BYTES    payload, 0 to 1400 (default 56)\n",
     cmd_ping},
    {"stats", "[-z] [-x] [-i SECONDS [-c N]] [-d FILE] [PATTERN...]", "counters, with the names of nstat(8)", stats_options,
     cmd_stats},
    {"neigh", "", "the neighbour cache (ARP and ND)", "", cmd_neigh},
    {"metrics", "[flush] [ADDRESS]", "what was learnt of destinations; flush: forgets it",
     "  flush       forget it, Fast Open cookies too\n"
     "  ADDRESS     of this destination only\n",
     cmd_metrics},
    {"events", "[-k KINDS]", "what happens, line by line",
     "  -k KINDS    some of conn,listener,addr,neigh,link,log (default: all)\n", cmd_events},
    {"trace", "[--dead] | ID|engine|FILE [--pkt] | ID|engine [--follow | -o FILE] | --format", "what a connection did and why",
     "  -d, --dead    of connections that ended badly\n"
     "  -f, --follow  go on with what happens, until interrupted\n"
     "  -p, --pkt     as a packetdrill script that replays it\n"
     "  -o, --output FILE  keep the record in FILE\n"
     "  --format      the fields of records and events, as Markdown\n",
     cmd_trace},
    {"explain", "ID|FILE|:PORT", "where the time of a connection went, and what would help",
     "  ID          a connection, or one that ended badly (taut trace --dead)\n"
     "  FILE        a record that was kept\n"
     "  :PORT       a listener\n",
     cmd_explain},
    {"capture", "-o FILE [OPTIONS]", "frames of the interface as pcapng, with causes and drop reasons",
     "  -o, --output FILE  the file; \"-\": standard output\n"
     "  -c N            end after N frames\n"
     "  -t SECONDS      end after this time (default: go on)\n"
     "  -s BYTES        most of a frame, 54 to 262144 (default: all)\n"
     "  --host ADDRESS  only TCP segments from or to it\n"
     "  -p, --port PORT only TCP segments from or to it\n",
     cmd_capture},
    {"export", "ID|engine|FILE [--pcapng FILE] [--qlog FILE]", "a connection's record for other programs",
     "  --pcapng FILE  its packets for Wireshark, with a comment each: cause, verdict, what the ACK changed\n"
     "  --qlog FILE    its events as JSON text sequences in the manner of qlog\n"
     "  FILE \"-\" is standard output\n",
     cmd_export},
    {"plot", "ID|FILE [-o FILE.svg] [OPTIONS]", "the time-sequence graph of a connection as SVG", plot_options, cmd_plot},
    {"config", "[KEY [VALUE]]", "shows the configuration, or changes a key",
     "  KEY         \"section.key\", or the key alone (default: all keys)\n"
     "  VALUE       new value, for keys that take effect \"now\" or \"new\"\n",
     cmd_config},
    {"reload", "", "reads the configuration file again; tells what had no effect", "", cmd_reload},
    {"upgrade", "", "goes on as the binary that lies at the daemon's path now; connections stay", "", cmd_upgrade},
    {"version", "", "version of this command and of the daemon", "", cmd_version},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sa.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &sa, NULL);
}

static void print_help(FILE *out)
{
    fprintf(out, "usage: taut [-S PATH] COMMAND [--json] ...\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].help);
    fprintf(
        out,
        "\n  -S, --socket PATH  directory of the daemon's control sockets ($TAUT_SOCKET, else /run/taut)\n"
        "  -j, --json         prints the daemon's answer as JSON\n"
        "  -h, --help         behind a command: its usage\n\n"
        "Exit status: 0 ok, 1 the daemon refused, 2 usage, 3 no daemon reachable.\n");
}

/* Commands whose output is a file of a format of its own. */
static bool has_json(const struct command *cmd)
{
    return cmd->run != cmd_plot && cmd->run != cmd_export && cmd->run != cmd_capture;
}

static int print_command_help(const struct command *cmd)
{
    printf("usage: taut [-S PATH] %s%s%s%s\n%s\n", cmd->name, cmd->args[0] ? " " : "", cmd->args,
           has_json(cmd) ? " [--json]" : "", cmd->help);
    if (cmd->options[0])
        printf("\n%s", cmd->options);
    printf("\n%s  -S PATH     directory of the daemon's control sockets ($TAUT_SOCKET, else /run/taut)\n",
           has_json(cmd) ? "  -j, --json  prints the daemon's answer as JSON\n" : "");
    return EXIT_OK;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "taut: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (current)
        fprintf(stderr, " (taut %s --help)\n", current->name);
    else
        fprintf(stderr, " (taut --help)\n");
    return EXIT_USAGE;
}

/* An error: on stderr, or kept. */
static void cli_say(struct cli *c, const char *what, const char *text)
{
    snprintf(c->said, sizeof c->said, "%.20s%.235s", what, text);
    clean_text(c->said);
    if (!c->quiet)
        fprintf(stderr, "taut: %s\n", c->said);
}

int cli_failed(struct cli *c, int error)
{
    const char *said = taut_error(c->t);

    if (*c->stopped)
        return EXIT_OK;
    cli_say(c, "", said[0] ? said : strerror(-error));
    return error == -ECONNRESET || error == -EPIPE ? (strchr(said, '_') ? EXIT_REFUSED : EXIT_NO_DAEMON)
                                                   : EXIT_REFUSED;
}

struct taut *cli_daemon(struct cli *c)
{
    if (!c->t && !(c->t = taut_open(c->socket))) {
        const char *path = c->socket ? c->socket : getenv("TAUT_SOCKET");

        char text[200];

        snprintf(text, sizeof text, "%s: %s", path && path[0] ? path : "/run/taut", strerror(errno));
        cli_say(c, "no daemon at ", text);
    }
    return c->t;
}

json_t *cli_call(struct cli *c, const char *method, json_t *params, int *ret_status)
{
    json_t *j = NULL;
    int r;

    if (!cli_daemon(c)) {
        json_decref(params);
        *ret_status = EXIT_NO_DAEMON;
        return NULL;
    }
    r = taut_call_json(c->t, method, params, &j);
    if (r < 0) {
        *ret_status = cli_failed(c, r);
        return NULL;
    }
    if (!c->json)
        clean_json(j);
    *ret_status = EXIT_OK;
    return j;
}

void cli_print_json(const json_t *j)
{
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

bool cli_number(const char *what, const char *text, long min, long max, long *ret)
{
    char *end;
    long v;

    errno = 0;
    v = strtol(text, &end, 10);
    if (end == text || *end || errno || v < min || v > max) {
        cli_usage("%s: a number from %ld to %ld is expected, not \"%s\"", what, min, max, text);
        return false;
    }
    *ret = v;
    return true;
}

const char *jstr(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

json_int_t jint(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return json_is_real(v) ? (json_int_t)json_real_value(v) : json_integer_value(v);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* --json, --help and --socket may stand behind the command too: taken out of argv. False: usage error. */
static bool take_common(int *argc, char **argv, struct cli *c, bool *help)
{
    int n = 1;

    for (int i = 1; i < *argc; i++) {
        bool is_socket = strcmp(argv[i], "-S") == 0 || strcmp(argv[i], "--socket") == 0;

        if (strcmp(argv[i], "--") == 0) {
            while (i < *argc)
                argv[n++] = argv[i++];
        } else if (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "-j") == 0) {
            c->json = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
        } else if (is_socket && i + 1 < *argc) {
            c->socket = argv[++i];
        } else if (strncmp(argv[i], "--socket=", 9) == 0) {
            c->socket = argv[i] + 9;
        } else if (is_socket) {
            cli_usage("-S needs a path");
            return false;
        } else {
            argv[n++] = argv[i];
        }
    }
    *argc = n;
    argv[n] = NULL;
    return true;
}

int main(int argc, char **argv)
{
    struct cli c = {.stopped = &stopped};
    const struct command *cmd;
    bool help = false;
    int status;

    if (!take_common(&argc, argv, &c, &help))
        return EXIT_USAGE;
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        argv[1] = (char *)(uintptr_t) "version";
    if (argc < 2 || strcmp(argv[1], "help") == 0) {
        print_help(help || argc > 1 ? stdout : stderr);
        return help || argc > 1 ? EXIT_OK : EXIT_USAGE;
    }
    cmd = find_command(argv[1]);
    if (!cmd)
        return cli_usage("no command \"%s\"", argv[1]);
    if (help)
        return print_command_help(cmd);
    current = cmd;
    if (c.json && !has_json(cmd))
        return cli_usage("%s has no JSON", cmd->name);
    catch_signals();
    status = cmd->run(&c, argc - 1, argv + 1);
    taut_close(c.t);
    if (fflush(stdout) != 0 && status == EXIT_OK)
        status = EXIT_REFUSED;
    return status;
}
