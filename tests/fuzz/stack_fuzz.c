/*
 * stack_fuzz.c: a whole stack with its engine and sockets, fed with frames, time steps and calls.
 *
 * The input is a list of steps: raw frames, frames from templates with bytes changed and checksums repaired
 * (or hardly anything would get past them), answers to what the stack sent (so that neighbours resolve and
 * connections open), changes of link, device and addresses, socket calls, time. After every step the stack is
 * pulled empty and what stack.h promises is checked: frames that leave are whole and fit the link, the
 * deadline lies in the future afterwards, nothing happens before it, memory of fragments and neighbours is
 * bounded, the engine's own check holds.
 *
 * With libFuzzer (-Dfuzz=true), or as a program of its own with -DFUZZ_REPLAY:
 *     stack_fuzz FILE...            replays inputs
 *     stack_fuzz --seeds A:B        makes inputs from seeds, says which one failed
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "stack/stack_priv.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/vnet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t at_seed;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: seed %llu: %s\n", __FILE__, __LINE__, (unsigned long long)at_seed,       \
                    #condition);                                                                             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#define SOCKS     6
#define FRAME_MAX 4096

struct fuzz {
    const uint8_t *data;
    size_t left;
    struct stack *st;
    struct stack_config config;
    struct tcp_config tcp_config;
    struct chunk_pool *pool;
    uint64_t now;
    struct sock *sock[SOCKS];
    uint8_t last[FRAME_MAX]; /* Ethernet frame that left last */
    size_t last_n;
    uint8_t frame[FRAME_MAX];
};

static const struct eth_addr mac_us = {{2, 0, 0, 0, 0, 1}}, mac_peer = {{2, 0, 0, 0, 0, 2}};

static uint8_t take(struct fuzz *f)
{
    if (!f->left)
        return 0;
    f->left--;
    return *f->data++;
}

static struct ip_addr addr(struct fuzz *f, bool v6)
{
    static const char *const v4s[] = {"192.0.2.1",    "192.0.2.7", "192.0.2.254",
                                      "198.51.100.1", "224.0.0.1", "192.0.2.255"};
    static const char *const v6s[] = {"fe80::ff:fe00:1", "fe80::2", "2001:db8::1",
                                      "2001:db8::2",     "ff02::1", "2001:db8:1::9"};
    struct ip_addr a;

    ip_addr_parse(v6 ? v6s[take(f) % 6] : v4s[take(f) % 6], &a);
    return v6 ? ip_addr_v6_bytes(a.b, 1) : a;
}

/* ---- Out ---------------------------------------------------------------------------------------------- */

static void check_frame(struct fuzz *f, const struct stack_tx *tx)
{
    size_t vnet = f->st->offload.vnet_hdr ? f->st->offload.vnet_hdr_bytes : 0, at = tx->header_bytes;
    struct vnet_header h = {0};

    CHECK(tx->header_bytes >= vnet + ETH_HEADER_BYTES && tx->header_bytes <= STACK_TX_HEADER_MAX);
    CHECK(f->st->up);
    if (vnet)
        CHECK(vnet_header_decode(tx->header, tx->frame_bytes, vnet, &h) == VNET_DECODE_OK);
    for (unsigned i = 0; i < tx->n_slices; i++)
        at += tx->slice[i].len;
    CHECK(at == tx->frame_bytes);
    if (h.gso == VNET_GSO_NONE)
        CHECK(at - vnet <= (size_t)f->st->mtu + ETH_HEADER_BYTES);
    if (at - vnet > FRAME_MAX)
        return;
    f->last_n = at - vnet;
    memcpy(f->last, tx->header + vnet, tx->header_bytes - vnet);
    at = tx->header_bytes - vnet;
    for (unsigned i = 0; i < tx->n_slices; at += tx->slice[i++].len)
        memcpy(f->last + at, tx->slice[i].data, tx->slice[i].len);
    if (get_be16(f->last + 12) == ETH_P_IP) {
        struct ipv4_header ip;

        CHECK(ipv4_header_decode(f->last + 14, f->last_n - 14, true, &ip) == IPV4_DECODE_OK);
        CHECK(ip.total_bytes == f->last_n - 14);
    }
}

