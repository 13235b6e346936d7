/*
 * trace/svg.c: draws a plot (theory of operation).
 *
 * Panels share one time axis: sequence numbers above, then congestion window, round trip and rates where there are
 * figures. Colours are classes of a style sheet inside the SVG with a second set for dark screens; renderers that know no
 * media queries take the first, which is print's. Causes differ in colour and in mark (triangle, cross, circle), so that
 * they can be told apart in grey.
 *
 * The drawing is bounded whatever the input: bars of one kind are sorted into columns of a pixel's part and merged where
 * they touch, coarser and coarser until there are PLOT_RUNS_MAX or less; curves keep first, least, most and last of each
 * column; marks stand in cells of which each has one.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "trace/plot.h"

#define CELL        7   /* pixels between marks */
#define MARKS_MAX   400u
#define CURVE_PARTS 2   /* columns a pixel */

struct panel {
    const char *title, *unit;
    double low, high; /* values at its edges */
    double top, height;
};

struct draw {
    const struct plot *p;
    const struct plot_style *style;
    struct trace_text *out;
    double left, width, from, to; /* pixels; seconds */
};

struct look {
    const char *class, *name;
};
static const struct look bar_looks[PLOT_BARS] = {
    {"data", "data"},          {"fast", "sent again: loss by ACKs"}, {"rto", "sent again: timeout"},
    {"tlp", "tail loss probe"}, {"tlp", "window probe"},             {"fast", "sent again"},
    {"sack", "SACK"},          {"dsack", "D-SACK"}};
static const struct look curve_looks[PLOT_CURVES] = {
    {"ack", "acknowledged"}, {"wnd", "peer's window"}, {"c0", "cwnd"},     {"c1", "ssthresh"},       {"c2", "in flight"},
    {"c0", "RTT"},          {"c1", "smallest"},       {"c0", "pacing"},   {"c1", "delivery sample"}, {"c2", "acknowledged"}};

static const char style_sheet[] =
    "<style>"
    "svg{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:12px}"
    ".bg{fill:#fff}.box{fill:none;stroke:#8c959f}.grid{stroke:#e4e7eb;stroke-width:1}text{fill:#57606a}"
    ".h{fill:#1c2126;font-size:16px;font-weight:600}.t{fill:#1c2126;font-weight:600}"
    "path{fill:none}.data{stroke:#2563c9}.fast{stroke:#d1242f}.rto{stroke:#8b1fa3}.tlp{stroke:#b35900}"
    ".sack{stroke:#7a5af0;stroke-opacity:.55}.dsack{stroke:#c2255c}.ack{stroke:#1a7f37}.wnd{stroke:#8c959f}"
    ".c0{stroke:#0b6bcb}.c1{stroke:#c2570c}.c2{stroke:#7a3db8}"
    "@media(prefers-color-scheme:dark){.bg{fill:#14181c}.box{stroke:#5b6570}.grid{stroke:#2a3138}text{fill:#9aa5b1}"
    ".h,.t{fill:#e4e8ec}.data{stroke:#6cb2ff}.fast{stroke:#ff6b60}.rto{stroke:#e58cff}.tlp{stroke:#ffab5e}"
    ".sack{stroke:#a794ff}.dsack{stroke:#ff85ad}.ack{stroke:#56d364}.wnd{stroke:#7d8894}"
    ".c0{stroke:#6cb2ff}.c1{stroke:#ffab5e}.c2{stroke:#c79bff}}"
    "</style>\n";

/* ---- scales ---- */

static double px(const struct draw *d, double t)
{
    return d->left + d->width * (t - d->from) / (d->to - d->from);
}

static double py(const struct panel *a, double v)
{
    double y = a->top + a->height * (1 - (v - a->low) / (a->high - a->low));

    return y < a->top ? a->top : y > a->top + a->height ? a->top + a->height : y;
}

/* 1, 2 or 5 times a power of ten, so that about `n` steps make `span`. */
static double nice_step(double span, unsigned n)
{
    double step = 1, want = span / n;

    if (!(want > 1e-9) || !(want < 1e30))
        return 1;
    while (step > want)
        step /= 10;
    while (step * 10 <= want)
        step *= 10;
    return want > step * 5 ? step * 10 : want > step * 2 ? step * 5 : want > step ? step * 2 : step;
}

