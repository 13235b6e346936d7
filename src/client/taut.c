/*
 * client/taut.c: libtaut: calls, connections, listeners and events over control.seq (theory of operation).
 *
 * One request is one message, one answer or event is one message, so a message that was received is whole,
 * and a descriptor belongs to the message it came with. While a call waits for its answer, events that come
 * are kept (at most EVENTS_MAX; older ones go first, which the events' "seq" shows) and answers of calls that
 * were given up are thrown away. Invariant: next_id is larger than the id of every request sent.
 *
 * No threads, no signals, no global state but errno; a call that a signal interrupts returns -EINTR, and its
 * answer is thrown away when it comes.
 */
#include "client/taut.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

#define FIRST_MAX         16384u /* what tcp.connect takes as data */
#define EXPORT            __attribute__((visibility("default")))
#define DEFAULT_DIRECTORY "/run/taut"
#define EVENTS_MAX        4096u

struct event {
    struct event *next;
    char *json;
};

struct taut {
    int fd;
    json_int_t next_id;
    char error[640];
    char *buf;
    size_t cap;
    struct event *first, **last;
    unsigned n_events;
};

/* ---- Opening
 * ----------------------------------------------------------------------------------------------------- */

/* path: a directory or a socket in it; NULL: the environment's or the default. False: too long. */
static bool seq_path(const char *path, char *ret, size_t n)
{
    struct stat st;
    const char *slash;
    int len;

    if (!path)
        path = getenv("TAUT_SOCKET");
    if (!path || !path[0])
        path = DEFAULT_DIRECTORY;
    slash = strrchr(path, '/');
    if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        len = snprintf(ret, n, "%.*s/control.seq", slash ? (int)(slash - path) : 1, slash ? path : ".");
    else
        len = snprintf(ret, n, "%s/control.seq", path);
    return len >= 0 && (size_t)len < n;
}

EXPORT struct taut *taut_open(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct taut *t;
    int err;

    if (!seq_path(path, sa.sun_path, sizeof sa.sun_path)) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->last = &t->first;
    t->next_id = 1;
    t->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (t->fd >= 0 && connect(t->fd, (struct sockaddr *)&sa, sizeof sa) == 0)
        return t;
    err = errno;
    taut_close(t);
    errno = err;
    return NULL;
}

EXPORT void taut_close(struct taut *t)
{
    if (!t)
        return;
    while (t->first) {
        struct event *e = t->first;

        t->first = e->next;
        free(e->json);
        free(e);
    }
    if (t->fd >= 0)
        close(t->fd);
    free(t->buf);
    free(t);
}

EXPORT int taut_fd(const struct taut *t)
{
    return t->fd;
}

EXPORT const char *taut_error(const struct taut *t)
{
    return t->error;
}

static int fail(struct taut *t, int err, const char *what)
{
    snprintf(t->error, sizeof t->error, "%s: %s", what, strerror(err));
    return -err;
}

/* ---- Messages
 * ---------------------------------------------------------------------------------------------------- */

/* One message with at most one descriptor (others are closed). Bytes, or -errno; -ECONNRESET: the other end
 * is gone. */
static ssize_t recv_message(int fd, char *buf, size_t cap, int *ret_fd)
{
    struct iovec iov = {.iov_base = buf, .iov_len = cap};
    union {
        char buf[CMSG_SPACE(sizeof(int) * 4)];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof control.buf};
    ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

    *ret_fd = -1;
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        size_t count = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
                           ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
                           : 0;

        for (size_t i = 0; i < count; i++) {
            int got;

            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof got);
            if (*ret_fd < 0)
                *ret_fd = got;
            else
                close(got);
        }
    }
    return n == 0 ? -ECONNRESET : n;
}

/* Waits until fd is readable. 0, -EAGAIN when the time is over, -EINTR, other -errno. timeout_ms -1: for
 * ever. */
static int wait_readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r = poll(&p, 1, timeout_ms);

    if (r < 0)
        return -errno;
    return r == 0 ? -EAGAIN : 0;
}

/* The next message as JSON, with its descriptor. 0 or -errno. */
static int next_message(struct taut *t, int timeout_ms, json_t **ret, int *ret_fd)
{
    int r = wait_readable(t->fd, timeout_ms);
    ssize_t n;
    json_error_t e;

    if (r < 0)
        return r;
    n = recv(t->fd, NULL, 0, MSG_PEEK | MSG_TRUNC);
    if (n < 0)
        return -errno;
    if ((size_t)n > t->cap) {
        char *bigger = realloc(t->buf, (size_t)n);

        if (!bigger)
            return -ENOMEM;
        t->buf = bigger;
        t->cap = (size_t)n;
    }
    n = recv_message(t->fd, t->buf, t->cap, ret_fd);
    if (n < 0)
        return (int)n;
    *ret = json_loadb(t->buf, (size_t)n, 0, &e);
    if (*ret)
        return 0;
    if (*ret_fd >= 0)
        close(*ret_fd);
    return -EBADMSG;
}

