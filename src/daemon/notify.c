/*
 * daemon/notify.c: one datagram to the service manager (theory of operation).
 *
 * $NOTIFY_SOCKET names a Unix datagram socket, abstract if it begins with '@'. The message is lines of KEY=VALUE. A
 * manager that cannot be reached, or does not read, is no error: the daemon runs without one too.
 */
#include "daemon/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BARRIER_MS 1000
#define SEND_MS 500 /* a manager that does not read must not stop the supervisor */

static int notify_address(struct sockaddr_un *ret, socklen_t *ret_bytes)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path ? strlen(path) : 0;

    if (n < 2 || n >= sizeof ret->sun_path || (path[0] != '/' && path[0] != '@'))
        return -1;
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    memcpy(ret->sun_path, path, n);
    if (path[0] == '@')
        ret->sun_path[0] = '\0';
    *ret_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    return 0;
}

static int through = -1;

/* One datagram to the manager, perhaps with a descriptor. */
static void to_manager(const char *text, size_t bytes, int with_fd)
{
    struct sockaddr_un addr;
    struct iovec iov = {.iov_base = (char *)(uintptr_t)text, .iov_len = bytes};
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1};
    struct timeval most = {.tv_usec = SEND_MS * 1000};
    int fd;

    if (notify_address(&addr, &msg.msg_namelen) < 0)
        return;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    if (with_fd >= 0) {
        struct cmsghdr *cm;

        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof control.buf;
        cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cm), &with_fd, sizeof(int));
    }
    if (sendmsg(fd, &msg, MSG_NOSIGNAL) < 0)
        fprintf(stderr, "<5>the service manager does not %s $NOTIFY_SOCKET\n", errno == EAGAIN ? "read" : "listen on");
    close(fd);
}

void notify_send(const char *fmt, ...)
{
    char text[512];
    va_list args;

    if (through < 0 && !getenv("NOTIFY_SOCKET"))
        return;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n <= 0)
        return;
    size_t bytes = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;

    if (through < 0)
        to_manager(text, bytes, -1);
    else if (send(through, text, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        fprintf(stderr, "<5>a message to the service manager is lost\n");
}

void notify_through(int fd)
{
    through = fd;
}

void notify_relay(int fd)
{
    char text[512];
    ssize_t n;

    while ((n = recv(fd, text, sizeof text, MSG_DONTWAIT)) > 0)
        to_manager(text, (size_t)n, -1);
}

void notify_store(const char *name, int fd)
{
    char text[128];
    int n = snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s\n", name);

    to_manager(text, (size_t)n, fd);
}

void notify_remove(const char *name)
{
    char text[128];
    int n = snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s\n", name);

    to_manager(text, (size_t)n, -1);
}

/* BARRIER=1 brings one end of a pipe, which the manager closes in its turn. */
void notify_barrier(void)
{
    struct pollfd p = {.events = POLLIN};
    int fd[2];

    if (!notify_managed() || pipe2(fd, O_CLOEXEC) != 0)
        return;
    to_manager("BARRIER=1\n", 10, fd[1]);
    close(fd[1]);
    p.fd = fd[0];
    poll(&p, 1, BARRIER_MS);
    close(fd[0]);
}

bool notify_managed(void)
{
    struct sockaddr_un addr;
    socklen_t bytes;

    return notify_address(&addr, &bytes) == 0;
}

unsigned long long notify_watchdog_ns(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    return strtoull(usec, NULL, 10) * 1000ull / 2;
}
