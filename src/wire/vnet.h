/*
 * wire/vnet.h: the virtio-net header that precedes a frame on a TAP opened with IFF_VNET_HDR (Virtual I/O
 * Device 1.2, section 5.1.6), in little-endian form (TUNSETVNETLE), 10 bytes or 12 with num_buffers.
 */
#ifndef TAUT_WIRE_VNET_H
#define TAUT_WIRE_VNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VNET_HEADER_BYTES     10
#define VNET_HEADER_MRG_BYTES 12

enum vnet_gso { VNET_GSO_NONE = 0, VNET_GSO_TCPV4 = 1, VNET_GSO_TCPV6 = 4 };

struct vnet_header {
    bool needs_csum;      /* the checksum field holds the pseudo-header's sum only */
    bool data_valid;      /* the checksum was verified */
    bool ecn;             /* gso: the first segment carries CWR */
    uint8_t gso;          /* enum vnet_gso */
    uint16_t hdr_bytes;   /* gso: bytes of Ethernet, IP and TCP headers; a hint on input */
    uint16_t gso_size;    /* payload bytes per segment, without options */
    uint16_t csum_start;  /* needs_csum: where summing starts, from the start of the frame */
    uint16_t csum_offset; /* needs_csum: where the field is, from csum_start */
};

enum vnet_decode_result {
    VNET_DECODE_OK,
    VNET_DECODE_SHORT,
    VNET_DECODE_BAD_CSUM_START, /* checksum start or field behind the frame */
    VNET_DECODE_BAD_GSO,        /* UDP, or an unknown type: we never asked for it */
    VNET_DECODE_BAD_GSO_SIZE,   /* GSO with size 0 */
    VNET_DECODE_N
};

/*
 * Decodes the header of `header_bytes` (10 or 12) at `bytes`; `n` counts header and frame. ret is untouched
 * unless OK. GSO without NEEDS_CSUM is accepted (the kernel does that on received LRO/GRO frames).
 */
enum vnet_decode_result vnet_header_decode(const uint8_t *bytes, size_t n, size_t header_bytes,
                                           struct vnet_header *ret);
/* Writes header_bytes (10 or 12). */
void vnet_header_encode(const struct vnet_header *h, size_t header_bytes, uint8_t out[VNET_HEADER_MRG_BYTES]);
const char *vnet_decode_result_name(enum vnet_decode_result r);

#endif
