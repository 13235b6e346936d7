/*
 * wire/ipv6.c: the IPv6 header and its extension headers (RFC 8200).
 *
 * ipv6_walk_step() consumes one extension header and knows nothing of the one before except what struct
 * ipv6_walk keeps; every loop here is bounded by a length byte. Nothing is sent from here: PROBLEM only says
 * what should be.
 */
#include "wire/ipv6.h"

#include <assert.h>
#include "wire/bytes.h"
#include "wire/icmp.h"

static enum ipv6_decode_result decode(const uint8_t *bytes, size_t n, uint16_t scope, struct ipv6_header *h)
{
    uint32_t first;
    uint8_t class;

    if (n < 1)
        return IPV6_DECODE_SHORT;
    if (bytes[0] >> 4 != 6)
        return IPV6_DECODE_BAD_VERSION;
    if (n < IPV6_HEADER_BYTES)
        return IPV6_DECODE_SHORT;
    first = get_be32(bytes);
    class = (uint8_t)(first >> 20);
    h->tos = class & 0xfc;
    h->ecn = class & 3;
    h->flow_label = first & 0xfffff;
    h->payload_bytes = get_be16(bytes + 4);
    h->total_bytes = IPV6_HEADER_BYTES + (uint32_t)h->payload_bytes;
    h->next = bytes[6];
    h->hop_limit = bytes[7];
    h->src = ip_addr_v6_bytes(bytes + 8, scope);
    h->dst = ip_addr_v6_bytes(bytes + 24, scope);
    return IPV6_DECODE_OK;
}

enum ipv6_decode_result ipv6_header_decode(const uint8_t *bytes, size_t n, uint16_t scope,
                                           struct ipv6_header *ret)
{
    struct ipv6_header h;
    enum ipv6_decode_result r = decode(bytes, n, scope, &h);

    if (r != IPV6_DECODE_OK)
        return r;
    if (h.total_bytes > n)
        return IPV6_DECODE_TRUNCATED;
    *ret = h;
    return IPV6_DECODE_OK;
}

enum ipv6_decode_result ipv6_header_decode_quoted(const uint8_t *bytes, size_t n, uint16_t scope,
                                                  struct ipv6_header *ret)
{
    struct ipv6_header h;
    enum ipv6_decode_result r = decode(bytes, n, scope, &h);

    if (r == IPV6_DECODE_OK)
        *ret = h;
    return r;
}

void ipv6_header_encode(const struct ipv6_header *h, uint8_t out[IPV6_HEADER_BYTES])
{
    uint32_t class = (uint32_t)(h->tos & 0xfc) | (h->ecn & 3);

    put_be32(out, 6u << 28 | class << 20 | (h->flow_label & 0xfffff));
    put_be16(out + 4, h->payload_bytes);
    out[6] = h->next;
    out[7] = h->hop_limit;
    memcpy(out + 8, h->src.b, 16);
    memcpy(out + 24, h->dst.b, 16);
}

const char *ipv6_decode_result_name(enum ipv6_decode_result r)
{
    static const char *const names[] = {"ok", "ipv6_short", "ipv6_bad_version", "ipv6_truncated"};

    static_assert(sizeof names / sizeof names[0] == IPV6_DECODE_N, "a name for each result");
    return (unsigned)r < IPV6_DECODE_N ? names[r] : "?";
}

void ipv6_walk_init(struct ipv6_walk *w, const struct ipv6_header *h)
{
    *w = (struct ipv6_walk){.pos = IPV6_HEADER_BYTES, .next_at = 6, .next = h->next};
}

static enum ipv6_walk_result problem(struct ipv6_walk *w, enum icmp6_param_code code, size_t pointer)
{
    w->problem_code = (uint8_t)code;
    w->problem_pointer = (uint32_t)pointer;
    return IPV6_WALK_PROBLEM;
}

enum { IPV6_OPT_PAD1 = 0, IPV6_OPT_PADN = 1, IPV6_OPT_ROUTER_ALERT = 5 };

/* RFC 8200 section 4.2: the two highest bits of an unknown option's type say what to do with the packet. */
static enum ipv6_walk_result unknown_option(struct ipv6_walk *w, uint8_t type, size_t at)
{
    switch (type >> 6) {
    case 0:
        return IPV6_WALK_NEXT;
    case 1:
        return IPV6_WALK_DROP_OPTION;
    default:
        w->problem_multicast = type >> 6 == 2;
        return problem(w, ICMP6_PARAM_OPTION, at);
    }
}

