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
 * When both have ended the pump ends cleanly. An error on either side ends both with a reset of the other, behind what
 * can still be delivered:
 *
 *   the connection failed      what was received goes to the descriptor first, then it reads ECONNRESET; the error may be
 *                              met when sending (sock tells it once), so it is kept in sock_error
 *   a backend failed           what it wrote goes to the peer first (a kernel's TCP delivers what came before a RST,
 *                              too); when it is acknowledged, or after LINGER_MAX, the peer is reset
 *   a program closed unread    RST at once, as Linux's close(2) with unread data
 *   a program reads no more    (SHUT_RD) what comes is thrown away, as Linux acknowledges it
 *
 * What cannot be delivered is counted in bytes_lost, and somebody reads an error for it.
 *
 * Poison byte (programs only). The queue from the program always keeps its last byte: with inq bytes queued, of which
 * the first was handled before, inq - 1 new ones are read as [old][new ... last but one], and the last is peeked. So each
 * byte is copied once, and the queue is never empty. Hence edge-triggered watching, and end of file is EPOLLRDHUP with
 * nothing but the poison queued.
 *
 * Room is reserved for what is queued, no more: an idle pump holds no chunk. Without any chunk the pump is starved and
 * waits for daemon_starve() to call it again.
 *
 * A worker may die at any time, and its successor goes on with the link (arena.h): both directions' calls leave a witness
 * of what the kernel moved. Bytes that came in lie where the reservation was noted before the call; of a program's bytes
 * the last one is still in its queue, unless it was committed, and is peeked again. SO_ERROR, which says things once, is
 * read into the link. The descriptor is closed when the connection's end is committed; until then the link says how.
 *
 * Invariants: bytes leave the receive buffer (sock_recv_consume) only by as many as the kernel took, or into bytes_lost.
 */
#include "daemon/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "daemon/fdset.h"
#include "tcp/tcp_record.h"

#define IOV_MAX_PUMP 16
#define READ_AT_ONCE (256u * 1024) /* then others have their turn */
#define LINGER_TICK 0.02           /* s: is all acknowledged? */
#define LINGER_MAX (30 * NSEC_PER_SEC)

struct pump {
    struct sock_owner owner;
    struct fdwatch watch;
    struct deferred work;
    struct deferred starved;
    ev_timer linger;
    struct daemon *d;
    struct sock *sock;
    struct pump_params params;
    struct link_slot *link;
    char name[64];
    uint8_t *preface; /* the link's, or (longer than that holds) memory of its own */
    size_t preface_bytes, preface_left;
    uint64_t bytes_in, bytes_out, bytes_lost;
    bool fd_readable, fd_writable;
    bool fd_hup;    /* the program writes no more */
    bool fd_gone;   /* nor does it read */
    bool in_ended;  /* the peer's end of stream was passed on */
    bool out_ended; /* the descriptor's end of file was passed on */
    bool in_dead;   /* nobody takes what the peer sends: it is thrown away and counted */
    bool drain;
    bool poison_unread; /* the first byte queued was not handled before: the last worker died before it peeked it */
    bool done;
    int sock_error;       /* the connection failed (errno): no more out; in goes on for what is unread */
    int local_error;      /* the backend failed (errno): no more in; out goes on for what it wrote */
    uint64_t linger_until;
};

/* ---- The end ----------------------------------------------------------------------------------------------------- */

/* Bytes queued from the descriptor and not read yet; the poison byte is none of them. */
static size_t queued_bytes(const struct pump *p)
{
    int inq = 0;

    if (ioctl(p->watch.fd, SIOCINQ, &inq) != 0 || inq <= (p->params.poison ? 1 : 0))
        return 0;
    return (size_t)inq - (p->params.poison ? 1 : 0);
}

static void lost(struct pump *p, size_t bytes)
{
    p->bytes_lost += bytes;
    p->d->counters.bytes_lost += bytes;
}

/*
 * A clean close of a program's end consumes the poison; closing with it unread is what the program sees as a reset. So
 * a close is clean only if nothing else is queued: what was written and not taken is reported by ECONNRESET.
 */
static void close_fd(struct pump *p)
{
    bool clean = p->link->ending != LINK_ENDS_RESET;
    size_t queued = queued_bytes(p);
    char byte;

    if (p->params.poison && clean && queued == 0) {
        recv(p->watch.fd, &byte, 1, MSG_DONTWAIT);
    } else if (!p->params.poison && !clean) {
        struct linger l = {.l_onoff = 1};

        setsockopt(p->watch.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l); /* RST, on TCP */
    }
    close(p->watch.fd);
    p->watch.fd = -1;
    link_free(p->d, p->link);
}

