/*
 * tcp/fastopen.c: TCP Fast Open (RFC 7413) on both sides, as Linux's tcp_fastopen.c.
 *
 * A server gives cookies: SipHash over the peer's and its own address under a secret key, 8 bytes, so that
 * nothing is kept; a backup key lets keys rotate. A SYN with a valid cookie makes a connection at once, in
 * SYN-RECEIVED with fastopen_rsk set and in the accept queue: its data can be read and answered before the
 * handshake ends; RETRANS then is the SYN-ACK's timer and nothing else is sent again. Pending ones are
 * limited per listener:
 *
 *     fastopen_qlen = connections with fastopen_rsk that name it + those a RST ended less than 60 s ago
 *
 * A client keeps cookies in the metrics cache. Its SYN and the data in it are two descriptors of the sent
 * queue; a SYN sent again carries neither data nor option. Middle boxes that eat such SYNs pause Fast Open
 * for all destinations. Decides and marks; output.c makes the segments.
 */
#include "tcp/tcp_priv.h"

#define COOKIE_BYTES   8u /* Linux TCP_FASTOPEN_COOKIE_SIZE */
#define RST_MEMORY_NS  (60 * NSEC_PER_SEC)
#define PAUSE_DOUBLED  6u /* times at most that the pause after a black hole doubles */

struct tcp_fastopen_rst {
    struct list_node link;
    uint64_t until;
};

/* ---- keys and cookies ---- */

static uint64_t le64(const uint8_t *b)
{
    uint64_t v = 0;

    for (unsigned i = 8; i > 0; i--)
        v = v << 8 | b[i - 1];
    return v;
}

static void put_le64(uint8_t *b, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++, v >>= 8)
        b[i] = (uint8_t)v;
}

/* Until somebody sets a key there is one that nobody else knows and a restart keeps. */
void tcp_fastopen_init(struct tcp *t)
{
    t->n_fastopen_keys = 1;
    t->fastopen_key[0].k0 = siphash(&t->secrets.isn, "fast open key 0", 15);
    t->fastopen_key[0].k1 = siphash(&t->secrets.isn, "fast open key 1", 15);
}

int tcp_fastopen_set_keys(struct tcp *t, uint32_t listener, const uint8_t (*keys)[16], unsigned n)
{
    struct tcp_listener *l = listener ? tcp_listener_by_number(t, listener) : NULL;
    struct siphash_key *to = l ? l->fastopen_key : t->fastopen_key;

    if (listener && !l)
        return -ENOENT;
    if (n > 2 || (n == 0 && !l))
        return -EINVAL;
    for (unsigned i = 0; i < n; i++)
        to[i] = (struct siphash_key){.k0 = le64(keys[i]), .k1 = le64(keys[i] + 8)};
    if (l)
        l->n_fastopen_keys = (uint8_t)n;
    else
        t->n_fastopen_keys = n;
    return 0;
}

static unsigned keys_of(const struct tcp *t, const struct tcp_listener *l, const struct siphash_key **ret)
{
    bool own = l && l->n_fastopen_keys;

    *ret = own ? l->fastopen_key : t->fastopen_key;
    return own ? l->n_fastopen_keys : t->n_fastopen_keys;
}

int tcp_fastopen_get_keys(const struct tcp *t, uint32_t listener, uint8_t (*ret_keys)[16])
{
    const struct tcp_listener *l = listener ? tcp_listener_by_number(t, listener) : NULL;
    const struct siphash_key *key;
    unsigned n;

    if (listener && !l)
        return -ENOENT;
    n = keys_of(t, l, &key);
    for (unsigned i = 0; i < n; i++) {
        put_le64(ret_keys[i], key[i].k0);
        put_le64(ret_keys[i] + 8, key[i].k1);
    }
    return (int)n;
}

/* tcp_fastopen_cookie_gen: the addresses as the SYN's IP header has them, source first. */
static void make_cookie(const struct siphash_key *key, const struct ip_tuple *tuple,
                        struct tcp_fastopen_cookie *ret)
{
    unsigned n = tuple->local.family == IP_V6 ? 16 : 4;
    uint8_t text[32];

