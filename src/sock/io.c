/*
 * sock/io.c: bytes, shutdown, errors and readiness, in the order in which Linux's tcp_sendmsg(), tcp_recvmsg(),
 * inet_shutdown() and tcp_poll() look at things.
 *
 * Unread data comes before an error, an error before the end of the stream; an error is told once. The engine is asked
 * for bytes and room only: which errno a program reads is decided here from state, shutdown and err.
 */
#include "sock/sock_priv.h"

/* 0: data may be queued. Else what send() says, in Linux's order; -EPIPE gives way to a pending error. */
static int may_send(struct sock *s)
{
    if (s->err != 0)
        return sock_error_once(s);
    if (sock_state_in(s, SOCK_ST(ESTABLISHED) | SOCK_ST(CLOSE_WAIT)) ||
        (s->state == TCP_STATE_SYN_RECV && s->passive_fastopen))
        return s->shutdown & SOCK_SHUTDOWN_SEND ? -EPIPE : 0;
    /* sk_stream_wait_connect(), not willing to wait */
    return sock_state_in(s, SOCK_ST(SYN_SENT) | SOCK_ST(SYN_RECV)) ? -EAGAIN : -EPIPE;
}

/* The engine refused though the state allowed it: only memory and ids that went this moment are left. */
static int64_t send_result(int64_t r)
{
    return r == -EAGAIN || r == -ENOMEM || r == -ENOBUFS || r >= 0 ? r : -EPIPE;
}

uint32_t sock_send_goal(const struct sock *s)
{
    return tcp_send_goal(s->ss->tcp, s->conn);
}

int sock_send_reserve(struct sock *s, size_t want, struct tcp_iov *iov, int max)
{
    int r;

    socks_drain(s->ss);
    r = may_send(s);
    if (r < 0)
        return r;
    r = (int)send_result(tcp_send_reserve(s->ss->tcp, s->conn, want, iov, max));
    return r == 0 && want > 0 ? -EAGAIN : r;
}

int sock_send_commit(struct sock *s, size_t bytes, unsigned flags, uint64_t now)
{
    s->ss->now = now;
    return (int)send_result(tcp_send_commit(s->ss->tcp, s->conn, bytes, flags, now));
}

int64_t sock_send(struct sock *s, const void *data, size_t bytes, unsigned flags, uint64_t now)
{
    int r;

    socks_enter(s->ss, now);
    if (s->deferred)
        return sock_sendto(s, NULL, 0, data, bytes, flags, now);
    r = may_send(s);
    if (r < 0)
        return r;
    if (bytes == 0)
        return 0;
    return send_result(tcp_send(s->ss->tcp, s->conn, data, bytes, flags, now));
}

int64_t sock_send_shared(struct sock *s, const struct tcp_slice *slice, unsigned n, unsigned flags, uint64_t now)
{
    int r;

    socks_enter(s->ss, now);
    r = may_send(s);
    return r < 0 ? r : send_result(tcp_send_shared(s->ss->tcp, s->conn, slice, n, flags, now));
}

int64_t sock_sendto(struct sock *s, const struct ip_addr *addr, uint16_t port, const void *data, size_t bytes,
                    unsigned flags, uint64_t now)
{
    size_t copied;
    int r;

    socks_enter(s->ss, now);
    if ((flags & SOCK_SEND_FASTOPEN) || s->deferred) {
        r = sock_fastopen(s, addr, port, data, bytes, now, &copied);
        if (r == -EINPROGRESS && copied > 0)
            return (int64_t)copied;
        if (r < 0)
            return r;
    }
    return sock_send(s, data, bytes, flags & ~SOCK_SEND_FASTOPEN, now);
}

bool sock_is_deferred(const struct sock *s)
{
    return s->deferred;
}

void sock_set_write_pending(struct sock *s, bool on)
{
    if (s->conn != 0)
        tcp_set_write_pending(s->ss->tcp, s->conn, on);
}

