/*
 * tcp/input.c: a segment arrives. RFC 9293 section 3.10.7, one function per step, in its order.
 *
 * tcp_input() finds what the segment belongs to; conn_input() runs the steps of the connection's state. A
 * step returns true to go on with the next one; with false the segment is done with (used up, or dropped with
 * a reason). Steps mark what is owed (ACKs, RSTs as reply intents, READY); none builds a segment. A step may
 * end the connection (CLOSE, dead); it is freed behind the last step only.
 *
 * The checks are Linux's: PAWS before the sequence number (tcp_validate_incoming), RFC 5961 for RST, SYN and
 * ACK.
 */
#include "tcp/tcp_priv.h"

#define PAWS_WINDOW    1                   /* Linux TCP_PAWS_WINDOW: ticks of reordering forgiven */
#define TIMEOUT_MIN_NS (2 * NSEC_PER_MSEC) /* Linux TCP_TIMEOUT_MIN with HZ 1000 */

static uint32_t segments_of(const struct tcp_seg *seg)
{
    if (!seg->gso_size || seg->len <= seg->gso_size)
        return 1;
    return (seg->len + seg->gso_size - 1) / seg->gso_size;
}

static uint32_t seg_end(const struct tcp_seg *seg)
{
    return seg->seq + tcp_seg_seq_len(seg);
}

static bool fin_acked(const struct tcp_conn *c)
{
    return c->fin_queued && c->snd_una == c->write_seq + 1;
}

/* ---- timestamps, RFC 7323
 * ------------------------------------------------------------------------------------- */

static void store_ts_recent(struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    c->ts_recent = seg->opt.tsval;
    c->ts_recent_at = now ? now : 1;
}

/* Is tsval not older than ts_recent by more than `window` ticks? (RFC 7323 section 5.3 R1, 5.5: 24 days) */
static bool paws_passes(const struct tcp_conn *c, const struct tcp_seg *seg, int32_t window, uint64_t now)
{
    if ((int32_t)(c->ts_recent - seg->opt.tsval) <= window || !c->ts_recent_at)
        return true;
    return time_since(now, c->ts_recent_at) >= TCP_TIMEWAIT_PAWS_S * NSEC_PER_SEC;
}

/* Would this ACK change snd_wnd? (tcp_may_update_window) */
static bool may_update_window(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t wnd = (uint32_t)seg->wnd << c->snd_wscale;

    return seq_gt(seg->ack, c->snd_una) || seq_gt(seg->seq, c->snd_wl1) ||
           (seg->seq == c->snd_wl1 && (wnd > c->snd_wnd || !wnd));
}

/* A pure duplicate ACK, delayed in the network: no danger, and it may carry SACK (tcp_disordered_ack). */
static bool disordered_ack(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t replay_ms = c->rtt.rto_us / 1000;

    return (seg->flags & TCP_ACK) && tcp_seg_seq_len(seg) == 0 && seg->seq == c->rcv_nxt &&
           seg->ack == c->snd_una && !may_update_window(c, seg) && c->ts_recent - seg->opt.tsval <= replay_ms;
}

static bool paws_rejects(const struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    return c->ts_ok && seg->opt.timestamps_ok && !paws_passes(c, seg, PAWS_WINDOW, now) &&
           !disordered_ack(c, seg);
}

/* RFC 7323 section 4.3: only a segment at or before Last.ACK.sent may set TS.Recent (tcp_replace_ts_recent).
 */
static void replace_ts_recent(struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (c->ts_ok && seg->opt.timestamps_ok && seq_leq(seg->seq, c->rcv_wup) && paws_passes(c, seg, 0, now))
        store_ts_recent(c, seg, now);
}

/* ---- 3.10.7.1 CLOSED
 * ------------------------------------------------------------------------------------------ */

static void closed_input(struct tcp *t, const struct tcp_seg *seg)
{
    if (seg->flags & TCP_RST) {
        tcp_drop(t, NULL, TCP_DROP_RST_NO_SOCKET);
        return;
    }
    tcp_drop(t, NULL, TCP_DROP_NO_SOCKET);
    if (tcp_md5_may_reset(t, seg))
        tcp_reply_rst(t, seg, TCP_CAUSE_RST_NO_SOCKET);
}

