/*
 * tcp/tcp_events.h: what the flight recorder writes: the format of events, and of the head that goes before them.
 *
 * ONE description for writer, reader, JSON and docs/trace-format.md: each type of event is a row of TCP_REC_TYPES, each
 * of its fields a row of a TCP_REC_xxx(F) list; the structs below, the tables of tcp_rec_type() and everything that
 * reads them are made of these.
 *
 *     section = head (struct tcp_rec_head) events        a dump is one section or several, one behind the other
 *     event   = header of 16 bytes, fields               8 * words bytes in all
 *
 * An event is cut off behind its last field that says something: a reader takes what is missing as 0, skips what is
 * behind the fields it knows, and skips types it doesn't know. So fields and types may be added at the end without
 * another version. Numbers have the byte order of the machine that wrote them (head.byte_order tells); there are no
 * pointers.
 */
#ifndef TAUT_TCP_EVENTS_H
#define TAUT_TCP_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_REC_MAGIC      "TAUTREC1"
#define TCP_REC_VERSION    1u
#define TCP_REC_BYTE_ORDER 0x01020304u

/* The header of each event. */
struct tcp_rec_hdr {
    uint64_t at;   /* ns, CLOCK_MONOTONIC of the engine */
    uint8_t type;  /* enum tcp_rec_type */
    uint8_t code;  /* by type: a cause, a reason, a state, ... (TCP_REC_TYPES) */
    uint8_t flags; /* enum tcp_rec_flag */
    uint8_t words; /* length of the event in 8 bytes, with this header: 2 or more */
    uint32_t arg;  /* by type */
};

enum tcp_rec_flag {
    TCP_REC_F_TUPLE = 1,   /* the last 40 bytes are a struct tcp_rec_tuple: it belongs to no connection (yet) */
    TCP_REC_F_RETRANS = 2, /* SEG_OUT: a retransmission */
    TCP_REC_F_REPLY = 4,   /* SEG_OUT: a reply that the engine's ring of replies sends for this connection */
};

struct tcp_rec_tuple {
    uint8_t local[16], remote[16]; /* IPv4: the first four bytes */
    uint16_t local_port, remote_port;
    uint8_t family; /* 4 or 6 */
    uint8_t pad[3];
};

/* Kinds of fields: C type, bytes. SACK: four blocks {start, end}; B16: 16 bytes; IP: an address; TEXT: 16 bytes, NUL-padded. */
#define TCP_REC_DECL_U8(name)   uint8_t name;
#define TCP_REC_DECL_U16(name)  uint16_t name;
#define TCP_REC_DECL_U32(name)  uint32_t name;
#define TCP_REC_DECL_U64(name)  uint64_t name;
#define TCP_REC_DECL_I32(name)  int32_t name;
#define TCP_REC_DECL_I64(name)  int64_t name;
#define TCP_REC_DECL_SACK(name) uint32_t name[8];
#define TCP_REC_DECL_B16(name)  uint8_t name[16];
#define TCP_REC_DECL_IP(name)   uint8_t name[16];
#define TCP_REC_DECL_TEXT(name) char name[16];
#define TCP_REC_DECL(kind, name, help) TCP_REC_DECL_##kind(name)

/* What is in opt_bits. */
enum tcp_rec_opt {
    TCP_REC_OPT_TS = 1,
    TCP_REC_OPT_MSS = 2,
    TCP_REC_OPT_WSCALE = 4,
    TCP_REC_OPT_SACK_OK = 8,
    TCP_REC_OPT_FASTOPEN = 16,
    TCP_REC_OPT_FASTOPEN_EXP = 32,
    TCP_REC_OPT_MD5 = 64,
};

/* F(kind, name, "what it means") */
#define TCP_REC_SEG(F)                                                                                         \
    F(U32, seq, "sequence number, as on the wire")                                                             \
    F(U32, ack, "acknowledgement number, as on the wire")                                                      \
    F(U32, len, "payload bytes; of a super-frame all of them")                                                 \
    F(U16, wnd, "window, as on the wire (unscaled)")                                                           \
    F(U16, tcp_flags, "bits: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG, 64 ECE, 128 CWR, 256 AE")             \
    F(U16, gso_size, "payload bytes per segment of a super-frame; 0: a single segment")                        \
    F(U16, urg_ptr, "urgent pointer")                                                                          \
    F(U8, ecn, "ECN field of the IP header: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE")                              \
    F(U8, tos, "DSCP << 2")                                                                                    \
    F(U8, opt_bits, "options: 1 timestamps, 2 MSS, 4 window scale, 8 SACK permitted, 16 Fast Open, 32 its "    \
                    "experimental form, 64 MD5")                                                               \
    F(U8, sack_count, "SACK blocks")                                                                           \
    F(U32, tsval, "TS value")                                                                                  \
    F(U32, tsecr, "TS echo reply")                                                                             \
    F(U16, mss, "MSS option")                                                                                  \
    F(U8, wscale, "window scale option")                                                                       \
    F(U8, fastopen_bytes, "length of the Fast Open cookie; 0: a request")                                      \
    F(SACK, sack, "SACK blocks {start, end}")                                                                  \
    F(B16, cookie, "Fast Open cookie")

