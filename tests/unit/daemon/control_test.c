/*
 * The control API over real Unix sockets, a real libev loop and a real stack without a TAP: what is not
 * looped back inside the stack is thrown away. The test is client and daemon in one process: it sends, runs
 * turns, and reads. Virtual time is not used: the daemon's clock is the system's, so time-outs here are
 * short.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/fdset.h"
#include "daemon/ids.h"
#include "daemon/program.h"

#define ARENA_BYTES (16u << 20)

struct env {
    struct daemon d;
    struct daemon_config config;
    void *arena;
    char dir[64];
};

int daemon_reload(struct daemon *d, daemon_ignored_fn *ignored, void *user, char *ret_error, size_t error_bytes)
{
    (void)ignored, (void)user;
    (void)d;
    snprintf(ret_error, error_bytes, "taut.conf:3: network.address: not an address");
    return -1;
}

static void log_nothing(void *user, enum log_level level, const char *text)
{
    (void)user, (void)level, (void)text;
}

static void make_stack(struct env *e)
{
    struct stack_params p = {
        .config = &e->config.stack,
        .tcp_config = &e->config.tcp,
        .pool = e->d.pool,
        .log = &e->d.log,
        .now = daemon_now(),
        .mac = {2, 0, 0, 0, 0, 1},
        .mtu = 1500,
        .ifindex = 1,
        .max_conns = 1000,
        .max_half_open = 100,
        .max_time_wait = 100,
        .generation = 1,
    };
    struct ip_addr addr = ip_addr_v4(192, 0, 2, 1);

    memset(&p.secrets, 0x5a, sizeof p.secrets);
    e->d.stack = stack_create(&p);
    assert_non_null(e->d.stack);
    e->d.tcp = stack_tcp(e->d.stack);
    e->d.socks = stack_socks(e->d.stack);
    assert_int_equal(stack_addr_add(e->d.stack, &addr, 24, daemon_now()), 0);
    stack_set_link(e->d.stack, true, daemon_now());
}

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    char error[CONFIG_ERROR_MAX] = "";

    list_init(&e->d.deferred);
    config_defaults(&e->config);
    e->config.tcp.tcp_timewait_len = 1;
    snprintf(e->dir, sizeof e->dir, "/tmp/taut-control-XXXXXX");
    assert_non_null(mkdtemp(e->dir));
    assert_int_equal(chmod(e->dir, 0755), 0);
    snprintf(e->config.control_dir, sizeof e->config.control_dir, "%s/run", e->dir);
    e->d.log = (struct log_sink){.write = log_nothing, .level = LOG_LVL_NOTICE};
    e->d.config = &e->config;
    snprintf(e->d.ifname, sizeof e->d.ifname, "test0");
    e->d.started_at = daemon_now();
    e->d.loop = ev_loop_new(EVFLAG_AUTO);
    e->d.fds = fdset_new(e->d.loop, -1);
    e->arena = aligned_alloc(4096, ARENA_BYTES);
    e->d.pool = chunk_pool_create(e->arena, ARENA_BYTES);
    make_stack(e);
    if (!control_open(&e->d, error, sizeof error))
        fail_msg("%s", error);
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;

    control_close(e->d.control);
    daemon_run_deferred(&e->d);
    fdset_free(e->d.fds);
    stack_destroy(e->d.stack);
    chunk_pool_destroy(e->d.pool);
    ev_loop_destroy(e->d.loop);
    free(e->arena);
    rmdir(e->config.control_dir);
    assert_int_equal(rmdir(e->dir), 0); /* the sockets are gone too */
    free(e);
    return 0;
}

/* One turn of the loop, as loop.c's. */
static void turn(struct env *e)
{
    struct daemon *d = &e->d;
    struct sock_event se;
    struct stack_event ke;
    static struct stack_tx tx;

    ev_run(d->loop, EVRUN_NOWAIT);
    if (stack_deadline(d->stack) <= daemon_now())
        stack_expire(d->stack, daemon_now());
    while (sock_next_event(d->socks, &se)) {
        if (se.user)
            ((struct sock_owner *)se.user)->ready(se.user, se.sock, se.bits, daemon_now());
    }
    while (stack_next_event(d->stack, &ke))
        d->on_stack_event(d, &ke, daemon_now());
    d->on_turn(d, daemon_now());
    while (stack_output(d->stack, daemon_now(), &tx))
        ;
    stack_commit(d->stack, daemon_now());
    daemon_run_deferred(d);
}

static void turns(struct env *e, int n)
{
    while (n-- > 0)
        turn(e);
}

/* ---- A client
 * ---------------------------------------------------------------------------------------------------- */

