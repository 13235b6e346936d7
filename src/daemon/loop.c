/*
 * daemon/loop.c: turns (theory of operation).
 *
 * libev tells which descriptors are ready; its callbacks are the first half of a turn: they read, and mark. An
 * ev_prepare watcher, which libev runs just before it would block, is the rest: events are drained, a batch of frames is
 * pulled from the stack, the changed records are committed, the batch is written, deferred work runs (design section
 * 5: nothing leaves before what it says is committed). If anything is left to do, an idle watcher keeps libev from
 * blocking; so the descriptors are looked at between two batches, and nobody starves.
 *
 * Time: ev_timer is a millisecond's work, so one absolute timerfd carries the stack's deadline. It is re-armed only when
 * the deadline moves earlier; a wake-up too early is harmless. With no timer running nothing wakes the daemon.
 *
 * Input is bounded to RX_FRAMES frames or RX_NS a turn, output to TX_FRAMES.
 */
#include "daemon/capture.h"
#include "daemon/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "daemon/busy.h"
#include "daemon/config.h"
#include "daemon/fdset.h"
#include "daemon/forward.h"
#include "daemon/netlink.h"
#include "daemon/notify.h"
#include "daemon/program.h"
#include "daemon/service.h"
#include "daemon/tap.h"

#define RX_FRAMES 64
#define RX_CLOCK 8
#define RX_NS (250 * NSEC_PER_USEC)
#define TX_FRAMES 32
#define ROUNDS 4
#define STARVED_AT_ONCE 64
#define STARVED_LATER 0.02 /* s */
#define LAST_ROUNDS 4096 /* at the end: 32 frames each */

struct loop {
    struct daemon *d;
    ev_io tap_io, timer_io, netlink_io;
    ev_signal sigterm, sigint, sighup;
    ev_prepare prepare;
    ev_check check; /* awake again */
    struct busy busy;
    ev_idle idle;
    ev_timer drain;
    int timer_fd;
    uint64_t armed_at; /* the timerfd's expiry, TIME_NEVER: not running */
    struct log_limit tap_log, full_log;
    uint64_t full; /* segments that were dropped at a limit, as far as that was told */
    struct stack_tx tx[TX_FRAMES];
};

uint64_t daemon_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

void daemon_defer(struct daemon *d, struct deferred *w)
{
    if (!list_linked(&w->link))
        list_add_tail(&d->deferred, &w->link);
}

static void idle_cb(struct ev_loop *loop, ev_idle *w, int revents)
{
    (void)loop, (void)w, (void)revents; /* its being active is its work */
}

void daemon_kick(struct daemon *d)
{
    if (d->runner)
        ev_idle_start(d->loop, &d->runner->idle);
}

/* ---- First half ------------------------------------------------------------------------------------------------ */

static void tap_gone(struct loop *l)
{
    log_msg(&l->d->log, LOG_LVL_ERR, "the TAP %s is gone (deleted?): ending", l->d->ifname);
    notify_send("STATUS=TAP %s is gone\n", l->d->ifname);
    ev_io_stop(l->d->loop, &l->tap_io);
    l->d->exit_status = 1;
    ev_break(l->d->loop, EVBREAK_ALL);
}

enum rx { RX_NOTHING, RX_SMALL, RX_LARGE };

/* RX_NOTHING when there is nothing more to read now. */
static enum rx tap_read_one(struct loop *l, uint64_t now)
{
    struct daemon *d = l->d;
    struct stack_rx rx;

    switch (tap_read(d->tap, &rx)) {
    case TAP_READ_WITHOUT_CHUNK:
        d->counters.rx_no_memory++;
        /* fall through */
    case TAP_READ_FRAME:
        d->counters.tap_reads++;
        if (d->capture)
            capture_before(d, &rx);
        stack_input(d->stack, &rx, now);
        if (d->capture)
            capture_input(d);
        tap_read_done(d->tap);
        return rx.n_slices > 1 ? RX_LARGE : RX_SMALL;
    case TAP_READ_EMPTY:
        return RX_NOTHING;
    case TAP_READ_GONE:
        tap_gone(l);
        return RX_NOTHING;
    case TAP_READ_ERROR:
    default:
        d->counters.tap_read_errors++;
        log_limited(&d->log, &l->tap_log, now, 1, LOG_LVL_WARNING, "read from the TAP: %s", strerror(errno));
        return RX_NOTHING;
    }
}

