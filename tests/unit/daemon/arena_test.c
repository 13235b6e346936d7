/*
 * daemon/arena.c and daemon/witness.c: an arena that was cut off, is foreign or was damaged is refused; a configuration
 * outlives its process; links are found again; and what a call moved is known although its caller was killed in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "tcp/tcp_record.h"
#include <errno.h>

static void small(struct daemon_config *c)
{
    config_defaults(c);
    c->buffer_bytes = 4 << 20;
    c->max_conns = 64;
    c->max_half_open = 16;
    c->tcp.tcp_max_tw_buckets = 16;
}

static void test_refused(void **state)
{
    static struct daemon_config config;
    struct arena a, again;
    char error[CONFIG_ERROR_MAX];
    uint8_t *copy;
    int fd;

    (void)state;
    small(&config);
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    assert_null(arena_check(a.base, a.head->bytes));
    /* Cut off, at every size of a page and within the header. */
    for (size_t n = 0; n < a.head->bytes; n += n < sizeof *a.head ? 64 : 4096)
        assert_non_null(arena_check(a.base, n));
    /* One bit of what is summed. */
    copy = malloc(sizeof *a.head);
    assert_non_null(copy);
    for (size_t i = 0; i < offsetof(struct arena_head, kept); i++) {
        memcpy(copy, a.base, sizeof *a.head);
        copy[i] ^= (uint8_t)(1u << i % 8);
        assert_non_null(arena_check(copy, a.head->bytes));
    }
    free(copy);
    /* Sealed: nobody makes it shorter or longer. */
    assert_int_equal(ftruncate(a.fd, 4096), -1);
    assert_int_equal(ftruncate(a.fd, (off_t)a.head->bytes * 2), -1);
    /* Attached again; and what is no arena is not. */
    assert_int_equal(arena_attach(dup(a.fd), &again, error, sizeof error), 0);
    assert_int_equal(again.head->max_conns, 64);
    arena_close(&again);
    fd = memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(arena_attach(fd, &again, error, sizeof error), -1);
    assert_non_null(strstr(error, "no sealed memory"));
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(arena_attach(fd, &again, error, sizeof error), -1);
    assert_non_null(strstr(error, "no arena"));
    close(fd);
    arena_close(&a);
}

/* An arena of another build: it is read by the names of its records' fields, or refused. */
static void test_schema(void **state)
{
    static struct daemon_config config;
    struct tcp_record r, back;
    struct arena a, converted;
    char error[CONFIG_ERROR_MAX], *schema;
    const char *now = tcp_record_schema();
    uint8_t *old = calloc(1, sizeof r + 8);

    (void)state;
    assert_null(tcp_record_schema_check(now, sizeof r));
    assert_non_null(tcp_record_schema_check(now, sizeof r + 8));
    assert_non_null(tcp_record_schema_check("uint64_t id;", sizeof r));
    assert_non_null(tcp_record_schema_check("float id;", 48));
    assert_non_null(tcp_record_schema_check("uint64_t", 48));
    assert_int_equal(tcp_record_translate(now, old, sizeof r, &back), -EILSEQ);
    free(old);
    small(&config);
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    assert_int_equal(arena_could_take(a.fd, &config, error, sizeof error), 0);
    /* As another build's: its head says so. */
    a.head->record_layout ^= 1;
    arena_sign(a.head);
    assert_int_equal(arena_attach(a.fd, &converted, error, sizeof error), -1);
    assert_int_equal(arena_could_take(a.fd, &config, error, sizeof error), 0);
    assert_int_equal(arena_take(&(struct arena_source){.fd = a.fd}, &config, &converted, error, sizeof error),
                     ARENA_CONVERTED);
    assert_null(arena_check(converted.base, converted.head->bytes));
    assert_memory_equal(&converted.head->secrets, &a.head->secrets, sizeof a.head->secrets);
    arena_close(&converted);
    schema = arena_at(&a, ARENA_SCHEMA);
    schema[20] ^= 1;
    assert_int_equal(arena_could_take(a.fd, &config, error, sizeof error), -1);
    assert_non_null(strstr(error, "damaged"));
    arena_close(&a);
}

static struct keep_spec *spec_named(struct keep_spec *spec, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(spec[i].name, name) == 0)
            return &spec[i];
    fail_msg("no table %s", name);
    return NULL;
}

