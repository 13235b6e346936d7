/*
 * web/metrics.c: the counters for a scraper (theory of operation).
 *
 * Two forms of one content: OpenMetrics text where the scraper accepts it (families are named without _total, units are
 * declared, "# EOF" ends it), else Prometheus' older text format. Counters of stats.get become taut_GROUP_NAME_total with
 * the daemon's own help text, CamelCase becoming snake_case and a unit the last word; drops and causes are one family each
 * with a bounded label (the enumeration's names); totals of server.status are gauges, states of connections disjoint so
 * that they may be summed.
 */
#include "web/web.h"

#include <ctype.h>
#include <string.h>

struct writer {
    FILE *out;
    bool openmetrics;
};

/* "TCPInBytes" -> "tcp_in_bytes", "RetransSegs" -> "retrans_segs" */
static void snake(const char *name, char *ret, size_t bytes)
{
    size_t at = 0;

    for (size_t i = 0; name[i] && at + 2 < bytes; i++) {
        bool upper = isupper((unsigned char)name[i]);
        bool after_lower = i && (islower((unsigned char)name[i - 1]) || isdigit((unsigned char)name[i - 1]));
        bool before_lower = i && upper && isupper((unsigned char)name[i - 1]) && islower((unsigned char)name[i + 1]);

        if (upper && (after_lower || before_lower))
            ret[at++] = '_';
        ret[at++] = isalnum((unsigned char)name[i]) ? (char)tolower((unsigned char)name[i]) : '_';
    }
    ret[at] = '\0';
}

/* "program_bytes_out" -> "program_out_bytes": a unit is the name's last word. */
static void unit_last(char *name)
{
    static const char unit[] = "_bytes";
    char *at = strstr(name, "_bytes_");

    if (!at)
        return;
    memmove(at, at + sizeof unit - 1, strlen(at + sizeof unit - 1) + 1);
    strcat(name, unit);
}

static const char *unit_of(const char *name)
{
    static const char *const units[] = {"bytes", "seconds"};
    const char *last = strrchr(name, '_');

    for (size_t i = 0; last && i < sizeof units / sizeof *units; i++)
        if (strcmp(last + 1, units[i]) == 0)
            return units[i];
    return NULL;
}

/* HELP has no escape for a quote in the older form; in both a line feed must not stand as it is. */
static void escaped(FILE *out, const char *text, bool quotes)
{
    for (; text && *text; text++) {
        if (*text == '\n') {
            fputs("\\n", out);
            continue;
        }
        if (*text == '\\' || (quotes && *text == '"'))
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void family(const struct writer *w, const char *name, const char *type, const char *help)
{
    const char *total = !w->openmetrics && strcmp(type, "counter") == 0 ? "_total" : "";

    fprintf(w->out, "# HELP %s%s ", name, total);
    escaped(w->out, help, w->openmetrics);
    fprintf(w->out, "\n# TYPE %s%s %s\n", name, total, type);
    if (w->openmetrics && unit_of(name))
        fprintf(w->out, "# UNIT %s %s\n", name, unit_of(name));
}

static void counters(const struct writer *w, const char *group, json_t *values)
{
    const char *key;
    json_t *v;

    json_object_foreach(values, key, v)
    {
        char name[96], full[128];
        const char *plain;

        snake(key, name, sizeof name - 8);
        unit_last(name);
        /* The group's name is not said twice. */
        plain = !strncmp(name, group, strlen(group)) && name[strlen(group)] == '_' ? name + strlen(group) + 1 : name;
        snprintf(full, sizeof full, "taut_%s_%s", group, plain);
        family(w, full, "counter", json_string_value(json_object_get(v, "help")));
        fprintf(w->out, "%s_total %.0f\n", full, json_number_value(json_object_get(v, "value")));
    }
}

static void labelled(const struct writer *w, const char *name, const char *help, const char *label, json_t *values)
{
    const char *key;
    json_t *v;

    if (!values)
        return;
    family(w, name, "counter", help);
    json_object_foreach(values, key, v)
    {
        fprintf(w->out, "%s_total{%s=\"", name, label);
        escaped(w->out, key, true);
        fprintf(w->out, "\"} %.0f\n", json_number_value(json_is_object(v) ? json_object_get(v, "value") : v));
    }
}

static void gauge(const struct writer *w, const char *name, const char *help, double value)
{
    family(w, name, "gauge", help);
    fprintf(w->out, "%s %.17g\n", name, value);
}

static double sum_queues(json_t *status)
{
    double n = 0;
    size_t i;
    json_t *l;

    json_array_foreach(json_object_get(status, "listeners"), i, l) n += web_number(l, NULL, "accept_queue");
    return n;
}

static void gauges(const struct writer *w, json_t *status)
{
    double conns = web_number(status, "totals", "connections"), established = web_number(status, "totals", "established");

    family(w, "taut_connections", "gauge", "connections, half-open and TIME-WAIT entries by state");
    fprintf(w->out, "taut_connections{state=\"established\"} %.0f\n", established);
    fprintf(w->out, "taut_connections{state=\"half_open\"} %.0f\n", web_number(status, "totals", "half_open"));
    fprintf(w->out, "taut_connections{state=\"time_wait\"} %.0f\n", web_number(status, "totals", "time_wait"));
    fprintf(w->out, "taut_connections{state=\"other\"} %.0f\n", conns - established);
    gauge(w, "taut_orphans", "connections whose program has closed them", web_number(status, "totals", "orphans"));
    gauge(w, "taut_listeners", "listening sockets", web_number(status, "totals", "listeners"));
    gauge(w, "taut_accept_queue_connections", "connections that wait to be accepted, all listeners", sum_queues(status));
    gauge(w, "taut_ready_connections", "connections that could send now", web_number(status, "totals", "ready"));
    gauge(w, "taut_buffer_bytes", "payload chunks in use", web_number(status, "memory", "chunk_bytes_used"));
    gauge(w, "taut_buffer_limit_bytes", "payload chunks there may be", web_number(status, "memory", "chunk_bytes_budget"));
    gauge(w, "taut_uptime_seconds", "time since tautd was started", web_number(status, NULL, "uptime_s"));
    family(w, "taut_build", w->openmetrics ? "info" : "gauge", "version of tautd");
    if (w->openmetrics)
        fprintf(w->out, "taut_build_info{version=\"");
    else
        fprintf(w->out, "taut_build{version=\"");
    escaped(w->out, json_string_value(json_object_get(status, "version")), true);
    fputs("\"} 1\n", w->out);
}

void metrics_write(FILE *out, const struct web_data *d, bool openmetrics)
{
    const struct writer w = {out, openmetrics};

    gauge(&w, "taut_up", "1 if tautd answers", d->stats != NULL);
    if (d->stats) {
        gauges(&w, d->status);
        counters(&w, "tcp", json_object_get(d->stats, "tcp"));
        counters(&w, "stack", json_object_get(d->stats, "stack"));
        counters(&w, "daemon", json_object_get(d->stats, "daemon"));
        labelled(&w, "taut_tcp_drops", "TCP segments not used, by reason", "reason",
                 json_object_get(d->stats, "tcp_drops"));
        labelled(&w, "taut_stack_drops", "frames and packets not used, by reason", "reason",
                 json_object_get(d->stats, "stack_drops"));
        labelled(&w, "taut_tcp_causes", "segments sent, by cause", "cause", json_object_get(d->stats, "tcp_causes"));
    }
    if (openmetrics)
        fputs("# EOF\n", out);
}
