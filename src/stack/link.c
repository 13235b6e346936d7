/*
 * stack/link.c: a frame from the device: virtio-net header, Ethernet header, and who gets the rest.
 *
 * A struct packet is made of the frame's slices; only pk->linear bytes of it may be read at pk->p. Upper
 * layers that want more call st_packet_linearize(), which copies into st->scratch (TCP payload never is: it
 * stays in its chunk). What the virtio-net header says is checked against the packet before anybody believes
 * it.
 */
#include "stack/stack_priv.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/vnet.h"

#define LINEAR_MIN 256 /* slice[0] holds at least so much, or all (stack.h) */

/* Copies `n` bytes at `offset` of the frame; they are there. */
static void rx_copy(const struct stack_rx *rx, size_t offset, size_t n, uint8_t *out)
{
    for (unsigned i = 0; i < rx->n_slices && n; i++) {
        size_t len = rx->slice[i].len, take;

        if (offset >= len) {
            offset -= len;
            continue;
        }
        take = len - offset < n ? len - offset : n;
        memcpy(out, rx->slice[i].data + offset, take);
        out += take;
        n -= take;
        offset = 0;
    }
}

void st_packet_linearize(struct stack *st, struct packet *pk)
{
    if (!pk->rx)
        return;
    if (pk->linear < pk->bytes) {
        rx_copy(pk->rx, pk->rx_offset, pk->bytes, st->scratch);
        pk->p = st->scratch;
        pk->linear = pk->bytes;
    }
    pk->rx = NULL;
}

/* The field of a NEEDS_CSUM packet holds the pseudo-header's sum; summing from start on makes it whole. */
bool st_packet_complete_csum(struct stack *st, struct packet *pk, const struct upper *u, uint16_t field)
{
    uint8_t *p = st->scratch;
    uint16_t sum;

    if (!pk->csum_partial)
        return true;
    if (pk->csum_start != u->at || pk->csum_offset != field || u->at + field + 2 > u->end)
        return false;
    if (pk->p != st->scratch) {
        st_packet_linearize(st, pk);
        if (pk->p != st->scratch)
            memcpy(p, pk->p, u->end);
        pk->p = st->scratch;
    }
    sum = csum_fold(csum_partial(p + u->at, u->end - u->at, 0));
    put_be16(p + u->at + field, sum ? sum : 0xffff);
    pk->csum_partial = false;
    return true;
}

/* Takes the virtio-net header of the frame; false: it lied. *ret_bytes: its length. */
static bool take_vnet(struct stack *st, const struct stack_rx *rx, size_t frame_bytes, struct packet *pk,
                      size_t *ret_bytes)
{
    size_t bytes = st->offload.vnet_hdr ? st->offload.vnet_hdr_bytes : 0;
    struct vnet_header h;

    *ret_bytes = bytes;
    if (!bytes)
        return true;
    /* csum_start and field are checked against the whole frame; only the header itself is read. */
    if (rx->slice[0].len < bytes ||
        vnet_header_decode(rx->slice[0].data, frame_bytes, bytes, &h) != VNET_DECODE_OK)
        return false;
    if (h.needs_csum && h.csum_start < ETH_HEADER_BYTES)
        return false;
    pk->csum_partial = h.needs_csum;
    pk->csum_start = h.needs_csum ? h.csum_start - (size_t)ETH_HEADER_BYTES : 0;
    pk->csum_offset = h.csum_offset;
    pk->csum_valid = h.data_valid || h.needs_csum;
    pk->gso = h.gso;
    pk->gso_size = h.gso_size;
    return true;
}

static bool take_ethernet(struct stack *st, const uint8_t *bytes, size_t n, struct packet *pk,
                          uint16_t *ret_type)
{
    struct eth_header h;

    switch (eth_header_decode(bytes, n, &h)) {
    case ETH_DECODE_OK:
        break;
    case ETH_DECODE_SHORT:
        st_drop(st, STACK_DROP_FRAME_SHORT);
        return false;
    case ETH_DECODE_BAD_SOURCE:
        st_drop(st, STACK_DROP_SOURCE_MAC);
        return false;
    default:
        st_drop(st, STACK_DROP_ETHERTYPE);
        return false;
    }
    if (eth_addr_eq(&h.src, &st->mac)) { /* our own frame came back, or somebody has our MAC */
        st_drop(st, STACK_DROP_SOURCE_MAC);
        return false;
    }
    pk->link_group = eth_addr_is_group(&h.dst);
    if (!pk->link_group && !eth_addr_eq(&h.dst, &st->mac)) {
        st_drop(st, STACK_DROP_NOT_FOR_US);
        return false;
    }
    pk->src_mac = h.src;
    *ret_type = h.type;
    return true;
}

static void dispatch(struct stack *st, struct packet *pk, uint16_t type, uint64_t now)
{
    if (type == ETH_P_ARP && pk->gso == VNET_GSO_NONE) {
        st_arp_input(st, pk->p, pk->linear, now);
    } else if (type == ETH_P_IP && pk->gso != VNET_GSO_TCPV6) {
        st_ipv4_input(st, pk, now);
    } else if (type == ETH_P_IPV6 && pk->gso != VNET_GSO_TCPV4) {
        if (st_has_v6(st))
            st_ipv6_input(st, pk, now);
        else
            st_drop(st, STACK_DROP_ETHERTYPE);
    } else {
        st_drop(st, type == ETH_P_IP || type == ETH_P_IPV6 || type == ETH_P_ARP ? STACK_DROP_VNET_HEADER
                                                                                : STACK_DROP_ETHERTYPE);
    }
}

void stack_input(struct stack *st, const struct stack_rx *rx, uint64_t now)
{
    struct packet pk = {.rx = rx};
    size_t frame_bytes = 0, vnet_bytes, header_bytes;
    uint16_t type;

    st->now = now;
    st_release_spent(st);
    for (unsigned i = 0; i < rx->n_slices; i++)
        frame_bytes += rx->slice[i].len;
    st->counters.rx_frames++;
    if (!st->up) {
        st_drop(st, STACK_DROP_LINK_DOWN);
        return;
    }
    if (!take_vnet(st, rx, frame_bytes, &pk, &vnet_bytes)) {
        st_drop(st, frame_bytes < (size_t)st->offload.vnet_hdr_bytes ? STACK_DROP_FRAME_SHORT
                                                                     : STACK_DROP_VNET_HEADER);
        return;
    }
    st->counters.rx_bytes += frame_bytes - vnet_bytes;
    header_bytes = vnet_bytes + ETH_HEADER_BYTES;
    if (rx->n_slices == 0 || rx->slice[0].len < header_bytes || frame_bytes - header_bytes > PACKET_MAX) {
        st_drop(st, STACK_DROP_FRAME_SHORT);
        return;
    }
    if (!take_ethernet(st, rx->slice[0].data + vnet_bytes, rx->slice[0].len - vnet_bytes, &pk, &type))
        return;
    pk.p = rx->slice[0].data + header_bytes;
    pk.linear = rx->slice[0].len - header_bytes;
    pk.bytes = frame_bytes - header_bytes;
    pk.rx_offset = header_bytes;
    if (rx->slice[0].len < LINEAR_MIN && rx->n_slices > 1) /* not what stack.h asks for: make it so */
        st_packet_linearize(st, &pk);
    dispatch(st, &pk, type, now);
    st_check(st);
}
