/*
 * tcp/tcp_enums.h: the vocabulary of the engine: states, why a segment was sent, why one was dropped, what a
 * connection waits for, what it tells its owner, and the counters. Names are RFC's and Linux's; every list is an
 * X-macro, so that enumeration, name and documentation cannot drift apart.
 */
#ifndef TAUT_TCP_ENUMS_H
#define TAUT_TCP_ENUMS_H

/* X(NAME, number): numbers are Linux's (include/net/tcp_states.h). */
#define TCP_STATES(X)                                                                                          \
    X(ESTABLISHED, 1)                                                                                          \
    X(SYN_SENT, 2)                                                                                             \
    X(SYN_RECV, 3)                                                                                             \
    X(FIN_WAIT1, 4)                                                                                            \
    X(FIN_WAIT2, 5)                                                                                            \
    X(TIME_WAIT, 6)                                                                                            \
    X(CLOSE, 7)                                                                                                \
    X(CLOSE_WAIT, 8)                                                                                           \
    X(LAST_ACK, 9)                                                                                             \
    X(LISTEN, 10)                                                                                              \
    X(CLOSING, 11)                                                                                             \
    X(NEW_SYN_RECV, 12)

enum tcp_state {
#define X(name, number) TCP_STATE_##name = number,
    TCP_STATES(X)
#undef X
        TCP_STATE_MAX
};

/* Why a segment left: X(NAME, "what it means"). Counted per connection and per stack. */
#define TCP_CAUSES(X)                                                                                          \
    X(SYN, "first SYN of an active open")                                                                      \
    X(SYN_RETRANS, "SYN again, timer ran out")                                                                 \
    X(SYNACK, "answer to a SYN")                                                                               \
    X(SYNACK_RETRANS, "SYN-ACK again: timer ran out or the SYN was repeated")                                  \
    X(DATA, "new data, perhaps with FIN")                                                                      \
    X(FIN, "FIN without data")                                                                                 \
    X(RETRANS_FAST, "retransmission: duplicate ACKs or SACK marked it lost")                                   \
    X(RETRANS_RTO, "retransmission: the RTO ran out")                                                          \
    X(RETRANS_TLP, "tail loss probe: new data or the last segment again")                                      \
    X(MTU_PROBE, "path-MTU probe: new data in a segment larger than the others")                               \
    X(RETRANS_MTU, "retransmission: what a path-MTU probe carried, in smaller segments")                       \
    X(PROBE_WINDOW, "zero-window probe")                                                                       \
    X(PROBE_KEEPALIVE, "keepalive probe")                                                                      \
    X(ACK_HANDSHAKE, "ACK that completes our active open")                                                     \
    X(ACK_DELAYED, "delayed-ACK timer ran out")                                                                \
    X(ACK_QUICK, "in-order data acknowledged at once: quick-ACK mode or two segments received")                \
    X(ACK_OUT_OF_ORDER, "out-of-order segment or filled hole")                                                 \
    X(ACK_DUPLICATE, "duplicate segment, D-SACK")                                                              \
    X(ACK_CE_CHANGE, "change of congestion-experienced marks")                                                 \
    X(ACK_WINDOW, "window update: the program has read")                                                       \
    X(ACK_WINDOW_PROBE, "answer to a probe into a closed window")                                              \
    X(ACK_KEEPALIVE, "answer to a keepalive probe")                                                            \
    X(ACK_FIN, "FIN received")                                                                                 \
    X(ACK_CHALLENGE, "challenge ACK, RFC 5961")                                                                \
    X(ACK_UNACCEPTABLE, "segment outside the window, or an ACK of what was never sent")                        \
    X(ACK_TIME_WAIT, "segment for a connection in TIME-WAIT")                                                  \
    X(RST_NO_SOCKET, "segment for a port that nobody listens on, or for no connection")                        \
    X(RST_BAD_ACK, "unacceptable ACK in LISTEN, SYN-SENT or SYN-RECEIVED")                                     \
    X(RST_OVERFLOW, "accept queue full and tcp_abort_on_overflow")                                             \
    X(RST_ABORT, "the program aborted (linger 0, conn.abort)")                                                 \
    X(RST_UNREAD_DATA, "the program closed with unread data")                                                  \
    X(RST_DATA_AFTER_CLOSE, "data for a connection whose program is gone")                                     \
    X(RST_ORPHAN_LIMIT, "too many orphans")                                                                    \
    X(RST_TIMEOUT, "user timeout, keepalive or linger ran out")                                                \
    X(RST_LISTENER_CLOSED, "the listener closed with this connection not accepted")