static void pull(struct fuzz *f)
{
    struct stack_tx tx;
    unsigned frames = 0;

    for (unsigned i = 0;; i++) {
        stack_commit(f->st, f->now);
        while (stack_output(f->st, f->now, &tx)) {
            check_frame(f, &tx);
            CHECK(++frames < 20000);
        }
        if (stack_deadline(f->st) > f->now)
            break;
        CHECK(i < 100);
        stack_expire(f->st, f->now);
    }
    CHECK(st_frag_bytes(f->st) <= (size_t)f->config.frag_max_bytes);
    CHECK(f->st->neigh.n <= (uint32_t)f->config.neigh_max);
}

static void sleep_until(struct fuzz *f, uint64_t until)
{
    for (unsigned i = 0; i < 200 && stack_deadline(f->st) <= until; i++) {
        f->now = stack_deadline(f->st);
        stack_expire(f->st, f->now);
        pull(f);
    }
    f->now = time_max(f->now, until);
    stack_expire(f->st, f->now);
    pull(f);
}

/* ---- In ----------------------------------------------------------------------------------------------- */

static void input(struct fuzz *f, size_t n)
{
    uint8_t how = take(f);
    size_t vnet = f->st->offload.vnet_hdr ? f->st->offload.vnet_hdr_bytes : 0, total = n + vnet;
    uint8_t *bytes = calloc(1, total + 1);
    struct stack_rx rx = {.n_slices = 1};
    struct vnet_header h = {
        .data_valid = how & 4, .needs_csum = how & 8, .csum_start = 34, .csum_offset = 16};
    struct chunk *c = NULL;

    if (how & 16) {
        h.gso = get_be16(f->frame + 12) == ETH_P_IP ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
        h.gso_size = (uint16_t)(1 + take(f) * 8);
    }
    if (vnet)
        vnet_header_encode(&h, vnet, bytes);
    memcpy(bytes + vnet, f->frame, n);
    rx.slice[0] = (struct tcp_slice){.data = bytes, .len = (uint32_t)total};
    if (total > 256 && (how & 1) && (c = chunk_alloc(f->pool, CHUNK_BIG_BYTES)) != NULL) {
        memcpy(c->data, bytes + 256, total - 256);
        rx.slice[0].len = 256;
        rx.slice[1] = (struct tcp_slice){.data = c->data, .len = (uint32_t)(total - 256), .chunk = c};
        rx.n_slices = 2;
    }
    stack_input(f->st, &rx, f->now);
    if (c)
        chunk_unref(f->pool, c);
    free(bytes);
}

/* Recomputes what checksums there are, as far as the frame is what it says. */
static void repair(uint8_t *frame, size_t n)
{
    uint8_t *p = frame + 14;
    struct ip_addr src, dst;
    size_t at, field;
    uint8_t proto;

    if (n < 54)
        return;
    if (get_be16(frame + 12) == ETH_P_IP) {
        at = 20;
        proto = p[9];
        src = ip_addr_v4_bytes(p + 12);
        dst = ip_addr_v4_bytes(p + 16);
        put_be16(p + 10, 0);
        put_be16(p + 10, csum_fold(csum_partial(p, 20, 0)));
    } else {
        at = 40;
        proto = p[6];
        src = ip_addr_v6_bytes(p + 8, 1);
        dst = ip_addr_v6_bytes(p + 24, 1);
        if (proto == IP_PROTO_HOP_BY_HOP) {
            proto = p[40];
            at = 48;
        }
    }
    field = proto == IP_PROTO_TCP ? 16 : proto == IP_PROTO_UDP ? 6 : 2;
    if (n < 14 + at + field + 2)
        return;
    put_be16(p + at + field, 0);
    put_be16(p + at + field,
             csum_fold(csum_partial(
                 p + at, n - 14 - at,
                 proto == IP_PROTO_ICMP ? 0 : csum_pseudo(&src, &dst, proto, (uint32_t)(n - 14 - at)))));
}

