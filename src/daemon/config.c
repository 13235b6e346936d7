/*
 * daemon/config.c: the configuration file (theory of operation).
 *
 * One table of rows says for every key where its value lies in struct daemon_config, how it is read and written as text,
 * and what the manual says of it; the rows of [tcp] and [stack] are appended from the engine's and stack's own tables.
 * inih hands over (section, key, value); a reader of our own counts lines, so that every error names its line. Parsing
 * fills a fresh struct, which replaces the caller's only if all of it is good.
 */
#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/chunk.h"
#include "daemon/logger.h"
#include "daemon/md5.h"

enum type { T_BOOL, T_INT, T_U16, T_U32, T_MS, T_BYTES, T_TEXT, T_IFNAME, T_MAC, T_PREFIXES, T_ROUTES, T_LOG, T_PORT };

static const char *const type_names[] = {"yes/no", "number", "number",    "number",   "duration", "size",  "text",
                                         "name",   "MAC",    "addresses", "routes", "level",    "port or off"};

struct row {
    const char *section, *key;
    enum type type;
    size_t offset, bytes;
    int64_t min, max;
    const char *def, *unit, *scope, *help;
};

#define AT(member) offsetof(struct daemon_config, member), sizeof(((struct daemon_config *)0)->member)

/* "start": takes effect at the start only; "reload": also on SIGHUP; "now"/"new": config.set too. */
static const struct row rows[] = {
    {"interface", "name", T_IFNAME, AT(ifname), 0, 0, "taut0", "", "start",
     "TAP interface to make or attach to; %d in it is a number that the kernel chooses"},
    {"interface", "fd", T_INT, AT(tap_fd), -1, 1 << 20, "-1", "", "start",
     "inherited TAP descriptor to use instead of a name; -1: none"},
    {"interface", "mac", T_MAC, AT(mac), 0, 0, "", "", "start",
     "MAC address of taut's end; derived from the kernel's end when absent"},
    {"interface", "mtu", T_U16, AT(mtu), 0, 65521, "0", "bytes", "start",
     "MTU to give the interface (needs host_setup); 0: leave it as it is"},
    {"interface", "offload", T_BOOL, AT(offload), 0, 1, "yes", "", "start",
     "virtio-net header, checksum offload and super-frames (TSO, GRO)"},
    {"interface", "host_setup", T_BOOL, AT(host_setup), 0, 1, "yes", "", "start",
     "bring the kernel's end up and give it host_address, mtu and txqueuelen"},
    {"interface", "txqueuelen", T_U32, AT(txqueuelen), 0, 1000000, "10000", "frames", "start",
     "queue from the kernel to taut; 0: leave it as it is"},
    {"interface", "host_address", T_PREFIXES, AT(host_addr), 0, 0, "", "", "start",
     "addresses of the kernel's end, ADDRESS/BITS, several separated by commas"},
    {"network", "address", T_PREFIXES, AT(addr), 0, 0, "", "", "start",
     "addresses of the stack, ADDRESS/BITS, several separated by commas, both families"},
    {"network", "route", T_ROUTES, AT(route), 0, 0, "", "", "start",
     "PREFIX/BITS [via GATEWAY] [mtu N] [advmss N] [initcwnd N] [initrwnd N], several separated by commas"},
    {"limits", "buffers", T_BYTES, AT(buffer_bytes), 4 << 20, 1ll << 40, "256M", "bytes", "start",
     "all payload in send and receive buffers together"},
    {"limits", "max_connections", T_U32, AT(max_conns), 16, 1 << 24, "65536", "", "start",
     "connections, half-open and TIME-WAIT entries together; the oldest of the latter make room for new connections"},
    {"limits", "max_half_open", T_U32, AT(max_half_open), 16, 1 << 24, "16384", "", "start",
     "half-open entries of all listeners together"},
    {"limits", "drain", T_MS, AT(drain_ms), 0, 3600000, "5s", "", "start",
     "at the end, wait this long for connections to close before they are reset"},
    {"daemon", "survive", T_BOOL, AT(survive), 0, 1, "yes", "", "start",
     "the process that runs the stack may die; its connections do not: a supervisor replaces it"},
    {"daemon", "sandbox", T_BOOL, AT(sandbox), 0, 1, "yes", "", "start",
     "with survive: the process that runs the stack gives up all files and system calls that it does not need"},
    {"daemon", "hang", T_MS, AT(hang_ms), 0, 3600000, "2s", "", "start",
     "with survive: a stack that makes no progress for so long is killed and replaced; 0: never"},
    {"daemon", "crash_limit", T_U32, AT(crash_limit), 0, 1000000, "30", "1/min", "start",
     "with survive: more crashes a minute reset all connections; 0: no limit"},
    {"daemon", "busy_poll_us", T_U32, AT(busy_poll_us), 0, 1000, "0", "us", "reload",
     "look so long for input before sleeping, while that pays: shorter round trips for a processor's time; 0: never"},
#ifdef TAUT_RECORD_NEXT
    {"daemon", "next_key", T_U32, AT(next_key), 0, 1000, "7", "", "start", "a key that only a build of tests has"},
#endif
    {"control", "directory", T_TEXT, AT(control_dir), 0, 0, "/run/taut", "", "start",
     "directory of control.sock and control.seq"},
    {"control", "group", T_TEXT, AT(control_group), 0, 0, "", "", "start",
     "members of this group may steer; others only look; empty: root and the daemon's own user steer"},
    {"log", "level", T_LOG, AT(log_level), 0, 7, "info", "", "reload", "error, warning, notice, info or debug"},
    {"trace", "pool", T_BYTES, AT(trace_bytes), 0, 1ll << 34, "16M", "bytes", "start",
     "flight recorder: memory of all records together; 0: nothing is recorded; see trace_level in [tcp]"},
    {"trace", "directory", T_TEXT, AT(trace_dir), 0, 0, "", "", "start",
     "a connection that ends badly, or stalls, leaves its record there as a file; empty: none is written"},
    {"trace", "files", T_U32, AT(trace_files), 1, 100000, "100", "", "start",
     "records kept in the directory; the oldest are removed"},
    {"services", "echo", T_PORT, AT(echo), 0, 65535, "7", "", "reload", "port of the echo service (RFC 862), or off"},
    {"services", "discard", T_PORT, AT(discard), 0, 65535, "9", "", "reload",
     "port of the discard service (RFC 863), or off"},
    {"services", "chargen", T_PORT, AT(chargen), 0, 65535, "19", "", "reload",
     "port of the character generator (RFC 864), or off"},
};
#define N_ROWS ((unsigned)(sizeof rows / sizeof *rows))

