/*
 * wire/udp.c: the UDP header (RFC 768). There is no UDP service: it is decoded only to be refused.
 */
#include "wire/udp.h"

#include <assert.h>
#include "wire/bytes.h"

enum udp_decode_result udp_header_decode(const uint8_t *bytes, size_t n, struct udp_header *ret)
{
    uint16_t length;

    if (n < UDP_HEADER_BYTES)
        return UDP_DECODE_SHORT;
    length = get_be16(bytes + 4);
    if (length < UDP_HEADER_BYTES || length > n)
        return UDP_DECODE_BAD_LENGTH;
    *ret = (struct udp_header){.src_port = get_be16(bytes),
                               .dst_port = get_be16(bytes + 2),
                               .bytes = length,
                               .csum = get_be16(bytes + 6)};
    return UDP_DECODE_OK;
}

const char *udp_decode_result_name(enum udp_decode_result r)
{
    static const char *const names[] = {"ok", "udp_short", "udp_bad_length"};

    static_assert(sizeof names / sizeof names[0] == UDP_DECODE_N, "a name for each result");
    return (unsigned)r < UDP_DECODE_N ? names[r] : "?";
}
