/*
 * stack/neigh.c: one neighbour cache for ARP and neighbour discovery, with the states of RFC 4861
 * section 7.3.2.
 *
 * Invariants: every entry lies in one bucket and in the LRU list of its class; n <= neigh_max; an entry has
 * waiters or held intents only while INCOMPLETE; set_state() is the one place where a state changes. Entries
 * are made when something is to be sent (output) or when a station names itself while it asks for us; the
 * latter ("disposable") give way first and push out nobody but each other, verified ones give way only when
 * idle and stale. Probes are owed as intents. A connection that waits is off READY; it comes back by
 * tcp_resume(), or with EHOSTUNREACH.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "stack/stack_priv.h"

#define NEIGH_IDLE_NS   (60 * NSEC_PER_SEC)  /* verified, stale and unused for this long: may give way */
#define NEIGH_GC_NS     (600 * NSEC_PER_SEC) /* unused for this long: goes */
#define NEIGH_FAILED_NS (10 * NSEC_PER_SEC)  /* a failed entry is remembered (and shown) for this long */

const char *stack_neigh_state_name(enum stack_neigh_state s)
{
    static const char *const names[] = {
#define X(name) #name,
        STACK_NEIGH_STATES(X)
#undef X
    };

    static_assert(sizeof names / sizeof names[0] == STACK_NEIGH_MAX, "a name for each state");
    return (unsigned)s < STACK_NEIGH_MAX ? names[s] : "?";
}

int st_neigh_init(struct stack *st)
{
    struct neighs *ns = &st->neigh;
    uint32_t buckets = 16;

    ns->max = (uint32_t)st->config->neigh_max;
    while (buckets < ns->max)
        buckets *= 2;
    for (unsigned i = 0; i < NEIGH_CLASSES; i++)
        list_init(&ns->lru[i]);
    ns->bucket = calloc(buckets, sizeof *ns->bucket);
    if (!ns->bucket)
        return -ENOMEM;
    for (uint32_t i = 0; i < buckets; i++)
        list_init(&ns->bucket[i]);
    ns->mask = buckets - 1;
    return 0;
}

static struct list_node *bucket_of(const struct stack *st, const struct ip_addr *addr)
{
    return &st->neigh.bucket[siphash(&st->key, addr, sizeof *addr) & st->neigh.mask];
}

struct neigh *st_neigh_find(const struct stack *st, const struct ip_addr *addr)
{
    struct list_node *bucket = bucket_of(st, addr);

    list_for_each(node, bucket)
    {
        struct neigh *n = list_entry(node, struct neigh, hash);

        if (ip_addr_eq(&n->addr, addr))
            return n;
    }
    return NULL;
}

static bool is_unsure(uint8_t state)
{
    return state == STACK_NEIGH_DELAY || state == STACK_NEIGH_PROBE;
}

static bool is_usable(uint8_t state)
{
    return state != STACK_NEIGH_INCOMPLETE && state != STACK_NEIGH_FAILED;
}

static void relist(struct stack *st, struct neigh *n)
{
    if (n->state == STACK_NEIGH_INCOMPLETE)
        n->class = NEIGH_WANTED;
    else if (n->state == STACK_NEIGH_FAILED || !n->verified)
        n->class = NEIGH_DISPOSABLE;
    else
        n->class = NEIGH_VERIFIED;
    list_del(&n->lru);
    list_add_tail(&st->neigh.lru[n->class], &n->lru);
}

static uint64_t retrans_ns(const struct stack *st, const struct neigh *n)
{
    if (n->addr.family == IP_V6 && st->neigh.retrans_ms)
        return st_ms(st->neigh.retrans_ms); /* RFC 4861 section 6.3.4 */
    return st_ms(st->config->neigh_probe_ms);
}

/* RFC 4861 section 6.3.2: ReachableTime is uniform in 0.5 .. 1.5 of its base. */
static uint64_t reachable_ns(struct stack *st, const struct neigh *n)
{
    uint64_t base = st_ms(st->config->neigh_reachable_ms);

    if (n->addr.family == IP_V6 && st->neigh.reachable_ms)
        base = st_ms(st->neigh.reachable_ms);
    return base / 2 + st_jitter(st, base);
}

