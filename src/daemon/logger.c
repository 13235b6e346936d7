/*
 * daemon/logger.c: messages to stderr (theory of operation).
 *
 * One write() a line, so that lines of several processes do not mix. On a terminal a word says the level, elsewhere the
 * prefix "<N>" that sd-daemon(3) defines and that the journal takes off.
 */
#include "daemon/logger.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char *const level_names[] = {"emergency", "alert",  "critical", "error",
                                          "warning",   "notice", "info",     "debug"};

static void write_line(void *user, enum log_level level, const char *text)
{
    char line[700];
    int n = isatty(STDERR_FILENO) ? snprintf(line, sizeof line, "tautd: %s: %s\n", level_names[level], text)
                                  : snprintf(line, sizeof line, "<%d>%s\n", (int)level, text);

    (void)user;
    if (n >= (int)sizeof line) {
        n = sizeof line - 1;
        line[n - 1] = '\n';
    }
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody to tell */
}

void logger_init(struct log_sink *ret, int level)
{
    *ret = (struct log_sink){.write = write_line, .level = (enum log_level)level};
}

int logger_level_parse(const char *name)
{
    for (int i = 0; i < 8; i++)
        if (strcasecmp(name, level_names[i]) == 0)
            return i;
    return -1;
}

const char *logger_level_name(int level)
{
    return level >= 0 && level < 8 ? level_names[level] : "?";
}
