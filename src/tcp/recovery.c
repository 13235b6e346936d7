/*
 * tcp/recovery.c: what is lost, what follows from it for cwnd, and when it is over: Linux's states Open,
 * Disorder, CWR, Recovery and Loss (RFC 5681, RFC 6582, RFC 6675, RFC 6937).
 *
 *     Open      nothing suspicious              Disorder   duplicate ACKs or SACKs, less than `reordering`
 *     Recovery  fast retransmit until high_seq  Loss       the RTO ran out, until high_seq
 *
 * Marks descriptors LOST; output.c sends them again as cwnd allows. Without SACK, dup_acks counts what
 * duplicate ACKs say to have arrived. Called by ack.c and the RTO; builds no segment. Rooms kept free: RACK
 * and TLP mark losses next to mark_losses(), F-RTO belongs into loss_state().
 */
#include "tcp/recovery.h"

static void set_ca_state(struct tcp_conn *c, enum tcp_ca_state state)
{
    c->ca_state = (uint8_t)state;
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

void tcp_check_reordering(struct tcp *t, struct tcp_conn *c, uint32_t low_seq)
{
    uint32_t fack = c->sndq.highest_sack, metric;

    if (!seq_lt(low_seq, fack))
        return;
    metric = fack - low_seq;
    if (c->mss && metric > (uint32_t)c->reordering * c->mss)
        set_reordering(t, c, (metric + c->mss - 1u) / c->mss);
    c->reord_seen++;
}

/* sacked + lost <= packets_out must hold; where the guess exceeds it, segments were reordered. */
static void check_reno_reordering(const struct tcp *t, struct tcp_conn *c, uint32_t addend)
{
    uint32_t out = c->sndq.packets_out, holes = c->sndq.lost_out > 1 ? c->sndq.lost_out : 1;

    holes = holes < out ? holes : out;
    if (c->dup_acks + holes <= out)
        return;
    c->dup_acks = (uint16_t)(out - holes < UINT16_MAX ? out - holes : UINT16_MAX);
    set_reordering(t, c, out + addend);
    c->reord_seen++;
}

static void add_reno_sacks(const struct tcp *t, struct tcp_conn *c, uint32_t n)
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

/* What ssthresh would be worth now (tcp_current_ssthresh). */
static uint32_t current_ssthresh(const struct tcp_conn *c)
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
    /* Retransmitting something that is already in flight again can't be undone by D-SACKs alone. */
    c->undo_retrans = c->sndq.retrans_out ? c->sndq.retrans_out : UINT32_MAX;
}

static void init_cwnd_reduction(struct tcp_conn *c)
{
    c->high_seq = c->snd_nxt;
    c->win.cwnd_cnt = 0;
    c->prior_cwnd = c->win.cwnd;
    c->prr_delivered = 0;
    c->prr_out = 0;
    c->win.ssthresh = c->cc->ssthresh(c->cc_state, &c->win, tcp_in_flight(c));
}

/* RFC 6937, proportional rate reduction with Linux's slow-start bound. */
static void cwnd_reduction(struct tcp_conn *c, uint32_t delivered, const struct tcp_ack_value *v)
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
        if (v->una_advanced && v->newly_lost == 0)
            send++;
        if (send > delta)
            send = delta;
    }
    /* The fast retransmit itself; RFC 6582 section 3.2: a partial ACK lets the next hole's head out. */
    if (send < 1 && (c->prr_out == 0 || (!c->sack_ok && v->una_advanced && c->sndq.lost_pending > 0)))
        send = 1;
    c->win.cwnd = (uint32_t)(in_flight + (send > 0 ? send : 0));
}

static void end_cwnd_reduction(struct tcp_conn *c, uint64_t now)
{
    if (c->win.ssthresh < CC_SSTHRESH_INFINITE && (c->ca_state == TCP_CA_CWR || c->undo_marker)) {
        c->win.cwnd = c->win.ssthresh;
        c->snd_cwnd_stamp = now;
    }
    cc_tell(c, CC_EVENT_COMPLETE_CWR, now);
}

/* ---- undo -------------------------------------------------------------------------------------------- */

/* Eifel (RFC 3522): the ACK echoes a timestamp older than the first retransmission: the original arrived. */
static bool packet_delayed(const struct tcp_conn *c, const struct tcp_ack_value *v)
{
    if (!c->retrans_stamp || !v->ts_seen || !v->tsecr)
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
        if (c->prior_ssthresh > c->win.ssthresh)
            c->win.ssthresh = c->prior_ssthresh;
    }
    c->snd_cwnd_stamp = now;
    c->undo_marker = 0;
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

