/*
 * tcp/rcvq.c: received bytes, in order and out of order; see rcvq.h for the invariants.
 *
 * One writer, put(), turns payload into pieces: it extends the last piece (same chunk, contiguous), copies
 * into the free room of its chunk, adopts a slice, or copies into a new chunk. It writes to a sink: the
 * ring's end, or the end of a range's chain that is being built. An out-of-order insertion builds one merged
 * range out of the ranges that it touches and the bytes that fill the gaps between them, so ranges stay
 * disjoint and never adjacent; finding them is a binary search. Every range holds at least one chunk, so
 * rcvbuf bounds their number.
 *
 * Charges move with pieces: where a piece goes and the next one holds the same chunk uncharged, the next one
 * inherits the charge. So truesize is exact and never negative.
 *
 * Called by rcv.c and api.c; takes no decision about windows, ACKs or pressure.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/seq.h"
#include "tcp/rcvq.h"
#include "tcp/tcp.h"

#define RING_FIRST   2u
#define RANGES_FIRST 4u
#define COLLAPSE_MAX CHUNK_SMALL_BYTES /* larger pieces are not worth copying */

struct rcvq_node {
    struct rcvq_node *next;
    struct rcvq_piece piece;
};

/* Where put() writes: the ring if range is NULL. */
struct sink {
    struct tcp_rcvq *q;
    struct chunk_pool *pool;
    struct rcvq_range *range;
};

/* ---- pieces ---- */

static struct rcvq_piece *ring_at(const struct tcp_rcvq *q, uint32_t i)
{
    return &q->ring[(q->head + i) & (q->ring_size - 1)];
}

/* Room behind a piece in a chunk that nobody else holds. */
static uint32_t piece_room(const struct rcvq_piece *p)
{
    if (!p || p->chunk->refs != 1 || p->chunk->cut)
        return 0;
    return (uint32_t)(p->chunk->data + p->chunk->size - (p->data + p->len));
}

static void piece_release(struct tcp_rcvq *q, struct chunk_pool *pool, struct rcvq_piece *p,
                          struct rcvq_piece *next)
{
    if (next && next->chunk == p->chunk && next->charge == 0)
        next->charge = p->charge;
    else
        q->truesize -= p->charge;
    chunk_note_drop(pool, p->note);
    chunk_unref_part(pool, p->chunk);
}

static bool ring_grow(struct tcp_rcvq *q)
{
    uint32_t size = q->ring_size ? q->ring_size * 2 : RING_FIRST;
    struct rcvq_piece *ring = malloc(size * sizeof *ring);

    if (!ring)
        return false;
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *ring_at(q, i);
    free(q->ring);
    q->ring = ring;
    q->ring_size = size;
    q->head = 0;
    return true;
}

static bool ring_push(struct tcp_rcvq *q, struct rcvq_piece p)
{
    if (q->count == q->ring_size && !ring_grow(q))
        return false;
    *ring_at(q, q->count) = p;
    q->count++;
    q->bytes += p.len;
    q->unnoted += p.len;
    return true;
}

static void chain_add(struct rcvq_range *r, struct rcvq_node *n)
{
    n->next = NULL;
    if (r->tail)
        r->tail->next = n;
    else
        r->head = n;
    r->tail = n;
}

/* ---- the writer ---- */

static struct rcvq_piece *sink_tail(const struct sink *s)
{
    if (s->range)
        return s->range->tail ? &s->range->tail->piece : NULL;
    return s->q->count ? ring_at(s->q, s->q->count - 1) : NULL;
}

static bool sink_push(struct sink *s, struct chunk *chunk, uint8_t *data, uint32_t len, uint32_t note)
{
    const struct rcvq_piece *tail = sink_tail(s);
    struct rcvq_piece p = {.chunk = chunk,
                           .data = data,
                           .len = len,
                           .charge = tail && tail->chunk == chunk ? 0 : chunk->size,
                           .note = note};
    struct rcvq_node *n;

    if (!s->range) {
        if (!ring_push(s->q, p))
            return false;
    } else {
        n = malloc(sizeof *n);
        if (!n)
            return false;
        n->piece = p;
        chain_add(s->range, n);
        s->q->ooo_bytes += p.len;
    }
    s->q->truesize += p.charge;
    return true;
}

