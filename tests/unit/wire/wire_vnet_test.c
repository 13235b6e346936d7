/* The virtio-net header. */
#include "wire_test.h"
#include "wire/vnet.h"

static void test_encode(void **state)
{
    struct vnet_header h = {.needs_csum = true,
                            .ecn = true,
                            .gso = VNET_GSO_TCPV6,
                            .hdr_bytes = 86,
                            .gso_size = 1428,
                            .csum_start = 54,
                            .csum_offset = 16};
    struct vnet_header back;
    uint8_t out[VNET_HEADER_MRG_BYTES + 100] = {0};

    (void)state;
    memset(out, 0xee, VNET_HEADER_MRG_BYTES);
    vnet_header_encode(&h, 12, out);
    assert_memory_equal(out, "\x01\x84\x56\x00\x94\x05\x36\x00\x10\x00\x00\x00", 12);
    assert_int_equal(vnet_header_decode(out, 112, 12, &back), VNET_DECODE_OK);
    assert_memory_equal(&back, &h, sizeof h);
    memset(out, 0xee, VNET_HEADER_MRG_BYTES);
    vnet_header_encode(&h, 10, out);
    assert_int_equal(out[10], 0xee);
}

static void test_decode(void **state)
{
    /* NEEDS_CSUM at 34 + 16 of a frame of 54 bytes. */
    uint8_t p[10 + 54] = {1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0};
    struct vnet_header h = {.gso_size = 99};

    (void)state;
    assert_int_equal(vnet_header_decode(p, 9, 10, &h), VNET_DECODE_SHORT);
    assert_int_equal(vnet_header_decode(p, 11, 12, &h), VNET_DECODE_SHORT);
    assert_int_equal(vnet_header_decode(p, 10 + 51, 10, &h), VNET_DECODE_BAD_CSUM_START);
    assert_int_equal(vnet_header_decode(p, 10 + 52, 10, &h), VNET_DECODE_OK);
    assert_true(h.needs_csum && !h.data_valid && !h.ecn && h.gso == VNET_GSO_TCPV4);
    assert_int_equal(h.gso_size, 1460);
    assert_int_equal(h.hdr_bytes, 54);
    p[6] = p[7] = p[8] = p[9] = 0xff;
    assert_int_equal(vnet_header_decode(p, sizeof p, 10, &h), VNET_DECODE_BAD_CSUM_START);
    p[0] = 2;
    assert_int_equal(vnet_header_decode(p, sizeof p, 10, &h), VNET_DECODE_OK);
    assert_true(h.data_valid && !h.needs_csum && h.csum_start == 0);
    p[1] = 0x84;
    assert_int_equal(vnet_header_decode(p, sizeof p, 10, &h), VNET_DECODE_OK);
    assert_true(h.ecn && h.gso == VNET_GSO_TCPV6);
    p[4] = p[5] = 0;
    assert_int_equal(vnet_header_decode(p, sizeof p, 10, &h), VNET_DECODE_BAD_GSO_SIZE);
    p[1] = 3;
    assert_int_equal(vnet_header_decode(p, sizeof p, 10, &h), VNET_DECODE_BAD_GSO);
    assert_string_equal(vnet_decode_result_name(VNET_DECODE_BAD_GSO_SIZE), "vnet_bad_gso_size");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_decode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