/*
 * One burst. Reading the clock costs a tenth of reading a small frame, so the clock is read for every RX_CLOCK of them, a
 * few microseconds apart, and after each large one.
 */
static void tap_cb(struct ev_loop *loop, ev_io *w, int revents)
{
    struct loop *l = w->data;
    uint64_t begun_at = daemon_now(), now = begun_at;
    enum rx rx = RX_SMALL;

    (void)loop, (void)revents;
    stack_burst_begin(l->d->stack);
    for (int i = 1; i <= RX_FRAMES && now - begun_at < RX_NS && rx != RX_NOTHING; i++) {
        rx = tap_read_one(l, now);
        if (rx == RX_LARGE || i % RX_CLOCK == 0)
            now = daemon_now();
    }
    stack_burst_end(l->d->stack, now);
}

static void timer_cb(struct ev_loop *loop, ev_io *w, int revents)
{
    struct loop *l = w->data;
    uint64_t expirations;

    (void)loop, (void)revents;
    if (read(l->timer_fd, &expirations, sizeof expirations) < 0)
        return; /* re-armed meanwhile */
    l->armed_at = TIME_NEVER;
    stack_expire(l->d->stack, daemon_now());
}

static void netlink_cb(struct ev_loop *loop, ev_io *w, int revents)
{
    struct loop *l = w->data;
    struct daemon *d = l->d;
    struct netlink_link link;

    (void)loop, (void)revents;
    while (netlink_next_link(d->netlink, &link)) {
        uint64_t now = daemon_now();

        if (link.ifindex != d->tap->ifindex)
            continue;
        if (link.gone) {
            tap_gone(l);
            return;
        }
        if (link.mtu) {
            d->mtu = d->tap->mtu = link.mtu;
            stack_set_mtu(d->stack, link.mtu, now);
        }
        d->link_up = link.up;
        stack_set_link(d->stack, link.up, now);
    }
}

/* ---- The rest of the turn ---------------------------------------------------------------------------------------- */

static void log_stack_event(struct daemon *d, const struct stack_event *e)
{
    char text[IP_ADDR_TEXT_MAX];

    if (e->kind == STACK_EVENT_CONFLICT)
        log_msg(&d->log, LOG_LVL_WARNING, "address conflict: %02x:%02x:%02x:%02x:%02x:%02x uses our %s", e->mac[0],
                e->mac[1], e->mac[2], e->mac[3], e->mac[4], e->mac[5], ip_addr_format(&e->addr, text));
    if (e->kind == STACK_EVENT_LINK)
        log_msg(&d->log, LOG_LVL_NOTICE, "link %s, MTU %u", e->up ? "up" : "down", e->mtu);
    if (e->kind == STACK_EVENT_ADDR)
        log_msg(&d->log, LOG_LVL_INFO, "address %s: %s", ip_addr_format(&e->addr, text),
                e->gone                                ? "gone"
                : e->state == STACK_ADDR_TENTATIVE     ? "tentative"
                : e->state == STACK_ADDR_PREFERRED     ? "usable"
                : e->state == STACK_ADDR_DUPLICATE     ? "DUPLICATE, not used"
                                                       : "deprecated");
}

/* True if there was any. */
static bool drain_events(struct daemon *d, uint64_t now)
{
    struct sock_event se;
    struct stack_event ke;
    bool any = false;

    while (sock_next_event(d->socks, &se)) {
        struct sock_owner *owner = se.user;

        any = true;
        if (owner)
            owner->ready(owner, se.sock, se.bits, now);
    }
    while (stack_next_event(d->stack, &ke)) {
        any = true;
        log_stack_event(d, &ke);
        if (d->on_stack_event)
            d->on_stack_event(d, &ke, now);
    }
    if (d->on_turn)
        d->on_turn(d, now);
    blackbox_turn(d, now);
    return any;
}

/* The device is full, for now: its buffer, or the kernel's memory. Other errors (EIO: it is down) are no news of that. */
static bool is_full(int error)
{
    return error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM;
}

/*
 * Once the device was full, no segment of a connection is tried any more in this batch: what would still get through
 * would leave a hole before it. The engine takes them back, the last one first, and tries again later. What belongs to
 * no connection (ARP, ND, replies) is tried in any case: nobody would repeat it.
 */
