/*
 * setsockopt and getsockopt: ranges, units and errno by table; options kept until there is a connection, inherited by
 * accepted sockets; TCP_INFO byte by byte at Linux's offsets.
 */
#include "env.h"

enum { S = SOCK_LEVEL_SOCKET, T = SOCK_LEVEL_TCP, I4 = SOCK_LEVEL_IP, I6 = SOCK_LEVEL_IPV6 };

/* The family counts: 46 is an IPv6 socket. */
static const struct {
    enum ip_family family;
    int level, name;
    int32_t value;
    int result;
    int32_t reads; /* by getsockopt after it */
} sets[] = {
    {IP_V4, S, SOCK_SO_KEEPALIVE, 5, 0, 1},
    {IP_V4, S, SOCK_SO_REUSEADDR, 2, 0, 1},
    {IP_V4, S, SOCK_SO_REUSEPORT, 1, -ENOPROTOOPT, 0},
    {IP_V4, S, SOCK_SO_SNDBUF, 10000, 0, 20000},
    {IP_V4, S, SOCK_SO_SNDBUF, 1, 0, 4608},
    {IP_V4, S, SOCK_SO_SNDBUF, 0x7fffffff, 0, 2 * 4194304},
    {IP_V4, S, SOCK_SO_SNDBUF, -1, 0, 2 * 4194304},
    {IP_V4, S, SOCK_SO_RCVBUF, 10000, 0, 20000},
    {IP_V4, S, SOCK_SO_RCVBUF, 0, 0, 2304},
    {IP_V4, S, SOCK_SO_RCVBUF, 0x7fffffff, 0, 2 * 6291456},
    {IP_V4, S, SOCK_SO_TYPE, 1, -ENOPROTOOPT, 1},
    {IP_V4, S, SOCK_SO_PROTOCOL, 1, -ENOPROTOOPT, 6},
    {IP_V4, S, SOCK_SO_DOMAIN, 1, -ENOPROTOOPT, 2},
    {IP_V6, S, SOCK_SO_DOMAIN, 1, -ENOPROTOOPT, 10},
    {IP_V4, S, SOCK_SO_ACCEPTCONN, 1, -ENOPROTOOPT, 0},
    {IP_V4, S, SOCK_SO_ERROR, 1, -ENOPROTOOPT, 0},
    {IP_V4, T, SOCK_TCP_NODELAY, 1, 0, 1},
    {IP_V4, T, SOCK_TCP_CORK, 1, 0, 1},
    {IP_V4, T, SOCK_TCP_QUICKACK, 0, 0, 0},
    {IP_V4, T, SOCK_TCP_KEEPIDLE, 0, -EINVAL, 7200},
    {IP_V4, T, SOCK_TCP_KEEPIDLE, 32767, 0, 32767},
    {IP_V4, T, SOCK_TCP_KEEPIDLE, 32768, -EINVAL, 7200},
    {IP_V4, T, SOCK_TCP_KEEPINTVL, 0, -EINVAL, 75},
    {IP_V4, T, SOCK_TCP_KEEPINTVL, 1, 0, 1},
    {IP_V4, T, SOCK_TCP_KEEPCNT, 127, 0, 127},
    {IP_V4, T, SOCK_TCP_KEEPCNT, 128, -EINVAL, 9},
    {IP_V4, T, SOCK_TCP_SYNCNT, 0, -EINVAL, 6},
    {IP_V4, T, SOCK_TCP_SYNCNT, 127, 0, 127},
    {IP_V4, T, SOCK_TCP_SYNCNT, 128, -EINVAL, 6},
    {IP_V4, T, SOCK_TCP_LINGER2, -5, 0, -1},
    {IP_V4, T, SOCK_TCP_LINGER2, 0, 0, 60},
    {IP_V4, T, SOCK_TCP_LINGER2, 1000, 0, 120},
    {IP_V4, T, SOCK_TCP_USER_TIMEOUT, -1, -EINVAL, 0},
    {IP_V4, T, SOCK_TCP_USER_TIMEOUT, 30000, 0, 30000},
    {IP_V4, T, SOCK_TCP_NOTSENT_LOWAT, 16384, 0, 16384},
    {IP_V4, T, SOCK_TCP_NOTSENT_LOWAT, -1, 0, -1}, /* 4294967295 */
    {IP_V4, T, SOCK_TCP_MAXSEG, 87, -EINVAL, 536},
    {IP_V4, T, SOCK_TCP_MAXSEG, 88, 0, 88},
    {IP_V4, T, SOCK_TCP_MAXSEG, 32768, -EINVAL, 536},
    {IP_V4, T, SOCK_TCP_MAXSEG, 0, 0, 536},
    {IP_V4, T, SOCK_TCP_WINDOW_CLAMP, 1, 0, 1152},
    {IP_V4, T, SOCK_TCP_WINDOW_CLAMP, 0, 0, 0},
    {IP_V4, T, 99, 1, -ENOPROTOOPT, -1},
    {IP_V4, I4, SOCK_IP_TOS, 0x2b, 0, 0x28},
    {IP_V4, I6, SOCK_IPV6_TCLASS, 0x28, -ENOPROTOOPT, -1},
    {IP_V4, I6, SOCK_IPV6_V6ONLY, 1, -ENOPROTOOPT, -1},
    {IP_V6, I6, SOCK_IPV6_V6ONLY, 7, 0, 1},
    {IP_V6, I6, SOCK_IPV6_TCLASS, 0x2b, 0, 0x28},
    {IP_V6, I6, SOCK_IPV6_TCLASS, -1, 0, 0},
    {IP_V6, I6, SOCK_IPV6_TCLASS, 256, -EINVAL, 0},
    {IP_V6, I4, SOCK_IP_TOS, 0x28, 0, 0x28},
    {IP_V4, 17, 1, 1, -ENOPROTOOPT, -1},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        size_t bytes = sizeof(int32_t);
        int32_t v = -1;
        struct sock *s;
        struct env e;
        int r;

        env_init(&e);
        s = sock_new(e.ss, sets[i].family, NULL);
        r = sock_setopt(s, sets[i].level, sets[i].name, &sets[i].value, sizeof(int32_t), 0);
        if (r != sets[i].result)
            fail_msg("row %zu: set: %d", i, r);
        r = sock_getopt(s, sets[i].level, sets[i].name, &v, &bytes, 0);
        if (v != sets[i].reads || r != (v == -1 && sets[i].result ? -ENOPROTOOPT : 0))
            fail_msg("row %zu: get: %d, %d", i, r, v);
        if (r == 0) /* too short */
            assert_int_equal(sock_setopt(s, sets[i].level, sets[i].name, &v, 0, 0), -EINVAL);
        sock_close(s, 0);
        env_free(&e);
    }
}

