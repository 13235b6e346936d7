/*
 * tcp/metrics.c: what connections to a destination learned, for the next one (Linux's tcp_metrics, RFC 9040).
 *
 * A set-associative table of fixed size, keyed by both addresses; where a set is full the entry written
 * longest ago gives way. Nobody walks it and no timer runs: an entry older than an hour counts as empty. Read
 * at establishment, written when a connection closed in good order, and by Fast Open's handshakes. Times are
 * kept as struct tcp_rtt keeps them (srtt << 3, mdev << 2). Nothing here is needed to be right: a lost entry
 * costs a slower start. With tcp_params.keep what changed is published by tcp_commit(), and the next engine begins with it.
 */
#include "tcp/tcp_priv.h"

#define WAYS            4u
#define METRICS_DEFAULT 4096u
#define VALID_NS        (3600 * NSEC_PER_SEC) /* Linux TCP_METRICS_TIMEOUT */

/*
 * written_at 0: free. try_exp 0: RFC 7413's option, 1: the experimental one next, 2: it was tried. The fields are those
 * that outlive a crash, too; kept is their place in the arena.
 */
#define METRIC_FIELDS_NOW(F)                                                                                   \
    F(struct ip_addr, local) F(struct ip_addr, remote) F(uint64_t, written_at) F(uint32_t, rtt)                \
    F(uint32_t, rttvar) F(uint32_t, ssthresh) F(uint32_t, cwnd) F(uint32_t, reordering) F(uint32_t, syn_loss)  \
    F(uint16_t, fastopen_mss) F(uint8_t, try_exp) F(struct tcp_fastopen_cookie, cookie)

#ifdef TAUT_RECORD_NEXT /* tests of upgrades: a successor that knows more */
#define METRIC_FIELDS(F) METRIC_FIELDS_NOW(F) F(uint64_t, of_the_future)
#else
#define METRIC_FIELDS(F) METRIC_FIELDS_NOW(F)
#endif

struct metric_entry {
    METRIC_FIELDS(KEEP_MEMBER)
};

struct metric {
    METRIC_FIELDS(KEEP_MEMBER)
    uint32_t kept;
};

struct tcp_metrics_cache {
    struct metric *entry; /* n_sets * WAYS */
    uint32_t n_sets;
    struct keep keep;
    unsigned restored;
};

static uint32_t sets(uint32_t max_metrics)
{
    return ((max_metrics ? max_metrics : METRICS_DEFAULT) + WAYS - 1) / WAYS;
}

struct keep_spec tcp_metrics_spec(uint32_t max_metrics)
{
    return (struct keep_spec){.name = "metrics",
                              .layout = keep_layout(METRIC_FIELDS(KEEP_TEXT), sizeof(struct metric_entry)),
                              .entry_bytes = sizeof(struct metric_entry),
                              .slots = sets(max_metrics) * WAYS};
}

void tcp_metrics_destroy(struct tcp *t)
{
    if (!t->metrics)
        return;
    keep_detach(&t->metrics->keep);
    free(t->metrics->entry);
    free(t->metrics);
    t->metrics = NULL;
}

/* ---- look-up ---- */

static struct metric *set_of(const struct tcp *t, const struct ip_tuple *tuple)
{
    struct ip_addr pair[2] = {tuple->local, tuple->remote};

    return &t->metrics->entry[siphash(&t->secrets.hash, pair, sizeof pair) % t->metrics->n_sets * WAYS];
}

static bool is_live(const struct metric *m, uint64_t now)
{
    return m->written_at && time_since(now, m->written_at) < VALID_NS;
}

/* The entry, outdated or not. */
static struct metric *find(const struct tcp *t, const struct ip_tuple *tuple)
{
    struct metric *set = set_of(t, tuple);

    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].written_at && ip_addr_eq(&set[i].remote, &tuple->remote) &&
            ip_addr_eq(&set[i].local, &tuple->local))
            return &set[i];
    return NULL;
}

static const struct metric *find_live(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now)
{
    const struct metric *m = find(t, tuple);

    return m && is_live(m, now) ? m : NULL;
}

/* Another entry, in the place that this one has in the arena. */
static void renew(struct metric *m, struct metric as)
{
    as.kept = m->kept;
    *m = as;
}

/* The entry, or one of the set that is made it: an outdated one, else the oldest. */
static struct metric *find_or_make(struct tcp *t, const struct ip_tuple *tuple, uint64_t now)
{
    struct metric *m = find(t, tuple), *set = set_of(t, tuple);

    if (m && is_live(m, now))
        return m;
    for (unsigned i = 0; !m && i < WAYS; i++)
        if (!set[i].written_at)
            m = &set[i];
    if (!m) {
        m = &set[0];
        for (unsigned i = 1; i < WAYS; i++)
            if (set[i].written_at < m->written_at)
                m = &set[i];
    }
    renew(m, (struct metric){.local = tuple->local, .remote = tuple->remote, .written_at = now ? now : 1});
    return m;
}

/* ---- what outlives a crash ---- */