/* Half-open and TIME-WAIT entries of both families come along, each to its place; the unused part is not touched. */
static void test_entries(void **state)
{
    static struct daemon_config config;
    static const enum arena_region_name where[] = {ARENA_REQUESTS, ARENA_TIME_WAIT};
    struct arena a, converted;
    char error[CONFIG_ERROR_MAX];
    size_t at[2][2], bytes[2][2];

    (void)state;
    small(&config);
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    a.head->kept.requests_touched = 3;
    a.head->kept.requests6_touched = 5;
    a.head->kept.time_wait_touched = 16;
    a.head->kept.time_wait6_touched = 1;
    tcp_requests_used(&a.head->kept, 16, at[0], bytes[0]);
    tcp_time_wait_used(&a.head->kept, 16, at[1], bytes[1]);
    for (unsigned i = 0; i < 2; i++)
        memset(arena_at(&a, where[i]), (int)(0x40 + i), a.head->region[where[i]].bytes);
    a.head->record_layout ^= 1;
    arena_sign(a.head);
    assert_int_equal(arena_take(&(struct arena_source){.fd = a.fd}, &config, &converted, error, sizeof error),
                     ARENA_CONVERTED);
    assert_int_equal(converted.head->kept.requests6_touched, 5);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *to = arena_at(&converted, where[i]);

        for (size_t k = 0; k < a.head->region[where[i]].bytes; k++) {
            bool used = (k >= at[i][0] && k < at[i][0] + bytes[i][0]) || (k >= at[i][1] && k < at[i][1] + bytes[i][1]);

            assert_int_equal(to[k], used ? 0x40 + i : 0);
        }
    }
    a.head->kept.time_wait6_touched = 17;
    assert_string_equal(arena_check(a.base, a.head->bytes), "its counts are out of range");
    arena_close(&converted);
    arena_close(&a);
}

/* Caches: a damaged directory empties them, and says so; those of another build are forgotten by name, the rest comes. */
static void test_caches(void **state)
{
    static struct daemon_config config;
    struct keep_spec spec[ARENA_CACHE_TABLES], *paths, *link;
    unsigned n;
    struct arena a, converted;
    struct keep k;
    char error[CONFIG_ERROR_MAX];
    const char *why;
    uint8_t entry[256] = {1, 2, 3}, back[256];
    int owner;

    (void)state;
    small(&config);
    n = arena_cache_specs(&config.stack, spec);
    assert_int_equal(n, ARENA_CACHE_TABLES);
    paths = spec_named(spec, n, "paths");
    link = spec_named(spec, n, "link");
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    assert_ptr_equal(arena_caches(&a, &config, &why), arena_at(&a, ARENA_CACHES));
    assert_null(why);
    assert_true(keep_attach(&k, arena_at(&a, ARENA_CACHES), paths));
    keep_put(&k, keep_take(&k, &owner), entry);
    keep_detach(&k);
    /* One more table, and one whose entries mean something else. */
    link->layout ^= 4;
    keep_attach(&k, arena_at(&a, ARENA_CACHES), link);
    assert_int_equal(keep_take(&k, &owner), 0); /* whoever expects other entries does not get these */
    keep_detach(&k);
    memset(arena_at(&a, ARENA_CACHES), 0, a.head->region[ARENA_CACHES].bytes);
    keep_format(arena_at(&a, ARENA_CACHES), spec, n - 1);
    keep_attach(&k, arena_at(&a, ARENA_CACHES), paths);
    keep_put(&k, keep_take(&k, &owner), entry);
    keep_detach(&k);
    assert_string_equal(arena_check(a.base, a.head->bytes), "its caches are of another version");
    assert_int_equal(arena_could_take(a.fd, &config, error, sizeof error), 0);
    assert_int_equal(arena_take(&(struct arena_source){.fd = a.fd}, &config, &converted, error, sizeof error),
                     ARENA_CONVERTED);
    assert_null(arena_check(converted.base, converted.head->bytes));
    assert_string_equal(converted.forgotten, "link, daemon counters");
    assert_int_equal(converted.head->began_at, a.head->began_at);
    keep_attach(&k, arena_at(&converted, ARENA_CACHES), paths);
    assert_int_equal(keep_touched(&k), 1);
    assert_true(keep_get(&k, 0, back));
    assert_memory_equal(back, entry, 3);
    keep_detach(&k);
    /* A wrong bit in the directory: no reason to refuse the arena, or to convert it. */
    ((uint8_t *)arena_at(&converted, ARENA_CACHES))[30] ^= 1;
    assert_null(arena_check(converted.base, converted.head->bytes));
    assert_ptr_equal(arena_caches(&converted, &config, &why), arena_at(&converted, ARENA_CACHES));
    assert_string_equal(why, "their directory is damaged");
    keep_attach(&k, arena_at(&converted, ARENA_CACHES), paths);
    assert_int_equal(keep_touched(&k), 0);
    keep_detach(&k);
    arena_close(&converted);
    ((uint8_t *)arena_at(&a, ARENA_CACHES))[30] ^= 1;
    assert_null(arena_check(a.base, a.head->bytes));
    a.head->record_layout ^= 1; /* its records need to be converted, its caches can't be */
    arena_sign(a.head);
    assert_int_equal(arena_take(&(struct arena_source){.fd = a.fd}, &config, &converted, error, sizeof error),
                     ARENA_CONVERTED);
    assert_string_equal(converted.forgotten, "all, their directory is damaged");
    arena_close(&converted);
    arena_close(&a);
}