#define TCP_REC_ACK(F)                                                                                         \
    F(U32, snd_una, "oldest unacknowledged, now")                                                              \
    F(U32, acked_bytes, "bytes of sequence space that it acknowledged")                                        \
    F(U16, acked_segs, "segments that it took off the queue")                                                  \
    F(U16, sacked_segs, "segments that it newly SACKed")                                                       \
    F(U16, lost_segs, "segments that it made count as lost")                                                   \
    F(U16, mss, "payload bytes per segment")                                                                   \
    F(U32, cwnd, "congestion window, segments")                                                                \
    F(U32, ssthresh, "slow-start threshold, segments; 2147483647: none yet")                                   \
    F(U32, in_flight, "segments in flight (pipe)")                                                             \
    F(U32, packets_out, "segments not acknowledged")                                                           \
    F(U32, sacked_out, "of them: SACKed")                                                                      \
    F(U32, lost_out, "of them: lost")                                                                          \
    F(U32, retrans_out, "of them: sent again")                                                                 \
    F(U32, snd_wnd, "the peer's window, bytes")                                                                \
    F(U32, srtt_us, "smoothed round-trip time")                                                                \
    F(U32, rttvar_us, "its variation")                                                                         \
    F(U32, min_rtt_us, "smallest round-trip time lately; 4294967295: none yet")                                \
    F(U32, rto_us, "retransmission timeout, with backoff")                                                     \
    F(U64, pacing_rate, "bytes/s; 2^64 - 1: none")                                                             \
    F(U32, rate_delivered, "last rate sample: segments")                                                       \
    F(U32, rate_interval_us, "and their time; rate = segments * mss / time")

#define TCP_REC_CONG(F)                                                                                        \
    F(U32, cwnd, "congestion window, segments")                                                                \
    F(U32, ssthresh, "slow-start threshold, segments")                                                         \
    F(U32, high_seq, "snd_nxt when the loss was found")                                                        \
    F(U32, in_flight, "segments in flight")

#define TCP_REC_TIMER(F) F(U64, due, "when it will run out, ns; 2^64 - 1: it is off")

#define TCP_REC_FIRED(F)                                                                                       \
    F(U32, retransmits, "timeouts in a row before this one")                                                   \
    F(U32, backoff, "doublings of the timeout")

#define TCP_REC_CALL(F)                                                                                        \
    F(I64, result, "what the call answered: bytes, or -errno")                                                 \
    F(U32, want, "bytes asked for; for SETOPT its value; for MD5 0: forgotten")                                                      \
    F(U32, left, "SEND: bytes not sent yet behind it; RECV: bytes still unread")

#define TCP_REC_LIMIT(F) F(U64, since, "since when, ns")

#define TCP_REC_ICMP(F)                                                                                        \
    F(U32, seq, "sequence number of the segment that it is about")                                             \
    F(U16, mtu, "next-hop MTU, of too big")                                                                    \
    F(U8, hard, "1: Linux calls it fatal")

#define TCP_REC_CONFIG(F)                                                                                      \
    F(I64, value, "its value")                                                                                 \
    F(TEXT, name0, "its name, first 16 bytes")                                                                 \
    F(TEXT, name1, "next 16")                                                                                  \
    F(TEXT, name2, "last 16")

#define TCP_REC_NAMED(F)                                                                                       \
    F(TEXT, name0, "name of the reason, or of what was sent: first 16 bytes")                                  \
    F(TEXT, name1, "the rest")

#define TCP_REC_METRICS(F)                                                                                     \
    F(U32, rtt, "smoothed round-trip time, us << 3; 0: not known")                                             \
    F(U32, ssthresh, "slow-start threshold, segments; 0: not known")                                           \
    F(U32, reordering, "segments; 0: not known")

#define TCP_REC_NONE(F)

