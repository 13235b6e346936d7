/*
 * stack/gro.c against the fake engine: what of a read burst reaches it as one, what ends a run, that no byte moves, no
 * chunk is lost, and nothing is held without a burst.
 */
#include "env.h"
#include "fake_engine.h"

#define PEER "192.0.2.7"
#define LEN  1000u

static const struct tcp_seg plain = {.src_port = 5, .dst_port = 6, .seq = 1000, .ack = 77, .wnd = 500, .flags = TCP_ACK,
                                     .tos = 0, .opt = {.timestamps_ok = true, .tsval = 3, .tsecr = 4}};

static uint8_t byte_at(uint32_t seq)
{
    return (uint8_t)(seq * 31 + seq / 251);
}

/* A segment as the device gives it, in a chunk that is given up at once unless the stack keeps it. */
static void in(struct env *e, const struct tcp_seg *seg, uint32_t len, bool in_chunk)
{
    uint8_t tcp[60 + 2 * LEN], frame[sizeof tcp + 60], *at;
    struct ip_addr s = ip(PEER), d = ip("192.0.2.1");
    size_t header = tcp_header_encode(seg, tcp), n;
    struct chunk *c = chunk_alloc(e->pool, CHUNK_SMALL_BYTES);
    struct stack_rx rx = {.n_slices = 1};

    for (uint32_t i = 0; i < len; i++)
        tcp[header + i] = byte_at(seg->seq + i);
    put_be16(tcp + 16, 0);
    put_be16(tcp + 16, csum_fold(csum_partial(tcp, header + len, csum_pseudo(&s, &d, IP_PROTO_TCP, (uint32_t)(header + len)))));
    n = mk_ip4(frame, PEER, "192.0.2.1", IP_PROTO_TCP, tcp, header + len);
    at = in_chunk ? memcpy(c->data, frame, n) : frame;
    rx.slice[0] = (struct tcp_slice){.data = at, .len = (uint32_t)n, .chunk = in_chunk ? c : NULL};
    stack_input(e->st, &rx, e->now);
    chunk_unref(e->pool, c);
    memset(frame, 0xee, sizeof frame);
}

static void in_next(struct env *e, struct tcp_seg *seg, uint32_t len)
{
    in(e, seg, len, true);
    seg->seq += len;
}

static void check_in(const struct tcp *t, unsigned i, uint32_t seq, uint32_t len, unsigned gso)
{
    assert_true(i < t->n_in);
    assert_int_equal(t->in[i].seq, seq);
    assert_int_equal(t->in[i].len, len);
    assert_int_equal(t->in[i].gso_size, gso);
    for (uint32_t k = 0; k < len; k++)
        assert_int_equal(t->in_data[i][k], byte_at(seq + k));
}

static void end(struct env *e)
{
    stack_burst_end(e->st, e->now);
    assert_int_equal(chunk_pool_used_bytes(e->pool), 0);
}

static void a_run_is_one(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = plain;

    (void)state;
    stack_burst_begin(e->st);
    for (int i = 0; i < 5; i++)
        in_next(e, &seg, LEN);
    assert_int_equal(t->n_in, 0);
    end(e);
    assert_int_equal(t->n_in, 1);
    check_in(t, 0, 1000, 5 * LEN, LEN);
    assert_int_equal(t->in[0].ack, 77);
    assert_int_equal(t->in[0].flags, TCP_ACK);
    in_next(e, &seg, LEN); /* no burst: at once */
    assert_int_equal(t->n_in, 2);
    stack_burst_begin(e->st);
    in_next(e, &seg, LEN); /* alone: no super-frame */
    end(e);
    assert_int_equal(t->n_in, 3);
    check_in(t, 2, seg.seq - LEN, LEN, 0);
    env_free(e);
}

static void ends_of_a_run(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = plain;

    (void)state;
    stack_burst_begin(e->st);
    in_next(e, &seg, LEN);
    seg.flags |= TCP_PSH;
    in_next(e, &seg, LEN);
    assert_int_equal(t->n_in, 1);
    check_in(t, 0, 1000, 2 * LEN, LEN);
    assert_int_equal(t->in[0].flags, TCP_ACK | TCP_PSH);
    in_next(e, &seg, LEN); /* a push alone waits for nobody */
    check_in(t, 1, 3000, LEN, 0);
    seg.flags = TCP_ACK;
    in_next(e, &seg, LEN);
    in_next(e, &seg, LEN - 1);
    check_in(t, 2, 4000, 2 * LEN - 1, LEN);
    in_next(e, &seg, LEN - 1);
    in_next(e, &seg, LEN); /* larger than the first: another run */
    check_in(t, 3, 5999, LEN - 1, 0);
    end(e);
    check_in(t, 4, 6998, LEN, 0);
    assert_int_equal(t->n_in, 5);
    env_free(e);
}