/* So that what is up to `most` is written with numbers below 2000, or below 1000. */
static const char *scale_of(double most, double limit, double *ret_factor)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T"};
    unsigned i = 0;

    *ret_factor = 1;
    while (i < 4 && most >= limit * *ret_factor) {
        *ret_factor *= 1000;
        i++;
    }
    return prefixes[i];
}

static void escape(struct trace_text *out, const char *text)
{
    for (; *text; text++) {
        unsigned char ch = (unsigned char)*text;

        if (ch < 0x20 || ch >= 0x7f || strchr("<>&\"'", ch))
            trace_print(out, ch < 0x20 || ch >= 0x7f ? "?" : "&#%u;", ch);
        else
            trace_print(out, "%c", ch);
    }
}

static bool shown(const struct draw *d, double t)
{
    return t >= d->from && t <= d->to;
}

/* ---- bars ---- */

struct run {
    int32_t column;
    float y0, y1;
};

static int by_place(const void *a, const void *b)
{
    const struct run *x = a, *y = b;

    if (x->column != y->column)
        return x->column < y->column ? -1 : 1;
    return x->y0 < y->y0 ? -1 : x->y0 > y->y0;
}

/* Merges what lies in one column and is no further apart than `gap`; how many are left. */
static size_t merge(struct run *runs, size_t n, int coarse, float gap)
{
    size_t to = 0;

    if (coarse > 1) {
        for (size_t i = 0; i < n; i++)
            runs[i].column = runs[i].column / coarse * coarse;
        qsort(runs, n, sizeof *runs, by_place);
    }
    for (size_t i = 0; i < n; i++) {
        struct run *last = to ? &runs[to - 1] : NULL;

        if (last && last->column == runs[i].column && runs[i].y0 <= last->y1 + gap) {
            if (runs[i].y1 > last->y1)
                last->y1 = runs[i].y1;
        } else {
            runs[to++] = runs[i];
        }
    }
    return to;
}

static void glyph(struct trace_text *out, unsigned kind, double x, double y)
{
    if (kind == PLOT_FAST || kind == PLOT_AGAIN)
        trace_print(out, "M%.1f %.1fl-3.5 6h7z", x, y - 8);
    else if (kind == PLOT_RTO)
        trace_print(out, "M%.1f %.1fl6 6m0-6l-6 6", x - 3, y - 8);
    else
        trace_print(out, "M%.1f %.1fa3 3 0 1 0 6 0a3 3 0 1 0-6 0", x - 3, y - 5);
}

/* Marks over the bars: one a cell. */
static void glyphs(struct draw *d, const struct run *runs, size_t n, unsigned kind)
{
    int32_t last_x = INT32_MIN, last_y = INT32_MIN;
    unsigned made = 0;

    trace_print(d->out, "<path class=\"%s\" d=\"", bar_looks[kind].class);
    for (size_t i = 0; i < n && made < MARKS_MAX; i++) {
        double x = d->left + runs[i].column / 2.0;
        int32_t cx = (int32_t)(x / CELL), cy = (int32_t)(runs[i].y0 / CELL);

        if (cx == last_x && cy == last_y)
            continue;
        if (cx == last_x && made > MARKS_MAX / 2)
            continue;
        last_x = cx;
        last_y = cy;
        glyph(d->out, kind, x, runs[i].y0);
        made++;
    }
    trace_print(d->out, "\"/>\n");
}

static size_t collect(struct draw *d, const struct panel *a, unsigned kind, struct run *runs)
{
    size_t n = 0;

    for (size_t i = 0; i < d->p->n_bars; i++) {
        const struct plot_bar *b = &d->p->bars[i];
        float y0, y1;

        if (b->kind != kind || !shown(d, b->t))
            continue;
        if ((double)b->to < a->low || (double)b->from > a->high)
            continue;
        y0 = (float)py(a, (double)b->to);
        y1 = (float)py(a, (double)b->from);
        if (y1 - y0 < 1.5f)
            y0 = y1 - 1.5f;
        runs[n++] = (struct run){(int32_t)((px(d, b->t) - d->left) * 2), y0, y1};
    }
    return n;
}

