/*
 * wire/nd.c: neighbour discovery messages (RFC 4861). Decoding applies every validity rule of RFC 4861
 * sections 6.1, 7.1 and 8.1; what a valid message means for the neighbour cache, routes and addresses is the
 * stack's.
 */
#include "wire/nd.h"

#include <assert.h>
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"

/* Clears what lies behind the first `bits` bits. */
static void mask_prefix(uint8_t b[16], unsigned bits)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned keep = bits > i * 8 ? bits - i * 8 : 0;

        if (keep < 8)
            b[i] = (uint8_t)(b[i] & (0xff00u >> keep));
    }
}

/* RFC 4191 section 2.1: two bits, signed; 10 is reserved. */
static bool read_preference(uint8_t flags, int8_t *ret)
{
    static const int8_t preference[4] = {0, 1, 0, -1};
    unsigned bits = flags >> 3 & 3;

    *ret = preference[bits];
    return bits != 2;
}

/* RFC 4861 section 4.6.2. */
static bool read_prefix(const uint8_t *p, size_t n, struct nd_prefix *ret)
{
    uint8_t bytes[16];

    if (n != 32 || p[2] > 128)
        return false;
    memcpy(bytes, p + 16, 16);
    mask_prefix(bytes, p[2]);
    *ret = (struct nd_prefix){.prefix = ip_addr_v6_bytes(bytes, 0),
                              .bits = p[2],
                              .on_link = p[3] & 0x80,
                              .autonomous = p[3] & 0x40,
                              .valid_s = get_be32(p + 4),
                              .preferred_s = get_be32(p + 8)};
    return true;
}

/* RFC 4191 section 2.3: the prefix field has 0, 8 or 16 bytes. */
static bool read_route(const uint8_t *p, size_t n, struct nd_route *ret)
{
    uint8_t bytes[16] = {0};
    int8_t preference;

    if (n > 24 || p[2] > 128 || p[2] > (n - 8) * 8 || !read_preference(p[3], &preference))
        return false;
    memcpy(bytes, p + 8, n - 8);
    mask_prefix(bytes, p[2]);
    *ret = (struct nd_route){.prefix = ip_addr_v6_bytes(bytes, 0),
                             .bits = p[2],
                             .preference = preference,
                             .lifetime_s = get_be32(p + 4)};
    return true;
}

/* One option of n bytes, n a positive multiple of 8. False: not for us. */
static bool read_option(const uint8_t *p, size_t n, struct nd_option *ret)
{
    switch (p[0]) {
    case ND_OPT_SOURCE_LL:
    case ND_OPT_TARGET_LL:
        memcpy(ret->ll.b, p + 2, 6);
        return n == 8; /* RFC 2464 section 6 */
    case ND_OPT_PREFIX:
        return read_prefix(p, n, &ret->prefix);
    case ND_OPT_MTU:
        ret->mtu = get_be32(p + 4);
        return n == 8;
    case ND_OPT_ROUTE:
        return read_route(p, n, &ret->route);
    case ND_OPT_NONCE:
    case ND_OPT_REDIRECTED:
        ret->data = p + 2;
        ret->data_bytes = n - 2;
        return true;
    default:
        return false;
    }
}

enum nd_option_result nd_option_step(const uint8_t *bytes, size_t n, size_t *pos, struct nd_option *ret)
{
    struct nd_option o = {0};
    size_t length;

    if (*pos >= n)
        return ND_OPTION_END;
    /* RFC 4861 section 4.6: units of 8 bytes; 0 makes the whole packet invalid. */
    if (n - *pos < 8)
        return ND_OPTION_BAD;
    length = (size_t)bytes[*pos + 1] * 8;
    if (!length || length > n - *pos)
        return ND_OPTION_BAD;
    if (read_option(bytes + *pos, length, &o))
        o.type = bytes[*pos];
    *pos += length;
    *ret = o;
    return ND_OPTION_OK;
}

/* Walks all options once, so that a bad one anywhere refuses the message, and keeps the first of each simple
 * kind. */
static bool read_options(struct nd_message *m)
{
    struct nd_option o;
    enum nd_option_result r;

    for (size_t pos = 0; (r = nd_option_step(m->options, m->options_bytes, &pos, &o)) == ND_OPTION_OK;) {
        if (o.type == ND_OPT_SOURCE_LL && !m->source_ll_ok) {
            m->source_ll_ok = true;
            m->source_ll = o.ll;
        } else if (o.type == ND_OPT_TARGET_LL && !m->target_ll_ok) {
            m->target_ll_ok = true;
            m->target_ll = o.ll;
        } else if (o.type == ND_OPT_MTU && !m->mtu_ok) {
            m->mtu_ok = true;
            m->mtu = o.mtu;
        }
    }
    return r == ND_OPTION_END;
}

