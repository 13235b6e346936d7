/*
 * tcp/rack.h: RACK (RFC 8985): loss is told by time. Of what was delivered, the descriptor sent last says how
 * new the network is known to be; whatever was sent before it and not delivered a reordering window later is
 * lost, retransmissions as much as originals.
 *
 *     delivered (SACKed or acked) -> tcp_rack_advance()
 *     every dubious ACK           -> tcp_rack_mark_lost(), which may arm RETRANS as the reordering timer
 *     that timer                  -> tcp_rack_reo_timeout()
 *
 * struct tcp_rack is a pure value; zeroed is its beginning. Private to the sending half.
 */
#ifndef TAUT_TCP_RACK_H
#define TAUT_TCP_RACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/seq.h"

#define TCP_RACK_RECOVERY_THRESH 16u /* recoveries for which a widened reordering window lasts */

struct tcp_rack {
    uint64_t sent_at;        /* of the newest delivered one, ns; 0: none */
    uint32_t end_seq;        /* its end, which breaks ties */
    uint64_t rtt_us;         /* of the last delivered one */
    bool advanced;           /* something was delivered since losses were looked for */
    bool dsack_seen;         /* and a D-SACK says that a retransmission was in vain */
    uint8_t reo_wnd_extra;   /* quarters of the shortest round trip beyond the first (reo_wnd_steps - 1) */
    uint8_t reo_wnd_persist; /* recoveries until they are forgotten */
    uint32_t last_delivered; /* `delivered` when the window was widened: once a round trip */
};

/* Was (at, end) sent later than (at2, end2)? What left in one burst is told apart by its sequence. */
static inline bool tcp_sent_after(uint64_t at, uint64_t at2, uint32_t end, uint32_t end2)
{
    return at > at2 || (at == at2 && seq_gt(end, end2));
}
/*
 * A descriptor was delivered that ended at `end_seq` and was last sent at `sent_at` (0: unknown, ignored).
 * One that was retransmitted and answered sooner than the shortest round trip was answered for its original,
 * and says nothing.
 */
void tcp_rack_advance(struct tcp_rack *r, uint32_t end_seq, uint64_t sent_at, bool retransmitted,
                      uint32_t min_rtt_us, uint64_t now);

#endif