static void conn_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);

/* ---- 3.10.7.2 LISTEN
 * ------------------------------------------------------------------------------------------ */

static void listen_input(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg,
                         const struct tcp_path *path, uint64_t now)
{
    /* First, check for a RST. */
    if (seg->flags & TCP_RST) {
        tcp_drop(t, NULL, TCP_DROP_LISTEN_RST);
        return;
    }
    /* Second, check for an ACK: nothing was ever sent from here, unless it was a SYN cookie. */
    if ((seg->flags & TCP_ACK) && !(seg->flags & TCP_SYN)) {
        bool mine;
        struct tcp_conn *c = tcp_listen_cookie(t, l, seg, path, now, &mine);

        if (c)
            conn_input(t, c, seg, now);
        if (mine)
            return;
    }
    if (seg->flags & TCP_ACK) {
        tcp_drop(t, NULL, TCP_DROP_NO_SOCKET);
        tcp_reply_rst(t, seg, TCP_CAUSE_RST_BAD_ACK);
        return;
    }
    /* Third, check for a SYN. SYN with FIN opens nothing, as in Linux. Fourth: anything else is dropped. */
    if (!(seg->flags & TCP_SYN)) {
        tcp_drop(t, NULL, seg->flags & TCP_FIN ? TCP_DROP_LISTEN_FIN : TCP_DROP_BAD_FLAGS);
        return;
    }
    if (seg->flags & TCP_FIN) {
        tcp_drop(t, NULL, TCP_DROP_BAD_FLAGS);
        return;
    }
    tcp_listen_syn(t, l, seg, path, now);
}

/* ---- 3.10.7.3 SYN-SENT
 * ---------------------------------------------------------------------------------------- */

/* Does the echoed timestamp lie between our first SYN's and now? (Linux: PAWSActiveRejected) */
static bool tsecr_was_sent(const struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    uint32_t first = tcp_ts_clock(c->retrans_stamp, c->ts_offset);

    if (!c->ts_ok || !seg->opt.timestamps_ok || !seg->opt.tsecr)
        return true;
    return seq_between(seg->opt.tsecr, first, tcp_ts_clock(now, c->ts_offset));
}

/* First, check the ACK bit. */
static bool syn_sent_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    bool acceptable = seq_gt(seg->ack, c->snd_una) && seq_leq(seg->ack, c->snd_nxt);

    if (!(seg->flags & TCP_ACK) || (acceptable && tsecr_was_sent(c, seg, now)))
        return true;
    tcp_drop(t, c, acceptable ? TCP_DROP_TSECR : TCP_DROP_SYN_SENT_BAD_ACK);
    if (!acceptable && c->retransmits == 0 && c->snd_nxt != c->snd_una) {
        /* An old connection's ACK: our SYN may have been ignored, it goes again soon (as in Linux). */
        tcp_timer_set(t, c, TCP_TIMER_RETRANS, now + TIMEOUT_MIN_NS);
    }
    if (!(seg->flags & TCP_RST))
        tcp_reply_rst(t, seg, TCP_CAUSE_RST_BAD_ACK);
    return false;
}

/* Second, check the RST bit: only with an acceptable ACK it means us (RFC 9293, RFC 5961 section 3). */
static bool syn_sent_rst(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!(seg->flags & TCP_RST))
        return true;
    if (seg->flags & TCP_ACK)
        tcp_reset_in(t, c, now);
    else
        tcp_drop(t, c, TCP_DROP_SYN_SENT_RST);
    return false;
}

/* Options of the peer's SYN: what we offered and it offers too. */
static void take_syn_options(const struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    const struct tcp_options *opt = &seg->opt;

    c->mss_clamp = opt->mss_ok && opt->mss ? opt->mss : (uint16_t)TCP_MSS_DEFAULT;
    if (c->user_mss && c->user_mss < c->mss_clamp)
        c->mss_clamp = c->user_mss;
    c->ts_ok = c->ts_ok && opt->timestamps_ok;
    c->sack_ok = c->sack_ok && opt->sack_permitted;
    c->dsack_ok = c->sack_ok && t->config->tcp_dsack;
    c->wscale_ok = c->wscale_ok && opt->wscale_ok;
    if (c->wscale_ok) {
        /* RFC 7323 section 2.3: more than 14 is taken as 14. */
        c->snd_wscale = opt->wscale > TCP_MAX_WSCALE ? TCP_MAX_WSCALE : opt->wscale;
    } else {
        c->snd_wscale = 0;
        c->rcv_wscale = 0;
        if (c->window_clamp > 65535)
            c->window_clamp = 65535;
    }
    if (c->ts_ok)
        store_ts_recent(c, seg, now);
    tcp_ecn_syn_in(c, seg);
}