static int dial(struct env *e, int i)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, (i ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK, 0);

    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/%s", e->config.control_dir,
             i ? "control.seq" : "control.sock");
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* The next line or message as JSON; NULL: the daemon has closed, or nothing comes. */
static json_t *hear_fd(struct env *e, int fd, int *ret_fd)
{
    static char buf[4 << 20];
    size_t n = 0;
    int type;
    socklen_t len = sizeof type;

    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
    for (int i = 0; i < 3000; i++) {
        struct iovec iov = {buf + n, type == SOCK_SEQPACKET ? sizeof buf : 1};
        char control[CMSG_SPACE(sizeof(int))];
        struct msghdr m = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t r = recvmsg(fd, &m, 0);

        if (r < 0 && errno == EAGAIN) {
            turn(e);
            if (i > 100)
                poll(NULL, 0, 1);
            continue;
        }
        if (r <= 0)
            return NULL;
        if (ret_fd && m.msg_controllen)
            memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
        n += (size_t)r;
        i = 0;
        if (type == SOCK_SEQPACKET || buf[n - 1] == '\n')
            return json_loadb(buf, n, 0, NULL);
    }
    return NULL;
}

static json_t *hear(struct env *e, int fd)
{
    return hear_fd(e, fd, NULL);
}

static const char *error_name(const json_t *answer)
{
    const char *name =
        json_string_value(json_object_get(json_object_get(json_object_get(answer, "error"), "data"), "name"));

    return name ? name : "";
}

static json_t *ask(struct env *e, int fd, const char *method, const char *params, int *ret_fd)
{
    char text[4096];
    json_t *answer, *result;

    snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}\n", method,
             params);
    say(fd, text);
    answer = hear_fd(e, fd, ret_fd);
    assert_non_null(answer);
    result = json_object_get(answer, "result");
    if (!result)
        fail_msg("%s: %s", method, json_dumps(answer, 0));
    json_incref(result);
    json_decref(answer);
    return result;
}

static const char *str(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* ---- Requests
 * ---------------------------------------------------------------------------------------------------- */

static void refuses_bad_requests(void **state)
{
    static const struct {
        const char *text, *name, *word;
        int code;
    } rows[] = {
        {"nonsense", "PARSE_ERROR", "JSON", -32700},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.hello\"", "PARSE_ERROR", "JSON", -32700},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"server.hello\"}", "PARSE_ERROR", "duplicate",
         -32700},
        {"\"text\"", "INVALID_REQUEST", "object", -32600},
        {"[]", "INVALID_REQUEST", "batches", -32600},
        {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.hello\"}]", "INVALID_REQUEST", "batches",
         -32600},
        {"{\"id\":1,\"method\":\"server.hello\"}", "INVALID_REQUEST", "jsonrpc", -32600},
        {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"server.hello\"}", "INVALID_REQUEST", "2.0", -32600},
        {"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"server.hello\"}", "INVALID_REQUEST", "id", -32600},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", "INVALID_REQUEST", "method", -32600},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.list\",\"param\":{}}", "INVALID_REQUEST", "param",
         -32600},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.lits\"}", "METHOD_NOT_FOUND", "conn.lits", -32601},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.list\",\"params\":[1]}", "INVALID_PARAMS", "object",
         -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.list\",\"params\":{\"limt\":1}}", "INVALID_PARAMS",
         "limt", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.list\",\"params\":{\"limit\":\"1\"}}",
         "INVALID_PARAMS", "integer from 1 to 5000", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.list\",\"params\":{\"limit\":0}}", "INVALID_PARAMS",
         "integer from 1 to 5000", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.list\",\"params\":{\"state\":\"OPEN\"}}",
         "INVALID_PARAMS", "state", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.get\",\"params\":{}}", "INVALID_PARAMS", "required",
         -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.get\",\"params\":{\"id\":\"07.1\"}}",
         "INVALID_PARAMS", "id", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.get\",\"params\":{\"id\":\"7.100003\"}}",
         "NO_SUCH_CONNECTION", "7.100003", -32000},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.abort\",\"params\":{\"id\":\"7.100003\"}}",
         "NO_SUCH_CONNECTION", "7.100003", -32000},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"metrics.list\",\"params\":{\"after\":-1}}",
         "INVALID_PARAMS", "after", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"metrics.flush\",\"params\":{\"address\":\"host\"}}",
         "INVALID_PARAMS", "address", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats.get\",\"params\":{\"help\":1}}", "INVALID_PARAMS",
         "true or false", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"icmp.ping\",\"params\":{\"address\":\"host\"}}",
         "INVALID_PARAMS", "address", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events.subscribe\",\"params\":{\"kinds\":[\"cat\"]}}",
         "INVALID_PARAMS", "cat", -32602},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"config.get\",\"params\":{\"name\":\"tcp.no_such\"}}",
         "NO_SUCH_KEY", "tcp.no_such", -32008},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.reload\"}", "CONFIG_INVALID",
         "taut.conf:3:", -32007},
    };
    struct env *e = *state;

    for (int seq = 0; seq < 2; seq++) {
        int fd = dial(e, seq);

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const json_t *error, *data;
            json_t *a;

            say(fd, rows[i].text);
            if (!seq)
                say(fd, "\n");
            a = hear(e, fd);
            error = json_object_get(a, "error");
            data = json_object_get(error, "data");
            if (strcmp(error_name(a), rows[i].name) != 0 || !strstr(str(error, "message"), rows[i].word))
                fail_msg("%s -> %s", rows[i].text, json_dumps(a, 0));
            assert_int_equal(json_integer_value(json_object_get(error, "code")), rows[i].code);
            assert_true(json_integer_value(json_object_get(data, "errno_number")) > 0);
            assert_int_equal(str(data, "errno")[0], 'E');
            json_decref(a);
        }
        json_decref(ask(e, fd, "server.hello", "{}", NULL)); /* it goes on as if nothing had been */
        close(fd);
        turns(e, 3);
    }
    assert_int_equal(e->d.control->n_clients, 0);
}

