/*
 * daemon/methods.c: THE table of the control API. Argument checking, rights, rpc.discover, `taut help` and
 * docs/control-api.md all come from it, so they cannot say different things. A method is added by a row here
 * and a handler in a method_*.c. Constant data only.
 */
#include "daemon/call.h"

#include <string.h>

#define END_PARAMS                                                                                           \
    {                                                                                                        \
        NULL, PARAM_STRING, false, NULL, 0, 0, NULL                                                          \
    }
#define END_FIELDS                                                                                           \
    {                                                                                                        \
        NULL, NULL, NULL                                                                                     \
    }

static const struct control_param no_params[] = {END_PARAMS};
static const struct control_param one_conn[] = {
    {"id", PARAM_CONN, true, NULL, 0, 0, "the connection's id"},
    END_PARAMS,
};

static const struct control_param hello_params[] = {
    {"client", PARAM_STRING, false, NULL, 0, 64, "what is calling, for the log"},
    END_PARAMS,
};
static const struct control_field hello_result[] = {
    {"name", "string", "\"taut\""},
    {"version", "string", "the daemon's version"},
    {"api", "integer", "version of this API; a number more means that something was taken away or changed"},
    {"pid", "integer", "the daemon's process"},
    {"interface", "string", "name of the TAP interface"},
    {"level", "string", "\"control\": the caller may do everything; \"read-only\""},
    END_FIELDS,
};

static const struct control_field status_result[] = {
    {"version", "string", "the daemon's version"},
    {"pid", "integer", "the daemon's process"},
    {"uptime_s", "number", "seconds since it, or after a crash its present worker, began"},
    {"counters_s", "number", "seconds since counters began; longer than uptime_s if a worker died meanwhile"},
    {"generation", "integer", "of the worker; 1: none died"},
    {"draining", "boolean", "it is ending"},
    {"interface", "object", "name, mac, mtu, up, offload {vnet_hdr, csum, tso4, tso6, tso_ecn}"},
    {"addresses", "array", "objects {address, prefix, state, origin, valid_s, preferred_s}; null: for ever"},
    {"routes", "array",
     "objects {prefix, gateway (null: on the link), mtu, advmss, initcwnd, initrwnd, from_ra}"},
    {"totals", "object", "connections, established, half_open, time_wait, orphans, listeners, ready, parked (of the established ones: idle, their working memory was given back)"},
    {"memory", "object", "chunk_bytes_used and chunk_bytes_budget: payload of all buffers"},
    {"forwards", "array", "objects {name, listen, to, connections, connecting, accepted, failed}"},
    {"services", "array", "objects {name, port, connections, accepted}"},
    {"listeners", "array", "objects {address, backlog, accept_queue, half_open, owner}"},
    {"rates", "object",
     "rx_bytes, tx_bytes, rx_frames, tx_frames since the start; rates are the caller's to make"},
    END_FIELDS,
};

static const struct control_field reload_result[] = {
    {"changed", "array", "names of the sections that a reload takes over"},
    {"needs_restart", "array",
     "objects {name, file, value}: keys whose value in the file is another than the one in use, and that only a start "
     "takes over"},
    END_FIELDS,
};

static const struct control_field discover_result[] = {
    {"methods", "array", "this list, as an OpenRPC document"},
    END_FIELDS,
};

static const struct control_param listen_params[] = {
    {"port", PARAM_INT, true, NULL, 0, 65535, "port to listen on; 0: a free one is chosen"},
    {"address", PARAM_ADDRESS, false, NULL, 0, 0, "local address; absent: all addresses of both families"},
    {"backlog", PARAM_INT, false, "128", 1, 65535, "connections that may wait to be accepted"},
    {"v6only", PARAM_BOOL, false, "false", 0, 0, "IPv6 connections only (IPV6_V6ONLY)"},
    {"md5", PARAM_STRINGS, false, NULL, 0, 0,
     "TCP-MD5 keys (RFC 2385), \"PREFIX KEY\" each, as \"192.0.2.0/24 secret\", before those of the configuration; "
     "connections of these peers are signed, and accepted with the right signature only. One at least; keys of UTF-8 text, "
     "1 to 80 bytes (those of the configuration may be any bytes)"},
    END_PARAMS,
};
static const struct control_field listen_result[] = {
    {"listener", "string", "its number, for reading"},
    {"address", "string", "what it listens on, with the port"},
    {"(descriptor)", "SOCK_SEQPACKET",
     "readable when a connection waits; each message is an object {id, peer, local} with one descriptor, a "
     "SOCK_STREAM socket; close it to end the listener"},
    END_FIELDS,
};

