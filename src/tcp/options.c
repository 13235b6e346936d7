/*
 * tcp/options.c: options of one connection, with the ranges and the side effects of do_tcp_setsockopt() and
 * sk_setsockopt(). Every setter returns 0 or -EINVAL with nothing changed.
 */
#include "tcp/tcp_priv.h"

#define MAX_KEEPIDLE      32767 /* Linux MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL */
#define MAX_KEEPCNT       127   /* MAX_TCP_KEEPCNT, MAX_TCP_SYNCNT */
#define FIN_TIMEOUT_MAX_S 120
#define MIN_SNDBUF        4608 /* SOCK_MIN_SNDBUF */
#define MIN_RCVBUF        2304 /* SOCK_MIN_RCVBUF */

typedef int (*setter)(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now);
typedef int32_t (*getter)(const struct tcp *t, const struct tcp_conn *c);

static bool before_syn(const struct tcp_conn *c)
{
    return c->state == TCP_STATE_SYN_SENT && c->snd_nxt == c->iss && c->snd_una == c->iss && !c->syn_data;
}

static bool in_range(int32_t v, int32_t low, int32_t high)
{
    return v >= low && v <= high;
}

static int set_nodelay(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    c->nodelay = v != 0;
    if (c->nodelay)
        c->nagle_push = true;
    return 0;
}

static int set_cork(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    c->cork = v != 0;
    return 0;
}

static int set_quickack(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    tcp_quickack_set(t, c, v != 0, now);
    return 0;
}

/* tcp_set_keepalive() */
static int set_keepalive(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    bool was = c->keepalive;

    c->keepalive = v != 0;
    if (c->keepalive && !was)
        tcp_keepalive_start(t, c, now);
    else if (!c->keepalive)
        tcp_timer_set(t, c, TCP_TIMER_KEEPALIVE, TIME_NEVER);
    return 0;
}

/* tcp_sock_set_keepidle_locked(): what has passed already counts; never due before this turn is over. */
static int set_keepidle(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    uint64_t heard_at = time_max(c->last_data_recv_at, c->rcv_tstamp);

    if (!in_range(v, 1, MAX_KEEPIDLE))
        return -EINVAL;
    c->keepalive_time_s = (uint32_t)v;
    if (c->keepalive && c->state != TCP_STATE_CLOSE && c->state != TCP_STATE_SYN_SENT)
        tcp_timer_set(t, c, TCP_TIMER_KEEPALIVE,
                      time_max(now + 1, time_add(heard_at, (uint32_t)v * NSEC_PER_SEC)));
    return 0;
}

static int set_keepintvl(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    if (!in_range(v, 1, MAX_KEEPIDLE))
        return -EINVAL;
    c->keepalive_intvl_s = (uint32_t)v;
    return 0;
}

static int set_keepcnt(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    if (!in_range(v, 1, MAX_KEEPCNT))
        return -EINVAL;
    c->keepalive_probes = (uint8_t)v;
    return 0;
}

static int set_user_timeout(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    if (v < 0)
        return -EINVAL;
    c->user_timeout_ms = (uint32_t)v;
    return 0;
}

static int set_linger2(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    if (v < 0)
        c->linger2_s = -1;
    else
        c->linger2_s = v > FIN_TIMEOUT_MAX_S ? FIN_TIMEOUT_MAX_S : v;
    return 0;
}

static int set_syncnt(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    if (!in_range(v, 1, MAX_KEEPCNT))
        return -EINVAL;
    c->syn_retries = (uint8_t)v;
    return 0;
}

static int set_maxseg(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)now;
    if (v && !in_range(v, (int32_t)TCP_MIN_MSS, (int32_t)TCP_MAX_WINDOW))
        return -EINVAL;
    c->user_mss = (uint16_t)v;
    if (before_syn(c))
        tcp_prepare_syn(t, c);
    return 0;
}

/* tcp_set_window_clamp() */
static int set_window_clamp(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    uint32_t clamp = v > MIN_RCVBUF / 2 ? (uint32_t)v : MIN_RCVBUF / 2;

    (void)t;
    (void)now;
    if (v <= 0)
        return -EINVAL;
    c->window_clamp = clamp;
    if (c->rcv_ssthresh > clamp)
        c->rcv_ssthresh = clamp;
    return 0;
}

