/*
 * tcp/table.c: who is who: slots and ids, the hash over tuples, listeners.
 *
 * Connections, half-open and TIME-WAIT entries share one array of slots; an id names a slot and which use of
 * it. Freed slots are used again in the order in which they were freed, so that an old id stays stale as long
 * as possible, and before slots that were never touched, so that untouched memory stays untouched.
 *
 * One open hash (chains of slot numbers, SipHash under secrets.hash) finds entries by tuple. It doubles when
 * there are more entries than chains, and moves a few chains with every change afterwards: no call pays for
 * all of them.
 *
 *     chain of h = old[h & old_mask]        if a move is under way and h & old_mask >= moved
 *                  chains[h & mask]         else
 *
 * Only this file touches slots and chains. It frees no entry: their makers do.
 */
#include "tcp/tcp_priv.h"

#define SLOT_BITS        24
#define SLOTS_MAX        (1u << SLOT_BITS)
#define USE_BITS         20
#define USE_MASK         ((1u << USE_BITS) - 1)
#define FIRST_CHAINS_MAX 1024u
#define MOVE_PER_CHANGE  4u

/*
 * The tuple is the entry's own, which begins with it (connections: TCP_ENTRY; a parked one's is packed) or has it behind
 * itself, in short form: a slot is three words, many of them share a cache line, and a look-up touches the entry that it is
 * about to use anyway.
 */
struct tcp_slot {
    void *entry;
    uint32_t hash;       /* its low bits name the chain */
    uint32_t next;       /* chain while hashed, free list while free: slot + 1, 0 ends it */
    uint32_t generation; /* of its id: 12 bits of the engine's, 20 of uses (never 0 once used) */
    uint8_t kind;        /* enum tcp_kind */
    bool hashed;
    bool v6;             /* its tuple */
};

struct tcp_table {
    struct tcp_slot *slots;
    uint32_t n_slots, touched;      /* slots >= touched were never used */
    uint32_t free_first, free_last; /* slot + 1 */
    uint32_t *chains, *old;
    uint32_t mask, old_mask, moved;
    uint32_t hashed;
    uint32_t found; /* slot + 1 of the last look-up, 0: none; only tells where to look first */
};

static_assert(sizeof(struct ip_tuple) == 44, "a tuple is hashed as bytes and has no padding");
static_assert(sizeof(struct tcp_slot) == 24, "a slot is small");
TCP_ENTRY(struct tcp_conn);


static uint32_t power_of_two(uint32_t at_least)
{
    uint32_t n = 16;

    while (n < at_least)
        n *= 2;
    return n;
}

int tcp_table_init(struct tcp *t)
{
    struct tcp_table *b = calloc(1, sizeof *b);
    uint32_t n = t->params.max_conns < SLOTS_MAX ? t->params.max_conns : SLOTS_MAX;
    uint32_t first = FIRST_CHAINS_MAX, chains;

    if (!b)
        return -ENOMEM;
    /* So many will be restored: growing would move each several times. */
    if (t->params.kept && t->params.kept->records_touched + t->params.kept->cells_touched > first)
        first = t->params.kept->records_touched + t->params.kept->cells_touched;
    chains = power_of_two(n < first ? n : first);
    t->table = b;
    b->n_slots = n ? n : 1;
    b->mask = chains - 1;
    b->slots = calloc(b->n_slots, sizeof *b->slots);
    b->chains = calloc(chains, sizeof *b->chains);
    return b->slots && b->chains ? 0 : -ENOMEM;
}

void tcp_table_destroy(struct tcp *t)
{
    if (!t->table)
        return;
    free(t->table->slots);
    free(t->table->chains);
    free(t->table->old);
    free(t->table);
    t->table = NULL;
}

/* ---- ids ---- */

static tcp_id slot_id(const struct tcp *t, uint32_t slot)
{
    return (uint64_t)t->table->slots[slot].generation << 32 | (uint32_t)t->params.worker << SLOT_BITS | slot;
}

/* The slot of a current id, or NULL. What was restored keeps the generation of the engine that made it. */
static struct tcp_slot *slot_of(const struct tcp *t, tcp_id id)
{
    uint32_t slot = (uint32_t)id & (SLOTS_MAX - 1);

    if (slot >= t->table->touched || !t->table->slots[slot].entry || slot_id(t, slot) != id)
        return NULL;
    return &t->table->slots[slot];
}