static const struct control_param connect_params[] = {
    {"address", PARAM_ADDRESS, true, NULL, 0, 0, "the peer's address (names are the client's to resolve)"},
    {"port", PARAM_INT, true, NULL, 1, 65535, "the peer's port"},
    {"source", PARAM_ADDRESS, false, NULL, 0, 0, "local address; absent: chosen by RFC 6724"},
    {"source_port", PARAM_INT, false, "0", 0, 65535, "local port; 0: chosen by RFC 6056"},
    {"timeout_ms", PARAM_INT, false, "0", 0, 86400000, "give up after this time; 0: tcp_syn_retries decides"},
    {"nodelay", PARAM_BOOL, false, "false", 0, 0, "TCP_NODELAY from the start"},
    {"md5", PARAM_STRING, false, NULL, 0, 80,
     "TCP-MD5 key (RFC 2385) for this peer, 1 to 80 bytes of UTF-8 text; absent: the configuration's, if there is one"},
    {"data", PARAM_STRING, false, NULL, 0, 16384,
     "first bytes to send: in the SYN where Fast Open allows (tcp_fastopen bit 1 and a cookie of this peer; "
     "it may get them twice then), else once connected"},
    END_PARAMS,
};
static const struct control_field connect_result[] = {
    {"id", "string", "the connection's id"},
    {"local", "string", "our address and port"},
    {"peer", "string", "the peer's"},
    {"(descriptor)", "SOCK_STREAM", "the connection: read, write, shutdown and close as on a TCP socket"},
    END_FIELDS,
};

static const struct control_param list_params[] = {
    {"state", PARAM_STRING, false, NULL, 0, 16, "only connections in this state, as \"ESTABLISHED\""},
    {"states", PARAM_STRINGS, false, NULL, 0, 0, "only connections in one of these states"},
    {"local_port", PARAM_INT, false, NULL, 0, 65535, "only connections of this local port"},
    {"peer_port", PARAM_INT, false, NULL, 0, 65535, "only connections to this port of the peer"},
    {"active_ms", PARAM_INT, false, NULL, 1, 3600000,
     "only connections on which data or an ACK moved in the last milliseconds"},
    {"fields", PARAM_STRINGS, false, NULL, 0, 0,
     "numbers of conn.get to tell of each connection too, as \"snd_cwnd\"; \"*\": all that are not 0, and ca_state, "
     "options, timer, limit_text, orphan, app_limited"},
    {"limit", PARAM_INT, false, "1000", 1, 5000, "rows at most"},
    {"after", PARAM_CONN, false, NULL, 0, 0, "go on behind this id: the \"next\" of the answer before"},
    END_PARAMS,
};
static const struct control_field list_result[] = {
    {"connections", "array",
     "objects {id, state, local, peer, owner, rtt_us, cwnd, congestion, bytes_in, bytes_out, limit}; limit: what the "
     "next byte "
     "waits for"},
    {"next", "string or null",
     "give it as \"after\" to go on; null: that was all. One call works for about a millisecond at most, so an "
     "answer may be short, even empty, and still have a next"},
    {"total", "integer", "connections, half-open and TIME-WAIT entries there are"},
    END_FIELDS,
};

static const struct control_field get_result[] = {
    {"id", "string", "its id"},
    {"state", "string", "as in RFC 9293, spelled as Linux does"},
    {"local", "string", "our address and port"},
    {"peer", "string", "the peer's"},
    {"owner", "string", "who has it: \"program pid 7\", \"forward web\", \"echo\", \"orphan\", ..."},
    {"limit", "string", "what its next byte waits for"},
    {"congestion", "string or null", "its congestion control; null: none any more, or not yet"},
    {"md5", "boolean", "its segments are signed (RFC 2385)"},
    {"(fields)", "integer",
     "every field of Linux's struct tcp_info without the prefix tcpi_, in Linux's units, and of taut's own: "
     "sequence "
     "numbers, buffers, age, timer_left (to the next timer of any kind) and timer_expires (of the timer named by "
     "\"timer\"), in microseconds; null: none"},
    {"timer", "string", "as ss -o names it: off, on (retransmission), keepalive, timewait, persist"},
    {"causes", "object", "why segments were sent: counts by name, non-zero ones"},
    {"drops", "object", "why segments were not used: counts by name, non-zero ones"},
    {"pump", "object or null",
     "bytes_in, bytes_out, undelivered, local_eof, peer_eof of the program's descriptor"},
    END_FIELDS,
};

