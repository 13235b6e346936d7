/*
 * stack/route.c: which way to a destination (longest prefix), and which source address (RFC 6724 section 5).
 *
 * Routes are configured or learnt from router advertisements; the prefixes of configured addresses are on the
 * link without a route of their own (those of SLAAC addresses are not: RFC 5942, only the L flag says so).
 * Look-ups are pure; expiry is by timer. Called by sock (struct sock_net), output and ND.
 */
#include <errno.h>
#include "stack/stack_priv.h"

uint16_t st_link_mtu(const struct stack *st, uint8_t family)
{
    return family == IP_V6 && st->mtu6 ? st->mtu6 : st->mtu;
}

/* ---- Routes ------------------------------------------------------------------------------------------- */

static bool gateway_failed(const struct stack *st, const struct ip_addr *gateway)
{
    const struct neigh *n = gateway->family == IP_NONE ? NULL : st_neigh_find(st, gateway);

    return n && n->state == STACK_NEIGH_FAILED;
}

/* True if a is to be taken before b, which matches as well. */
static bool route_before(const struct stack *st, const struct st_route *a, const struct st_route *b)
{
    if (a->pub.prefix_bits != b->pub.prefix_bits)
        return a->pub.prefix_bits > b->pub.prefix_bits;
    if (a->pub.from_ra != b->pub.from_ra)
        return b->pub.from_ra;
    /* RFC 4861 section 6.3.6: a router that may be reachable before one that is not; RFC 4191 section 3.2. */
    if (gateway_failed(st, &a->pub.gateway) != gateway_failed(st, &b->pub.gateway))
        return gateway_failed(st, &b->pub.gateway);
    return a->preference > b->preference;
}

/* A destination on the prefix of a configured address; the longest such prefix in *ret_bits. */
static bool connected(const struct stack *st, const struct ip_addr *dst, unsigned *ret_bits)
{
    bool found = false;
    unsigned longest = 0;

    for (unsigned i = 0; i < st->n_addrs; i++) {
        const struct stack_addr *a = &st->addr[i].pub;

        if (!st->addr[i].used || a->origin == STACK_ADDR_SLAAC || a->state == STACK_ADDR_DUPLICATE)
            continue;
        if (!ip_addr_prefix_eq(&a->addr, dst, a->prefix_bits))
            continue;
        longest = a->prefix_bits > longest ? a->prefix_bits : longest;
        found = true;
    }
    if (found)
        *ret_bits = longest;
    return found;
}

static void on_link(const struct stack *st, const struct ip_addr *dst, struct st_hop *ret)
{
    *ret = (struct st_hop){.next = *dst, .mtu = st_link_mtu(st, dst->family)};
}

bool st_route_lookup(const struct stack *st, const struct ip_addr *dst, struct st_hop *ret)
{
    const struct st_route *best = NULL;
    unsigned connected_bits;

    if (dst->family == IP_V6 && (ip_addr_is_link_local(dst) || ip_addr_is_multicast(dst))) {
        on_link(st, dst, ret);
        return true;
    }
    for (unsigned i = 0; i < st->n_routes; i++) {
        const struct st_route *r = &st->route[i];

        if (!r->used || !ip_addr_prefix_eq(&r->pub.prefix, dst, r->pub.prefix_bits))
            continue;
        if (!best || route_before(st, r, best))
            best = r;
    }
    if (connected(st, dst, &connected_bits) && (!best || connected_bits > best->pub.prefix_bits)) {
        on_link(st, dst, ret);
        return true;
    }
    if (!best)
        return false;
    on_link(st, dst, ret);
    if (best->pub.gateway.family != IP_NONE)
        ret->next = best->pub.gateway;
    if (best->pub.mtu && best->pub.mtu < ret->mtu)
        ret->mtu = best->pub.mtu;
    ret->advmss = best->pub.advmss;
    ret->initcwnd = best->pub.initcwnd;
    ret->initrwnd = best->pub.initrwnd;
    return true;
}

