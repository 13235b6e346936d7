/*
 * stack/frag.c: reassembly of both families (RFC 791, RFC 8200 section 4.5).
 *
 * A queue collects the fragments of one datagram, sorted, without overlap. Overlapping fragments condemn the
 * datagram (RFC 5722, for IPv4 as well): the queue stays as a tombstone until its time is over, so that late
 * fragments can't begin it anew; an exact repetition is ignored. Invariants: frag_bytes = sum of the buckets'
 * bytes = sum of the charges of all queues and fragments <= frag_max_bytes; queues of one source share a
 * bucket, which may hold a quarter of it: a source pushes out its own oldest datagrams first. Whole packets
 * are kept, as errors quote them.
 */
#include <stdlib.h>
#include "stack/stack_priv.h"
#include "wire/bytes.h"
#include "wire/csum.h"

#define QUEUES_PER_BUCKET 64
#define FRAGS_PER_QUEUE   512     /* 65,535 bytes in the smallest sensible pieces */
#define SOURCE_BYTES_MIN  131072u /* a source may always have one whole datagram, with its overhead */

struct frag {
    struct list_node link;
    uint32_t offset;
    uint32_t bytes;   /* of the datagram */
    uint32_t data_at; /* in packet[] */
    uint32_t packet_bytes;
    struct frag_info info;
    uint8_t packet[];
};

struct frag_queue {
    struct list_node link;
    struct st_timer timer;
    struct frag_key key;
    struct list_node frags; /* by offset */
    size_t charge;          /* of the queue and all it holds */
    uint32_t n;
    uint32_t have;  /* payload bytes received */
    uint32_t total; /* payload bytes of the datagram, 0: unknown */
    uint16_t bucket;
    bool dead;
    bool ce, not_ect;
};

size_t st_frag_bytes(const struct stack *st)
{
    return st->frag_bytes;
}

static void charge(struct stack *st, struct frag_queue *q, size_t bytes)
{
    q->charge += bytes;
    st->frag[q->bucket].bytes += bytes;
    st->frag_bytes += bytes;
}

static void free_frags(struct stack *st, struct frag_queue *q)
{
    struct list_node *node;

    while ((node = list_pop(&q->frags)) != NULL) {
        struct frag *f = list_entry(node, struct frag, link);
        size_t bytes = sizeof *f + f->packet_bytes;

        q->charge -= bytes;
        st->frag[q->bucket].bytes -= bytes;
        st->frag_bytes -= bytes;
        free(f);
    }
    q->n = 0;
}

static void queue_free(struct stack *st, struct frag_queue *q)
{
    free_frags(st, q);
    st->frag[q->bucket].bytes -= q->charge;
    st->frag[q->bucket].n--;
    st->frag_bytes -= q->charge;
    st_disarm(st, &q->timer);
    list_del(&q->link);
    free(q);
}

void st_frag_free(struct stack *st)
{
    for (unsigned i = 0; i < FRAG_BUCKETS; i++)
        list_for_each_safe(node, &st->frag[i].queues)
            queue_free(st, list_entry(node, struct frag_queue, link));
}

static void condemn(struct stack *st, struct frag_queue *q, enum stack_drop why)
{
    st_drop(st, why);
    if (!q->dead)
        st->counters.frag_fails++;
    q->dead = true;
    free_frags(st, q);
}

/* ---- Room --------------------------------------------------------------------------------------------- */

static bool has_room(const struct stack *st, unsigned bucket, size_t bytes)
{
    size_t max = (size_t)st->config->frag_max_bytes;
    size_t share = max / 4 > SOURCE_BYTES_MIN ? max / 4 : SOURCE_BYTES_MIN;

    return st->frag_bytes + bytes <= max && st->frag[bucket].bytes + bytes <= share;
}

/* Makes room by giving up the oldest datagrams of the same source, but not `keep`. */
static bool make_room(struct stack *st, unsigned bucket, size_t bytes, const struct frag_queue *keep)
{
    while (!has_room(st, bucket, bytes) || (!keep && st->frag[bucket].n >= QUEUES_PER_BUCKET)) {
        struct list_node *node = list_first(&st->frag[bucket].queues);
        struct frag_queue *q = node ? list_entry(node, struct frag_queue, link) : NULL;

        if (q && q == keep)
            q = q->link.next == &st->frag[bucket].queues ? NULL
                                                         : list_entry(q->link.next, struct frag_queue, link);
        if (!q)
            return false;
        st_drop(st, STACK_DROP_FRAG_MEMORY);
        if (!q->dead)
            st->counters.frag_fails++;
        queue_free(st, q);
    }
    return true;
}

