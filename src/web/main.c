/*
 * web/main.c: taut-web, the status page (theory of operation).
 *
 * The main thread waits for connections on a descriptor from taut_listen() and adds each to libmicrohttpd
 * (MHD_add_connection()), which serves them on one thread of its own by epoll; requests ask the daemon over a second
 * client, used by that thread only. If the daemon goes away the listener ends; taut-web then tries once a second to listen
 * again, so that either may be restarted.
 *
 * Everything is read-only unless --control was given: no call that steers is made (http.c).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "web/web.h"

static volatile sig_atomic_t stop_wanted;

static void on_signal(int signum)
{
    (void)signum;
    stop_wanted = 1;
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

static const char usage[] = "Usage: taut-web [-S SOCKET] [-a ADDRESS] [-p PORT] [--control]\n"
                            "\n"
                            "Serves the status page of a running tautd through the stack itself.\n"
                            "\n"
                            "  -S, --socket PATH     control directory or socket (default $TAUT_SOCKET, else /run/taut)\n"
                            "  -a, --address ADDRESS address of the stack to listen on (default: all)\n"
                            "  -p, --port PORT       port of the stack to listen on (default 80)\n"
                            "  -c, --control         connections may be closed and aborted from the page; who can reach\n"
                            "                        the page can do it\n"
                            "  -H, --host NAME       a name of this page for that, besides addresses and localhost; may be\n"
                            "                        repeated\n"
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
        {"control", no_argument, NULL, 'c'},      {"host", required_argument, NULL, 'H'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "S:a:p:cH:Vh", longs, NULL)) != -1) {
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
        } else if (c == 'c') {
            w->control = true;
        } else if (c == 'H') {
            if (w->n_hosts == WEB_HOSTS_MAX) {
                fprintf(stderr, "taut-web: at most %d names of --host\n", WEB_HOSTS_MAX);
                return -1;
            }
            w->hosts[w->n_hosts++] = optarg;
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

static bool make_token(char ret[WEB_TOKEN_BYTES])
{
    unsigned char b[(WEB_TOKEN_BYTES - 1) / 2];

    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return false;
    for (size_t i = 0; i < sizeof b; i++)
        snprintf(ret + 2 * i, 3, "%02x", b[i]);
    return true;
}

static struct MHD_Daemon *start_http(struct web *w)
{
    if (!make_token(w->token) || !(w->live = live_new(w)))
        return NULL;
    return MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC | MHD_USE_EPOLL_INTERNAL_THREAD |
                                MHD_ALLOW_SUSPEND_RESUME,
                            0, NULL, NULL, http_handle, w, MHD_OPTION_NOTIFY_COMPLETED, http_completed, NULL,
                            MHD_OPTION_CONNECTION_TIMEOUT, 60u, MHD_OPTION_CONNECTION_LIMIT, 512u, MHD_OPTION_END);
}

static void stop_http(struct web *w, struct MHD_Daemon *mhd)
{
    live_stop(w->live);
    MHD_stop_daemon(mhd);
    live_free(w->live);
    json_decref(w->status);
    json_decref(w->stats);
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
    mhd = start_http(&w);
    if (!mhd) {
        fprintf(stderr, "taut-web: cannot start the HTTP library\n");
        return 1;
    }
    for (bool first = true; !stop_wanted && r == 0; first = false) {
        r = listen_and_serve(&w, mhd, first);
        if (!stop_wanted && r == 0)
            poll(NULL, 0, 1000);
    }
    stop_http(&w, mhd);
    if (w.query)
        taut_close(w.query);
    return r < 0 ? 1 : 0;
}
