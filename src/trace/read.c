/*
 * trace/read.c: sections, cursors, and what every reader needs of an event: time, relative sequence numbers, addresses.
 *
 * Bytes may be anybody's: tcp_rec_decode() checks lengths, everything here takes any value of any field.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace/trace.h"

static uint64_t zero_of(const struct trace *tr);

/*
 * Names go into scripts, onto terminals and into pictures; those that taut writes are letters, digits, '_', '.' and '-'.
 * What else a record has in their place (it may be anybody's) becomes '?' here, before anything reads it.
 */
static void clean_names(void *base, const struct tcp_rec_field *f)
{
    for (; f->name; f++) {
        char *name = (char *)base + f->offset;

        for (unsigned i = 0; f->kind == TCP_REC_TEXT && i < 16 && name[i]; i++) {
            bool letter = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z');

            if (!letter && !(name[i] >= '0' && name[i] <= '9') && !strchr("_.-", name[i]))
                name[i] = '?';
        }
    }
}

int trace_open(const void *bytes, size_t n, struct trace *ret, size_t *ret_used, const char **ret_error)
{
    struct tcp_rec_head head;
    int r = tcp_rec_decode_head(bytes, n, &head, ret_error);

    if (r < 0)
        return r;
    clean_names(&head, tcp_rec_head_fields);
    *ret = (struct trace){
        .head = head, .events = (const uint8_t *)bytes + head.head_bytes, .bytes = head.event_bytes};
    ret->zero = zero_of(ret);
    if (ret_used)
        *ret_used = (size_t)head.head_bytes + head.event_bytes;
    return 0;
}

int trace_next(const struct trace *tr, struct trace_cursor *cursor, struct trace_event *ret)
{
    int r = tcp_rec_decode(tr->events, tr->bytes, &cursor->pos, &ret->e, &ret->tuple);

    if (r <= 0)
        return r;
    ret->type = (enum tcp_rec_type)ret->e.h.type;
    if (ret->type == TCP_REC_T_CONFIG || ret->type == TCP_REC_T_REPLY)
        clean_names(&ret->e, tcp_rec_type_info(ret->type)->fields);
    ret->number = 0;
    if (ret->type != TCP_REC_T_CONFIG)
        ret->number = tr->head.first_event + cursor->number++;
    return 1;
}

/* Where time begins: events that were adopted of a handshake may be older than the connection. */
static uint64_t zero_of(const struct trace *tr)
{
    uint64_t zero = tr->head.created_at;
    struct trace_cursor cursor = {0};
    struct trace_event ev;

    for (unsigned i = 0; i < 64 && trace_next(tr, &cursor, &ev) == 1; i++) {
        if (ev.type == TCP_REC_T_SEG_IN && ev.e.h.at < zero)
            zero = ev.e.h.at;
    }
    return zero;
}

int64_t trace_time(const struct trace *tr, uint64_t at)
{
    return (int64_t)(at - tr->zero);
}

void trace_seg(const struct tcp_ev_seg *e, struct tcp_seg *ret)
{
    struct tcp_options *o = &ret->opt;

    memset(ret, 0, sizeof *ret);
    ret->seq = e->seq;
    ret->ack = e->ack;
    ret->len = e->len;
    ret->wnd = e->wnd;
    ret->flags = e->tcp_flags & 0x1ff;
    ret->gso_size = e->gso_size;
    ret->urg_ptr = e->urg_ptr;
    ret->ecn = e->ecn & 3;
    ret->tos = e->tos;
    o->timestamps_ok = (e->opt_bits & TCP_REC_OPT_TS) != 0;
    o->mss_ok = (e->opt_bits & TCP_REC_OPT_MSS) != 0;
    o->wscale_ok = (e->opt_bits & TCP_REC_OPT_WSCALE) != 0;
    o->sack_permitted = (e->opt_bits & TCP_REC_OPT_SACK_OK) != 0;
    o->fastopen_ok = (e->opt_bits & TCP_REC_OPT_FASTOPEN) != 0;
    o->fastopen_exp = (e->opt_bits & TCP_REC_OPT_FASTOPEN_EXP) != 0;
    o->md5_ok = (e->opt_bits & TCP_REC_OPT_MD5) != 0; /* the digest is not recorded */
    o->tsval = e->tsval;
    o->tsecr = e->tsecr;
    o->mss = e->mss;
    o->wscale = e->wscale;
    o->sack_count = e->sack_count < TCP_SACK_BLOCKS_MAX ? e->sack_count : TCP_SACK_BLOCKS_MAX;
    for (unsigned i = 0; i < o->sack_count; i++)
        o->sack[i] = (struct tcp_sack_block){e->sack[2 * i], e->sack[2 * i + 1]};
    o->fastopen_bytes = e->fastopen_bytes < TCP_FASTOPEN_COOKIE_MAX ? e->fastopen_bytes : TCP_FASTOPEN_COOKIE_MAX;
    memcpy(o->fastopen_cookie, e->cookie, sizeof o->fastopen_cookie);
}