/* RCV.NXT = SEG.SEQ + 1, IRS = SEG.SEQ, SND.WND = SEG.WND (windows of SYNs are not scaled, RFC 7323
 * section 2.2). */
static void take_syn_numbers(struct tcp_conn *c, const struct tcp_seg *seg)
{
    c->irs = seg->seq;
    c->rcv_nxt = seg->seq + 1;
    c->rcv_wup = c->rcv_nxt;
    c->copied_seq = c->rcv_nxt;
    c->last_ack_sent = c->rcv_nxt;
    c->snd_wnd = seg->wnd;
    c->snd_wl1 = seg->seq;
    c->max_window = seg->wnd;
}

/* What the peer's segments hold besides the timestamp option, which every one will carry from now on. */
static void advmss_less_timestamps(struct tcp_conn *c)
{
    if (c->ts_ok && c->advmss > TCP_OPT_TS_ALIGNED)
        c->advmss = (uint16_t)(c->advmss - TCP_OPT_TS_ALIGNED);
}

/* What both ways into ESTABLISHED have in common. */
static void enter_established(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    bool active = c->state == TCP_STATE_SYN_SENT;
    uint64_t rtt_us = UINT64_MAX;

    if (c->total_syn_retrans == 0 && c->retrans_stamp)
        rtt_us = time_since(now, c->retrans_stamp) / NSEC_PER_USEC;
    c->retrans_stamp = 0;
    c->retransmits = 0;
    tcp_rto_over(c, now);
    c->backoff = 0;
    c->syn_pending = false;
    c->error_soft = 0;
    c->rcv_tstamp = now;
    c->last_data_recv_at = now;
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, TIME_NEVER);
    tcp_set_state(t, c, TCP_STATE_ESTABLISHED, now);
    if (active)
        advmss_less_timestamps(c);
    tcp_snd_established(t, c, seg, rtt_us, now);
    tcp_rcv_established(t, c, now);
    if (!active) /* its first buffer is for one that is not reduced, as in Linux */
        advmss_less_timestamps(c);
    tcp_keepalive_start(t, c, now);
    c->want_writable = false;
    tcp_raise(t, c, TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE);
}

/* Data to carry the handshake's ACK will come soon (tcp_rcv_synsent_state_process). */
static bool ack_can_wait(const struct tcp_conn *c)
{
    return !c->fin_received && (c->write_pending || c->defer_accept || tcp_ackowed_in_pingpong(&c->ackowed));
}

static void owe_handshake_ack(struct tcp *t, struct tcp_conn *c, bool later, uint64_t now)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (!later) {
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_HANDSHAKE);
        return;
    }
    tcp_enter_quickack_mode(c, TCP_MAX_QUICKACKS);
    o->delack_at = now + (uint32_t)t->config->tcp_delack_max * NSEC_PER_MSEC;
    o->pending |= TCP_ACK_SCHED | TCP_ACK_TIMER;
    tcp_timer_set(t, c, TCP_TIMER_DELACK, o->delack_at);
}

/* Fourth, check the SYN bit. Fifth: neither SYN nor RST, dropped. */
static void syn_sent_syn(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!(seg->flags & TCP_SYN)) {
        tcp_drop(t, c, TCP_DROP_SYN_SENT_NO_SYN);
        return;
    }
    take_syn_options(t, c, seg, now);
    take_syn_numbers(c, seg);
    if (seg->flags & TCP_ACK) {
        enter_established(t, c, seg, now);
        owe_handshake_ack(t, c, !tcp_fastopen_synack(t, c, seg, now) && ack_can_wait(c), now);
        return;
    }
    /* Simultaneous open: SYN,ACK <SEQ=ISS><ACK=RCV.NXT>; what else the segment holds will come again. */
    tcp_set_state(t, c, TCP_STATE_SYN_RECV, now);
    tcp_sync_mss(t, c, c->pmtu);
    c->syn_pending = true;
    tcp_mark_ready(t, c);
}

