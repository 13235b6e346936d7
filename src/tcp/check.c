/*
 * tcp/check.c: the invariants as code. tcp_check() says in a sentence which one does not hold; it changes
 * nothing and is called by tests, fuzzers and, with tcp_params.check, at the end of every verb. Assertions
 * are about our own bugs only: nothing a peer or a program can do may make one fail.
 */
#include "tcp/recovery.h"

static bool synchronised(const struct tcp_conn *c)
{
    return c->state != TCP_STATE_CLOSE && c->state != TCP_STATE_SYN_SENT && c->state != TCP_STATE_SYN_RECV;
}

static const char *check_life(const struct tcp_conn *c)
{
    bool closed = c->state == TCP_STATE_CLOSE;

    if (c->owned && (c->orphan || c->dead))
        return "owned, and an orphan or dead";
    if (c->orphan == (c->owned || closed))
        return "not orphan <=> no owner and not in CLOSE";
    if (c->dead && (!closed || c->rst_pending))
        return "dead, but not in CLOSE or with a RST to send";
    if (!c->owned && c->event_bits)
        return "event without an owner";
    if ((c->event_bits != 0) != list_linked(&c->event))
        return "not event_bits <=> on EVENT";
    if (c->in_accept_queue != list_linked(&c->listener_link))
        return "not in_accept_queue <=> in its listener's list";
    if (c->suspended && list_linked(&c->ready))
        return "suspended, but on READY";
    if (closed && list_linked(&c->ready) && !c->rst_pending)
        return "in CLOSE without a RST, but on READY";
    if (c->rst_pending && !closed)
        return "RST to send outside of CLOSE";
    return NULL;
}

/* Until the SYN-ACK is acknowledged the RTO timer is its, in SYN-RECEIVED, or FIN-WAIT-1 if closed meanwhile.
 */
static bool fastopen_state_ok(const struct tcp_conn *c)
{
    return (c->state == TCP_STATE_SYN_RECV || c->state == TCP_STATE_FIN_WAIT1) &&
           c->timer_at[TCP_TIMER_RETRANS] != TIME_NEVER;
}

static const char *check_timers(const struct tcp_conn *c)
{
    for (unsigned i = 0; i < TCP_TIMER_MAX; i++) {
        if (c->timer_at[i] < c->timer.at)
            return "a timer runs out before the wheel looks";
        if (c->state == TCP_STATE_CLOSE && c->timer_at[i] != TIME_NEVER)
            return "timer set in CLOSE";
    }
    if (c->fastopen_rsk && !fastopen_state_ok(c))
        return "Fast Open pending in a state that it can't be in, or without its timer";
    if (c->timer_at[TCP_TIMER_RETRANS] != TIME_NEVER && c->timer_at[TCP_TIMER_PROBE0] != TIME_NEVER)
        return "RETRANS and PROBE0 run together";
    if (c->rtx != TCP_RTX_RTO &&
        (c->timer_at[TCP_TIMER_RETRANS] == TIME_NEVER || !c->sndq.packets_out || !c->sack_ok))
        return "RETRANS stands for RACK or a probe, and there is nothing to wait for";
    if (c->tlp_out && seq_leq(c->tlp_high_seq, c->snd_una) && !c->tlp_retrans)
        return "a tail loss probe of new data is out, and acknowledged";
    if (c->frto_new && (!c->frto || c->ca_state != TCP_CA_LOSS))
        return "F-RTO waits for new data outside of Loss";
    if (c->sndq.packets_out && synchronised(c) && c->timer_at[TCP_TIMER_RETRANS] == TIME_NEVER)
        return "data in flight without a retransmission timer";
    return NULL;
}

static const char *check_send(const struct tcp_conn *c)
{
    const char *wrong = tcp_sndbuf_check(&c->sndbuf);

    if (!wrong)
        wrong = tcp_sndq_check(&c->sndq);
    if (!wrong)
        wrong = tcp_writeq_check(&c->writeq);
    if (wrong || c->state == TCP_STATE_CLOSE)
        return wrong;
    if (tcp_writeq_end(&c->writeq) != c->write_seq)
        return "write queue doesn't end at write_seq";
    if (c->write_seq - c->writeq.start != tcp_unsent_bytes(c))
        return "write queue doesn't begin at snd_nxt";
    if (!seq_leq(c->snd_una, c->snd_nxt))
        return "not snd_una <= snd_nxt";
    if (!seq_leq(c->snd_nxt, c->write_seq + (c->fin_queued ? 1u : 0u)))
        return "not snd_nxt <= write_seq, with the FIN";
    if (c->sndq.una != c->snd_una || c->sndq.nxt != c->snd_nxt)
        return "sent-segment queue doesn't cover [snd_una, snd_nxt)";
    if (c->sndbuf.end != c->write_seq)
        return "send buffer doesn't end at write_seq";
    if ((wrong = tcp_mtup_check(c)) != NULL)
        return wrong;
    if (c->sndbuf.start != seq_min(c->snd_una, c->write_seq) && synchronised(c))
        return "send buffer doesn't begin at snd_una";
    if (synchronised(c) && c->mss == 0)
        return "mss is 0";
    if (synchronised(c) && c->win.cwnd == 0)
        return "cwnd is 0";
    return NULL;
}