static void bars(struct draw *d, const struct panel *a, unsigned kind)
{
    bool marked = kind == PLOT_FAST || kind == PLOT_RTO || kind == PLOT_TLP || kind == PLOT_AGAIN || kind == PLOT_PROBE;
    struct run *runs = malloc((d->p->n_bars + 1) * sizeof *runs);
    size_t n;
    int coarse = 1;
    float gap = 0;

    if (!runs) {
        d->out->failed = true;
        return;
    }
    n = collect(d, a, kind, runs);
    qsort(runs, n, sizeof *runs, by_place);
    n = merge(runs, n, coarse, gap);
    while (n > PLOT_RUNS_MAX) {
        gap = 2 * gap + 1;
        coarse = gap > 3 ? 2 * coarse : coarse;
        n = merge(runs, n, coarse, gap);
    }
    if (n) {
        trace_print(d->out, "<path class=\"%s\" stroke-width=\"%s\" d=\"", bar_looks[kind].class, marked ? "2" : "1.3");
        for (size_t i = 0; i < n; i++)
            trace_print(d->out, "M%g %.4gV%.4g", d->left + runs[i].column / 2.0, (double)runs[i].y0, (double)runs[i].y1);
        trace_print(d->out, "\"/>\n");
        if (marked)
            glyphs(d, runs, n, kind);
    }
    free(runs);
}

/* ---- curves ---- */

/* The range of a curve in what is shown, with the value that it begins with; false: nothing is. */
static bool range(const struct draw *d, unsigned kind, double *inout_low, double *inout_high)
{
    const struct plot_points *c = &d->p->curve[kind];
    bool any = false;

    for (size_t i = 0; i < c->n; i++) {
        if (c->at[i].t > d->to || (c->at[i].t < d->from && i + 1 < c->n && c->at[i + 1].t <= d->from))
            continue;
        any = true;
        if (c->at[i].v < *inout_low)
            *inout_low = c->at[i].v;
        if (c->at[i].v > *inout_high)
            *inout_high = c->at[i].v;
    }
    return any;
}

struct pen {
    struct draw *d;
    const struct panel *a;
    bool down;
    double y;
};

static void step_to(struct pen *q, double x, double v)
{
    double y = py(q->a, v);

    if (v > q->a->high && !q->down)
        return; /* out of the picture */
    if (!q->down)
        trace_print(q->d->out, "M%.1f %.1f", x, y);
    else if (y != q->y)
        trace_print(q->d->out, "H%.1fV%.1f", x, y);
    q->down = v <= q->a->high;
    q->y = y;
}

/* A value holds until the next one. */
static void curve(struct draw *d, const struct panel *a, unsigned kind)
{
    const struct plot_points *c = &d->p->curve[kind];
    struct pen q = {.d = d, .a = a};
    static const char *const dashes[] = {"", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 2\""};
    const char *class = curve_looks[kind].class;
    unsigned dash = class[0] == 'c' ? (unsigned)(class[1] - '0') : class[0] == 'w';
    size_t i = 0;

    if (!c->n)
        return;
    trace_print(d->out, "<path class=\"%s\" stroke-width=\"1.4\"%s d=\"", class, dashes[dash]);
    while (i < c->n && c->at[i].t <= d->to) {
        double x = px(d, c->at[i].t < d->from ? d->from : c->at[i].t), low = c->at[i].v, high = low, last = low;
        long column = (long)(x * CURVE_PARTS);

        for (i++; i < c->n && (c->at[i].t < d->from || (long)(px(d, c->at[i].t) * CURVE_PARTS) == column); i++) {
            last = c->at[i].v;
            if (c->at[i].t < d->from)
                low = high = last;
            low = last < low ? last : low;
            high = last > high ? last : high;
        }
        if (high > low && q.down) {
            step_to(&q, x, high);
            step_to(&q, x, low);
        }
        step_to(&q, x, last);
    }
    if (q.down)
        trace_print(d->out, "H%.1f", px(d, c->at[c->n - 1].t > d->to ? d->to : c->at[c->n - 1].t));
    trace_print(d->out, "\"/>\n");
}

