/*
 * web/main.c: taut-web, the status page (theory of operation).
 *
 * The main thread waits for connections on a descriptor from taut_listen() and adds each to libmicrohttpd
 * (MHD_add_connection()), which serves them on one thread of its own by epoll; requests ask the daemon over a second
 * client, used by that thread only. If the daemon goes away the listener ends; taut-web then tries once a second to listen
 * again, so that either may be restarted.
 *
 * Everything is read-only: GET and HEAD; no call that steers is made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "web/web.h"

#define CONNS_SHOWN 500

struct web {
    const char *socket_path, *address;
    uint16_t port;
    struct taut *query; /* of libmicrohttpd's thread */
    struct web_sample last, before_last;
};

static volatile sig_atomic_t stop_wanted;

static void on_signal(int signum)
{
    (void)signum;
    stop_wanted = 1;
}

/* ---- Asking the daemon ------------------------------------------------------------------------------------------- */

double web_number(json_t *object, const char *group, const char *name)
{
    json_t *g = group ? json_object_get(object, group) : object;
    json_t *v = json_object_get(g, name);

    if (json_is_object(v))
        v = json_object_get(v, "value");
    return json_number_value(v);
}

/* One call; NULL with data->error set where it fails. Opens the client when there is none (any more). */
static json_t *ask(struct web *w, const char *method, const char *params, char *error, size_t bytes)
{
    char *text = NULL;
    json_t *result = NULL;
    int r = -ENOTCONN;

    for (int tries = 0; tries < 2 && r < 0; tries++) {
        if (!w->query && !(w->query = taut_open(w->socket_path))) {
            snprintf(error, bytes, "tautd cannot be reached: %s", strerror(errno));
            return NULL;
        }
        r = taut_call(w->query, method, params, &text, NULL);
        if (r < 0) {
            snprintf(error, bytes, "%s", taut_error(w->query));
            if (r != -EPIPE && r != -ECONNRESET && r != -ENOTCONN)
                return NULL; /* the daemon's answer, not a lost connection */
            taut_close(w->query);
            w->query = NULL;
        }
    }
    if (r == 0)
        result = json_loads(text, 0, NULL);
    free(text);
    return result;
}

static void fetch(struct web *w, struct web_data *ret)
{
    char params[64];

    memset(ret, 0, sizeof *ret);
    snprintf(params, sizeof params, "{\"limit\":%d}", CONNS_SHOWN);
    ret->status = ask(w, "server.status", NULL, ret->error, sizeof ret->error);
    if (ret->status)
        ret->stats = ask(w, "stats.get", "{\"help\":true}", ret->error, sizeof ret->error);
    if (ret->stats)
        ret->conns = ask(w, "conn.list", params, ret->error, sizeof ret->error);
}

static void fetch_free(struct web_data *data)
{
    json_decref(data->status);
    json_decref(data->stats);
    json_decref(data->conns);
}

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Rates are differences between looks that are at least half a second apart. */
static void sample(struct web *w, const struct web_data *data, struct web_sample *ret_now, struct web_sample *ret_before)
{
    *ret_now = (struct web_sample){
        .at_s = seconds(),
        .in_bytes = web_number(data->stats, "tcp", "TCPInBytes"),
        .out_bytes = web_number(data->stats, "tcp", "TCPOutBytes"),
        .in_segs = web_number(data->stats, "tcp", "InSegs"),
        .out_segs = web_number(data->stats, "tcp", "OutSegs"),
        .retrans = web_number(data->stats, "tcp", "RetransSegs"),
    };
    if (ret_now->at_s - w->last.at_s >= 0.5) {
        w->before_last = w->last;
        w->last = *ret_now;
    }
    *ret_before = w->before_last;
}

/* ---- Answers -------------------------------------------------------------------------------------------------------- */

struct answer {
    unsigned status;
    const char *type;
    char *text;
    size_t bytes;
};

static const char html_type[] = "text/html; charset=utf-8";
static const char json_content[] = "application/json";

static void answer_json(struct web *w, struct answer *a, FILE *out, const char *method, const char *params)
{
    char error[256];
    json_t *v = ask(w, method, params, error, sizeof error);

    a->type = json_content;
    if (!v) {
        bool gone = strstr(error, "NO_SUCH") != NULL;

        a->status = gone ? MHD_HTTP_NOT_FOUND : MHD_HTTP_BAD_GATEWAY;
        v = json_pack("{s:s}", "error", error);
    }
    json_dumpf(v, out, JSON_INDENT(1));
    fputc('\n', out);
    json_decref(v);
}

