/*
 * web/conn.c: a connection's page (theory of operation).
 *
 * conn.get in groups of people's words, then every number of it; the curves are drawn by the script from the samples that
 * the event stream sends (conn_sample() is one point). The time-sequence graph comes drawn (sequence.c), in the page and then
 * once a second, so that it is there without scripts too.
 */
#include "web/web.h"

#include <string.h>

static double num(json_t *c, const char *name)
{
    return web_number(c, NULL, name);
}

static void fact(FILE *out, const char *label)
{
    fprintf(out, "<tr><th>%s<td>", label);
}

static void ms(FILE *out, json_t *c, const char *name)
{
    if (num(c, name) > 0)
        fprintf(out, "%.3f ms", num(c, name) / 1000);
    else
        fputs("-", out);
}

static void who(FILE *out, json_t *c)
{
    fact(out, "State");
    esc(out, text_of(c, "state"));
    if (json_is_string(json_object_get(c, "error"))) {
        fputs(", ended by ", out);
        esc(out, text_of(c, "error"));
    }
    fact(out, "Local");
    esc(out, text_of(c, "local"));
    fact(out, "Peer");
    esc(out, text_of(c, "peer"));
    fact(out, "Owner");
    esc(out, text_of(c, "owner"));
    fact(out, "Age");
    duration(out, num(c, "age") / 1e6);
    fact(out, "Waits for");
    fputs("<b>", out);
    esc(out, text_of(c, "limit"));
    fputs("</b> ", out);
    esc(out, text_of(c, "limit_text"));
}

static void negotiated(FILE *out, json_t *c)
{
    json_t *o;
    size_t i;

    fact(out, "Options");
    json_array_foreach(json_object_get(c, "options"), i, o)
    {
        esc(out, json_string_value(o));
        fputs(" ", out);
    }
    fact(out, "Window scale");
    fprintf(out, "%.0f out, %.0f in", num(c, "snd_wscale"), num(c, "rcv_wscale"));
    fact(out, "MSS");
    fprintf(out, "%.0f (peer sends %.0f, path MTU %.0f)", num(c, "snd_mss"), num(c, "rcv_mss"), num(c, "pmtu"));
    fact(out, "Round trip");
    ms(out, c, "rtt");
    fputs(", smallest ", out);
    ms(out, c, "min_rtt");
    fact(out, "RTO");
    ms(out, c, "rto");
    fprintf(out, ", backoff %.0f", num(c, "backoff"));
}

static void sending(FILE *out, json_t *c)
{
    double ssthresh = num(c, "snd_ssthresh");

    fact(out, "Congestion");
    esc(out, text_of(c, "congestion"));
    fputs(", ", out);
    esc(out, text_of(c, "ca_state"));
    fact(out, "cwnd");
    fprintf(out, "%.0f segments, ssthresh ", num(c, "snd_cwnd"));
    fprintf(out, ssthresh < 0x7fffffff ? "%.0f" : "none", ssthresh);
    fact(out, "In flight");
    fprintf(out, "%.0f segments, %.0f sacked, %.0f lost", num(c, "unacked"), num(c, "sacked"), num(c, "lost"));
    fact(out, "Retransmitted");
    fprintf(out, "%.0f segments", num(c, "total_retrans"));
    fact(out, "Sent");
    scaled(out, num(c, "bytes_acked"), "B");
    fputs(" acknowledged, ", out);
    scaled(out, num(c, "notsent_bytes"), "B");
    fputs(" not sent", out);
    fact(out, "Peer's window");
    scaled(out, num(c, "snd_wnd"), "B");
    fact(out, "Send buffer");
    scaled(out, num(c, "sndbuf_used"), "B");
    fputs(" of ", out);
    scaled(out, num(c, "sndbuf"), "B");
    fact(out, "Pacing, delivery");
    scaled(out, 8 * num(c, "pacing_rate"), "bit/s");
    fputs(", ", out);
    scaled(out, 8 * num(c, "delivery_rate"), "bit/s");
}

static void receiving(FILE *out, json_t *c)
{
    fact(out, "Received");
    scaled(out, num(c, "bytes_received"), "B");
    fprintf(out, ", %.0f segments out of order", num(c, "rcv_ooopack"));
    fact(out, "Our window");
    scaled(out, num(c, "rcv_wnd"), "B");
    fact(out, "Unread");
    scaled(out, num(c, "unread_bytes"), "B");
    fact(out, "Receive buffer");
    scaled(out, num(c, "rcvbuf_used"), "B");
    fputs(" of ", out);
    scaled(out, num(c, "rcvbuf"), "B");
    fact(out, "Segments");
    fprintf(out, "%.0f in, %.0f out", num(c, "segs_in"), num(c, "segs_out"));
}

