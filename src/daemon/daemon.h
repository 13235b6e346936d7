/*
 * daemon/daemon.h: the shell around the stack: what its modules share.
 *
 * A turn of the loop (loop.c) has two halves with the commit between them (design section 5):
 *
 *   first half   frames are read from the TAP (at most 64 or 250 us), timers expire, programs' and backends' bytes are
 *                read into send buffers, control requests are carried out; everything marks, nothing leaves
 *   commit       sock and stack events are drained, stack_commit()
 *   second half  frames are written, bytes go to programs and backends, control answers and events are sent
 *
 * So a module never writes to a descriptor where it stands: it queues a struct deferred (daemon_defer()), which the
 * second half runs. What a deferred function marks (space freed in a receive buffer, say) is served in the next turn,
 * which begins at once.
 *
 * Modules: main.c (ordered start and end), config.c (INI) and config_text.c, loop.c (libev, one timerfd, turns), tap.c, netlink.c,
 * logger.c, notify.c (sd_notify), fdset.c (edge-triggered descriptors), pump.c (sock <-> descriptor), arena.c and
 * witness.c (what outlives a crash), supervisor.c (worker processes), revive.c (what a new worker takes over), forward.c, service.c, control.c (JSON-RPC framing,
 * clients, rights), method_*.c (the calls), program.c (descriptors handed to programs), events.c (subscriptions).
 */
#ifndef TAUT_DAEMON_H
#define TAUT_DAEMON_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/log.h"
#include "sock/sock.h"
#include "stack/stack.h"

struct daemon_config; /* config.h */
struct tap;           /* tap.h */
struct netlink;       /* netlink.h */
struct control;       /* control.h */
struct forwards;      /* forward.h */
struct services;      /* service.h */
struct programs;      /* program.h */
struct loop;          /* loop.h */
struct fdset;         /* fdset.h */
struct arena;         /* arena.h */

/* Work for the second half of the turn. Embedded; `fn` runs once, then it is unlinked and may be queued again. */
struct deferred {
    struct list_node link;
    void (*fn)(struct deferred *self, uint64_t now);
};

struct pump;
/* What the owner of a sock tells about itself. */
struct sock_owner_info {
    char name[64];           /* "forward web", "echo", "program pid 123" */
    const struct pump *pump; /* that moves its bytes; NULL: none */
};

/* Whoever owns a struct sock embeds this and passes it as the sock's user pointer. */
struct sock_owner {
    /* Readiness that became true (enum sock_poll_bit). Runs in the first half. */
    void (*ready)(struct sock_owner *self, struct sock *s, unsigned bits, uint64_t now);
    /* For listings (conn.list, conn.get); NULL: nothing to tell. */
    void (*describe)(const struct sock_owner *self, struct sock_owner_info *ret);
    /*
     * conn.close and conn.abort: ends the connection as if the program had closed it (FIN behind what was read so far)
     * or resets it. May free the sock and self. NULL: the owner lets nobody end it.
     */
    void (*end)(struct sock_owner *self, struct sock *s, bool abort, uint64_t now);
};

/* Counters of the shell. X(name, "metric", "help") */
#define DAEMON_COUNTERS(X)                                                                                     \
    X(turns, "DaemonTurns", "turns of the loop")                                                               \
    X(busy_polls_hit, "BusyPollHits", "waits that began by looking and ended by it (busy_poll_us)")            \
    X(busy_polls_missed, "BusyPollMisses", "waits that began by looking, in vain")                             \
    X(tap_reads, "TapReads", "frames read from the TAP")                                                       \
    X(tap_writes, "TapWrites", "frames written to the TAP")                                                    \
    X(tap_write_errors, "TapWriteErrors", "frames that the TAP refused")                                       \
    X(tap_read_errors, "TapReadErrors", "failed reads of the TAP")                                             \
    X(rx_no_memory, "TapRxNoMemory", "frames read without a chunk to keep them in")                            \
    X(control_clients, "ControlClients", "control clients that connected")                                     \
    X(control_calls, "ControlCalls", "control calls answered")                                                 \
    X(control_errors, "ControlErrors", "control calls answered with an error")                                 \
    X(control_oversize, "ControlOversize", "control requests longer than 1 MiB")                               \
    X(control_slow, "ControlSlowClients", "control clients ended: they did not read their answers")            \
    X(events_dropped, "EventsDropped", "events not delivered to slow subscribers")                             \
    X(forward_accepts, "ForwardAccepts", "connections accepted for forwards")                                  \
    X(forward_refused, "ForwardBackendRefused", "forwards whose backend refused or failed")                    \
    X(forward_timeouts, "ForwardBackendTimeouts", "forwards whose backend did not answer in time")             \
    X(forward_resets, "ForwardBackendResets", "forwards whose backend reset the connection")                   \
    X(control_refused, "ControlRefused", "control clients turned away: too many, or out of descriptors or memory") \
    X(program_refused, "ProgramRefused", "connections not given to their program: out of descriptors or memory")   \
    X(no_memory, "NoMemory", "connections reset: no memory to serve them")                                     \
    X(forward_no_fds, "ForwardNoDescriptors", "forwards refused: out of descriptors")                          \
    X(no_links, "NoLinks", "connections and listeners refused: no place for their descriptor in the arena")    \
    X(program_gone, "ProgramGone", "connections ended because their program went away")                        \
    X(bytes_to_programs, "ProgramBytesOut", "bytes given to programs and backends")                            \
    X(bytes_from_programs, "ProgramBytesIn", "bytes taken from programs and backends")                         \
    X(starved, "Starved", "times that sending waited for a free chunk")                                        \
    X(bytes_lost, "ProgramBytesLost", "bytes taken from one side that the other did not take; it read an error")