static const struct control_param set_params[] = {
    {"id", PARAM_CONN, true, NULL, 0, 0, "the connection's id"},
    {"option", PARAM_STRING, true, NULL, 0, 32,
     "nodelay, cork, quickack, keepalive, keepidle (s), keepintvl (s), keepcnt, user_timeout (ms), linger2 "
     "(s), sndbuf, "
     "rcvbuf, window_clamp, notsent_lowat (bytes), max_pacing_rate (bytes/s), tos, congestion (a name)"},
    {"value", PARAM_SCALAR, true, NULL, 0, 0, "as setsockopt(2) takes it: an integer of 32 bits, or a name"},
    END_PARAMS,
};
static const struct control_field set_result[] = {
    {"option", "string", "its name"},
    {"value", "integer or string", "as getsockopt(2) tells it now (Linux doubles buffer sizes)"},
    END_FIELDS,
};

static const struct control_field ended_result[] = {
    {"id", "string", "its id; it may be gone by now"},
    END_FIELDS,
};

static const struct control_field neigh_result[] = {
    {"neighbours", "array",
     "objects {address, mac (null: unknown), state, router, age_s (null: never), waiting}"},
    END_FIELDS,
};

static const struct control_param metrics_params[] = {
    {"address", PARAM_ADDRESS, false, NULL, 0, 0, "only this destination"},
    {"limit", PARAM_INT, false, "500", 1, 5000, "rows at most"},
    {"after", PARAM_INT, false, "0", 0, INT32_MAX, "go on there: the \"next\" of the answer before"},
    END_PARAMS,
};
static const struct control_field metrics_result[] = {
    {"metrics", "array",
     "objects {address, source, age_s, rtt_us, rttvar_us, ssthresh, cwnd, reordering (segments), "
     "fastopen_mss, fastopen_cookie (hexadecimal), fastopen_syn_loss (SYNs with data lost in a row)}; null: not learnt"},
    {"next", "integer or null", "give it as \"after\" to go on; null: that was all"},
    END_FIELDS,
};
static const struct control_param flush_params[] = {
    {"address", PARAM_ADDRESS, false, NULL, 0, 0, "only this destination; absent: all"},
    END_PARAMS,
};
static const struct control_field flush_result[] = {
    {"forgotten", "integer", "entries that are gone"},
    END_FIELDS,
};

static const struct control_param trace_list_params[] = {
    {"dead", PARAM_BOOL, false, "false", 0, 0, "only black boxes: connections that ended badly and are gone"},
    {"limit", PARAM_INT, false, "1000", 1, 5000, "rows at most"},
    {"after", PARAM_INT, false, "0", 0, INT32_MAX, "go on there: the \"next\" of the answer before"},
    END_PARAMS,
};
static const struct control_field trace_list_result[] = {
    {"records", "array",
     "objects {id (\"engine\": what belongs to no connection), kind (connection, dead, engine), local, peer, events, lost "
     "(older ones, overwritten), bytes (of the pool), begun_s, silent_s (seconds ago), end, error (of dead ones)}"},
    {"next", "integer or null", "give it as \"after\" to go on; null: that was all"},
    {"totals", "object",
     "pool_bytes, used_bytes, records; since the start: events, stolen (records that gave way to others), dead"},
    END_FIELDS,
};
static const struct control_param trace_get_params[] = {
    {"id", PARAM_STRING, true, NULL, 1, 32, "a connection's id, also of one that is gone; \"engine\": what belongs to none"},
    {"after", PARAM_INT, false, "0", 0, INT64_MAX, "go on there: the \"next\" of the answer before"},
    {"max", PARAM_INT, false, "262144", 4096, 1048576, "bytes of events at most; beyond 262144, with json beyond 16384, it means that"},
    {"format", PARAM_STRING, false, "\"binary\"", 0, 8, "binary, or json: objects in place of data"},
    END_PARAMS,
};
static const struct control_field trace_get_result[] = {
    {"id", "string", "as asked"},
    {"kind", "string", "connection, dead or engine"},
    {"data", "string", "base64 of a section (docs/trace-format.md): a head, and events from \"after\" on"},
    {"head, events", "object, array", "the same, with format json"},
    {"next", "integer", "number of the event behind the last one: give it as \"after\" to go on"},
    {"end", "integer", "number behind the record's last event now: a reader of a busy one ends where the first answer says"},
    {"lost", "integer", "events that were overwritten between \"after\" and the first one here"},
    END_FIELDS,
};
static const struct control_param trace_follow_params[] = {
    {"id", PARAM_STRING, true, NULL, 1, 32, "a connection's id, or \"engine\""},
    {"after", PARAM_INT, false, "0", 0, INT64_MAX, "number of the first event wanted"},
    END_PARAMS,
};
static const struct control_field trace_follow_result[] = {
    {"id", "string", "as asked"},
    {"next", "integer", "where it begins"},
    {"(events)", "notification",
     "method \"trace\", params {id, data, next, lost, gone}: data as in trace.get; lost: events that were overwritten before "
     "you had read, since the beginning; gone: the connection is, nothing follows"},
    END_FIELDS,
};

