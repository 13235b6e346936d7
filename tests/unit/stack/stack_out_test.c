/*
 * Segments out and in, with and without what a device offers: checksums, super-frames, cutting, waiting, our
 * own addresses. The receiving side of each frame is a second look by the wire decoders.
 */
#include "env.h"
#include "fake_engine.h"

static uint8_t payload[65536];

static void offload(struct env *e, bool csum, bool tso4, bool tso6, bool ecn)
{
    struct stack_offload o = {
        .vnet_hdr = true, .vnet_hdr_bytes = 10, .csum = csum, .tso4 = tso4, .tso6 = tso6, .tso_ecn = ecn};

    stack_set_offload(e->st, &o);
}

/* Knows 192.0.2.7 and fe80::2. */
static struct env *env_known(void)
{
    struct env *e = env_new();
    uint8_t frame[128];

    in_arp(e, ARP_REQUEST, "192.0.2.7", &mac_peer, "192.0.2.1");
    env_in(e, frame, mk_ns(frame, "fe80::2", US_LL, &mac_peer));
    env_forget(e);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 31 + i / 256);
    return e;
}

static struct tcp_seg data_seg(bool v6, uint32_t len, uint16_t gso_size)
{
    struct tcp_seg s = {.src = ip(v6 ? US_LL : "192.0.2.1"),
                        .dst = ip(v6 ? "fe80::2" : "192.0.2.7"),
                        .src_port = 1000,
                        .dst_port = 80,
                        .seq = 0xfffff000,
                        .flags = TCP_ACK | TCP_PSH,
                        .gso_size = gso_size,
                        .len = len,
                        .ecn = IP_ECN_ECT0,
                        .n_slices = len > 100 ? 2
                                    : len     ? 1
                                              : 0,
                        .opt = {.timestamps_ok = true, .tsval = 1}};

    s.slice[0] = (struct tcp_slice){.data = payload, .len = len > 100 ? 99 : len};
    if (len > 100)
        s.slice[1] = (struct tcp_slice){.data = payload + 99, .len = len - 99};
    return s;
}

/* Decodes a frame without virtio-net header; asserts checksums. Returns the payload. */
static const uint8_t *look(const uint8_t *p, size_t n, struct tcp_seg *seg, uint16_t *ret_id, bool partial)
{
    struct ipv4_header h4;
    struct ipv6_header h6;
    size_t at = 54, header, end;
    struct tcp_slice all;
    uint32_t sum;

    if (get_be16(p + 12) == ETH_P_IP) {
        assert_int_equal(ipv4_header_decode(p + 14, n - 14, true, &h4), IPV4_DECODE_OK);
        assert_true(h4.dont_fragment);
        assert_int_equal(h4.ecn, IP_ECN_ECT0);
        assert_int_equal(h4.total_bytes, n - 14);
        at = 34;
        end = n;
        *ret_id = h4.id;
        seg->src = h4.src;
        seg->dst = h4.dst;
    } else {
        assert_int_equal(ipv6_header_decode(p + 14, n - 14, 1, &h6), IPV6_DECODE_OK);
        assert_int_equal(h6.total_bytes, n - 14);
        assert_true(h6.flow_label != 0);
        end = n;
        *ret_id = 0;
        seg->src = h6.src;
        seg->dst = h6.dst;
    }
    all = (struct tcp_slice){.data = p + at, .len = (uint32_t)(end - at)};
    sum = csum_pseudo(&seg->src, &seg->dst, IP_PROTO_TCP, all.len);
    if (partial)
        assert_int_equal(get_be16(p + at + 16), csum_fold_plain(sum));
    else
        assert_true(csum_ok(csum_slices(&all, 1, sum)));
    assert_int_equal(tcp_header_decode(p + at, end - at, seg, &header), TCP_DECODE_OK);
    seg->len = (uint32_t)(end - at - header);
    return p + at + header;
}

static void plain_segments(void **state)
{
    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        struct env *e = env_known();
        struct tcp_seg s = data_seg(v6, 1400, 0), got;
        uint16_t id;
        const struct frame *f;

        fake_ready(stack_tcp(e->st), &s);
        env_pull(e);
        f = env_next(e);
        assert_memory_equal(look(f->bytes, f->n, &got, &id, false), payload, 1400);
        assert_int_equal(got.seq, s.seq);
        assert_int_equal(f->bytes[v6 ? 21 : 22], 64);
        assert_int_equal(stack_tcp(e->st)->gso_max, 0);
        env_free(e);
    }
}

