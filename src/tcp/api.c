/*
 * tcp/api.c: what programs call for a connection: connect, send, receive, shut down, close, abort. Semantics
 * are those of tcp_sendmsg(), tcp_recvmsg(), tcp_shutdown(), tcp_close() and tcp_disconnect() of Linux,
 * without the waiting.
 *
 * They change the state and mark what is to be sent; they build nothing. Errors come in Linux's order: what
 * is unread first, then the connection's error once, then EPIPE or the end of the stream. A call that ends a
 * connection whose owner has left frees it before it returns.
 */
#include "tcp/recovery.h"

static struct tcp_conn *owned_conn(const struct tcp *t, tcp_id id)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    return c && c->owned ? c : NULL;
}

/* Why owned_conn() found none. */
static int absent(const struct tcp *t, tcp_id id)
{
    return tcp_is_parked(t, id) ? -ENOMEM : -ENOENT; /* no memory to wake it: later */
}

/* At the end of a call that may have given the connection something to send. */
static void kick(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (c->state != TCP_STATE_CLOSE)
        tcp_follow_up(t, c, now);
    tcp_rec_settle(t, c, now);
    tcp_mark_dirty(t, c);
    tcp_conn_reap(t, c);
}

/* ---- connect
 * -------------------------------------------------------------------------------------------------- */

bool tcp_tuple_in_use(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    const void *entry = tcp_lookup_tuple(t, tuple, &kind);

    return entry && !(kind == TCP_KIND_TW && tcp_tw_may_reuse(t, entry, now));
}

/* Linux: dst_metric_advmss(), then tcp_mss_clamp(). */
static uint16_t advertised_mss(const struct tcp_conn *c)
{
    uint16_t header = tcp_ip_headers_bytes(c->tuple.local.family);
    uint16_t mss = c->path.advmss;

    if (!mss)
        mss = c->path.mtu > header + TCP_MIN_MSS ? (uint16_t)(c->path.mtu - header) : (uint16_t)TCP_MIN_MSS;
    return c->user_mss && c->user_mss < mss ? c->user_mss : mss;
}

void tcp_prepare_syn(struct tcp *t, struct tcp_conn *c)
{
    c->advmss = advertised_mss(c);
    /* Whole segments of the announced size: whether timestamps will take a part is not known yet
     * (tcp_connect_init). */
    tcp_rcv_init(t, c, c->advmss, c->wscale_ok);
    tcp_snd_init(t, c);
}

void tcp_set_offers(struct tcp *t, struct tcp_conn *c)
{
    const struct tcp_config *config = t->config;

    c->ts_ok = config->tcp_timestamps != 0 && !c->md5_key[0]; /* tcp_syn_options: no room for both and SACK */
    c->ts_offset = config->tcp_timestamps == 1 ? tcp_ts_offset(t, &c->tuple) : 0;
    c->sack_ok = config->tcp_sack != 0;
    c->wscale_ok = config->tcp_window_scaling != 0;
}

void tcp_start_syn(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    c->syn_pending = true;
    c->retrans_stamp = now ? now : 1;
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, time_add(now, c->rtt.rto_us * NSEC_PER_USEC));
    t->counters.active_opens++;
    tcp_mark_ready(t, c);
    tcp_mark_dirty(t, c);
}

int tcp_connect(struct tcp *t, const struct tcp_connect_args *args, uint64_t now, tcp_id *ret)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    void *entry = tcp_lookup_tuple(t, &args->tuple, &kind);
    uint32_t iss = tcp_isn(t, &args->tuple, now), ts_recent = 0;
    struct tcp_conn *c;

    if (entry && kind != TCP_KIND_TW)
        return -EADDRINUSE;
    if (entry && !tcp_tw_may_reuse(t, entry, now))
        return -EADDRINUSE;
    if (t->n_conns >= t->params.max_conns)
        return -ENFILE;
    c = tcp_conn_new(t, now);
    if (!c)
        return -ENOMEM;
    if (entry && !tcp_tw_reuse(t, entry, now, &iss, &ts_recent)) {
        tcp_conn_free(t, c);
        return -EADDRINUSE;
    }
    c->tuple = args->tuple;
    c->id = tcp_table_enter(t, TCP_KIND_CONN, c, &c->tuple);
    if (!c->id) {
        tcp_conn_free(t, c);
        return -ENFILE;
    }
    c->path = args->path;
    c->pmtu = args->path.mtu;
    c->user = args->user;
    c->owned = true;
    c->iss = iss;
    tcp_set_offers(t, c);
    c->ts_recent = ts_recent;
    tcp_prepare_syn(t, c);
    tcp_rec_call(t, c, TCP_REC_CALL_CONNECT, args->fastopen, 0, 0, 0, now);
    tcp_set_state(t, c, TCP_STATE_SYN_SENT, now);
    c->defer_connect = args->fastopen;
    if (!args->fastopen)
        tcp_start_syn(t, c, now);
    *ret = c->id;
    tcp_conn_reap(t, c);
    return 0;
}