static void set_int(struct sock *s, int level, int name, int32_t v)
{
    assert_int_equal(sock_setopt(s, level, name, &v, sizeof v, 0), 0);
}

static int32_t get_int(struct sock *s, int level, int name)
{
    size_t bytes = sizeof(int32_t);
    int32_t v;

    assert_int_equal(sock_getopt(s, level, name, &v, &bytes, 0), 0);
    assert_int_equal(bytes, 4);
    return v;
}

/* Set before connect, given to the connection; set after it, passed on at once. */
static void test_kept(void **state)
{
    struct ip_addr to = addr_of("10.0.0.9");
    const struct fake_conn *c;
    struct sock *s;
    struct env e;

    (void)state;
    env_init(&e);
    s = sock_new(e.ss, IP_V4, NULL);
    set_int(s, T, SOCK_TCP_NODELAY, 1);
    set_int(s, T, SOCK_TCP_MAXSEG, 1000);
    set_int(s, S, SOCK_SO_RCVBUF, 5000);
    set_int(s, I4, SOCK_IP_TOS, 0x10);
    sock_connect(s, &to, 80, 0);
    c = fake_conn(e.tcp, sock_conn_id(s));
    assert_int_equal(c->opt_calls, 1u << TCP_OPT_NODELAY | 1u << TCP_OPT_MAXSEG | 1u << TCP_OPT_RCVBUF | 1u << TCP_OPT_TOS);
    assert_int_equal(c->opt[TCP_OPT_NODELAY], 1);
    assert_int_equal(c->opt[TCP_OPT_MAXSEG], 1000);
    assert_int_equal(c->opt[TCP_OPT_RCVBUF], 5000);
    assert_int_equal(c->opt[TCP_OPT_TOS], 0x10);
    set_int(s, T, SOCK_TCP_NODELAY, 0);
    set_int(s, T, SOCK_TCP_KEEPCNT, 3);
    assert_int_equal(c->opt[TCP_OPT_NODELAY], 0);
    assert_int_equal(c->opt[TCP_OPT_KEEPCNT], 3);
    assert_int_equal(get_int(s, T, SOCK_TCP_MAXSEG), 1448); /* mss_cache */
    fake_conn(e.tcp, sock_conn_id(s))->opt[TCP_OPT_SNDBUF] = 777; /* autotuned */
    assert_int_equal(get_int(s, S, SOCK_SO_SNDBUF), 777);
    assert_int_equal(sock_setopt(s, T, SOCK_TCP_WINDOW_CLAMP, &(int32_t){0}, 4, 0), -EINVAL);
    sock_close(s, 0);
    env_free(&e);
}

