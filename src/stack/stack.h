/*
 * stack/stack.h: one host on one link: Ethernet, ARP, IPv4, IPv6 with ND, ICMP, and TCP with its sockets above.
 *
 * The four verbs of the whole (design: input marks, output emits), all with `now` from the shell:
 *
 *     stack_input()     takes a frame read from the device
 *     stack_expire()    takes the timers whose time has come
 *     stack_output()    gives one frame to write, false when nothing is to be sent now
 *     stack_deadline()  when stack_expire() is to be called next
 *
 * A turn of the shell: any number of input/expire/sock calls; sock_next_event() and stack_next_event() until empty;
 * stack_output() until false or the batch is full; stack_commit(); writev each, stack_tx_failed() for what the device
 * refused. Pointers in a struct stack_tx stay valid until the first call that is none of these three.
 */
#ifndef TAUT_STACK_H
#define TAUT_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chunk.h"
#include "base/ipaddr.h"
#include "base/keep.h"
#include "base/log.h"
#include "sock/sock.h"
#include "tcp/tcp.h"

#define STACK_MAC_BYTES 6

/* INI section [stack] and neighbours; X(name, default, min, max, unit, scope, help) as TCP_CONFIG. */
#define STACK_CONFIG(X)                                                                                        \
    X(neigh_max, 4096, 16, 1000000, "", "new", "neighbour entries; unverified ones never push out verified ones") \
    X(neigh_reachable_ms, 30000, 100, 3600000, "ms", "now", "an answer counts as fresh for this long (RFC 4861)") \
    X(neigh_probe_ms, 1000, 10, 60000, "ms", "now", "time between ARP requests or solicitations")             \
    X(neigh_probes, 3, 1, 20, "", "now", "unanswered ones before the neighbour counts as unreachable")        \
    X(neigh_delay_ms, 5000, 1, 60000, "ms", "now", "a stale entry in use is probed after this time")          \
    X(frag_max_bytes, 4194304, 0, 1073741824, "bytes", "now", "memory for fragments waiting to be whole")     \
    X(frag_timeout_ms, 30000, 100, 120000, "ms", "now", "a datagram must be whole after this time")           \
    X(icmp_rate, 1000, 0, 1000000, "1/s", "now", "ICMP errors sent a second at most (echo replies excluded)") \
    X(ipv6_dad_transmits, 1, 0, 10, "", "new", "duplicate address detection probes")                          \
    X(ipv6_autoconf, 1, 0, 1, "", "new", "addresses and routes from router advertisements")                   \
    X(arp_announce, 2, 0, 5, "", "now", "gratuitous ARPs when an address comes up")                           \
    X(ip_ttl, 64, 1, 255, "", "now", "TTL and hop limit of what we send")

struct stack_config {
#define X(name, def, min, max, unit, scope, help) int32_t name;
    STACK_CONFIG(X)
#undef X
};
extern const struct tcp_config_row stack_config_rows[]; /* offsets into struct stack_config; ended by name NULL */
void stack_config_defaults(struct stack_config *ret);

struct stack_params {
    const struct stack_config *config; /* both stay the caller's */
    const struct tcp_config *tcp_config;
    struct chunk_pool *pool;
    const struct log_sink *log;
    struct tcp_secrets secrets;
    uint64_t now;
    uint8_t mac[STACK_MAC_BYTES];
    uint16_t mtu;
    uint16_t ifindex; /* scope of link-local addresses, > 0 */
    uint32_t max_conns, max_half_open, max_time_wait;
    uint32_t generation;
    const struct tcp_crypto *crypto; /* NULL: no TCP-MD5 */
    size_t trace_bytes; /* pool of the engine's flight recorder, 0: none */
    bool check; /* run tcp_check() after every verb */
    /* As in struct tcp_params; all NULL: nothing can be restored. */
    void *record_arena, *request_arena, *time_wait_arena;
    void *md5_arena;
    uint32_t max_md5_keys;
    struct tcp_kept *kept;
    void *keep; /* tables of stack_keep_specs() (base/keep.h), checked: caches and counters that outlive it; NULL: none */
    /*
     * It goes on for one that died: until the first commit, addresses are added that were ours all the time. One that
     * `keep` knows gets the state that it had; of another nobody is asked, and nothing waits.
     */
    bool resumed;
    uint16_t crash_port;
};
#define STACK_KEEP_TABLES (6 + TCP_KEEP_TABLES)
/* What stack_params.keep holds; returns STACK_KEEP_TABLES. */
unsigned stack_keep_specs(const struct stack_config *config, struct keep_spec *ret);
struct stack *stack_create(const struct stack_params *params);
void stack_destroy(struct stack *st);

