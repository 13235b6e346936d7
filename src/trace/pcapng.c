/*
 * trace/pcapng.c: packets of a record as a pcapng file (draft-ietf-opsawg-pcapng; theory of operation).
 *
 * A record has no payload, and super-frames as one event. Here each segment is a packet of its own with the headers that
 * were on the wire: raw IP (no Ethernet header: the record knows none), TTL 64 and identification 0 where the record does
 * not say. Payload is cut off: the captured length is the headers', the original length the packet's, so that every
 * reader's byte counts agree. The TCP checksum is right for a payload of zeros. MD5 digests are not recorded: zeros.
 *
 * Blocks have the byte order of the machine, as the format allows; lengths come twice around each body of 32-bit words.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "trace/export.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/ipv6.h"

#define BLOCK_SECTION    0x0a0d0d0au
#define BLOCK_INTERFACE  1u
#define BLOCK_STATISTICS 5u
#define BLOCK_PACKET     6u
#define PIECE_MAX        32768u /* of a segment without gso_size that is longer than a packet may be */
#define PIECE_MIN        64u    /* a gso_size below is none that sends super-frames: damaged, or not worth a packet each */
#define SUPER_MAX        65535u /* of a super-frame's payload, but for the rest of a segment */
#define COMMENT_MAX      1024u
#define HEADERS_MAX      (IPV6_HEADER_BYTES + TCP_HEADER_BYTES + TCP_OPTIONS_MAX)

/* ---- blocks ---- */

static void put32(struct trace_text *out, uint32_t v)
{
    trace_put(out, &v, sizeof v);
}

static void put_padded(struct trace_text *out, const void *b, size_t n)
{
    trace_put(out, b, n);
    trace_put(out, "\0\0\0", -n & 3);
}

static void option(struct trace_text *out, uint16_t code, const void *b, size_t n)
{
    uint16_t head[2] = {code, (uint16_t)(n < 65535 ? n : 65535)};

    trace_put(out, head, sizeof head);
    put_padded(out, b, head[1]);
}

static void option_text(struct trace_text *out, uint16_t code, const char *text)
{
    option(out, code, text, strlen(text));
}

static size_t block_begin(struct trace_text *out, uint32_t type)
{
    size_t at = out->len;

    put32(out, type);
    put32(out, 0);
    return at;
}

static void block_end(struct trace_text *out, size_t at)
{
    uint32_t bytes = (uint32_t)(out->len - at + 4);

    put32(out, bytes);
    if (!out->failed)
        memcpy(out->at + at + 4, &bytes, 4);
}

static void put_time(struct trace_text *out, uint64_t ns)
{
    put32(out, (uint32_t)(ns >> 32));
    put32(out, (uint32_t)ns);
}

void pcapng_begin(struct trace_text *out, const char *app, const char *if_name, const char *if_text, unsigned link_type,
                  uint32_t snaplen)
{
    static const uint8_t nanoseconds = 9;
    size_t at = block_begin(out, BLOCK_SECTION);
    uint16_t v[2] = {1, 0};

    put32(out, 0x1a2b3c4d);
    trace_put(out, v, sizeof v);
    put32(out, UINT32_MAX); /* its length is not told: 64 bits of ones */
    put32(out, UINT32_MAX);
    option_text(out, 4, app); /* shb_userappl */
    option(out, 0, NULL, 0);
    block_end(out, at);

    at = block_begin(out, BLOCK_INTERFACE);
    v[0] = (uint16_t)link_type;
    v[1] = 0;
    trace_put(out, v, sizeof v);
    put32(out, snaplen);
    option_text(out, 2, if_name);
    option_text(out, 3, if_text);
    option(out, 9, &nanoseconds, 1); /* if_tsresol */
    option(out, 0, NULL, 0);
    block_end(out, at);
}

void pcapng_packet(struct trace_text *out, uint64_t ns, const uint8_t *bytes, uint32_t captured, uint32_t original,
                   enum pcapng_direction direction, const char *comment, size_t comment_bytes)
{
    size_t at = block_begin(out, BLOCK_PACKET);
    uint32_t flags = (uint32_t)direction;