static void write_batch(struct loop *l, int n)
{
    struct daemon *d = l->d;
    struct stack_tx *refused[TX_FRAMES];
    int n_refused = 0;

    for (int i = 0; i < n; i++) {
        bool of_conn = l->tx[i].is_tcp && l->tx[i].id;
        int r = n_refused && of_conn ? -EAGAIN : tap_write(d->tap, &l->tx[i]);

        d->counters.tap_writes++;
        if (d->capture)
            capture_output(d, &l->tx[i], r);
        if (r >= 0)
            continue;
        d->counters.tap_write_errors++;
        log_limited(&d->log, &l->tap_log, daemon_now(), 1, LOG_LVL_DEBUG, "write to the TAP: %s", strerror(-r));
        if (is_full(r) && of_conn)
            refused[n_refused++] = &l->tx[i];
        else
            stack_tx_failed(d->stack, &l->tx[i]);
    }
    while (n_refused > 0)
        stack_tx_refused(d->stack, refused[--n_refused], daemon_now());
}

static void starved_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct daemon *d = w->data;

    (void)revents;
    ev_timer_stop(loop, w);
    d->starved_due = true;
}

void daemon_starve(struct daemon *d, struct deferred *w)
{
    if (!d->starved.next)
        list_init(&d->starved);
    if (!d->starved_timer.data) {
        ev_timer_init(&d->starved_timer, starved_cb, 0., STARVED_LATER);
        d->starved_timer.data = d;
    }
    if (list_linked(&w->link))
        return;
    list_add_tail(&d->starved, &w->link);
    d->starved_used = chunk_pool_used_bytes(d->pool);
    if (!ev_is_active(&d->starved_timer))
        ev_timer_again(d->loop, &d->starved_timer);
    d->counters.starved++;
}

/*
 * One for each small chunk that came free since, so none is woken for ever while memory of another kind is missing, or what
 * is free is kept for others; and a few in any case now and then.
 */
static void wake_starved(struct daemon *d)
{
    size_t used, room = 0;

    if (!d->starved.next || list_empty(&d->starved))
        return;
    used = chunk_pool_used_bytes(d->pool);
    if (d->starved_due)
        room = STARVED_AT_ONCE;
    else if (d->starved_used > used)
        room = (d->starved_used - used) / CHUNK_SMALL_BYTES;
    d->starved_due = false;
    for (unsigned n = 0; n < room && n < STARVED_AT_ONCE && !list_empty(&d->starved); n++)
        list_add_tail(&d->deferred, list_pop(&d->starved));
    if (!list_empty(&d->starved) && !ev_is_active(&d->starved_timer))
        ev_timer_again(d->loop, &d->starved_timer);
}

bool daemon_run_deferred(struct daemon *d)
{
    struct list_node work;

    wake_starved(d);
    if (list_empty(&d->deferred))
        return false;
    /* What these queue again belongs to the next round. */
    list_init(&work);
    while (!list_empty(&d->deferred))
        list_add_tail(&work, list_pop(&d->deferred));
    while (!list_empty(&work)) {
        struct deferred *w = list_entry(list_pop(&work), struct deferred, link);

        w->fn(w, daemon_now());
    }
    return true;
}

/* Frames that may leave, commit, writes; how many. */
static int send_batch(struct loop *l)
{
    struct daemon *d = l->d;
    uint64_t now = daemon_now();
    int n = 0;

    while (n < TX_FRAMES && stack_output(d->stack, now, &l->tx[n])) {
        n++;
        now = daemon_now();
    }
    stack_commit(d->stack, now);
    keep_counters_commit(&d->kept);
    write_batch(l, n);
    return n;
}

void loop_first_batch(struct loop *l)
{
    send_batch(l);
}

void loop_first_frames(struct loop *l)
{
    tap_cb(l->d->loop, &l->tap_io, EV_READ);
    send_batch(l);
}

/* One round of events, frames, commit, writes, deferred work; true if more may be waiting. */
static bool round_once(struct loop *l)
{
    struct daemon *d = l->d;
    bool any = drain_events(d, daemon_now());
    int n = send_batch(l);

    any |= daemon_run_deferred(d);
    return any || n > 0;
}

static void arm_timer(struct loop *l)
{
    uint64_t at = stack_deadline(l->d->stack);
    struct itimerspec spec = {0};

    if (at >= l->armed_at)
        return;
    if (at == 0)
        at = 1; /* zero would disarm */
    spec.it_value.tv_sec = (time_t)(at / NSEC_PER_SEC);
    spec.it_value.tv_nsec = (long)(at % NSEC_PER_SEC);
    timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    l->armed_at = at;
}

