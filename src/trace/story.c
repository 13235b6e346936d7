/*
 * trace/story.c: the story of a connection as lines: segments in packetdrill's notation with cause or verdict, and
 * between them, indented, what the engine made of them and what the program did.
 *
 *      +0.012345  > P. 1:1001(1000) ack 1 win 502            DATA
 *      +0.023456  < . 1:1(0) ack 1001 win 65535
 *                   acked 1000 bytes (1): cwnd 11, flight 0, srtt 10.3 ms, rto 213 ms
 *
 * Times are seconds from the connection's beginning. Everything is formatted from numbers; any value has a text.
 */
#include <inttypes.h>
#include <string.h>

#include "trace/trace.h"
#include "wire/text.h"

static const char *code_name(const struct trace_event *ev)
{
    return tcp_rec_code_name(ev->e.h.type, ev->e.h.code);
}

static const char *code_text(const struct trace_event *ev)
{
    return tcp_rec_code_text(ev->e.h.type, ev->e.h.code);
}

/* ---- the head ---- */

void trace_story_head(const struct trace *tr, struct trace_text *out)
{
    const struct tcp_rec_head *h = &tr->head;
    char local[IP_ADDR_PORT_MAX], remote[IP_ADDR_PORT_MAX];

    if (h->kind == TCP_REC_KIND_ENGINE) {
        trace_print(out, "# what belongs to no connection; event %" PRIu64 " and later\n", h->first_event);
        return;
    }
    trace_print(out, "# %s, %s %s, %s open, %s, mss %u, mtu %u\n",
                trace_addr_text(h->local, h->family, h->local_port, local), h->passive ? "from" : "to",
                trace_addr_text(h->remote, h->family, h->remote_port, remote), h->passive ? "passive" : "active",
                *h->congestion ? h->congestion : "no congestion control", h->mss, h->mtu);
    if (h->kind == TCP_REC_KIND_DEAD)
        trace_print(out, "# it is gone: %s%s\n", h->end < TCP_REC_END_MAX ? tcp_rec_code_text(TCP_REC_T_END, h->end) : "?",
                    h->error ? " (the program got an error)" : "");
    if (h->first_event > 0)
        trace_print(out, "# the first %" PRIu64 " events are lost: the ring is full\n", h->first_event);
}

/* ---- segments ---- */

static void story_seg(const struct trace *tr, const struct trace_event *ev, struct trace_text *out)
{
    bool in = ev->type == TCP_REC_T_SEG_IN;
    uint32_t seq_base, ack_base;
    struct tcp_seg seg;
    char text[TEXT_SEG_MAX], local[IP_ADDR_PORT_MAX], remote[IP_ADDR_PORT_MAX];

    trace_seg(&ev->e.seg, &seg);
    trace_bases(tr, ev, &seq_base, &ack_base);
    text_format_seg(&seg, seq_base, ack_base, text, sizeof text);
    trace_print(out, "%c %s", in ? '<' : '>', text);
    if (seg.gso_size && seg.len > seg.gso_size)
        trace_print(out, "  [%u of %u]", (seg.len + seg.gso_size - 1) / seg.gso_size, seg.gso_size);
    if (seg.ecn)
        trace_print(out, "  [%s]", seg.ecn == IP_ECN_CE ? "CE" : seg.ecn == IP_ECN_ECT0 ? "ECT(0)" : "ECT(1)");
    if (ev->tuple.family)
        trace_print(out, "  %s %s %s",
                    trace_addr_text(ev->tuple.local, ev->tuple.family, ev->tuple.local_port, local), in ? "<" : ">",
                    trace_addr_text(ev->tuple.remote, ev->tuple.family, ev->tuple.remote_port, remote));
    if (!in)
        trace_print(out, "    %s", code_name(ev));
    trace_print(out, "\n");
}

/* ---- the rest ---- */