/* A place is for what was usable once. What isn't any more is not taken over: it is asked for when it is needed. */
void st_neigh_changed(struct stack *st, struct neigh *n)
{
    if (is_usable(n->state) && !n->kept)
        n->kept = keep_take(&st->keep.neigh, n);
    keep_mark(&st->keep.neigh, n->kept);
}

/* The choke point of states: counts the unsure, files the entry, tells. Timers are the caller's. */
static void set_state(struct stack *st, struct neigh *n, enum stack_neigh_state state, uint64_t now)
{
    uint8_t old = n->state;

    st->neigh.unsure += (uint32_t)is_unsure((uint8_t)state);
    st->neigh.unsure -= (uint32_t)is_unsure(old);
    n->state = (uint8_t)state;
    if (state == STACK_NEIGH_REACHABLE)
        n->verified = true;
    if (state == STACK_NEIGH_FAILED)
        n->mac = eth_addr_zero;
    relist(st, n);
    st_neigh_changed(st, n);
    if (old != state && (state == STACK_NEIGH_REACHABLE || state == STACK_NEIGH_FAILED)) {
        struct stack_event ev = {.kind = STACK_EVENT_NEIGH, .addr = n->addr, .state = (uint8_t)state};

        memcpy(ev.mac, n->mac.b, sizeof ev.mac);
        st_event(st, &ev);
    }
    (void)now;
}

/* ---- Those that wait ---------------------------------------------------------------------------------- */

/* Usable now: connections go back to READY, held intents to the ring. */
static void release(struct stack *st, struct neigh *n)
{
    struct list_node *node;

    for (uint32_t i = 0; i < n->n_waiters; i++)
        tcp_resume(st->tcp, n->waiter[i]);
    n->n_waiters = 0;
    while ((node = list_pop(&n->held)) != NULL)
        st_intent_add(st, list_entry(node, struct intent, link));
    n->n_held = 0;
}

/* Nobody answered: what waits hears of it. */
static void give_up(struct stack *st, struct neigh *n, enum stack_drop why, uint64_t now)
{
    struct list_node *node;

    for (uint32_t i = 0; i < n->n_waiters; i++)
        tcp_unreachable(st->tcp, n->waiter[i], EHOSTUNREACH, now);
    n->n_waiters = 0;
    while ((node = list_pop(&n->held)) != NULL)
        st_intent_drop(st, list_entry(node, struct intent, link), why, EHOSTUNREACH, now);
    n->n_held = 0;
}

void st_neigh_hold(struct stack *st, struct neigh *n, struct intent *in, uint64_t now)
{
    if (n->n_held == NEIGH_HELD_MAX) { /* RFC 4861 section 7.2.2: the oldest gives way */
        st_intent_drop(st, list_entry(list_pop(&n->held), struct intent, link), STACK_DROP_NEIGH_QUEUE_FULL,
                       EHOSTUNREACH, now);
        n->n_held--;
    }
    list_add_tail(&n->held, &in->link);
    n->n_held++;
}

bool st_neigh_wait(struct stack *st, struct neigh *n, tcp_id id)
{
    if (n->n_waiters == n->waiter_room) {
        uint32_t room = n->waiter_room ? 2 * n->waiter_room : 4;
        tcp_id *more = realloc(n->waiter, room * sizeof *more);

        if (!more)
            return false;
        n->waiter = more;
        n->waiter_room = room;
    }
    n->waiter[n->n_waiters++] = id;
    tcp_suspend(st->tcp, id);
    return true;
}

/* ---- Making and removing ------------------------------------------------------------------------------ */

static void neigh_delete(struct stack *st, struct neigh *n, enum stack_drop why, uint64_t now)
{
    give_up(st, n, why, now);
    st->neigh.unsure -= (uint32_t)is_unsure(n->state);
    keep_give(&st->keep.neigh, n->kept);
    st_disarm(st, &n->timer);
    list_del(&n->hash);
    list_del(&n->lru);
    st->neigh.n--;
    free(n->waiter);
    free(n);
}

