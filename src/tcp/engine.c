/*
 * tcp/engine.c: the engine's and its connections' life, their lists, and the choke points: the only places
 * that change a state, raise an event, count a drop, count what leaves.
 *
 * A connection has an owner (owned), or is an orphan that the protocol still needs (orphan), or is dead:
 *
 *     orphan => !owned && state != CLOSE             dead => !owned && state == CLOSE && !rst_pending
 *     state == CLOSE => no timer, not in the hash, nothing in flight; on READY only for its RST
 *
 * Dead ones are freed at the end of the verb that ended them (tcp_conn_reap()), never within.
 */
#include "tcp/tcp_priv.h"

/* ---- the engine ---- */

static void init_lists(struct tcp *t)
{
    for (unsigned i = 0; i < 64; i++) {
        list_init(&t->listeners[i]);
        list_init(&t->listeners_by_number[i]);
    }
    list_init(&t->ready_urgent);
    list_init(&t->ready_bulk);
    list_init(&t->events);
    list_init(&t->dirty);
    list_init(&t->warm);
}

struct tcp *tcp_create(const struct tcp_params *params)
{
    struct tcp *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->params = *params;
    t->now = params->now;
    t->config = params->config;
    t->pool = params->pool;
    if (t->pool)
        t->scarce_at = chunk_pool_budget_bytes(t->pool) - chunk_pool_budget_bytes(t->pool) / 16;
    t->log = params->log;
    t->secrets = params->secrets;
    rng_seed(&t->rng, params->secrets.rng_seed);
    wheel_init(&t->wheel, params->now);
    init_lists(t);
    tcp_cookies_init(t);
    tcp_fastopen_init(t);
    if (tcp_table_init(t) || tcp_requests_init(t) || tcp_tw_init(t) || tcp_replies_init(t) ||
        tcp_metrics_init(t) || tcp_md5_init(t) || tcp_records_init(t) || tcp_rec_init(t) || tcp_kept_init(t)) {
        tcp_destroy(t);
        return NULL;
    }
    return t;
}

static void free_conns(struct tcp *t)
{
    for (uint32_t slot = 0; t->table && slot < tcp_table_slots(t); slot++) {
        enum tcp_kind kind;
        tcp_id id;
        void *entry = tcp_table_at(t, slot, &kind, &id);

        if (entry && kind == TCP_KIND_CONN)
            tcp_conn_free(t, entry);
    }
}

void tcp_destroy(struct tcp *t)
{
    if (!t)
        return;
    free_conns(t);
    for (unsigned i = 0; i < 64; i++) {
        list_for_each_safe(node, &t->listeners[i])
        {
            struct tcp_listener *l = list_entry(node, struct tcp_listener, link);

            tcp_fastopen_listener_closed(l);
            tcp_md5_listener_closed(t, l);
            tcp_listener_remove(l);
            free(l);
        }
    }
    tcp_requests_destroy(t);
    tcp_tw_destroy(t);
    tcp_replies_destroy(t);
    tcp_metrics_destroy(t);
    tcp_kept_destroy(t);
    tcp_md5_destroy(t);
    tcp_records_destroy(t);
    tcp_rec_destroy(t);
    tcp_table_destroy(t);
    tcp_desc_slab_destroy(&t->descs);
    free(t);
}

/* ---- a connection's life ---- */

void tcp_conn_init_links(struct tcp_conn *c)
{
    list_init(&c->ready);
    list_init(&c->event);
    list_init(&c->dirty);
    list_init(&c->warm);
    list_init(&c->listener_link);
    wheel_timer_init(&c->timer);
}

struct tcp_conn *tcp_conn_new(struct tcp *t, uint64_t now)
{
    uint32_t block = t->n_conns < t->params.max_conns ? tcp_record_take_block(t) : UINT32_MAX;
    struct tcp_conn *c = block == UINT32_MAX ? NULL : tcp_conn_new_at(t, block, now);

    if (block != UINT32_MAX && !c)
        tcp_record_give_block(t, block);
    return c;
}

