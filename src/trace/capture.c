/*
 * trace/capture.c: pcap and pcapng files that somebody captured (theory of operation).
 *
 * A walk over the file gives packets; each is taken apart as far as it was captured: Ethernet with VLAN tags, raw IP, Linux
 * cooked (both versions), BSD loopback; IPv4, IPv6 with extension headers; TCP. What is none of these is skipped, a file
 * whose structure is wrong or that ends within a packet is refused. Bytes are anybody's: every length is checked against
 * what is left. pcap's magic and pcapng's byte-order magic tell the order of all numbers.
 *
 * Connections are numbered by their first packets. A SYN with another sequence number on the same ends begins another one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trace/export.h"
#include "trace/plot.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/vnet.h"

#define INTERFACES_MAX 256u
#define PACKET_MAX     (256u << 10)
#define STREAMS_MAX    ((size_t)1 << 22)

struct interface {
    uint32_t link;
    uint64_t units_per_s; /* 0: it has no name yet */
};

struct capture {
    const uint8_t *b;
    size_t n, pos;
    bool ng, swapped, began;
    struct interface interfaces[INTERFACES_MAX];
    unsigned n_interfaces;
    const char *error;
};

struct packet {
    uint64_t ns;
    const uint8_t *b;
    uint32_t captured, original, link;
};

/* ---- the file ---- */

static uint32_t get32(const struct capture *c, size_t pos)
{
    uint32_t v;

    memcpy(&v, c->b + pos, 4);
    return c->swapped ? __builtin_bswap32(v) : v;
}

static uint16_t get16(const struct capture *c, size_t pos)
{
    uint16_t v;

    memcpy(&v, c->b + pos, 2);
    return c->swapped ? __builtin_bswap16(v) : v;
}

static int refuse(struct capture *c, int error, const char *why)
{
    c->error = why;
    return error;
}

static uint32_t first_word(const void *bytes)
{
    uint32_t v;

    memcpy(&v, bytes, 4);
    return v;
}

bool capture_is_one(const void *bytes, size_t n)
{
    uint32_t v = n >= 4 ? first_word(bytes) : 0, s = __builtin_bswap32(v);

    return v == 0x0a0d0d0a || v == 0xa1b2c3d4 || v == 0xa1b23c4d || s == 0xa1b2c3d4 || s == 0xa1b23c4d;
}

static int pcap_head(struct capture *c)
{
    uint32_t v = first_word(c->b);

    c->swapped = v != 0xa1b2c3d4 && v != 0xa1b23c4d;
    if (c->n < 24)
        return refuse(c, -ENODATA, "the capture is cut off within its head");
    c->interfaces[0] = (struct interface){get32(c, 20) & 0xffff, get32(c, 0) == 0xa1b23c4d ? 1000000000 : 1000000};
    c->n_interfaces = 1;
    c->pos = 24;
    return 0;
}

static int capture_open(const void *bytes, size_t n, struct capture *ret)
{
    *ret = (struct capture){.b = bytes, .n = n};
    if (!capture_is_one(bytes, n))
        return refuse(ret, -EBADMSG, "this is no pcap or pcapng file");
    ret->ng = first_word(bytes) == 0x0a0d0d0a;
    return ret->ng ? 0 : pcap_head(ret);
}

static uint64_t to_ns(uint64_t t, uint64_t units_per_s)
{
    if (units_per_s == 1000000000)
        return t;
    return t / units_per_s * 1000000000u + (uint64_t)((double)(t % units_per_s) * 1e9 / (double)units_per_s);
}

/* 1: a packet; 0: the end; -errno. */
static int pcap_next(struct capture *c, struct packet *ret)
{
    size_t left = c->n - c->pos;
    uint32_t captured;

    if (left == 0)
        return 0;
    if (left < 16)
        return refuse(c, -ENODATA, "the capture is cut off within a packet");
    captured = get32(c, c->pos + 8);
    if (captured > PACKET_MAX)
        return refuse(c, -EBADMSG, "the capture is damaged: a packet longer than 256 KiB");
    if (captured > left - 16)
        return refuse(c, -ENODATA, "the capture is cut off within a packet");
    *ret = (struct packet){
        .ns = to_ns((uint64_t)get32(c, c->pos) * c->interfaces[0].units_per_s + get32(c, c->pos + 4),
                    c->interfaces[0].units_per_s),
        .b = c->b + c->pos + 16, .captured = captured, .original = get32(c, c->pos + 12), .link = c->interfaces[0].link};
    c->pos += 16 + captured;
    return 1;
}

