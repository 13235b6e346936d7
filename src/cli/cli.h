/*
 * cli/cli.h: what the parts of the `taut` command share. A command gets its arguments behind its name, and
 * returns the program's exit status.
 */
#ifndef TAUT_CLI_CLI_H
#define TAUT_CLI_CLI_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "client/taut.h"

enum { EXIT_OK = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_NO_DAEMON = 3 };

struct cli {
    struct taut *t;
    const char *socket; /* directory of the sockets, NULL: as taut_open() finds it */
    bool json;
    volatile sig_atomic_t *stopped; /* SIGINT or SIGTERM came */
};

struct command {
    const char *name, *args, *help;
    int (*run)(struct cli *c, int argc, char **argv);
    bool needs_daemon;
};

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
int cmd_stats(struct cli *c, int argc, char **argv);
int cmd_neigh(struct cli *c, int argc, char **argv);
int cmd_config(struct cli *c, int argc, char **argv);
/* conn.c */
int cmd_conn(struct cli *c, int argc, char **argv);
int cmd_close(struct cli *c, int argc, char **argv);
int cmd_abort(struct cli *c, int argc, char **argv);
int cmd_set(struct cli *c, int argc, char **argv);
/* metrics.c */
int cmd_metrics(struct cli *c, int argc, char **argv);
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