static void drain_progress(struct loop *l)
{
    struct tcp_totals totals;

    tcp_get_totals(l->d->tcp, &totals);
    if (totals.conns == 0)
        ev_break(l->d->loop, EVBREAK_ALL);
}

static uint64_t dropped_full(const struct loop *l)
{
    const uint64_t *drops = tcp_get_drops(l->d->tcp);

    return drops[TCP_DROP_CONN_LIMIT] + drops[TCP_DROP_NO_MEMORY];
}

/* New connections were dropped by the engine, which counts and says nothing. */
static void tell_full(struct loop *l)
{
    const uint64_t *drops = tcp_get_drops(l->d->tcp);
    uint64_t full = dropped_full(l);

    if (full == l->full)
        return;
    l->full = full;
    log_limited(&l->d->log, &l->full_log, daemon_now(), 1, LOG_LVL_WARNING,
                "segments are dropped: CONN_LIMIT (limits.max_connections is %u) %llu, NO_MEMORY %llu",
                l->d->config->max_conns, (unsigned long long)drops[TCP_DROP_CONN_LIMIT],
                (unsigned long long)drops[TCP_DROP_NO_MEMORY]);
}

/* For the supervisor: progress, and how long there may be none. */
static void tell_asleep(struct loop *l, bool more)
{
    struct arena *a = l->d->arena;

    if (!a)
        return;
    a->head->turn++;
    __atomic_store_n(&a->head->asleep_until, more ? 0 : l->armed_at, __ATOMIC_RELEASE);
}

static void tell_awake(const struct loop *l)
{
    struct arena_head *h = l->d->arena->head;

    __atomic_store_n(&h->asleep_until, 0, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&h->watched, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&h->watched, 1, __ATOMIC_SEQ_CST);
        kill(getppid(), SIGUSR1);
    }
}

static void check_cb(struct ev_loop *loop, ev_check *w, int revents)
{
    struct loop *l = w->data;

    (void)revents;
    if (!ev_pending_count(loop))
        return; /* a tracer, or a signal that is ignored: it sleeps on */
    if (l->d->arena)
        tell_awake(l);
    if (l->d->config->busy_poll_us)
        busy_after_wait(&l->busy, l->d->config->busy_poll_us);
}

static void prepare_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
    struct loop *l = w->data;
    bool more = true;

    (void)revents;
    l->d->counters.turns++;
    for (int i = 0; i < ROUNDS && more; i++) {
        unsigned long long before = l->d->counters.bytes_from_programs;

        more = round_once(l);
        /* Chunks that an ACK frees now are still in the cache when they are filled again. */
        if (more && l->d->counters.bytes_from_programs != before && ev_is_active(&l->tap_io))
            tap_cb(loop, &l->tap_io, EV_READ);
    }
    if (more)
        ev_idle_start(loop, &l->idle);
    else
        ev_idle_stop(loop, &l->idle);
    arm_timer(l);
    tell_full(l);
    tell_asleep(l, more);
    if (l->d->draining && !more)
        drain_progress(l);
    if (l->d->config->busy_poll_us && !more)
        busy_before_wait(l->d, &l->busy, l->d->config->busy_poll_us);
}

void loop_flush(struct loop *l)
{
    for (int i = 0; i < LAST_ROUNDS && round_once(l); i++)
        ;
}

/* ---- Signals and the end ------------------------------------------------------------------------------------------ */

unsigned loop_reset_all(struct loop *l)
{
    struct daemon *d = l->d;
    uint64_t now = daemon_now();
    unsigned n = 0;

    for (tcp_id id = tcp_next_id(d->tcp, 0), next; id; id = next) {
        next = tcp_next_id(d->tcp, id);
        if (tcp_abort(d->tcp, id, now) == 0)
            n++;
    }
    loop_flush(l);
    return n;
}

static void drain_timeout_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct loop *l = w->data;

    (void)revents;
    log_msg(&l->d->log, LOG_LVL_WARNING, "drain: %u connections did not end in time and were reset",
            loop_reset_all(l));
    ev_break(loop, EVBREAK_ALL);
}

