/*
 * tcp/record.c: the flat record: save, check, dump, and the output commit (tcp_record.h says what and why;
 * restore.c reads it again).
 *
 * The arena is an array of
 *
 *     struct slot { selector; record[2]; }       indexed by the connection's working block
 *
 * and behind it the cells of parked connections (park.c). A block is a place here and nothing else; it goes from one
 * connection to the next, so that as many places are touched as connections were ever at work at once.
 *
 * selector 0: nothing published; else record[selector & 1] is whole. Only tcp_commit() and tcp_record_clear()
 * store selectors, with release order; nothing else writes to the arena. Records of one turn are published
 * together, before anything that they allow leaves (the shell's order of calls). What ends goes with the commit, too:
 * a record is cleared, a half-open entry's place and a chunk are free for others only when the turn that ended them is
 * committed, so that a crash within the turn finds all as it was at its begin.
 */
#include <stdio.h>
#include "tcp/recovery.h"
#include "tcp/tcp_record.h"

#define SLOT_MASK      0xffffffu
#define PAGE           4096u
#define CELL           0x80000000u /* in tcp_records.gone: a slot's cell, not a block's record */
#define MTUP_MAX       131072u /* bytes: the largest MSS with headers, and to spare */

struct slot {
    uint64_t selector;
    struct tcp_record record[2];
};

struct tcp_records {
    struct slot *slots;
    uint32_t layout; /* tcp_record_layout(), once */
    bool own;
    uint32_t touched; /* blocks >= touched were never used */
    uint32_t *free_blocks, n_free; /* the last one given is taken first: it is in the cache */
    /* Blocks, and cells (with CELL), whose connection is gone since the last commit: until then a crash brings it back. */
    uint32_t *gone;
    uint32_t n_gone, gone_size;
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
    const uint8_t *at = (const uint8_t *)r + offsetof(struct tcp_record, sum) + sizeof r->sum;
    enum { WORDS = (sizeof *r - offsetof(struct tcp_record, sum) - sizeof r->sum) / 8 };
    struct tcp_record_sum s;

    tcp_record_sum_begin(&s);
    for (unsigned i = 0; i < WORDS / 4; i++)
        tcp_record_sum_four(&s, at + i * 32);
    for (unsigned i = WORDS / 4 * 4; i < WORDS; i++)
        tcp_record_sum_add(&s, at + i * 8);
    return tcp_record_sum_end(&s);
}

static void seal(struct tcp_record *r, uint32_t layout)
{
    r->layout = layout;
    r->bytes = sizeof *r;
    r->sum = record_sum(r);
}

void tcp_record_seal(struct tcp_record *r)
{
    seal(r, tcp_record_layout());
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

const char *tcp_record_values(const struct tcp_record *r)
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
    return tcp_record_check_as(r, tcp_record_layout());
}

