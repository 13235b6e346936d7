/*
 * tests/unit/tcp/trace_fastopen_test.c: TCP Fast Open (RFC 7413), both sides. Cookies are compared with what Linux
 * makes of the same key and addresses.
 */
#include <stdio.h>
#include "harness.h"

#define SERVER 0x403 /* client, server, all listeners */

static const uint8_t key_a[1][16] = {{0xa1, 0xa1, 0xa1, 0xa1, 0xb2, 0xb2, 0xb2, 0xb2, 0xc3, 0xc3, 0xc3, 0xc3, 0xd4, 0xd4,
                                      0xd4, 0xd4}};

/* As a program's sendto(MSG_FASTOPEN) on a fresh flow: bytes that the SYN took. */
static int64_t fastopen(struct harness *h, int k, size_t bytes)
{
    struct h_flow *f;
    struct tcp_connect_args args = {.path = h->path, .user = 5, .fastopen = true};
    uint8_t data[3000];
    int64_t n;

    flow(h, k);
    f = h_flow(h);
    args.tuple = f->tuple;
    f->rx_pos = 0;
    assert_int_equal(tcp_connect(h->t, &args, h->now, &f->id), 0);
    for (size_t i = 0; i < bytes; i++)
        data[i] = h_pattern(i);
    n = tcp_fastopen_connect(h->t, f->id, data, bytes, h->now);
    f->tx_pos = n > 0 ? (uint64_t)n : 0;
    flush(h);
    return n;
}

static struct harness *plain(int32_t bits)
{
    struct harness *h = h_new();

    h->cfg.tcp_fastopen = bits;
    h->cfg.tcp_timestamps = 0;
    assert_int_equal(tcp_fastopen_set_keys(h->t, 0, key_a, 1), 0);
    return h;
}

/* A client that has a cookie, and MSS 1040 of the server, from flow 0. */
static struct harness *warm(void)
{
    struct harness *h = plain(1);

    assert_int_equal(fastopen(h, 0, 0), 0);
    out(h, "S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 7,FO,nop,nop>");
    in(h, "S. 0:0(0) ack 1 win 5840 <mss 1040,nop,nop,sackOK,nop,wscale 6,FO abcd1234,nop,nop>");
    out(h, ". 1:1(0) ack 1");
    assert_int_equal(h_info(h).delivered, 1);
    assert_int_equal(h_info(h).fastopen_client_fail, TFO_COOKIE_UNAVAILABLE);
    h_abort(h);
    skip_out(h);
    return h;
}

#define SYN_DATA "S 0:1000(1000) <mss 1460,nop,nop,sackOK,nop,wscale 7,FO abcd1234,nop,nop>"

/* ---- client ---- */

static void data_acked(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 2000), 1000); /* 1040 less room for options */
    out(h, SYN_DATA);
    in(h, "S. 0:0(0) ack 1001 win 5840 <mss 1460,nop,nop,sackOK,nop,wscale 6>");
    out(h, ". 1001:1001(0) ack 1");
    assert_int_equal(h_info(h).delivered, 1);
    assert_true(h_info(h).options & TCP_INFO_OPT_SYN_DATA);
    assert_int_equal(tcp_get_counters(h->t)->fastopen_active, 1);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1001:1101(100) ack 1");
    h_free(h);
}

static void data_not_acked_goes_again(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    in(h, "S. 0:0(0) ack 1 win 5840 <mss 1460,nop,nop,sackOK,nop,wscale 6>");
    out(h, "P. 1:1001(1000) ack 1");
    assert_int_equal(h_pending(h), 0); /* which is the handshake's ACK too */
    assert_int_equal(h_info(h).fastopen_client_fail, TFO_DATA_NOT_ACKED);
    assert_false(h_info(h).options & TCP_INFO_OPT_SYN_DATA);
    in(h, ". 1:1(0) ack 1001 win 257");
    assert_int_equal(h_info(h).delivered, 2);
    assert_int_equal(h_info(h).unacked, 0);
    h_free(h);
}