static void checksum_offload(void **state)
{
    struct env *e = env_known();
    struct tcp_seg s = data_seg(false, 1000, 0), got;
    struct vnet_header h;
    const struct frame *f;
    uint16_t id;

    (void)state;
    offload(e, true, false, false, false);
    assert_int_equal(stack_tcp(e->st)->gso_max, 0);
    fake_ready(stack_tcp(e->st), &s);
    env_pull(e);
    f = env_next(e);
    assert_int_equal(vnet_header_decode(f->bytes, f->n, 10, &h), VNET_DECODE_OK);
    assert_true(h.needs_csum);
    assert_int_equal(h.csum_start, 34);
    assert_int_equal(h.csum_offset, 16);
    assert_int_equal(h.gso, VNET_GSO_NONE);
    look(f->bytes + 10, f->n - 10, &got, &id, true);
    env_free(e);
}

static void super_frames(void **state)
{
    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        struct env *e = env_known();
        struct tcp_seg s = data_seg(v6, 60000, 1400), got;
        struct vnet_header h;
        const struct frame *f;
        uint16_t id;

        offload(e, true, true, true, true);
        assert_true(stack_tcp(e->st)->gso_max > 64000);
        s.flags |= TCP_CWR;
        fake_ready(stack_tcp(e->st), &s);
        env_pull(e);
        f = env_next(e);
        assert_int_equal(vnet_header_decode(f->bytes, f->n, 10, &h), VNET_DECODE_OK);
        assert_int_equal(h.gso, v6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4);
        assert_int_equal(h.gso_size, 1400);
        assert_int_equal(h.hdr_bytes, v6 ? 86 : 66);
        assert_true(h.ecn);
        assert_memory_equal(look(f->bytes + 10, f->n - 10, &got, &id, true), payload, 60000);
        assert_null(env_next(e));
        env_free(e);
    }
}

/* TSO for one family, or none for CWR: the stack cuts, also over the end of a turn and with the payload's
 * chunk freed. */
static void cuts_itself(void **state)
{
    (void)state;
    for (int variant = 0; variant < 3; variant++) {
        struct env *e = env_known();
        bool v6 = variant == 1;
        struct tcp_seg s = data_seg(v6, 30000, 1400), got;
        struct chunk *c = chunk_alloc(e->pool, CHUNK_BIG_BYTES);
        struct stack_tx tx;
        uint16_t id, first_id = 0;
        size_t used = chunk_pool_used_bytes(e->pool);
        uint32_t at = 0;

        memcpy(c->data, payload, 30000);
        s.n_slices = 1;
        s.slice[0] = (struct tcp_slice){.data = c->data, .len = 30000, .chunk = c};
        if (variant == 2)
            s.flags |= TCP_CWR;
        offload(e, true, v6 || variant == 2, variant != 1, false);
        fake_ready(stack_tcp(e->st), &s);
        for (int i = 0; i < 22; i++) {
            uint8_t frame[2000];
            const uint8_t *data;

            assert_true(stack_output(e->st, e->now, &tx));
            memcpy(frame, tx.header, tx.header_bytes);
            for (unsigned k = 0, to = tx.header_bytes; k < tx.n_slices; to += tx.slice[k++].len)
                memcpy(frame + to, tx.slice[k].data, tx.slice[k].len);
            data = look(frame + 10, tx.frame_bytes - 10, &got, &id, true);
            assert_memory_equal(data, payload + at, got.len);
            assert_int_equal(got.seq, s.seq + at);
            assert_int_equal(!!(got.flags & TCP_PSH), i == 21);
            assert_int_equal(!!(got.flags & TCP_CWR), variant == 2 && i == 0);
            if (i == 0)
                first_id = id;
            if (!v6)
                assert_int_equal(id, (uint16_t)(first_id + i));
            at += got.len;
            if (i == 10) { /* a turn ends; the owner lets go of the chunk */
                stack_commit(e->st, e->now);
                stack_expire(e->st, e->now);
                chunk_unref(e->pool, c);
                assert_int_equal(chunk_pool_used_bytes(e->pool), used);
            }
        }
        assert_int_equal(at, 30000);
        assert_false(stack_output(e->st, e->now, &tx));
        stack_commit(e->st, e->now); /* the batch is written after it: what frames point at stays */
        assert_int_equal(chunk_pool_used_bytes(e->pool), used);
        stack_expire(e->st, e->now);
        assert_int_equal(chunk_pool_used_bytes(e->pool), 0);
        env_free(e);
    }
}

