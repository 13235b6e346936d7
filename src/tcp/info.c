/*
 * tcp/info.c: looking in. Reads, changes nothing. What the engine has no answer for is 0, or UINT64_MAX where
 * tcp_info.h says "none"; nothing is invented.
 */
#include "tcp/tcp_priv.h"

static uint32_t ms_since(uint64_t now, uint64_t at)
{
    return (uint32_t)(time_since(now, at) / NSEC_PER_MSEC);
}

static uint8_t info_options(const struct tcp_conn *c)
{
    unsigned bits = 0;

    bits |= c->ts_ok ? TCP_INFO_OPT_TIMESTAMPS : 0u;
    bits |= c->sack_ok ? TCP_INFO_OPT_SACK : 0u;
    bits |= c->wscale_ok ? TCP_INFO_OPT_WSCALE : 0u;
    bits |= c->ecn_ok ? TCP_INFO_OPT_ECN : 0u;
    bits |= c->ecn_seen ? TCP_INFO_OPT_ECN_SEEN : 0u;
    bits |= c->syn_data_acked ? TCP_INFO_OPT_SYN_DATA : 0u;
    return (uint8_t)bits;
}

static uint32_t not_sent(const struct tcp_conn *c)
{
    uint32_t next = c->snd_nxt == c->iss ? c->iss + 1 : c->snd_nxt;

    return seq_lt(next, c->write_seq) ? c->write_seq - next : 0;
}

static void fill_sending(const struct tcp *t, const struct tcp_conn *c, struct tcp_info *r)
{
    uint64_t rto_us = tcp_rtt_backed_off_us(&c->rtt, c->backoff, (uint32_t)t->config->tcp_rto_max * 1000u);

    r->ca_state = c->ca_state;
    r->retransmits = c->retransmits;
    r->probes = c->probes_out;
    r->backoff = c->backoff;
    r->rto = (uint32_t)rto_us;
    r->snd_mss = c->mss;
    r->unacked = c->sndq.packets_out;
    r->sacked = tcp_sacked_out(c);
    r->lost = c->sndq.lost_out;
    r->retrans = c->sndq.retrans_out;
    r->pmtu = c->pmtu;
    r->rtt = c->rtt.srtt_us >> 3;
    r->rttvar = c->rtt.mdev_us >> 2;
    r->min_rtt = c->rtt.min_rtt_us == UINT32_MAX ? 0 : c->rtt.min_rtt_us;
    r->snd_ssthresh = c->win.ssthresh;
    r->snd_cwnd = c->win.cwnd;
    r->reordering = c->reordering;
    r->total_retrans = c->total_retrans;
    r->pacing_rate = c->pacing_rate;
    r->max_pacing_rate = c->max_pacing_rate;
    r->bytes_acked = c->bytes_acked;
    r->segs_out = c->segs_out;
    r->data_segs_out = c->data_segs_out;
    r->notsent_bytes = not_sent(c);
    r->delivered = c->delivered;
    r->delivered_ce = c->delivered_ce;
    r->delivery_rate = tcp_delivery_rate(c);
    r->delivery_rate_app_limited = c->rate_app_limited;
    r->congestion = c->cc ? c->cc->name : NULL;
    r->bytes_sent = c->bytes_sent;
    r->bytes_retrans = c->bytes_retrans;
    r->dsack_dups = c->dsack_dups;
    r->reord_seen = c->reord_seen;
    r->total_rto = c->total_rto;
    r->total_rto_recoveries = c->total_rto_recoveries;
    r->snd_wnd = c->snd_wnd;
    r->snd_wscale = c->snd_wscale;
    r->sndbuf = c->sndbuf.limit;
    r->sndbuf_used = tcp_wmem_queued(c);
}

/* Each is part of the one before it (tcp_get_info_chrono_stats). */
static void fill_chrono(const struct tcp_conn *c, uint64_t now, struct tcp_info *r)
{
    uint64_t rwnd = tcp_chrono_ns(c, TCP_CHRONO_RWND_LIMITED, now);
    uint64_t sndbuf = tcp_chrono_ns(c, TCP_CHRONO_SNDBUF_LIMITED, now);

    r->rwnd_limited = rwnd / NSEC_PER_USEC;
    r->sndbuf_limited = sndbuf / NSEC_PER_USEC;
    r->busy_time = (tcp_chrono_ns(c, TCP_CHRONO_BUSY, now) + rwnd + sndbuf) / NSEC_PER_USEC;
}

static void fill_receiving(const struct tcp_conn *c, struct tcp_info *r)
{
    r->ato = c->ackowed.ato_ms * 1000;
    r->rcv_mss = c->rcv_mss;
    r->rcv_ssthresh = c->rcv_ssthresh;
    r->advmss = c->advmss;
    r->rcv_rtt = c->rcvq.rtt_us8 >> 3;
    r->rcv_space = c->rcvq.space;
    r->bytes_received = c->bytes_received;
    r->segs_in = c->segs_in;
    r->data_segs_in = c->data_segs_in;
    r->rcv_ooopack = c->rcv_ooopack;
    r->rcv_wnd = c->rcv_wnd;
    r->rcv_open = tcp_receive_window(c);
    r->rcv_wscale = c->rcv_wscale;
    r->unread_bytes = c->rcvq.bytes;
    r->ooo_bytes = c->rcvq.ooo_bytes;
    r->rcvbuf = c->rcvq.rcvbuf;
    r->rcvbuf_used = c->rcvq.truesize;
}

