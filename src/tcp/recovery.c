/*
 * tcp/recovery.c: what is lost, what follows from it for cwnd, and when it is over: Linux's states Open,
 * Disorder, CWR, Recovery and Loss (RFC 5681, RFC 6582, RFC 6675, RFC 6937).
 *
 *     Open      nothing suspicious              Disorder   duplicate ACKs or SACKs, less than `reordering`
 *     Recovery  fast retransmit until high_seq  Loss       the RTO ran out, until high_seq
 *
 * Marks descriptors LOST; output.c sends them again as cwnd allows. Without SACK, dup_acks counts what
 * duplicate ACKs say to have arrived. Called by ack.c, the RTO, and RACK's timer; builds no segment. What is
 * lost is said by rack.c (SACK), by RFC 6675 (SACK with tcp_recovery 0), or by NewReno (without SACK).
 */
#include "tcp/recovery.h"

static void set_ca_state(struct tcp_conn *c, enum tcp_ca_state state)
{
    tcp_set_ca_state(c, state);
}

bool tcp_any_retrans_done(const struct tcp_conn *c)
{
    return c->sndq.retrans_out > 0 ||
           (!tcp_sndq_empty(&c->sndq) && (tcp_sndq_at(&c->sndq, 0)->flags & TCP_DESC_EVER_RETRANS));
}

/* ---- reordering -------------------------------------------------------------------------------------- */

static void set_reordering(const struct tcp *t, struct tcp_conn *c, uint32_t segs)
{
    uint32_t max = (uint32_t)t->config->tcp_max_reordering;

    c->reordering = (uint16_t)(segs < max ? segs : max);
}

void tcp_check_reordering(struct tcp *t, struct tcp_conn *c, uint32_t low_seq, bool by_timestamp)
{
    uint32_t fack = c->sndq.highest_sack, metric;

    if (!seq_lt(low_seq, fack))
        return;
    metric = fack - low_seq;
    if (c->mss && metric > (uint32_t)c->reordering * c->mss)
        set_reordering(t, c, (metric + c->mss - 1u) / c->mss);
    c->reord_seen++;
    if (by_timestamp)
        t->counters.ts_reorder++;
    else
        t->counters.sack_reorder++;
}

/* sacked + lost <= packets_out must hold; where the guess exceeds it, segments were reordered. */
static void check_reno_reordering(struct tcp *t, struct tcp_conn *c, uint32_t addend)
{
    uint32_t out = c->sndq.packets_out, holes = c->sndq.lost_out > 1 ? c->sndq.lost_out : 1;

    holes = holes < out ? holes : out;
    if (c->dup_acks + holes <= out)
        return;
    c->dup_acks = (uint16_t)(out - holes < UINT16_MAX ? out - holes : UINT16_MAX);
    set_reordering(t, c, out + addend);
    c->reord_seen++;
    t->counters.reno_reorder++;
}

static void add_reno_sacks(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    uint32_t before = c->dup_acks, sum = before + n;

    if (n == 0)
        return;
    c->dup_acks = (uint16_t)(sum < UINT16_MAX ? sum : UINT16_MAX);
    check_reno_reordering(t, c, 0);
    if (c->dup_acks > before)
        c->delivered += c->dup_acks - before;
}

void tcp_remove_reno_sacks(struct tcp *t, struct tcp_conn *c, uint32_t acked)
{
    if (acked > 0) {
        /* One ACK acknowledges what filled the hole too. */
        uint32_t unguessed = acked > c->dup_acks ? acked - c->dup_acks : 1;

        c->delivered += unguessed;
        c->dup_acks = (uint16_t)(acked - 1 >= c->dup_acks ? 0 : c->dup_acks - (acked - 1));
    }
    check_reno_reordering(t, c, acked);
}

/* ---- cwnd -------------------------------------------------------------------------------------------- */

uint32_t tcp_current_ssthresh(const struct tcp_conn *c)
{
    uint32_t threequarters = (c->win.cwnd >> 1) + (c->win.cwnd >> 2);

    if (tcp_in_cwnd_reduction(c) || c->win.ssthresh > threequarters)
        return c->win.ssthresh;
    return threequarters;
}

static void cc_tell(struct tcp_conn *c, enum cc_event event, uint64_t now)
{
    if (c->cc->event)
        c->cc->event(c->cc_state, &c->win, event, now);
}

