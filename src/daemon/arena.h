/*
 * daemon/arena.h: the memory that outlives the worker: a sealed memfd.
 *
 * Header (versioned, summed), then regions that begin at pages: records, half-open and TIME-WAIT entries, keys of TCP-MD5
 * (secret, as is the configuration), the journal of payload, links, the configuration, caches and counters
 * (base/keep.h, stack_keep_specs()), and last the payload, so that what a restart reads lies together and payload pages
 * stay untouched. No pointer in it means anything to the next worker.
 *
 * A link is what the arena knows of a descriptor that outlives the worker: a program's connection or listener, a
 * forward's backend. It holds the witnesses (witness.h) of the bytes moved through it. Without an arena (survive = no)
 * links are plain memory: the code that uses them is the same.
 */
#ifndef TAUT_DAEMON_ARENA_H
#define TAUT_DAEMON_ARENA_H

#include "daemon/config.h"
#include "daemon/config_text.h"
#include "daemon/daemon.h"
#include "daemon/witness.h"

#ifdef TAUT_ARENA_NEXT /* a build of tests */
#define ARENA_VERSION 3u
#else
#define ARENA_VERSION 2u
#endif
#define ARENA_SCHEMA_BYTES 16384u
#define LINK_PREFACE_MAX 52
#define LINK_TEXT_MAX 256

enum link_kind { LINK_FREE, LINK_PROGRAM, LINK_LISTENER, LINK_CONNECTING, LINK_FORWARD, LINK_KEY, LINK_KINDS };
enum link_ending { LINK_LIVES, LINK_ENDS_CLEAN, LINK_ENDS_RESET };

struct link_slot {
    uint8_t kind;   /* enum link_kind; stored last, cleared last */
    uint8_t ending; /* enum link_ending: the descriptor is to be closed so, when its connection's end is committed */
    bool watched;   /* it is in the fdset under this slot and generation */
    bool handed;    /* a listener's program has it, or it came by tcp.connect */
    int fd, program_fd; /* program_fd: waits to be sent to a listener, -1 */
    uint32_t watch_slot, watch_generation;
    uint64_t conn;      /* tcp_id */
    uint32_t number;    /* of the listener */
    int32_t pid;
    int so_error;       /* what SO_ERROR said, which says it once */
    uint32_t preface_bytes;
    uint8_t preface[LINK_PREFACE_MAX];
    char text[LINK_TEXT_MAX]; /* the forward's name; the message to a listener; LINK_KEY: a key of its listener (md5.h) */
    /* LINK_LISTENER: how it was bound */
    struct ip_addr addr;
    uint16_t port;
    uint8_t family;
    bool reuse, v6only;
    uint32_t backlog;
    struct witness in, out, sent; /* to the descriptor; from it; the preface, or the message to a listener */
};

struct arena_region {
    uint64_t offset, bytes;
};
enum arena_region_name {
    ARENA_RECORDS, ARENA_REQUESTS, ARENA_TIME_WAIT, ARENA_KEYS, ARENA_JOURNAL, ARENA_LINKS, ARENA_CONFIG, ARENA_SCHEMA, ARENA_CACHES, ARENA_PAYLOAD,
    ARENA_REGIONS
};

enum arena_upgrade { ARENA_UPGRADE_NONE, ARENA_UPGRADE_ASKED, ARENA_UPGRADE_REFUSED };

