/*
 * wire/icmp.c: ICMP and ICMPv6 messages and the packets that errors quote.
 *
 * Quoted bytes come from the network twice over; nothing in them is trusted beyond the bytes that are there.
 * Whether a quote matches a connection is decided by the stack.
 */
#include "wire/icmp.h"

#include <assert.h>
#include <string.h>
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

static uint8_t icmp4_kind(uint8_t type, uint8_t code)
{
    switch (type) {
    case ICMP4_TYPE_ECHO_REQUEST:
        return ICMP_KIND_ECHO_REQUEST;
    case ICMP4_TYPE_ECHO_REPLY:
        return ICMP_KIND_ECHO_REPLY;
    case ICMP4_TYPE_UNREACHABLE:
        return code == ICMP4_UNREACH_FRAG_NEEDED ? ICMP_KIND_TOO_BIG : ICMP_KIND_UNREACHABLE;
    case ICMP4_TYPE_TIME_EXCEEDED:
        return ICMP_KIND_TIME_EXCEEDED;
    case ICMP4_TYPE_PARAM_PROBLEM:
        return ICMP_KIND_PARAM_PROBLEM;
    case ICMP4_TYPE_SOURCE_QUENCH:
        return ICMP_KIND_SOURCE_QUENCH;
    case ICMP4_TYPE_REDIRECT:
        return ICMP_KIND_REDIRECT;
    default:
        return ICMP_KIND_OTHER;
    }
}

static uint8_t icmp6_kind(uint8_t type)
{
    switch (type) {
    case ICMP6_TYPE_ECHO_REQUEST:
        return ICMP_KIND_ECHO_REQUEST;
    case ICMP6_TYPE_ECHO_REPLY:
        return ICMP_KIND_ECHO_REPLY;
    case ICMP6_TYPE_UNREACHABLE:
        return ICMP_KIND_UNREACHABLE;
    case ICMP6_TYPE_TOO_BIG:
        return ICMP_KIND_TOO_BIG;
    case ICMP6_TYPE_TIME_EXCEEDED:
        return ICMP_KIND_TIME_EXCEEDED;
    case ICMP6_TYPE_PARAM_PROBLEM:
        return ICMP_KIND_PARAM_PROBLEM;
    case ICMP6_TYPE_MLD_QUERY:
    case ICMP6_TYPE_MLD1_REPORT:
    case ICMP6_TYPE_MLD1_DONE:
    case ICMP6_TYPE_MLD2_REPORT:
        return ICMP_KIND_MLD;
    default:
        return type >= ICMP6_TYPE_ROUTER_SOLICIT && type <= ICMP6_TYPE_REDIRECT ? ICMP_KIND_ND
                                                                                : ICMP_KIND_OTHER;
    }
}

/* The members that the kind gives a meaning to; kind, type and code are set. */
static void read_body(const uint8_t *bytes, size_t n, bool v4, struct icmp_message *m)
{
    switch (m->kind) {
    case ICMP_KIND_ECHO_REQUEST:
    case ICMP_KIND_ECHO_REPLY:
        m->echo_id = get_be16(bytes + 4);
        m->echo_seq = get_be16(bytes + 6);
        break;
    case ICMP_KIND_TOO_BIG: /* RFC 1191 section 4, RFC 4443 section 3.2 */
        m->mtu = v4 ? get_be16(bytes + 6) : get_be32(bytes + 4);
        break;
    case ICMP_KIND_PARAM_PROBLEM: /* RFC 792, RFC 4443 section 3.4 */
        m->pointer = v4 ? bytes[4] : get_be32(bytes + 4);
        break;
    default:
        break;
    }
    m->body = bytes + ICMP_HEADER_BYTES;
    m->body_bytes = n - ICMP_HEADER_BYTES;
}

enum icmp_decode_result icmp4_decode(const uint8_t *bytes, size_t n, struct icmp_message *ret)
{
    if (n < ICMP_HEADER_BYTES)
        return ICMP_DECODE_SHORT;
    if (!csum_ok(csum_partial(bytes, n, 0)))
        return ICMP_DECODE_BAD_CSUM;
    *ret = (struct icmp_message){.kind = icmp4_kind(bytes[0], bytes[1]), .type = bytes[0], .code = bytes[1]};
    read_body(bytes, n, true, ret);
    return ICMP_DECODE_OK;
}

