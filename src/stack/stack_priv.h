/*
 * stack/stack_priv.h: what the files of this room share. Nobody else includes it, except tests/unit/stack.
 *
 * Ownership in one place: a struct stack owns its engine, sockets, neighbour entries, fragments, pings and
 * intents. Files are rooms of a house: each has its own part of struct stack and is the only one to write it;
 * others call.
 *
 *     link.c    frames in: virtio-net header, Ethernet          ipv4.c, ipv6.c   packets in
 *     arp.c     ARP in and out                                  nd.c             neighbour discovery, SLAAC
 *     neigh.c   neighbour cache of both families                addr.c           addresses, DAD, conflicts
 *     mld.c     group reports                                   route.c          routes, source selection
 *     frag.c    reassembly                                      path.c           path-MTU cache
 *     icmp.c    echo, errors both ways, ping                    udp.c            refuses
 *     intent.c  what is owed to the link                        output.c         the only maker of frames
 *     tcp_in.c  segments to the engine                          loop.c           segments to ourselves
 *     kept.c    what outlives it: caches, counters
 */
#ifndef TAUT_STACK_PRIV_H
#define TAUT_STACK_PRIV_H

#include "base/list.h"
#include "base/rng.h"
#include "base/siphash.h"
#include "base/wheel.h"
#include "stack/stack.h"
#include "tcp/tcp_trace.h"
#include "wire/eth.h"
#include "wire/gso.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/mld.h"
#include "wire/nd.h"

#define ADDR_MAX       32
#define GROUP_MAX      (2 * ADDR_MAX) /* those being left, too */
#define ROUTE_MAX      128
#define ROUTE_RA_MAX   32 /* of them from router advertisements: a flood must not push out configured ones */
#define SLAAC_MAX      16 /* addresses from router advertisements, for the same reason */
#define EVENTS_MAX     256
#define INTENTS_MAX    512 /* replies owed at once */
#define INTENT_BYTES   (2u << 20)
#define INTENT_BYTES_HELD (INTENT_BYTES / 8) /* TCP replies wait for next hops up to this */
#define NEIGH_HELD_MAX 3 /* replies that wait for one next hop (RFC 4861 section 7.2.2: at least one) */
#define PING_MAX       256
#define PATH_SETS      256
#define PATH_WAYS      4
#define FRAG_BUCKETS   256
#define LOOP_MAX       64
#define IP_ID_SLOTS    256
#define PACKET_MAX     (65535 + 40) /* the longest IPv6 packet */


enum st_timer_kind {
    ST_TIMER_NEIGH,
    ST_TIMER_ADDR,
    ST_TIMER_ROUTE,
    ST_TIMER_GROUP,
    ST_TIMER_MLD_QUERY,
    ST_TIMER_RS,
    ST_TIMER_FRAG,
    ST_TIMER_PING
};

struct st_timer {
    struct wheel_timer wheel;
    uint8_t kind; /* enum st_timer_kind */
};

/* ---- What is owed to the link ------------------------------------------------------------------------- */

enum intent_kind {
    INTENT_ARP,    /* arp, to mac */
    INTENT_IP,     /* an upper-layer message in data[]; becomes one packet, or fragments */
    INTENT_PACKET, /* a whole IPv6 packet in data[] */
    INTENT_TCP,    /* a struct tcp_out in data[], without slices, whose next hop was unresolved */
    INTENT_CUT     /* a struct tcp_out in data[], a super-frame that is cut here; holds its chunks */
};

/*
 * A reply or request that belongs to no connection: what is to be said, not the frame. Next hop, headers and
 * fragments are made when it leaves. It lies in exactly one list: st->intents, a neighbour's held, or
 * st->spent; or it is st->cut.super.
 */
struct intent {
    struct list_node link;
    uint8_t kind;  /* enum intent_kind */
    bool direct;   /* mac is known, no look-up */
    uint8_t proto; /* enum ip_proto */
    uint8_t ttl;
    uint8_t tos;
    bool is_ping;
    uint16_t ping_seq;
    uint16_t ip_id;   /* of its IPv4 fragments */
    uint32_t frag_id; /* of its IPv6 fragments */
    uint32_t offset;  /* bytes of data that left already, in fragments */
    uint32_t bytes;
    struct eth_addr mac;
    struct ip_addr src, dst;
    struct arp_packet arp;
    _Alignas(16) uint8_t data[];
};

