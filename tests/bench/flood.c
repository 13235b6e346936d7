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
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "tool.h"
#include "../system/rawtcp.h"

#define BATCH       64
#define TCP_AT      (14 + 20)
#define TCP_BYTES   40
#define FRAME_BYTES (TCP_AT + TCP_BYTES)

static uint8_t frame[BATCH][FRAME_BYTES];
static uint32_t base, hosts, destination, serial;

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
    uint32_t i = serial++;

    put_be32(f + 14 + 12, base + i % hosts);
    put_be16(f + TCP_AT, (uint16_t)(1024 + i / hosts % 64000));
    put_be32(f + TCP_AT + 4, i * 2654435761u);
    rawtcp_seal(f + 14, f + TCP_AT, TCP_BYTES);
}

static int open_interface(const char *name, uint8_t ret_mac[6])
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    socklen_t n = sizeof at;
    int fd = socket(AF_PACKET, SOCK_RAW, 0); /* protocol 0: it receives nothing */

    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || getsockname(fd, (struct sockaddr *)&at, &n) < 0)
        fail(name);
    memcpy(ret_mac, at.sll_addr, 6);
    return fd;
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
    fd = open_interface(argv[1], our_mac);
    for (int i = 0; i < BATCH; i++)
        template(frame[i], mac, our_mac, (uint32_t)atoi(argv[4]));
    run(argv[1], fd, atof(argv[6]), atof(argv[7]), argc > 8 ? strtoul(argv[8], NULL, 10) : 4000000000u);
    return 0;
}
