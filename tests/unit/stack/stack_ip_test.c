/*
 * Packets in: echo, fragments, refusals, errors both ways, and a table of malformed frames of which each must
 * be dropped with its reason.
 */
#include "env.h"
#include "fake_engine.h"

#define PEER4 "192.0.2.7"
#define PEER6 "fe80::2"

static uint8_t big[70000], frame[70000];

/* Answers ARP and NS for everybody, so that replies leave. */
static struct env *env_known(void)
{
    struct env *e = env_new();

    in_arp(e, ARP_REQUEST, PEER4, &mac_peer, "192.0.2.1");
    env_in(e, frame, mk_ns(frame, PEER6, US_LL, &mac_peer));
    env_forget(e);
    return e;
}

static void echo_both_families(void **state)
{
    struct env *e = env_known();
    const uint8_t *p;
    size_t n;

    (void)state;
    for (size_t bytes = 0; bytes <= 1400; bytes += 350) {
        size_t len = mk_echo(frame, PEER4, "192.0.2.1", 7, bytes);

        frame[15] = 0; /* TOS stays */
        env_in(e, frame, len);
        assert_non_null(env_next_icmp4(e, ICMP4_TYPE_ECHO_REPLY, &p, &n));
        assert_int_equal(n, 8 + bytes);
        assert_int_equal(get_be16(p + 4), 99);
        assert_int_equal(get_be16(p + 6), 7);
        assert_memory_equal(p + 8, frame + 42, bytes);
        env_in(e, frame, mk_echo(frame, PEER6, US_LL, 8, bytes));
        assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ECHO_REPLY, &p, &n));
        assert_int_equal(n, 8 + bytes);
        assert_memory_equal(p + 8, frame + 62, bytes);
    }
    env_in(e, frame, mk_echo(frame, PEER6, "ff02::1", 9, 8)); /* all nodes: from our unicast address */
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ECHO_REPLY, &p, &n));
    env_in(e, frame, mk_echo(frame, PEER4, "192.0.2.255", 9, 8));
    assert_null(env_next(e));
    assert_int_equal(stack_get_counters(e->st)->icmp_reply_out, 11);
    env_free(e);
}

/* The ICMP message of an echo request in `big`, split; reply collected from fragments must equal it. */
static size_t make_message(size_t bytes, bool v6)
{
    size_t n = mk_echo(frame, v6 ? PEER6 : PEER4, v6 ? US_LL : "192.0.2.1", 5, bytes), header = v6 ? 54 : 34;

    memcpy(big, frame + header, n - header);
    return n - header;
}

static void in_fragment(struct env *e, bool v6, uint32_t id, size_t at, size_t len, size_t total)
{
    bool more = at + len < total;
    size_t n = v6 ? mk_frag6(frame, PEER6, id, IP_PROTO_ICMPV6, at, more, big + at, len)
                  : mk_frag4(frame, PEER4, (uint16_t)id, IP_PROTO_ICMP, at, more, big + at, len);

    env_in(e, frame, n);
}

/* Puts the fragments of the reply together; returns the message's length. */
static size_t collect(struct env *e, bool v6, uint8_t *out)
{
    const struct frame *f;
    size_t total = 0, have = 0;

    while ((f = env_next_type(e, v6 ? ETH_P_IPV6 : ETH_P_IP)) != NULL) {
        const uint8_t *p = f->bytes + 14;
        size_t at, len;
        bool more;

        assert_true(f->n <= 1514);
        if (v6) {
            assert_int_equal(p[6], IP_PROTO_FRAGMENT);
            at = get_be16(p + 42) & 0xfff8u;
            more = p[43] & 1;
            len = get_be16(p + 4) - 8u;
            memcpy(out + at, p + 48, len);
        } else {
            struct ipv4_header h;

            assert_int_equal(ipv4_header_decode(p, f->n - 14, true, &h), IPV4_DECODE_OK);
            at = h.frag_offset;
            more = h.more_fragments;
            len = h.total_bytes - 20u;
            memcpy(out + at, p + 20, len);
        }
        have += len;
        if (!more)
            total = at + len;
    }
    assert_int_equal(total, have);
    return total;
}