static void test_inherited(void **state)
{
    struct ip_tuple t4 = {addr_of("10.0.0.1"), addr_of("10.0.0.9"), 80, 9};
    struct ip_tuple t6 = {addr_of("2001:db8::1"), addr_of("2001:db8::9"), 80, 9};
    struct ip_addr any = addr_of("::");
    int32_t linger[2] = {1, 0};
    struct sock *l, *c;
    struct env e;

    (void)state;
    env_init(&e);
    l = sock_new(e.ss, IP_V6, NULL);
    set_int(l, T, SOCK_TCP_MAXSEG, 500);
    set_int(l, S, SOCK_SO_REUSEADDR, 1);
    sock_bind(l, &any, 80);
    assert_int_equal(sock_setopt(l, I6, SOCK_IPV6_V6ONLY, linger, 4, 0), -EINVAL); /* bound */
    sock_listen(l, 5);
    assert_int_equal(e.tcp->listener[0].opt[TCP_OPT_MAXSEG], 500);
    set_int(l, S, SOCK_SO_RCVBUF, 8000);
    assert_int_equal(e.tcp->listener[0].opt[TCP_OPT_RCVBUF], 8000);
    set_int(l, S, SOCK_SO_KEEPALIVE, 1);
    set_int(l, I4, SOCK_IP_TOS, 0x10);
    set_int(l, I6, SOCK_IPV6_TCLASS, 0x20);
    sock_setopt(l, S, SOCK_SO_LINGER, linger, sizeof linger, 0);
    assert_int_equal(get_int(l, S, SOCK_SO_ACCEPTCONN), 1);
    fake_accept(e.tcp, l->more->listener, &t4);
    fake_accept(e.tcp, l->more->listener, &t6);
    c = sock_accept(l, NULL);
    assert_int_equal(fake_conn(e.tcp, sock_conn_id(c))->opt[TCP_OPT_KEEPALIVE], 1);
    assert_int_equal(fake_conn(e.tcp, sock_conn_id(c))->opt[TCP_OPT_TOS], 0x10);
    assert_int_equal(get_int(c, S, SOCK_SO_KEEPALIVE), 1);
    assert_int_equal(get_int(c, S, SOCK_SO_REUSEADDR), 1);
    assert_int_equal(get_int(c, S, SOCK_SO_ACCEPTCONN), 0);
    sock_close(c, 0);
    assert_int_equal(e.tcp->aborts, 1); /* SO_LINGER came along */
    c = sock_accept(l, NULL);
    assert_int_equal(fake_conn(e.tcp, sock_conn_id(c))->opt[TCP_OPT_TOS], 0x20);
    sock_close(c, 0);
    sock_close(l, 0);
    env_free(&e);
}