/* Linux doubles what it is asked for: the program counts bytes, the buffer their overhead too. */
static uint32_t doubled(int32_t v, uint32_t least)
{
    uint32_t want = v < 0 ? 0 : v > INT32_MAX / 2 ? INT32_MAX : (uint32_t)v * 2;

    return want > least ? want : least;
}

static int set_sndbuf(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    c->sndbuf.limit = doubled(v, MIN_SNDBUF);
    c->sndbuf_locked = true;
    tcp_check_space(t, c, now);
    return 0;
}

/* Unsigned, as in Linux: -1 is without limit. */
static int set_notsent_lowat(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    c->notsent_lowat = (uint32_t)v;
    tcp_check_space(t, c, now);
    return 0;
}

static int set_rcvbuf(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)now;
    c->rcvq.rcvbuf = doubled(v, MIN_RCVBUF);
    c->rcvbuf_locked = true;
    if (before_syn(c))
        tcp_prepare_syn(t, c);
    return 0;
}

/* The two ECN bits are the engine's (RFC 3168). */
static int set_tos(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    if (!in_range(v, 0, 255))
        return -EINVAL;
    c->tos = (uint8_t)(v & ~3);
    return 0;
}

/* A listener's: nothing to do for a connection that came from it. */
static int set_fastopen(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)c;
    (void)now;
    return v < 0 ? -EINVAL : 0;
}

static int set_fastopen_no_cookie(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    c->fastopen_no_cookie = v != 0;
    return 0;
}

static int set_defer_accept(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    (void)t;
    (void)now;
    c->defer_accept = v > 0;
    return 0;
}

/* As tcp_set_congestion_control(): the same one again begins nothing anew. */
static int set_congestion(struct tcp *t, struct tcp_conn *c, int32_t v, uint64_t now)
{
    if (v < 0 || !cc_name((unsigned)v))
        return -EINVAL;
    if (c->cc != cc_find(cc_name((unsigned)v)))
        tcp_cc_choose(t, c, (unsigned)v, now);
    return 0;
}

int tcp_set_max_pacing_rate(struct tcp *t, tcp_id id, uint64_t rate)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);

    if (!c || !c->owned)
        return -ENOENT;
    c->max_pacing_rate = rate;
    if (rate != UINT64_MAX)
        c->pacing_needed = true;
    if (c->pacing_rate > rate)
        c->pacing_rate = rate;
    tcp_mark_dirty(t, c);
    return 0;
}

static int32_t get_congestion(const struct tcp *t, const struct tcp_conn *c)
{
    int32_t i = 0;

    (void)t;
    while (cc_name((unsigned)i) && cc_find(cc_name((unsigned)i)) != c->cc)
        i++;
    return i;
}

static int32_t get_zero(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    (void)c;
    return 0;
}

static int32_t get_fastopen_no_cookie(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return c->fastopen_no_cookie;
}

static int32_t get_defer_accept(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return c->defer_accept;
}

static int32_t get_nodelay(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return c->nodelay;
}

static int32_t get_cork(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return c->cork;
}

static int32_t get_quickack(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return !tcp_ackowed_in_pingpong(&c->ackowed);
}

static int32_t get_keepalive(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return c->keepalive;
}

static int32_t get_keepidle(const struct tcp *t, const struct tcp_conn *c)
{
    return c->keepalive_time_s ? (int32_t)c->keepalive_time_s : t->config->tcp_keepalive_time;
}

static int32_t get_keepintvl(const struct tcp *t, const struct tcp_conn *c)
{
    return c->keepalive_intvl_s ? (int32_t)c->keepalive_intvl_s : t->config->tcp_keepalive_intvl;
}

static int32_t get_keepcnt(const struct tcp *t, const struct tcp_conn *c)
{
    return c->keepalive_probes ? c->keepalive_probes : t->config->tcp_keepalive_probes;
}

static int32_t get_user_timeout(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return (int32_t)c->user_timeout_ms;
}

