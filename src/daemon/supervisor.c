/*
 * daemon/supervisor.c: starts workers, looks after them, replaces them (theory of operation).
 *
 * A worker is made by a bare clone(CLONE_FILES | SIGCHLD) while the process has one thread, so libc's state is whole in
 * the child. The descriptor table is expanded before: growing a shared one waits for an RCU grace period each time. The
 * worker dies with the supervisor (PR_SET_PDEATHSIG); it is in a process group of its own, so that a terminal's ^C comes
 * to the supervisor only, which passes SIGTERM and SIGHUP on.
 *
 * Did it end or die? A worker that ends because it was asked to, or cannot start, says so in the arena (orderly); all
 * else is a crash, whatever the signal or status:
 *
 *     the crash                                   the next worker
 *     first                                       resumes everything
 *     again within 10 s with the same connection  resets that one alone; its record is logged for a test case
 *     more than crash_limit within a minute       gets a fresh arena: every connection is reset
 *
 * A worker that died before it served is waited for: 10 ms, doubled up to 1 s. A hang is no progress of the turn counter
 * for hang_ms while the worker doesn't sleep: SIGABRT, then SIGKILL. While it sleeps the supervisor sleeps too, and is woken
 * by it (SIGUSR1): an idle daemon makes no wake-ups.
 */
#include "daemon/supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ids.h"
#include "daemon/notify.h"
#include "tcp/tcp_record.h"

#define CRASHES_KEPT 256u
#define SAME_WITHIN (10 * NSEC_PER_SEC)
#define MINUTE (60 * NSEC_PER_SEC)
#define BACKOFF_FIRST (10 * NSEC_PER_MSEC)
#define BACKOFF_MOST NSEC_PER_SEC
#define LOOK_MS 500
#define DUMP_LINE ((size_t)400)
#define SLOT_MASK 0xffffffu

struct watch {
    struct supervisor *sv;
    pid_t pid;
    sigset_t signals;
    int signal_fd;
    uint64_t crashed_at[CRASHES_KEPT]; /* a ring */
    unsigned n_crashes;
    tcp_id suspect; /* what the last worker that crashed was busy with */
    uint64_t suspect_at;
    uint64_t backoff;
    /* The hang watch: */
    uint64_t turn, turn_at;
    uint64_t moved_at; /* when the turn was last seen to change */
    bool aborted;
    /* The manager's watchdog over us; 0: none. */
    uint64_t watchdog_ns, feed_at, fed_turn;
    bool ending; /* SIGTERM came: a worker that dies now is the last one */
};

/* ---- Preparing ----------------------------------------------------------------------------------------------------- */

static bool is_links(const struct arena *a, int fd)
{
    for (uint32_t i = 0; i < a->head->links_touched; i++) {
        const struct link_slot *l = arena_link(a, i);

        if (l->kind != LINK_FREE && (l->fd == fd || l->program_fd == fd))
            return true;
    }
    return false;
}

/* All that is open now is ours or our parent's, and stays; but for links', which have their own life. */
static void note_descriptors(struct supervisor *sv)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *e;

    sv->n_known = 0;
    while (dir && (e = readdir(dir)) != NULL) {
        int fd = atoi(e->d_name);

        if (e->d_name[0] == '.' || fd == dirfd(dir) || sv->n_known == SUPERVISOR_FDS_MAX ||
            is_links(sv->arena, fd))
            continue;
        sv->known[sv->n_known++] = fd;
    }
    if (dir)
        closedir(dir);
}

static void expand_table(void)
{
    struct rlimit r;
    int fd = -1;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur > 256)
        fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)(r.rlim_cur < 65536 ? r.rlim_cur : 65536) - 1);
    if (fd >= 0)
        close(fd);
}

/* ---- Workers ------------------------------------------------------------------------------------------------------- */

/* When memory runs out the worker goes, which is replaced, not the supervisor, which is not. */
static void prefer_for_oom(void)
{
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC), now = 0;
    char text[16] = "";

    if (fd < 0)
        return;
    if (read(fd, text, sizeof text - 1) > 0)
        now = atoi(text);
    snprintf(text, sizeof text, "%d", now > 800 ? 1000 : now + 200);
    if (pwrite(fd, text, strlen(text), 0) < 0)
        now = 0; /* it has the same chance then */
    close(fd);
}

