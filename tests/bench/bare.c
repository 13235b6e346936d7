/*
 * tests/bench/bare.c: the bare TAP: what a perfect stack could reach on it (theory of operation).
 *
 *     bench_bare [-n NETNS] [-p] [-u] [-s MICROSECONDS] INTERFACE ADDRESS
 *
 * It answers ARP and TCP for ADDRESS with as little as a peer on a link without loss lets pass: echo (7) and connections
 * to it need no state at all, because every answer follows from the segment that asks; discard (9) and chargen (19) have
 * one small entry per connection. No checksum is verified, payload is a constant block (zeros, whose sum is 0), lost
 * segments are gone back to after 200 ms only. So it is no TCP, and its figures are an upper bound.
 *
 * -p: plain frames of MTU 1500, whole checksums, no virtio-net header; else super-frames of 44 segments. ACKs: one for
 * two super-frames (eight plain frames), and when nothing more waits. -s: spins for so long after the last frame
 * before it sleeps (busy polling). -u: chargen's bytes come from another process through a Unix stream socket, discard's
 * go to one: what an ideal stack would do for a program. One hot buffer serves all frames; a real one keeps what it sent.
 */
#include <arpa/inet.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tap.h"
#include "../system/rawtcp.h"
#include "wire/bytes.h"

#define MSS       1460
#define SUPER     (44 * MSS)
#define TCP_AT    (14 + 20)
#define WSCALE    10
#define WINDOW    8192 /* << WSCALE */
#define ISS       4096
#define CONNS     1024
#define READ_TURN 64
#define SEND_TURN 16
#define RTO_NS    200000000u

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct conn {
    uint32_t addr;
    uint16_t port, service; /* service 0: free; */
    uint32_t rcv_nxt, snd_una, snd_nxt, window;
    unsigned held; /* frames not acknowledged yet */
    uint8_t wscale;
    bool open;
    uint64_t progress_at;
};

/* A segment as it came, and the answer's addressing. */
struct segment {
    const uint8_t *eth, *ip, *tcp, *data;
    uint32_t seq, ack, len, addr;
    uint16_t port, service;
    uint8_t flags;
};

static struct conn table[CONNS];
static int fd;
static bool plain;
static int from_program = -1, to_program = -1;
static uint32_t our_addr;
static const uint8_t our_mac[6] = {2, 0x77, 0, 0, 0, 2};
static uint8_t peer_mac[6];
static const uint8_t zeros[SUPER];

static struct conn *find(uint32_t addr, uint16_t port, uint16_t service, bool make)
{
    uint32_t h = (addr * 2654435761u) ^ port;
    struct conn *room = NULL;

    for (uint32_t i = 0; i < CONNS; i++) {
        struct conn *c = &table[(h + i) % CONNS];

        if (c->service == service && c->addr == addr && c->port == port)
            return c;
        if (c->service)
            continue;
        room = room ? room : c;
        if (!c->addr)
            break; /* never used: none beyond */
    }
    if (!make || !room)
        return NULL;
    *room = (struct conn){.addr = addr, .port = port, .service = service, .snd_una = ISS + 1, .snd_nxt = ISS + 1};
    return room;
}

/* ---- Out ----------------------------------------------------------------------------------------------------------- */

