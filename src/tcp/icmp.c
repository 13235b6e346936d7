/*
 * tcp/icmp.c: ICMP errors about segments that we sent (RFC 5927, RFC 1122 section 4.2.3.9, Linux
 * tcp_v4_err()).
 *
 * An error is believed only if its sequence number is in flight: snd_una <= seq < snd_nxt. A hard error ends
 * an active open; on a connection that is established it is only remembered (error_soft) for when the
 * timeouts give up. A path MTU is only ever lowered here, not below what every IP path carries.
 */
#include "tcp/tcp_priv.h"

/* A Fast Open's SYN-ACK is, too, though it has no descriptor. */
static bool in_flight(const struct tcp_conn *c, uint32_t seq)
{
    return seq_geq(seq, c->fastopen_rsk ? c->iss : c->snd_una) && seq_lt(seq, c->snd_nxt);
}

/* Where an error ends it: before it is established, or accepted (Fast Open). */
static bool is_opening(const struct tcp_conn *c)
{
    if (c->state == TCP_STATE_SYN_RECV && c->fastopen_rsk)
        return c->in_accept_queue;
    return c->state == TCP_STATE_SYN_SENT || c->state == TCP_STATE_SYN_RECV;
}

/* A SYN with data was too big: it goes again at once, without. */
static void syn_data_too_big(struct tcp *t, struct tcp_conn *c, uint16_t pmtu)
{
    uint16_t headers = tcp_ip_headers_bytes(c->tuple.local.family);

    tcp_sync_mss(t, c, pmtu);
    if (!c->syn_data || c->state != TCP_STATE_SYN_SENT || c->syn_pending)
        return;
    if (!c->path.advmss && c->advmss > pmtu - headers)
        c->advmss = (uint16_t)(pmtu - headers); /* as Linux, whose route has learned it (tcp_advertise_mss) */
    if (c->total_syn_retrans < UINT8_MAX)
        c->total_syn_retrans++;
    c->syn_pending = true;
    tcp_mark_ready(t, c);
}

/* Packet too big, RFC 1191, RFC 8201: smaller segments from now on. */
static void packet_too_big(struct tcp *t, struct tcp_conn *c, uint32_t seq, uint16_t mtu)
{
    uint32_t least = c->tuple.local.family == IP_V6 ? IPV6_MIN_MTU : IPV4_MIN_PMTU; /* smaller claims are raised */
    uint32_t pmtu = mtu > least ? mtu : least;

    if (pmtu < c->path.mtu)
        c->path.mtu = (uint16_t)pmtu; /* until the stack says otherwise */
    if (tcp_handshaking(c)) {
        if (pmtu < c->pmtu)
            syn_data_too_big(t, c, (uint16_t)pmtu);
        return;
    }
    if (pmtu < c->pmtu) {
        tcp_simple_retransmit(t, c, tcp_mss_at(t, c, (uint16_t)pmtu));
        tcp_sync_mss(t, c, (uint16_t)pmtu);
    } else {
        (void)tcp_mtup_too_big(t, c, seq, pmtu);
    }
}

static void conn_icmp(struct tcp *t, struct tcp_conn *c, const struct tcp_icmp *icmp, uint64_t now)
{
    tcp_rec_verb(t, NULL, now);
    if (t->rec)
        tcp_rec_put_icmp(t, c, icmp, now);
    if (!in_flight(c, icmp->seq)) {
        tcp_drop(t, c, TCP_DROP_ICMP_BAD_SEQ);
        t->counters.out_of_window_icmps++;
        return;
    }
    t->counters.icmp_errors++;
    if (icmp->error == EMSGSIZE) {
        packet_too_big(t, c, icmp->seq, icmp->mtu);
    } else if (is_opening(c)) {
        if (icmp->error)
            tcp_done(t, c, icmp->error, true, now);
    } else {
        c->error_soft = icmp->error;
    }
    if (c->state != TCP_STATE_CLOSE && tcp_may_send(t, c, now))
        tcp_mark_ready(t, c);
    tcp_rec_settle(t, c, now);
    tcp_mark_dirty(t, c);
    tcp_conn_reap(t, c);
}

void tcp_icmp(struct tcp *t, const struct tcp_icmp *icmp, uint64_t now)
{
    enum tcp_kind kind = TCP_KIND_FREE;
    void *entry = tcp_lookup_tuple(t, &icmp->tuple, &kind);

    t->now = now;
    if (entry && kind == TCP_KIND_PARKED)
        entry = tcp_wake_entry(t, entry, &kind);
    tcp_rec_verb(t, NULL, now);
    if (entry && kind == TCP_KIND_CONN)
        conn_icmp(t, entry, icmp, now);
    else if (entry && kind == TCP_KIND_REQ)
        tcp_req_icmp(t, entry, icmp, now);
    else if (!entry)
        tcp_drop(t, NULL, TCP_DROP_ICMP_NO_SOCKET);
}
