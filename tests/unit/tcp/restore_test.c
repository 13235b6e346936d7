/*
 * tcp/restore.c: what an engine's arenas hold of half-open and TIME-WAIT entries and of damaged records; the engine
 * dies at chosen instants. (Connections and payload: tests/sim/arena_restarts.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include "tcp/tcp.h"
#include "tcp/tcp_priv.h"
#include "tcp/tcp_record.h"

#define BUFFERS (4u << 20)
#define NOTES 256u
#define SLOTS 8u

struct host {
    struct tcp *t;
    struct tcp_config config;
    struct chunk_pool *pool;
    struct tcp_kept kept;
    struct {
        void *at;
        size_t bytes;
    } part[5]; /* buffers, notes, records, half-open, TIME-WAIT */
    uint32_t listener, other, generation;
    uint64_t now;
    unsigned lost;
    char why[128];
};

static void boot(struct host *h)
{
    struct tcp_listen_args l = {.port = 80, .backlog = 8};
    struct tcp_params p = {.config = &h->config,
                           .now = h->now,
                           .max_conns = SLOTS,
                           .max_half_open = SLOTS,
                           .max_time_wait = SLOTS,
                           .generation = ++h->generation,
                           .record_arena = h->part[2].at,
                           .request_arena = h->part[3].at,
                           .time_wait_arena = h->part[4].at,
                           .kept = &h->kept,
                           .check = true,
                           .secrets = {.isn = {1, 2}, .ts_offset = {3, 4}, .hash = {5, 6}, .rng_seed = 9}};

    h->pool = chunk_pool_create(h->part[0].at, BUFFERS);
    assert_int_equal(chunk_pool_journal(h->pool, h->part[1].at, NOTES), 0);
    p.pool = h->pool;
    h->t = tcp_create(&p);
    assert_non_null(h->t);
    for (uint32_t i = 0; i < h->generation; i++) { /* numbers are others each time */
        struct tcp_listen_args more = {.port = (uint16_t)(1000 + i), .backlog = 8};

        assert_int_equal(tcp_listen(h->t, &more, &h->other), 0);
    }
    assert_int_equal(tcp_listen(h->t, &l, &h->listener), 0);
}

static void setup(struct host *h)
{
    const size_t bytes[5] = {BUFFERS, chunk_journal_bytes(NOTES), tcp_records_bytes(SLOTS),
                             SLOTS * tcp_request_bytes(), SLOTS * tcp_time_wait_bytes()};

    memset(h, 0, sizeof *h);
    tcp_config_defaults(&h->config);
    h->now = NSEC_PER_SEC;
    for (int i = 0; i < 5; i++) {
        h->part[i].bytes = bytes[i];
        h->part[i].at = aligned_alloc(4096, (bytes[i] + 4095) / 4096 * 4096);
        memset(h->part[i].at, 0, bytes[i]);
    }
    boot(h);
}

static void teardown(struct host *h)
{
    tcp_destroy(h->t);
    chunk_pool_destroy(h->pool);
    for (int i = 0; i < 5; i++)
        free(h->part[i].at);
}

static void lost(void *ctx, uint32_t slot, const struct tcp_record *r, const char *why)
{
    struct host *h = ctx;

    (void)slot, (void)r;
    h->lost++;
    snprintf(h->why, sizeof h->why, "%s", why);
}

/* The engine is gone as it stands, without tidying up, and another one takes over. */
static struct tcp_restored crash_with(struct host *h, const struct tcp_restore_hint *hint)
{
    struct tcp_restore_params p = {.lost = lost, .ctx = h, .hints = hint, .n_hints = hint != NULL};
    struct tcp_restored ret;
    struct tcp_kept kept = h->kept;
    void *copy[5];

    for (int i = 0; i < 5; i++)
        copy[i] = memcpy(malloc(h->part[i].bytes), h->part[i].at, h->part[i].bytes);
    tcp_destroy(h->t);
    chunk_pool_destroy(h->pool);
    for (int i = 0; i < 5; i++) {
        memcpy(h->part[i].at, copy[i], h->part[i].bytes);
        free(copy[i]);
    }
    h->kept = kept;
    boot(h);
    assert_int_equal(tcp_restore(h->t, &p, h->now, &ret), 0);
    assert_null(tcp_check_all(h->t));
    return ret;
}

static struct tcp_restored crash(struct host *h)
{
    return crash_with(h, NULL);
}

static const struct ip_addr us = {.family = IP_V4, .b = {192, 0, 2, 1}}, peer = {.family = IP_V4, .b = {192, 0, 2, 2}};

