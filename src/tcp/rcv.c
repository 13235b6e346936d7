/*
 * tcp/rcv.c: what a connection does with the data of a segment (RFC 9293 section 3.10.7.4, steps six to
 * eight).
 *
 * input.c has checked the sequence number, RST, SYN and ACK. Here the segment is cut to what is new and
 * inside the window, and goes in order (and then takes the out-of-order ranges with it that it reaches) or
 * out of order. Each way owes its ACK: in-order data by the delayed-ACK rules, everything else one of its own
 * (RFC 5681 section 4.2).
 *
 *     copied_seq + rcvq.bytes + (fin_received ? 1 : 0) = rcv_nxt      while the program's half is open
 *     every out-of-order range lies in (rcv_nxt, rcv_wup + rcv_wnd], and before a FIN that waits
 *
 * A FIN is only remembered (fin_waits, fin_seq) and taken when rcv_nxt reaches it, so that one that overtook
 * data is handled as one in order. Marks; never builds a segment.
 */
#include "tcp/tcp_priv.h"

/* What is left of a segment's text while it is being cut: `len` bytes from `seq`, behind `skip` payload
 * bytes. */
struct text {
    uint32_t seq, len, skip;
    bool fin;
    bool has_dup;
    struct tcp_sack_block dup; /* what of it was here already (RFC 2883) */
};

/* ---- D-SACK ---- */

static void dsack_set(struct tcp *t, const struct tcp_conn *c, struct text *x, uint32_t start, uint32_t end)
{
    if (!c->sack_ok || !t->config->tcp_dsack || start == end)
        return;
    if (x->has_dup) {
        /* tcp_dsack_extend: one block only; it grows where the next duplicate touches it. */
        if (seq_leq(start, x->dup.end) && seq_gt(end, x->dup.end))
            x->dup.end = end;
        return;
    }
    x->has_dup = true;
    x->dup = (struct tcp_sack_block){.start = start, .end = end};
    if (seq_lt(start, c->rcv_nxt))
        t->counters.dsack_old_sent++;
    else
        t->counters.dsack_ofo_sent++;
}

static void owe_fact(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, const struct text *x)
{
    tcp_owe_fact(t, c, cause, x->has_dup ? &x->dup : NULL);
}

/*
 * RFC 2018 section 4: the first block of its ACK is the one that holds the segment (with a D-SACK the second,
 * RFC 2883 section 4), also where other segments of the burst come before that ACK leaves.
 */
static void owe_fact_out_of_order(struct tcp *t, struct tcp_conn *c, const struct text *x)
{
    const struct rcvq_range *range = tcp_rcvq_range_of(&c->rcvq, x->seq);

    tcp_owe_fact_at(t, c, x->has_dup ? TCP_CAUSE_ACK_DUPLICATE : TCP_CAUSE_ACK_OUT_OF_ORDER,
                    x->has_dup ? &x->dup : NULL, range ? &range->start : NULL);
}

/* ---- room (tcp_try_rmem_schedule) ---- */

/* tcp_clamp_window: the buffer may grow instead, as far as the configuration allows. */
static void clamp_window(struct tcp *t, struct tcp_conn *c)
{
    struct tcp_rcvq *q = &c->rcvq;
    uint32_t most = (uint32_t)t->config->tcp_rmem_max;

    c->ackowed.quick = 0;
    if (q->rcvbuf < most && !c->rcvbuf_locked && !tcp_memory_pressure(t))
        q->rcvbuf = q->truesize < most ? q->truesize : most;
    if (q->truesize > q->rcvbuf && c->rcv_ssthresh > 2u * c->advmss)
        c->rcv_ssthresh = 2u * c->advmss;
}

/*
 * Throws out-of-order data away from its end, an eighth of the buffer at a time, so that a peer cannot make us look for
 * room with each segment; never for `seq` what lies below it, which is nearer to being read (tcp_prune_ofo_queue).
 */
static bool prune_ooo(struct tcp *t, struct tcp_conn *c, uint32_t seq)
{
    struct tcp_rcvq *q = &c->rcvq;
    uint32_t goal = q->rcvbuf - q->rcvbuf / 8, target = q->truesize < q->rcvbuf ? q->truesize - 1 : goal;

    if (!tcp_rcvq_prune_ooo(q, t->pool, target, seq))
        return false;
    t->counters.ofo_pruned++;
    tcp_drop(t, c, TCP_DROP_OOO_PRUNED);
    /* A FIN behind what was thrown away comes again with it. */
    c->fin_waits = false;
    return true;
}

static bool fits(const struct tcp *t, const struct tcp_conn *c)
{
    return c->rcvq.truesize <= c->rcvq.rcvbuf && tcp_memory_left(t, c->rcvq.truesize, t->config->tcp_rmem_min);
}