static void syn_sent_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (syn_sent_ack(t, c, seg, now) && syn_sent_rst(t, c, seg, now))
        syn_sent_syn(t, c, seg, now);
}

/* ---- 3.10.7.4 Otherwise
 * --------------------------------------------------------------------------------------- */

/* RFC 5961 section 4: a SYN on a synchronised connection is never believed. */
static bool challenge_syn(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_drop(t, c, TCP_DROP_SYN_CHALLENGED);
    t->counters.syn_challenges++;
    tcp_owe_challenge(t, c, TCP_CAUSE_ACK_CHALLENGE, now);
    return false;
}

/* An ACK to a segment that was refused; data is exempt from the limit: it is no part of an ACK loop. */
static void answer_refused(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, enum tcp_cause cause,
                           unsigned long long *skipped, uint64_t now)
{
    bool data = seg->len && !(seg->flags & TCP_SYN);

    if (data || tcp_invalid_ack_allowed(t, &c->invalid_ack_at, now)) {
        tcp_owe_dupack(t, c, seg, cause);
        return;
    }
    ++*skipped;
    tcp_drop(t, c, TCP_DROP_CHALLENGE_LIMIT);
}

/* A RST one below rcv_nxt, from a peer that doesn't count its FIN (Linux tcp_reset_check). */
static bool rst_below_fin(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    return seg->seq == c->rcv_nxt - 1 && (c->state == TCP_STATE_CLOSE_WAIT ||
                                          c->state == TCP_STATE_LAST_ACK || c->state == TCP_STATE_CLOSING);
}

/* RFC 7323 section 5.3 R1. RSTs are exempt (section 5.2). */
static bool step1_paws(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!paws_rejects(c, seg, now) || (seg->flags & TCP_RST))
        return true;
    if (seg->flags & TCP_SYN)
        return challenge_syn(t, c, now);
    tcp_drop(t, c, TCP_DROP_PAWS);
    t->counters.paws_estab++;
    answer_refused(t, c, seg, TCP_CAUSE_ACK_UNACCEPTABLE, &t->counters.skipped_paws, now);
    return false;
}

static enum tcp_cause refused_cause(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    if (seg->seq == c->rcv_nxt - 1 && seg->len <= 1)
        return TCP_CAUSE_ACK_KEEPALIVE;
    if (seq_leq(seg_end(seg), c->rcv_nxt))
        return TCP_CAUSE_ACK_DUPLICATE;
    return TCP_CAUSE_ACK_UNACCEPTABLE;
}

/*
 * First, check sequence number. Linux's tcp_sequence(): anything that ends at or behind rcv_wup and begins at
 * or before the window's end will do; what of it lies outside is cut off with the text.
 */
static bool step1_sequence(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!step1_paws(t, c, seg, now))
        return false;
    if (seq_geq(seg_end(seg), c->rcv_wup) && seq_leq(seg->seq, c->rcv_nxt + tcp_receive_window(c)))
        return true;
    if (seg->flags & TCP_RST) {
        if (rst_below_fin(c, seg))
            tcp_reset_in(t, c, now);
        else
            tcp_drop(t, c, TCP_DROP_RST_OUT_OF_WINDOW);
        return false;
    }
    if (seg->flags & TCP_SYN)
        return challenge_syn(t, c, now);
    tcp_drop(t, c, seq_lt(seg_end(seg), c->rcv_wup) && seg->len ? TCP_DROP_OLD_DATA : TCP_DROP_OUT_OF_WINDOW);
    answer_refused(t, c, seg, refused_cause(c, seg), &t->counters.skipped_seq, now);
    return false;
}

/* The right edge of what we have out of order: a peer that lost its state may reset there (Linux, RFC 5961).
 */
static bool rst_at_highest_sack(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    const struct tcp_rcvq *q = &c->rcvq;

    return c->sack_ok && q->n_ranges && seg->seq == q->range[q->n_ranges - 1].end;
}

