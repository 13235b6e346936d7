/*
 * tcp/rack.c: see tcp/rack.h; RFC 8985 section 6.2, with the window as Linux chooses it.
 *
 * The list by time sent is walked from its oldest end up to the first descriptor that was not sent before the
 * newest delivered one: what it costs is what it marks, and what waits for its reordering window to pass.
 * Marks descriptors and arms RETRANS as REO; builds no segment. Called by recovery.c and by the timer.
 */
#include "tcp/recovery.h"

enum { RACK_LOSS_DETECTION = 1, RACK_STATIC_REO_WND = 2, RACK_NO_DUPTHRESH = 4 }; /* bits of tcp_recovery */

static_assert(RACK_NO_DUPTHRESH * 2 - 1 == TCP_RECOVERY_BITS, "tcp_recovery's range");

bool tcp_is_rack(const struct tcp *t)
{
    return t->config->tcp_recovery & RACK_LOSS_DETECTION;
}

void tcp_rack_advance(struct tcp_rack *r, uint32_t end_seq, uint64_t sent_at, bool retransmitted,
                      uint32_t min_rtt_us, uint64_t now)
{
    uint64_t rtt_us = (now - sent_at) / NSEC_PER_USEC;

    if (sent_at == 0 || (retransmitted && rtt_us < min_rtt_us))
        return;
    r->advanced = true;
    r->rtt_us = rtt_us;
    if (tcp_sent_after(sent_at, r->sent_at, end_seq, r->end_seq)) {
        r->sent_at = sent_at;
        r->end_seq = end_seq;
    }
}

/*
 * Section 6.2 step 4: none while nothing suggests that the path reorders; else a quarter of the shortest
 * round trip, widened by D-SACKs, at most a round trip.
 */
static uint64_t reo_wnd_us(const struct tcp *t, const struct tcp_conn *c)
{
    bool dupthresh = !(t->config->tcp_recovery & RACK_NO_DUPTHRESH) && c->sndq.sacked_out >= c->reordering;
    uint64_t wnd = (uint64_t)(c->rtt.min_rtt_us >> 2) * (c->rack.reo_wnd_extra + 1u),
             srtt = c->rtt.srtt_us >> 3;

    if (!c->reord_seen && (c->ca_state >= TCP_CA_RECOVERY || dupthresh))
        return 0;
    return wnd < srtt ? wnd : srtt;
}

/* Microseconds until it counts as lost; 0 or less: it does. */
static int64_t time_left_us(const struct tcp_conn *c, const struct tcp_desc *d, uint64_t window_us,
                            uint64_t now)
{
    return (int64_t)(c->rack.rtt_us + window_us) - (int64_t)((now - d->sent_at) / NSEC_PER_USEC);
}

/* Section 6.2 step 5. Returns how long the last of those that may still arrive is waited for, in us; 0: none.
 */
static uint64_t detect_loss(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint64_t window_us = reo_wnd_us(t, c), wait_us = 0;

    if (c->rack.sent_at == 0)
        return 0;
    list_for_each_safe(node, &c->sndq.tsorted)
    {
        struct tcp_desc *d = list_entry(node, struct tcp_desc, tsorted);
        int64_t left_us;

        if (!tcp_sent_after(c->rack.sent_at, d->sent_at, c->rack.end_seq, d->end))
            break;
        left_us = time_left_us(c, d, window_us, now);
        if (left_us <= 0)
            tcp_mark_lost(t, c, d, now);
        else if ((uint64_t)left_us > wait_us)
            wait_us = (uint64_t)left_us;
    }
    return wait_us;
}

bool tcp_rack_mark_lost(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint64_t wait_us;

    if (!c->rack.advanced)
        return false;
    c->rack.advanced = false;
    wait_us = detect_loss(t, c, now);
    if (wait_us == 0)
        return false;
    tcp_set_retrans(t, c, TCP_RTX_REO,
                    now + time_min(wait_us * NSEC_PER_USEC + TCP_TIMEOUT_MIN_NS, tcp_rto_ns(t, c)));
    return true;
}

/* RFC 8985 section 6.3: the reordering timer. */
void tcp_rack_reo_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint32_t prior_in_flight = tcp_in_flight(c), prior_lost = c->sndq.lost;

    (void)detect_loss(t, c, now);
    if (prior_in_flight != tcp_in_flight(c)) {
        if (c->ca_state != TCP_CA_RECOVERY)
            tcp_rack_enter_recovery(t, c, c->sndq.lost - prior_lost, now);
        tcp_mark_ready(t, c);
    }
    tcp_rearm_rto(t, c, now);
}

/*
 * Section 6.2 step 4, adaptation: at most once a round trip a D-SACK widens the window by a quarter; sixteen
 * recoveries without one forget it.
 */
void tcp_rack_update_reo_wnd(struct tcp *t, struct tcp_conn *c, uint32_t prior_delivered)
{
    struct tcp_rack *r = &c->rack;

    if ((t->config->tcp_recovery & RACK_STATIC_REO_WND) || !prior_delivered)
        return;
    if (seq_lt(prior_delivered, r->last_delivered))
        r->dsack_seen = false;
    if (r->dsack_seen) {
        if (r->reo_wnd_extra < UINT8_MAX - 1)
            r->reo_wnd_extra++;
        r->dsack_seen = false;
        r->last_delivered = c->delivered;
        r->reo_wnd_persist = TCP_RACK_RECOVERY_THRESH;
    } else if (!r->reo_wnd_persist) {
        r->reo_wnd_extra = 0;
    }
}

/* Section 6.3 on an RTO: the head is lost, and of the rest what was sent more than a round trip ago. */
void tcp_rack_timeout_mark_lost(const struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    for (uint32_t i = 0; i < c->sndq.count; i++) {
        struct tcp_desc *d = tcp_sndq_at(&c->sndq, i);

        if (i == 0 || time_left_us(c, d, 0, now) <= 0)
            tcp_mark_lost(t, c, d, now);
    }
    c->sndq.retrans_hint = c->sndq.una;
}
