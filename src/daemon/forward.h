/*
 * daemon/forward.h: forwards ([forward NAME]): accept on the stack, connect to a backend of the host, pump.
 */
#ifndef TAUT_DAEMON_FORWARD_H
#define TAUT_DAEMON_FORWARD_H

#include "daemon/config.h"
#include "daemon/daemon.h"

/* Opens all forwards of d->config. 0, or -1 with a sentence (which one and why; forwards_close() ends the others). */
int forwards_open(struct daemon *d, char *ret_error, size_t error_bytes);
/*
 * After a reload: closes listeners that went, opens new ones, changes targets; connections stay. One that cannot
 * be opened does not keep the others back: -1 with the last one's sentence.
 */
int forwards_reload(struct daemon *d, const struct daemon_config *next, char *ret_error, size_t error_bytes);
/* No new connections, those without a backend yet are reset; FIN on the others. */
void forwards_drain(struct daemon *d, uint64_t now);
void forwards_close(struct daemon *d);

/* After a crash: a connection with the link of a dead worker. 0, or -errno: both are still the caller's. */
struct link_slot;
int forward_restore(struct daemon *d, struct sock *s, struct link_slot *slot);

struct forward_info {
    const char *name;
    struct ip_addr listen_addr;
    uint16_t listen_port;
    char to[CONFIG_PATH_MAX + 8]; /* as in the file: "tcp:127.0.0.1:8080", "unix:/path" */
    uint32_t connections, connecting;
    uint64_t accepted, failed;
};
bool forwards_get(const struct daemon *d, unsigned i, struct forward_info *ret);

#endif
