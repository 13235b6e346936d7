/*
 * sock/md5.c: keys of TCP-MD5 (RFC 2385) on sockets: TCP_MD5SIG and TCP_MD5SIG_EXT.
 *
 * A socket keeps the keys that its program set, for the connection or the listener that it may become; the engine gets
 * those that can matter: all of a listener's, of a connection's the ones whose prefix holds its peer. An accepted socket
 * begins with none of its own: the engine gave its connection the listener's key. Bytes are wiped when they go.
 */
#include "base/wipe.h"
#include "sock/sock_priv.h"

/* Linux's struct tcp_md5sig: a sockaddr_storage, flags, prefix length, key length, interface index, key. */
enum {
    MD5SIG_FLAGS = 128,
    MD5SIG_PREFIX = 129,
    MD5SIG_KEYLEN = 130,
    MD5SIG_KEY = 136,
    MD5SIG_BYTES = MD5SIG_KEY + TCP_MD5_KEY_MAX,
    SOCKADDR_IN_ADDR = 4,
    SOCKADDR_IN6_ADDR = 8,
};
enum { MD5SIG_FLAG_PREFIX = 1, MD5SIG_FLAG_IFINDEX = 2 };

void sock_md5_free(struct sock *s)
{
    for (unsigned i = 0; i < s->more->n_md5; i++)
        wipe(&s->more->md5[i], sizeof *s->more->md5);
    free(s->more->md5);
    s->more->md5 = NULL;
    s->more->n_md5 = 0;
}

static struct tcp_md5_key *find(const struct sock *s, const struct tcp_md5_key *key)
{
    for (unsigned i = 0; i < s->more->n_md5; i++) {
        if (s->more->md5[i].prefix == key->prefix && s->more->md5[i].addr.family == key->addr.family &&
            ip_addr_prefix_eq(&s->more->md5[i].addr, &key->addr, key->prefix))
            return &s->more->md5[i];
    }
    return NULL;
}

/* The socket's own list. -ENOENT: nothing to forget. */
static int keep(struct sock *s, const struct tcp_md5_key *key)
{
    struct tcp_md5_key *old = find(s, key), *more;

    if (old && key->bytes) {
        *old = *key;
        return 0;
    }
    if (old) {
        *old = s->more->md5[--s->more->n_md5];
        wipe(&s->more->md5[s->more->n_md5], sizeof *s->more->md5);
        return 0;
    }
    if (!key->bytes)
        return -ENOENT;
    more = calloc(s->more->n_md5 + 1, sizeof *more); /* no realloc(): it would leave a copy behind */
    if (!more)
        return -ENOMEM;
    for (unsigned i = 0; i < s->more->n_md5; i++) {
        more[i] = s->more->md5[i];
        wipe(&s->more->md5[i], sizeof *s->more->md5);
    }
    free(s->more->md5);
    s->more->md5 = more;
    s->more->md5[s->more->n_md5++] = *key;
    return 0;
}

static bool concerns(const struct sock *s, const struct tcp_md5_key *key)
{
    return s->conn != 0 && key->addr.family == s->tuple.remote.family &&
           ip_addr_prefix_eq(&key->addr, &s->tuple.remote, key->prefix);
}

int sock_md5_set(struct sock *s, const struct tcp_md5_key *key, uint64_t now)
{
    int r;

    if (!tcp_md5_available(s->ss->tcp))
        return -ENOPROTOOPT;
    if (key->bytes > TCP_MD5_KEY_MAX)
        return -EINVAL;
    if (!sock_more_own(s))
        return -ENOMEM;
    if (s->more->listener != 0)
        r = tcp_listen_md5_set(s->ss->tcp, s->more->listener, key);
    else if (concerns(s, key))
        r = tcp_md5_set(s->ss->tcp, s->conn, key, now);
    else
        return keep(s, key);
    if (r == 0 && keep(s, key) == -ENOMEM)
        r = -ENOMEM;
    return r;
}

int sock_md5_apply(struct sock *s, uint64_t now)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < s->more->n_md5; i++) {
        if (s->more->listener != 0)
            r = tcp_listen_md5_set(s->ss->tcp, s->more->listener, &s->more->md5[i]);
        else if (concerns(s, &s->more->md5[i]))
            r = tcp_md5_set(s->ss->tcp, s->conn, &s->more->md5[i], now);
    }
    return r;
}

/* The address as the engine has it: mapped ones are IPv4. Its family is the socket's (tcp_v4_parse_md5_keys, v6). */
static bool parse_addr(const struct sock *s, const uint8_t *bytes, struct ip_addr *ret)
{
    uint16_t family;

    memcpy(&family, bytes, sizeof family);
    if (family != (s->family == IP_V6 ? SOCK_AF_INET6 : SOCK_AF_INET))
        return false;
    if (s->family == IP_V4) {
        *ret = ip_addr_v4_bytes(bytes + SOCKADDR_IN_ADDR);
        return true;
    }
    *ret = ip_addr_v6_bytes(bytes + SOCKADDR_IN6_ADDR, 0);
    *ret = sock_addr_unmap(ret);
    return true;
}

int sock_md5_setopt(struct sock *s, bool ext, const void *value, size_t bytes, uint64_t now)
{
    struct tcp_md5_key key = {0};
    const uint8_t *p = value;
    unsigned flags, most;
    uint16_t keylen;
    int r;

    if (!tcp_md5_available(s->ss->tcp))
        return -ENOPROTOOPT;
    if (bytes < MD5SIG_BYTES || !parse_addr(s, p, &key.addr))
        return -EINVAL;
    flags = ext ? p[MD5SIG_FLAGS] : 0;
    most = key.addr.family == IP_V4 ? 32 : 128;
    key.prefix = (uint8_t)(flags & MD5SIG_FLAG_PREFIX ? p[MD5SIG_PREFIX] : most);
    memcpy(&keylen, p + MD5SIG_KEYLEN, sizeof keylen);
    if ((flags & MD5SIG_FLAG_IFINDEX) || key.prefix > most || keylen > TCP_MD5_KEY_MAX)
        return -EINVAL; /* no layer-3 master devices here */
    key.bytes = (uint8_t)keylen;
    memcpy(key.key, p + MD5SIG_KEY, keylen);
    r = sock_md5_set(s, &key, now);
    wipe(&key, sizeof key);
    return r;
}
