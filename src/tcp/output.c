/*
 * tcp/output.c: the one maker of a connection's segments. Each call of tcp_output() makes one, of the first
 * kind that is owed:
 *
 *     RST, SYN (or the SYN-ACK of a simultaneous open), ACKs that are facts (each its own segment),
 *     retransmissions, a tail loss probe, new data (a path-MTU probe first), window probes, the plain ACK if no
 *     data carried it
 *
 * What new data may go out now, and if none, why, is one predicate, plan_data(); tcp_may_send(),
 * tcp_send_limit() and the maker all ask it, so they can't disagree. Where time alone will change its answer
 * a timer runs (PACING, PROBE0, RETRANS), so after tcp_output() has returned false tcp_may_send() is false:
 * no busy loop. Called by the stack; the rest of the engine only marks.
 */
#include "tcp/recovery.h"

#define PACING_CREDIT_NS NSEC_PER_MSEC /* unused release time that may be made up for */
#define PACING_FREE_SEGS 10u
#define GSO_BYTES_MAX    65400u        /* with the largest headers below 64 KiB */
#define TSO_DEFER_NS     NSEC_PER_MSEC /* a writer silent for so long is not waited for */

/* What to send next: bytes of one cell of the write queue, a FIN. */
struct plan {
    uint32_t len;
    uint32_t mss;
    bool fin, psh;
    bool mtu_probe;              /* larger than mss, perhaps of several cells */
    bool waits_cwnd, waits_rwnd; /* TCP_LIMIT_TSO_DEFER: which of them holds back more than this cell */
};

/* Where sending stands, or would stand after some plans were carried out. */
struct place {
    uint32_t nxt;     /* next sequence number to send */
    uint32_t cell;    /* of the write queue, that holds it */
    uint32_t flying;  /* tcp_in_flight() */
    uint64_t sent_at; /* last data sent */
    bool ahead;       /* it is a later place than now */
};

/* ---- predicates -------------------------------------------------------------------------------------- */

uint32_t tcp_unsent_bytes(const struct tcp_conn *c)
{
    /* Before the SYN has left, snd_nxt is its place. */
    uint32_t from = c->snd_nxt + (tcp_handshaking(c) && c->snd_nxt == c->iss ? 1u : 0u);

    return seq_lt(from, c->write_seq) ? c->write_seq - from : 0;
}

bool tcp_fin_unsent(const struct tcp_conn *c)
{
    return c->fin_queued && seq_leq(c->snd_nxt, c->write_seq);
}

static bool may_send_data(const struct tcp_conn *c)
{
    switch (c->state) {
    case TCP_STATE_SYN_RECV:
        return c->fastopen_rsk; /* tcp_passive_fastopen */
    case TCP_STATE_ESTABLISHED:
    case TCP_STATE_CLOSE_WAIT:
    case TCP_STATE_FIN_WAIT1:
    case TCP_STATE_CLOSING:
    case TCP_STATE_LAST_ACK:
        return true;
    default:
        return false;
    }
}

/* SACK blocks that an ACK made now would carry, at most `max`. */
static unsigned sack_blocks(const struct tcp_conn *c, struct tcp_options *opt, unsigned max)
{
    opt->sack_count = 0;
    if (c->sack_ok && max > 0)
        tcp_sack_blocks(c, opt, max);
    return opt->sack_count;
}

static unsigned sack_blocks_max(const struct tcp_conn *c)
{
    return (TCP_OPTIONS_MAX - 4 - tcp_mss_options(c)) / 8;
}

uint32_t tcp_current_mss(const struct tcp_conn *c)
{
    struct tcp_options opt;
    uint32_t n, mss = c->mss;

    if (c->rcvq.n_ranges == 0)
        return mss;
    n = sack_blocks(c, &opt, sack_blocks_max(c));
    return n > 0 && mss > 4 + 8 * n + 8 ? mss - (4 + 8 * n) : mss;
}

static uint64_t pacing_rate(const struct tcp_conn *c)
{
    return c->pacing_rate < c->max_pacing_rate ? c->pacing_rate : c->max_pacing_rate;
}

static bool pacing_closed(const struct tcp_conn *c, uint64_t now)
{
    return c->pacing_needed && pacing_rate(c) != UINT64_MAX && c->pacing_next_at > now;
}

/*
 * Segments of one super-frame (tcp_tso_autosize): a millisecond's worth at the pacing rate, more the shorter
 * the path is, at most what the device takes.
 */
static uint32_t max_segs(const struct tcp *t, const struct tcp_conn *c, uint32_t mss)
{
    uint32_t gso = t->gso_max_bytes < GSO_BYTES_MAX ? t->gso_max_bytes : GSO_BYTES_MAX, device = gso / mss;
    uint32_t near = c->rtt.min_rtt_us >> t->config->tcp_tso_rtt_log;
    uint64_t segs, bytes = pacing_rate(c) >> 10;
    uint32_t least = c->cc->min_tso_segs ? c->cc->min_tso_segs(c->cc_state, &c->win)
                                         : (uint32_t)t->config->tcp_min_tso_segs;

    if (c->md5_key[0] || device < 2)
        return 1; /* each segment has a signature of its own; or the device takes no super-frames */
    if (near < 32 && bytes < gso)
        bytes += gso >> near;
    segs = bytes / mss;

    if (segs < least)
        segs = least;
    if (segs > device)
        segs = device;
    if (segs > TCP_TSO_MAX_SEGS)
        segs = TCP_TSO_MAX_SEGS;
    return segs > 1 ? (uint32_t)segs : 1;
}

/*
 * RFC 9293 section 3.7.4 with Minshall's change: small segments wait only for small ones (tcp_nagle_check).
 */
static bool nagle_holds(const struct tcp_conn *c, const struct place *at, bool small)
{
    if (!small || c->nagle_push || c->frto_new)
        return false;
    if (c->cork || c->send_more)
        return true;
    return !c->nodelay && c->sndq.packets_out > 0 && seq_gt(c->snd_sml, c->snd_una) &&
           seq_leq(c->snd_sml, at->nxt);
}

static bool is_deferred(const struct tcp_conn *c)
{
    return c->tso_deferred && c->tso_deferred_end == c->write_seq && !c->fin_queued;
}

static uint32_t first_cell_bytes(const struct tcp_conn *c)
{
    return c->writeq.count ? tcp_writeq_at(&c->writeq, 0)->end - c->writeq.start : 0;
}

static struct place place_now(const struct tcp_conn *c)
{
    return (struct place){.nxt = c->writeq.start, .flying = tcp_in_flight(c), .sent_at = c->lsndtime};
}

/* Is the next ACK more than half an RTT away? (where a round trip takes no time at all: yes, as ever in
 * reality) */