void *tcp_lookup_id(const struct tcp *t, tcp_id id, enum tcp_kind *ret_kind)
{
    struct tcp_slot *s = slot_of(t, id);

    if (!s)
        return NULL;
    *ret_kind = (enum tcp_kind)s->kind;
    return s->entry;
}

struct tcp_conn *tcp_conn_by_id(const struct tcp *t, tcp_id id)
{
    struct tcp_slot *s = slot_of(t, id);

    if (!s)
        return NULL;
    if (s->kind == TCP_KIND_PARKED)
        return tcp_wake((struct tcp *)t, s->entry); /* the same connection in another place: for its caller nothing changed */
    return s->kind == TCP_KIND_CONN ? s->entry : NULL;
}

void *tcp_table_at(const struct tcp *t, uint32_t slot, enum tcp_kind *ret_kind, tcp_id *ret_id)
{
    const struct tcp_slot *s = &t->table->slots[slot];

    if (slot >= t->table->touched || !s->entry)
        return NULL;
    *ret_kind = (enum tcp_kind)s->kind;
    *ret_id = slot_id(t, slot);
    return s->entry;
}

uint32_t tcp_table_slots(const struct tcp *t)
{
    return t->table->touched;
}

/* ---- the hash ---- */

/*
 * By words, inline: memcmp() would be called. By words within fields: a tuple has often just been put together, and a
 * load that spans two stores waits until both have left the store buffer.
 */
static uint64_t address_differs(const struct ip_addr *a, const struct ip_addr *b)
{
    struct {
        uint64_t low, high;
        uint32_t rest;
    } x, y;

    static_assert(sizeof *a == 20, "two words and a half");
    memcpy(&x, a, sizeof *a);
    memcpy(&y, b, sizeof *b);
    return (x.low ^ y.low) | (x.high ^ y.high) | (x.rest ^ y.rest);
}

static bool same_tuple(const struct ip_tuple *a, const struct ip_tuple *b)
{
    return !(address_differs(&a->remote, &b->remote) | address_differs(&a->local, &b->local) |
             (uint32_t)(a->local_port ^ b->local_port) | (uint32_t)(a->remote_port ^ b->remote_port));
}

/* Is it the slot's tuple? */
static bool has_tuple(const struct tcp *t, const struct tcp_slot *s, const struct ip_tuple *tuple)
{
    const uint8_t *entry = s->entry;

    if (s->kind == TCP_KIND_CONN)
        return same_tuple(s->entry, tuple);
    if (s->kind == TCP_KIND_PARKED)
        return tcp_cell_is(t, s->entry, tuple);
    entry += s->kind == TCP_KIND_REQ ? TCP_REQ_BYTES : TCP_TW_BYTES;
    return small_tuple_eq((const void *)entry, s->v6, tuple);
}

static uint32_t hash_tuple(const struct tcp *t, const struct ip_tuple *tuple)
{
    return (uint32_t)siphash(&t->secrets.hash, tuple, sizeof *tuple);
}

static uint32_t *chain_of(const struct tcp_table *b, uint32_t hash)
{
    if (b->old && (hash & b->old_mask) >= b->moved)
        return &b->old[hash & b->old_mask];
    return &b->chains[hash & b->mask];
}

static void link_slot(struct tcp_table *b, uint32_t slot)
{
    uint32_t *chain = chain_of(b, b->slots[slot].hash);

    b->slots[slot].next = *chain;
    *chain = slot + 1;
}

/* Moves a few chains of a doubling that is under way. */
static void move_some(struct tcp_table *b)
{
    for (unsigned i = 0; b->old && i < MOVE_PER_CHANGE; i++) {
        uint32_t at = b->old[b->moved++];

        while (at) {
            uint32_t next = b->slots[at - 1].next;

            link_slot(b, at - 1);
            at = next;
        }
        if (b->moved > b->old_mask) {
            free(b->old);
            b->old = NULL;
        }
    }
}

/* Lack of memory only means longer chains. */
static void grow(struct tcp_table *b)
{
    uint32_t *chains;

    if (b->old || b->hashed <= b->mask || b->mask >= SLOTS_MAX - 1)
        return;
    chains = calloc((size_t)(b->mask + 1) * 2, sizeof *chains);
    if (!chains)
        return;
    b->old = b->chains;
    b->old_mask = b->mask;
    b->moved = 0;
    b->chains = chains;
    b->mask = b->mask * 2 + 1;
}