/* Headers and `len` bytes of data; options: of the SYN-ACK. */
static void emit(uint32_t addr, uint16_t port, uint16_t service, uint32_t seq, uint32_t ack, uint8_t flags,
                 const uint8_t *data, uint32_t len)
{
    static const uint8_t options[8] = {2, 4, MSS >> 8, MSS & 255, 1, 3, 3, WSCALE};
    uint8_t f[10 + TCP_AT + 28] = {0}, *eth = f + 10, *ip = eth + 14, *tcp = eth + TCP_AT;
    struct virtio_net_hdr *v = (struct virtio_net_hdr *)f;
    uint32_t header = flags & SYN ? 28 : 20, total = header + len;
    uint8_t pseudo[12];
    struct iovec iov[2] = {{plain ? eth : f, (plain ? 0u : 10u) + TCP_AT + header}, {(void *)(uintptr_t)data, len}};

    memcpy(eth, peer_mac, 6);
    memcpy(eth + 6, our_mac, 6);
    put_be16(eth + 12, 0x0800);
    ip[0] = 0x45;
    put_be16(ip + 2, (uint16_t)(20 + total));
    put_be16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    put_be32(ip + 12, our_addr);
    put_be32(ip + 16, addr);
    put_be16(tcp, service);
    put_be16(tcp + 2, port);
    put_be32(tcp + 4, seq);
    put_be32(tcp + 8, ack);
    tcp[12] = (uint8_t)(header / 4 << 4);
    tcp[13] = flags;
    put_be16(tcp + 14, flags & SYN ? 65535 : WINDOW);
    if (flags & SYN)
        memcpy(tcp + 20, options, sizeof options);
    put_be16(ip + 10, csum_fold(csum_partial(ip, 20, 0)));
    memcpy(pseudo, ip + 12, 8);
    put_be16(pseudo + 8, IPPROTO_TCP);
    put_be16(pseudo + 10, (uint16_t)total);
    if (plain) {
        uint32_t sum = csum_partial(tcp, header, csum_partial(pseudo, 12, 0));

        put_be16(tcp + 16, csum_fold(len && data != zeros ? csum_add(sum, csum_partial(data, len, 0)) : sum));
    } else {
        put_be16(tcp + 16, csum_fold_plain(csum_partial(pseudo, 12, 0)));
        v->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        v->csum_start = TCP_AT;
        v->csum_offset = 16;
        if (len > MSS) {
            v->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
            v->gso_size = MSS;
            v->hdr_len = (uint16_t)(TCP_AT + header);
        }
    }
    while (writev(fd, iov, len ? 2 : 1) < 0 && errno == EINTR)
        ;
}

static void acknowledge(struct conn *c)
{
    emit(c->addr, c->port, c->service, c->snd_nxt, c->rcv_nxt, ACK, NULL, 0);
    c->held = 0;
}

/* One frame of the pattern if the window has room. */
static bool send_frame(struct conn *c)
{
    uint32_t in_flight = c->snd_nxt - c->snd_una, most = plain ? 1u * MSS : 1u * SUPER;
    uint32_t room = c->window > in_flight ? c->window - in_flight : 0u;
    uint32_t len = room < most ? room : most;

    const uint8_t *data = zeros;

    if (len == 0 || (len < MSS && in_flight > 0))
        return false;
    if (from_program >= 0) {
        static uint8_t buffer[SUPER];
        ssize_t n = recv(from_program, buffer, len, MSG_DONTWAIT);

        if (n <= 0)
            return false;
        data = buffer;
        len = (uint32_t)n;
    }
    emit(c->addr, c->port, c->service, c->snd_nxt, c->rcv_nxt, ACK, data, len);
    c->snd_nxt += len;
    return true;
}

/* Acknowledgements that are owed (nothing more waits), and data; true if more could be sent. */
static bool output(bool drained)
{
    unsigned budget = SEND_TURN;
    bool more = true, any = false;

    for (unsigned i = 0; drained && i < CONNS; i++) {
        if (table[i].service == DISCARD_PORT && table[i].held)
            acknowledge(&table[i]);
    }
    while (budget && more) {
        more = false;
        for (unsigned i = 0; i < CONNS && budget; i++) {
            struct conn *c = &table[i];

            if (c->service == CHARGEN_PORT && c->open && send_frame(c)) {
                budget--;
                more = any = true;
            }
        }
    }
    return any && more;
}

/* What was not acknowledged for a while goes again. */
static void check_stalls(uint64_t now)
{
    for (unsigned i = 0; i < CONNS; i++) {
        struct conn *c = &table[i];

        if (c->service == CHARGEN_PORT && c->open && c->snd_nxt != c->snd_una && now - c->progress_at > RTO_NS) {
            c->snd_nxt = c->snd_una;
            c->progress_at = now;
        }
    }
}