static int ng_section(struct capture *c)
{
    uint32_t order;

    if (c->n - c->pos < 28)
        return refuse(c, -ENODATA, "the capture is cut off within its head");
    order = first_word(c->b + c->pos + 8);
    if (order != 0x1a2b3c4d && order != 0x4d3c2b1a)
        return refuse(c, -EBADMSG, "the capture is damaged: no byte order");
    c->swapped = order != 0x1a2b3c4d;
    if (get16(c, c->pos + 12) != 1)
        return refuse(c, -EPROTONOSUPPORT, "the capture has another version of pcapng");
    c->n_interfaces = 0;
    c->began = true;
    return 0;
}

/* An interface; its options tell the resolution of its times. */
static int ng_interface(struct capture *c, size_t bytes)
{
    size_t pos = c->pos + 16, end = c->pos + bytes - 4;
    uint64_t units = 1000000;

    if (bytes < 20)
        return refuse(c, -EBADMSG, "the capture is damaged: an interface that is too short");
    if (c->n_interfaces == INTERFACES_MAX)
        return refuse(c, -EBADMSG, "the capture has more than 256 interfaces");
    while (pos + 4 <= end) {
        uint16_t code = get16(c, pos), len = get16(c, pos + 2);

        if (code == 0 || len > end - pos - 4)
            break;
        if (code == 9 && len >= 1) { /* if_tsresol */
            uint8_t v = c->b[pos + 4];

            units = 1;
            for (unsigned i = 0; i < (v & 0x7fu) && units < ((uint64_t)1 << 58); i++)
                units *= v & 0x80 ? 2 : 10;
        }
        pos += 4 + (((size_t)len + 3) & ~(size_t)3);
    }
    c->interfaces[c->n_interfaces++] = (struct interface){get16(c, c->pos + 8), units};
    return 0;
}

static int ng_packet(struct capture *c, size_t bytes, struct packet *ret)
{
    uint32_t number, captured;
    const struct interface *i;

    if (bytes < 32)
        return refuse(c, -EBADMSG, "the capture is damaged: a packet that is too short");
    number = get32(c, c->pos + 8);
    captured = get32(c, c->pos + 20);
    if (number >= c->n_interfaces)
        return refuse(c, -EBADMSG, "the capture is damaged: a packet of an unknown interface");
    if (captured > bytes - 32)
        return refuse(c, -EBADMSG, "the capture is damaged: a packet longer than its block");
    i = &c->interfaces[number];
    *ret = (struct packet){.ns = to_ns((uint64_t)get32(c, c->pos + 12) << 32 | get32(c, c->pos + 16), i->units_per_s),
                           .b = c->b + c->pos + 28, .captured = captured, .original = get32(c, c->pos + 24),
                           .link = i->link};
    return 1;
}

static int ng_next(struct capture *c, struct packet *ret)
{
    while (c->pos < c->n) {
        size_t left = c->n - c->pos;
        uint32_t type, bytes;
        int r = 0;

        if (left < 12)
            return refuse(c, -ENODATA, "the capture is cut off within a block");
        type = get32(c, c->pos);
        if (type == 0x0a0d0d0a && (r = ng_section(c)) < 0)
            return r;
        bytes = get32(c, c->pos + 4);
        if (bytes < 12 || bytes % 4)
            return refuse(c, -EBADMSG, "the capture is damaged: a block of impossible length");
        if (bytes > left)
            return refuse(c, -ENODATA, "the capture is cut off within a block");
        if (get32(c, c->pos + bytes - 4) != bytes || !c->began)
            return refuse(c, -EBADMSG, "the capture is damaged: the lengths around a block differ");
        if (type == 1)
            r = ng_interface(c, bytes);
        else if (type == 6)
            r = ng_packet(c, bytes, ret);
        c->pos += bytes;
        if (r)
            return r;
    }
    return 0;
}

static int capture_next(struct capture *c, struct packet *ret)
{
    return c->ng ? ng_next(c, ret) : pcap_next(c, ret);
}

/* ---- a packet ---- */

