/*
 * base/ipaddr.c: address predicates, prefixes and text.
 *
 * The parsers take exactly what the formatters write and the other textual forms of RFC 4291 section 2.2: no
 * octal, no signs, no blanks, no names, numbers in decimal without leading zeros. They work on a span, so
 * that prefix and port need no copy, and write ret_x only when the whole text is good. Called from
 * configuration, control socket, logs and tests; the predicates also for each packet. An all-zero struct
 * ip_addr (IP_NONE) is unspecified and prints "none".
 */
#include <assert.h>
#include <stdio.h>
#include "base/ipaddr.h"

/* What is still to be parsed. */
struct span {
    const char *at;
    const char *end;
};

static_assert(sizeof(struct ip_addr) == 20, "no padding: addresses are compared and hashed as bytes");
static_assert(sizeof(struct ip_tuple) == 44, "no padding: tuples are hashed as bytes");

static unsigned width_bits(const struct ip_addr *a)
{
    return a->family == IP_V4 ? 32 : a->family == IP_V6 ? 128 : 0;
}

bool ip_addr_is_unspecified(const struct ip_addr *a)
{
    static const uint8_t zero[16];

    return memcmp(a->b, zero, sizeof zero) == 0;
}

bool ip_addr_is_loopback(const struct ip_addr *a)
{
    static const uint8_t one[16] = {[15] = 1};

    if (a->family == IP_V4)
        return a->b[0] == 127;
    return a->family == IP_V6 && memcmp(a->b, one, sizeof one) == 0;
}

bool ip_addr_is_multicast(const struct ip_addr *a)
{
    if (a->family == IP_V4)
        return (a->b[0] & 0xf0) == 224;
    return a->family == IP_V6 && a->b[0] == 0xff;
}

bool ip_addr_is_link_local(const struct ip_addr *a)
{
    if (a->family == IP_V4)
        return a->b[0] == 169 && a->b[1] == 254;
    return a->family == IP_V6 && a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

bool ip_addr_is_broadcast(const struct ip_addr *a)
{
    return a->family == IP_V4 && (a->b[0] & a->b[1] & a->b[2] & a->b[3]) == 255;
}

bool ip_addr_is_v4_mapped(const struct ip_addr *a)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

    return a->family == IP_V6 && memcmp(a->b, prefix, sizeof prefix) == 0;
}

bool ip_addr_prefix_eq(const struct ip_addr *x, const struct ip_addr *y, unsigned bits)
{
    unsigned bytes = bits / 8;
    unsigned mask = 0xff00u >> (bits % 8) & 0xff;

    if (x->family != y->family || bits > width_bits(x))
        return false;
    if (memcmp(x->b, y->b, bytes) != 0)
        return false;
    return mask == 0 || ((x->b[bytes] ^ y->b[bytes]) & mask) == 0;
}

unsigned ip_addr_common_bits(const struct ip_addr *x, const struct ip_addr *y)
{
    unsigned width = width_bits(x);

    if (x->family != y->family)
        return 0;
    for (unsigned i = 0; i < width / 8; i++) {
        unsigned differ = x->b[i] ^ y->b[i];

        if (differ)
            return 8 * i + (unsigned)__builtin_clz(differ) - 24;
    }
    return width;
}

static bool at_end(const struct span *s)
{
    return s->at == s->end;
}