/* ---- frames, axes, keys ---- */

static void frame(struct draw *d, const struct panel *a)
{
    double factor, step;
    const char *prefix;

    prefix = scale_of(a->high, 2000, &factor);
    step = nice_step((a->high - a->low) / factor, a->height > 200 ? 8 : 3) * factor;
    for (unsigned i = 0; i < 40; i++) {
        double v = ((double)(int64_t)(a->low / step) + i) * step;

        if (v < a->low || v > a->high)
            continue;
        trace_print(d->out, "<path class=\"grid\" d=\"M%.0f %.1fh%.0f\"/><text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                    d->left, py(a, v), d->width, d->left - 6, py(a, v) + 4, v / factor);
    }
    trace_print(d->out, "<rect class=\"box\" x=\"%.0f\" y=\"%.1f\" width=\"%.0f\" height=\"%.1f\"/>", d->left, a->top, d->width,
                a->height);
    trace_print(d->out, "<text class=\"t\" x=\"%.0f\" y=\"%.1f\">%s (%s%s)</text>\n", d->left, a->top - 7, a->title,
                prefix, a->unit);
}

static void time_axis(struct draw *d, double top, double bottom)
{
    double span = d->to - d->from, factor = span < 2e-3 ? 1e6 : span < 1 ? 1e3 : 1;
    double step = nice_step(span * factor, d->style->embed ? 5 : 10) / factor;

    for (unsigned i = 0; i < 40; i++) {
        double t = ((double)(int64_t)(d->from / step) + i) * step;

        if (t < d->from - step * 1e-6 || t > d->to + step * 1e-6)
            continue;
        trace_print(d->out, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n",
                    px(d, t), top, bottom, px(d, t), bottom + 16, (double)(int64_t)(t * factor * 1000 + 0.5) / 1000);
    }
    trace_print(d->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">time (%s)</text>\n", d->left + d->width / 2,
                bottom + 32, factor > 1e3 ? "&#181;s" : factor > 1 ? "ms" : "s");
}

/* Of a key's text, about: pages may set it larger. */
static double char_width(const struct draw *d)
{
    return d->style->embed ? 7.8 : 6.6;
}

/* An entry of a key at x; where the next one goes. */
static double key(struct draw *d, double x, double y, const struct look *look, unsigned kind, bool is_bar, const char *more)
{
    static const char *const dashes[] = {"", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 2\""};
    unsigned dash = look->class[0] == 'c' ? (unsigned)(look->class[1] - '0') : look->class[0] == 'w';

    trace_print(d->out, "<path class=\"%s\" stroke-width=\"2\"", look->class);
    if (is_bar) {
        bool marked = kind != PLOT_DATA && kind != PLOT_SACK && kind != PLOT_DSACK;

        trace_print(d->out, " d=\"M%.0f %.0f%s", x + 10, marked ? y - 2 : y - 8, marked ? "v4" : "v9");
        if (marked)
            glyph(d->out, kind, x + 10, y - 3);
    } else {
        trace_print(d->out, "%s d=\"M%.0f %.0fh18", dashes[dash], x, y - 4);
    }
    trace_print(d->out, "\"/><text x=\"%.0f\" y=\"%.0f\">%s%s</text>", x + 23, y, look->name, more);
    return x + 23 + char_width(d) * (double)(strlen(look->name) + strlen(more)) + 14;
}

/* ---- panels ---- */

static void sequence_range(struct draw *d, struct panel *a)
{
    double low = 1e30, high = -1e30, window = -1e30, span;

    for (size_t i = 0; i < d->p->n_bars; i++) {
        const struct plot_bar *b = &d->p->bars[i];

        if (!shown(d, b->t) || b->kind == PLOT_DSACK)
            continue;
        low = (double)b->from < low ? (double)b->from : low;
        high = (double)b->to > high ? (double)b->to : high;
    }
    range(d, PLOT_ACK, &low, &high);
    if (high < low)
        low = high = 0;
    span = high - low > 1 ? high - low : 1;
    range(d, PLOT_WINDOW, &(double){0}, &window);
    if (window > high && window < high + 0.35 * span)
        high = window;
    a->low = low - 0.02 * span;
    if (low >= 0 && a->low < 0)
        a->low = 0;
    a->high = high + 0.05 * span;
}

static double sequence_keys(struct draw *d, const struct panel *a, double y)
{
    double lowest = 1e30, highest = -1e30;
    bool present[PLOT_BARS] = {false};
    double x = d->left, right = d->left + d->width;

    for (size_t i = 0; i < d->p->n_bars; i++)
        present[d->p->bars[i].kind] |= shown(d, d->p->bars[i].t);
    for (unsigned kind = 0; kind < PLOT_BARS + 2; kind++) {
        const struct look *look = kind < PLOT_BARS ? &bar_looks[kind] : &curve_looks[kind - PLOT_BARS];

        if (kind < PLOT_BARS ? !present[kind] : !d->p->curve[kind - PLOT_BARS].n)
            continue;
        if (x + 23 + char_width(d) * (double)strlen(look->name) > right) {
            x = d->left;
            y += 18;
        }
        if (kind == PLOT_BARS + PLOT_WINDOW)
            range(d, PLOT_WINDOW, &lowest, &highest);
        x = key(d, x, y, look, kind, kind < PLOT_BARS,
                kind == PLOT_BARS + PLOT_WINDOW && lowest > a->high ? " (above the picture)" : "");
    }
    return y;
}

static void sequence_panel(struct draw *d, struct panel *a)
{
    static const unsigned order[] = {PLOT_SACK, PLOT_DSACK, PLOT_DATA, PLOT_PROBE, PLOT_TLP, PLOT_AGAIN, PLOT_FAST, PLOT_RTO};

    frame(d, a);
    curve(d, a, PLOT_WINDOW);
    curve(d, a, PLOT_ACK);
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++)
        bars(d, a, order[i]);
    for (unsigned i = 0; i < d->p->n_marks; i++) {
        const struct plot_mark *m = &d->p->marks[i];

        if (shown(d, m->t) && (double)m->at >= a->low && (double)m->at <= a->high)
            trace_print(d->out, "<text class=\"t\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%c</text>\n", px(d, m->t),
                        py(a, (double)m->at) + (m->letter == 'S' ? -4 : 14),
                        px(d, m->t) > d->left + d->width - 8 ? "end" : m->letter == 'S' ? "start" : "middle", m->letter);
    }
}