/* What another build may find: each is refused with a sentence that says what. */
static void test_other_builds(void **state)
{
    static struct daemon_config config;
    struct arena a, taken;
    char error[CONFIG_ERROR_MAX];
    struct {
        uint32_t *at;
        uint32_t value;
        bool summed;
        const char *says;
    } bad[8];
    size_t n = 0;

    (void)state;
    small(&config);
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    bad[n++] = (typeof(*bad)){&a.head->version, ARENA_VERSION + 1, true, "this program reads 2."};
    bad[n++] = (typeof(*bad)){&a.head->head_bytes, 8, true, "it is of version 2.8"};
    bad[n++] = (typeof(*bad)){&a.head->link_bytes, 8, true, "its entries are of another version"};
    bad[n++] = (typeof(*bad)){&a.head->config_bytes, 8, true, "its entries are of another version"};
    bad[n++] = (typeof(*bad)){&a.head->max_conns, 9999, false, "the sum of its header is wrong"};
    bad[n++] = (typeof(*bad)){&a.head->links_touched, 0x40000000, true, "its counts are out of range"};
    bad[n++] = (typeof(*bad)){&a.head->kept.records_touched, 65, true, "its counts are out of range"};
    bad[n++] = (typeof(*bad)){&a.head->config_selector, 0, true, "its configuration is damaged"};
    for (size_t i = 0; i < n; i++) {
        uint32_t was = *bad[i].at;

        *bad[i].at = bad[i].value;
        if (bad[i].summed)
            arena_sign(a.head);
        assert_int_equal(arena_could_take(a.fd, &config, error, sizeof error), -1);
        if (!strstr(error, bad[i].says))
            fail_msg("%s, not %s", error, bad[i].says);
        assert_int_equal(arena_take(&(struct arena_source){.fd = a.fd}, &config, &taken, error, sizeof error),
                         ARENA_REFUSED);
        *bad[i].at = was;
        arena_sign(a.head);
    }
    assert_int_equal(arena_take(&(struct arena_source){.fd = dup(a.fd)}, &config, &taken, error, sizeof error),
                     ARENA_ATTACHED);
    arena_close(&taken);
    arena_close(&a);
}

