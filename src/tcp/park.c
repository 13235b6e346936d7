/*
 * tcp/park.c: parked connections: what nothing happens to takes a cell instead of a working block and a record.
 *
 * A connection is parked when it has been left alone for tcp_park_after, or, where more than tcp_park_warm have working
 * blocks, when it is the one that was left alone longest (for CROWDED_NS at least). It must be established, owned and at
 * rest (at_rest()): nothing unacknowledged, unsent, unread, out of order or owed, no timer but keepalive's, no event.
 * Whoever asks for it (tcp_conn_by_id(), a segment, an ICMP error) wakes it first; tcp_conn_view() and so tcp_get_info()
 * look without waking it.
 *
 * A cell, CELL_BYTES in the record arena, by the slot of the id:
 *
 *     head | the packed record, as a restart needs it | what the working block had beyond that record
 *
 * Both parts are packed (base/pack.h): the record against a template, the record of the first connection of its kind
 * (congestion control, family, options agreed) that was ever parked in this arena; the rest against a working block made of the record and of what
 * the first one had beyond its own. So a woken block is the parked one bit for bit (links and memory apart), whatever
 * fields it has; tests park all connections after every commit and see the same segments. Only the engine that wrote the
 * rest reads it: another one, after a crash, makes the block of the record. A rest that is too long for the cell, and a
 * keepalive timer, lie in memory outside.
 *
 *     after a commit each connection is published once: in its block's record, or in its cell
 *
 * Parking publishes the cell at once, what it says being committed, and the record goes with the next commit; waking
 * leaves the cell until the record is published. Where a crash finds both, the record is the newer one.
 *
 * A crowd that turns out to be at work is let in: each connection that was parked for the crowd's sake and is woken
 * raises the limit by RAISE, each that is parked in its own time lowers it by one, down to tcp_park_warm.
 *
 * Warm ones (with a block) stand in t->warm in the order in which they were put there; warm_at says when they were
 * committed last. What isn't at rest when its time comes leaves the list and comes back with its next commit, so that an
 * idle engine asks for no wake-up.
 */
#include "base/pack.h"
#include "tcp/tcp_priv.h"
#include "tcp/tcp_record.h"

#define SLOT_MASK  0xffffffu
#define CELL_BYTES 192u
#define CROWDED    0x8000u /* with generation: parked to make room */
#define OUTSIDE    255u /* rest_bytes: the rest lies in memory of its own, as struct outside */
#define PARK_PAGE  16384u /* the templates', before the cells */
#define TEMPLATES  10u    /* of the first connection of each kind (choose_template()); further kinds share one */
#define COPIES     2u    /* one may be damaged */
#define CROWDED_NS (5 * NSEC_PER_MSEC) /* where too many are warm: left alone for so long is enough */
#define SPARES     8u   /* blocks kept for waking: lack of memory must not make a connection unreachable */
#define STEAL_MAX  64u  /* warm ones looked at for a block where there is no memory for one */
#define RAISE      32u
#define AT_ONCE    256u /* looks in one expiry; the others' come after REST_NS */
#define REST_NS    NSEC_PER_MSEC
#define LOOKS      2u    /* at the oldest warm ones, for each that joins a crowd */

struct park_cell {
    tcp_id id;           /* stored last, 0: nobody */
    uint32_t sum;        /* of the id and the packed record */
    uint16_t generation; /* of the engine that wrote the rest: its low 15 bits */
    uint8_t record_bytes, rest_bytes;
    uint8_t template;
    uint8_t data[CELL_BYTES - 17]; /* the packed record, then the rest */
};
static_assert(sizeof(struct park_cell) == CELL_BYTES && CELL_BYTES < OUTSIDE,
              "cells lie side by side, sizes fit a byte");

/* Where a cell is too small for the rest, or a keepalive timer runs; the last bytes of its data point here. */
struct outside {
    struct wheel_timer alarm; /* in tcp_park.alarms */
    tcp_id id;
    uint32_t bytes;
    uint8_t data[];
};

