/*
 * web/metrics.c: the counters as OpenMetrics text (theory of operation).
 *
 * Counters of stats.get become taut_GROUP_NAME_total with the daemon's own help text; drops and causes become one family
 * each with a bounded label (the enumeration's names); totals of server.status become gauges. CamelCase becomes snake_case.
 * The text ends with "# EOF", without which a scraper takes it for truncated.
 */
#include "web/web.h"

#include <ctype.h>
#include <string.h>

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

static void escaped(FILE *out, const char *text)
{
    for (; text && *text; text++) {
        if (*text == '\\' || *text == '"')
            fputc('\\', out);
        fputc(*text == '\n' ? ' ' : *text, out);
    }
}

static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# TYPE %s %s\n# HELP %s ", name, type, name);
    escaped(out, help);
    fputc('\n', out);
}

static void counters(FILE *out, const char *group, json_t *values)
{
    const char *key;
    json_t *v;

    json_object_foreach(values, key, v)
    {
        char name[96], full[128];
        const char *plain;

        snake(key, name, sizeof name);
        /* The group's name is not said twice. */
        plain = !strncmp(name, group, strlen(group)) && name[strlen(group)] == '_' ? name + strlen(group) + 1 : name;
        snprintf(full, sizeof full, "taut_%s_%s", group, plain);
        family(out, full, "counter", json_string_value(json_object_get(v, "help")));
        fprintf(out, "%s_total %.0f\n", full, json_number_value(json_object_get(v, "value")));
    }
}

static void labelled(FILE *out, const char *name, const char *help, const char *label, json_t *values)
{
    const char *key;
    json_t *v;

    if (!values)
        return;
    family(out, name, "counter", help);
    json_object_foreach(values, key, v)
    {
        fprintf(out, "%s_total{%s=\"", name, label);
        escaped(out, key);
        fprintf(out, "\"} %.0f\n", json_number_value(json_is_object(v) ? json_object_get(v, "value") : v));
    }
}

static void gauges(FILE *out, json_t *status)
{
    json_t *totals = json_object_get(status, "totals"), *v;
    const char *key;

    family(out, "taut_connections", "gauge", "connections and entries by kind");
    json_object_foreach(totals, key, v)
    {
        fprintf(out, "taut_connections{kind=\"%s\"} %.0f\n", key, json_number_value(v));
    }
    family(out, "taut_buffer_bytes", "gauge", "payload chunks in use");
    fputs("# UNIT taut_buffer_bytes bytes\n", out);
    fprintf(out, "taut_buffer_bytes %.0f\n", web_number(status, "memory", "chunk_bytes_used"));
    family(out, "taut_uptime_seconds", "gauge", "time since tautd was started");
    fputs("# UNIT taut_uptime_seconds seconds\n", out);
    fprintf(out, "taut_uptime_seconds %.3f\n", web_number(status, NULL, "uptime_s"));
}

void metrics_write(FILE *out, const struct web_data *d)
{
    family(out, "taut_up", "gauge", "1 if tautd answers");
    fprintf(out, "taut_up %d\n", d->stats != NULL);
    if (d->stats) {
        gauges(out, d->status);
        counters(out, "tcp", json_object_get(d->stats, "tcp"));
        counters(out, "stack", json_object_get(d->stats, "stack"));
        counters(out, "daemon", json_object_get(d->stats, "daemon"));
        labelled(out, "taut_tcp_drops", "TCP segments not used, by reason", "reason",
                 json_object_get(d->stats, "tcp_drops"));
        labelled(out, "taut_stack_drops", "frames and packets not used, by reason", "reason",
                 json_object_get(d->stats, "stack_drops"));
        labelled(out, "taut_tcp_causes", "segments sent, by cause", "cause", json_object_get(d->stats, "tcp_causes"));
    }
    fputs("# EOF\n", out);
}
