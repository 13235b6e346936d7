/*
 * trace/qlog.c: a record as JSON text sequences (RFC 7464) in the manner of qlog (draft-ietf-quic-qlog-main-schema); what
 * each event says is docs/qlog.md. Names of events and fields are qlog's where it has one that means the same.
 *
 * Each text is 0x1e, one JSON object, a line feed. Times are milliseconds from the record's beginning; all else are
 * integers below 2^53, booleans or names of ours, so nothing needs escaping.
 */
#include <errno.h>
#include <inttypes.h>

#include "trace/export.h"

#define U53_MAX ((1ull << 53) - 1)

static void begin(const struct trace *tr, const struct trace_event *ev, const char *name, struct trace_text *out)
{
    trace_print(out, "\x1e{\"time\": %.6f, \"name\": \"%s\", \"data\": {", (double)trace_time(tr, ev->e.h.at) / 1e6, name);
}

static void end(struct trace_text *out)
{
    trace_print(out, "}}\n");
}

static const char *name_of(const struct trace_event *ev)
{
    return tcp_rec_code_name(ev->e.h.type, ev->e.h.code);
}

void trace_qlog_begin(const struct trace *tr, const char *app, struct trace_text *out)
{
    const struct tcp_rec_head *h = &tr->head;
    char local[IP_ADDR_PORT_MAX], remote[IP_ADDR_PORT_MAX];
    uint64_t zero_ms = h->wall_at ? (tr->zero - h->dumped_at + h->wall_at) / 1000000 : 0;
    bool engine = h->kind == TCP_REC_KIND_ENGINE;

    trace_print(out, "\x1e{\"qlog_format\": \"JSON-SEQ\", \"qlog_version\": \"0.3\", \"title\": \"%s\", \"trace\": {"
                     "\"vantage_point\": {\"name\": \"taut\", \"type\": \"%s\"}, \"common_fields\": {"
                     "\"time_format\": \"relative\", \"reference_time\": %" PRIu64 ", \"protocol_type\": [\"TCP\"], "
                     "\"group_id\": \"%" PRIu64 ".%" PRIx64 "\"}, \"schema\": \"taut-qlog-1\", "
                     "\"lost_events\": %" PRIu64,
                app, engine ? "unknown" : h->passive ? "server" : "client",
                zero_ms <= U53_MAX ? zero_ms : 0, h->id & UINT32_MAX, h->id >> 32,
                h->first_event <= U53_MAX ? h->first_event : 0);
    if (!engine)
        trace_print(out, ", \"local\": \"%s\", \"remote\": \"%s\", \"iss\": %" PRIu32 ", \"irs\": %" PRIu32
                         ", \"mss\": %u, \"options\": %u",
                    trace_addr_text(h->local, h->family, h->local_port, local),
                    trace_addr_text(h->remote, h->family, h->remote_port, remote), h->iss, h->irs, h->mss, h->opt_bits);
    trace_print(out, "}}\n");
}

static void flags_list(unsigned flags, struct trace_text *out)
{
    static const char *const names[] = {"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"};
    const char *between = "";

    trace_print(out, "\"flags\": [");
    for (unsigned i = 0; i < 9; i++) {
        if (!(flags >> i & 1))
            continue;
        trace_print(out, "%s\"%s\"", between, names[i]);
        between = ", ";
    }
    trace_print(out, "]");
}

