/*
 * daemon/control.h: the control API (docs/control-api.md): JSON-RPC 2.0 on two Unix sockets.
 *
 * control_open() makes the sockets, the programs' part (program.h) and the subscriptions (events.h), and sets
 * d->on_stack_event and d->on_turn; nothing else has to be called by the loop.
 */
#ifndef TAUT_DAEMON_CONTROL_H
#define TAUT_DAEMON_CONTROL_H

#include <stdio.h>

#include "daemon/config.h"
#include "daemon/daemon.h"

/*
 * Makes control.sock and control.seq in the configured directory (made 0755 if it is not there; a socket that
 * nobody listens on any more is replaced). Sets d->control and d->programs. NULL with a sentence in
 * ret_error.
 */
/*
 * The same sockets without anybody who serves them, for d->listen_fd: they outlive the process that does. control_open()
 * uses them then. 0 or -1 with a sentence.
 */
int control_listen(const struct daemon_config *config, int ret_fd[2], char *ret_error, size_t error_bytes);
/* Closes and removes them. */
void control_unlisten(const struct daemon_config *config, int fd[2]);
struct control *control_open(struct daemon *d, char *ret_error, size_t error_bytes);
/* Ends all clients, pending calls and programs' connections (reset), removes the sockets; c may be NULL. */
void control_close(struct control *c);
/* What rpc.discover answers, as indented JSON and a line feed; needs no daemon. 0 or -1. */
int control_dump_api(FILE *out);

#endif
