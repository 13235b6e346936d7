/*
 * tcp/sndmem.c: how much a program may queue, how that is cut, and when it hears that there is room again; and the
 * chronograph, which says how long the connection was busy and what held it back.
 *
 * SO_SNDBUF is Linux's account, not the size of our chunks, so that a program meets the same limits here:
 *
 *     queued = bytes not acknowledged + SKB_OVERHEAD * (sent-segment descriptors + cells of the write queue)
 *
 * Chunks are shared by neighbours, so the memory behind it is about the bytes; the pool's budget bounds it. As
 * tcp_sendmsg(), a send fills the last cell whatever is queued, and begins a new one only while queued < SO_SNDBUF and
 * not sent < TCP_NOTSENT_LOWAT. tcp_sendmsg() sends while it copies; here output comes later, so what could leave at
 * once (up to tcp_sendable_end()) is taken as sent, and cut off, as it would be there.
 *
 * Called by api.c, fastopen.c, ack.c, options.c, output.c; sends nothing.
 */
#include "tcp/recovery.h"

/* struct sk_buff, its shared info, and a head of 1 KiB: Linux's SKB_TRUESIZE() of an skb without data in its head. */
#define SKB_OVERHEAD  1280u
#define GSO_BYTES_MAX 65400u
#define HEADER_ROOM   640u /* MAX_TCP_HEADER and the shared info, for the estimate of what a segment takes */
#define SKB_STRUCT    256u

/* ---- what is queued ---------------------------------------------------------------------------------- */

uint32_t tcp_wmem_queued(const struct tcp_conn *c)
{
    return tcp_sndbuf_bytes(&c->sndbuf) + SKB_OVERHEAD * (c->sndq.count + c->writeq.count);
}

/*
 * SACK blocks may cut super-frames into segments, and each costs memory. Linux stops where the queue takes twice the
 * buffer and two super-frames (tcp_fragment, CVE-2019-11478).
 */
uint32_t tcp_sndq_count_max(const struct tcp_conn *c)
{
    uint64_t most = 2 * ((uint64_t)c->sndbuf.limit + 2 * (GSO_BYTES_MAX + SKB_OVERHEAD));
    uint64_t bytes = tcp_sndbuf_bytes(&c->sndbuf), cells = c->writeq.count;
    uint64_t count = most > bytes ? (most - bytes) / SKB_OVERHEAD : 0;

    return (uint32_t)(count > cells + 1 ? count - cells : 1);
}

static uint32_t notsent_lowat(const struct tcp *t, const struct tcp_conn *c)
{
    return c->notsent_lowat ? c->notsent_lowat : (uint32_t)t->config->tcp_notsent_lowat;
}

/*
 * Bytes of a cell (tcp_xmit_size_goal): what a super-frame holds, at most half the largest window that the peer had.
 */
static uint32_t size_goal(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t mss = tcp_current_mss(c), bytes = t->gso_max_bytes < GSO_BYTES_MAX ? t->gso_max_bytes : GSO_BYTES_MAX;
    uint32_t half = c->max_window > TCP_MSS_DEFAULT ? c->max_window / 2 : c->max_window;
    uint32_t segs;

    if (c->md5_key[0])
        return mss; /* signed one by one */
    if (half && bytes > half)
        bytes = half;
    segs = bytes / mss;
    return segs > 1 ? segs * mss : mss;
}

uint32_t tcp_send_goal(const struct tcp *t, tcp_id id)
{
    const struct tcp_conn *c = tcp_conn_by_id(t, id);

    return c ? size_goal(t, c) : TCP_MSS_DEFAULT;
}

/* ---- filling cells ----------------------------------------------------------------------------------- */

struct fill {
    uint32_t goal;
    uint32_t sendable; /* what lies below would leave at once */
    uint32_t burst;    /* in pieces of so many bytes, each an skb of its own */
    uint32_t begin;    /* of the last cell */
    uint32_t seq;      /* end of it */
    uint32_t skbs;
    bool open;         /* the last cell takes bytes, if it has room */
};

static bool is_full(const struct fill *f)
{
    return !f->open || f->seq - f->begin >= f->goal;
}

/* skbs more than one that [begin, end) is once the sender has cut what would leave now. */
static uint32_t cuts(const struct fill *f, uint32_t begin, uint32_t end)
{
    uint32_t sent_end = seq_min(f->sendable, end);

    return seq_lt(begin, sent_end) ? (sent_end - begin - 1) / f->burst + (sent_end != end) : 0;
}

/*
 * Where cells hold an MSS at most only the one is cut that `sendable` lies in: it is searched for, for there may be
 * thousands. (Some may be larger where the MSS shrank; then their sum is, or we count an skb less for a moment.)
 */
