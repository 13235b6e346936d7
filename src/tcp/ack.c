/*
 * tcp/ack.c: an ACK goes through a pipeline of values (RFC 9293 section 3.10.7.4, fifth step, and what came
 * since):
 *
 *     verdict -> window -> SACK blocks -> sent queue up to ack -> RTT -> RACK, TLP -> recovery -> timer ->
 * cwnd
 *
 * struct tcp_ack_value carries what each stage found to the next ones; no stage calls back. Afterwards
 * snd_una = sndq.una, the send buffer holds nothing below it, and RETRANS runs exactly if something is in
 * flight, otherwise PROBE0 exactly if something is stuck. Called by input.c; builds no segment.
 */
#include "tcp/recovery.h"

#define PROBE0_MIN_NS (200 * NSEC_PER_MSEC) /* Linux tcp_probe0_base: at least TCP_RTO_MIN */

static uint32_t rto_max_us(const struct tcp *t)
{
    return (uint32_t)t->config->tcp_rto_max * 1000u;
}

uint64_t tcp_rto_ns(const struct tcp *t, const struct tcp_conn *c)
{
    return tcp_rtt_backed_off_us(&c->rtt, c->backoff, rto_max_us(t)) * NSEC_PER_USEC;
}

/* ---- verdict ----------------------------------------------------------------------------------------- */

/*
 * RFC 5961 section 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT; as Linux, what was never acknowledged at
 * all narrows the lower bound.
 */
static enum tcp_ack_verdict verdict_of(const struct tcp_conn *c, uint32_t ack)
{
    uint32_t back = c->bytes_acked < c->max_window ? (uint32_t)c->bytes_acked : c->max_window;

    if (seq_gt(ack, c->snd_nxt))
        return TCP_ACK_UNSENT;
    if (seq_geq(ack, c->snd_una))
        return TCP_ACK_OK;
    return seq_lt(ack, c->snd_una - back) ? TCP_ACK_TOO_OLD : TCP_ACK_OLD;
}

static void begin(const struct tcp_conn *c, const struct tcp_seg *seg, struct tcp_ack_value *v)
{
    *v = (struct tcp_ack_value){
        .prior_una = c->snd_una,
        .prior_fack = c->sack_ok ? c->sndq.highest_sack : c->snd_una,
        .prior_in_flight = tcp_in_flight(c),
        .prior_delivered = c->delivered,
        .prior_packets = c->sndq.packets_out,
        .prior_lost = c->sndq.lost,
        .prior_delivered_ce = c->delivered_ce,
        .ece = tcp_ecn_echoed(c, seg),
        .has_data = tcp_seg_seq_len(seg) > 0,
        .ts_seen = c->ts_ok && seg->opt.timestamps_ok,
        .tsecr = seg->opt.tsecr,
        .n_segs =
            seg->gso_size && seg->len > seg->gso_size ? (seg->len + seg->gso_size - 1) / seg->gso_size : 1,
        .una_advanced = seq_gt(seg->ack, c->snd_una),
        .rtt_us = UINT64_MAX,
    };
}

/* ---- window ------------------------------------------------------------------------------------------ */

/*
 * RFC 9293 section 3.10.7.4: SND.WL1 and SND.WL2 keep old segments from changing the window
 * (tcp_may_update_window).
 */
static bool may_update_window(const struct tcp_conn *c, const struct tcp_seg *seg, uint32_t wnd)
{
    return seq_gt(seg->ack, c->snd_una) || seq_gt(seg->seq, c->snd_wl1) ||
           (seg->seq == c->snd_wl1 && (wnd > c->snd_wnd || wnd == 0));
}

static void update_window(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg,
                          struct tcp_ack_value *v, uint64_t now)
{
    uint32_t wnd = (uint32_t)seg->wnd << (seg->flags & TCP_SYN ? 0 : c->snd_wscale);

    if (!may_update_window(c, seg, wnd))
        return;
    v->window_update = true;
    c->snd_wl1 = seg->seq;
    if (wnd == c->snd_wnd)
        return;
    c->snd_wnd = wnd;
    if (tcp_unsent_bytes(c) > 0)
        tcp_cwnd_restart_after_idle(t, c, now);
    if (wnd > c->max_window) {
        c->max_window = wnd;
        tcp_sync_mss(t, c, c->pmtu);
    }
}

