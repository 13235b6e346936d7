/*
 * tests/unit/trace/trace_record_test.c: records of anybody's: base64, pieces that are joined, names that would be commands,
 * and events that would be megabytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tcp/tcp_enums.h"
#include "trace/export.h"
#include "trace/plot.h"
#include "trace/trace.h"

/* RFC 4648 section 10, and what is none. */
static void test_base64(void **state)
{
    static const char *const texts[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    char own[] = "+/+/Zm9v";
    uint8_t b[8];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(trace_base64(texts[i], b), i);
        assert_memory_equal(b, "foobar", i);
    }
    assert_int_equal(trace_base64(own, (uint8_t *)own), 6);
    assert_memory_equal(own, "\xfb\xff\xbf" "foo", 6);
    assert_int_equal(trace_base64("Zm9-", b), -1);
    assert_int_equal(trace_base64("Zm 9v", b), -1);
    assert_int_equal(trace_base64("\xc3\xa4", b), -1);
}

/* ---- records ---- */

static uint8_t record[65536];
static size_t record_bytes;

static void record_begin(uint64_t id, uint64_t first)
{
    struct tcp_rec_head h = {.magic = TCP_REC_MAGIC, .version = TCP_REC_VERSION, .byte_order = TCP_REC_BYTE_ORDER,
                             .head_bytes = sizeof h, .id = id, .family = 4, .first_event = first, .mtu = 1500, .mss = 1460,
                             .congestion = "cubic"};

    memcpy(record, &h, sizeof h);
    record_bytes = sizeof h;
}

static void record_add(const void *e, size_t n)
{
    struct tcp_rec_hdr h;

    memcpy(&h, e, sizeof h);
    h.words = (uint8_t)(n / 8);
    memcpy(record + record_bytes, e, n);
    memcpy(record + record_bytes, &h, sizeof h);
    record_bytes += n;
}

static void record_config(const char *name, int64_t value)
{
    struct tcp_ev_config e = {.h = {.type = TCP_REC_T_CONFIG}, .value = value};
    char parts[48] = "";

    memcpy(parts, name, strlen(name));
    memcpy(e.name0, parts, 16);
    memcpy(e.name1, parts + 16, 16);
    memcpy(e.name2, parts + 32, 16);
    record_add(&e, sizeof e);
}

static void record_start(void)
{
    struct tcp_ev_none e = {.h = {.type = TCP_REC_T_START, .code = TCP_REC_START_NEW}};

    record_add(&e, sizeof e);
}

static struct trace record_open(void)
{
    struct tcp_rec_head h;
    struct trace tr;

    memcpy(&h, record, sizeof h);
    h.event_bytes = (uint32_t)(record_bytes - sizeof h);
    memcpy(record, &h, sizeof h);
    assert_int_equal(trace_open(record, record_bytes, &tr, NULL, NULL), 0);
    return tr;
}

/* ---- names ---- */

/* Nothing of a terminal's, a shell's or packetdrill's in what comes of a record but what taut wrote around it. */
static void harmless(const char *text, const char *extra)
{
    for (const char *c = text; *c; c++)
        assert_true(*c == '\n' || (*c >= 0x20 && *c < 0x7f));
    assert_null(strstr(text, extra));
}

static void test_names_in_the_story(void **state)
{
    struct tcp_ev_named reply = {.h = {.type = TCP_REC_T_REPLY}, .name0 = "A\033[2J\a", .name1 = "$(reboot)"};
    struct trace_cursor cursor = {0};
    struct trace_story story = {0};
    struct trace_text text = {0};
    struct trace_event ev;
    struct tcp_rec_head h;
    struct trace tr;

    (void)state;
    record_begin(1, 0);
    memcpy(&h, record, sizeof h);
    strcpy(h.congestion, "\033]0;x\a`id`\"");
    memcpy(record, &h, sizeof h);
    record_config("tcp_\033[31m\r\n\x9b\xc2\x85", 3);
    record_start();
    record_add(&reply, sizeof reply);
    tr = record_open();
    assert_string_equal(tr.head.congestion, "??0?x??id??");
    trace_story_head(&tr, &text);
    while (trace_next(&tr, &cursor, &ev) == 1)
        trace_story_event(&tr, &ev, &story, &text);
    harmless(text.at, "$(");
    assert_non_null(strstr(text.at, "A??2J???reboot?"));
    assert_non_null(strstr(text.at, "# tcp_??31m????? = 3"));
    trace_text_free(&text);
}