static int32_t get_linger2(const struct tcp *t, const struct tcp_conn *c)
{
    return c->linger2_s ? c->linger2_s : t->config->tcp_fin_timeout;
}

static int32_t get_syncnt(const struct tcp *t, const struct tcp_conn *c)
{
    return c->syn_retries ? c->syn_retries : t->config->tcp_syn_retries;
}

static int32_t get_maxseg(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    if (c->user_mss && (c->state == TCP_STATE_CLOSE || c->state == TCP_STATE_SYN_SENT))
        return c->user_mss;
    return c->mss;
}

static int32_t get_window_clamp(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return (int32_t)c->window_clamp;
}

static int32_t get_sndbuf(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return (int32_t)c->sndbuf.limit;
}

static int32_t get_notsent_lowat(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return (int32_t)c->notsent_lowat;
}

static int32_t get_rcvbuf(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return (int32_t)c->rcvq.rcvbuf;
}

static int32_t get_tos(const struct tcp *t, const struct tcp_conn *c)
{
    (void)t;
    return c->tos;
}

static const struct {
    setter set;
    getter get;
} options[TCP_OPT_MAX] = {
    [TCP_OPT_NODELAY] = {set_nodelay, get_nodelay},
    [TCP_OPT_CORK] = {set_cork, get_cork},
    [TCP_OPT_QUICKACK] = {set_quickack, get_quickack},
    [TCP_OPT_KEEPALIVE] = {set_keepalive, get_keepalive},
    [TCP_OPT_KEEPIDLE] = {set_keepidle, get_keepidle},
    [TCP_OPT_KEEPINTVL] = {set_keepintvl, get_keepintvl},
    [TCP_OPT_KEEPCNT] = {set_keepcnt, get_keepcnt},
    [TCP_OPT_USER_TIMEOUT] = {set_user_timeout, get_user_timeout},
    [TCP_OPT_LINGER2] = {set_linger2, get_linger2},
    [TCP_OPT_SYNCNT] = {set_syncnt, get_syncnt},
    [TCP_OPT_MAXSEG] = {set_maxseg, get_maxseg},
    [TCP_OPT_WINDOW_CLAMP] = {set_window_clamp, get_window_clamp},
    [TCP_OPT_SNDBUF] = {set_sndbuf, get_sndbuf},
    [TCP_OPT_RCVBUF] = {set_rcvbuf, get_rcvbuf},
    [TCP_OPT_TOS] = {set_tos, get_tos},
    [TCP_OPT_FASTOPEN] = {set_fastopen, get_zero},
    [TCP_OPT_FASTOPEN_NO_COOKIE] = {set_fastopen_no_cookie, get_fastopen_no_cookie},
    [TCP_OPT_DEFER_ACCEPT] = {set_defer_accept, get_defer_accept},
    [TCP_OPT_CONGESTION] = {set_congestion, get_congestion},
    [TCP_OPT_NOTSENT_LOWAT] = {set_notsent_lowat, get_notsent_lowat},
};

static_assert(TCP_OPT_MAX == 20, "every option has a setter and a getter");

int tcp_set_opt(struct tcp *t, tcp_id id, enum tcp_opt opt, int32_t value, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);
    int r;

    if (!c || !c->owned)
        return -ENOENT;
    if ((unsigned)opt >= TCP_OPT_MAX)
        return -EINVAL;
    r = options[opt].set(t, c, value, now);
    tcp_rec_call(t, c, TCP_REC_CALL_SETOPT, opt, r, (uint32_t)value, 0, now);
    if (r == 0 && c->state != TCP_STATE_CLOSE && tcp_may_send(t, c, now))
        tcp_mark_ready(t, c);
    tcp_mark_dirty(t, c);
    tcp_assert(t, c);
    return r;
}

int tcp_get_opt(const struct tcp *t, tcp_id id, enum tcp_opt opt, int32_t *ret)
{
    const struct tcp_conn *c = tcp_conn_view(t, id);

    if (!c || !c->owned)
        return -ENOENT;
    if ((unsigned)opt >= TCP_OPT_MAX)
        return -EINVAL;
    *ret = options[opt].get(t, c);
    return 0;
}
