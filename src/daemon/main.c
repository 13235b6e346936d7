/*
 * daemon/main.c: tautd (theory of operation).
 *
 * An ordered start and its reverse: options, configuration, log, TAP, the kernel's end, memory, stack, addresses and
 * routes, control socket, forwards, services, loop. What fails says so in one sentence, and what was begun is undone.
 *
 * With survive = yes this process is the supervisor: it opens TAP, arena, control sockets and an epoll set, and all the
 * rest is done by a worker (supervisor.h), again after each crash, with what the arena holds (revive.h).
 * Exit status: 0 after an orderly end, 1 if something failed at run time, 2 for usage and configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "daemon/capture.h"
#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/crypto.h"
#include "daemon/daemon.h"
#include "daemon/fdset.h"
#include "daemon/forward.h"
#include "daemon/logger.h"
#include "daemon/loop.h"
#include "daemon/netlink.h"
#include "daemon/notify.h"
#include "daemon/revive.h"
#include "daemon/sandbox.h"
#include "daemon/service.h"
#include "daemon/supervisor.h"
#include "daemon/tap.h"

#define DEFAULT_CONFIG "/etc/taut/taut.conf"

enum { EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

struct options {
    const char *config_path;
    bool config_given, check_config, dump_api, dump_config;
    int check_arena; /* -1: no; upgrade.h */
};

static const char usage[] =
    "Usage: tautd [-c FILE] [--check-config]\n"
    "\n"
    "Runs a TCP/IP host on a TAP interface and hands its connections to programs.\n"
    "\n"
    "  -c, --config FILE   configuration (default " DEFAULT_CONFIG " if it exists, else built-in defaults)\n"
    "      --check-config  read and check the configuration, start nothing; exit status 0 or 2\n"
    "      --dump-api      print the control API's description (rpc.discover) and end\n"
    "      --dump-config   print a configuration file with every key, its default and what it means, and end\n"
    "  -V, --version       print the version and end\n"
    "  -h, --help          this text\n"
    "\n"
    "SIGTERM and SIGINT drain connections and end; SIGHUP reads forwards, services and log level again.\n"
    "See tautd(8), taut.conf(5), taut(1).\n";

static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},    {"check-config", no_argument, NULL, 'k'},
        {"dump-api", no_argument, NULL, 'a'},        {"dump-config", no_argument, NULL, 'd'},
        {"check-arena", required_argument, NULL, 'A'}, {"version", no_argument, NULL, 'V'},         {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "c:Vh", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->config_path = optarg;
            o->config_given = true;
            break;
        case 'k':
            o->check_config = true;
            break;
        case 'a':
            o->dump_api = true;
            break;
        case 'd':
            o->dump_config = true;
            break;
        case 'A':
            o->check_arena = atoi(optarg);
            break;
        case 'V':
            puts("tautd " TAUT_VERSION);
            exit(0);
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fputs("Try 'tautd --help'.\n", stderr);
            return -1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "tautd: unexpected argument '%s'\nTry 'tautd --help'.\n", argv[optind]);
        return -1;
    }
    return 0;
}

/* The daemon's own memory of what it has begun, so that end() undoes exactly that. */
struct process {
    struct daemon d;
    struct daemon_config config;
    struct tap tap;
    void *buffers;
    bool tap_open;
    /* With survive = yes: */
    struct supervisor supervisor;
    struct arena arena;
    int epoll_fd;
    bool restart; /* a worker died before this one */
    bool config_bad; /* the file; only what is in an arena can be gone on with */
    bool activated; /* the control sockets are the service manager's */
    bool served;
};

static int load_config(const struct options *o, struct daemon_config *ret)
{
    char error[CONFIG_ERROR_MAX];

    config_defaults(ret);
    if (!o->config_given && access(o->config_path, R_OK) != 0 && errno == ENOENT)
        return 0;
    if (config_load(o->config_path, ret, error, sizeof error) < 0) {
        fprintf(stderr, "%s\n", error);
        return -1;
    }
    return 0;
}

static int fill_secrets(struct tcp_secrets *ret)
{
    return getrandom(ret, sizeof *ret, 0) == (ssize_t)sizeof *ret ? 0 : -1;
}