/* Options of a hop-by-hop or destination header that ends at `end`. */
static enum ipv6_walk_result step_options(const uint8_t *packet, size_t end, bool hop_by_hop,
                                          struct ipv6_walk *w)
{
    for (size_t at = w->pos + 2; at < end;) {
        uint8_t type = packet[at];
        enum ipv6_walk_result r = IPV6_WALK_NEXT;

        if (type == IPV6_OPT_PAD1) {
            at++;
            continue;
        }
        if (end - at < 2 || end - at - 2 < packet[at + 1])
            return IPV6_WALK_DROP_BAD_OPTION;
        if (hop_by_hop && type == IPV6_OPT_ROUTER_ALERT && packet[at + 1] == 2) {
            w->router_alert = true; /* RFC 2711 section 2.1 */
            w->router_alert_value = get_be16(packet + at + 2);
        } else if (type != IPV6_OPT_PADN) {
            r = unknown_option(w, type, at);
        }
        if (r != IPV6_WALK_NEXT)
            return r;
        at += 2 + (size_t)packet[at + 1];
    }
    return IPV6_WALK_NEXT;
}

/* RFC 8200 section 4.5; RFC 6946: offset 0 without "more" is no fragment at all. */
static enum ipv6_walk_result step_fragment(const uint8_t *packet, size_t n, struct ipv6_walk *w)
{
    const uint8_t *p = packet + w->pos;
    size_t data = w->pos + IPV6_FRAGMENT_HEADER_BYTES;
    uint16_t offset = get_be16(p + 2);

    if (w->fragment)
        return IPV6_WALK_DROP_TOO_MANY; /* a fragment within a fragment */
    if ((offset & 1) && (n - data) % 8)
        return problem(w, ICMP6_PARAM_HEADER_FIELD, 4);
    if ((offset & 0xfff8u) + (n - data) > UINT16_MAX)
        return problem(w, ICMP6_PARAM_HEADER_FIELD, w->pos + 2);
    w->fragment = true;
    w->more_fragments = offset & 1;
    w->frag_offset = offset & 0xfff8u;
    w->frag_id = get_be32(p + 4);
    w->frag_at = w->pos;
    w->frag_next_at = w->next_at;
    w->next_at = w->pos;
    w->next = p[0];
    w->pos = data;
    return w->more_fragments || w->frag_offset ? IPV6_WALK_FRAGMENT : IPV6_WALK_NEXT;
}

/* RFC 8200 section 4.4, RFC 5095: we forward nothing, so any header with segments left is refused, type 0
 * too. */
static enum ipv6_walk_result step_routing(const uint8_t *packet, struct ipv6_walk *w)
{
    return packet[w->pos + 3] ? problem(w, ICMP6_PARAM_HEADER_FIELD, w->pos + 2) : IPV6_WALK_NEXT;
}

static bool is_extension(uint8_t next)
{
    return next == IP_PROTO_HOP_BY_HOP || next == IP_PROTO_ROUTING || next == IP_PROTO_FRAGMENT ||
           next == IP_PROTO_DESTINATION;
}

enum ipv6_walk_result ipv6_walk_step(const uint8_t *packet, size_t n, struct ipv6_walk *w)
{
    enum ipv6_walk_result r;
    size_t end;

    if (w->next == IP_PROTO_NONE)
        return IPV6_WALK_NO_NEXT;
    if (!is_extension(w->next))
        return IPV6_WALK_UPPER;
    /* RFC 8200 section 4.3: hop-by-hop options come first or not at all. */
    if (w->next == IP_PROTO_HOP_BY_HOP && w->pos != IPV6_HEADER_BYTES)
        return problem(w, ICMP6_PARAM_NEXT_HEADER, w->next_at);
    if (w->count >= IPV6_EXT_HEADERS_MAX)
        return IPV6_WALK_DROP_TOO_MANY;
    if (w->pos > n || n - w->pos < 8)
        return IPV6_WALK_DROP_TRUNCATED;
    w->count++;
    if (w->next == IP_PROTO_FRAGMENT)
        return step_fragment(packet, n, w);
    end = w->pos + ((size_t)packet[w->pos + 1] + 1) * 8;
    if (end > n)
        return IPV6_WALK_DROP_TRUNCATED;
    if (w->next == IP_PROTO_ROUTING)
        r = step_routing(packet, w);
    else
        r = step_options(packet, end, w->next == IP_PROTO_HOP_BY_HOP, w);
    if (r != IPV6_WALK_NEXT)
        return r;
    w->next = packet[w->pos];
    w->next_at = w->pos;
    w->pos = end;
    return IPV6_WALK_NEXT;
}

enum ipv6_walk_result ipv6_walk(const uint8_t *packet, size_t n, struct ipv6_walk *w)
{
    enum ipv6_walk_result r;

    do {
        r = ipv6_walk_step(packet, n, w);
    } while (r == IPV6_WALK_NEXT);
    return r;
}

const char *ipv6_walk_result_name(enum ipv6_walk_result r)
{
    static const char *const names[] = {"ipv6_next",
                                        "ok",
                                        "ipv6_fragment",
                                        "ipv6_no_next_header",
                                        "ipv6_ext_truncated",
                                        "ipv6_unknown_option",
                                        "ipv6_bad_option",
                                        "ipv6_too_many_headers",
                                        "ipv6_parameter_problem"};

    static_assert(sizeof names / sizeof names[0] == IPV6_WALK_N, "a name for each result");
    return (unsigned)r < IPV6_WALK_N ? names[r] : "?";
}
