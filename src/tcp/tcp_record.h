/*
 * tcp/tcp_record.h: the flat record of a connection: what survives the engine that made it.
 *
 * A record has a fixed size and no pointers. One X-macro describes it; saving, restoring, checking, dumping and the
 * layout's identity come from it, so that they can't drift apart. It holds no payload: that lies in chunks, and the
 * caller of tcp_record_restore() says where. What is learned anew is left out: sent-segment descriptors with their
 * times and SACK marks, RACK and rate samples, ACKs owed, READY and EVENT places.
 *
 * tcp_commit() publishes records in the record arena: per working block two records and a selector word; what is parked
 * has a cell there instead (park.c). The record that the
 * selector doesn't name is filled, then the selector is stored with release order; a reader that finds a selector
 * finds a whole record, whenever the writer died.
 */
#ifndef TAUT_TCP_RECORD_H
#define TAUT_TCP_RECORD_H

#include "tcp/tcp.h"

#define TCP_RECORD_VERSION 1u
#define TCP_RECORD_CC_STATE_BYTES 104
#define TCP_RECORD_CC_NAME_BYTES 16

/*
 * V(type, name, member of struct tcp_conn): a number. B(name, member, bytes): bytes as they are.
 * Wide members first; what padding remains at the end is zero.
 */