/*
 * X(NAME, fields, code, "arg", "what it means"); code: whose values hdr.code has. New types go to the end.
 */
#define TCP_REC_TYPES(X)                                                                                       \
    X(NONE, NONE, NONE, "", "nothing: to be skipped")                                                          \
    X(START, NONE, START, "", "the record of this connection begins here")                                     \
    X(SEG_IN, SEG, NONE, "1 + payload bytes in the first chunk of its frame; 0: it lies in none",              \
      "a segment came; a DROP behind it at the same time tells why it was not used")                           \
    X(SEG_OUT, SEG, CAUSE, "", "a segment left")                                                               \
    X(DROP, NONE, DROP, "", "a segment, or part of it, was not used")                                          \
    X(ACK, ACK, CA, "bits: 1 round trip sampled, 2 D-SACK, 4 ECE, 8 window update",                            \
      "what an ACK changed")                                                                                   \
    X(CONG, CONG, CA, "the state before", "congestion control changed its state")                              \
    X(UNDO, CONG, UNDO, "", "a reduction of cwnd was found spurious and taken back")                           \
    X(TIMER, TIMER, TIMER, "RETRANS: 0 RTO, 1 reordering window, 2 tail loss probe",                           \
      "a timer was set, or is off; that a running one moves on is not told")                                   \
    X(FIRED, FIRED, TIMER, "as of TIMER", "a timer ran out")                                                   \
    X(STATE, NONE, STATE, "the state before", "the connection changed its state")                              \
    X(CALL, CALL, CALL, "SEND: flags 1 more, 2 urgent, 4 end of record; SETOPT: enum tcp_opt; MD5: bits of its prefix",                 \
      "the program called")                                                                                    \
    X(LIMIT, LIMIT, LIMIT, "1: the program waits for room in the send buffer",                                 \
      "what its next byte waits for changed")                                                                  \
    X(ICMP, ICMP, NONE, "errno", "an ICMP error about it came")                                                \
    X(ERROR, NONE, NONE, "errno", "the connection ended with this error")                                      \
    X(DEVICE, NONE, DEVICE, "sequence number", "the device took a segment not")                                \
    X(NEIGHBOUR, NONE, NEIGHBOUR, "errno", "the next hop's address")                                           \
    X(CONFIG, CONFIG, NONE, "", "in a dump, before the rest: a value of [tcp] that is not the default")        \
    X(REPLY, NAMED, REPLY, "", "the stack did something that belongs to no connection")                 \
    X(STALL, NONE, LIMIT, "timeouts in a row", "nothing moves any more")                                       \
    X(END, NONE, END, "errno", "the connection is gone; why its record is kept")                               \
    X(ASKED, NONE, NONE, "", "it was asked for a segment and had none: what waits is left to a timer or to the peer") \
    X(METRICS, METRICS, NONE, "", "what was remembered of the destination, when the connection began to use it")

enum tcp_rec_type {
#define X(name, fields, code, arg, text) TCP_REC_T_##name,
    TCP_REC_TYPES(X)
#undef X
        TCP_REC_T_MAX
};

/* Lists of codes that are nobody else's: X(NAME, "text"). */
#define TCP_REC_STARTS(X)                                                                                      \
    X(NEW, "with the connection")                                                                              \
    X(RESUMED, "later: the ring was given to others while it was idle")
#define TCP_REC_CAS(X)                                                                                         \
    X(OPEN, "nothing wrong")                                                                                   \
    X(DISORDER, "something seems out of order")                                                                \
    X(CWR, "cwnd is reduced: congestion was told (ECN), or the device was full")                               \
    X(RECOVERY, "fast recovery")                                                                               \
    X(LOSS, "after a timeout")
#define TCP_REC_UNDOS(X)                                                                                       \
    X(FULL, "at the end of the recovery")                                                                      \
    X(PARTIAL, "by a partial ACK")                                                                             \
    X(DSACK, "all retransmissions were told to be duplicates")                                                 \
    X(LOSS, "the timeout was spurious")
#define TCP_REC_TIMERS(X)                                                                                      \
    X(RETRANS, "retransmission: RTO, RACK's reordering window or tail loss probe")                             \
    X(PROBE0, "zero-window probe")                                                                             \
    X(DELACK, "delayed ACK")                                                                                   \
    X(KEEPALIVE, "keepalive")                                                                                  \
    X(LINGER, "FIN-WAIT-2 of an orphan")                                                                       \
    X(PACING, "pacing gate")
