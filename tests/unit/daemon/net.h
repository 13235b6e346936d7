/*
 * A daemon and a peer in one process: the daemon's stack with its real loop (libev, turns, timerfd, epoll set) on a "TAP"
 * that is one end of a SEQPACKET pair, one frame a message; on the other end a second stack, driven by hand. Both run on
 * the system's clock. Nothing here knows what a right answer is; tests do.
 */
#ifndef TAUT_TEST_DAEMON_NET_H
#define TAUT_TEST_DAEMON_NET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/fdset.h"
#include "daemon/loop.h"
#include "daemon/tap.h"

#define HERE "192.0.2.1" /* the daemon */
#define HERE6 "2001:db8::1"
#define THERE "192.0.2.2" /* the peer */
#define THERE6 "2001:db8::2"

struct net {
    struct daemon d;
    struct daemon_config config;
    struct tap tap;
    void *arena, *peer_arena;
    struct chunk_pool *peer_pool;
    struct stack *peer;
    struct tcp_config peer_tcp;
    struct stack_config peer_config;
    int wire;              /* the peer's end */
    uint32_t frames_to_daemon, drop_next; /* drop_next: so many frames to the daemon are thrown away */
    char log[65536];       /* all that was logged, line by line */
    size_t logged;
};

struct net *net_new(size_t arena_bytes);
/* Ends loop and stacks; what else lives in the daemon is the test's to end first. */
void net_free(struct net *n);
/* One turn of the daemon (without waiting) and one of the peer. */
void net_turn(struct net *n);
void net_turns(struct net *n, unsigned count);
void net_sleep(struct net *n, unsigned ms);

#define WAIT_MS(n, ms, condition)                                                                              \
    do {                                                                                                       \
        uint64_t wait_until = daemon_now() + (ms) * NSEC_PER_MSEC;                                             \
        while (!(condition)) {                                                                                 \
            if (daemon_now() > wait_until)                                                                     \
                fail_msg("%s:%d: waited %u ms in vain for: %s", __FILE__, __LINE__, (unsigned)(ms), #condition); \
            net_turn(n);                                                                                       \
        }                                                                                                      \
    } while (0)
#define WAIT(n, condition) WAIT_MS(n, 10000, condition)

struct ip_addr ip(const char *text);
/* Readiness and bytes of the peer's socket. */
struct sock *peer_socket(struct net *n, const char *to, uint16_t port); /* connecting */
bool peer_established(const struct net *n, struct sock *s);
/* Everything that can be read now. Bytes, 0: end, -errno. */
int64_t peer_read(struct sock *s, void *data, size_t bytes);
int64_t peer_write(struct sock *s, const void *data, size_t bytes);
bool peer_all_acked(struct net *n, struct sock *s);
/* Reads until the end or an error, checking the pattern from `from` on; what ended it: 0 or -errno. *ret_bytes: how much. */
int peer_read_pattern(struct net *n, struct sock *s, uint64_t from, uint64_t *ret_bytes);
/* Sends [from, to) of the pattern, waiting for room. */
void peer_write_pattern(struct net *n, struct sock *s, uint64_t from, uint64_t to);

/* A byte by its position in a stream. */
static inline uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}
void fill(uint8_t *out, uint64_t from, size_t bytes);
void check(const uint8_t *data, uint64_t from, size_t bytes);

/* xorshift, printed seed. */
uint32_t rnd(void);
void rnd_seed(void);

#endif
