/*
 * tcp/small.c: places of half-open and TIME-WAIT entries, their order by time, and what a successor finds of them
 * (theory of operation in small.h). Called by request.c and timewait.c only.
 */
#include "tcp/small.h"

#include <errno.h>
#include <stdlib.h>

static uint32_t bytes_of(uint32_t fixed, bool v6)
{
    return fixed + (v6 ? SMALL_TUPLE6_BYTES : SMALL_TUPLE4_BYTES);
}

static void init_lists(struct small_slab *s)
{
    for (unsigned i = 0; i < SMALL_LISTS; i++)
        s->list[i] = (struct small_link){SMALL_HEAD(i), SMALL_HEAD(i)};
}

int small_init(struct small_slab *s, uint32_t size, uint32_t fixed, void *arena, uint32_t *kept4, uint32_t *kept6)
{
    *s = (struct small_slab){.memory = arena,
                             .size = size,
                             .bytes = {bytes_of(fixed, false), bytes_of(fixed, true)},
                             .kept = {kept4, kept6},
                             .own = !arena};
    init_lists(s);
    if (s->own)
        s->memory = calloc(size ? size : 1, s->bytes[0] + s->bytes[1]);
    return s->memory ? 0 : -ENOMEM;
}

void small_destroy(struct small_slab *s)
{
    if (s->own)
        free(s->memory);
    s->memory = NULL;
}

static struct small_entry *place(const struct small_slab *s, bool v6, uint32_t i)
{
    size_t at = (v6 ? (size_t)s->size * s->bytes[0] : 0) + (size_t)i * s->bytes[v6];

    return (struct small_entry *)(void *)(s->memory + at);
}

struct small_entry *small_alloc(struct small_slab *s, bool v6)
{
    struct small_entry *e = small_first(s, v6 ? SMALL_FREE6 : SMALL_FREE);

    if (s->count == s->size || (!e && s->touched[v6] == s->size))
        return NULL;
    if (e) {
        small_del(s, e);
    } else {
        e = place(s, v6, s->touched[v6]++);
        if (!s->own)
            *s->kept[v6] = s->touched[v6];
    }
    memset(e, 0, s->bytes[v6]);
    s->count++;
    return e;
}

void small_release(struct small_slab *s, struct small_entry *e)
{
    small_del(s, e);
    s->count--;
}

void small_give(struct small_slab *s, struct small_entry *e)
{
    small_set_due(e, SMALL_NOT_DUE);
    small_del(s, e);
    small_add_head(s, small_is_v6(s, e) ? SMALL_FREE6 : SMALL_FREE, e);
}

void small_add_by_due(struct small_slab *s, unsigned list, struct small_entry *e)
{
    uint32_t prev = s->list[list].prev;

    while (prev != SMALL_HEAD(list) && small_left(small_at(s, prev)->due, s->near) > small_left(e->due, s->near))
        prev = small_at(s, prev)->link.prev;
    small_insert(s, e, prev, small_link_of(s, prev)->next);
}

/* ---- checking ---- */

/* Adds the entries of a list to *inout_n. */
static const char *check_list(struct small_slab *s, unsigned list, uint32_t *inout_n)
{
    uint32_t prev = SMALL_HEAD(list);
    const struct small_entry *last = NULL;

    for (struct small_entry *e = small_first(s, list); e; last = e, e = small_next(s, e)) {
        if (e->link.prev != prev || ++*inout_n > s->count)
            return "a list of small entries is broken";
        if (e->due == SMALL_NOT_DUE)
            return "a small entry in a list does not count";
        if (last && (e->due == SMALL_DUE_NOW) != (last->due == SMALL_DUE_NOW))
            return "a small entry that is due lies among those that wait";
        if (last && e->due != SMALL_DUE_NOW && small_left(e->due, s->near) < small_left(last->due, s->near))
            return "small entries are not in the order of their time";
        prev = small_name(s, e);
    }
    return s->list[list].prev == prev ? NULL : "the end of a list of small entries is wrong";
}

const char *small_check(struct small_slab *s, unsigned first, unsigned n)
{
    uint32_t entries = 0;

    for (unsigned list = first; list < first + n; list++) {
        const char *wrong = check_list(s, list, &entries);

        if (wrong)
            return wrong;
    }
    return entries == s->count ? NULL : "small entries are in no list";
}

/* ---- after a crash ---- */

struct timed {
    int32_t left;
    uint32_t name;
};

static int by_time(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;

    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return x->name < y->name ? -1 : x->name > y->name;
}

/* All that were used, the unused ones into the free lists; those that count go to `found`, if there is one. */
static uint32_t scan(struct small_slab *s, uint64_t now, uint32_t longest, struct timed *found)
{
    uint32_t n = 0;

    for (unsigned v6 = 0; v6 < 2; v6++)
        for (uint32_t i = s->touched[v6]; i-- > 0;) {
            struct small_entry *e = place(s, v6, i);

            e->link = (struct small_link){0};
            if (e->due == SMALL_NOT_DUE || !found) {
                small_give(s, e);
                continue;
            }
            if (e->due != SMALL_DUE_NOW && small_left(e->due, now) > (int64_t)longest + 1) /* rounded up */
                small_set_due(e, small_due(now));
            found[n].name = small_name(s, e);
            found[n++].left = e->due == SMALL_DUE_NOW ? INT32_MIN : small_left(e->due, now);
        }
    return n;
}

struct small_entry **small_restore(struct small_slab *s, uint64_t now, uint32_t longest, uint32_t *ret_n)
{
    struct small_entry **ret;
    struct timed *found;
    uint32_t n;

    for (unsigned v6 = 0; v6 < 2; v6++)
        s->touched[v6] = *s->kept[v6] < s->size ? *s->kept[v6] : s->size;
    s->near = now;
    n = s->touched[0] + s->touched[1];
    found = calloc(n ? n : 1, sizeof *found);
    ret = calloc(n ? n : 1, sizeof *ret);
    if (!ret) {
        free(found);
        found = NULL;
    }
    n = scan(s, now, longest, found);
    if (found)
        qsort(found, n, sizeof *found, by_time);
    for (uint32_t i = 0; i < n; i++)
        ret[i] = small_at(s, found[i].name);
    free(found);
    *ret_n = n;
    return ret;
}

void small_used(uint32_t size, uint32_t fixed, const uint32_t touched[2], size_t ret_offset[2], size_t ret_bytes[2])
{
    for (unsigned v6 = 0; v6 < 2; v6++) {
        ret_offset[v6] = v6 ? (size_t)size * bytes_of(fixed, false) : 0;
        ret_bytes[v6] = (size_t)(touched[v6] < size ? touched[v6] : size) * bytes_of(fixed, v6);
    }
}
