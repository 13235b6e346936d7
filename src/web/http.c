/*
 * web/http.c: routes, answers and the two forms (theory of operation).
 *
 * GET and HEAD look; they are all there is unless taut-web was started with --control. Then POST to
 * /connections/ID/close and /abort ends a connection, if the form brings the token that this process put into its own pages
 * and the browser names no other origin: a page of somebody else's can neither read the token nor guess it. Nor can it after
 * it made its own name stand for our address (DNS rebinding): forms come and go only under a host that is an address,
 * localhost, or a name of --host. A request's
 * body is kept up to BODY_MAX bytes and otherwise refused. Every answer forbids the browser whatever our pages do not need.
 */
#include "web/web.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_MAX 512

struct request {
    char body[BODY_MAX + 1];
    size_t bytes;
    bool too_long;
};

struct answer {
    unsigned status;
    const char *type, *location;
    char *text;
    size_t bytes;
};

static const char html_type[] = "text/html; charset=utf-8";
static const char json_content[] = "application/json";

/* ---- What is asked for ------------------------------------------------------------------------------------------------- */

static const char *query(struct MHD_Connection *c, const char *name)
{
    const char *v = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, name);

    return v ? v : "";
}

static int query_number(struct MHD_Connection *c, const char *name, int max)
{
    const char *text = query(c, name);
    char *end;
    long v = strtol(text, &end, 10);

    return *text >= '0' && *text <= '9' && !*end && v <= max ? (int)v : -1;
}

