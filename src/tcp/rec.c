/*
 * tcp/rec.c: the flight recorder: rings of events out of one pool. tcp_events.h is the format, recread.c what readers
 * call, rec.h the hooks.
 *
 * The pool is one block: a table of rings, then pages of 4 KiB. A ring is a list of pages, an event lies in one page
 * whole. A ring that has trace_ring bytes overwrites its own oldest page; where the pool has no page left, the ring
 * that was silent longest loses all of its (it begins anew, as RESUMED, when it has something to tell). So an idle
 * connection costs nothing that another one needs. Everything in the pool is named by index, nothing by pointer.
 *
 *     pages = free + sum of the rings' n_pages;   events in a page are numbered first .. first + count - 1
 *     a connection's ring is its own as long as the ring's generation is rec.ring_gen
 *
 * It may not change the engine: a run with the recorder sends the same segments as one without. Not thread-safe.
 */
#include "tcp/rec_priv.h"
#include "tcp/recovery.h"

#define STEAL_TRIES    64u
#define STALL_TIMEOUTS 4u /* in a row: nothing moves any more */

static_assert(sizeof(struct rec_page) == REC_PAGE_BYTES, "a page is 4 KiB");
static_assert((int)TCP_REC_TIMER_MAX == (int)TCP_TIMER_MAX && (int)TCP_REC_TIMER_PACING == (int)TCP_TIMER_PACING &&
                  (int)TCP_REC_TIMER_DELACK == (int)TCP_TIMER_DELACK,
              "timers are told by their number");
#define X(name, text) static_assert((int)TCP_REC_OPTION_##name == (int)TCP_OPT_##name, "options are told by their number");
TCP_REC_OPTS(X)
#undef X
static_assert((int)TCP_REC_OPTION_MAX == (int)TCP_OPT_MAX, "every option has a name");
static_assert((int)TCP_REC_CA_LOSS == (int)TCP_CA_LOSS, "ca_state is told by its number");

/* ---- the pool ---- */

int tcp_rec_init(struct tcp *t)
{
    size_t bytes = t->params.trace_bytes;
    uint64_t pages = bytes / (sizeof(struct rec_page) + sizeof(struct rec_ring));
    struct tcp_rec *r;

    if (pages < REC_PAGES_MIN)
        return 0;
    r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    t->rec = r;
    r->n_pages = pages < UINT32_MAX / 2 ? (uint32_t)pages : UINT32_MAX / 2;
    r->pool = calloc(r->n_pages, sizeof(struct rec_page) + sizeof(struct rec_ring));
    if (!r->pool)
        return -ENOMEM;
    r->pages = (struct rec_page *)r->pool;
    r->rings = (struct rec_ring *)(r->pages + r->n_pages);
    r->free_page = r->free_ring = r->lru_first = r->lru_last = REC_NIL;
    r->now = t->params.now;
    r->engine = REC_NIL;
    return 0;
}

void tcp_rec_destroy(struct tcp *t)
{
    if (!t->rec)
        return;
    free(t->rec->pool);
    free(t->rec);
    t->rec = NULL;
}

static void lru_remove(struct tcp_rec *r, uint32_t i)
{
    struct rec_ring *ring = &r->rings[i];

    if (ring->lru_prev != REC_NIL)
        r->rings[ring->lru_prev].lru_next = ring->lru_next;
    else
        r->lru_first = ring->lru_next;
    if (ring->lru_next != REC_NIL)
        r->rings[ring->lru_next].lru_prev = ring->lru_prev;
    else
        r->lru_last = ring->lru_prev;
}

static void lru_append(struct tcp_rec *r, uint32_t i)
{
    struct rec_ring *ring = &r->rings[i];

    ring->lru_next = REC_NIL;
    ring->lru_prev = r->lru_last;
    ring->lru_at = ring->last_at;
    if (r->lru_last != REC_NIL)
        r->rings[r->lru_last].lru_next = i;
    else
        r->lru_first = i;
    r->lru_last = i;
}

static void page_free(struct tcp_rec *r, uint32_t p)
{
    r->pages[p].next = r->free_page;
    r->free_page = p;
    r->used_pages--;
}

