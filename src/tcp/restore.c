/*
 * tcp/restore.c: an engine after a crash, or one connection of another engine (tcp_record.h says what and why).
 *
 * tcp_record_restore() copies one connection's payload in. tcp_restore() makes a whole engine of the arena that its
 * predecessor left: records, half-open and TIME-WAIT entries, and the pool's notes, which say where payload lies; chunks
 * are claimed where they are, no payload byte is read. Tables, lists, timers and indexes are rebuilt by the scan.
 *
 * Where two of them claim the same id or tuple the predecessor died while it replaced one by the other, before the
 * commit: a record wins over a half-open entry (the connection was published), and both win over TIME-WAIT (what ended
 * was not committed). Bytes that notes describe beyond a record's numbers are the uncommitted turn's and are ignored,
 * unless a hint says that they were taken from, or given to, somebody who will not do it again.
 *
 * Never uses what does not check: such a connection is reported by lost() and is gone; its peer is answered with a RST.
 */
#include "tcp/recovery.h"
#include "tcp/tcp_record.h"

#define SLOT_MASK      0xffffffu
#define DESC_BYTES_MAX 65536u /* descriptors of restored data: so large, in multiples of mss */
#define HINT_MAX       (64u << 20) /* bytes that a hint may lie ahead */

void tcp_record_load(struct tcp_conn *c, const struct tcp_record *r)
{
#define V(type, name, member) c->member = (__typeof__(c->member))r->name;
#define B(name, member, n)    memcpy(&c->member, r->name, n);
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    c->cc = cc_find(r->cc_name);
    c->timer_at[TCP_TIMER_KEEPALIVE] = TIME_NEVER;
    c->timer_at[TCP_TIMER_LINGER] = TIME_NEVER;
    c->timer_at[TCP_TIMER_RETRANS] = TIME_NEVER;
    c->rtx = TCP_RTX_RTO;
    c->snd_nxt_due = c->snd_nxt;
    c->high_seq = c->snd_nxt;
    c->ca_state = TCP_CA_OPEN;
    c->retrans_high = c->snd_nxt;
    c->dctcp_ce.prior_rcv_nxt = c->rcv_nxt;
    /* The cookie of a SYN that had not left is not kept: it goes without, and without data. */
    if (c->state == TCP_STATE_SYN_SENT && c->snd_nxt == c->iss)
        c->syn_data = 0;
}

/* The record names its TCP-MD5 keys by place: without them it must not go on unsigned. */
static bool take_keys(struct tcp *t, struct tcp_conn *c)
{
    bool known = true;

    for (unsigned i = 0; i < TCP_MD5_KEYS_CONN; i++)
        known = known && (!c->md5_key[i] || tcp_md5_known(t, c->md5_key[i]));
    for (unsigned i = 0; i < TCP_MD5_KEYS_CONN; i++)
        c->md5_key[i] = known ? tcp_md5_ref(t, c->md5_key[i]) : 0;
    return known;
}

/* First sequence number of the program's bytes that isn't acknowledged. */
static uint32_t first_byte(const struct tcp_conn *c)
{
    uint32_t bytes_end = c->write_seq;

    if (c->snd_una == c->iss)
        return c->iss + 1;
    return seq_gt(c->snd_una, bytes_end) ? bytes_end : c->snd_una;
}

static bool append_send(struct tcp *t, struct tcp_conn *c, const struct tcp_record_range *range,
                        uint32_t from)
{
    uint32_t done = from;

    while (done < range->len) {
        struct tcp_iov iov[16];
        size_t got = 0;
        int n;

        n = tcp_sndbuf_reserve(&c->sndbuf, t->pool, range->len - done, iov, 16);
        for (int i = 0; i < n; i++) {
            memcpy(iov[i].data, range->data + done + got, iov[i].len);
            got += iov[i].len;
        }
        if (!got)
            return false;
        tcp_sndbuf_commit(&c->sndbuf, t->pool, got);
        done += (uint32_t)got;
    }
    return true;
}