/* In the arena, with a record of whatever size behind it. */
struct template {
    uint64_t sum;
    uint32_t bytes; /* stored last, 0: none yet */
    uint32_t reserved;
};
static_assert(TEMPLATES * COPIES * (sizeof(struct template) + sizeof(struct tcp_record)) <= PARK_PAGE,
              "they fit before the cells");

struct tcp_park {
    uint8_t *templates;
    struct park_cell *cells;
    struct tcp_record template[TEMPLATES]; /* copies of what the arena has, where has_template */
    bool has_template[TEMPLATES];
    unsigned n_templates; /* whole or damaged */
    struct tcp_record record;   /* of the cell that is being read or written */
    const struct park_cell *found; /* whose record that is since a look-up; NULL: it has to be read */
    struct tcp_conn base;       /* made of it, and of what the first one parked had beyond its record */
    struct tcp_conn beyond;     /* that, XOR; in this engine only */
    bool has_beyond;
    uint32_t raised; /* above tcp_park_warm */
    uint64_t rest_until; /* more are due, but this expiry did its share */
    struct tcp_conn *spare[SPARES];
    unsigned n_spares;
    struct wheel alarms;        /* of those parked with a timer */
    struct tcp_conn view;       /* what tcp_conn_view() gave last */
};

/* ---- the arena ---- */

size_t tcp_park_bytes(uint32_t max_conns)
{
    return PARK_PAGE + (size_t)max_conns * CELL_BYTES;
}

static uint64_t sum_of(const void *from, size_t bytes)
{
    struct tcp_record_sum s;

    tcp_record_sum_begin(&s);
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t w = 0;

        memcpy(&w, (const uint8_t *)from + at, bytes - at < 8 ? bytes - at : 8);
        tcp_record_sum_add(&s, &w);
    }
    return tcp_record_sum_end(&s);
}

static struct template *template_at(void *park, uint32_t record_bytes, unsigned which, unsigned copy)
{
    return (void *)((uint8_t *)park + (which * COPIES + copy) * (sizeof(struct template) + record_bytes));
}

/* A whole copy of that template for records of that size, NULL: none. */
static const void *find_template(const void *park, uint32_t record_bytes, unsigned which)
{
    size_t all = TEMPLATES * COPIES * (sizeof(struct template) + record_bytes);

    for (unsigned i = 0; i < COPIES && which < TEMPLATES && all <= PARK_PAGE; i++) {
        const struct template *m = template_at((void *)(uintptr_t)park, record_bytes, which, i);

        if (__atomic_load_n(&m->bytes, __ATOMIC_ACQUIRE) == record_bytes && m->sum == sum_of(m + 1, record_bytes))
            return m + 1;
    }
    return NULL;
}

int tcp_park_init(struct tcp *t, void *arena)
{
    struct tcp_park *p = calloc(1, sizeof *p);

    if (!p)
        return -ENOMEM;
    t->park = p;
    wheel_init(&p->alarms, t->params.now);
    p->templates = arena;
    p->cells = (void *)((uint8_t *)arena + PARK_PAGE);
    for (unsigned i = 0; i < TEMPLATES; i++) {
        const void *found = find_template(arena, sizeof p->template[i], i);

        p->has_template[i] = found != NULL;
        if (found)
            memcpy(&p->template[i], found, sizeof p->template[i]);
        if (found || template_at(arena, sizeof p->template[i], i, 0)->bytes)
            p->n_templates = i + 1; /* what is damaged is not used again */
    }
    return 0;
}

/* This engine wrote the rest. */
static bool is_ours(const struct tcp *t, const struct park_cell *cell)
{
    return ((cell->generation ^ t->params.generation) & (CROWDED - 1)) == 0;
}

static struct outside *outside_of(const struct park_cell *cell)
{
    struct outside *o;

    memcpy(&o, cell->data + sizeof cell->data - sizeof o, sizeof o);
    return o;
}

