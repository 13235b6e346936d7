/*
 * stack/ipv4.c: IPv4 in (RFC 791, RFC 1122 section 3.2): whose packet it is, fragments, and who gets it.
 *
 * We are a host: nothing is forwarded, source routes are refused. What went to a broadcast or group address
 * reaches no TCP and is never answered with an error.
 */
#include "stack/stack_priv.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/vnet.h"

/* RFC 1122 section 3.2.1.3. */
static bool bad_source(const struct stack *st, const struct ip_addr *src)
{
    return src->b[0] == 0 || src->b[0] >= 224 || ip_addr_is_loopback(src) || st_addr_is_broadcast(st, src) ||
           st_addr_is_ours(st, src);
}

/* False: not for us (counted). */
static bool check_addresses(struct stack *st, const struct packet *pk, const struct ipv4_header *h,
                            struct upper *u)
{
    if (bad_source(st, &h->src)) {
        st_drop(st, STACK_DROP_IP_SOURCE);
        return false;
    }
    if (ip_addr_is_multicast(&h->dst)) { /* no IGMP: no group is joined */
        st_drop(st, STACK_DROP_MULTICAST);
        return false;
    }
    u->multicast = st_addr_is_broadcast(st, &h->dst);
    /* RFC 1122 section 3.3.6: a unicast packet has no business in a broadcast frame. */
    if (!u->multicast && (!st_addr_is_ours(st, &h->dst) || pk->link_group)) {
        st_drop(st, STACK_DROP_IP_DESTINATION);
        return false;
    }
    return true;
}

static void deliver(struct stack *st, struct packet *pk, const struct upper *u, uint64_t now)
{
    if (pk->gso != VNET_GSO_NONE && u->proto != IP_PROTO_TCP) {
        st_drop(st, STACK_DROP_VNET_HEADER);
        return;
    }
    switch (u->proto) {
    case IP_PROTO_TCP:
        st_tcp_input(st, pk, u, now);
        break;
    case IP_PROTO_ICMP:
        st_packet_linearize(st, pk);
        st_icmp_input(st, pk, u, now);
        break;
    case IP_PROTO_UDP:
        st_packet_linearize(st, pk);
        st_udp_input(st, pk, u, now);
        break;
    default: /* RFC 1122 section 3.2.2.1 */
        st_drop(st, STACK_DROP_IP_PROTOCOL);
        st_icmp_refuse(st, pk, u, ICMP4_TYPE_UNREACHABLE, ICMP4_UNREACH_PROTOCOL, 0, now);
        break;
    }
}

/* True: the datagram is whole now; *whole and *h describe it. */
static bool reassemble(struct stack *st, struct packet *pk, struct ipv4_header *h, uint64_t now,
                       struct packet *whole)
{
    struct frag_info info = {.key = {.src = h->src, .dst = h->dst, .id = h->id, .proto = h->proto},
                             .offset = h->frag_offset,
                             .more = h->more_fragments,
                             .ecn = h->ecn,
                             .data_at = h->header_bytes,
                             .unfrag_bytes = h->header_bytes};

    if (pk->csum_partial || pk->gso != VNET_GSO_NONE) {
        st_drop(st, STACK_DROP_VNET_HEADER);
        return false;
    }
    st_packet_linearize(st, pk);
    if (!st_frag_input(st, pk, h->total_bytes, &info, now, whole))
        return false;
    return ipv4_header_decode(whole->p, whole->linear, true, h) == IPV4_DECODE_OK;
}

void st_ipv4_input(struct stack *st, struct packet *pk, uint64_t now)
{
    struct upper u = {0};
    struct ipv4_header h;
    struct packet whole;
    enum ipv4_decode_result r;

    st->counters.ip4_in++;
    if (pk->linear < IPV4_HEADER_MAX)
        st_packet_linearize(st, pk);
    r = ipv4_header_decode(pk->p, pk->bytes, true, &h);
    if (r != IPV4_DECODE_OK || h.source_route) {
        st_drop(st, r == IPV4_DECODE_BAD_CSUM       ? STACK_DROP_IP_CHECKSUM
                    : r == IPV4_DECODE_BAD_FRAGMENT ? STACK_DROP_FRAG_MALFORMED
                                                    : STACK_DROP_IP_HEADER);
        return;
    }
    if (!check_addresses(st, pk, &h, &u))
        return;
    if (ipv4_is_fragment(&h)) {
        if (!reassemble(st, pk, &h, now, &whole))
            return;
        pk = &whole;
    }
    u.src = h.src;
    u.dst = h.dst;
    u.proto = h.proto;
    u.tos = h.tos;
    u.ecn = h.ecn;
    u.ttl = h.ttl;
    u.at = h.header_bytes;
    u.end = h.total_bytes;
    deliver(st, pk, &u, now);
}
