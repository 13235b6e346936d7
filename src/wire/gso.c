/*
 * wire/gso.c: the segmenter. It walks the super-frame's slices once; invariant between steps: `offset` = the
 * sum of the lengths of slices before `slice` + slice_offset. It copies headers and slice descriptors, never
 * payload.
 */
#include "wire/gso.h"

#include <string.h>

void gso_begin(struct gso *g, const struct tcp_seg *super)
{
    *g = (struct gso){.super = super};
}

/* Gives ret the slices of the next `len` bytes and advances. */
static void take_slices(struct gso *g, uint32_t len, struct tcp_seg *ret)
{
    const struct tcp_seg *super = g->super;

    ret->n_slices = 0;
    ret->len = 0;
    while (ret->len < len && g->slice < super->n_slices) {
        const struct tcp_slice *from = &super->slice[g->slice];
        uint32_t left = from->len - g->slice_offset;
        uint32_t take = left < len - ret->len ? left : len - ret->len;

        if (take) {
            struct tcp_slice *to = &ret->slice[ret->n_slices++];

            to->data = from->data ? from->data + g->slice_offset : NULL;
            to->len = take;
            to->chunk = from->chunk;
        }
        ret->len += take;
        g->slice_offset += take;
        if (g->slice_offset == from->len) {
            g->slice++;
            g->slice_offset = 0;
        }
    }
}

bool gso_step(struct gso *g, struct tcp_seg *ret)
{
    const struct tcp_seg *super = g->super;
    uint32_t left = super->len - g->offset;
    uint32_t len = super->gso_size && left > super->gso_size ? super->gso_size : left;
    bool last = len == left;

    if (g->done)
        return false;
    memcpy(ret, super, offsetof(struct tcp_seg, slice));
    ret->gso_size = 0;
    ret->seq = super->seq + g->offset;
    if (!last)
        ret->flags = (uint16_t)(ret->flags & ~(TCP_FIN | TCP_PSH));
    if (g->index)
        ret->flags = (uint16_t)(ret->flags & ~TCP_CWR);
    take_slices(g, len, ret);
    g->offset += len;
    g->index++;
    g->done = last;
    return true;
}