/* Keys of [forward NAME]; they lie in struct config_forward and are read by forward_key(). */
static const struct row forward_rows[] = {
    {"forward NAME", "listen", T_TEXT, 0, 0, 0, 0, "", "", "reload", "PORT or ADDRESS:PORT on the stack; required"},
    {"forward NAME", "to", T_TEXT, 0, 0, 0, 0, "", "", "reload",
     "backend on the host: tcp:ADDRESS:PORT or unix:/PATH; required"},
    {"forward NAME", "proxy_protocol", T_TEXT, 0, 0, 0, 0, "off", "", "reload",
     "v2: tell the backend the peer's address by a PROXY protocol header"},
    {"forward NAME", "connect_timeout", T_MS, 0, 0, 1, 3600000, "10s", "", "reload",
     "the backend must have accepted by then, else the peer is reset"},
    {"forward NAME", "backlog", T_U32, 0, 0, 1, 1 << 24, "1024", "", "reload", "accept queue on the stack"},
    {"forward NAME", "max_connections", T_U32, 0, 0, 1, 1 << 24, "16384", "", "reload",
     "at once; more wait in the accept queue"},
};
#define N_FORWARD_ROWS ((unsigned)(sizeof forward_rows / sizeof *forward_rows))

/* Keys of [md5 NAME], read by config_md5_read(). */
static const struct row md5_rows[] = {
    {"md5 NAME", "peer", T_TEXT, 0, 0, 0, 0, "", "", "reload", "ADDRESS or ADDRESS/BITS of the peers; required"},
    {"md5 NAME", "port", T_TEXT, 0, 0, 0, 0, "any", "", "reload",
     "listeners on this port and connections to it, or any"},
    {"md5 NAME", "key_file", T_TEXT, 0, 0, 0, 0, "", "", "reload",
     "file of the key, 1 to 80 bytes (a newline at the end doesn't count), which others may not read"},
    {"md5 NAME", "key", T_TEXT, 0, 0, 0, 0, "", "", "reload",
     "the key itself; then others may not read the configuration file"},
};
#define N_MD5_ROWS ((unsigned)(sizeof md5_rows / sizeof *md5_rows))

/* ---- Reading values; each returns NULL or what would be right -------------------------------------------------------- */

static const char *read_number(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    static _Thread_local char expected[96];
    char *end;

    errno = 0;
    long long v = strtoll(text, &end, 10);

    if (errno || end == text || *end || v < min || v > max) {
        snprintf(expected, sizeof expected, "a whole number from %" PRId64 " to %" PRId64, min, max);
        return expected;
    }
    *ret = v;
    return NULL;
}

struct suffix {
    const char *name;
    double factor;
};

static const char *read_scaled(const char *text, const struct suffix *suffixes, double plain, int64_t min, int64_t max,
                               const char *expected, int64_t *ret)
{
    char *end;
    double v = strtod(text, &end), factor = plain;

    if (end == text || !(v >= 0))
        return expected;
    while (*end == ' ')
        end++;
    if (*end) {
        const struct suffix *s = suffixes;

        while (s->name && strcasecmp(s->name, end) != 0)
            s++;
        if (!s->name)
            return expected;
        factor = s->factor;
    }
    v *= factor;
    if (v < (double)min || v > (double)max)
        return expected;
    *ret = (int64_t)v;
    return NULL;
}

static const char *read_ms(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    static const struct suffix suffixes[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"m", 60000}, {NULL, 0}};

    return read_scaled(text, suffixes, 1000, min, max, "a time as 500ms, 5s or 2min, at most an hour", ret);
}

static const char *read_bytes(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    static const struct suffix suffixes[] = {{"k", 1024.0},    {"m", 1048576.0},   {"g", 1073741824.0},
                                             {"kib", 1024.0},  {"mib", 1048576.0}, {"gib", 1073741824.0},
                                             {NULL, 0}};

    return read_scaled(text, suffixes, 1, min, max, "a size as 64M or 1G, at least 4M", ret);
}

static const char *read_bool(const char *text, bool *ret)
{
    if (!strcasecmp(text, "yes") || !strcasecmp(text, "on") || !strcasecmp(text, "true") || !strcmp(text, "1"))
        *ret = true;
    else if (!strcasecmp(text, "no") || !strcasecmp(text, "off") || !strcasecmp(text, "false") || !strcmp(text, "0"))
        *ret = false;
    else
        return "yes or no";
    return NULL;
}

static const char *read_mac(struct daemon_config *c, const char *text)
{
    unsigned b[6];
    int n = 0;

    if (!*text) {
        c->has_mac = false;
        return NULL;
    }
    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &n) != 6 || text[n] ||
        (b[0] & 1))
        return "a unicast MAC as 02:00:00:00:00:01";
    for (int i = 0; i < 6; i++)
        c->mac[i] = (uint8_t)b[i];
    c->has_mac = true;
    return NULL;
}

static const char *read_text(char *at, size_t bytes, const char *text)
{
    if (strlen(text) >= bytes)
        return "a shorter text";
    memset(at, 0, bytes);
    memcpy(at, text, strlen(text));
    return NULL;
}

static const char *read_ifname(char *at, size_t bytes, const char *text)
{
    if (!*text || strlen(text) >= bytes || strpbrk(text, "/ \t:\"'"))
        return "an interface name of 1 to 15 characters without '/', ':', quotes or blanks";
    return read_text(at, bytes, text);
}