/* A new one with room for `bytes` of data, or NULL: no room in the ring (counted) or no memory. */
struct intent *st_intent_new(struct stack *st, enum intent_kind kind, size_t bytes);
/* Owes it: it leaves in order. */
void st_intent_add(struct stack *st, struct intent *in);
/* Gives up an intent that is in no list. error: errno > 0 for a ping's event. */
void st_intent_drop(struct stack *st, struct intent *in, enum stack_drop why, int error, uint64_t now);
/* It has left: its bytes stay until st_release_spent(). */
void st_intent_spent(struct stack *st, struct intent *in);
void st_release_spent(struct stack *st);
void st_intents_flush(struct stack *st, enum stack_drop why, uint64_t now);

/* ---- What outlives it (kept.c) ------------------------------------------------------------------------ */

/* Entries of st->keep's tables: X-macros of F(type, name), from which their layouts' identities come. */
#define NEIGH_ENTRY(F)                                                                                         \
    F(struct ip_addr, addr) F(struct eth_addr, mac) F(uint8_t, state) F(uint8_t, router) F(uint8_t, verified)  \
    F(uint64_t, confirmed_at) F(uint64_t, reachable_ns)
#define ADDR_ENTRY(F)                                                                                          \
    F(struct ip_addr, addr) F(uint8_t, prefix_bits) F(uint8_t, state) F(uint8_t, origin)                       \
    F(uint64_t, valid_until) F(uint64_t, preferred_until)
#define ROUTE_ENTRY(F)                                                                                         \
    F(struct ip_addr, prefix) F(struct ip_addr, gateway) F(uint8_t, prefix_bits) F(int8_t, preference)         \
    F(uint16_t, mtu) F(uint16_t, advmss) F(uint8_t, initcwnd) F(uint8_t, initrwnd) F(uint64_t, valid_until)
#define PATH_ENTRY(F) F(struct ip_addr, dst) F(uint16_t, mtu) F(uint64_t, until)
#define LINK_ENTRY(F)                                                                                          \
    F(uint8_t, up) F(uint8_t, hop_limit6) F(uint8_t, rs_left) F(uint16_t, mtu) F(uint16_t, mtu6)               \
    F(uint32_t, reachable_ms) F(uint32_t, retrans_ms)

struct neigh_entry {
    NEIGH_ENTRY(KEEP_MEMBER)
};
struct addr_entry {
    ADDR_ENTRY(KEEP_MEMBER)
};
struct route_entry {
    ROUTE_ENTRY(KEEP_MEMBER)
};
struct path_kept {
    PATH_ENTRY(KEEP_MEMBER)
};
struct link_entry {
    LINK_ENTRY(KEEP_MEMBER)
};

/* An address that was ours, until the first commit. */
struct addr_was {
    uint32_t place; /* 0: none */
    struct addr_entry e;
};

struct st_keep {
    struct keep neigh, addr, route, path, link;
    struct keep_counters counters;
    struct link_entry link_was; /* as published */
    uint32_t link_place;
    bool resumed;
    struct addr_was was[ADDR_MAX];
    struct stack_keep_found found;
};

int st_keep_init(struct stack *st, void *memory);
/* Takes over what is known; behind all else of stack_create(). */
void st_keep_load(struct stack *st, bool resumed, uint64_t now);
void st_keep_commit(struct stack *st);
void st_keep_free(struct stack *st);
/*
 * Is this address one that was ours before a crash? NULL: not as far as is known. Its place goes to the caller. Link-local
 * and configured addresses ask when they are made.
 */
const struct addr_entry *st_keep_was_ours(struct stack *st, const struct ip_addr *addr, uint32_t *ret_place);

/* ---- Neighbours --------------------------------------------------------------------------------------- */

enum neigh_class {
    NEIGH_DISPOSABLE, /* failed, or heard of but never confirmed */
    NEIGH_WANTED,     /* being resolved because we have something to send */
    NEIGH_VERIFIED,   /* answered us at some time */
    NEIGH_CLASSES
};

struct neigh {
    struct list_node hash;
    struct list_node lru; /* in st->neigh.lru[class], most recently used last */
    struct st_timer timer;
    struct ip_addr addr;
    struct eth_addr mac;
    uint8_t state;  /* enum stack_neigh_state */
    uint8_t class;  /* enum neigh_class */
    uint8_t probes; /* sent and unanswered */
    uint8_t n_held;
    bool router;
    bool verified;
    uint32_t kept;         /* place in st->keep.neigh, 0: none */
    uint64_t confirmed_at; /* TIME_NEVER: never */
    uint64_t reachable_ns; /* the randomised ReachableTime of the last confirmation */
    uint64_t used_at;
    uint64_t retry_at;     /* FAILED: not before */
    struct list_node held; /* struct intent */
    tcp_id *waiter;        /* connections that wait */
    uint32_t n_waiters, waiter_room;
};

