/*
 * trace/explain_text.c: what explain.c found, as plain words and as JSON: a verdict with its figures, what would help,
 * the shares of time and the events that show them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "trace/explain.h"

#define NUMBER 32

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static double percent(const struct explained *x, uint64_t ns)
{
    return x->to > x->from ? 100.0 * (double)ns / (double)(x->to - x->from) : 0;
}

static const char *bytes(uint64_t n, char buf[NUMBER])
{
    if (n < 10000)
        snprintf(buf, NUMBER, "%u bytes", (unsigned)n);
    else if (n < 1000000)
        snprintf(buf, NUMBER, "%.1f kB", (double)n / 1e3);
    else
        snprintf(buf, NUMBER, "%.1f MB", (double)n / 1e6);
    return buf;
}

static const char *rate(double bytes_per_s, char buf[NUMBER])
{
    double bits = bytes_per_s * 8;

    if (bits < 1e6)
        snprintf(buf, NUMBER, "%.1f kbit/s", bits / 1e3);
    else
        snprintf(buf, NUMBER, "%.1f Mbit/s", bits / 1e6);
    return buf;
}

static uint64_t rtt_us(const struct explained *x, const struct explain_context *ctx)
{
    return ctx->rtt_us ? ctx->rtt_us : x->srtt_us;
}

/* ---- the verdict: what is, with figures; what would help ---- */

static void say_peer_window(const struct explained *x, const struct explain_context *ctx, struct trace_text *out)
{
    uint64_t rtt = rtt_us(x, ctx);
    char a[NUMBER], b[NUMBER];

    if (x->peer_closed_ns * 2 >= x->share[EXPLAIN_PEER_WINDOW].ns) {
        trace_print(out,
                    "The peer's receive window was closed %.0f %% of the time: its program reads slowly, or not at all",
                    percent(x, x->peer_closed_ns));
        if (ctx->live)
            trace_print(out, "; %s wait here", bytes(ctx->notsent_bytes, a));
        trace_print(out, ".\n");
        return;
    }
    trace_print(out, "The peer's receive window of %s is full %.0f %% of the time", bytes(x->snd_wnd, a),
                percent(x, x->share[EXPLAIN_PEER_WINDOW].ns));
    if (rtt)
        trace_print(out, ": with a round trip of %.1f ms it lets through %s at most", (double)rtt / 1e3,
                    rate((double)x->snd_wnd * 1e6 / (double)rtt, b));
    trace_print(out, ".\n");
}

static void say_holes(const struct explained *x, struct trace_text *out)
{
    double since = seconds(x->to - x->stuck_since);

    if (x->verdict == EXPLAIN_V_MTU_BLACK_HOLE && explain_hole_found(x)) {
        trace_print(out,
                    "The path swallowed segments of %u bytes without a word; the path-MTU search went down to %u, and "
                    "has found "
                    "so far that %u pass. Timeouts took %.1f s.\n",
                    x->stuck_max, x->head_mss, x->acked_max, seconds(x->share[EXPLAIN_TIMEOUT].ns));
    } else if (x->verdict == EXPLAIN_V_MTU_BLACK_HOLE) {
        trace_print(
            out,
            "Large segments vanish: %u timeouts in a row, for %.1f s, of a segment of %u bytes; the largest that was "
            "ever acknowledged has %u",
            x->unanswered, since, x->stuck, x->acked_max);
        if (x->heard)
            trace_print(out, ", and %u smaller ones of the peer came meanwhile", x->heard);
        trace_print(out, ". The path carries less than %u bytes and nobody tells.\n", x->mtu);
    } else {
        trace_print(
            out,
            "The path is dead, or the peer: %u timeouts in a row without any answer, nothing was acknowledged for "
            "%.1f s, the last segment came %.1f s ago. Segments of that size (%u bytes) passed before, or it is "
            "small.\n",
            x->unanswered, since, seconds(x->to - x->silent_since), x->stuck);
    }
}

