/*
 * daemon/notify.c: one datagram to the service manager (theory of operation).
 *
 * $NOTIFY_SOCKET names a Unix datagram socket, abstract if it begins with '@'. The message is lines of KEY=VALUE. A
 * manager that cannot be reached is no error: the daemon runs without one too.
 */
#include "daemon/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

void notify_send(const char *fmt, ...)
{
    char text[512];
    struct sockaddr_un addr;
    socklen_t addr_bytes;
    va_list args;

    if (notify_address(&addr, &addr_bytes) < 0)
        return;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n <= 0)
        return;
    size_t bytes = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;
    if (sendto(fd, text, bytes, MSG_NOSIGNAL, (struct sockaddr *)&addr, addr_bytes) < 0)
        fprintf(stderr, "<5>the service manager does not listen on $NOTIFY_SOCKET\n");
    close(fd);
}