/* Ours differs from the kernel's end in the last bit, so that it is stable as long as that is. */
static void choose_mac(const struct process *p, uint8_t ret[STACK_MAC_BYTES])
{
    if (p->config.has_mac) {
        memcpy(ret, p->config.mac, STACK_MAC_BYTES);
        return;
    }
    memcpy(ret, p->tap.host_mac, STACK_MAC_BYTES);
    ret[0] = (uint8_t)((ret[0] | 0x02) & 0xfe);
    ret[5] ^= 1;
}

static int open_device(struct process *p, char *error, size_t bytes)
{
    struct daemon *d = &p->d;

    if (tap_open(&p->tap, &p->config, error, bytes) < 0)
        return -1;
    p->tap_open = true;
    d->tap = &p->tap;
    memcpy(d->ifname, p->tap.name, sizeof d->ifname);
    if (p->config.host_setup && netlink_setup_host(p->tap.ifindex, &p->config, error, bytes) < 0)
        return -1;
    if (p->config.mtu)
        p->tap.mtu = p->config.mtu;
    return 0;
}

static int follow_link(struct process *p, char *error, size_t bytes)
{
    struct daemon *d = &p->d;

    d->netlink = netlink_open();
    if (!d->netlink) {
        snprintf(error, bytes, "cannot open rtnetlink: %s", strerror(errno));
        return -1;
    }
    return netlink_ask_link(d->netlink, p->tap.ifindex);
}

static int map_buffers(struct process *p, char *error, size_t bytes)
{
    size_t n = p->config.buffer_bytes;

    if (p->d.arena) {
        p->buffers = arena_at(p->d.arena, ARENA_PAYLOAD);
        return 0;
    }
    p->buffers = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->buffers != MAP_FAILED)
        return 0;
    p->buffers = NULL;
    snprintf(error, bytes, "cannot map %zu bytes of buffers: %s", n, strerror(errno));
    return -1;
}

static int open_memory(struct process *p, char *error, size_t bytes)
{
    struct arena *a = p->d.arena;

    if (map_buffers(p, error, bytes) < 0)
        return -1;
    p->d.pool = chunk_pool_create(p->buffers, p->config.buffer_bytes);
    if (!p->d.pool || (a && (arena_links_restored(a) < 0 || chunk_pool_journal(p->d.pool, arena_at(a, ARENA_JOURNAL),
                                                                               a->head->notes) < 0))) {
        snprintf(error, bytes, "no memory for the buffer pool");
        return -1;
    }
    if (tap_attach_pool(&p->tap, p->d.pool) == 0)
        return 0;
    snprintf(error, bytes, "no memory to read the TAP");
    return -1;
}

static void *use_caches(struct process *p)
{
    const char *why;
    void *caches = arena_caches(p->d.arena, &p->config, &why);

    if (why)
        log_msg(&p->d.log, LOG_LVL_ERR, "caches and counters of the arena are forgotten: %s", why);
    return caches;
}

/* Sizes are the arena's: what the configuration says of them may have been changed while it ran. */
static void use_arena(struct process *p, struct stack_params *params)
{
    const struct arena *a = p->d.arena;

    params->keep = use_caches(p);
    params->resumed = p->restart;
    params->max_conns = a->head->max_conns;
    params->max_half_open = a->head->max_half_open;
    params->max_time_wait = a->head->max_time_wait;
    params->secrets = a->head->secrets;
    params->secrets.rng_seed += a->head->generation; /* what is drawn from it (IP ids) is not drawn again */
    params->generation = a->head->generation;
    params->record_arena = arena_at(a, ARENA_RECORDS);
    params->request_arena = arena_at(a, ARENA_REQUESTS);
    params->time_wait_arena = arena_at(a, ARENA_TIME_WAIT);
    params->md5_arena = arena_at(a, ARENA_KEYS);
    params->max_time_wait = a->head->max_time_wait; /* the limit in effect may have been raised since */
    params->max_md5_keys = a->head->n_keys;
    params->kept = &a->head->kept;
}

static const char *counter_name(unsigned i)
{
    static const char *const names[] = {
#define X(name, metric, help) metric,
        DAEMON_COUNTERS(X)
#undef X
    };

    return names[i];
}