/* ---- In ------------------------------------------------------------------------------------------------------------ */

static void arp(const uint8_t *f)
{
    uint8_t r[10 + 42] = {0}, *eth = r + 10;

    if (get_be16(f + 20) != 1 || get_be32(f + 38) != our_addr)
        return;
    memcpy(eth, f + 6, 6);
    memcpy(eth + 6, our_mac, 6);
    memcpy(eth + 12, f + 12, 8);
    put_be16(eth + 20, 2);
    memcpy(eth + 22, our_mac, 6);
    put_be32(eth + 28, our_addr);
    memcpy(eth + 32, f + 22, 10);
    if (write(fd, plain ? eth : r, plain ? 42 : 52) < 0)
        fail("ARP");
}

static uint8_t wscale_of(const uint8_t *tcp)
{
    uint32_t end = (uint32_t)(tcp[12] >> 4) * 4;

    for (uint32_t i = 20; i + 1 < end && tcp[i] != 0; i += tcp[i] == 1 || tcp[i + 1] < 2 ? 1u : tcp[i + 1]) {
        if (tcp[i] == 3)
            return tcp[i + 2];
    }
    return 0;
}

static void opened(const struct segment *s)
{
    if (s->service != ECHO_PORT) {
        struct conn *c = find(s->addr, s->port, s->service, true);

        if (!c)
            return;
        *c = (struct conn){.addr = s->addr, .port = s->port, .service = s->service, .snd_una = ISS + 1, .snd_nxt = ISS + 1,
                           .rcv_nxt = s->seq + 1, .wscale = wscale_of(s->tcp)};
    }
    emit(s->addr, s->port, s->service, ISS, s->seq + 1, SYN | ACK, NULL, 0);
}

static void echo(const struct segment *s)
{
    if (s->flags & FIN)
        emit(s->addr, s->port, s->service, s->ack, s->seq + s->len + 1, FIN | ACK, s->data, s->len);
    else if (s->len)
        emit(s->addr, s->port, s->service, s->ack, s->seq + s->len, PSH | ACK, s->data, s->len);
}

static void discard(struct conn *c, const struct segment *s)
{
    uint32_t end = s->seq + s->len;

    if (s->len && s->seq != c->rcv_nxt) { /* one was lost, or comes again */
        if ((int32_t)(s->seq - c->rcv_nxt) < 0 && (int32_t)(end - c->rcv_nxt) > 0)
            c->rcv_nxt = end;
        acknowledge(c);
        return;
    }
    c->rcv_nxt = end;
    if (s->len && to_program >= 0 && send(to_program, s->data, s->len, MSG_NOSIGNAL) < 0)
        fail("send to the program");
    if (s->flags & FIN) {
        c->rcv_nxt++;
        emit(c->addr, c->port, c->service, c->snd_nxt, c->rcv_nxt, FIN | ACK, NULL, 0);
        c->service = 0;
    } else if (s->len && ++c->held >= (plain ? 8u : 2u)) {
        acknowledge(c);
    }
}

static void pattern(struct conn *c, const struct segment *s)
{
    c->window = (uint32_t)get_be16(s->tcp + 14) << c->wscale;
    if (!c->open || (int32_t)(s->ack - c->snd_una) > 0) {
        c->snd_una = s->ack;
        if ((int32_t)(c->snd_nxt - s->ack) < 0)
            c->snd_nxt = s->ack;
        c->progress_at = now_ns();
    }
    c->open = true;
    if (s->flags & FIN)
        c->service = 0;
}