static void try_to_open(struct tcp_conn *c)
{
    if (!tcp_any_retrans_done(c))
        c->retrans_stamp = 0;
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
static bool try_undo_recovery(struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    if (may_undo(c, v))
        undo_cwnd_reduction(c, false, now);
    if (reno_holds_state(c))
        return true;
    set_ca_state(c, TCP_CA_OPEN);
    return false;
}

static bool try_undo_dsack(struct tcp_conn *c, uint64_t now)
{
    if (!c->undo_marker || c->undo_retrans)
        return false;
    undo_cwnd_reduction(c, false, now);
    return true;
}

/* A partial ACK that says the original arrived. True: wait, do nothing more. */
static bool try_undo_partial(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    if (!c->undo_marker || !packet_delayed(c, v))
        return false;
    tcp_check_reordering(t, c, v->prior_una);
    if (c->sndq.retrans_out > 0)
        return true;
    if (!tcp_any_retrans_done(c))
        c->retrans_stamp = 0;
    undo_cwnd_reduction(c, true, now);
    keep_open(c);
    return true;
}

static bool try_undo_loss(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    if (!may_undo(c, v))
        return false;
    undo_cwnd_reduction(c, true, now);
    t->counters.spurious_rto++;
    c->retransmits = 0;
    if (!reno_holds_state(c) && c->sack_ok)
        set_ca_state(c, TCP_CA_OPEN);
    return true;
}

/* ---- marking ----------------------------------------------------------------------------------------- */

/*
 * NewReno: the head is lost at the third duplicate, and again with each partial ACK (RFC 6582 section 3.2).
 */
static void mark_reno(struct tcp_conn *c, struct tcp_ack_value *v)
{
    bool in_recovery = c->ca_state == TCP_CA_RECOVERY;

    if (c->sack_ok)
        return;
    if ((c->ca_state < TCP_CA_RECOVERY && c->dup_acks >= c->reordering) || (in_recovery && v->una_advanced))
        v->newly_lost += tcp_sndq_mark_head(&c->sndq);
}

/* RFC 6675 section 4 IsLost(); entering recovery without that much evidence, the head at least. */
static void mark_by_sack(struct tcp_conn *c, struct tcp_ack_value *v, bool force_head)
{
    if (!c->sack_ok)
        return;
    if (c->sndq.sacked_out >= c->reordering)
        v->newly_lost += tcp_sndq_mark_by_sack(&c->sndq, c->reordering);
    else if (force_head)
        v->newly_lost += tcp_sndq_mark_head(&c->sndq);
}

static bool time_to_recover(const struct tcp_conn *c)
{
    return c->sndq.lost_out > 0 || tcp_sacked_out(c) >= c->reordering;
}

static void enter_recovery(struct tcp *t, struct tcp_conn *c)
{
    if (c->sack_ok)
        t->counters.sack_recovery++;
    else
        t->counters.reno_recovery++;
    c->prior_ssthresh = 0;
    init_undo(c);
    if (!tcp_in_cwnd_reduction(c)) {
        c->prior_ssthresh = current_ssthresh(c);
        init_cwnd_reduction(c);
    }
    set_ca_state(c, TCP_CA_RECOVERY);
}

/* ---- the state machine ------------------------------------------------------------------------------- */

bool tcp_ack_is_dubious(const struct tcp_conn *c, const struct tcp_ack_value *v)
{
    bool not_dup = v->has_data || v->window_update || v->acked_segs > 0;

    return !not_dup || v->sack.segs > 0 || v->dsack || c->ca_state != TCP_CA_OPEN;
}

/* high_seq was acknowledged: how each state ends. True: nothing more to do. */
static bool exit_state(struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
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
        if (try_undo_recovery(c, v, now))
            return true;
        end_cwnd_reduction(c, now);
    }
    return false;
}

/*
 * Did this ACK come for a retransmission, not for an original that was late? As RACK judges: not sooner than
 * the shortest round trip. Then what it leaves at the head is another hole (RFC 6582 section 3.2).
 */
static bool repaired(const struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    return v->retrans_sent_at && time_since(now, v->retrans_sent_at) / NSEC_PER_USEC >= c->rtt.min_rtt_us;
}

static void recovery_state(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    bool partial = v->una_advanced;

    if (!partial) {
        if (!c->sack_ok)
            add_reno_sacks(t, c, v->num_dupack);
    } else if (try_undo_partial(t, c, v, now)) {
        return;
    }
    if (try_undo_dsack(c, now))
        try_to_open(c);
    mark_reno(c, v);
    if (c->ca_state != TCP_CA_RECOVERY) {
        if (!time_to_recover(c))
            return;
        enter_recovery(t, c);
    }
    mark_by_sack(c, v, partial && repaired(c, v, now));
}

/* True: Loss was left, go on as in Open. */
static bool loss_state(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    if (v->una_advanced && try_undo_loss(t, c, v, now))
        return c->ca_state == TCP_CA_OPEN;
    if (seq_geq(c->snd_una, c->high_seq)) {
        (void)try_undo_recovery(c, v, now);
        return c->ca_state == TCP_CA_OPEN;
    }
    if (!c->sack_ok) {
        if (seq_gt(c->snd_nxt, c->high_seq) && v->num_dupack > 0)
            add_reno_sacks(t, c, v->num_dupack);
        else if (v->una_advanced)
            c->dup_acks = 0;
    }
    return false;
}