    put32(out, 0); /* the interface */
    put_time(out, ns);
    put32(out, captured);
    put32(out, original);
    put_padded(out, bytes, captured);
    if (comment)
        option(out, 1, comment, comment_bytes);
    if (direction)
        option(out, 2, &flags, sizeof flags); /* epb_flags */
    option(out, 0, NULL, 0);
    block_end(out, at);
}

void pcapng_statistics(struct trace_text *out, uint64_t ns, uint64_t received, uint64_t dropped)
{
    size_t at = block_begin(out, BLOCK_STATISTICS);

    put32(out, 0);
    put_time(out, ns);
    option(out, 4, &received, sizeof received); /* isb_ifrecv */
    option(out, 5, &dropped, sizeof dropped);   /* isb_ifdrop */
    option(out, 0, NULL, 0);
    block_end(out, at);
}

/* ---- packets of a record ---- */

static uint64_t wall(const struct trace *tr, uint64_t at)
{
    return tr->head.wall_at ? at - tr->head.dumped_at + tr->head.wall_at : at;
}

static struct ip_addr address(const uint8_t b[16], unsigned family)
{
    struct ip_addr a = {.family = (uint8_t)(family == IP_V6 ? IP_V6 : IP_V4)};

    memcpy(a.b, b, family == IP_V6 ? 16 : 4);
    return a;
}

/* Ends of the segment, as the event has them or the record. */
static void set_ends(const struct trace *tr, const struct trace_event *ev, struct tcp_seg *seg)
{
    const struct tcp_rec_head *h = &tr->head;
    const struct tcp_rec_tuple *t = &ev->tuple;
    bool in = ev->type == TCP_REC_T_SEG_IN;
    struct ip_addr local = t->family ? address(t->local, t->family) : address(h->local, h->family);
    struct ip_addr remote = t->family ? address(t->remote, t->family) : address(h->remote, h->family);
    uint16_t local_port = t->family ? t->local_port : h->local_port;
    uint16_t remote_port = t->family ? t->remote_port : h->remote_port;

    seg->src = in ? remote : local;
    seg->dst = in ? local : remote;
    seg->src_port = in ? remote_port : local_port;
    seg->dst_port = in ? local_port : remote_port;
    seg->ttl = 64;
    seg->opt.md5_ok = (ev->e.seg.opt_bits & TCP_REC_OPT_MD5) != 0;
}

/* IP and TCP header of a segment whose payload is zeros; their length. */
static size_t headers(const struct tcp_seg *seg, uint8_t out[HEADERS_MAX])
{
    bool v6 = seg->src.family == IP_V6;
    size_t ip = v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
    size_t tcp = tcp_header_encode(seg, out + ip);
    uint32_t bytes = (uint32_t)tcp + seg->len;

    put_be16(out + ip + 16, csum_fold(csum_partial(out + ip, tcp, csum_pseudo(&seg->src, &seg->dst, IP_PROTO_TCP, bytes))));
    if (v6) {
        ipv6_header_encode(&(struct ipv6_header){.src = seg->src, .dst = seg->dst, .tos = seg->tos, .ecn = seg->ecn,
                                                 .hop_limit = seg->ttl, .next = IP_PROTO_TCP,
                                                 .payload_bytes = (uint16_t)bytes}, out);
    } else {
        ipv4_header_encode(&(struct ipv4_header){.src = seg->src, .dst = seg->dst, .tos = seg->tos, .ecn = seg->ecn,
                                                 .ttl = seg->ttl, .proto = IP_PROTO_TCP, .dont_fragment = true,
                                                 .total_bytes = (uint16_t)(ip + bytes)}, out);
    }
    return ip + tcp;
}

/* What the engine made of the segment before the cursor: a drop, an ACK's result. `next` is a copy: it may run ahead. */
static void verdict(const struct trace *tr, struct trace_cursor next, uint64_t at, struct trace_text *out)
{
    struct trace_event ev;
    bool dropped = false;

    while (out->len < COMMENT_MAX && trace_next(tr, &next, &ev) == 1 && ev.e.h.at == at) {
        if (ev.type == TCP_REC_T_SEG_IN || ev.type == TCP_REC_T_SEG_OUT)
            break;
        if (ev.type == TCP_REC_T_DROP) {
            trace_print(out, "%s%s: %s", dropped ? "; " : "not used: ", tcp_rec_code_name(ev.type, ev.e.h.code),
                        tcp_rec_code_text(ev.type, ev.e.h.code));
            dropped = true;
        }
        if (ev.type == TCP_REC_T_ACK) {
            trace_print(out, out->len ? "; " : "");
            trace_ack_text(&ev.e.ack, out);
        }
    }
    if (!out->len)
        trace_print(out, "used");
}