static void answer_index(struct web *w, struct answer *a, FILE *out)
{
    struct web_data data;
    struct web_sample now, before;

    fetch(w, &data);
    if (!data.stats) {
        a->status = MHD_HTTP_BAD_GATEWAY;
        page_error(out, "tautd does not answer", data.error);
    } else {
        sample(w, &data, &now, &before);
        page_index(out, &data, &now, &before);
    }
    fetch_free(&data);
}

static void answer_metrics(struct web *w, struct answer *a, FILE *out)
{
    struct web_data data;

    fetch(w, &data);
    a->type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    if (!data.stats)
        a->status = MHD_HTTP_BAD_GATEWAY;
    metrics_write(out, &data);
    fetch_free(&data);
}

/* Ids are digits, hexadecimal digits and a dot; anything else is not asked for. */
static bool id_ok(const char *id)
{
    size_t n = strspn(id, "0123456789abcdef.");

    return n > 0 && n < TAUT_ID_MAX && !id[n];
}

static void answer_connection(struct web *w, struct answer *a, FILE *out, const char *id, bool as_json)
{
    char params[TAUT_ID_MAX + 16], error[256] = "no such connection";
    json_t *conn = NULL;

    snprintf(params, sizeof params, "{\"id\":\"%s\"}", id_ok(id) ? id : "");
    if (as_json) {
        answer_json(w, a, out, "conn.get", params);
        return;
    }
    if (id_ok(id))
        conn = ask(w, "conn.get", params, error, sizeof error);
    if (!conn)
        a->status = MHD_HTTP_NOT_FOUND;
    page_connection(out, id_ok(id) ? id : "?", conn, error);
    json_decref(conn);
}

static void route(struct web *w, const char *path, struct answer *a, FILE *out)
{
    if (!strcmp(path, "/"))
        answer_index(w, a, out);
    else if (!strcmp(path, "/metrics"))
        answer_metrics(w, a, out);
    else if (!strcmp(path, "/api/status"))
        answer_json(w, a, out, "server.status", NULL);
    else if (!strcmp(path, "/api/stats"))
        answer_json(w, a, out, "stats.get", NULL);
    else if (!strcmp(path, "/api/connections"))
        answer_json(w, a, out, "conn.list", NULL);
    else if (!strcmp(path, "/api/neighbours"))
        answer_json(w, a, out, "neigh.list", NULL);
    else if (!strncmp(path, "/api/connections/", 17))
        answer_connection(w, a, out, path + 17, true);
    else if (!strncmp(path, "/connections/", 13))
        answer_connection(w, a, out, path + 13, false);
    else {
        a->status = MHD_HTTP_NOT_FOUND;
        page_error(out, "Not here", "There is /, /metrics, /api/status, /api/stats, /api/connections and "
                                    "/api/neighbours.");
    }
}

static enum MHD_Result send_answer(struct MHD_Connection *c, const struct answer *a)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(a->bytes, a->text, MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result;

    if (!r) {
        free(a->text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", a->type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    result = MHD_queue_response(c, a->status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    struct answer a = {.status = MHD_HTTP_OK, .type = html_type};
    static int seen;

    (void)version, (void)upload;
    if (!*state) {
        *state = &seen; /* headers only; the body, if any, follows */
        return MHD_YES;
    }
    if (*upload_bytes) {
        *upload_bytes = 0; /* nobody wants it */
        return MHD_YES;
    }
    FILE *out = open_memstream(&a.text, &a.bytes);

    if (!out)
        return MHD_NO;
    if (strcmp(method, "GET") && strcmp(method, "HEAD")) {
        a.status = MHD_HTTP_METHOD_NOT_ALLOWED;
        page_error(out, "Only for reading", "This page answers GET and HEAD.");
    } else {
        route(cls, url, &a, out);
    }
    fclose(out);
    return send_answer(c, &a);
}

/* ---- Listening -------------------------------------------------------------------------------------------------------- */

/* The peer's address as libmicrohttpd wants it; of no family if the text is not understood. */
static socklen_t peer_address(const char *text, struct sockaddr_storage *ret)
{
    char host[TAUT_ADDR_MAX];
    const char *colon = strrchr(text, ':');
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof *ret);
    if (!colon)
        return 0;
    size_t n = (size_t)(colon - text);
    bool v6 = text[0] == '[' && n >= 2;

    memcpy(host, text + (v6 ? 1 : 0), n - (v6 ? 2 : 0));
    host[n - (v6 ? 2 : 0)] = '\0';
    host[strcspn(host, "%")] = '\0';
    if (v6 && inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)atoi(colon + 1));
        return sizeof *in6;
    }
    if (!v6 && inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)atoi(colon + 1));
        return sizeof *in;
    }
    return 0;
}