static int restore_send(struct tcp *t, struct tcp_conn *c, const struct tcp_record_payload *p)
{
    uint32_t at = first_byte(c);

    tcp_sndbuf_init(&c->sndbuf, at, c->sndbuf.limit);
    for (uint32_t i = 0; i < p->n_send; i++) {
        const struct tcp_record_range *range = &p->send[i];
        uint32_t skip = at - range->seq;

        if (seq_leq(range->seq + range->len, at))
            continue;
        if (seq_gt(range->seq, at))
            return -EINVAL;
        if (!append_send(t, c, range, skip))
            return -ENOMEM;
        at = range->seq + range->len;
    }
    return at == c->write_seq ? 0 : -EINVAL;
}

/* What is unsent is one cell: where it was cut, and ends of records (MSG_EOR), are forgotten. */
static bool restore_cells(struct tcp_conn *c)
{
    uint32_t next = seq_min(c->snd_nxt == c->iss ? c->iss + 1 : c->snd_nxt, c->write_seq);

    tcp_writeq_init(&c->writeq, next);
    return next == c->write_seq || tcp_writeq_push(&c->writeq, c->write_seq, TCP_CELL_PSH);
}

static bool push(struct tcp_conn *c, uint32_t len, unsigned flags)
{
    return tcp_sndq_prepare(&c->sndq) &&
           tcp_sndq_push(&c->sndq, len, c->mss ? c->mss : 1, flags | TCP_DESC_EVER_RETRANS, 0) != NULL;
}

/* [snd_una, snd_nxt) as sent once, at a time that nobody knows: no RTT, RACK or rate sample comes from it. */
static bool restore_descriptors(struct tcp *t, struct tcp_conn *c)
{
    uint32_t most = c->mss ? DESC_BYTES_MAX / c->mss * c->mss : DESC_BYTES_MAX;
    uint32_t at = c->snd_una;

    tcp_sndq_init(&c->sndq, &t->descs, at);
    if (at == c->iss && c->snd_nxt != c->iss) {
        if (!push(c, 0, TCP_DESC_SYN))
            return false;
        at++;
    }
    while (seq_lt(at, c->snd_nxt)) {
        uint32_t left = c->snd_nxt - at;
        bool fin = c->fin_queued && c->snd_nxt == c->write_seq + 1;
        uint32_t bytes = left - (fin ? 1u : 0u), len = bytes < most ? bytes : most;
        unsigned flags = fin && len == bytes ? TCP_DESC_FIN : 0u;

        if (!push(c, len, flags))
            return false;
        at += len + (flags ? 1u : 0u);
    }
    return true;
}

static int restore_recv(struct tcp *t, struct tcp_conn *c, const struct tcp_record_payload *p)
{
    uint32_t at = c->copied_seq, end = c->rcv_nxt - (c->fin_received ? 1u : 0u);

    for (uint32_t i = 0; i < p->n_recv; i++) {
        const struct tcp_record_range *range = &p->recv[i];
        struct tcp_seg seg = {.len = range->len, .n_slices = 1};
        struct tcp_sack_block dup;
        uint32_t skip = seq_lt(range->seq, at) ? at - range->seq : 0;

        seg.slice[0] = (struct tcp_slice){.data = range->data, .len = range->len};
        if (skip >= range->len)
            continue;
        if (range->seq + skip == at && seq_lt(at, end)) {
            if (tcp_rcvq_append(&c->rcvq, t->pool, &seg, skip, range->len - skip) != range->len - skip)
                return -ENOMEM;
            at += range->len - skip;
        } else if (seq_gt(range->seq, c->rcv_nxt)) {
            /* Lack of memory only loses what the peer will send again. */
            tcp_rcvq_insert(&c->rcvq, t->pool, range->seq, &seg, 0, range->len, &dup);
        } else {
            return -EINVAL;
        }
    }
    return at == end ? 0 : -EINVAL;
}

