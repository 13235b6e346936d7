/*
 * tests/sim/net.c: the event queue, the way of a segment over its links, the turns of the engines.
 *
 * One step: every engine that was touched has its turn (events to programs, then output until nothing is left); then
 * time moves to the next event or deadline, and all that is due then is done. An engine that wants to be called again
 * at once after its turn is a busy loop, and so is one whose expiries come to nothing too often in a row.
 */
#include "net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "wire/gso.h"
#include "wire/text.h"

#define ARENA_BYTES      (16u << 20)
#define STEPS_MAX        20000000u
#define SMALL_BYTES      2048u
#define LARGE_BYTES      65536u
#define IDLE_EXPIRIES    2000u
#define RESTARTS_MAX     20u /* each arms the timers anew: one in every back-off would put the next attempt off for ever */
#define IP_TCP_BYTES(v6) ((v6) ? 60u : 40u)

struct packet {
    struct link_packet lp; /* first: what a link hands back is this */
    struct packet *next;
    const struct route *route;
    struct node *from, *to;
    uint8_t hop;
    bool large;
    bool rto; /* sent by a retransmission timeout */
    struct tcp_icmp icmp; /* where it is one */
    struct tcp_seg seg;
    uint8_t data[];
};

/* ---- Small things --------------------------------------------------------------------------------------------- */

bool net_fail(struct net *n, const char *fmt, ...)
{
    va_list ap;

    if (n->failure[0])
        return false;
    va_start(ap, fmt);
    vsnprintf(n->failure, sizeof n->failure, fmt, ap);
    va_end(ap);
    return false;
}

unsigned net_node_index(const struct net *n, const struct node *node)
{
    return (unsigned)(node - n->node);
}