#define TCP_RECORD_FIELDS_NOW(V, B)                                                                              \
    V(uint64_t, id, id)                                                                                        \
    V(uint64_t, user, user)                                                                                    \
    V(uint64_t, retrans_stamp, retrans_stamp)                                                                  \
    V(uint64_t, rto_at, rto_at)                                                                                \
    V(uint64_t, probe_begun_at, probe_begun_at)                                                                \
    V(uint64_t, mtup_probe_timestamp, mtup.probe_timestamp)                                                    \
    V(uint64_t, lsndtime, lsndtime)                                                                            \
    V(uint64_t, pacing_rate, pacing_rate)                                                                      \
    V(uint64_t, max_pacing_rate, max_pacing_rate)                                                              \
    V(uint64_t, cc_pacing_rate, win.pacing_rate)                                                               \
    V(uint64_t, ts_recent_at, ts_recent_at)                                                                    \
    V(uint64_t, created_at, created_at)                                                                        \
    V(uint64_t, rcv_tstamp, rcv_tstamp)                                                                        \
    V(uint64_t, last_data_recv_at, last_data_recv_at)                                                          \
    V(uint64_t, invalid_ack_at, invalid_ack_at)                                                                \
    V(uint64_t, bytes_acked, bytes_acked)                                                                      \
    V(uint64_t, bytes_received, bytes_received)                                                                \
    V(uint64_t, bytes_sent, bytes_sent)                                                                        \
    V(uint64_t, bytes_retrans, bytes_retrans)                                                                  \
    V(uint64_t, busy_ns, chrono_ns[TCP_CHRONO_BUSY])                                                           \
    V(uint64_t, rwnd_limited_ns, chrono_ns[TCP_CHRONO_RWND_LIMITED])                                           \
    V(uint64_t, sndbuf_limited_ns, chrono_ns[TCP_CHRONO_SNDBUF_LIMITED])                                       \
    V(uint64_t, keepalive_at, timer_at[TCP_TIMER_KEEPALIVE])                                                   \
    V(uint64_t, linger_at, timer_at[TCP_TIMER_LINGER])                                                         \
    V(uint64_t, retrans_at, timer_at[TCP_TIMER_RETRANS])                                                       \
    V(uint64_t, synack_sent_at, synack_sent_at)                                                                \
    V(uint64_t, min_rtt_at, rtt.min_rtt_at)                                                                    \
    V(uint64_t, rcv_space_at, rcvq.space_at)                                                                   \
    B(cc_state, cc_state, TCP_RECORD_CC_STATE_BYTES)                                                           \
    B(tuple, tuple, 44)                                                                                        \
    V(uint32_t, listener, listener)                                                                            \
    V(int32_t, error, error)                                                                                   \
    V(int32_t, error_soft, error_soft)                                                                         \
    V(int32_t, error_final, error_final)                                                                       \
    V(uint32_t, iss, iss)                                                                                      \
    V(uint32_t, snd_una, snd_una)                                                                              \
    V(uint32_t, snd_nxt, snd_nxt)                                                                              \
    V(uint32_t, write_seq, write_seq)                                                                          \
    V(uint32_t, snd_wnd, snd_wnd)                                                                              \
    V(uint32_t, max_window, max_window)                                                                        \
    V(uint32_t, snd_wl1, snd_wl1)                                                                              \
    V(uint32_t, snd_up, snd_up)                                                                                \
    V(uint32_t, pushed_seq, pushed_seq)                                                                        \
    V(uint32_t, snd_sml, snd_sml)                                                                              \
    V(uint32_t, sndbuf, sndbuf.limit)                                                                          \
    V(uint32_t, notsent_lowat, notsent_lowat)                                                                  \
    V(uint32_t, srtt_us, rtt.srtt_us)                                                                          \
    V(uint32_t, mdev_us, rtt.mdev_us)                                                                          \
    V(uint32_t, mdev_max_us, rtt.mdev_max_us)                                                                  \
    V(uint32_t, rttvar_us, rtt.rttvar_us)                                                                      \
    V(uint32_t, rtt_seq, rtt.rtt_seq)                                                                          \
    V(uint32_t, rto_us, rtt.rto_us)                                                                            \
    V(uint32_t, min_rtt_us, rtt.min_rtt_us)                                                                    \
    V(uint32_t, cwnd, win.cwnd)                                                                                \
    V(uint32_t, cwnd_cnt, win.cwnd_cnt)                                                                        \
    V(uint32_t, cwnd_clamp, win.cwnd_clamp)                                                                    \
    V(uint32_t, ssthresh, win.ssthresh)                                                                        \
    V(uint32_t, delivered, delivered)                                                                          \
    V(uint32_t, delivered_ce, delivered_ce)                                                                    \
    V(uint32_t, cwnd_usage_seq, cwnd_usage_seq)                                                                \
    V(uint32_t, max_packets_out, max_packets_out)                                                              \
    V(uint32_t, irs, irs)                                                                                      \
    V(uint32_t, rcv_nxt, rcv_nxt)                                                                              \
    V(uint32_t, rcv_wup, rcv_wup)                                                                              \
    V(uint32_t, rcv_wnd, rcv_wnd)                                                                              \
    V(uint32_t, copied_seq, copied_seq)                                                                        \
    V(uint32_t, rcv_up, rcv_up)                                                                                \
    V(uint32_t, fin_seq, fin_seq)                                                                              \
    V(uint32_t, rcvbuf, rcvq.rcvbuf)                                                                           \
    V(uint32_t, rcv_space, rcvq.space)                                                                         \
    V(uint32_t, rcv_space_seq, rcvq.space_seq)                                                                 \
    V(uint32_t, rcv_rtt_us8, rcvq.rtt_us8)                                                                     \
    V(uint32_t, window_clamp, window_clamp)                                                                    \
    V(uint32_t, rcv_ssthresh, rcv_ssthresh)                                                                    \
    V(uint32_t, ts_offset, ts_offset)                                                                          \
    V(uint32_t, ts_recent, ts_recent)                                                                          \
    V(uint32_t, last_ack_sent, last_ack_sent)                                                                  \
    V(uint32_t, keepalive_time_s, keepalive_time_s)                                                            \
    V(uint32_t, keepalive_intvl_s, keepalive_intvl_s)                                                          \
    V(uint32_t, user_timeout_ms, user_timeout_ms)                                                              \
    V(int32_t, linger2_s, linger2_s)                                                                           \
    V(uint32_t, segs_in, segs_in)                                                                              \
    V(uint32_t, segs_out, segs_out)                                                                            \
    V(uint32_t, data_segs_in, data_segs_in)                                                                    \
    V(uint32_t, data_segs_out, data_segs_out)                                                                  \
    V(uint32_t, total_retrans, total_retrans)                                                                  \
    V(uint32_t, dsack_dups, dsack_dups)                                                                        \
    V(uint32_t, reord_seen, reord_seen)                                                                        \
    V(uint32_t, synack_ack, synack_ack)                                                                        \
    V(uint32_t, rcv_ooopack, rcv_ooopack)                                                                      \
    V(uint32_t, mtup_search_low, mtup.search_low)                                                              \
    V(uint32_t, mtup_search_high, mtup.search_high)                                                            \
    V(uint32_t, total_rto_time_ms, total_rto_time_ms)                                                          \
    V(uint16_t, path_mtu, path.mtu)                                                                            \
    V(uint16_t, path_advmss, path.advmss)                                                                      \
    V(uint16_t, mss_clamp, mss_clamp)                                                                          \
    V(uint16_t, user_mss, user_mss)                                                                            \
    V(uint16_t, advmss, advmss)                                                                                \
    V(uint16_t, mss, mss)                                                                                      \
    V(uint16_t, pmtu, pmtu)                                                                                    \
    V(uint16_t, reordering, reordering)                                                                        \
    V(uint16_t, rcv_mss, rcv_mss)                                                                              \
    V(uint16_t, total_rto, total_rto)                                                                          \
    V(uint16_t, total_rto_recoveries, total_rto_recoveries)                                                    \
    B(md5_key, md5_key, 8)                                                                                     \
    B(md5_prefix, md5_prefix, 4)                                                                               \
    V(uint8_t, state, state)                                                                                   \
    V(uint8_t, shutdown, shutdown)                                                                             \
    V(uint8_t, owned, owned)                                                                                   \
    V(uint8_t, in_accept_queue, in_accept_queue)                                                               \
    V(uint8_t, rst_pending, rst_pending)                                                                       \
    V(uint8_t, rst_cause, rst_cause)                                                                           \
    V(uint8_t, path_initcwnd, path.initcwnd)                                                                   \
    V(uint8_t, path_initrwnd, path.initrwnd)                                                                   \
    V(uint8_t, tos, tos)                                                                                       \
    V(uint8_t, ts_ok, ts_ok)                                                                                   \
    V(uint8_t, sack_ok, sack_ok)                                                                               \
    V(uint8_t, wscale_ok, wscale_ok)                                                                           \
    V(uint8_t, dsack_ok, dsack_ok)                                                                             \
    V(uint8_t, ecn_ok, ecn_ok)                                                                                 \
    V(uint8_t, ecn_seen, ecn_seen)                                                                             \
    V(uint8_t, ecn_queue_cwr, ecn_queue_cwr)                                                                   \
    V(uint8_t, ecn_demand_cwr, ackowed.ece)                                                                    \
    V(uint8_t, dctcp_ce, dctcp_ce.ce)                                                                          \
    V(uint8_t, snd_wscale, snd_wscale)                                                                         \
    V(uint8_t, rcv_wscale, rcv_wscale)                                                                         \
    V(uint8_t, urg_mode, urg_mode)                                                                             \
    V(uint8_t, fin_queued, fin_queued)                                                                         \
    V(uint8_t, nodelay, nodelay)                                                                               \
    V(uint8_t, cork, cork)                                                                                     \
    V(uint8_t, syn_pending, syn_pending)                                                                       \
    V(uint8_t, want_writable, want_writable)                                                                   \
    V(uint8_t, sndbuf_locked, sndbuf_locked)                                                                   \
    V(uint8_t, rcvbuf_locked, rcvbuf_locked)                                                                   \
    V(uint8_t, retransmits, retransmits)                                                                       \
    V(uint8_t, backoff, backoff)                                                                               \
    V(uint8_t, probes_out, probes_out)                                                                         \
    V(uint8_t, total_syn_retrans, total_syn_retrans)                                                           \
    V(uint8_t, is_cwnd_limited, is_cwnd_limited)                                                               \
    V(uint8_t, urg_seen, urg_seen)                                                                             \
    V(uint8_t, fin_received, fin_received)                                                                     \
    V(uint8_t, fin_waits, fin_waits)                                                                           \
    V(uint8_t, rcvq_established, rcvq.established)                                                             \
    V(uint8_t, keepalive, keepalive)                                                                           \
    V(uint8_t, keepalive_probes, keepalive_probes)                                                             \
    V(uint8_t, syn_retries, syn_retries)                                                                       \
    V(uint16_t, syn_data, syn_data)                                                                            \
    V(uint8_t, pacing_needed, pacing_needed)                                                                   \
    V(uint8_t, defer_connect, defer_connect)                                                                   \
    V(uint8_t, syn_fastopen, syn_fastopen)                                                                     \
    V(uint8_t, syn_fastopen_exp, syn_fastopen_exp)                                                             \
    V(uint8_t, syn_fastopen_ch, syn_fastopen_ch)                                                               \
    V(uint8_t, syn_data_acked, syn_data_acked)                                                                 \
    V(uint8_t, fastopen_no_cookie, fastopen_no_cookie)                                                         \
    V(uint8_t, fastopen_client_fail, fastopen_client_fail)                                                     \
    V(uint8_t, defer_accept, defer_accept)                                                                     \
    V(uint8_t, fastopen_rsk, fastopen_rsk)                                                                     \
    V(uint8_t, synack_timeouts, synack_timeouts)                                                               \
    V(uint8_t, mtup_enabled, mtup.enabled)                                                                     \
    V(uint8_t, rtx, rtx)                                                                                       \
    V(uint8_t, synack_retrans, synack_retrans)

