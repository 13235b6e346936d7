/*
 * tcp/request.c: half-open entries: a SYN came for a listener, its SYN-ACK was or will be sent (RFC 9293
 * section 3.10.7.2, third step, and 3.10.7.4 for SYN-RECEIVED, as Linux's tcp_conn_request and
 * tcp_check_req).
 *
 * A SYN costs 128 bytes of one slab, never a connection block; that comes with the completing ACK. An entry
 * is in one of two lists: `due` (its SYN-ACK is to be made, tcp_req_next_synack()) or `waiting[timeouts]`
 * (made; the next time-out is due_at). All entries of one waiting list wait equally long, so it is in order
 * by due_at; the first ones tell the deadline.
 *
 *     count = entries in due and waiting = sum of the listeners' half_open <= max_half_open
 *
 * One of the three makers of struct tcp_out (SYN-ACKs).
 */
#include "tcp/tcp_priv.h"

#define LEVELS        8u   /* time-outs whose lists differ; later ones share the last, by due_at */
#define BACKLOG_FLOOR 128u /* half-open entries of a listener with a small backlog */

struct tcp_req {
    struct ip_tuple tuple;
    uint32_t listener;
    tcp_id id;
    struct list_node link; /* due, waiting[], or the free list */
    uint64_t due_at;       /* TIME_NEVER while its SYN-ACK is due */
    uint64_t sent_at;      /* first SYN-ACK, 0: not yet */
    uint64_t invalid_at;   /* last limited ACK or SYN-ACK */
    uint32_t irs, iss, ts_recent;
    uint16_t mss_clamp, advmss, mtu, rcv_wnd;
    uint8_t initcwnd, initrwnd;
    uint8_t timeouts, retrans; /* timer runs; SYN-ACKs sent again for whatever reason */
    uint8_t snd_wscale : 4, rcv_wscale : 4;
    bool ts_ok : 1, sack_ok : 1, wscale_ok : 1;
    bool acked : 1; /* its ACK came when the accept queue was full */
};

static_assert(sizeof(struct tcp_req) <= 128, "a SYN costs little");

struct tcp_requests {
    struct tcp_req *slab;
    uint32_t size, touched, count;
    struct list_node free;
    struct list_node due;
    struct list_node waiting[LEVELS];
};

/* ---- the slab ---- */

int tcp_requests_init(struct tcp *t)
{
    struct tcp_requests *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    t->requests = s;
    s->size = t->params.max_half_open;
    list_init(&s->free);
    list_init(&s->due);
    for (unsigned i = 0; i < LEVELS; i++)
        list_init(&s->waiting[i]);
    s->slab = calloc(s->size ? s->size : 1, sizeof *s->slab);
    return s->slab ? 0 : -ENOMEM;
}

void tcp_requests_destroy(struct tcp *t)
{
    if (!t->requests)
        return;
    free(t->requests->slab);
    free(t->requests);
    t->requests = NULL;
}

uint32_t tcp_req_count(const struct tcp *t)
{
    return t->requests->count;
}

static struct tcp_req *req_alloc(struct tcp *t)
{
    struct tcp_requests *s = t->requests;
    struct list_node *node = list_pop(&s->free);
    struct tcp_req *r;

    if (!node && s->touched == s->size)
        return NULL;
    r = node ? list_entry(node, struct tcp_req, link) : &s->slab[s->touched++];
    memset(r, 0, sizeof *r);
    list_init(&r->link);
    s->count++;
    return r;
}

/* The entry's memory only; its id lives on in a connection. */
static void req_release(struct tcp *t, struct tcp_req *r)
{
    struct tcp_listener *l = tcp_listener_by_number(t, r->listener);

    if (l && l->half_open)
        l->half_open--;
    list_del(&r->link);
    list_add_head(&t->requests->free, &r->link);
    t->requests->count--;
}

static void req_drop(struct tcp *t, struct tcp_req *r)
{
    tcp_table_leave(t, r->id);
    req_release(t, r);
}