static void open_state(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now)
{
    if (!c->sack_ok) {
        if (v->una_advanced)
            c->dup_acks = 0;
        add_reno_sacks(t, c, v->num_dupack);
    }
    if (c->ca_state <= TCP_CA_DISORDER)
        (void)try_undo_dsack(c, now);
    mark_reno(c, v);
    if (!time_to_recover(c)) {
        try_to_open(c);
        return;
    }
    enter_recovery(t, c);
    mark_by_sack(c, v, true);
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
    if (c->sndq.packets_out == 0)
        c->dup_acks = 0;
    if (check_reneging(t, c, v, now) || exit_state(c, v, now))
        return;
    switch (c->ca_state) {
    case TCP_CA_RECOVERY:
        recovery_state(t, c, v, now);
        break;
    case TCP_CA_LOSS:
        if (loss_state(t, c, v, now))
            open_state(t, c, v, now);
        break;
    default:
        open_state(t, c, v, now);
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
    struct cc_sample s;

    if (tcp_in_cwnd_reduction(c)) {
        cwnd_reduction(c, delivered, v);
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

    if (c->rtt.srtt_us)
        rate /= c->rtt.srtt_us;
    c->pacing_rate = rate < c->max_pacing_rate ? rate : c->max_pacing_rate;
}

/* RFC 2861 section 3.2: not limited by cwnd for an RTO: half way towards what was used. */
static void application_limited(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint32_t init = (uint32_t)t->config->tcp_initcwnd,
             used = c->snd_cwnd_used > init ? c->snd_cwnd_used : init;

    if (c->ca_state == TCP_CA_OPEN && used < c->win.cwnd) {
        c->win.ssthresh = current_ssthresh(c);
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
    if (out > c->snd_cwnd_used)
        c->snd_cwnd_used = out;
    if (t->config->tcp_slow_start_after_idle && time_since(now, c->snd_cwnd_stamp) >= tcp_rto_ns(t, c))
        application_limited(t, c, now);
}

void tcp_cwnd_restart_after_idle(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    /* Backoff of window probes does not count: icsk_rto. */
    uint64_t rto = (uint64_t)c->rtt.rto_us * (uint64_t)NSEC_PER_USEC, idle = time_since(now, c->lsndtime);
    uint32_t restart = c->path.initcwnd ? c->path.initcwnd : (uint32_t)t->config->tcp_initcwnd;

    if (!t->config->tcp_slow_start_after_idle || c->sndq.packets_out > 0 || idle <= rto)
        return;
    cc_tell(c, CC_EVENT_CWND_RESTART, now);
    c->win.ssthresh = current_ssthresh(c);
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

/*
 * RFC 5681 section 3.1 (4), RFC 6298 section 5: all is lost but what was SACKed, cwnd is one
 * (tcp_enter_loss).
 */
void tcp_enter_loss(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    bool forget = !tcp_sndq_empty(&c->sndq) && (tcp_sndq_at(&c->sndq, 0)->flags & TCP_DESC_SACKED);
    uint32_t sacked = tcp_sacked_out(c);

    if (forget)
        t->counters.reneging++;
    c->dup_acks = 0;
    if (c->ca_state <= TCP_CA_DISORDER || !seq_gt(c->high_seq, c->snd_una) ||
        (c->ca_state == TCP_CA_LOSS && c->retransmits == 0)) {
        c->prior_ssthresh = current_ssthresh(c);
        c->prior_cwnd = c->win.cwnd;
        c->win.ssthresh = c->cc->ssthresh(c->cc_state, &c->win, tcp_in_flight(c));
        cc_tell(c, CC_EVENT_LOSS, now);
        init_undo(c);
    }
    tcp_sndq_mark_all_lost(&c->sndq, forget);
    c->win.cwnd = tcp_in_flight(c) + 1;
    c->win.cwnd_cnt = 0;
    c->snd_cwnd_stamp = now;
    if (c->ca_state <= TCP_CA_DISORDER && sacked >= (uint32_t)t->config->tcp_reordering &&
        c->reordering > t->config->tcp_reordering)
        c->reordering = (uint16_t)t->config->tcp_reordering;
    set_ca_state(c, TCP_CA_LOSS);
    c->high_seq = c->snd_nxt;
}

void tcp_non_congestion_loss(struct tcp *t, struct tcp_conn *c)
{
    (void)t;
    if (c->ca_state != TCP_CA_LOSS) {
        c->high_seq = c->snd_nxt;
        c->win.ssthresh = current_ssthresh(c);
        c->prior_ssthresh = 0;
        c->undo_marker = 0;
        set_ca_state(c, TCP_CA_LOSS);
    }
    tcp_mark_ready(t, c);
}

void tcp_undo_synack_loss(struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    struct tcp_ack_value v = {.ts_seen = c->ts_ok && seg->opt.timestamps_ok, .tsecr = seg->opt.tsecr};

    (void)try_undo_recovery(c, &v, now);
}

static void back_off(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (c->retransmits < UINT8_MAX)
        c->retransmits++;
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
    expired = tcp_timed_out(t, c, now);
    tcp_fastopen_timeout(t, c, expired, now);
    if (expired) {
        tcp_write_error(t, c, now);
        return;
    }
    tcp_enter_loss(t, c, now);
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
    if (c->probes_out >= max_probes(t, c) || (!c->owned && tcp_orphan_over_limit(t))) {
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