/* ---- sent queue -------------------------------------------------------------------------------------- */

/* Did the original arrive, not what was sent again (tcp_skb_spurious_retrans)? The timestamp tells. */
static bool spurious_retrans(const struct tcp_conn *c, const struct tcp_desc *d,
                             const struct tcp_ack_value *v)
{
    return (d->flags & TCP_DESC_EVER_RETRANS) && v->ts_seen && v->tsecr &&
           seq_lt(v->tsecr, tcp_ts_clock(d->sent_at, c->ts_offset));
}

/* It was delivered by this ACK and no SACK before. */
static void note_delivered(struct tcp_conn *c, const struct tcp_desc *d, uint32_t segs, uint64_t now,
                           struct tcp_ack_value *v)
{
    c->delivered += segs;
    tcp_sndq_note_delivered(d, &v->sack);
    if (!spurious_retrans(c, d, v))
        tcp_rack_advance(&c->rack, d->end, d->sent_at, d->flags & TCP_DESC_EVER_RETRANS, c->rtt.min_rtt_us,
                         now);
}

/* What one descriptor, or its acknowledged head, tells (the loop body of tcp_clean_rtx_queue). */
static void note_acked(struct tcp_conn *c, struct tcp_desc *d, uint32_t segs, uint64_t now,
                       struct tcp_ack_value *v)
{
    if (d->flags & (TCP_DESC_EVER_RETRANS | TCP_DESC_RETRANS)) {
        v->retrans_acked = true;
    } else if (!(d->flags & TCP_DESC_SACKED)) {
        if (v->first_sent_at == 0)
            v->first_sent_at = d->sent_at;
        v->last_sent_at = d->sent_at;
        if (!v->reord_seen) {
            v->reord_seen = true;
            v->reord_seq = d->seq;
        }
        if (seq_leq(d->end, c->high_seq))
            v->orig_sack_acked = true;
    }
    if (!(d->flags & TCP_DESC_SACKED) && c->sack_ok)
        note_delivered(c, d, segs, now, v);
    if (!(d->flags & TCP_DESC_SYN))
        v->data_acked = true;
    if (v->acked_segs == 0)
        v->acked_since = d->first_sent_at;
    v->acked_segs += segs;
    tcp_rate_delivered(&v->sack.rate, d);
}

static void clean_sent(struct tcp_conn *c, uint32_t ack, uint64_t now, struct tcp_ack_value *v)
{
    struct tcp_sndq *q = &c->sndq;

    while (!tcp_sndq_empty(q) && seq_lt(q->una, ack)) {
        struct tcp_desc *d = tcp_sndq_at(q, 0);

        if (seq_leq(d->end, ack)) {
            note_acked(c, d, d->pcount, now, v);
            tcp_sndq_pop(q);
        } else {
            uint32_t before = d->pcount, segs = tcp_sndq_trim(q, ack);

            if (segs > 0 && before > 0)
                note_acked(c, d, segs, now, v);
        }
    }
    if (!tcp_sndq_empty(q) && (tcp_sndq_at(q, 0)->flags & TCP_DESC_SACKED))
        v->reneging = true;
}

static void una_moved(struct tcp *t, struct tcp_conn *c, uint32_t ack)
{
    uint32_t data_end = seq_min(seq_max(ack, c->sndbuf.start), c->sndbuf.end);

    c->bytes_acked += ack - c->snd_una;
    c->snd_una = ack;
    tcp_sndbuf_free_to(&c->sndbuf, t->pool, data_end);
    if (c->urg_mode && seq_geq(ack, c->snd_up))
        c->urg_mode = false;
    c->retransmits = 0;
    c->send_more = false;
}

/* ---- SACK -------------------------------------------------------------------------------------------- */

/* Is this first block a duplicate report? RFC 2883 section 4: below the ACK, or within the second block. */
static bool is_dsack(const struct tcp_seg *seg)
{
    const struct tcp_sack_block *b = seg->opt.sack;

    if (seq_lt(b[0].start, seg->ack))
        return true;
    return seg->opt.sack_count > 1 && seq_leq(b[0].end, b[1].end) && seq_geq(b[0].start, b[1].start);
}