static void add_connection(struct MHD_Daemon *mhd, int fd, const struct taut_accepted *info)
{
    struct sockaddr_storage addr;
    socklen_t bytes = peer_address(info->peer, &addr);

    if (MHD_add_connection(mhd, fd, bytes ? (struct sockaddr *)&addr : NULL, bytes) != MHD_YES)
        fprintf(stderr, "taut-web: a connection from %s was refused by the HTTP library\n", info->peer);
}

/* Accepts until the listener ends or a signal comes. */
static void serve(struct MHD_Daemon *mhd, int listener)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};

    while (!stop_wanted) {
        struct taut_accepted info;
        int fd;

        if (poll(&p, 1, 1000) <= 0)
            continue;
        fd = taut_accept(listener, &info);
        if (fd >= 0)
            add_connection(mhd, fd, &info);
        else if (fd != -EAGAIN && fd != -EINTR)
            return;
    }
}

/* -1: it may not listen: wrong address, port taken, no permission. After it has once listened the port may be taken for a
 * moment only (the daemon was restarted), so then it tries on. */
static int listen_and_serve(struct web *w, struct MHD_Daemon *mhd, bool first)
{
    struct taut *t = taut_open(w->socket_path);
    int listener;

    if (!t) {
        if (first)
            fprintf(stderr, "taut-web: tautd cannot be reached: %s; trying on\n", strerror(errno));
        return 0;
    }
    listener = taut_listen(t, w->address, w->port, 128);
    if (listener < 0) {
        fprintf(stderr, "taut-web: cannot listen on port %u: %s\n", w->port, taut_error(t));
        taut_close(t);
        return first || listener == -EACCES || listener == -EINVAL ? -1 : 0;
    }
    fprintf(stderr, "taut-web: serving on port %u\n", w->port);
    serve(mhd, listener);
    close(listener);
    taut_close(t);
    return 0;
}

static const char usage[] = "Usage: taut-web [-S SOCKET] [-a ADDRESS] [-p PORT]\n"
                            "\n"
                            "Serves the status page of a running tautd through the stack itself.\n"
                            "\n"
                            "  -S, --socket PATH     control directory or socket (default $TAUT_SOCKET, else /run/taut)\n"
                            "  -a, --address ADDRESS address of the stack to listen on (default: all)\n"
                            "  -p, --port PORT       port of the stack to listen on (default 80)\n"
                            "  -V, --version         print the version and end\n"
                            "  -h, --help            this text\n"
                            "\n"
                            "Pages: / (people), /connections/ID, /metrics (OpenMetrics), /api/status, /api/stats,\n"
                            "/api/connections, /api/connections/ID, /api/neighbours (JSON).\n";

static int parse_options(int argc, char **argv, struct web *w)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 'S'}, {"address", required_argument, NULL, 'a'},
        {"port", required_argument, NULL, 'p'},   {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "S:a:p:Vh", longs, NULL)) != -1) {
        char *end = NULL;

        if (c == 'S')
            w->socket_path = optarg;
        else if (c == 'a')
            w->address = optarg;
        else if (c == 'p') {
            unsigned long port = strtoul(optarg, &end, 10);

            if (*end || port < 1 || port > 65535) {
                fprintf(stderr, "taut-web: '%s' is no port; expected 1 to 65535\n", optarg);
                return -1;
            }
            w->port = (uint16_t)port;
        } else if (c == 'V') {
            puts("taut-web " TAUT_VERSION);
            exit(0);
        } else if (c == 'h') {
            fputs(usage, stdout);
            exit(0);
        } else
            return -1;
    }
    if (optind < argc) {
        fprintf(stderr, "taut-web: unexpected argument '%s'\n", argv[optind]);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct web w = {.port = 80};
    struct sigaction sa = {.sa_handler = on_signal};
    struct MHD_Daemon *mhd;
    int r = 0;

    if (parse_options(argc, argv, &w) < 0) {
        fputs("Try 'taut-web --help'.\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    mhd = MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC | MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, handle,
                           &w, MHD_OPTION_CONNECTION_TIMEOUT, 60u, MHD_OPTION_CONNECTION_LIMIT, 512u, MHD_OPTION_END);
    if (!mhd) {
        fprintf(stderr, "taut-web: cannot start the HTTP library\n");
        return 1;
    }
    for (bool first = true; !stop_wanted && r == 0; first = false) {
        r = listen_and_serve(&w, mhd, first);
        if (!stop_wanted && r == 0)
            poll(NULL, 0, 1000);
    }
    MHD_stop_daemon(mhd);
    if (w.query)
        taut_close(w.query);
    return r < 0 ? 1 : 0;
}
