/*
 * tests/unit/tcp/ackowed_test.c: the FIFO of ACK facts: one entry for one owed ACK, in order, counted where equal, bounded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tcp/tcp_priv.h"

static void equal_plain_facts_are_counted(void **state)
{
    struct tcp_conn c = {.rcv_nxt = 77};
    struct tcp_ack_fact f;

    (void)state;
    for (unsigned i = 0; i < 20; i++)
        assert_true(tcp_ackowed_fact(&c.ackowed, 77, TCP_CAUSE_ACK_OUT_OF_ORDER, NULL));
    assert_int_equal(tcp_ackowed_facts(&c.ackowed), 20);
    assert_int_equal(c.ackowed.fact_count, 1);
    for (unsigned i = 0; i < 20; i++) {
        assert_true(tcp_ack_owed(&c));
        assert_true(tcp_ack_take(&c, &f));
        assert_int_equal(f.ack, 77);
        assert_int_equal(f.cause, TCP_CAUSE_ACK_OUT_OF_ORDER);
        assert_false(f.dsack);
    }
    assert_false(tcp_ack_owed(&c));
    assert_false(tcp_ack_take(&c, &f));
    tcp_ackowed_release(&c.ackowed);
}

static void facts_keep_their_order_and_ack(void **state)
{
    struct tcp_conn c = {.rcv_nxt = UINT32_MAX};
    struct tcp_sack_block d = {.start = 5, .end = 9};
    struct tcp_ack_fact f;

    (void)state;
    assert_true(tcp_ackowed_fact(&c.ackowed, UINT32_MAX, TCP_CAUSE_ACK_OUT_OF_ORDER, NULL));
    assert_true(tcp_ackowed_fact(&c.ackowed, UINT32_MAX, TCP_CAUSE_ACK_DUPLICATE, &d));
    c.rcv_nxt = 100;
    assert_true(tcp_ackowed_fact(&c.ackowed, 100, TCP_CAUSE_ACK_OUT_OF_ORDER, NULL));
    assert_null(tcp_ackowed_check(&c.ackowed));
    assert_true(tcp_ack_take(&c, &f));
    assert_int_equal(f.ack, UINT32_MAX);
    assert_true(c.ackowed.taken_fact); /* pays nothing of what came later */
    assert_true(tcp_ack_take(&c, &f));
    assert_true(f.dsack);
    assert_int_equal(f.dsack_block.start, 5);
    assert_int_equal(f.dsack_block.end, 9);
    assert_true(tcp_ack_take(&c, &f));
    assert_int_equal(f.ack, 100);
    assert_false(f.dsack);
    assert_false(c.ackowed.taken_fact);
    tcp_ackowed_release(&c.ackowed);
}

static void overflow_coalesces_and_is_counted(void **state)
{
    struct tcp_ackowed o;
    struct tcp_sack_block d = {.start = 1, .end = 2};

    (void)state;
    tcp_ackowed_init(&o);
    for (uint32_t i = 0; i < TCP_ACK_FACTS_MAX; i++) {
        d.end = 2 + i;
        assert_true(tcp_ackowed_fact(&o, 1000 + i, TCP_CAUSE_ACK_DUPLICATE, &d));
    }
    assert_false(tcp_ackowed_fact(&o, 5000, TCP_CAUSE_ACK_DUPLICATE, &d));
    assert_false(tcp_ackowed_fact(&o, 6000, TCP_CAUSE_ACK_DUPLICATE, &d));
    assert_int_equal(o.fact_count, TCP_ACK_FACTS_MAX);
    assert_int_equal(o.coalesced, 2);
    assert_null(tcp_ackowed_check(&o));
    tcp_ackowed_release(&o);
}

/* The ring wraps while it is used and refilled. */
static void ring_wraps(void **state)
{
    struct tcp_conn c = {.rcv_nxt = 0};
    struct tcp_ack_fact f;
    uint32_t in = 0, out = 0;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        for (unsigned i = 0; i < 1 + round % 5 && in - out < 60; i++)
            assert_true(tcp_ackowed_fact(&c.ackowed, in++, TCP_CAUSE_ACK_OUT_OF_ORDER, NULL));
        for (unsigned i = 0; i < 1 + round % 3 && out < in; i++) {
            assert_true(tcp_ack_take(&c, &f));
            assert_int_equal(f.ack, out++);
        }
        assert_int_equal(tcp_ackowed_facts(&c.ackowed), in - out);
    }
    tcp_ackowed_release(&c.ackowed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_plain_facts_are_counted),
        cmocka_unit_test(facts_keep_their_order_and_ack),
        cmocka_unit_test(overflow_coalesces_and_is_counted),
        cmocka_unit_test(ring_wraps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
