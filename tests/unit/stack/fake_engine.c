/*
 * See fake_engine.h: the part of tcp/tcp.h and sock/sock.h that the stack calls.
 */
#include <stdlib.h>
#include <string.h>
#include "fake_engine.h"
#include "tcp/tcp_trace.h"

struct tcp *tcp_create(const struct tcp_params *params)
{
    (void)params;
    return calloc(1, sizeof(struct tcp));
}

unsigned tcp_keep_specs(uint32_t max_metrics, struct keep_spec *ret)
{
    (void)max_metrics;
    ret[0] = (struct keep_spec){"metrics", 1, 8, 1};
    ret[1] = (struct keep_spec){"tcp counters", 1, 8, 1};
    return TCP_KEEP_TABLES;
}

void tcp_get_keep_found(const struct tcp *t, struct tcp_keep_found *ret)
{
    (void)t;
    *ret = (struct tcp_keep_found){0};
}

void tcp_destroy(struct tcp *t)
{
    free(t);
}

struct socks *socks_create(const struct socks_params *params)
{
    params->tcp->net = params->net;
    return calloc(1, 1);
}

void socks_destroy(struct socks *ss)
{
    free(ss);
}

tcp_id fake_ready(struct tcp *t, const struct tcp_seg *seg)
{
    struct fake_conn *c = &t->conn[t->n_conn++];

    c->src = seg->src;
    c->dst = seg->dst;
    fake_more(t, t->n_conn, seg);
    return t->n_conn;
}

void fake_more(struct tcp *t, tcp_id id, const struct tcp_seg *seg)
{
    struct fake_conn *c = &t->conn[id - 1];

    c->out[c->n_out++] = (struct tcp_out){.id = id, .cause = TCP_CAUSE_DATA, .seg = *seg};
    c->ready = true;
}

void tcp_input(struct tcp *t, const struct tcp_seg *seg, const struct tcp_path *path, uint64_t now)
{
    size_t at = 0;

    (void)now;
    if (t->n_in == FAKE_MAX)
        return;
    t->in[t->n_in] = *seg;
    for (unsigned i = 0; i < seg->n_slices; i++) {
        memcpy(t->in_data[t->n_in] + at, seg->slice[i].data, seg->slice[i].len);
        at += seg->slice[i].len;
    }
    if (at != seg->len)
        abort();
    t->in_chunk[t->n_in] = seg->n_slices ? seg->slice[seg->n_slices - 1].chunk : NULL;
    t->in_path_ok[t->n_in] = path;
    if (path)
        t->in_path[t->n_in] = *path;
    t->n_in++;
    t->counters.in_bytes += seg->len;
}

bool tcp_rcv_in_order(struct tcp *t, const struct tcp_seg *seg)
{
    (void)seg;
    return !t->out_of_order;
}

void tcp_icmp(struct tcp *t, const struct tcp_icmp *icmp, uint64_t now)
{
    (void)now;
    if (t->n_icmp < FAKE_MAX)
        t->icmp[t->n_icmp++] = *icmp;
    t->counters.icmp_errors += t->icmp_taken;
}

void tcp_expire(struct tcp *t, uint64_t now)
{
    (void)t;
    (void)now;
}

bool tcp_next_reply(struct tcp *t, uint64_t now, struct tcp_out *ret)
{
    (void)now;
    if (t->reply_at == t->n_reply)
        return false;
    *ret = t->reply[t->reply_at++];
    return true;
}

bool tcp_next_ready(struct tcp *t, struct tcp_out *ret)
{
    for (unsigned i = 0; i < t->n_conn; i++) {
        struct fake_conn *c = &t->conn[i];

        if (!c->ready || c->suspended)
            continue;
        memset(ret, 0, sizeof *ret);
        ret->id = i + 1;
        ret->seg.src = c->src;
        ret->seg.dst = c->dst;
        return true;
    }
    return false;
}

bool tcp_output(struct tcp *t, tcp_id id, uint64_t now, struct tcp_out *ret)
{
    struct fake_conn *c = &t->conn[id - 1];

    (void)now;
    if (c->at == c->n_out) {
        c->ready = false;
        return false;
    }
    *ret = c->out[c->at++];
    c->ready = c->at < c->n_out;
    return true;
}

bool tcp_wants_path(const struct tcp *t, uint64_t now)
{
    (void)t, (void)now;
    return false;
}

void tcp_suspend(struct tcp *t, tcp_id id)
{
    t->conn[id - 1].suspended = true;
}

void tcp_resume(struct tcp *t, tcp_id id)
{
    t->conn[id - 1].suspended = false;
}

void tcp_unreachable(struct tcp *t, tcp_id id, int error, uint64_t now)
{
    (void)now;
    t->conn[id - 1].suspended = false;
    t->conn[id - 1].ready = false;
    t->conn[id - 1].unreachable = error;
}

void tcp_tx_failed(struct tcp *t, const struct tcp_out *out)
{
    t->failed = *out;
    t->n_failed++;
}

void tcp_tx_refused(struct tcp *t, const struct tcp_out *out, uint64_t now)
{
    (void)now;
    t->refused[t->n_refused++ % FAKE_REFUSED] = *out;
}

void tcp_path_mtu(struct tcp *t, tcp_id id, uint16_t mtu)
{
    t->conn[id - 1].path_mtu = mtu;
}

void tcp_set_gso_max(struct tcp *t, uint32_t bytes)
{
    t->gso_max = bytes;
}

uint64_t tcp_deadline(const struct tcp *t)
{
    (void)t;
    return TIME_NEVER;
}

uint32_t tcp_commit(struct tcp *t, uint64_t now)
{
    (void)now;
    t->commits++;
    return 0;
}

const char *tcp_check_all(const struct tcp *t)
{
    (void)t;
    return NULL;
}

const struct tcp_counters *tcp_get_counters(const struct tcp *t)
{
    return &t->counters;
}

const uint64_t *tcp_get_drops(const struct tcp *t)
{
    return t->drops;
}

void tcp_config_defaults(struct tcp_config *ret)
{
#define X(name, def, min, max, unit, scope, help) ret->name = def;
    TCP_CONFIG(X)
#undef X
}

void tcp_trace_reply(struct tcp *t, enum tcp_rec_reply what, const char *name, const struct ip_addr *local,
                     const struct ip_addr *remote, uint64_t now)
{
    (void)t;
    (void)what;
    (void)name;
    (void)local;
    (void)remote;
    (void)now;
}
