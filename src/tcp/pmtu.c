/*
 * tcp/pmtu.c: the path MTU without ICMP's help (PLPMTUD: RFC 4821, RFC 8899; Linux's tcp_mtu_probing 1 and 2).
 *
 * Sizes are of IP packets. search_low is known to pass, search_high is the most that may; while `enabled`, segments are
 * not larger than search_low allows:
 *
 *     mss <= tcp_mtu_to_mss(min(pmtu, search_low))     probe = (search_low + search_high) / 2, if it is worth it
 *
 * A probe is new data in one segment larger than mss: a descriptor of its own size that counts one
 * (TCP_DESC_PROBE), never a super-frame. If it is acknowledged, search_low is its size. If it alone is lost,
 * search_high is below it; it is cut and sent again and cwnd stays: nothing was congested. If anything is sent again
 * first, nothing is known: it was inconclusive. Timeouts after timeouts mean a black hole (something drops what is
 * larger and says nothing): then probing begins, or search_low is halved.
 *
 * output.c asks tcp_mtup_plan() and tells what left; ack.c, recovery.c, icmp.c and the RTO tell how it ended. Builds
 * no segment.
 */
#include "tcp/recovery.h"

#define MTUP_CWND_MIN 11u /* segments: below it a loss would be repaired by the RTO only */

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

uint32_t tcp_mss_to_mtu(const struct tcp_conn *c, uint32_t mss)
{
    return mss + tcp_ip_headers_bytes(c->tuple.remote.family) + tcp_mss_options(c);
}

static uint32_t search_high_of(const struct tcp_conn *c)
{
    return c->mss_clamp + tcp_ip_headers_bytes(c->tuple.remote.family);
}

void tcp_mtup_init(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    c->mtup.enabled = t->config->tcp_mtu_probing > 1;
    c->mtup.search_high = search_high_of(c);
    c->mtup.search_low = tcp_mss_to_mtu(c, (uint32_t)t->config->tcp_base_mss);
    c->mtup.probe_size = 0;
    if (c->mtup.enabled)
        c->mtup.probe_timestamp = now;
}

/* ---- is it time for a probe? -------------------------------------------------------------------------- */

/* Unlike Linux's, never beyond what our own side of the path takes: such a probe would not even leave. */
static uint32_t search_high(const struct tcp_conn *c)
{
    uint32_t most = larger(c->pmtu, c->path.mtu);

    return c->mtup.search_high < most ? c->mtup.search_high : most;
}

static uint32_t probe_bytes(const struct tcp *t, const struct tcp_conn *c)
{
    return tcp_mtu_to_mss(t, c, (search_high(c) + c->mtup.search_low) / 2);
}

/* Is there anything left to find out? */
static bool worth_probing(const struct tcp *t, const struct tcp_conn *c)
{
    uint32_t high = search_high(c), least = larger(1, (uint32_t)t->config->tcp_probe_threshold);

    return high >= c->mtup.search_low && high - c->mtup.search_low >= least &&
           probe_bytes(t, c) <= tcp_mtu_to_mss(t, c, high);
}

/*
 * RFC 4821 section 7.7: the search is over; after a while the path may be another one (tcp_mtu_check_reprobe).
 */
void tcp_mtup_check_reprobe(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint64_t interval = (uint32_t)t->config->tcp_probe_interval * NSEC_PER_SEC;

    if (!tcp_mtup_may_probe(c) || worth_probing(t, c) || time_since(now, c->mtup.probe_timestamp) < interval)
        return;
    c->mtup.search_high = search_high_of(c);
    c->mtup.search_low = tcp_mss_to_mtu(c, tcp_current_mss(c));
    c->mtup.probe_timestamp = now;
}

bool tcp_mtup_may_probe(const struct tcp_conn *c)
{
    return c->mtup.enabled && !c->mtup.probe_size && c->ca_state == TCP_CA_OPEN && c->win.cwnd >= MTUP_CWND_MIN &&
           c->rcvq.n_ranges == 0; /* SACK blocks take room that varies */
}