static void data_partly_acked(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    in(h, "S. 0:0(0) ack 301 win 5840 <mss 500,nop,nop,sackOK,nop,wscale 6>"); /* and smaller segments */
    out(h, ". 301:801(500) ack 1");
    out(h, "P. 801:1001(200) ack 1");
    in(h, ". 1:1(0) ack 1001 win 257");
    assert_int_equal(h_info(h).unacked, 0);
    h_free(h);
}

static void syn_again_is_plain(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    out_in(h, 1000, "S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 7>");
    in(h, "S. 0:0(0) ack 1 win 5840 <mss 1460,nop,nop,sackOK,nop,wscale 6>");
    out(h, "P. 1:1001(1000) ack 1");
    assert_int_equal(h_info(h).fastopen_client_fail, TFO_SYN_RETRANSMITTED);
    h_free(h);
}

static void over_acked_is_reset(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    in(h, "S. 0:0(0) ack 1002 win 5840 <mss 1460>");
    out(h, "R 1002:1002(0) win 0");
    h_free(h);
}

static void data_in_synack(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    in(h, "SFP. 0:500(500) ack 1001 win 5840 <mss 1040>");
    state(h, TCP_STATE_CLOSE_WAIT);
    expect(h, h_recv(h, 1000), 500);
    expect(h, h_recv(h, 1000), 0);
    out(h, ". 1001:1001(0) ack 502");
    h_free(h);
}

static void without_cookie_when_told_so(void **st)
{
    struct harness *h = plain(5);

    (void)st;
    assert_int_equal(fastopen(h, 0, 1000), 1000);
    out(h, "S 0:1000(1000) <mss 1460,nop,nop,sackOK,nop,wscale 7>");
    in(h, "S. 0:0(0) ack 1001 win 5840 <mss 1460,FO abcd1234,nop,nop>"); /* unsolicited: not kept */
    out(h, ". 1001:1001(0) ack 1");
    h->cfg.tcp_fastopen = 1;
    assert_int_equal(fastopen(h, 1, 1000), 0);
    out(h, "S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 7,FO,nop,nop>");
    h_free(h);
}

static void experimental_option_is_tried_once(void **st)
{
    static const char *const option[] = {"FO,nop,nop", "FOEXP", "FO,nop,nop", "FO,nop,nop"};
    struct harness *h = plain(1);
    char text[128];

    (void)st;
    for (int k = 0; k < 4; k++) {
        assert_int_equal(fastopen(h, k, 0), 0);
        snprintf(text, sizeof text, "S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 7,%s>", option[k]);
        out(h, text);
        in(h, "S. 0:0(0) ack 1 win 5840 <mss 1460>");
        out(h, ". 1:1(0) ack 1");
    }
    h_free(h);
}

