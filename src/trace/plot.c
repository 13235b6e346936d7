/*
 * trace/plot.c: points of a time-sequence graph (theory of operation).
 *
 * Whatever the source is, it is fed segment by segment: data of one direction, ACKs of the other. Sequence numbers are
 * unwrapped to 64 bits around the highest one seen, and relative to the first. A record tells the cause of each
 * retransmission, cwnd, round trip and pacing rate; from a capture they are guessed as far as one who looks from outside
 * can: sent again is what lies below the highest byte sent, in flight is what was sent and not acknowledged, and a round
 * trip is from a segment that was sent once to the ACK that covers it (Karn).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/tcp_enums.h"
#include "trace/plot.h"

#define FAR ((int64_t)1 << 30) /* sequence numbers further off than any window are damage */

void plot_free(struct plot *p)
{
    free(p->bars);
    for (unsigned i = 0; i < PLOT_CURVES; i++)
        free(p->curve[i].at);
    memset(p, 0, sizeof *p);
}

static bool grow(struct plot *p, void **at, size_t n, size_t *room, size_t bytes)
{
    size_t more = *room ? 2 * *room : 256;
    void *bigger;

    if (n < *room)
        return true;
    bigger = p->failed ? NULL : realloc(*at, more * bytes);
    if (!bigger) {
        p->failed = true;
        return false;
    }
    *at = bigger;
    *room = more;
    return true;
}

void plot_point(struct plot *p, enum plot_curve_kind curve, double t, double v)
{
    struct plot_points *c = &p->curve[curve];

    if (c->n > 1 && c->at[c->n - 1].v == v && c->at[c->n - 2].v == v) {
        c->at[c->n - 1].t = t; /* a flat piece needs its ends only */
        return;
    }
    if (!grow(p, (void **)&c->at, c->n, &c->room, sizeof *c->at))
        return;
    c->at[c->n++] = (struct plot_point){t, v};
}

static void bar(struct plot *p, double t, int64_t from, int64_t to, unsigned kind)
{
    if (grow(p, (void **)&p->bars, p->n_bars, &p->bars_room, sizeof *p->bars))
        p->bars[p->n_bars++] = (struct plot_bar){t, from, to, (uint8_t)kind};
}

static void mark(struct plot *p, double t, int64_t at, char letter)
{
    if (p->n_marks < PLOT_MARKS)
        p->marks[p->n_marks++] = (struct plot_mark){t, at, letter};
}

static int64_t unwrap(const struct plot *p, uint32_t seq)
{
    return p->top + (int32_t)(seq - (uint32_t)p->top);
}

/* ---- what was sent ---- */

/* Remembers when a segment left; one that goes again spoils the samples of what it covers (Karn). */
static void timed_sent(struct plot *p, int64_t from, int64_t end, double t, bool again)
{
    if (again) {
        for (unsigned i = 0; i < p->timed_n; i++) {
            struct plot_timed *x = &p->timed[(p->timed_first + i) % PLOT_TIMED];

            if (x->end > from && x->end <= end)
                x->again = true;
        }
        return;
    }
    if (p->timed_n < PLOT_TIMED)
        p->timed[(p->timed_first + p->timed_n++) % PLOT_TIMED] = (struct plot_timed){end, t, false};
}

static void timed_acked(struct plot *p, int64_t ack, double t)
{
    double sent = -1;

    while (p->timed_n && p->timed[p->timed_first].end <= ack) {
        sent = p->timed[p->timed_first].again ? -1 : p->timed[p->timed_first].t;
        p->timed_first = (p->timed_first + 1) % PLOT_TIMED;
        p->timed_n--;
    }
    if (sent >= 0 && t >= sent)
        plot_point(p, PLOT_RTT, t, (t - sent) * 1e3);
}

