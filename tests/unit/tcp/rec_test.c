/*
 * tests/unit/tcp/rec_test.c: the flight recorder: what is told of a connection, rings that wrap, a pool that is too small,
 * black boxes, and readers of damaged bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include "harness.h"
#include "tcp/tcp_trace.h"
#include "trace/trace.h"

#define ROOM (1u << 20)

static uint8_t room[ROOM];

/* The record of a connection as a trace. */
static struct trace dump(struct harness *h, uint64_t id)
{
    int64_t n = tcp_trace_dump(h->t, id, h->now, 0, room, sizeof room);
    struct trace tr;
    size_t used;

    assert_true(n > 0);
    assert_int_equal(trace_open(room, (size_t)n, &tr, &used, NULL), 0);
    assert_int_equal(used, n);
    return tr;
}

/* How many events of this type and code (-1: any) it has; *ret (may be NULL): the first one. */
static unsigned count(const struct trace *tr, enum tcp_rec_type type, int code, struct trace_event *ret)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    unsigned n = 0;
    int r;

    while ((r = trace_next(tr, &cursor, &ev)) == 1) {
        if (ev.type != type || (code >= 0 && ev.e.h.code != code))
            continue;
        if (n++ == 0 && ret)
            *ret = ev;
    }
    assert_int_equal(r, 0);
    return n;
}

static uint64_t lost_after(struct harness *h, uint64_t id, uint64_t from, uint64_t *ret_next)
{
    uint64_t lost;

    *ret_next = from;
    assert_true(tcp_trace_read(h->t, id, ret_next, room, sizeof room, &lost) >= 0);
    return lost;
}

static void open_passive(struct harness *h)
{
    h_listen(h, 5);
    in(h, "S 0:0(0) win 65535 <mss 1000,sackOK,TS val 7 ecr 0,nop,wscale 7>");
    out(h, "S. 0:0(0) ack 1 <...>");
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 1 win 512 <nop,nop,TS val 17 ecr 1000000>");
    h_accept(h);
}

/* From the SYN on, though there was no connection then; with causes, results, calls. */
static void story_of_a_passive_open(void **st)
{
    struct harness *h = h_new();
    struct trace_event ev;
    struct trace tr;

    (void)st;
    open_passive(h);
    h_send(h, 500);
    out(h, "P. 1:501(500) ack 1 <...>");
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 501 win 512 <nop,nop,TS val 27 ecr 1000010>");
    tr = dump(h, h_id(h));
    assert_int_equal(tr.head.first_event, 0);
    assert_int_equal(tr.head.passive, 1);
    assert_int_equal(tr.head.iss, h_flow(h)->iss);
    assert_int_equal(tr.head.irs, h_flow(h)->irs);
    assert_int_equal(count(&tr, TCP_REC_T_SEG_IN, -1, &ev), 3);
    assert_int_equal(ev.e.seg.tcp_flags, TCP_SYN);
    assert_int_equal(ev.e.seg.mss, 1000);
    assert_int_equal(ev.e.seg.wscale, 7);
    assert_int_equal(trace_time(&tr, ev.e.h.at), 0);
    assert_int_equal(count(&tr, TCP_REC_T_SEG_OUT, TCP_CAUSE_SYNACK, NULL), 1);
    assert_int_equal(count(&tr, TCP_REC_T_SEG_OUT, TCP_CAUSE_DATA, &ev), 1);
    assert_int_equal(ev.e.seg.len, 500);
    assert_int_equal(count(&tr, TCP_REC_T_ACK, -1, &ev), 1);
    assert_int_equal(ev.e.ack.acked_bytes, 500);
    assert_int_equal(ev.e.ack.cwnd, h_info(h).snd_cwnd);
    assert_int_equal(ev.e.ack.srtt_us, h_info(h).rtt);
    assert_int_equal(ev.e.ack.rto_us, h_info(h).rto);
    assert_int_equal(count(&tr, TCP_REC_T_CALL, TCP_REC_CALL_SEND, &ev), 1);
    assert_int_equal(ev.e.call.result, 500);
    assert_int_equal(count(&tr, TCP_REC_T_CALL, TCP_REC_CALL_ACCEPT, NULL), 1);
    assert_int_equal(count(&tr, TCP_REC_T_STATE, TCP_STATE_ESTABLISHED, NULL), 1);
    assert_true(count(&tr, TCP_REC_T_TIMER, TCP_REC_TIMER_RETRANS, NULL) >= 2); /* on, off */
    h_free(h);
}

