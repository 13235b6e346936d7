/*
 * tcp/request.c: half-open entries: a SYN came for a listener, its SYN-ACK was or will be sent (RFC 9293
 * section 3.10.7.2, third step, and 3.10.7.4 for SYN-RECEIVED, as Linux's tcp_conn_request and
 * tcp_check_req).
 *
 * A SYN costs 68 bytes of one slab (IPv6: 96; small.h) and its slot in the table, never a connection block; that comes
 * with the completing ACK. An entry is in one of two lists: DUE (its SYN-ACK is to be made, tcp_req_next_synack()) or
 * WAITING + timeouts (made; the next time-out is its due time). All entries of one waiting list wait equally long, so
 * it is in order by due time; the first ones tell the deadline.
 *
 *     count = entries in DUE and WAITING = sum of the listeners' half_open <= max_half_open
 *
 * One of the three makers of struct tcp_out (SYN-ACKs).
 */
#include "tcp/tcp_priv.h"

#define LEVELS       8u /* time-outs whose lists differ; later ones share the last, by due time */
#define COOKIE_VALID (120 * NSEC_PER_SEC) /* Linux TCP_SYNCOOKIE_VALID: ACKs are tried as cookies so long */
#define NO_WSCALE    15u /* as snd_wscale: not agreed */
#define LIMIT_MS     4u  /* unit of invalid_at */
#define RTO_MAX_MS   120000u /* the most that tcp_rto_max may be */

enum { GONE = SMALL_FIRST_LIST, DUE, WAITING }; /* WAITING + time-outs */
static_assert(WAITING + LEVELS <= SMALL_LISTS, "a list for each");

struct tcp_req {
    struct small_entry e; /* SMALL_DUE_NOW while its SYN-ACK is due */
    uint32_t listener;
    uint32_t irs, iss, ts_recent;
    uint32_t sent_us; /* first SYN-ACK, 0: not yet; sent_at() */
    uint16_t mss_clamp, advmss, mtu, rcv_wnd;
    uint16_t invalid_at; /* last limited ACK or SYN-ACK, in LIMIT_MS, 0: none */
    uint8_t initcwnd, initrwnd;
    uint8_t timeouts, retrans; /* timer runs; SYN-ACKs sent again for whatever reason */
    uint8_t snd_wscale : 4, rcv_wscale : 4;
    bool ts_ok : 1, sack_ok : 1, v6 : 1;
    bool acked : 1; /* its ACK came when the accept queue was full, or data is waited for */
    bool ecn_ok : 1, ect : 1; /* ECN was granted; the SYN-ACK is ECN-capable itself (DCTCP) */
    bool fastopen : 1, fastopen_exp : 1; /* its first SYN-ACK gives a cookie, by the experimental option */
};

static_assert(sizeof(struct tcp_req) == TCP_REQ_BYTES, "a SYN costs little; table.c finds the tuple behind it");

/* One that is in no slab: what a SYN cookie stands for. */
struct cookie_req {
    struct tcp_req r;
    union small_tuple tuple;
};

static_assert(offsetof(struct cookie_req, tuple) == sizeof(struct tcp_req), "as in the slab");

struct tcp_requests {
    struct small_slab slab; /* GONE: since the last commit, if it lies in an arena */
};

/* ---- the slab ---- */

int tcp_requests_init(struct tcp *t)
{
    struct tcp_requests *s = calloc(1, sizeof *s);
    struct tcp_kept *kept = t->params.kept;

    if (!s)
        return -ENOMEM;
    t->requests = s;
    return small_init(&s->slab, t->params.max_half_open, sizeof(struct tcp_req), t->params.request_arena,
                      kept ? &kept->requests_touched : NULL, kept ? &kept->requests6_touched : NULL);
}

size_t tcp_request_bytes(void)
{
    return 2 * sizeof(struct tcp_req) + SMALL_TUPLE4_BYTES + SMALL_TUPLE6_BYTES;
}

void tcp_requests_used(const struct tcp_kept *kept, uint32_t max, size_t ret_offset[2], size_t ret_bytes[2])
{
    uint32_t touched[2] = {kept->requests_touched, kept->requests6_touched};

    small_used(max, sizeof(struct tcp_req), touched, ret_offset, ret_bytes);
}

void tcp_requests_destroy(struct tcp *t)
{
    if (!t->requests)
        return;
    small_destroy(&t->requests->slab);
    free(t->requests);
    t->requests = NULL;
}

uint32_t tcp_req_count(const struct tcp *t)
{
    return t->requests->slab.count;
}

static struct ip_tuple tuple_of(const struct tcp_req *r)
{
    return small_tuple_get((const union small_tuple *)(r + 1), r->v6);
}

static tcp_id id_of(const struct tcp_req *r)
{
    return small_id(&r->e);
}

static bool wscale_ok(const struct tcp_req *r)
{
    return r->snd_wscale != NO_WSCALE;
}

uint16_t tcp_req_md5(const struct tcp *t, const struct tcp_req *r)
{
    const struct tcp_listener *l = tcp_listener_by_number(t, r->listener);
    struct ip_tuple tuple = tuple_of(r);

    return l ? tcp_md5_of_listener(l, &tuple.remote) : 0;
}

