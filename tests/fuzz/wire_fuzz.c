/*
 * wire_fuzz.c: every decoder of src/wire on arbitrary bytes, as deep as a frame leads.
 *
 * The first byte picks the entry: a frame behind a virtio-net header, a frame, an IPv4 or IPv6 packet, TCP
 * options, text. Checksums are repaired on the way (in a copy), or hardly anything would get past them.
 * Beyond "no bad access" it checks what the headers promise: walks grow and end, decoded values encode and
 * decode to themselves, text is parsed back, cut segments add up.
 *
 * Under libFuzzer: LLVMFuzzerTestOneInput. With -DFUZZ_REPLAY: a main() that either replays files, or runs
 * `wire_fuzz_replay -n ITERATIONS -s SEED` on random mutations of built-in frames, for compilers without
 * libFuzzer.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/eth.h"
#include "wire/gso.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/mld.h"
#include "wire/nd.h"
#include "wire/tcp.h"
#include "wire/text.h"
#include "wire/udp.h"
#include "wire/vnet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

static void fuzz_text_of(const struct tcp_seg *seg)
{
    char buf[TEXT_SEG_MAX];
    struct tcp_seg back;

    text_format_seg(seg, 1, 2, buf, sizeof buf);
    CHECK(strlen(buf) < TEXT_SEG_MAX - 1);
    CHECK(text_parse_seg(buf, 1, 2, &back, NULL));
    CHECK(back.seq == seg->seq && back.len == seg->len && back.flags == seg->flags && back.wnd == seg->wnd);
}

static void fuzz_gso(struct tcp_seg *seg)
{
    struct tcp_seg piece;
    struct gso g;
    uint32_t sum = 0;
    uint32_t count = 0;

    gso_begin(&g, seg);
    while (gso_step(&g, &piece)) {
        CHECK(piece.seq == seg->seq + sum);
        sum += piece.len;
        count++;
    }
    CHECK(sum == seg->len && count == gso_segs(seg->len, seg->gso_size));
}

static void fuzz_tcp(const struct ip_addr *src, const struct ip_addr *dst, const uint8_t *p, size_t n)
{
    struct tcp_seg seg = {0};
    struct tcp_seg again = {0};
    uint8_t out[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];
    uint8_t out2[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];
    size_t header;
    size_t bytes;
    enum tcp_decode_result r = tcp_header_decode(p, n, &seg, &header);

    if (r != TCP_DECODE_OK && r != TCP_DECODE_BAD_OPTIONS)
        return;
    CHECK(header >= TCP_HEADER_BYTES && header <= n && header <= sizeof out);
    seg.len = (uint32_t)(n - header);
    seg.n_slices = seg.len ? 1 : 0;
    seg.slice[0] = (struct tcp_slice){.data = p + header, .len = seg.len};
    csum_tcp(src, dst, p, header, seg.slice, seg.n_slices);
    bytes = tcp_header_encode(&seg, out);
    CHECK(bytes <= sizeof out && bytes % 4 == 0);
    CHECK(tcp_header_decode(out, bytes, &again, &header) == TCP_DECODE_OK && header == bytes);
    CHECK(tcp_header_encode(&again, out2) == bytes && memcmp(out, out2, bytes) == 0);
    fuzz_text_of(&seg);
    seg.gso_size = seg.wnd;
    fuzz_gso(&seg);
}

static void fuzz_quote(enum ip_family family, const struct icmp_message *m)
{
    struct icmp_quote q;

    if (icmp_quote_decode(family, m->body, m->body_bytes, 1, &q) == ICMP_QUOTE_OK)
        CHECK(q.src.family == family && (!q.tcp_seq_ok || q.ports_ok));
}

static void fuzz_icmp4(uint8_t *p, size_t n)
{
    struct icmp_message m;

    if (n >= 4) {
        put_be16(p + 2, 0);
        put_be16(p + 2, csum_fold(csum_partial(p, n, 0)));
    }
    if (icmp4_decode(p, n, &m) == ICMP_DECODE_OK)
        fuzz_quote(IP_V4, &m);
    else
        CHECK(n < ICMP_HEADER_BYTES);
}

static void fuzz_nd(const struct ipv6_header *h, const uint8_t *p, size_t n)
{
    struct nd_context ctx = {.src = h->src, .dst = h->dst, .hop_limit = 255, .scope = 1};
    struct nd_message m;
    struct nd_option o;
    size_t pos = 0;

    if (nd_decode(&ctx, p, n, &m) != ND_DECODE_OK)
        return;
    for (;;) {
        size_t before = pos;

        if (nd_option_step(m.options, m.options_bytes, &pos, &o) != ND_OPTION_OK)
            break;
        CHECK(pos >= before + 8 && pos <= m.options_bytes);
    }
    CHECK(pos == m.options_bytes);
}

static void fuzz_icmp6(const struct ipv6_header *h, bool router_alert, uint8_t *p, size_t n)
{
    struct icmp_message m;
    struct mld_query q;

    if (n >= 4) {
        put_be16(p + 2, 0);
        put_be16(p + 2,
                 csum_fold(csum_partial(p, n, csum_pseudo(&h->src, &h->dst, IP_PROTO_ICMPV6, (uint32_t)n))));
    }
    if (icmp6_decode(&h->src, &h->dst, p, n, &m) != ICMP_DECODE_OK) {
        CHECK(n < ICMP_HEADER_BYTES);
        return;
    }
    if (icmp_is_error(&m))
        fuzz_quote(IP_V6, &m);
    fuzz_nd(h, p, n);
    mld_query_decode(&h->src, 1, router_alert || (m.code & 1), p, n, 1, &q);
}

static void fuzz_ipv4(uint8_t *p, size_t n)
{
    struct ipv4_header h;
    struct udp_header u;
    uint8_t out[IPV4_HEADER_BYTES];
    uint8_t *body;
    size_t bytes;

    ipv4_header_decode(p, n, true, &h);
    if (ipv4_header_decode(p, n, false, &h) != IPV4_DECODE_OK)
        return;
    CHECK(h.header_bytes >= 20 && h.header_bytes <= h.total_bytes && h.total_bytes <= n);
    ipv4_header_encode(&h, out);
    CHECK(csum_ok(csum_partial(out, sizeof out, 0)));
    body = p + h.header_bytes;
    bytes = (size_t)h.total_bytes - h.header_bytes;
    if (h.proto == IP_PROTO_TCP)
        fuzz_tcp(&h.src, &h.dst, body, bytes);
    else if (h.proto == IP_PROTO_ICMP)
        fuzz_icmp4(body, bytes);
    else if (udp_header_decode(body, bytes, &u) == UDP_DECODE_OK)
        CHECK(u.bytes >= 8 && u.bytes <= bytes);
}

static void fuzz_ipv6(uint8_t *p, size_t n)
{
    struct ipv6_header h;
    struct ipv6_walk w;
    enum ipv6_walk_result r;

    if (ipv6_header_decode(p, n, 1, &h) != IPV6_DECODE_OK)
        return;
    ipv6_walk_init(&w, &h);
    do {
        size_t before = w.pos;

        r = ipv6_walk_step(p, h.total_bytes, &w);
        CHECK(w.pos <= h.total_bytes && w.next_at < h.total_bytes);
        CHECK(r != IPV6_WALK_NEXT || w.pos >= before + 8);
    } while (r == IPV6_WALK_NEXT || (r == IPV6_WALK_FRAGMENT && !w.frag_offset));
    if (r == IPV6_WALK_PROBLEM)
        CHECK(w.problem_pointer < h.total_bytes);
    if (r != IPV6_WALK_UPPER)
        return;
    if (w.next == IP_PROTO_TCP)
        fuzz_tcp(&h.src, &h.dst, p + w.pos, h.total_bytes - w.pos);
    else if (w.next == IP_PROTO_ICMPV6)
        fuzz_icmp6(&h, w.router_alert, p + w.pos, h.total_bytes - w.pos);
}

static void fuzz_frame(uint8_t *p, size_t n)
{
    struct eth_header h;
    struct arp_packet a;
    uint8_t out[ARP_BYTES];

    if (eth_header_decode(p, n, &h) != ETH_DECODE_OK)
        return;
    p += ETH_HEADER_BYTES;
    n -= ETH_HEADER_BYTES;
    if (h.type == ETH_P_IP)
        fuzz_ipv4(p, n);
    else if (h.type == ETH_P_IPV6)
        fuzz_ipv6(p, n);
    else if (h.type == ETH_P_ARP && arp_decode(p, n, &a) == ARP_DECODE_OK) {
        arp_encode(&a, out);
        CHECK(memcmp(out, p, ARP_BYTES) == 0);
    }
}

static void fuzz_vnet(uint8_t *p, size_t n)
{
    struct vnet_header h;

    if (vnet_header_decode(p, n, VNET_HEADER_BYTES, &h) != VNET_DECODE_OK)
        return;
    CHECK(!h.needs_csum || VNET_HEADER_BYTES + (size_t)h.csum_start + h.csum_offset + 2 <= n);
    fuzz_frame(p + VNET_HEADER_BYTES, n - VNET_HEADER_BYTES);
}

static void fuzz_options(const uint8_t *p, size_t n)
{
    struct tcp_seg seg = {.flags = TCP_ACK};
    size_t pos = 0;
    bool bad = false;

    if (!n)
        return;
    if (p[0] & 1)
        seg.flags = TCP_SYN;
    p++;
    n = n - 1 > TCP_OPTIONS_MAX ? TCP_OPTIONS_MAX : n - 1;
    for (size_t before = 0; tcp_option_step(p, n, &pos, seg.flags & TCP_SYN, &seg.opt, &bad); before = pos)
        CHECK(pos > before && pos <= n);
    fuzz_text_of(&seg);
}

static void fuzz_text(const uint8_t *p, size_t n)
{
    char *text = malloc(n + 1);
    struct tcp_seg seg;
    const char *error = NULL;

    if (!text)
        return;
    if (n)
        memcpy(text, p, n);
    text[n] = '\0';
    if (text_parse_seg(text, 1, 2, &seg, &error))
        fuzz_text_of(&seg);
    else
        CHECK(error);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy;

    if (n < 1)
        return 0;
    /* Exactly as long as the input, so that the address sanitizer sees one byte too many. */
    copy = malloc(n > 1 ? n - 1 : 1);
    if (!copy)
        return 0;
    memcpy(copy, data + 1, n - 1);
    switch (data[0] % 6) {
    case 0:
        fuzz_vnet(copy, n - 1);
        break;
    case 1:
        fuzz_frame(copy, n - 1);
        break;
    case 2:
        fuzz_ipv4(copy, n - 1);
        break;
    case 3:
        fuzz_ipv6(copy, n - 1);
        break;
    case 4:
        fuzz_options(copy, n - 1);
        break;
    default:
        fuzz_text(copy, n - 1);
        break;
    }
    free(copy);
    return 0;
}

