/*
 * tcp/timers.c: a connection's timers.
 *
 * A connection has one absolute deadline per kind of timer (timer_at) and one timer in the engine's wheel:
 *
 *     timer.at <= min(timer_at[]) while any of them is set
 *
 * It is moved only when a deadline earlier than it comes; where deadlines move away it runs out for nothing,
 * finds nothing due and is armed anew. Where none is left when a segment has been processed it goes at once: its
 * neighbours in the wheel, which were armed at about the same time, are in the cache still, and would not be when it
 * runs out. Nothing changes before a deadline. Each kind has its function,
 * tcp_expired_<kind>(); they mark what is to be sent, end connections, but send and free nothing.
 */
#include "tcp/tcp_priv.h"

#define RESOURCE_PROBE_INTERVAL_NS (500 * NSEC_PER_MSEC) /* Linux TCP_RESOURCE_PROBE_INTERVAL */

static_assert(TCP_TIMER_MAX == 6, "every timer has an expiry function");

/* ---- deadlines
 * ------------------------------------------------------------------------------------------------ */

static uint64_t earliest(const struct tcp_conn *c)
{
    uint64_t at = TIME_NEVER;

    for (unsigned i = 0; i < TCP_TIMER_MAX; i++)
        at = time_min(at, c->timer_at[i]);
    return at;
}

void tcp_timer_set(struct tcp *t, struct tcp_conn *c, enum tcp_timer which, uint64_t at)
{
    c->rec.timers_moved |= (c->timer_at[which] == TIME_NEVER) != (at == TIME_NEVER);
    c->timer_at[which] = at;
    if (which == TCP_TIMER_RETRANS)
        c->rtx = TCP_RTX_RTO; /* tcp_set_retrans() says otherwise */
    if (at < c->timer.at)
        wheel_arm(&t->wheel, &c->timer, at);
}

void tcp_timers_settle(struct tcp *t, struct tcp_conn *c)
{
    if (c->timer_at[TCP_TIMER_RETRANS] == TIME_NEVER && c->timer.at != TIME_NEVER && earliest(c) == TIME_NEVER)
        wheel_disarm(&t->wheel, &c->timer);
}

void tcp_timers_off(struct tcp *t, struct tcp_conn *c)
{
    for (unsigned i = 0; i < TCP_TIMER_MAX; i++)
        c->timer_at[i] = TIME_NEVER;
    c->rec.timers_moved = true;
    c->rtx = TCP_RTX_RTO;
    wheel_disarm(&t->wheel, &c->timer);
}

uint64_t tcp_deadline(const struct tcp *t)
{
    return time_min(time_min(wheel_deadline(&t->wheel), tcp_park_deadline(t)),
                    time_min(tcp_req_deadline(t), tcp_tw_deadline(t)));
}

/* ---- giving up
 * ------------------------------------------------------------------------------------------------ */

static uint64_t rto_max_ns(const struct tcp *t)
{
    return (uint32_t)t->config->tcp_rto_max * NSEC_PER_MSEC;
}

/*
 * How long `boundary` timeouts take that begin at `base_ns` and double up to tcp_rto_max (tcp_model_timeout):
 * the number of retries is a measure of time, not a count, because Thin streams and probes back off
 * differently.
 */
static uint64_t model_timeout_ns(const struct tcp *t, unsigned boundary, uint64_t base_ns)
{
    uint64_t max_ns = rto_max_ns(t), total = 0, step = base_ns;

    for (unsigned i = 0; i <= boundary; i++) {
        total += step < max_ns ? step : max_ns;
        step = step < max_ns ? step * 2 : max_ns;
    }
    return total;
}

/*
 * retransmits_timed_out(). As in Linux retrans_stamp survives progress within a Loss phase (only retransmits begins anew): after
 * one that lasted longer than the limit the second timeout in a row ends the connection.
 */
static bool retransmits_timed_out(const struct tcp *t, const struct tcp_conn *c, unsigned boundary,
                                  uint64_t now)
{
    uint64_t base_ms =
        tcp_handshaking(c) ? (uint64_t)t->config->tcp_rto_initial : (uint64_t)t->config->tcp_rto_min;
    uint64_t limit_ns = c->user_timeout_ms * NSEC_PER_MSEC;

    if (!c->retransmits || !c->retrans_stamp)
        return false;
    if (!limit_ns)
        limit_ns = model_timeout_ns(t, boundary, base_ms * NSEC_PER_MSEC);
    return time_since(now, c->retrans_stamp) >= limit_ns;
}

/* tcp_orphan_retries(): 8 while the peer seems alive, none once errors have come back and the RTO is at its
 * end. */
