/*
 * See env.h. Nothing here knows what a right answer is; tests do.
 */
#include "coverage_stack.h"
#include "env.h"

const struct eth_addr mac_us = {{2, 0, 0, 0, 0, 1}}, mac_peer = {{2, 0, 0, 0, 0, 2}},
                      mac_router = {{2, 0, 0, 0, 0, 254}};
const struct ip_addr any6 = {.family = IP_V6};

struct ip_addr ip(const char *text)
{
    struct ip_addr a;

    if (!ip_addr_parse(text, &a))
        fail_msg("bad address %s", text);
    return a.family == IP_V6 ? ip_addr_v6_bytes(a.b, 1) : a;
}

struct env_before env_before;

static void log_write(void *user, enum log_level level, const char *text)
{
    struct env *e = user;

    (void)level;
    (void)text;
    e->logged++;
}

struct env *env_bare(const struct stack_config *config, const uint8_t mac[6], uint16_t mtu)
{
    struct env *e = calloc(1, sizeof *e);
    struct stack_params p = {
        .max_conns = 64, .max_half_open = 64, .max_time_wait = 64, .generation = 1, .ifindex = 1};
    size_t arena = 128 * CHUNK_BIG_BYTES;

    e->now = env_before.now ? env_before.now : SEC;
    p.keep = env_before.keep;
    p.resumed = env_before.resumed;
    e->mtu = mtu;
    stack_config_defaults(&e->config);
    tcp_config_defaults(&e->tcp_config);
    if (config)
        e->config = *config;
    e->arena = aligned_alloc(4096, arena);
    e->pool = chunk_pool_create(e->arena, arena);
    e->log = (struct log_sink){.write = log_write, .user = e, .level = LOG_LVL_DEBUG};
    memcpy(e->mac, mac, 6);
    memcpy(p.mac, mac, 6);
    p.mtu = mtu;
    p.config = &e->config;
    p.tcp_config = &e->tcp_config;
    p.pool = e->pool;
    p.log = &e->log;
    p.now = e->now;
    p.secrets.rng_seed = 42 + mac[5];
    p.secrets.hash.k0 = 7;
    p.secrets.isn.k0 = mac[5];
    p.check = true;
    e->st = stack_create(&p);
    assert_non_null(e->st);
    return e;
}

struct env *env_new(void)
{
    struct env *e = env_bare(NULL, mac_us.b, 1500);
    struct ip_addr a = ip("192.0.2.1");
    struct stack_route r = {.prefix = ip("0.0.0.0"), .gateway = ip("192.0.2.254")};

    assert_int_equal(stack_addr_add(e->st, &a, 24, e->now), 0);
    assert_int_equal(stack_route_add(e->st, &r, e->now), 0);
    env_sleep(e, 20 * SEC);
    env_forget(e);
    return e;
}

void env_forget(struct env *e)
{
    struct stack_event ev;

    for (unsigned i = 0; i < e->n_out; i++)
        free(e->out[i].bytes);
    e->n_out = e->seen = 0;
    while (stack_next_event(e->st, &ev))
        ;
}

void env_free(struct env *e)
{
    env_forget(e);
    coverage_stack(e->st);
    stack_destroy(e->st);
    chunk_pool_destroy(e->pool);
    free(e->arena);
    free(e);
}

void env_in(struct env *e, const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1); /* its own block: a read behind it is seen */
    struct stack_rx rx = {.slice = {{.data = copy, .len = (uint32_t)n}}, .n_slices = 1};

    memcpy(copy, bytes, n);
    stack_input(e->st, &rx, e->now);
    free(copy);
    env_pull(e);
}

void env_in_sliced(struct env *e, const uint8_t *bytes, size_t n, size_t first, size_t piece)
{
    struct stack_rx rx = {0};
    uint8_t *copy[STACK_RX_SLICES_MAX];

    for (size_t at = 0; at < n;) {
        size_t len = rx.n_slices ? piece : first;

        len = len < n - at ? len : n - at;
        assert_true(rx.n_slices < STACK_RX_SLICES_MAX);
        copy[rx.n_slices] = malloc(len);
        memcpy(copy[rx.n_slices], bytes + at, len);
        rx.slice[rx.n_slices] = (struct tcp_slice){.data = copy[rx.n_slices], .len = (uint32_t)len};
        rx.n_slices++;
        at += len;
    }
    stack_input(e->st, &rx, e->now);
    for (unsigned i = 0; i < rx.n_slices; i++)
        free(copy[i]);
    env_pull(e);
}

static void keep_frame(struct env *e, const struct stack_tx *tx)
{
    struct frame *f = &e->out[e->n_out];
    size_t at = tx->header_bytes;

    assert_true(e->n_out < FRAMES_MAX);
    f->bytes = malloc(tx->frame_bytes);
    f->at = e->now;
    f->n = tx->frame_bytes;
    f->is_tcp = tx->is_tcp;
    memcpy(f->bytes, tx->header, tx->header_bytes);
    for (unsigned i = 0; i < tx->n_slices; i++) {
        memcpy(f->bytes + at, tx->slice[i].data, tx->slice[i].len);
        at += tx->slice[i].len;
    }
    assert_int_equal(at, tx->frame_bytes);
    e->n_out++;
}

