/*
 * tcp/timewait.c: TIME-WAIT entries (RFC 9293 section 3.10.7.4, RFC 1337, RFC 6191).
 *
 * What is left of a connection that closed first: enough to acknowledge the peer's FIN again and to tell old segments
 * from a new connection's SYN: 56 bytes of one slab (IPv6: 84; small.h) and a slot in the table. They lie in one list
 * by the time they end (all live equally long, so that is the order of entry; a restart of 2 MSL moves one to the end),
 * and are found through the connection table.
 *
 *     count = entries in the list = slab places in use <= max_time_wait
 *
 * They are what can be spared: where the table has no slot left for a connection or a half-open entry, the oldest one
 * goes (tcp_tw_evict()). A new one is not made then, as in Linux where tcp_max_tw_buckets is reached.
 *
 * Decides as Linux's tcp_timewait_state_process; answers by reply intents only.
 */
#include "tcp/tcp_priv.h"

#define SEQ_GAP (65535u + 2) /* what a new connection's ISS lies behind the old one's last number */

#define LONGEST_MS (3600u * 1000) /* the most that tcp_timewait_len may be */

enum { BY_DUE = SMALL_FIRST_LIST };

struct tcp_tw {
    struct small_entry e;
    uint32_t rcv_nxt, snd_nxt;
    uint32_t ts_recent;
    uint32_t mark;        /* tcp_tw_mark(), 0: none */
    uint16_t ts_recent_s; /* when it was set, in s */
    uint16_t invalid_at;  /* last limited ACK, in 16 ms, 0: none */
    uint16_t wnd;         /* as announced last, scaled */
    uint16_t rcv_wscale : 4;
    uint16_t ts_ok : 1;
    uint16_t md5_key : 11; /* the entry holds it */
};

static_assert(sizeof(struct tcp_tw) == TCP_TW_BYTES, "a TIME-WAIT entry is small; table.c finds the tuple behind it");
static_assert(TCP_MD5_KEYS_MAX < 1 << 11, "md5_key holds every place of the key table");

struct tcp_timewaits {
    struct small_slab slab;
    uint32_t *marked; /* entries by mark */
    uint32_t n_marks;
    /* The entry that a SYN took over in this tcp_input(): where the new connection's numbers begin. */
    struct ip_tuple reused;
    uint32_t reused_iss;
    bool has_reused;
};

int tcp_tw_init(struct tcp *t)
{
    struct tcp_timewaits *s = calloc(1, sizeof *s);
    struct tcp_kept *kept = t->params.kept;

    if (!s)
        return -ENOMEM;
    t->timewaits = s;
    return small_init(&s->slab, t->params.max_time_wait, sizeof(struct tcp_tw), t->params.time_wait_arena,
                      kept ? &kept->time_wait_touched : NULL, kept ? &kept->time_wait6_touched : NULL);
}

size_t tcp_time_wait_bytes(void)
{
    return 2 * sizeof(struct tcp_tw) + SMALL_TUPLE4_BYTES + SMALL_TUPLE6_BYTES;
}

void tcp_time_wait_used(const struct tcp_kept *kept, uint32_t max, size_t ret_offset[2], size_t ret_bytes[2])
{
    uint32_t touched[2] = {kept->time_wait_touched, kept->time_wait6_touched};

    small_used(max, sizeof(struct tcp_tw), touched, ret_offset, ret_bytes);
}

void tcp_tw_destroy(struct tcp *t)
{
    if (!t->timewaits)
        return;
    small_destroy(&t->timewaits->slab);
    free(t->timewaits->marked);
    free(t->timewaits);
    t->timewaits = NULL;
}

uint16_t tcp_tw_md5(const struct tcp_tw *w)
{
    return w->md5_key;
}

uint32_t tcp_tw_count(const struct tcp *t)
{
    return t->timewaits->slab.count;
}

static struct ip_tuple tuple_of(const struct tcp *t, const struct tcp_tw *w)
{
    return small_tuple_get((const union small_tuple *)(w + 1), small_is_v6(&t->timewaits->slab, &w->e));
}

static struct tcp_tw *tw_alloc(struct tcp *t, const struct ip_tuple *tuple)
{
    struct small_slab *s = &t->timewaits->slab;

    if (s->count >= (uint32_t)t->config->tcp_max_tw_buckets)
        return NULL;
    return (struct tcp_tw *)small_alloc(s, small_family(tuple));
}

