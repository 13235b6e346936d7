/*
 * tcp/recread.c: the flight recorder's records as readers get them (tcp_trace.h): which there are, their heads, copies
 * of their events. Changes nothing.
 */
#include "tcp/rec_priv.h"

/* ---- heads ---- */

static void head_begin(struct tcp_rec_head *h, uint64_t now)
{
    memset(h, 0, sizeof *h);
    memcpy(h->magic, TCP_REC_MAGIC, sizeof TCP_REC_MAGIC - 1);
    h->version = TCP_REC_VERSION;
    h->byte_order = TCP_REC_BYTE_ORDER;
    h->head_bytes = sizeof *h;
    h->dumped_at = now;
}

static uint8_t agreed(const struct tcp_conn *c)
{
    return (uint8_t)((c->ts_ok ? TCP_REC_OPT_TS : 0) | (c->wscale_ok ? TCP_REC_OPT_WSCALE : 0) |
                     (c->sack_ok ? TCP_REC_OPT_SACK_OK : 0));
}

static void head_numbers(const struct tcp_conn *c, struct tcp_rec_head *h)
{
    h->iss = c->iss;
    h->irs = c->irs;
    h->ts_offset = c->ts_offset;
    h->snd_una = c->snd_una;
    h->snd_nxt = c->snd_nxt;
    h->write_seq = c->write_seq;
    h->rcv_nxt = c->rcv_nxt;
    h->copied_seq = c->copied_seq;
    h->snd_wnd = c->snd_wnd;
    h->rcv_wnd = c->rcv_wnd;
    h->snd_wscale = c->snd_wscale;
    h->rcv_wscale = c->rcv_wscale;
}

void tcp_rec_fill_head(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct tcp_rec_head *h)
{
    const struct tcp_listener *l = c->listener ? tcp_listener_by_number(t, c->listener) : NULL;

    head_begin(h, now);
    head_numbers(c, h);
    h->id = c->id;
    h->created_at = c->created_at;
    h->state = c->state;
    h->end = c->rec.end;
    h->family = c->tuple.local.family;
    h->local_port = c->tuple.local_port;
    h->remote_port = c->tuple.remote_port;
    memcpy(h->local, c->tuple.local.b, 16);
    memcpy(h->remote, c->tuple.remote.b, 16);
    h->passive = c->listener != 0;
    h->opt_bits = agreed(c);
    h->gso_max = t->gso_max_bytes;
    h->error = c->error_final;
    h->mss = c->mss;
    h->mtu = c->rec.mtu ? c->rec.mtu : c->path.mtu;
    h->advmss = c->advmss;
    h->pmtu = c->pmtu;
    h->initcwnd = c->path.initcwnd;
    h->initrwnd = c->path.initrwnd;
    h->sndbuf = c->sndbuf.limit;
    h->rcvbuf = c->rcvq.rcvbuf;
    h->backlog = l ? l->backlog : 0;
    if (c->cc)
        memcpy(h->congestion, c->cc->name, strnlen(c->cc->name, sizeof h->congestion - 1));
}

/* ---- which ring ---- */

static uint32_t find_dead(const struct tcp_rec *r, uint64_t id)
{
    uint32_t found = REC_NIL;

    for (uint32_t i = 0; i < r->touched_rings; i++) {
        const struct rec_ring *ring = &r->rings[i];

        if (ring->kind == REC_DEAD && ring->id == id &&
            (found == REC_NIL || ring->serial > r->rings[found].serial))
            found = i;
    }
    return found;
}

/* The ring of a connection, or what is left of one; *ret_c: the connection, if it is there. */
static uint32_t find_ring(const struct tcp *t, uint64_t id, const struct tcp_conn **ret_c)
{
    const struct tcp_conn *c = id != TCP_TRACE_ENGINE ? tcp_conn_view(t, id) : NULL;

    *ret_c = c;
    if (!t->rec)
        return REC_NIL;
    if (id == TCP_TRACE_ENGINE)
        return t->rec->engine;
    if (!c)
        return find_dead(t->rec, id);
    if (c->rec.ring_gen && t->rec->rings[c->rec.ring].gen == c->rec.ring_gen)
        return c->rec.ring;
    return REC_NIL;
}

