/*
 * daemon/arena.c: the arena's layout, its check, links and the configuration in it (theory of operation in arena.h).
 *
 * The size of every region follows from the header's numbers, and the header's sum covers them, so an arena that was cut
 * off, is another program's or was damaged is found before anything in it is used. Sealed against shrinking: a mapping
 * never meets SIGBUS; against growing: it stays what was checked.
 */
#include "daemon/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "tcp/tcp_record.h"

#define MAGIC "tautarna"
#define PAGE 4096u
#define LINKS_BESIDE 1024u /* for listeners and their keys; at least, and a quarter of connections */

/* The text is for other builds; the struct saves workers of the same one the reading. */
struct config_copy {
    uint64_t text_sum, config_sum;
    uint32_t text_bytes, unused;
    char text[CONFIG_TEXT_MAX];
    struct daemon_config config;
};

/* By words: the configuration is summed at every start. */
static uint64_t sum_of(const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t h = 0xcbf29ce484222325ull, word = 0;

    for (; bytes >= sizeof word; at += sizeof word, bytes -= sizeof word) {
        memcpy(&word, at, sizeof word);
        h = (h ^ word) * 0x100000001b3ull;
        h ^= h >> 32;
    }
    while (bytes--)
        h = (h ^ *at++) * 0x100000001b3ull;
    return h ? h : 1;
}

static uint64_t head_sum(const struct arena_head *h)
{
    return sum_of(h, offsetof(struct arena_head, sum));
}

void arena_sign(struct arena_head *h)
{
    h->sum = head_sum(h);
}

unsigned arena_cache_specs(const struct stack_config *config, struct keep_spec *ret)
{
    unsigned n = stack_keep_specs(config, ret);

    ret[n] = keep_counters_spec("daemon counters");
    return n + 1;
}

static uint64_t cache_bytes(const struct daemon_config *config)
{
    struct keep_spec spec[ARENA_CACHE_TABLES];

    return keep_bytes(spec, arena_cache_specs(&config->stack, spec));
}

/* Whatever caches a build has: where they lie is the header's word, what they hold their directory's. */
static void region_sizes(const struct arena_head *h, uint64_t caches_bytes, uint64_t buffer_bytes,
                         uint64_t ret[ARENA_REGIONS])
{
    ret[ARENA_RECORDS] = tcp_records_bytes_of(h->max_conns, h->record_bytes);
    ret[ARENA_REQUESTS] = (uint64_t)h->max_half_open * tcp_request_bytes();
    ret[ARENA_TIME_WAIT] = (uint64_t)h->max_time_wait * tcp_time_wait_bytes();
    ret[ARENA_KEYS] = (uint64_t)h->n_keys * tcp_md5_slot_bytes();
    ret[ARENA_JOURNAL] = chunk_journal_bytes(h->notes);
    ret[ARENA_LINKS] = (uint64_t)h->n_links * sizeof(struct link_slot);
    ret[ARENA_CONFIG] = 2 * (uint64_t)h->config_bytes;
    ret[ARENA_SCHEMA] = ARENA_SCHEMA_BYTES;
    ret[ARENA_CACHES] = caches_bytes;
    ret[ARENA_PAYLOAD] = buffer_bytes;
}

static void lay_out(struct arena_head *h, uint64_t caches_bytes, uint64_t buffer_bytes)
{
    uint64_t size[ARENA_REGIONS], at = (sizeof *h + PAGE - 1) / PAGE * PAGE;

    region_sizes(h, caches_bytes, buffer_bytes, size);
    for (unsigned i = 0; i < ARENA_REGIONS; i++) {
        h->region[i] = (struct arena_region){.offset = at, .bytes = size[i]};
        at += (size[i] + PAGE - 1) / PAGE * PAGE;
    }
    h->bytes = at;
}

/* What changes is not summed: it must at least lie within. */
static bool counts_fit(const struct arena_head *h)
{
    return h->links_touched <= h->n_links && h->kept.records_touched <= h->max_conns &&
           h->kept.cells_touched <= h->max_conns && h->kept.requests_touched <= h->max_half_open &&
           h->kept.time_wait_touched <= h->max_time_wait && h->kept.requests6_touched <= h->max_half_open &&
           h->kept.time_wait6_touched <= h->max_time_wait;
}

