/*
 * wire/ipv4.c: the IPv4 header (RFC 791). Decode checks form only; policy (whose address, TTL, source routes)
 * is the stack's.
 */
#include "wire/ipv4.h"

#include <assert.h>
#include "wire/bytes.h"
#include "wire/csum.h"

enum { IPV4_FLAG_DF = 0x4000, IPV4_FLAG_MF = 0x2000, IPV4_OFFSET_MASK = 0x1fff };
enum { IPV4_OPT_EOL = 0, IPV4_OPT_NOP = 1, IPV4_OPT_LSRR = 131, IPV4_OPT_SSRR = 137 };

/* RFC 791 section 3.1: looks for source routes; a broken list ends the search, as nothing else in it concerns
 * us. */
static bool has_source_route(const uint8_t *opt, size_t n)
{
    for (size_t i = 0; i < n && opt[i] != IPV4_OPT_EOL;) {
        if (opt[i] == IPV4_OPT_LSRR || opt[i] == IPV4_OPT_SSRR)
            return true;
        if (opt[i] == IPV4_OPT_NOP) {
            i++;
            continue;
        }
        if (i + 1 >= n || opt[i + 1] < 2)
            return false;
        i += opt[i + 1];
    }
    return false;
}

static enum ipv4_decode_result decode(const uint8_t *bytes, size_t n, struct ipv4_header *h)
{
    uint16_t fragment;

    if (n < 1)
        return IPV4_DECODE_SHORT;
    if (bytes[0] >> 4 != 4)
        return IPV4_DECODE_BAD_VERSION;
    if (n < IPV4_HEADER_BYTES)
        return IPV4_DECODE_SHORT;
    h->header_bytes = (uint8_t)((bytes[0] & 15) * 4);
    if (h->header_bytes < IPV4_HEADER_BYTES || h->header_bytes > n)
        return IPV4_DECODE_BAD_HEADER_BYTES;
    h->total_bytes = get_be16(bytes + 2);
    if (h->total_bytes < h->header_bytes)
        return IPV4_DECODE_BAD_TOTAL;
    fragment = get_be16(bytes + 6);
    h->tos = bytes[1] & 0xfc;
    h->ecn = bytes[1] & 3;
    h->id = get_be16(bytes + 4);
    h->dont_fragment = fragment & IPV4_FLAG_DF;
    h->more_fragments = fragment & IPV4_FLAG_MF;
    h->frag_offset = (uint16_t)((fragment & IPV4_OFFSET_MASK) * 8);
    h->ttl = bytes[8];
    h->proto = bytes[9];
    h->src = ip_addr_v4_bytes(bytes + 12);
    h->dst = ip_addr_v4_bytes(bytes + 16);
    h->source_route =
        has_source_route(bytes + IPV4_HEADER_BYTES, h->header_bytes - (size_t)IPV4_HEADER_BYTES);
    return IPV4_DECODE_OK;
}

enum ipv4_decode_result ipv4_header_decode(const uint8_t *bytes, size_t n, bool verify,
                                           struct ipv4_header *ret)
{
    struct ipv4_header h;
    enum ipv4_decode_result r = decode(bytes, n, &h);

    if (r != IPV4_DECODE_OK)
        return r;
    if (h.total_bytes > n)
        return IPV4_DECODE_TRUNCATED;
    if (verify && !csum_ok(csum_partial(bytes, h.header_bytes, 0)))
        return IPV4_DECODE_BAD_CSUM;
    /* The whole would exceed what total length can say (RFC 791 section 3.1): "ping of death". */
    if (h.frag_offset + (unsigned)h.total_bytes > UINT16_MAX)
        return IPV4_DECODE_BAD_FRAGMENT;
    *ret = h;
    return IPV4_DECODE_OK;
}

enum ipv4_decode_result ipv4_header_decode_quoted(const uint8_t *bytes, size_t n, struct ipv4_header *ret)
{
    struct ipv4_header h;
    enum ipv4_decode_result r = decode(bytes, n, &h);

    if (r == IPV4_DECODE_OK)
        *ret = h;
    return r;
}

void ipv4_header_encode(const struct ipv4_header *h, uint8_t out[IPV4_HEADER_BYTES])
{
    out[0] = 0x45;
    out[1] = (uint8_t)((h->tos & 0xfc) | (h->ecn & 3));
    put_be16(out + 2, h->total_bytes);
    put_be16(out + 4, h->id);
    put_be16(out + 6, (uint16_t)((h->dont_fragment ? IPV4_FLAG_DF : 0) |
                                 (h->more_fragments ? IPV4_FLAG_MF : 0) | h->frag_offset / 8));
    out[8] = h->ttl;
    out[9] = h->proto;
    put_be16(out + 10, 0);
    memcpy(out + 12, h->src.b, 4);
    memcpy(out + 16, h->dst.b, 4);
    put_be16(out + 10, csum_fold(csum_partial(out, IPV4_HEADER_BYTES, 0)));
}

const char *ipv4_decode_result_name(enum ipv4_decode_result r)
{
    static const char *const names[] = {"ok",
                                        "ipv4_short",
                                        "ipv4_bad_version",
                                        "ipv4_bad_header_length",
                                        "ipv4_bad_total_length",
                                        "ipv4_truncated",
                                        "ipv4_bad_checksum",
                                        "ipv4_bad_fragment"};

    static_assert(sizeof names / sizeof names[0] == IPV4_DECODE_N, "a name for each result");
    return (unsigned)r < IPV4_DECODE_N ? names[r] : "?";
}
