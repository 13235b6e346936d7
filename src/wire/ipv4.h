/*
 * wire/ipv4.h: the IPv4 header (RFC 791), and the protocol numbers that both families use.
 *
 * Which sources and destinations are acceptable is the stack's to judge.
 */
#ifndef TAUT_WIRE_IPV4_H
#define TAUT_WIRE_IPV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"

#define IPV4_HEADER_BYTES 20
#define IPV4_HEADER_MAX   60

enum ip_proto {
    IP_PROTO_HOP_BY_HOP = 0,
    IP_PROTO_ICMP = 1,
    IP_PROTO_IGMP = 2,
    IP_PROTO_TCP = 6,
    IP_PROTO_UDP = 17,
    IP_PROTO_ROUTING = 43,
    IP_PROTO_FRAGMENT = 44,
    IP_PROTO_ESP = 50,
    IP_PROTO_AH = 51,
    IP_PROTO_ICMPV6 = 58,
    IP_PROTO_NONE = 59,
    IP_PROTO_DESTINATION = 60,
};

struct ipv4_header {
    struct ip_addr src;
    struct ip_addr dst;
    uint8_t tos; /* without the ECN bits */
    uint8_t ecn; /* enum ip_ecn */
    uint8_t ttl;
    uint8_t proto; /* enum ip_proto */
    uint16_t id;
    uint16_t total_bytes; /* header and payload; the frame may be longer (padding) */
    uint16_t frag_offset; /* bytes, a multiple of 8 */
    uint8_t header_bytes; /* 20..60; set by decode, ignored by encode (20) */
    bool dont_fragment;
    bool more_fragments;
    bool source_route; /* carries LSRR or SSRR (RFC 791 section 3.1); other options are skipped */
};

enum ipv4_decode_result {
    IPV4_DECODE_OK,
    IPV4_DECODE_SHORT, /* fewer bytes than the header */
    IPV4_DECODE_BAD_VERSION,
    IPV4_DECODE_BAD_HEADER_BYTES, /* IHL below 5 or behind the frame */
    IPV4_DECODE_BAD_TOTAL,        /* total length below the header's */
    IPV4_DECODE_TRUNCATED,        /* total length behind the frame */
    IPV4_DECODE_BAD_CSUM,
    IPV4_DECODE_BAD_FRAGMENT, /* would end behind 65,535 bytes */
    IPV4_DECODE_N
};

/*
 * `n` bytes begin behind the Ethernet header. `verify` checks the header checksum. ret is untouched unless
 * OK. The payload is bytes[header_bytes .. total_bytes).
 */
enum ipv4_decode_result ipv4_header_decode(const uint8_t *bytes, size_t n, bool verify,
                                           struct ipv4_header *ret);

/*
 * The same for the start of a packet that may be cut off (quoted in an ICMP error): only the header must be
 * there, total_bytes is not compared with `n`, and the checksum is not verified.
 */
enum ipv4_decode_result ipv4_header_decode_quoted(const uint8_t *bytes, size_t n, struct ipv4_header *ret);

/* Writes 20 bytes without options, checksum included. */
void ipv4_header_encode(const struct ipv4_header *h, uint8_t out[IPV4_HEADER_BYTES]);

const char *ipv4_decode_result_name(enum ipv4_decode_result r);

static inline bool ipv4_is_fragment(const struct ipv4_header *h)
{
    return h->more_fragments || h->frag_offset;
}

#endif