static const struct control_param capture_params[] = {
    {"snaplen", PARAM_INT, false, "262144", 54, 262144, "most bytes of a frame"},
    {"host", PARAM_ADDRESS, false, NULL, 0, 0, "only TCP segments from or to this address"},
    {"port", PARAM_INT, false, "0", 0, 65535, "only TCP segments from or to this port; 0: any"},
    END_PARAMS,
};
static const struct control_field capture_result[] = {
    {"(descriptor)", "SOCK_SEQPACKET",
     "each message is a block of a pcapng file, in its order: section, interface, then frames as they pass the TAP, with a "
     "comment each: cause or verdict. What a slow reader misses is counted in statistics blocks (isb_ifdrop). Closing it ends "
     "the capture"},
    END_FIELDS,
};

static const struct control_param stats_params[] = {
    {"help", PARAM_BOOL, false, "false", 0, 0, "each counter as {value, help} instead of its value"},
    END_PARAMS,
};
static const struct control_field stats_result[] = {
    {"tcp", "object", "the engine's counters; names of Linux's SNMP counters mean the same"},
    {"tcp_causes", "object", "segments sent, by cause"},
    {"tcp_drops", "object", "segments not used, by reason"},
    {"stack", "object", "counters of Ethernet, ARP, IP and ICMP"},
    {"stack_drops", "object", "frames and packets not used, by reason"},
    {"daemon", "object", "counters of the daemon: device, control API, forwards, programs"},
    END_FIELDS,
};

static const struct control_param config_get_params[] = {
    {"name", PARAM_STRING, false, NULL, 0, 80, "\"section.key\" or the key alone; absent: all"},
    END_PARAMS,
};
static const struct control_field config_get_result[] = {
    {"rows", "array",
     "objects {name, value, default, min, max, unit, scope, help, section, type}; values are text"},
    END_FIELDS,
};
static const struct control_param config_set_params[] = {
    {"name", PARAM_STRING, true, NULL, 0, 80, "\"section.key\" or the key alone"},
    {"value", PARAM_SCALAR, true, NULL, 0, 0, "as in the file"},
    END_PARAMS,
};
static const struct control_field config_set_result[] = {
    {"name", "string", "\"section.key\""},
    {"value", "string", "its value now"},
    END_FIELDS,
};

static const struct control_param subscribe_params[] = {
    {"kinds", PARAM_STRINGS, false, NULL, 0, 0, "conn, listener, addr, neigh, link, log; absent: all"},
    END_PARAMS,
};
static const struct control_field subscribe_result[] = {
    {"seq", "integer", "number of the last event before the first one: 0"},
    {"snapshot", "array", "the present state, as objects like the events', at most 1,000 connections"},
    {"truncated", "boolean", "there are more connections than the snapshot shows"},
    {"(events)", "notification",
     "method \"event\", params {seq, dropped, time, kind, ...}: seq counts every event, dropped those of "
     "them that you "
     "did not read in time; by kind: conn {id, state, local, peer, error, closed}; listener {address, owner, "
     "gone}; addr "
     "{address, prefix, state, gone, conflict_mac}; neigh {address, mac, state}; link {interface, up, mtu}; "
     "log {level, "
     "text}. closed: its program has closed it, and what is left "
     "of it (FIN-WAIT, TIME-WAIT) makes no more events"},
    END_FIELDS,
};

static const struct control_param ping_params[] = {
    {"address", PARAM_ADDRESS, true, NULL, 0, 0, "whom"},
    {"count", PARAM_INT, false, "1", 1, 100, "echo requests"},
    {"interval_ms", PARAM_INT, false, "1000", 10, 60000, "time between two of them"},
    {"bytes", PARAM_INT, false, "56", 0, 1400, "payload"},
    {"timeout_ms", PARAM_INT, false, "1000", 1, 60000, "time to wait for each answer"},
    {"ttl", PARAM_INT, false, "0", 0, 255, "TTL or hop limit; 0: as configured"},
    END_PARAMS,
};
static const struct control_field ping_result[] = {
    {"address", "string", "whom"},
    {"replies", "array", "in the order of seq: objects {seq, rtt_us, ttl, bytes} or {seq, error}"},
    {"sent", "integer", "echo requests"},
    {"received", "integer", "echo replies"},
    {"min_us", "number or null", "shortest round trip"},
    {"avg_us", "number or null", "mean round trip"},
    {"max_us", "number or null", "longest round trip"},
    END_FIELDS,
};