enum tcp_cause {
#define X(name, text) TCP_CAUSE_##name,
    TCP_CAUSES(X)
#undef X
        TCP_CAUSE_MAX
};

/* Why a received segment, or part of it, was not used: X(NAME, "what it means"). */
#define TCP_DROPS(X)                                                                                           \
    X(NO_SOCKET, "no listener and no connection")                                                              \
    X(RST_NO_SOCKET, "RST for no connection")                                                                  \
    X(BAD_FLAGS, "no ACK, or flags that fit no state")                                                         \
    X(LISTEN_RST, "RST for a listener")                                                                        \
    X(LISTEN_FIN, "FIN for a listener without a SYN")                                                          \
    X(LISTEN_BACKLOG, "accept queue full: SYN or completing ACK ignored")                                      \
    X(SYN_QUEUE_FULL, "too many half-open entries")                                                            \
    X(NO_MEMORY, "no connection, entry or chunk could be had")                                                 \
    X(CONN_LIMIT, "max_connections reached")                                                                   \
    X(SYN_SENT_BAD_ACK, "unacceptable ACK in SYN-SENT")                                                        \
    X(SYN_SENT_RST, "RST without a good ACK in SYN-SENT")                                                      \
    X(SYN_SENT_NO_SYN, "neither SYN nor RST in SYN-SENT")                                                      \
    X(REQ_BAD_ACK, "bad ACK for a half-open entry")                                                            \
    X(REQ_OUT_OF_WINDOW, "segment outside a half-open entry's window")                                         \
    X(REQ_PAWS, "old timestamp for a half-open entry")                                                         \
    X(REQ_RST, "RST ended a half-open entry")                                                                  \
    X(REQ_DUP_SYN, "SYN repeated; its SYN-ACK was sent again, or held back by the rate limit")                 \
    X(PAWS, "timestamp older than ts_recent, RFC 7323 section 5")                                              \
    X(TSECR, "timestamp echo of what was never sent")                                                          \
    X(OUT_OF_WINDOW, "sequence number outside the receive window")                                             \
    X(RST_OUT_OF_WINDOW, "RST outside the window")                                                             \
    X(RST_NOT_EXACT, "RST in the window but not at rcv_nxt: challenged")                                       \
    X(SYN_CHALLENGED, "SYN on a synchronised connection: challenged")                                          \
    X(ACK_UNSENT, "ACK of data never sent")                                                                    \
    X(ACK_TOO_OLD, "ACK older than max_window: challenged")                                                    \
    X(ACK_OLD, "ACK below snd_una (segment's data still used)")                                                \
    X(OLD_DATA, "all of the data was received before")                                                         \
    X(ZERO_WINDOW, "data into a closed window")                                                                \
    X(BEYOND_WINDOW, "part behind the window's end cut off")                                                   \
    X(RCVBUF, "receive buffer or memory budget exhausted")                                                     \
    X(OOO_PRUNED, "out-of-order data thrown away under memory pressure")                                       \
    X(AFTER_FIN, "data behind the peer's FIN")                                                                 \
    X(DATA_AFTER_CLOSE, "data after the program had closed")                                                   \
    X(TIME_WAIT, "segment for TIME-WAIT that needs no answer")                                                 \
    X(TIME_WAIT_RST, "RST ignored in TIME-WAIT, RFC 1337")                                                     \
    X(CHALLENGE_LIMIT, "challenge or out-of-window ACK held back by its rate limit")                           \
    X(REPLY_RING_FULL, "reply intents overflowed")                                                             \
    X(ICMP_BAD_SEQ, "ICMP error for data not in flight, RFC 5927")                                             \
    X(ICMP_NO_SOCKET, "ICMP error for no connection")                                                          \
    X(DEFER_ACCEPT, "bare ACK while the listener waits for data")                                              \
    X(SYN_COOKIE, "invalid or outdated SYN cookie")                                                            \
    X(PEER_NOT_PROVEN, "last quarter of the SYN queue: only for peers known to be alive")                      \
    X(MD5_NOT_FOUND, "no TCP-MD5 signature, but there is a key for this peer")                                 \
    X(MD5_UNEXPECTED, "a TCP-MD5 signature, but there is no key for this peer")                                \
    X(MD5_FAILURE, "wrong TCP-MD5 signature")                                                                  \
    X(WAKE_NO_MEMORY, "no memory to wake the parked connection")

enum tcp_drop {
#define X(name, text) TCP_DROP_##name,
    TCP_DROPS(X)
#undef X
        TCP_DROP_MAX
};