/* All but the records and the configuration: whatever build reads them, this must be the same. */
static const char *frame_check(const void *base, size_t bytes)
{
    static char versions[96];
    const struct arena_head *h = base;
    struct arena_head expect;

    if (bytes < sizeof *h || memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return "it is no arena";
    if (h->version != ARENA_VERSION || h->head_bytes != sizeof *h) {
        snprintf(versions, sizeof versions, "it is of version %u.%u, this program reads %u.%zu", h->version,
                 h->head_bytes, ARENA_VERSION, sizeof *h);
        return versions;
    }
    if (h->sum != head_sum(h))
        return "the sum of its header is wrong";
    if (h->link_bytes != sizeof(struct link_slot) || h->config_bytes < offsetof(struct config_copy, config) ||
        h->request_bytes != tcp_request_bytes() || h->time_wait_bytes != tcp_time_wait_bytes() ||
        h->note_bytes != sizeof(struct chunk_note) || h->key_bytes != tcp_md5_slot_bytes())
        return "its entries are of another version";
    expect = *h;
    lay_out(&expect, h->region[ARENA_CACHES].bytes, h->region[ARENA_PAYLOAD].bytes);
    if (memcmp(expect.region, h->region, sizeof h->region) != 0 || expect.bytes != h->bytes)
        return "its regions do not fit together";
    if (h->bytes != bytes)
        return "it is cut off";
    return counts_fit(h) ? NULL : "its counts are out of range";
}

/* Caches of another build are a reason to convert the arena; damaged ones are none, they are emptied. */
static bool other_caches(const void *base, const struct arena_head *h)
{
    static const struct stack_config any; /* says how many, which does not matter here */
    struct keep_spec spec[ARENA_CACHE_TABLES];
    const void *caches = (const uint8_t *)base + h->region[ARENA_CACHES].offset;
    size_t bytes = h->region[ARENA_CACHES].bytes;

    return !keep_check(caches, bytes, NULL, 0) && keep_check(caches, bytes, spec, arena_cache_specs(&any, spec));
}

const char *arena_check(const void *base, size_t bytes)
{
    const struct arena_head *h = base;
    const char *why = frame_check(base, bytes);

    if (why)
        return why;
    if (h->record_layout != tcp_record_layout() || h->record_bytes != sizeof(struct tcp_record))
        return "its records are of another version";
    if (h->config_bytes != sizeof(struct config_copy))
        return "its configuration is of another version";
    return other_caches(base, h) ? "its caches are of another version" : NULL;
}

static int map(struct arena *a, size_t bytes, char *error, size_t error_bytes)
{
    a->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, a->fd, 0);
    if (a->base == MAP_FAILED) {
        a->base = NULL;
        snprintf(error, error_bytes, "cannot map the arena (%zu bytes): %s", bytes, strerror(errno));
        return -1;
    }
    a->head = (struct arena_head *)a->base;
    return 0;
}

static bool fill_head(struct arena_head *h, const struct daemon_config *c)
{
    *h = (struct arena_head){.version = ARENA_VERSION,
                             .head_bytes = sizeof *h,
                             .record_layout = tcp_record_layout(),
                             .record_bytes = sizeof(struct tcp_record),
                             .link_bytes = sizeof(struct link_slot),
                             .config_bytes = sizeof(struct config_copy),
                             .max_conns = c->max_conns,
                             .max_half_open = c->max_half_open,
                             .max_time_wait = (uint32_t)c->tcp.tcp_max_tw_buckets,
                             .notes = (uint32_t)(2 * c->buffer_bytes / CHUNK_SMALL_BYTES),
                             .n_links = c->max_conns + (c->max_conns / 4 > LINKS_BESIDE ? c->max_conns / 4 : LINKS_BESIDE),
                             .request_bytes = (uint32_t)tcp_request_bytes(),
                             .time_wait_bytes = (uint32_t)tcp_time_wait_bytes(),
                             .note_bytes = sizeof(struct chunk_note),
                             .key_bytes = (uint32_t)tcp_md5_slot_bytes(),
                             .n_keys = TCP_MD5_KEYS_MAX,
                             .schema_sum = sum_of(tcp_record_schema(), strlen(tcp_record_schema()) + 1)};
    memcpy(h->magic, MAGIC, sizeof h->magic);
    lay_out(h, cache_bytes(c), c->buffer_bytes);
    if (getrandom(&h->secrets, sizeof h->secrets, 0) != (ssize_t)sizeof h->secrets)
        return false;
    arena_sign(h);
    return true;
}

