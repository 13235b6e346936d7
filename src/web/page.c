/*
 * web/page.c: the status page as HTML (theory of operation).
 *
 * Plain tables without scripts or outside assets, laid out by a few CSS rules that also serve a narrow screen (tables
 * scroll, cards stack) and dark mode. Every text that came from outside goes through esc(). Functions write a piece each
 * to a stream; nothing is kept.
 */
#include "web/web.h"

#include <math.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--line:#8884;--dim:#888;--acc:#0a7d55}"
    "body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem}"
    "h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}"
    "a{color:var(--acc)}.dim{color:var(--dim)}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem;margin:1rem 0}"
    ".card{border:1px solid var(--line);border-radius:.5rem;padding:.5rem .7rem}"
    ".card b{display:block;font-size:1.3rem;font-variant-numeric:tabular-nums}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);white-space:nowrap}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.w{white-space:normal}"
    "code{font-size:.95em}";

static void esc(FILE *out, const char *text)
{
    for (; text && *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '>')
            fputs("&gt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '"')
            fputs("&quot;", out);
        else
            fputc(*text, out);
    }
}

static const char *text_of(json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));

    return s ? s : "";
}

/* 1234567 -> "1.23 M" */
static void scaled(FILE *out, double v, const char *unit)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T"};
    unsigned i = 0;

    while (fabs(v) >= 1000 && i < 4) {
        v /= 1000;
        i++;
    }
    fprintf(out, i || v != floor(v) ? "%.3g %s%s" : "%.0f %s%s", v, prefixes[i], unit);
}

static void duration(FILE *out, double s)
{
    if (s < 60)
        fprintf(out, "%.0f s", s);
    else if (s < 3600)
        fprintf(out, "%d min %d s", (int)s / 60, (int)s % 60);
    else if (s < 86400)
        fprintf(out, "%d h %d min", (int)s / 3600, (int)s / 60 % 60);
    else
        fprintf(out, "%d d %d h", (int)(s / 86400), (int)s / 3600 % 24);
}

