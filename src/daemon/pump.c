/*
 * daemon/pump.c: a sock and a descriptor, joined (theory of operation).
 *
 * Two independent directions, each open, ending or ended:
 *
 *   in    peer -> sock's receive buffer -> sendmsg() to the descriptor, straight from the chunks. Runs as deferred work
 *         (second half of a turn). The peer's end of stream becomes shutdown(fd, SHUT_WR).
 *   out   descriptor -> recvmsg() straight into the sock's send chunks -> peer. Runs when the descriptor is readable or
 *         send space came back. End of file becomes sock_shutdown(SHUT_WR).
 *
 * When both have ended the pump ends cleanly. An error on either side ends both with a reset of the other.
 *
 * Poison byte (programs only). The queue from the program always keeps its last byte: with inq bytes queued, of which
 * the first was handled before, inq - 1 new ones are read as [old][new ... last but one], and the last is peeked. So each
 * byte is copied once, and the queue is never empty. Hence edge-triggered watching, and end of file is EPOLLRDHUP with
 * nothing but the poison queued.
 *
 * Invariant: bytes leave the receive buffer (sock_recv_consume) only by as many as the kernel took.
 */
#include "daemon/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "daemon/fdset.h"

#define IOV_MAX_PUMP 16
#define READ_AT_ONCE (256u * 1024) /* then others have their turn */

struct pump {
    struct sock_owner owner;
    struct fdwatch watch;
    struct deferred work;
    struct daemon *d;
    struct sock *sock;
    struct pump_params params;
    char name[64];
    uint8_t *preface;
    size_t preface_left;
    uint64_t bytes_in, bytes_out;
    bool fd_readable, fd_writable;
    bool fd_hup;    /* the program writes no more */
    bool fd_gone;   /* nor does it read */
    bool in_ended;  /* the peer's end of stream was passed on */
    bool out_ended; /* the descriptor's end of file was passed on */
    bool drain;
    bool done;
};

/* ---- The end ----------------------------------------------------------------------------------------------------- */

/* A clean close of a program's end consumes the poison; closing with it unread is what the program sees as a reset. */
static void close_fd(struct pump *p, bool clean)
{
    char byte;

    fdset_del(&p->watch);
    if (p->params.poison && clean) {
        while (recv(p->watch.fd, &byte, 1, MSG_DONTWAIT) > 0)
            ;
    } else if (!p->params.poison && !clean) {
        struct linger l = {.l_onoff = 1};

        setsockopt(p->watch.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l); /* RST, on TCP */
    }
    close(p->watch.fd);
    p->watch.fd = -1;
}

static void pump_end(struct pump *p, enum pump_end how, int error, uint64_t now)
{
    if (p->done)
        return;
    p->done = true;
    close_fd(p, how == PUMP_CLEAN || how == PUMP_LOCAL_GONE);
    if (how == PUMP_CLEAN || how == PUMP_LOCAL_GONE)
        sock_close(p->sock, now);
    else
        sock_abort(p->sock, now);
    p->sock = NULL;
    if (p->params.ended)
        p->params.ended(p->params.user, how, error);
    /* Freed by the deferred work, so that no caller up the stack is left with a dangling pump. */
    daemon_defer(p->d, &p->work);
    daemon_kick(p->d);
}

static void end_if_both(struct pump *p, uint64_t now)
{
    if (p->in_ended && p->out_ended)
        pump_end(p, PUMP_CLEAN, 0, now);
}

/* ---- Out: descriptor -> peer --------------------------------------------------------------------------------------- */

/* The program or backend is gone altogether; what the peer sent and it did not take is lost, and counted. */
static void local_gone(struct pump *p, uint64_t now)
{
    struct tcp_iov data[1];
    bool eof = false;

    if (!p->in_ended && sock_recv_peek(p->sock, data, 1, &eof) > 0)
        p->d->counters.bytes_lost += data[0].len;
    pump_end(p, PUMP_LOCAL_GONE, 0, now);
}