/* TAUT_RECORD_NEXT: a build of tests, as a successor's with a field more in front and one less. */
#ifdef TAUT_RECORD_NEXT
#define TCP_RECORD_FIELDS(V, B) V(uint32_t, of_the_future, orphan) TCP_RECORD_FIELDS_NOW(V, B)
#else
#define TCP_RECORD_FIELDS(V, B) TCP_RECORD_FIELDS_NOW(V, B)
#endif

struct tcp_record {
    uint32_t layout; /* tcp_record_layout() of the writer */
    uint32_t bytes;  /* sizeof (struct tcp_record) of the writer */
    uint64_t sum;    /* over all that follows */
#define V(type, name, member) type name;
#define B(name, member, n) uint8_t name[n];
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    char cc_name[TCP_RECORD_CC_NAME_BYTES];
};

/* Payload bytes with the sequence number of the first. */
struct tcp_record_range {
    uint32_t seq;
    uint32_t len;
    const uint8_t *data;
};

/*
 * Where a record's payload lies. send: [snd_una, write_seq), in order, without holes. recv: unread bytes in order
 * [copied_seq, rcv_nxt), then any out-of-order ranges above, sorted. Copied; may lie anywhere but in this engine's pool.
 */
struct tcp_record_payload {
    const struct tcp_record_range *send, *recv;
    uint32_t n_send, n_recv;
};