/* Second, check the RST bit. RFC 5961 section 3.2: exactly at rcv_nxt it is believed, else challenged. */
static bool step2_rst(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!(seg->flags & TCP_RST))
        return true;
    if (seg->seq == c->rcv_nxt || rst_below_fin(c, seg) || rst_at_highest_sack(c, seg)) {
        tcp_reset_in(t, c, now);
        return false;
    }
    tcp_drop(t, c, TCP_DROP_RST_NOT_EXACT);
    tcp_owe_challenge(t, c, TCP_CAUSE_ACK_CHALLENGE, now);
    return false;
}

/* Third: security and compartment, which nobody has. Fourth, check the SYN bit. */
static bool step4_syn(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!(seg->flags & TCP_SYN))
        return true;
    /* The SYN-ACK of a simultaneous open: its SYN has been seen, its ACK is what we wait for. */
    if (c->state == TCP_STATE_SYN_RECV && (seg->flags & TCP_ACK) && tcp_seg_seq_len(seg) == 1 &&
        seg->seq + 1 == c->rcv_nxt && seg->ack == c->snd_nxt)
        return true;
    return challenge_syn(t, c, now);
}

/* SYN-RECEIVED: SND.UNA < SEG.ACK =< SND.NXT establishes, anything else is reset. */
static bool step5_syn_recv(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (!seq_gt(seg->ack, c->snd_una) || seq_gt(seg->ack, c->snd_nxt)) {
        tcp_drop(t, c, TCP_DROP_REQ_BAD_ACK);
        tcp_reply_rst(t, seg, TCP_CAUSE_RST_BAD_ACK);
        return false;
    }
    c->snd_wnd = (uint32_t)seg->wnd << (seg->flags & TCP_SYN ? 0 : c->snd_wscale);
    c->snd_wl1 = seg->seq;
    if (c->max_window < c->snd_wnd)
        c->max_window = c->snd_wnd;
    replace_ts_recent(c, seg, now);
    enter_established(t, c, seg, now);
    /* A crossed SYN-ACK brings the SYN a second time: told so, with D-SACK, as in Linux. */
    if (seg->flags & TCP_SYN)
        tcp_owe_dupack(t, c, seg, TCP_CAUSE_ACK_DUPLICATE);
    (void)tcp_fastopen_synack(t, c, seg, now);
    if (c->shutdown & TCP_SHUT_WR)
        tcp_queue_fin(t, c, now);
    return true;
}

/* SYN-RECEIVED of a Fast Open: snd_una =< SEG.ACK, for the SYN is no part of what is in flight. */
static bool step5_fastopen(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (tcp_ack_in(t, c, seg, now) != TCP_ACK_OK) {
        tcp_drop(t, c, TCP_DROP_REQ_BAD_ACK);
        tcp_reply_rst(t, seg, TCP_CAUSE_RST_BAD_ACK);
        return false;
    }
    replace_ts_recent(c, seg, now);
    tcp_fastopen_established(t, c, seg, now);
    advmss_less_timestamps(c);
    c->error_soft = 0;
    c->rcv_tstamp = now;
    tcp_set_state(t, c, TCP_STATE_ESTABLISHED, now);
    tcp_sync_mss(t, c, c->pmtu);
    tcp_update_pacing_rate(t, c);
    c->lsndtime = now;
    tcp_keepalive_start(t, c, now);
    tcp_raise(t, c, TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE);
    if (c->shutdown & TCP_SHUT_WR)
        tcp_queue_fin(t, c, now);
    return true;
}

/* Which of the two ways to be in SYN-RECEIVED. */
static bool step5_opening(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    return c->fastopen_rsk ? step5_fastopen(t, c, seg, now) : step5_syn_recv(t, c, seg, now);
}