const char *tcp_congestion_name(const struct tcp *t, tcp_id id)
{
    const struct tcp_conn *c = id ? tcp_conn_view(t, id) : NULL;

    if (id && !c)
        return NULL;
    return c && c->cc ? c->cc->name : cc_name((unsigned)t->config->tcp_congestion_control);
}

const char *tcp_congestion_at(unsigned index)
{
    return cc_name(index);
}

int tcp_congestion_find(const char *name, size_t bytes)
{
    size_t n = strnlen(name, bytes);

    for (unsigned i = 0; cc_name(i); i++) {
        if (strlen(cc_name(i)) == n && memcmp(cc_name(i), name, n) == 0)
            return (int)i;
    }
    return -ENOENT;
}

void tcp_set_user(struct tcp *t, tcp_id id, uint64_t user)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (c) {
        c->user = user;
        tcp_mark_dirty(t, c);
    }
}

/* ---- send
 * ----------------------------------------------------------------------------------------------------- */

/* 1: bytes are taken; 0: not yet, the handshake goes on; else why not. Takes the connection's error (sk_err).
 */
static int send_state(struct tcp_conn *c)
{
    int error = c->error;

    if (error) {
        c->error = 0;
        return -error;
    }
    if (c->shutdown & TCP_SHUT_WR)
        return -EPIPE;
    switch (c->state) {
    case TCP_STATE_ESTABLISHED:
    case TCP_STATE_CLOSE_WAIT:
        return 1;
    case TCP_STATE_SYN_SENT:
        return 0;
    case TCP_STATE_SYN_RECV:
        return c->fastopen_rsk;
    default:
        return -EPIPE;
    }
}

/* A Fast Open may answer before its handshake is complete. */
static bool takes_bytes(const struct tcp_conn *c)
{
    return c->state == TCP_STATE_ESTABLISHED || c->state == TCP_STATE_CLOSE_WAIT ||
           (c->state == TCP_STATE_SYN_RECV && c->fastopen_rsk);
}

/* It asked for room in the send buffer and was told that there is none: from here on it waits (and the record says so). */
static void wait_writable(struct tcp *t, struct tcp_conn *c)
{
    if (!c->want_writable)
        tcp_rec_call(t, c, TCP_REC_CALL_POLL_OUT, 0, 0, 0, tcp_unsent_bytes(c), tcp_rec_time_of(t));
    c->want_writable = true;
}

size_t tcp_send_space(struct tcp *t, tcp_id id)
{
    struct tcp_conn *c = owned_conn(t, id);
    uint32_t space;

    if (!c || !takes_bytes(c) || (c->shutdown & TCP_SHUT_WR))
        return 0;
    space = tcp_stream_room(t, c, INT32_MAX);
    if (!space)
        wait_writable(t, c);
    tcp_rec_wants(t, c);
    return space;
}

bool tcp_send_writable(struct tcp *t, tcp_id id)
{
    const struct tcp_conn *as_is = tcp_conn_view(t, id); /* a parked one isn't woken to say yes */
    struct tcp_conn *c;

    if (!as_is || !as_is->owned || tcp_stream_is_writeable(t, as_is))
        return true;
    c = owned_conn(t, id);
    if (!c)
        return true;
    wait_writable(t, c);
    tcp_rec_wants(t, c);
    return false;
}

/* No room, or no memory for it: an ACK will bring some and tell. */
static void send_full(struct tcp *t, struct tcp_conn *c)
{
    tcp_stream_full(c);
    tcp_rec_wants(t, c);
    if (c->writeq.count)
        tcp_mark_ready(t, c);
}

