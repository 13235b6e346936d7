/*
 * cc/cc.h: congestion controllers behind one table of functions.
 *
 * A controller sees a window, a sample and its own state, never a connection. Units are Linux's: cwnd,
 * ssthresh, acked, in flight, delivered count segments; rates are bytes a second. The engine owns struct
 * cc_window and applies recovery (PRR, loss marking); the controller says how cwnd grows on ACKs, where
 * ssthresh falls to, and, if it wants to, at which rate to send. The members are those of Linux's
 * tcp_congestion_ops; README.md beside this file says when each is called and how to add a controller in a
 * file of its own.
 *
 * Whatever the engine does not fill in is zero, and zero is always the harmless reading.
 */
#ifndef TAUT_CC_CC_H
#define TAUT_CC_CC_H

#include <stdbool.h>
#include <stdint.h>
#include "base/time.h"

/*
 * Linux's ICSK_CA_PRIV_SIZE is 104, and the model of BBRv3 does not fit into it: it keeps short- and
 * long-term bounds and their undo values. A saved connection keeps the first CC_STATE_SAVED_BYTES: what lies
 * behind them must be something for which zero is right.
 */
#define CC_STATE_BYTES       128
#define CC_STATE_SAVED_BYTES 104
#define CC_NAME_MAX          16
#define CC_SSTHRESH_INFINITE 0x7fffffffu
#define CC_NO_RTT            UINT64_MAX

/* As Linux's TCP_CA_*. */
enum cc_ca_state { CC_CA_OPEN, CC_CA_DISORDER, CC_CA_CWR, CC_CA_RECOVERY, CC_CA_LOSS };

/* Why ssthresh() is asked. */
enum cc_cause { CC_CAUSE_LOSS, CC_CAUSE_ECN };

/* Bits of cc_window.options; none set is Linux's behaviour. */
enum cc_option {
    CC_OPT_NO_HYSTART = 1u << 0,          /* cubic: plain slow start */
    CC_OPT_HYSTART_PP = 1u << 1,          /* cubic: HyStart++ (RFC 9406) in the place of Linux's HyStart */
    CC_OPT_ABE = 1u << 2,                 /* reno, cubic: a smaller reduction for ECN (RFC 8511) */
    CC_OPT_DCTCP_ALPHA_ON_LOSS = 1u << 3, /* dctcp: alpha is 1 after a timeout (dctcp_clamp_alpha_on_loss) */
    CC_OPT_BBR_NOISE = 1u << 4            /* bbr: one loss and 2 % a round are noise, not congestion */
};

struct cc_window {
    /* shared: engine and controller write them */
    uint32_t cwnd;       /* segments */
    uint32_t cwnd_cnt;   /* acked segments towards the next increase */
    uint32_t cwnd_clamp; /* never above */
    uint32_t ssthresh;
    uint64_t pacing_rate; /* bytes/s that the controller asks for; 0: the engine's own rule holds */
    uint32_t app_limited; /* delivered count up to which samples are limited by the program, 0: none */

    /* written by the engine before a call; controllers only read them */
    uint32_t mss; /* payload bytes of a full segment */
    uint32_t init_cwnd;
    uint32_t srtt_us; /* smoothed RTT, 0: none yet */
    uint32_t in_flight;
    uint32_t snd_una, snd_nxt;
    uint32_t delivered;     /* as Linux's tp->delivered, with SACKed ones */
    uint32_t delivered_ce;  /* of these, reported as CE-marked */
    uint32_t lost;          /* ever marked lost */
    uint32_t gso_max_bytes; /* largest super-frame */
    uint32_t seed;          /* for choices at random; fixed for a connection */
    uint64_t
        gate_rate;     /* bytes/s, the engine's present pacing rate (sk_pacing_rate), used as a gate or not */
    uint64_t lsndtime; /* when data was last sent */
    uint32_t options;  /* enum cc_option */
    uint8_t ca_state;  /* enum cc_ca_state; during set_state() still the old one */
    uint8_t cause;     /* enum cc_cause, for ssthresh() */
    bool paced;        /* gate_rate is a gate (sk_pacing_status) */
    bool ecn_ok;       /* ECN was negotiated */
    bool sack_ok;
};

/* What one ACK said, after loss marking: for cong_avoid(). */
struct cc_sample {
    uint64_t now;
    uint32_t acked; /* segments newly acked in order or sacked */
    uint32_t prior_in_flight;
    uint32_t in_flight;
    uint64_t rtt_us; /* CC_NO_RTT: no sample */
    uint32_t srtt_us;
    uint32_t min_rtt_us;
    bool cwnd_limited; /* cwnd was what limited sending */
    bool ece;
};

/* What cleaning the retransmission queue found: for pkts_acked(), before loss marking (struct ack_sample). */
struct cc_ack_sample {
    uint64_t now;
    uint64_t rtt_us;     /* CC_NO_RTT: no sample */
    uint32_t pkts_acked; /* segments that left the queue */
    uint32_t in_flight;  /* when the newest of them was sent */
};