/* What was received and nobody will read. */
static void count_unread(struct pump *p)
{
    struct tcp_info info;

    if (tcp_get_info(p->d->tcp, sock_conn_id(p->sock), daemon_now(), &info) == 0)
        lost(p, info.unread_bytes);
}

static void pump_end(struct pump *p, enum pump_end how, int error, uint64_t now)
{
    if (p->done)
        return;
    p->done = true;
    ev_timer_stop(p->d->loop, &p->linger);
    list_del(&p->starved.link);
    p->link->ending = how == PUMP_CLEAN || how == PUMP_LOCAL_GONE ? LINK_ENDS_CLEAN : LINK_ENDS_RESET;
    fdset_del(&p->watch);
    lost(p, queued_bytes(p));
    count_unread(p);
    if (how == PUMP_CLEAN || how == PUMP_LOCAL_GONE)
        sock_close(p->sock, now);
    else
        sock_abort(p->sock, now);
    p->sock = NULL;
    if (p->params.poison && how == PUMP_LOCAL_ERROR)
        p->d->counters.program_gone++;
    if (p->params.ended)
        p->params.ended(p->params.user, how, error);
    /* Closed and freed by the deferred work: no caller up the stack is left with a dangling pump, and the commit is past. */
    daemon_defer(p->d, &p->work);
    daemon_kick(p->d);
}

static void end_if_both(struct pump *p, uint64_t now)
{
    if (p->in_ended && p->out_ended && !p->local_error && !p->sock_error)
        pump_end(p, PUMP_CLEAN, 0, now);
}

/* ---- Failures of one side ------------------------------------------------------------------------------------------ */

/*
 * The connection has failed. Nothing goes out any more: a program's write() says EPIPE from now on, what a backend
 * writes is read into nothing (discard_out()). The descriptor reads what came before, then the reset.
 */
static void sock_failed(struct pump *p, int error, uint64_t now)
{
    if (p->done || p->sock_error)
        return;
    p->sock_error = error;
    if (p->in_ended || p->local_error) {
        if (p->local_error)
            pump_end(p, PUMP_LOCAL_ERROR, p->local_error, now);
        else
            pump_end(p, PUMP_PEER_RESET, error, now);
        return;
    }
    p->out_ended = true;
    if (p->params.poison)
        shutdown(p->watch.fd, SHUT_RD);
    daemon_defer(p->d, &p->work);
}

/* Has everything that was given to the connection arrived? */
static bool all_acknowledged(const struct pump *p)
{
    struct tcp_info info;

    return tcp_get_info(p->d->tcp, sock_conn_id(p->sock), daemon_now(), &info) < 0 || info.snd_una == info.write_seq;
}

static void linger_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct pump *p = w->data;
    uint64_t now = daemon_now();

    (void)loop, (void)revents;
    if (all_acknowledged(p) || now >= p->linger_until)
        pump_end(p, PUMP_LOCAL_ERROR, p->local_error, now);
}

/* The backend failed and all that it wrote was read. */
static void linger_or_end(struct pump *p, uint64_t now)
{
    if (all_acknowledged(p)) {
        pump_end(p, PUMP_LOCAL_ERROR, p->local_error, now);
        return;
    }
    if (ev_is_active(&p->linger))
        return;
    p->linger_until = now + LINGER_MAX;
    ev_timer_start(p->d->loop, &p->linger);
}

/* The descriptor failed: see the theory of operation. */
static void local_failed(struct pump *p, int error, uint64_t now)
{
    if (p->params.poison || p->sock_error) {
        pump_end(p, PUMP_LOCAL_ERROR, error, now);
        return;
    }
    p->local_error = p->local_error ? p->local_error : error;
    p->in_dead = true;
    p->fd_readable = true;
    if (p->out_ended)
        linger_or_end(p, now);
    else
        daemon_defer(p->d, &p->work); /* reads the rest */
}

/* ---- Out: descriptor -> peer --------------------------------------------------------------------------------------- */

static void move_out(struct pump *p, uint64_t now);

static void out_eof(struct pump *p, uint64_t now)
{
    if (p->out_ended)
        return;
    p->out_ended = true;
    if (p->local_error) { /* no FIN: this stream was cut off */
        linger_or_end(p, now);
        return;
    }
    sock_shutdown(p->sock, SOCK_SHUT_WR, now);
    end_if_both(p, now);
    if (!p->done && p->fd_gone) /* what the peer sent and it did not take is lost, and counted */
        pump_end(p, PUMP_LOCAL_GONE, 0, now);
}

