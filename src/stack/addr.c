/*
 * stack/addr.c: our addresses: states and lifetimes, duplicate address detection (RFC 4862 section 5.4),
 * announcements and conflicts (RFC 5227 section 2.4, the part that concerns addresses given by a person).
 *
 * Invariant: an address is TENTATIVE exactly while dad_at < TIME_NEVER; each address has one timer, armed for
 * the earliest of dad_at, announce_at and its lifetimes. An IPv6 address holds one reference on its
 * solicited-node group from the first probe on. set_state() is the one place where a state changes.
 */
#include <errno.h>
#include "stack/stack_priv.h"

#define RTR_SOLICIT_DELAY_NS (1 * NSEC_PER_SEC)  /* RFC 4861 section 10, MAX_RTR_SOLICITATION_DELAY */
#define ANNOUNCE_NS          (2 * NSEC_PER_SEC)  /* RFC 5227 section 1.1, ANNOUNCE_INTERVAL */
#define DEFEND_NS            (10 * NSEC_PER_SEC) /* DEFEND_INTERVAL */

struct st_addr *st_addr_find(const struct stack *st, const struct ip_addr *addr)
{
    for (unsigned i = 0; i < st->n_addrs; i++)
        if (st->addr[i].used && ip_addr_eq(&st->addr[i].pub.addr, addr))
            return (struct st_addr *)&st->addr[i];
    return NULL;
}

bool st_addr_is_ours(const struct stack *st, const struct ip_addr *addr)
{
    const struct st_addr *a = st_addr_find(st, addr);

    return a && (a->pub.state == STACK_ADDR_PREFERRED || a->pub.state == STACK_ADDR_DEPRECATED);
}

bool st_addr_is_broadcast(const struct stack *st, const struct ip_addr *addr)
{
    uint32_t host;

    if (addr->family != IP_V4)
        return false;
    if (ip_addr_is_broadcast(addr))
        return true;
    host = (uint32_t)addr->b[0] << 24 | (uint32_t)addr->b[1] << 16 | (uint32_t)addr->b[2] << 8 | addr->b[3];
    for (unsigned i = 0; i < st->n_addrs; i++) {
        const struct stack_addr *a = &st->addr[i].pub;

        if (!st->addr[i].used || a->addr.family != IP_V4 || a->prefix_bits > 30 || a->prefix_bits == 0)
            continue;
        if ((host | ~0u << (32 - a->prefix_bits)) == ~0u && ip_addr_prefix_eq(&a->addr, addr, a->prefix_bits))
            return true;
    }
    return false;
}

bool st_addr_link_local(const struct stack *st, struct ip_addr *ret)
{
    for (unsigned i = 0; i < st->n_addrs; i++) {
        const struct st_addr *a = &st->addr[i];

        if (a->used && a->pub.addr.family == IP_V6 && ip_addr_is_link_local(&a->pub.addr) &&
            a->pub.state == STACK_ADDR_PREFERRED) {
            *ret = a->pub.addr;
            return true;
        }
    }
    return false;
}

static void addr_event(struct stack *st, const struct st_addr *a, bool gone)
{
    st_event(st, &(struct stack_event){
                     .kind = STACK_EVENT_ADDR, .addr = a->pub.addr, .state = a->pub.state, .gone = gone});
}

static void set_state(struct stack *st, struct st_addr *a, enum stack_addr_state state)
{
    if (a->pub.state == state)
        return;
    a->pub.state = (uint8_t)state;
    keep_mark(&st->keep.addr, a->kept);
    addr_event(st, a, false);
}

void st_addr_arm(struct stack *st, struct st_addr *a)
{
    uint64_t at = time_min(time_min(a->dad_at, a->announce_at), a->pub.valid_until);

    if (a->pub.state == STACK_ADDR_PREFERRED)
        at = time_min(at, a->pub.preferred_until);
    st_arm(st, &a->timer, at);
    if (!a->kept)
        a->kept = keep_take(&st->keep.addr, a);
    keep_mark(&st->keep.addr, a->kept); /* whatever of it changes, its timer is armed again */
}

/* ---- Bringing up -------------------------------------------------------------------------------------- */

static void begin_announcing(struct stack *st, struct st_addr *a, uint64_t now)
{
    if (a->pub.addr.family != IP_V4)
        return;
    a->announce_left = (uint8_t)st->config->arp_announce;
    a->announce_at = a->announce_left ? now : TIME_NEVER;
}

static void begin_dad(struct stack *st, struct st_addr *a, uint64_t now)
{
    a->pub.state = STACK_ADDR_TENTATIVE;
    a->dad_left = (uint8_t)st->config->ipv6_dad_transmits;
    /* RFC 4862 section 5.4.2: spread the probes of stations that come up together. */
    a->dad_at = a->dad_left ? time_add(now, st_jitter(st, RTR_SOLICIT_DELAY_NS)) : now;
}