static void ring_free(struct tcp_rec *r, uint32_t i)
{
    struct rec_ring *ring = &r->rings[i];
    uint32_t p = ring->first_page;

    while (p != REC_NIL) {
        uint32_t next = r->pages[p].next;

        page_free(r, p);
        p = next;
    }
    if (ring->kind != REC_ENGINE)
        lru_remove(r, i);
    if (ring->kind == REC_DEAD)
        r->n_boxes--;
    ring->kind = REC_FREE;
    ring->gen++;
    ring->lru_next = r->free_ring;
    r->free_ring = i;
    r->n_rings--;
}

/* The ring that was silent longest goes; one that spoke since it was looked at last gets another round. */
static bool steal(struct tcp_rec *r, uint32_t mine)
{
    for (unsigned i = 0; i < STEAL_TRIES && r->lru_first != REC_NIL; i++) {
        uint32_t first = r->lru_first;

        if (first != mine && (r->rings[first].last_at == r->rings[first].lru_at || i + 1 == STEAL_TRIES)) {
            r->stolen_pages += r->rings[first].n_pages;
            r->stolen_rings++;
            ring_free(r, first);
            return true;
        }
        lru_remove(r, first);
        lru_append(r, first);
    }
    return false;
}

static uint32_t page_take(struct tcp_rec *r, uint32_t mine)
{
    uint32_t p;

    if (r->free_page == REC_NIL && r->touched_pages == r->n_pages && !steal(r, mine))
        return REC_NIL;
    p = r->free_page;
    if (p != REC_NIL)
        r->free_page = r->pages[p].next;
    else
        p = r->touched_pages++;
    r->used_pages++;
    return p;
}

static void page_append(struct tcp_rec *r, struct rec_ring *ring, uint32_t p)
{
    struct rec_page *page = &r->pages[p];

    page->next = REC_NIL;
    page->prev = ring->last_page;
    page->used = page->count = 0;
    page->first = ring->next_event;
    if (ring->last_page != REC_NIL)
        r->pages[ring->last_page].next = p;
    else
        ring->first_page = p;
    ring->last_page = p;
    ring->n_pages++;
}

/* The ring's oldest page, taken off it. */
static uint32_t page_drop(struct tcp_rec *r, struct rec_ring *ring)
{
    uint32_t p = ring->first_page;

    ring->first_page = r->pages[p].next;
    if (ring->first_page != REC_NIL)
        r->pages[ring->first_page].prev = REC_NIL;
    else
        ring->last_page = REC_NIL;
    ring->n_pages--;
    return p;
}

static uint32_t most_pages(const struct tcp *t, const struct rec_ring *ring)
{
    uint32_t most = (uint32_t)t->config->trace_ring / REC_PAGE_BYTES, share = t->rec->n_pages / 4;

    if (ring->kind == REC_ENGINE)
        most = most < REC_ENGINE_PAGES ? most : REC_ENGINE_PAGES;
    most = most < share ? most : share;
    return most > 2 ? most : 2;
}

/* One more page at the ring's end; false: there is none to be had. */
static bool ring_grow(struct tcp *t, uint32_t i)
{
    struct tcp_rec *r = t->rec;
    struct rec_ring *ring = &r->rings[i];
    uint32_t p = REC_NIL;

    if (ring->n_pages < most_pages(t, ring))
        p = page_take(r, i);
    if (p == REC_NIL && ring->n_pages > 0)
        p = page_drop(r, ring);
    if (p == REC_NIL)
        return false;
    page_append(r, ring, p);
    if (ring->kind != REC_ENGINE) {
        lru_remove(r, i);
        lru_append(r, i);
    }
    return true;
}

static uint32_t ring_new(struct tcp *t, enum rec_kind kind, uint64_t id)
{
    struct tcp_rec *r = t->rec;
    uint32_t i = r->free_ring, gen;

    if (i != REC_NIL)
        r->free_ring = r->rings[i].lru_next;
    else if (r->touched_rings < r->n_pages)
        i = r->touched_rings++;
    else if (steal(r, REC_NIL)) { /* as many rings as pages: what is silent longest gives its place too */
        i = r->free_ring;
        r->free_ring = r->rings[i].lru_next;
    }
    if (i == REC_NIL)
        return REC_NIL;
    gen = r->rings[i].gen + 1;
    r->rings[i] = (struct rec_ring){.kind = (uint8_t)kind, .gen = gen, .id = id, .first_page = REC_NIL,
                                    .last_page = REC_NIL, .begun_at = r->now, .last_at = r->now};
    r->n_rings++;
    if (kind != REC_ENGINE)
        lru_append(r, i);
    if (!ring_grow(t, i)) {
        ring_free(r, i);
        return REC_NIL;
    }
    return i;
}

