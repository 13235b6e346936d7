/*
 * wire/csum.c: the Internet checksum (RFC 1071).
 *
 * Sums are taken 64 bits at a time in four independent chains of add-with-carry, in the machine's byte order;
 * ones'-complement addition is associative and byte order falls out at the end (RFC 1071 section 2 (A),
 * (B)). Pure.
 */
#include "wire/csum.h"

#include <string.h>
#include "wire/bytes.h"
#include "wire/ipv4.h"
#include "wire/tcp.h"

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t add64(uint64_t a, uint64_t b)
{
    uint64_t r;
    bool carry = __builtin_add_overflow(a, b, &r);

    return r + carry;
}

static uint32_t fold64(uint64_t sum)
{
    return csum_add((uint32_t)(sum >> 32), (uint32_t)sum);
}

uint32_t csum_partial(const void *data, size_t bytes, uint32_t seed)
{
    const uint8_t *p = data;
    uint64_t a = seed;
    uint64_t b = 0;
    uint64_t c = 0;
    uint64_t d = 0;
    uint64_t tail = 0;

    for (; bytes >= 32; p += 32, bytes -= 32) {
        a = add64(a, load64(p));
        b = add64(b, load64(p + 8));
        c = add64(c, load64(p + 16));
        d = add64(d, load64(p + 24));
    }
    for (; bytes >= 8; p += 8, bytes -= 8)
        a = add64(a, load64(p));
    if (bytes) {
        /* RFC 1071 section 4.1: an odd end is padded with zero; zero words add nothing. */
        memcpy(&tail, p, bytes);
        b = add64(b, tail);
    }
    return fold64(add64(add64(a, b), add64(c, d)));
}

uint16_t csum_fold_plain(uint32_t sum)
{
    uint16_t native;
    uint8_t be[2];

    sum = (sum >> 16) + (sum & 0xffff);
    sum += sum >> 16;
    native = (uint16_t)sum;
    memcpy(be, &native, sizeof be);
    return get_be16(be);
}

uint16_t csum_fold(uint32_t sum)
{
    return (uint16_t)~csum_fold_plain(sum);
}

/* Both families' pseudo-headers have the same words in another order: addresses, zero, protocol, length. */
uint32_t csum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t bytes)
{
    size_t n = src->family == IP_V4 ? 4 : 16;
    uint8_t rest[8] = {0};

    put_be32(rest, bytes);
    rest[7] = proto;
    return csum_partial(dst->b, n, csum_partial(src->b, n, csum_partial(rest, sizeof rest, 0)));
}

uint32_t csum_slices(const struct tcp_slice *slice, size_t n, uint32_t seed)
{
    size_t offset = 0;

    for (size_t i = 0; i < n; i++) {
        seed = csum_add_at(seed, csum_partial(slice[i].data, slice[i].len, 0), offset);
        offset += slice[i].len;
    }
    return seed;
}

uint16_t csum_tcp(const struct ip_addr *src, const struct ip_addr *dst, const uint8_t *header,
                  size_t header_bytes, const struct tcp_slice *slice, size_t n_slices)
{
    size_t bytes = header_bytes;
    uint32_t sum;

    for (size_t i = 0; i < n_slices; i++)
        bytes += slice[i].len;
    sum = csum_pseudo(src, dst, IP_PROTO_TCP, (uint32_t)bytes);
    sum = csum_partial(header, header_bytes, sum);
    return csum_fold(csum_slices(slice, n_slices, sum));
}

/* RFC 1624 section 3, equation 3: HC' = ~(~HC + ~m + m'). */
uint16_t csum_update16(uint16_t field, uint16_t old_word, uint16_t new_word)
{
    uint32_t sum = (uint32_t)(uint16_t)~field + (uint16_t)~old_word + new_word;

    sum = (sum >> 16) + (sum & 0xffff);
    sum += sum >> 16;
    return (uint16_t)~sum;
}
