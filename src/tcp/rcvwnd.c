/*
 * tcp/rcvwnd.c: the receive window of a connection.
 *
 * Invariant: what was announced is what is enforced: the peer may send up to rcv_wup + rcv_wnd and not a byte
 * more (rcv.c cuts there), and that edge moves back only where memory ran out (TCP_ACK_NOMEM). The window
 * offered is the free part of rcvbuf, less the share kept for overhead (tcp_adv_win_scale), less than
 * rcv_ssthresh, which grows with well-filled segments; small windows are not offered (RFC 9293
 * section 3.8.6.2.2, receiver's SWS avoidance). rcvbuf grows with what the program reads in a round trip
 * (dynamic right-sizing), up to tcp_rmem_max.
 *
 * Called by rcv.c with data, by api.c when the program reads, by output.c when an ACK is made. Builds
 * nothing.
 */
#include "tcp/tcp_priv.h"

#define WINDOW_UNSCALED_MAX 65535u

/* The part of a buffer that may be offered as window (tcp_win_from_space). */
static uint32_t win_from_space(const struct tcp *t, uint32_t space)
{
    int32_t scale = t->config->tcp_adv_win_scale;

    if (scale <= 0)
        return space >> -scale;
    return space - (space >> scale);
}

/* The buffer that a window needs (tcp_space_from_win); saturates. */
static uint64_t space_from_win(const struct tcp *t, uint64_t win)
{
    int32_t scale = t->config->tcp_adv_win_scale;

    if (scale <= 0)
        return win >= (1ull << 31) >> -scale ? INT32_MAX : win << -scale;
    return win >= 1ull << 31 ? INT32_MAX : (win << scale) / ((1ull << scale) - 1);
}

static uint32_t full_space(const struct tcp *t, const struct tcp_conn *c)
{
    return win_from_space(t, c->rcvq.rcvbuf);
}

static uint32_t free_space(const struct tcp *t, const struct tcp_conn *c)
{
    return win_from_space(t, c->rcvq.truesize < c->rcvq.rcvbuf ? c->rcvq.rcvbuf - c->rcvq.truesize : 0);
}