/* A packet; of one that came also why it was not used: the DROPs behind it at the same time. */
static void packet(const struct trace *tr, const struct trace_event *ev, struct trace_cursor next, struct trace_text *out)
{
    static const char *const ecn[] = {"Not-ECT", "ECT(1)", "ECT(0)", "CE"};
    const struct tcp_ev_seg *s = &ev->e.seg;
    bool in = ev->type == TCP_REC_T_SEG_IN;
    uint32_t seq_base, ack_base;
    struct trace_event after;
    const char *between = "";
    char text[IP_ADDR_PORT_MAX];

    trace_bases(tr, ev, &seq_base, &ack_base);
    begin(tr, ev, in ? "transport:packet_received" : "transport:packet_sent", out);
    trace_print(out, "\"header\": {\"seq\": %" PRIu32 ", \"ack\": %" PRIu32 ", \"window\": %u, ", s->seq - seq_base,
                s->tcp_flags & TCP_ACK ? s->ack - ack_base : 0, s->wnd);
    flags_list(s->tcp_flags, out);
    if (s->opt_bits & TCP_REC_OPT_TS)
        trace_print(out, ", \"tsval\": %" PRIu32 ", \"tsecr\": %" PRIu32, s->tsval, s->tsecr);
    if (s->sack_count) {
        trace_print(out, ", \"sack\": [");
        for (unsigned i = 0; i < s->sack_count && i < TCP_SACK_BLOCKS_MAX; i++)
            trace_print(out, "%s[%" PRIu32 ", %" PRIu32 "]", i ? ", " : "", s->sack[2 * i] - ack_base,
                        s->sack[2 * i + 1] - ack_base);
        trace_print(out, "]");
    }
    trace_print(out, "}, \"raw\": {\"payload_length\": %" PRIu32 "}, \"ecn\": \"%s\"", s->len, ecn[s->ecn & 3]);
    if (s->gso_size && s->len > s->gso_size)
        trace_print(out, ", \"segment_length\": %u", s->gso_size);
    if (ev->tuple.family) {
        trace_print(out, ", \"local\": \"%s\"",
                    trace_addr_text(ev->tuple.local, ev->tuple.family, ev->tuple.local_port, text));
        trace_print(out, ", \"remote\": \"%s\"",
                    trace_addr_text(ev->tuple.remote, ev->tuple.family, ev->tuple.remote_port, text));
    }
    if (!in) {
        trace_print(out, ", \"trigger\": \"%s\", \"retransmission\": %s", name_of(ev),
                    ev->e.h.flags & TCP_REC_F_RETRANS ? "true" : "false");
    } else {
        trace_print(out, ", \"dropped\": [");
        while (trace_next(tr, &next, &after) == 1 && after.e.h.at == ev->e.h.at && after.type != TCP_REC_T_SEG_IN) {
            if (after.type != TCP_REC_T_DROP)
                continue;
            trace_print(out, "%s\"%s\"", between, name_of(&after));
            between = ", ";
        }
        trace_print(out, "]");
    }
    end(out);
}

static void metrics(const struct trace *tr, const struct trace_event *ev, struct trace_text *out)
{
    const struct tcp_ev_ack *a = &ev->e.ack;

    begin(tr, ev, "recovery:metrics_updated", out);
    trace_print(out, "\"smoothed_rtt\": %.3f, \"rtt_variance\": %.3f, \"rto\": %.3f, \"congestion_window\": %" PRIu64
                     ", \"congestion_window_packets\": %" PRIu32 ", \"packets_in_flight\": %" PRIu32
                     ", \"packets_out\": %" PRIu32 ", \"packets_sacked\": %" PRIu32 ", \"packets_lost\": %" PRIu32
                     ", \"peer_window\": %" PRIu32 ", \"acked_bytes\": %" PRIu32,
                a->srtt_us / 1e3, a->rttvar_us / 1e3, a->rto_us / 1e3, (uint64_t)a->cwnd * a->mss, a->cwnd, a->in_flight,
                a->packets_out, a->sacked_out, a->lost_out, a->snd_wnd, a->acked_bytes);
    if (a->min_rtt_us != UINT32_MAX)
        trace_print(out, ", \"min_rtt\": %.3f", a->min_rtt_us / 1e3);
    if (a->ssthresh < INT32_MAX)
        trace_print(out, ", \"ssthresh\": %" PRIu64 ", \"ssthresh_packets\": %" PRIu32, (uint64_t)a->ssthresh * a->mss,
                    a->ssthresh);
    if (a->pacing_rate <= U53_MAX / 8)
        trace_print(out, ", \"pacing_rate\": %" PRIu64, a->pacing_rate * 8);
    if (a->rate_interval_us)
        trace_print(out, ", \"delivery_rate\": %.0f", (double)a->rate_delivered * a->mss * 8e6 / a->rate_interval_us);
    end(out);
    if (!a->lost_segs)
        return;
    begin(tr, ev, "recovery:packets_lost", out);
    trace_print(out, "\"count\": %u", a->lost_segs);
    end(out);
}