/* tcp_prune_queue: collapse, then out-of-order data goes. */
static bool make_room(struct tcp *t, struct tcp_conn *c, uint32_t seq)
{
    struct tcp_rcvq *q = &c->rcvq;

    if (fits(t, c))
        return true;
    clamp_window(t, c);
    if (fits(t, c))
        return true;
    t->counters.rcv_collapsed += tcp_rcvq_collapse(q, t->pool) / CHUNK_SMALL_BYTES;
    if (fits(t, c) || (prune_ooo(t, c, seq) && fits(t, c)))
        return true;
    t->counters.rcv_pruned++;
    return false;
}

/* The rest of a segment that found no chunk: what is out of order makes way for what is in order. */
static uint32_t append(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint32_t skip,
                       uint32_t len)
{
    uint32_t got = tcp_rcvq_append(&c->rcvq, t->pool, seg, skip, len);

    if (got < len && tcp_rcvq_collapse(&c->rcvq, t->pool))
        got += tcp_rcvq_append(&c->rcvq, t->pool, seg, skip + got, len - got);
    while (got < len && prune_ooo(t, c, c->rcv_nxt))
        got += tcp_rcvq_append(&c->rcvq, t->pool, seg, skip + got, len - got);
    return got;
}

/* ---- FIN ---- */

/* Remembers the FIN; out-of-order data behind it is nonsense of the peer's. */
static void note_fin(struct tcp *t, struct tcp_conn *c, uint32_t fin_seq)
{
    if (c->fin_waits)
        return;
    c->fin_waits = true;
    c->fin_seq = fin_seq;
    if (tcp_rcvq_cut_ooo(&c->rcvq, t->pool, fin_seq))
        tcp_drop(t, c, TCP_DROP_AFTER_FIN);
}

/* Eighth step. The connection may be in CLOSE afterwards. */
static void take_fin(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    c->fin_waits = false;
    c->fin_received = true;
    c->rcv_nxt++;
    tcp_rcvq_release_ooo(&c->rcvq, t->pool);
    tcp_fin_in(t, c, now);
}

static bool fin_is_next(const struct tcp_conn *c)
{
    return c->fin_waits && c->rcv_nxt == c->fin_seq;
}

/* ---- in order ---- */

static void received(struct tcp *t, struct tcp_conn *c, uint32_t bytes, uint64_t now)
{
    c->rcv_nxt += bytes;
    c->bytes_received += bytes;
    t->counters.in_bytes += bytes;
    if (!bytes)
        return;
    if (c->shutdown & TCP_SHUT_RD) {
        /* SHUT_RD: acknowledged and thrown away. */
        tcp_rcvq_consume(&c->rcvq, t->pool, c->rcvq.bytes);
        c->copied_seq = c->rcv_nxt;
        return;
    }
    c->last_data_recv_at = now;
    tcp_raise(t, c, TCP_EVENT_READABLE);
}

/* No room although older data is still unread: the ACK announces a closed window. */
static void refuse(struct tcp *t, struct tcp_conn *c)
{
    c->ackowed.pending |= TCP_ACK_NOMEM | TCP_ACK_SCHED;
    tcp_raise(t, c, TCP_EVENT_READABLE);
    tcp_drop(t, c, TCP_DROP_RCVBUF);
    tcp_owe_ack(t, c, TCP_CAUSE_ACK_QUICK);
}

/* tcp_event_data_recv */
static void learn(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint32_t len,
                  uint32_t charged, uint64_t now)
{
    tcp_rcvwnd_data(t, c, seg, now);
    tcp_ackowed_data_received(c, now);
    if (len >= 128)
        tcp_grow_window(t, c, len, charged > len ? charged : len);
}

/* tcp_ofo_queue: what the new data reaches moves over. */
static void join(struct tcp *t, struct tcp_conn *c, struct text *x, uint64_t now)
{
    struct tcp_sack_block dup;
    uint32_t lost, joined = tcp_rcvq_join(&c->rcvq, t->pool, c->rcv_nxt, &dup, &lost);

    if (lost) {
        tcp_drop(t, c, TCP_DROP_NO_MEMORY);
        c->fin_waits = false; /* it comes again with what was lost */
    }
    dsack_set(t, c, x, dup.start, dup.end);
    received(t, c, joined, now);
}

