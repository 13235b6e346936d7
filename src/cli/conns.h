/*
 * cli/conns.h: all connections, page by page.
 */
#ifndef TAUT_CLI_CONNS_H
#define TAUT_CLI_CONNS_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/filter.h"

struct conns_query {
    const struct filter *filter;           /* its states and ports go to the daemon; the rest is the caller's to match */
    const char *fields;                    /* "a,b,c", "*", "" */
    long active_ms;                        /* 0: all */
    bool (*row)(void *user, json_t *conn); /* false: enough. Borrows conn. */
    bool (*page)(void *user);              /* behind each page; false: enough. NULL: none */
    void *user;
};
/* An exit status. */
int conns_each(struct cli *c, const struct conns_query *q);

#endif
