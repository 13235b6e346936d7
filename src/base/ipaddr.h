/*
 * base/ipaddr.h: the one address type, IPv4 and IPv6, and the four-tuple made of it.
 *
 * IPv4 addresses lie in the first four bytes, the other twelve are zero, so two addresses are equal exactly if all
 * members are equal. `scope` is the interface index that a link-local IPv6 address belongs to, otherwise 0. Bytes
 * are in network order; ports in host order.
 */
#ifndef TAUT_BASE_IPADDR_H
#define TAUT_BASE_IPADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum ip_family { IP_NONE = 0, IP_V4 = 4, IP_V6 = 6 };

struct ip_addr {
    uint8_t b[16];
    uint16_t scope;
    uint8_t family; /* enum ip_family */
    uint8_t pad;    /* always 0, so that structs can be hashed as bytes */
};

struct ip_tuple {
    struct ip_addr local;
    struct ip_addr remote;
    uint16_t local_port;
    uint16_t remote_port;
};

/* What every path carries: less is believed of none. */
#define IPV4_MIN_PMTU 552  /* Linux's ip_rt_min_pmtu */
#define IPV6_MIN_MTU  1280 /* RFC 8200 section 5 */

#define IP_ADDR_TEXT_MAX 64  /* "[ipv6%scope]" and its NUL */
#define IP_ADDR_PORT_MAX 72  /* the same with ":65535" */

static inline struct ip_addr ip_addr_v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    struct ip_addr r = {.b = {a, b, c, d}, .family = IP_V4};

    return r;
}

static inline struct ip_addr ip_addr_v4_bytes(const uint8_t bytes[4])
{
    return ip_addr_v4(bytes[0], bytes[1], bytes[2], bytes[3]);
}

/* `scope` is kept only for link-local addresses (fe80::/10) and link-local multicast. */
static inline struct ip_addr ip_addr_v6_bytes(const uint8_t bytes[16], uint16_t scope)
{
    struct ip_addr r = {.family = IP_V6};
    bool link_local = (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) || (bytes[0] == 0xff && (bytes[1] & 0x0f) == 2);

    memcpy(r.b, bytes, 16);
    r.scope = link_local ? scope : 0;
    return r;
}

static inline bool ip_addr_eq(const struct ip_addr *x, const struct ip_addr *y)
{
    return memcmp(x, y, sizeof *x) == 0;
}

bool ip_addr_is_unspecified(const struct ip_addr *a);
bool ip_addr_is_loopback(const struct ip_addr *a);   /* 127/8, ::1 */
bool ip_addr_is_multicast(const struct ip_addr *a);  /* 224/4, ff00::/8 */
bool ip_addr_is_link_local(const struct ip_addr *a); /* 169.254/16, fe80::/10 */
bool ip_addr_is_broadcast(const struct ip_addr *a);  /* 255.255.255.255 only */
bool ip_addr_is_v4_mapped(const struct ip_addr *a);  /* ::ffff:0:0/96 */

/* True if the first `bits` bits of both, of the same family, are equal. */
bool ip_addr_prefix_eq(const struct ip_addr *x, const struct ip_addr *y, unsigned bits);
/* Length in bits of the common prefix (RFC 6724 rule 9); 0 for different families. */
unsigned ip_addr_common_bits(const struct ip_addr *x, const struct ip_addr *y);

/* Parses "192.0.2.1" or "2001:db8::1" or "fe80::1%3"; false leaves ret untouched. No resolver, no system call. */
bool ip_addr_parse(const char *text, struct ip_addr *ret);
/* Parses "192.0.2.1/24"; without "/n" the prefix is the whole address. */
bool ip_prefix_parse(const char *text, struct ip_addr *ret, unsigned *ret_bits);
/* Parses "192.0.2.1:80" or "[2001:db8::1]:80". */
bool ip_addr_port_parse(const char *text, struct ip_addr *ret, uint16_t *ret_port);

/* Writes text (RFC 5952 for IPv6) and a NUL; returns `text`. `text` holds IP_ADDR_TEXT_MAX / IP_ADDR_PORT_MAX bytes. */
char *ip_addr_format(const struct ip_addr *a, char *text);
char *ip_addr_port_format(const struct ip_addr *a, uint16_t port, char *text);

#endif
