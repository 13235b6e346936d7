/*
 * stack/icmp.c: ICMP and ICMPv6: echo, errors in (to the engine or to a ping), errors out (within RFC 1122
 * section 3.2.2 and RFC 4443 section 2.4 (e), and within a rate), and pings of our own.
 *
 * An error that comes in is believed only as far as it quotes something that we sent; path-MTU news is kept
 * only if the engine took it (sequence number in flight) or a ping of ours is quoted. Errno values are
 * Linux's.
 */
#include <errno.h>
#include "stack/stack_priv.h"
#include "wire/bytes.h"

#define ICMP_CSUM_AT 2
#define ICMP_BURST   50 /* errors sent at once, as Linux's icmp_msgs_burst */

/* ---- Errors out --------------------------------------------------------------------------------------- */

/* A token bucket whose tokens are time: icmp_rate a second, ICMP_BURST at once. */
static bool rate_allows(struct stack *st, uint64_t now)
{
    uint64_t rate = (uint64_t)st->config->icmp_rate, cost, most;

    if (!rate)
        return false;
    cost = NSEC_PER_SEC / rate;
    most = cost * (rate < ICMP_BURST ? rate : ICMP_BURST);
    st->icmp_credit_ns += time_since(now, st->icmp_credit_at);
    st->icmp_credit_at = now;
    if (st->icmp_credit_ns > most)
        st->icmp_credit_ns = most;
    if (st->icmp_credit_ns < cost)
        return false;
    st->icmp_credit_ns -= cost;
    return true;
}

static bool is_icmp_error_type(uint8_t proto, uint8_t type)
{
    if (proto == IP_PROTO_ICMPV6)
        return type < 128 || type == ICMP6_TYPE_REDIRECT;
    return proto == IP_PROTO_ICMP && (type == ICMP4_TYPE_UNREACHABLE || type == ICMP4_TYPE_SOURCE_QUENCH ||
                                      type == ICMP4_TYPE_REDIRECT || type == ICMP4_TYPE_TIME_EXCEEDED ||
                                      type == ICMP4_TYPE_PARAM_PROBLEM);
}

/* RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e): what must not be answered with an error. */
static bool may_answer(const struct stack *st, const struct refused *r, uint8_t type, uint8_t code)
{
    bool v6 = r->src.family == IP_V6;

    if (is_icmp_error_type(r->proto, r->icmp_type))
        return false;
    if (r->multicast && !(v6 && type == ICMP6_TYPE_PARAM_PROBLEM && code == ICMP6_PARAM_OPTION))
        return false;
    if (ip_addr_is_unspecified(&r->src) || ip_addr_is_multicast(&r->src) || ip_addr_is_loopback(&r->src))
        return false;
    return !st_addr_is_broadcast(st, &r->src) && !st_addr_is_ours(st, &r->src);
}

void st_icmp_error(struct stack *st, const struct refused *r, uint8_t type, uint8_t code, uint32_t info,
                   uint64_t now)
{
    struct ip_addr src = r->dst;
    struct intent *in;

    if (!may_answer(st, r, type, code))
        return;
    if (!rate_allows(st, now)) {
        st_drop(st, STACK_DROP_ICMP_RATE);
        return;
    }
    if (!st_addr_is_ours(st, &src) && !st_source_for(st, &r->src, &r->src, &src)) {
        st_drop(st, STACK_DROP_NO_ROUTE);
        return;
    }
    in = st_intent_new(st, INTENT_IP, ICMP_ERROR_MAX);
    if (!in)
        return;
    st->intent_bytes -= ICMP_ERROR_MAX;
    in->bytes = (uint32_t)icmp_error_encode(&src, &r->src, type, code, info, r->packet, r->bytes, in->data,
                                            ICMP_ERROR_MAX);
    st->intent_bytes += in->bytes;
    in->src = src;
    in->dst = r->src;
    in->proto = src.family == IP_V4 ? IP_PROTO_ICMP : IP_PROTO_ICMPV6;
    st_intent_add(st, in);
}

void st_icmp_refuse(struct stack *st, struct packet *pk, const struct upper *u, uint8_t type, uint8_t code,
                    uint32_t info, uint64_t now)
{
    struct refused r = {
        .src = u->src, .dst = u->dst, .proto = u->proto, .multicast = u->multicast || pk->link_group};

    st_packet_linearize(st, pk);
    if (u->at < u->end)
        r.icmp_type = pk->p[u->at];
    r.packet = pk->p;
    r.bytes = u->end;
    st_icmp_error(st, &r, type, code, info, now);
}

/* ---- Echo --------------------------------------------------------------------------------------------- */