struct tcp_conn *tcp_conn_new_at(struct tcp *t, uint32_t block, uint64_t now)
{
    const struct tcp_config *config = t->config;
    struct tcp_conn *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    t->n_conns++;
    c->state = TCP_STATE_CLOSE;
    c->block = block;
    tcp_conn_init_links(c);
    for (unsigned i = 0; i < TCP_TIMER_MAX; i++)
        c->timer_at[i] = TIME_NEVER;
    c->mss_clamp = TCP_MSS_DEFAULT;
    c->fastopen_cookie.bytes = -1;
    c->pacing_rate = UINT64_MAX;
    c->max_pacing_rate = UINT64_MAX;
    c->user_timeout_ms = (uint32_t)config->tcp_user_timeout;
    c->created_at = now;
    c->rcv_tstamp = now;
    c->last_data_recv_at = now;
    tcp_sndbuf_init(&c->sndbuf, 0, (uint32_t)config->tcp_wmem_default);
    tcp_sndq_init(&c->sndq, &t->descs, 0);
    tcp_rtt_init(&c->rtt, (uint32_t)config->tcp_rto_initial * 1000u);
    tcp_rcvq_init(&c->rcvq, (uint32_t)config->tcp_rmem_default);
    tcp_ackowed_init(&c->ackowed);
    return c;
}

/* Out of its listener's accept queue, if it is still there. */
static void leave_accept_queue(struct tcp *t, struct tcp_conn *c)
{
    struct tcp_listener *l;

    list_del(&c->listener_link);
    if (!c->in_accept_queue)
        return;
    c->in_accept_queue = false;
    l = tcp_listener_by_number(t, c->listener);
    if (l && l->accept_queue)
        l->accept_queue--;
}

void tcp_conn_free(struct tcp *t, struct tcp_conn *c)
{
    enum tcp_kind kind = TCP_KIND_FREE;

    if (t->rec)
        tcp_rec_put_freed(t, c);
    tcp_fastopen_release(t, c, false, 0);
    leave_accept_queue(t, c);
    tcp_unmark_ready(t, c);
    list_del(&c->event);
    list_del(&c->dirty);
    tcp_park_leave(t, c);
    wheel_disarm(&t->wheel, &c->timer);
    if (c->orphan)
        t->orphans--;
    if (c->state == TCP_STATE_ESTABLISHED || c->state == TCP_STATE_CLOSE_WAIT)
        t->n_established--;
    tcp_sndq_clear(&c->sndq);
    tcp_sndbuf_clear(&c->sndbuf, t->pool);
    tcp_writeq_clear(&c->writeq);
    tcp_rcvq_release(&c->rcvq, t->pool);
    tcp_ackowed_release(&c->ackowed);
    tcp_md5_release(t, c);
    if (c->id && tcp_lookup_id(t, c->id, &kind) == c) {
        tcp_record_clear(t, c);
        tcp_table_leave(t, c->id);
    }
    tcp_record_give_block(t, c->block);
    t->n_conns--;
    free(c);
}

void tcp_conn_reap(struct tcp *t, struct tcp_conn *c)
{
    if (c->dead)
        tcp_conn_free(t, c);
    else
        tcp_assert(t, c);
}

void tcp_disown(struct tcp *t, struct tcp_conn *c)
{
    leave_accept_queue(t, c);
    c->owned = false;
    c->event_bits = 0;
    list_del(&c->event);
    if (c->state == TCP_STATE_CLOSE) {
        c->dead = !c->rst_pending;
    } else {
        c->orphan = true;
        t->orphans++;
    }
    tcp_mark_dirty(t, c);
}

/* What the protocol no longer needs of a connection that ended. */
static void release_queues(struct tcp *t, struct tcp_conn *c, bool keep_unread)
{
    tcp_sndq_clear(&c->sndq);
    tcp_sndbuf_clear(&c->sndbuf, t->pool);
    tcp_writeq_clear(&c->writeq);
    if (keep_unread)
        tcp_rcvq_release_ooo(&c->rcvq, t->pool);
    else
        tcp_rcvq_release(&c->rcvq, t->pool);
    tcp_ackowed_clear(&c->ackowed);
    c->syn_pending = false;
    c->probe_pending = false;
    c->want_writable = false;
    c->fin_waits = false;
}

