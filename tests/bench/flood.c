/*
 * tests/bench/flood.c: SYNs from invented sources, as fast as they go or COUNT of them at RATE, and how many were
 * answered (theory of operation).
 *
 *     bench_flood [-n NETNS] INTERFACE MAC ADDRESS PORT SOURCE/BITS RATE SECONDS [COUNT]
 *
 * RATE 0: without a pause. Each (source, port) is used once: the kernel rate-limits its answers to a repeated SYN. What
 * comes back on the interface meanwhile are SYN-ACKs (SECONDS are to be fewer than the second after which they come
 * again), so the interface's own counter counts them at no cost. The host drops them: they are for nobody.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "tool.h"
#include "../system/rawsyn.h"

#define BATCH 64

static uint8_t frame[BATCH][FRAME_BYTES];
static uint32_t base, hosts, destination, serial;

static void fill(uint8_t *f)
{
    uint32_t i = serial++;

    put_be32(f + 14 + 12, base + i % hosts);
    put_be16(f + TCP_AT, (uint16_t)(1024 + i / hosts % 64000));
    put_be32(f + TCP_AT + 4, i * 2654435761u);
    rawtcp_seal(f + 14, f + TCP_AT, TCP_BYTES);
}

static unsigned long long received(const char *interface)
{
    unsigned long long bytes, packets = 0;
    char line[512];
    FILE *f = fopen("/proc/self/net/dev", "r");

    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':'), *name = line + strspn(line, " ");

        if (colon && (size_t)(colon - name) == strlen(interface) && memcmp(name, interface, strlen(interface)) == 0)
            sscanf(colon + 1, "%llu %llu", &bytes, &packets);
    }
    if (f)
        fclose(f);
    return packets;
}

/* Up to BATCH frames; those that the interface took. */
static unsigned send_batch(int fd, unsigned n)
{
    static struct mmsghdr m[BATCH];
    static struct iovec iov[BATCH];
    unsigned taken = 0;

    for (unsigned i = 0; i < n; i++) {
        fill(frame[i]);
        iov[i] = (struct iovec){frame[i], FRAME_BYTES};
        m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
    }
    for (unsigned at = 0; at < n;) {
        int r = sendmmsg(fd, m + at, n - at, 0);

        if (r < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
            fail("sendmmsg");
        taken += r > 0 ? (unsigned)r : 0;
        at += r > 0 ? (unsigned)r : 1;
    }
    return taken;
}

static void run(const char *interface, int fd, double rate, double seconds, unsigned long count)
{
    unsigned long long before = received(interface);
    unsigned long sent = 0;
    uint64_t began = now_ns();
    double took;

    while ((took = (double)(now_ns() - began) / 1e9) < seconds && serial < count) {
        if (rate > 0 && (double)serial > took * rate) {
            usleep(200);
            continue;
        }
        sent += send_batch(fd, count - serial < BATCH ? (unsigned)(count - serial) : BATCH);
    }
    usleep(30000);
    printf("{\"sent\":%lu,\"seconds\":%.4f,\"answered\":%llu}\n", sent, took, received(interface) - before);
}

int main(int argc, char **argv)
{
    unsigned m[6], bits = 0;
    uint8_t mac[6], our_mac[6];
    char address[64];
    int fd;

    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        enter_net(argv[2]);
        argc -= 2;
        argv += 2;
    }
    if (argc < 8 || sscanf(argv[2], "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6 ||
        sscanf(argv[5], "%63[0-9.]/%u", address, &bits) != 2 || bits < 1 || bits > 32) {
        fprintf(stderr, "usage: bench_flood [-n NETNS] INTERFACE MAC ADDRESS PORT SOURCE/BITS RATE SECONDS [COUNT]\n");
        return 2;
    }
    for (int i = 0; i < 6; i++)
        mac[i] = (uint8_t)m[i];
    base = ntohl(inet_addr(address));
    hosts = bits == 32 ? 1 : 1u << (32 - bits);
    destination = ntohl(inet_addr(argv[3]));
    fd = rawsyn_open(argv[1], our_mac);
    if (fd < 0)
        fail(argv[1]);
    for (int i = 0; i < BATCH; i++)
        rawsyn_template(frame[i], mac, our_mac, destination, (uint16_t)atoi(argv[4]));
    run(argv[1], fd, atof(argv[6]), atof(argv[7]), argc > 8 ? strtoul(argv[8], NULL, 10) : 4000000000u);
    return 0;
}