static void say_program(const struct explained *x, const struct explain_context *ctx, struct trace_text *out)
{
    char a[NUMBER], b[NUMBER];

    if (x->verdict == EXPLAIN_PROGRAM_WRITE) {
        trace_print(
            out,
            "Nothing to do %.0f %% of the time: all that the program wrote is acknowledged, all that came is read "
            "or fits. The program writes nothing and the peer sends nothing.\n",
            percent(x, x->share[EXPLAIN_PROGRAM_WRITE].ns));
    } else if (x->verdict == EXPLAIN_SNDBUF) {
        trace_print(
            out,
            "The send buffer is too small: %.0f %% of the time the program had bytes for which there was no room, and "
            "all that was in it was on its way",
            percent(x, x->share[EXPLAIN_SNDBUF].ns));
        if (ctx->live)
            trace_print(out, " (%s of %s used)", bytes(ctx->sndbuf_used, a), bytes(ctx->sndbuf, b));
        trace_print(out, ".\n");
    } else {
        trace_print(
            out, "Our receive window was closed %.0f %% of the time: %s%s%s reads slowly, or not at all",
            percent(x, x->our_closed_ns), x->verdict == EXPLAIN_V_BACKEND ? "the backend behind " : "the program",
            x->verdict == EXPLAIN_V_BACKEND ? ctx->owner : "", x->verdict == EXPLAIN_V_BACKEND ? " stalls: it" : "");
        if (ctx->live)
            trace_print(out, "; %s unread", bytes(ctx->unread_bytes, a));
        trace_print(out, ".\n");
    }
}

static void say_queue(const struct explained *x, const struct explain_context *ctx, struct trace_text *out)
{
    if (x->verdict == EXPLAIN_V_ACCEPT_QUEUE)
        trace_print(out,
                    "The listener's accept queue is full: %" PRIu64 " wait, its backlog is %" PRIu64 ", %" PRIu64
                    " more are half open. SYNs and completing ACKs are dropped (%" PRIu64 " LISTEN_BACKLOG so far): %s"
                    " does not accept.\n",
                    ctx->accept_queue, ctx->backlog, ctx->half_opens, ctx->drops_accept_queue,
                    *ctx->owner ? ctx->owner : "the program");
    else if (x->verdict == EXPLAIN_V_HALF_OPEN)
        trace_print(out, "Half open: our SYN-ACK was sent %" PRIu64 " times and the ACK of it did not come.\n",
                    ctx->retrans + 1);
    else if (ctx->listening)
        trace_print(out,
                    "Nothing stands out: %" PRIu64 " connections wait to be accepted, backlog %" PRIu64 ", %" PRIu64
                    " are half open.\n",
                    ctx->accept_queue, ctx->backlog, ctx->half_opens);
    else
        trace_print(out, "The record is empty: nothing can be said.\n");
}

static void say_path(const struct explained *x, const struct explain_context *ctx, struct trace_text *out)
{
    uint64_t rtt = rtt_us(x, ctx), pace = ctx->live ? ctx->pacing_rate : x->pacing_rate;
    char a[NUMBER];

    switch (x->verdict) {
    case EXPLAIN_CWND:
        trace_print(out, "The congestion window held bytes back %.0f %% of the time: %u segments of %u bytes",
                    percent(x, x->share[EXPLAIN_CWND].ns), x->cwnd, x->mss);
        if (rtt)
            trace_print(out, " in a round trip of %.1f ms, so %s", (double)rtt / 1e3,
                        rate((double)x->cwnd * x->mss * 1e6 / (double)rtt, a));
        trace_print(out, "; %u losses found, %u segments sent again.\n", x->losses, x->fast + x->rto + x->tlp);
        break;
    case EXPLAIN_RECOVERY:
    case EXPLAIN_TIMEOUT:
        trace_print(out,
                    "Losses: %.0f %% of the time was spent repairing them, %.0f %% waiting for timeouts; %u fast "
                    "retransmissions, %u by timeout, %u tail loss probes.\n",
                    percent(x, x->share[EXPLAIN_RECOVERY].ns), percent(x, x->share[EXPLAIN_TIMEOUT].ns), x->fast,
                    x->rto, x->tlp);
        break;
    case EXPLAIN_PACING:
        trace_print(out, "Paced %.0f %% of the time", percent(x, x->share[EXPLAIN_PACING].ns));
        if (pace != UINT64_MAX)
            trace_print(out, ": the rate is %s", rate((double)pace, a));
        if (ctx->live && ctx->max_pacing_rate != UINT64_MAX)
            trace_print(out, ", the program set a limit of %s (SO_MAX_PACING_RATE)",
                        rate((double)ctx->max_pacing_rate, a));
        trace_print(out, ".\n");
        break;
    case EXPLAIN_V_SYN_UNANSWERED:
        trace_print(out, "The peer does not answer: %u SYNs in %.1f s, neither SYN-ACK nor RST nor ICMP came.\n",
                    x->syns, seconds(x->to - x->from));
        break;
    case EXPLAIN_NEIGHBOUR:
        trace_print(
            out,
            "The next hop does not answer ARP or neighbour solicitations: %.0f %% of the time its address was not "
            "known.\n",
            percent(x, x->share[EXPLAIN_NEIGHBOUR].ns));
        break;
    default:
        trace_print(out, "Most of the time (%.0f %%): %s.\n",
                    percent(x, x->share[x->verdict < EXPLAIN_TIME_MAX ? x->verdict : 0].ns),
                    explain_time_text(x->verdict));
        break;
    }
}