/* A panel of curves [first, last]; false: there are none. */
static bool curves(struct draw *d, struct panel *a, unsigned first, unsigned last)
{
    double x, low = 0;
    bool any = false;

    a->low = a->high = 0;
    for (unsigned kind = first; kind <= last; kind++)
        any |= range(d, kind, &low, &a->high);
    if (!any || !(a->high > 0))
        return false;
    a->high *= 1.08;
    frame(d, a);
    for (unsigned kind = last + 1; kind-- > first;)
        curve(d, a, kind);
    x = d->left + 7.6 * (double)(strlen(a->title) + strlen(a->unit) + 4) + 24;
    for (unsigned kind = first; kind <= last; kind++) {
        if (range(d, kind, &(double){0}, &(double){0}))
            x = key(d, x, a->top - 7, &curve_looks[kind], kind, false, "");
    }
    return true;
}

/* What was acknowledged in each of 80 slices of the time, as a rate. */
static void acked_rate(struct draw *d, struct plot *copy)
{
    const struct plot_points *ack = &d->p->curve[PLOT_ACK];
    double slice = (d->to - d->from) / 80, last = 0;
    size_t i = 0;

    while (i < ack->n && ack->at[i].t < d->from)
        last = ack->at[i++].v;
    if (i == 0 && ack->n)
        last = ack->at[0].v;
    for (unsigned k = 0; k < 80; k++) {
        double v = last;

        while (i < ack->n && ack->at[i].t < d->from + (k + 1) * slice)
            v = ack->at[i++].v;
        plot_point(copy, PLOT_ACKED, d->from + k * slice, (v - last) * 8 / slice);
        last = v;
    }
    plot_point(copy, PLOT_ACKED, d->to, 0);
}

/* ---- the whole ---- */