/* Little memory is left: a little of it, for whoever holds less. */
static bool memory_for_sending(const struct tcp *t, const struct tcp_conn *c, uint32_t *inout_room)
{
    if (tcp_memory_left(t, UINT32_MAX, 0))
        return true;
    if (*inout_room > CHUNK_SMALL_BYTES)
        *inout_room = CHUNK_SMALL_BYTES;
    return tcp_memory_left(t, c->sndbuf.truesize, t->config->tcp_wmem_min);
}

int tcp_send_reserve(struct tcp *t, tcp_id id, size_t want, struct tcp_iov *iov, int max)
{
    struct tcp_conn *c = owned_conn(t, id);
    uint32_t room;
    int n;

    if (!c)
        return absent(t, id);
    n = send_state(c);
    if (n < 0)
        return n;
    tcp_rate_check_app_limited(t, c);
    room = n == 1 ? tcp_stream_room(t, c, want < INT32_MAX ? (uint32_t)want : INT32_MAX) : 0;
    if (n == 0 || (!room && !want)) {
        wait_writable(t, c);
        return 0;
    }
    n = 0;
    if (room && !memory_for_sending(t, c, &room))
        n = -ENOMEM;
    else if (room)
        n = tcp_stream_prepare(c) ? tcp_sndbuf_reserve(&c->sndbuf, t->pool, room, iov, max) : -ENOMEM;
    /* Where bytes are unacknowledged, an ACK will free chunks and tell; else nothing would. */
    if (n == -ENOMEM && tcp_sndbuf_bytes(&c->sndbuf))
        n = 0;
    if (n <= 0) {
        send_full(t, c);
        tcp_rec_call(t, c, TCP_REC_CALL_SEND, 0, -EAGAIN, want < INT32_MAX ? (uint32_t)want : INT32_MAX,
                     tcp_unsent_bytes(c), tcp_rec_time_of(t));
    }
    return n;
}

int tcp_send_commit(struct tcp *t, tcp_id id, size_t bytes, unsigned flags, uint64_t now)
{
    struct tcp_conn *c = owned_conn(t, id);

    if (!c)
        return -ENOENT;
    if (!takes_bytes(c))
        return -EPIPE;
    tcp_sndbuf_commit(&c->sndbuf, t->pool, bytes);
    if (bytes) {
        tcp_stream_append(t, c, (uint32_t)bytes, flags, now);
        tcp_rec_call(t, c, TCP_REC_CALL_SEND, flags, (int64_t)bytes, (uint32_t)bytes, tcp_unsent_bytes(c), now);
    }
    kick(t, c, now);
    return 0;
}

/* Copies as much as there is memory for, behind write_seq. */
static uint32_t copy_in(struct tcp *t, struct tcp_conn *c, const uint8_t *from, uint32_t bytes)
{
    uint32_t done = 0;

    while (done < bytes) {
        struct tcp_iov iov[16];
        uint32_t got = 0;
        int n = tcp_sndbuf_reserve(&c->sndbuf, t->pool, bytes - done, iov, 16);

        for (int i = 0; i < n; i++) {
            memcpy(iov[i].data, from + done + got, iov[i].len);
            got += (uint32_t)iov[i].len;
        }
        if (!got)
            break;
        tcp_sndbuf_commit(&c->sndbuf, t->pool, got);
        done += got;
    }
    return done;
}

/* Appends references to as much of the slices as `bytes`. */
static uint32_t share_in(struct tcp *t, struct tcp_conn *c, const struct tcp_slice *slice, uint32_t bytes)
{
    uint32_t done = 0;

    for (; done < bytes; slice++) {
        struct tcp_slice part = *slice;

        part.len = part.len < bytes - done ? part.len : bytes - done;
        if (!tcp_sndbuf_share(&c->sndbuf, t->pool, &part))
            break;
        done += part.len;
    }
    return done;
}

/* One of both: bytes to be copied, or slices of shared chunks. */
static int64_t send_some(struct tcp *t, tcp_id id, const void *data, const struct tcp_slice *slice, size_t bytes,
                         unsigned flags, uint64_t now)
{
    struct tcp_conn *c = owned_conn(t, id);
    uint32_t room, done = 0;
    int r;

    if (!c)
        return absent(t, id);
    r = send_state(c);
    if (r < 0)
        return r;
    if (!bytes)
        return 0;
    tcp_rate_check_app_limited(t, c);
    room = r == 1 ? tcp_stream_room(t, c, bytes < INT32_MAX ? (uint32_t)bytes : INT32_MAX) : 0;
    if (room && memory_for_sending(t, c, &room) && tcp_stream_prepare(c))
        done = slice ? share_in(t, c, slice, room) : copy_in(t, c, data, room);
    if (done)
        tcp_stream_append(t, c, done, done < bytes ? 0 : flags, now);
    if (done < bytes)
        send_full(t, c);
    tcp_rec_call(t, c, TCP_REC_CALL_SEND, flags, done ? (int64_t)done : -EAGAIN,
                 bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX, tcp_unsent_bytes(c), now);
    kick(t, c, now);
    if (done)
        return done;
    return room && !tcp_sndbuf_bytes(&c->sndbuf) ? -ENOMEM : -EAGAIN;
}