static void test_names_in_the_script(void **state)
{
    static const char *const bad[] = {"a=1; touch /tmp/x;", "a`\n0 `id", "-p.x", "", "tcp_sack$IFS", "Tcp_sack", "a?b"};
    struct tcp_ev_call call = {.h = {.type = TCP_REC_T_CALL, .code = TCP_REC_CALL_SETOPT, .arg = TCP_REC_OPTION_CONGESTION}};
    struct trace_text text = {0};
    const char *why = NULL;
    struct tcp_rec_head h;
    struct trace tr;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        record_begin(1, 0);
        record_config(bad[i], 1);
        record_start();
        tr = record_open();
        why = NULL;
        assert_true(trace_packetdrill(&tr, &text, &why) < 0);
        assert_non_null(strstr(why, "damaged"));
    }
    record_begin(1, 0);
    memcpy(&h, record, sizeof h);
    strcpy(h.congestion, "x\", 1`id`");
    memcpy(record, &h, sizeof h);
    record_config("tcp_slow_start_after_idle", 0);
    record_start();
    record_add(&call, sizeof call);
    tr = record_open();
    assert_int_equal(trace_packetdrill(&tr, &text, &why), 0);
    harmless(text.at, "`id");
    assert_non_null(strstr(text.at, "sysctl -q tcp_slow_start_after_idle=0\n"));
    assert_non_null(strstr(text.at, "\"x???1?id?\", 9) = 0"));
    trace_text_free(&text);
}

/* ---- turns in the script ---- */

static void script_add_seg(enum tcp_rec_type type, uint64_t at, uint16_t flags, uint32_t seq, uint32_t len, uint16_t gso,
                           uint32_t arg)
{
    struct tcp_ev_seg e = {.h = {.type = (uint8_t)type, .at = at, .arg = arg}, .tcp_flags = flags, .seq = seq, .len = len,
                           .gso_size = gso};

    record_add(&e, sizeof e);
}

static void script_add(enum tcp_rec_type type, unsigned code, uint64_t at, uint32_t arg)
{
    struct tcp_ev_fired e = {.h = {.type = (uint8_t)type, .code = (uint8_t)code, .at = at, .arg = arg}};

    record_add(&e, sizeof e);
}

/* A record that was made `age` ns after its last event, of a connection that has sent up to `snd_nxt`. */
static void script_of(uint64_t age, uint32_t snd_nxt, enum tcp_rec_kind kind, struct trace_text *out)
{
    const uint64_t t = 5000000000;
    struct tcp_ev_metrics m = {.h = {.type = TCP_REC_T_METRICS, .at = t}, .rtt = 800, .ssthresh = 7};
    const char *why = NULL;
    struct tcp_rec_head h;
    struct trace tr;

    record_begin(1, 0);
    memcpy(&h, record, sizeof h);
    h.created_at = t;
    h.dumped_at = t + 4000 + age;
    h.iss = 100;
    h.irs = 0;
    h.passive = 1;
    h.kind = (uint8_t)kind;
    h.snd_nxt = snd_nxt;
    h.gso_max = 32768;
    memcpy(record, &h, sizeof h);
    record_start();
    script_add_seg(TCP_REC_T_SEG_IN, t, TCP_SYN, 0, 0, 0, 0);
    record_add(&m, sizeof m);
    script_add_seg(TCP_REC_T_SEG_OUT, t + 1001, TCP_SYN | TCP_ACK, 100, 0, 0, 0);
    script_add_seg(TCP_REC_T_SEG_IN, t + 2000, TCP_ACK, 1, 2900, 1448, 1 + 2048 - 26 - 20 - 20);
    script_add_seg(TCP_REC_T_SEG_IN, t + 2000, TCP_ACK, 2901, 2900, 1400, 1 + 2048 - 26 - 20 - 20);
    script_add_seg(TCP_REC_T_SEG_IN, t + 2000, TCP_ACK, 5801, 100, 0, 0);
    script_add(TCP_REC_T_FIRED, TCP_REC_TIMER_DELACK, t + 3000, 0);
    script_add(TCP_REC_T_FIRED, TCP_REC_TIMER_KEEPALIVE, t + 3000, 0);
    script_add(TCP_REC_T_ASKED, 0, t + 3000, 0);
    script_add(TCP_REC_T_NEIGHBOUR, TCP_REC_NEIGHBOUR_UNREACHABLE, t + 3000, 113);
    script_add_seg(TCP_REC_T_SEG_OUT, t + 4000, TCP_ACK, 101, 10, 0, 0);
    script_add(TCP_REC_T_DEVICE, TCP_REC_DEVICE_FULL, t + 4000, 101);
    tr = record_open();
    assert_int_equal(trace_packetdrill(&tr, out, &why), 0);
}