/* What it points at is another engine's, or freed, from now on. */
static void forget_outside(struct tcp *t, struct park_cell *cell)
{
    struct outside *o = cell->rest_bytes == OUTSIDE ? outside_of(cell) : NULL;

    if (o && is_ours(t, cell)) {
        wheel_disarm(&t->park->alarms, &o->alarm);
        free(o);
    }
    if (o)
        cell->rest_bytes = 0;
    cell->generation = (uint16_t)((t->params.generation - 1) & ~CROWDED);
}

void tcp_park_destroy(struct tcp *t)
{
    for (uint32_t slot = 0; t->table && slot < tcp_table_slots(t); slot++) {
        enum tcp_kind kind;
        tcp_id id;
        void *cell = tcp_table_at(t, slot, &kind, &id);

        if (cell && kind == TCP_KIND_PARKED)
            forget_outside(t, cell);
    }
    while (t->park && t->park->n_spares)
        free(t->park->spare[--t->park->n_spares]);
    free(t->park);
    t->park = NULL;
}

/* Once in an arena's life: it says what cells mean. */
static void make_template(struct tcp_park *p, const struct tcp_record *r)
{
    unsigned which = p->n_templates++;

    p->template[which] = *r;
    p->has_template[which] = true;
    for (unsigned i = 0; i < COPIES; i++) {
        struct template *m = template_at(p->templates, sizeof *r, which, i);

        memcpy(m + 1, r, sizeof *r);
        m->sum = sum_of(m + 1, sizeof *r);
        __atomic_store_n(&m->bytes, (uint32_t)sizeof *r, __ATOMIC_RELEASE);
    }
}

/* ---- a cell ---- */

static struct park_cell *cell_of(const struct tcp *t, tcp_id id)
{
    return &t->park->cells[(uint32_t)id & SLOT_MASK];
}

static uint32_t cell_sum(const struct park_cell *cell, tcp_id id)
{
    uint64_t sum = sum_of(cell->data, cell->record_bytes) ^ id ^ (uint64_t)cell->record_bytes << 56 ^
                   (uint64_t)cell->template << 48;

    return (uint32_t)(sum ^ sum >> 32);
}

/* The record in a cell, of `bytes`, whose template is `like`, without a seal; NULL, or why it can't be read. */
static const char *read_record(const struct park_cell *cell, const void *like, void *ret, size_t bytes)
{
    if (cell->record_bytes > sizeof cell->data || cell->sum != cell_sum(cell, cell->id))
        return "sum is wrong";
    if (!like)
        return "what parked connections have in common is damaged";
    return unpack(cell->data, cell->record_bytes, like, ret, bytes) ? "its packing is damaged" : NULL;
}

static const char *read_own(const struct tcp *t, const struct park_cell *cell, struct tcp_record *ret)
{
    struct tcp_park *p = t->park;
    bool there = cell->template < TEMPLATES && p->has_template[cell->template];

    p->found = NULL;
    return read_record(cell, there ? &p->template[cell->template] : NULL, ret, sizeof *ret);
}

bool tcp_cell_is(const struct tcp *t, const void *cell, const struct ip_tuple *tuple)
{
    struct tcp_park *p = t->park;
    bool same = !read_own(t, cell, &p->record) && !memcmp(p->record.tuple, tuple, sizeof *tuple);
    if (same)
        p->found = cell;
    return same;
}

void tcp_cell_forget(struct tcp *t, uint32_t slot)
{
    __atomic_store_n(&t->park->cells[slot].id, 0, __ATOMIC_RELEASE);
}

int tcp_record_parked_of(const void *arena, uint32_t max_conns, uint32_t slot, uint32_t record_bytes, void *ret)
{
    size_t all = tcp_records_bytes_of(max_conns, record_bytes);
    const uint8_t *park = (const uint8_t *)arena + all - tcp_park_bytes(max_conns);
    const struct park_cell *cell = (const void *)(park + PARK_PAGE + (size_t)slot * CELL_BYTES);
    size_t from = offsetof(struct tcp_record, sum) + sizeof(uint64_t);
    uint64_t sum;

    if (!__atomic_load_n(&cell->id, __ATOMIC_ACQUIRE))
        return -ENOENT;
    if (read_record(cell, find_template(park, record_bytes, cell->template), ret, record_bytes))
        return -EILSEQ;
    sum = sum_of((const uint8_t *)ret + from, record_bytes - from);
    memcpy((uint8_t *)ret + offsetof(struct tcp_record, sum), &sum, sizeof sum);
    return 0;
}

