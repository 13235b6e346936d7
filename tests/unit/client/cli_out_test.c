/*
 * The `taut` command's tables and units.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cli/out.h"

static void units(void **state)
{
    char b[32];

    (void)state;
    assert_string_equal(human_bytes(0, b, sizeof b), "0 B");
    assert_string_equal(human_bytes(1023, b, sizeof b), "1023 B");
    assert_string_equal(human_bytes(1024, b, sizeof b), "1.0 KiB");
    assert_string_equal(human_bytes(1048575, b, sizeof b), "1.0 MiB");
    assert_string_equal(human_bytes(12897484, b, sizeof b), "12.3 MiB");
    assert_string_equal(human_bytes(UINT64_MAX, b, sizeof b), "16.0 EiB");
    assert_string_equal(human_us(410, b, sizeof b), "410 us");
    assert_string_equal(human_us(12345, b, sizeof b), "12.3 ms");
    assert_string_equal(human_us(1500000, b, sizeof b), "1.50 s");
    assert_string_equal(human_us(123e6, b, sizeof b), "2 min 3 s");
    assert_string_equal(human_us(3725e6, b, sizeof b), "1 h 2 min");
    assert_string_equal(human_us(273600e6, b, sizeof b), "3 d 4 h");
    assert_string_equal(human_rate(11762500, b, sizeof b), "94.1 Mbit/s");
    assert_string_equal(human_rate(12, b, sizeof b), "96 bit/s");
}

static void tables(void **state)
{
    static const char *const head[] = {"NAME", ">N", "LAST"};
    struct table t;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    table_init(&t, head, 3);
    table_row(&t, (const char *[]){"a", "1", "x"});
    table_row(&t, (const char *[]){"zweiß", "1000", NULL}); /* five characters, six bytes */
    for (int i = 0; i < 100; i++)
        table_row(&t, (const char *[]){"a", "1", ""});
    table_print(&t, out);
    fclose(out);
    assert_int_equal(strncmp(text,
                             "NAME      N  LAST\n"
                             "a         1  x\n"
                             "zweiß  1000  -\n"
                             "a         1  -\n",
                             18 + 15 + 16 + 15),
                     0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(units), cmocka_unit_test(tables)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
