/*
 * daemon/config_text.c: see config_text.h (theory of operation).
 *
 * Lists are written an entry a row, behind a row with an empty value that clears the list. A key's bytes may be any, so
 * they are written in hexadecimal under a name that no file has. The file's path is kept for reloads.
 */
#include "daemon/config_text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    char *buf;
    size_t bytes, at;
    bool full;
};

static void put(struct writer *w, const char *section, const char *key, const char *value)
{
    const char *part[] = {section, key, value};

    for (unsigned i = 0; i < 3 && !w->full; i++) {
        size_t n = strlen(part[i]) + 1;

        if (n > w->bytes - w->at) {
            w->full = true;
            return;
        }
        memcpy(w->buf + w->at, part[i], n);
        w->at += n;
    }
}

static void putf(struct writer *w, const char *section, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void putf(struct writer *w, const char *section, const char *key, const char *fmt, ...)
{
    char value[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    put(w, section, key, value);
}

static void put_prefixes(struct writer *w, const char *section, const char *key, const struct config_prefix *list,
                         unsigned n)
{
    char text[IP_ADDR_TEXT_MAX];

    put(w, section, key, "");
    for (unsigned i = 0; i < n; i++)
        putf(w, section, key, "%s/%u", ip_addr_format(&list[i].addr, text), list[i].bits);
}

static void put_routes(struct writer *w, const struct daemon_config *c)
{
    char one[256];

    put(w, "network", "route", "");
    for (unsigned i = 0; i < c->n_routes; i++)
        put(w, "network", "route", config_route(&c->route[i], one, sizeof one));
}

static void put_rows(struct writer *w, const struct daemon_config *c)
{
    struct config_row_info r;
    char value[4096];

    for (unsigned i = 0; config_row(i, &r); i++) {
        if (!strcmp(r.section, "network") && !strcmp(r.key, "address"))
            put_prefixes(w, r.section, r.key, c->addr, c->n_addr);
        else if (!strcmp(r.section, "interface") && !strcmp(r.key, "host_address"))
            put_prefixes(w, r.section, r.key, c->host_addr, c->n_host_addr);
        else if (!strcmp(r.section, "network") && !strcmp(r.key, "route"))
            put_routes(w, c);
        else
            put(w, r.section, r.key, config_value(c, i, value, sizeof value));
    }
}

static void put_forward(struct writer *w, const struct config_forward *f)
{
    char section[48], text[IP_ADDR_TEXT_MAX];
    bool v6 = f->to_addr.family == IP_V6;

    snprintf(section, sizeof section, "forward %s", f->name);
    if (!f->listen_addr.family)
        putf(w, section, "listen", "%u", f->listen_port);
    else
        putf(w, section, "listen", f->listen_addr.family == IP_V6 ? "[%s]:%u" : "%s:%u",
             ip_addr_format(&f->listen_addr, text), f->listen_port);
    if (f->target == FORWARD_UNIX)
        putf(w, section, "to", "unix:%s", f->to_path);
    else
        putf(w, section, "to", v6 ? "tcp:[%s]:%u" : "tcp:%s:%u", ip_addr_format(&f->to_addr, text), f->to_port);
    put(w, section, "proxy_protocol", f->proxy == FORWARD_PROXY_V2 ? "v2" : "off");
    putf(w, section, "connect_timeout", "%ums", f->connect_timeout_ms);
    putf(w, section, "backlog", "%u", f->backlog);
    putf(w, section, "max_connections", "%u", f->max_connections);
}

static void put_md5(struct writer *w, const struct config_md5 *m)
{
    char section[48], text[IP_ADDR_TEXT_MAX], hex[2 * TCP_MD5_KEY_MAX + 1] = "";

    snprintf(section, sizeof section, "md5 %s", m->name);
    putf(w, section, "peer", "%s/%u", ip_addr_format(&m->peer, text), m->bits);
    if (m->port)
        putf(w, section, "port", "%u", m->port);
    for (unsigned i = 0; i < m->bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", m->key[i]);
    put(w, section, "(key)", hex);
    put(w, section, "(file)", m->file);
    explicit_bzero(hex, sizeof hex);
}

size_t config_text_write(const struct daemon_config *c, char *buf, size_t bytes)
{
    struct writer w = {.buf = buf, .bytes = bytes};

    put(&w, "(file)", "path", c->path);
    put_rows(&w, c);
    for (unsigned i = 0; i < c->n_forwards; i++)
        put_forward(&w, &c->forward[i]);
    for (unsigned i = 0; i < c->n_md5; i++)
        put_md5(&w, &c->md5[i]);
    return w.full ? 0 : w.at;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static bool read_hex(struct config_md5 *m, const char *hex)
{
    size_t n = strlen(hex);

    if (n % 2 || n < 2 || n > 2 * TCP_MD5_KEY_MAX || strspn(hex, "0123456789abcdef") != n)
        return false;
    for (size_t i = 0; i < n / 2; i++) {
        unsigned byte;

        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return false;
        m->key[i] = (uint8_t)byte;
    }
    m->bytes = (uint8_t)(n / 2);
    return true;
}

/* What no file says so; *ret_taken: it was one of these. False: it is wrong. */
static bool take_own(struct daemon_config *c, const char *section, const char *key, const char *value, bool *ret_taken)
{
    struct config_md5 *m;

    *ret_taken = true;
    if (!strcmp(section, "(file)")) {
        snprintf(c->path, sizeof c->path, "%s", value);
        return true;
    }
    if (!strncmp(section, "md5 ", 4) && key[0] == '(') {
        m = c->n_md5 ? &c->md5[c->n_md5 - 1] : NULL; /* its peer came before */
        if (!m || strcmp(m->name, section + 4) != 0)
            return false;
        if (!strcmp(key, "(key)"))
            return read_hex(m, value);
        snprintf(m->file, sizeof m->file, "%s", value);
        return true;
    }
    if (!*value && !strcmp(section, "network") && !strcmp(key, "address"))
        c->n_addr = 0;
    else if (!*value && !strcmp(section, "interface") && !strcmp(key, "host_address"))
        c->n_host_addr = 0;
    else if (!*value && !strcmp(section, "network") && !strcmp(key, "route"))
        c->n_routes = 0;
    else
        *ret_taken = false;
    return true;
}

/* The next NUL-ended part; NULL: there is none. */
static const char *next_part(const char **at, size_t *left)
{
    const char *part = *at, *end = memchr(part, '\0', *left);

    if (!end)
        return NULL;
    *left -= (size_t)(end - part) + 1;
    *at = end + 1;
    return part;
}

static int read_into(const char *text, size_t bytes, struct daemon_config *c, config_text_unknown_fn *unknown,
                     void *user, char *error, size_t error_bytes)
{
    c->n_forwards = c->n_md5 = 0;
    while (bytes > 0) {
        const char *section = next_part(&text, &bytes), *key = section ? next_part(&text, &bytes) : NULL;
        const char *value = key ? next_part(&text, &bytes) : NULL;
        enum config_taken taken = CONFIG_TAKEN;
        bool own = false;

        if (!value || !take_own(c, section, key, value, &own)) {
            snprintf(error, error_bytes, "the configuration in the arena is damaged");
            return -1;
        }
        if (!own)
            taken = config_take(c, section, key, value, error, error_bytes);
        if (taken == CONFIG_WRONG)
            return -1;
        if (taken == CONFIG_UNKNOWN && unknown)
            unknown(user, section, key, value);
    }
    return 0;
}

int config_text_read(const char *text, size_t bytes, struct daemon_config *inout, config_text_unknown_fn *unknown,
                     void *user, char *ret_error, size_t error_bytes)
{
    struct daemon_config *next = malloc(sizeof *next);
    int r = -1;

    if (!next) {
        snprintf(ret_error, error_bytes, "out of memory");
        return -1;
    }
    *next = *inout;
    r = read_into(text, bytes, next, unknown, user, ret_error, error_bytes);
    if (r == 0)
        *inout = *next;
    explicit_bzero(next->md5, sizeof next->md5);
    free(next);
    return r;
}
