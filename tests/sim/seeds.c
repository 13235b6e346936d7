/*
 * tests/sim/seeds.c: scenarios drawn from a seed; the same seed gives the same trace.
 *
 *     seeds --seeds 1:2000 [-j 2]    runs them; says which ones failed and how to replay them
 *     seeds --seed 17                replays one with its trace in packetdrill's notation
 *     seeds --seed 17 --shrink       takes features away one by one as long as it still fails
 *     seeds --seed 17 --without burst,dup
 *
 * A seed draws a topology (a pair, a dumbbell, a chain of two bottlenecks, a star; with asymmetric ways back), one to
 * eight connections, their programs and options, the engines' configuration, and what links do to packets. Every
 * feature is drawn whether it is wanted or not, so taking one away leaves the others as they were. What must hold is
 * in watch.h, app.c and net_verdict(): every byte once, in order and right; both ends end and leave nothing behind;
 * tcp_check_all() after every verb; no busy loop; no stall without a name; windows kept on the wire. Of every 16th
 * seed the trace is made twice and compared.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net.h"

/*
 * Of virtual time; every step of it must have a reason anyway. The longest way: without SACK over a path that loses a
 * tenth timeouts look like a black hole, so that with tcp_mtu_probing 100 KB go in segments of 48 bytes, tens of seconds apart.
 */
#define LIMIT_S 12000u

/* What --shrink takes away: X(name). */
#define FEATURES(X)                                                                                            \
    X(loss) X(burst) X(script) X(dup) X(reorder) X(jitter) X(corrupt) X(flip) X(rate) X(codel) X(mark) X(mtu)     \
    X(blackhole) X(down) X(super) X(restart) X(suspend) X(refuse) X(resets) X(simultaneous) X(fastopen)          \
    X(cookies) X(options) X(buffers) X(slow) X(pauses) X(bursts) X(eor) X(more) X(usertimeout) X(keepalive)     \
    X(pacing) X(recovery) X(ecn) X(congestion) X(asymmetric) X(flows) X(other)

enum feature {
#define X(name) F_##name,
    FEATURES(X)
#undef X
        F_MAX
};

static const char *const feature_names[] = {
#define X(name) #name,
    FEATURES(X)
#undef X
};

struct draw {
    struct net *n;
    uint64_t without; /* bits of enum feature */
    bool v6, may_fail_any;
    struct tcp_config cfg[2]; /* of clients, of servers */
    uint16_t mtu;
};

/* Drawn in any case; true only where the feature is wanted. */
static bool with(struct draw *d, enum feature f, uint32_t ppm)
{
    return net_chance(d->n, ppm) && !(d->without >> f & 1);
}