    memcpy(text, tuple->remote.b, n);
    memcpy(text + n, tuple->local.b, n);
    *ret = (struct tcp_fastopen_cookie){.bytes = COOKIE_BYTES};
    put_le64(ret->value, siphash(key, text, 2 * n));
}

void tcp_fastopen_cookie_of(const struct tcp *t, const struct tcp_listener *l, const struct ip_tuple *tuple,
                            struct tcp_fastopen_cookie *ret)
{
    const struct siphash_key *key;

    keys_of(t, l, &key);
    make_cookie(&key[0], tuple, ret);
}

/* Number of the key that made the cookie in this SYN, 1 or 2; 0: none did. *ret: what the first one makes. */
static unsigned check_cookie(const struct tcp *t, const struct tcp_listener *l, const struct ip_tuple *tuple,
                             const struct tcp_options *o, struct tcp_fastopen_cookie *ret)
{
    const struct siphash_key *key;
    unsigned n = keys_of(t, l, &key);

    make_cookie(&key[0], tuple, ret);
    for (unsigned i = 0; i < n; i++) {
        struct tcp_fastopen_cookie valid;

        make_cookie(&key[i], tuple, &valid);
        if (o->fastopen_bytes == COOKIE_BYTES && memcmp(o->fastopen_cookie, valid.value, COOKIE_BYTES) == 0)
            return i + 1;
    }
    return 0;
}

/* ---- active: before the SYN ---- */

/* tcp_fastopen_active_should_disable: for how long depends on how often it happened. */
static bool is_paused(const struct tcp *t, uint64_t now)
{
    uint64_t pause = (uint32_t)t->config->tcp_fastopen_blackhole_timeout_sec * NSEC_PER_SEC;
    uint32_t times = t->fastopen_pauses;

    if (!pause || !times)
        return false;
    return time_since(now, t->fastopen_paused_at) <
           pause << (times - 1 < PAUSE_DOUBLED ? times - 1 : PAUSE_DOUBLED);
}

static void pause_all(struct tcp *t, uint64_t now)
{
    if (!t->config->tcp_fastopen_blackhole_timeout_sec)
        return;
    t->fastopen_paused_at = now;
    t->fastopen_pauses++;
}

/* May the SYN carry data? *inout_mss is the peer's of last time, *ret what the SYN's option says. */
static bool check_client(struct tcp *t, struct tcp_conn *c, uint64_t now, uint16_t *inout_mss,
                         struct tcp_fastopen_cookie *ret)
{
    tcp_metrics_fastopen(t, c, now, inout_mss, ret);
    /* Its option has no room beside a TCP-MD5 signature. */
    if (c->md5_key[0] || is_paused(t, now)) {
        ret->bytes = -1;
        return false;
    }
    c->syn_fastopen_ch = t->fastopen_pauses > 0 && t->config->tcp_fastopen_blackhole_timeout_sec > 0;
    if ((t->config->tcp_fastopen & TFO_CLIENT_NO_COOKIE) || c->fastopen_no_cookie) {
        ret->bytes = -1;
        return true;
    }
    if (ret->bytes > 0)
        return true;
    c->fastopen_client_fail = TFO_COOKIE_UNAVAILABLE;
    return false;
}

bool tcp_fastopen_ready(struct tcp *t, tcp_id id, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);
    struct tcp_fastopen_cookie cookie;
    uint16_t mss = 0;

    return c && c->defer_connect && check_client(t, c, now, &mss, &cookie);
}

/*
 * Bytes that fit: last time's MSS, bounded by path and TCP_MAXSEG, less room for all options, since middle
 * boxes may add some (tcp_send_syn_data).
 */
