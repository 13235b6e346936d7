/*
 * wire/tcp.c: TCP header and options (RFC 9293 section 3.1 and 3.2), read and written as Linux does.
 *
 * Reading is one step function: each call consumes one option, or says that nothing more can be read. Options
 * of a known kind with a wrong length are skipped as unknown ones are. Writing computes nothing about the
 * connection; what does not fit 40 bytes is left out (SACK blocks first, as they come last).
 */
#include "wire/tcp.h"

#include <assert.h>
#include <string.h>
#include "wire/bytes.h"
#include "wire/ipv4.h"

enum tcp_option_kind {
    TCPOPT_END = 0,
    TCPOPT_NO_OP = 1,
    TCPOPT_MAX_SEG = 2,
    TCPOPT_WSCALE = 3,
    TCPOPT_SACK_PERM = 4,
    TCPOPT_SACK_BLOCKS = 5,
    TCPOPT_TIMESTAMPS = 8,
    TCPOPT_MD5_SIG = 19,
    TCPOPT_FASTOPEN_COOKIE = 34,
    TCPOPT_EXPERIMENT = 254,
};

enum { FASTOPEN_MAGIC = 0xf989, FASTOPEN_COOKIE_MIN = 4 };

static_assert(TCP_FASTOPEN_COOKIE_MAX == 16, "RFC 7413 section 4.1.1: 4 to 16 bytes");

/* RFC 7413 section 4.1.1; as Linux: an odd or impossible length is as if the option were not there. */
static void read_fastopen(const uint8_t *cookie, size_t n, bool exp, struct tcp_options *ret)
{
    if (n && (n < FASTOPEN_COOKIE_MIN || n > TCP_FASTOPEN_COOKIE_MAX || n % 2))
        return;
    ret->fastopen_ok = true;
    ret->fastopen_exp = exp;
    ret->fastopen_bytes = (uint8_t)n;
    memcpy(ret->fastopen_cookie, cookie, n);
}

/* RFC 2018 section 3. */
static void read_sack(const uint8_t *blocks, size_t n, struct tcp_options *ret)
{
    if (n < 8 || n % 8)
        return;
    ret->sack_count = 0;
    for (size_t i = 0; i + 8 <= n && ret->sack_count < TCP_SACK_BLOCKS_MAX; i += 8)
        ret->sack[ret->sack_count++] =
            (struct tcp_sack_block){.start = get_be32(blocks + i), .end = get_be32(blocks + i + 4)};
}

/* Options that count only on a SYN; `body` are the `n` bytes behind kind and length. */
static void read_syn_option(uint8_t kind, const uint8_t *body, size_t n, struct tcp_options *ret)
{
    if (kind == TCPOPT_MAX_SEG && n == 2 && get_be16(body)) {
        ret->mss_ok = true;
        ret->mss = get_be16(body);
    } else if (kind == TCPOPT_WSCALE && n == 1) {
        ret->wscale_ok = true;
        ret->wscale = body[0];
    } else if (kind == TCPOPT_SACK_PERM && n == 0) {
        ret->sack_permitted = true;
    } else if (kind == TCPOPT_FASTOPEN_COOKIE) {
        read_fastopen(body, n, false, ret);
    } else if (kind == TCPOPT_EXPERIMENT && n >= 2 && get_be16(body) == FASTOPEN_MAGIC) {
        read_fastopen(body + 2, n - 2, true, ret);
    }
}

static void read_option(uint8_t kind, const uint8_t *body, size_t n, bool is_syn, struct tcp_options *ret)
{
    if (kind == TCPOPT_TIMESTAMPS && n == 8) { /* RFC 7323 section 3.2 */
        ret->timestamps_ok = true;
        ret->tsval = get_be32(body);
        ret->tsecr = get_be32(body + 4);
    } else if (kind == TCPOPT_MD5_SIG && n == TCP_MD5_BYTES) { /* RFC 2385 section 2.0 */
        ret->md5_ok = true;
        memcpy(ret->md5, body, TCP_MD5_BYTES);
    } else if (is_syn) {
        read_syn_option(kind, body, n, ret);
    } else if (kind == TCPOPT_SACK_BLOCKS) {
        read_sack(body, n, ret);
    }
}

bool tcp_option_step(const uint8_t *bytes, size_t n, size_t *pos, bool is_syn, struct tcp_options *ret,
                     bool *bad)
{
    size_t at = *pos;
    uint8_t length;

    if (at >= n || bytes[at] == TCPOPT_END)
        return false;
    if (bytes[at] == TCPOPT_NO_OP) {
        *pos = at + 1;
        return true;
    }
    /* RFC 9293 section 3.2 (MUST-7): be ready for an illegal length; the rest can't be told apart from
     * garbage. */
    length = n - at < 2 ? 0 : bytes[at + 1];
    if (length < 2 || length > n - at) {
        *bad = true;
        return false;
    }
    read_option(bytes[at], bytes + at + 2, length - (size_t)2, is_syn, ret);
    *pos = at + length;
    return true;
}