/* Bytes before the options; 0: not neighbour discovery. */
static size_t fixed_bytes(uint8_t type)
{
    switch (type) {
    case ICMP6_TYPE_ROUTER_SOLICIT:
        return 8;
    case ICMP6_TYPE_ROUTER_ADVERT:
        return 16;
    case ICMP6_TYPE_NEIGHBOUR_SOLICIT:
    case ICMP6_TYPE_NEIGHBOUR_ADVERT:
        return 24;
    case ICMP6_TYPE_REDIRECT:
        return 40;
    default:
        return 0;
    }
}

static void read_fixed(const struct nd_context *ctx, const uint8_t *bytes, struct nd_message *m)
{
    switch (m->type) {
    case ICMP6_TYPE_ROUTER_ADVERT: /* RFC 4861 section 4.2 */
        m->cur_hop_limit = bytes[4];
        m->managed = bytes[5] & 0x80;
        m->other = bytes[5] & 0x40;
        m->router_lifetime_s = get_be16(bytes + 6);
        m->reachable_ms = get_be32(bytes + 8);
        m->retrans_ms = get_be32(bytes + 12);
        read_preference(bytes[5], &m->preference);
        if (!m->router_lifetime_s)
            m->preference = 0; /* RFC 4191 section 2.2 */
        break;
    case ICMP6_TYPE_NEIGHBOUR_ADVERT: /* section 4.4 */
        m->router = bytes[4] & 0x80;
        m->solicited = bytes[4] & 0x40;
        m->override = bytes[4] & 0x20;
        m->target = ip_addr_v6_bytes(bytes + 8, ctx->scope);
        break;
    case ICMP6_TYPE_REDIRECT: /* section 4.5 */
        m->redirect_dst = ip_addr_v6_bytes(bytes + 24, ctx->scope);
        m->target = ip_addr_v6_bytes(bytes + 8, ctx->scope);
        break;
    case ICMP6_TYPE_NEIGHBOUR_SOLICIT: /* section 4.3 */
        m->target = ip_addr_v6_bytes(bytes + 8, ctx->scope);
        break;
    default:
        break;
    }
}

static bool is_multicast(const struct ip_addr *a)
{
    return a->b[0] == 0xff;
}

