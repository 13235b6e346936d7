/*
 * The sent-segment queue: what splits, what merges, what is lost; then random use against a model that keeps
 * the state of every single segment in an array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/seq.h"
#include "tcp/sndq.h"

#define MSS  1000u
#define SEED 4242u

struct fixture {
    struct tcp_desc_slab slab;
    struct tcp_sndq q;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    tcp_sndq_init(&f->q, &f->slab, 0xfffff000u);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tcp_sndq_clear(&f->q);
    tcp_desc_slab_destroy(&f->slab);
    free(f);
    return 0;
}

static void check(const struct fixture *f)
{
    const char *wrong = tcp_sndq_check(&f->q);

    if (wrong)
        fail_msg("%s", wrong);
}

static uint32_t at(const struct fixture *f, uint32_t segs)
{
    (void)f;
    return 0xfffff000u + segs * MSS;
}

static void sack(struct fixture *f, uint32_t from, uint32_t to, struct tcp_sack_result *r)
{
    struct tcp_sack_result none = {0};

    tcp_sndq_sack(&f->q, at(f, from), at(f, to), r ? r : &none);
    check(f);
}

static void counts(void **state)
{
    struct fixture *f = *state;
    struct tcp_desc *d = tcp_sndq_push(&f->q, 0, MSS, TCP_DESC_SYN, 1);

    assert_int_equal(d->pcount, 1);
    assert_int_equal(d->end - d->seq, 1);
    assert_int_equal(tcp_sndq_push(&f->q, 1, MSS, 0, 1)->pcount, 1);
    assert_int_equal(tcp_sndq_push(&f->q, MSS, MSS, 0, 1)->pcount, 1);
    assert_int_equal(tcp_sndq_push(&f->q, MSS + 1, MSS, 0, 1)->pcount, 2);
    assert_int_equal(tcp_sndq_push(&f->q, 10 * MSS, MSS, TCP_DESC_FIN, 1)->pcount, 10);
    assert_int_equal(f->q.packets_out, 15);
    check(f);
}

/* A descriptor that was used before says nothing of that: a SYN's would be taken for a sample of the path's rate. */
static void used_again_it_is_clean(void **state)
{
    struct fixture *f = *state;
    struct tcp_desc *d, *again, old;

    d = tcp_sndq_push(&f->q, MSS, MSS, TCP_DESC_PSH, 5);
    old = *d;
    memset(&d->delivered_at, 0xff, sizeof *d - offsetof(struct tcp_desc, delivered_at));
    d->tx_count = 7;
    d->first_sent_at = d->sent_at = 9;
    tcp_sndq_pop(&f->q);
    again = tcp_sndq_push(&f->q, MSS, MSS, TCP_DESC_PSH, 5);
    assert_ptr_equal(again, d);
    old.seq += MSS;
    old.end += MSS;
    assert_memory_equal(&again->seq, &old.seq, sizeof old - offsetof(struct tcp_desc, seq));
    check(f);
}

static void fin_alone(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(tcp_sndq_push(&f->q, 0, MSS, TCP_DESC_FIN, 1)->pcount, 1);
    assert_int_equal(f->q.nxt - f->q.una, 1);
    tcp_sndq_pop(&f->q);
    assert_int_equal(f->q.packets_out, 0);
    check(f);
}

static void trims(void **state)
{
    struct fixture *f = *state;

    tcp_sndq_push(&f->q, 10 * MSS, MSS, 0, 1);
    assert_int_equal(tcp_sndq_trim(&f->q, at(f, 3)), 3);
    assert_int_equal(f->q.packets_out, 7);
    assert_int_equal(tcp_sndq_trim(&f->q, at(f, 3) + 1), 0); /* within a segment: it is still outstanding */
    assert_int_equal(f->q.una, at(f, 3) + 1);
    check(f);
}

