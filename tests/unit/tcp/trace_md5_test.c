/*
 * tests/unit/tcp/trace_md5_test.c: TCP-MD5 (RFC 2385): keys of listeners and connections, what is signed, what is
 * dropped, and that nothing answers what is dropped. The harness computes the peer's signatures by itself.
 */
#include "harness.h"
#include "daemon/crypto.h"
#include "tcp/tcp_record.h"

static struct tcp_md5_key key_for(struct ip_addr addr, unsigned prefix, const char *key)
{
    struct tcp_md5_key k = {.addr = addr, .prefix = (uint8_t)prefix, .bytes = (uint8_t)strlen(key)};

    memcpy(k.key, key, k.bytes);
    return k;
}

static struct tcp_md5_key peer_key(struct harness *h, const char *key)
{
    struct ip_addr addr = h_flow(h)->tuple.remote;

    return key_for(addr, addr.family == IP_V6 ? 128 : 32, key);
}

static int listen_key(struct harness *h, const char *key)
{
    struct tcp_md5_key k = peer_key(h, key);

    return tcp_listen_md5_set(h->t, h->listener, &k);
}

static int conn_key(struct harness *h, const char *key)
{
    struct tcp_md5_key k = peer_key(h, key);
    int r = tcp_md5_set(h->t, h_id(h), &k, h->now);

    flush(h);
    return r;
}

static uint64_t not_found(const struct harness *h)
{
    return tcp_get_counters(h->t)->md5_not_found;
}

static uint64_t unexpected(const struct harness *h)
{
    return tcp_get_counters(h->t)->md5_unexpected;
}

static uint64_t failure(const struct harness *h)
{
    return tcp_get_counters(h->t)->md5_failure;
}

static void digest_of(const struct tcp_seg *seg, const char *payload, const char *key, uint8_t ret[16])
{
    const struct tcp_crypto *crypto = daemon_crypto();
    uint8_t header[TCP_SIGNED_BYTES_MAX];
    struct tcp_bytes piece[] = {
        {header, tcp_signed_header(seg, header)}, {payload, strlen(payload)}, {key, strlen(key)}};

    assert_true(crypto->md5(crypto->ctx, piece, 3, ret));
}

/* Digests that hashlib made of bytes put together by hand (RFC 2385 section 2.0), and one of RFC 1321 appendix A.5. */
static void vectors(void **st)
{
    static const uint8_t abc[16] = {0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0,
                                    0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72};
    static const uint8_t v4[16] = {0xf9, 0xf7, 0x03, 0xae, 0x7a, 0x84, 0x09, 0x4f,
                                   0xef, 0x3c, 0x87, 0x84, 0x0f, 0x78, 0x7a, 0x39};
    static const uint8_t v6[16] = {0x71, 0x26, 0xf6, 0xa8, 0x94, 0xff, 0x0b, 0x01,
                                   0xe1, 0x2b, 0xaa, 0x81, 0xd6, 0x9a, 0x72, 0xe5};
    const struct tcp_crypto *crypto = daemon_crypto();
    struct tcp_bytes piece[] = {{"a", 1}, {NULL, 0}, {"bc", 2}};
    struct tcp_seg seg = {.src_port = 179, .dst_port = 40000, .seq = 1, .ack = 2, .wnd = 1000,
                          .flags = TCP_ACK | TCP_PSH, .len = 5, .opt = {.md5_ok = true}};
    uint8_t got[16];

    (void)st;
    assert_true(crypto->md5(crypto->ctx, piece, 3, got));
    assert_memory_equal(got, abc, 16);
    seg.src = ip_addr_v4(192, 0, 2, 1);
    seg.dst = ip_addr_v4(192, 0, 2, 2);
    digest_of(&seg, "hello", "secret", got);
    assert_memory_equal(got, v4, 16);
    assert_true(ip_addr_parse("2001:db8::1", &seg.src));
    assert_true(ip_addr_parse("2001:db8::2", &seg.dst));
    seg.flags = TCP_SYN;
    seg.len = 0;
    seg.opt.mss_ok = true;
    digest_of(&seg, "", "secret", got);
    assert_memory_equal(got, v6, 16);
}