static uint64_t first_event(const struct tcp_rec *r, const struct rec_ring *ring)
{
    return ring->first_page == REC_NIL ? ring->next_event : r->pages[ring->first_page].first;
}

/* The head that lies in the last event of a black box. */
static void dead_head(const struct tcp_rec *r, const struct rec_ring *ring, struct tcp_rec_head *ret)
{
    memcpy(ret, r->pages[ring->last_page].data + ring->last_used + sizeof(struct tcp_rec_hdr), sizeof *ret);
}

int tcp_trace_head(const struct tcp *t, uint64_t id, uint64_t now, struct tcp_rec_head *ret)
{
    const struct tcp_conn *c;
    uint32_t i = find_ring(t, id, &c);
    const struct rec_ring *ring = i == REC_NIL ? NULL : &t->rec->rings[i];

    if (!c && !ring)
        return -ENOENT;
    if (c) {
        tcp_rec_fill_head(t, c, now, ret);
    } else if (ring->kind == REC_DEAD) {
        dead_head(t->rec, ring, ret);
        ret->dumped_at = now;
    } else {
        head_begin(ret, now);
        ret->kind = TCP_REC_KIND_ENGINE;
        ret->created_at = ring->begun_at;
    }
    if (ring) {
        ret->first_event = ret->lost_events = first_event(t->rec, ring);
        ret->next_event = ring->next_event;
    }
    return 0;
}

/* ---- events ---- */

int64_t tcp_trace_read(const struct tcp *t, uint64_t id, uint64_t *inout_event, void *buf, size_t room,
                       uint64_t *ret_lost)
{
    const struct tcp_conn *c;
    uint32_t i = find_ring(t, id, &c), p;
    const struct rec_ring *ring;
    size_t done = 0;

    *ret_lost = 0;
    if (i == REC_NIL)
        return c || (id == TCP_TRACE_ENGINE && t->rec) ? 0 : -ENOENT;
    ring = &t->rec->rings[i];
    if (*inout_event > ring->next_event)
        *inout_event = 0; /* the ring began anew meanwhile */
    if (*inout_event < first_event(t->rec, ring)) {
        *ret_lost = first_event(t->rec, ring) - *inout_event;
        *inout_event = first_event(t->rec, ring);
    }
    for (p = ring->first_page; p != REC_NIL; p = t->rec->pages[p].next) {
        const struct rec_page *page = &t->rec->pages[p];
        uint64_t number = page->first;

        if (*inout_event >= page->first + page->count)
            continue;
        for (uint32_t pos = 0; pos < page->used; number++) {
            struct tcp_rec_hdr h;

            memcpy(&h, page->data + pos, sizeof h);
            if (number >= *inout_event) {
                if (h.words * 8u > room - done)
                    return (int64_t)done;
                memcpy((uint8_t *)buf + done, page->data + pos, h.words * 8u);
                done += h.words * 8u;
                *inout_event = number + 1;
            }
            pos += h.words * 8u;
        }
    }
    return (int64_t)done;
}

size_t tcp_trace_config(const struct tcp *t, void *buf, size_t room)
{
    size_t done = 0;

    for (const struct tcp_config_row *row = tcp_config_rows; row->name; row++) {
        struct tcp_ev_config e = {.h = {.type = TCP_REC_T_CONFIG, .words = sizeof e / 8}};
        size_t n = strlen(row->name), part = sizeof e.name0;
        char *to[] = {e.name0, e.name1, e.name2};

        e.value = tcp_config_get(t->config, row);
        if (e.value == row->def || strncmp(row->name, "trace_", 6) == 0)
            continue;
        for (size_t k = 0; k < 3 && k * part < n; k++)
            memcpy(to[k], row->name + k * part, n - k * part < part ? n - k * part : part);
        if (sizeof e > room - done)
            break;
        memcpy((uint8_t *)buf + done, &e, sizeof e);
        done += sizeof e;
    }
    return done;
}

