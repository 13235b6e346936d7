/*
 * libtaut against a daemon of straw: a child process that answers by the method's name, well and badly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/taut.h"

static char dir[64];
static pid_t straw;

/* ---- The daemon of straw
 * ----------------------------------------------------------------------------------------- */

static void tell(int fd, const char *text, int pass)
{
    struct iovec iov = {(char *)(uintptr_t)text, strlen(text)};
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } c = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (pass >= 0) {
        m.msg_control = c.buf;
        m.msg_controllen = sizeof c.buf;
        c.align.cmsg_level = SOL_SOCKET;
        c.align.cmsg_type = SCM_RIGHTS;
        c.align.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&c.align), &pass, sizeof pass);
    }
    if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
        _exit(3);
    if (pass >= 0)
        close(pass);
}

static void answer(int fd, json_int_t id, const char *result, int pass)
{
    char text[4096];

    snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":%s}", (long long)id, result);
    tell(fd, text, pass);
}

static void refuse(int fd, json_int_t id, const char *name, int err)
{
    char text[4096];

    snprintf(text, sizeof text,
             "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"error\":{\"code\":-32000,\"message\":\"no\",\"data\":{"
             "\"name\":\"%s\","
             "\"errno\":\"E\",\"errno_number\":%d}}}",
             (long long)id, name, err);
    tell(fd, text, -1);
}

/* One end, into which `first` was written from the other (which is closed). */
static int end_with(const char *first, int type)
{
    int fd[2];

    if (socketpair(AF_UNIX, type, 0, fd) != 0 || write(fd[0], first, strlen(first)) < 0)
        _exit(4);
    close(fd[0]);
    return fd[1];
}

static void listen_answer(int fd, json_int_t id)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0)
        _exit(4);
    tell(pair[0], "{\"id\":\"7.1\",\"peer\":\"192.0.2.9:1\",\"local\":\"192.0.2.1:80\"}",
         end_with("hi", SOCK_STREAM));
    tell(pair[0], "{\"id\":\"8.1\"}", -1); /* a message without its descriptor */
    close(pair[0]);
    answer(fd, id, "{\"listener\":\"1\"}", pair[1]);
}

#define EVENT(n) "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"seq\":" #n ",\"kind\":\"conn\"}}"

static void handle(int fd, json_int_t id, const char *method, const json_t *params)
{
    const char *address = json_string_value(json_object_get(params, "address"));

    if (strcmp(method, "good") == 0) {
        answer(fd, id, "{\"a\":1}", -1);
    } else if (strcmp(method, "params") == 0) {
        char *text = json_dumps(params, JSON_COMPACT);

        answer(fd, id, text, -1);
    } else if (strcmp(method, "bad") == 0) {
        refuse(fd, id, "NO_SUCH_CONNECTION", ENOENT);
    } else if (strcmp(method, "mixed") == 0) {
        tell(fd, EVENT(1), -1);
        answer(fd, 9999, "{}", end_with("x", SOCK_STREAM)); /* of nobody: must be closed */
        tell(fd, EVENT(2), end_with("x", SOCK_STREAM));
        answer(fd, id, "{}", end_with("x", SOCK_STREAM));
    } else if (strcmp(method, "garbage") == 0) {
        tell(fd, "not json", -1);
    } else if (strcmp(method, "die") == 0) {
        _exit(0);
    } else if (strcmp(method, "conn.get") == 0) {
        answer(fd, id, "{\"state\":\"ESTABLISHED\"}", -1);
    } else if (strcmp(method, "tcp.connect") == 0 && address && strcmp(address, "192.0.2.1") == 0) {
        answer(fd, id, "{\"id\":\"5.1\"}", end_with("data", SOCK_STREAM));
    } else if (strcmp(method, "tcp.connect") == 0) {
        refuse(fd, id, "CONNECTION_REFUSED", ECONNREFUSED);
    } else if (strcmp(method, "tcp.listen") == 0) {
        listen_answer(fd, id);
    } else if (strcmp(method, "events.subscribe") == 0) {
        answer(fd, id, "{\"seq\":0,\"snapshot\":[{\"kind\":\"link\"}]}", -1);
        tell(fd, EVENT(1), -1);
    }
}

