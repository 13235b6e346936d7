/*
 * stack/nd.c: neighbour discovery (RFC 4861) and stateless autoconfiguration (RFC 4862).
 *
 * wire/nd.h has refused whatever fails the RFC's checks; this file says what a valid message means for the
 * neighbour cache, addresses and routes. Everything learnt from an advertisement has a lifetime and a bound
 * on its number. Redirects are ignored: a host with routes of its own needs none, and anybody on the link
 * could send them. Frames from our own MAC are dropped in link.c, so a probe of ours that comes back (RFC
 * 7527) is no conflict.
 */
#include "stack/stack_priv.h"
#include "wire/bytes.h"

#define RTR_SOLICITATIONS   3 /* RFC 4861 section 10 */
#define RTR_SOLICITATION_NS (4 * NSEC_PER_SEC)
#define RTR_DELAY_NS        (1 * NSEC_PER_SEC)
#define TWO_HOURS_NS        (7200 * NSEC_PER_SEC) /* RFC 4862 section 5.5.3 (e) */
#define REACHABLE_MAX_MS    3600000u              /* RFC 4861 section 6.2.1 */

static struct intent *nd_intent(struct stack *st, const struct ip_addr *src, const struct ip_addr *dst,
                                size_t bytes)
{
    struct intent *in = st_intent_new(st, INTENT_IP, bytes);

    if (!in)
        return NULL;
    in->src = *src;
    in->dst = *dst;
    in->proto = IP_PROTO_ICMPV6;
    in->ttl = ND_HOP_LIMIT;
    return in;
}

void st_nd_owe_ns(struct stack *st, const struct ip_addr *src, const struct ip_addr *target,
                  const struct eth_addr *unicast_to)
{
    struct ip_addr dst = unicast_to ? *target : nd_solicited_node(target, st->ifindex);
    struct intent *in = nd_intent(st, src, &dst, ND_MESSAGE_MAX);

    if (!in)
        return;
    st->intent_bytes -= ND_MESSAGE_MAX;
    in->bytes =
        (uint32_t)nd_ns_encode(src, &dst, target, ip_addr_is_unspecified(src) ? NULL : &st->mac, in->data);
    st->intent_bytes += in->bytes;
    if (unicast_to) {
        in->mac = *unicast_to;
        in->direct = true;
    }
    st_intent_add(st, in);
}

void st_nd_owe_na(struct stack *st, const struct ip_addr *target, const struct ip_addr *dst,
                  const struct eth_addr *mac, bool solicited)
{
    struct intent *in = nd_intent(st, target, dst, ND_MESSAGE_MAX);

    if (!in)
        return;
    st->intent_bytes -= ND_MESSAGE_MAX;
    in->bytes = (uint32_t)nd_na_encode(target, dst, target, solicited, true, &st->mac, in->data);
    st->intent_bytes += in->bytes;
    if (mac) {
        in->mac = *mac;
        in->direct = true;
    }
    st_intent_add(st, in);
}

/* ---- Solicitations for neighbours --------------------------------------------------------------------- */

/* RFC 4861 section 7.2.3, RFC 4862 section 5.4.3. */
static void ns_input(struct stack *st, const struct packet *pk, const struct upper *u,
                     const struct nd_message *m, uint64_t now)
{
    struct st_addr *a = st_addr_find(st, &m->target);
    struct ip_addr all = nd_all_nodes(st->ifindex);
    const struct eth_addr *mac = m->source_ll_ok ? &m->source_ll : NULL;

    if (!a || a->pub.state == STACK_ADDR_DUPLICATE)
        return;
    if (a->pub.state == STACK_ADDR_TENTATIVE) {
        if (ip_addr_is_unspecified(&u->src)) /* two stations try the same address: neither may have it */
            st_addr_conflict(st, a, &pk->src_mac, now);
        return;
    }
    if (ip_addr_is_unspecified(&u->src)) { /* a DAD probe: the answer goes to everybody */
        st_nd_owe_na(st, &m->target, &all, NULL, false);
        return;
    }
    if (mac)
        st_neigh_heard(st, &u->src, mac, now);
    st_nd_owe_na(st, &m->target, &u->src, mac, true);
}