static unsigned orphan_retries(const struct tcp *t, const struct tcp_conn *c, bool alive)
{
    unsigned retries = (unsigned)t->config->tcp_orphan_retries;

    if (c->error_soft && !alive)
        retries = 0;
    return retries == 0 && alive ? 8 : retries;
}

static uint64_t rto_ns(const struct tcp *t, const struct tcp_conn *c)
{
    return tcp_rtt_backed_off_us(&c->rtt, c->backoff, (uint32_t)t->config->tcp_rto_max * 1000u) *
           NSEC_PER_USEC;
}

/* tcp_write_timeout() */
bool tcp_timed_out(const struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    unsigned boundary = (unsigned)t->config->tcp_retries2;

    if (tcp_handshaking(c)) {
        boundary = c->syn_retries ? c->syn_retries : (unsigned)t->config->tcp_syn_retries;
        if (c->retransmits >= boundary)
            return true;
    } else if (!c->owned) {
        boundary = orphan_retries(t, c, rto_ns(t, c) < rto_max_ns(t));
    }
    return retransmits_timed_out(t, c, boundary, now);
}

bool tcp_path_suspected(const struct tcp *t, const struct tcp_conn *c, uint64_t now)
{
    uint64_t rto_min = (uint32_t)t->config->tcp_rto_min * NSEC_PER_MSEC;

    return c->retransmits && c->retrans_stamp &&
           time_since(now, c->retrans_stamp) >= model_timeout_ns(t, (unsigned)t->config->tcp_retries1, rto_min);
}

void tcp_write_error(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    t->counters.abort_on_timeout++;
    tcp_done(t, c, c->error_soft ? c->error_soft : ETIMEDOUT, true, now);
}

bool tcp_orphan_over_limit(struct tcp *t)
{
    return t->orphans > (uint32_t)t->config->tcp_max_orphans;
}

/* tcp_fin_time(): at least three and a half RTOs. */
uint64_t tcp_fin_time(const struct tcp *t, const struct tcp_conn *c)
{
    uint64_t fin_s = (uint64_t)(c->linger2_s > 0 ? c->linger2_s : t->config->tcp_fin_timeout);
    uint64_t rto = rto_ns(t, c);

    return time_max(fin_s * NSEC_PER_SEC, 4 * rto - rto / 2);
}

/* ---- keepalive
 * ------------------------------------------------------------------------------------------------ */

static uint64_t keepalive_time_ns(const struct tcp *t, const struct tcp_conn *c)
{
    return (c->keepalive_time_s ? c->keepalive_time_s : (uint32_t)t->config->tcp_keepalive_time) *
           NSEC_PER_SEC;
}

static uint64_t keepalive_intvl_ns(const struct tcp *t, const struct tcp_conn *c)
{
    return (c->keepalive_intvl_s ? c->keepalive_intvl_s : (uint32_t)t->config->tcp_keepalive_intvl) *
           NSEC_PER_SEC;
}

static unsigned keepalive_probes(const struct tcp *t, const struct tcp_conn *c)
{
    return c->keepalive_probes ? c->keepalive_probes : (unsigned)t->config->tcp_keepalive_probes;
}

/* Since anything was heard of the peer (keepalive_time_elapsed). */
static uint64_t keepalive_idle_ns(const struct tcp_conn *c, uint64_t now)
{
    return time_since(now, time_max(c->last_data_recv_at, c->rcv_tstamp));
}

void tcp_keepalive_start(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (!c->keepalive || c->state == TCP_STATE_CLOSE || c->state == TCP_STATE_SYN_SENT)
        return;
    tcp_timer_set(t, c, TCP_TIMER_KEEPALIVE, time_add(now, keepalive_time_ns(t, c)));
}

/* Has the peer been silent for too many probes, or for the user timeout? */
static bool keepalive_given_up(const struct tcp *t, const struct tcp_conn *c, uint64_t idle_ns)
{
    if (c->user_timeout_ms)
        return idle_ns >= c->user_timeout_ms * NSEC_PER_MSEC && c->probes_out > 0;
    return c->probes_out >= keepalive_probes(t, c);
}

/* tcp_keepalive_timer(); RFC 9293 section 3.8.4. While data is in flight or waits, the RTO and the prober
 * watch. */
