/*
 * The sending half end to end: two engines, a wire that cuts super-frames into segments, loses and reorders
 * them by a seed; every byte is checked, every invariant after every verb. What recovery must achieve is
 * asserted by counters: with SACK, scattered losses are repaired without a timeout; without it and under
 * heavy loss the transfer still ends.
 */
#include "pair.h"

#define MB (1024u * 1024u)

struct link {
    struct pair p;
    uint32_t gso;
    unsigned loss_permille, reorder_permille;
    uint64_t frames, segments, lost;
    struct tcp_seg held; /* overtaken by the next segments */
    uint8_t held_data[2048];
    unsigned overtaken_by;
    uint64_t free_at[2]; /* when each direction has sent what is queued */
};

#define BYTE_NS       8 /* 1 Gbit/s */
#define BASE_DELAY_NS (5 * NSEC_PER_MSEC)

static void transmit(struct link *l, struct side *s, const struct tcp_seg *seg)
{
    uint64_t *free_at = &l->free_at[s == &l->p.b];

    *free_at = time_max(*free_at, l->p.now) + (seg->len + 78u) * BYTE_NS;
    l->p.delay = *free_at - l->p.now + BASE_DELAY_NS;
    wire_put(&l->p, s, seg);
}

static void put(struct link *l, struct side *s, const struct tcp_seg *seg)
{
    l->segments++;
    if (rng_below(&l->p.rng, 1000) < l->loss_permille) {
        l->lost++;
        return;
    }
    if (!l->overtaken_by && rng_below(&l->p.rng, 1000) < l->reorder_permille &&
        seg->len <= sizeof l->held_data) {
        l->held = *seg;
        if (seg->len)
            memcpy(l->held_data, seg->slice[0].data, seg->len);
        l->held.slice[0].data = l->held_data;
        l->overtaken_by = 2 + (unsigned)rng_below(&l->p.rng, 6);
        return;
    }
    transmit(l, s, seg);
    if (l->overtaken_by && s == &l->p.a && --l->overtaken_by == 0)
        transmit(l, s, &l->held);
}

/* As the kernel cuts: PSH and FIN on the last only. */
static void cut(struct link *l, struct side *s, const struct tcp_seg *seg)
{
    static uint8_t flat[65536];
    uint32_t at = 0, mss = seg->gso_size ? seg->gso_size : seg->len;

    l->frames++;
    assert_true(seg->gso_size == 0 || seg->len > seg->gso_size);
    assert_true(seg->len <= (l->gso > 1500 ? l->gso : 1500));
    for (unsigned i = 0; i < seg->n_slices; i++) {
        memcpy(flat + at, seg->slice[i].data, seg->slice[i].len);
        at += seg->slice[i].len;
    }
    assert_int_equal(at, seg->len);
    at = 0;
    do {
        struct tcp_seg one = *seg;

        one.len = seg->len - at < mss ? seg->len - at : mss;
        one.seq = seg->seq + at;
        one.gso_size = 0;
        one.n_slices = one.len ? 1 : 0;
        one.slice[0] = (struct tcp_slice){flat + at, one.len, NULL};
        at += one.len;
        if (at < seg->len)
            one.flags &= (uint16_t) ~(TCP_PSH | TCP_FIN);
        assert_true(one.len + 40u + (one.opt.timestamps_ok ? 12u : 0u) +
                        (one.opt.sack_count ? 4u + 8u * one.opt.sack_count : 0u) <=
                    PAIR_MTU);
        put(l, s, &one);
    } while (at < seg->len);
}

static void output(struct link *l, struct side *s)
{
    struct tcp_out out = {0};
    const char *wrong;

    tcp_commit(s->t);
    while (tcp_next_reply(s->t, l->p.now, &out))
        cut(l, s, &out.seg);
    while (tcp_next_ready(s->t, &out)) {
        if (tcp_output(s->t, out.id, l->p.now, &out))
            cut(l, s, &out.seg);
    }
    assert_true(tcp_deadline(s->t) > l->p.now);
    wrong = tcp_check_all(s->t);
    if (wrong)
        fail_msg("%s", wrong);
}

static void turn(struct link *l)
{
    struct pair *p = &l->p;

    wire_deliver(p, &p->a, &p->b);
    wire_deliver(p, &p->b, &p->a);
    tcp_expire(p->a.t, p->now);
    tcp_expire(p->b.t, p->now);
    side_events(&p->a);
    side_events(&p->b);
    output(l, &p->a);
    output(l, &p->b);
}

/* Virtual milliseconds that `total` bytes took. */
static uint64_t transfer(struct link *l, uint64_t total, uint64_t limit_s)
{
    struct pair *p = &l->p;
    uint64_t begin = p->now;

    while (p->b.received < total) {
        side_write(p, &p->a, total);
        turn(l);
        side_read(p, &p->b);
        turn(l);
        pair_pass(p);
        if (p->now - begin > limit_s * NSEC_PER_SEC)
            fail_msg("only %llu bytes after %llu s", (unsigned long long)p->b.received,
                     (unsigned long long)limit_s);
    }
    return (p->now - begin) / NSEC_PER_MSEC;
}