/* The frame several times in one read burst, each in a chunk; of TCP with text, each the continuation of the one before. */
static void burst(struct fuzz *f, size_t n)
{
    size_t vnet = f->st->offload.vnet_hdr ? f->st->offload.vnet_hdr_bytes : 0;
    uint8_t frames = 1 + take(f) % 8, how = take(f), *ip = f->frame + 14;
    bool tcp = n >= 54 && n < 1000 && get_be16(f->frame + 12) == ETH_P_IP && ip[0] == 0x45 && ip[9] == IP_PROTO_TCP;

    if (tcp && (how & 1)) {
        ip[20 + 13] = TCP_ACK;
        memset(f->frame + n, how, 100);
        n += 100;
        put_be16(ip + 2, (uint16_t)(n - 14));
        repair(f->frame, n);
    }
    stack_burst_begin(f->st);
    for (unsigned i = 0; i < frames; i++) {
        struct chunk *c = chunk_alloc(f->pool, CHUNK_SMALL_BYTES);
        struct stack_rx rx = {.n_slices = 1};

        if (!c)
            break;
        memset(c->data, 0, vnet);
        memcpy(c->data + vnet, f->frame, n);
        rx.slice[0] = (struct tcp_slice){.data = c->data, .len = (uint32_t)(vnet + n), .chunk = c};
        stack_input(f->st, &rx, f->now);
        chunk_unref(f->pool, c);
        if (!tcp || (how >> 1) == i)
            continue;
        put_be32(ip + 24, get_be32(ip + 24) + (uint32_t)(n - 34 - (ip[32] >> 4) * 4u));
        repair(f->frame, n);
    }
    stack_burst_end(f->st, f->now);
}

static size_t put_packet(struct fuzz *f, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
                         uint8_t hop, size_t bytes)
{
    struct eth_header eth = {
        .dst = mac_us, .src = mac_peer, .type = src->family == IP_V4 ? ETH_P_IP : ETH_P_IPV6};

    eth_addr_of_multicast(dst, &eth.dst);
    eth_header_encode(&eth, f->frame);
    if (src->family == IP_V4) {
        struct ipv4_header h = {.src = *src,
                                .dst = *dst,
                                .ttl = hop,
                                .proto = proto,
                                .id = 7,
                                .total_bytes = (uint16_t)(20 + bytes)};
        uint8_t how = take(f);

        if (how & 1) {
            h.more_fragments = how & 2;
            h.frag_offset = (uint16_t)((how >> 2) * 8);
        }
        ipv4_header_encode(&h, f->frame + 14);
        return 34 + bytes;
    }
    struct ipv6_header h = {
        .src = *src, .dst = *dst, .hop_limit = hop, .next = proto, .payload_bytes = (uint16_t)bytes};

    ipv6_header_encode(&h, f->frame + 14);
    return 54 + bytes;
}

static size_t put_option(uint8_t *p, uint8_t type, uint8_t eights)
{
    p[0] = type;
    p[1] = eights;
    return eights * 8u;
}

/* Neighbour discovery whose options are mostly well-formed. */
static size_t make_nd(struct fuzz *f, uint8_t *p, const struct ip_addr *src, const struct ip_addr *dst)
{
    static const uint8_t fixed[] = {8, 16, 24, 24, 40};
    size_t bytes = fixed[p[0] - 133], n;
    uint8_t how = take(f);
    struct ip_addr target = addr(f, true), group = *dst;

    if (p[0] > 134)
        memcpy(p + 8, target.b, 16);
    if (p[0] == 134)
        put_be16(p + 6, (uint16_t)(take(f) % 4 * 300));
    if (how & 1)
        bytes += put_option(p + bytes, 1 + (how >> 6 & 1), 1);
    if (how & 2)
        bytes += put_option(p + bytes, ND_OPT_MTU, 1);
    if (how & 4) {
        size_t at = bytes;

        bytes += put_option(p + bytes, ND_OPT_PREFIX, 4);
        p[at + 2] = 64;
        put_be32(p + at + 4, (uint32_t)take(f) << (take(f) % 12));
        put_be32(p + at + 8, take(f));
        memcpy(p + at + 16, (uint8_t[]){0x20, 1, 0xd, 0xb8, 0, take(f) % 32, 0, 0}, 8);
    }
    if (how & 8) {
        size_t at = bytes;

        bytes += put_option(p + bytes, ND_OPT_ROUTE, 2);
        p[at + 2] = 64;
        p[at + 3] = 0;
        put_be32(p + at + 4, take(f));
    }
    if (how & 16)
        group = nd_solicited_node(&target, 1);
    n = put_packet(f, src, how & 32 ? dst : &group, IP_PROTO_ICMPV6, 255, bytes);
    repair(f->frame, n);
    return n;
}

