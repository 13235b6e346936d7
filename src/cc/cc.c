/*
 * cc/cc.c: the list of congestion controllers, and what they share: slow start and additive increase (RFC
 * 5681 section 3.1), counted in segments as Linux does.
 *
 * Pure functions of the window. A controller is added by a line in the table.
 */
#include <assert.h>
#include <string.h>

#include "cc/bbr.h"
#include "cc/cc.h"
#include "cc/cubic.h"
#include "cc/dctcp.h"
#include "cc/reno.h"

/* The first is what is taken where nothing is said. */
static const struct cc_ops *const controllers[] = {&cc_reno, &cc_cubic, &cc_dctcp, &cc_bbr};

static_assert(CC_STATE_BYTES % 8 == 0 && CC_STATE_SAVED_BYTES <= CC_STATE_BYTES, "state is kept in words");

#define N_CONTROLLERS (sizeof controllers / sizeof controllers[0])

const struct cc_ops *cc_find(const char *name)
{
    for (unsigned i = 0; i < N_CONTROLLERS; i++)
        if (strcmp(controllers[i]->name, name) == 0)
            return controllers[i];
    return NULL;
}

const char *cc_name(unsigned index)
{
    return index < N_CONTROLLERS ? controllers[index]->name : NULL;
}

static void clamp(struct cc_window *w)
{
    if (w->cwnd > w->cwnd_clamp)
        w->cwnd = w->cwnd_clamp;
}

/* Appropriate byte counting (RFC 3465) in segments: as many as were acknowledged, not one per ACK. */
uint32_t cc_slow_start(struct cc_window *w, uint32_t acked)
{
    uint32_t room = w->ssthresh > w->cwnd ? w->ssthresh - w->cwnd : 0;
    uint32_t used = acked < room ? acked : room;

    w->cwnd += used;
    clamp(w);
    return acked - used;
}

void cc_additive_increase(struct cc_window *w, uint32_t per, uint32_t acked)
{
    if (w->cwnd_cnt >= per) {
        /* `per` sank since the count began: one step, no credit. */
        w->cwnd_cnt = 0;
        w->cwnd++;
    }
    w->cwnd_cnt += acked;
    if (w->cwnd_cnt >= per) {
        uint32_t steps = w->cwnd_cnt / per;

        w->cwnd_cnt -= steps * per;
        w->cwnd += steps;
    }
    clamp(w);
}