static unsigned times_in(const char *text, const char *what)
{
    unsigned n = 0;

    for (const char *c = strstr(text, what); c; c = strstr(c + 1, what))
        n++;
    return n;
}

/* What the script says of turns, by its words; whether the record ends within one. */
static void test_turns_in_the_script(void **state)
{
    static const char *const once[] = {
        "// drill: held from 5.000000000\n", "--mss=1448\n", " : metrics 800 7 0\n", " gso_max_size 32768\n",
        "0.000001001 > S. 0:0(0)", "0.000002 `: chunks 26`\n0.000002 < . 1:2901(2900)", "`: gso 1400`\n0.000002 < . 2901:5801",
        "`: chunks 0`\n0.000002 < . 5801:5901", "0.000003 `: expire`\n0.000003 `: asked`\n0.000003 `: next_hop 2 113`\n",
        "(10)", "0.000004 `: refused 1`\n", ": expire", ": gso"};
    static const struct {
        uint64_t age;
        uint32_t snd_nxt;
        enum tcp_rec_kind kind;
        bool open;
    } ends[] = {{1000000000, 111, TCP_REC_KIND_CONN, false}, {1000000, 111, TCP_REC_KIND_CONN, true},
                {1000000000, 112, TCP_REC_KIND_CONN, true}, {0, 0, TCP_REC_KIND_DEAD, false}};

    (void)state;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct trace_text text = {0};

        script_of(ends[i].age, ends[i].snd_nxt, ends[i].kind, &text);
        assert_int_equal(times_in(text.at, ", open end\n"), ends[i].open);
        for (size_t k = ends[i].open; k < sizeof once / sizeof *once; k++) {
            if (times_in(text.at, once[k]) != 1)
                fail_msg("%s: %u times in\n%s", once[k], times_in(text.at, once[k]), text.at);
        }
        trace_text_free(&text);
    }
}

/* A record that begins behind the handshake says so, opened by either side. */
static void test_no_handshake(void **state)
{
    (void)state;
    for (unsigned passive = 0; passive < 2; passive++) {
        struct trace_text text = {0};
        const char *why = NULL;
        struct tcp_rec_head h;
        struct trace tr;

        record_begin(1, 0);
        memcpy(&h, record, sizeof h);
        h.passive = (uint8_t)passive;
        memcpy(record, &h, sizeof h);
        record_start();
        script_add_seg(passive ? TCP_REC_T_SEG_OUT : TCP_REC_T_SEG_IN, 1, TCP_SYN | TCP_ACK, 0, 0, 0, 0);
        tr = record_open();
        assert_true(trace_packetdrill(&tr, &text, &why) < 0);
        assert_non_null(strstr(why, "handshake"));
        trace_text_free(&text);
    }
}

/* ---- pieces ---- */

/* A section of `n` events from number `first` on, behind those in b; with `config`, two CONFIG events before them. */
static size_t piece(uint8_t *b, size_t at, uint64_t id, uint64_t first, unsigned n, bool config)
{
    struct tcp_rec_head h;
    struct trace tr;

    record_begin(id, first);
    if (config) {
        record_config("tcp_sack", 0);
        record_config("tcp_ecn", 1);
    }
    for (unsigned i = 0; i < n; i++) {
        struct tcp_ev_none e = {.h = {.type = TCP_REC_T_STALL, .arg = (uint32_t)(first + i), .at = first + i}};

        record_add(&e, sizeof e);
    }
    tr = record_open();
    h = tr.head;
    h.next_event = first + n;
    h.lost_events = first;
    h.dumped_at = 1000 + first;
    memcpy(record, &h, sizeof h);
    memcpy(b + at, record, record_bytes);
    return at + record_bytes;
}