static void feed_data(struct plot *p, const struct plot_seg *s)
{
    int64_t from, to;
    bool syn = s->flags & TCP_SYN, again;
    unsigned kind = s->kind;

    if (!p->have_base || (syn && !p->segments)) {
        p->have_base = true;
        p->base = p->top = s->seq;
    }
    from = unwrap(p, s->seq) - p->base + syn;
    to = from + s->len;
    if (from > p->top - p->base + FAR || from < p->top - p->base - FAR)
        return;
    again = kind == PLOT_BARS ? s->len && to <= p->top - p->base : kind != PLOT_DATA && kind != PLOT_PROBE;
    if (kind == PLOT_BARS)
        kind = again ? PLOT_AGAIN : PLOT_DATA;
    if (s->len) {
        p->segments++;
        p->data_bytes += s->len;
        p->again_segments += again;
        p->again_bytes += again ? s->len : 0;
        bar(p, s->t, from, to, kind);
        if (!p->recorded)
            timed_sent(p, from, to, s->t, again);
    }
    if (syn)
        mark(p, s->t, from, 'S');
    if (s->flags & TCP_FIN)
        mark(p, s->t, to, 'F');
    if (s->flags & TCP_RST)
        mark(p, s->t, from, 'R');
    if (to + p->base > p->top)
        p->top = to + p->base;
    if (!p->recorded && p->have_ack && s->len)
        plot_point(p, PLOT_FLIGHT, s->t, (double)(p->top - p->base - p->acked));
}

/* ---- what was acknowledged ---- */

static void feed_ack(struct plot *p, const struct plot_seg *s)
{
    int64_t ack, edge;

    if (s->flags & TCP_RST)
        mark(p, s->t, p->top - p->base, 'R');
    if (!(s->flags & TCP_ACK))
        return;
    if (!p->have_base) {
        p->have_base = true;
        p->base = p->top = s->ack;
    }
    ack = unwrap(p, s->ack) - p->base;
    if (ack > p->top - p->base + FAR || ack < p->top - p->base - FAR)
        return;
    if (ack + p->base > p->top)
        p->top = ack + p->base; /* sent before the capture began, or lost from it */
    if (!p->have_ack || ack > p->acked) {
        p->acked = ack;
        plot_point(p, PLOT_ACK, s->t, (double)ack);
        if (!p->recorded) {
            timed_acked(p, ack, s->t);
            plot_point(p, PLOT_FLIGHT, s->t, (double)(p->top - p->base - ack));
        }
    }
    edge = ack + ((int64_t)s->wnd << (s->flags & TCP_SYN ? 0 : p->scale));
    if (!p->have_ack || edge > p->edge || ack == p->acked) {
        p->edge = edge;
        plot_point(p, PLOT_WINDOW, s->t, (double)edge);
    }
    p->have_ack = true;
    for (unsigned i = 0; i < s->sack_count; i++) {
        int64_t from = unwrap(p, s->sack[i].start) - p->base, to = unwrap(p, s->sack[i].end) - p->base;

        if (to > from && to - from < FAR && to <= p->top - p->base + FAR)
            bar(p, s->t, from, to, i == 0 && to <= ack ? PLOT_DSACK : PLOT_SACK);
    }
}

void plot_feed(struct plot *p, const struct plot_seg *s)
{
    if (!p->any || s->t < p->first)
        p->first = s->t;
    if (!p->any || s->t > p->last)
        p->last = s->t;
    p->any = true;
    if (s->data)
        feed_data(p, s);
    else
        feed_ack(p, s);
}

/* ---- a record ---- */

static unsigned kind_of(const struct trace_event *ev, bool out)
{
    if (!out)
        return PLOT_BARS;
    switch (ev->e.h.code) {
    case TCP_CAUSE_RETRANS_FAST:
        return PLOT_FAST;
    case TCP_CAUSE_RETRANS_RTO:
    case TCP_CAUSE_SYN_RETRANS:
    case TCP_CAUSE_SYNACK_RETRANS:
        return PLOT_RTO;
    case TCP_CAUSE_RETRANS_TLP:
        return ev->e.h.flags & TCP_REC_F_RETRANS ? PLOT_TLP : PLOT_DATA;
    case TCP_CAUSE_PROBE_WINDOW:
        return PLOT_PROBE;
    default:
        return ev->e.h.flags & TCP_REC_F_RETRANS ? PLOT_AGAIN : PLOT_DATA;
    }
}