/* What keeps a connection from sending its next byte: X(NAME, "text"). */
#define TCP_LIMITS(X)                                                                                          \
    X(NOTHING, "nothing is waiting: the program writes no more")                                               \
    X(READY, "waits for its turn on the device")                                                               \
    X(HANDSHAKE, "the handshake is not complete")                                                              \
    X(CWND, "congestion window")                                                                               \
    X(RWND, "the peer's receive window")                                                                       \
    X(NAGLE, "a small segment waits for an ACK (Nagle)")                                                       \
    X(CORK, "the program holds it back")                                                                       \
    X(TSO_DEFER, "waits to fill a super-frame")                                                                \
    X(PACING, "pacing gate")                                                                                   \
    X(DEVICE, "the device was full: tried again with the next send or ACK, or after a while")                  \
    X(MTU_PROBE, "a path-MTU probe waits until ACKs make room for it")                                         \
    X(NEIGHBOUR, "the next hop's address is not resolved")                                                     \
    X(NO_ROUTE, "no route to the peer")                                                                        \
    X(CLOSED, "the connection cannot send any more")

enum tcp_limit {
#define X(name, text) TCP_LIMIT_##name,
    TCP_LIMITS(X)
#undef X
        TCP_LIMIT_MAX
};

/* Event bits; each is edge-like: set when the thing happens, cleared when the event is taken. */
enum tcp_event_bit {
    TCP_EVENT_CONNECTED = 1 << 0,   /* active or passive open completed */
    TCP_EVENT_ACCEPT = 1 << 1,      /* a new connection of a listener: sock is to queue it */
    TCP_EVENT_READABLE = 1 << 2,    /* unread bytes have come */
    TCP_EVENT_WRITABLE = 1 << 3,    /* send space has become available again */
    TCP_EVENT_PEER_CLOSED = 1 << 4, /* FIN received: nothing follows what is unread */
    TCP_EVENT_ERROR = 1 << 5,       /* the connection ended badly; the errno is in the event */
    TCP_EVENT_CLOSED = 1 << 6,      /* state CLOSE: nothing moves any more; tcp_close() gives the id back */
    TCP_EVENT_STATE = 1 << 7,       /* any change of state */
    TCP_EVENT_URGENT = 1 << 8,      /* urgent mark received */
};

/*
 * Counters of an engine. X(name, "OpenMetrics name", "help"). Where the name is one of Linux's SNMP/netstat counters
 * it means the same.
 */