/* ESTABLISHED and later: the pipeline of ack.c. */
static bool step5_synchronised(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    switch (tcp_ack_in(t, c, seg, now)) {
    case TCP_ACK_OK:
        replace_ts_recent(c, seg, now);
        c->error_soft = 0;
        c->probes_out = 0;
        c->rcv_tstamp = now;
        return true;
    case TCP_ACK_OLD:
        tcp_drop(t, c, TCP_DROP_ACK_OLD);
        return true;
    case TCP_ACK_TOO_OLD:
        /* RFC 5961 section 5 */
        tcp_drop(t, c, TCP_DROP_ACK_TOO_OLD);
        tcp_owe_challenge(t, c, TCP_CAUSE_ACK_CHALLENGE, now);
        return false;
    case TCP_ACK_UNSENT:
    default:
        tcp_drop(t, c, TCP_DROP_ACK_UNSENT);
        if (c->state != TCP_STATE_ESTABLISHED) /* there Linux says nothing, against RFC 9293 section 3.10.7.4 */
            tcp_owe_challenge(t, c, TCP_CAUSE_ACK_UNACCEPTABLE, now);
        return false;
    }
}

/* Data for a connection whose program is gone: Linux resets (RFC 1122 section 4.2.2.13). */
static bool data_after_close(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    return (!c->owned || (c->shutdown & TCP_SHUT_RD)) && seg->len && seq_gt(seg->seq + seg->len, c->rcv_nxt);
}

/* The RST is the answer to the segment, with its ACK as sequence number. */
static void reset_after_close(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, int error, uint64_t now)
{
    tcp_drop(t, c, TCP_DROP_DATA_AFTER_CLOSE);
    tcp_rec_put_reset(c, TCP_CAUSE_RST_DATA_AFTER_CLOSE);
    t->counters.abort_on_data++;
    tcp_reply_rst(t, seg, TCP_CAUSE_RST_DATA_AFTER_CLOSE);
    tcp_done(t, c, error, true, now);
}

/* FIN-WAIT-1: if our FIN is acknowledged, FIN-WAIT-2; an orphan stays there for a limited time. */
static bool step5_fin_wait1(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    tcp_set_state(t, c, TCP_STATE_FIN_WAIT2, now);
    if (c->owned)
        return true;
    if (c->linger2_s < 0 || data_after_close(c, seg)) {
        reset_after_close(t, c, seg, 0, now);
        return false;
    }
    tcp_timer_set(t, c, TCP_TIMER_LINGER, time_add(now, tcp_fin_time(t, c)));
    return true;
}

/* Fifth, check the ACK field. */
static bool step5_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    bool ok =
        c->state == TCP_STATE_SYN_RECV ? step5_opening(t, c, seg, now) : step5_synchronised(t, c, seg, now);

    /* A Fast Open that was closed before its handshake was complete. */
    if (ok && c->state == TCP_STATE_FIN_WAIT1)
        tcp_fastopen_established(t, c, seg, now);

    if (!ok || !fin_acked(c))
        return ok;
    switch (c->state) {
    case TCP_STATE_FIN_WAIT1:
        return step5_fin_wait1(t, c, seg, now);
    case TCP_STATE_CLOSING:
        tcp_time_wait(t, c, now);
        return false;
    case TCP_STATE_LAST_ACK:
        tcp_metrics_write(t, c, now);
        tcp_done(t, c, 0, true, now);
        return false;
    default:
        return true;
    }
}

/* Sixth, check the URG bit (tcp_check_urg): the mark only moves forward; where it points is Linux's choice.
 */
static void step6_urg(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t up = seg->seq + seg->urg_ptr;

    if (!(seg->flags & TCP_URG) || !seg->urg_ptr)
        return;
    if (t->config->tcp_stdurg == 0)
        up--;
    if (seq_lt(up, c->copied_seq) || seq_lt(up, c->rcv_nxt) || (c->urg_seen && seq_leq(up, c->rcv_up)))
        return;
    c->rcv_up = up;
    c->urg_seen = true;
    tcp_raise(t, c, TCP_EVENT_URGENT);
}

/* Seventh, process the segment text; eighth, check the FIN bit (tcp_data_in() calls tcp_fin_in()). */
static void step7_text(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if ((c->state == TCP_STATE_FIN_WAIT1 || c->state == TCP_STATE_FIN_WAIT2) && data_after_close(c, seg)) {
        reset_after_close(t, c, seg, c->owned ? ECONNRESET : 0, now);
        return;
    }
    tcp_data_in(t, c, seg, now);
}