#define TCP_REC_CALLS(X)                                                                                       \
    X(CONNECT, "connect")                                                                                      \
    X(ACCEPT, "accept")                                                                                        \
    X(SEND, "send, write")                                                                                     \
    X(RECV, "recv, read")                                                                                      \
    X(SHUTDOWN_WR, "shutdown(SHUT_WR)")                                                                        \
    X(SHUTDOWN_RD, "shutdown(SHUT_RD)")                                                                        \
    X(CLOSE, "close")                                                                                          \
    X(ABORT, "close with linger 0, or conn.abort")                                                             \
    X(SETOPT, "setsockopt")                                                                                    \
    X(FASTOPEN, "sendto(MSG_FASTOPEN)")                                                                        \
    X(MD5, "set or forgot a TCP-MD5 key (never told itself)")                                                  \
    X(POLL_OUT, "asked for room in the send buffer: there is none, it waits")
/* SETOPT's arg, enum tcp_opt: X(NAME, "as setsockopt has it"). */
#define TCP_REC_OPTS(X)                                                                                        \
    X(NODELAY, "SOL_TCP, TCP_NODELAY")                                                                         \
    X(CORK, "SOL_TCP, TCP_CORK")                                                                               \
    X(QUICKACK, "SOL_TCP, TCP_QUICKACK")                                                                       \
    X(KEEPALIVE, "SOL_SOCKET, SO_KEEPALIVE")                                                                   \
    X(KEEPIDLE, "SOL_TCP, TCP_KEEPIDLE")                                                                       \
    X(KEEPINTVL, "SOL_TCP, TCP_KEEPINTVL")                                                                     \
    X(KEEPCNT, "SOL_TCP, TCP_KEEPCNT")                                                                         \
    X(USER_TIMEOUT, "SOL_TCP, TCP_USER_TIMEOUT")                                                               \
    X(LINGER2, "SOL_TCP, TCP_LINGER2")                                                                         \
    X(SYNCNT, "SOL_TCP, TCP_SYNCNT")                                                                           \
    X(MAXSEG, "SOL_TCP, TCP_MAXSEG")                                                                           \
    X(WINDOW_CLAMP, "SOL_TCP, TCP_WINDOW_CLAMP")                                                               \
    X(SNDBUF, "SOL_SOCKET, SO_SNDBUF")                                                                         \
    X(RCVBUF, "SOL_SOCKET, SO_RCVBUF")                                                                         \
    X(TOS, "SOL_IP, IP_TOS")                                                                                   \
    X(FASTOPEN, "SOL_TCP, TCP_FASTOPEN")                                                                       \
    X(FASTOPEN_NO_COOKIE, "SOL_TCP, TCP_FASTOPEN_NO_COOKIE")                                                   \
    X(DEFER_ACCEPT, "SOL_TCP, TCP_DEFER_ACCEPT")                                                               \
    X(CONGESTION, "SOL_TCP, TCP_CONGESTION")                                                                   \
    X(NOTSENT_LOWAT, "SOL_TCP, TCP_NOTSENT_LOWAT")
#define TCP_REC_DEVICES(X)                                                                                     \
    X(FAILED, "it failed: the segment is lost")                                                                \
    X(FULL, "its queue was full: the segment goes again")
#define TCP_REC_NEIGHBOURS(X)                                                                                  \
    X(WAITING, "not known yet: the connection waits")                                                          \
    X(RESOLVED, "known again")                                                                                 \
    X(UNREACHABLE, "does not answer, or there is no route")
#define TCP_REC_REPLIES(X)                                                                                     \
    X(DROP, "a frame or packet was not used")                                            \
    X(SENT, "sent, by no connection")
#define TCP_REC_ENDS(X)                                                                                        \
    X(GOOD, "in order")                                                                                        \
    X(RESET_IN, "the peer reset it")                                                                           \
    X(RESET_OUT, "we reset it")                                                                                \
    X(TIMEOUT, "no answer")                                                                                    \
    X(UNREACHABLE, "ICMP, neighbour or route")                                                                 \
    X(ERROR, "another error")                                                                                  \
    X(ABORT, "the program aborted it")

