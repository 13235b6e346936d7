/*
 * stack/output.c: the only place that builds frames.
 *
 * One call gives one frame, asked for in this order: the rest of a super-frame that the device can't cut;
 * intents; the engine's replies; connections on READY. The next hop is resolved before a connection is asked
 * for a segment, so that what leaves is newest; one whose next hop is unresolved waits at the neighbour, one
 * that has no way hears of it.
 *
 * Each step either gives a frame, or makes progress (an intent or a READY entry is used up), or says that
 * there is nothing: the loop in stack_output() ends.
 */
#include <errno.h>
#include "stack/stack_priv.h"
#include "wire/bytes.h"
#include "wire/csum.h"
#include "wire/vnet.h"

#define TCP_CSUM_AT 16
/* A reply has no payload: it is held without the slices at its end. */
#define HELD_REPLY_BYTES (offsetof(struct tcp_out, seg) + offsetof(struct tcp_seg, slice))

enum step { STEP_FRAME, STEP_AGAIN, STEP_NOTHING };

/* ---- Headers ------------------------------------------------------------------------------------------ */

static size_t vnet_bytes(const struct stack *st)
{
    return st->offload.vnet_hdr ? st->offload.vnet_hdr_bytes : 0;
}

/* Begins a frame with a virtio-net header that asks for nothing; returns where the Ethernet payload begins.
 */
static uint8_t *begin_frame(const struct stack *st, struct stack_tx *tx, const struct eth_addr *dst,
                            uint16_t type)
{
    struct eth_header eth = {.dst = *dst, .src = st->mac, .type = type};
    size_t at = vnet_bytes(st);

    memset(tx, 0, offsetof(struct stack_tx, slice));
    tx->n_slices = 0;
    tx->id = 0;
    tx->is_tcp = false;
    tx->cause = (enum tcp_cause)0;
    if (at)
        vnet_header_encode(&(struct vnet_header){0}, at, tx->header);
    eth_header_encode(&eth, tx->header + at);
    tx->header_bytes = (unsigned)(at + ETH_HEADER_BYTES);
    return tx->header + tx->header_bytes;
}

static enum step finish_frame(struct stack *st, struct stack_tx *tx)
{
    tx->frame_bytes = tx->header_bytes;
    for (unsigned i = 0; i < tx->n_slices; i++)
        tx->frame_bytes += tx->slice[i].len;
    st->counters.tx_frames++;
    st->counters.tx_bytes += tx->frame_bytes - vnet_bytes(st);
    return STEP_FRAME;
}

/* Payload that lies elsewhere: copied if the header has room for it, else by reference. */
static void add_payload(struct stack_tx *tx, const uint8_t *data, size_t bytes)
{
    if (!bytes)
        return;
    if (bytes <= STACK_TX_HEADER_MAX - tx->header_bytes) {
        memcpy(tx->header + tx->header_bytes, data, bytes);
        tx->header_bytes += (unsigned)bytes;
        return;
    }
    tx->slice[tx->n_slices++] = (struct tcp_slice){.data = data, .len = (uint32_t)bytes};
}

static uint8_t default_ttl(const struct stack *st, uint8_t family)
{
    return family == IP_V6 && st->hop_limit6 ? st->hop_limit6 : (uint8_t)st->config->ip_ttl;
}

static uint16_t *ip_id_of(struct stack *st, const struct ip_addr *dst, uint32_t ports)
{
    uint32_t h = (get_be32(dst->b) ^ ports) * 0x9e3779b1u;

    return &st->ip_id[h >> 24];
}
_Static_assert(IP_ID_SLOTS == 256, "indexed by eight bits");

/* ---- What belongs to no connection -------------------------------------------------------------------- */

static void count_icmp(struct stack *st, const struct intent *in)
{
    bool v4 = in->proto == IP_PROTO_ICMP;
    uint8_t type = in->data[0];

    st->counters.icmp_out++;
    tcp_trace_reply(st->tcp, TCP_REC_REPLY_SENT, v4 ? "ICMP" : "ICMPv6", &in->src, &in->dst, st->now);
    if (type == (v4 ? ICMP4_TYPE_ECHO_REPLY : ICMP6_TYPE_ECHO_REPLY))
        st->counters.icmp_reply_out++;
    else if (v4 ? type != ICMP4_TYPE_ECHO_REQUEST : type < 128)
        st->counters.icmp_errors_out++;
}

