/*
 * tcp/tcp_priv.h: the engine's inside. Only src/tcp and its unit tests include it.
 *
 * Where things are:
 *
 *   table.c     slots and ids, hash lookup, listeners by port and number
 *   park.c      connections to which nothing happens: a cell instead of a working block
 *   engine.c    engine and connection life cycle, READY, EVENT and dirty lists, the choke points (state change, drop,
 *               event, counters)
 *   config.c, enums.c   the configuration table, names
 *   input.c     a segment arrives: RFC 9293 section 3.10.7, one function per step
 *   request.c   half-open entries: SYN in LISTEN, SYN-ACK timer, completing ACK -> connection
 *   cookies.c   SYN cookies: half-open connections without an entry
 *   fastopen.c  TCP Fast Open, both sides
 *   fastpath.c  header prediction
 *   metrics.c   what is remembered of destinations
 *   timewait.c  TIME-WAIT entries
 *   small.c     memory of those and of half-open ones: packed by family, lists of 32-bit names, what a successor finds
 *   md5.c       TCP-MD5 (RFC 2385): keys, what is signed with them, what is dropped
 *   reply.c     reply intents (RST, challenge ACKs, TIME-WAIT ACKs): bounded ring; tcp_next_reply()
 *   isn.c       ISN and timestamp offsets (RFC 6528), SipHash
 *   ack.c       the ACK pipeline: newly acked/sacked -> RTT -> recovery -> congestion control -> window update
 *   recovery.c  the states of recovery: fast retransmit, NewReno/SACK, PRR, undo, RTO, F-RTO
 *   rack.c      what is lost, by time (RFC 8985); tlp.c: tail loss probes
 *   cong.c      congestion controllers: what they see, choosing one, their events; options of ECN's sender
 *   ecn.c       ECN (RFC 3168): negotiation, marks that came and what is echoed
 *   rate.c      delivery-rate sample, application-limited marks
 *   rtt.c       tcp_rtt_estimator, RTO
 *   sndbuf.c    bytes to send, in chunks, by sequence number
 *   writeq.c    where unsent bytes are cut: cells that mean what a Linux skb on the write queue means
 *   sndmem.c    SO_SNDBUF's account, cells filled, room again; busy, rwnd_limited, sndbuf_limited
 *   refused.c   what the device refused is taken back
 *   pmtu.c      path-MTU probes, black holes
 *   sndq.c      sent-segment queue: descriptors that mean what a Linux skb means
 *   output.c    the one maker of connection segments; may-send predicates; Nagle, SWS, super-frame sizing
 *   rcvq.c      received bytes in order and out of order (a pure queue), SACK blocks
 *   rcv.c       steps 6-8 on a connection: what to do with data, FIN behind a hole, pressure
 *   rcvwnd.c    the receive window: choosing it, growing it, autotuning of the receive buffer
 *   ackowed.c   ACKs owed: delayed, quick, and facts (out of order, duplicates)
 *   timers.c    a connection's timers by name and their expiry
 *   api.c       the calls of programs; listen.c: listeners; options.c: options of a connection
 *   icmp.c      ICMP errors
 *   record.c    the flat record: save, check, dump, commit; restore.c: one connection or a whole engine again;
 *               translate.c: records of another build
 *   info.c      tcp_info; check.c: tcp_check()
 *   rec.c       the flight recorder; recread.c: what its readers call; events.c: its format as tables
 *
 * Marks: input, expiry and programs change the state and call tcp_mark_ready(); only reply.c, request.c (SYN-ACK) and
 * output.c fill a struct tcp_out.
 */
#ifndef TAUT_TCP_PRIV_H
#define TAUT_TCP_PRIV_H

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/rng.h"
#include "base/seq.h"
#include "base/wheel.h"
#include "cc/cc.h"
#include "cc/dctcp.h"
#include "tcp/ackowed.h"
#include "tcp/rack.h"
#include "tcp/rcvq.h"
#include "tcp/rec.h"
#include "tcp/rtt.h"
#include "tcp/small.h"
#include "tcp/sndbuf.h"
#include "tcp/sndq.h"
#include "tcp/tcp.h"
#include "tcp/writeq.h"

#define TCP_MAX_WSCALE 14
#define TCP_MIN_MSS 88u    /* Linux TCP_MIN_MSS */
#define TCP_MIN_SND_MSS 48u /* Linux: also the least that tcp_min_snd_mss may be */
#define TCP_MSS_DEFAULT 536u
#define TCP_MAX_WINDOW 32767u
#define TCP_TIMEWAIT_PAWS_S (24u * 24 * 3600) /* TCP_PAWS_24DAYS */
#define TCP_OPT_TS_ALIGNED 12u
#define TCP_TSO_MAX_SEGS 64u
#define TCP_OPT_MD5_ALIGNED 20u
#define TCP_MD5_KEYS_CONN 4

/* A connection's timers; deadlines are absolute, TIME_NEVER is off. RETRANS and PROBE0 never run together. */
enum tcp_timer {
    TCP_TIMER_RETRANS,   /* RTO, also of SYN and of a crossed SYN-ACK */
    TCP_TIMER_PROBE0,    /* zero-window probe (persist) */
    TCP_TIMER_DELACK,
    TCP_TIMER_KEEPALIVE,
    TCP_TIMER_LINGER,    /* FIN-WAIT-2 of an orphan */
    TCP_TIMER_PACING,    /* the gate opens */
    TCP_TIMER_MAX
};

/* What RETRANS stands for (icsk_pending): one timer, so that they exclude each other. */
enum tcp_rtx {
    TCP_RTX_RTO,
    TCP_RTX_REO,   /* RACK's reordering window passes */
    TCP_RTX_PROBE, /* a tail loss probe is due */
};

/* What holds a busy connection back, by rank (Linux's enum tcp_chrono). */
enum tcp_chrono {
    TCP_CHRONO_UNSPEC,
    TCP_CHRONO_BUSY,
    TCP_CHRONO_RWND_LIMITED,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_CHRONO_MAX
};

/* What an id may name. */
enum tcp_kind { TCP_KIND_FREE, TCP_KIND_CONN, TCP_KIND_REQ, TCP_KIND_TW, TCP_KIND_PARKED };
/*
 * Connections begin with their tuple. Half-open and TIME-WAIT entries have it behind themselves, in the short form of its
 * family (small.h), after so many bytes:
 */
#define TCP_REQ_BYTES 56
#define TCP_TW_BYTES  44
#define TCP_ENTRY(type) static_assert(offsetof(type, tuple) == 0, "table.c finds the tuple at the begin of an entry")

/* A Fast Open cookie as an option has it: bytes < 0: no option, 0: a request. */
struct tcp_fastopen_cookie {
    int8_t bytes;
    bool exp; /* the experimental option, 254 */
    uint8_t value[TCP_FASTOPEN_COOKIE_MAX];
};

/* By heat: the map is in docs/architecture.md. Flags that every segment asks for are in the second line. */
struct tcp_conn {
    /* identity; hot for lookup */
    struct ip_tuple tuple;      /* first: TCP_ENTRY */
    tcp_id id;
    uint64_t user;
    uint32_t listener;          /* where it came from, 0: active open */
    uint8_t state;              /* enum tcp_state; changed by tcp_set_state() only */
    uint8_t shutdown;           /* TCP_SHUT_RD | TCP_SHUT_WR of the owner */
    bool owned;                 /* someone will call tcp_close()/tcp_abort() */
    bool orphan;                /* no longer owned and not in CLOSE: counted in t->orphans */
    bool in_accept_queue;       /* counted in its listener's accept_queue */
    bool dead;                  /* free at the end of the verb: owner gone and CLOSE */
    bool suspended;             /* the stack holds it: neighbour unresolved */
    bool tx_refused;            /* the device was full: new data waits for a send, an ACK or PROBE0 */
    bool pacing_needed;         /* sk_pacing_status */
    bool urg_seen;
    bool fin_received;          /* rcv_nxt is behind the FIN */
    bool fin_waits;             /* behind a hole, at fin_seq */

    struct list_node ready;     /* t->ready_urgent or t->ready_bulk */
    struct list_node event;     /* t->events */
    struct list_node dirty;     /* t->dirty: its record changed */
    struct list_node listener_link; /* not yet accepted ones, in their listener */
    struct list_node warm;      /* t->warm: may be parked when its time comes */
    uint64_t warm_at, warm_due; /* last committed; when t->warm looks at it */
    uint32_t block;             /* of its record in the arena */
    bool celled;                /* woken since the last commit: its cell is still published */
    unsigned event_bits;
    int error;                  /* sk_err: reported once */
    int error_soft;             /* sk_err_soft */
    int error_final;            /* what ended it, for tcp_info */

    /* path and segment sizes */
    struct tcp_path path;
    uint16_t mss_clamp;         /* the peer's MSS option, or the default */
    uint16_t user_mss;          /* TCP_MAXSEG */
    uint16_t advmss;            /* what we announce, before the options' length */
    uint16_t mss;               /* current payload per segment: mss_cache of Linux (options taken off) */
    uint16_t pmtu;              /* icsk_pmtu_cookie: what mss was made from */
    struct {
        bool enabled;
        uint32_t search_low, search_high; /* bytes of IP packets: passes; may pass */
        uint32_t probe_size;              /* of the probe that is out, 0: none */
        uint32_t probe_seq_start, probe_seq_end;
        uint64_t probe_timestamp;         /* when the search began */
    } mtup;                     /* icsk_mtup: pmtu.c */

