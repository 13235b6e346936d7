/*
 * wire/text.c: segment <-> text in packetdrill's notation.
 *
 * Options are formatted from the bytes that tcp_options_encode() writes, so text and wire can't disagree
 * about order and padding. The parser is a hand-written descent over one cursor; the first error names itself
 * and stops it, and nothing is written to the caller's struct before the end. Invariant of the cursor: it
 * never passes the NUL.
 */
#include "wire/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "wire/bytes.h"

static const struct {
    uint16_t flag;
    char letter;
} flag_letters[] = {{TCP_FIN, 'F'}, {TCP_SYN, 'S'}, {TCP_RST, 'R'}, {TCP_PSH, 'P'}, {TCP_ACK, '.'},
                    {TCP_URG, 'U'}, {TCP_ECE, 'E'}, {TCP_CWR, 'W'}, {TCP_AE, 'A'}};

#define N_FLAGS (sizeof flag_letters / sizeof flag_letters[0])

/* A bounded text under construction; n counts the room, used < n always. */
struct text {
    char *buf;
    size_t n;
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    int wrote;

    va_start(ap, fmt);
    wrote = vsnprintf(t->buf + t->used, t->n - t->used, fmt, ap);
    va_end(ap);
    if (wrote > 0)
        t->used = t->used + (size_t)wrote < t->n ? t->used + (size_t)wrote : t->n - 1;
}

static void format_flags(struct text *t, uint16_t flags)
{
    char letters[N_FLAGS + 1] = "-";
    size_t n = 0;

    for (size_t i = 0; i < N_FLAGS; i++) {
        if (flags & flag_letters[i].flag)
            letters[n++] = flag_letters[i].letter;
    }
    letters[n ? n : 1] = '\0';
    add(t, "%s", letters);
}

/* A digest of zeros is one that nobody computed. */
static void format_md5(struct text *t, const uint8_t digest[TCP_MD5_BYTES])
{
    bool computed = false;

    for (size_t i = 0; i < TCP_MD5_BYTES; i++)
        computed = computed || digest[i];
    add(t, computed ? "md5 " : "md5");
    for (size_t i = 0; computed && i < TCP_MD5_BYTES; i++)
        add(t, "%02x", digest[i]);
}

static void format_hex(struct text *t, const char *name, const uint8_t *bytes, size_t n)
{
    add(t, "%s", name);
    for (size_t i = 0; i < n; i++)
        add(t, "%s%02x", i ? "" : " ", bytes[i]);
}

/* One option of our own encoder, other than NOP; `body` are the n bytes behind kind and length. */
static void format_option(struct text *t, uint8_t kind, const uint8_t *body, size_t n, uint32_t ack_base)
{
    switch (kind) {
    case 2:
        add(t, "mss %u", get_be16(body));
        break;
    case 3:
        add(t, "wscale %u", body[0]);
        break;
    case 4:
        add(t, "sackOK");
        break;
    case 5:
        add(t, "sack");
        for (size_t i = 0; i < n; i += 8)
            add(t, " %u:%u", get_be32(body + i) - ack_base, get_be32(body + i + 4) - ack_base);
        break;
    case 8:
        add(t, "TS val %u ecr %u", get_be32(body), get_be32(body + 4));
        break;
    case 19:
        format_md5(t, body);
        break;
    case 34:
        format_hex(t, "FO", body, n);
        break;
    default: /* 254 with its magic */
        format_hex(t, "FOEXP", body + 2, n - 2);
        break;
    }
}

static void format_options(struct text *t, const struct tcp_seg *seg, uint32_t ack_base)
{
    uint8_t bytes[TCP_OPTIONS_MAX];
    size_t n = tcp_options_encode(&seg->opt, seg->flags & TCP_SYN, bytes);

    for (size_t i = 0; i < n;) {
        add(t, "%s", i ? "," : " <");
        if (bytes[i] == 1) {
            add(t, "nop");
            i++;
        } else {
            format_option(t, bytes[i], bytes + i + 2, bytes[i + 1] - (size_t)2, ack_base);
            i += bytes[i + 1];
        }
    }
    if (n)
        add(t, ">");
}

char *text_format_seg(const struct tcp_seg *seg, uint32_t seq_base, uint32_t ack_base, char *buf, size_t n)
{
    struct text t = {.buf = buf, .n = n};
    uint32_t start = seg->seq - seq_base;

    format_flags(&t, seg->flags);
    add(&t, " %u:%u(%u)", start, start + seg->len, seg->len);
    if (seg->flags & TCP_ACK)
        add(&t, " ack %u", seg->ack - ack_base);
    if (seg->wnd || !(seg->flags & TCP_RST))
        add(&t, " win %u", seg->wnd);
    if (seg->urg_ptr)
        add(&t, " urg %u", seg->urg_ptr);
    format_options(&t, seg, ack_base);
    return buf;
}