/* A handshake among others': none of theirs gets into it. */
static void handshakes_are_kept_apart(void **st)
{
    struct harness *h = h_new();
    struct trace tr;

    (void)st;
    h_listen(h, 50);
    for (int k = 0; k < 30; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 <mss 1000>");
        out(h, "S. 0:0(0) ack 1 <...>");
    }
    flow(h, 3);
    in(h, "S 0:0(0) win 65535 <mss 1000>");
    out(h, "S. 0:0(0) ack 1 <...>");
    in(h, ". 1:1(0) ack 1 win 512");
    h_accept(h);
    tr = dump(h, h_id(h));
    assert_int_equal(count(&tr, TCP_REC_T_SEG_IN, -1, NULL), 3);
    assert_int_equal(count(&tr, TCP_REC_T_DROP, TCP_DROP_REQ_DUP_SYN, NULL), 1);
    assert_int_equal(count(&tr, TCP_REC_T_SEG_OUT, -1, NULL), 2);
    tr = dump(h, TCP_TRACE_ENGINE);
    assert_int_equal(count(&tr, TCP_REC_T_SEG_IN, -1, NULL), 32);
    h_free(h);
}

/* More events than the ring holds: the oldest go, by whole pages; numbers go on, and readers hear what they lost. */
static void ring_wraps(void **st)
{
    struct harness *h = h_new();
    uint64_t next, first, lost;
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    struct trace tr;
    char text[64];

    (void)st;
    h->cfg.trace_ring = 8192;
    open_passive(h);
    assert_int_equal(lost_after(h, h_id(h), 0, &next), 0);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "P. %u:%u(1) ack 1 win 512 <nop,nop,TS val 30 ecr 1000000>", i + 1, i + 2);
        in(h, text);
        skip_out(h);
        expect(h, h_recv(h, 10), 1);
        skip_out(h);
    }
    tr = dump(h, h_id(h));
    first = tr.head.first_event;
    assert_true(first > next);
    assert_int_equal(lost_after(h, h_id(h), next, &lost), first - next);
    tr = dump(h, h_id(h)); /* room was used otherwise */
    next = first;
    while (trace_next(&tr, &cursor, &ev) == 1) {
        if (ev.type == TCP_REC_T_CONFIG)
            continue;
        assert_int_equal(ev.number, next++);
    }
    assert_int_equal(next, tr.head.next_event);
    assert_true(next - first >= 8192 / 104 && tr.bytes <= 8192 + 512);
    h_free(h);
}

/* Connections that are silent give their rings to those that are not; then they begin anew. */
static void pool_is_shared(void **st)
{
    struct h_args args = {.trace_bytes = 12 * 4300};
    struct harness *h = h_new_args(&args);
    struct tcp_trace_totals totals;
    struct trace_event ev;
    uint64_t next, lost;
    struct trace tr;

    (void)st;
    h_listen(h, 50);
    for (int k = 0; k < 40; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 <mss 1000>");
        out(h, "S. 0:0(0) ack 1 <...>");
        pass_ms(h, 1);
        in(h, ". 1:1(0) ack 1 win 512");
        h_accept(h);
    }
    tcp_trace_totals(h->t, &totals);
    assert_true(totals.stolen_rings >= 28);
    assert_true(totals.used_bytes <= totals.pool_bytes && totals.pool_bytes <= args.trace_bytes);
    flow(h, 0);
    next = 0;
    assert_int_equal(tcp_trace_read(h->t, h_id(h), &next, room, sizeof room, &lost), 0);
    flow(h, 39);
    tr = dump(h, h_id(h));
    assert_int_equal(count(&tr, TCP_REC_T_START, TCP_REC_START_NEW, NULL), 1);
    flow(h, 0);
    in(h, "P. 1:11(10) ack 1 win 512");
    skip_out(h);
    tr = dump(h, h_id(h));
    assert_int_equal(count(&tr, TCP_REC_T_START, TCP_REC_START_RESUMED, &ev), 1);
    assert_int_equal(count(&tr, TCP_REC_T_SEG_IN, -1, NULL), 1);
    h_free(h);
}

