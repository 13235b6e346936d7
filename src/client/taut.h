/*
 * taut.h: libtaut, the C face of tautd's control socket.
 *
 * A struct taut is one client of the daemon (its SEQPACKET socket, on which calls may carry descriptors). Connections
 * come as ordinary descriptors: one end of a Unix stream socket on which read, write, shutdown, poll and close mean
 * what they mean on a TCP socket. Errors are negative errno values; taut_error() has the sentence that the daemon sent.
 * Functions block unless said otherwise; a struct taut is for one thread at a time.
 */
#ifndef TAUT_H
#define TAUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct taut;

#define TAUT_ID_MAX 32   /* a connection's id as text, with its NUL */
#define TAUT_ADDR_MAX 72 /* "[address%scope]:port" with its NUL */

/*
 * path: the daemon's runtime directory or one of its sockets; NULL: $TAUT_SOCKET, else /run/taut. NULL with errno set
 * (ENOENT, ECONNREFUSED: no daemon there; EACCES).
 */
struct taut *taut_open(const char *path);
void taut_close(struct taut *t);
/* Becomes readable when an answer or event waits; for poll(). */
int taut_fd(const struct taut *t);
/* What the last failed call on t said: "SYMBOLIC_NAME: sentence". Valid until the next call. */
const char *taut_error(const struct taut *t);

/*
 * Any method of the control API (docs/control-api.md). params: JSON text of an object, NULL: none. *ret_result: JSON
 * text of the result, to be freed with free(). *ret_fd: a descriptor that came with it, or -1; may be NULL if none is
 * expected. 0, or -errno of the error that was answered (the symbolic name is in taut_error()).
 */
int taut_call(struct taut *t, const char *method, const char *params, char **ret_result, int *ret_fd);

/*
 * The same for programs that use jansson themselves: params and *ret_result are its json_t. Takes the reference of params
 * (NULL: none); *ret_result is a new one. Saves writing and reading the text once, which large answers feel.
 */
struct json_t;
int taut_call_json(struct taut *t, const char *method, struct json_t *params, struct json_t **ret_result);

/* An established connection as a descriptor. host: an address, or a name (resolved here, each address tried in turn). */
struct taut_connect_options {
    const char *source;  /* local address, NULL: chosen */
    unsigned timeout_ms; /* 0: the stack's own (tcp_syn_retries) */
    bool nodelay;
    /* Sent first: in the SYN where the daemon's Fast Open allows (text without NUL), else once connected. */
    const void *data;
    size_t data_bytes;
    const char *md5_key; /* TCP-MD5 (RFC 2385): 1 to 80 bytes of UTF-8 (else -EINVAL); NULL: the configuration's, if any */
};
int taut_connect(struct taut *t, const char *host, uint16_t port, const struct taut_connect_options *options,
                 char ret_id[TAUT_ID_MAX]); /* the descriptor, or -errno; options and ret_id may be NULL */

/* A listener: a descriptor that is readable when a connection waits. addr NULL: all addresses, both families. */
int taut_listen(struct taut *t, const char *addr, uint16_t port, unsigned backlog);
/*
 * md5: "PREFIX KEY" each, as "192.0.2.0/24 secret", ended by NULL: these peers must sign.
 * UTF-8, and one at least, or -EINVAL: what asks for signatures never goes without.
 */
struct taut_listen_options {
    unsigned backlog; /* 0: the daemon's default */
    const char *const *md5; /* NULL: none but the configuration's */
};
int taut_listen_with(struct taut *t, const char *addr, uint16_t port, const struct taut_listen_options *options);
struct taut_accepted {
    char id[TAUT_ID_MAX];
    char peer[TAUT_ADDR_MAX];
    char local[TAUT_ADDR_MAX];
};
/* The next connection of a listener's descriptor; -EAGAIN if it is non-blocking and none waits. info may be NULL. */
int taut_accept(int listener, struct taut_accepted *info);

/* The JSON object that conn.get answers with, to be freed; -ENOENT: gone. */
int taut_info(struct taut *t, const char *id, char **ret_json);

/* Subscribes (events.subscribe); kinds: "conn,listener,addr,neigh,link,log" or NULL for all. */
int taut_subscribe(struct taut *t, const char *kinds);
/* The next event as JSON text, to be freed; waits up to timeout_ms (-1: for ever). -EAGAIN: none came. */
int taut_next_event(struct taut *t, int timeout_ms, char **ret_json);

#ifdef __cplusplus
}
#endif

#endif