static size_t syn_space(struct tcp *t, struct tcp_conn *c, uint16_t mss)
{
    uint32_t headers = tcp_ip_headers_bytes(c->tuple.remote.family), space;

    c->mss_clamp = c->user_mss && c->user_mss < mss ? c->user_mss : mss;
    tcp_sync_mss(t, c, c->pmtu);
    space = c->pmtu > headers ? c->pmtu - headers : 0;
    if (space > c->mss_clamp)
        space = c->mss_clamp;
    return space > TCP_OPTIONS_MAX ? space - TCP_OPTIONS_MAX : 0;
}

/* Into the send buffer, as far as there is memory. */
static size_t take_data(struct tcp *t, struct tcp_conn *c, const uint8_t *data, size_t bytes, uint64_t now)
{
    size_t done = 0;

    while (done < bytes && tcp_stream_prepare(c)) {
        struct tcp_iov iov[4];
        size_t got = 0;
        int n = tcp_sndbuf_reserve(&c->sndbuf, t->pool, bytes - done, iov, 4);

        for (int i = 0; i < n; i++) {
            memcpy(iov[i].data, data + done + got, iov[i].len);
            got += iov[i].len;
        }
        if (!got)
            break;
        tcp_sndbuf_commit(&c->sndbuf, t->pool, got);
        done += got;
    }
    if (done)
        tcp_stream_append(t, c, (uint32_t)done, 0, now);
    return done;
}

int64_t tcp_fastopen_connect(struct tcp *t, tcp_id id, const void *data, size_t bytes, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);
    struct tcp_fastopen_cookie cookie;
    uint16_t mss;

    if (!c || !c->owned)
        return -ENOENT;
    if (!c->defer_connect)
        return -EALREADY;
    mss = c->advmss; /* where none is remembered */
    if (check_client(t, c, now, &mss, &cookie)) {
        size_t space = syn_space(t, c, mss);

        c->syn_data = (uint16_t)take_data(t, c, data, bytes < space ? bytes : space, now);
    }
    c->fastopen_cookie = cookie;
    c->defer_connect = false;
    tcp_rec_call(t, c, TCP_REC_CALL_FASTOPEN, 0, c->syn_data, (uint32_t)bytes, 0, now);
    tcp_start_syn(t, c, now);
    tcp_conn_reap(t, c);
    return c->syn_data;
}

void tcp_set_write_pending(struct tcp *t, tcp_id id, bool on)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (c)
        c->write_pending = on;
}

void tcp_fastopen_put_option(struct tcp_conn *c, struct tcp_options *opt)
{
    struct tcp_fastopen_cookie *cookie = &c->fastopen_cookie;

    if (cookie->bytes < 0)
        return;
    opt->fastopen_ok = true;
    opt->fastopen_exp = cookie->exp;
    opt->fastopen_bytes = (uint8_t)cookie->bytes;
    memcpy(opt->fastopen_cookie, cookie->value, sizeof opt->fastopen_cookie);
    if (c->state == TCP_STATE_SYN_SENT) {
        c->syn_fastopen = true;
        c->syn_fastopen_exp = cookie->exp;
    }
    cookie->bytes = -1;
}

/* ---- active: the SYN-ACK ---- */

/* Bytes of a SYN or SYN-ACK, without an ACK of their own (tcp_fastopen_add_skb). */
static void add_data(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    uint32_t got = seg->len ? tcp_rcvq_append(&c->rcvq, t->pool, seg, 0, seg->len) : 0;
    bool fin = (seg->flags & TCP_FIN) && got == seg->len;

    if (!seg->len && !fin)
        return;
    c->rcv_nxt += got;
    c->bytes_received += got;
    t->counters.in_bytes += got;
    c->syn_data_acked = true;
    if (got) {
        c->last_data_recv_at = now;
        tcp_raise(t, c, TCP_EVENT_READABLE);
    }
    if (fin) {
        c->fin_received = true;
        c->rcv_nxt++;
        tcp_fin_in(t, c, now);
    }
}