static struct harness *listening(bool ipv6)
{
    struct harness *h = h_new_args(&(struct h_args){.ipv6 = ipv6});

    h->md5_key = "secret";
    h_listen(h, 8);
    expect(h, listen_key(h, "secret"), 0);
    return h;
}

static void establish(struct harness *h)
{
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    out(h, "S. 0:0(0) ack 1 win * <nop,nop,md5,mss 14*0>");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,md5>");
    state(h, TCP_STATE_ESTABLISHED);
    h_accept(h);
    h_flow(h)->events = 0;
}

static void passive_v4(void **st)
{
    struct harness *h = listening(false);

    (void)st;
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 7>");
    out(h, "S. 0:0(0) ack 1 win 64240 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 7>");
    out_in(h, 1000, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 7>");
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,md5>");
    h_accept(h);
    assert_true(tcp_md5_is_on(h->t, h_id(h)));
    assert_int_equal(h_info(h).snd_mss, 1440);
    in(h, "P. 1:101(100) ack 1 win 512 <nop,nop,md5>");
    out(h, ". 1:1(0) ack 101 <nop,nop,md5>");
    expect(h, h_recv(h, 1000), 100);
    /* Segments of their own, however much there is to send, and none beyond the MTU. */
    tcp_set_gso_max(h->t, 65536);
    expect(h, h_send(h, 4000), 4000);
    out(h, ". 1:1441(1440) ack 101 <nop,nop,md5>");
    out(h, ". 1441:2881(1440) ack 101 <nop,nop,md5>");
    out(h, "P. 2881:4001(1120) ack 101 <nop,nop,md5>");
    /* Two SACK blocks fit beside the signature (RFC 2385 section 4.1). */
    in(h, ". 201:301(100) ack 4001 win 512 <nop,nop,md5>");
    out(h, ". 4001:4001(0) ack 101 <nop,nop,md5,nop,nop,sack 201:301>");
    in(h, ". 401:501(100) ack 4001 win 512 <nop,nop,md5>");
    out(h, ". 4001:4001(0) ack 101 <nop,nop,md5,nop,nop,sack 401:501 201:301>");
    in(h, ". 601:701(100) ack 4001 win 512 <nop,nop,md5>");
    out(h, ". 4001:4001(0) ack 101 <nop,nop,md5,nop,nop,sack 601:701 401:501>");
    expect(h, h_send(h, 1420), 1420); /* data leaves room for these two blocks, not for a third */
    out(h, "P. 4001:5421(1420) ack 101 <nop,nop,md5,nop,nop,sack 601:701 401:501>");
    h_abort(h);
    out(h, "R. 5421:5421(0) ack 101 <nop,nop,md5>");
    h_free(h);
}

static void passive_v6(void **st)
{
    struct harness *h = listening(true);

    (void)st;
    establish(h);
    in(h, "P. 1:101(100) ack 1 win 65535 <nop,nop,md5>");
    out(h, ". 1:1(0) ack 101 <nop,nop,md5>");
    expect(h, h_recv(h, 1000), 100);
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:11(10) ack 101 <nop,nop,md5>");
    h_abort(h);
    out(h, "R. 11:11(0) ack 101 <nop,nop,md5>");
    h_free(h);
}

/* tcp_synack_options: where SACK is offered there are no timestamps, without it there are both. */
static void timestamps_and_sack(void **st)
{
    struct harness *h = listening(false);

    (void)st;
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 7>");
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,md5>");
    h_accept(h);
    flow(h, 1);
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460,nop,nop,TS val 100 ecr 0>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460,nop,nop,TS val 1000000 ecr 100>");
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,md5,nop,nop,TS val 101 ecr 1000000>");
    h_accept(h);
    assert_int_equal(h_info(h).snd_mss, 1460 - 20 - 12);
    /* No room for a block at all. */
    in(h, ". 201:301(100) ack 1 win 65535 <nop,nop,md5,nop,nop,TS val 101 ecr 1000000>");
    out(h, ". 1:1(0) ack 1 <nop,nop,md5,nop,nop,TS val 1000000 ecr 101>");
    h_free(h);
}

static void bad_signatures_are_dropped_silently(void **st)
{
    struct harness *h = listening(false);

    (void)st;
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    quiet(h, 10);
    in(h, "S 0:0(0) win 65535 <nop,nop,md5 0102030405060708090a0b0c0d0e0f10,mss 1460>");
    quiet(h, 10);
    in(h, ". 0:0(0) ack 1 win 65535"); /* else answered with a RST */
    quiet(h, 10);
    assert_int_equal(not_found(h), 2);
    assert_int_equal(failure(h), 1);
    state(h, H_GONE);
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    in(h, ". 1:1(0) ack 1 win 65535");
    in(h, "R 1:1(0) win 0"); /* the attack that RFC 2385 is about */
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    state(h, TCP_STATE_NEW_SYN_RECV);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,md5>");
    h_accept(h);
    in(h, "R 1:1(0) win 0");
    in(h, "P. 1:11(10) ack 1 win 65535");
    in(h, "P. 1:11(10) ack 1 win 65535 <nop,nop,md5 0102030405060708090a0b0c0d0e0f10>");
    in(h, "R 1:1(0) win 0 <nop,nop,md5 0102030405060708090a0b0c0d0e0f10>");
    in(h, "R 5000:5000(0) win 0"); /* no challenge either */
    quiet(h, 10);
    state(h, TCP_STATE_ESTABLISHED);
    assert_int_equal(not_found(h), 8);
    assert_int_equal(failure(h), 3);
    assert_int_equal(h_drops(h, TCP_DROP_MD5_NOT_FOUND), 8);
    assert_int_equal(h_drops(h, TCP_DROP_MD5_FAILURE), 3);
    assert_int_equal(h_info(h).drops[TCP_DROP_MD5_NOT_FOUND], 3);
    in(h, "R 1:1(0) win 0 <nop,nop,md5>"); /* the real one */
    state(h, TCP_STATE_CLOSE);
    h_free(h);
}

/* Each field that is covered, changed once behind the signature's back (RFC 2385 section 2.0). */
static void every_field_counts(void **st)
{
    struct harness *h = listening(false);
    struct tcp_seg good = {0}, bad;
    uint8_t data[8] = "abcdefg", other[8] = "abcdefh";
    unsigned n = 0;

    (void)st;
    establish(h);
    expect(h, h_send(h, 7), 7);
    out(h, "P. 1:8(7) ack 1 <nop,nop,md5>");
    in(h, ". 1:1(0) ack 8 win 65535 <nop,nop,md5>");
    good.src = h_flow(h)->tuple.remote;
    good.dst = h_flow(h)->tuple.local;
    good.src_port = h_flow(h)->tuple.remote_port;
    good.dst_port = h_flow(h)->tuple.local_port;
    good.seq = h_flow(h)->irs + 1;
    good.ack = h_flow(h)->iss + 8;
    good.flags = TCP_ACK | TCP_PSH;
    good.wnd = 1000;
    good.len = 7;
    good.n_slices = 1;
    good.slice[0] = (struct tcp_slice){.data = data, .len = 7};
    good.opt.md5_ok = true;
    h_sign(&good, "secret", good.opt.md5);
    for (unsigned i = 0; i < 11; i++) {
        bad = good;
        switch (i) {
        case 0: bad.opt.md5[15] ^= 1; break;
        case 1: bad.seq ^= 0x10; break;
        case 2: bad.ack--; break;
        case 3: bad.wnd++; break;
        case 4: bad.flags &= (uint16_t)~TCP_PSH; break;
        case 5: bad.flags |= TCP_AE; break;
        case 6: bad.urg_ptr = 1; break;
        case 7: bad.slice[0].data = other; break;
        case 8: bad.slice[0].len = bad.len = 6; break;
        case 9: bad.offset = 10 << 4 | 2; break; /* a reserved bit */
        default: bad.offset = 11 << 4; break;
        }
        tcp_input(h->t, &bad, &h->path, h->now);
        flush(h);
        assert_int_equal(failure(h), ++n);
    }
    good.offset = 10 << 4;
    tcp_input(h->t, &good, &h->path, h->now);
    flush(h);
    assert_int_equal(failure(h), n);
    out(h, ". 8:8(0) ack 8 <nop,nop,md5>");
    h_free(h);
}

static void unexpected_is_dropped_silently(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->md5_key = "secret";
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    quiet(h, 10);
    assert_int_equal(unexpected(h), 1);
    h_passive_on(h, "mss 1460", 65535);
    in(h, "P. 1:11(10) ack 1 win 65535 <nop,nop,md5>");
    quiet(h, 10);
    assert_int_equal(unexpected(h), 2);
    assert_int_equal(h_drops(h, TCP_DROP_MD5_UNEXPECTED), 2);
    in(h, "P. 1:11(10) ack 1 win 65535");
    out(h, ". 1:1(0) ack 11");
    h_free(h);
}

static int connect_with(struct harness *h, const char *key)
{
    h->hold = true;
    expect(h, h_connect(h), 0);
    h->hold = false;
    return conn_key(h, key);
}

static void active_open(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->md5_key = "secret";
    expect(h, connect_with(h, "secret"), 0);
    /* tcp_syn_options: no timestamps. */
    out(h, "S 0:0(0) win 64240 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 7>");
    out_in(h, 1000, "S 0:0(0) win 64240 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 7>");
    in(h, "S. 0:0(0) ack 1 win 65535 <mss 1460>");
    in(h, "R. 0:0(0) ack 1 win 0"); /* unsigned: the port isn't closed */
    state(h, TCP_STATE_SYN_SENT);
    assert_int_equal(not_found(h), 2);
    in(h, "S. 0:0(0) ack 1 win 65535 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 7>");
    out(h, ". 1:1(0) ack 1 <nop,nop,md5>");
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1:101(100) ack 1 <nop,nop,md5>");
    out_in(h, 1000, "P. 1:101(100) ack 1 <nop,nop,md5>"); /* tail loss probe */
    h_abort(h);
    out(h, "R. 101:101(0) ack 1 <nop,nop,md5>");
    h_free(h);
}

static void refused_with_a_signed_reset(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->md5_key = "secret";
    expect(h, connect_with(h, "secret"), 0);
    out(h, "S 0:0(0) <...>");
    in(h, "R. 0:0(0) ack 1 win 0 <nop,nop,md5>");
    state(h, TCP_STATE_CLOSE);
    assert_int_equal(h_flow(h)->error, ECONNREFUSED);
    h_free(h);
}

static void probes_and_challenges_are_signed(void **st)
{
    struct harness *h = listening(false);

    (void)st;
    establish(h);
    in(h, "R 50:50(0) win 0 <nop,nop,md5>"); /* RFC 5961 */
    out(h, ". 1:1(0) ack 1 <nop,nop,md5>");
    h_opt(h, TCP_OPT_KEEPIDLE, 5);
    h_opt(h, TCP_OPT_KEEPALIVE, 1);
    out_in(h, 5000, ". 0:0(0) ack 1 <nop,nop,md5>");
    in(h, ". 1:1(0) ack 1 win 0 <nop,nop,md5>");
    h_opt(h, TCP_OPT_KEEPALIVE, 0);
    expect(h, h_send(h, 100), 100);
    out_in(h, 200, ". 0:0(0) ack 1 <nop,nop,md5>"); /* the window is closed */
    h_abort(h);
    out(h, "R. 1:1(0) ack 1 <nop,nop,md5>");
    h_free(h);
}

static void time_wait_keeps_the_key(void **st)
{
    struct harness *h = listening(false);

    (void)st;
    establish(h);
    h_close(h);
    out(h, "F. 1:1(0) ack 1 <nop,nop,md5>");
    in(h, "F. 1:1(0) ack 2 win 65535 <nop,nop,md5>");
    out(h, ". 2:2(0) ack 2 <nop,nop,md5>");
    state(h, TCP_STATE_TIME_WAIT);
    expect(h, listen_key(h, ""), 0); /* its own reference: the listener's may go */
    in(h, "F. 1:1(0) ack 2 win 65535");
    in(h, "R. 2:2(0) ack 2 win 65535");
    quiet(h, 10);
    assert_int_equal(not_found(h), 2);
    in(h, "F. 1:1(0) ack 2 win 65535 <nop,nop,md5>");
    out(h, ". 2:2(0) ack 2 <nop,nop,md5>");
    /* A new connection is the listener's to judge, which has no key any more. */
    in(h, "S 10000:10000(0) win 65535 <nop,nop,md5,mss 1460>");
    quiet(h, 10);
    assert_int_equal(unexpected(h), 1);
    state(h, TCP_STATE_TIME_WAIT);
    in(h, "R. 2:2(0) ack 2 win 65535 <nop,nop,md5>");
    state(h, H_GONE);
    h_free(h);
}

/* tcp_v4_send_reset: nothing answers a signed segment, unless the key that proves it is known here. */
static void reset_without_connection(void **st)
{
    struct tcp_md5_key k;
    struct harness *h = h_new();
    uint32_t l;
    struct tcp_listen_args a = {.port = H_PEER_PORT, .backlog = 1};

    (void)st;
    h->md5_key = "secret";
    in(h, ". 1:1(0) ack 1 win 100");
    out(h, "R 1:1(0)*");
    in(h, ". 1:1(0) ack 1 win 100 <nop,nop,md5>");
    quiet(h, 10);
    /* Both sides use one port, as routing daemons do. */
    expect(h, tcp_listen(h->t, &a, &l), 0);
    k = peer_key(h, "secret");
    expect(h, tcp_listen_md5_set(h->t, l, &k), 0);
    in(h, ". 1:1(0) ack 1 win 100 <nop,nop,md5>");
    out(h, "R 1:1(0)* <nop,nop,md5>");
    in(h, ". 1:1(0) ack 1 win 100 <nop,nop,md5 0102030405060708090a0b0c0d0e0f10>");
    quiet(h, 10);
    assert_int_equal(failure(h), 1);
    h_free(h);
}

/* A genuine but unacceptable segment is answered with a signed RST. */
static void listener_resets_signed(void **st)
{
    struct harness *h = listening(false);

    (void)st;
    in(h, ". 0:0(0) ack 77 win 100 <nop,nop,md5>");
    out(h, "R 77:77(0)* <nop,nop,md5>");
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    in(h, ". 1:1(0) ack 99 win 100 <nop,nop,md5>");
    out(h, "R 99:99(0)* <nop,nop,md5>");
    h_free(h);
}

static void longest_prefix(void **st)
{
    struct harness *h = h_new();
    struct ip_addr peer = h_flow(h)->tuple.remote, near = peer, far = peer;
    struct tcp_md5_key any = key_for(peer, 0, "any"), net = key_for(peer, 24, "net"), host = key_for(peer, 32, "host");

    (void)st;
    near.b[3] ^= 1;
    far.b[0] ^= 1;
    h_listen(h, 8);
    expect(h, tcp_listen_md5_set(h->t, h->listener, &net), 0);
    expect(h, tcp_listen_md5_set(h->t, h->listener, &host), 0);
    expect(h, tcp_listen_md5_set(h->t, h->listener, &any), 0);
    h->md5_key = "host";
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    flow(h, 1);
    h_flow(h)->tuple.remote = near;
    h->md5_key = "net";
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    flow(h, 2);
    h_flow(h)->tuple.remote = far;
    h->md5_key = "any";
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    /* Without the longest the next one counts, for half-open entries at once. */
    flow(h, 0);
    host.bytes = 0;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &host), 0);
    expect(h, tcp_listen_md5_set(h->t, h->listener, &host), -ENOENT);
    h->md5_key = "net";
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,md5>");
    h_accept(h);
    flow(h, 1);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,md5>");
    h_accept(h);
    assert_int_equal(failure(h), 0);
    h->md5_key = "any";
    flow(h, 2);
    skip_out(h);
    h_free(h);
}