/* An entry that may give way to a new one; `wanted`: we have something to send to the new one. */
static struct neigh *victim(const struct stack *st, bool wanted, uint64_t now)
{
    const struct neighs *ns = &st->neigh;
    struct list_node *oldest = list_first(&ns->lru[NEIGH_DISPOSABLE]);
    unsigned seen = 0;

    if (oldest)
        return list_entry(oldest, struct neigh, lru);
    if (!wanted)
        return NULL;
    list_for_each(node, &ns->lru[NEIGH_WANTED])
    { /* replies to invented sources, but never what a connection needs */
        struct neigh *n = list_entry(node, struct neigh, lru);

        if (!n->n_waiters)
            return n;
        if (++seen == 8)
            break;
    }
    oldest = list_first(&ns->lru[NEIGH_VERIFIED]);
    if (oldest) {
        struct neigh *n = list_entry(oldest, struct neigh, lru);

        if (n->state == STACK_NEIGH_STALE && time_since(now, n->used_at) > NEIGH_IDLE_NS)
            return n;
    }
    return NULL;
}

static struct neigh *neigh_new(struct stack *st, const struct ip_addr *addr, bool wanted, uint64_t now)
{
    struct neigh *n = NULL;

    if (st->neigh.n >= st->neigh.max) {
        struct neigh *old = victim(st, wanted, now);

        if (old)
            neigh_delete(st, old, STACK_DROP_NEIGH_TABLE_FULL, now);
    }
    if (st->neigh.n < st->neigh.max)
        n = calloc(1, sizeof *n);
    if (!n) {
        st_drop(st, STACK_DROP_NEIGH_TABLE_FULL);
        return NULL;
    }
    n->addr = *addr;
    n->confirmed_at = TIME_NEVER;
    n->used_at = now;
    list_init(&n->held);
    list_init(&n->lru);
    list_init(&n->hash);
    st_timer_init(&n->timer, ST_TIMER_NEIGH);
    list_add_head(bucket_of(st, addr), &n->hash);
    st->neigh.n++;
    return n;
}

void st_neigh_free(struct stack *st)
{
    for (unsigned i = 0; i < NEIGH_CLASSES && st->neigh.bucket; i++) {
        list_for_each_safe(node, &st->neigh.lru[i])
        {
            struct neigh *n = list_entry(node, struct neigh, lru);

            n->n_waiters = 0;
            neigh_delete(st, n, STACK_DROP_LINK_DOWN, st->now);
        }
    }
    free(st->neigh.bucket);
    st->neigh.bucket = NULL;
}

/* ---- Asking ------------------------------------------------------------------------------------------- */

static void probe(struct stack *st, struct neigh *n, uint64_t now)
{
    const struct eth_addr *to = n->state == STACK_NEIGH_PROBE ? &n->mac : NULL;
    struct ip_addr src;

    n->probes++;
    st_arm(st, &n->timer, time_add(now, retrans_ns(st, n)));
    if (!st_source_for(st, &n->addr, &n->addr, &src)) {
        if (n->addr.family == IP_V6)
            return;
        src = ip_addr_v4(0, 0, 0, 0);
    }
    if (n->addr.family == IP_V6) {
        st_nd_owe_ns(st, &src, &n->addr, to);
    } else {
        struct arp_packet arp = arp_request(&st->mac, &src, &n->addr);

        st_arp_owe(st, &arp, to ? to : &eth_addr_broadcast);
    }
}

static void begin_resolution(struct stack *st, struct neigh *n, uint64_t now)
{
    n->probes = 0;
    n->verified = false;
    set_state(st, n, STACK_NEIGH_INCOMPLETE, now);
    probe(st, n, now);
}

enum neigh_use st_neigh_use(struct stack *st, const struct ip_addr *addr, uint64_t now, struct neigh **ret)
{
    struct neigh *n = st_neigh_find(st, addr);