int arena_create(const struct daemon_config *config, struct arena *ret, char *error, size_t bytes)
{
    struct keep_spec spec[ARENA_CACHE_TABLES];
    struct arena_head head;

    *ret = (struct arena){.fd = -1};
    if (!fill_head(&head, config)) {
        snprintf(error, bytes, "no randomness for the arena");
        return -1;
    }
    ret->fd = memfd_create("taut-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ret->fd < 0 || ftruncate(ret->fd, (off_t)head.bytes) != 0 ||
        fcntl(ret->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        snprintf(error, bytes, "cannot make an arena of %llu bytes: %s", (unsigned long long)head.bytes,
                 strerror(errno));
        arena_close(ret);
        return -1;
    }
    if (map(ret, head.bytes, error, bytes) < 0) {
        arena_close(ret);
        return -1;
    }
    *ret->head = head;
    ret->head->began_at = daemon_now();
    keep_format(arena_at(ret, ARENA_CACHES), spec, arena_cache_specs(&config->stack, spec));
    snprintf(arena_at(ret, ARENA_SCHEMA), ARENA_SCHEMA_BYTES, "%s", tcp_record_schema());
    arena_put_config(ret, config);
    return 0;
}

/* Maps what another process left, after `check` said nothing against it. */
static int attach(int fd, const char *(*check)(const void *, size_t), struct arena *ret, char *error, size_t bytes)
{
    struct stat st;
    const char *why;
    int seals = fcntl(fd, F_GET_SEALS);

    *ret = (struct arena){.fd = fd};
    if (fstat(fd, &st) != 0 || seals < 0 || !(seals & F_SEAL_SHRINK)) {
        snprintf(error, bytes, "the arena cannot be used: it is no sealed memory");
        return -1;
    }
    if (map(ret, (size_t)st.st_size, error, bytes) < 0)
        return -1;
    why = check(ret->base, (size_t)st.st_size);
    if (!why)
        return 0;
    snprintf(error, bytes, "the arena cannot be used: %s", why);
    munmap(ret->base, (size_t)st.st_size);
    ret->base = NULL;
    return -1;
}

int arena_attach(int fd, struct arena *ret, char *error, size_t bytes)
{
    return attach(fd, arena_check, ret, error, bytes);
}

/* ---- Of another build -------------------------------------------------------------------------------------------- */

static const char *schema_check(const struct arena *a)
{
    const char *schema = arena_at(a, ARENA_SCHEMA);

    if (!memchr(schema, 0, ARENA_SCHEMA_BYTES) || sum_of(schema, strlen(schema) + 1) != a->head->schema_sum)
        return "the description of its records is damaged";
    return tcp_record_schema_check(schema, a->head->record_bytes);
}

static void convert_records(const struct arena *from, struct arena *to)
{
    size_t step = tcp_record_slot_bytes_of(from->head->record_bytes);
    const uint8_t *slots = arena_at(from, ARENA_RECORDS);

    for (uint32_t i = 0; i < from->head->kept.records_touched && i < from->head->max_conns; i++) {
        const void *old = tcp_record_published_of(slots + i * step, from->head->record_bytes);
        struct tcp_record r;

        if (old && tcp_record_translate(arena_at(from, ARENA_SCHEMA), old, from->head->record_bytes, &r) == 0)
            tcp_record_put(arena_at(to, ARENA_RECORDS), i, &r);
    }
}

/* One that has a record was woken: its cell is of old. */
static bool has_record(const struct arena *to, const uint32_t *record_of, uint32_t slot, uint64_t id)
{
    const struct tcp_record *r = record_of[slot] ? tcp_record_published(arena_at(to, ARENA_RECORDS), record_of[slot] - 1) : NULL;

    return r && r->id == id;
}

/* Parked ones get records where there are none yet; record_of: by slot of the id, place + 1. */
static void convert_parked(const struct arena *from, struct arena *to, void *old, uint32_t *record_of)
{
    uint32_t bytes = from->head->record_bytes, n = from->head->max_conns, place = 0;
    void *slots = arena_at(to, ARENA_RECORDS);
    const struct tcp_record *other;
    struct tcp_record r;

    for (uint32_t i = 0; i < n && i < from->head->kept.records_touched; i++)
        if ((other = tcp_record_published(slots, i)) != NULL && (other->id & 0xffffff) < n)
            record_of[other->id & 0xffffff] = i + 1;
    for (uint32_t i = 0; i < from->head->kept.cells_touched && i < n; i++) {
        if (tcp_record_parked_of(arena_at(from, ARENA_RECORDS), n, i, bytes, old) ||
            tcp_record_translate(arena_at(from, ARENA_SCHEMA), old, bytes, &r) || has_record(to, record_of, i, r.id))
            continue;
        while (place < n && tcp_record_published(slots, place))
            place++;
        if (place < n)
            tcp_record_put(slots, place++, &r);
    }
    if (to->head->kept.records_touched < place)
        to->head->kept.records_touched = place;
}

static int convert_cells(const struct arena *from, struct arena *to)
{
    uint32_t *record_of = calloc(from->head->max_conns ? from->head->max_conns : 1, sizeof *record_of);
    void *old = malloc(from->head->record_bytes);
    int r = old && record_of ? 0 : -ENOMEM;

    if (r == 0)
        convert_parked(from, to, old, record_of);
    to->head->kept.cells_touched = 0;
    free(record_of);
    free(old);
    return r;
}

/* Only bytes that a note names: untouched pages stay so. */
static void copy_payload(const struct arena *from, struct arena *to)
{
    const struct chunk_journal *journal = arena_at(from, ARENA_JOURNAL);
    const struct chunk_note *note = (const struct chunk_note *)(journal + 1);
    uint64_t bytes = from->head->region[ARENA_PAYLOAD].bytes;

    for (uint32_t i = 0; i < journal->touched && i < from->head->notes; i++)
        if (note[i].kind != CHUNK_NOTE_FREE && note[i].offset < bytes && note[i].len <= bytes - note[i].offset)
            memcpy((uint8_t *)arena_at(to, ARENA_PAYLOAD) + note[i].offset,
                   (const uint8_t *)arena_at(from, ARENA_PAYLOAD) + note[i].offset, note[i].len);
}

static void copy_used(const struct arena *from, struct arena *to, enum arena_region_name which, uint64_t bytes)
{
    uint64_t most = from->head->region[which].bytes;

    memcpy(arena_at(to, which), arena_at(from, which), bytes < most ? bytes : most);
}

/* Half-open and TIME-WAIT entries: those of either family begin at a place of their own. */
static void copy_entries(const struct arena *from, struct arena *to)
{
    const struct arena_head *h = from->head;
    const struct tcp_kept *kept = &h->kept;
    size_t offset[2][2], bytes[2][2];

    tcp_requests_used(kept, h->max_half_open, offset[0], bytes[0]);
    tcp_time_wait_used(kept, h->max_time_wait, offset[1], bytes[1]);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned v6 = 0; v6 < 2; v6++)
            memcpy((uint8_t *)arena_at(to, i ? ARENA_TIME_WAIT : ARENA_REQUESTS) + offset[i][v6],
                   (const uint8_t *)arena_at(from, i ? ARENA_TIME_WAIT : ARENA_REQUESTS) + offset[i][v6], bytes[i][v6]);
}

