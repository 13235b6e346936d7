/*
 * tests/sim/link.c: a packet enters, is lost or waits, leaves, and arrives.
 *
 * The queue is a FIFO in front of a line that takes bytes / rate for a packet and then delay + jitter for its way. CoDel
 * decides when a packet leaves, from the time it has waited; drop-tail and the marking threshold when it enters.
 */
#include "link.h"

#include <string.h>

#include "wire/tcp.h"

#define BURST_MAX_NS (500 * NSEC_PER_MSEC)
#define CODEL_MTU    1600u /* a queue no longer than that is never too long */

enum draw { DRAW_LOSS = 1, DRAW_GE_STATE, DRAW_GE_LOSS, DRAW_CORRUPT, DRAW_DUP, DRAW_REORDER, DRAW_LATE, DRAW_JITTER };

const char *link_fate_text(enum link_fate f)
{
    static const char *const texts[] = {
#define X(name, text) text,
        LINK_FATES(X)
#undef X
    };

    return f < LINK_FATE_MAX ? texts[f] : "?";
}

/* The finaliser of splitmix64 over all three. */
uint32_t link_draw(uint64_t seed, uint64_t index, uint32_t purpose)
{
    uint64_t z = seed + index * 0x9e3779b97f4a7c15ull + (uint64_t)purpose * 0xd1342543de82ef95ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return (uint32_t)(z >> 32);
}

static bool happens(const struct link *l, enum draw what, uint32_t ppm)
{
    return ppm && (uint64_t)link_draw(l->seed, l->index, what) * 1000000u >> 32 < ppm;
}

static uint64_t up_to(const struct link *l, uint64_t index, enum draw what, uint64_t bound)
{
    uint64_t fine = (uint64_t)link_draw(l->seed, index, what) << 16;

    /* 48 bits of fraction: no overflow for bounds below 2^48 ns, which is three days */
    return bound ? (uint64_t)(((unsigned __int128)fine * bound) >> 48) : 0;
}

void link_init(struct link *l, const struct link_params *p, uint64_t seed)
{
    memset(l, 0, sizeof *l);
    l->p = *p;
    l->seed = seed;
}

static bool in_script(const struct link *l)
{
    for (unsigned i = 0; i < LINK_SCRIPT_MAX && l->p.script[i]; i++)
        if (l->p.script[i] == l->index)
            return true;
    return false;
}

/* A chain of two states that steps with every packet; silence ends a burst too, or a connection that backs off dies of it. */
static bool burst(struct link *l, uint64_t now)
{
    if (!l->p.ge_enter_ppm)
        return false;
    l->bad = l->bad && now - l->entered_at < BURST_MAX_NS;
    l->entered_at = now;
    if (happens(l, DRAW_GE_STATE, l->bad ? l->p.ge_leave_ppm : l->p.ge_enter_ppm))
        l->bad = !l->bad;
    return l->bad && happens(l, DRAW_GE_LOSS, l->p.ge_loss_ppm);
}

static enum link_fate fate(struct link *l, const struct link_packet *p, uint64_t now)
{
    bool in_burst = burst(l, now);

    if (l->p.down_ns && now >= l->p.down_at && now - l->p.down_at < l->p.down_ns)
        return LINK_DOWN;
    if (l->p.mtu && l->index >= l->p.mtu_from && p->bytes > l->p.mtu)
        return LINK_TOO_BIG;
    if (in_script(l))
        return LINK_SCRIPT;
    if (in_burst)
        return LINK_BURST;
    if (happens(l, DRAW_LOSS, l->p.loss_ppm))
        return LINK_LOST;
    if (happens(l, DRAW_CORRUPT, l->p.corrupt_ppm))
        return LINK_CORRUPT;
    if (l->p.queue_bytes && l->queued_bytes + p->bytes > l->p.queue_bytes)
        return LINK_QUEUE;
    if (l->p.queue_packets && l->queued_packets >= l->p.queue_packets)
        return LINK_QUEUE;
    return LINK_PASSED;
}

static bool mark(struct link *l, struct link_packet *p)
{
    if (p->ecn == IP_ECN_NOT_ECT)
        return false;
    l->marked += p->ecn != IP_ECN_CE;
    p->ecn = IP_ECN_CE;
    return true;
}

enum link_fate link_enter(struct link *l, struct link_packet *p, uint64_t now)
{
    enum link_fate f;

    l->index++;
    f = fate(l, p, now);
    l->fates[f]++;
    if (f != LINK_PASSED)
        return f;
    if (l->p.mark_bytes && l->queued_bytes >= l->p.mark_bytes)
        mark(l, p);
    p->entered_at = now;
    p->next = NULL;
    if (l->head)
        l->tail->next = p;
    else
        l->head = p;
    l->tail = p;
    l->queued_bytes += p->bytes;
    l->queued_packets++;
    if (l->queued_packets == 1)
        l->free_at = time_max(l->free_at, now);
    return f;
}