static void out_eof(struct pump *p, uint64_t now)
{
    if (p->out_ended)
        return;
    p->out_ended = true;
    sock_shutdown(p->sock, SOCK_SHUT_WR, now);
    if (p->fd_gone)
        local_gone(p, now);
    else
        end_if_both(p, now);
}

/* Bytes that may be read without touching the poison; 0 also where the ioctl fails. */
static size_t readable_bytes(const struct pump *p)
{
    int inq = 0;

    if (ioctl(p->watch.fd, SIOCINQ, &inq) != 0 || inq <= 1)
        return 0;
    return (size_t)inq - 1;
}

/* Fills iov[1..] with at most `n` bytes of room, iov[0] with the old poison's place; returns the number of places. */
static int set_iov(const struct tcp_iov *room, int n_room, size_t n, struct iovec *iov)
{
    int used = 0;

    for (int i = 0; i < n_room && n > 0; i++) {
        size_t part = room[i].len < n ? room[i].len : n;

        iov[used++] = (struct iovec){.iov_base = room[i].data, .iov_len = part};
        n -= part;
    }
    return used;
}

/* Where the last of `n` bytes lies. */
static uint8_t *last_byte(const struct tcp_iov *room, size_t n)
{
    while (n > room->len) {
        n -= room->len;
        room++;
    }
    return room->data + n - 1;
}

/* Reads up to `n` new bytes past the poison; > 0, 0: none now, -errno. */
static ssize_t read_poisoned(struct pump *p, const struct tcp_iov *room, int n_room, size_t n)
{
    struct iovec iov[IOV_MAX_PUMP + 1];
    struct msghdr msg = {.msg_iov = iov};
    uint8_t old;
    size_t fresh = readable_bytes(p);
    ssize_t r;

    if (fresh > n)
        fresh = n;
    if (fresh == 0)
        return 0;
    /* [old poison][fresh - 1 new bytes]; the last new byte stays and is peeked. */
    iov[0] = (struct iovec){.iov_base = &old, .iov_len = 1};
    msg.msg_iovlen = (size_t)(1 + set_iov(room, n_room, fresh - 1, iov + 1));
    r = recvmsg(p->watch.fd, &msg, MSG_DONTWAIT);
    if (r < 0)
        return -errno;
    if (r == 0)
        return -ECONNRESET;
    fresh = (size_t)r; /* r - 1 new ones, and the one to be peeked */
    r = recv(p->watch.fd, last_byte(room, fresh), 1, MSG_PEEK | MSG_DONTWAIT);
    return r == 1 ? (ssize_t)fresh : -ECONNRESET;
}

/* > 0 bytes, 0: none now, -EPIPE: end of file, other -errno. */
static ssize_t read_plain(struct pump *p, const struct tcp_iov *room, int n_room, size_t n)
{
    struct iovec iov[IOV_MAX_PUMP];
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)set_iov(room, n_room, n, iov)};
    ssize_t r = recvmsg(p->watch.fd, &msg, MSG_DONTWAIT);

    if (r > 0)
        return r;
    if (r == 0)
        return -EPIPE;
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* The descriptor has nothing more now: for a program that may mean end of file. */
static void out_empty(struct pump *p, uint64_t now)
{
    p->fd_readable = false;
    if (p->params.poison && p->fd_hup && readable_bytes(p) == 0)
        out_eof(p, now);
}

