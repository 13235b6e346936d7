/*
 * daemon/capture.c: capture.open: frames as they pass the TAP, as pcapng (theory of operation).
 *
 * A reader gets one end of a socketpair (SOCK_SEQPACKET); each message is a whole block, so that one that does not fit is
 * lost as a whole. Blocks are made where frames pass, into a queue of at most QUEUE_MAX bytes, and sent in the second half of
 * the turn as far as the reader takes them; beyond that they are counted, not kept. The count is told by a statistics block,
 * past the queue, as soon as the reader takes anything again. So a reader that sleeps costs its queue, and never time. It ends
 * when the reader closes.
 *
 * The verdict on a frame that came is the drop reason whose counter moved while the stack worked on it. A frame is copied
 * before that: the stack may take its chunks.
 */
#include "daemon/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/fdset.h"
#include "daemon/tap.h"
#include "trace/export.h"

#define QUEUE_MAX (4u << 20)
#define FRAME_MAX (128u << 10)

struct block {
    struct list_node link;
    size_t bytes;
    char data[];
};

struct capture {
    struct daemon *d;
    struct fdwatch watch;
    struct deferred flush;
    struct list_node queue;
    size_t queued;
    uint64_t seen, dropped, dropped_told;
    uint32_t snaplen;
    struct ip_addr host;
    bool has_host, full, ended, begun; /* begun: section and interface are sent */
    uint16_t port;
    uint64_t drops[TCP_DROP_MAX], stack_drops[STACK_DROP_MAX];
    size_t bytes; /* of the frame that is being looked at; 0: not wanted */
    uint8_t frame[FRAME_MAX];
};

/* ---- the queue ---- */

static void enqueue(struct capture *c, struct trace_text *text)
{
    struct block *b = text->failed || c->queued + text->len > QUEUE_MAX ? NULL : malloc(sizeof *b + text->len);

    if (b) {
        b->bytes = text->len;
        memcpy(b->data, text->at, text->len);
        list_add_tail(&c->queue, &b->link);
        c->queued += b->bytes;
        daemon_defer(c->d, &c->flush);
    } else {
        c->dropped++;
    }
    trace_text_free(text);
}

static void capture_free(struct capture *c)
{
    while (!list_empty(&c->queue))
        free(list_entry(list_pop(&c->queue), struct block, link));
    if (list_linked(&c->flush.link))
        list_del(&c->flush.link);
    fdset_del(&c->watch);
    close(c->watch.fd);
    c->d->capture = NULL;
    free(c);
}

/* False: the reader takes no more now (EPOLLOUT comes), or is gone. */
static bool send_block(struct capture *c, const void *data, size_t bytes)
{
    if (send(c->watch.fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS)
        c->full = true;
    else
        c->ended = true;
    return false;
}

/*
 * What was dropped, before any block that came later: whoever has read a frame knows what was missed before it. Not
 * through the queue, which is full.
 */
static void tell_dropped(struct capture *c)
{
    struct trace_text text = {0};

    pcapng_statistics(&text, trace_wall_ns(), c->seen, c->dropped);
    if (!text.failed && send_block(c, text.at, text.len))
        c->dropped_told = c->dropped;
    trace_text_free(&text);
}

/* Sends what the reader takes. */
static void flush(struct deferred *self, uint64_t now)
{
    struct capture *c = list_entry(self, struct capture, flush);

    (void)now;
    if (!c->ended && !c->full && c->begun && c->dropped != c->dropped_told)
        tell_dropped(c);
    while (!c->ended && !c->full && !list_empty(&c->queue)) {
        struct block *b = list_entry(list_first(&c->queue), struct block, link);

        if (!send_block(c, b->data, b->bytes))
            break;
        c->begun = true;
        list_del(&b->link);
        c->queued -= b->bytes;
        free(b);
    }
    if (c->ended)
        capture_free(c);
}

static void fd_ready(struct fdwatch *self, uint32_t events, uint64_t now)
{
    struct capture *c = list_entry(self, struct capture, watch);

    (void)now;
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
        c->ended = true;
    if (events & EPOLLOUT)
        c->full = false;
    daemon_defer(c->d, &c->flush);
}

/* ---- frames ---- */

/* Copies slices behind each other from `skip` on into the frame; the virtio-net header, if there is one, into vnet. */
static void copy_frame(struct capture *c, const struct tcp_slice *slice, unsigned n)
{
    unsigned vnet = c->d->tap->offload.vnet_hdr ? c->d->tap->offload.vnet_hdr_bytes : 0;
    uint8_t header[16] = {0};
    size_t at = 0;

    c->bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        for (uint32_t k = 0; k < slice[i].len;) {
            uint32_t part = slice[i].len - k;

            if (at < vnet) {
                part = part < vnet - at ? part : (uint32_t)(vnet - at);
                memcpy(header + at, slice[i].data + k, part);
            } else {
                part = part < FRAME_MAX - c->bytes ? part : (uint32_t)(FRAME_MAX - c->bytes);
                memcpy(c->frame + c->bytes, slice[i].data + k, part);
                c->bytes += part;
            }
            if (part == 0)
                break;
            k += part;
            at += part;
        }
    }
    if (!trace_frame_matches(c->frame, c->bytes, c->has_host ? &c->host : NULL, c->port))
        c->bytes = 0;
    else
        trace_frame_finish(c->frame, c->bytes, header, vnet);
}

