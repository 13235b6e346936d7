/*
 * tests/sim/app.h: the programs at the two ends of a flow: they write and check a pattern that is a function of its
 * position, read slowly or not at all for a while, half-close, close early, abort.
 */
#ifndef TAUT_SIM_APP_H
#define TAUT_SIM_APP_H

#include "tcp/tcp.h"
#include "watch.h"

struct net;
struct node;
struct flow;

/* How a program behaves. */
struct plan {
    uint64_t bytes;      /* it writes so many */
    uint64_t abort_at;   /* it aborts after having read or written so many, UINT64_MAX: never */
    uint64_t close_at;   /* the same with close(), perhaps with data unread */
    bool shutdown_early; /* FIN as soon as everything is written; else only after the peer's FIN (other side early) */
    uint32_t write_max, read_max;
    uint64_t think_ns; /* mean time between its calls */
    uint64_t pause_at, pause_ns; /* it sleeps once, having read or written so many */
    uint32_t eor_ppm, more_ppm;
    uint64_t burst_bytes, burst_ns; /* writes so many every so long; 0: as fast as it can */
    uint64_t mark_at;               /* where measuring begins */
    bool exact;                     /* writes and reads are as large as they may be, not drawn */

    /* options of its connection; 0 or -1 as it was */
    bool nodelay, keepalive;
    int32_t user_timeout_ms, sndbuf, window_clamp, notsent_lowat, congestion;
    uint64_t max_pacing_rate; /* 0: none */
};

struct end {
    struct flow *flow;
    struct node *node;
    int side; /* 0: client */
    struct plan plan;
    tcp_id id;
    uint64_t app_at; /* the program's next call, TIME_NEVER: it waits for an event */
    uint64_t written, read;
    uint64_t asleep_until, burst_begun;
    uint64_t last_read_at, marked, marked_at; /* marked: read when it first was mark_at or more, and when */
    uint32_t iss;
    bool connected, shut, eof, closed, paused;
    int error;
    uint64_t resume_at; /* TIME_NEVER: not suspended */
};

struct flow {
    unsigned number;
    struct end end[2];
    struct ip_tuple tuple; /* local is the client's */
    uint64_t start_at;
    bool started, simultaneous, fastopen;
    bool may_fail; /* resets and time-outs are in the plan */
    bool cookies;  /* the server keeps no half-open entries: no keepalive */
    struct watch watch;
};

/* Opens the flow's connection; its time has come. */
bool app_start(struct net *n, struct flow *f);
/* The program at `e` does something now; ignored where it does not want to yet. */
bool app_run(struct net *n, struct end *e);
/* It is to run soon, after it has thought a while. */
void app_wake(struct net *n, struct end *e);
bool app_events(struct net *n, struct node *node);
/* The connection of an id, NULL: none. */
struct end *app_end_of(struct net *n, const struct node *node, tcp_id id);

#endif
