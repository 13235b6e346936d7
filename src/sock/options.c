/*
 * sock/options.c: setsockopt() and getsockopt() with Linux's numbers, ranges and units.
 *
 * What a program sets is kept in the socket and, where a connection exists, passed on at once. A connection made later
 * gets it by sock_apply_options(); accepted sockets inherit it from their listener. Invariant: bit o of opt_set is set
 * exactly if opt[o] holds a value in the engine's units. One table row per plain integer option.
 */
#include <assert.h>
#include "sock/sock_priv.h"

enum value_kind {
    VALUE_BOOL,  /* anything but 0 is 1 */
    VALUE_RANGE, /* min..max, else EINVAL */
};

struct option_row {
    uint8_t level, name, opt; /* enum sock_level, number, enum tcp_opt */
    uint8_t kind;
    int32_t min, max;
};

static const struct option_row rows[] = {
    {SOCK_LEVEL_SOCKET, SOCK_SO_KEEPALIVE, TCP_OPT_KEEPALIVE, VALUE_BOOL, 0, 0},
    {SOCK_LEVEL_TCP, SOCK_TCP_NODELAY, TCP_OPT_NODELAY, VALUE_BOOL, 0, 0},
    {SOCK_LEVEL_TCP, SOCK_TCP_CORK, TCP_OPT_CORK, VALUE_BOOL, 0, 0},
    {SOCK_LEVEL_TCP, SOCK_TCP_QUICKACK, TCP_OPT_QUICKACK, VALUE_BOOL, 0, 0},
    {SOCK_LEVEL_TCP, SOCK_TCP_KEEPIDLE, TCP_OPT_KEEPIDLE, VALUE_RANGE, 1, 32767},
    {SOCK_LEVEL_TCP, SOCK_TCP_KEEPINTVL, TCP_OPT_KEEPINTVL, VALUE_RANGE, 1, 32767},
    {SOCK_LEVEL_TCP, SOCK_TCP_KEEPCNT, TCP_OPT_KEEPCNT, VALUE_RANGE, 1, 127},
    {SOCK_LEVEL_TCP, SOCK_TCP_SYNCNT, TCP_OPT_SYNCNT, VALUE_RANGE, 1, 127},
    {SOCK_LEVEL_TCP, SOCK_TCP_USER_TIMEOUT, TCP_OPT_USER_TIMEOUT, VALUE_RANGE, 0, INT32_MAX},
    {SOCK_LEVEL_TCP, SOCK_TCP_NOTSENT_LOWAT, TCP_OPT_NOTSENT_LOWAT, VALUE_RANGE, INT32_MIN, INT32_MAX}, /* unsigned */
};
static_assert(TCP_OPT_MAX <= 32, "opt_set has 32 bits");

/* Linux's retrans_to_secs(secs_to_retrans()): the time at whose end so many SYN-ACK time-outs lie. */
static int32_t defer_accept_seconds(const struct sock *s)
{
    int32_t want = s->more->opt[TCP_OPT_DEFER_ACCEPT], step = 1, period = 1;

    if (want <= 0)
        return 0;
    for (unsigned n = 1; want > period && n < UINT8_MAX; n++) {
        step = step * 2 < 120 ? step * 2 : 120;
        period += step;
    }
    return period;
}

static_assert(SOCK_TCP_FASTOPEN_KEY == 33, "Linux's number");

static const struct option_row *find_row(int level, int name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].level == level && rows[i].name == name)
            return &rows[i];
    }
    return NULL;
}

static int store(struct sock *s, enum tcp_opt opt, int32_t value, uint64_t now)
{
    s->more->opt[opt] = value;
    s->more->opt_set |= 1u << opt;
    if (s->more->listener != 0)
        (void)tcp_listen_set_opt(s->ss->tcp, s->more->listener, opt, value);
    else if (s->conn != 0)
        (void)tcp_set_opt(s->ss->tcp, s->conn, opt, value, now);
    return 0;
}

/* DSCP goes by the family that the connection speaks: a mapped address is IPv4. */
static int32_t traffic_class(const struct sock *s)
{
    return s->tuple.remote.family == IP_V6 ? s->more->tclass : s->more->tos;
}