/* Off: nothing is recorded, and nothing else changes. */
static void level_0_records_nothing(void **st)
{
    struct harness *h = h_new();
    struct tcp_trace_totals totals;

    (void)st;
    h->cfg.trace_level = 0;
    open_passive(h);
    tcp_trace_totals(h->t, &totals);
    assert_int_equal(totals.events, 0);
    assert_int_equal(totals.rings, 0);
    h->cfg.trace_level = 1;
    h_send(h, 500);
    out(h, "P. 1:501(500) ack 1 <...>");
    in(h, ". 1:1(0) ack 501 win 512 <nop,nop,TS val 27 ecr 1000010>");
    {
        struct trace tr = dump(h, h_id(h));

        assert_int_equal(count(&tr, TCP_REC_T_SEG_OUT, -1, NULL), 1);
        assert_int_equal(count(&tr, TCP_REC_T_ACK, -1, NULL) + count(&tr, TCP_REC_T_TIMER, -1, NULL) +
                             count(&tr, TCP_REC_T_LIMIT, -1, NULL),
                         0);
    }
    h_free(h);
}

static unsigned boxes(struct harness *h)
{
    struct tcp_trace_row r;
    uint32_t at = 0;
    unsigned n = 0;

    while (tcp_trace_next(h->t, &at, &r))
        n += r.kind == TCP_REC_KIND_DEAD;
    return n;
}

/* Reset, timed out, refused: kept though the connection is gone; a good end and the program's own abort are not. */
static void bad_ends_stay(void **st)
{
    struct harness *h = h_new();
    struct trace_event ev;
    struct trace tr;
    tcp_id id;

    (void)st;
    h_listen(h, 50);
    for (int k = 0; k < 3; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 <mss 1000>");
        out(h, "S. 0:0(0) ack 1 <...>");
        in(h, ". 1:1(0) ack 1 win 512");
        h_accept(h);
    }
    flow(h, 0);
    id = h_flow(h)->id;
    in(h, "R. 1:1(0) ack 1 win 0");
    h_close(h);
    assert_int_equal(h_id(h), 0);
    tr = dump(h, id);
    assert_int_equal(tr.head.kind, TCP_REC_KIND_DEAD);
    assert_int_equal(tr.head.end, TCP_REC_END_RESET_IN);
    assert_int_equal(tr.head.error, ECONNRESET);
    assert_int_equal(tr.head.id, id);
    assert_int_equal(tr.head.remote_port, h_flow(h)->tuple.remote_port);
    assert_int_equal(count(&tr, TCP_REC_T_END, TCP_REC_END_RESET_IN, &ev), 1);
    assert_int_equal(count(&tr, TCP_REC_T_ERROR, -1, &ev), 1);
    assert_int_equal(ev.e.h.arg, ECONNRESET);
    flow(h, 1);
    h_abort(h);
    skip_out(h);
    flow(h, 2);
    id = h_flow(h)->id;
    in(h, "P. 1:11(10) ack 1 win 512");
    skip_out(h);
    h_close(h);
    out(h, "R. 1:1(0) ack 11 <...>");
    tr = dump(h, id);
    assert_int_equal(tr.head.end, TCP_REC_END_RESET_OUT);
    assert_int_equal(count(&tr, TCP_REC_T_SEG_OUT, TCP_CAUSE_RST_UNREAD_DATA, NULL), 1);
    assert_int_equal(boxes(h), 2);
    assert_int_equal(tcp_trace_boxes(h->t), 2);
    h_free(h);
}

static void black_boxes_are_few(void **st)
{
    struct harness *h = h_new();

    (void)st;
    h->cfg.trace_boxes = 3;
    h_listen(h, 50);
    for (int k = 0; k < 10; k++) {
        flow(h, k);
        in(h, "S 0:0(0) win 65535 <mss 1000>");
        out(h, "S. 0:0(0) ack 1 <...>");
        in(h, ". 1:1(0) ack 1 win 512");
        h_accept(h);
        in(h, "R. 1:1(0) ack 1 win 0");
        h_close(h);
        assert_int_equal(boxes(h), k < 3 ? k + 1 : 3);
    }
    assert_int_equal(tcp_trace_boxes(h->t), 10);
    h_free(h);
}

