/*
 * tests/unit/trace/trace_capture_test.c: captures of others: link types, byte orders, what is cut off; pcapng written and read
 * again; a drawing that stays small; a loop of damaged files, which must end without harm (the sanitizers watch).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trace/export.h"
#include "trace/plot.h"

/* A segment from 10.0.0.1:1000 (out) or to it, with `len` bytes that are not captured. */
static size_t ip_packet(uint8_t *b, bool out, uint32_t seq, uint32_t ack, uint8_t flags, uint16_t len)
{
    uint8_t addr[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}}, port[2][2] = {{3, 232}, {0, 80}};

    memset(b, 0, 40);
    b[0] = 0x45;
    b[2] = (uint8_t)((len + 40) >> 8);
    b[3] = (uint8_t)(len + 40);
    b[8] = 64;
    b[9] = 6;
    memcpy(b + 12, addr[!out], 4);
    memcpy(b + 16, addr[out], 4);
    memcpy(b + 20, port[!out], 2);
    memcpy(b + 22, port[out], 2);
    for (int i = 0; i < 4; i++) {
        b[24 + i] = (uint8_t)(seq >> (24 - 8 * i));
        b[28 + i] = (uint8_t)(ack >> (24 - 8 * i));
    }
    b[32] = 0x50;
    b[33] = flags;
    b[34] = 0xff;
    return 40;
}

static void packet(struct trace_text *out, uint64_t ns, const uint8_t *b, size_t n, uint32_t more)
{
    pcapng_packet(out, ns, b, (uint32_t)n, (uint32_t)n + more, PCAPNG_NO_DIRECTION, "why", 3);
}

/* SYN, SYN-ACK, three segments of 1000, the second again, ACKs, as the link type has it before IP. */
static void story(struct trace_text *out, unsigned link, const uint8_t *head, size_t head_bytes)
{
    static const struct {
        bool out;
        uint32_t seq, ack;
        uint8_t flags;
        uint16_t len;
    } s[] = {{true, 0xfffffc00, 0, 2, 0},        {false, 500, 0xfffffc01, 18, 0},      {true, 0xfffffc01, 501, 16, 1000},
             {true, 0xffffffe9, 501, 16, 1000}, {true, 977 - 0, 501, 16, 1000},       {false, 501, 0xffffffe9, 16, 0},
             {true, 0xffffffe9, 501, 16, 1000}, {false, 501, 977, 16, 0},
             {false, 501, 1977, 16, 0}};
    uint8_t b[128];

    pcapng_begin(out, "test", "if", "text", link, 0);
    memcpy(b, head, head_bytes);
    for (unsigned i = 0; i < sizeof s / sizeof *s; i++) {
        size_t n = ip_packet(b + head_bytes, s[i].out, s[i].seq, s[i].ack, s[i].flags, s[i].len);

        packet(out, 1000000000u + i * 10000000u, b, head_bytes + n, s[i].len);
    }
    assert_false(out->failed);
}

static void check_story(const void *bytes, size_t n)
{
    struct capture_streams s;
    struct plot p = {0};
    const char *why = "";

    assert_int_equal(capture_list(bytes, n, &s, &why), 0);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.at[0].packets, 9);
    assert_int_equal(s.at[0].bytes[0], 4000);
    assert_int_equal(s.at[0].bytes[1], 0);
    capture_streams_free(&s);
    assert_int_equal(plot_from_capture(&p, bytes, n, 0, PLOT_MORE, &why), 0);
    assert_string_equal(p.from, "10.0.0.1:1000");
    assert_int_equal(p.data_bytes, 4000);
    assert_int_equal(p.again_segments, 1);
    assert_int_equal(p.n_bars, 4);
    assert_int_equal(p.bars[0].from, 1);
    assert_int_equal(p.bars[2].to, 3001); /* across the wrap */
    assert_int_equal(p.bars[3].kind, PLOT_AGAIN);
    assert_true(p.curve[PLOT_ACK].at[p.curve[PLOT_ACK].n - 1].v == 3001);
    assert_int_equal(p.curve[PLOT_RTT].n, 2); /* the one sent twice gives none */
    assert_true(p.curve[PLOT_RTT].at[0].v > 29 && p.curve[PLOT_RTT].at[0].v < 31);
    plot_free(&p);
}