static void sink_extend(struct sink *s, uint32_t n)
{
    sink_tail(s)->len += n;
    if (s->range) {
        s->q->ooo_bytes += n;
    } else {
        s->q->bytes += n;
        s->q->unnoted += n;
    }
}

/* Small payload, or payload that leaves most of a chunk empty, is better copied: truesize would eat the
 * window. */
static bool worth_adopting(const struct tcp_slice *part)
{
    return part->chunk && part->len >= TCP_RCVQ_COPYBREAK && part->len >= part->chunk->size / 4;
}

static uint32_t put_adopt(struct sink *s, const struct tcp_slice *part)
{
    struct rcvq_piece *tail = sink_tail(s);
    /* The arena is ours to hand out; slices are read-only only to the stack that decodes them. */
    uint8_t *data = part->chunk->data + (part->data - part->chunk->data);

    if (tail && tail->chunk == part->chunk && tail->data + tail->len == part->data) {
        sink_extend(s, part->len);
        return part->len;
    }
    chunk_ref(part->chunk);
    if (sink_push(s, part->chunk, data, part->len, 0))
        return part->len;
    chunk_unref(s->pool, part->chunk);
    return 0;
}

static uint32_t put_copy(struct sink *s, const uint8_t *data, uint32_t len)
{
    uint32_t done = 0;

    while (done < len) {
        struct rcvq_piece *tail = sink_tail(s);
        uint32_t room = piece_room(tail), n = len - done < room ? len - done : room;
        struct chunk *chunk;

        if (n) {
            memcpy(tail->data + tail->len, data + done, n);
            sink_extend(s, n);
            done += n;
            continue;
        }
        chunk = chunk_alloc(s->pool, len - done > CHUNK_BIG_BYTES / 4 ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES);
        if (!chunk)
            break;
        n = len - done < chunk->size ? len - done : chunk->size;
        memcpy(chunk->data, data + done, n);
        if (!sink_push(s, chunk, chunk->data, n, 0)) {
            chunk_unref(s->pool, chunk);
            break;
        }
        done += n;
    }
    return done;
}

static uint32_t put(struct sink *s, const struct tcp_seg *seg, uint32_t skip, uint32_t len)
{
    uint32_t done = 0;

    for (unsigned i = 0; i < seg->n_slices && done < len; i++) {
        struct tcp_slice part = seg->slice[i];
        uint32_t n;

        if (skip >= part.len) {
            skip -= part.len;
            continue;
        }
        part.data += skip;
        part.len -= skip;
        skip = 0;
        if (part.len > len - done)
            part.len = len - done;
        n = worth_adopting(&part) ? put_adopt(s, &part) : put_copy(s, part.data, part.len);
        done += n;
        if (n < part.len)
            break;
    }
    return done;
}

uint32_t tcp_rcvq_append(struct tcp_rcvq *q, struct chunk_pool *pool, const struct tcp_seg *seg,
                         uint32_t skip, uint32_t len)
{
    struct sink s = {.q = q, .pool = pool};

    return put(&s, seg, skip, len);
}

/* ---- the most recently changed ranges, for SACK (RFC 2018 section 4) ---- */

static void recent_remove_at(struct tcp_rcvq *q, unsigned i)
{
    for (q->n_recent--; i < q->n_recent; i++)
        q->recent[i] = q->recent[i + 1];
}

/* The range [start, end) changed: it takes the first place; blocks that it swallowed go. */
static void recent_touch(struct tcp_rcvq *q, uint32_t start, uint32_t end)
{
    for (unsigned i = q->n_recent; i-- > 0;)
        if (seq_geq(q->recent[i].start, start) && seq_leq(q->recent[i].end, end))
            recent_remove_at(q, i);
    if (q->n_recent == TCP_RCVQ_RECENT)
        q->n_recent--;
    for (unsigned i = q->n_recent; i > 0; i--)
        q->recent[i] = q->recent[i - 1];
    q->recent[0] = (struct tcp_sack_block){.start = start, .end = end};
    q->n_recent++;
}