static void tcp_expired_keepalive(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint64_t idle_ns = keepalive_idle_ns(c, now);
    uint64_t next_ns = keepalive_time_ns(t, c);

    if (!c->keepalive || c->state == TCP_STATE_SYN_SENT)
        return;
    if (c->snd_una == c->write_seq + (c->fin_queued ? 1u : 0u)) {
        if (idle_ns < next_ns) {
            next_ns -= idle_ns;
        } else if (keepalive_given_up(t, c, idle_ns)) {
            t->counters.abort_on_timeout++;
            tcp_send_reset(t, c, TCP_CAUSE_RST_TIMEOUT, c->error_soft ? c->error_soft : ETIMEDOUT, true, now);
            return;
        } else if (c->suspended) {
            next_ns = RESOURCE_PROBE_INTERVAL_NS;
        } else {
            c->probes_out++;
            c->probe_pending = true;
            c->probe_cause = TCP_CAUSE_PROBE_KEEPALIVE;
            tcp_mark_ready(t, c);
            next_ns = keepalive_intvl_ns(t, c);
        }
    }
    tcp_timer_set(t, c, TCP_TIMER_KEEPALIVE, time_add(now, next_ns));
}

/* ---- the others
 * ----------------------------------------------------------------------------------------------- */

/* SYN, or the SYN-ACK of a simultaneous open, once more (tcp_retransmit_timer; RFC 6298 section 5). */
static void expired_syn(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (c->snd_nxt != c->snd_una) {
        tcp_rto_began(c, now);
        c->backoff++;
        c->total_syn_retrans++;
        t->counters.timeouts++;
    }
    c->syn_pending = true;
    tcp_mark_ready(t, c);
    tcp_timer_set(t, c, TCP_TIMER_RETRANS, time_add(now, rto_ns(t, c)));
}

static void tcp_expired_retrans(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    bool expired;

    if (c->fastopen_rsk) {
        tcp_fastopen_synack_timeout(t, c, now);
        return;
    }
    c->tx_refused = false;
    if (!tcp_handshaking(c) && !tcp_sndq_empty(&c->sndq)) {
        if (c->rtx == TCP_RTX_REO)
            tcp_rack_reo_timeout(t, c, now);
        else if (c->rtx == TCP_RTX_PROBE)
            tcp_loss_probe_timeout(t, c, now);
        else
            tcp_retrans_timeout(t, c, now);
        return;
    }
    expired = tcp_timed_out(t, c, now);
    tcp_fastopen_timeout(t, c, expired, now);
    if (expired)
        tcp_write_error(t, c, now);
    else if (tcp_handshaking(c))
        expired_syn(t, c, now);
    else
        tcp_mark_ready(t, c); /* nothing left us yet: tcp_unreachable() asked to try again */
}

static void tcp_expired_probe0(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_probe0_timeout(t, c, now);
}

static void tcp_expired_delack(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    tcp_delack_timeout(t, c, now);
}

/* An orphan's FIN-WAIT-2 is over: it goes without a word, as Linux's. */
static void tcp_expired_linger(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (c->owned || c->state != TCP_STATE_FIN_WAIT2)
        return;
    t->counters.abort_on_linger++;
    tcp_done(t, c, 0, false, now);
}

static void tcp_expired_pacing(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    (void)now;
    tcp_mark_ready(t, c);
}

/* ---- expiry
 * --------------------------------------------------------------------------------------------------- */

static void (*const expired[TCP_TIMER_MAX])(struct tcp *, struct tcp_conn *, uint64_t) = {
    [TCP_TIMER_RETRANS] = tcp_expired_retrans, [TCP_TIMER_PROBE0] = tcp_expired_probe0,
    [TCP_TIMER_DELACK] = tcp_expired_delack,   [TCP_TIMER_KEEPALIVE] = tcp_expired_keepalive,
    [TCP_TIMER_LINGER] = tcp_expired_linger,   [TCP_TIMER_PACING] = tcp_expired_pacing,
};

void tcp_conn_expire(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    uint64_t at;

    tcp_busy_with(t, c->id);
    for (unsigned i = 0; i < TCP_TIMER_MAX; i++) {
        if (c->timer_at[i] > now)
            continue;
        c->timer_at[i] = TIME_NEVER;
        c->rec.timers_moved = true;
        tcp_rec_fired(t, c, (enum tcp_timer)i, now);
        expired[i](t, c, now);
        tcp_mark_dirty(t, c);
    }
    at = earliest(c);
    if (at == TIME_NEVER)
        wheel_disarm(&t->wheel, &c->timer);
    else
        wheel_arm(&t->wheel, &c->timer,
                  time_max(at, now + 1)); /* a timer set for now has its turn next time */
    tcp_rec_settle(t, c, now);
    tcp_conn_reap(t, c);
    tcp_busy_with(t, 0);
}

void tcp_expire(struct tcp *t, uint64_t now)
{
    struct wheel_timer *timer;

    t->now = now;
    tcp_rec_verb(t, NULL, now);
    while ((timer = wheel_expire(&t->wheel, now)) != NULL)
        tcp_conn_expire(t, list_entry(timer, struct tcp_conn, timer), now);
    tcp_req_expire(t, now);
    tcp_tw_expire(t, now);
    tcp_park_expire(t);
}