/* A SACK that covers parts of segments marks only the whole ones. */
static void sack_splits_at_mss(void **state)
{
    struct fixture *f = *state;
    struct tcp_sack_result r = {0};

    tcp_sndq_push(&f->q, 10 * MSS, MSS, TCP_DESC_PSH, 5);
    tcp_sndq_sack(&f->q, at(f, 2) + 1, at(f, 6) - 1, &r);
    check(f);
    assert_int_equal(r.segs, 2); /* 3 and 4 */
    assert_int_equal(f->q.count, 3);
    assert_int_equal(tcp_sndq_at(&f->q, 1)->seq, at(f, 3));
    assert_int_equal(tcp_sndq_at(&f->q, 1)->end, at(f, 5));
    assert_int_equal(f->q.sacked_out, 2);
    assert_int_equal(f->q.packets_out, 10);
    assert_int_equal(r.first_sent_at, 5);
    assert_int_equal(f->q.highest_sack, at(f, 5));
    assert_true(tcp_sndq_at(&f->q, 2)->flags & TCP_DESC_PSH);
    assert_false(tcp_sndq_at(&f->q, 0)->flags & TCP_DESC_PSH);
}

/* A block that grows stays one descriptor, so an ACK costs what is new in it. */
static void sacked_ones_merge(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 100; i++)
        tcp_sndq_push(&f->q, MSS, MSS, 0, i + 1);
    for (uint32_t i = 2; i <= 100; i++)
        sack(f, 1, i, NULL);
    assert_int_equal(f->q.count, 2);
    assert_int_equal(f->q.sacked_out, 99);
    assert_int_equal(f->q.merges, 98);
    while (tcp_sndq_mark_by_sack(&f->q, 3))
        ;
    assert_int_equal(f->q.lost_out, 1);
    check(f);
}

static void sacked_twice_counts_once(void **state)
{
    struct fixture *f = *state;
    struct tcp_sack_result r = {0};

    tcp_sndq_push(&f->q, 10 * MSS, MSS, 0, 1);
    sack(f, 4, 6, &r);
    sack(f, 4, 6, &r);
    sack(f, 3, 7, &r);
    assert_int_equal(r.segs, 4);
    assert_int_equal(f->q.sacked_out, 4);
    sack(f, 0, 200, &r); /* beyond what was sent: cut */
    assert_int_equal(f->q.sacked_out, 10);
}

static void reordering_is_seen(void **state)
{
    struct fixture *f = *state;
    struct tcp_sack_result r = {0};

    tcp_sndq_push(&f->q, 10 * MSS, MSS, 0, 1);
    sack(f, 6, 8, &r);
    assert_false(r.reordered);
    sack(f, 2, 3, &r);
    assert_true(r.reordered);
    assert_int_equal(r.reord_seq, at(f, 2));
}

/* RFC 6675: three segments above. */
static void lost_by_sack(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 10; i++)
        tcp_sndq_push(&f->q, MSS, MSS, 0, 1);
    sack(f, 1, 2, NULL);
    sack(f, 3, 4, NULL);
    assert_null(tcp_sndq_mark_by_sack(&f->q, 3));
    sack(f, 5, 6, NULL);
    assert_ptr_equal(tcp_sndq_mark_by_sack(&f->q, 3), tcp_sndq_at(&f->q, 0)); /* three above */
    assert_null(tcp_sndq_mark_by_sack(&f->q, 3)); /* 2 has only two */
    check(f);
    sack(f, 6, 7, NULL);
    assert_ptr_equal(tcp_sndq_mark_by_sack(&f->q, 3), tcp_sndq_at(&f->q, 2));
    assert_null(tcp_sndq_mark_by_sack(&f->q, 3));
    check(f);
    assert_true(tcp_sndq_at(&f->q, 2)->flags & TCP_DESC_LOST);
    assert_false(tcp_sndq_at(&f->q, 4)->flags & TCP_DESC_LOST);
}