/* RFC 4861 section 7.2.5, RFC 4862 section 5.4.4. */
static void na_input(struct stack *st, const struct packet *pk, const struct nd_message *m, uint64_t now)
{
    struct st_addr *a = st_addr_find(st, &m->target);
    struct neigh *n;

    if (a) {
        st_addr_conflict(st, a, &pk->src_mac, now);
        return;
    }
    n = st_neigh_find(st, &m->target);
    if (!n)
        return;
    if (n->router && !m->router)
        st_route_forget_router(st, &m->target);
    n->router = m->router;
    st_neigh_changed(st, n);
    st_neigh_answered(st, &m->target, m->target_ll_ok ? &m->target_ll : NULL, m->solicited, m->override, now);
}

/* ---- Router advertisements ---------------------------------------------------------------------------- */

static uint64_t lifetime_until(uint32_t seconds, uint64_t now)
{
    return seconds == UINT32_MAX ? TIME_NEVER : time_add(now, (uint64_t)seconds * NSEC_PER_SEC);
}

/* RFC 4862 section 5.5.3 (e): an unauthenticated advertisement can't shorten what remains below two hours. */
static void refresh_address(struct stack *st, struct st_addr *a, const struct nd_prefix *p, uint64_t now)
{
    uint64_t valid = lifetime_until(p->valid_s, now);
    uint64_t remaining = a->pub.valid_until == TIME_NEVER ? TIME_NEVER : time_since(a->pub.valid_until, now);

    a->pub.preferred_until = lifetime_until(p->preferred_s, now);
    if (valid == TIME_NEVER || time_since(valid, now) > TWO_HOURS_NS || time_since(valid, now) > remaining)
        a->pub.valid_until = valid;
    else if (remaining > TWO_HOURS_NS)
        a->pub.valid_until = time_add(now, TWO_HOURS_NS);
    if (a->pub.state == STACK_ADDR_DEPRECATED && a->pub.preferred_until > now) {
        a->pub.state = STACK_ADDR_PREFERRED;
        st_event(st, &(struct stack_event){
                         .kind = STACK_EVENT_ADDR, .addr = a->pub.addr, .state = STACK_ADDR_PREFERRED});
    }
    st_addr_arm(st, a);
}

/* RFC 4862 section 5.5.3. */
static void autoconf(struct stack *st, const struct nd_prefix *p, uint64_t now)
{
    uint8_t id[8];
    struct ip_addr addr;
    struct st_addr *a;
    unsigned have = 0;

    if (p->bits != 64) /* (d): prefix and interface identifier must make 128 bits */
        return;
    nd_interface_id(&st->mac, id);
    addr = nd_prefix_address(&p->prefix, id, st->ifindex);
    a = st_addr_find(st, &addr);
    if (a) {
        if (a->pub.origin == STACK_ADDR_SLAAC)
            refresh_address(st, a, p, now);
        return;
    }
    for (unsigned i = 0; i < ADDR_MAX; i++)
        have += st->addr[i].used && st->addr[i].pub.origin == STACK_ADDR_SLAAC;
    if (!p->valid_s || have >= SLAAC_MAX)
        return;
    a = st_addr_new(st, &addr, p->bits, STACK_ADDR_SLAAC, now);
    if (!a)
        return;
    a->pub.valid_until = lifetime_until(p->valid_s, now);
    a->pub.preferred_until = lifetime_until(p->preferred_s, now);
    st_addr_arm(st, a);
}

/* RFC 4861 section 6.3.4: prefix information. */
static void prefix_option(struct stack *st, const struct nd_prefix *p, uint64_t now)
{
    if (ip_addr_is_link_local(&p->prefix) || ip_addr_is_multicast(&p->prefix))
        return;
    if (p->on_link) {
        struct stack_route r = {
            .prefix = p->prefix, .prefix_bits = p->bits, .valid_until = lifetime_until(p->valid_s, now)};

        st_route_learn(st, &r, 0, now);
    }
    if (p->autonomous && p->preferred_s <= p->valid_s)
        autoconf(st, p, now);
}

/* RFC 4191 section 3.1. */
static void route_option(struct stack *st, const struct nd_route *o, const struct ip_addr *router,
                         uint64_t now)
{
    struct stack_route r = {.prefix = o->prefix,
                            .prefix_bits = o->bits,
                            .gateway = *router,
                            .valid_until = lifetime_until(o->lifetime_s, now)};

    if (ip_addr_is_link_local(&o->prefix) || ip_addr_is_multicast(&o->prefix))
        return;
    st_route_learn(st, &r, o->preference, now);
}