/* As many as the engine's segment has slices for. */
static void long_run(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = plain;

    (void)state;
    stack_burst_begin(e->st);
    for (int i = 0; i < TCP_SLICES_MAX + 3; i++)
        in_next(e, &seg, LEN);
    end(e);
    assert_int_equal(t->n_in, 2);
    check_in(t, 0, 1000, TCP_SLICES_MAX * LEN, LEN);
    check_in(t, 1, 1000 + TCP_SLICES_MAX * LEN, 3 * LEN, LEN);
    env_free(e);
}

/* What differs from the run, in whatever, comes behind it and by itself; nothing is reordered. */
static void strangers(void **state)
{
    struct tcp_seg next = plain, other[] = {plain, plain, plain, plain, plain, plain, plain, plain, plain, plain, plain};
    unsigned n = 0;

    (void)state;
    next.seq += 2 * LEN;
    for (unsigned i = 0; i < sizeof other / sizeof *other; i++)
        other[i].seq = next.seq;
    other[n++].ack++;
    other[n++].wnd++;
    other[n++].opt.tsval++;
    other[n++].opt.tsecr++;
    other[n++].opt.timestamps_ok = false;
    other[n++].src_port++;
    other[n++].dst_port++;
    other[n++].seq++;
    other[n++].flags = TCP_ACK | TCP_FIN;
    other[n++].flags = TCP_ACK | TCP_ECE;
    other[n++].flags = TCP_ACK | TCP_URG;
    for (unsigned i = 0; i < n; i++) {
        struct env *e = env_new();
        struct tcp *t = stack_tcp(e->st);
        struct tcp_seg seg = plain;

        stack_burst_begin(e->st);
        in_next(e, &seg, LEN);
        in_next(e, &seg, LEN);
        in(e, &other[i], LEN, true);
        assert_true(t->n_in >= 1);
        check_in(t, 0, 1000, 2 * LEN, LEN);
        end(e);
        assert_int_equal(t->n_in, 2);
        check_in(t, 1, other[i].seq, LEN, 0);
        env_free(e);
    }
}

/* A pure ACK, a SACK, what is no chunk's: none of them is held; a wrong checksum ends nothing and joins nothing. */
static void not_held(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = plain, sack = plain;
    uint8_t broken[200] = {0};
    size_t n;

    (void)state;
    stack_burst_begin(e->st);
    in(e, &seg, 0, true);
    assert_int_equal(t->n_in, 1);
    sack.opt.sack_count = 1;
    sack.opt.sack[0] = (struct tcp_sack_block){1, 2};
    in(e, &sack, LEN, true);
    assert_int_equal(t->n_in, 2);
    in(e, &seg, LEN, false);
    assert_int_equal(t->n_in, 3);
    check_in(t, 2, 1000, LEN, 0);
    seg.seq += LEN;
    in_next(e, &seg, LEN);
    tcp_header_encode(&seg, broken);
    n = mk_ip4(broken + 100, PEER, "192.0.2.1", IP_PROTO_TCP, broken, 32);
    stack_input(e->st, &(struct stack_rx){.slice = {{.data = broken + 100, .len = (uint32_t)n}}, .n_slices = 1}, e->now);
    assert_int_equal(env_drops(e, STACK_DROP_TCP_CHECKSUM), 1);
    in_next(e, &seg, LEN);
    end(e);
    assert_int_equal(t->n_in, 4);
    check_in(t, 3, 2000, 2 * LEN, LEN);
    env_free(e);
}

/* Each owes an ACK. */
static void out_of_order(void **state)
{
    struct env *e = env_new();
    struct tcp *t = stack_tcp(e->st);
    struct tcp_seg seg = plain;

    (void)state;
    t->out_of_order = true;
    stack_burst_begin(e->st);
    for (unsigned i = 0; i < 3; i++) {
        in_next(e, &seg, LEN);
        assert_int_equal(t->n_in, i + 1);
    }
    end(e);
    env_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_one), cmocka_unit_test(ends_of_a_run), cmocka_unit_test(long_run),
        cmocka_unit_test(strangers),    cmocka_unit_test(not_held),      cmocka_unit_test(out_of_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
