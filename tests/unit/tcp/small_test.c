/*
 * tcp/small.c: places of half-open and TIME-WAIT entries against a naive model, deadlines of 32 bits where they wrap,
 * what a successor finds; and what 100,000 entries of each kind and family add to this process, all told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <malloc.h>
#include <sys/mman.h>
#include <time.h>
#include <cmocka.h>
#include "tcp/tcp_priv.h"
#include "tcp/tcp_record.h"

#define SIZE  50u
#define FIXED 32u /* bytes of an entry here */
#define LIST  SMALL_FIRST_LIST

struct thing {
    struct small_entry e;
    uint32_t number, same, same2;
};
static_assert(sizeof(struct thing) == FIXED, "as told to small_init()");

static union small_tuple *tuple_at(struct small_entry *e)
{
    return (union small_tuple *)((struct thing *)e + 1);
}

static struct ip_tuple tuple_of(uint32_t n, bool v6)
{
    struct ip_tuple t = {ip_addr_v4(10, 0, 0, 1), ip_addr_v4(10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n), 80,
                         (uint16_t)(n + 1)};

    if (v6) {
        memset(t.local.b + 4, 0xfe, 12);
        memset(t.remote.b + 4, (int)n, 12);
        t.local.family = t.remote.family = IP_V6;
        t.local.scope = t.remote.scope = 3;
    }
    return t;
}

static struct small_entry *put(struct small_slab *s, uint32_t number, bool v6)
{
    struct small_entry *e = small_alloc(s, v6);
    struct thing *thing = (struct thing *)e;
    struct ip_tuple tuple = tuple_of(number, v6);

    if (!e)
        return NULL;
    assert_int_equal(small_is_v6(s, e), v6);
    assert_ptr_equal(small_at(s, small_name(s, e)), e);
    assert_true(e->due == SMALL_NOT_DUE && !e->link.next && !thing->number && !thing->same2);
    thing->number = thing->same = thing->same2 = number;
    small_set_id(e, (uint64_t)number << 32 | ~number);
    small_tuple_put(tuple_at(e), &tuple);
    return e;
}

/* Nobody else wrote to it. */
static void check_thing(struct small_slab *s, struct small_entry *e, uint32_t number)
{
    struct thing *thing = (struct thing *)e;
    bool v6 = small_is_v6(s, e);
    struct ip_tuple tuple = tuple_of(number, v6), got = small_tuple_get(tuple_at(e), v6);

    assert_true(thing->number == number && thing->same == number && thing->same2 == number);
    assert_true(small_id(e) == ((uint64_t)number << 32 | (uint32_t)~number));
    assert_memory_equal(&got, &tuple, sizeof tuple);
    assert_true(small_tuple_eq(tuple_at(e), v6, &tuple));
    tuple.remote_port++;
    assert_false(small_tuple_eq(tuple_at(e), v6, &tuple));
    tuple = tuple_of(number, !v6);
    assert_false(small_tuple_eq(tuple_at(e), v6, &tuple));
}

static void random_changes(void **state)
{
    struct small_entry *e[3 * SIZE] = {0};
    struct small_slab s;
    uint32_t kept[2] = {0};
    void *arena = calloc(SIZE, 2 * FIXED + SMALL_TUPLE4_BYTES + SMALL_TUPLE6_BYTES);
    struct rng rng;
    uint32_t n = 0;

    (void)state;
    rng_seed(&rng, 3);
    assert_int_equal(small_init(&s, SIZE, FIXED, arena, &kept[0], &kept[1]), 0);
    for (unsigned step = 0; step < 20000; step++) {
        uint32_t i = (uint32_t)rng_below(&rng, 3 * SIZE);

        if (!e[i]) {
            e[i] = put(&s, i + 1, i % 2);
            assert_int_equal(e[i] == NULL, n == SIZE);
            n += e[i] != NULL;
            if (e[i] && i % 3)
                small_add_tail(&s, LIST + i % 3, e[i]);
        } else {
            check_thing(&s, e[i], i + 1);
            small_release(&s, e[i]);
            small_give(&s, e[i]);
            e[i] = NULL;
            n--;
        }
        assert_int_equal(s.count, n);
        assert_true(kept[0] == s.touched[0] && kept[1] == s.touched[1] && s.touched[0] <= SIZE && s.touched[1] <= SIZE);
    }
    for (unsigned list = 1; list < 3; list++)
        for (struct small_entry *at = small_first(&s, LIST + list); at; at = small_next(&s, at)) {
            uint32_t i = ((struct thing *)at)->number - 1;

            assert_true(at == e[i] && i % 3 == list);
            check_thing(&s, at, i + 1);
            n--;
        }
    for (unsigned i = 0; i < 3 * SIZE; i += 3)
        n -= e[i] != NULL;
    assert_int_equal(n, 0);
    small_destroy(&s);
    free(arena);
}

