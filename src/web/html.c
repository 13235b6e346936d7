/*
 * web/html.c: pieces of HTML. Every text that came from outside goes through esc(): nothing in it can be markup, and what
 * is no printable character is shown as one that says so. Pages carry no style or script of their own, so that the content
 * security policy can forbid both.
 */
#include "web/web.h"

#include <math.h>
#include <string.h>

void esc(FILE *out, const char *text)
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
        else if (*text == '\'')
            fputs("&#39;", out);
        else if ((unsigned char)*text < 0x20 || *text == 0x7f)
            fputs("\xef\xbf\xbd", out);
        else
            fputc(*text, out);
    }
}

const char *text_of(json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));

    return s ? s : "";
}

void scaled(FILE *out, double v, const char *unit)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T"};
    unsigned i = 0;

    while (fabs(v) >= 999.5 && i < 4) {
        v /= 1000;
        i++;
    }
    fprintf(out, i || v != floor(v) ? "%.3g %s%s" : "%.0f %s%s", v, prefixes[i], unit);
}

void duration(FILE *out, double s)
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

void page_begin(FILE *out, const char *title, const char *live_path)
{
    fputs("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<meta name=\"color-scheme\" content=\"light dark\">"
          "<link rel=\"stylesheet\" href=\"/style.css\">",
          out);
    if (live_path)
        fputs("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>"
              "<script src=\"/live.js\" defer></script>",
              out);
    fputs("<title>", out);
    esc(out, title);
    fputs("</title></head><body", out);
    if (live_path) {
        fputs(" data-live=\"", out);
        esc(out, live_path);
        fputs("\"", out);
    }
    fputs(">", out);
}

void page_end(FILE *out)
{
    fputs("</body></html>\n", out);
}

void page_error(FILE *out, const char *title, const char *text)
{
    page_begin(out, title, NULL);
    fputs("<h1>", out);
    esc(out, title);
    fputs("</h1><p>", out);
    esc(out, text);
    fputs("</p><p><a href=\"/\">Overview</a></p>", out);
    page_end(out);
}
