/*
 * stack/kept.c: what outlives the stack: neighbours, addresses, routes from advertisements, path MTUs, what is known of
 * the link, and counters (theory of operation).
 *
 * Each of them is a table of base/keep.h in memory of the caller's. Owners mark what they change; the commit of the turn
 * publishes it: nothing is marked, nothing is done. A successor takes it over when it is created:
 *
 *     link         first: down, nothing else counts; MTU and the variables of the last advertisement
 *     neighbours   usable at once: REACHABLE as long as they would have been, else STALE
 *     addresses    SLAAC's are made here; link-local and configured ones ask, when they are made, what they were
 *                  (st_keep_was_ours()); PREFERRED and DEPRECATED go on, DUPLICATE stays so, TENTATIVE begins anew
 *     routes       those of advertisements, until they end
 *     paths        until they end
 *
 * Nothing of it is needed to be right: an entry that was damaged, or is of an interface with another index, is forgotten
 * and learnt again. Times are CLOCK_MONOTONIC's, which processes of one boot share.
 */
#include <errno.h>
#include "stack/stack_priv.h"

static const char *counter_name(unsigned i)
{
    static const char *const names[] = {
#define X(name, metric, help) metric,
        STACK_COUNTERS(X)
#undef X
    };

    return names[i];
}

static const char *drop_name(unsigned i)
{
    return stack_drop_name((enum stack_drop)i);
}

#define SPEC(table, fields, type, n)                                                                           \
    (struct keep_spec)                                                                                         \
    {                                                                                                          \
        .name = table, .layout = keep_layout(fields(KEEP_TEXT), sizeof(type)), .entry_bytes = sizeof(type),    \
        .slots = n                                                                                             \
    }

unsigned stack_keep_specs(const struct stack_config *config, struct keep_spec *ret)
{
    ret[0] = SPEC("neighbours", NEIGH_ENTRY, struct neigh_entry, (uint32_t)config->neigh_max);
    ret[1] = SPEC("addresses", ADDR_ENTRY, struct addr_entry, ADDR_MAX);
    ret[2] = SPEC("routes", ROUTE_ENTRY, struct route_entry, ROUTE_MAX);
    ret[3] = SPEC("paths", PATH_ENTRY, struct path_kept, PATH_SETS * PATH_WAYS);
    ret[4] = SPEC("link", LINK_ENTRY, struct link_entry, 1);
    ret[5] = keep_counters_spec("stack counters");
    return 6 + tcp_keep_specs(0, ret + 6);
}

int st_keep_init(struct stack *st, void *memory)
{
    struct st_keep *k = &st->keep;
    struct keep_spec spec[STACK_KEEP_TABLES];

    stack_keep_specs(st->config, spec);
    k->counters.n_groups = 2;
    k->counters.group[0] =
        (struct keep_group){"stack", counter_name, &st->counters, sizeof st->counters / sizeof(uint64_t)};
    k->counters.group[1] = (struct keep_group){"drop", drop_name, st->drops, STACK_DROP_MAX};
    return keep_attach(&k->neigh, memory, &spec[0]) && keep_attach(&k->addr, memory, &spec[1]) &&
                   keep_attach(&k->route, memory, &spec[2]) && keep_attach(&k->path, memory, &spec[3]) &&
                   keep_attach(&k->link, memory, &spec[4]) && keep_counters_open(&k->counters, memory, "stack counters")
               ? 0
               : -ENOMEM;
}

void st_keep_free(struct stack *st)
{
    struct st_keep *k = &st->keep;

    keep_detach(&k->neigh);
    keep_detach(&k->addr);
    keep_detach(&k->route);
    keep_detach(&k->path);
    keep_detach(&k->link);
    keep_counters_close(&k->counters);
}

/* ---- Taking over --------------------------------------------------------------------------------------- */

static void load_link(struct stack *st)
{
    struct st_keep *k = &st->keep;
    struct link_entry e;

    if (!keep_touched(&k->link) || !keep_get(&k->link, 0, &e))
        return;
    st->up = e.up;
    st->mtu = e.mtu;
    st->mtu6 = e.mtu6;
    st->hop_limit6 = e.hop_limit6;
    st->neigh.reachable_ms = e.reachable_ms;
    st->neigh.retrans_ms = e.retrans_ms;
    k->link_was = e;
    k->link_place = 1;
    keep_own(&k->link, 1, k);
}

