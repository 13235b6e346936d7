/*
 * tests/packetdrill/shim_so.h: the shim behind packetdrill's shared-object interface (--so_filename).
 *
 *   shim_so.c       the table of calls that packetdrill fills by packetdrill_interface_init()
 *   shim_preload.c  what packetdrill asks of the C library past that table; used with LD_PRELOAD=this library
 *
 * The order, names and types of the table's members are packetdrill's ABI, declared here anew.
 */
#ifndef TAUT_DRILL_SHIM_SO_H
#define TAUT_DRILL_SHIM_SO_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include "shim.h"

/* Every member returns what the system call of its name does, with errno. */
struct so_interface {
    void *userdata;
    void (*free)(void *);
    int (*socket)(void *, int domain, int type, int protocol);
    int (*bind)(void *, int fd, const struct sockaddr *, socklen_t);
    int (*listen)(void *, int fd, int backlog);
    int (*accept)(void *, int fd, struct sockaddr *, socklen_t *);
    int (*connect)(void *, int fd, const struct sockaddr *, socklen_t);
    ssize_t (*read)(void *, int fd, void *, size_t);
    ssize_t (*readv)(void *, int fd, const struct iovec *, int n);
    ssize_t (*recv)(void *, int fd, void *, size_t, int flags);
    ssize_t (*recvfrom)(void *, int fd, void *, size_t, int flags, struct sockaddr *, socklen_t *);
    ssize_t (*recvmsg)(void *, int fd, struct msghdr *, int flags);
    ssize_t (*write)(void *, int fd, const void *, size_t);
    ssize_t (*writev)(void *, int fd, const struct iovec *, int n);
    ssize_t (*send)(void *, int fd, const void *, size_t, int flags);
    ssize_t (*sendto)(void *, int fd, const void *, size_t, int flags, const struct sockaddr *, socklen_t);
    ssize_t (*sendmsg)(void *, int fd, const struct msghdr *, int flags);
    int (*fcntl)(void *, int fd, int cmd, ...);
    int (*ioctl)(void *, int fd, unsigned long request, ...);
    int (*close)(void *, int fd);
    int (*shutdown)(void *, int fd, int how);
    int (*getsockopt)(void *, int fd, int level, int name, void *, socklen_t *);
    int (*setsockopt)(void *, int fd, int level, int name, const void *, socklen_t);
    int (*poll)(void *, struct pollfd *, nfds_t, int timeout_ms);
    int (*netdev_send)(void *, const void *packet, size_t bytes);
    int (*netdev_receive)(void *, void *packet, size_t *inout_bytes, long long *ret_us);
    int (*usleep)(void *, useconds_t);
    int (*gettimeofday)(void *, struct timeval *, struct timezone *);
    int (*epoll_create)(void *, int size);
    int (*epoll_ctl)(void *, int epfd, int op, int fd, struct epoll_event *);
    int (*epoll_wait)(void *, int epfd, struct epoll_event *, int max, int timeout_ms);
    int (*pipe)(void *, int fds[2]);
    int (*splice)(void *, int fd_in, loff_t *off_in, int fd_out, loff_t *off_out, size_t bytes,
                  unsigned flags);
};

/*
 * flags (--so_flags): words NAME=VALUE separated by commas: local (addresses separated by +), mtu, mss (bytes
 * per segment of a large packet that comes in), seed.
 */
void packetdrill_interface_init(const char *flags, struct so_interface *ret);

/* ---- for shim_preload.c ---- */

/* Descriptors as packetdrill sees them lie where no descriptor of the process does. */
#define SO_FD_BASE 1000

/* The host, locked; so_unlock() gives it back. NULL: there is none (and nothing is locked). */
struct drill *so_lock(void);
void so_unlock(void);
/* Is one of packetdrill's calls asleep in here? Host locked. */
bool so_call_sleeps(void);
/* Moves the clock to the next thing that happens, not past `until` (ns). False: nothing happens until then.
 * Locked. */
bool so_next_event(struct drill *d, uint64_t until);
/* A thread is about to wait on cond: if it was in a call, packetdrill has the result. Host not locked. */
void so_waits_again(const pthread_cond_t *cond);
/* The C library's pthread_cond_timedwait(), in real time. */
int so_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
/* A descriptor that is a socket of ours, still open? Host not locked. */
bool so_owns(int fd);
int so_getsockopt(int fd, int level, int name, void *value, socklen_t *inout_bytes);
int so_close(int fd);

#endif
