/*
 * daemon/method_tcp.c: tcp.listen and tcp.connect: arguments into sockets, sockets into descriptors
 * (program.h).
 *
 * A connect under way is a struct connecting: it owns its sock until the handshake ends, and answers exactly
 * once: connected (the sock goes to a pump), refused, out of time, or the client has gone (RST). Addresses
 * only: names are resolved by clients. `data` leaves with the SYN where Fast Open allows (RFC 7413); what
 * the SYN did not take, data[data_sent..], follows once connected.
 */
#include "daemon/call.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/events.h"
#include "daemon/md5.h"
#include "daemon/program.h"

/* Linux's numbers: level, name. */
#define OPT_REUSEADDR 1, 2
#define OPT_NODELAY   6, 1
#define OPT_V6ONLY    41, 26

struct connecting {
    struct sock_owner owner;
    struct control_pending pending;
    struct list_node link; /* in programs->connecting */
    struct daemon *d;
    struct sock *sock;
    ev_timer timer;
    pid_t pid;
    char *data; /* to send first, or NULL */
    size_t data_len, data_sent;
};

static json_t *sock_name_json(const struct sock *s, bool peer)
{
    struct ip_addr a = {0};
    uint16_t port = 0;

    if ((peer ? sock_peer(s, &a, &port) : sock_name(s, &a, &port)) < 0)
        return json_null();
    return json_addr_port(&a, port);
}

/* ---- tcp.listen
 * -------------------------------------------------------------------------------------------------- */

/* The configuration's keys for its port, then the program's own, "PREFIX KEY" each. A list without one is refused: who sent
 * it meant to sign. */
static int listener_keys(struct control_call *call, struct sock *s)
{
    const json_t *list = json_object_get(call->args, "md5"), *item;
    struct tcp_md5_key key;
    struct ip_addr addr;
    uint16_t port = 0;
    size_t i;
    int r = sock_name(s, &addr, &port);

    if (r == 0)
        r = list && !json_array_size(list) ? -EINVAL : md5_apply(call->d, s, port, call->now);
    json_array_foreach(list, i, item)
    {
        if (r == 0)
            r = md5_parse(json_string_value(item), &key) ? sock_md5_set(s, &key, call->now) : -EINVAL;
        explicit_bzero(&key, sizeof key);
    }
    return r;
}

static int listening_sock(struct control_call *call, struct sock **ret)
{
    struct ip_addr addr = {0};
    int on = 1, v6only = arg_bool(call, "v6only"), r;
    struct sock *s;

    arg_address(call, "address", &addr);
    s = sock_new(call->d->socks, addr.family == IP_V4 ? IP_V4 : IP_V6, NULL);
    if (!s)
        return -ENOMEM;
    r = sock_setopt(s, OPT_REUSEADDR, &on, sizeof on, call->now);
    if (r == 0 && addr.family != IP_V4)
        r = sock_setopt(s, OPT_V6ONLY, &v6only, sizeof v6only, call->now);
    if (r == 0)
        r = sock_bind(s, &addr, (uint16_t)arg_int(call, "port", 0));
    if (r == 0)
        r = listener_keys(call, s);
    if (r == 0)
        r = sock_listen(s, (uint32_t)arg_int(call, "backlog", 128));
    if (r < 0)
        sock_close(s, call->now);
    else
        *ret = s;
    return r;
}

enum control_outcome method_tcp_listen(struct control_call *call)
{
    struct sock *s = NULL;
    uint32_t number;
    char text[16];
    int r;

    if (call->d->draining)
        return control_fail(call, CONTROL_SHUTTING_DOWN, 0, "the daemon is ending");
    r = listening_sock(call, &s);
    if (r < 0)
        return control_fail_errno(call, -r, "listen");
    r = program_listen(call->d, s, call->client->pid, json_object_get(call->args, "md5"), &number, &call->fd);
    if (r < 0) {
        sock_close(s, call->now);
        return control_fail_errno(call, -r, "listen");
    }
    snprintf(text, sizeof text, "%u", number);
    call->result = json_pack("{s:s, s:o}", "listener", text, "address", sock_name_json(s, false));
    return CONTROL_DONE;
}

/* ---- tcp.connect
 * ------------------------------------------------------------------------------------------------- */

static void connecting_free(struct connecting *c)
{
    ev_timer_stop(c->d->loop, &c->timer);
    list_del(&c->link);
    free(c->data);
    free(c);
}

static void connecting_fail(struct connecting *c, int err, uint64_t now)
{
    char text[128];

    sock_close(c->sock, now);
    snprintf(text, sizeof text, "connect: %s", strerror(err));
    control_reject(&c->pending, control_error_of_errno(err), err, text);
    connecting_free(c);
}

static void connecting_cancel(struct control_pending *p, uint64_t now)
{
    struct connecting *c = list_entry(p, struct connecting, pending);

    sock_abort(c->sock, now);
    daemon_kick(c->d);
    connecting_free(c);
}

static void connecting_done(struct connecting *c, uint64_t now)
{
    json_t *result = json_pack("{s:o, s:o, s:o}", "id", json_conn_id(sock_conn_id(c->sock)), "local",
                               sock_name_json(c->sock, false), "peer", sock_name_json(c->sock, true));
    size_t left = c->data_len - c->data_sent;
    int fd = -1, r = 0;

    if (left > 0 && sock_send(c->sock, c->data + c->data_sent, left, 0, now) != (int64_t)left)
        r = -ENOBUFS;
    if (r == 0)
        r = program_hand_over(c->d, c->sock, c->pid, &fd);
    if (r < 0) {
        json_decref(result);
        connecting_fail(c, -r, now);
        return;
    }
    control_resolve(&c->pending, result, fd);
    connecting_free(c);
}