static void input_with_vnet(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(false, 0, 0);
    static uint8_t frame[70000];
    struct chunk *c = chunk_alloc(e->pool, CHUNK_BIG_BYTES);
    struct vnet_header h = {.needs_csum = true,
                            .gso = VNET_GSO_TCPV4,
                            .gso_size = 1400,
                            .hdr_bytes = 66,
                            .csum_start = 34,
                            .csum_offset = 16};
    struct stack_rx rx = {.n_slices = 2};
    uint8_t tcp[60];
    size_t n = tcp_header_encode(&s, tcp), len;

    (void)state;
    offload(e, true, true, true, true);
    memcpy(frame + 40000, tcp, n);
    memcpy(frame + 40000 + n, payload, 20000);
    len = mk_ip4(frame + 10, "192.0.2.7", "192.0.2.1", IP_PROTO_TCP, frame + 40000, n + 20000);
    vnet_header_encode(&h, 10, frame);
    memcpy(c->data, frame + 300, 10 + len - 300);
    rx.slice[0] = (struct tcp_slice){.data = frame, .len = 300};
    rx.slice[1] = (struct tcp_slice){.data = c->data, .len = (uint32_t)(10 + len - 300), .chunk = c};
    stack_input(e->st, &rx, e->now);
    assert_int_equal(t->n_in, 1);
    assert_int_equal(t->in[0].len, 20000);
    assert_int_equal(t->in[0].gso_size, 1400);
    assert_ptr_equal(t->in_chunk[0], c);
    assert_memory_equal(t->in_data[0], payload, 20000);
    h.csum_start = 36; /* lies */
    vnet_header_encode(&h, 10, frame);
    stack_input(e->st, &rx, e->now);
    h.csum_start = 34;
    h.gso = VNET_GSO_TCPV6;
    vnet_header_encode(&h, 10, frame);
    stack_input(e->st, &rx, e->now);
    assert_int_equal(env_drops(e, STACK_DROP_VNET_HEADER), 2);
    h = (struct vnet_header){0}; /* nobody vouches, and the sum is wrong */
    vnet_header_encode(&h, 10, frame);
    stack_input(e->st, &rx, e->now);
    assert_int_equal(env_drops(e, STACK_DROP_TCP_CHECKSUM), 1);
    h.data_valid = true;
    vnet_header_encode(&h, 10, frame);
    stack_input(e->st, &rx, e->now);
    assert_int_equal(t->n_in, 2);
    chunk_unref(e->pool, c);
    env_free(e);
}

/* A partial checksum of something else than TCP is made whole before it is verified. */
static void partial_udp(void **state)
{
    struct env *e = env_known();
    uint8_t frame[200], udp[20] = {4, 1, 0, 53, 0, 20};
    struct ip_addr s = ip("192.0.2.7"), d = ip("192.0.2.1");
    struct vnet_header h = {.needs_csum = true, .csum_start = 34, .csum_offset = 6};
    size_t n;

    (void)state;
    offload(e, true, true, true, true);
    put_be16(udp + 6, csum_fold_plain(csum_pseudo(&s, &d, IP_PROTO_UDP, 20)));
    n = mk_ip4(frame + 10, "192.0.2.7", "192.0.2.1", IP_PROTO_UDP, udp, 20);
    vnet_header_encode(&h, 10, frame);
    env_in(e, frame, n + 10);
    assert_int_equal(env_drops(e, STACK_DROP_UDP_NO_PORT), 1);
    assert_non_null(env_next(e));
    h.csum_offset = 16;
    vnet_header_encode(&h, 10, frame);
    env_in(e, frame, n + 10);
    assert_int_equal(env_drops(e, STACK_DROP_VNET_HEADER), 1);
    env_free(e);
}

static void syn_gets_a_path(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = {.src_port = 80, .dst_port = 1000, .flags = TCP_SYN};
    struct stack_route r = {.prefix = ip("198.51.100.0"),
                            .prefix_bits = 24,
                            .gateway = ip("192.0.2.253"),
                            .mtu = 1300,
                            .advmss = 1000,
                            .initcwnd = 20,
                            .initrwnd = 30};
    struct ip_addr src = ip("198.51.100.4"), d = ip("192.0.2.1"), any = {0};
    struct tcp_path path;
    uint8_t frame[128], tcp[60];
    size_t n = tcp_header_encode(&s, tcp);

    (void)state;
    assert_int_equal(stack_route_add(e->st, &r, e->now), 0);
    assert_int_equal(stack_route_add(e->st, &r, e->now), -EEXIST);
    put_be16(tcp + 16, csum_fold(csum_partial(tcp, n, csum_pseudo(&src, &d, IP_PROTO_TCP, (uint32_t)n))));
    env_in(e, frame, mk_ip4(frame, "198.51.100.4", "192.0.2.1", IP_PROTO_TCP, tcp, n));
    assert_int_equal(t->n_in, 1);
    assert_true(t->in_path_ok[0]);
    assert_int_equal(t->in_path[0].mtu, 1300);
    assert_int_equal(t->in_path[0].advmss, 1000);
    assert_int_equal(t->in_path[0].initcwnd, 20);
    assert_int_equal(t->in_path[0].initrwnd, 30);
    assert_int_equal(st_net_route(e->st, &src, &any, &path), 0);
    assert_int_equal(path.mtu, 1300);
    assert_int_equal(stack_route_del(e->st, &r.prefix, 24), 0);
    assert_int_equal(stack_route_del(e->st, &r.prefix, 24), -ESRCH);
    env_free(e);
}

