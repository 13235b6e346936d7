/*
 * tcp/sndbuf.c: see tcp/sndbuf.h.
 *
 * The ring holds `count` pieces with bytes and behind them `reserved` pieces of length 0, whose chunks wait
 * for a commit. A chunk belongs to exactly one piece; a piece may grow while it is the last. Called by api.c
 * (reserve, commit), ack.c (free) and output.c (slices); it reads no payload byte.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/seq.h"
#include "tcp/sndbuf.h"
#include "tcp/tcp.h"

#define RING_MIN          2u
#define RING_KEEP         64u    /* a larger ring is given back when the buffer runs empty */
#define BULK_WANT_BYTES   16384u /* one call that deserves a big chunk */
#define BULK_QUEUED_BYTES 32768u /* so much is waiting that small writes are bulk too */

static struct tcp_snd_piece *piece_at(const struct tcp_sndbuf *b, uint32_t i)
{
    return &b->ring[(b->head + i) & (b->cap - 1)];
}

void tcp_sndbuf_init(struct tcp_sndbuf *b, uint32_t seq, uint32_t limit)
{
    memset(b, 0, sizeof *b);
    b->start = b->end = seq;
    b->limit = limit;
}

static void release(struct tcp_sndbuf *b, struct chunk_pool *pool, const struct tcp_snd_piece *p)
{
    b->truesize -= p->chunk->size;
    if (p->note) /* its room is nobody's: the bytes that follow will lie elsewhere */
        chunk_note_set_end(pool, p->note, p->seq + p->len);
    chunk_note_drop(pool, p->note);
    chunk_unref_part(pool, p->chunk);
}

static void drop_reserved(struct tcp_sndbuf *b, struct chunk_pool *pool)
{
    for (; b->reserved > 0; b->reserved--) {
        struct tcp_snd_piece *p = piece_at(b, b->count + b->reserved - 1);

        chunk_note_drop(pool, p->note);
        p->note = 0;
        release(b, pool, p);
    }
}

void tcp_sndbuf_clear(struct tcp_sndbuf *b, struct chunk_pool *pool)
{
    drop_reserved(b, pool);
    for (uint32_t i = 0; i < b->count; i++)
        release(b, pool, piece_at(b, i));
    free(b->ring);
    tcp_sndbuf_init(b, b->end, b->limit);
}

/* Room behind the last byte in its chunk: none where that may be others'. */
static uint32_t tail_room(const struct tcp_sndbuf *b)
{
    const struct tcp_snd_piece *p;

    if (b->count == 0)
        return 0;
    p = piece_at(b, b->count - 1);
    if (p->chunk->cut)
        return 0;
    return p->chunk->size - p->offset - p->len;
}

static bool ring_grow(struct tcp_sndbuf *b)
{
    uint32_t n = b->count + b->reserved, cap = b->cap ? 2 * b->cap : RING_MIN;
    struct tcp_snd_piece *ring;

    if (n < b->cap)
        return true;
    ring = malloc(cap * sizeof *ring);
    if (!ring)
        return false;
    for (uint32_t i = 0; i < n; i++)
        ring[i] = *piece_at(b, i);
    free(b->ring);
    b->ring = ring;
    b->cap = cap;
    b->head = 0;
    return true;
}

static int reserve_chunk(struct tcp_sndbuf *b, struct chunk_pool *pool, size_t want)
{
    bool bulk = want >= BULK_WANT_BYTES || tcp_sndbuf_bytes(b) >= BULK_QUEUED_BYTES;
    struct chunk *chunk = NULL;

    if (!ring_grow(b))
        return -ENOMEM;
    if (bulk)
        chunk = chunk_alloc(pool, CHUNK_BIG_BYTES);
    if (!chunk)
        chunk = chunk_alloc(pool, CHUNK_SMALL_BYTES);
    if (!chunk)
        return -ENOMEM;
    b->truesize += chunk->size;
    *piece_at(b, b->count + b->reserved) = (struct tcp_snd_piece){.chunk = chunk};
    b->reserved++;
    return 1;
}