static void recent_below(struct tcp_rcvq *q, uint32_t rcv_nxt)
{
    for (unsigned i = q->n_recent; i-- > 0;)
        if (seq_lt(q->recent[i].start, rcv_nxt))
            recent_remove_at(q, i);
}

/* Data at and behind seq is gone. */
static void recent_cut(struct tcp_rcvq *q, uint32_t seq)
{
    for (unsigned i = q->n_recent; i-- > 0;) {
        if (seq_geq(q->recent[i].start, seq))
            recent_remove_at(q, i);
        else if (seq_gt(q->recent[i].end, seq))
            q->recent[i].end = seq;
    }
}

/* ---- chains ---- */

static void chain_pop(struct tcp_rcvq *q, struct chunk_pool *pool, struct rcvq_range *r)
{
    struct rcvq_node *n = r->head;

    r->head = n->next;
    if (!r->head)
        r->tail = NULL;
    q->ooo_bytes -= n->piece.len;
    piece_release(q, pool, &n->piece, n->next ? &n->next->piece : NULL);
    free(n);
}

static void chain_release(struct tcp_rcvq *q, struct chunk_pool *pool, struct rcvq_range *r)
{
    while (r->head)
        chain_pop(q, pool, r);
}

/* Takes the first `bytes` off. */
static void chain_trim_head(struct tcp_rcvq *q, struct chunk_pool *pool, struct rcvq_range *r, uint32_t bytes)
{
    r->start += bytes;
    while (bytes && r->head && r->head->piece.len <= bytes) {
        bytes -= r->head->piece.len;
        chain_pop(q, pool, r);
    }
    if (!bytes || !r->head)
        return;
    r->head->piece.data += bytes;
    r->head->piece.len -= bytes;
    q->ooo_bytes -= bytes;
}

/* Keeps the first `bytes` (> 0) only. */
static void chain_trim_tail(struct tcp_rcvq *q, struct chunk_pool *pool, struct rcvq_range *r, uint32_t bytes)
{
    struct rcvq_range rest = {0};
    struct rcvq_node *n = r->head;

    r->end = r->start + bytes;
    while (n->piece.len < bytes) {
        bytes -= n->piece.len;
        n = n->next;
    }
    q->ooo_bytes -= n->piece.len - bytes;
    n->piece.len = bytes;
    n->piece.chunk->cut = true; /* what was cut off may be committed */
    q->ooo_changed = true;
    rest.head = n->next;
    rest.tail = rest.head ? r->tail : NULL;
    n->next = NULL;
    r->tail = n;
    chain_release(q, pool, &rest);
}

static void chain_join(struct rcvq_range *r, struct rcvq_range *behind)
{
    if (!behind->head)
        return;
    if (r->tail)
        r->tail->next = behind->head;
    else
        r->head = behind->head;
    r->tail = behind->tail;
    behind->head = behind->tail = NULL;
}

/* ---- ranges ---- */