/* Do the cells at the head give so many bytes without the end of a record between them? */
static bool cells_join(const struct tcp_conn *c, uint32_t bytes)
{
    uint32_t end = c->writeq.start + bytes;

    for (uint32_t i = 0; i < c->writeq.count; i++) {
        const struct tcp_cell *cell = tcp_writeq_at(&c->writeq, i);

        if (seq_leq(end, cell->end))
            return true;
        if (cell->flags & TCP_CELL_EOR)
            return false;
    }
    return false;
}

enum tcp_mtup_verdict tcp_mtup_plan(const struct tcp *t, const struct tcp_conn *c, uint32_t *ret_bytes)
{
    uint32_t bytes, needed, flying = tcp_in_flight(c);

    if (!tcp_mtup_may_probe(c) || !worth_probing(t, c))
        return TCP_MTUP_NO;
    bytes = probe_bytes(t, c);
    /* Enough behind it that its loss is found by duplicate ACKs (RFC 4821 section 7.2). */
    needed = bytes + (c->reordering + 1u) * c->mss;
    if (c->write_seq - c->snd_nxt < needed || c->snd_wnd < needed)
        return TCP_MTUP_NO;
    if (seq_gt(c->snd_nxt + needed, tcp_wnd_end(c)))
        return flying ? TCP_MTUP_WAIT : TCP_MTUP_NO;
    if (flying + 2 > c->win.cwnd)
        return flying ? TCP_MTUP_WAIT : TCP_MTUP_NO;
    if (!cells_join(c, bytes))
        return TCP_MTUP_NO;
    *ret_bytes = bytes;
    return TCP_MTUP_SEND;
}

/* ---- a probe's life ------------------------------------------------------------------------------------ */

void tcp_mtup_sent(struct tcp_conn *c, const struct tcp_desc *d)
{
    c->win.cwnd--; /* it is worth about two */
    c->mtup.probe_size = tcp_mss_to_mtu(c, tcp_desc_len(d));
    c->mtup.probe_seq_start = d->seq;
    c->mtup.probe_seq_end = d->end;
}

void tcp_mtup_unsent(struct tcp_conn *c, uint32_t seq)
{
    if (!c->mtup.probe_size || seq != c->mtup.probe_seq_start)
        return;
    c->mtup.probe_size = 0;
    c->win.cwnd++;
}

/* Acknowledged: larger segments from now on, and so fewer in the window (tcp_mtup_probe_success). */
void tcp_mtup_acked(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint64_t cwnd;

    if (!c->mtup.probe_size || seq_gt(c->mtup.probe_seq_end, c->snd_una))
        return;
    c->prior_ssthresh = tcp_current_ssthresh(c);
    cwnd = (uint64_t)c->win.cwnd * tcp_mss_to_mtu(c, c->mss) / c->mtup.probe_size;
    c->win.cwnd = cwnd > 1 ? (uint32_t)cwnd : 1;
    c->win.cwnd_cnt = 0;
    c->snd_cwnd_stamp = now;
    c->win.ssthresh = tcp_current_ssthresh(c);
    c->mtup.search_low = c->mtup.probe_size;
    c->mtup.probe_size = 0;
    t->counters.mtup_success++;
    tcp_sync_mss(t, c, c->pmtu);
}

static void probe_failed(struct tcp *t, struct tcp_conn *c, uint32_t high)
{
    t->counters.mtup_fail++;
    c->mtup.search_high = high;
    c->mtup.probe_size = 0;
    c->win.cwnd++; /* what tcp_mtup_sent() took */
    tcp_simple_retransmit(t, c, c->mss);
}

bool tcp_mtup_lost(struct tcp *t, struct tcp_conn *c)
{
    if (c->ca_state >= TCP_CA_CWR || !c->mtup.probe_size || c->snd_una != c->mtup.probe_seq_start)
        return false;
    probe_failed(t, c, c->mtup.probe_size - 1);
    return true;
}

