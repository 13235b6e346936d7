/*
 * wire/nd.h: neighbour discovery (RFC 4861), its messages, options and the addresses made for it (RFC 4291,
 * RFC 4862).
 *
 * Input is an ICMPv6 message whose checksum icmp6_decode() has verified. What the IP header must fulfil (hop
 * limit 255, source link-local for RAs) is handed in as facts, so that every rule of RFC 4861 sections 6.1
 * and 7.1 is checked in one place. Options are read by one step function.
 */
#ifndef TAUT_WIRE_ND_H
#define TAUT_WIRE_ND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"
#include "wire/eth.h"

#define ND_HOP_LIMIT   255
#define ND_MESSAGE_MAX 32 /* NS or NA with one link-layer address option */

enum nd_option_type {
    ND_OPT_SOURCE_LL = 1,
    ND_OPT_TARGET_LL = 2,
    ND_OPT_PREFIX = 3,
    ND_OPT_REDIRECTED = 4,
    ND_OPT_MTU = 5,
    ND_OPT_NONCE = 14, /* RFC 3971, RFC 7527: tells our own looped-back DAD probe */
    ND_OPT_ROUTE = 24, /* RFC 4191 */
};

struct nd_prefix {
    struct ip_addr prefix; /* bits behind `bits` are zero */
    uint8_t bits;
    bool on_link;     /* L */
    bool autonomous;  /* A */
    uint32_t valid_s; /* seconds; UINT32_MAX: infinity */
    uint32_t preferred_s;
};

struct nd_route {
    struct ip_addr prefix;
    uint8_t bits;
    int8_t preference; /* -1 low, 0 medium, 1 high */
    uint32_t lifetime_s;
};

/* One option; `type` says which member counts. */
struct nd_option {
    uint8_t type; /* enum nd_option_type; 0: unknown or of a length that its type does not have: skip it */
    struct eth_addr ll;
    uint32_t mtu;
    struct nd_prefix prefix;
    struct nd_route route;
    const uint8_t *data; /* NONCE, REDIRECTED: what lies behind type and length, in the input */
    size_t data_bytes;
};

enum nd_option_result { ND_OPTION_OK, ND_OPTION_END, ND_OPTION_BAD };

/* Reads the option at *pos of n bytes and advances *pos by at least 8. BAD: length 0 or behind the end. */
enum nd_option_result nd_option_step(const uint8_t *bytes, size_t n, size_t *pos, struct nd_option *ret);

struct nd_message {
    uint8_t type;                /* ICMP6_TYPE_ROUTER_SOLICIT .. ICMP6_TYPE_REDIRECT */
    struct ip_addr target;       /* NS, NA, redirect; scoped */
    struct ip_addr redirect_dst; /* redirect */
    bool router;                 /* NA: R */
    bool solicited;              /* NA: S */
    bool override;               /* NA: O */
    bool managed;                /* RA: M */
    bool other;                  /* RA: O */
    int8_t preference;           /* RA: RFC 4191 section 2.2, -1 low, 0 medium, 1 high */
    uint8_t cur_hop_limit;       /* RA: 0 unspecified */
    uint16_t router_lifetime_s;  /* RA: 0: not a default router */
    uint32_t reachable_ms;       /* RA: 0 unspecified */
    uint32_t retrans_ms;         /* RA: 0 unspecified */
    bool source_ll_ok;
    bool target_ll_ok;
    bool mtu_ok;
    struct eth_addr source_ll;
    struct eth_addr target_ll;
    uint32_t mtu;
    const uint8_t *options; /* all of them, for nd_option_step() (prefixes, routes, nonce); in the input */
    size_t options_bytes;
};

/* What the IP header said. */
struct nd_context {
    struct ip_addr src;
    struct ip_addr dst;
    uint8_t hop_limit;
    uint16_t scope; /* interface index for link-local targets */
};

enum nd_decode_result {
    ND_DECODE_OK,
    ND_DECODE_SHORT,
    ND_DECODE_NOT_ND,          /* another ICMPv6 type */
    ND_DECODE_BAD_HOP_LIMIT,   /* not 255: forwarded, so from off-link */
    ND_DECODE_BAD_CODE,        /* not 0 */
    ND_DECODE_BAD_OPTION,      /* an option of length 0, or behind the end */
    ND_DECODE_BAD_TARGET,      /* multicast target */
    ND_DECODE_BAD_SOURCE,      /* RA or redirect not from link-local; unspecified source where not allowed */
    ND_DECODE_BAD_DESTINATION, /* DAD probe not to a solicited-node address; solicited NA to multicast */
    ND_DECODE_N
};

/* `bytes` begin with the ICMPv6 type. ret is untouched unless OK. */
enum nd_decode_result nd_decode(const struct nd_context *ctx, const uint8_t *bytes, size_t n,
                                struct nd_message *ret);
const char *nd_decode_result_name(enum nd_decode_result r);

/*
 * Encoders write the ICMPv6 message with its checksum for {src, dst} and return its length (<=
 * ND_MESSAGE_MAX). The IP header must carry hop limit ND_HOP_LIMIT.
 */
/* Source link-layer address option unless `mac` is NULL (it must be for src = ::, a DAD probe). */
size_t nd_ns_encode(const struct ip_addr *src, const struct ip_addr *dst, const struct ip_addr *target,
                    const struct eth_addr *mac, uint8_t out[ND_MESSAGE_MAX]);
/* Target link-layer address option unless `mac` is NULL. The router flag is never set. */
size_t nd_na_encode(const struct ip_addr *src, const struct ip_addr *dst, const struct ip_addr *target,
                    bool solicited, bool override, const struct eth_addr *mac, uint8_t out[ND_MESSAGE_MAX]);
/* Source link-layer address option unless `mac` is NULL. */
size_t nd_rs_encode(const struct ip_addr *src, const struct ip_addr *dst, const struct eth_addr *mac,
                    uint8_t out[ND_MESSAGE_MAX]);

/* ff02::1:ffXX:XXXX of an address (RFC 4291 section 2.7.1), scoped as `scope`. */
struct ip_addr nd_solicited_node(const struct ip_addr *a, uint16_t scope);
bool nd_is_solicited_node(const struct ip_addr *a);
/* ff02::1 and ff02::2. */
struct ip_addr nd_all_nodes(uint16_t scope);
struct ip_addr nd_all_routers(uint16_t scope);
/* Modified EUI-64 interface identifier (RFC 4291 appendix A). */
void nd_interface_id(const struct eth_addr *mac, uint8_t ret_id[8]);
/* fe80::/64 plus the interface identifier. */
struct ip_addr nd_link_local(const struct eth_addr *mac, uint16_t scope);
/* The first 64 bits of `prefix` plus `id` (RFC 4862 section 5.5.3 (d)). */
struct ip_addr nd_prefix_address(const struct ip_addr *prefix, const uint8_t id[8], uint16_t scope);

#endif