/* Index of the first range whose end is at or behind seq. */
static uint32_t range_find_end(const struct tcp_rcvq *q, uint32_t seq)
{
    uint32_t lo = 0, hi = q->n_ranges;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (seq_lt(q->range[mid].end, seq))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool ranges_reserve(struct tcp_rcvq *q)
{
    uint32_t size = q->range_size ? q->range_size * 2 : RANGES_FIRST;
    struct rcvq_range *r;

    if (q->n_ranges < q->range_size)
        return true;
    r = realloc(q->range, size * sizeof *r);
    if (!r)
        return false;
    q->range = r;
    q->range_size = size;
    return true;
}

/* Replaces the ranges [lo, hi) by one. */
static void ranges_replace(struct tcp_rcvq *q, uint32_t lo, uint32_t hi, const struct rcvq_range *by)
{
    memmove(&q->range[lo + 1], &q->range[hi], (q->n_ranges - hi) * sizeof *by);
    q->range[lo] = *by;
    q->n_ranges = q->n_ranges + 1 - (hi - lo);
}

/* Remembers the first overlap; a later one only where it touches that. */
static void note_dup(struct tcp_sack_block *dup, uint32_t start, uint32_t end)
{
    if (!seq_lt(start, end))
        return;
    if (dup->start == dup->end)
        *dup = (struct tcp_sack_block){.start = start, .end = end};
    else if (start == dup->end)
        dup->end = end;
}

uint32_t tcp_rcvq_insert(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t seq, const struct tcp_seg *seg,
                         uint32_t skip, uint32_t len, struct tcp_sack_block *ret_dup)
{
    uint32_t lo = range_find_end(q, seq), hi = lo, at = seq, end = seq + len, held = 0, want, got;
    struct rcvq_range out = {.start = seq, .end = seq};
    struct sink s = {.q = q, .pool = pool, .range = &out};

    *ret_dup = (struct tcp_sack_block){.start = seq, .end = seq};
    if (len == 0 || !ranges_reserve(q))
        return 0;
    for (; seq_lt(at, end) || (hi < q->n_ranges && q->range[hi].start == at); hi++) {
        struct rcvq_range *r = hi < q->n_ranges && seq_leq(q->range[hi].start, end) ? &q->range[hi] : NULL;

        want = r && seq_leq(r->start, at) ? 0 : (r ? r->start : end) - at;
        got = put(&s, seg, skip + (at - seq), want);
        held += got;
        at += got;
        if (!r || got < want)
            break;
        note_dup(ret_dup, seq_max(at, r->start), seq_min(end, r->end));
        if (seq_lt(r->start, out.start))
            out.start = r->start;
        chain_join(&out, r);
        at = seq_max(at, r->end);
    }
    out.end = at;
    if (!out.head)
        return 0;
    ranges_replace(q, lo, hi, &out);
    q->ooo_changed = true;
    recent_touch(q, out.start, out.end);
    return held;
}

/* Moves a chain to the ring's end; false: the ring cannot grow, the rest is there yet. */
static bool chain_to_ring(struct tcp_rcvq *q, struct rcvq_range *r)
{
    while (r->head) {
        struct rcvq_node *n = r->head;

        if (!ring_push(q, n->piece))
            return false;
        q->ooo_bytes -= n->piece.len;
        r->start += n->piece.len;
        r->head = n->next;
        free(n);
    }
    r->tail = NULL;
    return true;
}

uint32_t tcp_rcvq_join(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t rcv_nxt,
                       struct tcp_sack_block *ret_dup, uint32_t *ret_lost)
{
    uint32_t from = rcv_nxt, k = 0;

    *ret_dup = (struct tcp_sack_block){.start = rcv_nxt, .end = rcv_nxt};
    *ret_lost = 0;
    for (; k < q->n_ranges && seq_leq(q->range[k].start, rcv_nxt); k++) {
        struct rcvq_range *r = &q->range[k];

        note_dup(ret_dup, r->start, seq_min(r->end, rcv_nxt));
        if (seq_leq(r->end, rcv_nxt)) {
            chain_release(q, pool, r);
            continue;
        }
        chain_trim_head(q, pool, r, rcv_nxt - r->start);
        if (!chain_to_ring(q, r))
            *ret_lost = r->end - r->start;
        rcv_nxt = r->start;
        chain_release(q, pool, r);
    }
    if (k) {
        q->n_ranges -= k;
        memmove(q->range, &q->range[k], q->n_ranges * sizeof *q->range);
    }
    recent_below(q, *ret_lost ? rcv_nxt + 1 : rcv_nxt); /* what was lost began there */
    return rcv_nxt - from;
}

uint32_t tcp_rcvq_cut_ooo(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t seq)
{
    uint32_t before = q->ooo_bytes;

    while (q->n_ranges) {
        struct rcvq_range *r = &q->range[q->n_ranges - 1];

        if (seq_leq(r->end, seq))
            break;
        if (seq_lt(r->start, seq)) {
            chain_trim_tail(q, pool, r, seq - r->start);
            break;
        }
        chain_release(q, pool, r);
        q->n_ranges--;
    }
    recent_cut(q, seq);
    return before - q->ooo_bytes;
}

/* ---- reading ---- */

const struct rcvq_range *tcp_rcvq_range_of(const struct tcp_rcvq *q, uint32_t seq)
{
    uint32_t low = 0, high = q->n_ranges;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (seq_leq(q->range[mid].end, seq))
            low = mid + 1;
        else
            high = mid;
    }
    return low < q->n_ranges && seq_leq(q->range[low].start, seq) ? &q->range[low] : NULL;
}