static void copy_caches(const struct arena *from, struct arena *to)
{
    const void *old = arena_at(from, ARENA_CACHES);

    if (keep_check(old, from->head->region[ARENA_CACHES].bytes, NULL, 0))
        snprintf(to->forgotten, sizeof to->forgotten, "all, their directory is damaged");
    else
        keep_copy(old, arena_at(to, ARENA_CACHES), to->forgotten, sizeof to->forgotten);
}

static int fill_from(const struct arena *from, struct arena *to)
{
    const struct arena_head *h = from->head;
    const struct chunk_journal *journal = arena_at(from, ARENA_JOURNAL);

    to->head->secrets = h->secrets;
    arena_sign(to->head);
    to->head->kept = h->kept;
    to->head->generation = h->generation;
    to->head->links_touched = h->links_touched;
    to->head->ready = h->ready;
    to->head->told = h->told;
    to->head->began_at = h->began_at;
    copy_caches(from, to);
    to->head->supervisor_at = h->supervisor_at;
    to->head->attempts = h->attempts;
    convert_records(from, to);
    if (convert_cells(from, to) < 0)
        return -ENOMEM;
    copy_entries(from, to);
    copy_used(from, to, ARENA_KEYS, (uint64_t)h->n_keys * h->key_bytes);
    copy_used(from, to, ARENA_JOURNAL, chunk_journal_bytes(journal->touched));
    copy_used(from, to, ARENA_LINKS, (uint64_t)h->links_touched * h->link_bytes);
    copy_payload(from, to);
    return 0;
}

