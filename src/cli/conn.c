/*
 * cli/conn.c: one connection: its page (conn.get in groups, in the manner of ss -ti), and close, abort, set.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/out.h"

static void line(FILE *out, const char *name, const char *text)
{
    fprintf(out, "  %-14s %s\n", name, text);
}

static void print_head(FILE *out, const json_t *j)
{
    char text[160];

    fprintf(out, "%s  %s  %s -> %s\n", jstr(j, "id"), jstr(j, "state"), jstr(j, "local"), jstr(j, "peer"));
    line(out, "owner", jstr(j, "owner"));
    line(out, "age", human_us((double)jint(j, "age"), text, sizeof text));
    snprintf(text, sizeof text, "%s (%s)", jstr(j, "limit"), jstr(j, "limit_text"));
    line(out, "waits for", text);
    if (json_is_string(json_object_get(j, "error")))
        line(out, "ended by", jstr(j, "error"));
}

static void print_negotiated(FILE *out, const json_t *j)
{
    const json_t *options = json_object_get(j, "options"), *o;
    char text[256] = "";
    size_t i, n = 0;

    json_array_foreach(options, i, o) n +=
        (size_t)snprintf(text + n, sizeof text - n, "%s ", json_string_value(o));
    snprintf(text + n, sizeof text - n, "wscale %lld,%lld  mss %lld  rcvmss %lld  advmss %lld  pmtu %lld",
             (long long)jint(j, "snd_wscale"), (long long)jint(j, "rcv_wscale"),
             (long long)jint(j, "snd_mss"), (long long)jint(j, "rcv_mss"), (long long)jint(j, "advmss"),
             (long long)jint(j, "pmtu"));
    line(out, "options", text);
}

static void print_times(FILE *out, const json_t *j)
{
    char a[32], b[32], c[32], d[32], text[200];

    snprintf(text, sizeof text, "%s  +/- %s  smallest %s  (receiver's %s)",
             human_us((double)jint(j, "rtt"), a, sizeof a), human_us((double)jint(j, "rttvar"), b, sizeof b),
             human_us((double)jint(j, "min_rtt"), c, sizeof c),
             human_us((double)jint(j, "rcv_rtt"), d, sizeof d));
    line(out, "round trip", text);
    snprintf(text, sizeof text, "rto %s  backoff %lld  ato %s", human_us((double)jint(j, "rto"), a, sizeof a),
             (long long)jint(j, "backoff"), human_us((double)jint(j, "ato"), b, sizeof b));
    line(out, "timers", text);
    snprintf(text, sizeof text, "sent %s  received %s  acked %s",
             human_us((double)jint(j, "last_data_sent") * 1e3, a, sizeof a),
             human_us((double)jint(j, "last_data_recv") * 1e3, b, sizeof b),
             human_us((double)jint(j, "last_ack_recv") * 1e3, c, sizeof c));
    line(out, "last, ago", text);
}

static void print_sending(FILE *out, const json_t *j)
{
    char a[32], b[32], c[32], text[240];
    json_int_t ssthresh = jint(j, "snd_ssthresh");

    snprintf(b, sizeof b, "%lld", (long long)ssthresh);
    snprintf(text, sizeof text,
             "%s  cwnd %lld  ssthresh %s  %s  in flight %lld  sacked %lld  lost %lld  retrans %lld/%lld",
             jstr(j, "congestion"), (long long)jint(j, "snd_cwnd"), ssthresh >= 0x7fffffff ? "none" : b, jstr(j, "ca_state"),
             (long long)jint(j, "unacked"), (long long)jint(j, "sacked"), (long long)jint(j, "lost"),
             (long long)jint(j, "retrans"), (long long)jint(j, "total_retrans"));
    line(out, "congestion", text);
    snprintf(text, sizeof text, "%s  delivered %lld  delivery %s",
             human_bytes((uint64_t)jint(j, "bytes_acked"), a, sizeof a), (long long)jint(j, "delivered"),
             human_rate((uint64_t)jint(j, "delivery_rate"), b, sizeof b));
    line(out, "sent", text);
    snprintf(text, sizeof text, "%s  not sent %lld", human_bytes((uint64_t)jint(j, "snd_wnd"), a, sizeof a),
             (long long)jint(j, "notsent_bytes"));
    line(out, "peer's window", text);
    snprintf(text, sizeof text, "%s of %s", human_bytes((uint64_t)jint(j, "sndbuf_used"), a, sizeof a),
             human_bytes((uint64_t)jint(j, "sndbuf"), b, sizeof b));
    line(out, "send buffer", text);
    snprintf(text, sizeof text, "%s, of this held back by the peer's window %s, by the send buffer %s",
             human_us((double)jint(j, "busy_time"), a, sizeof a), human_us((double)jint(j, "rwnd_limited"), b, sizeof b),
             human_us((double)jint(j, "sndbuf_limited"), c, sizeof c));
    line(out, "busy", text);
}

static void print_receiving(FILE *out, const json_t *j)
{
    char a[32], b[32], c[32], text[240];

    snprintf(text, sizeof text, "%s  out of order %lld",
             human_bytes((uint64_t)jint(j, "bytes_received"), a, sizeof a),
             (long long)jint(j, "rcv_ooopack"));
    line(out, "received", text);
    snprintf(text, sizeof text, "%s  unread %s", human_bytes((uint64_t)jint(j, "rcv_open"), a, sizeof a),
             human_bytes((uint64_t)jint(j, "unread_bytes"), b, sizeof b));
    line(out, "our window", text);
    snprintf(text, sizeof text, "%s of %s, out of order %s",
             human_bytes((uint64_t)jint(j, "rcvbuf_used"), a, sizeof a),
             human_bytes((uint64_t)jint(j, "rcvbuf"), b, sizeof b),
             human_bytes((uint64_t)jint(j, "ooo_bytes"), c, sizeof c));
    line(out, "receive buffer", text);
    snprintf(text, sizeof text, "out %lld  in %lld  with data out %lld  in %lld",
             (long long)jint(j, "segs_out"), (long long)jint(j, "segs_in"),
             (long long)jint(j, "data_segs_out"), (long long)jint(j, "data_segs_in"));
    line(out, "segments", text);
}

static void print_counts(FILE *out, const json_t *j, const char *key, const char *title)
{
    const char *name;
    json_t *o = json_object_get(j, key), *v;

    if (json_object_size(o) == 0)
        return;
    fprintf(out, "  %s\n", title);
    json_object_foreach(o, name, v) fprintf(out, "    %-26s %12lld\n", name, (long long)json_integer_value(v));
}

void conn_page(FILE *out, const json_t *j)
{
    const json_t *pump = json_object_get(j, "pump");

    print_head(out, j);
    print_negotiated(out, j);
    print_times(out, j);
    print_sending(out, j);
    print_receiving(out, j);
    if (json_is_object(pump)) {
        char a[32], b[32], text[128];

        snprintf(text, sizeof text, "%s given, %s taken, %lld bytes wait",
                 human_bytes((uint64_t)jint(pump, "bytes_in"), a, sizeof a),
                 human_bytes((uint64_t)jint(pump, "bytes_out"), b, sizeof b),
                 (long long)jint(pump, "undelivered"));
        line(out, "program", text);
    }
    print_counts(out, j, "causes", "why segments were sent");
    print_counts(out, j, "drops", "why segments were not used");
}

int cmd_conn(struct cli *c, int argc, char **argv)
{
    int status;
    json_t *j;

    if (argc != 2)
        return cli_usage("conn ID");
    j = cli_call(c, "conn.get", json_pack("{s:s}", "id", argv[1]), &status);
    if (j && c->json)
        cli_print_json(j);
    else if (j)
        conn_page(stdout, j);
    json_decref(j);
    return status;
}

static int simple(struct cli *c, const char *method, json_t *params)
{
    int status;
    json_t *j = cli_call(c, method, params, &status);

    if (j && c->json)
        cli_print_json(j);
    json_decref(j);
    return status;
}

int cmd_close(struct cli *c, int argc, char **argv)
{
    return argc == 2 ? simple(c, "conn.close", json_pack("{s:s}", "id", argv[1])) : cli_usage("close ID");
}

int cmd_abort(struct cli *c, int argc, char **argv)
{
    return argc == 2 ? simple(c, "conn.abort", json_pack("{s:s}", "id", argv[1])) : cli_usage("abort ID");
}

int cmd_set(struct cli *c, int argc, char **argv)
{
    int status;
    long value = 0;
    json_t *j;
    bool named = argc == 4 && strcmp(argv[2], "congestion") == 0;

    if (argc != 4)
        return cli_usage("set ID OPTION VALUE");
    if (!named && !cli_number("VALUE", argv[3], -2147483647L - 1, 2147483647L, &value))
        return EXIT_USAGE;
    j = cli_call(c, "conn.set",
                 json_pack("{s:s, s:s, s:o}", "id", argv[1], "option", argv[2], "value",
                           named ? json_string(argv[3]) : json_integer(value)),
                 &status);
    if (j && c->json)
        cli_print_json(j);
    else if (j && named)
        printf("%s = %s\n", jstr(j, "option"), jstr(j, "value"));
    else if (j)
        printf("%s = %lld\n", jstr(j, "option"), (long long)jint(j, "value"));
    json_decref(j);
    return status;
}
