/*
 * tcp/tcp_info.h: what a connection tells about itself. Names and units are those of Linux's struct tcp_info without
 * the prefix tcpi_ (times in microseconds unless said otherwise); what Linux has not is at the end.
 */
#ifndef TAUT_TCP_INFO_H
#define TAUT_TCP_INFO_H

#include <stdbool.h>
#include <stdint.h>
#include "base/ipaddr.h"
#include "tcp/tcp_enums.h"

enum tcp_ca_state { TCP_CA_OPEN, TCP_CA_DISORDER, TCP_CA_CWR, TCP_CA_RECOVERY, TCP_CA_LOSS };

#define TCP_INFO_OPT_TIMESTAMPS 1
#define TCP_INFO_OPT_SACK 2
#define TCP_INFO_OPT_WSCALE 4
#define TCP_INFO_OPT_ECN 8
#define TCP_INFO_OPT_ECN_SEEN 16 /* data came with an ECN mark */
#define TCP_INFO_OPT_SYN_DATA 32 /* data in the SYN was acknowledged */

/* Why Fast Open did not carry data (Linux's enum tcp_fastopen_client_fail). */
enum tcp_fastopen_fail {
    TFO_STATUS_UNSPEC,
    TFO_COOKIE_UNAVAILABLE,
    TFO_DATA_NOT_ACKED,
    TFO_SYN_RETRANSMITTED
};

/* idiag_timer of Linux's inet_diag: retransmission (or loss probe), keepalive (or FIN-WAIT-2), TIME-WAIT, window probe. */
enum tcp_info_timer { TCP_INFO_TIMER_OFF, TCP_INFO_TIMER_ON, TCP_INFO_TIMER_KEEPALIVE, TCP_INFO_TIMER_TIMEWAIT, TCP_INFO_TIMER_PERSIST };

struct tcp_info {
    uint8_t state;       /* enum tcp_state */
    uint8_t ca_state;    /* enum tcp_ca_state */
    uint8_t retransmits; /* timeouts in a row */
    uint8_t probes;      /* unanswered window or keepalive probes */
    uint8_t backoff;
    uint8_t options;     /* TCP_INFO_OPT_* */
    uint8_t snd_wscale, rcv_wscale;
    uint8_t fastopen_client_fail; /* enum tcp_fastopen_fail */
    uint32_t rto, ato;
    uint32_t snd_mss, rcv_mss;
    uint32_t unacked, sacked, lost, retrans; /* segments */
    uint32_t last_data_sent, last_data_recv, last_ack_recv; /* ms ago */
    uint32_t pmtu, rcv_ssthresh;
    uint32_t rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
    uint32_t rcv_rtt, rcv_space;
    uint32_t total_retrans;
    uint64_t pacing_rate, max_pacing_rate; /* bytes/s; UINT64_MAX: none */
    uint64_t bytes_acked, bytes_received;
    uint32_t segs_out, segs_in;
    uint32_t notsent_bytes, min_rtt;
    uint32_t data_segs_in, data_segs_out;
    uint64_t delivery_rate; /* bytes/s of the last sample, 0: none */
    bool delivery_rate_app_limited;
    uint64_t busy_time;                    /* while bytes waited or were not acknowledged; of this: */
    uint64_t rwnd_limited, sndbuf_limited; /* held back by the peer's window, by SO_SNDBUF */
    uint32_t delivered, delivered_ce;
    uint64_t bytes_sent, bytes_retrans;
    uint32_t dsack_dups, reord_seen, rcv_ooopack;
    uint32_t snd_wnd, rcv_wnd; /* bytes; rcv_wnd: as last announced */
    uint32_t rehash;           /* 0: no other path is chosen on a timeout */
    uint16_t total_rto, total_rto_recoveries; /* timeouts; times that the first of a row came */
    uint32_t total_rto_time;                  /* ms spent in recoveries that a timeout began */

    /* taut's own */
    struct ip_tuple tuple;
    uint64_t user;
    const char *congestion; /* name of the congestion control; NULL: has none */
    int error;             /* errno that ended it, 0 */
    uint8_t limit;         /* enum tcp_limit: what its next byte waits for */
    bool orphan;
    bool peer_closed, shut_write; /* FIN received; FIN queued */
    bool accepted; /* owned, and in no accept queue */
    uint32_t iss, irs, snd_una, snd_nxt, write_seq, rcv_nxt, copied_seq;
    uint32_t unread_bytes; /* in order, not yet read by the program */
    uint32_t ooo_bytes;
    uint32_t rcv_open;     /* of rcv_wnd, what has not been used */
    uint32_t sndbuf, rcvbuf, sndbuf_used, rcvbuf_used; /* bytes, truesize */
    uint64_t age;          /* us since it was made */
    uint64_t timer_left;   /* us to its next timer, UINT64_MAX: none */
    uint8_t timer;         /* enum tcp_info_timer: the one that Linux's inet_diag would tell */
    uint64_t timer_expires; /* us until that one, UINT64_MAX: none */
    uint64_t causes[TCP_CAUSE_MAX];
    uint64_t drops[TCP_DROP_MAX];
};

#endif
