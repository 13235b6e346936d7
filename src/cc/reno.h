/*
 * cc/reno.h: NewReno's window rules (RFC 5681), the default controller.
 */
#ifndef TAUT_CC_RENO_H
#define TAUT_CC_RENO_H

#include "cc/cc.h"

extern const struct cc_ops cc_reno;

#endif