int sock_recv_peek(struct sock *s, struct tcp_iov *iov, int max, bool *ret_eof)
{
    bool eof = false;
    int n = 0;

    socks_drain(s->ss);
    *ret_eof = false;
    if (s->conn != 0)
        n = tcp_recv_peek(s->ss->tcp, s->conn, iov, max, &eof);
    if (n > 0) {
        *ret_eof = eof;
        return n;
    }
    if (s->state == TCP_STATE_LISTEN)
        return -ENOTCONN;
    if (!s->done && s->err != 0)
        return sock_error_once(s);
    if (s->done || (s->shutdown & SOCK_SHUTDOWN_RCV)) {
        *ret_eof = true;
        return 0;
    }
    return s->state == TCP_STATE_CLOSE ? -ENOTCONN : -EAGAIN;
}

void sock_recv_consume(struct sock *s, size_t bytes, uint64_t now)
{
    s->ss->now = now;
    s->urgent = false;
    if (s->conn != 0)
        tcp_recv_consume(s->ss->tcp, s->conn, bytes, now);
}

/* Copies what the places hold, at most `bytes`, or only counts it. */
static size_t copy_out(uint8_t *to, size_t bytes, const struct tcp_iov *iov, int n, bool discard)
{
    size_t copied = 0;

    for (int i = 0; i < n && copied < bytes; i++) {
        size_t len = iov[i].len < bytes - copied ? iov[i].len : bytes - copied;

        if (!discard)
            memcpy(to + copied, iov[i].data, len);
        copied += len;
    }
    return copied;
}

int64_t sock_recvmsg(struct sock *s, void *data, size_t bytes, unsigned flags, uint64_t now)
{
    struct tcp_iov iov[TCP_SLICES_MAX];
    size_t done = 0;
    bool eof;

    s->ss->now = now;
    if (bytes == 0 && s->state != TCP_STATE_LISTEN)
        return 0;
    while (done < bytes) {
        size_t copied;
        int n;

        /* An error or the end behind what was copied already is for the next call. */
        if (done > 0 && tcp_recv_peek(s->ss->tcp, s->conn, iov, 1, &eof) <= 0)
            break;
        n = sock_recv_peek(s, iov, TCP_SLICES_MAX, &eof);
        if (n <= 0)
            return done > 0 ? (int64_t)done : n;
        copied = copy_out((uint8_t *)data + (data ? done : 0), bytes - done, iov, n, (flags & SOCK_RECV_TRUNC) != 0);
        done += copied;
        if (flags & SOCK_RECV_PEEK)
            break;
        sock_recv_consume(s, copied, now);
    }
    return bytes == 0 ? -ENOTCONN : (int64_t)done;
}

int64_t sock_recv(struct sock *s, void *data, size_t bytes, uint64_t now)
{
    return sock_recvmsg(s, data, bytes, 0, now);
}

/* ---- What lies in the queues: ioctl(2) and TCP_CM_INQ ------------------------------------------------------------ */

/* tcp_ioctl(); the peer's FIN is not a byte. */
int64_t sock_queued(struct sock *s, enum sock_queue which)
{
    struct tcp_info info;

    socks_drain(s->ss);
    if (s->state == TCP_STATE_LISTEN)
        return -EINVAL;
    if (sock_state_in(s, SOCK_ST(SYN_SENT) | SOCK_ST(SYN_RECV)) || s->conn == 0 ||
        tcp_get_info(s->ss->tcp, s->conn, s->ss->now, &info) < 0)
        return 0;
    switch (which) {
    case SOCK_QUEUED_IN:
        return info.unread_bytes;
    case SOCK_QUEUED_OUT:
        return info.write_seq - info.snd_una;
    default:
        return info.write_seq - info.snd_nxt;
    }
}

/* tcp_inq_hint(): a FIN not read yet counts, so that the program goes on reading. */
int sock_inq_hint(struct sock *s)
{
    int64_t inq = sock_queued(s, SOCK_QUEUED_IN);

    return (int)(inq < 0 ? 0 : inq) + s->done;
}