static void in_from(struct host *h, uint16_t port, unsigned flags, uint32_t seq, uint32_t ack)
{
    struct tcp_seg seg = {.src = peer, .dst = us, .src_port = port, .dst_port = 80, .seq = seq, .ack = ack,
                          .flags = (uint16_t)flags, .wnd = 60000};
    struct tcp_path path = {.mtu = 1500};

    seg.opt.sack_permitted = (flags & TCP_SYN) != 0;
    tcp_input(h->t, &seg, &path, h->now);
}

static void in(struct host *h, unsigned flags, uint32_t seq, uint32_t ack)
{
    in_from(h, 40000, flags, seq, ack);
}

/* From a link-local peer. */
static void in6(struct host *h, uint16_t port, unsigned flags, uint32_t seq, uint32_t ack)
{
    struct ip_addr local = {.family = IP_V6, .scope = 2, .b = {0xfe, 0x80, [15] = 1}}, remote = local;
    struct tcp_seg seg = {.dst = local, .src_port = port, .dst_port = 80, .seq = seq, .ack = ack,
                          .flags = (uint16_t)flags, .wnd = 60000};
    struct tcp_path path = {.mtu = 1500};

    remote.b[15] = 2;
    seg.src = remote;
    tcp_input(h->t, &seg, &path, h->now);
}

/* The next segment that leaves. */
static struct tcp_out out(struct host *h)
{
    struct tcp_out o = {0};

    if (tcp_next_reply(h->t, h->now, &o))
        return o;
    while (tcp_next_ready(h->t, &o))
        if (tcp_output(h->t, o.id, h->now, &o))
            return o;
    return (struct tcp_out){0};
}

static tcp_id accepted(struct host *h)
{
    struct tcp_event e;
    tcp_id id = 0;

    while (tcp_next_event(h->t, &e))
        if (e.bits & TCP_EVENT_ACCEPT) {
            tcp_listen_accepted(h->t, h->listener);
            id = e.id;
        }
    return id;
}

static void half_open_survives(void **state)
{
    struct host h;
    struct tcp_out o;
    struct tcp_restored r;

    (void)state;
    setup(&h);
    in(&h, TCP_SYN, 1000, 0);
    o = out(&h);
    assert_true(o.seg.flags & TCP_SYN);
    tcp_commit(h.t, h.now);
    r = crash(&h);
    assert_int_equal(r.requests, 1);
    /* The ACK came, but the turn was not committed: the entry is still there, its place was not given away. */
    in(&h, TCP_ACK, 1001, o.seg.seq + 1);
    assert_int_not_equal(accepted(&h), 0);
    in_from(&h, 40001, TCP_SYN, 5000, 0);
    r = crash(&h);
    assert_int_equal(r.requests, 2);
    assert_int_equal(r.conns, 0);
    in(&h, TCP_ACK, 1001, o.seg.seq + 1);
    tcp_commit(h.t, h.now);
    r = crash(&h); /* committed, not accepted: it waits in the accept queue again */
    assert_int_equal(r.requests, 1);
    assert_int_equal(r.conns, 1);
    assert_int_not_equal(accepted(&h), 0);
    teardown(&h);
}

static void synack_timer_goes_on(void **state)
{
    struct host h;
    struct tcp_out o;
    uint64_t at;

    (void)state;
    setup(&h);
    in(&h, TCP_SYN, 1000, 0);
    out(&h);
    tcp_commit(h.t, h.now);
    at = tcp_deadline(h.t);
    h.now += 100 * NSEC_PER_MSEC;
    crash(&h);
    assert_int_equal(tcp_deadline(h.t), at);
    h.now = at;
    tcp_expire(h.t, h.now);
    o = out(&h);
    assert_true(o.seg.flags & TCP_SYN);
    assert_true(o.retransmission);
    teardown(&h);
}

static uint32_t established(struct host *h, tcp_id *ret)
{
    struct tcp_out o;

    in(h, TCP_SYN, 1000, 0);
    o = out(h);
    in(h, TCP_ACK, 1001, o.seg.seq + 1);
    *ret = accepted(h);
    assert_int_not_equal(*ret, 0);
    tcp_commit(h->t, h->now);
    return o.seg.seq + 1;
}

