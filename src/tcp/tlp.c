/*
 * tcp/tlp.c: tail loss probes (RFC 8985 section 7). A tail that is lost makes no SACKs; after about two round
 * trips of silence one segment goes, new data or the last one again, so that its answer tells the loss sooner
 * than the RTO and without its cost.
 *
 *     data leaves, ACK      tcp_schedule_loss_probe(): RETRANS stands for the probe timer (TCP_RTX_PROBE)
 *     the timer             tcp_loss_probe_timeout(): tlp_pending, and the RTO runs again
 *     output.c              makes the probe, tells tcp_loss_probe_sent(): tlp_out until snd_una reaches
 *                           tlp_high_seq
 *     ACK                   tcp_process_tlp_ack(): was it needed?
 *
 * At most one probe is out. Builds no segment.
 */
#include "tcp/recovery.h"

/* Values of tcp_early_retrans that switch probes on, as Linux has left them. */
enum { TLP_ON = 3, TLP_ON_TOO = 4 };

static bool may_probe(const struct tcp *t, const struct tcp_conn *c)
{
    int mode = t->config->tcp_early_retrans;

    if (c->fastopen_rsk || tcp_handshaking(c) || (mode != TLP_ON && mode != TLP_ON_TOO))
        return false;
    return c->sack_ok && c->sndq.packets_out > 0 && (c->ca_state == TCP_CA_OPEN || c->ca_state == TCP_CA_CWR);
}

/* Section 7.2, TLP_calc_PTO(): two round trips; with one segment out its ACK may be delayed. */
static uint64_t probe_timeout_ns(const struct tcp *t, const struct tcp_conn *c)
{
    if (!c->rtt.srtt_us)
        return (uint32_t)t->config->tcp_rto_initial * NSEC_PER_MSEC;
    return (c->rtt.srtt_us >> 2) * NSEC_PER_USEC +
           (c->sndq.packets_out == 1 ? (uint32_t)t->config->tcp_rto_min * NSEC_PER_MSEC : TCP_TIMEOUT_MIN_NS);
}

bool tcp_schedule_loss_probe(struct tcp *t, struct tcp_conn *c, bool advancing_rto, uint64_t now)
{
    uint64_t at, rto_at, sent_at;

    if (!may_probe(t, c))
        return false;
    at = now + probe_timeout_ns(t, c);
    sent_at = tcp_sndq_at(&c->sndq, 0)->sent_at;
    rto_at = tcp_rto_ns(t, c) + (advancing_rto || !sent_at ? now : sent_at);
    if (rto_at > now)
        at = time_min(at, rto_at);
    tcp_set_retrans(t, c, TCP_RTX_PROBE, at);
    return true;
}

/* Section 7.3, TLP_send_probe(). The RTO runs from the head's time until the probe has left. */
void tcp_loss_probe_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (!c->tlp_out && c->sndq.packets_out > 0) {
        c->tlp_pending = true;
        tcp_mark_ready(t, c);
    }
    tcp_rearm_rto(t, c, now);
}

void tcp_loss_probe_sent(struct tcp *t, struct tcp_conn *c, bool retransmission, uint64_t now)
{
    c->tlp_out = true;
    c->tlp_retrans = retransmission;
    c->tlp_high_seq = c->snd_nxt;
    t->counters.loss_probes++;
    tcp_set_retrans(t, c, TCP_RTX_RTO, TIME_NEVER);
    tcp_rearm_rto(t, c, now);
}

/*
 * Section 7.4: the probe was a retransmission and the tail was acknowledged once: it repaired a loss that
 * nobody else has seen, and cwnd must answer for it. Twice (D-SACK, or a plain duplicate): nothing was lost.
 */
void tcp_process_tlp_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint32_t ack,
                         uint64_t now)
{
    bool not_dup = v->has_data || v->window_update || v->acked_segs > 0;

    if (!c->tlp_out || seq_lt(ack, c->tlp_high_seq))
        return;
    if (!c->tlp_retrans || v->dsack_tlp) {
        c->tlp_out = false;
    } else if (seq_gt(ack, c->tlp_high_seq)) {
        tcp_tlp_recovery(t, c, now);
        t->counters.loss_probe_recovery++;
    } else if (!v->una_advanced && !not_dup && v->sack.segs == 0) {
        c->tlp_out = false;
    }
}