/* One reservation's worth; false when nothing more can be moved now. */
static bool out_step(struct pump *p, size_t want, size_t *moved, uint64_t now)
{
    struct tcp_iov room[IOV_MAX_PUMP];
    size_t space = 0;
    int n = sock_send_reserve(p->sock, want, room, IOV_MAX_PUMP);

    if (n <= 0)
        return false; /* full: SOCK_POLLOUT comes; or an error, which the sock's event tells */
    for (int i = 0; i < n; i++)
        space += room[i].len;
    ssize_t r = p->params.poison ? read_poisoned(p, room, n, space) : read_plain(p, room, n, space);

    if (r > 0) {
        sock_send_commit(p->sock, (size_t)r, 0, now);
        p->bytes_out += (uint64_t)r;
        p->d->counters.bytes_from_programs += (uint64_t)r;
        *moved += (size_t)r;
        return true;
    }
    if (r == 0)
        out_empty(p, now);
    else if (r == -EPIPE)
        out_eof(p, now);
    else
        pump_end(p, PUMP_LOCAL_ERROR, (int)-r, now);
    return false;
}

static void move_out(struct pump *p, uint64_t now)
{
    size_t moved = 0;

    while (!p->done && p->fd_readable && !p->out_ended && !p->drain && moved < READ_AT_ONCE)
        if (!out_step(p, READ_AT_ONCE - moved, &moved, now))
            return;
    if (!p->done && moved >= READ_AT_ONCE)
        daemon_defer(p->d, &p->work); /* more in the next turn */
}

/* ---- In: peer -> descriptor ---------------------------------------------------------------------------------------- */

/* True when the preface has left. */
static bool send_preface(struct pump *p, uint64_t now)
{
    ssize_t r;

    if (p->preface_left == 0)
        return true;
    r = send(p->watch.fd, p->preface + (p->params.preface_bytes - p->preface_left), p->preface_left,
             MSG_DONTWAIT | MSG_NOSIGNAL);
    if (r > 0)
        p->preface_left -= (size_t)r;
    else if (errno == EAGAIN)
        p->fd_writable = false;
    else
        pump_end(p, PUMP_LOCAL_ERROR, errno, now);
    return p->preface_left == 0;
}

/* The kernel refused: the program or backend is gone, or it takes no more now. */
static void in_refused(struct pump *p, int error, uint64_t now)
{
    if (error == EAGAIN || error == EINTR) {
        p->fd_writable = false;
        return;
    }
    p->d->counters.program_gone++;
    pump_end(p, PUMP_LOCAL_ERROR, error, now);
}

/* All that can be had was moved: end of stream, or an error of the connection. */
static void in_exhausted(struct pump *p, int r, bool eof, uint64_t now)
{
    if (r < 0 && r != -EAGAIN) {
        pump_end(p, PUMP_PEER_RESET, -r, now);
        return;
    }
    if (r == 0 && eof && !p->in_ended) {
        p->in_ended = true;
        shutdown(p->watch.fd, SHUT_WR);
        end_if_both(p, now);
    }
}

static void move_in(struct pump *p, uint64_t now)
{
    while (!p->done && p->fd_writable && !p->in_ended) {
        struct tcp_iov data[IOV_MAX_PUMP];
        struct iovec iov[IOV_MAX_PUMP];
        struct msghdr msg = {.msg_iov = iov};
        bool eof = false;
        int n = sock_recv_peek(p->sock, data, IOV_MAX_PUMP, &eof);

        if (n <= 0) {
            in_exhausted(p, n, eof, now);
            return;
        }
        msg.msg_iovlen = (size_t)set_iov(data, n, SIZE_MAX, iov);
        ssize_t r = sendmsg(p->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (r < 0) {
            in_refused(p, errno, now);
            return;
        }
        sock_recv_consume(p->sock, (size_t)r, now);
        p->bytes_in += (uint64_t)r;
        p->d->counters.bytes_to_programs += (uint64_t)r;
    }
}

/* ---- Wake-ups ------------------------------------------------------------------------------------------------------ */

static void work(struct deferred *self, uint64_t now)
{
    struct pump *p = list_entry(self, struct pump, work);

    if (!p->done && send_preface(p, now))
        move_in(p, now);
    if (!p->done && p->fd_readable)
        move_out(p, now);
    if (p->done) {
        list_del(&p->work.link); /* pump_end() queued it to get here */
        free(p->preface);
        free(p);
    }
}

static void sock_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct pump *p = list_entry(self, struct pump, owner);

    (void)s;
    if (bits & SOCK_POLLOUT)
        move_out(p, now);
    if (!p->done)
        daemon_defer(p->d, &p->work);
}