/* tcp_is_sackblock_valid; una is what this ACK makes it. */
static bool sack_block_valid(const struct tcp_conn *c, const struct tcp_sack_block *b, uint32_t una,
                             bool dsack)
{
    if (seq_gt(b->end, c->snd_nxt) || !seq_lt(b->start, b->end) || !seq_lt(b->start, c->snd_nxt))
        return false;
    if (seq_gt(b->start, una))
        return true;
    if (!dsack || !c->undo_marker || seq_gt(b->end, una))
        return false;
    if (seq_geq(b->start, c->undo_marker))
        return true;
    return seq_gt(b->end, c->undo_marker) && seq_geq(b->start, b->end - c->max_window);
}

/* So many retransmissions less of this recovery may have been needed. */
static void undo_retrans_less(struct tcp_conn *c, uint32_t segs)
{
    int32_t left = (int32_t)c->undo_retrans;

    c->undo_retrans = (uint32_t)(left > (int32_t)segs ? left - (int32_t)segs : 0);
}

/* A D-SACK of what is still queued counts where it was retransmitted (tcp_sacktag_one). */
static void dsack_of_queued(struct tcp_conn *c, const struct tcp_sack_block *b)
{
    struct tcp_sndq *q = &c->sndq;

    for (uint32_t i = tcp_sndq_find(q, seq_max(b->start, q->una)); i < q->count; i++) {
        const struct tcp_desc *d = tcp_sndq_at(q, i);
        uint32_t start = seq_max(d->seq, b->start), end = seq_min(d->end, b->end);

        if (!seq_lt(start, end))
            break;
        if ((d->flags & (TCP_DESC_RETRANS | TCP_DESC_EVER_RETRANS)) && seq_gt(end, c->undo_marker))
            undo_retrans_less(c, (end - start + d->mss - 1u) / d->mss);
    }
}

/*
 * Segments that the D-SACK reports; 0: not credible: empty, larger than any window was, or more than was ever sent
 * again: the network duplicated it, or the peer makes it up (tcp_dsack_seen).
 */
static uint32_t dsack_segs(struct tcp_conn *c, const struct tcp_sack_block *b, struct tcp_ack_value *v)
{
    uint32_t len = b->end - b->start, segs = (len + c->mss - 1u) / (c->mss ? c->mss : 1u);

    if (!seq_lt(b->start, b->end) || len > c->max_window)
        return 0;
    if (len <= c->mss && c->tlp_out && c->tlp_high_seq == b->end)
        v->dsack_tlp = true;
    c->dsack_dups = c->dsack_dups > UINT32_MAX - segs ? UINT32_MAX : c->dsack_dups + segs;
    return c->dsack_dups > c->total_retrans ? 0 : segs;
}

/*
 * A D-SACK: what was sent again in vain left the network all the same, so it counts as delivered; where it answers
 * retransmissions of this recovery, less are left that may have been needed (tcp_check_dsack). False: not credible.
 */
static bool dsack_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, struct tcp_ack_value *v)
{
    const struct tcp_sack_block *b = &seg->opt.sack[0];
    uint32_t segs = dsack_segs(c, b, v);

    if (seq_lt(b->start, seg->ack))
        t->counters.dsack_recv++;
    else
        t->counters.dsack_ofo_recv++;
    if (segs == 0) {
        t->counters.dsack_ignored_dubious++;
        return false;
    }
    t->counters.dsack_recv_segs += segs;
    v->dsack = true;
    c->delivered += segs;
    /* RACK's window grows by what RACK retransmitted in vain, not by probes, nor before the path reordered.
     */
    if (c->reord_seen && !v->dsack_tlp)
        c->rack.dsack_seen = true;
    if (!sack_block_valid(c, b, seq_max(seg->ack, c->snd_una), true)) {
        if (c->undo_marker)
            t->counters.dsack_ignored_old++;
        else
            t->counters.dsack_ignored_no_undo++;
    }
    if (!c->undo_marker || (int32_t)c->undo_retrans <= 0 || !seq_gt(b->end, c->undo_marker))
        return true;
    if (seq_leq(b->end, v->prior_una))
        undo_retrans_less(c, segs);
    else
        dsack_of_queued(c, b);
    return true;
}