static int open_counters(struct daemon *d, void *memory, char *error, size_t bytes)
{
    d->kept.n_groups = 1;
    d->kept.group[0] =
        (struct keep_group){"daemon", counter_name, &d->counters, sizeof d->counters / sizeof(uint64_t)};
    if (keep_counters_open(&d->kept, memory, "daemon counters"))
        return 0;
    snprintf(error, bytes, "no memory for the counters");
    return -1;
}

static int open_stack(struct process *p, char *error, size_t bytes)
{
    struct daemon *d = &p->d;
    struct stack_params params = {
        .config = &p->config.stack,
        .tcp_config = &p->config.tcp,
        .pool = d->pool,
        .log = &d->log,
        .now = daemon_now(),
        .mtu = p->tap.mtu,
        .ifindex = (uint16_t)p->tap.ifindex,
        .max_conns = p->config.max_conns,
        .max_half_open = p->config.max_half_open,
        .trace_bytes = (size_t)p->config.trace_bytes,
        .max_time_wait = (uint32_t)p->config.tcp.tcp_max_tw_buckets,
        .generation = 1,
        .crypto = daemon_crypto(),
        .check = getenv("TAUT_CHECK") != NULL,
        .crash_port = (uint16_t)(getenv("TAUT_CRASH_PORT") ? atoi(getenv("TAUT_CRASH_PORT")) : 0),
    };

    choose_mac(p, params.mac);
    if (d->arena)
        use_arena(p, &params);
    if ((!d->arena && fill_secrets(&params.secrets) < 0) || !(d->stack = stack_create(&params))) {
        snprintf(error, bytes, "no memory or no randomness for the stack");
        return -1;
    }
    d->tcp = stack_tcp(d->stack);
    d->socks = stack_socks(d->stack);
    stack_set_offload(d->stack, &p->tap.offload);
    memcpy(d->mac, params.mac, sizeof d->mac);
    stack_get_link(d->stack, &d->link_up, &d->mtu); /* until netlink says otherwise */
    return open_counters(d, params.keep, error, bytes);
}

static int add_addresses(struct process *p, char *error, size_t bytes)
{
    char text[IP_ADDR_TEXT_MAX];

    for (unsigned i = 0; i < p->config.n_addr; i++) {
        const struct config_prefix *a = &p->config.addr[i];
        int r = stack_addr_add(p->d.stack, &a->addr, a->bits, daemon_now());

        if (r < 0) {
            snprintf(error, bytes, "network.address %s/%u: %s", ip_addr_format(&a->addr, text), a->bits,
                     strerror(-r));
            return -1;
        }
    }
    for (unsigned i = 0; i < p->config.n_routes; i++) {
        const struct stack_route *rt = &p->config.route[i];
        int r = stack_route_add(p->d.stack, rt, daemon_now());

        if (r < 0) {
            snprintf(error, bytes, "network.route %s/%u: %s", ip_addr_format(&rt->prefix, text), rt->prefix_bits,
                     strerror(-r));
            return -1;
        }
    }
    return 0;
}

static void raise_descriptor_limit(const struct log_sink *log)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == r.rlim_max)
        return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) == 0)
        log_msg(log, LOG_LVL_DEBUG, "descriptors: %llu", (unsigned long long)r.rlim_cur);
}

/* What a worker does again, too. */
static int begin_stack(struct process *p, char *error, size_t bytes)
{
    return follow_link(p, error, bytes) < 0 || open_memory(p, error, bytes) < 0 || open_stack(p, error, bytes) < 0 ||
                   add_addresses(p, error, bytes) < 0
               ? -1
               : 0;
}

static int begin_services(struct process *p, char *error, size_t bytes)
{
    struct daemon *d = &p->d;

    d->control = control_open(d, error, bytes);
    if (!d->control)
        return -1;
    if (p->restart)
        revive_listeners(d);
    if (forwards_open(d, error, bytes) < 0 || services_open(d, error, bytes) < 0)
        return -1;
    if (!loop_new(d)) {
        snprintf(error, bytes, "cannot make the timer: %s", strerror(errno));
        return -1;
    }
    return 0;
}