static void destinations(void **state)
{
    static const struct {
        const char *dst;
        int want;
    } cases[] = {
        {"192.0.2.9", 0},
        {"192.0.2.1", 0},
        {"8.8.8.8", 0},
        {"255.255.255.255", -EACCES},
        {"192.0.2.255", -EACCES},
        {"224.0.0.1", -ENETUNREACH},
        {"127.0.0.1", -ENETUNREACH},
        {"0.0.0.0", -ENETUNREACH},
        {"240.0.0.1", -EINVAL},
        {"ff02::1", -ENETUNREACH},
        {"::", -ENETUNREACH},
        {"::1", -ENETUNREACH},
        {"2001:db8::1", -ENETUNREACH},
        {"fe80::5", 0},
    };
    struct env *e = env_new();

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ip_addr d = ip(cases[i].dst), src = {0};
        struct tcp_path path;

        assert_int_equal(st_net_route(e->st, &d, &src, &path), cases[i].want);
    }
    struct ip_addr d = ip("192.0.2.9"), src = ip("192.0.2.2");
    struct tcp_path path;

    assert_int_equal(st_net_route(e->st, &d, &src, &path), -EADDRNOTAVAIL);
    env_free(e);
}

static void loops_to_ourselves(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(false, 5000, 1400);

    (void)state;
    s.dst = s.src;
    s.opt.md5_ok = true; /* a listener of ours may have a key for ourselves */
    memset(s.opt.md5, 0x5a, sizeof s.opt.md5);
    fake_ready(t, &s);
    env_pull(e);
    assert_int_equal(t->n_in, 0); /* the next turn's */
    env_sleep(e, MSEC);
    assert_null(env_next(e));
    assert_int_equal(t->n_in, 1);
    assert_memory_equal(t->in_data[0], payload, 5000);
    assert_true(t->in[0].opt.md5_ok);
    assert_memory_equal(t->in[0].opt.md5, s.opt.md5, sizeof s.opt.md5);
    assert_int_equal(stack_get_counters(e->st)->looped, 1);
    assert_int_equal(chunk_pool_used_bytes(e->pool), 0);
    /* A full loop makes connections wait, and loses nothing. */
    s.len = 10;
    s.n_slices = 1;
    s.slice[0].len = 10;
    for (int i = 0; i < 40; i++) {
        tcp_id id = fake_ready(t, &s);

        fake_more(t, id, &s);
    }
    t->n_in = 0;
    env_sleep(e, MSEC);
    assert_int_equal(stack_get_counters(e->st)->looped, 81);
    env_free(e);
}

static void no_way(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(true, 10, 0);
    tcp_id id;

    (void)state;
    s.dst = ip("2001:db8::1");
    id = fake_ready(t, &s);
    env_pull(e);
    assert_int_equal(t->conn[id - 1].unreachable, ENETUNREACH);
    assert_int_equal(env_drops(e, STACK_DROP_NO_ROUTE), 1);
    assert_null(env_next(e));
    env_free(e);
}

/* The link's MTU shrank: a segment made for the old one does not leave; the engine hears of the new one. */
static void link_shrinks(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(false, 1400, 0);
    struct stack_event ev;

    (void)state;
    stack_set_mtu(e->st, 1300, e->now);
    assert_true(env_event(e, STACK_EVENT_LINK, &ev) && ev.mtu == 1300);
    fake_ready(t, &s);
    env_pull(e);
    assert_null(env_next(e));
    assert_int_equal(t->n_icmp, 1);
    assert_int_equal(t->icmp[0].mtu, 1300);
    assert_int_equal(t->icmp[0].error, EMSGSIZE);
    assert_int_equal(t->icmp[0].seq, s.seq);
    env_free(e);
}

