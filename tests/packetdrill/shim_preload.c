/*
 * tests/packetdrill/shim_preload.c: what google's packetdrill does past its shared-object interface, made
 * virtual.
 *
 * For use with LD_PRELOAD together with --so_filename of the same library: waits for a real clock (times(),
 * the timed wait for the thread of blocking calls), asks the kernel about our sockets (getsockopt(),
 * close()), wants privileges (mlockall(), sched_setscheduler()) and runs a script's commands on the machine
 * (system()). The last go to whoever listens on the descriptor that DRILL_COMMANDS_FD names: a command is
 * sent, requests come back, each is answered by a number, until "exit STATUS" ("run": let the shell do it).
 * Without that variable the shell runs them.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

#include "shim_so.h"

#define MESSAGE_MAX 4096
#define WAIT_NS     1000000000ull
#define KEY_MAX     32

enum { LEVEL_SOCKET = 1, LEVEL_TCP = 6, NAME_MEMINFO = 55, NAME_INFO = 11, NAME_CC_INFO = 26 };

/* ---- Privileges and the start ---------------------------------------------------------------------- */

int mlockall(int flags)
{
    (void)flags;
    return 0;
}

int sched_setscheduler(pid_t pid, int policy, const struct sched_param *param)
{
    (void)pid;
    (void)policy;
    (void)param;
    return 0;
}

/* A tick passes with each look. */
clock_t times(struct tms *buf)
{
    static clock_t ticks;

    if (buf)
        memset(buf, 0, sizeof *buf);
    return ++ticks;
}

/* ---- Waiting for the thread of blocking calls -------------------------------------------------- */

static void *next_symbol(const char *name, const char *version)
{
    void *f = version ? dlvsym(RTLD_NEXT, name, version) : NULL;

    return f ? f : dlsym(RTLD_NEXT, name);
}

int so_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    void *symbol = next_symbol("pthread_cond_timedwait", "GLIBC_2.3.2");

    memcpy(&next, &symbol, sizeof next);
    return next(cond, mutex, until);
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    int (*next)(pthread_cond_t *, pthread_mutex_t *);
    void *symbol = next_symbol("pthread_cond_wait", "GLIBC_2.3.2");

    so_waits_again(cond);
    memcpy(&next, &symbol, sizeof next);
    return next(cond, mutex);
}

/* packetdrill allows the call that sleeps one second: of the virtual clock, which nobody else would move. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    struct drill *d = so_lock();
    bool sleeps = false;

    if (d) {
        uint64_t limit = drill_now(d) + WAIT_NS;

        while (so_call_sleeps() && so_next_event(d, limit))
            ;
        sleeps = so_call_sleeps();
        if (sleeps)
            drill_advance(d, limit);
        so_unlock();
    }
    return sleeps ? ETIMEDOUT : so_timedwait(cond, mutex, until);
}

/* ---- Questions about our sockets ---------------------------------------------------------------------- */

/* packetdrill wants as many bytes as it has room for. */
static int ask_whole(int fd, int level, int name, void *value, socklen_t *inout_bytes)
{
    socklen_t n = *inout_bytes;

    memset(value, 0, n);
    if (level == LEVEL_SOCKET && name == NAME_MEMINFO)
        return 0;
    if (level == LEVEL_TCP && name == NAME_CC_INFO) {
        *inout_bytes = 0;
        return 0;
    }
    if (so_getsockopt(fd, level, name, value, &n) < 0)
        return -1;
    if (level != LEVEL_TCP || name != NAME_INFO)
        *inout_bytes = n;
    return 0;
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict inout_bytes)
{
    int (*next)(int, int, int, void *, socklen_t *);
    void *symbol;

    if (so_owns(fd))
        return ask_whole(fd, level, name, value, inout_bytes);
    symbol = next_symbol("getsockopt", NULL);
    memcpy(&next, &symbol, sizeof next);
    return next(fd, level, name, value, inout_bytes);
}

int close(int fd)
{
    int (*next)(int);
    void *symbol;

    if (fd >= SO_FD_BASE && so_owns(fd))
        return so_close(fd);
    symbol = next_symbol("close", NULL);
    memcpy(&next, &symbol, sizeof next);
    return next(fd);
}

/* ---- Commands ---------------------------------------------------------------------- */

static int set_key(struct drill *d, const char *hex)
{
    uint8_t key[KEY_MAX];
    uint32_t n = 0;
    unsigned byte;

    for (; n < KEY_MAX && sscanf(hex + (size_t)2 * n, "%2x", &byte) == 1; n++)
        key[n] = (uint8_t)byte;
    return drill_fastopen_key(d, key, n);
}

/* One request: NAME ARGUMENT... */
static long long obey(struct drill *d, const char *text)
{
    char name[64];
    long long value;
    unsigned a, b, c, e;
    int at = 0;

    if (sscanf(text, "sysctl %63s %lld", name, &value) == 2)
        return drill_sysctl(d, name, value);
    if (sscanf(text, "text %63s %n", name, &at) == 1 && at > 0)
        return drill_sysctl_text(d, name, text + at);
    if (sscanf(text, "counter %63s", name) == 1)
        return drill_counter(d, name);
    if (sscanf(text, "key %n", &at) == 0 && at > 0)
        return set_key(d, text + at);
    if (sscanf(text, "route %u %u %u %u", &a, &b, &c, &e) == 4) {
        drill_route(d, (uint16_t)a, (uint16_t)b, (uint8_t)c, (uint8_t)e);
        return 0;
    }
    if (sscanf(text, "device %u %u", &a, &b) == 2) {
        drill_device(d, a, (int32_t)b);
        return 0;
    }
    if (strcmp(text, "flush") == 0)
        return drill_metrics_flush(d);
    return -ENOSYS;
}

static int let_shell(const char *command)
{
    int (*next)(const char *);
    void *symbol = next_symbol("system", NULL);

    memcpy(&next, &symbol, sizeof next);
    return next(command);
}

int system(const char *command)
{
    const char *text = getenv("DRILL_COMMANDS_FD");
    int fd = text ? atoi(text) : -1, status;
    char message[MESSAGE_MAX];
    ssize_t n;

    if (fd < 0 || !command)
        return let_shell(command);
    if (write(fd, command, strlen(command)) < 0)
        return -1;
    while ((n = read(fd, message, sizeof message - 1)) > 0) {
        struct drill *d;
        long long r = -EINVAL;

        message[n] = 0;
        if (strcmp(message, "run") == 0)
            return let_shell(command);
        if (sscanf(message, "exit %d", &status) == 1)
            return status << 8;
        if ((d = so_lock()) != NULL) {
            r = obey(d, message);
            so_unlock();
        }
        snprintf(message, sizeof message, "%lld", r);
        if (write(fd, message, strlen(message)) < 0)
            return -1;
    }
    return -1;
}