static void echo_in_fragments(void **state)
{
    static uint8_t reply[70000];

    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        for (int order = 0; order < 2; order++) {
            struct env *e = env_known();
            size_t total = make_message(order ? 3000 : 60000, v6), step = 1440,
                   pieces = (total + step - 1) / step;

            for (size_t i = 0; i < pieces; i++) {
                size_t k = order ? pieces - 1 - i : i, at = k * step;

                in_fragment(e, v6, 1000, at, total - at < step ? total - at : step, total);
            }
            assert_int_equal(stack_get_counters(e->st)->frag_ok, 1);
            assert_int_equal(st_frag_bytes(e->st), 0);
            assert_int_equal(collect(e, v6, reply), total);
            assert_memory_equal(reply + 8, big + 8, total - 8);
            assert_int_equal(reply[0], v6 ? ICMP6_TYPE_ECHO_REPLY : ICMP4_TYPE_ECHO_REPLY);
            if (v6) {
                struct ip_addr s = ip(US_LL), d = ip(PEER6);

                assert_true(csum_ok(
                    csum_partial(reply, total, csum_pseudo(&s, &d, IP_PROTO_ICMPV6, (uint32_t)total))));
            } else {
                assert_true(csum_ok(csum_partial(reply, total, 0)));
            }
            env_free(e);
        }
    }
}

static void duplicates_and_overlaps(void **state)
{
    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        struct env *e = env_known();
        size_t total = make_message(2000, v6);

        in_fragment(e, v6, 1, 0, 800, total);
        in_fragment(e, v6, 1, 0, 800, total); /* the same again: ignored */
        in_fragment(e, v6, 1, 800, total - 800, total);
        assert_int_equal(stack_get_counters(e->st)->frag_ok, 1);
        assert_non_null(env_next(e));
        env_forget(e);
        in_fragment(e, v6, 2, 0, 800, total);
        in_fragment(e, v6, 2, 792, 800, total); /* overlaps by 8 */
        in_fragment(e, v6, 2, 0, 800, total);   /* condemned: nothing begins it anew */
        in_fragment(e, v6, 2, 800, total - 800, total);
        assert_null(env_next(e));
        assert_int_equal(stack_get_counters(e->st)->frag_ok, 1);
        assert_int_equal(env_drops(e, STACK_DROP_FRAG_OVERLAP), 3);
        big[100] ^= 1; /* the same place, other bytes */
        in_fragment(e, v6, 3, 0, 800, total);
        big[100] ^= 1;
        in_fragment(e, v6, 3, 0, 800, total);
        assert_int_equal(env_drops(e, STACK_DROP_FRAG_OVERLAP), 4);
        in_fragment(e, v6, 4, 800, 80, total);
        in_fragment(e, v6, 4, 400, 200, 600); /* an end before what is there */
        assert_int_equal(env_drops(e, STACK_DROP_FRAG_OVERLAP), 5);
        env_sleep(e, 31 * SEC);
        assert_int_equal(st_frag_bytes(e->st), 0);
        in_fragment(e, v6, 5, 65528, 64, 65592); /* would end behind 65,535 */
        in_fragment(e, v6, 6, 0, 801, total);    /* not whole eights */
        assert_int_equal(env_drops(e, STACK_DROP_FRAG_MALFORMED), 2);
        env_free(e);
    }
}

static void reassembly_times_out(void **state)
{
    const uint8_t *p;
    size_t n;

    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        struct env *e = env_known();
        size_t total = make_message(2000, v6);

        /* An echo request is no error message: its source may be told. */
        in_fragment(e, v6, 1, 0, 800, total);
        in_fragment(e, v6, 2, 800, 80, total); /* without a first fragment nobody is told */
        env_sleep(e, 31 * SEC);
        assert_int_equal(env_drops(e, STACK_DROP_FRAG_TIMEOUT), 2);
        assert_int_equal(stack_get_counters(e->st)->frag_fails, 2);
        assert_int_equal(st_frag_bytes(e->st), 0);
        if (v6)
            assert_non_null(env_next_icmp6(e, ICMP6_TYPE_TIME_EXCEEDED, &p, &n));
        else
            assert_non_null(env_next_icmp4(e, ICMP4_TYPE_TIME_EXCEEDED, &p, &n));
        assert_int_equal(p[1], ICMP_TIME_REASSEMBLY);
        assert_null(env_next(e));
        env_free(e);
    }
}

static void fragment_memory_is_bounded(void **state)
{
    struct stack_config c;
    struct env *e;
    struct ip_addr a = ip("192.0.2.1");

    (void)state;
    stack_config_defaults(&c);
    c.frag_max_bytes = 1 << 20;
    e = env_bare(&c, mac_us.b, 1500);
    stack_addr_add(e->st, &a, 24, e->now);
    for (unsigned i = 0; i < 3000; i++) { /* one source */
        env_in(e, frame, mk_frag4(frame, PEER4, (uint16_t)i, IP_PROTO_UDP, 8, true, big, 1400));
        assert_true(st_frag_bytes(e->st) <= (1u << 20) / 4);
    }
    for (unsigned i = 0; i < 3000; i++) { /* many */
        char src[32];

        snprintf(src, sizeof src, "198.51.%u.%u", i / 250, i % 250 + 1);
        env_in(e, frame, mk_frag4(frame, src, 9, IP_PROTO_UDP, 8, true, big, 1400));
        assert_true(st_frag_bytes(e->st) <= 1u << 20);
    }
    assert_true(env_drops(e, STACK_DROP_FRAG_MEMORY) > 0);
    env_sleep(e, 31 * SEC);
    assert_int_equal(st_frag_bytes(e->st), 0);
    env_free(e);
}

