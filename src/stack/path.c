/*
 * stack/path.c: what the paths to destinations carry, learnt from Packet Too Big (RFC 1191, RFC 8201).
 *
 * A bounded, set-associative table without timers: an entry counts until its time is over and is overwritten
 * then, or by a newer one of its set. Every connection to the destination follows: output.c tells the engine
 * before it asks for a segment, so that it hears of an entry's end too, and of routes and links that changed.
 * Only errors that a connection or ping recognised as an answer to its own packet are learnt, so that a forger
 * must guess a sequence number first (RFC 5927 section 7).
 */
#include "stack/stack_priv.h"

#define PATH_VALID_NS (600 * NSEC_PER_SEC) /* RFC 1191 section 6.3: ten minutes */

static unsigned set_of(const struct stack *st, const struct ip_addr *dst)
{
    return (unsigned)(siphash(&st->key, dst, sizeof *dst) % PATH_SETS);
}

uint16_t st_path_mtu(const struct stack *st, const struct ip_addr *dst, uint16_t mtu, uint64_t now)
{
    const struct path_entry *set;

    if (st->path_until <= now)
        return mtu; /* nothing is known, as almost always */
    set = st->path[set_of(st, dst)];
    for (unsigned i = 0; i < PATH_WAYS; i++)
        if (set[i].until > now && set[i].mtu < mtu && ip_addr_eq(&set[i].dst, dst))
            return set[i].mtu;
    return mtu;
}

void st_path_learn(struct stack *st, const struct ip_addr *dst, uint16_t mtu, uint64_t now)
{
    struct path_entry *set = st->path[set_of(st, dst)];
    struct path_entry *e = &set[0];

    for (unsigned i = 0; i < PATH_WAYS; i++) {
        if (set[i].until < e->until)
            e = &set[i];
        if (ip_addr_eq(&set[i].dst, dst)) {
            e = &set[i];
            if (e->until > now && e->mtu < mtu)
                return; /* an error never raises it (RFC 1191 section 6.3) */
            break;
        }
    }
    *e = (struct path_entry){.kept = e->kept, .dst = *dst, .mtu = mtu, .until = time_add(now, PATH_VALID_NS)};
    st->path_until = e->until;
    if (!e->kept)
        e->kept = keep_take(&st->keep.path, e);
    keep_mark(&st->keep.path, e->kept);
}

bool st_path_restore(struct stack *st, uint32_t place, const struct path_kept *e, uint64_t now)
{
    struct path_entry *set = st->path[set_of(st, &e->dst)];

    if (e->until <= now || e->until > time_add(now, PATH_VALID_NS))
        return false;
    for (unsigned i = 0; i < PATH_WAYS; i++) {
        if (set[i].until)
            continue;
        set[i] = (struct path_entry){.kept = place, .dst = e->dst, .mtu = e->mtu, .until = e->until};
        keep_own(&st->keep.path, place, &set[i]);
        st->path_until = time_max(st->path_until, e->until);
        return true;
    }
    return false;
}

void st_path_fill(const struct stack *st, const struct ip_addr *dst, const struct st_hop *hop,
                  struct tcp_path *ret)
{
    *ret = (struct tcp_path){.mtu = st_path_mtu(st, dst, hop->mtu, st->now),
                             .advmss = hop->advmss,
                             .initcwnd = hop->initcwnd,
                             .initrwnd = hop->initrwnd};
    /* What we announce is what our side of the path takes, not what the way there does (RFC 1191
     * section 3.1). */
    if (!ret->advmss && ret->mtu < hop->mtu)
        ret->advmss = (uint16_t)(hop->mtu - (dst->family == IP_V6 ? 60u : 40u));
}
