/*
 * tcp/ackowed.c: the ACKs that a connection owes; see ackowed.h for facts and wishes.
 *
 * First the FIFO of facts as a pure value, then Linux's delayed-ACK machinery on a connection: ato is learned
 * from the time between data segments; quick credits send the first ACKs of a connection (and those after
 * trouble) at once; pingpong lets ACKs ride on replies. Invariant: an ACK is owed exactly if a fact lies in
 * the FIFO or TCP_ACK_DUE is set; while TCP_ACK_TIMER is set, TCP_TIMER_DELACK is armed for delack_at.
 *
 * Decides and marks; never builds a segment.
 */
#include "tcp/tcp_priv.h"

#define FACTS_FIRST    4u
#define TCP_ATO_MIN_MS 40u /* Linux TCP_ATO_MIN */

static_assert((TCP_ACK_FACTS_MAX & (TCP_ACK_FACTS_MAX - 1)) == 0, "the ring is indexed by a mask");
static_assert(sizeof(struct tcp_ackowed_fact) == 20, "a full FIFO is little more than one KiB");

/* ---- the FIFO of facts ---- */

void tcp_ackowed_init(struct tcp_ackowed *o)
{
    *o = (struct tcp_ackowed){0};
}

void tcp_ackowed_release(struct tcp_ackowed *o)
{
    free(o->fact);
    tcp_ackowed_init(o);
}

void tcp_ackowed_clear(struct tcp_ackowed *o)
{
    o->fact_count = 0;
    o->pending = 0;
    o->taken_fact = false;
}

static struct tcp_ackowed_fact *fact_at(const struct tcp_ackowed *o, uint32_t i)
{
    return &o->fact[(o->fact_head + i) & (o->fact_size - 1u)];
}

static bool facts_grow(struct tcp_ackowed *o)
{
    uint32_t size = o->fact_size ? o->fact_size * 2u : FACTS_FIRST;
    struct tcp_ackowed_fact *fact;

    if (size > TCP_ACK_FACTS_MAX)
        return false;
    fact = malloc(size * sizeof *fact);
    if (!fact)
        return false;
    for (uint32_t i = 0; i < o->fact_count; i++)
        fact[i] = *fact_at(o, i);
    free(o->fact);
    o->fact = fact;
    o->fact_size = (uint8_t)size;
    o->fact_head = 0;
    return true;
}

static bool same_plain_fact(const struct tcp_ackowed_fact *a, const struct tcp_ackowed_fact *b)
{
    return !a->has_dsack && !b->has_dsack && a->ack == b->ack && a->cause == b->cause &&
           a->has_sack == b->has_sack && a->sack_seq == b->sack_seq && a->ece == b->ece;
}

bool tcp_ackowed_fact(struct tcp_ackowed *o, uint32_t ack, enum tcp_cause cause,
                      const struct tcp_sack_block *dsack)
{
    return tcp_ackowed_fact_at(o, ack, cause, dsack, NULL);
}

bool tcp_ackowed_fact_at(struct tcp_ackowed *o, uint32_t ack, enum tcp_cause cause,
                         const struct tcp_sack_block *dsack, const uint32_t *sack_seq)
{
    struct tcp_ackowed_fact *last = o->fact_count ? fact_at(o, o->fact_count - 1u) : NULL;
    struct tcp_ackowed_fact f = {.ack = ack,
                                 .sack_seq = sack_seq ? *sack_seq : 0,
                                 .count = 1,
                                 .cause = (uint8_t)cause,
                                 .has_dsack = dsack != NULL,
                                 .ece = o->ece,
                                 .has_sack = sack_seq != NULL};

    if (last && same_plain_fact(last, &f) && last->count < UINT16_MAX) {
        last->count++;
        return true;
    }
    if (dsack)
        f.dsack = *dsack;
    if (o->fact_count == o->fact_size && !facts_grow(o)) {
        /* The newest facts matter most: the last entry takes the new one's place, the ACK number never goes
         * back. */
        o->coalesced += last ? last->count : 1u;
        if (last)
            *last = f;
        else
            o->pending |= TCP_ACK_NOW;
        return false;
    }
    o->fact_count++;
    *fact_at(o, o->fact_count - 1u) = f;
    return true;
}