struct daemon_counters {
#define X(name, metric, help) unsigned long long name;
    DAEMON_COUNTERS(X)
#undef X
};

/* blackbox.c: what was written down of connections that ended badly. */
struct blackbox {
    uint64_t seen, second_at;
    unsigned written; /* in that second */
    struct log_limit limit;
};

struct daemon {
    struct ev_loop *loop;
    struct daemon_config *config;
    struct log_sink log;
    struct chunk_pool *pool;
    struct stack *stack;
    struct tcp *tcp;       /* stack_tcp(stack) */
    struct socks *socks;   /* stack_socks(stack) */
    struct fdset *fds;     /* programs' and backends' descriptors */
    struct arena *arena;   /* what outlives this process; NULL: nothing does (survive = no) */
    struct tap *tap;
    struct netlink *netlink;
    struct control *control;
    struct forwards *forwards;
    struct services *services;
    struct programs *programs;
    struct daemon_counters counters;
    struct keep_counters kept;    /* the same in the arena */
    int listen_fd[2];      /* control sockets that outlive this process, 0: control_open() makes its own */
    uint64_t started_at;
    char ifname[16];
    uint8_t mac[STACK_MAC_BYTES]; /* of taut's end, for server.status; set by main */
    uint16_t mtu;                 /* as last given to stack_set_mtu() */
    bool link_up;                 /* as last given to stack_set_link() */
    struct blackbox blackbox;
    struct capture *capture; /* of the interface; NULL: none */
    bool draining;         /* SIGTERM came: no new connections, FINs are out */
    int exit_status;       /* of the process when the loop ends */
    struct list_node deferred;
    struct list_node starved; /* work that waits for a chunk; NULL pointers: none yet */
    size_t starved_used;      /* bytes of chunks that were taken when the last of it began to wait */
    ev_timer starved_timer;   /* what is missing may be other memory, of which nobody tells */
    bool starved_due;
    struct loop *runner;   /* loop.c */
    /* Set by control_open(): what the stack tells (addresses, pings, neighbours) for subscribers; may be NULL. */
    void (*on_stack_event)(struct daemon *d, const struct stack_event *e, uint64_t now);
    /* Set by control_open(): runs once a turn after sock events were drained, in the first half; may be NULL. */
    void (*on_turn)(struct daemon *d, uint64_t now);
};

/* CLOCK_MONOTONIC now; the one place where the daemon reads its clock. Never goes back. */
uint64_t daemon_now(void);
/* Queues work for the second half of this turn; no effect if it is queued already. */
void daemon_defer(struct daemon *d, struct deferred *w);
/*
 * Queues work that could not go on for lack of chunks: it is deferred when chunks come free, oldest first. Use a struct
 * deferred of its own for it (one that is queued here is not queued by daemon_defer()); list_del() its link to forget it.
 */
void daemon_starve(struct daemon *d, struct deferred *w);
/* Runs what is queued now (the loop does; at the end main does once more). True if there was any. */
bool daemon_run_deferred(struct daemon *d);
/* blackbox.c: once a turn. */
void blackbox_turn(struct daemon *d, uint64_t now);
/* The loop is to run a turn even if nothing is readable (something was marked outside of one). */
void daemon_kick(struct daemon *d);
/* Begins an orderly end: drains, then leaves the loop. */
void daemon_stop(struct daemon *d);
/* A key that the file changed and that only a start takes over: its value there, and the one in use. */
typedef void daemon_ignored_fn(void *user, const char *name, const char *file, const char *value);
/* Reads the configuration file again: forwards, services, log level; connections untouched. 0 or -1 with the message, a
 * line for each mistake. ignored: called for each changed key that had no effect; may be NULL. */
int daemon_reload(struct daemon *d, daemon_ignored_fn *ignored, void *user, char *ret_error, size_t error_bytes);

#endif
