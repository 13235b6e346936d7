/*
 * tests/packetdrill/shim_wire.c: raw IP packets to segments and ICMP errors, segments to raw IP packets.
 *
 * The way of a packet without a stack: no neighbours, no fragments, no extension headers. Checksums are verified and
 * written. What is not an intact TCP or ICMP packet for one of our addresses is refused.
 */
#include "shim_priv.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/gso.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define TCP_CSUM_AT 16
#define HEADERS_MAX (IPV6_HEADER_BYTES + TCP_HEADER_BYTES + TCP_OPTIONS_MAX)

/* The fields of both IP headers that matter here. */
struct ip_header {
    struct ip_addr src, dst;
    uint8_t tos, ecn, ttl, proto;
    size_t header_bytes, total_bytes;
};

/* ---- Out ------------------------------------------------------------------------------------------------------- */

static size_t encode_ip(struct drill *d, const struct tcp_seg *seg, size_t tcp_bytes, uint8_t *out)
{
    if (seg->src.family == IP_V4) {
        struct ipv4_header h = {.src = seg->src, .dst = seg->dst, .tos = seg->tos, .ecn = seg->ecn,
                                .ttl = seg->ttl ? seg->ttl : 64, .proto = IP_PROTO_TCP, .id = d->ip_id++,
                                .total_bytes = (uint16_t)(IPV4_HEADER_BYTES + tcp_bytes), .dont_fragment = true};

        ipv4_header_encode(&h, out);
        return IPV4_HEADER_BYTES;
    }
    struct ipv6_header h = {.src = seg->src, .dst = seg->dst, .tos = seg->tos, .ecn = seg->ecn,
                            .hop_limit = seg->ttl ? seg->ttl : 64, .next = IP_PROTO_TCP,
                            .payload_bytes = (uint16_t)tcp_bytes};

    ipv6_header_encode(&h, out);
    return IPV6_HEADER_BYTES;
}

static void emit_segment(struct drill *d, const struct tcp_seg *seg, enum tcp_cause cause)
{
    uint8_t tcp[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];
    size_t header = tcp_header_encode(seg, tcp), n;
    struct drill_out *o = malloc(sizeof *o + HEADERS_MAX + seg->len);

    if (!o)
        return;
    put_be16(tcp + TCP_CSUM_AT, csum_tcp(&seg->src, &seg->dst, tcp, header, seg->slice, seg->n_slices));
    n = encode_ip(d, seg, header + seg->len, o->bytes);
    memcpy(o->bytes + n, tcp, header);
    n += header;
    for (unsigned i = 0; i < seg->n_slices; i++) {
        memcpy(o->bytes + n, seg->slice[i].data, seg->slice[i].len);
        n += seg->slice[i].len;
    }
    o->next = NULL;
    o->info = (struct drill_packet){.at = d->now, .bytes = (uint32_t)n, .cause = (int32_t)cause};
    *d->out_tail = o;
    d->out_tail = &o->next;
}

void drill_emit(struct drill *d, const struct tcp_out *out)
{
    struct tcp_seg seg;
    struct gso g;

    gso_begin(&g, &out->seg);
    while (gso_step(&g, &seg))
        emit_segment(d, &seg, out->cause);
}

/* ---- In -------------------------------------------------------------------------------------------------------- */

static bool decode_ip(const uint8_t *p, size_t n, struct ip_header *ret)
{
    if (n > 0 && p[0] >> 4 == 4) {
        struct ipv4_header h;

        if (ipv4_header_decode(p, n, true, &h) != IPV4_DECODE_OK || ipv4_is_fragment(&h))
            return false;
        *ret = (struct ip_header){h.src, h.dst, h.tos, h.ecn, h.ttl, h.proto, h.header_bytes, h.total_bytes};
    } else {
        struct ipv6_header h;

        if (ipv6_header_decode(p, n, 0, &h) != IPV6_DECODE_OK)
            return false;
        *ret = (struct ip_header){h.src, h.dst, h.tos, h.ecn, h.hop_limit, h.next, IPV6_HEADER_BYTES, h.total_bytes};
    }
    return true;
}

void drill_chunks(struct drill *d, uint32_t front)
{
    d->front = front < CHUNK_SMALL_BYTES ? front : 0;
}

void drill_runs(struct drill *d, bool on)
{
    d->runs = on;
}

/* The payload in chunks, where a frame of that packet would have it; how many. `at`: of the payload in the packet. */
static unsigned lay_in_chunks(struct drill *d, size_t at, struct tcp_seg *seg, struct chunk *ret[TCP_SLICES_MAX])
{
    const uint8_t *from = seg->slice[0].data;
    size_t left = seg->len, skip = d->front + at, front = skip;
    bool run = d->runs && seg->gso_size && seg->len > seg->gso_size;
    unsigned n = 0;

    seg->n_slices = 0;
    for (; n < (run ? TCP_SLICES_MAX : 3) && left; n++) {
        size_t take;

        ret[n] = chunk_alloc(d->pool, n == 0 || run ? CHUNK_SMALL_BYTES : CHUNK_BIG_BYTES);
        if (!ret[n])
            return n;
        take = ret[n]->size - skip < left ? ret[n]->size - skip : left;
        take = run && take > seg->gso_size ? seg->gso_size : take;
        memcpy(ret[n]->data + skip, from, take);
        seg->slice[seg->n_slices++] =
            (struct tcp_slice){.data = ret[n]->data + skip, .len = (uint32_t)take, .chunk = ret[n]};
        from += take;
        left -= take;
        skip = run ? front : 0;
    }
    return n;
}