struct neighs {
    struct list_node *bucket;
    uint32_t mask;
    uint32_t n, max;
    uint32_t unsure; /* entries in DELAY or PROBE: those that a hint of reachability helps */
    uint32_t reachable_ms, retrans_ms; /* from router advertisements, 0: the configuration's */
    struct list_node lru[NEIGH_CLASSES];
};

int st_neigh_init(struct stack *st);
void st_neigh_free(struct stack *st);
struct neigh *st_neigh_find(const struct stack *st, const struct ip_addr *addr);
enum neigh_use { NEIGH_USE_OK, NEIGH_USE_WAIT, NEIGH_USE_FAILED, NEIGH_USE_FULL };
/*
 * Something is to be sent to `addr` (output only): begins resolution, or the delay of a stale entry. *ret is
 * set but for FULL.
 */
enum neigh_use st_neigh_use(struct stack *st, const struct ip_addr *addr, uint64_t now, struct neigh **ret);
void st_neigh_hold(struct stack *st, struct neigh *n, struct intent *in, uint64_t now);
/* False: no memory. */
bool st_neigh_wait(struct stack *st, struct neigh *n, tcp_id id);
/* Somebody named itself as sender: ARP, or a source link-layer address option. Makes a STALE entry if none is
 * there. */
struct neigh *st_neigh_heard(struct stack *st, const struct ip_addr *addr, const struct eth_addr *mac,
                             uint64_t now);
/* An answer. mac may be NULL (no option). RFC 4861 section 7.2.5. */
void st_neigh_answered(struct stack *st, const struct ip_addr *addr, const struct eth_addr *mac,
                       bool solicited, bool override, uint64_t now);
/* TCP made progress with `peer`: its next hop is alive (RFC 4861 section 7.3.1). */
void st_neigh_progress(struct stack *st, const struct ip_addr *peer, uint64_t now);
void st_neigh_expired(struct stack *st, struct neigh *n, uint64_t now);
/* n->router was changed. */
void st_neigh_changed(struct stack *st, struct neigh *n);
/* As a predecessor knew it: usable at once, asked again when it gets old. False: no room. */
bool st_neigh_restore(struct stack *st, uint32_t place, const struct neigh_entry *e, uint64_t now);
/* The link went down: nothing learnt is certain any more. */
void st_neigh_link_down(struct stack *st, uint64_t now);

/* ---- Addresses and groups ----------------------------------------------------------------------------- */

struct st_addr {
    bool used;
    uint32_t kept; /* place in st->keep.addr */
    struct stack_addr pub;
    struct st_timer timer;
    uint8_t dad_left;      /* probes still to send; after the last one a pause */
    uint8_t announce_left; /* gratuitous ARPs, or unsolicited advertisements */
    uint64_t dad_at, announce_at;
    uint64_t defended_at; /* TIME_NEVER: never (RFC 5227 section 2.4) */
};

struct st_addr *st_addr_find(const struct stack *st, const struct ip_addr *addr);
/* An address that may be used: preferred or deprecated. */
bool st_addr_is_ours(const struct stack *st, const struct ip_addr *addr);
/* 255.255.255.255, or the broadcast address of one of our prefixes. */
bool st_addr_is_broadcast(const struct stack *st, const struct ip_addr *addr);
struct st_addr *st_addr_new(struct stack *st, const struct ip_addr *addr, unsigned bits,
                            enum stack_addr_origin origin, uint64_t now);
void st_addr_remove(struct stack *st, struct st_addr *a, uint64_t now);
/* Arms its timer again after its lifetimes changed. */
void st_addr_arm(struct stack *st, struct st_addr *a);
void st_addr_make_link_local(struct stack *st, uint64_t now);
void st_addr_expired(struct stack *st, struct st_addr *a, uint64_t now);
/* Somebody else (mac) uses this address of ours. */
void st_addr_conflict(struct stack *st, struct st_addr *a, const struct eth_addr *mac, uint64_t now);
void st_addr_link_up(struct stack *st, uint64_t now);
bool st_addr_link_local(const struct stack *st, struct ip_addr *ret);