bool tcp_options_decode(const uint8_t *bytes, size_t n, bool is_syn, struct tcp_options *ret)
{
    size_t pos = 0;
    bool bad = false;

    memset(ret, 0, sizeof *ret);
    while (tcp_option_step(bytes, n, &pos, is_syn, ret, &bad))
        ;
    return !bad;
}

/* An option list under construction; what would not fit is not begun. */
struct writer {
    uint8_t *out;
    size_t n;
};

static bool fits(const struct writer *w, size_t bytes)
{
    return TCP_OPTIONS_MAX - w->n >= bytes;
}

static void put8(struct writer *w, uint8_t v)
{
    w->out[w->n++] = v;
}

static void put32(struct writer *w, uint32_t v)
{
    put_be32(w->out + w->n, v);
    w->n += 4;
}

static void put_bytes(struct writer *w, const uint8_t *bytes, size_t n)
{
    memcpy(w->out + w->n, bytes, n);
    w->n += n;
}

/* An option's kind and length, with `nops` no-operations before them. */
static void put_head(struct writer *w, unsigned nops, uint8_t kind, size_t length)
{
    while (nops--)
        put8(w, TCPOPT_NO_OP);
    put8(w, kind);
    put8(w, (uint8_t)length);
}

static void write_md5(struct writer *w, const struct tcp_options *opt)
{
    put_head(w, 2, TCPOPT_MD5_SIG, 2 + TCP_MD5_BYTES);
    put_bytes(w, opt->md5, TCP_MD5_BYTES);
}

static void write_timestamps(struct writer *w, const struct tcp_options *opt, bool sack_permitted)
{
    if (sack_permitted)
        put_head(w, 0, TCPOPT_SACK_PERM, 2);
    put_head(w, sack_permitted ? 0 : 2, TCPOPT_TIMESTAMPS, 10);
    put32(w, opt->tsval);
    put32(w, opt->tsecr);
}

static void write_sack(struct writer *w, const struct tcp_options *opt)
{
    size_t count = opt->sack_count < TCP_SACK_BLOCKS_MAX ? opt->sack_count : TCP_SACK_BLOCKS_MAX;

    while (count && !fits(w, 4 + 8 * count))
        count--;
    if (!count)
        return;
    put_head(w, 2, TCPOPT_SACK_BLOCKS, 2 + 8 * count);
    for (size_t i = 0; i < count; i++) {
        put32(w, opt->sack[i].start);
        put32(w, opt->sack[i].end);
    }
}

/* Aligned with no-operations behind it (Linux pads here at the end). */
static void write_fastopen(struct writer *w, const struct tcp_options *opt)
{
    size_t cookie =
        opt->fastopen_bytes < TCP_FASTOPEN_COOKIE_MAX ? opt->fastopen_bytes : TCP_FASTOPEN_COOKIE_MAX;
    size_t length = (opt->fastopen_exp ? 4 : 2) + cookie;

    if (!fits(w, (length + 3) / 4 * 4))
        return;
    put_head(w, 0, opt->fastopen_exp ? TCPOPT_EXPERIMENT : TCPOPT_FASTOPEN_COOKIE, length);
    if (opt->fastopen_exp) {
        put8(w, FASTOPEN_MAGIC >> 8);
        put8(w, FASTOPEN_MAGIC & 0xff);
    }
    put_bytes(w, opt->fastopen_cookie, cookie);
    while (w->n % 4)
        put8(w, TCPOPT_NO_OP);
}

size_t tcp_options_encode(const struct tcp_options *opt, bool is_syn, uint8_t out[TCP_OPTIONS_MAX])
{
    struct writer w = {.out = out};
    bool sack_permitted = is_syn && opt->sack_permitted;

    if (opt->md5_ok)
        write_md5(&w, opt);
    if (is_syn && opt->mss_ok) {
        put_head(&w, 0, TCPOPT_MAX_SEG, 4);
        put8(&w, (uint8_t)(opt->mss >> 8));
        put8(&w, (uint8_t)opt->mss);
    }
    if (opt->timestamps_ok)
        write_timestamps(&w, opt, sack_permitted);
    else if (sack_permitted)
        put_head(&w, 2, TCPOPT_SACK_PERM, 2);
    if (is_syn && opt->wscale_ok) {
        put_head(&w, 1, TCPOPT_WSCALE, 3);
        put8(&w, opt->wscale);
    }
    /* The fixed ones come to 20 + 4 + 12 + 4 = 40 bytes at most. */
    assert(w.n <= TCP_OPTIONS_MAX);
    if (!is_syn && opt->sack_count)
        write_sack(&w, opt);
    if (is_syn && opt->fastopen_ok)
        write_fastopen(&w, opt);
    assert(w.n % 4 == 0 && w.n <= TCP_OPTIONS_MAX);
    return w.n;
}