static bool ack_is_far(const struct tcp_conn *c, const struct place *at, uint64_t now)
{
    uint64_t head_sent_at = tcp_sndq_empty(&c->sndq) ? at->sent_at : tcp_sndq_at(&c->sndq, 0)->sent_at;

    return time_since(now, head_sent_at) <= (c->rtt.srtt_us >> 4) * NSEC_PER_USEC;
}

/*
 * Is it better to wait for an ACK that lets a larger super-frame out (tcp_tso_should_defer)? Only while the
 * program is writing, and the ACK is likely to come soon.
 */
static bool should_defer(const struct tcp *t, const struct tcp_conn *c, const struct place *at,
                         struct plan *p, uint64_t now)
{
    uint32_t segs = max_segs(t, c, p->mss);
    uint64_t send_win = tcp_wnd_end(c) - at->nxt, cong_win = (uint64_t)(c->win.cwnd - at->flying) * p->mss;
    uint64_t limit = send_win < cong_win ? send_win : cong_win, chunk = (uint64_t)c->win.cwnd * p->mss;

    if (c->ca_state >= TCP_CA_RECOVERY || time_since(now, at->sent_at) >= TSO_DEFER_NS)
        return false;
    if (limit >= (uint64_t)segs * p->mss)
        return false;
    if (t->config->tcp_tso_win_divisor) {
        chunk = chunk < c->snd_wnd ? chunk : c->snd_wnd;
        if (limit >= chunk / (uint32_t)t->config->tcp_tso_win_divisor)
            return false;
    } else if (limit > 3 * (uint64_t)p->mss) {
        return false;
    }
    if ((tcp_sndq_empty(&c->sndq) && !at->ahead) || ack_is_far(c, at, now))
        return false;
    p->waits_cwnd = cong_win < send_win && cong_win <= p->len;
    p->waits_rwnd = cong_win >= send_win && send_win <= p->len;
    if (p->waits_cwnd || p->waits_rwnd)
        return true;
    /* What gets no more data need not wait. */
    return !p->fin && !(tcp_writeq_at(&c->writeq, at->cell)->flags & TCP_CELL_EOR);
}

/*
 * Bytes of the cell within window and quota; a small tail of the last cell only if Nagle lets it
 * (tcp_mss_split_point).
 */
static uint32_t split_point(const struct tcp_conn *c, const struct place *at, const struct plan *p,
                            uint32_t segs)
{
    uint32_t window = tcp_wnd_end(c) - at->nxt, needed = p->len < window ? p->len : window, partial;
    bool last = at->cell + 1 == c->writeq.count;

    if (needed >= segs * p->mss)
        return segs * p->mss;
    if (!last && segs * p->mss <= window)
        return needed;
    partial = needed % p->mss;
    return nagle_holds(c, at, partial != 0) ? needed - partial : needed;
}

/* Room that cwnd leaves, in segments; half of it at a time, for a smoother flow (tcp_cwnd_test). */
static uint32_t cwnd_quota(const struct tcp_conn *c, const struct place *at)
{
    uint32_t half = c->win.cwnd / 2 > 1 ? c->win.cwnd / 2 : 1, room;

    if (at->flying >= c->win.cwnd)
        return 0;
    room = c->win.cwnd - at->flying;
    return room < half ? room : half;
}

/* Why nothing may be sent whatever there is; READY: nothing stands against it. */
static enum tcp_limit gate(const struct tcp_conn *c, uint64_t now)
{
    if (c->state == TCP_STATE_ESTABLISHED && !(c->suspended | c->tx_refused | c->pacing_needed))
        return TCP_LIMIT_READY; /* as below, for nearly all */
    if (c->state == TCP_STATE_CLOSE)
        return TCP_LIMIT_CLOSED;
    if (c->suspended)
        return TCP_LIMIT_NEIGHBOUR;
    if (tcp_handshaking(c))
        return TCP_LIMIT_HANDSHAKE;
    if (!may_send_data(c))
        return TCP_LIMIT_NOTHING;
    if (c->tx_refused)
        return TCP_LIMIT_DEVICE;
    return pacing_closed(c, now) ? TCP_LIMIT_PACING : TCP_LIMIT_READY;
}

/* A single segment: window, and Nagle where it is the last for now. */
static enum tcp_limit plan_single(const struct tcp_conn *c, const struct place *at, struct plan *p)
{
    uint32_t end = at->nxt + p->len;

    /*
     * Sender's silly-window avoidance: whole or not at all, the probe timer breaks a stalemate. A FIN may
     * follow.
     */
    if (seq_gt(end + (p->fin ? 1u : 0u), tcp_wnd_end(c))) {
        if (p->len == 0 || seq_gt(end, tcp_wnd_end(c)))
            return TCP_LIMIT_RWND;
        p->fin = false;
    }
    if (!p->fin && !c->urg_mode && end == c->write_seq && nagle_holds(c, at, p->len < p->mss))
        return c->cork || c->send_more ? TCP_LIMIT_CORK : TCP_LIMIT_NAGLE;
    return TCP_LIMIT_READY;
}

/* Does a path-MTU probe come first? True: *ret_limit says if it goes or waits (the head of tcp_write_xmit). */
static bool plan_probe(const struct tcp *t, const struct tcp_conn *c, const struct place *at, struct plan *p,
                       enum tcp_limit *ret_limit)
{
    uint32_t bytes = 0;
    enum tcp_mtup_verdict verdict = c->mtup.enabled && !at->ahead ? tcp_mtup_plan(t, c, &bytes) : TCP_MTUP_NO;

    if (verdict == TCP_MTUP_NO)
        return false;
    *p = (struct plan){.mss = bytes, .len = bytes, .mtu_probe = true};
    *ret_limit = verdict == TCP_MTUP_SEND ? TCP_LIMIT_READY : TCP_LIMIT_MTU_PROBE;
    return true;
}

/*
 * What plan_any() finds for nearly every segment of a transfer, by fewer questions: the cell is one segment, others wait
 * behind it, and cwnd and window have room. False: ask on.
 */
static inline bool plan_cell(const struct tcp_conn *c, uint32_t cell, uint32_t nxt, uint32_t flying, uint64_t now,
                             struct plan *p)
{
    uint32_t end;

    if (cell + 1 >= c->writeq.count || c->rcvq.n_ranges || c->mtup.enabled || flying >= c->win.cwnd)
        return false;
    end = tcp_writeq_at(&c->writeq, cell)->end;
    if (end - nxt > c->mss || seq_gt(end, tcp_wnd_end(c)) || gate(c, now) != TCP_LIMIT_READY)
        return false;
    *p = (struct plan){.len = end - nxt, .mss = c->mss};
    return true;
}

