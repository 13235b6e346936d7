/*
 * tests/packetdrill/shim_so.c: the shim as google's packetdrill binary calls it (--so_filename).
 *
 * Two threads call: packetdrill's main thread, and one for the calls that its script says may block. One lock
 * guards the host. A call that cannot go on sleeps on a condition until a verb of the other thread completes
 * it, and that thread's next look at the clock tells the time of completion, however late it runs: so no
 * result depends on the scheduler. A call of the main thread that would sleep moves the clock itself, for
 * nobody else would.
 *
 * Time: the clock moves in usleep() and netdev_receive(). packetdrill sleeps until 20 µs before an event and
 * then spins on gettimeofday(): the sleep takes the 20 µs too, so that events come at their very time, and
 * the clock moves by a microsecond a look only if it is looked at again and again with nothing else between.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shim_so.h"

#define LOOK_NS      1000u
#define LOOKS_SPIN   8 /* more looks than one event takes */
#define SPIN_US      20u
#define US_NS        1000u
#define FDS          64
#define LOCAL_MAX    128
#define TELL_SECONDS 1
#define CONTROL_INQ  36 /* TCP_CM_INQ */

enum { LEVEL_TCP = 6 };

static struct so {
    struct drill *d;
    pthread_mutex_t mutex;
    pthread_cond_t done;
    pthread_t main;
    const struct drill_call *sleeper; /* what the other thread sleeps in; there is one such thread */
    bool away;                        /* from the beginning of that sleep until packetdrill has its result */
    unsigned looks;                   /* at the clock, since anything else was called */
    uint16_t mss;
    bool v6[FDS]; /* by the shim's number: made as AF_INET6 */
} so = {.mutex = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

/* When the call that this thread slept in was done: what its next gettimeofday() says. */
static _Thread_local uint64_t woke_at;

static struct drill *lock_to_look(void)
{
    pthread_mutex_lock(&so.mutex);
    if (!so.d)
        pthread_mutex_unlock(&so.mutex);
    return so.d;
}

struct drill *so_lock(void)
{
    struct drill *d = lock_to_look();

    if (d)
        so.looks = 0;
    return d;
}

/* Whoever was completed by what the holder did may look. */
void so_unlock(void)
{
    pthread_cond_broadcast(&so.done);
    pthread_mutex_unlock(&so.mutex);
}

bool so_call_sleeps(void)
{
    return so.sleeper && so.sleeper->pending;
}

bool so_next_event(struct drill *d, uint64_t until)
{
    uint64_t at = drill_deadline(d);

    return at <= until && at != UINT64_MAX && drill_advance(d, at);
}

static int64_t answer(int64_t r)
{
    if (r >= 0)
        return r;
    errno = (int)-r;
    return -1;
}

/* The result of a verb that never sleeps; gives the lock back. */
static int leave(int r)
{
    so_unlock();
    return (int)answer(r);
}

static int in(int fd)
{
    return fd >= SO_FD_BASE ? fd - SO_FD_BASE : -1;
}

/* ---- Calls that may sleep ---------------------------------------------------------------------- */

/* Sleeps or moves the clock until the call is done. Locked. */
static void sleep_until_done(struct drill *d, struct drill_call *c)
{
    if (pthread_equal(pthread_self(), so.main)) {
        while (c->pending && c->expire_at != UINT64_MAX && so_next_event(d, c->expire_at))
            ;
        if (c->pending) {
            drill_forget(d, c);
            c->result = -EDEADLK;
        }
        return;
    }
    so.sleeper = c;
    so.away = true;
    while (c->pending)
        pthread_cond_wait(&so.done, &so.mutex);
    so.sleeper = NULL;
    woke_at = c->done_at;
}

static int64_t run_call(struct drill_call *c)
{
    struct drill *d = so_lock();

    drill_begin(d, c);
    if (c->pending)
        sleep_until_done(d, c);
    so_unlock();
    return answer(c->result);
}

/* ---- Addresses ---------------------------------------------------------------------- */

static bool address_in(const struct sockaddr *sa, socklen_t n, struct drill_addr *ret)
{
    memset(ret, 0, sizeof *ret);
    if (!sa || sa->sa_family == AF_UNSPEC)
        return true;
    if (sa->sa_family == AF_INET && n >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)sa;

        ret->family = 4;
        ret->port = ntohs(v4->sin_port);
        memcpy(ret->b, &v4->sin_addr, 4);
        return true;
    }
    if (sa->sa_family == AF_INET6 && n >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)sa;

        ret->family = 6;
        ret->port = ntohs(v6->sin6_port);
        memcpy(ret->b, &v6->sin6_addr, 16);
        return true;
    }
    return false;
}

