/*
 * cli/clean.h: the one place where text that others made (names of owners, paths, log lines, addresses) becomes fit for a
 * terminal: whatever could steer it, or turn the order of what is read, is shown as '?'.
 */
#ifndef TAUT_CLI_CLEAN_H
#define TAUT_CLI_CLEAN_H

#include <jansson.h>

/* In place: control characters (C0, DEL, C1), marks of direction and of nothing, and what is no UTF-8 become '?'. */
void clean_text(char *text);
/* Every string in it, keys too. */
void clean_json(json_t *j);

#endif
