/*
 * daemon/method_metrics.c: metrics.list and metrics.flush: what the engine remembers of destinations.
 *
 * Nothing is kept here. A page ends at a place of the engine's table; entries that come, go or move between
 * two pages may be shown twice or not at all, as with any listing of a live table.
 */
#include "daemon/call.h"

/* 0 stands for "never learnt". */
static json_t *known(uint32_t v)
{
    return v ? json_integer(v) : json_null();
}

static json_t *cookie_json(const struct tcp_metrics *m)
{
    char text[2 * TCP_FASTOPEN_COOKIE_MAX + 1];

    if (!m->fastopen_cookie_bytes)
        return json_null();
    for (unsigned i = 0; i < m->fastopen_cookie_bytes && i < TCP_FASTOPEN_COOKIE_MAX; i++)
        snprintf(text + 2 * i, 3, "%02x", m->fastopen_cookie[i]);
    return json_string(text);
}

static json_t *metrics_row(const struct tcp_metrics *m)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "address", json_addr(&m->remote), "source",
        json_addr(&m->local), "age_s", json_real((double)(m->age / 1000) / 1e3), "rtt_us", known(m->rtt_us),
        "rttvar_us", known(m->rttvar_us), "ssthresh", known(m->ssthresh), "cwnd", known(m->cwnd),
        "reordering", known(m->reordering), "fastopen_mss", known(m->fastopen_mss), "fastopen_cookie",
        cookie_json(m), "fastopen_syn_loss", (json_int_t)m->fastopen_syn_loss);
}

enum control_outcome method_metrics_list(struct control_call *call)
{
    uint32_t at = (uint32_t)arg_int(call, "after", 0);
    int64_t limit = arg_int(call, "limit", 500);
    json_t *rows = json_array(), *next = NULL;
    struct ip_addr only;
    bool filtered = arg_address(call, "address", &only);
    struct tcp_metrics m;

    while (tcp_metrics_next(call->d->tcp, &at, call->now, &m)) {
        if (filtered && !ip_addr_eq(&m.remote, &only))
            continue;
        if ((int64_t)json_array_size(rows) == limit) {
            next = json_integer((json_int_t)at - 1); /* this one begins the next page */
            break;
        }
        json_array_append_new(rows, metrics_row(&m));
    }
    call->result = json_pack("{s:o, s:o}", "metrics", rows, "next", next ? next : json_null());
    return CONTROL_DONE;
}

enum control_outcome method_metrics_flush(struct control_call *call)
{
    struct ip_addr only;
    bool filtered = arg_address(call, "address", &only);
    uint32_t n = tcp_metrics_flush(call->d->tcp, filtered ? &only : NULL);

    call->result = json_pack("{s:I}", "forgotten", (json_int_t)n);
    return CONTROL_DONE;
}
