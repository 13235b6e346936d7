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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_hole_first_in_its_ack),
        cmocka_unit_test(ranges_as_they_are_now),
    };

    return cmocka_run_group_tests_name("trace_sack", tests, NULL, NULL);
}
