/*
 * daemon/service.h: built-in services on the stack: echo (RFC 862), discard (RFC 863), chargen (RFC 864).
 */
#ifndef TAUT_DAEMON_SERVICE_H
#define TAUT_DAEMON_SERVICE_H

#include "daemon/config.h"
#include "daemon/daemon.h"

int services_open(struct daemon *d, char *ret_error, size_t error_bytes);
/* After a reload. A port that cannot be had does not keep the others back: -1 with the last one's sentence. */
int services_reload(struct daemon *d, const struct daemon_config *next, char *ret_error, size_t error_bytes);
void services_drain(struct daemon *d, uint64_t now);
void services_close(struct daemon *d);

/* After a crash: takes the connection if it is a service's; false: it is nobody's here, or no memory. */
bool service_restore(struct daemon *d, struct sock *s, const struct tcp_info *info);

struct service_info {
    const char *name; /* "echo", "discard", "chargen" */
    uint16_t port;
    uint32_t connections;
    uint64_t accepted;
};
bool services_get(const struct daemon *d, unsigned i, struct service_info *ret);

#endif