void daemon_stop(struct daemon *d)
{
    struct loop *l = d->runner;
    struct tcp_totals totals;
    uint64_t now = daemon_now();

    if (d->draining) {
        ev_break(d->loop, EVBREAK_ALL); /* asked twice: at once */
        return;
    }
    d->draining = true;
    tcp_get_totals(d->tcp, &totals);
    log_msg(&d->log, LOG_LVL_NOTICE, "ending: draining %u connections for at most %u ms", totals.conns,
            d->config->drain_ms);
    notify_send("STOPPING=1\nSTATUS=draining %u connections\n", totals.conns);
    forwards_drain(d, now);
    services_drain(d, now);
    programs_drain(d, now);
    ev_timer_set(&l->drain, d->config->drain_ms / 1000.0, 0.);
    ev_timer_start(d->loop, &l->drain);
    daemon_kick(d);
}

static void term_cb(struct ev_loop *loop, ev_signal *w, int revents)
{
    struct loop *l = w->data;

    (void)loop, (void)revents;
    daemon_stop(l->d);
}

static void hup_cb(struct ev_loop *loop, ev_signal *w, int revents)
{
    struct loop *l = w->data;
    char error[CONFIG_ERROR_MAX], *rest = error, *line;

    (void)loop, (void)revents;
    if (daemon_reload(l->d, NULL, NULL, error, sizeof error) == 0)
        return;
    while ((line = strsep(&rest, "\n")) != NULL)
        log_msg(&l->d->log, LOG_LVL_ERR, "reload: %s", line);
}

static void watch_io(struct loop *l, ev_io *w, void (*cb)(struct ev_loop *, ev_io *, int), int fd)
{
    ev_io_init(w, cb, fd, EV_READ);
    w->data = l;
    ev_io_start(l->d->loop, w);
}

static void watch_signal(struct loop *l, ev_signal *w, void (*cb)(struct ev_loop *, ev_signal *, int), int signum)
{
    ev_signal_init(w, cb, signum);
    w->data = l;
    ev_signal_start(l->d->loop, w);
}

struct loop *loop_new(struct daemon *d)
{
    struct loop *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->d = d;
    l->armed_at = TIME_NEVER;
    l->full = dropped_full(l); /* what a predecessor counted it told */
    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (l->timer_fd < 0) {
        free(l);
        return NULL;
    }
    if (d->tap)
        watch_io(l, &l->tap_io, tap_cb, d->tap->fd);
    if (d->netlink)
        watch_io(l, &l->netlink_io, netlink_cb, netlink_fd(d->netlink));
    watch_io(l, &l->timer_io, timer_cb, l->timer_fd);
    watch_signal(l, &l->sigterm, term_cb, SIGTERM);
    watch_signal(l, &l->sigint, term_cb, SIGINT);
    watch_signal(l, &l->sighup, hup_cb, SIGHUP);
    ev_prepare_init(&l->prepare, prepare_cb);
    l->prepare.data = l;
    ev_prepare_start(d->loop, &l->prepare);
    ev_check_init(&l->check, check_cb);
    ev_set_priority(&l->check, EV_MAXPRI); /* first: the others are pending then */
    l->check.data = l;
    ev_check_start(d->loop, &l->check);
    l->busy = (struct busy){.fd = {d->tap ? d->tap->fd : -1, fdset_fd(d->fds), l->timer_fd}};
    ev_idle_init(&l->idle, idle_cb);
    ev_idle_start(d->loop, &l->idle);
    ev_timer_init(&l->drain, drain_timeout_cb, 1., 0.);
    l->drain.data = l;
    d->runner = l;
    return l;
}

void loop_free(struct loop *l)
{
    struct ev_loop *loop = l->d->loop;

    ev_io_stop(loop, &l->tap_io);
    ev_io_stop(loop, &l->timer_io);
    ev_io_stop(loop, &l->netlink_io);
    ev_signal_stop(loop, &l->sigterm);
    ev_signal_stop(loop, &l->sigint);
    ev_signal_stop(loop, &l->sighup);
    ev_prepare_stop(loop, &l->prepare);
    ev_check_stop(loop, &l->check);
    ev_idle_stop(loop, &l->idle);
    ev_timer_stop(loop, &l->drain);
    if (l->d->starved_timer.data)
        ev_timer_stop(loop, &l->d->starved_timer);
    close(l->timer_fd);
    l->d->runner = NULL;
    free(l);
}

int loop_run(struct loop *l)
{
    ev_run(l->d->loop, 0);
    return l->d->exit_status;
}
