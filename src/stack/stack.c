/*
 * stack/stack.c: the whole: creation, the timer verb, the deadline, events, configuration rows and counters.
 *
 * Invariant: deadline = min(engine's deadline, the wheel's, the loop's). Everything that happens by itself is
 * a timer on the one wheel, so after stack_expire(now) and a stack_output(now) that returned false the
 * deadline is > now. Called by the shell, one thread; nothing here touches bytes of packets.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "stack/stack_priv.h"
#include "wire/vnet.h"

#define MTU_MIN 68 /* RFC 791 section 3.2: every link carries this */

const struct tcp_config_row stack_config_rows[] = {
#define X(name, def, min, max, unit, scope, help)                                                            \
    {#name, def, min, max, unit, scope, help, (uint32_t)offsetof(struct stack_config, name)},
    STACK_CONFIG(X)
#undef X
        {NULL, 0, 0, 0, NULL, NULL, NULL, 0}};

void stack_config_defaults(struct stack_config *ret)
{
#define X(name, def, min, max, unit, scope, help) ret->name = def;
    STACK_CONFIG(X)
#undef X
}

static const struct {
    const char *name, *text;
} drop_names[] = {
#define X(name, text) {#name, text},
    STACK_DROPS(X)
#undef X
};
static_assert(sizeof drop_names / sizeof drop_names[0] == STACK_DROP_MAX, "a name for each reason");

const char *stack_drop_name(enum stack_drop d)
{
    return (unsigned)d < STACK_DROP_MAX ? drop_names[d].name : "?";
}

const char *stack_drop_text(enum stack_drop d)
{
    return (unsigned)d < STACK_DROP_MAX ? drop_names[d].text : "?";
}

const uint64_t *stack_get_drops(const struct stack *st)
{
    return st->drops;
}

const struct stack_counters *stack_get_counters(const struct stack *st)
{
    return &st->counters;
}

struct tcp *stack_tcp(struct stack *st)
{
    return st->tcp;
}

struct socks *stack_socks(struct stack *st)
{
    return st->socks;
}

void st_timer_init(struct st_timer *t, enum st_timer_kind kind)
{
    wheel_timer_init(&t->wheel);
    t->kind = (uint8_t)kind;
}

static void init_state(struct stack *st)
{
    wheel_init(&st->wheel, st->now);
    list_init(&st->intents);
    list_init(&st->spent);
    list_init(&st->looped);
    st->loop_at = TIME_NEVER;
    for (unsigned i = 0; i < ADDR_MAX; i++)
        st_timer_init(&st->addr[i].timer, ST_TIMER_ADDR);
    for (unsigned i = 0; i < GROUP_MAX; i++)
        st_timer_init(&st->group[i].timer, ST_TIMER_GROUP);
    for (unsigned i = 0; i < ROUTE_MAX; i++)
        st_timer_init(&st->route[i].timer, ST_TIMER_ROUTE);
    for (unsigned i = 0; i < PING_MAX; i++)
        st_timer_init(&st->ping[i].timer, ST_TIMER_PING);
    for (unsigned i = 0; i < FRAG_BUCKETS; i++)
        list_init(&st->frag[i].queues);
    for (unsigned i = 0; i < IP_ID_SLOTS; i++)
        st->ip_id[i] = (uint16_t)rng_next(&st->rng);
    st_timer_init(&st->mld_query_timer, ST_TIMER_MLD_QUERY);
    st_timer_init(&st->rs_timer, ST_TIMER_RS);
    st->frag_id = (uint32_t)rng_next(&st->rng);
    st->ping_id = (uint16_t)rng_next(&st->rng);
    st->ping_seq = (uint16_t)rng_next(&st->rng);
    st->icmp_credit_at = st->now;
    st->icmp_credit_ns = NSEC_PER_SEC;
}

static int create_layers(struct stack *st, const struct stack_params *p)
{
    struct tcp_params tp = {.config = p->tcp_config,
                            .pool = p->pool,
                            .log = p->log,
                            .secrets = p->secrets,
                            .now = p->now,
                            .max_conns = p->max_conns,
                            .max_half_open = p->max_half_open,
                            .max_time_wait = p->max_time_wait,
                            .generation = p->generation,
                            .crypto = p->crypto,
                            .trace_bytes = p->trace_bytes,
                            .record_arena = p->record_arena,
                            .request_arena = p->request_arena,
                            .time_wait_arena = p->time_wait_arena,
                            .kept = p->kept,
                            .keep = p->keep,
                            .md5_arena = p->md5_arena,
                            .max_md5_keys = p->max_md5_keys,
                            .crash_port = p->crash_port};
    struct socks_params sp = {.config = p->tcp_config,
                              .net = {.ctx = st, .route = st_net_route, .is_local = st_net_is_local},
                              .port_key = p->secrets.port,
                              .rng_seed = rng_next(&st->rng)};

    st->tcp = tcp_create(&tp);
    if (!st->tcp)
        return -ENOMEM;
    sp.tcp = st->tcp;
    st->socks = socks_create(&sp);
    return st->socks ? 0 : -ENOMEM;
}

struct stack *stack_create(const struct stack_params *p)
{
    struct stack *st = calloc(1, sizeof *st);

    if (!st)
        return NULL;
    st->config = p->config;
    st->tcp_config = p->tcp_config;
    st->pool = p->pool;
    st->log = p->log;
    st->key = p->secrets.hash;
    st->mtu = p->mtu < MTU_MIN ? MTU_MIN : p->mtu;
    st->ifindex = p->ifindex;
    st->check = p->check;
    st->now = p->now;
    st->up = true;
    memcpy(st->mac.b, p->mac, sizeof st->mac.b);
    rng_seed(&st->rng, p->secrets.rng_seed ^ 0x7461757473746b31ull);
    init_state(st);
    st->scratch = malloc(PACKET_MAX);
    st->whole = malloc(PACKET_MAX);
    if (!st->scratch || !st->whole || st_neigh_init(st) < 0 || st_keep_init(st, p->keep) < 0 ||
        create_layers(st, p) < 0) {
        stack_destroy(st);
        return NULL;
    }
    tcp_set_gso_max(st->tcp, 0);
    st_keep_load(st, p->resumed, p->now);
    st_addr_make_link_local(st, p->now);
    return st;
}

void stack_destroy(struct stack *st)
{
    if (!st)
        return;
    st_keep_free(st); /* first: what ends here does not end in the memory that outlives it */
    st_loop_free(st);
    if (st->cut.super)
        st_intent_spent(st, st->cut.super);
    /* What is dropped here is told to the engine, which goes last. */
    st_frag_free(st);
    st_neigh_free(st);
    st_intents_flush(st, STACK_DROP_LINK_DOWN, st->now);
    st_release_spent(st);
    if (st->socks)
        socks_destroy(st->socks);
    if (st->tcp)
        tcp_destroy(st->tcp);
    free(st->scratch);
    free(st->whole);
    free(st);
}

/* ---- The timer verb ----------------------------------------------------------------------------------- */

static void expire_one(struct stack *st, struct st_timer *t, uint64_t now)
{
    switch ((enum st_timer_kind)t->kind) {
    case ST_TIMER_NEIGH:
        st_neigh_expired(st, list_entry(t, struct neigh, timer), now);
        break;
    case ST_TIMER_ADDR:
        st_addr_expired(st, list_entry(t, struct st_addr, timer), now);
        break;
    case ST_TIMER_ROUTE:
        st_route_expired(st, list_entry(t, struct st_route, timer), now);
        break;
    case ST_TIMER_GROUP:
        st_group_expired(st, list_entry(t, struct st_group, timer), now);
        break;
    case ST_TIMER_MLD_QUERY:
        st_mld_query_expired(st, now);
        break;
    case ST_TIMER_RS:
        st_rs_expired(st, now);
        break;
    case ST_TIMER_FRAG:
        st_frag_expired(st, t, now);
        break;
    case ST_TIMER_PING:
        st_ping_expired(st, list_entry(t, struct st_ping, timer), now);
        break;
    }
}

void st_check(struct stack *st)
{
    const char *why = st->check ? tcp_check_all(st->tcp) : NULL;

    if (why)
        log_msg(st->log, LOG_LVL_ERR, "engine check: %s", why);
    assert(!why);
}

void stack_expire(struct stack *st, uint64_t now)
{
    struct wheel_timer *t;

    st->now = now;
    st_release_spent(st);
    while ((t = wheel_expire(&st->wheel, now)) != NULL)
        expire_one(st, list_entry(t, struct st_timer, wheel), now);
    if (st->loop_at <= now)
        st_loop_deliver(st, now);
    tcp_expire(st->tcp, now);
    st_check(st);
}

uint32_t stack_commit(struct stack *st, uint64_t now)
{
    /* A batch may lie between output and its writes (design section 5): what its frames point at stays. */
    st_check(st);
    st_keep_commit(st);
    return tcp_commit(st->tcp, now);
}

uint64_t stack_deadline(const struct stack *st)
{
    return time_min(time_min(tcp_deadline(st->tcp), wheel_deadline(&st->wheel)), st->loop_at);
}

/* ---- Events ------------------------------------------------------------------------------------------- */

void st_event(struct stack *st, const struct stack_event *ev)
{
    if (st->n_events == EVENTS_MAX) { /* the newest tell more than the oldest */
        st->event_head = (st->event_head + 1) % EVENTS_MAX;
        st->n_events--;
        st_drop(st, STACK_DROP_EVENT_RING_FULL);
    }
    st->event[(st->event_head + st->n_events) % EVENTS_MAX] = *ev;
    st->n_events++;
}

bool stack_next_event(struct stack *st, struct stack_event *ret)
{
    if (!st->n_events)
        return false;
    *ret = st->event[st->event_head];
    st->event_head = (st->event_head + 1) % EVENTS_MAX;
    st->n_events--;
    return true;
}

/* ---- The link ----------------------------------------------------------------------------------------- */

/* The longest payload whose IPv4 total length and IPv6 payload length still fit 16 bits, with every option.
 */
#define GSO_MAX (65535u - 60 - 60)

static void set_gso(struct stack *st)
{
    const struct stack_offload *o = &st->offload;
    bool tso = o->vnet_hdr && o->csum && (o->tso4 || o->tso6);

    tcp_set_gso_max(st->tcp, tso ? GSO_MAX : 0);
}

void stack_set_offload(struct stack *st, const struct stack_offload *o)
{
    st->offload = *o;
    if (!o->vnet_hdr)
        st->offload = (struct stack_offload){0};
    else if (o->vnet_hdr_bytes != VNET_HEADER_MRG_BYTES)
        st->offload.vnet_hdr_bytes = VNET_HEADER_BYTES;
    set_gso(st);
}

void stack_get_link(const struct stack *st, bool *ret_up, uint16_t *ret_mtu)
{
    *ret_up = st->up;
    *ret_mtu = st->mtu;
}

static void link_event(struct stack *st)
{
    st_event(st, &(struct stack_event){.kind = STACK_EVENT_LINK, .up = st->up, .mtu = st->mtu});
}

void stack_set_mtu(struct stack *st, uint16_t mtu, uint64_t now)
{
    bool had_v6 = st_has_v6(st);

    st->now = now;
    mtu = mtu < MTU_MIN ? MTU_MIN : mtu;
    if (mtu == st->mtu)
        return;
    st->mtu = mtu;
    if (st->mtu6 > mtu)
        st->mtu6 = 0;
    if (!had_v6 && st_has_v6(st))
        st_addr_make_link_local(st, now);
    link_event(st);
}

void stack_set_link(struct stack *st, bool up, uint64_t now)
{
    st->now = now;
    if (up == st->up)
        return;
    st->up = up;
    link_event(st);
    if (up) {
        st_addr_link_up(st, now);
        return;
    }
    st_disarm(st, &st->rs_timer);
    st_neigh_link_down(st, now);
    st_intents_flush(st, STACK_DROP_LINK_DOWN, now);
}