/* ---- the SYN-ACK and its timer ---- */

static void synack_due(struct tcp *t, struct tcp_req *r)
{
    if (r->due_at == TIME_NEVER)
        return;
    r->due_at = TIME_NEVER;
    list_del(&r->link);
    list_add_tail(&t->requests->due, &r->link);
}

/* RFC 6298 section 5: rto_initial, doubled with each time-out. */
static void wait_for_ack(struct tcp *t, struct tcp_req *r, uint64_t now)
{
    struct list_node *list = &t->requests->waiting[r->timeouts < LEVELS ? r->timeouts : LEVELS - 1], *prev;
    uint64_t ms = (uint64_t)(uint32_t)t->config->tcp_rto_initial << (r->timeouts < 31 ? r->timeouts : 31);

    ms = time_min(ms, (uint32_t)t->config->tcp_rto_max);
    r->due_at = now + ms * NSEC_PER_MSEC;
    list_del(&r->link);
    prev = list->prev;
    while (prev != list && list_entry(prev, struct tcp_req, link)->due_at > r->due_at)
        prev = prev->prev;
    list_insert(&r->link, prev, prev->next);
}

static void synack_options(const struct tcp *t, const struct tcp_req *r, const struct tcp_listener *l,
                           uint64_t now, struct tcp_options *ret)
{
    ret->mss_ok = true;
    ret->mss = l && l->user_mss && l->user_mss < r->advmss ? l->user_mss : r->advmss;
    ret->wscale_ok = r->wscale_ok;
    ret->wscale = r->rcv_wscale;
    ret->sack_permitted = r->sack_ok;
    ret->timestamps_ok = r->ts_ok;
    if (r->ts_ok) {
        ret->tsval = tcp_ts_clock(now, tcp_ts_offset(t, &r->tuple));
        ret->tsecr = r->ts_recent;
    }
}

bool tcp_req_next_synack(struct tcp *t, uint64_t now, struct tcp_out *ret)
{
    struct list_node *node = list_first(&t->requests->due);
    struct tcp_req *r;

    if (!node)
        return false;
    r = list_entry(node, struct tcp_req, link);
    memset(ret, 0, sizeof *ret);
    ret->cause = r->sent_at ? TCP_CAUSE_SYNACK_RETRANS : TCP_CAUSE_SYNACK;
    ret->retransmission = r->sent_at != 0;
    ret->seg.src = r->tuple.local;
    ret->seg.dst = r->tuple.remote;
    ret->seg.src_port = r->tuple.local_port;
    ret->seg.dst_port = r->tuple.remote_port;
    ret->seg.seq = r->iss;
    ret->seg.ack = r->irs + 1;
    ret->seg.wnd = r->rcv_wnd;
    ret->seg.flags = TCP_SYN | TCP_ACK;
    synack_options(t, r, tcp_listener_by_number(t, r->listener), now, &ret->seg.opt);
    if (!r->sent_at)
        r->sent_at = now ? now : 1;
    else if (r->retrans < UINT8_MAX)
        r->retrans++;
    wait_for_ack(t, r, now);
    tcp_count_out(t, NULL, ret);
    return true;
}

static struct tcp_req *first_waiting(const struct tcp *t)
{
    struct tcp_req *first = NULL;

    for (unsigned i = 0; i < LEVELS; i++) {
        struct list_node *node = list_first(&t->requests->waiting[i]);
        struct tcp_req *r = node ? list_entry(node, struct tcp_req, link) : NULL;

        if (r && (!first || r->due_at < first->due_at))
            first = r;
    }
    return first;
}

uint64_t tcp_req_deadline(const struct tcp *t)
{
    const struct tcp_req *r = first_waiting(t);

    return r ? r->due_at : TIME_NEVER;
}

