/*
 * tcp/tcp_trace.h: the flight recorder as its readers see it: which records there are, and their bytes.
 *
 * A record is the ring of a connection, of a connection that ended badly (a "black box": kept though the connection is
 * gone), or of what belongs to no connection. Its events are numbered from 0; the oldest are overwritten. Readers copy
 * a head and events (tcp_events.h) out; nothing they do changes a record, so any number of them may follow one.
 * Memory is the pool given by tcp_params.trace_bytes, and no more.
 */
#ifndef TAUT_TCP_TRACE_H
#define TAUT_TCP_TRACE_H

#include "tcp/tcp.h"
#include "tcp/tcp_events.h"

#define TCP_TRACE_ENGINE 0u /* the name of what belongs to no connection */

struct tcp_trace_row {
    uint64_t id;   /* of the connection; TCP_TRACE_ENGINE */
    uint8_t kind;  /* enum tcp_rec_kind */
    uint8_t end;   /* enum tcp_rec_end, of a black box */
    int error;     /* errno that ended it */
    struct ip_tuple tuple; /* family 0: none */
    uint64_t first_event, next_event;
    uint64_t begun_at, last_at; /* ns */
    uint32_t bytes; /* of the pool */
    uint64_t serial; /* black boxes and stalled connections count from 1; 0: neither */
};
/* The next record at or behind place *inout_at (0 at first), which moves on; false: no more. */
bool tcp_trace_next(const struct tcp *t, uint32_t *inout_at, struct tcp_trace_row *ret);
/* Black boxes made so far, and stalls of connections that live (those rows have a serial, too): a shell that sees it grow
 * has something to write down. */
uint64_t tcp_trace_boxes(const struct tcp *t);

/*
 * The head of a record: of the connection, else of the newest black box of that id. event_bytes is 0, first_event and
 * next_event are where the record begins and ends now: the caller fills in what it read. 0, or -ENOENT: there is none.
 */
int tcp_trace_head(const struct tcp *t, uint64_t id, uint64_t now, struct tcp_rec_head *ret);
/*
 * Copies whole events, from number *inout_event on (0: from the beginning), which moves on behind the last one copied;
 * *ret_lost: how many of those asked for are gone. Returns bytes; 0: no more now; -ENOENT: there is no such record.
 */
int64_t tcp_trace_read(const struct tcp *t, uint64_t id, uint64_t *inout_event, void *buf, size_t room,
                       uint64_t *ret_lost);
/* CONFIG events for what is not the default: what a replay needs to know. Bytes, of at most `room`. */
size_t tcp_trace_config(const struct tcp *t, void *buf, size_t room);
/*
 * Head, CONFIG events and events of a record as one section of at most `room` bytes, the newest events where not all
 * fit. Bytes, -ENOENT, or -EMSGSIZE.
 */
int64_t tcp_trace_dump(const struct tcp *t, uint64_t id, uint64_t now, uint64_t wall_ns, void *buf, size_t room);

struct tcp_trace_totals {
    uint64_t pool_bytes, used_bytes;
    uint64_t events, stolen_rings, stolen_pages, boxes; /* since the start; boxes: made */
    uint32_t rings;
};
void tcp_trace_totals(const struct tcp *t, struct tcp_trace_totals *ret);

/* The stack's part of what belongs to no connection; a no-op without a recorder. */
void tcp_trace_reply(struct tcp *t, enum tcp_rec_reply what, const char *name, const struct ip_addr *local,
                     const struct ip_addr *remote, uint64_t now);

#endif