#define TAIL_PROBE_NS (5 * NSEC_PER_MSEC)

/*
 * What was in flight may never have left: the RTO that ran goes on, or a tail loss probe asks soon (RFC 8985 section 7.2;
 * the time since the last segment is unknown).
 */
static void restore_retrans(struct tcp *t, struct tcp_conn *c, const struct tcp_record *r, uint64_t now)
{
    uint64_t probe_at = now + (c->rtt.srtt_us >> 2) * NSEC_PER_USEC + TAIL_PROBE_NS;

    if (c->sndq.packets_out == 0 || c->timer_at[TCP_TIMER_RETRANS] == TIME_NEVER)
        return;
    if (r->rtx == TCP_RTX_RTO && r->retrans_at < c->timer_at[TCP_TIMER_RETRANS])
        tcp_timer_set(t, c, TCP_TIMER_RETRANS, time_max(r->retrans_at, now + 1));
    if (probe_at < c->timer_at[TCP_TIMER_RETRANS] && !c->retransmits && tcp_schedule_loss_probe(t, c, true, now))
        tcp_timer_set(t, c, TCP_TIMER_RETRANS, time_min(probe_at, c->timer_at[TCP_TIMER_RETRANS]));
}

static void restore_timers(struct tcp *t, struct tcp_conn *c, const struct tcp_record *r, uint64_t now)
{
    if (c->defer_connect)
        return;
    if (c->fastopen_rsk || tcp_handshaking(c)) {
        tcp_timer_set(t, c, TCP_TIMER_RETRANS, time_add(now, c->rtt.rto_us * NSEC_PER_USEC));
        c->syn_pending = c->syn_pending || c->snd_nxt == c->iss || (c->fastopen_rsk && !c->synack_sent_at);
        return;
    }
    tcp_rearm_rto(t, c, now);
    restore_retrans(t, c, r, now);
    if (c->keepalive)
        tcp_timer_set(t, c, TCP_TIMER_KEEPALIVE,
                      r->keepalive_at == TIME_NEVER ? now + 1 : time_max(r->keepalive_at, now + 1));
    if (!c->owned && c->state == TCP_STATE_FIN_WAIT2)
        tcp_timer_set(t, c, TCP_TIMER_LINGER,
                      r->linger_at == TIME_NEVER ? time_add(now, tcp_fin_time(t, c))
                                                 : time_max(r->linger_at, now + 1));
    if (c->rcv_nxt != c->rcv_wup)
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_QUICK);
}

/* Its places in the engine: counts, the listener's queue, READY. */
static void join_engine(struct tcp *t, struct tcp_conn *c, unsigned state, uint64_t now)
{
    struct tcp_listener *l = c->in_accept_queue ? tcp_listener_by_number(t, c->listener) : NULL;
    unsigned bits;

    c->in_accept_queue = l != NULL;
    if (c->fastopen_rsk) {
        struct tcp_listener *from = tcp_listener_by_number(t, c->listener);

        if (from)
            from->fastopen_qlen++;
    }
    if (l) {
        list_add_tail(&l->unaccepted, &c->listener_link);
        l->accept_queue++;
    }
    if (!c->owned && state != TCP_STATE_CLOSE) {
        c->orphan = true;
        t->orphans++;
    }
    bits = c->event_bits;
    tcp_set_state(t, c, (enum tcp_state)state, now);
    c->event_bits = bits; /* nothing happened */
    if (!bits)
        list_del(&c->event);
    if (state == TCP_STATE_CLOSE) {
        tcp_table_unhash(t, c->id);
        c->dead = !c->owned && !c->rst_pending;
    }
}

/* What follows from the numbers, once the payload is there. */
static int restore_sent(struct tcp *t, struct tcp_conn *c)
{
    return restore_descriptors(t, c) && restore_cells(c) ? 0 : -ENOMEM;
}

