/*
 * base/wheel.c: the hierarchical timer wheel.
 *
 * A deadline's tick T = at >> WHEEL_TICK_SHIFT is read as nine digits of six bits. A timer lies at the level
 * of the highest digit in which T differs from w->tick, in the slot that this digit of T names; a T that has
 * already been passed lies in the slot of w->tick itself. Hence, with S(l, s) the first tick of a slot:
 *
 *     level 0: s >= digit 0 of w->tick;   level l > 0: s > digit l of w->tick        (nothing ever wraps)
 *     every T of a lower level < S of every occupied slot of a higher level
 *
 * so the earliest slot is the lowest bit of the lowest level that has one, and w->tick may be moved up to
 * that S without moving any timer. Arriving at S of a level > 0 spreads the slot over the lower levels (the
 * cascade): at most eight moves in a timer's life.
 *
 * floor_at <= at of every armed timer. It answers wheel_expire() at once while nothing can be due, and it
 * stands for the minimum of the current tick's slot, which may hold timers earlier and later than `now`,
 * where counting them again would be too dear. Disarming leaves it early, never late.
 *
 * Called by stack (one wheel for all timers). `now` doesn't run backwards; if it did, timers would merely be
 * late.
 */
#include <assert.h>
#include "base/wheel.h"

#define SLOT_MASK (WHEEL_SLOTS - 1)
#define FEW       16 /* wheel_deadline() looks at so many timers of a slot before it takes the slot's start */

static_assert(WHEEL_SLOTS == 64, "a level's slots are the bits of one uint64_t");
static_assert(WHEEL_LEVELS * WHEEL_SLOT_BITS + WHEEL_TICK_SHIFT == 64,
              "the levels cover every uint64_t deadline");

static unsigned current_slot(const struct wheel *w)
{
    return (unsigned)(w->tick & SLOT_MASK);
}

/* S(level, slot): slots lie in the future, so the digits above are those of w->tick. */
static uint64_t slot_start_tick(const struct wheel *w, unsigned level, unsigned slot)
{
    uint64_t above = w->tick >> (WHEEL_SLOT_BITS * (level + 1)) << WHEEL_SLOT_BITS;

    return (above | slot) << (WHEEL_SLOT_BITS * level);
}

/* The earliest occupied slot; false if there is none. */
static bool earliest_slot(const struct wheel *w, unsigned *ret_level, unsigned *ret_slot)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        if (w->occupied[level]) {
            *ret_level = level;
            *ret_slot = (unsigned)__builtin_ctzll(w->occupied[level]);
            return true;
        }
    }
    return false;
}

/* Where a deadline belongs as seen from w->tick. */
static void locate(const struct wheel *w, uint64_t at, unsigned *ret_level, unsigned *ret_slot)
{
    uint64_t tick = at >> WHEEL_TICK_SHIFT;
    uint64_t differ;

    if (tick < w->tick)
        tick = w->tick;
    differ = tick ^ w->tick;
    *ret_level = differ ? (unsigned)(63 - __builtin_clzll(differ)) / WHEEL_SLOT_BITS : 0;
    *ret_slot = (unsigned)(tick >> (WHEEL_SLOT_BITS * *ret_level)) & SLOT_MASK;
}

static void place(struct wheel *w, struct wheel_timer *t, unsigned level, unsigned slot)
{
    t->level = (uint8_t)level;
    t->slot = (uint8_t)slot;
    list_add_tail(&w->slot[level][slot], &t->link);
    w->occupied[level] |= 1ull << slot;
}

static void unplace(struct wheel *w, struct wheel_timer *t)
{
    list_del(&t->link);
    if (list_empty(&w->slot[t->level][t->slot]))
        w->occupied[t->level] &= ~(1ull << t->slot);
}

void wheel_init(struct wheel *w, uint64_t now)
{
    w->tick = now >> WHEEL_TICK_SHIFT;
    w->armed = 0;
    w->floor_at = TIME_NEVER;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        w->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&w->slot[level][slot]);
    }
}

