/*
 * trace/json.c: events and heads as JSON objects, and their description as Markdown, by the tables of tcp_events.h.
 *
 * Every number is a JSON number but u64's beyond 2^53, which are strings; addresses and names are strings. There is no
 * text of a peer's or a program's in a record, so nothing but what a damaged one holds needs escaping.
 */
#include <inttypes.h>
#include <string.h>

#include "trace/trace.h"

void trace_json_text(struct trace_text *out, const char *s, size_t n)
{
    trace_print(out, "\"");
    for (size_t i = 0; i < n && s[i]; i++) {
        unsigned char ch = (unsigned char)s[i];

        if (ch == '"' || ch == '\\')
            trace_print(out, "\\%c", ch);
        else if (ch < 0x20 || ch >= 0x7f)
            trace_print(out, "\\u%04x", ch);
        else
            trace_print(out, "%c", ch);
    }
    trace_print(out, "\"");
}

static void json_hex(struct trace_text *out, const uint8_t *b, size_t n)
{
    trace_print(out, "\"");
    for (size_t i = 0; i < n; i++)
        trace_print(out, "%02x", b[i]);
    trace_print(out, "\"");
}

static void json_sack(struct trace_text *out, const uint8_t *at)
{
    uint32_t v[8];

    memcpy(v, at, sizeof v);
    trace_print(out, "[");
    for (unsigned i = 0; i < 4 && (v[2 * i] || v[2 * i + 1]); i++)
        trace_print(out, "%s[%" PRIu32 ", %" PRIu32 "]", i ? ", " : "", v[2 * i], v[2 * i + 1]);
    trace_print(out, "]");
}

static void json_value(struct trace_text *out, const void *base, const struct tcp_rec_field *f, unsigned family)
{
    const uint8_t *at = (const uint8_t *)base + f->offset;
    int64_t v = tcp_rec_field_value(base, f);
    char buf[IP_ADDR_PORT_MAX];
    struct ip_addr a = {.family = (uint8_t)(family == IP_V6 ? IP_V6 : IP_V4)};

    switch (f->kind) {
    case TCP_REC_TEXT:
        trace_json_text(out, (const char *)at, 16);
        break;
    case TCP_REC_B16:
        json_hex(out, at, 16);
        break;
    case TCP_REC_SACK_BLOCKS:
        json_sack(out, at);
        break;
    case TCP_REC_IP:
        memcpy(a.b, at, family == IP_V6 ? 16 : 4);
        trace_print(out, "\"%s\"", ip_addr_format(&a, buf));
        break;
    case TCP_REC_U64:
        trace_print(out, (uint64_t)v >> 53 ? "\"%" PRIu64 "\"" : "%" PRIu64, (uint64_t)v);
        break;
    default:
        trace_print(out, "%" PRId64, v);
        break;
    }
}

static void json_fields(struct trace_text *out, const void *base, const struct tcp_rec_field *f, unsigned family)
{
    for (; f->name; f++) {
        trace_print(out, ", \"%s\": ", f->name);
        json_value(out, base, f, family);
    }
}

void trace_json_event(const struct trace *tr, const struct trace_event *ev, struct trace_text *out)
{
    const struct tcp_rec_hdr *h = &ev->e.h;
    const struct tcp_rec_type_info *info = tcp_rec_type_info(h->type);
    const char *code = tcp_rec_code_name(h->type, h->code);
    char buf[IP_ADDR_PORT_MAX];

    trace_print(out, "{\"number\": %" PRIu64 ", \"time_us\": %.3f, \"at\": %" PRIu64 ", \"type\": \"%s\"", ev->number,
                (double)trace_time(tr, h->at) / 1e3, h->at, info ? info->name : "?");
    if (*code)
        trace_print(out, ", \"code\": \"%s\"", code);
    trace_print(out, ", \"arg\": %" PRIu32 ", \"flags\": %u", h->arg, h->flags);
    if (info)
        json_fields(out, &ev->e, info->fields, tr->head.family);
    if (ev->tuple.family) {
        trace_print(out, ", \"local\": \"%s\"", trace_addr_text(ev->tuple.local, ev->tuple.family,
                                                                ev->tuple.local_port, buf));
        trace_print(out, ", \"remote\": \"%s\"", trace_addr_text(ev->tuple.remote, ev->tuple.family,
                                                                 ev->tuple.remote_port, buf));
    }
    trace_print(out, "}");
}

void trace_json_head(const struct trace *tr, struct trace_text *out)
{
    trace_print(out, "{\"type\": \"HEAD\"");
    json_fields(out, &tr->head, tcp_rec_head_fields, tr->head.family);
    trace_print(out, "}");
}

/* ---- the description ---- */

static const char *const kind_names[] = {"u8", "u16", "u32", "u64", "i32", "i64", "4 x {u32, u32}",
                                         "16 bytes", "address, 16 bytes", "text, 16 bytes"};

static void describe_fields(struct trace_text *out, const struct tcp_rec_field *f)
{
    trace_print(out, "| offset | type | field | |\n|---|---|---|---|\n");
    for (; f->name; f++)
        trace_print(out, "| %u | %s | `%s` | %s |\n", f->offset, kind_names[f->kind], f->name, f->help);
    trace_print(out, "\n");
}

void trace_describe(struct trace_text *out)
{
    trace_print(out, "## The head\n\n");
    describe_fields(out, tcp_rec_head_fields);
    trace_print(out, "## Events\n\n");
    for (unsigned type = 0; type < TCP_REC_T_MAX; type++) {
        const struct tcp_rec_type_info *info = tcp_rec_type_info(type);

        trace_print(out, "### %u %s\n\n%s.", type, info->name, info->text);
        if (strcmp(info->code, "NONE") != 0)
            trace_print(out, " `code`: %s%s.", info->code,
                        strcmp(info->code, "CAUSE") == 0 || strcmp(info->code, "DROP") == 0 ||
                                strcmp(info->code, "LIMIT") == 0 || strcmp(info->code, "STATE") == 0
                            ? " (src/tcp/tcp_enums.h)"
                            : "");
        if (*info->arg)
            trace_print(out, " `arg`: %s.", info->arg);
        trace_print(out, "\n\n");
        if (info->fields[0].name)
            describe_fields(out, info->fields);
    }
    trace_print(out, "## Codes\n\n| of | number | name | |\n|---|---|---|---|\n");
    for (unsigned type = 0; type < TCP_REC_T_MAX; type++) {
        const struct tcp_rec_type_info *info = tcp_rec_type_info(type);

        if (type == TCP_REC_T_STATE || type == TCP_REC_T_CONG || type == TCP_REC_T_FIRED || type == TCP_REC_T_STALL)
            continue;
        for (unsigned code = 0; *tcp_rec_code_name(type, code) && *tcp_rec_code_name(type, code) != '?'; code++)
            trace_print(out, "| %s | %u | %s | %s |\n", info->code, code, tcp_rec_code_name(type, code),
                        tcp_rec_code_text(type, code));
    }
}