/* As a socket of that family would say it: an IPv4 peer of an IPv6 socket is v4-mapped. */
static void address_out(const struct drill_addr *a, bool v6, struct sockaddr *sa, socklen_t *inout_n)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct sockaddr_in s4 = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    struct sockaddr_in6 s6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
    socklen_t room = *inout_n;

    memcpy(&s4.sin_addr, a->b, 4);
    if (a->family == 6) {
        memcpy(&s6.sin6_addr, a->b, 16);
    } else {
        memcpy(&s6.sin6_addr, mapped, 12);
        memcpy((uint8_t *)&s6.sin6_addr + 12, a->b, 4);
    }
    *inout_n = v6 ? sizeof s6 : sizeof s4;
    memcpy(sa, v6 ? (const void *)&s6 : (const void *)&s4, room < *inout_n ? room : *inout_n);
}

/* ---- Sockets ---------------------------------------------------------------------- */

static int made(int r, bool v6)
{
    if (r >= 0) {
        so.v6[r % FDS] = v6;
        r += SO_FD_BASE;
    }
    return r;
}

static int so_socket(void *u, int domain, int type, int protocol)
{
    bool v6 = domain == AF_INET6;

    (void)u;
    (void)protocol;
    if ((domain != AF_INET && !v6) || (type & 0xf) != SOCK_STREAM)
        return (int)answer(-EPROTONOSUPPORT);
    return leave(made(drill_socket(so_lock(), v6 ? 6 : 4, type & O_NONBLOCK), v6));
}

static int so_bind(void *u, int fd, const struct sockaddr *sa, socklen_t n)
{
    struct drill_addr a;

    (void)u;
    if (!address_in(sa, n, &a))
        return (int)answer(-EINVAL);
    return leave(drill_bind(so_lock(), in(fd), &a));
}

static int so_listen(void *u, int fd, int backlog)
{
    (void)u;
    return leave(drill_listen(so_lock(), in(fd), backlog));
}

static int so_accept(void *u, int fd, struct sockaddr *sa, socklen_t *n)
{
    struct drill_call c = {.op = DRILL_ACCEPT, .fd = in(fd)};
    bool v6 = so.v6[(unsigned)c.fd % FDS];
    int64_t r = run_call(&c);

    (void)u;
    if (r < 0)
        return -1;
    if (sa && n)
        address_out(&c.addr, v6, sa, n);
    return made((int)r, v6);
}

static int so_connect(void *u, int fd, const struct sockaddr *sa, socklen_t n)
{
    struct drill_call c = {.op = DRILL_CONNECT, .fd = in(fd)};

    (void)u;
    if (!address_in(sa, n, &c.addr))
        return (int)answer(-EINVAL);
    return (int)run_call(&c);
}

static int so_shutdown(void *u, int fd, int how)
{
    (void)u;
    return leave(drill_shutdown(so_lock(), in(fd), how));
}

int so_close(int fd)
{
    return leave(drill_close(so_lock(), in(fd)));
}

static int so_close_call(void *u, int fd)
{
    (void)u;
    return so_close(fd);
}

int so_getsockopt(int fd, int level, int name, void *value, socklen_t *inout_bytes)
{
    uint32_t n = *inout_bytes;
    int r = drill_getsockopt(so_lock(), in(fd), level, name, value, &n);

    if (r == 0)
        *inout_bytes = n;
    return leave(r);
}

static int so_getsockopt_call(void *u, int fd, int level, int name, void *value, socklen_t *inout_bytes)
{
    (void)u;
    return so_getsockopt(fd, level, name, value, inout_bytes);
}

static int so_setsockopt(void *u, int fd, int level, int name, const void *value, socklen_t n)
{
    (void)u;
    return leave(drill_setsockopt(so_lock(), in(fd), level, name, value, n));
}

static int so_fcntl(void *u, int fd, int cmd, ...)
{
    va_list ap;
    int arg = 0;

    (void)u;
    if (cmd == F_SETFL) {
        va_start(ap, cmd);
        arg = va_arg(ap, int);
        va_end(ap);
    }
    return leave(drill_fcntl(so_lock(), in(fd), cmd, arg));
}

