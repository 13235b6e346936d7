/*
 * cli/clean.c: see clean.h. cli_call() and the reader of events send every answer through clean_json(), so that the code
 * that prints need not think of it. A character that is replaced is one '?', whatever its bytes; the text only shrinks.
 */
#include "cli/clean.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The length of the UTF-8 character at s, with its number; 0: none. */
static unsigned decode(const unsigned char *s, unsigned *ret)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    unsigned v = n == 1 ? s[0] : n ? s[0] & (0x7fu >> n) : 0;

    for (unsigned i = 1; i < n; i++) {
        if (s[i] >> 6 != 2)
            return 0;
        v = v << 6 | (s[i] & 0x3f);
    }
    if (!n || v < least[n] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *ret = v;
    return n;
}

static bool harmless(unsigned v)
{
    return v >= 0x20 && !(v >= 0x7f && v <= 0x9f) && !(v >= 0x200b && v <= 0x200f) && !(v >= 0x2028 && v <= 0x202e) &&
           !(v >= 0x2060 && v <= 0x206f) && v != 0xfeff && v != 0xad && v != 0x61c;
}

void clean_text(char *text)
{
    char *to = text;

    for (const char *from = text; *from;) {
        unsigned v = 0, n = decode((const unsigned char *)from, &v);

        if (n && harmless(v)) {
            memmove(to, from, n);
            to += n;
        } else {
            *to++ = '?';
        }
        from += n ? n : 1;
    }
    *to = '\0';
}

static char *cleaned(const char *text)
{
    char *copy = strdup(text);

    if (copy)
        clean_text(copy);
    return copy;
}

static json_t *cleaned_key(json_t *object, const char *key)
{
    char *copy = cleaned(key);
    json_t *v = json_incref(json_object_get(object, key));

    json_object_del(object, key);
    json_object_set_new(object, copy ? copy : "?", v);
    free(copy);
    return v;
}

static void clean_object(json_t *o)
{
    const char *key;
    void *next;
    json_t *v;

    json_object_foreach_safe(o, next, key, v)
    {
        bool good = true;

        for (const char *p = key; *p; p++)
            good &= (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f;
        clean_json(good ? v : cleaned_key(o, key));
    }
}

void clean_json(json_t *j)
{
    size_t i;
    json_t *v;

    if (json_is_object(j))
        clean_object(j);
    json_array_foreach(j, i, v)
        clean_json(v);
    if (json_is_string(j)) {
        char *copy = cleaned(json_string_value(j));

        if (copy && strcmp(copy, json_string_value(j)) != 0)
            json_string_set(j, copy);
        free(copy);
    }
}