static void init_undo(struct tcp_conn *c)
{
    c->undo_marker = c->snd_una;
    /* What is in flight again may bring D-SACKs later, a probe too; none at all: -1, for 0 means "undo now".
     */
    c->undo_retrans = c->sndq.retrans_out + (c->tlp_out && c->tlp_retrans ? 1u : 0u);
    if (c->undo_retrans == 0)
        c->undo_retrans = UINT32_MAX;
}

static void init_cwnd_reduction(struct tcp_conn *c)
{
    c->high_seq = c->snd_nxt;
    c->tlp_out = false;
    c->win.cwnd_cnt = 0;
    c->prior_cwnd = c->win.cwnd;
    c->prr_delivered = 0;
    c->prr_out = 0;
    c->win.ssthresh = c->cc->ssthresh(c->cc_state, &c->win, tcp_in_flight(c));
    c->win.cause = CC_CAUSE_LOSS;
    c->ecn_queue_cwr = c->ecn_ok;
}

/* RFC 3168 section 6.1.2: ECE asks for what a loss would, once a round trip; never undone (tcp_enter_cwr). */
static void enter_cwr(struct tcp_conn *c)
{
    c->prior_ssthresh = 0;
    if (c->ca_state >= TCP_CA_CWR)
        return;
    c->undo_marker = 0;
    c->win.cause = CC_CAUSE_ECN;
    init_cwnd_reduction(c);
    set_ca_state(c, TCP_CA_CWR);
}

/* RFC 6937, proportional rate reduction with Linux's slow-start bound. */
static void cwnd_reduction(struct tcp_conn *c, uint32_t delivered, uint32_t newly_lost, bool una_advanced)
{
    int64_t in_flight = tcp_in_flight(c), delta = (int64_t)c->win.ssthresh - in_flight, send;

    if (delivered == 0 || c->prior_cwnd == 0)
        return;
    c->prr_delivered += delivered;
    if (delta < 0) {
        uint64_t dividend = (uint64_t)c->win.ssthresh * c->prr_delivered + c->prior_cwnd - 1;

        send = (int64_t)(dividend / c->prior_cwnd) - (int64_t)c->prr_out;
    } else {
        send = (int64_t)c->prr_delivered - (int64_t)c->prr_out;
        if (send < (int64_t)delivered)
            send = delivered;
        if (una_advanced && newly_lost == 0)
            send++;
        if (send > delta)
            send = delta;
    }
    if (send < 1 && c->prr_out == 0)
        send = 1; /* the fast retransmit itself */
    c->win.cwnd = (uint32_t)(in_flight + (send > 0 ? send : 0));
}

static void end_cwnd_reduction(struct tcp_conn *c, uint64_t now)
{
    if (c->cc->cong_control)
        return;
    if (c->win.ssthresh < CC_SSTHRESH_INFINITE && (c->ca_state == TCP_CA_CWR || c->undo_marker)) {
        c->win.cwnd = c->win.ssthresh;
        c->snd_cwnd_stamp = now;
    }
    cc_tell(c, CC_EVENT_COMPLETE_CWR, now);
}

/* Enough above the hole for a retransmission without RACK (tcp_force_fast_retransmit). */
static bool force_fast_retransmit(const struct tcp_conn *c)
{
    return seq_gt(c->sndq.highest_sack, c->snd_una + (uint32_t)c->reordering * c->mss);
}

/* ---- undo -------------------------------------------------------------------------------------------- */

/*
 * Eifel (RFC 3522): the ACK echoes a timestamp older than the first retransmission, or there was none yet:
 * the original arrived.
 */
static bool packet_delayed(const struct tcp_conn *c, const struct tcp_ack_value *v)
{
    if (!c->retrans_stamp) /* reno_holds_state() and a SYN acknowledged forget it too early */
        return c->state != TCP_STATE_SYN_SENT && (c->sack_ok || seq_lt(c->snd_una, c->high_seq));
    if (!v->ts_seen || !v->tsecr)
        return false;
    return seq_lt(v->tsecr, tcp_ts_clock(c->retrans_stamp, c->ts_offset));
}

/* Nothing retransmitted is unaccounted for (RFC 3708), or the timestamps say so. */
static bool may_undo(const struct tcp_conn *c, const struct tcp_ack_value *v)
{
    return c->undo_marker && (c->undo_retrans == 0 || packet_delayed(c, v));
}

