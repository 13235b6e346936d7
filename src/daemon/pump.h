/*
 * daemon/pump.h: joins a struct sock to a local stream descriptor (a program's socketpair end, a backend's TCP or Unix
 * socket) and moves bytes both ways until both directions have ended.
 *
 * Back-pressure: bytes are read from the descriptor only into room that the send buffer has (sock_send_reserve + recv
 * straight into chunks), and written to it straight from the receive buffer (sock_recv_peek + sendmsg), consumed by
 * what the kernel took. Half-close is carried each way: EOF from the descriptor -> sock_shutdown(WR); end of stream
 * from the peer -> shutdown(fd, SHUT_WR). An error on one side becomes a reset of the other: the descriptor's error or
 * hang-up with bytes undelivered -> sock_abort(); the peer's reset -> the descriptor reads ECONNRESET (program's end:
 * poison byte, design section 6; backend over TCP: SO_LINGER 0).
 *
 * Ownership: the pump owns both the sock and the descriptor from pump_new() on and ends them. Writes to the descriptor
 * happen only in the second half of a turn (struct deferred); it is closed when the connection's end is committed.
 */
#ifndef TAUT_PUMP_H
#define TAUT_PUMP_H

#include "daemon/daemon.h"

struct pump;
struct link_slot; /* arena.h */

enum pump_end { PUMP_CLEAN, PUMP_PEER_RESET, PUMP_LOCAL_GONE, PUMP_LOCAL_ERROR, PUMP_ABORTED };

struct pump_params {
    bool poison;         /* fd is a program's end of ours and holds a poison byte (program.c) */
    const void *preface; /* written to the descriptor first (PROXY protocol header); copied */
    size_t preface_bytes;
    const char *owner;   /* for listings, "forward web", "program pid 123"; copied (63 characters); NULL: "" */
    /* What outlives the worker of this descriptor; NULL: the pump makes one. The pump's from pump_new() on; it frees it. */
    struct link_slot *link;
    bool restored; /* the link is a dead worker's: it knows what was moved, and perhaps how the descriptor is watched */
    /* Called once when the pump has ended, just before it is freed; may be NULL. */
    void (*ended)(void *user, enum pump_end how, int error);
    void *user;
};

/*
 * A program's end carries a poison byte: one byte that the program's side wrote before it was handed over and that stays
 * unread in our queue (the last byte read takes its place), so that our close() reads as ECONNRESET there; a clean end
 * consumes it first.
 *
 * NULL with errno set: out of memory or descriptors; then sock and fd are still the caller's. fd becomes
 * non-blocking.
 */
struct pump *pump_new(struct daemon *d, struct sock *s, int fd, const struct pump_params *params);
/* Resets both sides now. */
void pump_abort(struct pump *p, uint64_t now);
/*
 * The sock's side is to send FIN as soon as all that was written to the descriptor has been read (drain): the peer's
 * orderly end is never a lie. What is written behind the FIN is not read; a program's end reads ECONNRESET for it when
 * the pump ends. May end the pump.
 */
void pump_drain(struct pump *p, uint64_t now);

/* What the witnesses of a dead worker's link say (struct tcp_restore_hint). False: nothing. */
bool pump_hints(const struct link_slot *l, uint32_t *ret_write_seq, bool *ret_has_write, uint32_t *ret_copied_seq,
                bool *ret_has_read);
/* After a restore: what was told to the last worker is told no more, so it looks itself. May end the pump. */
void pump_look(struct pump *p, uint64_t now);

struct pump_info {
    tcp_id id;
    uint64_t bytes_in, bytes_out; /* from the peer to the descriptor; from the descriptor to the peer */
    uint64_t bytes_lost;          /* came from one side and could not be given to the other; it read an error */
    uint32_t undelivered;         /* bytes that wait for the descriptor to take them */
    bool local_eof, peer_eof;
};
void pump_get_info(const struct pump *p, struct pump_info *ret);

#endif