static int begin_loop(struct process *p, char *error, size_t bytes)
{
    struct daemon *d = &p->d;

    list_init(&d->deferred);
    list_init(&d->starved);
    d->config = &p->config;
    d->started_at = daemon_now();
    d->loop = ev_default_loop(EVFLAG_AUTO);
    if (!d->loop) {
        snprintf(error, bytes, "libev finds no usable backend");
        return -1;
    }
    d->fds = fdset_new(d->loop, d->arena ? p->epoll_fd : -1);
    if (!d->fds) {
        snprintf(error, bytes, "cannot make an epoll set: %s", strerror(errno));
        return -1;
    }
    return 0;
}

static int begin(struct process *p, char *error, size_t bytes)
{
    if (begin_loop(p, error, bytes) < 0)
        return -1;
    if (!p->d.arena) {
        raise_descriptor_limit(&p->d.log);
        if (open_device(p, error, bytes) < 0)
            return -1;
    }
    return begin_stack(p, error, bytes) < 0 ? -1 : begin_services(p, error, bytes);
}

static void end(struct process *p)
{
    struct daemon *d = &p->d;

    services_close(d);
    forwards_close(d);
    if (d->control)
        control_close(d->control);
    if (d->runner) {
        loop_reset_all(d->runner); /* orphans; and what was aborted just now leaves */
        loop_free(d->runner);
    }
    while (daemon_run_deferred(d))
        ;
    capture_close(d);
    fdset_free(d->fds);
    if (d->stack)
        stack_destroy(d->stack);
    keep_counters_close(&d->kept);
    netlink_close(d->netlink);
    if (p->tap_open)
        tap_close(&p->tap);
    if (d->pool)
        chunk_pool_destroy(d->pool);
    if (p->buffers && !d->arena)
        munmap(p->buffers, p->config.buffer_bytes);
}

static void say_serving(struct process *p)
{
    log_msg(&p->d.log, LOG_LVL_NOTICE, "tautd " TAUT_VERSION " on %s, MTU %u, %s", p->d.ifname, p->tap.mtu,
            p->tap.offload.tso4 ? "super-frames both ways" : "plain frames");
    notify_send("READY=1\nSTATUS=serving on %s\n", p->d.ifname);
}

static int run(struct process *p)
{
    char error[CONFIG_ERROR_MAX] = "";
    int status = EXIT_RUNTIME;

    if (begin(p, error, sizeof error) < 0) {
        log_msg(&p->d.log, LOG_LVL_ERR, "%s", error);
    } else {
        say_serving(p);
        p->served = true;
        status = loop_run(p->d.runner);
        log_msg(&p->d.log, LOG_LVL_NOTICE, "ended");
    }
    end(p);
    return status;
}

/* ---- survive = yes ------------------------------------------------------------------------------------------------ */

/* Takes over what the last worker left. */
static int take_over(struct process *p, tcp_id doomed, char *error, size_t bytes)
{
    struct daemon *d = &p->d;
    struct stack_keep_found c;
    struct revived r;
    uint64_t begun_at = d->started_at;

    if (revive_connections(d, doomed, &r, error, bytes) < 0)
        return -1;
    d->arena->head->restored_ns = daemon_now() - begun_at;
    log_msg(&d->log, LOG_LVL_NOTICE,
            "restored in %llu us: %u connections, %u half-open, %u in TIME-WAIT; lost %u, without owner %u",
            (unsigned long long)(d->arena->head->restored_ns / NSEC_PER_USEC), r.conns, r.requests, r.time_wait, r.lost,
            r.ownerless);
    stack_get_keep_found(d->stack, &c);
    log_msg(&d->log, c.damaged ? LOG_LVL_ERR : LOG_LVL_INFO,
            "caches: %u neighbours, %u addresses, %u routes, %u paths, %u destinations; damaged and forgotten %u",
            c.neighbours, c.addresses, c.routes, c.paths, c.metrics, c.damaged);
    return 0;
}

static void shut_in(const struct process *p)
{
    char text[64];

    if (!p->config.sandbox)
        return;
    sandbox_enter(&p->config, text, sizeof text);
    log_msg(&p->d.log, p->restart ? LOG_LVL_DEBUG : LOG_LVL_INFO, "sandbox of the worker: %s", text);
}

