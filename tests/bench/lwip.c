/*
 * tests/bench/lwip.c: lwIP, as Debian packages it, on a TAP: echo, discard and chargen (theory of operation).
 *
 *     bench_lwip [-n NETNS] INTERFACE ADDRESS/BITS
 *
 * The shortest way through lwIP that its library allows: one thread, the raw interface, no tcpip thread; frames are read
 * straight into heap buffers (the package's pool has places of 592 bytes that it hands out for frames of 1514, and
 * overruns them) and written from the one buffer that the library makes. Its options are the package's
 * (lwipopts.h): MSS 1460, a window and a send buffer of 64 KiB, an ACK for two segments, heap memory.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/uio.h>

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <netif/ethernet.h>

#include "tap.h"

#define FRAME_BYTES 1514
#define READ_TURN   64

static int tap_fd;
static struct netif netif;
static const uint8_t pattern[65536];

static err_t send_frame(struct netif *n, struct pbuf *p)
{
    struct iovec iov[16];
    int k = 0;

    (void)n;
    for (; p && k < 16; p = p->next)
        iov[k++] = (struct iovec){p->payload, p->len};
    return writev(tap_fd, iov, k) < 0 ? ERR_IF : ERR_OK;
}

static err_t netif_setup(struct netif *n)
{
    n->name[0] = 't';
    n->name[1] = 'p';
    n->output = etharp_output;
    n->linkoutput = send_frame;
    n->mtu = 1500;
    n->hwaddr_len = 6;
    memcpy(n->hwaddr, "\x02\x77\0\0\0\x02", 6);
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

/* ---- Services: the argument of a connection is its port -------------------------------------------------------------- */

static void fill(struct tcp_pcb *pcb)
{
    u16_t room;

    while ((room = tcp_sndbuf(pcb)) > 0) {
        if (tcp_write(pcb, pattern, room, 0) != ERR_OK)
            break;
    }
    tcp_output(pcb);
}

static err_t sent(void *port, struct tcp_pcb *pcb, u16_t bytes)
{
    (void)bytes;
    if ((uintptr_t)port == CHARGEN_PORT)
        fill(pcb);
    return ERR_OK;
}

static err_t received(void *port, struct tcp_pcb *pcb, struct pbuf *p, err_t error)
{
    (void)error;
    if (!p) {
        if (tcp_close(pcb) != ERR_OK) {
            tcp_abort(pcb);
            return ERR_ABRT;
        }
        return ERR_OK;
    }
    if ((uintptr_t)port == ECHO_PORT) {
        for (struct pbuf *q = p; q; q = q->next)
            tcp_write(pcb, q->payload, q->len, TCP_WRITE_FLAG_COPY);
        tcp_output(pcb);
    }
    tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    return ERR_OK;
}

static err_t accepted(void *port, struct tcp_pcb *pcb, err_t error)
{
    if (error != ERR_OK || !pcb)
        return ERR_VAL;
    tcp_arg(pcb, port);
    tcp_recv(pcb, received);
    tcp_sent(pcb, sent);
    tcp_nagle_disable(pcb);
    if ((uintptr_t)port == CHARGEN_PORT)
        fill(pcb);
    return ERR_OK;
}

static void listen_on(uintptr_t port)
{
    struct tcp_pcb *pcb = tcp_new();

    if (!pcb || tcp_bind(pcb, IP_ADDR_ANY, (u16_t)port) != ERR_OK || !(pcb = tcp_listen_with_backlog(pcb, 255))) {
        fprintf(stderr, "lwIP cannot listen\n");
        exit(1);
    }
    tcp_arg(pcb, (void *)port);
    tcp_accept(pcb, accepted);
}

/* False: nothing waits. */
static bool read_frame(void)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, FRAME_BYTES, PBUF_RAM);
    ssize_t n;

    if (!p || p->next) {
        fprintf(stderr, "lwIP has no buffer for a frame\n");
        exit(1);
    }
    n = read(tap_fd, p->payload, FRAME_BYTES);
    if (n <= 0) {
        pbuf_free(p);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            exit(0); /* the interface went */
        return false;
    }
    pbuf_realloc(p, (u16_t)n);
    if (netif.input(p, &netif) != ERR_OK)
        pbuf_free(p);
    return true;
}

static void loop(void)
{
    for (;;) {
        struct pollfd p = {.fd = tap_fd, .events = POLLIN};
        u32_t sleep;

        sys_check_timeouts();
        sleep = sys_timeouts_sleeptime();
        poll(&p, 1, sleep > 1000 ? 1000 : (int)sleep);
        for (int i = 0; i < READ_TURN && read_frame(); i++)
            ;
    }
}

int main(int argc, char **argv)
{
    ip4_addr_t address, mask, gateway;
    unsigned bits;
    char text[64];

    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        enter_net(argv[2]);
        argc -= 2;
        argv += 2;
    }
    if (argc != 3 || sscanf(argv[2], "%63[0-9.]/%u", text, &bits) != 2 || bits < 1 || bits > 31) {
        fprintf(stderr, "usage: bench_lwip [-n NETNS] INTERFACE ADDRESS/BITS\n");
        return 2;
    }
    address.addr = inet_addr(text);
    mask.addr = htonl(0xffffffffu << (32 - bits));
    gateway.addr = htonl((ntohl(address.addr) & ntohl(mask.addr)) + 1); /* the kernel's end is the first of the prefix */
    tap_fd = tap_make(argv[1], false);
    lwip_init();
    if (!netif_add(&netif, &address, &mask, &gateway, NULL, netif_setup, ethernet_input)) {
        fprintf(stderr, "lwIP takes no interface\n");
        return 1;
    }
    netif_set_default(&netif);
    netif_set_up(&netif);
    listen_on(ECHO_PORT);
    listen_on(DISCARD_PORT);
    listen_on(CHARGEN_PORT);
    printf("ready\n");
    fflush(stdout);
    loop();
}