static void time_wait_survives(void **state)
{
    struct host h;
    struct tcp_out o;
    struct tcp_restored r;
    tcp_id id;
    uint32_t next;

    (void)state;
    setup(&h);
    next = established(&h, &id);
    assert_int_equal(tcp_close(h.t, id, h.now), 0);
    o = out(&h);
    assert_true(o.seg.flags & TCP_FIN);
    tcp_commit(h.t, h.now);
    /* The peer's FIN came, but the turn was not committed: it is in FIN-WAIT again, and the peer sends it again. */
    in(&h, TCP_FIN | TCP_ACK, 1001, next + 1);
    r = crash(&h);
    assert_int_equal(r.conns, 1);
    assert_int_equal(r.time_wait, 0);
    in(&h, TCP_FIN | TCP_ACK, 1001, next + 1);
    tcp_commit(h.t, h.now);
    r = crash(&h);
    assert_int_equal(r.conns, 0);
    assert_int_equal(r.time_wait, 1);
    in(&h, TCP_FIN | TCP_ACK, 1001, next + 1);
    o = out(&h);
    assert_int_equal(o.cause, TCP_CAUSE_ACK_TIME_WAIT);
    h.now += 61 * NSEC_PER_SEC;
    tcp_expire(h.t, h.now);
    assert_int_equal(tcp_next_id(h.t, 0), 0);
    teardown(&h);
}

/*
 * Half-open entries of both families, made in the order of neither their places nor their timers: after a crash each
 * has its SYN-ACK's time, its numbers and its listener, and the places of those that had gone are used again.
 */
static void families_survive(void **state)
{
    struct host h;
    struct tcp_listen_info info;
    struct tcp_restored r;
    struct tcp_out o, o6;
    uint64_t first;

    (void)state;
    setup(&h);
    h.now += NSEC_PER_SEC / 3;
    in_from(&h, 39999, TCP_SYN, 1, 0);
    out(&h);
    in6(&h, 40000, TCP_SYN, 1000, 0);
    o6 = out(&h);
    first = tcp_deadline(h.t);
    h.now += 100 * NSEC_PER_MSEC;
    in_from(&h, 39999, TCP_RST, 2, 0); /* the younger one gets the older one's place */
    tcp_commit(h.t, h.now);
    in(&h, TCP_SYN, 1000, 0);
    o = out(&h);
    in_from(&h, 40001, TCP_SYN, 3000, 0); /* its SYN-ACK does not leave any more */
    tcp_commit(h.t, h.now);
    r = crash(&h);
    assert_int_equal(r.requests, 3);
    assert_int_equal(tcp_listen_info(h.t, h.listener, &info), 0);
    assert_int_equal(info.half_open, 3);
    assert_int_equal(out(&h).seg.src_port, 80);
    assert_int_equal(tcp_deadline(h.t), first);
    h.now = first;
    tcp_expire(h.t, h.now);
    assert_int_equal(out(&h).seg.src.family, IP_V6);
    in6(&h, 40000, TCP_ACK, 1001, o6.seg.seq + 1);
    assert_int_not_equal(accepted(&h), 0);
    in(&h, TCP_ACK, 1001, o.seg.seq + 1);
    assert_int_not_equal(accepted(&h), 0);
    tcp_commit(h.t, h.now);
    in6(&h, 40001, TCP_SYN, 1000, 0);
    tcp_commit(h.t, h.now);
    r = crash(&h);
    assert_int_equal(r.requests, 2);
    assert_int_equal(r.conns, 2);
    assert_int_equal(h.kept.requests_touched, 2);
    assert_int_equal(h.kept.requests6_touched, 1);
    teardown(&h);
}

/* The peer's scope is part of the tuple that a successor knows; the family of an entry is where it lies. */
static void time_wait6_survives(void **state)
{
    struct host h;
    struct tcp_restored r;
    struct tcp_out o;
    struct tcp_info info;
    tcp_id id;
    uint64_t over;

    (void)state;
    setup(&h);
    in6(&h, 40000, TCP_SYN, 1000, 0);
    o = out(&h);
    in6(&h, 40000, TCP_ACK, 1001, o.seg.seq + 1);
    id = accepted(&h);
    tcp_commit(h.t, h.now);
    assert_int_equal(tcp_close(h.t, id, h.now), 0);
    assert_true(out(&h).seg.flags & TCP_FIN);
    h.now += 123456789;
    in6(&h, 40000, TCP_FIN | TCP_ACK, 1001, o.seg.seq + 2);
    tcp_commit(h.t, h.now);
    over = tcp_deadline(h.t);
    assert_in_range(over, h.now + 60 * NSEC_PER_SEC, h.now + 60 * NSEC_PER_SEC + NSEC_PER_MSEC);
    h.now += NSEC_PER_SEC;
    r = crash(&h);
    assert_int_equal(r.time_wait, 1);
    assert_int_equal(tcp_get_info(h.t, id, h.now, &info), 0);
    assert_int_equal(info.tuple.remote.scope, 2);
    assert_int_equal(info.tuple.remote_port, 40000);
    assert_int_equal(tcp_deadline(h.t), over);
    in6(&h, 40000, TCP_FIN | TCP_ACK, 1001, o.seg.seq + 2);
    assert_int_equal(out(&h).cause, TCP_CAUSE_ACK_TIME_WAIT);
    h.now += 61 * NSEC_PER_SEC;
    tcp_expire(h.t, h.now);
    assert_int_equal(tcp_next_id(h.t, 0), 0);
    teardown(&h);
}