/* The next element of a comma-separated list, trimmed; NULL at the end. Cuts *inout. */
static char *next_item(char **inout)
{
    char *item = *inout, *end;

    if (!item)
        return NULL;
    end = strchr(item, ',');
    *inout = end ? end + 1 : NULL;
    if (!end)
        end = item + strlen(item);
    while (isspace((unsigned char)*item))
        item++;
    while (end > item && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    return item;
}

static const char *read_prefixes(struct config_prefix *list, unsigned *n, const char *text)
{
    char copy[1024], *rest = copy, *item;

    if (strlen(text) >= sizeof copy)
        return "a shorter list";
    memcpy(copy, text, strlen(text) + 1);
    while ((item = next_item(&rest))) {
        if (!*item)
            continue;
        if (*n == CONFIG_ADDRS_MAX)
            return "at most 16 addresses";
        if (!strchr(item, '/') || !ip_prefix_parse(item, &list[*n].addr, &list[*n].bits))
            return "ADDRESS/BITS, as 10.0.0.2/24 or 2001:db8::2/64";
        (*n)++;
    }
    return NULL;
}

static bool route_option(struct stack_route *r, const char *key, const char *value)
{
    int64_t v;

    if (!strcmp(key, "via"))
        return ip_addr_parse(value, &r->gateway) && r->gateway.family == r->prefix.family;
    if (!strcmp(key, "mtu") && !read_number(value, 68, 65535, &v))
        r->mtu = (uint16_t)v;
    else if (!strcmp(key, "advmss") && !read_number(value, 48, 65495, &v))
        r->advmss = (uint16_t)v;
    else if (!strcmp(key, "initcwnd") && !read_number(value, 1, 255, &v))
        r->initcwnd = (uint8_t)v;
    else if (!strcmp(key, "initrwnd") && !read_number(value, 1, 255, &v))
        r->initrwnd = (uint8_t)v;
    else
        return false;
    return true;
}

static const char *read_route(struct stack_route *ret, char *item)
{
    static const char *const expected = "PREFIX/BITS [via GATEWAY] [mtu N] [advmss N] [initcwnd N] [initrwnd N], the prefix "
                                        "may be 'default'";
    char *save, *word = strtok_r(item, " \t", &save), *value;
    unsigned bits;
    struct stack_route r = {.valid_until = TIME_NEVER};
    bool is_default = word && !strcmp(word, "default");

    if (!word)
        return expected;
    if (is_default) {
        /* The family is the gateway's. */
        char *via = strtok_r(NULL, " \t", &save);

        value = strtok_r(NULL, " \t", &save);
        if (!via || strcmp(via, "via") || !value || !ip_addr_parse(value, &r.gateway))
            return "default via GATEWAY";
        r.prefix.family = r.gateway.family;
    } else {
        if (!ip_prefix_parse(word, &r.prefix, &bits))
            return expected;
        r.prefix_bits = (uint8_t)bits;
    }
    while ((word = strtok_r(NULL, " \t", &save))) {
        value = strtok_r(NULL, " \t", &save);
        if (!value || !route_option(&r, word, value))
            return expected;
    }
    *ret = r;
    return NULL;
}

static const char *read_routes(struct daemon_config *c, const char *text)
{
    char copy[1024], *rest = copy, *item;

    if (strlen(text) >= sizeof copy)
        return "a shorter list";
    memcpy(copy, text, strlen(text) + 1);
    while ((item = next_item(&rest))) {
        if (!*item)
            continue;
        if (c->n_routes == CONFIG_ROUTES_MAX)
            return "at most 32 routes";
        const char *expected = read_route(&c->route[c->n_routes], item);

        if (expected)
            return expected;
        c->n_routes++;
    }
    return NULL;
}

static const char *read_service(struct config_service *ret, const char *text)
{
    int64_t port;

    if (!strcasecmp(text, "off") || !strcasecmp(text, "no")) {
        ret->enabled = false;
        ret->port = 0;
        return NULL;
    }
    if (read_number(text, 1, 65535, &port))
        return "a port from 1 to 65535, or off";
    *ret = (struct config_service){.enabled = true, .port = (uint16_t)port};
    return NULL;
}

static const char *read_log(int *ret, const char *text)
{
    int level = logger_level_parse(text);

    if (level < 0)
        return "error, warning, notice, info or debug";
    *ret = level;
    return NULL;
}

/* Numbers of all widths, after their text was read. */
static const char *read_integer(const struct row *r, void *at, const char *text)
{
    int64_t v = 0;
    const char *expected = r->type == T_MS      ? read_ms(text, r->min, r->max, &v)
                           : r->type == T_BYTES ? read_bytes(text, r->min, r->max, &v)
                                                : read_number(text, r->min, r->max, &v);

    if (expected)
        return expected;
    if (r->type == T_INT)
        *(int *)at = (int)v;
    else if (r->type == T_U16)
        *(uint16_t *)at = (uint16_t)v;
    else if (r->type == T_BYTES)
        *(uint64_t *)at = (uint64_t)v / CHUNK_BIG_BYTES * CHUNK_BIG_BYTES;
    else
        *(uint32_t *)at = (uint32_t)v;
    return NULL;
}

static const char *read_row(struct daemon_config *c, const struct row *r, const char *text)
{
    void *at = (char *)c + r->offset;

    switch (r->type) {
    case T_BOOL:
        return read_bool(text, at);
    case T_TEXT:
        return read_text(at, r->bytes, text);
    case T_IFNAME:
        return read_ifname(at, r->bytes, text);
    case T_MAC:
        return read_mac(c, text);
    case T_PREFIXES:
        return at == c->addr ? read_prefixes(c->addr, &c->n_addr, text)
                             : read_prefixes(c->host_addr, &c->n_host_addr, text);
    case T_ROUTES:
        return read_routes(c, text);
    case T_LOG:
        return read_log(at, text);
    case T_PORT:
        return read_service(at, text);
    case T_INT:
    case T_U16:
    case T_U32:
    case T_MS:
    case T_BYTES:
    default:
        return read_integer(r, at, text);
    }
}

/* ---- [forward NAME] ---------------------------------------------------------------------------------------------------- */

static const char *read_listen(struct config_forward *f, const char *text)
{
    int64_t port;

    if (!read_number(text, 1, 65535, &port)) {
        f->listen_addr = (struct ip_addr){0};
        f->listen_port = (uint16_t)port;
        return NULL;
    }
    if (!ip_addr_port_parse(text, &f->listen_addr, &f->listen_port) || !f->listen_port)
        return "PORT, ADDRESS:PORT or [ADDRESS]:PORT";
    return NULL;
}

static const char *read_to(struct config_forward *f, const char *text)
{
    if (!strncmp(text, "tcp:", 4)) {
        f->target = FORWARD_TCP;
        if (ip_addr_port_parse(text + 4, &f->to_addr, &f->to_port) && f->to_port)
            return NULL;
    } else if (!strncmp(text, "unix:/", 6)) {
        f->target = FORWARD_UNIX;
        return read_text(f->to_path, sizeof f->to_path, text + 5);
    }
    return "tcp:ADDRESS:PORT (as tcp:127.0.0.1:8080 or tcp:[::1]:8080) or unix:/PATH";
}

static const char *read_proxy(struct config_forward *f, const char *text)
{
    if (!strcasecmp(text, "off") || !strcasecmp(text, "no"))
        f->proxy = FORWARD_PROXY_NONE;
    else if (!strcasecmp(text, "v2"))
        f->proxy = FORWARD_PROXY_V2;
    else
        return "off or v2";
    return NULL;
}

static const char *read_forward_number(const struct row *r, struct config_forward *f, const char *text)
{
    uint32_t *at = r->type == T_MS               ? &f->connect_timeout_ms
                   : !strcmp(r->key, "backlog") ? &f->backlog
                                                 : &f->max_connections;

    return read_integer(r, at, text);
}

static const char *read_forward_row(const struct row *r, struct config_forward *f, const char *text)
{
    if (!strcmp(r->key, "listen"))
        return read_listen(f, text);
    if (!strcmp(r->key, "to"))
        return read_to(f, text);
    if (!strcmp(r->key, "proxy_protocol"))
        return read_proxy(f, text);
    return read_forward_number(r, f, text);
}

static struct config_forward *get_forward(struct daemon_config *c, const char *name)
{
    for (unsigned i = 0; i < c->n_forwards; i++)
        if (!strcmp(c->forward[i].name, name))
            return &c->forward[i];
    if (c->n_forwards == CONFIG_FORWARDS_MAX)
        return NULL;
    struct config_forward *f = &c->forward[c->n_forwards++];

    *f = (struct config_forward){.connect_timeout_ms = 10000, .backlog = 1024, .max_connections = 16384};
    snprintf(f->name, sizeof f->name, "%s", name);
    return f;
}

/* ---- The file ---------------------------------------------------------------------------------------------------------- */

struct parse {
    FILE *file;
    const char *path;
    unsigned line, section_line; /* read last, and of the last [section] */
    struct daemon_config *c;
    unsigned forward_line[CONFIG_FORWARDS_MAX], listen_line[CONFIG_FORWARDS_MAX];
    unsigned md5_line[CONFIG_MD5_MAX];
    unsigned tcp_line;   /* of the last key of [tcp] */
    bool cut;            /* a line was too long */
    bool whole;          /* check_whole() looks: what the lines told already is not told again */
    unsigned n_errors, more_errors; /* kept; not kept */
    struct mistake {
        unsigned line, whole;
        char where[100], text[201];
    } error[CONFIG_ERRORS_MAX];
};

static int fail(struct parse *p, unsigned line, const char *section, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

static bool told_already(const struct parse *p, const struct mistake *m)
{
    for (unsigned i = 0; i < p->n_errors; i++) {
        const struct mistake *old = &p->error[i];

        if (strcmp(old->where, m->where) == 0 && (strcmp(old->text, m->text) == 0 || (m->whole && !old->whole)))
            return true;
        if (!m->whole && !old->whole && old->line == m->line)
            return true; /* a line that was cut off, and what is left of it */
    }
    return false;
}

/* Keeps a mistake; always 0. */
static int fail(struct parse *p, unsigned line, const char *section, const char *key, const char *fmt, ...)
{
    struct mistake m = {.line = line, .whole = p->whole};
    va_list args;

    va_start(args, fmt);
    vsnprintf(m.text, sizeof m.text, fmt, args);
    va_end(args);
    snprintf(m.where, sizeof m.where, "%.48s%s%.48s", section, *key ? "." : "", key);
    if (told_already(p, &m))
        return 0;
    if (p->n_errors == CONFIG_ERRORS_MAX)
        p->more_errors++;
    else
        p->error[p->n_errors++] = m;
    return 0;
}

static int by_line(const void *a, const void *b)
{
    const struct mistake *x = a, *y = b;

    return x->line != y->line ? (x->line > y->line) - (x->line < y->line) : strcmp(x->where, y->where);
}

/* All of them, a line each, in the order of the file. */
static void tell_mistakes(struct parse *p, char *ret_error, size_t bytes)
{
    size_t at = 0;

    qsort(p->error, p->n_errors, sizeof *p->error, by_line);
    ret_error[0] = '\0';
    for (unsigned i = 0; i < p->n_errors && at < bytes; i++)
        at += (size_t)snprintf(ret_error + at, bytes - at, "%s%.160s:%u: %s: %s", i ? "\n" : "", p->path, p->error[i].line,
                               p->error[i].where, p->error[i].text);
    if (p->more_errors && at < bytes)
        snprintf(ret_error + at, bytes - at, "\n%.160s: and %u more", p->path, p->more_errors);
}

/* inih's lines are short (200 characters as Debian builds it): what does not fit is an error, except in a comment. */
static void skip_rest(struct parse *p, const char *start)
{
    int c;

    while ((c = fgetc(p->file)) != EOF && c != '\n')
        ;
    if (*start == '#' || *start == ';')
        return;
    p->cut = true;
    fail(p, p->line, "syntax", "", "the line is too long; a list may be given in several lines with the same key");
}

static char *read_line(char *str, int bytes, void *stream)
{
    struct parse *p = stream;
    const char *start = str;

    if (!fgets(str, bytes, p->file))
        return NULL;
    p->line++;
    start += strspn(str, " \t");
    if (*start == '[')
        p->section_line = p->line;
    if (!strchr(str, '\n') && !feof(p->file))
        skip_rest(p, start);
    return str;
}

static int forward_key(struct parse *p, const char *section, const char *key, const char *value)
{
    const char *name = section + 8;
    struct config_forward *f;

    while (*name == ' ')
        name++;
    if (!*name || strlen(name) >= sizeof f->name)
        return fail(p, p->line, section, "", "a forward needs a name of 1 to 31 characters: [forward web]");
    f = get_forward(p->c, name);
    if (!f)
        return fail(p, p->line, section, "", "too many forwards; at most %d", CONFIG_FORWARDS_MAX);
    p->forward_line[f - p->c->forward] = p->section_line;
    if (!strcmp(key, "listen"))
        p->listen_line[f - p->c->forward] = p->line;
    for (size_t i = 0; i < N_FORWARD_ROWS; i++) {
        if (strcmp(forward_rows[i].key, key))
            continue;
        const char *expected = read_forward_row(&forward_rows[i], f, value);

        return expected ? fail(p, p->line, section, key, "'%.80s' is not valid; expected %s", value, expected) : 1;
    }
    return fail(p, p->line, section, key,
                "unknown key; a forward has listen, to, proxy_protocol, connect_timeout, backlog, max_connections");
}

static struct config_md5 *get_md5(struct daemon_config *c, const char *name)
{
    for (unsigned i = 0; i < c->n_md5; i++)
        if (!strcmp(c->md5[i].name, name))
            return &c->md5[i];
    if (c->n_md5 == CONFIG_MD5_MAX)
        return NULL;
    struct config_md5 *m = &c->md5[c->n_md5++];

    memset(m, 0, sizeof *m);
    snprintf(m->name, sizeof m->name, "%s", name);
    return m;
}

static int md5_key(struct parse *p, const char *section, const char *key, const char *value)
{
    const char *name = section + 3 + strspn(section + 3, " ");
    struct config_md5 *m;
    bool secret;

    if (!*name || strlen(name) >= sizeof m->name)
        return fail(p, p->line, section, "", "a key needs a name of 1 to 31 characters: [md5 router]");
    m = get_md5(p->c, name);
    if (!m)
        return fail(p, p->line, section, "", "too many keys; at most %d", CONFIG_MD5_MAX);
    p->md5_line[m - p->c->md5] = p->section_line;
    for (size_t i = 0; i < N_MD5_ROWS; i++) {
        if (strcmp(md5_rows[i].key, key))
            continue;
        const char *expected = config_md5_read(m, key, value, &secret);

        if (secret && !expected && (!p->file || config_md5_exposed(fileno(p->file))))
            return fail(p, p->line, section, key, "others can read this file; expected chmod 640, or key_file");
        return expected ? fail(p, p->line, section, key, "'%.80s' is not valid; expected %s", secret ? "..." : value, expected)
                        : 1;
    }
    return fail(p, p->line, section, key, "unknown key; an md5 has peer, port, key_file and key");
}

/* A value that has a name. */
static const char *read_named(const struct tcp_config_row *r, const char *text, int64_t *ret)
{
    static _Thread_local char expected[96];
    size_t at = 0;

    *ret = tcp_config_named(r, text);
    if (*ret >= 0)
        return NULL;
    expected[0] = '\0';
    for (int32_t i = 0; tcp_config_name(r, i) && at < sizeof expected; i++)
        at += (size_t)snprintf(expected + at, sizeof expected - at, "%s%s", i ? " or " : "", tcp_config_name(r, i));
    return expected;
}

/* A row of the engine's or stack's own table. */
static int table_key(struct parse *p, const struct tcp_config_row *table, void *base, const char *section, const char *key,
                     const char *value)
{
    int64_t v;

    for (const struct tcp_config_row *r = table; r->name; r++) {
        if (strcmp(r->name, key))
            continue;
        const char *expected = tcp_config_name(r, r->def) ? read_named(r, value, &v) : read_number(value, r->min, r->max, &v);

        if (expected)
            return fail(p, p->line, section, key, "'%.80s' is not valid; expected %s", value, expected);
        memcpy((char *)base + r->offset, &(int32_t){(int32_t)v}, sizeof(int32_t));
        return 1;
    }
    return fail(p, p->line, section, key, "unknown key; 'tautd --dump-config' lists all");
}

static int take_key(struct parse *p, const char *section, const char *key, const char *value)
{
    bool known = false;

    if (!strncmp(section, "forward", 7) && (section[7] == ' ' || !section[7]))
        return forward_key(p, section[7] ? section : "forward ", key, value);
    if (!strncmp(section, "md5", 3) && (section[3] == ' ' || !section[3]))
        return md5_key(p, section, key, value);
    if (!strcmp(section, "tcp")) {
        p->tcp_line = p->line;
        return table_key(p, tcp_config_rows, &p->c->tcp, section, key, value);
    }
    if (!strcmp(section, "stack"))
        return table_key(p, stack_config_rows, &p->c->stack, section, key, value);
    for (size_t i = 0; i < N_ROWS; i++) {
        if (strcmp(rows[i].section, section))
            continue;
        known = true;
        if (strcmp(rows[i].key, key))
            continue;
        const char *expected = read_row(p->c, &rows[i], value);

        return expected ? fail(p, p->line, section, key, "'%.80s' is not valid; expected %s", value, expected) : 1;
    }
    if (!known)
        return fail(p, p->line, *section ? section : "(no section)", "",
                    "unknown section; there are interface, network, limits, control, log, services, tcp, stack, "
                    "forward NAME and md5 NAME");
    return fail(p, p->line, section, key, "unknown key; 'tautd --dump-config' lists all");
}

/* inih goes on behind a mistake of ours; what it stops at itself is syntax. */
static int handle(void *user, const char *section, const char *key, const char *value)
{
    take_key(user, section, key, value);
    return 1;
}

static bool listeners_clash(const struct config_forward *a, const struct config_forward *b)
{
    return a->listen_port == b->listen_port &&
           (!a->listen_addr.family || !b->listen_addr.family || ip_addr_eq(&a->listen_addr, &b->listen_addr));
}

/* Addresses that a host can have, each once. */
static void check_addresses(struct parse *p)
{
    const struct daemon_config *c = p->c;
    char text[IP_ADDR_TEXT_MAX];

    for (unsigned i = 0; i < c->n_addr; i++) {
        const struct ip_addr *a = &c->addr[i].addr;

        ip_addr_format(a, text);
        if (ip_addr_is_multicast(a) || ip_addr_is_broadcast(a) || ip_addr_is_unspecified(a) || ip_addr_is_loopback(a))
            fail(p, p->line, "network", "address", "%s is not an address that a host can have", text);
        for (unsigned j = 0; j < i; j++)
            if (ip_addr_eq(a, &c->addr[j].addr))
                fail(p, p->line, "network", "address", "%s is there twice", text);
        for (unsigned j = 0; j < c->n_host_addr; j++)
            if (ip_addr_eq(a, &c->host_addr[j].addr))
                fail(p, p->line, "network", "address", "%s is the kernel's end (interface.host_address)", text);
    }
}

static void check_services(struct parse *p)
{
    const struct daemon_config *c = p->c;
    const struct config_service *services[] = {&c->echo, &c->discard, &c->chargen};
    static const char *const names[] = {"echo", "discard", "chargen"};

    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; services[i]->enabled && j < i; j++)
            if (services[j]->enabled && services[i]->port == services[j]->port)
                fail(p, p->line, "services", names[i], "port %u is services.%s's already", services[i]->port, names[j]);
        for (unsigned j = 0; services[i]->enabled && j < c->n_forwards; j++)
            if (services[i]->port == c->forward[j].listen_port && !c->forward[j].listen_addr.family)
                fail(p, p->line, "services", names[i], "port %u is forward %s's already; choose another or off",
                     services[i]->port, c->forward[j].name);
    }
}