/* ---- what a connection is beyond its record ---- */

/* Links and what belongs to a block, not to its connection: the same for all of them. */
static void blank_links(struct tcp_conn *c)
{
    struct list_node none = {NULL, NULL};

    c->ready = c->event = c->dirty = c->warm = c->listener_link = c->sndq.tsorted = none;
    memset(&c->timer, 0, sizeof c->timer);
    c->sndq.slab = NULL;
    c->block = 0;
    c->celled = false;
    c->warm_at = c->warm_due = 0;
}

static void make_links(struct tcp *t, struct tcp_conn *c)
{
    tcp_conn_init_links(c);
    list_init(&c->sndq.tsorted);
    c->sndq.slab = &t->descs;
}

/* A block made of the record alone: what the rest is told against, and where a restart begins. Without links. */
static void make_base(const struct tcp_record *r, struct tcp_conn *ret)
{
    memset(ret, 0, sizeof *ret);
    tcp_ackowed_init(&ret->ackowed);
    tcp_record_load(ret, r);
    for (unsigned i = 0; i < TCP_TIMER_MAX; i++)
        ret->timer_at[i] = TIME_NEVER;
    ret->fastopen_cookie.bytes = -1;
    tcp_sndbuf_init(&ret->sndbuf, ret->write_seq, ret->sndbuf.limit);
    tcp_sndq_init(&ret->sndq, NULL, ret->snd_nxt);
    tcp_writeq_init(&ret->writeq, ret->write_seq);
    blank_links(ret);
}

/* What this engine tells the rest against. */
static void make_like(struct tcp_park *p)
{
    uint64_t *to = (void *)&p->base;
    const uint64_t *with = (const void *)&p->beyond;

    make_base(&p->record, &p->base);
    for (size_t i = 0; i < sizeof p->base / sizeof *to; i++)
        to[i] ^= with[i];
}

/* The rest, if this engine wrote it. */
static bool read_rest(const struct tcp *t, const struct park_cell *cell, struct tcp_conn *ret)
{
    const struct outside *o = cell->rest_bytes == OUTSIDE ? outside_of(cell) : NULL;
    const uint8_t *from = o ? o->data : cell->data + cell->record_bytes;

    return unpack(from, o ? o->bytes : cell->rest_bytes, &t->park->base, ret, sizeof *ret) == 0;
}

/* The block as it was, without links. False: another engine wrote that; *ret is made of the record alone. */
static bool read_block(const struct tcp *t, const struct park_cell *cell, struct tcp_conn *ret)
{
    struct tcp_park *p = t->park;

    if (is_ours(t, cell)) {
        make_like(p);
        if (read_rest(t, cell, ret))
            return true;
    }
    make_base(&p->record, ret);
    return false;
}

/* Rings that hold nothing. */
static void give_memory_back(struct tcp_conn *c)
{
    free(c->sndbuf.ring);
    c->sndbuf.ring = NULL;
    c->sndbuf.cap = c->sndbuf.head = 0;
    free(c->sndq.ring);
    c->sndq.ring = NULL;
    c->sndq.cap = c->sndq.head = 0;
    free(c->writeq.ring);
    c->writeq.ring = NULL;
    c->writeq.cap = c->writeq.head = 0;
    free(c->rcvq.ring);
    c->rcvq.ring = NULL;
    c->rcvq.ring_size = c->rcvq.head = 0;
    free(c->rcvq.range);
    c->rcvq.range = NULL;
    c->rcvq.range_size = 0;
    free(c->ackowed.fact);
    c->ackowed.fact = NULL;
    c->ackowed.fact_size = c->ackowed.fact_head = 0;
}

/* ---- parking ---- */