#ifdef FUZZ_REPLAY
#define INPUT_MAX 512

/* A valid IPv4 TCP packet (entry 2). */
static size_t seed_tcp4(uint8_t *out)
{
    struct tcp_seg seg = {.flags = TCP_SYN, .wnd = 1000};
    struct ipv4_header h = {.ttl = 64, .proto = IP_PROTO_TCP, .dont_fragment = true};

    seg.opt.mss_ok = seg.opt.timestamps_ok = seg.opt.sack_permitted = seg.opt.wscale_ok = true;
    seg.opt.mss = 1460;
    out[0] = 2;
    h.total_bytes = (uint16_t)(20 + tcp_header_encode(&seg, out + 21) + 32);
    ipv4_header_encode(&h, out + 1);
    memset(out + 1 + h.total_bytes - 32, 'x', 32);
    return 1 + (size_t)h.total_bytes;
}

/* An ICMP error that quotes that (entry 2). */
static size_t seed_quote(uint8_t *out)
{
    uint8_t inner[INPUT_MAX];
    size_t n = seed_tcp4(inner);
    struct ip_addr a = ip_addr_v4(192, 0, 2, 1);
    struct ipv4_header h = {.src = a, .dst = a, .ttl = 64, .proto = IP_PROTO_ICMP};

    out[0] = 2;
    h.total_bytes =
        (uint16_t)(20 + icmp_error_encode(&a, &a, 3, 4, 1400, inner + 1, n - 1, out + 21, INPUT_MAX - 21));
    ipv4_header_encode(&h, out + 1);
    return 1 + (size_t)h.total_bytes;
}