/* What was found in stack_params.keep; damaged: entries that are forgotten. */
struct stack_keep_found {
    unsigned neighbours, addresses, routes, paths, metrics, damaged;
};
void stack_get_keep_found(const struct stack *st, struct stack_keep_found *ret);

struct tcp *stack_tcp(struct stack *st);
struct socks *stack_socks(struct stack *st);

/* ---- The link ------------------------------------------------------------------------------------------------- */

/* What the device can do with a frame that carries a virtio-net header. */
struct stack_offload {
    bool vnet_hdr;         /* frames begin with a virtio-net header of vnet_hdr_bytes (10 or 12) */
    uint8_t vnet_hdr_bytes;
    bool csum;             /* it completes partial checksums */
    bool tso4, tso6, tso_ecn;
};
void stack_set_offload(struct stack *st, const struct stack_offload *o);
void stack_set_mtu(struct stack *st, uint16_t mtu, uint64_t now);
/* Carrier or administrative state. Down: nothing is sent; up: addresses are announced and probed again. */
void stack_set_link(struct stack *st, bool up, uint64_t now);
void stack_get_link(const struct stack *st, bool *ret_up, uint16_t *ret_mtu);

/* ---- Verbs ---------------------------------------------------------------------------------------------------- */

/*
 * A frame as read: virtio-net header (if any), Ethernet header and all that follows, in slices; slice[0] holds at least
 * the first 256 bytes of the frame (or all of it). Slices with a chunk may be adopted by reference.
 */
#define STACK_RX_SLICES_MAX 8
struct stack_rx {
    struct tcp_slice slice[STACK_RX_SLICES_MAX];
    unsigned n_slices;
};
void stack_input(struct stack *st, const struct stack_rx *rx, uint64_t now);
/*
 * Around the frames of one read burst: segments of a connection that only extend each other are held back until the
 * run or the burst ends, and reach the engine as one, as those of a super-frame do (gro.c). No other verb lies between
 * the two. Without a burst each is passed on at once.
 */
void stack_burst_begin(struct stack *st);
void stack_burst_end(struct stack *st, uint64_t now);
void stack_expire(struct stack *st, uint64_t now);
uint32_t stack_commit(struct stack *st, uint64_t now);

#define STACK_TX_HEADER_MAX 256
struct stack_tx {
    uint8_t header[STACK_TX_HEADER_MAX]; /* virtio-net header, Ethernet, IP, TCP; or a whole small frame */
    unsigned header_bytes;
    struct tcp_slice slice[TCP_SLICES_MAX];
    unsigned n_slices;
    uint32_t frame_bytes; /* header_bytes and slices */
    tcp_id id;            /* whose it is, 0: nobody's */
    enum tcp_cause cause; /* meaningful if is_tcp */
    bool is_tcp;
    bool retransmission;
};
bool stack_output(struct stack *st, uint64_t now, struct stack_tx *ret);
/* The device refused a frame: as good as lost on the way. */
void stack_tx_failed(struct stack *st, const struct stack_tx *tx);
/*
 * The same because its queue is full: see tcp_tx_refused(). Nothing of that connection that was pulled later may leave:
 * tell those first, the last one before all.
 */
void stack_tx_refused(struct stack *st, const struct stack_tx *tx, uint64_t now);
uint64_t stack_deadline(const struct stack *st);

/* ---- Addresses and routes ------------------------------------------------------------------------------------- */

enum stack_addr_state { STACK_ADDR_TENTATIVE, STACK_ADDR_PREFERRED, STACK_ADDR_DEPRECATED, STACK_ADDR_DUPLICATE };
enum stack_addr_origin { STACK_ADDR_STATIC, STACK_ADDR_LINK_LOCAL, STACK_ADDR_SLAAC };
struct stack_addr {
    struct ip_addr addr;
    uint8_t prefix_bits;
    uint8_t state;  /* enum stack_addr_state */
    uint8_t origin; /* enum stack_addr_origin */
    uint64_t valid_until, preferred_until; /* TIME_NEVER: forever */
};
/* Adds or changes; IPv6 begins tentative (DAD). The link-local one makes itself. 0, -EINVAL, -ENOSPC, -EEXIST. */
int stack_addr_add(struct stack *st, const struct ip_addr *addr, unsigned prefix_bits, uint64_t now);
int stack_addr_del(struct stack *st, const struct ip_addr *addr, uint64_t now);
/* The i-th address, false behind the last. */
bool stack_addr_get(const struct stack *st, unsigned i, struct stack_addr *ret);