/* In us of 32 bits: more than an hour is only reached where tcp_synack_retries is far above what helps. */
static void set_sent_at(struct tcp_req *r, uint64_t now)
{
    uint32_t us = (uint32_t)(now / NSEC_PER_USEC);

    r->sent_us = us ? us : 1;
}

/* When its first SYN-ACK left, 0: not yet. */
static uint64_t sent_at(const struct tcp_req *r, uint64_t now)
{
    uint64_t us = now / NSEC_PER_USEC;
    uint32_t since = (uint32_t)us - r->sent_us;

    if (!r->sent_us)
        return 0;
    return since < us ? (us - since) * NSEC_PER_USEC : 1;
}

/* As tcp_invalid_ack_allowed(). */
static bool invalid_ack_allowed(const struct tcp *t, struct tcp_req *r, uint64_t now)
{
    uint16_t at = (uint16_t)(now / (LIMIT_MS * NSEC_PER_MSEC)), since = (uint16_t)(at - r->invalid_at);

    if (r->invalid_at && since * LIMIT_MS < (uint32_t)t->config->tcp_invalid_ratelimit)
        return false;
    r->invalid_at = at ? at : 1;
    return true;
}

/* The entry's memory only; its id lives on in a connection. What was published is so until the commit. */
static void req_release(struct tcp *t, struct tcp_req *r)
{
    struct tcp_listener *l = tcp_listener_by_number(t, r->listener);
    struct small_slab *s = &t->requests->slab;

    if (l && l->half_open)
        l->half_open--;
    if (l && l->young && !r->timeouts)
        l->young--;
    small_release(s, &r->e);
    if (s->own || r->e.due == SMALL_NOT_DUE)
        small_give(s, &r->e);
    else
        small_add_head(s, GONE, &r->e);
}

void tcp_requests_commit(struct tcp *t)
{
    struct small_entry *e;

    while ((e = small_first(&t->requests->slab, GONE)) != NULL)
        small_give(&t->requests->slab, e);
}

static void req_drop(struct tcp *t, struct tcp_req *r)
{
    tcp_table_leave(t, id_of(r));
    req_release(t, r);
}

/* ---- the SYN-ACK and its timer ---- */

/* The last step of making an entry, too: from here on a crash keeps it. */
static void synack_due(struct tcp *t, struct tcp_req *r)
{
    struct small_slab *s = &t->requests->slab;

    if (r->e.due == SMALL_DUE_NOW)
        return;
    small_del(s, &r->e);
    small_add_tail(s, DUE, &r->e);
    small_set_due(&r->e, SMALL_DUE_NOW);
}

static unsigned waiting_list(const struct tcp_req *r)
{
    return WAITING + (r->timeouts < LEVELS ? r->timeouts : LEVELS - 1);
}

/* RFC 6298 section 5: rto_initial, doubled with each time-out. */
static void wait_for_ack(struct tcp *t, struct tcp_req *r, uint64_t now)
{
    uint64_t ms = (uint64_t)(uint32_t)t->config->tcp_rto_initial << (r->timeouts < 31 ? r->timeouts : 31);
    struct small_slab *s = &t->requests->slab;

    ms = time_min(ms, (uint32_t)t->config->tcp_rto_max);
    s->near = now;
    small_del(s, &r->e);
    small_set_due(&r->e, small_due(now + ms * NSEC_PER_MSEC));
    small_add_by_due(s, waiting_list(r), &r->e);
}

static void synack_options(const struct tcp *t, const struct tcp_req *r, const struct tcp_listener *l,
                           uint64_t now, struct tcp_options *ret)
{
    struct ip_tuple tuple = tuple_of(r);

    ret->mss_ok = true;
    ret->mss = l && l->user_mss && l->user_mss < r->advmss ? l->user_mss : r->advmss;
    ret->wscale_ok = wscale_ok(r);
    ret->wscale = r->rcv_wscale;
    ret->sack_permitted = r->sack_ok;
    ret->timestamps_ok = r->ts_ok;
    if (r->ts_ok) {
        ret->tsval = tcp_ts_clock(now, tcp_ts_offset(t, &tuple));
        ret->tsecr = r->ts_recent;
    }
    if (r->fastopen && !r->sent_us && !tcp_req_md5(t, r)) {
        struct tcp_fastopen_cookie cookie;

        tcp_fastopen_cookie_of(t, l, &tuple, &cookie);
        ret->fastopen_ok = true;
        ret->fastopen_exp = r->fastopen_exp;
        ret->fastopen_bytes = (uint8_t)cookie.bytes;
        memcpy(ret->fastopen_cookie, cookie.value, sizeof ret->fastopen_cookie);
    }
}