/* Joins and looks: events first .. next - 1 are there, numbered, behind the CONFIG events. */
static void joined(uint8_t *b, size_t n, size_t want_used, uint64_t first, uint64_t next, uint64_t dumped_at)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    unsigned config = 0;
    size_t used, bytes;
    uint64_t at = first;
    struct trace tr;

    assert_int_equal(trace_join(b, n, &used, &bytes, NULL), 0);
    assert_int_equal(used, want_used);
    assert_int_equal(trace_open(b, bytes, &tr, &used, NULL), 0);
    assert_int_equal(used, bytes);
    assert_int_equal(tr.head.first_event, first);
    assert_int_equal(tr.head.lost_events, first);
    assert_int_equal(tr.head.next_event, next);
    assert_int_equal(tr.head.dumped_at, dumped_at);
    while (trace_next(&tr, &cursor, &ev) == 1) {
        if (ev.type == TCP_REC_T_CONFIG) {
            config++;
            assert_int_equal(at, first);
            continue;
        }
        assert_int_equal(ev.number, at);
        assert_int_equal(ev.e.h.arg, at);
        at++;
    }
    assert_int_equal(at, next);
    assert_int_equal(config, 2);
}

static void test_join(void **state)
{
    static uint8_t b[65536];
    size_t n, used, bytes;
    const char *why = NULL;

    (void)state;
    n = piece(b, 0, 1, 0, 5, true);
    joined(b, n, n, 0, 5, 1000);
    n = piece(b, 0, 1, 0, 5, true);
    n = piece(b, n, 1, 5, 7, false);
    n = piece(b, n, 1, 12, 1, false);
    joined(b, n, n, 0, 13, 1012);
    n = piece(b, 0, 1, 0, 5, true); /* 5 to 8 were overwritten before they were read */
    n = piece(b, n, 1, 9, 4, false);
    n = piece(b, n, 1, 13, 4, false);
    joined(b, n, n, 9, 17, 1013);
    n = piece(b, 0, 1, 0, 5, true); /* it began anew */
    n = piece(b, n, 1, 0, 3, true);
    joined(b, n, n, 0, 3, 1000);
    used = piece(b, 0, 1, 0, 5, true); /* another connection's */
    n = piece(b, used, 2, 5, 5, false);
    joined(b, n, used, 0, 5, 1000);
    n = piece(b, 0, 1, 0, 5, true);
    n = piece(b, n, 1, 5, 7, false);
    assert_true(trace_join(b, n - 8, &used, &bytes, &why) < 0);
    assert_non_null(strstr(why, "cut off"));
}

/* ---- sizes ---- */

/* One event makes at most 1100 packets, whatever its length and segment size say, with comments of bounded length. */
static void test_export_is_bounded(void **state)
{
    static const struct {
        uint32_t len;
        uint16_t gso;
    } seg[] = {{UINT32_MAX, 8}, {UINT32_MAX, 64}, {65535, 64}, {1u << 20, 63}, {UINT32_MAX, 0}, {UINT32_MAX, 65535}};

    (void)state;
    for (size_t i = 0; i < sizeof seg / sizeof *seg; i++) {
        struct tcp_ev_seg e = {.h = {.type = TCP_REC_T_SEG_IN}, .tcp_flags = TCP_ACK, .len = seg[i].len, .gso_size = seg[i].gso};
        struct tcp_ev_none drop = {.h = {.type = TCP_REC_T_DROP}};
        struct trace_text out = {0};
        struct trace tr;
        size_t packets = 0;

        record_begin(1, 0);
        record_add(&e, sizeof e);
        for (unsigned k = 0; k < 1000; k++)
            record_add(&drop, sizeof drop);
        tr = record_open();
        assert_int_equal(trace_pcapng(&tr, &out), 0);
        for (size_t at = 0; at < out.len; packets++) {
            uint32_t bytes;

            memcpy(&bytes, out.at + at + 4, 4);
            assert_in_range(bytes, 32, 1500);
            at += bytes;
        }
        assert_in_range(packets, 1, 1100);
        trace_text_free(&out);
    }
}

/* ---- what is drawn, and what is told of a packet ---- */

static void record_ack(uint64_t at, uint32_t cwnd)
{
    struct tcp_ev_ack e = {.h = {.type = TCP_REC_T_ACK, .at = at}, .cwnd = cwnd, .ssthresh = cwnd + 100, .in_flight = cwnd - 1,
                           .srtt_us = 1000 * cwnd, .min_rtt_us = 500 * cwnd, .pacing_rate = 2000 * cwnd, .mss = 1000,
                           .rate_delivered = 3, .rate_interval_us = 1000 * cwnd};

    record_add(&e, sizeof e);
}

