/*
 * stack/ipv6.c: IPv6 in (RFC 8200): addresses, extension headers, fragments, and who gets the packet.
 *
 * Extension headers are read by wire/ipv6's step function; a packet that has any is made linear first (they
 * are rare, and may lie behind what the first slice holds). A datagram made of fragments comes through here
 * once more and must not contain another fragment header.
 */
#include "stack/stack_priv.h"
#include "wire/vnet.h"

static bool is_icmp_first(const struct ipv6_header *h)
{
    return h->next == IP_PROTO_ICMPV6 || h->next == IP_PROTO_HOP_BY_HOP;
}

/* RFC 4291 sections 2.5.2, 2.5.3, 2.7: which sources a packet may have. DAD and MLD speak from ::. */
static bool bad_source(const struct stack *st, const struct ipv6_header *h)
{
    const struct ip_addr *src = &h->src;

    if (ip_addr_is_multicast(src) || ip_addr_is_loopback(src) || ip_addr_is_v4_mapped(src))
        return true;
    if (ip_addr_is_unspecified(src))
        return !is_icmp_first(h);
    /* Only an advertisement that shows a conflict may come from our own address; nd.c looks again. */
    return st_addr_is_ours(st, src) && h->next != IP_PROTO_ICMPV6;
}

static bool check_addresses(struct stack *st, const struct packet *pk, const struct ipv6_header *h,
                            struct upper *u)
{
    if (bad_source(st, h)) {
        st_drop(st, STACK_DROP_IP_SOURCE);
        return false;
    }
    u->multicast = ip_addr_is_multicast(&h->dst);
    if (u->multicast && !st_group_joined(st, &h->dst)) {
        st_drop(st, STACK_DROP_MULTICAST);
        return false;
    }
    if (!u->multicast && (!st_addr_is_ours(st, &h->dst) || pk->link_group)) {
        st_drop(st, STACK_DROP_IP_DESTINATION);
        return false;
    }
    return true;
}

static void problem(struct stack *st, struct packet *pk, const struct upper *u, uint8_t code,
                    uint32_t pointer, uint64_t now)
{
    st_icmp_refuse(st, pk, u, ICMP6_TYPE_PARAM_PROBLEM, code, pointer, now);
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
    case IP_PROTO_ICMPV6:
        st_packet_linearize(st, pk);
        st_icmp_input(st, pk, u, now);
        break;
    case IP_PROTO_UDP:
        st_packet_linearize(st, pk);
        st_udp_input(st, pk, u, now);
        break;
    default: /* RFC 8200 section 4 */
        st_drop(st, STACK_DROP_IP_PROTOCOL);
        problem(st, pk, u, ICMP6_PARAM_NEXT_HEADER, (uint32_t)u->next_at, now);
        break;
    }
}

/* RFC 7112 section 5: the first fragment holds all headers up to the upper layer's. */
static bool first_fragment_complete(const struct packet *pk, const struct ipv6_header *h,
                                    const struct ipv6_walk *w)
{
    struct ipv6_walk rest = *w;
    enum ipv6_walk_result r = ipv6_walk(pk->p, h->total_bytes, &rest);

    if (r == IPV6_WALK_DROP_TRUNCATED)
        return false;
    return r != IPV6_WALK_UPPER || rest.pos < h->total_bytes;
}

static void fragment(struct stack *st, struct packet *pk, const struct ipv6_header *h, struct upper *u,
                     const struct ipv6_walk *w, uint64_t now)
{
    struct frag_info info = {.key = {.src = h->src, .dst = h->dst, .id = w->frag_id},
                             .offset = w->frag_offset,
                             .more = w->more_fragments,
                             .ecn = h->ecn,
                             .data_at = w->pos,
                             .unfrag_bytes = w->frag_at,
                             .next_at = w->frag_next_at,
                             .next = w->next};
    struct packet whole;

    if (pk->csum_partial || pk->gso != VNET_GSO_NONE) {
        st_drop(st, STACK_DROP_VNET_HEADER);
        return;
    }
    if (!w->frag_offset && !first_fragment_complete(pk, h, w)) {
        st_drop(st, STACK_DROP_IP_EXTENSION);
        problem(st, pk, u, ICMP6_PARAM_FIRST_FRAGMENT, 0, now);
        return;
    }
    if (st_frag_input(st, pk, h->total_bytes, &info, now, &whole))
        st_ipv6_input(st, &whole, now);
}

/* Extension headers; true: u->proto begins at u->at. */
static bool walk(struct stack *st, struct packet *pk, const struct ipv6_header *h, struct upper *u,
                 uint64_t now)
{
    struct ipv6_walk w;
    enum ipv6_walk_result r;

    ipv6_walk_init(&w, h);
    if (h->next == IP_PROTO_HOP_BY_HOP || h->next == IP_PROTO_ROUTING || h->next == IP_PROTO_FRAGMENT ||
        h->next == IP_PROTO_DESTINATION)
        st_packet_linearize(st, pk);
    r = ipv6_walk(pk->p, h->total_bytes, &w);
    u->at = w.pos;
    u->proto = w.next;
    u->next_at = w.next_at;
    u->router_alert = w.router_alert && w.router_alert_value == 0;
    switch (r) {
    case IPV6_WALK_UPPER:
        return true;
    case IPV6_WALK_FRAGMENT:
        if (pk->whole)
            st_drop(st, STACK_DROP_IP_EXTENSION);
        else
            fragment(st, pk, h, u, &w, now);
        return false;
    case IPV6_WALK_PROBLEM:
        st_drop(st, w.next == IP_PROTO_FRAGMENT ? STACK_DROP_FRAG_MALFORMED : STACK_DROP_IP_EXTENSION);
        if (!u->multicast || w.problem_multicast)
            problem(st, pk, u, w.problem_code, w.problem_pointer, now);
        return false;
    default:
        st_drop(st, STACK_DROP_IP_EXTENSION);
        return false;
    }
}

void st_ipv6_input(struct stack *st, struct packet *pk, uint64_t now)
{
    struct upper u = {0};
    struct ipv6_header h;

    st->counters.ip6_in += !pk->whole;
    if (pk->linear < IPV6_HEADER_BYTES)
        st_packet_linearize(st, pk);
    if (ipv6_header_decode(pk->p, pk->bytes, st->ifindex, &h) != IPV6_DECODE_OK) {
        st_drop(st, STACK_DROP_IP_HEADER);
        return;
    }
    if (!check_addresses(st, pk, &h, &u))
        return;
    u.src = h.src;
    u.dst = h.dst;
    u.tos = h.tos;
    u.ecn = h.ecn;
    u.ttl = h.hop_limit;
    u.end = h.total_bytes;
    if (walk(st, pk, &h, &u, now))
        deliver(st, pk, &u, now);
}