static void tell_unknown(void *user, const char *section, const char *key, const char *value)
{
    if (user)
        log_msg(user, LOG_LVL_NOTICE, "%s.%s = %s is forgotten: this version has no such key", section, key, value);
}

/* What was in effect, over what the file says; sizes are the arena's, whatever the file says. 0 or -1. */
static int merge_config(const struct arena *from, const struct log_sink *log, struct daemon_config *config, char *error,
                        size_t bytes)
{
    const struct arena_head *h = from->head;
    uint32_t selector = __atomic_load_n(&h->config_selector, __ATOMIC_ACQUIRE);
    const struct config_copy *copy =
        (const struct config_copy *)((uint8_t *)arena_at(from, ARENA_CONFIG) + (uint64_t)(selector & 1) * h->config_bytes);

    if (!selector || !copy->text_bytes || copy->text_bytes > CONFIG_TEXT_MAX ||
        copy->text_sum != sum_of(copy->text, copy->text_bytes)) {
        snprintf(error, bytes, "the arena cannot be used: its configuration is damaged");
        return -1;
    }
    if (config_text_read(copy->text, copy->text_bytes, config, log ? tell_unknown : NULL, (void *)(uintptr_t)log, error,
                         bytes) < 0)
        return -1;
    config->buffer_bytes = h->region[ARENA_PAYLOAD].bytes;
    config->max_conns = h->max_conns;
    config->max_half_open = h->max_half_open;
    return 0;
}

/* Of this build, or of one whose frame is the same. */
static int attach_any(int fd, struct arena *ret, bool *ret_same, char *error, size_t bytes)
{
    const char *why;

    if (attach(fd, frame_check, ret, error, bytes) < 0)
        return -1;
    *ret_same = arena_check(ret->base, ret->head->bytes) == NULL;
    why = *ret_same ? NULL : schema_check(ret);
    if (!why)
        return 0;
    snprintf(error, bytes, "the arena cannot be used: %s", why);
    munmap(ret->base, ret->head->bytes);
    ret->base = NULL;
    return -1;
}

static int convert(const struct arena *from, const struct daemon_config *config, struct arena *ret, char *error,
                   size_t bytes)
{
    struct daemon_config *sized = malloc(sizeof *sized);
    int r = -1;

    if (!sized) {
        snprintf(error, bytes, "out of memory");
        return -1;
    }
    *sized = *config;
    sized->tcp.tcp_max_tw_buckets = (int32_t)from->head->max_time_wait; /* may have been set since */
    if (arena_create(sized, ret, error, bytes) == 0) {
        r = fill_from(from, ret);
        if (r < 0) {
            snprintf(error, bytes, "out of memory");
            munmap(ret->base, ret->head->bytes);
            close(ret->fd);
            ret->base = NULL;
        }
    }
    explicit_bzero(sized->md5, sizeof sized->md5);
    free(sized);
    return r;
}

enum arena_taken arena_take(const struct arena_source *source, struct daemon_config *config, struct arena *ret,
                            char *error, size_t bytes)
{
    struct arena from;
    bool same;

    *ret = (struct arena){.fd = -1};
    if (attach_any(source->fd, &from, &same, error, bytes) < 0)
        return ARENA_REFUSED;
    if (merge_config(&from, source->log, config, error, bytes) < 0 ||
        (!same && convert(&from, config, ret, error, bytes) < 0)) {
        munmap(from.base, from.head->bytes);
        return ARENA_REFUSED;
    }
    if (same)
        *ret = from;
    else
        munmap(from.base, from.head->bytes);
    arena_put_config(ret, config);
    return same ? ARENA_ATTACHED : ARENA_CONVERTED;
}

int arena_could_take(int fd, const struct daemon_config *config, char *error, size_t bytes)
{
    struct daemon_config *merged;
    struct arena from;
    bool same;
    int r = -1;

    if (attach_any(fd, &from, &same, error, bytes) < 0)
        return -1;
    merged = malloc(sizeof *merged);
    if (merged) {
        *merged = *config;
        r = merge_config(&from, NULL, merged, error, bytes);
        explicit_bzero(merged->md5, sizeof merged->md5);
    } else {
        snprintf(error, bytes, "out of memory");
    }
    free(merged);
    munmap(from.base, from.head->bytes);
    return r;
}