/* The loop body of tcp_write_xmit: what new data goes next from there, or what it waits for. */
static enum tcp_limit plan_any(const struct tcp *t, const struct tcp_conn *c, const struct place *at,
                               uint64_t now, struct plan *p)
{
    uint32_t unsent = c->write_seq - at->nxt, quota, segs, end;
    bool fin = tcp_fin_unsent(c);
    enum tcp_limit limit;

    if (unsent == 0 && !fin)
        return c->state == TCP_STATE_CLOSE ? TCP_LIMIT_CLOSED : TCP_LIMIT_NOTHING;
    limit = gate(c, now);
    if (limit != TCP_LIMIT_READY)
        return limit;
    if (plan_probe(t, c, at, p, &limit))
        return limit;
    end = unsent ? tcp_writeq_at(&c->writeq, at->cell)->end : at->nxt;
    *p = (struct plan){.mss = tcp_current_mss(c), .len = end - at->nxt, .fin = fin && end == c->write_seq};
    quota = cwnd_quota(c, at);
    if (p->len <= p->mss) {
        if (quota == 0 && !p->fin) /* the final FIN need not wait for cwnd */
            return TCP_LIMIT_CWND;
        limit = plan_single(c, at, p);
        return limit == TCP_LIMIT_READY && quota == 0 && !p->fin ? TCP_LIMIT_CWND : limit; /* the window cut the FIN off */
    }
    if (quota == 0)
        return TCP_LIMIT_CWND;
    if (seq_gt(at->nxt + p->mss, tcp_wnd_end(c)))
        return TCP_LIMIT_RWND;
    if (is_deferred(c) || (!c->urg_mode && should_defer(t, c, at, p, now)))
        return TCP_LIMIT_TSO_DEFER;
    segs = max_segs(t, c, p->mss);
    segs = c->urg_mode ? 1 : segs < quota ? segs : quota;
    p->len = split_point(c, at, p, segs);
    p->fin = p->fin && at->nxt + p->len == c->write_seq && seq_lt(c->write_seq, tcp_wnd_end(c));
    return TCP_LIMIT_READY;
}

static enum tcp_limit plan_at(const struct tcp *t, const struct tcp_conn *c, const struct place *at,
                              uint64_t now, struct plan *p)
{
    return plan_cell(c, at->cell, at->nxt, at->flying, now, p) ? TCP_LIMIT_READY : plan_any(t, c, at, now, p);
}

static enum tcp_limit plan_here(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct plan *p)
{
    struct place at = place_now(c);

    return plan_any(t, c, &at, now, p);
}

static enum tcp_limit plan_data(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct plan *p)
{
    if (c->write_seq == c->writeq.start && !c->fin_queued)
        return c->state == TCP_STATE_CLOSE ? TCP_LIMIT_CLOSED : TCP_LIMIT_NOTHING;
    if (plan_cell(c, 0, c->writeq.start, tcp_in_flight(c), now, p))
        return TCP_LIMIT_READY;
    return plan_here(t, c, now, p);
}

void tcp_after_push(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct tcp_pushed *ret)
{
    struct place at = place_now(c);
    uint32_t made = 0;
    struct plan p;

    /* What is lost goes first. */
    if (at.flying < c->win.cwnd)
        at.flying +=
            c->sndq.lost_pending < c->win.cwnd - at.flying ? c->sndq.lost_pending : c->win.cwnd - at.flying;
    while (seq_lt(at.nxt, c->write_seq) && plan_at(t, c, &at, now, &p) == TCP_LIMIT_READY) {
        at.nxt += p.len;
        at.flying += (p.len + p.mss - 1) / p.mss;
        while (at.cell < c->writeq.count && seq_geq(at.nxt, tcp_writeq_at(&c->writeq, at.cell)->end))
            at.cell++;
        at.sent_at = now;
        at.ahead = true;
        made++;
        if (c->pacing_needed)
            break; /* the gate closes; the rest is for its timer */
    }
    *ret = (struct tcp_pushed){.nxt = at.nxt,
                               .in_flight = at.flying,
                               .skbs = c->sndq.count + made + c->writeq.count - at.cell};
}

uint32_t tcp_sendable_end(const struct tcp *t, const struct tcp_conn *c, uint32_t *ret_piece)
{
    uint32_t from = c->writeq.start, mss = tcp_current_mss(c), flying = tcp_in_flight(c), window, segs;

    segs = max_segs(t, c, mss);
    *ret_piece = (segs < c->win.cwnd / 2 ? segs : c->win.cwnd / 2 > 1 ? c->win.cwnd / 2 : 1) * mss;
    if (gate(c, 0) != TCP_LIMIT_READY || c->timer_at[TCP_TIMER_PACING] != TIME_NEVER ||
        flying >= c->win.cwnd || !seq_lt(from, tcp_wnd_end(c)))
        return from;
    window = (tcp_wnd_end(c) - from) / mss;
    segs = c->win.cwnd - flying < window ? c->win.cwnd - flying : window;
    return from + (segs < UINT16_MAX ? segs : UINT16_MAX) * mss;
}

/* May a LOST descriptor, if there is one, be sent again now? */
static bool retrans_allowed(const struct tcp_conn *c, uint64_t now)
{
    if (!may_send_data(c) || pacing_closed(c, now))
        return false;
    if (c->fastopen_rsk)
        return false; /* nothing but the SYN-ACK goes again before it is acknowledged */
    /* Behind the window's edge only the head, which takes the place of a probe. */
    if (seq_geq(seq_max(c->sndq.retrans_hint, c->snd_una), tcp_wnd_end(c)) &&
        c->sndq.retrans_hint != c->snd_una)
        return false;
    return tcp_in_flight(c) < c->win.cwnd;
}

/* RFC 5682 section 3.1 step 2b: new data has gone, its answer decides about what seems lost. */
static bool frto_holds(const struct tcp_conn *c)
{
    return c->frto_new && seq_gt(c->snd_nxt, c->high_seq);
}

static inline bool retrans_ready(const struct tcp_conn *c, uint64_t now)
{
    return c->sndq.lost_pending > 0 && !frto_holds(c) && !c->tx_refused && retrans_allowed(c, now);
}

/* Something waits, and no timer would ever look at it. */
static bool timer_missing(const struct tcp_conn *c, enum tcp_limit limit)
{
    if (limit == TCP_LIMIT_PACING)
        return c->timer_at[TCP_TIMER_PACING] == TIME_NEVER;
    if (c->sndq.packets_out > 0 || limit == TCP_LIMIT_NOTHING || !may_send_data(c))
        return false;
    return c->timer_at[TCP_TIMER_PROBE0] == TIME_NEVER && c->timer_at[TCP_TIMER_RETRANS] == TIME_NEVER;
}