/* A neighbour solicitation or advertisement (entry 3). */
static size_t seed_nd(uint8_t *out)
{
    struct eth_addr mac = {{2, 0, 0, 0, 0, 1}};
    struct ip_addr a = nd_link_local(&mac, 1);
    struct ipv6_header h = {.src = a, .dst = a, .hop_limit = 255, .next = IP_PROTO_ICMPV6};

    out[0] = 3;
    h.payload_bytes = (uint16_t)nd_na_encode(&a, &a, &a, true, true, &mac, out + 41);
    ipv6_header_encode(&h, out + 1);
    return 41 + (size_t)h.payload_bytes;
}

/* Extension headers (entry 3). */
static size_t seed_mld(uint8_t *out)
{
    struct eth_addr mac = {{2, 0, 0, 0, 0, 1}};
    struct ip_addr a = nd_link_local(&mac, 1);
    struct mld_record record = {MLD_CHANGE_TO_EXCLUDE_MODE, nd_solicited_node(&a, 1)};

    out[0] = 3;
    return 1 + mld_report_encode(&a, &record, 1, out + 1, INPUT_MAX - 1);
}

static size_t seed_text(uint8_t *out)
{
    static const char text[] =
        "SEW 0:10(10) ack 1 win 65535 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7,FO 01020304>";

    out[0] = 5;
    memcpy(out + 1, text, sizeof text - 1);
    return sizeof text;
}