static uint32_t first_cut(const struct tcp_writeq *q, const struct fill *f)
{
    uint32_t low = 0, high = q->count;

    if (f->goal > f->burst || f->begin - q->start > (q->count - 1) * f->goal)
        return 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (seq_leq(tcp_writeq_at(q, middle)->end, f->sendable))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void fill_begin(const struct tcp *t, const struct tcp_conn *c, struct fill *f)
{
    const struct tcp_writeq *q = &c->writeq;
    uint32_t burst, sendable = tcp_sendable_end(t, c, &burst);

    *f = (struct fill){.goal = size_goal(t, c),
                       .sendable = sendable,
                       .burst = burst,
                       .begin = tcp_writeq_end(q),
                       .seq = tcp_writeq_end(q),
                       .skbs = c->sndq.count + q->count};
    if (!q->count)
        return;
    f->begin = tcp_writeq_begin_of(q, q->count - 1);
    f->open = !(tcp_writeq_at(q, q->count - 1)->flags & TCP_CELL_EOR);
    for (uint32_t i = first_cut(q, f); i < q->count && seq_lt(tcp_writeq_begin_of(q, i), sendable); i++)
        if (i + 1 < q->count || is_full(f)) /* else counted when it is */
            f->skbs += cuts(f, tcp_writeq_begin_of(q, i), tcp_writeq_at(q, i)->end);
}

/* sk_stream_memory_free() */
static bool memory_free(const struct tcp *t, const struct tcp_conn *c, const struct fill *f)
{
    uint32_t sent = seq_max(c->writeq.start, seq_min(f->sendable, f->seq));

    return f->seq - c->sndbuf.start + SKB_OVERHEAD * f->skbs < c->sndbuf.limit &&
           f->seq - sent < notsent_lowat(t, c);
}

/* The last cell is full and more comes: what would leave now is cut by the sender. True: the rest is the last cell. */
static bool fill_cut(struct fill *f)
{
    f->skbs += cuts(f, f->begin, f->seq);
    if (!seq_lt(f->begin, f->sendable) || !seq_lt(f->sendable, f->seq))
        return false;
    f->begin = f->sendable;
    return true;
}

/* Bytes that the last cell takes now, of `left`; opens a new one where it is full. */
static uint32_t fill_step(struct fill *f, uint32_t left)
{
    uint32_t room;

    if (is_full(f)) {
        f->begin = f->seq;
        f->skbs++;
        f->open = true;
    }
    room = f->goal - (f->seq - f->begin);
    room = room < left ? room : left;
    f->seq += room;
    return room;
}

uint32_t tcp_stream_room(const struct tcp *t, const struct tcp_conn *c, uint32_t want)
{
    uint32_t done = 0;
    struct fill f;

    fill_begin(t, c, &f);
    while (done < want && (!is_full(&f) || memory_free(t, c, &f))) {
        done += fill_step(&f, want - done);
        if (done < want && is_full(&f))
            (void)fill_cut(&f);
    }
    return done;
}

/* ---- what a program sent is appended ----------------------------------------------------------------- */

static struct tcp_cell *last_cell(struct tcp_conn *c)
{
    return tcp_writeq_at(&c->writeq, c->writeq.count - 1);
}

/* More than half the peer's largest window since the last push (forced_push). */
static bool forced_push(const struct tcp_conn *c)
{
    return seq_gt(c->write_seq, c->pushed_seq + (c->max_window >> 1));
}

static void mark_push(struct tcp_conn *c)
{
    last_cell(c)->flags |= TCP_CELL_PSH;
    c->pushed_seq = c->write_seq;
}

static void append_cells(struct tcp *t, struct tcp_conn *c, uint32_t bytes)
{
    struct tcp_writeq *q = &c->writeq;
    uint32_t end = c->write_seq + bytes;
    struct fill f;

    fill_begin(t, c, &f);
    if (!is_full(&f))
        last_cell(c)->flags &= ~(uint32_t)TCP_CELL_PSH; /* no longer the end */
    while (seq_lt(c->write_seq, end)) {
        bool fresh = is_full(&f);

        (void)fill_step(&f, end - c->write_seq);
        c->write_seq = f.seq;
        if (!fresh)
            last_cell(c)->end = f.seq;
        else {
            bool pushed = tcp_writeq_push(q, f.seq, 0);

            assert(pushed); /* tcp_stream_prepare() saw to it */
            (void)pushed;
        }
        if (c->write_seq == end || !is_full(&f))
            break;
        if (forced_push(c))
            mark_push(c);
        if (fill_cut(&f))
            tcp_writeq_cut(q, f.begin);
    }
}

bool tcp_stream_prepare(struct tcp_conn *c)
{
    return tcp_writeq_prepare(&c->writeq, 1);
}

void tcp_stream_append(struct tcp *t, struct tcp_conn *c, uint32_t bytes, unsigned flags, uint64_t now)
{
    tcp_chrono_start(c, TCP_CHRONO_BUSY, now);
    tcp_follow_path(t, c);
    append_cells(t, c, bytes);
    c->send_more = (flags & TCP_SEND_MORE) != 0;
    c->nagle_push = false;
    c->tx_refused = false;
    if (!c->send_more || forced_push(c))
        mark_push(c);
    if (flags & TCP_SEND_EOR)
        last_cell(c)->flags |= TCP_CELL_EOR;
    if (flags & TCP_SEND_URGENT) {
        c->snd_up = c->write_seq;
        c->urg_mode = true;
    }
}

void tcp_stream_full(struct tcp_conn *c)
{
    c->want_writable = true;
    if (c->writeq.count == 0)
        return;
    /* What is queued leaves, however small, or room would never come (tcp_push with TCP_NAGLE_PUSH). */
    mark_push(c);
    c->send_more = false;
    c->nagle_push = true;
}

/* ---- room again -------------------------------------------------------------------------------------- */

/* __sk_stream_is_writeable(), where all below `nxt` is taken as sent, in so many skbs. */
static bool writeable(const struct tcp *t, const struct tcp_conn *c, uint32_t nxt, uint32_t skbs)
{
    uint32_t queued = tcp_sndbuf_bytes(&c->sndbuf) + SKB_OVERHEAD * skbs, limit = c->sndbuf.limit;
    uint64_t unsent = seq_lt(nxt, c->write_seq) ? c->write_seq - nxt : 0;

    return queued < limit && limit - queued >= queued / 2 && unsent * 2 < notsent_lowat(t, c);
}

bool tcp_stream_is_writeable(const struct tcp *t, const struct tcp_conn *c)
{
    return writeable(t, c, c->writeq.start, c->sndq.count + c->writeq.count);
}

static uint32_t round_up_pow2(uint32_t v)
{
    uint32_t p = 1;

    while (p < v)
        p *= 2;
    return p;
}

/* What autotuning would make of the buffer now, if that is more. */
static uint32_t expanded(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t mss = c->mss_clamp > c->mss ? c->mss_clamp : c->mss;
    uint32_t per_mss = round_up_pow2(mss + HEADER_ROOM) + SKB_STRUCT;
    uint64_t segs = c->win.cwnd, want;

    if (c->sndbuf_locked)
        return c->sndbuf.limit;
    if (segs < (uint32_t)t->config->tcp_initcwnd)
        segs = (uint32_t)t->config->tcp_initcwnd;
    if (segs < c->reordering + 1u)
        segs = c->reordering + 1u;
    want = (c->cc && c->cc->sndbuf_expand ? c->cc->sndbuf_expand(c->cc_state, &c->win) : 2) * segs * per_mss;
    if (want > (uint32_t)t->config->tcp_wmem_max)
        want = (uint32_t)t->config->tcp_wmem_max;
    return want > c->sndbuf.limit ? (uint32_t)want : c->sndbuf.limit;
}

void tcp_sndbuf_expand(const struct tcp *t, struct tcp_conn *c)
{
    c->sndbuf.limit = expanded(t, c);
}

/*
 * Linux asks after it has pushed what may go. Here that is to come, so the question is how it will be then: autotuning
 * only where the program waits for room and not even all that is queued fills cwnd (tcp_new_space), and not while memory
 * is short (tcp_should_expand_sndbuf).
 */
void tcp_check_space(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_pushed then;

    if (!c->want_writable)
        return;
    /* Not even if all went uncut, and the buffer does not grow: nearly always where segments are small and many. */
    if (expanded(t, c) == c->sndbuf.limit && !writeable(t, c, c->write_seq, c->sndq.count + c->writeq.count))
        return;
    tcp_after_push(t, c, now, &then);
    if (then.in_flight < c->win.cwnd && !tcp_memory_pressure(t))
        tcp_sndbuf_expand(t, c);
    if (!writeable(t, c, then.nxt, then.skbs))
        return;
    c->want_writable = false;
    tcp_rec_wants(t, c);
    tcp_raise(t, c, TCP_EVENT_WRITABLE);
    tcp_chrono_stop(c, TCP_CHRONO_SNDBUF_LIMITED, now);
}

/* ---- the chronograph --------------------------------------------------------------------------------- */

static void chrono_set(struct tcp_conn *c, enum tcp_chrono which, uint64_t now)
{
    if (c->chrono != TCP_CHRONO_UNSPEC)
        c->chrono_ns[c->chrono] += time_since(now, c->chrono_at);
    c->chrono = (uint8_t)which;
    c->chrono_at = now;
}

/* The highest that applies counts. */
void tcp_chrono_start(struct tcp_conn *c, enum tcp_chrono which, uint64_t now)
{
    if (which > c->chrono)
        chrono_set(c, which, now);
}

void tcp_chrono_stop(struct tcp_conn *c, enum tcp_chrono which, uint64_t now)
{
    if (tcp_sndq_empty(&c->sndq) && c->writeq.count == 0 && !tcp_fin_unsent(c))
        chrono_set(c, TCP_CHRONO_UNSPEC, now);
    else if (which == c->chrono)
        chrono_set(c, TCP_CHRONO_BUSY, now);
}

uint64_t tcp_chrono_ns(const struct tcp_conn *c, enum tcp_chrono which, uint64_t now)
{
    return c->chrono_ns[which] + (c->chrono == which ? time_since(now, c->chrono_at) : 0);
}