const char *tcp_record_check_as(const struct tcp_record *r, uint32_t layout)
{
    if (r->bytes != sizeof *r || r->layout != layout)
        return "record of another layout";
    if (r->sum != record_sum(r))
        return "sum is wrong";
    return tcp_record_values(r);
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

void tcp_record_fill(const struct tcp_conn *c, struct tcp_record *r)
{
    memset(r, 0, sizeof *r);
#define V(type, name, member) r->name = (type)c->member;
#define B(name, member, n)    memcpy(r->name, &c->member, n);
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    for (unsigned i = 0; c->cc && i < sizeof r->cc_name - 1 && c->cc->name[i]; i++)
        r->cc_name[i] = c->cc->name[i];
}

static void save(const struct tcp_conn *c, struct tcp_record *r, uint32_t layout)
{
    tcp_record_fill(c, r);
    seal(r, layout);
}

int tcp_record_save(const struct tcp *t, tcp_id id, struct tcp_record *ret)
{
    const struct tcp_conn *c = tcp_conn_view(t, id);

    if (!c)
        return -ENOENT;
    save(c, ret, t->records->layout);
    return 0;
}

bool tcp_record_send_range(const struct tcp *t, tcp_id id, uint32_t i, struct tcp_record_range *ret)
{
    const struct tcp_conn *c = tcp_conn_view(t, id);
    const struct tcp_snd_piece *p;

    if (!c || i >= c->sndbuf.count)
        return false;
    p = tcp_sndbuf_piece(&c->sndbuf, i);
    *ret = (struct tcp_record_range){.seq = p->seq, .len = p->len, .data = p->chunk->data + p->offset};
    return true;
}

bool tcp_record_recv_range(const struct tcp *t, tcp_id id, uint32_t i, struct tcp_record_range *ret)
{
    const struct tcp_conn *c = tcp_conn_view(t, id);

    return c && tcp_rcvq_piece(&c->rcvq, i, c->copied_seq, &ret->seq, &ret->data, &ret->len);
}

/* ---- commit
 * --------------------------------------------------------------------------------------------------- */

size_t tcp_record_slot_bytes_of(uint32_t record_bytes)
{
    return sizeof(uint64_t) + 2 * (size_t)record_bytes;
}

static size_t slots_bytes(uint32_t max_conns, uint32_t record_bytes)
{
    return (max_conns * tcp_record_slot_bytes_of(record_bytes) + PAGE - 1) / PAGE * PAGE;
}

size_t tcp_records_bytes_of(uint32_t max_conns, uint32_t record_bytes)
{
    return slots_bytes(max_conns, record_bytes) + tcp_park_bytes(max_conns);
}

size_t tcp_records_bytes(uint32_t max_conns)
{
    return tcp_records_bytes_of(max_conns, sizeof(struct tcp_record));
}

int tcp_records_init(struct tcp *t)
{
    struct tcp_records *rs = calloc(1, sizeof *rs);
    uint32_t n = t->params.max_conns ? t->params.max_conns : 1;

    if (!rs)
        return -ENOMEM;
    t->records = rs;
    rs->layout = tcp_record_layout();
    rs->own = !t->params.record_arena;
    rs->slots = rs->own ? calloc(1, tcp_records_bytes(n)) : t->params.record_arena;
    rs->free_blocks = malloc(n * sizeof *rs->free_blocks);
    if (!rs->slots || !rs->free_blocks)
        return -ENOMEM;
    return tcp_park_init(t, (uint8_t *)rs->slots + slots_bytes(n, sizeof(struct tcp_record)));
}

void tcp_records_destroy(struct tcp *t)
{
    tcp_park_destroy(t);
    if (!t->records)
        return;
    if (t->records->own)
        free(t->records->slots);
    free(t->records->free_blocks);
    free(t->records->gone);
    free(t->records);
    t->records = NULL;
}

/* ---- blocks ---- */

uint32_t tcp_record_take_block(struct tcp *t)
{
    struct tcp_records *rs = t->records;

    if (rs->n_free)
        return rs->free_blocks[--rs->n_free];
    return rs->touched < t->params.max_conns ? rs->touched++ : UINT32_MAX;
}

void tcp_record_give_block(struct tcp *t, uint32_t block)
{
    t->records->free_blocks[t->records->n_free++] = block;
}

void tcp_record_blocks_touched(struct tcp *t, uint32_t touched)
{
    t->records->touched = touched;
}

static void publish(struct slot *s, const struct tcp_conn *c, uint32_t layout)
{
    uint64_t next = s->selector + 1;

    save(c, &s->record[next & 1], layout);
    __atomic_store_n(&s->selector, next, __ATOMIC_RELEASE);
}

static void clear(struct tcp *t, uint32_t what)
{
    struct slot *s = &t->records->slots[what & ~CELL];

    if (what & CELL)
        tcp_cell_forget(t, what & ~CELL);
    else if (s->selector)
        __atomic_store_n(&s->selector, 0, __ATOMIC_RELEASE);
}

/* Where its bytes lie, before the record that says that they count. */
static void note_payload(struct tcp *t, struct tcp_conn *c)
{
    tcp_sndbuf_note(&c->sndbuf, t->pool, c->id, false);
    tcp_rcvq_note(&c->rcvq, t->pool, c->id, c->rcv_nxt - (c->fin_received ? 1u : 0u));
}

/* Nothing survives of a slot between here and publish() but what a crash would lose anyway. */
static void commit_gone(struct tcp *t)
{
    struct tcp_records *rs = t->records;

    while (rs->n_gone)
        clear(t, rs->gone[--rs->n_gone]);
}

static void commit_conn(struct tcp *t, struct tcp_conn *c, bool journal)
{
    if (journal)
        note_payload(t, c);
    if (t->params.kept && t->params.kept->records_touched <= c->block)
        t->params.kept->records_touched = c->block + 1;
    publish(&t->records->slots[c->block], c, t->records->layout);
    if (c->celled)
        tcp_cell_forget(t, (uint32_t)c->id & SLOT_MASK);
    c->celled = false;
}

void tcp_record_expect(const struct tcp *t, const struct tcp_conn *c)
{
    __builtin_prefetch(&t->records->slots[c->block].selector, 1);
}

/* The record that is written after two more; its selector was fetched when it became dirty. */
static void fetch_ahead(const struct tcp *t)
{
    const struct list_node *node = t->dirty.next;
    const struct slot *s;
    const char *to;

    for (unsigned i = 0; i < 2 && node != &t->dirty; i++)
        node = node->next;
    if (node == &t->dirty)
        return;
    s = &t->records->slots[list_entry(node, struct tcp_conn, dirty)->block];
    to = (const char *)&s->record[(s->selector + 1) & 1];
    for (size_t i = 0; i < sizeof s->record[0]; i += 64)
        __builtin_prefetch(to + i, 1);
}

uint32_t tcp_commit(struct tcp *t, uint64_t now)
{
    bool journal = chunk_pool_has_journal(t->pool);
    struct list_node *node;
    uint32_t n = 0;

    t->now = now;
    commit_gone(t);
    while ((node = list_pop(&t->dirty)) != NULL) {
        struct tcp_conn *c = list_entry(node, struct tcp_conn, dirty);

        if (!c->id)
            continue;
        fetch_ahead(t);
        commit_conn(t, c, journal);
        tcp_park_committed(t, c);
        n++;
    }
    tcp_requests_commit(t);
    tcp_md5_commit(t);
    if (t->params.kept)
        t->params.kept->cookie_sent_at = t->cookie_sent_at;
    chunk_pool_commit(t->pool);
    t->counters.commits += n;
    tcp_kept_commit(t);
    if (t->params.park_eager)
        tcp_park_all(t);
    return n;
}

/* Without memory to remember it, or in an arena of our own, at once. */
static void gone(struct tcp *t, uint32_t what)
{
    struct tcp_records *rs = t->records;

    if (!rs->own && rs->n_gone == rs->gone_size) {
        uint32_t size = rs->gone_size ? 2 * rs->gone_size : 64;
        uint32_t *more = realloc(rs->gone, size * sizeof *more);

        if (more) {
            rs->gone = more;
            rs->gone_size = size;
        }
    }
    if (!rs->own && rs->n_gone < rs->gone_size)
        rs->gone[rs->n_gone++] = what;
    else
        clear(t, what);
}

void tcp_record_clear(struct tcp *t, const struct tcp_conn *c)
{
    if (t->records->slots[c->block].selector)
        gone(t, c->block);
    if (c->celled)
        gone(t, ((uint32_t)c->id & SLOT_MASK) | CELL);
}

void tcp_record_clear_cell(struct tcp *t, uint32_t slot)
{
    gone(t, slot | CELL);
}

void tcp_record_retire(struct tcp *t, uint32_t block)
{
    if (t->records->slots[block].selector)
        gone(t, block);
    tcp_record_give_block(t, block);
}

void tcp_record_forget(struct tcp *t, uint32_t slot)
{
    clear(t, slot);
}

const struct tcp_record *tcp_record_published(const void *arena, uint32_t slot)
{
    const struct slot *s = (const struct slot *)arena + slot;
    uint64_t selector = __atomic_load_n(&s->selector, __ATOMIC_ACQUIRE);

    return selector ? &s->record[selector & 1] : NULL;
}

const void *tcp_record_published_of(const void *slot, uint32_t record_bytes)
{
    uint64_t selector;

    memcpy(&selector, slot, sizeof selector);
    return selector ? (const uint8_t *)slot + sizeof selector + (selector & 1) * record_bytes : NULL;
}

void tcp_record_put(void *arena, uint32_t slot, const struct tcp_record *r)
{
    struct slot *s = (struct slot *)arena + slot;

    s->record[0] = *r;
    __atomic_store_n(&s->selector, 2, __ATOMIC_RELEASE);
}