void trace_bases(const struct trace *tr, const struct trace_event *ev, uint32_t *ret_seq, uint32_t *ret_ack)
{
    bool in = ev->type == TCP_REC_T_SEG_IN;
    /* Before the peer's SYN is taken its ISN is not known; of what belongs to nobody nothing is. */
    uint32_t irs = tr->head.irs;

    if (ev->tuple.family || tr->head.kind == TCP_REC_KIND_ENGINE) {
        *ret_seq = *ret_ack = 0;
        return;
    }
    *ret_seq = in ? irs : tr->head.iss;
    *ret_ack = in ? tr->head.iss : irs;
}

char *trace_addr_text(const uint8_t b[16], unsigned family, uint16_t port, char buf[IP_ADDR_PORT_MAX])
{
    struct ip_addr a = {.family = (uint8_t)(family == IP_V6 ? IP_V6 : IP_V4)};

    memcpy(a.b, b, family == IP_V6 ? 16 : 4);
    return ip_addr_port_format(&a, port, buf);
}

/* How many bytes of CONFIG events a section begins with. */
static size_t config_bytes(const struct trace *tr)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    size_t bytes = 0;

    while (trace_next(tr, &cursor, &ev) == 1 && ev.type == TCP_REC_T_CONFIG)
        bytes = cursor.pos;
    return bytes;
}

int trace_join(void *bytes, size_t n, size_t *ret_used, size_t *ret_bytes, const char **ret_error)
{
    uint8_t *at = bytes;
    struct trace first, tr;
    size_t used = 0, size, to, config;
    int r = trace_open(bytes, n, &first, &used, ret_error);

    if (r < 0)
        return r;
    config = config_bytes(&first);
    to = used;
    while (used < n) {
        uint64_t begins = first.head.first_event;

        r = trace_open(at + used, n - used, &tr, &size, ret_error);
        if (r < 0)
            return r;
        if (tr.head.kind != first.head.kind || tr.head.id != first.head.id)
            break;
        if (tr.head.first_event != first.head.next_event) {
            config = config_bytes(&tr) ? 0 : config; /* its own, if it began anew */
            to = first.head.head_bytes + config;
            begins = tr.head.first_event;
        }
        memmove(at + to, tr.events, tr.bytes);
        to += tr.bytes;
        used += size;
        tr.head.head_bytes = first.head.head_bytes;
        tr.head.first_event = tr.head.lost_events = begins;
        first.head = tr.head;
    }
    first.head.event_bytes = (uint32_t)(to - first.head.head_bytes);
    memcpy(at, &first.head, first.head.head_bytes < sizeof first.head ? first.head.head_bytes : sizeof first.head);
    *ret_used = used;
    *ret_bytes = to;
    return 0;
}

ptrdiff_t trace_base64(const char *text, uint8_t *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int8_t value[256];
    ptrdiff_t n = 0;
    uint32_t v = 0;
    unsigned bits = 0;

    memset(value, -1, sizeof value);
    for (int i = 0; i < 64; i++)
        value[(unsigned char)digits[i]] = (int8_t)i;
    for (; *text && *text != '='; text++) {
        int d = value[(unsigned char)*text];

        if (d < 0)
            return -1;
        v = v << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            to[n++] = (uint8_t)(v >> bits);
        }
    }
    return n;
}

/* ---- text ---- */

/* Room for `more` bytes and a NUL. */
static bool text_room(struct trace_text *out, size_t more)
{
    size_t room = 2 * out->room + more + 1024;
    char *at;

    if (out->failed)
        return false;
    if (out->len + more + 1 <= out->room)
        return true;
    at = realloc(out->at, room);
    if (!at) {
        out->failed = true;
        return false;
    }
    out->at = at;
    out->room = room;
    return true;
}

void trace_put(struct trace_text *out, const void *bytes, size_t n)
{
    if (!text_room(out, n))
        return;
    if (n)
        memcpy(out->at + out->len, bytes, n);
    out->len += n;
    out->at[out->len] = 0;
}

void trace_print(struct trace_text *out, const char *fmt, ...)
{
    va_list ap;
    int need;

    va_start(ap, fmt);
    need = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (need < 0 || !text_room(out, (size_t)need))
        return;
    va_start(ap, fmt);
    out->len += (size_t)vsnprintf(out->at + out->len, out->room - out->len, fmt, ap);
    va_end(ap);
}

void trace_text_free(struct trace_text *out)
{
    free(out->at);
    *out = (struct trace_text){0};
}