static void check_process(struct parse *p)
{
    const struct daemon_config *c = p->c;

    if (c->mtu && c->mtu < 68)
        fail(p, p->line, "interface", "mtu", "%u is below the least that IPv4 allows; expected 0 or 68 to 65521", c->mtu);
    if (c->control_dir[0] != '/')
        fail(p, p->line, "control", "directory", "'%s' must be an absolute path", c->control_dir);
    if (c->control_group[0] && !getgrnam(c->control_group))
        fail(p, p->line, "control", "group", "there is no group '%s'", c->control_group);
}

static void check_md5(struct parse *p)
{
    const struct daemon_config *c = p->c;
    char section[48];

    for (unsigned i = 0; i < c->n_md5; i++) {
        const struct config_md5 *m = &c->md5[i];

        snprintf(section, sizeof section, "md5 %s", m->name);
        if (!m->peer.family)
            fail(p, p->md5_line[i], section, "peer", "missing; expected ADDRESS or ADDRESS/BITS");
        if (!m->bytes)
            fail(p, p->md5_line[i], section, "key_file", "missing; expected a file with the key");
        for (unsigned j = 0; j < i; j++)
            if (m->port == c->md5[j].port && m->bits == c->md5[j].bits && m->peer.family == c->md5[j].peer.family &&
                ip_addr_prefix_eq(&m->peer, &c->md5[j].peer, m->bits))
                fail(p, p->md5_line[i], section, "peer", "is md5 %s's already", c->md5[j].name);
    }
}

