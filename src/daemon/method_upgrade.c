/*
 * daemon/method_upgrade.c: server.upgrade (theory of operation in upgrade.h).
 *
 * The call is never answered with success: this process is gone then, and the caller sees the end of its connection and
 * asks the next one who it is. A refusal comes through the arena, which is looked at every TICK.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "daemon/call.h"

#define TICK 0.02

struct waiting {
    struct control_pending pending;
    struct daemon *d;
    ev_timer timer;
};

static void waiting_free(struct waiting *w)
{
    ev_timer_stop(w->d->loop, &w->timer);
    free(w);
}

static void tick(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct waiting *w = timer->data;
    struct arena_head *h = w->d->arena->head;

    (void)loop, (void)revents;
    if (__atomic_load_n(&h->upgrade_state, __ATOMIC_ACQUIRE) != ARENA_UPGRADE_REFUSED)
        return;
    control_reject(&w->pending, CONTROL_UPGRADE_REFUSED, EINVAL, h->upgrade_text);
    waiting_free(w);
}

static void cancel(struct control_pending *p, uint64_t now)
{
    (void)now;
    waiting_free(list_entry(p, struct waiting, pending));
}

enum control_outcome method_server_upgrade(struct control_call *call)
{
    struct waiting *w;

    if (!call->d->arena)
        return control_fail(call, CONTROL_UPGRADE_REFUSED, 0, "the daemon runs with daemon.survive = no");
    if (call->d->draining)
        return control_fail(call, CONTROL_SHUTTING_DOWN, 0, "the daemon is ending");
    w = calloc(1, sizeof *w);
    if (!w)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    w->d = call->d;
    ev_timer_init(&w->timer, tick, TICK, TICK);
    w->timer.data = w;
    ev_timer_start(call->d->loop, &w->timer);
    call->d->arena->head->upgrade_state = ARENA_UPGRADE_ASKED;
    kill(getppid(), SIGUSR2);
    control_pend(call, &w->pending, cancel);
    return CONTROL_PENDING;
}