/* Blocks in ascending order, so that reordering is seen against what was sacked before this ACK. */
static unsigned sorted_blocks(struct tcp *t, const struct tcp_conn *c, const struct tcp_seg *seg, unsigned first,
                              struct tcp_sack_block *out)
{
    uint32_t una = seq_max(seg->ack, c->snd_una);
    unsigned n = 0, k;

    for (unsigned i = first; i < seg->opt.sack_count && i < TCP_SACK_BLOCKS_MAX; i++) {
        const struct tcp_sack_block *b = &seg->opt.sack[i];

        if (!sack_block_valid(c, b, una, false)) {
            /* An ACK that was overtaken may hold old ones. */
            if (seg->ack == una || seq_gt(b->end, una))
                t->counters.sack_discard++;
            continue;
        }
        for (k = n++; k > 0 && seq_lt(b->start, out[k - 1].start); k--)
            out[k] = out[k - 1];
        out[k] = *b;
    }
    return n;
}

static void sack_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, struct tcp_ack_value *v,
                    uint64_t now)
{
    struct tcp_sack_block block[TCP_SACK_BLOCKS_MAX];
    unsigned n, first = 0;

    if (!c->sack_ok || seg->opt.sack_count == 0)
        return;
    if (is_dsack(seg) && dsack_in(t, c, seg, v))
        first = 1;
    n = sorted_blocks(t, c, seg, first, block);
    c->sndq.count_max = tcp_sndq_count_max(c);
    v->sack.rack = &c->rack;
    v->sack.min_rtt_us = c->rtt.min_rtt_us;
    v->sack.now = now;
    for (unsigned i = 0; i < n; i++)
        tcp_sndq_sack(&c->sndq, block[i].start, block[i].end, &v->sack);
    c->delivered += v->sack.segs;
    if (v->sack.reordered && (c->ca_state != TCP_CA_LOSS || c->undo_marker))
        tcp_check_reordering(t, c, v->sack.reord_seq, false);
}

/* ---- RTT --------------------------------------------------------------------------------------------- */

static uint64_t tsecr_rtt_us(const struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    uint32_t ms = tcp_ts_clock(now, c->ts_offset) - v->tsecr;

    if (ms >= (uint32_t)INT32_MAX / 1000)
        return UINT64_MAX;
    /* An echo of the time before what it acknowledges was first sent is no measurement, though Linux takes it. */
    if (v->acked_since && seq_lt(v->tsecr, tcp_ts_clock(v->acked_since, c->ts_offset)))
        return UINT64_MAX;
    return ms ? ms * 1000ull : 1000ull;
}

/* A lone small segment, the only one delivered since it was sent: its ACK may have waited (FLAG_ACK_MAYBE_DELAYED). */
static bool is_maybe_delayed(const struct tcp_conn *c, const struct tcp_ack_value *v)
{
    return v->acked_segs == 1 && c->snd_una - v->prior_una < c->mss && v->data_acked && v->sack.rate.any &&
           v->sack.rate.delivered + 1 == c->delivered && tcp_sacked_out(c) == 0 && v->sack.segs == 0 && !v->dsack &&
           !v->ece;
}

/*
 * RFC 6298 section 3 (Karn): only what was sent once gives a sample; a SACKed one as good as an acknowledged
 * one; the timestamp echo (RFC 7323 section 4) where only retransmissions were acknowledged. True: a sample
 * was taken.
 */
