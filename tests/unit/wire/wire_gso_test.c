/* The segmenter against its definition: the cut pieces, laid end to end, are the super-frame. */
#include "wire_test.h"
#include "wire/gso.h"

static void test_flags(void **state)
{
    static const uint8_t bytes[2500];
    struct tcp_seg super = {.seq = 0xfffffc00,
                            .ack = 7,
                            .wnd = 9,
                            .flags = TCP_ACK | TCP_PSH | TCP_FIN | TCP_CWR | TCP_ECE,
                            .gso_size = 1000,
                            .len = 2500,
                            .n_slices = 1,
                            .slice = {{.data = bytes, .len = 2500}}};
    static const uint16_t flags[3] = {TCP_ACK | TCP_CWR | TCP_ECE, TCP_ACK | TCP_ECE,
                                      TCP_ACK | TCP_ECE | TCP_PSH | TCP_FIN};
    static const uint32_t len[3] = {1000, 1000, 500};
    struct tcp_seg seg;
    struct gso g;

    (void)state;
    super.opt.timestamps_ok = true;
    super.opt.tsval = 77;
    gso_begin(&g, &super);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(gso_step(&g, &seg));
        assert_int_equal(g.index, i + 1);
        assert_int_equal(seg.flags, flags[i]);
        assert_int_equal(seg.len, len[i]);
        assert_int_equal(seg.seq, 0xfffffc00 + i * 1000);
        assert_int_equal(seg.gso_size, 0);
        assert_int_equal(seg.opt.tsval, 77);
        assert_ptr_equal(seg.slice[0].data, bytes + i * 1000);
    }
    assert_false(gso_step(&g, &seg));
    assert_int_equal(gso_segs(2500, 1000), 3);
    assert_int_equal(gso_segs(0, 1000), 1);
    assert_int_equal(gso_segs(2000, 1000), 2);
    assert_int_equal(gso_segs(9999, 0), 1);
}

static void test_plain(void **state)
{
    struct tcp_seg super = {.seq = 5, .flags = TCP_FIN | TCP_PSH | TCP_CWR};
    struct tcp_seg seg;
    struct gso g;

    (void)state;
    gso_begin(&g, &super);
    assert_true(gso_step(&g, &seg));
    assert_int_equal(seg.flags, super.flags);
    assert_int_equal(seg.len, 0);
    assert_false(gso_step(&g, &seg));
}

static struct tcp_seg random_super(struct rng *r, const uint8_t *bytes)
{
    struct tcp_seg super;

    memset(&super, 0, sizeof super);
    super.seq = (uint32_t)rng_next(r);
    super.flags = TCP_ACK | (uint16_t)below(r, 256);
    super.gso_size = (uint16_t)(1 + below(r, 1500));
    super.n_slices = (uint16_t)below(r, TCP_SLICES_MAX + 1);
    for (size_t i = 0; i < super.n_slices; i++) {
        super.slice[i] = (struct tcp_slice){.data = bytes + super.len, .len = below(r, 1600)};
        super.len += super.slice[i].len;
    }
    return super;
}

static void test_random(void **state)
{
    static uint8_t bytes[TCP_SLICES_MAX * 1600];
    struct rng r = test_rng();

    (void)state;
    fill_random(&r, bytes, sizeof bytes);
    for (int i = 0; i < 300; i++) {
        struct tcp_seg super = random_super(&r, bytes);
        struct tcp_seg seg;
        struct gso g;
        uint32_t at = 0;
        uint32_t count = 0;

        gso_begin(&g, &super);
        while (gso_step(&g, &seg)) {
            uint32_t sum = 0;

            assert_int_equal(seg.seq, super.seq + at);
            for (size_t k = 0; k < seg.n_slices; k++) {
                assert_true(seg.slice[k].len > 0);
                assert_ptr_equal(seg.slice[k].data, bytes + at + sum);
                sum += seg.slice[k].len;
            }
            assert_int_equal(sum, seg.len);
            at += seg.len;
            assert_true(seg.len == super.gso_size || at == super.len);
            count++;
        }
        assert_int_equal(at, super.len);
        assert_int_equal(count, gso_segs(super.len, super.gso_size));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