/* syn_lost: the SYN left again, and the answer has neither a cookie nor acknowledges data. */
static void remember(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, bool data, uint64_t now)
{
    const struct tcp_options *o = &seg->opt;
    struct tcp_fastopen_cookie cookie = {.bytes = -1};
    uint16_t mss = c->mss_clamp == c->user_mss ? (uint16_t)(o->mss_ok ? o->mss : 0) : c->mss_clamp;
    bool syn_lost = false;
    unsigned try_exp = 0;

    if (o->fastopen_ok && c->syn_fastopen) { /* an unsolicited cookie is ignored */
        cookie.bytes = (int8_t)o->fastopen_bytes;
        cookie.exp = o->fastopen_exp;
        memcpy(cookie.value, o->fastopen_cookie, sizeof cookie.value);
    }
    if (c->syn_fastopen && c->total_syn_retrans)
        syn_lost = cookie.bytes < 0 && data;
    else if (c->syn_fastopen && cookie.bytes < 0 && !c->syn_data)
        try_exp = c->syn_fastopen_exp ? 2 : 1;
    tcp_metrics_set_fastopen(t, c, mss, &cookie, syn_lost, try_exp, now);
}

bool tcp_fastopen_synack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    bool data = c->syn_data && !tcp_sndq_empty(&c->sndq);

    if (!c->syn_fastopen && !c->syn_data)
        return false;
    remember(t, c, seg, data, now);
    if (data) {
        c->fastopen_client_fail =
            (uint8_t)(c->total_syn_retrans ? TFO_SYN_RETRANSMITTED : TFO_DATA_NOT_ACKED);
        for (uint32_t i = 0; i < c->sndq.count; i++)
            (void)tcp_sndq_mark_lost(&c->sndq, tcp_sndq_at(&c->sndq, i));
        tcp_non_congestion_loss(t, c);
        t->counters.fastopen_active_fail++;
        return true;
    }
    if (c->syn_data) {
        c->syn_data_acked = true;
        t->counters.fastopen_active++;
        /* SYN and data are two descriptors, but were one segment. */
        if (c->delivered > 1)
            c->delivered--;
    }
    add_data(t, c, seg, now);
    return false;
}

/* ---- active: black holes ---- */

void tcp_fastopen_timeout(struct tcp *t, struct tcp_conn *c, bool expired, uint64_t now)
{
    if (!c->syn_fastopen && !c->syn_data && !c->syn_data_acked)
        return;
    if (c->retransmits == 2 || (c->retransmits < 2 && expired)) {
        pause_all(t, now);
        t->counters.fastopen_blackhole++;
    }
}

void tcp_fastopen_ended(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (!c->syn_fastopen)
        return;
    if (!c->data_segs_in) {
        /* Nothing but a FIN behind a hole ever came: the data is eaten on the way. */
        if (c->fin_waits && c->rcvq.n_ranges <= 1)
            pause_all(t, now);
    } else if (c->syn_fastopen_ch) {
        t->fastopen_pauses = 0;
    }
}

/* ---- passive ---- */

/* Not more pending than the listener allows; those that a RST ended count a while, against forged SYNs. */
static bool queue_check(struct tcp *t, struct tcp_listener *l, uint64_t now)
{
    struct list_node *node = list_first(&l->fastopen_rst);

    if (!l->fastopen_max_qlen)
        return false;
    if (l->fastopen_qlen < l->fastopen_max_qlen)
        return true;
    if (!node || list_entry(node, struct tcp_fastopen_rst, link)->until > now) {
        t->counters.fastopen_listen_overflow++;
        return false;
    }
    list_del(node);
    free(list_entry(node, struct tcp_fastopen_rst, link));
    l->fastopen_qlen--;
    return true;
}

bool tcp_fastopen_try(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg, uint64_t now,
                      struct tcp_fastopen_cookie *ret)
{
    struct ip_tuple tuple = {seg->dst, seg->src, seg->dst_port, seg->src_port};
    const struct tcp_options *o = &seg->opt;
    unsigned key;