static bool take_rtt(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    bool acked = v->first_sent_at && !v->retrans_acked;
    uint64_t seq_us = UINT64_MAX, ca_us = UINT64_MAX;

    if (acked) {
        seq_us = time_since(now, v->first_sent_at) / NSEC_PER_USEC;
        ca_us = time_since(now, v->last_sent_at) / NSEC_PER_USEC;
        v->maybe_delayed = is_maybe_delayed(c, v);
    }
    if (v->sack.first_sent_at) {
        ca_us = time_since(now, v->sack.last_sent_at) / NSEC_PER_USEC;
        if (!acked)
            seq_us = time_since(now, v->sack.first_sent_at) / NSEC_PER_USEC;
    }
    if (seq_us == UINT64_MAX && v->ts_seen && v->tsecr && v->acked_segs > 0)
        seq_us = ca_us = tsecr_rtt_us(c, v, now);
    v->rtt_us = ca_us;
    if (seq_us >= UINT32_MAX)
        return false;
    /* One that the peer may have delayed does not raise the minimum. */
    if (!v->maybe_delayed || ca_us <= c->rtt.min_rtt_us)
        tcp_rtt_update_min(&c->rtt, (uint32_t)ca_us, now);
    tcp_rtt_sample(&c->rtt, (uint32_t)seq_us, c->snd_una, c->snd_nxt,
                   (uint32_t)t->config->tcp_rto_min * 1000u, rto_max_us(t));
    c->backoff = 0;
    return true;
}

/* Does the RTO start anew? On progress; or where a SACK's RTT is younger than the head's last sending. */
static void judge_timer(struct tcp_conn *c, struct tcp_ack_value *v, bool sampled, uint64_t now)
{
    uint64_t head_at = tcp_sndq_empty(&c->sndq) ? 0 : tcp_sndq_at(&c->sndq, 0)->sent_at;

    if (v->acked_segs > 0)
        v->rearm = true;
    else if (sampled && head_at && v->sack.first_sent_at &&
             time_since(now, v->sack.first_sent_at) > now - head_at)
        v->rearm = true;
}

static void reordering_from_ack(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v)
{
    if (v->acked_segs == 0)
        return;
    if (!c->sack_ok) {
        tcp_remove_reno_sacks(t, c, v->acked_segs);
        if (v->retrans_acked)
            v->orig_sack_acked = false;
    } else if (v->reord_seen && seq_lt(v->reord_seq, v->prior_fack)) {
        tcp_check_reordering(t, c, v->reord_seq, false);
    }
}

/* ---- timers ------------------------------------------------------------------------------------------ */

/*
 * Nothing in flight, something to send, and it may not go: a probe has to find out (RFC 9293
 * section 3.8.6.1).
 */
static bool is_stuck(const struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    if (c->sndq.packets_out > 0 || (tcp_unsent_bytes(c) == 0 && !tcp_fin_unsent(c)))
        return false;
    switch (tcp_send_limit(t, c, now)) {
    case TCP_LIMIT_RWND:
    case TCP_LIMIT_NAGLE:
    case TCP_LIMIT_CORK:
        return true;
    default:
        return false;
    }
}

static uint64_t probe0_ns(const struct tcp *t, const struct tcp_conn *c)
{
    uint64_t base = time_max(c->rtt.rto_us * NSEC_PER_USEC, PROBE0_MIN_NS);
    uint64_t when = base << (c->backoff < 20 ? c->backoff : 20);

    return time_min(when, rto_max_us(t) * NSEC_PER_USEC);
}

void tcp_arm_probe0(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint64_t at = now + probe0_ns(t, c);

    if (c->user_timeout_ms && c->probe_begun_at)
        at = time_min(
            at, time_max(now + 2 * NSEC_PER_MSEC, c->probe_begun_at + c->user_timeout_ms * NSEC_PER_MSEC));
    if (c->fastopen_rsk)
        return; /* RETRANS is the SYN-ACK's */
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, TIME_NEVER);
    tcp_timer_set(t, c, TCP_TIMER_PROBE0, at);
}

void tcp_set_retrans(struct tcp *t, struct tcp_conn *c, enum tcp_rtx what, uint64_t at)
{
    tcp_timer_set(t, c, TCP_TIMER_PROBE0, TIME_NEVER);
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, at);
    c->rtx = (uint8_t)what;
}

/*
 * From now on; where the timer stood for something else meanwhile, from when the head was sent last
 * (tcp_rto_delta_us).
 */
static uint64_t rto_at(const struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    uint64_t sent_at = tcp_sndq_at(&c->sndq, 0)->sent_at,
             from = c->rtx == TCP_RTX_RTO || !sent_at ? now : sent_at;

    return time_max(from + tcp_rto_ns(t, c), now + 1);
}