static void apply_tos(struct sock *s, uint64_t now)
{
    if (s->conn != 0)
        (void)tcp_set_opt(s->ss->tcp, s->conn, TCP_OPT_TOS, traffic_class(s), now);
}

void sock_apply_options(struct sock *s, uint64_t now)
{
    for (unsigned o = 0; o < TCP_OPT_MAX; o++) {
        if (s->more->opt_set & 1u << o)
            (void)tcp_set_opt(s->ss->tcp, s->conn, (enum tcp_opt)o, s->more->opt[o], now);
    }
    if (traffic_class(s) != 0)
        apply_tos(s, now);
    if (s->more->max_pacing_rate)
        (void)tcp_set_max_pacing_rate(s->ss->tcp, s->conn, s->more->max_pacing_rate);
}

bool sock_inherit_options(struct sock *child, const struct sock *listener)
{
    const struct sock_more *from = listener->more;

    child->reuse = listener->reuse;
    child->v6only = listener->v6only;
    child->linger_on = listener->linger_on;
    if (!from->linger_s && !from->max_pacing_rate && !from->tos && !from->tclass && !from->opt_set)
        return true;
    if (!sock_more_own(child))
        return false;
    child->more->linger_s = from->linger_s;
    child->more->max_pacing_rate = from->max_pacing_rate;
    child->more->tos = from->tos;
    child->more->tclass = from->tclass;
    child->more->opt_set = from->opt_set;
    memcpy(child->more->opt, from->opt, sizeof child->more->opt);
    return true;
}

/* ---- Setting --------------------------------------------------------------------------------------------------- */

/* Kept as asked, the engine doubles it for overhead. The cap is compared unsigned, as in Linux: negative is the most. */
static int set_buffer(struct sock *s, enum tcp_opt opt, int32_t value, bool force, uint64_t now)
{
    bool snd = opt == TCP_OPT_SNDBUF;
    uint32_t most = (uint32_t)(snd ? s->ss->config->tcp_wmem_max : s->ss->config->tcp_rmem_max);
    uint32_t v = (uint32_t)value;

    if (force)
        v = value < 0 ? 0 : v;
    else if (v > most)
        v = most;
    if (v > INT32_MAX / 2)
        v = INT32_MAX / 2;
    return store(s, opt, (int32_t)v, now);
}

static int set_linger(struct sock *s, const void *value, size_t bytes)
{
    int32_t linger[2]; /* struct linger: l_onoff, l_linger */

    if (bytes < sizeof linger)
        return -EINVAL;
    memcpy(linger, value, sizeof linger);
    s->linger_on = linger[0] != 0;
    if (s->linger_on)
        s->more->linger_s = linger[1];
    return 0;
}

static int set_socket(struct sock *s, int name, int32_t v, uint64_t now)
{
    switch (name) {
    case SOCK_SO_REUSEADDR:
        return sock_bind_set_reuse(s, v != 0);
    case SOCK_SO_REUSEPORT: /* not had: no listener shares its port */
        return v ? -ENOPROTOOPT : 0;
    case SOCK_SO_SNDBUF:
    case SOCK_SO_SNDBUFFORCE:
        return set_buffer(s, TCP_OPT_SNDBUF, v, name == SOCK_SO_SNDBUFFORCE, now);
    case SOCK_SO_RCVBUF:
    case SOCK_SO_RCVBUFFORCE:
        return set_buffer(s, TCP_OPT_RCVBUF, v, name == SOCK_SO_RCVBUFFORCE, now);
    default:
        return -ENOPROTOOPT;
    }
}