void tcp_req_expire(struct tcp *t, uint64_t now)
{
    struct tcp_req *r;

    while ((r = first_waiting(t)) && r->due_at <= now) {
        if (r->timeouts >= t->config->tcp_synack_retries) {
            t->counters.req_timeouts++;
            req_drop(t, r);
            continue;
        }
        r->timeouts++;
        synack_due(t, r);
    }
}

/* ---- LISTEN, third step: a SYN ---- */

/* The reason why this SYN cannot have an entry, or TCP_DROP_MAX. */
static enum tcp_drop syn_refused(struct tcp *t, const struct tcp_listener *l)
{
    uint32_t limit = l->backlog > BACKLOG_FLOOR ? l->backlog : BACKLOG_FLOOR;

    if (l->accept_queue > l->backlog) {
        t->counters.listen_overflows++;
        return TCP_DROP_LISTEN_BACKLOG;
    }
    if (limit > (uint32_t)t->config->tcp_max_syn_backlog)
        limit = (uint32_t)t->config->tcp_max_syn_backlog;
    if (l->half_open >= limit || t->requests->count >= t->requests->size)
        return TCP_DROP_SYN_QUEUE_FULL;
    return TCP_DROP_MAX;
}

/* What the peer offers and the configuration allows; our window. */
static void agree_options(const struct tcp *t, struct tcp_req *r, const struct tcp_listener *l,
                          const struct tcp_options *o)
{
    uint16_t mss = r->advmss;
    uint8_t wscale = 0;

    r->mss_clamp = o->mss_ok && o->mss ? o->mss : (uint16_t)TCP_MSS_DEFAULT;
    if (l->user_mss && l->user_mss < r->mss_clamp)
        r->mss_clamp = l->user_mss;
    r->ts_ok = o->timestamps_ok && t->config->tcp_timestamps;
    r->ts_recent = r->ts_ok ? o->tsval : 0;
    r->sack_ok = o->sack_permitted && t->config->tcp_sack;
    r->wscale_ok = o->wscale_ok && t->config->tcp_window_scaling;
    /* RFC 7323 section 2.3: more than 14 is taken as 14. */
    if (r->wscale_ok)
        r->snd_wscale = (o->wscale > TCP_MAX_WSCALE ? TCP_MAX_WSCALE : o->wscale) & 15u;
    if (l->user_mss && l->user_mss < mss)
        mss = l->user_mss;
    if (r->ts_ok && mss > TCP_OPT_TS_ALIGNED)
        mss = (uint16_t)(mss - TCP_OPT_TS_ALIGNED);
    tcp_rcv_initial_window(t, l->rcvbuf, mss, r->wscale_ok, &r->rcv_wnd, &wscale);
    if (r->initrwnd && (uint32_t)r->initrwnd * mss < r->rcv_wnd)
        r->rcv_wnd = (uint16_t)(r->initrwnd * mss);
    r->rcv_wscale = wscale & 15u;
}

/* MSS to announce: what fits the path back (RFC 9293 section 3.7.1). */
static void take_path(struct tcp_req *r, const struct tcp_path *path)
{
    uint16_t headers = r->tuple.local.family == IP_V6 ? 60 : 40;

    r->mtu = path && path->mtu ? path->mtu : (uint16_t)(TCP_MSS_DEFAULT + headers);
    r->advmss = r->mtu > headers + TCP_MIN_MSS ? (uint16_t)(r->mtu - headers) : (uint16_t)TCP_MIN_MSS;
    if (path && path->advmss && path->advmss < r->advmss)
        r->advmss = path->advmss;
    r->initcwnd = path ? path->initcwnd : 0;
    r->initrwnd = path ? path->initrwnd : 0;
}

