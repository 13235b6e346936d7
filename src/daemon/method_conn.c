/*
 * daemon/method_conn.c: conn.*: listing, looking into, tuning and ending connections; and the rows that
 * listings and events share.
 *
 * A connection is looked at by id only; whose it is comes from its socket's owner (struct
 * sock_owner.describe). Ending one goes through its owner, never past it: the owner's pointers must not
 * dangle. conn.list is in method_list.c.
 */
#include "daemon/call.h"

#include <string.h>

#include "daemon/ids.h"
#include "daemon/pump.h"

/* ---- Rows
 * -------------------------------------------------------------------------------------------------------- */

json_t *json_addr(const struct ip_addr *a)
{
    char text[IP_ADDR_TEXT_MAX];

    return json_string(ip_addr_format(a, text));
}

json_t *json_addr_port(const struct ip_addr *a, uint16_t port)
{
    char text[IP_ADDR_PORT_MAX];

    if (a->family == IP_NONE) {
        snprintf(text, sizeof text, "*:%u", port);
        return json_string(text);
    }
    return json_string(ip_addr_port_format(a, port, text));
}

json_t *json_u64(uint64_t v)
{
    return v > INT64_MAX ? json_null() : json_integer((json_int_t)v);
}

json_t *json_mac(const uint8_t mac[STACK_MAC_BYTES])
{
    static const uint8_t zero[STACK_MAC_BYTES];
    char text[18];

    if (memcmp(mac, zero, sizeof zero) == 0)
        return json_null();
    snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
             mac[5]);
    return json_string(text);
}

json_t *json_conn_id(tcp_id id)
{
    char text[ID_TEXT_MAX];

    return json_string(id_format(id, text));
}

static const char *nobody(const struct tcp_info *info)
{
    if (info->state == TCP_STATE_TIME_WAIT || info->orphan)
        return "orphan";
    if (info->state == TCP_STATE_SYN_RECV || info->state == TCP_STATE_NEW_SYN_RECV)
        return "listener";
    return "not accepted";
}

void conn_owner(struct daemon *d, tcp_id id, const struct tcp_info *info, struct sock_owner_info *ret)
{
    struct sock *s = sock_by_conn(d->socks, id);
    struct sock_owner *owner = s ? sock_user(s) : NULL;

    memset(ret, 0, sizeof *ret);
    if (owner && owner->describe)
        owner->describe(owner, ret);
    if (ret->name[0])
        return;
    snprintf(ret->name, sizeof ret->name, "%s", s ? "daemon" : nobody(info));
}

json_t *conn_row(struct daemon *d, tcp_id id, const struct tcp_info *info)
{
    struct sock_owner_info owner;

    conn_owner(d, id, info, &owner);
    return json_pack("{s:o, s:s, s:o, s:o, s:s, s:I, s:I, s:s?, s:o, s:o, s:s}", "id", json_conn_id(id), "state",
                     tcp_state_name((enum tcp_state)info->state), "local",
                     json_addr_port(&info->tuple.local, info->tuple.local_port), "peer",
                     json_addr_port(&info->tuple.remote, info->tuple.remote_port), "owner", owner.name,
                     "rtt_us", (json_int_t)info->rtt, "cwnd", (json_int_t)info->snd_cwnd, "congestion", info->congestion, "bytes_in",
                     json_u64(info->bytes_received), "bytes_out", json_u64(info->bytes_acked), "limit",
                     tcp_limit_name((enum tcp_limit)info->limit));
}

/* ---- conn.get
 * ---------------------------------------------------------------------------------------------------- */