/*
 * Room for an event of so many bytes, its header written; NULL: none. Inline, as put() is: a header that is put together
 * in memory byte by byte and then copied as a whole waits for its own stores.
 */
static inline __attribute__((always_inline)) void *ring_put(struct tcp *t, uint32_t i, size_t bytes, const struct tcp_rec_hdr *h)
{
    struct tcp_rec *r = t->rec;
    struct rec_ring *ring = &r->rings[i];
    struct rec_page *page = &r->pages[ring->last_page];
    uint8_t *at;

    bytes = (bytes + 7) & ~(size_t)7;
    if (page->used + bytes > sizeof page->data) {
        if (!ring_grow(t, i))
            return NULL;
        page = &r->pages[ring->last_page];
    }
    at = page->data + page->used;
    memcpy(at, h, sizeof *h);
    ((struct tcp_rec_hdr *)(void *)at)->words = (uint8_t)(bytes / 8);
    ring->last_used = page->used;
    page->used += (uint32_t)bytes;
    page->count++;
    ring->next_event++;
    ring->last_at = h->at;
    r->events++;
    return at;
}

/* ---- whose ring ---- */

static void tuple_out(const struct ip_tuple *tuple, struct tcp_rec_tuple *ret)
{
    *ret = (struct tcp_rec_tuple){
        .local_port = tuple->local_port, .remote_port = tuple->remote_port, .family = tuple->local.family};
    memcpy(ret->local, tuple->local.b, 16);
    memcpy(ret->remote, tuple->remote.b, 16);
}

/* An event of the engine's ring as one of a connection: without its tuple. */
static void copy_event(struct tcp *t, uint32_t i, const uint8_t *from)
{
    struct tcp_rec_hdr h;
    size_t bytes;
    uint8_t *to;

    memcpy(&h, from, sizeof h);
    bytes = (size_t)h.words * 8;
    if (h.flags & TCP_REC_F_TUPLE) {
        h.flags &= (uint8_t)~TCP_REC_F_TUPLE;
        bytes -= sizeof(struct tcp_rec_tuple);
    }
    to = ring_put(t, i, bytes, &h);
    if (to)
        memcpy(to + sizeof h, from + sizeof h, bytes - sizeof h);
}

/* Does this event of the engine's ring belong to `want`? What has no tuple belongs to the one before it. */
static bool is_of(const uint8_t *at, const struct tcp_rec_tuple *want, bool before)
{
    struct tcp_rec_hdr h;

    memcpy(&h, at, sizeof h);
    if (!(h.flags & TCP_REC_F_TUPLE))
        return before && h.type == TCP_REC_T_DROP;
    return memcmp(at + h.words * 8u - sizeof *want, want, sizeof *want) == 0;
}