static void test_odd_sizes(void **state)
{
    uint8_t raw[8] = {0};
    int32_t linger[2];
    size_t bytes;
    struct sock *s;
    struct env e;

    (void)state;
    env_init(&e);
    s = sock_new(e.ss, IP_V4, NULL);
    raw[0] = 0x20;
    assert_int_equal(sock_setopt(s, I4, SOCK_IP_TOS, raw, 1, 0), 0); /* one byte will do */
    assert_int_equal(get_int(s, I4, SOCK_IP_TOS), 0x20);
    assert_int_equal(sock_setopt(s, S, SOCK_SO_LINGER, raw, 4, 0), -EINVAL);
    assert_int_equal(sock_setopt(s, S, SOCK_SO_LINGER, (int32_t[]){1, 7}, 8, 0), 0);
    bytes = 100;
    assert_int_equal(sock_getopt(s, S, SOCK_SO_LINGER, linger, &bytes, 0), 0);
    assert_int_equal(bytes, 8);
    assert_int_equal(linger[0], 1);
    assert_int_equal(linger[1], 7);
    bytes = 2; /* truncated, as Linux does */
    assert_int_equal(sock_getopt(s, S, SOCK_SO_TYPE, raw, &bytes, 0), 0);
    assert_int_equal(bytes, 2);
    sock_close(s, 0);
    env_free(&e);
}

static void test_congestion(void **state)
{
    char name[32];
    size_t bytes = sizeof name;
    struct sock *s;
    struct env e;

    (void)state;
    env_init(&e);
    s = sock_new(e.ss, IP_V4, NULL);
    assert_int_equal(sock_getopt(s, T, SOCK_TCP_CONGESTION, name, &bytes, 0), 0);
    assert_int_equal(bytes, 16);
    assert_string_equal(name, "cubic"); /* of the configuration */
    assert_int_equal(sock_setopt(s, T, SOCK_TCP_CONGESTION, "reno", 4, 0), 0);
    assert_int_equal(sock_getopt(s, T, SOCK_TCP_CONGESTION, name, &bytes, 0), 0);
    assert_string_equal(name, "reno");
    assert_int_equal(sock_setopt(s, T, SOCK_TCP_CONGESTION, "dctcp\0x", 7, 0), 0);
    assert_int_equal(sock_getopt(s, T, SOCK_TCP_CONGESTION, name, &bytes, 0), 0);
    assert_string_equal(name, "dctcp");
    assert_int_equal(sock_setopt(s, T, SOCK_TCP_CONGESTION, "ren", 3, 0), -ENOENT);
    assert_int_equal(sock_setopt(s, T, SOCK_TCP_CONGESTION, "vegas", 5, 0), -ENOENT);
    assert_int_equal(sock_setopt(s, T, SOCK_TCP_CONGESTION, "", 0, 0), -EINVAL);
    sock_close(s, 0);
    env_free(&e);
}

static const struct {
    unsigned offset, size;
    uint64_t value;
} info_table[] = {
    {0, 1, TCP_STATE_ESTABLISHED}, {1, 1, 101}, {2, 1, 102}, {3, 1, 103}, {4, 1, 104}, {5, 1, 105},
    {6, 1, 7 | 9 << 4}, {7, 1, 1 | 2 << 1}, {8, 4, 8}, {12, 4, 12}, {16, 4, 1448}, {20, 4, 20}, {24, 4, 24},
    {28, 4, 28}, {32, 4, 32}, {36, 4, 36}, {40, 4, 0}, {44, 4, 44}, {48, 4, 0}, {52, 4, 52}, {56, 4, 56}, {60, 4, 60},
    {64, 4, 64}, {68, 4, 68}, {72, 4, 72}, {76, 4, 76}, {80, 4, 80}, {84, 4, 84}, {88, 4, 88}, {92, 4, 92},
    {96, 4, 96}, {100, 4, 100}, {104, 8, 0x104000000000}, {112, 8, 0x112000000000}, {120, 8, 0x120000000000},
    {128, 8, 0x128000000000}, {136, 4, 136}, {140, 4, 140}, {144, 4, 144}, {148, 4, 148}, {152, 4, 152},
    {156, 4, 156}, {160, 8, 0x160000000000}, {168, 8, 0x168000000000}, {176, 8, 0x176000000000},
    {184, 8, 0x184000000000}, {192, 4, 192}, {196, 4, 196}, {200, 8, 0x200000000000}, {208, 8, 0x208000000000},
    {216, 4, 216}, {220, 4, 220}, {224, 4, 224}, {228, 4, 228}, {232, 4, 232}, {236, 4, 236}, {240, 2, 240},
    {242, 2, 242}, {244, 4, 244},
};