/* Writes the IP header (and fragment header) for `bytes` of the message at in->offset; returns its length. */
static size_t put_ip(struct stack *st, const struct intent *in, size_t bytes, bool fragment, uint8_t *p)
{
    uint8_t ttl = in->ttl ? in->ttl : default_ttl(st, in->src.family);
    bool more = in->offset + bytes < in->bytes;

    if (in->src.family == IP_V4) {
        struct ipv4_header h = {.src = in->src,
                                .dst = in->dst,
                                .tos = in->tos,
                                .ttl = ttl,
                                .proto = in->proto,
                                .id = in->ip_id,
                                .total_bytes = (uint16_t)(IPV4_HEADER_BYTES + bytes),
                                .frag_offset = (uint16_t)in->offset,
                                .more_fragments = more};

        ipv4_header_encode(&h, p);
        return IPV4_HEADER_BYTES;
    }
    struct ipv6_header h = {.src = in->src,
                            .dst = in->dst,
                            .tos = in->tos,
                            .hop_limit = ttl,
                            .next = fragment ? IP_PROTO_FRAGMENT : in->proto,
                            .payload_bytes = (uint16_t)(bytes + (fragment ? IPV6_FRAGMENT_HEADER_BYTES : 0))};

    ipv6_header_encode(&h, p);
    if (!fragment)
        return IPV6_HEADER_BYTES;
    p += IPV6_HEADER_BYTES; /* RFC 8200 section 4.5 */
    p[0] = in->proto;
    p[1] = 0;
    put_be16(p + 2, (uint16_t)(in->offset | (more ? 1 : 0)));
    put_be32(p + 4, in->frag_id);
    return IPV6_HEADER_BYTES + IPV6_FRAGMENT_HEADER_BYTES;
}

/* The next packet of an IP intent that heads the ring. */
static enum step emit_ip(struct stack *st, struct intent *in, const struct eth_addr *mac, uint16_t mtu,
                         uint64_t now, struct stack_tx *tx)
{
    bool v4 = in->src.family == IP_V4;
    size_t room = mtu - (size_t)(v4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES);
    bool fragment = in->bytes > room;
    size_t bytes = in->bytes - in->offset;
    uint8_t *p = begin_frame(st, tx, mac, v4 ? ETH_P_IP : ETH_P_IPV6);

    if (!in->offset) {
        in->ip_id = v4 ? (*ip_id_of(st, &in->dst, 0))++ : 0;
        in->frag_id = fragment ? st->frag_id++ : 0;
        if (in->is_ping)
            st_ping_sent(st, in->ping_seq, now);
        count_icmp(st, in);
    }
    fragment = fragment || in->offset;
    if (fragment) {
        room -= v4 ? 0 : IPV6_FRAGMENT_HEADER_BYTES;
        room -= room % 8;
        bytes = bytes < room ? bytes : room;
    }
    tx->header_bytes += (unsigned)put_ip(st, in, bytes, fragment, p);
    add_payload(tx, in->data + in->offset, bytes);
    in->offset += (uint32_t)bytes;
    if (in->offset == in->bytes) {
        list_del(&in->link);
        st->n_intents--;
        st_intent_spent(st, in);
    }
    return finish_frame(st, tx);
}

/* ARP, and whole IPv6 packets. */
static enum step emit_raw(struct stack *st, struct intent *in, struct stack_tx *tx)
{
    uint8_t *p = begin_frame(st, tx, &in->mac, in->kind == INTENT_ARP ? ETH_P_ARP : ETH_P_IPV6);

    if (in->kind == INTENT_ARP) {
        arp_encode(&in->arp, p);
        tx->header_bytes += ARP_BYTES;
        st->counters.arp_out++;
        tcp_trace_reply(st->tcp, TCP_REC_REPLY_SENT, "ARP", NULL, NULL, st->now);
    } else {
        add_payload(tx, in->data, in->bytes);
        st->counters.icmp_out++;
    }
    list_del(&in->link);
    st->n_intents--;
    st_intent_spent(st, in);
    return finish_frame(st, tx);
}

/* ---- The next hop ------------------------------------------------------------------------------------- */

