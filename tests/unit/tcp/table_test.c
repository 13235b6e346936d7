/*
 * Slots, ids and the hash against a naive model (arrays that are searched): enter, leave, unhash, rebind and
 * restore at random; after every step what is known is found, what is gone is not, and stale ids stay stale.
 * Listeners by best match.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "tcp/tcp_priv.h"

#define ENTRIES 3000u
#define STEPS   60000u

static struct tcp *new_engine(uint32_t max_conns, uint32_t generation)
{
    static struct tcp_config config;
    struct tcp_params params = {.config = &config,
                                .max_conns = max_conns,
                                .max_half_open = 4,
                                .max_time_wait = 4,
                                .generation = generation,
                                .worker = 3,
                                .secrets = {.hash = {11, 12}}};

    tcp_config_defaults(&config);
    return tcp_create(&params);
}

/* Every other one is of IPv6; some differ in nothing but a scope, or the family. */
static struct ip_tuple tuple_of(uint32_t n)
{
    struct ip_tuple tuple = {ip_addr_v4(10, 0, 0, 1), ip_addr_v4(10, 1, 0, 0), 80, (uint16_t)(n / 4)};

    if (n % 2)
        tuple.local.family = tuple.remote.family = IP_V6;
    if (n % 2 && n / 2 % 2)
        tuple.remote.scope = 7;
    else if (n / 2 % 2)
        tuple.remote.b[3] = 9;
    return tuple;
}

/* What an id leads to, as far as the table reads it. */
struct fake {
    uint64_t bytes[16];
};

static struct fake *fake(struct fake *to, enum tcp_kind kind, const struct ip_tuple *tuple)
{
    uint8_t *at = (uint8_t *)to + (kind == TCP_KIND_REQ ? TCP_REQ_BYTES : kind == TCP_KIND_TW ? TCP_TW_BYTES : 0);

    memset(to, 0xa5, sizeof *to);
    if (kind == TCP_KIND_CONN)
        memcpy(at, tuple, sizeof *tuple);
    else
        small_tuple_put((union small_tuple *)(void *)at, tuple);
    return to;
}

static tcp_id enter(struct tcp *t, struct fake *to, struct ip_tuple tuple)
{
    return tcp_table_enter(t, TCP_KIND_REQ, fake(to, TCP_KIND_REQ, &tuple), &tuple);
}

struct model {
    struct tcp *t;
    struct fake entry[ENTRIES];
    tcp_id id[ENTRIES]; /* 0: not entered */
    bool hashed[ENTRIES];
    enum tcp_kind kind[ENTRIES];
    tcp_id stale[256];
};

static void check_one(struct model *m, uint32_t i)
{
    struct ip_tuple tuple = tuple_of(i);
    enum tcp_kind kind = TCP_KIND_FREE;
    void *by_tuple = tcp_lookup_tuple(m->t, &tuple, &kind);

    assert_ptr_equal(by_tuple, m->id[i] && m->hashed[i] ? &m->entry[i] : NULL);
    if (by_tuple)
        assert_int_equal(kind, m->kind[i]);
    if (m->id[i]) {
        assert_ptr_equal(tcp_lookup_id(m->t, m->id[i], &kind), &m->entry[i]);
        assert_int_equal(kind, m->kind[i]);
        assert_int_equal((m->id[i] >> 24) & 0xff, 3);
    }
}

static void change(struct model *m, struct rng *rng, uint32_t i)
{
    struct ip_tuple tuple = tuple_of(i);

    if (!m->id[i]) {
        m->kind[i] = TCP_KIND_REQ;
        m->id[i] = enter(m->t, &m->entry[i], tuple);
        m->hashed[i] = m->id[i] != 0;
        return;
    }
    switch (rng_below(rng, 5)) {
    case 0:
        tcp_table_unhash(m->t, m->id[i]);
        m->hashed[i] = false;
        break;
    case 1:
    case 2:
        /* Of a connection that becomes TIME-WAIT more would be asked than a fake has. */
        m->kind[i] = m->kind[i] != TCP_KIND_CONN && rng_below(rng, 2) ? TCP_KIND_TW : TCP_KIND_CONN;
        tcp_table_rebind(m->t, m->id[i], m->kind[i], fake(&m->entry[i], m->kind[i], &tuple));
        break;
    default:
        tcp_table_leave(m->t, m->id[i]);
        m->stale[rng_below(rng, 256)] = m->id[i];
        m->id[i] = 0;
        break;
    }
}

static void random_changes(void **unused)
{
    struct model *m = calloc(1, sizeof *m);
    struct rng rng;

    (void)unused;
    printf("seed 7\n");
    rng_seed(&rng, 7);
    m->t = new_engine(2500, 5);
    for (unsigned step = 0; step < STEPS; step++) {
        uint32_t i = (uint32_t)rng_below(&rng, ENTRIES);
        enum tcp_kind kind;

        change(m, &rng, i);
        check_one(m, i);
        check_one(m, (uint32_t)rng_below(&rng, ENTRIES));
        assert_null(tcp_lookup_id(m->t, m->stale[rng_below(&rng, 256)], &kind));
        if (step % (step < 8000 ? 31 : 10000) == 0) { /* the hash grows among the first */
            for (i = 0; i < ENTRIES; i++)
                check_one(m, i);
        }
    }
    for (uint32_t i = 0; i < ENTRIES; i++)
        tcp_table_leave(m->t, m->id[i]);
    tcp_destroy(m->t);
    free(m);
}

