/* daemon/notify.c and daemon/logger.c: what a service manager and the journal get. */
#include "net.h"

#include <fcntl.h>
#include <sys/un.h>
#include <time.h>

#include "daemon/logger.h"
#include "daemon/notify.h"

static int manager(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    memcpy(a.sun_path, name, n);
    if (name[0] == '@')
        a.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static void expect(int fd, const char *text)
{
    char buf[1024] = {0};

    assert_true(recv(fd, buf, sizeof buf - 1, 0) >= 0);
    assert_string_equal(buf, text);
}

static void test_notify(void **state)
{
    char path[64], name[64], long_text[600];
    int fd;

    (void)state;
    snprintf(path, sizeof path, "/tmp/taut-notify-%d", (int)getpid());
    unlink(path);
    fd = manager(path);
    notify_send("READY=1\nSTATUS=on %s\n", "taut0");
    expect(fd, "READY=1\nSTATUS=on taut0\n");
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    notify_send("STATUS=%s\n", long_text); /* cut, not overrun */
    assert_int_equal(recv(fd, long_text, sizeof long_text, 0), 511);
    close(fd);
    unlink(path);
    notify_send("READY=1\n"); /* nobody listens: no error */
    snprintf(name, sizeof name, "@taut-notify-%d", (int)getpid());
    fd = manager(name);
    notify_send("STOPPING=1\n");
    expect(fd, "STOPPING=1\n");
    setenv("NOTIFY_SOCKET", "relative", 1);
    notify_send("READY=1\n");
    setenv("NOTIFY_SOCKET", "", 1);
    notify_send("READY=1\n");
    unsetenv("NOTIFY_SOCKET");
    notify_send("READY=1\n");
    assert_int_equal(recv(fd, long_text, sizeof long_text, 0), -1);
    close(fd);
}

/* Reads what one message made of stderr. */
static size_t logged(const char *text, enum log_level level, char *out, size_t bytes)
{
    struct log_sink sink;
    int fd[2], old = dup(STDERR_FILENO);
    ssize_t n;

    logger_init(&sink, LOG_LVL_INFO);
    assert_int_equal(pipe2(fd, O_NONBLOCK), 0);
    dup2(fd[1], STDERR_FILENO);
    log_msg(&sink, level, "%s", text);
    dup2(old, STDERR_FILENO);
    n = read(fd[0], out, bytes - 1);
    close(fd[0]);
    close(fd[1]);
    close(old);
    n = n < 0 ? 0 : n;
    out[n] = '\0';
    return (size_t)n;
}

static void test_logger(void **state)
{
    char out[2000], text[1500];
    size_t n;

    (void)state;
    logged("hello", LOG_LVL_NOTICE, out, sizeof out);
    assert_string_equal(out, "<5>hello\n");
    assert_int_equal(logged("hidden", LOG_LVL_DEBUG, out, sizeof out), 0);
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    n = logged(text, LOG_LVL_ERR, out, sizeof out);
    assert_true(n > 100 && n < 700);
    assert_int_equal(out[n - 1], '\n'); /* one line, whole */
    assert_ptr_equal(strchr(out, '\n'), out + n - 1);
    for (int i = 0; i < 8; i++)
        assert_int_equal(logger_level_parse(logger_level_name(i)), i);
    assert_int_equal(logger_level_parse("loud"), -1);
    assert_string_equal(logger_level_name(8), "?");
    assert_string_equal(logger_level_name(-1), "?");
}

/* A manager that reads nothing: messages are given up in time; and a barrier is waited for, until it is dealt with. */
static void test_deaf_manager(void **state)
{
    char name[64];
    struct timespec from, to;
    int fd, n = 0;
    ssize_t r;

    (void)state;
    snprintf(name, sizeof name, "@taut-deaf-%d", (int)getpid());
    fd = manager(name);
    assert_true(notify_managed());
    alarm(60);
    /* Its queue holds some (net.unix.max_dgram_qlen); then three are given up. */
    clock_gettime(CLOCK_MONOTONIC, &from);
    do {
        notify_send("WATCHDOG=1\n");
        clock_gettime(CLOCK_MONOTONIC, &to);
        n++;
    } while (to.tv_sec - from.tv_sec < 2);
    assert_true(n >= 3);
    while ((r = recv(fd, name, sizeof name, 0)) > 0)
        ;
    /* The pipe's end in the message: the kernel closes it with the message when nobody takes it. */
    clock_gettime(CLOCK_MONOTONIC, &from);
    notify_barrier();
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_true(to.tv_sec - from.tv_sec >= 0 && to.tv_sec - from.tv_sec <= 3);
    expect(fd, "BARRIER=1\n");
    alarm(0);
    close(fd);
    unsetenv("NOTIFY_SOCKET");
    assert_false(notify_managed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_notify), cmocka_unit_test(test_deaf_manager),
                                       cmocka_unit_test(test_logger)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