/* Each byte of the published record, damaged alone: refused and reported, and a new connection is made as ever. */
static void damage_is_reported(void **state)
{
    struct host h;
    struct tcp_restored r;
    tcp_id id;

    (void)state;
    for (size_t byte = 0; byte < sizeof(struct tcp_record); byte += 37) {
        uint8_t *record;

        setup(&h);
        established(&h, &id);
        record = (uint8_t *)(uintptr_t)tcp_record_published(h.part[2].at, (uint32_t)id & 0xffffff);
        record[byte] ^= 0x40;
        r = crash(&h);
        assert_int_equal(r.conns, 0);
        assert_int_equal(r.lost, 1);
        assert_int_equal(h.lost, 1);
        assert_true(h.why[0]);
        established(&h, &id);
        teardown(&h);
    }
}

/* A full table: no room for more, what is there lives. */
static void full_table(void **state)
{
    struct host h;
    struct tcp_restored r;
    tcp_id id;

    (void)state;
    setup(&h);
    for (unsigned i = 0; i < SLOTS + 2; i++) {
        struct tcp_connect_args a = {.tuple = {us, peer, (uint16_t)(50000 + i), 9}, .path = {.mtu = 1500}};

        assert_int_equal(tcp_connect(h.t, &a, h.now, &id), i < SLOTS ? 0 : -ENFILE);
    }
    tcp_commit(h.t, h.now);
    r = crash(&h);
    assert_int_equal(r.conns, SLOTS);
    assert_int_equal(r.lost, 0);
    teardown(&h);
}

/* Sent and not acknowledged; the time of the next timeout. */
static uint64_t until_timeout(struct host *h, tcp_id id, bool dies)
{
    uint64_t at;

    assert_int_equal(tcp_send(h->t, id, "unanswered", 10, 0, h->now), 10);
    assert_int_equal(out(h).seg.len, 10);
    tcp_commit(h->t, h->now);
    do { /* the loss probe is no timeout */
        h->now = tcp_deadline(h->t);
        tcp_expire(h->t, h->now);
    } while (!out(h).seg.len);
    do {
        h->now = tcp_deadline(h->t);
        tcp_expire(h->t, h->now);
    } while (!out(h).seg.len);
    tcp_commit(h->t, h->now);
    at = tcp_deadline(h->t);
    h->now += (at - h->now) / 3;
    if (dies)
        crash(h);
    return at;
}

