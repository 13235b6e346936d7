/*
 * The log: levels, one line whatever the text holds, truncation, rate limits with their count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/log.h"
#include "base/time.h"

struct record {
    char text[1024];
    enum log_level level;
    unsigned count;
};

static void keep(void *user, enum log_level level, const char *text)
{
    struct record *r = user;

    snprintf(r->text, sizeof r->text, "%s", text);
    r->level = level;
    r->count++;
}

static void test_levels(void **state)
{
    struct record r = {.count = 0};
    struct log_sink sink = {keep, &r, LOG_LVL_NOTICE};

    (void)state;
    log_msg(&sink, LOG_LVL_INFO, "quiet");
    assert_int_equal(r.count, 0);
    log_msg(&sink, LOG_LVL_NOTICE, "%s %d", "heard", 7);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.level, LOG_LVL_NOTICE);
    assert_string_equal(r.text, "heard 7");
}

static void test_no_sink(void **state)
{
    struct log_sink sink = {NULL, NULL, LOG_LVL_DEBUG};
    struct log_limit limit = {0};

    (void)state;
    log_msg(NULL, LOG_LVL_ERR, "nobody");
    log_msg(&sink, LOG_LVL_ERR, "nobody");
    log_limited(NULL, &limit, 0, 1, LOG_LVL_ERR, "nobody");
}

static void test_control_characters(void **state)
{
    struct record r = {.count = 0};
    struct log_sink sink = {keep, &r, LOG_LVL_DEBUG};

    (void)state;
    log_msg(&sink, LOG_LVL_ERR, "a%sz", "\n\r\t\x1b[31m\x7f\x01");
    assert_string_equal(r.text, "a????[31m??z");
    log_msg(&sink, LOG_LVL_ERR, "%s", "gr\xc3\xbc\xc3\x9f");
    assert_string_equal(r.text, "gr\xc3\xbc\xc3\x9f");
}

static void test_long_text_is_cut(void **state)
{
    struct record r = {.count = 0};
    struct log_sink sink = {keep, &r, LOG_LVL_DEBUG};
    struct log_limit limit = {.suppressed = UINT32_MAX};
    char text[2000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_msg(&sink, LOG_LVL_ERR, "%s", text);
    assert_int_equal(strlen(r.text), 511);
    log_limited(&sink, &limit, 0, 1, LOG_LVL_ERR, "%s", text);
    assert_true(strlen(r.text) < 512);
    assert_non_null(strstr(r.text, "xxx (4294967295 more suppressed)"));
}

static void test_limit_counts_what_it_drops(void **state)
{
    struct record r = {.count = 0};
    struct log_sink sink = {keep, &r, LOG_LVL_INFO};
    struct log_limit limit = {0};

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        log_limited(&sink, &limit, 5 + i, 3, LOG_LVL_INFO, "hit %u", i);
    assert_int_equal(r.count, 3);
    assert_string_equal(r.text, "hit 2");
    log_limited(&sink, &limit, NSEC_PER_SEC - 1, 3, LOG_LVL_INFO, "too early");
    assert_int_equal(r.count, 3);
    log_limited(&sink, &limit, NSEC_PER_SEC, 3, LOG_LVL_INFO, "again");
    assert_int_equal(r.count, 4);
    assert_string_equal(r.text, "again (8 more suppressed)");
    log_limited(&sink, &limit, NSEC_PER_SEC + 1, 3, LOG_LVL_INFO, "clean");
    assert_string_equal(r.text, "clean");
    log_limited(&sink, &limit, NSEC_PER_SEC + 2, 3, LOG_LVL_DEBUG, "below the level");
    assert_int_equal(limit.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_no_sink),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_limit_counts_what_it_drops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