/* What only the whole can tell. */
static void check_whole(struct parse *p)
{
    const struct daemon_config *c = p->c;
    char section[48];

    for (unsigned i = 0; i < c->n_forwards; i++) {
        const struct config_forward *f = &c->forward[i];

        snprintf(section, sizeof section, "forward %s", f->name);
        if (!f->listen_port)
            fail(p, p->forward_line[i], section, "listen", "missing; expected PORT or ADDRESS:PORT");
        if (!f->to_port && !f->to_path[0])
            fail(p, p->forward_line[i], section, "to", "missing; expected tcp:ADDRESS:PORT or unix:/PATH");
        for (unsigned j = 0; j < i; j++)
            if (listeners_clash(f, &c->forward[j]))
                fail(p, p->listen_line[i], section, "listen", "port %u is forward %s's already", f->listen_port,
                     c->forward[j].name);
    }
    check_addresses(p);
    check_services(p);
    check_md5(p);
    check_process(p);
    if (c->tcp.ip_local_port_low > c->tcp.ip_local_port_high)
        fail(p, p->tcp_line, "tcp", "ip_local_port_low", "must not be above ip_local_port_high");
    if (c->tcp.tcp_rmem_min > c->tcp.tcp_rmem_default || c->tcp.tcp_rmem_default > c->tcp.tcp_rmem_max)
        fail(p, p->tcp_line, "tcp", "tcp_rmem_default", "must lie between tcp_rmem_min and tcp_rmem_max");
    if (c->tcp.tcp_wmem_min > c->tcp.tcp_wmem_default || c->tcp.tcp_wmem_default > c->tcp.tcp_wmem_max)
        fail(p, p->tcp_line, "tcp", "tcp_wmem_default", "must lie between tcp_wmem_min and tcp_wmem_max");
    if (c->tcp.tcp_delack_min > c->tcp.tcp_delack_max)
        fail(p, p->tcp_line, "tcp", "tcp_delack_min", "must not be above tcp_delack_max");
}