bool tcp_req_next_synack(struct tcp *t, uint64_t now, struct tcp_out *ret)
{
    struct tcp_req *r = (struct tcp_req *)small_first(&t->requests->slab, DUE);
    struct ip_tuple tuple;

    if (!r)
        return false;
    tuple = tuple_of(r);
    memset(ret, 0, sizeof *ret);
    ret->cause = r->sent_us ? TCP_CAUSE_SYNACK_RETRANS : TCP_CAUSE_SYNACK;
    ret->retransmission = r->sent_us != 0;
    ret->seg.src = tuple.local;
    ret->seg.dst = tuple.remote;
    ret->seg.src_port = tuple.local_port;
    ret->seg.dst_port = tuple.remote_port;
    ret->seg.seq = r->iss;
    ret->seg.ack = r->irs + 1;
    ret->seg.wnd = r->rcv_wnd;
    ret->seg.flags = (uint16_t)(TCP_SYN | TCP_ACK | (r->ecn_ok ? TCP_ECE : 0));
    ret->seg.ecn = r->ect ? IP_ECN_ECT0 : IP_ECN_NOT_ECT;
    synack_options(t, r, tcp_listener_by_number(t, r->listener), now, &ret->seg.opt);
    tcp_md5_sign(t, tcp_req_md5(t, r), &ret->seg);
    if (!r->sent_us)
        set_sent_at(r, now);
    else if (r->retrans < UINT8_MAX)
        r->retrans++;
    wait_for_ack(t, r, now);
    tcp_count_out(t, NULL, ret, now);
    return true;
}

static struct tcp_req *first_waiting(const struct tcp *t)
{
    const struct small_slab *s = &t->requests->slab;
    struct small_entry *first = NULL;

    for (unsigned i = WAITING; i < WAITING + LEVELS; i++) {
        struct small_entry *e = small_first(s, i);

        if (e && (!first || small_left(e->due, s->near) < small_left(first->due, s->near)))
            first = e;
    }
    return (struct tcp_req *)first;
}

uint64_t tcp_req_deadline(const struct tcp *t)
{
    const struct tcp_req *r = first_waiting(t);

    return r ? small_due_at(&t->requests->slab, &r->e) : TIME_NEVER;
}

/*
 * Time-outs before an entry goes. A full queue of old entries makes room for young ones: the more of them,
 * the fewer (reqsk_timer_handler).
 */
static unsigned retries(const struct tcp *t, const struct tcp_listener *l)
{
    unsigned most = (unsigned)t->config->tcp_synack_retries;
    uint32_t young = l ? l->young * 2 : 0;

    if (!l || l->half_open * 2 <= (l->backlog > 8 ? l->backlog : 8))
        return most;
    for (; most > 2 && l->half_open >= young; young *= 2) {
        most--;
        if (!young)
            young = 1;
    }
    return most;
}

/*
 * A timer ran out: true: the entry goes, else *ret_again: its SYN-ACK too. While data is waited for behind an
 * ACK that came, it is quiet until the last time-out (syn_ack_recalc).
 */
static bool expires(const struct tcp *t, const struct tcp_req *r, bool *ret_again)
{
    const struct tcp_listener *l = tcp_listener_by_number(t, r->listener);
    unsigned defer = l ? l->defer_accept : 0;
    bool late = r->timeouts >= retries(t, l);

    *ret_again = !defer || !r->acked || r->timeouts + 1u >= defer;
    return late && (!defer || !r->acked || r->timeouts >= defer);
}

void tcp_req_expire(struct tcp *t, uint64_t now)
{
    struct tcp_req *r;

    t->requests->slab.near = now;
    while ((r = first_waiting(t)) && small_left(r->e.due, now) <= 0) {
        struct tcp_listener *l = tcp_listener_by_number(t, r->listener);
        bool again;

        if (expires(t, r, &again)) {
            t->counters.req_timeouts++;
            req_drop(t, r);
            continue;
        }
        if (!r->timeouts && l && l->young)
            l->young--;
        if (r->timeouts < UINT8_MAX)
            r->timeouts++;
        if (again)
            synack_due(t, r);
        else
            wait_for_ack(t, r, now);
    }
}

/* ---- LISTEN, third step: a SYN ---- */

/* inet_csk_reqsk_queue_is_full(), and our own bound over all listeners. */
static bool queue_is_full(const struct tcp *t, const struct tcp_listener *l)
{
    return l->half_open >= (l->backlog ? l->backlog : 1) || t->requests->slab.count >= t->requests->slab.size;
}

/*
 * The reason why this SYN can have neither entry nor cookie, or TCP_DROP_MAX. A pair that leaves TIME-WAIT
 * for it is real: it may exceed the queue.
 */
static enum tcp_drop syn_refused(struct tcp *t, const struct tcp_listener *l, bool reused, bool *ret_cookie)
{
    bool full = queue_is_full(t, l) && !(reused && t->requests->slab.count < t->requests->slab.size);

    *ret_cookie = t->config->tcp_syncookies == 2 || (full && t->config->tcp_syncookies);
    if (t->n_conns >= t->params.max_conns)
        return TCP_DROP_CONN_LIMIT; /* its ACK would be what is dropped, and the peer believe to be connected */
    if (full && *ret_cookie)
        t->counters.req_queue_full_cookies++;
    if (full && !*ret_cookie) {
        t->counters.req_queue_full_drop++;
        return TCP_DROP_SYN_QUEUE_FULL;
    }
    if (l->accept_queue > l->backlog) {
        t->counters.listen_overflows++;
        return TCP_DROP_LISTEN_BACKLOG;
    }
    return TCP_DROP_MAX;
}

/* Without cookies the last quarter of tcp_max_syn_backlog is for peers that are known to live. */
static bool last_quarter(const struct tcp *t, const struct tcp_listener *l)
{
    uint32_t most = (uint32_t)t->config->tcp_max_syn_backlog;

    return !t->config->tcp_syncookies && (l->half_open > most || most - l->half_open < most >> 2);
}