static void put_frame(struct capture *c, enum pcapng_direction direction, const char *comment)
{
    struct trace_text text = {0};
    uint32_t n = (uint32_t)c->bytes;

    c->seen++;
    if (c->queued + c->bytes > QUEUE_MAX) {
        c->dropped++;
        return;
    }
    pcapng_packet(&text, trace_wall_ns(), c->frame, n < c->snaplen ? n : c->snaplen, n, direction, comment, strlen(comment));
    enqueue(c, &text);
}

void capture_before(struct daemon *d, const struct stack_rx *rx)
{
    struct capture *c = d->capture;

    copy_frame(c, rx->slice, rx->n_slices);
    memcpy(c->drops, tcp_get_drops(d->tcp), sizeof c->drops);
    memcpy(c->stack_drops, stack_get_drops(d->stack), sizeof c->stack_drops);
}

void capture_input(struct daemon *d)
{
    struct capture *c = d->capture;
    const uint64_t *drops = tcp_get_drops(d->tcp), *stack_drops = stack_get_drops(d->stack);
    char comment[512] = "";
    size_t n = 0;

    if (!c->bytes)
        return;
    for (unsigned i = 0; i < TCP_DROP_MAX && n < 256; i++) {
        if (drops[i] != c->drops[i])
            n += (size_t)snprintf(comment + n, 160, "%s%.40s: %.100s", n ? "; " : "not used: ", tcp_drop_name((enum tcp_drop)i),
                                  tcp_drop_text((enum tcp_drop)i));
    }
    for (unsigned i = 0; i < STACK_DROP_MAX && n < 256; i++) {
        if (stack_drops[i] != c->stack_drops[i])
            n += (size_t)snprintf(comment + n, 160, "%s%.60s", n ? "; " : "not used: ", stack_drop_name((enum stack_drop)i));
    }
    put_frame(c, PCAPNG_IN, n ? comment : "used");
}

void capture_output(struct daemon *d, const struct stack_tx *tx, int r)
{
    struct capture *c = d->capture;
    struct tcp_slice slice[TCP_SLICES_MAX + 1] = {{.data = tx->header, .len = tx->header_bytes}};
    char comment[256];

    memcpy(slice + 1, tx->slice, tx->n_slices * sizeof *slice);
    copy_frame(c, slice, tx->n_slices + 1);
    if (!c->bytes)
        return;
    snprintf(comment, sizeof comment, "%s%s%.100s%s%s", tx->is_tcp ? tcp_cause_name(tx->cause) : "of no connection",
             tx->is_tcp ? ": " : "", tx->is_tcp ? tcp_cause_text(tx->cause) : "", tx->retransmission ? "; sent again" : "",
             r < 0 ? "; the device did not take it" : "");
    put_frame(c, PCAPNG_OUT, comment);
}

/* ---- life ---- */

void capture_close(struct daemon *d)
{
    if (d->capture)
        capture_free(d->capture);
}

/* Section and interface, a message each would be more than a reader needs: both are one. */
static void begin(struct capture *c)
{
    struct trace_text text = {0};

    pcapng_begin(&text, "tautd " TAUT_VERSION, c->d->ifname, "frames at the TAP", PCAP_LINK_ETHERNET, c->snaplen);
    enqueue(c, &text);
}

enum control_outcome method_capture_open(struct control_call *call)
{
    struct capture *c;
    int fd[2], r;

    if (call->d->capture)
        return control_fail(call, CONTROL_ALREADY_SUBSCRIBED, 0, "the interface is being captured already");
    c = calloc(1, sizeof *c);
    if (!c)
        return control_fail(call, CONTROL_NO_MEMORY, 0, "no memory");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0) {
        free(c);
        return control_fail(call, CONTROL_NO_DESCRIPTORS, errno, "no descriptors");
    }
    c->d = call->d;
    c->snaplen = (uint32_t)arg_int(call, "snaplen", FRAME_MAX);
    c->has_host = arg_address(call, "host", &c->host);
    c->port = (uint16_t)arg_int(call, "port", 0);
    c->watch = (struct fdwatch){.fd = fd[0], .ready = fd_ready};
    c->flush.fn = flush;
    list_init(&c->queue);
    list_init(&c->flush.link);
    r = fdset_add(call->d->fds, &c->watch);
    if (r < 0) {
        close(fd[0]);
        close(fd[1]);
        free(c);
        return control_fail(call, CONTROL_NO_DESCRIPTORS, -r, "no descriptors");
    }
    call->d->capture = c;
    begin(c);
    call->result = json_pack("{s:s, s:i}", "interface", call->d->ifname, "snaplen", (int)c->snaplen);
    call->fd = fd[1];
    return CONTROL_DONE;
}