/* RFC 6946: a fragment header that splits nothing; beside a datagram with the same id it is independent. */
static void atomic_fragment(void **state)
{
    struct env *e = env_known();
    size_t total = make_message(100, true);
    const uint8_t *p;
    size_t n;

    (void)state;
    env_in(e, frame, mk_frag6(frame, PEER6, 5, IP_PROTO_ICMPV6, 8, true, big, 80));
    env_in(e, frame, mk_frag6(frame, PEER6, 5, IP_PROTO_ICMPV6, 0, false, big, total));
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ECHO_REPLY, &p, &n));
    assert_int_equal(n, total);
    env_free(e);
}

static size_t make_udp(uint8_t *out, const char *src, const char *dst, bool csum)
{
    struct ip_addr s = ip(src), d = ip(dst);

    memset(out, 0, 20);
    put_be16(out, 1111);
    put_be16(out + 2, 53);
    put_be16(out + 4, 20);
    if (csum)
        put_be16(out + 6, csum_fold(csum_partial(out, 20, csum_pseudo(&s, &d, IP_PROTO_UDP, 20))));
    return 20;
}

static void udp_is_refused(void **state)
{
    struct env *e = env_known();
    uint8_t udp[20];
    const uint8_t *p;
    size_t n;

    (void)state;
    n = make_udp(udp, PEER4, "192.0.2.1", true);
    env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.1", IP_PROTO_UDP, udp, n));
    assert_non_null(env_next_icmp4(e, ICMP4_TYPE_UNREACHABLE, &p, &n));
    assert_int_equal(p[1], ICMP4_UNREACH_PORT);
    assert_memory_equal(p + 8, frame + 14, 40);
    env_in(e, frame,
           mk_ip4(frame, PEER4, "192.0.2.255", IP_PROTO_UDP, udp, 20)); /* broadcast: wrong sum anyway */
    udp[19] = 1;
    env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.1", IP_PROTO_UDP, udp, 20));
    assert_int_equal(env_drops(e, STACK_DROP_UDP_CHECKSUM), 2);
    n = make_udp(udp, PEER4, "192.0.2.255", true);
    env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.255", IP_PROTO_UDP, udp, n));
    assert_null(env_next(e));
    n = make_udp(udp, PEER6, US_LL, true);
    env_in(e, frame, mk_ip6(frame, PEER6, US_LL, IP_PROTO_UDP, 64, udp, n));
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_UNREACHABLE, &p, &n));
    assert_int_equal(p[1], ICMP6_UNREACH_PORT);
    n = make_udp(udp, PEER6, US_LL, false);
    env_in(e, frame, mk_ip6(frame, PEER6, US_LL, IP_PROTO_UDP, 64, udp, n)); /* IPv6 needs a checksum */
    assert_int_equal(env_drops(e, STACK_DROP_UDP_CHECKSUM), 3);
    assert_int_equal(env_drops(e, STACK_DROP_UDP_NO_PORT), 3);
    env_free(e);
}

static void unknown_protocols(void **state)
{
    struct env *e = env_known();
    const uint8_t *p;
    size_t n;

    (void)state;
    env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.1", 132, big, 40));
    assert_non_null(env_next_icmp4(e, ICMP4_TYPE_UNREACHABLE, &p, &n));
    assert_int_equal(p[1], ICMP4_UNREACH_PROTOCOL);
    env_in(e, frame, mk_ip6(frame, PEER6, US_LL, 132, 64, big, 40));
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_PARAM_PROBLEM, &p, &n));
    assert_int_equal(p[1], ICMP6_PARAM_NEXT_HEADER);
    assert_int_equal(get_be32(p + 4), 6); /* the fixed header's next-header byte */
    env_free(e);
}

static void errors_are_rate_limited(void **state)
{
    struct env *e = env_known();

    (void)state;
    for (int i = 0; i < 200; i++)
        env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.1", 132, big, 40));
    assert_int_equal(stack_get_counters(e->st)->icmp_errors_out, 50);
    assert_int_equal(env_drops(e, STACK_DROP_ICMP_RATE), 150);
    env_sleep(e, 10 * MSEC);
    for (int i = 0; i < 200; i++)
        env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.1", 132, big, 40));
    assert_int_equal(stack_get_counters(e->st)->icmp_errors_out, 60);
    env_free(e);
}

/* RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e): no error about errors, groups, or nobody. */
static void errors_that_must_not_be(void **state)
{
    struct env *e = env_known();
    uint8_t icmp[64];
    struct ip_addr s = ip(PEER6), d = ip(US_LL);
    size_t n;

    (void)state;
    /* An ICMPv6 error whose fragments don't become whole. */
    n = icmp_error_encode(&s, &d, ICMP6_TYPE_UNREACHABLE, 0, 0, big, 40, icmp, sizeof icmp);
    env_in(e, frame, mk_frag6(frame, PEER6, 1, IP_PROTO_ICMPV6, 0, true, icmp, n / 8 * 8));
    env_sleep(e, 31 * SEC);
    assert_null(env_next(e));
    env_in(e, frame, mk_ip6(frame, PEER6, "ff02::1", 132, 64, big, 40));
    assert_null(env_next(e));
    n = mk_ip4(frame, PEER4, "192.0.2.1", 132, big, 40);
    memcpy(frame, eth_addr_broadcast.b, 6); /* unicast in a broadcast frame */
    env_in(e, frame, n);
    assert_null(env_next(e));
    assert_int_equal(env_drops(e, STACK_DROP_IP_DESTINATION), 1);
    env_free(e);
}

/* ---- Errors in ---------------------------------------------------------------------------------------- */

static void in_error4(struct env *e, uint8_t type, uint8_t code, uint32_t info, const char *quoted_src,
                      uint8_t proto)
{
    uint8_t packet[28] = {0}, icmp[64];
    struct ipv4_header h = {
        .src = ip(quoted_src), .dst = ip("198.51.100.9"), .proto = proto, .ttl = 64, .total_bytes = 1500};
    struct ip_addr s = ip("192.0.2.254"), d = ip("192.0.2.1");
    size_t n;

    ipv4_header_encode(&h, packet);
    put_be16(packet + 20, 1234);
    put_be16(packet + 22, 80);
    put_be32(packet + 24, 0xabcdef01);
    n = icmp_error_encode(&s, &d, type, code, info, packet, sizeof packet, icmp, sizeof icmp);
    env_in(e, frame, mk_ip4(frame, "192.0.2.254", "192.0.2.1", IP_PROTO_ICMP, icmp, n));
}

static void errors_reach_the_engine(void **state)
{
    static const struct {
        uint8_t type, code;
        int error;
        bool hard;
    } cases[] = {
        {3, 0, ENETUNREACH, false},  {3, 1, EHOSTUNREACH, false},  {3, 2, ENOPROTOOPT, true},
        {3, 3, ECONNREFUSED, true},  {3, 5, EOPNOTSUPP, false},    {3, 7, EHOSTDOWN, true},
        {3, 13, EHOSTUNREACH, true}, {11, 0, EHOSTUNREACH, false}, {12, 0, EPROTO, true},
    };
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        in_error4(e, cases[i].type, cases[i].code, 0, "192.0.2.1", IP_PROTO_TCP);
        assert_int_equal(t->n_icmp, i + 1);
        assert_int_equal(t->icmp[i].error, cases[i].error);
        assert_int_equal(t->icmp[i].hard, cases[i].hard);
    }
    assert_int_equal(t->icmp[0].seq, 0xabcdef01);
    assert_int_equal(t->icmp[0].tuple.local_port, 1234);
    assert_int_equal(t->icmp[0].tuple.remote_port, 80);
    assert_true(t->icmp[0].tuple.remote.b[3] == 9 && t->icmp[0].tuple.local.b[3] == 1);
    in_error4(e, 3, 1, 0, "192.0.2.2", IP_PROTO_TCP); /* not sent by us */
    in_error4(e, 4, 0, 0, "192.0.2.1", IP_PROTO_TCP); /* source quench */
    assert_int_equal(t->n_icmp, sizeof cases / sizeof cases[0]);
    env_free(e);
}

static uint16_t mtu_to(struct env *e, const char *dst)
{
    struct ip_addr d = ip(dst), src = {0};
    struct tcp_path path;

    env_pull(e); /* the stack learns the time */
    assert_int_equal(st_net_route(e->st, &d, &src, &path), 0);
    return path.mtu;
}