/* What the peer offers and the configuration allows; our window. */
static void agree_options(const struct tcp *t, struct tcp_req *r, const struct tcp_listener *l,
                          const struct ip_addr *peer, const struct tcp_options *o)
{
    bool scaled = o->wscale_ok && t->config->tcp_window_scaling;
    uint16_t mss = r->advmss;
    uint8_t wscale = 0;

    r->mss_clamp = o->mss_ok && o->mss ? o->mss : (uint16_t)TCP_MSS_DEFAULT;
    if (l->user_mss && l->user_mss < r->mss_clamp)
        r->mss_clamp = l->user_mss;
    r->ts_ok = o->timestamps_ok && t->config->tcp_timestamps;
    r->sack_ok = o->sack_permitted && t->config->tcp_sack;
    /* TCP-MD5 leaves no room for both timestamps and SACK blocks (tcp_synack_options). */
    if (r->sack_ok && tcp_md5_of_listener(l, peer))
        r->ts_ok = false;
    r->ts_recent = r->ts_ok ? o->tsval : 0;
    /* RFC 7323 section 2.3: more than 14 is taken as 14. */
    r->snd_wscale = (!scaled ? NO_WSCALE : o->wscale > TCP_MAX_WSCALE ? TCP_MAX_WSCALE : o->wscale) & 15u;
    if (l->user_mss && l->user_mss < mss)
        mss = l->user_mss;
    if (r->ts_ok && mss > TCP_OPT_TS_ALIGNED)
        mss = (uint16_t)(mss - TCP_OPT_TS_ALIGNED);
    tcp_rcv_initial_window(t, l->rcvbuf, mss, scaled, &r->rcv_wnd, &wscale);
    if (r->initrwnd && (uint32_t)r->initrwnd * mss < r->rcv_wnd)
        r->rcv_wnd = (uint16_t)(r->initrwnd * mss);
    r->rcv_wscale = wscale & 15u;
}

/* MSS to announce: what fits the path back (RFC 9293 section 3.7.1). */
static void take_path(struct tcp_req *r, const struct tcp_path *path)
{
    uint16_t headers = tcp_ip_headers_bytes(r->v6 ? IP_V6 : IP_V4);

    r->mtu = path && path->mtu ? path->mtu : (uint16_t)(TCP_MSS_DEFAULT + headers);
    r->advmss = r->mtu > headers + TCP_MIN_MSS ? (uint16_t)(r->mtu - headers) : (uint16_t)TCP_MIN_MSS;
    if (path && path->advmss && path->advmss < r->advmss)
        r->advmss = path->advmss;
    r->initcwnd = path ? path->initcwnd : 0;
    r->initrwnd = path ? path->initrwnd : 0;
}

/* ---- a segment for an entry (tcp_check_req) ---- */

static bool req_paws_reject(const struct tcp_req *r, const struct tcp_seg *seg)
{
    return r->ts_ok && seg->opt.timestamps_ok && !(seg->flags & TCP_RST) &&
           (int32_t)(r->ts_recent - seg->opt.tsval) > 0;
}

/* The SYN again: the SYN-ACK was lost, or is late. */
static void repeated_syn(struct tcp *t, struct tcp_req *r, uint64_t now)
{
    tcp_drop(t, NULL, TCP_DROP_REQ_DUP_SYN);
    if (invalid_ack_allowed(t, r, now))
        synack_due(t, r);
    else
        t->counters.skipped_syn_recv++;
}

/* Outside the window, or too old: told where we are (RFC 9293 section 3.10.7.4, first step). */
static void req_out_of_window(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, bool paws,
                              uint64_t now)
{
    struct tcp_reply_ack a = {
        .tuple = tuple_of(r), .seq = r->iss + 1, .ack = r->irs + 1, .cause = TCP_CAUSE_ACK_UNACCEPTABLE};

    tcp_drop(t, NULL, paws ? TCP_DROP_REQ_PAWS : TCP_DROP_REQ_OUT_OF_WINDOW);
    if (paws)
        t->counters.paws_estab++;
    if (seg->flags & TCP_RST)
        return;
    if (!invalid_ack_allowed(t, r, now)) {
        t->counters.skipped_syn_recv++;
        return;
    }
    a.wnd = (uint16_t)(r->rcv_wnd >> r->rcv_wscale);
    a.ts_ok = r->ts_ok;
    a.tsval = r->ts_ok ? tcp_ts_clock(now, tcp_ts_offset(t, &a.tuple)) : 0;
    a.tsecr = r->ts_recent;
    tcp_reply_ack(t, &a);
}

static bool in_window(const struct tcp_req *r, const struct tcp_seg *seg)
{
    uint32_t start = r->irs + 1, end = start + r->rcv_wnd, seg_end = seg->seq + tcp_seg_seq_len(seg);

    if (seg->seq == start)
        return true;
    if (seq_gt(seg_end, start) && seq_lt(seg->seq, end))
        return true;
    return seg->seq == end && seg_end == seg->seq;
}

/* It will be no connection. A SYN inside the window is answered with a RST; a RST isn't. */
static void embryonic_reset(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, enum tcp_cause cause)
{
    if (!(seg->flags & TCP_RST))
        tcp_reply_rst(t, seg, cause);
    t->counters.attempt_fails++;
    req_drop(t, r);
}

