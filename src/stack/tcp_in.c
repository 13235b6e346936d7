/*
 * stack/tcp_in.c: a TCP segment from an IP packet to the engine.
 *
 * Checks what bytes can tell (header, checksum, what the virtio-net header claims), decodes, and passes the
 * payload on as slices of the frame, with their chunks, so that the engine may keep them without a copy.
 * Addresses were judged by ipv4.c and ipv6.c: unicast, not ours.
 */
#include "stack/stack_priv.h"
#include "wire/csum.h"
#include "wire/vnet.h"

#define TCP_CSUM_AT 16

/* The bytes [at, end) of the packet as slices. False: more than fit. */
static bool packet_slices(const struct packet *pk, size_t at, size_t end, struct tcp_slice *slice,
                          uint16_t *ret_n)
{
    size_t from, left = end - at;
    unsigned n = 0;

    if (!pk->rx) {
        slice[0] = (struct tcp_slice){.data = pk->p + at, .len = (uint32_t)left};
        *ret_n = left ? 1 : 0;
        return true;
    }
    from = pk->rx_offset + at;
    for (unsigned i = 0; i < pk->rx->n_slices && left; i++) {
        const struct tcp_slice *s = &pk->rx->slice[i];
        size_t take;

        if (from >= s->len) {
            from -= s->len;
            continue;
        }
        take = s->len - from < left ? s->len - from : left;
        if (n == TCP_SLICES_MAX)
            return false;
        slice[n++] = (struct tcp_slice){.data = s->data + from, .len = (uint32_t)take, .chunk = s->chunk};
        left -= take;
        from = 0;
    }
    *ret_n = (uint16_t)n;
    return left == 0;
}

static bool checksum_ok(const struct packet *pk, const struct upper *u)
{
    struct tcp_slice slice[TCP_SLICES_MAX];
    size_t bytes = u->end - u->at;
    uint16_t n;

    if (!packet_slices(pk, u->at, u->end, slice, &n))
        return false;
    return csum_ok(csum_slices(slice, n, csum_pseudo(&u->src, &u->dst, IP_PROTO_TCP, (uint32_t)bytes)));
}

/* True if the device vouches, truthfully as far as we can see, or the sum is right. Counts. */
static bool verify(struct stack *st, const struct packet *pk, const struct upper *u)
{
    if (pk->csum_partial) {
        if (pk->csum_start == u->at && pk->csum_offset == TCP_CSUM_AT)
            return true;
        st_drop(st, STACK_DROP_VNET_HEADER);
        return false;
    }
    if (pk->csum_valid || checksum_ok(pk, u))
        return true;
    st_drop(st, STACK_DROP_TCP_CHECKSUM);
    return false;
}

/* What only moves when the peer got something from us, or we something new from it (RFC 4861 section 7.3.1).
 */
static unsigned long long progress(const struct stack *st)
{
    const struct tcp_counters *c = tcp_get_counters(st->tcp);

    return c->in_bytes + c->hp_hits;
}

void st_to_engine(struct stack *st, const struct tcp_seg *seg, uint64_t now)
{
    unsigned long long before = progress(st);
    struct tcp_path path;
    struct st_hop hop;

    if ((seg->flags & TCP_SYN) || tcp_wants_path(st->tcp, now)) {
        if (!st_route_lookup(st, &seg->src, &hop))
            hop = (struct st_hop){.mtu = st_link_mtu(st, seg->src.family)};
        st_path_fill(st, &seg->src, &hop, &path);
        tcp_input(st->tcp, seg, &path, now);
    } else {
        tcp_input(st->tcp, seg, NULL, now);
    }
    if (st->neigh.unsure && progress(st) != before)
        st_neigh_progress(st, &seg->src, now);
}

void st_tcp_input(struct stack *st, struct packet *pk, const struct upper *u, uint64_t now)
{
    struct tcp_seg seg;
    size_t header_bytes;
    enum tcp_decode_result r;

    if (u->multicast) { /* RFC 9293 section 3.9.2.3 */
        st_drop(st, STACK_DROP_IP_DESTINATION);
        return;
    }
    if (ip_addr_is_unspecified(&u->src)) {
        st_drop(st, STACK_DROP_IP_SOURCE);
        return;
    }
    if (pk->linear < u->at + TCP_HEADER_BYTES + TCP_OPTIONS_MAX)
        st_packet_linearize(st, pk);
    memset(&seg, 0, offsetof(struct tcp_seg, slice));
    r = tcp_header_decode(pk->p + u->at, u->end - u->at, &seg, &header_bytes);
    if (r != TCP_DECODE_OK && r != TCP_DECODE_BAD_OPTIONS) { /* bad options: the segment still stands */
        st_drop(st, STACK_DROP_TCP_MALFORMED);
        return;
    }
    if (!verify(st, pk, u))
        return;
    seg.src = u->src;
    seg.dst = u->dst;
    seg.ecn = u->ecn;
    seg.tos = u->tos;
    seg.ttl = u->ttl;
    seg.gso_size = pk->gso_size;
    seg.len = (uint32_t)(u->end - u->at - header_bytes);
    if (!packet_slices(pk, u->at + header_bytes, u->end, seg.slice, &seg.n_slices)) {
        st_drop(st, STACK_DROP_TCP_MALFORMED);
        return;
    }
    if (!st->run.on || !st_run_takes(st, &seg, header_bytes, now))
        st_to_engine(st, &seg, now);
}
