/*
 * daemon/control.c: the control API's sockets and clients (theory of operation).
 *
 * Two listening sockets: control.sock (SOCK_STREAM, one object a line) and control.seq (SOCK_SEQPACKET, one
 * object a message, descriptors by SCM_RIGHTS). A client's read watcher is the first half of the turn: whole
 * requests are given to rpc.c, at most CONTROL_REQUESTS_PER_TURN at a time, so that one client cannot keep
 * the stack from its work; what is left waits for a zero timer. Answers are queued in client->out and written
 * by client->flush in the second half.
 *
 * Invariants: out_bytes = sum of the unsent bytes in `out`, <= CONTROL_QUEUE_MAX or the client is dead; a
 * client is freed only in the second half (flush) or by control_close(), so no handler loses the ground under
 * its feet.
 *
 * End of a client: EOF means that it sends no more (nc -N); it lives until its answers are out. A hang-up
 * ends it at once, with its pending calls cancelled.
 */
#include "daemon/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/events.h"
#include "daemon/program.h"
#include "daemon/room.h"

#define LATER        0.02 /* s */
#define ACCEPT_LATER 0.2

#define READ_BYTES       65536u
#define SEQ_BUFFER_BYTES (CONTROL_REQUEST_MAX)

static const char *const socket_name[2] = {"control.sock", "control.seq"};

/* ---- Sending: second half
 * ---------------------------------------------------------------------------------------- */

static void out_free(struct control_out *o)
{
    list_del(&o->link);
    if (o->fd >= 0)
        close(o->fd);
    free(o);
}

void control_client_end(struct control_client *cl)
{
    if (cl->dead)
        return;
    cl->dead = true;
    ev_io_stop(cl->control->d->loop, &cl->rd);
    ev_io_stop(cl->control->d->loop, &cl->wr);
    ev_timer_stop(cl->control->d->loop, &cl->more);
    daemon_defer(cl->control->d, &cl->flush);
    daemon_kick(cl->control->d);
}

void control_send(struct control_client *cl, json_t *object, int fd)
{
    struct daemon *d = cl->control->d;
    size_t len = object ? json_dumpb(object, NULL, 0, JSON_COMPACT) : 0;
    struct control_out *o = cl->dead || len == 0 ? NULL : malloc(sizeof *o + len + 1);

    if (!o) {
        json_decref(object);
        if (fd >= 0)
            close(fd);
        control_client_end(cl); /* out of memory: better no answer and an end than a hole */
        return;
    }
    json_dumpb(object, o->data, len, JSON_COMPACT);
    json_decref(object);
    if (!cl->seq)
        o->data[len++] = '\n';
    o->len = len;
    o->sent = 0;
    o->fd = fd;
    list_add_tail(&cl->out, &o->link);
    cl->out_bytes += len;
    if (cl->out_bytes > CONTROL_QUEUE_MAX) {
        d->counters.control_slow++;
        log_msg(&d->log, LOG_LVL_NOTICE, "control: client pid %d ended: it does not read its answers",
                (int)cl->pid);
        control_client_end(cl);
        return;
    }
    daemon_defer(d, &cl->flush);
    daemon_kick(d);
}

static ssize_t send_out(const struct control_client *cl, struct control_out *o)
{
    struct iovec iov = {.iov_base = o->data + o->sent, .iov_len = o->len - o->sent};
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (o->fd >= 0) {
        struct cmsghdr *c;

        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof control.buf;
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &o->fd, sizeof(int));
    }
    return sendmsg(cl->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A message that the kernel can't carry whole: an error with the same id in its place. */
static void answer_too_long(struct control_client *cl, struct control_out *o)
{
    struct control_fault f = {.error = CONTROL_ANSWER_TOO_LONG};
    json_t *object = json_loadb(o->data, o->len, 0, NULL);

    snprintf(f.text, sizeof f.text,
             "the answer has %zu bytes, more than one message holds: ask for less (limit) or "
             "use control.sock",
             o->len);
    cl->out_bytes -= o->len;
    out_free(o);
    control_answer_error(cl, json_object_get(object, "id"), &f);
    json_decref(object);
}

/* True when the queue is empty, false when the client must read first or has gone. */
static bool client_write(struct control_client *cl)
{
    while (!list_empty(&cl->out)) {
        struct control_out *o = list_entry(list_first(&cl->out), struct control_out, link);
        ssize_t n = send_out(cl, o);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EMSGSIZE && cl->seq) {
            answer_too_long(cl, o);
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            ev_io_start(cl->control->d->loop, &cl->wr);
            return false;
        }
        if (n < 0 && (errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS)) {
            ev_timer_again(cl->control->d->loop, &cl->later); /* it is writable all the while */
            return false;
        }
        if (n < 0) {
            cl->dead = true;
            return false;
        }
        if (o->fd >= 0) {
            close(o->fd);
            o->fd = -1;
        }
        o->sent += (size_t)n;
        cl->out_bytes -= (size_t)n;
        if (o->sent == o->len)
            out_free(o);
    }
    ev_io_stop(cl->control->d->loop, &cl->wr);
    return true;
}