static void conn_identity(struct tcp *t, struct tcp_conn *c, const struct tcp_req *r, struct tcp_listener *l)
{
    c->tuple = tuple_of(r);
    c->id = id_of(r);
    c->listener = l->number;
    c->user = l->user;
    c->user_mss = l->user_mss;
    c->cc = l->cc ? cc_find(cc_name(l->cc - 1u)) : NULL;
    c->owned = true;
    c->path = (struct tcp_path){
        .mtu = r->mtu, .advmss = r->advmss, .initcwnd = r->initcwnd, .initrwnd = r->initrwnd};
    c->pmtu = r->mtu;
    c->advmss = r->advmss;
    if (l->user_mss && l->user_mss < c->advmss)
        c->advmss = l->user_mss;
    if (l->rcvbuf) {
        c->rcvq.rcvbuf = l->rcvbuf;
        c->rcvbuf_locked = true;
    }
    tcp_md5_inherit(t, c, l);
    tcp_table_rebind(t, c->id, TCP_KIND_CONN, c);
}

static void conn_options(const struct tcp *t, struct tcp_conn *c, const struct tcp_req *r, uint64_t now)
{
    c->mss_clamp = r->mss_clamp;
    c->ts_ok = r->ts_ok;
    c->sack_ok = r->sack_ok;
    c->dsack_ok = r->sack_ok && t->config->tcp_dsack;
    c->wscale_ok = wscale_ok(r);
    c->ecn_ok = r->ecn_ok;
    c->snd_wscale = wscale_ok(r) ? r->snd_wscale : 0;
    c->ts_offset = tcp_ts_offset(t, &c->tuple);
    if (r->ts_ok) {
        c->ts_recent = r->ts_recent;
        c->ts_recent_at = now ? now : 1;
    }
}

/* Sequence numbers; the window is the one that the SYN-ACK announced. */
static void conn_numbers(struct tcp *t, struct tcp_conn *c, const struct tcp_req *r, uint64_t now)
{
    c->irs = r->irs;
    c->rcv_nxt = c->copied_seq = c->last_ack_sent = r->irs + 1;
    tcp_rcv_init(t, c, r->advmss, wscale_ok(r));
    c->rcv_wnd = r->rcv_wnd;
    c->rcv_ssthresh = r->rcv_wnd;
    c->rcv_wscale = r->rcv_wscale;
    if (c->window_clamp > 65535u << c->rcv_wscale)
        c->window_clamp = 65535u << c->rcv_wscale;
    c->iss = r->iss;
    tcp_snd_init(t, c);
    c->snd_nxt = r->iss + 1;
    c->retrans_stamp = sent_at(r, now);
    c->total_syn_retrans = r->retrans;
    c->total_rto = r->timeouts;
    c->total_rto_recoveries = r->timeouts > 0;
    c->rto_at = r->timeouts ? c->retrans_stamp : 0;
}

/* A connection in SYN-RECEIVED takes the entry's id and waits for accept; the entry is as it was. */
static struct tcp_conn *conn_of(struct tcp *t, const struct tcp_req *r, struct tcp_listener *l, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_new(t, now);

    if (!c)
        return NULL;
    conn_identity(t, c, r, l);
    conn_options(t, c, r, now);
    conn_numbers(t, c, r, now);
    tcp_set_state(t, c, TCP_STATE_SYN_RECV, now);
    l->accept_queue++;
    c->in_accept_queue = true;
    list_add_tail(&l->unaccepted, &c->listener_link);
    t->counters.passive_opens++;
    tcp_raise(t, c, TCP_EVENT_ACCEPT);
    return c;
}

/* The completing ACK, or a Fast Open's SYN. */
static struct tcp_conn *make_conn(struct tcp *t, struct tcp_req *r, struct tcp_listener *l, uint64_t now)
{
    struct tcp_conn *c = conn_of(t, r, l, now);

    if (c)
        req_release(t, r);
    return c;
}

/* No room for it now: the peer believes to be connected; its next segment, or our SYN-ACK again, tries once
 * more. */
static void overflow(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, enum tcp_drop reason)
{
    t->counters.listen_drops++;
    tcp_drop(t, NULL, reason);
    if (t->config->tcp_abort_on_overflow) {
        embryonic_reset(t, r, seg, TCP_CAUSE_RST_OVERFLOW);
        return;
    }
    r->acked = true;
}

static enum tcp_drop no_conn(const struct tcp *t)
{
    return t->n_conns < t->params.max_conns ? TCP_DROP_NO_MEMORY : TCP_DROP_CONN_LIMIT;
}

static struct tcp_conn *complete(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, uint64_t now)
{
    struct tcp_listener *l = tcp_listener_by_number(t, r->listener);
    struct tcp_conn *c;

    if (!l) {
        embryonic_reset(t, r, seg, TCP_CAUSE_RST_LISTENER_CLOSED);
        return NULL;
    }
    /* TCP_DEFER_ACCEPT: without data there is nothing to accept yet. */
    if (r->timeouts < l->defer_accept && seg->seq + tcp_seg_seq_len(seg) == r->irs + 1) {
        r->acked = true;
        t->counters.defer_accept_drop++;
        tcp_drop(t, NULL, TCP_DROP_DEFER_ACCEPT);
        return NULL;
    }
    if (l->accept_queue > l->backlog) {
        t->counters.listen_overflows++;
        overflow(t, r, seg, TCP_DROP_LISTEN_BACKLOG);
        return NULL;
    }
    c = make_conn(t, r, l, now);
    if (!c)
        overflow(t, r, seg, no_conn(t));
    return c;
}