static void describe(const struct sock_owner *self, struct sock_owner_info *ret)
{
    const struct pump *p = list_entry(self, const struct pump, owner);

    snprintf(ret->name, sizeof ret->name, "%s", p->name);
    ret->pump = p;
}

static void owner_end(struct sock_owner *self, struct sock *s, bool reset, uint64_t now)
{
    struct pump *p = list_entry(self, struct pump, owner);

    (void)s;
    pump_end(p, reset ? PUMP_ABORTED : PUMP_LOCAL_GONE, 0, now);
}

static void fd_ready(struct fdwatch *self, uint32_t events, uint64_t now)
{
    struct pump *p = list_entry(self, struct pump, watch);

    if (events & EPOLLERR) {
        int error = 0;
        socklen_t n = sizeof error;

        getsockopt(self->fd, SOL_SOCKET, SO_ERROR, &error, &n);
        if (error) {
            pump_end(p, PUMP_LOCAL_ERROR, error, now);
            return;
        }
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
        p->fd_readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP))
        p->fd_hup = true;
    if (events & EPOLLHUP)
        p->fd_gone = true;
    if (events & EPOLLOUT)
        p->fd_writable = true;
    move_out(p, now);
    if (p->fd_gone && p->out_ended && !p->done)
        local_gone(p, now); /* else what it wrote goes first, and out_eof() ends it */
    if (!p->done)
        daemon_defer(p->d, &p->work);
}

/* ---- Life ---------------------------------------------------------------------------------------------------------- */

struct pump *pump_new(struct daemon *d, struct sock *s, int fd, const struct pump_params *params)
{
    struct pump *p = calloc(1, sizeof *p);
    int r;

    if (!p)
        return NULL;
    *p = (struct pump){
        .owner = {.ready = sock_ready, .describe = describe, .end = owner_end},
        .watch = {.fd = fd, .ready = fd_ready},
        .work = {.fn = work},
        .d = d,
        .sock = s,
        .params = *params,
        .fd_writable = true,
        .fd_readable = true,
    };
    snprintf(p->name, sizeof p->name, "%s", params->owner ? params->owner : "");
    p->params.owner = p->name;
    list_init(&p->work.link);
    if (params->preface_bytes) {
        p->preface = malloc(params->preface_bytes);
        if (!p->preface) {
            free(p);
            return NULL;
        }
        memcpy(p->preface, params->preface, params->preface_bytes);
        p->preface_left = params->preface_bytes;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    r = fdset_add(d->fds, &p->watch);
    if (r < 0) {
        free(p->preface);
        free(p);
        errno = -r;
        return NULL;
    }
    sock_set_user(s, &p->owner);
    daemon_defer(d, &p->work);
    daemon_kick(d);
    return p;
}

void pump_abort(struct pump *p, uint64_t now)
{
    pump_end(p, PUMP_ABORTED, 0, now);
}

void pump_drain(struct pump *p, uint64_t now)
{
    if (p->done)
        return;
    p->drain = true;
    out_eof(p, now);
}

void pump_get_info(const struct pump *p, struct pump_info *ret)
{
    struct tcp_info info;

    *ret = (struct pump_info){.bytes_in = p->bytes_in, .bytes_out = p->bytes_out};
    ret->local_eof = p->out_ended;
    ret->peer_eof = p->in_ended;
    if (!p->sock)
        return;
    ret->id = sock_conn_id(p->sock);
    if (tcp_get_info(p->d->tcp, ret->id, daemon_now(), &info) == 0)
        ret->undelivered = info.unread_bytes;
}