static void synchronised_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (c->fastopen_rsk && !tcp_fastopen_check(t, c, seg, now))
        return;
    if (!(seg->flags & (TCP_ACK | TCP_RST | TCP_SYN))) {
        tcp_drop(t, c, TCP_DROP_BAD_FLAGS);
        return;
    }
    if (!step1_sequence(t, c, seg, now) || !step2_rst(t, c, seg, now) || !step4_syn(t, c, seg, now))
        return;
    if (!(seg->flags & TCP_ACK)) {
        tcp_drop(t, c, TCP_DROP_BAD_FLAGS);
        return;
    }
    if (!step5_ack(t, c, seg, now))
        return;
    step6_urg(t, c, seg);
    step7_text(t, c, seg, now);
}

/* The ACK of a FIN whose connection becomes a TIME-WAIT entry at once: it can't be owed to the connection. */
static void reply_fin_ack(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint32_t wnd = tcp_select_window(t, c) >> c->rcv_wscale;
    struct tcp_reply_ack r = {
        .tuple = c->tuple,
        .seq = c->snd_nxt,
        .ack = c->rcv_nxt,
        .wnd = (uint16_t)(wnd > 65535 ? 65535 : wnd),
        .ts_ok = c->ts_ok,
        .tsval = tcp_ts_clock(now, c->ts_offset),
        .tsecr = c->ts_recent,
        .cause = TCP_CAUSE_ACK_FIN,
    };

    tcp_reply_ack(t, &r);
}

/* Eighth, check the FIN bit. */
void tcp_fin_in(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_raise(t, c, TCP_EVENT_PEER_CLOSED);
    switch (c->state) {
    case TCP_STATE_SYN_RECV:
    case TCP_STATE_ESTABLISHED:
        tcp_set_state(t, c, TCP_STATE_CLOSE_WAIT, now);
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_FIN);
        break;
    case TCP_STATE_FIN_WAIT1:
        /* Our FIN is not acknowledged yet, otherwise step 5 would have left this state. */
        tcp_set_state(t, c, TCP_STATE_CLOSING, now);
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_FIN);
        break;
    case TCP_STATE_FIN_WAIT2:
        reply_fin_ack(t, c, now);
        tcp_time_wait(t, c, now);
        break;
    default:
        break; /* CLOSE-WAIT, CLOSING, LAST-ACK: remain */
    }
}

/* Step 2: the connection was reset. What the program hears is Linux's choice (tcp_reset). */
void tcp_reset_in(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    int error;

    switch (c->state) {
    case TCP_STATE_SYN_SENT:
        error = ECONNREFUSED;
        break;
    case TCP_STATE_CLOSE_WAIT:
        error = EPIPE;
        break;
    case TCP_STATE_CLOSE:
        return;
    default:
        error = ECONNRESET;
        break;
    }
    tcp_done(t, c, error, true, now);
}

/* ---- demultiplexing
 * ------------------------------------------------------------------------------------------- */

static void conn_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    uint32_t segs = segments_of(seg);

    tcp_busy_with(t, c->id);
    if (t->params.crash_port && t->params.crash_port == c->tuple.local_port && (seg->flags & TCP_URG))
        abort();
    tcp_rec_verb(t, c, now);
    c->segs_in += segs;
    if (seg->len)
        c->data_segs_in += segs;
    if (c->state == TCP_STATE_SYN_SENT)
        syn_sent_input(t, c, seg, now);
    else if (!tcp_fast_path(t, c, seg, now))
        synchronised_input(t, c, seg, now);
    if (c->state != TCP_STATE_CLOSE) {
        tcp_follow_up(t, c, now);
        tcp_timers_settle(t, c);
        tcp_mark_dirty(t, c);
    }
    tcp_rec_settle(t, c, now);
    tcp_conn_reap(t, c);
    tcp_busy_with(t, 0);
}

/*
 * A half-open entry was completed by a SYN-ACK: its SYN lies before the window and was cut off there; what is
 * left is an ACK, perhaps with text (RFC 9293 section 3.10.7.4, fourth step). The window of a SYN is not
 * scaled.
 */