static void input(const uint8_t *f, size_t bytes)
{
    struct segment s = {.eth = f, .ip = f + 14, .tcp = f + TCP_AT};
    struct conn *c;

    if (bytes >= 42 && get_be16(f + 12) == 0x0806)
        arp(f);
    if (bytes < TCP_AT + 20 || get_be16(f + 12) != 0x0800 || s.ip[0] != 0x45 || s.ip[9] != IPPROTO_TCP ||
        get_be32(s.ip + 16) != our_addr)
        return;
    memcpy(peer_mac, f + 6, 6);
    s.addr = get_be32(s.ip + 12);
    s.port = get_be16(s.tcp);
    s.service = get_be16(s.tcp + 2);
    s.seq = get_be32(s.tcp + 4);
    s.ack = get_be32(s.tcp + 8);
    s.flags = s.tcp[13];
    s.data = s.tcp + (s.tcp[12] >> 4) * 4;
    s.len = (uint32_t)(get_be16(s.ip + 2) - 20 - (s.tcp[12] >> 4) * 4);
    if (s.service != ECHO_PORT && s.service != DISCARD_PORT && s.service != CHARGEN_PORT)
        return;
    if (s.flags & SYN) {
        opened(&s);
        return;
    }
    if (s.service == ECHO_PORT) {
        if (!(s.flags & RST))
            echo(&s);
        return;
    }
    c = find(s.addr, s.port, s.service, false);
    if (!c)
        return;
    if (s.flags & RST)
        c->service = 0;
    else if (s.service == DISCARD_PORT)
        discard(c, &s);
    else
        pattern(c, &s);
}

/* Up to READ_TURN frames; how many. *ret_drained: nothing more waits. */
static unsigned read_turn(bool *ret_drained)
{
    static uint8_t buffer[70000];
    size_t head = plain ? 0 : 10;

    for (unsigned i = 0; i < READ_TURN; i++) {
        ssize_t n = read(fd, buffer, sizeof buffer);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            exit(0); /* the interface went */
        if (n < 0) {
            *ret_drained = true;
            return i;
        }
        if ((size_t)n > head)
            input(buffer + head, (size_t)n - head);
    }
    *ret_drained = false;
    return READ_TURN;
}

/* The program: it writes, or reads, without end. Returns our end of its socket. */
static int program(bool writes)
{
    static uint8_t buffer[262144];
    int pair[2], ahead = 512 * 1024;
    pid_t pid = -1;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || (pid = fork()) < 0)
        fail("a program");
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &ahead, sizeof ahead); /* as tautd */
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &ahead, sizeof ahead);
    if (pid > 0) {
        close(pair[1]);
        return pair[0];
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(pair[0]);
    while ((writes ? write(pair[1], buffer, 131072) : read(pair[1], buffer, sizeof buffer)) > 0)
        ;
    _exit(0);
}

static bool sending(void)
{
    for (unsigned i = 0; i < CONNS; i++) {
        if (table[i].service == CHARGEN_PORT && table[i].open && table[i].snd_nxt - table[i].snd_una < table[i].window)
            return true;
    }
    return false;
}

static void loop(uint64_t spin_ns)
{
    uint64_t active = now_ns(), checked = active;

    for (;;) {
        bool drained;
        unsigned n = read_turn(&drained);
        bool more = output(drained);
        uint64_t now = now_ns();

        if (n || more)
            active = now;
        if (now - checked > RTO_NS / 4) {
            check_stalls(now);
            checked = now;
        }
        if (drained && !more && now - active >= spin_ns) {
            struct pollfd p[2] = {{.fd = fd, .events = POLLIN},
                                  {.fd = from_program >= 0 && sending() ? from_program : -1, .events = POLLIN}};

            poll(p, 2, 50);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t spin = 0;
    bool programs = false;
    int option;

    while ((option = getopt(argc, argv, "n:pus:")) > 0) {
        if (option == 'n')
            enter_net(optarg);
        else if (option == 'p')
            plain = true;
        else if (option == 'u')
            programs = true;
        else if (option == 's')
            spin = strtoul(optarg, NULL, 10) * 1000;
        else
            return 2;
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: bench_bare [-n NETNS] [-p] [-u] [-s MICROSECONDS] INTERFACE ADDRESS\n");
        return 2;
    }
    our_addr = ntohl(inet_addr(argv[optind + 1]));
    if (programs) {
        from_program = program(true);
        to_program = program(false);
    }
    fd = tap_make(argv[optind], !plain);
    printf("ready\n");
    fflush(stdout);
    loop(spin);
}
