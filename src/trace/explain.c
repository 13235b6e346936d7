/*
 * trace/explain.c: the walk over a record that gives every moment a name (explain.h), and the verdict.
 *
 * State is what the events until now said: the connection's state, what its next byte waits for (LIMIT), congestion
 * state, windows, what is unacknowledged. Between two events nothing changes, so that time is what the state makes of
 * it:
 *
 *     sum of share[].ns = to - from
 *
 * What keeps us from sending goes before what keeps the peer: a program that reads nothing because it can't write is
 * told as what it can't write for. Only where we have nothing to send a closed window of ours counts.
 *
 * A path that swallows large segments only is told from one that swallows all by the sizes: whatever is not
 * acknowledged in spite of timeouts is larger than all that ever was.
 */
#include "trace/explain.h"

#include <errno.h>
#include <string.h>

#include "base/seq.h"
#include "base/time.h"
#include "tcp/tcp_enums.h"

#define RECEIVING_NS (250 * NSEC_PER_MSEC) /* the peer "sends" for this long after each segment with data */
#define ROW_RTOS 2u                        /* timeouts in a row that make a hole */

struct walk {
    const struct trace *tr;
    struct explained *x;
    uint64_t at, number; /* up to where time is accounted for; of the event that began the state */
    uint8_t state, limit, ca, name;
    bool waits_room, next_hop, no_route, our_closed, peer_closed, resent, any;
    uint64_t run_ns, run_at, run_number;
    uint64_t last_data_in;
    uint32_t una, end; /* of ours: acknowledged, sent */
    bool una_known;
};

const char *explain_verdict_name(unsigned verdict)
{
    static const char *const names[] = {
#define X(name, text) #name,
        EXPLAIN_TIMES(X)
#undef X
#define X(name) #name,
            EXPLAIN_VERDICTS(X)
#undef X
    };

    return verdict < sizeof names / sizeof *names ? names[verdict] : "?";
}

/* ---- the name of a moment ---- */

static enum explain_time name_of_limit(const struct walk *w)
{
    switch (w->limit) {
    case TCP_LIMIT_RWND:
        return EXPLAIN_PEER_WINDOW;
    case TCP_LIMIT_PACING:
        return EXPLAIN_PACING;
    case TCP_LIMIT_NAGLE:
        return EXPLAIN_NAGLE;
    case TCP_LIMIT_CORK:
        return EXPLAIN_CORK;
    case TCP_LIMIT_TSO_DEFER:
        return EXPLAIN_TSO_DEFER;
    case TCP_LIMIT_MTU_PROBE:
        return EXPLAIN_MTU_PROBE;
    case TCP_LIMIT_DEVICE:
        return EXPLAIN_DEVICE;
    case TCP_LIMIT_NO_ROUTE:
        return EXPLAIN_NO_ROUTE;
    case TCP_LIMIT_NEIGHBOUR:
        return EXPLAIN_NEIGHBOUR;
    case TCP_LIMIT_CWND:
        return EXPLAIN_CWND;
    case TCP_LIMIT_READY:
        return EXPLAIN_SENDING;
    default:
        return EXPLAIN_TIME_MAX;
    }
}

static bool unacked(const struct walk *w)
{
    return w->una_known && seq_lt(w->una, w->end);
}

static bool handshaking(const struct walk *w)
{
    return w->state == TCP_STATE_SYN_SENT || w->state == TCP_STATE_SYN_RECV;
}

static enum explain_time name_of(const struct walk *w)
{
    enum explain_time limit = name_of_limit(w);

    if (w->no_route)
        return EXPLAIN_NO_ROUTE;
    if (w->next_hop)
        return EXPLAIN_NEIGHBOUR;
    if (handshaking(w))
        return EXPLAIN_HANDSHAKE;
    if (unacked(w) && (w->ca == TCP_REC_CA_LOSS || w->resent))
        return EXPLAIN_TIMEOUT;
    if (limit == EXPLAIN_PEER_WINDOW)
        return limit;
    if (w->ca == TCP_REC_CA_RECOVERY)
        return EXPLAIN_RECOVERY;
    if (limit != EXPLAIN_TIME_MAX)
        return limit;
    if (w->waits_room)
        return EXPLAIN_SNDBUF;
    if (unacked(w))
        return EXPLAIN_ACKS;
    if (w->our_closed)
        return EXPLAIN_PROGRAM_READ;
    return w->state == TCP_STATE_ESTABLISHED || w->state == TCP_STATE_CLOSE_WAIT ? EXPLAIN_PROGRAM_WRITE
                                                                                 : EXPLAIN_CLOSING;
}

