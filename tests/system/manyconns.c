/*
 * tests/system/manyconns.c: completes a great many handshakes from invented sources, without a socket for any, on the
 * kernel's end of a TAP. For test_huge.py; of use in a network namespace of one's own only.
 *
 *     manyconns INTERFACE MAC ADDRESS PORT SOURCE COUNT SECONDS
 *
 * Connection i comes from address SOURCE + i / 16384 and port 32768 + i % 16384, with sequence number i. Each SYN-ACK is
 * answered with an ACK (a repeated one too, until none has come for a while); SYNs without an answer are sent again after a second. At most WINDOW
 * handshakes are under way, so that no queue on the way overflows, our own least of all. Nothing is answered afterwards: the
 * connections stay as they are. Prints the number that completed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rawtcp.h"

#define PER_ADDRESS 16384u
#define FIRST_PORT  32768u
#define WINDOW      200u
#define TCP_AT      34

static uint8_t mac[6], our_mac[6];
static uint32_t source, destination, port;
static int fd;

static void send_segment(uint32_t i, bool syn, uint32_t ack)
{
    static const uint8_t options[8] = {2, 4, 5, 0xb4, 1, 3, 3, 7};
    uint16_t bytes = syn ? 28 : 20;
    uint8_t f[TCP_AT + 28] = {0}, *ip = f + 14, *tcp = f + TCP_AT;

    memcpy(f, mac, 6);
    memcpy(f + 6, our_mac, 6);
    put_be16(f + 12, ETH_P_IP);
    ip[0] = 0x45;
    put_be16(ip + 2, (uint16_t)(20 + bytes));
    put_be16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    put_be32(ip + 12, source + i / PER_ADDRESS);
    put_be32(ip + 16, destination);
    put_be16(tcp, (uint16_t)(FIRST_PORT + i % PER_ADDRESS));
    put_be16(tcp + 2, (uint16_t)port);
    put_be32(tcp + 4, syn ? i : i + 1);
    put_be32(tcp + 8, ack);
    tcp[12] = (uint8_t)(bytes / 4 << 4);
    tcp[13] = syn ? 2 : 16;
    put_be16(tcp + 14, 64240);
    if (syn)
        memcpy(tcp + 20, options, sizeof options);
    rawtcp_seal(ip, tcp, bytes);
    while (send(fd, f, TCP_AT + bytes, 0) < 0 && (errno == ENOBUFS || errno == EAGAIN))
        usleep(500);
}

/* Answers what waits; how many handshakes are new. */
static uint32_t answer(uint8_t *done, uint32_t count)
{
    uint8_t f[2048];
    uint32_t new = 0;
    ssize_t n;

    while ((n = recv(fd, f, sizeof f, MSG_DONTWAIT)) > 0) {
        const uint8_t *tcp = f + TCP_AT;
        uint32_t i;

        if (n < TCP_AT + 20 || get_be16(f + 12) != ETH_P_IP || f[14] != 0x45 || f[23] != IPPROTO_TCP ||
            get_be32(f + 26) != destination || get_be16(tcp) != port || (tcp[13] & 0x17) != 0x12)
            continue;
        i = (get_be32(f + 30) - source) * PER_ADDRESS + get_be16(tcp + 2) - FIRST_PORT;
        if (i >= count || get_be32(tcp + 8) != i + 1)
            continue;
        send_segment(i, false, get_be32(tcp + 4) + 1);
        new += !done[i];
        done[i] = 1;
    }
    return new;
}

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool open_link(const char *interface)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    socklen_t len = sizeof at;
    int bytes = 8 << 20;

    at.sll_ifindex = (int)if_nametoindex(interface);
    fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (fd < 0 || at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    memcpy(our_mac, at.sll_addr, 6);
    return true;
}

int main(int argc, char **argv)
{
    unsigned m[6];
    uint32_t count, sent = 0, complete = 0;
    uint8_t *done;
    double end, retry;

    if (argc != 8 || sscanf(argv[2], "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6) {
        fprintf(stderr, "usage: manyconns INTERFACE MAC ADDRESS PORT SOURCE COUNT SECONDS\n");
        return 2;
    }
    for (int i = 0; i < 6; i++)
        mac[i] = (uint8_t)m[i];
    destination = ntohl(inet_addr(argv[3]));
    port = (uint32_t)atoi(argv[4]);
    source = ntohl(inet_addr(argv[5]));
    count = (uint32_t)atoi(argv[6]);
    end = seconds() + atof(argv[7]);
    done = calloc(count, 1);
    if (!done || !open_link(argv[1])) {
        perror("manyconns");
        return 1;
    }
    for (retry = seconds() + 1; complete < count && seconds() < end;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        while (sent < count && sent - complete < WINDOW)
            send_segment(sent++, true, 0);
        poll(&p, 1, 10);
        complete += answer(done, count);
        if (seconds() < retry)
            continue;
        retry = seconds() + 1;
        for (uint32_t i = 0, n = 0; i < sent && n < WINDOW; i++)
            if (!done[i])
                send_segment(i, true, 0), n++;
    }
    /* An ACK may have been lost or come too early: the SYN-ACK comes again then. */
    for (end = seconds() + 3.5; complete == count && seconds() < end;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        poll(&p, 1, 100);
        answer(done, count);
    }
    printf("%u\n", complete);
    free(done);
    return complete == count ? 0 : 1;
}