static void test_tcp_info(void **state)
{
    uint8_t raw[300];
    size_t bytes = sizeof raw;
    struct sock *s, *l;
    struct env e;

    (void)state;
    env_init(&e);
    s = established(&e);
    assert_int_equal(sock_getopt(s, T, SOCK_TCP_INFO, raw, &bytes, 0), 0);
    assert_int_equal(bytes, 248);
    for (size_t i = 0; i < sizeof info_table / sizeof info_table[0]; i++) {
        uint64_t v = 0;

        memcpy(&v, raw + info_table[i].offset, info_table[i].size); /* little-endian hosts */
        if (v != info_table[i].value)
            fail_msg("offset %u: %llu", info_table[i].offset, (unsigned long long)v);
    }
    memset(raw, 0xee, sizeof raw);
    bytes = 104; /* an old program's struct */
    sock_getopt(s, T, SOCK_TCP_INFO, raw, &bytes, 0);
    assert_int_equal(bytes, 104);
    assert_int_equal(raw[104], 0xee);
    sock_close(s, 0);
    l = sock_new(e.ss, IP_V4, NULL);
    bytes = sizeof raw;
    sock_getopt(l, T, SOCK_TCP_INFO, raw, &bytes, 0);
    assert_int_equal(raw[0], TCP_STATE_CLOSE);
    sock_listen(l, 12);
    sock_getopt(l, T, SOCK_TCP_INFO, raw, &bytes, 0);
    assert_int_equal(raw[0], TCP_STATE_LISTEN);
    assert_int_equal(raw[24], 3);  /* accept queue */
    assert_int_equal(raw[28], 12); /* backlog */
    sock_close(l, 0);
    env_free(&e);
}

/* Linux's struct tcp_md5sig for `text`. */
static int set_md5(struct sock *s, int name, const char *text, int flags, int prefix, const char *key)
{
    uint8_t raw[216] = {0};
    struct ip_addr a;
    uint16_t family, n = (uint16_t)strlen(key);

    assert_true(ip_addr_parse(text, &a));
    family = a.family == IP_V4 ? 2 : 10;
    memcpy(raw, &family, 2);
    memcpy(raw + (a.family == IP_V4 ? 4 : 8), a.b, a.family == IP_V4 ? 4 : 16);
    raw[128] = (uint8_t)flags;
    raw[129] = (uint8_t)prefix;
    memcpy(raw + 130, &n, 2);
    memcpy(raw + 136, key, n < 80 ? n : 80);
    return sock_setopt(s, T, name, raw, sizeof raw, 0);
}