int tcp_sndbuf_reserve(struct tcp_sndbuf *b, struct chunk_pool *pool, size_t want, struct tcp_iov *iov,
                       int max)
{
    uint32_t room = tail_room(b), next = 0;
    int n = 0;

    if (want > 0 && max > 0 && room > 0) {
        const struct tcp_snd_piece *p = piece_at(b, b->count - 1);

        iov[n].data = p->chunk->data + p->offset + p->len;
        iov[n].len = want < room ? want : room;
        want -= iov[n++].len;
    }
    while (want > 0 && n < max) {
        struct chunk *chunk;

        if (next == b->reserved) {
            int r = reserve_chunk(b, pool, want);

            if (r <= 0)
                return n > 0 ? n : r;
        }
        chunk = piece_at(b, b->count + next++)->chunk;
        iov[n].data = chunk->data;
        iov[n].len = want < chunk->size ? want : chunk->size;
        want -= iov[n++].len;
    }
    return n;
}

void tcp_sndbuf_commit(struct tcp_sndbuf *b, struct chunk_pool *pool, size_t bytes)
{
    uint32_t room = tail_room(b), take;

    if (room > 0 && bytes > 0) {
        take = bytes < room ? (uint32_t)bytes : room;
        piece_at(b, b->count - 1)->len += take;
        b->end += take;
        bytes -= take;
    }
    while (bytes > 0) {
        struct tcp_snd_piece *p = piece_at(b, b->count);

        assert(b->reserved > 0);
        take = bytes < p->chunk->size ? (uint32_t)bytes : p->chunk->size;
        p->seq = b->end;
        p->len = take;
        b->end += take;
        bytes -= take;
        b->count++;
        b->reserved--;
    }
    drop_reserved(b, pool);
}

void tcp_sndbuf_free_to(struct tcp_sndbuf *b, struct chunk_pool *pool, uint32_t seq)
{
    assert(seq_leq(b->start, seq) && seq_leq(seq, b->end));
    while (b->count > 0) {
        struct tcp_snd_piece *p = piece_at(b, 0);
        uint32_t gone = seq - p->seq;

        if (gone < p->len) {
            p->seq += gone;
            p->offset += gone;
            p->len -= gone;
            break;
        }
        release(b, pool, p);
        b->head = (b->head + 1) & (b->cap - 1);
        b->count--;
    }
    b->start = seq;
    if (b->count + b->reserved == 0 && b->cap > RING_KEEP) {
        free(b->ring);
        b->ring = NULL;
        b->cap = b->head = 0;
    }
}

/* Index of the piece that holds the byte `seq`, start <= seq < end: mostly that of the last time, or the next one. */
static uint32_t piece_find(const struct tcp_sndbuf *b, uint32_t seq)
{
    uint32_t low = (b->near - b->head) & (b->cap - 1), high = b->count, key = seq - b->start;

    for (uint32_t i = low; i < low + 2 && i < high; i++)
        if (seq - piece_at(b, i)->seq < piece_at(b, i)->len)
            return i;
    low = 0;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;

        if (piece_at(b, mid)->seq - b->start <= key)
            low = mid;
        else
            high = mid;
    }
    return low;
}

uint32_t tcp_sndbuf_slices(struct tcp_sndbuf *b, uint32_t seq, uint32_t len, struct tcp_slice *slice,
                           unsigned max, uint16_t *ret_n)
{
    uint32_t done = 0, i;
    uint16_t n = 0;

    assert(seq - b->start + len <= tcp_sndbuf_bytes(b));
    if (len > 0) {
        for (i = piece_find(b, seq); done < len && n < max; i++, n++) {
            const struct tcp_snd_piece *p = piece_at(b, i);
            uint32_t skip = seq + done - p->seq, left = len - done;
            uint32_t take = p->len - skip < left ? p->len - skip : left;

            slice[n].data = p->chunk->data + p->offset + skip;
            slice[n].len = take;
            slice[n].chunk = p->chunk;
            done += take;
        }
        b->near = (b->head + i - 1) & (b->cap - 1);
    }
    *ret_n = n;
    return done;
}