/* RFC 8899 section 4.6.1: larger than the segments in use, smaller than the probe: news about the probe alone. */
bool tcp_mtup_too_big(struct tcp *t, struct tcp_conn *c, uint32_t seq, uint32_t mtu)
{
    if (!c->mtup.probe_size || mtu >= c->mtup.probe_size || seq != c->mtup.probe_seq_start)
        return false;
    probe_failed(t, c, mtu);
    return true;
}

/* ---- black holes ----------------------------------------------------------------------------------------- */

/* RFC 4821 section 7.7 ("full-stop timeout"), tcp_mtu_probing(): the third timeout or so in a row. */
void tcp_mtup_black_hole(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    const struct tcp_config *config = t->config;
    uint32_t mss;

    if (!config->tcp_mtu_probing)
        return;
    if (!c->mtup.enabled) {
        c->mtup.enabled = true;
        c->mtup.probe_timestamp = now;
    } else {
        mss = tcp_mtu_to_mss(t, c, c->mtup.search_low) / 2;
        if (mss > (uint32_t)config->tcp_base_mss)
            mss = (uint32_t)config->tcp_base_mss;
        mss = larger(mss, (uint32_t)config->tcp_mtu_probe_floor);
        mss = larger(mss, (uint32_t)config->tcp_min_snd_mss);
        c->mtup.search_low = tcp_mss_to_mtu(c, mss);
    }
    tcp_sync_mss(t, c, c->pmtu);
}

/* ---- smaller and larger --------------------------------------------------------------------------------- */

/*
 * What was sent in segments of more than `mss` went nowhere. It is sent again at once, in pieces. The window stays as
 * it is (nothing was congested), but growing waits until this is repaired. `mss` is, or will be, the connection's.
 */
void tcp_simple_retransmit(struct tcp *t, struct tcp_conn *c, uint32_t mss)
{
    for (uint32_t i = 0; i < c->sndq.count; i++) {
        struct tcp_desc *d = tcp_sndq_at(&c->sndq, i);
        uint32_t len = tcp_desc_len(d);

        if ((len < d->mss ? len : d->mss) > mss)
            (void)tcp_sndq_mark_lost(&c->sndq, d);
    }
    if (c->sndq.lost_out > 0)
        tcp_non_congestion_loss(t, c);
}

void tcp_follow_path(struct tcp *t, struct tcp_conn *c)
{
    if (c->path.mtu != c->pmtu && !tcp_handshaking(c) && c->path.mtu)
        tcp_sync_mss(t, c, c->path.mtu);
}

void tcp_path_mtu(struct tcp *t, tcp_id id, uint16_t mtu)
{
    const struct tcp_conn *as_is = tcp_conn_view(t, id); /* whom it doesn't concern isn't woken */
    struct tcp_conn *c;

    if (!as_is || as_is->path.mtu == mtu || tcp_handshaking(as_is) || as_is->state == TCP_STATE_CLOSE)
        return;
    c = tcp_conn_by_id(t, id);
    if (!c)
        return;
    c->path.mtu = mtu;
    if (mtu < c->pmtu)
        tcp_sync_mss(t, c, mtu);
    tcp_mark_dirty(t, c);
}

const char *tcp_mtup_check(const struct tcp_conn *c)
{
    const struct tcp_desc *d;
    uint32_t i;

    if (!c->mtup.probe_size)
        return NULL;
    if (!c->mtup.enabled)
        return "a path-MTU probe is out, and probing is off";
    if (!seq_lt(c->snd_una, c->mtup.probe_seq_end) || !seq_leq(c->mtup.probe_seq_end, c->snd_nxt))
        return "a path-MTU probe is out, but not between snd_una and snd_nxt";
    i = tcp_sndq_find(&c->sndq, c->mtup.probe_seq_end - 1);
    d = tcp_sndq_at(&c->sndq, i);
    if (d->end != c->mtup.probe_seq_end || !(d->flags & TCP_DESC_PROBE) || d->pcount != 1)
        return "a path-MTU probe is not one segment";
    return NULL;
}
