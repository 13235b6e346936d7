/*
 * tcp/events.c: the flight recorder's format as tables, and its decoder: what a reader needs. Everything is made of the
 * X-macros of tcp_events.h. The decoder believes nothing: any bytes may come, out of a file or from another version.
 *
 *     0 <= *pos <= n, and it grows by 8 * words >= 16 with every event
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "tcp/tcp_enums.h"
#include "tcp/tcp_events.h"

static_assert(sizeof(struct tcp_rec_hdr) == 16, "a header is 16 bytes");
static_assert(sizeof(struct tcp_rec_tuple) == 40, "a tuple is 40 bytes");
static_assert(sizeof(union tcp_rec_event) % 8 == 0, "events are whole words");
static_assert(sizeof(struct tcp_rec_head) % 8 == 0, "events behind a head are aligned");

enum { KIND_U8 = TCP_REC_U8, KIND_U16 = TCP_REC_U16, KIND_U32 = TCP_REC_U32, KIND_U64 = TCP_REC_U64,
       KIND_I32 = TCP_REC_I32, KIND_I64 = TCP_REC_I64, KIND_SACK = TCP_REC_SACK_BLOCKS, KIND_B16 = TCP_REC_B16,
       KIND_IP = TCP_REC_IP, KIND_TEXT = TCP_REC_TEXT };

/* ---- fields ---- */

#define ROW(kind, name, help) {#name, KIND_##kind, (uint16_t)offsetof(struct THIS, name), help},
#define FIELDS(lower, UPPER)                                                                                   \
    static const struct tcp_rec_field fields_##UPPER[] = {TCP_REC_##UPPER(ROW){NULL, 0, 0, NULL}};

#define THIS tcp_ev_none
FIELDS(none, NONE)
#undef THIS
#define THIS tcp_ev_seg
FIELDS(seg, SEG)
#undef THIS
#define THIS tcp_ev_ack
FIELDS(ack, ACK)
#undef THIS
#define THIS tcp_ev_cong
FIELDS(cong, CONG)
#undef THIS
#define THIS tcp_ev_timer
FIELDS(timer, TIMER)
#undef THIS
#define THIS tcp_ev_fired
FIELDS(fired, FIRED)
#undef THIS
#define THIS tcp_ev_call
FIELDS(call, CALL)
#undef THIS
#define THIS tcp_ev_limit
FIELDS(limit, LIMIT)
#undef THIS
#define THIS tcp_ev_icmp
FIELDS(icmp, ICMP)
#undef THIS
#define THIS tcp_ev_config
FIELDS(config, CONFIG)
#undef THIS
#define THIS tcp_ev_named
FIELDS(named, NAMED)
#undef THIS
#define THIS tcp_ev_metrics
FIELDS(metrics, METRICS)
#undef THIS

#define THIS tcp_rec_head
const struct tcp_rec_field tcp_rec_head_fields[] = {TCP_REC_HEAD(ROW){NULL, 0, 0, NULL}};
#undef THIS

enum { BYTES_NONE = sizeof(struct tcp_ev_none), BYTES_SEG = sizeof(struct tcp_ev_seg),
       BYTES_ACK = sizeof(struct tcp_ev_ack), BYTES_CONG = sizeof(struct tcp_ev_cong),
       BYTES_TIMER = sizeof(struct tcp_ev_timer), BYTES_FIRED = sizeof(struct tcp_ev_fired),
       BYTES_CALL = sizeof(struct tcp_ev_call), BYTES_LIMIT = sizeof(struct tcp_ev_limit),
       BYTES_ICMP = sizeof(struct tcp_ev_icmp), BYTES_CONFIG = sizeof(struct tcp_ev_config),
       BYTES_NAMED = sizeof(struct tcp_ev_named), BYTES_METRICS = sizeof(struct tcp_ev_metrics) };

static const struct tcp_rec_type_info types[TCP_REC_T_MAX] = {
#define X(name, fields, code, arg, text) {#name, fields_##fields, BYTES_##fields, #code, arg, text},
    TCP_REC_TYPES(X)
#undef X
};

const struct tcp_rec_type_info *tcp_rec_type_info(unsigned type)
{
    return type < TCP_REC_T_MAX ? &types[type] : NULL;
}

int64_t tcp_rec_field_value(const void *base, const struct tcp_rec_field *f)
{
    const uint8_t *p = (const uint8_t *)base + f->offset;
    union {
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        int32_t i32;
        int64_t i64;
    } v = {0};

    switch (f->kind) {
    case TCP_REC_U8:
        return *p;
    case TCP_REC_U16:
        memcpy(&v.u16, p, sizeof v.u16);
        return v.u16;
    case TCP_REC_U32:
        memcpy(&v.u32, p, sizeof v.u32);
        return v.u32;
    case TCP_REC_I32:
        memcpy(&v.i32, p, sizeof v.i32);
        return v.i32;
    case TCP_REC_U64:
    case TCP_REC_I64:
        memcpy(&v.i64, p, sizeof v.i64);
        return v.i64;
    default:
        return 0;
    }
}

/* ---- codes ---- */

struct word {
    const char *name, *text;
};

