/*
 * tcp/timewait.c: TIME-WAIT entries (RFC 9293 section 3.10.7.4, RFC 1337, RFC 6191).
 *
 * What is left of a connection that closed first: enough to acknowledge the peer's FIN again and to tell old
 * segments from a new connection's SYN. Entries come from one slab, lie in one list by the time they end (all
 * live equally long, so that is the order of entry; a restart moves one to the end), and are found through
 * the connection table.
 *
 *     count = entries in the list = slab places in use <= max_time_wait
 *
 * Decides as Linux's tcp_timewait_state_process; answers by reply intents only.
 */
#include "tcp/tcp_priv.h"

#define SEQ_GAP (65535u + 2) /* what a new connection's ISS lies behind the old one's last number */

struct tcp_tw {
    struct ip_tuple tuple;
    uint32_t rcv_nxt;
    struct list_node link; /* by due_at, or the free list */
    tcp_id id;
    uint64_t due_at; /* stored last, cleared first: a crash keeps an entry that has one */
    uint32_t snd_nxt;
    uint32_t ts_recent;
    uint16_t ts_recent_s; /* when it was set, in s */
    uint16_t invalid_at;  /* last limited ACK, in 16 ms, 0: none */
    uint16_t wnd;         /* as announced last, scaled */
    uint16_t rcv_wscale : 4;
    uint16_t ts_ok : 1;
    uint16_t md5_key : 11; /* the entry holds it */
};

static_assert(sizeof(struct tcp_tw) <= 96, "a TIME-WAIT entry is small");
TCP_ENTRY(struct tcp_tw);
static_assert(TCP_MD5_KEYS_MAX < 1 << 11, "md5_key holds every place of the key table");

struct tcp_timewaits {
    struct tcp_tw *slab;
    uint32_t size, touched, count;
    bool own; /* else it lies in an arena */
    struct list_node free;
    struct list_node by_due;
    /* The entry that a SYN took over in this tcp_input(): where the new connection's numbers begin. */
    struct ip_tuple reused;
    uint32_t reused_iss;
    bool has_reused;
};

int tcp_tw_init(struct tcp *t)
{
    struct tcp_timewaits *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    t->timewaits = s;
    s->size = t->params.max_time_wait;
    list_init(&s->free);
    list_init(&s->by_due);
    s->own = !t->params.time_wait_arena;
    s->slab = s->own ? calloc(s->size ? s->size : 1, sizeof *s->slab) : t->params.time_wait_arena;
    return s->slab ? 0 : -ENOMEM;
}

size_t tcp_time_wait_bytes(void)
{
    return sizeof(struct tcp_tw);
}

void tcp_tw_destroy(struct tcp *t)
{
    if (!t->timewaits)
        return;
    if (t->timewaits->own)
        free(t->timewaits->slab);
    free(t->timewaits);
    t->timewaits = NULL;
}

uint16_t tcp_tw_md5(const struct tcp_tw *w)
{
    return w->md5_key;
}

uint32_t tcp_tw_count(const struct tcp *t)
{
    return t->timewaits->count;
}

static struct tcp_tw *tw_alloc(struct tcp *t)
{
    struct tcp_timewaits *s = t->timewaits;
    struct list_node *node;

    if (s->count >= (uint32_t)t->config->tcp_max_tw_buckets)
        return NULL;
    node = list_pop(&s->free);
    if (!node && s->touched == s->size)
        return NULL;
    s->count++;
    if (node)
        return list_entry(node, struct tcp_tw, link);
    if (!s->own)
        t->params.kept->time_wait_touched = s->touched + 1;
    return &s->slab[s->touched++];
}

static void set_due(struct tcp_tw *w, uint64_t at)
{
    __atomic_store_n(&w->due_at, at, __ATOMIC_RELEASE);
}

static void tw_free(struct tcp *t, struct tcp_tw *w)
{
    set_due(w, 0);
    if (w->id)
        tcp_table_leave(t, w->id);
    tcp_md5_unref(t, w->md5_key);
    list_del(&w->link);
    list_add_head(&t->timewaits->free, &w->link);
    t->timewaits->count--;
}

/* Starts 2 MSL. In order of due_at; only a changed configuration makes this walk. */
static void tw_schedule(struct tcp *t, struct tcp_tw *w, uint64_t now)
{
    struct list_node *prev;
    uint64_t due_at = now + (uint32_t)t->config->tcp_timewait_len * NSEC_PER_SEC;
    list_del(&w->link);
    prev = t->timewaits->by_due.prev;
    while (prev != &t->timewaits->by_due && list_entry(prev, struct tcp_tw, link)->due_at > due_at)
        prev = prev->prev;
    list_insert(&w->link, prev, prev->next);
    set_due(w, due_at);
}