/* Identity of the layout: a hash of types, names and order, with TCP_RECORD_VERSION. */
uint32_t tcp_record_layout(void);
/* NULL, or a sentence: not whole, of another layout, or impossible values. Safe on any bytes. */
const char *tcp_record_check(const struct tcp_record *r);
/* The same where tcp_record_layout(), which takes a while, is known. */
const char *tcp_record_check_as(const struct tcp_record *r, uint32_t layout);
/*
 * The layout as text, "type name;" a field, in order: kept beside records, so that another build can read them by name.
 * tcp_record_translate() makes a present record of one that a build with that schema wrote: fields that it has no name for
 * are left out, those that the old one lacks are 0. 0; -EINVAL: no schema, or without fields that a connection needs;
 * -EILSEQ: its sum is wrong. tcp_record_schema_check() says what of the schema stands against it, or NULL.
 */
const char *tcp_record_schema(void);
const char *tcp_record_schema_check(const char *schema, uint32_t record_bytes);
int tcp_record_translate(const char *schema, const void *bytes, size_t n, struct tcp_record *ret);
/* Bytes of one slot of a build whose record has so many; and the published record in it, NULL: none. */
size_t tcp_record_slot_bytes_of(uint32_t record_bytes);
size_t tcp_records_bytes_of(uint32_t max_conns, uint32_t record_bytes);
/*
 * The record of the connection that is parked in that slot of an arena, as that build laid it out, into record_bytes bytes.
 * 0, -ENOENT: none, -EILSEQ: damaged. For tcp_record_translate(); it names no layout.
 */
