/*
 * wire/csum.h: the Internet checksum (RFC 1071), whole, in pieces and over slices.
 *
 * A partial sum is a uint32_t whose 16-bit ones'-complement value is meant; it is kept in the machine's byte
 * order (RFC 1071 section 2 (B): the sum does not care), so only csum_fold() makes a number that may go into
 * a header. The chain is: sum = csum_pseudo(..); sum = csum_partial(header, n, sum); sum = csum_slices(..);
 * put_be16(csum_fold(sum)).
 */
#ifndef TAUT_WIRE_CSUM_H
#define TAUT_WIRE_CSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"

struct tcp_slice;

/* Adds `bytes` bytes to `seed`, taking the first as the high half of a word: it lies at an even offset. */
uint32_t csum_partial(const void *data, size_t bytes, uint32_t seed);

/* Ones'-complement sum of two partial sums. */
static inline uint32_t csum_add(uint32_t a, uint32_t b)
{
    uint32_t r = a + b;

    return r + (r < a);
}

/* Adds `piece`, the sum of bytes that begin at `offset` of the whole (RFC 1071 section 2 (B): odd ones are
 * swapped). */
static inline uint32_t csum_add_at(uint32_t sum, uint32_t piece, size_t offset)
{
    if (offset & 1)
        piece = (piece & 0x00ff00ffu) << 8 | (piece & 0xff00ff00u) >> 8;
    return csum_add(sum, piece);
}

/* The value for a checksum field (complemented), in host order: for put_be16(). */
uint16_t csum_fold(uint32_t sum);

/* The same uncomplemented: what a NEEDS_CSUM frame carries in its checksum field (pseudo-header only). */
uint16_t csum_fold_plain(uint32_t sum);

/* True if the sum over data that includes its checksum field says "intact". */
static inline bool csum_ok(uint32_t sum)
{
    return csum_fold(sum) == 0;
}

/* Pseudo-header of RFC 9293 section 3.1 (IPv4) or RFC 8200 section 8.1 (IPv6), by the family of src. */
uint32_t csum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t bytes);

/* Adds `n` slices that follow each other, the first at an even offset; slices may have odd lengths. */
uint32_t csum_slices(const struct tcp_slice *slice, size_t n, uint32_t seed);

/*
 * The checksum field's value of a TCP segment: pseudo-header, `header_bytes` of header with a zero (or, to
 * verify, the received) checksum field, payload slices. Verify: the result is 0.
 */
uint16_t csum_tcp(const struct ip_addr *src, const struct ip_addr *dst, const uint8_t *header,
                  size_t header_bytes, const struct tcp_slice *slice, size_t n_slices);

/*
 * New value of a checksum field after a 16-bit word (at an even offset) changed from `old_word` to
 * `new_word`, all in host order (RFC 1624 equation 3).
 */
uint16_t csum_update16(uint16_t field, uint16_t old_word, uint16_t new_word);

#endif