/* tcp_may_send(). *ret_limit: what plan_data() said where it was asked, else TCP_LIMIT_MAX. */
static bool may_send(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct plan *p,
                     enum tcp_limit *ret_limit)
{
    *ret_limit = TCP_LIMIT_MAX;
    if (c->suspended)
        return false;
    if (c->rst_pending)
        return true;
    if (c->state == TCP_STATE_CLOSE)
        return false;
    if (c->syn_pending || c->probe_pending || c->tlp_pending || retrans_ready(c, now))
        return true;
    if (c->state == TCP_STATE_SYN_SENT)
        return false;
    if (tcp_ack_owed(c))
        return true;
    *ret_limit = plan_data(t, c, now, p);
    if (*ret_limit == TCP_LIMIT_READY || (*ret_limit == TCP_LIMIT_TSO_DEFER && !is_deferred(c)))
        return true;
    return timer_missing(c, *ret_limit);
}

bool tcp_may_send(const struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    struct plan p;
    enum tcp_limit limit;

    return may_send(t, c, now, &p, &limit);
}

bool tcp_is_urgent(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    if (c->rst_pending || c->syn_pending)
        return true;
    return c->sndq.lost_pending == 0 && tcp_unsent_bytes(c) <= 2u * c->mss;
}

enum tcp_limit tcp_send_limit(const struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    struct plan p;

    if (tcp_handshaking(c) && !c->suspended)
        return TCP_LIMIT_HANDSHAKE;
    if (c->sndq.lost_pending > 0 && may_send_data(c) && !c->suspended && !frto_holds(c)) {
        if (pacing_closed(c, now))
            return TCP_LIMIT_PACING;
        if (c->tx_refused)
            return TCP_LIMIT_DEVICE;
        return tcp_in_flight(c) >= c->win.cwnd ? TCP_LIMIT_CWND
               : retrans_ready(c, now)         ? TCP_LIMIT_READY
                                               : TCP_LIMIT_RWND;
    }
    return plan_data(t, c, now, &p);
}

/* ---- what all segments have in common ---------------------------------------------------------------- */

static void start_segment(const struct tcp_conn *c, enum tcp_cause cause, uint32_t seq, unsigned flags,
                          struct tcp_out *ret)
{
    struct tcp_seg *seg = &ret->seg;

    ret->id = c->id;
    ret->cause = cause;
    ret->retransmission = false;
    seg->src = c->tuple.local;
    seg->dst = c->tuple.remote;
    seg->src_port = c->tuple.local_port;
    seg->dst_port = c->tuple.remote_port;
    seg->seq = seq;
    seg->ack = 0;
    seg->wnd = seg->urg_ptr = 0;
    seg->flags = (uint16_t)flags;
    seg->ecn = seg->ttl = seg->offset = 0;
    seg->tos = c->tos;
    seg->gso_size = seg->n_slices = 0;
    seg->len = 0;
    /* Of the rest of the options what these say is there is filled by those who put it there. */
    memset(&seg->opt, 0, offsetof(struct tcp_options, sack));
}

static void put_timestamps(const struct tcp_conn *c, uint64_t now, struct tcp_seg *seg)
{
    if (!c->ts_ok)
        return;
    seg->opt.timestamps_ok = true;
    seg->opt.tsval = tcp_ts_clock(now, c->ts_offset);
    seg->opt.tsecr = c->ts_recent;
}

/*
 * ACK, window, timestamps and as many SACK blocks as `room` bytes of options hold; pays the ACKs that are
 * owed.
 */
static void put_ack(struct tcp *t, struct tcp_conn *c, uint32_t ack, uint32_t room, uint64_t now,
                    struct tcp_seg *seg)
{
    bool no_memory = c->ackowed.pending & TCP_ACK_NOMEM;
    uint32_t wnd = tcp_select_window(t, c), blocks = room >= 12 ? (room - 4) / 8 : 0;

    if (!no_memory) /* a fact may be older than rcv_nxt; the edge that it announces must not move back (RFC 7323, 2.4) */
        wnd += c->rcv_nxt - ack;
    wnd >>= c->rcv_wscale;
    if (blocks > sack_blocks_max(c))
        blocks = sack_blocks_max(c);
    seg->flags |= TCP_ACK;
    seg->ack = ack;
    seg->wnd = (uint16_t)(wnd > UINT16_MAX ? UINT16_MAX : wnd);
    put_timestamps(c, now, seg);
    if (c->sack_ok && blocks > 0)
        tcp_sack_blocks(c, &seg->opt, blocks);
    else if (!blocks)
        seg->opt.sack_count = 0;
    tcp_ecn_put(c, seg, false);
    tcp_ack_sent(t, c, now);
}

/* SND.NXT, or the window's edge where the peer took back what we had used (tcp_acceptable_seq). */
static uint32_t acceptable_seq(const struct tcp_conn *c)
{
    uint32_t end = tcp_wnd_end(c);

    if (seq_geq(end, c->snd_nxt) || (c->wscale_ok && c->snd_nxt - end < (1u << c->snd_wscale)))
        return c->snd_nxt;
    return end;
}

/* RFC 9293 section 3.8.5: the pointer is the offset of the byte behind the urgent ones (as Linux). */
static void put_urgent(const struct tcp_conn *c, struct tcp_seg *seg)
{
    uint32_t ahead = c->snd_up - seg->seq;

    if (!c->urg_mode || !seq_lt(seg->seq, c->snd_up))
        return;
    if (ahead > UINT16_MAX) {
        if (!seq_gt(seg->seq + UINT16_MAX, c->snd_nxt))
            return;
        ahead = UINT16_MAX;
    }
    seg->flags |= TCP_URG;
    seg->urg_ptr = (uint16_t)ahead;
}

/* Bytes [seq, seq + len) in segments of mss. */
static void put_payload(struct tcp_conn *c, uint32_t seq, uint32_t len, uint32_t mss,
                        struct tcp_seg *seg)
{
    uint32_t n = tcp_sndbuf_slices(&c->sndbuf, seq, len, seg->slice, TCP_SLICES_MAX, &seg->n_slices);

    assert(n == len); /* 64 KiB touch at most 34 pieces */
    seg->len = n;
    seg->gso_size = (uint16_t)(len > mss ? mss : 0);
}

/* The gate moves on from its last release; time that nobody used is credit, but not much of it. */
static void pace(struct tcp *t, struct tcp_conn *c, uint32_t bytes, uint64_t now)
{
    uint64_t rate = pacing_rate(c), from = c->pacing_next_at;

    /* Like Linux, the first ten segments go as they come. */
    if (!c->pacing_needed || rate == UINT64_MAX || bytes == 0 || c->data_segs_out < PACING_FREE_SEGS)
        return;
    if (from + PACING_CREDIT_NS < now)
        from = now - PACING_CREDIT_NS;
    c->pacing_next_at = from + bytes * NSEC_PER_SEC / (rate ? rate : 1);
    tcp_timer_set(t, c, TCP_TIMER_PACING, c->pacing_next_at > now ? c->pacing_next_at : TIME_NEVER);
}