static uint16_t seconds(uint64_t now)
{
    return (uint16_t)(now / NSEC_PER_SEC);
}

/* ---- entering ---- */

static void tw_fill(struct tcp_tw *w, const struct tcp_conn *c, uint64_t now)
{
    *w = (struct tcp_tw){
        .tuple = c->tuple,
        .rcv_nxt = c->rcv_nxt,
        .snd_nxt = c->snd_nxt,
        .ts_recent = c->ts_recent,
        .ts_recent_s = seconds(c->ts_recent_at ? c->ts_recent_at : now),
        .wnd = (uint16_t)(tcp_receive_window(c) >> c->rcv_wscale),
        .rcv_wscale = c->rcv_wscale & 15u,
        .ts_ok = c->ts_ok,
    };
    list_init(&w->link);
}

/* Its place in the table: an orphan's id goes over, an owner keeps its own. */
static bool tw_enter(struct tcp *t, struct tcp_tw *w, struct tcp_conn *c)
{
    if (c->owned) {
        tcp_table_unhash(t, c->id);
        w->id = tcp_table_enter(t, TCP_KIND_TW, w, &w->tuple);
        return w->id != 0;
    }
    w->id = c->id;
    tcp_record_clear(t, c);
    tcp_table_rebind(t, c->id, TCP_KIND_TW, w);
    c->id = 0;
    return true;
}

void tcp_time_wait(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_tw *w = tw_alloc(t);

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
    struct tcp_reply_ack a = {.tuple = w->tuple,
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
        a.tsval = tcp_ts_clock(now, tcp_ts_offset(t, &w->tuple));
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
    t->timewaits->reused = w->tuple;
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
    struct list_node *node;

    while ((node = list_first(&t->timewaits->by_due)) && list_entry(node, struct tcp_tw, link)->due_at <= now)
        tw_free(t, list_entry(node, struct tcp_tw, link));
}

uint64_t tcp_tw_deadline(const struct tcp *t)
{
    struct list_node *node = list_first(&t->timewaits->by_due);

    return node ? list_entry(node, struct tcp_tw, link)->due_at : TIME_NEVER;
}

void tcp_tw_info(const struct tcp *t, const struct tcp_tw *w, uint64_t now, struct tcp_info *ret)
{
    (void)t;
    memset(ret, 0, sizeof *ret);
    ret->state = TCP_STATE_TIME_WAIT;
    ret->options =
        (uint8_t)((w->ts_ok ? TCP_INFO_OPT_TIMESTAMPS : 0) | (w->rcv_wscale ? TCP_INFO_OPT_WSCALE : 0));
    ret->rcv_wscale = w->rcv_wscale;
    ret->tuple = w->tuple;
    ret->limit = TCP_LIMIT_CLOSED;
    ret->orphan = true;
    ret->snd_una = ret->snd_nxt = ret->write_seq = w->snd_nxt;
    ret->rcv_nxt = ret->copied_seq = w->rcv_nxt;
    ret->rcv_wnd = (uint32_t)w->wnd << w->rcv_wscale;
    ret->pacing_rate = ret->max_pacing_rate = UINT64_MAX;
    ret->timer_left = ret->timer_expires = time_since(w->due_at, now) / NSEC_PER_USEC;
    ret->timer = TCP_INFO_TIMER_TIMEWAIT;
}

/* ---- after a crash ---- */

static int by_due(const void *a, const void *b)
{
    const struct tcp_tw *const *x = a, *const *y = b;

    return (*x)->due_at < (*y)->due_at ? -1 : (*x)->due_at > (*y)->due_at;
}

uint32_t tcp_tw_restore(struct tcp *t)
{
    struct tcp_timewaits *s = t->timewaits;
    uint32_t touched = t->params.kept->time_wait_touched;
    struct tcp_tw **order;

    s->touched = touched < s->size ? touched : s->size;
    order = calloc(s->touched ? s->touched : 1, sizeof *order);
    for (uint32_t i = s->touched; i-- > 0;) {
        struct tcp_tw *w = &s->slab[i];

        list_init(&w->link);
        if (order && w->due_at && w->id && (!w->md5_key || tcp_md5_known(t, w->md5_key)) &&
            tcp_table_place(t, w->id, TCP_KIND_TW, w, &w->tuple, true)) {
            (void)tcp_md5_ref(t, w->md5_key);
            order[s->count++] = w;
            continue;
        }
        set_due(w, 0);
        list_add_head(&s->free, &w->link);
    }
    if (order)
        qsort(order, s->count, sizeof *order, by_due);
    for (uint32_t i = 0; i < s->count; i++)
        list_add_tail(&s->by_due, &order[i]->link);
    free(order);
    return s->count;
}
