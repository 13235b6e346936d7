/*
 * wire/text.h: a TCP segment as text in packetdrill's notation, shared by logs, traces and tests:
 *
 *     S 0:0(0) win 65535 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7>
 *     P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 2 ecr 1>
 *     . 1:1(0) ack 1 win 257 <nop,nop,sack 1001:2001 3001:4001>
 *
 * Flags: F S R P . U E W A ('.' is ACK, 'E' ECE, 'W' CWR, 'A' AE), or '-' for none. Sequence numbers are
 * relative: seq to seq_base (the sender's ISN), ack and SACK blocks to ack_base (the other side's ISN). The
 * second number of the range is seq + payload length, as tcpdump has it: SYN and FIN are not counted. Windows
 * are unscaled.
 */
#ifndef TAUT_WIRE_TEXT_H
#define TAUT_WIRE_TEXT_H

#include "wire/tcp.h"

#define TEXT_SEG_MAX 320 /* holds every segment's text and its NUL */

/*
 * Writes the text and a NUL into buf[n], cut off if it does not fit (n > 0); returns buf. Options appear with
 * the order and padding in which tcp_options_encode() writes them. ack_base has no meaning without ACK.
 */
char *text_format_seg(const struct tcp_seg *seg, uint32_t seq_base, uint32_t ack_base, char *buf, size_t n);

/*
 * Reads the same notation. ret gets everything but addresses, ports, ecn, tos, ttl (zero); payload is one
 * slice with data NULL. "win" may be missing (0), "ack" too if the flags lack '.'; "urg N" sets urg_ptr;
 * "nop" and "eol" are skipped; "FO", "FO hex", "FOEXP hex" are Fast Open; "md5 hex" and "md5" (a digest of zeros) are
 * TCP-MD5. On failure ret is untouched and *ret_error (if not NULL) names the reason.
 */
bool text_parse_seg(const char *text, uint32_t seq_base, uint32_t ack_base, struct tcp_seg *ret,
                    const char **ret_error);

#endif