struct arena_head {
    /* Summed. */
    char magic[8];
    uint32_t version, head_bytes;
    uint32_t record_layout, record_bytes, link_bytes, config_bytes;
    uint64_t bytes;
    uint32_t max_conns, max_half_open, max_time_wait, notes, n_links;
    uint32_t request_bytes, time_wait_bytes, note_bytes, key_bytes, n_keys;
    uint64_t schema_sum; /* of ARENA_SCHEMA: what the records look like */
    struct arena_region region[ARENA_REGIONS];
    struct tcp_secrets secrets;
    uint64_t sum;
    /* Not summed: changes. */
    struct tcp_kept kept;
    uint32_t generation;        /* of the worker that runs, or ran last */
    uint32_t links_touched;
    uint32_t config_selector;   /* 0: none; else copy config_selector & 1 */
    uint32_t ready;             /* generation that has begun to serve */
    uint64_t turn;              /* counts turns of the loop */
    uint64_t asleep_until;      /* 0: a turn runs; TIME_NEVER: until something comes */
    uint32_t watched;           /* the supervisor looks; 0: it sleeps too, and wants SIGUSR1 when the worker wakes */
    uint64_t restored_ns;       /* how long the last restore took */
    uint64_t orderly;           /* 1: the worker ended because it was asked to */
    int64_t told;               /* pid of the supervisor in whose time the service manager was told READY=1 */
    uint64_t began_at;          /* CLOCK_MONOTONIC: counters count from then on */
    uint64_t supervisor_at;     /* when the present supervisor began */
    uint32_t attempts;          /* supervisors that took it over from the manager's store and served nothing */
    uint32_t upgrade_state;     /* enum arena_upgrade */
    char upgrade_text[252];     /* why it was refused */
};

struct arena {
    int fd;
    uint8_t *base;
    struct arena_head *head;
    /* Of this process: */
    char forgotten[256]; /* names of caches that arena_convert() could not take over, "": none */
    uint32_t *free_links;
    uint32_t n_free_links;
};

/* A new one for this configuration; ret->fd is sealed. 0, or -1 with a sentence. */
int arena_create(const struct daemon_config *config, struct arena *ret, char *ret_error, size_t error_bytes);
/* One that another process left. 0, or -1 with the reason why it can't be used. */
int arena_attach(int fd, struct arena *ret, char *ret_error, size_t error_bytes);
/*
 * One that another process left, perhaps of another build. *config is what the file says; on success the configuration
 * that was in effect lies over it (config_text.h), and is in the arena as this build reads it.
 */
struct arena_source {
    int fd;
    const struct log_sink *log; /* keys that this build does not know; NULL: not told */
};
enum arena_taken { ARENA_REFUSED = -1, ARENA_ATTACHED, ARENA_CONVERTED };
/* CONVERTED: *ret is a new one with what the old one held; the old one stays open. REFUSED: with a sentence. */
enum arena_taken arena_take(const struct arena_source *from, struct daemon_config *config, struct arena *ret,
                            char *ret_error, size_t error_bytes);
/* Could it be taken? 0, or -1 with a sentence. Nothing is changed, and somebody may be using it. */
int arena_could_take(int fd, const struct daemon_config *config, char *ret_error, size_t error_bytes);
/* The sum of what stays the same in a header, after it was changed. */
void arena_sign(struct arena_head *h);
/* NULL, or why `bytes` of memory are no arena of this program. */
const char *arena_check(const void *base, size_t bytes);
void arena_close(struct arena *a);

void *arena_at(const struct arena *a, enum arena_region_name which);
struct link_slot *arena_link(const struct arena *a, uint32_t i);

/* The tables of ARENA_CACHES; each of them by that description. */
#define ARENA_CACHE_TABLES (STACK_KEEP_TABLES + 1)
unsigned arena_cache_specs(const struct stack_config *config, struct keep_spec *ret);
/* What the stack is to be given: its caches. Where their directory is damaged they are emptied before: why, else NULL. */
void *arena_caches(struct arena *a, const struct daemon_config *config, const char **ret_why);

/* The configuration as the worker last had it: reloads must outlive it. Read by the same build only: arena_take(). */
void arena_put_config(struct arena *a, const struct daemon_config *config);
bool arena_get_config(const struct arena *a, struct daemon_config *ret);

/* A link with its fields as given but for kind, which is published last. NULL: none is free. */
struct link_slot *link_new(struct daemon *d, enum link_kind kind, const struct link_slot *fields);
/* Its descriptors are closed or somebody else's. */
void link_free(struct daemon *d, struct link_slot *l);
/* After the links of a dead worker were looked at: which are free. */
int arena_links_restored(struct arena *a);

#endif