static bool queues_empty(const struct tcp_conn *c)
{
    return !c->sndbuf.count && !c->sndbuf.reserved && !c->sndq.count && !c->writeq.count && !c->rcvq.count &&
           !c->rcvq.n_ranges && !c->ackowed.fact_count && !c->ackowed.pending;
}

/* Keepalive's has an alarm meanwhile. */
static bool no_timer(const struct tcp_conn *c)
{
    for (unsigned i = 0; i < TCP_TIMER_MAX; i++)
        if (i != TCP_TIMER_KEEPALIVE && c->timer_at[i] != TIME_NEVER)
            return false;
    return !c->probes_out;
}

static bool has_key(const struct tcp_conn *c)
{
    for (unsigned i = 0; i < TCP_MD5_KEYS_CONN; i++)
        if (c->md5_key[i])
            return true;
    return false;
}

static bool unlisted(const struct tcp_conn *c)
{
    return !list_linked(&c->ready) && !list_linked(&c->event) && !list_linked(&c->dirty) &&
           !list_linked(&c->listener_link);
}

/* Nothing will happen to it by itself, and what is published of it is all that matters. Keys are counted by blocks. */
static bool at_rest(const struct tcp_conn *c)
{
    return c->state == TCP_STATE_ESTABLISHED && c->owned && !c->in_accept_queue && !c->suspended && !c->celled &&
           !c->event_bits && !c->error && !c->shutdown && !c->fin_queued && !c->fin_waits && !c->fin_received &&
           !c->rst_pending && !c->syn_pending && !c->probe_pending && !c->tlp_pending && !c->fastopen_rsk &&
           !has_key(c) && queues_empty(c) && no_timer(c) && unlisted(c);
}

/* How much two records' connections are of one kind: what they differ in costs most. 4: in nothing of that. */
static unsigned likeness(const struct tcp_record *x, const struct tcp_record *y)
{
    const struct ip_tuple *a = (const void *)x->tuple, *b = (const void *)y->tuple;

    return (unsigned)(!memcmp(x->cc_name, y->cc_name, sizeof x->cc_name)) + (a->local.family == b->local.family) +
           (x->ts_ok == y->ts_ok) + (x->wscale_ok == y->wscale_ok);
}

/* Of a connection of the same kind; made, if there is room for one more, else the likest. */
static uint8_t choose_template(struct tcp_park *p)
{
    unsigned best = 0, most = 0;

    for (unsigned i = 0; i < p->n_templates && most < 5; i++) {
        unsigned like = p->has_template[i] ? 1 + likeness(&p->template[i], &p->record) : 0;

        if (like > most) {
            best = i;
            most = like;
        }
    }
    if (most < 5 && p->n_templates < TEMPLATES) {
        make_template(p, &p->record);
        return (uint8_t)(p->n_templates - 1);
    }
    return (uint8_t)best;
}

/* Once: what most will have beyond their records. */
static void note_beyond(struct tcp_park *p, const struct tcp_conn *c)
{
    uint64_t *to = (void *)&p->beyond;
    const uint64_t *is = (const void *)c, *with = (const void *)&p->base;

    make_base(&p->record, &p->base);
    for (size_t i = 0; i < sizeof p->beyond / sizeof *to; i++)
        to[i] = is[i] ^ with[i];
    p->has_beyond = true;
}

static bool put_outside(struct tcp_park *p, struct park_cell *cell, const struct tcp_conn *c)
{
    uint8_t large[2 * sizeof *c];
    size_t n = pack(c, &p->base, sizeof *c, large, sizeof large), left = sizeof cell->data - cell->record_bytes;
    struct outside *o = left < sizeof o ? NULL : malloc(sizeof *o + n);

    if (!o)
        return false;
    wheel_timer_init(&o->alarm);
    wheel_arm(&p->alarms, &o->alarm, c->timer_at[TCP_TIMER_KEEPALIVE]);
    o->id = c->id;
    o->bytes = (uint32_t)n;
    memcpy(o->data, large, n);
    memcpy(cell->data + sizeof cell->data - sizeof o, &o, sizeof o);
    cell->rest_bytes = OUTSIDE;
    return true;
}

