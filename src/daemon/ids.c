/*
 * daemon/ids.c: connection ids as text, strictly: id_parse() accepts exactly what id_format() writes, so that
 * a typing error never names another connection. Pure; called by the control API's handlers.
 */
#include "daemon/ids.h"

#include <stdio.h>
#include <string.h>

char *id_format(tcp_id id, char text[ID_TEXT_MAX])
{
    snprintf(text, ID_TEXT_MAX, "%u.%x", (unsigned)(id & UINT32_MAX), (unsigned)(id >> 32));
    return text;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* Digits of `base` up to `end`; false for none, a leading zero, or more than 32 bits. */
static bool parse_u32(const char *text, char end, unsigned base, const char **ret_end, uint32_t *ret)
{
    uint64_t v = 0;
    const char *p = text;

    for (; *p && *p != end; p++) {
        int digit = digit_of(*p);

        if (digit >= (int)base)
            return false;
        v = v * base + (unsigned)digit;
        if (v > UINT32_MAX)
            return false;
    }
    if (p == text || *p != end || (text[0] == '0' && p != text + 1))
        return false;
    *ret_end = p;
    *ret = (uint32_t)v;
    return true;
}

bool id_parse(const char *text, tcp_id *ret)
{
    uint32_t low, high;
    const char *end;

    if (!parse_u32(text, '.', 10, &end, &low) || !parse_u32(end + 1, '\0', 16, &end, &high))
        return false;
    if (low == 0 && high == 0)
        return false;
    *ret = (tcp_id)high << 32 | low;
    return true;
}