/* A link-local peer of one interface is not that of another one. */
static void scopes_tell_apart(void **state)
{
    struct ip_tuple a = tuple_of(1, true), b = a;
    union small_tuple t;

    (void)state;
    small_tuple_put(&t, &a);
    b.remote.scope = 4;
    assert_true(small_tuple_eq(&t, true, &a));
    assert_false(small_tuple_eq(&t, true, &b));
}

/* The clock's ms pass 2^32 between now and the deadlines; nothing is due early, late, or out of order. */
static void deadlines_wrap(void **state)
{
    uint64_t now = (1ull << 32) * NSEC_PER_MSEC - 5 * NSEC_PER_SEC;
    static const uint32_t after_s[] = {3, 20, 1, 12, 7, 120};
    static const uint32_t sorted_s[] = {1, 3, 7, 12, 20, 120};
    struct small_entry *e;
    struct small_slab s;
    unsigned i = 0;

    (void)state;
    assert_int_equal(small_init(&s, SIZE, FIXED, NULL, NULL, NULL), 0);
    s.near = now;
    for (; i < 6; i++) {
        e = put(&s, i + 1, i % 2);
        small_set_due(e, small_due(now + after_s[i] * NSEC_PER_SEC));
        small_add_by_due(&s, LIST, e);
    }
    for (e = small_first(&s, LIST), i = 0; e; e = small_next(&s, e), i++) {
        assert_int_equal(small_due_at(&s, e), now + sorted_s[i] * NSEC_PER_SEC);
        assert_int_equal(small_left(e->due, now), sorted_s[i] * 1000);
        s.near = now + 10 * NSEC_PER_SEC; /* told from behind the wrap, too */
        assert_int_equal(small_due_at(&s, e), now + sorted_s[i] * NSEC_PER_SEC);
        s.near = now;
    }
    assert_int_equal(i, 6);
    small_destroy(&s);
    /* Never before its time, at most a millisecond later; never a value that means something else. */
    assert_int_equal(small_due(NSEC_PER_SEC + 1), 1001);
    assert_int_equal(small_due(NSEC_PER_SEC), 1000);
    assert_int_equal(small_due((1ull << 32) * NSEC_PER_MSEC), SMALL_DUE_FIRST);
    assert_int_equal(small_due(0), SMALL_DUE_FIRST);
}

/* Entries whose due time was stored are found, by that time, whatever links said; the other places are free. */
static void successor(void **state)
{
    uint32_t kept[2] = {0}, n, order[] = {6, 1, 5, 2};
    void *arena = calloc(SIZE, 2 * FIXED + SMALL_TUPLE4_BYTES + SMALL_TUPLE6_BYTES);
    uint64_t now = 50000 * NSEC_PER_SEC + 300 * NSEC_PER_USEC;
    struct small_entry *e, **found;
    struct small_slab s;

    (void)state;
    assert_int_equal(small_init(&s, SIZE, FIXED, arena, &kept[0], &kept[1]), 0);
    for (uint32_t i = 1; i <= 7; i++) {
        e = put(&s, i, i >= 4);
        if (i == 1 || i == 2) /* the second one as late as may be, and a fraction of a millisecond */
            small_set_due(e, small_due(now + (i == 1 ? 1 : 3600) * NSEC_PER_SEC));
        if (i == 3) /* the kill came before its last store */
            small_add_tail(&s, LIST, e);
        if (i == 4) { /* it was over, and its place not yet given to another */
            small_set_due(e, SMALL_DUE_NOW);
            small_set_due(e, SMALL_NOT_DUE);
        }
        if (i == 5) /* 2^32 ms ago it was due: no deadline is that far away */
            small_set_due(e, small_due(now + 4000 * NSEC_PER_SEC));
        if (i == 6)
            small_set_due(e, SMALL_DUE_NOW);
        if (i == 7) {
            small_set_due(e, SMALL_DUE_NOW);
            small_release(&s, e);
            small_give(&s, e);
        }
        e->link.next = 99;
    }
    assert_int_equal(small_init(&s, SIZE, FIXED, arena, &kept[0], &kept[1]), 0);
    found = small_restore(&s, now, 3600 * 1000, &n);
    assert_int_equal(n, 4);
    order[1] = 5; /* is over now, before 1 and 2 */
    order[2] = 1;
    for (uint32_t i = 0; i < n; i++)
        check_thing(&s, found[i], order[i]);
    assert_in_range(small_left(found[1]->due, now), 0, 1);
    assert_int_equal(small_left(found[3]->due, now), 3600 * 1000 + 1);
    s.count = n;
    assert_ptr_equal(put(&s, 20, false), (uint8_t *)arena + 2 * (FIXED + SMALL_TUPLE4_BYTES)); /* where 3 was */
    e = put(&s, 21, true);
    assert_ptr_equal(e, (uint8_t *)arena + SIZE * (FIXED + SMALL_TUPLE4_BYTES)); /* where 4 was */
    assert_int_equal(kept[0] + kept[1], 7);
    free(found);
    small_destroy(&s);
    free(arena);
}