    /* options agreed */
    bool ts_ok, sack_ok, wscale_ok, dsack_ok;
    bool ecn_ok;                /* agreed; in SYN-SENT: asked for */
    bool ecn_seen;              /* data came with ECT or CE */
    bool ecn_queue_cwr;         /* the next new data carries CWR; ECE to echo is ackowed.ece */
    struct dctcp_ce dctcp_ce;   /* what the peer's DCTCP wants to know, if cc asks for it */
    uint8_t snd_wscale;         /* shift of windows that the peer announces */
    uint8_t rcv_wscale;         /* shift of ours */
    uint8_t tos;

    /* send sequence space: snd_una <= snd_nxt <= write_seq (+1 for FIN) */
    uint32_t iss, snd_una, snd_nxt, write_seq;
    uint32_t snd_nxt_due;       /* what snd_nxt will be once output has followed the last ACK, if it is more */
    uint32_t snd_wnd, max_window, snd_wl1;
    uint32_t snd_up;            /* end of urgent data, if urg_mode */
    uint32_t pushed_seq;        /* end of the last cell that was given PSH */
    uint32_t snd_sml;           /* end of the last small segment (Nagle, Minshall) */
    bool urg_mode;
    bool fin_queued;            /* FIN occupies write_seq */
    bool nodelay, cork;
    bool syn_pending;           /* SYN or SYN-ACK is to be (re)sent */
    bool rst_pending;           /* RST is to be sent, then it is dead */
    bool fastopen_rsk;          /* made by a SYN with data; its SYN-ACK is not acknowledged yet */
    enum tcp_cause rst_cause;
    bool probe_pending;         /* zero-window or keepalive probe is to be sent now */
    enum tcp_cause probe_cause;
    struct tcp_sndbuf sndbuf;
    struct tcp_sndq sndq;
    struct tcp_writeq writeq;   /* covers [snd_nxt, write_seq) */
    uint32_t notsent_lowat;     /* TCP_NOTSENT_LOWAT, bytes; 0: configuration */
    bool want_writable;         /* SOCK_NOSPACE: tell when a third is free */
    bool sndbuf_locked, rcvbuf_locked;
    uint8_t chrono;             /* enum tcp_chrono: what runs since chrono_at */
    uint64_t chrono_at;
    uint64_t chrono_ns[TCP_CHRONO_MAX]; /* what ran before */

    /* RTT, RTO */
    struct tcp_rtt rtt;
    uint8_t retransmits;        /* icsk_retransmits */
    uint8_t backoff;
    uint8_t probes_out;
    uint64_t retrans_stamp;     /* first retransmission of this loss, 0: none */
    uint64_t probe_begun_at;    /* first unanswered window probe, 0: none */
    struct {
        uint64_t probe0_at, probe_begun_at;
        uint8_t probes_out, backoff;
    } before;                   /* as it was before new data left last, for tcp_tx_refused() */

    /* congestion control and recovery; units are segments */
    const struct cc_ops *cc;
    struct cc_window win;
    uint64_t cc_state[CC_STATE_BYTES / 8];
    uint8_t ca_state;           /* enum tcp_ca_state */
    uint32_t high_seq;          /* snd_nxt when the loss was found */
    struct tcp_rack rack;
    uint8_t rtx;                /* enum tcp_rtx */
    bool frto;                  /* RFC 5682: is this timeout spurious? */
    bool frto_new;              /* its step 2b: new data goes before what is lost */
    bool tlp_pending;           /* a probe is to be sent */
    bool tlp_out;               /* one is out, until tlp_high_seq is acknowledged */
    bool tlp_retrans;           /* it was a retransmission */
    uint32_t tlp_high_seq;      /* snd_nxt when it left */
    uint16_t reordering;
    uint16_t dup_acks;          /* sacked_out emulation without SACK */
    uint32_t delivered;         /* segments */
    uint32_t delivered_ce;      /* of them, by ACKs with ECE */
    uint64_t mstamp;            /* time of the event that is being processed, for the controller */
    /* rate sample (RFC 8985 draft-cheng-iccrg-delivery-rate-estimation): when delivered moved, when the newest
     * delivered descriptor was sent; the last sample told */
    uint64_t delivered_at, first_tx_at, rate_interval_us;
    uint32_t rate_delivered;
    bool rate_app_limited;
    bool is_cwnd_limited;
    uint32_t cwnd_usage_seq, max_packets_out;
    uint64_t lsndtime;          /* last data sent */
    uint32_t snd_cwnd_used;     /* most in flight since snd_cwnd_stamp, while not limited by cwnd */
    uint64_t snd_cwnd_stamp;    /* when cwnd was last used in full, or changed */
    bool send_more;             /* TCP_SEND_MORE of the last send: corked until the next one, or an ACK */
    bool nagle_push;            /* NODELAY was set: what is queued goes whatever CORK says (TCP_NAGLE_PUSH) */
    bool tso_deferred;          /* tso_should_defer held tso_deferred_end back: until an ACK or more data comes */
    uint32_t tso_deferred_end;

    /* pacing: the rate is always known; it is a gate only where the controller or the program asks */
    uint64_t pacing_rate;       /* bytes/s, UINT64_MAX: none */
    uint64_t max_pacing_rate;
    uint64_t pacing_next_at;

    /* receive sequence space */
    uint32_t irs, rcv_nxt, rcv_wup, rcv_wnd, copied_seq;
    uint32_t rcv_up;
    uint32_t fin_seq;           /* of a FIN that waits behind a hole, if fin_waits */
    struct tcp_rcvq rcvq;
    uint32_t window_clamp, rcv_ssthresh;
    uint16_t rcv_mss;

    /* timestamps (RFC 7323); the clock is ms of now plus ts_offset */
    uint32_t ts_offset;
    uint32_t ts_recent;
    uint32_t last_ack_sent;     /* rcv_nxt of our last ACK */
    uint64_t ts_recent_at;      /* when ts_recent was set, 0: none */

    struct tcp_ackowed ackowed;

    /* TCP-MD5: places in the key table, longest prefix first; [0] is the key that counts, 0: none */
    uint16_t md5_key[TCP_MD5_KEYS_CONN];
    uint8_t md5_prefix[TCP_MD5_KEYS_CONN];
    uint32_t user_timeout_ms;

    uint64_t timer_at[TCP_TIMER_MAX];
    struct wheel_timer timer;   /* armed for the earliest */
    struct tcp_rec_conn rec;    /* the flight recorder's */

    /* accounting */
    uint64_t rcv_tstamp, last_data_recv_at;
    uint64_t bytes_acked, bytes_received, bytes_sent;
    uint32_t segs_in, segs_out, data_segs_in, data_segs_out;

    /* ---- cold from here on: recovery, opening, options of programs, what is only told ---- */

    /* recovery */
    uint32_t undo_marker, undo_retrans, prior_ssthresh, prior_cwnd;
    uint32_t retrans_high;
    uint32_t prr_delivered, prr_out;
    uint8_t total_syn_retrans;  /* SYN or SYN-ACK retransmissions before establishment */
    uint16_t total_rto, total_rto_recoveries; /* timeouts of all kinds; first ones of a row */
    uint32_t total_rto_time_ms;
    uint64_t rto_at;            /* the first timeout of a row that is not over, 0: none */
    uint32_t total_retrans, dsack_dups, reord_seen, rcv_ooopack;
    uint64_t bytes_retrans, created_at, invalid_ack_at;

    /* Fast Open (RFC 7413), active: */
    bool defer_connect;         /* its SYN waits for tcp_fastopen_connect() */
    bool syn_fastopen, syn_fastopen_exp; /* the SYN had the option, or the experimental one */
    bool syn_fastopen_ch;       /* sent after a black hole: success ends the pause's growth */
    bool syn_data_acked;        /* data in the SYN was acknowledged; passive: taken */
    bool fastopen_no_cookie, write_pending;
    uint8_t fastopen_client_fail; /* enum tcp_fastopen_fail */
    uint8_t defer_accept;       /* active: retransmissions, as Linux counts them; not 0: delay the handshake's ACK */
    uint16_t syn_data;          /* bytes in the SYN */
    struct tcp_fastopen_cookie fastopen_cookie; /* of the next SYN or SYN-ACK */
    /* passive (and fastopen_rsk): */
    uint8_t synack_timeouts, synack_retrans;
    uint32_t synack_ack;        /* of the SYN-ACK: behind the data of the SYN */
    uint64_t synack_sent_at;    /* first SYN-ACK, 0: not yet */

    /* keepalive, linger */
    bool keepalive;
    uint8_t keepalive_probes, syn_retries; /* 0: configuration */
    uint32_t keepalive_time_s, keepalive_intvl_s; /* 0: configuration */
    int32_t linger2_s;          /* 0: configuration, < 0: none */

    uint32_t causes[TCP_CAUSE_MAX];
    uint32_t drops[TCP_DROP_MAX];
};
static_assert(offsetof(struct tcp_conn, undo_marker) <= 25 * 64, "what a segment touches: docs/architecture.md has the map");

