/*
 * wire/gso.h: the one segmenter: cuts a super-frame into segments as the kernel cuts TSO.
 *
 *     gso_begin(&g, &super); while (gso_step(&g, &seg)) { ... g.index - 1 is this segment's number ... }
 *
 * Every segment has the super-frame's header with seq advanced, PSH and FIN only on the last, CWR only on the
 * first (RFC 3168 section 6.1.2), the same options, and the slices of its own bytes: nothing is copied. The
 * IPv4 identification is super's + number, the caller's to add. Used where the TAP has no TSO, by the
 * packetdrill shim, the simulator and tests.
 */
#ifndef TAUT_WIRE_GSO_H
#define TAUT_WIRE_GSO_H

#include "wire/tcp.h"

struct gso {
    const struct tcp_seg *super; /* must outlive the walk */
    uint32_t offset;             /* payload bytes given out */
    uint32_t slice_offset;       /* of them in slice[slice] */
    uint16_t slice;
    uint16_t index; /* segments given out */
    bool done;
};

/* How many segments `len` payload bytes make: 1 for a plain or empty segment. */
static inline uint32_t gso_segs(uint32_t len, uint16_t gso_size)
{
    return gso_size && len > gso_size ? (len + gso_size - 1) / gso_size : 1;
}

void gso_begin(struct gso *g, const struct tcp_seg *super);
/* Fills ret with the next segment (gso_size 0); false, and ret untouched, behind the last. */
bool gso_step(struct gso *g, struct tcp_seg *ret);

#endif