static bool is_event(const json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));

    return method && strcmp(method, "event") == 0;
}

static void drop_event(struct taut *t)
{
    struct event *e = t->first;

    t->first = e->next;
    if (!t->first)
        t->last = &t->first;
    t->n_events--;
    free(e->json);
    free(e);
}

static void keep_event(struct taut *t, const json_t *message)
{
    struct event *e = calloc(1, sizeof *e);

    if (!e)
        return;
    e->json = json_dumps(json_object_get(message, "params"), JSON_COMPACT);
    if (!e->json) {
        free(e);
        return;
    }
    *t->last = e;
    t->last = &e->next;
    if (++t->n_events > EVENTS_MAX)
        drop_event(t);
}

/* ---- Calls
 * ------------------------------------------------------------------------------------------------------- */

static int send_request(struct taut *t, const char *method, json_t *params, json_int_t *ret_id)
{
    json_int_t id = t->next_id++;
    json_t *request =
        json_pack("{s:s, s:I, s:s, s:o*}", "jsonrpc", "2.0", "id", id, "method", method, "params", params);
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    ssize_t n;

    json_decref(request);
    if (!text)
        return fail(t, EINVAL, method);
    n = send(t->fd, text, strlen(text), MSG_NOSIGNAL);
    free(text);
    if (n < 0)
        return fail(t, errno, "the daemon is gone");
    *ret_id = id;
    return 0;
}

/* The answer with this id. 0 with *ret (a new reference), or -errno. */
static int wait_answer(struct taut *t, json_int_t id, json_t **ret, int *ret_fd)
{
    for (;;) {
        json_t *message;
        int r = next_message(t, -1, &message, ret_fd);

        if (r < 0)
            return fail(t, -r, r == -EINTR ? "interrupted" : "the daemon is gone");
        if (json_is_integer(json_object_get(message, "id")) &&
            json_integer_value(json_object_get(message, "id")) == id) {
            *ret = message;
            return 0;
        }
        if (is_event(message))
            keep_event(t, message);
        if (*ret_fd >= 0)
            close(*ret_fd);
        json_decref(message);
    }
}

/* -errno of an error that was answered. */
static int answered_error(struct taut *t, const json_t *error)
{
    const json_t *data = json_object_get(error, "data");
    const char *name = json_string_value(json_object_get(data, "name"));
    const char *text = json_string_value(json_object_get(error, "message"));
    int err = (int)json_integer_value(json_object_get(data, "errno_number"));

    snprintf(t->error, sizeof t->error, "%s: %s", name ? name : "ERROR", text ? text : "the daemon refused");
    return err > 0 && err < 4096 ? -err : -EIO;
}

/* Takes the reference of params (NULL: none). 0 with *ret_result (a new reference) and *ret_fd, or -errno. */
static int call(struct taut *t, const char *method, json_t *params, json_t **ret_result, int *ret_fd)
{
    json_t *answer = NULL, *result, *error;
    json_int_t id = 0;
    int fd = -1, r;

    t->error[0] = '\0';
    r = send_request(t, method, params, &id);
    if (r == 0)
        r = wait_answer(t, id, &answer, &fd);
    if (r < 0)
        return r;
    result = json_object_get(answer, "result");
    error = json_object_get(answer, "error");
    if (!result)
        r = error ? answered_error(t, error) : fail(t, EBADMSG, method);
    else
        *ret_result = json_incref(result);
    if (r == 0 && ret_fd)
        *ret_fd = fd;
    else if (fd >= 0)
        close(fd);
    json_decref(answer);
    return r;
}

EXPORT int taut_call(struct taut *t, const char *method, const char *params, char **ret_result, int *ret_fd)
{
    json_t *object = NULL, *result;
    char *text;
    int fd = -1, r;

    if (params && !(object = json_loads(params, 0, NULL))) {
        snprintf(t->error, sizeof t->error, "INVALID_PARAMS: the parameters are not JSON");
        return -EINVAL;
    }
    r = call(t, method, object, &result, &fd);
    if (r < 0)
        return r;
    text = json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(result);
    if (!text) {
        if (fd >= 0)
            close(fd);
        return fail(t, ENOMEM, method);
    }
    if (ret_result)
        *ret_result = text;
    else
        free(text);
    if (ret_fd)
        *ret_fd = fd;
    else if (fd >= 0)
        close(fd);
    return 0;
}