#define X(name, text) TCP_REC_START_##name,
enum tcp_rec_start { TCP_REC_STARTS(X) TCP_REC_START_MAX };
#undef X
#define X(name, text) TCP_REC_CA_##name,
enum tcp_rec_ca { TCP_REC_CAS(X) TCP_REC_CA_MAX };
#undef X
#define X(name, text) TCP_REC_UNDO_##name,
enum tcp_rec_undo { TCP_REC_UNDOS(X) TCP_REC_UNDO_MAX };
#undef X
#define X(name, text) TCP_REC_TIMER_##name,
enum tcp_rec_timer { TCP_REC_TIMERS(X) TCP_REC_TIMER_MAX };
#undef X
#define X(name, text) TCP_REC_CALL_##name,
enum tcp_rec_call { TCP_REC_CALLS(X) TCP_REC_CALL_MAX };
#undef X
#define X(name, text) TCP_REC_OPTION_##name,
enum tcp_rec_option { TCP_REC_OPTS(X) TCP_REC_OPTION_MAX };
#undef X
#define X(name, text) TCP_REC_DEVICE_##name,
enum tcp_rec_device { TCP_REC_DEVICES(X) TCP_REC_DEVICE_MAX };
#undef X
#define X(name, text) TCP_REC_NEIGHBOUR_##name,
enum tcp_rec_neighbour { TCP_REC_NEIGHBOURS(X) TCP_REC_NEIGHBOUR_MAX };
#undef X
#define X(name, text) TCP_REC_REPLY_##name,
enum tcp_rec_reply { TCP_REC_REPLIES(X) TCP_REC_REPLY_MAX };
#undef X
#define X(name, text) TCP_REC_END_##name,
enum tcp_rec_end { TCP_REC_ENDS(X) TCP_REC_END_MAX };
#undef X

/* The structs of events: struct tcp_ev_seg, ... */
#define TCP_REC_STRUCT(lower, UPPER)                                                                           \
    struct tcp_ev_##lower {                                                                                   \
        struct tcp_rec_hdr h;                                                                                  \
        TCP_REC_##UPPER(TCP_REC_DECL)                                                                          \
    }
TCP_REC_STRUCT(none, NONE);
TCP_REC_STRUCT(seg, SEG);
TCP_REC_STRUCT(ack, ACK);
TCP_REC_STRUCT(cong, CONG);
TCP_REC_STRUCT(timer, TIMER);
TCP_REC_STRUCT(fired, FIRED);
TCP_REC_STRUCT(call, CALL);
TCP_REC_STRUCT(limit, LIMIT);
TCP_REC_STRUCT(icmp, ICMP);
TCP_REC_STRUCT(config, CONFIG);
TCP_REC_STRUCT(named, NAMED);
TCP_REC_STRUCT(metrics, METRICS);

/* An event as tcp_rec_decode() gives it: aligned, whole, what was missing is 0. */
union tcp_rec_event {
    struct tcp_rec_hdr h;
    struct tcp_ev_none none;
    struct tcp_ev_seg seg;
    struct tcp_ev_ack ack;
    struct tcp_ev_cong cong;
    struct tcp_ev_timer timer;
    struct tcp_ev_fired fired;
    struct tcp_ev_call call;
    struct tcp_ev_limit limit;
    struct tcp_ev_icmp icmp;
    struct tcp_ev_config config;
    struct tcp_ev_named named;
    struct tcp_ev_metrics metrics;
};