size_t tcp_options_bytes(const struct tcp_options *opt, bool is_syn)
{
    uint8_t scratch[TCP_OPTIONS_MAX];

    return tcp_options_encode(opt, is_syn, scratch);
}

enum tcp_decode_result tcp_header_decode(const uint8_t *bytes, size_t n, struct tcp_seg *ret,
                                         size_t *ret_header_bytes)
{
    uint16_t offset_flags;
    size_t header_bytes;
    bool intact;

    if (n < TCP_HEADER_BYTES)
        return TCP_DECODE_SHORT;
    offset_flags = get_be16(bytes + 12);
    header_bytes = (size_t)(offset_flags >> 12) * 4;
    if (header_bytes < TCP_HEADER_BYTES)
        return TCP_DECODE_BAD_OFFSET;
    if (header_bytes > n)
        return TCP_DECODE_SHORT;
    ret->src_port = get_be16(bytes);
    ret->dst_port = get_be16(bytes + 2);
    ret->seq = get_be32(bytes + 4);
    ret->ack = get_be32(bytes + 8);
    ret->flags = offset_flags & 0x1ff;
    ret->offset = (uint8_t)(offset_flags >> 8);
    ret->wnd = get_be16(bytes + 14);
    ret->urg_ptr = get_be16(bytes + 18);
    intact = tcp_options_decode(bytes + TCP_HEADER_BYTES, header_bytes - TCP_HEADER_BYTES,
                                ret->flags & TCP_SYN, &ret->opt);
    *ret_header_bytes = header_bytes;
    return intact ? TCP_DECODE_OK : TCP_DECODE_BAD_OPTIONS;
}

/* The 20 bytes without options, of a header that is `n` bytes long. */
static void put_header(const struct tcp_seg *seg, size_t n, uint8_t out[TCP_HEADER_BYTES])
{
    put_be16(out, seg->src_port);
    put_be16(out + 2, seg->dst_port);
    put_be32(out + 4, seg->seq);
    put_be32(out + 8, seg->ack);
    put_be16(out + 12, (uint16_t)(n / 4 << 12 | (seg->flags & 0x1ff)));
    put_be16(out + 14, seg->wnd);
    put_be16(out + 16, 0);
    put_be16(out + 18, seg->urg_ptr);
}

size_t tcp_header_encode(const struct tcp_seg *seg, uint8_t out[TCP_HEADER_BYTES + TCP_OPTIONS_MAX])
{
    size_t n = TCP_HEADER_BYTES + tcp_options_encode(&seg->opt, seg->flags & TCP_SYN, out + TCP_HEADER_BYTES);

    put_header(seg, n, out);
    return n;
}

/* RFC 2385 section 2.0, item 1; RFC 8200 section 8.1 for IPv6. The length is that of header, options and payload. */
static size_t put_pseudo_header(const struct tcp_seg *seg, size_t tcp_bytes, uint8_t *out)
{
    if (seg->src.family == IP_V6) {
        memcpy(out, seg->src.b, 16);
        memcpy(out + 16, seg->dst.b, 16);
        put_be32(out + 32, (uint32_t)tcp_bytes);
        put_be32(out + 36, IP_PROTO_TCP);
        return 40;
    }
    memcpy(out, seg->src.b, 4);
    memcpy(out + 4, seg->dst.b, 4);
    put_be16(out + 8, IP_PROTO_TCP);
    put_be16(out + 10, (uint16_t)tcp_bytes);
    return 12;
}

size_t tcp_signed_header(const struct tcp_seg *seg, uint8_t out[TCP_SIGNED_BYTES_MAX])
{
    size_t n = TCP_HEADER_BYTES + tcp_options_bytes(&seg->opt, seg->flags & TCP_SYN), at;

    if (seg->offset)
        n = (size_t)(seg->offset >> 4) * 4;
    at = put_pseudo_header(seg, n + seg->len, out);
    put_header(seg, n, out + at);
    if (seg->offset)
        out[at + 12] = seg->offset; /* reserved bits as they came */
    return at + TCP_HEADER_BYTES;
}
