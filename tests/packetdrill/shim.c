/*
 * tests/packetdrill/shim.c: one host in virtual time: engine, sockets, route, device, clock.
 *
 * Every verb ends with drill_turn(), which does what a kernel would do before anybody could look: sockets hear what
 * happened, segments leave, woken calls go on. Invariant: after a verb no connection is on READY, and the deadline lies
 * in the future (but where it is held: then drill_pull() and drill_expire() are the caller's). The clock moves in
 * drill_advance() only.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "base/rng.h"
#include "daemon/crypto.h"
#include "shim_priv.h"
#include "tcp/tcp_trace.h"

#define ARENA_BYTES  (64u << 20)
#define START_NS     (1000 * NSEC_PER_SEC)
#define TURNS_MAX    100000u
#define GSO_MAX      65535u

static bool is_local(void *ctx, const struct ip_addr *addr)
{
    const struct drill *d = ctx;

    for (unsigned i = 0; i < d->n_local; i++) {
        if (ip_addr_eq(&d->local[i], addr))
            return true;
    }
    return ip_addr_is_loopback(addr);
}

static int route(void *ctx, const struct ip_addr *dst, struct ip_addr *inout_src, struct tcp_path *ret)
{
    const struct drill *d = ctx;

    *ret = d->path;
    if (inout_src->family != IP_NONE)
        return is_local(ctx, inout_src) ? 0 : -EADDRNOTAVAIL;
    for (unsigned i = 0; i < d->n_local; i++) {
        if (d->local[i].family == dst->family) {
            *inout_src = d->local[i];
            return 0;
        }
    }
    return -ENETUNREACH;
}

static bool parse_locals(struct drill *d, const char *text)
{
    char word[IP_ADDR_TEXT_MAX];
    size_t n;

    for (; *text; text += n) {
        text += strspn(text, " ");
        n = strcspn(text, " ");
        if (n == 0)
            break;
        if (n >= sizeof word || d->n_local == DRILL_LOCALS)
            return false;
        memcpy(word, text, n);
        word[n] = 0;
        if (!ip_addr_parse(word, &d->local[d->n_local++]))
            return false;
    }
    return d->n_local > 0;
}

static struct siphash_key draw_key(struct rng *rng)
{
    struct siphash_key key;

    key.k0 = rng_next(rng);
    key.k1 = rng_next(rng);
    return key;
}

static bool create_engine(struct drill *d, uint64_t seed)
{
    struct tcp_params p = {.config = &d->config, .pool = d->pool, .now = d->now, .max_conns = 1024,
                           .max_half_open = 4096, .max_time_wait = 1024, .generation = 1, .trace_bytes = 8 << 20, .check = true, .crypto = daemon_crypto()};
    struct socks_params sp = {.config = &d->config, .net = {.ctx = d, .route = route, .is_local = is_local}};
    struct rng rng;

    p.park_eager = getenv("TAUT_PARK") != NULL;
    rng_seed(&rng, seed);
    p.secrets.isn = draw_key(&rng);
    p.secrets.ts_offset = draw_key(&rng);
    p.secrets.hash = draw_key(&rng);
    p.secrets.port = draw_key(&rng);
    p.secrets.rng_seed = rng_next(&rng);
    d->tcp = tcp_create(&p);
    if (!d->tcp)
        return false;
    sp.tcp = d->tcp;
    sp.port_key = p.secrets.port;
    sp.rng_seed = rng_next(&rng);
    d->ss = socks_create(&sp);
    if (d->ss)
        tcp_set_gso_max(d->tcp, GSO_MAX);
    return d->ss != NULL;
}

struct drill *drill_create(uint64_t seed, const char *local, uint16_t mtu)
{
    return drill_create_at(seed, local, mtu, START_NS);
}

struct drill *drill_create_at(uint64_t seed, const char *local, uint16_t mtu, uint64_t now)
{
    struct drill *d = calloc(1, sizeof *d);

    if (!d)
        return NULL;
    d->now = now;
    d->out_tail = &d->out;
    d->path.mtu = mtu;
    tcp_config_defaults(&d->config);
    d->config.trace_keep = 2; /* for --record */
    d->config.trace_ring = 1 << 20;
    for (int i = 0; i < DRILL_FDS; i++) {
        d->fds[i].number = i;
        list_init(&d->fds[i].watchers);
        list_init(&d->fds[i].items);
        list_init(&d->fds[i].ready);
    }
    /* Not malloc(): pages that no script touches are never made. */
    d->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    d->pool = d->arena != MAP_FAILED ? chunk_pool_create(d->arena, ARENA_BYTES) : NULL;
    if (!d->pool || !parse_locals(d, local) || !create_engine(d, seed)) {
        drill_destroy(d);
        return NULL;
    }
    return d;
}