/* Within a segment: both parts count one, and each is in the state that the whole was in. */
static void cut_within_a_segment(void **state)
{
    struct fixture *f = *state;

    tcp_sndq_push(&f->q, MSS, MSS, TCP_DESC_FIN, 1);
    assert_true(tcp_sndq_mark_lost(&f->q, tcp_sndq_at(&f->q, 0)));
    assert_true(tcp_sndq_cut(&f->q, 0, 300));
    check(f);
    assert_int_equal(f->q.packets_out, 2);
    assert_int_equal(f->q.lost_out, 2);
    assert_int_equal(tcp_sndq_at(&f->q, 0)->end, at(f, 0) + 300);
    assert_false(tcp_sndq_at(&f->q, 0)->flags & TCP_DESC_FIN);
    assert_true(tcp_sndq_at(&f->q, 1)->flags & TCP_DESC_FIN);
    assert_int_equal(tcp_desc_len(tcp_sndq_at(&f->q, 1)), 700);
}

static void retransmits_in_order(void **state)
{
    struct fixture *f = *state;
    struct tcp_desc *d;
    uint32_t i, seq = f->q.una;

    tcp_sndq_push(&f->q, 5 * MSS, MSS, 0, 1);
    tcp_sndq_push(&f->q, 5 * MSS, MSS, 0, 2);
    sack(f, 4, 6, NULL);
    tcp_sndq_mark_all_lost(&f->q, false);
    assert_int_equal(f->q.lost_out, 8);
    while ((d = tcp_sndq_next_lost(&f->q, &i))) {
        assert_true(seq_geq(d->seq, seq));
        if (d->pcount > 2)
            assert_true(tcp_sndq_split(&f->q, i, 2));
        seq = d->end;
        tcp_sndq_sent_again(&f->q, d, 10);
        check(f);
    }
    assert_int_equal(f->q.retrans_out, 8);
    tcp_sndq_mark_all_lost(&f->q, true); /* reneging: the two SACKed ones too */
    check(f);
    assert_int_equal(f->q.lost_out, 10);
    assert_int_equal(f->q.sacked_out, 0);
    assert_int_equal(f->q.retrans_out, 0);
    tcp_sndq_unmark_lost(&f->q);
    assert_int_equal(f->q.lost_out, 0);
    check(f);
}

/* What is found lost later, below what was retransmitted already, goes next. */
static void lost_below_the_hint(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    for (int k = 0; k < 3; k++)
        tcp_sndq_push(&f->q, MSS, MSS, 0, 1);
    assert_true(tcp_sndq_mark_lost(&f->q, tcp_sndq_at(&f->q, 2)));
    assert_ptr_equal(tcp_sndq_next_lost(&f->q, &i), tcp_sndq_at(&f->q, 2));
    tcp_sndq_sent_again(&f->q, tcp_sndq_at(&f->q, 2), 5);
    assert_null(tcp_sndq_next_lost(&f->q, &i));
    assert_int_equal(tcp_sndq_mark_head(&f->q), 1);
    check(f);
    assert_ptr_equal(tcp_sndq_next_lost(&f->q, &i), tcp_sndq_at(&f->q, 0));
    tcp_sndq_sent_again(&f->q, tcp_sndq_at(&f->q, 0), 6);
    assert_false(tcp_sndq_mark_lost(&f->q, tcp_sndq_at(&f->q, 0))); /* lost again, but not newly */
    assert_int_equal(f->q.retrans_out, 1);
    assert_ptr_equal(tcp_sndq_next_lost(&f->q, &i), tcp_sndq_at(&f->q, 0));
    check(f);
}

static void collapses_small_ones(void **state)
{
    struct fixture *f = *state;
    struct tcp_desc *d;

    for (int i = 0; i < 5; i++)
        tcp_sndq_push(&f->q, 300, MSS, i == 4 ? TCP_DESC_PSH : 0, 1);
    assert_false(tcp_sndq_collapse(&f->q, 0, MSS)); /* not lost */
    tcp_sndq_mark_all_lost(&f->q, false);
    assert_true(tcp_sndq_collapse(&f->q, 0, MSS));
    assert_true(tcp_sndq_collapse(&f->q, 0, MSS));
    assert_false(tcp_sndq_collapse(&f->q, 0, MSS)); /* 900 + 300 > MSS */
    d = tcp_sndq_at(&f->q, 0);
    assert_int_equal(tcp_desc_len(d), 900);
    assert_int_equal(f->q.packets_out, 3);
    check(f);
}