/* Behind the record, or outside. */
static bool put_rest(struct tcp_park *p, struct park_cell *cell, const struct tcp_conn *c)
{
    size_t n;

    if (c->timer_at[TCP_TIMER_KEEPALIVE] != TIME_NEVER)
        return put_outside(p, cell, c);
    n = pack(c, &p->base, sizeof *c, cell->data + cell->record_bytes, sizeof cell->data - cell->record_bytes);
    cell->rest_bytes = (uint8_t)n;
    return n != SIZE_MAX || put_outside(p, cell, c);
}

/* Fills the cell but for its id. False: it has no room for that, or there is no memory. */
static bool fill_cell(struct tcp *t, struct park_cell *cell, const struct tcp_conn *c)
{
    struct tcp_park *p = t->park;
    size_t n;

    p->found = NULL;
    tcp_record_fill(c, &p->record);
    if (!p->has_beyond)
        note_beyond(p, c);
    cell->template = choose_template(p);
    if (!p->has_template[cell->template])
        return false;
    n = pack(&p->record, &p->template[cell->template], sizeof p->record, cell->data, sizeof cell->data);
    if (n == SIZE_MAX)
        return false;
    make_like(p);
    cell->record_bytes = (uint8_t)n;
    if (!put_rest(p, cell, c))
        return false;
    cell->generation = (uint16_t)(t->params.generation & (CROWDED - 1));
    cell->sum = cell_sum(cell, c->id);
    return true;
}

/* What will be woken is what is parked. */
static void check_cell(const struct tcp *t, const struct park_cell *cell, const struct tcp_conn *c)
{
    struct tcp_park *p = t->park;

    if (!t->params.check)
        return;
    (void)unpack(cell->data, cell->record_bytes, &p->template[cell->template], &p->record, sizeof p->record);
    (void)read_block(t, cell, &p->view);
    assert(memcmp(&p->view, c, sizeof *c) == 0);
}

static void publish_cell(struct tcp *t, struct park_cell *cell, tcp_id id)
{
    uint32_t slot = (uint32_t)id & SLOT_MASK;

    if (t->params.kept && t->params.kept->cells_touched <= slot)
        t->params.kept->cells_touched = slot + 1;
    __atomic_store_n(&cell->id, id, __ATOMIC_RELEASE);
    tcp_table_rebind(t, id, TCP_KIND_PARKED, cell);
}

/* c, at rest and in no list, is gone afterwards. False: it stays. */
static bool park(struct tcp *t, struct tcp_conn *c, bool crowded)
{
    struct park_cell *cell = cell_of(t, c->id);
    struct tcp_park *p = t->park;
    uint32_t block = c->block;

    wheel_disarm(&t->wheel, &c->timer);
    give_memory_back(c);
    blank_links(c);
    if (!fill_cell(t, cell, c)) {
        t->counters.park_no_room++;
        make_links(t, c);
        wheel_arm(&t->wheel, &c->timer, c->timer_at[TCP_TIMER_KEEPALIVE]);
        c->block = block;
        return false;
    }
    check_cell(t, cell, c);
    if (crowded)
        cell->generation |= CROWDED;
    else if (p->raised)
        p->raised--;
    publish_cell(t, cell, c->id);
    tcp_record_retire(t, block);
    tcp_rec_parked(t, c);
    t->n_parked++;
    t->counters.parked++;
    if (p->n_spares < SPARES)
        p->spare[p->n_spares++] = c;
    else
        free(c);
    return true;
}

static void leave_warm(struct tcp *t, struct tcp_conn *c)
{
    if (!list_linked(&c->warm))
        return;
    list_del(&c->warm);
    t->n_warm--;
}

static void join_warm(struct tcp *t, struct tcp_conn *c)
{
    c->warm_due = time_add(t->now, (uint32_t)t->config->tcp_park_after * NSEC_PER_MSEC);
    list_add_tail(&t->warm, &c->warm);
    t->n_warm++;
}