static struct intent *echo_intent(struct stack *st, const struct ip_addr *src, const struct ip_addr *dst,
                                  bool reply, uint16_t id, uint16_t seq, const uint8_t *data, size_t bytes)
{
    struct intent *in = st_intent_new(st, INTENT_IP, ICMP_HEADER_BYTES + bytes);

    if (!in)
        return NULL;
    icmp_echo_encode(src, dst, reply, id, seq, data, bytes, in->data, in->bytes);
    in->src = *src;
    in->dst = *dst;
    in->proto = src->family == IP_V4 ? IP_PROTO_ICMP : IP_PROTO_ICMPV6;
    return in;
}

static void echo_request(struct stack *st, const struct upper *u, const struct icmp_message *m)
{
    struct ip_addr src = u->dst;
    struct intent *in;

    st->counters.icmp_echo_in++;
    /* RFC 1122 section 3.2.2.6 lets us ignore broadcast; RFC 4443 section 4.2 answers groups from a unicast
     * address. */
    if ((u->multicast && u->dst.family == IP_V4) || ip_addr_is_unspecified(&u->src) ||
        (u->multicast && !st_source_for(st, &u->src, &u->src, &src))) {
        st_drop(st, STACK_DROP_IP_DESTINATION);
        return;
    }
    in = echo_intent(st, &src, &u->src, true, m->echo_id, m->echo_seq, m->body, m->body_bytes);
    if (!in)
        return;
    in->tos = u->tos; /* RFC 1122 section 3.2.2.6 */
    st_intent_add(st, in);
}

/* ---- Pings of our own --------------------------------------------------------------------------------- */

static struct st_ping *ping_find(struct stack *st, uint16_t seq)
{
    for (unsigned i = 0; i < PING_MAX; i++)
        if (st->ping[i].used && st->ping[i].seq == seq)
            return &st->ping[i];
    return NULL;
}

static void ping_end(struct stack *st, struct st_ping *p, int error, uint64_t rtt_ns, uint8_t ttl)
{
    struct stack_event ev = {.kind = STACK_EVENT_PING,
                             .user = p->user,
                             .addr = p->dst,
                             .error = error,
                             .rtt_ns = rtt_ns,
                             .bytes = p->bytes,
                             .ttl = ttl};

    st_disarm(st, &p->timer);
    p->used = false;
    st_event(st, &ev);
}