/* Walks one page: copies what is of `want` (i != REC_NIL), or only tells whether its first SYN is there. */
static bool adopt_page(struct tcp *t, uint32_t i, const struct rec_page *page, const struct tcp_rec_tuple *want)
{
    bool mine = false, syn = false;

    for (uint32_t pos = 0; pos < page->used;) {
        const uint8_t *at = page->data + pos;
        struct tcp_ev_seg seg = {0};

        memcpy(&seg.h, at, sizeof seg.h);
        if (seg.h.type == TCP_REC_T_SEG_IN)
            memcpy(&seg, at, offsetof(struct tcp_ev_seg, ecn));
        pos += seg.h.words * 8u;
        mine = is_of(at, want, mine);
        if (!mine)
            continue;
        if (seg.h.type == TCP_REC_T_SEG_IN && (seg.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
            syn = true;
        else if (seg.h.type == TCP_REC_T_DROP && seg.h.code == TCP_DROP_REQ_DUP_SYN)
            syn = false;
        if (i != REC_NIL)
            copy_event(t, i, at);
    }
    return syn;
}

/* What the engine's ring has of the handshake that made this connection: from its SYN on. */
static void adopt(struct tcp *t, struct tcp_conn *c, uint32_t i)
{
    struct tcp_rec *r = t->rec;
    struct tcp_rec_tuple want;
    uint32_t p;

    if (r->engine == REC_NIL)
        return;
    tuple_out(&c->tuple, &want);
    p = r->rings[r->engine].last_page;
    while (r->pages[p].prev != REC_NIL && !adopt_page(t, REC_NIL, &r->pages[p], &want))
        p = r->pages[p].prev;
    for (; p != REC_NIL; p = r->pages[p].next)
        (void)adopt_page(t, i, &r->pages[p], &want);
}

/* Options that it has from its listener, as if they had been set on it. */
static void adopt_options(struct tcp *t, struct tcp_conn *c)
{
    struct tcp_listener *l = tcp_listener_by_number(t, c->listener);
    const struct {
        enum tcp_opt opt;
        int64_t value;
    } list[] = {
        {TCP_OPT_MAXSEG, l ? l->user_mss : 0},
        {TCP_OPT_RCVBUF, l ? l->rcvbuf / 2 : 0},
        {TCP_OPT_FASTOPEN, l ? l->fastopen_max_qlen : 0},
        {TCP_OPT_FASTOPEN_NO_COOKIE, l ? l->fastopen_no_cookie : 0},
        {TCP_OPT_DEFER_ACCEPT, l && l->defer_accept ? (1 << (l->defer_accept < 16 ? l->defer_accept : 16)) - 1 : 0},
        {TCP_OPT_CONGESTION, l ? l->cc : 0},
    };

    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        if (list[k].value)
            tcp_rec_put_call(t, c, TCP_REC_CALL_SETOPT, list[k].opt,
                             0, (uint32_t)(list[k].opt == TCP_OPT_CONGESTION ? list[k].value - 1 : list[k].value), 0,
                             t->rec->now);
    }
}

static __attribute__((noinline)) uint32_t conn_ring_new(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    struct tcp_rec *r = t->rec;
    struct tcp_rec_hdr h = {.at = now, .type = TCP_REC_T_START};
    bool fresh = !c->rec.ring_gen;
    uint32_t i = ring_new(t, REC_CONN, c->id);

    if (i == REC_NIL)
        return i;
    c->rec.ring = i;
    c->rec.ring_gen = r->rings[i].gen;
    c->rec.timers = 0;
    c->rec.timers_moved = true;
    c->rec.told_limit = false;
    h.code = fresh ? TCP_REC_START_NEW : TCP_REC_START_RESUMED;
    (void)ring_put(t, i, sizeof h, &h);
    if (fresh)
        c->rec.mtu = c->path.mtu;
    if (fresh && c->listener) {
        adopt_options(t, c);
        adopt(t, c, i);
    }
    return i;
}

static uint32_t conn_ring(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint32_t i = c->rec.ring;

    return c->rec.ring_gen && t->rec->rings[i].gen == c->rec.ring_gen ? i : conn_ring_new(t, c, now);
}

static uint32_t engine_ring(struct tcp *t)
{
    if (t->rec->engine == REC_NIL)
        t->rec->engine = ring_new(t, REC_ENGINE, 0);
    return t->rec->engine;
}

/* Room for an event of that connection, or of none; NULL: nowhere. */
static inline __attribute__((always_inline)) void *put(struct tcp *t, struct tcp_conn *c, size_t bytes, const struct tcp_rec_hdr *from)
{
    struct tcp_rec_hdr h = *from;
    uint32_t i, page;
    void *at;

    if (!t->config->trace_level)
        return NULL;
    /* Some calls come with the time of the verb before. */
    h.at = t->rec->now = time_max(h.at, t->rec->now);
    i = c ? conn_ring(t, c, h.at) : engine_ring(t);
    if (i == REC_NIL)
        return NULL;
    page = t->rec->rings[i].last_page;
    at = ring_put(t, i, bytes, &h);
    if (c && t->rec->rings[i].last_page != page)
        c->rec.told_limit = false; /* told again: the record may come to begin here */
    return at;
}

static bool detailed(const struct tcp *t)
{
    return t->config->trace_level >= 2;
}

/* ---- events ---- */

void tcp_rec_begin(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    t->rec->now = time_max(now, t->rec->now);
    t->rec->current = c;
}

void tcp_rec_set_time(struct tcp *t, uint64_t now)
{
    t->rec->now = time_max(now, t->rec->now);
}

uint64_t tcp_rec_time_of(const struct tcp *t)
{
    return t->rec ? t->rec->now : 0;
}

struct tcp_conn *tcp_rec_current(const struct tcp *t, const struct ip_tuple *tuple)
{
    struct tcp_conn *c = t->rec->current;

    return c && memcmp(&c->tuple, tuple, sizeof *tuple) == 0 ? c : NULL;
}

static uint8_t opt_bits(const struct tcp_options *o)
{
    return (uint8_t)((o->timestamps_ok ? TCP_REC_OPT_TS : 0) | (o->mss_ok ? TCP_REC_OPT_MSS : 0) |
                     (o->wscale_ok ? TCP_REC_OPT_WSCALE : 0) | (o->sack_permitted ? TCP_REC_OPT_SACK_OK : 0) |
                     (o->fastopen_ok ? TCP_REC_OPT_FASTOPEN : 0) |
                     (o->fastopen_exp ? TCP_REC_OPT_FASTOPEN_EXP : 0) | (o->md5_ok ? TCP_REC_OPT_MD5 : 0));
}

/* Bytes of the event up to the last thing that this segment has. */
static size_t seg_bytes(const struct tcp_options *o)
{
    if (o->fastopen_ok)
        return sizeof(struct tcp_ev_seg);
    if (o->sack_count)
        return offsetof(struct tcp_ev_seg, sack) + o->sack_count * 8u;
    if (o->mss_ok || o->wscale_ok)
        return offsetof(struct tcp_ev_seg, sack);
    return offsetof(struct tcp_ev_seg, mss);
}

static void fill_options(const struct tcp_options *o, struct tcp_ev_seg *e)
{
    e->mss = o->mss_ok ? o->mss : 0;
    e->wscale = o->wscale_ok ? o->wscale : 0;
    e->fastopen_bytes = o->fastopen_ok ? o->fastopen_bytes : 0;
    memset(e->sack, 0, sizeof e->sack);
    for (unsigned i = 0; i < o->sack_count && i < TCP_SACK_BLOCKS_MAX; i++) {
        e->sack[2 * i] = o->sack[i].start;
        e->sack[2 * i + 1] = o->sack[i].end;
    }
    memset(e->cookie, 0, sizeof e->cookie);
    if (o->fastopen_ok)
        memcpy(e->cookie, o->fastopen_cookie, sizeof e->cookie);
}

void tcp_rec_put_seg(struct tcp *t, struct tcp_conn *c, enum tcp_rec_type type, unsigned code, unsigned flags,
                     const struct tcp_seg *seg, uint64_t now)
{
    const struct tcp_options *o = &seg->opt;
    struct tcp_rec_hdr h = {.at = now, .type = (uint8_t)type, .code = (uint8_t)code, .flags = (uint8_t)flags};
    size_t bytes = (seg_bytes(o) + 7) & ~(size_t)7, room = bytes + (c ? 0 : sizeof(struct tcp_rec_tuple));
    struct tcp_ev_seg *e;
    uint8_t *at;

    if (!c)
        h.flags |= TCP_REC_F_TUPLE;
    if (type == TCP_REC_T_SEG_IN && seg->n_slices && seg->slice[0].chunk)
        h.arg = 1 + seg->slice[0].len;
    at = put(t, c, room, &h);
    if (!at)
        return;
    e = (struct tcp_ev_seg *)(void *)at;
    e->seq = seg->seq;
    e->ack = seg->ack;
    e->len = seg->len;
    e->wnd = seg->wnd;
    e->tcp_flags = seg->flags;
    e->gso_size = seg->gso_size;
    e->urg_ptr = seg->urg_ptr;
    e->ecn = seg->ecn;
    e->tos = seg->tos;
    e->opt_bits = opt_bits(o);
    e->sack_count = o->sack_count;
    e->tsval = o->tsval;
    e->tsecr = o->tsecr;
    if (bytes > offsetof(struct tcp_ev_seg, mss)) {
        struct tcp_ev_seg whole;

        fill_options(o, &whole);
        memcpy(&e->mss, &whole.mss, bytes - offsetof(struct tcp_ev_seg, mss));
    }
    if (!c) {
        bool in = type == TCP_REC_T_SEG_IN;
        struct ip_tuple tuple = {in ? seg->dst : seg->src, in ? seg->src : seg->dst,
                                 in ? seg->dst_port : seg->src_port, in ? seg->src_port : seg->dst_port};
        struct tcp_rec_tuple out;

        tuple_out(&tuple, &out);
        memcpy(at + bytes, &out, sizeof out);
    }
}

void tcp_rec_put_bare(struct tcp *t, struct tcp_conn *c, enum tcp_rec_type type, unsigned code, uint32_t arg)
{
    struct tcp_rec_hdr h = {.at = t->rec->now, .type = (uint8_t)type, .code = (uint8_t)code, .arg = arg};

    (void)put(t, c, sizeof h, &h);
}

/* Writes event `e` of `bytes`, its header filled in. */
static void put_event(struct tcp *t, struct tcp_conn *c, const void *e, size_t bytes)
{
    const struct tcp_rec_hdr *h = e;
    uint8_t *at = put(t, c, bytes, h);

    if (at)
        memcpy(at + sizeof *h, (const uint8_t *)e + sizeof *h, bytes - sizeof *h);
}

static struct tcp_rec_hdr header(enum tcp_rec_type type, unsigned code, uint32_t arg, uint64_t now)
{
    return (struct tcp_rec_hdr){.at = now, .type = (uint8_t)type, .code = (uint8_t)code, .arg = arg};
}

void tcp_rec_put_call(struct tcp *t, struct tcp_conn *c, enum tcp_rec_call call, uint32_t arg, int64_t result,
                      uint32_t want, uint32_t left, uint64_t now)
{
    struct tcp_ev_call e = {
        .h = header(TCP_REC_T_CALL, call, arg, now), .result = result, .want = want, .left = left};

    put_event(t, c, &e, sizeof e);
}

void tcp_rec_put_limit(struct tcp *t, struct tcp_conn *c, enum tcp_limit limit, uint64_t now)
{
    unsigned waits = limit == TCP_LIMIT_NOTHING && c->want_writable;
    struct tcp_ev_limit e = {.h = header(TCP_REC_T_LIMIT, limit, waits, now), .since = now};

    if (!detailed(t))
        return;
    /* It sends, and waits for its turn meanwhile: only worth telling when that takes long. */
    if (limit == TCP_LIMIT_READY) {
        if (!c->rec.ready_at)
            c->rec.ready_at = now ? now : 1;
        if (time_since(now, c->rec.ready_at) < NSEC_PER_MSEC)
            return;
        e.since = c->rec.ready_at;
    } else {
        c->rec.ready_at = 0;
    }
    if (c->rec.told_limit && c->rec.limit == limit && c->rec.limit_arg == waits)
        return;
    put_event(t, c, &e, sizeof e);
    c->rec.told_limit = true;
    c->rec.limit = (uint8_t)limit;
    c->rec.limit_arg = (uint8_t)waits;
}

void tcp_rec_put_cong(struct tcp *t, struct tcp_conn *c, enum tcp_rec_type type, unsigned code, uint32_t arg)
{
    struct tcp_ev_cong e = {.h = header(type, code, arg, t->rec->now),
                             .cwnd = c->win.cwnd,
                             .ssthresh = c->win.ssthresh,
                             .high_seq = c->high_seq,
                             .in_flight = tcp_in_flight(c)};

    put_event(t, c, &e, sizeof e);
}

static void tell_timer(struct tcp *t, struct tcp_conn *c, unsigned timer, uint64_t now)
{
    struct tcp_ev_timer e = {.h = header(TCP_REC_T_TIMER, timer, timer == TCP_TIMER_RETRANS ? c->rtx : 0, now),
                              .due = c->timer_at[timer]};

    put_event(t, c, &e, sizeof e);
}

void tcp_rec_put_settle(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    unsigned running = 0, told, changed;

    c->rec.timers_moved = false;
    if (!c->rec.ring_gen || !detailed(t))
        return;
    if (c->ca_state != c->rec.ca_state) {
        tcp_rec_put_cong(t, c, TCP_REC_T_CONG, c->ca_state, c->rec.ca_state);
        c->rec.ca_state = c->ca_state;
    }
    for (unsigned i = 0; i < TCP_TIMER_PACING; i++) /* the gate is told as a limit */
        running |= (c->timer_at[i] != TIME_NEVER ? 1u : 0u) << i;
    told = c->rec.timers;
    changed = told ^ running;
    if ((running & 1u << TCP_TIMER_RETRANS) && c->rtx != c->rec.rtx)
        changed |= 1u << TCP_TIMER_RETRANS;
    c->rec.timers = (uint8_t)running;
    c->rec.rtx = c->rtx;
    for (unsigned i = 0; i < TCP_TIMER_PACING; i++) {
        if (changed & 1u << i)
            tell_timer(t, c, i, now);
    }
}

/*
 * Its ring is numbered as a black box is, so that who writes them down does so now: what comes later may overwrite it. An
 * address that isn't known or a peer that doesn't open says enough by itself.
 */
static void stalled(struct tcp *t, struct tcp_conn *c)
{
    tcp_rec_put_bare(t, c, TCP_REC_T_STALL, c->rec.limit, c->retransmits);
    if (c->suspended || tcp_handshaking(c) || !c->rec.ring_gen || t->rec->rings[c->rec.ring].gen != c->rec.ring_gen ||
        !t->config->trace_keep)
        return;
    t->rec->rings[c->rec.ring].serial = ++t->rec->serial;
    c->rec.stalled = true;
}

void tcp_rec_put_fired(struct tcp *t, struct tcp_conn *c, unsigned timer, uint64_t now)
{
    struct tcp_ev_fired e = {.h = header(TCP_REC_T_FIRED, timer, timer == TCP_TIMER_RETRANS ? c->rtx : 0, now),
                              .retransmits = c->retransmits,
                              .backoff = c->backoff};

    if (timer == TCP_TIMER_PACING)
        return;
    put_event(t, c, &e, sizeof e);
    if (timer == TCP_TIMER_RETRANS && c->rtx == TCP_RTX_RTO && c->retransmits == STALL_TIMEOUTS)
        stalled(t, c);
    c->rec.timers &= (uint8_t) ~(1u << timer);
}

void tcp_rec_put_metrics(struct tcp *t, struct tcp_conn *c, uint32_t rtt, uint32_t ssthresh, uint32_t reordering,
                         uint64_t now)
{
    struct tcp_ev_metrics e = {
        .h = header(TCP_REC_T_METRICS, 0, 0, now), .rtt = rtt, .ssthresh = ssthresh, .reordering = reordering};

    put_event(t, c, &e, sizeof e);
}

void tcp_rec_put_icmp(struct tcp *t, struct tcp_conn *c, const struct tcp_icmp *icmp, uint64_t now)
{
    struct tcp_ev_icmp e = {.h = header(TCP_REC_T_ICMP, 0, (uint32_t)icmp->error, now),
                             .seq = icmp->seq, .mtu = icmp->mtu, .hard = icmp->hard};

    put_event(t, c, &e, sizeof e);
}

static uint16_t narrow(uint32_t v)
{
    return (uint16_t)(v < UINT16_MAX ? v : UINT16_MAX);
}

void tcp_rec_put_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now)
{
    unsigned bits = (v->rtt_us != UINT64_MAX ? 1u : 0u) | (v->dsack ? 2u : 0u) | (v->ece ? 4u : 0u) |
                    (v->window_update ? 8u : 0u);
    struct tcp_ev_ack e = {
        .h = header(TCP_REC_T_ACK, c->ca_state, bits, now),
        .snd_una = c->snd_una,
        .acked_bytes = c->snd_una - v->prior_una,
        .acked_segs = narrow(v->acked_segs),
        .sacked_segs = narrow(v->sack.segs),
        .lost_segs = narrow(c->sndq.lost_out > v->prior_lost ? c->sndq.lost_out - v->prior_lost : 0),
        .mss = c->mss,
        .cwnd = c->win.cwnd,
        .ssthresh = c->win.ssthresh,
        .in_flight = tcp_in_flight(c),
        .packets_out = c->sndq.packets_out,
        .sacked_out = tcp_sacked_out(c),
        .lost_out = c->sndq.lost_out,
        .retrans_out = c->sndq.retrans_out,
        .snd_wnd = c->snd_wnd,
        .srtt_us = c->rtt.srtt_us >> 3,
        .rttvar_us = c->rtt.rttvar_us >> 2,
        .min_rtt_us = c->rtt.min_rtt_us,
        .rto_us = (uint32_t)(tcp_rto_ns(t, c) / NSEC_PER_USEC),
        .pacing_rate = c->pacing_rate,
        .rate_delivered = c->rate_delivered,
        .rate_interval_us = (uint32_t)(c->rate_interval_us < UINT32_MAX ? c->rate_interval_us : UINT32_MAX),
    };

    if (detailed(t) && (v->prior_packets || v->una_advanced || v->window_update || v->dsack))
        put_event(t, c, &e, sizeof e);
}

