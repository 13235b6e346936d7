/*
 * tcp/reply.c: segments that belong to no connection block: RSTs, ACKs of half-open and TIME-WAIT entries.
 *
 * Input leaves intents in a bounded ring; tcp_next_reply() makes them segments, oldest first, then the
 * SYN-ACKs that are due (request.c). A full ring drops the newest intent and counts it (REPLY_RING_FULL): a
 * lost RST or ACK is provoked again by the peer's next segment. The rate limits of RFC 5961 live here too.
 *
 * One of the three makers of struct tcp_out.
 */
#include "tcp/tcp_priv.h"

#define RING_SIZE 1024u

struct reply {
    struct ip_tuple tuple;
    uint32_t seq, ack, tsval, tsecr;
    uint16_t wnd, flags, mss; /* mss: of a SYN-ACK */
    bool ts_ok, wscale_ok, sack_ok;
    uint8_t wscale;
    uint16_t md5_key; /* the intent holds it */
    enum tcp_cause cause;
};

struct tcp_replies {
    uint32_t head, count;
    struct reply ring[RING_SIZE];
};

static_assert((RING_SIZE & (RING_SIZE - 1)) == 0, "the ring is indexed by a mask");

static void note(struct tcp *t, const struct reply *r);

int tcp_replies_init(struct tcp *t)
{
    t->replies = calloc(1, sizeof *t->replies);
    return t->replies ? 0 : -ENOMEM;
}

void tcp_replies_destroy(struct tcp *t)
{
    free(t->replies);
    t->replies = NULL;
}

void tcp_replies_count_md5(const struct tcp *t, uint32_t *counts)
{
    for (uint32_t i = 0; i < t->replies->count; i++)
        counts[t->replies->ring[(t->replies->head + i) & (RING_SIZE - 1)].md5_key]++;
}

/* A place for an intent, zeroed, or NULL. */
static struct reply *reply_new(struct tcp *t)
{
    struct tcp_replies *q = t->replies;
    struct reply *r;

    if (q->count == RING_SIZE) {
        tcp_drop(t, NULL, TCP_DROP_REPLY_RING_FULL);
        return NULL;
    }
    r = &q->ring[(q->head + q->count++) & (RING_SIZE - 1)];
    *r = (struct reply){.md5_key = tcp_md5_ref(t, t->md5_in)};
    return r;
}

/* RFC 9293 section 3.10.7.1 */
void tcp_reply_rst(struct tcp *t, const struct tcp_seg *seg, enum tcp_cause cause)
{
    struct reply *r;

    /* A RST is never answered. */
    if (seg->flags & TCP_RST)
        return;
    r = reply_new(t);
    if (!r)
        return;
    r->tuple = (struct ip_tuple){
        .local = seg->dst, .remote = seg->src, .local_port = seg->dst_port, .remote_port = seg->src_port};
    r->cause = cause;
    r->flags = TCP_RST;
    if (seg->flags & TCP_ACK) {
        r->seq = seg->ack;
    } else {
        r->flags |= TCP_ACK;
        r->ack = seg->seq + tcp_seg_seq_len(seg);
    }
    note(t, r);
}

void tcp_reply_ack(struct tcp *t, const struct tcp_reply_ack *a)
{
    struct reply *r = reply_new(t);

    if (!r)
        return;
    *r = (struct reply){
        .tuple = a->tuple,
        .seq = a->seq,
        .ack = a->ack,
        .tsval = a->tsval,
        .tsecr = a->tsecr,
        .wnd = a->wnd,
        .flags = TCP_ACK,
        .md5_key = r->md5_key,
        .ts_ok = a->ts_ok,
        .cause = a->cause,
    };
    note(t, r);
}