/* In the child; what the supervisor holds (TAP, arena, sockets, epoll set) is its memory, too. */
static int work(void *ctx, tcp_id doomed)
{
    struct process *p = ctx;
    char error[CONFIG_ERROR_MAX] = "";
    int status = EXIT_RUNTIME;
    unsigned unswept;

    p->restart = p->arena.head->generation > 1;
    if (arena_get_config(&p->arena, &p->config))
        p->d.log.level = (enum log_level)p->config.log_level; /* as reloads left it */
    unswept = revive_sweep(&p->d, p->supervisor.known, p->supervisor.n_known);
    if (begin(p, error, sizeof error) < 0 || (p->restart && take_over(p, doomed, error, sizeof error) < 0)) {
        log_msg(&p->d.log, LOG_LVL_ERR, "%s", error);
        p->arena.head->orderly = !p->restart;
        return status;
    }
    if (p->restart)
        loop_first_batch(p->d.runner);
    shut_in(p);
    revive_sweep_rest(unswept);
    p->arena.head->ready = p->arena.head->generation;
    p->arena.head->attempts = 0;
    if (!p->restart || p->arena.head->told != getppid())
        say_serving(p);
    p->arena.head->told = getppid();
    if (p->restart)
        loop_first_frames(p->d.runner);
    status = loop_run(p->d.runner);
    p->arena.head->orderly = 1;
    log_msg(&p->d.log, LOG_LVL_NOTICE, "ended");
    end(p);
    return status;
}

static struct holdings holdings_of(const struct process *p)
{
    return (struct holdings){.arena = p->arena.fd,
                             .tap = p->tap.fd,
                             .epoll = p->epoll_fd,
                             .control = {p->d.listen_fd[0], p->d.listen_fd[1]},
                             .activated = p->activated};
}

/* An arena that somebody else filled; one of another build is converted, and its descriptor closed. 0 or -1. */
static int attach_arena(struct process *p, int fd, char *error, size_t bytes)
{
    struct arena_source from = {.fd = fd, .log = &p->d.log};
    uint64_t begun_at = daemon_now();
    enum arena_taken taken = arena_take(&from, &p->config, &p->arena, error, bytes);

    if (taken == ARENA_REFUSED)
        return -1;
    p->d.log.level = (enum log_level)p->config.log_level;
    if (taken == ARENA_ATTACHED)
        return 0;
    log_msg(&p->d.log, LOG_LVL_NOTICE, "records of another version were converted in %llu us",
            (unsigned long long)((daemon_now() - begun_at) / NSEC_PER_USEC));
    if (p->arena.forgotten[0])
        log_msg(&p->d.log, LOG_LVL_NOTICE, "caches of another layout are forgotten: %s", p->arena.forgotten);
    notify_remove("arena");
    close(fd);
    return 0;
}

/* By a descriptor that somebody else opened; the kernel's end is as it is to be. */
static int open_kept_device(struct process *p, int fd, bool host_setup, char *error, size_t bytes)
{
    int asked_fd = p->config.tap_fd, r;
    bool asked_setup = p->config.host_setup;

    p->config.tap_fd = fd;
    p->config.host_setup = asked_setup && host_setup;
    r = open_device(p, error, bytes);
    p->config.tap_fd = asked_fd;
    p->config.host_setup = asked_setup;
    return r;
}

/* What another binary held in this process. */
static int take_holdings(struct process *p, const struct holdings *h, char *error, size_t bytes)
{
    raise_descriptor_limit(&p->d.log);
    if (attach_arena(p, h->arena, error, bytes) < 0)
        return -1;
    p->d.arena = &p->arena;
    p->epoll_fd = h->epoll;
    p->activated = h->activated;
    p->d.listen_fd[0] = h->control[0];
    p->d.listen_fd[1] = h->control[1];
    for (int i = 0; i < 2; i++)
        fcntl(h->control[i], F_SETFD, FD_CLOEXEC);
    fcntl(p->arena.fd, F_SETFD, FD_CLOEXEC);
    fcntl(h->epoll, F_SETFD, FD_CLOEXEC);
    log_msg(&p->d.log, LOG_LVL_NOTICE, "tautd " TAUT_VERSION " takes over from generation %u",
            p->arena.head->generation);
    return open_kept_device(p, h->tap, false, error, bytes);
}