int stack_ping(struct stack *st, const struct ip_addr *dst, uint16_t bytes, uint8_t ttl, uint64_t timeout_ns,
               uint64_t user, uint64_t now)
{
    uint8_t data[1400];
    struct ip_addr to = *dst, src = {0};
    struct tcp_path path;
    struct st_ping *p = NULL;
    struct intent *in;

    st->now = now;
    if (bytes > sizeof data)
        return -EINVAL;
    if (to.family == IP_V6)
        to = ip_addr_v6_bytes(to.b, st->ifindex);
    if (st_net_route(st, &to, &src, &path) < 0)
        return -ENETUNREACH;
    for (unsigned i = 0; i < PING_MAX && !p; i++)
        if (!st->ping[i].used)
            p = &st->ping[i];
    if (!p)
        return -ENOSPC;
    *p = (struct st_ping){
        .used = true, .user = user, .dst = to, .seq = st->ping_seq++, .bytes = bytes, .sent_at = now};
    st_timer_init(&p->timer, ST_TIMER_PING);
    if (st_addr_is_ours(st, &to)) {
        ping_end(st, p, 0, 0, (uint8_t)st->config->ip_ttl);
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        data[i] = (uint8_t)i;
    in = echo_intent(st, &src, &to, false, st->ping_id, p->seq, data, bytes);
    if (!in) {
        p->used = false;
        return -ENOSPC;
    }
    in->ttl = ttl;
    in->is_ping = true;
    in->ping_seq = p->seq;
    st_intent_add(st, in);
    st_arm(st, &p->timer, time_add(now, timeout_ns));
    return 0;
}

void stack_ping_cancel(struct stack *st, uint64_t user)
{
    for (unsigned i = 0; i < PING_MAX; i++) {
        struct st_ping *p = &st->ping[i];

        if (!p->used || p->user != user)
            continue;
        st_disarm(st, &p->timer);
        p->used = false;
    }
}

void st_ping_sent(struct stack *st, uint16_t seq, uint64_t now)
{
    struct st_ping *p = ping_find(st, seq);

    st->counters.icmp_echo_out++;
    if (p)
        p->sent_at = now;
}

void st_ping_failed(struct stack *st, uint16_t seq, int error, uint64_t now)
{
    struct st_ping *p = ping_find(st, seq);

    if (p && error)
        ping_end(st, p, error, time_since(now, p->sent_at), 0);
}

void st_ping_expired(struct stack *st, struct st_ping *p, uint64_t now)
{
    ping_end(st, p, ETIMEDOUT, time_since(now, p->sent_at), 0);
}

static void echo_reply(struct stack *st, const struct upper *u, const struct icmp_message *m, uint64_t now)
{
    struct st_ping *p = m->echo_id == st->ping_id ? ping_find(st, m->echo_seq) : NULL;

    st->counters.icmp_reply_in++;
    if (!p || !ip_addr_eq(&p->dst, &u->src))
        return;
    p->bytes = (uint16_t)m->body_bytes;
    ping_end(st, p, 0, time_since(now, p->sent_at), u->ttl);
}

/* ---- Errors in ---------------------------------------------------------------------------------------- */

struct icmp_errno {
    int error;
    bool hard;
};

/* Linux's icmp_err_convert, by code. */
static const struct icmp_errno unreach4[] = {
    [ICMP4_UNREACH_NETWORK] = {ENETUNREACH, false},
    [ICMP4_UNREACH_HOST] = {EHOSTUNREACH, false},
    [ICMP4_UNREACH_PROTOCOL] = {ENOPROTOOPT, true},
    [ICMP4_UNREACH_PORT] = {ECONNREFUSED, true},
    [ICMP4_UNREACH_FRAG_NEEDED] = {EMSGSIZE, false},
    [ICMP4_UNREACH_SOURCE_ROUTE] = {EOPNOTSUPP, false},
    [ICMP4_UNREACH_NETWORK_UNKNOWN] = {ENETUNREACH, true},
    [ICMP4_UNREACH_HOST_UNKNOWN] = {EHOSTDOWN, true},
    [ICMP4_UNREACH_HOST_ISOLATED] = {ENONET, true},
    [ICMP4_UNREACH_NETWORK_PROHIBITED] = {ENETUNREACH, true},
    [ICMP4_UNREACH_HOST_PROHIBITED] = {EHOSTUNREACH, true},
    [ICMP4_UNREACH_NETWORK_TOS] = {ENETUNREACH, false},
    [ICMP4_UNREACH_HOST_TOS] = {EHOSTUNREACH, false},
    [ICMP4_UNREACH_ADMIN_PROHIBITED] = {EHOSTUNREACH, true},
    [ICMP4_UNREACH_PRECEDENCE] = {EHOSTUNREACH, true},
    [ICMP4_UNREACH_PRECEDENCE_CUTOFF] = {EHOSTUNREACH, true},
};
_Static_assert(sizeof unreach4 / sizeof unreach4[0] == ICMP4_UNREACH_CODES, "an errno for each code");

/* Linux's icmpv6_err_convert. */
static const struct icmp_errno unreach6[] = {
    [ICMP6_UNREACH_NO_ROUTE] = {ENETUNREACH, false},      [ICMP6_UNREACH_ADMIN_PROHIBITED] = {EACCES, true},
    [ICMP6_UNREACH_BEYOND_SCOPE] = {EHOSTUNREACH, false}, [ICMP6_UNREACH_ADDRESS] = {EHOSTUNREACH, false},
    [ICMP6_UNREACH_PORT] = {ECONNREFUSED, true},          [ICMP6_UNREACH_SOURCE_POLICY] = {EACCES, true},
    [ICMP6_UNREACH_REJECT_ROUTE] = {EACCES, true},
};

static struct icmp_errno errno_of(uint8_t family, const struct icmp_message *m)
{
    switch (m->kind) {
    case ICMP_KIND_TOO_BIG:
        return (struct icmp_errno){EMSGSIZE, false};
    case ICMP_KIND_TIME_EXCEEDED:
        return (struct icmp_errno){EHOSTUNREACH, false};
    case ICMP_KIND_UNREACHABLE:
        if (family == IP_V4 && m->code < sizeof unreach4 / sizeof unreach4[0])
            return unreach4[m->code];
        if (family == IP_V6 && m->code < sizeof unreach6 / sizeof unreach6[0])
            return unreach6[m->code];
        return (struct icmp_errno){family == IP_V4 ? EHOSTUNREACH : EPROTO, false};
    default:
        return (struct icmp_errno){EPROTO, true};
    }
}

/* RFC 1191 section 7: the next lower MTU that links have, for routers that name none. */
static uint16_t plateau_below(uint32_t total_bytes)
{
    static const uint16_t plateau[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006};

    for (unsigned i = 0; i < sizeof plateau / sizeof plateau[0]; i++)
        if (plateau[i] < total_bytes)
            return plateau[i];
    return IPV4_MIN_PMTU;
}

/* The MTU to believe; 0: not less than what we send anyway. */
static uint16_t believed_mtu(const struct stack *st, const struct icmp_message *m, const struct icmp_quote *q)
{
    uint32_t mtu = m->mtu;
    uint32_t least = q->src.family == IP_V4 ? IPV4_MIN_PMTU : IPV6_MIN_MTU; /* RFC 8201 section 4 */

    if (q->src.family == IP_V4 && mtu < 68)
        mtu = plateau_below(q->total_bytes);
    if (mtu < least)
        mtu = least;
    return mtu < st_link_mtu(st, q->src.family) ? (uint16_t)mtu : 0;
}

/* True if the engine took it. */
static bool tcp_error(struct stack *st, const struct icmp_quote *q, struct icmp_errno e, uint16_t mtu,
                      uint64_t now)
{
    struct tcp_icmp icmp = {
        .tuple = {.local = q->src, .remote = q->dst, .local_port = q->src_port, .remote_port = q->dst_port},
        .seq = q->tcp_seq,
        .error = e.error,
        .hard = e.hard,
        .mtu = mtu};
    unsigned long long taken = tcp_get_counters(st->tcp)->icmp_errors;

    tcp_icmp(st->tcp, &icmp, now);
    return tcp_get_counters(st->tcp)->icmp_errors != taken;
}

/* The echo request that is quoted. True if it was a ping of ours. */
static bool ping_error(struct stack *st, const struct icmp_message *m, const struct icmp_quote *q, int error,
                       uint64_t now)
{
    size_t at = q->src.family == IP_V4 ? (size_t)(m->body[0] & 15) * 4 : IPV6_HEADER_BYTES;
    struct st_ping *p;

    if (m->body_bytes < at + ICMP_HEADER_BYTES || get_be16(m->body + at + 4) != st->ping_id)
        return false;
    p = ping_find(st, get_be16(m->body + at + 6));
    if (!p || !ip_addr_eq(&p->dst, &q->dst))
        return false;
    ping_end(st, p, error, time_since(now, p->sent_at), 0);
    return true;
}

static void error_input(struct stack *st, const struct upper *u, const struct icmp_message *m, uint64_t now)
{
    struct icmp_quote q;
    struct icmp_errno e = errno_of(u->src.family, m);
    uint16_t mtu = 0;
    bool ours = false;

    if (m->kind == ICMP_KIND_SOURCE_QUENCH) /* RFC 6633 */
        return;
    if (icmp_quote_decode(u->src.family, m->body, m->body_bytes, st->ifindex, &q) != ICMP_QUOTE_OK) {
        st_drop(st, STACK_DROP_ICMP_MALFORMED);
        return;
    }
    if (!st_addr_is_ours(st, &q.src)) {
        st_drop(st, STACK_DROP_IP_DESTINATION);
        return;
    }
    if (m->kind == ICMP_KIND_TOO_BIG) {
        mtu = believed_mtu(st, m, &q);
        if (!mtu)
            return;
    }
    if (q.proto == IP_PROTO_TCP && q.tcp_seq_ok)
        ours = tcp_error(st, &q, e, mtu, now);
    else if (q.proto == IP_PROTO_ICMP || q.proto == IP_PROTO_ICMPV6)
        ours = ping_error(st, m, &q, e.error, now);
    else
        st_drop(st, STACK_DROP_ICMP_MALFORMED);
    if (mtu && ours)
        st_path_learn(st, &q.dst, mtu, now);
}

void st_icmp_input(struct stack *st, struct packet *pk, const struct upper *u, uint64_t now)
{
    struct icmp_message m;
    enum icmp_decode_result r;

    st->counters.icmp_in++;
    if (!st_packet_complete_csum(st, pk, u, ICMP_CSUM_AT)) {
        st_drop(st, STACK_DROP_VNET_HEADER);
        return;
    }
    r = u->src.family == IP_V4 ? icmp4_decode(pk->p + u->at, u->end - u->at, &m)
                               : icmp6_decode(&u->src, &u->dst, pk->p + u->at, u->end - u->at, &m);
    if (r != ICMP_DECODE_OK) {
        st_drop(st, r == ICMP_DECODE_BAD_CSUM ? STACK_DROP_ICMP_CHECKSUM : STACK_DROP_ICMP_MALFORMED);
        return;
    }
    if (m.kind != ICMP_KIND_ND && st_addr_is_ours(st, &u->src)) {
        st_drop(st, STACK_DROP_IP_SOURCE);
        return;
    }
    if (m.kind == ICMP_KIND_ECHO_REQUEST)
        echo_request(st, u, &m);
    else if (m.kind == ICMP_KIND_ECHO_REPLY)
        echo_reply(st, u, &m, now);
    else if (m.kind == ICMP_KIND_ND)
        st_nd_input(st, pk, u, now);
    else if (m.kind == ICMP_KIND_MLD)
        st_mld_input(st, pk, u, now);
    else if (icmp_is_error(&m))
        error_input(st, u, &m, now);
    else if (m.kind != ICMP_KIND_REDIRECT) /* redirects: see nd.c */
        st_drop(st, STACK_DROP_ICMP_MALFORMED);
}
