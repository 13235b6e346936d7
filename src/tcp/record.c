/*
 * tcp/record.c: the flat record: save, restore, check, dump, and the output commit (tcp_record.h says what
 * and why).
 *
 * The arena is an array of
 *
 *     struct slot { selector; record[2]; }       indexed by the slot number of the connection's id
 *
 * selector 0: nothing published; else record[selector & 1] is whole. Only tcp_commit() and tcp_record_clear()
 * store selectors, with release order; nothing else writes to the arena. Records of one turn are published
 * together, before anything that they allow leaves (the shell's order of calls).
 */
#include <stdio.h>
#include "tcp/recovery.h"
#include "tcp/tcp_record.h"

#define SLOT_MASK      0xffffffu
#define MTUP_MAX       131072u /* bytes: the largest MSS with headers, and to spare */
#define DESC_BYTES_MAX 65536u /* descriptors of restored data: so large, in multiples of mss */

struct slot {
    uint64_t selector;
    struct tcp_record record[2];
};

struct tcp_records {
    struct slot *slots;
    uint32_t layout; /* tcp_record_layout(), once */
    bool own;
};

static_assert(sizeof(struct tcp_record) % 8 == 0, "summed by words");
static_assert(sizeof((struct tcp_conn *)0)->cc_state >= TCP_RECORD_CC_STATE_BYTES,
              "all of the controller's state");
static_assert(sizeof(struct ip_tuple) == 44, "as in TCP_RECORD_FIELDS");
static_assert(CC_NAME_MAX == TCP_RECORD_CC_NAME_BYTES, "names fit");

/* ---- layout, sum, check
 * --------------------------------------------------------------------------------------- */

static uint32_t fnv(uint32_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 16777619u;
    return h;
}

uint32_t tcp_record_layout(void)
{
    uint32_t h = 2166136261u ^ TCP_RECORD_VERSION;

#define V(type, name, member) h = fnv(h, #type " " #name ";");
#define B(name, member, n)    h = fnv(h, "bytes " #n " " #name ";");
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    return h ? h : 1;
}

/* Detects a damaged arena, not an adversary: four lanes, so that it doesn't wait for itself. */
static uint64_t record_sum(const struct tcp_record *r)
{
    const uint64_t k = 0x9e3779b97f4a7c15ull;
    uint64_t lane[4] = {1, 2, 3, 4}, word;
    const char *at = (const char *)r + offsetof(struct tcp_record, id);
    size_t words = (sizeof *r - offsetof(struct tcp_record, id)) / 8;

    for (size_t i = 0; i < words; i++) {
        memcpy(&word, at + i * 8, 8);
        lane[i % 4] = (lane[i % 4] ^ word) * k;
    }
    return lane[0] ^ (lane[1] << 1 | lane[1] >> 63) ^ (lane[2] << 2 | lane[2] >> 62) ^
           (lane[3] << 3 | lane[3] >> 61);
}

static void seal(struct tcp_record *r, uint32_t layout)
{
    r->layout = layout;
    r->bytes = sizeof *r;
    r->sum = record_sum(r);
}

static uint32_t send_end(const struct tcp_record *r)
{
    return r->write_seq + (r->fin_queued ? 1u : 0u);
}

static bool state_possible(unsigned state)
{
    return state >= TCP_STATE_ESTABLISHED && state < TCP_STATE_MAX && state != TCP_STATE_LISTEN &&
           state != TCP_STATE_TIME_WAIT && state != TCP_STATE_NEW_SYN_RECV;
}

static const char *values_check(const struct tcp_record *r)
{
    if (!state_possible(r->state))
        return "state is none of a connection's";
    if (r->id == 0)
        return "no id";
    if (r->snd_wscale > TCP_MAX_WSCALE || r->rcv_wscale > TCP_MAX_WSCALE)
        return "window scale above 14";
    if (r->rst_cause >= TCP_CAUSE_MAX)
        return "unknown cause of a RST";
    if (memchr(r->cc_name, 0, sizeof r->cc_name) == NULL)
        return "name of the congestion control without an end";
    if (r->state == TCP_STATE_CLOSE)
        return NULL;
    if (!seq_leq(r->snd_una, r->snd_nxt) || !seq_leq(r->snd_nxt, send_end(r)))
        return "not snd_una <= snd_nxt <= write_seq";
    if (r->state != TCP_STATE_SYN_SENT && !seq_leq(r->copied_seq, r->rcv_nxt))
        return "not copied_seq <= rcv_nxt";
    if (r->state != TCP_STATE_SYN_SENT && r->mss == 0)
        return "mss is 0";
    if (r->mtup_search_low > MTUP_MAX || r->mtup_search_high > MTUP_MAX)
        return "no packet is as large as the path-MTU search goes";
    return NULL;
}