static uint32_t u32_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t u32_max(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

bool tcp_memory_pressure(const struct tcp *t)
{
    size_t budget = chunk_pool_budget_bytes(t->pool);

    return chunk_pool_used_bytes(t->pool) > budget - budget / 8;
}

/* ---- the first window (tcp_select_initial_window) ---- */

struct initial {
    uint32_t wnd, clamp;
    uint8_t wscale;
};

/* RFC 7323 section 2: the scale is for the largest buffer that autotuning may reach. */
static uint8_t choose_wscale(const struct tcp *t, uint32_t space, uint32_t clamp)
{
    uint8_t scale = 0;

    space = u32_min(u32_max(space, (uint32_t)t->config->tcp_rmem_max), clamp);
    while (space > WINDOW_UNSCALED_MAX && scale < TCP_MAX_WSCALE) {
        space >>= 1;
        scale++;
    }
    return scale;
}

static struct initial select_initial(const struct tcp *t, uint32_t rcvbuf, uint32_t clamp, uint32_t mss,
                                     bool wscale_ok, uint32_t initrwnd)
{
    struct initial r = {0};
    uint32_t space;

    if (clamp == 0)
        clamp = WINDOW_UNSCALED_MAX << TCP_MAX_WSCALE;
    space = u32_min(win_from_space(t, rcvbuf), clamp);
    if (mss && space > mss)
        space -= space % mss;
    /* The field of a SYN is never scaled. */
    r.wnd = u32_min(space, WINDOW_UNSCALED_MAX);
    if (initrwnd && mss)
        r.wnd = u32_min(r.wnd, initrwnd * mss);
    if (wscale_ok)
        r.wscale = choose_wscale(t, space, clamp);
    r.clamp = u32_min(WINDOW_UNSCALED_MAX << r.wscale, clamp);
    return r;
}

void tcp_rcv_initial_window(const struct tcp *t, uint32_t rcvbuf, uint16_t mss, bool wscale_ok, uint16_t *ret_wnd,
                            uint8_t *ret_wscale)
{
    struct initial r = select_initial(t, rcvbuf ? rcvbuf : (uint32_t)t->config->tcp_rmem_default, 0, mss,
                                      wscale_ok && t->config->tcp_window_scaling, 0);

    *ret_wnd = (uint16_t)r.wnd;
    *ret_wscale = r.wscale;
}

void tcp_rcv_init(struct tcp *t, struct tcp_conn *c, uint16_t mss, bool wscale_ok)
{
    struct initial r;

    if (!c->rcvbuf_locked)
        c->rcvq.rcvbuf = (uint32_t)t->config->tcp_rmem_default;
    r = select_initial(t, c->rcvq.rcvbuf, c->window_clamp, mss, wscale_ok && t->config->tcp_window_scaling,
                       c->path.initrwnd);
    c->rcv_wnd = r.wnd;
    c->rcv_ssthresh = r.wnd;
    c->window_clamp = r.clamp;
    c->rcv_wscale = r.wscale;
    c->rcv_wup = c->rcv_nxt;
}

/* tcp_initialize_rcv_mss: a small guess makes the first ACKs early. */
static void initialize_rcv_mss(struct tcp_conn *c)
{
    uint32_t hint = c->mss ? u32_min(c->advmss, c->mss) : c->advmss;

    hint = u32_min(u32_min(hint, c->rcv_wnd / 2), TCP_MSS_DEFAULT);
    c->rcv_mss = (uint16_t)u32_max(hint, TCP_MIN_MSS);
}

void tcp_rcv_established(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint32_t maxwin = full_space(t, c), advmss = c->advmss;

    if (c->rcvq.established)
        return;
    c->rcvq.established = true;
    if (!c->wscale_ok) {
        c->rcv_wscale = 0;
        c->window_clamp = u32_min(c->window_clamp, WINDOW_UNSCALED_MAX);
    }
    c->rcvq.space_at = now;
    c->rcvq.space_seq = c->copied_seq;
    if (c->window_clamp >= maxwin) {
        c->window_clamp = maxwin;
        if (maxwin > 4 * advmss)
            c->window_clamp = u32_max(maxwin, 4 * advmss);
    }
    /* One segment is kept in reserve. */
    if (c->window_clamp > 2 * advmss && c->window_clamp + advmss > maxwin)
        c->window_clamp = u32_max(2 * advmss, maxwin - u32_min(maxwin, advmss));
    c->rcv_ssthresh = u32_min(c->rcv_ssthresh, c->window_clamp);
    c->rcvq.space = u32_min(u32_min(c->rcv_ssthresh, c->rcv_wnd), 10 * advmss);
    if (c->ackowed.lrcvtime == 0)
        c->ackowed.lrcvtime = now;
    initialize_rcv_mss(c);
}

/* ---- the window now ---- */

uint32_t tcp_receive_window(const struct tcp_conn *c)
{
    int32_t win = (int32_t)(c->rcv_wup + c->rcv_wnd - c->rcv_nxt);

    return win > 0 ? (uint32_t)win : 0;
}

static uint32_t round_up(uint32_t window, uint8_t wscale)
{
    return (window + (1u << wscale) - 1) & ~((1u << wscale) - 1);
}

/* Unscaled: whole segments, and no new value for less than one (RFC 9293 section 3.8.6.2.2). */
static uint32_t window_in_segments(const struct tcp_conn *c, uint32_t space, uint32_t full, uint32_t mss)
{
    uint32_t window = c->rcv_wnd;

    if (window + mss <= space || window > space)
        return space - space % mss;
    if (mss == full && space > window + (full >> 1))
        return space;
    return window;
}

/* __tcp_select_window. May be less than what was announced; tcp_select_window() sees to that. */
uint32_t tcp_wanted_window(struct tcp *t, struct tcp_conn *c)
{
    uint32_t allowed = full_space(t, c), full = u32_min(c->window_clamp, allowed);
    uint32_t space = free_space(t, c), mss = u32_min(c->rcv_mss ? c->rcv_mss : TCP_MSS_DEFAULT, full);

    if (mss == 0)
        return 0;
    if (space < full / 2) {
        c->ackowed.quick = 0;
        if (tcp_memory_pressure(t))
            c->rcv_ssthresh = u32_min(c->rcv_ssthresh, 4u * c->advmss);
        space &= ~((1u << c->rcv_wscale) - 1);
        if (space < allowed >> 4 || space < mss)
            return 0;
    }
    space = u32_min(space, c->rcv_ssthresh);
    if (c->rcv_wscale)
        return round_up(space, c->rcv_wscale);
    /* While segments are larger than rcv_ssthresh it is all that is ever offered: no multiple of them would fit, for good. */
    mss = u32_min(mss, c->rcv_ssthresh);
    return mss == 0 ? 0 : window_in_segments(c, space, full, mss);
}

uint32_t tcp_select_window(struct tcp *t, struct tcp_conn *c)
{
    uint32_t old = c->rcv_wnd, open = tcp_receive_window(c), window;

    if (c->ackowed.pending & TCP_ACK_NOMEM) {
        window = 0;
    } else {
        window = tcp_wanted_window(t, c);
        if (window < open) {
            /* RFC 7323 section 2.4: never shrink; rounding up to the scale keeps the edge where it was or
             * behind. */
            if (window == 0)
                t->counters.want_zero_window_adv++;
            window = round_up(open, c->rcv_wscale);
        }
        window = u32_min(window, WINDOW_UNSCALED_MAX << c->rcv_wscale);
    }
    c->rcv_wnd = window;
    c->rcv_wup = c->rcv_nxt;
    if (window == 0 && old)
        t->counters.zero_window_adv++;
    else if (window && old == 0)
        t->counters.from_zero_window_adv++;
    return window;
}

/* ---- growing it with what comes (tcp_grow_window) ---- */

/* Would segments with such overhead fill the buffer before the window? 0: yes, don't grow. */
static uint32_t grow_step(const struct tcp *t, const struct tcp_conn *c, uint32_t len, uint32_t truesize)
{
    uint32_t size = win_from_space(t, truesize) >> 1;
    uint32_t window = win_from_space(t, (uint32_t)t->config->tcp_rmem_max) >> 1;

    while (c->rcv_ssthresh <= window) {
        if (size <= len)
            return 2u * c->rcv_mss;
        size >>= 1;
        window >>= 1;
    }
    return 0;
}

void tcp_grow_window(struct tcp *t, struct tcp_conn *c, uint32_t len, uint32_t truesize)
{
    uint32_t limit = u32_min(c->window_clamp, free_space(t, c)), step;

    if (limit <= c->rcv_ssthresh)
        return;
    if (tcp_memory_pressure(t)) {
        c->rcv_ssthresh = u32_min(c->rcv_ssthresh, 4u * c->advmss);
        return;
    }
    step = win_from_space(t, truesize) <= len ? 2u * c->advmss : grow_step(t, c, len, truesize);
    if (!step)
        return;
    c->rcv_ssthresh += u32_min(limit - c->rcv_ssthresh, u32_max(step, 2 * len));
    c->ackowed.quick |= 1;
}

/* ---- the sender's segment size, seen from here (tcp_measure_rcv_mss) ---- */

static void measure_rcv_mss(struct tcp_conn *c, const struct tcp_seg *seg)
{
    struct tcp_ackowed *o = &c->ackowed;
    uint32_t last = o->last_seg_size, len = seg->gso_size ? seg->gso_size : seg->len;
    uint32_t with_header;

    o->last_seg_size = 0;
    if (len >= c->rcv_mss) {
        c->rcv_mss = (uint16_t)u32_min(len, c->advmss ? c->advmss : TCP_MSS_DEFAULT);
        if (seg->flags & TCP_PSH)
            o->pending |= TCP_ACK_PUSHED;
        return;
    }
    /* A smaller one: of a sender whose segments shrank (SACK blocks, path MTU), or the end of a write? */
    with_header = len + TCP_HEADER_BYTES + (uint32_t)tcp_options_bytes(&seg->opt, false);
    if (with_header >= TCP_MSS_DEFAULT + TCP_HEADER_BYTES ||
        (with_header >= TCP_MIN_MSS + TCP_HEADER_BYTES &&
         !(seg->flags & (TCP_FIN | TCP_URG | TCP_SYN | TCP_PSH)))) {
        len = with_header - TCP_HEADER_BYTES - tcp_mss_options(c);
        o->last_seg_size = len;
        if (len == last) {
            c->rcv_mss = (uint16_t)len;
            return;
        }
    }
    if (o->pending & TCP_ACK_PUSHED)
        o->pending |= TCP_ACK_PUSHED2;
    o->pending |= TCP_ACK_PUSHED;
}

/* ---- the receiver's round-trip time ---- */

/* By window: the smallest value seen; by timestamps: smoothed over eight samples (tcp_rcv_rtt_update). */
static void rcv_rtt_update(struct tcp_rcvq *q, uint32_t sample_us, bool by_window)
{
    if (q->rtt_us8 == 0)
        q->rtt_us8 = sample_us << 3;
    else if (!by_window)
        q->rtt_us8 += sample_us - (q->rtt_us8 >> 3);
    else
        q->rtt_us8 = u32_min(q->rtt_us8, sample_us << 3);
}

static uint32_t clamp_us(uint64_t ns)
{
    uint64_t us = ns / NSEC_PER_USEC;

    return us == 0 ? 1 : (uint32_t)time_min(us, UINT32_MAX >> 4);
}

/* A whole window came since the last time: that took a round trip at least. */
static void rcv_rtt_measure_window(struct tcp_conn *c, uint64_t now)
{
    struct tcp_rcvq *q = &c->rcvq;

    if (q->rtt_at) {
        if (seq_lt(c->rcv_nxt, q->rtt_seq))
            return;
        rcv_rtt_update(q, clamp_us(time_since(now, q->rtt_at)), true);
    }
    q->rtt_seq = c->rcv_nxt + c->rcv_wnd;
    q->rtt_at = now;
}

/* RFC 7323 section 4: a full segment echoes what our last ACK carried. */
void tcp_rcv_rtt_measure_ts(struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    uint32_t ms;

    if (!c->ts_ok || !seg->opt.timestamps_ok || seg->opt.tsecr == 0 ||
        seg->opt.tsecr == c->rcvq.rtt_last_tsecr)
        return;
    c->rcvq.rtt_last_tsecr = seg->opt.tsecr;
    if (seg->len < c->rcv_mss)
        return;
    ms = tcp_ts_clock(now, c->ts_offset) - seg->opt.tsecr;
    if (ms < INT32_MAX / 1000)
        rcv_rtt_update(&c->rcvq, clamp_us((ms ? ms : 1) * NSEC_PER_MSEC), false);
}

/* The part of tcp_event_data_recv that is about sizes and times. */
void tcp_rcvwnd_data(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    (void)t;
    measure_rcv_mss(c, seg);
    rcv_rtt_measure_window(c, now);
}

/* ---- autotuning (tcp_rcv_space_adjust) ---- */

/* What was read in this round trip, twice, and twice again for a sender that speeds up. */
static void grow_rcvbuf(struct tcp *t, struct tcp_conn *c, uint32_t copied)
{
    uint64_t win = ((uint64_t)copied << 1) + 16ull * c->advmss;
    uint64_t grow = c->rcvq.space ? win * (copied - c->rcvq.space) / c->rcvq.space : 0;
    uint64_t rcvbuf = time_min(space_from_win(t, win + (grow << 1)), (uint64_t)t->config->tcp_rmem_max);

    if (rcvbuf <= c->rcvq.rcvbuf)
        return;
    c->rcvq.rcvbuf = (uint32_t)rcvbuf;
    c->window_clamp = win_from_space(t, c->rcvq.rcvbuf);
}

static void rcv_space_adjust(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_rcvq *q = &c->rcvq;
    uint32_t copied = c->copied_seq - q->space_seq;

    if (q->rtt_us8 == 0 || time_since(now, q->space_at) / NSEC_PER_USEC < q->rtt_us8 >> 3)
        return;
    if (copied > q->space) {
        if (t->config->tcp_moderate_rcvbuf && !c->rcvbuf_locked)
            grow_rcvbuf(t, c, copied);
        q->space = copied;
    }
    q->space_seq = c->copied_seq;
    q->space_at = now;
}

/* ---- the program has read (tcp_cleanup_rbuf) ---- */

static bool read_deserves_ack(const struct tcp_conn *c, size_t bytes)
{
    unsigned pending = c->ackowed.pending;

    if (!(pending & TCP_ACK_SCHED))
        return false;
    if (c->rcv_nxt - c->rcv_wup > c->rcv_mss)
        return true;
    /* A small segment was in it, everything is read, the program doesn't answer: the sender waits for us. */
    return bytes > 0 && c->rcvq.truesize == 0 &&
           ((pending & TCP_ACK_PUSHED2) ||
            ((pending & TCP_ACK_PUSHED) && !tcp_ackowed_in_pingpong(&c->ackowed)));
}

void tcp_rcv_read(struct tcp *t, struct tcp_conn *c, size_t bytes, uint64_t now)
{
    uint32_t open, wanted;

    if (c->state == TCP_STATE_CLOSE || c->state == TCP_STATE_SYN_SENT)
        return;
    rcv_space_adjust(t, c, now);
    if (read_deserves_ack(c, bytes)) {
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_QUICK);
        return;
    }
    if (!bytes || (c->shutdown & TCP_SHUT_RD) || c->fin_received)
        return;
    open = tcp_receive_window(c);
    if ((uint64_t)open * 2 > c->window_clamp)
        return;
    wanted = tcp_wanted_window(t, c);
    if (wanted && wanted >= 2 * open)
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_WINDOW);
}
