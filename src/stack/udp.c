/*
 * stack/udp.c: there is no UDP here; a datagram for us is answered with "port unreachable" (RFC 1122
 * section 4.1.3.1) if it is intact, and silently counted if it was sent to everybody.
 */
#include "stack/stack_priv.h"
#include "wire/csum.h"
#include "wire/udp.h"

#define UDP_CSUM_AT 6

static bool checksum_ok(const struct packet *pk, const struct upper *u, const struct udp_header *h)
{
    if (pk->csum_valid)
        return true;
    if (!h->csum) /* RFC 768: none; RFC 8200 section 8.1: not for IPv6 */
        return u->src.family == IP_V4;
    return csum_ok(
        csum_partial(pk->p + u->at, h->bytes, csum_pseudo(&u->src, &u->dst, IP_PROTO_UDP, h->bytes)));
}

void st_udp_input(struct stack *st, struct packet *pk, const struct upper *u, uint64_t now)
{
    bool v4 = u->src.family == IP_V4;
    struct udp_header h;

    if (udp_header_decode(pk->p + u->at, u->end - u->at, &h) != UDP_DECODE_OK) {
        st_drop(st, STACK_DROP_UDP_MALFORMED);
        return;
    }
    if (!st_packet_complete_csum(st, pk, u, UDP_CSUM_AT)) {
        st_drop(st, STACK_DROP_VNET_HEADER);
        return;
    }
    if (!checksum_ok(pk, u, &h)) {
        st_drop(st, STACK_DROP_UDP_CHECKSUM);
        return;
    }
    st_drop(st, STACK_DROP_UDP_NO_PORT);
    st_icmp_refuse(st, pk, u, v4 ? ICMP4_TYPE_UNREACHABLE : ICMP6_TYPE_UNREACHABLE,
                   v4 ? ICMP4_UNREACH_PORT : ICMP6_UNREACH_PORT, 0, now);
}