static void head(struct draw *d, double *inout_y)
{
    const struct plot *p = d->p;
    double factor;
    const char *prefix = scale_of((double)p->data_bytes, 1000, &factor);

    if (d->style->embed)
        return;
    trace_print(d->out, "<text class=\"h\" x=\"%.0f\" y=\"%.0f\">", d->left, *inout_y + 10);
    escape(d->out, d->style->title ? d->style->title : "");
    trace_print(d->out, "%s", d->style->title ? ": " : "");
    escape(d->out, p->from);
    trace_print(d->out, " &#8594; ");
    escape(d->out, p->to);
    trace_print(d->out, "</text>\n<text x=\"%.0f\" y=\"%.0f\">%.4g %sB in %" PRIu64 " %s, %" PRIu64 " of them sent again (%.2g %%)%s%s</text>\n",
                d->left, *inout_y + 30, (double)p->data_bytes / factor, prefix, p->segments,
                p->recorded ? "segments and super-frames" : "segments as captured", p->again_segments,
                p->segments ? 100.0 * (double)p->again_segments / (double)p->segments : 0.0,
                p->recorded ? "; by taut's recorder" : "; from a capture: causes and windows of the sender are not known",
                p->lost_events ? ", its beginning is overwritten" : "");
    *inout_y += 54;
}

/* The height of the whole. */
static double draw_all(struct draw *d, struct plot *copy)
{
    struct panel seq = {.title = "sequence", .unit = "B", .height = d->style->embed ? 260 : 380};
    struct panel small[] = {
        {copy->recorded ? "congestion window" : "in flight", copy->recorded ? "segments" : "B", .height = 100},
        {"round trip", "ms", .height = 100},
        {"rate", "bit/s", .height = 100}};
    static const unsigned first[] = {PLOT_CWND, PLOT_RTT, PLOT_PACING}, last[] = {PLOT_FLIGHT, PLOT_MIN_RTT, PLOT_ACKED};
    double y = 22, bottom;
    struct trace_text *out = d->out, body = {0};

    head(d, &y);
    sequence_range(d, &seq);
    y = sequence_keys(d, &seq, y);
    seq.top = y + 28;
    d->out = &body;
    sequence_panel(d, &seq);
    bottom = seq.top + seq.height;
    for (unsigned i = 0; i < 3 && !d->style->embed; i++) {
        small[i].top = bottom + 34;
        if (curves(d, &small[i], first[i], last[i]))
            bottom = small[i].top + small[i].height;
    }
    d->out = out;
    time_axis(d, seq.top, bottom);
    if (body.at)
        trace_put(out, body.at, body.len);
    out->failed |= body.failed;
    trace_text_free(&body);
    return bottom + 44;
}

void plot_svg(const struct plot *p, const struct plot_style *style, struct trace_text *out)
{
    struct trace_text body = {0};
    struct plot copy = *p; /* with one curve more */
    struct draw d = {.p = &copy, .style = style, .out = &body, .left = 62, .width = style->embed ? 440 : 920};
    double w = d.left + d.width + 18, h;

    copy.curve[PLOT_ACKED] = (struct plot_points){0};
    d.from = style->to > style->from ? style->from : p->first;
    d.to = style->to > style->from ? style->to : p->last;
    if (style->to <= style->from && d.from > 0 && d.from < 0.1 * d.to)
        d.from = 0;
    if (!(d.to - d.from > 1e-9))
        d.to = d.from + 1e-3;
    if (!style->embed)
        acked_rate(&d, &copy);
    h = draw_all(&d, &copy);
    free(copy.curve[PLOT_ACKED].at);
    trace_print(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" ", w, h);
    if (style->embed)
        trace_print(out, "class=\"plot\" role=\"img\" aria-label=\"time-sequence graph\">\n");
    else
        trace_print(out, "width=\"%.0f\" height=\"%.0f\">\n%s<rect class=\"bg\" width=\"%.0f\" height=\"%.0f\"/>\n", w, h,
                    style_sheet, w, h);
    trace_put(out, body.at, body.len);
    trace_print(out, "</svg>\n");
    out->failed |= body.failed || copy.failed;
    trace_text_free(&body);
}
