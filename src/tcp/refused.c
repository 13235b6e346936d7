/*
 * tcp/refused.c: the device's queue was full (Linux: tcp_transmit_skb() fails by local congestion).
 *
 * New data that did not leave is taken back: its descriptor becomes a cell of the write queue again, so that nothing
 * counts as in flight that never was, and no RTO, cwnd reduction or RTT sample comes of it. A retransmission is to be
 * made once more. tx_refused then holds both back until a send, an ACK or a timer tries again: no busy loop at a full
 * device. Of new data only the last descriptor can be taken back; anything else stays as good as lost. Where the shell
 * had cut a super-frame, what is refused may begin within a descriptor, which is split there. Called by the shell,
 * between batches.
 */
#include "tcp/recovery.h"

/* Descriptor i begins at `seq`, if need be after a split; NULL: it can't. *ret_at: where it is then. */
static struct tcp_desc *desc_from(struct tcp_conn *c, uint32_t i, uint32_t seq, uint32_t *ret_at)
{
    struct tcp_desc *d = tcp_sndq_at(&c->sndq, i);
    uint32_t before = seq - d->seq;

    *ret_at = i;
    if (before == 0)
        return d;
    if (seq_lt(seq, d->seq) || before % d->mss != 0 || before / d->mss >= d->pcount || (d->flags & TCP_DESC_SYN) ||
        !tcp_sndq_split(&c->sndq, i, before / d->mss))
        return NULL;
    *ret_at = i + 1;
    return tcp_sndq_at(&c->sndq, i + 1);
}

/* Is it the last thing this connection sent, for the first time, and not acknowledged meanwhile? */
static bool may_take_back(struct tcp_conn *c, const struct tcp_out *out)
{
    const unsigned no = TCP_DESC_SYN | TCP_DESC_SACKED | TCP_DESC_LOST;
    const struct tcp_desc *d;
    uint32_t at;

    if (tcp_handshaking(c) || c->state == TCP_STATE_CLOSE || c->fastopen_rsk || tcp_sndq_empty(&c->sndq))
        return false;
    d = tcp_sndq_at(&c->sndq, c->sndq.count - 1);
    return d->tx_count == 1 && d->end == c->snd_nxt && !(d->flags & no) &&
           desc_from(c, c->sndq.count - 1, out->seg.seq, &at);
}

static void take_back(struct tcp_conn *c)
{
    struct tcp_desc d = *tcp_sndq_at(&c->sndq, c->sndq.count - 1);
    uint32_t cell = (d.flags & TCP_DESC_PSH ? TCP_CELL_PSH : 0u) | (d.flags & TCP_DESC_EOR ? TCP_CELL_EOR : 0u);

    tcp_mtup_unsent(c, d.seq);
    tcp_sndq_unpush(&c->sndq);
    c->snd_nxt = c->sndq.nxt;
    if (tcp_desc_len(&d) > 0)
        tcp_writeq_unsent(&c->writeq, d.seq, cell);
}

/* Something LOST that went again is to go again still. The timer of its queue runs on. */
static bool take_again_back(struct tcp_conn *c, const struct tcp_out *out)
{
    const unsigned again = TCP_DESC_LOST | TCP_DESC_RETRANS;
    uint32_t i = tcp_sndq_find(&c->sndq, out->seg.seq);
    struct tcp_desc *d;

    if (i >= c->sndq.count || (tcp_sndq_at(&c->sndq, i)->flags & again) != again ||
        !(d = desc_from(c, i, out->seg.seq, &i)))
        return false;
    tcp_sndq_unsent_again(&c->sndq, d);
    if (tcp_in_cwnd_reduction(c))
        c->prr_out -= d->pcount < c->prr_out ? d->pcount : c->prr_out;
    return true;
}

/*
 * The timer that tries again (tcp_send_probe0, tcp_check_probe_timer): one that ran already stays; a probe that was
 * refused is repeated soon, and does not back off.
 */
static void arm_retry(struct tcp *t, struct tcp_conn *c, bool was_probe, uint64_t now)
{
    uint64_t at = c->before.probe0_at;

    c->probe_begun_at = c->before.probe_begun_at;
    c->probes_out = c->before.probes_out;
    c->backoff = c->before.backoff;
    if (was_probe) {
        at = now + TCP_RESOURCE_PROBE_NS;
        if (c->user_timeout_ms && c->probe_begun_at)
            at = time_max(now + 1, time_min(at, c->probe_begun_at + c->user_timeout_ms * NSEC_PER_MSEC));
        if (c->backoff > 0)
            c->backoff--;
    }
    tcp_arm_probe0(t, c, now);
    if (at != TIME_NEVER)
        tcp_timer_set(t, c, TCP_TIMER_PROBE0, at);
}

void tcp_tx_refused(struct tcp *t, const struct tcp_out *out, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, out->id);

    t->counters.tx_failed++;
    if (!c || c->state == TCP_STATE_CLOSE)
        return;
    tcp_rec_time(t, now);
    tcp_rec_bare(t, c, TCP_REC_T_DEVICE, TCP_REC_DEVICE_FULL, out->seg.seq);
    if (out->retransmission && take_again_back(c, out)) {
        c->tx_refused = true;
        tcp_mark_dirty(t, c);
        tcp_assert(t, c);
        return;
    }
    if (!may_take_back(c, out))
        return;
    take_back(c);
    c->tx_refused = true;
    if (c->sndq.packets_out == 0)
        arm_retry(t, c, out->cause == TCP_CAUSE_PROBE_WINDOW, now);
    tcp_mark_dirty(t, c);
    tcp_assert(t, c);
}