struct tcp_conn *tcp_req_input(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, uint64_t now)
{
    unsigned flags = seg->flags & (TCP_RST | TCP_SYN | TCP_ACK);
    bool paws = req_paws_reject(r, seg);

    if (seg->seq == r->irs && flags == TCP_SYN && !paws) {
        repeated_syn(t, r, now);
        return NULL;
    }
    /* Fifth step first, as Linux does: an ACK of anything but our SYN is an old connection's. */
    if ((flags & TCP_ACK) && seg->ack != r->iss + 1) {
        tcp_drop(t, NULL, TCP_DROP_REQ_BAD_ACK);
        tcp_reply_rst(t, seg, TCP_CAUSE_RST_BAD_ACK);
        return NULL;
    }
    /* First step: the sequence number. */
    if (paws || !in_window(r, seg)) {
        req_out_of_window(t, r, seg, paws, now);
        return NULL;
    }
    if (r->ts_ok && seg->opt.timestamps_ok && !seq_gt(seg->seq, r->irs + 1))
        r->ts_recent = seg->opt.tsval;
    if (seg->seq == r->irs)
        flags &= ~(unsigned)TCP_SYN; /* cut off: it lies before the window */
    /* Second and fourth step: RST, SYN. */
    if (flags & (TCP_RST | TCP_SYN)) {
        tcp_drop(t, NULL, flags & TCP_RST ? TCP_DROP_REQ_RST : TCP_DROP_BAD_FLAGS);
        embryonic_reset(t, r, seg, TCP_CAUSE_RST_BAD_ACK);
        return NULL;
    }
    if (!(flags & TCP_ACK)) {
        tcp_drop(t, NULL, TCP_DROP_BAD_FLAGS);
        return NULL;
    }
    return complete(t, r, seg, now);
}

/* ---- LISTEN: a SYN's answer ---- */

static bool refuse_syn(struct tcp *t, enum tcp_drop reason)
{
    t->counters.listen_drops++;
    tcp_drop(t, NULL, reason);
    return false;
}

static struct ip_tuple tuple_in(const struct tcp_seg *seg)
{
    return (struct ip_tuple){seg->dst, seg->src, seg->dst_port, seg->src_port};
}

/* What SYN, path and configuration say: an entry, or what an entry would hold. */
static void fill_req(const struct tcp *t, struct tcp_req *r, const struct tcp_listener *l,
                     const struct tcp_seg *seg, const struct tcp_path *path)
{
    struct ip_tuple tuple = tuple_in(seg);
    bool ect;

    r->v6 = small_family(&tuple);
    small_tuple_put((union small_tuple *)(r + 1), &tuple);
    r->listener = l->number;
    r->irs = seg->seq;
    take_path(r, path);
    agree_options(t, r, l, &seg->src, &seg->opt);
    r->ecn_ok = tcp_ecn_granted(t, l, seg, &ect);
    r->ect = ect;
}

/* A SYN-ACK that remembers everything itself. Without timestamps it holds the MSS only. */
static void answer_with_cookie(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg,
                               const struct tcp_path *path, uint64_t now)
{
    struct tcp_reply_synack a = {.tuple = tuple_in(seg)};
    struct cookie_req made;
    struct tcp_req *r = &made.r;
    struct tcp_seg plain;

    memset(&made, 0, sizeof made);
    memcpy(&plain, seg, offsetof(struct tcp_seg, slice));
    /* With TCP-MD5 it never has timestamps where the peer knows SACK. */
    if (!seg->opt.timestamps_ok || !t->config->tcp_timestamps ||
        (seg->opt.sack_permitted && tcp_md5_of_listener(l, &seg->src)))
        plain.opt.sack_permitted = plain.opt.wscale_ok = plain.opt.timestamps_ok = false;
    fill_req(t, r, l, &plain, path);
    a.seq = tcp_cookie_make(t, &a.tuple, r->irs, &r->mss_clamp, now);
    a.ack = r->irs + 1;
    a.wnd = r->rcv_wnd;
    a.mss = l->user_mss && l->user_mss < r->advmss ? l->user_mss : r->advmss;
    a.wscale_ok = wscale_ok(r);
    a.wscale = r->rcv_wscale;
    a.sack_ok = r->sack_ok;
    a.ts_ok = r->ts_ok;
    a.ecn_ok = r->ecn_ok && r->ts_ok; /* the timestamp remembers it */
    if (r->ts_ok)
        a.tsval = tcp_cookie_tsval(t, &a.tuple, a.wscale_ok, a.wscale_ok ? r->snd_wscale : 0, r->sack_ok, r->ecn_ok,
                                   now);
    a.tsecr = r->ts_recent;
    l->overflow_at = t->cookie_sent_at = now ? now : 1;
    t->counters.syncookies_sent++;
    tcp_reply_synack(t, &a);
}

