/*
 * tcp/rate.c: how fast the network delivers (draft-cheng-iccrg-delivery-rate-estimation, as Linux's
 * tcp_rate.c).
 *
 * Each descriptor keeps what was delivered when it was sent. When it is delivered itself, what came in
 * between, over the longer of the time that sending took and the time that the ACKs took, is a sample of the
 * bottleneck's rate: the longer one, because neither ACKs in a lump nor a burst of sending may make the path
 * look faster than it is. A sample is marked where the program, not the network, was what limited it.
 *
 * Pure functions of a connection; called by output.c (sent), ack.c (delivered) and api.c (nothing more to
 * send).
 */
#include "tcp/recovery.h"

void tcp_rate_sent(struct tcp_conn *c, struct tcp_desc *d, bool first_in_flight, uint32_t in_flight,
                   uint64_t now)
{
    /* With nothing in flight the time before says nothing about the path. */
    if (first_in_flight)
        c->first_tx_at = c->delivered_at = now;
    d->first_tx_at = c->first_tx_at;
    d->delivered_at = c->delivered_at;
    d->delivered = c->delivered;
    d->delivered_ce = c->delivered_ce;
    d->tx_lost = c->sndq.lost;
    d->tx_in_flight = in_flight;
    d->flags =
        (uint16_t)(c->win.app_limited ? d->flags | TCP_DESC_APP_LIMITED : d->flags & ~TCP_DESC_APP_LIMITED);
}

void tcp_rate_delivered(struct tcp_rate_pick *p, struct tcp_desc *d)
{
    if (!d->delivered_at)
        return;
    if (!p->any || tcp_sent_after(d->sent_at, p->sent_at, d->end, p->end)) {
        *p = (struct tcp_rate_pick){
            .any = true,
            .app_limited = (d->flags & TCP_DESC_APP_LIMITED) != 0,
            .retrans = (d->flags & (TCP_DESC_RETRANS | TCP_DESC_EVER_RETRANS)) != 0,
            .delivered_at = d->delivered_at,
            .sent_at = d->sent_at,
            .first_tx_at = d->first_tx_at,
            .delivered = d->delivered,
            .delivered_ce = d->delivered_ce,
            .tx_in_flight = d->tx_in_flight,
            .tx_lost = d->tx_lost,
            .end = d->end,
        };
    }
}

/* The last sample that the program did not limit, or a higher one that it did: for tcp_info. */
static void remember(struct tcp_conn *c, const struct cc_rate_sample *rs)
{
    if (rs->is_app_limited && (uint64_t)rs->delivered * c->rate_interval_us <
                                  (uint64_t)c->rate_delivered * (uint64_t)rs->interval_us)
        return;
    c->rate_delivered = (uint32_t)rs->delivered;
    c->rate_interval_us = (uint64_t)rs->interval_us;
    c->rate_app_limited = rs->is_app_limited;
}

void tcp_rate_gen(struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now, struct cc_rate_sample *ret)
{
    const struct tcp_rate_pick *p = &v->sack.rate;
    uint64_t send_us, ack_us;

    if (c->win.app_limited && seq_gt(c->delivered, c->win.app_limited))
        c->win.app_limited = 0;
    *ret = (struct cc_rate_sample){
        .delivered = -1,
        .interval_us = -1,
        .rtt_us = v->rtt_us == UINT64_MAX ? -1 : (int64_t)v->rtt_us,
        .losses = c->sndq.lost - v->prior_lost,
        .is_ack_delayed = v->maybe_delayed,
        .acked_sacked = c->delivered - v->prior_delivered,
        .prior_in_flight = v->prior_in_flight,
    };
    if (ret->acked_sacked)
        c->delivered_at = now;
    if (!p->any)
        return;
    c->first_tx_at = p->sent_at;
    ret->prior_delivered = p->delivered;
    ret->is_app_limited = p->app_limited;
    ret->is_retrans = p->retrans;
    ret->tx_in_flight = p->tx_in_flight;
    ret->lost = c->sndq.lost - p->tx_lost;
    if (v->reneging)
        return;
    ret->delivered = (int32_t)(c->delivered - p->delivered);
    ret->delivered_ce = (int32_t)(c->delivered_ce - p->delivered_ce);
    send_us = time_since(p->sent_at, p->first_tx_at) / NSEC_PER_USEC;
    ack_us = time_since(now, p->delivered_at) / NSEC_PER_USEC;
    ret->interval_us = (int64_t)(send_us > ack_us ? send_us : ack_us);
    /* Shorter than any round trip: a lump of ACKs, or spurious retransmissions; not to be trusted. */
    if (ret->interval_us < (int64_t)c->rtt.min_rtt_us) {
        ret->interval_us = -1;
        return;
    }
    remember(c, ret);
}

void tcp_rate_check_app_limited(const struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    if (c->write_seq - c->snd_nxt >= c->mss || tcp_in_flight(c) >= c->win.cwnd || c->sndq.lost_pending > 0)
        return;
    c->win.app_limited = c->delivered + tcp_in_flight(c);
    if (!c->win.app_limited)
        c->win.app_limited = 1;
}

uint64_t tcp_delivery_rate(const struct tcp_conn *c)
{
    if (!c->rate_interval_us)
        return 0;
    return (uint64_t)c->rate_delivered * c->mss * 1000000u / c->rate_interval_us;
}