/* The descriptors of links died with the supervisor; what depends on them cannot go on. */
static void forget_descriptors(const struct log_sink *log, struct arena *a)
{
    unsigned programs = 0, forwards = 0, listeners = 0;

    for (uint32_t i = 0; i < a->head->links_touched; i++) {
        struct link_slot *l = arena_link(a, i);

        programs += l->kind == LINK_PROGRAM;
        forwards += l->kind == LINK_FORWARD || l->kind == LINK_CONNECTING;
        listeners += l->kind == LINK_LISTENER;
        l->fd = l->program_fd = -1;
        l->watched = false;
    }
    log_msg(log, LOG_LVL_NOTICE, "going on with the arena and the TAP that the service manager kept");
    if (programs + forwards + listeners)
        log_msg(log, LOG_LVL_WARNING,
                "the supervisor died, and with it the descriptors of %u connections of programs, %u of forwards and %u "
                "listeners of programs: they are reset",
                programs, forwards, listeners);
}

#define ATTEMPTS_MAX 3u
#define YOUNG (1 * NSEC_PER_SEC)
#define PAUSE_US 100000

/* NULL, or why the arena that the manager kept is not to be used although it could be. */
static const char *not_worth(struct arena_head *h)
{
    uint64_t now = daemon_now();

    if (h->attempts >= ATTEMPTS_MAX)
        return "three supervisors died on it";
    h->attempts++;
    if (now - h->supervisor_at < YOUNG) /* the manager does not wait; dying again and again would take all its time */
        usleep(PAUSE_US);
    return NULL;
}

static bool use_kept_arena(struct process *p, int fd, char *error, size_t bytes)
{
    const char *why;

    if (attach_arena(p, fd, error, bytes) < 0) {
        close(fd);
        return false;
    }
    why = not_worth(p->arena.head);
    if (!why)
        return true;
    snprintf(error, bytes, "the arena is not used: %s", why);
    arena_close(&p->arena);
    return false;
}

/* The arena that the service manager kept, if it can be used; else all is to be as the file says. */
static bool take_kept_arena(struct process *p, int fd, char *error, size_t bytes)
{
    struct daemon_config *file = malloc(sizeof *file);
    bool used = false;

    if (file) {
        *file = p->config;
        used = use_kept_arena(p, fd, error, bytes);
        if (!used)
            p->config = *file;
        explicit_bzero(file->md5, sizeof file->md5);
    }
    free(file);
    if (used)
        return true;
    log_msg(&p->d.log, LOG_LVL_ERR, "%s: all connections are reset", error);
    notify_remove("arena");
    return false;
}

static int open_control(struct process *p, const struct holdings *passed, char *error, size_t bytes)
{
    static const char *const unit_line[] = {"ListenStream", "ListenSequentialPacket"};

    if (passed->control[0] < 0 && passed->control[1] < 0)
        return p->config.survive ? control_listen(&p->config, p->d.listen_fd, error, bytes) : 0;
    for (int i = 0; i < 2; i++) {
        if (passed->control[i] < 0) {
            snprintf(error, bytes, "the service manager passed one control socket only; %s= is missing", unit_line[i]);
            return -1;
        }
        p->d.listen_fd[i] = passed->control[i];
        fcntl(passed->control[i], F_SETFL, O_NONBLOCK);
    }
    p->activated = true;
    return 0;
}

/* Arena first: the configuration in it is the one in effect. */
static int open_holdings(struct process *p, char *error, size_t bytes)
{
    struct holdings passed;
    bool kept;

    upgrade_passed(&passed);
    raise_descriptor_limit(&p->d.log);
    kept = passed.arena >= 0 && passed.tap >= 0 && take_kept_arena(p, passed.arena, error, bytes);
    if (!kept && p->config_bad)
        return -1;
    if ((passed.tap >= 0 ? open_kept_device(p, passed.tap, true, error, bytes) : open_device(p, error, bytes)) < 0)
        return -1;
    if (kept)
        forget_descriptors(&p->d.log, &p->arena);
    else if (arena_create(&p->config, &p->arena, error, bytes) < 0)
        return -1;
    p->arena.head->supervisor_at = daemon_now();
    p->d.arena = &p->arena;
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0) {
        snprintf(error, bytes, "cannot make an epoll set: %s", strerror(errno));
        return -1;
    }
    return open_control(p, &passed, error, bytes);
}

