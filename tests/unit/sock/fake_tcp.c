/*
 * The fake engine: see fake_tcp.h. Ids are indexes plus one and are never reused, so a stale id is always told.
 */
#include "fake_tcp.h"

struct fake_conn *fake_conn(struct tcp *t, tcp_id id)
{
    return id >= 1 && id <= FAKE_CONNS && t->conn[id - 1].used ? &t->conn[id - 1] : NULL;
}

static const struct fake_conn *conn_of(const struct tcp *t, tcp_id id)
{
    return id >= 1 && id <= FAKE_CONNS && t->conn[id - 1].used && !t->conn[id - 1].orphan ? &t->conn[id - 1] : NULL;
}

static struct fake_conn *owned(struct tcp *t, tcp_id id)
{
    struct fake_conn *c = fake_conn(t, id);

    return c && !c->orphan ? c : NULL;
}

void fake_event(struct tcp *t, tcp_id id, enum tcp_state state, unsigned bits, int error)
{
    struct fake_conn *c = fake_conn(t, id);

    c->state = state;
    c->bits |= bits | TCP_EVENT_STATE;
    if (error)
        c->error = error;
}

static tcp_id add(struct tcp *t, const struct ip_tuple *tuple, enum tcp_state state)
{
    struct fake_conn *c = &t->conn[t->next_conn++];

    c->used = true;
    c->tuple = *tuple;
    c->state = state;
    c->space = 1000;
    c->writable = true;
    return (tcp_id)t->next_conn;
}

tcp_id fake_accept(struct tcp *t, uint32_t listener, const struct ip_tuple *tuple)
{
    tcp_id id = add(t, tuple, TCP_STATE_ESTABLISHED);

    fake_conn(t, id)->listener = listener;
    fake_event(t, id, TCP_STATE_ESTABLISHED, TCP_EVENT_ACCEPT | TCP_EVENT_CONNECTED, 0);
    return id;
}

void fake_data(struct tcp *t, tcp_id id, const char *text)
{
    struct fake_conn *c = fake_conn(t, id);

    memcpy(c->rx + c->rx_len, text, strlen(text));
    c->rx_len += strlen(text);
    c->bits |= TCP_EVENT_READABLE;
}

void fake_reset(struct tcp *t, tcp_id id, int error)
{
    fake_event(t, id, TCP_STATE_CLOSE, TCP_EVENT_ERROR | TCP_EVENT_CLOSED, error);
}

void fake_establish(struct tcp *t, tcp_id id)
{
    fake_event(t, id, TCP_STATE_ESTABLISHED, TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE, 0);
}

void fake_fin(struct tcp *t, tcp_id id)
{
    struct fake_conn *c = fake_conn(t, id);

    c->fin = true;
    fake_event(t, id, c->shutdown_writes ? TCP_STATE_CLOSE : TCP_STATE_CLOSE_WAIT, TCP_EVENT_PEER_CLOSED, 0);
}

/* ---- tcp/tcp.h ------------------------------------------------------------------------------------------------- */

bool tcp_next_event(struct tcp *t, struct tcp_event *ret)
{
    for (int i = 0; i < t->next_conn; i++) {
        struct fake_conn *c = &t->conn[i];

        if (!c->used || c->orphan || c->bits == 0)
            continue;
        *ret = (struct tcp_event){.id = (tcp_id)(i + 1), .user = c->user, .bits = c->bits, .state = c->state};
        if (c->bits & TCP_EVENT_ACCEPT) {
            ret->listener = c->listener;
            ret->user = t->listener[c->listener - 1].args.user;
        }
        if (c->bits & TCP_EVENT_ERROR)
            ret->error = c->error;
        c->bits = 0;
        return true;
    }
    return false;
}

int tcp_listen(struct tcp *t, const struct tcp_listen_args *args, uint32_t *ret_listener)
{
    for (uint32_t i = 0; i < FAKE_LISTENERS; i++) {
        if (t->listener[i].args.port != 0)
            continue;
        t->listener[i].used = true;
        t->listener[i].args = *args;
        *ret_listener = i + 1;
        return 0;
    }
    return -ENOMEM;
}

void tcp_listen_close(struct tcp *t, uint32_t listener, uint64_t now)
{
    (void)now;
    t->listener[listener - 1].used = false;
}