static void became_usable(struct stack *st, struct st_addr *a, uint64_t now)
{
    a->dad_at = TIME_NEVER;
    set_state(st, a, a->pub.preferred_until > now ? STACK_ADDR_PREFERRED : STACK_ADDR_DEPRECATED);
    if (ip_addr_is_link_local(&a->pub.addr)) {
        st_groups_report(st, now); /* RFC 3590 section 4: reports from :: may have been ignored */
        st_rs_start(st, now);
    }
}

static void step_dad(struct stack *st, struct st_addr *a, uint64_t now)
{
    static const struct ip_addr any = {.family = IP_V6};
    uint32_t retrans_ms = st->neigh.retrans_ms ? st->neigh.retrans_ms : (uint32_t)st->config->neigh_probe_ms;

    if (!a->dad_left) {
        became_usable(st, a, now);
        return;
    }
    a->dad_left--;
    st_nd_owe_ns(st, &any, &a->pub.addr, NULL);
    a->dad_at = time_add(now, st_ms(retrans_ms));
}

static void step_announce(struct stack *st, struct st_addr *a, uint64_t now)
{
    struct arp_packet arp = arp_announcement(&st->mac, &a->pub.addr);

    a->announce_left--;
    st_arp_owe(st, &arp, &eth_addr_broadcast);
    a->announce_at = a->announce_left ? time_add(now, ANNOUNCE_NS) : TIME_NEVER;
}

void st_addr_expired(struct stack *st, struct st_addr *a, uint64_t now)
{
    if (a->pub.valid_until <= now) { /* RFC 4862 section 5.5.4 */
        st_addr_remove(st, a, now);
        return;
    }
    if (a->dad_at <= now)
        step_dad(st, a, now);
    if (a->announce_at <= now)
        step_announce(st, a, now);
    if (a->pub.state == STACK_ADDR_PREFERRED && a->pub.preferred_until <= now)
        set_state(st, a, STACK_ADDR_DEPRECATED);
    st_addr_arm(st, a);
}

/*
 * After a crash: it was ours all the time, so that nobody is asked, nothing is announced and nothing waits; unless it was
 * known to be a duplicate, or not yet known, or an advertisement has just brought it. True: that is all.
 */
static bool go_on(struct stack *st, struct st_addr *a, const struct addr_entry *was, uint64_t now)
{
    if (!st->keep.resumed || (was && was->state == STACK_ADDR_TENTATIVE) ||
        (!was && a->pub.origin == STACK_ADDR_SLAAC))
        return false;
    if (was) {
        a->pub.state = was->state;
        return true;
    }
    a->pub.state = STACK_ADDR_PREFERRED;
    if (ip_addr_is_link_local(&a->pub.addr) && a->pub.addr.family == IP_V6)
        st_rs_start(st, now); /* who forgot it forgot its routers */
    return true;
}

static void bring_up(struct stack *st, struct st_addr *a, const struct addr_entry *was, uint64_t now)
{
    if (a->pub.addr.family == IP_V6) {
        struct ip_addr group = nd_solicited_node(&a->pub.addr, st->ifindex);

        st_group_join(st, &group, now); /* before the first probe, RFC 4862 section 5.4.2 */
    }
    if (go_on(st, a, was, now)) {
        return;
    } else if (a->pub.addr.family == IP_V6) {
        begin_dad(st, a, now);
    } else {
        a->pub.state = STACK_ADDR_PREFERRED;
        begin_announcing(st, a, now);
    }
    addr_event(st, a, false);
}

struct st_addr *st_addr_new(struct stack *st, const struct ip_addr *addr, unsigned bits,
                            enum stack_addr_origin origin, uint64_t now)
{
    const struct addr_entry *was;
    struct st_addr *a = NULL;
    uint32_t kept;

    for (unsigned i = 0; i < ADDR_MAX && !a; i++)
        if (!st->addr[i].used)
            a = &st->addr[i];
    if (!a)
        return NULL;
    was = st_keep_was_ours(st, addr, &kept);
    *a = (struct st_addr){.used = true,
                          .kept = kept,
                          .pub = {.addr = *addr,
                                  .prefix_bits = (uint8_t)bits,
                                  .origin = (uint8_t)origin,
                                  .valid_until = TIME_NEVER,
                                  .preferred_until = TIME_NEVER},
                          .dad_at = TIME_NEVER,
                          .announce_at = TIME_NEVER,
                          .defended_at = TIME_NEVER};
    if (a - st->addr >= st->n_addrs)
        st->n_addrs = (unsigned)(a - st->addr) + 1;
    st_timer_init(&a->timer, ST_TIMER_ADDR);
    keep_own(&st->keep.addr, kept, a);
    bring_up(st, a, was, now);
    st_addr_arm(st, a);
    return a;
}

void st_addr_remove(struct stack *st, struct st_addr *a, uint64_t now)
{
    st_disarm(st, &a->timer);
    if (a->pub.addr.family == IP_V6) {
        struct ip_addr group = nd_solicited_node(&a->pub.addr, st->ifindex);

        st_group_leave(st, &group, now);
    }
    keep_give(&st->keep.addr, a->kept);
    a->kept = 0;
    a->used = false;
    while (st->n_addrs && !st->addr[st->n_addrs - 1].used)
        st->n_addrs--;
    addr_event(st, a, true);
}