    if (!n) {
        n = neigh_new(st, addr, true, now);
        if (!n)
            return NEIGH_USE_FULL;
        n->state = STACK_NEIGH_FAILED;
    }
    *ret = n;
    n->used_at = now;
    list_del(&n->lru);
    list_add_tail(&st->neigh.lru[n->class], &n->lru);
    switch (n->state) {
    case STACK_NEIGH_INCOMPLETE:
        return NEIGH_USE_WAIT;
    case STACK_NEIGH_FAILED:
        if (n->retry_at > now)
            return NEIGH_USE_FAILED;
        begin_resolution(st, n, now);
        return NEIGH_USE_WAIT;
    case STACK_NEIGH_STALE: /* RFC 4861 section 7.3.3: give the upper layer time to confirm */
        set_state(st, n, STACK_NEIGH_DELAY, now);
        st_arm(st, &n->timer, time_add(now, st_ms(st->config->neigh_delay_ms)));
        return NEIGH_USE_OK;
    default:
        return NEIGH_USE_OK;
    }
}

/* ---- Hearing ------------------------------------------------------------------------------------------ */

static void confirm(struct stack *st, struct neigh *n, uint64_t now)
{
    n->confirmed_at = now;
    n->reachable_ns = reachable_ns(st, n);
    n->probes = 0;
    if (n->state != STACK_NEIGH_REACHABLE)
        set_state(st, n, STACK_NEIGH_REACHABLE, now);
    else
        st_neigh_changed(st, n);
    st_arm(st, &n->timer, time_add(now, n->reachable_ns));
    release(st, n);
}

static void make_stale(struct stack *st, struct neigh *n, uint64_t now)
{
    if (n->state != STACK_NEIGH_STALE)
        set_state(st, n, STACK_NEIGH_STALE, now);
    else
        st_neigh_changed(st, n);
    n->probes = 0;
    st_arm(st, &n->timer, time_add(time_max(n->used_at, now), NEIGH_GC_NS));
    release(st, n);
}

/* RFC 4861 sections 7.2.3 and 6.3.4; RFC 826's "merge" for requests that name us. */
struct neigh *st_neigh_heard(struct stack *st, const struct ip_addr *addr, const struct eth_addr *mac,
                             uint64_t now)
{
    struct neigh *n = st_neigh_find(st, addr);

    if (eth_addr_is_group(mac) || eth_addr_is_zero(mac))
        return n;
    if (!n) {
        n = neigh_new(st, addr, false, now);
        if (!n)
            return NULL;
        n->state = STACK_NEIGH_FAILED;
        n->mac = *mac;
        make_stale(st, n, now);
        return n;
    }
    if (n->state == STACK_NEIGH_PERMANENT || (is_usable(n->state) && eth_addr_eq(&n->mac, mac)))
        return n;
    n->mac = *mac;
    make_stale(st, n, now);
    return n;
}

void st_neigh_answered(struct stack *st, const struct ip_addr *addr, const struct eth_addr *mac,
                       bool solicited, bool override, uint64_t now)
{
    struct neigh *n = st_neigh_find(st, addr);
    bool differs;

    if (!n || n->state == STACK_NEIGH_PERMANENT || (mac && (eth_addr_is_group(mac) || eth_addr_is_zero(mac))))
        return;
    if (!is_usable(n->state)) {
        if (!mac) /* nothing learnt */
            return;
        n->mac = *mac;
        if (solicited)
            confirm(st, n, now);
        else
            make_stale(st, n, now);
        return;
    }
    differs = mac && !eth_addr_eq(&n->mac, mac);
    if (differs && !override) { /* RFC 4861 section 7.2.5, I */
        if (n->state == STACK_NEIGH_REACHABLE)
            make_stale(st, n, now);
        return;
    }
    if (differs)
        n->mac = *mac;
    if (solicited)
        confirm(st, n, now);
    else if (differs)
        make_stale(st, n, now);
}