/* The curves of a record hold its ACKs' figures, and the picture of cwnd is to scale. */
static void test_curves(void **state)
{
    static const uint32_t cwnd[] = {10, 20, 5};
    static struct plot p;
    struct plot_style style = {0};
    struct trace_text out = {0};
    struct trace tr;
    const char *path;
    double x[3], y[3];
    struct {
        double y, v;
    } line[2] = {{0}};
    unsigned n_lines = 0;

    (void)state;
    record_begin(1, 0);
    for (unsigned i = 0; i < 3; i++)
        record_ack(1000000000ull * (i + 1), cwnd[i]);
    tr = record_open();
    assert_int_equal(plot_from_trace(&p, &tr, PLOT_OUT), 0);
    for (unsigned i = 0; i < 3; i++) {
        const double want[PLOT_CURVES] = {
            [PLOT_CWND] = cwnd[i], [PLOT_SSTHRESH] = cwnd[i] + 100, [PLOT_FLIGHT] = cwnd[i] - 1, [PLOT_RTT] = cwnd[i],
            [PLOT_MIN_RTT] = cwnd[i] / 2.0, [PLOT_PACING] = 16000.0 * cwnd[i], [PLOT_DELIVERY] = 24e6 / cwnd[i]};

        for (unsigned kind = PLOT_CWND; kind <= PLOT_DELIVERY; kind++) {
            assert_int_equal(p.curve[kind].n, 3);
            assert_true(fabs(p.curve[kind].at[i].v - want[kind]) < 1e-6 * want[kind]);
            assert_true(fabs(p.curve[kind].at[i].t - p.curve[kind].at[0].t - i) < 1e-9);
        }
    }
    style.from = p.curve[PLOT_CWND].at[0].t;
    style.to = style.from + 2.5;
    plot_svg(&p, &style, &out);
    trace_print(&out, "%c", 0);
    assert_false(out.failed);
    path = strstr(out.at, "<path class=\"c0\""); /* the first is cwnd's */
    assert_non_null(path);
    path = strstr(path, " d=\"M");
    assert_non_null(path);
    assert_int_equal(sscanf(path, " d=\"M%lf %lfH%lfV%lfH%lfV%lf", &x[0], &y[0], &x[1], &y[1], &x[2], &y[2]), 6);
    assert_true(fabs((x[1] - x[0]) - (x[2] - x[1])) < 0.3); /* a second each; a tenth of a pixel is lost */
    assert_true(x[1] - x[0] > 300);
    for (const char *at = out.at; (at = strstr(at, "<path class=\"grid\"")) != NULL && at < path; at++) {
        if (sscanf(at, "<path class=\"grid\" d=\"M%*f %lfh%*f\"/><text x=\"%*f\" y=\"%*f\" text-anchor=\"end\">%lf",
                   &line[1].y, &line[1].v) != 2)
            continue;
        if (line[1].v == 0)
            line[0] = line[1];
        n_lines++;
    }
    assert_true(n_lines > 2 && line[1].v > 0); /* the last panel's lines before it are its own */
    for (unsigned i = 0; i < 3; i++)
        assert_true(fabs(y[i] - line[0].y - (line[1].y - line[0].y) * cwnd[i] / line[1].v) < 0.3);
    trace_text_free(&out);
    plot_free(&p);
}

/* The comment of a packet: its cause, and that it was sent again, if it was. */
static void test_sent_again(void **state)
{
    (void)state;
    for (unsigned again = 0; again < 2; again++) {
        struct tcp_ev_seg e = {.h = {.type = TCP_REC_T_SEG_OUT, .code = again ? TCP_CAUSE_RETRANS_FAST : TCP_CAUSE_DATA,
                                     .flags = again ? TCP_REC_F_RETRANS : 0}, .tcp_flags = TCP_ACK, .len = 100};
        struct trace_text out = {0};
        struct trace tr;

        record_begin(1, 0);
        record_add(&e, sizeof e);
        tr = record_open();
        assert_int_equal(trace_pcapng(&tr, &out), 0);
        assert_non_null(memmem(out.at, out.len, again ? "RETRANS_FAST: " : "DATA: ", 6));
        assert_int_equal(memmem(out.at, out.len, "; sent again", 12) != NULL, again);
        trace_text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_names_in_the_story),
        cmocka_unit_test(test_names_in_the_script),
        cmocka_unit_test(test_turns_in_the_script),
        cmocka_unit_test(test_no_handshake),
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_export_is_bounded),
        cmocka_unit_test(test_curves),
        cmocka_unit_test(test_sent_again),
    };

    return cmocka_run_group_tests_name("trace_record", tests, NULL, NULL);
}