void tcp_listen_accepted(struct tcp *t, uint32_t listener)
{
    t->listener[listener - 1].accepted++;
}

int tcp_listen_set_backlog(struct tcp *t, uint32_t listener, uint32_t backlog)
{
    t->listener[listener - 1].args.backlog = backlog;
    return 0;
}

int tcp_listen_info(const struct tcp *t, uint32_t listener, struct tcp_listen_info *ret)
{
    const struct fake_listener *l = &t->listener[listener - 1];

    *ret = (struct tcp_listen_info){.addr = l->args.addr, .port = l->args.port, .backlog = l->args.backlog,
                                    .accept_queue = 3, .user = l->args.user};
    return l->used ? 0 : -ENOENT;
}

int tcp_listen_set_opt(struct tcp *t, uint32_t listener, enum tcp_opt opt, int32_t value)
{
    t->listener[listener - 1].opt[opt] = value;
    return 0;
}

int tcp_connect(struct tcp *t, const struct tcp_connect_args *args, uint64_t now, tcp_id *ret)
{
    (void)now;
    if (t->connect_result)
        return t->connect_result;
    *ret = add(t, &args->tuple, TCP_STATE_SYN_SENT);
    return 0;
}

bool tcp_tuple_in_use(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now)
{
    (void)now;
    for (int i = 0; i < t->next_conn; i++) {
        const struct fake_conn *c = &t->conn[i];

        if (c->used && c->state != TCP_STATE_CLOSE && memcmp(&c->tuple, tuple, sizeof *tuple) == 0)
            return true;
    }
    for (int i = 0; i < 4; i++) {
        if (t->busy[i].local_port != 0 && memcmp(&t->busy[i], tuple, sizeof *tuple) == 0)
            return true;
    }
    return false;
}

bool tcp_send_writable(struct tcp *t, tcp_id id)
{
    return conn_of(t, id) && conn_of(t, id)->writable;
}

int tcp_send_reserve(struct tcp *t, tcp_id id, size_t want, struct tcp_iov *iov, int max)
{
    struct fake_conn *c = owned(t, id);

    if (!c)
        return -ENOENT;
    if (c->error)
        return -c->error; /* sock must not pass the engine's copy on */
    if (c->space == 0 || max < 1)
        return 0;
    iov[0].data = (uint8_t *)t->tx + t->tx_len;
    iov[0].len = want < c->space ? want : c->space;
    if (iov[0].len > sizeof t->tx - t->tx_len)
        iov[0].len = sizeof t->tx - t->tx_len;
    return 1;
}

int tcp_send_commit(struct tcp *t, tcp_id id, size_t bytes, unsigned flags, uint64_t now)
{
    (void)flags;
    (void)now;
    if (!owned(t, id))
        return -ENOENT;
    t->tx_len += bytes;
    owned(t, id)->space -= bytes;
    return 0;
}

int64_t tcp_send(struct tcp *t, tcp_id id, const void *data, size_t bytes, unsigned flags, uint64_t now)
{
    struct tcp_iov iov = {0};
    int r = tcp_send_reserve(t, id, bytes, &iov, 1);

    if (r <= 0)
        return r < 0 ? r : -EAGAIN;
    memcpy(iov.data, data, iov.len);
    tcp_send_commit(t, id, iov.len, flags, now);
    return (int64_t)iov.len;
}

int64_t tcp_send_shared(struct tcp *t, tcp_id id, const struct tcp_slice *slice, unsigned n, unsigned flags,
                        uint64_t now)
{
    return n ? tcp_send(t, id, slice->data, slice->len, flags, now) : 0;
}

uint32_t tcp_send_goal(const struct tcp *t, tcp_id id)
{
    (void)t, (void)id;
    return 1;
}

int tcp_recv_peek(struct tcp *t, tcp_id id, struct tcp_iov *iov, int max, bool *ret_eof)
{
    struct fake_conn *c = owned(t, id);

    if (!c)
        return -ENOENT;
    *ret_eof = c->fin;
    if (c->rx_len == 0 || max < 1)
        return c->error ? -c->error : 0;
    iov[0].data = (uint8_t *)c->rx;
    iov[0].len = c->rx_len > 3 && max > 1 ? 3 : c->rx_len; /* two places where there is room for them */
    if (iov[0].len == c->rx_len)
        return 1;
    iov[1].data = (uint8_t *)c->rx + 3;
    iov[1].len = c->rx_len - 3;
    return 2;
}