static bool take_char(struct span *s, char c)
{
    if (at_end(s) || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* A decimal number without leading zeros, at most `max`. */
static bool take_decimal(struct span *s, uint32_t max, uint32_t *ret)
{
    const char *start = s->at;
    uint32_t value = 0;

    while (!at_end(s) && *s->at >= '0' && *s->at <= '9') {
        value = value * 10 + (uint32_t)(*s->at - '0');
        if (value > max || (s->at > start && *start == '0'))
            return false;
        s->at++;
    }
    if (s->at == start)
        return false;
    *ret = value;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* One to four hexadecimal digits, as two bytes. */
static bool take_group(struct span *s, uint8_t bytes[2])
{
    unsigned value = 0, digits = 0;

    for (; !at_end(s) && hex_digit(*s->at) >= 0; s->at++) {
        if (++digits > 4)
            return false;
        value = value << 4 | (unsigned)hex_digit(*s->at);
    }
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)(value & 0xff);
    return digits > 0;
}

static bool take_v4(struct span *s, uint8_t bytes[4])
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t value;

        if (i > 0 && !take_char(s, '.'))
            return false;
        if (!take_decimal(s, 255, &value))
            return false;
        bytes[i] = (uint8_t)value;
    }
    return true;
}

/* RFC 4291 section 2.2, form 3: the last four bytes as dotted decimal. It is the last thing before a '%' or
 * the end. */
static bool take_embedded_v4(struct span *s, uint8_t bytes[4])
{
    struct span try = *s;

    if (!take_v4(&try, bytes) || !(at_end(&try) || *try.at == '%'))
        return false;
    *s = try;
    return true;
}

/* Moves what follows "::" to the end and fills with zeros. `gap` < 0: there was none. */
static bool close_gap(uint8_t bytes[16], unsigned length, int gap)
{
    unsigned head;

    if (gap < 0)
        return length == 16;
    if (length > 14) /* "::" stands for at least one group */
        return false;
    head = (unsigned)gap;
    memmove(bytes + 16 - (length - head), bytes + head, length - head);
    memset(bytes + head, 0, 16 - length);
    return true;
}

static bool take_v6(struct span *s, uint8_t bytes[16])
{
    unsigned length = 0;
    int gap = -1;

    if (take_char(s, ':')) {
        if (!take_char(s, ':'))
            return false;
        gap = 0;
    }
    while (!at_end(s) && *s->at != '%') {
        if (length > 0 && gap != (int)length && !take_char(s, ':'))
            return false;
        if (length > 0 && gap != (int)length && take_char(s, ':')) {
            if (gap >= 0)
                return false;
            gap = (int)length;
            continue;
        }
        if (length <= 12 && take_embedded_v4(s, bytes + length)) {
            length += 4;
            break;
        }
        if (length == 16 || !take_group(s, bytes + length))
            return false;
        length += 2;
    }
    return close_gap(bytes, length, gap);
}

/* "%3" after a link-local address; RFC 4007 section 11. Names of interfaces would need a resolver. */
static bool take_scope(struct span *s, uint16_t *ret)
{
    uint32_t scope;

    if (!take_decimal(s, UINT16_MAX, &scope) || scope == 0)
        return false;
    *ret = (uint16_t)scope;
    return true;
}

static bool parse_span(const char *text, const char *end, struct ip_addr *ret)
{
    struct span s = {text, end};
    uint8_t bytes[16] = {0};
    uint16_t scope = 0;
    struct ip_addr a;

    if (!memchr(text, ':', (size_t)(end - text))) {
        if (!take_v4(&s, bytes) || !at_end(&s))
            return false;
        *ret = ip_addr_v4_bytes(bytes);
        return true;
    }
    if (!take_v6(&s, bytes))
        return false;
    if (take_char(&s, '%') && !take_scope(&s, &scope))
        return false;
    a = ip_addr_v6_bytes(bytes, scope);
    if (!at_end(&s) || a.scope != scope)
        return false;
    *ret = a;
    return true;
}

bool ip_addr_parse(const char *text, struct ip_addr *ret)
{
    return parse_span(text, text + strlen(text), ret);
}

bool ip_prefix_parse(const char *text, struct ip_addr *ret, unsigned *ret_bits)
{
    const char *end = text + strlen(text);
    const char *slash = strchr(text, '/');
    struct span s = {slash ? slash + 1 : end, end};
    struct ip_addr a;
    uint32_t bits;

    if (!parse_span(text, slash ? slash : end, &a))
        return false;
    bits = width_bits(&a);
    if (slash && (!take_decimal(&s, width_bits(&a), &bits) || !at_end(&s)))
        return false;
    *ret = a;
    *ret_bits = bits;
    return true;
}