/* An entry in the table; NULL: no room, counted. */
static struct tcp_req *new_entry(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg,
                                 const struct tcp_path *path)
{
    struct ip_tuple tuple = tuple_in(seg);
    struct tcp_req *r = (struct tcp_req *)small_alloc(&t->requests->slab, small_family(&tuple));

    if (!r) {
        refuse_syn(t, TCP_DROP_NO_MEMORY);
        return NULL;
    }
    fill_req(t, r, l, seg, path);
    small_set_id(&r->e, tcp_table_enter(t, TCP_KIND_REQ, r, &tuple));
    l->half_open++;
    l->young++;
    if (id_of(r))
        return r;
    req_release(t, r);
    refuse_syn(t, TCP_DROP_CONN_LIMIT);
    return NULL;
}

/* RFC 7413: a connection at once, if the SYN allows it; else its SYN-ACK may give a cookie. True: made. */
static bool try_fastopen(struct tcp *t, struct tcp_listener *l, struct tcp_req *r, const struct tcp_seg *seg,
                         uint64_t now)
{
    struct tcp_fastopen_cookie cookie;
    struct tcp_conn *c;

    if (tcp_md5_of_listener(l, &seg->src))
        return false; /* its option has no room beside the signature */
    if (tcp_fastopen_try(t, l, seg, now, &cookie)) {
        c = make_conn(t, r, l, now);
        if (c) {
            c->fastopen_cookie = cookie;
            tcp_fastopen_child(t, c, l, seg, now);
            tcp_conn_reap(t, c);
            return true;
        }
        t->counters.fastopen_passive_fail++;
    }
    r->fastopen = cookie.bytes > 0;
    r->fastopen_exp = cookie.exp;
    return false;
}

void tcp_listen_syn(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg,
                    const struct tcp_path *path, uint64_t now)
{
    struct ip_tuple tuple = tuple_in(seg);
    uint32_t iss = 0;
    bool cookie, reused = tcp_tw_take_iss(t, &tuple, &iss);
    enum tcp_drop refused = syn_refused(t, l, reused, &cookie);
    struct tcp_req *r;

    if (refused != TCP_DROP_MAX) {
        refuse_syn(t, refused);
        return;
    }
    if (cookie) {
        answer_with_cookie(t, l, seg, path, now);
        return;
    }
    if (!reused && last_quarter(t, l) && !tcp_metrics_proven(t, &tuple, now)) {
        refuse_syn(t, TCP_DROP_PEER_NOT_PROVEN);
        return;
    }
    r = new_entry(t, l, seg, path);
    if (!r)
        return;
    r->iss = reused ? iss : tcp_isn(t, &tuple, now);
    if (!try_fastopen(t, l, r, seg, now))
        synack_due(t, r);
}

/* ---- LISTEN: an ACK that may bring a cookie (cookie_v4_check) ---- */

bool tcp_wants_path(const struct tcp *t, uint64_t now)
{
    return t->cookie_sent_at && time_since(now, t->cookie_sent_at) < COOKIE_VALID;
}

/* The entry that was never kept; false: the timestamp isn't one of ours. */
static bool req_of_cookie(const struct tcp *t, struct cookie_req *ret, const struct tcp_listener *l,
                          const struct tcp_seg *seg, const struct tcp_path *path, uint16_t mss)
{
    struct ip_tuple tuple = tuple_in(seg);
    bool ts = seg->opt.timestamps_ok && seg->opt.tsecr, wscale_ok = false, sack_ok = false, ecn_ok = false;
    uint8_t snd_wscale = 0;
    struct tcp_seg syn;

    memset(ret, 0, sizeof *ret);
    memcpy(&syn, seg, offsetof(struct tcp_seg, slice));
    syn.seq--;
    syn.opt = (struct tcp_options){.mss_ok = true, .mss = mss, .timestamps_ok = ts, .tsval = seg->opt.tsval};
    if (ts && !tcp_cookie_options(t, &tuple, seg->opt.tsecr, &wscale_ok, &snd_wscale, &sack_ok, &ecn_ok))
        return false;
    syn.opt.wscale_ok = wscale_ok;
    syn.opt.wscale = snd_wscale;
    syn.opt.sack_permitted = sack_ok;
    fill_req(t, &ret->r, l, &syn, path);
    ret->r.ecn_ok = ecn_ok;
    ret->r.iss = seg->ack - 1;
    return true;
}

struct tcp_conn *tcp_listen_cookie(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg,
                                   const struct tcp_path *path, uint64_t now, bool *ret_mine)
{
    struct ip_tuple tuple = tuple_in(seg);
    struct cookie_req made; /* lives for this call only */
    struct tcp_conn *c;
    uint16_t mss;
    tcp_id id;

    *ret_mine = false;
    if (!t->config->tcp_syncookies || !l->overflow_at || time_since(now, l->overflow_at) >= COOKIE_VALID)
        return NULL;
    mss = tcp_cookie_check(t, &tuple, seg->seq - 1, seg->ack - 1, now);
    if (!mss || !req_of_cookie(t, &made, l, seg, path, mss)) {
        t->counters.syncookies_failed++;
        tcp_drop(t, NULL, TCP_DROP_SYN_COOKIE);
        return NULL;
    }
    t->counters.syncookies_recv++;
    *ret_mine = true;
    if (l->accept_queue > l->backlog) {
        t->counters.listen_overflows++;
        refuse_syn(t, TCP_DROP_LISTEN_BACKLOG);
        return NULL;
    }
    id = tcp_table_enter(t, TCP_KIND_REQ, &made.r, &tuple);
    small_set_id(&made.r.e, id);
    c = id ? conn_of(t, &made.r, l, now) : NULL;
    if (c)
        return c;
    if (id)
        tcp_table_leave(t, id);
    refuse_syn(t, no_conn(t));
    return NULL;
}

