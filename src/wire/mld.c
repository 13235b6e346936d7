/*
 * wire/mld.c: MLDv2 reports out, MLDv1 and MLDv2 queries in (RFC 3810). Timers and state are the stack's.
 */
#include "wire/mld.h"

#include <assert.h>
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/icmp.h"
#include "wire/ipv6.h"

size_t mld_report_encode(const struct ip_addr *src, const struct mld_record *record, size_t n_records,
                         uint8_t *out, size_t room)
{
    static const uint8_t mld2_routers[16] = {0xff, 2, [15] = 0x16}; /* RFC 3810 section 5.2.14 */
    /* Next header ICMPv6; router alert 0 (MLD, RFC 2711); PadN of 2 bytes. */
    static const uint8_t hop_by_hop[8] = {IP_PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
    struct ipv6_header h = {.src = *src, .dst = ip_addr_v6_bytes(mld2_routers, src->scope), .hop_limit = 1};
    uint8_t *icmp = out + IPV6_HEADER_BYTES + sizeof hop_by_hop;
    size_t icmp_bytes = 8 + 20 * n_records;

    if (n_records > UINT16_MAX / 20 - 1 || room < MLD_REPORT_BYTES(n_records))
        return 0;
    h.next = IP_PROTO_HOP_BY_HOP;
    h.payload_bytes = (uint16_t)(sizeof hop_by_hop + icmp_bytes);
    ipv6_header_encode(&h, out);
    memcpy(out + IPV6_HEADER_BYTES, hop_by_hop, sizeof hop_by_hop);
    memset(icmp, 0, icmp_bytes);
    icmp[0] = ICMP6_TYPE_MLD2_REPORT;
    put_be16(icmp + 6, (uint16_t)n_records);
    for (size_t i = 0; i < n_records; i++) { /* section 5.2.4: type, aux length 0, no sources, group */
        icmp[8 + 20 * i] = record[i].type;
        memcpy(icmp + 12 + 20 * i, record[i].group.b, 16);
    }
    put_be16(icmp + 2,
             csum_fold(csum_partial(icmp, icmp_bytes,
                                    csum_pseudo(&h.src, &h.dst, IP_PROTO_ICMPV6, (uint32_t)icmp_bytes))));
    return MLD_REPORT_BYTES(n_records);
}

/* RFC 3810 section 5.1.3: a small float, 3 bits of exponent and 12 of mantissa. */
static uint32_t max_response_ms(uint16_t code)
{
    if (code < 0x8000)
        return code;
    return ((uint32_t)(code & 0xfff) | 0x1000) << ((code >> 12 & 7) + 3);
}

/* RFC 3810 section 5.1.9: 3 bits of exponent and 4 of mantissa. */
static uint32_t query_interval_s(uint8_t code)
{
    if (code < 0x80)
        return code;
    return ((uint32_t)(code & 15) | 16) << ((code >> 4 & 7) + 3);
}

static enum mld_decode_result read_query(const uint8_t *bytes, size_t n, uint16_t scope, struct mld_query *q)
{
    static const uint8_t any[16];
    uint16_t code = get_be16(bytes + 4);

    q->group = ip_addr_v6_bytes(bytes + 8, scope);
    q->general = memcmp(q->group.b, any, 16) == 0;
    if (!q->general && q->group.b[0] != 0xff)
        return MLD_DECODE_BAD_GROUP;
    if (n == 24) { /* section 8.1: exactly 24 bytes are version 1 */
        q->version = 1;
        q->max_delay_ms = code;
        return MLD_DECODE_OK;
    }
    if (n < 28 || n - 28 < (size_t)get_be16(bytes + 26) * 16)
        return MLD_DECODE_BAD_LENGTH;
    q->version = 2;
    q->max_delay_ms = max_response_ms(code);
    q->suppress = bytes[24] & 8;
    q->robustness = bytes[24] & 7;
    q->interval_s = query_interval_s(bytes[25]);
    q->group_and_source = get_be16(bytes + 26) != 0;
    return MLD_DECODE_OK;
}

enum mld_decode_result mld_query_decode(const struct ip_addr *src, uint8_t hop_limit, bool router_alert,
                                        const uint8_t *bytes, size_t n, uint16_t scope, struct mld_query *ret)
{
    struct mld_query q = {0};
    enum mld_decode_result r;

    if (n < 24)
        return MLD_DECODE_SHORT;
    if (bytes[0] != ICMP6_TYPE_MLD_QUERY)
        return MLD_DECODE_NOT_QUERY;
    /* RFC 3810 sections 5.1.14 and 6.2: otherwise forged, or meant for others. */
    if (src->b[0] != 0xfe || (src->b[1] & 0xc0) != 0x80)
        return MLD_DECODE_BAD_SOURCE;
    if (hop_limit != 1 || !router_alert)
        return MLD_DECODE_BAD_HOP_LIMIT;
    r = read_query(bytes, n, scope, &q);
    if (r == MLD_DECODE_OK)
        *ret = q;
    return r;
}

const char *mld_decode_result_name(enum mld_decode_result r)
{
    static const char *const names[] = {"ok",
                                        "mld_short",
                                        "mld_not_query",
                                        "mld_bad_length",
                                        "mld_bad_group",
                                        "mld_bad_source",
                                        "mld_bad_hop_limit"};

    static_assert(sizeof names / sizeof names[0] == MLD_DECODE_N, "a name for each result");
    return (unsigned)r < MLD_DECODE_N ? names[r] : "?";
}
