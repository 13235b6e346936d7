/*
 * cc/reno.h: NewReno's window rules (RFC 5681), the default controller.
 */
#ifndef TAUT_CC_RENO_H
#define TAUT_CC_RENO_H

#include "cc/cc.h"

extern const struct cc_ops cc_reno;

/* Its functions, for controllers that behave as Reno somewhere; `state` is not looked at. */
uint32_t cc_reno_ssthresh(void *state, const struct cc_window *w, uint32_t in_flight);
void cc_reno_cong_avoid(void *state, struct cc_window *w, const struct cc_sample *s);
uint32_t cc_reno_undo_cwnd(void *state, const struct cc_window *w, uint32_t prior_cwnd);

#endif