int64_t tcp_send(struct tcp *t, tcp_id id, const void *data, size_t bytes, unsigned flags, uint64_t now)
{
    return send_some(t, id, data, NULL, bytes, flags, now);
}

int64_t tcp_send_shared(struct tcp *t, tcp_id id, const struct tcp_slice *slice, unsigned n, unsigned flags,
                        uint64_t now)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < n; i++)
        bytes += slice[i].len;
    return send_some(t, id, NULL, slice, bytes, flags, now);
}

/* ---- receive
 * -------------------------------------------------------------------------------------------------- */

static uint32_t iov_bytes(const struct tcp_iov *iov, int n)
{
    size_t bytes = 0;

    for (int i = 0; i < n; i++)
        bytes += iov[i].len;
    return (uint32_t)bytes;
}

int tcp_recv_peek(struct tcp *t, tcp_id id, struct tcp_iov *iov, int max, bool *ret_eof)
{
    struct tcp_conn *c;
    bool ended;
    int n, error;

    *ret_eof = false;
    if (tcp_is_parked(t, id))
        return 0; /* nothing is unread, no end has come, no error: nobody is woken to say so */
    c = owned_conn(t, id);
    if (!c)
        return -ENOENT;
    n = tcp_rcvq_peek(&c->rcvq, 0, iov, max);
    error = c->error;
    if (c->rcvq.bytes == 0 && error) {
        c->error = 0;
        return -error;
    }
    ended = c->fin_received || c->state == TCP_STATE_CLOSE || (c->shutdown & TCP_SHUT_RD);
    *ret_eof = ended && !error && iov_bytes(iov, n) == c->rcvq.bytes;
    return n;
}

void tcp_recv_consume(struct tcp *t, tcp_id id, size_t bytes, uint64_t now)
{
    struct tcp_conn *c = owned_conn(t, id);
    uint32_t n;

    if (!c)
        return;
    n = bytes < c->rcvq.bytes ? (uint32_t)bytes : c->rcvq.bytes;
    if (!n)
        return;
    tcp_rcvq_consume(&c->rcvq, t->pool, n);
    c->copied_seq += n;
    tcp_rec_call(t, c, TCP_REC_CALL_RECV, 0, n, n, c->rcvq.bytes, now);
    tcp_rcv_read(t, c, n, now);
    kick(t, c, now);
}

/* ---- shutdown, close, abort
 * ----------------------------------------------------------------------------------- */

/* The owner's end of the stream, and the change of state that goes with it (tcp_close_state). */
void tcp_queue_fin(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    switch (c->state) {
    case TCP_STATE_SYN_RECV:
        if (!c->fastopen_rsk)
            return; /* at establishment */
        tcp_set_state(t, c, TCP_STATE_FIN_WAIT1, now);
        break;
    case TCP_STATE_ESTABLISHED:
        tcp_set_state(t, c, TCP_STATE_FIN_WAIT1, now);
        break;
    case TCP_STATE_CLOSE_WAIT:
        tcp_set_state(t, c, TCP_STATE_LAST_ACK, now);
        break;
    default:
        return; /* they have sent it */
    }
    c->fin_queued = true;
    tcp_chrono_start(c, TCP_CHRONO_BUSY, now);
    tcp_mark_ready(t, c);
}

int tcp_shutdown_write(struct tcp *t, tcp_id id, uint64_t now)
{
    struct tcp_conn *c = owned_conn(t, id);

    if (!c)
        return absent(t, id);
    if (c->state == TCP_STATE_CLOSE)
        return -ENOTCONN;
    c->shutdown |= TCP_SHUT_WR;
    tcp_rec_call(t, c, TCP_REC_CALL_SHUTDOWN_WR, 0, 0, 0, tcp_unsent_bytes(c), now);
    if (c->state == TCP_STATE_SYN_SENT)
        tcp_done(t, c, ECONNRESET, false, now); /* inet_shutdown() disconnects */
    else
        tcp_queue_fin(t, c, now);
    kick(t, c, now);
    return 0;
}