/* A whole configuration as text, over another one: the same again; sizes are the arena's. */
static void test_configuration_as_text(void **state)
{
    static struct daemon_config config, file, taken_config;
    static char text[CONFIG_TEXT_MAX], again[CONFIG_TEXT_MAX];
    struct arena a, taken;
    char error[CONFIG_ERROR_MAX], path[] = "/tmp/taut-arena-test-XXXXXX";
    FILE *f = fdopen(mkstemp(path), "w");
    size_t n;

    (void)state;
    assert_non_null(f);
    fputs("[interface]\nname = some%d\nmac = 02:00:00:00:00:07\nhost_address = 10.0.0.1/24, fd00::1/64\n[network]\n"
          "address = 10.0.0.2/24\naddress = fd00::2/64\nroute = default via 10.0.0.1 mtu 1400 initcwnd 20\n"
          "route = fd01::/32 via fd00::1 advmss 1200 initrwnd 30\n[tcp]\ntcp_sack = 0\n[services]\necho = off\n"
          "[forward a b]\nlisten = [fd00::2]:80\nto = unix:/run/x y\nproxy_protocol = v2\nconnect_timeout = 1500ms\n"
          "[forward c]\nlisten = 81\nto = tcp:[::1]:8080\nbacklog = 7\n[limits]\nbuffers = 4M\nmax_connections = 64\n"
          "[md5 r]\npeer = 10.0.0.0/8\nport = 179\nkey = geheim\n", f);
    assert_int_equal(fchmod(fileno(f), 0600), 0);
    fclose(f);
    assert_int_equal(config_load(path, &config, error, sizeof error), 0);
    unlink(path);
    config.md5[0].key[2] = 0; /* any bytes */
    n = config_text_write(&config, text, sizeof text);
    assert_true(n > 0);
    assert_int_equal(config_text_write(&config, again, n - 1), 0);
    config_defaults(&file);
    file.addr[0].bits = 32; /* to be replaced, not added to */
    file.n_addr = file.n_forwards = 1;
    assert_int_equal(config_text_read(text, n, &file, NULL, NULL, error, sizeof error), 0);
    assert_memory_equal(&file.tcp, &config.tcp, sizeof config.tcp);
    assert_int_equal(file.n_addr, 2);
    assert_int_equal(file.md5[0].bytes, 6);
    assert_memory_equal(file.md5[0].key, "ge\0eim", 6);
    assert_int_equal(config_text_write(&file, again, sizeof again), n);
    assert_memory_equal(text, again, n);
    for (size_t cut = 1; cut < 200; cut++)
        if (text[n - cut - 1] != '\0')
            assert_int_equal(config_text_read(text, n - cut, &file, NULL, NULL, error, sizeof error), -1);
    /* Through an arena, over a file with other sizes. */
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    config_defaults(&taken_config);
    assert_int_equal(arena_take(&(struct arena_source){.fd = dup(a.fd)}, &taken_config, &taken, error, sizeof error), 0);
    assert_int_equal(taken_config.max_conns, 64);
    assert_int_equal(taken_config.route[0].mtu, 1400);
    assert_string_equal(taken_config.path, path);
    arena_close(&taken);
    arena_close(&a);
}

static void count_unknown(void *user, const char *section, const char *key, const char *value)
{
    assert_string_equal(section, "daemon");
    assert_string_equal(key, "was_once");
    assert_string_equal(value, "1");
    ++*(int *)user;
}

static void test_other_configurations(void **state)
{
    static const char unknown[] = "daemon\0was_once\0" "1\0tcp\0tcp_sack\0" "0";
    static const char wrong[] = "tcp\0tcp_sack\0" "99";
    static struct daemon_config config;
    char error[CONFIG_ERROR_MAX];
    int n = 0;

    (void)state;
    config_defaults(&config);
    assert_int_equal(config_text_read(unknown, sizeof unknown, &config, count_unknown, &n, error, sizeof error), 0);
    assert_int_equal(n, 1);
    assert_int_equal(config.tcp.tcp_sack, 0);
    config.tcp.tcp_sack = 1;
    assert_int_equal(config_text_read(wrong, sizeof wrong, &config, NULL, NULL, error, sizeof error), -1);
    assert_non_null(strstr(error, "tcp.tcp_sack: '99' is not valid"));
    assert_int_equal(config.tcp.tcp_sack, 1);
}

static void test_configuration(void **state)
{
    static struct daemon_config config, read_back;
    struct arena a;
    char error[CONFIG_ERROR_MAX];

    (void)state;
    small(&config);
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    config.n_forwards = 3;
    snprintf(config.forward[2].name, sizeof config.forward[2].name, "later");
    arena_put_config(&a, &config);
    assert_true(arena_get_config(&a, &read_back));
    assert_int_equal(read_back.n_forwards, 3);
    assert_string_equal(read_back.forward[2].name, "later");
    ((uint8_t *)arena_at(&a, ARENA_CONFIG))[a.head->config_bytes - 100] ^= 1;
    ((uint8_t *)arena_at(&a, ARENA_CONFIG))[2 * a.head->config_bytes - 100] ^= 1;
    assert_false(arena_get_config(&a, &read_back));
    arena_close(&a);
}