/* The number of the first of the newest events that fit into `room`, by whole pages. */
static uint64_t newest_that_fit(const struct tcp *t, uint32_t i, size_t room)
{
    const struct rec_ring *ring = &t->rec->rings[i];
    size_t bytes = 0;
    uint64_t from = ring->next_event;

    for (uint32_t p = ring->last_page; p != REC_NIL; p = t->rec->pages[p].prev) {
        bytes += t->rec->pages[p].used;
        if (bytes > room)
            break;
        from = t->rec->pages[p].first;
    }
    return from;
}

int64_t tcp_trace_dump(const struct tcp *t, uint64_t id, uint64_t now, uint64_t wall_ns, void *buf, size_t room)
{
    const struct tcp_conn *c;
    struct tcp_rec_head h;
    uint8_t *at = buf;
    uint64_t from = 0, lost;
    uint32_t i = find_ring(t, id, &c);
    size_t config;
    int64_t n = 0;

    if (tcp_trace_head(t, id, now, &h) < 0)
        return -ENOENT;
    if (room < sizeof h + 4096)
        return -EMSGSIZE;
    h.wall_at = wall_ns;
    config = tcp_trace_config(t, at + sizeof h, room - sizeof h);
    if (i != REC_NIL) {
        from = newest_that_fit(t, i, room - sizeof h - config);
        h.first_event = h.lost_events = from;
        n = tcp_trace_read(t, id, &from, at + sizeof h + config, room - sizeof h - config, &lost);
    }
    h.next_event = from;
    h.event_bytes = (uint32_t)(config + (size_t)n);
    memcpy(at, &h, sizeof h);
    return (int64_t)(sizeof h + h.event_bytes);
}

/* ---- the list ---- */

bool tcp_trace_next(const struct tcp *t, uint32_t *inout_at, struct tcp_trace_row *ret)
{
    const struct tcp_rec *r = t->rec;

    for (; r && *inout_at < r->touched_rings; (*inout_at)++) {
        const struct rec_ring *ring = &r->rings[*inout_at];
        struct tcp_rec_head h;

        if (ring->kind == REC_FREE)
            continue;
        *ret = (struct tcp_trace_row){.id = ring->id, .first_event = first_event(r, ring),
                                      .next_event = ring->next_event, .begun_at = ring->begun_at,
                                      .last_at = ring->last_at, .bytes = ring->n_pages * REC_PAGE_BYTES,
                                      .serial = ring->serial};
        if (ring->kind == REC_ENGINE) {
            ret->kind = TCP_REC_KIND_ENGINE;
        } else if (ring->kind == REC_DEAD) {
            dead_head(r, ring, &h);
            ret->kind = TCP_REC_KIND_DEAD;
            ret->end = h.end;
            ret->error = h.error;
            ret->tuple = (struct ip_tuple){.local_port = h.local_port, .remote_port = h.remote_port};
            memcpy(ret->tuple.local.b, h.local, 16);
            memcpy(ret->tuple.remote.b, h.remote, 16);
            ret->tuple.local.family = ret->tuple.remote.family = h.family;
        } else {
            const struct tcp_conn *c = tcp_conn_view(t, ring->id);

            if (c)
                ret->tuple = c->tuple;
        }
        (*inout_at)++;
        return true;
    }
    return false;
}

uint64_t tcp_trace_boxes(const struct tcp *t)
{
    return t->rec ? t->rec->serial : 0;
}

void tcp_trace_totals(const struct tcp *t, struct tcp_trace_totals *ret)
{
    const struct tcp_rec *r = t->rec;

    *ret = (struct tcp_trace_totals){0};
    if (!r)
        return;
    ret->pool_bytes = (uint64_t)r->n_pages * REC_PAGE_BYTES;
    ret->used_bytes = (uint64_t)r->used_pages * REC_PAGE_BYTES;
    ret->events = r->events;
    ret->stolen_rings = r->stolen_rings;
    ret->stolen_pages = r->stolen_pages;
    ret->boxes = r->serial;
    ret->rings = r->n_rings;
}