static void child(struct watch *w, tcp_id doomed, pid_t parent)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setpgid(0, 0);
    prefer_for_oom();
    notify_through(w->sv->notify_fd[0]);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    exit(w->sv->worker(w->sv->ctx, doomed));
}

static int spawn(struct watch *w, tcp_id doomed)
{
    struct arena_head *h = w->sv->arena->head;
    pid_t parent = getpid();
    long pid;

    h->generation++;
    h->orderly = 0;
    h->kept.busy = 0;
    h->asleep_until = 0;
    w->turn = h->turn;
    w->turn_at = w->moved_at = daemon_now();
    w->aborted = false;
    h->watched = 1;
    fflush(NULL);
    pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0)
        child(w, doomed, parent);
    if (pid < 0) {
        log_msg(w->sv->log, LOG_LVL_ERR, "cannot make a worker: %s", strerror(errno));
        return -1;
    }
    w->pid = (pid_t)pid;
    return 0;
}

static void say_why(struct watch *w, int status)
{
    char id[ID_TEXT_MAX], how[64];
    tcp_id busy = w->sv->arena->head->kept.busy;

    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(how, sizeof how, "ended with status %d", WEXITSTATUS(status));
    log_msg(w->sv->log, LOG_LVL_WARNING, "worker %d, generation %u, %s%s%s; connections go on in another one", w->pid,
            w->sv->arena->head->generation, how, busy ? " while it was busy with connection " : "",
            busy ? id_format(busy, id) : "");
}

/* What was committed of a connection: records lie by working block, parked ones by slot. */
static const struct tcp_record *find_record(const struct arena *a, tcp_id id)
{
    const void *arena = arena_at(a, ARENA_RECORDS);
    uint32_t n = a->head->max_conns, slot = (uint32_t)id & SLOT_MASK;
    static struct tcp_record parked;

    for (uint32_t i = 0; i < a->head->kept.records_touched && i < n; i++) {
        const struct tcp_record *r = tcp_record_published(arena, i);

        if (r && r->id == id)
            return r;
    }
    if (slot >= n || tcp_record_parked_of(arena, n, slot, sizeof parked, &parked) || parked.id != id)
        return NULL;
    return &parked;
}

static void dump_record(struct watch *w, tcp_id id)
{
    const struct arena *a = w->sv->arena;
    const struct tcp_record *r = find_record(a, id);
    char text[8192];

    if (!r || tcp_record_dump(r, text, sizeof text) <= 0)
        return;
    for (size_t at = 0; at < strlen(text); at += DUMP_LINE)
        log_msg(w->sv->log, LOG_LVL_ERR, "record, from %zu: %.*s", at, (int)DUMP_LINE, text + at);
}

static unsigned crashes_within(const struct watch *w, uint64_t span, uint64_t now)
{
    unsigned n = 0;

    for (unsigned i = 0; i < CRASHES_KEPT; i++)
        n += w->crashed_at[i] && now - w->crashed_at[i] < span;
    return n;
}

/* With a fresh arena, or the old one if there is none. */
static void start_over(struct watch *w)
{
    char error[CONFIG_ERROR_MAX];
    struct daemon_config *config;
    struct arena fresh;
    bool known;
    int r;

    log_msg(w->sv->log, LOG_LVL_ERR, "more than %u crashes within a minute: all connections are reset",
            w->sv->config->crash_limit);
    config = malloc(sizeof *config); /* as it was set and reloaded last */
    known = config && arena_get_config(w->sv->arena, config);
    r = arena_create(known ? config : w->sv->config, &fresh, error, sizeof error);
    if (config)
        explicit_bzero(config, sizeof *config);
    free(config);
    if (r < 0) {
        log_msg(w->sv->log, LOG_LVL_ERR, "%s", error);
        return;
    }
    fresh.head->supervisor_at = w->sv->arena->head->supervisor_at;
    fresh.head->generation = w->sv->arena->head->generation;
    for (unsigned i = 0; i < w->sv->n_known; i++)
        if (w->sv->known[i] == w->sv->arena->fd)
            w->sv->known[i] = fresh.fd;
    arena_close(w->sv->arena);
    *w->sv->arena = fresh;
    w->sv->holdings.arena = fresh.fd;
    notify_remove("arena");
    notify_store("arena", fresh.fd);
    memset(w->crashed_at, 0, sizeof w->crashed_at);
    w->suspect = 0;
}