struct parser {
    const char *at;
    const char *error; /* the first one; at stays where it happened */
    uint32_t seq_base;
    uint32_t ack_base;
};

static bool fail(struct parser *p, const char *reason)
{
    if (!p->error)
        p->error = reason;
    return false;
}

static void skip_space(struct parser *p)
{
    while (*p->at == ' ' || *p->at == '\t')
        p->at++;
}

/* Consumes `text` if it is next. */
static bool accept(struct parser *p, const char *text)
{
    size_t n = strlen(text);

    if (strncmp(p->at, text, n) != 0)
        return false;
    p->at += n;
    return true;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Consumes a whole word and the blanks behind it. */
static bool accept_word(struct parser *p, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(p->at, word, n) != 0 || is_word(p->at[n]))
        return false;
    p->at += n;
    skip_space(p);
    return true;
}

static bool parse_number(struct parser *p, uint32_t max, uint32_t *ret)
{
    uint64_t v = 0;

    if (*p->at < '0' || *p->at > '9')
        return fail(p, "number expected");
    for (; *p->at >= '0' && *p->at <= '9'; p->at++) {
        v = v * 10 + (uint64_t)(*p->at - '0');
        if (v > max)
            return fail(p, "number out of range");
    }
    *ret = (uint32_t)v;
    return true;
}

/* `number` and the blanks behind it. */
static bool parse_u16(struct parser *p, uint16_t *ret)
{
    uint32_t v;

    if (!parse_number(p, UINT16_MAX, &v))
        return false;
    *ret = (uint16_t)v;
    skip_space(p);
    return true;
}

static bool parse_flags(struct parser *p, struct tcp_seg *seg)
{
    if (accept(p, "-"))
        return *p->at == ' ' || fail(p, "blank expected behind the flags");
    for (; *p->at && *p->at != ' '; p->at++) {
        size_t i = 0;

        while (i < N_FLAGS && flag_letters[i].letter != *p->at)
            i++;
        if (i == N_FLAGS)
            return fail(p, "unknown flag");
        if (seg->flags & flag_letters[i].flag)
            return fail(p, "flag given twice");
        seg->flags |= flag_letters[i].flag;
    }
    return seg->flags || fail(p, "flags expected");
}

/* "start:end(len)" */
static bool parse_range(struct parser *p, struct tcp_seg *seg)
{
    uint32_t start;
    uint32_t end;

    skip_space(p);
    if (!parse_number(p, UINT32_MAX, &start))
        return false;
    if (!accept(p, ":"))
        return fail(p, "':' expected between sequence numbers");
    if (!parse_number(p, UINT32_MAX, &end))
        return false;
    if (!accept(p, "("))
        return fail(p, "'(' expected before the length");
    if (!parse_number(p, UINT32_MAX, &seg->len))
        return false;
    if (!accept(p, ")"))
        return fail(p, "')' expected behind the length");
    if (end - start != seg->len)
        return fail(p, "length differs from end - start");
    seg->seq = p->seq_base + start;
    skip_space(p);
    return true;
}