/* Numbers of struct tcp_info, in its order. */
#define INFO_NUMBERS(X)                                                                                      \
    X(retransmits)                                                                                           \
    X(probes) X(backoff) X(snd_wscale) X(rcv_wscale) X(rto) X(ato) X(snd_mss) X(rcv_mss) X(unacked)          \
        X(sacked) X(lost) X(retrans) X(last_data_sent) X(last_data_recv) X(last_ack_recv) X(pmtu)            \
            X(rcv_ssthresh) X(rtt) X(rttvar) X(snd_ssthresh) X(snd_cwnd) X(advmss) X(reordering) X(rcv_rtt)  \
                X(rcv_space) X(total_retrans) X(pacing_rate) X(max_pacing_rate) X(bytes_acked)               \
                    X(bytes_received) X(segs_out) X(segs_in) X(notsent_bytes) X(min_rtt) X(data_segs_in)     \
                        X(data_segs_out) X(delivery_rate) X(busy_time) X(rwnd_limited) X(sndbuf_limited)     \
                            X(delivered) X(delivered_ce) X(bytes_sent) X(bytes_retrans) X(dsack_dups)        \
                                X(reord_seen) X(rcv_ooopack) X(snd_wnd) X(rcv_wnd) X(rehash) X(total_rto) X(total_rto_recoveries)  \
                                    X(total_rto_time) X(rcv_open) X(iss) X(irs) X(snd_una)  \
                                    X(snd_nxt) X(write_seq) X(rcv_nxt) X(copied_seq) X(unread_bytes)         \
                                        X(ooo_bytes) X(sndbuf) X(rcvbuf) X(sndbuf_used) X(rcvbuf_used)       \
                                            X(age) X(timer_left) X(timer_expires)

static const char *ca_state_name(unsigned s)
{
    static const char *const names[] = {"open", "disorder", "cwr", "recovery", "loss"};

    return s < sizeof names / sizeof *names ? names[s] : "?";
}

static const char *fastopen_fail_name(unsigned f)
{
    static const char *const names[] = {"none", "cookie_unavailable", "data_not_acked", "syn_retransmitted"};

    return f < sizeof names / sizeof *names ? names[f] : "?";
}

static const char *timer_name(unsigned t)
{
    static const char *const names[] = {"off", "on", "keepalive", "timewait", "persist"};

    return t < sizeof names / sizeof *names ? names[t] : "?";
}

static json_t *options_json(unsigned options)
{
    json_t *a = json_array();

    if (options & TCP_INFO_OPT_TIMESTAMPS)
        json_array_append_new(a, json_string("timestamps"));
    if (options & TCP_INFO_OPT_SACK)
        json_array_append_new(a, json_string("sack"));
    if (options & TCP_INFO_OPT_WSCALE)
        json_array_append_new(a, json_string("wscale"));
    if (options & TCP_INFO_OPT_ECN)
        json_array_append_new(a, json_string("ecn"));
    if (options & TCP_INFO_OPT_ECN_SEEN)
        json_array_append_new(a, json_string("ecn_seen"));
    if (options & TCP_INFO_OPT_SYN_DATA)
        json_array_append_new(a, json_string("syn_data"));
    return a;
}

static void add_words(json_t *row, const struct tcp_info *info)
{
    json_object_set_new(row, "limit_text", json_string(tcp_limit_text((enum tcp_limit)info->limit)));
    json_object_set_new(row, "ca_state", json_string(ca_state_name(info->ca_state)));
    json_object_set_new(row, "options", options_json(info->options));
    json_object_set_new(row, "timer", json_string(timer_name(info->timer)));
    json_object_set_new(row, "orphan", json_boolean(info->orphan));
    json_object_set_new(row, "delivery_rate_app_limited", json_boolean(info->delivery_rate_app_limited));
    json_object_set_new(row, "fastopen_client_fail", json_string(fastopen_fail_name(info->fastopen_client_fail)));
}

