/*
 * cli/main.c: the `taut` command: options, the table of commands, errors and exit statuses.
 *
 * Exit status: 0 ok, 1 the daemon answered an error (or a connection failed), 2 wrong usage, 3 no daemon
 * reachable. SIGINT and SIGTERM set a flag; system calls return EINTR (no SA_RESTART), the command cleans up
 * and ends. It knows the daemon by taut.h only.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static volatile sig_atomic_t stopped;

static const struct command commands[] = {
    {"status", "", "interface, addresses, routes, totals, forwards, services", cmd_status, true},
    {"conns", "[-w] [-i SECONDS] [-s STATE] [-p PORT]", "connections; -w: again and again", cmd_conns, true},
    {"conn", "ID", "all about one connection", cmd_conn, true},
    {"connect", "[-d] [-f] [-t SECONDS] [-b SOURCE] HOST PORT",
     "connects standard input and output to HOST PORT (-d: no delay, -f: Fast Open)", cmd_connect, true},
    {"listen", "[-k] [-a ADDRESS] PORT", "takes a connection on PORT; -k: one after the other", cmd_listen,
     true},
    {"close", "ID", "ends a connection in order (FIN)", cmd_close, true},
    {"abort", "ID", "resets a connection", cmd_abort, true},
    {"set", "ID OPTION VALUE", "sets a socket option: nodelay, cork, keepidle, sndbuf, ...", cmd_set, true},
    {"ping", "[-c N] [-i SECONDS] [-s BYTES] HOST", "sends echo requests", cmd_ping, true},
    {"stats", "[-a] [-x]", "counters that are not zero; -a: all, -x: with their meaning", cmd_stats, true},
    {"neigh", "", "the neighbour cache (ARP and ND)", cmd_neigh, true},
    {"metrics", "[flush] [ADDRESS]", "what was learnt of destinations; flush: forgets it", cmd_metrics, true},
    {"events", "[-k KINDS]", "what happens, line by line; KINDS: conn,listener,addr,neigh,link,log",
     cmd_events, true},
    {"config", "[KEY [VALUE]]", "shows the configuration, or changes a key", cmd_config, true},
    {"reload", "", "reads the configuration file again", cmd_reload, true},
    {"upgrade", "", "goes on as the binary that lies at the daemon's path now; connections stay", cmd_upgrade, true},
    {"version", "", "version of this command and of the daemon", cmd_version, false},
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

static int print_command_help(const struct command *cmd)
{
    printf("usage: taut [-S PATH] %s%s%s [--json]\n%s\n", cmd->name, cmd->args[0] ? " " : "", cmd->args,
           cmd->help);
    return EXIT_OK;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "taut: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, " (taut --help)\n");
    return EXIT_USAGE;
}

int cli_failed(struct cli *c, int error)
{
    const char *said = taut_error(c->t);

    if (*c->stopped)
        return EXIT_OK;
    fprintf(stderr, "taut: %s\n", said[0] ? said : strerror(-error));
    return error == -ECONNRESET || error == -EPIPE ? (strchr(said, '_') ? EXIT_REFUSED : EXIT_NO_DAEMON)
                                                   : EXIT_REFUSED;
}

json_t *cli_call(struct cli *c, const char *method, json_t *params, int *ret_status)
{
    char *text = params ? json_dumps(params, JSON_COMPACT) : NULL, *result = NULL;
    int r = taut_call(c->t, method, text, &result, NULL);
    json_t *j = NULL;

    json_decref(params);
    free(text);
    if (r < 0) {
        *ret_status = cli_failed(c, r);
        return NULL;
    }
    j = json_loads(result, JSON_DECODE_ANY, NULL);
    free(result);
    *ret_status = j ? EXIT_OK : EXIT_REFUSED;
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
static bool take_common(int *argc, char **argv, struct cli *c, const char **socket, bool *help)
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
            *socket = argv[++i];
        } else if (strncmp(argv[i], "--socket=", 9) == 0) {
            *socket = argv[i] + 9;
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

static int no_daemon(const char *socket)
{
    int err = errno;
    const char *path = socket ? socket : getenv("TAUT_SOCKET");

    fprintf(stderr, "taut: no daemon at %s: %s\n", path && path[0] ? path : "/run/taut", strerror(err));
    return EXIT_NO_DAEMON;
}

int main(int argc, char **argv)
{
    struct cli c = {.stopped = &stopped};
    const char *socket = NULL;
    const struct command *cmd;
    bool help = false;
    int status;

    if (!take_common(&argc, argv, &c, &socket, &help))
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
    catch_signals();
    c.socket = socket;
    c.t = taut_open(socket);
    if (!c.t && cmd->needs_daemon)
        return no_daemon(socket);
    status = cmd->run(&c, argc - 1, argv + 1);
    taut_close(c.t);
    if (fflush(stdout) != 0 && status == EXIT_OK)
        status = EXIT_REFUSED;
    return status;
}