int tcp_rcvq_peek(const struct tcp_rcvq *q, uint32_t offset, struct tcp_iov *iov, int max)
{
    int n = 0;

    for (uint32_t i = 0; i < q->count && n < max; i++) {
        const struct rcvq_piece *p = ring_at(q, i);

        if (offset >= p->len) {
            offset -= p->len;
            continue;
        }
        iov[n].data = p->data + offset;
        iov[n].len = p->len - offset;
        offset = 0;
        n++;
    }
    return n;
}

void tcp_rcvq_consume(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t bytes)
{
    assert(bytes <= q->bytes);
    q->bytes -= bytes;
    while (q->count) {
        struct rcvq_piece *p = ring_at(q, 0);

        if (p->len > bytes) {
            p->data += bytes;
            p->len -= bytes;
            break;
        }
        bytes -= p->len;
        piece_release(q, pool, p, q->count > 1 ? ring_at(q, 1) : NULL);
        q->head = (q->head + 1) & (q->ring_size - 1);
        q->count--;
    }
}

/* ---- pressure ---- */

/* Copies p into the room behind `tail` if all of it fits there; p is then to be released. */
static bool collapse_into(struct rcvq_piece *tail, const struct rcvq_piece *p)
{
    if (p->len > COLLAPSE_MAX || piece_room(tail) < p->len)
        return false;
    memcpy(tail->data + tail->len, p->data, p->len);
    tail->len += p->len;
    return true;
}

static void collapse_chain(struct tcp_rcvq *q, struct chunk_pool *pool, struct rcvq_range *r)
{
    for (struct rcvq_node *n = r->head; n; n = n->next) {
        while (n->next && collapse_into(&n->piece, &n->next->piece)) {
            struct rcvq_node *gone = n->next;

            n->next = gone->next;
            if (r->tail == gone)
                r->tail = n;
            piece_release(q, pool, &gone->piece, n->next ? &n->next->piece : NULL);
            free(gone);
        }
    }
}

uint32_t tcp_rcvq_collapse(struct tcp_rcvq *q, struct chunk_pool *pool)
{
    uint32_t before = q->truesize, kept = 0;

    q->renote = q->ooo_changed = true;
    for (uint32_t i = 0; i < q->n_ranges; i++)
        collapse_chain(q, pool, &q->range[i]);
    for (uint32_t i = 0; i < q->count; i++) {
        struct rcvq_piece *p = ring_at(q, i);

        if (kept && collapse_into(ring_at(q, kept - 1), p))
            piece_release(q, pool, p, i + 1 < q->count ? ring_at(q, i + 1) : NULL);
        else
            *ring_at(q, kept++) = *p;
    }
    q->count = kept;
    return before - q->truesize;
}

/* How many bytes of a chain's beginning are charged for at most `charge`. */
static uint32_t chain_bytes_within(const struct rcvq_range *r, uint32_t charge)
{
    uint32_t bytes = 0;

    for (const struct rcvq_node *n = r->head; n && n->piece.charge <= charge; n = n->next) {
        charge -= n->piece.charge;
        bytes += n->piece.len;
    }
    return bytes;
}

