/*
 * cli/out.c: tables and human units (see out.h). Pure but for printing; widths count characters, not bytes,
 * so UTF-8 text stays aligned.
 */
#include "cli/out.h"

#include <stdlib.h>
#include <string.h>

static size_t text_width(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

void table_init(struct table *t, const char *const *head, unsigned columns)
{
    *t = (struct table){.head = head, .columns = columns};
}

void table_row(struct table *t, const char *const *cells)
{
    if (t->rows == t->room) {
        unsigned room = t->room ? t->room * 2 : 64;
        char **bigger = realloc(t->cell, (size_t)room * t->columns * sizeof *bigger);

        if (!bigger)
            return;
        t->cell = bigger;
        t->room = room;
    }
    for (unsigned i = 0; i < t->columns; i++)
        t->cell[(size_t)t->rows * t->columns + i] = strdup(cells[i] && cells[i][0] ? cells[i] : "-");
    t->rows++;
}

static const char *head_text(const struct table *t, unsigned column)
{
    return t->head[column][0] == '>' ? t->head[column] + 1 : t->head[column];
}

static void print_cell(FILE *out, const char *text, size_t width, bool right, bool last)
{
    int pad = (int)(width - text_width(text));

    if (right)
        fprintf(out, "%*s%s", pad, "", text);
    else if (last)
        fprintf(out, "%s", text);
    else
        fprintf(out, "%s%*s", text, pad, "");
    fputs(last ? "\n" : "  ", out);
}

void table_print(struct table *t, FILE *out)
{
    size_t width[TABLE_COLUMNS_MAX] = {0};

    for (unsigned i = 0; i < t->columns; i++) {
        width[i] = text_width(head_text(t, i));
        for (unsigned r = 0; r < t->rows; r++) {
            size_t w = text_width(t->cell[(size_t)r * t->columns + i]);

            width[i] = w > width[i] ? w : width[i];
        }
    }
    for (unsigned i = 0; i < t->columns; i++)
        print_cell(out, head_text(t, i), width[i], t->head[i][0] == '>', i + 1 == t->columns);
    for (unsigned r = 0; r < t->rows; r++) {
        for (unsigned i = 0; i < t->columns; i++) {
            char **cell = &t->cell[(size_t)r * t->columns + i];

            print_cell(out, *cell, width[i], t->head[i][0] == '>', i + 1 == t->columns);
            free(*cell);
        }
    }
    free(t->cell);
    t->cell = NULL;
    t->rows = t->room = 0;
}

const char *human_bytes(uint64_t n, char *buf, size_t size)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)n / 1024;
    unsigned i = 0;

    if (n < 1024) {
        snprintf(buf, size, "%u B", (unsigned)n);
        return buf;
    }
    while (v >= 1023.95 && i < 5) {
        v /= 1024;
        i++;
    }
    snprintf(buf, size, "%.1f %s", v, unit[i]);
    return buf;
}

const char *human_us(double us, char *buf, size_t size)
{
    unsigned long s = (unsigned long)(us / 1e6);

    if (us < 1e3)
        snprintf(buf, size, "%.0f us", us);
    else if (us < 1e6)
        snprintf(buf, size, "%.1f ms", us / 1e3);
    else if (s < 60)
        snprintf(buf, size, "%.2f s", us / 1e6);
    else if (s < 3600)
        snprintf(buf, size, "%lu min %lu s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buf, size, "%lu h %lu min", s / 3600, s / 60 % 60);
    else
        snprintf(buf, size, "%lu d %lu h", s / 86400, s / 3600 % 24);
    return buf;
}

const char *human_rate(uint64_t bytes_per_s, char *buf, size_t size)
{
    double bits = (double)bytes_per_s * 8;

    if (bits < 1e3)
        snprintf(buf, size, "%.0f bit/s", bits);
    else if (bits < 1e6)
        snprintf(buf, size, "%.1f kbit/s", bits / 1e3);
    else if (bits < 1e9)
        snprintf(buf, size, "%.1f Mbit/s", bits / 1e6);
    else
        snprintf(buf, size, "%.2f Gbit/s", bits / 1e9);
    return buf;
}