void env_pull(struct env *e)
{
    struct stack_tx tx;

    stack_commit(e->st, e->now);
    while (stack_output(e->st, e->now, &tx))
        keep_frame(e, &tx);
    /* After an input timers may be due already; the shell calls expire then. */
    for (int i = 0; stack_deadline(e->st) <= e->now; i++) {
        assert_true(i < 100);
        stack_expire(e->st, e->now);
        stack_commit(e->st, e->now);
        while (stack_output(e->st, e->now, &tx))
            keep_frame(e, &tx);
    }
    assert_true(stack_deadline(e->st) > e->now);
}

void env_run(struct env *e, uint64_t until)
{
    uint64_t at;

    env_pull(e);
    while ((at = stack_deadline(e->st)) <= until) {
        struct stack_tx tx;

        if (at > e->now + 1) { /* nothing happens before the deadline */
            stack_expire(e->st, at - 1);
            assert_false(stack_output(e->st, at - 1, &tx));
            assert_true(stack_deadline(e->st) == at);
        }
        e->now = at;
        stack_expire(e->st, e->now);
        env_pull(e);
    }
    e->now = until;
}

void env_sleep(struct env *e, uint64_t ns)
{
    env_run(e, e->now + ns);
}

const struct frame *env_next(struct env *e)
{
    return e->seen < e->n_out ? &e->out[e->seen++] : NULL;
}

const struct frame *env_next_type(struct env *e, uint16_t type)
{
    const struct frame *f;

    while ((f = env_next(e)) != NULL)
        if (get_be16(f->bytes + 12) == type)
            return f;
    return NULL;
}

const struct frame *env_next_icmp6(struct env *e, uint8_t type, const uint8_t **ret_p, size_t *ret_n)
{
    const struct frame *f;

    while ((f = env_next_type(e, ETH_P_IPV6)) != NULL) {
        const uint8_t *p = f->bytes + 14;
        struct ipv6_header h;
        struct ipv6_walk w;

        assert_int_equal(ipv6_header_decode(p, f->n - 14, 1, &h), IPV6_DECODE_OK);
        ipv6_walk_init(&w, &h);
        if (ipv6_walk(p, h.total_bytes, &w) != IPV6_WALK_UPPER || w.next != IP_PROTO_ICMPV6 ||
            p[w.pos] != type)
            continue;
        assert_true(csum_ok(
            csum_partial(p + w.pos, h.total_bytes - w.pos,
                         csum_pseudo(&h.src, &h.dst, IP_PROTO_ICMPV6, (uint32_t)(h.total_bytes - w.pos)))));
        *ret_p = p + w.pos;
        *ret_n = h.total_bytes - w.pos;
        return f;
    }
    return NULL;
}

const struct frame *env_next_icmp4(struct env *e, uint8_t type, const uint8_t **ret_p, size_t *ret_n)
{
    const struct frame *f;

    while ((f = env_next_type(e, ETH_P_IP)) != NULL) {
        const uint8_t *p = f->bytes + 14;
        struct ipv4_header h;

        assert_int_equal(ipv4_header_decode(p, f->n - 14, true, &h), IPV4_DECODE_OK);
        if (h.proto != IP_PROTO_ICMP || p[20] != type || ipv4_is_fragment(&h))
            continue;
        assert_true(csum_ok(csum_partial(p + 20, h.total_bytes - 20u, 0)));
        *ret_p = p + 20;
        *ret_n = h.total_bytes - 20u;
        return f;
    }
    return NULL;
}

uint64_t env_drops(const struct env *e, enum stack_drop d)
{
    return stack_get_drops(e->st)[d];
}

bool env_neigh(struct env *e, const char *addr, struct stack_neigh *ret)
{
    struct ip_addr a = ip(addr);

    for (unsigned i = 0; stack_neigh_get(e->st, i, e->now, ret); i++)
        if (ip_addr_eq(&ret->addr, &a))
            return true;
    return false;
}

bool env_addr(struct env *e, const char *addr, struct stack_addr *ret)
{
    struct ip_addr a = ip(addr);

    for (unsigned i = 0; stack_addr_get(e->st, i, ret); i++)
        if (ip_addr_eq(&ret->addr, &a))
            return true;
    return false;
}

bool env_event(struct env *e, enum stack_event_kind kind, struct stack_event *ret)
{
    while (stack_next_event(e->st, ret))
        if (ret->kind == kind)
            return true;
    return false;
}

/* ---- Frames from others ------------------------------------------------------------------------------- */

size_t mk_eth(uint8_t *out, const struct eth_addr *dst, const struct eth_addr *src, uint16_t type)
{
    struct eth_header h = {.dst = *dst, .src = *src, .type = type};

    eth_header_encode(&h, out);
    return ETH_HEADER_BYTES;
}