static void failed_writes_are_told(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(false, 700, 0);
    struct stack_tx tx;

    (void)state;
    fake_ready(t, &s);
    assert_true(stack_output(e->st, e->now, &tx));
    stack_tx_failed(e->st, &tx);
    assert_int_equal(t->n_failed, 1);
    assert_int_equal(t->failed.id, 1);
    assert_int_equal(t->failed.seg.seq, s.seq);
    assert_int_equal(t->failed.seg.len, 700);
    assert_int_equal(stack_get_counters(e->st)->tx_failed, 1);
    env_free(e);
}

/* The device was full: with what the engine needs to take it back, and when. */
static void refused_writes_are_told(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(false, 700, 0);
    struct stack_tx tx;
    tcp_id id;

    (void)state;
    id = fake_ready(t, &s);
    t->conn[id - 1].out[0].retransmission = true;
    assert_true(stack_output(e->st, e->now, &tx));
    stack_tx_refused(e->st, &tx, e->now);
    assert_int_equal(t->n_failed, 0);
    assert_int_equal(t->n_refused, 1);
    assert_int_equal(t->refused[0].id, id);
    assert_int_equal(t->refused[0].seg.seq, s.seq);
    assert_true(t->refused[0].retransmission);
    assert_int_equal(stack_get_counters(e->st)->tx_failed, 1);
    env_free(e);
}

/* What is left of a super-frame does not leave once a piece of it was refused: the engine has taken it back. */
static void refused_cut_ends(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(false, 30000, 1400), other = data_seg(false, 10, 0);
    struct stack_tx tx[3];

    (void)state;
    fake_ready(t, &s);
    for (int i = 0; i < 3; i++)
        assert_true(stack_output(e->st, e->now, &tx[i]));
    for (int i = 2; i > 0; i--)
        stack_tx_refused(e->st, &tx[i], e->now);
    assert_int_equal(t->n_refused, 2);
    assert_int_equal(t->refused[0].seg.seq, s.seq + 2800);
    assert_int_equal(t->refused[1].seg.seq, s.seq + 1400);
    fake_ready(t, &other);
    assert_true(stack_output(e->st, e->now, &tx[0]));
    assert_int_equal(tx[0].id, 2);
    assert_false(stack_output(e->st, e->now, &tx[0]));
    stack_expire(e->st, e->now);
    env_free(e);
}

/* Before each segment the engine hears what the path carries: from the cache, from when it ends the link's again. */
static void path_is_told(void **state)
{
    struct env *e = env_known();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg s = data_seg(false, 100, 0);
    struct ip_addr dst = s.dst;
    tcp_id one = fake_ready(t, &s), two = fake_ready(t, &s);

    (void)state;
    env_pull(e);
    assert_int_equal(t->conn[one - 1].path_mtu, 1500);
    st_path_learn(e->st, &dst, 1400, e->now);
    for (int i = 0; i < 2; i++) {
        in_arp(e, ARP_REQUEST, "192.0.2.7", &mac_peer, "192.0.2.1");
        fake_more(t, one, &s);
        fake_more(t, two, &s);
        env_pull(e);
        assert_int_equal(t->conn[one - 1].path_mtu, i == 0 ? 1400 : 1500);
        assert_int_equal(t->conn[two - 1].path_mtu, i == 0 ? 1400 : 1500);
        env_sleep(e, 600 * SEC);
    }
    env_free(e);
}

static void config_rows(void **state)
{
    struct stack_config c;
    unsigned n = 0;

    (void)state;
    stack_config_defaults(&c);
    for (const struct tcp_config_row *r = stack_config_rows; r->name; r++, n++) {
        int32_t v;

        memcpy(&v, (const char *)&c + r->offset, sizeof v);
        assert_int_equal(v, r->def);
        assert_true(r->min <= r->def && r->def <= r->max);
    }
    assert_int_equal(n * sizeof(int32_t), sizeof c);
    for (int d = 0; d < STACK_DROP_MAX; d++)
        assert_true(strlen(stack_drop_text((enum stack_drop)d)) > 3 &&
                    stack_drop_name((enum stack_drop)d)[0] != '?');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_segments),     cmocka_unit_test(checksum_offload),
        cmocka_unit_test(super_frames),       cmocka_unit_test(cuts_itself),
        cmocka_unit_test(input_with_vnet),    cmocka_unit_test(partial_udp),
        cmocka_unit_test(syn_gets_a_path),    cmocka_unit_test(destinations),
        cmocka_unit_test(loops_to_ourselves), cmocka_unit_test(no_way),
        cmocka_unit_test(link_shrinks),       cmocka_unit_test(failed_writes_are_told),
        cmocka_unit_test(refused_writes_are_told), cmocka_unit_test(refused_cut_ends),
        cmocka_unit_test(path_is_told),       cmocka_unit_test(config_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