bool tcp_ackowed_covers(const struct tcp_ackowed *o, uint32_t ack)
{
    return o->fact_count > 0 && seq_geq(fact_at(o, o->fact_count - 1u)->ack, ack);
}

uint32_t tcp_ackowed_facts(const struct tcp_ackowed *o)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->fact_count; i++)
        n += fact_at(o, i)->count;
    return n;
}

static bool fact_pop(struct tcp_ackowed *o, struct tcp_ack_fact *ret)
{
    struct tcp_ackowed_fact *f;

    if (!o->fact_count)
        return false;
    f = fact_at(o, 0);
    *ret = (struct tcp_ack_fact){
        .ack = f->ack,
        .cause = (enum tcp_cause)f->cause,
        .dsack = f->has_dsack,
        .dsack_block = f->dsack,
        .sack = f->has_sack,
        .sack_seq = f->sack_seq,
        .ece = f->ece,
    };
    if (--f->count == 0) {
        o->fact_head = (uint8_t)((o->fact_head + 1u) & (o->fact_size - 1u));
        o->fact_count--;
    }
    return true;
}

const char *tcp_ackowed_check(const struct tcp_ackowed *o)
{
    if (o->fact_size > TCP_ACK_FACTS_MAX || o->fact_count > o->fact_size)
        return "ackowed: more facts than places";
    for (uint32_t i = 0; i < o->fact_count; i++) {
        if (fact_at(o, i)->count == 0)
            return "ackowed: a fact that owes nothing";
        if (i && seq_lt(fact_at(o, i)->ack, fact_at(o, i - 1)->ack))
            return "ackowed: facts acknowledge backwards";
    }
    return NULL;
}

/* ---- on a connection: owing ---- */

void tcp_owe_fact_at(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause,
                     const struct tcp_sack_block *dsack, const uint32_t *sack_seq)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (!tcp_ackowed_fact_at(o, c->rcv_nxt, cause, dsack, sack_seq) && !o->fact_count) {
        o->pending |= TCP_ACK_DUE;
        o->cause = (uint8_t)cause;
    }
    tcp_mark_ready(t, c);
}

void tcp_owe_fact(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, const struct tcp_sack_block *dsack)
{
    tcp_owe_fact_at(t, c, cause, dsack, NULL);
}

static bool owes_one_of_its_own(enum tcp_cause cause)
{
    switch (cause) {
    case TCP_CAUSE_ACK_OUT_OF_ORDER:
    case TCP_CAUSE_ACK_DUPLICATE:
    case TCP_CAUSE_ACK_CE_CHANGE:
    case TCP_CAUSE_ACK_CHALLENGE:
    case TCP_CAUSE_ACK_UNACCEPTABLE:
    case TCP_CAUSE_ACK_WINDOW_PROBE:
    case TCP_CAUSE_ACK_KEEPALIVE:
        return true;
    default:
        return false;
    }
}

void tcp_owe_ack(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (owes_one_of_its_own(cause)) {
        tcp_owe_fact(t, c, cause, NULL);
        return;
    }
    if (!(o->pending & TCP_ACK_DUE) || o->cause != TCP_CAUSE_ACK_FIN)
        o->cause = (uint8_t)cause;
    o->pending |= TCP_ACK_DUE;
    if (cause != TCP_CAUSE_ACK_WINDOW)
        o->pending |= TCP_ACK_SCHED;
    tcp_mark_ready(t, c);
}

/* RFC 5961 section 7 for challenges; RFC 9293 section 3.10.7.4 for ACKs of unacceptable segments. */
void tcp_owe_challenge(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, uint64_t now)
{
    if (!tcp_invalid_ack_allowed(t, &c->invalid_ack_at, now)) {
        t->counters.skipped_challenges++;
        tcp_drop(t, c, TCP_DROP_CHALLENGE_LIMIT);
        return;
    }
    if (cause == TCP_CAUSE_ACK_CHALLENGE && !tcp_challenge_allowed(t, now)) {
        tcp_drop(t, c, TCP_DROP_CHALLENGE_LIMIT);
        return;
    }
    tcp_owe_fact(t, c, cause, NULL);
}

