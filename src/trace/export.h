/*
 * trace/export.h: records for other programs: pcapng for Wireshark and its kin, JSON-SEQ in the manner of qlog.
 *
 * Pure as trace.h: text and bytes grow in a struct trace_text, which `failed` tells that memory ran out.
 */
#ifndef TAUT_TRACE_EXPORT_H
#define TAUT_TRACE_EXPORT_H

#include "trace/trace.h"

enum pcapng_direction { PCAPNG_NO_DIRECTION = 0, PCAPNG_IN = 1, PCAPNG_OUT = 2 };
enum { PCAP_LINK_ETHERNET = 1, PCAP_LINK_RAW = 101, PCAP_LINK_SLL = 113, PCAP_LINK_SLL2 = 276 };

/* A section header and one interface with nanoseconds. snaplen 0: no limit. */
void pcapng_begin(struct trace_text *out, const char *app, const char *if_name, const char *if_text, unsigned link_type,
                  uint32_t snaplen);
/* A packet of `original` bytes of which `captured` are there. comment NULL: none. */
void pcapng_packet(struct trace_text *out, uint64_t ns, const uint8_t *bytes, uint32_t captured, uint32_t original,
                   enum pcapng_direction direction, const char *comment, size_t comment_bytes);
/* How many packets came, and how many of them are missing here. */
void pcapng_statistics(struct trace_text *out, uint64_t ns, uint64_t received, uint64_t dropped);

/*
 * The packets of a record, rebuilt: headers as they were on the wire, payload missing (its length is in the original
 * length). Super-frames are told as their segments. Each has a comment: cause or verdict, and what its ACK changed.
 * `app`: "taut 1.0". trace_pcapng() adds the packets to what pcapng_begin() began.
 */
void trace_pcapng_begin(const struct trace *tr, const char *app, struct trace_text *out);
int trace_pcapng(const struct trace *tr, struct trace_text *out);

/*
 * An Ethernet frame as it would be on the wire: completes the checksum that `vnet` (a virtio-net header of vnet_bytes, or 0)
 * leaves to the device. frame is whole.
 */
void trace_frame_finish(uint8_t *frame, size_t n, const uint8_t *vnet, unsigned vnet_bytes);
/* A TCP segment from or to these (host NULL: any; port 0: any). */
bool trace_frame_matches(const uint8_t *frame, size_t n, const struct ip_addr *host, uint16_t port);

/* The record as JSON text sequences (RFC 7464), docs/qlog.md. 0, or -EBADMSG: damaged; what came before is there. */
void trace_qlog_begin(const struct trace *tr, const char *app, struct trace_text *out);
int trace_qlog(const struct trace *tr, struct trace_text *out);

#endif