static void no_send_queue(struct tcp *t, struct tcp_conn *c)
{
    tcp_sndbuf_init(&c->sndbuf, c->write_seq, c->sndbuf.limit);
    tcp_sndq_init(&c->sndq, &t->descs, c->snd_nxt);
    tcp_writeq_init(&c->writeq, c->write_seq);
}

/* Nothing is under way; an ACK that is owed, or whatever else comes of it, makes it ready by itself. */
static bool is_quiet(const struct tcp_conn *c)
{
    return c->state == TCP_STATE_ESTABLISHED && !c->sndq.packets_out && !tcp_unsent_bytes(c) && !c->fin_queued &&
           !c->fin_waits && !c->probes_out && !c->rst_pending && !c->syn_pending &&
           !c->want_writable;
}

/* It lives: c is whole and in the table. */
static void begin_life(struct tcp *t, struct tcp_conn *c, const struct tcp_record *r, uint64_t now)
{
    tcp_rto_over(c, now);
    join_engine(t, c, r->state, now);
    if (c->state != TCP_STATE_CLOSE)
        restore_timers(t, c, r, now);
    if (c->state != TCP_STATE_CLOSE && (c->sndq.packets_out || tcp_unsent_bytes(c)))
        tcp_chrono_start(c, TCP_CHRONO_BUSY, now);
    if (!is_quiet(c))
        tcp_mark_ready(t, c);
}

static int restore_queues(struct tcp *t, struct tcp_conn *c, const struct tcp_record_payload *payload,
                          unsigned state)
{
    int r = restore_recv(t, c, payload);

    if (state == TCP_STATE_CLOSE) {
        no_send_queue(t, c);
        return r;
    }
    if (r == 0)
        r = restore_send(t, c, payload);
    return r ? r : restore_sent(t, c);
}

int tcp_record_restore(struct tcp *t, const struct tcp_record *r, const struct tcp_record_payload *payload,
                       uint64_t now)
{
    struct tcp_conn *c;
    int error;

    if (tcp_record_check(r) || !cc_find(r->cc_name))
        return -EINVAL;
    if (t->n_conns >= t->params.max_conns)
        return -ENFILE;
    c = tcp_conn_new(t, now);
    if (!c)
        return -ENOMEM;
    tcp_record_load(c, r);
    c->state = TCP_STATE_CLOSE; /* until it is whole */
    error = take_keys(t, c) ? restore_queues(t, c, payload, r->state) : -EINVAL;
    if (!error && !tcp_table_restore(t, r->id, TCP_KIND_CONN, c, &c->tuple))
        error = -EADDRINUSE;
    if (error) {
        c->id = 0;
        tcp_conn_free(t, c);
        return error;
    }
    begin_life(t, c, r, now);
    tcp_mark_dirty(t, c);
    tcp_conn_reap(t, c);
    return 0;
}

/* ---- a whole engine ---------------------------------------------------------------------------------------------- */

struct found {
    struct chunk_note note;
    uint32_t index; /* of the note */
};

/* Notes by the slot of their owner's id, modulo the number of chains: of index + 1. */
struct finder {
    uint32_t layout; /* of records */
    uint32_t *first, *next;
    uint32_t chains;
    struct found *found;
    uint32_t n_found, size;
};

static bool finder_init(struct finder *f, const struct chunk_pool *pool, uint32_t at_work)
{
    uint32_t n = chunk_notes_touched(pool);

    *f = (struct finder){.layout = tcp_record_layout(), .chains = at_work ? at_work : 1};
    f->first = calloc(f->chains, sizeof *f->first);
    f->next = calloc(n ? n : 1, sizeof *f->next);
    if (!f->first || !f->next)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        struct chunk_note note;
        uint32_t chain;

        if (!chunk_note_get(pool, i, &note))
            continue;
        chain = ((uint32_t)note.owner & SLOT_MASK) % f->chains;
        f->next[i] = f->first[chain];
        f->first[chain] = i + 1;
    }
    return true;
}

