/*
 * stack/arp.c: ARP (RFC 826) in and out, and the conflicts of RFC 5227 that it shows.
 *
 * Input answers requests for our addresses (a mark, not a frame), tells the neighbour cache what it learnt,
 * and never makes an entry for a station that did not ask for us: gratuitous ARP can't fill the cache.
 */
#include "stack/stack_priv.h"

void st_arp_owe(struct stack *st, const struct arp_packet *arp, const struct eth_addr *to)
{
    struct intent *in = st_intent_new(st, INTENT_ARP, 0);

    if (!in)
        return;
    in->arp = *arp;
    in->mac = *to;
    in->direct = true;
    st_intent_add(st, in);
}

/* RFC 5227 section 2.4: somebody else sends from, or probes for, an address of ours. */
static bool find_conflict(struct stack *st, const struct arp_packet *arp, uint64_t now)
{
    struct st_addr *a = st_addr_find(st, &arp->sender_ip);

    if (!a || eth_addr_eq(&arp->sender_mac, &st->mac))
        return false;
    st_addr_conflict(st, a, &arp->sender_mac, now);
    return true;
}

static bool may_be_cached(const struct stack *st, const struct ip_addr *ip)
{
    return !ip_addr_is_unspecified(ip) && !ip_addr_is_multicast(ip) && !ip_addr_is_loopback(ip) &&
           !st_addr_is_broadcast(st, ip);
}

static void learn(struct stack *st, const struct arp_packet *arp, bool for_us, uint64_t now)
{
    struct neigh *n;

    if (!may_be_cached(st, &arp->sender_ip) || eth_addr_is_zero(&arp->sender_mac))
        return;
    n = st_neigh_find(st, &arp->sender_ip);
    if (arp->op == ARP_REPLY) {
        bool solicited = for_us && n && n->probes > 0;

        st_neigh_answered(st, &arp->sender_ip, &arp->sender_mac, solicited, true, now);
    } else if (n || for_us) { /* RFC 826: merge; add only if we are the target */
        st_neigh_heard(st, &arp->sender_ip, &arp->sender_mac, now);
    }
}

void st_arp_input(struct stack *st, const uint8_t *bytes, size_t n, uint64_t now)
{
    struct arp_packet arp, reply;
    bool for_us;

    st->counters.arp_in++;
    if (arp_decode(bytes, n, &arp) != ARP_DECODE_OK) {
        st_drop(st, STACK_DROP_ARP_MALFORMED);
        return;
    }
    if (find_conflict(st, &arp, now))
        return;
    for_us = st_addr_is_ours(st, &arp.target_ip);
    learn(st, &arp, for_us, now);
    if (!for_us) {
        st_drop(st, STACK_DROP_ARP_NOT_FOR_US);
        return;
    }
    if (arp.op != ARP_REQUEST)
        return;
    reply = arp_reply(&st->mac, &arp);
    st_arp_owe(st, &reply, &arp.sender_mac);
}