/* Every refusal is one of tcp_v4_parse_md5_keys() or tcp_v6_parse_md5_keys(). */
static void test_md5_refused(void **state)
{
    static const char long_key[] = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901";
    uint8_t raw[216] = {2};
    struct env e;
    struct sock *s, *s6;

    (void)state;
    env_init(&e);
    s = sock_new(e.ss, IP_V4, NULL);
    s6 = sock_new(e.ss, IP_V6, NULL);
    assert_int_equal(sock_setopt(s, T, SOCK_TCP_MD5SIG, raw, 215, 0), -EINVAL);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "2001:db8::1", 0, 0, "k"), -EINVAL);
    assert_int_equal(set_md5(s6, SOCK_TCP_MD5SIG, "192.0.2.1", 0, 0, "k"), -EINVAL);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "192.0.2.1", 0, 0, ""), -ENOENT);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "192.0.2.1", 0, 0, long_key), -EINVAL);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG_EXT, "192.0.2.1", 1, 33, "k"), -EINVAL);
    assert_int_equal(set_md5(s6, SOCK_TCP_MD5SIG_EXT, "2001:db8::1", 1, 129, "k"), -EINVAL);
    assert_int_equal(set_md5(s6, SOCK_TCP_MD5SIG_EXT, "::ffff:192.0.2.1", 1, 33, "k"), -EINVAL);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG_EXT, "192.0.2.1", 2, 0, "k"), -EINVAL); /* an interface */
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "192.0.2.1", 1, 33, "k"), 0); /* flags are EXT's */
    e.tcp->no_md5 = true;
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "192.0.2.1", 0, 0, "k"), -ENOPROTOOPT);
    assert_int_equal(e.tcp->n_md5, 0);
    sock_close(s, 0);
    sock_close(s6, 0);
    env_free(&e);
}

/* Kept until there is something to give them to: all to a listener, to a connection what holds its peer. */
static void test_md5_kept(void **state)
{
    struct ip_addr peer = ip_addr_v4(192, 0, 2, 1);
    struct env e;
    struct sock *s, *l;

    (void)state;
    env_init(&e);
    s = sock_new(e.ss, IP_V6, NULL);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "::ffff:192.0.2.1", 0, 0, "mapped"), 0);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "2001:db8::1", 0, 0, "other"), 0);
    peer = ip_addr_v6_bytes((const uint8_t[16]){[10] = 0xff, 0xff, 192, 0, 2, 1}, 0);
    assert_int_equal(sock_connect(s, &peer, 179, 0), -EINPROGRESS);
    assert_int_equal(e.tcp->n_md5, 1);
    assert_int_equal(e.tcp->md5_conn, sock_conn_id(s));
    assert_int_equal(e.tcp->md5.addr.family, IP_V4);
    assert_int_equal(e.tcp->md5.prefix, 32);
    assert_int_equal(e.tcp->md5.bytes, 6);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "2001:db8::1", 0, 0, ""), 0); /* the connection's are left alone */
    assert_int_equal(e.tcp->n_md5, 1);
    assert_int_equal(set_md5(s, SOCK_TCP_MD5SIG, "::ffff:192.0.2.1", 0, 0, ""), 0);
    assert_int_equal(e.tcp->n_md5, 2);
    assert_int_equal(e.tcp->md5.bytes, 0);
    sock_close(s, 0);

    l = sock_new(e.ss, IP_V4, NULL);
    assert_int_equal(set_md5(l, SOCK_TCP_MD5SIG_EXT, "192.0.2.0", 1, 24, "net"), 0);
    assert_int_equal(set_md5(l, SOCK_TCP_MD5SIG, "192.0.2.9", 0, 0, "host"), 0);
    assert_int_equal(set_md5(l, SOCK_TCP_MD5SIG, "192.0.2.9", 0, 0, "host again"), 0);
    assert_int_equal(sock_listen(l, 1), 0);
    assert_int_equal(e.tcp->n_md5, 4);
    assert_int_equal(e.tcp->md5_listener, 1);
    assert_int_equal(e.tcp->md5.bytes, 10);
    sock_close(l, 0);

    e.tcp->md5_result = -ENOMEM; /* no listener without its keys */
    l = sock_new(e.ss, IP_V4, NULL);
    assert_int_equal(set_md5(l, SOCK_TCP_MD5SIG, "192.0.2.9", 0, 0, "host"), 0);
    assert_int_equal(sock_listen(l, 1), -ENOMEM);
    sock_close(l, 0);
    env_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),     cmocka_unit_test(test_kept),       cmocka_unit_test(test_inherited),
        cmocka_unit_test(test_odd_sizes), cmocka_unit_test(test_congestion), cmocka_unit_test(test_tcp_info),
        cmocka_unit_test(test_md5_refused), cmocka_unit_test(test_md5_kept),
    };

    printf("seed %u\n", SEED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