/* What the next worker is to reset, 0: nothing. */
static tcp_id judge(struct watch *w, uint64_t now)
{
    tcp_id busy = w->sv->arena->head->kept.busy, doomed = 0;
    char id[ID_TEXT_MAX];

    w->crashed_at[w->n_crashes++ % CRASHES_KEPT] = now;
    if (w->sv->config->crash_limit && crashes_within(w, MINUTE, now) > w->sv->config->crash_limit) {
        start_over(w);
        return 0;
    }
    if (busy && busy == w->suspect && now - w->suspect_at < SAME_WITHIN) {
        doomed = busy;
        log_msg(w->sv->log, LOG_LVL_ERR, "connection %s crashed the worker twice within 10 s: it is reset alone",
                id_format(busy, id));
        dump_record(w, busy);
    }
    w->suspect = busy;
    w->suspect_at = now;
    return doomed;
}

static void wait_before_next(struct watch *w)
{
    const struct arena_head *h = w->sv->arena->head;
    struct timespec ts;

    if (h->ready == h->generation) {
        w->backoff = 0;
        return;
    }
    w->backoff = w->backoff ? time_min(2 * w->backoff, BACKOFF_MOST) : BACKOFF_FIRST;
    ts = (struct timespec){.tv_sec = (time_t)(w->backoff / NSEC_PER_SEC), .tv_nsec = (long)(w->backoff % NSEC_PER_SEC)};
    nanosleep(&ts, NULL);
}

/* ---- The watch ------------------------------------------------------------------------------------------------------ */

/* It sleeps, and nothing waits for it: a stopped process looks asleep, but leaves its frames unread. */
static bool sleeps(const struct watch *w, uint64_t now)
{
    struct pollfd tap = {.fd = w->sv->holdings.tap, .events = POLLIN};

    return __atomic_load_n(&w->sv->arena->head->asleep_until, __ATOMIC_SEQ_CST) > now && poll(&tap, 1, 0) == 0;
}

static void look_for_hang(struct watch *w, uint64_t now)
{
    const struct arena_head *h = w->sv->arena->head;
    uint64_t limit = w->sv->config->hang_ms * NSEC_PER_MSEC;

    if (h->turn != w->turn)
        w->moved_at = now;
    if (!limit)
        return;
    if (h->turn != w->turn || sleeps(w, now)) {
        w->turn = h->turn;
        w->turn_at = now;
        return;
    }
    if (now - w->turn_at < limit)
        return;
    log_msg(w->sv->log, LOG_LVL_ERR, "worker %d made no progress for %u ms: killed", w->pid, w->sv->config->hang_ms);
    kill(w->pid, w->aborted ? SIGKILL : SIGABRT);
    kill(w->pid, SIGCONT); /* a stopped one dies of it, too */
    w->aborted = true;
    w->turn_at = now;
}

/* Nothing to look for: the worker sleeps, or is not to be looked at. It wakes us when it wakes. */
static bool may_sleep(const struct watch *w)
{
    struct arena_head *h = w->sv->arena->head;

    if (!w->sv->config->hang_ms)
        return true;
    /* Not between two frames, but when there was nothing to do for a whole look. */
    if (h->turn != w->turn || daemon_now() - w->moved_at < LOOK_MS * NSEC_PER_MSEC || !sleeps(w, daemon_now()))
        return false;
    __atomic_store_n(&h->watched, 0, __ATOMIC_SEQ_CST);
    if (sleeps(w, daemon_now()))
        return true;
    __atomic_store_n(&h->watched, 1, __ATOMIC_SEQ_CST);
    return false;
}