static void smaller_mss_recounts(void **state)
{
    struct fixture *f = *state;

    tcp_sndq_push(&f->q, 4 * MSS, MSS, 0, 1);
    tcp_sndq_push(&f->q, 100, MSS, 0, 1);
    assert_int_equal(tcp_sndq_set_mss(&f->q, 400), 6);
    assert_int_equal(f->q.packets_out, 11);
    assert_int_equal(tcp_sndq_set_mss(&f->q, MSS), 0);
    check(f);
}

/* ---- random use against a model ---------------------------------------------------------------------- */

#define MODEL_MAX 200000u

struct model {
    uint8_t sacked[MODEL_MAX], lost[MODEL_MAX], retrans[MODEL_MAX];
    uint32_t una, nxt; /* in segments */
    uint64_t now;
};

static uint32_t total(const struct model *m, const uint8_t *what)
{
    uint32_t n = 0;

    for (uint32_t i = m->una; i < m->nxt; i++)
        n += what[i];
    return n;
}

static void compare(const struct fixture *f, const struct model *m)
{
    check(f);
    assert_int_equal(f->q.packets_out, m->nxt - m->una);
    assert_int_equal(f->q.sacked_out, total(m, m->sacked));
    assert_int_equal(f->q.lost_out, total(m, m->lost));
    assert_int_equal(f->q.retrans_out, total(m, m->retrans));
}

static void model_sack(struct fixture *f, struct model *m, struct rng *rng)
{
    uint32_t span = m->nxt - m->una, from = m->una + (uint32_t)rng_below(rng, span);
    uint32_t to = from + 1 + (uint32_t)rng_below(rng, 20), ragged = (uint32_t)rng_below(rng, 3) ? 0 : 1;
    struct tcp_sack_result r = {0};
    uint32_t newly = 0;

    /* Ragged edges cover no whole segment more. */
    tcp_sndq_sack(&f->q, at(f, from) - (from > m->una ? ragged * 7 : 0), at(f, to) + ragged * 7, &r);
    for (uint32_t i = from; i < to && i < m->nxt; i++) {
        newly += !m->sacked[i];
        m->sacked[i] = 1;
        m->lost[i] = m->retrans[i] = 0;
    }
    assert_int_equal(r.segs, newly);
}

static void model_ack(struct fixture *f, struct model *m, struct rng *rng)
{
    uint32_t una = m->una + (uint32_t)rng_below(rng, m->nxt - m->una + 1);

    if (rng_below(rng, 4) && una > m->una + 3)
        una = m->una + 3;
    while (f->q.count && seq_lt(f->q.una, at(f, una))) {
        if (seq_leq(tcp_sndq_at(&f->q, 0)->end, at(f, una)))
            tcp_sndq_pop(&f->q);
        else
            tcp_sndq_trim(&f->q, at(f, una));
    }
    m->una = una;
}

static void model_by_sack(struct fixture *f, struct model *m)
{
    struct tcp_sndq *q = &f->q;

    while (tcp_sndq_mark_by_sack(q, 3))
        ;
    /*
     * The engine never looks below lost_hint again: what it marked then is the definition of RFC 6675 at that
     * time.
     */
    for (uint32_t i = 0; i < q->count; i++) {
        const struct tcp_desc *d = tcp_sndq_at(q, i);
        uint32_t from = (d->seq - at(f, 0)) / MSS, to = (d->end - at(f, 0)) / MSS, above = 0;

        for (uint32_t k = to; k < m->nxt; k++)
            above += m->sacked[k];
        if (!(d->flags & TCP_DESC_SACKED) && above >= 3)
            assert_true(d->flags & TCP_DESC_LOST);
        for (uint32_t k = from; k < to; k++) {
            if ((d->flags & TCP_DESC_LOST) && !m->lost[k])
                m->retrans[k] = 0; /* what was sent again before an undo */
            m->lost[k] = (d->flags & TCP_DESC_LOST) != 0;
        }
    }
}