/* Past the FIN the program may read what it closed before, hence rcvq.bytes, not only sequence numbers. */
static const char *check_receive(const struct tcp_conn *c)
{
    const char *wrong = tcp_rcvq_check(&c->rcvq, c->rcv_nxt);

    if (!wrong)
        wrong = tcp_ackowed_check(&c->ackowed);
    if (wrong || c->state == TCP_STATE_CLOSE || c->state == TCP_STATE_SYN_SENT)
        return wrong;
    if (!seq_leq(c->copied_seq, c->rcv_nxt))
        return "not copied_seq <= rcv_nxt";
    if (c->copied_seq + c->rcvq.bytes + (c->fin_received ? 1u : 0u) != c->rcv_nxt)
        return "not copied_seq + unread bytes + FIN = rcv_nxt";
    if (!seq_leq(c->rcv_wup, c->rcv_nxt))
        return "not rcv_wup <= rcv_nxt";
    if (c->rcvq.n_ranges && c->fin_received)
        return "out-of-order data behind a FIN";
    return NULL;
}

static const char *check_conn(const struct tcp_conn *c)
{
    const char *wrong = check_life(c);

    if (!wrong)
        wrong = check_timers(c);
    if (!wrong)
        wrong = check_send(c);
    return wrong ? wrong : check_receive(c);
}

const char *tcp_check(const struct tcp *t, tcp_id id)
{
    const struct tcp_conn *c = tcp_conn_view(t, id);

    if (!c)
        return NULL;
    return c->id == id ? check_conn(c) : "id and slot disagree";
}

struct sums {
    uint32_t conns, parked, established, orphans, ready, accept_queue;
};

static const char *check_slots(const struct tcp *t, struct sums *s)
{
    for (uint32_t slot = 0; slot < tcp_table_slots(t); slot++) {
        enum tcp_kind kind, found = TCP_KIND_FREE;
        tcp_id id;
        const struct tcp_conn *c = tcp_table_at(t, slot, &kind, &id);
        const char *wrong;

        if (!c || (kind != TCP_KIND_CONN && kind != TCP_KIND_PARKED))
            continue;
        if (kind == TCP_KIND_PARKED && !(c = tcp_view(t, c)))
            return "parked connection can't be read";
        s->parked += kind == TCP_KIND_PARKED;
        wrong = tcp_check(t, id);
        if (wrong)
            return wrong;
        if (c->state != TCP_STATE_CLOSE && tcp_lookup_tuple(t, &c->tuple, &found) != tcp_table_at(t, slot, &kind, &id))
            return "connection isn't found by its tuple";
        s->conns++;
        s->established += c->state == TCP_STATE_ESTABLISHED || c->state == TCP_STATE_CLOSE_WAIT;
        s->orphans += c->orphan;
        s->ready += list_linked(&c->ready);
        s->accept_queue += c->in_accept_queue;
    }
    return NULL;
}

static uint32_t list_length(const struct list_node *list)
{
    uint32_t n = 0;

    list_for_each(node, list) n++;
    return n;
}

static const char *check_listeners(const struct tcp *t, const struct sums *s)
{
    uint32_t n = 0, waiting = 0, half_open = 0;

    for (unsigned i = 0; i < 64; i++) {
        list_for_each(node, &t->listeners[i])
        {
            const struct tcp_listener *l = list_entry(node, struct tcp_listener, link);

            if (tcp_listener_by_number(t, l->number) != l)
                return "listener isn't found by its number";
            if (list_length(&l->unaccepted) != l->accept_queue)
                return "a listener's accept_queue isn't the length of its list";
            waiting += l->accept_queue;
            half_open += l->half_open;
            n++;
        }
    }
    if (n != t->n_listeners)
        return "n_listeners is wrong";
    if (waiting != s->accept_queue)
        return "accept queues disagree with the connections";
    return half_open == tcp_req_count(t) ? NULL : "half_open of the listeners isn't the number of entries";
}

const char *tcp_check_all(const struct tcp *t)
{
    struct sums s = {0};
    const char *wrong = check_slots(t, &s);

    if (wrong)
        return wrong;
    if (s.conns != t->n_conns)
        return "n_conns is wrong";
    if (s.established != t->n_established)
        return "n_established is wrong";
    if (s.parked != t->n_parked || list_length(&t->warm) != t->n_warm)
        return "n_parked or n_warm is wrong";
    if (s.orphans != t->orphans)
        return "orphans is wrong";
    if (s.ready != t->n_ready || list_length(&t->ready_urgent) + list_length(&t->ready_bulk) != t->n_ready)
        return "n_ready is wrong";
    wrong = tcp_md5_check_refs(t);
    if (!wrong)
        wrong = tcp_req_check(t);
    if (!wrong)
        wrong = tcp_tw_check(t);
    return wrong ? wrong : check_listeners(t, &s);
}

void tcp_assert(const struct tcp *t, const struct tcp_conn *c)
{
#ifdef TAUT_NO_CHECK
    (void)t;
    (void)c;
#else
    const char *wrong = t->params.check ? check_conn(c) : NULL;

    if (wrong)
        log_msg(t->log, LOG_LVL_ERR, "connection %llx: %s", (unsigned long long)c->id, wrong);
    assert(!wrong);
#endif
}