static uint64_t one_of(struct draw *d, const uint64_t *values, unsigned count)
{
    return values[rng_below(&d->n->rng, count)];
}
#define ONE_OF(d, ...)                                                                                         \
    one_of(d, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* ---- Configuration -------------------------------------------------------------------------------------------- */

static void keep_unless(struct draw *d, enum feature f, struct tcp_config *c, const struct tcp_config *before)
{
    if (d->without >> f & 1)
        *c = *before;
}

static void draw_options(struct draw *d, struct tcp_config *c)
{
    struct tcp_config before = *c;

    c->tcp_timestamps = net_chance(d->n, 700000) ? 2 : 0;
    c->tcp_sack = net_chance(d->n, 750000);
    c->tcp_dsack = net_chance(d->n, 800000);
    c->tcp_window_scaling = net_chance(d->n, 750000);
    keep_unless(d, F_options, c, &before);
}

static void draw_buffers(struct draw *d, struct tcp_config *c)
{
    struct tcp_config before = *c;

    c->tcp_rmem_default = (int32_t)ONE_OF(d, 2304, 4096, 16384, 65536, 131072, 1 << 20);
    c->tcp_wmem_default = (int32_t)ONE_OF(d, 4608, 8192, 32768, 87380, 1 << 20);
    if (net_chance(d->n, 300000))
        c->tcp_rmem_max = c->tcp_rmem_default;
    if (net_chance(d->n, 300000))
        c->tcp_wmem_max = c->tcp_wmem_default;
    c->tcp_moderate_rcvbuf = net_chance(d->n, 700000);
    c->tcp_adv_win_scale = net_chance(d->n, 200000) ? (int32_t)net_between(d->n, 0, 4) - 2 : 1;
    keep_unless(d, F_buffers, c, &before);
}

static void draw_recovery(struct draw *d, struct tcp_config *c)
{
    struct tcp_config before = *c;

    if (net_chance(d->n, 200000))
        c->tcp_recovery = (int32_t)net_between(d->n, 0, 7);
    if (net_chance(d->n, 150000))
        c->tcp_early_retrans = 0;
    if (net_chance(d->n, 150000))
        c->tcp_frto = 0;
    if (net_chance(d->n, 100000))
        c->tcp_reordering = (int32_t)net_between(d->n, 1, 20);
    if (net_chance(d->n, 100000))
        c->tcp_rto_min = (int32_t)net_between(d->n, 5, 1000);
    if (net_chance(d->n, 100000))
        c->tcp_initcwnd = (int32_t)net_between(d->n, 1, 40);
    keep_unless(d, F_recovery, c, &before);
}

static void draw_congestion(struct draw *d, struct tcp_config *c)
{
    struct tcp_config before = *c;

    c->tcp_congestion_control = (int32_t)net_between(d->n, 0, 3);
    c->tcp_hystart = (int32_t)net_between(d->n, 0, 2);
    c->tcp_slow_start_after_idle = net_chance(d->n, 500000);
    c->tcp_abe = net_chance(d->n, 200000);
    c->tcp_dctcp_alpha_on_loss = net_chance(d->n, 200000);
    c->tcp_bbr_noise = net_chance(d->n, 200000);
    keep_unless(d, F_congestion, c, &before);
}

static void draw_other(struct draw *d, struct tcp_config *c)
{
    struct tcp_config before = *c;

    if (net_chance(d->n, 100000))
        c->tcp_tso_win_divisor = (int32_t)net_between(d->n, 0, 8);
    if (net_chance(d->n, 100000))
        c->tcp_min_tso_segs = (int32_t)net_between(d->n, 1, 8);
    if (net_chance(d->n, 100000))
        c->tcp_delack_max = (int32_t)net_between(d->n, 40, 200);
    c->tcp_no_metrics_save = net_chance(d->n, 300000);
    keep_unless(d, F_other, c, &before);
}

static void draw_config(struct draw *d, struct tcp_config *c)
{
    int32_t probing = (int32_t)net_between(d->n, 0, 2);

    tcp_config_defaults(c);
    draw_options(d, c);
    draw_buffers(d, c);
    draw_recovery(d, c);
    draw_congestion(d, c);
    draw_other(d, c);
    c->tcp_timewait_len = 10;
    c->tcp_synack_retries = 12; /* a client without data waits for ever where the server gave up */
    /*
     * A path that loses a tenth and more may fail fifteen times in a row; and the time is counted from the first loss of a
     * recovery that, without SACK and time stamps, may last as long as the connection.
     */
    c->tcp_retries2 = 255;
    c->tcp_orphan_retries = 255; /* whoever closed first must not give up where the other would not */
    if (with(d, F_ecn, 660000))
        c->tcp_ecn = (int32_t)(rng_next(&d->n->rng) & 1);
    if (with(d, F_pacing, 200000))
        c->tcp_pacing = 1;
    if (with(d, F_cookies, 150000))
        c->tcp_syncookies = 2;
    if (with(d, F_fastopen, 400000))
        c->tcp_fastopen = (int32_t)ONE_OF(d, 3, 0x207, 7);
    c->tcp_mtu_probing = probing;
}

/* ---- Links ---------------------------------------------------------------------------------------------------- */

static void draw_loss(struct draw *d, struct link_params *p)
{
    if (with(d, F_loss, 500000))
        p->loss_ppm = (uint32_t)rng_below(&d->n->rng, 100000);
    if (with(d, F_burst, 150000)) {
        p->ge_enter_ppm = (uint32_t)net_between(d->n, 500, 20000);
        p->ge_leave_ppm = (uint32_t)net_between(d->n, 50000, 500000);
        p->ge_loss_ppm = (uint32_t)net_between(d->n, 300000, 1000000);
    }
    for (unsigned i = 0, count = (unsigned)rng_below(&d->n->rng, 6); i < count; i++) {
        uint64_t index = 1 + rng_below(&d->n->rng, rng_below(&d->n->rng, 200) + 1);

        if (!(d->without >> F_script & 1))
            p->script[i] = index;
    }
    if (with(d, F_corrupt, 100000))
        p->corrupt_ppm = (uint32_t)rng_below(&d->n->rng, 20000);
    if (with(d, F_down, 80000)) {
        p->down_at = d->n->now + rng_below(&d->n->rng, 5 * NSEC_PER_SEC);
        p->down_ns = rng_below(&d->n->rng, 10 * NSEC_PER_SEC);
    }
}

static void draw_order(struct draw *d, struct link_params *p)
{
    if (with(d, F_jitter, 400000))
        p->jitter_ns = rng_below(&d->n->rng, p->delay_ns + 1000000);
    if (with(d, F_reorder, 400000)) {
        p->reorder_ppm = (uint32_t)rng_below(&d->n->rng, 300000);
        p->reorder_ns = rng_below(&d->n->rng, p->delay_ns + 1000000);
    }
    if (with(d, F_dup, 300000))
        p->dup_ppm = (uint32_t)rng_below(&d->n->rng, 50000);
}

static void draw_queue(struct draw *d, struct link_params *p)
{
    p->rate = net_between(d->n, 1, 10) * ONE_OF(d, 20000, 100000, 1000000, 10000000);
    p->queue_bytes = (uint32_t)net_between(d->n, 10000, 300000);
    if (net_chance(d->n, 300000))
        p->queue_packets = (uint32_t)net_between(d->n, 5, 100);
    p->ecn = !(d->without >> F_ecn & 1) && net_chance(d->n, 500000);
    if (with(d, F_codel, 300000)) {
        p->codel_target_ns = time_max(5 * NSEC_PER_MSEC, 1600 * NSEC_PER_SEC / p->rate);
        p->codel_interval_ns = 20 * p->codel_target_ns;
    }
    if (with(d, F_mark, 250000))
        p->mark_bytes = (uint32_t)net_between(d->n, 3000, 60000);
    if (d->without >> F_rate & 1)
        p->rate = p->queue_bytes = p->queue_packets = 0;
}

/*
 * `way`: 0 from clients to servers, 1 back. A black hole only before a side that looks for it: without tcp_mtu_probing
 * segments of the same size are sent into it until tcp_retries2 ends the connection, as by Linux.
 */
static struct link_params draw_link(struct draw *d, bool bottleneck, int way)
{
    struct link_params p = {0};

    p.delay_ns = rng_below(&d->n->rng, ONE_OF(d, 0, 50000, 1000000, 20000000, 120000000) + 1);
    if (!bottleneck)
        return p;
    draw_loss(d, &p);
    draw_order(d, &p);
    if (net_chance(d->n, 500000))
        draw_queue(d, &p);
    if (d->mtu > (d->v6 ? 1400 : 900) && with(d, F_mtu, 70000)) {
        p.mtu = (uint32_t)net_between(d->n, d->v6 ? 1280 : 700, d->v6 ? 1400 : 900);
        p.mtu_from = rng_below(&d->n->rng, 60);
        p.mtu_silent = d->cfg[0].tcp_rmem_default >= 16384 && with(d, F_blackhole, 300000) && d->cfg[way].tcp_mtu_probing;
    }
    return p;
}

/* ---- Topologies ----------------------------------------------------------------------------------------------- */

struct shape {
    unsigned clients, servers;
    unsigned middle[2]; /* bottlenecks there, back: link numbers */
    unsigned second[2];
};

static struct node *draw_node(struct draw *d, bool server)
{
    struct node *node = net_node(d->n, &d->cfg[server], d->mtu, d->v6);

    if (net_chance(d->n, 600000))
        node->gso_max = net_chance(d->n, 800000) ? 65536 : (uint32_t)net_between(d->n, 3000, 65535);
    node->fastopen_queue = 16;
    return node;
}

/* Every pair of client and server has a way there and another one back; access links are their own. */
static void routes(struct draw *d, struct shape *s)
{
    struct net *n = d->n;
    bool chain = net_chance(n, 150000), asymmetric = with(d, F_asymmetric, 250000);
    unsigned bypass = net_link(n, (const struct link_params[]){draw_link(d, false, 0)});
    unsigned access[NET_NODES_MAX][2];

    for (int way = 0; way < 2; way++) {
        s->middle[way] = net_link(n, (const struct link_params[]){draw_link(d, true, way)});
        s->second[way] = net_link(n, (const struct link_params[]){draw_link(d, true, way)});
    }
    for (unsigned i = 0; i < n->n_nodes; i++) {
        struct link_params own = draw_link(d, false, 0);

        own.delay_ns /= 8;
        access[i][0] = net_link(n, &own);
        access[i][1] = net_link(n, &own);
    }
    for (unsigned c = 0; c < s->clients; c++)
        for (unsigned v = 0; v < s->servers; v++) {
            struct node *client = &n->node[c], *server = &n->node[s->clients + v];
            uint8_t there[4] = {(uint8_t)access[c][0], (uint8_t)s->middle[0]}, hops = 2;
            uint8_t back[4] = {(uint8_t)access[s->clients + v][0], (uint8_t)(asymmetric ? bypass : s->middle[1])}, back_hops = 2;

            if (chain && v % 2 == 0) {
                there[hops++] = (uint8_t)s->second[0];
                if (!asymmetric)
                    back[back_hops++] = (uint8_t)s->second[1];
            }
            there[hops++] = (uint8_t)access[s->clients + v][1];
            back[back_hops++] = (uint8_t)access[c][1];
            net_route(n, client, server, hops, there);
            net_route(n, server, client, back_hops, back);
        }
}

static void topology(struct draw *d, struct shape *s)
{
    unsigned many = (unsigned)net_between(d->n, 1, 4);

    switch (rng_below(&d->n->rng, 5)) {
    default: *s = (struct shape){.clients = 1, .servers = 1}; break;
    case 2: *s = (struct shape){.clients = many, .servers = many}; break;
    case 3: *s = (struct shape){.clients = many, .servers = 1}; break;
    case 4: *s = (struct shape){.clients = 1, .servers = many}; break;
    }
    for (unsigned i = 0; i < s->clients + s->servers; i++)
        draw_node(d, i >= s->clients);
    routes(d, s);
}

/* ---- Flows ---------------------------------------------------------------------------------------------------- */

static void draw_sizes(struct draw *d, struct plan *p, uint64_t budget)
{
    uint64_t sizes[] = {0, 100, 1460, 10000, 60000, 200000, 500000, 1500000};

    p->bytes = rng_below(&d->n->rng, one_of(d, sizes, 8) + 1) % budget;
    p->write_max = (uint32_t)net_between(d->n, 1, net_chance(d->n, 500000) ? 3000 : 60000);
    p->read_max = (uint32_t)net_between(d->n, 1, net_chance(d->n, 500000) ? 3000 : 100000);
    if (p->bytes > 20000 && p->write_max < 500)
        p->write_max = 500;
    if (p->read_max < 300)
        p->read_max = 300;
}

static void draw_plan(struct draw *d, struct plan *p, uint64_t budget)
{
    bool think = net_chance(d->n, 500000);
    uint64_t thought = rng_below(&d->n->rng, 4000000), bursts = rng_below(&d->n->rng, 500000000);

    draw_sizes(d, p, budget);
    if (think)
        p->think_ns = thought;
    if (with(d, F_slow, 60000) && p->bytes < 100000)
        p->think_ns = rng_below(&d->n->rng, 100000000);
    if (with(d, F_pauses, 150000)) {
        p->pause_at = rng_below(&d->n->rng, 100000);
        p->pause_ns = rng_below(&d->n->rng, ONE_OF(d, 1, 10, 60) * NSEC_PER_SEC);
    }
    if (with(d, F_bursts, 100000)) {
        p->burst_bytes = p->bytes / 10 + 1;
        p->burst_ns = bursts + 1000000;
    }
    if (with(d, F_eor, 250000))
        p->eor_ppm = (uint32_t)net_between(d->n, 10000, 300000);
    if (with(d, F_more, 150000))
        p->more_ppm = 100000;
    p->nodelay = net_chance(d->n, 300000);
    p->keepalive = with(d, F_keepalive, 200000);
    if (with(d, F_buffers, 100000))
        p->sndbuf = (int32_t)net_between(d->n, 2304, 100000);
    if (with(d, F_buffers, 50000))
        p->window_clamp = (int32_t)net_between(d->n, 2000, 50000);
    if (with(d, F_buffers, 100000))
        p->notsent_lowat = (int32_t)net_between(d->n, 1, 50000);
    if (with(d, F_pacing, 60000))
        p->max_pacing_rate = net_between(d->n, 100000, 100000000);
    if (with(d, F_congestion, 300000))
        p->congestion = (int32_t)net_between(d->n, 0, 3);
}

static void draw_end(struct draw *d, struct flow *f)
{
    struct plan *p = &f->end[rng_below(&d->n->rng, 2)].plan;
    uint64_t at = rng_below(&d->n->rng, 50000);
    bool resets = with(d, F_resets, 100000), abortive = net_chance(d->n, 500000), early = net_chance(d->n, 500000);
    int32_t timeout = (int32_t)net_between(d->n, 500, 20000);

    f->end[0].plan.shutdown_early = net_chance(d->n, 600000);
    f->end[1].plan.shutdown_early = !f->end[0].plan.shutdown_early || early;
    if (resets) {
        f->may_fail = true;
        *(abortive ? &p->abort_at : &p->close_at) = at;
    }
    if (with(d, F_usertimeout, 40000)) {
        f->may_fail = true;
        p->user_timeout_ms = timeout;
    }
}

/*
 * Without a half-open entry data whose handshake's ACK was lost is answered by RST, as by Linux: no error. A cookie takes a
 * sequence number that is off by one to three for another MSS: no keepalive probes (one below), which would begin the stream a
 * byte too early, and no first segments of a few bytes, without which it could begin too late.
 */
static void only_cookies(struct flow *f)
{
    f->may_fail = f->cookies = true;
    for (int side = 0; side < 2; side++) {
        struct plan *p = &f->end[side].plan;

        p->keepalive = false;
        p->abort_at = p->close_at = UINT64_MAX;
        p->user_timeout_ms = 0;
        p->exact = true;
        p->eor_ppm = 0;
        p->write_max = p->write_max > 600 ? p->write_max : 600;
        p->burst_bytes = 0;
        p->bytes += 600; /* an end that only listens would never hear that the other one has no connection */
    }
}

static void flows(struct draw *d, const struct shape *s)
{
    unsigned count = net_chance(d->n, 500000) ? 1 : (unsigned)net_between(d->n, 2, NET_FLOWS_MAX);
    uint64_t budget = 3000000 / count;

    for (unsigned i = 0; i < count; i++) {
        struct node *client = &d->n->node[i % s->clients], *server = &d->n->node[s->clients + i % s->servers];
        struct flow *f = net_flow(d->n, client, server);

        f->start_at = i && net_chance(d->n, 700000) ? rng_below(&d->n->rng, 3 * NSEC_PER_SEC) : 0;
        f->simultaneous = with(d, F_simultaneous, 60000);
        f->fastopen = with(d, F_fastopen, 250000) && !f->simultaneous && (d->cfg[0].tcp_fastopen & 1);
        draw_plan(d, &f->end[0].plan, budget);
        draw_plan(d, &f->end[1].plan, budget);
        draw_end(d, f);
        if (d->cfg[1].tcp_syncookies == 2)
            only_cookies(f);
    }
    if (d->without >> F_flows & 1)
        d->n->n_flows = 1;
}

static void draw(struct draw *d)
{
    struct net *n = d->n;
    struct shape s;
    bool whole;

    n->now = net_between(n, 1, 1000000) * NSEC_PER_MSEC;
    d->mtu = (uint16_t)ONE_OF(d, 576, 1280, 1500, 1500, 9000);
    d->v6 = net_chance(n, 300000) && d->mtu >= 1280;
    draw_config(d, &d->cfg[0]);
    draw_config(d, &d->cfg[1]);
    topology(d, &s);
    flows(d, &s);
    if (with(d, F_suspend, 100000))
        n->suspend_ppm = (uint32_t)rng_below(&n->rng, 50000);
    if (with(d, F_refuse, 80000))
        n->refuse_ppm = (uint32_t)rng_below(&n->rng, 50000);
    if (with(d, F_restart, 120000))
        n->restart_ppm = (uint32_t)rng_below(&n->rng, 20000);
    if (with(d, F_flip, 30000))
        n->flip_ppm = (uint32_t)rng_below(&n->rng, 2000);
    whole = with(d, F_super, 400000);
    for (unsigned i = 0; i < n->n_links; i++) /* a queue or an MTU that no super-frame fits through */
        whole = whole && !n->link[i].p.mtu && (!n->link[i].p.queue_bytes || n->link[i].p.queue_bytes > 80000);
    for (unsigned i = 0; i < n->n_nodes; i++)
        n->node[i].whole = whole;
    n->limit = n->now + LIMIT_S * NSEC_PER_SEC;
}

/* ---- Running -------------------------------------------------------------------------------------------------- */

struct result {
    bool ok;
    uint64_t hash, packets, lost, virtual_ns;
    uint64_t longest[TCP_LIMIT_MAX];
    char failure[980];
};

static void features_text(uint64_t bits, char *text, size_t n)
{
    size_t at = 0;

    text[0] = 0;
    for (int f = 0; f < F_MAX && at < n; f++)
        if (bits >> f & 1)
            at += (size_t)snprintf(text + at, n - at, "%s%s", at ? "," : "", feature_names[f]);
}

static void run_seed(uint64_t seed, uint64_t without, bool verbose, struct result *r)
{
    struct draw d = {.n = net_create(seed, true), .without = without};

    d.n->verbose = verbose;
    draw(&d);
    r->ok = net_run(d.n) && net_verdict(d.n);
    r->hash = d.n->hash;
    r->packets = d.n->packets;
    r->lost = d.n->lost;
    r->virtual_ns = d.n->now - d.n->begun;
    memcpy(r->longest, d.n->longest, sizeof r->longest);
    snprintf(r->failure, sizeof r->failure, "at %.6f s: %s", (double)d.n->now / 1e9, d.n->failure);
    net_free(d.n);
}

static void print_failure(uint64_t seed, uint64_t without, const struct result *r)
{
    char text[400];

    features_text(without, text, sizeof text);
    printf("seed %" PRIu64 " FAILED %s\n  replay: seeds --seed %" PRIu64 "%s%s\n", seed, r->failure, seed,
           without ? " --without " : "", text);
}

static int replay(uint64_t seed, uint64_t without)
{
    struct result r;

    run_seed(seed, without, true, &r);
    if (!r.ok)
        print_failure(seed, without, &r);
    else
        printf("seed %" PRIu64 ": ok, %" PRIu64 " packets, %" PRIu64 " lost, %.3f s of virtual time, hash %016" PRIx64 "\n", seed,
               r.packets, r.lost, (double)r.virtual_ns / 1e9, r.hash);
    return r.ok ? 0 : 1;
}

static int shrink(uint64_t seed, uint64_t without)
{
    struct result r;

    run_seed(seed, without, false, &r);
    if (r.ok) {
        printf("seed %" PRIu64 " does not fail\n", seed);
        return 2;
    }
    for (int f = 0; f < F_MAX; f++) {
        struct result less;

        if (without >> f & 1)
            continue;
        run_seed(seed, without | 1ull << f, false, &less);
        if (less.ok)
            continue;
        without |= 1ull << f;
        r = less;
    }
    print_failure(seed, without, &r);
    return 1;
}

/* What the workers of a run have in common. */
struct shared {
    uint64_t done, failed, packets;
    uint64_t longest_host_us, longest_seed;
};

static uint64_t host_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void one_seed(uint64_t seed, uint64_t without, struct shared *s)
{
    struct result r, again;
    uint64_t began = host_us(), took;

    run_seed(seed, without, false, &r);
    took = host_us() - began;
    if (r.ok && seed % 16 == 0) {
        run_seed(seed, without, false, &again);
        if (again.hash != r.hash || !again.ok) {
            r.ok = false;
            snprintf(r.failure, sizeof r.failure, "another trace the second time");
        }
    }
    if (!r.ok)
        print_failure(seed, without, &r);
    __atomic_add_fetch(&s->failed, !r.ok, __ATOMIC_RELAXED);
    __atomic_add_fetch(&s->packets, r.packets, __ATOMIC_RELAXED);
    __atomic_add_fetch(&s->done, 1, __ATOMIC_RELAXED);
    if (took > s->longest_host_us) { /* a lost race costs a line of print */
        s->longest_host_us = took;
        s->longest_seed = seed;
    }
}

static int run(uint64_t from, uint64_t to, unsigned workers, uint64_t without, uint64_t stop_after)
{
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t total = to - from + 1, began = host_us(), told = began;
    bool crashed = false;
    int status;

    if (s == MAP_FAILED)
        return 2;
    printf("seeds %" PRIu64 ":%" PRIu64 ", %u at once\n", from, to, workers);
    for (unsigned w = 0; w < workers; w++)
        if (fork() == 0) {
            for (uint64_t seed = from + w; seed <= to && s->failed < stop_after; seed += workers)
                one_seed(seed, without, s);
            _exit(0);
        }
    for (unsigned left = workers; left;) {
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid > 0) {
            left--;
            crashed = crashed || !WIFEXITED(status) || WEXITSTATUS(status);
        } else {
            usleep(20000);
        }
        if (host_us() - told > 10000000) {
            told = host_us();
            printf("  %" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " failed, %.0f s\n", s->done, total, s->failed,
                   (double)(told - began) / 1e6);
        }
    }
    printf("%s: %" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " failed%s, %" PRIu64 " packets, %.1f s; the longest, %" PRIu64
           ", took %.0f ms\n",
           s->failed || crashed ? "FAILED" : "ok", s->done, total, s->failed, crashed ? ", a worker crashed" : "", s->packets,
           (double)(host_us() - began) / 1e6, s->longest_seed, (double)s->longest_host_us / 1e3);
    return s->failed || crashed ? 1 : 0;
}