static void unmark(struct tcp *t, struct tcp_tw *w)
{
    if (w->mark)
        t->timewaits->marked[w->mark]--;
    w->mark = 0;
}

static void tw_free(struct tcp *t, struct tcp_tw *w)
{
    struct small_slab *s = &t->timewaits->slab;

    small_set_due(&w->e, SMALL_NOT_DUE);
    if (small_id(&w->e))
        tcp_table_leave(t, small_id(&w->e));
    tcp_md5_unref(t, w->md5_key);
    unmark(t, w);
    small_release(s, &w->e);
    small_give(s, &w->e);
}

/* Starts 2 MSL: the last step of making an entry, too. Only a changed configuration makes this walk. */
static void tw_schedule(struct tcp *t, struct tcp_tw *w, uint64_t now)
{
    struct small_slab *s = &t->timewaits->slab;

    s->near = now;
    small_del(s, &w->e);
    small_set_due(&w->e, small_due(now + (uint32_t)t->config->tcp_timewait_len * NSEC_PER_SEC));
    small_add_by_due(s, BY_DUE, &w->e);
}

bool tcp_tw_evict(struct tcp *t)
{
    struct small_entry *e = small_first(&t->timewaits->slab, BY_DUE);

    if (!e)
        return false;
    t->counters.tw_evicted++;
    tw_free(t, (struct tcp_tw *)e);
    return true;
}

/* ---- marks ---- */

int tcp_tw_mark(struct tcp *t, const struct ip_tuple *tuple, uint32_t mark)
{
    struct tcp_timewaits *s = t->timewaits;
    enum tcp_kind kind = TCP_KIND_FREE;
    struct tcp_tw *w = tcp_lookup_tuple(t, tuple, &kind);

    if (!w || kind != TCP_KIND_TW)
        return -ENOENT;
    if (mark >= s->n_marks) {
        uint32_t n = mark + 1 > 2 * s->n_marks ? mark + 1 : 2 * s->n_marks;
        uint32_t *more = realloc(s->marked, n * sizeof *more);

        if (!more)
            return -ENOMEM;
        memset(more + s->n_marks, 0, (n - s->n_marks) * sizeof *more);
        s->marked = more;
        s->n_marks = n;
    }
    unmark(t, w);
    w->mark = mark;
    s->marked[mark]++;
    return 0;
}

uint32_t tcp_tw_marked(const struct tcp *t, uint32_t mark)
{
    return mark < t->timewaits->n_marks ? t->timewaits->marked[mark] : 0;
}

static uint16_t seconds(uint64_t now)
{
    return (uint16_t)(now / NSEC_PER_SEC);
}

/* ---- entering ---- */

static void tw_fill(struct tcp_tw *w, const struct tcp_conn *c, uint64_t now)
{
    small_tuple_put((union small_tuple *)(w + 1), &c->tuple);
    w->rcv_nxt = c->rcv_nxt;
    w->snd_nxt = c->snd_nxt;
    w->ts_recent = c->ts_recent;
    w->ts_recent_s = seconds(c->ts_recent_at ? c->ts_recent_at : now);
    w->wnd = (uint16_t)(tcp_receive_window(c) >> c->rcv_wscale);
    w->rcv_wscale = c->rcv_wscale & 15u;
    w->ts_ok = c->ts_ok;
}

/* Its place in the table: an orphan's id goes over, an owner keeps its own. */
static bool tw_enter(struct tcp *t, struct tcp_tw *w, struct tcp_conn *c)
{
    if (c->owned) {
        tcp_table_unhash(t, c->id);
        small_set_id(&w->e, tcp_table_enter(t, TCP_KIND_TW, w, &c->tuple));
        return small_id(&w->e) != 0;
    }
    small_set_id(&w->e, c->id);
    tcp_record_clear(t, c);
    tcp_table_rebind(t, c->id, TCP_KIND_TW, w);
    c->id = 0;
    return true;
}

void tcp_time_wait(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_tw *w = tw_alloc(t, &c->tuple);

    tcp_metrics_write(t, c, now);
    if (w) {
        tw_fill(w, c, now);
        w->md5_key = tcp_md5_ref(t, c->md5_key[0]) & 0x7ffu;
        if (tw_enter(t, w, c)) {
            tw_schedule(t, w, now);
            t->counters.tw++;
        } else {
            tw_free(t, w);
            w = NULL;
        }
    }
    if (!w)
        t->counters.tw_overflow++;
    tcp_done(t, c, 0, true, now);
}

