/*
 * stack/intent.c: the bounded ring of what is owed to the link: ARP, ND, MLD, ICMP, and TCP replies that
 * waited for a next hop.
 *
 * Invariants: n_intents = length of st->intents <= INTENTS_MAX; intent_bytes = sum of the sizes of all
 * intents that are alive <= INTENT_BYTES. An intent whose payload a given frame points at is "spent" and
 * lives until the next input or expiry: batches are committed and written in between. Input and timers make
 * intents, output.c takes them.
 */
#include <stdlib.h>
#include "stack/stack_priv.h"

struct intent *st_intent_new(struct stack *st, enum intent_kind kind, size_t bytes)
{
    struct intent *in;

    if (st->n_intents >= INTENTS_MAX || st->intent_bytes + bytes + sizeof *in > INTENT_BYTES) {
        st_drop(st, STACK_DROP_REPLY_RING_FULL);
        return NULL;
    }
    in = malloc(sizeof *in + bytes);
    if (!in) {
        st_drop(st, STACK_DROP_REPLY_RING_FULL);
        return NULL;
    }
    memset(in, 0, sizeof *in);
    list_init(&in->link);
    in->kind = (uint8_t)kind;
    in->bytes = (uint32_t)bytes;
    st->intent_bytes += bytes + sizeof *in;
    return in;
}

void st_intent_add(struct stack *st, struct intent *in)
{
    list_add_tail(&st->intents, &in->link);
    st->n_intents++;
}

static void intent_free(struct stack *st, struct intent *in)
{
    if (in->kind == INTENT_CUT) {
        const struct tcp_out *super = (const struct tcp_out *)(const void *)in->data;

        for (unsigned i = 0; i < super->seg.n_slices; i++)
            if (super->seg.slice[i].chunk)
                chunk_unref(st->pool, super->seg.slice[i].chunk);
    }
    st->intent_bytes -= in->bytes + sizeof *in;
    free(in);
}

void st_intent_drop(struct stack *st, struct intent *in, enum stack_drop why, int error, uint64_t now)
{
    st_drop(st, why);
    if (in->is_ping)
        st_ping_failed(st, in->ping_seq, error, now);
    intent_free(st, in);
}

void st_intent_spent(struct stack *st, struct intent *in)
{
    list_add_tail(&st->spent, &in->link);
}

void st_release_spent(struct stack *st)
{
    struct list_node *node;

    while ((node = list_pop(&st->spent)) != NULL)
        intent_free(st, list_entry(node, struct intent, link));
}

void st_intents_flush(struct stack *st, enum stack_drop why, uint64_t now)
{
    struct list_node *node;

    while ((node = list_pop(&st->intents)) != NULL) {
        st->n_intents--;
        st_intent_drop(st, list_entry(node, struct intent, link), why, 0, now);
    }
}