static void path_mtu(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);

    (void)state;
    in_error4(e, 3, 4, 1400, "192.0.2.1", IP_PROTO_TCP);
    assert_int_equal(t->icmp[0].error, EMSGSIZE);
    assert_int_equal(t->icmp[0].mtu, 1400);
    assert_int_equal(mtu_to(e, "198.51.100.9"), 1500); /* the engine did not recognise it */
    t->icmp_taken = true;
    in_error4(e, 3, 4, 1400, "192.0.2.1", IP_PROTO_TCP);
    assert_int_equal(mtu_to(e, "198.51.100.9"), 1400);
    assert_int_equal(mtu_to(e, "198.51.100.10"), 1500);
    in_error4(e, 3, 4, 100, "192.0.2.1", IP_PROTO_TCP); /* never below Linux's smallest */
    assert_int_equal(t->icmp[2].mtu, IPV4_MIN_PMTU);
    assert_int_equal(mtu_to(e, "198.51.100.9"), IPV4_MIN_PMTU);
    in_error4(e, 3, 4, 0, "192.0.2.1", IP_PROTO_TCP); /* an old router: next plateau below 1500 */
    assert_int_equal(t->icmp[3].mtu, 1492);
    assert_int_equal(mtu_to(e, "198.51.100.9"), IPV4_MIN_PMTU); /* what is known is not raised by an error */
    in_error4(e, 3, 4, 9000, "192.0.2.1", IP_PROTO_TCP);
    assert_int_equal(t->n_icmp, 4);
    env_sleep(e, 599 * SEC); /* for ten minutes (RFC 1191 section 6.3) */
    assert_int_equal(mtu_to(e, "198.51.100.9"), IPV4_MIN_PMTU);
    env_sleep(e, 2 * SEC);
    assert_int_equal(mtu_to(e, "198.51.100.9"), 1500);
    env_free(e);
}

static void in_too_big6(struct env *e, uint32_t mtu)
{
    uint8_t packet[52] = {0}, icmp[128];
    struct ipv6_header h = {
        .src = ip(US_LL), .dst = ip(PEER6), .next = IP_PROTO_TCP, .hop_limit = 64, .payload_bytes = 1460};
    struct ip_addr s = ip("fe80::9"), d = ip(US_LL);
    size_t n;

    ipv6_header_encode(&h, packet);
    put_be16(packet + 40, 1234);
    put_be16(packet + 42, 80);
    put_be32(packet + 44, 0xabcdef01);
    n = icmp_error_encode(&s, &d, ICMP6_TYPE_TOO_BIG, 0, mtu, packet, sizeof packet, icmp, sizeof icmp);
    env_in(e, frame, mk_ip6(frame, "fe80::9", US_LL, IP_PROTO_ICMPV6, 64, icmp, n));
}

/* Packet Too Big (RFC 8201): no less than every IPv6 path carries, whatever it says. */
static void path_mtu6(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);

    (void)state;
    t->icmp_taken = true;
    in_too_big6(e, 1400);
    assert_int_equal(t->n_icmp, 1);
    assert_int_equal(t->icmp[0].error, EMSGSIZE);
    assert_int_equal(t->icmp[0].mtu, 1400);
    assert_int_equal(mtu_to(e, PEER6), 1400);
    in_too_big6(e, 600);
    assert_int_equal(t->icmp[1].mtu, 1280);
    in_too_big6(e, 0);
    assert_int_equal(t->icmp[2].mtu, 1280);
    assert_int_equal(mtu_to(e, PEER6), 1280);
    in_too_big6(e, 70000); /* not smaller than the link's */
    in_too_big6(e, 1500);
    assert_int_equal(t->n_icmp, 3);
    env_sleep(e, 599 * SEC);
    assert_int_equal(mtu_to(e, PEER6), 1280);
    env_sleep(e, 2 * SEC);
    assert_int_equal(mtu_to(e, PEER6), 1500);
    env_free(e);
}

/* ---- Ping --------------------------------------------------------------------------------------------- */