/* Where IP begins; false: it is something else. */
static bool link_strip(const struct packet *p, size_t *ret_at)
{
    const uint8_t *b = p->b;
    size_t n = p->captured, at = 14;
    uint16_t proto;

    switch (p->link) {
    case PCAP_LINK_ETHERNET:
        if (n < 14)
            return false;
        proto = get_be16(b + 12);
        while ((proto == 0x8100 || proto == 0x88a8 || proto == 0x9100) && n >= at + 4) {
            proto = get_be16(b + at + 2);
            at += 4;
        }
        break;
    case PCAP_LINK_SLL:
        if (n < 16)
            return false;
        proto = get_be16(b + 14);
        at = 16;
        break;
    case PCAP_LINK_SLL2:
        if (n < 20)
            return false;
        proto = get_be16(b);
        at = 20;
        break;
    case 0: /* BSD loopback: the version of IP tells enough */
    case 108:
        *ret_at = 4;
        return n > 4;
    case PCAP_LINK_RAW:
    case 12: /* raw IP of some systems */
    case 14:
    case 228:
    case 229:
        *ret_at = 0;
        return n > 0;
    default:
        return false;
    }
    *ret_at = at;
    return (proto == 0x0800 || proto == 0x86dd) && n > at;
}


static bool ipv6_strip(const uint8_t *b, size_t n, struct tcp_seg *seg, size_t *ret_at, uint32_t *ret_bytes)
{
    size_t at = 40;
    uint8_t next;

    if (n < 40)
        return false;
    next = b[6];
    seg->src = ip_addr_v6_bytes(b + 8, 0);
    seg->dst = ip_addr_v6_bytes(b + 24, 0);
    while (next == 0 || next == 43 || next == 60) {
        if (n < at + 8)
            return false;
        next = b[at];
        at += ((size_t)b[at + 1] + 1) * 8;
    }
    *ret_at = at;
    *ret_bytes = 40u + get_be16(b + 4);
    if (get_be16(b + 4) == 0)
        *ret_bytes = 0;
    return next == 6 && at <= n;
}

static bool ipv4_strip(const uint8_t *b, size_t n, struct tcp_seg *seg, size_t *ret_at, uint32_t *ret_bytes)
{
    size_t at = (size_t)(b[0] & 15) * 4;

    if (n < 20 || at < 20 || at > n || b[9] != 6 || (get_be16(b + 6) & 0x3fff))
        return false; /* fragments are not put together */
    seg->src = ip_addr_v4_bytes(b + 12);
    seg->dst = ip_addr_v4_bytes(b + 16);
    *ret_at = at;
    *ret_bytes = get_be16(b + 2);
    return true;
}

/* A TCP segment with its ends and the length of its payload; false: none. */
static bool tcp_of(const struct packet *p, struct tcp_seg *ret)
{
    struct ip_addr src, dst;
    size_t at, ip_at, header;
    uint32_t bytes;
    bool ok;

    if (!link_strip(p, &ip_at))
        return false;
    memset(ret, 0, sizeof *ret);
    const uint8_t *b = p->b + ip_at;
    size_t n = p->captured - ip_at;

    ok = b[0] >> 4 == 4 ? ipv4_strip(b, n, ret, &at, &bytes) : b[0] >> 4 == 6 && ipv6_strip(b, n, ret, &at, &bytes);
    if (!ok || n - at < TCP_HEADER_BYTES)
        return false;
    if (bytes == 0) /* a super-frame: its length does not fit, the packet's tells */
        bytes = p->original > ip_at ? p->original - (uint32_t)ip_at : 0;
    header = (size_t)(b[at + 12] >> 4) * 4;
    if (header < TCP_HEADER_BYTES || bytes < at + header)
        return false;
    src = ret->src;
    dst = ret->dst;
    if (tcp_header_decode(b + at, header <= n - at ? header : n - at, ret, &(size_t){0}) == TCP_DECODE_SHORT ||
        header > n - at) { /* cut off within its options: what is fixed is there */
        memset(ret, 0, sizeof *ret);
        ret->src_port = get_be16(b + at);
        ret->dst_port = get_be16(b + at + 2);
        ret->seq = get_be32(b + at + 4);
        ret->ack = get_be32(b + at + 8);
        ret->flags = b[at + 13];
        ret->wnd = get_be16(b + at + 14);
    }
    ret->src = src;
    ret->dst = dst;
    ret->len = bytes - (uint32_t)(at + header);
    return ret->len <= PACKET_MAX;
}

