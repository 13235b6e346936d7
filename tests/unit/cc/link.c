/*
 * tests/unit/cc/link.c: the sender and the bottleneck of link.h. The link is first in, first out, and so are
 * the ACKs: the next event is either the next departure or the ACK of the oldest segment that was not
 * dropped.
 */
#include <stdlib.h>

#include "link.h"

#define DUP_THRESH 3u

static struct link_pkt *at(struct link *l, uint32_t id)
{
    return &l->ring[id % LINK_RING];
}

struct link *link_new(const char *cc, uint64_t rate, uint64_t rtt_ms, uint32_t queue, uint32_t options)
{
    struct link *l = calloc(1, sizeof *l);

    l->rate = rate;
    l->delay_ns = rtt_ms * NSEC_PER_MSEC;
    l->queue = queue;
    l->now = l->delivered_at = l->first_sent_at = 1000 * NSEC_PER_MSEC;
    l->min_rtt_us = UINT64_MAX;
    l->ops = cc_find(cc);
    l->w = (struct cc_window){.cwnd = 10,
                              .init_cwnd = 10,
                              .cwnd_clamp = UINT32_MAX,
                              .mss = LINK_MSS,
                              .ssthresh = CC_SSTHRESH_INFINITE,
                              .gso_max_bytes = 65536,
                              .options = options,
                              .ecn_ok = true,
                              .sack_ok = true,
                              .seed = 42};
    rng_seed(&l->rng, 1);
    l->ops->init(l->state, &l->w, l->now);
    return l;
}

void link_free(struct link *l)
{
    free(l);
}

uint32_t link_queue(const struct link *l)
{
    return l->busy_until > l->now ? (uint32_t)((l->busy_until - l->now) * l->rate / NSEC_PER_SEC) : 0;
}

static void refresh(struct link *l)
{
    struct cc_window *w = &l->w;
    uint64_t percent = w->cwnd < w->ssthresh / 2 ? 200 : 120;

    w->snd_una = l->una;
    w->snd_nxt = l->nxt;
    w->paced = w->pacing_rate > 0;
    if (w->srtt_us)
        w->gate_rate =
            w->paced ? w->pacing_rate : (uint64_t)w->cwnd * LINK_MSS * 10000 * percent / w->srtt_us;
}

static void set_state(struct link *l, enum cc_ca_state state)
{
    if (l->w.ca_state != state && l->ops->set_state)
        l->ops->set_state(l->state, &l->w, state, l->now);
    l->w.ca_state = (uint8_t)state;
}

static void event(struct link *l, enum cc_event e)
{
    if (l->ops->event)
        l->ops->event(l->state, &l->w, e, l->now);
}

static bool app_has_data(const struct link *l)
{
    return l->app_rate == 0 || l->app_at <= l->now;
}

static void enqueue(struct link *l, struct link_pkt *p)
{
    uint32_t waiting = link_queue(l);
    uint64_t start = time_max(l->now, l->busy_until);

    if (waiting > l->queue_max)
        l->queue_max = waiting;
    l->queue_sum += waiting;
    l->queue_samples++;
    p->dropped = waiting >= l->queue || (l->loss_ppm && rng_below(&l->rng, 1000000) < l->loss_ppm);
    p->marked = !p->dropped && l->mark_at && waiting >= l->mark_at;
    l->drops += p->dropped;
    l->marks += p->marked;
    if (p->dropped)
        return;
    l->busy_until = start + NSEC_PER_SEC / l->rate;
    p->ack_at = l->busy_until + l->delay_ns;
}

static void send_one(struct link *l)
{
    struct link_pkt *p = at(l, l->nxt);
    struct cc_window *w = &l->w;

    refresh(l);
    if (w->in_flight == 0) {
        event(l, CC_EVENT_TX_START);
        l->first_sent_at = l->delivered_at = l->now;
    }
    w->lsndtime = l->now;
    w->in_flight++;
    *p = (struct link_pkt){.sent_at = l->now,
                           .delivered_at = l->delivered_at,
                           .first_sent_at = l->first_sent_at,
                           .delivered = w->delivered,
                           .delivered_ce = w->delivered_ce,
                           .lost = w->lost,
                           .tx_in_flight = w->in_flight,
                           .app_limited = w->app_limited != 0};
    l->nxt++;
    if (w->pacing_rate)
        l->pace_at = time_max(l->pace_at, l->now) + LINK_MSS * NSEC_PER_SEC / w->pacing_rate;
    if (l->app_rate)
        l->app_at = time_max(l->app_at, l->now - NSEC_PER_MSEC) + NSEC_PER_SEC / l->app_rate;
    if (l->app_rate && !app_has_data(l) && w->in_flight < w->cwnd)
        w->app_limited = w->delivered + w->in_flight ? w->delivered + w->in_flight : 1;
    enqueue(l, p);
}