static void link_open(struct link *l, uint64_t seed, bool sack, bool timestamps, uint32_t gso)
{
    memset(l, 0, sizeof *l);
    pair_init(&l->p);
    rng_seed(&l->p.rng, seed);
    l->p.a.config.tcp_sack = l->p.b.config.tcp_sack = sack;
    l->p.a.config.tcp_timestamps = l->p.b.config.tcp_timestamps = timestamps;
    l->gso = gso;
    tcp_set_gso_max(l->p.a.t, gso);
    tcp_set_gso_max(l->p.b.t, gso);
    {
        struct tcp_listen_args la = {.port = PAIR_PORT, .backlog = 8};
        struct tcp_connect_args ca = {.tuple = pair_tuple(), .path = {.mtu = PAIR_MTU}};

        assert_int_equal(tcp_listen(l->p.b.t, &la, &l->p.b.listener), 0);
        assert_int_equal(tcp_connect(l->p.a.t, &ca, l->p.now, &l->p.a.id), 0);
    }
    while (!l->p.b.id) {
        turn(l);
        pair_pass(&l->p);
    }
}

static void report(const char *what, const struct link *l, uint64_t ms)
{
    const struct tcp_counters *c = tcp_get_counters(l->p.a.t);

    printf("%s: %llu ms, %llu frames, %llu segments, %llu lost, %llu retransmitted, %llu timeouts, %llu "
           "recoveries\n",
           what, (unsigned long long)ms, (unsigned long long)l->frames, (unsigned long long)l->segments,
           (unsigned long long)l->lost, c->retrans_segs, c->timeouts, c->sack_recovery + c->reno_recovery);
}

static void clean(void **state)
{
    struct link l;
    uint64_t ms;

    (void)state;
    link_open(&l, 1, true, true, 65000);
    ms = transfer(&l, 32 * MB, 60);
    report("clean", &l, ms);
    assert_int_equal(tcp_get_counters(l.p.a.t)->retrans_segs, 0);
    assert_true(l.frames < l.segments / 2); /* super-frames */
    assert_true(ms < 3000);                 /* RTT 10 ms, windows up to megabytes */
    pair_end(&l.p);
}

/* Scattered losses: repaired by SACK, never by the timer. */
static void one_permille(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct link l;
        uint64_t ms;

        link_open(&l, seed, true, seed & 1, seed & 2 ? 65000 : 0);
        l.loss_permille = 1;
        ms = transfer(&l, 8 * MB, 100);
        report("loss 0.1%", &l, ms);
        assert_true(tcp_get_counters(l.p.a.t)->sack_recovery > 0);
        assert_true(tcp_get_counters(l.p.a.t)->timeouts <= 1);
        assert_true(tcp_get_counters(l.p.a.t)->retrans_segs <= 2 * l.lost + 5);
        pair_end(&l.p);
    }
}

static void heavy(const char *what, bool sack, unsigned loss, unsigned reorder)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct link l;
        uint64_t ms;

        link_open(&l, seed, sack, seed & 1, seed & 2 ? 65000 : 0);
        l.loss_permille = loss;
        l.reorder_permille = reorder;
        ms = transfer(&l, 1 * MB, 600);
        printf("seed %llu ", (unsigned long long)seed);
        report(what, &l, ms);
        pair_end(&l.p);
    }
}

static void heavy_loss(void **state)
{
    (void)state;
    heavy("SACK, loss 5%", true, 50, 0);
    heavy("NewReno, loss 5%", false, 50, 0);
    heavy("SACK, loss 10%", true, 100, 0);
}

static void reordering(void **state)
{
    (void)state;
    heavy("SACK, reordering 3%", true, 0, 30);
    heavy("NewReno, reordering 3%", false, 0, 30);
    heavy("SACK, loss 2%, reordering 3%", true, 20, 30);
}

/* The receiver doesn't read for a minute: probes keep the connection, then it goes on. */
static void closed_window(void **state)
{
    struct link l;
    struct pair *p = &l.p;
    uint64_t until;

    (void)state;
    link_open(&l, 1, true, true, 65000);
    until = p->now + 60 * NSEC_PER_SEC;
    while (p->now < until) {
        side_write(p, &p->a, 32 * MB);
        turn(&l);
        pair_pass(p);
    }
    assert_true(tcp_get_causes(p->a.t)[TCP_CAUSE_PROBE_WINDOW] >= 5);
    assert_int_equal(tcp_get_counters(p->a.t)->timeouts, 0);
    assert_true(p->a.sent < 32 * MB);
    report("closed window", &l, transfer(&l, 16 * MB, 60));
    pair_end(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean),      cmocka_unit_test(one_permille),  cmocka_unit_test(heavy_loss),
        cmocka_unit_test(reordering), cmocka_unit_test(closed_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
