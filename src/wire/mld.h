/*
 * wire/mld.h: multicast listener reports and queries (MLDv2, RFC 3810; MLDv1, RFC 2710). Without reports,
 * snooping bridges drop the solicited-node groups and neighbour discovery with them.
 */
#ifndef TAUT_WIRE_MLD_H
#define TAUT_WIRE_MLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"

/* RFC 3810 section 5.2.12. Records have no sources: we join and leave whole groups. */
enum mld_record_type {
    MLD_MODE_IS_INCLUDE = 1,
    MLD_MODE_IS_EXCLUDE = 2,        /* current state: listening */
    MLD_CHANGE_TO_INCLUDE_MODE = 3, /* leave */
    MLD_CHANGE_TO_EXCLUDE_MODE = 4, /* join */
};

struct mld_record {
    uint8_t type; /* enum mld_record_type */
    struct ip_addr group;
};

#define MLD_REPORT_BYTES(n_records) (40 + 8 + 8 + 20 * (n_records))

/*
 * Writes a whole IPv6 packet to ff02::16: header (hop limit 1), hop-by-hop router alert (RFC 2711), version 2
 * report with its checksum. `src` is a link-local address or :: while there is none (RFC 3810
 * section 5.2.13). Returns its length, 0 if `room` is too small. The Ethernet destination is
 * 33:33:00:00:00:16.
 */
size_t mld_report_encode(const struct ip_addr *src, const struct mld_record *record, size_t n_records,
                         uint8_t *out, size_t room);

struct mld_query {
    uint8_t version;       /* 1 or 2 */
    bool general;          /* asks for every group */
    bool group_and_source; /* version 2 with sources: answer as if it asked for the group */
    bool suppress;         /* S flag: routers only */
    uint8_t robustness;    /* QRV, 0: unspecified */
    uint32_t max_delay_ms; /* answer after a random time up to this (RFC 3810 section 5.1.3) */
    uint32_t interval_s;   /* QQIC, version 2 (section 5.1.9) */
    struct ip_addr group;
};

enum mld_decode_result {
    MLD_DECODE_OK,
    MLD_DECODE_SHORT,
    MLD_DECODE_NOT_QUERY,
    MLD_DECODE_BAD_LENGTH,    /* 25 to 27 bytes (section 8.1), or sources behind the end */
    MLD_DECODE_BAD_GROUP,     /* neither :: nor multicast */
    MLD_DECODE_BAD_SOURCE,    /* not from a link-local address (section 5.1.14) */
    MLD_DECODE_BAD_HOP_LIMIT, /* not 1, or no router alert */
    MLD_DECODE_N
};

/* `bytes` begin with the ICMPv6 type; the checksum has been verified. ret is untouched unless OK. */
enum mld_decode_result mld_query_decode(const struct ip_addr *src, uint8_t hop_limit, bool router_alert,
                                        const uint8_t *bytes, size_t n, uint16_t scope,
                                        struct mld_query *ret);
const char *mld_decode_result_name(enum mld_decode_result r);

#endif