/* The timeouts of an engine that died between two of them are those of one that did not: when, and how far backed off. */
static void timeout_goes_on(void **state)
{
    uint64_t at[2][4];

    (void)state;
    for (int dies = 0; dies < 2; dies++) {
        struct host h;
        tcp_id id;

        setup(&h);
        h.config.tcp_early_retrans = 0;
        h.config.tcp_park_after = 0; /* deadlines are the timeout's alone */
        established(&h, &id);
        at[dies][0] = until_timeout(&h, id, dies);
        for (int i = 1; i < 4; i++) {
            h.now = tcp_deadline(h.t);
            assert_int_equal(h.now, at[dies][i - 1]);
            tcp_expire(h.t, h.now);
            assert_int_equal(out(&h).seg.len, 10);
            tcp_commit(h.t, h.now);
            at[dies][i] = tcp_deadline(h.t);
        }
        teardown(&h);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(at[0][i], at[1][i]);
    assert_true(at[1][2] - at[1][1] > at[1][1] - at[1][0] + NSEC_PER_MSEC);
}

/* One that should have come while nobody was there comes at once, not a timeout later. */
static void timeout_that_passed(void **state)
{
    struct host h;
    tcp_id id;
    uint64_t at;

    (void)state;
    setup(&h);
    h.config.tcp_early_retrans = 0;
    established(&h, &id);
    at = until_timeout(&h, id, false);
    h.now = at + 5 * NSEC_PER_SEC;
    crash(&h);
    assert_int_equal(tcp_deadline(h.t), h.now + 1);
    teardown(&h);
}

/* What was in flight may never have left: a probe asks soon, long before the timeout. */
static void probe_after_restore(void **state)
{
    struct host h;
    tcp_id id;
    uint32_t next;
    uint64_t rto_at;

    (void)state;
    setup(&h);
    next = established(&h, &id);
    assert_int_equal(tcp_send(h.t, id, "a sample", 8, 0, h.now), 8);
    assert_int_equal(out(&h).seg.len, 8);
    h.now += 4 * NSEC_PER_MSEC;
    in(&h, TCP_ACK, 1001, next + 8);
    assert_int_equal(tcp_send(h.t, id, "in flight", 9, 0, h.now), 9);
    assert_int_equal(out(&h).seg.len, 9);
    tcp_commit(h.t, h.now);
    rto_at = h.now + 200 * NSEC_PER_MSEC;
    h.now += NSEC_PER_MSEC;
    crash(&h);
    assert_in_range(tcp_deadline(h.t), h.now + 1, h.now + 10 * NSEC_PER_MSEC);
    assert_true(tcp_deadline(h.t) < rto_at);
    h.now = tcp_deadline(h.t);
    tcp_expire(h.t, h.now);
    assert_int_equal(out(&h).seg.len, 9);
    teardown(&h);
}

/* What the kernel wrote into reserved places before the crash, `bytes` of it, and the witness knows of. */
static void reserved(size_t before, size_t bytes, bool noted)
{
    struct tcp_restore_hint hint = {.has_write = true};
    struct tcp_iov iov[8];
    struct host h;
    struct tcp_restored r;
    struct tcp_record_range range;
    uint32_t copied, seen = 0;
    size_t at = 0;
    int n;

    setup(&h);
    established(&h, &hint.id);
    for (size_t left = before; left;) {
        char some[1000] = {0};
        int64_t took = tcp_send(h.t, hint.id, some, left < sizeof some ? left : sizeof some, 0, h.now);

        assert_true(took > 0);
        left -= (size_t)took;
    }
    tcp_commit(h.t, h.now);
    n = tcp_send_reserve(h.t, hint.id, bytes, iov, 8);
    assert_true(n > 0);
    if (noted)
        tcp_send_note(h.t, hint.id);
    tcp_stream_at(h.t, hint.id, &hint.write_seq, &copied);
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < iov[i].len && at < bytes; k++)
            iov[i].data[k] = (uint8_t)(++at * 7);
    assert_int_equal(at, bytes);
    hint.write_seq += (uint32_t)bytes;
    r = crash_with(&h, &hint);
    assert_int_equal(r.conns, noted);
    assert_int_equal(r.lost, !noted);
    at = 0;
    for (uint32_t i = 0; noted && tcp_record_send_range(h.t, hint.id, i, &range); i++)
        for (uint32_t k = 0; k < range.len; k++)
            assert_int_equal(range.data[k], seen++ < before ? 0 : (uint8_t)(++at * 7));
    if (noted)
        assert_int_equal(at, bytes);
    teardown(&h);
}

static void reserved_bytes_survive(void **state)
{
    (void)state;
    reserved(0, 100, true);
    reserved(0, 20000, true);
    reserved(100, 500, true);    /* behind what is there, in the same chunk */
    reserved(100, 25000, true);  /* and in others */
    reserved(2048, 3000, true);  /* a full one before */
    reserved(100, 5000, false);  /* nobody says where they lie: lost and said so, not made up */
}

static uint8_t shared_byte(uint32_t at)
{
    return (uint8_t)(at * 7 + at / 300);
}

/*
 * One chunk in the send buffer twice, behind a reservation that was noted and not used. What is written after the crash
 * lies elsewhere.
 */
static void shared_chunk_survives(void **state)
{
    struct tcp_iov room[2];
    struct tcp_slice slice[2];
    struct tcp_record_range range;
    struct chunk *chunk;
    struct host h;
    uint8_t seen[7000];
    uint32_t n = 0;
    tcp_id id;

    (void)state;
    setup(&h);
    established(&h, &id);
    assert_int_equal(tcp_send(h.t, id, "before", 6, 0, h.now), 6);
    assert_true(tcp_send_reserve(h.t, id, 3000, room, 2) > 0);
    tcp_send_note(h.t, id);
    tcp_send_commit(h.t, id, 0, 0, h.now);
    chunk = chunk_alloc(h.pool, CHUNK_BIG_BYTES);
    for (uint32_t i = 0; i < chunk->size; i++)
        chunk->data[i] = shared_byte(i);
    slice[0] = (struct tcp_slice){.data = chunk->data, .len = 3000, .chunk = chunk};
    slice[1] = (struct tcp_slice){.data = chunk->data + 1000, .len = 500, .chunk = chunk};
    assert_int_equal(tcp_send_shared(h.t, id, slice, 2, 0, h.now), 3500);
    tcp_commit(h.t, h.now);
    chunk_unref_part(h.pool, chunk);
    crash(&h);
    assert_int_equal(tcp_send(h.t, id, "behind", 6, 0, h.now), 6);
    tcp_commit(h.t, h.now);
    crash(&h);
    for (uint32_t i = 0; tcp_record_send_range(h.t, id, i, &range); i++) {
        assert_true(n + range.len <= sizeof seen);
        memcpy(seen + n, range.data, range.len);
        n += range.len;
    }
    assert_int_equal(n, 3512);
    assert_memory_equal(seen, "before", 6);
    for (uint32_t i = 0; i < 3500; i++)
        assert_int_equal(seen[6 + i], shared_byte(i < 3000 ? i : i - 2000));
    assert_memory_equal(seen + 3506, "behind", 6);
    teardown(&h);
}