static void undo_cwnd_reduction(struct tcp_conn *c, bool unmark_loss, uint64_t now)
{
    if (unmark_loss)
        tcp_sndq_unmark_lost(&c->sndq);
    if (c->prior_ssthresh) {
        c->win.cwnd = c->cc->undo_cwnd(c->cc_state, &c->win, c->prior_cwnd);
        if (c->prior_ssthresh > c->win.ssthresh) {
            c->win.ssthresh = c->prior_ssthresh;
            c->ecn_queue_cwr = false; /* nothing was reduced, nothing is to be told */
        }
    }
    c->snd_cwnd_stamp = now;
    c->undo_marker = 0;
    c->rack.advanced = true; /* look again for what is lost */
}

static void keep_open(struct tcp_conn *c)
{
    enum tcp_ca_state state = TCP_CA_OPEN;

    if (tcp_sacked_out(c) + c->sndq.lost_out > 0 || tcp_any_retrans_done(c))
        state = TCP_CA_DISORDER;
    if (c->ca_state != state) {
        set_ca_state(c, state);
        c->high_seq = c->snd_nxt;
    }
}

static void try_to_open(struct tcp_conn *c, bool ece)
{
    if (!tcp_any_retrans_done(c))
        c->retrans_stamp = 0;
    if (ece)
        enter_cwr(c);
    if (c->ca_state != TCP_CA_CWR)
        keep_open(c);
}

/* RFC 6582 section 3.2: without SACK the state is held until something above high_seq is acknowledged. */
static bool reno_holds_state(struct tcp_conn *c)
{
    if (c->sack_ok || c->snd_una != c->high_seq)
        return false;
    if (!tcp_any_retrans_done(c))
        c->retrans_stamp = 0;
    return true;
}

/* The end of Recovery or Loss. True: the old state stays for now. */
static bool try_undo_recovery(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    if (may_undo(c, v)) {
        undo_cwnd_reduction(c, false, now);
        if (c->ca_state == TCP_CA_LOSS)
            t->counters.loss_undo++;
        else
            t->counters.full_undo++;
        tcp_rec_undo(t, c, c->ca_state == TCP_CA_LOSS ? TCP_REC_UNDO_LOSS : TCP_REC_UNDO_FULL);
    } else if (c->rack.reo_wnd_persist) {
        c->rack.reo_wnd_persist--;
    }
    if (reno_holds_state(c))
        return true;
    set_ca_state(c, TCP_CA_OPEN);
    return false;
}

static bool try_undo_dsack(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (!c->undo_marker || c->undo_retrans)
        return false;
    if (c->rack.reo_wnd_persist < TCP_RACK_RECOVERY_THRESH)
        c->rack.reo_wnd_persist++;
    undo_cwnd_reduction(c, false, now);
    t->counters.dsack_undo++;
    tcp_rec_undo(t, c, TCP_REC_UNDO_DSACK);
    return true;
}

/* A partial ACK that says the original arrived. True: retransmissions are out, do nothing more. */
static bool try_undo_partial(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v,
                             bool *inout_do_lost, uint64_t now)
{
    if (!c->undo_marker || !packet_delayed(c, v)) {
        *inout_do_lost = force_fast_retransmit(c);
        return false;
    }
    tcp_check_reordering(t, c, v->prior_una, true);
    if (c->sndq.retrans_out > 0)
        return true;
    if (!tcp_any_retrans_done(c))
        c->retrans_stamp = 0;
    undo_cwnd_reduction(c, true, now);
    t->counters.partial_undo++;
    tcp_rec_undo(t, c, TCP_REC_UNDO_PARTIAL);
    keep_open(c);
    return false;
}

/* by_frto: F-RTO proved that the timeout was spurious. */
static bool try_undo_loss(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, bool by_frto,
                          uint64_t now)
{
    if (!by_frto && !may_undo(c, v))
        return false;
    undo_cwnd_reduction(c, true, now);
    t->counters.loss_undo++;
    tcp_rec_undo(t, c, TCP_REC_UNDO_LOSS);
    if (by_frto)
        t->counters.spurious_rto++;
    c->retransmits = 0;
    if (!reno_holds_state(c) && (by_frto || c->sack_ok))
        set_ca_state(c, TCP_CA_OPEN);
    return true;
}

/* ---- marking ----------------------------------------------------------------------------------------- */

static void mark_head(const struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (tcp_sndq_mark_head(&c->sndq) > 0)
        tcp_cc_lost(t, c, tcp_sndq_at(&c->sndq, 0), now);
}

/*
 * NewReno: the head is lost at the third duplicate, and again with each partial ACK (RFC 6582 section 3.2).
 */