void wheel_timer_init(struct wheel_timer *t)
{
    list_init(&t->link);
    t->at = TIME_NEVER;
    t->level = 0;
    t->slot = 0;
}

void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t at)
{
    unsigned level, slot;

    if (at == TIME_NEVER) {
        wheel_disarm(w, t);
        return;
    }
    locate(w, at, &level, &slot);
    if (!wheel_armed(t)) {
        place(w, t, level, slot);
        w->armed++;
    } else if (t->level != level || t->slot != slot) {
        unplace(w, t);
        place(w, t, level, slot);
    }
    t->at = at;
    w->floor_at = time_min(w->floor_at, at);
}

void wheel_disarm(struct wheel *w, struct wheel_timer *t)
{
    if (!wheel_armed(t))
        return;
    unplace(w, t);
    t->at = TIME_NEVER;
    if (--w->armed == 0)
        w->floor_at = TIME_NEVER;
}

uint64_t wheel_deadline(const struct wheel *w)
{
    unsigned level, slot, seen = 0;
    uint64_t earliest = TIME_NEVER;

    if (!earliest_slot(w, &level, &slot))
        return TIME_NEVER;
    list_for_each(node, &w->slot[level][slot])
    {
        if (++seen > FEW) {
            /* The current slot has begun, and may hold timers that were armed for the past. */
            if (level == 0 && slot == current_slot(w))
                return w->floor_at;
            return time_max(slot_start_tick(w, level, slot) << WHEEL_TICK_SHIFT, w->floor_at);
        }
        earliest = time_min(earliest, list_entry(node, struct wheel_timer, link)->at);
    }
    return earliest;
}

/*
 * Takes one due timer out of the current tick's slot; otherwise NULL and the slot's earliest deadline. Timers
 * found not due go to the end, so that the next call doesn't find them in its way again.
 */
static struct wheel_timer *take_due(struct wheel *w, uint64_t now, uint64_t *ret_earliest)
{
    struct list_node *list = &w->slot[0][current_slot(w)];
    struct list_node *node, *first_kept = NULL;
    uint64_t earliest = TIME_NEVER;

    while ((node = list_first(list)) != NULL && node != first_kept) {
        struct wheel_timer *t = list_entry(node, struct wheel_timer, link);

        if (t->at <= now) {
            wheel_disarm(w, t);
            return t;
        }
        earliest = time_min(earliest, t->at);
        list_del(node);
        list_add_tail(list, node);
        if (!first_kept)
            first_kept = node;
    }
    *ret_earliest = earliest;
    return NULL;
}

/* Spreads a slot, whose first tick w->tick now is, over the levels below. */
static void cascade(struct wheel *w, unsigned from_level, unsigned from_slot)
{
    struct list_node *node;

    w->occupied[from_level] &= ~(1ull << from_slot);
    while ((node = list_pop(&w->slot[from_level][from_slot])) != NULL) {
        struct wheel_timer *t = list_entry(node, struct wheel_timer, link);
        unsigned level, slot;

        locate(w, t->at, &level, &slot);
        assert(level < from_level);
        place(w, t, level, slot);
    }
}

struct wheel_timer *wheel_expire(struct wheel *w, uint64_t now)
{
    uint64_t now_tick = now >> WHEEL_TICK_SHIFT;

    if (now < w->floor_at)
        return NULL;
    for (;;) {
        unsigned level, slot;
        uint64_t earliest, start;
        struct wheel_timer *t = take_due(w, now, &earliest);

        if (t)
            return t;
        if (earliest != TIME_NEVER) {
            w->floor_at = earliest;
            return NULL;
        }
        if (!earliest_slot(w, &level, &slot)) {
            w->floor_at = TIME_NEVER;
            return NULL;
        }
        start = slot_start_tick(w, level, slot);
        if (start > now_tick) {
            w->tick = time_max(w->tick, now_tick);
            w->floor_at = wheel_deadline(w);
            return NULL;
        }
        w->tick = start;
        if (level > 0)
            cascade(w, level, slot);
    }
}
