/*
 * What the socket tests share: a fake engine, two addresses of each family that are ours, a router that can be told to
 * refuse, and short names.
 */
#ifndef TAUT_TEST_SOCK_ENV_H
#define TAUT_TEST_SOCK_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "fake_tcp.h"
#include "sock/sock_priv.h"

#define SEED 20240607u

struct env {
    struct tcp *tcp;
    struct tcp_config config;
    struct socks *ss;
    int route_result;
    struct ip_addr route_dst, route_src;
};

static inline struct ip_addr addr_of(const char *text)
{
    struct ip_addr a = {.family = IP_NONE};

    if (strcmp(text, "") != 0 && !ip_addr_parse(text, &a))
        fail_msg("bad address %s", text);
    return a;
}

static inline bool env_is_local(void *ctx, const struct ip_addr *addr)
{
    static const char *const ours[] = {"10.0.0.1", "10.0.0.2", "127.0.0.1", "2001:db8::1", "fe80::1%1", "::1"};

    (void)ctx;
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        struct ip_addr a = addr_of(ours[i]);

        if (ip_addr_eq(&a, addr))
            return true;
    }
    return false;
}

static inline int env_route(void *ctx, const struct ip_addr *dst, struct ip_addr *inout_src, struct tcp_path *ret)
{
    struct env *e = ctx;

    e->route_dst = *dst;
    if (e->route_result)
        return e->route_result;
    if (inout_src->family == IP_NONE)
        *inout_src = addr_of(dst->family == IP_V4 ? "10.0.0.1" : "2001:db8::1");
    e->route_src = *inout_src;
    ret->mtu = 1500;
    return 0;
}

static inline void env_init(struct env *e)
{
    memset(e, 0, sizeof *e);
    e->tcp = calloc(1, sizeof *e->tcp);
#define X(name, def, min, max, unit, scope, help) e->config.name = def;
    TCP_CONFIG(X)
#undef X
    struct socks_params p = {.tcp = e->tcp, .config = &e->config,
                             .net = {.ctx = e, .route = env_route, .is_local = env_is_local},
                             .port_key = {1, 2}, .rng_seed = SEED};
    e->ss = socks_create(&p);
}

static inline void env_free(struct env *e)
{
    socks_destroy(e->ss);
    free(e->tcp);
}

static inline struct sock *bound(struct env *e, const char *addr, uint16_t port, bool reuse, int *ret)
{
    struct ip_addr a = addr_of(addr);
    struct sock *s = sock_new(e->ss, a.family == IP_V6 ? IP_V6 : IP_V4, NULL);
    int32_t on = reuse;

    sock_setopt(s, SOCK_LEVEL_SOCKET, SOCK_SO_REUSEADDR, &on, sizeof on, 0);
    *ret = sock_bind(s, &a, port);
    return s;
}

/* A socket whose connect() to 10.0.0.9:80 is under way. */
static inline struct sock *connecting(struct env *e)
{
    struct sock *s = sock_new(e->ss, IP_V4, NULL);
    struct ip_addr a = addr_of("10.0.0.9");

    assert_int_equal(sock_connect(s, &a, 80, 0), -EINPROGRESS);
    return s;
}

static inline struct sock *established(struct env *e)
{
    struct sock *s = connecting(e);

    fake_establish(e->tcp, sock_conn_id(s));
    socks_drain(e->ss);
    return s;
}

#endif