/* What a section says of its connection, as of the time of the dump, or of its end. */
#define TCP_REC_HEAD(F)                                                                                        \
    F(TEXT, magic, "\"TAUTREC1\"")                                                                             \
    F(U32, version, "1")                                                                                       \
    F(U32, byte_order, "0x01020304, in the order of everything that follows")                                  \
    F(U32, head_bytes, "length of this head: events begin behind it")                                          \
    F(U32, event_bytes, "length of the events")                                                                \
    F(U64, id, "the connection's id; 0: what belongs to no connection")                                        \
    F(U64, dumped_at, "ns, the clock of the events")                                                           \
    F(U64, wall_at, "the same moment, ns since 1970; 0: not known")                                            \
    F(U64, created_at, "ns: the connection began")                                                             \
    F(U64, first_event, "number of the first event in this section; events count from 0")                      \
    F(U64, next_event, "number of the event behind its last")                                                  \
    F(U64, lost_events, "events of this connection that are older and overwritten")                            \
    F(U8, kind, "0 a connection, 1 one that is gone (a black box), 2 what belongs to no connection")           \
    F(U8, end, "how it ended (END's code), of a black box")                                                    \
    F(U8, state, "its state, Linux's number")                                                                  \
    F(U8, family, "4 or 6")                                                                                    \
    F(U16, local_port, "")                                                                                     \
    F(U16, remote_port, "")                                                                                    \
    F(IP, local, "")                                                                                           \
    F(IP, remote, "")                                                                                          \
    F(U8, passive, "1: the peer opened it")                                                                    \
    F(U8, opt_bits, "options agreed, as in segments")                                                          \
    F(U8, snd_wscale, "shift of windows that the peer announces")                                              \
    F(U8, rcv_wscale, "shift of ours")                                                                         \
    F(U32, iss, "our initial sequence number")                                                                 \
    F(U32, irs, "the peer's; known when it has opened")                                                        \
    F(U32, ts_offset, "our TS value = ms of the clock + this")                                                 \
    F(U32, snd_una, "")                                                                                        \
    F(U32, snd_nxt, "")                                                                                        \
    F(U32, write_seq, "")                                                                                      \
    F(U32, rcv_nxt, "")                                                                                        \
    F(U32, copied_seq, "the program has read up to here")                                                      \
    F(U32, snd_wnd, "bytes")                                                                                   \
    F(U32, rcv_wnd, "bytes")                                                                                   \
    F(U32, gso_max, "largest super-frame of the device, bytes; 0: none")                                       \
    F(I32, error, "errno that ended it, 0: none")                                                              \
    F(U16, mss, "payload bytes per segment")                                                                   \
    F(U16, mtu, "of the path, at its beginning")                                                               \
    F(U16, advmss, "MSS that we announced")                                                                    \
    F(U16, pmtu, "of the path, now")                                                                           \
    F(U16, initcwnd, "of its route, 0: none")                                                                  \
    F(U16, initrwnd, "of its route, 0: none")                                                                  \
    F(U32, sndbuf, "send buffer")                                                                              \
    F(U32, rcvbuf, "receive buffer")                                                                           \
    F(U32, backlog, "of its listener")                                                                         \
    F(TEXT, congestion, "its congestion control")

struct tcp_rec_head {
    TCP_REC_HEAD(TCP_REC_DECL)
};

enum tcp_rec_kind { TCP_REC_KIND_CONN, TCP_REC_KIND_DEAD, TCP_REC_KIND_ENGINE };

/* ---- the tables (events.c) ---- */

enum tcp_rec_field_kind {
    TCP_REC_U8,
    TCP_REC_U16,
    TCP_REC_U32,
    TCP_REC_U64,
    TCP_REC_I32,
    TCP_REC_I64,
    TCP_REC_SACK_BLOCKS,
    TCP_REC_B16,
    TCP_REC_IP,
    TCP_REC_TEXT,
};

struct tcp_rec_field { /* rows ended by name NULL */
    const char *name;
    uint8_t kind;    /* enum tcp_rec_field_kind */
    uint16_t offset; /* in the struct, header counted */
    const char *help;
};

struct tcp_rec_type_info {
    const char *name;
    const struct tcp_rec_field *fields;
    uint16_t bytes; /* of the whole struct */
    const char *code;     /* what its code is: "CAUSE", "DROP", ...; "NONE" */
    const char *arg, *text;
};

/* NULL: no such type. */
const struct tcp_rec_type_info *tcp_rec_type_info(unsigned type);
extern const struct tcp_rec_field tcp_rec_head_fields[];
/* The name of an event's code, "?" where it has none, "" where the type has no codes; and what it means. */
const char *tcp_rec_code_name(unsigned type, unsigned code);
const char *tcp_rec_code_text(unsigned type, unsigned code);
/* SETOPT's option: "NODELAY", and as setsockopt has it; "?": no such. */
const char *tcp_rec_option_name(unsigned option);
const char *tcp_rec_option_text(unsigned option);
/* A field that is a number. */
int64_t tcp_rec_field_value(const void *base, const struct tcp_rec_field *f);

/*
 * Reads the head of a section of `n` bytes. 0, or -errno with *ret_error (a sentence): -EBADMSG no trace, or damaged,
 * -EPROTONOSUPPORT another version, -EILSEQ another byte order, -ENODATA it is cut off.
 */
int tcp_rec_decode_head(const void *bytes, size_t n, struct tcp_rec_head *ret, const char **ret_error);
/*
 * Reads the event at *pos of a section's `n` bytes of events and moves *pos behind it; *ret_tuple, if it has one, else
 * family 0 (may be NULL). 1: an event; 0: the end; -EBADMSG: damaged, *pos stays. Types it doesn't know come with
 * their header only.
 */
int tcp_rec_decode(const void *events, size_t n, size_t *pos, union tcp_rec_event *ret,
                   struct tcp_rec_tuple *ret_tuple);

#endif