int tcp_shutdown_read(struct tcp *t, tcp_id id, uint64_t now)
{
    struct tcp_conn *c = owned_conn(t, id);

    if (!c)
        return absent(t, id);
    if (c->state == TCP_STATE_CLOSE)
        return -ENOTCONN;
    tcp_rec_call(t, c, TCP_REC_CALL_SHUTDOWN_RD, 0, 0, 0, c->rcvq.bytes, now);
    tcp_recv_consume(t, id, c->rcvq.bytes, now);
    c->shutdown |= TCP_SHUT_RD;
    kick(t, c, now);
    return 0;
}

/* tcp_need_reset(), and data that never left in the last states. */
static bool abort_needs_reset(const struct tcp_conn *c)
{
    switch (c->state) {
    case TCP_STATE_ESTABLISHED:
    case TCP_STATE_CLOSE_WAIT:
    case TCP_STATE_FIN_WAIT1:
    case TCP_STATE_FIN_WAIT2:
    case TCP_STATE_SYN_RECV:
        return true;
    case TCP_STATE_CLOSING:
    case TCP_STATE_LAST_ACK:
        return c->snd_nxt != c->write_seq + (c->fin_queued ? 1u : 0u);
    default:
        return false;
    }
}

void tcp_disconnect(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, uint64_t now)
{
    if (c->owned)
        tcp_disown(t, c);
    if (abort_needs_reset(c))
        tcp_send_reset(t, c, cause, 0, false, now);
    else
        tcp_done(t, c, 0, false, now);
    tcp_conn_reap(t, c);
}

int tcp_abort(struct tcp *t, tcp_id id, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c || (!c->owned && !c->orphan))
        return tcp_park_abandon(t, id) ? 0 : -ENOENT;
    tcp_rec_verb(t, NULL, now);
    tcp_rec_call(t, c, TCP_REC_CALL_ABORT, 0, 0, 0, 0, now);
    tcp_disconnect(t, c, TCP_CAUSE_RST_ABORT, now);
    return 0;
}

void tcp_refuse(struct tcp *t, tcp_id id, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c || !c->in_accept_queue)
        return;
    t->counters.listen_drops++;
    tcp_drop(t, c, TCP_DROP_NO_MEMORY);
    (void)tcp_abort(t, id, now);
}

/* What an orphan does that has nothing unread. */
static void close_orphan(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    switch (c->state) {
    case TCP_STATE_SYN_SENT:
        tcp_done(t, c, 0, false, now);
        return;
    case TCP_STATE_FIN_WAIT2:
        if (c->linger2_s < 0) {
            t->counters.abort_on_linger++;
            tcp_send_reset(t, c, TCP_CAUSE_RST_TIMEOUT, 0, false, now);
            return;
        }
        tcp_timer_set(t, c, TCP_TIMER_LINGER, time_add(now, tcp_fin_time(t, c)));
        break;
    default:
        tcp_queue_fin(t, c, now);
        break;
    }
    if (tcp_orphan_over_limit(t)) {
        t->counters.abort_on_memory++;
        tcp_send_reset(t, c, TCP_CAUSE_RST_ORPHAN_LIMIT, 0, false, now);
    }
}

int tcp_close(struct tcp *t, tcp_id id, uint64_t now)
{
    struct tcp_conn *c = owned_conn(t, id);
    bool unread;

    if (!c)
        return tcp_park_abandon(t, id) ? 0 : -ENOENT;
    unread = c->rcvq.bytes != 0;
    tcp_rec_verb(t, NULL, now);
    tcp_rec_call(t, c, TCP_REC_CALL_CLOSE, 0, 0, 0, c->rcvq.bytes, now);
    c->shutdown = TCP_SHUT_RD | TCP_SHUT_WR;
    tcp_disown(t, c);
    if (c->state == TCP_STATE_CLOSE) {
        tcp_conn_reap(t, c);
        return 0;
    }
    if (unread) {
        /* RFC 1122 section 4.2.2.13, RFC 2525 section 2.17 */
        t->counters.abort_on_data++;
        tcp_send_reset(t, c, TCP_CAUSE_RST_UNREAD_DATA, 0, false, now);
    } else {
        close_orphan(t, c, now);
    }
    kick(t, c, now);
    return 0;
}