/* RFC 2883 section 4: a duplicate below rcv_nxt is reported, whatever check refused the segment. */
void tcp_owe_dupack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, enum tcp_cause cause)
{
    struct tcp_sack_block dup = {.start = seg->seq,
                                 .end = seq_min(seg->seq + tcp_seg_seq_len(seg), c->rcv_nxt)};
    bool old = tcp_seg_seq_len(seg) > 0 && seq_lt(seg->seq, c->rcv_nxt);

    if (old)
        tcp_enter_quickack_mode(c, TCP_MAX_QUICKACKS);
    if (old && c->sack_ok && t->config->tcp_dsack) {
        t->counters.dsack_old_sent++;
        tcp_owe_fact(t, c, cause, &dup);
        return;
    }
    tcp_owe_fact(t, c, cause, NULL);
}

/* ---- on a connection: now or later (RFC 9293 section 3.8.6.3, RFC 5681 section 4.2) ---- */

static uint32_t ato_min_ms(const struct tcp *t)
{
    return (uint32_t)t->config->tcp_delack_min;
}

static void incr_quickack(struct tcp_conn *c, unsigned max_quickacks)
{
    uint32_t n = c->rcv_wnd / (2u * (c->rcv_mss ? c->rcv_mss : TCP_MSS_DEFAULT));

    if (n == 0)
        n = 2;
    if (n > max_quickacks)
        n = max_quickacks;
    if (n > c->ackowed.quick)
        c->ackowed.quick = (uint8_t)n;
}

void tcp_enter_quickack_mode(struct tcp_conn *c, unsigned max_quickacks)
{
    incr_quickack(c, max_quickacks);
    c->ackowed.pingpong = 0;
    c->ackowed.ato_ms = TCP_ATO_MIN_MS;
}

static bool in_quickack_mode(const struct tcp_conn *c)
{
    return c->ackowed.quick && !tcp_ackowed_in_pingpong(&c->ackowed);
}

void tcp_quickack_set(struct tcp *t, struct tcp_conn *c, bool on, uint64_t now)
{
    (void)now;
    if (!on) {
        c->ackowed.pingpong = TCP_PINGPONG_THRESH;
        return;
    }
    c->ackowed.pingpong = 0;
    if ((c->state == TCP_STATE_ESTABLISHED || c->state == TCP_STATE_CLOSE_WAIT) &&
        (c->ackowed.pending & TCP_ACK_SCHED))
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_QUICK);
}

/* Data left within ato of data that came: a reply. */
void tcp_ackowed_data_sent(struct tcp_conn *c, uint64_t now)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (o->lrcvtime && now - o->lrcvtime < o->ato_ms * NSEC_PER_MSEC && o->pingpong < UINT8_MAX)
        o->pingpong++;
}

/* tcp_event_data_recv: learns ato, the time between data segments. */
void tcp_ackowed_data_received(struct tcp_conn *c, uint64_t now)
{
    struct tcp_ackowed *o = &c->ackowed;
    uint64_t rto_ms = c->rtt.rto_us / 1000u, m = time_since(now, o->lrcvtime) / NSEC_PER_MSEC;
    const uint32_t min_ms = TCP_ATO_MIN_MS;

    o->pending |= TCP_ACK_SCHED;
    if (o->ato_ms == 0) {
        incr_quickack(c, TCP_MAX_QUICKACKS);
        o->ato_ms = min_ms;
    } else if (m <= min_ms / 2) {
        o->ato_ms = (o->ato_ms >> 1) + min_ms / 2;
    } else if (m < o->ato_ms) {
        o->ato_ms = (o->ato_ms >> 1) + (uint32_t)m;
        if (o->ato_ms > rto_ms)
            o->ato_ms = (uint32_t)rto_ms;
    } else if (m > rto_ms) {
        /* The sender was quiet for an RTO: its window is small again, ACKs make it grow. */
        incr_quickack(c, TCP_MAX_QUICKACKS);
    }
    o->lrcvtime = now;
}

