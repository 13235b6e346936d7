/*
 * web/page.c: the overview as HTML (theory of operation).
 *
 * It is made of parts, each the content of one element; the page writes all of them, and the event stream (live.c) sends
 * again those that changed. So what a browser without scripts sees and what a live one sees cannot differ. Nothing is kept.
 */
#include "web/web.h"

#include <string.h>

static const char *const states[] = {"ESTABLISHED", "SYN_SENT", "SYN_RECV", "NEW_SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
                                     "TIME_WAIT",   "CLOSE_WAIT", "LAST_ACK", "CLOSING"};

/* ---- Head and cards ---------------------------------------------------------------------------------------------------- */

static void part_head(FILE *out, const struct web_data *d)
{
    json_t *interface = json_object_get(d->status, "interface"), *addr;
    size_t i;

    fputs("<h1>taut on ", out);
    esc(out, text_of(interface, "name"));
    fputs("</h1><p class=\"dim\">version ", out);
    esc(out, text_of(d->status, "version"));
    fputs(", up ", out);
    duration(out, web_number(d->status, NULL, "uptime_s"));
    fprintf(out, ", MTU %.0f, link %s%s; addresses", web_number(interface, NULL, "mtu"),
            json_is_true(json_object_get(interface, "up")) ? "up" : "<b>down</b>",
            json_is_true(json_object_get(d->status, "draining")) ? ", <b>ending</b>" : "");
    json_array_foreach(json_object_get(d->status, "addresses"), i, addr)
    {
        fputs(" <code>", out);
        esc(out, text_of(addr, "address"));
        fprintf(out, "/%.0f</code>", web_number(addr, NULL, "prefix"));
    }
    fputs("</p>", out);
}

static void card(FILE *out, const char *label, double v, const char *unit)
{
    fputs("<div class=\"card\"><b>", out);
    scaled(out, v, unit);
    fprintf(out, "</b><span class=\"dim\">%s</span></div>", label);
}

static void part_cards(FILE *out, const struct web_data *d)
{
    const struct web_sample *now = &d->now, *before = &d->before;
    double dt = before->at_s > 0 ? now->at_s - before->at_s : 0;

    card(out, "established", web_number(d->status, "totals", "established"), "");
    card(out, "half-open", web_number(d->status, "totals", "half_open"), "");
    card(out, "time-wait", web_number(d->status, "totals", "time_wait"), "");
    card(out, "orphans", web_number(d->status, "totals", "orphans"), "");
    card(out, "buffers in use", web_number(d->status, "memory", "chunk_bytes_used"), "B");
    if (dt <= 0)
        return;
    card(out, "received", 8 * (now->in_bytes - before->in_bytes) / dt, "bit/s");
    card(out, "sent", 8 * (now->out_bytes - before->out_bytes) / dt, "bit/s");
    card(out, "retransmitted", (now->retrans - before->retrans) / dt, "/s");
    card(out, "dropped", (now->drops - before->drops) / dt, "/s");
}

/* ---- Connections ------------------------------------------------------------------------------------------------------- */

void select_query(FILE *out, const struct web_select *s, const char *after, bool html)
{
    const char *join = "?", *next = html ? "&amp;" : "&";

    if (after[0])
        fprintf(out, "%safter=%s", join, after), join = next;
    if (s->state[0])
        fprintf(out, "%sstate=%s", join, s->state), join = next;
    if (s->local_port >= 0)
        fprintf(out, "%sport=%d", join, s->local_port), join = next;
    if (s->peer_port >= 0)
        fprintf(out, "%speer_port=%d", join, s->peer_port), join = next;
    if (s->active)
        fprintf(out, "%sactive=1", join), join = next;
    if (s->rows != WEB_ROWS_DEFAULT)
        fprintf(out, "%srows=%u", join, s->rows);
}

/* As ss(8) has it: a table on a phone has no room for more. */
static const char *short_state(const char *state)
{
    return !strcmp(state, "ESTABLISHED") ? "ESTAB" : !strcmp(state, "NEW_SYN_RECV") ? "SYN_RECV" : state;
}

