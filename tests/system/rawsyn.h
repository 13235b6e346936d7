/*
 * tests/system/rawsyn.h: what the makers of SYN floods (synflood, bench_flood) share: the frame, which has the options of a
 * Linux SYN, so that each would be worth an entry, and the way onto an interface. Source, source port and sequence number
 * are the caller's to fill in, then rawtcp_seal().
 */
#ifndef TAUT_TESTS_RAWSYN_H
#define TAUT_TESTS_RAWSYN_H

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include "rawtcp.h"

#define TCP_AT      (14 + 20)
#define TCP_BYTES   40
#define FRAME_BYTES (TCP_AT + TCP_BYTES)

static inline void rawsyn_template(uint8_t f[FRAME_BYTES], const uint8_t mac[6], const uint8_t our_mac[6],
                                   uint32_t destination, uint16_t port)
{
    static const uint8_t options[20] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0, 1, 3, 3, 7};
    uint8_t *ip = f + 14, *tcp = f + TCP_AT;

    memcpy(f, mac, 6);
    memcpy(f + 6, our_mac, 6);
    put_be16(f + 12, ETH_P_IP);
    ip[0] = 0x45;
    put_be16(ip + 2, 20 + TCP_BYTES);
    put_be16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    put_be32(ip + 16, destination);
    put_be16(tcp + 2, port);
    tcp[12] = TCP_BYTES / 4 << 4;
    tcp[13] = 2; /* SYN */
    put_be16(tcp + 14, 64240);
    memcpy(tcp + 20, options, sizeof options);
}

/* A packet socket on the interface that receives nothing, and the interface's MAC; -1 with errno. */
static inline int rawsyn_open(const char *name, uint8_t ret_mac[6])
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    socklen_t n = sizeof at;
    int fd = socket(AF_PACKET, SOCK_RAW, 0); /* protocol 0 */

    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || getsockname(fd, (struct sockaddr *)&at, &n) < 0)
        return -1;
    memcpy(ret_mac, at.sll_addr, 6);
    return fd;
}

#endif