void arena_close(struct arena *a)
{
    if (a->base)
        munmap(a->base, a->head->bytes);
    if (a->fd >= 0)
        close(a->fd);
    free(a->free_links);
    *a = (struct arena){.fd = -1};
}

void *arena_at(const struct arena *a, enum arena_region_name which)
{
    return a->base + a->head->region[which].offset;
}

/* ---- Caches ------------------------------------------------------------------------------------------------------ */

void *arena_caches(struct arena *a, const struct daemon_config *config, const char **ret_why)
{
    struct keep_spec spec[ARENA_CACHE_TABLES];
    unsigned n = arena_cache_specs(&config->stack, spec);
    size_t bytes = a->head->region[ARENA_CACHES].bytes;
    void *memory = arena_at(a, ARENA_CACHES);

    *ret_why = keep_check(memory, bytes, spec, n);
    if (!*ret_why)
        return memory;
    if (keep_bytes(spec, n) > bytes) /* the configuration was changed meanwhile, too: this time without */
        return NULL;
    memset(memory, 0, bytes);
    keep_format(memory, spec, n);
    return memory;
}

/* ---- The configuration ------------------------------------------------------------------------------------------- */

void arena_put_config(struct arena *a, const struct daemon_config *config)
{
    uint32_t next = a->head->config_selector + 1 ? a->head->config_selector + 1 : 2;
    struct config_copy *copy = (struct config_copy *)arena_at(a, ARENA_CONFIG) + (next & 1);

    copy->config = *config;
    copy->config_sum = sum_of(&copy->config, sizeof copy->config);
    copy->text_bytes = (uint32_t)config_text_write(config, copy->text, sizeof copy->text);
    copy->text_sum = sum_of(copy->text, copy->text_bytes);
    __atomic_store_n(&a->head->config_selector, next, __ATOMIC_RELEASE);
}

bool arena_get_config(const struct arena *a, struct daemon_config *ret)
{
    uint32_t selector = __atomic_load_n(&a->head->config_selector, __ATOMIC_ACQUIRE);
    const struct config_copy *copy = (const struct config_copy *)arena_at(a, ARENA_CONFIG) + (selector & 1);

    if (!selector || copy->config_sum != sum_of(&copy->config, sizeof copy->config))
        return false;
    *ret = copy->config;
    return true;
}

/* ---- Links ------------------------------------------------------------------------------------------------------- */

struct link_slot *arena_link(const struct arena *a, uint32_t i)
{
    return (struct link_slot *)arena_at(a, ARENA_LINKS) + i;
}

static struct link_slot *place(struct arena *a)
{
    if (!a)
        return calloc(1, sizeof(struct link_slot));
    if (a->n_free_links)
        return arena_link(a, a->free_links[--a->n_free_links]);
    if (a->head->links_touched == a->head->n_links)
        return NULL;
    return arena_link(a, a->head->links_touched++);
}

struct link_slot *link_new(struct daemon *d, enum link_kind kind, const struct link_slot *fields)
{
    struct link_slot *l = place(d->arena);

    if (!l) {
        d->counters.no_links++;
        return NULL;
    }
    *l = *fields;
    l->kind = LINK_FREE;
    __atomic_store_n(&l->kind, (uint8_t)kind, __ATOMIC_RELEASE);
    return l;
}

void link_free(struct daemon *d, struct link_slot *l)
{
    struct arena *a = d->arena;

    if (!a) {
        free(l);
        return;
    }
    __atomic_store_n(&l->kind, LINK_FREE, __ATOMIC_RELEASE);
    a->free_links[a->n_free_links++] = (uint32_t)(l - arena_link(a, 0));
}

int arena_links_restored(struct arena *a)
{
    if (!a->free_links)
        a->free_links = malloc(a->head->n_links * sizeof *a->free_links);
    if (!a->free_links)
        return -ENOMEM;
    a->n_free_links = 0;
    if (a->head->links_touched > a->head->n_links)
        a->head->links_touched = a->head->n_links;
    for (uint32_t i = a->head->links_touched; i-- > 0;)
        if (arena_link(a, i)->kind == LINK_FREE)
            a->free_links[a->n_free_links++] = i;
    return 0;
}
