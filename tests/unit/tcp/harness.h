/*
 * tests/unit/tcp/harness.h: one engine in virtual time, driven and watched by traces in packetdrill's notation.
 *
 *     in(h, "S 0:0(0) win 65535 <mss 1460>");         a segment from the peer
 *     out(h, "S. 0:0(0) ack 1 win 64240 <mss 1460>"); the next segment of the engine, now
 *     out_in(h, 200, "P. 1:11(10) ack 1");            the next one leaves in 200 ms (within 1 ms)
 *     quiet(h, 1000);                                 nothing leaves for 1000 ms
 *
 * Notation: sequence numbers are relative to the ISNs of the two sides. In expectations "win" may be left out
 * (any window) unless there is a "*", which is any text; options that are not named must not be there;
 * "<...>" means any options or none. A super-frame has " gso N" behind its text, a segment with ECN codepoint
 * N " ecn N". Payload bytes are a pattern of their position, made and checked by the harness.
 *
 * Strictness: a segment that no expectation takes fails the test at the next step. After every verb the
 * harness drains events and output in the documented order, runs tcp_check_all() before and after, and
 * asserts that tcp_deadline() lies in the future (no busy loop); when time passes it stops 1 ns before each
 * deadline and asserts that nothing changes there (no early work).
 *
 * With h->md5_key the peer knows TCP-MD5: its "md5" means a right signature, "md5 HEX" a given one; an expected "md5"
 * means that the engine's was right. Signatures are computed here by libcrypto, apart from the engine's code.
 *
 * A harness has up to H_FLOWS connections, told apart by the peer's port; one is selected (flow()).
 */
#ifndef TAUT_TESTS_HARNESS_H
#define TAUT_TESTS_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "tcp/tcp.h"

#define H_FLOWS     80
#define H_PORT      8080  /* ours */
#define H_PEER_PORT 40000 /* of flow 0 */
#define H_GONE      0     /* h_state(): no such connection */

struct h_flow {
    struct ip_tuple tuple;
    tcp_id id;         /* of the last connect or accept */
    uint32_t iss, irs; /* ours (learned from SYN or SYN-ACK), the peer's (chosen) */
    uint64_t tx_pos;   /* bytes written so far: position of the pattern */
    uint64_t rx_pos;   /* bytes read so far */
    unsigned events;   /* bits since the last event() */
    int error;         /* of the last TCP_EVENT_ERROR */
    bool accept_pending;
};

struct h_out; /* a segment that left and was not yet expected */

struct harness {
    struct tcp *t;
    struct tcp_config cfg;
    struct tcp_path path;
    struct chunk_pool *pool;
    void *arena;
    size_t arena_bytes;
    uint64_t now, start;
    uint32_t listener;
    int cur;
    struct h_flow flows[H_FLOWS];
    struct h_out *queue;
    size_t q_head, q_tail;
    enum tcp_cause cause; /* of the segment that out() took last */
    uint32_t tsval;       /* of that segment, if it had one */
    bool hold;            /* collect marks, do not drain: for bursts */
    bool hold_events;
    const char *md5_key;  /* the peer's: signs what says "md5" without a digest; right digests of the engine read "md5" */
    char *log;
    size_t log_len;
};

struct h_args {
    uint32_t max_conns, max_half_open, max_time_wait; /* 0: 256 */
    size_t trace_bytes; /* 0: 1 MiB */
    size_t arena_bytes;                               /* 0: 32 MiB */
    bool ipv6, no_crypto;
    uint32_t max_md5_keys;
    struct tcp_config
        *config; /* NULL: defaults with tcp_timestamps = 2, so that TS val is ms of virtual time */
};

/* Virtual time begins at 1000 s: TS val 1000000. */
#define H_START_MS 1000000u

struct harness *h_new(void);
struct harness *h_new_args(const struct h_args *args);
void h_free(struct harness *h); /* strict: nothing unexpected may be left */

uint8_t h_pattern(uint64_t pos);
/* The signature that RFC 2385 asks for. */
void h_sign(const struct tcp_seg *seg, const char *key, uint8_t ret[16]);

void h_fail(struct harness *h, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), noreturn));
void h_in(struct harness *h, const char *text, const char *file, int line);
void h_out_after(struct harness *h, int64_t ms, const char *text, const char *file, int line);
void h_quiet(struct harness *h, uint64_t ms, const char *file, int line);
void h_skip_out(struct harness *h, const char *file, int line);
unsigned h_pending(const struct harness *h);
void h_expect_state(struct harness *h, int state, const char *file, int line);
void h_expect_event(struct harness *h, unsigned bits, const char *file, int line);
void h_expect_rc(struct harness *h, int64_t got, int64_t want, const char *what, const char *file, int line);
void h_step(struct harness *h, const char *file, int line);
void h_advance(struct harness *h, uint64_t ms, const char *file, int line);

#define in(h, text)         h_in(h, text, __FILE__, __LINE__)
#define out(h, text)        h_out_after(h, -1, text, __FILE__, __LINE__)
#define out_in(h, ms, text) h_out_after(h, ms, text, __FILE__, __LINE__)
#define quiet(h, ms)        h_quiet(h, ms, __FILE__, __LINE__)
#define pass_ms(h, ms)                                                                                       \
    h_advance(h, ms, __FILE__, __LINE__) /* time passes, segments may leave (for skip_out) */
#define skip_out(h)          h_skip_out(h, __FILE__, __LINE__) /* forget every segment that left so far */
#define state(h, s)          h_expect_state(h, s, __FILE__, __LINE__)
#define event(h, bits)       h_expect_event(h, bits, __FILE__, __LINE__)
#define flush(h)             h_step(h, __FILE__, __LINE__)
#define expect(h, got, want) h_expect_rc(h, (int64_t)(got), (int64_t)(want), #got, __FILE__, __LINE__)

void flow(struct harness *h, int k);
struct h_flow *h_flow(struct harness *h);
tcp_id h_id(const struct harness *h); /* of the selected flow's live entry of any kind, 0: none */
int h_state(const struct harness *h);
struct tcp_info h_info(struct harness *h);
uint64_t h_drops(const struct harness *h, enum tcp_drop d);
uint64_t h_causes(const struct harness *h, enum tcp_cause c);

/* The calls of programs, on the selected flow; each steps the engine. Results are the engine's. */
void h_listen(struct harness *h, uint32_t backlog);
void h_accept(struct harness *h); /* takes the flow's TCP_EVENT_ACCEPT; fails without one */
int h_connect(struct harness *h);
int64_t h_send_flags(struct harness *h, size_t bytes, unsigned flags);
int64_t h_send(struct harness *h, size_t bytes);
/* Reads up to `bytes`, checks them against the pattern; returns bytes read, -EAGAIN, 0 (EOF) or the error. */
int64_t h_recv(struct harness *h, size_t bytes);
int h_shutdown(struct harness *h);
int h_close(struct harness *h);
int h_abort(struct harness *h);
int h_opt(struct harness *h, enum tcp_opt opt, int32_t value);
void h_icmp(struct harness *h, uint32_t rel_seq, int error, bool hard, uint16_t mtu);

/* A listener with an accepted connection in ESTABLISHED; syn_opts is the peer's option list, wnd its window
 * after it. */
struct harness *h_passive(const char *syn_opts, unsigned wnd);
void h_passive_on(struct harness *h, const char *syn_opts, unsigned wnd);
/* The same by an active open. */
struct harness *h_active(const char *synack_opts, unsigned wnd);
void h_active_on(struct harness *h, const char *synack_opts, unsigned wnd);

#endif
