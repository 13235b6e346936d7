/*
 * wire/eth.c: Ethernet II headers, MAC text, ARP (RFC 826, RFC 5227). Pure functions over bytes; the
 * neighbour cache that uses them is the stack's.
 */
#include "wire/eth.h"

#include <assert.h>
#include <stdio.h>
#include "wire/bytes.h"

const struct eth_addr eth_addr_broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
const struct eth_addr eth_addr_zero;

bool eth_addr_is_broadcast(const struct eth_addr *a)
{
    return eth_addr_eq(a, &eth_addr_broadcast);
}

bool eth_addr_is_group(const struct eth_addr *a)
{
    return a->b[0] & 1;
}

bool eth_addr_is_zero(const struct eth_addr *a)
{
    return eth_addr_eq(a, &eth_addr_zero);
}

enum eth_decode_result eth_header_decode(const uint8_t *bytes, size_t n, struct eth_header *ret)
{
    struct eth_header h;

    if (n < ETH_HEADER_BYTES)
        return ETH_DECODE_SHORT;
    memcpy(h.dst.b, bytes, 6);
    memcpy(h.src.b, bytes + 6, 6);
    h.type = get_be16(bytes + 12);
    if (h.type < 0x600)
        return ETH_DECODE_NOT_ETHERNET_II;
    if (eth_addr_is_group(&h.src) || eth_addr_is_zero(&h.src))
        return ETH_DECODE_BAD_SOURCE;
    *ret = h;
    return ETH_DECODE_OK;
}

void eth_header_encode(const struct eth_header *h, uint8_t out[ETH_HEADER_BYTES])
{
    memcpy(out, h->dst.b, 6);
    memcpy(out + 6, h->src.b, 6);
    put_be16(out + 12, h->type);
}

const char *eth_decode_result_name(enum eth_decode_result r)
{
    static const char *const names[] = {"ok", "eth_short", "eth_not_ethernet_ii", "eth_bad_source"};

    static_assert(sizeof names / sizeof names[0] == ETH_DECODE_N, "a name for each result");
    return (unsigned)r < ETH_DECODE_N ? names[r] : "?";
}

bool eth_addr_of_multicast(const struct ip_addr *ip, struct eth_addr *ret)
{
    const uint8_t *b = ip->b;

    if (ip->family == IP_V6 && b[0] == 0xff) {
        *ret = (struct eth_addr){{0x33, 0x33, b[12], b[13], b[14], b[15]}}; /* RFC 2464 section 7 */
        return true;
    }
    if (ip->family == IP_V4 && (b[0] & 0xf0) == 0xe0) {
        *ret = (struct eth_addr){{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}}; /* RFC 1112 section 6.4 */
        return true;
    }
    if (ip->family == IP_V4 && get_be32(b) == 0xffffffffu) {
        *ret = eth_addr_broadcast;
        return true;
    }
    return false;
}

char *eth_addr_format(const struct eth_addr *a, char *text)
{
    const uint8_t *b = a->b;

    snprintf(text, ETH_ADDR_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
    return text;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool eth_addr_parse(const char *text, struct eth_addr *ret)
{
    struct eth_addr a;
    char separator = 0;

    for (int i = 0; i < 6; i++) {
        int high = hex_digit(text[0]);
        int low = high < 0 ? -1 : hex_digit(text[1]);

        if (low < 0)
            return false;
        a.b[i] = (uint8_t)(high << 4 | low);
        text += 2;
        if (i == 0 && (*text == ':' || *text == '-'))
            separator = *text;
        if (i < 5 && (!separator || *text++ != separator))
            return false;
    }
    if (*text)
        return false;
    *ret = a;
    return true;
}

enum { ARP_HARDWARE_ETHERNET = 1 };

enum arp_decode_result arp_decode(const uint8_t *bytes, size_t n, struct arp_packet *ret)
{
    struct arp_packet p;

    if (n < ARP_BYTES)
        return ARP_DECODE_SHORT;
    if (get_be16(bytes) != ARP_HARDWARE_ETHERNET || bytes[4] != 6)
        return ARP_DECODE_BAD_HARDWARE;
    if (get_be16(bytes + 2) != ETH_P_IP || bytes[5] != 4)
        return ARP_DECODE_BAD_PROTOCOL;
    p.op = get_be16(bytes + 6);
    if (p.op != ARP_REQUEST && p.op != ARP_REPLY)
        return ARP_DECODE_BAD_OP;
    memcpy(p.sender_mac.b, bytes + 8, 6);
    p.sender_ip = ip_addr_v4_bytes(bytes + 14);
    memcpy(p.target_mac.b, bytes + 18, 6);
    p.target_ip = ip_addr_v4_bytes(bytes + 24);
    if (eth_addr_is_group(&p.sender_mac))
        return ARP_DECODE_BAD_SENDER;
    *ret = p;
    return ARP_DECODE_OK;
}

void arp_encode(const struct arp_packet *p, uint8_t out[ARP_BYTES])
{
    put_be16(out, ARP_HARDWARE_ETHERNET);
    put_be16(out + 2, ETH_P_IP);
    out[4] = 6;
    out[5] = 4;
    put_be16(out + 6, p->op);
    memcpy(out + 8, p->sender_mac.b, 6);
    memcpy(out + 14, p->sender_ip.b, 4);
    memcpy(out + 18, p->target_mac.b, 6);
    memcpy(out + 24, p->target_ip.b, 4);
}

const char *arp_decode_result_name(enum arp_decode_result r)
{
    static const char *const names[] = {"ok",         "arp_short",     "arp_bad_hardware", "arp_bad_protocol",
                                        "arp_bad_op", "arp_bad_sender"};

    static_assert(sizeof names / sizeof names[0] == ARP_DECODE_N, "a name for each result");
    return (unsigned)r < ARP_DECODE_N ? names[r] : "?";
}

struct arp_packet arp_request(const struct eth_addr *mac, const struct ip_addr *ip,
                              const struct ip_addr *target_ip)
{
    return (struct arp_packet){
        .op = ARP_REQUEST, .sender_mac = *mac, .sender_ip = *ip, .target_ip = *target_ip};
}

/* RFC 826, packet reception: swap the halves, put our hardware address in. */
struct arp_packet arp_reply(const struct eth_addr *mac, const struct arp_packet *request)
{
    return (struct arp_packet){.op = ARP_REPLY,
                               .sender_mac = *mac,
                               .sender_ip = request->target_ip,
                               .target_mac = request->sender_mac,
                               .target_ip = request->sender_ip};
}

struct arp_packet arp_probe(const struct eth_addr *mac, const struct ip_addr *ip)
{
    struct ip_addr any = ip_addr_v4(0, 0, 0, 0);

    return arp_request(mac, &any, ip);
}

struct arp_packet arp_announcement(const struct eth_addr *mac, const struct ip_addr *ip)
{
    return arp_request(mac, ip, ip);
}