static void finder_free(struct finder *f)
{
    free(f->first);
    free(f->next);
    free(f->found);
}

/* Only notes within half the sequence space of each other are compared: those of one direction of one connection. */
static int by_seq(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->note.seq == y->note.seq)
        return 0;
    return seq_lt(x->note.seq, y->note.seq) ? -1 : 1;
}

/* The notes of one direction, by sequence number. */
static int gather(struct finder *f, const struct chunk_pool *pool, tcp_id id, unsigned kind)
{
    f->n_found = 0;
    for (uint32_t at = f->first[((uint32_t)id & SLOT_MASK) % f->chains]; at; at = f->next[at - 1]) {
        struct chunk_note note;

        if (!chunk_note_get(pool, at - 1, &note) || note.owner != id || note.kind != kind)
            continue;
        if (f->n_found == f->size) {
            uint32_t size = f->size ? 2 * f->size : 256;
            struct found *more = realloc(f->found, size * sizeof *more);

            if (!more)
                return -ENOMEM;
            f->found = more;
            f->size = size;
        }
        f->found[f->n_found++] = (struct found){.note = note, .index = at - 1};
    }
    if (f->n_found > 1)
        qsort(f->found, f->n_found, sizeof *f->found, by_seq);
    return 0;
}

/* Claims the chunk of a note whose bytes from `at` to `end` are wanted; *ret_offset: of `at` in the chunk. */
static struct chunk *claim(struct tcp *t, const struct found *f, uint32_t at, uint32_t end, uint32_t *ret_offset)
{
    struct chunk *chunk = chunk_claim(t->pool, &f->note);

    if (!chunk)
        return NULL;
    *ret_offset = (uint32_t)(f->note.offset - chunk_offset(t->pool, chunk)) + (at - f->note.seq);
    chunk_note_keep(t->pool, f->index);
    if (f->note.seq + f->note.len != end)
        chunk_note_set_end(t->pool, f->index + 1, end);
    return chunk;
}

static int adopt_send(struct tcp *t, struct tcp_conn *c, struct finder *f)
{
    uint32_t at = first_byte(c), offset;
    int r = gather(f, t->pool, c->id, CHUNK_NOTE_SEND);

    tcp_sndbuf_init(&c->sndbuf, at, c->sndbuf.limit);
    for (uint32_t i = 0; r == 0 && i < f->n_found && seq_lt(at, c->write_seq); i++) {
        const struct found *k = &f->found[i];
        uint32_t end = seq_min(k->note.seq + k->note.len, c->write_seq);
        struct chunk *chunk;

        if (seq_leq(end, at))
            continue;
        if (seq_gt(k->note.seq, at))
            return -ENODATA;
        chunk = claim(t, k, at, end, &offset);
        if (!chunk)
            return -ENODATA;
        if (!tcp_sndbuf_adopt(&c->sndbuf, chunk, offset, end - at, k->index + 1)) {
            chunk_unref(t->pool, chunk);
            return -ENOMEM;
        }
        at = end;
    }
    return r ? r : at == c->write_seq ? 0 : -ENODATA;
}

static bool adopt_ooo(struct tcp *t, struct tcp_conn *c, const struct found *k, uint32_t at)
{
    uint32_t end = k->note.seq + k->note.len, offset;
    struct chunk *chunk = claim(t, k, at, end, &offset);

    if (!chunk)
        return false;
    if (tcp_rcvq_adopt_ooo(&c->rcvq, at, chunk, chunk->data + offset, end - at, k->index + 1))
        return true;
    chunk_unref(t->pool, chunk);
    return false;
}

