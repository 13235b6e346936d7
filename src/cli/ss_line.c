/*
 * cli/ss_line.c: owner, timer, id, buffers and tcp_info of one connection, in the order and with the names that ss(8)
 * prints them, each left out where ss leaves it out (mostly: where it is 0 or unchanged from its default). taut's own
 * stand at the end: waits_for. Rates are bits a second; times are milliseconds as in ss.
 */
#include "cli/ss_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static double num(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

static bool has_option(const json_t *j, const char *name)
{
    const json_t *o;
    size_t i;

    json_array_foreach(json_object_get(j, "options"), i, o)
        if (strcmp(json_string_value(o), name) == 0)
            return true;
    return false;
}

static const char *bps(const struct ss_show *show, double bits, char *buf, size_t n)
{
    static const char *const prefix[] = {"", "K", "M", "G", "T"};
    unsigned i = 0;

    if (show->numeric) {
        snprintf(buf, n, "%.0fbps", bits);
        return buf;
    }
    while (bits >= 999.5 && i < 4) {
        bits /= 1000;
        i++;
    }
    snprintf(buf, n, "%.3g%sbps", bits, prefix[i]);
    return buf;
}

/* " name:value" unless it is 0. */
static void count(FILE *out, const json_t *j, const char *key, const char *name)
{
    double v = num(j, key);

    if (v > 0)
        fprintf(out, " %s:%.0f", name, v);
}

static void timer(FILE *out, const json_t *j)
{
    const char *name = jstr(j, "timer");
    double ms = num(j, "timer_expires") / 1e3;
    double tries = num(j, "probes") > 0 ? num(j, "probes") : num(j, "retransmits");

    if (!name[0] || strcmp(name, "off") == 0)
        return;
    fprintf(out, " timer:(%s,", name);
    if (ms >= 600e3)
        fprintf(out, "%.0fmin", ms / 60e3);
    else if (ms >= 60e3)
        fprintf(out, "%dmin%dsec", (int)(ms / 60e3), (int)(ms / 1e3) % 60);
    else if (ms >= 10e3)
        fprintf(out, "%.0fsec", ms / 1e3);
    else if (ms >= 1e3)
        fprintf(out, "%.3fsec", ms / 1e3);
    else
        fprintf(out, "%.0fms", ms);
    fprintf(out, ",%.0f)", tries);
}

static void memory(FILE *out, const json_t *j)
{
    fprintf(out, " skmem:(r%.0f,rb%.0f,t0,tb%.0f,f0,w%.0f,o0,bl0,d0)", num(j, "rcvbuf_used"), num(j, "rcvbuf"),
            num(j, "sndbuf"), num(j, "sndbuf_used"));
}

static void negotiated(FILE *out, const json_t *j, const struct ss_show *show)
{
    static const char *const names[][2] = {{"timestamps", "ts"}, {"sack", "sack"}, {"ecn", "ecn"},
                                           {"ecn_seen", "ecnseen"}, {"syn_data", "fastopen"}};

    for (size_t i = 0; show->timer && i < sizeof names / sizeof *names; i++)
        if (has_option(j, names[i][0]))
            fprintf(out, " %s", names[i][1]);
    if (jstr(j, "congestion")[0])
        fprintf(out, " %s", jstr(j, "congestion"));
    if (has_option(j, "wscale"))
        fprintf(out, " wscale:%.0f,%.0f", num(j, "snd_wscale"), num(j, "rcv_wscale"));
}

static void windows(FILE *out, const json_t *j)
{
    if (num(j, "rto") > 0 && num(j, "rto") != 3e6)
        fprintf(out, " rto:%g", num(j, "rto") / 1e3);
    count(out, j, "backoff", "backoff");
    if (num(j, "rtt") > 0)
        fprintf(out, " rtt:%g/%g", num(j, "rtt") / 1e3, num(j, "rttvar") / 1e3);
    if (num(j, "ato") > 0)
        fprintf(out, " ato:%g", num(j, "ato") / 1e3);
    count(out, j, "snd_mss", "mss");
    count(out, j, "pmtu", "pmtu");
    count(out, j, "rcv_mss", "rcvmss");
    count(out, j, "advmss", "advmss");
    if (num(j, "snd_cwnd") != 2)
        count(out, j, "snd_cwnd", "cwnd");
    if (num(j, "snd_ssthresh") < 0xffff)
        count(out, j, "snd_ssthresh", "ssthresh");
}

static void amounts(FILE *out, const json_t *j)
{
    static const char *const keys[][2] = {
        {"bytes_sent", "bytes_sent"},       {"bytes_retrans", "bytes_retrans"}, {"bytes_acked", "bytes_acked"},
        {"bytes_received", "bytes_received"}, {"segs_out", "segs_out"},         {"segs_in", "segs_in"},
        {"data_segs_out", "data_segs_out"}, {"data_segs_in", "data_segs_in"}};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        count(out, j, keys[i][0], keys[i][1]);
}