void tcp_open_gate(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (c->pacing_next_at > now)
        c->pacing_next_at = now;
    tcp_timer_set(t, c, TCP_TIMER_PACING, TIME_NEVER);
}

/* Payload or FIN left, for the first time or again (tcp_event_data_sent). */
static void data_left(struct tcp *t, struct tcp_conn *c, uint32_t segs, const struct tcp_seg *seg,
                      uint64_t now)
{
    if (tcp_in_cwnd_reduction(c))
        c->prr_out += segs;
    c->lsndtime = now;
    pace(t, c, seg->len, now);
    if (seg->len > 0)
        tcp_ackowed_data_sent(c, now);
}

/* ---- RST and SYN ------------------------------------------------------------------------------------- */

static bool make_rst(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    if (!c->rst_pending)
        return false;
    start_segment(c, c->rst_cause, acceptable_seq(c), TCP_RST, ret);
    put_ack(t, c, c->rcv_nxt, 0, now, &ret->seg);
    c->rst_pending = false;
    if (!c->owned && c->state == TCP_STATE_CLOSE)
        c->dead = true;
    return true;
}

static enum tcp_cause syn_cause(const struct tcp_conn *c, bool again)
{
    if (c->state == TCP_STATE_SYN_SENT)
        return again ? TCP_CAUSE_SYN_RETRANS : TCP_CAUSE_SYN;
    return c->retransmits > 0 ? TCP_CAUSE_SYNACK_RETRANS : TCP_CAUSE_SYNACK;
}

/*
 * Its place in the queue: the first time a descriptor, then the same one again. Data of a Fast Open has a
 * descriptor of its own, so that it can be acknowledged, or lost, without the SYN (tcp_send_syn_data).
 */
static bool syn_left(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (!tcp_sndq_empty(&c->sndq)) {
        tcp_sndq_sent_again(&c->sndq, tcp_sndq_at(&c->sndq, 0), now);
        return true;
    }
    if (!tcp_sndq_push(&c->sndq, 0, TCP_MSS_DEFAULT, TCP_DESC_SYN, now))
        return false;
    if (c->syn_data && !tcp_sndq_push(&c->sndq, c->syn_data, c->mss, TCP_DESC_PSH, now))
        c->syn_data = 0;
    c->snd_nxt = c->pushed_seq = c->sndq.nxt;
    tcp_writeq_sent(&c->writeq, c->snd_nxt);
    c->retrans_stamp = now;
    tcp_rearm_rto(t, c, now);
    return true;
}

/*
 * RFC 9293 section 3.5, RFC 7323 section 2.2 and 3.2, RFC 2018 section 2. The window of a SYN is never
 * scaled.
 */
static bool make_syn(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    bool again = !tcp_sndq_empty(&c->sndq), synack = c->state == TCP_STATE_SYN_RECV;
    struct tcp_seg *seg = &ret->seg;

    if (!c->syn_pending || (c->state != TCP_STATE_SYN_SENT && !synack))
        return false;
    start_segment(c, syn_cause(c, again), c->iss, TCP_SYN, ret);
    if (!syn_left(t, c, now))
        return false;
    ret->retransmission = again && !(synack && c->retransmits == 0);
    c->syn_pending = false;
    if (!again && c->syn_data)
        put_payload(c, c->iss + 1, c->syn_data, c->syn_data, seg);
    seg->wnd = (uint16_t)(c->rcv_wnd > UINT16_MAX ? UINT16_MAX : c->rcv_wnd);
    seg->opt.mss_ok = true;
    seg->opt.mss = c->advmss;
    seg->opt.sack_permitted = c->sack_ok;
    seg->opt.wscale_ok = c->wscale_ok;
    seg->opt.wscale = c->rcv_wscale;
    put_timestamps(c, now, seg);
    if (synack) {
        seg->flags |= TCP_ACK;
        seg->ack = c->rcv_nxt;
        seg->flags |= c->ecn_ok ? TCP_ECE : 0u;
        tcp_ecn_put(c, seg, false);
        tcp_ack_sent(t, c, now);
    } else {
        seg->flags |= (uint16_t)tcp_ecn_syn_flags(t, c, again);
        tcp_ecn_put(c, seg, false);
        tcp_fastopen_put_option(c, &seg->opt);
    }
    return true;
}

/* The SYN-ACK of a Fast Open: what a half-open entry's would be, but for the ACK of the SYN's data. */
static bool make_fastopen_synack(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    struct tcp_seg *seg = &ret->seg;

    if (!c->syn_pending || !c->fastopen_rsk)
        return false;
    c->syn_pending = false;
    start_segment(c, c->synack_sent_at ? TCP_CAUSE_SYNACK_RETRANS : TCP_CAUSE_SYNACK, c->iss,
                  TCP_SYN | TCP_ACK, ret);
    ret->retransmission = c->synack_sent_at != 0;
    if (!c->synack_sent_at)
        c->synack_sent_at = now ? now : 1;
    else if (c->synack_retrans < UINT8_MAX)
        c->synack_retrans++;
    seg->ack = c->synack_ack;
    seg->wnd = (uint16_t)(c->rcv_wnd > UINT16_MAX ? UINT16_MAX : c->rcv_wnd);
    seg->opt.mss_ok = true;
    seg->opt.mss = c->advmss;
    seg->opt.sack_permitted = c->sack_ok;
    seg->opt.wscale_ok = c->wscale_ok;
    seg->opt.wscale = c->rcv_wscale;
    put_timestamps(c, now, seg);
    tcp_fastopen_put_option(c, &seg->opt);
    seg->flags |= c->ecn_ok ? TCP_ECE : 0u;
    tcp_ecn_put(c, seg, false);
    if (seg->ack == c->rcv_nxt)
        tcp_ack_sent(t, c, now);
    return true;
}

/* ---- retransmissions --------------------------------------------------------------------------------- */

/* Bytes that the peer's window takes; of the head into a closed one a segment, as a probe. */
static uint32_t retrans_window(const struct tcp_conn *c, const struct tcp_desc *d)
{
    return seq_lt(d->seq, tcp_wnd_end(c)) ? tcp_wnd_end(c) - d->seq : d->mss;
}

/* Segments of this descriptor that may go: cwnd, super-frame, and the window (tcp_retransmit_skb). */
static uint32_t retrans_segs(const struct tcp *t, const struct tcp_conn *c, const struct tcp_desc *d)
{
    uint32_t room = c->win.cwnd - tcp_in_flight(c), segs = max_segs(t, c, d->mss), wnd = retrans_window(c, d);

    segs = segs < room ? segs : room;
    if (segs > wnd / d->mss)
        segs = wnd / d->mss;
    return segs > 0 ? segs : 1;
}