/* ---- live frames ---- */

void trace_frame_finish(uint8_t *frame, size_t n, const uint8_t *vnet, unsigned vnet_bytes)
{
    struct vnet_header h;
    size_t field;

    if (!vnet_bytes || vnet_header_decode(vnet, vnet_bytes + n, vnet_bytes, &h) != VNET_DECODE_OK || !h.needs_csum)
        return;
    field = (size_t)h.csum_start + h.csum_offset;
    if (field + 2 <= n) /* it holds the pseudo-header's sum, which is so counted */
        put_be16(frame + field, csum_fold(csum_partial(frame + h.csum_start, n - h.csum_start, 0)));
}

bool trace_frame_matches(const uint8_t *frame, size_t n, const struct ip_addr *host, uint16_t port)
{
    struct packet p = {.b = frame, .captured = (uint32_t)n, .original = (uint32_t)n, .link = PCAP_LINK_ETHERNET};
    struct tcp_seg seg;

    if (!host && !port)
        return true;
    if (!tcp_of(&p, &seg))
        return false;
    return (!port || seg.src_port == port || seg.dst_port == port) &&
           (!host || ip_addr_eq(&seg.src, host) || ip_addr_eq(&seg.dst, host));
}

/* ---- connections ---- */

static bool same_end(const struct capture_stream *s, unsigned end, const struct ip_addr *a, uint16_t port)
{
    return s->port[end] == port && ip_addr_eq(&s->addr[end], a);
}

/* 0: its first end sent the segment, 1: the other, -1: another connection. */
static int end_of(const struct capture_stream *s, const struct tcp_seg *seg)
{
    for (unsigned end = 0; end < 2; end++) {
        if (same_end(s, end, &seg->src, seg->src_port) && same_end(s, !end, &seg->dst, seg->dst_port))
            return (int)end;
    }
    return -1;
}

static uint32_t hash_of(const struct ip_addr *a, const struct ip_addr *b, uint16_t a_port, uint16_t b_port)
{
    uint32_t h[2] = {a_port, b_port};
    const struct ip_addr *end[2] = {a, b};

    for (unsigned e = 0; e < 2; e++)
        for (unsigned i = 0; i < 16; i++)
            h[e] = (h[e] ^ end[e]->b[i]) * 16777619u;
    return (h[0] + h[1]) * 2654435761u; /* the same in both directions */
}

static bool slots_grow(struct capture_streams *s)
{
    size_t n = s->n_slots ? 2 * s->n_slots : 1024;
    uint32_t *slots = calloc(n, sizeof *slots);

    if (!slots)
        return false;
    for (size_t i = 0; i < s->n_slots; i++) {
        const struct capture_stream *x = s->slots[i] ? &s->at[s->slots[i] - 1] : NULL;
        size_t at = x ? hash_of(&x->addr[0], &x->addr[1], x->port[0], x->port[1]) & (n - 1) : 0;

        while (x && slots[at])
            at = (at + 1) & (n - 1);
        if (x)
            slots[at] = s->slots[i];
    }
    free(s->slots);
    s->slots = slots;
    s->n_slots = n;
    return true;
}

/* The connection that a segment belongs to, new if need be; -1: no memory. */
static int64_t stream_of(struct capture_streams *s, const struct tcp_seg *seg, uint64_t ns, int *ret_end)
{
    bool syn = (seg->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    struct capture_stream *x;
    size_t at;

    if (2 * s->n >= s->n_slots && !slots_grow(s))
        return -1;
    at = hash_of(&seg->src, &seg->dst, seg->src_port, seg->dst_port) & (s->n_slots - 1);
    for (; s->slots[at]; at = (at + 1) & (s->n_slots - 1)) {
        x = &s->at[s->slots[at] - 1];
        if ((*ret_end = end_of(x, seg)) >= 0 && (!syn || *ret_end || !x->has_syn || x->syn == seg->seq))
            return (int64_t)s->slots[at] - 1;
        if (*ret_end >= 0)
            break; /* the same ends again: a new connection */
    }
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 64;

        x = s->n < STREAMS_MAX ? realloc(s->at, room * sizeof *x) : NULL;
        if (!x)
            return -1;
        s->at = x;
        s->room = room;
    }
    s->at[s->n] = (struct capture_stream){.addr = {seg->src, seg->dst}, .port = {seg->src_port, seg->dst_port},
                                          .syn = seg->seq, .has_syn = syn, .first_ns = ns};
    s->slots[at] = (uint32_t)++s->n;
    *ret_end = 0;
    return (int64_t)s->n - 1;
}