/* ---- endings ---- */

static enum tcp_rec_end end_of(int error)
{
    switch (error) {
    case 0:
        return TCP_REC_END_GOOD;
    case ETIMEDOUT:
        return TCP_REC_END_TIMEOUT;
    case ECONNRESET:
    case ECONNREFUSED:
    case EPIPE:
        return TCP_REC_END_RESET_IN;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
        return TCP_REC_END_UNREACHABLE;
    default:
        return TCP_REC_END_ERROR;
    }
}

void tcp_rec_put_error(struct tcp *t, struct tcp_conn *c, int error)
{
    if (c->rec.end == TCP_REC_END_GOOD)
        c->rec.end = (uint8_t)end_of(error);
    if (error)
        tcp_rec_put_bare(t, c, TCP_REC_T_ERROR, 0, (uint32_t)error);
}

void tcp_rec_put_reset(struct tcp_conn *c, enum tcp_cause cause)
{
    switch (cause) {
    case TCP_CAUSE_RST_ABORT:
    case TCP_CAUSE_RST_LISTENER_CLOSED:
        c->rec.end = TCP_REC_END_ABORT;
        break;
    case TCP_CAUSE_RST_TIMEOUT:
        c->rec.end = TCP_REC_END_TIMEOUT;
        break;
    default:
        c->rec.end = TCP_REC_END_RESET_OUT;
        break;
    }
}