/* What follows goes with it where both are small and the window takes both (tcp_retrans_try_collapse). */
static void gather(struct tcp_conn *c, uint32_t i)
{
    const struct tcp_desc *d = tcp_sndq_at(&c->sndq, i);

    while (!c->urg_mode && d->pcount == 1 && i + 1 < c->sndq.count &&
           tcp_desc_len(d) + tcp_desc_len(tcp_sndq_at(&c->sndq, i + 1)) <= retrans_window(c, d) &&
           tcp_sndq_collapse(&c->sndq, i, c->mss))
        ;
}

/* A single segment that goes on behind the window's end is cut there: what does not fit waits. False: no memory. */
static bool cut_at_window(struct tcp_conn *c, uint32_t i)
{
    const struct tcp_desc *d = tcp_sndq_at(&c->sndq, i);
    uint32_t wnd = retrans_window(c, d);

    return tcp_desc_len(d) <= wnd || d->pcount > 1 || tcp_sndq_cut(&c->sndq, i, wnd);
}

static void retrans_left(struct tcp *t, struct tcp_conn *c, struct tcp_desc *d, uint32_t index, uint64_t now)
{
    tcp_sndq_sent_again(&c->sndq, d, now);
    c->undo_retrans = ((int32_t)c->undo_retrans < 0 ? 0 : c->undo_retrans) + d->pcount;
    if (!c->retrans_stamp)
        c->retrans_stamp = now;
    if (c->ca_state == TCP_CA_LOSS)
        t->counters.slow_start_retrans += d->pcount;
    else
        t->counters.fast_retrans += d->pcount;
    if (index == 0 && c->rtx != TCP_RTX_REO)
        tcp_rearm_rto(t, c, now);
}

/* Puts descriptor d on the wire once more. */
static void make_again(struct tcp *t, struct tcp_conn *c, struct tcp_desc *d, enum tcp_cause cause,
                       uint64_t now, struct tcp_out *ret)
{
    uint32_t len = tcp_desc_len(d), payload = len < d->mss ? len : d->mss;

    start_segment(c, cause, d->seq, d->flags & TCP_DESC_FIN ? TCP_FIN : 0u, ret);
    ret->retransmission = true;
    if ((d->flags & TCP_DESC_PSH) || d->pcount > 1)
        ret->seg.flags |= TCP_PSH;
    put_payload(c, d->seq, len, d->mss, &ret->seg);
    put_urgent(c, &ret->seg);
    put_ack(t, c, c->rcv_nxt, c->mss > payload ? c->mss - payload : 0, now, &ret->seg);
    tcp_rate_sent(c, d, false, tcp_in_flight(c) + d->pcount, now);
}

static bool make_retransmission(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    enum tcp_cause cause = c->ca_state == TCP_CA_LOSS ? TCP_CAUSE_RETRANS_RTO : TCP_CAUSE_RETRANS_FAST;
    uint32_t i, segs;
    struct tcp_desc *d;

    if (!retrans_ready(c, now) || !tcp_sndq_prepare(&c->sndq) || !(d = tcp_sndq_next_lost(&c->sndq, &i)))
        return false;
    if (!retrans_ready(c, now))
        return false; /* retrans_hint is exact now: it lies behind the window */
    c->mtup.probe_size = 0; /* inconclusive, if one was out */
    if (d->flags & TCP_DESC_PROBE) {
        cause = TCP_CAUSE_RETRANS_MTU;
        tcp_sndq_unprobe(&c->sndq, d, c->mss);
    }
    segs = retrans_segs(t, c, d);
    if (d->pcount > segs)
        (void)tcp_sndq_split(&c->sndq, i, segs);
    else
        gather(c, i);
    if (!cut_at_window(c, i))
        return false;
    if (tcp_in_flight(c) == 0)
        tcp_cc_event(t, c, CC_EVENT_TX_START, now);
    make_again(t, c, d, cause, now, ret);
    retrans_left(t, c, d, i, now);
    data_left(t, c, d->pcount, &ret->seg, now);
    return true;
}

/* ---- new data ---------------------------------------------------------------------------------------- */

static void new_data_left(struct tcp *t, struct tcp_conn *c, const struct tcp_desc *d, uint32_t len,
                          uint64_t now)
{
    bool was_idle = c->sndq.packets_out == d->pcount;

    c->snd_nxt = c->sndq.nxt;
    tcp_writeq_sent(&c->writeq, seq_min(c->snd_nxt, c->write_seq));
    if (len < d->pcount * d->mss)
        c->snd_sml = c->snd_nxt;
    c->tso_deferred = false;
    /* A loss probe takes the timer from the RTO, which need not be set then. */
    if (!tcp_schedule_loss_probe(t, c, false, now) && (was_idle || c->rtx == TCP_RTX_PROBE))
        tcp_rearm_rto(t, c, now);
}

/* What the cells (several: of a path-MTU probe) say of their ends that go now. */
static unsigned cell_flags(const struct tcp_conn *c, uint32_t end)
{
    unsigned flags = 0;

    for (uint32_t i = 0; i < c->writeq.count && seq_leq(tcp_writeq_at(&c->writeq, i)->end, end); i++)
        flags |= tcp_writeq_at(&c->writeq, i)->flags;
    return (flags & TCP_CELL_PSH ? TCP_DESC_PSH : 0u) | (flags & TCP_CELL_EOR ? TCP_DESC_EOR : 0u);
}

static void note_before(struct tcp_conn *c)
{
    c->before.probe0_at = c->timer_at[TCP_TIMER_PROBE0];
    c->before.probe_begun_at = c->probe_begun_at;
    c->before.probes_out = c->probes_out;
    c->before.backoff = c->backoff;
}