static void say(const struct explained *x, const struct explain_context *ctx, struct trace_text *out)
{
    switch (x->verdict) {
    case EXPLAIN_PEER_WINDOW:
        say_peer_window(x, ctx, out);
        break;
    case EXPLAIN_V_MTU_BLACK_HOLE:
    case EXPLAIN_V_PATH_BLACK_HOLE:
        say_holes(x, out);
        break;
    case EXPLAIN_PROGRAM_WRITE:
    case EXPLAIN_PROGRAM_READ:
    case EXPLAIN_SNDBUF:
    case EXPLAIN_V_BACKEND:
        say_program(x, ctx, out);
        break;
    case EXPLAIN_V_ACCEPT_QUEUE:
    case EXPLAIN_V_HALF_OPEN:
    case EXPLAIN_V_NOTHING:
        say_queue(x, ctx, out);
        break;
    default:
        say_path(x, ctx, out);
        break;
    }
}

static const char *advice(const struct explained *x)
{
    static const struct {
        uint8_t verdict;
        const char *text;
    } table[] = {
        {EXPLAIN_HANDSHAKE, "nothing here: the handshake took that long; see round trip and SYN retransmissions"},
        {EXPLAIN_PROGRAM_WRITE, "look at the program: it has nothing to send, or waits for its peer"},
        {EXPLAIN_RECEIVING, "look at the peer: it sends as fast as it does; what limits it is seen there"},
        {EXPLAIN_PROGRAM_READ, "make the program read faster; a larger receive buffer only delays this"},
        {EXPLAIN_ACKS,
         "the program writes in pieces and waits for answers: more bytes at once, or requests in parallel"},
        {EXPLAIN_CWND, "fewer losses on the path, or another congestion control (taut set ID congestion)"},
        {EXPLAIN_RECOVERY, "find where the path loses packets"},
        {EXPLAIN_TIMEOUT, "find where the path loses packets"},
        {EXPLAIN_PACING,
         "raise or remove the limit (taut set ID max_pacing_rate); without one pacing follows cwnd and round trip"},
        {EXPLAIN_NAGLE, "TCP_NODELAY (taut set ID nodelay 1), or larger writes"},
        {EXPLAIN_CORK, "the program is to uncork (TCP_CORK, MSG_MORE) when it has written all"},
        {EXPLAIN_SNDBUF, "a larger send buffer: no SO_SNDBUF at all lets it grow, up to the third value of tcp_wmem"},
        {EXPLAIN_NEIGHBOUR, "check that the host is up and in this link's network (taut neigh)"},
        {EXPLAIN_NO_ROUTE, "add a route ([network] route)"},
        {EXPLAIN_DEVICE, "the TAP's queue was full: whoever reads it is too slow"},
        {EXPLAIN_V_SYN_UNANSWERED, "check address and port, and firewalls that drop instead of refusing"},
        {EXPLAIN_V_PATH_BLACK_HOLE, "check the path and whether the peer is up"},
        {EXPLAIN_V_ACCEPT_QUEUE, "make the program accept faster, or raise its backlog"},
        {EXPLAIN_V_BACKEND, "look at the backend: it does not take what was given to it"},
        {EXPLAIN_V_HALF_OPEN, "the peer's ACK is lost, or its SYN was forged"},
    };

    if (x->verdict == EXPLAIN_V_MTU_BLACK_HOLE)
        return x->mtu_probing
                   ? "let ICMP \"too big\" pass on the path; tcp_mtu_probing, which is on, finds the size by itself"
                   : "tcp_mtu_probing = 1 finds the size by itself; or let ICMP \"too big\" pass on the path";
    if (x->verdict == EXPLAIN_PEER_WINDOW)
        return x->peer_closed_ns * 2 >= x->share[EXPLAIN_PEER_WINDOW].ns
                   ? "look at the peer's program: it is to read faster"
                   : "a larger receive buffer at the peer";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].verdict == x->verdict)
            return table[i].text;
    }
    return "";
}