static void client_free(struct control_client *cl)
{
    struct control *c = cl->control;
    uint64_t now = daemon_now();

    events_unsubscribe(cl);
    trace_unfollow(cl);
    while (!list_empty(&cl->pending)) {
        struct control_pending *p = list_entry(list_pop(&cl->pending), struct control_pending, link);

        json_decref(p->id);
        p->client = NULL;
        p->cancel(p, now);
    }
    while (!list_empty(&cl->out))
        out_free(list_entry(list_first(&cl->out), struct control_out, link));
    ev_io_stop(c->d->loop, &cl->rd);
    ev_io_stop(c->d->loop, &cl->wr);
    ev_timer_stop(c->d->loop, &cl->more);
    ev_timer_stop(c->d->loop, &cl->later);
    list_del(&cl->flush.link);
    list_del(&cl->link);
    c->n_clients--;
    close(cl->fd);
    free(cl->in);
    free(cl);
}

static void client_flush(struct deferred *w, uint64_t now)
{
    struct control_client *cl = list_entry(w, struct control_client, flush);
    bool idle;

    (void)now;
    idle = !cl->dead && client_write(cl);
    if (cl->dead || (idle && cl->eof && cl->n_pending == 0 && !cl->sub && !ev_is_active(&cl->more)))
        client_free(cl);
}

static void client_later(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct control_client *cl = w->data;

    (void)revents;
    ev_timer_stop(loop, w);
    daemon_defer(cl->control->d, &cl->flush);
    daemon_kick(cl->control->d);
}

static void client_writable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct control_client *cl = w->data;

    (void)loop, (void)revents;
    ev_io_stop(cl->control->d->loop, &cl->wr);
    daemon_defer(cl->control->d, &cl->flush);
    daemon_kick(cl->control->d);
}

/* ---- Reading: first half
 * ----------------------------------------------------------------------------------------- */

static void too_long(struct control_client *cl)
{
    struct control_fault f = {.error = CONTROL_REQUEST_TOO_LONG};

    snprintf(f.text, sizeof f.text, "a request has %u bytes at most", CONTROL_REQUEST_MAX);
    cl->control->d->counters.control_oversize++;
    control_answer_error(cl, NULL, &f);
}

static bool is_blank(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!strchr(" \t\r\n", text[i]) || text[i] == '\0')
            return false;
    }
    return true;
}

/* Gives whole lines to rpc.c; true if whole lines are left for the next turn. */
static bool serve_lines(struct control_client *cl, uint64_t now)
{
    size_t begin = 0;
    bool more = false;
    char *end;

    for (int served = 0; !cl->dead && (end = memchr(cl->in + begin, '\n', cl->in_len - begin)) != NULL;
         served++) {
        size_t len = (size_t)(end - (cl->in + begin));

        if (served == CONTROL_REQUESTS_PER_TURN) {
            more = true;
            break;
        }
        if (cl->skipping)
            cl->skipping = false; /* the rest of a line that was too long */
        else if (len > CONTROL_REQUEST_MAX)
            too_long(cl);
        else if (!is_blank(cl->in + begin, len))
            control_request(cl, cl->in + begin, len, now);
        begin += len + 1;
    }
    cl->in_len -= begin;
    if (begin > 0)
        memmove(cl->in, cl->in + begin, cl->in_len);
    if (!more && (cl->skipping || cl->in_len > CONTROL_REQUEST_MAX)) {
        if (!cl->skipping)
            too_long(cl);
        cl->skipping = true;
        cl->in_len = 0;
    }
    return more;
}