enum icmp_decode_result icmp6_decode(const struct ip_addr *src, const struct ip_addr *dst,
                                     const uint8_t *bytes, size_t n, struct icmp_message *ret)
{
    if (n < ICMP_HEADER_BYTES)
        return ICMP_DECODE_SHORT;
    if (!csum_ok(csum_partial(bytes, n, csum_pseudo(src, dst, IP_PROTO_ICMPV6, (uint32_t)n))))
        return ICMP_DECODE_BAD_CSUM;
    *ret = (struct icmp_message){.kind = icmp6_kind(bytes[0]), .type = bytes[0], .code = bytes[1]};
    read_body(bytes, n, false, ret);
    return ICMP_DECODE_OK;
}

const char *icmp_decode_result_name(enum icmp_decode_result r)
{
    static const char *const names[] = {"ok", "icmp_short", "icmp_bad_checksum"};

    static_assert(sizeof names / sizeof names[0] == ICMP_DECODE_N, "a name for each result");
    return (unsigned)r < ICMP_DECODE_N ? names[r] : "?";
}

const char *icmp_kind_name(enum icmp_kind k)
{
    static const char *const names[] = {
        "echo_request",  "echo_reply", "unreachable", "too_big", "time_exceeded", "parameter_problem",
        "source_quench", "redirect",   "nd",          "mld",     "other"};

    static_assert(sizeof names / sizeof names[0] == ICMP_KIND_N, "a name for each kind");
    return (unsigned)k < ICMP_KIND_N ? names[k] : "?";
}

/* The upper-layer header at `bytes`, as much of it as was quoted. */
static void quote_upper(const uint8_t *bytes, size_t n, struct icmp_quote *q)
{
    if ((q->proto != IP_PROTO_TCP && q->proto != IP_PROTO_UDP) || n < 4)
        return;
    q->ports_ok = true;
    q->src_port = get_be16(bytes);
    q->dst_port = get_be16(bytes + 2);
    if (q->proto != IP_PROTO_TCP || n < 8)
        return;
    q->tcp_seq_ok = true;
    q->tcp_seq = get_be32(bytes + 4);
}

static enum icmp_quote_result quote4(const uint8_t *bytes, size_t n, struct icmp_quote *q)
{
    struct ipv4_header h;

    switch (ipv4_header_decode_quoted(bytes, n, &h)) {
    case IPV4_DECODE_OK:
        break;
    case IPV4_DECODE_SHORT:
        return ICMP_QUOTE_SHORT;
    default:
        return ICMP_QUOTE_BAD;
    }
    if (h.frag_offset)
        return ICMP_QUOTE_FRAGMENT;
    *q = (struct icmp_quote){
        .src = h.src, .dst = h.dst, .proto = h.proto, .total_bytes = h.total_bytes, .hop_limit = h.ttl};
    quote_upper(bytes + h.header_bytes, n - h.header_bytes, q);
    return ICMP_QUOTE_OK;
}

/*
 * Skips the extension headers of a quoted packet. Not ipv6_walk(): that judges a whole packet sent to us, and
 * a quote is a cut-off one that we sent.
 */
static enum icmp_quote_result quote_skip_extensions(const uint8_t *bytes, size_t n, uint8_t *next,
                                                    size_t *pos)
{
    while (*next == IP_PROTO_HOP_BY_HOP || *next == IP_PROTO_ROUTING || *next == IP_PROTO_DESTINATION ||
           *next == IP_PROTO_FRAGMENT) {
        size_t length = 8;

        if (n - *pos < 8)
            return ICMP_QUOTE_SHORT;
        if (*next != IP_PROTO_FRAGMENT)
            length = ((size_t)bytes[*pos + 1] + 1) * 8;
        else if (get_be16(bytes + *pos + 2) & 0xfff8)
            return ICMP_QUOTE_FRAGMENT;
        if (length > n - *pos)
            return ICMP_QUOTE_SHORT;
        *next = bytes[*pos];
        *pos += length;
    }
    return ICMP_QUOTE_OK;
}

