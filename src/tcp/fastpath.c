/*
 * tcp/fastpath.c: header prediction: the short way for what almost every segment of a transfer is, the next
 * data in order with nothing new in its ACK, or an ACK of sent data with nothing else.
 *
 * A segment takes it only where the long way (input.c) would do exactly the same: each test below stands for
 * a step that then has nothing to do. A unit test runs random segment streams both ways and compares every
 * state bit and every segment that leaves. Called by input.c; may not do what the long way doesn't.
 */
#include "tcp/recovery.h"

/* State and header allow prediction at all: established, only ACK and PSH (Linux pred_flags). */
static bool is_predicted(const struct tcp *t, const struct tcp_conn *c, const struct tcp_seg *seg)
{
    return c->state == TCP_STATE_ESTABLISHED && !t->no_fast_path && (seg->flags & ~TCP_PSH) == TCP_ACK &&
           seg->seq == c->rcv_nxt && !c->rcvq.n_ranges && !c->fin_waits && c->owned && !c->shutdown &&
           (uint32_t)seg->wnd << c->snd_wscale == c->snd_wnd && !seg->opt.sack_count &&
           seq_leq(seg->ack, c->snd_nxt);
}

/* Timestamps as expected: there if agreed, and not older than the last (no PAWS). */
static bool timestamps_pass(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    if (!c->ts_ok)
        return true;
    return seg->opt.timestamps_ok && (int32_t)(seg->opt.tsval - c->ts_recent) >= 0;
}

/* An ACK that acknowledges nothing and asks for nothing: no loss suspected, no probe, an idle sender. */
static bool ack_says_nothing(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    if (seg->ack != c->snd_una || c->ca_state != TCP_CA_OPEN)
        return false;
    if (c->sndq.packets_out > 0)
        return !tcp_sacked_out(c) && !(tcp_sndq_at(&c->sndq, 0)->flags & TCP_DESC_SACKED);
    return !c->backoff && !c->probe_begun_at && !c->probe_pending && tcp_unsent_bytes(c) == 0 &&
           c->timer_at[TCP_TIMER_RETRANS] == TIME_NEVER && c->timer_at[TCP_TIMER_PROBE0] == TIME_NEVER;
}

/* What each acceptable segment does (RFC 7323 section 4.3; step 5). */
static void note_segment(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (c->ts_ok && seq_leq(seg->seq, c->rcv_wup)) {
        c->ts_recent = seg->opt.tsval;
        c->ts_recent_at = now ? now : 1;
    }
    c->error_soft = 0;
    c->probes_out = 0;
    c->rcv_tstamp = now;
    t->counters.hp_hits++;
}

bool tcp_fast_path(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!is_predicted(t, c, seg) || !timestamps_pass(c, seg))
        return false;
    if (seg->len == 0) {
        /* A pure ACK: steps 1 to 4, 6 and 7 have nothing to do. */
        if (!seq_gt(seg->ack, c->snd_una) || tcp_ack_in(t, c, seg, now) != TCP_ACK_OK)
            return false;
        note_segment(t, c, seg, now);
        tcp_rcv_rtt_measure_ts(c, seg, now);
        return true;
    }
    if (seg->len > tcp_receive_window(c) || !ack_says_nothing(c, seg))
        return false;
    c->tso_deferred = false;
    c->tx_refused = false;
    if (seq_gt(seg->seq, c->snd_wl1))
        c->snd_wl1 = seg->seq;
    if (c->sndq.packets_out > 0)
        tcp_update_pacing_rate(t, c);
    tcp_cc_note_due(c);
    tcp_check_space(t, c, now);
    note_segment(t, c, seg, now);
    tcp_data_in(t, c, seg, now);
    return true;
}

bool tcp_rcv_in_order(struct tcp *t, const struct tcp_seg *seg)
{
    struct ip_tuple tuple = {seg->dst, seg->src, seg->dst_port, seg->src_port};
    enum tcp_kind kind = TCP_KIND_FREE;
    const struct tcp_conn *c = tcp_lookup_tuple(t, &tuple, &kind);

    return c && kind == TCP_KIND_CONN && c->state == TCP_STATE_ESTABLISHED && seg->seq == c->rcv_nxt &&
           !c->rcvq.n_ranges;
}
