/*
 * wire/eth.h: Ethernet II headers, MAC addresses and ARP (RFC 826, RFC 5227).
 */
#ifndef TAUT_WIRE_ETH_H
#define TAUT_WIRE_ETH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/ipaddr.h"

#define ETH_HEADER_BYTES  14
#define ETH_ADDR_TEXT_MAX 18 /* "xx:xx:xx:xx:xx:xx" and its NUL */

/* Spelled as in the kernel's headers, so that both may be included. */
#define ETH_P_IP   0x0800
#define ETH_P_ARP  0x0806
#define ETH_P_IPV6 0x86DD

struct eth_addr {
    uint8_t b[6];
};

struct eth_header {
    struct eth_addr dst;
    struct eth_addr src;
    uint16_t type; /* ETH_P_*, host order */
};

enum eth_decode_result {
    ETH_DECODE_OK,
    ETH_DECODE_SHORT,
    ETH_DECODE_NOT_ETHERNET_II, /* an IEEE 802.3 length (< 0x600) in the type field: LLC, STP, ... */
    ETH_DECODE_BAD_SOURCE,      /* source is a group address or all zeros */
    ETH_DECODE_N
};

/* Decodes the first 14 bytes; ret is untouched unless OK. */
enum eth_decode_result eth_header_decode(const uint8_t *bytes, size_t n, struct eth_header *ret);
void eth_header_encode(const struct eth_header *h, uint8_t out[ETH_HEADER_BYTES]);
const char *eth_decode_result_name(enum eth_decode_result r);

static inline bool eth_addr_eq(const struct eth_addr *x, const struct eth_addr *y)
{
    return memcmp(x->b, y->b, 6) == 0;
}

extern const struct eth_addr eth_addr_broadcast; /* ff:ff:ff:ff:ff:ff */
extern const struct eth_addr eth_addr_zero;
bool eth_addr_is_broadcast(const struct eth_addr *a);
bool eth_addr_is_group(const struct eth_addr *a); /* multicast or broadcast */
bool eth_addr_is_zero(const struct eth_addr *a);

/*
 * The group MAC of a multicast address: 01:00:5e + 23 bits (RFC 1112 section 6.4) or 33:33 + 32 bits (RFC
 * 2464 section 7); broadcast for 255.255.255.255. False (ret untouched) if `ip` is neither.
 */
bool eth_addr_of_multicast(const struct ip_addr *ip, struct eth_addr *ret);

/* Writes "02:00:00:00:00:01" and a NUL; returns `text` (ETH_ADDR_TEXT_MAX bytes). */
char *eth_addr_format(const struct eth_addr *a, char *text);
/* Six pairs of hex digits, separated throughout by ':' or throughout by '-'; false leaves ret untouched. */
bool eth_addr_parse(const char *text, struct eth_addr *ret);

#define ARP_BYTES 28
enum arp_op { ARP_REQUEST = 1, ARP_REPLY = 2 };

/* An ARP packet for IPv4 over Ethernet. */
struct arp_packet {
    uint16_t op; /* enum arp_op */
    struct eth_addr sender_mac;
    struct ip_addr sender_ip; /* IP_V4; 0.0.0.0 in a probe */
    struct eth_addr target_mac;
    struct ip_addr target_ip;
};

enum arp_decode_result {
    ARP_DECODE_OK,
    ARP_DECODE_SHORT,
    ARP_DECODE_BAD_HARDWARE, /* not Ethernet (1), or address length not 6 */
    ARP_DECODE_BAD_PROTOCOL, /* not IPv4, or address length not 4 */
    ARP_DECODE_BAD_OP,       /* neither request nor reply */
    ARP_DECODE_BAD_SENDER,   /* sender hardware address is a group address */
    ARP_DECODE_N
};

/* `bytes` begin behind the Ethernet header; padding behind the packet is ignored. ret is untouched unless OK.
 */
enum arp_decode_result arp_decode(const uint8_t *bytes, size_t n, struct arp_packet *ret);
void arp_encode(const struct arp_packet *p, uint8_t out[ARP_BYTES]);
const char *arp_decode_result_name(enum arp_decode_result r);

/* RFC 826: who has `target_ip`, tell `ip` at `mac`. Sent to broadcast, or to one station to confirm an entry.
 */
struct arp_packet arp_request(const struct eth_addr *mac, const struct ip_addr *ip,
                              const struct ip_addr *target_ip);
/* The answer to `request`: `mac` has request->target_ip. Sent to request->sender_mac. */
struct arp_packet arp_reply(const struct eth_addr *mac, const struct arp_packet *request);
/* RFC 5227 section 1.1: a request with sender 0.0.0.0, asking whether `ip` is in use. */
struct arp_packet arp_probe(const struct eth_addr *mac, const struct ip_addr *ip);
/* RFC 5227 section 1.1: a request with sender = target = `ip`. */
struct arp_packet arp_announcement(const struct eth_addr *mac, const struct ip_addr *ip);

static inline bool arp_is_probe(const struct arp_packet *p)
{
    static const uint8_t any[4];

    return p->op == ARP_REQUEST && memcmp(p->sender_ip.b, any, 4) == 0;
}

/* Announcement or gratuitous reply. */
static inline bool arp_is_gratuitous(const struct arp_packet *p)
{
    return memcmp(p->sender_ip.b, p->target_ip.b, 4) == 0;
}

#endif
