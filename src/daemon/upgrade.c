/*
 * daemon/upgrade.c: see upgrade.h. The supervisor has one thread and, at the time of upgrade_exec(), no worker: its
 * descriptor table is its own. Descriptors lose close-on-exec for the execve() and get it back behind it.
 */
#include "daemon/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define VARIABLE "TAUT_HOLDINGS"
#define USABLE "usable" /* the answer of --check-arena: no other program gives it by chance */
#define ARGS_MAX 8      /* tautd takes fewer */
#define CHECK_MS 5000

static char binary[PATH_MAX];

void upgrade_remember_binary(void)
{
    ssize_t n = readlink("/proc/self/exe", binary, sizeof binary - 1);

    binary[n > 0 ? n : 0] = '\0';
}

static void refuse(struct daemon *d, const char *why)
{
    struct arena_head *h = d->arena->head;

    snprintf(h->upgrade_text, sizeof h->upgrade_text, "%s", why);
    __atomic_store_n(&h->upgrade_state, ARENA_UPGRADE_REFUSED, __ATOMIC_RELEASE);
    log_msg(&d->log, LOG_LVL_ERR, "upgrade refused: %s", why);
}

/* In a child, whose table is a copy: nothing of ours changes. */
static void run_check(const struct holdings *h, int out, char *const *argv)
{
    const char *args[ARGS_MAX + 3];
    char number[16];
    unsigned n = 0;

    fcntl(h->arena, F_SETFD, 0);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    snprintf(number, sizeof number, "%d", h->arena);
    while (n < ARGS_MAX && argv[n]) {
        args[n] = argv[n];
        n++;
    }
    args[n++] = "--check-arena";
    args[n++] = number;
    args[n] = NULL;
    execv(binary, (char *const *)(uintptr_t)args);
    dprintf(STDOUT_FILENO, "cannot execute %s: %s", binary, strerror(errno));
    _exit(1);
}

/* What it says until it ends; false: it does not end in time. */
static bool listen_to(int fd, char *said, size_t bytes)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t until = daemon_now() + CHECK_MS * NSEC_PER_MSEC, now;
    char rest[256];
    size_t n = 0;
    ssize_t r;

    while ((now = daemon_now()) < until) {
        bool room = n < bytes - 1;

        if (poll(&p, 1, (int)((until - now) / NSEC_PER_MSEC) + 1) <= 0)
            continue;
        r = read(fd, room ? said + n : rest, room ? bytes - 1 - n : sizeof rest);
        if (r <= 0)
            return true;
        n += room ? (size_t)r : 0;
    }
    return false;
}

static void say_how(char *ret, size_t bytes, int status, const char *said)
{
    if (WIFSIGNALED(status))
        snprintf(ret, bytes, "the new binary was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (said[0])
        snprintf(ret, bytes, "%s", said);
    else
        snprintf(ret, bytes, "the new binary ended with status %d and said nothing", WEXITSTATUS(status));
}

bool upgrade_check(struct daemon *d, const struct holdings *h, char *const *argv)
{
    char said[sizeof d->arena->head->upgrade_text] = "", why[sizeof said];
    int status = -1, out[2];
    bool ended;
    pid_t pid;

    if (!binary[0] || pipe2(out, O_CLOEXEC) != 0) {
        refuse(d, "the binary's path is unknown, or out of descriptors");
        return false;
    }
    pid = fork(); /* not clone(): its table is to be its own */
    if (pid == 0)
        run_check(h, out[1], argv);
    close(out[1]);
    ended = pid > 0 && listen_to(out[0], said, sizeof said);
    close(out[0]);
    if (pid > 0 && !ended)
        kill(pid, SIGKILL);
    if (pid > 0)
        waitpid(pid, &status, 0);
    said[strcspn(said, "\n")] = '\0';
    if (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0 && strcmp(said, USABLE) == 0)
        return true;
    if (ended)
        say_how(why, sizeof why, status, said);
    else
        snprintf(why, sizeof why, pid > 0 ? "the new binary gave no answer within 5 s" : "cannot run it");
    refuse(d, why);
    return false;
}

/* Of all that the next binary needs. */
static void set_close_on_exec(const struct arena *a, const struct holdings *h, int flags)
{
    const int own[] = {h->arena, h->tap, h->epoll, h->control[0], h->control[1]};

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i] >= 0)
            fcntl(own[i], F_SETFD, flags);
    for (uint32_t i = 0; i < a->head->links_touched; i++) {
        const struct link_slot *l = arena_link(a, i);

        if (l->kind != LINK_FREE && l->fd >= 0)
            fcntl(l->fd, F_SETFD, flags);
        if (l->kind != LINK_FREE && l->program_fd >= 0)
            fcntl(l->program_fd, F_SETFD, flags);
    }
}