static void stream_serve(struct control_client *cl)
{
    struct ev_loop *loop = cl->control->d->loop;
    uint64_t now = daemon_now();

    if (serve_lines(cl, now)) {
        ev_io_stop(loop, &cl->rd);
        ev_timer_set(&cl->more, 0., 0.);
        ev_timer_start(loop, &cl->more);
        return;
    }
    if (cl->dead)
        return;
    if (!cl->eof) {
        ev_io_start(loop, &cl->rd);
        return;
    }
    /* What was sent without its line feed: answered as far as it goes. */
    if (cl->in_len > 0 && !cl->skipping && !is_blank(cl->in, cl->in_len))
        control_request(cl, cl->in, cl->in_len, now);
    cl->in_len = 0;
    daemon_defer(cl->control->d, &cl->flush); /* ends it once all is answered */
    daemon_kick(cl->control->d);
}

static void client_more(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    stream_serve(w->data);
}

static bool in_reserve(struct control_client *cl, size_t want)
{
    char *bigger;

    if (cl->in_len + want <= cl->in_cap)
        return true;
    bigger = realloc(cl->in, cl->in_len + want);
    if (!bigger)
        return false;
    cl->in = bigger;
    cl->in_cap = cl->in_len + want;
    return true;
}

/* EOF: the client has shut down its sending side, or is gone altogether. */
static void client_eof(struct control_client *cl)
{
    struct pollfd p = {.fd = cl->fd};

    cl->eof = true;
    ev_io_stop(cl->control->d->loop, &cl->rd);
    if (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) && cl->in_len == 0 && list_empty(&cl->out))
        control_client_end(cl);
}

static void stream_read(struct control_client *cl)
{
    ssize_t n;

    if (!in_reserve(cl, READ_BYTES)) {
        control_client_end(cl);
        return;
    }
    n = recv(cl->fd, cl->in + cl->in_len, READ_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        control_client_end(cl);
        return;
    }
    if (n == 0)
        client_eof(cl);
    cl->in_len += (size_t)n;
    if (!cl->dead)
        stream_serve(cl);
}

/* A zero-length message and EOF look the same on SOCK_SEQPACKET: both end the client's sending side. */
static void seq_read(struct control_client *cl)
{
    for (int i = 0; i < CONTROL_REQUESTS_PER_TURN && !cl->dead && !cl->eof; i++) {
        struct iovec iov;
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = recv(cl->fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
        size_t want = n > 0 ? (size_t)n : 1;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0 || !in_reserve(cl, want > SEQ_BUFFER_BYTES ? SEQ_BUFFER_BYTES : want)) {
            control_client_end(cl);
            return;
        }
        iov.iov_base = cl->in;
        iov.iov_len = cl->in_cap;
        n = recvmsg(cl->fd, &msg, MSG_DONTWAIT); /* no room for descriptors: the kernel closes what is sent */
        if (n < 0)
            return;
        if (n == 0) {
            client_eof(cl);
            daemon_defer(cl->control->d, &cl->flush);
            daemon_kick(cl->control->d);
        } else if ((msg.msg_flags & MSG_TRUNC) || n > (ssize_t)CONTROL_REQUEST_MAX) {
            too_long(cl);
        } else {
            control_request(cl, cl->in, (size_t)n, daemon_now());
        }
    }
}

static void client_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct control_client *cl = w->data;

    (void)loop, (void)revents;
    if (cl->seq)
        seq_read(cl);
    else
        stream_read(cl);
}

/* ---- Clients and their rights
 * ------------------------------------------------------------------------------------ */

static bool in_group(int fd, gid_t primary, gid_t group)
{
    gid_t groups[256];
    socklen_t len = sizeof groups;

    if (primary == group)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
        return false;
    for (size_t i = 0; i < len / sizeof *groups; i++) {
        if (groups[i] == group)
            return true;
    }
    return false;
}

