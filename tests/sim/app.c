/*
 * tests/sim/app.c: programs. They wait for events, as a real program does: what never comes hangs them, and watch.c
 * says so. The byte at a position is that of a table of prime length, from an offset of its own for each end.
 */
#include "app.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

#define PERIOD 65521u /* prime: no multiple of any segment size hits the same place soon */

static uint8_t table[PERIOD + 65536];

static void fill_table(void)
{
    struct rng rng;

    if (table[0] || table[1] || table[2])
        return;
    rng_seed(&rng, 4711);
    for (unsigned i = 0; i < sizeof table; i++)
        table[i] = i < PERIOD ? (uint8_t)rng_next(&rng) : table[i - PERIOD];
}

/* At most 64 KB of what `e` writes, from that position on. */
static const uint8_t *pattern(const struct end *e, uint64_t position)
{
    return table + (position + 7919u * (2 * e->flow->number + (unsigned)e->side)) % PERIOD;
}

struct end *app_end_of(struct net *n, const struct node *node, tcp_id id)
{
    for (unsigned i = 0; id && i < n->n_flows; i++)
        for (int side = 0; side < 2; side++)
            if (n->flow[i].end[side].id == id && n->flow[i].end[side].node == node)
                return &n->flow[i].end[side];
    return NULL;
}

static void run_at(struct net *n, struct end *e, uint64_t at)
{
    if (e->app_at <= at)
        return;
    e->app_at = at;
    net_event(n, at, EVENT_APP, e);
}

void app_wake(struct net *n, struct end *e)
{
    run_at(n, e, time_max(n->now + (e->plan.think_ns ? rng_below(&n->rng, 2 * e->plan.think_ns) : 0), e->asleep_until));
}

/* ---- Options -------------------------------------------------------------------------------------------------- */

/* A reset is not repeated: with resets in the plan both sides look after their peer by keepalive. */
static void keepalive(struct net *n, struct end *e, int idle, int interval, int count)
{
    struct tcp *t = e->node->t;

    tcp_set_opt(t, e->id, TCP_OPT_KEEPIDLE, idle, n->now);
    tcp_set_opt(t, e->id, TCP_OPT_KEEPINTVL, interval, n->now);
    tcp_set_opt(t, e->id, TCP_OPT_KEEPCNT, count, n->now);
    tcp_set_opt(t, e->id, TCP_OPT_KEEPALIVE, 1, n->now);
}

static void set_options(struct net *n, struct end *e)
{
    const struct plan *p = &e->plan;
    struct tcp *t = e->node->t;

    if (p->congestion >= 0)
        tcp_set_opt(t, e->id, TCP_OPT_CONGESTION, p->congestion, n->now);
    if (p->nodelay)
        tcp_set_opt(t, e->id, TCP_OPT_NODELAY, 1, n->now);
    if (p->sndbuf)
        tcp_set_opt(t, e->id, TCP_OPT_SNDBUF, p->sndbuf, n->now);
    if (p->window_clamp)
        tcp_set_opt(t, e->id, TCP_OPT_WINDOW_CLAMP, p->window_clamp, n->now);
    if (p->notsent_lowat >= 0)
        tcp_set_opt(t, e->id, TCP_OPT_NOTSENT_LOWAT, p->notsent_lowat, n->now);
    if (p->user_timeout_ms)
        tcp_set_opt(t, e->id, TCP_OPT_USER_TIMEOUT, p->user_timeout_ms, n->now);
    if (p->max_pacing_rate)
        tcp_set_max_pacing_rate(t, e->id, p->max_pacing_rate);
    if (e->flow->may_fail && !e->flow->cookies)
        keepalive(n, e, 20, 2, 5);
    else if (p->keepalive)
        keepalive(n, e, 1, 1, 60);
}

/* ---- Opening -------------------------------------------------------------------------------------------------- */

static void tuples(struct flow *f)
{
    struct end *a = &f->end[0], *b = &f->end[1];
    uint16_t port = (uint16_t)(f->simultaneous ? NET_SIMULTANEOUS_PORT + f->number : NET_SERVER_PORT);

    f->tuple = (struct ip_tuple){a->node->addr, b->node->addr, (uint16_t)(NET_CLIENT_PORT + f->number), port};
}