void upgrade_exec(struct daemon *d, const struct holdings *h, char *const *argv)
{
    char text[128];

    snprintf(text, sizeof text, "%d,%d,%d,%d,%d,%d", h->arena, h->tap, h->epoll, h->control[0], h->control[1],
             h->activated);
    setenv(VARIABLE, text, 1);
    log_msg(&d->log, LOG_LVL_NOTICE, "upgrade: executing %s", binary);
    set_close_on_exec(d->arena, h, 0);
    fflush(NULL);
    execv(binary, argv);
    log_msg(&d->log, LOG_LVL_ERR, "upgrade: cannot execute %s: %s; going on", binary, strerror(errno));
    set_close_on_exec(d->arena, h, FD_CLOEXEC);
    unsetenv(VARIABLE);
}

bool upgrade_holdings(struct holdings *ret)
{
    const char *text = getenv(VARIABLE);
    bool yes = text && sscanf(text, "%d,%d,%d,%d,%d,%d", &ret->arena, &ret->tap, &ret->epoll, &ret->control[0],
                              &ret->control[1], &ret->activated) == 6;

    unsetenv(VARIABLE);
    return yes;
}

static bool names_arena(const char *names)
{
    while (*names) {
        size_t n = strcspn(names, ":");

        if (n == 5 && memcmp(names, "arena", 5) == 0)
            return true;
        names += n + (names[n] == ':');
    }
    return false;
}

bool upgrade_pending(void)
{
    const char *names = getenv("LISTEN_FDNAMES");

    return getenv(VARIABLE) || (names && names_arena(names));
}

static bool is_control(int fd, int *ret_type)
{
    int family = 0, listens = 0;
    socklen_t n[] = {sizeof *ret_type, sizeof family, sizeof listens};

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, ret_type, &n[0]) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n[1]) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n[2]) == 0 && family == AF_UNIX && listens &&
           (*ret_type == SOCK_STREAM || *ret_type == SOCK_SEQPACKET);
}

/* The first of each kind. */
static void take_passed(struct holdings *h, int fd, const char *name, size_t n)
{
    int type = 0, *place = NULL;

    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (n == 3 && memcmp(name, "tap", 3) == 0)
        place = &h->tap;
    else if (n == 5 && memcmp(name, "arena", 5) == 0)
        place = &h->arena;
    else if (is_control(fd, &type))
        place = &h->control[type == SOCK_SEQPACKET];
    if (place && *place < 0)
        *place = fd;
    else
        close(fd);
}

bool upgrade_passed(struct holdings *ret)
{
    const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID"), *names = getenv("LISTEN_FDNAMES");
    int n = count && (!pid || strtol(pid, NULL, 10) == (long)getpid()) ? atoi(count) : 0;

    *ret = (struct holdings){.arena = -1, .tap = -1, .epoll = -1, .control = {-1, -1}};
    names = names ? names : "";
    for (int i = 0; i < n; i++) {
        size_t length = strcspn(names, ":");

        take_passed(ret, 3 + i, names, length);
        names += length + (names[length] == ':');
    }
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    return n > 0;
}

int upgrade_check_arena(int fd, const struct daemon_config *config)
{
    char error[CONFIG_ERROR_MAX];
    bool usable = arena_could_take(fd, config, error, sizeof error) == 0;

    puts(usable ? USABLE : error);
    return usable ? 0 : 1;
}