static bool parse_sack(struct parser *p, struct tcp_options *o)
{
    while (*p->at >= '0' && *p->at <= '9') {
        uint32_t start;
        uint32_t end;

        if (o->sack_count == TCP_SACK_BLOCKS_MAX)
            return fail(p, "more than four SACK blocks");
        if (!parse_number(p, UINT32_MAX, &start))
            return false;
        if (!accept(p, ":"))
            return fail(p, "':' expected in a SACK block");
        if (!parse_number(p, UINT32_MAX, &end))
            return false;
        o->sack[o->sack_count++] = (struct tcp_sack_block){p->ack_base + start, p->ack_base + end};
        skip_space(p);
    }
    return o->sack_count || fail(p, "SACK block expected");
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Pairs of hex digits, at most max of them. */
static bool parse_hex(struct parser *p, uint8_t *bytes, size_t max, uint8_t *ret_n)
{
    size_t n = 0;

    while (hex_value(p->at[0]) >= 0) {
        if (hex_value(p->at[1]) < 0)
            return fail(p, "odd number of hex digits");
        if (n == max)
            return fail(p, "too many hex digits");
        bytes[n++] = (uint8_t)(hex_value(p->at[0]) << 4 | hex_value(p->at[1]));
        p->at += 2;
    }
    *ret_n = (uint8_t)n;
    skip_space(p);
    return true;
}

static bool parse_fastopen(struct parser *p, bool exp, struct tcp_options *o)
{
    o->fastopen_ok = true;
    o->fastopen_exp = exp;
    if (!parse_hex(p, o->fastopen_cookie, TCP_FASTOPEN_COOKIE_MAX, &o->fastopen_bytes))
        return false;
    return !o->fastopen_bytes || (o->fastopen_bytes >= 4 && o->fastopen_bytes % 2 == 0) ||
           fail(p, "a Fast Open cookie has 4 to 16 bytes, evenly many");
}

static bool parse_timestamps(struct parser *p, struct tcp_options *o)
{
    o->timestamps_ok = true;
    if (!accept_word(p, "val"))
        return fail(p, "'val' expected behind TS");
    if (!parse_number(p, UINT32_MAX, &o->tsval))
        return false;
    skip_space(p);
    if (!accept_word(p, "ecr"))
        return fail(p, "'ecr' expected behind TS val");
    if (!parse_number(p, UINT32_MAX, &o->tsecr))
        return false;
    skip_space(p);
    return true;
}

static bool parse_wscale(struct parser *p, struct tcp_options *o)
{
    uint32_t v;

    if (!parse_number(p, UINT8_MAX, &v))
        return false;
    o->wscale_ok = true;
    o->wscale = (uint8_t)v;
    skip_space(p);
    return true;
}

static bool parse_option(struct parser *p, struct tcp_options *o)
{
    uint8_t n;

    if (accept_word(p, "nop") || accept_word(p, "eol"))
        return true;
    if (accept_word(p, "mss")) {
        o->mss_ok = true;
        return parse_u16(p, &o->mss);
    }
    if (accept_word(p, "wscale"))
        return parse_wscale(p, o);
    if (accept_word(p, "sackOK")) {
        o->sack_permitted = true;
        return true;
    }
    if (accept_word(p, "TS"))
        return parse_timestamps(p, o);
    if (accept_word(p, "sack"))
        return parse_sack(p, o);
    if (accept_word(p, "FO"))
        return parse_fastopen(p, false, o);
    if (accept_word(p, "FOEXP"))
        return parse_fastopen(p, true, o);
    if (accept_word(p, "md5")) {
        o->md5_ok = true;
        return parse_hex(p, o->md5, sizeof o->md5, &n);
    }
    return fail(p, "unknown option");
}

/* "<" options, comma-separated ">"; the "<" has been read. */
static bool parse_options(struct parser *p, struct tcp_options *o)
{
    skip_space(p);
    if (accept(p, ">"))
        return true;
    for (;;) {
        if (!parse_option(p, o))
            return false;
        if (accept(p, ">"))
            return true;
        if (!accept(p, ","))
            return fail(p, "',' or '>' expected");
        skip_space(p);
    }
}

static bool parse_rest(struct parser *p, struct tcp_seg *seg)
{
    uint32_t ack;

    if (accept_word(p, "ack")) {
        if (!parse_number(p, UINT32_MAX, &ack))
            return false;
        if (!(seg->flags & TCP_ACK))
            return fail(p, "ack without the '.' flag");
        seg->ack = p->ack_base + ack;
        skip_space(p);
    } else if (seg->flags & TCP_ACK) {
        return fail(p, "ack expected: the '.' flag is set");
    }
    if (accept_word(p, "win") && !parse_u16(p, &seg->wnd))
        return false;
    if (accept_word(p, "urg") && !parse_u16(p, &seg->urg_ptr))
        return false;
    if (accept(p, "<") && !parse_options(p, &seg->opt))
        return false;
    skip_space(p);
    return !*p->at || *p->at == '\n' || fail(p, "unexpected text at the end");
}

bool text_parse_seg(const char *text, uint32_t seq_base, uint32_t ack_base, struct tcp_seg *ret,
                    const char **ret_error)
{
    struct parser p = {.at = text, .seq_base = seq_base, .ack_base = ack_base};
    struct tcp_seg seg;

    memset(&seg, 0, sizeof seg);
    skip_space(&p);
    if (!parse_flags(&p, &seg) || !parse_range(&p, &seg) || !parse_rest(&p, &seg)) {
        if (ret_error)
            *ret_error = p.error;
        return false;
    }
    if (seg.len) {
        seg.n_slices = 1;
        seg.slice[0].len = seg.len;
    }
    *ret = seg;
    return true;
}
