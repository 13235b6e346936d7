/*
 * tcp/isn.c: initial sequence numbers and timestamp offsets (RFC 6528; RFC 7323 section 5.4).
 *
 *     ISN = M + F(tuple, secret)      M: a clock of 64 ns ticks, F: SipHash
 *     timestamp offset = F(addresses, another secret)
 *
 * The ISN of one tuple so grows with time, whoever looks from elsewhere learns nothing of it. The offset is
 * without ports, so that timestamps between two hosts grow over connections (TIME-WAIT and RFC 6191 rely on
 * it). Pure.
 */
#include "tcp/tcp_priv.h"

static_assert(sizeof(struct ip_tuple) == 44, "a tuple is hashed as bytes and has no padding");

uint32_t tcp_isn(const struct tcp *t, const struct ip_tuple *tuple, uint64_t now)
{
    return (uint32_t)siphash(&t->secrets.isn, tuple, sizeof *tuple) + (uint32_t)(now >> 6);
}

uint32_t tcp_ts_offset(const struct tcp *t, const struct ip_tuple *tuple)
{
    struct ip_addr pair[2] = {tuple->local, tuple->remote};

    if (t->config->tcp_timestamps != 1)
        return 0;
    return (uint32_t)siphash(&t->secrets.ts_offset, pair, sizeof pair);
}
