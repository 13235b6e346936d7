/*
 * Intrusive lists: order, repeated removal, removal while walking.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/list.h"

struct item {
    int value;
    struct list_node link;
};

static void assert_values(const struct list_node *list, const char *expected)
{
    char forward[32] = "", backward[32] = "", mirrored[32] = "";
    size_t n = 0;

    list_for_each(node, list) forward[n++] = (char)('0' + list_entry(node, struct item, link)->value);
    assert_string_equal(forward, expected);
    n = 0;
    for (const struct list_node *node = list->prev; node != list; node = node->prev)
        backward[n++] = (char)('0' + list_entry(node, struct item, link)->value);
    for (size_t i = 0; i < n; i++)
        mirrored[i] = backward[n - 1 - i];
    assert_string_equal(mirrored, expected);
}

static void test_order(void **state)
{
    struct item item[6];
    struct list_node list;

    (void)state;
    list_init(&list);
    assert_true(list_empty(&list));
    assert_null(list_first(&list));
    assert_null(list_last(&list));
    assert_null(list_pop(&list));
    for (int i = 0; i < 6; i++) {
        item[i].value = i;
        list_init(&item[i].link);
        assert_false(list_linked(&item[i].link));
    }
    list_add_tail(&list, &item[1].link);
    list_add_tail(&list, &item[2].link);
    list_add_head(&list, &item[0].link);
    list_insert(&item[5].link, &item[1].link, &item[2].link);
    assert_values(&list, "0152");
    assert_ptr_equal(list_first(&list), &item[0].link);
    assert_ptr_equal(list_last(&list), &item[2].link);
    assert_ptr_equal(list_pop(&list), &item[0].link);
    assert_false(list_linked(&item[0].link));
    assert_values(&list, "152");
}

static void test_del_may_be_repeated(void **state)
{
    struct item a = {.value = 1}, b = {.value = 2};
    struct list_node list;

    (void)state;
    list_init(&list);
    list_add_tail(&list, &a.link);
    list_add_tail(&list, &b.link);
    list_del(&a.link);
    list_del(&a.link);
    assert_values(&list, "2");
    list_del(&b.link);
    assert_true(list_empty(&list));
}

static void test_safe_walk_removes(void **state)
{
    struct item item[8];
    struct list_node list;

    (void)state;
    list_init(&list);
    for (int i = 0; i < 8; i++) {
        item[i].value = i;
        list_add_tail(&list, &item[i].link);
    }
    list_for_each_safe(node, &list) if (list_entry(node, struct item, link)->value % 2) list_del(node);
    assert_values(&list, "0246");
    list_for_each_safe(node, &list) list_del(node);
    assert_true(list_empty(&list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_del_may_be_repeated),
        cmocka_unit_test(test_safe_walk_removes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