static void descriptors_only_on_seq(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0);
    json_t *a;

    say(fd, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"tcp.listen\",\"params\":{\"port\":80}}\n");
    a = hear(e, fd);
    assert_string_equal(error_name(a), "NEEDS_SEQPACKET");
    assert_string_equal(str(a, "id"), "x");
    json_decref(a);
    close(fd);
}

static void too_long_then_good(void **state)
{
    struct env *e = *state;
    size_t n = CONTROL_REQUEST_MAX + 300000;
    char *big = malloc(n);
    int fd = dial(e, 0);
    size_t sent = 0;
    json_t *a;

    memset(big, 'x', n);
    big[0] = '{';
    while (sent < n) {
        ssize_t r = send(fd, big + sent, n - sent, MSG_NOSIGNAL);

        sent += r > 0 ? (size_t)r : 0;
        turn(e);
    }
    a = hear(e, fd);
    assert_string_equal(error_name(a), "REQUEST_TOO_LONG");
    json_decref(a);
    say(fd, "\n{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"server.hello\"}\n");
    a = hear(e, fd);
    assert_int_equal(json_integer_value(json_object_get(a, "id")), 5);
    assert_int_equal(e->d.counters.control_oversize, 1);
    json_decref(a);
    close(fd);
    free(big);
}

static void half_sent(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0);
    json_t *a;

    say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"meth");
    turns(e, 2);
    shutdown(fd, SHUT_WR);
    a = hear(e, fd);
    assert_string_equal(error_name(a), "PARSE_ERROR");
    json_decref(a);
    assert_null(hear(e, fd)); /* and the end */
    close(fd);
    /* Whole, but without its line feed: answered, then the end (nc -N). */
    fd = dial(e, 0);
    say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.hello\"}");
    shutdown(fd, SHUT_WR);
    a = hear(e, fd);
    assert_non_null(json_object_get(a, "result"));
    json_decref(a);
    assert_null(hear(e, fd));
    close(fd);
    assert_int_equal(e->d.control->n_clients, 0);
}

static void byte_by_byte_and_many_at_once(void **state)
{
    struct env *e = *state;
    const char *text = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.hello\"}\r\n\n  \n";
    int fd = dial(e, 0);
    char many[16384] = "";
    json_t *a;

    for (const char *p = text; *p; p++) {
        assert_int_equal(send(fd, p, 1, 0), 1);
        turn(e);
    }
    json_decref(hear(e, fd));
    for (int i = 0; i < 100; i++)
        sprintf(many + strlen(many), "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"server.hello\"}\n", i);
    say(fd, many);
    turn(e); /* others have their turn too */
    assert_in_range(e->d.counters.control_calls, 2, 1 + 2 * CONTROL_REQUESTS_PER_TURN);
    for (int i = 0; i < 100; i++) {
        a = hear(e, fd);
        assert_int_equal(json_integer_value(json_object_get(a, "id")), i);
        json_decref(a);
    }
    close(fd);
}

static void notifications_are_not_answered(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0);
    json_t *a;

    say(fd,
        "{\"jsonrpc\":\"2.0\",\"method\":\"config.set\",\"params\":{\"name\":\"tcp.tcp_sack\",\"value\":0}}\n"
        "{\"jsonrpc\":\"2.0\",\"method\":\"no.such\"}\n"
        "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"server.hello\"}\n");
    a = hear(e, fd);
    assert_int_equal(json_integer_value(json_object_get(a, "id")), 9);
    assert_int_equal(e->config.tcp.tcp_sack, 0);
    json_decref(a);
    close(fd);
}

static void slow_reader_is_ended(void **state)
{
    struct env *e = *state;
    const char *text = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.discover\"}\n";
    int fd = dial(e, 0), rounds = 0;

    while (e->d.counters.control_slow == 0 && rounds++ < 5000) {
        if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 && errno == EPIPE)
            break;
        turn(e);
    }
    assert_int_equal(e->d.counters.control_slow, 1);
    turns(e, 2);
    assert_int_equal(e->d.control->n_clients, 0);
    close(fd);
}

