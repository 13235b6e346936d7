/*
 * tests/sim/watch.c: the judges. They see segments when they leave and when they arrive, and tcp_info; nothing of an
 * engine's inside. Edges compare as sequence numbers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/seq.h"
#include "net.h"

#define LOOK_EVERY_NS (50 * NSEC_PER_MSEC)
#define STEP_MAX_NS   (120 * NSEC_PER_SEC) /* tcp_rto_max */
#define GATE_BYTES 65536u
#define SLACK_NS      (700 * NSEC_PER_MSEC) /* delayed ACK 200 ms, a full device 500 ms */
/*
 * Of a silent black hole the engine knows by the first timeout that comes (2^(tcp_retries1 + 1) - 1) tcp_rto_min or
 * more after the first one, the fifth (2^5 - 2 >= 15) at the latest; four go with what was there, the fifth may go with
 * tcp_base_mss, the next one with half of it, which fits through every link that is drawn (seeds.c: 700 bytes or more).
 */
#define HOLE_RTOS_MAX 5u
#define KEEPALIVE_NS  (40 * NSEC_PER_SEC)  /* app.c: 20 s idle, 5 probes 2 s apart; user timeouts below */

/* ---- Windows on the wire -------------------------------------------------------------------------------------- */

static uint8_t scale_of(const struct watch *w, int side)
{
    int8_t own = w->edge[side].wscale, other = w->edge[!side].wscale;

    return own < 0 || other < 0 ? 0 : (uint8_t)(own > 14 ? 14 : own);
}

/* A window in a SYN is not scaled. */
static uint32_t edge_of(const struct watch *w, int side, const struct tcp_seg *seg)
{
    return seg->ack + ((uint32_t)seg->wnd << (seg->flags & TCP_SYN ? 0 : scale_of(w, side)));
}

static void syn_sent(struct flow *f, int side, const struct tcp_seg *seg)
{
    struct edge *e = &f->watch.edge[side];

    if (e->iss != seg->seq)
        e->announced_ok = f->watch.edge[!side].arrived_ok = false; /* another half-open entry, another ISN */
    e->iss = f->end[side].iss = seg->seq;
    e->wscale = seg->opt.wscale_ok ? (int8_t)seg->opt.wscale : (int8_t)-1;
}

/*
 * RFC 9293 section 3.8.6.2.1: the receiver should not shrink the window; Linux and we never do, but for rounding, and to 0
 * where memory ran out (counted as RCVBUF).
 */
static bool announces(struct net *n, struct flow *f, int side, const struct tcp_seg *seg)
{
    struct edge *e = &f->watch.edge[side];
    uint32_t edge = edge_of(&f->watch, side, seg), rounding = (1u << scale_of(&f->watch, side)) - 1;

    if (!(seg->flags & TCP_ACK) || (seg->flags & TCP_RST))
        return true;
    if (seg->wnd == 0 && tcp_get_drops(f->end[side].node->t)[TCP_DROP_RCVBUF] > 0) {
        e->announced = edge;
        return true;
    }
    if (e->announced_ok && seq_lt(edge + rounding, e->announced))
        return net_fail(n, "flow %u%c: the window shrank: right edge %u after %u", f->number, "ab"[side], edge - f->end[!side].iss,
                        e->announced - f->end[!side].iss);
    e->announced = e->announced_ok ? seq_max(e->announced, edge) : edge;
    e->announced_ok = true;
    return true;
}

/* The head may begin at the edge: into a closed window it is a probe, as for Linux; and a FIN may lie behind it. */
static bool excused(const struct edge *peer, const struct tcp_out *o)
{
    return o->retransmission && (o->seg.seq == peer->arrived || ((o->seg.flags & TCP_FIN) && o->seg.seq + o->seg.len == peer->arrived));
}