struct stack_route {
    struct ip_addr prefix;
    uint8_t prefix_bits;
    struct ip_addr gateway; /* family IP_NONE: on the link */
    uint16_t mtu, advmss;   /* 0: the link's */
    uint8_t initcwnd, initrwnd;
    bool from_ra;
    uint64_t valid_until;
};
int stack_route_add(struct stack *st, const struct stack_route *route, uint64_t now);
int stack_route_del(struct stack *st, const struct ip_addr *prefix, unsigned prefix_bits);
bool stack_route_get(const struct stack *st, unsigned i, struct stack_route *ret);

/* ---- Neighbours ----------------------------------------------------------------------------------------------- */

/* RFC 4861 section 7.3.2, for ARP as well. */
#define STACK_NEIGH_STATES(X) X(INCOMPLETE) X(REACHABLE) X(STALE) X(DELAY) X(PROBE) X(FAILED) X(PERMANENT)
enum stack_neigh_state {
#define X(name) STACK_NEIGH_##name,
    STACK_NEIGH_STATES(X)
#undef X
        STACK_NEIGH_MAX
};
const char *stack_neigh_state_name(enum stack_neigh_state s);
struct stack_neigh {
    struct ip_addr addr;
    uint8_t mac[STACK_MAC_BYTES]; /* zero while INCOMPLETE or FAILED */
    uint8_t state;
    bool router;
    uint64_t age_ns;      /* since last confirmed; UINT64_MAX: never */
    uint32_t waiting;     /* connections and frames that wait for it */
};
bool stack_neigh_get(const struct stack *st, unsigned i, uint64_t now, struct stack_neigh *ret);

/* ---- Ping ----------------------------------------------------------------------------------------------------- */

/* Marks an echo request with `bytes` of payload (<= 1400). `user` comes back in its answer. 0, -ENETUNREACH, -ENOSPC. */
int stack_ping(struct stack *st, const struct ip_addr *dst, uint16_t bytes, uint8_t ttl, uint64_t timeout_ns,
               uint64_t user, uint64_t now);
/* Forgets what waits with that user value. */
void stack_ping_cancel(struct stack *st, uint64_t user);

/* ---- Events --------------------------------------------------------------------------------------------------- */

enum stack_event_kind {
    STACK_EVENT_PING,     /* an echo request came to its end: reply, ICMP error (error != 0) or ETIMEDOUT */
    STACK_EVENT_ADDR,     /* an address changed its state (see addr_state; gone: addr_gone) */
    STACK_EVENT_CONFLICT, /* somebody else uses our address: mac */
    STACK_EVENT_NEIGH,    /* neigh_state changed to REACHABLE or FAILED */
    STACK_EVENT_LINK,     /* up or down, MTU */
};
struct stack_event {
    enum stack_event_kind kind;
    uint64_t user;
    struct ip_addr addr;
    uint8_t mac[STACK_MAC_BYTES];
    int error;
    uint64_t rtt_ns;
    uint16_t bytes;
    uint8_t ttl;
    uint8_t state; /* addr or neigh */
    bool gone;
    bool up;
    uint16_t mtu;
};
/* Bounded; overflow drops the oldest and is counted. TCP's events come by sock_next_event(). */
bool stack_next_event(struct stack *st, struct stack_event *ret);

/* ---- Counters ------------------------------------------------------------------------------------------------- */