void drill_destroy(struct drill *d)
{
    if (!d)
        return;
    for (int i = 0; i < DRILL_FDS; i++)
        drill_epoll_forget(&d->fds[i]);
    for (int i = 0; i < DRILL_FDS; i++) {
        if (d->fds[i].kind == DRILL_FD_SOCK)
            sock_abort(d->fds[i].sock, d->now);
    }
    socks_destroy(d->ss);
    tcp_destroy(d->tcp);
    chunk_pool_destroy(d->pool);
    if (d->arena != MAP_FAILED)
        munmap(d->arena, ARENA_BYTES);
    for (struct drill_out *o = d->out, *next; o; o = next) {
        next = o->next;
        free(o);
    }
    free(d);
}

const char *drill_check(const struct drill *d)
{
    return tcp_check_all(d->tcp);
}

int drill_sysctl(struct drill *d, const char *name, int64_t value)
{
    const struct tcp_config_row *row = tcp_config_find(name);

    return row ? tcp_config_set(&d->config, row, value) : -ENOENT;
}

int drill_sysctl_text(struct drill *d, const char *name, const char *value)
{
    const struct tcp_config_row *row = tcp_config_find(name);
    int32_t v = row ? tcp_config_named(row, value) : -1;

    return v < 0 ? -ENOENT : tcp_config_set(&d->config, row, v);
}

int drill_fastopen_key(struct drill *d, const uint8_t *keys, uint32_t bytes)
{
    uint8_t key[2][16] = {{0}};

    if (bytes != sizeof key[0] && bytes != sizeof key)
        return -EINVAL;
    memcpy(key, keys, bytes);
    return tcp_fastopen_set_keys(d->tcp, 0, (const uint8_t(*)[16])key, bytes / sizeof key[0]);
}

bool drill_listens(const struct drill *d, uint16_t port)
{
    struct tcp_listen_info info;

    for (struct sock *s = sock_next_listener(d->ss, NULL); s; s = sock_next_listener(d->ss, s)) {
        if (sock_listen_info(s, &info) == 0 && info.port == port)
            return true;
    }
    return false;
}

uint32_t drill_metrics_flush(struct drill *d)
{
    return tcp_metrics_flush(d->tcp, NULL);
}

int drill_metrics(struct drill *d, const char *remote, uint32_t rtt, uint32_t ssthresh, uint32_t reordering)
{
    struct tcp_metrics m = {.rtt = rtt, .ssthresh = ssthresh, .reordering = reordering};

    if (!ip_addr_parse(remote, &m.remote))
        return -EINVAL;
    for (unsigned i = 0; i < d->n_local; i++) {
        if (d->local[i].family == m.remote.family)
            tcp_metrics_learn(d->tcp, &d->local[i], &m.remote, &m, d->now);
    }
    return 0;
}

void drill_route(struct drill *d, uint16_t mtu, uint16_t advmss, uint8_t initcwnd, uint8_t initrwnd)
{
    d->path_news = d->path_news || mtu != d->path.mtu;
    d->path = (struct tcp_path){.mtu = mtu, .advmss = advmss, .initcwnd = initcwnd, .initrwnd = initrwnd};
}

void drill_device(struct drill *d, uint32_t gso_max, int32_t refuse)
{
    d->refuse = refuse != 0;
    tcp_set_gso_max(d->tcp, gso_max);
    drill_turn(d);
}

uint64_t drill_now(const struct drill *d)
{
    return d->now;
}