/* An id says generation, worker and slot; a slot used again gives another one; a full table gives none. */
static void ids(void **unused)
{
    struct tcp *t = new_engine(2, 0x1007);
    struct fake one, two, three;
    enum tcp_kind kind;
    tcp_id a = enter(t, &one, tuple_of(1)), b;

    (void)unused;
    assert_int_equal(a, 0x0070000103000000ull); /* 12 bits of the generation, first use, worker 3, slot 0 */
    assert_int_not_equal(enter(t, &two, tuple_of(2)), 0);
    assert_int_equal(enter(t, &three, tuple_of(3)), 0);
    for (unsigned i = 0; i < 100; i++) {
        tcp_table_leave(t, a);
        assert_null(tcp_lookup_id(t, a, &kind));
        b = enter(t, &one, tuple_of(1));
        assert_int_equal(b, a + (1ull << 32));
        a = b;
    }
    assert_null(tcp_lookup_id(t, 0, &kind));
    assert_null(tcp_lookup_id(t, UINT64_MAX, &kind));
    tcp_destroy(t);
}

static void restored_ids(void **unused)
{
    struct tcp *t = new_engine(8, 2);
    struct ip_tuple first = tuple_of(1), second = tuple_of(2);
    struct fake one, two, three, many[7];
    enum tcp_kind kind;
    tcp_id old = 0x0010000903000005ull;

    (void)unused;
    assert_true(tcp_table_restore(t, old, TCP_KIND_REQ, fake(&one, TCP_KIND_REQ, &first), &first));
    assert_ptr_equal(tcp_lookup_id(t, old, &kind), &one);
    fake(&two, TCP_KIND_REQ, &second);
    assert_false(tcp_table_restore(t, old, TCP_KIND_REQ, &two, &second));    /* the slot is taken */
    assert_false(tcp_table_restore(t, old + 1, TCP_KIND_REQ, &one, &first)); /* the tuple is */
    assert_false(tcp_table_restore(t, 0x0010000903000008ull, TCP_KIND_REQ, &two, &second)); /* out of range */
    for (unsigned i = 0; i < 7; i++)
        assert_int_not_equal(enter(t, &many[i], tuple_of(10 + i)), 0);
    assert_int_equal(enter(t, &three, tuple_of(3)), 0);
    tcp_table_leave(t, old);
    assert_int_equal(enter(t, &three, tuple_of(3)), 0x0020000a03000005ull);
    tcp_destroy(t);
}

static uint32_t listen_on(struct tcp *t, struct ip_addr addr, uint16_t port)
{
    struct tcp_listen_args args = {.addr = addr, .port = port, .backlog = 1};
    uint32_t number = 0;

    assert_int_equal(tcp_listen(t, &args, &number), 0);
    return number;
}

static void best_listener(void **unused)
{
    struct tcp *t = new_engine(2, 1);
    struct ip_addr none = {.family = IP_NONE}, any4 = {.family = IP_V4}, any6 = {.family = IP_V6};
    struct ip_addr one = ip_addr_v4(10, 0, 0, 1), two = ip_addr_v4(10, 0, 0, 2);
    struct ip_addr six = {.family = IP_V6, .b = {0x20, 1}};
    uint32_t l_one, l_none, l_any4, l_any6;

    (void)unused;
    assert_null(tcp_lookup_listener(t, &one, 80));
    l_none = listen_on(t, none, 80);
    l_any4 = listen_on(t, any4, 80);
    l_one = listen_on(t, one, 80);
    l_any6 = listen_on(t, any6, 80 + 64); /* the same bucket */
    assert_int_equal(tcp_lookup_listener(t, &one, 80)->number, l_one);
    assert_int_equal(tcp_lookup_listener(t, &two, 80)->number, l_any4);
    assert_int_equal(tcp_lookup_listener(t, &six, 80)->number, l_none);
    assert_int_equal(tcp_lookup_listener(t, &six, 80 + 64)->number, l_any6);
    assert_null(tcp_lookup_listener(t, &one, 80 + 64));
    tcp_listen_close(t, l_one, 0);
    assert_null(tcp_listener_by_number(t, l_one));
    assert_int_equal(tcp_lookup_listener(t, &one, 80)->number, l_any4);
    assert_int_not_equal(listen_on(t, one, 80), l_one);
    tcp_destroy(t);
}

/* The entry found last is compared before anything is hashed: by each byte of the tuple. */
static void every_byte_counts(void **unused)
{
    struct tcp *t = new_engine(16, 1);
    struct ip_tuple entry = tuple_of(7);
    enum tcp_kind kind;
    tcp_id id = tcp_table_enter(t, TCP_KIND_CONN, &entry, &entry); /* as far as the table looks at one */

    (void)unused;
    assert_int_not_equal(id, 0);
    for (unsigned i = 0; i < sizeof entry; i++) {
        struct ip_tuple other = entry;

        ((uint8_t *)&other)[i] ^= 1;
        assert_ptr_equal(tcp_lookup_tuple(t, &entry, &kind), &entry);
        assert_null(tcp_lookup_tuple(t, &other, &kind));
    }
    tcp_table_leave(t, id);
    tcp_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes),
        cmocka_unit_test(ids),
        cmocka_unit_test(restored_ids),
        cmocka_unit_test(best_listener),
        cmocka_unit_test(every_byte_counts),
    };

    return cmocka_run_group_tests_name("tcp_table", tests, NULL, NULL);
}