static bool within_peers_window(struct net *n, struct flow *f, int side, const struct tcp_out *o)
{
    const struct tcp_seg *seg = &o->seg;
    const struct edge *peer = &f->watch.edge[!side];
    uint32_t end = seg->seq + tcp_seg_seq_len(seg);

    if ((seg->flags & (TCP_SYN | TCP_RST)) || !peer->arrived_ok || !tcp_seg_seq_len(seg))
        return true;
    if (seq_gt(end, peer->arrived) && !excused(peer, o))
        return net_fail(n, "flow %u%c sent up to %u, the peer's window ends at %u", f->number, "ab"[side],
                        end - f->end[side].iss, peer->arrived - f->end[side].iss);
    return true;
}

/* New data only as cwnd allows, this segment included; one probe may go beyond it, and so may the final FIN. */
static bool within_cwnd(struct net *n, struct flow *f, struct node *from, const struct tcp_out *o)
{
    struct tcp_info info;
    uint32_t flying;

    if (o->cause != TCP_CAUSE_DATA || o->retransmission || !o->seg.len || !o->id || (o->seg.flags & (TCP_SYN | TCP_FIN)) ||
        tcp_get_info(from->t, o->id, n->now, &info))
        return true;
    flying = info.unacked + info.retrans - info.sacked - info.lost;
    if (flying > info.snd_cwnd)
        return net_fail(n, "flow %u: new data with %u segments in flight, cwnd %u (%s, state %u, unacked %u retrans %u lost %u sacked %u)", f->number, flying,
                        info.snd_cwnd, info.congestion, info.ca_state, info.unacked, info.retrans, info.lost, info.sacked);
    return true;
}

bool watch_sent(struct net *n, struct node *from, const struct tcp_out *o)
{
    int side;
    struct flow *f = net_flow_of(n, &o->seg, &side);

    if (!f || f->end[side].node != from)
        return net_fail(n, "n%u sent a segment of no flow", net_node_index(n, from));
    if (o->seg.flags & TCP_SYN)
        syn_sent(f, side, &o->seg);
    if (!n->check)
        return true;
    return announces(n, f, side, &o->seg) && within_peers_window(n, f, side, o) && within_cwnd(n, f, from, o);
}

static uint64_t refusals(const struct node *to)
{
    const uint64_t *drops = tcp_get_drops(to->t);

    return drops[TCP_DROP_ZERO_WINDOW] + drops[TCP_DROP_BEYOND_WINDOW];
}

void watch_arrives(struct net *n, struct node *to, const struct tcp_seg *seg, struct watch_before *ret)
{
    int from;

    ret->flow = net_flow_of(n, seg, &from);
    ret->refused = refusals(to);
    if (ret->flow && (seg->flags & TCP_ACK) && !(seg->flags & TCP_RST)) {
        struct watch *w = &ret->flow->watch;
        struct edge *e = &w->edge[from];
        uint32_t edge = edge_of(w, from, seg);

        e->arrived = e->arrived_ok ? seq_max(e->arrived, edge) : edge;
        e->arrived_ok = true;
    }
}

bool watch_arrived(struct net *n, struct node *to, const struct tcp_seg *seg, const struct watch_before *b)
{
    int from;
    struct flow *f = net_flow_of(n, seg, &from);
    const struct edge *own = f ? &f->watch.edge[!from] : NULL;

    if (!n->check || !own || !own->announced_ok || refusals(to) == b->refused)
        return true;
    if (seq_leq(seg->seq + tcp_seg_seq_len(seg), own->announced))
        return net_fail(n, "flow %u%c refused data up to %u, it had announced %u", f->number, "ab"[!from],
                        seg->seq + tcp_seg_seq_len(seg) - f->end[from].iss, own->announced - f->end[from].iss);
    return true;
}

void watch_lost(struct net *n, const struct tcp_seg *seg)
{
    int from;
    struct flow *f = net_flow_of(n, seg, &from);

    if (f)
        f->watch.fresh++;
}