void trace_ack_text(const struct tcp_ev_ack *a, struct trace_text *out)
{
    trace_print(out, "acked %" PRIu32 " bytes (%u)", a->acked_bytes, a->acked_segs);
    if (a->sacked_segs)
        trace_print(out, ", sacked %u", a->sacked_segs);
    if (a->lost_segs)
        trace_print(out, ", lost %u", a->lost_segs);
    if (a->h.arg & 2)
        trace_print(out, ", D-SACK");
    if (a->h.arg & 4)
        trace_print(out, ", ECE");
    trace_print(out, ": cwnd %" PRIu32, a->cwnd);
    if (a->ssthresh < INT32_MAX)
        trace_print(out, ", ssthresh %" PRIu32, a->ssthresh);
    trace_print(out, ", flight %" PRIu32, a->in_flight);
    if (a->sacked_out || a->lost_out || a->retrans_out)
        trace_print(out, " (sacked %" PRIu32 ", lost %" PRIu32 ", again %" PRIu32 ")", a->sacked_out, a->lost_out,
                    a->retrans_out);
    trace_print(out, ", srtt %.3f ms, rto %.0f ms", a->srtt_us / 1e3, a->rto_us / 1e3);
    if (a->pacing_rate != UINT64_MAX)
        trace_print(out, ", pacing %.1f Mbit/s", (double)a->pacing_rate * 8 / 1e6);
    if (a->rate_interval_us)
        trace_print(out, ", rate %.1f Mbit/s", (double)a->rate_delivered * a->mss * 8 / a->rate_interval_us);
    if (a->h.code)
        trace_print(out, ", %s", tcp_rec_code_name(TCP_REC_T_ACK, a->h.code));
}

static const char *const rtx_names[] = {"RTO", "reordering window", "tail loss probe"};

static void timer_name(const struct trace_event *ev, struct trace_text *out)
{
    trace_print(out, "%s", code_name(ev));
    if (ev->e.h.code == TCP_REC_TIMER_RETRANS && ev->e.h.arg < 3)
        trace_print(out, " (%s)", rtx_names[ev->e.h.arg]);
}

static void story_timer(const struct trace_event *ev, struct trace_text *out)
{
    trace_print(out, "timer ");
    timer_name(ev, out);
    if (ev->type == TCP_REC_T_FIRED)
        trace_print(out, " ran out, %" PRIu32 " timeouts in a row before\n", ev->e.fired.retransmits);
    else if (ev->e.timer.due == UINT64_MAX)
        trace_print(out, " off\n");
    else
        trace_print(out, " in %.3f ms\n", (double)(int64_t)(ev->e.timer.due - ev->e.h.at) / 1e6);
}

static void story_call(const struct tcp_ev_call *c, struct trace_text *out)
{
    trace_print(out, "program: %s", tcp_rec_code_text(TCP_REC_T_CALL, c->h.code));
    switch (c->h.code) {
    case TCP_REC_CALL_SEND:
        trace_print(out, " %" PRIu32 " = %" PRId64 ", unsent %" PRIu32, c->want, c->result, c->left);
        break;
    case TCP_REC_CALL_RECV:
        trace_print(out, " = %" PRId64 ", unread %" PRIu32, c->result, c->left);
        break;
    case TCP_REC_CALL_FASTOPEN:
        trace_print(out, " %" PRIu32 " = %" PRId64, c->want, c->result);
        break;
    case TCP_REC_CALL_SETOPT:
        trace_print(out, " %s = %" PRId32 "%s", tcp_rec_option_name(c->h.arg), (int32_t)c->want,
                    c->result < 0 ? ": refused" : "");
        break;
    default:
        break;
    }
    trace_print(out, "\n");
}

static void story_cong(const struct trace_event *ev, struct trace_text *out)
{
    const struct tcp_ev_cong *c = &ev->e.cong;

    if (ev->type == TCP_REC_T_UNDO)
        trace_print(out, "undo: %s", code_text(ev));
    else
        trace_print(out, "congestion state %s -> %s: %s", tcp_rec_code_name(TCP_REC_T_CONG, ev->e.h.arg), code_name(ev),
                    code_text(ev));
    trace_print(out, "; cwnd %" PRIu32, c->cwnd);
    if (c->ssthresh < INT32_MAX)
        trace_print(out, ", ssthresh %" PRIu32, c->ssthresh);
    trace_print(out, ", flight %" PRIu32 "\n", c->in_flight);
}

static void story_config(const struct tcp_ev_config *c, struct trace_text *out)
{
    trace_print(out, "# %.16s%.16s%.16s = %" PRId64 "\n", c->name0, c->name1, c->name2, c->value);
}