#define X(name, text) {#name, text},
static const struct word starts[] = {TCP_REC_STARTS(X)};
static const struct word cas[] = {TCP_REC_CAS(X)};
static const struct word undos[] = {TCP_REC_UNDOS(X)};
static const struct word timers[] = {TCP_REC_TIMERS(X)};
static const struct word calls[] = {TCP_REC_CALLS(X)};
static const struct word devices[] = {TCP_REC_DEVICES(X)};
static const struct word neighbours[] = {TCP_REC_NEIGHBOURS(X)};
static const struct word replies[] = {TCP_REC_REPLIES(X)};
static const struct word ends[] = {TCP_REC_ENDS(X)};
static const struct word causes[] = {TCP_CAUSES(X)};
static const struct word drops[] = {TCP_DROPS(X)};
static const struct word limits[] = {TCP_LIMITS(X)};
static const struct word options[] = {TCP_REC_OPTS(X)};
#undef X

#define LIST(name, list) {name, list, sizeof list / sizeof list[0]}
static const struct {
    const char *code;
    const struct word *words;
    size_t n;
} lists[] = {
    LIST("START", starts), LIST("CA", cas),           LIST("UNDO", undos),           LIST("TIMER", timers),
    LIST("CALL", calls),   LIST("DEVICE", devices),   LIST("NEIGHBOUR", neighbours), LIST("REPLY", replies),
    LIST("END", ends),     LIST("CAUSE", causes),     LIST("DROP", drops),           LIST("LIMIT", limits),
};

static const struct word *find_word(unsigned type, unsigned code)
{
    static const struct word none = {"", ""}, unknown = {"?", "?"};
    const struct tcp_rec_type_info *info = tcp_rec_type_info(type);

    if (!info || strcmp(info->code, "NONE") == 0)
        return &none;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (strcmp(lists[i].code, info->code) == 0)
            return code < lists[i].n ? &lists[i].words[code] : &unknown;
    }
    return &unknown;
}

const char *tcp_rec_code_name(unsigned type, unsigned code)
{
    if (type == TCP_REC_T_STATE)
        return tcp_state_name((enum tcp_state)code);
    return find_word(type, code)->name;
}

const char *tcp_rec_code_text(unsigned type, unsigned code)
{
    return type == TCP_REC_T_STATE ? "" : find_word(type, code)->text;
}

const char *tcp_rec_option_name(unsigned option)
{
    return option < TCP_REC_OPTION_MAX ? options[option].name : "?";
}

const char *tcp_rec_option_text(unsigned option)
{
    return option < TCP_REC_OPTION_MAX ? options[option].text : "?";
}

/* ---- decoding ---- */

static int refuse(int error, const char *why, const char **ret_error)
{
    if (ret_error)
        *ret_error = why;
    return error;
}

int tcp_rec_decode_head(const void *bytes, size_t n, struct tcp_rec_head *ret, const char **ret_error)
{
    struct tcp_rec_head h = {0};
    size_t least = offsetof(struct tcp_rec_head, id), magic = sizeof TCP_REC_MAGIC - 1;

    if (n < magic || memcmp(bytes, TCP_REC_MAGIC, magic) != 0)
        return refuse(-EBADMSG, "this is no trace of taut's", ret_error);
    if (n < least)
        return refuse(-ENODATA, "the trace is cut off in its head", ret_error);
    memcpy(&h, bytes, least);
    if (h.byte_order != TCP_REC_BYTE_ORDER)
        return refuse(-EILSEQ, "the trace comes from a machine of another byte order", ret_error);
    if (h.version != TCP_REC_VERSION)
        return refuse(-EPROTONOSUPPORT, "the trace has another version", ret_error);
    if (h.head_bytes < least || h.head_bytes > 65536 || h.head_bytes % 8 || h.event_bytes % 8)
        return refuse(-EBADMSG, "the trace's head is damaged", ret_error);
    if (n < h.head_bytes || n - h.head_bytes < h.event_bytes)
        return refuse(-ENODATA, "the trace is cut off", ret_error);
    memcpy(&h, bytes, h.head_bytes < sizeof h ? h.head_bytes : sizeof h);
    h.magic[sizeof h.magic - 1] = h.congestion[sizeof h.congestion - 1] = 0;
    *ret = h;
    return 0;
}

int tcp_rec_decode(const void *events, size_t n, size_t *pos, union tcp_rec_event *ret,
                   struct tcp_rec_tuple *ret_tuple)
{
    const uint8_t *p = (const uint8_t *)events + *pos;
    const struct tcp_rec_type_info *info;
    struct tcp_rec_hdr h;
    size_t left = n - *pos, bytes, body;

    if (*pos >= n)
        return 0;
    if (left < sizeof h)
        return -EBADMSG;
    memcpy(&h, p, sizeof h);
    bytes = body = (size_t)h.words * 8;
    if (bytes < sizeof h || bytes > left)
        return -EBADMSG;
    if (h.flags & TCP_REC_F_TUPLE) {
        if (bytes < sizeof h + sizeof(struct tcp_rec_tuple))
            return -EBADMSG;
        body -= sizeof(struct tcp_rec_tuple);
    }
    if (ret_tuple) {
        *ret_tuple = (struct tcp_rec_tuple){.family = 0};
        if (h.flags & TCP_REC_F_TUPLE)
            memcpy(ret_tuple, p + body, sizeof *ret_tuple);
    }
    info = tcp_rec_type_info(h.type);
    memset(ret, 0, sizeof *ret);
    memcpy(ret, p, !info ? sizeof h : body < info->bytes ? body : info->bytes);
    *pos += bytes;
    return 1;
}