/* Written and committed, never sent: it leaves at once. What is quiet has nothing to say. */
static void unsent_leaves(void **state)
{
    struct host h;
    struct tcp_out o;
    tcp_id id;

    (void)state;
    setup(&h);
    established(&h, &id);
    crash(&h);
    assert_false(tcp_next_ready(h.t, &o));
    assert_int_equal(tcp_send(h.t, id, "unsent", 6, 0, h.now), 6);
    tcp_commit(h.t, h.now);
    crash(&h);
    assert_int_equal(out(&h).seg.len, 6);
    teardown(&h);
}

/* Read by the program, which the engine had not committed: the peer, whose window may be closed, is told. */
static void read_opens_the_window(void **state)
{
    struct tcp_restore_hint hint = {.has_read = true};
    uint8_t bytes[1000] = {0};
    struct tcp_path path = {.mtu = 1500};
    struct tcp_seg seg = {.src = peer, .dst = us, .src_port = 40000, .dst_port = 80, .seq = 1001, .flags = TCP_ACK,
                          .wnd = 60000, .len = 1000, .n_slices = 1, .slice = {{.data = bytes, .len = 1000}}};
    struct host h;
    uint32_t written;

    (void)state;
    setup(&h);
    seg.ack = established(&h, &hint.id);
    tcp_input(h.t, &seg, &path, h.now);
    while (out(&h).seg.flags)
        ;
    h.now += NSEC_PER_SEC; /* the delayed ACK */
    tcp_expire(h.t, h.now);
    while (out(&h).seg.flags)
        ;
    tcp_commit(h.t, h.now);
    assert_int_equal(tcp_stream_at(h.t, hint.id, &written, &hint.copied_seq), 0);
    crash_with(&h, &hint); /* nothing was read since */
    assert_int_equal(out(&h).seg.flags, 0);
    hint.copied_seq += 1000;
    crash_with(&h, &hint);
    assert_true(out(&h).seg.flags & TCP_ACK);
    assert_int_equal(tcp_stream_at(h.t, hint.id, &written, &hint.copied_seq), 0);
    assert_int_equal(hint.copied_seq, 2001);
    teardown(&h);
}

/* ---- Parked ones ---- */

static uint32_t n_parked(const struct host *h)
{
    struct tcp_totals t;

    tcp_get_totals(h->t, &t);
    return t.parked;
}

static void let_it_park(struct host *h)
{
    h->now += 3 * NSEC_PER_SEC;
    tcp_expire(h->t, h->now);
    assert_int_equal(n_parked(h), 1);
}

/* Places in the record arena: the templates, and the first cell. */
static uint8_t *park_at(const struct host *h)
{
    size_t slots = (SLOTS * tcp_record_slot_bytes_of(sizeof(struct tcp_record)) + 4095) / 4096 * 4096;

    return (uint8_t *)h->part[2].at + slots;
}

static size_t cell_bytes(void)
{
    return tcp_records_bytes(2) - tcp_records_bytes(1);
}

static uint8_t *cell_at(const struct host *h)
{
    return park_at(h) + 16384;
}

static void data_in(struct host *h, uint32_t seq, uint32_t ack)
{
    struct tcp_seg seg = {.src = peer, .dst = us, .src_port = 40000, .dst_port = 80, .seq = seq, .ack = ack,
                          .flags = TCP_ACK, .wnd = 60000, .len = 4, .n_slices = 1};
    struct tcp_path path = {.mtu = 1500};

    seg.slice[0] = (struct tcp_slice){.data = (const uint8_t *)"data", .len = 4};
    tcp_input(h->t, &seg, &path, h->now);
}

/* The program takes it, and it is acknowledged. */
static void exchange(struct host *h, tcp_id id, uint32_t seq, uint32_t ack)
{
    struct tcp_event e;

    data_in(h, seq, ack);
    while (tcp_next_event(h->t, &e))
        ;
    tcp_recv_consume(h->t, id, 4, h->now);
    tcp_commit(h->t, h->now);
    while (out(h).seg.flags)
        ;
    h->now += 300 * NSEC_PER_MSEC; /* a delayed ACK */
    tcp_expire(h->t, h->now);
    while (out(h).seg.flags)
        ;
    tcp_commit(h->t, h->now);
}