static bool keeps(const struct tcp *t, const struct tcp_conn *c)
{
    if (t->config->trace_keep >= 2)
        return true;
    return t->config->trace_keep == 1 && (c->rec.stalled || c->rec.end != TCP_REC_END_GOOD) && c->rec.end != TCP_REC_END_ABORT;
}

/* The oldest black boxes go where there would be too many. */
static void limit_boxes(struct tcp *t)
{
    struct tcp_rec *r = t->rec;

    while (r->n_boxes > 0 && r->n_boxes >= (uint32_t)t->config->trace_boxes) {
        uint32_t oldest = REC_NIL;

        for (uint32_t i = 0; i < r->touched_rings; i++) {
            if (r->rings[i].kind == REC_DEAD &&
                (oldest == REC_NIL || r->rings[i].serial < r->rings[oldest].serial))
                oldest = i;
        }
        ring_free(r, oldest);
    }
}

void tcp_rec_put_freed(struct tcp *t, struct tcp_conn *c)
{
    struct tcp_rec *r = t->rec;
    uint32_t i = c->rec.ring;
    struct tcp_rec_hdr h = header(TCP_REC_T_END, c->rec.end, (uint32_t)c->error_final, r->now);
    struct tcp_rec_head head;
    uint8_t *at;

    if (r->current == c)
        r->current = NULL;
    if (!c->rec.ring_gen || r->rings[i].gen != c->rec.ring_gen)
        return;
    if (!keeps(t, c) || !t->config->trace_boxes) {
        ring_free(r, i);
        return;
    }
    limit_boxes(t);
    tcp_rec_fill_head(t, c, r->now, &head);
    head.id = r->rings[i].id;
    head.kind = TCP_REC_KIND_DEAD;
    head.end = c->rec.end;
    /* Behind the header of its last event lies the head: what the connection was. */
    at = ring_put(t, i, sizeof h + sizeof head, &h);
    if (!at) {
        ring_free(r, i);
        return;
    }
    memcpy(at + sizeof h, &head, sizeof head);
    r->rings[i].kind = REC_DEAD;
    r->rings[i].serial = ++r->serial;
    r->n_boxes++;
}

