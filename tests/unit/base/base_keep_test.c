/*
 * base/keep.c: entries outlive who wrote them; a kill at any instant leaves the old or the new one; what was damaged is
 * never taken for an entry; tables of another layout are forgotten by name, the others come along.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/keep.h"

struct entry {
    uint64_t word[5];
    uint8_t tail; /* the size is no multiple of 8 without it */
};

static const struct keep_spec specs[] = {{"first", 7, sizeof(struct entry), 8}, {"second", 9, 13, 300}};

static void *make(void)
{
    size_t bytes = keep_bytes(specs, 2);
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(m, MAP_FAILED);
    keep_format(m, specs, 2);
    assert_null(keep_check(m, bytes, specs, 2));
    return m;
}

static void unmake(void *m)
{
    munmap(m, keep_bytes(specs, 2));
}

static struct entry filled(uint64_t v)
{
    return (struct entry){.word = {v, ~v, v * 3, v + 1, v << 7}, .tail = (uint8_t)v};
}

static bool is_whole(const struct entry *e)
{
    struct entry want = filled(e->word[0]);

    return memcmp(e->word, want.word, sizeof e->word) == 0 && e->tail == want.tail;
}

static void test_outlives(void **state)
{
    void *m = make();
    struct keep k;
    struct entry e = filled(1), back;
    int owner[3];
    uint32_t place[3], dirty;
    void *who;

    (void)state;
    assert_true(keep_attach(&k, m, &specs[0]));
    for (int i = 0; i < 3; i++)
        place[i] = keep_take(&k, &owner[i]);
    while (keep_next_dirty(&k, &dirty, &who)) {
        e = filled((uint64_t)((int *)who - owner) + 10);
        keep_put(&k, dirty, &e);
    }
    assert_false(keep_next_dirty(&k, &dirty, &who));
    /* Given up but not committed: a successor finds it still. */
    keep_give(&k, place[1]);
    keep_detach(&k);
    assert_true(keep_attach(&k, m, &specs[0]));
    assert_int_equal(keep_touched(&k), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(keep_get(&k, i, &back));
        assert_int_equal(back.word[0], 10 + i);
        assert_true(is_whole(&back));
    }
    keep_own(&k, place[0], &owner[0]);
    keep_own(&k, place[2], &owner[2]);
    keep_loaded(&k);
    assert_false(keep_get(&k, 1, &back));
    assert_int_equal(keep_take(&k, &owner[1]), place[1]); /* the one that nobody owns */
    for (int i = 0; i < 5; i++)
        assert_int_not_equal(keep_take(&k, &owner[1]), 0);
    assert_int_equal(keep_take(&k, &owner[1]), 0); /* full */
    keep_give(&k, place[2]);
    assert_int_equal(k.damaged, 0);
    while (keep_next_dirty(&k, &dirty, &who))
        if (!who)
            keep_drop(&k, dirty);
    assert_false(keep_get(&k, place[2] - 1, &back));
    keep_detach(&k);
    unmake(m);
}

static void test_not_open(void **state)
{
    static const struct keep_spec other = {"third", 1, 8, 4};
    void *m = make();
    struct keep k;
    uint32_t place;
    void *who;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(keep_attach(&k, i ? m : NULL, i ? &other : &specs[0]));
        assert_int_equal(keep_take(&k, &place), 0);
        keep_mark(&k, 0);
        keep_give(&k, 0);
        keep_put(&k, 0, "12345678");
        keep_loaded(&k);
        assert_int_equal(keep_touched(&k), 0);
        assert_false(keep_next_dirty(&k, &place, &who));
        keep_detach(&k);
    }
    unmake(m);
}

