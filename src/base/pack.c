/*
 * base/pack.c: see pack.h for what is written.
 */
#include "base/pack.h"

#include <stdbool.h>
#include <string.h>

#define PACK_WORDS 9u
#define ZERO       13u
#define RUN_MAX    14u
#define NEAR       14u
#define PASSED     15u
#define PASS_MAX   (RUN_MAX + 1 + 255) /* words that one token passes over */
#define REMEMBERED 0x100u              /* words below are told by themselves as cheaply */

struct memory {
    uint32_t word[PACK_WORDS];
    unsigned next;
};

struct writer {
    uint8_t *to;
    size_t at, room;
};

static uint32_t word_at(const void *from, size_t i)
{
    uint32_t w = 0;

    if (from)
        memcpy(&w, (const uint8_t *)from + i * 4, 4);
    return w;
}

static void remember(struct memory *m, uint32_t w)
{
    if (w < REMEMBERED)
        return;
    m->word[m->next] = w;
    m->next = (m->next + 1) % PACK_WORDS;
}

static void put(struct writer *o, uint32_t byte)
{
    if (o->at < o->room)
        o->to[o->at] = (uint8_t)byte;
    o->at++;
}

static void put_token(struct writer *o, unsigned run, unsigned kind)
{
    put(o, (run < RUN_MAX + 1 ? run : RUN_MAX + 1) << 4 | kind);
    if (run > RUN_MAX)
        put(o, run - RUN_MAX - 1);
}

static unsigned width(uint32_t x)
{
    return x < 0x100 ? 1 : x < 0x10000 ? 2 : x < 0x1000000 ? 3 : 4;
}

/* The place of a word that equals w, or lies within a byte of it; PACK_WORDS: none. */
static unsigned recall(const struct memory *m, uint32_t w, bool near)
{
    for (unsigned i = 0; i < PACK_WORDS; i++)
        if (near ? w - m->word[i] + 128u < 256u : w == m->word[i])
            return i;
    return PACK_WORDS;
}

static void put_word(struct writer *o, struct memory *m, unsigned run, uint32_t w, uint32_t x)
{
    unsigned n = width(x), place;

    if (!w) {
        put_token(o, run, ZERO);
        return;
    }
    place = w >= REMEMBERED && n > 1 ? recall(m, w, false) : PACK_WORDS;
    if (place < PACK_WORDS) {
        put_token(o, run, 4 + place);
        return;
    }
    place = n > 2 ? recall(m, w, true) : PACK_WORDS;
    if (place < PACK_WORDS) {
        put_token(o, run, NEAR);
        put(o, place);
        put(o, w - m->word[place]);
        return;
    }
    put_token(o, run, n - 1);
    for (unsigned i = 0; i < n; i++)
        put(o, x >> 8 * i);
    remember(m, w);
}

size_t pack(const void *from, const void *like, size_t bytes, uint8_t *to, size_t room)
{
    struct writer o = {.to = to, .room = room};
    struct memory m = {.next = 0};
    unsigned run = 0;

    for (size_t i = 0; i < bytes / 4 && o.at <= room; i++) {
        uint32_t w = word_at(from, i), x = w ^ word_at(like, i);

        if (!x) {
            run++;
            continue;
        }
        for (; run > PASS_MAX; run -= PASS_MAX)
            put_token(&o, PASS_MAX, PASSED);
        put_word(&o, &m, run, w, x);
        run = 0;
    }
    return o.at <= room ? o.at : SIZE_MAX;
}

struct reader {
    const uint8_t *at, *end;
    bool broken;
};

static uint32_t take(struct reader *in)
{
    if (in->at < in->end)
        return *in->at++;
    in->broken = true;
    return 0;
}

static uint32_t take_word(struct reader *in, struct memory *m, unsigned kind, uint32_t like)
{
    uint32_t w = 0;

    if (kind == NEAR) {
        unsigned place = take(in);

        return m->word[place % PACK_WORDS] + (take(in) ^ 0x80u) - 0x80u;
    }
    if (kind == ZERO)
        return 0;
    if (kind >= 4)
        return m->word[kind - 4];
    for (unsigned i = 0; i <= kind; i++)
        w |= take(in) << 8 * i;
    w ^= like;
    remember(m, w);
    return w;
}

int unpack(const uint8_t *from, size_t n, const void *like, void *to, size_t bytes)
{
    struct reader in = {.at = from, .end = from + n};
    struct memory m = {.next = 0};
    size_t i = 0, words = bytes / 4;

    if (like)
        memcpy(to, like, bytes);
    else
        memset(to, 0, bytes);
    while (in.at < in.end) {
        unsigned token = take(&in), kind = token & 15;
        uint32_t w;

        i += token >> 4;
        if (token >> 4 == RUN_MAX + 1)
            i += take(&in);
        if (kind == PASSED)
            continue;
        if (in.broken || i >= words)
            return -1;
        w = take_word(&in, &m, kind, word_at(like, i));
        memcpy((uint8_t *)to + i * 4, &w, 4);
        i++;
    }
    return in.broken ? -1 : 0;
}