static void row(FILE *out, json_t *c)
{
    const char *limit = text_of(c, "limit");

    fputs("<tr><td><a href=\"/connections/", out);
    esc(out, text_of(c, "id"));
    fputs("\">", out);
    esc(out, text_of(c, "peer"));
    fputs("</a><td class=\"wide\">", out);
    esc(out, text_of(c, "local"));
    fputs("<td>", out);
    esc(out, short_state(text_of(c, "state")));
    fputs("<td class=\"wide\">", out);
    esc(out, text_of(c, "owner"));
    fputs("<td class=\"n\">", out);
    scaled(out, web_number(c, NULL, "bytes_in"), "B");
    fputs("<td class=\"n\">", out);
    scaled(out, web_number(c, NULL, "bytes_out"), "B");
    if (web_number(c, NULL, "rtt_us") > 0)
        fprintf(out, "<td class=\"n wide\">%.3f ms", web_number(c, NULL, "rtt_us") / 1000);
    else
        fputs("<td class=\"n wide\">-", out);
    fprintf(out, "<td class=\"n wide\">%.0f<td>", web_number(c, NULL, "cwnd"));
    esc(out, strcmp(limit, "NOTHING") == 0 ? "-" : limit);
}

static void part_conns(FILE *out, const struct web_data *d)
{
    json_t *rows = json_object_get(d->conns, "connections"), *c;
    const char *next = text_of(d->conns, "next");
    size_t i;

    if (!d->conns) {
        fputs("<p>", out);
        esc(out, d->error);
        fputs("</p>", out);
        return;
    }
    fprintf(out, "<p class=\"dim\">%zu shown of %.0f.", json_array_size(rows), web_number(d->conns, NULL, "total"));
    if (d->select.after[0]) {
        fputs(" <a href=\"/", out);
        select_query(out, &d->select, "", true);
        fputs("\">First page</a>", out);
    }
    if (next[0]) {
        fputs(" <a href=\"/", out);
        select_query(out, &d->select, next, true);
        fputs("\">Next page</a>", out);
    }
    fputs("</p>", out);
    if (!json_array_size(rows))
        return;
    fputs("<table><tr><th>Peer<th class=\"wide\">Local<th>State<th class=\"wide\">Owner<th class=\"n\">In"
          "<th class=\"n\">Out<th class=\"n wide\">RTT<th class=\"n wide\">cwnd<th>Waits for</tr>",
          out);
    json_array_foreach(rows, i, c) row(out, c);
    fputs("</table>", out);
}

static void port_field(FILE *out, const char *name, const char *label, int value)
{
    fprintf(out, "<label>%s <input name=\"%s\" inputmode=\"numeric\" size=\"5\" maxlength=\"5\" value=\"", label, name);
    if (value >= 0)
        fprintf(out, "%d", value);
    fputs("\"></label> ", out);
}

static void filter_form(FILE *out, const struct web_select *s)
{
    fputs("<form class=\"filter\" method=\"get\" action=\"/\"><label>State <select name=\"state\"><option value=\"\">all",
          out);
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        fprintf(out, "<option%s>%s", strcmp(states[i], s->state) == 0 ? " selected" : "", states[i]);
    fputs("</select></label> ", out);
    port_field(out, "port", "Local port", s->local_port);
    port_field(out, "peer_port", "Peer's port", s->peer_port);
    fprintf(out, "<label><input type=\"checkbox\" name=\"active\" value=\"1\"%s> active in the last 10 s</label> ",
            s->active ? " checked" : "");
    fputs("<button>Show</button></form>", out);
}

/* ---- Queues and counters ----------------------------------------------------------------------------------------------- */

static void part_queues(FILE *out, const struct web_data *d)
{
    json_t *list = json_object_get(d->status, "listeners"), *l;
    size_t i;

    fputs("<table><tr><th>Listening on<th>Owner<th class=\"n\">Half-open<th class=\"n\">To accept<th class=\"n\">Backlog</tr>",
          out);
    json_array_foreach(list, i, l)
    {
        double queue = web_number(l, NULL, "accept_queue"), backlog = web_number(l, NULL, "backlog");

        fputs("<tr><td>", out);
        esc(out, text_of(l, "address"));
        fputs("<td>", out);
        esc(out, text_of(l, "owner"));
        fprintf(out, "<td class=\"n\">%.0f<td class=\"n\">%s%.0f%s<td class=\"n\">%.0f", web_number(l, NULL, "half_open"),
                queue > backlog ? "<b class=\"bad\">" : "", queue, queue > backlog ? " full</b>" : "", backlog);
    }
    fputs("</table>", out);
}