void tcp_listen_syn(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg,
                    const struct tcp_path *path, uint64_t now)
{
    enum tcp_drop refused = syn_refused(t, l);
    struct tcp_req *r = refused == TCP_DROP_MAX ? req_alloc(t) : NULL;

    if (!r) {
        t->counters.listen_drops++;
        tcp_drop(t, NULL, refused == TCP_DROP_MAX ? TCP_DROP_NO_MEMORY : refused);
        return;
    }
    r->tuple = (struct ip_tuple){
        .local = seg->dst, .remote = seg->src, .local_port = seg->dst_port, .remote_port = seg->src_port};
    r->id = tcp_table_enter(t, TCP_KIND_REQ, r, &r->tuple);
    if (!r->id) {
        req_release(t, r);
        t->counters.listen_drops++;
        tcp_drop(t, NULL, TCP_DROP_CONN_LIMIT);
        return;
    }
    r->listener = l->number;
    l->half_open++;
    r->irs = seg->seq;
    if (!tcp_tw_take_iss(t, &r->tuple, &r->iss))
        r->iss = tcp_isn(t, &r->tuple, now);
    take_path(r, path);
    agree_options(t, r, l, &seg->opt);
    synack_due(t, r);
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
    if (tcp_invalid_ack_allowed(t, &r->invalid_at, now))
        synack_due(t, r);
}

/* Outside the window, or too old: told where we are (RFC 9293 section 3.10.7.4, first step). */
static void req_out_of_window(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, bool paws,
                              uint64_t now)
{
    struct tcp_reply_ack a = {
        .tuple = r->tuple, .seq = r->iss + 1, .ack = r->irs + 1, .cause = TCP_CAUSE_ACK_UNACCEPTABLE};

    tcp_drop(t, NULL, paws ? TCP_DROP_REQ_PAWS : TCP_DROP_REQ_OUT_OF_WINDOW);
    if (paws)
        t->counters.paws_estab++;
    if ((seg->flags & TCP_RST) || !tcp_invalid_ack_allowed(t, &r->invalid_at, now))
        return;
    a.wnd = (uint16_t)(r->rcv_wnd >> r->rcv_wscale);
    a.ts_ok = r->ts_ok;
    a.tsval = r->ts_ok ? tcp_ts_clock(now, tcp_ts_offset(t, &r->tuple)) : 0;
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
    c->tuple = r->tuple;
    c->id = r->id;
    c->listener = l->number;
    c->user = l->user;
    c->user_mss = l->user_mss;
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
    tcp_table_rebind(t, c->id, TCP_KIND_CONN, c);
}

static void conn_options(const struct tcp *t, struct tcp_conn *c, const struct tcp_req *r, uint64_t now)
{
    c->mss_clamp = r->mss_clamp;
    c->ts_ok = r->ts_ok;
    c->sack_ok = r->sack_ok;
    c->dsack_ok = r->sack_ok && t->config->tcp_dsack;
    c->wscale_ok = r->wscale_ok;
    c->snd_wscale = r->snd_wscale;
    c->ts_offset = tcp_ts_offset(t, &r->tuple);
    if (r->ts_ok) {
        c->ts_recent = r->ts_recent;
        c->ts_recent_at = now ? now : 1;
    }
}

/* Sequence numbers; the window is the one that the SYN-ACK announced. */
static void conn_numbers(struct tcp *t, struct tcp_conn *c, const struct tcp_req *r)
{
    c->irs = r->irs;
    c->rcv_nxt = c->copied_seq = c->last_ack_sent = r->irs + 1;
    tcp_rcv_init(t, c, r->advmss, r->wscale_ok);
    c->rcv_wnd = r->rcv_wnd;
    c->rcv_ssthresh = r->rcv_wnd;
    c->rcv_wscale = r->rcv_wscale;
    if (c->window_clamp > 65535u << c->rcv_wscale)
        c->window_clamp = 65535u << c->rcv_wscale;
    c->iss = r->iss;
    tcp_snd_init(t, c);
    c->snd_nxt = r->iss + 1;
    c->retrans_stamp = r->sent_at;
    c->total_syn_retrans = r->retrans;
}