static void keys_change_while_connected(void **st)
{
    struct harness *h = listening(false);
    struct tcp_md5_key wide;

    (void)st;
    establish(h);
    /* The listener's new key is not the connection's. */
    expect(h, listen_key(h, "elsewhere"), 0);
    in(h, "P. 1:11(10) ack 1 win 65535 <nop,nop,md5>");
    out(h, ". 1:1(0) ack 11 <nop,nop,md5>");
    expect(h, conn_key(h, "another"), 0);
    in(h, "P. 11:21(10) ack 1 win 65535 <nop,nop,md5>");
    quiet(h, 10);
    assert_int_equal(failure(h), 1);
    h->md5_key = "another";
    in(h, "P. 11:21(10) ack 1 win 65535 <nop,nop,md5>");
    out(h, ". 1:1(0) ack 21 <nop,nop,md5>");
    /* A shorter prefix waits behind it. */
    wide = peer_key(h, "wide");
    wide.prefix = 8;
    expect(h, tcp_md5_set(h->t, h_id(h), &wide, h->now), 0);
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:11(10) ack 21 <nop,nop,md5>");
    expect(h, conn_key(h, ""), 0);
    expect(h, conn_key(h, ""), -ENOENT);
    h->md5_key = "wide";
    in(h, ". 21:21(0) ack 11 win 65535 <nop,nop,md5>");
    wide.bytes = 0;
    expect(h, tcp_md5_set(h->t, h_id(h), &wide, h->now), 0);
    assert_false(tcp_md5_is_on(h->t, h_id(h)));
    assert_int_equal(h_info(h).snd_mss, 1460);
    in(h, "P. 21:31(10) ack 11 win 65535");
    out_in(h, 40, ". 11:11(0) ack 31");
    in(h, "P. 31:41(10) ack 11 win 65535 <nop,nop,md5>");
    assert_int_equal(unexpected(h), 1);
    /* On again, with data in flight that was cut for a larger segment: it is cut anew. */
    expect(h, h_send(h, 1460), 1460);
    out(h, "P. 11:1471(1460) ack 31");
    expect(h, conn_key(h, "wide"), 0);
    assert_int_equal(h_info(h).snd_mss, 1440);
    out_in(h, 201, "* 11:1451(1440) ack 31 * <nop,nop,md5>");
    skip_out(h);
    h_free(h);
}