static struct frag_queue *queue_of(struct stack *st, const struct frag_key *key, uint64_t now)
{
    unsigned bucket = (unsigned)(siphash(&st->key, &key->src, sizeof key->src) % FRAG_BUCKETS);
    struct frag_queue *q;

    list_for_each(node, &st->frag[bucket].queues)
    {
        q = list_entry(node, struct frag_queue, link);
        if (memcmp(&q->key, key, sizeof *key) == 0)
            return q;
    }
    if (!make_room(st, bucket, sizeof *q, NULL))
        return NULL;
    q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->key = *key;
    q->bucket = (uint16_t)bucket;
    list_init(&q->frags);
    list_init(&q->link);
    st_timer_init(&q->timer, ST_TIMER_FRAG);
    st_arm(st, &q->timer, time_add(now, st_ms(st->config->frag_timeout_ms)));
    list_add_tail(&st->frag[bucket].queues, &q->link);
    st->frag[bucket].n++;
    charge(st, q, sizeof *q);
    return q;
}

/* ---- Taking a fragment -------------------------------------------------------------------------------- */

enum place { PLACE_OK, PLACE_REPEATED, PLACE_OVERLAP };

/* Where [offset, offset + bytes) goes: behind *ret_prev. Fragments mostly come in order: look from the end.
 */
static enum place find_place(struct frag_queue *q, uint32_t offset, const uint8_t *data, uint32_t bytes,
                             struct list_node **ret_prev)
{
    struct list_node *node = q->frags.prev;

    for (; node != &q->frags; node = node->prev) {
        const struct frag *f = list_entry(node, struct frag, link);

        if (offset + bytes > f->offset && offset < f->offset + f->bytes) {
            bool same =
                offset == f->offset && bytes == f->bytes && memcmp(f->packet + f->data_at, data, bytes) == 0;

            return same ? PLACE_REPEATED : PLACE_OVERLAP;
        }
        if (f->offset + f->bytes <= offset)
            break;
    }
    *ret_prev = node;
    return PLACE_OK;
}

/* What the end of the datagram is; false: fragments disagree about it. */
static bool check_end(struct frag_queue *q, uint32_t end, bool more)
{
    const struct frag *last = list_empty(&q->frags) ? NULL : list_entry(q->frags.prev, struct frag, link);

    if (q->total)
        return more ? end < q->total : end == q->total;
    if (more)
        return true;
    if (last && last->offset + last->bytes > end)
        return false;
    q->total = end;
    return true;
}

static void keep_frag(struct stack *st, struct frag_queue *q, const struct packet *pk, size_t end,
                      const struct frag_info *info, struct list_node *prev)
{
    size_t bytes = sizeof(struct frag) + end;
    struct frag *f;

    if (q->n >= FRAGS_PER_QUEUE || !make_room(st, q->bucket, bytes, q) || !(f = malloc(bytes))) {
        condemn(st, q, STACK_DROP_FRAG_MEMORY);
        return;
    }
    *f = (struct frag){.offset = info->offset,
                       .bytes = (uint32_t)(end - info->data_at),
                       .data_at = (uint32_t)info->data_at,
                       .packet_bytes = (uint32_t)end,
                       .info = *info};
    memcpy(f->packet, pk->p, end);
    list_insert(&f->link, prev, prev->next);
    charge(st, q, bytes);
    q->n++;
    q->have += f->bytes;
    q->ce = q->ce || info->ecn == IP_ECN_CE;
    q->not_ect = q->not_ect || info->ecn == IP_ECN_NOT_ECT;
}

/* ---- Making it whole ---------------------------------------------------------------------------------- */

static void finish_v4(struct stack *st, size_t header, size_t bytes, bool ce)
{
    uint8_t *p = st->whole;

    put_be16(p + 2, (uint16_t)bytes);
    put_be16(p + 6, 0);
    if (ce)
        p[1] = (uint8_t)(p[1] | IP_ECN_CE);
    put_be16(p + 10, 0);
    put_be16(p + 10, csum_fold(csum_partial(p, header, 0)));
}

static void finish_v6(struct stack *st, const struct frag_info *info, size_t bytes, bool ce)
{
    uint8_t *p = st->whole;

    p[info->next_at] = info->next;
    put_be16(p + 4, (uint16_t)(bytes - IPV6_HEADER_BYTES));
    if (ce)
        p[1] = (uint8_t)(p[1] | IP_ECN_CE << 4);
}

