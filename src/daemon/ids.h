/*
 * daemon/ids.h: a connection's id as text: "SLOT.GEN": the id's lower 32 bits in decimal (the slot; worker
 * 0), a point, its upper 32 bits in lower-case hexadecimal, as "7.100003". Exactly one text names an id: no
 * leading zeros, no signs, no spaces.
 */
#ifndef TAUT_DAEMON_IDS_H
#define TAUT_DAEMON_IDS_H

#include <stdbool.h>

#include "tcp/tcp.h"

#define ID_TEXT_MAX 24

char *id_format(tcp_id id, char text[ID_TEXT_MAX]); /* returns text */
bool id_parse(const char *text, tcp_id *ret);       /* false leaves ret untouched */

#endif