/* ms, -1: for ever. A manager's watchdog wants to be fed even by a daemon that sleeps. */
static int time_to_wait(const struct watch *w, bool sleep)
{
    uint64_t now = daemon_now(), most = sleep ? TIME_NEVER : LOOK_MS * NSEC_PER_MSEC;

    if (w->watchdog_ns)
        most = time_min(most, w->feed_at > now ? w->feed_at - now : 0);
    return most == TIME_NEVER ? -1 : (int)(most / NSEC_PER_MSEC) + 1;
}

/* Only while the worker makes progress, or sleeps until a time that has not passed. */
static void feed(struct watch *w)
{
    const struct arena_head *h = w->sv->arena->head;
    uint64_t now = daemon_now();

    if (!w->watchdog_ns || now < w->feed_at)
        return;
    if (h->turn == w->fed_turn && !sleeps(w, now))
        return;
    notify_send("WATCHDOG=1\n");
    w->fed_turn = h->turn;
    w->feed_at = now + w->watchdog_ns;
}

/* The next signal, 0: it is time to look. */
static int next_signal(struct watch *w)
{
    struct pollfd p[2] = {{.fd = w->signal_fd, .events = POLLIN}, {.fd = w->sv->notify_fd[1], .events = POLLIN}};
    struct signalfd_siginfo info;
    bool sleep = may_sleep(w);
    int r = poll(p, 2, time_to_wait(w, sleep));

    if (r > 0 && p[1].revents)
        notify_relay(p[1].fd);

    if (sleep) { /* what it did meanwhile is no matter: it begins now */
        w->turn = w->sv->arena->head->turn;
        w->turn_at = w->moved_at = daemon_now();
    }
    if (r <= 0)
        return 0;
    return read(w->signal_fd, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

/* True: it was tried, and there is no worker. */
static bool upgrade(struct watch *w)
{
    struct supervisor *sv = w->sv;

    if (!upgrade_check(sv->d, &sv->holdings, sv->argv))
        return false;
    kill(w->pid, SIGKILL);
    waitpid(w->pid, NULL, 0);
    sigprocmask(SIG_UNBLOCK, &w->signals, NULL);
    upgrade_exec(sv->d, &sv->holdings, sv->argv);
    sigprocmask(SIG_BLOCK, &w->signals, NULL);
    return true;
}

/* Until this worker is dead; its status. */
static int attend(struct watch *w)
{
    int status;

    for (;;) {
        int s = next_signal(w);

        if (s == SIGTERM || s == SIGINT) {
            w->ending = true;
            kill(w->pid, SIGTERM);
        }
        else if (s == SIGHUP)
            kill(w->pid, SIGHUP);
        else if (s == SIGUSR2 && upgrade(w))
            return SIGKILL;
        if (waitpid(w->pid, &status, WNOHANG) == w->pid)
            return status;
        look_for_hang(w, daemon_now());
        feed(w);
    }
}

int supervise(struct supervisor *sv)
{
    struct watch w = {.sv = sv};
    tcp_id doomed = 0;
    int status;

    sigemptyset(&w.signals);
    sigaddset(&w.signals, SIGTERM);
    sigaddset(&w.signals, SIGINT);
    sigaddset(&w.signals, SIGHUP);
    sigaddset(&w.signals, SIGCHLD);
    sigaddset(&w.signals, SIGUSR1);
    sigaddset(&w.signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &w.signals, NULL);
    w.signal_fd = signalfd(-1, &w.signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w.signal_fd < 0) {
        log_msg(sv->log, LOG_LVL_ERR, "cannot make a signal descriptor: %s", strerror(errno));
        return 1;
    }
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv->notify_fd) != 0)
        sv->notify_fd[0] = sv->notify_fd[1] = -1;
    w.watchdog_ns = notify_watchdog_ns();
    notify_store("tap", sv->holdings.tap);
    notify_store("arena", sv->holdings.arena);
    expand_table();
    note_descriptors(sv);
    for (;;) {
        if (spawn(&w, doomed) < 0)
            return 1;
        status = attend(&w);
        notify_relay(sv->notify_fd[1]); /* its last words */
        if (sv->arena->head->orderly)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (w.ending) {
            log_msg(sv->log, LOG_LVL_ERR, "the worker died while it was to end: connections are lost");
            return 1;
        }
        say_why(&w, status);
        doomed = judge(&w, daemon_now());
        wait_before_next(&w);
    }
}