/* A packet with an upper layer whose type is chosen by the input and whose bytes are the input's. */
static size_t make_packet(struct fuzz *f, uint8_t kind)
{
    static const uint8_t nd_types[] = {133, 134, 135, 136, 137, 134, 135, 136,
                                       130, 128, 129, 1,   2,   3,   4,   143};
    bool v6 = kind & 1;
    struct ip_addr src = addr(f, v6), dst = addr(f, v6);
    uint8_t *p = f->frame + (v6 ? 54 : 34), proto = v6 ? IP_PROTO_ICMPV6 : IP_PROTO_ICMP;
    size_t bytes = 8 + take(f) % 120, n;

    for (size_t i = 0; i < bytes; i++)
        p[i] = i < 60 ? take(f) : (uint8_t)i;
    switch (kind >> 1 & 3) {
    case 0:
        p[0] = v6 ? nd_types[take(f) % sizeof nd_types] : (uint8_t[]){0, 3, 8, 11, 12}[take(f) % 5];
        p[1] = v6 ? 0 : p[1] % 16;
        if (v6 && p[0] >= 133 && p[0] <= 137)
            return make_nd(f, p, &src, &dst);
        break;
    case 1:
        proto = IP_PROTO_TCP;
        bytes = bytes < 20 ? 20 : bytes;
        p[13] = take(f) & 1 ? TCP_SYN : p[13];
        put_be16(p + 2, 80);
        p[12] = (uint8_t)(0x50 + (take(f) & 0x30));
        break;
    case 2:
        proto = IP_PROTO_UDP;
        put_be16(p + 4, (uint16_t)bytes);
        break;
    default: /* a fragment header, hop-by-hop options, anything */
        proto = v6 ? (uint8_t[]){0, 43, 44, 60}[take(f) % 4] : take(f);
        if (!proto && v6) /* a router alert in front of whatever follows, often an MLD query */
            memcpy(p, (uint8_t[]){IP_PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0, 130}, 9);
        if (proto == IP_PROTO_FRAGMENT) {
            p[0] = IP_PROTO_ICMPV6;
            bytes = bytes / 8 * 8 + 8;
            put_be16(p + 2, (uint16_t)(p[2] % 32 << 3 | (p[3] & 1)));
            put_be32(p + 4, p[4] % 4);
        }
        break;
    }
    n = put_packet(f, &src, &dst, proto, take(f) & 1 ? 255 : 1, bytes);
    if (!(take(f) & 1))
        repair(f->frame, n);
    return n;
}

static size_t make_arp(struct fuzz *f)
{
    struct arp_packet arp = {.op = (uint16_t)(1 + (take(f) & 1)),
                             .sender_mac = mac_peer,
                             .sender_ip = addr(f, false),
                             .target_ip = addr(f, false)};
    struct eth_header eth = {
        .dst = take(f) & 1 ? mac_us : eth_addr_broadcast, .src = mac_peer, .type = ETH_P_ARP};

    eth_header_encode(&eth, f->frame);
    arp_encode(&arp, f->frame + 14);
    return 42;
}

static void swap(uint8_t *a, uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t t = a[i];

        a[i] = b[i];
        b[i] = t;
    }
}

/* TCP: what a peer would say to the segment that left. */
static void answer_tcp(struct fuzz *f, uint8_t *tcp, size_t n)
{
    uint32_t seq = get_be32(tcp + 4), ack = get_be32(tcp + 8), header = (uint32_t)(tcp[12] >> 4) * 4;
    uint32_t len = (uint32_t)n - header + (tcp[13] & TCP_SYN ? 1 : 0) + (tcp[13] & TCP_FIN ? 1 : 0);
    uint8_t how = take(f);

    swap(tcp, tcp + 2, 2);
    put_be32(tcp + 8, seq + (how & 1 ? len : (uint32_t)take(f)));
    put_be32(tcp + 4, tcp[13] & TCP_ACK ? ack : 0x1000);
    tcp[13] = tcp[13] == TCP_SYN ? TCP_SYN | TCP_ACK : (how & 2 ? TCP_ACK : take(f) & 0x3f);
}

/* The answer to the frame that left last: ARP reply, advertisement, echo, ACK, or an ICMP error that quotes
 * it. */
