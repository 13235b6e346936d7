/*
 * daemon/md5.c: keys of TCP-MD5 (theory of operation).
 *
 * A section [md5 NAME] gives the peers of a prefix a key, on all ports or on one: listeners on that port get it, and
 * connections to that port. Sockets get theirs before they listen or connect, so that no segment is ever accepted
 * unsigned; a reload changes listeners, connections keep what they have. Secrets come from a file of their own, or from
 * a configuration that others may not read; no answer, dump or log line has them.
 */
#include "daemon/md5.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/daemon.h"

bool config_md5_exposed(int fd)
{
    struct stat st;

    return fstat(fd, &st) < 0 || (st.st_mode & (S_IRWXO | S_IWGRP)) != 0;
}

static const char *read_peer(struct config_md5 *m, const char *value)
{
    unsigned bits;

    if (!ip_prefix_parse(value, &m->peer, &bits))
        return "ADDRESS or ADDRESS/BITS of the peers";
    m->bits = (uint8_t)bits;
    return NULL;
}

static const char *read_key(struct config_md5 *m, const char *bytes, size_t n)
{
    if (n < 1 || n > TCP_MD5_KEY_MAX)
        return "a key of 1 to 80 bytes";
    m->bytes = (uint8_t)n;
    memcpy(m->key, bytes, n);
    return NULL;
}

/* The file's bytes without a last newline. */
static const char *read_key_file(struct config_md5 *m, const char *path)
{
    char bytes[TCP_MD5_KEY_MAX + 2];
    const char *expected = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n;

    if (fd < 0)
        return "a file that can be read";
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        expected = "a regular file";
    else if (config_md5_exposed(fd))
        expected = "a file that only its owner and group can read (chmod 640)";
    n = expected ? -1 : read(fd, bytes, sizeof bytes);
    close(fd);
    if (expected || n < 0)
        return expected ? expected : "a file that can be read";
    if (n > 0 && bytes[n - 1] == '\n')
        n--;
    expected = read_key(m, bytes, (size_t)n);
    explicit_bzero(bytes, sizeof bytes);
    return expected;
}

static const char *read_port(struct config_md5 *m, const char *value)
{
    char *end;
    unsigned long port = strtoul(value, &end, 10);

    if (strcmp(value, "any") == 0) {
        m->port = 0;
        return NULL;
    }
    if (end == value || *end || port < 1 || port > 65535)
        return "a port from 1 to 65535, or any";
    m->port = (uint16_t)port;
    return NULL;
}

const char *config_md5_read(struct config_md5 *m, const char *key, const char *value, bool *ret_secret)
{
    *ret_secret = strcmp(key, "key") == 0;
    if (*ret_secret)
        return read_key(m, value, strlen(value));
    if (strcmp(key, "key_file") == 0) {
        m->file[0] = '\0';
        if (strlen(value) < sizeof m->file)
            memcpy(m->file, value, strlen(value) + 1);
        return read_key_file(m, value);
    }
    return strcmp(key, "peer") == 0 ? read_peer(m, value) : read_port(m, value);
}

static struct tcp_md5_key engine_key(const struct config_md5 *m)
{
    struct tcp_md5_key k = {.addr = m->peer, .prefix = m->bits, .bytes = m->bytes};

    memcpy(k.key, m->key, m->bytes);
    return k;
}

int md5_apply(const struct daemon *d, struct sock *s, uint16_t port, uint64_t now)
{
    unsigned n = d->config->n_md5;
    int r = 0;

    /* Those of any port first: one of this port replaces them. */
    for (unsigned i = 0; r == 0 && i < 2 * n; i++) {
        const struct config_md5 *m = &d->config->md5[i % n];
        struct tcp_md5_key k = engine_key(m);

        if (m->port == (i < n ? 0 : port))
            r = sock_md5_set(s, &k, now);
        explicit_bzero(&k, sizeof k);
    }
    return r;
}

static bool has(const struct daemon_config *c, const struct config_md5 *m)
{
    for (unsigned i = 0; i < c->n_md5; i++) {
        const struct config_md5 *o = &c->md5[i];

        if (ip_addr_eq(&o->peer, &m->peer) && o->bits == m->bits && o->port == m->port && o->bytes == m->bytes &&
            memcmp(o->key, m->key, m->bytes) == 0)
            return true;
    }
    return false;
}

/* To the listeners on its port: the key, or without it. */
static void tell_listeners(struct daemon *d, const struct config_md5 *m, bool forget, uint64_t now)
{
    for (struct sock *s = sock_next_listener(d->socks, NULL); s; s = sock_next_listener(d->socks, s)) {
        struct tcp_md5_key k = engine_key(m);
        struct tcp_listen_info info;
        int r;

        if (sock_listen_info(s, &info) < 0 || (m->port && m->port != info.port))
            continue;
        if (forget)
            k.bytes = 0;
        r = sock_md5_set(s, &k, now);
        explicit_bzero(&k, sizeof k);
        if (r < 0 && r != -ENOENT)
            log_msg(&d->log, LOG_LVL_ERR, "md5 %s: port %u: %s", m->name, info.port, strerror(-r));
    }
}

void md5_reload(struct daemon *d, const struct daemon_config *next, uint64_t now)
{
    for (unsigned i = 0; i < d->config->n_md5; i++) {
        if (!has(next, &d->config->md5[i]))
            tell_listeners(d, &d->config->md5[i], true, now);
    }
    for (unsigned i = 0; i < next->n_md5; i++) {
        if (!has(d->config, &next->md5[i]))
            tell_listeners(d, &next->md5[i], false, now);
    }
    explicit_bzero(d->config->md5, sizeof d->config->md5);
    memcpy(d->config->md5, next->md5, sizeof next->md5);
    d->config->n_md5 = next->n_md5;
}

bool md5_for(const struct ip_addr *peer, const char *text, struct tcp_md5_key *ret)
{
    size_t n = strlen(text);

    if (n < 1 || n > TCP_MD5_KEY_MAX)
        return false;
    *ret = (struct tcp_md5_key){.addr = *peer, .prefix = peer->family == IP_V6 ? 128 : 32, .bytes = (uint8_t)n};
    memcpy(ret->key, text, n);
    return true;
}

bool md5_parse(const char *text, struct tcp_md5_key *ret)
{
    const char *blank = strchr(text, ' ');
    char prefix[IP_ADDR_TEXT_MAX + 4];
    struct ip_addr addr;
    unsigned bits;

    if (!blank || (size_t)(blank - text) >= sizeof prefix)
        return false;
    memcpy(prefix, text, (size_t)(blank - text));
    prefix[blank - text] = '\0';
    if (!ip_prefix_parse(prefix, &addr, &bits) || !md5_for(&addr, blank + 1, ret))
        return false;
    ret->prefix = (uint8_t)bits;
    return true;
}