static void mark_reno(const struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    bool in_recovery = c->ca_state == TCP_CA_RECOVERY;

    if ((c->ca_state < TCP_CA_RECOVERY && c->dup_acks >= c->reordering) || (in_recovery && v->una_advanced))
        mark_head(t, c, now);
}

/* tcp_identify_packet_loss() */
static void mark_losses(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    uint32_t prior = c->sndq.lost_retrans;

    if (tcp_sndq_empty(&c->sndq))
        return;
    if (!c->sack_ok) {
        mark_reno(t, c, v, now);
    } else if (tcp_is_rack(t)) {
        if (tcp_rack_mark_lost(t, c, now))
            v->rearm = false;
        if (c->sndq.lost_retrans != prior)
            v->lost_retrans = true;
    }
}

/*
 * RFC 6675 section 4 IsLost(), where RACK does not decide; entering recovery without that much evidence, the
 * head at least (tcp_update_scoreboard).
 */
static void mark_by_sack(const struct tcp *t, struct tcp_conn *c, bool do_lost, bool force_head,
                         uint64_t now)
{
    struct tcp_desc *d;

    if (!c->sack_ok || tcp_is_rack(t) || !do_lost)
        return;
    if (c->sndq.sacked_out >= c->reordering)
        while ((d = tcp_sndq_mark_by_sack(&c->sndq, c->reordering)))
            tcp_cc_lost(t, c, d, now);
    else if (force_head)
        mark_head(t, c, now);
}

/* The loss is proven; or, where neither RACK nor NewReno decide, RFC 6675's threshold is reached. */
static bool time_to_recover(const struct tcp *t, const struct tcp_conn *c)
{
    if (c->sndq.lost_out > 0)
        return true;
    return c->sack_ok && !tcp_is_rack(t) && c->sndq.sacked_out >= c->reordering;
}

static void enter_recovery(struct tcp *t, struct tcp_conn *c, bool ece)
{
    if (c->sack_ok)
        t->counters.sack_recovery++;
    else
        t->counters.reno_recovery++;
    if (!tcp_any_retrans_done(c))
        c->retrans_stamp = 0; /* starts with this recovery's first retransmission */
    c->prior_ssthresh = 0;
    init_undo(c);
    if (!tcp_in_cwnd_reduction(c)) {
        c->prior_ssthresh = ece ? 0 : tcp_current_ssthresh(c);
        init_cwnd_reduction(c);
    }
    c->frto_new = false; /* a retransmission was lost as well: F-RTO has nothing left to find out */
    set_ca_state(c, TCP_CA_RECOVERY);
}

/* The reordering timer found losses: as if an ACK had delivered one segment. */
void tcp_rack_enter_recovery(struct tcp *t, struct tcp_conn *c, uint32_t lost, uint64_t now)
{
    tcp_cc_refresh(t, c, now);
    enter_recovery(t, c, false);
    if (!c->cc->cong_control)
        cwnd_reduction(c, 1, lost, false);
    (void)now;
}

void tcp_tlp_recovery(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_cc_refresh(t, c, now);
    init_cwnd_reduction(c);
    set_ca_state(c, TCP_CA_CWR);
    end_cwnd_reduction(c, now);
    keep_open(c);
}

/* ---- the state machine ------------------------------------------------------------------------------- */

bool tcp_ack_is_dubious(const struct tcp_conn *c, const struct tcp_ack_value *v)
{
    bool not_dup = v->has_data || v->window_update || v->acked_segs > 0;

    return !not_dup || v->sack.segs > 0 || v->dsack || v->ece || c->ca_state != TCP_CA_OPEN;
}

/* high_seq was acknowledged: how each state ends. True: nothing more to do. */
static bool exit_state(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    if (c->ca_state == TCP_CA_OPEN) {
        c->retrans_stamp = 0;
        return false;
    }
    if (seq_lt(c->snd_una, c->high_seq))
        return false;
    if (c->ca_state == TCP_CA_CWR && c->snd_una != c->high_seq) {
        end_cwnd_reduction(c, now);
        set_ca_state(c, TCP_CA_OPEN);
    } else if (c->ca_state == TCP_CA_RECOVERY) {
        if (!c->sack_ok)
            c->dup_acks = 0;
        if (try_undo_recovery(t, c, v, now))
            return true;
        end_cwnd_reduction(c, now);
    }
    return false;
}