/* The completing ACK: a connection in SYN-RECEIVED takes the entry's place and id and waits for accept. */
static struct tcp_conn *make_conn(struct tcp *t, struct tcp_req *r, struct tcp_listener *l, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_new(t, now);

    if (!c)
        return NULL;
    conn_identity(t, c, r, l);
    conn_options(t, c, r, now);
    conn_numbers(t, c, r);
    tcp_set_state(t, c, TCP_STATE_SYN_RECV, now);
    l->accept_queue++;
    c->in_accept_queue = true;
    list_add_tail(&l->unaccepted, &c->listener_link);
    t->counters.passive_opens++;
    req_release(t, r);
    tcp_raise(t, c, TCP_EVENT_ACCEPT);
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

static struct tcp_conn *complete(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, uint64_t now)
{
    struct tcp_listener *l = tcp_listener_by_number(t, r->listener);
    struct tcp_conn *c;

    if (!l) {
        embryonic_reset(t, r, seg, TCP_CAUSE_RST_LISTENER_CLOSED);
        return NULL;
    }
    if (l->accept_queue > l->backlog) {
        t->counters.listen_overflows++;
        overflow(t, r, seg, TCP_DROP_LISTEN_BACKLOG);
        return NULL;
    }
    c = make_conn(t, r, l, now);
    if (!c)
        overflow(t, r, seg, TCP_DROP_CONN_LIMIT);
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

/* ---- from elsewhere ---- */

static void drop_of_listener(struct tcp *t, struct list_node *list, uint32_t number)
{
    list_for_each_safe(node, list)
    {
        struct tcp_req *r = list_entry(node, struct tcp_req, link);

        if (r->listener == number)
            req_drop(t, r);
    }
}

void tcp_req_listener_closed(struct tcp *t, struct tcp_listener *l, uint64_t now)
{
    (void)now;
    drop_of_listener(t, &t->requests->due, l->number);
    for (unsigned i = 0; i < LEVELS; i++)
        drop_of_listener(t, &t->requests->waiting[i], l->number);
}

/* Linux tcp_req_err: an entry ends where the peer cannot be reached; RFC 5927 section 4: only in answer to
 * our SYN-ACK. */
void tcp_req_icmp(struct tcp *t, struct tcp_req *r, const struct tcp_icmp *icmp, uint64_t now)
{
    (void)now;
    if (icmp->seq != r->iss) {
        tcp_drop(t, NULL, TCP_DROP_ICMP_BAD_SEQ);
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
    bool wscale = r->wscale_ok;

    memset(ret, 0, sizeof *ret);
    ret->state = TCP_STATE_NEW_SYN_RECV;
    ret->retransmits = r->timeouts;
    ret->options = (uint8_t)((r->ts_ok ? TCP_INFO_OPT_TIMESTAMPS : 0) | (r->sack_ok ? TCP_INFO_OPT_SACK : 0) |
                             (wscale ? TCP_INFO_OPT_WSCALE : 0));
    ret->snd_wscale = r->snd_wscale;
    ret->rcv_wscale = r->rcv_wscale;
    ret->pmtu = r->mtu;
    ret->advmss = r->advmss;
    ret->snd_mss = r->mss_clamp;
    ret->total_retrans = r->retrans;
    ret->tuple = r->tuple;
    ret->user = l ? l->user : 0;
    ret->limit = TCP_LIMIT_HANDSHAKE;
    ret->iss = ret->snd_una = r->iss;
    ret->snd_nxt = ret->write_seq = r->iss + 1;
    ret->irs = r->irs;
    ret->rcv_nxt = ret->copied_seq = r->irs + 1;
    ret->rcv_wnd = r->rcv_wnd;
    ret->pacing_rate = ret->max_pacing_rate = UINT64_MAX;
    ret->age = r->sent_at ? time_since(now, r->sent_at) / NSEC_PER_USEC : 0;
    ret->timer_left = r->due_at == TIME_NEVER ? UINT64_MAX : time_since(r->due_at, now) / NSEC_PER_USEC;
}
