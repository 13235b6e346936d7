/*
 * daemon/crypto.c: MD5 for TCP-MD5 (RFC 2385) by libcrypto. The algorithm is fetched once and its context kept: a fetch
 * costs more than the digest of a segment. Knows nothing of the daemon, so that unit tests and the packetdrill shim hand
 * the same table to their engines.
 */
#include "daemon/crypto.h"

#include <openssl/evp.h>

struct provider {
    EVP_MD *md5;
    EVP_MD_CTX *ctx;
    struct tcp_crypto table;
};

static bool md5(void *ctx, const struct tcp_bytes *piece, unsigned n, uint8_t ret[TCP_MD5_BYTES])
{
    const struct provider *p = ctx;
    unsigned bytes = 0;

    if (EVP_DigestInit_ex2(p->ctx, p->md5, NULL) != 1)
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (piece[i].len && EVP_DigestUpdate(p->ctx, piece[i].data, piece[i].len) != 1)
            return false;
    }
    return EVP_DigestFinal_ex(p->ctx, ret, &bytes) == 1 && bytes == TCP_MD5_BYTES;
}

const struct tcp_crypto *daemon_crypto(void)
{
    static struct provider p;

    if (p.table.md5)
        return &p.table;
    p.ctx = p.ctx ? p.ctx : EVP_MD_CTX_new();
    p.md5 = p.md5 ? p.md5 : EVP_MD_fetch(NULL, "MD5", NULL);
    if (!p.ctx || !p.md5)
        return NULL;
    p.table = (struct tcp_crypto){.ctx = &p, .md5 = md5};
    return &p.table;
}