static void recovery_state(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, bool do_lost,
                           uint64_t now)
{
    if (!v->una_advanced) {
        if (!c->sack_ok)
            add_reno_sacks(t, c, v->num_dupack);
    } else if (try_undo_partial(t, c, v, &do_lost, now)) {
        return;
    }
    if (try_undo_dsack(t, c, now))
        try_to_open(c, v->ece);
    mark_losses(t, c, v, now);
    if (c->ca_state != TCP_CA_RECOVERY) {
        if (!time_to_recover(t, c))
            return;
        enter_recovery(t, c, v->ece);
    }
    mark_by_sack(t, c, do_lost, false, now);
}

/* RFC 5682 section 3.1, the way with SACK. True: the state of the timeout is settled for this ACK. */
static bool frto_ack(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, bool recovered, uint64_t now)
{
    bool orig = v->orig_sack_acked || (v->sack.orig && seq_leq(v->sack.orig_end, c->high_seq));

    /* Step 3b: something that was never sent again arrived. */
    if (orig && try_undo_loss(t, c, v, true, now))
        return true;
    if (seq_gt(c->snd_nxt, c->high_seq)) {
        if (v->sack.segs > 0 || v->num_dupack > 0)
            c->frto = false; /* step 3a: the loss was real */
    } else if (v->una_advanced && !recovered) {
        /* Step 2b: new data, if there is any and the window takes it. */
        c->high_seq = c->snd_nxt;
        if ((tcp_unsent_bytes(c) > 0 || tcp_fin_unsent(c)) && seq_gt(tcp_wnd_end(c), c->snd_nxt)) {
            c->frto_new = true;
            return true;
        }
        c->frto = false;
    }
    return false;
}

/* tcp_process_loss() */
static void loss_ack(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    bool recovered = seq_geq(c->snd_una, c->high_seq);

    c->frto_new = false;
    if ((v->una_advanced || c->fastopen_rsk) && try_undo_loss(t, c, v, false, now))
        return;
    if (c->frto && frto_ack(t, c, v, recovered, now))
        return;
    if (recovered) {
        (void)try_undo_recovery(t, c, v, now);
        return;
    }
    if (!c->sack_ok) {
        if (seq_gt(c->snd_nxt, c->high_seq) && v->num_dupack > 0)
            add_reno_sacks(t, c, v->num_dupack);
        else if (v->una_advanced)
            c->dup_acks = 0;
    }
}

/* True: Loss was left, or retransmissions were lost: go on as in Open. */
static bool loss_state(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    loss_ack(t, c, v, now);
    mark_losses(t, c, v, now);
    if (c->ca_state != TCP_CA_LOSS)
        tcp_rto_over(c, now);
    return c->ca_state == TCP_CA_OPEN || v->lost_retrans;
}

static void open_state(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, bool do_lost, uint64_t now)
{
    if (!c->sack_ok) {
        if (v->una_advanced)
            c->dup_acks = 0;
        add_reno_sacks(t, c, v->num_dupack);
    }
    if (c->ca_state <= TCP_CA_DISORDER)
        (void)try_undo_dsack(t, c, now);
    mark_losses(t, c, v, now);
    if (!time_to_recover(t, c)) {
        try_to_open(c, v->ece);
        return;
    }
    if (tcp_mtup_lost(t, c))
        return;
    enter_recovery(t, c, v->ece);
    mark_by_sack(t, c, do_lost, true, now);
}

/*
 * RFC 2018 section 8: a peer may forget what it SACKed. The head being SACKed but not acknowledged tells it:
 * wait half an RTT for the ACK, then time out and forget all SACKs (tcp_check_sack_reneging).
 */
static bool check_reneging(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    uint64_t delay;

    if (!v->reneging || !v->una_advanced)
        return false;
    delay = time_max((c->rtt.srtt_us >> 4) * NSEC_PER_USEC, 10 * NSEC_PER_MSEC);
    tcp_timer_set(t, c, TCP_TIMER_PROBE0, TIME_NEVER);
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, now + time_min(delay, tcp_rto_ns(t, c)));
    v->rearm = false;
    return true;
}

void tcp_recovery_ack(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    bool do_lost = v->num_dupack > 0 || (v->sack.segs > 0 && force_fast_retransmit(c));

    if (c->sndq.packets_out == 0)
        c->dup_acks = 0;
    tcp_cc_refresh(t, c, now);
    if (v->ece)
        c->prior_ssthresh = 0; /* no undo: this reduction is required */
    if (check_reneging(t, c, v, now) || exit_state(t, c, v, now))
        return;
    switch (c->ca_state) {
    case TCP_CA_RECOVERY:
        recovery_state(t, c, v, do_lost, now);
        break;
    case TCP_CA_LOSS:
        if (loss_state(t, c, v, now))
            open_state(t, c, v, do_lost, now);
        break;
    default:
        open_state(t, c, v, do_lost, now);
        break;
    }
}