static struct st_route *route_find(struct stack *st, const struct ip_addr *prefix, unsigned bits,
                                   const struct ip_addr *gateway, bool from_ra)
{
    for (unsigned i = 0; i < st->n_routes; i++) {
        struct st_route *r = &st->route[i];

        if (r->used && r->pub.from_ra == from_ra && r->pub.prefix_bits == bits &&
            ip_addr_eq(&r->pub.prefix, prefix) && (!gateway || ip_addr_eq(&r->pub.gateway, gateway)))
            return r;
    }
    return NULL;
}

static struct st_route *route_new(struct stack *st)
{
    for (unsigned i = 0; i < ROUTE_MAX; i++) {
        struct st_route *r = &st->route[i];

        if (r->used)
            continue;
        *r = (struct st_route){.used = true};
        st_timer_init(&r->timer, ST_TIMER_ROUTE);
        if (i >= st->n_routes)
            st->n_routes = i + 1;
        return r;
    }
    return NULL;
}

static void route_remove(struct stack *st, struct st_route *r)
{
    st_disarm(st, &r->timer);
    keep_give(&st->keep.route, r->kept);
    r->used = false;
    while (st->n_routes && !st->route[st->n_routes - 1].used)
        st->n_routes--;
}

void st_route_expired(struct stack *st, struct st_route *r, uint64_t now)
{
    (void)now;
    route_remove(st, r);
}

void st_route_learn(struct stack *st, const struct stack_route *route, int8_t preference, uint64_t now)
{
    struct st_route *r = route_find(st, &route->prefix, route->prefix_bits, &route->gateway, true);
    unsigned learnt = 0;

    if (route->valid_until <= now) {
        if (r)
            route_remove(st, r);
        return;
    }
    for (unsigned i = 0; i < st->n_routes; i++)
        learnt += st->route[i].used && st->route[i].pub.from_ra;
    if (!r && learnt < ROUTE_RA_MAX)
        r = route_new(st);
    if (!r)
        return;
    r->pub = *route;
    r->pub.from_ra = true;
    r->preference = preference;
    st_arm(st, &r->timer, route->valid_until);
    if (!r->kept)
        r->kept = keep_take(&st->keep.route, r);
    keep_mark(&st->keep.route, r->kept);
}

bool st_route_restore(struct stack *st, uint32_t place, const struct route_entry *e, uint64_t now)
{
    struct st_route *r = e->valid_until > now && st->config->ipv6_autoconf ? route_new(st) : NULL;

    if (!r)
        return false;
    r->pub = (struct stack_route){.prefix = e->prefix,
                                  .prefix_bits = e->prefix_bits,
                                  .gateway = e->gateway,
                                  .mtu = e->mtu,
                                  .advmss = e->advmss,
                                  .initcwnd = e->initcwnd,
                                  .initrwnd = e->initrwnd,
                                  .from_ra = true,
                                  .valid_until = e->valid_until};
    r->preference = e->preference;
    r->kept = place;
    keep_own(&st->keep.route, place, r);
    st_arm(st, &r->timer, e->valid_until);
    return true;
}

void st_route_forget_router(struct stack *st, const struct ip_addr *gateway)
{
    for (unsigned i = 0; i < ROUTE_MAX; i++)
        if (st->route[i].used && st->route[i].pub.from_ra && ip_addr_eq(&st->route[i].pub.gateway, gateway))
            route_remove(st, &st->route[i]);
}

/* Scopes what is link-local and clears the bits behind the prefix. False: not a prefix. */
static bool normalise(const struct stack *st, struct ip_addr *prefix, unsigned bits)
{
    unsigned width = prefix->family == IP_V4 ? 32 : prefix->family == IP_V6 ? 128 : 0;

    if (!width || bits > width)
        return false;
    for (unsigned i = bits; i < width; i++)
        prefix->b[i / 8] = (uint8_t)(prefix->b[i / 8] & ~(0x80u >> i % 8));
    if (prefix->family == IP_V6)
        *prefix = ip_addr_v6_bytes(prefix->b, st->ifindex);
    return true;
}