/* TCP_FASTOPEN and its kin: before the connection, or for a listener. */
static int set_fastopen(struct sock *s, int name, int32_t v, uint64_t now)
{
    bool idle = sock_state_in(s, SOCK_ST(CLOSE) | SOCK_ST(LISTEN));

    if (v < 0 || (v > 1 && name != SOCK_TCP_FASTOPEN))
        return -EINVAL;
    if (name == SOCK_TCP_FASTOPEN_CONNECT) {
        if (!(s->ss->config->tcp_fastopen & 1))
            return -EOPNOTSUPP;
        if (s->state != TCP_STATE_CLOSE)
            return -EINVAL;
        s->fastopen_connect = v != 0;
        return 0;
    }
    if (!idle)
        return -EINVAL;
    return store(s, name == SOCK_TCP_FASTOPEN ? TCP_OPT_FASTOPEN : TCP_OPT_FASTOPEN_NO_COOKIE, v, now);
}

/* Primary key, or primary and backup. */
static int set_fastopen_key(struct sock *s, const void *value, size_t bytes)
{
    if (bytes != sizeof s->more->fastopen_key[0] && bytes != sizeof s->more->fastopen_key)
        return -EINVAL;
    memcpy(s->more->fastopen_key, value, bytes);
    s->more->n_fastopen_keys = (uint8_t)(bytes / sizeof s->more->fastopen_key[0]);
    if (s->more->listener != 0)
        return tcp_fastopen_set_keys(s->ss->tcp, s->more->listener, s->more->fastopen_key, s->more->n_fastopen_keys);
    return 0;
}

/* A 32-bit value may be given too; all ones: none. */
static int set_max_pacing_rate(struct sock *s, const void *value, size_t bytes)
{
    uint64_t rate = UINT64_MAX;
    uint32_t v;

    if (bytes >= sizeof rate) {
        memcpy(&rate, value, sizeof rate);
    } else {
        memcpy(&v, value, sizeof v);
        rate = v == UINT32_MAX ? UINT64_MAX : v;
    }
    s->more->max_pacing_rate = rate ? rate : 1;
    if (s->conn != 0)
        (void)tcp_set_max_pacing_rate(s->ss->tcp, s->conn, s->more->max_pacing_rate);
    return 0;
}

static int set_tcp(struct sock *s, int name, int32_t v, uint64_t now)
{
    switch (name) {
    case SOCK_TCP_FASTOPEN:
    case SOCK_TCP_FASTOPEN_CONNECT:
    case SOCK_TCP_FASTOPEN_NO_COOKIE:
        return set_fastopen(s, name, v, now);
    case SOCK_TCP_DEFER_ACCEPT:
        return store(s, TCP_OPT_DEFER_ACCEPT, v, now);
    case SOCK_TCP_MAXSEG: /* TCP_MIN_MSS, MAX_TCP_WINDOW */
        return v != 0 && (v < 88 || v > 32767) ? -EINVAL : store(s, TCP_OPT_MAXSEG, v, now);
    case SOCK_TCP_INQ:
        if (v < 0 || v > 1)
            return -EINVAL;
        s->inq = v != 0;
        return 0;
    case SOCK_TCP_LINGER2: /* TCP_FIN_TIMEOUT_MAX is two minutes */
        return store(s, TCP_OPT_LINGER2, v < 0 ? -1 : v > 120 ? 120 : v, now);
    case SOCK_TCP_WINDOW_CLAMP:
        if (v == 0 && s->state != TCP_STATE_CLOSE)
            return -EINVAL;
        return store(s, TCP_OPT_WINDOW_CLAMP, v != 0 && v < SOCK_MIN_RCVBUF / 2 ? SOCK_MIN_RCVBUF / 2 : v, now);
    default:
        return -ENOPROTOOPT;
    }
}