static void in_order(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, struct text *x,
                     uint64_t now)
{
    bool had_holes = c->rcvq.n_ranges > 0, marked = false;
    uint32_t got = 0, before;

    if (x->len && !make_room(t, c, x->seq) && c->rcvq.bytes) {
        refuse(t, c);
        return;
    }
    before = c->rcvq.truesize;
    if (x->len)
        got = append(t, c, seg, x->skip, x->len);
    if (got < x->len) {
        x->fin = false;
        refuse(t, c);
        if (!got)
            return;
    }
    received(t, c, got, now);
    if (got) {
        learn(t, c, seg, got, c->rcvq.truesize > before ? c->rcvq.truesize - before : 0, now);
        marked = tcp_ecn_data_in(t, c, seg, now);
    }
    if (had_holes)
        join(t, c, x, now);
    if (x->fin)
        note_fin(t, c, x->seq + x->len);
    /* RFC 5681 section 4.2: at once while there is a hole, and when one is filled. A FIN's ACK is
     * tcp_fin_in()'s. */
    if (x->has_dup || (had_holes && !fin_is_next(c)))
        owe_fact(t, c, x->has_dup ? TCP_CAUSE_ACK_DUPLICATE : TCP_CAUSE_ACK_OUT_OF_ORDER, x);
    else if (marked)
        owe_fact(t, c, TCP_CAUSE_ACK_CE_CHANGE, x);
    else
        tcp_ack_snd_check(t, c, now);
    if (fin_is_next(c))
        take_fin(t, c, now);
}

/* ---- out of order (tcp_data_queue_ofo) ---- */

static uint32_t segments(const struct tcp_seg *seg)
{
    return seg->gso_size && seg->len ? (seg->len + seg->gso_size - 1) / seg->gso_size : 1;
}

static void out_of_order(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, struct text *x,
                         uint64_t now)
{
    struct tcp_rcvq *q = &c->rcvq;
    struct tcp_sack_block dup;
    uint32_t before, held;

    (void)tcp_ecn_data_in(t, c, seg, now);
    c->ackowed.pending |= TCP_ACK_SCHED;
    if (x->len && !make_room(t, c, x->seq)) {
        t->counters.ofo_drop++;
        tcp_drop(t, c, TCP_DROP_RCVBUF);
        tcp_raise(t, c, TCP_EVENT_READABLE);
        owe_fact(t, c, TCP_CAUSE_ACK_OUT_OF_ORDER, x);
        return;
    }
    before = q->truesize;
    held = tcp_rcvq_insert(q, t->pool, x->seq, seg, x->skip, x->len, &dup);
    dsack_set(t, c, x, dup.start, dup.end);
    c->rcv_ooopack += segments(seg);
    t->counters.ofo_queue += segments(seg);
    if (x->len && dup.end - dup.start == x->len)
        t->counters.ofo_merge++;
    else if (held == 0 && x->len) {
        t->counters.ofo_drop++;
        tcp_drop(t, c, TCP_DROP_NO_MEMORY);
        x->fin = false;
    }
    if (x->fin)
        note_fin(t, c, x->seq + x->len);
    if (held && c->sack_ok)
        tcp_grow_window(t, c, held, q->truesize - before > held ? q->truesize - before : held);
    owe_fact_out_of_order(t, c, x);
}

/* ---- cutting ---- */

/* Everything was received before: a retransmission because our ACK was lost or late. */
static void old_data(struct tcp *t, struct tcp_conn *c, struct text *x, uint32_t end)
{
    tcp_drop(t, c, TCP_DROP_OLD_DATA);
    dsack_set(t, c, x, x->seq, end);
    tcp_enter_quickack_mode(c, TCP_MAX_QUICKACKS);
    c->ackowed.pending |= TCP_ACK_SCHED;
    owe_fact(t, c, TCP_CAUSE_ACK_DUPLICATE, x);
}

/* Behind the window's end, or the window is closed: a probe. The answer tells the window (RFC 9293
 * section 3.8.6.1). */
static void beyond_window(struct tcp *t, struct tcp_conn *c, struct text *x, enum tcp_drop reason)
{
    tcp_drop(t, c, reason);
    tcp_enter_quickack_mode(c, TCP_MAX_QUICKACKS);
    c->ackowed.pending |= TCP_ACK_SCHED;
    owe_fact(t, c, TCP_CAUSE_ACK_WINDOW_PROBE, x);
}

/* Takes off what was received before. */
static void cut_old(struct tcp *t, struct tcp_conn *c, struct text *x)
{
    uint32_t old = c->rcv_nxt - x->seq;

    if (!seq_lt(x->seq, c->rcv_nxt))
        return;
    dsack_set(t, c, x, x->seq, c->rcv_nxt);
    x->seq += old;
    x->skip += old;
    x->len -= old;
}

/* Takes off what lies behind a FIN that was seen already. False: nothing is left. */
static bool cut_after_fin(struct tcp *t, struct tcp_conn *c, struct text *x)
{
    uint32_t end = c->fin_seq;

    if (!c->fin_waits || seq_leq(x->seq + x->len, end))
        return true;
    tcp_drop(t, c, TCP_DROP_AFTER_FIN);
    x->fin = false;
    x->len = seq_lt(x->seq, end) ? end - x->seq : 0;
    return x->len > 0;
}

