/*
 * daemon/events.h: subscriptions of the control API (events.subscribe).
 *
 * A subscriber gets the present state once, then each change with a running number. What it does not read in
 * time is not queued without end: beyond EVENTS_QUEUE_MAX unread bytes events are dropped, and counted in the
 * next one.
 */
#ifndef TAUT_DAEMON_EVENTS_H
#define TAUT_DAEMON_EVENTS_H

#include "daemon/daemon.h"

#define EVENTS_QUEUE_MAX      (1024u * 1024u)
#define EVENTS_SNAPSHOT_CONNS 1000u

struct control_client;

/* A listener came or went (programs, forwards, services may call it). No effect without subscribers. */
void events_listener(struct daemon *d, const struct ip_addr *addr, uint16_t port, const char *owner,
                     bool gone);
/* A line of the log. No effect without subscribers; safe to call from the log sink. */
void events_log(struct daemon *d, int level, const char *text);

/* The hooks that control_open() hangs into struct daemon. */
void events_on_stack(struct daemon *d, const struct stack_event *e, uint64_t now);
void events_on_turn(struct daemon *d, uint64_t now);
/* The client goes. */
void events_unsubscribe(struct control_client *cl);

#endif