bool st_neigh_restore(struct stack *st, uint32_t place, const struct neigh_entry *e, uint64_t now)
{
    bool fresh = e->state == STACK_NEIGH_REACHABLE && e->confirmed_at <= now &&
                 time_since(now, e->confirmed_at) < e->reachable_ns;
    struct neigh *n;

    if (!is_usable(e->state) || e->state >= STACK_NEIGH_MAX || eth_addr_is_zero(&e->mac) ||
        eth_addr_is_group(&e->mac) || st_neigh_find(st, &e->addr) || st->neigh.n >= st->neigh.max)
        return false;
    n = neigh_new(st, &e->addr, false, now);
    if (!n)
        return false;
    n->kept = place;
    keep_own(&st->keep.neigh, place, n);
    n->mac = e->mac;
    n->router = e->router;
    n->verified = e->verified;
    n->confirmed_at = e->confirmed_at;
    n->reachable_ns = e->reachable_ns;
    n->state = e->state == STACK_NEIGH_PERMANENT ? e->state : fresh ? STACK_NEIGH_REACHABLE : STACK_NEIGH_STALE;
    relist(st, n);
    if (n->state != STACK_NEIGH_PERMANENT)
        st_arm(st, &n->timer, fresh ? e->confirmed_at + e->reachable_ns : time_add(now, NEIGH_GC_NS));
    return true;
}

void st_neigh_progress(struct stack *st, const struct ip_addr *peer, uint64_t now)
{
    struct st_hop hop;
    struct neigh *n;

    if (!st->neigh.unsure || !st_route_lookup(st, peer, &hop))
        return;
    n = st_neigh_find(st, &hop.next);
    if (n && is_unsure(n->state))
        confirm(st, n, now);
}

/* ---- Time --------------------------------------------------------------------------------------------- */

static void fail(struct stack *st, struct neigh *n, uint64_t now)
{
    char text[IP_ADDR_TEXT_MAX];
    bool was_incomplete = n->state == STACK_NEIGH_INCOMPLETE;

    log_limited(st->log, &st->neigh_limit, now, 5, LOG_LVL_DEBUG, "neighbour %s does not answer",
                ip_addr_format(&n->addr, text));
    set_state(st, n, STACK_NEIGH_FAILED, now);
    /* A station that changed its MAC is asked for by broadcast at once; one that nobody answers for is let
     * rest. */
    n->retry_at = was_incomplete ? time_add(now, retrans_ns(st, n)) : now;
    st_arm(st, &n->timer, time_add(now, NEIGH_FAILED_NS));
    give_up(st, n, STACK_DROP_NEIGH_UNREACHABLE, now);
}

void st_neigh_expired(struct stack *st, struct neigh *n, uint64_t now)
{
    switch ((enum stack_neigh_state)n->state) {
    case STACK_NEIGH_INCOMPLETE:
    case STACK_NEIGH_PROBE:
        if (n->probes >= st->config->neigh_probes)
            fail(st, n, now);
        else
            probe(st, n, now);
        break;
    case STACK_NEIGH_REACHABLE:
        make_stale(st, n, now);
        break;
    case STACK_NEIGH_DELAY:
        n->probes = 0;
        set_state(st, n, STACK_NEIGH_PROBE, now);
        probe(st, n, now);
        break;
    case STACK_NEIGH_STALE:
    case STACK_NEIGH_FAILED:
        neigh_delete(st, n, STACK_DROP_NEIGH_UNREACHABLE, now);
        break;
    default:
        break;
    }
}

void st_neigh_link_down(struct stack *st, uint64_t now)
{
    for (unsigned i = 0; i < NEIGH_CLASSES; i++) {
        list_for_each_safe(node, &st->neigh.lru[i])
        {
            struct neigh *n = list_entry(node, struct neigh, lru);

            if (n->state != STACK_NEIGH_PERMANENT)
                neigh_delete(st, n, STACK_DROP_LINK_DOWN, now);
        }
    }
}

bool stack_neigh_get(const struct stack *st, unsigned i, uint64_t now, struct stack_neigh *ret)
{
    for (unsigned c = NEIGH_CLASSES; c-- > 0;) {
        list_for_each(node, &st->neigh.lru[c])
        {
            const struct neigh *n = list_entry(node, struct neigh, lru);

            if (i-- > 0)
                continue;
            *ret = (struct stack_neigh){
                .addr = n->addr,
                .state = n->state,
                .router = n->router,
                .age_ns = n->confirmed_at == TIME_NEVER ? UINT64_MAX : time_since(now, n->confirmed_at),
                .waiting = n->n_waiters + n->n_held};
            memcpy(ret->mac, n->mac.b, sizeof ret->mac);
            return true;
        }
    }
    return false;
}
