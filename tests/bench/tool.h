/*
 * tests/bench/tool.h: what the programs of scripts/bench share: the clock, the machine's busy time, namespaces.
 */
#ifndef TAUT_TESTS_BENCH_TOOL_H
#define TAUT_TESTS_BENCH_TOOL_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ECHO_PORT     7
#define DISCARD_PORT  9
#define CLOSING_PORT  13 /* the server closes first */
#define CHARGEN_PORT  19
#define TAUT_PORT_ADD 7000 /* a program on taut listens beside the built-in services */

static inline uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

/* Into the network namespace that this file names. */
static inline void enter_net(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        fail(path);
    close(fd);
}

static inline void many_files(void)
{
    struct rlimit r = {1048576, 1048576};

    if (setrlimit(RLIMIT_NOFILE, &r) != 0) {
        getrlimit(RLIMIT_NOFILE, &r);
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

#endif