static bool readable(const struct sock *s)
{
    struct tcp_iov iov;
    bool eof;

    return s->conn != 0 && tcp_recv_peek(s->ss->tcp, s->conn, &iov, 1, &eof) > 0;
}

/* ---- shutdown(2) ----------------------------------------------------------------------------------------------- */

static void shutdown_conn(struct sock *s, unsigned how, uint64_t now)
{
    if (s->conn == 0 || s->state == TCP_STATE_CLOSE)
        return;
    if (how & SOCK_SHUTDOWN_SEND)
        (void)tcp_shutdown_write(s->ss->tcp, s->conn, now);
    /*
     * SHUT_RD alone is a flag of the socket in Linux: what comes is still queued and can be read. With both ways shut,
     * more data is answered with RST; the engine does that, but throws unread bytes away, so not while there are any.
     */
    if (s->shutdown == SOCK_SHUTDOWN_MASK && !readable(s))
        (void)tcp_shutdown_read(s->ss->tcp, s->conn, now);
}

int sock_shutdown(struct sock *s, enum sock_how how, uint64_t now)
{
    unsigned bits = (unsigned)how + 1; /* SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2 -> RCV, SEND, both */
    int r = 0;

    if ((bits & ~(unsigned)SOCK_SHUTDOWN_MASK) || bits == 0)
        return -EINVAL;
    socks_enter(s->ss, now);
    if (s->phase == SOCK_CONNECTING)
        s->phase = sock_state_in(s, SOCK_ST(SYN_SENT) | SOCK_ST(SYN_RECV) | SOCK_ST(CLOSE)) ? SOCK_DISCONNECTING
                                                                                           : SOCK_CONNECTED;
    if (s->state == TCP_STATE_SYN_SENT || (s->state == TCP_STATE_LISTEN && (bits & SOCK_SHUTDOWN_RCV))) {
        sock_disconnect(s, now);
    } else if (s->state != TCP_STATE_LISTEN) {
        if (s->state == TCP_STATE_CLOSE)
            r = -ENOTCONN;
        s->shutdown |= (uint8_t)bits;
        shutdown_conn(s, bits, now);
    }
    sock_mark(s, SOCK_POLLIN | SOCK_POLLOUT | SOCK_POLLRDHUP | SOCK_POLLHUP | SOCK_POLLERR);
    return r;
}

/* ---- Readiness ------------------------------------------------------------------------------------------------- */

/* tcp_poll(), line by line. */
unsigned sock_poll(struct sock *s)
{
    unsigned bits = 0;

    socks_drain(s->ss);
    if (s->state == TCP_STATE_LISTEN)
        return list_empty(&s->more->accept_queue) ? 0 : SOCK_POLLIN;
    if (s->shutdown == SOCK_SHUTDOWN_MASK || s->state == TCP_STATE_CLOSE)
        bits |= SOCK_POLLHUP;
    if (s->shutdown & SOCK_SHUTDOWN_RCV)
        bits |= SOCK_POLLIN | SOCK_POLLRDHUP;
    if (s->deferred && s->state == TCP_STATE_SYN_SENT) {
        bits |= SOCK_POLLOUT; /* the first send is what makes the SYN */
    } else if (!sock_state_in(s, SOCK_ST(SYN_SENT) | SOCK_ST(SYN_RECV)) || s->passive_fastopen) {
        if (readable(s))
            bits |= SOCK_POLLIN;
        /* A third of the send buffer free; what can't send at all is "writable" so that the program hears why. */
        if ((s->shutdown & SOCK_SHUTDOWN_SEND) || s->conn == 0 || tcp_send_writable(s->ss->tcp, s->conn))
            bits |= SOCK_POLLOUT;
        if (s->urgent)
            bits |= SOCK_POLLPRI;
    }
    if (s->err != 0)
        bits |= SOCK_POLLERR;
    return bits;
}

int sock_take_error(struct sock *s)
{
    socks_drain(s->ss);
    return -sock_error_once(s);
}