/* In order without a hole; out of order what there is: the peer sends again what is missing. */
static int adopt_recv(struct tcp *t, struct tcp_conn *c, struct finder *f, bool ooo)
{
    uint32_t at = c->copied_seq, rcv_end = c->rcv_nxt - (c->fin_received ? 1u : 0u), offset;
    uint32_t ooo_at = c->rcv_nxt;
    int r = gather(f, t->pool, c->id, CHUNK_NOTE_RECV);

    for (uint32_t i = 0; r == 0 && i < f->n_found; i++) {
        const struct found *k = &f->found[i];
        uint32_t end = k->note.seq + k->note.len;
        struct chunk *chunk;

        if (seq_lt(at, rcv_end) && seq_gt(end, at) && seq_leq(k->note.seq, at)) {
            end = seq_min(end, rcv_end);
            chunk = claim(t, k, at, end, &offset);
            if (!chunk)
                return -ENODATA;
            if (!tcp_rcvq_adopt(&c->rcvq, chunk, chunk->data + offset, end - at, k->index + 1)) {
                chunk_unref(t->pool, chunk);
                return -ENOMEM;
            }
            at = end;
        } else if (ooo && !c->fin_received && seq_gt(k->note.seq, c->rcv_nxt) && seq_gt(end, ooo_at) &&
                   (!c->fin_waits || seq_leq(end, c->fin_seq))) {
            if (!adopt_ooo(t, c, k, seq_max(k->note.seq, ooo_at)))
                return -ENODATA;
            ooo_at = end;
        }
    }
    return r ? r : at == rcv_end ? 0 : -ENODATA;
}

/* What was moved between the last commit and the crash. True: it was read, so the window is to be told. */
static bool apply_hint(struct tcp_conn *c, const struct tcp_restore_hint *h, unsigned state)
{
    uint32_t end = c->rcv_nxt - (c->fin_received ? 1u : 0u);

    if (h->has_write && !c->fin_queued && state != TCP_STATE_CLOSE && seq_gt(h->write_seq, c->write_seq) &&
        h->write_seq - c->write_seq <= HINT_MAX)
        c->write_seq = h->write_seq;
    if (!h->has_read || !seq_gt(h->copied_seq, c->copied_seq) || !seq_leq(h->copied_seq, end))
        return false;
    c->copied_seq = h->copied_seq;
    return true;
}

