/*
 * stack/gro.c: segments of a read burst that belong together reach the engine as one (theory of operation).
 *
 * Where the device hands over frames of MTU size, a bulk transfer is thousands of segments that each extend the one
 * before and say nothing else. Between stack_burst_begin() and stack_burst_end() such a run is held back and grows, and
 * the engine gets it as it gets a super-frame: gso_size says how long each segment was, so it counts them, and owes ACKs,
 * as for any other (RFC 9293 section 3.8.6.3 with what Linux makes of it for a GRO'd skb).
 *
 * Which segments may join is Linux's rule (tcp_gro_receive): same addresses, ports, TTL, TOS and ECN mark; ACK and
 * perhaps PSH, no other flag; same acknowledgement number, window and timestamps; no other option; the next sequence
 * number; no longer than the first. A shorter one or PSH ends the run, and so does any other TCP segment: within a
 * connection nothing is reordered. Unlike there a run begins only where the stream goes on (tcp_rcv_in_order()): each
 * segment out of order owes an ACK of its own (RFC 5681 section 4.2).
 *
 * Invariant: held.len > 0 iff a run is held, and then each of its slices holds a reference to its chunk.
 * Checksums were verified segment by segment before.
 */
#include "stack/stack_priv.h"

#define HEADER_WITH_TS (TCP_HEADER_BYTES + 12u)
#define RUN_BYTES_MAX  65000u /* of payload: an IP packet with all headers could hold it */

void stack_burst_begin(struct stack *st)
{
    st->run.on = true;
}

void st_run_pass(struct stack *st, uint64_t now)
{
    struct tcp_seg *run = &st->run.held;

    if (!run->len)
        return;
    st_to_engine(st, run, now);
    for (unsigned i = 0; i < run->n_slices; i++)
        chunk_unref(st->pool, run->slice[i].chunk);
    run->len = 0;
}

void stack_burst_end(struct stack *st, uint64_t now)
{
    st->now = now;
    st_run_pass(st, now);
    st->run.on = false;
    st_check(st);
}

/* Nothing but data, in a chunk that stays, and timestamps as everybody writes them. */
static bool is_plain(const struct tcp_seg *s, size_t header_bytes)
{
    if (s->len == 0 || s->gso_size || (s->flags & ~(unsigned)TCP_PSH) != TCP_ACK)
        return false;
    if (header_bytes != (s->opt.timestamps_ok ? HEADER_WITH_TS : TCP_HEADER_BYTES))
        return false;
    return s->n_slices == 1 && s->slice[0].chunk;
}

static bool same_flow(const struct tcp_seg *a, const struct tcp_seg *b)
{
    return a->src_port == b->src_port && a->dst_port == b->dst_port && ip_addr_eq(&a->src, &b->src) &&
           ip_addr_eq(&a->dst, &b->dst);
}

static bool extends(const struct tcp_seg *run, uint32_t first_len, const struct tcp_seg *s)
{
    return s->seq == run->seq + run->len && s->ack == run->ack && s->wnd == run->wnd && s->len <= first_len &&
           s->ecn == run->ecn && s->tos == run->tos && s->ttl == run->ttl && s->opt.timestamps_ok == run->opt.timestamps_ok &&
           s->opt.tsval == run->opt.tsval && s->opt.tsecr == run->opt.tsecr && same_flow(run, s) &&
           run->len + s->len <= RUN_BYTES_MAX && run->n_slices < TCP_SLICES_MAX;
}

static void add_slice(struct tcp_seg *run, const struct tcp_seg *s)
{
    run->slice[run->n_slices] = s->slice[0];
    chunk_ref(run->slice[run->n_slices++].chunk);
}

bool st_run_takes(struct stack *st, const struct tcp_seg *s, size_t header_bytes, uint64_t now)
{
    struct tcp_seg *run = &st->run.held;
    bool plain = is_plain(s, header_bytes);

    if (run->len && plain && extends(run, st->run.first_len, s)) {
        add_slice(run, s);
        run->len += s->len;
        run->flags |= s->flags;
        run->gso_size = (uint16_t)st->run.first_len;
        if ((s->flags & TCP_PSH) || s->len < st->run.first_len)
            st_run_pass(st, now);
        return true;
    }
    st_run_pass(st, now);
    if (!plain || (s->flags & TCP_PSH) || !tcp_rcv_in_order(st->tcp, s))
        return false;
    memcpy(run, s, offsetof(struct tcp_seg, slice));
    run->n_slices = 0;
    add_slice(run, s);
    st->run.first_len = s->len;
    return true;
}