/* The same in a frame, or in a frame behind a virtio-net header (entries 1 and 0). */
static size_t wrap(struct rng *r, uint8_t *input, size_t n)
{
    struct eth_header eth = {.src = {{2}}, .dst = {{2}}, .type = input[0] == 2 ? ETH_P_IP : ETH_P_IPV6};
    bool vnet = rng_below(r, 2);
    size_t head = (vnet ? VNET_HEADER_BYTES : 0) + ETH_HEADER_BYTES;

    if (input[0] > 3 || n + head > INPUT_MAX)
        return n;
    memmove(input + 1 + head, input + 1, n - 1);
    memset(input, 0, 1 + head);
    input[0] = vnet ? 0 : 1;
    eth_header_encode(&eth, input + 1 + head - ETH_HEADER_BYTES);
    return n + head;
}

static void random_input(struct rng *r)
{
    static size_t (*const seeds[])(uint8_t *) = {seed_tcp4, seed_quote, seed_nd, seed_mld, seed_text};
    uint8_t input[INPUT_MAX];
    size_t n = seeds[rng_below(r, 5)](input);

    if (rng_below(r, 4) == 0)
        n = wrap(r, input, n);
    if (rng_below(r, 8) == 0)
        input[0] = (uint8_t)rng_next(r);
    for (uint64_t changes = rng_below(r, 6); changes; changes--)
        input[1 + rng_below(r, n - 1)] = (uint8_t)(rng_below(r, 2) ? rng_next(r) : rng_below(r, 4));
    if (rng_below(r, 4) == 0)
        n = 1 + rng_below(r, n);
    LLVMFuzzerTestOneInput(input, n);
}

static void replay(const char *path)
{
    static uint8_t input[1 << 20];
    FILE *f = fopen(path, "rb");

    if (!f) {
        perror(path);
        exit(1);
    }
    LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof input, f));
    fclose(f);
}

int main(int argc, char **argv)
{
    uint64_t iterations = 100000;
    uint64_t seed = 1;
    bool files = false;
    struct rng r;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-n") == 0 && i + 1 < argc) {
            iterations = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 0);
        } else {
            replay(argv[i]);
            files = true;
        }
    }
    if (files)
        return 0;
    printf("wire_fuzz: seed %llu, %llu iterations\n", (unsigned long long)seed,
           (unsigned long long)iterations);
    rng_seed(&r, seed);
    while (iterations--)
        random_input(&r);
    return 0;
}
#endif