static void read_only_for_others(void **state)
{
    struct env *e = *state;
    uid_t me = geteuid();
    json_t *a, *hello;
    int fd;

    if (me != 0)
        skip();
    assert_int_equal(setegid(65534), 0);
    assert_int_equal(seteuid(65534), 0);
    fd = dial(e, 0); /* SO_PEERCRED keeps who connected */
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
    hello = ask(e, fd, "server.hello", "{}", NULL);
    assert_string_equal(str(hello, "level"), "read-only");
    json_decref(hello);
    json_decref(ask(e, fd, "conn.list", "{}", NULL));
    say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.abort\",\"params\":{\"id\":\"7.1\"}}\n");
    a = hear(e, fd);
    assert_string_equal(error_name(a), "PERMISSION_DENIED");
    json_decref(a);
    close(fd);
}

static void second_daemon_is_refused(void **state)
{
    struct env *e = *state;
    struct daemon other = e->d;
    char error[CONFIG_ERROR_MAX] = "";

    other.programs = NULL;
    list_init(&other.deferred);
    assert_null(control_open(&other, error, sizeof error));
    assert_non_null(strstr(error, "another tautd"));
    json_decref(ask(e, dial(e, 0), "server.hello", "{}", NULL)); /* the first one is not hurt */
}

/* ---- What the methods answer
 * ------------------------------------------------------------------------------------- */

static void discover_is_the_table(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0);
    json_t *doc = ask(e, fd, "rpc.discover", "{}", NULL), *m, *p;
    size_t i, k;

    for (i = 0; control_methods[i].name; i++) {
        const struct control_method *row = &control_methods[i];

        m = json_array_get(json_object_get(doc, "methods"), i);
        assert_string_equal(str(m, "name"), row->name);
        assert_true(strlen(str(m, "summary")) > 10);
        json_array_foreach(json_object_get(m, "params"), k, p)
        {
            json_t *def = json_object_get(json_object_get(p, "schema"), "default");

            assert_string_equal(str(p, "name"), row->params[k].name);
            assert_true(strlen(str(p, "description")) > 2);
            assert_true((def != NULL) == (row->params[k].def != NULL)); /* its text is JSON */
        }
        assert_null(row->params[k].name);
        assert_ptr_equal(control_method_find(row->name), row);
        for (k = 0; k < i; k++)
            assert_string_not_equal(control_methods[k].name, row->name);
    }
    assert_int_equal(json_array_size(json_object_get(doc, "methods")), i);
    json_decref(doc);
    close(fd);
}

static void status_stats_config(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 1);
    json_t *j = ask(e, fd, "server.status", "{}", NULL), *row;

    assert_string_equal(str(json_object_get(j, "interface"), "name"), "test0");
    assert_non_null(json_object_get(json_object_get(j, "totals"), "established"));
    json_decref(j);
    j = ask(e, fd, "stats.get", "{\"help\":true}", NULL);
    assert_true(strlen(str(json_object_get(json_object_get(j, "tcp"), "InSegs"), "help")) > 3);
    json_decref(j);
    j = ask(e, fd, "stats.get", "{}", NULL);
    assert_true(json_integer_value(json_object_get(json_object_get(j, "daemon"), "ControlCalls")) >= 2);
    json_decref(j);
    j = ask(e, fd, "config.get", "{\"name\":\"tcp_timestamps\"}", NULL);
    row = json_array_get(json_object_get(j, "rows"), 0);
    assert_string_equal(str(row, "name"), "tcp.tcp_timestamps");
    assert_int_equal(json_integer_value(json_object_get(row, "max")), 2);
    json_decref(j);
    j = ask(e, fd, "config.set", "{\"name\":\"tcp.tcp_fin_timeout\",\"value\":30}", NULL);
    assert_string_equal(str(j, "value"), "30");
    assert_int_equal(e->config.tcp.tcp_fin_timeout, 30);
    json_decref(j);
    say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"config.set\",\"params\":{\"name\":\"tcp.tcp_sack\","
            "\"value\":9}}");
    j = hear(e, fd);
    assert_string_equal(error_name(j), "CONFIG_INVALID");
    json_decref(j);
    close(fd);
}

static void ping_times_out(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0);
    json_t *j = ask(e, fd, "icmp.ping",
                    "{\"address\":\"192.0.2.9\",\"timeout_ms\":20,\"count\":2,\"interval_ms\":10}", NULL),
           *r = json_object_get(j, "replies");

    assert_int_equal(json_integer_value(json_object_get(j, "sent")), 2);
    assert_int_equal(json_integer_value(json_object_get(j, "received")), 0);
    assert_int_equal(json_array_size(r), 2);
    assert_non_null(str(json_array_get(r, 0), "error"));
    assert_true(json_is_null(json_object_get(j, "avg_us")));
    assert_int_equal(e->d.control->n_pings, 0);
    json_decref(j);
    close(fd);
}