/* As much of the places as `n` bytes fill, as an iovec; returns the number of places. */
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

/* Sequence number behind what was taken from the descriptor (out), or what was given to it. */
static uint64_t stream_at(const struct pump *p, bool out)
{
    uint32_t write_seq = 0, copied_seq = 0;

    tcp_stream_at(p->d->tcp, sock_conn_id(p->sock), &write_seq, &copied_seq);
    return out ? write_seq : copied_seq;
}

/* Reads `fresh` new bytes, of those that are queued, past the poison; > 0, -errno. */
static ssize_t read_poisoned(struct pump *p, const struct tcp_iov *room, int n_room, size_t fresh)
{
    struct iovec iov[IOV_MAX_PUMP + 1];
    struct msghdr msg = {.msg_iov = iov};
    uint8_t old;
    ssize_t r;

    /* [old poison][fresh - 1 new bytes]; the last new byte stays and is peeked. */
    iov[0] = (struct iovec){.iov_base = &old, .iov_len = 1};
    msg.msg_iovlen = (size_t)(1 + set_iov(room, n_room, fresh - 1, iov + 1));
    r = witness_recv(&p->link->out, p->watch.fd, &msg, stream_at(p, true));
    if (r < 0)
        return r;
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
    ssize_t r = witness_recv(&p->link->out, p->watch.fd, &msg, stream_at(p, true));

    if (r > 0)
        return r;
    if (r == 0)
        return -EPIPE;
    return r == -EAGAIN || r == -EINTR ? 0 : r;
}

/*
 * Nothing is queued: is it the end? For a program that is a hang-up with nothing but the poison left; while draining,
 * a pause is one.
 */