void capture_streams_free(struct capture_streams *s)
{
    free(s->at);
    free(s->slots);
    *s = (struct capture_streams){0};
}

/* Walks over the file; of each segment: seen(). */
static int walk(const void *bytes, size_t n, struct capture_streams *s, const char **ret_error,
                void (*seen)(void *user, size_t number, int end, const struct tcp_seg *seg, uint64_t ns), void *user)
{
    struct capture c;
    struct packet p;
    struct tcp_seg seg;
    int end, r = capture_open(bytes, n, &c);

    while (r == 0 && (r = capture_next(&c, &p)) == 1) {
        int64_t number;

        r = 0;
        if (!tcp_of(&p, &seg))
            continue;
        number = stream_of(s, &seg, p.ns, &end);
        if (number < 0)
            r = refuse(&c, -ENOMEM, "no memory for so many connections");
        else
            seen(user, (size_t)number, end, &seg, p.ns);
        if (r == 0)
            continue;
        break;
    }
    if (r < 0 && ret_error)
        *ret_error = c.error;
    return r;
}

static void count(void *user, size_t number, int end, const struct tcp_seg *seg, uint64_t ns)
{
    struct capture_stream *x = &((struct capture_streams *)user)->at[number];

    x->packets++;
    x->bytes[end] += seg->len;
    x->last_ns = ns;
}

int capture_list(const void *bytes, size_t n, struct capture_streams *ret, const char **ret_error)
{
    int r;

    *ret = (struct capture_streams){0};
    r = walk(bytes, n, ret, ret_error, count, ret);
    if (r < 0)
        capture_streams_free(ret);
    return r;
}

/* ---- into a plot ---- */

struct feeding {
    struct plot *p;
    size_t number;
    int end;             /* whose data are shown */
    int scale[2];        /* of the windows that each end announces; -1: it offers none, or was not seen */
    uint64_t zero;
    bool began;
};

static void feed(void *user, size_t number, int end, const struct tcp_seg *seg, uint64_t ns)
{
    struct feeding *f = user;

    if (number != f->number)
        return;
    if (!f->began)
        f->zero = ns;
    f->began = true;
    if (seg->flags & TCP_SYN) {
        f->scale[end] = seg->opt.wscale_ok ? seg->opt.wscale > 14 ? 14 : seg->opt.wscale : -1;
        if (f->scale[0] >= 0 && f->scale[1] >= 0)
            f->p->scale = (uint8_t)f->scale[!f->end];
    }
    struct plot_seg s = {.t = (double)(int64_t)(ns - f->zero) / 1e9, .data = end == f->end, .seq = seg->seq,
                         .ack = seg->ack, .len = seg->len, .flags = seg->flags, .wnd = seg->wnd, .kind = PLOT_BARS,
                         .sack_count = seg->opt.sack_count};

    memcpy(s.sack, seg->opt.sack, sizeof s.sack);
    plot_feed(f->p, &s);
}

int plot_from_capture(struct plot *p, const void *bytes, size_t n, size_t number, enum plot_direction direction,
                      const char **ret_error)
{
    struct capture_streams all, again = {0};
    struct feeding f = {.p = p, .number = number, .scale = {-1, -1}};
    const struct capture_stream *x;
    int r = capture_list(bytes, n, &all, ret_error);

    if (r < 0)
        return r;
    if (number >= all.n) {
        capture_streams_free(&all);
        *ret_error = "the capture has no such TCP connection";
        return -ENOENT;
    }
    x = &all.at[number];
    f.end = direction == PLOT_MORE ? x->bytes[1] > x->bytes[0] : direction == PLOT_IN;
    ip_addr_port_format(&x->addr[f.end], x->port[f.end], p->from);
    ip_addr_port_format(&x->addr[!f.end], x->port[!f.end], p->to);
    r = walk(bytes, n, &again, ret_error, feed, &f);
    capture_streams_free(&again);
    capture_streams_free(&all);
    if (r == 0 && p->failed) {
        *ret_error = "no memory";
        r = -ENOMEM;
    }
    return r;
}