void tcp_reply_synack(struct tcp *t, const struct tcp_reply_synack *a)
{
    struct reply *r = reply_new(t);

    if (!r)
        return;
    *r = (struct reply){
        .tuple = a->tuple,
        .seq = a->seq,
        .ack = a->ack,
        .tsval = a->tsval,
        .tsecr = a->tsecr,
        .wnd = a->wnd,
        .flags = (uint16_t)(TCP_SYN | TCP_ACK | (a->ecn_ok ? TCP_ECE : 0)),
        .mss = a->mss,
        .ts_ok = a->ts_ok,
        .wscale_ok = a->wscale_ok,
        .sack_ok = a->sack_ok,
        .wscale = a->wscale,
        .md5_key = r->md5_key,
        .cause = TCP_CAUSE_SYNACK,
    };
}

static void make(const struct reply *r, struct tcp_out *ret);

/* The flight recorder: it belongs to the story of the connection whose segment is being processed. */
static void note(struct tcp *t, const struct reply *r)
{
    struct tcp_conn *c = t->rec ? tcp_rec_current(t, &r->tuple) : NULL;
    struct tcp_out out;

    if (!c)
        return;
    make(r, &out);
    out.seg.opt.md5_ok = r->md5_key != 0; /* signed when it leaves */
    tcp_rec_put_seg(t, c, TCP_REC_T_SEG_OUT, r->cause, TCP_REC_F_REPLY, &out.seg, tcp_rec_time_of(t));
}

static void make(const struct reply *r, struct tcp_out *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->cause = r->cause;
    ret->seg.src = r->tuple.local;
    ret->seg.dst = r->tuple.remote;
    ret->seg.src_port = r->tuple.local_port;
    ret->seg.dst_port = r->tuple.remote_port;
    ret->seg.seq = r->seq;
    ret->seg.ack = r->ack;
    ret->seg.wnd = r->wnd;
    ret->seg.flags = r->flags;
    ret->seg.opt.timestamps_ok = r->ts_ok;
    ret->seg.opt.tsval = r->tsval;
    ret->seg.opt.tsecr = r->tsecr;
    ret->seg.opt.mss_ok = r->mss != 0;
    ret->seg.opt.mss = r->mss;
    ret->seg.opt.wscale_ok = r->wscale_ok;
    ret->seg.opt.wscale = r->wscale;
    ret->seg.opt.sack_permitted = r->sack_ok;
}

bool tcp_next_reply(struct tcp *t, uint64_t now, struct tcp_out *ret)
{
    struct tcp_replies *q = t->replies;

    if (!q->count)
        return tcp_req_next_synack(t, now, ret);
    make(&q->ring[q->head], ret);
    tcp_md5_sign(t, q->ring[q->head].md5_key, &ret->seg);
    tcp_md5_unref(t, q->ring[q->head].md5_key);
    q->head = (q->head + 1) & (RING_SIZE - 1);
    q->count--;
    tcp_count_out(t, NULL, ret, now);
    return true;
}

/*
 * RFC 5961 section 7: a limit over all connections. It varies by chance from second to second, so that nobody
 * can count what others' connections used of it.
 */
bool tcp_challenge_allowed(struct tcp *t, uint64_t now)
{
    uint32_t limit = (uint32_t)t->config->tcp_challenge_ack_limit;

    if (!t->challenge_window_at || time_since(now, t->challenge_window_at) >= NSEC_PER_SEC) {
        t->challenge_window_at = now ? now : 1;
        t->challenge_count = (limit + 1) / 2 + (uint32_t)rng_below(&t->rng, limit);
    }
    if (!t->challenge_count) {
        t->counters.skipped_challenges++;
        return false;
    }
    t->challenge_count--;
    t->counters.challenge_acks++;
    return true;
}

bool tcp_invalid_ack_allowed(struct tcp *t, uint64_t *last_at, uint64_t now)
{
    uint64_t limit = (uint32_t)t->config->tcp_invalid_ratelimit * NSEC_PER_MSEC;

    if (*last_at && time_since(now, *last_at) < limit)
        return false;
    *last_at = now ? now : 1;
    return true;
}
