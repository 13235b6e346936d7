/*
 * tests/unit/tcp/explain_test.c: where the time went: connections in virtual time that are held up by one thing each,
 * their records explained. The shares are exact, so that they are compared with figures.
 */
#include <stdio.h>
#include <stdlib.h>
#include "harness.h"
#include "tcp/tcp_trace.h"
#include "trace/explain.h"

#define ROOM (1u << 20)

static uint8_t room[ROOM];

static struct explained explain_with(struct harness *h, uint64_t id, const struct explain_context *ctx)
{
    int64_t n = tcp_trace_dump(h->t, id, h->now, 0, room, sizeof room);
    struct explained x;
    struct trace tr;
    uint64_t sum = 0;

    assert_true(n > 0);
    assert_int_equal(trace_open(room, (size_t)n, &tr, NULL, NULL), 0);
    assert_int_equal(trace_explain(&tr, ctx, &x), 0);
    for (unsigned i = 0; i < EXPLAIN_TIME_MAX; i++)
        sum += x.share[i].ns;
    assert_int_equal(sum, x.to - x.from);
    return x;
}

static struct explained explain(struct harness *h)
{
    const struct explain_context none = {0};

    return explain_with(h, h_id(h), &none);
}

static uint64_t ms_of(const struct explained *x, enum explain_time t)
{
    return x->share[t].ns / 1000000;
}

static void is(const struct explained *x, unsigned verdict)
{
    assert_string_equal(explain_verdict_name(x->verdict), explain_verdict_name(verdict));
}

/* A round trip of 10 ms, window of `win` bytes. */
static void open_passive(struct harness *h, unsigned win)
{
    char ack[64];

    h_listen(h, 5);
    in(h, "S 0:0(0) win 65535 <mss 1000>");
    out(h, "S. 0:0(0) ack 1 <...>");
    pass_ms(h, 10);
    snprintf(ack, sizeof ack, ". 1:1(0) ack 1 win %u", win);
    in(h, ack);
    h_accept(h);
}

static void program_writes_nothing(void **st)
{
    struct harness *h = h_new();
    struct explained x;

    (void)st;
    open_passive(h, 65535);
    pass_ms(h, 5000);
    x = explain(h);
    is(&x, EXPLAIN_PROGRAM_WRITE);
    assert_int_equal(ms_of(&x, EXPLAIN_HANDSHAKE), 10);
    assert_int_equal(ms_of(&x, EXPLAIN_PROGRAM_WRITE), 5000);
    h_free(h);
}

static void program_reads_nothing(void **st)
{
    const struct explain_context forward = {
        .live = true, .forward = true, .owner = "forward web", .unread_bytes = 4242};
    struct harness *h = h_new();
    struct trace_text text = {0};
    struct explained x;
    char data[64];

    (void)st;
    open_passive(h, 65535);
    for (unsigned at = 1; h_info(h).rcv_open >= 1000; at += 1000) {
        snprintf(data, sizeof data, ". %u:%u(1000) ack 1 win 65535", at, at + 1000);
        in(h, data);
        skip_out(h);
        pass_ms(h, 50);
        skip_out(h);
    }
    pass_ms(h, 60000);
    x = explain(h);
    is(&x, EXPLAIN_PROGRAM_READ);
    assert_true(ms_of(&x, EXPLAIN_PROGRAM_READ) >= 59000);
    assert_true(ms_of(&x, EXPLAIN_RECEIVING) > 1000);
    x = explain_with(h, h_id(h), &forward);
    is(&x, EXPLAIN_V_BACKEND);
    trace_explain_text(&x, &forward, &text);
    assert_non_null(strstr(text.at, "the backend behind forward web stalls"));
    assert_non_null(strstr(text.at, "4242 bytes unread"));
    trace_text_free(&text);
    skip_out(h);
    h_free(h);
}

static void peers_window(void **st)
{
    struct harness *h = h_new();
    struct explained x;

    (void)st;
    open_passive(h, 2000);
    h_send(h, 3000);
    out(h, ". 1:1001(1000) ack 1");
    out(h, "P. 1001:2001(1000) ack 1");
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 2001 win 0");
    pass_ms(h, 1000);
    skip_out(h);
    x = explain(h);
    is(&x, EXPLAIN_PEER_WINDOW);
    assert_int_equal(ms_of(&x, EXPLAIN_PEER_WINDOW), 1010);
    assert_int_equal(x.peer_closed_ns / 1000000, 1000);
    h_free(h);
}

