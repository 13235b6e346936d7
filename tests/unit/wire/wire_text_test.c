/* Segment text: the notation as given, its errors, and text -> segment -> text on random segments. */
#include "wire_test.h"
#include "wire/text.h"

#define SEQ_BASE 0xfffffff0u
#define ACK_BASE 0x7ffffff0u

/* These texts are canonical: they come out as they went in. */
static void test_canonical(void **state)
{
    static const char *const texts[] = {
        "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7>",
        "S 0:0(0) win 65535 <mss 1460,nop,nop,sackOK,nop,wscale 7>",
        "S. 0:0(0) ack 1 win 28960 <mss 1460>",
        "SEW 0:0(0) win 65535 <mss 1000>",
        "S.E 0:0(0) ack 1 win 65535",
        ". 1:1001(1000) ack 1 win 257",
        "P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 4294967295 ecr 12>",
        "F. 1001:1001(0) ack 2 win 257",
        "FP. 1001:1002(1) ack 2 win 0",
        "R 1:1(0)",
        "R. 1:1(0) ack 1",
        ". 1:1(0) ack 1 win 257 <nop,nop,sack 1:2 3:4>",
        ". 1:1(0) ack 1 win 257 <nop,nop,TS val 5 ecr 6,nop,nop,sack 1001:2001 3001:4001 5001:6001>",
        ".UEWA 1:3(2) ack 1 win 257 urg 2",
        "- 1:1(0) win 5",
        "S 0:10(10) win 5 <mss 1460,FO 0102030405060708,nop,nop>",
        "S 0:0(0) win 5 <FO,nop,nop>",
        "S 0:0(0) win 5 <FOEXP 01020304>",
        ". 4294967295:4(5) ack 4294967295 win 1",
        "S 0:0(0) win 5 <nop,nop,md5,mss 1460>",
    };
    char buf[TEXT_SEG_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct tcp_seg seg;
        const char *error = NULL;

        if (!text_parse_seg(texts[i], SEQ_BASE, ACK_BASE, &seg, &error))
            fail_msg("%s: %s", texts[i], error);
        assert_string_equal(text_format_seg(&seg, SEQ_BASE, ACK_BASE, buf, sizeof buf), texts[i]);
    }
}

static void test_values(void **state)
{
    struct tcp_seg seg;

    (void)state;
    assert_true(text_parse_seg("  P. 1:1001(1000) ack 5 win 257 urg 9 < TS val 2 ecr 3 , eol, sack 7:8>\n",
                               100, 1000, &seg, NULL));
    assert_int_equal(seg.seq, 101);
    assert_int_equal(seg.ack, 1005);
    assert_int_equal(seg.len, 1000);
    assert_int_equal(seg.n_slices, 1);
    assert_null(seg.slice[0].data);
    assert_int_equal(seg.slice[0].len, 1000);
    assert_int_equal(seg.wnd, 257);
    assert_int_equal(seg.urg_ptr, 9);
    assert_int_equal(seg.flags, TCP_PSH | TCP_ACK);
    assert_int_equal(seg.opt.tsval, 2);
    assert_int_equal(seg.opt.sack[0].start, 1007);
    assert_int_equal(seg.opt.sack[0].end, 1008);
    assert_true(text_parse_seg("S 0:0(0) <>", 0, 0, &seg, NULL));
    assert_int_equal(seg.wnd, 0);
    assert_true(text_parse_seg("S 0:0(0) win 3 <mss 5,FO>", 0, 0, &seg, NULL));
    assert_true(seg.opt.fastopen_ok && seg.opt.mss == 5);
}