static void used_parts(void **state)
{
    struct tcp_kept kept = {.requests_touched = 3, .requests6_touched = 5, .time_wait_touched = 7,
                            .time_wait6_touched = 99};
    size_t at[2], bytes[2];

    (void)state;
    tcp_requests_used(&kept, 10, at, bytes);
    assert_true(at[0] == 0 && bytes[0] == 3 * 68 && at[1] == 10 * 68 && bytes[1] == 5 * 96);
    tcp_time_wait_used(&kept, 10, at, bytes);
    assert_true(at[0] == 0 && bytes[0] == 7 * 56 && at[1] == 10 * 56 && bytes[1] == 10 * 84);
    assert_true(at[1] + 10 * 84 == 10 * tcp_time_wait_bytes());
}

/* ---- all told ---------------------------------------------------------------------------------------------------- */

#define MANY 100000u
#define FEW  2000u /* what is needed once is there then */

#if defined(__SANITIZE_ADDRESS__)
#define MEASURES false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEASURES false
#endif
#endif
#ifndef MEASURES
#define MEASURES true
#endif

struct many {
    struct tcp_config config;
    struct chunk_pool *pool;
    void *arena, *requests, *time_wait, *records;
    struct tcp_kept kept;
    struct tcp_params params;
    struct tcp *t;
    uint64_t now;
};

static void *zeroed(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

static struct many *many_new(void)
{
    struct many *m = calloc(1, sizeof *m);
    struct tcp_listen_args listen = {.port = 80, .backlog = 1 << 24};
    struct tcp_params p = {.config = &m->config,
                           .now = 1000 * NSEC_PER_SEC,
                           .max_conns = 2 * MANY,
                           .max_half_open = 2 * MANY,
                           .max_time_wait = 2 * MANY,
                           .kept = &m->kept,
                           .secrets = {.hash = {1, 2}}};
    uint32_t listener;

    tcp_config_defaults(&m->config);
    m->config.tcp_syncookies = 0;
    m->config.tcp_max_tw_buckets = 2 * MANY;
    m->config.somaxconn = m->config.tcp_max_syn_backlog = 1 << 24;
    m->now = p.now;
    m->arena = zeroed(1 << 24);
    p.pool = m->pool = chunk_pool_create(m->arena, 1 << 24);
    p.record_arena = m->records = zeroed(tcp_records_bytes(2 * MANY));
    p.request_arena = m->requests = zeroed(2 * MANY * tcp_request_bytes());
    p.time_wait_arena = m->time_wait = zeroed(2 * MANY * tcp_time_wait_bytes());
    m->params = p;
    m->t = tcp_create(&p);
    assert_non_null(m->t);
    assert_int_equal(tcp_listen(m->t, &listen, &listener), 0);
    return m;
}

static void many_free(struct many *m)
{
    tcp_destroy(m->t);
    chunk_pool_destroy(m->pool);
    munmap(m->arena, 1 << 24);
    munmap(m->records, tcp_records_bytes(2 * MANY));
    munmap(m->requests, 2 * MANY * tcp_request_bytes());
    munmap(m->time_wait, 2 * MANY * tcp_time_wait_bytes());
    free(m);
}

static size_t resident(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long size, pages = 0;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &size, &pages), 2);
    fclose(f);
    return pages * 4096;
}

static void half_open(struct many *m, uint32_t n, bool v6)
{
    struct ip_tuple tuple = tuple_of(n, v6);
    struct tcp_seg seg = {.src = tuple.remote, .dst = tuple.local, .src_port = (uint16_t)(n % 60000 + 1),
                          .dst_port = 80, .flags = TCP_SYN, .seq = n, .wnd = 65535};
    static const struct tcp_path path = {.mtu = 1500};
    struct tcp_out out;

    tcp_input(m->t, &seg, &path, m->now);
    assert_true(tcp_next_reply(m->t, m->now, &out));
    tcp_commit(m->t, m->now);
}

