/*
 * tcp/recovery.h: what one ACK says, as it passes through the pipeline of ack.c, and the stages that
 * recovery.c holds. Private to the sending half.
 */
#ifndef TAUT_TCP_RECOVERY_H
#define TAUT_TCP_RECOVERY_H

#include "tcp/tcp_priv.h"

/* Filled stage by stage; later stages only read what earlier ones wrote. */
struct tcp_ack_value {
    /* before anything changed */
    uint32_t prior_una, prior_fack, prior_in_flight, prior_delivered, prior_packets;
    /* the segment */
    bool has_data;
    bool ts_seen;
    uint32_t tsecr;
    uint32_t n_segs; /* of the frame that brought it */
    /* window, clean-up */
    bool una_advanced, window_update, data_acked, retrans_acked, reneging;
    uint64_t retrans_sent_at; /* of the last retransmission acknowledged, 0: none */
    bool orig_sack_acked;     /* something sent once and never sacked was acknowledged, below high_seq */
    uint32_t acked_segs;      /* taken off the queue */
    uint32_t reord_seq;       /* lowest acknowledged that was neither sacked nor retransmitted */
    bool reord_seen;
    uint64_t first_sent_at, last_sent_at; /* of acknowledged ones never retransmitted, 0: none */
    /* SACK */
    struct tcp_sack_result sack;
    bool dsack;
    /* RTT */
    uint64_t rtt_us; /* of the newest; UINT64_MAX: no sample */
    bool rearm;      /* the RTO timer starts anew */
    /* recovery */
    uint32_t num_dupack;
    uint32_t newly_lost;
};

/* Is the state machine concerned (tcp_ack_is_dubious)? */
bool tcp_ack_is_dubious(const struct tcp_conn *c, const struct tcp_ack_value *v);
/* The state machine (tcp_fastretrans_alert): marks losses, enters and leaves Recovery and Loss, undoes. */
void tcp_recovery_ack(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now);
/* PRR in Recovery, else growth (tcp_cong_control). */
void tcp_cong_control(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now);
/* fack - low_seq bytes of reordering were seen (tcp_check_sack_reordering). */
void tcp_check_reordering(struct tcp *t, struct tcp_conn *c, uint32_t low_seq);
/* Without SACK: `acked` segments left, the guess of what is out of order shrinks (tcp_remove_reno_sacks). */
void tcp_remove_reno_sacks(struct tcp *t, struct tcp_conn *c, uint32_t acked);

static inline bool tcp_in_cwnd_reduction(const struct tcp_conn *c)
{
    return c->ca_state == TCP_CA_CWR || c->ca_state == TCP_CA_RECOVERY;
}
/* Something retransmitted is not acknowledged yet (tcp_any_retrans_done). */
bool tcp_any_retrans_done(const struct tcp_conn *c);

/* Is cwnd what limits sending? noted whenever something left or could not (tcp_cwnd_validate). */
void tcp_cwnd_validate(struct tcp *t, struct tcp_conn *c, bool limited, uint64_t now);
/* RFC 2861, RFC 5681 section 4.1: before sending after an idle RTO (tcp_slow_start_after_idle_check). */
void tcp_cwnd_restart_after_idle(struct tcp *t, struct tcp_conn *c, uint64_t now);

/* PROBE0 is set, RETRANS off: nothing is in flight. */
void tcp_arm_probe0(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The RTO as it is now, with backoff, in ns. */
uint64_t tcp_rto_ns(const struct tcp *t, const struct tcp_conn *c);
/* Bytes and FIN that wait to be sent for the first time. */
uint32_t tcp_unsent_bytes(const struct tcp_conn *c);
bool tcp_fin_unsent(const struct tcp_conn *c);
static inline uint32_t tcp_wnd_end(const struct tcp_conn *c)
{
    return c->snd_una + c->snd_wnd;
}
/* Payload per segment now: mss less what SACK blocks take (tcp_current_mss). */
uint32_t tcp_current_mss(const struct tcp_conn *c);

#endif
