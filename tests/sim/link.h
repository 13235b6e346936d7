/*
 * tests/sim/link.h: one direction of a link, as a pure function of (state, packet, now, seed). No payload, no clock,
 * no engine: the owner embeds a struct link_packet into what it sends and asks what becomes of it.
 *
 *     link_enter(l, p, now)     loss of every kind, then the queue; says what became of it
 *     link_deadline(l)          when link_leave() is to be called: the line is free and something waits
 *     link_leave(l, now, ...)   the next packet goes onto the line (or CoDel drops some); its arrival, perhaps twice
 *
 * Random choices that decide about a packet's loss are drawn from (seed, index of the packet), not from a stream: an
 * engine that sends one packet more does not shift the fate of all packets behind it by more than one place. Losses are
 * counted by reason. A packet's bytes are the owner's business (headers included).
 */
#ifndef TAUT_SIM_LINK_H
#define TAUT_SIM_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

/* What became of a packet: X(NAME, "text"). */
#define LINK_FATES(X)                                                                                          \
    X(PASSED, "")                                                                                              \
    X(LOST, "LOST")                                                                                            \
    X(BURST, "LOST IN A BURST")                                                                                \
    X(SCRIPT, "LOST BY SCRIPT")                                                                                \
    X(CORRUPT, "BAD CHECKSUM")                                                                                 \
    X(TOO_BIG, "TOO BIG")                                                                                      \
    X(DOWN, "LINK DOWN")                                                                                       \
    X(QUEUE, "QUEUE FULL")                                                                                     \
    X(CODEL, "DROPPED BY CODEL")

enum link_fate {
#define X(name, text) LINK_##name,
    LINK_FATES(X)
#undef X
        LINK_FATE_MAX
};
const char *link_fate_text(enum link_fate f);

#define LINK_SCRIPT_MAX 16

struct link_params {
    uint64_t rate;       /* bytes/s, 0: a packet takes no time and the queue is never used */
    uint64_t delay_ns;   /* of the line */
    uint64_t jitter_ns;  /* uniform on top of it, in order */
    uint32_t reorder_ppm;
    uint64_t reorder_ns; /* a reordered packet comes later by up to that, others may pass it */
    uint32_t loss_ppm, dup_ppm, corrupt_ppm;
    uint32_t ge_enter_ppm, ge_leave_ppm, ge_loss_ppm; /* Gilbert-Elliott: into, out of the bad state; loss in it */
    uint64_t script[LINK_SCRIPT_MAX];                 /* packets lost, by index from 1; 0 ends them */
    uint32_t queue_bytes, queue_packets;              /* 0: no limit */
    bool ecn;                                         /* ECT packets are marked where CoDel would drop */
    uint32_t mark_bytes;                              /* CE from that many bytes waiting (DCTCP), 0: never */
    uint64_t codel_target_ns, codel_interval_ns;      /* RFC 8289, 0: none */
    uint32_t mtu;                                     /* larger packets are lost, 0: none */
    uint64_t mtu_from;                                /* index of the first packet that meets it */
    bool mtu_silent;                                  /* a black hole: no ICMP */
    uint64_t down_at, down_ns;                        /* everything that enters then is lost; 0: never */
};

struct link_packet {
    struct link_packet *next;
    uint64_t entered_at;
    uint32_t bytes;
    uint8_t ecn; /* enum ip_ecn; CE may be set */
};

struct link {
    struct link_params p;
    uint64_t seed, index; /* packets that entered */
    struct link_packet *head, *tail;
    uint32_t queued_bytes, queued_packets;
    uint64_t free_at;    /* the line */
    uint64_t arrives_at; /* of the last packet in order */
    uint64_t entered_at; /* the last packet did */
    bool bad;            /* Gilbert-Elliott */
    bool dropping;       /* CoDel; RFC 8289 section 5 */
    uint64_t first_above_at, drop_next_at;
    uint32_t drop_count, last_count;

    /* counted */
    uint64_t fates[LINK_FATE_MAX], marked, duplicated, reordered;
    uint64_t passed_bytes, waited_ns; /* sum over passed packets, time in the queue */
};

void link_init(struct link *l, const struct link_params *p, uint64_t seed);
/* PASSED: it waits in the queue and belongs to the link; else it stays the caller's. */
enum link_fate link_enter(struct link *l, struct link_packet *p, uint64_t now);
uint64_t link_deadline(const struct link *l);
/*
 * The packet that leaves, with *ret_n arrival times; NULL: all that waited was dropped. *ret_dropped is a list of those
 * that CoDel dropped; all are the caller's again.
 */
struct link_packet *link_leave(struct link *l, uint64_t now, struct link_packet **ret_dropped, uint64_t ret_at[2],
                               unsigned *ret_n);

/* A number in [0, 2^32) for a seed, an index and a purpose. */
uint32_t link_draw(uint64_t seed, uint64_t index, uint32_t purpose);

#endif