static void test_errors(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"", "flags expected"},
        {"X 1:1(0)", "unknown flag"},
        {"SS 1:1(0)", "flag given twice"},
        {"-S 1:1(0)", "blank expected behind the flags"},
        {"S", "number expected"},
        {"S 1", "':' expected between sequence numbers"},
        {"S 1:2", "'(' expected before the length"},
        {"S 1:2(1", "')' expected behind the length"},
        {"S 1:2(3)", "length differs from end - start"},
        {"S 4294967296:1(0)", "number out of range"},
        {". 1:1(0)", "ack expected: the '.' flag is set"},
        {"S 1:1(0) ack 1", "ack without the '.' flag"},
        {"S 1:1(0) win 65536", "number out of range"},
        {"S 1:1(0) win 5 foo", "unexpected text at the end"},
        {"S 1:1(0) <mss>", "number expected"},
        {"S 1:1(0) <mss 1", "',' or '>' expected"},
        {"S 1:1(0) <msss 1>", "unknown option"},
        {"S 1:1(0) <TS ecr 1>", "'val' expected behind TS"},
        {"S 1:1(0) <TS val 1>", "'ecr' expected behind TS val"},
        {"S 1:1(0) <sack>", "SACK block expected"},
        {"S 1:1(0) <sack 1>", "':' expected in a SACK block"},
        {"S 1:1(0) <sack 1:2 1:2 1:2 1:2 1:2>", "more than four SACK blocks"},
        {"S 1:1(0) <FO 012>", "odd number of hex digits"},
        {"S 1:1(0) <FO 0102>", "a Fast Open cookie has 4 to 16 bytes, evenly many"},
        {"S 1:1(0) <FO 0102030405060708091011121314151617>", "too many hex digits"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tcp_seg seg = {.wnd = 4711};
        const char *error = NULL;

        assert_false(text_parse_seg(cases[i].text, 0, 0, &seg, &error));
        assert_string_equal(error, cases[i].error);
        assert_int_equal(seg.wnd, 4711);
    }
}

static void test_truncation(void **state)
{
    struct tcp_seg seg = {.flags = TCP_SYN, .wnd = 65535};
    char whole[TEXT_SEG_MAX];

    (void)state;
    seg.opt.mss_ok = true;
    seg.opt.mss = 1460;
    text_format_seg(&seg, 0, 0, whole, sizeof whole);
    for (size_t n = 1; n <= strlen(whole) + 1; n++) {
        char *buf = malloc(n);

        assert_non_null(buf);
        text_format_seg(&seg, 0, 0, buf, n);
        assert_int_equal(strlen(buf), n - 1);
        assert_memory_equal(buf, whole, n - 1);
        free(buf);
    }
}

static void test_random(void **state)
{
    struct rng r = test_rng();

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct tcp_seg seg;
        struct tcp_seg back;
        uint32_t seq_base = (uint32_t)rng_next(&r);
        uint32_t ack_base = (uint32_t)rng_next(&r);
        uint8_t bytes[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];
        uint8_t again[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];
        char buf[TEXT_SEG_MAX];
        size_t header;
        const char *error = NULL;

        memset(&seg, 0, sizeof seg);
        fill_random(&r, bytes, sizeof bytes);
        bytes[12] = (uint8_t)(0xf0 | (bytes[12] & 1));
        for (size_t k = 20; k + 1 < sizeof bytes; k += 2 + below(&r, 20)) {
            bytes[k] = (uint8_t[]){1, 2, 3, 4, 5, 8, 34, 254}[below(&r, 8)];
            bytes[k + 1] = (uint8_t[]){4, 3, 2, 10, 18, 26, 12}[below(&r, 7)];
        }
        tcp_header_decode(bytes, sizeof bytes, &seg, &header);

        seg.len = below(&r, 65536);
        text_format_seg(&seg, seq_base, ack_base, buf, sizeof buf);
        assert_true(strlen(buf) < TEXT_SEG_MAX - 1);
        if (!text_parse_seg(buf, seq_base, ack_base, &back, &error))
            fail_msg("%s: %s", buf, error);
        /* What the text can't say: ports, an ack without ACK. */
        back.src_port = seg.src_port;
        back.dst_port = seg.dst_port;
        if (!(seg.flags & TCP_ACK))
            seg.ack = 0;
        header = tcp_header_encode(&seg, bytes);
        assert_int_equal(tcp_header_encode(&back, again), header);
        assert_memory_equal(again, bytes, header);
        assert_int_equal(back.len, seg.len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical),  cmocka_unit_test(test_values), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_truncation), cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