/* Of this interface: its index is the scope of link-local addresses. */
static bool is_here(const struct stack *st, const struct ip_addr *a)
{
    return a->family == IP_V4 || (a->family == IP_V6 && (!a->scope || a->scope == st->ifindex));
}

static void load_neighbours(struct stack *st, uint64_t now)
{
    struct keep *k = &st->keep.neigh;
    struct neigh_entry e;

    for (uint32_t i = 0; i < keep_touched(k); i++)
        if (keep_get(k, i, &e) && st->up && is_here(st, &e.addr) && st_neigh_restore(st, i + 1, &e, now))
            st->keep.found.neighbours++;
    keep_loaded(k);
}

static void load_routes(struct stack *st, uint64_t now)
{
    struct keep *k = &st->keep.route;
    struct route_entry e;

    for (uint32_t i = 0; i < keep_touched(k); i++)
        if (keep_get(k, i, &e) && (e.gateway.family == IP_NONE || is_here(st, &e.gateway)) &&
            st_route_restore(st, i + 1, &e, now))
            st->keep.found.routes++;
    keep_loaded(k);
}

static void load_paths(struct stack *st, uint64_t now)
{
    struct keep *k = &st->keep.path;
    struct path_kept e;

    for (uint32_t i = 0; i < keep_touched(k); i++)
        if (keep_get(k, i, &e) && is_here(st, &e.dst) && st_path_restore(st, i + 1, &e, now))
            st->keep.found.paths++;
    keep_loaded(k);
}

const struct addr_entry *st_keep_was_ours(struct stack *st, const struct ip_addr *addr, uint32_t *ret_place)
{
    struct st_keep *k = &st->keep;

    *ret_place = 0;
    for (unsigned i = 0; k->resumed && i < ADDR_MAX; i++)
        if (k->was[i].place && ip_addr_eq(&k->was[i].e.addr, addr)) {
            *ret_place = k->was[i].place;
            k->was[i].place = 0;
            return &k->was[i].e;
        }
    return NULL;
}

static void restore_slaac(struct stack *st, const struct addr_entry *e, uint64_t now)
{
    struct st_addr *a = e->valid_until > now && st_has_v6(st) && st->config->ipv6_autoconf
                            ? st_addr_new(st, &e->addr, e->prefix_bits, STACK_ADDR_SLAAC, now)
                            : NULL;

    if (!a)
        return;
    a->pub.valid_until = e->valid_until;
    a->pub.preferred_until = e->preferred_until;
    st_addr_arm(st, a);
}

static void load_addresses(struct stack *st, uint64_t now)
{
    struct keep *k = &st->keep.addr;
    struct addr_was *was = st->keep.was;
    uint32_t n = keep_touched(k) < ADDR_MAX ? keep_touched(k) : ADDR_MAX;

    for (uint32_t i = 0; i < n; i++)
        if (keep_get(k, i, &was[i].e) && is_here(st, &was[i].e.addr) && was[i].e.state <= STACK_ADDR_DUPLICATE) {
            was[i].place = i + 1;
            st->keep.found.addresses++;
        }
    for (uint32_t i = 0; i < n; i++)
        if (was[i].place && was[i].e.origin == STACK_ADDR_SLAAC)
            restore_slaac(st, &was[i].e, now);
}

void st_keep_load(struct stack *st, bool resumed, uint64_t now)
{
    struct st_keep *k = &st->keep;

    k->resumed = resumed;
    if (!resumed) { /* another host, as far as anybody can tell */
        keep_loaded(&k->neigh);
        keep_loaded(&k->addr);
        keep_loaded(&k->route);
        keep_loaded(&k->path);
        keep_loaded(&k->link);
        return;
    }
    load_link(st);
    load_neighbours(st, now);
    load_routes(st, now);
    load_paths(st, now);
    load_addresses(st, now);
    if (k->link_was.rs_left)
        st_rs_start(st, now);
}