uint64_t link_deadline(const struct link *l)
{
    return l->head ? l->free_at : TIME_NEVER;
}

static struct link_packet *take(struct link *l)
{
    struct link_packet *p = l->head;

    if (p) {
        l->head = p->next;
        l->queued_bytes -= p->bytes;
        l->queued_packets--;
    }
    return p;
}

/* ---- CoDel (RFC 8289 section 5) ------------------------------------------------------------------------------- */

static uint64_t control_law(const struct link *l, uint64_t at)
{
    double root = 1;

    /* Newton: good enough from any start for counts that occur, and the same on every machine */
    for (int i = 0; i < 40; i++)
        root = (root + (double)l->drop_count / root) / 2;
    return at + (uint64_t)((double)l->p.codel_interval_ns / root);
}

/* Has every packet waited for longer than the target, for an interval? */
static bool too_long(struct link *l, const struct link_packet *p, uint64_t now)
{
    if (!p || now - p->entered_at < l->p.codel_target_ns || l->queued_bytes + p->bytes <= CODEL_MTU) {
        l->first_above_at = 0;
        return false;
    }
    if (!l->first_above_at)
        l->first_above_at = now + l->p.codel_interval_ns;
    return now >= l->first_above_at;
}

/* Drops it and takes the next, or marks it. */
static struct link_packet *give_way(struct link *l, struct link_packet *p, struct link_packet **ret_dropped)
{
    if (l->p.ecn && mark(l, p))
        return p;
    l->fates[LINK_PASSED]--;
    l->fates[LINK_CODEL]++;
    p->next = *ret_dropped;
    *ret_dropped = p;
    return take(l);
}

static struct link_packet *codel(struct link *l, struct link_packet *p, uint64_t now, struct link_packet **ret_dropped)
{
    bool drop = too_long(l, p, now);

    if (l->dropping) {
        l->dropping = drop;
        while (l->dropping && now >= l->drop_next_at) {
            struct link_packet *before = p;

            l->drop_count++;
            p = give_way(l, p, ret_dropped);
            l->dropping = p && (p == before || too_long(l, p, now));
            l->drop_next_at = control_law(l, l->drop_next_at);
        }
    } else if (drop) {
        uint32_t lately = l->drop_count - l->last_count;

        p = give_way(l, p, ret_dropped);
        l->dropping = true;
        l->drop_count = lately > 1 && now - l->drop_next_at < 16 * l->p.codel_interval_ns ? lately : 1;
        l->drop_next_at = control_law(l, now);
        l->last_count = l->drop_count;
    }
    return p;
}

/* ---- The line ------------------------------------------------------------------------------------------------- */

static uint64_t arrival(struct link *l, uint64_t index, uint64_t from)
{
    uint64_t at = from + l->p.delay_ns + up_to(l, index, DRAW_JITTER, l->p.jitter_ns);

    if (l->p.reorder_ppm && (uint64_t)link_draw(l->seed, index, DRAW_REORDER) * 1000000u >> 32 < l->p.reorder_ppm) {
        l->reordered++;
        return at + 1 + up_to(l, index, DRAW_LATE, l->p.reorder_ns);
    }
    l->arrives_at = time_max(l->arrives_at, at);
    return l->arrives_at;
}

struct link_packet *link_leave(struct link *l, uint64_t now, struct link_packet **ret_dropped, uint64_t ret_at[2],
                               unsigned *ret_n)
{
    struct link_packet *p = take(l);
    uint64_t index;

    *ret_dropped = NULL;
    *ret_n = 0;
    if (p && l->p.codel_target_ns)
        p = codel(l, p, now, ret_dropped);
    if (!p)
        return NULL;
    l->passed_bytes += p->bytes;
    l->waited_ns += now - p->entered_at;
    if (l->p.rate)
        l->free_at = now + (uint64_t)p->bytes * NSEC_PER_SEC / l->p.rate;
    index = l->fates[LINK_PASSED] - l->queued_packets; /* of those that pass */
    ret_at[(*ret_n)++] = arrival(l, index, l->p.rate ? l->free_at : now);
    if (l->p.dup_ppm && (uint64_t)link_draw(l->seed, index, DRAW_DUP) * 1000000u >> 32 < l->p.dup_ppm) {
        l->duplicated++;
        ret_at[(*ret_n)++] = ret_at[0] + up_to(l, index + (1ull << 40), DRAW_LATE, l->p.jitter_ns + 1);
    }
    return p;
}