void tcp_rearm_rto(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (c->fastopen_rsk)
        return; /* the SYN-ACK's timer stays as it is */
    if (c->sndq.packets_out > 0) {
        uint64_t at = rto_at(t, c, now);

        if (c->user_timeout_ms && c->retrans_stamp)
            at = time_min(
                at, time_max(now + 2 * NSEC_PER_MSEC, c->retrans_stamp + c->user_timeout_ms * NSEC_PER_MSEC));
        tcp_set_retrans(t, c, TCP_RTX_RTO, at);
        return;
    }
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, TIME_NEVER);
    if (!is_stuck(t, c, now))
        tcp_timer_set(t, c, TCP_TIMER_PROBE0, TIME_NEVER);
    else if (c->timer_at[TCP_TIMER_PROBE0] == TIME_NEVER)
        tcp_arm_probe0(t, c, now);
}

/* An ACK with nothing in flight: the window opened, or the peer lives and keeps it closed (tcp_ack_probe). */
static void ack_of_probe(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (is_stuck(t, c, now)) {
        tcp_arm_probe0(t, c, now);
        return;
    }
    c->backoff = 0;
    c->probe_begun_at = 0;
    if (c->probe_pending && c->probe_cause == TCP_CAUSE_PROBE_WINDOW)
        c->probe_pending = false;
    tcp_rearm_rto(t, c, now);
}

/* ---- the pipeline ------------------------------------------------------------------------------------ */

static void take_counts(struct tcp *t, struct tcp_conn *c)
{
    t->counters.split += c->sndq.splits;
    t->counters.merged += c->sndq.merges;
    t->counters.lost_retransmit += c->sndq.lost_retrans;
    t->counters.sack_walked += c->sndq.walked;
    t->counters.wqueue_too_big += c->sndq.refused;
    c->sndq.splits = c->sndq.merges = c->sndq.lost_retrans = c->sndq.walked = c->sndq.refused = 0;
}

/* Below snd_una, yet its SACK blocks may be news (RFC 2018 section 5.1 allows any order). */
static void old_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, struct tcp_ack_value *v,
                    uint64_t now)
{
    if (!c->sack_ok || seg->opt.sack_count == 0)
        return;
    sack_in(t, c, seg, v, now);
    if (v->sack.segs > 0 || v->dsack)
        tcp_recovery_ack(t, c, v, now);
    take_counts(t, c);
    if (t->rec && v->sack.segs > 0)
        tcp_rec_put_ack(t, c, v, now);
}

static void stages(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, struct tcp_ack_value *v,
                   uint64_t now)
{
    bool sampled;

    update_window(t, c, seg, v, now);
    sack_in(t, c, seg, v, now);
    clean_sent(c, seg->ack, now, v);
    if (v->una_advanced) {
        una_moved(t, c, seg->ack);
        tcp_mtup_acked(t, c, now);
    }
    if (v->prior_packets == 0) {
        if (v->dsack)
            tcp_recovery_ack(t, c, v, now);
        ack_of_probe(t, c, now);
        tcp_process_tlp_ack(t, c, v, seg->ack, now);
        return;
    }
    sampled = take_rtt(t, c, v, now);
    judge_timer(c, v, sampled, now);
    reordering_from_ack(t, c, v);
    tcp_cc_acked(t, c, v, now);
    tcp_rack_update_reo_wnd(t, c, v->sack.newest_delivered);
    tcp_process_tlp_ack(t, c, v, seg->ack, now);
    if (tcp_ack_is_dubious(c, v)) {
        if (!v->una_advanced && !v->has_data && !v->window_update && !v->dsack)
            v->num_dupack = v->n_segs;
        tcp_recovery_ack(t, c, v, now);
    }
    if (v->rearm && !tcp_schedule_loss_probe(t, c, true, now))
        tcp_rearm_rto(t, c, now);
    tcp_cong_control(t, c, v, now);
    tcp_cc_note_due(c);
    tcp_update_pacing_rate(t, c);
}

