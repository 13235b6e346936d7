/*
 * tcp/small.h: memory of the small entries: half-open (request.c) and TIME-WAIT (timewait.c).
 *
 * A flood makes hundreds of thousands of them, so a byte counts. An entry is a struct that begins with struct
 * small_entry, and behind it the tuple in as many bytes as its family needs: 12 or 40 of the 44 of struct ip_tuple.
 * Entries of IPv4 lie in the first part of the memory, those of IPv6 in the second one, each packed without a gap:
 *
 *     memory = size * (fixed + 12) bytes, size * (fixed + 40) bytes;   count <= size, over both
 *
 * Entries and the heads of lists are named by 32 bits: (offset in memory) / 4 + 1, and SMALL_HEAD(i). So a place in a
 * doubly linked circular list costs 8 bytes. Deadlines are ms in 32 bits, right for 24 days around a moment that is
 * known.
 *
 * The memory may be an arena that outlives the process. `due` says whether an entry counts: it is stored last and
 * cleared first, so that a kill leaves the whole entry or none; links mean nothing to a successor, who makes them anew.
 * How much of the memory was ever used is written to *kept before it is used.
 */
#ifndef TAUT_TCP_SMALL_H
#define TAUT_TCP_SMALL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/ipaddr.h"
#include "base/time.h"

#define SMALL_LISTS   16u
#define SMALL_HEAD(i) (UINT32_MAX - (i))
enum { SMALL_FREE, SMALL_FREE6, SMALL_FIRST_LIST }; /* lists of every slab; the owner's begin with the last */

struct small_link {
    uint32_t next, prev;
};

enum { SMALL_NOT_DUE, SMALL_DUE_NOW, SMALL_DUE_FIRST };

struct small_entry {
    struct small_link link;
    uint32_t id_low, id_high; /* tcp_id */
    uint32_t due;             /* SMALL_NOT_DUE: it does not count; SMALL_DUE_NOW: its owner's word; else small_due() */
};

/* Behind the entry's struct. */
union small_tuple {
    struct {
        uint8_t local[4], remote[4];
        uint16_t local_port, remote_port;
    } v4;
    struct {
        uint8_t local[16], remote[16];
        uint16_t local_scope, remote_scope, local_port, remote_port;
    } v6;
};
#define SMALL_TUPLE4_BYTES 12u
#define SMALL_TUPLE6_BYTES 40u

struct small_slab {
    uint8_t *memory;
    uint32_t size, count;
    uint32_t bytes[2];   /* of an entry, by family */
    uint32_t touched[2]; /* entries behind them were never used */
    uint32_t *kept[2];   /* the same for a successor */
    bool own;            /* else it lies in an arena */
    struct small_link list[SMALL_LISTS];
    uint64_t near;       /* a moment from which no deadline is 24 days away */
};

static_assert(sizeof(struct small_entry) == 20, "an entry is small");
static_assert(sizeof(((union small_tuple *)0)->v4) == SMALL_TUPLE4_BYTES, "without padding");
static_assert(sizeof(((union small_tuple *)0)->v6) == SMALL_TUPLE6_BYTES, "without padding");

/* `fixed`: bytes of an entry without its tuple. arena: zeroed for the first one, else NULL. 0 or -ENOMEM. */
int small_init(struct small_slab *s, uint32_t size, uint32_t fixed, void *arena, uint32_t *kept4, uint32_t *kept6);
void small_destroy(struct small_slab *s);
/* A zeroed entry that is in no list; NULL: there are `size` of them. */
struct small_entry *small_alloc(struct small_slab *s, bool v6);
/* It is in no list and not counted; its place is somebody else's after small_give() only. */
void small_release(struct small_slab *s, struct small_entry *e);
void small_give(struct small_slab *s, struct small_entry *e);

/* In the list by due time; from the end, where all live equally long. */
void small_add_by_due(struct small_slab *s, unsigned list, struct small_entry *e);

/*
 * After a crash: the entries that count, by due time. Whoever can't use one calls small_give(); the rest is free
 * already. `longest`: no deadline is so many ms away, such a one is over. The caller's to free(); NULL: none, or no
 * memory for it, then all are free.
 */
struct small_entry **small_restore(struct small_slab *s, uint64_t now, uint32_t longest, uint32_t *ret_n);
/* Are `n` lists from `first` on whole, in order of time, and of `count` entries that count? NULL, or what not. */
const char *small_check(struct small_slab *s, unsigned first, unsigned n);
/* Where the used parts of such memory lie, for whoever copies it. */
void small_used(uint32_t size, uint32_t fixed, const uint32_t touched[2], size_t ret_offset[2], size_t ret_bytes[2]);

/* ---- names, lists ---- */

static inline bool small_is_v6(const struct small_slab *s, const struct small_entry *e)
{
    return (const uint8_t *)e >= s->memory + (size_t)s->size * s->bytes[0];
}

static inline uint32_t small_name(const struct small_slab *s, const struct small_entry *e)
{
    return (uint32_t)((size_t)((const uint8_t *)e - s->memory) / 4 + 1);
}

static inline struct small_entry *small_at(const struct small_slab *s, uint32_t name)
{
    return (struct small_entry *)(void *)(s->memory + (size_t)(name - 1) * 4);
}

