/*
 * tcp/sndq.c: see tcp/sndq.h.
 *
 * Every change of a descriptor that counters depend on (flags, seq, pcount) is bracketed: account(q, d, OUT),
 * change, account(q, d, IN). lost_hint and retrans_hint always lie at the end of a descriptor or at una, so
 * no descriptor straddles them; merging moves them out of the way.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/seq.h"
#include "tcp/sndq.h"

#define RING_MIN   4u
#define RING_KEEP  64u /* a larger ring is given back when the queue runs empty */
#define SLAB_DESCS 64u
#define PREPARED   3u /* one push, two splits */

struct slab_block {
    struct slab_block *next;
    struct tcp_desc desc[SLAB_DESCS];
};

enum direction { OUT, IN };

/* ---- slab -------------------------------------------------------------------------------------------- */

static void slab_put(struct tcp_desc_slab *s, struct tcp_desc *d)
{
    d->tsorted.next = s->free ? &s->free->tsorted : NULL;
    s->free = d;
    s->n_free++;
}

static bool slab_refill(struct tcp_desc_slab *s)
{
    struct slab_block *block = malloc(sizeof *block);

    if (!block)
        return false;
    block->next = s->blocks;
    s->blocks = block;
    for (unsigned i = 0; i < SLAB_DESCS; i++)
        slab_put(s, &block->desc[i]);
    return true;
}

static struct tcp_desc *slab_get(struct tcp_desc_slab *s)
{
    struct tcp_desc *d;

    assert(!s->free == !s->n_free);
    if (!s->free && !slab_refill(s))
        return NULL;
    d = s->free;
    s->free = d->tsorted.next ? list_entry(d->tsorted.next, struct tcp_desc, tsorted) : NULL;
    s->in_use++;
    s->n_free--;
    return d;
}

static bool slab_has(struct tcp_desc_slab *s, unsigned n)
{
    return s->n_free >= n || slab_refill(s);
}