/* All pieces but the last are as they were when they were noted. */
void tcp_sndbuf_note(struct tcp_sndbuf *b, struct chunk_pool *pool, uint64_t owner, bool room)
{
    uint32_t seq = b->end, n = b->count;

    for (uint32_t i = n; i-- > 0;) {
        struct tcp_snd_piece *p = piece_at(b, i);
        uint32_t len = p->len + (room && i == n - 1 ? tail_room(b) : 0);

        if (p->note && seq_geq(chunk_note_end(pool, p->note), p->seq + len))
            break;
        if (p->note)
            chunk_note_set_end(pool, p->note, p->seq + len);
        else
            p->note = chunk_note_put(pool, owner, CHUNK_NOTE_SEND, p->seq, p->chunk,
                                     p->chunk->data + p->offset, len);
    }
    seq += tail_room(b);
    for (uint32_t i = 0; room && i < b->reserved; i++) {
        struct tcp_snd_piece *p = piece_at(b, n + i);

        chunk_note_drop(pool, p->note); /* as reserved before, perhaps elsewhere in the stream */
        p->note = chunk_note_put(pool, owner, CHUNK_NOTE_SEND, seq, p->chunk, p->chunk->data, p->chunk->size);
        seq += p->chunk->size;
    }
}

bool tcp_sndbuf_adopt(struct tcp_sndbuf *b, struct chunk *chunk, uint32_t offset, uint32_t len, uint32_t note)
{
    if (!ring_grow(b))
        return false;
    *piece_at(b, b->count) = (struct tcp_snd_piece){
        .chunk = chunk, .seq = b->end, .offset = offset, .len = len, .note = note};
    b->truesize += chunk->size;
    b->count++;
    b->end += len;
    return true;
}

/* What a note says of room behind the last piece is no longer so. */
static void end_room(const struct tcp_sndbuf *b, struct chunk_pool *pool)
{
    const struct tcp_snd_piece *last = b->count ? piece_at(b, b->count - 1) : NULL;

    if (last && last->note && seq_gt(chunk_note_end(pool, last->note), b->end))
        chunk_note_set_end(pool, last->note, b->end);
}

bool tcp_sndbuf_share(struct tcp_sndbuf *b, struct chunk_pool *pool, const struct tcp_slice *slice)
{
    drop_reserved(b, pool);
    end_room(b, pool);
    if (!tcp_sndbuf_adopt(b, slice->chunk, (uint32_t)(slice->data - slice->chunk->data), slice->len, 0))
        return false;
    chunk_ref(slice->chunk)->cut = true;
    return true;
}

const struct tcp_snd_piece *tcp_sndbuf_piece(const struct tcp_sndbuf *b, uint32_t i)
{
    return piece_at(b, i);
}

const char *tcp_sndbuf_check(const struct tcp_sndbuf *b)
{
    uint32_t seq = b->start, truesize = 0;

    if (b->cap & (b->cap - 1) || b->count + b->reserved > b->cap)
        return "sndbuf: ring size";
    for (uint32_t i = 0; i < b->count + b->reserved; i++) {
        const struct tcp_snd_piece *p = piece_at(b, i);

        if (p->chunk->refs == 0)
            return "sndbuf: a piece in a free chunk";
        truesize += p->chunk->size;
        if (i >= b->count)
            continue;
        if (p->len == 0 || p->seq != seq)
            return "sndbuf: pieces are not contiguous";
        if (p->offset + p->len > p->chunk->size)
            return "sndbuf: a piece beyond its chunk";
        seq += p->len;
    }
    if (seq != b->end)
        return "sndbuf: pieces do not sum up to [start, end)";
    if (truesize != b->truesize)
        return "sndbuf: truesize is not the sum of chunks";
    return NULL;
}