void config_defaults(struct daemon_config *ret)
{
    memset(ret, 0, sizeof *ret);
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].type != T_PREFIXES && rows[i].type != T_ROUTES)
            read_row(ret, &rows[i], rows[i].def);
    tcp_config_defaults(&ret->tcp);
    stack_config_defaults(&ret->stack);
}

/* What stands behind a line that is no syntax was read without knowing its section. */
static void forget_behind(struct parse *p, unsigned line)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < p->n_errors; i++)
        if (p->error[i].line <= line)
            p->error[kept++] = p->error[i];
    p->n_errors = kept;
    p->more_errors = 0;
}

static void parse_file(struct parse *p)
{
    int r = ini_parse_stream(read_line, p, handle, p);

    if (r > 0)
        forget_behind(p, (unsigned)r);
    if (ferror(p->file))
        fail(p, p->line, "file", "", "cannot be read: %s", strerror(errno));
    else if (r > 0)
        fail(p, (unsigned)r, "syntax", "", "neither [section], key = value, comment nor blank");
    else if (r < 0)
        fail(p, p->line, "file", "", "out of memory while reading");
    p->whole = true;
    if (r == 0 && !ferror(p->file) && !p->cut)
        check_whole(p);
}

int config_load(const char *path, struct daemon_config *ret, char *ret_error, size_t error_bytes)
{
    struct parse *p = calloc(1, sizeof *p);
    struct daemon_config *c = malloc(sizeof *c);
    int result = -1;

    if (!p || !c) {
        snprintf(ret_error, error_bytes, "%s: out of memory", path);
        goto out;
    }
    config_defaults(c);
    p->path = path;
    p->c = c;
    p->file = fopen(path, "re");
    if (!p->file) {
        snprintf(ret_error, error_bytes, "%s: %s", path, strerror(errno));
        goto out;
    }
    parse_file(p);
    fclose(p->file);
    if (p->n_errors) {
        tell_mistakes(p, ret_error, error_bytes);
        goto out;
    }
    snprintf(c->path, sizeof c->path, "%s", path);
    *ret = *c;
    result = 0;
out:
    free(p);
    if (c)
        explicit_bzero(c->md5, sizeof c->md5);
    free(c);
    return result;
}