/* ---- growth ------------------------------------------------------------------------------------------ */

static bool is_cwnd_limited(const struct tcp_conn *c)
{
    if (c->is_cwnd_limited)
        return true;
    /* In slow start the window may be doubled if at least half of it was used. */
    return c->win.cwnd < c->win.ssthresh && c->win.cwnd < 2 * c->max_packets_out;
}

void tcp_cong_control(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    uint32_t delivered = c->delivered - v->prior_delivered;
    bool progress = v->data_acked;
    struct cc_rate_sample rs;
    struct cc_sample s;

    tcp_count_ce(c, v);
    tcp_rate_gen(c, v, now, &rs);
    tcp_cc_refresh(t, c, now);
    if (c->cc->cong_control) {
        rs.cwnd_limited = is_cwnd_limited(c);
        c->cc->cong_control(c->cc_state, &c->win, &rs, now);
        c->snd_cwnd_stamp = now;
        return;
    }
    if (tcp_in_cwnd_reduction(c)) {
        cwnd_reduction(c, delivered, c->sndq.lost - v->prior_lost, v->una_advanced);
        return;
    }
    /* With much reordering in the path, SACKs are progress too (tcp_may_raise_cwnd). */
    if (c->reordering > t->config->tcp_reordering)
        progress = progress || v->sack.segs > 0;
    if (!progress)
        return;
    s = (struct cc_sample){
        .now = now,
        .acked = delivered,
        .prior_in_flight = v->prior_in_flight,
        .in_flight = tcp_in_flight(c),
        .rtt_us = v->rtt_us,
        .srtt_us = c->rtt.srtt_us >> 3,
        .min_rtt_us = c->rtt.min_rtt_us,
        .cwnd_limited = is_cwnd_limited(c),
        .ece = v->ece,
    };
    c->cc->cong_avoid(c->cc_state, &c->win, &s);
    c->snd_cwnd_stamp = now;
}

void tcp_update_pacing_rate(const struct tcp *t, struct tcp_conn *c)
{
    uint32_t segs = c->win.cwnd > c->sndq.packets_out ? c->win.cwnd : c->sndq.packets_out;
    bool slow_start = c->win.cwnd < c->win.ssthresh / 2; /* near its end it is careful already */
    uint64_t ratio = (uint32_t)(slow_start ? t->config->tcp_pacing_ss_ratio : t->config->tcp_pacing_ca_ratio);
    uint64_t rate = (uint64_t)c->mss * (1000000 / 100 * 8) * ratio * segs;

    if (c->win.pacing_rate)
        rate = c->win.pacing_rate; /* the controller's */
    else if (c->rtt.srtt_us)
        rate /= c->rtt.srtt_us;
    c->pacing_rate = rate < c->max_pacing_rate ? rate : c->max_pacing_rate;
}

/* RFC 2861 section 3.2: not limited by cwnd for an RTO: half way towards what was used. */
static void application_limited(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint32_t init = (uint32_t)t->config->tcp_initcwnd,
             used = c->snd_cwnd_used > init ? c->snd_cwnd_used : init;

    if (c->ca_state == TCP_CA_OPEN && used < c->win.cwnd) {
        c->win.ssthresh = tcp_current_ssthresh(c);
        c->win.cwnd = (c->win.cwnd + used) / 2;
    }
    c->snd_cwnd_used = 0;
    c->snd_cwnd_stamp = now;
}

void tcp_cwnd_validate(struct tcp *t, struct tcp_conn *c, bool limited, uint64_t now)
{
    uint32_t out = c->sndq.packets_out;

    /* Remembers the most in flight of the last window, and whether that was all of cwnd. */
    if (seq_geq(c->snd_una, c->cwnd_usage_seq) || limited ||
        (!c->is_cwnd_limited && out > c->max_packets_out)) {
        c->is_cwnd_limited = limited;
        c->max_packets_out = out;
        c->cwnd_usage_seq = c->snd_nxt;
    }
    if (is_cwnd_limited(c)) {
        c->snd_cwnd_used = 0;
        c->snd_cwnd_stamp = now;
        return;
    }
    /* Just sent, not limited by cwnd, nothing left to send, and the program waits for room: it is the buffer.
     */
    if (c->writeq.count == 0 && c->want_writable &&
        (c->state == TCP_STATE_ESTABLISHED || c->state == TCP_STATE_CLOSE_WAIT))
        tcp_chrono_start(c, TCP_CHRONO_SNDBUF_LIMITED, now);
    if (out > c->snd_cwnd_used)
        c->snd_cwnd_used = out;
    if (t->config->tcp_slow_start_after_idle && !c->cc->cong_control &&
        time_since(now, c->snd_cwnd_stamp) >= tcp_rto_ns(t, c))
        application_limited(t, c, now);
}