/* The first that runs, in the order in which inet_sk_diag_fill() asks. */
static void fill_timer(const struct tcp_conn *c, uint64_t now, struct tcp_info *r)
{
    static const struct {
        uint8_t timer, name;
    } order[] = {{TCP_TIMER_RETRANS, TCP_INFO_TIMER_ON},
                 {TCP_TIMER_PROBE0, TCP_INFO_TIMER_PERSIST},
                 {TCP_TIMER_KEEPALIVE, TCP_INFO_TIMER_KEEPALIVE},
                 {TCP_TIMER_LINGER, TCP_INFO_TIMER_KEEPALIVE}};

    r->timer = TCP_INFO_TIMER_OFF;
    r->timer_expires = UINT64_MAX;
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        uint64_t at = c->timer_at[order[i].timer];

        if (at == TIME_NEVER)
            continue;
        r->timer = order[i].name;
        r->timer_expires = time_since(at, now) / NSEC_PER_USEC;
        return;
    }
}

static void fill_own(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct tcp_info *r)
{
    uint64_t at = TIME_NEVER;

    for (unsigned i = 0; i < TCP_TIMER_MAX; i++)
        at = time_min(at, c->timer_at[i]);
    r->timer_left = at == TIME_NEVER ? UINT64_MAX : time_since(at, now) / NSEC_PER_USEC;
    r->tuple = c->tuple;
    r->user = c->user;
    r->error = c->error_final;
    r->peer_closed = c->fin_received;
    r->shut_write = (c->shutdown & TCP_SHUT_WR) != 0;
    r->accepted = c->owned && !c->in_accept_queue;
    r->limit = (uint8_t)tcp_send_limit(t, c, now);
    r->orphan = !c->owned;
    r->iss = c->iss;
    r->irs = c->irs;
    r->snd_una = c->snd_una;
    r->snd_nxt = c->snd_nxt;
    r->write_seq = c->write_seq;
    r->rcv_nxt = c->rcv_nxt;
    r->copied_seq = c->copied_seq;
    r->age = time_since(now, c->created_at) / NSEC_PER_USEC;
    for (unsigned i = 0; i < TCP_CAUSE_MAX; i++)
        r->causes[i] = c->causes[i];
    for (unsigned i = 0; i < TCP_DROP_MAX; i++)
        r->drops[i] = c->drops[i];
}

int tcp_get_info(const struct tcp *t, tcp_id id, uint64_t now, struct tcp_info *ret)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    const void *entry = tcp_lookup_id(t, id, &kind);
    const struct tcp_conn *c = entry;

    if (!entry)
        return -ENOENT;
    memset(ret, 0, sizeof *ret);
    if (kind == TCP_KIND_REQ) {
        tcp_req_info(t, entry, now, ret);
        return 0;
    }
    if (kind == TCP_KIND_TW) {
        tcp_tw_info(t, entry, now, ret);
        return 0;
    }
    if (kind == TCP_KIND_PARKED && !(c = tcp_view(t, entry)))
        return -EIO;
    ret->state = c->state;
    ret->options = info_options(c);
    ret->fastopen_client_fail = c->fastopen_client_fail;
    ret->last_data_sent = ms_since(now, c->lsndtime ? c->lsndtime : c->created_at);
    ret->last_data_recv = ms_since(now, c->last_data_recv_at);
    ret->last_ack_recv = ms_since(now, c->rcv_tstamp);
    ret->total_rto_time = c->total_rto_time_ms + (c->rto_at ? ms_since(now, c->rto_at) : 0);
    fill_sending(t, c, ret);
    fill_chrono(c, now, ret);
    fill_receiving(c, ret);
    fill_own(t, c, now, ret);
    fill_timer(c, now, ret);
    return 0;
}

int tcp_get_brief(const struct tcp *t, tcp_id id, uint64_t now, struct tcp_brief *ret)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    const void *entry = tcp_lookup_id(t, id, &kind);
    const struct tcp_conn *c = entry;

    if (!entry)
        return -ENOENT;
    if (kind == TCP_KIND_PARKED && !(c = tcp_view(t, entry)))
        return -EIO;
    if (kind == TCP_KIND_CONN || kind == TCP_KIND_PARKED) {
        uint64_t at = c->lsndtime ? c->lsndtime : c->created_at;

        at = at > c->last_data_recv_at ? at : c->last_data_recv_at;
        at = at > c->rcv_tstamp ? at : c->rcv_tstamp;
        *ret = (struct tcp_brief){(enum tcp_state)c->state, c->tuple, ms_since(now, at)};
    } else { /* they are small anyway */
        struct tcp_info info;

        tcp_get_info(t, id, now, &info);
        *ret = (struct tcp_brief){(enum tcp_state)info.state, info.tuple, UINT32_MAX};
    }
    return 0;
}

tcp_id tcp_next_id(const struct tcp *t, tcp_id after)
{
    uint32_t slot = after ? ((uint32_t)after & 0xffffffu) + 1 : 0;

    for (; slot < tcp_table_slots(t); slot++) {
        enum tcp_kind kind;
        tcp_id id;

        if (tcp_table_at(t, slot, &kind, &id))
            return id;
    }
    return 0;
}

void tcp_get_totals(const struct tcp *t, struct tcp_totals *ret)
{
    *ret = (struct tcp_totals){
        .conns = t->n_conns,
        .established = t->n_established,
        .half_open = tcp_req_count(t),
        .time_wait = tcp_tw_count(t),
        .orphans = t->orphans,
        .listeners = t->n_listeners,
        .ready = t->n_ready,
        .parked = t->n_parked,
    };
}

const struct tcp_counters *tcp_get_counters(const struct tcp *t)
{
    return &t->counters;
}

const uint64_t *tcp_get_drops(const struct tcp *t)
{
    return t->drops;
}

const uint64_t *tcp_get_causes(const struct tcp *t)
{
    return t->causes;
}