static void group(FILE *out, const char *title, json_t *c, void (*write)(FILE *out, json_t *c))
{
    fprintf(out, "<section><h2>%s</h2><table class=\"facts\">", title);
    write(out, c);
    fputs("</table></section>", out);
}

static void counts(FILE *out, const char *title, json_t *o)
{
    const char *name;
    json_t *v;

    if (!json_object_size(o))
        return;
    fprintf(out, "<section><h2>%s</h2><table class=\"facts\">", title);
    json_object_foreach(o, name, v)
    {
        fputs("<tr><td><code>", out);
        esc(out, name);
        fprintf(out, "</code><td class=\"n\">%.0f", json_number_value(v));
    }
    fputs("</table></section>", out);
}

/* Every number, as Linux's tcp_info has it. */
static void numbers(FILE *out, json_t *c)
{
    const char *name;
    json_t *v;

    fputs("<section class=\"whole\"><h2>tcp_info</h2><div class=\"numbers\">", out);
    json_object_foreach(c, name, v)
    {
        if (!json_is_number(v) && (!json_is_null(v) || !strcmp(name, "error") || !strcmp(name, "pump")))
            continue;
        fputs("<div><code>", out);
        esc(out, name);
        if (json_is_null(v))
            fputs("</code><span>-</span></div>", out);
        else
            fprintf(out, "</code><span>%.0f</span></div>", json_number_value(v));
    }
    fputs("</div></section>", out);
}

void conn_facts(FILE *out, json_t *c)
{
    fputs("<div class=\"two\">", out);
    group(out, "Connection", c, who);
    group(out, "Path", c, negotiated);
    group(out, "Sending", c, sending);
    group(out, "Receiving", c, receiving);
    counts(out, "Why segments were sent", json_object_get(c, "causes"));
    counts(out, "Why segments were not used", json_object_get(c, "drops"));
    fputs("</div>", out);
    numbers(out, c);
}

json_t *conn_sample(json_t *c)
{
    static const char *const keys[] = {"snd_cwnd",  "snd_ssthresh",   "unacked", "rtt",     "min_rtt",
                                       "rto",       "bytes_acked",    "bytes_received", "snd_mss", "total_retrans",
                                       "snd_wnd",   "pacing_rate", "delivery_rate", "age"};
    json_t *s = json_object();

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set(s, keys[i], json_object_get(c, keys[i]));
    return s;
}

static void form(FILE *out, const struct web *w, const char *id, const char *verb, const char *label)
{
    fprintf(out, "<form method=\"post\" action=\"/connections/%s/%s\"><input type=\"hidden\" name=\"token\" value=\"%s\">"
                 "<button>%s</button></form>",
            id, verb, w->token, label);
}

void page_connection(FILE *out, struct web *w, const char *id, json_t *conn, const char *error, bool forms)
{
    char live[TAUT_ID_MAX + 32];

    snprintf(live, sizeof live, "/connections/%s/events", id);
    page_begin(out, "taut: connection", conn ? live : NULL);
    fputs("<p><a href=\"/\">Overview</a></p><h1>Connection <code>", out);
    esc(out, id);
    fputs("</code></h1>", out);
    if (!conn) {
        fputs("<p>", out);
        esc(out, error);
        fputs("</p>", out);
        page_end(out);
        return;
    }
    if (w->control && !forms) {
        fputs("<p class=\"dim\">It can be closed under an address, localhost or a name of --host only.</p>", out);
    } else if (w->control) {
        fputs("<div class=\"verbs\">", out);
        form(out, w, id, "close", "Close (FIN)");
        form(out, w, id, "abort", "Abort (RST)");
        fputs("</div>", out);
    }
    fputs("<p id=\"live\" class=\"dim\"></p><h2>Sequence numbers, the last seconds</h2><div id=\"sequence\">", out);
    sequence_graph(out, w, id);
    fputs("</div><div id=\"curves\"></div><div id=\"facts\">", out);
    conn_facts(out, conn);
    fputs("</div>", out);
    page_end(out);
}