static void completed_by_syn_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    struct tcp_seg rest = *seg;

    rest.flags = (uint16_t)(rest.flags & ~TCP_SYN);
    rest.seq++;
    rest.wnd = (uint16_t)(rest.wnd >> c->snd_wscale);
    conn_input(t, c, &rest, now);
}

/*
 * The key that a segment for this entry must be signed with. A SYN for a TIME-WAIT entry may open a new connection: its
 * listener's key counts.
 */
static uint16_t entry_md5(const struct tcp *t, const void *entry, enum tcp_kind kind, const struct tcp_seg *seg)
{
    const struct tcp_listener *l;

    if (kind == TCP_KIND_CONN)
        return ((const struct tcp_conn *)entry)->md5_key[0];
    if (kind == TCP_KIND_REQ)
        return tcp_req_md5(t, entry);
    if (kind != TCP_KIND_TW)
        return 0;
    l = (seg->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN ? tcp_lookup_listener(t, &seg->dst, seg->dst_port) : NULL;
    return l ? tcp_md5_of_listener(l, &seg->src) : tcp_tw_md5(entry);
}

/*
 * Of a connection that was not the last one nothing may be in the cache: its lines come all at once, not one after
 * another as they are touched (all, for the commit of the turn reads them all); then what its queues point to.
 */
static void fetch(struct tcp *t, const struct tcp_conn *c)
{
    if (t->fetched == c)
        return;
    t->fetched = c;
    for (size_t i = 64; i <= offsetof(struct tcp_conn, causes); i += 64)
        __builtin_prefetch((const char *)c + i, 1);
    __builtin_prefetch(c->rcvq.ring, 1);
    __builtin_prefetch(c->sndbuf.ring, 1);
    __builtin_prefetch(c->sndq.ring, 1);
    __builtin_prefetch(c->writeq.ring, 1);
}

/* True: the segment belongs to an entry, which took it, or is not signed as it should be. */
static bool entry_input(struct tcp *t, const struct tcp_seg *seg, uint64_t now)
{
    struct ip_tuple tuple = {seg->dst, seg->src, seg->dst_port, seg->src_port};
    enum tcp_kind kind = TCP_KIND_FREE;
    void *entry = tcp_lookup_tuple(t, &tuple, &kind);
    struct tcp_conn *c;

    if (entry && kind == TCP_KIND_PARKED)
        entry = tcp_wake_entry(t, entry, &kind);
    tcp_rec_verb(t, NULL, now);
    tcp_rec_seg_in(t, entry && kind == TCP_KIND_CONN ? entry : NULL, seg, now);
    if (!entry)
        return false;
    if (kind == TCP_KIND_CONN)
        fetch(t, entry);
    if (!tcp_md5_check(t, kind == TCP_KIND_CONN ? entry : NULL, entry_md5(t, entry, kind, seg), seg))
        return true;
    switch (kind) {
    case TCP_KIND_CONN:
        conn_input(t, entry, seg, now);
        return true;
    case TCP_KIND_REQ:
        c = tcp_req_input(t, entry, seg, now);
        if (c && (seg->flags & TCP_SYN))
            completed_by_syn_ack(t, c, seg, now);
        else if (c)
            conn_input(t, c, seg, now);
        return true;
    case TCP_KIND_TW:
        return !tcp_tw_input(t, entry, seg, now);
    case TCP_KIND_PARKED: /* it sends that again */
        tcp_drop(t, NULL, TCP_DROP_WAKE_NO_MEMORY);
        return true;
    case TCP_KIND_FREE:
    default:
        return false;
    }
}

void tcp_input(struct tcp *t, const struct tcp_seg *seg, const struct tcp_path *path, uint64_t now)
{
    struct tcp_listener *l;

    t->now = now;
    t->counters.in_frames++;
    t->counters.in_segs += segments_of(seg);
    if (!entry_input(t, seg, now)) {
        l = tcp_lookup_listener(t, &seg->dst, seg->dst_port);
        if (!l)
            closed_input(t, seg);
        else if (tcp_md5_check(t, NULL, tcp_md5_of_listener(l, &seg->src), seg))
            listen_input(t, l, seg, path, now);
    }
    tcp_md5_unref(t, t->md5_in);
    t->md5_in = 0;
}