/* All that fits is on its way, then the program asks for room: from then on, and no longer than until there is some. */
static void send_buffer(void **st)
{
    struct harness *h = h_new();
    struct explained x;
    size_t n = 0;
    char ack[64];

    (void)st;
    open_passive(h, 65535);
    expect(h, h_opt(h, TCP_OPT_SNDBUF, 2304), 0);
    while (tcp_send_space(h->t, h_id(h)) > 0 && n < 100000) {
        n += (size_t)h_send(h, 500);
        skip_out(h);
    }
    pass_ms(h, 150);
    skip_out(h);
    snprintf(ack, sizeof ack, ". 1:1(0) ack %zu win 65535", n + 1);
    in(h, ack);
    skip_out(h);
    x = explain(h);
    is(&x, EXPLAIN_SNDBUF);
    assert_int_equal(ms_of(&x, EXPLAIN_SNDBUF), 150);
    pass_ms(h, 50);
    skip_out(h);
    x = explain(h);
    assert_int_equal(ms_of(&x, EXPLAIN_SNDBUF), 150);
    h_free(h);
}

/* One segment a round trip: the ring turns over many times, the limit stays known. */
static void cwnd_when_the_beginning_is_lost(void **st)
{
    struct harness *h = h_new();
    struct explained x;
    char ack[64];

    (void)st;
    h->cfg.trace_ring = 8192;
    open_passive(h, 65535);
    h_send(h, 60000);
    skip_out(h);
    for (unsigned at = 1; at < 400; at += 2) {
        pass_ms(h, 1);
        snprintf(ack, sizeof ack, ". 1:1(0) ack %u win 65535", at);
        in(h, ack);
        skip_out(h);
    }
    skip_out(h);
    x = explain(h);
    assert_true(x.beginning_lost);
    is(&x, EXPLAIN_CWND);
    assert_true(x.share[EXPLAIN_CWND].ns * 10 > (x.to - x.from) * 9);
    h_free(h);
}

/* Nothing is answered any more: sizes tell whether all is swallowed or what is large. */
static void holes(void **st)
{
    struct harness *h = h_new();
    struct explained x;

    (void)st;
    open_passive(h, 65535);
    h_send(h, 1000);
    skip_out(h);
    pass_ms(h, 5000);
    x = explain(h);
    is(&x, EXPLAIN_V_MTU_BLACK_HOLE);
    skip_out(h);
    in(h, ". 1:1(0) ack 1001 win 65535");
    h_send(h, 1000);
    skip_out(h);
    pass_ms(h, 20000);
    skip_out(h);
    x = explain(h);
    is(&x, EXPLAIN_V_PATH_BLACK_HOLE);
    assert_int_equal(x.acked_max, 1000);
    assert_true(x.unanswered >= 2);
    assert_true(ms_of(&x, EXPLAIN_TIMEOUT) > 15000);
    h_free(h);
}

/* With tcp_mtu_probing the hole is found; what it took is told as what it was. */
static void hole_that_was_found(void **st)
{
    struct harness *h = h_new();
    struct explained x;

    (void)st;
    h->cfg.tcp_mtu_probing = 1;
    h->cfg.tcp_retries1 = 1;
    h_listen(h, 5);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    skip_out(h);
    pass_ms(h, 10);
    in(h, ". 1:1(0) ack 1 win 65535");
    h_accept(h);
    h_send(h, 1460);
    skip_out(h);
    pass_ms(h, 10000);
    skip_out(h);
    in(h, ". 1:1(0) ack 1461 win 65535");
    x = explain(h);
    assert_int_equal(x.stuck_max, 1460);
    is(&x, EXPLAIN_V_MTU_BLACK_HOLE);
    h_free(h);
}

