/*
 * tests/system/synflood.c: SYNs from invented sources, at a given rate, onto the kernel's end of a TAP. For
 * test_flood.py; of use in a network namespace of one's own only.
 *
 *     synflood INTERFACE MAC ADDRESS PORT SOURCE/BITS RATE SECONDS
 *
 * Sources are uniform in SOURCE/BITS, ports and sequence numbers random (xorshift, fixed seed: two runs send
 * the same). The options are those of a Linux SYN, so that each would be worth an entry. One template frame;
 * per frame only source, port, sequence number and checksums are filled in. Paced in batches of BATCH frames.
 * Prints "SENT frames SECONDS refused N": refused ones did not fit the interface's queue.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rawtcp.h"

#define BATCH       64
#define TCP_AT      (14 + 20)
#define TCP_BYTES   40
#define FRAME_BYTES (TCP_AT + TCP_BYTES)

static uint8_t frame[BATCH][FRAME_BYTES];
static uint32_t base, host_mask, destination;

static uint32_t random32(void)
{
    static uint64_t x = 0x9e3779b97f4a7c15u;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 32);
}

static void template(uint8_t *f, const uint8_t mac[6], const uint8_t our_mac[6], uint32_t port)
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
    put_be16(tcp + 2, (uint16_t)port);
    tcp[12] = TCP_BYTES / 4 << 4;
    tcp[13] = 2; /* SYN */
    put_be16(tcp + 14, 64240);
    memcpy(tcp + 20, options, sizeof options);
}

static void fill(uint8_t *f)
{
    uint32_t source = base | (random32() & host_mask);
    uint8_t *ip = f + 14, *tcp = f + TCP_AT;

    put_be32(ip + 12, source);
    put_be16(tcp, (uint16_t)(1024 + random32() % 60000));
    put_be32(tcp + 4, random32());
    rawtcp_seal(ip, tcp, TCP_BYTES);
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int open_interface(const char *name, uint8_t ret_mac[6])
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    socklen_t n = sizeof at;
    int fd = socket(AF_PACKET, SOCK_RAW, 0); /* protocol 0: it receives nothing */

    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &n) < 0) {
        perror(name);
        exit(1);
    }
    memcpy(ret_mac, at.sll_addr, 6);
    return fd;
}

/* One batch; the frames that the interface took. */
static unsigned send_batch(int fd)
{
    static struct mmsghdr m[BATCH];
    static struct iovec iov[BATCH];
    unsigned taken = 0;

    for (unsigned i = 0; i < BATCH; i++) {
        fill(frame[i]);
        iov[i] = (struct iovec){frame[i], FRAME_BYTES};
        m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
    }
    for (unsigned at = 0; at < BATCH;) {
        int n = sendmmsg(fd, m + at, BATCH - at, 0);

        if (n < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR) {
            perror("sendmmsg");
            exit(1);
        }
        taken += n > 0 ? (unsigned)n : 0;
        at += n > 0 ? (unsigned)n : 1;
    }
    return taken;
}

static void run(int fd, double rate, double seconds)
{
    double begun = now(), next = begun, t = begun;
    unsigned long long sent = 0, refused = 0;

    while ((t = now()) < begun + seconds) {
        unsigned n;

        if (t < next) {
            usleep((useconds_t)((next - t) * 1e6));
            continue;
        }
        n = send_batch(fd);
        sent += n;
        refused += BATCH - n;
        next += BATCH / rate; /* what was missed is made up for */
    }
    printf("%llu frames %.3f s refused %llu\n", sent, t - begun, refused);
}

static bool parse(char **argv, uint8_t ret_mac[6])
{
    unsigned m[6], bits;
    struct in_addr to, from;
    char *slash = strchr(argv[5], '/');

    if (sscanf(argv[2], "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6 || !slash)
        return false;
    for (unsigned i = 0; i < 6; i++)
        ret_mac[i] = (uint8_t)m[i];
    *slash = 0;
    bits = (unsigned)atoi(slash + 1);
    if (bits < 1 || bits > 31 || inet_pton(AF_INET, argv[3], &to) != 1 ||
        inet_pton(AF_INET, argv[5], &from) != 1)
        return false;
    host_mask = UINT32_MAX >> bits;
    base = ntohl(from.s_addr) & ~host_mask;
    destination = ntohl(to.s_addr);
    return true;
}

int main(int argc, char **argv)
{
    uint8_t mac[6], our_mac[6];
    int fd;

    if (argc != 8 || !parse(argv, mac) || atof(argv[6]) <= 0) {
        fprintf(stderr, "usage: synflood INTERFACE MAC ADDRESS PORT SOURCE/BITS RATE SECONDS\n");
        return 2;
    }
    fd = open_interface(argv[1], our_mac);
    for (unsigned i = 0; i < BATCH; i++)
        template(frame[i], mac, our_mac, (uint32_t)atoi(argv[4]));
    run(fd, atof(argv[6]), atof(argv[7]));
    close(fd);
    return 0;
}