static bool open_end(struct net *n, struct end *e)
{
    const struct ip_tuple *ab = &e->flow->tuple;
    struct tcp_connect_args c = {.tuple = *ab, .path = e->node->path, .fastopen = e->flow->fastopen};
    int rc;

    if (e->side)
        c.tuple = (struct ip_tuple){ab->remote, ab->local, ab->remote_port, ab->local_port};
    rc = tcp_connect(e->node->t, &c, n->now, &e->id);
    if (rc)
        return net_fail(n, "flow %u: connect: %s", e->flow->number, strerror(-rc));
    set_options(n, e);
    if (e->flow->fastopen) {
        size_t want = e->plan.bytes < 2000 ? (size_t)e->plan.bytes : 2000;
        int64_t took = tcp_fastopen_connect(e->node->t, e->id, pattern(e, 0), want, n->now);

        if (took < 0)
            return net_fail(n, "flow %u: Fast Open: %s", e->flow->number, strerror((int)-took));
        e->written = (uint64_t)took;
    }
    e->node->dirty = true;
    return net_check(n, e->node, "connect");
}

bool app_start(struct net *n, struct flow *f)
{
    fill_table();
    tuples(f);
    for (int side = 0; side < 2; side++)
        f->watch.edge[side].wscale = -1;
    f->started = true;
    watch_start(n, f);
    return open_end(n, &f->end[0]) && (!f->simultaneous || open_end(n, &f->end[1]));
}

/* ---- Calls ---------------------------------------------------------------------------------------------------- */

/* How many bytes the program wants to write now. */
static uint64_t wish(struct net *n, struct end *e)
{
    uint64_t left = e->plan.bytes - e->written, want = e->plan.exact ? e->plan.write_max : net_between(n, 1, e->plan.write_max);

    want = want < left ? want : left;
    if (e->plan.burst_bytes) {
        uint64_t bursts = time_since(n->now, e->burst_begun) / e->plan.burst_ns + 1;
        uint64_t allowed = bursts * e->plan.burst_bytes;

        if (e->written >= allowed)
            return 0;
        want = want < allowed - e->written ? want : allowed - e->written;
    }
    return want < 65536 ? want : 65535;
}

static bool app_write(struct net *n, struct end *e, bool *again)
{
    uint64_t want = wish(n, e);
    unsigned flags = 0;
    int64_t rc;

    if (e->written == e->plan.bytes || e->shut)
        return true;
    if (!want) { /* between two bursts */
        run_at(n, e, e->burst_begun + (time_since(n->now, e->burst_begun) / e->plan.burst_ns + 1) * e->plan.burst_ns);
        return true;
    }
    if (net_chance(n, e->plan.eor_ppm))
        flags |= TCP_SEND_EOR;
    if (e->written + want < e->plan.bytes && net_chance(n, e->plan.more_ppm))
        flags |= TCP_SEND_MORE;
    rc = tcp_send(e->node->t, e->id, pattern(e, e->written), (size_t)want, flags, n->now);
    if (rc == -EAGAIN)
        return true; /* TCP_EVENT_WRITABLE will come */
    if (rc <= 0)
        return e->error || e->flow->may_fail || net_fail(n, "flow %u%c: send: %s", e->flow->number, "ab"[e->side], strerror((int)-rc));
    e->written += (uint64_t)rc;
    *again = true;
    return net_check(n, e->node, "send");
}

static bool right(struct net *n, struct end *e, const struct tcp_iov *iov, size_t len)
{
    const struct end *peer = &e->flow->end[!e->side];

    for (size_t done = 0; done < len;) {
        size_t part = len - done < 65536 ? len - done : 65536;

        if (memcmp(iov->data + done, pattern(peer, e->read + done), part) != 0)
            return net_fail(n, "flow %u%c: a byte in %" PRIu64 "..%" PRIu64 " is wrong", e->flow->number, "ab"[e->side],
                            e->read + done, e->read + done + part);
        done += part;
    }
    e->read += len;
    return true;
}

static bool app_read(struct net *n, struct end *e, bool *again)
{
    struct tcp_iov iov[8];
    size_t want = e->plan.exact ? e->plan.read_max : (size_t)net_between(n, 1, e->plan.read_max), got = 0;
    int count;

    if (e->eof)
        return true;
    count = tcp_recv_peek(e->node->t, e->id, iov, 8, &e->eof);
    if (count < 0)
        return e->error || e->flow->may_fail || net_fail(n, "flow %u%c: recv: %s", e->flow->number, "ab"[e->side], strerror(-count));
    for (int v = 0; v < count && got < want; v++) {
        size_t len = iov[v].len < want - got ? iov[v].len : want - got;

        if (!right(n, e, &iov[v], len))
            return false;
        got += len;
    }
    if (count > 0) {
        e->eof = false; /* it follows what is unread */
        tcp_recv_consume(e->node->t, e->id, got, n->now);
        e->last_read_at = n->now;
        if (!e->marked_at && e->read >= e->plan.mark_at) {
            e->marked_at = n->now;
            e->marked = e->read;
        }
        *again = true;
    }
    return net_check(n, e->node, "recv");
}