/* It was changed: published with the next commit. */
static void changed(struct tcp *t, struct metric *m)
{
    struct keep *k = &t->metrics->keep;

    if (m->written_at && !m->kept)
        m->kept = keep_take(k, m);
    keep_mark(k, m->kept);
}

void tcp_metrics_commit(struct tcp *t)
{
    struct keep *k = &t->metrics->keep;
    uint32_t place;
    void *owner;

    while (keep_next_dirty(k, &place, &owner)) {
        const struct metric *m = owner;
        struct metric_entry e;

        if (!m) {
            keep_drop(k, place);
            continue;
        }
        memset(&e, 0, sizeof e);
#define COPY(type, name) e.name = m->name;
        METRIC_FIELDS(COPY)
#undef COPY
        keep_put(k, place, &e);
    }
}

/* In the set of its addresses, whose hash has the same key as before; false: it is full, or the entry outdated. */
static bool load_one(struct tcp *t, uint32_t slot, const struct metric_entry *e)
{
    struct ip_tuple tuple = {.local = e->local, .remote = e->remote};
    struct metric *set = set_of(t, &tuple);

    if (!e->written_at || time_since(t->params.now, e->written_at) >= VALID_NS || find(t, &tuple))
        return false;
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].written_at)
            continue;
#define COPY(type, name) set[i].name = e->name;
        METRIC_FIELDS(COPY)
#undef COPY
        set[i].kept = slot + 1;
        keep_own(&t->metrics->keep, slot + 1, &set[i]);
        return true;
    }
    return false;
}

static void load(struct tcp *t)
{
    struct tcp_metrics_cache *m = t->metrics;
    struct metric_entry e;

    for (uint32_t slot = 0; slot < keep_touched(&m->keep); slot++)
        if (keep_get(&m->keep, slot, &e))
            m->restored += load_one(t, slot, &e);
    keep_loaded(&m->keep);
}

void tcp_metrics_restored(const struct tcp *t, unsigned *ret_restored, unsigned *ret_damaged)
{
    *ret_restored = t->metrics->restored;
    *ret_damaged = t->metrics->keep.damaged;
}

int tcp_metrics_init(struct tcp *t)
{
    struct tcp_metrics_cache *m = calloc(1, sizeof *m);
    struct keep_spec spec = tcp_metrics_spec(t->params.max_metrics);

    if (!m)
        return -ENOMEM;
    t->metrics = m;
    m->n_sets = sets(t->params.max_metrics);
    m->entry = calloc((size_t)m->n_sets * WAYS, sizeof *m->entry);
    if (!m->entry || !keep_attach(&m->keep, t->params.keep, &spec))
        return -ENOMEM;
    load(t);
    return 0;
}

bool tcp_metrics_proven(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now)
{
    const struct metric *m = find_live(t, tuple, now);

    return m && m->rtt;
}

/* ---- at establishment ---- */

void tcp_metrics_read(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    const uint32_t fallback_us = 3000000; /* RFC 6298 section 5.7 */
    const struct metric *m = find_live(t, &c->tuple, now);
    uint32_t rtt = 0, min_us = (uint32_t)t->config->tcp_rto_min * 1000u;

    c->win.ssthresh = CC_SSTHRESH_INFINITE; /* lost SYNs are no reason to go slowly */
    if (m) {
        if (m->ssthresh && !t->config->tcp_no_ssthresh_metrics_save)
            c->win.ssthresh = m->ssthresh < c->win.cwnd_clamp ? m->ssthresh : c->win.cwnd_clamp;
        if (m->reordering)
            c->reordering = (uint16_t)m->reordering;
        rtt = m->rtt;
        if (t->rec && (m->rtt || m->ssthresh || m->reordering))
            tcp_rec_put_metrics(t, c, m->rtt, m->ssthresh, m->reordering, now);
    }
    if (rtt > c->rtt.srtt_us) {
        /* Data may take longer than a SYN did: the RTO as tcp_rtt_estimator would set it; srtt stays. */
        uint32_t us = rtt / 8, var = 2 * us > min_us ? 2 * us : min_us;

        c->rtt.rto_us = us + var;
    } else if (c->rtt.srtt_us == 0) {
        c->rtt.rttvar_us = c->rtt.mdev_us = c->rtt.mdev_max_us = fallback_us;
        c->rtt.rto_us = fallback_us;
    }
}

/* ---- at close ---- */

/* Too long a time does no harm, too short a one does: up at once, down slowly. */
static void write_rtt(struct metric *m, const struct tcp_rtt *r)
{
    int64_t d = (int64_t)m->rtt - (int64_t)r->srtt_us, dev;

    m->rtt = d <= 0 ? r->srtt_us : (uint32_t)(m->rtt - (d >> 3));
    dev = (d < 0 ? -d : d) >> 1;
    if (dev < (int64_t)r->mdev_us)
        dev = r->mdev_us;
    if (dev >= (int64_t)m->rttvar)
        m->rttvar = (uint32_t)dev;
    else
        m->rttvar -= (uint32_t)((m->rttvar - dev) >> 2);
}