enum way { WAY_OK, WAY_WAIT, WAY_NONE, WAY_DEAD, WAY_FULL };

/* The MAC that packets to dst go to. WAIT: *ret_neigh is where to wait. */
static enum way next_hop(struct stack *st, const struct ip_addr *dst, uint64_t now, struct st_hop *ret_hop,
                         struct eth_addr *ret_mac, struct neigh **ret_neigh)
{
    if (!st_route_lookup(st, dst, ret_hop))
        return WAY_NONE;
    if (eth_addr_of_multicast(dst, ret_mac))
        return WAY_OK;
    switch (st_neigh_use(st, &ret_hop->next, now, ret_neigh)) {
    case NEIGH_USE_OK:
        *ret_mac = (*ret_neigh)->mac;
        return WAY_OK;
    case NEIGH_USE_WAIT:
        return WAY_WAIT;
    case NEIGH_USE_FAILED:
        return WAY_DEAD;
    case NEIGH_USE_FULL:
        break;
    }
    return WAY_FULL;
}

static enum stack_drop drop_of(enum way w)
{
    if (w == WAY_NONE)
        return STACK_DROP_NO_ROUTE;
    return w == WAY_DEAD ? STACK_DROP_NEIGH_UNREACHABLE : STACK_DROP_NEIGH_TABLE_FULL;
}

/* ---- Segments ----------------------------------------------------------------------------------------- */

/* RFC 6437 section 3: one label for a flow, not to be guessed. */
static uint32_t flow_label(const struct stack *st, const struct tcp_seg *seg)
{
    struct ip_tuple t = {
        .local = seg->src, .remote = seg->dst, .local_port = seg->src_port, .remote_port = seg->dst_port};

    return (uint32_t)siphash(&st->key, &t, sizeof t) & 0xfffff;
}

static size_t put_tcp_ip(struct stack *st, const struct tcp_seg *seg, size_t tcp_bytes, uint8_t *p)
{
    uint8_t ttl = seg->ttl ? seg->ttl : default_ttl(st, seg->src.family);

    if (seg->src.family == IP_V4) {
        uint16_t *id = ip_id_of(st, &seg->dst, (uint32_t)seg->src_port << 16 | seg->dst_port);
        struct ipv4_header h = {.src = seg->src,
                                .dst = seg->dst,
                                .tos = seg->tos,
                                .ecn = seg->ecn,
                                .ttl = ttl,
                                .proto = IP_PROTO_TCP,
                                .id = *id,
                                .total_bytes = (uint16_t)(IPV4_HEADER_BYTES + tcp_bytes),
                                .dont_fragment = true};

        *id = (uint16_t)(*id + gso_segs(seg->len, seg->gso_size));
        ipv4_header_encode(&h, p);
        return IPV4_HEADER_BYTES;
    }
    struct ipv6_header h = {.src = seg->src,
                            .dst = seg->dst,
                            .tos = seg->tos,
                            .ecn = seg->ecn,
                            .hop_limit = ttl,
                            .next = IP_PROTO_TCP,
                            .flow_label = flow_label(st, seg),
                            .payload_bytes = (uint16_t)tcp_bytes};

    ipv6_header_encode(&h, p);
    return IPV6_HEADER_BYTES;
}

/* The virtio-net header of a segment: partial checksum, and how to cut a super-frame. */
static void put_vnet(const struct stack *st, const struct tcp_seg *seg, size_t ip_bytes, size_t header_bytes,
                     uint8_t *out)
{
    struct vnet_header h = {.needs_csum = st->offload.csum,
                            .csum_start = (uint16_t)(ETH_HEADER_BYTES + ip_bytes),
                            .csum_offset = TCP_CSUM_AT};

    if (seg->gso_size && seg->len > seg->gso_size) {
        h.gso = seg->src.family == IP_V4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
        h.gso_size = seg->gso_size;
        h.hdr_bytes = (uint16_t)header_bytes;
        h.ecn = seg->flags & TCP_CWR;
    }
    if (!h.needs_csum)
        h.csum_start = h.csum_offset = 0;
    vnet_header_encode(&h, vnet_bytes(st), out);
}