void net_note(const struct net *n, const struct node *node, const char *fmt, ...)
{
    va_list ap;

    if (!n->verbose)
        return;
    printf("%12.6f n%u ", (double)n->now / 1e9, net_node_index(n, node));
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

bool net_chance(struct net *n, uint32_t ppm)
{
    return ppm && rng_below(&n->rng, 1000000) < ppm;
}

uint64_t net_between(struct net *n, uint64_t low, uint64_t high)
{
    return low + rng_below(&n->rng, high - low + 1);
}

/* FNV-1a over eight bytes at once would be weaker; a multiply and a rotation do for telling traces apart. */
void net_hash(struct net *n, uint64_t v)
{
    n->hash = (n->hash ^ v) * 0x9e3779b97f4a7c15ull;
    n->hash ^= n->hash >> 29;
}

bool net_check(struct net *n, struct node *node, const char *verb)
{
    const char *what = n->check ? tcp_check_all(node->t) : NULL;

    return what ? net_fail(n, "n%u after %s: %s", net_node_index(n, node), verb, what) : true;
}

struct flow *net_flow_of(struct net *n, const struct tcp_seg *seg, int *ret_from)
{
    for (int side = 0; side < 2; side++) {
        unsigned port = side ? seg->dst_port : seg->src_port;

        if (port >= NET_CLIENT_PORT && port < NET_CLIENT_PORT + n->n_flows) {
            *ret_from = side;
            return &n->flow[port - NET_CLIENT_PORT];
        }
    }
    return NULL;
}

static void print_seg(struct net *n, const struct packet *p, const char *fate)
{
    char text[TEXT_SEG_MAX];
    int from;
    const struct flow *f;

    if (!n->verbose)
        return;
    f = net_flow_of(n, &p->seg, &from);
    text_format_seg(&p->seg, f ? f->end[from].iss : 0, f ? f->end[!from].iss : 0, text, sizeof text);
    printf("%12.6f n%u > n%u flow %u%c %s%s%s%s\n", (double)n->now / 1e9, net_node_index(n, p->from),
           net_node_index(n, p->to), f ? f->number : 99, "ab"[f ? from : 0], text,
           p->lp.ecn == IP_ECN_CE ? " CE" : p->lp.ecn ? " ECT" : "", p->seg.gso_size ? " (super) " : " ", fate);
}

/* ---- The heap ------------------------------------------------------------------------------------------------- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void net_event(struct net *n, uint64_t at, enum event_kind kind, void *what)
{
    struct event e = {.at = at, .order = n->order++, .kind = kind, .what = what};
    uint32_t i = n->n_events++;

    if (n->n_events > n->cap_events) {
        n->cap_events = n->cap_events ? 2 * n->cap_events : 256;
        n->heap = realloc(n->heap, n->cap_events * sizeof *n->heap);
        if (!n->heap)
            abort();
    }
    for (; i && before(&e, &n->heap[(i - 1) / 2]); i = (i - 1) / 2)
        n->heap[i] = n->heap[(i - 1) / 2];
    n->heap[i] = e;
}

static struct event pop(struct net *n)
{
    struct event top = n->heap[0], last = n->heap[--n->n_events];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < n->n_events) {
        child += child + 1 < n->n_events && before(&n->heap[child + 1], &n->heap[child]);
        if (!before(&n->heap[child], &last))
            break;
        n->heap[i] = n->heap[child];
        i = child;
    }
    n->heap[i] = last;
    return top;
}

/* ---- Packets -------------------------------------------------------------------------------------------------- */

static struct packet *packet_new(struct net *n, uint32_t bytes)
{
    bool large = bytes > SMALL_BYTES;
    struct packet *p = n->spare[large];

    if (p)
        n->spare[large] = p->next;
    else
        p = malloc(sizeof *p + (large ? LARGE_BYTES + SMALL_BYTES : SMALL_BYTES));
    if (!p)
        abort();
    p->large = large;
    p->rto = false;
    p->icmp.error = 0;
    return p;
}

static void packet_free(struct net *n, struct packet *p)
{
    p->next = n->spare[p->large];
    n->spare[p->large] = p;
}

static void copy_head(struct tcp_seg *to, const struct tcp_seg *from)
{
    memcpy(to, from, offsetof(struct tcp_seg, slice));
}

static struct packet *clone(struct net *n, const struct packet *p)
{
    struct packet *q = packet_new(n, p->seg.len);

    q->lp = p->lp;
    q->route = p->route;
    q->from = p->from;
    q->to = p->to;
    q->hop = p->hop;
    copy_head(&q->seg, &p->seg);
    memcpy(q->data, p->data, p->seg.len);
    return q;
}

static void gone(struct net *n, struct packet *p, const char *why)
{
    n->lost++;
    print_seg(n, p, why);
    watch_lost(n, &p->seg);
    packet_free(n, p);
}

/* The router before the narrow link says so, after half of what the way takes. */
static void too_big(struct net *n, const struct packet *p, const struct link *l)
{
    struct packet *q = packet_new(n, 0);

    q->from = p->to;
    q->to = p->from;
    q->seg.len = 0;
    q->icmp = (struct tcp_icmp){.tuple = {p->seg.src, p->seg.dst, p->seg.src_port, p->seg.dst_port},
                                .seq = p->seg.seq,
                                .error = EMSGSIZE,
                                .mtu = (uint16_t)l->p.mtu};
    net_event(n, n->now + l->p.delay_ns / 2, EVENT_ICMP, q);
}

/* Onto the next link of its route. */
static void enter(struct net *n, struct packet *p)
{
    unsigned i = p->route->link[p->hop];
    struct link *l = &n->link[i];
    enum link_fate fate = link_enter(l, &p->lp, n->now);

    if (fate == LINK_PASSED) {
        if (!n->link_waits[i]) {
            n->link_waits[i] = true;
            net_event(n, link_deadline(l), EVENT_LINK, l);
        }
        return;
    }
    if (fate == LINK_TOO_BIG && !l->p.mtu_silent)
        too_big(n, p, l);
    else if (fate == LINK_TOO_BIG && p->rto)
        watch_hole(n, &p->seg);
    gone(n, p, link_fate_text(fate));
}

static void leave(struct net *n, struct link *l)
{
    struct link_packet *dropped, *out;
    uint64_t at[2];
    unsigned copies;

    n->link_waits[l - n->link] = false;
    out = link_leave(l, n->now, &dropped, at, &copies);
    while (dropped) {
        struct link_packet *next = dropped->next;

        gone(n, (struct packet *)(void *)dropped, link_fate_text(LINK_CODEL));
        dropped = next;
    }
    if (out) {
        struct packet *p = (struct packet *)(void *)out;

        if (copies > 1)
            net_event(n, at[1], EVENT_ARRIVAL, clone(n, p));
        net_event(n, at[0], EVENT_ARRIVAL, p);
    }
    if (link_deadline(l) != TIME_NEVER) {
        n->link_waits[l - n->link] = true;
        net_event(n, time_max(link_deadline(l), n->now), EVENT_LINK, l);
    }
}

/* One bit of a SACK block or of the timestamp's echo: what a checksum of 16 bits lets through once in 65536. */
static void flip(struct net *n, struct tcp_seg *seg)
{
    uint32_t bit = 1u << rng_below(&n->rng, 32);

    if (seg->opt.sack_count && net_chance(n, 500000))
        *(net_chance(n, 500000) ? &seg->opt.sack[0].start : &seg->opt.sack[0].end) ^= bit;
    else if (seg->opt.timestamps_ok && !(seg->flags & TCP_SYN))
        seg->opt.tsecr ^= bit;
    else
        return;
    n->flipped++;
}

static void send_one(struct net *n, struct node *from, const struct tcp_seg *seg, enum tcp_cause cause)
{
    struct node *to = NULL;
    struct packet *p = packet_new(n, seg->len);
    uint32_t done = 0, head = IP_TCP_BYTES(seg->src.family == IP_V6) + (uint32_t)tcp_options_bytes(&seg->opt, seg->flags & TCP_SYN);

    for (unsigned i = 0; i < n->n_nodes; i++)
        if (ip_addr_eq(&n->node[i].addr, &seg->dst))
            to = &n->node[i];
    copy_head(&p->seg, seg);
    p->rto = cause == TCP_CAUSE_RETRANS_RTO;
    for (unsigned i = 0; i < seg->n_slices; i++) {
        memcpy(p->data + done, seg->slice[i].data, seg->slice[i].len);
        done += seg->slice[i].len;
    }
    p->from = from;
    p->to = to;
    p->route = &n->route[from - n->node][to - n->node];
    p->hop = 0;
    p->lp.bytes = seg->len + head * gso_segs(seg->len, seg->gso_size);
    p->lp.ecn = seg->ecn;
    n->packets++;
    net_hash(n, n->now);
    net_hash(n, (uint64_t)seg->seq << 32 | seg->ack);
    net_hash(n, (uint64_t)seg->flags << 48 | (uint64_t)seg->wnd << 32 | seg->len);
    print_seg(n, p, tcp_cause_name(cause));
    if (net_chance(n, n->flip_ppm))
        flip(n, &p->seg);
    enter(n, p);
}

static bool emit(struct net *n, struct node *from, const struct tcp_out *o)
{
    const struct tcp_seg *seg = &o->seg;
    uint32_t sum = 0, each = seg->gso_size ? seg->gso_size : seg->len;
    struct tcp_seg part;
    struct gso g;

    from->idle_expiries = 0;
    for (unsigned i = 0; i < seg->n_slices; i++)
        sum += seg->slice[i].len;
    if (sum != seg->len)
        return net_fail(n, "n%u: slices hold %u bytes, len %u", net_node_index(n, from), sum, seg->len);
    if (each + IP_TCP_BYTES(seg->src.family == IP_V6) > from->path.mtu)
        return net_fail(n, "n%u: segment of %u bytes, MTU %u", net_node_index(n, from), each, from->path.mtu);
    if (!watch_sent(n, from, o)) {
        struct packet whole = {.from = from, .to = from};

        copy_head(&whole.seg, seg);
        print_seg(n, &whole, tcp_cause_name(o->cause));
        return false;
    }
    if (from->whole || !seg->gso_size) {
        send_one(n, from, seg, o->cause);
        return true;
    }
    gso_begin(&g, seg);
    while (gso_step(&g, &part))
        send_one(n, from, &part, o->cause);
    return true;
}

/* Puts it in; payload in chunks of the receiver's pool or plain, as chance wants. */
static bool deliver(struct net *n, struct packet *p)
{
    struct node *to = p->to;
    struct chunk *chunks[TCP_SLICES_MAX];
    struct watch_before expected;
    unsigned n_chunks = 0;
    uint32_t done = 0;
    bool adopt = n->check ? net_chance(n, 500000) : true;

    p->seg.n_slices = 0;
    p->seg.ecn = p->lp.ecn;
    while (done < p->seg.len) {
        uint32_t left = p->seg.len - done, len = left < CHUNK_BIG_BYTES ? left : CHUNK_BIG_BYTES;
        struct tcp_slice *slice = &p->seg.slice[p->seg.n_slices++];
        struct chunk *c =
            adopt ? chunk_alloc(to->pool, len > CHUNK_SMALL_BYTES ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES) : NULL;

        *slice = (struct tcp_slice){.data = p->data + done, .len = len};
        if (c) {
            memcpy(c->data, p->data + done, len);
            slice->data = c->data;
            slice->chunk = chunks[n_chunks++] = c;
        }
        done += len;
    }
    watch_arrives(n, to, &p->seg, &expected);
    tcp_input(to->t, &p->seg, &to->path, n->now);
    while (n_chunks)
        chunk_unref(to->pool, chunks[--n_chunks]);
    to->dirty = true;
    to->idle_expiries = 0;
    return watch_arrived(n, to, &p->seg, &expected) && net_check(n, to, "input");
}

static bool arrive(struct net *n, struct packet *p)
{
    bool ok;

    if (++p->hop < p->route->n) {
        enter(n, p);
        return true;
    }
    ok = deliver(n, p);
    packet_free(n, p);
    return ok;
}

static bool icmp(struct net *n, struct packet *p)
{
    net_note(n, p->to, "ICMP: too big, MTU %u", p->icmp.mtu);
    tcp_icmp(p->to->t, &p->icmp, n->now);
    p->to->dirty = true;
    packet_free(n, p);
    return net_check(n, p->to, "icmp");
}

/* ---- Turns ---------------------------------------------------------------------------------------------------- */

/*
 * The neighbour's answer to a suspended connection, or none. None never for an orphan whose peer still waits: with this
 * error on record and its RTO at tcp_rto_max it gives up whatever tcp_orphan_retries says (tcp_orphan_retries()).
 */
static bool resume(struct net *n, struct end *e)
{
    if (e->resume_at > n->now)
        return true;
    e->resume_at = TIME_NEVER;
    if (net_chance(n, 200000) && (!e->closed || e->flow->may_fail)) {
        net_note(n, e->node, "unreachable");
        tcp_unreachable(e->node->t, e->id, EHOSTUNREACH, n->now);
        e->flow->watch.fresh++;
    } else {
        net_note(n, e->node, "resumed");
        tcp_resume(e->node->t, e->id);
    }
    e->node->dirty = true;
    return net_check(n, e->node, "resume");
}

static bool suspended(struct net *n, struct node *node, tcp_id id)
{
    struct end *e = app_end_of(n, node, id);

    if (!e || !e->connected || e->resume_at != TIME_NEVER || !net_chance(n, n->suspend_ppm))
        return false;
    tcp_suspend(node->t, id);
    e->resume_at = n->now + rng_below(&n->rng, 50000000);
    net_event(n, e->resume_at, EVENT_RESUME, e);
    net_note(n, node, "suspended");
    return true;
}

static bool output(struct net *n, struct node *node)
{
    struct tcp_out o;
    unsigned made = 0;

    while (tcp_next_reply(node->t, n->now, &o))
        if (!emit(n, node, &o))
            return false;
    while (tcp_next_ready(node->t, &o)) {
        tcp_id id = o.id;

        if (++made > 100000)
            return net_fail(n, "n%u: READY does not get empty", net_node_index(n, node));
        if (suspended(n, node, id) || !tcp_output(node->t, id, n->now, &o))
            continue;
        if (net_chance(n, n->refuse_ppm)) {
            net_note(n, node, "refused");
            watch_lost(n, &o.seg);
            tcp_tx_failed(node->t, &o);
        } else if (!emit(n, node, &o)) {
            return false;
        }
    }
    return net_check(n, node, "output");
}

static bool turn(struct net *n, struct node *node)
{
    for (int round = 0; round < 2; round++) {
        if (!app_events(n, node))
            return false;
        tcp_commit(node->t, n->now);
        if (!output(n, node))
            return false;
    }
    node->dirty = false;
    node->deadline = tcp_deadline(node->t);
    if (node->deadline <= n->now)
        return net_fail(n, "n%u: deadline in the past: busy loop", net_node_index(n, node));
    return true;
}

static bool expire(struct net *n, struct node *node)
{
    tcp_expire(node->t, n->now);
    node->dirty = true;
    if (++node->idle_expiries > IDLE_EXPIRIES)
        return net_fail(n, "n%u: %u expiries in a row came to nothing", net_node_index(n, node), IDLE_EXPIRIES);
    return net_check(n, node, "expire");
}

static bool happen(struct net *n, const struct event *e)
{
    struct end *end = e->what;

    switch (e->kind) {
    case EVENT_ARRIVAL: return arrive(n, e->what);
    case EVENT_ICMP: return icmp(n, e->what);
    case EVENT_LINK: leave(n, e->what); return true;
    case EVENT_RESUME: return resume(n, end);
    case EVENT_APP: return end->flow->started ? app_run(n, end) : app_start(n, end->flow);
    }
    return false;
}

static bool over(const struct net *n)
{
    for (unsigned i = 0; i < n->n_flows; i++) {
        const struct flow *f = &n->flow[i];

        for (int side = 0; side < 2; side++)
            if (!f->end[side].closed && !(f->may_fail && f->started && !f->end[side].id))
                return false;
    }
    for (unsigned i = 0; i < n->n_nodes; i++)
        if (tcp_next_id(n->node[i].t, 0) != 0)
            return false;
    return true;
}

static uint64_t next_time(const struct net *n)
{
    uint64_t at = n->n_events ? n->heap[0].at : TIME_NEVER;

    for (unsigned i = 0; i < n->n_nodes; i++)
        at = time_min(at, n->node[i].deadline);
    return at;
}

static bool not_over(struct net *n, const char *why)
{
    char text[512];
    size_t at = 0;

    text[0] = 0;
    for (unsigned i = 0; i < n->n_flows; i++)
        for (int side = 0; side < 2 && at < sizeof text; side++) {
            const struct end *e = &n->flow[i].end[side];

            at += (size_t)snprintf(text + at, sizeof text - at, " %u%c:%s%s wrote %" PRIu64 "/%" PRIu64 " read %" PRIu64, i,
                                   "ab"[side], e->id ? "" : " no connection", e->closed ? " closed" : "", e->written,
                                   e->plan.bytes, e->read);
        }
    return net_fail(n, "%s;%s", why, text);
}

/* Until time has to move. */
static bool turns(struct net *n)
{
    for (unsigned i = 0; i < n->n_nodes; i++)
        if (n->node[i].dirty && !turn(n, &n->node[i]))
            return false;
    if (n->restarts < RESTARTS_MAX && net_chance(n, n->restart_ppm)) {
        struct node *node = &n->node[rng_below(&n->rng, n->n_nodes)];

        if (!net_restart(n, node) || (node->dirty && !turn(n, node)))
            return false;
    }
    return true;
}

static bool loop(struct net *n)
{
    for (n->steps = 0;; n->steps++) {
        uint64_t at;

        if (!turns(n))
            return false;
        at = next_time(n);
        if (over(n))
            return true;
        if (n->until != TIME_NEVER && at >= n->until) {
            n->now = n->until;
            n->cut_short = true;
            return true;
        }
        if (at == TIME_NEVER)
            return not_over(n, "stall: nothing is armed");
        if (at > n->limit)
            return not_over(n, "not over in time");
        if (n->steps > STEPS_MAX)
            return not_over(n, "too many steps");
        if (n->check && !watch_time(n, at))
            return false;
        n->now = time_max(n->now, at);
        while (n->n_events && n->heap[0].at <= n->now) {
            struct event e = pop(n);

            if (!happen(n, &e))
                return false;
        }
        for (unsigned i = 0; i < n->n_nodes; i++) {
            struct node *node = &n->node[i];

            if (!node->dirty && node->deadline > n->now)
                continue;
            node->dirty = true;
            if (tcp_deadline(node->t) <= n->now && !expire(n, node))
                return false;
        }
    }
}

/* ---- Making and ending ---------------------------------------------------------------------------------------- */

struct net *net_create(uint64_t seed, bool check)
{
    struct net *n = calloc(1, sizeof *n);

    if (!n)
        abort();
    n->seed = seed;
    n->check = check;
    n->hash = 0xcbf29ce484222325ull;
    n->until = n->limit = TIME_NEVER;
    rng_seed(&n->rng, seed);
    return n;
}

unsigned net_link(struct net *n, const struct link_params *p)
{
    if (n->n_links == NET_LINKS_MAX)
        abort();
    link_init(&n->link[n->n_links], p, n->seed * 64 + n->n_links);
    return n->n_links++;
}

struct node *net_node(struct net *n, const struct tcp_config *cfg, uint16_t mtu, bool v6)
{
    static const uint8_t prefix[16] = {0x20, 0x01, 0x0d, 0xb8};
    struct node *node = &n->node[n->n_nodes];

    if (n->n_nodes == NET_NODES_MAX)
        abort();
    n->n_nodes++;
    node->cfg = *cfg;
    node->path.mtu = mtu;
    node->addr = ip_addr_v4(192, 0, 2, (uint8_t)n->n_nodes);
    if (v6) {
        node->addr = ip_addr_v6_bytes(prefix, 0);
        node->addr.b[15] = (uint8_t)n->n_nodes;
    }
    return node;
}

void net_route(struct net *n, const struct node *from, const struct node *to, unsigned hops, const uint8_t *links)
{
    struct route *r = &n->route[from - n->node][to - n->node];

    r->n = (uint8_t)hops;
    memcpy(r->link, links, hops);
}

struct flow *net_flow(struct net *n, struct node *client, struct node *server)
{
    struct flow *f = &n->flow[n->n_flows];

    if (n->n_flows == NET_FLOWS_MAX)
        abort();
    f->number = n->n_flows++;
    for (int side = 0; side < 2; side++) {
        struct end *e = &f->end[side];

        e->flow = f;
        e->side = side;
        e->node = side ? server : client;
        e->app_at = e->resume_at = TIME_NEVER;
        e->plan = (struct plan){.abort_at = UINT64_MAX,
                                .close_at = UINT64_MAX,
                                .pause_at = UINT64_MAX,
                                .write_max = 65536,
                                .read_max = 1000000,
                                .congestion = -1,
                                .notsent_lowat = -1,
                                .shutdown_early = true};
    }
    return f;
}

bool net_engine(struct net *n, struct node *node)
{
    struct tcp_params p = {0};
    unsigned i = net_node_index(n, node);

    if (!node->arena)
        node->arena =
            mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (node->arena == MAP_FAILED)
        abort();
    node->pool = chunk_pool_create(node->arena, ARENA_BYTES);
    p.config = &node->cfg;
    p.pool = node->pool;
    p.secrets = (struct tcp_secrets){{n->seed, 2}, {3, n->seed}, {5, 6}, {7, 8}, n->seed + i};
    p.secrets.isn.k1 += i;
    p.now = n->now;
    p.max_conns = p.max_half_open = p.max_time_wait = p.max_metrics = 32;
    p.generation = ++node->generation;
    p.trace_bytes = 256 << 10;
    p.park_eager = n->seed % 3 == 0;
    node->t = tcp_create(&p);
    tcp_set_gso_max(node->t, node->gso_max);
    node->dirty = true;
    node->deadline = TIME_NEVER;
    return true;
}

static bool listen_on(struct net *n, struct node *node)
{
    struct tcp_listen_args l = {.addr = node->addr, .port = NET_SERVER_PORT, .backlog = 16};
    int rc = tcp_listen(node->t, &l, &node->listener);

    if (rc)
        return net_fail(n, "n%u: listen: %s", net_node_index(n, node), strerror(-rc));
    if (node->fastopen_queue)
        tcp_listen_set_opt(node->t, node->listener, TCP_OPT_FASTOPEN, (int32_t)node->fastopen_queue);
    if (node->listen_rcvbuf)
        tcp_listen_set_opt(node->t, node->listener, TCP_OPT_RCVBUF, (int32_t)node->listen_rcvbuf);
    return true;
}

bool net_run(struct net *n)
{
    n->begun = n->now;
    for (unsigned i = 0; i < n->n_nodes; i++)
        if (!net_engine(n, &n->node[i]) || !listen_on(n, &n->node[i]))
            return false;
    for (unsigned i = 0; i < n->n_flows; i++)
        net_event(n, n->now + n->flow[i].start_at, EVENT_APP, &n->flow[i].end[0]);
    return loop(n);
}

bool net_verdict(struct net *n)
{
    for (unsigned i = 0; i < n->n_flows && !n->cut_short; i++)
        for (int side = 0; side < 2; side++) {
            const struct end *e = &n->flow[i].end[side], *peer = &n->flow[i].end[!side];

            if (n->flow[i].may_fail)
                continue;
            if (e->read != peer->plan.bytes)
                return net_fail(n, "flow %u%c read %" PRIu64 " of %" PRIu64 " bytes", i, "ab"[side], e->read, peer->plan.bytes);
            if (e->error)
                return net_fail(n, "flow %u%c: %s", i, "ab"[side], strerror(e->error));
        }
    for (unsigned i = 0; i < n->n_nodes && !n->cut_short; i++)
        if (chunk_pool_used_bytes(n->node[i].pool))
            return net_fail(n, "n%u: %zu bytes of chunks leaked", i, chunk_pool_used_bytes(n->node[i].pool));
    return true;
}

static void free_waiting(struct net *n)
{
    for (unsigned i = 0; i < n->n_links; i++)
        for (struct link_packet *p = n->link[i].head, *next; p; p = next) {
            next = p->next;
            free((void *)p);
        }
    for (uint32_t i = 0; i < n->n_events; i++)
        if (n->heap[i].kind == EVENT_ARRIVAL || n->heap[i].kind == EVENT_ICMP)
            free(n->heap[i].what);
    for (int large = 0; large < 2; large++)
        while (n->spare[large]) {
            struct packet *p = n->spare[large];

            n->spare[large] = p->next;
            free(p);
        }
    free(n->heap);
}

void net_free(struct net *n)
{
    free_waiting(n);
    for (unsigned i = 0; i < n->n_nodes; i++) {
        if (n->node[i].t)
            tcp_destroy(n->node[i].t);
        if (n->failure[0])
            chunk_pool_abandon(n->node[i].pool);
        else
            chunk_pool_destroy(n->node[i].pool);
        if (n->node[i].arena)
            munmap(n->node[i].arena, ARENA_BYTES);
    }
    free(n);
}