void st_addr_make_link_local(struct stack *st, uint64_t now)
{
    struct ip_addr addr = nd_link_local(&st->mac, st->ifindex);

    if (st_has_v6(st) && !st_addr_find(st, &addr))
        st_addr_new(st, &addr, 64, STACK_ADDR_LINK_LOCAL, now);
}

/* The link came up, perhaps another one: everything is asked and told again. */
void st_addr_link_up(struct stack *st, uint64_t now)
{
    st_groups_report(st, now);
    for (unsigned i = 0; i < ADDR_MAX; i++) {
        struct st_addr *a = &st->addr[i];

        if (!a->used)
            continue;
        if (a->pub.addr.family == IP_V4) {
            begin_announcing(st, a, now);
        } else {
            begin_dad(st, a, now);
            addr_event(st, a, false);
        }
        st_addr_arm(st, a);
    }
}

/* ---- Conflicts ---------------------------------------------------------------------------------------- */

static void defend(struct stack *st, struct st_addr *a, uint64_t now)
{
    struct arp_packet arp = arp_announcement(&st->mac, &a->pub.addr);

    /* RFC 5227 section 2.4 (b): one announcement, and none if another conflict came within DEFEND_INTERVAL. */
    if (a->defended_at != TIME_NEVER && time_since(now, a->defended_at) < DEFEND_NS)
        return;
    a->defended_at = now;
    st_arp_owe(st, &arp, &eth_addr_broadcast);
}

void st_addr_conflict(struct stack *st, struct st_addr *a, const struct eth_addr *mac, uint64_t now)
{
    struct stack_event ev = {.kind = STACK_EVENT_CONFLICT, .addr = a->pub.addr, .state = a->pub.state};
    char text[IP_ADDR_TEXT_MAX], mac_text[ETH_ADDR_TEXT_MAX];

    if (a->pub.addr.family == IP_V4) {
        st->counters.arp_conflicts++;
        defend(st, a, now);
    } else if (a->pub.state == STACK_ADDR_TENTATIVE) { /* RFC 4862 section 5.4.5 */
        a->dad_at = TIME_NEVER;
        set_state(st, a, STACK_ADDR_DUPLICATE);
        st_addr_arm(st, a);
    }
    ev.state = a->pub.state;
    memcpy(ev.mac, mac->b, sizeof ev.mac);
    st_event(st, &ev);
    log_limited(st->log, &st->conflict_limit, now, 1, LOG_LVL_WARNING, "%s is also used by %s",
                ip_addr_format(&a->pub.addr, text), eth_addr_format(mac, mac_text));
}

/* ---- Calls -------------------------------------------------------------------------------------------- */

static bool may_be_ours(const struct ip_addr *a)
{
    return (a->family == IP_V4 || a->family == IP_V6) && !ip_addr_is_unspecified(a) &&
           !ip_addr_is_multicast(a) && !ip_addr_is_broadcast(a) && !ip_addr_is_loopback(a) &&
           !ip_addr_is_v4_mapped(a);
}

static struct ip_addr scoped(const struct stack *st, const struct ip_addr *addr)
{
    return addr->family == IP_V6 ? ip_addr_v6_bytes(addr->b, st->ifindex) : *addr;
}

int stack_addr_add(struct stack *st, const struct ip_addr *addr, unsigned prefix_bits, uint64_t now)
{
    struct ip_addr own = scoped(st, addr);
    struct st_addr *a;

    st->now = now;
    if (!may_be_ours(addr) || prefix_bits > (addr->family == IP_V4 ? 32u : 128u))
        return -EINVAL;
    if (addr->family == IP_V6 && !st_has_v6(st))
        return -EINVAL;
    a = st_addr_find(st, &own);
    if (!a)
        return st_addr_new(st, &own, prefix_bits, STACK_ADDR_STATIC, now) ? 0 : -ENOSPC;
    if (a->pub.origin == STACK_ADDR_STATIC && a->pub.prefix_bits == prefix_bits)
        return -EEXIST;
    a->pub.prefix_bits = (uint8_t)prefix_bits; /* changed, or taken over from an advertisement */
    a->pub.origin = STACK_ADDR_STATIC;
    a->pub.valid_until = TIME_NEVER;
    a->pub.preferred_until = TIME_NEVER;
    if (a->pub.state == STACK_ADDR_DEPRECATED)
        set_state(st, a, STACK_ADDR_PREFERRED);
    st_addr_arm(st, a);
    return 0;
}

int stack_addr_del(struct stack *st, const struct ip_addr *addr, uint64_t now)
{
    struct ip_addr own = scoped(st, addr);
    struct st_addr *a = st_addr_find(st, &own);

    st->now = now;
    if (!a)
        return -EADDRNOTAVAIL;
    st_addr_remove(st, a, now);
    return 0;
}

bool stack_addr_get(const struct stack *st, unsigned i, struct stack_addr *ret)
{
    for (unsigned k = 0; k < ADDR_MAX; k++) {
        if (!st->addr[k].used || i-- > 0)
            continue;
        *ret = st->addr[k].pub;
        return true;
    }
    return false;
}