static void reduce(struct link *l, enum cc_cause cause, enum cc_ca_state state)
{
    struct cc_window *w = &l->w;

    w->cause = (uint8_t)cause;
    l->high_seq = l->nxt;
    l->prior_cwnd = w->cwnd;
    w->cwnd_cnt = 0;
    w->ssthresh = l->ops->ssthresh(l->state, w, w->in_flight);
    if (state == CC_CA_LOSS)
        event(l, CC_EVENT_LOSS);
    else
        set_state(l, state);
    if (!l->ops->cong_control)
        w->cwnd = w->ssthresh;
}

static void mark_lost(struct link *l, uint32_t id)
{
    const struct link_pkt *p = at(l, id);
    struct cc_lost lost = {
        .segs = 1, .tx_in_flight = p->tx_in_flight, .tx_lost = p->lost, .is_app_limited = p->app_limited};

    l->w.in_flight--;
    l->w.lost++;
    if (l->ops->pkt_lost && !l->no_pkt_lost)
        l->ops->pkt_lost(l->state, &l->w, &lost, l->now);
}

/* Everything dropped up to three before `acked`; returns how many. */
static uint32_t find_losses(struct link *l, uint32_t acked)
{
    uint32_t losses = 0;

    while (l->una != l->nxt && l->una < l->next_ack) {
        if (at(l, l->una)->dropped) {
            if (acked < l->una + DUP_THRESH)
                break;
            mark_lost(l, l->una);
            losses++;
            if (l->w.ca_state < CC_CA_RECOVERY || l->una < l->high_seq)
                l->repaired_at = l->nxt + 1; /* its retransmission */
        }
        l->una++;
    }
    if (losses && l->w.ca_state == CC_CA_CWR) { /* reduced already */
        l->high_seq = l->nxt;
        set_state(l, CC_CA_RECOVERY);
    } else if (losses && l->w.ca_state < CC_CA_RECOVERY) {
        reduce(l, CC_CAUSE_LOSS, CC_CA_RECOVERY);
    }
    return losses;
}

static struct cc_rate_sample rate_sample(struct link *l, const struct link_pkt *p, uint32_t prior_in_flight,
                                         uint32_t losses)
{
    uint64_t send_ns = p->sent_at - p->first_sent_at, ack_ns = l->now - p->delivered_at;
    struct cc_rate_sample rs = {
        .delivered = (int32_t)(l->w.delivered - p->delivered),
        .delivered_ce = (int32_t)(l->w.delivered_ce - p->delivered_ce),
        .interval_us = (int64_t)(time_max(send_ns, ack_ns) / NSEC_PER_USEC),
        .prior_delivered = p->delivered,
        .rtt_us = (int64_t)((l->now - p->sent_at) / NSEC_PER_USEC),
        .losses = losses,
        .acked_sacked = 1,
        .prior_in_flight = prior_in_flight,
        .is_app_limited = p->app_limited,
        .cwnd_limited = prior_in_flight >= l->w.cwnd,
        .tx_in_flight = p->tx_in_flight,
        .lost = l->w.lost - p->lost,
    };

    l->first_sent_at = p->sent_at;
    if ((uint64_t)rs.interval_us < l->min_rtt_us)
        rs.interval_us = -1;
    return rs;
}

static void end_reduction(struct link *l)
{
    bool cut = l->w.ca_state == CC_CA_CWR || l->w.ca_state == CC_CA_RECOVERY;

    set_state(l, CC_CA_OPEN);
    if (cut)
        event(l, CC_EVENT_COMPLETE_CWR);
}