struct st_group {
    bool used;
    bool leaving;
    bool asked;           /* a query waits for its answer */
    uint8_t reports_left; /* unsolicited ones still to be sent */
    uint32_t refs;
    struct ip_addr addr;
    struct st_timer timer;
};

void st_group_join(struct stack *st, const struct ip_addr *group, uint64_t now);
void st_group_leave(struct stack *st, const struct ip_addr *group, uint64_t now);
bool st_group_joined(const struct stack *st, const struct ip_addr *group);
/* Reports every group again: the link came up, or the source address became valid (RFC 3590). */
void st_groups_report(struct stack *st, uint64_t now);
void st_group_expired(struct stack *st, struct st_group *g, uint64_t now);
void st_mld_query_expired(struct stack *st, uint64_t now);

/* ---- Routes ------------------------------------------------------------------------------------------- */

struct st_route {
    bool used;
    uint32_t kept; /* place in st->keep.route */
    struct stack_route pub;
    int8_t preference; /* RFC 4191 */
    struct st_timer timer;
};

/* The way to a destination. */
struct st_hop {
    struct ip_addr next;
    uint16_t mtu, advmss;
    uint8_t initcwnd, initrwnd;
};
/* Unicast and multicast; false: no way. Path MTU is not in it. */
bool st_route_lookup(const struct stack *st, const struct ip_addr *dst, struct st_hop *ret);
/* RFC 6724 section 5; for IPv4 the address whose prefix holds the next hop. False: none. */
bool st_source_for(const struct stack *st, const struct ip_addr *dst, const struct ip_addr *next,
                   struct ip_addr *ret);
void st_route_expired(struct stack *st, struct st_route *r, uint64_t now);
bool st_route_restore(struct stack *st, uint32_t place, const struct route_entry *e, uint64_t now);
/* From a router advertisement; lifetime 0 removes. */
void st_route_learn(struct stack *st, const struct stack_route *route, int8_t preference, uint64_t now);
/* The neighbour is no router any more. */
void st_route_forget_router(struct stack *st, const struct ip_addr *gateway);
int st_net_route(void *ctx, const struct ip_addr *dst, struct ip_addr *inout_src, struct tcp_path *ret);
bool st_net_is_local(void *ctx, const struct ip_addr *addr);
uint16_t st_link_mtu(const struct stack *st, uint8_t family);

struct path_entry {
    uint32_t kept; /* place in st->keep.path */
    struct ip_addr dst;
    uint16_t mtu;
    uint64_t until;
};
bool st_path_restore(struct stack *st, uint32_t place, const struct path_kept *e, uint64_t now);
/* The smaller of `mtu` and what the path is known to carry. */
uint16_t st_path_mtu(const struct stack *st, const struct ip_addr *dst, uint16_t mtu, uint64_t now);
void st_path_learn(struct stack *st, const struct ip_addr *dst, uint16_t mtu, uint64_t now);
void st_path_fill(const struct stack *st, const struct ip_addr *dst, const struct st_hop *hop,
                  struct tcp_path *ret);

/* ---- A packet on its way in --------------------------------------------------------------------------- */

struct packet {
    const uint8_t *p;          /* the IP header */
    size_t linear;             /* bytes that lie at p */
    size_t bytes;              /* of the packet, with what may be padding behind it */
    const struct stack_rx *rx; /* where bytes behind `linear` are; NULL: everything lies at p */
    size_t rx_offset;          /* of p in rx */
    bool link_group;           /* the frame went to a group or broadcast MAC */
    bool csum_partial;         /* NEEDS_CSUM: start and field are relative to p */
    bool csum_valid;           /* the device vouches */
    bool whole;                /* made of fragments */
    size_t csum_start;
    uint16_t csum_offset;
    uint8_t gso; /* enum vnet_gso */
    uint16_t gso_size;
    struct eth_addr src_mac;
};

/* What both IP versions tell the layers above. */
struct upper {
    struct ip_addr src, dst;
    uint8_t proto, tos, ecn, ttl;
    bool multicast; /* destination is a group or broadcast */
    bool router_alert;
    size_t at;      /* of the upper-layer header, from pk->p */
    size_t end;     /* of the packet, without padding */
    size_t next_at; /* IPv6: the byte that named proto */
};