const char *tcp_record_check(const struct tcp_record *r)
{
    if (r->bytes != sizeof *r || r->layout != tcp_record_layout())
        return "record of another layout";
    if (r->sum != record_sum(r))
        return "sum is wrong";
    return values_check(r);
}

/* Layouts of old, newest first: how to make a present record of them. None yet: version 1 is the first. */
struct converter {
    uint32_t layout, bytes;
    int (*convert)(const void *bytes, struct tcp_record *ret);
};
static const struct converter converters[] = {{0, 0, NULL}};

int tcp_record_convert(const void *bytes, size_t n, struct tcp_record *ret)
{
    struct {
        uint32_t layout, bytes;
    } head;

    if (n < sizeof head)
        return -EINVAL;
    memcpy(&head, bytes, sizeof head);
    if (head.layout == tcp_record_layout() && head.bytes == sizeof *ret && n >= sizeof *ret) {
        memcpy(ret, bytes, sizeof *ret);
        return ret->sum == record_sum(ret) ? 0 : -EILSEQ;
    }
    for (const struct converter *v = converters; v->convert; v++) {
        if (v->layout == head.layout && v->bytes == head.bytes && n >= head.bytes)
            return v->convert(bytes, ret);
    }
    return -EINVAL;
}

/* ---- dump ---- */

static int add_number(char *text, size_t size, int at, const char *name, long long v)
{
    size_t used = (size_t)at < size ? (size_t)at : size;

    return at + snprintf(text + used, size - used, "%s%s=%lld", at ? " " : "", name, v);
}

static int add_bytes(char *text, size_t size, int at, const char *name, const uint8_t *b, size_t n)
{
    size_t used = (size_t)at < size ? (size_t)at : size;

    at += snprintf(text + used, size - used, "%s%s=", at ? " " : "", name);
    for (size_t i = 0; i < n; i++) {
        used = (size_t)at < size ? (size_t)at : size;
        at += snprintf(text + used, size - used, "%02x", b[i]);
    }
    return at;
}

int tcp_record_dump(const struct tcp_record *r, char *text, size_t size)
{
    int at = 0;

#define V(type, name, member) at = add_number(text, size, at, #name, (long long)r->name);
#define B(name, member, n)    at = add_bytes(text, size, at, #name, r->name, n);
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    return at;
}

/* ---- save
 * ----------------------------------------------------------------------------------------------------- */

static void save(const struct tcp_conn *c, struct tcp_record *r, uint32_t layout)
{
    memset(r, 0, sizeof *r);
#define V(type, name, member) r->name = (type)c->member;
#define B(name, member, n)    memcpy(r->name, &c->member, n);
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    if (c->cc)
        memcpy(r->cc_name, c->cc->name, strnlen(c->cc->name, sizeof r->cc_name - 1));
    seal(r, layout);
}

int tcp_record_save(const struct tcp *t, tcp_id id, struct tcp_record *ret)
{
    const struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c)
        return -ENOENT;
    save(c, ret, t->records->layout);
    return 0;
}

bool tcp_record_send_range(const struct tcp *t, tcp_id id, uint32_t i, struct tcp_record_range *ret)
{
    const struct tcp_conn *c = tcp_conn_by_id(t, id);
    const struct tcp_snd_piece *p;

    if (!c || i >= c->sndbuf.count)
        return false;
    p = tcp_sndbuf_piece(&c->sndbuf, i);
    *ret = (struct tcp_record_range){.seq = p->seq, .len = p->len, .data = p->chunk->data + p->offset};
    return true;
}

bool tcp_record_recv_range(const struct tcp *t, tcp_id id, uint32_t i, struct tcp_record_range *ret)
{
    const struct tcp_conn *c = tcp_conn_by_id(t, id);

    return c && tcp_rcvq_piece(&c->rcvq, i, c->copied_seq, &ret->seq, &ret->data, &ret->len);
}

/* ---- restore
 * -------------------------------------------------------------------------------------------------- */