static enum step emit_tcp(struct stack *st, const struct tcp_out *out, const struct tcp_seg *seg,
                          const struct eth_addr *mac, struct stack_tx *tx)
{
    uint8_t tcp[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];
    size_t tcp_header = tcp_header_encode(seg, tcp);
    uint8_t *p = begin_frame(st, tx, mac, seg->src.family == IP_V4 ? ETH_P_IP : ETH_P_IPV6);
    size_t ip_bytes = put_tcp_ip(st, seg, tcp_header + seg->len, p);
    uint32_t pseudo = csum_pseudo(&seg->src, &seg->dst, IP_PROTO_TCP, (uint32_t)(tcp_header + seg->len));

    if (st->offload.csum)
        put_be16(tcp + TCP_CSUM_AT, csum_fold_plain(pseudo));
    else
        put_be16(tcp + TCP_CSUM_AT,
                 csum_fold(csum_slices(seg->slice, seg->n_slices, csum_partial(tcp, tcp_header, pseudo))));
    memcpy(p + ip_bytes, tcp, tcp_header);
    tx->header_bytes += (unsigned)(ip_bytes + tcp_header);
    if (vnet_bytes(st))
        put_vnet(st, seg, ip_bytes, ETH_HEADER_BYTES + ip_bytes + tcp_header, tx->header);
    memcpy(tx->slice, seg->slice, seg->n_slices * sizeof seg->slice[0]);
    tx->n_slices = seg->n_slices;
    tx->id = out->id;
    tx->cause = out->cause;
    tx->retransmission = out->retransmission;
    tx->is_tcp = true;
    return finish_frame(st, tx);
}

static bool device_cuts(const struct stack *st, const struct tcp_seg *seg)
{
    const struct stack_offload *o = &st->offload;

    if (!seg->gso_size || seg->len <= seg->gso_size)
        return true;
    return o->csum && (seg->src.family == IP_V4 ? o->tso4 : o->tso6) &&
           (!(seg->flags & TCP_CWR) || o->tso_ecn);
}

static enum step step_cut(struct stack *st, struct stack_tx *tx)
{
    struct tcp_seg seg;
    enum step r = STEP_AGAIN;
    struct intent *in = st->cut.super;

    if (!in)
        return STEP_NOTHING;
    if (st->up && gso_step(&st->cut.gso, &seg))
        r = emit_tcp(st, (const struct tcp_out *)(const void *)in->data, &seg, &st->cut.mac, tx);
    if (!st->up || st->cut.gso.done) {
        st->cut.super = NULL;
        st_intent_spent(st, in);
    }
    return r;
}

/* Keeps a super-frame to be cut here, with its own hold on the payload: a turn may end in between. */
static enum step begin_cut(struct stack *st, const struct tcp_out *out, const struct eth_addr *mac)
{
    struct intent *in = st_intent_new(st, INTENT_CUT, sizeof *out);
    struct tcp_out *super;

    if (!in) {
        tcp_tx_failed(st->tcp, out);
        return STEP_AGAIN;
    }
    super = (struct tcp_out *)(void *)in->data;
    *super = *out;
    for (unsigned i = 0; i < super->seg.n_slices; i++)
        if (super->seg.slice[i].chunk)
            chunk_ref(super->seg.slice[i].chunk);
    st->cut.super = in;
    st->cut.mac = *mac;
    gso_begin(&st->cut.gso, &super->seg);
    return STEP_AGAIN;
}

/* What does not fit the link (it shrank): the engine hears of it as of any Packet Too Big. */
static bool too_big(struct stack *st, const struct tcp_out *out, uint16_t mtu, uint64_t now)
{
    const struct tcp_seg *seg = &out->seg;
    uint32_t payload = seg->gso_size && seg->len > seg->gso_size ? seg->gso_size : seg->len;
    size_t headers = (size_t)(seg->src.family == IP_V4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES) +
                     TCP_HEADER_BYTES + tcp_options_bytes(&seg->opt, seg->flags & TCP_SYN);
    struct tcp_icmp icmp = {.tuple = {.local = seg->src,
                                      .remote = seg->dst,
                                      .local_port = seg->src_port,
                                      .remote_port = seg->dst_port},
                            .seq = seg->seq,
                            .error = EMSGSIZE,
                            .mtu = mtu};

    if (headers + payload <= mtu)
        return false;
    tcp_tx_failed(st->tcp, out);
    tcp_icmp(st->tcp, &icmp, now);
    return true;
}