/* ---- time ---- */

static void end_run(struct walk *w)
{
    struct explain_share *s = &w->x->share[w->name];

    if (!w->run_ns)
        return;
    s->times++;
    if (w->run_ns > s->longest_ns) {
        s->longest_ns = w->run_ns;
        s->longest_at = w->run_at;
        s->longest_event = w->run_number;
    }
    w->run_ns = 0;
}

static void spend(struct walk *w, enum explain_time name, uint64_t ns, uint64_t at)
{
    if (!ns)
        return;
    if (name != w->name) {
        end_run(w);
        w->name = (uint8_t)name;
    }
    if (!w->run_ns) {
        w->run_at = at;
        w->run_number = w->number;
    }
    w->run_ns += ns;
    w->x->share[name].ns += ns;
}

/* Everything up to `now` has the name that the state gives it. */
static void pass(struct walk *w, uint64_t now)
{
    enum explain_time name = name_of(w);
    uint64_t ns = now > w->at ? now - w->at : 0, quiet_at = w->last_data_in + RECEIVING_NS, part = ns;

    if (name == EXPLAIN_PROGRAM_WRITE && w->last_data_in && quiet_at > w->at) {
        part = quiet_at < now ? quiet_at - w->at : ns;
        spend(w, EXPLAIN_RECEIVING, part, w->at);
        ns -= part;
    }
    spend(w, name, ns, now - ns);
    if (w->peer_closed && w->limit == TCP_LIMIT_RWND)
        w->x->peer_closed_ns += now > w->at ? now - w->at : 0;
    if (w->our_closed)
        w->x->our_closed_ns += now > w->at ? now - w->at : 0;
    if (now > w->at)
        w->at = now;
    w->x->now = (uint8_t)name;
}

/* ---- segments ---- */

/* A damaged head may say any shift. */
static uint32_t scaled(uint16_t wnd, uint8_t shift)
{
    return (uint32_t)wnd << (shift <= 14 ? shift : 14); /* RFC 7323 section 2.3 */
}

static uint32_t payload_of(const struct tcp_ev_seg *e)
{
    return e->gso_size && e->gso_size < e->len ? e->gso_size : e->len;
}

/* Something new is acknowledged. */
static void take_ack(struct walk *w, uint32_t ack)
{
    if (w->una_known && (!seq_gt(ack, w->una) || seq_gt(ack, w->end)))
        return;
    w->una = ack;
    w->end = w->una_known ? w->end : ack;
    w->una_known = true;
    w->resent = false;
    w->x->unanswered = w->x->heard = 0;
    w->x->stuck_since = w->at;
}

static void note_out(struct walk *w, const struct tcp_ev_seg *e)
{
    uint32_t len = e->len + ((e->tcp_flags & TCP_SYN) != 0) + ((e->tcp_flags & TCP_FIN) != 0);

    if (!w->una_known && w->tr->head.first_event == 0) {
        w->una = w->end = e->seq;
        w->una_known = true;
    }
    if (len && !unacked(w))
        w->x->stuck_since = w->at;
    if (len && w->una_known && seq_gt(e->seq + len, w->end))
        w->end = e->seq + len;
}