#define TCP_COUNTERS(X)                                                                                        \
    X(active_opens, "ActiveOpens", "connections opened by us")                                                 \
    X(passive_opens, "PassiveOpens", "connections opened by peers")                                            \
    X(attempt_fails, "AttemptFails", "connection attempts that failed")                                        \
    X(estab_resets, "EstabResets", "established connections that were reset")                                  \
    X(in_segs, "InSegs", "segments received (a super-frame counts its segments)")                              \
    X(out_segs, "OutSegs", "segments sent, without retransmissions")                                           \
    X(retrans_segs, "RetransSegs", "segments retransmitted")                                                   \
    X(out_rsts, "OutRsts", "RSTs sent")                                                                        \
    X(in_bytes, "TCPInBytes", "payload bytes received in order")                                               \
    X(out_bytes, "TCPOutBytes", "payload bytes sent, without retransmissions")                                 \
    X(in_frames, "TCPInFrames", "frames received (a super-frame counts one)")                                  \
    X(out_frames, "TCPOutFrames", "frames sent (a super-frame counts one)")                                    \
    X(tw, "TW", "connections that entered TIME-WAIT")                                                          \
    X(tw_recycled, "TWRecycled", "TIME-WAIT entries reused by a newer SYN")                                    \
    X(tw_overflow, "TCPTimeWaitOverflow", "TIME-WAIT entries not made: limit reached")                         \
    X(tw_evicted, "TCPTimeWaitEvicted", "TIME-WAIT entries ended early: a new connection needed their place")  \
    X(delayed_acks, "DelayedACKs", "ACKs sent by the delayed-ACK timer")                                       \
    X(listen_overflows, "ListenOverflows", "accept queue was full")                                            \
    X(listen_drops, "ListenDrops", "SYNs dropped")                                                             \
    X(syncookies_sent, "SyncookiesSent", "SYN-ACKs sent with a SYN cookie")                                    \
    X(syncookies_recv, "SyncookiesRecv", "valid SYN cookies received")                                         \
    X(syncookies_failed, "SyncookiesFailed", "invalid SYN cookies received")                                   \
    X(req_queue_full_cookies, "TCPReqQFullDoCookies", "SYNs answered with a cookie: the SYN queue was full")   \
    X(req_queue_full_drop, "TCPReqQFullDrop", "SYNs dropped: the SYN queue was full")                          \
    X(defer_accept_drop, "TCPDeferAcceptDrop", "bare ACKs ignored while waiting for data (defer-accept)")      \
    X(fastopen_active, "TCPFastOpenActive", "Fast Opens whose data in the SYN was acknowledged")               \
    X(fastopen_active_fail, "TCPFastOpenActiveFail", "Fast Opens whose data was sent again")                   \
    X(fastopen_passive, "TCPFastOpenPassive", "Fast Opens accepted")                                           \
    X(fastopen_passive_fail, "TCPFastOpenPassiveFail", "Fast Opens refused: bad cookie or no memory")          \
    X(fastopen_listen_overflow, "TCPFastOpenListenOverflow", "Fast Opens refused: too many pending")           \
    X(fastopen_cookie_reqd, "TCPFastOpenCookieReqd", "SYNs that asked for a Fast Open cookie")                 \
    X(fastopen_blackhole, "TCPFastOpenBlackhole", "times Fast Open was paused because of a black hole")        \
    X(fastopen_passive_alt_key, "TCPFastOpenPassiveAltKey", "Fast Opens with a cookie of the backup key")      \
    X(req_timeouts, "TCPReqTimeouts", "half-open entries that timed out")                                      \
    X(ofo_queue, "TCPOFOQueue", "segments queued out of order")                                                \
    X(ofo_merge, "TCPOFOMerge", "out-of-order segments that were there already")                               \
    X(ofo_drop, "TCPOFODrop", "out-of-order segments dropped for lack of room")                                \
    X(ofo_pruned, "OfoPruned", "times the out-of-order queue was pruned")                                      \
    X(rcv_pruned, "RcvPruned", "segments dropped: receive buffer full after pruning")                          \
    X(rcv_collapsed, "TCPRcvCollapsed", "chunks saved by collapsing receive buffers")                          \
    X(dsack_old_sent, "TCPDSACKOldSent", "D-SACKs sent for old data")                                          \
    X(dsack_ofo_sent, "TCPDSACKOfoSent", "D-SACKs sent for out-of-order data")                                 \
    X(dsack_recv, "TCPDSACKRecv", "D-SACKs received for old data")                                                        \
    X(dsack_ofo_recv, "TCPDSACKOfoRecv", "D-SACKs received for out-of-order data")                             \
    X(dsack_recv_segs, "TCPDSACKRecvSegs", "segments that credible D-SACKs reported")                          \
    X(dsack_ignored_old, "TCPDSACKIgnoredOld", "D-SACKs from before the recovery")                             \
    X(dsack_ignored_no_undo, "TCPDSACKIgnoredNoUndo", "D-SACKs with nothing to undo")                          \
    X(dsack_ignored_dubious, "TCPDSACKIgnoredDubious", "D-SACKs of more than was sent again")                  \
    X(sack_discard, "TCPSACKDiscard", "SACK blocks outside what is in flight")                                 \
    X(sack_walked, "TCPSACKWalked", "sent-segment descriptors looked at for SACK blocks")                      \
    X(wqueue_too_big, "TCPWqueueTooBig", "splits refused: the send queue holds too many pieces")               \
    X(sack_recovery, "TCPSackRecovery", "fast recoveries begun by SACK")                                       \
    X(reno_recovery, "TCPRenoRecovery", "fast recoveries begun by duplicate ACKs")                             \
    X(fast_retrans, "TCPFastRetrans", "fast retransmissions")                                                  \
    X(slow_start_retrans, "TCPSlowStartRetrans", "retransmissions in loss recovery after an RTO")              \
    X(timeouts, "TCPTimeouts", "RTOs that ran out")                                                            \
    X(spurious_rto, "TCPSpuriousRTOs", "RTOs found spurious by F-RTO")                                         \
    X(loss_probes, "TCPLossProbes", "tail loss probes sent")                                                   \
    X(loss_probe_recovery, "TCPLossProbeRecovery", "losses that a tail loss probe repaired")                   \
    X(lost_retransmit, "TCPLostRetransmit", "retransmissions found lost")                                      \
    X(sack_reorder, "TCPSACKReorder", "times reordering was seen by SACK")                                     \
    X(ts_reorder, "TCPTSReorder", "times reordering was seen by timestamps")                                   \
    X(reno_reorder, "TCPRenoReorder", "times reordering was seen by duplicate ACKs")                           \
    X(full_undo, "TCPFullUndo", "recoveries found spurious at their end")                                      \
    X(partial_undo, "TCPPartialUndo", "recoveries found spurious by a partial ACK")                            \
    X(dsack_undo, "TCPDSACKUndo", "recoveries found spurious by D-SACKs")                                      \
    X(loss_undo, "TCPLossUndo", "timeouts taken back: timestamps, D-SACKs or F-RTO")                           \
    X(reneging, "TCPSACKReneging", "peers that forgot what they had SACKed")                                   \
    X(probe0, "TCPWinProbe", "zero-window probes sent")                                                        \
    X(keepalive, "TCPKeepAlive", "keepalive probes sent")                                                      \
    X(challenge_acks, "TCPChallengeACK", "challenge ACKs sent")                                                \
    X(syn_challenges, "TCPSYNChallenge", "challenges because of a SYN")                                        \
    X(skipped_challenges, "TCPACKSkippedChallenge", "challenge ACKs held back")                                \
    X(skipped_paws, "TCPACKSkippedPAWS", "ACKs held back: old timestamps")                                     \
    X(skipped_seq, "TCPACKSkippedSeq", "ACKs held back: segments outside the window")                          \
    X(skipped_syn_recv, "TCPACKSkippedSynRecv", "ACKs held back: half-open entries")                           \
    X(skipped_time_wait, "TCPACKSkippedTimeWait", "ACKs held back: TIME-WAIT entries")                         \
    X(abort_on_data, "TCPAbortOnData", "RST: the program closed with data unread or coming")                   \
    X(abort_on_timeout, "TCPAbortOnTimeout", "connections given up: no answer")                                \
    X(abort_on_linger, "TCPAbortOnLinger", "orphans given up in FIN-WAIT-2")                                   \
    X(abort_on_memory, "TCPAbortOnMemory", "orphans given up: too many")                                       \
    X(abort_failed, "TCPAbortFailed", "RSTs that could not be sent")                                           \
    X(paws_estab, "PAWSEstab", "segments dropped by PAWS")                                                     \
    X(hp_hits, "TCPHPHits", "segments that took the fast path")                                                \
    X(pure_acks, "TCPPureAcks", "ACKs without data received")                                                  \
    X(zero_window_adv, "TCPToZeroWindowAdv", "times the window went to zero")                                  \
    X(want_zero_window_adv, "TCPWantZeroWindowAdv", "times the window wanted to be zero")                      \
    X(from_zero_window_adv, "TCPFromZeroWindowAdv", "times the window left zero")                              \
    X(out_of_window_icmps, "OutOfWindowIcmps", "ICMP errors for what was not in flight")                      \
    X(icmp_errors, "TCPICMPErrors", "ICMP errors that were taken")                                             \
    X(tx_failed, "TCPTxFailed", "segments that the device refused")                                            \
    X(mtup_success, "TCPMTUPSuccess", "path-MTU probes that arrived")                                          \
    X(mtup_fail, "TCPMTUPFail", "path-MTU probes that were lost")                                              \
    X(split, "TCPFragment", "sent-segment descriptors split")                                                  \
    X(merged, "TCPSackShifted", "sent-segment descriptors merged")                                             \
    X(md5_not_found, "TCPMD5NotFound", "segments dropped: TCP-MD5 expected but not found")                     \
    X(md5_unexpected, "TCPMD5Unexpected", "segments dropped: TCP-MD5 found but not expected")                  \
    X(md5_failure, "TCPMD5Failure", "segments dropped: TCP-MD5 signature wrong")                               \
    X(parked, "TCPParked", "idle connections parked: their working memory was given back")                     \
    X(woken, "TCPWoken", "parked connections woken")                                                           \
    X(park_no_room, "TCPParkNoRoom", "idle connections not parked: more than a cell holds is to be remembered") \
    X(commits, "TCPRecordCommits", "connection records committed")

struct tcp_counters {
#define X(name, metric, help) unsigned long long name;
    TCP_COUNTERS(X)
#undef X
};

const char *tcp_state_name(enum tcp_state s);
const char *tcp_cause_name(enum tcp_cause c);
const char *tcp_cause_text(enum tcp_cause c);
const char *tcp_drop_name(enum tcp_drop d);
const char *tcp_drop_text(enum tcp_drop d);
const char *tcp_limit_name(enum tcp_limit l);
const char *tcp_limit_text(enum tcp_limit l);

#endif