/* The number of this name, or NULL. */
static json_t *info_number(const struct tcp_info *info, const char *name)
{
#define X(member)                                                                                            \
    if (strcmp(name, #member) == 0)                                                                          \
        return json_u64(info->member);
    INFO_NUMBERS(X)
#undef X
    return NULL;
}

void conn_add_fields(json_t *row, const struct tcp_info *info, const json_t *names)
{
    const json_t *name;
    size_t i;

    if (!names) {
#define X(member) json_object_set_new(row, #member, json_u64(info->member));
        INFO_NUMBERS(X)
#undef X
        add_words(row, info);
        return;
    }
    if (strcmp(json_string_value(json_array_get(names, 0)), "*") == 0) { /* most of an idle connection's are 0 */
#define X(member)                                                                                            \
    if (info->member)                                                                                        \
        json_object_set_new_nocheck(row, #member, json_u64(info->member));
        INFO_NUMBERS(X)
#undef X
        add_words(row, info);
        return;
    }
    json_array_foreach(names, i, name)
        json_object_set_new(row, json_string_value(name), info_number(info, json_string_value(name)));
}

bool conn_is_field(const char *name)
{
    static const struct tcp_info none;
    json_t *v = info_number(&none, name);

    json_decref(v);
    return v != NULL;
}

static json_t *nonzero_causes(const struct tcp_info *info)
{
    json_t *o = json_object();

    for (int i = 0; i < TCP_CAUSE_MAX; i++) {
        if (info->causes[i])
            json_object_set_new(o, tcp_cause_name((enum tcp_cause)i), json_u64(info->causes[i]));
    }
    return o;
}

static json_t *nonzero_drops(const struct tcp_info *info)
{
    json_t *o = json_object();

    for (int i = 0; i < TCP_DROP_MAX; i++) {
        if (info->drops[i])
            json_object_set_new(o, tcp_drop_name((enum tcp_drop)i), json_u64(info->drops[i]));
    }
    return o;
}

static json_t *pump_json(const struct pump *p)
{
    struct pump_info info;

    if (!p)
        return json_null();
    pump_get_info(p, &info);
    return json_pack("{s:o, s:o, s:I, s:b, s:b}", "bytes_in", json_u64(info.bytes_in), "bytes_out",
                     json_u64(info.bytes_out), "undelivered", (json_int_t)info.undelivered, "local_eof",
                     (int)info.local_eof, "peer_eof", (int)info.peer_eof);
}

static enum control_outcome no_such_connection(struct control_call *call)
{
    return control_fail(call, CONTROL_NO_SUCH_CONNECTION, 0, "no connection %s (any more)",
                        arg_string(call, "id"));
}

enum control_outcome method_conn_get(struct control_call *call)
{
    struct daemon *d = call->d;
    tcp_id id = arg_conn(call, "id");
    struct sock_owner_info owner;
    struct tcp_info info;
    json_t *j;

    memset(&info, 0, sizeof info);
    if (tcp_get_info(d->tcp, id, call->now, &info) < 0)
        return no_such_connection(call);
    conn_owner(d, id, &info, &owner);
    j = json_pack("{s:o, s:s, s:o, s:o, s:s, s:s, s:s?, s:b}", "id", json_conn_id(id), "state",
                  tcp_state_name((enum tcp_state)info.state), "local",
                  json_addr_port(&info.tuple.local, info.tuple.local_port), "peer",
                  json_addr_port(&info.tuple.remote, info.tuple.remote_port), "owner", owner.name, "limit",
                  tcp_limit_name((enum tcp_limit)info.limit), "congestion", info.congestion, "md5",
                  (int)tcp_md5_is_on(d->tcp, id));
    conn_add_fields(j, &info, NULL);
    json_object_set_new(j, "error", info.error ? json_string(strerrorname_np(info.error)) : json_null());
    json_object_set_new(j, "causes", nonzero_causes(&info));
    json_object_set_new(j, "drops", nonzero_drops(&info));
    json_object_set_new(j, "pump", pump_json(owner.pump));
    call->result = j;
    return CONTROL_DONE;
}

/* ---- conn.set
 * ---------------------------------------------------------------------------------------------------- */

#define CONGESTION "congestion" /* its value is a name */

static const struct conn_option {
    const char *name;
    int level, number; /* Linux's */
} conn_options[] = {
    {"nodelay", 6, 1},  {"cork", 6, 3},      {"quickack", 6, 12}, {"keepalive", 1, 9},
    {"keepidle", 6, 4}, {"keepintvl", 6, 5}, {"keepcnt", 6, 6},   {"user_timeout", 6, 18},
    {"linger2", 6, 8},  {"sndbuf", 1, 7},    {"rcvbuf", 1, 8},    {"window_clamp", 6, 10},
    {"notsent_lowat", 6, 25},               {"max_pacing_rate", 1, 47},
    {"tos", 0, 1},      {CONGESTION, 6, 13},
};
static const struct conn_option tclass = {"tos", 41, 67};

static const struct conn_option *find_option(const char *name, const struct sock *s)
{
    struct ip_addr local;
    uint16_t port;

    if (strcmp(name, "tos") == 0 && sock_name(s, &local, &port) == 0 && local.family == IP_V6 &&
        !ip_addr_is_v4_mapped(&local))
        return &tclass;
    for (size_t i = 0; i < sizeof conn_options / sizeof *conn_options; i++) {
        if (strcmp(conn_options[i].name, name) == 0)
            return &conn_options[i];
    }
    return NULL;
}

/* NULL with the fault: gone, or nobody's. */
static struct sock *owned_sock(struct control_call *call, tcp_id id, struct tcp_info *ret)
{
    struct sock *s = sock_by_conn(call->d->socks, id);

    if (tcp_get_info(call->d->tcp, id, call->now, ret) < 0)
        no_such_connection(call);
    else if (!s)
        control_fail(call, CONTROL_WRONG_STATE, 0, "nobody has this connection (%s)", nobody(ret));
    else
        return s;
    return NULL;
}

static enum control_outcome set_congestion(struct control_call *call, struct sock *s, const struct conn_option *o)
{
    const json_t *value = json_object_get(call->args, "value");
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    char now_is[16] = "";
    size_t bytes = sizeof now_is;
    int r = sock_setopt(s, o->level, o->number, text, strlen(text), call->now);

    if (r == -ENOENT || r == -EINVAL)
        return control_fail(call, CONTROL_INVALID_PARAMS, 0,
                            "parameter \"value\": the name of a congestion control, as cubic, is expected");
    if (r == 0)
        r = sock_getopt(s, o->level, o->number, now_is, &bytes, call->now);
    if (r < 0)
        return control_fail_errno(call, -r, CONGESTION);
    call->result = json_pack("{s:s, s:s}", "option", CONGESTION, "value", now_is);
    return CONTROL_DONE;
}

enum control_outcome method_conn_set(struct control_call *call)
{
    const char *name = arg_string(call, "option");
    const json_t *given = json_object_get(call->args, "value");
    const struct conn_option *o;
    int32_t value = (int32_t)arg_int(call, "value", 0);
    size_t bytes = sizeof value;
    struct tcp_info info;
    struct sock *s = owned_sock(call, arg_conn(call, "id"), &info);
    int r;

    if (!s)
        return CONTROL_FAILED;
    o = find_option(name, s);
    if (!o)
        return control_fail(
            call, CONTROL_INVALID_PARAMS, 0,
            "parameter \"option\": nodelay, cork, quickack, keepalive, keepidle, keepintvl, keepcnt, "
            "user_timeout, linger2, sndbuf, rcvbuf, window_clamp, notsent_lowat, max_pacing_rate, tos or congestion is expected");
    if (strcmp(o->name, CONGESTION) == 0)
        return set_congestion(call, s, o);
    if (!json_is_integer(given) || json_integer_value(given) != value)
        return control_fail(call, CONTROL_INVALID_PARAMS, 0, "parameter \"value\": an integer of 32 bits is expected");
    r = sock_setopt(s, o->level, o->number, &value, sizeof value, call->now);
    if (r < 0)
        return control_fail_errno(call, -r, name);
    r = sock_getopt(s, o->level, o->number, &value, &bytes, call->now);
    if (r < 0)
        return control_fail_errno(call, -r, name);
    call->result = json_pack("{s:s, s:i}", "option", name, "value", (int)value);
    return CONTROL_DONE;
}

/* ---- conn.close, conn.abort
 * -------------------------------------------------------------------------------------- */

static enum control_outcome end_connection(struct control_call *call, bool abort)
{
    tcp_id id = arg_conn(call, "id");
    struct sock *s = sock_by_conn(call->d->socks, id);
    struct sock_owner *owner = s ? sock_user(s) : NULL;
    struct tcp_info info;
    int r = 0;

    if (tcp_get_info(call->d->tcp, id, call->now, &info) < 0)
        return no_such_connection(call);
    if (owner && owner->end)
        owner->end(owner, s, abort, call->now);
    else if (s && !abort)
        r = sock_shutdown(s, SOCK_SHUT_RDWR, call->now);
    else if (!s && (info.orphan || info.state == TCP_STATE_TIME_WAIT) && abort)
        r = tcp_abort(call->d->tcp, id, call->now);
    else if (!s && (info.orphan || info.state == TCP_STATE_TIME_WAIT))
        r = 0; /* it is closing already */
    else
        return control_fail(call, CONTROL_WRONG_STATE, 0, "this connection cannot be ended now (%s)",
                            s ? "its owner allows it not" : nobody(&info));
    if (r < 0 && r != -ENOTCONN)
        return control_fail_errno(call, -r, arg_string(call, "id"));
    call->result = json_pack("{s:o}", "id", json_conn_id(id));
    return CONTROL_DONE;
}

enum control_outcome method_conn_close(struct control_call *call)
{
    return end_connection(call, false);
}

enum control_outcome method_conn_abort(struct control_call *call)
{
    return end_connection(call, true);
}