static uint32_t chain_charge(const struct rcvq_range *r)
{
    uint32_t charge = 0;

    for (const struct rcvq_node *n = r->head; n; n = n->next)
        charge += n->piece.charge;
    return charge;
}

uint32_t tcp_rcvq_prune_ooo(struct tcp_rcvq *q, struct chunk_pool *pool, uint32_t target, uint32_t floor)
{
    uint32_t gone = 0;

    while (q->n_ranges && q->truesize > target) {
        const struct rcvq_range *r = &q->range[q->n_ranges - 1];
        uint32_t charge = chain_charge(r), excess = q->truesize - target;
        uint32_t keep = charge > excess ? chain_bytes_within(r, charge - excess) : 0;
        uint32_t from = seq_max(r->start + keep, floor);
        bool last = from != r->start;

        if (seq_leq(r->end, from))
            break;
        gone += tcp_rcvq_cut_ooo(q, pool, from);
        if (last)
            break;
    }
    return gone;
}

/* ---- life ---- */

void tcp_rcvq_init(struct tcp_rcvq *q, uint32_t rcvbuf)
{
    *q = (struct tcp_rcvq){.rcvbuf = rcvbuf};
}

void tcp_rcvq_release_ooo(struct tcp_rcvq *q, struct chunk_pool *pool)
{
    for (uint32_t i = 0; i < q->n_ranges; i++)
        chain_release(q, pool, &q->range[i]);
    free(q->range);
    q->range = NULL;
    q->n_ranges = q->range_size = 0;
    q->n_recent = 0;
}

void tcp_rcvq_release(struct tcp_rcvq *q, struct chunk_pool *pool)
{
    tcp_rcvq_release_ooo(q, pool);
    tcp_rcvq_consume(q, pool, q->bytes);
    free(q->ring);
    q->ring = NULL;
    q->ring_size = q->head = q->count = 0;
}

/* ---- checking ---- */

static const char *piece_check(const struct rcvq_piece *p)
{
    if (p->len == 0)
        return "rcvq: an empty piece";
    if (p->chunk->refs == 0)
        return "rcvq: a piece in a free chunk";
    if (p->data < p->chunk->data || p->data + p->len > p->chunk->data + p->chunk->size)
        return "rcvq: a piece outside its chunk";
    return NULL;
}

static const char *range_check(const struct rcvq_range *r, uint32_t *truesize)
{
    uint32_t bytes = 0;
    const struct rcvq_node *last = NULL;

    for (const struct rcvq_node *n = r->head; n; last = n, n = n->next) {
        const char *bad = piece_check(&n->piece);

        if (bad)
            return bad;
        bytes += n->piece.len;
        *truesize += n->piece.charge;
    }
    if (last != r->tail)
        return "rcvq: a range's tail is not its last piece";
    if (bytes == 0 || bytes != r->end - r->start)
        return "rcvq: a range's pieces are not its length";
    return NULL;
}

static const char *recent_check(const struct tcp_rcvq *q)
{
    for (unsigned i = 0; i < q->n_recent; i++) {
        uint32_t k = range_find_end(q, q->recent[i].end);

        if (k == q->n_ranges || q->range[k].start != q->recent[i].start ||
            q->range[k].end != q->recent[i].end)
            return "rcvq: a SACK block that is no range";
    }
    return NULL;
}

const char *tcp_rcvq_check(const struct tcp_rcvq *q, uint32_t rcv_nxt)
{
    uint32_t bytes = 0, ooo = 0, truesize = 0, prev_end = rcv_nxt;
    const char *bad;

    for (uint32_t i = 0; i < q->count; i++) {
        bad = piece_check(ring_at(q, i));
        if (bad)
            return bad;
        bytes += ring_at(q, i)->len;
        truesize += ring_at(q, i)->charge;
    }
    for (uint32_t i = 0; i < q->n_ranges; i++) {
        const struct rcvq_range *r = &q->range[i];

        if (!seq_gt(r->start, prev_end))
            return "rcvq: ranges out of order, overlapping or adjacent";
        bad = range_check(r, &truesize);
        if (bad)
            return bad;
        ooo += r->end - r->start;
        prev_end = r->end;
    }
    if (bytes != q->bytes)
        return "rcvq: bytes is not the sum of the pieces";
    if (ooo != q->ooo_bytes)
        return "rcvq: ooo_bytes is not the sum of the ranges";
    if (truesize != q->truesize)
        return "rcvq: truesize is not the sum of the charges";
    return recent_check(q);
}