    *ret = (struct tcp_fastopen_cookie){.bytes = -1};
    if (o->fastopen_ok && !o->fastopen_bytes)
        t->counters.fastopen_cookie_reqd++;
    if (!(t->config->tcp_fastopen & TFO_SERVER_ENABLE) || (!seg->len && !o->fastopen_ok) ||
        !queue_check(t, l, now))
        return false;
    if ((t->config->tcp_fastopen & TFO_SERVER_COOKIE_NOT_REQD) || l->fastopen_no_cookie)
        return true;
    if (!o->fastopen_ok)
        return false;
    if (!o->fastopen_bytes) {
        tcp_fastopen_cookie_of(t, l, &tuple, ret);
        ret->exp = o->fastopen_exp;
        return false;
    }
    key = check_cookie(t, l, &tuple, o, ret);
    ret->exp = o->fastopen_exp;
    if (key == 0) {
        t->counters.fastopen_passive_fail++;
        return false;
    }
    if (key == 1)
        ret->bytes = -1;
    else
        t->counters.fastopen_passive_alt_key++; /* an old key's: the SYN-ACK has a new one */
    return true;
}

/* tcp_fastopen_create_child: what a completing ACK would tell is taken from the SYN. */
void tcp_fastopen_child(struct tcp *t, struct tcp_conn *c, struct tcp_listener *l, const struct tcp_seg *seg,
                        uint64_t now)
{
    c->fastopen_rsk = true;
    l->fastopen_qlen++;
    t->counters.fastopen_passive++;
    c->snd_una = c->snd_nxt = c->snd_sml = c->snd_up = c->high_seq = c->pushed_seq = c->iss + 1;
    tcp_sndq_init(&c->sndq, &t->descs, c->iss + 1);
    c->snd_wnd = c->max_window = seg->wnd; /* of a SYN: not scaled */
    c->snd_wl1 = seg->seq;
    c->retrans_stamp = 0;
    c->cwnd_usage_seq = c->snd_una;
    tcp_sync_mss(t, c, c->pmtu);
    tcp_init_transfer(t, c, now);
    tcp_rcv_established(t, c, now);
    c->segs_in = 1;
    c->data_segs_in = seg->len ? 1 : 0;
    add_data(t, c, seg, now);
    c->synack_ack = c->rcv_wup = c->last_ack_sent = c->rcv_nxt;
    c->syn_pending = true;
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, now + (uint32_t)t->config->tcp_rto_initial * NSEC_PER_MSEC);
    tcp_mark_ready(t, c);
}

/* The window that the SYN-ACK announced, seen from behind its data. */
static bool in_synack_window(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t start = c->synack_ack, end = start + c->rcv_wnd, seg_end = seg->seq + tcp_seg_seq_len(seg);

    if (seg->seq == start)
        return true;
    if (seq_gt(seg_end, start) && seq_lt(seg->seq, end))
        return true;
    return seg->seq == end && seg_end == seg->seq;
}

static bool is_old(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    return c->ts_ok && seg->opt.timestamps_ok && !(seg->flags & TCP_RST) &&
           (int32_t)(c->ts_recent - seg->opt.tsval) > 0;
}

static void refuse(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, bool paws, uint64_t now)
{
    tcp_drop(t, c, paws ? TCP_DROP_REQ_PAWS : TCP_DROP_REQ_OUT_OF_WINDOW);
    if (paws)
        t->counters.paws_estab++;
    if (!(seg->flags & TCP_RST) && tcp_invalid_ack_allowed(t, &c->invalid_ack_at, now))
        tcp_owe_fact(t, c, TCP_CAUSE_ACK_UNACCEPTABLE, NULL);
}

