/*
 * cli/upgrade.c: taut upgrade: the daemon goes on as the binary that lies at its path now.
 *
 * Success is the end of the connection, as the process that had it is gone; then the next one is asked who it is. The
 * daemon's process id stays the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "client/taut.h"

#define TRIES 100
#define TRY_EVERY_US 50000

/* The version that answers now, once one does. */
static json_t *ask_again(struct cli *c)
{
    for (int i = 0; i < TRIES && !*c->stopped; i++) {
        char *result = NULL;
        json_t *j;

        taut_close(c->t);
        c->t = taut_open(c->socket);
        if (c->t && taut_call(c->t, "server.hello", NULL, &result, NULL) == 0) {
            j = json_loads(result, 0, NULL);
            free(result);
            return j;
        }
        usleep(TRY_EVERY_US);
    }
    return NULL;
}

int cmd_upgrade(struct cli *c, int argc, char **argv)
{
    char *result = NULL;
    json_t *hello;
    int r;

    (void)argv;
    if (argc > 1)
        return cli_usage("upgrade takes no arguments");
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    r = taut_call(c->t, "server.upgrade", NULL, &result, NULL);
    free(result);
    if (r < 0 && strchr(taut_error(c->t), '_'))
        return cli_failed(c, r); /* refused, with a name */
    hello = ask_again(c);
    if (!hello) {
        fprintf(stderr, "taut: the daemon does not answer after the upgrade\n");
        return EXIT_NO_DAEMON;
    }
    if (c->json)
        cli_print_json(hello);
    else
        printf("upgraded: tautd %s, process %lld\n", jstr(hello, "version"), (long long)jint(hello, "pid"));
    json_decref(hello);
    return EXIT_OK;
}