bool ip_addr_port_parse(const char *text, struct ip_addr *ret, uint16_t *ret_port)
{
    const char *end = text + strlen(text);
    const char *colon = strrchr(text, ':');
    struct span s = {colon ? colon + 1 : end, end};
    bool bracketed = text[0] == '[';
    struct ip_addr a;
    uint32_t port;

    if (!colon || !take_decimal(&s, UINT16_MAX, &port) || !at_end(&s))
        return false;
    if (bracketed && colon[-1] != ']')
        return false;
    if (!parse_span(text + bracketed, colon - bracketed, &a))
        return false;
    if (bracketed != (a.family == IP_V6))
        return false;
    *ret = a;
    *ret_port = (uint16_t)port;
    return true;
}

static unsigned group(const struct ip_addr *a, unsigned i)
{
    return (unsigned)(a->b[2 * i] << 8 | a->b[2 * i + 1]);
}

/* RFC 5952 section 4.2: "::" for the longest run of zero groups, the first of equals, and not for a single
 * group. */
static void longest_zero_run(const struct ip_addr *a, unsigned *ret_start, unsigned *ret_length)
{
    unsigned best_start = 8, best_length = 1;

    for (unsigned i = 0; i < 8; i++) {
        unsigned start = i;

        while (i < 8 && group(a, i) == 0)
            i++;
        if (i - start > best_length) {
            best_start = start;
            best_length = i - start;
        }
    }
    *ret_start = best_start;
    *ret_length = best_length;
}

/* Appends to the text at `length` and returns the new length; the caller knows that it fits. */
static size_t append(char *text, size_t length, const char *fmt, unsigned value)
    __attribute__((format(printf, 3, 0)));

static size_t append(char *text, size_t length, const char *fmt, unsigned value)
{
    return length + (size_t)snprintf(text + length, IP_ADDR_TEXT_MAX - length, fmt, value);
}

static size_t format_v4(const uint8_t *b, char *text, size_t length)
{
    for (unsigned i = 0; i < 4; i++)
        length = append(text, length, i ? ".%u" : "%u", b[i]);
    return length;
}

static void format_v6(const struct ip_addr *a, char *text)
{
    unsigned run_start, run_length;
    size_t length = 0;

    /* RFC 5952 section 5: an IPv4-mapped address ends in dotted decimal. */
    if (ip_addr_is_v4_mapped(a)) {
        memcpy(text, "::ffff:", 7);
        format_v4(a->b + 12, text, 7);
        return;
    }
    longest_zero_run(a, &run_start, &run_length);
    for (unsigned i = 0; i < 8; i++) {
        if (i == run_start) {
            memcpy(text + length, "::", 2);
            length += 2;
            i += run_length - 1;
        } else {
            bool first = i == 0 || i == run_start + run_length;

            length = append(text, length, first ? "%x" : ":%x", group(a, i));
        }
    }
    text[length] = '\0';
    if (a->scope)
        append(text, length, "%%%u", a->scope);
}

char *ip_addr_format(const struct ip_addr *a, char *text)
{
    if (a->family == IP_V4)
        format_v4(a->b, text, 0);
    else if (a->family == IP_V6)
        format_v6(a, text);
    else
        memcpy(text, "none", 5);
    return text;
}

char *ip_addr_port_format(const struct ip_addr *a, uint16_t port, char *text)
{
    char addr[IP_ADDR_TEXT_MAX];
    bool bracketed = a->family == IP_V6;

    ip_addr_format(a, addr);
    snprintf(text, IP_ADDR_PORT_MAX, "%s%s%s:%u", bracketed ? "[" : "", addr, bracketed ? "]" : "",
             (unsigned)port);
    return text;
}
