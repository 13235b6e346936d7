/*
 * base/log.h: where messages go. The creator hands in a sink; nothing below the daemon writes anywhere itself.
 * Levels are syslog's (0 emergency … 7 debug), as the journal's "<N>" prefixes.
 * Logs that a peer can provoke go through log_limited(): at most `burst` a second, the rest counted in the next one.
 */
#ifndef TAUT_BASE_LOG_H
#define TAUT_BASE_LOG_H

#include <stdarg.h>
#include <stdint.h>

enum log_level { LOG_LVL_ERR = 3, LOG_LVL_WARNING = 4, LOG_LVL_NOTICE = 5, LOG_LVL_INFO = 6, LOG_LVL_DEBUG = 7 };

struct log_sink {
    /* `text` is one line without a line feed. */
    void (*write)(void *user, enum log_level level, const char *text);
    void *user;
    enum log_level level; /* messages above this level are not formatted */
};

/* For one call site's rate limit; zero-initialised. */
struct log_limit {
    uint64_t window_at;
    uint32_t count;
    uint32_t suppressed;
};

void log_msg(const struct log_sink *sink, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void log_limited(const struct log_sink *sink, struct log_limit *limit, uint64_t now, uint32_t burst,
                 enum log_level level, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

#endif