/* Every prefix of the bytes that a put writes, in the order in which it may write them: the old entry, or the new one. */
static void test_torn(void **state)
{
    uint8_t *m = make(), *before, *after;
    size_t bytes = keep_bytes(specs, 2), first = 0, last = 0;
    struct keep k;
    struct entry e, back;
    int owner;
    uint32_t place;

    (void)state;
    before = malloc(bytes);
    after = malloc(bytes);
    assert_true(keep_attach(&k, m, &specs[0]));
    place = keep_take(&k, &owner);
    for (uint64_t round = 1; round < 6; round++) {
        memcpy(before, m, bytes);
        e = filled(round);
        keep_put(&k, place, &e);
        memcpy(after, m, bytes);
        first = (size_t)(k.slot - m);
        last = first + k.step;
        /* The selector, which lies first, is stored last. */
        for (size_t n = first + 8; n <= last; n++) {
            memcpy(m, before, bytes);
            memcpy(m + first + 8, after + first + 8, n - first - 8);
            assert_int_equal(keep_get(&k, place - 1, &back), round > 1);
            if (round > 1)
                assert_int_equal(back.word[0], round - 1);
        }
        memcpy(m, after, bytes);
        assert_true(keep_get(&k, place - 1, &back) && is_whole(&back));
        assert_int_equal(back.word[0], round);
    }
    assert_int_equal(k.damaged, 0);
    keep_detach(&k);
    free(before);
    free(after);
    unmake(m);
}

static void write_for_ever(void *m, uint64_t *done)
{
    struct keep k;
    struct entry e;

    if (!keep_attach(&k, m, &specs[0]))
        _exit(1);
    keep_own(&k, 1, &k);
    for (uint64_t v = *done + 1;; v++) {
        e = filled(v);
        keep_put(&k, 1, &e);
        __atomic_store_n(done, v, __ATOMIC_RELEASE);
    }
}

static void test_killed(void **state)
{
    void *m = make();
    uint64_t *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct keep k;
    struct entry back;
    int owner;

    (void)state;
    assert_true(keep_attach(&k, m, &specs[0]));
    assert_int_equal(keep_take(&k, &owner), 1);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t from = *done;
        pid_t pid = fork();

        if (pid == 0)
            write_for_ever(m, done);
        while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < from + 1 + i * 7)
            ;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        assert_true(keep_get(&k, 0, &back));
        assert_true(is_whole(&back));
        assert_true(back.word[0] == *done || back.word[0] == *done + 1);
    }
    assert_int_equal(k.damaged, 0);
    keep_detach(&k);
    munmap(done, 4096);
    unmake(m);
}

