/*
 * wire/icmp.h: ICMP (RFC 792, RFC 1122 section 3.2.2) and ICMPv6 (RFC 4443): echo and errors, both ways, and
 * the packet that an error quotes.
 *
 * Both families share one decoded form: `kind` tells what happened, `type` and `code` what the wire said.
 * Neighbour discovery is wire/nd.h, MLD wire/mld.h; both are ICMP_KIND_ND / ICMP_KIND_MLD here. Whether an
 * error may be sent at all (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)) and how often is the stack's to
 * judge.
 */
#ifndef TAUT_WIRE_ICMP_H
#define TAUT_WIRE_ICMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"

#define ICMP_HEADER_BYTES 8
/* RFC 1812 section 4.3.2.3: an IPv4 error packet has at most 576 bytes; RFC 4443 section 2.4 (c): IPv6's
 * 1,280. */
#define ICMP4_QUOTE_MAX (576 - 20 - ICMP_HEADER_BYTES)
#define ICMP6_QUOTE_MAX (1280 - 40 - ICMP_HEADER_BYTES)
#define ICMP_ERROR_MAX  (ICMP_HEADER_BYTES + ICMP6_QUOTE_MAX)

enum icmp4_type {
    ICMP4_TYPE_ECHO_REPLY = 0,
    ICMP4_TYPE_UNREACHABLE = 3,
    ICMP4_TYPE_SOURCE_QUENCH = 4, /* RFC 6633: ignored */
    ICMP4_TYPE_REDIRECT = 5,
    ICMP4_TYPE_ECHO_REQUEST = 8,
    ICMP4_TYPE_TIME_EXCEEDED = 11,
    ICMP4_TYPE_PARAM_PROBLEM = 12,
};

/* Codes of ICMP4_TYPE_UNREACHABLE (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1). */
enum icmp4_unreach_code {
    ICMP4_UNREACH_NETWORK = 0,
    ICMP4_UNREACH_HOST = 1,
    ICMP4_UNREACH_PROTOCOL = 2,
    ICMP4_UNREACH_PORT = 3,
    ICMP4_UNREACH_FRAG_NEEDED = 4,
    ICMP4_UNREACH_SOURCE_ROUTE = 5,
    ICMP4_UNREACH_NETWORK_UNKNOWN = 6,
    ICMP4_UNREACH_HOST_UNKNOWN = 7,
    ICMP4_UNREACH_HOST_ISOLATED = 8,
    ICMP4_UNREACH_NETWORK_PROHIBITED = 9,
    ICMP4_UNREACH_HOST_PROHIBITED = 10,
    ICMP4_UNREACH_NETWORK_TOS = 11,
    ICMP4_UNREACH_HOST_TOS = 12,
    ICMP4_UNREACH_ADMIN_PROHIBITED = 13,
    ICMP4_UNREACH_PRECEDENCE = 14,
    ICMP4_UNREACH_PRECEDENCE_CUTOFF = 15,
    ICMP4_UNREACH_CODES
};

enum icmp6_type {
    ICMP6_TYPE_UNREACHABLE = 1,
    ICMP6_TYPE_TOO_BIG = 2,
    ICMP6_TYPE_TIME_EXCEEDED = 3,
    ICMP6_TYPE_PARAM_PROBLEM = 4,
    ICMP6_TYPE_ECHO_REQUEST = 128,
    ICMP6_TYPE_ECHO_REPLY = 129,
    ICMP6_TYPE_MLD_QUERY = 130,
    ICMP6_TYPE_MLD1_REPORT = 131,
    ICMP6_TYPE_MLD1_DONE = 132,
    ICMP6_TYPE_ROUTER_SOLICIT = 133,
    ICMP6_TYPE_ROUTER_ADVERT = 134,
    ICMP6_TYPE_NEIGHBOUR_SOLICIT = 135,
    ICMP6_TYPE_NEIGHBOUR_ADVERT = 136,
    ICMP6_TYPE_REDIRECT = 137,
    ICMP6_TYPE_MLD2_REPORT = 143,
};

/* Codes of ICMP6_TYPE_UNREACHABLE (RFC 4443 section 3.1; 7: RFC 6550, 8: RFC 8883). */
enum icmp6_unreach_code {
    ICMP6_UNREACH_NO_ROUTE = 0,
    ICMP6_UNREACH_ADMIN_PROHIBITED = 1,
    ICMP6_UNREACH_BEYOND_SCOPE = 2,
    ICMP6_UNREACH_ADDRESS = 3,
    ICMP6_UNREACH_PORT = 4,
    ICMP6_UNREACH_SOURCE_POLICY = 5,
    ICMP6_UNREACH_REJECT_ROUTE = 6,
    ICMP6_UNREACH_SOURCE_ROUTING = 7,
    ICMP6_UNREACH_HEADERS_TOO_LONG = 8,
    ICMP6_UNREACH_CODES
};

/* Codes of ICMP6_TYPE_PARAM_PROBLEM (RFC 4443 section 3.4, RFC 7112 section 5). */
enum icmp6_param_code {
    ICMP6_PARAM_HEADER_FIELD = 0,
    ICMP6_PARAM_NEXT_HEADER = 1,
    ICMP6_PARAM_OPTION = 2,
    ICMP6_PARAM_FIRST_FRAGMENT = 3,
};

