/*
 * daemon/config.h: the configuration file (INI, inih) as a struct.
 *
 * Every key is a row of a table in config.c (section, key, default, unit, when it takes effect, help); the rows of
 * [tcp] and [stack] come from TCP_CONFIG and STACK_CONFIG. A mistake is one line,
 * "FILE:LINE: section.key: what is wrong, what would be right"; all of a file are told, and nothing is started.
 */
#ifndef TAUT_DAEMON_CONFIG_H
#define TAUT_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/ipaddr.h"
#include "stack/stack.h"
#include "tcp/tcp_config.h"

#define CONFIG_ADDRS_MAX 16
#define CONFIG_ROUTES_MAX 32
#define CONFIG_FORWARDS_MAX 64
#define CONFIG_MD5_MAX 64
#define CONFIG_PATH_MAX 108 /* sun_path */
#define CONFIG_ERRORS_MAX 20 /* mistakes of a file that are told */
#define CONFIG_ERROR_MAX 8192 /* all of them as text */

struct config_prefix {
    struct ip_addr addr;
    unsigned bits;
};

enum forward_target { FORWARD_TCP, FORWARD_UNIX };
enum forward_proxy { FORWARD_PROXY_NONE, FORWARD_PROXY_V2 };

struct config_forward {
    char name[32];
    struct ip_addr listen_addr; /* IP_NONE: all addresses of both families */
    uint16_t listen_port;
    enum forward_target target;
    struct ip_addr to_addr;
    uint16_t to_port;
    char to_path[CONFIG_PATH_MAX];
    enum forward_proxy proxy;
    uint32_t connect_timeout_ms;
    uint32_t backlog;
    uint32_t max_connections;
};

/* Peers whose segments are signed (RFC 2385), by listeners on this port and connections to it. */
struct config_md5 {
    char name[32];
    struct ip_addr peer;
    uint8_t bits;
    uint16_t port; /* 0: any */
    uint8_t bytes; /* of the key */
    uint8_t key[TCP_MD5_KEY_MAX];
    char file[CONFIG_PATH_MAX]; /* it came from, "": the configuration, or a longer path */
};

struct config_service {
    bool enabled;
    uint16_t port;
};

struct daemon_config {
#ifdef TAUT_RECORD_NEXT /* a build of tests, as a successor's with a key more, in front */
    uint32_t next_key;
#endif
    /* [interface] */
    char ifname[16];       /* name = taut0; "%d" may be in it */
    int tap_fd;            /* fd = N: inherited descriptor, -1: open by name */
    bool has_mac;
    uint8_t mac[STACK_MAC_BYTES]; /* mac = of taut's end; derived from the kernel's end when absent */
    uint16_t mtu;          /* mtu = of the kernel's end; 0: leave */
    bool offload;          /* offload = yes: virtio-net header, checksum and TSO; no: plain frames */
    bool host_setup;       /* host_setup = yes: bring the kernel's end up, give it host_address and routes */
    uint32_t txqueuelen;   /* 0: leave */
    struct config_prefix host_addr[CONFIG_ADDRS_MAX]; /* host_address = (list) */
    unsigned n_host_addr;
    /* [network] */
    struct config_prefix addr[CONFIG_ADDRS_MAX]; /* address = (list): of the stack */
    unsigned n_addr;
    struct stack_route route[CONFIG_ROUTES_MAX]; /* route = PREFIX via GATEWAY [mtu N] [advmss N] [initcwnd N] */
    unsigned n_routes;
    /* [limits] */
    uint64_t buffer_bytes; /* buffers = 256M: all payload together */
    uint32_t max_conns, max_half_open;
    uint32_t drain_ms;     /* drain = 5 s: wait for FINs at the end */
    /* [daemon] */
    bool survive;          /* a worker that dies is replaced, and connections go on */
    bool sandbox;          /* Landlock and seccomp for the worker */
    uint32_t hang_ms;      /* a worker that makes no progress for so long is killed; 0: never */
    uint32_t crash_limit;  /* more crashes a minute reset all connections; 0: no limit */
    uint32_t busy_poll_us; /* look so long for input before blocking; 0: never */
    /* [control] */
    char control_dir[CONFIG_PATH_MAX - 16];
    char control_group[32]; /* "": root and the daemon's user only */
    /* [log] */
    int log_level;
    /* [trace] */
    uint64_t trace_bytes;  /* pool = 16M, 0: no flight recorder */
    char trace_dir[CONFIG_PATH_MAX];
    uint32_t trace_files;  /* black boxes in it at most */
    /* [services] echo, discard, chargen = port or off */
    struct config_service echo, discard, chargen;
    /* [forward NAME] */
    struct config_forward forward[CONFIG_FORWARDS_MAX];
    unsigned n_forwards;
    /* [md5 NAME]; secret: never printed */
    struct config_md5 md5[CONFIG_MD5_MAX];
    unsigned n_md5;
    /* [tcp], [stack] */
    struct tcp_config tcp;
    struct stack_config stack;
    char path[4096];       /* the file it came from; "": defaults */
};

void config_defaults(struct daemon_config *ret);
/* Prints conf/taut.conf: every key with its default, unit and help as comments. 0 or -1. */
int config_dump(FILE *out);
/* Reads and checks a file. 0, or -1 with a line for each mistake in ret_error and ret untouched. */
int config_load(const char *path, struct daemon_config *ret, char *ret_error, size_t error_bytes);

/* The table for config.get and the manual page: the i-th row, false behind the last. */
struct config_row_info {
    const char *section, *key, *type, *def, *unit, *scope, *help;
};
bool config_row(unsigned i, struct config_row_info *ret);
/* Present value of a row as text (for config.get); returns buf. */
const char *config_value(const struct daemon_config *c, unsigned i, char *buf, size_t bytes);
/* Changes one row that may change while running (scope "now" or "new"). 0, or -1 with a sentence. */
int config_set_value(struct daemon_config *c, const char *section, const char *key, const char *value,
                     char *ret_error, size_t error_bytes);
/*
 * One key as in a file, of any scope, into *c (lists grow); nothing is checked that only the whole can tell. For
 * CONFIG_WRONG with a sentence.
 */
enum config_taken { CONFIG_TAKEN, CONFIG_UNKNOWN, CONFIG_WRONG };
enum config_taken config_take(struct daemon_config *c, const char *section, const char *key, const char *value,
                              char *ret_error, size_t error_bytes);
/* A route as network.route has it; returns buf. */
char *config_route(const struct stack_route *r, char *buf, size_t bytes);

#endif