static void story_reply(const struct trace_event *ev, struct trace_text *out)
{
    char local[IP_ADDR_PORT_MAX], remote[IP_ADDR_PORT_MAX];

    trace_print(out, "%s: %.16s%.16s", code_text(ev), ev->e.named.name0, ev->e.named.name1);
    if (ev->tuple.family)
        trace_print(out, " %s > %s", trace_addr_text(ev->tuple.local, ev->tuple.family, 0, local),
                    trace_addr_text(ev->tuple.remote, ev->tuple.family, 0, remote));
    trace_print(out, "\n");
}

static void story_other(const struct trace_event *ev, struct trace_text *out)
{
    const struct tcp_rec_hdr *h = &ev->e.h;

    switch (ev->type) {
    case TCP_REC_T_START:
        trace_print(out, "the record begins: %s\n", code_text(ev));
        break;
    case TCP_REC_T_DROP:
        trace_print(out, "not used: %s: %s\n", code_name(ev), code_text(ev));
        break;
    case TCP_REC_T_STATE:
        trace_print(out, "state %s -> %s\n", tcp_rec_code_name(h->type, h->arg), code_name(ev));
        break;
    case TCP_REC_T_LIMIT:
        trace_print(out, "waits: %s: %s%s\n", code_name(ev), code_text(ev),
                    h->arg ? ", or waits for room in the send buffer" : "");
        break;
    case TCP_REC_T_ICMP:
        trace_print(out, "ICMP error %" PRIu32 "%s, mtu %u\n", h->arg, ev->e.icmp.hard ? " (fatal)" : "", ev->e.icmp.mtu);
        break;
    case TCP_REC_T_ERROR:
        trace_print(out, "ended with error %" PRIu32 "\n", h->arg);
        break;
    case TCP_REC_T_DEVICE:
    case TCP_REC_T_NEIGHBOUR:
        trace_print(out, "%s: %s\n", ev->type == TCP_REC_T_DEVICE ? "device" : "next hop", code_text(ev));
        break;
    case TCP_REC_T_REPLY:
        story_reply(ev, out);
        break;
    case TCP_REC_T_METRICS:
        trace_print(out, "remembered of the destination: round trip %.3f ms, ssthresh %" PRIu32 ", reordering %" PRIu32
                         " (0: not known)\n",
                    ev->e.metrics.rtt / 8e3, ev->e.metrics.ssthresh, ev->e.metrics.reordering);
        break;
    case TCP_REC_T_STALL:
        trace_print(out, "stalled: %" PRIu32 " timeouts in a row\n", h->arg);
        break;
    case TCP_REC_T_END:
        trace_print(out, "gone: %s\n", code_text(ev));
        break;
    default:
        trace_print(out, "event of type %u\n", h->type);
        break;
    }
}

void trace_story_event(const struct trace *tr, const struct trace_event *ev, struct trace_story *state,
                       struct trace_text *out)
{
    if (ev->type == TCP_REC_T_NONE || ev->type == TCP_REC_T_ASKED)
        return;
    if (ev->type == TCP_REC_T_CONFIG) {
        story_config(&ev->e.config, out);
        return;
    }
    if (!state->began || ev->e.h.at != state->last_at || ev->type == TCP_REC_T_SEG_IN || ev->type == TCP_REC_T_SEG_OUT)
        trace_print(out, "%+13.6f  ", (double)trace_time(tr, ev->e.h.at) / 1e9);
    else
        trace_print(out, "%13s  ", "");
    state->began = true;
    state->last_at = ev->e.h.at;
    if (ev->type != TCP_REC_T_SEG_IN && ev->type != TCP_REC_T_SEG_OUT)
        trace_print(out, "  ");
    switch (ev->type) {
    case TCP_REC_T_SEG_IN:
    case TCP_REC_T_SEG_OUT:
        story_seg(tr, ev, out);
        break;
    case TCP_REC_T_ACK:
        trace_ack_text(&ev->e.ack, out);
        trace_print(out, "\n");
        break;
    case TCP_REC_T_TIMER:
    case TCP_REC_T_FIRED:
        story_timer(ev, out);
        break;
    case TCP_REC_T_CALL:
        story_call(&ev->e.call, out);
        break;
    case TCP_REC_T_CONG:
    case TCP_REC_T_UNDO:
        story_cong(ev, out);
        break;
    default:
        story_other(ev, out);
        break;
    }
}
