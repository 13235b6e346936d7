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
    uint32_t prior_una, prior_fack, prior_in_flight, prior_delivered, prior_packets, prior_lost;
    /* the segment */
    bool has_data;
    uint32_t prior_delivered_ce;
    bool ece; /* with ECE, on a connection that agreed on ECN */
    bool ts_seen;
    uint32_t tsecr;
    uint32_t n_segs; /* of the frame that brought it */
    /* window, clean-up */
    bool una_advanced, window_update, data_acked, retrans_acked, reneging;
    bool orig_sack_acked;     /* something sent once and never sacked was acknowledged, below high_seq */
    uint32_t acked_segs;      /* taken off the queue */
    uint32_t reord_seq;       /* lowest acknowledged that was neither sacked nor retransmitted */
    bool reord_seen;
    uint64_t first_sent_at, last_sent_at; /* of acknowledged ones never retransmitted, 0: none */
    uint64_t acked_since;                 /* when the lowest acknowledged was first sent, 0: none, or not known */
    /* SACK */
    struct tcp_sack_result sack;
    bool dsack;
    bool dsack_tlp; /* a D-SACK of the tail loss probe */
    /* RTT */
    uint64_t rtt_us; /* of the newest; UINT64_MAX: no sample */
    bool maybe_delayed; /* by the peer's delayed ACK */
    bool rearm;      /* the RTO timer starts anew */
    /* recovery */
    uint32_t num_dupack;
    bool lost_retrans; /* a retransmission was found lost */
};

/* Is the state machine concerned (tcp_ack_is_dubious)? */
bool tcp_ack_is_dubious(const struct tcp_conn *c, const struct tcp_ack_value *v);
/* The state machine (tcp_fastretrans_alert): marks losses, enters and leaves Recovery and Loss, undoes. */
void tcp_recovery_ack(struct tcp *t, struct tcp_conn *c, struct tcp_ack_value *v, uint64_t now);
/* Delivered by an ACK with ECE: so far in this ACK. */
static inline void tcp_count_ce(struct tcp_conn *c, const struct tcp_ack_value *v)
{
    if (v->ece)
        c->delivered_ce = v->prior_delivered_ce + (c->delivered - v->prior_delivered);
}
/* The controller hears what left the queue, and of the ACK: behind RTT, before loss marking. */
void tcp_cc_acked(const struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now);
/* What this ACK tells of the path's rate (tcp_rate_gen). */
void tcp_rate_gen(struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now,
                  struct cc_rate_sample *ret);
/* PRR in Recovery, else growth (tcp_cong_control). */
void tcp_cong_control(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now);
/* fack - low_seq bytes of reordering were seen (tcp_check_sack_reordering). */
void tcp_check_reordering(struct tcp *t, struct tcp_conn *c, uint32_t low_seq, bool by_timestamp);
/* Without SACK: `acked` segments left, the guess of what is out of order shrinks (tcp_remove_reno_sacks). */
void tcp_remove_reno_sacks(struct tcp *t, struct tcp_conn *c, uint32_t acked);

static inline bool tcp_in_cwnd_reduction(const struct tcp_conn *c)
{
    return c->ca_state == TCP_CA_CWR || c->ca_state == TCP_CA_RECOVERY;
}
/* Something retransmitted is not acknowledged yet (tcp_any_retrans_done). */
bool tcp_any_retrans_done(const struct tcp_conn *c);

/* ---- rack.c, tlp.c ---- */

#define TCP_TIMEOUT_MIN_NS (2 * NSEC_PER_MSEC) /* Linux TCP_TIMEOUT_MIN_US */

/* SACK connections: does time decide what is lost (tcp_recovery), or RFC 6675? */
bool tcp_is_rack(const struct tcp *t);
/* Marks what is lost by now; true: RETRANS waits for the reordering window of the rest. */
bool tcp_rack_mark_lost(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* `prior_delivered` of the newest descriptor that this ACK delivered, 0: none. */
void tcp_rack_update_reo_wnd(struct tcp *t, struct tcp_conn *c, uint32_t prior_delivered);
/* The RTO ran out: all is lost that was not sent within the last round trip. */
void tcp_rack_timeout_mark_lost(const struct tcp *t, struct tcp_conn *c, uint64_t now);
/* recovery.c, for the reordering timer: Recovery begins, `lost` segments were just marked. */
void tcp_rack_enter_recovery(struct tcp *t, struct tcp_conn *c, uint32_t lost, uint64_t now);

/* Arms RETRANS as TCP_RTX_PROBE; false: no probe now, the RTO is to run. advancing_rto: the RTO would start
 * now. */
bool tcp_schedule_loss_probe(struct tcp *t, struct tcp_conn *c, bool advancing_rto, uint64_t now);
/* output.c has made it: new data, or the tail again. */
void tcp_loss_probe_sent(struct tcp *t, struct tcp_conn *c, bool retransmission, uint64_t now);
void tcp_process_tlp_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint32_t ack,
                         uint64_t now);
/* recovery.c, for the probe that repaired a loss: one reduction of cwnd, at once. */
void tcp_tlp_recovery(struct tcp *t, struct tcp_conn *c, uint64_t now);

/* RETRANS at `at`, standing for `what`; PROBE0 off. */
void tcp_set_retrans(struct tcp *t, struct tcp_conn *c, enum tcp_rtx what, uint64_t at);

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
/* rec.c: what that ACK changed. */
void tcp_rec_put_ack(struct tcp *t, struct tcp_conn *c, const struct tcp_ack_value *v, uint64_t now);
/* Payload per segment now: mss less what SACK blocks take (tcp_current_mss). */
uint32_t tcp_current_mss(const struct tcp_conn *c);

#endif