void st_packet_linearize(struct stack *st, struct packet *pk);
/* NEEDS_CSUM for a protocol whose field lies at `field` of its header: makes the sum whole. False: the header
 * lied. */
bool st_packet_complete_csum(struct stack *st, struct packet *pk, const struct upper *u, uint16_t field);

void st_arp_input(struct stack *st, const uint8_t *bytes, size_t n, uint64_t now);
void st_ipv4_input(struct stack *st, struct packet *pk, uint64_t now);
void st_ipv6_input(struct stack *st, struct packet *pk, uint64_t now);
void st_icmp_input(struct stack *st, struct packet *pk, const struct upper *u, uint64_t now);
void st_udp_input(struct stack *st, struct packet *pk, const struct upper *u, uint64_t now);
void st_tcp_input(struct stack *st, struct packet *pk, const struct upper *u, uint64_t now);
void st_to_engine(struct stack *st, const struct tcp_seg *seg, uint64_t now);
/* A run held back (gro.c) goes to the engine. */
void st_run_pass(struct stack *st, uint64_t now);
/* In a burst: true if the segment was taken into a run; else what was held has gone before it. */
bool st_run_takes(struct stack *st, const struct tcp_seg *s, size_t header_bytes, uint64_t now);
void st_nd_input(struct stack *st, const struct packet *pk, const struct upper *u, uint64_t now);
void st_mld_input(struct stack *st, const struct packet *pk, const struct upper *u, uint64_t now);

void st_arp_owe(struct stack *st, const struct arp_packet *arp, const struct eth_addr *to);
void st_nd_owe_ns(struct stack *st, const struct ip_addr *src, const struct ip_addr *target,
                  const struct eth_addr *unicast_to);
void st_nd_owe_na(struct stack *st, const struct ip_addr *target, const struct ip_addr *dst,
                  const struct eth_addr *mac, bool solicited);
/* Begins to ask for routers, if nothing forbids it. */
void st_rs_start(struct stack *st, uint64_t now);
void st_rs_expired(struct stack *st, uint64_t now);

/* ---- Fragments ---------------------------------------------------------------------------------------- */

struct frag_key {
    struct ip_addr src, dst;
    uint32_t id;
    uint32_t proto; /* IPv4 only (RFC 791); 0 for IPv6 */
};
struct frag_info {
    struct frag_key key;
    uint32_t offset;
    bool more;
    uint8_t ecn;
    size_t data_at;      /* where the fragment's data begin in the packet */
    size_t unfrag_bytes; /* length of the headers that stay */
    size_t next_at;      /* IPv6: where the byte is that named the fragment header */
    uint8_t next;        /* IPv6: what follows it */
};
struct frag_queue;
struct frag_bucket {
    struct list_node queues;
    size_t bytes;
    uint32_t n;
};
/* Takes a fragment [pk->p, pk->p + end). True: the datagram is whole, ret describes it (in st->whole). */
bool st_frag_input(struct stack *st, const struct packet *pk, size_t end, const struct frag_info *info,
                   uint64_t now, struct packet *ret);
void st_frag_expired(struct stack *st, struct st_timer *timer, uint64_t now);
void st_frag_free(struct stack *st);
size_t st_frag_bytes(const struct stack *st);

/* ---- ICMP --------------------------------------------------------------------------------------------- */

/* What a datagram that is refused was; `packet` begins with its IP header. */
struct refused {
    struct ip_addr src, dst;
    uint8_t proto;
    bool multicast;    /* destination, or the frame's */
    uint8_t icmp_type; /* where proto is ICMP or ICMPv6 */
    const uint8_t *packet;
    size_t bytes;
};
void st_icmp_error(struct stack *st, const struct refused *r, uint8_t type, uint8_t code, uint32_t info,
                   uint64_t now);
/* The same for a packet on its way in. */
void st_icmp_refuse(struct stack *st, struct packet *pk, const struct upper *u, uint8_t type, uint8_t code,
                    uint32_t info, uint64_t now);

struct st_ping {
    bool used;
    uint64_t user;
    struct ip_addr dst;
    uint16_t seq;
    uint16_t bytes;
    uint64_t sent_at;
    struct st_timer timer;
};
void st_ping_sent(struct stack *st, uint16_t seq, uint64_t now);
void st_ping_failed(struct stack *st, uint16_t seq, int error, uint64_t now);
void st_ping_expired(struct stack *st, struct st_ping *p, uint64_t now);

/* ---- Segments to ourselves ---------------------------------------------------------------------------- */