/* Whatever bytes come: no reader goes beyond them, and all come to an end. */
static void damaged_bytes(void **st)
{
    static const char *why;
    struct harness *h = h_new();
    uint8_t *copy;
    struct trace tr;
    int64_t n;

    (void)st;
    h->cfg.trace_keep = 2;
    open_passive(h);
    h_send(h, 500);
    skip_out(h);
    n = tcp_trace_dump(h->t, h_id(h), h->now, 0, room, sizeof room);
    assert_true(n > 0);
    copy = malloc((size_t)n);
    srand(7);
    for (unsigned round = 0; round < 20000; round++) {
        size_t used, len = round % 7 ? (size_t)n : 1 + (size_t)rand() % (size_t)n, flips = (size_t)rand() % 8;
        struct trace_cursor cursor = {0};
        struct trace_story story = {0};
        struct trace_event ev;
        struct trace_text text = {0};

        memcpy(copy, room, (size_t)n);
        for (size_t i = 0; i < flips; i++)
            copy[(size_t)rand() % len] = (uint8_t)rand();
        if (trace_open(copy, len, &tr, &used, &why) < 0) {
            assert_non_null(why);
            continue;
        }
        assert_true(used <= len);
        trace_story_head(&tr, &text);
        trace_json_head(&tr, &text);
        while (trace_next(&tr, &cursor, &ev) == 1) {
            trace_story_event(&tr, &ev, &story, &text);
            trace_json_event(&tr, &ev, &text);
        }
        assert_true(cursor.pos <= tr.bytes);
        (void)trace_packetdrill(&tr, &text, &why);
        trace_text_free(&text);
    }
    free(copy);
    h_free(h);
}

/* An event of a later version: longer, or of a type that nobody knows: skipped, and what is known of it read. */
static void later_versions(void **st)
{
    uint64_t bytes[6] = {0};
    struct tcp_rec_hdr longer = {.type = TCP_REC_T_LIMIT, .code = TCP_LIMIT_CWND, .words = 4},
                       unknown = {.type = 200, .words = 2};
    union tcp_rec_event e;
    size_t pos = 0;

    (void)st;
    memcpy(bytes, &longer, sizeof longer);
    bytes[2] = 77;
    memcpy(bytes + 4, &unknown, sizeof unknown);
    assert_int_equal(tcp_rec_decode(bytes, sizeof bytes, &pos, &e, NULL), 1);
    assert_int_equal(e.limit.since, 77);
    assert_int_equal(tcp_rec_decode(bytes, sizeof bytes, &pos, &e, NULL), 1);
    assert_int_equal(e.h.type, 200);
    assert_int_equal(tcp_rec_decode(bytes, sizeof bytes, &pos, &e, NULL), 0);
}

/* As many rings as the pool has pages: the one that was silent longest gives its place to a new connection. */
static void a_page_each(void **st)
{
    struct harness *h = h_new_args(&(struct h_args){.trace_bytes = 8 * (4096 + 128)});
    struct tcp_trace_totals totals;
    struct trace tr;

    (void)st;
    for (int i = 0; i < 14; i++) {
        flow(h, i);
        h_connect(h);
        skip_out(h);
        tr = dump(h, h_id(h));
        assert_int_equal(count(&tr, TCP_REC_T_SEG_OUT, -1, NULL), 1);
        pass_ms(h, 20);
    }
    tcp_trace_totals(h->t, &totals);
    assert_true(totals.stolen_rings >= 6);
    for (int i = 0; i < 14; i++) {
        flow(h, i);
        h_abort(h);
        skip_out(h);
    }
    h_free(h);
}

/* What the stack tells in names: whole up to 32 characters, in two pieces. */
static void replies_have_names(void **st)
{
    static const char *const names[] = {"ARP", "0123456789abcdef", "0123456789abcdefg", "0123456789abcdef0123456789abcdefxyz"};
    struct harness *h = h_new();

    (void)st;
    for (unsigned i = 0; i < 4; i++) {
        struct trace_event ev;
        struct trace tr;
        char text[33] = "";

        tcp_trace_reply(h->t, TCP_REC_REPLY_DROP, names[i], NULL, NULL, h->now);
        tr = dump(h, 0);
        assert_int_equal(count(&tr, TCP_REC_T_REPLY, TCP_REC_REPLY_DROP, NULL), i + 1);
        for (struct trace_cursor cursor = {0}; trace_next(&tr, &cursor, &ev) == 1;)
            if (ev.type == TCP_REC_T_REPLY)
                snprintf(text, sizeof text, "%.16s%.16s", ev.e.named.name0, ev.e.named.name1);
        assert_int_equal(strncmp(text, names[i], 32), 0);
    }
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(story_of_a_passive_open), cmocka_unit_test(handshakes_are_kept_apart),
        cmocka_unit_test(ring_wraps),              cmocka_unit_test(pool_is_shared),
        cmocka_unit_test(level_0_records_nothing), cmocka_unit_test(bad_ends_stay),
        cmocka_unit_test(black_boxes_are_few),     cmocka_unit_test(damaged_bytes),
        cmocka_unit_test(replies_have_names),
        cmocka_unit_test(later_versions),          cmocka_unit_test(a_page_each),
    };

    return cmocka_run_group_tests_name("rec", tests, NULL, NULL);
}