uint64_t drill_deadline(const struct drill *d)
{
    uint64_t engine = tcp_deadline(d->tcp), calls = drill_calls_deadline(d);

    return engine < calls ? engine : calls;
}

/* ---- The turn -------------------------------------------------------------------------------------------------- */

static bool tell_sockets(struct drill *d)
{
    struct sock_event e;
    bool any = false;

    while (sock_next_event(d->ss, &e)) {
        struct drill_fd *f = e.user;

        any = true;
        if (!f)
            continue;
        drill_epoll_wake(f, e.bits);
        drill_calls_wake(d, f, e.bits);
    }
    return any;
}

static void send_out(struct drill *d)
{
    if (d->refuse)
        tcp_tx_refused(d->tcp, &d->scratch, d->now);
    else
        drill_emit(d, &d->scratch);
}

/* As the stack does before it asks for a segment. */
static void tell_path(struct drill *d)
{
    if (!d->path_news)
        return;
    d->path_news = false;
    for (tcp_id id = tcp_next_id(d->tcp, 0); id; id = tcp_next_id(d->tcp, id))
        tcp_path_mtu(d->tcp, id, d->path.mtu);
}

static bool pull_segments(struct drill *d)
{
    bool any = false;

    (void)tcp_commit(d->tcp, d->now);
    while (tcp_next_reply(d->tcp, d->now, &d->scratch)) {
        send_out(d);
        any = true;
    }
    while (tcp_next_ready(d->tcp, &d->scratch)) {
        tcp_id id = d->scratch.id;

        any = true;
        tell_path(d);
        while (tcp_output(d->tcp, id, d->now, &d->scratch)) {
            send_out(d);
            if (d->refuse)
                break;
        }
    }
    return any;
}

void drill_turn(struct drill *d)
{
    if (d->held)
        return; /* telling a socket's owner asks, and so moves, the socket: the record tells of what came of it */
    for (unsigned i = 0; i < 1000; i++) {
        bool any = pull_segments(d);

        any = tell_sockets(d) || any;
        any = drill_calls_run(d) || any;
        if (!any)
            return;
    }
}

void drill_hold(struct drill *d)
{
    d->held = true;
}

static void note_left(struct drill *d)
{
    const struct tcp_out *o = &d->scratch;

    d->left[d->n_left++ % DRILL_LEFT] = (struct drill_left){.id = o->id, .seq = o->seg.seq, .len = o->seg.len,
        .flags = o->seg.flags, .retransmission = o->retransmission, .cause = o->cause};
}

void drill_next_hop(struct drill *d, int what, int error)
{
    tcp_id id = d->waits;

    if (tcp_next_ready(d->tcp, &d->scratch))
        id = d->scratch.id;
    if (what == 0)
        tcp_suspend(d->tcp, id);
    else if (what == 1)
        tcp_resume(d->tcp, id);
    else
        tcp_unreachable(d->tcp, id, error, d->now);
    d->waits = what == 0 ? id : 0;
}

int drill_refused(struct drill *d, uint32_t seq)
{
    unsigned n = d->n_left < DRILL_LEFT ? d->n_left : DRILL_LEFT;

    for (unsigned i = 1; i <= n; i++) {
        struct drill_left *l = &d->left[(d->n_left - i) % DRILL_LEFT];
        struct tcp_out out = {.id = l->id, .cause = l->cause, .retransmission = l->retransmission};

        if (!l->id || seq - l->seq >= (l->len ? l->len : 1))
            continue;
        out.seg.seq = seq;
        out.seg.len = l->len - (seq - l->seq);
        out.seg.flags = l->flags;
        l->id = seq == l->seq ? 0 : l->id; /* what the device cut comes back piece by piece, the last one first */
        l->len = seq - l->seq;
        tcp_tx_refused(d->tcp, &out, d->now);
        drill_turn(d);
        return 0;
    }
    return -ENOENT;
}

int drill_pull(struct drill *d, bool again)
{
    int made = 1;

    (void)tcp_commit(d->tcp, d->now);
    if (!tcp_next_reply(d->tcp, d->now, &d->scratch)) {
        if (tcp_next_ready(d->tcp, &d->scratch))
            d->asked = d->scratch.id;
        else if (!again)
            return -1;
        tell_path(d);
        made = tcp_output(d->tcp, d->asked, d->now, &d->scratch);
        if (made)
            note_left(d);
    }
    if (made)
        send_out(d);
    drill_turn(d);
    return made;
}

