/*
 * tests/unit/trace/trace_record_test.c: records of anybody's: base64, pieces that are joined, names that would be commands,
 * and events that would be megabytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tcp/tcp_enums.h"
#include "trace/export.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
    };

    return cmocka_run_group_tests_name("trace_record", tests, NULL, NULL);
}
