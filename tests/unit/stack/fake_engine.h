/*
 * An engine that says what a test tells it and records what the stack asks of it.
 */
#ifndef TAUT_TEST_FAKE_ENGINE_H
#define TAUT_TEST_FAKE_ENGINE_H

#include "sock/sock.h"
#include "tcp/tcp.h"

#define FAKE_MAX 64
#define FAKE_REFUSED 8

struct fake_conn {
    struct ip_addr src, dst;
    struct tcp_out out[FAKE_MAX]; /* segments it will give */
    unsigned n_out, at;
    bool suspended;
    bool ready;
    int unreachable; /* errno, 0: not told */
    uint16_t path_mtu; /* as told last */
};

struct tcp {
    struct fake_conn conn[FAKE_MAX]; /* id is index + 1 */
    unsigned n_conn;
    struct tcp_out reply[FAKE_MAX];
    unsigned n_reply, reply_at;
    struct tcp_seg in[FAKE_MAX]; /* what came; payload flattened into in_data */
    struct tcp_path in_path[FAKE_MAX];
    bool in_path_ok[FAKE_MAX];
    uint8_t in_data[FAKE_MAX][70000];
    struct chunk *in_chunk[FAKE_MAX];
    unsigned n_in;
    struct tcp_icmp icmp[FAKE_MAX];
    unsigned n_icmp;
    bool icmp_taken; /* what the engine says to the next ones */
    struct tcp_out failed;
    unsigned n_failed;
    struct tcp_out refused[FAKE_REFUSED]; /* in the order told */
    unsigned n_refused;
    uint32_t gso_max;
    unsigned commits;
    struct tcp_counters counters;
    uint64_t drops[TCP_DROP_MAX];
    struct sock_net net;
    bool out_of_order; /* what it says of every segment */
};

/* Makes a connection that has one segment to send; returns its id. */
tcp_id fake_ready(struct tcp *t, const struct tcp_seg *seg);
void fake_more(struct tcp *t, tcp_id id, const struct tcp_seg *seg);

#endif
