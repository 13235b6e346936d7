/*
 * trace/explain.h: where a connection's time went, from its record: what `taut explain` says.
 *
 * trace_explain() walks over the events once and gives every moment one name (enum explain_time), so that the shares
 * add up to all of the time that the record covers; then it names what stands out (enum explain_verdict), with the
 * figures that show it. What the record doesn't have (unread bytes, who owns the connection, the listener's queue) comes
 * as a struct explain_context. Pure: no system call.
 */
#ifndef TAUT_TRACE_EXPLAIN_H
#define TAUT_TRACE_EXPLAIN_H

#include "trace/trace.h"

/* What a moment was spent with: X(NAME, "text"). */
#define EXPLAIN_TIMES(X)                                                                                       \
    X(HANDSHAKE, "the handshake")                                                                              \
    X(PROGRAM_WRITE, "nothing to send: the program writes nothing, and nothing comes")                         \
    X(RECEIVING, "the peer sends")                                                                             \
    X(PROGRAM_READ, "our window closed: the program does not read")                                            \
    X(SENDING, "sending")                                                                                      \
    X(ACKS, "all is sent and waits for its acknowledgement")                                                   \
    X(PEER_WINDOW, "the peer's window")                                                                        \
    X(CWND, "the congestion window")                                                                           \
    X(RECOVERY, "repairing losses")                                                                            \
    X(TIMEOUT, "waiting for the retransmission timeout, and after it")                                         \
    X(PACING, "pacing")                                                                                        \
    X(NAGLE, "Nagle: a small segment waits for an ACK")                                                        \
    X(CORK, "the program holds a segment back (cork)")                                                         \
    X(SNDBUF, "the send buffer: the program waits for room")                                                   \
    X(TSO_DEFER, "waiting to fill a super-frame")                                                              \
    X(MTU_PROBE, "the path-MTU search")                                                                        \
    X(DEVICE, "the device")                                                                                    \
    X(NEIGHBOUR, "the next hop's address is not known")                                                        \
    X(NO_ROUTE, "no route")                                                                                    \
    X(CLOSING, "closing")

enum explain_time {
#define X(name, text) EXPLAIN_##name,
    EXPLAIN_TIMES(X)
#undef X
        EXPLAIN_TIME_MAX
};

/* What stands out where no name of a time says it: the rest of the verdicts. */
#define EXPLAIN_VERDICTS(X)                                                                                    \
    X(SYN_UNANSWERED)                                                                                          \
    X(PATH_BLACK_HOLE)                                                                                         \
    X(MTU_BLACK_HOLE)                                                                                          \
    X(ACCEPT_QUEUE)                                                                                            \
    X(BACKEND)                                                                                                 \
    X(HALF_OPEN)                                                                                               \
    X(NOTHING)

enum explain_verdict {
    EXPLAIN_VERDICT_FIRST = EXPLAIN_TIME_MAX - 1, /* those before are the times */
#define X(name) EXPLAIN_V_##name,
    EXPLAIN_VERDICTS(X)
#undef X
        EXPLAIN_V_MAX
};
const char *explain_verdict_name(unsigned verdict);
const char *explain_time_text(unsigned time);
struct explained;
/* A path-MTU black hole that the search has found. */
bool explain_hole_found(const struct explained *x);

/* What is known apart from the record; zeroed where nothing is. */
struct explain_context {
    bool live;               /* the figures of the connection below are those of now */
    bool half_open;          /* there is no record: an entry that waits for the ACK of its SYN-ACK */
    bool listening;          /* a listener is what is asked about */
    bool forward;            /* its owner is a forward, else a program or a service */
    char owner[96];
    uint64_t unread_bytes, undelivered, notsent_bytes, sndbuf, sndbuf_used, rcvbuf, snd_wnd, cwnd, snd_mss, rtt_us;
    uint64_t pacing_rate, max_pacing_rate; /* UINT64_MAX: none */
    uint64_t retrans;        /* of a half-open entry: SYN-ACKs sent again */
    uint64_t backlog, accept_queue, half_opens; /* of its listener */
    bool listener_known;
    uint64_t drops_accept_queue; /* LISTEN_BACKLOG of the whole stack */
};

struct explain_share {
    uint64_t ns;         /* in all */
    uint32_t times;      /* how often */
    uint64_t longest_ns, longest_at;   /* when the longest one began */
    uint64_t longest_event;            /* its first event's number */
};

struct explained {
    struct explain_share share[EXPLAIN_TIME_MAX];
    uint64_t from, to; /* ns: what is covered */
    uint64_t zero;     /* where the times of trace_story_event() begin */
    bool beginning_lost;
    bool no_details;   /* trace_level 1: no LIMIT events to tell by */
    uint8_t now;       /* enum explain_time at the end */
    uint8_t verdict;   /* enum explain_verdict */
    /* figures */
    uint64_t peer_closed_ns, our_closed_ns; /* windows below one segment */
    uint32_t snd_wnd, rcv_wnd;              /* last told */
    uint32_t cwnd, ssthresh, srtt_us, min_rtt_us, mss;
    uint64_t pacing_rate;
    uint32_t syns;                           /* SYNs sent */
    uint32_t fast, rto, tlp, probes, losses; /* retransmissions by cause; times that a loss was found */
    uint32_t unanswered;                     /* timeouts in a row since anything was acknowledged */
    uint64_t silent_since, stuck_since;      /* last segment that came; last ACK of something new */
    uint32_t acked_max, stuck;               /* payload: largest that was ever acknowledged; what timeouts send again */
    uint32_t heard;                          /* segments that came since then */
    uint32_t stuck_max, head_mss;            /* the largest of those; payload per segment at the end */
    bool mtu_probing;
    uint32_t mtu;
    uint64_t acked_bytes, received_bytes;
};

/* 0, or -EBADMSG: damaged (what was read until then is in *ret). ctx may not be NULL. */
int trace_explain(const struct trace *tr, const struct explain_context *ctx, struct explained *ret);
/* Without a record: a half-open entry, or a listener. */
void trace_explain_context(const struct explain_context *ctx, struct explained *ret);
void trace_explain_text(const struct explained *x, const struct explain_context *ctx, struct trace_text *out);
/* One object, no line feed. */
void trace_explain_json(const struct explained *x, const struct explain_context *ctx, struct trace_text *out);

#endif