int stack_route_add(struct stack *st, const struct stack_route *route, uint64_t now)
{
    struct stack_route pub = *route;
    struct st_route *r;

    st->now = now;
    if (!normalise(st, &pub.prefix, pub.prefix_bits))
        return -EINVAL;
    if (pub.gateway.family != IP_NONE &&
        (pub.gateway.family != pub.prefix.family || ip_addr_is_unspecified(&pub.gateway) ||
         ip_addr_is_multicast(&pub.gateway) || ip_addr_is_broadcast(&pub.gateway)))
        return -EINVAL;
    if (pub.gateway.family == IP_V6)
        pub.gateway = ip_addr_v6_bytes(pub.gateway.b, st->ifindex);
    if (pub.valid_until == 0)
        pub.valid_until = TIME_NEVER;
    if (route_find(st, &pub.prefix, pub.prefix_bits, NULL, false))
        return -EEXIST;
    r = route_new(st);
    if (!r)
        return -ENOSPC;
    pub.from_ra = false;
    r->pub = pub;
    st_arm(st, &r->timer, pub.valid_until);
    return 0;
}

int stack_route_del(struct stack *st, const struct ip_addr *prefix, unsigned prefix_bits)
{
    struct ip_addr own = *prefix;
    struct st_route *r;

    if (!normalise(st, &own, prefix_bits))
        return -EINVAL;
    r = route_find(st, &own, prefix_bits, NULL, false);
    if (!r)
        r = route_find(st, &own, prefix_bits, NULL, true);
    if (!r)
        return -ESRCH;
    route_remove(st, r);
    return 0;
}

bool stack_route_get(const struct stack *st, unsigned i, struct stack_route *ret)
{
    for (unsigned k = 0; k < ROUTE_MAX; k++) {
        if (!st->route[k].used || i-- > 0)
            continue;
        *ret = st->route[k].pub;
        return true;
    }
    return false;
}

/* ---- Source selection --------------------------------------------------------------------------------- */

/* RFC 6724 section 2.1, the policy table's labels. */
static unsigned label_of(const struct ip_addr *a)
{
    static const struct {
        uint8_t prefix[16];
        uint8_t bits, label;
    } table[] = {
        {{[15] = 1}, 128, 0},                /* ::1 */
        {{[10] = 0xff, [11] = 0xff}, 96, 4}, /* ::ffff:0:0/96 */
        {{0}, 96, 3},                        /* ::/96 */
        {{0x20, 0x01}, 32, 5},               /* 2001::/32 */
        {{0x20, 0x02}, 16, 2},               /* 2002::/16 */
        {{0x3f, 0xfe}, 16, 12},              /* 3ffe::/16 */
        {{0xfe, 0xc0}, 10, 11},              /* fec0::/10 */
        {{0xfc}, 7, 13},                     /* fc00::/7 */
    };

    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ip_addr p = {.family = IP_V6};

        memcpy(p.b, table[i].prefix, 16);
        if (ip_addr_prefix_eq(a, &p, table[i].bits))
            return table[i].label;
    }
    return 1;
}

/* RFC 6724 section 3.1. */
static unsigned scope_of(const struct ip_addr *a)
{
    if (ip_addr_is_multicast(a))
        return a->b[1] & 15;
    if (ip_addr_is_link_local(a))
        return 2;
    return (a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0xc0) ? 5 : 14;
}

/* RFC 6724 section 5: true if a is better than b. One interface, no home or temporary addresses: rules 4, 5,
 * 7 fall. */
static bool source_before(const struct stack_addr *a, const struct stack_addr *b, const struct ip_addr *dst)
{
    unsigned scope_a = scope_of(&a->addr), scope_b = scope_of(&b->addr), scope = scope_of(dst);
    unsigned common_a, common_b;
    bool label_a, label_b;

    if (ip_addr_eq(&a->addr, dst) != ip_addr_eq(&b->addr, dst)) /* rule 1 */
        return ip_addr_eq(&a->addr, dst);
    if (scope_a != scope_b) /* rule 2 */
        return scope_a < scope_b ? scope_a >= scope : scope_b < scope;
    if (a->state != b->state) /* rule 3 */
        return a->state == STACK_ADDR_PREFERRED;
    label_a = label_of(&a->addr) == label_of(dst); /* rule 6 */
    label_b = label_of(&b->addr) == label_of(dst);
    if (label_a != label_b)
        return label_a;
    common_a = ip_addr_common_bits(&a->addr, dst); /* rule 8 */
    common_b = ip_addr_common_bits(&b->addr, dst);
    common_a = common_a < a->prefix_bits ? common_a : a->prefix_bits;
    common_b = common_b < b->prefix_bits ? common_b : b->prefix_bits;
    return common_a > common_b;
}

