/*
 * tests/sim/net.h: any number of engines, joined by routes over links, in virtual time.
 *
 *     net_create()  →  net_link(), net_node(), net_route(), net_flow()  →  net_run()  →  net_verdict()  →  net_free()
 *
 * A node is one engine (tcp/tcp.h) with its chunk pool. A route from a node to another is a list of links, so two
 * directions share nothing unless they are told to, and several routes may share one bottleneck. A flow is one
 * connection with a program at each end (app.h). Everything is drawn from one seed, the event queue is a heap ordered
 * by (time, order of insertion): the same seed gives the same trace.
 *
 * After every step the invariants of watch.h are checked.
 */
#ifndef TAUT_SIM_NET_H
#define TAUT_SIM_NET_H

#include "app.h"
#include "base/rng.h"
#include "link.h"
#include "tcp/tcp.h"
#include "watch.h"

#define NET_NODES_MAX 18u
#define NET_LINKS_MAX 40u
#define NET_HOPS_MAX  4u
#define NET_FLOWS_MAX 8u

#define NET_CLIENT_PORT 40000u /* + number of the flow */
#define NET_SERVER_PORT 80u
#define NET_SIMULTANEOUS_PORT 1000u /* + number of the flow: both sides connect */

struct packet;

struct node {
    struct tcp *t;
    struct tcp_config cfg;
    struct chunk_pool *pool;
    void *arena;
    struct ip_addr addr;
    struct tcp_path path;
    uint32_t listener, gso_max, generation, fastopen_queue, listen_rcvbuf;
    bool whole; /* super-frames leave uncut */
    bool dirty; /* something was put in since its last turn */
    uint64_t deadline;
    uint32_t idle_expiries; /* in a row, and nothing came of it */
};

struct route {
    uint8_t n, link[NET_HOPS_MAX];
};

enum event_kind { EVENT_ARRIVAL, EVENT_LINK, EVENT_APP, EVENT_RESUME, EVENT_ICMP };

struct event {
    uint64_t at, order;
    enum event_kind kind;
    void *what;
};

struct net {
    uint64_t seed, now, begun, order;
    struct rng rng;
    struct event *heap;
    uint32_t n_events, cap_events;
    struct packet *spare[2]; /* small, large */
    struct node node[NET_NODES_MAX];
    struct link link[NET_LINKS_MAX];
    bool link_waits[NET_LINKS_MAX]; /* its event is in the heap */
    struct route route[NET_NODES_MAX][NET_NODES_MAX];
    struct flow flow[NET_FLOWS_MAX];
    unsigned n_nodes, n_links, n_flows;
    uint32_t suspend_ppm, refuse_ppm, restart_ppm, flip_ppm; /* flip: a bit of an option, past the checksum */
    uint64_t until;   /* virtual time at which it just stops */
    uint64_t limit;   /* or fails */
    bool verbose, check, cut_short;
    uint64_t hash, packets, lost, steps, restarts, flipped;
    uint64_t longest[TCP_LIMIT_MAX]; /* stall by its name */
    char failure[900];
};

struct net *net_create(uint64_t seed, bool check);
void net_free(struct net *n);
unsigned net_link(struct net *n, const struct link_params *p);
/* Its configuration is copied; the engine is made by net_start(). */
struct node *net_node(struct net *n, const struct tcp_config *cfg, uint16_t mtu, bool v6);
void net_route(struct net *n, const struct node *from, const struct node *to, unsigned hops, const uint8_t *links);
struct flow *net_flow(struct net *n, struct node *client, struct node *server);

/* Makes the engines and runs until every flow has ended and nothing is left, or until n->until. */
bool net_run(struct net *n);
/* Every byte read, nothing leaked. */
bool net_verdict(struct net *n);

bool net_fail(struct net *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void net_note(const struct net *n, const struct node *node, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool net_chance(struct net *n, uint32_t ppm);
uint64_t net_between(struct net *n, uint64_t low, uint64_t high);
void net_event(struct net *n, uint64_t at, enum event_kind kind, void *what);
bool net_check(struct net *n, struct node *node, const char *verb);
unsigned net_node_index(const struct net *n, const struct node *node);
/* The flow of a segment, by its ports, and which of its ends sent it; NULL: none. */
struct flow *net_flow_of(struct net *n, const struct tcp_seg *seg, int *ret_from);
/* A segment of that flow is gone for good. */
void net_hash(struct net *n, uint64_t v);

/* restart.c: ends the node's engine, goes on with the records of its connections in another one. */
bool net_restart(struct net *n, struct node *node);
/* The node's pool and engine, at its birth and after a restart. */
bool net_engine(struct net *n, struct node *node);

#endif