bool tcp_fastopen_check(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    unsigned flags = seg->flags & (TCP_RST | TCP_SYN | TCP_ACK);
    bool paws = is_old(c, seg);

    if (seg->seq == c->irs && flags == TCP_SYN && !paws) {
        tcp_drop(t, c, TCP_DROP_REQ_DUP_SYN);
        if (tcp_invalid_ack_allowed(t, &c->invalid_ack_at, now)) {
            c->syn_pending = true;
            tcp_mark_ready(t, c);
        }
        return false;
    }
    if (paws || !in_synack_window(c, seg)) {
        refuse(t, c, seg, paws, now);
        return false;
    }
    if (seg->seq == c->irs)
        flags &= ~(unsigned)TCP_SYN; /* cut off: it lies before the window */
    if (flags & TCP_RST) {
        t->counters.attempt_fails++;
        tcp_drop(t, c, TCP_DROP_REQ_RST);
        tcp_fastopen_release(t, c, true, now);
        tcp_reset_in(t, c, now);
        return false;
    }
    if (flags & TCP_SYN) {
        /* Not believed: anybody could end the connection with it. */
        t->counters.attempt_fails++;
        tcp_drop(t, c, TCP_DROP_BAD_FLAGS);
        tcp_reply_rst(t, seg, TCP_CAUSE_RST_BAD_ACK);
        return false;
    }
    if (!(flags & TCP_ACK))
        tcp_drop(t, c, TCP_DROP_BAD_FLAGS);
    return (flags & TCP_ACK) != 0;
}

void tcp_fastopen_established(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!c->fastopen_rsk)
        return;
    c->delivered++; /* the SYN-ACK, which has no descriptor */
    if (!c->rtt.srtt_us && !c->synack_retrans && c->synack_sent_at)
        tcp_synack_rtt(t, c, time_since(now, c->synack_sent_at) / NSEC_PER_USEC, now);
    tcp_fastopen_release(t, c, false, now);
    if (c->ca_state == TCP_CA_LOSS && !c->sndq.packets_out)
        tcp_undo_synack_loss(t, c, seg, now);
    c->retransmits = 0;
    tcp_rto_over(c, now);
    c->syn_pending = false;
    if (c->ca_state != TCP_CA_LOSS && c->ca_state != TCP_CA_RECOVERY)
        c->retrans_stamp = 0;
    tcp_rearm_rto(t, c, now);
}

void tcp_fastopen_synack_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    /* One more than a half-open entry: a program may have it already. */
    unsigned most = c->syn_retries ? c->syn_retries : (unsigned)t->config->tcp_synack_retries + 1;
    uint64_t ms = (uint32_t)t->config->tcp_rto_initial;

    if (c->synack_timeouts >= most) {
        tcp_write_error(t, c, now);
        return;
    }
    if (c->retransmits == 1)
        tcp_enter_loss(t, c, now);
    c->synack_timeouts++;
    tcp_rto_began(c, now);
    t->counters.timeouts++;
    if (!c->retrans_stamp)
        c->retrans_stamp = now;
    c->syn_pending = true;
    ms = time_min(ms << (c->synack_timeouts < 20 ? c->synack_timeouts : 20),
                  (uint32_t)t->config->tcp_rto_max);
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, now + ms * NSEC_PER_MSEC);
    tcp_mark_ready(t, c);
}

void tcp_fastopen_release(struct tcp *t, struct tcp_conn *c, bool reset, uint64_t now)
{
    struct tcp_listener *l = c->fastopen_rsk ? tcp_listener_by_number(t, c->listener) : NULL;
    struct tcp_fastopen_rst *rst;

    c->fastopen_rsk = false;
    if (!l)
        return;
    if (l->fastopen_qlen)
        l->fastopen_qlen--;
    /* One that nobody accepted yet still has its place in the accept queue. */
    if (!reset || c->in_accept_queue)
        return;
    rst = malloc(sizeof *rst);
    if (!rst)
        return;
    rst->until = now + RST_MEMORY_NS;
    list_init(&rst->link);
    list_add_tail(&l->fastopen_rst, &rst->link);
    l->fastopen_qlen++;
}

void tcp_fastopen_listener_closed(struct tcp_listener *l)
{
    struct list_node *node;

    while ((node = list_pop(&l->fastopen_rst)) != NULL)
        free(list_entry(node, struct tcp_fastopen_rst, link));
}
