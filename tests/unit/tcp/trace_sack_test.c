/* tests/unit/tcp/trace_sack_test.c: each out-of-order segment of a burst is reported by its own ACK (RFC 2018 section 4). */
#include "harness.h"

/* Six holes in one burst, more than an ACK's blocks hold: each ACK begins with its own segment's. */
static void each_hole_first_in_its_ack(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);

    (void)st;
    h->hold = true;
    in(h, ". 1001:2001(1000) ack 1 win 65535");
    in(h, ". 3001:4001(1000) ack 1 win 65535");
    in(h, ". 5001:6001(1000) ack 1 win 65535");
    in(h, ". 7001:8001(1000) ack 1 win 65535");
    in(h, ". 9001:10001(1000) ack 1 win 65535");
    in(h, ". 11001:12001(1000) ack 1 win 65535");
    h->hold = false;
    flush(h);
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 1001:2001 *>");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 3001:4001 *>");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 5001:6001 *>");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 7001:8001 *>");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 9001:10001 *>");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 11001:12001 9001:10001 7001:8001 5001:6001>");
    h_free(h);
}

/* A range that grew meanwhile is reported as it is; one that was joined in order is not reported any more. */
static void ranges_as_they_are_now(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 65535);

    (void)st;
    h->hold = true;
    in(h, ". 1001:2001(1000) ack 1 win 65535");
    in(h, ". 5001:6001(1000) ack 1 win 65535");
    in(h, ". 2001:3001(1000) ack 1 win 65535");
    h->hold = false;
    flush(h);
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 1001:3001 5001:6001>");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 5001:6001 1001:3001>");
    out(h, ". 1:1(0) ack 1 win * <nop,nop,sack 1001:3001 5001:6001>");
    h_free(h);
}

/* What was cut to whole segments before there was a hole makes room for its block, also where more waits behind it. */
static void data_makes_room_for_blocks(void **st)
{
    struct harness *h = h_passive("mss 1000,nop,nop,sackOK", 2000);

    (void)st;
    assert_int_equal(h_send(h, 5000), 5000);
    out(h, ". 1:1001(1000) ack 1 win *");
    out(h, "P. 1001:2001(1000) ack 1 win *");
    in(h, ". 1001:2001(1000) ack 1 win 2000");
    out(h, ". 2001:2001(0) ack 1 win * <nop,nop,sack 1001:2001>");
    in(h, ". 2001:2001(0) ack 2001 win 65535");
    out(h, ". 2001:2989(988) ack 1 win * <nop,nop,sack 1001:2001>");
    out(h, ". 2989:3001(12) ack 1 win * <nop,nop,sack 1001:2001>");
    out(h, ". 3001:3989(988) ack 1 win * <nop,nop,sack 1001:2001>");
    out(h, "P. 3989:4001(12) ack 1 win * <nop,nop,sack 1001:2001>");
    out(h, ". 4001:4989(988) ack 1 win * <nop,nop,sack 1001:2001>"); /* Nagle holds the rest */
    h_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_hole_first_in_its_ack),
        cmocka_unit_test(ranges_as_they_are_now),
        cmocka_unit_test(data_makes_room_for_blocks),
    };

    return cmocka_run_group_tests_name("trace_sack", tests, NULL, NULL);
}
