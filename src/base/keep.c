/*
 * base/keep.c: see keep.h (theory of operation there).
 *
 * slot:   selector | sum, entry | sum, entry       each part a multiple of 8 bytes
 *
 * selector 0: nothing; else a number with its hash, and copy [number & 1] counts. Only two stores matter to a successor: the selector's, with release
 * order, behind the copy; and `touched`, before the first selector of its slot. A counter's entry holds the hash of its
 * name, so that a build with other counters finds those that it has too.
 */
#include "base/keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x7065656b74756174ull
#define PAGE  4096u

struct table {
    char name[KEEP_NAME_BYTES];
    uint32_t layout, entry_bytes, slots, unused;
    uint64_t offset;
};

struct directory {
    uint64_t magic;
    uint64_t bytes; /* of it all */
    uint32_t n, unused;
    struct table table[KEEP_TABLES_MAX];
    uint64_t sum; /* of what is above */
    uint32_t touched[KEEP_TABLES_MAX];
};

static uint64_t sum_words(uint64_t h, const void *data, size_t bytes)
{
    const uint8_t *at = data;

    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t w;

        memcpy(&w, at + i, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    return h;
}

static uint64_t hash_text(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 0x100000001b3ull;
    return h;
}

uint32_t keep_layout(const char *fields, size_t bytes)
{
    uint64_t h = hash_text(0xcbf29ce484222325ull ^ bytes, fields);

    return (uint32_t)(h ^ h >> 32) | 1;
}

static uint32_t round8(uint32_t n)
{
    return (n + 7) / 8 * 8;
}

static uint32_t step_of(uint32_t entry_bytes)
{
    return 8 + 2 * (8 + round8(entry_bytes));
}

static uint64_t table_bytes(uint32_t entry_bytes, uint32_t slots)
{
    return ((uint64_t)slots * step_of(entry_bytes) + PAGE - 1) / PAGE * PAGE;
}

static uint64_t first_offset(void)
{
    return (sizeof(struct directory) + PAGE - 1) / PAGE * PAGE;
}

static uint64_t directory_sum(const struct directory *d)
{
    return sum_words(MAGIC, d, offsetof(struct directory, sum));
}

size_t keep_bytes(const struct keep_spec *spec, unsigned n)
{
    uint64_t at = first_offset();

    for (unsigned i = 0; i < n; i++)
        at += table_bytes(spec[i].entry_bytes, spec[i].slots);
    return (size_t)at;
}

void keep_format(void *memory, const struct keep_spec *spec, unsigned n)
{
    struct directory d = {.magic = MAGIC, .n = n};
    uint64_t at = first_offset();

    memset(memory, 0, sizeof d); /* until it is whole it is no directory */
    for (unsigned i = 0; i < n && i < KEEP_TABLES_MAX; i++) {
        struct table *t = &d.table[i];

        snprintf(t->name, sizeof t->name, "%s", spec[i].name);
        t->layout = spec[i].layout;
        t->entry_bytes = spec[i].entry_bytes;
        t->slots = spec[i].slots;
        t->offset = at;
        at += table_bytes(t->entry_bytes, t->slots);
    }
    d.bytes = at;
    d.sum = directory_sum(&d);
    memcpy(memory, &d, sizeof d);
}

static int find(const struct directory *d, const char *name)
{
    for (unsigned i = 0; i < d->n; i++)
        if (strncmp(d->table[i].name, name, KEEP_NAME_BYTES) == 0)
            return (int)i;
    return -1;
}

const char *keep_check(const void *memory, size_t bytes, const struct keep_spec *spec, unsigned n)
{
    const struct directory *d = memory;

    if (bytes < sizeof *d || d->magic != MAGIC || d->sum != directory_sum(d) || d->n > KEEP_TABLES_MAX)
        return "their directory is damaged";
    if (d->bytes > bytes)
        return "they are cut off";
    for (unsigned i = 0; i < d->n; i++) {
        const struct table *t = &d->table[i];

        if (t->entry_bytes > PAGE || t->offset > d->bytes || table_bytes(t->entry_bytes, t->slots) > d->bytes - t->offset)
            return "their directory is damaged";
    }
    for (unsigned i = 0; i < n; i++) {
        int at = find(d, spec[i].name);

        if (at < 0 || d->table[at].layout != spec[i].layout || d->table[at].entry_bytes != spec[i].entry_bytes)
            return "they are of another layout";
    }
    return NULL;
}

void keep_copy(const void *from, void *to, char *ret_forgotten, size_t text_bytes)
{
    const struct directory *old = from;
    struct directory *new = to;
    size_t said = 0;

    ret_forgotten[0] = '\0';
    for (unsigned i = 0; i < new->n; i++) {
        const struct table *t = &new->table[i];
        int at = find(old, t->name);
        uint32_t n;

        if (at < 0 || old->table[at].layout != t->layout || old->table[at].entry_bytes != t->entry_bytes) {
            if (said < text_bytes)
                said += (size_t)snprintf(ret_forgotten + said, text_bytes - said, "%s%s", said ? ", " : "", t->name);
            continue;
        }
        n = old->touched[at] < old->table[at].slots ? old->touched[at] : old->table[at].slots;
        n = n < t->slots ? n : t->slots;
        memcpy((uint8_t *)to + t->offset, (const uint8_t *)from + old->table[at].offset,
               (size_t)n * step_of(t->entry_bytes));
        new->touched[i] = n;
    }
}

/* ---- A table --------------------------------------------------------------------------------------------------- */

bool keep_attach(struct keep *k, void *memory, const struct keep_spec *spec)
{
    struct directory *d = memory;
    int at = memory ? find(d, spec->name) : -1;
    const struct table *t;

    *k = (struct keep){0};
    if (at < 0)
        return true;
    t = &d->table[at];
    if (t->layout != spec->layout || t->entry_bytes != spec->entry_bytes)
        return true;
    k->owner = calloc(t->slots ? t->slots : 1, sizeof *k->owner);
    k->dirty = calloc(t->slots ? t->slots : 1, sizeof *k->dirty);
    k->free = calloc(t->slots ? t->slots : 1, sizeof *k->free);
    k->is_dirty = calloc(t->slots ? t->slots : 1, 1);
    if (!k->owner || !k->dirty || !k->free || !k->is_dirty) {
        keep_detach(k);
        return false;
    }
    k->slot = (uint8_t *)memory + t->offset;
    k->touched = &d->touched[at];
    k->layout = t->layout;
    k->entry_bytes = t->entry_bytes;
    k->step = step_of(t->entry_bytes);
    k->n = t->slots;
    if (*k->touched > k->n)
        *k->touched = k->n;
    return true;
}

void keep_detach(struct keep *k)
{
    free(k->owner);
    free(k->dirty);
    free(k->free);
    free(k->is_dirty);
    *k = (struct keep){0};
}

uint32_t keep_touched(const struct keep *k)
{
    return k->slot ? *k->touched : 0;
}

static uint8_t *slot_at(const struct keep *k, uint32_t slot)
{
    return k->slot + (size_t)slot * k->step;
}

static uint8_t *copy_at(const struct keep *k, uint32_t slot, uint64_t selector)
{
    return slot_at(k, slot) + 8 + (selector & 1) * (8 + round8(k->entry_bytes));
}

static uint64_t entry_sum(const struct keep *k, uint32_t slot, uint64_t selector, const uint8_t *copy)
{
    uint64_t head[2] = {(uint64_t)k->layout << 32 | slot, selector};

    return sum_words(sum_words(MAGIC, head, sizeof head), copy + 8, round8(k->entry_bytes));
}

/* More than a number, which with a wrong bit could be the one that the other copy was summed with. */
static uint64_t selector_of(uint32_t number)
{
    return (uint64_t)((number ^ 0x74617574u) * 0x9e3779b1u) << 32 | number;
}

static uint64_t *selector_at(const struct keep *k, uint32_t slot)
{
    return (uint64_t *)(void *)slot_at(k, slot);
}

bool keep_get(struct keep *k, uint32_t slot, void *ret)
{
    uint64_t selector = __atomic_load_n(selector_at(k, slot), __ATOMIC_ACQUIRE), sum;
    const uint8_t *copy = copy_at(k, slot, selector);

    if (!selector)
        return false;
    memcpy(&sum, copy, 8);
    if (sum != entry_sum(k, slot, selector, copy)) {
        k->damaged++;
        keep_drop(k, slot + 1);
        return false;
    }
    memcpy(ret, copy + 8, k->entry_bytes);
    return true;
}

void keep_own(struct keep *k, uint32_t place, void *owner)
{
    if (k->slot && place)
        k->owner[place - 1] = owner;
}

void keep_loaded(struct keep *k)
{
    if (!k->slot)
        return;
    k->n_free = 0;
    for (uint32_t slot = *k->touched; slot-- > 0;)
        if (!k->owner[slot]) {
            keep_drop(k, slot + 1);
            k->free[k->n_free++] = slot;
        }
}

uint32_t keep_take(struct keep *k, void *owner)
{
    uint32_t slot;

    if (!k->slot || (!k->n_free && *k->touched == k->n))
        return 0;
    if (k->n_free)
        slot = k->free[--k->n_free];
    else
        slot = (*k->touched)++;
    k->owner[slot] = owner;
    keep_mark_slot(k, slot);
    return slot + 1;
}

void keep_give(struct keep *k, uint32_t place)
{
    if (!k->slot || !place)
        return;
    k->owner[place - 1] = NULL;
    k->free[k->n_free++] = place - 1;
    keep_mark_slot(k, place - 1);
}

void keep_mark_slot(struct keep *k, uint32_t slot)
{
    if (!k->slot || k->is_dirty[slot])
        return;
    k->is_dirty[slot] = 1;
    k->dirty[k->n_dirty++] = slot;
}

bool keep_next_dirty(struct keep *k, uint32_t *ret_place, void **ret_owner)
{
    uint32_t slot;

    if (!k->n_dirty)
        return false;
    slot = k->dirty[--k->n_dirty];
    k->is_dirty[slot] = 0;
    *ret_place = slot + 1;
    *ret_owner = k->owner[slot];
    return true;
}

void keep_put(struct keep *k, uint32_t place, const void *entry)
{
    uint32_t slot = place - 1, bytes = round8(k->entry_bytes);
    uint64_t next, sum;
    uint8_t *copy;

    if (!k->slot || !place)
        return;
    next = selector_of((uint32_t)*selector_at(k, slot) + 1);
    copy = copy_at(k, slot, next);
    memcpy(copy + 8, entry, k->entry_bytes);
    memset(copy + 8 + k->entry_bytes, 0, bytes - k->entry_bytes);
    sum = entry_sum(k, slot, next, copy);
    memcpy(copy, &sum, 8);
    __atomic_store_n(selector_at(k, slot), next, __ATOMIC_RELEASE);
}

void keep_drop(struct keep *k, uint32_t place)
{
    uint64_t *selector;

    if (!k->slot || !place)
        return;
    selector = selector_at(k, place - 1);
    if (*selector)
        __atomic_store_n(selector, 0, __ATOMIC_RELEASE);
}

/* ---- Counters ---------------------------------------------------------------------------------------------------- */

struct counter {
    uint64_t name, value;
};

struct keep_spec keep_counters_spec(const char *name)
{
    return (struct keep_spec){.name = name,
                              .layout = keep_layout("uint64_t name;uint64_t value;", sizeof(struct counter)),
                              .entry_bytes = sizeof(struct counter),
                              .slots = KEEP_COUNTERS_MAX};
}

static uint64_t name_of(const struct keep_group *g, unsigned i)
{
    return hash_text(hash_text(hash_text(0xcbf29ce484222325ull, g->prefix), "."), g->name(i));
}

static void add(const struct keep_group *g, unsigned i, uint64_t more)
{
    uint8_t *at = (uint8_t *)g->value + i * sizeof more;
    uint64_t v;

    memcpy(&v, at, sizeof v);
    v += more;
    memcpy(at, &v, sizeof v);
}

/* What lies in each slot; NULL: lack of memory. */
static struct counter *read_all(struct keep *k)
{
    uint32_t n = keep_touched(k);
    struct counter *all = calloc(n ? n : 1, sizeof *all);

    for (uint32_t slot = 0; all && slot < n; slot++)
        if (!keep_get(k, slot, &all[slot]))
            all[slot] = (struct counter){0};
    return all;
}

/* Most lie where they lay before, or near. */
static uint32_t place_of(const struct counter *all, uint32_t n, uint64_t name, uint32_t guess)
{
    for (uint32_t i = 0; i < n; i++)
        if (all[(guess + i) % n].name == name)
            return (guess + i) % n + 1;
    return 0;
}

bool keep_counters_open(struct keep_counters *c, void *memory, const char *name)
{
    struct keep_spec spec = keep_counters_spec(name);
    struct counter *all;
    uint32_t at = 0;

    c->of = NULL;
    if (!keep_attach(&c->table, memory, &spec))
        return false;
    if (!c->table.slot)
        return true;
    c->of = calloc(KEEP_COUNTERS_MAX, sizeof *c->of);
    all = read_all(&c->table);
    for (unsigned g = 0; c->of && all && g < c->n_groups; g++)
        for (unsigned i = 0; i < c->group[g].n && at < KEEP_COUNTERS_MAX; i++, at++) {
            c->of[at].name = name_of(&c->group[g], i);
            c->of[at].place = place_of(all, keep_touched(&c->table), c->of[at].name, at ? c->of[at - 1].place : 0);
            if (!c->of[at].place)
                continue;
            keep_own(&c->table, c->of[at].place, c);
            c->of[at].last = all[c->of[at].place - 1].value;
            add(&c->group[g], i, c->of[at].last);
        }
    free(all);
    keep_loaded(&c->table);
    return c->of && all;
}

static void publish(struct keep_counters *c, struct keep_counter *of, uint64_t value)
{
    struct counter entry = {.name = of->name, .value = value};

    if (!of->place)
        of->place = keep_take(&c->table, c);
    keep_put(&c->table, of->place, &entry);
    of->last = value;
}

void keep_counters_commit(struct keep_counters *c)
{
    struct keep_counter *of = c->of, *end = c->of + KEEP_COUNTERS_MAX;

    if (!c->table.slot)
        return;
    for (unsigned g = 0; g < c->n_groups; g++) {
        const uint8_t *value = c->group[g].value;

        for (unsigned i = 0; i < c->group[g].n && of < end; i++, of++) {
            uint64_t v;

            memcpy(&v, value + i * sizeof v, sizeof v);
            if (v != of->last)
                publish(c, of, v);
        }
    }
}

void keep_counters_close(struct keep_counters *c)
{
    free(c->of);
    c->of = NULL;
    keep_detach(&c->table);
}