static void out_empty(struct pump *p, uint64_t now)
{
    char byte;
    ssize_t r;

    p->fd_readable = false;
    if (p->params.poison) {
        if ((p->fd_hup || p->drain) && queued_bytes(p) == 0)
            out_eof(p, now);
        return;
    }
    if (!p->fd_hup && !p->local_error && !p->drain)
        return;
    r = recv(p->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (r == 0)
        out_eof(p, now);
    else if (r > 0)
        p->fd_readable = true;
    else if (p->local_error || (p->drain && errno == EAGAIN))
        out_eof(p, now);
    else if (errno != EAGAIN && errno != EINTR)
        local_failed(p, errno, now);
}

static void starved(struct deferred *self, uint64_t now)
{
    move_out(list_entry(self, struct pump, starved), now);
}

/* No room: SOCK_POLLOUT comes, or chunks come free, or it will never come. */
static void out_refused(struct pump *p, int error, uint64_t now)
{
    if (error == ENOMEM || error == ENOBUFS)
        daemon_starve(p->d, &p->starved);
    else if (error != EAGAIN)
        sock_failed(p, error == EPIPE ? ECONNRESET : error, now);
}

/* One reservation's worth; false when nothing more can be moved now. */
static bool out_step(struct pump *p, size_t want, size_t *moved, uint64_t now)
{
    struct tcp_iov room[IOV_MAX_PUMP];
    size_t space = 0, queued = queued_bytes(p);
    int n;

    if (queued == 0) {
        out_empty(p, now);
        return p->fd_readable;
    }
    n = sock_send_reserve(p->sock, queued < want ? queued : want, room, IOV_MAX_PUMP);
    if (n <= 0) {
        out_refused(p, n ? -n : EAGAIN, now);
        return false;
    }
    for (int i = 0; i < n; i++)
        space += room[i].len;
    tcp_send_note(p->d->tcp, sock_conn_id(p->sock));
    ssize_t r = p->params.poison ? read_poisoned(p, room, n, space) : read_plain(p, room, n, space);

    sock_send_commit(p->sock, r > 0 ? (size_t)r : 0, 0, now); /* gives back what is not used */
    if (r > 0) {
        p->bytes_out += (uint64_t)r;
        p->d->counters.bytes_from_programs += (uint64_t)r;
        *moved += (size_t)r;
        return true;
    }
    if (r == 0)
        p->fd_readable = false;
    else if (r == -EPIPE)
        out_eof(p, now);
    else
        local_failed(p, (int)-r, now);
    return false;
}

/*
 * The last worker's read left its last byte to be peeked, and died. It is the first of the queue, and belongs behind what
 * was restored. False: there is no room for it now.
 */
static bool peek_poison(struct pump *p, uint64_t now)
{
    int start = 0;
    char byte;
    int64_t r;

    if (setsockopt(p->watch.fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof start) != 0 ||
        recv(p->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1) {
        local_failed(p, ECONNRESET, now);
        return false;
    }
    r = sock_send(p->sock, &byte, 1, 0, now);
    if (r == 1)
        p->poison_unread = false;
    else
        out_refused(p, (int)-r, now);
    return r == 1;
}

/* What is taken in one go: whole super-frames, so that no small rest leaves by itself while more is waiting. */
static size_t at_once(const struct pump *p)
{
    size_t goal = sock_send_goal(p->sock);

    return goal < READ_AT_ONCE ? READ_AT_ONCE / goal * goal : READ_AT_ONCE;
}

static void move_out(struct pump *p, uint64_t now)
{
    size_t moved = 0, most = p->done ? 0 : at_once(p);

    if (p->poison_unread && !p->done && !peek_poison(p, now))
        return;
    while (!p->done && p->fd_readable && !p->out_ended && moved < most)
        if (!out_step(p, most - moved, &moved, now))
            return;
    if (!p->done && moved >= most)
        daemon_defer(p->d, &p->work); /* more in the next turn */
}

/* The connection is dead but what it delivered waits for the backend, which may want to write first: into nothing. */
static void discard_out(struct pump *p)
{
    static char nothing[65536];
    ssize_t r;

    while (p->fd_readable) {
        r = recv(p->watch.fd, nothing, sizeof nothing, MSG_DONTWAIT);
        if (r <= 0)
            p->fd_readable = false;
        else
            lost(p, (size_t)r);
    }
}

/* ---- In: peer -> descriptor ---------------------------------------------------------------------------------------- */

/* True when the preface has left. */
static bool send_preface(struct pump *p, uint64_t now)
{
    size_t done = p->preface_bytes - p->preface_left;
    struct iovec iov = {.iov_base = p->preface + done, .iov_len = p->preface_left};
    ssize_t r;

    if (p->preface_left == 0 || p->in_dead)
        return true;
    r = witness_send(&p->link->sent, p->watch.fd, &(struct msghdr){.msg_iov = &iov, .msg_iovlen = 1}, done);
    if (r > 0)
        p->preface_left -= (size_t)r;
    else if (r == -EAGAIN || r == -EINTR)
        p->fd_writable = false;
    else
        local_failed(p, (int)-r, now);
    return p->preface_left == 0;
}

/*
 * The kernel refused: it takes no more now, or the program or backend is gone. EPIPE without a hang-up is one that only
 * reads no more (SHUT_RD) and may still have something to say.
 */
static void in_refused(struct pump *p, int error, uint64_t now)
{
    struct pollfd poll_fd = {.fd = p->watch.fd};

    if (error == EAGAIN || error == EINTR)
        p->fd_writable = false;
    else if (error == EPIPE && poll(&poll_fd, 1, 0) == 0)
        p->in_dead = true;
    else
        local_failed(p, error, now);
}

/* All that can be had was moved: end of stream, or an error of the connection. */
static void in_exhausted(struct pump *p, int r, bool eof, uint64_t now)
{
    if (r == -EAGAIN)
        return;
    if (p->sock_error || r < 0) {
        if (p->local_error)
            pump_end(p, PUMP_LOCAL_ERROR, p->local_error, now);
        else
            pump_end(p, PUMP_PEER_RESET, p->sock_error ? p->sock_error : -r, now);
        return;
    }
    if (eof && !p->in_ended) {
        p->in_ended = true;
        shutdown(p->watch.fd, SHUT_WR);
        end_if_both(p, now);
    }
}

static size_t places_bytes(const struct tcp_iov *data, int n)
{
    size_t bytes = 0;

    for (int i = 0; i < n; i++)
        bytes += data[i].len;
    return bytes;
}

/* Gives what the places hold to the kernel; how much it took, 0: none now. */
static size_t in_step(struct pump *p, const struct tcp_iov *data, int n, uint64_t now)
{
    struct iovec iov[IOV_MAX_PUMP];
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)set_iov(data, n, SIZE_MAX, iov)};
    ssize_t r = witness_send(&p->link->in, p->watch.fd, &msg, stream_at(p, false));

    if (r < 0) {
        in_refused(p, (int)-r, now);
        return 0;
    }
    p->bytes_in += (uint64_t)r;
    p->d->counters.bytes_to_programs += (uint64_t)r;
    return (size_t)r;
}