/* Takes off what lies behind the window. False: nothing is left, and the ACK is owed. */
static bool cut_to_window(struct tcp *t, struct tcp_conn *c, struct text *x)
{
    uint32_t open = tcp_receive_window(c), end = c->rcv_nxt + open;
    bool bare_fin = x->fin && x->len == 0 && x->seq == c->rcv_nxt;

    if (bare_fin)
        return true; /* a FIN needs no room; Linux takes it into a closed window */
    if (open == 0 || !seq_lt(x->seq, end)) {
        beyond_window(t, c, x, open == 0 ? TCP_DROP_ZERO_WINDOW : TCP_DROP_BEYOND_WINDOW);
        return false;
    }
    if (seq_gt(x->seq + x->len, end)) {
        tcp_drop(t, c, TCP_DROP_BEYOND_WINDOW);
        x->len = end - x->seq;
        x->fin = false;
    }
    return true;
}

/* Sixth step: the mark only; the data stays in line (RFC 6093 section 5). */
static void urgent(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg)
{
    /* BSD: the pointer is behind the last urgent byte; RFC 1122 (tcp_stdurg): it is on it. */
    uint32_t up = seg->seq + seg->urg_ptr - (seg->urg_ptr && !t->config->tcp_stdurg ? 1u : 0u);

    if (!(seg->flags & TCP_URG) || seq_lt(up, c->copied_seq) || seq_lt(up, c->rcv_nxt) ||
        (c->urg_seen && seq_leq(up, c->rcv_up)))
        return;
    c->urg_seen = true;
    c->rcv_up = up;
    tcp_raise(t, c, TCP_EVENT_URGENT);
}

void tcp_data_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    struct text x = {.seq = seg->seq, .len = seg->len, .fin = (seg->flags & TCP_FIN) != 0};
    uint32_t end = x.seq + x.len + (x.fin ? 1u : 0u);

    tcp_rcv_established(t, c, now);
    if (!c->fin_received)
        urgent(t, c, seg);
    tcp_rcv_rtt_measure_ts(c, seg, now);
    if (x.seq == end)
        return;
    tcp_mark_dirty(t, c);
    if (seq_leq(end, c->rcv_nxt)) {
        old_data(t, c, &x, end);
        return;
    }
    if (c->fin_received) {
        tcp_drop(t, c, TCP_DROP_AFTER_FIN);
        return;
    }
    cut_old(t, c, &x);
    if (!cut_to_window(t, c, &x) || !cut_after_fin(t, c, &x))
        return;
    if (x.seq == c->rcv_nxt)
        in_order(t, c, seg, &x, now);
    else
        out_of_order(t, c, seg, &x, now);
}

/* ---- SACK (RFC 2018 section 4) ---- */

static bool has_block(const struct tcp_options *o, uint32_t start, uint32_t end)
{
    for (unsigned i = 0; i < o->sack_count; i++)
        if (o->sack[i].start == start && o->sack[i].end == end)
            return true;
    return false;
}

static void add_block(struct tcp_options *ret, uint32_t start, uint32_t end)
{
    ret->sack[ret->sack_count++] = (struct tcp_sack_block){.start = start, .end = end};
}

/* A FIN that waits behind a hole occupies the number behind its data. */
static uint32_t block_end(const struct tcp_conn *c, uint32_t end)
{
    return c->fin_waits && end == c->fin_seq ? end + 1 : end;
}

void tcp_sack_block_of(const struct tcp_conn *c, uint32_t seq, struct tcp_options *ret)
{
    const struct rcvq_range *range = tcp_rcvq_range_of(&c->rcvq, seq);

    if (range && ret->sack_count < TCP_SACK_BLOCKS_MAX)
        add_block(ret, range->start, block_end(c, range->end));
}

void tcp_sack_blocks(const struct tcp_conn *c, struct tcp_options *ret, unsigned max)
{
    const struct tcp_rcvq *q = &c->rcvq;
    bool fin_told = !c->fin_waits;

    if (!c->sack_ok)
        return;
    for (unsigned i = 0; i < ret->sack_count; i++)
        fin_told = fin_told || ret->sack[i].end == c->fin_seq + 1;
    if (max > TCP_SACK_BLOCKS_MAX)
        max = TCP_SACK_BLOCKS_MAX;
    for (unsigned i = 0; i < q->n_recent && ret->sack_count < max; i++) {
        uint32_t end = block_end(c, q->recent[i].end);

        fin_told = fin_told || end != q->recent[i].end;
        if (!has_block(ret, q->recent[i].start, end))
            add_block(ret, q->recent[i].start, end);
    }
    if (!fin_told && ret->sack_count < max)
        add_block(ret, c->fin_seq, c->fin_seq + 1);
}