/* Sends `p`, whatever limits said: the caller asked them. */
static bool make_data(struct tcp *t, struct tcp_conn *c, const struct plan *p, enum tcp_cause cause,
                      uint64_t now, struct tcp_out *ret)
{
    uint32_t seq = c->snd_nxt, payload = p->len < p->mss ? p->len : p->mss;
    unsigned flags = (p->fin ? TCP_DESC_FIN : 0u) | (p->psh ? TCP_DESC_PSH : 0u) |
                     (p->mtu_probe ? TCP_DESC_PROBE : 0u);
    struct tcp_desc *d;

    if (!tcp_sndq_prepare(&c->sndq))
        return false;
    c->tx_refused = false;
    if (cause != TCP_CAUSE_PROBE_WINDOW)
        note_before(c);
    if (p->len > 0)
        flags |= cell_flags(c, seq + p->len);
    if (tcp_in_flight(c) == 0)
        tcp_cc_event(t, c, CC_EVENT_TX_START, now);
    d = tcp_sndq_push(&c->sndq, p->len, (uint16_t)p->mss, flags, now);
    if (!d)
        return false;
    tcp_rate_sent(c, d, c->sndq.packets_out == d->pcount, tcp_in_flight(c), now);
    start_segment(c, cause, seq, p->fin ? TCP_FIN : 0u, ret);
    /* A super-frame always, so that the receiver's coalescing ends there; cut, its parts are no pushes. */
    if ((flags & TCP_DESC_PSH) || p->len > p->mss)
        ret->seg.flags |= TCP_PSH;
    put_payload(c, seq, p->len, p->mss, &ret->seg);
    put_urgent(c, &ret->seg);
    new_data_left(t, c, d, p->len, now);
    put_ack(t, c, c->rcv_nxt, c->mss > payload ? c->mss - payload : 0, now, &ret->seg);
    tcp_ecn_put(c, &ret->seg, true);
    data_left(t, c, d->pcount, &ret->seg, now);
    return true;
}

/* Does cwnd, and nothing else, keep the next byte back? */
static bool limited_by_cwnd(const struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    struct plan p = {0};

    if (tcp_in_flight(c) >= c->win.cwnd)
        return true;
    if (first_cell_bytes(c) <= tcp_current_mss(c))
        return false; /* not for a larger super-frame */
    return plan_data(t, c, now, &p) == TCP_LIMIT_TSO_DEFER && p.waits_cwnd;
}

static bool make_new_data(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    struct plan p;
    enum tcp_cause cause;

    tcp_mtup_check_reprobe(t, c, now);
    if (plan_data(t, c, now, &p) != TCP_LIMIT_READY)
        return false;
    if (c->sndq.packets_out == 0 && p.len > 0) {
        tcp_cwnd_restart_after_idle(t, c, now);
        if (plan_data(t, c, now, &p) != TCP_LIMIT_READY)
            return false;
    }
    cause = p.mtu_probe ? TCP_CAUSE_MTU_PROBE : p.len > 0 ? TCP_CAUSE_DATA : TCP_CAUSE_FIN;
    if (!make_data(t, c, &p, cause, now, ret))
        return false;
    if (p.mtu_probe)
        tcp_mtup_sent(c, tcp_sndq_at(&c->sndq, c->sndq.count - 1));
    tcp_cwnd_validate(t, c, limited_by_cwnd(t, c, now), now);
    return true;
}

/* ---- tail loss probe --------------------------------------------------------------------------------- */

/* New data, were there room in cwnd or not: one segment, as far as window and pacing let it. */
static bool make_tlp_data(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    struct plan p = {.mss = tcp_current_mss(c), .len = first_cell_bytes(c)};

    p.fin = tcp_fin_unsent(c) && p.len <= p.mss && c->writeq.count <= 1;
    p.len = p.len < p.mss ? p.len : p.mss;
    if (p.fin && p.len > 0 && seq_geq(c->snd_nxt + p.len, tcp_wnd_end(c)))
        p.fin = false;
    if (gate(c, now) != TCP_LIMIT_READY || !make_data(t, c, &p, TCP_CAUSE_RETRANS_TLP, now, ret))
        return false;
    tcp_loss_probe_sent(t, c, false, now);
    return true;
}

/* RFC 8985 section 7.3: new data if the window takes a segment of it, else the last segment once more. */
static bool make_tlp(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    uint32_t unsent = first_cell_bytes(c), mss = tcp_current_mss(c);
    uint32_t next = c->snd_nxt + (unsent < mss ? unsent : mss) + (unsent == 0 ? 1u : 0u);
    struct tcp_desc *d;

    c->tlp_pending = false;
    if (c->tlp_out || tcp_sndq_empty(&c->sndq) || !may_send_data(c) || c->fastopen_rsk ||
        !tcp_sndq_prepare(&c->sndq))
        return false;
    if ((unsent > 0 || tcp_fin_unsent(c)) && seq_leq(next, tcp_wnd_end(c)))
        return make_tlp_data(t, c, now, ret);
    d = tcp_sndq_at(&c->sndq, c->sndq.count - 1);
    if (d->flags & (TCP_DESC_SACKED | TCP_DESC_LOST))
        return false; /* arrived, or goes again by itself */
    c->mtup.probe_size = 0; /* inconclusive, if one was out */
    if (d->flags & TCP_DESC_PROBE)
        tcp_sndq_unprobe(&c->sndq, d, c->mss);
    if (d->pcount > 1 && tcp_sndq_split(&c->sndq, c->sndq.count - 1, d->pcount - 1))
        d = tcp_sndq_at(&c->sndq, c->sndq.count - 1);
    if (seq_geq(d->seq, tcp_wnd_end(c)) && d->seq != c->snd_una)
        return false;
    if (!cut_at_window(c, tcp_sndq_find(&c->sndq, d->seq)))
        return false;
    make_again(t, c, d, TCP_CAUSE_RETRANS_TLP, now, ret);
    tcp_sndq_probed(&c->sndq, d, now);
    pace(t, c, ret->seg.len, now);
    tcp_loss_probe_sent(t, c, true, now);
    return true;
}

/* ---- probes and ACKs --------------------------------------------------------------------------------- */

/*
 * tcp_write_wakeup: into an open but small window the part of a segment that fits (RFC 9293
 * section 3.8.6.2.1: the override); else an old sequence number without data, which makes the peer answer
 * (tcp_xmit_probe_skb).
 */
static bool make_probe(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    struct plan p = {.mss = tcp_current_mss(c), .len = first_cell_bytes(c)};
    uint32_t room = seq_lt(c->snd_nxt, tcp_wnd_end(c)) ? tcp_wnd_end(c) - c->snd_nxt : 0;
    bool stuck = c->sndq.packets_out == 0 && (p.len > 0 || tcp_fin_unsent(c));

    c->probe_pending = false;
    if (!may_send_data(c) && c->state != TCP_STATE_FIN_WAIT2)
        return false;
    if (c->probe_cause == TCP_CAUSE_PROBE_WINDOW && !stuck)
        return false;
    if (stuck && room > 0 && c->probe_cause == TCP_CAUSE_PROBE_WINDOW) {
        bool whole = p.len <= p.mss && p.len <= room;

        note_before(c);
        p.psh = true;
        p.fin = whole && c->writeq.count <= 1 && tcp_fin_unsent(c) && p.len < room;
        p.len = whole ? p.len : p.mss < room ? p.mss : room;
        c->probes_out = 0;
        c->probe_begun_at = 0;
        c->backoff = 0;
        if (p.len > 0 || p.fin)
            return make_data(t, c, &p, TCP_CAUSE_PROBE_WINDOW, now, ret);
    }
    start_segment(c, c->probe_cause, c->snd_una - 1, 0, ret);
    put_ack(t, c, c->rcv_nxt, TCP_OPTIONS_MAX, now, &ret->seg);
    if (c->probe_cause == TCP_CAUSE_PROBE_KEEPALIVE)
        t->counters.keepalive++;
    return true;
}