struct looped {
    struct list_node link;
    struct tcp_seg seg;
};
bool st_loop_full(const struct stack *st);
void st_loop_add(struct stack *st, const struct tcp_seg *seg, uint64_t now);
bool st_loop_wait(struct stack *st, tcp_id id);
void st_loop_deliver(struct stack *st, uint64_t now);
void st_loop_free(struct stack *st);

/* ---- The stack ---------------------------------------------------------------------------------------- */

/* A super-frame that the device cannot cut, half given out. */
struct cut {
    struct intent *super; /* INTENT_CUT, NULL: none */
    struct gso gso;
    struct eth_addr mac;
};

struct stack {
    const struct stack_config *config;
    const struct tcp_config *tcp_config;
    struct chunk_pool *pool;
    const struct log_sink *log;
    struct tcp *tcp;
    struct socks *socks;
    struct siphash_key key;
    struct rng rng;
    struct eth_addr mac;
    uint16_t mtu;  /* of the link */
    uint16_t mtu6; /* from router advertisements, 0: the link's */
    uint16_t ifindex;
    uint8_t hop_limit6; /* from router advertisements, 0: the configuration's */
    bool up;
    bool check;
    struct stack_offload offload;
    uint64_t now; /* the last one that a verb got */

    struct wheel wheel;
    struct list_node intents;
    uint32_t n_intents;  /* in st->intents */
    size_t intent_bytes; /* of all, wherever they wait */
    struct list_node spent;
    struct neighs neigh;
    struct st_addr addr[ADDR_MAX];
    unsigned n_addrs; /* behind the last one in use */
    struct st_group group[GROUP_MAX];
    struct st_timer mld_query_timer;
    struct st_route route[ROUTE_MAX];
    unsigned n_routes; /* behind the last one in use */
    struct st_timer rs_timer;
    uint8_t rs_left;
    struct path_entry path[PATH_SETS][PATH_WAYS];
    uint64_t path_until; /* when the last of them ends */

    struct frag_bucket frag[FRAG_BUCKETS];
    size_t frag_bytes;
    uint8_t *scratch; /* PACKET_MAX: a packet made linear */
    uint8_t *whole;   /* PACKET_MAX: a datagram made of fragments */

    struct st_ping ping[PING_MAX];
    uint16_t ping_id, ping_seq;
    uint64_t icmp_credit_ns; /* token bucket: time saved up */
    uint64_t icmp_credit_at;

    struct list_node looped;
    uint32_t n_looped;
    uint64_t loop_at; /* TIME_NEVER: nothing looped */
    tcp_id *loop_waiter;
    uint32_t n_loop_waiters, loop_waiter_room;

    struct {
        bool on; /* in a burst */
        uint32_t first_len;
        struct tcp_seg held;
    } run;
    struct cut cut;
    uint16_t ip_id[IP_ID_SLOTS];
    uint32_t frag_id;

    struct stack_event event[EVENTS_MAX];
    unsigned event_head, n_events;
    uint64_t drops[STACK_DROP_MAX];
    struct stack_counters counters;
    struct st_keep keep;
    struct log_limit conflict_limit, neigh_limit, icmp_limit;
};

static inline void st_drop(struct stack *st, enum stack_drop why)
{
    st->drops[why]++;
    if (st->tcp)
        tcp_trace_reply(st->tcp, TCP_REC_REPLY_DROP, stack_drop_name(why), NULL, NULL, st->now);
}

void st_timer_init(struct st_timer *t, enum st_timer_kind kind);
static inline void st_arm(struct stack *st, struct st_timer *t, uint64_t at)
{
    wheel_arm(&st->wheel, &t->wheel, at);
}
static inline void st_disarm(struct stack *st, struct st_timer *t)
{
    wheel_disarm(&st->wheel, &t->wheel);
}
/* Asserts the engine's invariants where stack_params.check asks for it. */
void st_check(struct stack *st);
void st_event(struct stack *st, const struct stack_event *ev);
static inline uint64_t st_ms(int64_t ms)
{
    return (uint64_t)ms * NSEC_PER_MSEC;
}
/* Uniform in [0, ns]. */
static inline uint64_t st_jitter(struct stack *st, uint64_t ns)
{
    return rng_below(&st->rng, ns + 1);
}
static inline bool st_has_v6(const struct stack *st)
{
    return st->mtu >= IPV6_MIN_MTU; /* RFC 8200 section 5 */
}

#endif
