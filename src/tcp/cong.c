/*
 * tcp/cong.c: the engine's side of congestion controllers (cc/cc.h): what they may see, which one a
 * connection has, their events and the choke point of ca_state.
 *
 * Invariant: win.ca_state = ca_state, and whatever else of struct cc_window only the engine writes is of now
 * whenever a controller is called: tcp_cc_refresh() goes before each call. Called by ack.c, recovery.c,
 * output.c and options.c; decides nothing about windows itself.
 */
#include "tcp/recovery.h"

#define GSO_BYTES_DEFAULT 65536u /* Linux GSO_LEGACY_MAX_SIZE: of devices that say nothing */

static uint32_t options_of(const struct tcp_config *config)
{
    uint32_t o = 0;

    o |= config->tcp_hystart == 0 ? CC_OPT_NO_HYSTART : 0u;
    o |= config->tcp_hystart == 2 ? CC_OPT_HYSTART_PP : 0u;
    o |= config->tcp_abe ? CC_OPT_ABE : 0u;
    o |= config->tcp_dctcp_alpha_on_loss ? CC_OPT_DCTCP_ALPHA_ON_LOSS : 0u;
    o |= config->tcp_bbr_noise ? CC_OPT_BBR_NOISE : 0u;
    return o;
}

void tcp_cc_refresh(const struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct cc_window *w = &c->win;

    c->mstamp = now;
    w->mss = c->mss;
    w->init_cwnd = c->path.initcwnd ? c->path.initcwnd : (uint32_t)t->config->tcp_initcwnd;
    w->srtt_us = c->rtt.srtt_us >> 3;
    w->in_flight = tcp_in_flight(c);
    w->snd_una = c->snd_una;
    w->snd_nxt = seq_max(c->snd_nxt, c->snd_nxt_due);
    w->delivered = c->delivered;
    w->delivered_ce = c->delivered_ce;
    w->lost = c->sndq.lost;
    w->gso_max_bytes = t->gso_max_bytes ? t->gso_max_bytes : GSO_BYTES_DEFAULT;
    w->seed = c->iss ^ c->ts_offset;
    w->gate_rate = c->pacing_rate;
    w->lsndtime = c->lsndtime;
    w->options = options_of(t->config);
    w->ca_state = c->ca_state;
    w->paced = c->pacing_needed;
    w->ecn_ok = c->ecn_ok;
    w->sack_ok = c->sack_ok;
}

/*
 * ACKs come in batches, and what they let out leaves behind the batch; Linux sends between two of them. A controller
 * that takes snd_nxt for the end of a round must not end it within the batch: it would judge the round by the RTTs of
 * its last segments alone, which waited behind the others. Where the pacing gate, the device or the neighbour decides
 * what leaves, cwnd does not tell.
 */
void tcp_cc_note_due(struct tcp_conn *c)
{
    uint32_t flying = tcp_in_flight(c) + c->sndq.lost_pending;
    bool held = c->pacing_needed || c->tx_refused || c->suspended;
    uint64_t room = c->win.cwnd > flying && !held ? (uint64_t)(c->win.cwnd - flying) * c->mss : 0;
    uint32_t end = seq_min(c->write_seq, tcp_wnd_end(c)), ready = seq_lt(c->snd_nxt, end) ? end - c->snd_nxt : 0;

    c->snd_nxt_due = c->snd_nxt + (ready < room ? ready : (uint32_t)room);
}

void tcp_cc_event(const struct tcp *t, struct tcp_conn *c, enum cc_event event, uint64_t now)
{
    if (!c->cc->event)
        return;
    tcp_cc_refresh(t, c, now);
    c->cc->event(c->cc_state, &c->win, event, now);
}

void tcp_cc_lost(const struct tcp *t, struct tcp_conn *c, const struct tcp_desc *d, uint64_t now)
{
    struct cc_lost l = {
        .segs = d->pcount,
        .tx_in_flight = d->tx_in_flight,
        .tx_lost = d->tx_lost,
        .is_app_limited = (d->flags & TCP_DESC_APP_LIMITED) != 0,
    };

    if (!c->cc->pkt_lost || tcp_handshaking(c))
        return;
    tcp_cc_refresh(t, c, now);
    c->cc->pkt_lost(c->cc_state, &c->win, &l, now);
}

void tcp_mark_lost(const struct tcp *t, struct tcp_conn *c, struct tcp_desc *d, uint64_t now)
{
    uint32_t prior = c->sndq.lost;

    (void)tcp_sndq_mark_lost(&c->sndq, d);
    if (c->sndq.lost != prior)
        tcp_cc_lost(t, c, d, now);
}

void tcp_set_ca_state(struct tcp_conn *c, enum tcp_ca_state state)
{
    if (c->cc && c->cc->set_state)
        c->cc->set_state(c->cc_state, &c->win, (enum cc_ca_state)state, c->mstamp);
    c->ca_state = (uint8_t)state;
    c->win.ca_state = (uint8_t)state;
}

void tcp_cc_init(const struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    memset(c->cc_state, 0, sizeof c->cc_state);
    c->win.pacing_rate = 0;
    tcp_cc_refresh(t, c, now);
    c->cc->init(c->cc_state, &c->win, now);
    if (c->win.pacing_rate || t->config->tcp_pacing)
        c->pacing_needed = true; /* it asks for the gate */
}

static uint32_t ack_flags(const struct tcp_ack_value *v)
{
    uint32_t flags = 0;

    flags |= v->una_advanced && !v->has_data && !v->window_update && !v->sack.segs && !v->ece
                 ? 0
                 : CC_ACK_SLOWPATH;
    flags |= v->window_update ? CC_ACK_WIN_UPDATE : 0u;
    flags |= v->ece ? CC_ACK_ECE : 0u;
    return flags;
}

void tcp_cc_acked(const struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    struct cc_ack_sample s = {
        .now = now,
        .rtt_us = v->rtt_us == UINT64_MAX ? CC_NO_RTT : v->rtt_us,
        .pkts_acked = v->acked_segs,
        .in_flight = v->sack.rate.tx_in_flight,
    };

    tcp_count_ce(c, v);
    tcp_cc_refresh(t, c, now);
    if (c->cc->pkts_acked)
        c->cc->pkts_acked(c->cc_state, &c->win, &s);
    if (c->cc->in_ack_event)
        c->cc->in_ack_event(c->cc_state, &c->win, ack_flags(v), now);
}

/* Before the connection is established its window is not the controller's yet. */
static bool in_transfer(const struct tcp_conn *c)
{
    return c->state != TCP_STATE_CLOSE && !tcp_handshaking(c);
}

void tcp_cc_choose(const struct tcp *t, struct tcp_conn *c, unsigned index, uint64_t now)
{
    c->cc = cc_find(cc_name(index));
    memset(c->cc_state, 0, sizeof c->cc_state);
    c->win.pacing_rate = 0;
    c->dctcp_ce = (struct dctcp_ce){.prior_rcv_nxt = c->rcv_nxt};
    if (!in_transfer(c))
        return;
    c->prior_ssthresh = 0;
    tcp_cc_init(t, c, now);
    tcp_update_pacing_rate(t, c);
}