static void simultaneous_open(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    in(h, "S 0:500(500) win 14600 <mss 1040,nop,nop,sackOK,nop,wscale 6,FO 87654321,nop,nop>");
    out(h, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 7>");
    in(h, "S. 0:0(0) ack 1001 win 14600 <mss 940,nop,nop,sackOK,nop,wscale 6>");
    out(h, ". 1001:1001(0) ack 1 <nop,nop,sack 0:1>");
    state(h, TCP_STATE_ESTABLISHED);
    in(h, "P. 1:501(500) ack 1001 win 257");
    out(h, ". 1001:1001(0) ack 501");
    h_free(h);
}

static void packet_too_big(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    h_icmp(h, 0, EMSGSIZE, false, 800);
    out(h, "S 0:0(0) <mss 760,nop,nop,sackOK,nop,wscale 7>");
    in(h, "S. 0:0(0) ack 1 win 5840 <mss 1040,nop,nop,sackOK,nop,wscale 6>");
    out(h, ". 1:761(760) ack 1");
    out(h, "P. 761:1001(240) ack 1");
    h_free(h);
}

static void black_hole_pauses(void **st)
{
    struct harness *h = warm();

    (void)st;
    h->cfg.tcp_fastopen_blackhole_timeout_sec = 100;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    pass_ms(h, 8000); /* the third time-out in a row */
    skip_out(h);
    assert_int_equal(tcp_get_counters(h->t)->fastopen_blackhole, 1);
    h_abort(h);
    skip_out(h);
    assert_int_equal(fastopen(h, 2, 1000), 0); /* no option at all */
    out(h, "S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 7>");
    h_abort(h);
    skip_out(h);
    quiet(h, 100000);
    assert_int_equal(fastopen(h, 3, 1000), 1000);
    out(h, SYN_DATA);
    h_free(h);
}

static void write_pending_saves_the_ack(void **st)
{
    struct harness *h = warm();

    (void)st;
    assert_int_equal(fastopen(h, 1, 1000), 1000);
    out(h, SYN_DATA);
    tcp_set_write_pending(h->t, h_flow(h)->id, true);
    in(h, "S. 0:0(0) ack 1001 win 5840 <mss 1460>");
    quiet(h, 199);
    out_in(h, 1, ". 1001:1001(0) ack 1");
    h_free(h);
}

/* ---- server ---- */

/* 192.0.2.1 -> 192.168.0.1 with that key is 3021b9d889017eeb in Linux; the harness's own addresses give another. */
static void linux_cookie(void **st)
{
    struct harness *h = plain(SERVER);

    (void)st;
    for (int k = 0; k < H_FLOWS; k++) {
        h->flows[k].tuple.local = ip_addr_v4(192, 168, 0, 1);
        h->flows[k].tuple.remote = ip_addr_v4(192, 0, 2, 1);
    }
    h_listen(h, 4);
    in(h, "S 0:0(0) win 65535 <mss 1460,FO,nop,nop>");
    out(h, "S. 0:0(0) ack 1 <mss 1460,FO 3021b9d889017eeb,nop,nop>");
    assert_int_equal(tcp_get_counters(h->t)->fastopen_cookie_reqd, 1);
    in(h, ". 1:1(0) ack 1 win 65535");
    state(h, TCP_STATE_ESTABLISHED);
    flow(h, 1); /* the other option is answered in kind, with the same cookie */
    in(h, "S 0:10(10) win 65535 <mss 1460,FOEXP aaaaaaaaaaaaaaaa>");
    out(h, "S. 0:0(0) ack 1 <mss 1460,FOEXP 3021b9d889017eeb>");
    flow(h, 2);
    in(h, "S 0:10(10) win 65535 <mss 1460,FO 3021b9d889017eeb,nop,nop>");
    out(h, "S. 0:0(0) ack 11 <mss 1460>");
    h_accept(h);
    h_free(h);
}

/* A listener that takes SYN data without a cookie. */
static struct harness *server(void)
{
    struct harness *h = plain(SERVER | 0x200);

    h_listen(h, 4);
    return h;
}

static void serve(struct harness *h, int k)
{
    flow(h, k);
    in(h, "S 0:10(10) win 32792 <mss 1460,sackOK,nop,nop>");
    out(h, "S. 0:0(0) ack 11 <mss 1460,nop,nop,sackOK>");
    state(h, TCP_STATE_SYN_RECV);
}

static void answered_before_the_handshake_ends(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    h_accept(h);
    expect(h, h_recv(h, 100), 10);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1:101(100) ack 11");
    assert_int_equal(h_info(h).delivered, 0);
    in(h, ". 11:11(0) ack 1 win 32792");
    state(h, TCP_STATE_ESTABLISHED);
    assert_int_equal(h_info(h).delivered, 1);
    in(h, ". 11:11(0) ack 101 win 32792");
    assert_int_equal(h_info(h).delivered, 2);
    assert_true(h_info(h).options & TCP_INFO_OPT_SYN_DATA);
    h_free(h);
}

/* Only the SYN-ACK goes again before its ACK; then the RTO watches over the data. */
static void only_the_synack_times_out(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    h_accept(h);
    expect(h, h_recv(h, 100), 10);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1:101(100) ack 11");
    out_in(h, 1000, "S. 0:0(0) ack 11 <mss 1460,nop,nop,sackOK>");
    out_in(h, 2000, "S. 0:0(0) ack 11 <mss 1460,nop,nop,sackOK>");
    in(h, "S 0:10(10) win 32792 <mss 1460,sackOK,nop,nop>"); /* the peer's again */
    out(h, "S. 0:0(0) ack 11 <mss 1460,nop,nop,sackOK>");
    in(h, ". 11:11(0) ack 1 win 32792"); /* what had waited so long counts as lost */
    out(h, "P. 1:101(100) ack 11");
    out_in(h, 3000, "P. 1:101(100) ack 11"); /* no RTT sample: RFC 6298 section 5.7 */
    h_free(h);
}

static void given_up(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    h_accept(h);
    pass_ms(h, 200000);
    skip_out(h);
    state(h, TCP_STATE_CLOSE);
    assert_int_equal(h_causes(h, TCP_CAUSE_SYNACK_RETRANS), 6); /* one more than half-open entries */
    expect(h, h_recv(h, 10), 10);
    expect(h, h_recv(h, 100), -ETIMEDOUT);
    h_free(h);
}

static void reset_before_accept(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    in(h, "R. 11:11(0) ack 1 win 0");
    state(h, TCP_STATE_CLOSE);
    h_accept(h);
    expect(h, h_recv(h, 10), 10);
    expect(h, h_recv(h, 100), -ECONNRESET);
    h_free(h);
}

static void icmp_before_and_after_accept(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    h_icmp(h, 5000, EHOSTUNREACH, false, 0); /* not of this connection's */
    state(h, TCP_STATE_SYN_RECV);
    assert_int_equal(tcp_get_counters(h->t)->out_of_window_icmps, 1);
    h_icmp(h, 0, EHOSTUNREACH, false, 0);
    state(h, TCP_STATE_CLOSE);
    h_accept(h);
    expect(h, h_recv(h, 10), 10);
    expect(h, h_recv(h, 100), -EHOSTUNREACH);
    serve(h, 1);
    h_accept(h);
    h_icmp(h, 0, EHOSTUNREACH, false, 0); /* accepted: only remembered */
    state(h, TCP_STATE_SYN_RECV);
    h_free(h);
}

static void closed_before_the_handshake_ends(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    h_accept(h);
    expect(h, h_recv(h, 100), 10);
    h_close(h);
    out(h, "F. 1:1(0) ack 11");
    state(h, TCP_STATE_FIN_WAIT1);
    out_in(h, 1000, "S. 0:0(0) ack 11 <mss 1460,nop,nop,sackOK>");
    in(h, ". 11:11(0) ack 2 win 32792");
    state(h, TCP_STATE_FIN_WAIT2);
    h_free(h);
}

static void bad_ack_is_reset(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    h_accept(h);
    in(h, ". 11:11(0) ack 1000 win 32792");
    out(h, "R 1000:1000(0) win 0");
    state(h, TCP_STATE_SYN_RECV);
    h_free(h);
}

static void queue_limit_and_resets(void **st)
{
    struct harness *h = server();

    (void)st;
    assert_int_equal(tcp_listen_set_opt(h->t, h->listener, TCP_OPT_FASTOPEN, 2), 0);
    serve(h, 0);
    serve(h, 1);
    flow(h, 2);
    in(h, "S 0:10(10) win 32792 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <mss 1460>"); /* a handshake as ever */
    assert_int_equal(tcp_get_counters(h->t)->fastopen_listen_overflow, 1);
    flow(h, 0);
    h_accept(h);
    in(h, "R. 11:11(0) ack 1 win 0"); /* counts for a minute still */
    flow(h, 3);
    in(h, "S 0:10(10) win 32792 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <mss 1460>");
    flow(h, 1);
    in(h, ". 11:11(0) ack 1 win 32792"); /* done: makes room */
    serve(h, 4);
    pass_ms(h, 61000);
    skip_out(h);
    serve(h, 5);
    h_free(h);
}

static void keys_rotate(void **st)
{
    static const uint8_t both[2][16] = {{1, 2, 3}, {0xa1, 0xa1, 0xa1, 0xa1, 0xb2, 0xb2, 0xb2, 0xb2, 0xc3, 0xc3, 0xc3, 0xc3,
                                                    0xd4, 0xd4, 0xd4, 0xd4}};
    struct harness *h = plain(SERVER);
    uint8_t got[2][16];

    (void)st;
    for (int k = 0; k < H_FLOWS; k++) {
        h->flows[k].tuple.local = ip_addr_v4(192, 168, 0, 1);
        h->flows[k].tuple.remote = ip_addr_v4(192, 0, 2, 1);
    }
    h_listen(h, 4);
    assert_int_equal(tcp_fastopen_set_keys(h->t, h->listener, both, 2), 0);
    assert_int_equal(tcp_fastopen_get_keys(h->t, h->listener, got), 2);
    assert_memory_equal(got, both, sizeof both);
    in(h, "S 0:10(10) win 65535 <mss 1460,FO 3021b9d889017eeb,nop,nop>"); /* the old key's: taken, and renewed */
    out(h, "S. 0:0(0) ack 11 win * <mss 1460,FO [0-9a-f]*,nop,nop>");
    assert_int_equal(tcp_get_counters(h->t)->fastopen_passive_alt_key, 1);
    assert_int_equal(tcp_fastopen_set_keys(h->t, h->listener, both, 1), 0);
    flow(h, 1);
    in(h, "S 0:10(10) win 65535 <mss 1460,FO 3021b9d889017eeb,nop,nop>");
    out(h, "S. 0:0(0) ack 1 win * <mss 1460,FO [0-9a-f]*,nop,nop>");
    assert_int_equal(tcp_get_counters(h->t)->fastopen_passive_fail, 1);
    h_free(h);
}

static void listener_closes(void **st)
{
    struct harness *h = server();

    (void)st;
    serve(h, 0);
    tcp_listen_close(h->t, h->listener, h->now);
    flush(h);
    out(h, "R. 1:1(0) ack 11");
    h_free(h);
}

/* ECN bits of a SYN are no reason for a RST (RFC 3168 section 6.1.1.1), granted or not. */
static void ecn_setup_syn(void **st)
{
    struct harness *h = server();

    (void)st;
    h->cfg.tcp_ecn = 0;
    in(h, "SEW 0:0(0) win 32792 <mss 1460,sackOK,nop,nop>");
    out(h, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
    in(h, ". 1:1(0) ack 1 win 32792");
    state(h, TCP_STATE_ESTABLISHED);
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_acked),
        cmocka_unit_test(data_not_acked_goes_again),
        cmocka_unit_test(data_partly_acked),
        cmocka_unit_test(syn_again_is_plain),
        cmocka_unit_test(over_acked_is_reset),
        cmocka_unit_test(data_in_synack),
        cmocka_unit_test(without_cookie_when_told_so),
        cmocka_unit_test(experimental_option_is_tried_once),
        cmocka_unit_test(simultaneous_open),
        cmocka_unit_test(packet_too_big),
        cmocka_unit_test(black_hole_pauses),
        cmocka_unit_test(write_pending_saves_the_ack),
        cmocka_unit_test(linux_cookie),
        cmocka_unit_test(answered_before_the_handshake_ends),
        cmocka_unit_test(only_the_synack_times_out),
        cmocka_unit_test(given_up),
        cmocka_unit_test(reset_before_accept),
        cmocka_unit_test(icmp_before_and_after_accept),
        cmocka_unit_test(closed_before_the_handshake_ends),
        cmocka_unit_test(bad_ack_is_reset),
        cmocka_unit_test(queue_limit_and_resets),
        cmocka_unit_test(keys_rotate),
        cmocka_unit_test(listener_closes),
        cmocka_unit_test(ecn_setup_syn),
    };

    return cmocka_run_group_tests_name("trace_fastopen", tests, NULL, NULL);
}