void tcp_recv_consume(struct tcp *t, tcp_id id, size_t bytes, uint64_t now)
{
    struct fake_conn *c = owned(t, id);

    (void)now;
    memmove(c->rx, c->rx + bytes, c->rx_len - bytes);
    c->rx_len -= bytes;
}

int tcp_shutdown_write(struct tcp *t, tcp_id id, uint64_t now)
{
    struct fake_conn *c = owned(t, id);

    (void)now;
    c->shutdown_writes++;
    if (c->state == TCP_STATE_ESTABLISHED)
        fake_event(t, id, TCP_STATE_FIN_WAIT1, 0, 0);
    else if (c->state == TCP_STATE_CLOSE_WAIT)
        fake_event(t, id, TCP_STATE_LAST_ACK, 0, 0);
    return 0;
}

int tcp_shutdown_read(struct tcp *t, tcp_id id, uint64_t now)
{
    (void)now;
    owned(t, id)->shutdown_reads++;
    return 0;
}

static int give_up(struct tcp *t, tcp_id id, bool keep)
{
    struct fake_conn *c = owned(t, id);

    if (!c)
        return -ENOENT;
    c->orphan = true;
    c->bits = 0;
    c->used = keep && c->state != TCP_STATE_CLOSE;
    return 0;
}

int tcp_close(struct tcp *t, tcp_id id, uint64_t now)
{
    (void)now;
    t->closes++;
    return give_up(t, id, true);
}

void tcp_refuse(struct tcp *t, tcp_id id, uint64_t now)
{
    (void)tcp_abort(t, id, now);
}

int tcp_abort(struct tcp *t, tcp_id id, uint64_t now)
{
    (void)now;
    t->aborts++;
    return give_up(t, id, false);
}

int tcp_set_opt(struct tcp *t, tcp_id id, enum tcp_opt opt, int32_t value, uint64_t now)
{
    struct fake_conn *c = owned(t, id);

    (void)now;
    c->opt[opt] = value;
    c->opt_calls |= 1u << opt;
    return 0;
}

int tcp_get_opt(const struct tcp *t, tcp_id id, enum tcp_opt opt, int32_t *ret)
{
    const struct fake_conn *c = conn_of(t, id);

    if (!c)
        return -ENOENT;
    *ret = c->opt[opt];
    return 0;
}

/* Fast Open: never a cookie, so the SYN goes without data. */
bool tcp_fastopen_ready(struct tcp *t, tcp_id id, uint64_t now)
{
    (void)t;
    (void)id;
    (void)now;
    return false;
}

int64_t tcp_fastopen_connect(struct tcp *t, tcp_id id, const void *data, size_t bytes, uint64_t now)
{
    (void)data;
    (void)bytes;
    (void)now;
    return conn_of(t, id) ? 0 : -ENOENT;
}

void tcp_set_write_pending(struct tcp *t, tcp_id id, bool on)
{
    (void)t;
    (void)id;
    (void)on;
}

bool tcp_md5_available(const struct tcp *t)
{
    return !t->no_md5;
}

int tcp_md5_set(struct tcp *t, tcp_id id, const struct tcp_md5_key *key, uint64_t now)
{
    (void)now;
    t->md5_conn = id;
    t->md5 = *key;
    t->n_md5++;
    return t->md5_result;
}

int tcp_listen_md5_set(struct tcp *t, uint32_t listener, const struct tcp_md5_key *key)
{
    t->md5_listener = listener;
    t->md5 = *key;
    t->n_md5++;
    return t->md5_result;
}

int tcp_fastopen_set_keys(struct tcp *t, uint32_t listener, const uint8_t (*keys)[16], unsigned n)
{
    (void)t;
    (void)listener;
    (void)keys;
    (void)n;
    return 0;
}

int tcp_fastopen_get_keys(const struct tcp *t, uint32_t listener, uint8_t (*ret_keys)[16])
{
    (void)t;
    (void)listener;
    memset(ret_keys, 0, 16);
    return 1;
}