static uint64_t parse_features(char *text)
{
    uint64_t bits = 0;

    for (char *name = strtok(text, ","); name; name = strtok(NULL, ",")) {
        int f = 0;

        while (f < F_MAX && strcmp(name, feature_names[f]) != 0)
            f++;
        if (f == F_MAX) {
            fprintf(stderr, "seeds: no such feature: %s\n", name);
            exit(2);
        }
        bits |= 1ull << f;
    }
    return bits;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, to = 200, seed = 0, without = 0, stop_after = 5;
    unsigned workers = 1;
    bool shrinking = false;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--shrink") == 0) {
            shrinking = true;
            continue;
        }
        if (!value) {
            fprintf(stderr, "usage: seeds [--seeds A:B] [-j N] [--stop-after FAILURES] | --seed N [--shrink] [--without NAME,NAME]\n");
            return 2;
        }
        i++;
        if (strcmp(argv[i - 1], "--seed") == 0)
            seed = strtoull(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--seeds") == 0) {
            char *colon = strchr(value, ':');

            from = strtoull(value, NULL, 0);
            to = colon ? strtoull(colon + 1, NULL, 0) : from;
        } else if (strcmp(argv[i - 1], "-j") == 0)
            workers = (unsigned)strtoul(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--stop-after") == 0)
            stop_after = strtoull(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--without") == 0)
            without = parse_features(value);
        else
            return fprintf(stderr, "seeds: unknown argument %s\n", argv[i - 1]), 2;
    }
    if (seed)
        return shrinking ? shrink(seed, without) : replay(seed, without);
    return run(from, to, workers ? workers : 1, without, stop_after);
}