static void vanishing_client(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 1);
    struct tcp_totals t;

    say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tcp.connect\",\"params\":{\"address\":\"192.0.2.9\","
            "\"port\":80}}");
    say(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"icmp.ping\",\"params\":{\"address\":\"192.0.2.9\","
            "\"count\":5}}");
    turns(e, 4);
    assert_int_equal(e->d.control->n_pings, 1);
    tcp_get_totals(e->d.tcp, &t);
    assert_int_equal(t.conns, 1);
    close(fd);
    turns(e, 6);
    assert_int_equal(e->d.control->n_clients, 0);
    assert_int_equal(e->d.control->n_pings, 0);
    tcp_get_totals(e->d.tcp, &t);
    assert_int_equal(t.conns, 0);
}

static void connect_errors(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 1);
    static const struct {
        const char *params, *name;
    } rows[] = {
        {"{\"address\":\"192.0.2.1\",\"port\":81}", "CONNECTION_REFUSED"},
        {"{\"address\":\"198.51.100.1\",\"port\":81}", "NETWORK_UNREACHABLE"},
        {"{\"address\":\"192.0.2.9\",\"port\":81,\"timeout_ms\":30}", "TIMED_OUT"},
        {"{\"address\":\"192.0.2.9\",\"port\":81,\"source\":\"192.0.2.77\"}", "ADDRESS_NOT_AVAILABLE"},
        {"{\"address\":\"192.0.2.9\"}", "INVALID_PARAMS"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        json_t *a;

        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tcp.connect\",\"params\":%s}",
                 rows[i].params);
        say(fd, text);
        a = hear(e, fd);
        if (strcmp(error_name(a), rows[i].name) != 0)
            fail_msg("%s -> %s", rows[i].params, json_dumps(a, 0));
        json_decref(a);
    }
    close(fd);
}

/* ---- Programs
 * ---------------------------------------------------------------------------------------------------- */

struct pair {
    int client, listener, near, far; /* near: tcp.connect's, far: accepted */
    char near_id[32], far_id[32];
};

static json_t *accept_on(struct env *e, int listener, int *ret_fd)
{
    json_t *a;

    fcntl(listener, F_SETFL, O_NONBLOCK);
    a = hear_fd(e, listener, ret_fd);
    return a;
}

static struct pair make_pair(struct env *e)
{
    struct pair p = {.client = dial(e, 1), .listener = -1, .near = -1, .far = -1};
    json_t *j = ask(e, p.client, "tcp.listen", "{\"port\":80}", &p.listener);

    json_decref(j);
    j = ask(e, p.client, "tcp.connect", "{\"address\":\"192.0.2.1\",\"port\":80,\"data\":\"first\"}",
            &p.near);
    snprintf(p.near_id, sizeof p.near_id, "%s", str(j, "id"));
    assert_string_equal(str(j, "peer"), "192.0.2.1:80");
    json_decref(j);
    j = accept_on(e, p.listener, &p.far);
    assert_non_null(j);
    snprintf(p.far_id, sizeof p.far_id, "%s", str(j, "id"));
    assert_string_equal(str(j, "local"), "192.0.2.1:80");
    json_decref(j);
    assert_true(p.near >= 0 && p.far >= 0);
    fcntl(p.near, F_SETFL, O_NONBLOCK);
    fcntl(p.far, F_SETFL, O_NONBLOCK);
    return p;
}

/* read() that runs turns while there is nothing. */
static ssize_t read_turns(struct env *e, int fd, void *buf, size_t n)
{
    ssize_t r = -1;

    for (int i = 0; i < 2000; i++) {
        r = read(fd, buf, n);
        if (r >= 0 || errno != EAGAIN)
            break;
        turn(e);
        if (i > 100)
            poll(NULL, 0, 1);
    }
    return r;
}

static void close_pair(struct env *e, struct pair *p)
{
    close(p->near);
    close(p->far);
    close(p->listener);
    close(p->client);
    turns(e, 10);
}