/* Any bit of a slot: the entry is dropped and counted, or it does not matter (the copy that doesn't count). */
static void test_damaged(void **state)
{
    uint8_t *m = make();
    struct keep k;
    struct entry e, back;
    int owner;
    unsigned dropped = 0, same = 0;

    (void)state;
    assert_true(keep_attach(&k, m, &specs[0]));
    assert_int_equal(keep_take(&k, &owner), 1);
    for (size_t bit = 0; bit < (size_t)k.step * 8; bit++) {
        memset(k.slot, 0, k.step);
        for (uint64_t v = 1; v < 4; v++) {
            e = filled(v);
            keep_put(&k, 1, &e);
        }
        k.damaged = 0;
        k.slot[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (keep_get(&k, 0, &back)) {
            assert_true(is_whole(&back));
            assert_int_equal(back.word[0], 3); /* never the old one */
            assert_int_equal(k.damaged, 0);
            same++;
        } else {
            assert_int_equal(k.damaged, 1);
            assert_false(keep_get(&k, 0, &back));
            assert_int_equal(k.damaged, 1);
            dropped++;
        }
    }
    assert_true(dropped >= 64 + 8 * (8 + sizeof(struct entry)));
    assert_true(same >= 8 * (8 + sizeof(struct entry)));
    keep_detach(&k);
    unmake(m);
}

static void test_directory(void **state)
{
    struct keep_spec other[] = {specs[0], {"second", 10, 13, 300}, {"third", 4, 8, 2}};
    size_t bytes = keep_bytes(specs, 2);
    uint8_t *m = make(), *copy, *to;
    char forgotten[100];
    struct keep k;
    struct entry e = filled(77), back;
    int owner;

    (void)state;
    assert_true(keep_attach(&k, m, &specs[0]));
    keep_put(&k, keep_take(&k, &owner), &e);
    keep_detach(&k);
    /* A bit anywhere in it, up to its sum. */
    copy = malloc(bytes);
    for (size_t i = 0; i < 24 + KEEP_TABLES_MAX * 48; i++) {
        memcpy(copy, m, bytes);
        copy[i] ^= (uint8_t)(1u << i % 8);
        assert_non_null(keep_check(copy, bytes, specs, 2));
    }
    assert_non_null(keep_check(m, bytes - 1, specs, 2));
    assert_non_null(keep_check(m, 100, specs, 2));
    assert_non_null(keep_check(m, bytes, other, 2));
    assert_null(keep_check(m, bytes, other, 1));
    /* To a build that has one of them, another "second" and one more; of fewer slots. */
    other[0].slots = 3;
    to = calloc(1, keep_bytes(other, 3));
    keep_format(to, other, 3);
    keep_copy(m, to, forgotten, sizeof forgotten);
    assert_string_equal(forgotten, "second, third");
    assert_null(keep_check(to, keep_bytes(other, 3), other, 3));
    assert_true(keep_attach(&k, to, &other[0]));
    assert_int_equal(keep_touched(&k), 1);
    assert_true(keep_get(&k, 0, &back));
    assert_int_equal(back.word[0], 77);
    keep_detach(&k);
    free(copy);
    free(to);
    unmake(m);
}

static const char *const now_names[] = {"a", "b", "c", "d"}, *const next_names[] = {"d", "new", "b"};

static const char *now_name(unsigned i)
{
    return now_names[i];
}

static const char *next_name(unsigned i)
{
    return next_names[i];
}

static void test_counters(void **state)
{
    struct keep_spec spec = keep_counters_spec("counters");
    uint64_t now[4] = {1, 0, 3, 4}, other[4] = {100, 0, 0, 0}, next[3] = {0};
    void *m = calloc(1, keep_bytes(&spec, 1));
    struct keep_counters c = {.n_groups = 2, .group = {{"x", now_name, now, 4}, {"y", now_name, other, 4}}};

    (void)state;
    keep_format(m, &spec, 1);
    assert_true(keep_counters_open(&c, m, "counters"));
    keep_counters_commit(&c);
    now[1] = 20;
    now[0]++;
    keep_counters_commit(&c);
    now[2] = 999; /* not committed */
    keep_counters_close(&c);
    /* The next process begins at 0 and may have counted a little. */
    memcpy(now, (uint64_t[4]){0, 0, 0, 1}, sizeof now);
    other[0] = 0;
    assert_true(keep_counters_open(&c, m, "counters"));
    assert_int_equal(now[0], 2);
    assert_int_equal(now[1], 20);
    assert_int_equal(now[2], 3);
    assert_int_equal(now[3], 5);
    assert_int_equal(other[0], 100);
    keep_counters_commit(&c);
    keep_counters_close(&c);
    /* Another build knows them by name. */
    c = (struct keep_counters){.n_groups = 1, .group = {{"x", next_name, next, 3}}};
    assert_true(keep_counters_open(&c, m, "counters"));
    assert_int_equal(next[0], 5);
    assert_int_equal(next[1], 0);
    assert_int_equal(next[2], 20);
    next[1] = 8;
    keep_counters_commit(&c);
    keep_counters_close(&c);
    memset(next, 0, sizeof next);
    assert_true(keep_counters_open(&c, m, "counters"));
    assert_int_equal(next[1], 8);
    keep_counters_close(&c);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outlives), cmocka_unit_test(test_not_open),  cmocka_unit_test(test_torn),
        cmocka_unit_test(test_killed),   cmocka_unit_test(test_damaged),   cmocka_unit_test(test_directory),
        cmocka_unit_test(test_counters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