/* Segments come in bursts of a connection: the last one found is looked at before anything is hashed. */
static struct tcp_slot *find_tuple(const struct tcp *t, const struct ip_tuple *tuple)
{
    struct tcp_table *b = t->table;
    struct tcp_slot *s = b->found ? &b->slots[b->found - 1] : NULL;
    uint32_t hash;

    if (s && s->hashed && has_tuple(t, s, tuple))
        return s;
    hash = hash_tuple(t, tuple);
    for (uint32_t at = *chain_of(b, hash); at; at = s->next) {
        s = &b->slots[at - 1];
        if (s->hash == hash && has_tuple(t, s, tuple)) {
            b->found = at;
            return s;
        }
    }
    return NULL;
}

void *tcp_lookup_tuple(const struct tcp *t, const struct ip_tuple *tuple, enum tcp_kind *ret_kind)
{
    struct tcp_slot *s = find_tuple(t, tuple);

    if (!s)
        return NULL;
    *ret_kind = (enum tcp_kind)s->kind;
    return s->entry;
}

static void unlink_slot(struct tcp_table *b, struct tcp_slot *s)
{
    uint32_t *at = chain_of(b, s->hash);

    while (&b->slots[*at - 1] != s)
        at = &b->slots[*at - 1].next;
    *at = s->next;
    s->next = 0;
    s->hashed = false;
    b->hashed--;
    move_some(b);
}

/* ---- entering and leaving ---- */

/* A free slot, or n_slots. */
static uint32_t take_slot(struct tcp_table *b)
{
    uint32_t slot;

    if (!b->free_first)
        return b->touched < b->n_slots ? b->touched++ : b->n_slots;
    slot = b->free_first - 1;
    b->free_first = b->slots[slot].next;
    if (!b->free_first)
        b->free_last = 0;
    b->slots[slot].next = 0;
    return slot;
}

static void occupy(struct tcp *t, uint32_t slot, enum tcp_kind kind, void *entry,
                   const struct ip_tuple *tuple)
{
    struct tcp_table *b = t->table;
    struct tcp_slot *s = &b->slots[slot];

    s->entry = entry;
    s->kind = (uint8_t)kind;
    s->v6 = small_family(tuple);
    assert(has_tuple(t, s, tuple));
    s->hash = hash_tuple(t, tuple);
    s->hashed = true;
    b->hashed++;
    grow(b);
    link_slot(b, slot);
    move_some(b);
}

tcp_id tcp_table_enter(struct tcp *t, enum tcp_kind kind, void *entry, const struct ip_tuple *tuple)
{
    struct tcp_table *b = t->table;
    uint32_t slot = take_slot(b);
    struct tcp_slot *s;
    uint32_t use;

    if (slot == b->n_slots && kind != TCP_KIND_TW && tcp_tw_evict(t))
        slot = take_slot(b);
    if (slot == b->n_slots)
        return 0;
    s = &b->slots[slot];
    use = (s->generation & USE_MASK) + 1;
    s->generation = t->params.generation << USE_BITS | (use & USE_MASK ? use : 1);
    assert(!find_tuple(t, tuple));
    occupy(t, slot, kind, entry, tuple);
    return slot_id(t, slot);
}

/* Appends a slot that is free to the free list. */
static void give_slot(struct tcp_table *b, uint32_t slot)
{
    b->slots[slot].next = 0;
    if (b->free_last)
        b->slots[b->free_last - 1].next = slot + 1;
    else
        b->free_first = slot + 1;
    b->free_last = slot + 1;
}

/* Takes a particular slot out of the free list: restoring only, which is a scan anyway. */
static bool take_this_slot(struct tcp_table *b, uint32_t slot)
{
    uint32_t before = 0;

    while (b->touched <= slot && b->touched < b->n_slots)
        give_slot(b, b->touched++);
    if (slot >= b->n_slots)
        return false;
    for (uint32_t at = b->free_first; at; before = at, at = b->slots[at - 1].next) {
        if (at != slot + 1)
            continue;
        if (before)
            b->slots[before - 1].next = b->slots[slot].next;
        else
            b->free_first = b->slots[slot].next;
        if (b->free_last == at)
            b->free_last = before;
        b->slots[slot].next = 0;
        return true;
    }
    return false;
}