#define READ    CONTROL_LEVEL_READ
#define CONTROL CONTROL_LEVEL_CONTROL

const struct control_method control_methods[] = {
    {"server.hello", method_server_hello, hello_params, hello_result, READ, false,
     "Who is there. A call like any other; nothing has to begin with it."},
    {"server.status", method_server_status, no_params, status_result, READ, false,
     "Interface, addresses, routes, totals, memory, forwards, services and listeners."},
    {"server.reload", method_server_reload, no_params, reload_result, CONTROL, false,
     "Reads the configuration file again; connections stay. CONFIG_INVALID names file and line; nothing is "
     "changed then."},
    {"server.upgrade", method_server_upgrade, no_params, reload_result, CONTROL, false,
     "Brings in the binary that lies at the daemon's path now, with the same process id; connections stay. Answered with "
     "UPGRADE_REFUSED, or by the end of the connection: ask server.hello again."},
    {"rpc.discover", method_rpc_discover, no_params, discover_result, READ, false,
     "This description, as an OpenRPC document."},
    {"tcp.listen", method_tcp_listen, listen_params, listen_result, CONTROL, true,
     "Listens; answers with a descriptor on which accepted connections arrive."},
    {"tcp.connect", method_tcp_connect, connect_params, connect_result, CONTROL, true,
     "Connects; answers once connected, with the connection's descriptor, or with the error."},
    {"conn.list", method_conn_list, list_params, list_result, READ, false,
     "Connections, half-open and TIME-WAIT entries, page by page."},
    {"conn.get", method_conn_get, one_conn, get_result, READ, false, "All that is known of a connection."},
    {"conn.set", method_conn_set, set_params, set_result, CONTROL, false,
     "Sets a socket option of a connection."},
    {"conn.close", method_conn_close, one_conn, ended_result, CONTROL, false,
     "Ends a connection in order, as if its program had closed it: FIN behind what was written so far."},
    {"conn.abort", method_conn_abort, one_conn, ended_result, CONTROL, false, "Resets a connection."},
    {"neigh.list", method_neigh_list, no_params, neigh_result, READ, false,
     "The neighbour cache (ARP and ND)."},
    {"metrics.list", method_metrics_list, metrics_params, metrics_result, READ, false,
     "What closed connections learnt of their destinations, for the next ones (Linux's tcp_metrics)."},
    {"trace.list", method_trace_list, trace_list_params, trace_list_result, READ, false,
     "What the flight recorder has: of connections, and of those that ended badly."},
    {"trace.get", method_trace_get, trace_get_params, trace_get_result, READ, false,
     "Events of a record: segments with their causes, ACK results, timers, states, calls, limits."},
    {"trace.follow", method_trace_follow, trace_follow_params, trace_follow_result, READ, false,
     "The same as it grows, as notifications; one record per client."},
    {"capture.open", method_capture_open, capture_params, capture_result, CONTROL, true,
     "Frames of the interface, with their causes and drop reasons, until the descriptor is closed; one at a time."},
    {"metrics.flush", method_metrics_flush, flush_params, flush_result, CONTROL, false,
     "Forgets it, Fast Open cookies too."},
    {"stats.get", method_stats_get, stats_params, stats_result, READ, false, "All counters."},
    {"config.get", method_config_get, config_get_params, config_get_result, READ, false,
     "The configuration: present values with their description."},
    {"config.set", method_config_set, config_set_params, config_set_result, CONTROL, false,
     "Changes a key that may change while running (scope \"now\" or \"new\"); the file is not written."},
    {"events.subscribe", method_events_subscribe, subscribe_params, subscribe_result, READ, false,
     "The present state, then each change as a notification, until the client goes."},
    {"icmp.ping", method_icmp_ping, ping_params, ping_result, CONTROL, false,
     "Sends echo requests; answers when all have come to their end."},
    {NULL, NULL, NULL, NULL, READ, false, NULL},
};

const struct control_method *control_method_find(const char *name)
{
    for (const struct control_method *m = control_methods; m->name; m++) {
        if (strcmp(m->name, name) == 0)
            return m;
    }
    return NULL;
}

const char *control_param_type_name(enum param_type type)
{
    static const char *const names[] = {
        [PARAM_STRING] = "string",  [PARAM_INT] = "integer", [PARAM_BOOL] = "boolean",
        [PARAM_ADDRESS] = "string", [PARAM_CONN] = "string", [PARAM_STRINGS] = "array",
        [PARAM_SCALAR] = "scalar",
    };

    return names[type];
}