static const struct tcp_restore_hint *find_hint(const struct tcp_restore_params *p, tcp_id id)
{
    uint32_t low = 0, high = p->n_hints;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (p->hints[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < p->n_hints && p->hints[low].id == id ? &p->hints[low] : NULL;
}

/* Listeners are made anew before, under other numbers. */
static void find_listener(struct tcp *t, struct tcp_conn *c)
{
    struct tcp_listener *l = c->listener ? tcp_lookup_listener(t, &c->tuple.local, c->tuple.local_port) : NULL;

    c->listener = l ? l->number : 0;
}

static int revive_queues(struct tcp *t, struct tcp_conn *c, struct finder *f, unsigned state)
{
    int r = adopt_recv(t, c, f, state != TCP_STATE_CLOSE);

    if (state == TCP_STATE_CLOSE) {
        no_send_queue(t, c);
        return r;
    }
    r = r ? r : adopt_send(t, c, f);
    return r ? r : restore_sent(t, c);
}

/*
 * Progress since the last timeout: its backoff would stay until a sample, and what is restored gives none (Karn); when the
 * loss began would stay until recovery ends, and it is forgotten.
 */
static void fresh_start(struct tcp_conn *c, unsigned state)
{
    if (c->retransmits || state == TCP_STATE_SYN_SENT || state == TCP_STATE_SYN_RECV)
        return;
    c->backoff = 0;
    c->retrans_stamp = 0;
}

/* block: of its record in the arena. */
static int revive(struct tcp *t, uint32_t block, const struct tcp_record *r, struct finder *f,
                  const struct tcp_restore_params *p, uint64_t now)
{
    const struct tcp_restore_hint *h = find_hint(p, r->id);
    struct tcp_conn *c = tcp_conn_new_at(t, block, now);
    bool read = false;
    int error;

    if (!c) {
        tcp_record_give_block(t, block);
        return -ENOMEM;
    }
    tcp_record_load(c, r);
    c->state = TCP_STATE_CLOSE; /* until it is whole */
    find_listener(t, c);
    fresh_start(c, r->state);
    if (h)
        read = apply_hint(c, h, r->state);
    error = take_keys(t, c) ? revive_queues(t, c, f, r->state) : -ENOKEY;
    if (!error && !tcp_table_place(t, r->id, TCP_KIND_CONN, c, &c->tuple, r->state != TCP_STATE_CLOSE))
        error = -EADDRINUSE;
    if (error) {
        c->id = 0;
        tcp_conn_free(t, c);
        return error;
    }
    begin_life(t, c, r, now);
    if (c->write_seq == r->write_seq && c->copied_seq == r->copied_seq)
        list_del(&c->dirty); /* its record says all that: nothing to commit */
    tcp_park_committed(t, c);
    if (read && c->state != TCP_STATE_CLOSE && !tcp_handshaking(c))
        tcp_owe_ack(t, c, TCP_CAUSE_ACK_QUICK);
    if (c->in_accept_queue)
        tcp_raise(t, c, TCP_EVENT_ACCEPT);
    tcp_conn_reap(t, c);
    return 0;
}

static const char *why_not(int error)
{
    switch (error) {
    case -ENOMEM:
        return "no memory";
    case -ENODATA:
        return "bytes of its stream are missing";
    case -EADDRINUSE:
        return "its id or its addresses are taken";
    case -ENOKEY:
        return "its TCP-MD5 key is missing";
    default:
        return "unknown congestion control";
    }
}

static void tell(const struct tcp_restore_params *p, struct tcp_restored *ret, uint32_t at, const struct tcp_record *r,
                 const char *why)
{
    if (!why) {
        ret->conns++;
        return;
    }
    ret->lost++;
    if (p->lost)
        p->lost(p->ctx, at, r, why);
}

/* One that was at work. Its block is taken or given back, whatever comes of it. */
static void restore_block(struct tcp *t, uint32_t block, struct finder *f, const struct tcp_restore_params *p,
                          struct tcp_restored *ret, uint64_t now)
{
    const struct tcp_record *r = tcp_record_published(t->params.record_arena, block);
    const char *why = r ? tcp_record_check_as(r, f->layout) : NULL;
    int error;

    if (!r || why) {
        tcp_record_give_block(t, block);
    } else if (!cc_find(r->cc_name)) {
        tcp_record_give_block(t, block);
        why = why_not(-EINVAL);
    } else {
        error = revive(t, block, r, f, p, now);
        why = error ? why_not(error) : NULL;
    }
    if (r)
        tell(p, ret, block, r, why);
    if (why)
        tcp_record_forget(t, block);
}

/* What is parked stays so, unless the shell knows of bytes, or a timer is to run. */
static bool stays_parked(const struct tcp_record *r, const struct tcp_restore_hint *h)
{
    return !r->keepalive && (!h || ((!h->has_write || h->write_seq == r->write_seq) &&
                                    (!h->has_read || h->copied_seq == r->copied_seq)));
}

/* Its cell goes when its record is published. */
static void supersede(struct tcp *t, tcp_id id)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c)
        return;
    c->celled = true;
    tcp_mark_dirty(t, c);
}

static int restore_parked(struct tcp *t, uint32_t slot, const struct tcp_record *r, struct finder *f,
                          const struct tcp_restore_params *p, uint64_t now)
{
    uint32_t block;
    int error;

    if (!cc_find(r->cc_name))
        return -EINVAL;
    if (stays_parked(r, find_hint(p, r->id)))
        return tcp_cell_place(t, slot, r) ? 0 : -EADDRINUSE;
    block = tcp_record_take_block(t);
    if (block == UINT32_MAX)
        return -ENOMEM;
    error = revive(t, block, r, f, p, now);
    if (!error)
        supersede(t, r->id);
    return error;
}

