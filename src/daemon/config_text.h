/*
 * daemon/config_text.h: a configuration in effect as text, for another build of tautd.
 *
 * Structs mean something to the build that laid them out only; names and values of keys mean the same to all. The text
 * is a row of (section, key, value), each ended by a NUL: every row of the table, every forward, every TCP-MD5 key with
 * its secret. It lies in the arena (arena.h) and is read over what the file says: keys that the writer knew are as they
 * were in effect, new ones come from the file.
 */
#ifndef TAUT_DAEMON_CONFIG_TEXT_H
#define TAUT_DAEMON_CONFIG_TEXT_H

#include "daemon/config.h"

#define CONFIG_TEXT_MAX (128u << 10) /* all tables full take about 90 KiB */

/* Bytes written; 0: it does not fit. */
size_t config_text_write(const struct daemon_config *c, char *buf, size_t bytes);
/* A key that this build does not know, and the value that it had. */
typedef void config_text_unknown_fn(void *user, const char *section, const char *key, const char *value);
/*
 * Reads it over *inout. unknown may be NULL. 0, or -1 with a sentence: it is damaged, or a value is out of this build's
 * range; *inout is untouched then.
 */
int config_text_read(const char *text, size_t bytes, struct daemon_config *inout, config_text_unknown_fn *unknown,
                     void *user, char *ret_error, size_t error_bytes);

#endif