EXPORT int taut_call_json(struct taut *t, const char *method, struct json_t *params, struct json_t **ret_result)
{
    return call(t, method, params, ret_result, NULL);
}

/* ---- Connections
 * ------------------------------------------------------------------------------------------------- */

static void copy_text(const json_t *object, const char *key, char *ret, size_t n)
{
    const char *text = json_string_value(json_object_get(object, key));

    snprintf(ret, n, "%s", text ? text : "");
}

/* A socket address as the daemon reads it: "fe80::1%3". */
static bool address_text(const struct sockaddr *sa, char *ret, size_t n)
{
    char text[INET6_ADDRSTRLEN];
    const struct sockaddr_in6 *in6 = (const void *)sa;

    if (sa->sa_family == AF_INET)
        return inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, ret,
                         (socklen_t)n) != NULL;
    if (sa->sa_family != AF_INET6 || !inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text))
        return false;
    if (in6->sin6_scope_id)
        snprintf(ret, n, "%s%%%u", text, in6->sin6_scope_id);
    else
        snprintf(ret, n, "%s", text);
    return true;
}

/*
 * A text of the caller's into the call; NULL: none was given. False: JSON cannot hold it (no UTF-8). Then nothing may be
 * asked for: a key left out would leave the connection unsigned.
 */
static bool set_text(json_t *params, const char *name, const char *text)
{
    return !text || json_object_set_new(params, name, json_string(text)) == 0;
}

static int no_text(struct taut *t, json_t *params)
{
    json_decref(params);
    return fail(t, EINVAL, "INVALID_PARAMS: addresses, keys and names are UTF-8 text");
}

/* Text without NUL travels in the call (JSON); NULL: what is to be sent first does not. */
static json_t *first_text(const struct taut_connect_options *o)
{
    if (!o || !o->data_bytes || o->data_bytes > FIRST_MAX || memchr(o->data, 0, o->data_bytes))
        return NULL;
    return json_stringn(o->data, o->data_bytes);
}

static int send_first(struct taut *t, int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) {
            int err = errno;

            close(fd);
            return fail(t, err, "the first bytes could not be sent");
        }
        data += n > 0 ? n : 0;
        bytes -= n > 0 ? (size_t)n : 0;
    }
    return fd;
}

static int connect_address(struct taut *t, const char *address, uint16_t port,
                           const struct taut_connect_options *o, char *ret_id)
{
    json_t *params = json_pack("{s:i, s:i, s:b}", "port", (int)port, "timeout_ms",
                               o ? (int)(o->timeout_ms > 86400000u ? 86400000u : o->timeout_ms) : 0,
                               "nodelay", o && o->nodelay);
    json_t *first, *result;
    int fd = -1, r;
    bool in_call;

    if (!set_text(params, "address", address) || !set_text(params, "source", o ? o->source : NULL) ||
        !set_text(params, "md5", o ? o->md5_key : NULL))
        return no_text(t, params);
    first = first_text(o);
    in_call = first && json_object_set_new(params, "data", first) == 0;
    r = call(t, "tcp.connect", params, &result, &fd);
    if (r < 0)
        return r;
    if (ret_id)
        copy_text(result, "id", ret_id, TAUT_ID_MAX);
    json_decref(result);
    if (fd < 0)
        return fail(t, EBADMSG, "no descriptor came");
    return o && o->data_bytes && !in_call ? send_first(t, fd, o->data, o->data_bytes) : fd;
}

static int resolve_error(struct taut *t, const char *host, int gai)
{
    snprintf(t->error, sizeof t->error, "NAME_NOT_RESOLVED: %s: %s", host, gai_strerror(gai));
    return gai == EAI_MEMORY            ? -ENOMEM
           : gai == EAI_AGAIN           ? -EAGAIN
           : gai == EAI_SYSTEM && errno ? -errno
                                        : -ENOENT;
}

EXPORT int taut_connect(struct taut *t, const char *host, uint16_t port,
                        const struct taut_connect_options *options, char ret_id[TAUT_ID_MAX])
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list;
    char text[INET6_ADDRSTRLEN + 16];
    int r = -ENOENT, gai;

    /* An address goes as it is: its scope is the daemon's, not the host's. */
    if (strchr(host, ':') || inet_pton(AF_INET, host, text) == 1)
        return connect_address(t, host, port, options, ret_id);
    gai = getaddrinfo(host, NULL, &hints, &list);
    if (gai)
        return resolve_error(t, host, gai);
    for (const struct addrinfo *a = list; a && r < 0 && r != -EINTR; a = a->ai_next) {
        if (address_text(a->ai_addr, text, sizeof text))
            r = connect_address(t, text, port, options, ret_id);
    }
    freeaddrinfo(list);
    return r;
}