static void load(struct tcp_conn *c, const struct tcp_record *r)
{
#define V(type, name, member) c->member = (__typeof__(c->member))r->name;
#define B(name, member, n)    memcpy(&c->member, r->name, n);
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    c->cc = cc_find(r->cc_name);
    c->timer_at[TCP_TIMER_KEEPALIVE] = TIME_NEVER;
    c->timer_at[TCP_TIMER_LINGER] = TIME_NEVER;
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
    if (c->keepalive)
        tcp_timer_set(t, c, TCP_TIMER_KEEPALIVE,
                      r->keepalive_at == TIME_NEVER ? now : time_max(r->keepalive_at, now));
    if (!c->owned && c->state == TCP_STATE_FIN_WAIT2)
        tcp_timer_set(t, c, TCP_TIMER_LINGER,
                      r->linger_at == TIME_NEVER ? time_add(now, tcp_fin_time(t, c))
                                                 : time_max(r->linger_at, now));
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

static int restore_queues(struct tcp *t, struct tcp_conn *c, const struct tcp_record_payload *payload,
                          unsigned state)
{
    int r = restore_recv(t, c, payload);

    if (state == TCP_STATE_CLOSE) {
        tcp_sndbuf_init(&c->sndbuf, c->write_seq, c->sndbuf.limit);
        tcp_sndq_init(&c->sndq, &t->descs, c->snd_nxt);
        tcp_writeq_init(&c->writeq, c->write_seq);
        return r;
    }
    if (r == 0)
        r = restore_send(t, c, payload);
    if (r == 0 && (!restore_descriptors(t, c) || !restore_cells(c)))
        r = -ENOMEM;
    return r;
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
    load(c, r);
    c->state = TCP_STATE_CLOSE; /* until it is whole */
    error = take_keys(t, c) ? restore_queues(t, c, payload, r->state) : -EINVAL;
    if (!error && !tcp_table_restore(t, r->id, TCP_KIND_CONN, c, &c->tuple))
        error = -EADDRINUSE;
    if (error) {
        c->id = 0;
        tcp_conn_free(t, c);
        return error;
    }
    tcp_rto_over(c, now);
    join_engine(t, c, r->state, now);
    if (c->state != TCP_STATE_CLOSE)
        restore_timers(t, c, r, now);
    if (c->state != TCP_STATE_CLOSE && (c->sndq.packets_out || tcp_unsent_bytes(c)))
        tcp_chrono_start(c, TCP_CHRONO_BUSY, now);
    tcp_mark_ready(t, c);
    tcp_mark_dirty(t, c);
    tcp_conn_reap(t, c);
    return 0;
}

/* ---- commit
 * --------------------------------------------------------------------------------------------------- */

size_t tcp_record_slot_bytes(void)
{
    return sizeof(struct slot);
}

int tcp_records_init(struct tcp *t)
{
    struct tcp_records *rs = calloc(1, sizeof *rs);

    if (!rs)
        return -ENOMEM;
    t->records = rs;
    rs->layout = tcp_record_layout();
    rs->own = !t->params.record_arena;
    rs->slots = rs->own ? calloc(t->params.max_conns ? t->params.max_conns : 1, sizeof *rs->slots)
                        : t->params.record_arena;
    return rs->slots ? 0 : -ENOMEM;
}

void tcp_records_destroy(struct tcp *t)
{
    if (!t->records)
        return;
    if (t->records->own)
        free(t->records->slots);
    free(t->records);
    t->records = NULL;
}

static void publish(struct slot *s, const struct tcp_conn *c, uint32_t layout)
{
    uint64_t next = s->selector + 1;

    save(c, &s->record[next & 1], layout);
    __atomic_store_n(&s->selector, next, __ATOMIC_RELEASE);
}

uint32_t tcp_commit(struct tcp *t)
{
    struct list_node *node;
    uint32_t n = 0;

    while ((node = list_pop(&t->dirty)) != NULL) {
        const struct tcp_conn *c = list_entry(node, struct tcp_conn, dirty);

        if (!c->id)
            continue;
        publish(&t->records->slots[c->id & SLOT_MASK], c, t->records->layout);
        n++;
    }
    t->counters.commits += n;
    return n;
}

void tcp_record_clear(struct tcp *t, tcp_id id)
{
    struct slot *s = &t->records->slots[id & SLOT_MASK];

    if (s->selector)
        __atomic_store_n(&s->selector, 0, __ATOMIC_RELEASE);
}

const struct tcp_record *tcp_record_published(const void *arena, uint32_t slot)
{
    const struct slot *s = (const struct slot *)arena + slot;
    uint64_t selector = __atomic_load_n(&s->selector, __ATOMIC_ACQUIRE);

    return selector ? &s->record[selector & 1] : NULL;
}