/* ---- a segment ---- */

/* RFC 7323 section 5.3; an entry never gets old enough for the 24 days of section 5.5. */
static bool paws_reject(const struct tcp_tw *w, const struct tcp_seg *seg)
{
    return w->ts_ok && seg->opt.timestamps_ok && !(seg->flags & TCP_RST) &&
           (int32_t)(w->ts_recent - seg->opt.tsval) > 0;
}

static void tw_ack(struct tcp *t, struct tcp_tw *w, const struct tcp_seg *seg, uint64_t now)
{
    struct tcp_reply_ack a = {.tuple = tuple_of(t, w),
                              .seq = w->snd_nxt,
                              .ack = w->rcv_nxt,
                              .wnd = w->wnd,
                              .cause = TCP_CAUSE_ACK_TIME_WAIT};
    uint16_t at = (uint16_t)(now / (16 * NSEC_PER_MSEC)), since = (uint16_t)(at - w->invalid_at);
    bool data = tcp_seg_seq_len(seg) && !(seg->flags & TCP_SYN);

    /* Data is no part of an ACK loop: only the rest is limited. */
    if (!data) {
        if (w->invalid_at && since * 16 < t->config->tcp_invalid_ratelimit) {
            t->counters.skipped_time_wait++;
            tcp_drop(t, NULL, TCP_DROP_CHALLENGE_LIMIT);
            return;
        }
        w->invalid_at = at ? at : 1;
    }
    a.ts_ok = w->ts_ok;
    if (w->ts_ok) {
        a.tsval = tcp_ts_clock(now, tcp_ts_offset(t, &a.tuple));
        a.tsecr = w->ts_recent;
    }
    tcp_reply_ack(t, &a);
}

/* A RST or a bare ACK exactly at rcv_nxt. */
static void exact(struct tcp *t, struct tcp_tw *w, const struct tcp_seg *seg, uint64_t now)
{
    if ((seg->flags & TCP_RST) && !t->config->tcp_rfc1337) {
        tw_free(t, w);
        return;
    }
    tcp_drop(t, NULL, seg->flags & TCP_RST ? TCP_DROP_TIME_WAIT_RST : TCP_DROP_TIME_WAIT);
    if (!(seg->flags & TCP_RST))
        tw_schedule(t, w, now);
    if (w->ts_ok && seg->opt.timestamps_ok) {
        w->ts_recent = seg->opt.tsval;
        w->ts_recent_s = seconds(now);
    }
}