static void ping(void **state)
{
    struct env *e = env_known();
    struct ip_addr dst = ip(PEER4), self = ip("192.0.2.1"), nobody = ip("192.0.2.99"),
                   far = ip("2001:db8::1");
    struct stack_event ev;
    const uint8_t *p;
    uint8_t msg[128];
    size_t n;

    (void)state;
    assert_int_equal(stack_ping(e->st, &dst, 56, 33, SEC, 1234, e->now), 0);
    env_pull(e);
    assert_non_null(env_next_icmp4(e, ICMP4_TYPE_ECHO_REQUEST, &p, &n));
    assert_int_equal(n, 64);
    assert_int_equal(e->out[e->seen - 1].bytes[14 + 8], 33);
    memcpy(msg, p, n);
    e->now += 7 * MSEC;
    n = icmp_echo_encode(&dst, &self, true, get_be16(msg + 4), get_be16(msg + 6), msg + 8, 56, msg,
                         sizeof msg);
    env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.1", IP_PROTO_ICMP, msg, n));
    assert_true(env_event(e, STACK_EVENT_PING, &ev));
    assert_int_equal(ev.error, 0);
    assert_int_equal(ev.user, 1234);
    assert_int_equal(ev.rtt_ns, 7 * MSEC);
    assert_int_equal(ev.bytes, 56);
    env_in(e, frame, mk_ip4(frame, PEER4, "192.0.2.1", IP_PROTO_ICMP, msg, n)); /* again: nobody waits */
    assert_false(env_event(e, STACK_EVENT_PING, &ev));
    /* Time-out, unreachable, no route, ourselves. */
    assert_int_equal(stack_ping(e->st, &dst, 0, 0, SEC, 1, e->now), 0);
    env_sleep(e, 2 * SEC);
    assert_true(env_event(e, STACK_EVENT_PING, &ev) && ev.error == ETIMEDOUT && ev.user == 1);
    assert_int_equal(stack_ping(e->st, &nobody, 0, 0, 10 * SEC, 2, e->now), 0);
    env_sleep(e, 4 * SEC);
    assert_true(env_event(e, STACK_EVENT_PING, &ev) && ev.error == EHOSTUNREACH && ev.user == 2);
    assert_int_equal(stack_ping(e->st, &far, 0, 0, SEC, 3, e->now), -ENETUNREACH);
    assert_int_equal(stack_ping(e->st, &self, 0, 0, SEC, 4, e->now), 0);
    assert_true(env_event(e, STACK_EVENT_PING, &ev) && ev.error == 0 && ev.user == 4);
    assert_int_equal(stack_ping(e->st, &dst, 0, 0, SEC, 5, e->now), 0);
    stack_ping_cancel(e->st, 5);
    env_sleep(e, 2 * SEC);
    assert_false(env_event(e, STACK_EVENT_PING, &ev));
    env_free(e);
}

static void ping_hears_errors(void **state)
{
    struct env *e = env_known();
    struct ip_addr dst = ip(PEER4), r = ip("192.0.2.254"), us = ip("192.0.2.1");
    struct stack_event ev;
    uint8_t icmp[128];
    size_t n;

    (void)state;
    assert_int_equal(stack_ping(e->st, &dst, 8, 0, SEC, 1, e->now), 0);
    env_pull(e);
    n = icmp_error_encode(&r, &us, ICMP4_TYPE_TIME_EXCEEDED, 0, 0, e->out[0].bytes + 14, e->out[0].n - 14,
                          icmp, sizeof icmp);
    env_in(e, frame, mk_ip4(frame, "192.0.2.254", "192.0.2.1", IP_PROTO_ICMP, icmp, n));
    assert_true(env_event(e, STACK_EVENT_PING, &ev));
    assert_int_equal(ev.error, EHOSTUNREACH);
    env_free(e);
}

/* ---- Malformed frames --------------------------------------------------------------------------------- */

enum base { B_ECHO4, B_ECHO6, B_TCP4, B_TCP6, B_UDP4, B_ARP, B_FRAG6 };

static size_t make_base(enum base b)
{
    struct tcp_seg seg = {.src_port = 5, .dst_port = 6, .flags = TCP_SYN};
    struct arp_packet arp = {
        .op = 1, .sender_mac = mac_peer, .sender_ip = ip(PEER4), .target_ip = ip("192.0.2.1")};
    struct ip_addr s4 = ip(PEER4), d4 = ip("192.0.2.1"), s6 = ip(PEER6), d6 = ip(US_LL);
    uint8_t m[64];

    switch (b) {
    case B_ECHO4:
        return mk_echo(frame, PEER4, "192.0.2.1", 1, 16);
    case B_ECHO6:
        return mk_echo(frame, PEER6, US_LL, 1, 16);
    case B_TCP4:
        tcp_header_encode(&seg, m);
        put_be16(m + 16, csum_fold(csum_partial(m, 20, csum_pseudo(&s4, &d4, IP_PROTO_TCP, 20))));
        return mk_ip4(frame, PEER4, "192.0.2.1", IP_PROTO_TCP, m, 20);
    case B_TCP6:
        tcp_header_encode(&seg, m);
        put_be16(m + 16, csum_fold(csum_partial(m, 20, csum_pseudo(&s6, &d6, IP_PROTO_TCP, 20))));
        return mk_ip6(frame, PEER6, US_LL, IP_PROTO_TCP, 64, m, 20);
    case B_UDP4:
        make_udp(m, PEER4, "192.0.2.1", true);
        return mk_ip4(frame, PEER4, "192.0.2.1", IP_PROTO_UDP, m, 20);
    case B_ARP:
        return mk_arp(frame, &arp, &mac_us);
    case B_FRAG6:
        return mk_frag6(frame, PEER6, 3, IP_PROTO_UDP, 8, true, big, 16);
    }
    return 0;
}