static void test_link_types(void **state)
{
    static const uint8_t ethernet[14] = {[12] = 8}, vlan[18] = {[12] = 0x81, [16] = 8}, sll[16] = {[14] = 8}, sll2[20] = {8};
    static const struct {
        unsigned link;
        const uint8_t *head;
        size_t bytes;
    } rows[] = {{PCAP_LINK_RAW, ethernet, 0},        {PCAP_LINK_ETHERNET, ethernet, 14}, {PCAP_LINK_ETHERNET, vlan, 18},
                {PCAP_LINK_SLL, sll, 16},            {PCAP_LINK_SLL2, sll2, 20},         {0, ethernet, 4}};

    (void)state;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct trace_text out = {0};

        story(&out, rows[i].link, rows[i].head, rows[i].bytes);
        check_story(out.at, out.len);
        trace_text_free(&out);
    }
}

/* Every length: a whole number of packets is a capture, anything else is refused with a sentence. How many are one. */
static unsigned cut_off(const char *bytes, size_t all)
{
    unsigned good = 0;

    for (size_t n = 4; n <= all; n++) {
        struct capture_streams s = {0};
        const char *why = NULL;
        uint8_t *exact = malloc(n); /* so that a read behind its end is seen */
        int r;

        memcpy(exact, bytes, n);
        r = capture_list(exact, n, &s, &why);
        if (r == 0)
            good++;
        else
            assert_true((r == -ENODATA || r == -EBADMSG) && why && strlen(why) > 10);
        capture_streams_free(&s);
        free(exact);
    }
    return good;
}

static void put32(struct trace_text *out, uint32_t v, bool swap)
{
    v = swap ? __builtin_bswap32(v) : v;
    trace_put(out, &v, 4);
}

/* The same as pcap, microseconds or nanoseconds, in either byte order. */
static void test_pcap(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 4; kind++) {
        struct trace_text ng = {0}, out = {0};
        bool swap = kind & 1, ns = kind & 2;
        size_t pos = 0;
        uint32_t v[7];

        story(&ng, PCAP_LINK_RAW, (const uint8_t *)"", 0);
        put32(&out, ns ? 0xa1b23c4d : 0xa1b2c3d4, swap);
        for (unsigned i = 0; i < 4; i++)
            put32(&out, i == 3 ? 65535 : 0, swap);
        put32(&out, PCAP_LINK_RAW, swap);
        for (; pos < ng.len; pos += v[1]) {
            uint64_t at;

            memcpy(v, ng.at + pos, 8);
            if (v[0] != 6)
                continue;
            memcpy(v, ng.at + pos, sizeof v);
            at = (uint64_t)v[3] << 32 | v[4];
            put32(&out, (uint32_t)(at / 1000000000), swap);
            put32(&out, (uint32_t)(at % 1000000000 / (ns ? 1 : 1000)), swap);
            put32(&out, v[5], swap);
            put32(&out, v[6], swap);
            trace_put(&out, ng.at + pos + 28, v[5]);
        }
        check_story(out.at, out.len);
        assert_int_equal(cut_off(out.at, out.len), 10); /* behind the head, and each of 9 packets */
        trace_text_free(&out);
        trace_text_free(&ng);
    }
}

static void test_cut_off(void **state)
{
    struct trace_text out = {0};

    (void)state;
    story(&out, PCAP_LINK_RAW, (const uint8_t *)"", 0);
    assert_int_equal(cut_off(out.at, out.len), 11); /* behind the section, the interface, and each of 9 packets */
    trace_text_free(&out);
}

/* The same ends again with another SYN: another connection. */
static void test_streams(void **state)
{
    struct trace_text out = {0};
    struct capture_streams s;
    uint8_t b[64];

    (void)state;
    story(&out, PCAP_LINK_RAW, (const uint8_t *)"", 0);
    packet(&out, 2000000000, b, ip_packet(b, true, 77, 0, 2, 0), 0);
    packet(&out, 2000000001, b, ip_packet(b, true, 78, 9, 16, 10), 10);
    assert_int_equal(capture_list(out.at, out.len, &s, NULL), 0);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.at[0].packets, 9);
    assert_int_equal(s.at[1].bytes[0], 10);
    capture_streams_free(&s);
    trace_text_free(&out);
}

