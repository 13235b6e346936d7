/*
 * tests/bench/tap.h: opens a TAP for the bench's own ends of one.
 */
#ifndef TAUT_TESTS_BENCH_TAP_H
#define TAUT_TESTS_BENCH_TAP_H

#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include "tool.h"

/* super: virtio-net headers, partial checksums, super-frames both ways; else plain frames. Non-blocking. */
static inline int tap_make(const char *name, bool super)
{
    struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | (super ? IFF_VNET_HDR : 0))};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    snprintf(ifr.ifr_name, IFNAMSIZ, "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) != 0)
        fail(name);
    if (super && ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4)) != 0)
        fail("TUNSETOFFLOAD");
    return fd;
}

#endif