static void move_in(struct pump *p, uint64_t now)
{
    while (!p->done && (p->fd_writable || p->in_dead) && !p->in_ended) {
        struct tcp_iov data[IOV_MAX_PUMP];
        bool eof = false;
        int n = sock_recv_peek(p->sock, data, IOV_MAX_PUMP, &eof);

        if (n <= 0) {
            in_exhausted(p, n, eof, now);
            return;
        }
        if (p->in_dead)
            witness_forget(&p->link->in);
        size_t taken = p->in_dead ? places_bytes(data, n) : in_step(p, data, n, now);

        if (taken > 0)
            sock_recv_consume(p->sock, taken, now);
        if (p->in_dead)
            lost(p, taken);
    }
}

/* ---- Wake-ups ------------------------------------------------------------------------------------------------------ */

static void work(struct deferred *self, uint64_t now)
{
    struct pump *p = list_entry(self, struct pump, work);

    if (p->done) { /* since before the last commit */
        if (p->preface != p->link->preface)
            free(p->preface);
        close_fd(p);
        list_del(&p->work.link);
        free(p);
        return;
    }
    if (send_preface(p, now))
        move_in(p, now);
    if (!p->done && p->fd_readable)
        move_out(p, now);
    if (!p->done && p->sock_error && !p->params.poison)
        discard_out(p);
}

static void sock_ready(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now)
{
    struct pump *p = list_entry(self, struct pump, owner);

    /* Nothing else would look: in has ended, out has nothing to send or has ended, too. */
    if ((bits & (SOCK_POLLERR | SOCK_POLLHUP)) && (p->in_ended || p->local_error)) {
        int error = sock_take_error(s);

        if (error || !p->out_ended || p->local_error)
            sock_failed(p, error ? error : ECONNRESET, now);
    }
    if (!p->done && (bits & SOCK_POLLOUT))
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

/* What epoll says, or what is asked after a restore. May end the pump. */
static void take_events(struct pump *p, uint32_t events, uint64_t now)
{
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
        p->fd_readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP))
        p->fd_hup = true;
    if (events & EPOLLHUP)
        p->fd_gone = true;
    if (events & EPOLLOUT)
        p->fd_writable = true;
    if (events & EPOLLERR) {
        socklen_t n = sizeof p->link->so_error;

        if (!p->link->so_error)
            getsockopt(p->watch.fd, SOL_SOCKET, SO_ERROR, &p->link->so_error, &n);
        if (p->link->so_error)
            local_failed(p, p->link->so_error, now);
    }
}

static void fd_ready(struct fdwatch *self, uint32_t events, uint64_t now)
{
    struct pump *p = list_entry(self, struct pump, watch);

    take_events(p, events, now);
    if (!p->done)
        move_out(p, now);
    if (!p->done && p->fd_gone && p->out_ended && !p->local_error)
        pump_end(p, PUMP_LOCAL_GONE, 0, now); /* else what it wrote goes first, and out_eof() ends it */
    if (!p->done)
        daemon_defer(p->d, &p->work);
}

/* ---- Life ---------------------------------------------------------------------------------------------------------- */

/* A link that the pump makes for itself. */
static struct link_slot *own_link(struct daemon *d, const struct sock *s, int fd, const struct pump_params *params)
{
    struct link_slot fields = {.fd = fd, .program_fd = -1, .conn = sock_conn_id(s)};

    if (params->preface_bytes <= sizeof fields.preface) {
        fields.preface_bytes = (uint32_t)params->preface_bytes;
        if (params->preface_bytes)
            memcpy(fields.preface, params->preface, params->preface_bytes);
    }
    return link_new(d, params->poison ? LINK_PROGRAM : LINK_FORWARD, &fields);
}

/* False: no memory. */
static bool take_preface(struct pump *p, const struct pump_params *params)
{
    p->preface = p->link->preface;
    p->preface_bytes = p->preface_left = p->link->preface_bytes;
    if (params->preface_bytes <= sizeof p->link->preface)
        return true;
    p->preface = malloc(params->preface_bytes);
    if (!p->preface)
        return false;
    memcpy(p->preface, params->preface, params->preface_bytes);
    p->preface_bytes = p->preface_left = params->preface_bytes;
    return true;
}