/* A record of the same connection is the newer one: it was woken. */
static void restore_cell(struct tcp *t, uint32_t slot, struct finder *f, const struct tcp_restore_params *p,
                         struct tcp_restored *ret, uint64_t now)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    struct tcp_record r;
    const char *why = tcp_cell_read(t, slot, &r);
    int error = 0;

    if (!r.id)
        return;
    if (!why && tcp_lookup_id(t, r.id, &kind) && kind == TCP_KIND_CONN) {
        tcp_cell_forget(t, slot);
        return;
    }
    if (!why && ((uint32_t)r.id & SLOT_MASK) != slot)
        why = "record in another's place";
    if (!why)
        error = restore_parked(t, slot, &r, f, p, now);
    if (error)
        why = why_not(error);
    tell(p, ret, slot, &r, why);
    if (why)
        tcp_cell_forget(t, slot);
}

/* The half-open and TIME-WAIT entries, and what follows from all of them. */
static void restore_rest(struct tcp *t, struct tcp_restored *ret)
{
    chunk_notes_restored(t->pool);
    ret->requests = tcp_requests_restore(t);
    ret->time_wait = tcp_tw_restore(t);
    tcp_table_restored(t);
    tcp_md5_sweep(t);
}

/*
 * The flight recorder looks away meanwhile: nothing happens to a connection that goes on, and a page for each would cost
 * more than the restore. Its recording begins anew when it has something to tell.
 */
int tcp_restore(struct tcp *t, const struct tcp_restore_params *p, uint64_t now, struct tcp_restored *ret)
{
    struct tcp_kept *kept = t->params.kept;
    uint32_t blocks = kept->records_touched < t->params.max_conns ? kept->records_touched : t->params.max_conns;
    uint32_t cells = kept->cells_touched < t->params.max_conns ? kept->cells_touched : t->params.max_conns;
    struct tcp_rec *rec = t->rec;
    struct finder f;

    *ret = (struct tcp_restored){0};
    t->now = now;
    if (!finder_init(&f, t->pool, blocks)) {
        finder_free(&f);
        return -ENOMEM;
    }
    t->rec = NULL;
    t->cookie_sent_at = kept->cookie_sent_at;
    for (unsigned i = 0; t->cookie_sent_at && i < 64; i++)
        list_for_each(node, &t->listeners[i]) list_entry(node, struct tcp_listener, link)->overflow_at =
            t->cookie_sent_at;
    tcp_record_blocks_touched(t, blocks);
    for (uint32_t block = 0; block < blocks; block++)
        restore_block(t, block, &f, p, ret, now);
    for (uint32_t slot = 0; slot < cells; slot++)
        restore_cell(t, slot, &f, p, ret, now);
    finder_free(&f);
    restore_rest(t, ret);
    t->rec = rec;
    return 0;
}

void tcp_record_woken(struct tcp *t, struct tcp_conn *c, const struct tcp_record *r, uint64_t now)
{
    find_listener(t, c);
    fresh_start(c, r->state);
    restore_timers(t, c, r, now);
}

int tcp_stream_at(const struct tcp *t, tcp_id id, uint32_t *ret_write_seq, uint32_t *ret_copied_seq)
{
    const struct tcp_conn *c = tcp_conn_view(t, id);

    if (!c)
        return -ENOENT;
    *ret_write_seq = c->write_seq;
    *ret_copied_seq = c->copied_seq;
    return 0;
}

void tcp_send_note(struct tcp *t, tcp_id id)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (c && chunk_pool_has_journal(t->pool))
        tcp_sndbuf_note(&c->sndbuf, t->pool, id, true);
}