static inline struct small_link *small_link_of(struct small_slab *s, uint32_t name)
{
    return name > SMALL_HEAD(SMALL_LISTS) ? &s->list[UINT32_MAX - name] : &small_at(s, name)->link;
}

static inline void small_insert(struct small_slab *s, struct small_entry *e, uint32_t prev, uint32_t next)
{
    uint32_t name = small_name(s, e);

    e->link = (struct small_link){.next = next, .prev = prev};
    small_link_of(s, prev)->next = name;
    small_link_of(s, next)->prev = name;
}

static inline void small_add_tail(struct small_slab *s, unsigned list, struct small_entry *e)
{
    small_insert(s, e, s->list[list].prev, SMALL_HEAD(list));
}

static inline void small_add_head(struct small_slab *s, unsigned list, struct small_entry *e)
{
    small_insert(s, e, SMALL_HEAD(list), s->list[list].next);
}

/* Safe to repeat. */
static inline void small_del(struct small_slab *s, struct small_entry *e)
{
    if (!e->link.next)
        return;
    small_link_of(s, e->link.prev)->next = e->link.next;
    small_link_of(s, e->link.next)->prev = e->link.prev;
    e->link = (struct small_link){0};
}

static inline struct small_entry *small_named(const struct small_slab *s, uint32_t name)
{
    return name > SMALL_HEAD(SMALL_LISTS) ? NULL : small_at(s, name);
}

/* NULL behind the last. */
static inline struct small_entry *small_first(const struct small_slab *s, unsigned list)
{
    return small_named(s, s->list[list].next);
}

static inline struct small_entry *small_next(const struct small_slab *s, const struct small_entry *e)
{
    return small_named(s, e->link.next);
}

/* ---- ids, deadlines ---- */

static inline uint64_t small_id(const struct small_entry *e)
{
    return (uint64_t)e->id_high << 32 | e->id_low;
}

static inline void small_set_id(struct small_entry *e, uint64_t id)
{
    e->id_low = (uint32_t)id;
    e->id_high = (uint32_t)(id >> 32);
}

/* Publishes the entry, or takes it back (SMALL_NOT_DUE). */
static inline void small_set_due(struct small_entry *e, uint32_t due)
{
    __atomic_store_n(&e->due, due, __ATOMIC_RELEASE);
}

/* Not before `at`, up to a millisecond later. */
static inline uint32_t small_due(uint64_t at)
{
    uint32_t ms = (uint32_t)((at + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);

    return ms < SMALL_DUE_FIRST ? SMALL_DUE_FIRST : ms;
}

/* ms from `now` until then; negative: it is over. */
static inline int32_t small_left(uint32_t due, uint64_t now)
{
    return (int32_t)(due - (uint32_t)(now / NSEC_PER_MSEC));
}

static inline uint64_t small_due_at(const struct small_slab *s, const struct small_entry *e)
{
    int64_t ms = (int64_t)(s->near / NSEC_PER_MSEC) + small_left(e->due, s->near);

    return (uint64_t)ms * NSEC_PER_MSEC;
}

/* ---- tuples ---- */

static inline bool small_family(const struct ip_tuple *tuple)
{
    return tuple->local.family == IP_V6;
}

static inline void small_tuple_put(union small_tuple *to, const struct ip_tuple *from)
{
    if (!small_family(from)) {
        memcpy(to->v4.local, from->local.b, 4);
        memcpy(to->v4.remote, from->remote.b, 4);
        to->v4.local_port = from->local_port;
        to->v4.remote_port = from->remote_port;
        return;
    }
    memcpy(to->v6.local, from->local.b, 16);
    memcpy(to->v6.remote, from->remote.b, 16);
    to->v6.local_scope = from->local.scope;
    to->v6.remote_scope = from->remote.scope;
    to->v6.local_port = from->local_port;
    to->v6.remote_port = from->remote_port;
}

static inline struct ip_tuple small_tuple_get(const union small_tuple *from, bool v6)
{
    struct ip_tuple to = {.local.family = v6 ? IP_V6 : IP_V4, .remote.family = v6 ? IP_V6 : IP_V4};

    memcpy(to.local.b, v6 ? from->v6.local : from->v4.local, v6 ? 16 : 4);
    memcpy(to.remote.b, v6 ? from->v6.remote : from->v4.remote, v6 ? 16 : 4);
    to.local_port = v6 ? from->v6.local_port : from->v4.local_port;
    to.remote_port = v6 ? from->v6.remote_port : from->v4.remote_port;
    if (v6) {
        to.local.scope = from->v6.local_scope;
        to.remote.scope = from->v6.remote_scope;
    }
    return to;
}

static inline bool small_tuple_eq(const union small_tuple *a, bool v6, const struct ip_tuple *b)
{
    if (v6 != small_family(b))
        return false;
    if (!v6)
        return a->v4.remote_port == b->remote_port && a->v4.local_port == b->local_port &&
               memcmp(a->v4.remote, b->remote.b, 4) == 0 && memcmp(a->v4.local, b->local.b, 4) == 0;
    return a->v6.remote_port == b->remote_port && a->v6.local_port == b->local_port &&
           memcmp(a->v6.remote, b->remote.b, 16) == 0 && memcmp(a->v6.local, b->local.b, 16) == 0 &&
           a->v6.remote_scope == b->remote.scope && a->v6.local_scope == b->local.scope;
}

#endif
