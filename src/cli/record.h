/*
 * cli/record.h: records of the flight recorder and files, as bytes: what `trace`, `export` and `plot` begin with (trace.c).
 */
#ifndef TAUT_CLI_RECORD_H
#define TAUT_CLI_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"

struct bytes { /* begin zeroed; `at` is the owner's to free */
    uint8_t *at;
    size_t n;
};

/* "1.ab" or "engine", not a file. */
bool cli_is_id(const char *text);
/* The whole record of a connection, as one section. The exit status, after a message. */
int cli_fetch_record(struct cli *c, const char *id, struct bytes *ret);
/* A file of at most `max` bytes, not empty. */
int cli_load_file(const char *path, size_t max, struct bytes *ret);
/* Into a file; "-": standard output. */
int cli_save_file(const char *path, const void *bytes, size_t n);
/* A sentence on stderr; EXIT_REFUSED. */
int cli_damaged(const char *what, const char *why);

#define CLI_RECORD_MAX ((size_t)256 << 20)

#endif
