/*
 * cli/cli.h: what the parts of the `taut` command share. A command gets its arguments behind its name, and
 * returns the program's exit status.
 */
#ifndef TAUT_CLI_CLI_H
#define TAUT_CLI_CLI_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/taut.h"

enum { EXIT_OK = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_NO_DAEMON = 3 };

struct cli {
    struct taut *t;     /* NULL until cli_daemon() */
    const char *socket; /* -S, or NULL */
    bool json;
    volatile sig_atomic_t *stopped; /* SIGINT or SIGTERM came */
    bool quiet;                     /* keep errors in `said` instead of printing them: the screen is another's */
    char said[256];
};

struct command {
    const char *name, *args, *help, *options; /* options: lines for --help, or "" */
    int (*run)(struct cli *c, int argc, char **argv);
};

/* The daemon, found at the first call; NULL after saying that there is none (EXIT_NO_DAEMON). To be called when the
 * arguments are known to be good. */
struct taut *cli_daemon(struct cli *c);

/* Calls and prints the error if there is one. NULL with *ret_status set. Takes the reference of params (may
 * be NULL). */
json_t *cli_call(struct cli *c, const char *method, json_t *params, int *ret_status);
/* The exit status of a failed libtaut call, after printing what it said. */
int cli_failed(struct cli *c, int error);
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* --json: prints the object as it came. */
void cli_print_json(const json_t *j);
/* A whole number in [min, max]; false with a message. */
bool cli_number(const char *what, const char *text, long min, long max, long *ret);
const char *jstr(const json_t *o, const char *key);
json_int_t jint(const json_t *o, const char *key);

/* show.c */
int cmd_status(struct cli *c, int argc, char **argv);
int cmd_conns(struct cli *c, int argc, char **argv);
int cmd_neigh(struct cli *c, int argc, char **argv);
int cmd_config(struct cli *c, int argc, char **argv);
/* stats.c */
extern const char stats_options[];
int cmd_stats(struct cli *c, int argc, char **argv);
/* ss.c */
extern const char ss_options[];
int cmd_ss(struct cli *c, int argc, char **argv);
/* top.c */
extern const char top_options[];
int cmd_top(struct cli *c, int argc, char **argv);
/* conn.c */
void conn_page(FILE *out, const json_t *conn); /* an answer of conn.get as text */
int cmd_conn(struct cli *c, int argc, char **argv);
int cmd_close(struct cli *c, int argc, char **argv);
int cmd_abort(struct cli *c, int argc, char **argv);
int cmd_set(struct cli *c, int argc, char **argv);
/* metrics.c */
int cmd_metrics(struct cli *c, int argc, char **argv);
/* keyfile.c */
#define CLI_KEY_MAX 80
/* The TCP-MD5 key in a file; false with a message. */
bool cli_key_file(const char *path, char ret[CLI_KEY_MAX + 1]);
/* trace.c */
int cmd_trace(struct cli *c, int argc, char **argv);
/* explain.c */
int cmd_explain(struct cli *c, int argc, char **argv);
/* capture.c */
int cmd_capture(struct cli *c, int argc, char **argv);
/* export.c */
int cmd_export(struct cli *c, int argc, char **argv);
/* plot.c */
extern const char plot_options[];
int cmd_plot(struct cli *c, int argc, char **argv);
/* stream.c */
int cmd_listen(struct cli *c, int argc, char **argv);
int cmd_connect(struct cli *c, int argc, char **argv);
/* watch.c */
int cmd_ping(struct cli *c, int argc, char **argv);
int cmd_events(struct cli *c, int argc, char **argv);
int cmd_reload(struct cli *c, int argc, char **argv);
int cmd_version(struct cli *c, int argc, char **argv);
/* upgrade.c */
int cmd_upgrade(struct cli *c, int argc, char **argv);

#endif