/*
 * The delivery rate over about one RTT (struct rate_sample): for cong_control(). `delivered` over
 * `interval_us` is the rate; delivered < 0 or interval_us <= 0: the ACK gives none. The last three are what
 * BBRv3 adds; where tx_in_flight is 0 the controller falls back on prior_in_flight and losses.
 */
struct cc_rate_sample {
    int32_t delivered;        /* segments over the interval, -1: nothing was delivered */
    int32_t delivered_ce;     /* of these, CE-marked */
    int64_t interval_us;      /* -1: shorter than the minimum RTT, not to be trusted */
    uint32_t prior_delivered; /* w->delivered when the newest segment delivered was sent */
    int64_t rtt_us;           /* of the newest segment acked, -1: no sample */
    uint32_t losses;          /* marked lost on this ACK */
    uint32_t acked_sacked;    /* newly acked or sacked on this ACK */
    uint32_t prior_in_flight; /* before this ACK */
    bool is_app_limited;
    bool is_retrans;
    bool is_ack_delayed;   /* perhaps, by the peer: rtt_us may be more than the path's */
    bool cwnd_limited;     /* cwnd was what limited sending */
    uint32_t tx_in_flight; /* in flight when the newest segment delivered was sent, with itself */
    uint32_t lost;         /* marked lost since it was sent */
};

/* A descriptor that was just marked lost: for pkt_lost(). All as they were when it was sent but segs. */
struct cc_lost {
    uint32_t segs;
    uint32_t tx_in_flight; /* with itself; 0: not known */
    uint32_t tx_lost;      /* w->lost then */
    bool is_app_limited;
};

enum cc_event {
    CC_EVENT_TX_START,     /* first data after nothing was in flight; lsndtime is the last one's before it */
    CC_EVENT_CWND_RESTART, /* cwnd falls after idle time */
    CC_EVENT_LOSS,         /* retransmission timeout, after ssthresh(), before cwnd is cut */
    CC_EVENT_COMPLETE_CWR, /* Recovery or CWR ended */
    CC_EVENT_ECN_NO_CE,    /* data arrived without CE */
    CC_EVENT_ECN_IS_CE     /* data arrived with CE */
};

/* Bits for in_ack_event(), as Linux's CA_ACK_*. */
enum cc_ack_flag { CC_ACK_SLOWPATH = 1u << 0, CC_ACK_WIN_UPDATE = 1u << 1, CC_ACK_ECE = 1u << 2 };

/* Bits of cc_ops.flags. */
enum cc_flag { CC_NEEDS_ECN = 1u << 0 }; /* ECT on everything, SYN too (TCP_CONG_NEEDS_ECN) */

struct cc_ops {
    const char *name;
    uint32_t flags;
    /* `state` is CC_STATE_BYTES, aligned to 8, zeroed; also called when a living connection changes its
     * controller. */
    void (*init)(void *state, struct cc_window *w, uint64_t now);
    /* New ssthresh when loss or ECN asks for it (w->cause); called before the state changes and cwnd is cut.
     */
    uint32_t (*ssthresh)(void *state, const struct cc_window *w, uint32_t in_flight);
    /* Called in Open and Disorder, and in Loss: grows the window. NULL where cong_control is not NULL. */
    void (*cong_avoid)(void *state, struct cc_window *w, const struct cc_sample *s);
    uint32_t (*undo_cwnd)(void *state, const struct cc_window *w, uint32_t prior_cwnd);

    /* The rest may be NULL. */
    void (*event)(void *state, struct cc_window *w, enum cc_event event, uint64_t now);
    void (*set_state)(void *state, struct cc_window *w, enum cc_ca_state new_state, uint64_t now);
    void (*pkts_acked)(void *state, struct cc_window *w, const struct cc_ack_sample *s);
    /* On each ACK, after snd_una, delivered and delivered_ce moved; `flags`: enum cc_ack_flag. */
    void (*in_ack_event)(void *state, struct cc_window *w, uint32_t flags, uint64_t now);
    /* Takes the place of cong_avoid and of PRR, in every state: cwnd and pacing_rate are the controller's
     * alone. */
    void (*cong_control)(void *state, struct cc_window *w, const struct cc_rate_sample *rs, uint64_t now);
    /* Once for each descriptor marked lost, when w->lost counts it (skb_marked_lost of BBRv3). */
    void (*pkt_lost)(void *state, struct cc_window *w, const struct cc_lost *lost, uint64_t now);
    uint32_t (*min_tso_segs)(const void *state, const struct cc_window *w); /* NULL: 2 */
    uint32_t (*sndbuf_expand)(const void *state,
                              const struct cc_window *w); /* send buffer = this x cwnd; NULL: 2 */
};

/* By name ("reno", "cubic", "dctcp", "bbr"); NULL if there is none. */
const struct cc_ops *cc_find(const char *name);
/* Names for listings; NULL behind the last. */
const char *cc_name(unsigned index);

/* Slow start by `acked` segments up to ssthresh; returns what is left of acked (tcp_slow_start). */
uint32_t cc_slow_start(struct cc_window *w, uint32_t acked);
/* Adds 1 per `per` acked segments (tcp_cong_avoid_ai). */
void cc_additive_increase(struct cc_window *w, uint32_t per, uint32_t acked);

#endif