/* ---- The table for others ----------------------------------------------------------------------------------------------- */

static bool table_row(const struct tcp_config_row *r, const char *section, struct config_row_info *ret)
{
    static _Thread_local char def[16];

    const char *name = tcp_config_name(r, r->def);

    if (name)
        snprintf(def, sizeof def, "%s", name);
    else
        snprintf(def, sizeof def, "%d", r->def);
    *ret = (struct config_row_info){section, r->name, name ? "name" : "number", def, r->unit, r->scope, r->help};
    return true;
}

static unsigned table_length(const struct tcp_config_row *table)
{
    unsigned n = 0;

    while (table[n].name)
        n++;
    return n;
}

/* The row of an index that counts through rows, tcp_config_rows and stack_config_rows. */
static const struct tcp_config_row *engine_row(unsigned i, const char **ret_section)
{
    unsigned n_tcp = table_length(tcp_config_rows);

    *ret_section = i < n_tcp ? "tcp" : "stack";
    if (i < n_tcp)
        return &tcp_config_rows[i];
    i -= n_tcp;
    return i < table_length(stack_config_rows) ? &stack_config_rows[i] : NULL;
}

bool config_row(unsigned i, struct config_row_info *ret)
{
    const char *section;

    if (i < N_ROWS) {
        const struct row *r = &rows[i];

        *ret = (struct config_row_info){r->section, r->key, type_names[r->type], r->def, r->unit, r->scope, r->help};
        return true;
    }
    const struct tcp_config_row *e = engine_row(i - N_ROWS, &section);

    return e && table_row(e, section, ret);
}

static void write_list(char *buf, size_t bytes, const struct config_prefix *list, unsigned n)
{
    char text[IP_ADDR_TEXT_MAX];
    size_t at = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < n && at < bytes; i++)
        at += (size_t)snprintf(buf + at, bytes - at, "%s%s/%u", i ? ", " : "", ip_addr_format(&list[i].addr, text),
                               list[i].bits);
}

char *config_route(const struct stack_route *r, char *buf, size_t bytes)
{
    char prefix[IP_ADDR_TEXT_MAX], gateway[IP_ADDR_TEXT_MAX];
    const struct {
        const char *name;
        unsigned value;
    } option[] = {{"mtu", r->mtu}, {"advmss", r->advmss}, {"initcwnd", r->initcwnd}, {"initrwnd", r->initrwnd}};
    size_t at = (size_t)snprintf(buf, bytes, "%s/%u%s%s", ip_addr_format(&r->prefix, prefix), r->prefix_bits,
                                 r->gateway.family ? " via " : "",
                                 r->gateway.family ? ip_addr_format(&r->gateway, gateway) : "");

    for (size_t i = 0; i < sizeof option / sizeof *option && at < bytes; i++)
        if (option[i].value)
            at += (size_t)snprintf(buf + at, bytes - at, " %s %u", option[i].name, option[i].value);
    return buf;
}

static void write_routes(char *buf, size_t bytes, const struct daemon_config *c)
{
    char one[256];
    size_t at = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < c->n_routes && at < bytes; i++)
        at += (size_t)snprintf(buf + at, bytes - at, "%s%s", i ? ", " : "",
                               config_route(&c->route[i], one, sizeof one));
}

static void write_row(const struct daemon_config *c, const struct row *r, char *buf, size_t bytes)
{
    const void *at = (const char *)c + r->offset;

    switch (r->type) {
    case T_BOOL:
        snprintf(buf, bytes, "%s", *(const bool *)at ? "yes" : "no");
        break;
    case T_INT:
        snprintf(buf, bytes, "%d", *(const int *)at);
        break;
    case T_U16:
        snprintf(buf, bytes, "%u", *(const uint16_t *)at);
        break;
    case T_U32:
        snprintf(buf, bytes, "%u", *(const uint32_t *)at);
        break;
    case T_MS:
        snprintf(buf, bytes, "%ums", *(const uint32_t *)at);
        break;
    case T_BYTES:
        snprintf(buf, bytes, "%" PRIu64, *(const uint64_t *)at);
        break;
    case T_MAC:
        if (c->has_mac)
            snprintf(buf, bytes, "%02x:%02x:%02x:%02x:%02x:%02x", c->mac[0], c->mac[1], c->mac[2], c->mac[3], c->mac[4],
                     c->mac[5]);
        break;
    case T_PREFIXES:
        if (at == c->addr)
            write_list(buf, bytes, c->addr, c->n_addr);
        else
            write_list(buf, bytes, c->host_addr, c->n_host_addr);
        break;
    case T_ROUTES:
        write_routes(buf, bytes, c);
        break;
    case T_LOG:
        snprintf(buf, bytes, "%s", logger_level_name(*(const int *)at));
        break;
    case T_PORT: {
        const struct config_service *s = at;

        snprintf(buf, bytes, s->enabled ? "%u" : "off", s->port);
        break;
    }
    case T_TEXT:
    case T_IFNAME:
    default:
        snprintf(buf, bytes, "%s", (const char *)at);
    }
}

