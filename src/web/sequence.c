/*
 * web/sequence.c: the time-sequence graph of a connection's page: what the flight recorder has of it is fetched and drawn
 * here, as `taut plot` does, without colours of its own: the page's style sheet has them. Only the last EVENTS of the record
 * are looked at, however long it is, and the last SHOWN_S seconds of them shown.
 */
#include "web/web.h"

#include <stdlib.h>
#include <string.h>

#include "trace/plot.h"

#define EVENTS     6000
#define PIECES_MAX 8
#define PIECE      "262144" /* bytes: as much as trace.get gives at once */
#define SHOWN_S    10.0

/* Where to begin: EVENTS before the record's end; -1: there is none. */
static json_int_t begin(struct web *w, const char *id)
{
    char params[TAUT_ID_MAX + 64], error[256];
    json_int_t end;
    json_t *j;

    snprintf(params, sizeof params, "{\"id\":\"%s\",\"after\":0,\"max\":4096}", id);
    j = ask(w, "trace.get", params, error, sizeof error);
    if (!j)
        return -1;
    end = json_integer_value(json_object_get(j, "end"));
    json_decref(j);
    return end > EVENTS ? end - EVENTS : 0;
}

/* One piece of the record into the plot; *inout_next moves on. False: there is no more, or it can't be read. */
static bool add_piece(struct web *w, const char *id, struct plot *p, json_int_t *inout_next, uint64_t *inout_zero,
                      enum plot_direction *inout_direction)
{
    char params[TAUT_ID_MAX + 64], error[256], *text;
    json_t *j;
    struct trace tr;
    json_int_t before = *inout_next;
    ptrdiff_t n;
    bool ok = false;

    snprintf(params, sizeof params, "{\"id\":\"%s\",\"after\":%lld,\"max\":" PIECE "}", id, (long long)before);
    j = ask(w, "trace.get", params, error, sizeof error);
    if (!j)
        return false;
    text = strdup(text_of(j, "data"));
    n = text ? trace_base64(text, (uint8_t *)text) : -1;
    if (n > 0 && trace_open(text, (size_t)n, &tr, NULL, NULL) == 0) {
        if (*inout_direction == PLOT_MORE) {
            *inout_direction = plot_trace_direction(&tr);
            *inout_zero = tr.zero;
        }
        tr.zero = *inout_zero; /* the first piece's: times go on */
        ok = plot_from_trace(p, &tr, *inout_direction) == 0;
        *inout_next = json_integer_value(json_object_get(j, "next"));
    }
    free(text);
    json_decref(j);
    return ok && *inout_next != before;
}

void sequence_graph(FILE *out, struct web *w, const char *id)
{
    struct plot *p = calloc(1, sizeof *p);
    struct plot_style style = {.embed = true};
    enum plot_direction direction = PLOT_MORE;
    struct trace_text svg = {0};
    json_int_t next = begin(w, id);
    uint64_t zero = 0;

    if (!p)
        return;
    for (unsigned i = 0; i < PIECES_MAX && next >= 0; i++) {
        if (!add_piece(w, id, p, &next, &zero, &direction))
            break;
    }
    if (!p->any) {
        fputs("<p class=\"dim\">The flight recorder has no segments of it.</p>", out);
    } else {
        if (p->last - p->first > SHOWN_S) {
            style.from = p->last - SHOWN_S;
            style.to = p->last;
        }
        plot_svg(p, &style, &svg);
        if (svg.at && !svg.failed)
            fwrite(svg.at, 1, svg.len, out);
        trace_text_free(&svg);
    }
    plot_free(p);
    free(p);
}
