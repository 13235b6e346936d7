/*
 * tcp/ecn.c: Explicit Congestion Notification (RFC 3168), both sides, with Linux's choices.
 *
 *     SYN with ECE and CWR asks, SYN-ACK with ECE grants             -> ecn_ok
 *     receiver: data with CE       -> ECE on every ACK until CWR       (ackowed.ece)
 *     sender:   ACK with ECE       -> CWR state (recovery.c), then CWR once on new data  (ecn_queue_cwr)
 *
 * ECT(0) is set on data sent for the first time only: a retransmission, a pure ACK and a SYN may be forged or
 * lost without anybody noticing (RFC 3168 section 6.1.1, 6.1.4, 6.1.5). A controller that needs ECN (DCTCP,
 * RFC 8257) sets it on everything, and has each change of CE echoed by an ACK of its own.
 *
 * Called by output.c, input.c, request.c, ack.c and rcv.c; builds nothing.
 */
#include "tcp/tcp_priv.h"

#define CE_QUICKACKS 2u /* the sender's window may be tiny now: don't delay */

unsigned tcp_ecn_syn_flags(const struct tcp *t, struct tcp_conn *c, bool again)
{
    if (!again)
        c->ecn_ok = t->config->tcp_ecn == 1 || tcp_cc_needs_ecn(c);
    /* RFC 3168 section 6.1.1.1: a path that loses such SYNs. */
    return c->ecn_ok && !(again && t->config->tcp_ecn_fallback) ? TCP_ECE | TCP_CWR : 0u;
}

/* RFC 3168 section 6.1.1: the SYN-ACK grants with ECE alone; both set would be somebody who echoes our flags.
 */
void tcp_ecn_syn_in(struct tcp_conn *c, const struct tcp_seg *seg)
{
    unsigned want = seg->flags & TCP_ACK ? TCP_ECE : TCP_ECE | TCP_CWR;

    c->ecn_ok = c->ecn_ok && (seg->flags & (TCP_ECE | TCP_CWR)) == want;
}

/* A SYN that is itself ECN-capable is not RFC 3168's: granted only to DCTCP. */
bool tcp_ecn_granted(const struct tcp *t, const struct tcp_listener *l, const struct tcp_seg *seg,
                     bool *ret_ect)
{
    const struct cc_ops *cc =
        cc_find(cc_name(l->cc ? l->cc - 1u : (unsigned)t->config->tcp_congestion_control));

    *ret_ect = (cc->flags & CC_NEEDS_ECN) != 0;
    if ((seg->flags & (TCP_ECE | TCP_CWR)) != (TCP_ECE | TCP_CWR))
        return false;
    return (t->config->tcp_ecn && seg->ecn == IP_ECN_NOT_ECT) || *ret_ect;
}

void tcp_ecn_accept_cwr(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (!(seg->flags & TCP_CWR))
        return;
    /* What is owed for older data was to carry ECE: it must not be lost with the mark. */
    if (o->ece && (o->pending & TCP_ACK_DUE))
        tcp_owe_fact(t, c, TCP_CAUSE_ACK_CE_CHANGE, NULL);
    o->ece = false;
    if (tcp_seg_seq_len(seg) > 0)
        o->pending |= TCP_ACK_NOW;
}

/* RFC 8257 section 3.2. What a delayed ACK covers gets an ACK with the old mark, this segment one with the
 * new. */
static bool dctcp_data_in(struct tcp_conn *c, bool ce)
{
    struct tcp_ackowed *o = &c->ackowed;
    uint32_t prior = c->dctcp_ce.prior_rcv_nxt;
    bool held = (o->pending & (TCP_ACK_TIMER | TCP_ACK_DUE)) && seq_gt(prior, c->last_ack_sent) &&
                seq_leq(prior, c->rcv_nxt) && !tcp_ackowed_covers(o, prior);
    struct dctcp_echo e = dctcp_ce_arrived(&c->dctcp_ce, ce, c->rcv_nxt, held);

    if (e.ack_prior)
        (void)tcp_ackowed_fact(o, prior, TCP_CAUSE_ACK_CE_CHANGE, NULL);
    o->ece = e.ece;
    return e.ack_now;
}

bool tcp_ecn_data_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    bool ce = seg->ecn == IP_ECN_CE, ack_now = false;

    if (!c->ecn_ok)
        return false;
    if (seg->ecn == IP_ECN_NOT_ECT) {
        /* Marked before, not now: probably a retransmission. */
        if (c->ecn_seen)
            tcp_enter_quickack_mode(c, CE_QUICKACKS);
        return false;
    }
    c->ecn_seen = true;
    if (tcp_cc_needs_ecn(c)) {
        ack_now = dctcp_data_in(c, ce);
        tcp_cc_event(t, c, ce ? CC_EVENT_ECN_IS_CE : CC_EVENT_ECN_NO_CE, now);
    }
    if (ce && !c->ackowed.ece) {
        tcp_enter_quickack_mode(c, CE_QUICKACKS);
        c->ackowed.ece = true;
    }
    return ack_now;
}

void tcp_ecn_put(struct tcp_conn *c, struct tcp_seg *seg, bool new_data)
{
    if (tcp_cc_needs_ecn(c) && (c->ecn_ok || tcp_handshaking(c)))
        seg->ecn = IP_ECN_ECT0;
    if (!c->ecn_ok || (seg->flags & TCP_SYN))
        return;
    if (c->ackowed.ece)
        seg->flags |= TCP_ECE;
    if (!new_data || seg->len == 0)
        return;
    seg->ecn = IP_ECN_ECT0;
    if (c->ecn_queue_cwr)
        seg->flags |= TCP_CWR;
    c->ecn_queue_cwr = false;
}