/* ---- records ---- */

static void note_piece(struct rcvq_piece *p, struct chunk_pool *pool, uint64_t owner, uint32_t end)
{
    if (!p->note)
        p->note = chunk_note_put(pool, owner, CHUNK_NOTE_RECV, end - p->len, p->chunk, p->data, p->len);
    else if (chunk_note_end(pool, p->note) != end)
        chunk_note_set_end(pool, p->note, end);
}

/* From the end back: pieces in order change only there, unless they were collapsed. */
void tcp_rcvq_note(struct tcp_rcvq *q, struct chunk_pool *pool, uint64_t owner, uint32_t end)
{
    uint32_t left = q->renote || q->unnoted > q->bytes ? q->bytes : q->unnoted;

    for (uint32_t i = q->count; i-- > 0 && left;) {
        struct rcvq_piece *p = ring_at(q, i);

        note_piece(p, pool, owner, end);
        end -= p->len;
        left -= p->len < left ? p->len : left;
    }
    q->unnoted = 0;
    q->renote = false;
    if (!q->ooo_changed)
        return;
    q->ooo_changed = false;
    for (uint32_t i = 0; i < q->n_ranges; i++) {
        uint32_t at = q->range[i].start;

        for (struct rcvq_node *n = q->range[i].head; n; n = n->next) {
            at += n->piece.len;
            note_piece(&n->piece, pool, owner, at);
        }
    }
}

bool tcp_rcvq_adopt(struct tcp_rcvq *q, struct chunk *chunk, uint8_t *data, uint32_t len, uint32_t note)
{
    struct sink s = {.q = q};

    return sink_push(&s, chunk, data, len, note);
}

bool tcp_rcvq_adopt_ooo(struct tcp_rcvq *q, uint32_t seq, struct chunk *chunk, uint8_t *data, uint32_t len,
                        uint32_t note)
{
    struct rcvq_range *last = q->n_ranges ? &q->range[q->n_ranges - 1] : NULL;
    struct sink s = {.q = q};

    if (!last || last->end != seq) {
        if (!ranges_reserve(q))
            return false;
        last = &q->range[q->n_ranges++];
        *last = (struct rcvq_range){.start = seq, .end = seq};
    }
    s.range = last;
    if (!sink_push(&s, chunk, data, len, note)) {
        if (!last->head)
            q->n_ranges--;
        return false;
    }
    last->end += len;
    return true;
}

static bool give_piece(const struct rcvq_piece *p, uint32_t seq, uint32_t *ret_seq, const uint8_t **ret_data,
                       uint32_t *ret_len)
{
    *ret_seq = seq;
    *ret_data = p->data;
    *ret_len = p->len;
    return true;
}

bool tcp_rcvq_piece(const struct tcp_rcvq *q, uint32_t i, uint32_t first_seq, uint32_t *ret_seq,
                    const uint8_t **ret_data, uint32_t *ret_len)
{
    uint32_t seq = first_seq;

    for (uint32_t k = 0; k < q->count; k++) {
        const struct rcvq_piece *p = ring_at(q, k);

        if (k == i)
            return give_piece(p, seq, ret_seq, ret_data, ret_len);
        seq += p->len;
    }
    i -= q->count;
    for (uint32_t k = 0; k < q->n_ranges; k++) {
        seq = q->range[k].start;
        for (const struct rcvq_node *n = q->range[k].head; n; n = n->next) {
            if (i-- == 0)
                return give_piece(&n->piece, seq, ret_seq, ret_data, ret_len);
            seq += n->piece.len;
        }
    }
    return false;
}
