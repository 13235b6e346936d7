/*
 * Records: a connection that is saved in the middle of a transfer and restored into an engine of its own goes
 * on byte for byte, whichever side it is and whatever was lost; damage is found; what is published is whole.
 */
#include "pair.h"
#include "tcp/tcp_record.h"

#define RANGES 4096

/* A copy of a side's connection, as a supervisor would keep it. */
struct saved {
    struct tcp_record record;
    struct tcp_record_range send[RANGES], recv[RANGES];
    struct tcp_record_payload payload;
};

static void keep(struct tcp_record_range *range)
{
    uint8_t *copy = malloc(range->len ? range->len : 1);

    memcpy(copy, range->data, range->len);
    range->data = copy;
}

static struct saved *take(struct side *s)
{
    struct saved *v = calloc(1, sizeof *v);
    const struct tcp_record *published = tcp_record_published(s->records, (uint32_t)s->id & 0xffffff);
    uint32_t i;

    assert_int_equal(tcp_record_save(s->t, s->id, &v->record), 0);
    assert_null(tcp_record_check(&v->record));
    assert_non_null(published);
    assert_null(tcp_record_check(published));
    assert_memory_equal(published, &v->record, sizeof v->record);
    for (i = 0; i < RANGES && tcp_record_send_range(s->t, s->id, i, &v->send[i]); i++)
        keep(&v->send[i]);
    v->payload.n_send = i;
    for (i = 0; i < RANGES && tcp_record_recv_range(s->t, s->id, i, &v->recv[i]); i++)
        keep(&v->recv[i]);
    v->payload.n_recv = i;
    v->payload.send = v->send;
    v->payload.recv = v->recv;
    return v;
}

static void forget(struct saved *v)
{
    for (uint32_t i = 0; i < v->payload.n_send; i++)
        free((void *)(uintptr_t)v->send[i].data);
    for (uint32_t i = 0; i < v->payload.n_recv; i++)
        free((void *)(uintptr_t)v->recv[i].data);
    free(v);
}

/* The engine dies; another one, of the next generation, takes its connection over. */
static void restart(struct pair *p, struct side *s)
{
    struct tcp_record again;
    struct saved *v;

    tcp_commit(s->t, p->now);
    v = take(s);
    side_destroy(s);
    memset(s->records, 0, tcp_records_bytes(16));
    side_create(s, ++p->generation, p->now);
    assert_int_equal(tcp_record_restore(s->t, &v->record, &v->payload, p->now), 0);
    assert_int_equal(tcp_record_restore(s->t, &v->record, &v->payload, p->now), -EADDRINUSE);
    assert_int_equal(tcp_record_save(s->t, s->id, &again), 0);
    assert_int_equal(again.snd_nxt, v->record.snd_nxt);
    assert_int_equal(again.snd_una, v->record.snd_una);
    assert_int_equal(again.rcv_nxt, v->record.rcv_nxt);
    assert_int_equal(again.copied_seq, v->record.copied_seq);
    assert_int_equal(again.sndbuf, v->record.sndbuf);
    assert_null(tcp_check_all(s->t));
    forget(v);
}

/* `total` bytes with a restart of a side now and then. */
static void transfer_with_restarts(unsigned loss, unsigned every, uint64_t seed, uint32_t hole)
{
    const uint64_t total = 400000;
    unsigned turns = 0, restarts = 0;
    struct pair p;

    printf("seed %llu\n", (unsigned long long)seed);
    pair_init(&p);
    rng_seed(&p.rng, seed);
    p.a.config.tcp_mtu_probing = hole ? 2 : 0;
    p.a.config.tcp_initcwnd = hole ? 20 : 10;
    pair_connect(&p);
    p.loss_percent = loss;
    p.hole = hole;
    while (p.b.received < total && turns < 200000) {
        side_write(&p, &p.a, total);
        pair_turn(&p);
        if (++turns % every == 0) {
            restart(&p, rng_below(&p.rng, 2) ? &p.a : &p.b);
            restarts++;
        }
        if (rng_below(&p.rng, 3) == 0) {
            side_read(&p, &p.b);
            pair_turn(&p);
        }
        if (p.b.received < total)
            p.now = time_max(p.now, time_min(pair_next_at(&p), p.now + 10 * NSEC_PER_MSEC));
    }
    assert_int_equal(p.b.received, total);
    assert_true(restarts > 3);
    if (hole) {
        struct tcp_info info;

        assert_int_equal(tcp_get_info(p.a.t, p.a.id, p.now, &info), 0);
        assert_in_range(info.snd_mss, 1013, hole); /* 1012 at first */
        assert_true(info.snd_mss + 8 >= hole);
    }
    assert_int_equal(tcp_close(p.a.t, p.a.id, p.now), 0);
    p.loss_percent = 0;
    pair_run(&p, p.now + 500 * NSEC_PER_SEC);
    side_read(&p, &p.b);
    assert_true(p.b.eof);
    pair_end(&p);
}