/* The next ACK that is owed: a fact has its own number and perhaps a D-SACK (RFC 2883 section 4). */
static bool make_ack(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    struct tcp_ack_fact fact;

    if (!tcp_ack_take(c, &fact))
        return false;
    start_segment(c, fact.cause, acceptable_seq(c), 0, ret);
    if (fact.dsack && c->sack_ok) {
        ret->seg.opt.sack[0] = fact.dsack_block;
        ret->seg.opt.sack_count = 1;
    }
    if (fact.sack && c->sack_ok)
        tcp_sack_block_of(c, fact.sack_seq, &ret->seg.opt);
    put_ack(t, c, fact.ack, TCP_OPTIONS_MAX, now, &ret->seg);
    if (fact.ece != c->ackowed.ece && c->ecn_ok)
        ret->seg.flags ^= TCP_ECE; /* as it was when the ACK became due */
    return true;
}

/* ---- the verb ---------------------------------------------------------------------------------------- */

static bool make_segment(struct tcp *t, struct tcp_conn *c, uint64_t now, struct tcp_out *ret)
{
    if (make_rst(t, c, now, ret))
        return true;
    if (c->state == TCP_STATE_CLOSE)
        return false;
    if (c->syn_pending && (make_fastopen_synack(t, c, now, ret) || make_syn(t, c, now, ret)))
        return true;
    c->syn_pending = false;
    if (c->state == TCP_STATE_SYN_SENT)
        return false;
    if (c->ackowed.fact_count > 0 && make_ack(t, c, now, ret))
        return true;
    if ((c->tlp_pending && make_tlp(t, c, now, ret)) ||
        (c->sndq.lost_pending > 0 && !c->frto_new && make_retransmission(t, c, now, ret)) ||
        make_new_data(t, c, now, ret))
        return true;
    if (c->frto_new && !frto_holds(c)) {
        c->frto = c->frto_new = false; /* no new data could go: conventional recovery */
        if (make_retransmission(t, c, now, ret))
            return true;
    }
    return (c->probe_pending && make_probe(t, c, now, ret)) || make_ack(t, c, now, ret);
}

/* For the recorder: what holds back what is lost, if anything is, else new data. */
static void note_limit(struct tcp *t, struct tcp_conn *c, enum tcp_limit limit, uint64_t now)
{
    if (t->rec)
        tcp_rec_limit(t, c, c->sndq.lost_pending ? tcp_send_limit(t, c, now) : limit, now);
}

/* Nothing to send now: what waits is left to a timer or to an ACK. What it waits for, if that was asked and still holds. */
static enum tcp_limit settle(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct plan p;
    enum tcp_limit limit;

    if (c->state == TCP_STATE_CLOSE || c->suspended || c->state == TCP_STATE_SYN_SENT)
        return TCP_LIMIT_MAX;
    limit = plan_data(t, c, now, &p);
    note_limit(t, c, limit, now);
    if (limit == TCP_LIMIT_TSO_DEFER && !c->tso_deferred) {
        c->tso_deferred = true;
        c->tso_deferred_end = c->write_seq;
    }
    if (limit == TCP_LIMIT_CWND)
        tcp_cwnd_validate(t, c, true, now);
    if (timer_missing(c, limit)) {
        if (limit == TCP_LIMIT_PACING)
            tcp_timer_set(t, c, TCP_TIMER_PACING, c->pacing_next_at);
        else
            tcp_arm_probe0(t, c, now);
    }
    return limit == TCP_LIMIT_TSO_DEFER || limit == TCP_LIMIT_CWND ? TCP_LIMIT_MAX : limit;
}

/* Nothing more goes now: is it for the peer's window? (end of tcp_write_xmit) limit and p as may_send() left them. */
static void note_held(struct tcp *t, struct tcp_conn *c, uint64_t now, enum tcp_limit limit, struct plan *p)
{
    if (c->chrono == TCP_CHRONO_UNSPEC || c->state == TCP_STATE_CLOSE)
        return;
    if (limit == TCP_LIMIT_MAX) {
        *p = (struct plan){0};
        limit = plan_data(t, c, now, p);
    }
    if (limit != TCP_LIMIT_READY && !c->suspended && c->state != TCP_STATE_SYN_SENT)
        note_limit(t, c, limit, now);
    if (limit == TCP_LIMIT_RWND || (limit == TCP_LIMIT_TSO_DEFER && p->waits_rwnd))
        tcp_chrono_start(c, TCP_CHRONO_RWND_LIMITED, now);
    else
        tcp_chrono_stop(c, TCP_CHRONO_RWND_LIMITED, now);
}

void tcp_follow_up(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    enum tcp_limit limit;
    struct plan p;

    if (may_send(t, c, now, &p, &limit))
        tcp_mark_ready(t, c);
    else
        note_held(t, c, now, limit, &p);
}

bool tcp_output(struct tcp *t, tcp_id id, uint64_t now, struct tcp_out *ret)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);
    enum tcp_limit limit;
    struct plan p;
    bool made;

    if (!c)
        return false;
    t->now = now;
    tcp_unmark_ready(t, c);
    if (c->suspended)
        return false;
    tcp_busy_with(t, id);
    made = make_segment(t, c, now, ret);
    if (made) {
        tcp_md5_sign(t, c->md5_key[0], &ret->seg);
        tcp_count_out(t, c, ret, now);
    } else {
        limit = settle(t, c, now);
        tcp_rec_time(t, now);
        tcp_rec_bare(t, c, TCP_REC_T_ASKED, 0, 0);
    }
    if (made && may_send(t, c, now, &p, &limit)) {
        tcp_mark_ready(t, c);
        if (c->sndq.lost_pending || c->writeq.count)
            tcp_rec_limit(t, c, TCP_LIMIT_READY, now);
    } else {
        note_held(t, c, now, limit, &p);
    }
    tcp_rec_settle(t, c, now);
    tcp_mark_dirty(t, c);
    tcp_conn_reap(t, c);
    tcp_busy_with(t, 0);
    return made;
}

/* Nothing is undone: it counts as sent, its timer runs, and the peer's silence brings it back. */
void tcp_tx_failed(struct tcp *t, const struct tcp_out *out)
{
    struct tcp_conn *c = out->id ? tcp_conn_by_id(t, out->id) : NULL;

    t->counters.tx_failed++;
    if (c)
        tcp_rec_bare(t, c, TCP_REC_T_DEVICE, TCP_REC_DEVICE_FAILED, out->seg.seq);
}