/* A group of stats.get whose entries are {value, help}, the non-zero ones. */
static void counter_table(FILE *out, json_t *group, const char *none)
{
    const char *name;
    json_t *v;
    unsigned n = 0;

    json_object_foreach(group, name, v)
    {
        double value = json_number_value(json_object_get(v, "value"));

        if (value == 0)
            continue;
        fputs(n++ ? "<tr><td><code>" : "<table><tr><td><code>", out);
        esc(out, name);
        fprintf(out, "</code><td class=\"n\">%.0f<td class=\"help\">", value);
        esc(out, text_of(v, "help"));
    }
    fputs(n ? "</table>" : "<p class=\"dim\">", out);
    if (!n)
        fprintf(out, "%s</p>", none);
}

static void part_drops(FILE *out, const struct web_data *d)
{
    counter_table(out, json_object_get(d->stats, "tcp_drops"), "None.");
}

static void part_stack_drops(FILE *out, const struct web_data *d)
{
    counter_table(out, json_object_get(d->stats, "stack_drops"), "None.");
}

static void part_causes(FILE *out, const struct web_data *d)
{
    counter_table(out, json_object_get(d->stats, "tcp_causes"), "None yet.");
}

static void part_counters(FILE *out, const struct web_data *d)
{
    counter_table(out, json_object_get(d->stats, "tcp"), "None yet.");
}

/* ---- The whole --------------------------------------------------------------------------------------------------------- */

const struct page_part overview_parts[] = {
    {"head", part_head},     {"cards", part_cards},           {"conns", part_conns},   {"queues", part_queues},
    {"drops", part_drops},   {"stack-drops", part_stack_drops}, {"causes", part_causes}, {"counters", part_counters},
    {NULL, NULL},
};

static void part(FILE *out, const struct web_data *d, const char *name, const char *title, const char *class)
{
    const struct page_part *p = overview_parts;

    while (strcmp(p->name, name) != 0)
        p++;
    if (title)
        fprintf(out, "<section><h2>%s</h2>", title);
    fprintf(out, "<div id=\"%s\" class=\"%s\">", name, class);
    p->write(out, d);
    fputs(title ? "</div></section>" : "</div>", out);
}

void page_overview(FILE *out, const struct web_data *d)
{
    char *live = NULL;
    size_t bytes;
    FILE *path = open_memstream(&live, &bytes);

    if (!path)
        return;
    fputs("/events", path);
    select_query(path, &d->select, d->select.after, false);
    fclose(path);
    page_begin(out, "taut", live);
    free(live);
    part(out, d, "head", NULL, "");
    part(out, d, "cards", NULL, "cards");
    fputs("<p id=\"live\" class=\"dim\"></p><section><h2>Connections</h2>", out);
    filter_form(out, &d->select);
    part(out, d, "conns", NULL, "scroll");
    fputs("</section><div class=\"two\">", out);
    part(out, d, "queues", "Half-open and accept queues", "scroll");
    part(out, d, "causes", "Segments sent, by cause", "scroll");
    part(out, d, "drops", "TCP segments dropped, by reason", "scroll");
    part(out, d, "stack-drops", "Frames and packets dropped, by reason", "scroll");
    fputs("</div>", out);
    part(out, d, "counters", "TCP counters", "scroll");
    fputs("<p class=\"dim\">For programs: <a href=\"/metrics\">/metrics</a> (OpenMetrics), "
          "<a href=\"/api/status\">/api/status</a>, <a href=\"/api/connections\">/api/connections</a>, "
          "<a href=\"/api/stats\">/api/stats</a> (JSON).</p>", out);
    page_end(out);
}