EXPORT int taut_listen(struct taut *t, const char *addr, uint16_t port, unsigned backlog)
{
    return taut_listen_with(t, addr, port, &(struct taut_listen_options){.backlog = backlog});
}

EXPORT int taut_listen_with(struct taut *t, const char *addr, uint16_t port, const struct taut_listen_options *o)
{
    json_t *params = json_pack("{s:i}", "port", (int)port), *result, *md5;
    int fd = -1, r;

    if (!set_text(params, "address", addr))
        return no_text(t, params);
    if (o && o->backlog)
        json_object_set_new(params, "backlog", json_integer(o->backlog > 65535 ? 65535 : o->backlog));
    if (o && o->md5) {
        if (json_object_set_new(params, "md5", md5 = json_array()) < 0)
            return no_text(t, params);
        for (const char *const *text = o->md5; *text; text++) {
            if (json_array_append_new(md5, json_string(*text)) < 0)
                return no_text(t, params);
        }
    }
    r = call(t, "tcp.listen", params, &result, &fd);
    if (r < 0)
        return r;
    json_decref(result);
    return fd >= 0 ? fd : fail(t, EBADMSG, "no descriptor came");
}

EXPORT int taut_accept(int listener, struct taut_accepted *info)
{
    char text[1024];
    json_t *message;
    ssize_t n;
    int fd;

    n = recv_message(listener, text, sizeof text, &fd);
    if (n < 0)
        return (int)n;
    message = json_loadb(text, (size_t)n, 0, NULL);
    if (!message || fd < 0) {
        json_decref(message);
        if (fd >= 0)
            close(fd);
        return -EBADMSG;
    }
    if (info) {
        copy_text(message, "id", info->id, sizeof info->id);
        copy_text(message, "peer", info->peer, sizeof info->peer);
        copy_text(message, "local", info->local, sizeof info->local);
    }
    json_decref(message);
    return fd;
}

EXPORT int taut_info(struct taut *t, const char *id, char **ret_json)
{
    json_t *params = json_pack("{s:s}", "id", id), *result;
    int r;

    if (!params)
        return fail(t, EINVAL, "id");
    r = call(t, "conn.get", params, &result, NULL);
    if (r < 0)
        return r;
    *ret_json = json_dumps(result, JSON_COMPACT);
    json_decref(result);
    return *ret_json ? 0 : fail(t, ENOMEM, "conn.get");
}

/* ---- Events
 * ------------------------------------------------------------------------------------------------------ */

EXPORT int taut_subscribe(struct taut *t, const char *kinds)
{
    json_t *params = json_object(), *names = kinds ? json_array() : NULL, *result;
    int r;

    if (names && json_object_set_new(params, "kinds", names) < 0)
        return no_text(t, params);
    for (const char *p = kinds; p && *p;) {
        size_t n = strcspn(p, ",");

        if (json_array_append_new(names, json_stringn(p, n)) < 0)
            return no_text(t, params);
        p += n + (p[n] == ',');
    }
    r = call(t, "events.subscribe", params, &result, NULL);
    if (r < 0)
        return r;
    /* The present state comes first, as events with seq 0. */
    for (size_t i = 0; i < json_array_size(json_object_get(result, "snapshot")); i++) {
        json_t *row = json_array_get(json_object_get(result, "snapshot"), i), *message;

        json_object_set_new(row, "seq", json_integer(0));
        message = json_pack("{s:O}", "params", row);
        keep_event(t, message);
        json_decref(message);
    }
    json_decref(result);
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

EXPORT int taut_next_event(struct taut *t, int timeout_ms, char **ret_json)
{
    int64_t end = now_ms() + timeout_ms;

    while (!t->first) {
        int64_t left = timeout_ms < 0 ? -1 : end - now_ms();
        json_t *message;
        int fd, r = next_message(t, left < 0 && timeout_ms >= 0 ? 0 : (int)left, &message, &fd);

        if (r == -EAGAIN || r == -EINTR)
            return r;
        if (r < 0)
            return fail(t, -r, "the daemon is gone");
        if (is_event(message))
            keep_event(t, message);
        if (fd >= 0)
            close(fd);
        json_decref(message);
    }
    *ret_json = t->first->json;
    t->first->json = NULL;
    drop_event(t);
    return 0;
}