static void model_retransmit(struct fixture *f, struct model *m, struct rng *rng)
{
    uint32_t i, first = m->una, segs = 1 + (uint32_t)rng_below(rng, 5);
    struct tcp_desc *d = tcp_sndq_next_lost(&f->q, &i);

    while (first < m->nxt && !(m->lost[first] && !m->retrans[first]))
        first++;
    if (first == m->nxt) {
        assert_null(d);
        return;
    }
    assert_non_null(d);
    assert_int_equal(d->seq, at(f, first));
    if (d->pcount > segs)
        assert_true(tcp_sndq_split(&f->q, i, segs));
    tcp_sndq_sent_again(&f->q, d, ++m->now);
    for (uint32_t k = first; seq_lt(at(f, k), d->end); k++)
        m->retrans[k] = 1;
}

static void model_step(struct fixture *f, struct model *m, struct rng *rng)
{
    uint32_t segs = 1 + (uint32_t)rng_below(rng, 40);

    switch (rng_below(rng, 16)) {
    case 0 ... 3:
        if (m->nxt + segs > MODEL_MAX || m->nxt - m->una > 400)
            return;
        assert_true(tcp_sndq_prepare(&f->q));
        assert_non_null(tcp_sndq_push(&f->q, segs * MSS, MSS, 0, ++m->now));
        m->nxt += segs;
        break;
    case 4 ... 7:
        if (m->nxt > m->una)
            model_sack(f, m, rng);
        break;
    case 8 ... 9:
        model_ack(f, m, rng);
        break;
    case 10 ... 11:
        model_by_sack(f, m);
        break;
    case 12 ... 14:
        model_retransmit(f, m, rng);
        break;
    default:
        if (rng_below(rng, 20))
            return;
        if (rng_below(rng, 2)) { /* undo: what waited to be sent again is in flight again, by time */
            tcp_sndq_unmark_lost(&f->q);
            memset(m->lost, 0, sizeof m->lost);
            return;
        }
        tcp_sndq_mark_all_lost(&f->q, false);
        for (uint32_t i = m->una; i < m->nxt; i++) {
            m->lost[i] = !m->sacked[i];
            m->retrans[i] = 0;
        }
    }
}

static void random_use(void **state)
{
    struct fixture *f = *state;
    struct model *m = calloc(1, sizeof *m);
    struct rng rng;

    printf("seed %u\n", SEED);
    rng_seed(&rng, SEED);
    for (int i = 0; i < 30000; i++) {
        model_step(f, m, &rng);
        compare(f, m);
    }
    assert_true(m->una > 1000);
    free(m);
}

/*
 * A block that ends within a segment was done before; then that segment is cut there (the peer's window ended). The
 * part within the block is not SACKED yet: seen again, it is.
 */
static void sacked_after_a_cut(void **state)
{
    struct tcp_sndq *q = &((struct fixture *)*state)->q;
    struct tcp_sack_result acc = {0};
    uint32_t una = q->una, i;

    for (int k = 0; k < 6; k++)
        tcp_sndq_push(q, 1000, MSS, 0, 1);
    tcp_sndq_sack(q, una + 1000, una + 3400, &acc);
    i = tcp_sndq_find(q, una + 3000);
    assert_true(tcp_sndq_mark_lost(q, tcp_sndq_at(q, i)));
    assert_true(tcp_sndq_cut(q, i, 400));
    tcp_sndq_sack(q, una + 1000, una + 3400, &acc);
    assert_int_equal(tcp_sndq_at(q, tcp_sndq_find(q, una + 3000))->flags & (TCP_DESC_SACKED | TCP_DESC_LOST), TCP_DESC_SACKED);
    assert_null(tcp_sndq_check(q));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(counts),
        T(used_again_it_is_clean),
        T(fin_alone),
        T(trims),
        T(sack_splits_at_mss),
        T(sacked_ones_merge),
        T(sacked_twice_counts_once),
        T(reordering_is_seen),
        T(lost_by_sack),
        T(cut_within_a_segment),
        T(sacked_after_a_cut),
        T(retransmits_in_order),
        T(lost_below_the_hint),
        T(collapses_small_ones),
        T(smaller_mss_recounts),
        T(random_use),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
