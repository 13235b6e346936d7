/*
 * web/web.h: what the modules of taut-web share. taut-web is an ordinary program: it listens through the control socket
 * as any user's program would, and libmicrohttpd speaks HTTP on the descriptors that it accepts.
 *
 *   main.c     options, listening      http.c     routes, answers, forms       ask.c     the daemon's answers
 *   live.c     server-sent events      page.c     the overview as HTML         conn.c    a connection's page
 *   sequence.c the time-sequence graph
 *   html.c     escaping, numbers       assets.c   style sheet and script       metrics.c OpenMetrics
 */
#ifndef TAUT_WEB_H
#define TAUT_WEB_H

#include <jansson.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/taut.h"

#define WEB_ROWS_DEFAULT 100
#define WEB_ROWS_MAX     500
#define WEB_TOKEN_BYTES  33
#define WEB_HOSTS_MAX    16

struct web_live; /* live.c */

/* Totals of one look, for rates. */
struct web_sample {
    double at_s;
    double in_bytes, out_bytes, in_segs, out_segs, retrans, drops;
};

struct web {
    const char *socket_path, *address;
    uint16_t port;
    bool control;                /* --control: connections may be closed */
    const char *hosts[WEB_HOSTS_MAX]; /* --host: names under which that may be asked for (http.c) */
    unsigned n_hosts;
    char token[WEB_TOKEN_BYTES]; /* of this process: forms must bring it */
    struct taut *query;          /* of libmicrohttpd's thread */
    struct web_sample last, before_last;
    struct web_live *live;
    /* server.status and stats.get, shared by those who look within half a second */
    json_t *status, *stats;
    double cached_at;
};

/* Which connections: from the URL; texts are checked. */
struct web_select {
    char after[TAUT_ID_MAX], state[16];
    int local_port, peer_port; /* -1: any */
    unsigned rows;
    bool active;
};

/* What the daemon said, fetched for one request. Any member may be NULL if its call failed; `error` says why then. */
struct web_data {
    json_t *status, *stats, *conns;
    struct web_sample now, before; /* at_s 0: none */
    struct web_select select;
    bool control;
    char error[256];
};

/* ask.c */
json_t *ask(struct web *w, const char *method, const char *params, char *error, size_t bytes);
bool ask_overview(struct web *w, const struct web_select *select, struct web_data *ret); /* false: error says why */
/* The parameters of conn.list for a selection, from behind `after`; to be freed. */
char *ask_list_params(const struct web_select *s, const char *after, unsigned limit);
void ask_free(struct web_data *data);
double web_seconds(void);
/* Ids are hexadecimal digits and a dot; anything else is not asked for. */
bool web_id_ok(const char *id);
/* A nested number, 0 where it is missing: web_number(stats, "tcp", "InSegs"); {value, help} counts as its value. */
double web_number(json_t *object, const char *group, const char *name);

/* html.c */
void esc(FILE *out, const char *text);
const char *text_of(json_t *object, const char *name);
void scaled(FILE *out, double v, const char *unit); /* 1234567 -> "1.23 M" */
void duration(FILE *out, double s);
void page_begin(FILE *out, const char *title, const char *live_path);
void page_end(FILE *out);
void page_error(FILE *out, const char *title, const char *text);

/* page.c: parts of the overview, each the content of an element of that id; and the whole. */
struct page_part {
    const char *name;
    void (*write)(FILE *out, const struct web_data *d);
};
extern const struct page_part overview_parts[]; /* ended by name NULL */
void page_overview(FILE *out, const struct web_data *d);
/* "?after=...&state=..." of a selection; html: with &amp; */
void select_query(FILE *out, const struct web_select *s, const char *after, bool html);

/* conn.c */
void conn_facts(FILE *out, json_t *conn);
/* A point of the moving curves as JSON. */
json_t *conn_sample(json_t *conn);
/* forms: with those of --control, if that is on. */
void page_connection(FILE *out, struct web *w, const char *id, json_t *conn, const char *error, bool forms);

/* sequence.c: SVG of what the flight recorder has of a connection; a sentence where it has nothing. */
void sequence_graph(FILE *out, struct web *w, const char *id);

/* live.c */
struct web_live *live_new(struct web *w);
void live_stop(struct web_live *l); /* all subscribers end; before MHD_stop_daemon() */
void live_free(struct web_live *l);
/* The stream of an overview (id NULL) or a connection; NULL: too many subscribers, or no memory. */
struct MHD_Response *live_response(struct web_live *l, struct MHD_Connection *c, const char *id,
                                   const struct web_select *select);

/* http.c: libmicrohttpd's handlers. */
enum MHD_Result http_handle(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                            const char *upload, size_t *upload_bytes, void **state);
void http_completed(void *cls, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why);

/* assets.c */
extern const char asset_style[], asset_script[];

/* metrics.c */
void metrics_write(FILE *out, const struct web_data *data, bool openmetrics);

#endif
