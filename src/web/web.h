/*
 * web/web.h: what the modules of taut-web share. taut-web is an ordinary program: it listens through the control socket
 * as any user's program would, and libmicrohttpd speaks HTTP on the descriptors that it accepts.
 */
#ifndef TAUT_WEB_H
#define TAUT_WEB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "client/taut.h"

/* What the daemon said, fetched for one request. Any member may be NULL if its call failed; `error` says why then. */
struct web_data {
    json_t *status, *stats, *conns;
    char error[256];
};

/* Totals of one look, for rates. */
struct web_sample {
    double at_s;
    double in_bytes, out_bytes, in_segs, out_segs, retrans;
};

/* page.c: whole HTML documents. `before` is the previous look (at_s 0: none). */
void page_index(FILE *out, const struct web_data *data, const struct web_sample *now, const struct web_sample *before);
void page_connection(FILE *out, const char *id, json_t *conn, const char *error);
void page_error(FILE *out, const char *title, const char *text);

/* metrics.c: OpenMetrics text. */
void metrics_write(FILE *out, const struct web_data *data);

/* A nested number, 0 where it is missing: web_number(stats, "tcp", "InSegs"). */
double web_number(json_t *object, const char *group, const char *name);

#endif