static void restarts_without_loss(void **unused)
{
    (void)unused;
    transfer_with_restarts(0, 2, 1, 0);
}

static void restarts_with_loss(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 5; seed++)
        transfer_with_restarts(5, 11, seed, 0);
}

/* Path-MTU probes: the search goes on where it was; what was out is forgotten. Above 1200 bytes all vanishes. */
static void restarts_with_probes(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 5; seed++)
        transfer_with_restarts(0, 5, seed, 1200);
}

/* A restart within the handshake, and one with the FIN in flight. */
static void restart_in_other_states(void **unused)
{
    struct tcp_connect_args ca = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};
    struct tcp_listen_args la = {.port = PAIR_PORT, .backlog = 8};
    struct pair p;

    (void)unused;
    pair_init(&p);
    assert_int_equal(tcp_listen(p.b.t, &la, &p.b.listener), 0);
    assert_int_equal(tcp_connect(p.a.t, &ca, p.now, &p.a.id), 0);
    restart(&p, &p.a); /* the SYN has not left */
    side_output(&p, &p.a);
    restart(&p, &p.a); /* it has */
    pair_run(&p, p.now + 20 * NSEC_PER_MSEC);
    side_write(&p, &p.a, 5000);
    assert_int_equal(tcp_shutdown_write(p.a.t, p.a.id, p.now), 0);
    side_output(&p, &p.a);
    restart(&p, &p.a); /* data and FIN in flight */
    pair_run(&p, p.now + 20 * NSEC_PER_MSEC);
    side_read(&p, &p.b);
    assert_int_equal(p.b.received, 5000);
    assert_true(p.b.eof);
    restart(&p, &p.a); /* FIN-WAIT-2 */
    restart(&p, &p.b); /* CLOSE-WAIT */
    assert_int_equal(tcp_shutdown_write(p.b.t, p.b.id, p.now), 0);
    pair_run(&p, p.now + 20 * NSEC_PER_MSEC);
    side_read(&p, &p.a);
    assert_true(p.a.eof);
    restart(&p, &p.b); /* CLOSE, owned */
    assert_int_equal(tcp_close(p.b.t, p.b.id, p.now), 0);
    pair_end(&p);
}

static void damage_is_found(void **unused)
{
    struct pair p;
    struct tcp_record r, copy;
    struct tcp_record_payload none = {0};
    uint8_t *bytes = (uint8_t *)&copy;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    assert_int_equal(tcp_record_save(p.a.t, p.a.id, &r), 0);
    for (size_t i = 0; i < sizeof r; i++) {
        copy = r;
        bytes[i] ^= 0x10;
        assert_non_null(tcp_record_check(&copy));
        assert_int_equal(tcp_record_restore(p.b.t, &copy, &none, p.now), -EINVAL);
    }
    assert_int_equal(tcp_record_convert(&r, sizeof r, &copy), 0);
    assert_memory_equal(&r, &copy, sizeof r);
    assert_int_equal(tcp_record_convert(&r, sizeof r - 1, &copy), -EINVAL);
    r.layout ^= 1;
    assert_int_equal(tcp_record_convert(&r, sizeof r, &copy), -EINVAL);
    r.layout ^= 1;
    r.sum ^= 1;
    assert_int_equal(tcp_record_convert(&r, sizeof r, &copy), -EILSEQ);
    pair_end(&p);
}