enum { TCP_SHUT_RD = 1, TCP_SHUT_WR = 2 };

/* Half-open and TIME-WAIT entries: defined in request.c and timewait.c. */
struct tcp_req;
struct tcp_tw;

struct tcp_listener {
    struct list_node link;      /* in its port's bucket */
    struct list_node number_link; /* in its number's bucket */
    uint32_t number;            /* its name; never reused within an engine's life */
    struct ip_addr addr;
    uint16_t port;
    uint64_t user;
    uint32_t backlog, accept_queue, half_open;
    uint16_t user_mss;
    uint32_t rcvbuf;            /* SO_RCVBUF, truesize; 0: configuration */
    uint8_t cc;                 /* 1 + index of the congestion control, 0: configuration */
    uint8_t defer_accept;       /* SYN-ACK timeouts during which a bare ACK makes no connection */
    bool fastopen_no_cookie;
    uint8_t n_fastopen_keys;    /* 0: the engine's */
    uint32_t fastopen_max_qlen, fastopen_qlen; /* pending Fast Opens, with those that a RST ended lately */
    struct list_node fastopen_rst; /* the latter: struct tcp_fastopen_rst, oldest first */
    struct siphash_key fastopen_key[2];
    uint64_t overflow_at;       /* last SYN cookie, 0: none */
    uint32_t young;             /* half-open entries without a timeout */
    struct list_node unaccepted; /* struct tcp_conn.listener_link */
    struct tcp_listener_md5 *md5; /* longest prefix first */
    unsigned n_md5;
};

/* A key of a listener. */
struct tcp_listener_md5 {
    struct ip_addr addr;
    uint8_t prefix;
    uint16_t key; /* place in the key table */
};

struct tcp_requests;            /* request.c */
struct tcp_timewaits;           /* timewait.c */
struct tcp_replies;             /* reply.c */
struct tcp_table;               /* table.c: slots and hash */
struct tcp_records;             /* record.c */
struct tcp_park;                /* park.c */
struct tcp_metrics_cache;       /* metrics.c */

struct tcp {
    const struct tcp_config *config;
    struct chunk_pool *pool;
    size_t scarce_at; /* tcp_memory_left() */
    const struct log_sink *log;
    struct tcp_secrets secrets;
    struct tcp_params params;
    struct rng rng;
    struct wheel wheel;
    struct tcp_desc_slab descs;      /* of all sent-segment queues; zeroed is empty, tcp_desc_slab_destroy() ends it */
    struct tcp_table *table;
    struct tcp_requests *requests;
    struct tcp_timewaits *timewaits;
    struct tcp_replies *replies;
    struct tcp_records *records;
    struct list_node listeners[64];  /* by port */
    struct list_node listeners_by_number[64];
    uint32_t last_listener, n_listeners;
    struct list_node ready_urgent, ready_bulk, events, dirty;
    uint32_t gso_max_bytes;
    uint32_t orphans, n_conns, n_ready;
    struct list_node warm;           /* connections with a working block that may be parked */
    uint32_t n_warm, n_parked;
    uint64_t now;                    /* of the last verb that has one */
    struct tcp_park *park;
    uint32_t n_established;          /* ESTABLISHED and CLOSE_WAIT: Linux's CurrEstab */
    struct tcp_metrics_cache *metrics;
    struct tcp_md5_table *md5;
    uint16_t md5_in;                 /* key that signed the segment being processed: its answers are signed with it */
    const void *fetched;             /* the connection whose segment came last; to be compared only */
    struct tcp_rec *rec;             /* the flight recorder, NULL: none */
    struct siphash_key cookie_key[2]; /* SYN cookies */
    struct siphash_key fastopen_key[2];
    unsigned n_fastopen_keys;
    uint64_t fastopen_paused_at;     /* black hole: since when, how often in a row */
    uint32_t fastopen_pauses;
    uint64_t cookie_sent_at;         /* last SYN cookie of any listener, 0: none */
    bool no_fast_path;               /* tests: every segment takes the long way */
    uint64_t challenge_window_at;    /* rate limit of challenge ACKs */
    uint32_t challenge_count;
    struct tcp_counters counters;
    uint64_t drops[TCP_DROP_MAX];
    uint64_t causes[TCP_CAUSE_MAX];
    struct keep_counters keep;       /* these three, beyond a crash */
};

/* ---- kept.c -------------------------------------------------------------------------------------------------- */

int tcp_kept_init(struct tcp *t);
void tcp_kept_destroy(struct tcp *t);
/* Caches and counters: the end of a commit. */
void tcp_kept_commit(struct tcp *t);

/* ---- table.c ------------------------------------------------------------------------------------------------- */

int tcp_table_init(struct tcp *t);
void tcp_table_destroy(struct tcp *t);
/* The entry in a slot < tcp_table_slots(), NULL if it is free: for scans. */
void *tcp_table_at(const struct tcp *t, uint32_t slot, enum tcp_kind *ret_kind, tcp_id *ret_id);
uint32_t tcp_table_slots(const struct tcp *t);
/* Enters `entry` under an id of old (restoring a record); false: its slot is taken or out of range. */
bool tcp_table_restore(struct tcp *t, tcp_id id, enum tcp_kind kind, void *entry, const struct ip_tuple *tuple);
/* The same for a scan of many: free slots are put in order by tcp_table_restored() at its end. Not hashed: in CLOSE. */
bool tcp_table_place(struct tcp *t, tcp_id id, enum tcp_kind kind, void *entry, const struct ip_tuple *tuple,
                     bool hashed);
void tcp_table_restored(struct tcp *t);
void tcp_listener_add(struct tcp *t, struct tcp_listener *l);
void tcp_listener_remove(struct tcp_listener *l);

/* Any entry with an id; NULL for a stale one. The kind says what it is. */
void *tcp_lookup_id(const struct tcp *t, tcp_id id, enum tcp_kind *ret_kind);
/* A connection, woken if it was parked. NULL: none, or no memory to wake it. */
struct tcp_conn *tcp_conn_by_id(const struct tcp *t, tcp_id id);
/* By tuple (our side is local). */
void *tcp_lookup_tuple(const struct tcp *t, const struct ip_tuple *tuple, enum tcp_kind *ret_kind);
struct tcp_listener *tcp_lookup_listener(const struct tcp *t, const struct ip_addr *local, uint16_t port);
struct tcp_listener *tcp_listener_by_number(const struct tcp *t, uint32_t number);
/*
 * Entries of all kinds share slots, ids and the tuple hash. enter: assigns an id (0: table full) and makes `entry`
 * findable; in a full table the oldest TIME-WAIT entry makes room, but not for another one; leave: makes the id stale. rebind hands an id and its hash place over from one entry to another (request
 * -> connection -> TIME-WAIT keep one id).
 */
tcp_id tcp_table_enter(struct tcp *t, enum tcp_kind kind, void *entry, const struct ip_tuple *tuple);
/* The tuple is free for another entry; the id stays valid. tcp_done() does it: what is in CLOSE is found by id only. */
void tcp_table_unhash(struct tcp *t, tcp_id id);
void tcp_table_leave(struct tcp *t, tcp_id id);
void tcp_table_rebind(struct tcp *t, tcp_id id, enum tcp_kind kind, void *entry);

/* ---- engine.c ------------------------------------------------------------------------------------------------ */

/* A zeroed connection in CLOSE with its sub-structures initialised, entered in no table; NULL: limit or no memory. */
struct tcp_conn *tcp_conn_new(struct tcp *t, uint64_t now);
/* The same under that place in the record arena. */
struct tcp_conn *tcp_conn_new_at(struct tcp *t, uint32_t block, uint64_t now);
/* In no list, no timer armed. */
void tcp_conn_init_links(struct tcp_conn *c);
/* Releases all memory, chunks, timers and list places; the id goes unless it was rebound. */
void tcp_conn_free(struct tcp *t, struct tcp_conn *c);
/* At the end of a verb: frees what is dead, else checks it. Every public entry that may have ended one calls it. */
void tcp_conn_reap(struct tcp *t, struct tcp_conn *c);
/* Tells whoever looks after a crash which connection (0: none) was being worked on. */
static inline void tcp_busy_with(struct tcp *t, tcp_id id)
{
    if (t->params.kept)
        __atomic_store_n(&t->params.kept->busy, id, __ATOMIC_RELEASE);
}
/* Its owner is gone, it lives on: counted as an orphan unless it is in CLOSE, where it is dead (or sends its RST). */
void tcp_disown(struct tcp *t, struct tcp_conn *c);

/* The choke points. */
void tcp_set_state(struct tcp *t, struct tcp_conn *c, enum tcp_state state, uint64_t now);
void tcp_drop(struct tcp *t, struct tcp_conn *c, enum tcp_drop reason); /* c may be NULL; counts 1 */
void tcp_raise(struct tcp *t, struct tcp_conn *c, unsigned event_bits); /* an owned connection's event */
/*
 * It may have something to send: links it in ready_urgent or ready_bulk, without asking tcp_may_send(). tcp_output()
 * takes it off where nothing is to be sent now. No effect while the stack holds it (suspended).
 */