/* Why a frame or packet below TCP was not used. X(NAME, "text"). */
#define STACK_DROPS(X)                                                                                         \
    X(FRAME_SHORT, "shorter than its headers")                                                                 \
    X(VNET_HEADER, "virtio-net header lies about offsets or type")                                             \
    X(NOT_FOR_US, "destination MAC is not ours")                                                               \
    X(SOURCE_MAC, "source MAC is multicast or ours")                                                           \
    X(ETHERTYPE, "neither ARP, IPv4 nor IPv6")                                                                 \
    X(LINK_DOWN, "the link is down")                                                                           \
    X(ARP_MALFORMED, "ARP with wrong sizes or types")                                                          \
    X(ARP_NOT_FOR_US, "ARP for another address")                                                               \
    X(IP_HEADER, "IP version, header length or total length")                                                  \
    X(IP_CHECKSUM, "IPv4 header checksum")                                                                     \
    X(IP_SOURCE, "source is multicast, broadcast, loopback, unspecified or ours")                              \
    X(IP_DESTINATION, "destination is no address of ours")                                                     \
    X(IP_PROTOCOL, "protocol not spoken here; answered by ICMP")                                               \
    X(IP_EXTENSION, "IPv6 extension header refused")                                                           \
    X(FRAG_MALFORMED, "fragment with a bad length or offset")                                                  \
    X(FRAG_OVERLAP, "fragments overlap, RFC 5722")                                                             \
    X(FRAG_MEMORY, "no memory for fragments")                                                                  \
    X(FRAG_TIMEOUT, "datagram did not become whole in time")                                                   \
    X(ICMP_MALFORMED, "ICMP too short or of unknown type")                                                     \
    X(ICMP_CHECKSUM, "ICMP checksum")                                                                          \
    X(ICMP_RATE, "ICMP error held back by the rate limit")                                                     \
    X(ND_INVALID, "neighbour discovery message fails RFC 4861's checks (hop limit, options, source)")          \
    X(NEIGH_TABLE_FULL, "no neighbour entry could be had")                                                     \
    X(NEIGH_UNREACHABLE, "the next hop did not answer; frame thrown away")                                     \
    X(NEIGH_QUEUE_FULL, "too many frames wait for the next hop")                                               \
    X(NO_ROUTE, "no route for a reply")                                                                        \
    X(TCP_MALFORMED, "TCP header or data offset")                                                              \
    X(TCP_CHECKSUM, "TCP checksum")                                                                            \
    X(UDP_MALFORMED, "UDP header or length")                                                                   \
    X(UDP_CHECKSUM, "UDP checksum")                                                                            \
    X(UDP_NO_PORT, "no UDP service here; answered by port unreachable")                                        \
    X(REPLY_RING_FULL, "reply intents overflowed")                                                             \
    X(EVENT_RING_FULL, "events were not taken in time")                                                        \
    X(MULTICAST, "multicast group not joined")

enum stack_drop {
#define X(name, text) STACK_DROP_##name,
    STACK_DROPS(X)
#undef X
        STACK_DROP_MAX
};
const char *stack_drop_name(enum stack_drop d);
const char *stack_drop_text(enum stack_drop d);
const uint64_t *stack_get_drops(const struct stack *st);

/* X(name, "OpenMetrics-style name", "help") */
#define STACK_COUNTERS(X)                                                                                      \
    X(rx_frames, "RxFrames", "frames received")                                                                \
    X(rx_bytes, "RxBytes", "bytes received, with Ethernet headers")                                            \
    X(tx_frames, "TxFrames", "frames sent")                                                                    \
    X(tx_bytes, "TxBytes", "bytes sent, with Ethernet headers")                                                \
    X(tx_failed, "TxFailed", "frames that the device refused")                                                 \
    X(arp_in, "ArpIn", "ARP packets received")                                                                 \
    X(arp_out, "ArpOut", "ARP packets sent")                                                                   \
    X(arp_conflicts, "ArpConflicts", "ARP packets from others with our address")                               \
    X(icmp_in, "IcmpInMsgs", "ICMP and ICMPv6 messages received")                                              \
    X(icmp_out, "IcmpOutMsgs", "ICMP and ICMPv6 messages sent")                                                \
    X(icmp_echo_in, "IcmpInEchos", "echo requests received")                                                   \
    X(icmp_echo_out, "IcmpOutEchos", "echo requests sent")                                                     \
    X(icmp_reply_in, "IcmpInEchoReps", "echo replies received")                                                \
    X(icmp_reply_out, "IcmpOutEchoReps", "echo replies sent")                                                  \
    X(icmp_errors_out, "IcmpOutErrors", "ICMP errors sent")                                                    \
    X(frag_ok, "ReasmOKs", "datagrams made whole")                                                             \
    X(frag_fails, "ReasmFails", "datagrams that did not become whole")                                         \
    X(frag_in, "ReasmReqds", "fragments received")                                                             \
    X(ip4_in, "Ip4InReceives", "IPv4 packets received")                                                        \
    X(ip6_in, "Ip6InReceives", "IPv6 packets received")                                                        \
    X(looped, "LoopedSegments", "segments to our own addresses, looped back inside")

struct stack_counters {
#define X(name, metric, help) unsigned long long name;
    STACK_COUNTERS(X)
#undef X
};
const struct stack_counters *stack_get_counters(const struct stack *st);

#endif