static bool end_now(struct net *n, struct end *e, bool abortive, const char *what)
{
    if (abortive)
        tcp_abort(e->node->t, e->id, n->now);
    else
        tcp_close(e->node->t, e->id, n->now);
    e->closed = true;
    return net_check(n, e->node, what);
}

static bool app_end(struct net *n, struct end *e)
{
    bool all = e->written == e->plan.bytes;

    if (e->written + e->read >= e->plan.abort_at)
        return end_now(n, e, true, "abort");
    if (e->written + e->read >= e->plan.close_at)
        return end_now(n, e, false, "early close");
    if (all && !e->shut && (e->plan.shutdown_early || e->eof)) {
        int rc = tcp_shutdown_write(e->node->t, e->id, n->now);

        if (rc && !e->flow->may_fail)
            return net_fail(n, "flow %u%c: shutdown: %s", e->flow->number, "ab"[e->side], strerror(-rc));
        e->shut = true;
        if (!net_check(n, e->node, "shutdown"))
            return false;
    }
    return !(e->eof && (e->shut || e->error)) || end_now(n, e, false, "close");
}

/* Sleeps once in its life. */
static bool falls_asleep(struct net *n, struct end *e)
{
    if (e->paused || e->written + e->read < e->plan.pause_at)
        return false;
    e->paused = true;
    e->asleep_until = n->now + e->plan.pause_ns;
    net_note(n, e->node, "flow %u%c sleeps for %.3f s", e->flow->number, "ab"[e->side], (double)e->plan.pause_ns / 1e9);
    run_at(n, e, e->asleep_until);
    return true;
}

bool app_run(struct net *n, struct end *e)
{
    bool again = false;

    if (e->app_at > n->now)
        return true; /* it was moved */
    e->app_at = TIME_NEVER;
    if (!e->id || e->closed)
        return true;
    e->node->dirty = true;
    if (e->error)
        return end_now(n, e, false, "close after an error");
    if (!e->connected || falls_asleep(n, e))
        return true;
    if (!e->burst_begun)
        e->burst_begun = n->now;
    if (!app_write(n, e, &again) || !app_read(n, e, &again) || !app_end(n, e))
        return false;
    if (again && !e->closed)
        app_wake(n, e);
    return true;
}

/* ---- Events --------------------------------------------------------------------------------------------------- */

static bool accepted(struct net *n, struct node *node, const struct tcp_event *ev)
{
    struct tcp_info info;
    struct flow *f = NULL;

    tcp_listen_accepted(node->t, node->listener);
    if (tcp_get_info(node->t, ev->id, n->now, &info) == 0 && info.tuple.remote_port >= NET_CLIENT_PORT &&
        info.tuple.remote_port < NET_CLIENT_PORT + n->n_flows)
        f = &n->flow[info.tuple.remote_port - NET_CLIENT_PORT];
    if (!f || f->end[1].node != node)
        return net_fail(n, "n%u: accepted what nobody sent", net_node_index(n, node));
    if (f->end[1].closed && node->cfg.tcp_syncookies == 2) { /* a cookie can be used again by a late segment */
        tcp_abort(node->t, ev->id, n->now);
        return true;
    }
    if (f->end[1].id)
        return net_fail(n, "flow %u: accepted twice", f->number);
    f->end[1].id = ev->id;
    f->end[1].connected = true;
    set_options(n, &f->end[1]);
    return true;
}

bool app_events(struct net *n, struct node *node)
{
    struct tcp_event ev;

    while (tcp_next_event(node->t, &ev)) {
        struct end *e;

        net_note(n, node, "event 0x%x error %d %s", ev.bits, ev.error, tcp_state_name(ev.state));
        net_hash(n, ev.bits);
        if ((ev.bits & TCP_EVENT_ACCEPT) && !accepted(n, node, &ev))
            return false;
        e = app_end_of(n, node, ev.id);
        if (!e || e->closed)
            continue;
        if (ev.bits & TCP_EVENT_CONNECTED)
            e->connected = true;
        if (ev.bits & TCP_EVENT_ERROR) {
            e->error = ev.error;
            if (!e->flow->may_fail)
                return net_fail(n, "flow %u%c: connection ended with %s", e->flow->number, "ab"[e->side], strerror(ev.error));
        }
        if (ev.bits & ~(unsigned)TCP_EVENT_STATE)
            app_wake(n, e);
    }
    return true;
}
