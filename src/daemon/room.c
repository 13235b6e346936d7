/*
 * daemon/room.c: see daemon/room.h. The limit is asked each time: it can be changed from outside (prlimit).
 */
#include "daemon/room.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

bool room_left(enum room who, int fd)
{
    struct rlimit r;
    rlim_t back = (rlim_t)who;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return true;
    if (back > r.rlim_cur / 4)
        back = r.rlim_cur / 4;
    return (rlim_t)fd < r.rlim_cur - back;
}

int room_for(enum room who, int fd)
{
    if (fd < 0 || room_left(who, fd))
        return fd;
    close(fd);
    return -EMFILE;
}
