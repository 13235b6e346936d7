/*
 * daemon/md5.h: keys of TCP-MD5 (RFC 2385): the sections [md5 NAME] of the configuration, and which sockets get them.
 */
#ifndef TAUT_DAEMON_MD5_H
#define TAUT_DAEMON_MD5_H

#include "base/ipaddr.h"
#include "daemon/config.h"
#include "sock/sock.h"

struct daemon;

/*
 * Reads one key of a section. NULL, or what would be right; *ret_secret: the value must not be repeated in an error.
 * `path` is the configuration file, for its permissions.
 */
const char *config_md5_read(struct config_md5 *m, const char *key, const char *value, bool *ret_secret);
/* Anyone but the owner and its group may read it, or the group may change it. */
bool config_md5_exposed(int fd);
/* Every section whose port is `port` (or that has none), to a socket before it listens or connects. 0 or -errno. */
int md5_apply(const struct daemon *d, struct sock *s, uint16_t port, uint64_t now);
/* Listeners get what is new in `next` and lose what is gone; d->config has it then. Connections keep their keys. */
void md5_reload(struct daemon *d, const struct daemon_config *next, uint64_t now);
/* "PREFIX KEY" of tcp.listen. False: not that. */
bool md5_parse(const char *text, struct tcp_md5_key *ret);
/* KEY of tcp.connect, for one peer. False: empty or too long. */
bool md5_for(const struct ip_addr *peer, const char *text, struct tcp_md5_key *ret);

#endif