static void parked_stays_parked(void **state)
{
    struct host h;
    struct tcp_restored r;
    struct tcp_info before, after;
    uint32_t next;
    tcp_id id;

    (void)state;
    setup(&h);
    next = established(&h, &id);
    for (uint32_t n = 0; n < 4; n++) {
        let_it_park(&h);
        tcp_commit(h.t, h.now);
        assert_null(tcp_record_published(h.part[2].at, 0)); /* once, not twice */
        tcp_get_info(h.t, id, h.now, &before);
        r = crash(&h);
        assert_int_equal(r.conns, 1);
        assert_int_equal(r.lost, 0);
        assert_int_equal(n_parked(&h), 1);
        tcp_get_info(h.t, id, h.now, &after);
        assert_int_equal(after.rcv_nxt, before.rcv_nxt);
        assert_int_equal(after.bytes_received, before.bytes_received);
        assert_int_equal(after.accepted, true);
        assert_int_equal(before.bytes_received, 4 * n);
        for (unsigned i = 0; i < TCP_CAUSE_MAX; i++)
            assert_int_equal(after.causes[i], 0); /* what the dead one had beyond the record is not read */
        exchange(&h, id, 1001 + 4 * n, next);
        assert_int_equal(n_parked(&h), 0);
        assert_int_equal(tcp_conn_by_id(h.t, id)->listener, h.listener);
        r = crash(&h); /* woken and committed: as a record */
        assert_int_equal(r.conns, 1);
        assert_int_equal(n_parked(&h), 0);
    }
    teardown(&h);
}

/* Between two stores of one change: parked twice, or parked and awake. */
static void parked_halfway(void **state)
{
    uint8_t *cell = malloc(cell_bytes());
    struct host h;
    struct tcp_restored r;
    struct tcp_info info;
    uint32_t next;
    tcp_id id;

    (void)state;
    setup(&h);
    next = established(&h, &id);
    let_it_park(&h);
    r = crash(&h); /* the record was to go with the next commit */
    assert_int_equal(r.conns + 16 * r.lost, 1);
    assert_int_equal(n_parked(&h), 0);
    tcp_commit(h.t, h.now);
    let_it_park(&h);
    tcp_commit(h.t, h.now);
    data_in(&h, 1001, next);
    r = crash(&h); /* woken, and not committed: the peer sends it again */
    assert_int_equal(r.conns + 16 * r.lost, 1);
    assert_int_equal(n_parked(&h), 1);
    memcpy(cell, cell_at(&h), cell_bytes());
    exchange(&h, id, 1001, next);
    memcpy(cell_at(&h), cell, cell_bytes());
    r = crash(&h); /* committed, its cell still there: the record is newer */
    assert_int_equal(r.conns + 16 * r.lost, 1);
    tcp_get_info(h.t, id, h.now, &info);
    assert_int_equal(info.bytes_received, 4);
    teardown(&h);
    free(cell);
}

static void parked_damage(void **state)
{
    const size_t templates = 2;
    struct host h;
    struct tcp_restored r;
    uint32_t next;
    tcp_id id;

    (void)state;
    for (size_t byte = 8; byte < 28; byte++) { /* the sum, who wrote the rest, the sizes, the packed record */
        bool matters = byte < 12 || byte == 14 || byte >= 16; /* not 12, 13 and 15: whose rest that is, and its size */

        setup(&h);
        next = established(&h, &id);
        let_it_park(&h);
        tcp_commit(h.t, h.now);
        exchange(&h, id, 1001, next); /* no longer as the first one, the template, was */
        let_it_park(&h);
        tcp_commit(h.t, h.now);
        cell_at(&h)[byte] ^= 0x20;
        r = crash(&h);
        if (r.conns + 16 * r.lost != (matters ? 16 : 1))
            fail_msg("byte %zu: %u restored, %u lost", byte, r.conns, r.lost);
        teardown(&h);
    }
    for (size_t damaged = 0; damaged <= templates; damaged++) {
        size_t bytes = sizeof(struct tcp_record) + 16;

        setup(&h);
        established(&h, &id);
        let_it_park(&h);
        tcp_commit(h.t, h.now);
        for (size_t i = 0; i < damaged; i++)
            park_at(&h)[i * bytes + 100] ^= 1;
        r = crash(&h);
        assert_int_equal(r.lost, damaged == templates);
        if (r.lost)
            assert_non_null(strstr(h.why, "have in common"));
        assert_int_equal(n_parked(&h), !r.lost);
        teardown(&h);
    }
}

