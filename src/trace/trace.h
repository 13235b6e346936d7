/*
 * trace/trace.h: records of the flight recorder, read: what `taut trace` shows and exporters begin with.
 *
 * A trace is a piece of memory with the bytes of a dump: a section (head and events), or several. trace_open() checks
 * it; a cursor walks over its events, decoded (union tcp_rec_event of tcp/tcp_events.h). The text of an event is one
 * line or more, in packetdrill's notation. Pure: no system call; the bytes stay the caller's and must outlive the trace.
 */
#ifndef TAUT_TRACE_TRACE_H
#define TAUT_TRACE_TRACE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcp/tcp_events.h"
#include "wire/tcp.h"

struct trace {
    struct tcp_rec_head head;
    const uint8_t *events;
    size_t bytes;
    uint64_t zero; /* ns: where its time begins */
};

/*
 * The first section of `n` bytes; *ret_used: its length, where the next one begins. 0, or -errno as
 * tcp_rec_decode_head() with a sentence in *ret_error.
 */
int trace_open(const void *bytes, size_t n, struct trace *ret, size_t *ret_used, const char **ret_error);
/*
 * What base64 (RFC 4648 section 4) stands for, as trace.get gives sections: into `to`, which has room for 3 bytes where
 * the text has 4, and may be the text itself. Bytes, or -1: it is none.
 */
ptrdiff_t trace_base64(const char *text, uint8_t *to);

/*
 * Makes one section of the first sections of `n` bytes that are of one record, in their place: the last head, the
 * configuration that the first one brought, all the events. Where one does not go on where the one before ended (a ring
 * was overwritten while it was read) the section begins with it: what came before is lost. *ret_used: how much was taken;
 * *ret_bytes: length of the section. As trace_open().
 */
int trace_join(void *bytes, size_t n, size_t *ret_used, size_t *ret_bytes, const char **ret_error);

struct trace_event {
    union tcp_rec_event e;
    struct tcp_rec_tuple tuple; /* family 0: the connection's */
    uint64_t number;            /* first_event + its place; of CONFIG events 0 */
    enum tcp_rec_type type;
};
/* Begin with a zeroed cursor. 1: an event; 0: the end; -EBADMSG: damaged from here on. */
struct trace_cursor {
    size_t pos;
    uint64_t number;
};
int trace_next(const struct trace *tr, struct trace_cursor *cursor, struct trace_event *ret);

/* ns since the record's zero: the connection's beginning, or its first event if that is earlier (a handshake). */
int64_t trace_time(const struct trace *tr, uint64_t at);
/* A segment event as a segment, without payload (slice[0].data NULL). */
void trace_seg(const struct tcp_ev_seg *e, struct tcp_seg *ret);
/* Sequence numbers of a segment event relative to their ISN: base of seq and of ack. */
void trace_bases(const struct trace *tr, const struct trace_event *ev, uint32_t *ret_seq, uint32_t *ret_ack);
/* "192.0.2.1:80", "[fd00::1]:80" */
char *trace_addr_text(const uint8_t b[16], unsigned family, uint16_t port, char buf[IP_ADDR_PORT_MAX]);

/* Text that grows; begin zeroed. `failed` once memory ran out. */
struct trace_text {
    char *at;
    size_t len, room;
    bool failed;
};
void trace_print(struct trace_text *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace_put(struct trace_text *out, const void *bytes, size_t n); /* as they are */
void trace_text_free(struct trace_text *out);

/* What goes before a record's story: who, when, what is lost. */
void trace_story_head(const struct trace *tr, struct trace_text *out);
/* One event, as lines with a line feed each. `state` (zeroed at first) remembers what the lines before said. */
struct trace_story {
    uint64_t last_at;
    bool began;
};
void trace_story_event(const struct trace *tr, const struct trace_event *ev, struct trace_story *state,
                       struct trace_text *out);
/* What an ACK changed, "acked 1000 bytes (1): cwnd 11, ..."; no line feed. */
void trace_ack_text(const struct tcp_ev_ack *a, struct trace_text *out);
/* One event as a JSON object, by the tables of tcp_events.h; and a head. No line feed. */
void trace_json_event(const struct trace *tr, const struct trace_event *ev, struct trace_text *out);
void trace_json_head(const struct trace *tr, struct trace_text *out);
/* At most n characters, up to a NUL, as a JSON string. */
void trace_json_text(struct trace_text *out, const char *s, size_t n);
/* The tables of docs/trace-format.md. */
void trace_describe(struct trace_text *out);

/*
 * A packetdrill script that replays the record. 0, or -errno with a sentence in *ret_error: -ENODATA its beginning is
 * lost.
 */
int trace_packetdrill(const struct trace *tr, struct trace_text *out, const char **ret_error);

#endif