static void comment_of(const struct trace *tr, const struct trace_event *ev, const struct trace_cursor *next,
                       const struct tcp_ev_ack *last, struct trace_text *out)
{
    out->len = 0;
    if (ev->type == TCP_REC_T_SEG_IN) {
        verdict(tr, *next, ev->e.h.at, out);
        return;
    }
    trace_print(out, "%s: %s", tcp_rec_code_name(ev->type, ev->e.h.code), tcp_rec_code_text(ev->type, ev->e.h.code));
    if (ev->e.h.flags & TCP_REC_F_RETRANS)
        trace_print(out, "; sent again");
    if (last->h.type && ev->e.seg.len)
        trace_print(out, "; cwnd %" PRIu32 ", flight %" PRIu32 ", srtt %.3f ms", last->cwnd, last->in_flight,
                    last->srtt_us / 1e3);
}

/* A segment event as the packets that it was on the wire; of a damaged one SUPER_MAX / PIECE_MIN + 2 at most. */
static void put_packets(const struct trace *tr, const struct trace_event *ev, struct trace_text *comment,
                        struct trace_text *out)
{
    bool in = ev->type == TCP_REC_T_SEG_IN;
    struct tcp_seg whole, seg;
    uint32_t piece, done = 0, number = 0;
    size_t text = comment->len;
    uint8_t b[HEADERS_MAX];

    trace_seg(&ev->e.seg, &whole);
    set_ends(tr, ev, &whole);
    piece = whole.gso_size >= PIECE_MIN ? whole.gso_size : PIECE_MAX;
    if (piece > PIECE_MAX)
        piece = PIECE_MAX;
    if (whole.len > SUPER_MAX + piece)
        whole.len = SUPER_MAX + piece; /* no super-frame is that long: damaged */
    do {
        uint32_t left = whole.len - done;
        size_t n;

        seg = whole;
        seg.seq = whole.seq + done;
        seg.len = left < piece ? left : piece;
        if (left > piece)
            seg.flags &= (uint16_t)~(TCP_FIN | TCP_PSH);
        if (done)
            seg.flags &= (uint16_t)~TCP_CWR;
        n = headers(&seg, b);
        comment->len = text;
        if (whole.len > piece)
            trace_print(comment, "; segment %" PRIu32 " of %" PRIu32 " of a super-frame", ++number,
                        (whole.len + piece - 1) / piece);
        pcapng_packet(out, wall(tr, ev->e.h.at), b, (uint32_t)n, (uint32_t)n + seg.len, in ? PCAPNG_IN : PCAPNG_OUT,
                      comment->at ? comment->at : "", comment->len);
        done += seg.len;
    } while (done < whole.len);
}

void trace_pcapng_begin(const struct trace *tr, const char *app, struct trace_text *out)
{
    struct trace_text text = {0};

    trace_story_head(tr, &text);
    if (text.at && strchr(text.at, '\n'))
        *strchr(text.at, '\n') = 0;
    pcapng_begin(out, app, "taut", text.at ? text.at + (text.at[0] == '#' ? 2 : 0) : "", PCAP_LINK_RAW, 0);
    trace_text_free(&text);
}

int trace_pcapng(const struct trace *tr, struct trace_text *out)
{
    struct trace_cursor cursor = {0};
    struct trace_text comment = {0};
    struct tcp_ev_ack last = {0};
    struct trace_event ev;
    int r;

    while ((r = trace_next(tr, &cursor, &ev)) == 1) {
        if (ev.type == TCP_REC_T_ACK)
            last = ev.e.ack;
        if (ev.type != TCP_REC_T_SEG_IN && ev.type != TCP_REC_T_SEG_OUT)
            continue;
        comment_of(tr, &ev, &cursor, &last, &comment);
        put_packets(tr, &ev, &comment, out);
    }
    trace_text_free(&comment);
    return r < 0 ? r : out->failed ? -ENOMEM : 0;
}
