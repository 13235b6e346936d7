/*
 * daemon/room.h: descriptors that are kept back, so that at the limit the daemon can still be asked what is wrong, and a
 * worker that dies can be replaced.
 *
 * The kernel gives the lowest number that is free, so a number near RLIMIT_NOFILE says that the table is nearly full:
 * such a descriptor is closed again and counts as refused. Programs and backends stop first, control clients later; what
 * is left is the worker's own (timer, netlink, files, a pair of libev's).
 */
#ifndef TAUT_ROOM_H
#define TAUT_ROOM_H

#include <stdbool.h>

enum room { ROOM_PROGRAM = 32, ROOM_CLIENT = 16 }; /* descriptors kept back from them; at most a quarter of all */

/* May it have a descriptor of this number? */
bool room_left(enum room who, int fd);
/* fd, if it is not one of those that are kept back; else it is closed, and -EMFILE. -errno passes through. */
int room_for(enum room who, int fd);

#endif