/* RFC 4861 section 6.3.4: the variables of the link. */
static void learn_link(struct stack *st, const struct nd_message *m)
{
    if (m->cur_hop_limit)
        st->hop_limit6 = m->cur_hop_limit;
    if (m->reachable_ms && m->reachable_ms <= REACHABLE_MAX_MS)
        st->neigh.reachable_ms = m->reachable_ms;
    /* Between a hundredth of a second and a minute: a forged value must not make us flood, or hang. */
    if (m->retrans_ms >= 10 && m->retrans_ms <= 60000)
        st->neigh.retrans_ms = m->retrans_ms;
    if (m->mtu_ok && m->mtu >= IPV6_MIN_MTU && m->mtu <= st->mtu)
        st->mtu6 = (uint16_t)m->mtu;
}

static void ra_input(struct stack *st, const struct upper *u, const struct nd_message *m, uint64_t now)
{
    struct stack_route def = {.prefix = {.family = IP_V6}, .gateway = u->src};
    struct nd_option o;
    struct neigh *n;

    if (!st->config->ipv6_autoconf)
        return;
    if (m->source_ll_ok) {
        n = st_neigh_heard(st, &u->src, &m->source_ll, now);
        if (n) {
            n->router = true;
            st_neigh_changed(st, n);
        }
    }
    learn_link(st, m);
    def.valid_until = time_add(now, m->router_lifetime_s * NSEC_PER_SEC);
    st_route_learn(st, &def, m->preference, now);
    if (m->router_lifetime_s) { /* RFC 4861 section 6.3.7: enough asked */
        st->rs_left = 0;
        st_disarm(st, &st->rs_timer);
    }
    for (size_t pos = 0; nd_option_step(m->options, m->options_bytes, &pos, &o) == ND_OPTION_OK;) {
        if (o.type == ND_OPT_PREFIX)
            prefix_option(st, &o.prefix, now);
        else if (o.type == ND_OPT_ROUTE)
            route_option(st, &o.route, &u->src, now);
    }
}

/* ---- Solicitations for routers ------------------------------------------------------------------------ */

void st_rs_start(struct stack *st, uint64_t now)
{
    if (!st->config->ipv6_autoconf || !st->up)
        return;
    st->rs_left = RTR_SOLICITATIONS;
    st_arm(st, &st->rs_timer, time_add(now, st_jitter(st, RTR_DELAY_NS)));
}

void st_rs_expired(struct stack *st, uint64_t now)
{
    struct ip_addr src = {.family = IP_V6}, dst = nd_all_routers(st->ifindex);
    bool ll = st_addr_link_local(st, &src);
    struct intent *in;

    if (!st->rs_left)
        return;
    if (--st->rs_left)
        st_arm(st, &st->rs_timer, time_add(now, RTR_SOLICITATION_NS));
    in = nd_intent(st, &src, &dst, 16);
    if (!in)
        return;
    st->intent_bytes -= in->bytes;
    in->bytes = (uint32_t)nd_rs_encode(&src, &dst, ll ? &st->mac : NULL, in->data);
    st->intent_bytes += in->bytes;
    st_intent_add(st, in);
}

/* ---- Input -------------------------------------------------------------------------------------------- */

void st_nd_input(struct stack *st, const struct packet *pk, const struct upper *u, uint64_t now)
{
    struct nd_context ctx = {.src = u->src, .dst = u->dst, .hop_limit = u->ttl, .scope = st->ifindex};
    struct nd_message m;

    if (nd_decode(&ctx, pk->p + u->at, u->end - u->at, &m) != ND_DECODE_OK || pk->whole) {
        st_drop(st, STACK_DROP_ND_INVALID); /* RFC 6980: fragmented ND is refused, too */
        return;
    }
    /* A conflicting station speaks from our address; anything else from it is forged. */
    if (st_addr_is_ours(st, &u->src) && m.type != ICMP6_TYPE_NEIGHBOUR_ADVERT) {
        st_drop(st, STACK_DROP_IP_SOURCE);
        return;
    }
    switch (m.type) {
    case ICMP6_TYPE_NEIGHBOUR_SOLICIT:
        ns_input(st, pk, u, &m, now);
        break;
    case ICMP6_TYPE_NEIGHBOUR_ADVERT:
        na_input(st, pk, &m, now);
        break;
    case ICMP6_TYPE_ROUTER_ADVERT:
        ra_input(st, u, &m, now);
        break;
    default: /* we are no router; redirects: see above */
        break;
    }
}
