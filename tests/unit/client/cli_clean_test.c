/*
 * No text of others steers the terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cli/clean.h"

static void becomes(const char *text, const char *expected)
{
    char copy[256];

    strcpy(copy, text);
    clean_text(copy);
    assert_string_equal(copy, expected);
}

static void texts(void **state)
{
    (void)state;
    becomes("program pid 7", "program pid 7");
    becomes("Größe 試 🐢", "Größe 試 🐢");
    becomes("\033[2Jx", "?[2Jx");
    becomes("a\nb\tc\rd\be", "a?b?c?d?e");
    becomes("\x7f\xc2\x9bm", "??m");           /* DEL, C1 CSI as UTF-8 */
    becomes("\x9bm\xff\xfe", "?m??");          /* CSI as a byte: no UTF-8 */
    becomes("a\xe2\x80\xae" "b", "a?b");       /* right-to-left override */
    becomes("\xed\xa0\x80", "???");            /* a surrogate */
    becomes("\xc0\x9b", "??");                 /* overlong ESC */
    becomes("\xe2\x82", "??");                 /* cut off */
    becomes("", "");
}

static void answers(void **state)
{
    json_t *j = json_pack("{s:s, s:[s, {s:s}], s:i}", "a", "x\033]0;y\007", "b", "\n", "k\033", "v\002", "n", 5);
    const json_t *b = json_object_get(j, "b");

    (void)state;
    clean_json(j);
    assert_string_equal(json_string_value(json_object_get(j, "a")), "x?]0;y?");
    assert_string_equal(json_string_value(json_array_get(b, 0)), "?");
    assert_string_equal(json_string_value(json_object_get(json_array_get(b, 1), "k?")), "v?");
    assert_null(json_object_get(json_array_get(b, 1), "k\033"));
    assert_int_equal(json_integer_value(json_object_get(j, "n")), 5);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(answers)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
