/*
 * daemon/reload.c: the configuration file again (SIGHUP, server.reload; theory of operation).
 *
 * A file with an error changes nothing. A good one takes effect as far as it can: forwards, services, keys of TCP-MD5
 * and the log level; live connections stay as they are, every other key waits for the next start; those that the file
 * changed are told. Called in the first half of a turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/arena.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/forward.h"
#include "daemon/md5.h"
#include "daemon/service.h"

/* A port that cannot be had keeps nothing else back: the error names it, the rest is in effect. */
static int apply_reload(struct daemon *d, const struct daemon_config *next, char *ret_error, size_t error_bytes)
{
    md5_reload(d, next, daemon_now()); /* first: what is opened next has its keys */

    bool waits = services_reload(d, next, ret_error, error_bytes) < 0; /* perhaps for a forward's port */
    int r = forwards_reload(d, next, ret_error, error_bytes);

    if (waits && services_reload(d, next, ret_error, error_bytes) < 0)
        r = -1;
    d->log.level = (enum log_level)next->log_level;
    d->config->log_level = next->log_level;
    d->config->busy_poll_us = next->busy_poll_us;
    memcpy(d->config->forward, next->forward, sizeof next->forward);
    d->config->n_forwards = next->n_forwards;
    d->config->echo = next->echo;
    d->config->discard = next->discard;
    d->config->chargen = next->chargen;
    if (d->arena)
        arena_put_config(d->arena, d->config);
    log_msg(&d->log, LOG_LVL_NOTICE, "reloaded %s: forwards, services, keys, log level and busy polling%s", d->config->path,
            r < 0 ? "; not all could be opened" : "");
    daemon_kick(d);
    return r;
}

static void tell_ignored(struct daemon *d, const struct daemon_config *next, daemon_ignored_fn *ignored, void *user)
{
    char file[4096], value[4096], name[128];
    struct config_row_info r;

    for (unsigned i = 0; config_row(i, &r); i++) {
        if (strcmp(r.scope, "reload") == 0)
            continue;
        config_value(next, i, file, sizeof file);
        config_value(d->config, i, value, sizeof value);
        if (strcmp(file, value) == 0)
            continue;
        snprintf(name, sizeof name, "%s.%s", r.section, r.key);
        log_msg(&d->log, LOG_LVL_NOTICE, "reload: %s: %s in the file has no effect before the next start", name, file);
        if (ignored)
            ignored(user, name, file, value);
    }
}

int daemon_reload(struct daemon *d, daemon_ignored_fn *ignored, void *user, char *ret_error, size_t error_bytes)
{
    struct daemon_config *next = malloc(sizeof *next);
    int r = -1;

    if (!next) {
        snprintf(ret_error, error_bytes, "out of memory");
        return -1;
    }
    if (d->draining)
        snprintf(ret_error, error_bytes, "the daemon is ending");
    else if (!d->config->path[0])
        snprintf(ret_error, error_bytes, "there is no configuration file to read again");
    else
        r = config_load(d->config->path, next, ret_error, error_bytes);
    if (r == 0) {
        tell_ignored(d, next, ignored, user);
        r = apply_reload(d, next, ret_error, error_bytes);
    }
    explicit_bzero(next->md5, sizeof next->md5);
    free(next);
    return r;
}