/* The same byte at the head again: counted here, judged by watch_flow(). */
void watch_hole(struct net *n, const struct tcp_seg *seg)
{
    int from;
    struct flow *f = net_flow_of(n, seg, &from);
    struct edge *e = f ? &f->watch.edge[from] : NULL;

    if (!e)
        return;
    e->hole_rtos = e->hole_rtos && e->hole_seq == seg->seq ? e->hole_rtos + 1 : 1;
    e->hole_seq = seg->seq;
}

/* ---- Stalls --------------------------------------------------------------------------------------------------- */

static uint64_t route_ns(const struct net *n, const struct node *from, const struct node *to)
{
    const struct route *r = &n->route[from - n->node][to - n->node];
    uint64_t ns = 0;

    for (unsigned i = 0; i < r->n; i++) {
        const struct link_params *p = &n->link[r->link[i]].p;

        ns += p->delay_ns + p->jitter_ns + p->reorder_ns;
        if (p->rate)
            ns += (uint64_t)((p->queue_bytes ? p->queue_bytes : 1600u * p->queue_packets) + 66000) * NSEC_PER_SEC / p->rate;
    }
    return ns;
}

void watch_start(struct net *n, struct flow *f)
{
    f->watch.progress_at = n->now;
    f->watch.worst_ns = (uint64_t)(uint32_t)f->end[0].node->cfg.tcp_rto_initial * NSEC_PER_MSEC;
}

struct seen {
    struct tcp_info info[2];
    bool there[2];
    uint64_t sum;
};

static void look(struct net *n, const struct flow *f, struct seen *s)
{
    s->sum = 0;
    for (int side = 0; side < 2; side++) {
        const struct end *e = &f->end[side];
        struct tcp_info *i = &s->info[side];

        s->there[side] = e->id && tcp_get_info(e->node->t, e->id, n->now, i) == 0;
        s->sum = s->sum * 31 + e->read + e->written * 3 + e->closed + 2u * e->connected;
        if (s->there[side])
            s->sum = s->sum * 31 + i->snd_una + 5ull * i->rcv_nxt + 7ull * i->copied_seq + 11ull * i->write_seq + i->state;
    }
}

/*
 * Its largest timer now, and the way there and back. A paced one may wait for its gate: no longer than a super-frame takes at
 * the lowest rate that it was ever seen to have.
 */
static uint64_t worst_timer(struct net *n, struct flow *f, const struct seen *s)
{
    uint64_t worst = (uint64_t)(uint32_t)f->end[0].node->cfg.tcp_rto_initial * NSEC_PER_MSEC;

    for (int side = 0; side < 2; side++) {
        if (s->there[side])
            worst = time_max(worst, (uint64_t)s->info[side].rto * NSEC_PER_USEC);
        if (s->there[side] && s->info[side].limit == TCP_LIMIT_PACING && f->watch.rate_low[side])
            worst = time_max(worst, time_min(s->info[side].timer_left * NSEC_PER_USEC,
                                             GATE_BYTES * NSEC_PER_SEC / f->watch.rate_low[side]));
    }
    return worst + SLACK_NS + route_ns(n, f->end[0].node, f->end[1].node) + route_ns(n, f->end[1].node, f->end[0].node);
}

static uint64_t permitted(const struct flow *f)
{
    uint64_t step = f->watch.worst_ns, sum = f->may_fail ? KEEPALIVE_NS : 0;

    for (uint32_t i = 0; i <= f->watch.losses && sum < 100 * STEP_MAX_NS; i++) {
        sum += step;
        step = step * 2 < STEP_MAX_NS ? step * 2 : time_max(f->watch.worst_ns, STEP_MAX_NS);
    }
    return sum;
}

static const char *limit_of(const struct seen *s, int side)
{
    return s->there[side] ? tcp_limit_name(s->info[side].limit) : "GONE";
}