/* What makes no sense is as if absent. */
static void read_select(struct MHD_Connection *c, struct web_select *ret)
{
    const char *state = query(c, "state"), *after = query(c, "after");
    int rows = query_number(c, "rows", WEB_ROWS_MAX);

    *ret = (struct web_select){.local_port = query_number(c, "port", 65535),
                               .peer_port = query_number(c, "peer_port", 65535),
                               .rows = rows > 0 ? (unsigned)rows : WEB_ROWS_DEFAULT,
                               .active = query(c, "active")[0] == '1'};
    if (strspn(state, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_12") == strlen(state) && strlen(state) < sizeof ret->state)
        strcpy(ret->state, state);
    if (web_id_ok(after))
        strcpy(ret->after, after);
}

/* The browser was told to come to an address, or by a name that is ours: not by one that others can make mean us. */
static bool host_ok(const struct web *w, struct MHD_Connection *c)
{
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");
    bool v6 = host && host[0] == '[';
    size_t n = host ? strcspn(host + v6, v6 ? "]" : ":") : 0;
    char name[256];
    struct in6_addr addr;
    bool ok;

    if (!n || n >= sizeof name || (v6 && host[1 + n] != ']'))
        return false;
    memcpy(name, host + v6, n);
    name[n] = '\0';
    ok = inet_pton(v6 ? AF_INET6 : AF_INET, name, &addr) == 1 || (!v6 && !strcasecmp(name, "localhost"));
    for (unsigned i = 0; i < w->n_hosts && !ok && !v6; i++)
        ok = !strcasecmp(name, w->hosts[i]);
    return ok;
}

/* ---- Answers ----------------------------------------------------------------------------------------------------------- */

static void answer_json(struct web *w, struct answer *a, FILE *out, const char *method, const char *params)
{
    char error[256];
    json_t *v = ask(w, method, params, error, sizeof error);

    a->type = json_content;
    if (!v) {
        bool gone = strstr(error, "NO_SUCH") != NULL, wrong = strstr(error, "INVALID_PARAMS") != NULL;

        a->status = gone ? MHD_HTTP_NOT_FOUND : wrong ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_BAD_GATEWAY;
        v = json_pack("{s:s}", "error", error);
    }
    json_dumpf(v, out, JSON_INDENT(1));
    fputc('\n', out);
    json_decref(v);
}

/* A page of conn.list as the daemon answers it. */
static void answer_list(struct web *w, struct answer *a, FILE *out, const struct web_select *s, bool rows_given)
{
    char *params = ask_list_params(s, s->after, rows_given ? s->rows : 1000);

    answer_json(w, a, out, "conn.list", params);
    free(params);
}

static void answer_overview(struct web *w, struct answer *a, FILE *out, const struct web_select *s)
{
    struct web_data data;

    if (ask_overview(w, s, &data)) {
        page_overview(out, &data);
    } else {
        a->status = MHD_HTTP_BAD_GATEWAY;
        page_error(out, "tautd does not answer", data.error);
    }
    ask_free(&data);
}

static void answer_metrics(struct web *w, struct answer *a, FILE *out, struct MHD_Connection *c)
{
    const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Accept");
    bool openmetrics = accept && strstr(accept, "application/openmetrics-text");
    struct web_select none = {.local_port = -1, .peer_port = -1};
    struct web_data data;

    ask_overview(w, &none, &data);
    a->type = openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                          : "text/plain; version=0.0.4; charset=utf-8";
    metrics_write(out, &data, openmetrics);
    ask_free(&data);
}

static void answer_connection(struct web *w, struct MHD_Connection *c, struct answer *a, FILE *out, const char *id,
                              bool as_json)
{
    char params[TAUT_ID_MAX + 16], error[256] = "no such connection";
    json_t *conn = NULL;

    snprintf(params, sizeof params, "{\"id\":\"%s\"}", web_id_ok(id) ? id : "0.0");
    if (as_json) {
        answer_json(w, a, out, "conn.get", params);
        return;
    }
    if (web_id_ok(id))
        conn = ask(w, "conn.get", params, error, sizeof error);
    if (!conn)
        a->status = MHD_HTTP_NOT_FOUND;
    page_connection(out, w, web_id_ok(id) ? id : "?", conn, error, host_ok(w, c));
    json_decref(conn);
}

static void answer_asset(struct answer *a, FILE *out, const char *type, const char *text)
{
    a->type = type;
    fputs(text, out);
}

static void route(struct web *w, struct MHD_Connection *c, const char *path, struct answer *a, FILE *out)
{
    struct web_select s;

    read_select(c, &s);
    if (!strcmp(path, "/"))
        answer_overview(w, a, out, &s);
    else if (!strcmp(path, "/style.css"))
        answer_asset(a, out, "text/css; charset=utf-8", asset_style);
    else if (!strcmp(path, "/live.js"))
        answer_asset(a, out, "text/javascript; charset=utf-8", asset_script);
    else if (!strcmp(path, "/metrics"))
        answer_metrics(w, a, out, c);
    else if (!strcmp(path, "/api/status"))
        answer_json(w, a, out, "server.status", NULL);
    else if (!strcmp(path, "/api/stats"))
        answer_json(w, a, out, "stats.get", NULL);
    else if (!strcmp(path, "/api/connections"))
        answer_list(w, a, out, &s, query(c, "rows")[0] != '\0');
    else if (!strcmp(path, "/api/neighbours"))
        answer_json(w, a, out, "neigh.list", NULL);
    else if (!strncmp(path, "/api/connections/", 17))
        answer_connection(w, c, a, out, path + 17, true);
    else if (!strncmp(path, "/connections/", 13))
        answer_connection(w, c, a, out, path + 13, false);
    else {
        a->status = MHD_HTTP_NOT_FOUND;
        page_error(out, "Not here", "There is /, /metrics, /api/status, /api/stats, /api/connections and "
                                    "/api/neighbours.");
    }
}

/* ---- Forms ------------------------------------------------------------------------------------------------------------- */

/* Takes as long whatever the difference. */
static bool same(const char *a, const char *b, size_t n)
{
    unsigned char d = 0;

    for (size_t i = 0; i < n; i++)
        d |= (unsigned char)(a[i] ^ b[i]);
    return d == 0;
}

static bool token_ok(const struct web *w, const struct request *r)
{
    return r->bytes == 6 + WEB_TOKEN_BYTES - 1 && memcmp(r->body, "token=", 6) == 0 &&
           same(r->body + 6, w->token, WEB_TOKEN_BYTES - 1);
}

/* A browser tells where a form came from; a program need not. */
static bool origin_ok(struct MHD_Connection *c)
{
    const char *origin = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");
    const char *after = origin ? strstr(origin, "://") : NULL;

    return !origin || (after && host && strcmp(after + 3, host) == 0);
}

static void refuse(struct answer *a, FILE *out, unsigned status, const char *title, const char *text)
{
    a->status = status;
    page_error(out, title, text);
}

/* /connections/ID/close and /connections/ID/abort */
static void post(struct web *w, struct MHD_Connection *c, const char *path, const struct request *r, struct answer *a,
                 FILE *out)
{
    char id[TAUT_ID_MAX] = "", params[TAUT_ID_MAX + 16], error[256] = "";
    const char *slash = strrchr(path, '/');
    size_t n = !strncmp(path, "/connections/", 13) && slash > path + 13 ? (size_t)(slash - path - 13) : 0;
    bool closes = slash && !strcmp(slash, "/close"), aborts = slash && !strcmp(slash, "/abort");
    json_t *j;

    if (n && n < sizeof id)
        memcpy(id, path + 13, n);
    if (!w->control) {
        refuse(a, out, MHD_HTTP_METHOD_NOT_ALLOWED, "Only for reading", "taut-web was not started with --control.");
    } else if ((!closes && !aborts) || !web_id_ok(id)) {
        refuse(a, out, MHD_HTTP_NOT_FOUND, "Not here", "Nothing can be posted here.");
    } else if (!host_ok(w, c)) {
        refuse(a, out, MHD_HTTP_FORBIDDEN, "Refused", "This name is none of --host's.");
    } else if (!token_ok(w, r) || !origin_ok(c)) {
        refuse(a, out, MHD_HTTP_FORBIDDEN, "Refused", "This form did not come from a page of this taut-web.");
    } else {
        snprintf(params, sizeof params, "{\"id\":\"%s\"}", id);
        j = ask(w, closes ? "conn.close" : "conn.abort", params, error, sizeof error);
        a->status = j ? MHD_HTTP_SEE_OTHER : MHD_HTTP_CONFLICT;
        a->location = j ? "/" : NULL;
        page_error(out, j ? "Done" : "Refused", j ? "" : error);
        json_decref(j);
    }
}

/* ---- libmicrohttpd ----------------------------------------------------------------------------------------------------- */

static void headers(struct MHD_Response *r, const char *type)
{
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "Content-Security-Policy",
                            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
                            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "X-Frame-Options", "DENY");
    MHD_add_response_header(r, "Referrer-Policy", "same-origin");
    MHD_add_response_header(r, "Cross-Origin-Resource-Policy", "same-origin");
}

static enum MHD_Result send_answer(struct MHD_Connection *c, const struct answer *a)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(a->bytes, a->text, MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result;

    if (!r) {
        free(a->text);
        return MHD_NO;
    }
    headers(r, a->type);
    if (a->location)
        MHD_add_response_header(r, "Location", a->location);
    if (a->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, "Allow", "GET, HEAD");
    result = MHD_queue_response(c, a->status, r);
    MHD_destroy_response(r);
    return result;
}

/* "/events", "/connections/ID/events": true if it is one, answered. */
static bool stream(struct web *w, struct MHD_Connection *c, const char *path, enum MHD_Result *ret)
{
    size_t n = strlen(path);
    char id[TAUT_ID_MAX] = "";
    bool overview = !strcmp(path, "/events");
    struct web_select s;
    struct MHD_Response *r;

    if (!overview) {
        if (strncmp(path, "/connections/", 13) || n < 13 + 8 || strcmp(path + n - 7, "/events") ||
            n - 20 >= sizeof id)
            return false;
        memcpy(id, path + 13, n - 20);
        if (!web_id_ok(id))
            return false;
    }
    read_select(c, &s);
    r = live_response(w->live, c, overview ? NULL : id, &s);
    if (r) {
        headers(r, "text/event-stream");
        *ret = MHD_queue_response(c, MHD_HTTP_OK, r);
    } else {
        r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        *ret = MHD_queue_response(c, MHD_HTTP_SERVICE_UNAVAILABLE, r);
    }
    MHD_destroy_response(r);
    return true;
}

static void keep_body(struct request *r, const char *upload, size_t bytes)
{
    if (bytes > BODY_MAX - r->bytes) {
        r->too_long = true;
        return;
    }
    memcpy(r->body + r->bytes, upload, bytes);
    r->bytes += bytes;
}

enum MHD_Result http_handle(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                            const char *upload, size_t *upload_bytes, void **state)
{
    struct answer a = {.status = MHD_HTTP_OK, .type = html_type};
    bool is_get = !strcmp(method, "GET"), looks = is_get || !strcmp(method, "HEAD");
    struct request *r = *state;
    enum MHD_Result result;
    FILE *out;

    (void)version;
    if (!r) {
        *state = calloc(1, sizeof *r); /* headers only; the body, if any, follows */
        return *state ? MHD_YES : MHD_NO;
    }
    if (*upload_bytes) {
        keep_body(r, upload, *upload_bytes);
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (is_get && stream(cls, c, url, &result))
        return result;
    out = open_memstream(&a.text, &a.bytes);
    if (!out)
        return MHD_NO;
    if (looks)
        route(cls, c, url, &a, out);
    else if (r->too_long)
        refuse(&a, out, MHD_HTTP_CONTENT_TOO_LARGE, "Too long", "No form here is that long.");
    else if (!strcmp(method, "POST"))
        post(cls, c, url, r, &a, out);
    else
        refuse(&a, out, MHD_HTTP_METHOD_NOT_ALLOWED, "Only for reading", "This page answers GET and HEAD.");
    fclose(out);
    return send_answer(c, &a);
}

void http_completed(void *cls, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    (void)cls, (void)c, (void)why;
    free(*state);
    *state = NULL;
}