static void test_links(void **state)
{
    static struct daemon_config config;
    struct arena a;
    struct daemon d = {.arena = &a};
    char error[CONFIG_ERROR_MAX];
    struct link_slot *l[3], fields = {.fd = 9, .program_fd = -1, .conn = 77};

    (void)state;
    small(&config);
    assert_int_equal(arena_create(&config, &a, error, sizeof error), 0);
    assert_int_equal(arena_links_restored(&a), 0);
    for (int i = 0; i < 3; i++)
        assert_non_null(l[i] = link_new(&d, LINK_FORWARD, &fields));
    link_free(&d, l[1]);
    /* Another process: the middle one is free, the others are as they were. */
    free(a.free_links);
    a.free_links = NULL;
    assert_int_equal(arena_links_restored(&a), 0);
    assert_int_equal(l[0]->conn, 77);
    assert_ptr_equal(link_new(&d, LINK_PROGRAM, &fields), l[1]);
    while (link_new(&d, LINK_PROGRAM, &fields))
        ;
    assert_int_equal(a.head->links_touched, a.head->n_links); /* full: refused, not overrun */
    arena_close(&a);
}

/* ---- Witnesses: a child moves bytes of a pattern and is killed, again and again ------------------------------------ */

struct shared {
    struct witness w;
    uint8_t buf[1 << 16];
    volatile uint64_t bad;
};

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)((at * 2654435761ull) >> 24 ^ at >> 3);
}

static uint64_t position(const struct witness *w)
{
    uint64_t at = 0;
    uint32_t n = 0;

    witness_last(w, &at, &n);
    return at + n;
}

static void move(struct shared *s, int fd, bool out)
{
    unsigned seed = (unsigned)getpid();

    for (;;) {
        uint64_t at = position(&s->w);
        struct iovec iov = {.iov_base = s->buf, .iov_len = 1 + (size_t)rand_r(&seed) % sizeof s->buf};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        struct pollfd p = {.fd = fd, .events = out ? POLLOUT : POLLIN};
        ssize_t r;

        for (size_t i = 0; out && i < iov.iov_len; i++)
            s->buf[i] = pattern(at + i);
        r = out ? witness_send(&s->w, fd, &msg, at) : witness_recv(&s->w, fd, &msg, at);
        for (ssize_t i = 0; !out && i < r; i++)
            s->bad += s->buf[i] != pattern(at + (uint64_t)i);
        if (r <= 0)
            poll(&p, 1, 1000);
    }
}

struct other {
    int fd;
    bool writes;
    uint64_t bad;
};

static void *other_end(void *arg)
{
    struct other *o = arg;
    static uint8_t b[70000];
    uint64_t at = 0;
    unsigned seed = 7;

    for (;;) {
        size_t n = 1 + (size_t)rand_r(&seed) % 60000;
        ssize_t r;

        for (size_t i = 0; o->writes && i < n; i++)
            b[i] = pattern(at + i);
        r = o->writes ? write(o->fd, b, n) : read(o->fd, b, n);
        if (r <= 0)
            return NULL;
        for (ssize_t i = 0; !o->writes && i < r; i++)
            o->bad += b[i] != pattern(at + (uint64_t)i);
        at += (uint64_t)r;
    }
}

static void kills(bool out)
{
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct other o = {.writes = !out};
    pthread_t thread;
    unsigned seed = out;
    int fd[2];

    assert_true(s != MAP_FAILED);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    o.fd = fd[1];
    pthread_create(&thread, NULL, other_end, &o);
    for (int k = 0; k < 200; k++) {
        struct timespec ts = {.tv_nsec = rand_r(&seed) % 800000};
        pid_t pid = fork();

        if (pid == 0)
            move(s, fd[0], out);
        nanosleep(&ts, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    shutdown(fd[0], SHUT_RDWR);
    pthread_join(thread, NULL);
    print_message("%llu bytes\n", (unsigned long long)position(&s->w));
    assert_true(position(&s->w) > 0);
    assert_int_equal(s->bad + o.bad, 0);
    munmap(s, sizeof *s);
    close(fd[0]);
    close(fd[1]);
}

static void test_witness_of_receiving(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    kills(false);
}

static void test_witness_of_sending(void **state)
{
    (void)state;
    kills(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_caches), cmocka_unit_test(test_entries),
        cmocka_unit_test(test_other_builds),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_configuration_as_text),
        cmocka_unit_test(test_other_configurations),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_witness_of_receiving),
        cmocka_unit_test(test_witness_of_sending),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
