/*
 * stack/mld.c: tells the link which multicast groups we listen to (MLDv2, RFC 3810): bridges that snoop drop
 * the solicited-node groups otherwise, and neighbour discovery with them.
 *
 * Invariant: a group is there while an address needs it (refs > 0), or while its leaving is still being told.
 * All-nodes is never reported (RFC 3810 section 6). A group's timer stands for its next unsolicited report;
 * answers to queries have one common timer, as every answer reports all groups asked for. Queries of version
 * 1 get version 2 reports.
 */
#include "stack/stack_priv.h"

#define ROBUSTNESS         2                  /* RFC 3810 section 9.1 */
#define UNSOLICITED_NS     (1 * NSEC_PER_SEC) /* section 9.11 */
#define RECORDS_PER_PACKET 32

static struct st_group *group_find(const struct stack *st, const struct ip_addr *addr)
{
    for (unsigned i = 0; i < GROUP_MAX; i++)
        if (st->group[i].used && ip_addr_eq(&st->group[i].addr, addr))
            return (struct st_group *)&st->group[i];
    return NULL;
}

bool st_group_joined(const struct stack *st, const struct ip_addr *group)
{
    static const uint8_t interface_all_nodes[16] = {0xff, 1, [15] = 1};
    struct ip_addr all = nd_all_nodes(st->ifindex);
    const struct st_group *g;

    if (ip_addr_eq(group, &all) || memcmp(group->b, interface_all_nodes, 16) == 0)
        return st_has_v6(st);
    g = group_find(st, group);
    return g && !g->leaving;
}

/* Owes one report; its source is :: until the link-local address is valid (RFC 3590). */
static void owe_report(struct stack *st, const struct mld_record *record, size_t n)
{
    struct ip_addr src = {.family = IP_V6};
    struct intent *in;

    st_addr_link_local(st, &src);
    in = st_intent_new(st, INTENT_PACKET, MLD_REPORT_BYTES(n));
    if (!in)
        return;
    mld_report_encode(&src, record, n, in->data, MLD_REPORT_BYTES(n));
    in->mac = (struct eth_addr){{0x33, 0x33, 0, 0, 0, 0x16}};
    in->direct = true;
    in->proto = IP_PROTO_ICMPV6;
    st_intent_add(st, in);
}

static void report_change(struct stack *st, struct st_group *g, uint64_t now)
{
    struct mld_record r = {.type = g->leaving ? MLD_CHANGE_TO_INCLUDE_MODE : MLD_CHANGE_TO_EXCLUDE_MODE,
                           .group = g->addr};

    owe_report(st, &r, 1);
    g->reports_left--;
    if (g->reports_left)
        st_arm(st, &g->timer, time_add(now, st_jitter(st, UNSOLICITED_NS)));
    else
        st_disarm(st, &g->timer);
    if (g->leaving && !g->reports_left)
        g->used = false;
}

static void begin_reports(struct stack *st, struct st_group *g, uint64_t now)
{
    g->reports_left = ROBUSTNESS;
    st_arm(st, &g->timer, now);
}

static struct st_group *group_new(struct stack *st, struct st_group *g, const struct ip_addr *addr)
{
    st_disarm(st, &g->timer);
    *g = (struct st_group){.used = true, .addr = *addr};
    st_timer_init(&g->timer, ST_TIMER_GROUP);
    return g;
}

void st_group_join(struct stack *st, const struct ip_addr *group, uint64_t now)
{
    struct st_group *g = group_find(st, group);

    for (unsigned i = 0; i < GROUP_MAX && !g; i++)
        if (!st->group[i].used)
            g = group_new(st, &st->group[i], group);
    for (unsigned i = 0; i < GROUP_MAX && !g; i++)
        if (st->group[i].leaving) /* cut its farewell short */
            g = group_new(st, &st->group[i], group);
    if (!g)
        return;
    if (!g->refs++) {
        g->leaving = false;
        begin_reports(st, g, now);
    }
}

void st_group_leave(struct stack *st, const struct ip_addr *group, uint64_t now)
{
    struct st_group *g = group_find(st, group);

    if (!g || !g->refs || --g->refs)
        return;
    g->leaving = true;
    g->asked = false;
    begin_reports(st, g, now);
}

void st_groups_report(struct stack *st, uint64_t now)
{
    for (unsigned i = 0; i < GROUP_MAX; i++)
        if (st->group[i].used && !st->group[i].leaving)
            begin_reports(st, &st->group[i], now);
}

void st_group_expired(struct stack *st, struct st_group *g, uint64_t now)
{
    if (g->used && g->reports_left)
        report_change(st, g, now);
}

/* RFC 3810 section 6.2: after a random time within the delay that the query allows. */
void st_mld_input(struct stack *st, const struct packet *pk, const struct upper *u, uint64_t now)
{
    uint64_t at;
    struct mld_query q;
    bool any = false;
    enum mld_decode_result r =
        mld_query_decode(&u->src, u->ttl, u->router_alert, pk->p + u->at, u->end - u->at, st->ifindex, &q);

    if (r == MLD_DECODE_NOT_QUERY) /* other hosts' reports */
        return;
    if (r != MLD_DECODE_OK) {
        st_drop(st, STACK_DROP_ICMP_MALFORMED);
        return;
    }
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        struct st_group *g = &st->group[i];

        if (!g->used || g->leaving || !(q.general || ip_addr_eq(&g->addr, &q.group)))
            continue;
        g->asked = true;
        any = true;
    }
    if (!any)
        return;
    at = time_add(now, st_jitter(st, st_ms(q.max_delay_ms)));
    if (at < st->mld_query_timer.wheel.at) /* an answer that is due earlier stays */
        st_arm(st, &st->mld_query_timer, at);
}

void st_mld_query_expired(struct stack *st, uint64_t now)
{
    struct mld_record record[RECORDS_PER_PACKET];
    size_t n = 0;

    (void)now;
    for (unsigned i = 0; i < GROUP_MAX && n < RECORDS_PER_PACKET; i++) {
        struct st_group *g = &st->group[i];

        if (!g->used || !g->asked)
            continue;
        g->asked = false;
        record[n++] = (struct mld_record){.type = MLD_MODE_IS_EXCLUDE, .group = g->addr};
    }
    if (n)
        owe_report(st, record, n);
}