void tcp_done(struct tcp *t, struct tcp_conn *c, int error, bool keep_unread, uint64_t now)
{
    if (c->state != TCP_STATE_CLOSE) {
        tcp_fastopen_release(t, c, false, now);
        tcp_fastopen_ended(t, c, now);
        tcp_timers_off(t, c);
        if (c->orphan) {
            c->orphan = false;
            t->orphans--;
        }
        tcp_set_state(t, c, TCP_STATE_CLOSE, now);
        if (c->id)
            tcp_table_unhash(t, c->id);
    }
    release_queues(t, c, keep_unread && c->owned);
    tcp_rec_error(t, c, error);
    if (error) {
        c->error = error;
        c->error_final = error;
        tcp_raise(t, c, TCP_EVENT_ERROR);
    }
    if (!c->rst_pending)
        tcp_unmark_ready(t, c);
    if (!c->owned)
        c->dead = !c->rst_pending;
    tcp_mark_dirty(t, c);
}

void tcp_send_reset(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, int error, bool keep_unread,
                    uint64_t now)
{
    c->rst_pending = true;
    c->rst_cause = cause;
    tcp_rec_put_reset(c, cause);
    tcp_done(t, c, error, keep_unread, now);
    tcp_mark_ready(t, c);
}

/* ---- the choke points ---- */

static bool counts_established(unsigned state)
{
    return state == TCP_STATE_ESTABLISHED || state == TCP_STATE_CLOSE_WAIT;
}

void tcp_set_state(struct tcp *t, struct tcp_conn *c, enum tcp_state state, uint64_t now)
{
    unsigned before = c->state;

    if (before == state)
        return;
    tcp_rec_time(t, now);
    c->state = (uint8_t)state;
    tcp_rec_state(t, c, before);
    if (counts_established(state) && !counts_established(before))
        t->n_established++;
    if (counts_established(before) && !counts_established(state))
        t->n_established--;
    if (state == TCP_STATE_CLOSE && counts_established(before))
        t->counters.estab_resets++;
    if (state == TCP_STATE_CLOSE && (before == TCP_STATE_SYN_SENT || before == TCP_STATE_SYN_RECV))
        t->counters.attempt_fails++;
    tcp_raise(t, c, TCP_EVENT_STATE | (state == TCP_STATE_CLOSE ? TCP_EVENT_CLOSED : 0u));
    tcp_mark_dirty(t, c);
}

void tcp_drop(struct tcp *t, struct tcp_conn *c, enum tcp_drop reason)
{
    t->drops[reason]++;
    if (c)
        c->drops[reason]++;
    tcp_rec_drop(t, c, reason);
}

void tcp_raise(struct tcp *t, struct tcp_conn *c, unsigned event_bits)
{
    if (!c->owned)
        return;
    c->event_bits |= event_bits;
    if (!list_linked(&c->event))
        list_add_tail(&t->events, &c->event);
}

void tcp_mark_dirty(struct tcp *t, struct tcp_conn *c)
{
    if (list_linked(&c->dirty))
        return;
    list_add_tail(&t->dirty, &c->dirty);
    tcp_record_expect(t, c);
}

static uint32_t wire_segments(const struct tcp_seg *seg)
{
    if (!seg->gso_size || !seg->len)
        return 1;
    return (seg->len + seg->gso_size - 1) / seg->gso_size;
}

static void count_out_conn(struct tcp_conn *c, const struct tcp_out *out, uint32_t segs)
{
    c->causes[out->cause] += segs;
    c->segs_out += segs;
    if (out->seg.len)
        c->data_segs_out += segs;
    c->bytes_sent += out->seg.len;
    if (out->retransmission) {
        c->bytes_retrans += out->seg.len;
        c->total_retrans += segs;
    }
}

void tcp_count_out(struct tcp *t, struct tcp_conn *c, const struct tcp_out *out, uint64_t now)
{
    uint32_t segs = wire_segments(&out->seg);

    t->causes[out->cause] += segs;
    t->counters.out_frames++;
    if (out->retransmission) {
        t->counters.retrans_segs += segs;
    } else {
        t->counters.out_segs += segs;
        t->counters.out_bytes += out->seg.len;
    }
    if (out->seg.flags & TCP_RST)
        t->counters.out_rsts++;
    if (c)
        count_out_conn(c, out, segs);
    if (t->rec)
        tcp_rec_put_seg(t, c, TCP_REC_T_SEG_OUT, out->cause, out->retransmission ? TCP_REC_F_RETRANS : 0u, &out->seg, now);
}

