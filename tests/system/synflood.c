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
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rawsyn.h"

#define BATCH 64

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
    fd = rawsyn_open(argv[1], our_mac);
    if (fd < 0) {
        perror(argv[1]);
        exit(1);
    }
    for (unsigned i = 0; i < BATCH; i++)
        rawsyn_template(frame[i], mac, our_mac, destination, (uint16_t)atoi(argv[4]));
    run(fd, atof(argv[6]), atof(argv[7]));
    close(fd);
    return 0;
}