/* ---- The steps ---------------------------------------------------------------------------------------- */

static enum step give_up_intent(struct stack *st, struct intent *in, enum stack_drop why, int error,
                                uint64_t now)
{
    list_del(&in->link);
    st->n_intents--;
    st_intent_drop(st, in, why, error, now);
    return STEP_AGAIN;
}

static enum step step_intent(struct stack *st, uint64_t now, struct stack_tx *tx)
{
    struct list_node *node = list_first(&st->intents);
    struct intent *in = node ? list_entry(node, struct intent, link) : NULL;
    struct eth_addr mac;
    struct neigh *n = NULL;
    struct st_hop hop;
    enum way w;

    if (!in)
        return STEP_NOTHING;
    if (!st->up)
        return give_up_intent(st, in, STACK_DROP_LINK_DOWN, ENETDOWN, now);
    if (in->kind == INTENT_ARP || in->kind == INTENT_PACKET)
        return emit_raw(st, in, tx);
    if (in->direct)
        return emit_ip(st, in, &in->mac, st_link_mtu(st, in->dst.family), now, tx);
    w = next_hop(st, &in->dst, now, &hop, &mac, &n);
    if (w == WAY_WAIT) {
        list_del(&in->link);
        st->n_intents--;
        st_neigh_hold(st, n, in, now);
        return STEP_AGAIN;
    }
    if (w != WAY_OK)
        return give_up_intent(st, in, drop_of(w), w == WAY_NONE ? ENETUNREACH : EHOSTUNREACH, now);
    if (in->kind == INTENT_TCP) {
        struct tcp_out out;

        memcpy(&out, in->data, HELD_REPLY_BYTES);
        list_del(&in->link);
        st->n_intents--;
        st_intent_spent(st, in);
        return emit_tcp(st, &out, &out.seg, &mac, tx);
    }
    return emit_ip(st, in, &mac, st_path_mtu(st, &in->dst, hop.mtu, now), now, tx);
}

/*
 * A reply of the engine whose next hop is unresolved. SYNs from invented sources on the link make many: the
 * rest of the ring's memory is kept for what else is owed, ARP before all.
 */
static void hold_reply(struct stack *st, struct neigh *n, const struct tcp_out *out, uint64_t now)
{
    struct intent *in;

    if (st->intent_bytes + HELD_REPLY_BYTES > INTENT_BYTES_HELD) {
        st_drop(st, STACK_DROP_NEIGH_QUEUE_FULL);
        return;
    }
    in = st_intent_new(st, INTENT_TCP, HELD_REPLY_BYTES);
    if (!in)
        return;
    memcpy(in->data, out, HELD_REPLY_BYTES);
    in->src = out->seg.src;
    in->dst = out->seg.dst;
    st_neigh_hold(st, n, in, now);
}

static enum step step_reply(struct stack *st, uint64_t now, struct stack_tx *tx)
{
    struct tcp_out out;
    struct eth_addr mac;
    struct neigh *n = NULL;
    struct st_hop hop;
    enum way w;

    if (!tcp_next_reply(st->tcp, now, &out))
        return STEP_NOTHING;
    if (!st->up) {
        st_drop(st, STACK_DROP_LINK_DOWN);
        return STEP_AGAIN;
    }
    if (st_addr_is_ours(st, &out.seg.dst)) {
        st_loop_add(st, &out.seg, now);
        return STEP_AGAIN;
    }
    w = next_hop(st, &out.seg.dst, now, &hop, &mac, &n);
    if (w == WAY_OK)
        return emit_tcp(st, &out, &out.seg, &mac, tx);
    if (w == WAY_WAIT)
        hold_reply(st, n, &out, now);
    else
        st_drop(st, drop_of(w));
    return STEP_AGAIN;
}

/* No way to the peer: the engine takes the connection off READY and tries again when its timers say so. */
static enum step no_way(struct stack *st, tcp_id id, enum stack_drop why, int error, uint64_t now)
{
    st_drop(st, why);
    tcp_unreachable(st->tcp, id, error, now);
    return STEP_AGAIN;
}