/* The oldest warm one: parked if it was left alone for `quiet_ns`, else put behind the others, or off the list. */
static void look_at_oldest(struct tcp *t, uint64_t quiet_ns, bool crowded)
{
    struct tcp_conn *c = list_entry(list_first(&t->warm), struct tcp_conn, warm);

    leave_warm(t, c);
    if (!t->config->tcp_park_after)
        return;
    if (quiet_ns && time_add(c->warm_at, quiet_ns) > t->now)
        join_warm(t, c);
    else if (at_rest(c))
        (void)park(t, c, crowded);
}

/* Memory for a block; where there is none another one that is at rest gives its own. NULL: none. */
static struct tcp_conn *take_block(struct tcp *t)
{
    struct tcp_park *p = t->park;
    struct tcp_conn *c = malloc(sizeof *c);

    for (unsigned i = 0; !c && !p->n_spares && i < STEAL_MAX && t->n_warm; i++)
        look_at_oldest(t, 1, false);
    return c || !p->n_spares ? c : p->spare[--p->n_spares];
}

struct tcp_conn *tcp_wake(struct tcp *t, void *parked)
{
    struct park_cell *cell = parked;
    struct tcp_record *r = &t->park->record;
    struct tcp_conn *c = take_block(t);
    uint32_t block;
    bool whole;

    if (!c || (t->park->found != cell && read_own(t, cell, r))) {
        free(c);
        return NULL;
    }
    t->park->found = NULL;
    block = tcp_record_take_block(t); /* there are as many as connections */
    whole = read_block(t, cell, c);
    if (whole && (cell->generation & CROWDED) && t->park->raised < t->params.max_conns)
        t->park->raised += RAISE;
    forget_outside(t, cell);
    make_links(t, c);
    if (whole && c->timer_at[TCP_TIMER_KEEPALIVE] != TIME_NEVER)
        wheel_arm(&t->wheel, &c->timer, c->timer_at[TCP_TIMER_KEEPALIVE]);
    c->block = block;
    c->celled = true;
    tcp_table_rebind(t, c->id, TCP_KIND_CONN, c);
    if (!whole)
        tcp_record_woken(t, c, r, t->now);
    tcp_mark_dirty(t, c);
    t->n_parked--;
    t->counters.woken++;
    return c;
}

bool tcp_park_abandon(struct tcp *t, tcp_id id)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    struct park_cell *cell = tcp_lookup_id(t, id, &kind);
    const struct tcp_record *r = &t->park->record;
    struct ip_tuple tuple;
    struct tcp_seg seg;

    if (!cell || kind != TCP_KIND_PARKED)
        return false;
    if (!read_own(t, cell, &t->park->record)) { /* as if the peer's next segment had come */
        memcpy(&tuple, r->tuple, sizeof tuple);
        seg = (struct tcp_seg){.src = tuple.remote, .dst = tuple.local, .src_port = tuple.remote_port,
                               .dst_port = tuple.local_port, .seq = r->rcv_nxt, .ack = r->snd_nxt, .flags = TCP_ACK};
        tcp_reply_rst(t, &seg, TCP_CAUSE_RST_ABORT);
    }
    forget_outside(t, cell);
    tcp_record_clear_cell(t, (uint32_t)id & SLOT_MASK);
    tcp_table_leave(t, id);
    t->n_conns--;
    t->n_established--;
    t->n_parked--;
    t->counters.abort_on_memory++;
    t->counters.estab_resets++;
    return true;
}

void *tcp_wake_entry(struct tcp *t, void *parked, enum tcp_kind *inout_kind)
{
    struct tcp_conn *c = tcp_wake(t, parked);

    if (!c)
        return parked;
    *inout_kind = TCP_KIND_CONN;
    return c;
}

const struct tcp_conn *tcp_view(const struct tcp *t, const void *parked)
{
    struct tcp_park *p = t->park;

    if (read_own(t, parked, &p->record))
        return NULL;
    (void)read_block(t, parked, &p->view);
    make_links((struct tcp *)t, &p->view);
    p->view.timer.at = p->view.timer_at[TCP_TIMER_KEEPALIVE]; /* the alarm's */
    return &p->view;
}