const char *config_value(const struct daemon_config *c, unsigned i, char *buf, size_t bytes)
{
    const char *section;
    int32_t v;

    buf[0] = '\0';
    if (i < N_ROWS) {
        write_row(c, &rows[i], buf, bytes);
        return buf;
    }
    const struct tcp_config_row *e = engine_row(i - N_ROWS, &section);

    if (!e)
        return buf;
    memcpy(&v, (const char *)(*section == 't' ? (const void *)&c->tcp : (const void *)&c->stack) + e->offset, sizeof v);
    if (tcp_config_name(e, v))
        snprintf(buf, bytes, "%s", tcp_config_name(e, v));
    else
        snprintf(buf, bytes, "%d", v);
    return buf;
}

int config_set_value(struct daemon_config *c, const char *section, const char *key, const char *value, char *ret_error,
                     size_t error_bytes)
{
    struct daemon_config *next;
    struct parse p = {.path = "config.set", .line = 1};
    bool good;
    struct config_row_info info;
    unsigned i = 0;

    while (config_row(i, &info) && (strcmp(info.section, section) || strcmp(info.key, key)))
        i++;
    if (!config_row(i, &info)) {
        snprintf(ret_error, error_bytes, "%s.%s: unknown key", section, key);
        return -1;
    }
    if (strcmp(info.scope, "now") && strcmp(info.scope, "new")) {
        snprintf(ret_error, error_bytes, "%s.%s: cannot be set here; change the file and %s", section, key,
                 strcmp(info.scope, "reload") ? "restart the daemon" : "run 'taut reload'");
        return -1;
    }
    next = malloc(sizeof *next);
    if (!next) {
        snprintf(ret_error, error_bytes, "out of memory");
        return -1;
    }
    *next = *c;
    p.c = next;
    handle(&p, section, key, value);
    check_whole(&p);
    good = p.n_errors == 0;
    if (good)
        *c = *next;
    else
        snprintf(ret_error, error_bytes, "%s: %s", p.error[0].where, p.error[0].text);
    explicit_bzero(next->md5, sizeof next->md5);
    free(next);
    return good ? 0 : -1;
}

static bool has_key(const struct row *table, size_t n, const char *section, const char *key)
{
    while (n > 0 && (strcmp(table[n - 1].key, key) != 0 || (section && strcmp(table[n - 1].section, section) != 0)))
        n--;
    return n > 0;
}

static bool key_is_known(const char *section, const char *key)
{
    const struct tcp_config_row *table = !strcmp(section, "tcp")     ? tcp_config_rows
                                         : !strcmp(section, "stack") ? stack_config_rows
                                                                     : NULL;

    if (!strncmp(section, "forward ", 8))
        return has_key(forward_rows, N_FORWARD_ROWS, NULL, key);
    if (!strncmp(section, "md5 ", 4))
        return has_key(md5_rows, N_MD5_ROWS, NULL, key);
    if (!table)
        return has_key(rows, N_ROWS, section, key);
    while (table->name && strcmp(table->name, key) != 0)
        table++;
    return table->name != NULL;
}

enum config_taken config_take(struct daemon_config *c, const char *section, const char *key, const char *value,
                              char *ret_error, size_t error_bytes)
{
    struct parse p = {.path = "", .line = 1, .c = c};

    if (!key_is_known(section, key))
        return CONFIG_UNKNOWN;
    take_key(&p, section, key, value);
    if (p.n_errors == 0)
        return CONFIG_TAKEN;
    snprintf(ret_error, error_bytes, "%s: %s", p.error[0].where, p.error[0].text);
    return CONFIG_WRONG;
}

/* ---- The example file ---------------------------------------------------------------------------------------------------- */

static void dump_key(FILE *out, const char *key, const char *def, const char *unit, const char *scope, const char *help)
{
    fprintf(out, "# %s", help);
    if (*unit)
        fprintf(out, " [%s]", unit);
    fprintf(out, " (%s)\n#%s =%s%s\n\n", scope, key, *def ? " " : "", def);
}

int config_dump(FILE *out)
{
    struct config_row_info r;
    const char *section = "";

    fputs("# taut.conf: every key with its default. A line without the leading # sets one.\n"
          "# In brackets the unit; in parentheses when a change takes effect: start (restart the daemon), reload\n"
          "# (taut reload, SIGHUP), new (connections made afterwards; taut config), now (at once; taut config).\n"
          "# Made by 'tautd --dump-config'; see taut.conf(5).\n\n",
          out);
    for (unsigned i = 0; config_row(i, &r); i++) {
        if (strcmp(r.section, section))
            fprintf(out, "[%s]\n\n", r.section);
        section = r.section;
        dump_key(out, r.key, r.def, r.unit, r.scope, r.help);
    }
    fputs("# One section for each forward: accept on the stack, connect to a backend of the host.\n"
          "#[forward web]\n\n", out);
    for (size_t i = 0; i < N_FORWARD_ROWS; i++) {
        const struct row *f = &forward_rows[i];

        dump_key(out, f->key, f->def, f->unit, f->scope, f->help);
    }
    fputs("# One section for each TCP-MD5 key (RFC 2385): segments from and to these peers are signed.\n"
          "#[md5 router]\n\n", out);
    for (size_t i = 0; i < N_MD5_ROWS; i++) {
        const struct row *m = &md5_rows[i];

        dump_key(out, m->key, m->def, m->unit, m->scope, m->help);
    }
    return ferror(out) ? -1 : 0;
}
