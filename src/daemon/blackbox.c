/*
 * daemon/blackbox.c: records of connections that ended badly or stall, as files: [trace] directory.
 *
 * The engine keeps the last of them in memory (tcp_trace_next(), kind dead); once a turn those that are new are written,
 * FILES_PER_TURN at most and WRITES_PER_S, so that a flood of resets can't fill the loop with disk writes: what is
 * skipped is counted in the log and stays in memory as long as its place isn't needed. Names are sorted by age; beyond
 * [trace] files the oldest go. A file appears whole (rename) or not at all.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/ids.h"
#include "tcp/tcp_trace.h"

#define FILES_PER_TURN 4
#define WRITES_PER_S   20
#define RECORD_MAX     (17u << 20)

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_ours(const char *name)
{
    size_t n = strlen(name);

    return strncmp(name, "dead-", 5) == 0 && n > 10 && strcmp(name + n - 5, ".taut") == 0;
}

/* Removes the oldest beyond `keep`. */
static void rotate(const char *dir, uint32_t keep)
{
    DIR *d = opendir(dir);
    char **names = NULL;
    size_t n = 0, room = 0;
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        if (!is_ours(e->d_name))
            continue;
        if (n == room) {
            char **more = realloc(names, (room = 2 * room + 64) * sizeof *names);

            if (!more)
                break;
            names = more;
        }
        names[n] = strdup(e->d_name);
        n += names[n] != NULL;
    }
    if (n)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        if (i + keep < n)
            (void)unlinkat(dirfd(d), names[i], 0);
        free(names[i]);
    }
    free(names);
    if (d)
        closedir(d);
}

static bool write_file(const char *dir, const char *name, const void *bytes, size_t n)
{
    char part[CONFIG_PATH_MAX + 128], whole[CONFIG_PATH_MAX + 128];
    bool ok;
    int fd;

    snprintf(part, sizeof part, "%s/.part", dir);
    snprintf(whole, sizeof whole, "%s/%s", dir, name);
    fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return false;
    ok = write(fd, bytes, n) == (ssize_t)n;
    ok = close(fd) == 0 && ok;
    if (ok && rename(part, whole) == 0)
        return true;
    (void)unlink(part);
    return false;
}

static bool write_record(struct daemon *d, const struct tcp_trace_row *r, uint64_t now)
{
    size_t room = r->bytes + 16384u < RECORD_MAX ? r->bytes + 16384u : RECORD_MAX;
    uint8_t *bytes = malloc(room);
    char name[96], id[ID_TEXT_MAX], when[32];
    time_t t = time(NULL);
    struct tm tm;
    int64_t n;
    bool ok;

    if (!bytes)
        return false;
    gmtime_r(&t, &tm);
    strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
    snprintf(name, sizeof name, "dead-%s-%08llu-%s.taut", when, (unsigned long long)r->serial, id_format(r->id, id));
    n = tcp_trace_dump(d->tcp, r->id, now, trace_wall_ns(), bytes, room);
    ok = n > 0 && write_file(d->config->trace_dir, name, bytes, (size_t)n);
    free(bytes);
    return ok;
}

/* The black box or stalled connection that is next behind `serial`. */
static bool next_box(const struct daemon *d, uint64_t serial, struct tcp_trace_row *ret)
{
    struct tcp_trace_row r;
    uint32_t at = 0;
    bool found = false;

    while (tcp_trace_next(d->tcp, &at, &r)) {
        if (r.serial > serial && (!found || r.serial < ret->serial)) {
            *ret = r;
            found = true;
        }
    }
    return found;
}

void blackbox_turn(struct daemon *d, uint64_t now)
{
    struct blackbox *b = &d->blackbox;
    struct tcp_trace_row r;

    if (b->seen == tcp_trace_boxes(d->tcp))
        return;
    if (!*d->config->trace_dir) {
        b->seen = tcp_trace_boxes(d->tcp);
        return;
    }
    if (time_since(now, b->second_at) >= NSEC_PER_SEC) {
        b->second_at = now;
        b->written = 0;
    }
    for (int i = 0; i < FILES_PER_TURN && b->written < WRITES_PER_S; i++) {
        if (!next_box(d, b->seen, &r)) { /* those that were counted are gone from memory: nothing to look for */
            b->seen = tcp_trace_boxes(d->tcp);
            return;
        }
        b->seen = r.serial;
        b->written++;
        if (!write_record(d, &r, now))
            log_limited(&d->log, &b->limit, now, 1, LOG_LVL_WARNING, "%s: no record written: %s", d->config->trace_dir,
                        strerror(errno));
        rotate(d->config->trace_dir, d->config->trace_files);
    }
}