static bool hangs(struct net *n, const struct flow *f, const struct seen *s, uint64_t stood)
{
    char text[640];
    size_t at = 0;

    text[0] = 0;
    for (int side = 0; side < 2; side++) {
        const struct tcp_info *i = &s->info[side];

        if (s->there[side] && at < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at,
                                   " %c: %s %s %s una %u nxt %u end %u rcv %u unread %u rto %u us backoff %u pacing %" PRIu64 " B/s cwnd %u unacked %u "
                                   "lost %u snd_wnd %u timer %" PRId64 " us rcvbuf %u/%u rcv_mss %u advmss %u ssthresh %u ooo %u;",
                                   "ab"[side], i->congestion, tcp_state_name(i->state), limit_of(s, side), i->snd_una - i->iss,
                                   i->snd_nxt - i->iss, i->write_seq - i->iss, i->rcv_nxt - i->irs, i->unread_bytes, i->rto,
                                   i->backoff, i->pacing_rate, i->snd_cwnd, i->unacked, i->lost, i->snd_wnd, (int64_t)i->timer_left, i->rcvbuf_used, i->rcvbuf, i->rcv_mss, i->advmss, i->rcv_ssthresh, i->ooo_bytes);
        else if (at < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at, " %c: gone;", "ab"[side]);
    }
    return net_fail(n, "flow %u stands still for %.3f s, %.3f s are permitted after %u losses;%s", f->number,
                    (double)stood / 1e9, (double)permitted(f) / 1e9, f->watch.losses, text);
}

static void name_stall(struct net *n, const struct seen *s, uint64_t stood)
{
    for (int side = 0; side < 2; side++)
        if (s->there[side] && s->info[side].limit < TCP_LIMIT_MAX)
            n->longest[s->info[side].limit] = time_max(n->longest[s->info[side].limit], stood);
}

static bool asleep(const struct flow *f)
{
    return f->end[0].app_at != TIME_NEVER || f->end[1].app_at != TIME_NEVER;
}

static bool leaves_holes(struct net *n, const struct flow *f)
{
    for (int side = 0; side < 2; side++) {
        const struct edge *e = &f->watch.edge[side];

        if (e->hole_rtos > HOLE_RTOS_MAX)
            return net_fail(n, "flow %u%c: %u timeouts sent byte %u into a black hole, %u may", f->number, "ab"[side],
                            e->hole_rtos, e->hole_seq - f->end[side].iss, HOLE_RTOS_MAX);
    }
    return true;
}

static bool watch_flow(struct net *n, struct flow *f, uint64_t to)
{
    struct watch *w = &f->watch;
    struct seen s;

    if (!leaves_holes(n, f))
        return false;
    look(n, f, &s);
    w->looked_at = n->now;
    for (int side = 0; side < 2; side++)
        if (s.there[side] && s.info[side].pacing_rate && (!w->rate_low[side] || s.info[side].pacing_rate < w->rate_low[side]))
            w->rate_low[side] = s.info[side].pacing_rate;
    if (!s.there[0] && !s.there[1])
        return true;
    w->losses += w->fresh;
    if (s.sum != w->sum || asleep(f)) {
        w->sum = s.sum;
        w->progress_at = n->now;
        w->losses = w->fresh;
        if (asleep(f)) /* whatever it waits for, it is the program's wish */
            w->progress_at = time_max(n->now, to);
    }
    w->fresh = 0;
    if (w->progress_at >= n->now)
        w->worst_ns = worst_timer(n, f, &s);
    if (time_since(to, w->progress_at) <= permitted(f))
        return true;
    /* both programs are done: what is left is TIME-WAIT or an orphan's time, which end of themselves */
    if (f->end[0].closed && f->end[1].closed)
        return true;
    name_stall(n, &s, to - w->progress_at);
    return hangs(n, f, &s, to - w->progress_at);
}

bool watch_time(struct net *n, uint64_t to)
{
    for (unsigned i = 0; i < n->n_flows; i++) {
        struct flow *f = &n->flow[i];

        if (f->started && time_since(to, f->watch.looked_at) >= LOOK_EVERY_NS && !watch_flow(n, f, to))
            return false;
    }
    return true;
}