static void client_rights(struct control_client *cl)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    cl->level = CONTROL_LEVEL_READ;
    cl->uid = (uid_t)-1;
    if (getsockopt(cl->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return;
    cl->pid = cred.pid;
    cl->uid = cred.uid;
    if (cred.uid == 0 || cred.uid == geteuid() ||
        (cl->control->has_group && in_group(cl->fd, cred.gid, cl->control->group)))
        cl->level = CONTROL_LEVEL_CONTROL;
}

/* One that can't be served is told so, if it is there to hear it. */
static void turn_away(struct control *c, int fd, bool seq)
{
    static const char text[] =
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32014,\"message\":\"the daemon serves no more clients\","
        "\"data\":{\"name\":\"TOO_MANY_CLIENTS\",\"errno\":\"EUSERS\",\"errno_number\":87}}}\n";
    size_t bytes = sizeof text - 1 - (seq ? 1 : 0);

    c->d->counters.control_refused++;
    log_limited(&c->d->log, &c->log_limit, daemon_now(), 1, LOG_LVL_WARNING,
                "control: a client was turned away: %u are served", c->n_clients);
    if (send(fd, text, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        shutdown(fd, SHUT_WR);
    close(fd);
}

static void client_new(struct control *c, int fd, bool seq)
{
    struct control_client *cl = c->n_clients < CONTROL_CLIENTS_MAX ? calloc(1, sizeof *cl) : NULL;
    int bytes = (int)CONTROL_QUEUE_MAX;

    if (!cl) {
        turn_away(c, fd, seq);
        return;
    }
    /* One answer is one message: as large as we are allowed. */
    if (seq && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    cl->control = c;
    cl->fd = fd;
    cl->seq = seq;
    list_init(&cl->out);
    list_init(&cl->pending);
    list_init(&cl->flush.link);
    cl->flush.fn = client_flush;
    client_rights(cl);
    ev_io_init(&cl->rd, client_readable, fd, EV_READ);
    ev_io_init(&cl->wr, client_writable, fd, EV_WRITE);
    ev_timer_init(&cl->more, client_more, 0., 0.);
    ev_timer_init(&cl->later, client_later, 0., LATER);
    cl->rd.data = cl->wr.data = cl->more.data = cl->later.data = cl;
    list_add_tail(&c->clients, &cl->link);
    c->n_clients++;
    c->d->counters.control_clients++;
    ev_io_start(c->d->loop, &cl->rd);
}

static void accept_later(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct control *c = w->data;

    (void)revents;
    ev_timer_stop(loop, w);
    ev_io_start(loop, &c->accept_io[0]);
    ev_io_start(loop, &c->accept_io[1]);
}

/* No client can be accepted, not even to be turned away: not asked again for a while. */
static void accept_pause(struct control *c, int error)
{
    log_limited(&c->d->log, &c->log_limit, daemon_now(), 1, LOG_LVL_WARNING, "control: no client can be accepted: %s",
                strerror(error));
    ev_io_stop(c->d->loop, &c->accept_io[0]);
    ev_io_stop(c->d->loop, &c->accept_io[1]);
    ev_timer_again(c->d->loop, &c->accept_later);
}

static void accept_ready(struct ev_loop *loop, ev_io *w, int revents)
{
    struct control *c = w->data;
    bool seq = w == &c->accept_io[1];
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)loop, (void)revents;
    if (fd >= 0 && room_left(ROOM_CLIENT, fd)) {
        client_new(c, fd, seq);
        return;
    }
    if (fd >= 0) {
        turn_away(c, fd, seq);
        return;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
        return;
    if (errno == EMFILE || errno == ENFILE) {
        close(c->spare_fd);
        fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            turn_away(c, fd, seq);
        c->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            return;
    }
    accept_pause(c, errno);
}

/* ---- Opening and closing
 * ----------------------------------------------------------------------------------------- */

static bool somebody_listens(const struct sockaddr_un *sa, int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool yes;

    if (fd < 0)
        return false;
    yes = connect(fd, (const struct sockaddr *)sa, sizeof *sa) == 0 || errno == EAGAIN;
    close(fd);
    return yes;
}

static int listen_at(const char *dir, unsigned i, int *ret_fd, char *error, size_t n)
{
    int type = i == 1 ? SOCK_SEQPACKET : SOCK_STREAM, fd;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char path[sizeof sa.sun_path];

    snprintf(path, sizeof path, "%s/%s", dir, socket_name[i]);
    memcpy(sa.sun_path, path, sizeof path);
    if (somebody_listens(&sa, type)) {
        snprintf(error, n, "%s: another tautd is running there", path);
        return -1;
    }
    unlink(path);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || chmod(path, 0666) != 0 ||
        listen(fd, 128) != 0) {
        snprintf(error, n, "control.directory: %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *ret_fd = fd;
    return 0;
}

static void serve_socket(struct control *c, unsigned i)
{
    ev_io_init(&c->accept_io[i], accept_ready, c->fd[i], EV_READ);
    c->accept_io[i].data = c;
    ev_io_start(c->d->loop, &c->accept_io[i]);
}

static int find_group(struct control *c, char *error, size_t n)
{
    const struct group *g;

    if (!c->d->config->control_group[0])
        return 0;
    errno = 0;
    g = getgrnam(c->d->config->control_group);
    if (!g) {
        snprintf(error, n, "control.group: no group is called \"%s\"", c->d->config->control_group);
        return -1;
    }
    c->has_group = true;
    c->group = g->gr_gid;
    return 0;
}

static int make_directory(const char *path, char *error, size_t n)
{
    struct stat st;

    if (mkdir(path, 0755) == 0)
        return chmod(path, 0755);
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    snprintf(error, n, "control.directory: cannot make %s: %s", path, strerror(errno));
    return -1;
}

int control_listen(const struct daemon_config *config, int ret_fd[2], char *ret_error, size_t error_bytes)
{
    ret_fd[0] = ret_fd[1] = -1;
    if (make_directory(config->control_dir, ret_error, error_bytes) == 0 &&
        listen_at(config->control_dir, 0, &ret_fd[0], ret_error, error_bytes) == 0 &&
        listen_at(config->control_dir, 1, &ret_fd[1], ret_error, error_bytes) == 0)
        return 0;
    control_unlisten(config, ret_fd);
    return -1;
}

void control_unlisten(const struct daemon_config *config, int fd[2])
{
    char path[CONFIG_PATH_MAX + 16];

    for (unsigned i = 0; i < 2; i++) {
        if (fd[i] < 0)
            continue;
        close(fd[i]);
        fd[i] = -1;
        snprintf(path, sizeof path, "%s/%s", config->control_dir, socket_name[i]);
        unlink(path);
    }
}

static int open_sockets(struct control *c, char *error, size_t n)
{
    struct daemon *d = c->d;

    if (d->listen_fd[0] > 0) {
        c->fd[0] = d->listen_fd[0];
        c->fd[1] = d->listen_fd[1];
    } else if (control_listen(d->config, c->fd, error, n) < 0) {
        return -1;
    }
    serve_socket(c, 0);
    serve_socket(c, 1);
    return 0;
}

/* The log goes on to its sink, and to those who subscribed to it. */
static void log_tee(void *user, enum log_level level, const char *text)
{
    struct control *c = user;

    c->log_write(c->log_user, level, text);
    if (c->in_log)
        return;
    c->in_log = true;
    events_log(c->d, (int)level, text);
    c->in_log = false;
}

static void hook(struct control *c)
{
    struct daemon *d = c->d;

    d->on_stack_event = events_on_stack;
    d->on_turn = events_on_turn;
    if (d->log.write) {
        c->log_write = d->log.write;
        c->log_user = d->log.user;
        d->log.user = c;
        d->log.write = log_tee;
    }
}

static void unhook(struct control *c)
{
    struct daemon *d = c->d;

    d->on_stack_event = NULL;
    d->on_turn = NULL;
    if (c->log_write) {
        d->log.write = c->log_write;
        d->log.user = c->log_user;
    }
}

struct control *control_open(struct daemon *d, char *ret_error, size_t error_bytes)
{
    struct control *c = calloc(1, sizeof *c);

    if (!c) {
        snprintf(ret_error, error_bytes, "no memory for the control sockets");
        return NULL;
    }
    c->d = d;
    c->fd[0] = c->fd[1] = -1;
    list_init(&c->clients);
    list_init(&c->pings);
    list_init(&c->subs);
    c->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ev_timer_init(&c->accept_later, accept_later, 0., ACCEPT_LATER);
    c->accept_later.data = c;
    d->control = c;
    if (find_group(c, ret_error, error_bytes) < 0 || open_sockets(c, ret_error, error_bytes) < 0) {
        control_close(c);
        return NULL;
    }
    if (programs_open(d) < 0) {
        snprintf(ret_error, error_bytes, "no memory for programs' connections");
        control_close(c);
        return NULL;
    }
    hook(c);
    return c;
}

void control_close(struct control *c)
{
    if (!c)
        return;
    while (!list_empty(&c->clients))
        client_free(list_entry(list_first(&c->clients), struct control_client, link));
    programs_close(c->d);
    for (int i = 0; i < 2 && c->fd[i] >= 0; i++)
        ev_io_stop(c->d->loop, &c->accept_io[i]);
    if (c->d->listen_fd[0] <= 0)
        control_unlisten(c->d->config, c->fd);
    if (c->spare_fd >= 0)
        close(c->spare_fd);
    ev_timer_stop(c->d->loop, &c->accept_later);
    unhook(c);
    c->d->control = NULL;
    free(c);
}