const struct tcp_conn *tcp_conn_view(const struct tcp *t, tcp_id id)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    const void *entry = tcp_lookup_id(t, id, &kind);

    if (!entry || (kind != TCP_KIND_CONN && kind != TCP_KIND_PARKED))
        return NULL;
    return kind == TCP_KIND_CONN ? entry : tcp_view(t, entry);
}

bool tcp_is_parked(const struct tcp *t, tcp_id id)
{
    enum tcp_kind kind = TCP_KIND_FREE;

    return tcp_lookup_id(t, id, &kind) && kind == TCP_KIND_PARKED;
}

/* ---- who is warm ---- */

void tcp_park_leave(struct tcp *t, struct tcp_conn *c)
{
    leave_warm(t, c);
}

void tcp_park_committed(struct tcp *t, struct tcp_conn *c)
{
    c->warm_at = t->now;
    if (list_linked(&c->warm) || !t->config->tcp_park_after)
        return;
    join_warm(t, c);
    for (unsigned i = 0; i < LOOKS && t->n_warm > (uint32_t)t->config->tcp_park_warm + t->park->raised &&
                         !t->params.park_eager; i++)
        look_at_oldest(t, CROWDED_NS, true);
}

void tcp_park_all(struct tcp *t)
{
    while (t->n_warm)
        look_at_oldest(t, 0, false);
}

void tcp_park_expire(struct tcp *t)
{
    struct wheel_timer *alarm;

    while ((alarm = wheel_expire(&t->park->alarms, t->now)) != NULL) {
        struct tcp_conn *c = tcp_conn_by_id(t, list_entry(alarm, struct outside, alarm)->id);

        if (c)
            tcp_conn_expire(t, c, t->now);
        else /* no memory to wake it */
            wheel_arm(&t->park->alarms, alarm, time_add(t->now, NSEC_PER_SEC));
    }
    t->park->rest_until = 0;
    for (unsigned i = 0; t->n_warm && list_entry(list_first(&t->warm), struct tcp_conn, warm)->warm_due <= t->now; i++) {
        if (i == AT_ONCE) { /* all that a restart brought back are due together */
            t->park->rest_until = t->now + REST_NS;
            break;
        }
        look_at_oldest(t, (uint32_t)t->config->tcp_park_after * NSEC_PER_MSEC, false);
    }
}

uint64_t tcp_park_deadline(const struct tcp *t)
{
    uint64_t alarm = wheel_deadline(&t->park->alarms), due;

    if (!t->n_warm)
        return alarm;
    due = list_entry(list_first(&t->warm), struct tcp_conn, warm)->warm_due;
    return time_min(alarm, time_max(due, t->park->rest_until));
}

/* ---- after a crash ---- */

const char *tcp_cell_read(const struct tcp *t, uint32_t slot, struct tcp_record *ret)
{
    const struct park_cell *cell = &t->park->cells[slot];
    const char *why;

    memset(ret, 0, sizeof *ret);
    ret->id = __atomic_load_n(&cell->id, __ATOMIC_ACQUIRE);
    if (!ret->id)
        return NULL;
    why = read_own(t, cell, ret);
    if (!why && ret->id != cell->id)
        why = "record in another's cell";
    if (!why && (ret->state != TCP_STATE_ESTABLISHED || !ret->owned || ret->in_accept_queue || ret->md5_key[0]))
        why = "no such connection is ever parked";
    return why ? why : tcp_record_values(ret);
}

bool tcp_cell_place(struct tcp *t, uint32_t slot, const struct tcp_record *r)
{
    struct park_cell *cell = &t->park->cells[slot];
    struct ip_tuple tuple;

    memcpy(&tuple, r->tuple, sizeof tuple);
    if (!tcp_table_place(t, r->id, TCP_KIND_PARKED, cell, &tuple, true))
        return false;
    cell->rest_bytes = 0; /* what it says of the rest no sum covers, and another engine wrote it */
    cell->generation = (uint16_t)((t->params.generation - 1) & (CROWDED - 1));
    t->n_conns++;
    t->n_established++;
    t->n_parked++;
    return true;
}
