/*
 * sock/linux_info.c: TCP_INFO in the byte layout of Linux, so that programs written for it read it without change.
 *
 * The layout is held by assertions; programs ask with the length of the struct they know and get that much. Values the
 * engine does not keep are 0. Called by sock_getopt() only; changes nothing.
 */
#include <assert.h>
#include "sock/sock_priv.h"

#define AT(member, offset)                                                                                     \
    static_assert(offsetof(struct sock_linux_info, member) == (offset), "Linux has tcpi_" #member " elsewhere")
AT(wscales, 6);
AT(rto, 8);
AT(unacked, 24);
AT(last_data_sent, 44);
AT(pmtu, 60);
AT(rtt, 68);
AT(snd_cwnd, 80);
AT(total_retrans, 100);
AT(pacing_rate, 104);
AT(segs_out, 136);
AT(delivery_rate, 160);
AT(delivered, 192);
AT(bytes_sent, 200);
AT(dsack_dups, 216);
AT(snd_wnd, 228);
AT(total_rto, 240);
static_assert(sizeof(struct sock_linux_info) == 248, "struct tcp_info of Linux 6.9");

static void copy_info(const struct tcp_info *i, struct sock_linux_info *ret)
{
#define COPY(member) ret->member = i->member
    COPY(state), COPY(ca_state), COPY(retransmits), COPY(probes), COPY(backoff), COPY(options);
    ret->wscales = (uint8_t)((i->snd_wscale & 15) | (i->rcv_wscale & 15) << 4);
    ret->flags = (uint8_t)((i->fastopen_client_fail & 3) << 1 | (i->delivery_rate_app_limited ? 1 : 0));
    COPY(rto), COPY(ato), COPY(snd_mss), COPY(rcv_mss);
    COPY(unacked), COPY(sacked), COPY(lost), COPY(retrans);
    COPY(last_data_sent), COPY(last_data_recv), COPY(last_ack_recv);
    COPY(pmtu), COPY(rcv_ssthresh), COPY(rtt), COPY(rttvar), COPY(snd_ssthresh), COPY(snd_cwnd);
    COPY(advmss), COPY(reordering), COPY(rcv_rtt), COPY(rcv_space), COPY(total_retrans);
    COPY(pacing_rate), COPY(max_pacing_rate), COPY(bytes_acked), COPY(bytes_received);
    COPY(segs_out), COPY(segs_in), COPY(notsent_bytes), COPY(min_rtt), COPY(data_segs_in), COPY(data_segs_out);
    COPY(delivery_rate), COPY(busy_time), COPY(rwnd_limited), COPY(sndbuf_limited);
    COPY(delivered), COPY(delivered_ce), COPY(bytes_sent), COPY(bytes_retrans);
    COPY(dsack_dups), COPY(reord_seen), COPY(rcv_ooopack), COPY(snd_wnd), COPY(rcv_wnd);
    COPY(rehash), COPY(total_rto), COPY(total_rto_recoveries), COPY(total_rto_time);
#undef COPY
}

void sock_linux_info(struct sock *s, uint64_t now, struct sock_linux_info *ret)
{
    struct tcp_listen_info listen;
    struct tcp_info info;

    memset(ret, 0, sizeof *ret);
    ret->state = s->state;
    if (s->more->listener != 0) {
        /* A listener tells its accept queue in two fields that it has no other use for. */
        if (tcp_listen_info(s->ss->tcp, s->more->listener, &listen) == 0) {
            ret->unacked = listen.accept_queue;
            ret->sacked = listen.backlog;
        }
    } else if (s->conn != 0 && tcp_get_info(s->ss->tcp, s->conn, now, &info) == 0) {
        copy_info(&info, ret);
    }
}
