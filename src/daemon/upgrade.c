/*
 * daemon/upgrade.c: see upgrade.h. The supervisor has one thread and, at the time of upgrade_exec(), no worker: its
 * descriptor table is its own. Descriptors lose close-on-exec for the execve() and get it back behind it.
 */
#include "daemon/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define VARIABLE "TAUT_HOLDINGS"

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
static void run_check(const struct holdings *h, int out)
{
    char number[16];

    fcntl(h->arena, F_SETFD, 0);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    snprintf(number, sizeof number, "%d", h->arena);
    execl(binary, binary, "--check-arena", number, (char *)NULL);
    dprintf(STDOUT_FILENO, "cannot execute %s: %s", binary, strerror(errno));
    _exit(1);
}

bool upgrade_check(struct daemon *d, const struct holdings *h)
{
    char said[sizeof d->arena->head->upgrade_text] = "";
    size_t n = 0;
    ssize_t r;
    int status = -1, out[2];
    pid_t pid;

    if (!binary[0] || pipe2(out, O_CLOEXEC) != 0) {
        refuse(d, "the binary's path is unknown, or out of descriptors");
        return false;
    }
    pid = fork(); /* not clone(): its table is to be its own */
    if (pid == 0)
        run_check(h, out[1]);
    close(out[1]);
    while (n < sizeof said - 1 && (r = read(out[0], said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)r;
    close(out[0]);
    if (pid > 0)
        waitpid(pid, &status, 0);
    said[strcspn(said, "\n")] = '\0';
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    refuse(d, said[0] ? said : "the new binary does not run");
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

    snprintf(text, sizeof text, "%d,%d,%d,%d,%d", h->arena, h->tap, h->epoll, h->control[0], h->control[1]);
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
    bool yes = text && sscanf(text, "%d,%d,%d,%d,%d", &ret->arena, &ret->tap, &ret->epoll, &ret->control[0],
                              &ret->control[1]) == 5;

    unsetenv(VARIABLE);
    return yes;
}

static void take_passed(struct holdings *h, int fd, const char *name, size_t n)
{
    int type = 0;
    socklen_t bytes = sizeof type;

    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (n == 3 && memcmp(name, "tap", 3) == 0)
        h->tap = fd;
    else if (n == 5 && memcmp(name, "arena", 5) == 0)
        h->arena = fd;
    else if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && (type == SOCK_STREAM || type == SOCK_SEQPACKET))
        h->control[type == SOCK_SEQPACKET] = fd;
    else
        close(fd);
}

bool upgrade_passed(struct holdings *ret)
{
    const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID"), *names = getenv("LISTEN_FDNAMES");
    int n = count && (!pid || strtol(pid, NULL, 10) == (long)getpid()) ? atoi(count) : 0;

    *ret = (struct holdings){-1, -1, -1, {-1, -1}};
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

int upgrade_check_arena(int fd)
{
    char error[CONFIG_ERROR_MAX];
    struct arena a;

    if (arena_attach(fd, &a, error, sizeof error) == 0 || arena_convert(fd, true, &a, error, sizeof error) == 0)
        return 0;
    puts(error);
    return 1;
}