struct malformed {
    enum base base;
    int at; /* byte to write, -1: none */
    uint8_t value;
    int cut;     /* bytes that remain, 0: all */
    bool fix_ip; /* IPv4 header checksum made right again */
    int reason;  /* enum stack_drop, -1: must be accepted */
};

static const struct malformed table[] = {
    {B_ECHO4, -1, 0, 13, false, STACK_DROP_FRAME_SHORT},
    {B_ECHO4, 0, 4, 0, false, STACK_DROP_NOT_FOR_US},
    {B_ECHO4, 6, 3, 0, false, STACK_DROP_SOURCE_MAC},
    {B_ECHO4, 11, 1, 0, false, STACK_DROP_SOURCE_MAC}, /* our own */
    {B_ECHO4, 12, 0, 0, false, STACK_DROP_ETHERTYPE},  /* a length */
    {B_ECHO4, 13, 0x47, 0, false, STACK_DROP_ETHERTYPE},
    {B_ECHO4, -1, 0, 14, false, STACK_DROP_IP_HEADER},
    {B_ECHO4, -1, 0, 33, false, STACK_DROP_IP_HEADER},
    {B_ECHO4, -1, 0, 50, false, STACK_DROP_IP_HEADER}, /* total length behind the frame */
    {B_ECHO4, 14, 0x55, 0, true, STACK_DROP_IP_HEADER},
    {B_ECHO4, 14, 0x44, 0, true, STACK_DROP_IP_HEADER},
    {B_ECHO4, 17, 19, 0, true, STACK_DROP_IP_HEADER}, /* total length below the header */
    {B_ECHO4, 22, 1, 0, false, STACK_DROP_IP_CHECKSUM},
    {B_ECHO4, 26, 224, 0, true, STACK_DROP_IP_SOURCE},
    {B_ECHO4, 26, 127, 0, true, STACK_DROP_IP_SOURCE},
    {B_ECHO4, 26, 0, 0, true, STACK_DROP_IP_SOURCE},
    {B_ECHO4, 29, 255, 0, true, STACK_DROP_IP_SOURCE}, /* the subnet's broadcast */
    {B_ECHO4, 29, 1, 0, true, STACK_DROP_IP_SOURCE},   /* ours */
    {B_ECHO4, 33, 2, 0, true, STACK_DROP_IP_DESTINATION},
    {B_ECHO4, 30, 224, 0, true, STACK_DROP_MULTICAST},
    {B_ECHO4, 20, 0x3f, 0, true, -1}, /* a fragment near the end */
    {B_ECHO4, 20, 0x20, 0, true, -1}, /* a first fragment */
    {B_ECHO4, 45, 1, 0, false, STACK_DROP_ICMP_CHECKSUM},
    {B_ECHO4, 17, 27, 0, true, STACK_DROP_ICMP_MALFORMED}, /* 7 bytes of ICMP */
    {B_ECHO6, -1, 0, 30, false, STACK_DROP_IP_HEADER},
    {B_ECHO6, 14, 0x50, 0, false, STACK_DROP_IP_HEADER},
    {B_ECHO6, 19, 255, 0, false, STACK_DROP_IP_HEADER}, /* payload length behind the frame */
    {B_ECHO6, 22, 0xff, 0, false, STACK_DROP_IP_SOURCE},
    {B_ECHO6, 53, 9, 0, false, STACK_DROP_IP_DESTINATION},
    {B_ECHO6, 60, 9, 0, false, STACK_DROP_ICMP_CHECKSUM},
    {B_ECHO6, 20, 59, 0, false, STACK_DROP_IP_EXTENSION}, /* no next header */
    {B_ECHO6, 20, 43, 0, false, STACK_DROP_IP_EXTENSION}, /* the echo read as routing header */
    {B_ECHO6, 20, 51, 0, false, STACK_DROP_IP_PROTOCOL},
    {B_TCP4, 46, 0x40, 0, false, STACK_DROP_TCP_MALFORMED}, /* data offset 4 */
    {B_TCP4, 46, 0xf0, 0, false, STACK_DROP_TCP_MALFORMED},
    {B_TCP4, 17, 39, 0, true, STACK_DROP_TCP_MALFORMED},
    {B_TCP4, 40, 9, 0, false, STACK_DROP_TCP_CHECKSUM},
    {B_TCP4, 33, 255, 0, true, STACK_DROP_IP_DESTINATION}, /* TCP to broadcast */
    {B_TCP4, -1, 0, 0, false, -1},
    {B_TCP6, 60, 9, 0, false, STACK_DROP_TCP_CHECKSUM},
    {B_TCP6, -1, 0, 0, false, -1},
    {B_UDP4, 39, 99, 0, false, STACK_DROP_UDP_MALFORMED},
    {B_UDP4, 39, 7, 0, false, STACK_DROP_UDP_MALFORMED},
    {B_UDP4, 50, 7, 0, false, STACK_DROP_UDP_CHECKSUM},
    {B_ARP, 15, 9, 0, false, STACK_DROP_ARP_MALFORMED},
    {B_ARP, 18, 8, 0, false, STACK_DROP_ARP_MALFORMED},
    {B_ARP, 21, 9, 0, false, STACK_DROP_ARP_MALFORMED},
    {B_ARP, -1, 0, 40, false, STACK_DROP_ARP_MALFORMED},
    {B_ARP, 41, 9, 0, false, STACK_DROP_ARP_NOT_FOR_US},
    {B_FRAG6, 19, 23, 0, false, STACK_DROP_FRAG_MALFORMED}, /* 15 bytes, and more to come */
};

