/*
 * cli/out.h: what `taut` prints: aligned tables, sizes and times for people.
 */
#ifndef TAUT_CLI_OUT_H
#define TAUT_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 12

/* A table is collected, then printed with columns as wide as their widest cell. */
struct table {
    const char *const
        *head; /* names; one that begins with '>' is aligned to the right (its '>' is not shown) */
    unsigned columns;
    char **cell; /* rows * columns */
    unsigned rows, room;
};

void table_init(struct table *t, const char *const *head, unsigned columns);
/* One row; copies the texts. NULL: "-". */
void table_row(struct table *t, const char *const *cells);
/* Prints and empties it. Without rows only the heading appears. */
void table_print(struct table *t, FILE *out);

/* "0 B", "999 B", "1.0 KiB", "12.3 MiB"; returns buf. */
const char *human_bytes(uint64_t n, char *buf, size_t size);
/* Microseconds: "0.4 ms", "12.3 ms", "1.50 s", "2 min 3 s", "1 h 2 min", "3 d 4 h". */
const char *human_us(double us, char *buf, size_t size);
const char *human_rate(uint64_t bytes_per_s, char *buf, size_t size); /* "94.1 Mbit/s" */

#endif