void tcp_mark_ready(struct tcp *t, struct tcp_conn *c);
void tcp_unmark_ready(struct tcp *t, struct tcp_conn *c);
/*
 * The connection ends with a RST: rst_pending is set, then tcp_done(). tcp_output() makes the RST from snd_nxt and
 * rcv_nxt, clears rst_pending, sets dead if nobody owns it, and reaps it.
 */
void tcp_send_reset(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, int error, bool keep_unread, uint64_t now);
void tcp_mark_dirty(struct tcp *t, struct tcp_conn *c);
/* Counts a segment that leaves: causes, out_segs, retrans_segs, bytes. Called by the three makers of tcp_out. */
void tcp_count_out(struct tcp *t, struct tcp_conn *c, const struct tcp_out *out, uint64_t now);
/*
 * The connection ends now: state CLOSE, timers off, queues released (unread data is kept if keep_unread), error to
 * the owner (0: clean). Orphans become dead. tcp_done() of Linux.
 */
void tcp_done(struct tcp *t, struct tcp_conn *c, int error, bool keep_unread, uint64_t now);

/* ---- isn.c --------------------------------------------------------------------------------------------------- */
uint32_t tcp_isn(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now);
uint32_t tcp_ts_offset(const struct tcp *t, const struct ip_tuple *tuple);
static inline uint32_t tcp_ts_clock(uint64_t now, uint32_t offset)
{
    return (uint32_t)(now / NSEC_PER_MSEC) + offset;
}

/* ---- request.c (half-open entries) --------------------------------------------------------------------------- */
int tcp_requests_init(struct tcp *t);
void tcp_requests_destroy(struct tcp *t);
/* LISTEN, third step: a SYN for `l`. Makes an entry and marks its SYN-ACK, or drops with a reason. */
void tcp_listen_syn(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg, const struct tcp_path *path,
                    uint64_t now);
/*
 * LISTEN, second step: an ACK for `l`. *ret_mine: it brought a SYN cookie, and is done with but for the connection
 * returned, if any, which has yet to process it as one of tcp_req_input().
 */
struct tcp_conn *tcp_listen_cookie(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg,
                                   const struct tcp_path *path, uint64_t now, bool *ret_mine);
/*
 * A segment for a half-open entry (tcp_check_req). A connection it made is returned in SYN_RECV and has yet to process
 * `seg` (step 5 of tcp_input() makes it ESTABLISHED). It is set up already: id by rebind, owned, listener,
 * listener_link and in_accept_queue with the listener's accept_queue counted, TCP_EVENT_ACCEPT raised; snd_una = iss,
 * snd_nxt = write_seq = iss + 1, options, windows, ts_recent; retrans_stamp = when its SYN-ACK left first,
 * total_syn_retrans = how often it left again.
 */
struct tcp_conn *tcp_req_input(struct tcp *t, struct tcp_req *r, const struct tcp_seg *seg, uint64_t now);
bool tcp_req_next_synack(struct tcp *t, uint64_t now, struct tcp_out *ret);
void tcp_req_expire(struct tcp *t, uint64_t now);
uint64_t tcp_req_deadline(const struct tcp *t);
void tcp_req_listener_closed(struct tcp *t, struct tcp_listener *l, uint64_t now);
void tcp_req_icmp(struct tcp *t, struct tcp_req *r, const struct tcp_icmp *icmp, uint64_t now);
void tcp_req_info(const struct tcp *t, const struct tcp_req *r, uint64_t now, struct tcp_info *ret);
uint32_t tcp_req_count(const struct tcp *t);
/* Its listener's key for its peer. */
uint16_t tcp_req_md5(const struct tcp *t, const struct tcp_req *r);
/* The places of entries that went are free, now that what became of them is committed. */
void tcp_requests_commit(struct tcp *t);
/* What the arena holds; their number. */
uint32_t tcp_requests_restore(struct tcp *t);
/* NULL, or what is wrong with their lists. */
const char *tcp_req_check(const struct tcp *t);

/* ---- timewait.c ---------------------------------------------------------------------------------------------- */
int tcp_tw_init(struct tcp *t);
void tcp_tw_destroy(struct tcp *t);
/*
 * The connection becomes a TIME-WAIT entry (or just goes: limit) and is ended by tcp_done(c, 0, keep unread data). An
 * orphan hands its id over by rebind and is dead; one that is owned keeps its id (readable, in CLOSE) and the entry
 * gets another one. The ACK of the peer's FIN is the caller's.
 */