int tcp_set_max_pacing_rate(struct tcp *t, tcp_id id, uint64_t rate)
{
    (void)rate;
    return conn_of(t, id) ? 0 : -ENOENT;
}

const char *tcp_congestion_name(const struct tcp *t, tcp_id id)
{
    (void)t;
    (void)id;
    return "reno";
}

static const char *const controllers[] = {"reno", "cubic", "dctcp"};

const char *tcp_congestion_at(unsigned index)
{
    return index < 3 ? controllers[index] : NULL;
}

int tcp_congestion_find(const char *name, size_t bytes)
{
    for (int i = 0; i < 3; i++) {
        if (strlen(controllers[i]) == strnlen(name, bytes) && memcmp(controllers[i], name, strnlen(name, bytes)) == 0)
            return i;
    }
    return -ENOENT;
}

/* Every member has a value of its own, so that a mix-up in the layout shows. */
int tcp_get_info(const struct tcp *t, tcp_id id, uint64_t now, struct tcp_info *ret)
{
    (void)now;
    if (id < 1 || id > FAKE_CONNS || !t->conn[id - 1].used)
        return -ENOENT;
    memset(ret, 0, sizeof *ret);
    ret->state = (uint8_t)t->conn[id - 1].state;
    ret->tuple = t->conn[id - 1].tuple;
    ret->snd_wscale = 7;
    ret->rcv_wscale = 9;
    ret->fastopen_client_fail = TFO_DATA_NOT_ACKED;
    ret->delivery_rate_app_limited = true;
    ret->ca_state = 101;
    ret->retransmits = 102;
    ret->probes = 103;
    ret->backoff = 104;
    ret->options = 105;
    ret->rto = 8;
    ret->ato = 12;
    ret->snd_mss = 1448;
    ret->rcv_mss = 20;
    ret->unacked = 24;
    ret->sacked = 28;
    ret->lost = 32;
    ret->retrans = 36;
    ret->last_data_sent = 44;
    ret->last_data_recv = 52;
    ret->last_ack_recv = 56;
    ret->pmtu = 60;
    ret->rcv_ssthresh = 64;
    ret->rtt = 68;
    ret->rttvar = 72;
    ret->snd_ssthresh = 76;
    ret->snd_cwnd = 80;
    ret->advmss = 84;
    ret->reordering = 88;
    ret->rcv_rtt = 92;
    ret->rcv_space = 96;
    ret->total_retrans = 100;
    ret->pacing_rate = 0x104000000000;
    ret->max_pacing_rate = 0x112000000000;
    ret->bytes_acked = 0x120000000000;
    ret->bytes_received = 0x128000000000;
    ret->segs_out = 136;
    ret->segs_in = 140;
    ret->notsent_bytes = 144;
    ret->min_rtt = 148;
    ret->data_segs_in = 152;
    ret->data_segs_out = 156;
    ret->delivery_rate = 0x160000000000;
    ret->busy_time = 0x168000000000;
    ret->rwnd_limited = 0x176000000000;
    ret->sndbuf_limited = 0x184000000000;
    ret->delivered = 192;
    ret->delivered_ce = 196;
    ret->bytes_sent = 0x200000000000;
    ret->bytes_retrans = 0x208000000000;
    ret->dsack_dups = 216;
    ret->reord_seen = 220;
    ret->rcv_ooopack = 224;
    ret->snd_wnd = 228;
    ret->rcv_wnd = 232;
    ret->rehash = 236;
    ret->total_rto = 240;
    ret->total_rto_recoveries = 242;
    ret->total_rto_time = 244;
    return 0;
}

int tcp_tw_mark(struct tcp *t, const struct ip_tuple *tuple, uint32_t mark)
{
    for (int i = 0; i < t->next_conn; i++)
        if (t->conn[i].used && t->conn[i].state == TCP_STATE_TIME_WAIT &&
            memcmp(&t->conn[i].tuple, tuple, sizeof *tuple) == 0) {
            t->conn[i].mark = mark;
            return 0;
        }
    return -ENOENT;
}

uint32_t tcp_tw_marked(const struct tcp *t, uint32_t mark)
{
    uint32_t n = 0;

    for (int i = 0; i < t->next_conn; i++)
        n += t->conn[i].used && t->conn[i].state == TCP_STATE_TIME_WAIT && t->conn[i].mark == mark;
    return n;
}