/* 300,000 scattered bars: the picture stays below a megabyte, and is no picture of nothing. */
static void test_drawing_is_bounded(void **state)
{
    struct plot p = {0};
    struct plot_style style = {.title = "<&\">\x1b"};
    struct trace_text svg = {0};
    uint32_t x = 1;

    (void)state;
    for (uint32_t i = 0; i < 300000; i++) {
        x = x * 1664525 + 1013904223;
        plot_feed(&p, &(struct plot_seg){.t = i / 1e4, .data = i % 3, .seq = x % 50000000, .ack = x % 50000000, .len = 1000,
                                         .flags = TCP_ACK, .wnd = (uint16_t)x, .kind = (uint8_t)(i % PLOT_SACK)});
        plot_point(&p, PLOT_RTT, i / 1e4, x % 1000);
    }
    plot_svg(&p, &style, &svg);
    assert_false(svg.failed);
    assert_in_range(svg.len, 100000, 1000000);
    assert_null(strstr(svg.at, "<&")); /* texts are escaped */
    assert_null(strchr(svg.at, 0x1b));
    trace_text_free(&svg);
    plot_free(&p);
}

/* Bytes turned over at random in a good file: every reader ends; most say why. */
static void test_damaged(void **state)
{
    struct trace_text good = {0};
    uint32_t x = 12345;
    unsigned refused = 0;

    (void)state;
    story(&good, PCAP_LINK_RAW, (const uint8_t *)"", 0);
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t *b = malloc(good.len);
        struct plot p = {0};
        struct plot_style style = {0};
        struct trace_text svg = {0};
        const char *why = NULL;

        memcpy(b, good.at, good.len);
        for (unsigned i = 0; i < 1 + round % 8; i++) {
            x = x * 1664525 + 1013904223;
            b[x % good.len] = (uint8_t)(x >> 24);
        }
        if (plot_from_capture(&p, b, good.len, 0, PLOT_MORE, &why) == 0)
            plot_svg(&p, &style, &svg);
        else
            refused += why != NULL;
        trace_text_free(&svg);
        plot_free(&p);
        free(b);
    }
    assert_in_range(refused, 300, 2900);
    trace_text_free(&good);
}

/* Records whose fields are any numbers: exporters and pictures take them all; what pcapng says is a capture again. */
static void test_damaged_record(void **state)
{
    static uint8_t b[8192];
    uint32_t x = 99;

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        struct tcp_rec_head h = {.magic = TCP_REC_MAGIC, .version = TCP_REC_VERSION, .byte_order = TCP_REC_BYTE_ORDER,
                                 .head_bytes = sizeof h, .id = 1, .family = round % 2 ? 4 : 6};
        struct trace_text ng = {0}, qlog = {0}, svg = {0};
        struct capture_streams s;
        struct plot p = {0};
        struct plot_style style = {0};
        struct trace tr;
        size_t n = sizeof h;

        for (unsigned i = 0; i < 40; i++) {
            union tcp_rec_event e;

            for (size_t k = 0; k < sizeof e; k++) {
                x = x * 1664525 + 1013904223;
                ((uint8_t *)&e)[k] = (uint8_t)(x >> 24);
            }
            e.h.type = i % 3 ? (uint8_t)(TCP_REC_T_SEG_IN + (i & 1)) : e.h.type % TCP_REC_T_MAX;
            e.h.flags &= (uint8_t)~TCP_REC_F_TUPLE;
            e.h.at = 1000000u * i;
            e.h.words = sizeof e.seg / 8;
            if (round % 4)
                e.seg.len %= 100000;
            memcpy(b + n, &e, sizeof e.seg);
            n += sizeof e.seg;
        }
        h.event_bytes = (uint32_t)(n - sizeof h);
        memcpy(b, &h, sizeof h);
        assert_int_equal(trace_open(b, n, &tr, NULL, NULL), 0);
        trace_pcapng_begin(&tr, "test", &ng);
        assert_int_equal(trace_pcapng(&tr, &ng), 0);
        assert_int_equal(capture_list(ng.at, ng.len, &s, NULL), 0);
        assert_true(s.n > 0);
        capture_streams_free(&s);
        trace_qlog_begin(&tr, "test", &qlog);
        assert_int_equal(trace_qlog(&tr, &qlog), 0);
        if (plot_from_trace(&p, &tr, PLOT_MORE) == 0)
            plot_svg(&p, &style, &svg);
        plot_free(&p);
        trace_text_free(&ng);
        trace_text_free(&qlog);
        trace_text_free(&svg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link_types), cmocka_unit_test(test_pcap),    cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_streams),    cmocka_unit_test(test_damaged), cmocka_unit_test(test_drawing_is_bounded),
        cmocka_unit_test(test_damaged_record),
    };

    return cmocka_run_group_tests_name("trace_capture", tests, NULL, NULL);
}
