/* The configuration table and the names: every row consistent, ranges kept, no two of a kind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tcp/tcp_config.h"
#include "tcp/tcp_enums.h"

static void rows(void **unused)
{
    struct tcp_config config;
    unsigned n = 0;

    (void)unused;
    memset(&config, 0xff, sizeof config);
    tcp_config_defaults(&config);
    for (const struct tcp_config_row *row = tcp_config_rows; row->name; row++, n++) {
        assert_ptr_equal(tcp_config_find(row->name), row);
        assert_int_equal(tcp_config_get(&config, row), row->def);
        assert_true(row->offset + sizeof(int32_t) <= sizeof config);
        assert_true(strcmp(row->scope, "new") == 0 || strcmp(row->scope, "now") == 0);
        assert_true(strlen(row->help) > 0);
    }
    assert_int_equal(n * sizeof(int32_t), sizeof config);
    assert_null(tcp_config_find("tcp_no_such_thing"));
}

static void ranges(void **unused)
{
    struct tcp_config config;

    (void)unused;
    for (const struct tcp_config_row *row = tcp_config_rows; row->name; row++) {
        tcp_config_defaults(&config);
        assert_int_equal(tcp_config_set(&config, row, row->min), 0);
        assert_int_equal(tcp_config_get(&config, row), row->min);
        assert_int_equal(tcp_config_set(&config, row, row->max), 0);
        assert_int_equal(tcp_config_get(&config, row), row->max);
        assert_int_equal(tcp_config_set(&config, row, (int64_t)row->max + 1), -ERANGE);
        assert_int_equal(tcp_config_set(&config, row, (int64_t)row->min - 1), -ERANGE);
        assert_int_equal(tcp_config_set(&config, row, INT64_MIN), -ERANGE);
        assert_int_equal(tcp_config_get(&config, row), row->max);
    }
}

/* Names stand for exactly the values in the range. */
static void named_values(void **unused)
{
    const struct tcp_config_row *row = tcp_config_find("tcp_congestion_control");

    (void)unused;
    assert_string_equal(tcp_config_name(row, row->def), "cubic");
    for (int32_t v = row->min; v <= row->max; v++)
        assert_int_equal(tcp_config_named(row, tcp_config_name(row, v)), v);
    assert_null(tcp_config_name(row, row->max + 1));
    assert_null(tcp_config_name(row, -1));
    assert_int_equal(tcp_config_named(row, "vegas"), -1);
    assert_null(tcp_config_name(tcp_config_find("tcp_ecn"), 1));
    assert_int_equal(tcp_config_named(tcp_config_find("tcp_ecn"), "cubic"), -1);
}

/* A setter may touch its own member only. */
static void members(void **unused)
{
    (void)unused;
    for (const struct tcp_config_row *row = tcp_config_rows; row->name; row++) {
        struct tcp_config config;

        tcp_config_defaults(&config);
        tcp_config_set(&config, row, row->max);
        for (const struct tcp_config_row *other = tcp_config_rows; other->name; other++)
            assert_int_equal(tcp_config_get(&config, other), other == row ? other->max : other->def);
    }
}

static void names(void **unused)
{
    (void)unused;
    assert_string_equal(tcp_state_name(TCP_STATE_ESTABLISHED), "ESTABLISHED");
    assert_string_equal(tcp_state_name(TCP_STATE_NEW_SYN_RECV), "NEW_SYN_RECV");
    assert_string_equal(tcp_state_name((enum tcp_state)0), "?");
    assert_string_equal(tcp_state_name((enum tcp_state)99), "?");
    assert_string_equal(tcp_cause_name(TCP_CAUSE_SYN), "SYN");
    assert_string_equal(tcp_cause_name((enum tcp_cause)TCP_CAUSE_MAX), "?");
    assert_string_equal(tcp_drop_name(TCP_DROP_MD5_FAILURE), "MD5_FAILURE");
    assert_string_equal(tcp_drop_text((enum tcp_drop) - 1), "?");
    assert_string_equal(tcp_limit_name(TCP_LIMIT_CWND), "CWND");
    assert_string_equal(tcp_limit_text(TCP_LIMIT_CWND), "congestion window");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(ranges), cmocka_unit_test(named_values),
        cmocka_unit_test(members),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests_name("tcp_config", tests, NULL, NULL);
}