/* Super-frames that were filled, or sent, before there was a key leave one segment at a time. */
static void no_super_frames(void **st)
{
    struct harness *h = h_passive("mss 1460", 65535);

    (void)st;
    h->md5_key = "secret";
    tcp_set_gso_max(h->t, 65536);
    expect(h, h_send(h, 29200), 29200);
    while (h_pending(h))
        skip_out(h);
    expect(h, conn_key(h, "secret"), 0);
    in(h, ". 1:1(0) ack 14601 win 65535 <nop,nop,md5>");
    for (unsigned i = 0; i < 10; i++)
        out(h, ". *:*(1440) ack 1 win * <nop,nop,md5>");
    out(h, "P. 29001:29201(200) ack 1 <nop,nop,md5>");
    h_abort(h);
    skip_out(h);
    h_free(h);
}

static void set_errors(void **st)
{
    struct harness *h = h_new_args(&(struct h_args){.max_md5_keys = 2}), *bare;
    struct tcp_md5_key k;

    (void)st;
    h_listen(h, 8);
    k = peer_key(h, "one");
    k.prefix = 33;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), -EINVAL);
    k.prefix = 32;
    k.addr.family = IP_NONE;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), -EINVAL);
    expect(h, tcp_listen_md5_set(h->t, 12345, &(struct tcp_md5_key){.addr = ip_addr_v4(1, 2, 3, 4)}), -ENOENT);
    expect(h, tcp_md5_set(h->t, 12345, &(struct tcp_md5_key){.addr = ip_addr_v4(1, 2, 3, 4)}, h->now), -ENOENT);
    k = peer_key(h, "one");
    k.bytes = 81;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), -EINVAL);
    /* The table holds two keys: the same one again is none more. */
    expect(h, listen_key(h, "one"), 0);
    k = peer_key(h, "two");
    k.prefix = 24;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), 0);
    k = peer_key(h, "three");
    k.prefix = 16;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), -ENOMEM);
    k = peer_key(h, "one");
    k.prefix = 16;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), 0);
    /* And gives back what nobody uses. */
    k = peer_key(h, "");
    k.prefix = 24;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), 0);
    k = peer_key(h, "three");
    k.prefix = 8;
    expect(h, tcp_listen_md5_set(h->t, h->listener, &k), 0);
    flow(h, 1);
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    k = key_for(ip_addr_v4(9, 9, 9, 9), 32, "one");
    expect(h, tcp_md5_set(h->t, h_id(h), &k, h->now), -EINVAL); /* not its peer */
    h_free(h);
    bare = h_new_args(&(struct h_args){.no_crypto = true});
    h_listen(bare, 8);
    expect(bare, listen_key(bare, "one"), -ENOPROTOOPT);
    bare->md5_key = "one";
    in(bare, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460>");
    quiet(bare, 10);
    assert_int_equal(unexpected(bare), 1);
    h_free(bare);
}