static void programs_talk(void **state)
{
    struct env *e = *state;
    struct pair p = make_pair(e);
    char buf[64] = "", params[64];
    json_t *j;

    assert_int_equal(read_turns(e, p.far, buf, sizeof buf), 5); /* tcp.connect's data */
    assert_memory_equal(buf, "first", 5);
    assert_int_equal(write(p.near, "ping", 4), 4);
    assert_int_equal(read_turns(e, p.far, buf, sizeof buf), 4);
    assert_int_equal(write(p.far, "pong!", 5), 5);
    assert_int_equal(read_turns(e, p.near, buf, sizeof buf), 5);
    snprintf(params, sizeof params, "{\"id\":\"%s\"}", p.near_id);
    j = ask(e, p.client, "conn.get", params, NULL);
    assert_string_equal(str(j, "state"), "ESTABLISHED");
    assert_non_null(strstr(str(j, "owner"), "program pid"));
    assert_int_equal(json_integer_value(json_object_get(j, "bytes_received")), 5);
    json_decref(j);
    j = ask(e, p.client, "conn.list", "{\"limit\":1}", NULL);
    assert_int_equal(json_array_size(json_object_get(j, "connections")), 1);
    assert_non_null(str(j, "next"));
    snprintf(params, sizeof params, "{\"after\":\"%s\"}", str(j, "next"));
    json_decref(j);
    j = ask(e, p.client, "conn.list", params, NULL);
    assert_int_equal(json_array_size(json_object_get(j, "connections")), 1);
    assert_true(json_is_null(json_object_get(j, "next")));
    json_decref(j);
    shutdown(p.near, SHUT_WR);
    assert_int_equal(read_turns(e, p.far, buf, sizeof buf), 0);
    assert_int_equal(write(p.far, "late", 4), 4); /* the other half is still open */
    assert_int_equal(read_turns(e, p.near, buf, sizeof buf), 4);
    close(p.far);
    assert_int_equal(read_turns(e, p.near, buf, sizeof buf), 0);
    close_pair(e, &p);
}

/* Until no connection is left but in TIME-WAIT. */
static void all_closed(struct env *e)
{
    struct tcp_totals t = {.conns = 1};

    for (int i = 0; i < 2000 && t.conns > 0; i++) {
        turn(e);
        if (i > 100)
            poll(NULL, 0, 1);
        tcp_get_totals(e->d.tcp, &t);
    }
    assert_int_equal(t.conns, 0);
}

/* A connection to ourselves that ended in good order leaves one entry for both directions: the same pair. */
static void metrics_are_listed_and_forgotten(void **state)
{
    struct env *e = *state;
    struct pair p = make_pair(e);
    int fd = dial(e, 0);
    const json_t *rows;
    char buf[8];
    json_t *j;

    assert_int_equal(read_turns(e, p.far, buf, 5), 5);
    close(p.near), close(p.far);
    all_closed(e);
    close(p.listener), close(p.client);
    j = ask(e, fd, "metrics.list", "{}", NULL);
    rows = json_object_get(j, "metrics");
    assert_int_equal(json_array_size(rows), 1);
    assert_string_equal(str(json_array_get(rows, 0), "address"), "192.0.2.1");
    assert_string_equal(str(json_array_get(rows, 0), "source"), "192.0.2.1");
    assert_true(json_integer_value(json_object_get(json_array_get(rows, 0), "rtt_us")) > 0);
    assert_true(json_integer_value(json_object_get(json_array_get(rows, 0), "cwnd")) >= 10);
    assert_true(json_is_null(json_object_get(json_array_get(rows, 0), "fastopen_cookie")));
    assert_true(json_is_null(json_object_get(j, "next")));
    json_decref(j);
    j = ask(e, fd, "metrics.list", "{\"address\":\"192.0.2.2\"}", NULL);
    assert_int_equal(json_array_size(json_object_get(j, "metrics")), 0);
    json_decref(j);
    j = ask(e, fd, "metrics.list", "{\"after\":2147483647}", NULL);
    assert_int_equal(json_array_size(json_object_get(j, "metrics")), 0);
    json_decref(j);
    j = ask(e, fd, "metrics.flush", "{\"address\":\"192.0.2.2\"}", NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "forgotten")), 0);
    json_decref(j);
    j = ask(e, fd, "metrics.flush", "{\"address\":\"192.0.2.1\"}", NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "forgotten")), 1);
    json_decref(j);
    j = ask(e, fd, "metrics.list", "{}", NULL);
    assert_int_equal(json_array_size(json_object_get(j, "metrics")), 0);
    json_decref(j);
    close(fd);
}

/* Every entry comes exactly once, whatever the size of a page. */
static void metrics_come_in_pages(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0);
    int64_t seen = 0, after = 0;
    json_t *j, *next;

    for (int i = 2; i < 9; i++) { /* more addresses of our own: a connection from each */
        struct ip_addr addr = ip_addr_v4(192, 0, 2, (uint8_t)(i + 100));
        char params[128], buf[8];
        int client = dial(e, 1), listener = -1, near = -1, far = -1;

        assert_int_equal(stack_addr_add(e->d.stack, &addr, 24, daemon_now()), 0);
        json_decref(ask(e, client, "tcp.listen", "{\"port\":80}", &listener));
        snprintf(params, sizeof params,
                 "{\"address\":\"192.0.2.1\",\"port\":80,\"source\":\"192.0.2.%d\",\"data\":\"x\"}", i + 100);
        json_decref(ask(e, client, "tcp.connect", params, &near));
        json_decref(accept_on(e, listener, &far));
        fcntl(far, F_SETFL, O_NONBLOCK);
        assert_int_equal(read_turns(e, far, buf, 1), 1);
        close(near), close(far);
        all_closed(e);
        close(listener), close(client);
    }
    for (int page = 0; page < 100; page++) {
        char params[64];

        snprintf(params, sizeof params, "{\"limit\":3,\"after\":%lld}", (long long)after);
        j = ask(e, fd, "metrics.list", params, NULL);
        assert_in_range(json_array_size(json_object_get(j, "metrics")), 1, 3);
        seen += (int64_t)json_array_size(json_object_get(j, "metrics"));
        next = json_object_get(j, "next");
        after = json_is_null(next) ? -1 : json_integer_value(next);
        json_decref(j);
        if (after < 0)
            break;
    }
    assert_int_equal(seen, 14);
    j = ask(e, fd, "metrics.flush", "{}", NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "forgotten")), 14);
    json_decref(j);
    close(fd);
}

