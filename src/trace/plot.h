/*
 * trace/plot.h: the time-sequence graph of a connection as SVG, from a record or from a capture of somebody else's.
 *
 * A plot is fed with what was seen of one direction of data (points in seconds and bytes), then drawn. Pure; memory is
 * bounded by the input, the drawing by PLOT_RUNS_MAX whatever the input is.
 */
#ifndef TAUT_TRACE_PLOT_H
#define TAUT_TRACE_PLOT_H

#include "trace/trace.h"

/* Vertical bars of the sequence panel. */
enum plot_bar_kind { PLOT_DATA, PLOT_FAST, PLOT_RTO, PLOT_TLP, PLOT_PROBE, PLOT_AGAIN, PLOT_SACK, PLOT_DSACK, PLOT_BARS };
enum plot_curve_kind {
    PLOT_ACK, PLOT_WINDOW,               /* sequence panel */
    PLOT_CWND, PLOT_SSTHRESH, PLOT_FLIGHT, /* segments; of a capture: bytes in flight */
    PLOT_RTT, PLOT_MIN_RTT,              /* ms */
    PLOT_PACING, PLOT_DELIVERY, PLOT_ACKED, /* bit/s; the last is made of PLOT_ACK */
    PLOT_CURVES
};

struct plot_bar {
    double t;
    int64_t from, to; /* bytes behind the initial sequence number */
    uint8_t kind;
};
struct plot_point {
    double t, v;
};
struct plot_points {
    struct plot_point *at;
    size_t n, room;
};
struct plot_mark { /* a letter beside the data: S, F, R */
    double t;
    int64_t at;
    char letter;
};

struct plot_seg; /* plot.c */
struct plot_timed {
    int64_t end;
    double t;
    bool again;
};
#define PLOT_TIMED 1024
#define PLOT_MARKS 32

struct plot {
    char from[IP_ADDR_PORT_MAX], to[IP_ADDR_PORT_MAX]; /* who sends the data, and to whom */
    bool recorded;       /* by our recorder: causes and congestion control are known */
    uint64_t lost_events;
    struct plot_bar *bars;
    size_t n_bars, bars_room;
    struct plot_points curve[PLOT_CURVES];
    struct plot_mark marks[PLOT_MARKS];
    unsigned n_marks;
    uint64_t data_bytes, again_bytes, segments, again_segments;
    double first, last;
    bool any, failed; /* failed: memory ran out */
    /* while feeding */
    bool have_base, have_ack;
    int64_t base, top, acked, edge;
    uint8_t scale;
    struct plot_timed timed[PLOT_TIMED]; /* of a capture: when what was sent, for round trips */
    unsigned timed_first, timed_n;
};

/* Which direction of data: the one with more, or as told. */
enum plot_direction { PLOT_MORE, PLOT_OUT, PLOT_IN };

/* Begin with a zeroed plot. Several sections of one record: one after the other, with the same direction (not MORE). */
enum plot_direction plot_trace_direction(const struct trace *tr);
int plot_from_trace(struct plot *p, const struct trace *tr, enum plot_direction direction);
void plot_free(struct plot *p);

struct plot_style {
    const char *title;  /* NULL: none */
    double from, to;    /* seconds to be shown; to <= from: all */
    bool embed;         /* for a page: the sequence panel alone, smaller; colours are the page's style sheet's */
};
#define PLOT_RUNS_MAX 6000u /* bars of one kind; more are drawn coarser */
void plot_svg(const struct plot *p, const struct plot_style *style, struct trace_text *out);

/* ---- captures (capture.c) ---- */

bool capture_is_one(const void *bytes, size_t n); /* pcap or pcapng, by its first bytes */

struct capture_stream {
    struct ip_addr addr[2]; /* who sent its first packet; the other */
    uint16_t port[2];
    uint32_t syn;
    bool has_syn;
    uint64_t packets, bytes[2]; /* payload that end 0 and end 1 sent */
    uint64_t first_ns, last_ns;
};
struct capture_streams {
    struct capture_stream *at;
    size_t n, room;
    uint32_t *slots; /* index + 1 by a hash of the ends */
    size_t n_slots;
};
/* TCP connections in the order of their first packets. 0 or -errno with a sentence. */
int capture_list(const void *bytes, size_t n, struct capture_streams *ret, const char **ret_error);
void capture_streams_free(struct capture_streams *s);
/* Feeds stream `number`. direction OUT: what the sender of its first packet sent. */
int plot_from_capture(struct plot *p, const void *bytes, size_t n, size_t number, enum plot_direction direction,
                      const char **ret_error);

/* ---- feeding (plot.c), for the above ---- */

struct plot_seg {
    double t;
    bool data;    /* in the direction of the data; else of the ACKs */
    uint32_t seq, ack, len;
    uint16_t flags, wnd;
    uint8_t kind; /* of a recorded one: enum plot_bar_kind; PLOT_BARS: to be found out */
    uint8_t sack_count;
    struct tcp_sack_block sack[TCP_SACK_BLOCKS_MAX];
};
void plot_feed(struct plot *p, const struct plot_seg *s);
void plot_point(struct plot *p, enum plot_curve_kind curve, double t, double v);

#endif