void tcp_time_wait(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* A segment for a TIME-WAIT entry; true: it was a SYN that may reuse the pair, the entry is gone, go on in LISTEN. */
bool tcp_tw_input(struct tcp *t, struct tcp_tw *w, const struct tcp_seg *seg, uint64_t now);
/* request.c, for the SYN that did so: its connection's ISS, beyond the old sequence space. Once. */
bool tcp_tw_take_iss(struct tcp *t, const struct ip_tuple *tuple, uint32_t *ret_iss);
/*
 * An active open may take the pair over (RFC 6191, 1 s): the entry goes, *ret_iss is beyond its old sequence space; the
 * peer's last timestamp lives on in the SYN.
 */
bool tcp_tw_reuse(struct tcp *t, struct tcp_tw *w, uint64_t now, uint32_t *ret_iss, uint32_t *ret_ts_recent);
bool tcp_tw_may_reuse(const struct tcp *t, const struct tcp_tw *w, uint64_t now);
void tcp_tw_expire(struct tcp *t, uint64_t now);
uint64_t tcp_tw_deadline(const struct tcp *t);
void tcp_tw_info(const struct tcp *t, const struct tcp_tw *w, uint64_t now, struct tcp_info *ret);
uint32_t tcp_tw_count(const struct tcp *t);
uint16_t tcp_tw_md5(const struct tcp_tw *w);
uint32_t tcp_tw_restore(struct tcp *t);
const char *tcp_tw_check(const struct tcp *t);
/* table.c: a slot is needed, the oldest entry goes; false: there is none. */
bool tcp_tw_evict(struct tcp *t);

/* ---- metrics.c ---- */
int tcp_metrics_init(struct tcp *t);
void tcp_metrics_destroy(struct tcp *t);
/* At establishment: ssthresh, reordering, RTO from the cache, or the RTO without a sample (tcp_init_metrics). */
void tcp_metrics_read(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The connection closed in good order: what it learned (tcp_update_metrics). */
void tcp_metrics_write(struct tcp *t, const struct tcp_conn *c, uint64_t now);
/* An RTT of that destination is known (tcp_peer_is_proven). */
void tcp_metrics_commit(struct tcp *t);
void tcp_metrics_restored(const struct tcp *t, unsigned *ret_restored, unsigned *ret_damaged);
struct keep_spec tcp_metrics_spec(uint32_t max_metrics);
bool tcp_metrics_proven(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now);
/* Fast Open's part: *inout_mss is left alone where none is known (tcp_fastopen_cache_get, _set). */
void tcp_metrics_fastopen(const struct tcp *t, const struct tcp_conn *c, uint64_t now, uint16_t *inout_mss,
                          struct tcp_fastopen_cookie *ret);
void tcp_metrics_set_fastopen(struct tcp *t, const struct tcp_conn *c, uint16_t mss,
                              const struct tcp_fastopen_cookie *cookie, bool syn_lost, unsigned try_exp, uint64_t now);

/* ---- cookies.c ---- */
void tcp_cookies_init(struct tcp *t);
/* The ISN that says it all. *inout_mss is rounded down. */
uint32_t tcp_cookie_make(const struct tcp *t, const struct ip_tuple *tuple, uint32_t irs, uint16_t *inout_mss,
                         uint64_t now);
/* MSS that the cookie holds, 0: not ours, or too old. */
uint16_t tcp_cookie_check(const struct tcp *t, const struct ip_tuple *tuple, uint32_t irs, uint32_t cookie,
                          uint64_t now);
/* Timestamp of now with the options in its low bits; and what its echo says. False: not ours. */
uint32_t tcp_cookie_tsval(const struct tcp *t, const struct ip_tuple *tuple, bool wscale_ok, uint8_t snd_wscale,
                          bool sack_ok, bool ecn_ok, uint64_t now);
bool tcp_cookie_options(const struct tcp *t, const struct ip_tuple *tuple, uint32_t tsecr, bool *ret_wscale_ok,
                        uint8_t *ret_snd_wscale, bool *ret_sack_ok, bool *ret_ecn_ok);

/* ---- fastopen.c ---- */
enum {
    TFO_CLIENT_ENABLE = 1,
    TFO_SERVER_ENABLE = 2,
    TFO_CLIENT_NO_COOKIE = 4,
    TFO_SERVER_COOKIE_NOT_REQD = 0x200,
    TFO_SERVER_WO_SOCKOPT1 = 0x400
};
void tcp_fastopen_init(struct tcp *t);
/* Its SYN leaves: the option, once (active open, or the SYN-ACK of a Fast Open). */
void tcp_fastopen_put_option(struct tcp_conn *c, struct tcp_options *opt);
/* The SYN-ACK came, the connection is established: cookie and MSS are remembered, data not acknowledged is lost and goes
 * again, data of the SYN-ACK is taken. True: data goes again and takes the ACK with it. */
bool tcp_fastopen_synack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
/* RTO number c->retransmits, or the last: does a middle box eat Fast Opens? */
void tcp_fastopen_timeout(struct tcp *t, struct tcp_conn *c, bool expired, uint64_t now);
/* A connection ends: did data come, or only a FIN behind a hole? (tcp_fastopen_active_disable_ofo_check) */
void tcp_fastopen_ended(struct tcp *t, struct tcp_conn *c, uint64_t now);
/*
 * LISTEN: is this SYN a Fast Open? True: make a connection at once. *ret is the cookie of its SYN-ACK (bytes < 0: none).
 */
bool tcp_fastopen_try(struct tcp *t, struct tcp_listener *l, const struct tcp_seg *seg, uint64_t now,
                      struct tcp_fastopen_cookie *ret);
/* The cookie that this listener gives the peer now. */
void tcp_fastopen_cookie_of(const struct tcp *t, const struct tcp_listener *l, const struct ip_tuple *tuple,
                            struct tcp_fastopen_cookie *ret);
/* The connection that tcp_fastopen_try() allowed, made of the SYN alone; takes its data. */
void tcp_fastopen_child(struct tcp *t, struct tcp_conn *c, struct tcp_listener *l, const struct tcp_seg *seg,
                        uint64_t now);
/* A segment while fastopen_rsk (tcp_check_req): false: it is done with. */
bool tcp_fastopen_check(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
/* The SYN-ACK is acknowledged (tcp_rcv_synrecv_state_fastopen). */
void tcp_fastopen_established(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
/* The SYN-ACK's timer (tcp_fastopen_synack_timer). */
void tcp_fastopen_synack_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* No longer pending (reqsk_fastopen_remove). */
void tcp_fastopen_release(struct tcp *t, struct tcp_conn *c, bool reset, uint64_t now);
void tcp_fastopen_listener_closed(struct tcp_listener *l);
/* Before the handshake: neither side may send data (unlike a Fast Open's SYN-RECEIVED). */
static inline bool tcp_handshaking(const struct tcp_conn *c)
{
    return c->state == TCP_STATE_SYN_SENT || (c->state == TCP_STATE_SYN_RECV && !c->fastopen_rsk);
}

/* ---- fastpath.c ---- */
/* Header prediction (RFC 1144 section 3.2.3 tells the idea): true: the segment was in order and nothing special, done. */
bool tcp_fast_path(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);

/* ---- md5.c --------------------------------------------------------------------------------------------------- */
int tcp_md5_init(struct tcp *t);
void tcp_md5_destroy(struct tcp *t);
/* A key is one more's, or one's less; the last one wipes it. 0 is no key. */
uint16_t tcp_md5_ref(struct tcp *t, uint16_t key);
void tcp_md5_unref(struct tcp *t, uint16_t key);
/* There is such a key (restoring a record). */
bool tcp_md5_known(const struct tcp *t, uint16_t key);
/* Places in an arena that lost their last owner are wiped: what became of it is committed. */
void tcp_md5_commit(struct tcp *t);
/* The listener's key for this peer, 0: none (tcp_md5_do_lookup). */
uint16_t tcp_md5_of_listener(const struct tcp_listener *l, const struct ip_addr *peer);
void tcp_md5_listener_closed(struct tcp *t, struct tcp_listener *l);
/* A connection made by l: its key for the peer, with the whole address as prefix. */
void tcp_md5_inherit(struct tcp *t, struct tcp_conn *c, const struct tcp_listener *l);
void tcp_md5_release(struct tcp *t, struct tcp_conn *c);
/*
 * Is a segment signed as this key asks (0: not at all)? False: dropped and counted; nothing answers it
 * (tcp_inbound_md5_hash). True: answers to it will be signed with that key. c may be NULL.
 */
bool tcp_md5_check(struct tcp *t, struct tcp_conn *c, uint16_t key, const struct tcp_seg *seg);
/* A signed segment for no connection and no listener: may a RST answer it? (tcp_v4_send_reset) */
bool tcp_md5_may_reset(struct tcp *t, const struct tcp_seg *seg);
/* refs of the table against those who name its places, or a sentence. */
const char *tcp_md5_check_refs(const struct tcp *t);
/* The last step of each maker: the option with the signature over all that the segment holds. 0: nothing. */
void tcp_md5_sign(struct tcp *t, uint16_t key, struct tcp_seg *seg);

/* ---- reply.c ------------------------------------------------------------------------------------------------- */
int tcp_replies_init(struct tcp *t);
void tcp_replies_destroy(struct tcp *t);
/* Adds to counts[key] the intents that will be signed with it. */
void tcp_replies_count_md5(const struct tcp *t, uint32_t *counts);
/* RST in answer to a segment (RFC 9293 section 3.10.7.1: its ACK as our sequence, or 0 with an ACK of it). */
void tcp_reply_rst(struct tcp *t, const struct tcp_seg *seg, enum tcp_cause cause);
/* A pure ACK that belongs to no connection block (half-open, TIME-WAIT). wnd unscaled; tsval 0 and ts_ok false: none. */
struct tcp_reply_ack {
    struct ip_tuple tuple;
    uint32_t seq, ack;
    uint16_t wnd;
    bool ts_ok;
    uint32_t tsval, tsecr;
    enum tcp_cause cause;
};
void tcp_reply_ack(struct tcp *t, const struct tcp_reply_ack *r);
/* SYN-ACK of a SYN cookie: nothing of it is remembered. */
struct tcp_reply_synack {
    struct ip_tuple tuple;
    uint32_t seq, ack;
    uint16_t wnd, mss;
    bool wscale_ok, sack_ok, ts_ok, ecn_ok;
    uint8_t wscale;
    uint32_t tsval, tsecr;
};
void tcp_reply_synack(struct tcp *t, const struct tcp_reply_synack *r);
/* May one more challenge ACK leave now? Counts it (RFC 5961 section 7). */
bool tcp_challenge_allowed(struct tcp *t, uint64_t now);
/* At most one ACK to invalid segments per tcp_invalid_ratelimit: *last_at is the connection's or entry's. */
bool tcp_invalid_ack_allowed(struct tcp *t, uint64_t *last_at, uint64_t now);

/* ---- input.c ------------------------------------------------------------------------------------------------- */
/*
 * FIN reached in order (step 8): state changes, ACK owed, PEER_CLOSED. Called by tcp_data_in() only, once, for a FIN
 * in order or behind a hole that was filled; rcv_nxt is behind it and fin_received set already. The connection may be
 * in CLOSE and dead on return (TIME-WAIT), but is not freed: tcp_input() reaps it.
 */
void tcp_fin_in(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The connection was reset: error by state (ECONNREFUSED, EPIPE, ECONNRESET), tcp_done(). */
void tcp_reset_in(struct tcp *t, struct tcp_conn *c, uint64_t now);

/* ---- ack.c, recovery.c (sending half) ------------------------------------------------------------------------ */
enum tcp_ack_verdict {
    TCP_ACK_OK,      /* acceptable: snd_una may have moved, or a duplicate */
    TCP_ACK_OLD,     /* below snd_una: nothing of it used, go on with the data */
    TCP_ACK_TOO_OLD, /* below snd_una - max_window: challenge (RFC 5961 section 5) */
    TCP_ACK_UNSENT,  /* above snd_nxt: answer with an ACK, drop */
};
/* RFC 9293 step 5 for synchronised states: the pipeline, window update, SACK and timestamps read from seg. */
enum tcp_ack_verdict tcp_ack_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
/*
 * At establishment: mss, cwnd, rtt sample of the handshake (rtt_us UINT64_MAX: none), first window. Acknowledged is the
 * SYN, and of its data what seg->ack says.
 */
void tcp_snd_established(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t rtt_us, uint64_t now);
/*
 * Before the SYN, or when a half-open entry becomes a connection: c->iss is set. snd_una = snd_nxt = iss, write_seq =
 * iss + 1, sndbuf and sndq begin there; congestion control by name, window, rto, mss from path, mss_clamp, ts_ok.
 */
void tcp_snd_init(struct tcp *t, struct tcp_conn *c);
/* Payload per segment from pmtu, mss_clamp, user_mss, options and probes (tcp_sync_mss). Recounts descriptors. */
void tcp_sync_mss(struct tcp *t, struct tcp_conn *c, uint16_t pmtu);
/* What it would make mss. */
uint32_t tcp_mss_at(const struct tcp *t, const struct tcp_conn *c, uint16_t pmtu);
void tcp_retrans_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now); /* marks lost, backs off, marks ready */
/* RETRANS ran out as TCP_RTX_REO, TCP_RTX_PROBE. */
void tcp_rack_reo_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now);
void tcp_loss_probe_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* Window probes: called when PROBE0 runs out; decides on giving up. */
void tcp_probe0_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now);
#define TCP_RESOURCE_PROBE_NS (500 * NSEC_PER_MSEC) /* Linux TCP_RESOURCE_PROBE_INTERVAL: the device was full */
/* Arms RETRANS or PROBE0 as the state of the queues asks (tcp_rearm_rto, tcp_check_probe_timer). */
void tcp_rearm_rto(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* Segments the peer has out of order: told by SACK, or guessed from duplicate ACKs. */
static inline uint32_t tcp_sacked_out(const struct tcp_conn *c)
{
    return c->sndq.sacked_out + c->dup_acks;
}
/* In flight = packets_out - (sacked + lost) + retrans_out. */
static inline uint32_t tcp_in_flight(const struct tcp_conn *c)
{
    const struct tcp_sndq *q = &c->sndq;

    return q->packets_out - (tcp_sacked_out(c) + q->lost_out) + q->retrans_out;
}
/* Metrics, cwnd, congestion control (tcp_init_transfer); rtt is what the handshake told. */
void tcp_init_transfer(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The rate of the pacing gate and of super-frames, from cwnd, mss and srtt (tcp_update_pacing_rate). */
void tcp_update_pacing_rate(const struct tcp *t, struct tcp_conn *c);
/* One RTT sample of the handshake. */
void tcp_synack_rtt(struct tcp *t, struct tcp_conn *c, uint64_t rtt_us, uint64_t now);
/* Everything in flight was lost, but not for congestion: it goes again at once (tcp_non_congestion_loss_retransmit). */
void tcp_non_congestion_loss(struct tcp *t, struct tcp_conn *c);
void tcp_enter_loss(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* What ssthresh would be worth now (tcp_current_ssthresh). */
uint32_t tcp_current_ssthresh(const struct tcp_conn *c);
/* The end of a Loss that only the SYN-ACK's timer caused. */
void tcp_undo_synack_loss(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);

/* ---- pmtu.c ---- */
/* At the SYN, and at establishment (tcp_mtup_init). */
void tcp_mtup_init(struct tcp *t, struct tcp_conn *c, uint64_t now);
uint32_t tcp_mss_to_mtu(const struct tcp_conn *c, uint32_t mss);
/* ack.c: payload of a packet of that size; what options take of each segment. */
/* IP's and TCP's headers without options. */
static inline uint16_t tcp_ip_headers_bytes(uint8_t family)
{
    return family == IP_V6 ? 40 + TCP_HEADER_BYTES : 20 + TCP_HEADER_BYTES;
}
uint32_t tcp_mtu_to_mss(const struct tcp *t, const struct tcp_conn *c, uint32_t mtu);
uint32_t tcp_mss_options(const struct tcp_conn *c);
/* Is a probe to go before other new data (tcp_mtu_probe)? WAIT: yes, but there is no room for it yet. */
enum tcp_mtup_verdict { TCP_MTUP_NO, TCP_MTUP_WAIT, TCP_MTUP_SEND };
enum tcp_mtup_verdict tcp_mtup_plan(const struct tcp *t, const struct tcp_conn *c, uint32_t *ret_bytes);
/* Enabled, none out, in a state that allows it. */
bool tcp_mtup_may_probe(const struct tcp_conn *c);
/* Before planning: is a new search due? */
void tcp_mtup_check_reprobe(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* It left; it was refused by the device; snd_una moved. */
void tcp_mtup_sent(struct tcp_conn *c, const struct tcp_desc *d);
void tcp_mtup_unsent(struct tcp_conn *c, uint32_t seq);
void tcp_mtup_acked(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* Something is lost: is it the probe, and no congestion? True: it goes again, in pieces, and that was all. */
bool tcp_mtup_lost(struct tcp *t, struct tcp_conn *c);
/* Packet Too Big about the probe at `seq`; false: it is about something else. */
bool tcp_mtup_too_big(struct tcp *t, struct tcp_conn *c, uint32_t seq, uint32_t mtu);
/* Timeouts in a row: the path may swallow what is large. */
void tcp_mtup_black_hole(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* tcp_simple_retransmit() */
void tcp_simple_retransmit(struct tcp *t, struct tcp_conn *c, uint32_t mss);
/* What the stack told of the path since counts from now on: before an ACK's or a program's data is sent. */
void tcp_follow_path(struct tcp *t, struct tcp_conn *c);
/* NULL, or what is wrong with the probe that is out. */
const char *tcp_mtup_check(const struct tcp_conn *c);

/* ---- cong.c ---- */
/* The controller of this index (cc_name()), on a connection in whatever state (tcp_reinit_congestion_control). */
void tcp_cc_choose(const struct tcp *t, struct tcp_conn *c, unsigned index, uint64_t now);
/* Brings what the controller may read up to date: before each call of one. */
void tcp_cc_refresh(const struct tcp *t, struct tcp_conn *c, uint64_t now);
/* After an ACK: snd_nxt as it will be, for the next one of the batch. */
void tcp_cc_note_due(struct tcp_conn *c);
/* `d` was just marked lost: its controller is told, if it wants to know. What was never the path's fault is not told. */
void tcp_cc_lost(const struct tcp *t, struct tcp_conn *c, const struct tcp_desc *d, uint64_t now);
/* Marks it lost and tells. */
void tcp_mark_lost(const struct tcp *t, struct tcp_conn *c, struct tcp_desc *d, uint64_t now);
void tcp_cc_event(const struct tcp *t, struct tcp_conn *c, enum cc_event event, uint64_t now);
/* At establishment (tcp_init_congestion_control). */
void tcp_cc_init(const struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The choke point of ca_state; time is c->mstamp (tcp_set_ca_state). */
void tcp_set_ca_state(struct tcp_conn *c, enum tcp_ca_state state);
static inline bool tcp_cc_needs_ecn(const struct tcp_conn *c)
{
    return c->cc && (c->cc->flags & CC_NEEDS_ECN);
}

/* ---- ecn.c ---- */
/* Our SYN leaves: asks for ECN, or not (again: it was sent before). Returns its flags (tcp_ecn_send_syn). */
unsigned tcp_ecn_syn_flags(const struct tcp *t, struct tcp_conn *c, bool again);
/* The peer's SYN-ACK or crossed SYN came. */
void tcp_ecn_syn_in(struct tcp_conn *c, const struct tcp_seg *seg);
/* LISTEN: is this SYN's wish granted? *ret_ect: its SYN-ACK is ECN-capable (tcp_ecn_create_request) */
bool tcp_ecn_granted(const struct tcp *t, const struct tcp_listener *l, const struct tcp_seg *seg, bool *ret_ect);
/* An ACK with ECE on a connection that agreed on it (tcp_ecn_rcv_ecn_echo). */
static inline bool tcp_ecn_echoed(const struct tcp_conn *c, const struct tcp_seg *seg)
{
    return c->ecn_ok && (seg->flags & (TCP_ECE | TCP_SYN)) == TCP_ECE;
}
/* CWR came: nothing is echoed any more (tcp_ecn_accept_cwr). */
void tcp_ecn_accept_cwr(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg);
/* Data came with this mark; rcv_nxt is behind it, if in order. True: it owes an ACK of its own (tcp_ecn_check_ce). */
bool tcp_ecn_data_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
/* Codepoint and flags of a segment that leaves; new_data: payload sent for the first time (tcp_ecn_send). */
void tcp_ecn_put(struct tcp_conn *c, struct tcp_seg *seg, bool new_data);

/* ---- rate.c ---- */
/* d leaves, for the first time or again; in_flight counts it too (tcp_rate_skb_sent). */
void tcp_rate_sent(struct tcp_conn *c, struct tcp_desc *d, bool first_in_flight, uint32_t in_flight, uint64_t now);
/* The program has nothing more to send, and nothing else holds back (tcp_rate_check_app_limited). */
void tcp_rate_check_app_limited(const struct tcp *t, struct tcp_conn *c);
/* What tcpi_delivery_rate tells, bytes/s. */
uint64_t tcp_delivery_rate(const struct tcp_conn *c);

/* ---- output.c ------------------------------------------------------------------------------------------------ */
/* Has it anything that may go out at `now`? (what tcp_mark_ready() and the deadline test rely on) */
bool tcp_may_send(const struct tcp *t, const struct tcp_conn *c, uint64_t now);
/* Only ACKs or little data owed: ready_urgent. */
bool tcp_is_urgent(const struct tcp *t, const struct tcp_conn *c);
enum tcp_limit tcp_send_limit(const struct tcp *t, const struct tcp_conn *c, uint64_t now);
/* The next segment goes without waiting for its time. */
void tcp_open_gate(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* snd_nxt, tcp_in_flight(), descriptors and cells as they will be when output has sent what may go now. */
struct tcp_pushed {
    uint32_t nxt, in_flight, skbs;
};
void tcp_after_push(const struct tcp *t, const struct tcp_conn *c, uint64_t now, struct tcp_pushed *ret);
/*
 * Sequence number up to which bytes, if there were any, could leave at once: cwnd, window, gate; and the size of the
 * pieces in which they would.
 */
uint32_t tcp_sendable_end(const struct tcp *t, const struct tcp_conn *c, uint32_t *ret_piece);
/* The end of a verb: READY if something may go now; else it is noted if the peer's window holds it. One plan for both. */
void tcp_follow_up(struct tcp *t, struct tcp_conn *c, uint64_t now);

/* ---- sndmem.c ------------------------------------------------------------------------------------------------- */
uint32_t tcp_wmem_queued(const struct tcp_conn *c);
/* A timeout, of data, SYN or SYN-ACK: counts it. Its recovery is over: adds the time (tcpi_total_rto...). */
void tcp_rto_began(struct tcp_conn *c, uint64_t now);
void tcp_rto_over(struct tcp_conn *c, uint64_t now);
/* So many descriptors, and SACK blocks split no more of them. */
uint32_t tcp_sndq_count_max(const struct tcp_conn *c);
/* Of `want` bytes to append those that the limits let in. */
uint32_t tcp_stream_room(const struct tcp *t, const struct tcp_conn *c, uint32_t want);
/* Memory for the next append; false: none. */
bool tcp_stream_prepare(struct tcp_conn *c);
/* `bytes` > 0 were put into sndbuf behind write_seq: cells, PSH, write_seq (the tail of tcp_sendmsg). */
void tcp_stream_append(struct tcp *t, struct tcp_conn *c, uint32_t bytes, unsigned flags, uint64_t now);
/* A send took less than it was given: SOCK_NOSPACE, and what is queued is pushed. */
void tcp_stream_full(struct tcp_conn *c);
bool tcp_stream_is_writeable(const struct tcp *t, const struct tcp_conn *c);
/* Raises WRITABLE when it is time, grows the buffer. */
void tcp_check_space(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* Room for two windows, as truesize (tcp_sndbuf_expand): one in flight, one to keep it full while ACKs come. */
void tcp_sndbuf_expand(const struct tcp *t, struct tcp_conn *c);
void tcp_chrono_start(struct tcp_conn *c, enum tcp_chrono which, uint64_t now);
void tcp_chrono_stop(struct tcp_conn *c, enum tcp_chrono which, uint64_t now);
uint64_t tcp_chrono_ns(const struct tcp_conn *c, enum tcp_chrono which, uint64_t now);

/* ---- rcvq.c, ackowed.c on a connection (receiving half) ------------------------------------------------------- */
/* Buffers, window and scale before SYN or SYN-ACK (tcp_select_initial_window). */
void tcp_rcv_init(struct tcp *t, struct tcp_conn *c, uint16_t mss, bool wscale_ok);
/* Initial window and scale for a SYN or SYN-ACK without a connection block. rcvbuf 0: of the configuration. */
void tcp_rcv_initial_window(const struct tcp *t, uint32_t rcvbuf, uint16_t mss, bool wscale_ok, uint16_t *ret_wnd,
                            uint8_t *ret_wscale);
/* Steps 6-8, text: in order, out of order, old, beyond the window; owes ACKs; FIN in order -> tcp_fin_in(). */
void tcp_data_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
/* At establishment: first rcv_mss, autotuning and window clamp (tcp_init_buffer_space). Repeated calls do nothing. */
void tcp_rcv_established(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The window to announce now, unscaled bytes; becomes rcv_wnd, moves rcv_wup (tcp_select_window). Only output calls. */
uint32_t tcp_select_window(struct tcp *t, struct tcp_conn *c);
uint32_t tcp_receive_window(const struct tcp_conn *c); /* what is announced and still open */
/*
 * The program has read (api.c: tcp_rcvq_consume(), copied_seq += bytes, then this): autotuning, and does the window
 * deserve an update? marks (tcp_rcv_space_adjust, tcp_cleanup_rbuf).
 */
void tcp_rcv_read(struct tcp *t, struct tcp_conn *c, size_t bytes, uint64_t now);
/* Appends SACK blocks to ret->sack (behind a D-SACK that the maker put there from its fact); up to `max` in all. */
void tcp_sack_blocks(const struct tcp_conn *c, struct tcp_options *ret, unsigned max);
/* Owe an ACK at once, with its cause. */
void tcp_owe_ack(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause);
/* RFC 5961 challenge or out-of-window ACK, rate limited; dropped with reason where not allowed. */
void tcp_owe_challenge(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, uint64_t now);
/* ACK of a segment refused by the sequence or PAWS check, with D-SACK if its data is old (tcp_send_dupack). No limit. */
void tcp_owe_dupack(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, enum tcp_cause cause);
/* Data left: is this connection interactive (tcp_event_data_sent)? output.c calls it for every data segment. */
void tcp_ackowed_data_sent(struct tcp_conn *c, uint64_t now);
/* Up to 16 ACKs at once from now on (tcp_enter_quickack_mode); quick off: pingpong (TCP_OPT_QUICKACK). */
void tcp_enter_quickack_mode(struct tcp_conn *c, unsigned max_quickacks);
void tcp_quickack_set(struct tcp *t, struct tcp_conn *c, bool on, uint64_t now);
/* In-order data came: now or later (tcp_event_data_recv's ato part, __tcp_ack_snd_check). rcv.c calls them. */
void tcp_ackowed_data_received(struct tcp_conn *c, uint64_t now);
void tcp_ack_snd_check(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* An ACK of its own for this segment; dsack may be NULL. Marks ready. */
void tcp_owe_fact(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, const struct tcp_sack_block *dsack);
/* The same for a segment out of order; sack_seq: the start of its range, whose block the ACK reports first. */
void tcp_owe_fact_at(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, const struct tcp_sack_block *dsack,
                     const uint32_t *sack_seq);
/* rcv.c tells rcvwnd.c: `len` payload bytes of seg came in order (or out of order: grow only), charged `truesize`. */
void tcp_rcvwnd_data(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
void tcp_grow_window(struct tcp *t, struct tcp_conn *c, uint32_t len, uint32_t truesize);
void tcp_rcv_rtt_measure_ts(struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now);
bool tcp_memory_pressure(const struct tcp *t); /* most of the chunk budget is used */
/*
 * The last sixteenth of the budget is for buffers that hold less than their least (tcp_rmem_min, tcp_wmem_min): so bulk that
 * nobody reads leaves others what an exchange of small messages takes (tcp_mem[2], as sk_mem_raise_allocated() has it).
 */
static inline bool tcp_memory_left(const struct tcp *t, uint32_t held, int32_t least)
{
    return held < (uint32_t)least || chunk_pool_used_bytes(t->pool) <= t->scarce_at;
}
/* The window that would be announced now, if shrinking were allowed (__tcp_select_window). */
uint32_t tcp_wanted_window(struct tcp *t, struct tcp_conn *c);
void tcp_delack_timeout(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* A segment with an ACK left: delayed ACK and owed in-order ACKs are paid (tcp_event_ack_sent). */
void tcp_ack_sent(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The next owed ACK fact, if any, to put on a segment: ack number, cause, D-SACK; false: none owed. */
struct tcp_ack_fact {
    uint32_t ack;
    enum tcp_cause cause;
    bool dsack;
    struct tcp_sack_block dsack_block;
    bool ece;          /* ECN: with ECE */
    bool sack;         /* its segment lies out of order, in the range that holds sack_seq */
    uint32_t sack_seq;
};
/* Appends the block of the out-of-order range that holds `seq`, if there still is one. */
void tcp_sack_block_of(const struct tcp_conn *c, uint32_t seq, struct tcp_options *ret);
bool tcp_ack_owed(const struct tcp_conn *c);
bool tcp_ack_take(struct tcp_conn *c, struct tcp_ack_fact *ret);

/* ---- timers.c ------------------------------------------------------------------------------------------------ */
void tcp_timer_set(struct tcp *t, struct tcp_conn *c, enum tcp_timer which, uint64_t at); /* TIME_NEVER: off */
/* The end of input: the wheel's timer goes if no deadline is left. */
void tcp_timers_settle(struct tcp *t, struct tcp_conn *c);
void tcp_timers_off(struct tcp *t, struct tcp_conn *c);
/* Everything of one connection whose time has come. */
void tcp_conn_expire(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* KEEPALIVE from now, if the option is on (tcp_finish_connect). */
void tcp_keepalive_start(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* How long an orphan stays in FIN-WAIT-2, ns. */
uint64_t tcp_fin_time(const struct tcp *t, const struct tcp_conn *c);
/* Orphan rules (tcp_close, tcp_out_of_resources): true if it was reset for lack of room. */
bool tcp_orphan_over_limit(struct tcp *t);
/* Write timeout: gives up, tells the owner (ETIMEDOUT or the soft error). */
void tcp_write_error(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* Has this many timeouts, or the user timeout, passed? (tcp_write_timeout, retransmits_timed_out) */
bool tcp_timed_out(const struct tcp *t, const struct tcp_conn *c, uint64_t now);
/* Have so many timeouts passed that the path is suspected (tcp_retries1)? */
bool tcp_path_suspected(const struct tcp *t, const struct tcp_conn *c, uint64_t now);

/* ---- api.c --------------------------------------------------------------------------------------------------- */
/* FIN behind what is queued, with the change of state that goes with it (tcp_close_state, tcp_send_fin). */
void tcp_queue_fin(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* The owner is gone at once: RST where the state asks for it (tcp_disconnect). Frees c, or lets its RST do so. */
void tcp_disconnect(struct tcp *t, struct tcp_conn *c, enum tcp_cause cause, uint64_t now);
/* The active open's SYN is to leave now. */
void tcp_start_syn(struct tcp *t, struct tcp_conn *c, uint64_t now);
/* advmss, windows and the sending half, as path, user_mss, buffers and offers ask; again after they changed. */
void tcp_prepare_syn(struct tcp *t, struct tcp_conn *c);
/* Options to offer in the SYN. */
void tcp_set_offers(struct tcp *t, struct tcp_conn *c);

/* ---- record.c, check.c --------------------------------------------------------------------------------------- */
int tcp_records_init(struct tcp *t);
void tcp_records_destroy(struct tcp *t);
/* A place in the arena for a connection's record, UINT32_MAX: none; and it is free again. */
uint32_t tcp_record_take_block(struct tcp *t);
void tcp_record_give_block(struct tcp *t, uint32_t block);
/* Its record will be written: what tcp_commit() looks at first is fetched into the cache. */
void tcp_record_expect(const struct tcp *t, const struct tcp_conn *c);
/* What is published of a connection (record and cell) goes with the next commit. */
void tcp_record_clear(struct tcp *t, const struct tcp_conn *c);
void tcp_record_clear_cell(struct tcp *t, uint32_t slot);
/* The record goes with the next commit and the place is free: what it says is published elsewhere. */
void tcp_record_retire(struct tcp *t, uint32_t block);
/* A scan of all places (restoring): what was touched before, and is not taken by tcp_conn_new_at(), is given. */
void tcp_record_blocks_touched(struct tcp *t, uint32_t touched);
/* A record's sum, by words of 8 bytes behind the sum itself. */
struct tcp_record;
struct tcp_record_sum {
    uint64_t lane[4];
    unsigned n;
};
static inline void tcp_record_sum_begin(struct tcp_record_sum *s)
{
    *s = (struct tcp_record_sum){.lane = {1, 2, 3, 4}};
}
static inline void tcp_record_sum_add(struct tcp_record_sum *s, const void *word)
{
    uint64_t w, *lane = &s->lane[s->n++ % 4];

    memcpy(&w, word, sizeof w);
    *lane = (*lane ^ w) * 0x9e3779b97f4a7c15ull;
}
/* The first words of all, or those behind a multiple of four: four at once, in registers. */
static inline void tcp_record_sum_four(struct tcp_record_sum *s, const uint8_t *words)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t w;

        memcpy(&w, words + i * sizeof w, sizeof w);
        s->lane[i] = (s->lane[i] ^ w) * 0x9e3779b97f4a7c15ull;
    }
}
static inline uint64_t tcp_record_sum_end(const struct tcp_record_sum *s)
{
    const uint64_t *l = s->lane;

    return l[0] ^ (l[1] << 1 | l[1] >> 63) ^ (l[2] << 2 | l[2] >> 62) ^ (l[3] << 3 | l[3] >> 61);
}
/* All but layout, bytes and sum. */
void tcp_record_fill(const struct tcp_conn *c, struct tcp_record *ret);
/* The reverse, and what follows from the numbers alone; queues are the caller's. */
void tcp_record_load(struct tcp_conn *c, const struct tcp_record *r);
/* A connection that another engine parked has a block again: its listener, its timers. */
void tcp_record_woken(struct tcp *t, struct tcp_conn *c, const struct tcp_record *r, uint64_t now);
/* NULL, or which value is impossible. */
const char *tcp_record_values(const struct tcp_record *r);
/* Fills layout, bytes and sum. */
void tcp_record_seal(struct tcp_record *r);
/* At once: it can't be used. */
void tcp_record_forget(struct tcp *t, uint32_t slot);
/* Debug builds: asserts tcp_check(); called at the end of every verb for the connection it touched. */
void tcp_assert(const struct tcp *t, const struct tcp_conn *c);

/* ---- park.c: parked connections -------------------------------------------------------------------------------- */
size_t tcp_park_bytes(uint32_t max_conns);
int tcp_park_init(struct tcp *t, void *arena);
void tcp_park_destroy(struct tcp *t);
/* A parked entry becomes a connection with a working block, to be committed. NULL: no memory; it stays parked. */
struct tcp_conn *tcp_wake(struct tcp *t, void *parked);
/* The same for an entry that was looked up; without memory both stay as they are. */
void *tcp_wake_entry(struct tcp *t, void *parked, enum tcp_kind *inout_kind);
/* A connection, or a copy of a parked one, valid until the next such call, which can be read but not worked on. */
const struct tcp_conn *tcp_conn_view(const struct tcp *t, tcp_id id);
const struct tcp_conn *tcp_view(const struct tcp *t, const void *parked);
/* One that its owner leaves and that can't be woken for lack of memory is gone, with a RST if there is room for one. */
bool tcp_park_abandon(struct tcp *t, tcp_id id);
bool tcp_is_parked(const struct tcp *t, tcp_id id);
/* Does this parked entry have that tuple? */
bool tcp_cell_is(const struct tcp *t, const void *parked, const struct ip_tuple *tuple);
/* Committed just now: it is warm. And it goes. */
void tcp_park_committed(struct tcp *t, struct tcp_conn *c);
void tcp_park_leave(struct tcp *t, struct tcp_conn *c);
/* Parks all that are at rest (tcp_params.park_eager). */
void tcp_park_all(struct tcp *t);
void tcp_park_expire(struct tcp *t);
uint64_t tcp_park_deadline(const struct tcp *t);
/* Restoring: the record in that cell (id 0: none), NULL or why it can't be used; it is parked again; it is nobody's. */
const char *tcp_cell_read(const struct tcp *t, uint32_t slot, struct tcp_record *ret);
bool tcp_cell_place(struct tcp *t, uint32_t slot, const struct tcp_record *r);
void tcp_cell_forget(struct tcp *t, uint32_t slot);

/* ---- rec.c: the hooks of the flight recorder ------------------------------------------------------------------ */
void tcp_rec_put_error(struct tcp *t, struct tcp_conn *c, int error);
void tcp_rec_put_reset(struct tcp_conn *c, enum tcp_cause cause);
void tcp_rec_put_parked(struct tcp *t, const struct tcp_conn *c);
/* Its block goes, its ring stays its own. */
static inline void tcp_rec_parked(struct tcp *t, const struct tcp_conn *c)
{
    if (t->rec)
        tcp_rec_put_parked(t, c);
}
/* A verb begins, for that connection or for none. */
static inline void tcp_rec_verb(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (t->rec)
        tcp_rec_begin(t, c, now);
}
void tcp_rec_set_time(struct tcp *t, uint64_t now);
uint64_t tcp_rec_time_of(const struct tcp *t); /* of the last event; 0: nothing records */
static inline void tcp_rec_time(struct tcp *t, uint64_t now)
{
    if (t->rec)
        tcp_rec_set_time(t, now);
}
static inline void tcp_rec_seg_in(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *seg, uint64_t now)
{
    if (t->rec)
        tcp_rec_put_seg(t, c, TCP_REC_T_SEG_IN, 0, 0, seg, now);
}
static inline void tcp_rec_drop(struct tcp *t, struct tcp_conn *c, enum tcp_drop reason)
{
    if (t->rec)
        tcp_rec_put_bare(t, c, TCP_REC_T_DROP, reason, 0);
}
static inline void tcp_rec_state(struct tcp *t, struct tcp_conn *c, unsigned before)
{
    if (t->rec)
        tcp_rec_put_bare(t, c, TCP_REC_T_STATE, c->state, before);
}
static inline void tcp_rec_call(struct tcp *t, struct tcp_conn *c, enum tcp_rec_call call, uint32_t arg, int64_t result,
                                uint32_t want, uint32_t left, uint64_t now)
{
    if (t->rec)
        tcp_rec_put_call(t, c, call, arg, result, want, left, now);
}
static inline void tcp_rec_limit(struct tcp *t, struct tcp_conn *c, enum tcp_limit limit, uint64_t now)
{
    if (t->rec)
        tcp_rec_put_limit(t, c, limit, now);
}
/* The program waits for room now. */
static inline void tcp_rec_wants(struct tcp *t, struct tcp_conn *c)
{
    if (t->rec && c->rec.told_limit && c->rec.limit == TCP_LIMIT_NOTHING && c->rec.limit_arg != c->want_writable)
        tcp_rec_put_limit(t, c, TCP_LIMIT_NOTHING, tcp_rec_time_of(t));
}
static inline void tcp_rec_undo(struct tcp *t, struct tcp_conn *c, enum tcp_rec_undo kind)
{
    if (t->rec)
        tcp_rec_put_cong(t, c, TCP_REC_T_UNDO, kind, 0);
}
static inline void tcp_rec_fired(struct tcp *t, struct tcp_conn *c, enum tcp_timer timer, uint64_t now)
{
    if (t->rec)
        tcp_rec_put_fired(t, c, timer, now);
}
static inline void tcp_rec_error(struct tcp *t, struct tcp_conn *c, int error)
{
    if (t->rec)
        tcp_rec_put_error(t, c, error);
}
static inline void tcp_rec_bare(struct tcp *t, struct tcp_conn *c, enum tcp_rec_type type, unsigned code, uint32_t arg)
{
    if (t->rec)
        tcp_rec_put_bare(t, c, type, code, arg);
}
/* At the end of a verb: timers and congestion state, where they changed. */
static inline void tcp_rec_settle(struct tcp *t, struct tcp_conn *c, uint64_t now)
{
    if (t->rec && (c->rec.timers_moved || c->rec.ca_state != c->ca_state || c->rec.rtx != c->rtx))
        tcp_rec_put_settle(t, c, now);
}

#endif