/* tcp_send_delayed_ack: no later than a round trip, nor than an older deadline. */
static void send_delayed(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_ackowed *o = &c->ackowed;
    uint64_t ato = o->ato_ms ? o->ato_ms : ato_min_ms(t), max_ms = 500, at;

    if (ato > ato_min_ms(t)) {
        if (tcp_ackowed_in_pingpong(o) || (o->pending & TCP_ACK_PUSHED))
            max_ms = (uint64_t)t->config->tcp_delack_max;
        if (c->rtt.srtt_us) {
            uint64_t rtt_ms = (c->rtt.srtt_us >> 3) / 1000u;

            max_ms = time_min(max_ms, time_max(rtt_ms, ato_min_ms(t)));
        }
        ato = time_min(ato, max_ms);
    }
    ato = time_min(time_max(ato, ato_min_ms(t)), (uint64_t)t->config->tcp_delack_max);
    at = now + ato * NSEC_PER_MSEC;
    if (o->pending & TCP_ACK_TIMER) {
        if (o->delack_at <= now + (ato * NSEC_PER_MSEC) / 4) {
            tcp_owe_ack(t, c, TCP_CAUSE_ACK_QUICK);
            return;
        }
        at = time_min(at, o->delack_at);
    }
    o->pending |= TCP_ACK_SCHED | TCP_ACK_TIMER;
    o->delack_at = at;
    tcp_timer_set(t, c, TCP_TIMER_DELACK, at);
}

/* __tcp_ack_snd_check: an ACK for at least every second full-sized segment. */
void tcp_ack_snd_check(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (!(o->pending & TCP_ACK_SCHED) || (o->pending & TCP_ACK_DUE))
        return;
    if ((o->pending & TCP_ACK_NOW) || in_quickack_mode(c) ||
        (c->rcv_nxt - c->rcv_wup > c->rcv_mss && tcp_wanted_window(t, c) >= c->rcv_wnd))
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_QUICK);
    else
        send_delayed(t, c, now);
}

/* TCP_TIMER_DELACK ran out (tcp_delack_timer_handler). */
void tcp_delack_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (!(o->pending & TCP_ACK_TIMER))
        return;
    if (now < o->delack_at) {
        tcp_timer_set(t, c, TCP_TIMER_DELACK, o->delack_at);
        return;
    }
    o->pending &= (uint8_t)~TCP_ACK_TIMER;
    tcp_timer_set(t, c, TCP_TIMER_DELACK, TIME_NEVER);
    if (!(o->pending & TCP_ACK_SCHED))
        return;
    if (!tcp_ackowed_in_pingpong(o)) {
        /* Nothing came to ride on or to wait for: wait longer the next time. */
        o->ato_ms = (uint32_t)time_min((uint64_t)o->ato_ms << 1, c->rtt.rto_us / 1000u);
    } else {
        o->pingpong = 0;
        o->ato_ms = ato_min_ms(t);
    }
    t->counters.delayed_acks++;
    tcp_owe_ack(t, c, TCP_CAUSE_ACK_DELAYED);
}

/* ---- on a connection: paying ---- */

bool tcp_ack_owed(const struct tcp_conn *c)
{
    return c->ackowed.fact_count > 0 || (c->ackowed.pending & TCP_ACK_DUE);
}

bool tcp_ack_take(struct tcp_conn *c, struct tcp_ack_fact *ret)
{
    struct tcp_ackowed *o = &c->ackowed;

    if (fact_pop(o, ret)) {
        o->taken_fact = ret->ack != c->rcv_nxt;
        return true;
    }
    o->taken_fact = false;
    if (!(o->pending & TCP_ACK_DUE))
        return false;
    o->pending &= (uint8_t)~TCP_ACK_DUE;
    *ret = (struct tcp_ack_fact){.ack = c->rcv_nxt, .cause = (enum tcp_cause)o->cause, .ece = o->ece};
    return true;
}

static void dec_quickack(struct tcp *t, struct tcp_ackowed *o)
{
    if (!o->quick || !(o->pending & TCP_ACK_SCHED))
        return;
    if (--o->quick == 0)
        o->ato_ms = ato_min_ms(t);
}

/* tcp_event_ack_sent. An ACK of less than rcv_nxt (an older fact) pays nothing else. */
void tcp_ack_sent(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_ackowed *o = &c->ackowed;

    (void)now;
    if (o->taken_fact) {
        o->taken_fact = false;
        return;
    }
    dec_quickack(t, o);
    if (o->pending & TCP_ACK_TIMER)
        tcp_timer_set(t, c, TCP_TIMER_DELACK, TIME_NEVER);
    o->pending = 0;
    c->last_ack_sent = c->rcv_nxt;
}
