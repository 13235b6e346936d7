/*
 * An engine that does what a test tells it: the functions of tcp/tcp.h that sock calls, with connections whose state,
 * bytes and events are set by hand. It counts what sock asked for, so that tests see the calls and not only the result.
 */
#ifndef TAUT_TEST_FAKE_TCP_H
#define TAUT_TEST_FAKE_TCP_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "sock/sock.h"
#include "tcp/tcp.h"

#define FAKE_CONNS 4096
#define FAKE_LISTENERS 64

struct fake_conn {
    bool used;
    bool orphan;
    struct ip_tuple tuple;
    uint64_t user;
    uint32_t listener;
    enum tcp_state state;
    unsigned bits;
    int error;
    char rx[256];
    size_t rx_len;
    bool fin;
    size_t space;
    bool writable;
    int32_t opt[TCP_OPT_MAX];
    uint32_t opt_calls;
    int shutdown_writes, shutdown_reads;
    uint32_t mark;
};
struct fake_listener {
    bool used;
    struct tcp_listen_args args;
    uint32_t accepted;
    int32_t opt[TCP_OPT_MAX];
};
struct tcp {
    struct fake_conn conn[FAKE_CONNS]; /* id is index + 1 */
    struct fake_listener listener[FAKE_LISTENERS]; /* number is index + 1 */
    int next_conn;
    int connect_result;
    int closes, aborts;
    struct ip_tuple busy[4]; /* tuples that tcp_tuple_in_use() says yes to; port 0: none */
    char tx[256];
    size_t tx_len;
    bool no_md5;
    int md5_result, n_md5;  /* calls that set a key: the last one's */
    tcp_id md5_conn;
    uint32_t md5_listener;
    struct tcp_md5_key md5;
};

struct fake_conn *fake_conn(struct tcp *t, tcp_id id);
/* Sets the state and an event with `bits` (and TCP_EVENT_STATE). */
void fake_event(struct tcp *t, tcp_id id, enum tcp_state state, unsigned bits, int error);
/* A connection through a listener; returns its id. */
tcp_id fake_accept(struct tcp *t, uint32_t listener, const struct ip_tuple *tuple);
void fake_data(struct tcp *t, tcp_id id, const char *text);
/* RST as the engine reports it. */
void fake_reset(struct tcp *t, tcp_id id, int error);
void fake_establish(struct tcp *t, tcp_id id);
void fake_fin(struct tcp *t, tcp_id id);

#endif
