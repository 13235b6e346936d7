/*
 * cli/ss_line.h: what `taut ss` prints of a connection behind its addresses.
 */
#ifndef TAUT_CLI_SS_LINE_H
#define TAUT_CLI_SS_LINE_H

#include <jansson.h>
#include <stdbool.h>

struct ss_show {
    bool numeric, timer, extended, memory, owner, info, one_line;
};

/* To be freed. conn: a row of conn.list with fields "*". Begins with a blank or is empty. */
char *ss_line(const json_t *conn, const struct ss_show *show);
char *ss_listener_line(const json_t *listener, const struct ss_show *show);

#endif
