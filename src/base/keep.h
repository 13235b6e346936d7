/*
 * base/keep.h: tables of small entries of fixed size in memory that outlives the process: caches and counters.
 *
 * The memory is a directory {name, layout, sizes} with a sum, then the tables. A slot is two copies of an entry, each with
 * its sum, and a selector: an entry is written into the copy that doesn't count and then selected by one store, so that a
 * kill at any instant leaves the old entry or the new one. The sum covers table, slot and selector too: what was damaged,
 * and a copy that doesn't count any more, is not taken for an entry.
 *
 *     owner changes an object    keep_mark(): costs a flag and a place in a list
 *     commit                     keep_next_dirty() until false; keep_put() or keep_drop() of each
 *     successor                  keep_get() of each slot below keep_touched(), keep_own() of what it takes over, and
 *                                keep_loaded(): slots that nobody owns are free
 *
 * A place is slot + 1, 0: none; all calls take 0, and tables that are not open, as nothing to do. Nothing is written to
 * the memory but by put, drop and take (the mark of how far it was used).
 */
#ifndef TAUT_BASE_KEEP_H
#define TAUT_BASE_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEEP_TABLES_MAX 16u
#define KEEP_NAME_BYTES 24

struct keep_spec {
    const char *name;
    uint32_t layout; /* keep_layout() */
    uint32_t entry_bytes, slots;
};

/* Identity of an entry's layout: of its fields as text, and of its size. */
uint32_t keep_layout(const char *fields, size_t bytes);
/* X-macro of fields F(type, name) -> members of a struct; -> the text for keep_layout(). */
#define KEEP_MEMBER(type, name) type name;
#define KEEP_TEXT(type, name) #type " " #name ";"

size_t keep_bytes(const struct keep_spec *spec, unsigned n);
/* Makes all tables, empty, in zeroed or used memory. */
void keep_format(void *memory, const struct keep_spec *spec, unsigned n);
/* NULL, or why the memory does not hold these tables (of any number of slots). Safe on any bytes. */
const char *keep_check(const void *memory, size_t bytes, const struct keep_spec *spec, unsigned n);
/*
 * Entries of tables with the same name and layout, from one memory to another, which is empty; both were checked, `from`
 * with no specs. Names of tables of `to` that have nothing in `from` go to ret_forgotten, with commas.
 */
void keep_copy(const void *from, void *to, char *ret_forgotten, size_t text_bytes);

/* An open table. Zeroed: not open. */
struct keep {
    uint8_t *slot;
    uint32_t *touched; /* in the memory */
    uint32_t layout, entry_bytes, step, n;
    uint32_t damaged; /* slots that were found so */
    /* Of this process: */
    void **owner;
    uint32_t *dirty, *free;
    uint8_t *is_dirty;
    uint32_t n_dirty, n_free;
};

/* False: lack of memory. memory NULL, or without this table: not open, and true. */
bool keep_attach(struct keep *k, void *memory, const struct keep_spec *spec);
void keep_detach(struct keep *k);

/* ---- Reading what a predecessor left ---- */

uint32_t keep_touched(const struct keep *k);
/* False: none. A damaged one is counted, and dropped. */
bool keep_get(struct keep *k, uint32_t slot, void *ret);
void keep_own(struct keep *k, uint32_t place, void *owner);
void keep_loaded(struct keep *k);

/* ---- Writing ---- */

/* A place for what `owner` stands for, marked; 0: none is free. */
uint32_t keep_take(struct keep *k, void *owner);
/* It goes with the next commit; the place is another's from then on. */
void keep_give(struct keep *k, uint32_t place);
void keep_mark_slot(struct keep *k, uint32_t slot);
static inline void keep_mark(struct keep *k, uint32_t place)
{
    if (place)
        keep_mark_slot(k, place - 1);
}
/* The next marked place with its owner, NULL: nobody's any more, to be dropped; false: no more. */
bool keep_next_dirty(struct keep *k, uint32_t *ret_place, void **ret_owner);
void keep_put(struct keep *k, uint32_t place, const void *entry);
void keep_drop(struct keep *k, uint32_t place);

/* ---- Counters, by name ---- */

#define KEEP_COUNTERS_MAX 256u

struct keep_group {
    const char *prefix;
    const char *(*name)(unsigned i);
    void *value; /* n numbers of 64 bits */
    unsigned n;
};
struct keep_counter {
    uint64_t name, last; /* its hash; the value as published */
    uint32_t place;
};
struct keep_counters {
    struct keep table;
    struct keep_group group[4];
    unsigned n_groups;
    struct keep_counter *of; /* KEEP_COUNTERS_MAX */
};

/* As many slots as counters, and some for a successor's. */
struct keep_spec keep_counters_spec(const char *name);
/* Opens, and adds what a predecessor counted. False: lack of memory. */
bool keep_counters_open(struct keep_counters *c, void *memory, const char *name);
/* Publishes those that changed. */
void keep_counters_commit(struct keep_counters *c);
void keep_counters_close(struct keep_counters *c);

#endif
