/*
 * wire/tcp.h: a TCP segment as a value (RFC 9293 section 3.1), the form in which the engine takes and gives it.
 *
 * The engine sees only this struct: the stack decodes bytes into it and encodes it into bytes. A segment may be a
 * super-frame (gso_size > 0): one header for ceil(len / gso_size) segments that the kernel coalesced or will cut.
 */
#ifndef TAUT_WIRE_TCP_H
#define TAUT_WIRE_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ipaddr.h"

struct chunk;

enum tcp_flag {
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    TCP_URG = 0x20,
    TCP_ECE = 0x40,
    TCP_CWR = 0x80,
    TCP_AE = 0x100, /* AccECN, RFC 9768; was NS */
};

/* The ECN field of the IP header (RFC 3168). */
enum ip_ecn { IP_ECN_NOT_ECT = 0, IP_ECN_ECT1 = 1, IP_ECN_ECT0 = 2, IP_ECN_CE = 3 };

#define TCP_HEADER_BYTES 20
#define TCP_OPTIONS_MAX 40
#define TCP_SACK_BLOCKS_MAX 4
#define TCP_FASTOPEN_COOKIE_MAX 16
#define TCP_MD5_BYTES 16

struct tcp_sack_block {
    uint32_t start; /* first sequence number of the block */
    uint32_t end;   /* one behind its last */
};

/* Options present are told by the bits; values are in host order. */
struct tcp_options {
    bool mss_ok : 1;
    bool wscale_ok : 1;
    bool timestamps_ok : 1;
    bool sack_permitted : 1;
    bool fastopen_ok : 1;     /* option 34, or 254 with magic 0xF989 */
    bool fastopen_exp : 1;    /* it was the experimental one */
    bool md5_ok : 1;          /* option 19 (RFC 2385) */
    uint8_t wscale;           /* as received; > 14 is the engine's to clamp (RFC 7323 section 2.3) */
    uint8_t sack_count;       /* 0..4 */
    uint8_t fastopen_bytes;   /* cookie length; 0 is a cookie request */
    uint16_t mss;
    uint32_t tsval;
    uint32_t tsecr;
    struct tcp_sack_block sack[TCP_SACK_BLOCKS_MAX];
    uint8_t fastopen_cookie[TCP_FASTOPEN_COOKIE_MAX];
    uint8_t md5[TCP_MD5_BYTES];
};

/* A piece of payload. `chunk` is what holds it (so that a receiver can adopt it by reference), or NULL. */
struct tcp_slice {
    const uint8_t *data;
    uint32_t len;
    struct chunk *chunk;
};

/* Enough for 64 KiB in chunks of 32 KiB and 2 KiB, badly aligned, and for small chunks up to the same count. */
#define TCP_SLICES_MAX 40

struct tcp_seg {
    struct ip_addr src;
    struct ip_addr dst;
    uint16_t src_port;
    uint16_t dst_port;
    uint32_t seq;
    uint32_t ack;
    uint16_t wnd;      /* as on the wire, unscaled */
    uint16_t urg_ptr;
    uint16_t flags;    /* enum tcp_flag */
    uint8_t ecn;       /* enum ip_ecn of the IP header */
    uint8_t tos;       /* DSCP << 2 of the IP header, without the ECN bits */
    uint8_t ttl;       /* hop limit */
    uint8_t offset;    /* byte 12 of the header as received: data offset, reserved bits, AE; 0: as encoding will have it */
    uint16_t gso_size; /* payload bytes per segment of a super-frame, 0: a single segment */
    uint32_t len;      /* payload bytes = sum of the slices */
    uint16_t n_slices;
    struct tcp_options opt;
    struct tcp_slice slice[TCP_SLICES_MAX];
};

/* Sequence space that a segment occupies (SEG.LEN of the RFC: SYN and FIN count). */
static inline uint32_t tcp_seg_seq_len(const struct tcp_seg *seg)
{
    return seg->len + ((seg->flags & TCP_SYN) ? 1u : 0u) + ((seg->flags & TCP_FIN) ? 1u : 0u);
}

/*
 * One step over an option list: reads the option at *pos of `n` bytes (n <= 40), applies it to ret, advances *pos.
 * False at the end of the list or where the rest is malformed (*bad is set then; what was read before stands, as in
 * Linux). Invariant: *pos <= n, and it grows with each true.
 */
bool tcp_option_step(const uint8_t *bytes, size_t n, size_t *pos, bool is_syn, struct tcp_options *ret, bool *bad);

/* All options; returns false if the list was malformed (counted by the caller, the segment still stands). */
bool tcp_options_decode(const uint8_t *bytes, size_t n, bool is_syn, struct tcp_options *ret);

/*
 * Writes options in Linux's order and padding, returns their length (a multiple of 4, <= 40):
 * MD5; MSS, SACK-permitted, timestamps, window scale on SYNs (SACK-permitted fills the timestamps' padding); then SACK
 * blocks (as many as fit), Fast Open.
 */
size_t tcp_options_encode(const struct tcp_options *opt, bool is_syn, uint8_t out[TCP_OPTIONS_MAX]);
/* The length that tcp_options_encode() would return. */
size_t tcp_options_bytes(const struct tcp_options *opt, bool is_syn);

enum tcp_decode_result { TCP_DECODE_OK, TCP_DECODE_SHORT, TCP_DECODE_BAD_OFFSET, TCP_DECODE_BAD_OPTIONS };

/*
 * Decodes header and options from `n` contiguous bytes (the header must lie in them whole; payload need not). Sets
 * ports, seq, ack, wnd, urg_ptr, flags, offset, opt; addresses, ecn, len and slices are the caller's. *ret_header_bytes is the
 * data offset. BAD_OPTIONS: the segment is usable, options up to the bad one are set.
 */
enum tcp_decode_result tcp_header_decode(const uint8_t *bytes, size_t n, struct tcp_seg *ret,
                                         size_t *ret_header_bytes);
/* Writes header and options with a zero checksum field; returns the header's length (20..60). */
size_t tcp_header_encode(const struct tcp_seg *seg, uint8_t out[TCP_HEADER_BYTES + TCP_OPTIONS_MAX]);

/*
 * What TCP-MD5 signs before the payload (RFC 2385 section 2.0): pseudo-header, then the header without options and with
 * checksum zero. Returns the bytes written.
 */
#define TCP_SIGNED_BYTES_MAX (40 + TCP_HEADER_BYTES)
size_t tcp_signed_header(const struct tcp_seg *seg, uint8_t out[TCP_SIGNED_BYTES_MAX]);

#endif