static void straw_daemon(int listener)
{
    char buf[65536];

    for (;;) {
        int fd = accept(listener, NULL, NULL);
        ssize_t n;

        while ((n = recv(fd, buf, sizeof buf, 0)) > 0) {
            json_t *r = json_loadb(buf, (size_t)n, 0, NULL);

            if (!r)
                _exit(5);
            handle(fd, json_integer_value(json_object_get(r, "id")),
                   json_string_value(json_object_get(r, "method")), json_object_get(r, "params"));
            json_decref(r);
        }
        close(fd);
    }
}

static int setup(void **state)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    snprintf(dir, sizeof dir, "/tmp/taut-client-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/control.seq", dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(fd, 8), 0);
    straw = fork();
    if (straw == 0) {
        straw_daemon(fd);
        _exit(0);
    }
    close(fd);
    *state = taut_open(dir);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    char path[96];

    taut_close(*state);
    kill(straw, SIGKILL);
    waitpid(straw, NULL, 0);
    snprintf(path, sizeof path, "%s/control.seq", dir);
    unlink(path);
    return rmdir(dir);
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* ---- Tests
 * ------------------------------------------------------------------------------------------------------- */

static void calls(void **state)
{
    struct taut *t = *state;
    char *result = NULL;
    int fd = 7;

    assert_int_equal(taut_call(t, "good", NULL, &result, &fd), 0);
    assert_string_equal(result, "{\"a\":1}");
    assert_int_equal(fd, -1);
    free(result);
    assert_int_equal(taut_call(t, "params", "{\"x\": [1]}", &result, NULL), 0);
    assert_string_equal(result, "{\"x\":[1]}");
    free(result);
    assert_int_equal(taut_call(t, "bad", NULL, &result, NULL), -ENOENT);
    assert_string_equal(taut_error(t), "NO_SUCH_CONNECTION: no");
    assert_int_equal(taut_call(t, "good", "{oops", &result, NULL), -EINVAL);
    assert_int_equal(taut_call(t, "good", NULL, NULL, NULL), 0);
    assert_string_equal(taut_error(t), "");
}

static void others_answers_and_events_between(void **state)
{
    struct taut *t = *state;
    int before = open_descriptors(), fd = -1;
    char *e;

    assert_int_equal(taut_call(t, "mixed", NULL, NULL, &fd), 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(taut_call(t, "mixed", NULL, NULL, NULL), 0); /* nobody wants the descriptor */
    assert_int_equal(open_descriptors(), before);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(taut_next_event(t, 0, &e), 0);
        assert_non_null(strstr(e, i % 2 ? "\"seq\":2" : "\"seq\":1"));
        free(e);
    }
    assert_int_equal(taut_next_event(t, 10, &e), -EAGAIN);
}

static void subscription(void **state)
{
    struct taut *t = *state;
    char *e;

    assert_int_equal(taut_subscribe(t, "conn,link"), 0);
    assert_int_equal(taut_next_event(t, 1000, &e), 0);
    assert_non_null(strstr(e, "link")); /* the present state first */
    free(e);
    assert_int_equal(taut_next_event(t, 1000, &e), 0);
    assert_non_null(strstr(e, "conn"));
    free(e);
}

static void connections(void **state)
{
    struct taut *t = *state;
    char id[TAUT_ID_MAX] = "", buf[8];
    struct taut_connect_options o = {.timeout_ms = 100, .nodelay = true};
    char *json;
    int fd = taut_connect(t, "192.0.2.1", 80, &o, id);

    assert_true(fd >= 0);
    assert_string_equal(id, "5.1");
    assert_int_equal(read(fd, buf, sizeof buf), 4);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    assert_int_equal(taut_connect(t, "192.0.2.2", 80, NULL, NULL), -ECONNREFUSED);
    assert_int_equal(taut_connect(t, "no.such.name.invalid", 80, NULL, NULL) < 0, 1);
    assert_non_null(strstr(taut_error(t), "NAME_NOT_RESOLVED"));
    assert_int_equal(taut_info(t, "5.1", &json), 0);
    assert_non_null(strstr(json, "ESTABLISHED"));
    free(json);
}