/* After an end that was not a crash nobody is to go on with what it left. */
static void give_up_store(void)
{
    notify_remove("arena");
    notify_remove("tap");
    notify_barrier();
}

static int run_supervisor(struct process *p, char **argv)
{
    char error[CONFIG_ERROR_MAX] = "";
    int status = EXIT_RUNTIME, r;
    struct holdings held;

    p->arena.fd = p->epoll_fd = -1;
    p->supervisor = (struct supervisor){
        .config = &p->config, .log = &p->d.log, .arena = &p->arena, .worker = work, .ctx = p};
    r = upgrade_holdings(&held) ? take_holdings(p, &held, error, sizeof error) : open_holdings(p, error, sizeof error);
    p->supervisor.d = &p->d;
    p->supervisor.argv = argv;
    p->supervisor.holdings = holdings_of(p);
    if (r == 0 && p->config.sandbox && sandbox_drop_capabilities() < 0)
        log_msg(&p->d.log, LOG_LVL_WARNING, "capabilities are kept: %s", strerror(errno));
    if (r < 0)
        log_msg(&p->d.log, LOG_LVL_ERR, "%s", error);
    else {
        /* Once, for all workers: it takes longer than a restore. */
        daemon_crypto();
        if (p->config.sandbox)
            sandbox_prepare();
        status = supervise(&p->supervisor);
    }
    p->served = p->arena.head && p->arena.head->ready;
    give_up_store();
    if (p->d.listen_fd[0] > 0 && !p->activated)
        control_unlisten(&p->config, p->d.listen_fd);
    if (p->tap_open)
        tap_close(&p->tap);
    if (p->epoll_fd >= 0)
        close(p->epoll_fd);
    arena_close(&p->arena);
    return status;
}

/* survive = no: of what the manager passes only the control sockets are of use. */
static int run_alone(struct process *p)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct holdings passed;

    upgrade_passed(&passed);
    if (passed.tap >= 0)
        close(passed.tap);
    if (passed.arena >= 0)
        close(passed.arena);
    if (passed.tap >= 0 || passed.arena >= 0)
        give_up_store();
    if (open_control(p, &passed, error, sizeof error) < 0) {
        log_msg(&p->d.log, LOG_LVL_ERR, "%s", error);
        return EXIT_RUNTIME;
    }
    return run(p);
}

/* A manager that starts us again at once gains nothing when the start has just failed. */
static void pause_before_restart(const struct process *p, int status)
{
    if (status != 0 && !p->served && !p->config_bad && notify_managed())
        sleep(1);
}

int main(int argc, char **argv)
{
    static struct process p;
    struct options o = {.config_path = DEFAULT_CONFIG, .check_arena = -1};
    const char *upgraded;
    int status;

    if (parse_options(argc, argv, &o) < 0)
        return EXIT_USAGE;
    if (o.dump_api)
        return control_dump_api(stdout) == 0 ? 0 : EXIT_RUNTIME;
    if (o.dump_config)
        return config_dump(stdout) == 0 ? 0 : EXIT_RUNTIME;
    /* With connections to go on with, a mistake in the file is no reason to end them. */
    p.config_bad = load_config(&o, &p.config) < 0;
    if (p.config_bad && (o.check_arena >= 0 || o.check_config || !upgrade_pending()))
        return EXIT_USAGE;
    if (o.check_arena >= 0)
        return upgrade_check_arena(o.check_arena, &p.config);
    if (o.check_config) {
        printf("%s: ok\n", p.config.path[0] ? p.config.path : "built-in defaults");
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    upgrade_remember_binary();
    logger_init(&p.d.log, p.config.log_level);
    upgraded = getenv("TAUT_HOLDINGS");
    status = p.config.survive || upgraded ? run_supervisor(&p, argv) : run_alone(&p);
    pause_before_restart(&p, status);
    return p.config_bad && status && !p.served ? EXIT_USAGE : status;
}
