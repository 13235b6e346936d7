/*
 * daemon/sandbox.c: see sandbox.h (theory of operation).
 *
 * The worker parses what strangers send; all that it needs is open when it begins to serve, but for backends' and netlink
 * sockets, the files that a reload opens again, and records of bad ends ([trace] directory). So the list of system calls
 * has no execve, no mount, no ptrace, no new processes, and Landlock leaves the folders of the configuration and of keys
 * to read, and that of the records to write. The supervisor is not restricted so: it executes the next binary and parses
 * nothing from the network. But neither has a capability once the TAP is up, and the next binary gets none, as the bounding
 * set is empty. Sanitizers need calls of their own and are left alone.
 */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- Landlock ----------------------------------------------------------------------------------------------------- */

#define READ_RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define KEEP_RIGHTS (READ_RIGHTS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define ALL_RIGHTS ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* of the first version */

static void allow(int rules, const char *path, uint64_t rights)
{
    struct landlock_path_beneath_attr beneath = {.allowed_access = rights};
    int fd = open(path, O_PATH | O_CLOEXEC | O_DIRECTORY);

    if (fd < 0)
        return;
    beneath.parent_fd = fd;
    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    close(fd);
}

/* The folder of a file. */
static void allow_reading(int rules, const char *file)
{
    char folder[sizeof((struct daemon_config *)0)->path];
    char *slash;

    snprintf(folder, sizeof folder, "%s", file);
    slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder ? 1 : 0] = '\0';
    if (folder[0])
        allow(rules, slash ? folder : ".", READ_RIGHTS);
}

static bool enter_landlock(const struct daemon_config *config)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs = ALL_RIGHTS};
    long rules = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    bool ok;

    if (rules < 0)
        return false;
    allow_reading((int)rules, config->path);
    for (unsigned i = 0; i < config->n_md5; i++)
        allow_reading((int)rules, config->md5[i].file);
    if (config->trace_dir[0])
        allow((int)rules, config->trace_dir, KEEP_RIGHTS);
    ok = syscall(SYS_landlock_restrict_self, (int)rules, 0) == 0;
    close((int)rules);
    return ok;
}

/* ---- seccomp ------------------------------------------------------------------------------------------------------- */

#ifdef HAVE_SECCOMP
static const int allowed[] = {
    /* the loop */
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1), SCMP_SYS(eventfd2), SCMP_SYS(pipe2), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
    SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    /* bytes */
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
    SCMP_SYS(recvmmsg), SCMP_SYS(sendmmsg), SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(lseek), SCMP_SYS(pread64),
    /* descriptors */
    SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(connect), SCMP_SYS(accept4), SCMP_SYS(shutdown), SCMP_SYS(bind),
    SCMP_SYS(setsockopt), SCMP_SYS(getsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(fcntl),
    SCMP_SYS(ioctl), SCMP_SYS(close), SCMP_SYS(close_range), SCMP_SYS(dup), SCMP_SYS(openat), SCMP_SYS(open),
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(stat), SCMP_SYS(access), SCMP_SYS(faccessat),
    SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
    /* memory and ourselves */
    SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise), SCMP_SYS(brk),
    SCMP_SYS(futex), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(gettid), SCMP_SYS(getuid),
    SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getrlimit), SCMP_SYS(prlimit64), SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(kill), SCMP_SYS(tgkill),
    SCMP_SYS(sched_yield), SCMP_SYS(getdents64), SCMP_SYS(readlink), SCMP_SYS(readlinkat)};

/* mmap and mprotect without PROT_EXEC only: memory that was written is never executed. */
#define NO_EXEC SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0)

static struct sock_fprog program; /* filter NULL: not prepared */

static bool add_rules(scmp_filter_ctx filter)
{
    bool ok = filter != NULL;

    for (size_t i = 0; ok && i < sizeof allowed / sizeof *allowed; i++) {
        if (allowed[i] == SCMP_SYS(mmap) || allowed[i] == SCMP_SYS(mprotect)) {
            ok = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 1, NO_EXEC) == 0;
            continue;
        }
        ok = allowed[i] < 0 || seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0) == 0;
    }
    return ok;
}

/* The filter's program, by way of a file: libseccomp 2.5 has no other. */
static void export_program(scmp_filter_ctx filter)
{
    int fd = memfd_create("taut-filter", MFD_CLOEXEC);
    struct stat st;
    void *text;

    if (fd < 0)
        return;
    if (seccomp_export_bpf(filter, fd) == 0 && fstat(fd, &st) == 0 && (text = malloc((size_t)st.st_size)) != NULL) {
        if (pread(fd, text, (size_t)st.st_size, 0) == (ssize_t)st.st_size)
            program = (struct sock_fprog){.len = (unsigned short)((size_t)st.st_size / sizeof *program.filter),
                                          .filter = text};
        else
            free(text);
    }
    close(fd);
}

void sandbox_prepare(void)
{
    scmp_filter_ctx filter;

    if (SANITIZED || program.filter)
        return;
    filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    /* A tree: the kernel tries every system call once when it takes the filter. */
    if (add_rules(filter) && (seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 || true))
        export_program(filter);
    if (filter)
        seccomp_release(filter);
}

static bool enter_seccomp(void)
{
    sandbox_prepare();
    return program.filter && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}
#else
void sandbox_prepare(void)
{
}

static bool enter_seccomp(void)
{
    return false;
}
#endif

void sandbox_enter(const struct daemon_config *config, char *text, size_t bytes)
{
    bool landlock, seccomp;

    if (SANITIZED || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        snprintf(text, bytes, "none");
        return;
    }
    landlock = enter_landlock(config);
    seccomp = enter_seccomp();
    snprintf(text, bytes, "%s%s%s", landlock ? "Landlock" : "", landlock && seccomp ? ", " : "",
             seccomp ? "seccomp" : landlock ? "" : "none");
}

int sandbox_drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* fails without CAP_SETPCAP: then exec gives us nothing either */
    return syscall(SYS_capset, &head, none) == 0 ? 0 : -errno;
}
