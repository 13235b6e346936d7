/*
 * base/wheel.h: a hierarchical timer wheel.
 *
 * Invariant: a timer armed for `at` is handed out by wheel_expire(now) exactly when at <= now, never before;
 * wheel_deadline() is never later than the earliest armed `at`, and after wheel_expire(now) has returned NULL it is
 * later than now. Deadlines are exact to the nanosecond: slots only bucket. Arm, disarm and expire cost O(1)
 * amortised; a wheel may ask to be woken for a cascade (wheel_deadline() earlier than every `at`), but at most a few
 * times on the way to any one deadline, and never while no timer is armed (TIME_NEVER).
 */
#ifndef TAUT_BASE_WHEEL_H
#define TAUT_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/list.h"
#include "base/time.h"

#define WHEEL_SLOT_BITS 6
#define WHEEL_SLOTS (1u << WHEEL_SLOT_BITS)
#define WHEEL_LEVELS 9      /* 64^9 ticks of 1.024 us: 584 years */
#define WHEEL_TICK_SHIFT 10 /* a tick is 1,024 ns */

struct wheel_timer {
    struct list_node link;
    uint64_t at; /* TIME_NEVER while disarmed */
    uint8_t level;
    uint8_t slot;
};

struct wheel {
    uint64_t tick;                /* everything before this tick has been expired or cascaded */
    uint64_t armed;               /* number of armed timers */
    uint64_t floor_at;            /* no timer is armed for earlier than this */
    uint64_t occupied[WHEEL_LEVELS]; /* one bit per non-empty slot */
    struct list_node slot[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now);
void wheel_timer_init(struct wheel_timer *t);
/* Arms or moves a timer. A time in the past expires at the next wheel_expire(). TIME_NEVER disarms. */
void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t at);
void wheel_disarm(struct wheel *w, struct wheel_timer *t);
static inline bool wheel_armed(const struct wheel_timer *t)
{
    return t->at != TIME_NEVER;
}
uint64_t wheel_deadline(const struct wheel *w);
/* Takes out one timer with at <= now (disarmed on return), or NULL. Earlier `at` first to within a tick. */
struct wheel_timer *wheel_expire(struct wheel *w, uint64_t now);

#endif
