/*
 * wire/ipv6.h: the IPv6 header and the walk over extension headers (RFC 8200).
 *
 *     ipv6_header_decode(p, n, scope, &h); ipv6_walk_init(&w, &h);
 *     do r = ipv6_walk_step(p, h.total_bytes, &w); while (r == IPV6_WALK_NEXT);
 *
 * then r says what is at p + w.pos. Each step consumes one header of at least 8 bytes, so the walk ends.
 * Pointers are offsets from the first byte of the IPv6 header, as ICMPv6 Parameter Problem wants them.
 */
#ifndef TAUT_WIRE_IPV6_H
#define TAUT_WIRE_IPV6_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"
#include "wire/ipv4.h" /* enum ip_proto */

#define IPV6_HEADER_BYTES          40
#define IPV6_FRAGMENT_HEADER_BYTES 8
#define IPV6_EXT_HEADERS_MAX       16 /* more in one packet are refused */

struct ipv6_header {
    struct ip_addr src;
    struct ip_addr dst;
    uint8_t tos; /* traffic class without the ECN bits */
    uint8_t ecn; /* enum ip_ecn */
    uint8_t hop_limit;
    uint8_t next;        /* enum ip_proto of what follows the fixed header */
    uint32_t flow_label; /* 20 bits */
    uint16_t payload_bytes;
    uint32_t total_bytes; /* 40 + payload_bytes; set by decode, ignored by encode */
};

enum ipv6_decode_result {
    IPV6_DECODE_OK,
    IPV6_DECODE_SHORT,
    IPV6_DECODE_BAD_VERSION,
    IPV6_DECODE_TRUNCATED, /* payload length behind the frame */
    IPV6_DECODE_N
};

/* `scope` is the interface index that link-local addresses get. ret is untouched unless OK. */
enum ipv6_decode_result ipv6_header_decode(const uint8_t *bytes, size_t n, uint16_t scope,
                                           struct ipv6_header *ret);
/* For a packet quoted in an ICMP error: payload_bytes is not compared with `n`. */
enum ipv6_decode_result ipv6_header_decode_quoted(const uint8_t *bytes, size_t n, uint16_t scope,
                                                  struct ipv6_header *ret);
void ipv6_header_encode(const struct ipv6_header *h, uint8_t out[IPV6_HEADER_BYTES]);
const char *ipv6_decode_result_name(enum ipv6_decode_result r);

/* State and findings of a walk. */
struct ipv6_walk {
    size_t pos;        /* where the header of kind `next` begins */
    size_t next_at;    /* where the byte is that named `next`: the pointer for "unrecognized next header" */
    uint8_t next;      /* enum ip_proto */
    uint8_t count;     /* extension headers consumed */
    bool router_alert; /* RFC 2711 */
    bool fragment;     /* a fragment header was seen, also an atomic one (RFC 6946) */
    bool more_fragments;
    bool problem_multicast;      /* PROBLEM: send the error even if the destination was multicast */
    uint8_t problem_code;        /* PROBLEM: enum icmp6_param_code */
    uint16_t router_alert_value; /* 0: MLD */
    uint32_t problem_pointer;
    uint32_t frag_id;
    uint32_t frag_offset; /* bytes */
    size_t frag_at;       /* where the fragment header began: the end of the per-fragment headers */
    size_t frag_next_at;  /* where the byte is that named it */
};

enum ipv6_walk_result {
    IPV6_WALK_NEXT,     /* one header consumed, go on */
    IPV6_WALK_UPPER,    /* not an extension header: w->next begins at w->pos */
    IPV6_WALK_FRAGMENT, /* a real fragment: its data begin at w->pos. Stepping on is legal at offset 0 */
    IPV6_WALK_NO_NEXT,  /* next header 59: nothing follows, drop */
    IPV6_WALK_DROP_TRUNCATED,  /* a header ends behind the packet */
    IPV6_WALK_DROP_OPTION,     /* unknown option with action 01: drop silently */
    IPV6_WALK_DROP_BAD_OPTION, /* an option ends behind its header */
    IPV6_WALK_DROP_TOO_MANY,
    IPV6_WALK_PROBLEM, /* drop and send ICMPv6 Parameter Problem {problem_code, problem_pointer} */
    IPV6_WALK_N
};

void ipv6_walk_init(struct ipv6_walk *w, const struct ipv6_header *h);
/* `packet` begins with the IPv6 header, n = total_bytes. Invariant: w->pos <= n, and grows with every NEXT.
 */
enum ipv6_walk_result ipv6_walk_step(const uint8_t *packet, size_t n, struct ipv6_walk *w);
/* Steps until something other than NEXT. */
enum ipv6_walk_result ipv6_walk(const uint8_t *packet, size_t n, struct ipv6_walk *w);
const char *ipv6_walk_result_name(enum ipv6_walk_result r);

#endif