size_t mk_arp(uint8_t *out, const struct arp_packet *arp, const struct eth_addr *dst)
{
    mk_eth(out, dst, &arp->sender_mac, ETH_P_ARP);
    arp_encode(arp, out + 14);
    return 14 + ARP_BYTES;
}

static struct eth_addr mac_for(const struct ip_addr *dst)
{
    struct eth_addr mac = mac_us;

    eth_addr_of_multicast(dst, &mac);
    return mac;
}

static size_t put4(uint8_t *out, struct ipv4_header *h, const char *src, const char *dst, const void *p,
                   size_t n)
{
    struct eth_addr mac;

    h->src = ip(src);
    h->dst = ip(dst);
    h->ttl = 64;
    h->total_bytes = (uint16_t)(20 + n);
    mac = mac_for(&h->dst);
    mk_eth(out, &mac, &mac_peer, ETH_P_IP);
    ipv4_header_encode(h, out + 14);
    if (n)
        memcpy(out + 34, p, n);
    return 34 + n;
}

size_t mk_ip4(uint8_t *out, const char *src, const char *dst, uint8_t proto, const void *payload, size_t n)
{
    struct ipv4_header h = {.proto = proto, .id = 77};

    return put4(out, &h, src, dst, payload, n);
}

size_t mk_frag4(uint8_t *out, const char *src, uint16_t id, uint8_t proto, size_t offset, bool more,
                const void *p, size_t n)
{
    struct ipv4_header h = {
        .proto = proto, .id = id, .frag_offset = (uint16_t)offset, .more_fragments = more};

    return put4(out, &h, src, "192.0.2.1", p, n);
}

size_t mk_ip6(uint8_t *out, const char *src, const char *dst, uint8_t next, uint8_t hop, const void *payload,
              size_t n)
{
    struct ipv6_header h = {
        .src = ip(src), .dst = ip(dst), .next = next, .hop_limit = hop, .payload_bytes = (uint16_t)n};
    struct eth_addr mac = mac_for(&h.dst);

    mk_eth(out, &mac, &mac_peer, ETH_P_IPV6);
    ipv6_header_encode(&h, out + 14);
    if (n)
        memcpy(out + 54, payload, n);
    return 54 + n;
}

size_t mk_frag6(uint8_t *out, const char *src, uint32_t id, uint8_t proto, size_t offset, bool more,
                const void *p, size_t n)
{
    uint8_t *copy = malloc(n + 8);
    size_t r;

    copy[0] = proto;
    copy[1] = 0;
    put_be16(copy + 2, (uint16_t)(offset | more));
    put_be32(copy + 4, id);
    memcpy(copy + 8, p, n);
    r = mk_ip6(out, src, US_LL, IP_PROTO_FRAGMENT, 64, copy, n + 8);
    free(copy);
    return r;
}

size_t mk_echo(uint8_t *out, const char *src, const char *dst, uint16_t seq, size_t bytes)
{
    struct ip_addr s = ip(src), d = ip(dst);
    uint8_t *data = malloc(bytes + 1), *msg = malloc(bytes + 8);
    size_t n;

    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(i * 7);
    n = icmp_echo_encode(&s, &d, false, 99, seq, data, bytes, msg, bytes + 8);
    n = s.family == IP_V4 ? mk_ip4(out, src, dst, IP_PROTO_ICMP, msg, n)
                          : mk_ip6(out, src, dst, IP_PROTO_ICMPV6, 64, msg, n);
    free(data);
    free(msg);
    return n;
}

size_t mk_na(uint8_t *out, const char *src, const char *dst, const char *target, bool solicited,
             bool override, const struct eth_addr *mac)
{
    struct ip_addr s = ip(src), d = ip(dst), t = ip(target);
    uint8_t msg[ND_MESSAGE_MAX];
    size_t n = nd_na_encode(&s, &d, &t, solicited, override, mac, msg);

    return mk_ip6(out, src, dst, IP_PROTO_ICMPV6, 255, msg, n);
}

size_t mk_ns(uint8_t *out, const char *src, const char *target, const struct eth_addr *mac)
{
    struct ip_addr s = ip(src), t = ip(target), d = nd_solicited_node(&t, 1);
    uint8_t msg[ND_MESSAGE_MAX];
    char text[IP_ADDR_TEXT_MAX];
    size_t n = nd_ns_encode(&s, &d, &t, mac, msg);

    return mk_ip6(out, src, ip_addr_format(&d, text), IP_PROTO_ICMPV6, 255, msg, n);
}

void in_arp(struct env *e, uint16_t op, const char *sender, const struct eth_addr *mac, const char *target)
{
    struct arp_packet arp = {.op = op, .sender_mac = *mac, .sender_ip = ip(sender), .target_ip = ip(target)};
    uint8_t frame[64];

    env_in(e, frame, mk_arp(frame, &arp, op == ARP_REQUEST ? &eth_addr_broadcast : &mac_us));
}
