/*
 * sock/watch.c: state changes of connections, for listings that follow them (the daemon's event
 * subscriptions).
 *
 * A bounded ring, there only while somebody watches: without a watcher nothing is kept and nothing is
 * allocated. When it is full the newest change is dropped and counted: the taker sees that changes are
 * missing, not which. Filled by socks_drain() and sock_conn_detach(), emptied by sock_next_state_change().
 */
#include "sock/sock_priv.h"

#define WATCH_MAX 1024u

struct sock_watch {
    struct sock_state_change ring[WATCH_MAX];
    unsigned first, count;
    uint32_t lost;
};

void socks_watch_states(struct socks *ss, bool on)
{
    if (on && !ss->watch) {
        ss->watch = calloc(1, sizeof *ss->watch);
    } else if (!on) {
        free(ss->watch);
        ss->watch = NULL;
    }
}

void sock_watch_note(struct socks *ss, tcp_id id, unsigned state, int error)
{
    struct sock_watch *w = ss->watch;

    if (!w)
        return;
    if (w->count == WATCH_MAX) {
        w->lost++;
        return;
    }
    w->ring[(w->first + w->count++) % WATCH_MAX] =
        (struct sock_state_change){.id = id, .state = (uint8_t)state, .error = error};
}

bool sock_next_state_change(struct socks *ss, struct sock_state_change *ret)
{
    struct sock_watch *w = ss->watch;

    if (!w || w->count == 0)
        return false;
    *ret = w->ring[w->first];
    ret->lost = w->lost;
    w->lost = 0;
    w->first = (w->first + 1) % WATCH_MAX;
    w->count--;
    return true;
}