void tcp_cwnd_restart_after_idle(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    /* Backoff of window probes does not count: icsk_rto. */
    uint64_t rto = (uint64_t)c->rtt.rto_us * (uint64_t)NSEC_PER_USEC, idle = time_since(now, c->lsndtime);
    uint32_t restart = c->path.initcwnd ? c->path.initcwnd : (uint32_t)t->config->tcp_initcwnd;

    if (!t->config->tcp_slow_start_after_idle || c->cc->cong_control || c->sndq.packets_out > 0 ||
        idle <= rto)
        return;
    tcp_cc_event(t, c, CC_EVENT_CWND_RESTART, now);
    c->win.ssthresh = tcp_current_ssthresh(c);
    if (restart > c->win.cwnd)
        restart = c->win.cwnd;
    for (; idle > rto && c->win.cwnd > restart; idle -= rto)
        c->win.cwnd >>= 1;
    if (c->win.cwnd < restart)
        c->win.cwnd = restart;
    c->snd_cwnd_stamp = now;
    c->snd_cwnd_used = 0;
    c->lsndtime = now; /* once for this idle time */
}

/* ---- timeouts ---------------------------------------------------------------------------------------- */

/* A head that was SACKed tells that the peer forgot what it had SACKed (RFC 2018 section 8). */
static void timeout_mark_lost(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    bool reneged = !tcp_sndq_empty(&c->sndq) && (tcp_sndq_at(&c->sndq, 0)->flags & TCP_DESC_SACKED);

    c->dup_acks = 0;
    if (reneged) {
        t->counters.reneging++;
        tcp_sndq_mark_all_lost(&c->sndq, true);
    } else {
        tcp_rack_timeout_mark_lost(t, c, now);
    }
}

/*
 * RFC 5681 section 3.1 (4), RFC 6298 section 5: all is lost but what was SACKed, cwnd is one
 * (tcp_enter_loss).
 */
void tcp_enter_loss(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    bool new_recovery = c->ca_state < TCP_CA_RECOVERY;

    timeout_mark_lost(t, c, now);
    tcp_cc_refresh(t, c, now);
    if (c->ca_state <= TCP_CA_DISORDER || !seq_gt(c->high_seq, c->snd_una) ||
        (c->ca_state == TCP_CA_LOSS && c->retransmits == 0)) {
        c->prior_ssthresh = tcp_current_ssthresh(c);
        c->prior_cwnd = c->win.cwnd;
        c->win.ssthresh = c->cc->ssthresh(c->cc_state, &c->win, tcp_in_flight(c));
        cc_tell(c, CC_EVENT_LOSS, now);
        init_undo(c);
    }
    c->win.cwnd = tcp_in_flight(c) + 1;
    c->win.cwnd_cnt = 0;
    c->snd_cwnd_stamp = now;
    if (c->ca_state <= TCP_CA_DISORDER && c->sndq.sacked_out >= (uint32_t)t->config->tcp_reordering &&
        c->reordering > t->config->tcp_reordering)
        c->reordering = (uint16_t)t->config->tcp_reordering;
    set_ca_state(c, TCP_CA_LOSS);
    c->high_seq = c->snd_nxt;
    c->ecn_queue_cwr = c->ecn_ok;
    c->tlp_out = c->tlp_pending = false;
    /* RFC 5682 section 3.1 step 1: not in a recovery of another kind, nor with a path-MTU probe out. */
    c->frto = t->config->tcp_frto && (new_recovery || c->retransmits) && !c->mtup.probe_size;
    c->frto_new = false;
}

void tcp_non_congestion_loss(struct tcp *t, struct tcp_conn *c)
{
    tcp_cc_refresh(t, c, c->mstamp);
    if (c->ca_state != TCP_CA_LOSS) {
        c->high_seq = c->snd_nxt;
        c->win.ssthresh = tcp_current_ssthresh(c);
        c->prior_ssthresh = 0;
        c->undo_marker = 0;
        set_ca_state(c, TCP_CA_LOSS);
    }
    tcp_mark_ready(t, c);
}

