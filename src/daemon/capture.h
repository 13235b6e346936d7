/*
 * daemon/capture.h: a live capture of the interface, with why each frame left and what became of each that came.
 */
#ifndef TAUT_DAEMON_CAPTURE_H
#define TAUT_DAEMON_CAPTURE_H

#include "daemon/daemon.h"

struct capture;

/* Around stack_input() of a frame: what it was, and what was counted. Only where d->capture is there. */
void capture_before(struct daemon *d, const struct stack_rx *rx);
void capture_input(struct daemon *d);
/* A frame was written; r < 0: the device did not take it. */
void capture_output(struct daemon *d, const struct stack_tx *tx, int r);
/* At the daemon's end. */
void capture_close(struct daemon *d);

#endif