/* IP_MTU_DISCOVER is kept for who asks: every segment has DF set, as with Linux's IP_PMTUDISC_WANT and _DO. */
static int set_ip(struct sock *s, int name, int32_t v, uint64_t now)
{
    switch (name) {
    case SOCK_IP_TOS:
        s->more->tos = v & 0xfc; /* the ECN bits are TCP's own */
        apply_tos(s, now);
        return 0;
    case SOCK_IP_MTU_DISCOVER:
        if (v < 0 || v > SOCK_PMTUDISC_MAX)
            return -EINVAL;
        s->more->mtu_discover = (uint8_t)v;
        return 0;
    case SOCK_IP_FREEBIND:
        s->freebind = v != 0;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

static int get_ip(const struct sock *s, int name, int32_t *ret)
{
    *ret = name == SOCK_IP_TOS ? s->more->tos : name == SOCK_IP_FREEBIND ? s->freebind : s->more->mtu_discover;
    return name == SOCK_IP_TOS || name == SOCK_IP_FREEBIND || name == SOCK_IP_MTU_DISCOVER ? 0 : -ENOPROTOOPT;
}

static int set_ipv6(struct sock *s, int name, int32_t v, uint64_t now)
{
    if (s->family != IP_V6)
        return -ENOPROTOOPT;
    switch (name) {
    case SOCK_IPV6_V6ONLY:
        if (s->bind)
            return -EINVAL;
        s->v6only = v != 0;
        return 0;
    case SOCK_IPV6_TCLASS:
        if (v < -1 || v > 255)
            return -EINVAL;
        s->more->tclass = v == -1 ? 0 : v & 0xfc;
        apply_tos(s, now);
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

/* By name, with or without its final NUL; at any time. */
static int set_congestion(struct sock *s, const void *value, size_t bytes, uint64_t now)
{
    int index = bytes < 1 ? -EINVAL : tcp_congestion_find(value, bytes);

    return index < 0 ? index : store(s, TCP_OPT_CONGESTION, index, now);
}

int sock_setopt(struct sock *s, int level, int name, const void *value, size_t bytes, uint64_t now)
{
    const struct option_row *row = find_row(level, name);
    int32_t v;

    socks_enter(s->ss, now);
    if (!sock_more_own(s))
        return -ENOMEM;
    if (level == SOCK_LEVEL_TCP && name == SOCK_TCP_CONGESTION)
        return set_congestion(s, value, bytes, now);
    if (level == SOCK_LEVEL_TCP && (name == SOCK_TCP_MD5SIG || name == SOCK_TCP_MD5SIG_EXT))
        return sock_md5_setopt(s, name == SOCK_TCP_MD5SIG_EXT, value, bytes, now);
    if (level == SOCK_LEVEL_TCP && name == SOCK_TCP_FASTOPEN_KEY)
        return set_fastopen_key(s, value, bytes);
    if (level == SOCK_LEVEL_IP && bytes >= 1 && bytes < sizeof v)
        return set_ip(s, name, *(const uint8_t *)value, now);
    if (bytes < sizeof v)
        return -EINVAL;
    if (level == SOCK_LEVEL_SOCKET && name == SOCK_SO_LINGER)
        return set_linger(s, value, bytes);
    if (level == SOCK_LEVEL_SOCKET && name == SOCK_SO_MAX_PACING_RATE)
        return set_max_pacing_rate(s, value, bytes);
    memcpy(&v, value, sizeof v);
    if (row) {
        if (row->kind == VALUE_BOOL)
            v = v != 0;
        else if (v < row->min || v > row->max)
            return -EINVAL;
        return store(s, (enum tcp_opt)row->opt, v, now);
    }
    switch (level) {
    case SOCK_LEVEL_SOCKET:
        return set_socket(s, name, v, now);
    case SOCK_LEVEL_TCP:
        return set_tcp(s, name, v, now);
    case SOCK_LEVEL_IP:
        return set_ip(s, name, v, now);
    case SOCK_LEVEL_IPV6:
        return set_ipv6(s, name, v, now);
    default:
        return -ENOPROTOOPT;
    }
}

/* ---- Getting --------------------------------------------------------------------------------------------------- */

/* What holds where neither program nor connection said otherwise. */
static int32_t default_of(const struct sock *s, enum tcp_opt opt)
{
    const struct tcp_config *c = s->ss->config;

    switch (opt) {
    case TCP_OPT_QUICKACK:
        return 1;
    case TCP_OPT_KEEPIDLE:
        return c->tcp_keepalive_time;
    case TCP_OPT_KEEPINTVL:
        return c->tcp_keepalive_intvl;
    case TCP_OPT_KEEPCNT:
        return c->tcp_keepalive_probes;
    case TCP_OPT_USER_TIMEOUT:
        return c->tcp_user_timeout;
    case TCP_OPT_LINGER2:
        return c->tcp_fin_timeout;
    case TCP_OPT_SYNCNT:
        return c->tcp_syn_retries;
    case TCP_OPT_CONGESTION:
        return c->tcp_congestion_control;
    case TCP_OPT_SNDBUF:
        return c->tcp_wmem_default;
    case TCP_OPT_RCVBUF:
        return c->tcp_rmem_default;
    default:
        return 0;
    }
}

/* What the engine will make of a buffer size. */
static int32_t doubled(int32_t v, int32_t least)
{
    return v * 2 > least ? v * 2 : least;
}

/* Those that the engine changes by itself are asked of it; the others are as the program left them. */
static int32_t current(const struct sock *s, enum tcp_opt opt)
{
    bool moves = opt == TCP_OPT_SNDBUF || opt == TCP_OPT_RCVBUF || opt == TCP_OPT_QUICKACK || opt == TCP_OPT_WINDOW_CLAMP ||
                 opt == TCP_OPT_CONGESTION;
    int32_t v;

    if (moves && s->conn != 0 && tcp_get_opt(s->ss->tcp, s->conn, opt, &v) == 0)
        return v;
    if (!(s->more->opt_set & 1u << opt))
        return default_of(s, opt);
    if (opt == TCP_OPT_SNDBUF)
        return doubled(s->more->opt[opt], SOCK_MIN_SNDBUF);
    return opt == TCP_OPT_RCVBUF ? doubled(s->more->opt[opt], SOCK_MIN_RCVBUF) : s->more->opt[opt];
}

static int put(void *value, size_t *inout_bytes, const void *from, size_t bytes)
{
    if (*inout_bytes > bytes)
        *inout_bytes = bytes;
    memcpy(value, from, *inout_bytes);
    return 0;
}

static int get_fastopen_key(const struct sock *s, void *value, size_t *inout_bytes)
{
    uint8_t keys[2][16];
    int n = s->more->n_fastopen_keys;

    if (n)
        memcpy(keys, s->more->fastopen_key, sizeof keys);
    else
        n = tcp_fastopen_get_keys(s->ss->tcp, s->more->listener, keys);
    return n < 0 ? n : put(value, inout_bytes, keys, (size_t)n * sizeof keys[0]);
}

static int get_max_pacing_rate(const struct sock *s, void *value, size_t *inout_bytes)
{
    uint64_t rate = s->more->max_pacing_rate ? s->more->max_pacing_rate : UINT64_MAX;
    uint32_t narrow = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate;

    return *inout_bytes >= sizeof rate ? put(value, inout_bytes, &rate, sizeof rate)
                                       : put(value, inout_bytes, &narrow, sizeof narrow);
}

static int get_socket(struct sock *s, int name, int32_t *ret)
{
    switch (name) {
    case SOCK_SO_REUSEADDR:
        *ret = s->reuse;
        return 0;
    case SOCK_SO_REUSEPORT:
        *ret = 0;
        return 0;
    case SOCK_SO_TYPE:
        *ret = SOCK_TYPE_STREAM;
        return 0;
    case SOCK_SO_ERROR:
        *ret = -sock_error_once(s);
        return 0;
    case SOCK_SO_SNDBUF:
        *ret = current(s, TCP_OPT_SNDBUF);
        return 0;
    case SOCK_SO_RCVBUF:
        *ret = current(s, TCP_OPT_RCVBUF);
        return 0;
    case SOCK_SO_ACCEPTCONN:
        *ret = s->state == TCP_STATE_LISTEN;
        return 0;
    case SOCK_SO_PROTOCOL:
        *ret = SOCK_LEVEL_TCP;
        return 0;
    case SOCK_SO_DOMAIN:
        *ret = s->family == IP_V6 ? SOCK_AF_INET6 : SOCK_AF_INET;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

/* mss_cache of a connection; before it the program's choice, or the default of RFC 9293 section 3.7.1. */
static int32_t get_maxseg(struct sock *s, uint64_t now)
{
    struct tcp_info info;

    if (s->state != TCP_STATE_CLOSE && s->conn != 0 && tcp_get_info(s->ss->tcp, s->conn, now, &info) == 0)
        return (int32_t)info.snd_mss;
    return s->more->opt[TCP_OPT_MAXSEG] != 0 ? s->more->opt[TCP_OPT_MAXSEG] : 536;
}

static int get_tcp(struct sock *s, int name, uint64_t now, int32_t *ret)
{
    switch (name) {
    case SOCK_TCP_MAXSEG:
        *ret = get_maxseg(s, now);
        return 0;
    case SOCK_TCP_LINGER2:
        *ret = current(s, TCP_OPT_LINGER2);
        if (*ret == 0)
            *ret = s->ss->config->tcp_fin_timeout;
        return 0;
    case SOCK_TCP_WINDOW_CLAMP:
        *ret = current(s, TCP_OPT_WINDOW_CLAMP);
        return 0;
    case SOCK_TCP_DEFER_ACCEPT:
        *ret = defer_accept_seconds(s);
        return 0;
    case SOCK_TCP_FASTOPEN:
        *ret = s->more->opt[TCP_OPT_FASTOPEN];
        return 0;
    case SOCK_TCP_FASTOPEN_CONNECT:
        *ret = s->fastopen_connect;
        return 0;
    case SOCK_TCP_FASTOPEN_NO_COOKIE:
        *ret = s->more->opt[TCP_OPT_FASTOPEN_NO_COOKIE];
        return 0;
    case SOCK_TCP_INQ:
        *ret = s->inq;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

static int get_ipv6(const struct sock *s, int name, int32_t *ret)
{
    if (s->family != IP_V6 || (name != SOCK_IPV6_V6ONLY && name != SOCK_IPV6_TCLASS))
        return -ENOPROTOOPT;
    *ret = name == SOCK_IPV6_V6ONLY ? s->v6only : s->more->tclass;
    return 0;
}

static int get_int(struct sock *s, int level, int name, uint64_t now, int32_t *ret)
{
    const struct option_row *row = find_row(level, name);

    if (row) {
        *ret = current(s, (enum tcp_opt)row->opt);
        return 0;
    }
    switch (level) {
    case SOCK_LEVEL_SOCKET:
        return get_socket(s, name, ret);
    case SOCK_LEVEL_TCP:
        return get_tcp(s, name, now, ret);
    case SOCK_LEVEL_IP:
        return get_ip(s, name, ret);
    case SOCK_LEVEL_IPV6:
        return get_ipv6(s, name, ret);
    default:
        return -ENOPROTOOPT;
    }
}

int sock_getopt(struct sock *s, int level, int name, void *value, size_t *inout_bytes, uint64_t now)
{
    int32_t v = 0;
    int r;

    socks_enter(s->ss, now);
    if (level == SOCK_LEVEL_SOCKET && name == SOCK_SO_LINGER) {
        int32_t linger[2] = {s->linger_on, s->more->linger_s};

        return put(value, inout_bytes, linger, sizeof linger);
    }
    if (level == SOCK_LEVEL_TCP && name == SOCK_TCP_FASTOPEN_KEY)
        return get_fastopen_key(s, value, inout_bytes);
    if (level == SOCK_LEVEL_SOCKET && name == SOCK_SO_MAX_PACING_RATE)
        return get_max_pacing_rate(s, value, inout_bytes);
    if (level == SOCK_LEVEL_TCP && name == SOCK_TCP_INFO) {
        struct sock_linux_info info;

        sock_linux_info(s, now, &info);
        return put(value, inout_bytes, &info, sizeof info);
    }
    if (level == SOCK_LEVEL_TCP && name == SOCK_TCP_CONGESTION) {
        char cc[16] = {0}; /* TCP_CA_NAME_MAX */
        const char *text = tcp_congestion_at((unsigned)current(s, TCP_OPT_CONGESTION));

        if (text)
            snprintf(cc, sizeof cc, "%s", text);
        return put(value, inout_bytes, cc, sizeof cc);
    }
    r = get_int(s, level, name, now, &v);
    return r < 0 ? r : put(value, inout_bytes, &v, sizeof v);
}