static void begin(FILE *out, const char *title, bool refresh)
{
    fputs("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">", out);
    if (refresh)
        fputs("<meta http-equiv=\"refresh\" content=\"5\">", out);
    fputs("<title>", out);
    esc(out, title);
    fprintf(out, "</title><style>%s</style></head><body>", style);
}

static void end(FILE *out)
{
    fputs("</body></html>\n", out);
}

static void card(FILE *out, const char *label, double v, const char *unit)
{
    fputs("<div class=\"card\"><b>", out);
    scaled(out, v, unit);
    fprintf(out, "</b><span class=\"dim\">%s</span></div>", label);
}

static void cards(FILE *out, const struct web_data *d, const struct web_sample *now, const struct web_sample *before)
{
    double dt = before->at_s > 0 ? now->at_s - before->at_s : 0;

    fputs("<div class=\"cards\">", out);
    card(out, "established", web_number(d->status, "totals", "established"), "");
    card(out, "half-open", web_number(d->status, "totals", "half_open"), "");
    card(out, "time-wait", web_number(d->status, "totals", "time_wait"), "");
    card(out, "orphans", web_number(d->status, "totals", "orphans"), "");
    if (dt > 0) {
        card(out, "received", 8 * (now->in_bytes - before->in_bytes) / dt, "bit/s");
        card(out, "sent", 8 * (now->out_bytes - before->out_bytes) / dt, "bit/s");
        card(out, "retransmitted", (now->retrans - before->retrans) / dt, "segments/s");
    }
    card(out, "buffers in use", web_number(d->status, "memory", "chunk_bytes_used"), "B");
    fputs("</div>", out);
    if (dt > 0)
        fprintf(out, "<p class=\"dim\">Rates over the last %.1f s, since the look before.</p>", dt);
}

static void connections(FILE *out, json_t *list)
{
    json_t *rows = json_object_get(list, "connections"), *c;
    size_t i;

    fprintf(out, "<h2>Connections (%.0f)</h2><div class=\"scroll\"><table><tr><th>ID<th>State<th>Local<th>Peer"
                 "<th>Owner<th class=n>RTT<th class=n>cwnd<th class=n>In<th class=n>Out<th>Waits for</tr>",
            json_number_value(json_object_get(list, "total")));
    json_array_foreach(rows, i, c)
    {
        const char *id = text_of(c, "id");

        fputs("<tr><td><a href=\"/connections/", out);
        esc(out, id);
        fputs("\"><code>", out);
        esc(out, id);
        fputs("</code></a>", out);
        for (const char *const *k = (const char *const[]){"state", "local", "peer", "owner", NULL}; *k; k++) {
            fputs("<td>", out);
            esc(out, text_of(c, *k));
        }
        fprintf(out, "<td class=n>%.3f ms<td class=n>%.0f<td class=n>", web_number(c, NULL, "rtt_us") / 1000,
                web_number(c, NULL, "cwnd"));
        scaled(out, web_number(c, NULL, "bytes_in"), "B");
        fputs("<td class=n>", out);
        scaled(out, web_number(c, NULL, "bytes_out"), "B");
        fputs("<td>", out);
        esc(out, text_of(c, "limit"));
    }
    fputs("</table></div>", out);
    if (json_is_string(json_object_get(list, "next")))
        fprintf(out, "<p class=\"dim\">Only the first %zu are shown; /api/connections pages through all.</p>",
                json_array_size(rows));
}

/* A group of stats.get whose entries are {value, help}, the non-zero ones. */
static void counter_table(FILE *out, const char *title, json_t *group, const char *none)
{
    const char *name;
    json_t *v;
    unsigned n = 0;

    fprintf(out, "<h2>%s</h2>", title);
    json_object_foreach(group, name, v)
    {
        double value = json_number_value(json_object_get(v, "value"));

        if (value == 0)
            continue;
        fputs(n++ ? "<tr><td><code>" : "<div class=\"scroll\"><table><tr><td><code>", out);
        esc(out, name);
        fprintf(out, "</code><td class=n>%.0f<td class=w>", value);
        esc(out, text_of(v, "help"));
    }
    fputs(n ? "</table></div>" : "<p class=\"dim\">", out);
    if (!n)
        fprintf(out, "%s</p>", none);
}

static void head(FILE *out, json_t *status)
{
    json_t *interface = json_object_get(status, "interface"), *addr;
    json_t *addresses = json_object_get(status, "addresses");
    size_t i;

    fputs("<h1>taut on ", out);
    esc(out, text_of(interface, "name"));
    fputs("</h1><p>Version ", out);
    esc(out, text_of(status, "version"));
    fputs(", up for ", out);
    duration(out, web_number(status, NULL, "uptime_s"));
    fprintf(out, ", MTU %.0f, link %s. Addresses:", web_number(interface, NULL, "mtu"),
            json_is_true(json_object_get(interface, "up")) ? "up" : "<b>down</b>");
    json_array_foreach(addresses, i, addr)
    {
        fputs(" <code>", out);
        esc(out, text_of(addr, "address"));
        fprintf(out, "/%.0f</code>", web_number(addr, NULL, "prefix"));
    }
    fputs("</p>", out);
}

void page_index(FILE *out, const struct web_data *d, const struct web_sample *now, const struct web_sample *before)
{
    begin(out, "taut", true);
    head(out, d->status);
    cards(out, d, now, before);
    connections(out, d->conns);
    counter_table(out, "TCP segments dropped, by reason", json_object_get(d->stats, "tcp_drops"), "None.");
    counter_table(out, "Frames and packets dropped, by reason", json_object_get(d->stats, "stack_drops"), "None.");
    counter_table(out, "Segments sent, by cause", json_object_get(d->stats, "tcp_causes"), "None yet.");
    counter_table(out, "TCP counters", json_object_get(d->stats, "tcp"), "None yet.");
    fputs("<p class=\"dim\">For programs: <a href=\"/metrics\">/metrics</a> (OpenMetrics), "
          "<a href=\"/api/status\">/api/status</a>, <a href=\"/api/connections\">/api/connections</a>, "
          "<a href=\"/api/stats\">/api/stats</a> (JSON).</p>", out);
    end(out);
}

static void value_cell(FILE *out, json_t *v)
{
    char *text;

    if (json_is_string(v)) {
        esc(out, json_string_value(v));
        return;
    }
    text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    esc(out, text);
    free(text);
}

void page_connection(FILE *out, const char *id, json_t *conn, const char *error)
{
    const char *name;
    json_t *v;

    begin(out, "taut: connection", conn != NULL);
    fputs("<p><a href=\"/\">All connections</a></p><h1>Connection <code>", out);
    esc(out, id);
    fputs("</code></h1>", out);
    if (!conn) {
        fputs("<p>", out);
        esc(out, error);
        fputs("</p>", out);
    }
    fputs(conn ? "<div class=\"scroll\"><table>" : "", out);
    json_object_foreach(conn, name, v)
    {
        fputs("<tr><td>", out);
        esc(out, name);
        fputs("<td class=w><code>", out);
        value_cell(out, v);
        fputs("</code>", out);
    }
    fputs(conn ? "</table></div>" : "", out);
    end(out);
}

void page_error(FILE *out, const char *title, const char *text)
{
    begin(out, title, false);
    fputs("<h1>", out);
    esc(out, title);
    fputs("</h1><p>", out);
    esc(out, text);
    fputs("</p>", out);
    end(out);
}