void tcp_undo_synack_loss(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    struct tcp_ack_value v = {.ts_seen = c->ts_ok && seg->opt.timestamps_ok, .tsecr = seg->opt.tsecr};

    (void)try_undo_recovery(t, c, &v, now);
}

/* tcp_update_rto_stats() */
void tcp_rto_began(struct tcp_conn *c, uint64_t now)
{
    if (c->retransmits == 0)
        c->total_rto_recoveries++;
    if (c->retransmits == 0 || !c->rto_at) /* the latter: those of a restored connection go on */
        c->rto_at = now;
    if (c->retransmits < UINT8_MAX)
        c->retransmits++;
    c->total_rto++;
}

/* tcp_update_rto_time() */
void tcp_rto_over(struct tcp_conn *c, uint64_t now)
{
    if (c->rto_at)
        c->total_rto_time_ms += (uint32_t)(time_since(now, c->rto_at) / NSEC_PER_MSEC);
    c->rto_at = 0;
}

static void back_off(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_rto_began(c, now);
    if (c->backoff < UINT8_MAX)
        c->backoff++;
    t->counters.timeouts++;
    tcp_rearm_rto(t, c, now);
    tcp_mark_ready(t, c);
}

void tcp_retrans_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    bool expired;

    tcp_timer_set(t, c, TCP_TIMER_RETRANS, TIME_NEVER);
    if (c->sndq.packets_out == 0) {
        /* Nothing left yet: there was no way to the peer. Try again. */
        tcp_mark_ready(t, c);
        return;
    }
    if (c->snd_wnd == 0 && c->owned) {
        /* The peer shrank its window under what we had sent: probes that don't count while it answers. */
        if (time_since(now, c->rcv_tstamp) > (uint32_t)t->config->tcp_rto_max * NSEC_PER_MSEC) {
            tcp_write_error(t, c, now);
            return;
        }
        tcp_enter_loss(t, c, now);
        if (c->backoff < UINT8_MAX)
            c->backoff++;
        tcp_rearm_rto(t, c, now);
        tcp_mark_ready(t, c);
        return;
    }
    if (tcp_path_suspected(t, c, now))
        tcp_mtup_black_hole(t, c, now);
    expired = tcp_timed_out(t, c, now);
    tcp_fastopen_timeout(t, c, expired, now);
    if (expired) {
        tcp_write_error(t, c, now);
        return;
    }
    tcp_enter_loss(t, c, now);
    tcp_open_gate(t, c, now); /* tcp_retransmit_timer() sends the head whatever the pacing says */
    back_off(t, c, now);
}

static unsigned max_probes(const struct tcp *t, const struct tcp_conn *c)
{
    unsigned orphan = t->config->tcp_orphan_retries ? (unsigned)t->config->tcp_orphan_retries : 8u;

    return c->owned ? (unsigned)t->config->tcp_retries2 : orphan;
}

/*
 * RFC 9293 section 3.8.6.1, RFC 1122 section 4.2.2.17: a peer that answers probes keeps its window closed as
 * long as it likes; one that doesn't answer is given up (tcp_probe_timer, tcp_send_probe0).
 */
void tcp_probe0_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_timer_set(t, c, TCP_TIMER_PROBE0, TIME_NEVER);
    if (c->sndq.packets_out > 0 || (tcp_unsent_bytes(c) == 0 && !tcp_fin_unsent(c))) {
        c->probes_out = 0;
        c->probe_begun_at = 0;
        return;
    }
    if (!c->probe_begun_at) {
        c->probe_begun_at = now;
    } else if (c->user_timeout_ms &&
               time_since(now, c->probe_begun_at) >= c->user_timeout_ms * NSEC_PER_MSEC) {
        tcp_write_error(t, c, now);
        return;
    }
    /* Unlike Linux's, probes that the device refused do not end a connection that has an owner: the peer is
     * not at fault. */
    if ((c->probes_out >= max_probes(t, c) && !(c->tx_refused && c->owned)) ||
        (!c->owned && tcp_orphan_over_limit(t))) {
        tcp_write_error(t, c, now);
        return;
    }
    c->probes_out++;
    if (c->backoff < (unsigned)t->config->tcp_retries2)
        c->backoff++;
    c->probe_pending = true;
    c->probe_cause = TCP_CAUSE_PROBE_WINDOW;
    t->counters.probe0++;
    tcp_arm_probe0(t, c, now);
    tcp_mark_ready(t, c);
}
