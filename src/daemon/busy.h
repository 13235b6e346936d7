/*
 * daemon/busy.h: busy polling (busy_poll_us): before the loop blocks it looks for a while whether something comes at once.
 *
 * A wake-up out of epoll_wait() costs 30 to 60 us where a processor has gone to sleep; a peer that answers within that time
 * is heard sooner by looking. What it costs is a processor's time, so it is done only where it pays: after a wait that
 * ended within the limit the next CREDIT waits begin by looking; each look in vain takes one away. A daemon that is idle
 * blocks, and a wake-up by a timer or by slow traffic gives no credit, so nothing is spun away for it. Between two looks
 * the processor is offered to others (sched_yield()).
 */
#ifndef TAUT_DAEMON_BUSY_H
#define TAUT_DAEMON_BUSY_H

#include "daemon/daemon.h"

#define BUSY_FDS 3

struct busy {
    int fd[BUSY_FDS]; /* looked at for input; -1: none */
    uint64_t began_at;
    unsigned credit;
};

/* Before the loop blocks: returns when there is input, after limit_us, or at once if looking did not pay lately. */
void busy_before_wait(struct daemon *d, struct busy *b, uint32_t limit_us);
/* Behind it. */
void busy_after_wait(struct busy *b, uint32_t limit_us);

#endif
