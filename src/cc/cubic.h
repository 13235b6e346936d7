/*
 * cc/cubic.h: CUBIC (RFC 9438), Linux's default controller. Options: CC_OPT_NO_HYSTART, CC_OPT_HYSTART_PP,
 * CC_OPT_ABE.
 */
#ifndef TAUT_CC_CUBIC_H
#define TAUT_CC_CUBIC_H

#include "cc/cc.h"

extern const struct cc_ops cc_cubic;

#endif