/* A cookie's SYN-ACK promises nothing that only a timestamp could remember. */
static void syn_cookies(void **st)
{
    struct tcp_config c;
    struct harness *h;

    (void)st;
    tcp_config_defaults(&c);
    c.tcp_syncookies = 2;
    c.tcp_timestamps = 2;
    h = h_new_args(&(struct h_args){.config = &c});
    h->md5_key = "secret";
    h_listen(h, 8);
    expect(h, listen_key(h, "secret"), 0);
    in(h, "S 0:0(0) win 65535 <nop,nop,md5,mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    in(h, ". 1:1(0) ack 1 win 65535");
    quiet(h, 10);
    in(h, ". 1:1(0) ack 1 win 65535 <nop,nop,md5>");
    state(h, TCP_STATE_ESTABLISHED);
    h_accept(h);
    expect(h, h_send(h, 10), 10);
    out(h, "P. 1:11(10) ack 1 <nop,nop,md5>");
    h_abort(h);
    out(h, "R. 11:11(0) ack 1 <nop,nop,md5>");
    h_free(h);
}

/* Fast Open's option does not fit beside the signature: off on both sides. */
static void no_fastopen(void **st)
{
    struct tcp_config c;
    struct harness *h;

    (void)st;
    tcp_config_defaults(&c);
    c.tcp_fastopen = 0x603; /* both sides, for all listeners, without cookies */
    c.tcp_timestamps = 2;
    h = h_new_args(&(struct h_args){.config = &c});
    h->md5_key = "secret";
    h_listen(h, 8);
    expect(h, listen_key(h, "secret"), 0);
    in(h, "S 0:10(10) win 65535 <nop,nop,md5,mss 1460,FO>");
    out(h, "S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    state(h, TCP_STATE_NEW_SYN_RECV);
    h_free(h);
}

/* A record names its keys by place; without them it is not restored. */
static void records(void **st)
{
    struct harness *h = listening(false), *other = h_new();
    struct tcp_record r;
    struct tcp_record_payload none = {0};
    char text[8192];

    (void)st;
    establish(h);
    expect(h, tcp_record_save(h->t, h_id(h), &r), 0);
    assert_true(tcp_record_dump(&r, text, sizeof text) > 0);
    assert_null(strstr(text, "secret"));
    assert_null(memmem(&r, sizeof r, "secret", 6));
    expect(other, tcp_record_restore(other->t, &r, &none, other->now), -EINVAL);
    /* Where the table lives on, it goes on signed. */
    h_listen(other, 8);
    expect(other, listen_key(other, "secret"), 0);
    other->md5_key = "secret";
    *h_flow(other) = *h_flow(h);
    expect(other, tcp_record_restore(other->t, &r, &none, other->now), 0);
    flush(other);
    skip_out(other);
    expect(other, h_send(other, 10), 10);
    out(other, "P. 1:11(10) ack 1 <nop,nop,md5>");
    h_free(other);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(passive_v4),
        cmocka_unit_test(passive_v6),
        cmocka_unit_test(timestamps_and_sack),
        cmocka_unit_test(bad_signatures_are_dropped_silently),
        cmocka_unit_test(every_field_counts),
        cmocka_unit_test(unexpected_is_dropped_silently),
        cmocka_unit_test(active_open),
        cmocka_unit_test(refused_with_a_signed_reset),
        cmocka_unit_test(probes_and_challenges_are_signed),
        cmocka_unit_test(time_wait_keeps_the_key),
        cmocka_unit_test(reset_without_connection),
        cmocka_unit_test(listener_resets_signed),
        cmocka_unit_test(longest_prefix),
        cmocka_unit_test(keys_change_while_connected),
        cmocka_unit_test(no_super_frames),
        cmocka_unit_test(set_errors),
        cmocka_unit_test(syn_cookies),
        cmocka_unit_test(no_fastopen),
        cmocka_unit_test(records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