void tcp_rec_put_parked(struct tcp *t, const struct tcp_conn *c)
{
    if (t->rec->current == c)
        t->rec->current = NULL;
}

/* Up to 16 characters of a name; how many there were. */
static size_t name_part(char to[16], const char *from)
{
    size_t n = 0;

    for (; n < 16 && from[n]; n++)
        to[n] = from[n];
    return n;
}

void tcp_trace_reply(struct tcp *t, enum tcp_rec_reply what, const char *name, const struct ip_addr *local,
                     const struct ip_addr *remote, uint64_t now)
{
    struct tcp_ev_named e = {.h = header(TCP_REC_T_REPLY, what, 0, now)};
    struct ip_tuple tuple = {0};
    struct tcp_rec_tuple out;
    uint8_t *at;

    if (!t->rec)
        return;
    e.h.flags = TCP_REC_F_TUPLE;
    if (name_part(e.name0, name) == sizeof e.name0)
        (void)name_part(e.name1, name + sizeof e.name0);
    if (local)
        tuple.local = *local;
    if (remote)
        tuple.remote = *remote;
    tuple_out(&tuple, &out);
    at = put(t, NULL, sizeof e + sizeof out, &e.h);
    if (!at)
        return;
    memcpy(at + sizeof e.h, (const uint8_t *)&e + sizeof e.h, sizeof e - sizeof e.h);
    memcpy(at + sizeof e, &out, sizeof out);
}