static void write_window(const struct tcp *t, struct metric *m, const struct tcp_conn *c)
{
    uint32_t cwnd = c->win.cwnd, ssthresh = c->win.ssthresh;
    bool save_ssthresh = !t->config->tcp_no_ssthresh_metrics_save;

    if (ssthresh >= CC_SSTHRESH_INFINITE) {
        /* Slow start has not ended yet. */
        if (save_ssthresh && m->ssthresh && (cwnd >> 1) > m->ssthresh)
            m->ssthresh = cwnd >> 1;
        if (cwnd > m->cwnd)
            m->cwnd = cwnd;
    } else if (cwnd >= ssthresh && c->ca_state == TCP_CA_OPEN) {
        /* Congestion avoidance: cwnd means something. */
        if (save_ssthresh)
            m->ssthresh = (cwnd >> 1) > ssthresh ? cwnd >> 1 : ssthresh;
        m->cwnd = (m->cwnd + cwnd) >> 1;
    } else {
        m->cwnd = (m->cwnd + ssthresh) >> 1;
        if (save_ssthresh && m->ssthresh && ssthresh > m->ssthresh)
            m->ssthresh = ssthresh;
    }
}

void tcp_metrics_write(struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    struct metric *m;

    if (t->config->tcp_no_metrics_save)
        return;
    if (c->backoff || !c->rtt.srtt_us) {
        /* Nothing came back in time: what was known is not true any more. */
        m = find(t, &c->tuple);
        if (m) {
            m->rtt = 0;
            changed(t, m);
        }
        return;
    }
    m = find_or_make(t, &c->tuple, now);
    write_rtt(m, &c->rtt);
    write_window(t, m, c);
    if (m->reordering < c->reordering && c->reordering != t->config->tcp_reordering)
        m->reordering = c->reordering;
    m->written_at = now ? now : 1;
    changed(t, m);
}

/* ---- Fast Open ---- */

void tcp_metrics_fastopen(const struct tcp *t, const struct tcp_conn *c, uint64_t now, uint16_t *inout_mss,
                          struct tcp_fastopen_cookie *ret)
{
    const struct metric *m = find_live(t, &c->tuple, now);

    *ret = (struct tcp_fastopen_cookie){0};
    if (!m)
        return;
    if (m->fastopen_mss)
        *inout_mss = m->fastopen_mss;
    *ret = m->cookie;
    if (ret->bytes <= 0 && m->try_exp == 1)
        ret->exp = true;
}

void tcp_metrics_set_fastopen(struct tcp *t, const struct tcp_conn *c, uint16_t mss,
                              const struct tcp_fastopen_cookie *cookie, bool syn_lost, unsigned try_exp,
                              uint64_t now)
{
    struct metric *m = find_or_make(t, &c->tuple, now);

    if (mss)
        m->fastopen_mss = mss;
    if (cookie->bytes > 0)
        m->cookie = *cookie;
    else if (try_exp > m->try_exp && m->cookie.bytes <= 0 && !m->cookie.exp)
        m->try_exp = (uint8_t)try_exp;
    m->syn_loss = syn_lost ? m->syn_loss + 1 : 0;
    changed(t, m);
}

/* ---- looking in ---- */

bool tcp_metrics_next(const struct tcp *t, uint32_t *inout_at, uint64_t now, struct tcp_metrics *ret)
{
    while (*inout_at < t->metrics->n_sets * WAYS) {
        const struct metric *m = &t->metrics->entry[(*inout_at)++];

        if (!is_live(m, now))
            continue;
        *ret = (struct tcp_metrics){
            .local = m->local,
            .remote = m->remote,
            .age = time_since(now, m->written_at) / NSEC_PER_USEC,
            .rtt_us = m->rtt >> 3,
            .rtt = m->rtt,
            .rttvar_us = m->rttvar >> 2,
            .ssthresh = m->ssthresh,
            .cwnd = m->cwnd,
            .reordering = m->reordering,
            .fastopen_mss = m->fastopen_mss,
            .fastopen_cookie_bytes = (uint8_t)(m->cookie.bytes > 0 ? m->cookie.bytes : 0),
            .fastopen_syn_loss = m->syn_loss,
        };
        memcpy(ret->fastopen_cookie, m->cookie.value, sizeof ret->fastopen_cookie);
        return true;
    }
    return false;
}

void tcp_metrics_learn(struct tcp *t, const struct ip_addr *local, const struct ip_addr *remote,
                       const struct tcp_metrics *what, uint64_t now)
{
    struct ip_tuple tuple = {.local = *local, .remote = *remote};
    struct metric *m = find_or_make(t, &tuple, now);

    m->rtt = what->rtt;
    m->ssthresh = what->ssthresh;
    m->reordering = what->reordering;
    m->written_at = now ? now : 1;
}

uint32_t tcp_metrics_flush(struct tcp *t, const struct ip_addr *remote)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->metrics->n_sets * WAYS; i++) {
        struct metric *m = &t->metrics->entry[i];

        if (!m->written_at || (remote && !ip_addr_eq(&m->remote, remote)))
            continue;
        keep_give(&t->metrics->keep, m->kept);
        *m = (struct metric){0};
        n++;
    }
    return n;
}
