/*
 * base/log.c: formats one line on the stack and hands it to the creator's sink.
 *
 * Text may hold what a peer or a program chose, so control characters become '?': one message stays one line,
 * and no terminal obeys it. A message above the sink's level costs a comparison. Called from everywhere;
 * writes nothing itself. A sink that is NULL or has no function swallows everything.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "base/log.h"
#include "base/time.h"

#define LOG_TEXT_BYTES 512
#define LOG_NOTE_BYTES 40 /* " (4294967295 more suppressed)" and its NUL */

static bool wanted(const struct log_sink *sink, enum log_level level)
{
    return sink && sink->write && level <= sink->level;
}

/* Returns the length of what stands in `text`. */
static size_t format_line(char *text, size_t size, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

static size_t format_line(char *text, size_t size, const char *fmt, va_list args)
{
    int wrote = vsnprintf(text, size, fmt, args);
    size_t length = 0;

    if (wrote < 0)
        text[0] = '\0';
    for (; text[length]; length++) {
        unsigned char c = (unsigned char)text[length];

        if (c < 0x20 || c == 0x7f)
            text[length] = '?';
    }
    return length;
}

void log_msg(const struct log_sink *sink, enum log_level level, const char *fmt, ...)
{
    char text[LOG_TEXT_BYTES];
    va_list args;

    if (!wanted(sink, level))
        return;
    va_start(args, fmt);
    format_line(text, sizeof text, fmt, args);
    va_end(args);
    sink->write(sink->user, level, text);
}

/* True if one more message fits into the second that began at limit->window_at. */
static bool admit(struct log_limit *limit, uint64_t now, uint32_t burst)
{
    if (time_since(now, limit->window_at) >= NSEC_PER_SEC) {
        limit->window_at = now;
        limit->count = 0;
    }
    if (limit->count >= burst) {
        if (limit->suppressed < UINT32_MAX)
            limit->suppressed++;
        return false;
    }
    limit->count++;
    return true;
}

void log_limited(const struct log_sink *sink, struct log_limit *limit, uint64_t now, uint32_t burst,
                 enum log_level level, const char *fmt, ...)
{
    char text[LOG_TEXT_BYTES];
    size_t length;
    va_list args;

    if (!wanted(sink, level) || !admit(limit, now, burst))
        return;
    va_start(args, fmt);
    length = format_line(text, sizeof text - LOG_NOTE_BYTES, fmt, args);
    va_end(args);
    if (limit->suppressed > 0)
        snprintf(text + length, LOG_NOTE_BYTES, " (%u more suppressed)", limit->suppressed);
    limit->suppressed = 0;
    sink->write(sink->user, level, text);
}