void tcp_desc_slab_destroy(struct tcp_desc_slab *s)
{
    assert(s->in_use == 0);
    for (struct slab_block *b = s->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    memset(s, 0, sizeof *s);
}

/* ---- ring -------------------------------------------------------------------------------------------- */

static struct tcp_desc **slot(const struct tcp_sndq *q, uint32_t i)
{
    return &q->ring[(q->head + i) & (q->cap - 1)];
}

uint32_t tcp_sndq_find(const struct tcp_sndq *q, uint32_t seq)
{
    uint32_t low = 0, high = q->count, key = seq - q->una;

    if (q->count == 0 || seq_lt(seq, q->una))
        return 0;
    if (seq_geq(seq, q->nxt))
        return q->count;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;

        if ((*slot(q, mid))->seq - q->una <= key)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static bool ring_room(struct tcp_sndq *q, uint32_t n)
{
    uint32_t cap = q->cap ? q->cap : RING_MIN;
    struct tcp_desc **ring;

    if (q->count + n <= q->cap)
        return true;
    while (cap < q->count + n)
        cap *= 2;
    ring = malloc(cap * sizeof(struct tcp_desc *));
    if (!ring)
        return false;
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *slot(q, i);
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return true;
}

/* What lies in n places behind `to` moves one place down; places are of the ring, and wrap. */
static void move_down(struct tcp_sndq *q, uint32_t to, uint32_t n)
{
    uint32_t last = q->cap - 1, first;

    to &= last;
    first = n < last - to ? n : last - to; /* before the ring wraps */
    memmove(&q->ring[to], &q->ring[to + 1], first * sizeof *q->ring);
    if (n == first)
        return;
    q->ring[last] = q->ring[0];
    memmove(&q->ring[0], &q->ring[1], (n - first - 1) * sizeof *q->ring);
}

/* What lies in n places from `from` on moves one place up. */
static void move_up(struct tcp_sndq *q, uint32_t from, uint32_t n)
{
    uint32_t last = q->cap - 1;

    from &= last;
    if (from + n <= last) {
        memmove(&q->ring[from + 1], &q->ring[from], n * sizeof *q->ring);
        return;
    }
    memmove(&q->ring[1], &q->ring[0], (from + n - q->cap) * sizeof *q->ring);
    q->ring[0] = q->ring[last];
    memmove(&q->ring[from + 1], &q->ring[from], (last - from) * sizeof *q->ring);
}

/* Makes place i free by moving the shorter side; the ring has room. */
static void ring_insert(struct tcp_sndq *q, uint32_t i, struct tcp_desc *d)
{
    if (i == q->count) {
        /* nothing lies behind it */
    } else if (i >= q->count / 2) {
        move_up(q, q->head + i, q->count - i);
    } else {
        q->head = (q->head - 1) & (q->cap - 1);
        move_down(q, q->head, i);
    }
    *slot(q, i) = d;
    q->count++;
}

static void ring_remove(struct tcp_sndq *q, uint32_t i)
{
    if (i == 0) {
        q->head = (q->head + 1) & (q->cap - 1);
    } else if (i >= q->count / 2) {
        move_down(q, q->head + i, q->count - 1 - i);
    } else {
        move_up(q, q->head, i);
        q->head = (q->head + 1) & (q->cap - 1);
    }
    q->count--;
}

/* ---- sums -------------------------------------------------------------------------------------------- */

static void set_pcount(struct tcp_desc *d)
{
    uint32_t len = tcp_desc_len(d);

    d->pcount = len <= d->mss ? 1 : (len + d->mss - 1) / d->mss;
}

/* The only place that changes a counter. */
static void account(struct tcp_sndq *q, const struct tcp_desc *d, enum direction dir)
{
    uint32_t n = dir == IN ? d->pcount : 0u - d->pcount;

    q->packets_out += n;
    if (!(d->flags & (TCP_DESC_SACKED | TCP_DESC_RETRANS | TCP_DESC_LOST)))
        return;
    if (d->flags & TCP_DESC_SACKED) {
        q->sacked_out += n;
        if (seq_leq(d->end, q->lost_hint))
            q->lost_cnt += n;
    }
    if (d->flags & TCP_DESC_RETRANS)
        q->retrans_out += n;
    if (d->flags & TCP_DESC_LOST) {
        q->lost_out += n;
        if (!(d->flags & TCP_DESC_RETRANS))
            q->lost_pending += n;
    }
}

static void set_flags(struct tcp_sndq *q, struct tcp_desc *d, unsigned off, unsigned on)
{
    account(q, d, OUT);
    d->flags = (uint16_t)((d->flags & ~off) | on);
    account(q, d, IN);
}

static void forget_blocks(struct tcp_sndq *q)
{
    for (uint32_t k = 0; k < TCP_SNDQ_SEEN; k++)
        q->seen[k] = (struct tcp_seq_range){q->una, q->una};
}

static void una_moved(struct tcp_sndq *q, uint32_t una)
{
    struct tcp_seq_range *seen = &q->seen[q->next_aged++ % TCP_SNDQ_SEEN];

    /* One each time: una moves by far less than a quarter of the sequence space, so none is left to come round. */
    if (seq_leq(seen->end, una))
        *seen = (struct tcp_seq_range){una, una};
    q->una = una;
    q->retrans_hint = seq_max(q->retrans_hint, una);
    q->lost_hint = seq_max(q->lost_hint, una);
    q->highest_sack = seq_max(q->highest_sack, una);
}

/* ---- life -------------------------------------------------------------------------------------------- */

void tcp_sndq_init(struct tcp_sndq *q, struct tcp_desc_slab *slab, uint32_t seq)
{
    memset(q, 0, sizeof *q);
    q->slab = slab;
    list_init(&q->tsorted);
    q->una = q->nxt = q->retrans_hint = q->lost_hint = q->highest_sack = seq;
    forget_blocks(q);
}

static void desc_free(struct tcp_sndq *q, struct tcp_desc *d)
{
    list_del(&d->tsorted);
    slab_put(q->slab, d);
    q->slab->in_use--;
}

void tcp_sndq_clear(struct tcp_sndq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        desc_free(q, *slot(q, i));
    free(q->ring);
    tcp_sndq_init(q, q->slab, q->nxt);
}

bool tcp_sndq_prepare(struct tcp_sndq *q)
{
    return ring_room(q, PREPARED) && slab_has(q->slab, PREPARED);
}

struct tcp_desc *tcp_sndq_push(struct tcp_sndq *q, uint32_t len, uint16_t mss, unsigned flags,
                               uint64_t sent_at)
{
    struct tcp_desc *d;

    if (!ring_room(q, 1) || !(d = slab_get(q->slab)))
        return NULL;
    d->seq = q->nxt;
    d->end = d->seq + len + ((flags & TCP_DESC_SYN) ? 1u : 0u) + ((flags & TCP_DESC_FIN) ? 1u : 0u);
    d->mss = mss;
    d->flags = (uint16_t)flags;
    d->tx_count = 1;
    d->first_sent_at = d->sent_at = sent_at;
    d->delivered_at = d->first_tx_at = 0; /* tcp_rate_sent() */
    d->delivered = d->delivered_ce = d->tx_lost = d->tx_in_flight = 0;
    set_pcount(d);
    list_add_tail(&q->tsorted, &d->tsorted);
    ring_insert(q, q->count, d);
    q->nxt = d->end;
    account(q, d, IN);
    return d;
}

void tcp_sndq_unpush(struct tcp_sndq *q)
{
    struct tcp_desc *d = tcp_sndq_at(q, q->count - 1);

    assert(d->tx_count == 1 && !(d->flags & (TCP_DESC_SACKED | TCP_DESC_LOST)));
    account(q, d, OUT);
    ring_remove(q, q->count - 1);
    q->nxt = d->seq;
    forget_blocks(q);
    q->lost_hint = seq_min(q->lost_hint, q->nxt);
    q->retrans_hint = seq_min(q->retrans_hint, q->nxt);
    desc_free(q, d);
}

void tcp_sndq_pop(struct tcp_sndq *q)
{
    struct tcp_desc *d = tcp_sndq_at(q, 0);

    account(q, d, OUT);
    ring_remove(q, 0);
    una_moved(q, d->end);
    desc_free(q, d);
    if (q->count == 0 && q->cap > RING_KEEP) {
        free(q->ring);
        q->ring = NULL;
        q->cap = q->head = 0;
    }
}

uint32_t tcp_sndq_trim(struct tcp_sndq *q, uint32_t seq)
{
    struct tcp_desc *d = tcp_sndq_at(q, 0);
    uint32_t before = d->pcount;

    assert(seq_leq(d->seq, seq) && seq_lt(seq, d->end));
    if (seq == d->seq)
        return 0;
    account(q, d, OUT);
    d->flags = (uint16_t)(d->flags & ~(unsigned)TCP_DESC_SYN);
    d->seq = seq;
    set_pcount(d);
    account(q, d, IN);
    una_moved(q, seq);
    return before - d->pcount;
}

bool tcp_sndq_cut(struct tcp_sndq *q, uint32_t i, uint32_t bytes)
{
    struct tcp_desc *d = tcp_sndq_at(q, i), *rest;

    assert(bytes > 0 && bytes < tcp_desc_len(d));
    if (!ring_room(q, 1) || !(rest = slab_get(q->slab)))
        return false;
    account(q, d, OUT);
    *rest = *d;
    rest->flags = (uint16_t)(d->flags & ~(unsigned)(TCP_DESC_SYN | TCP_DESC_CWR));
    rest->seq = d->seq + bytes + ((d->flags & TCP_DESC_SYN) ? 1u : 0u);
    d->end = rest->seq;
    d->flags = (uint16_t)(d->flags & ~(unsigned)(TCP_DESC_FIN | TCP_DESC_PSH | TCP_DESC_EOR));
    set_pcount(d);
    set_pcount(rest);
    list_init(&rest->tsorted);
    if (list_linked(&d->tsorted))
        list_add_head(&d->tsorted, &rest->tsorted);
    ring_insert(q, i + 1, rest);
    account(q, d, IN);
    account(q, rest, IN);
    q->splits++;
    return true;
}

bool tcp_sndq_split(struct tcp_sndq *q, uint32_t i, uint32_t segs)
{
    struct tcp_desc *d = tcp_sndq_at(q, i);

    assert(segs > 0 && segs < d->pcount);
    return tcp_sndq_cut(q, i, segs * d->mss);
}

/* Descriptor i takes i + 1 in; the caller knows that they fit together. */
static void join(struct tcp_sndq *q, uint32_t i)
{
    struct tcp_desc *d = tcp_sndq_at(q, i), *next = tcp_sndq_at(q, i + 1);

    account(q, d, OUT);
    account(q, next, OUT);
    if (q->lost_hint == d->end) {
        /* The hint goes behind both; only SACKED ones count, and d was counted already. */
        q->lost_hint = next->end;
    }
    if (q->retrans_hint == next->seq)
        q->retrans_hint = d->seq;
    d->end = next->end;
    d->flags |= next->flags;
    set_pcount(d);
    ring_remove(q, i + 1);
    desc_free(q, next);
    account(q, d, IN);
    q->merges++;
}

/* ---- SACK -------------------------------------------------------------------------------------------- */

static bool may_join_sacked(const struct tcp_desc *a, const struct tcp_desc *b)
{
    unsigned no = TCP_DESC_SYN | TCP_DESC_FIN | TCP_DESC_PROBE;

    return (a->flags & b->flags & TCP_DESC_SACKED) && a->mss == b->mss && !((a->flags | b->flags) & no) &&
           !(a->flags & TCP_DESC_EOR) && (a->end - a->seq) % a->mss == 0;
}

void tcp_sndq_note_delivered(const struct tcp_desc *d, struct tcp_sack_result *acc)
{
    if (d->sent_at == 0 || !tcp_sent_after(d->sent_at, acc->newest_sent_at, d->end, acc->newest_end))
        return;
    acc->newest_sent_at = d->sent_at;
    acc->newest_end = d->end;
    acc->newest_delivered = d->delivered;
}

static void note_sacked(const struct tcp_sndq *q, struct tcp_desc *d, struct tcp_sack_result *acc)
{
    tcp_rate_delivered(&acc->rate, d);
    d->delivered_at = 0; /* once: SACKed and later acknowledged is one delivery */
    acc->segs += d->pcount;
    if (d->flags & TCP_DESC_RETRANS)
        acc->retrans_segs += d->pcount;
    if (acc->rack)
        tcp_rack_advance(acc->rack, d->end, d->sent_at, d->flags & TCP_DESC_EVER_RETRANS, acc->min_rtt_us,
                         acc->now);
    tcp_sndq_note_delivered(d, acc);
    if (d->flags & TCP_DESC_EVER_RETRANS)
        return;
    if (!acc->orig || seq_lt(d->end, acc->orig_end))
        acc->orig_end = d->end;
    acc->orig = true;
    if (seq_lt(d->seq, q->highest_sack) && (!acc->reordered || seq_lt(d->seq, acc->reord_seq))) {
        acc->reordered = true;
        acc->reord_seq = d->seq;
    }
    if (d->sent_at == 0)
        return;
    if (acc->first_sent_at == 0 || d->sent_at < acc->first_sent_at)
        acc->first_sent_at = d->sent_at;
    if (d->sent_at > acc->last_sent_at)
        acc->last_sent_at = d->sent_at;
}

/* Descriptor i lies whole in the block. Returns the index behind it, after merging with its neighbours. */
static uint32_t sack_one(struct tcp_sndq *q, uint32_t i, struct tcp_sack_result *acc)
{
    struct tcp_desc *d = tcp_sndq_at(q, i);

    note_sacked(q, d, acc);
    set_flags(q, d, TCP_DESC_LOST | TCP_DESC_RETRANS, TCP_DESC_SACKED);
    list_del(&d->tsorted);
    q->highest_sack = seq_max(q->highest_sack, d->end);
    if (i > 0 && may_join_sacked(tcp_sndq_at(q, i - 1), d))
        join(q, --i);
    if (i + 1 < q->count && may_join_sacked(tcp_sndq_at(q, i), tcp_sndq_at(q, i + 1)))
        join(q, i);
    return i + 1;
}

/* False: no memory, or the queue holds too many pieces already, other than at its ends (tcp_fragment). */
static bool sack_split(struct tcp_sndq *q, uint32_t i, uint32_t segs)
{
    if (q->count_max && q->count >= q->count_max && i > 0 && i + 1 < q->count) {
        q->refused++;
        return false;
    }
    return tcp_sndq_split(q, i, segs);
}

/*
 * Cuts descriptor i so that a part of it lies whole in [start, end). *ret_part: index of that part. False: no
 * whole segment of it does.
 */
static bool sack_cut(struct tcp_sndq *q, uint32_t i, uint32_t start, uint32_t end, uint32_t *ret_part)
{
    struct tcp_desc *d = tcp_sndq_at(q, i);
    uint32_t segs;

    if (seq_gt(start, d->seq)) {
        segs = (start - d->seq + d->mss - 1) / d->mss;
        if (segs >= d->pcount || !sack_split(q, i, segs))
            return false;
        d = tcp_sndq_at(q, ++i);
    }
    if (seq_lt(end, d->end)) {
        segs = seq_lt(end, d->seq) ? 0 : (end - d->seq) / d->mss;
        if (segs == 0 || segs >= d->pcount || !sack_split(q, i, segs))
            return false;
    }
    *ret_part = i;
    return true;
}

/*
 * Descriptor i is SACKED and lies in a block that was done before, so all behind it up to the block's end is SACKED
 * too. Index of what lies at that end; i + 1 where there is no such block.
 */
static uint32_t pass_over(const struct tcp_sndq *q, uint32_t i)
{
    const struct tcp_desc *d = tcp_sndq_at(q, i);

    for (uint32_t k = 0; k < TCP_SNDQ_SEEN; k++) {
        const struct tcp_seq_range *r = &q->seen[k];

        if (seq_geq(d->seq, r->start) && seq_lt(d->end, r->end)) {
            uint32_t last = tcp_sndq_find(q, r->end);

            return last > i ? last : i + 1;
        }
    }
    return i + 1;
}

/* Takes the place of one that it covers, else of the oldest. */
static void remember_block(struct tcp_sndq *q, uint32_t start, uint32_t end)
{
    uint32_t k = 0;

    while (k < TCP_SNDQ_SEEN && !(seq_leq(start, q->seen[k].start) && seq_geq(end, q->seen[k].end)))
        k++;
    if (k == TCP_SNDQ_SEEN)
        k = q->next_seen++ % TCP_SNDQ_SEEN;
    q->seen[k] = (struct tcp_seq_range){start, end};
}

void tcp_sndq_sack(struct tcp_sndq *q, uint32_t start, uint32_t end, struct tcp_sack_result *acc)
{
    uint32_t i, part;

    start = seq_max(start, q->una);
    end = seq_min(end, q->nxt);
    if (seq_geq(start, end))
        return;
    for (i = tcp_sndq_find(q, start); i < q->count && seq_lt(tcp_sndq_at(q, i)->seq, end); q->walked++) {
        if (tcp_sndq_at(q, i)->flags & TCP_DESC_SACKED)
            i = pass_over(q, i);
        else if (sack_cut(q, i, start, end, &part))
            i = sack_one(q, part, acc);
        else
            i++;
    }
    /* A last one that the block covers in part is not SACKED, and may be cut later. */
    if (i > 0 && !(tcp_sndq_at(q, i - 1)->flags & TCP_DESC_SACKED))
        end = tcp_sndq_at(q, i - 1)->seq;
    if (seq_lt(start, end))
        remember_block(q, start, end);
}

/* ---- loss -------------------------------------------------------------------------------------------- */

bool tcp_sndq_mark_lost(struct tcp_sndq *q, struct tcp_desc *d)
{
    bool was_lost = d->flags & TCP_DESC_LOST;

    if ((d->flags & TCP_DESC_SACKED) || (d->flags & (TCP_DESC_LOST | TCP_DESC_RETRANS)) == TCP_DESC_LOST)
        return false;
    q->lost += d->pcount;
    if (was_lost)
        q->lost_retrans += d->pcount;
    set_flags(q, d, TCP_DESC_RETRANS, TCP_DESC_LOST);
    list_del(&d->tsorted);
    q->retrans_hint = seq_min(q->retrans_hint, d->seq);
    return !was_lost;
}

struct tcp_desc *tcp_sndq_mark_by_sack(struct tcp_sndq *q, uint32_t dupthresh)
{
    for (uint32_t i = tcp_sndq_find(q, q->lost_hint); i < q->count; i++) {
        struct tcp_desc *d = tcp_sndq_at(q, i);

        if (q->sacked_out - q->lost_cnt < dupthresh || q->sacked_out == q->lost_cnt)
            break;
        q->lost_hint = d->end;
        if (d->flags & TCP_DESC_SACKED)
            q->lost_cnt += d->pcount;
        else if (!(d->flags & TCP_DESC_LOST) && tcp_sndq_mark_lost(q, d))
            return d;
    }
    return NULL;
}

uint32_t tcp_sndq_mark_head(struct tcp_sndq *q)
{
    struct tcp_desc *d;

    if (q->count == 0)
        return 0;
    d = tcp_sndq_at(q, 0);
    if (d->flags & (TCP_DESC_SACKED | TCP_DESC_LOST))
        return 0;
    if (d->pcount > 1)
        (void)tcp_sndq_split(q, 0, 1); /* without memory all of it is sent again */
    tcp_sndq_mark_lost(q, d);
    return d->pcount;
}

void tcp_sndq_mark_all_lost(struct tcp_sndq *q, bool forget)
{
    if (forget) {
        q->highest_sack = q->una;
        forget_blocks(q);
        for (uint32_t i = 0; i < q->count; i++) {
            struct tcp_desc *d = tcp_sndq_at(q, i);

            if (d->flags & TCP_DESC_SACKED) {
                set_flags(q, d, TCP_DESC_SACKED, 0);
                list_add_tail(&q->tsorted, &d->tsorted);
            }
        }
    }
    for (uint32_t i = 0; i < q->count; i++)
        (void)tcp_sndq_mark_lost(q, tcp_sndq_at(q, i));
    q->retrans_hint = q->una;
}

/*
 * Back into the list by time sent, behind `*pos`, where the one before it went: almost always they were sent
 * in the order of their sequence.
 */
static void insert_by_time(struct tcp_sndq *q, struct tcp_desc *d, struct list_node **pos)
{
    struct list_node *at = *pos;

    if (at != &q->tsorted && list_entry(at, struct tcp_desc, tsorted)->sent_at > d->sent_at)
        at = &q->tsorted;
    while (at->next != &q->tsorted && list_entry(at->next, struct tcp_desc, tsorted)->sent_at <= d->sent_at)
        at = at->next;
    list_add_head(at, &d->tsorted);
    *pos = &d->tsorted;
}

void tcp_sndq_unmark_lost(struct tcp_sndq *q)
{
    struct list_node *pos = &q->tsorted;

    for (uint32_t i = 0; i < q->count; i++) {
        struct tcp_desc *d = tcp_sndq_at(q, i);

        if (!(d->flags & TCP_DESC_LOST))
            continue;
        set_flags(q, d, TCP_DESC_LOST, 0);
        if (!list_linked(&d->tsorted))
            insert_by_time(q, d, &pos);
    }
    q->retrans_hint = q->una;
    q->lost_hint = q->una;
    q->lost_cnt = 0;
}

struct tcp_desc *tcp_sndq_next_lost(struct tcp_sndq *q, uint32_t *ret_index)
{
    if (q->lost_pending == 0)
        return NULL;
    for (uint32_t i = tcp_sndq_find(q, q->retrans_hint); i < q->count; i++) {
        struct tcp_desc *d = tcp_sndq_at(q, i);

        if ((d->flags & (TCP_DESC_LOST | TCP_DESC_RETRANS)) == TCP_DESC_LOST) {
            q->retrans_hint = d->seq;
            *ret_index = i;
            return d;
        }
    }
    assert(q->lost_pending == 0); /* else something lost lies below retrans_hint */
    return NULL;
}

void tcp_sndq_probed(struct tcp_sndq *q, struct tcp_desc *d, uint64_t now)
{
    set_flags(q, d, 0, TCP_DESC_EVER_RETRANS);
    d->sent_at = now;
    if (d->tx_count < UINT16_MAX)
        d->tx_count++;
    list_del(&d->tsorted);
    list_add_tail(&q->tsorted, &d->tsorted);
}

void tcp_sndq_sent_again(struct tcp_sndq *q, struct tcp_desc *d, uint64_t now)
{
    tcp_sndq_probed(q, d, now);
    set_flags(q, d, 0, TCP_DESC_RETRANS);
}

void tcp_sndq_unsent_again(struct tcp_sndq *q, struct tcp_desc *d)
{
    assert((d->flags & TCP_DESC_LOST) && (d->flags & TCP_DESC_RETRANS));
    set_flags(q, d, TCP_DESC_RETRANS, 0);
    list_del(&d->tsorted);
    q->retrans_hint = seq_min(q->retrans_hint, d->seq);
}

bool tcp_sndq_collapse(struct tcp_sndq *q, uint32_t i, uint16_t mss)
{
    const unsigned state = TCP_DESC_LOST | TCP_DESC_RETRANS | TCP_DESC_SACKED;
    struct tcp_desc *a, *b;

    if (i + 1 >= q->count)
        return false;
    a = tcp_sndq_at(q, i);
    b = tcp_sndq_at(q, i + 1);
    if ((a->flags & state) != TCP_DESC_LOST || (b->flags & state) != TCP_DESC_LOST || a->pcount > 1 ||
        b->pcount > 1)
        return false;
    if (a->flags & (TCP_DESC_SYN | TCP_DESC_FIN | TCP_DESC_EOR) || tcp_desc_len(a) + tcp_desc_len(b) > mss)
        return false;
    account(q, a, OUT);
    a->mss = mss;
    account(q, a, IN);
    join(q, i);
    return true;
}

uint32_t tcp_sndq_set_mss(struct tcp_sndq *q, uint16_t mss)
{
    uint32_t more = 0;

    for (uint32_t i = 0; i < q->count; i++) {
        struct tcp_desc *d = tcp_sndq_at(q, i);
        uint32_t before = d->pcount;

        if (d->mss <= mss || (d->flags & TCP_DESC_PROBE))
            continue;
        account(q, d, OUT);
        d->mss = mss;
        set_pcount(d);
        account(q, d, IN);
        more += d->pcount - before;
    }
    return more;
}

void tcp_sndq_unprobe(struct tcp_sndq *q, struct tcp_desc *d, uint16_t mss)
{
    account(q, d, OUT);
    d->flags = (uint16_t)(d->flags & ~(unsigned)TCP_DESC_PROBE);
    if (d->mss > mss)
        d->mss = mss;
    set_pcount(d);
    account(q, d, IN);
}

/* ---- check ------------------------------------------------------------------------------------------- */

static const char *check_desc(const struct tcp_sndq *q, const struct tcp_desc *d)
{
    uint32_t len = tcp_desc_len(d);
    unsigned gone = TCP_DESC_LOST | TCP_DESC_RETRANS;

    if (!seq_lt(d->seq, d->end) || d->mss == 0)
        return "sndq: empty descriptor";
    if (d->pcount != (len <= d->mss ? 1 : (len + d->mss - 1) / d->mss))
        return "sndq: pcount is not ceil(len / mss)";
    if ((d->flags & TCP_DESC_PROBE) && d->pcount != 1)
        return "sndq: a probe of more than one segment";
    if ((d->flags & TCP_DESC_SACKED) && (d->flags & gone))
        return "sndq: SACKED and LOST or RETRANS";
    if ((!(d->flags & TCP_DESC_SACKED) && (d->flags & gone) != TCP_DESC_LOST) != list_linked(&d->tsorted))
        return "sndq: the list by time sent must hold exactly what is in flight";
    if ((d->flags & gone) == TCP_DESC_LOST && seq_lt(d->seq, q->retrans_hint))
        return "sndq: something to retransmit below retrans_hint";
    if ((d->flags & TCP_DESC_SACKED) && seq_gt(d->end, q->highest_sack))
        return "sndq: SACKED above highest_sack";
    if (seq_lt(d->seq, q->lost_hint) && seq_gt(d->end, q->lost_hint))
        return "sndq: a descriptor straddles lost_hint";
    return NULL;
}

static const char *check_order(const struct tcp_sndq *q)
{
    uint64_t at = 0;

    list_for_each(node, &q->tsorted)
    {
        const struct tcp_desc *d = list_entry(node, struct tcp_desc, tsorted);

        if (d->sent_at < at)
            return "sndq: the list by time sent is out of order";
        at = d->sent_at;
    }
    return NULL;
}

const char *tcp_sndq_check(const struct tcp_sndq *q)
{
    struct tcp_sndq sum = {.lost_hint = q->lost_hint};
    uint32_t seq = q->una;

    for (uint32_t i = 0; i < q->count; i++) {
        const struct tcp_desc *d = tcp_sndq_at(q, i);
        const char *wrong = check_desc(q, d);

        if (wrong)
            return wrong;
        if (d->seq != seq)
            return "sndq: descriptors are not contiguous";
        seq = d->end;
        account(&sum, d, IN);
    }
    if (seq != q->nxt)
        return "sndq: descriptors do not cover [una, nxt)";
    if (sum.packets_out != q->packets_out)
        return "sndq: packets_out";
    if (sum.sacked_out != q->sacked_out)
        return "sndq: sacked_out";
    if (sum.lost_out != q->lost_out || sum.lost_pending != q->lost_pending)
        return "sndq: lost_out";
    if (sum.retrans_out != q->retrans_out)
        return "sndq: retrans_out";
    if (sum.lost_cnt != q->lost_cnt)
        return "sndq: lost_cnt";
    return check_order(q);
}