/* The link is down: what would leave is made and lost, as on Linux, and the connection's timers go on. */
static enum step lose(struct stack *st, tcp_id id, uint64_t now)
{
    struct tcp_out out;

    st_drop(st, STACK_DROP_LINK_DOWN);
    if (tcp_output(st->tcp, id, now, &out))
        tcp_tx_failed(st->tcp, &out);
    return STEP_AGAIN;
}

static enum step step_looped(struct stack *st, tcp_id id, uint64_t now)
{
    struct tcp_out out;

    if (st_loop_full(st) && st_loop_wait(st, id))
        return STEP_AGAIN;
    if (tcp_output(st->tcp, id, now, &out))
        st_loop_add(st, &out.seg, now);
    return STEP_AGAIN;
}

static enum step step_ready(struct stack *st, uint64_t now, struct stack_tx *tx)
{
    struct tcp_out out;
    struct eth_addr mac;
    struct neigh *n = NULL;
    struct st_hop hop;
    tcp_id id;
    enum way w;

    if (!tcp_next_ready(st->tcp, &out))
        return STEP_NOTHING;
    id = out.id;
    if (st_addr_is_ours(st, &out.seg.dst))
        return step_looped(st, id, now);
    if (!st->up)
        return lose(st, id, now);
    w = next_hop(st, &out.seg.dst, now, &hop, &mac, &n);
    if (w == WAY_WAIT && st_neigh_wait(st, n, id))
        return STEP_AGAIN;
    if (w == WAY_NONE)
        return no_way(st, id, STACK_DROP_NO_ROUTE, ENETUNREACH, now);
    if (w != WAY_OK)
        return no_way(st, id, drop_of(w), EHOSTUNREACH, now);
    tcp_path_mtu(st->tcp, id, st_path_mtu(st, &out.seg.dst, hop.mtu, now));
    if (!tcp_output(st->tcp, id, now, &out) || too_big(st, &out, hop.mtu, now))
        return STEP_AGAIN;
    if (!device_cuts(st, &out.seg))
        return begin_cut(st, &out, &mac);
    return emit_tcp(st, &out, &out.seg, &mac, tx);
}

bool stack_output(struct stack *st, uint64_t now, struct stack_tx *ret)
{
    enum step r;

    st->now = now;
    do {
        r = step_cut(st, ret);
        if (r == STEP_NOTHING)
            r = step_intent(st, now, ret);
        if (r == STEP_NOTHING)
            r = step_reply(st, now, ret);
        if (r == STEP_NOTHING)
            r = step_ready(st, now, ret);
    } while (r == STEP_AGAIN);
    return r == STEP_FRAME;
}

/* The segment in a frame that did not leave; false: it is no connection's. */
static bool refused_segment(const struct stack *st, const struct stack_tx *tx, struct tcp_out *ret)
{
    size_t at = vnet_bytes(st) + ETH_HEADER_BYTES, header;

    *ret = (struct tcp_out){.id = tx->id, .cause = tx->cause, .retransmission = tx->retransmission};
    if (!tx->is_tcp || !tx->id)
        return false;
    at += tx->header[at] >> 4 == 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
    if (tcp_header_decode(tx->header + at, tx->header_bytes - at, &ret->seg, &header) != TCP_DECODE_OK)
        return false;
    ret->seg.len = tx->frame_bytes - tx->header_bytes;
    return true;
}

void stack_tx_failed(struct stack *st, const struct stack_tx *tx)
{
    struct tcp_out out;

    st->counters.tx_failed++;
    if (refused_segment(st, tx, &out))
        tcp_tx_failed(st->tcp, &out);
}

/* What is left of a super-frame that is being cut: its beginning is taken back, and comes again with it. */
static void drop_cut(struct stack *st, tcp_id id)
{
    struct intent *in = st->cut.super;

    if (!in || ((const struct tcp_out *)(const void *)in->data)->id != id)
        return;
    st->cut.super = NULL;
    st_intent_spent(st, in);
}

void stack_tx_refused(struct stack *st, const struct stack_tx *tx, uint64_t now)
{
    struct tcp_out out;

    st->counters.tx_failed++;
    if (!refused_segment(st, tx, &out))
        return;
    drop_cut(st, tx->id);
    tcp_tx_refused(st->tcp, &out, now);
}