static void payload_must_fit(void **unused)
{
    struct pair p;
    struct saved *v;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    side_write(&p, &p.a, 20000);
    side_output(&p, &p.a);
    tcp_commit(p.a.t, p.now);
    v = take(&p.a);
    assert_int_equal(tcp_abort(p.a.t, p.a.id, p.now), 0);
    pair_turn(&p);
    v->send[0].len--; /* a hole */
    assert_int_equal(tcp_record_restore(p.a.t, &v->record, &v->payload, p.now), -EINVAL);
    v->send[0].len++;
    v->payload.n_send--; /* the end is missing */
    assert_int_equal(tcp_record_restore(p.a.t, &v->record, &v->payload, p.now), -EINVAL);
    v->payload.n_send++;
    assert_int_equal(tcp_record_restore(p.a.t, &v->record, &v->payload, p.now), 0);
    assert_null(tcp_check_all(p.a.t));
    forget(v);
    pair_end(&p);
}

static void commit_publishes(void **unused)
{
    struct pair p;
    uint32_t slot;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    slot = (uint32_t)p.a.id & 0xffffff;
    assert_int_equal(tcp_commit(p.a.t, p.now), 0); /* pair_run() did */
    side_write(&p, &p.a, 100);
    assert_int_equal(tcp_commit(p.a.t, p.now), 1);
    assert_int_equal(tcp_commit(p.a.t, p.now), 0);
    {
        const struct tcp_record *r = tcp_record_published(p.a.records, slot);
        uint32_t write_seq = r->write_seq;
        char text[8192];

        side_write(&p, &p.a, 200);
        assert_int_equal(r->write_seq, write_seq); /* not before the commit */
        tcp_commit(p.a.t, p.now);
        assert_int_equal(tcp_record_published(p.a.records, slot)->write_seq, write_seq + 100);
        assert_int_equal(r->write_seq, write_seq); /* the other buffer */
        assert_true(tcp_record_dump(r, text, sizeof text) < (int)sizeof text);
        assert_non_null(strstr(text, " state=1 "));
        assert_int_equal(tcp_record_dump(r, NULL, 0), strlen(text));
    }
    assert_int_equal(tcp_abort(p.a.t, p.a.id, p.now), 0);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    assert_null(tcp_record_published(p.a.records, slot));
    pair_end(&p);
}

/* An engine ends amid timeouts: the time in them is not forgotten, and goes on with the next one. */
static void timeouts_go_on(void **unused)
{
    struct tcp_info info;
    uint32_t before, at_restart;
    struct pair p;

    (void)unused;
    pair_init(&p);
    pair_connect(&p);
    p.loss_percent = 100;
    side_write(&p, &p.a, 1000);
    pair_run(&p, p.now + 1500 * NSEC_PER_MSEC);
    assert_int_equal(tcp_get_info(p.a.t, p.a.id, p.now, &info), 0);
    before = info.total_rto_time;
    assert_true(info.total_rto >= 2 && before >= 500);
    restart(&p, &p.a);
    assert_int_equal(tcp_get_info(p.a.t, p.a.id, p.now, &info), 0);
    at_restart = info.total_rto_time;
    assert_int_equal(at_restart, before);
    pair_run(&p, p.now + 20 * NSEC_PER_SEC);
    assert_int_equal(tcp_get_info(p.a.t, p.a.id, p.now, &info), 0);
    assert_true(info.total_rto_time > at_restart + 5000);
    p.loss_percent = 0;
    assert_int_equal(tcp_abort(p.a.t, p.a.id, p.now), 0);
    pair_run(&p, p.now + 10 * NSEC_PER_MSEC);
    pair_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restarts_without_loss),   cmocka_unit_test(restarts_with_loss),
        cmocka_unit_test(restarts_with_probes),    cmocka_unit_test(timeouts_go_on),
        cmocka_unit_test(restart_in_other_states), cmocka_unit_test(damage_is_found),
        cmocka_unit_test(payload_must_fit),        cmocka_unit_test(commit_publishes),
    };

    return cmocka_run_group_tests_name("tcp_record", tests, NULL, NULL);
}