/* It never lived; the caller keeps sock, descriptor, and the link if it brought one. */
static struct pump *stillborn(struct pump *p, int error)
{
    if (p->link && p->preface != p->link->preface)
        free(p->preface);
    if (p->link && !p->params.link)
        link_free(p->d, p->link);
    free(p);
    errno = error;
    return NULL;
}

/* Where the last worker's calls left the descriptor. */
static void resume(struct pump *p)
{
    uint64_t at;
    uint32_t bytes;

    if (witness_last(&p->link->sent, &at, &bytes) && p->link->kind == LINK_FORWARD)
        p->preface_left = p->link->preface_bytes - (size_t)at - bytes;
    if (p->params.poison && witness_last(&p->link->out, &at, &bytes) && bytes > 0)
        p->poison_unread = (uint32_t)stream_at(p, true) == (uint32_t)at + bytes - 1;
    if (p->link->so_error)
        p->local_error = p->link->so_error;
}

static int watch(struct pump *p)
{
    struct link_slot *l = p->link;
    int r;

    if (p->params.restored && l->watched)
        return fdset_adopt(p->d->fds, &p->watch, l->watch_slot, l->watch_generation);
    l->watched = false;
    r = fdset_add_as(p->d->fds, &p->watch, &l->watch_slot, &l->watch_generation);
    l->watched = r == 0;
    return r;
}

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
        .starved = {.fn = starved},
        .d = d,
        .sock = s,
        .params = *params,
        .fd_writable = true,
        .fd_readable = true,
    };
    snprintf(p->name, sizeof p->name, "%s", params->owner ? params->owner : "");
    p->params.owner = p->name;
    list_init(&p->work.link);
    list_init(&p->starved.link);
    ev_timer_init(&p->linger, linger_cb, LINGER_TICK, LINGER_TICK);
    p->linger.data = p;
    p->link = params->link ? params->link : own_link(d, s, fd, params);
    if (!p->link || !take_preface(p, params))
        return stillborn(p, ENOMEM);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (params->restored)
        resume(p);
    r = watch(p);
    if (r < 0)
        return stillborn(p, -r);
    sock_set_user(s, &p->owner);
    daemon_defer(d, &p->work);
    daemon_kick(d);
    return p;
}

bool pump_hints(const struct link_slot *l, uint32_t *ret_write_seq, bool *ret_has_write, uint32_t *ret_copied_seq,
                bool *ret_has_read)
{
    bool poison = l->kind == LINK_PROGRAM;
    uint64_t at;
    uint32_t bytes;

    *ret_has_write = witness_last(&l->out, &at, &bytes);
    if (*ret_has_write) /* of a program's bytes the last one is still queued */
        *ret_write_seq = (uint32_t)at + bytes - (poison && bytes ? 1u : 0u);
    *ret_has_read = witness_last(&l->in, &at, &bytes);
    if (*ret_has_read)
        *ret_copied_seq = (uint32_t)at + bytes;
    return *ret_has_write || *ret_has_read;
}

/*
 * As fd_ready() would have been told: what was told to the last worker is told no more. Bytes are moved by the deferred
 * work: what waits to be sent leaves before more is taken.
 */
void pump_look(struct pump *p, uint64_t now)
{
    struct pollfd fd = {.fd = p->watch.fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    uint32_t events = 0;

    if (p->done || poll(&fd, 1, 0) < 0)
        return;
    events |= fd.revents & POLLRDHUP ? EPOLLRDHUP : 0;
    events |= fd.revents & POLLHUP ? EPOLLHUP : 0;
    events |= fd.revents & POLLERR ? EPOLLERR : 0;
    take_events(p, events | EPOLLIN | EPOLLOUT, now);
}

void pump_abort(struct pump *p, uint64_t now)
{
    pump_end(p, PUMP_ABORTED, 0, now);
}

void pump_drain(struct pump *p, uint64_t now)
{
    if (p->done || p->drain)
        return;
    p->drain = true;
    p->fd_readable = true;
    move_out(p, now);
}

void pump_get_info(const struct pump *p, struct pump_info *ret)
{
    struct tcp_info info;

    *ret = (struct pump_info){.bytes_in = p->bytes_in, .bytes_out = p->bytes_out, .bytes_lost = p->bytes_lost};
    ret->local_eof = p->out_ended;
    ret->peer_eof = p->in_ended;
    if (!p->sock)
        return;
    ret->id = sock_conn_id(p->sock);
    if (tcp_get_info(p->d->tcp, ret->id, daemon_now(), &info) == 0)
        ret->undelivered = info.unread_bytes;
}
