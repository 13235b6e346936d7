/*
 * wire/udp.h: just enough of UDP (RFC 768) to answer a datagram with "port unreachable".
 */
#ifndef TAUT_WIRE_UDP_H
#define TAUT_WIRE_UDP_H

#include <stddef.h>
#include <stdint.h>

#define UDP_HEADER_BYTES 8

struct udp_header {
    uint16_t src_port;
    uint16_t dst_port;
    uint16_t bytes; /* header and payload, <= what lies there */
    uint16_t csum;  /* 0: none (IPv4 only) */
};

enum udp_decode_result { UDP_DECODE_OK, UDP_DECODE_SHORT, UDP_DECODE_BAD_LENGTH, UDP_DECODE_N };

/* ret is untouched unless OK. The checksum is not verified (csum_partial() over `bytes` does that). */
enum udp_decode_result udp_header_decode(const uint8_t *bytes, size_t n, struct udp_header *ret);
const char *udp_decode_result_name(enum udp_decode_result r);

#endif