static int input_tcp(struct drill *d, const struct ip_header *ip, const uint8_t *p, size_t n, uint16_t gso_size)
{
    struct chunk *chunks[TCP_SLICES_MAX];
    unsigned n_chunks = 0;
    struct tcp_seg seg;
    size_t header;
    enum tcp_decode_result r;

    memset(&seg, 0, offsetof(struct tcp_seg, slice));
    r = tcp_header_decode(p, n, &seg, &header);
    if (r != TCP_DECODE_OK && r != TCP_DECODE_BAD_OPTIONS)
        return -EINVAL;
    if (!csum_ok(csum_partial(p, n, csum_pseudo(&ip->src, &ip->dst, IP_PROTO_TCP, (uint32_t)n))))
        return -EINVAL;
    seg.src = ip->src;
    seg.dst = ip->dst;
    seg.ecn = ip->ecn;
    seg.tos = ip->tos;
    seg.ttl = ip->ttl;
    seg.gso_size = gso_size;
    seg.len = (uint32_t)(n - header);
    seg.n_slices = seg.len ? 1 : 0;
    seg.slice[0] = (struct tcp_slice){.data = p + header, .len = seg.len};
    if (d->front && seg.len)
        n_chunks = lay_in_chunks(d, ip->header_bytes + header, &seg, chunks);
    tcp_input(d->tcp, &seg, &d->path, d->now);
    while (n_chunks > 0)
        chunk_unref(d->pool, chunks[--n_chunks]);
    return 0;
}

/* Linux's icmp_err_convert and icmpv6_err_convert, as far as scripts can say them. */
static struct tcp_icmp classify(const struct icmp_message *m, uint8_t family)
{
    bool v4 = family == IP_V4;

    switch (m->kind) {
    case ICMP_KIND_TOO_BIG:
        return (struct tcp_icmp){.error = EMSGSIZE, .mtu = (uint16_t)m->mtu};
    case ICMP_KIND_TIME_EXCEEDED:
        return (struct tcp_icmp){.error = EHOSTUNREACH};
    case ICMP_KIND_PARAM_PROBLEM:
        return (struct tcp_icmp){.error = EPROTO, .hard = true};
    case ICMP_KIND_UNREACHABLE:
        break;
    default:
        return (struct tcp_icmp){0};
    }
    if (m->code == (v4 ? (int)ICMP4_UNREACH_PORT : (int)ICMP6_UNREACH_PORT))
        return (struct tcp_icmp){.error = ECONNREFUSED, .hard = true};
    if (v4 && m->code == ICMP4_UNREACH_PROTOCOL)
        return (struct tcp_icmp){.error = ENOPROTOOPT, .hard = true};
    if (m->code == 0)
        return (struct tcp_icmp){.error = ENETUNREACH};
    if (!v4 && m->code == ICMP6_UNREACH_ADMIN_PROHIBITED)
        return (struct tcp_icmp){.error = EACCES, .hard = true};
    return (struct tcp_icmp){.error = EHOSTUNREACH, .hard = v4 && m->code >= ICMP4_UNREACH_HOST_PROHIBITED};
}

static int input_icmp(struct drill *d, const struct ip_header *ip, const uint8_t *p, size_t n)
{
    struct icmp_message m;
    struct icmp_quote q;
    struct tcp_icmp icmp;
    enum icmp_decode_result r =
        ip->src.family == IP_V4 ? icmp4_decode(p, n, &m) : icmp6_decode(&ip->src, &ip->dst, p, n, &m);

    if (r != ICMP_DECODE_OK || !icmp_is_error(&m) ||
        icmp_quote_decode((enum ip_family)ip->src.family, m.body, m.body_bytes, 0, &q) != ICMP_QUOTE_OK ||
        q.proto != IP_PROTO_TCP || !q.tcp_seq_ok)
        return -EINVAL;
    icmp = classify(&m, ip->src.family);
    if (icmp.error == 0)
        return 0;
    icmp.tuple = (struct ip_tuple){.local = q.src, .remote = q.dst, .local_port = q.src_port, .remote_port = q.dst_port};
    icmp.seq = q.tcp_seq;
    tcp_icmp(d->tcp, &icmp, d->now);
    return 0;
}

int drill_input(struct drill *d, const uint8_t *packet, size_t bytes, uint16_t gso_size)
{
    struct ip_header ip;
    int r = -EINVAL;

    if (!decode_ip(packet, bytes, &ip))
        return -EINVAL;
    if (ip.proto == IP_PROTO_TCP)
        r = input_tcp(d, &ip, packet + ip.header_bytes, ip.total_bytes - ip.header_bytes, gso_size);
    else if (ip.proto == IP_PROTO_ICMP || ip.proto == IP_PROTO_ICMPV6)
        r = input_icmp(d, &ip, packet + ip.header_bytes, ip.total_bytes - ip.header_bytes);
    drill_turn(d);
    return r;
}