static void seg_out(struct walk *w, const struct trace_event *ev)
{
    const struct tcp_ev_seg *e = &ev->e.seg;
    struct explained *x = w->x;
    bool syn = (e->tcp_flags & TCP_SYN) != 0;

    if (ev->e.h.flags & TCP_REC_F_REPLY)
        return;
    note_out(w, e);
    if (ev->e.h.code == TCP_CAUSE_RETRANS_RTO)
        x->stuck = payload_of(e);
    if (ev->e.h.code == TCP_CAUSE_RETRANS_RTO && x->stuck > x->stuck_max)
        x->stuck_max = x->stuck;
    if (syn)
        x->syns++;
    x->fast += ev->e.h.code == TCP_CAUSE_RETRANS_FAST;
    x->rto += ev->e.h.code == TCP_CAUSE_RETRANS_RTO;
    x->tlp += ev->e.h.code == TCP_CAUSE_RETRANS_TLP;
    x->probes += ev->e.h.code == TCP_CAUSE_PROBE_WINDOW;
    if ((e->tcp_flags & TCP_ACK) && !syn) {
        x->rcv_wnd = scaled(e->wnd, w->tr->head.rcv_wscale);
        w->our_closed = x->rcv_wnd < (w->tr->head.advmss ? w->tr->head.advmss : 536u);
    }
}

static void seg_in(struct walk *w, const struct tcp_ev_seg *e)
{
    struct explained *x = w->x;
    bool syn = (e->tcp_flags & TCP_SYN) != 0;

    x->silent_since = w->at;
    w->next_hop = w->no_route = false;
    x->heard++;
    x->received_bytes += e->len;
    if (e->len)
        w->last_data_in = w->at;
    if (!(e->tcp_flags & TCP_ACK))
        return;
    if (w->una_known)
        take_ack(w, e->ack);
    x->snd_wnd = scaled(e->wnd, syn ? 0 : w->tr->head.snd_wscale);
    w->peer_closed = x->snd_wnd < w->tr->head.mss;
}

/* ---- the rest ---- */

static void take_ack_event(struct walk *w, const struct tcp_ev_ack *a)
{
    struct explained *x = w->x;
    uint32_t len = a->acked_segs ? a->acked_bytes / a->acked_segs : 0;

    if (len > x->acked_max)
        x->acked_max = len;
    if (!w->una_known) { /* the record begins in the middle: what was out is what packets_out says */
        take_ack(w, a->snd_una);
        w->end = a->snd_una + a->packets_out * a->mss;
    }
    w->ca = a->h.code;
    x->cwnd = a->cwnd;
    x->ssthresh = a->ssthresh;
    x->srtt_us = a->srtt_us;
    x->min_rtt_us = a->min_rtt_us;
    x->mss = a->mss;
    x->pacing_rate = a->pacing_rate;
    x->acked_bytes += a->acked_bytes;
}

static void take(struct walk *w, const struct trace_event *ev)
{
    const struct tcp_rec_hdr *h = &ev->e.h;

    switch (ev->type) {
    case TCP_REC_T_SEG_OUT:
        seg_out(w, ev);
        break;
    case TCP_REC_T_SEG_IN:
        seg_in(w, &ev->e.seg);
        break;
    case TCP_REC_T_ACK:
        take_ack_event(w, &ev->e.ack);
        break;
    case TCP_REC_T_STATE:
        w->state = h->code;
        break;
    case TCP_REC_T_LIMIT:
        w->x->no_details = false;
        w->limit = h->code;
        w->waits_room = h->arg != 0;
        break;
    case TCP_REC_T_CONG:
        w->x->losses += h->code >= TCP_REC_CA_RECOVERY && w->ca < TCP_REC_CA_RECOVERY;
        w->ca = h->code;
        break;
    case TCP_REC_T_FIRED:
        if (h->code == TCP_REC_TIMER_RETRANS && h->arg == 0) {
            w->x->unanswered++;
            w->resent = true;
        }
        break;
    case TCP_REC_T_NEIGHBOUR:
        w->no_route = h->code == TCP_REC_NEIGHBOUR_UNREACHABLE && h->arg == ENETUNREACH;
        w->next_hop = h->code != TCP_REC_NEIGHBOUR_RESOLVED && !w->no_route;
        break;
    default:
        break;
    }
}

/* The state in which the record begins: from an empty one where it begins with the connection. */
static void begin(struct walk *w, uint64_t at)
{
    const struct tcp_rec_head *h = &w->tr->head;

    w->any = true;
    w->at = w->x->from = w->x->silent_since = w->x->stuck_since = at;
    w->x->beginning_lost = h->first_event > 0;
    w->state = h->first_event > 0 ? TCP_STATE_ESTABLISHED : h->passive ? TCP_STATE_SYN_RECV : TCP_STATE_SYN_SENT;
}