/* Within one turn: what a record of its connection takes is another account. */
static void in_time_wait(struct many *m, uint32_t n, bool v6)
{
    struct tcp_conn *c = tcp_conn_new(m->t, m->now);

    assert_non_null(c);
    c->tuple = tuple_of(n, v6);
    c->tuple.remote_port = (uint16_t)(n % 60000 + 1);
    c->id = tcp_table_enter(m->t, TCP_KIND_CONN, c, &c->tuple);
    tcp_set_state(m->t, c, TCP_STATE_FIN_WAIT2, m->now);
    tcp_disown(m->t, c);
    tcp_snd_init(m->t, c);
    tcp_time_wait(m->t, c, m->now);
    tcp_conn_reap(m->t, c);
    tcp_commit(m->t, m->now);
}

/* What a half-open connection (128) and one in TIME-WAIT (96; of IPv6 more) may cost, all told. */
static void all_told(void **state)
{
    static const struct {
        const char *name;
        void (*make)(struct many *m, uint32_t n, bool v6);
        bool v6;
        unsigned most;
    } rows[] = {{"half-open, IPv4", half_open, false, 128},
                {"half-open, IPv6", half_open, true, 128},
                {"TIME-WAIT, IPv4", in_time_wait, false, 96},
                {"TIME-WAIT, IPv6", in_time_wait, true, 128}};

    (void)state;
    mallopt(M_MMAP_THRESHOLD, 128 << 10); /* what an engine before freed is no engine's of today */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct many *m = many_new();
        struct tcp_totals totals;
        size_t before, took;
        uint32_t n = 0;

        for (; n < FEW; n++)
            rows[i].make(m, n, rows[i].v6);
        before = resident();
        for (; n < FEW + MANY; n++)
            rows[i].make(m, n, rows[i].v6);
        took = (resident() - before + MANY / 2) / MANY;
        tcp_get_totals(m->t, &totals);
        assert_int_equal(totals.half_open + totals.time_wait, FEW + MANY);
        printf("%s: %zu bytes\n", rows[i].name, took);
        if (MEASURES)
            assert_in_range(took, 16, rows[i].most);
        many_free(m);
    }
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/*
 * A successor takes over 40,000 entries in less time than five times that of making them; if each had to find its place
 * in the order of time among the others it would be more than fifty times that.
 */
static void restoring_many(void **state)
{
    static void (*const make[])(struct many *m, uint32_t n, bool v6) = {half_open, in_time_wait};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct tcp_listen_args listen = {.port = 80, .backlog = 1 << 24};
        struct many *m = many_new();
        void *notes = zeroed(chunk_journal_bytes(64));
        struct tcp_params p = m->params;
        struct tcp_restore_params restore = {0};
        struct tcp_restored ret;
        uint64_t began = cpu_ns(), made;
        struct tcp *t;
        uint32_t listener;

        for (uint32_t n = 0; n < 40000; n++, m->now += 10 * NSEC_PER_USEC)
            make[i](m, n, n % 2);
        made = cpu_ns() - began;
        p.generation = 1;
        p.now = m->now;
        p.pool = chunk_pool_create(m->arena, 1 << 24);
        assert_int_equal(chunk_pool_journal(p.pool, notes, 64), 0);
        t = tcp_create(&p);
        assert_int_equal(tcp_listen(t, &listen, &listener), 0);
        began = cpu_ns();
        assert_int_equal(tcp_restore(t, &restore, m->now, &ret), 0);
        began = cpu_ns() - began;
        assert_int_equal(ret.requests + ret.time_wait, 40000);
        assert_null(tcp_check_all(t));
        printf("made in %u us, restored in %u us\n", (unsigned)(made / 1000), (unsigned)(began / 1000));
        assert_true(began < 5 * made);
        tcp_destroy(t);
        chunk_pool_destroy(p.pool);
        munmap(notes, chunk_journal_bytes(64));
        many_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes), cmocka_unit_test(scopes_tell_apart), cmocka_unit_test(deadlines_wrap),
        cmocka_unit_test(successor),      cmocka_unit_test(used_parts),        cmocka_unit_test(all_told),
        cmocka_unit_test(restoring_many),
    };

    return cmocka_run_group_tests_name("tcp_small", tests, NULL, NULL);
}