/* ---- READY ---- */

void tcp_mark_ready(struct tcp *t, struct tcp_conn *c)
{
    if (c->suspended || list_linked(&c->ready) || (c->state == TCP_STATE_CLOSE && !c->rst_pending))
        return;
    list_add_tail(c->rst_pending || tcp_is_urgent(t, c) ? &t->ready_urgent : &t->ready_bulk, &c->ready);
    t->n_ready++;
}

void tcp_unmark_ready(struct tcp *t, struct tcp_conn *c)
{
    if (!list_linked(&c->ready))
        return;
    list_del(&c->ready);
    t->n_ready--;
}

bool tcp_next_ready(struct tcp *t, struct tcp_out *ret)
{
    struct list_node *node = list_first(&t->ready_urgent);
    const struct tcp_conn *c;

    if (!node)
        node = list_first(&t->ready_bulk);
    if (!node)
        return false;
    c = list_entry(node, struct tcp_conn, ready);
    ret->id = c->id;
    ret->seg.src = c->tuple.local;
    ret->seg.dst = c->tuple.remote;
    ret->seg.src_port = c->tuple.local_port;
    ret->seg.dst_port = c->tuple.remote_port;
    return true;
}

void tcp_suspend(struct tcp *t, tcp_id id)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c)
        return;
    tcp_unmark_ready(t, c);
    c->suspended = true;
    tcp_rec_bare(t, c, TCP_REC_T_NEIGHBOUR, TCP_REC_NEIGHBOUR_WAITING, 0);
}

void tcp_resume(struct tcp *t, tcp_id id)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c || !c->suspended)
        return;
    c->suspended = false;
    tcp_rec_bare(t, c, TCP_REC_T_NEIGHBOUR, TCP_REC_NEIGHBOUR_RESOLVED, 0);
    tcp_mark_ready(t, c);
}

/*
 * What Linux makes of a failed neighbour or a missing route. The connection leaves READY, so that a shell
 * without a route doesn't spin; the retransmission timer brings it back even where nothing is in flight yet.
 */
void tcp_unreachable(struct tcp *t, tcp_id id, int error, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c)
        return;
    c->suspended = false;
    tcp_rec_verb(t, NULL, now);
    tcp_rec_bare(t, c, TCP_REC_T_NEIGHBOUR, TCP_REC_NEIGHBOUR_UNREACHABLE, (uint32_t)error);
    tcp_unmark_ready(t, c);
    if (c->rst_pending) {
        t->counters.abort_failed++;
        c->rst_pending = false;
        c->dead = !c->owned;
    } else if (c->state == TCP_STATE_SYN_SENT) {
        tcp_done(t, c, error, true, now);
    } else if (c->state != TCP_STATE_CLOSE) {
        c->error_soft = error;
        if (c->timer_at[TCP_TIMER_RETRANS] == TIME_NEVER && c->timer_at[TCP_TIMER_PROBE0] == TIME_NEVER)
            tcp_timer_set(t, c, TCP_TIMER_RETRANS, now + c->rtt.rto_us * NSEC_PER_USEC);
    }
    tcp_conn_reap(t, c);
}

void tcp_set_gso_max(struct tcp *t, uint32_t bytes)
{
    t->gso_max_bytes = bytes;
}

/* ---- EVENT ---- */

bool tcp_next_event(struct tcp *t, struct tcp_event *ret)
{
    struct list_node *node = list_pop(&t->events);
    struct tcp_listener *l = NULL;
    struct tcp_conn *c;

    if (!node)
        return false;
    c = list_entry(node, struct tcp_conn, event);
    if (c->event_bits & TCP_EVENT_ACCEPT)
        l = tcp_listener_by_number(t, c->listener);
    *ret = (struct tcp_event){
        .id = c->id,
        .user = l ? l->user : c->user,
        .listener = l ? l->number : 0,
        .bits = c->event_bits,
        .error = c->event_bits & TCP_EVENT_ERROR ? c->error_final : 0,
        .state = (enum tcp_state)c->state,
    };
    c->event_bits = 0;
    return true;
}