/* Writes the datagram into st->whole and ends the queue. False: too long, or ECN fields that make no sense.
 */
static bool assemble(struct stack *st, struct frag_queue *q, const struct packet *pk, struct packet *ret)
{
    const struct frag *first = list_entry(list_first(&q->frags), struct frag, link);
    struct frag_info info = first->info;
    size_t bytes = info.unfrag_bytes;
    size_t max = q->key.src.family == IP_V4 ? UINT16_MAX : UINT16_MAX + IPV6_HEADER_BYTES;

    /* RFC 3168 section 5.3: congestion experienced survives; a mix with "not capable" is nobody's marking. */
    if (bytes + q->total > max || (q->ce && q->not_ect)) {
        condemn(st, q, STACK_DROP_FRAG_MALFORMED);
        return false;
    }
    memcpy(st->whole, first->packet, bytes);
    list_for_each(node, &q->frags)
    {
        const struct frag *f = list_entry(node, struct frag, link);

        memcpy(st->whole + bytes, f->packet + f->data_at, f->bytes);
        bytes += f->bytes;
    }
    if (q->key.src.family == IP_V4)
        finish_v4(st, info.unfrag_bytes, bytes, q->ce);
    else
        finish_v6(st, &info, bytes, q->ce);
    *ret = (struct packet){.p = st->whole,
                           .linear = bytes,
                           .bytes = bytes,
                           .whole = true,
                           .link_group = pk->link_group,
                           .src_mac = pk->src_mac};
    st->counters.frag_ok++;
    queue_free(st, q);
    return true;
}

bool st_frag_input(struct stack *st, const struct packet *pk, size_t end, const struct frag_info *info,
                   uint64_t now, struct packet *ret)
{
    size_t bytes = end - info->data_at;
    struct list_node *prev = NULL;
    struct frag_queue *q;

    st->counters.frag_in++;
    if (!bytes || (info->more && bytes % 8) || info->offset + bytes > UINT16_MAX) {
        st_drop(st, STACK_DROP_FRAG_MALFORMED);
        return false;
    }
    q = queue_of(st, &info->key, now);
    if (!q) {
        st_drop(st, STACK_DROP_FRAG_MEMORY);
        return false;
    }
    if (q->dead) {
        st_drop(st, STACK_DROP_FRAG_OVERLAP);
        return false;
    }
    switch (find_place(q, info->offset, pk->p + info->data_at, (uint32_t)bytes, &prev)) {
    case PLACE_REPEATED: /* RFC 8200 section 4.5 allows to ignore it */
        return false;
    case PLACE_OVERLAP:
        condemn(st, q, STACK_DROP_FRAG_OVERLAP);
        return false;
    case PLACE_OK:
        break;
    }
    if (!check_end(q, info->offset + (uint32_t)bytes, info->more)) {
        condemn(st, q, STACK_DROP_FRAG_OVERLAP);
        return false;
    }
    keep_frag(st, q, pk, end, info, prev);
    return !q->dead && q->total && q->have == q->total && assemble(st, q, pk, ret);
}

/* RFC 1122 section 3.3.2, RFC 8200 section 4.5: the source hears of it if its first fragment came. */
static void tell_timeout(struct stack *st, const struct frag_queue *q, uint64_t now)
{
    const struct frag *f = list_empty(&q->frags) ? NULL : list_entry(q->frags.next, struct frag, link);
    bool v4 = q->key.src.family == IP_V4;
    struct refused r;

    if (!f || f->offset)
        return;
    r = (struct refused){.src = q->key.src,
                         .dst = q->key.dst,
                         .proto = v4 ? (uint8_t)q->key.proto : f->info.next,
                         .multicast =
                             ip_addr_is_multicast(&q->key.dst) || st_addr_is_broadcast(st, &q->key.dst),
                         .icmp_type = f->packet[f->data_at],
                         .packet = f->packet,
                         .bytes = f->packet_bytes};
    st_icmp_error(st, &r, v4 ? ICMP4_TYPE_TIME_EXCEEDED : ICMP6_TYPE_TIME_EXCEEDED, ICMP_TIME_REASSEMBLY, 0,
                  now);
}

void st_frag_expired(struct stack *st, struct st_timer *timer, uint64_t now)
{
    struct frag_queue *q = list_entry(timer, struct frag_queue, timer);

    if (!q->dead) {
        st->counters.frag_fails++;
        st_drop(st, STACK_DROP_FRAG_TIMEOUT);
        tell_timeout(st, q, now);
    }
    queue_free(st, q);
}
