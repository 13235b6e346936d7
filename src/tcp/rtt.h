/*
 * tcp/rtt.h: round-trip time and retransmission timeout (RFC 6298), as Linux estimates them.
 *
 * srtt is kept times 8, mdev and rttvar times 4, so that rto = srtt / 8 + rttvar. Where RFC 6298 has one
 * variance, Linux has two: mdev follows the samples; rttvar takes at once the largest mdev of a round trip
 * and sinks slowly, once a round trip, never below the minimum (tcp_rto_min), which therefore bounds the
 * variance term, not the RTO. A pure value.
 */
#ifndef TAUT_TCP_RTT_H
#define TAUT_TCP_RTT_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_rtt {
    uint32_t srtt_us;     /* << 3; 0: no sample yet */
    uint32_t mdev_us;     /* << 2 */
    uint32_t mdev_max_us; /* << 2, of this round trip */
    uint32_t rttvar_us;   /* << 2 */
    uint32_t rtt_seq;     /* snd_nxt when the round trip began */
    uint32_t rto_us;      /* without backoff */
    uint32_t min_rtt_us;  /* of the last five minutes; UINT32_MAX: none */
    uint64_t min_rtt_at;
};

/* No sample; rto as given. */
void tcp_rtt_init(struct tcp_rtt *r, uint32_t rto_us);
/*
 * One sample of `rtt_us` (at least 1). snd_una, snd_nxt: of now; rto_min_us, rto_max_us: bounds. Sets rto_us
 * too, rounded up to whole milliseconds.
 */
void tcp_rtt_sample(struct tcp_rtt *r, uint32_t rtt_us, uint32_t snd_una, uint32_t snd_nxt,
                    uint32_t rto_min_us, uint32_t rto_max_us);
/* The windowed minimum (300 s). */
void tcp_rtt_update_min(struct tcp_rtt *r, uint32_t rtt_us, uint64_t now);
/* rto_us << backoff, at most rto_max_us. */
uint64_t tcp_rtt_backed_off_us(const struct tcp_rtt *r, unsigned backoff, uint32_t rto_max_us);

#endif