/* ---- the verdict ---- */

static bool stuck(const struct walk *w)
{
    return w->x->unanswered >= ROW_RTOS && unacked(w) && !handshaking(w);
}

static unsigned largest_share(const struct explained *x)
{
    unsigned best = EXPLAIN_V_NOTHING;

    for (unsigned i = 0; i < EXPLAIN_TIME_MAX; i++) {
        if (x->share[i].ns > (best == EXPLAIN_V_NOTHING ? 0 : x->share[best].ns))
            best = i;
    }
    return best;
}

/* Segments became smaller than what timeouts had to send again, and such large ones never arrived. */
bool explain_hole_found(const struct explained *x)
{
    return x->mtu_probing && x->head_mss < x->stuck_max && x->acked_max < x->stuck_max;
}

static unsigned verdict_of(const struct walk *w, const struct explain_context *ctx)
{
    const struct explained *x = w->x;
    unsigned best = largest_share(x);

    if (stuck(w) && x->now == EXPLAIN_TIMEOUT)
        return !x->no_details && x->stuck > x->acked_max && x->stuck * 4ull >= w->tr->head.mss * 3ull
                   ? EXPLAIN_V_MTU_BLACK_HOLE
                   : EXPLAIN_V_PATH_BLACK_HOLE;
    if (best == EXPLAIN_TIMEOUT && explain_hole_found(x))
        return EXPLAIN_V_MTU_BLACK_HOLE;
    if (best == EXPLAIN_HANDSHAKE && x->syns > 1 && w->state == TCP_STATE_SYN_SENT)
        return EXPLAIN_V_SYN_UNANSWERED;
    if (best == EXPLAIN_PROGRAM_READ && ctx->forward)
        return EXPLAIN_V_BACKEND;
    return best;
}

int trace_explain(const struct trace *tr, const struct explain_context *ctx, struct explained *x)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    struct walk w = {.tr = tr, .x = x, .name = EXPLAIN_HANDSHAKE};
    int r;

    *x = (struct explained){.mtu = tr->head.mtu,
                            .mss = tr->head.mss,
                            .head_mss = tr->head.mss,
                            .no_details = true,
                            .zero = tr->zero,
                            .pacing_rate = UINT64_MAX,
                            .min_rtt_us = UINT32_MAX,
                            .verdict = EXPLAIN_V_NOTHING};
    while ((r = trace_next(tr, &cursor, &ev)) == 1) {
        if (ev.type == TCP_REC_T_CONFIG) {
            if (memcmp(ev.e.config.name0, "tcp_mtu_probing\0", 16) == 0)
                x->mtu_probing = ev.e.config.value > 0;
            continue;
        }
        if (ev.type == TCP_REC_T_NONE || ev.type == TCP_REC_T_MAX)
            continue;
        if (!w.any)
            begin(&w, tr->head.first_event > 0 ? ev.e.h.at : tr->zero);
        pass(&w, ev.type == TCP_REC_T_LIMIT && ev.e.limit.since < ev.e.h.at ? ev.e.limit.since : ev.e.h.at);
        w.number = ev.number;
        take(&w, &ev);
    }
    if (!w.any)
        begin(&w, tr->head.created_at);
    if (tr->head.kind == TCP_REC_KIND_CONN)
        pass(&w, tr->head.dumped_at);
    end_run(&w);
    x->to = w.at;
    x->now = (uint8_t)name_of(&w);
    x->verdict = (uint8_t)verdict_of(&w, ctx);
    return r < 0 ? -EBADMSG : 0;
}

void trace_explain_context(const struct explain_context *ctx, struct explained *x)
{
    bool full = ctx->listener_known && ctx->accept_queue > ctx->backlog;

    *x = (struct explained){.now = EXPLAIN_HANDSHAKE, .pacing_rate = UINT64_MAX};
    x->verdict = full ? EXPLAIN_V_ACCEPT_QUEUE : ctx->half_open ? EXPLAIN_V_HALF_OPEN : EXPLAIN_V_NOTHING;
}