/* Any bytes: an answer or an error, no more than that. */
static void damaged_records(void **st)
{
    const struct explain_context ctx = {.live = true};
    struct harness *h = h_new();
    static uint8_t whole[ROOM];
    uint64_t rng = 42;
    int64_t n;

    (void)st;
    open_passive(h, 2000);
    h_send(h, 3000);
    skip_out(h);
    pass_ms(h, 3000);
    skip_out(h);
    n = tcp_trace_dump(h->t, h_id(h), h->now, 0, whole, sizeof whole);
    for (unsigned round = 0; round < 3000; round++) {
        struct trace_text text = {0};
        struct explained x;
        struct trace tr;

        memcpy(room, whole, (size_t)n);
        for (unsigned k = 0; k <= round % 8; k++) {
            rng = rng * 6364136223846793005ull + 1442695040888963407ull;
            room[28 + (rng >> 33) % (uint64_t)(n - 28)] = (uint8_t)(rng >> 25);
        }
        if (trace_open(room, (size_t)n, &tr, NULL, NULL) < 0)
            continue;
        (void)trace_explain(&tr, &ctx, &x);
        trace_explain_text(&x, &ctx, &text);
        trace_explain_json(&x, &ctx, &text);
        assert_true(text.len > 0);
        trace_text_free(&text);
    }
    h_free(h);
}

static void syn_unanswered(void **st)
{
    struct harness *h = h_new();
    struct explained x;

    (void)st;
    expect(h, h_connect(h), 0);
    skip_out(h);
    pass_ms(h, 3500);
    skip_out(h);
    x = explain(h);
    is(&x, EXPLAIN_V_SYN_UNANSWERED);
    assert_int_equal(x.syns, 3);
    h_free(h);
}

/* Many timeouts in a row: it is told while the connection lives, once, and its record stays whatever the end. */
static void stalls_are_kept(void **st)
{
    struct harness *h = h_new();
    struct tcp_trace_row row;
    uint32_t at = 0;
    tcp_id id;

    (void)st;
    open_passive(h, 65535);
    id = h_id(h);
    h_send(h, 1000);
    skip_out(h);
    pass_ms(h, 3000);
    skip_out(h);
    assert_int_equal(tcp_trace_boxes(h->t), 0);
    pass_ms(h, 60000);
    assert_int_equal(tcp_trace_boxes(h->t), 1);
    do
        assert_true(tcp_trace_next(h->t, &at, &row));
    while (row.id != id);
    assert_int_equal(row.kind, TCP_REC_KIND_CONN);
    assert_int_equal(row.serial, 1);
    skip_out(h);
    in(h, ". 1:1(0) ack 1001 win 65535");
    in(h, "F. 1:1(0) ack 1001 win 65535");
    h_close(h);
    skip_out(h);
    in(h, ". 2:2(0) ack 1002 win 65535");
    assert_int_equal(h_state(h), H_GONE);
    assert_int_equal(tcp_trace_boxes(h->t), 2);
    assert_true(tcp_trace_dump(h->t, id, h->now, 0, room, sizeof room) > 0);
    h_free(h);
}

static void listeners(void **st)
{
    const struct explain_context full = {.listening = true, .listener_known = true, .backlog = 4, .accept_queue = 5};
    const struct explain_context well = {.listening = true, .listener_known = true, .backlog = 4, .accept_queue = 4};
    struct explained x;

    (void)st;
    trace_explain_context(&full, &x);
    is(&x, EXPLAIN_V_ACCEPT_QUEUE);
    trace_explain_context(&well, &x);
    is(&x, EXPLAIN_V_NOTHING);
}

/* Owners' names are others' text: JSON stays JSON. */
static void hostile_names(void **st)
{
    const struct explain_context ctx = {
        .listening = true, .listener_known = true, .accept_queue = 1, .owner = "a\"b\\c\n\xc3"};
    struct trace_text text = {0};
    struct explained x;

    (void)st;
    trace_explain_context(&ctx, &x);
    trace_explain_json(&x, &ctx, &text);
    assert_non_null(strstr(text.at, "a\\\"b\\\\c\\u000a\\u00c3 does not accept"));
    trace_text_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(program_writes_nothing),
        cmocka_unit_test(program_reads_nothing),
        cmocka_unit_test(peers_window),
        cmocka_unit_test(cwnd_when_the_beginning_is_lost),
        cmocka_unit_test(holes),
        cmocka_unit_test(syn_unanswered),
        cmocka_unit_test(stalls_are_kept),
        cmocka_unit_test(listeners),
        cmocka_unit_test(hostile_names),
        cmocka_unit_test(send_buffer),
        cmocka_unit_test(hole_that_was_found),
        cmocka_unit_test(damaged_records),
    };

    return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}
