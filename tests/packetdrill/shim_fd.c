/*
 * tests/packetdrill/shim_fd.c: descriptors, and the calls on them that never block.
 *
 * A descriptor is the lowest free number from 3 on. A socket's user pointer is its struct drill_fd, so that events find
 * it. What a call answers is sock's; here are only EBADF, ENOTSOCK and what fcntl keeps.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include "shim_priv.h"

enum { LEVEL_TCP = 6, NAME_INQ = 36 };

struct drill_fd *drill_fd_get(struct drill *d, int fd, enum drill_fd_kind kind)
{
    if (fd < 0 || fd >= DRILL_FDS || d->fds[fd].kind == DRILL_FD_FREE)
        return NULL;
    return d->fds[fd].kind == kind ? &d->fds[fd] : NULL;
}

struct drill_fd *drill_fd_new(struct drill *d, enum drill_fd_kind kind)
{
    for (int i = DRILL_FIRST_FD; i < DRILL_FDS; i++) {
        struct drill_fd *f = &d->fds[i];

        if (f->kind != DRILL_FD_FREE)
            continue;
        f->kind = (uint8_t)kind;
        f->nonblock = false;
        f->asked_inq = false;
        f->sock = NULL;
        return f;
    }
    return NULL;
}

/* The socket of a descriptor, or why not. */
static struct drill_fd *get_sock(struct drill *d, int fd, int *ret_error)
{
    struct drill_fd *f = drill_fd_get(d, fd, DRILL_FD_SOCK);

    if (!f)
        *ret_error = drill_fd_get(d, fd, DRILL_FD_EPOLL) ? -ENOTSOCK : -EBADF;
    return f;
}

static int done(struct drill *d, int result)
{
    drill_turn(d);
    return result;
}

struct ip_addr drill_addr_to_ip(const struct drill_addr *a)
{
    if (a->family == IP_V4)
        return ip_addr_v4_bytes(a->b);
    return a->family == IP_V6 ? ip_addr_v6_bytes(a->b, 0) : (struct ip_addr){.family = IP_NONE};
}

void drill_addr_from_ip(const struct ip_addr *a, uint16_t port, struct drill_addr *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->family = a->family;
    ret->port = port;
    memcpy(ret->b, a->b, sizeof ret->b);
}

int drill_socket(struct drill *d, int family, int flags)
{
    struct drill_fd *f = drill_fd_new(d, DRILL_FD_SOCK);

    if (!f)
        return -EMFILE;
    f->sock = sock_new(d->ss, (enum ip_family)family, f);
    if (!f->sock) {
        f->kind = DRILL_FD_FREE;
        return -EAFNOSUPPORT;
    }
    f->nonblock = (flags & O_NONBLOCK) != 0;
    return f->number;
}

int drill_bind(struct drill *d, int fd, const struct drill_addr *addr)
{
    int error;
    struct drill_fd *f = get_sock(d, fd, &error);
    struct ip_addr ip = drill_addr_to_ip(addr);

    return f ? done(d, sock_bind(f->sock, &ip, addr->port)) : error;
}

int drill_listen(struct drill *d, int fd, int backlog)
{
    int error;
    struct drill_fd *f = get_sock(d, fd, &error);

    return f ? done(d, sock_listen(f->sock, (uint32_t)backlog)) : error;
}

int drill_shutdown(struct drill *d, int fd, int how)
{
    int error;
    struct drill_fd *f = get_sock(d, fd, &error);

    return f ? done(d, sock_shutdown(f->sock, (enum sock_how)how, d->now)) : error;
}

int drill_close(struct drill *d, int fd)
{
    struct drill_fd *f = drill_fd_get(d, fd, DRILL_FD_SOCK);

    if (!f)
        f = drill_fd_get(d, fd, DRILL_FD_EPOLL);
    if (!f)
        return -EBADF;
    drill_epoll_forget(f);
    drill_calls_closed(d, fd);
    if (f->kind == DRILL_FD_SOCK)
        sock_close(f->sock, d->now);
    f->kind = DRILL_FD_FREE;
    f->sock = NULL;
    return done(d, 0);
}

int drill_setsockopt(struct drill *d, int fd, int level, int name, const void *value, uint32_t bytes)
{
    int error;
    struct drill_fd *f = get_sock(d, fd, &error);
    int r;

    if (!f)
        return error;
    r = sock_setopt(f->sock, level, name, value, bytes, d->now);
    if (r == 0 && level == LEVEL_TCP && name == NAME_INQ)
        f->asked_inq = *(const int32_t *)value != 0;
    return done(d, r);
}

int drill_getsockopt(struct drill *d, int fd, int level, int name, void *value, uint32_t *inout_bytes)
{
    int error;
    struct drill_fd *f = get_sock(d, fd, &error);
    size_t bytes = *inout_bytes;
    int r;

    if (!f)
        return error;
    r = sock_getopt(f->sock, level, name, value, &bytes, d->now);
    *inout_bytes = (uint32_t)bytes;
    return done(d, r);
}

int drill_getname(struct drill *d, int fd, int peer, struct drill_addr *ret)
{
    int error;
    struct drill_fd *f = get_sock(d, fd, &error);
    struct ip_addr ip;
    uint16_t port;
    int r;

    if (!f)
        return error;
    r = peer ? sock_peer(f->sock, &ip, &port) : sock_name(f->sock, &ip, &port);
    if (r == 0)
        drill_addr_from_ip(&ip, port, ret);
    return r;
}

int drill_fcntl(struct drill *d, int fd, int cmd, int arg)
{
    struct drill_fd *f = drill_fd_get(d, fd, DRILL_FD_SOCK);

    if (!f)
        return -EBADF;
    switch (cmd) {
    case F_GETFL:
        return O_RDWR | (f->nonblock ? O_NONBLOCK : 0);
    case F_SETFL:
        f->nonblock = (arg & O_NONBLOCK) != 0;
        return 0;
    default:
        return -EINVAL;
    }
}

int drill_ioctl(struct drill *d, int fd, uint32_t request, int32_t *value)
{
    int error;
    struct drill_fd *f = get_sock(d, fd, &error);
    int64_t r;

    if (!f)
        return error;
    switch (request) {
    case SIOCINQ:
        r = sock_queued(f->sock, SOCK_QUEUED_IN);
        break;
    case SIOCOUTQ:
        r = sock_queued(f->sock, SOCK_QUEUED_OUT);
        break;
    case SIOCOUTQNSD:
        r = sock_queued(f->sock, SOCK_QUEUED_UNSENT);
        break;
    default:
        return -ENOTTY;
    }
    if (r < 0)
        return (int)r;
    *value = (int32_t)r;
    return 0;
}