/* With a cookie the call's data arrives while the client is still in SYN-SENT; without one after it. */
static void data_travels_in_the_syn(void **state)
{
    struct env *e = *state;
    const struct tcp_counters *n = tcp_get_counters(e->d.tcp);
    struct pair p;
    char buf[8];

    e->config.tcp.tcp_fastopen = 0x403; /* both sides, all listeners */
    for (int i = 0; i < 3; i++) {
        p = make_pair(e);
        assert_int_equal(read_turns(e, p.far, buf, sizeof buf), 5);
        assert_memory_equal(buf, "first", 5);
        assert_int_equal(n->fastopen_active, i);
        assert_int_equal(n->fastopen_passive, i);
        close_pair(e, &p);
        if (i == 0)
            assert_int_equal(n->fastopen_cookie_reqd, 1);
    }
    e->config.tcp.tcp_fastopen = 0x402; /* not as a client */
    p = make_pair(e);
    assert_int_equal(read_turns(e, p.far, buf, sizeof buf), 5);
    assert_int_equal(n->fastopen_active, 2);
    close_pair(e, &p);
}

static void options_and_ends(void **state)
{
    struct env *e = *state;
    struct pair p = make_pair(e);
    char params[128], buf[8];
    json_t *j;

    snprintf(params, sizeof params, "{\"id\":\"%s\",\"option\":\"nodelay\",\"value\":1}", p.near_id);
    j = ask(e, p.client, "conn.set", params, NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "value")), 1);
    json_decref(j);
    snprintf(params, sizeof params,
             "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"conn.set\",\"params\":{\"id\":\"%s\",\"option\":"
             "\"x\",\"value\":1}}",
             p.near_id);
    say(p.client, params);
    j = hear(e, p.client);
    assert_string_equal(error_name(j), "INVALID_PARAMS");
    json_decref(j);
    assert_int_equal(read_turns(e, p.far, buf, 5), 5);
    snprintf(params, sizeof params, "{\"id\":\"%s\"}", p.near_id);
    json_decref(ask(e, p.client, "conn.abort", params, NULL));
    assert_int_equal(read_turns(e, p.far, buf, 1), -1); /* a reset is no clean end */
    assert_int_equal(errno, ECONNRESET);
    close_pair(e, &p);
}

static void listener_gone_resets_unaccepted(void **state)
{
    struct env *e = *state;
    int client = dial(e, 1), listener = -1, near[8];
    char c;

    json_decref(ask(e, client, "tcp.listen", "{\"port\":80,\"backlog\":64}", &listener));
    for (int i = 0; i < 8; i++) {
        json_decref(ask(e, client, "tcp.connect", "{\"address\":\"192.0.2.1\",\"port\":80}", &near[i]));
        fcntl(near[i], F_SETFL, O_NONBLOCK);
    }
    turns(e, 10);
    close(listener); /* some were sent and not received, some wait in the accept queue */
    for (int i = 0; i < 8; i++) {
        assert_int_equal(read_turns(e, near[i], &c, 1), -1);
        assert_int_equal(errno, ECONNRESET);
        close(near[i]);
    }
    close(client);
    turns(e, 10);
    assert_true(list_empty(&e->d.programs->conns));
    assert_true(list_empty(&e->d.programs->listeners));
}

static void accept_queue_has_credit(void **state)
{
    struct env *e = *state;
    int client = dial(e, 1), listener = -1, near[20], far[20];

    json_decref(ask(e, client, "tcp.listen", "{\"port\":80,\"backlog\":64}", &listener));
    for (int i = 0; i < 20; i++)
        json_decref(ask(e, client, "tcp.connect", "{\"address\":\"192.0.2.1\",\"port\":80}", &near[i]));
    turns(e, 10);
    /* The queue of the sock still holds most of them. */
    {
        json_t *j = ask(e, client, "server.status", "{}", NULL);
        json_t *row = json_array_get(json_object_get(j, "listeners"), 0);

        assert_true(json_integer_value(json_object_get(row, "accept_queue")) >= 12);
        json_decref(j);
    }
    for (int i = 0; i < 20; i++) {
        json_t *j = accept_on(e, listener, &far[i]);

        assert_non_null(j);
        json_decref(j);
    }
    for (int i = 0; i < 20; i++) {
        close(near[i]);
        close(far[i]);
    }
    close(listener);
    close(client);
    turns(e, 10);
}