static bool is_link_local(const struct ip_addr *a)
{
    return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

static bool is_unspecified(const struct ip_addr *a)
{
    static const uint8_t any[16];

    return memcmp(a->b, any, 16) == 0;
}

/* RFC 4861 section 7.1.1. */
static enum nd_decode_result check_ns(const struct nd_context *ctx, const struct nd_message *m)
{
    if (is_multicast(&m->target))
        return ND_DECODE_BAD_TARGET;
    if (is_unspecified(&ctx->src) && !nd_is_solicited_node(&ctx->dst))
        return ND_DECODE_BAD_DESTINATION;
    if (is_unspecified(&ctx->src) && m->source_ll_ok)
        return ND_DECODE_BAD_SOURCE;
    return ND_DECODE_OK;
}

/* RFC 4861 sections 6.1.1 (RS), 6.1.2 (RA), 7.1.1 (NS), 7.1.2 (NA), 8.1 (redirect): what options don't
 * decide. */
static enum nd_decode_result check_addresses(const struct nd_context *ctx, const struct nd_message *m)
{
    switch (m->type) {
    case ICMP6_TYPE_ROUTER_SOLICIT:
        return is_unspecified(&ctx->src) && m->source_ll_ok ? ND_DECODE_BAD_SOURCE : ND_DECODE_OK;
    case ICMP6_TYPE_ROUTER_ADVERT:
        return is_link_local(&ctx->src) ? ND_DECODE_OK : ND_DECODE_BAD_SOURCE;
    case ICMP6_TYPE_NEIGHBOUR_SOLICIT:
        return check_ns(ctx, m);
    case ICMP6_TYPE_NEIGHBOUR_ADVERT:
        if (is_multicast(&m->target))
            return ND_DECODE_BAD_TARGET;
        return is_multicast(&ctx->dst) && m->solicited ? ND_DECODE_BAD_DESTINATION : ND_DECODE_OK;
    default:
        if (!is_link_local(&ctx->src))
            return ND_DECODE_BAD_SOURCE;
        if (is_multicast(&m->redirect_dst))
            return ND_DECODE_BAD_DESTINATION;
        return is_link_local(&m->target) || ip_addr_eq(&m->target, &m->redirect_dst) ? ND_DECODE_OK
                                                                                     : ND_DECODE_BAD_TARGET;
    }
}

enum nd_decode_result nd_decode(const struct nd_context *ctx, const uint8_t *bytes, size_t n,
                                struct nd_message *ret)
{
    struct nd_message m = {0};
    enum nd_decode_result r;
    size_t fixed;

    if (n < ICMP_HEADER_BYTES)
        return ND_DECODE_SHORT;
    fixed = fixed_bytes(bytes[0]);
    if (!fixed)
        return ND_DECODE_NOT_ND;
    if (ctx->hop_limit != ND_HOP_LIMIT)
        return ND_DECODE_BAD_HOP_LIMIT;
    if (bytes[1])
        return ND_DECODE_BAD_CODE;
    if (n < fixed)
        return ND_DECODE_SHORT;
    m.type = bytes[0];
    m.options = bytes + fixed;
    m.options_bytes = n - fixed;
    read_fixed(ctx, bytes, &m);
    if (!read_options(&m))
        return ND_DECODE_BAD_OPTION;
    r = check_addresses(ctx, &m);
    if (r == ND_DECODE_OK)
        *ret = m;
    return r;
}

const char *nd_decode_result_name(enum nd_decode_result r)
{
    static const char *const names[] = {"ok",
                                        "nd_short",
                                        "nd_not_nd",
                                        "nd_bad_hop_limit",
                                        "nd_bad_code",
                                        "nd_bad_option",
                                        "nd_bad_target",
                                        "nd_bad_source",
                                        "nd_bad_destination"};

    static_assert(sizeof names / sizeof names[0] == ND_DECODE_N, "a name for each result");
    return (unsigned)r < ND_DECODE_N ? names[r] : "?";
}

/* Appends a link-layer address option unless mac is NULL, sets the checksum, returns the length. */
static size_t finish(const struct ip_addr *src, const struct ip_addr *dst, uint8_t *out, size_t n,
                     enum nd_option_type type, const struct eth_addr *mac)
{
    if (mac) {
        out[n] = (uint8_t)type;
        out[n + 1] = 1;
        memcpy(out + n + 2, mac->b, 6);
        n += 8;
    }
    put_be16(out + 2, csum_fold(csum_partial(out, n, csum_pseudo(src, dst, IP_PROTO_ICMPV6, (uint32_t)n))));
    return n;
}

size_t nd_ns_encode(const struct ip_addr *src, const struct ip_addr *dst, const struct ip_addr *target,
                    const struct eth_addr *mac, uint8_t out[ND_MESSAGE_MAX])
{
    memset(out, 0, 8);
    out[0] = ICMP6_TYPE_NEIGHBOUR_SOLICIT;
    memcpy(out + 8, target->b, 16);
    return finish(src, dst, out, 24, ND_OPT_SOURCE_LL, mac);
}

size_t nd_na_encode(const struct ip_addr *src, const struct ip_addr *dst, const struct ip_addr *target,
                    bool solicited, bool override, const struct eth_addr *mac, uint8_t out[ND_MESSAGE_MAX])
{
    memset(out, 0, 8);
    out[0] = ICMP6_TYPE_NEIGHBOUR_ADVERT;
    out[4] = (uint8_t)((solicited ? 0x40 : 0) | (override ? 0x20 : 0));
    memcpy(out + 8, target->b, 16);
    return finish(src, dst, out, 24, ND_OPT_TARGET_LL, mac);
}

size_t nd_rs_encode(const struct ip_addr *src, const struct ip_addr *dst, const struct eth_addr *mac,
                    uint8_t out[ND_MESSAGE_MAX])
{
    memset(out, 0, 8);
    out[0] = ICMP6_TYPE_ROUTER_SOLICIT;
    return finish(src, dst, out, 8, ND_OPT_SOURCE_LL, mac);
}

static const uint8_t solicited_node[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

struct ip_addr nd_solicited_node(const struct ip_addr *a, uint16_t scope)
{
    uint8_t b[16];

    memcpy(b, solicited_node, 13);
    memcpy(b + 13, a->b + 13, 3);
    return ip_addr_v6_bytes(b, scope);
}

bool nd_is_solicited_node(const struct ip_addr *a)
{
    return a->family == IP_V6 && memcmp(a->b, solicited_node, sizeof solicited_node) == 0;
}

static struct ip_addr link_group(uint8_t last, uint16_t scope)
{
    uint8_t b[16] = {0xff, 2};

    b[15] = last;
    return ip_addr_v6_bytes(b, scope);
}

struct ip_addr nd_all_nodes(uint16_t scope)
{
    return link_group(1, scope);
}

struct ip_addr nd_all_routers(uint16_t scope)
{
    return link_group(2, scope);
}

/* RFC 4291 appendix A: ff:fe in the middle, the universal/local bit inverted. */
void nd_interface_id(const struct eth_addr *mac, uint8_t ret_id[8])
{
    const uint8_t *m = mac->b;

    memcpy(ret_id, (const uint8_t[8]){(uint8_t)(m[0] ^ 2), m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}, 8);
}

struct ip_addr nd_link_local(const struct eth_addr *mac, uint16_t scope)
{
    uint8_t b[16] = {0xfe, 0x80};

    nd_interface_id(mac, b + 8);
    return ip_addr_v6_bytes(b, scope);
}

struct ip_addr nd_prefix_address(const struct ip_addr *prefix, const uint8_t id[8], uint16_t scope)
{
    uint8_t b[16];

    memcpy(b, prefix->b, 8);
    memcpy(b + 8, id, 8);
    return ip_addr_v6_bytes(b, scope);
}
