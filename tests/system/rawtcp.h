/*
 * tests/system/rawtcp.h: what the makers of raw IPv4 frames (synflood, manyconns) share: both checksums.
 */
#ifndef TAUT_TESTS_RAWTCP_H
#define TAUT_TESTS_RAWTCP_H

#include <netinet/in.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/csum.h"

/* The IPv4 header without options at `ip`, and the `bytes` of TCP at `tcp`, are whole but for their checksums. */
static inline void rawtcp_seal(uint8_t *ip, uint8_t *tcp, uint16_t bytes)
{
    uint8_t pseudo[12] = {[9] = IPPROTO_TCP};

    memcpy(pseudo, ip + 12, 8);
    put_be16(pseudo + 10, bytes);
    put_be16(ip + 10, 0);
    put_be16(ip + 10, csum_fold(csum_partial(ip, 20, 0)));
    put_be16(tcp + 16, 0);
    put_be16(tcp + 16, csum_fold(csum_partial(tcp, bytes, csum_partial(pseudo, sizeof pseudo, 0))));
}

#endif