static size_t make_answer(struct fuzz *f)
{
    uint8_t *p = f->frame + 14;
    size_t n = f->last_n, at;
    uint16_t type;

    if (n < 42)
        return 0;
    memcpy(f->frame, f->last, n);
    type = get_be16(f->frame + 12);
    memcpy(f->frame, mac_us.b, 6);
    memcpy(f->frame + 6, mac_peer.b, 6);
    if (type == ETH_P_ARP) {
        p[7] = 2;
        swap(p + 8, p + 18, 10);
        memcpy(p + 8, mac_peer.b, 6);
        return n;
    }
    if (n < 54)
        return 0;
    at = type == ETH_P_IP ? 20 : 40;
    if (take(f) % 8 == 0 && n < 1000) { /* an error */
        uint8_t packet[1000];
        struct ip_addr us = type == ETH_P_IP ? ip_addr_v4_bytes(p + 12) : ip_addr_v6_bytes(p + 8, 1);
        struct ip_addr src = addr(f, type != ETH_P_IP);
        size_t bytes;

        memcpy(packet, p, n - 14);
        bytes = icmp_error_encode(&src, &us, take(f) % 16, take(f) % 16, take(f) * 16u, packet, n - 14,
                                  p + at, FRAME_MAX - 100);
        return put_packet(f, &src, &us, type == ETH_P_IP ? IP_PROTO_ICMP : IP_PROTO_ICMPV6, 64, bytes);
    }
    if (type == ETH_P_IP)
        swap(p + 12, p + 16, 4);
    else
        swap(p + 8, p + 24, 16);
    if ((type == ETH_P_IP ? p[9] : p[6]) == IP_PROTO_TCP && n >= 14 + at + 20)
        answer_tcp(f, p + at, n - 14 - at);
    else if (type == ETH_P_IPV6 && p[at] == ICMP6_TYPE_NEIGHBOUR_SOLICIT && n >= 14 + at + 24) {
        struct ip_addr us = ip_addr_v6_bytes(p + 24, 1), target = ip_addr_v6_bytes(p + at + 8, 1);

        if (ip_addr_is_unspecified(&us)) /* a DAD probe: rarely contested */
            return 0;
        at = nd_na_encode(&target, &us, &target, take(f) & 1, take(f) & 1, &mac_peer, p + 40);
        return put_packet(f, &target, &us, IP_PROTO_ICMPV6, 255, at);
    } else if (p[at] == ICMP4_TYPE_ECHO_REQUEST || p[at] == ICMP6_TYPE_ECHO_REQUEST) {
        p[at] = p[at] == ICMP4_TYPE_ECHO_REQUEST ? ICMP4_TYPE_ECHO_REPLY : ICMP6_TYPE_ECHO_REPLY;
    }
    repair(f->frame, n);
    return n;
}

/* ---- Calls -------------------------------------------------------------------------------------------- */

static void socket_call(struct fuzz *f)
{
    struct sock **s = &f->sock[take(f) % SOCKS];
    uint8_t op = take(f);
    bool v6 = op & 1;
    uint8_t bytes[3000];
    struct sock_event ev;
    struct ip_addr a, any = {0};

    while (sock_next_event(stack_socks(f->st), &ev))
        ;
    if (!*s) {
        *s = sock_new(stack_socks(f->st), v6 ? IP_V6 : IP_V4, NULL);
        return;
    }
    switch (op >> 1 & 7) {
    case 0:
        sock_bind(*s, &any, 80);
        sock_listen(*s, 3);
        break;
    case 1:
    case 2:
        a = addr(f, v6);
        sock_connect(*s, &a, 80, f->now);
        break;
    case 3:
    case 4:
        memset(bytes, op, sizeof bytes);
        sock_send(*s, bytes, sizeof bytes, 0, f->now);
        break;
    case 5:
        sock_recv(*s, bytes, sizeof bytes, f->now);
        break;
    case 6: {
        struct sock *got = sock_accept(*s, NULL);

        if (got)
            sock_close(got, f->now);
        break;
    }
    default:
        sock_close(*s, f->now);
        *s = NULL;
        break;
    }
}

