/*
 * stack/loop.c: segments to one of our own addresses never see the device.
 *
 * Output puts a copy of the segment here (payload copied: the sender's chunk may be freed or shared); the
 * next stack_expire() hands it to the engine. Its deadline is one nanosecond after it was put in: so the
 * shell takes another turn, with events and commit in their order, and the deadline still lies in the future
 * after output. Bounded by LOOP_MAX segments; connections that find it full wait off READY, like those that
 * wait for a neighbour.
 */
#include <stdlib.h>
#include "stack/stack_priv.h"

bool st_loop_full(const struct stack *st)
{
    return st->n_looped >= LOOP_MAX;
}

static void looped_free(struct stack *st, struct looped *l)
{
    for (unsigned i = 0; i < l->seg.n_slices; i++)
        chunk_unref(st->pool, l->seg.slice[i].chunk);
    free(l);
}

/* Copies the payload of `from` into chunks of `to`. False: the budget is spent. */
static bool copy_payload(struct stack *st, const struct tcp_seg *from, struct tcp_seg *to)
{
    struct chunk *c = NULL;
    uint32_t used = 0, left = from->len;

    to->n_slices = 0;
    for (unsigned i = 0; i < from->n_slices; i++) {
        for (uint32_t at = 0; at < from->slice[i].len;) {
            uint32_t n = from->slice[i].len - at;

            if (!c || used == c->size) {
                c = chunk_alloc(st->pool, left > CHUNK_SMALL_BYTES ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES);
                if (!c)
                    return false;
                to->slice[to->n_slices++] = (struct tcp_slice){.data = c->data, .chunk = c};
                used = 0;
            }
            n = n < c->size - used ? n : c->size - used;
            memcpy(c->data + used, from->slice[i].data + at, n);
            to->slice[to->n_slices - 1].len += n;
            used += n;
            at += n;
            left -= n;
        }
    }
    return true;
}

void st_loop_add(struct stack *st, const struct tcp_seg *seg, uint64_t now)
{
    struct looped *l = malloc(sizeof *l);

    if (!l)
        return;
    memcpy(&l->seg, seg, offsetof(struct tcp_seg, slice));
    if (!copy_payload(st, seg, &l->seg)) { /* as good as lost */
        looped_free(st, l);
        return;
    }
    list_add_tail(&st->looped, &l->link);
    st->n_looped++;
    st->counters.looped++;
    if (st->loop_at == TIME_NEVER)
        st->loop_at = now + 1;
}

bool st_loop_wait(struct stack *st, tcp_id id)
{
    if (st->n_loop_waiters == st->loop_waiter_room) {
        uint32_t room = st->loop_waiter_room ? 2 * st->loop_waiter_room : 16;
        tcp_id *more = realloc(st->loop_waiter, room * sizeof *more);

        if (!more)
            return false;
        st->loop_waiter = more;
        st->loop_waiter_room = room;
    }
    st->loop_waiter[st->n_loop_waiters++] = id;
    tcp_suspend(st->tcp, id);
    return true;
}

void st_loop_deliver(struct stack *st, uint64_t now)
{
    struct list_node *node;

    st->loop_at = TIME_NEVER;
    while ((node = list_pop(&st->looped)) != NULL) {
        struct looped *l = list_entry(node, struct looped, link);
        struct st_hop hop = {.mtu = st_link_mtu(st, l->seg.src.family)};
        struct tcp_path path;

        st->n_looped--;
        /* An address that was removed meanwhile takes its segments with it. */
        if (st_addr_is_ours(st, &l->seg.src) && st_addr_is_ours(st, &l->seg.dst)) {
            st_path_fill(st, &l->seg.src, &hop, &path);
            tcp_input(st->tcp, &l->seg, &path, now);
        }
        looped_free(st, l);
    }
    for (uint32_t i = 0; i < st->n_loop_waiters; i++)
        tcp_resume(st->tcp, st->loop_waiter[i]);
    st->n_loop_waiters = 0;
}

void st_loop_free(struct stack *st)
{
    struct list_node *node;

    while ((node = list_pop(&st->looped)) != NULL)
        looped_free(st, list_entry(node, struct looped, link));
    free(st->loop_waiter);
    st->loop_waiter = NULL;
    st->n_loop_waiters = 0;
}
