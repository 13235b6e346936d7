/*
 * A stack in virtual time, with frames in and out as bytes. After every run the properties of a deadline are
 * asserted: it lies in the future once output has said "nothing", and nothing comes out before it.
 */
#ifndef TAUT_TEST_STACK_ENV_H
#define TAUT_TEST_STACK_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include "stack/stack_priv.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/udp.h"
#include "wire/vnet.h"

#define SEC        NSEC_PER_SEC
#define MSEC       NSEC_PER_MSEC
#define FRAMES_MAX 4096

struct frame {
    uint8_t *bytes; /* with the virtio-net header, if there is one */
    size_t n;
    uint64_t at;
    bool is_tcp;
};

struct env {
    struct stack *st;
    struct stack_config config;
    struct tcp_config tcp_config;
    struct chunk_pool *pool;
    void *arena;
    uint64_t now;
    uint16_t mtu;
    uint8_t mac[6];
    struct frame out[FRAMES_MAX];
    unsigned n_out;
    unsigned seen; /* of out, by env_next() */
    struct log_sink log;
    unsigned logged;
};

extern const struct eth_addr mac_us, mac_peer, mac_router;
extern const struct ip_addr any6;

struct ip_addr ip(const char *text); /* link-local ones get scope 1 */
/* A stack with the address 192.0.2.1/24, route by 192.0.2.254, after DAD of the link-local address; frames
 * taken. */
struct env *env_new(void);
/* Nothing configured, time 1 s, nothing run; `config` may be NULL. */
struct env *env_bare(const struct stack_config *config, const uint8_t mac[6], uint16_t mtu);
void env_free(struct env *e);
/* What the next env_bare() gives its stack: memory that outlives it, does it go on, and from when (0: 1 s). */
struct env_before {
    void *keep;
    bool resumed;
    uint64_t now;
};
extern struct env_before env_before;

void env_in(struct env *e, const uint8_t *bytes, size_t n);
/* The same in slices of at most `piece` bytes behind the first one. */
void env_in_sliced(struct env *e, const uint8_t *bytes, size_t n, size_t first, size_t piece);
/* Takes all frames that are to be sent now, asserts the deadline. */
void env_pull(struct env *e);
/* Runs all timers up to `until` (absolute), pulling frames. */
void env_run(struct env *e, uint64_t until);
void env_sleep(struct env *e, uint64_t ns);
/* The next frame not looked at yet, NULL: none. */
const struct frame *env_next(struct env *e);
/* The next one of this Ethertype, skipping others. */
const struct frame *env_next_type(struct env *e, uint16_t type);
/* The next ICMPv6 message of a type; *ret_p: the ICMP header. */
const struct frame *env_next_icmp6(struct env *e, uint8_t type, const uint8_t **ret_p, size_t *ret_n);
const struct frame *env_next_icmp4(struct env *e, uint8_t type, const uint8_t **ret_p, size_t *ret_n);
void env_forget(struct env *e);
uint64_t env_drops(const struct env *e, enum stack_drop d);
bool env_neigh(struct env *e, const char *addr, struct stack_neigh *ret);
bool env_addr(struct env *e, const char *addr, struct stack_addr *ret);
bool env_event(struct env *e, enum stack_event_kind kind, struct stack_event *ret);

/* ---- Frames from others ------------------------------------------------------------------------------- */
size_t mk_eth(uint8_t *out, const struct eth_addr *dst, const struct eth_addr *src, uint16_t type);
size_t mk_arp(uint8_t *out, const struct arp_packet *arp, const struct eth_addr *dst);
/* Ethernet + IP + payload; returns the length. src by its text; the frame comes from mac_peer. */
size_t mk_ip4(uint8_t *out, const char *src, const char *dst, uint8_t proto, const void *payload, size_t n);
size_t mk_ip6(uint8_t *out, const char *src, const char *dst, uint8_t next, uint8_t hop, const void *payload,
              size_t n);
/* A fragment of `n` bytes at `offset` of an IPv4/IPv6 datagram with this id. */
size_t mk_frag4(uint8_t *out, const char *src, uint16_t id, uint8_t proto, size_t offset, bool more,
                const void *p, size_t n);
size_t mk_frag6(uint8_t *out, const char *src, uint32_t id, uint8_t proto, size_t offset, bool more,
                const void *p, size_t n);
size_t mk_echo(uint8_t *out, const char *src, const char *dst, uint16_t seq, size_t bytes);
size_t mk_na(uint8_t *out, const char *src, const char *dst, const char *target, bool solicited,
             bool override, const struct eth_addr *mac);
size_t mk_ns(uint8_t *out, const char *src, const char *target, const struct eth_addr *mac);
void in_arp(struct env *e, uint16_t op, const char *sender, const struct eth_addr *mac, const char *target);

#define US_LL "fe80::ff:fe00:1" /* of mac_us 02:00:00:00:00:01 */

#endif