bool tcp_table_restore(struct tcp *t, tcp_id id, enum tcp_kind kind, void *entry,
                       const struct ip_tuple *tuple)
{
    uint32_t slot = (uint32_t)id & (SLOTS_MAX - 1);

    if (find_tuple(t, tuple) || !take_this_slot(t->table, slot))
        return false;
    t->table->slots[slot].generation = (uint32_t)(id >> 32);
    occupy(t, slot, kind, entry, tuple);
    return true;
}

bool tcp_table_place(struct tcp *t, tcp_id id, enum tcp_kind kind, void *entry, const struct ip_tuple *tuple,
                     bool hashed)
{
    uint32_t slot = (uint32_t)id & (SLOTS_MAX - 1);
    struct tcp_table *b = t->table;

    if (slot >= b->n_slots || b->slots[slot].entry || (hashed && find_tuple(t, tuple)))
        return false;
    if (b->touched <= slot)
        b->touched = slot + 1;
    b->slots[slot].generation = (uint32_t)(id >> 32);
    if (hashed) {
        occupy(t, slot, kind, entry, tuple);
    } else {
        b->slots[slot].entry = entry;
        b->slots[slot].kind = (uint8_t)kind;
    }
    return true;
}

void tcp_table_restored(struct tcp *t)
{
    struct tcp_table *b = t->table;

    b->free_first = b->free_last = 0;
    for (uint32_t slot = 0; slot < b->touched; slot++)
        if (!b->slots[slot].entry)
            give_slot(b, slot);
}

void tcp_table_unhash(struct tcp *t, tcp_id id)
{
    struct tcp_slot *s = slot_of(t, id);

    if (s && s->hashed)
        unlink_slot(t->table, s);
}

void tcp_table_leave(struct tcp *t, tcp_id id)
{
    struct tcp_slot *s = slot_of(t, id);

    if (!s)
        return;
    if (s->hashed)
        unlink_slot(t->table, s);
    s->entry = NULL;
    s->kind = TCP_KIND_FREE;
    give_slot(t->table, (uint32_t)(s - t->table->slots));
}

void tcp_table_rebind(struct tcp *t, tcp_id id, enum tcp_kind kind, void *entry)
{
    struct tcp_slot *s = slot_of(t, id);

    assert(s);
    if (s->kind == TCP_KIND_CONN && kind == TCP_KIND_TW)
        tcp_record_clear(t, s->entry);
    s->kind = (uint8_t)kind;
    s->entry = entry;
}

/* ---- listeners ---- */

void tcp_listener_add(struct tcp *t, struct tcp_listener *l)
{
    l->number = ++t->last_listener;
    list_add_tail(&t->listeners[l->port % 64], &l->link);
    list_add_tail(&t->listeners_by_number[l->number % 64], &l->number_link);
}

void tcp_listener_remove(struct tcp_listener *l)
{
    list_del(&l->link);
    list_del(&l->number_link);
}

/* 3: this very address, 2: any of its family, 1: any of both, 0: no match. */
static unsigned listener_score(const struct tcp_listener *l, const struct ip_addr *local)
{
    if (l->addr.family == IP_NONE)
        return 1;
    if (l->addr.family != local->family)
        return 0;
    if (ip_addr_is_unspecified(&l->addr))
        return 2;
    return ip_addr_eq(&l->addr, local) ? 3 : 0;
}

struct tcp_listener *tcp_lookup_listener(const struct tcp *t, const struct ip_addr *local, uint16_t port)
{
    struct tcp_listener *best = NULL;
    unsigned best_score = 0;

    list_for_each(node, &t->listeners[port % 64])
    {
        struct tcp_listener *l = list_entry(node, struct tcp_listener, link);
        unsigned score = l->port == port ? listener_score(l, local) : 0;

        if (score > best_score) {
            best = l;
            best_score = score;
        }
    }
    return best;
}

struct tcp_listener *tcp_listener_by_number(const struct tcp *t, uint32_t number)
{
    list_for_each(node, &t->listeners_by_number[number % 64])
    {
        struct tcp_listener *l = list_entry(node, struct tcp_listener, number_link);

        if (l->number == number)
            return l;
    }
    return NULL;
}
