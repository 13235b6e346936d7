/*
 * wire/vnet.c: the virtio-net header (Virtual I/O Device 1.2, section 5.1.6). The layout is spelled out by
 * offsets here; the kernel's struct is not included.
 */
#include "wire/vnet.h"

#include <assert.h>
#include <string.h>
#include "wire/bytes.h"

enum { VNET_F_NEEDS_CSUM = 1, VNET_F_DATA_VALID = 2, VNET_GSO_ECN = 0x80 };
/* Offsets of the fields. */
enum {
    AT_FLAGS = 0,
    AT_GSO_TYPE = 1,
    AT_HDR_LEN = 2,
    AT_GSO_SIZE = 4,
    AT_CSUM_START = 6,
    AT_CSUM_OFFSET = 8
};

enum vnet_decode_result vnet_header_decode(const uint8_t *bytes, size_t n, size_t header_bytes,
                                           struct vnet_header *ret)
{
    struct vnet_header h = {0};
    uint8_t type;

    if (n < header_bytes || header_bytes < VNET_HEADER_BYTES)
        return VNET_DECODE_SHORT;
    type = bytes[AT_GSO_TYPE];
    h.needs_csum = bytes[AT_FLAGS] & VNET_F_NEEDS_CSUM;
    h.data_valid = bytes[AT_FLAGS] & VNET_F_DATA_VALID;
    h.ecn = type & VNET_GSO_ECN;
    h.gso = (uint8_t)(type & ~VNET_GSO_ECN);
    if (h.gso != VNET_GSO_NONE) {
        if (h.gso != VNET_GSO_TCPV4 && h.gso != VNET_GSO_TCPV6)
            return VNET_DECODE_BAD_GSO;
        h.hdr_bytes = get_le16(bytes + AT_HDR_LEN);
        h.gso_size = get_le16(bytes + AT_GSO_SIZE);
        if (!h.gso_size)
            return VNET_DECODE_BAD_GSO_SIZE;
    }
    if (h.needs_csum) {
        h.csum_start = get_le16(bytes + AT_CSUM_START);
        h.csum_offset = get_le16(bytes + AT_CSUM_OFFSET);
        if ((size_t)h.csum_start + h.csum_offset + 2 > n - header_bytes)
            return VNET_DECODE_BAD_CSUM_START;
    }
    *ret = h;
    return VNET_DECODE_OK;
}

void vnet_header_encode(const struct vnet_header *h, size_t header_bytes, uint8_t out[VNET_HEADER_MRG_BYTES])
{
    memset(out, 0, header_bytes);
    out[AT_FLAGS] =
        (uint8_t)((h->needs_csum ? VNET_F_NEEDS_CSUM : 0) | (h->data_valid ? VNET_F_DATA_VALID : 0));
    out[AT_GSO_TYPE] = (uint8_t)(h->gso | (h->gso != VNET_GSO_NONE && h->ecn ? VNET_GSO_ECN : 0));
    put_le16(out + AT_HDR_LEN, h->hdr_bytes);
    put_le16(out + AT_GSO_SIZE, h->gso_size);
    put_le16(out + AT_CSUM_START, h->csum_start);
    put_le16(out + AT_CSUM_OFFSET, h->csum_offset);
}

const char *vnet_decode_result_name(enum vnet_decode_result r)
{
    static const char *const names[] = {"ok", "vnet_short", "vnet_bad_csum_start", "vnet_bad_gso_type",
                                        "vnet_bad_gso_size"};

    static_assert(sizeof names / sizeof names[0] == VNET_DECODE_N, "a name for each result");
    return (unsigned)r < VNET_DECODE_N ? names[r] : "?";
}