enum plot_direction plot_trace_direction(const struct trace *tr)
{
    struct trace_cursor cursor = {0};
    uint64_t bytes[2] = {0, 0};
    struct trace_event ev;

    while (trace_next(tr, &cursor, &ev) == 1) {
        if ((ev.type == TCP_REC_T_SEG_IN || ev.type == TCP_REC_T_SEG_OUT) && !ev.tuple.family)
            bytes[ev.type == TCP_REC_T_SEG_IN] += ev.e.seg.len;
    }
    return bytes[1] > bytes[0] ? PLOT_IN : PLOT_OUT;
}

static void feed_ack_event(struct plot *p, double t, const struct tcp_ev_ack *a)
{
    plot_point(p, PLOT_CWND, t, a->cwnd);
    if (a->ssthresh < INT32_MAX)
        plot_point(p, PLOT_SSTHRESH, t, a->ssthresh);
    plot_point(p, PLOT_FLIGHT, t, a->in_flight);
    plot_point(p, PLOT_RTT, t, a->srtt_us / 1e3);
    if (a->min_rtt_us != UINT32_MAX)
        plot_point(p, PLOT_MIN_RTT, t, a->min_rtt_us / 1e3);
    if (a->pacing_rate != UINT64_MAX)
        plot_point(p, PLOT_PACING, t, (double)a->pacing_rate * 8);
    if (a->rate_interval_us)
        plot_point(p, PLOT_DELIVERY, t, (double)a->rate_delivered * a->mss * 8e6 / a->rate_interval_us);
}

static void names(struct plot *p, const struct tcp_rec_head *h, bool out)
{
    trace_addr_text(h->local, h->family, h->local_port, out ? p->from : p->to);
    trace_addr_text(h->remote, h->family, h->remote_port, out ? p->to : p->from);
}

int plot_from_trace(struct plot *p, const struct trace *tr, enum plot_direction direction)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    struct tcp_seg seg;
    bool out = (direction == PLOT_MORE ? plot_trace_direction(tr) : direction) == PLOT_OUT;
    int r;

    if (tr->head.kind == TCP_REC_KIND_ENGINE)
        return -EINVAL;
    if (!p->any) {
        names(p, &tr->head, out);
        p->recorded = true;
        p->lost_events = tr->head.first_event;
        p->have_base = true;
        p->base = p->top = out ? tr->head.iss : tr->head.irs;
        p->scale = out ? tr->head.snd_wscale & 15 : tr->head.rcv_wscale & 15;
        if (p->lost_events) /* the ring's beginning is not the connection's: unwrap around where it is now */
            p->top = out ? tr->head.snd_una : tr->head.rcv_nxt;
        p->base = p->top - (uint32_t)((uint32_t)p->top - (uint32_t)p->base);
    }
    while ((r = trace_next(tr, &cursor, &ev)) == 1) {
        double t = (double)trace_time(tr, ev.e.h.at) / 1e9;

        if (ev.type == TCP_REC_T_ACK && out)
            feed_ack_event(p, t, &ev.e.ack);
        if ((ev.type != TCP_REC_T_SEG_IN && ev.type != TCP_REC_T_SEG_OUT))
            continue;
        trace_seg(&ev.e.seg, &seg);
        if (ev.type == TCP_REC_T_SEG_OUT && ev.e.h.code == TCP_CAUSE_PROBE_KEEPALIVE)
            continue;
        struct plot_seg s = {.t = t, .data = (ev.type == TCP_REC_T_SEG_OUT) == out, .seq = seg.seq, .ack = seg.ack,
                             .len = seg.len, .flags = seg.flags, .wnd = seg.wnd, .kind = (uint8_t)kind_of(&ev, out),
                             .sack_count = seg.opt.sack_count};

        memcpy(s.sack, seg.opt.sack, sizeof s.sack);
        plot_feed(p, &s);
    }
    return r < 0 ? r : p->failed ? -ENOMEM : 0;
}
