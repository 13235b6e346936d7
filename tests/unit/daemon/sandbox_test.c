/* daemon/sandbox.c: what the worker can no longer do, and what it still can. Each case is a child of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox.h"

static struct daemon_config config;
static char folder[64];

static bool opens(const char *path, int flags)
{
    int fd = open(path, flags, 0600);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A bit for each thing that works. */
static int probe(bool shut_in)
{
    char text[64] = "none", *const argv[] = {"true", NULL};
    int works = 0;

    if (shut_in)
        sandbox_enter(&config, text, sizeof text);
    works |= opens(config.path, O_RDONLY) << 0;
    works |= (socket(AF_INET, SOCK_STREAM, 0) >= 0) << 1;
    works |= (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) << 2;
    works |= opens("/etc/passwd", O_RDONLY) << 3;
    works |= opens(config.path, O_WRONLY) << 4;
    works |= (strstr(text, "seccomp") || !shut_in) &&
                     mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED
                 ? 1 << 5
                 : 0;
    if (shut_in && !strstr(text, "seccomp"))
        return works;
    execv("/bin/true", argv); /* 0 if it works */
    return works | 1 << 6;
}

static int outcome(bool shut_in)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(probe(shut_in));
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_shut_in(void **state)
{
    char text[64];
    int got;

    (void)state;
    if (fork() == 0) {
        sandbox_enter(&config, text, sizeof text);
        _exit(strncmp(text, "Landlock", 8) != 0);
    }
    wait(&got);
    if (got)
        skip(); /* sanitizers, or a kernel without Landlock */
    got = outcome(true);
    assert_int_equal(got & 7, 7);         /* the configuration, sockets, memory */
    assert_int_equal(got & (7 << 3), 0);  /* other files, writing, new code */
#ifdef HAVE_SECCOMP
    assert_int_equal(got & 1 << 6, 1 << 6); /* execve() came back */
#endif
    assert_int_equal(outcome(false), 0); /* the probe itself: without the sandbox execve() works */
}

static uint64_t capabilities(const char *name)
{
    char line[128];
    unsigned long long value = ~0ull;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoull(line + strlen(name) + 1, NULL, 16);
    if (f)
        fclose(f);
    return value;
}

/* As root the sets are full before; without them executing a program gives none back. */
static void test_capabilities(void **state)
{
    static const char *const sets[] = {"CapEff", "CapPrm", "CapInh", "CapAmb"};
    int status;

    (void)state;
    if (fork() == 0) {
        bool bounded = capabilities("CapEff") != 0;
        int left = sandbox_drop_capabilities() != 0;

        for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
            left += capabilities(sets[i]) != 0;
        left += bounded && capabilities("CapBnd") != 0;
        _exit(left);
    }
    wait(&status);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int make_folder(void **state)
{
    int fd;

    (void)state;
    snprintf(folder, sizeof folder, "/tmp/taut-sandbox-%d", (int)getpid());
    mkdir(folder, 0700);
    snprintf(config.path, sizeof config.path, "%s/taut.conf", folder);
    fd = open(config.path, O_CREAT | O_WRONLY, 0600);
    return close(fd);
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(config.path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shut_in), cmocka_unit_test(test_capabilities)};

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