static uint64_t events_told(const struct drill *d)
{
    struct tcp_trace_totals totals;

    tcp_trace_totals(d->tcp, &totals);
    return totals.events;
}

int drill_expire(struct drill *d)
{
    uint64_t before = events_told(d);

    if (tcp_deadline(d->tcp) > d->now)
        return 0;
    tcp_expire(d->tcp, d->now);
    drill_turn(d);
    return events_told(d) > before ? 2 : 1;
}

bool drill_advance(struct drill *d, uint64_t to)
{
    if (d->held) {
        d->now = to > d->now ? to : d->now;
        return true;
    }
    for (unsigned i = 0; i < TURNS_MAX; i++) {
        uint64_t at = drill_deadline(d);

        if (at > to) {
            if (to > d->now)
                d->now = to;
            return true;
        }
        if (at > d->now)
            d->now = at;
        tcp_expire(d->tcp, d->now);
        drill_turn(d);
    }
    return false;
}

/* ---- Looking in ------------------------------------------------------------------------------------------------ */

int drill_output(struct drill *d, uint8_t *packet, size_t room, struct drill_packet *ret)
{
    struct drill_out *o = d->out;

    if (!o)
        return 0;
    if (o->info.bytes > room)
        return -EMSGSIZE;
    *ret = o->info;
    memcpy(packet, o->bytes, o->info.bytes);
    d->out = o->next;
    if (!d->out)
        d->out_tail = &d->out;
    free(o);
    return (int)ret->bytes;
}

const char *drill_cause_name(int32_t cause)
{
    return cause >= 0 && cause < TCP_CAUSE_MAX ? tcp_cause_name((enum tcp_cause)cause) : "?";
}

int64_t drill_trace(const struct drill *d, uint32_t n, uint8_t *buf, uint64_t room)
{
    struct tcp_trace_row r;
    uint32_t at = 0;

    while (tcp_trace_next(d->tcp, &at, &r)) {
        if (r.kind != TCP_REC_KIND_ENGINE && n-- == 0)
            return tcp_trace_dump(d->tcp, r.id, d->now, 0, buf, room);
    }
    return 0;
}

char *drill_coverage(const struct drill *d, char *buf, uint64_t room)
{
    const uint64_t *causes = tcp_get_causes(d->tcp), *drops = tcp_get_drops(d->tcp);
    size_t used = 0;

    buf[0] = 0;
    for (unsigned i = 0; i < TCP_CAUSE_MAX; i++) {
        if (causes[i] && used + 80 < room)
            used += (size_t)snprintf(buf + used, room - used, "CAUSE_%s\n", tcp_cause_name((enum tcp_cause)i));
    }
    for (unsigned i = 0; i < TCP_DROP_MAX; i++) {
        if (drops[i] && used + 80 < room)
            used += (size_t)snprintf(buf + used, room - used, "DROP_%s\n", tcp_drop_name((enum tcp_drop)i));
    }
    return buf;
}

char *drill_drops(struct drill *d, char *buf, size_t n)
{
    const uint64_t *drops = tcp_get_drops(d->tcp);
    size_t used = 0;

    buf[0] = 0;
    for (unsigned i = 0; i < TCP_DROP_MAX; i++) {
        const char *name = tcp_drop_name((enum tcp_drop)i);
        size_t len = strlen(name);

        if (drops[i] == d->drops[i] || used + len + 2 > n)
            continue;
        d->drops[i] = drops[i];
        if (used)
            buf[used++] = ' ';
        memcpy(buf + used, name, len + 1);
        used += len;
    }
    return buf;
}

int64_t drill_counter(const struct drill *d, const char *metric)
{
    const struct tcp_counters *c = tcp_get_counters(d->tcp);

#define X(name, text, help)                                                                                    \
    if (strcmp(metric, text) == 0)                                                                             \
        return (int64_t)c->name;
    TCP_COUNTERS(X)
#undef X
    return -1;
}