static void malformed_frames(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct malformed *m = &table[i];
        struct env *e = env_known();
        uint64_t before[STACK_DROP_MAX];
        unsigned changed = 0;
        size_t n = make_base(m->base);

        memcpy(before, stack_get_drops(e->st), sizeof before);
        if (m->at >= 0)
            frame[m->at] = m->value;
        if (m->cut)
            n = (size_t)m->cut;
        if (m->fix_ip) {
            put_be16(frame + 24, 0);
            put_be16(frame + 24, csum_fold(csum_partial(frame + 14, 20, 0)));
        }
        env_in(e, frame, n);
        for (int d = 0; d < STACK_DROP_MAX; d++) {
            if (stack_get_drops(e->st)[d] == before[d])
                continue;
            changed++;
            if (d != m->reason)
                fail_msg("row %u: dropped as %s", i, stack_drop_name((enum stack_drop)d));
        }
        if (changed != (m->reason >= 0))
            fail_msg("row %u: %u reasons", i, changed);
        env_free(e);
    }
}

/* However a frame is sliced, the same comes of it. */
static void slices(void **state)
{
    struct env *e = env_known();
    const uint8_t *p;
    size_t n, len = mk_echo(frame, PEER6, US_LL, 1, 1300);

    (void)state;
    env_in_sliced(e, frame, len, 256, 200);
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ECHO_REPLY, &p, &n));
    assert_memory_equal(p + 8, frame + 62, 1300);
    env_in_sliced(e, frame, len, 60, 200);
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ECHO_REPLY, &p, &n));
    env_free(e);
}

/* IPv6 alone, IPv4 alone. */
static void single_family(void **state)
{
    struct env *e = env_bare(NULL, mac_us.b, 1500);
    struct stack_addr a;
    struct ip_addr v4 = ip("192.0.2.1");
    const uint8_t *p;
    size_t n;

    (void)state;
    env_sleep(e, 5 * SEC);
    env_in(e, frame, mk_ns(frame, PEER6, US_LL, &mac_peer));
    env_forget(e);
    env_in(e, frame, mk_echo(frame, PEER6, US_LL, 1, 16));
    assert_non_null(env_next_icmp6(e, ICMP6_TYPE_ECHO_REPLY, &p, &n));
    env_in(e, frame, mk_echo(frame, PEER4, "192.0.2.1", 1, 16));
    assert_null(env_next(e));
    env_free(e);
    e = env_bare(NULL, mac_us.b, 1000); /* too small for IPv6 */
    assert_false(stack_addr_get(e->st, 0, &a));
    stack_addr_add(e->st, &v4, 24, e->now);
    in_arp(e, ARP_REQUEST, PEER4, &mac_peer, "192.0.2.1");
    env_forget(e);
    env_in(e, frame, mk_echo(frame, PEER4, "192.0.2.1", 1, 16));
    assert_non_null(env_next_icmp4(e, ICMP4_TYPE_ECHO_REPLY, &p, &n));
    env_in(e, frame, mk_echo(frame, PEER6, US_LL, 1, 16));
    assert_null(env_next(e));
    env_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_both_families),
        cmocka_unit_test(echo_in_fragments),
        cmocka_unit_test(duplicates_and_overlaps),
        cmocka_unit_test(reassembly_times_out),
        cmocka_unit_test(fragment_memory_is_bounded),
        cmocka_unit_test(atomic_fragment),
        cmocka_unit_test(udp_is_refused),
        cmocka_unit_test(unknown_protocols),
        cmocka_unit_test(errors_are_rate_limited),
        cmocka_unit_test(errors_that_must_not_be),
        cmocka_unit_test(errors_reach_the_engine),
        cmocka_unit_test(path_mtu),
        cmocka_unit_test(path_mtu6),
        cmocka_unit_test(ping),
        cmocka_unit_test(ping_hears_errors),
        cmocka_unit_test(malformed_frames),
        cmocka_unit_test(slices),
        cmocka_unit_test(single_family),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