static void rates(FILE *out, const json_t *j, const struct ss_show *show)
{
    double rtt = num(j, "rtt"), mss = num(j, "snd_mss"), cwnd = num(j, "snd_cwnd");
    char b[48];

    if (rtt > 0 && mss > 0 && cwnd > 0)
        fprintf(out, " send %s", bps(show, cwnd * mss * 8e6 / rtt, b, sizeof b));
    count(out, j, "last_data_sent", "lastsnd");
    count(out, j, "last_data_recv", "lastrcv");
    count(out, j, "last_ack_recv", "lastack");
    if (num(j, "pacing_rate") > 0) {
        fprintf(out, " pacing_rate %s", bps(show, num(j, "pacing_rate") * 8, b, sizeof b));
        if (num(j, "max_pacing_rate") > 0)
            fprintf(out, "/%s", bps(show, num(j, "max_pacing_rate") * 8, b, sizeof b));
    }
    if (num(j, "delivery_rate") > 0)
        fprintf(out, " delivery_rate %s", bps(show, num(j, "delivery_rate") * 8, b, sizeof b));
    count(out, j, "delivered", "delivered");
    count(out, j, "delivered_ce", "delivered_ce");
    if (json_is_true(json_object_get(j, "delivery_rate_app_limited")))
        fputs(" app_limited", out);
}

static void limited(FILE *out, const json_t *j)
{
    static const char *const names[] = {"rwnd_limited", "sndbuf_limited"};
    double busy = num(j, "busy_time");

    if (busy <= 0)
        return;
    fprintf(out, " busy:%.0fms", busy / 1e3);
    for (int i = 0; i < 2; i++)
        if (num(j, names[i]) > 0)
            fprintf(out, " %s:%.0fms(%.1f%%)", names[i], num(j, names[i]) / 1e3, 100 * num(j, names[i]) / busy);
}

static void loss(FILE *out, const json_t *j)
{
    count(out, j, "unacked", "unacked");
    if (num(j, "retrans") > 0 || num(j, "total_retrans") > 0)
        fprintf(out, " retrans:%.0f/%.0f", num(j, "retrans"), num(j, "total_retrans"));
    count(out, j, "lost", "lost");
    count(out, j, "sacked", "sacked");
    count(out, j, "dsack_dups", "dsack_dups");
    if (num(j, "reordering") != 3)
        count(out, j, "reordering", "reordering");
    count(out, j, "reord_seen", "reord_seen");
}

static void receiving(FILE *out, const json_t *j)
{
    if (num(j, "rcv_rtt") > 0)
        fprintf(out, " rcv_rtt:%g", num(j, "rcv_rtt") / 1e3);
    count(out, j, "rcv_space", "rcv_space");
    count(out, j, "rcv_ssthresh", "rcv_ssthresh");
    count(out, j, "notsent_bytes", "notsent");
    if (num(j, "min_rtt") > 0)
        fprintf(out, " minrtt:%g", num(j, "min_rtt") / 1e3);
    count(out, j, "rcv_ooopack", "rcv_ooopack");
    count(out, j, "snd_wnd", "snd_wnd");
}

static void info(FILE *out, const json_t *j, const struct ss_show *show)
{
    const char *limit = jstr(j, "limit");

    negotiated(out, j, show);
    windows(out, j);
    amounts(out, j);
    rates(out, j, show);
    limited(out, j);
    loss(out, j);
    receiving(out, j);
    if (limit[0] && strcmp(limit, "NOTHING") != 0)
        fprintf(out, " waits_for:%s", limit);
}

/* Quotes inside are the owner's own: made single, so that the form can be parsed. */
static void owner(FILE *out, const json_t *j)
{
    fputs(" users:((\"", out);
    for (const char *p = jstr(j, "owner"); *p; p++)
        fputc(*p == '"' ? '\'' : *p, out);
    fputs("\"))", out);
}

char *ss_line(const json_t *conn, const struct ss_show *show)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    if (!out)
        return strdup("");
    if (show->owner)
        owner(out, conn);
    if (show->timer)
        timer(out, conn);
    if (show->extended)
        fprintf(out, " id:%s age:%.1fs", jstr(conn, "id"), num(conn, "age") / 1e6);
    if ((show->memory || show->info) && !show->one_line)
        fputs("\n\t", out);
    if (show->memory)
        memory(out, conn);
    if (show->info)
        info(out, conn, show);
    fclose(out);
    return text;
}

char *ss_listener_line(const json_t *listener, const struct ss_show *show)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    if (!out)
        return strdup("");
    if (show->owner)
        owner(out, listener);
    fclose(out);
    return text;
}