static void connecting_ready(struct sock_owner *owner, struct sock *s, unsigned bits, uint64_t now)
{
    struct connecting *c = list_entry(owner, struct connecting, owner);
    int err = sock_take_error(s);

    if (err)
        connecting_fail(c, err, now);
    else if (bits & (SOCK_POLLERR | SOCK_POLLHUP))
        connecting_fail(c, ECONNRESET, now);
    else if (bits & SOCK_POLLOUT)
        connecting_done(c, now);
}

static void connecting_describe(const struct sock_owner *owner, struct sock_owner_info *ret)
{
    const struct connecting *c = list_entry(owner, const struct connecting, owner);

    snprintf(ret->name, sizeof ret->name, "program pid %d", (int)c->pid);
}

static void connecting_end(struct sock_owner *owner, struct sock *s, bool abort, uint64_t now)
{
    (void)s, (void)abort;
    connecting_fail(list_entry(owner, struct connecting, owner), ECONNABORTED, now);
}

static void connecting_timeout(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    connecting_fail(w->data, ETIMEDOUT, daemon_now());
}

void program_connects_end(struct daemon *d, uint64_t now)
{
    while (d->programs && !list_empty(&d->programs->connecting))
        connecting_fail(list_entry(list_first(&d->programs->connecting), struct connecting, link), ESHUTDOWN,
                        now);
}

/* As connect(2), with as much of the data in the SYN as it takes. */
static int connecting_syn(struct connecting *c, const struct ip_addr *peer, uint16_t port, uint64_t now)
{
    int64_t n;

    if (!c->data || !(c->d->config->tcp.tcp_fastopen & 1))
        return sock_connect(c->sock, peer, port, now);
    n = sock_sendto(c->sock, peer, port, c->data, c->data_len, SOCK_SEND_FASTOPEN, now);
    if (n > 0)
        c->data_sent = (size_t)n;
    return n < 0 ? (int)n : -EINPROGRESS;
}

/* The configuration's keys for that port, then the program's own, for the peer. */
static int connecting_keys(struct connecting *c, const struct control_call *call, const struct ip_addr *peer)
{
    const char *text = json_string_value(json_object_get(call->args, "md5"));
    struct tcp_md5_key key = {0};
    int r = md5_apply(call->d, c->sock, (uint16_t)arg_int(call, "port", 0), call->now);

    if (r == 0 && text)
        r = md5_for(peer, text, &key) ? sock_md5_set(c->sock, &key, call->now) : -EINVAL;
    explicit_bzero(&key, sizeof key);
    return r;
}

/* Socket, source, options, connect. 0 (under way) or -errno; the sock is made in any case but -ENOMEM. */
static int connecting_begin(struct connecting *c, const struct control_call *call, const struct ip_addr *peer)
{
    struct ip_addr source = {0};
    uint16_t source_port = (uint16_t)arg_int(call, "source_port", 0);
    int on = 1, r = 0;

    c->sock = sock_new(call->d->socks, (enum ip_family)peer->family, &c->owner);
    if (!c->sock)
        return -ENOMEM;
    if (arg_address(call, "source", &source) || source_port)
        r = sock_bind(c->sock, &source, source_port);
    if (r == 0 && arg_bool(call, "nodelay"))
        r = sock_setopt(c->sock, OPT_NODELAY, &on, sizeof on, call->now);
    if (r == 0)
        r = connecting_keys(c, call, peer);
    if (r == 0)
        r = connecting_syn(c, peer, (uint16_t)arg_int(call, "port", 0), call->now);
    return r == -EINPROGRESS ? 0 : r;
}

static struct connecting *connecting_new(const struct control_call *call)
{
    struct connecting *c = calloc(1, sizeof *c);
    const json_t *data = json_object_get(call->args, "data");

    if (!c)
        return NULL;
    c->owner.ready = connecting_ready;
    c->owner.describe = connecting_describe;
    c->owner.end = connecting_end;
    c->d = call->d;
    c->pid = call->client->pid;
    list_init(&c->link);
    ev_timer_init(&c->timer, connecting_timeout, (double)arg_int(call, "timeout_ms", 0) / 1e3, 0.);
    c->timer.data = c;
    if (data && json_string_length(data) > 0) {
        c->data_len = json_string_length(data);
        c->data = malloc(c->data_len);
        if (!c->data) {
            free(c);
            return NULL;
        }
        memcpy(c->data, json_string_value(data), c->data_len);
    }
    return c;
}

enum control_outcome method_tcp_connect(struct control_call *call)
{
    struct connecting *c;
    struct ip_addr peer;
    int r;

    if (call->d->draining)
        return control_fail(call, CONTROL_SHUTTING_DOWN, 0, "the daemon is ending");
    arg_address(call, "address", &peer);
    c = connecting_new(call);
    if (!c)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    r = connecting_begin(c, call, &peer);
    if (r < 0) {
        if (c->sock)
            sock_close(c->sock, call->now);
        connecting_free(c);
        return control_fail_errno(call, -r, "connect");
    }
    list_add_tail(&call->d->programs->connecting, &c->link);
    control_pend(call, &c->pending, connecting_cancel);
    if (arg_int(call, "timeout_ms", 0) > 0)
        ev_timer_start(call->d->loop, &c->timer);
    return CONTROL_PENDING;
}