static void timer(const struct trace *tr, const struct trace_event *ev, struct trace_text *out)
{
    static const char *const rtx[] = {"rto", "reordering", "tail_loss_probe"};
    bool fired = ev->type == TCP_REC_T_FIRED, off = !fired && ev->e.timer.due == UINT64_MAX;

    begin(tr, ev, "recovery:loss_timer_updated", out);
    trace_print(out, "\"timer_type\": \"%s\", \"event_type\": \"%s\"", name_of(ev),
                fired ? "expired" : off ? "cancelled" : "set");
    if (ev->e.h.code == TCP_REC_TIMER_RETRANS && ev->e.h.arg < 3)
        trace_print(out, ", \"purpose\": \"%s\"", rtx[ev->e.h.arg]);
    if (!fired && !off)
        trace_print(out, ", \"delta\": %.6f", (double)(int64_t)(ev->e.timer.due - ev->e.h.at) / 1e6);
    end(out);
}

static void changed(const struct trace *tr, const struct trace_event *ev, const char *name, struct trace_text *out)
{
    begin(tr, ev, name, out);
    trace_print(out, "\"old\": \"%s\", \"new\": \"%s\"", tcp_rec_code_name(ev->e.h.type, ev->e.h.arg & 0xff), name_of(ev));
    end(out);
}

static void rest(const struct trace *tr, const struct trace_event *ev, struct trace_text *out)
{
    switch (ev->type) {
    case TCP_REC_T_UNDO:
        begin(tr, ev, "taut:reduction_undone", out);
        trace_print(out, "\"how\": \"%s\", \"congestion_window_packets\": %" PRIu32, name_of(ev), ev->e.cong.cwnd);
        break;
    case TCP_REC_T_CALL:
        begin(tr, ev, "taut:program_call", out);
        trace_print(out, "\"call\": \"%s\", \"wanted\": %" PRIu32 ", \"result\": %.0f, \"left\": %" PRIu32, name_of(ev),
                    ev->e.call.want, (double)ev->e.call.result, ev->e.call.left);
        break;
    case TCP_REC_T_LIMIT:
        begin(tr, ev, "taut:limit_changed", out);
        trace_print(out, "\"limit\": \"%s\", \"program_waits\": %s", name_of(ev), ev->e.h.arg & 1 ? "true" : "false");
        break;
    case TCP_REC_T_ICMP:
        begin(tr, ev, "taut:icmp_error", out);
        trace_print(out, "\"errno\": %" PRIu32 ", \"mtu\": %u", ev->e.h.arg, ev->e.icmp.mtu);
        break;
    case TCP_REC_T_STALL:
    case TCP_REC_T_END:
    case TCP_REC_T_ERROR:
        begin(tr, ev, ev->type == TCP_REC_T_STALL ? "taut:stalled" : ev->type == TCP_REC_T_END ? "taut:ended" : "taut:error",
              out);
        trace_print(out, "\"reason\": \"%s\", \"number\": %" PRIu32, name_of(ev), ev->e.h.arg);
        break;
    default:
        return;
    }
    end(out);
}

int trace_qlog(const struct trace *tr, struct trace_text *out)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    int r;

    while ((r = trace_next(tr, &cursor, &ev)) == 1) {
        switch (ev.type) {
        case TCP_REC_T_SEG_IN:
        case TCP_REC_T_SEG_OUT:
            packet(tr, &ev, cursor, out);
            break;
        case TCP_REC_T_ACK:
            metrics(tr, &ev, out);
            break;
        case TCP_REC_T_TIMER:
        case TCP_REC_T_FIRED:
            timer(tr, &ev, out);
            break;
        case TCP_REC_T_STATE:
            changed(tr, &ev, "connectivity:connection_state_updated", out);
            break;
        case TCP_REC_T_CONG:
            changed(tr, &ev, "recovery:congestion_state_updated", out);
            break;
        default:
            rest(tr, &ev, out);
            break;
        }
    }
    return r < 0 ? r : out->failed ? -ENOMEM : 0;
}
