/*
 * tcp/tcp_config.h: the one configuration table of the engine.
 *
 * X(name, default, min, max, unit, scope, help). `name` is Linux's sysctl name; the INI key in [tcp], config.get/set,
 * the packetdrill shim's sysctl and the man page all come from this row. scope: "new" takes effect for connections
 * made afterwards, "now" at once. The engine reads a const struct tcp_config; the owner may change it between verbs.
 */
#ifndef TAUT_TCP_CONFIG_H
#define TAUT_TCP_CONFIG_H

#include <stdint.h>

#define TCP_CONFIG(X)                                                                                          \
    X(tcp_timestamps, 1, 0, 2, "", "new", "timestamps: 0 off, 1 with random offset, 2 without offset")         \
    X(tcp_window_scaling, 1, 0, 1, "", "new", "window scaling (RFC 7323)")                                     \
    X(tcp_sack, 1, 0, 1, "", "new", "selective acknowledgements (RFC 2018)")                                   \
    X(tcp_dsack, 1, 0, 1, "", "now", "report duplicates by D-SACK (RFC 2883)")                                 \
    X(tcp_syn_retries, 6, 1, 127, "", "now", "SYNs sent again before an active open fails")                    \
    X(tcp_synack_retries, 5, 0, 255, "", "now", "SYN-ACKs sent again before a half-open entry goes")           \
    X(tcp_retries1, 3, 0, 255, "", "now", "timeouts before the route is suspected")                            \
    X(tcp_retries2, 15, 0, 255, "", "now", "timeouts before an established connection is given up")            \
    X(tcp_orphan_retries, 0, 0, 255, "", "now", "timeouts before an orphan is given up; 0 means 8")            \
    X(tcp_max_orphans, 65536, 0, 16777216, "", "now", "orphans kept at once; more are reset")                  \
    X(tcp_max_tw_buckets, 65536, 0, 16777216, "", "now", "TIME-WAIT entries kept at once")                     \
    X(tcp_timewait_len, 60, 1, 3600, "s", "now", "length of TIME-WAIT")                                        \
    X(tcp_tw_reuse, 1, 0, 1, "", "now", "active opens may reuse a TIME-WAIT pair after 1 s (RFC 6191)")        \
    X(tcp_rfc1337, 0, 0, 1, "", "now", "ignore RSTs in TIME-WAIT (RFC 1337)")                                  \
    X(tcp_fin_timeout, 60, 1, 7200, "s", "now", "orphans stay in FIN-WAIT-2 this long")                        \
    X(tcp_keepalive_time, 7200, 1, 2147483, "s", "now", "idle time before the first keepalive probe")          \
    X(tcp_keepalive_intvl, 75, 1, 32767, "s", "now", "time between keepalive probes")                          \
    X(tcp_keepalive_probes, 9, 1, 127, "", "now", "unanswered probes before a connection is given up")         \
    X(tcp_max_syn_backlog, 4096, 1, 16777216, "", "now", "half-open entries of one listener")                  \
    X(somaxconn, 4096, 1, 16777216, "", "new", "largest accept backlog of a listener")                         \
    X(tcp_syncookies, 1, 0, 2, "", "now", "SYN cookies: 0 never, 1 while the SYN queue is full, 2 always")     \
    X(tcp_fastopen, 1, 0, 2147483647, "", "now", "Fast Open bits: 1 client, 2 server, 4 client without cookie, " \
      "512 server needs no cookie, 1024 all listeners")                                                        \
    X(tcp_fastopen_blackhole_timeout_sec, 0, 0, 2147483647, "s", "now", "pause of Fast Open after a black hole; 0: none") \
    X(tcp_no_metrics_save, 0, 0, 1, "", "now", "don't remember what closed connections learned")               \
    X(tcp_no_ssthresh_metrics_save, 1, 0, 1, "", "now", "don't remember the slow-start threshold")             \
    X(tcp_abort_on_overflow, 0, 0, 1, "", "now", "answer an overflowing accept queue with RST")                \
    X(tcp_rmem_min, 4096, 1, 2147483647, "bytes", "new", "receive buffer: smallest")                           \
    X(tcp_rmem_default, 131072, 1, 2147483647, "bytes", "new", "receive buffer: at the start")                 \
    X(tcp_rmem_max, 6291456, 1, 2147483647, "bytes", "now", "receive buffer: autotuning's limit")              \
    X(tcp_wmem_min, 4096, 1, 2147483647, "bytes", "new", "send buffer: smallest")                              \
    X(tcp_wmem_default, 87380, 1, 2147483647, "bytes", "new", "send buffer: at the start")                     \
    X(tcp_wmem_max, 4194304, 1, 2147483647, "bytes", "now", "send buffer: autotuning's limit")                 \
    X(tcp_notsent_lowat, -1, -1, 2147483647, "bytes", "now", "a send takes no more while so much is unsent; -1: no limit") \
    X(tcp_adv_win_scale, 1, -31, 31, "", "new", "share of the receive buffer kept for overhead: 1/2^n")        \
    X(tcp_moderate_rcvbuf, 1, 0, 1, "", "now", "receive-buffer autotuning")                                    \
    X(tcp_challenge_ack_limit, 1000, 1, 2147483647, "1/s", "now", "challenge ACKs a second, all connections")  \
    X(tcp_invalid_ratelimit, 500, 0, 60000, "ms", "now", "one ACK per connection in this time to bad segments") \
    X(tcp_delack_min, 40, 1, 1000, "ms", "now", "shortest delayed-ACK timeout (ATO)")                          \
    X(tcp_delack_max, 200, 1, 1000, "ms", "now", "longest delayed-ACK timeout")                                \
    X(tcp_rto_initial, 1000, 1, 120000, "ms", "now", "RTO before the first RTT sample")                        \
    X(tcp_rto_min, 200, 1, 120000, "ms", "now", "smallest RTO variance term")                                  \
    X(tcp_rto_max, 120000, 1000, 120000, "ms", "now", "largest RTO")                                           \
    X(tcp_reordering, 3, 1, 300, "", "new", "duplicate ACKs that mean loss, at first")                         \
    X(tcp_max_reordering, 300, 1, 1000, "", "now", "largest reordering degree learned")                        \
    X(tcp_recovery, 1, 0, TCP_RECOVERY_BITS, "", "now", "bits: 1 RACK decides what is lost, 2 its window stays as it is, " \
      "4 its window is kept when many segments are out of order")                                              \
    X(tcp_early_retrans, 3, 0, 4, "", "now", "tail loss probes: 3 or 4 on, less off")                          \
    X(tcp_frto, 2, 0, 2, "", "now", "F-RTO (RFC 5682): 0 off")                                                 \
    X(tcp_initcwnd, 10, 1, 1000, "segments", "new", "initial congestion window (RFC 6928)")                    \
    X(tcp_congestion_control, 1, 0, 3, "", "new", "congestion control of new connections: reno, cubic, dctcp or bbr") \
    X(tcp_hystart, 1, 0, 2, "", "now", "cubic leaves slow start early: 0 never, 1 as Linux, 2 HyStart++ (RFC 9406)") \
    X(tcp_abe, 0, 0, 1, "", "now", "reno and cubic give way less to ECN than to loss (RFC 8511)")              \
    X(tcp_dctcp_alpha_on_loss, 0, 0, 1, "", "now", "dctcp: a timeout makes alpha 1")                           \
    X(tcp_bbr_noise, 1, 0, 1, "", "now", "bbr: one loss and 2 % a round are noise, not congestion")           \
    X(tcp_ecn, 2, 0, 2, "", "new", "ECN (RFC 3168): 0 off, 1 asked for and granted, 2 granted where asked for") \
    X(tcp_ecn_fallback, 1, 0, 1, "", "now", "SYNs sent again don't ask for ECN")                               \
    X(tcp_slow_start_after_idle, 1, 0, 1, "", "now", "shrink cwnd after an idle RTO (RFC 2861)")               \
    X(tcp_pacing, 0, 0, 1, "", "new", "pace every connection, as Linux's fq does; 0: where bbr or max_pacing_rate ask") \
    X(tcp_pacing_ss_ratio, 200, 0, 1000, "%", "now", "pacing rate in slow start, of cwnd per round trip")      \
    X(tcp_pacing_ca_ratio, 120, 0, 1000, "%", "now", "pacing rate in congestion avoidance")                    \
    X(tcp_tso_rtt_log, 9, 0, 31, "", "now", "larger super-frames where the round trip is below 2^n us")        \
    X(tcp_min_tso_segs, 2, 1, 64, "segments", "now", "smallest super-frame aimed at")                          \
    X(tcp_tso_win_divisor, 3, 0, 255, "", "now", "share of the window one super-frame may take")                \
    X(tcp_mtu_probing, 0, 0, 2, "", "now", "path-MTU probes (RFC 4821): 0 never, 1 after a black hole, 2 always") \
    X(tcp_base_mss, 1024, 0, 65535, "bytes", "now", "path-MTU search begins with segments of this size")       \
    X(tcp_mtu_probe_floor, 48, 48, 65535, "bytes", "now", "black holes make segments no smaller than this")    \
    X(tcp_min_snd_mss, 48, 48, 65535, "bytes", "now", "no path makes segments smaller than this, with options") \
    X(tcp_probe_threshold, 8, 0, 65535, "bytes", "now", "path-MTU search ends when it is known so exactly")    \
    X(tcp_probe_interval, 600, 0, 4294967, "s", "now", "path-MTU search begins anew after this time")          \
    X(tcp_user_timeout, 0, 0, 2147483647, "ms", "new", "give up after this long unacknowledged; 0: retries2")  \
    X(tcp_stdurg, 0, 0, 1, "", "now", "urgent pointer as RFC 9293 (1) or as BSD (0)")                          \
    X(tcp_park_after, 1000, 0, 2147483, "ms", "now", "idle connections give their working memory back after this; 0: never") \
    X(tcp_park_warm, 512, 0, 16777216, "", "now", "more connections than this with working memory: idle for 5 ms is enough") \
    X(trace_level, 2, 0, 2, "", "now", "flight recorder: 0 off, 1 segments, states and calls, 2 also ACK results, timers " \
      "and limits")                                                                                            \
    X(trace_ring, 262144, 8192, 16777216, "bytes", "now", "flight recorder: most that one connection keeps")   \
    X(trace_boxes, 64, 0, 65536, "", "now", "flight recorder: connections kept that are gone")                 \
    X(trace_keep, 1, 0, 2, "", "now", "of these: 0 none, 1 those that ended badly, 2 all")                     \
    X(ip_local_port_low, 32768, 1, 65535, "", "now", "first ephemeral port")                                   \
    X(ip_local_port_high, 60999, 1, 65535, "", "now", "last ephemeral port")

#define TCP_RECOVERY_BITS 7

struct tcp_config {
#define X(name, def, min, max, unit, scope, help) int32_t name;
    TCP_CONFIG(X)
#undef X
};

struct tcp_config_row {
    const char *name;
    int32_t def, min, max;
    const char *unit, *scope, *help;
    uint32_t offset; /* of the member in struct tcp_config */
};

/* The rows in table order, ended by one with name NULL. */
extern const struct tcp_config_row tcp_config_rows[];

void tcp_config_defaults(struct tcp_config *ret);
/* The row of a name, or NULL. */
const struct tcp_config_row *tcp_config_find(const char *name);
int32_t tcp_config_get(const struct tcp_config *c, const struct tcp_config_row *row);
/* Values of tcp_congestion_control have names; NULL: this row's haven't, or there is no such value. */
const char *tcp_config_name(const struct tcp_config_row *row, int32_t value);
/* The value of that name, -1: none. */
int32_t tcp_config_named(const struct tcp_config_row *row, const char *name);
/* 0, or -ERANGE with c unchanged. */
int tcp_config_set(struct tcp_config *c, const struct tcp_config_row *row, int64_t value);

#endif