enum tcp_ack_verdict tcp_ack_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    enum tcp_ack_verdict verdict = verdict_of(c, seg->ack);
    struct tcp_ack_value v;

    if (verdict == TCP_ACK_UNSENT || verdict == TCP_ACK_TOO_OLD)
        return verdict;
    begin(c, seg, &v);
    c->tso_deferred = false;
    c->tx_refused = false;
    if (verdict == TCP_ACK_OLD) {
        old_ack(t, c, seg, &v, now);
        return verdict;
    }
    tcp_ecn_accept_cwr(t, c, seg);
    stages(t, c, seg, &v, now);
    take_counts(t, c);
    tcp_follow_path(t, c);
    if (t->rec)
        tcp_rec_put_ack(t, c, &v, now);
    tcp_check_space(t, c, now);
    if (!v.has_data)
        t->counters.pure_acks++;
    return verdict;
}

/* ---- beginnings -------------------------------------------------------------------------------------- */

void tcp_snd_init(struct tcp *t, struct tcp_conn *c)
{
    const struct tcp_config *config = t->config;

    c->snd_una = c->snd_nxt = c->snd_nxt_due = c->snd_sml = c->snd_up = c->iss;
    c->high_seq = c->undo_marker = c->retrans_high = c->iss;
    c->write_seq = c->pushed_seq = c->iss + 1;
    c->undo_marker = 0;
    tcp_sndbuf_init(&c->sndbuf, c->iss + 1, c->sndbuf.limit);
    tcp_writeq_init(&c->writeq, c->iss + 1);
    tcp_sndq_init(&c->sndq, &t->descs, c->iss);
    tcp_rtt_init(&c->rtt, (uint32_t)config->tcp_rto_initial * 1000u);
    c->reordering = (uint16_t)config->tcp_reordering;
    c->win = (struct cc_window){
        .cwnd = (uint32_t)config->tcp_initcwnd, .cwnd_clamp = UINT32_MAX, .ssthresh = CC_SSTHRESH_INFINITE};
    c->win.app_limited = UINT32_MAX; /* until the first ACK of data or of our SYN nothing filled the path */
    c->rate_app_limited = true;
    if (!c->cc)
        c->cc = cc_find(cc_name((unsigned)config->tcp_congestion_control));
    if (!c->max_pacing_rate)
        c->max_pacing_rate = UINT64_MAX;
    if (!c->pacing_rate)
        c->pacing_rate = UINT64_MAX;
    tcp_sync_mss(t, c, c->path.mtu);
}

void tcp_synack_rtt(struct tcp *t, struct tcp_conn *c, uint64_t rtt_us, uint64_t now)
{
    if (rtt_us >= UINT32_MAX)
        return;
    tcp_rtt_update_min(&c->rtt, (uint32_t)rtt_us, now);
    tcp_rtt_sample(&c->rtt, (uint32_t)rtt_us, c->snd_una, c->snd_nxt,
                   (uint32_t)t->config->tcp_rto_min * 1000u, rto_max_us(t));
}

/* RFC 6928; RFC 5681 section 3.1: one segment where more than one SYN was lost. */
static uint32_t initial_cwnd(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t cwnd = c->path.initcwnd ? c->path.initcwnd : (uint32_t)t->config->tcp_initcwnd;

    if (c->total_syn_retrans > 1)
        return 1;
    return cwnd < c->win.cwnd_clamp ? cwnd : c->win.cwnd_clamp;
}

void tcp_init_transfer(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_mtup_init(t, c, now);
    tcp_metrics_read(t, c, now);
    c->win.cwnd = initial_cwnd(t, c);
    c->win.cwnd_cnt = 0;
    c->snd_cwnd_stamp = now;
    tcp_cc_init(t, c, now);
    tcp_sndbuf_expand(t, c);
    tcp_update_pacing_rate(t, c);
}

/*
 * The SYN, and what of its data the segment acknowledges. Without a descriptor (the SYN-ACK was a half-open
 * entry's) the queue begins behind it.
 */
static void take_handshake_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    struct tcp_ack_value v = {.prior_una = c->snd_una};

    if (tcp_sndq_empty(&c->sndq)) {
        tcp_sndq_init(&c->sndq, &t->descs, c->iss + 1);
        c->delivered++;
        c->snd_una = c->iss + 1;
    } else {
        clean_sent(c, seg->ack, now, &v);
        if (!c->sack_ok)
            c->delivered += v.acked_segs;
        c->win.app_limited = 0;
        una_moved(t, c, seg->ack); /* an active open counts the SYN as a byte acknowledged, as in Linux */
    }
    c->snd_nxt = c->sndq.nxt;
}

