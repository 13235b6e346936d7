/*
 * daemon/crypto.h: the cryptography that the engine is handed at creation (struct tcp_crypto), by OpenSSL's libcrypto.
 */
#ifndef TAUT_DAEMON_CRYPTO_H
#define TAUT_DAEMON_CRYPTO_H

#include "tcp/tcp.h"

/* The same table for all callers, kept for the process's life; NULL: this libcrypto has no MD5. For one thread. */
const struct tcp_crypto *daemon_crypto(void);

#endif