static void grow(struct link *l, const struct link_pkt *p, uint32_t prior_in_flight, uint32_t losses)
{
    struct cc_window *w = &l->w;
    uint64_t rtt_us = (l->now - p->sent_at) / NSEC_PER_USEC;
    struct cc_sample s = {.now = l->now,
                          .acked = 1,
                          .prior_in_flight = prior_in_flight,
                          .in_flight = w->in_flight,
                          .rtt_us = rtt_us,
                          .srtt_us = w->srtt_us,
                          .cwnd_limited = prior_in_flight >= w->cwnd};
    struct cc_rate_sample rs;

    if (l->ops->cong_control) {
        rs = rate_sample(l, p, prior_in_flight, losses);
        l->ops->cong_control(l->state, w, &rs, l->now);
    } else if (w->ca_state != CC_CA_CWR && w->ca_state != CC_CA_RECOVERY) {
        l->ops->cong_avoid(l->state, w, &s);
    }
}

static void one_ack(struct link *l)
{
    struct cc_window *w = &l->w;
    uint32_t prior_in_flight = w->in_flight, losses;
    const struct link_pkt *p = at(l, l->next_ack);
    uint64_t rtt_us = (l->now - p->sent_at) / NSEC_PER_USEC;
    struct cc_ack_sample as = {
        .now = l->now, .rtt_us = rtt_us, .pkts_acked = 1, .in_flight = p->tx_in_flight};

    l->next_ack++;
    w->in_flight--;
    w->delivered++;
    w->delivered_ce += p->marked;
    l->delivered++;
    l->delivered_at = l->now;
    if (w->app_limited && (int32_t)(w->delivered - w->app_limited) > 0)
        w->app_limited = 0;
    l->min_rtt_us = time_min(l->min_rtt_us, rtt_us);
    w->srtt_us = w->srtt_us ? (uint32_t)((w->srtt_us * 7ull + rtt_us) / 8) : (uint32_t)rtt_us;
    losses = find_losses(l, l->next_ack - 1);
    refresh(l);
    if (l->ops->pkts_acked)
        l->ops->pkts_acked(l->state, w, &as);
    if (l->ops->in_ack_event)
        l->ops->in_ack_event(l->state, w, p->marked ? CC_ACK_ECE : 0, l->now);
    if (w->ca_state != CC_CA_OPEN && l->una >= l->high_seq && l->una >= l->repaired_at)
        end_reduction(l);
    if (p->marked && w->ca_state == CC_CA_OPEN)
        reduce(l, CC_CAUSE_ECN, CC_CA_CWR);
    grow(l, p, prior_in_flight, losses);
    if (l->slow_start_left_at == 0 && w->ssthresh < CC_SSTHRESH_INFINITE)
        l->slow_start_left_at = w->cwnd;
}

static void timeout(struct link *l)
{
    l->timeouts++;
    refresh(l);
    if (l->w.ca_state != CC_CA_LOSS)
        reduce(l, CC_CAUSE_LOSS, CC_CA_LOSS);
    while (l->una != l->nxt) {
        if (at(l, l->una)->dropped)
            mark_lost(l, l->una);
        l->una++;
    }
    l->next_ack = l->nxt;
    l->w.in_flight = 0;
    l->w.cwnd = 1;
    set_state(l, CC_CA_LOSS);
    l->high_seq = l->nxt + 1;
}

void link_run(struct link *l, uint64_t ms)
{
    uint64_t end = l->now + ms * NSEC_PER_MSEC;

    for (;;) {
        uint64_t ack_at = TIME_NEVER, send_at = TIME_NEVER;

        while (l->next_ack != l->nxt && at(l, l->next_ack)->dropped)
            l->next_ack++;
        if (l->next_ack != l->nxt)
            ack_at = at(l, l->next_ack)->ack_at;
        if (l->w.in_flight < l->w.cwnd) {
            send_at = l->w.pacing_rate ? time_max(l->now, l->pace_at) : l->now;
            send_at = l->app_rate ? time_max(send_at, l->app_at) : send_at;
        }
        if (ack_at == TIME_NEVER && send_at == TIME_NEVER) {
            l->now += NSEC_PER_SEC;
            timeout(l);
            continue;
        }
        if (time_min(ack_at, send_at) > end) {
            l->now = end;
            return;
        }
        l->now = time_max(l->now, time_min(ack_at, send_at));
        if (ack_at <= send_at)
            one_ack(l);
        else
            send_one(l);
    }
}

uint64_t link_goodput(struct link *l, uint64_t ms)
{
    uint64_t before = l->delivered;

    link_run(l, ms);
    return (l->delivered - before) * 1000 / ms;
}