/* Codes of both families' Time Exceeded. */
enum icmp_time_code { ICMP_TIME_TRANSIT = 0, ICMP_TIME_REASSEMBLY = 1 };

enum icmp_kind {
    ICMP_KIND_ECHO_REQUEST,
    ICMP_KIND_ECHO_REPLY,
    ICMP_KIND_UNREACHABLE, /* except "fragmentation needed" */
    ICMP_KIND_TOO_BIG,     /* ICMPv4 "fragmentation needed", ICMPv6 "packet too big" */
    ICMP_KIND_TIME_EXCEEDED,
    ICMP_KIND_PARAM_PROBLEM,
    ICMP_KIND_SOURCE_QUENCH,
    ICMP_KIND_REDIRECT, /* ICMPv4's; ICMPv6's is ND */
    ICMP_KIND_ND,       /* wire/nd.h */
    ICMP_KIND_MLD,      /* wire/mld.h */
    ICMP_KIND_OTHER,
    ICMP_KIND_N
};

struct icmp_message {
    uint8_t kind; /* enum icmp_kind */
    uint8_t type; /* enum icmp4_type or enum icmp6_type */
    uint8_t code;
    uint16_t echo_id;
    uint16_t echo_seq;
    uint32_t mtu;        /* TOO_BIG; 0 from routers older than RFC 1191 */
    uint32_t pointer;    /* PARAM_PROBLEM */
    const uint8_t *body; /* behind the 8 bytes of header: echo data or quoted packet; points into the input */
    size_t body_bytes;
};

enum icmp_decode_result { ICMP_DECODE_OK, ICMP_DECODE_SHORT, ICMP_DECODE_BAD_CSUM, ICMP_DECODE_N };

/* `bytes` begin behind the IP header. ret is untouched unless OK. */
enum icmp_decode_result icmp4_decode(const uint8_t *bytes, size_t n, struct icmp_message *ret);
enum icmp_decode_result icmp6_decode(const struct ip_addr *src, const struct ip_addr *dst,
                                     const uint8_t *bytes, size_t n, struct icmp_message *ret);
const char *icmp_decode_result_name(enum icmp_decode_result r);
const char *icmp_kind_name(enum icmp_kind k);

static inline bool icmp_is_error(const struct icmp_message *m)
{
    return m->kind == ICMP_KIND_UNREACHABLE || m->kind == ICMP_KIND_TOO_BIG ||
           m->kind == ICMP_KIND_TIME_EXCEEDED || m->kind == ICMP_KIND_PARAM_PROBLEM ||
           m->kind == ICMP_KIND_SOURCE_QUENCH;
}

/* What an error quotes: the start of a packet that we sent (src is ours). */
struct icmp_quote {
    struct ip_addr src;
    struct ip_addr dst;
    uint8_t proto;   /* enum ip_proto, behind extension headers */
    bool ports_ok;   /* TCP or UDP, and 4 bytes of its header are there */
    bool tcp_seq_ok; /* TCP, and 8 bytes are there (RFC 5927 section 4.1: check seq against the window) */
    uint16_t src_port;
    uint16_t dst_port;
    uint32_t tcp_seq;
    uint32_t total_bytes; /* length that the quoted IP header claims, RFC 1191 section 5 guesses from it */
    uint8_t hop_limit;
};

enum icmp_quote_result {
    ICMP_QUOTE_OK,
    ICMP_QUOTE_SHORT,    /* no whole IP header */
    ICMP_QUOTE_BAD,      /* not an IP header of this family, or a broken extension header */
    ICMP_QUOTE_FRAGMENT, /* not the first fragment: no ports */
    ICMP_QUOTE_N
};

/* Reads the packet quoted by an error of `family`; `scope` is for link-local addresses. ret untouched unless
 * OK. */
enum icmp_quote_result icmp_quote_decode(enum ip_family family, const uint8_t *bytes, size_t n,
                                         uint16_t scope, struct icmp_quote *ret);
const char *icmp_quote_result_name(enum icmp_quote_result r);

/*
 * Writes an echo message of 8 + `bytes` into out, checksum included; the family is src's. Returns its length,
 * 0 if `room` is too small. `data` may already lie at out + 8.
 */
size_t icmp_echo_encode(const struct ip_addr *src, const struct ip_addr *dst, bool reply, uint16_t id,
                        uint16_t seq, const uint8_t *data, size_t bytes, uint8_t *out, size_t room);

/*
 * Writes an error {type, code, info} that quotes the packet (from its IP header on) cut to ICMP4_QUOTE_MAX or
 * ICMP6_QUOTE_MAX and to `room`; checksum included; the family is src's. `info` is the 32-bit word behind the
 * checksum: the MTU of Packet Too Big, the pointer of Parameter Problem, otherwise 0; for ICMPv4 it is placed
 * by type (MTU in the low half, pointer in the top byte). Returns the length, 0 if `room` is below 8.
 */
size_t icmp_error_encode(const struct ip_addr *src, const struct ip_addr *dst, uint8_t type, uint8_t code,
                         uint32_t info, const uint8_t *packet, size_t packet_bytes, uint8_t *out,
                         size_t room);

#endif