static int so_ioctl(void *u, int fd, unsigned long request, ...)
{
    va_list ap;
    int *value;
    int32_t got = 0;
    int r;

    (void)u;
    va_start(ap, request);
    value = va_arg(ap, int *);
    va_end(ap);
    r = drill_ioctl(so_lock(), in(fd), (uint32_t)request, &got);
    if (r == 0 && value)
        *value = got;
    return leave(r);
}

bool so_owns(int fd)
{
    struct drill *d;
    bool yes;

    if (in(fd) < 0 || (d = so_lock()) == NULL)
        return false;
    yes = drill_fcntl(d, in(fd), F_GETFL, 0) >= 0;
    so_unlock();
    return yes;
}

/* ---- Data ---------------------------------------------------------------------- */

static size_t iov_bytes(const struct iovec *iov, size_t n)
{
    size_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += iov[i].iov_len;
    return total;
}

static ssize_t receive(int fd, const struct iovec *iov, size_t n, int flags, int32_t *ret_inq)
{
    size_t total = iov_bytes(iov, n);
    uint8_t *buf = malloc(total ? total : 1);
    struct drill_call c = {.op = DRILL_RECV, .fd = in(fd), .flags = flags, .data = buf, .bytes = total};
    int64_t r = run_call(&c);
    size_t left = r > 0 && !(flags & MSG_TRUNC) ? (size_t)r : 0, at = 0;

    for (size_t i = 0; i < n && left > 0; i++) {
        size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

        memcpy(iov[i].iov_base, buf + at, part);
        at += part;
        left -= part;
    }
    free(buf);
    if (ret_inq)
        *ret_inq = c.inq;
    return (ssize_t)r;
}