/* What no sum covers is not believed, whichever engine seems to have written it. */
static void parked_rest_of_others(void **state)
{
    struct host h;
    struct tcp_restored r;
    uint32_t next;
    tcp_id id;

    (void)state;
    setup(&h);
    next = established(&h, &id);
    let_it_park(&h);
    tcp_commit(h.t, h.now);
    memcpy(cell_at(&h) + 12, &(uint16_t){(uint16_t)(h.generation + 1)}, 2); /* the successor's */
    cell_at(&h)[15] = 255; /* a pointer to the rest lies at the end */
    memset(cell_at(&h) + cell_bytes() - 8, 0x5a, 8);
    r = crash(&h);
    assert_int_equal(r.conns, 1);
    exchange(&h, id, 1001, next);
    assert_int_equal(n_parked(&h), 0);
    teardown(&h);
}

/* However many are due at once, an expiry looks at a few hundred; the deadline of the others lies ahead. */
static void parks_in_shares(void **state)
{
    enum { N = 1000 };
    struct tcp_config config;
    void *arena = aligned_alloc(4096, BUFFERS);
    struct tcp_params p = {.config = &config, .now = NSEC_PER_SEC, .max_conns = N, .max_half_open = N, .max_time_wait = 8,
                           .generation = 1, .secrets = {.isn = {1, 2}, .hash = {5, 6}}};
    struct host h = {.config = {0}, .now = NSEC_PER_SEC};
    struct tcp_listen_args l = {.port = 80, .backlog = 4096};
    uint32_t before, shares = 0;

    (void)state;
    tcp_config_defaults(&config);
    config.tcp_park_warm = N;
    p.pool = h.pool = chunk_pool_create(arena, BUFFERS);
    h.t = tcp_create(&p);
    assert_int_equal(tcp_listen(h.t, &l, &h.listener), 0);
    for (unsigned i = 0; i < N; i++) {
        struct tcp_out o;

        in_from(&h, (uint16_t)(20000 + i), TCP_SYN, 1000, 0);
        o = out(&h);
        in_from(&h, (uint16_t)(20000 + i), TCP_ACK, 1001, o.seg.seq + 1);
        assert_int_not_equal(accepted(&h), 0);
    }
    tcp_commit(h.t, h.now);
    h.now += 2 * NSEC_PER_SEC;
    for (before = 0; n_parked(&h) < N; before = n_parked(&h), shares++) {
        tcp_expire(h.t, h.now);
        assert_in_range(n_parked(&h) - before, 1, 256);
        assert_true(tcp_deadline(h.t) > h.now);
        assert_true(n_parked(&h) == N || tcp_deadline(h.t) <= h.now + NSEC_PER_MSEC);
        h.now = n_parked(&h) == N ? h.now : tcp_deadline(h.t);
    }
    assert_in_range(shares, 4, 5);
    tcp_destroy(h.t);
    chunk_pool_destroy(h.pool);
    free(arena);
}

/* Its alarm is another process's: it is awake afterwards, with its timer. */
static void parked_with_keepalive(void **state)
{
    struct host h;
    struct tcp_restored r;
    tcp_id id;
    uint64_t at;

    (void)state;
    setup(&h);
    established(&h, &id);
    assert_int_equal(tcp_set_opt(h.t, id, TCP_OPT_KEEPALIVE, 1, h.now), 0);
    assert_int_equal(tcp_set_opt(h.t, id, TCP_OPT_KEEPIDLE, 100, h.now), 0);
    tcp_commit(h.t, h.now);
    at = h.now + 100 * NSEC_PER_SEC;
    let_it_park(&h);
    tcp_commit(h.t, h.now);
    assert_int_equal(tcp_deadline(h.t), at);
    r = crash(&h);
    assert_int_equal(r.conns, 1);
    assert_int_equal(n_parked(&h), 0);
    tcp_commit(h.t, h.now);
    let_it_park(&h);
    assert_int_equal(tcp_deadline(h.t), at);
    h.now = at;
    tcp_expire(h.t, h.now);
    assert_int_equal(out(&h).cause, TCP_CAUSE_PROBE_KEEPALIVE);
    teardown(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parked_stays_parked), cmocka_unit_test(parked_halfway), cmocka_unit_test(parked_damage),
        cmocka_unit_test(parked_with_keepalive), cmocka_unit_test(parked_rest_of_others),
        cmocka_unit_test(parks_in_shares), cmocka_unit_test(half_open_survives), cmocka_unit_test(synack_timer_goes_on),
        cmocka_unit_test(time_wait_survives), cmocka_unit_test(families_survive),   cmocka_unit_test(time_wait6_survives),
        cmocka_unit_test(damage_is_reported), cmocka_unit_test(full_table), cmocka_unit_test(timeout_goes_on),
        cmocka_unit_test(timeout_that_passed), cmocka_unit_test(probe_after_restore), cmocka_unit_test(reserved_bytes_survive),
        cmocka_unit_test(shared_chunk_survives), cmocka_unit_test(unsent_leaves), cmocka_unit_test(read_opens_the_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