int tcp_record_parked_of(const void *arena, uint32_t max_conns, uint32_t slot, uint32_t record_bytes, void *ret);
const void *tcp_record_published_of(const void *slot, uint32_t record_bytes);
/* Publishes a record in a slot that nobody else uses. */
void tcp_record_put(void *arena, uint32_t slot, const struct tcp_record *r);
/*
 * Bytes of a record of this or an older layout into the present one; 0, -EINVAL (unknown layout, wrong size), or
 * -EILSEQ (sum). New layouts add their predecessor to the table in record.c.
 */
int tcp_record_convert(const void *bytes, size_t n, struct tcp_record *ret);
/* One line "name=value name=value ...". Returns what snprintf() would. */
int tcp_record_dump(const struct tcp_record *r, char *text, size_t size);

/* 0 or -ENOENT. */
int tcp_record_save(const struct tcp *t, tcp_id id, struct tcp_record *ret);
/* The i-th piece of payload to send, or received; false: no more. Valid until the next call that changes c. */
bool tcp_record_send_range(const struct tcp *t, tcp_id id, uint32_t i, struct tcp_record_range *ret);
bool tcp_record_recv_range(const struct tcp *t, tcp_id id, uint32_t i, struct tcp_record_range *ret);
/*
 * The connection lives on under its id. [snd_una, snd_nxt) counts as sent once, at an unknown time; timers are armed
 * anew from `now`. 0, -EINVAL (record or payload don't check, or no such MD5 key), -EADDRINUSE (id or tuple), -ENFILE, -ENOMEM.
 */
int tcp_record_restore(struct tcp *t, const struct tcp_record *r, const struct tcp_record_payload *payload,
                       uint64_t now);

/* ---- After a crash ---- */

/*
 * What the shell knows better than the last commit: bytes that were taken from a program (and lie in the send buffer's
 * places, tcp_send_note()), or given to it. Both are positions in sequence numbers; only ones ahead of the record count.
 */
struct tcp_restore_hint {
    tcp_id id;
    uint32_t write_seq, copied_seq;
    bool has_write, has_read;
};
struct tcp_restore_params {
    const struct tcp_restore_hint *hints; /* by id */
    uint32_t n_hints;
    /* A record that can't be used: why. It may be any bytes. May be NULL. */
    void (*lost)(void *ctx, uint32_t slot, const struct tcp_record *r, const char *why);
    void *ctx;
};
struct tcp_restored {
    uint32_t conns, requests, time_wait, lost;
};
/*
 * Everything that the arenas of tcp_params hold, into an engine that has listeners (found again by address and port) but
 * nothing else; the pool is new, over the same memory and journal. Secrets are those of the predecessor, the generation
 * is another one. Connections that wait for accept raise TCP_EVENT_ACCEPT again. 0 or -ENOMEM: nothing was restored.
 */
int tcp_restore(struct tcp *t, const struct tcp_restore_params *p, uint64_t now, struct tcp_restored *ret);
/* Positions as in struct tcp_restore_hint. 0 or -ENOENT. */
int tcp_stream_at(const struct tcp *t, tcp_id id, uint32_t *ret_write_seq, uint32_t *ret_copied_seq);
/*
 * After tcp_send_reserve(), before the kernel writes into the places: says where they lie, so that they can be restored
 * by a hint although they were never committed.
 */
void tcp_send_note(struct tcp *t, tcp_id id);

/* The published record of a slot of an arena (tcp_params.record_arena), NULL: none. For reading after a crash. */
const struct tcp_record *tcp_record_published(const void *arena, uint32_t slot);

#endif
