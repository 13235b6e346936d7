/*
 * tcp/translate.c: records of another build, read by the names of their fields (tcp_record.h).
 *
 * A record is laid out as the compiler lays out the struct: the head {layout, bytes, sum}, then the fields in the order of
 * the schema, each at its natural alignment, then cc_name, then padding to 8. So the schema is enough to find a field.
 * Numbers keep their value whatever their widths; bytes are taken only where they are as many.
 */
#include "tcp/tcp_priv.h"
#include "tcp/tcp_record.h"

#define TEXT(x) #x

struct field {
    char name[48];
    size_t offset, bytes;
    bool number, is_signed;
};

struct reader {
    const char *at;
    size_t offset;
    bool broken;
};

const char *tcp_record_schema(void)
{
#define V(type, name, member) TEXT(type) " " TEXT(name) ";"
#define B(name, member, n)    "bytes" TEXT(n) " " TEXT(name) ";"
    return TCP_RECORD_FIELDS(V, B);
#undef V
#undef B
}

/* A small decimal number behind `prefix`; 0: none. */
static size_t number_behind(const char *text, const char *prefix)
{
    size_t n = 0, skip = strlen(prefix);

    if (strncmp(text, prefix, skip) != 0)
        return 0;
    for (text += skip; *text >= '0' && *text <= '9' && n < 100000; text++)
        n = n * 10 + (size_t)(*text - '0');
    return n;
}

static size_t type_of(const char *type, struct field *ret)
{
    size_t bits = number_behind(type, "uint"), n = number_behind(type, "bytes");

    ret->is_signed = type[0] == 'i';
    if (ret->is_signed)
        bits = number_behind(type, "int");
    ret->number = bits != 0;
    if (bits)
        return bits == 8 || bits == 16 || bits == 32 || bits == 64 ? bits / 8 : 0;
    return n <= 4096 ? n : 0;
}

/* Up to `end`, into `to` of `size` bytes; what follows the end, or NULL. */
static const char *word(const char *at, char end, char *to, size_t size)
{
    const char *stop = strchr(at, end);

    if (!stop || stop == at || (size_t)(stop - at) >= size)
        return NULL;
    memcpy(to, at, (size_t)(stop - at));
    to[stop - at] = '\0';
    return stop + 1;
}

/* The next field; false at the end, or with r->broken. */
static bool next_field(struct reader *r, struct field *ret)
{
    const char *name, *next = NULL;
    char type[48];

    if (!*r->at)
        return false;
    name = word(r->at, ' ', type, sizeof type);
    if (name)
        next = word(name, ';', ret->name, sizeof ret->name);
    if (!next || (ret->bytes = type_of(type, ret)) == 0) {
        r->broken = true;
        return false;
    }
    r->at = next;
    if (ret->number)
        r->offset = (r->offset + ret->bytes - 1) / ret->bytes * ret->bytes;
    ret->offset = r->offset;
    r->offset += ret->bytes;
    return true;
}

static struct reader begin(const char *schema)
{
    return (struct reader){.at = schema, .offset = offsetof(struct tcp_record, sum) + sizeof(uint64_t)};
}

static bool find(const char *schema, const char *name, struct field *ret)
{
    struct reader r = begin(schema);

    while (next_field(&r, ret))
        if (strcmp(ret->name, name) == 0)
            return true;
    return false;
}

const char *tcp_record_schema_check(const char *schema, uint32_t record_bytes)
{
    static const char *const needed[] = {"id", "tuple", "snd_una", "snd_nxt", "write_seq", "rcv_nxt", "copied_seq", "state",
                                         "iss", "irs", "snd_wnd", "rcv_wnd", "owned", "cc_state"};
    struct reader r = begin(schema);
    struct field f;

    while (next_field(&r, &f))
        ;
    if (r.broken)
        return "the description of its records is damaged";
    if ((r.offset + TCP_RECORD_CC_NAME_BYTES + 7) / 8 * 8 != record_bytes)
        return "the description of its records does not fit them";
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!find(schema, needed[i], &f))
            return "its records lack what a connection needs";
    return NULL;
}

static void take_number(const struct field *f, const void *record, void *to, size_t to_bytes)
{
    uint64_t v = 0;

    memcpy(&v, (const uint8_t *)record + f->offset, f->bytes);
    if (f->is_signed && f->bytes < 8 && v >> (8 * f->bytes - 1))
        v |= ~0ull << 8 * f->bytes;
    memcpy(to, &v, to_bytes);
}

static uint64_t sum_of(const uint8_t *record, size_t n)
{
    struct tcp_record_sum s;
    size_t from = offsetof(struct tcp_record, sum) + sizeof(uint64_t);

    tcp_record_sum_begin(&s);
    for (size_t at = from; at + 8 <= n; at += 8)
        tcp_record_sum_add(&s, record + at);
    return tcp_record_sum_end(&s);
}

int tcp_record_translate(const char *schema, const void *bytes, size_t n, struct tcp_record *ret)
{
    size_t from = offsetof(struct tcp_record, sum) + sizeof(uint64_t);
    struct reader r = begin(schema);
    struct field f;
    uint64_t sum;

    if (n < from || tcp_record_schema_check(schema, (uint32_t)n))
        return -EINVAL;
    memcpy(&sum, (const uint8_t *)bytes + offsetof(struct tcp_record, sum), sizeof sum);
    if (sum != sum_of(bytes, n))
        return -EILSEQ;
    memset(ret, 0, sizeof *ret);
    ret->keepalive_at = ret->linger_at = ret->retrans_at = TIME_NEVER;
#define V(type, name, member)                                                                                          \
    if (find(schema, TEXT(name), &f) && f.number)                                                                      \
        take_number(&f, bytes, &ret->name, sizeof ret->name);
#define B(name, member, count)                                                                                         \
    if (find(schema, TEXT(name), &f) && f.bytes == sizeof ret->name)                                                   \
        memcpy(ret->name, (const uint8_t *)bytes + f.offset, sizeof ret->name);
    TCP_RECORD_FIELDS(V, B)
#undef V
#undef B
    while (next_field(&r, &f))
        ;
    memcpy(ret->cc_name, (const uint8_t *)bytes + r.offset, sizeof ret->cc_name);
    tcp_record_seal(ret);
    return 0;
}
