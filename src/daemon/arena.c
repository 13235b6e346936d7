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

#include "tcp/tcp_record.h"

#define MAGIC "tautarna"
#define PAGE 4096u
#define LINKS 32768u /* more than descriptors, as a rule */

struct config_copy {
    uint64_t sum;
    struct daemon_config config;
};

static uint64_t sum_of(const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t h = 0xcbf29ce484222325ull;

    for (size_t i = 0; i < bytes; i++)
        h = (h ^ at[i]) * 0x100000001b3ull;
    return h ? h : 1;
}

static uint64_t head_sum(const struct arena_head *h)
{
    return sum_of(h, offsetof(struct arena_head, sum));
}

static void region_sizes(const struct arena_head *h, uint64_t buffer_bytes, uint64_t ret[ARENA_REGIONS])
{
    ret[ARENA_RECORDS] = (uint64_t)h->max_conns * tcp_record_slot_bytes();
    ret[ARENA_REQUESTS] = (uint64_t)h->max_half_open * tcp_request_bytes();
    ret[ARENA_TIME_WAIT] = (uint64_t)h->max_time_wait * tcp_time_wait_bytes();
    ret[ARENA_JOURNAL] = chunk_journal_bytes(h->notes);
    ret[ARENA_LINKS] = (uint64_t)h->n_links * sizeof(struct link_slot);
    ret[ARENA_CONFIG] = 2 * sizeof(struct config_copy);
    ret[ARENA_PAYLOAD] = buffer_bytes;
}

static void lay_out(struct arena_head *h, uint64_t buffer_bytes)
{
    uint64_t size[ARENA_REGIONS], at = (sizeof *h + PAGE - 1) / PAGE * PAGE;

    region_sizes(h, buffer_bytes, size);
    for (unsigned i = 0; i < ARENA_REGIONS; i++) {
        h->region[i] = (struct arena_region){.offset = at, .bytes = size[i]};
        at += (size[i] + PAGE - 1) / PAGE * PAGE;
    }
    h->bytes = at;
}

const char *arena_check(const void *base, size_t bytes)
{
    const struct arena_head *h = base;
    struct arena_head expect;

    if (bytes < sizeof *h || memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return "it is no arena";
    if (h->version != ARENA_VERSION || h->head_bytes != sizeof *h)
        return "it is of another version";
    if (h->sum != head_sum(h))
        return "the sum of its header is wrong";
    if (h->record_layout != tcp_record_layout() || h->record_bytes != sizeof(struct tcp_record) ||
        h->link_bytes != sizeof(struct link_slot) || h->config_bytes != sizeof(struct daemon_config))
        return "its records are of another version";
    expect = *h;
    lay_out(&expect, h->region[ARENA_PAYLOAD].bytes);
    if (memcmp(expect.region, h->region, sizeof h->region) != 0 || expect.bytes != h->bytes)
        return "its regions do not fit together";
    return h->bytes == bytes ? NULL : "it is cut off";
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
                             .config_bytes = sizeof(struct daemon_config),
                             .max_conns = c->max_conns,
                             .max_half_open = c->max_half_open,
                             .max_time_wait = (uint32_t)c->tcp.tcp_max_tw_buckets,
                             .notes = (uint32_t)(2 * c->buffer_bytes / CHUNK_SMALL_BYTES),
                             .n_links = LINKS};
    memcpy(h->magic, MAGIC, sizeof h->magic);
    lay_out(h, c->buffer_bytes);
    if (getrandom(&h->secrets, sizeof h->secrets, 0) != (ssize_t)sizeof h->secrets)
        return false;
    h->sum = head_sum(h);
    return true;
}

int arena_create(const struct daemon_config *config, struct arena *ret, char *error, size_t bytes)
{
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
    arena_put_config(ret, config);
    return 0;
}

int arena_attach(int fd, struct arena *ret, char *error, size_t bytes)
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
    why = (size_t)st.st_size < sizeof *ret->head ? "it is cut off" : arena_check(ret->base, (size_t)st.st_size);
    if (!why)
        return 0;
    snprintf(error, bytes, "the arena cannot be used: %s", why);
    munmap(ret->base, (size_t)st.st_size);
    ret->base = NULL;
    return -1;
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

/* ---- The configuration ------------------------------------------------------------------------------------------- */

void arena_put_config(struct arena *a, const struct daemon_config *config)
{
    uint32_t next = a->head->config_selector + 1 ? a->head->config_selector + 1 : 2;
    struct config_copy *copy = (struct config_copy *)arena_at(a, ARENA_CONFIG) + (next & 1);

    copy->config = *config;
    copy->sum = sum_of(&copy->config, sizeof copy->config);
    __atomic_store_n(&a->head->config_selector, next, __ATOMIC_RELEASE);
}

bool arena_get_config(const struct arena *a, struct daemon_config *ret)
{
    uint32_t selector = __atomic_load_n(&a->head->config_selector, __ATOMIC_ACQUIRE);
    const struct config_copy *copy = (const struct config_copy *)arena_at(a, ARENA_CONFIG) + (selector & 1);

    if (!selector || copy->sum != sum_of(&copy->config, sizeof copy->config))
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

    if (!l)
        return NULL;
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