/* ---- all of it ---- */

const char *explain_time_text(unsigned time)
{
    static const char *const texts[] = {
#define X(name, text) text,
        EXPLAIN_TIMES(X)
#undef X
    };

    return time < EXPLAIN_TIME_MAX ? texts[time] : "?";
}

/* The times, largest share first; how many there are. */
static unsigned by_share(const struct explained *x, uint8_t order[EXPLAIN_TIME_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < EXPLAIN_TIME_MAX; i++) {
        unsigned k = n;

        if (!x->share[i].ns)
            continue;
        for (; k > 0 && x->share[order[k - 1]].ns < x->share[i].ns; k--)
            order[k] = order[k - 1];
        order[k] = (uint8_t)i;
        n++;
    }
    return n;
}

void trace_explain_text(const struct explained *x, const struct explain_context *ctx, struct trace_text *out)
{
    uint8_t order[EXPLAIN_TIME_MAX];
    unsigned n = by_share(x, order);

    trace_print(out, "%s: ", explain_verdict_name(x->verdict));
    say(x, ctx, out);
    if (*advice(x))
        trace_print(out, "What would help: %s.\n", advice(x));
    if (!n)
        return;
    trace_print(out, "\nWhere %.3f s went%s:\n", seconds(x->to - x->from),
                x->beginning_lost ? " (what was before is overwritten; a larger trace_ring keeps more)" : "");
    for (unsigned i = 0; i < n; i++) {
        const struct explain_share *s = &x->share[order[i]];

        if (percent(x, s->ns) < 0.05)
            break;
        trace_print(out, "  %5.1f %%  %-13s %s", percent(x, s->ns), explain_verdict_name(order[i]),
                    explain_time_text(order[i]));
        trace_print(out, "; %u times, longest %.3f s from %+.6f (event %" PRIu64 ")\n", s->times,
                    seconds(s->longest_ns), (double)(int64_t)(s->longest_at - x->zero) / 1e9, s->longest_event);
    }
    if (x->no_details)
        trace_print(out, "With trace_level below 2 limits are not recorded: what held it back is not seen.\n");
    if (ctx->live)
        trace_print(out, "Now: %s.\n", explain_time_text(x->now));
    if (x->fast + x->rto + x->tlp)
        trace_print(out, "Sent again: %u fast, %u by timeout, %u tail loss probes.\n", x->fast, x->rto, x->tlp);
}

void trace_explain_json(const struct explained *x, const struct explain_context *ctx, struct trace_text *out)
{
    uint8_t order[EXPLAIN_TIME_MAX];
    unsigned n = by_share(x, order);
    struct trace_text why = {0};

    say(x, ctx, &why);
    trace_print(out, "{\"verdict\": \"%s\", \"why\": ", explain_verdict_name(x->verdict));
    trace_json_text(out, why.at, why.len ? why.len - 1 : 0);
    trace_print(out, ", \"advice\": ");
    trace_json_text(out, advice(x), strlen(advice(x)));
    trace_print(out, ", \"now\": \"%s\", \"seconds\": %.6f, \"beginning_lost\": %s, \"shares\": [",
                explain_verdict_name(x->now), seconds(x->to - x->from), x->beginning_lost ? "true" : "false");
    for (unsigned i = 0; i < n; i++) {
        const struct explain_share *s = &x->share[order[i]];

        trace_print(out,
                    "%s{\"name\": \"%s\", \"percent\": %.2f, \"seconds\": %.6f, \"times\": %u, \"longest_s\": %.6f, "
                    "\"longest_event\": %" PRIu64 "}",
                    i ? ", " : "", explain_verdict_name(order[i]), percent(x, s->ns), seconds(s->ns), s->times,
                    seconds(s->longest_ns), s->longest_event);
    }
    trace_print(
        out,
        "], \"peer_window_closed_s\": %.6f, \"our_window_closed_s\": %.6f, \"retrans_fast\": %u, \"retrans_rto\": %u, "
        "\"retrans_tlp\": %u, \"timeouts_unanswered\": %u}",
        seconds(x->peer_closed_ns), seconds(x->our_closed_ns), x->fast, x->rto, x->tlp, x->unanswered);
    trace_text_free(&why);
}