/* ---- Events
 * ------------------------------------------------------------------------------------------------------ */

static void events_come(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0);
    struct ip_addr addr = ip_addr_v4(192, 0, 2, 1);
    json_t *j = ask(e, fd, "events.subscribe", "{\"kinds\":[\"listener\",\"conn\",\"link\",\"log\"]}", NULL),
           *params;
    struct pair p;
    bool established = false;
    json_int_t seq;

    assert_string_equal(str(json_array_get(json_object_get(j, "snapshot"), 0), "kind"), "link");
    json_decref(j);
    events_listener(&e->d, &addr, 99, "test", false);
    j = hear(e, fd);
    assert_string_equal(str(j, "method"), "event");
    params = json_object_get(j, "params");
    assert_int_equal(json_integer_value(json_object_get(params, "seq")), 1);
    assert_int_equal(json_integer_value(json_object_get(params, "dropped")), 0);
    assert_string_equal(str(params, "address"), "192.0.2.1:99");
    json_decref(j);
    log_msg(&e->d.log, LOG_LVL_WARNING, "it rains");
    j = hear(e, fd);
    assert_string_equal(str(json_object_get(j, "params"), "text"), "it rains");
    json_decref(j);
    p = make_pair(e);
    seq = 2;
    for (int i = 0; i < 8 && !established; i++) {
        j = hear(e, fd);
        params = json_object_get(j, "params");
        assert_int_equal(json_integer_value(json_object_get(params, "seq")), ++seq);
        established =
            strcmp(str(params, "kind"), "conn") == 0 && strcmp(str(params, "state"), "ESTABLISHED") == 0;
        json_decref(j);
    }
    assert_true(established);
    close_pair(e, &p);
    close(fd);
}

static void slow_subscriber_loses_and_knows(void **state)
{
    struct env *e = *state;
    int fd = dial(e, 0), n = 0;
    struct ip_addr addr = ip_addr_v4(192, 0, 2, 1);
    json_int_t seq = 0, dropped = 0;
    json_t *j;

    json_decref(ask(e, fd, "events.subscribe", "{\"kinds\":[\"listener\"]}", NULL));
    while (e->d.counters.events_dropped < 10 && n++ < 30000)
        events_listener(&e->d, &addr, 99, "test", false);
    assert_int_equal(e->d.counters.events_dropped, 10);
    assert_int_equal(e->d.control->n_clients, 1);
    do {
        j = hear(e, fd);
        assert_non_null(j);
        seq = json_integer_value(json_object_get(json_object_get(j, "params"), "seq"));
        json_decref(j);
    } while (seq < n - 10);
    events_listener(&e->d, &addr, 99, "test", true);
    j = hear(e, fd);
    dropped = json_integer_value(json_object_get(json_object_get(j, "params"), "dropped"));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "params"), "seq")), n + 1);
    assert_int_equal(dropped, 10);
    json_decref(j);
    close(fd);
}

static void ids_are_strict(void **state)
{
    static const char *const bad[] = {"",     "7",     "7.",   ".1",  "07.1", "7.01",         "7.G",
                                      "7.1 ", " 7.1",  "+7.1", "7.A", "-1.1", "4294967296.1", "7.100000000",
                                      "0.0",  "7.1.1", "7,1"};
    char text[ID_TEXT_MAX];
    tcp_id id = 1;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (id_parse(bad[i], &id))
            fail_msg("accepted \"%s\"", bad[i]);
    }
    assert_int_equal(id, 1);
    assert_string_equal(id_format(0x0010000300000007ull, text), "7.100003");
    assert_true(id_parse("7.100003", &id));
    assert_int_equal(id, 0x0010000300000007ull);
    assert_true(id_parse(id_format(UINT64_MAX, text), &id));
    assert_int_equal(id, UINT64_MAX);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(refuses_bad_requests),
        T(descriptors_only_on_seq),
        T(too_long_then_good),
        T(half_sent),
        T(byte_by_byte_and_many_at_once),
        T(notifications_are_not_answered),
        T(slow_reader_is_ended),
        T(read_only_for_others),
        T(second_daemon_is_refused),
        T(discover_is_the_table),
        T(status_stats_config),
        T(ping_times_out),
        T(vanishing_client),
        T(connect_errors),
        T(programs_talk),
        T(metrics_are_listed_and_forgotten),
        T(metrics_come_in_pages),
        T(data_travels_in_the_syn),
        T(options_and_ends),
        T(listener_gone_resets_unaccepted),
        T(accept_queue_has_credit),
        T(events_come),
        T(slow_subscriber_loses_and_knows),
        cmocka_unit_test(ids_are_strict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
