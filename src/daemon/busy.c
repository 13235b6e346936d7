/*
 * daemon/busy.c: see busy.h (theory of operation). Only loop.c calls it; it reads nothing and changes nothing but counters.
 */
#include "daemon/busy.h"

#include <poll.h>
#include <sched.h>

#include "base/time.h"

#define CREDIT 4

static bool input(const struct busy *b)
{
    struct pollfd p[BUSY_FDS];

    for (int i = 0; i < BUSY_FDS; i++)
        p[i] = (struct pollfd){.fd = b->fd[i], .events = POLLIN};
    return poll(p, BUSY_FDS, 0) != 0;
}

void busy_before_wait(struct daemon *d, struct busy *b, uint32_t limit_us)
{
    b->began_at = daemon_now();
    if (!b->credit)
        return;
    do {
        if (input(b)) {
            d->counters.busy_polls_hit++;
            return;
        }
        sched_yield();
    } while (daemon_now() - b->began_at < limit_us * NSEC_PER_USEC);
    b->credit--;
    d->counters.busy_polls_missed++;
}

void busy_after_wait(struct busy *b, uint32_t limit_us)
{
    if (daemon_now() - b->began_at < limit_us * NSEC_PER_USEC)
        b->credit = CREDIT;
}