/* IPv4: the address whose prefix holds the next hop, else the first one that is not link-local. */
static bool source4_before(const struct stack_addr *a, const struct stack_addr *b, const struct ip_addr *next)
{
    bool on_a = ip_addr_prefix_eq(&a->addr, next, a->prefix_bits);
    bool on_b = ip_addr_prefix_eq(&b->addr, next, b->prefix_bits);

    if (on_a != on_b)
        return on_a;
    if (on_a && a->prefix_bits != b->prefix_bits)
        return a->prefix_bits > b->prefix_bits;
    return !ip_addr_is_link_local(&a->addr) && ip_addr_is_link_local(&b->addr);
}

bool st_source_for(const struct stack *st, const struct ip_addr *dst, const struct ip_addr *next,
                   struct ip_addr *ret)
{
    const struct stack_addr *best = NULL;

    for (unsigned i = 0; i < st->n_addrs; i++) {
        const struct stack_addr *a = &st->addr[i].pub;

        if (!st->addr[i].used || a->addr.family != dst->family ||
            (a->state != STACK_ADDR_PREFERRED && a->state != STACK_ADDR_DEPRECATED))
            continue;
        if (!best || (dst->family == IP_V6 ? source_before(a, best, dst) : source4_before(a, best, next)))
            best = a;
    }
    if (!best)
        return false;
    *ret = best->addr;
    return true;
}

/* ---- What sock asks ----------------------------------------------------------------------------------- */

static int check_destination(const struct stack *st, const struct ip_addr *dst)
{
    if (dst->family != IP_V4 && dst->family != IP_V6)
        return -EINVAL;
    if (dst->family == IP_V4 && st_addr_is_broadcast(st, dst))
        return -EACCES;
    if (ip_addr_is_unspecified(dst) || ip_addr_is_multicast(dst) || ip_addr_is_loopback(dst) ||
        ip_addr_is_v4_mapped(dst))
        return -ENETUNREACH;
    if (dst->family == IP_V4 && (dst->b[0] == 0 || dst->b[0] >= 240)) /* "this network", reserved */
        return -EINVAL;
    return 0;
}

int st_net_route(void *ctx, const struct ip_addr *dst, struct ip_addr *inout_src, struct tcp_path *ret)
{
    struct stack *st = ctx;
    struct ip_addr to = *dst, src = *inout_src;
    struct st_hop hop;
    int err = check_destination(st, dst);

    if (err)
        return err;
    if (to.family == IP_V6 && ip_addr_is_link_local(&to)) {
        if (to.scope && to.scope != st->ifindex)
            return -ENETUNREACH;
        to.scope = st->ifindex;
    }
    if (st_addr_is_ours(st, &to))
        on_link(st, &to, &hop);
    else if (!st_route_lookup(st, &to, &hop))
        return -ENETUNREACH;
    if (src.family == IP_NONE || ip_addr_is_unspecified(&src)) {
        if (!st_source_for(st, &to, &hop.next, &src))
            return to.family == IP_V6 ? -EADDRNOTAVAIL : -ENETUNREACH;
    } else if (!st_addr_is_ours(st, &src) || src.family != to.family) {
        return -EADDRNOTAVAIL;
    }
    *inout_src = src;
    st_path_fill(st, &to, &hop, ret);
    return 0;
}

bool st_net_is_local(void *ctx, const struct ip_addr *addr)
{
    struct stack *st = ctx;
    struct ip_addr a = *addr;

    if (a.family == IP_V6 && ip_addr_is_link_local(&a) && !a.scope)
        a.scope = st->ifindex;
    return st_addr_is_ours(st, &a);
}