void tcp_snd_established(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t rtt_us,
                         uint64_t now)
{
    take_handshake_ack(t, c, seg, now);
    c->snd_sml = c->snd_up = c->high_seq = c->snd_una;
    c->pushed_seq = c->snd_nxt;
    c->snd_wnd = (uint32_t)seg->wnd << (seg->flags & TCP_SYN ? 0 : c->snd_wscale);
    c->snd_wl1 = seg->seq;
    c->max_window = c->snd_wnd > c->max_window ? c->snd_wnd : c->max_window;
    c->backoff = 0;
    c->retransmits = 0;
    c->retrans_stamp = 0;
    c->ca_state = TCP_CA_OPEN;
    if (rtt_us == UINT64_MAX && c->ts_ok && seg->opt.timestamps_ok && seg->opt.tsecr) {
        struct tcp_ack_value v = {.tsecr = seg->opt.tsecr};

        rtt_us = tsecr_rtt_us(c, &v, now);
    }
    tcp_synack_rtt(t, c, rtt_us, now);
    if (!c->listener)
        tcp_mtup_init(t, c, now); /* active: begins with what surely passes; passive: with what the path says */
    tcp_sync_mss(t, c, c->pmtu ? c->pmtu : c->path.mtu);
    c->lsndtime = now; /* the first data is not sent after an idle time */
    c->cwnd_usage_seq = c->snd_una;
    tcp_init_transfer(t, c, now);
    tcp_rearm_rto(t, c, now);
}

/* ---- segment size ------------------------------------------------------------------------------------ */

/*
 * Half the largest window seen, so that the receiver's SWS avoidance can't stall us (tcp_bound_to_half_wnd).
 */
static uint32_t bound_to_half_window(const struct tcp_conn *c, uint32_t mss)
{
    uint32_t cutoff = c->max_window > TCP_MSS_DEFAULT ? c->max_window / 2 : c->max_window;

    if (cutoff == 0 || mss <= cutoff)
        return mss;
    return cutoff > TCP_MIN_SND_MSS ? cutoff : TCP_MIN_SND_MSS;
}

uint32_t tcp_mss_options(const struct tcp_conn *c)
{
    return (c->ts_ok ? TCP_OPT_TS_ALIGNED : 0) + (c->md5_key[0] ? TCP_OPT_MD5_ALIGNED : 0);
}

/* RFC 6691: MSS options ignore options, so what a segment holds is less by ours (tcp_mtu_to_mss). */
uint32_t tcp_mtu_to_mss(const struct tcp *t, const struct tcp_conn *c, uint32_t mtu)
{
    uint32_t headers = tcp_ip_headers_bytes(c->tuple.remote.family);
    uint32_t mss = mtu > headers ? mtu - headers : 0;

    if (mss > c->mss_clamp)
        mss = c->mss_clamp;
    if (c->user_mss && mss > c->user_mss)
        mss = c->user_mss;
    if (mss < (uint32_t)t->config->tcp_min_snd_mss)
        mss = (uint32_t)t->config->tcp_min_snd_mss;
    return mss - tcp_mss_options(c);
}

uint32_t tcp_mss_at(const struct tcp *t, const struct tcp_conn *c, uint16_t pmtu)
{
    uint32_t mss = bound_to_half_window(c, tcp_mtu_to_mss(t, c, pmtu));
    uint32_t known = c->mtup.enabled ? tcp_mtu_to_mss(t, c, c->mtup.search_low) : mss;

    return mss < known ? mss : known;
}

void tcp_sync_mss(struct tcp *t, struct tcp_conn *c, uint16_t pmtu)
{
    if (c->mtup.search_high > pmtu)
        c->mtup.search_high = pmtu;
    c->mss = (uint16_t)tcp_mss_at(t, c, pmtu);
    c->pmtu = pmtu;
    (void)tcp_sndq_set_mss(&c->sndq, c->mss);
}