static enum icmp_quote_result quote6(const uint8_t *bytes, size_t n, uint16_t scope, struct icmp_quote *q)
{
    struct ipv6_header h;
    size_t pos = IPV6_HEADER_BYTES;
    enum icmp_quote_result r;

    switch (ipv6_header_decode_quoted(bytes, n, scope, &h)) {
    case IPV6_DECODE_OK:
        break;
    case IPV6_DECODE_SHORT:
        return ICMP_QUOTE_SHORT;
    default:
        return ICMP_QUOTE_BAD;
    }
    r = quote_skip_extensions(bytes, n, &h.next, &pos);
    if (r != ICMP_QUOTE_OK)
        return r;
    *q = (struct icmp_quote){
        .src = h.src, .dst = h.dst, .proto = h.next, .total_bytes = h.total_bytes, .hop_limit = h.hop_limit};
    quote_upper(bytes + pos, n - pos, q);
    return ICMP_QUOTE_OK;
}

enum icmp_quote_result icmp_quote_decode(enum ip_family family, const uint8_t *bytes, size_t n,
                                         uint16_t scope, struct icmp_quote *ret)
{
    if (family == IP_V4)
        return quote4(bytes, n, ret);
    return family == IP_V6 ? quote6(bytes, n, scope, ret) : ICMP_QUOTE_BAD;
}

const char *icmp_quote_result_name(enum icmp_quote_result r)
{
    static const char *const names[] = {"ok", "icmp_quote_short", "icmp_quote_bad", "icmp_quote_fragment"};

    static_assert(sizeof names / sizeof names[0] == ICMP_QUOTE_N, "a name for each result");
    return (unsigned)r < ICMP_QUOTE_N ? names[r] : "?";
}

/* ICMPv6 sums a pseudo-header too (RFC 4443 section 2.3), ICMPv4 does not. */
static void put_checksum(const struct ip_addr *src, const struct ip_addr *dst, uint8_t *message, size_t n)
{
    uint32_t seed = src->family == IP_V6 ? csum_pseudo(src, dst, IP_PROTO_ICMPV6, (uint32_t)n) : 0;

    put_be16(message + 2, 0);
    put_be16(message + 2, csum_fold(csum_partial(message, n, seed)));
}

size_t icmp_echo_encode(const struct ip_addr *src, const struct ip_addr *dst, bool reply, uint16_t id,
                        uint16_t seq, const uint8_t *data, size_t bytes, uint8_t *out, size_t room)
{
    if (room < ICMP_HEADER_BYTES || bytes > room - ICMP_HEADER_BYTES)
        return 0;
    if (bytes)
        memmove(out + ICMP_HEADER_BYTES, data, bytes);
    if (src->family == IP_V6)
        out[0] = reply ? ICMP6_TYPE_ECHO_REPLY : ICMP6_TYPE_ECHO_REQUEST;
    else
        out[0] = reply ? ICMP4_TYPE_ECHO_REPLY : ICMP4_TYPE_ECHO_REQUEST;
    out[1] = 0;
    put_be16(out + 4, id);
    put_be16(out + 6, seq);
    put_checksum(src, dst, out, ICMP_HEADER_BYTES + bytes);
    return ICMP_HEADER_BYTES + bytes;
}

size_t icmp_error_encode(const struct ip_addr *src, const struct ip_addr *dst, uint8_t type, uint8_t code,
                         uint32_t info, const uint8_t *packet, size_t packet_bytes, uint8_t *out, size_t room)
{
    bool v4 = src->family == IP_V4;
    size_t quote = v4 ? ICMP4_QUOTE_MAX : ICMP6_QUOTE_MAX;

    if (room < ICMP_HEADER_BYTES)
        return 0;
    if (quote > packet_bytes)
        quote = packet_bytes;
    if (quote > room - ICMP_HEADER_BYTES)
        quote = room - ICMP_HEADER_BYTES;
    if (v4)
        info = type == ICMP4_TYPE_PARAM_PROBLEM ? info << 24 : info & 0xffff;
    out[0] = type;
    out[1] = code;
    put_be32(out + 4, info);
    if (quote)
        memcpy(out + ICMP_HEADER_BYTES, packet, quote);
    put_checksum(src, dst, out, ICMP_HEADER_BYTES + quote);
    return ICMP_HEADER_BYTES + quote;
}