/* RFC 6191 section 2, RFC 1122 section 4.2.2.13: is this SYN of a newer connection? */
static bool newer_syn(const struct tcp_tw *w, const struct tcp_seg *seg)
{
    if ((seg->flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_SYN)
        return false;
    return seq_gt(seg->seq, w->rcv_nxt) ||
           (w->ts_ok && seg->opt.timestamps_ok && (int32_t)(w->ts_recent - seg->opt.tsval) < 0);
}

static uint32_t next_iss(const struct tcp_tw *w)
{
    uint32_t iss = w->snd_nxt + SEQ_GAP;

    return iss ? iss : 1;
}

static void take_over(struct tcp *t, struct tcp_tw *w)
{
    t->timewaits->reused = tuple_of(t, w);
    t->timewaits->reused_iss = next_iss(w);
    t->timewaits->has_reused = true;
    t->counters.tw_recycled++;
    tw_free(t, w);
}

bool tcp_tw_input(struct tcp *t, struct tcp_tw *w, const struct tcp_seg *seg, uint64_t now)
{
    bool paws = paws_reject(w, seg);

    t->timewaits->has_reused = false;
    if (!paws && seg->seq == w->rcv_nxt && (tcp_seg_seq_len(seg) == 0 || (seg->flags & TCP_RST))) {
        exact(t, w, seg, now);
        return false;
    }
    if (!paws && newer_syn(w, seg) && tcp_lookup_listener(t, &seg->dst, seg->dst_port)) {
        take_over(t, w);
        return true;
    }
    tcp_drop(t, NULL, paws ? TCP_DROP_PAWS : TCP_DROP_TIME_WAIT);
    if (paws)
        t->counters.paws_estab++;
    if (seg->flags & TCP_RST)
        return false;
    /* An old duplicate, or the peer's FIN again: 2 MSL begin anew. A bare SYN may be a new connection's: they
     * don't. */
    if (paws || (seg->flags & TCP_ACK))
        tw_schedule(t, w, now);
    tw_ack(t, w, seg, now);
    return false;
}

bool tcp_tw_take_iss(struct tcp *t, const struct ip_tuple *tuple, uint32_t *ret_iss)
{
    struct tcp_timewaits *s = t->timewaits;
    bool yes = s->has_reused && memcmp(&s->reused, tuple, sizeof *tuple) == 0;

    s->has_reused = false;
    if (yes)
        *ret_iss = s->reused_iss;
    return yes;
}

/* ---- active opens (RFC 6191) ---- */

bool tcp_tw_may_reuse(const struct tcp *t, const struct tcp_tw *w, uint64_t now)
{
    return t->config->tcp_tw_reuse && w->ts_ok && t->config->tcp_timestamps &&
           (uint16_t)(seconds(now) - w->ts_recent_s) > 1;
}

bool tcp_tw_reuse(struct tcp *t, struct tcp_tw *w, uint64_t now, uint32_t *ret_iss, uint32_t *ret_ts_recent)
{
    if (!tcp_tw_may_reuse(t, w, now))
        return false;
    *ret_iss = next_iss(w);
    *ret_ts_recent = w->ts_recent;
    t->counters.tw_recycled++;
    tw_free(t, w);
    return true;
}

/* ---- time ---- */

void tcp_tw_expire(struct tcp *t, uint64_t now)
{
    struct small_slab *s = &t->timewaits->slab;
    struct small_entry *e;

    s->near = now;
    while ((e = small_first(s, BY_DUE)) && small_left(e->due, now) <= 0)
        tw_free(t, (struct tcp_tw *)e);
}

uint64_t tcp_tw_deadline(const struct tcp *t)
{
    const struct small_entry *e = small_first(&t->timewaits->slab, BY_DUE);

    return e ? small_due_at(&t->timewaits->slab, e) : TIME_NEVER;
}

void tcp_tw_info(const struct tcp *t, const struct tcp_tw *w, uint64_t now, struct tcp_info *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->state = TCP_STATE_TIME_WAIT;
    ret->options =
        (uint8_t)((w->ts_ok ? TCP_INFO_OPT_TIMESTAMPS : 0) | (w->rcv_wscale ? TCP_INFO_OPT_WSCALE : 0));
    ret->rcv_wscale = w->rcv_wscale;
    ret->tuple = tuple_of(t, w);
    ret->limit = TCP_LIMIT_CLOSED;
    ret->orphan = true;
    ret->snd_una = ret->snd_nxt = ret->write_seq = w->snd_nxt;
    ret->rcv_nxt = ret->copied_seq = w->rcv_nxt;
    ret->rcv_wnd = (uint32_t)w->wnd << w->rcv_wscale;
    ret->pacing_rate = ret->max_pacing_rate = UINT64_MAX;
    ret->timer_left = ret->timer_expires = time_since(small_due_at(&t->timewaits->slab, &w->e), now) / NSEC_PER_USEC;
    ret->timer = TCP_INFO_TIMER_TIMEWAIT;
}

const char *tcp_tw_check(const struct tcp *t)
{
    return small_check(&t->timewaits->slab, BY_DUE, 1);
}

/* ---- after a crash ---- */

static bool revive(struct tcp *t, struct tcp_tw *w)
{
    struct ip_tuple tuple = tuple_of(t, w);
    tcp_id id = small_id(&w->e);

    if (!id || w->e.due == SMALL_DUE_NOW || (w->md5_key && !tcp_md5_known(t, w->md5_key)) || !tcp_table_place(t, id, TCP_KIND_TW, w, &tuple, true))
        return false;
    (void)tcp_md5_ref(t, w->md5_key);
    w->mark = 0;
    small_add_tail(&t->timewaits->slab, BY_DUE, &w->e);
    return true;
}

uint32_t tcp_tw_restore(struct tcp *t)
{
    struct small_slab *s = &t->timewaits->slab;
    uint32_t n;
    struct small_entry **found = small_restore(s, t->params.now, LONGEST_MS, &n);

    for (uint32_t i = 0; i < n; i++) {
        if (revive(t, (struct tcp_tw *)found[i]))
            s->count++;
        else
            small_give(s, found[i]);
    }
    free(found);
    return s->count;
}