static void change(struct fuzz *f)
{
    uint8_t op = take(f);
    struct ip_addr a = addr(f, op & 1);
    struct stack_offload o = {
        .vnet_hdr = op & 16, .vnet_hdr_bytes = op & 32 ? 12 : 10, .csum = op & 64, .tso4 = op & 128};
    struct stack_route r = {.prefix = {.family = a.family}, .gateway = a};
    struct stack_event ev;

    switch (op >> 1 & 7) {
    case 0:
        stack_addr_add(f->st, &a, op & 1 ? 64 : 24, f->now);
        break;
    case 1:
        stack_addr_del(f->st, &a, f->now);
        break;
    case 2:
        stack_route_add(f->st, &r, f->now);
        break;
    case 3:
        stack_set_link(f->st, op & 64, f->now);
        break;
    case 4:
        o.tso6 = take(f) & 1;
        stack_set_offload(f->st, &o);
        break;
    case 5:
        stack_set_mtu(f->st, (uint16_t)(576 + take(f) * 8), f->now);
        break;
    case 6:
        stack_ping(f->st, &a, (uint16_t)(take(f) * 5), 64, NSEC_PER_SEC, op, f->now);
        break;
    default:
        while (stack_next_event(f->st, &ev))
            ;
        stack_ping_cancel(f->st, op);
        break;
    }
}

static void step(struct fuzz *f)
{
    uint8_t op = take(f);
    size_t n = 0;

    switch (op % 8) {
    case 0:
        n = take(f);
        for (size_t i = 0; i < n; i++)
            f->frame[i] = take(f);
        break;
    case 1:
        n = make_arp(f);
        break;
    case 2:
        n = make_packet(f, take(f));
        break;
    case 3:
    case 4:
        n = make_answer(f);
        break;
    case 5:
        socket_call(f);
        break;
    case 6:
        change(f);
        break;
    default:
        sleep_until(f, f->now + ((uint64_t)take(f) * take(f) << (take(f) % 24)));
        break;
    }
    if (n && n <= 1500 && take(f) % 4 == 0)
        burst(f, n);
    else if (n)
        input(f, n);
    pull(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static _Alignas(4096) uint8_t arena[64 * CHUNK_BIG_BYTES];
    struct fuzz *f = calloc(1, sizeof *f);
    struct stack_params p = {.max_conns = 8,
                             .max_half_open = 8,
                             .max_time_wait = 8,
                             .generation = 1,
                             .ifindex = 1,
                             .mtu = 1500,
                             .mac = {2, 0, 0, 0, 0, 1},
                             .check = true};
    struct ip_addr a = ip_addr_v4(192, 0, 2, 1);

    f->data = data;
    f->left = size;
    f->now = NSEC_PER_SEC;
    stack_config_defaults(&f->config);
    tcp_config_defaults(&f->tcp_config);
    f->config.neigh_max = 16;
    f->config.frag_max_bytes = 300000;
    f->pool = chunk_pool_create(arena, sizeof arena);
    p.config = &f->config;
    p.tcp_config = &f->tcp_config;
    p.pool = f->pool;
    p.now = f->now;
    p.secrets.rng_seed = take(f);
    f->st = stack_create(&p);
    CHECK(f->st);
    stack_addr_add(f->st, &a, 24, f->now);
    sleep_until(f, f->now + 5 * NSEC_PER_SEC);
    while (f->left)
        step(f);
    for (unsigned i = 0; i < SOCKS; i++)
        if (f->sock[i])
            sock_close(f->sock[i], f->now);
    stack_destroy(f->st);
    chunk_pool_destroy(f->pool); /* asserts that every chunk came back */
    free(f);
    return 0;
}

#ifdef FUZZ_REPLAY
static int replay_file(const char *name)
{
    static uint8_t data[1 << 20];
    FILE *in = fopen(name, "rb");
    size_t n;

    if (!in) {
        perror(name);
        return 1;
    }
    n = fread(data, 1, sizeof data, in);
    fclose(in);
    return LLVMFuzzerTestOneInput(data, n);
}

static void run_seeds(uint64_t from, uint64_t to)
{
    static uint8_t data[4096];

    printf("seeds %llu:%llu\n", (unsigned long long)from, (unsigned long long)to);
    for (at_seed = from; at_seed <= to; at_seed++) {
        struct rng rng;
        size_t n;

        rng_seed(&rng, at_seed);
        n = (size_t)rng_below(&rng, sizeof data);
        for (size_t i = 0; i < n; i++)
            data[i] = (uint8_t)rng_next(&rng);
        LLVMFuzzerTestOneInput(data, n);
    }
}

int main(int argc, char **argv)
{
    unsigned long long from = 1, to = 1000;

    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        if (sscanf(argv[2], "%llu:%llu", &from, &to) < 2)
            to = from;
        run_seeds(from, to);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        if (replay_file(argv[i]))
            return 1;
    return 0;
}
#endif
