/* The Internet checksum: RFC 1071's example, a plain reference loop, pieces, slices, update. */
#include "wire_test.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/ipv4.h"
#include "wire/tcp.h"

/* RFC 1071 section 4.1, word by word. */
static uint16_t reference(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void test_rfc1071_example(void **state)
{
    static const uint8_t bytes[8] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

    (void)state;
    assert_int_equal(csum_fold_plain(csum_partial(bytes, 8, 0)), 0xddf2);
    assert_int_equal(csum_fold(csum_partial(bytes, 8, 0)), 0x220d);
    assert_int_equal(csum_fold(csum_partial(NULL, 0, 0)), 0xffff);
}

static void test_against_reference(void **state)
{
    struct rng r = test_rng();
    uint8_t bytes[700];

    (void)state;
    for (int i = 0; i < 3000; i++) {
        size_t at = below(&r, 9);
        size_t n = below(&r, (uint32_t)(sizeof bytes - at));
        size_t cut = below(&r, (uint32_t)n + 1);
        uint32_t whole;
        uint32_t pieces;

        fill_random(&r, bytes, sizeof bytes);
        if (i % 3 == 0)
            memset(bytes, 0xff, sizeof bytes); /* all carries */
        whole = csum_partial(bytes + at, n, 0);
        assert_int_equal(csum_fold(whole), reference(bytes + at, n));
        pieces = csum_partial(bytes + at, cut, 0);
        pieces = csum_add_at(pieces, csum_partial(bytes + at + cut, n - cut, 0), cut);
        assert_int_equal(csum_fold(pieces), csum_fold(whole));
    }
}

static void test_slices(void **state)
{
    struct rng r = test_rng();
    uint8_t bytes[2000];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct tcp_slice slice[8];
        size_t at = 0;

        fill_random(&r, bytes, sizeof bytes);
        for (size_t k = 0; k < 8; k++) {
            slice[k] = (struct tcp_slice){.data = bytes + at, .len = below(&r, 250)};
            at += slice[k].len;
        }
        assert_int_equal(csum_fold(csum_slices(slice, 8, 0)), reference(bytes, at));
    }
}

static void test_pseudo_and_tcp(void **state)
{
    /* An IPv4 SYN whose checksum was computed by another implementation. */
    static const char syn[] =
        "4500003c1234400040063c4cc0000201c63364079c4000501122334400000000a002faf07fdb0000"
        "020405b40402080a000000010000000001030307";
    size_t n;
    uint8_t *p = unhex(syn, &n);
    struct ip_addr src = ip_addr_v4_bytes(p + 12);
    struct ip_addr dst = ip_addr_v4_bytes(p + 16);
    struct tcp_slice odd[2] = {{.data = p + 41, .len = 3}, {.data = p + 44, .len = 16}};

    (void)state;
    assert_true(csum_ok(csum_partial(p, 20, 0)));
    assert_int_equal(csum_tcp(&src, &dst, p + 20, 40, NULL, 0), 0);
    put_be16(p + 36, 0);
    assert_int_equal(csum_tcp(&src, &dst, p + 20, 40, NULL, 0), 0x7fdb);
    /* What a NEEDS_CSUM frame carries, completed over the segment, gives the same. */
    put_be16(p + 36, csum_fold_plain(csum_pseudo(&src, &dst, IP_PROTO_TCP, 40)));
    assert_int_equal(csum_fold(csum_partial(p + 20, 40, 0)), 0x7fdb);
    put_be16(p + 36, 0);
    odd[0] = (struct tcp_slice){.data = p + 40, .len = 3};
    odd[1] = (struct tcp_slice){.data = p + 43, .len = 17};
    assert_int_equal(csum_tcp(&src, &dst, p + 20, 20, odd, 2), 0x7fdb);
    free(p);
}

static void test_update(void **state)
{
    struct rng r = test_rng();
    uint8_t bytes[20];

    (void)state;
    for (int i = 0; i < 2000; i++) {
        uint16_t field;
        uint16_t word = (uint16_t)rng_next(&r);

        fill_random(&r, bytes, sizeof bytes);
        bytes[0] = 0x45;
        field = reference(bytes, 20);
        field = csum_update16(field, get_be16(bytes + 8), word);
        put_be16(bytes + 8, word);
        assert_int_equal(field, reference(bytes, 20));
    }
    /* RFC 1624 section 4: the example where the older equation fails. */
    assert_int_equal(csum_update16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc1071_example), cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_slices),          cmocka_unit_test(test_pseudo_and_tcp),
        cmocka_unit_test(test_update),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