static void listeners(void **state)
{
    struct taut *t = *state;
    struct taut_accepted who;
    int before = open_descriptors(), listener = taut_listen(t, NULL, 80, 0), fd;
    char buf[8];

    assert_true(listener >= 0);
    fd = taut_accept(listener, &who);
    assert_true(fd >= 0);
    assert_string_equal(who.id, "7.1");
    assert_string_equal(who.peer, "192.0.2.9:1");
    assert_int_equal(read(fd, buf, sizeof buf), 2);
    close(fd);
    assert_int_equal(taut_accept(listener, NULL), -EBADMSG);
    assert_int_equal(taut_accept(listener, NULL), -ECONNRESET); /* the daemon has gone */
    close(listener);
    assert_int_equal(open_descriptors(), before);
}

/* What JSON cannot hold is never left out: a key that is not sent would leave the connection unsigned. */
static void texts_that_are_none(void **state)
{
    struct taut *t = *state;
    const struct taut_connect_options key = {.md5_key = "a\xff"}, source = {.source = "192.0.2.\xff"};
    const char *const good[] = {"192.0.2.0/24 k\xc3\xa4se", NULL}, *const bad[] = {good[0], "::/0 \xff", NULL};
    int before = open_descriptors(), fd;

    assert_int_equal(taut_connect(t, "192.0.2.1", 80, &key, NULL), -EINVAL);
    assert_non_null(strstr(taut_error(t), "UTF-8"));
    assert_int_equal(taut_connect(t, "192.0.2.1", 80, &source, NULL), -EINVAL);
    assert_int_equal(taut_connect(t, "::\xff", 80, NULL, NULL), -EINVAL);
    assert_int_equal(taut_listen_with(t, NULL, 80, &(struct taut_listen_options){.md5 = bad}), -EINVAL);
    assert_int_equal(taut_listen(t, "\xff", 80, 0), -EINVAL);
    assert_int_equal(taut_subscribe(t, "conn,\xff"), -EINVAL);
    assert_int_equal(open_descriptors(), before);
    fd = taut_listen_with(t, NULL, 80, &(struct taut_listen_options){.md5 = good});
    assert_true(fd >= 0);
    close(fd);
}

static void broken_daemons(void **state)
{
    struct taut *t = *state;

    assert_int_equal(taut_call(t, "garbage", NULL, NULL, NULL), -EBADMSG);
    assert_int_equal(taut_call(t, "good", NULL, NULL, NULL), 0);
    assert_int_equal(taut_call(t, "die", NULL, NULL, NULL), -ECONNRESET);
    assert_int_equal(taut_call(t, "good", NULL, NULL, NULL), -EPIPE);
}

static void on_alarm(int n)
{
    (void)n;
}

static void interrupted(void **state)
{
    struct taut *t = *state;
    struct sigaction sa = {.sa_handler = on_alarm};

    sigaction(SIGALRM, &sa, NULL);
    alarm(1);
    assert_int_equal(taut_call(t, "silence", NULL, NULL, NULL), -EINTR);
    assert_int_equal(taut_call(t, "good", NULL, NULL, NULL), 0);
}

static void paths(void **state)
{
    char path[96];
    struct taut *t;

    (void)state;
    assert_null(taut_open("/no/such/directory"));
    assert_int_equal(errno, ENOENT);
    snprintf(path, sizeof path, "%s/control.seq", dir);
    t = taut_open(path); /* one of its sockets */
    assert_non_null(t);
    taut_close(t);
    setenv("TAUT_SOCKET", dir, 1);
    t = taut_open(NULL);
    assert_non_null(t);
    taut_close(t);
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    setenv("TAUT_SOCKET", path, 1);
    assert_null(taut_open(NULL));
    unsetenv("TAUT_SOCKET");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(calls),        T(others_answers_and_events_between),
        T(subscription), T(connections),
        T(listeners),    T(broken_daemons),
        T(interrupted),  T(paths),
        T(texts_that_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