/* ---- from elsewhere ---- */

static void drop_of_listener(struct tcp *t, unsigned list, uint32_t number)
{
    struct small_slab *s = &t->requests->slab;
    struct small_entry *next;

    for (struct small_entry *e = small_first(s, list); e; e = next) {
        struct tcp_req *r = (struct tcp_req *)e;

        next = small_next(s, e);
        if (r->listener == number)
            req_drop(t, r);
    }
}

void tcp_req_listener_closed(struct tcp *t, struct tcp_listener *l, uint64_t now)
{
    (void)now;
    for (unsigned list = DUE; list < WAITING + LEVELS; list++)
        drop_of_listener(t, list, l->number);
}

/* Linux tcp_req_err: an entry ends where the peer cannot be reached; RFC 5927 section 4: only in answer to
 * our SYN-ACK. */
void tcp_req_icmp(struct tcp *t, struct tcp_req *r, const struct tcp_icmp *icmp, uint64_t now)
{
    (void)now;
    if (icmp->seq != r->iss) {
        tcp_drop(t, NULL, TCP_DROP_ICMP_BAD_SEQ);
        t->counters.out_of_window_icmps++;
        return;
    }
    t->counters.icmp_errors++;
    if (icmp->error != EHOSTUNREACH && icmp->error != ENETUNREACH && icmp->error != EPROTO)
        return;
    t->counters.listen_drops++;
    req_drop(t, r);
}

void tcp_req_info(const struct tcp *t, const struct tcp_req *r, uint64_t now, struct tcp_info *ret)
{
    const struct tcp_listener *l = tcp_listener_by_number(t, r->listener);
    bool due_now = r->e.due == SMALL_DUE_NOW;

    memset(ret, 0, sizeof *ret);
    ret->state = TCP_STATE_NEW_SYN_RECV;
    ret->retransmits = r->timeouts;
    ret->options = (uint8_t)((r->ts_ok ? TCP_INFO_OPT_TIMESTAMPS : 0) | (r->sack_ok ? TCP_INFO_OPT_SACK : 0) |
                             (wscale_ok(r) ? TCP_INFO_OPT_WSCALE : 0) | (r->ecn_ok ? TCP_INFO_OPT_ECN : 0));
    ret->snd_wscale = wscale_ok(r) ? r->snd_wscale : 0;
    ret->rcv_wscale = r->rcv_wscale;
    ret->pmtu = r->mtu;
    ret->advmss = r->advmss;
    ret->snd_mss = r->mss_clamp;
    ret->total_retrans = r->retrans;
    ret->tuple = tuple_of(r);
    ret->user = l ? l->user : 0;
    ret->limit = TCP_LIMIT_HANDSHAKE;
    ret->iss = ret->snd_una = r->iss;
    ret->snd_nxt = ret->write_seq = r->iss + 1;
    ret->irs = r->irs;
    ret->rcv_nxt = ret->copied_seq = r->irs + 1;
    ret->rcv_wnd = r->rcv_wnd;
    ret->pacing_rate = ret->max_pacing_rate = UINT64_MAX;
    ret->age = r->sent_us ? time_since(now, sent_at(r, now)) / NSEC_PER_USEC : 0;
    ret->timer_left = due_now ? UINT64_MAX : time_since(small_due_at(&t->requests->slab, &r->e), now) / NSEC_PER_USEC;
    ret->timer_expires = ret->timer_left;
    ret->timer = due_now ? TCP_INFO_TIMER_OFF : TCP_INFO_TIMER_ON;
}

const char *tcp_req_check(const struct tcp *t)
{
    return small_check(&t->requests->slab, DUE, 1 + LEVELS);
}

/* ---- after a crash ---- */

/* Its listener is made anew. */
static bool revive(struct tcp *t, struct tcp_req *r)
{
    struct ip_tuple tuple = tuple_of(r);
    struct tcp_listener *l = tcp_lookup_listener(t, &tuple.local, tuple.local_port);

    if (!l || !id_of(r) || r->v6 != small_is_v6(&t->requests->slab, &r->e) ||
        !tcp_table_place(t, id_of(r), TCP_KIND_REQ, r, &tuple, true))
        return false;
    r->listener = l->number;
    l->half_open++;
    l->young += !r->timeouts;
    small_add_tail(&t->requests->slab, r->e.due == SMALL_DUE_NOW ? DUE : waiting_list(r), &r->e);
    return true;
}

uint32_t tcp_requests_restore(struct tcp *t)
{
    struct small_slab *s = &t->requests->slab;
    uint32_t n;
    struct small_entry **found = small_restore(s, t->params.now, RTO_MAX_MS, &n);

    for (uint32_t i = 0; i < n; i++) {
        if (revive(t, (struct tcp_req *)found[i]))
            s->count++;
        else
            small_give(s, found[i]);
    }
    free(found);
    return s->count;
}
