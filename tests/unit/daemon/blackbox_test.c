/*
 * tests/unit/daemon/blackbox_test.c: records written once a turn, with an engine in place of the true one that counts how
 * often its list is walked: what was counted but is gone from memory is not looked for again.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/call.h"
#include "tcp/tcp_trace.h"

static uint64_t boxes, first_kept; /* serials made; the oldest that is still in memory */
static unsigned walks;

uint64_t tcp_trace_boxes(const struct tcp *t)
{
    (void)t;
    return boxes;
}

bool tcp_trace_next(const struct tcp *t, uint32_t *inout_at, struct tcp_trace_row *ret)
{
    uint64_t serial = first_kept + *inout_at;

    (void)t;
    walks += *inout_at == 0;
    if (serial > boxes)
        return false;
    *ret = (struct tcp_trace_row){.id = serial, .serial = serial, .bytes = 64};
    ++*inout_at;
    return true;
}

int64_t tcp_trace_dump(const struct tcp *t, uint64_t id, uint64_t now, uint64_t wall_ns, void *buf, size_t room)
{
    (void)t, (void)id, (void)now, (void)wall_ns, (void)room;
    memset(buf, 'x', 64);
    return 64;
}

uint64_t trace_wall_ns(void)
{
    return 0;
}

static unsigned files_in(const char *dir, bool remove)
{
    DIR *d = opendir(dir);
    unsigned n = 0;

    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        n += e->d_name[0] != '.';
        if (remove && e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
    return n;
}

static void test_turns(void **state)
{
    static struct daemon d;
    static struct daemon_config config = {.trace_files = 1000};
    char dir[] = "/tmp/blackbox-test-XXXXXX";
    uint64_t now = 10 * NSEC_PER_SEC;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(config.trace_dir, sizeof config.trace_dir, "%s", dir);
    d.config = &config;
    boxes = 3;
    first_kept = 1;
    blackbox_turn(&d, now);
    assert_int_equal(files_in(dir, false), 3);
    boxes = 9; /* 4 to 9 were made, 8 and 9 are there */
    first_kept = 8;
    blackbox_turn(&d, now);
    assert_int_equal(files_in(dir, false), 5);
    boxes = 12; /* made, and gone before the turn */
    first_kept = 13;
    blackbox_turn(&d, now);
    walks = 0;
    for (unsigned i = 0; i < 10; i++)
        blackbox_turn(&d, now);
    assert_int_equal(walks, 0);
    boxes = 60; /* more than a second may write: the rest waits, unlooked at, and is written then */
    first_kept = 21;
    for (unsigned i = 0; i < 20; i++)
        blackbox_turn(&d, now);
    assert_int_equal(files_in(dir, false), 20);
    walks = 0;
    blackbox_turn(&d, now);
    assert_int_equal(walks, 0);
    for (unsigned i = 1; i < 40; i++)
        blackbox_turn(&d, now + i * NSEC_PER_SEC);
    assert_int_equal(files_in(dir, true), 45);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_turns)};

    return cmocka_run_group_tests_name("blackbox", tests, NULL, NULL);
}
