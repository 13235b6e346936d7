/*
 * daemon/logger.h: the log sink of the daemon: stderr, one line a message, each with the journal's level prefix
 * ("<6>") when stderr is the journal or not a terminal, and with a plain word on a terminal.
 */
#ifndef TAUT_DAEMON_LOGGER_H
#define TAUT_DAEMON_LOGGER_H

#include "base/log.h"

void logger_init(struct log_sink *ret, int level);
/* "error", "warning", "notice", "info", "debug" -> level; -1: no such name. */
int logger_level_parse(const char *name);
const char *logger_level_name(int level);

#endif