void stack_get_keep_found(const struct stack *st, struct stack_keep_found *ret)
{
    const struct st_keep *k = &st->keep;
    struct tcp_keep_found tcp;

    tcp_get_keep_found(st->tcp, &tcp);
    *ret = k->found;
    ret->metrics = tcp.metrics;
    ret->damaged = tcp.damaged + k->neigh.damaged + k->addr.damaged + k->route.damaged + k->path.damaged +
                   k->link.damaged + k->counters.table.damaged;
}

/* ---- The commit ---------------------------------------------------------------------------------------- */

/* An entry's bytes are summed, so those between its fields are 0. */

static void put_neighbour(struct keep *k, uint32_t place, const struct neigh *n)
{
    struct neigh_entry e;

    memset(&e, 0, sizeof e);
#define COPY(type, name) e.name = n->name;
    NEIGH_ENTRY(COPY)
#undef COPY
    keep_put(k, place, &e);
}

static void put_address(struct keep *k, uint32_t place, const struct st_addr *a)
{
    struct addr_entry e;

    memset(&e, 0, sizeof e);
#define COPY(type, name) e.name = a->pub.name;
    ADDR_ENTRY(COPY)
#undef COPY
    keep_put(k, place, &e);
}

static void put_route(struct keep *k, uint32_t place, const struct st_route *r)
{
    struct route_entry e;

    memset(&e, 0, sizeof e);
    e.prefix = r->pub.prefix;
    e.gateway = r->pub.gateway;
    e.prefix_bits = r->pub.prefix_bits;
    e.preference = r->preference;
    e.mtu = r->pub.mtu;
    e.advmss = r->pub.advmss;
    e.initcwnd = r->pub.initcwnd;
    e.initrwnd = r->pub.initrwnd;
    e.valid_until = r->pub.valid_until;
    keep_put(k, place, &e);
}

static void put_path(struct keep *k, uint32_t place, const struct path_entry *p)
{
    struct path_kept e;

    memset(&e, 0, sizeof e);
#define COPY(type, name) e.name = p->name;
    PATH_ENTRY(COPY)
#undef COPY
    keep_put(k, place, &e);
}

/* Few fields that several files change: compared instead of marked. */
static void commit_link(struct stack *st)
{
    struct st_keep *k = &st->keep;
    struct link_entry e;

    memset(&e, 0, sizeof e);
    e.up = st->up;
    e.hop_limit6 = st->hop_limit6;
    e.rs_left = st->rs_left;
    e.mtu = st->mtu;
    e.mtu6 = st->mtu6;
    e.reachable_ms = st->neigh.reachable_ms;
    e.retrans_ms = st->neigh.retrans_ms;
    if (k->link_place && memcmp(&e, &k->link_was, sizeof e) == 0)
        return;
    if (!k->link_place)
        k->link_place = keep_take(&k->link, k);
    keep_put(&k->link, k->link_place, &e);
    k->link_was = e;
}

/* What was ours and nobody asked for: it is not configured any more. */
static void end_of_start(struct st_keep *k)
{
    if (!k->resumed)
        return;
    k->resumed = false;
    keep_loaded(&k->addr);
}

void st_keep_commit(struct stack *st)
{
    struct st_keep *k = &st->keep;
    uint32_t place;
    void *owner;

    end_of_start(k);
    while (keep_next_dirty(&k->neigh, &place, &owner))
        owner ? put_neighbour(&k->neigh, place, owner) : keep_drop(&k->neigh, place);
    while (keep_next_dirty(&k->addr, &place, &owner))
        owner ? put_address(&k->addr, place, owner) : keep_drop(&k->addr, place);
    while (keep_next_dirty(&k->route, &place, &owner))
        owner ? put_route(&k->route, place, owner) : keep_drop(&k->route, place);
    while (keep_next_dirty(&k->path, &place, &owner))
        owner ? put_path(&k->path, place, owner) : keep_drop(&k->path, place);
    if (k->link.slot)
        commit_link(st);
    keep_counters_commit(&k->counters);
}