static ssize_t transmit(int fd, const struct iovec *iov, size_t n, int flags, const struct sockaddr *to,
                        socklen_t to_n)
{
    size_t total = iov_bytes(iov, n), at = 0;
    uint8_t *buf = malloc(total ? total : 1);
    struct drill_call c = {.op = DRILL_SEND, .fd = in(fd), .flags = flags, .data = buf, .bytes = total};
    int64_t r;

    for (size_t i = 0; i < n; i++) {
        if (iov[i].iov_len)
            memcpy(buf + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    r = address_in(to, to_n, &c.addr) ? run_call(&c) : answer(-EINVAL);
    free(buf);
    return (ssize_t)r;
}

static ssize_t so_recv(void *u, int fd, void *buf, size_t n, int flags)
{
    struct iovec iov = {buf, n};

    (void)u;
    return receive(fd, &iov, 1, flags, NULL);
}

static ssize_t so_read(void *u, int fd, void *buf, size_t n)
{
    return so_recv(u, fd, buf, n, 0);
}

static ssize_t so_readv(void *u, int fd, const struct iovec *iov, int n)
{
    (void)u;
    return receive(fd, iov, (size_t)n, 0, NULL);
}

static ssize_t so_recvfrom(void *u, int fd, void *buf, size_t n, int flags, struct sockaddr *from,
                           socklen_t *from_n)
{
    if (from && from_n)
        *from_n = 0;
    return so_recv(u, fd, buf, n, flags);
}

static ssize_t so_recvmsg(void *u, int fd, struct msghdr *m, int flags)
{
    size_t room = m->msg_controllen;
    int32_t inq;
    ssize_t r = receive(fd, m->msg_iov, m->msg_iovlen, flags, &inq);

    (void)u;
    if (r < 0)
        return r;
    m->msg_flags = 0;
    m->msg_controllen = 0;
    if (inq >= 0 && m->msg_control && room >= CMSG_SPACE(sizeof inq)) {
        struct cmsghdr *c = m->msg_control;

        memset(c, 0, CMSG_SPACE(sizeof inq));
        c->cmsg_level = LEVEL_TCP;
        c->cmsg_type = CONTROL_INQ;
        c->cmsg_len = CMSG_LEN(sizeof inq);
        memcpy(CMSG_DATA(c), &inq, sizeof inq);
        m->msg_controllen = CMSG_SPACE(sizeof inq);
    }
    return r;
}

static ssize_t so_sendto(void *u, int fd, const void *buf, size_t n, int flags, const struct sockaddr *to,
                         socklen_t to_n)
{
    struct iovec iov = {(void *)(uintptr_t)buf, n};

    (void)u;
    return transmit(fd, &iov, 1, flags, to, to_n);
}

static ssize_t so_send(void *u, int fd, const void *buf, size_t n, int flags)
{
    return so_sendto(u, fd, buf, n, flags, NULL, 0);
}

static ssize_t so_write(void *u, int fd, const void *buf, size_t n)
{
    return so_sendto(u, fd, buf, n, 0, NULL, 0);
}

static ssize_t so_writev(void *u, int fd, const struct iovec *iov, int n)
{
    (void)u;
    return transmit(fd, iov, (size_t)n, 0, NULL, 0);
}

static ssize_t so_sendmsg(void *u, int fd, const struct msghdr *m, int flags)
{
    (void)u;
    return transmit(fd, m->msg_iov, m->msg_iovlen, flags, m->msg_name, m->msg_namelen);
}

/* ---- Readiness ---------------------------------------------------------------------- */

static int so_poll(void *u, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    struct drill_pollfd entries[FDS] = {{0}};
    struct drill_call c = {.op = DRILL_POLL, .fd = -1, .data = entries, .bytes = n, .timeout_ms = timeout_ms};
    int64_t r;

    (void)u;
    if (n > FDS)
        return (int)answer(-EINVAL);
    for (nfds_t i = 0; i < n; i++)
        entries[i] = (struct drill_pollfd){.fd = in(fds[i].fd), .events = (uint16_t)fds[i].events};
    r = run_call(&c);
    for (nfds_t i = 0; i < n; i++)
        fds[i].revents = (short)entries[i].revents;
    return (int)r;
}

static int so_epoll_create(void *u, int size)
{
    (void)u;
    if (size <= 0)
        return (int)answer(-EINVAL);
    return leave(made(drill_epoll_create(so_lock()), false));
}

static int so_epoll_ctl(void *u, int epfd, int op, int fd, struct epoll_event *event)
{
    struct drill_epoll_event e = {0};

    (void)u;
    if (event)
        e = (struct drill_epoll_event){.events = event->events, .data = event->data.u64};
    return leave(drill_epoll_ctl(so_lock(), in(epfd), op, in(fd), &e));
}

static int so_epoll_wait(void *u, int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    struct drill_epoll_event got[FDS];
    struct drill_call c = {.op = DRILL_EPOLL_WAIT, .fd = in(epfd), .data = got, .timeout_ms = timeout_ms};
    int64_t r;

    (void)u;
    if (max <= 0)
        return (int)answer(-EINVAL);
    c.bytes = max < FDS ? (uint64_t)max : FDS;
    r = run_call(&c);
    for (int64_t i = 0; i < r; i++)
        events[i] = (struct epoll_event){.events = got[i].events, .data.u64 = got[i].data};
    return (int)r;
}

static int so_pipe(void *u, int fds[2])
{
    (void)u;
    (void)fds;
    return (int)answer(-ENOSYS);
}

static int so_splice(void *u, int fd_in, loff_t *off_in, int fd_out, loff_t *off_out, size_t n,
                     unsigned flags)
{
    (void)u;
    (void)fd_in;
    (void)off_in;
    (void)fd_out;
    (void)off_out;
    (void)n;
    (void)flags;
    return (int)answer(-ENOSYS);
}

/* ---- Device and clock ---------------------------------------------------------------------- */

/* What the engine refuses is lost, as on a wire. */
static int so_netdev_send(void *u, const void *packet, size_t bytes)
{
    (void)u;
    (void)drill_input(so_lock(), packet, bytes, so.mss);
    return leave(0);
}

/* Jumps from timer to timer until something is sent; no timer left: no packet, of 0 bytes. */
static int so_netdev_receive(void *u, void *packet, size_t *inout_bytes, long long *ret_us)
{
    struct drill *d = so_lock();
    struct drill_packet info;
    int n;

    (void)u;
    while ((n = drill_output(d, packet, *inout_bytes, &info)) == 0 && so_next_event(d, UINT64_MAX))
        ;
    *inout_bytes = n > 0 ? (size_t)n : 0;
    *ret_us = (long long)((n > 0 ? info.at : drill_now(d)) / US_NS);
    return leave(0);
}

void so_waits_again(const pthread_cond_t *cond)
{
    if (cond == &so.done || pthread_equal(pthread_self(), so.main) || !so_lock())
        return;
    so.away = false;
    so_unlock();
}

/* packetdrill's own lock is free now: a call that has ended may tell its result before the main thread goes
 * on. */
static void let_it_tell(void)
{
    struct timespec limit;

    pthread_cond_broadcast(&so.done);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += TELL_SECONDS;
    while (so.away && !so_call_sleeps()) {
        if (so_timedwait(&so.done, &so.mutex, &limit) != 0)
            so.away = false; /* not preloaded: nobody says so_waits_again() */
    }
}

static int so_usleep(void *u, useconds_t us)
{
    struct drill *d = so_lock();

    (void)u;
    drill_advance(d, drill_now(d) + (uint64_t)(us + SPIN_US) * US_NS);
    if (pthread_equal(pthread_self(), so.main))
        let_it_tell();
    return leave(0);
}

static int so_gettimeofday(void *u, struct timeval *tv, struct timezone *tz)
{
    struct drill *d = lock_to_look();
    uint64_t at = woke_at;

    (void)u;
    (void)tz;
    if (at == 0) {
        if (so.looks++ >= LOOKS_SPIN)
            drill_advance(d, drill_now(d) + LOOK_NS);
        at = drill_now(d);
    }
    woke_at = 0;
    tv->tv_sec = (time_t)(at / 1000000000u);
    tv->tv_usec = (suseconds_t)(at % 1000000000u / US_NS);
    return leave(0);
}

/* ---- Begin and end ---------------------------------------------------------------------- */

static void so_free(void *u)
{
    (void)u;
    pthread_mutex_lock(&so.mutex);
    drill_destroy(so.d);
    so.d = NULL;
    pthread_mutex_unlock(&so.mutex);
}

/* The value of a word NAME=VALUE in flags, up to the next comma; def if it is not there. */
static const char *flag(const char *flags, const char *name, const char *def, char *buf, size_t room)
{
    size_t n = strlen(name);

    while (flags && *flags) {
        size_t word = strcspn(flags, ",");

        if (word > n && strncmp(flags, name, n) == 0 && flags[n] == '=') {
            snprintf(buf, room, "%.*s", (int)(word - n - 1), flags + n + 1);
            return buf;
        }
        flags += word + (flags[word] == ',');
    }
    return def;
}

static struct drill *make_host(const char *flags)
{
    char local[LOCAL_MAX], number[16];
    uint16_t mtu = (uint16_t)atoi(flag(flags, "mtu", "1500", number, sizeof number));
    uint64_t seed = (uint64_t)atoll(flag(flags, "seed", "1", number, sizeof number));

    snprintf(local, sizeof local, "192.168.0.1 fd3d:0a0b:17d6::1");
    flag(flags, "local", local, local, sizeof local);
    for (char *p = local; (p = strchr(p, '+')) != NULL;)
        *p = ' ';
    so.mss = (uint16_t)atoi(flag(flags, "mss", "0", number, sizeof number));
    so.main = pthread_self();
    return drill_create(seed, local, mtu);
}

void packetdrill_interface_init(const char *flags, struct so_interface *ret)
{
    *ret = (struct so_interface){
        .userdata = &so,
        .free = so_free,
        .socket = so_socket,
        .bind = so_bind,
        .listen = so_listen,
        .accept = so_accept,
        .connect = so_connect,
        .read = so_read,
        .readv = so_readv,
        .recv = so_recv,
        .recvfrom = so_recvfrom,
        .recvmsg = so_recvmsg,
        .write = so_write,
        .writev = so_writev,
        .send = so_send,
        .sendto = so_sendto,
        .sendmsg = so_sendmsg,
        .fcntl = so_fcntl,
        .ioctl = so_ioctl,
        .close = so_close_call,
        .shutdown = so_shutdown,
        .getsockopt = so_getsockopt_call,
        .setsockopt = so_setsockopt,
        .poll = so_poll,
        .netdev_send = so_netdev_send,
        .netdev_receive = so_netdev_receive,
        .usleep = so_usleep,
        .gettimeofday = so_gettimeofday,
        .epoll_create = so_epoll_create,
        .epoll_ctl = so_epoll_ctl,
        .epoll_wait = so_epoll_wait,
        .pipe = so_pipe,
        .splice = so_splice,
    };
    so.d = make_host(flags);
    if (!so.d) {
        fprintf(stderr, "taut: the shim cannot be made (--so_flags)\n");
        exit(1);
    }
}
