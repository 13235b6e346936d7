/*
 * trace/pkt.c: a record as a packetdrill script: what the program called and what came in, at their times, and what left,
 * as expectations. Run by tests/packetdrill/drill in virtual time the engine does it all again: a report becomes a test.
 *
 * Two walks over the events: the first looks whether the record is whole and what has to stand before the first segment
 * (options, Fast Open); the second writes. Sequence numbers begin at 0 on both sides; timestamps stay what they were,
 * drill maps them. Not in a record, so not in the script: payload, TCP-MD5 keys (others stand in), and random draws.
 *
 * A daemon reads a batch, lets programs act, and sends at the end of its turn. So a script says by a comment that it is
 * to be replayed `held`: what leaves is asked for where it stands, timers run out where the record says so. Where
 * packetdrill has no words for that, a command that does nothing in a shell (`: expire`) stands; pdheld.py lists them.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/chunk.h"
#include "tcp/tcp_config.h"
#include "tcp/tcp_enums.h"
#include "trace/trace.h"
#include "wire/text.h"

#define PRELUDE_NS 1000000000 /* the connection that brings a cookie, before the one of the record */
#define GSO_MAX    65535      /* of the device that drill has */
#define FRONT      26         /* before the IP packet in a frame of a TAP: virtio-net and Ethernet header */
#define FRONT_MAX  64
#define NS         1000000000
#define SETTLED_NS 100000000  /* so long after its last event a connection has nothing left of a turn */
#define FD         3
#define CHILD_FD   4

struct pkt {
    const struct trace *tr;
    struct trace_text *out;
    int64_t shift; /* ns, of all times */
    int fd;        /* the connection's descriptor now */
    bool nonblock, closed;
    /* found by the first walk */
    uint64_t first_segment, accepted_at; /* numbers; UINT64_MAX: none */
    uint16_t gso, gso_now;
    unsigned front;                /* : chunks, so far */
    bool runs;                     /* : runs, so far */
    uint64_t expired_at;           /* of the expiry that stands last in the script; UINT64_MAX: none does */
    bool handshake;                /* it begins with the SYN that opened the connection */
    uint32_t sent_end;             /* of what left */
    uint64_t last_at;
    bool md5;                      /* our first segment is signed */
    unsigned keys;                 /* set so far */
    bool bad_md5;                  /* the segment that comes next is one with a wrong signature */
    bool fastopen;                 /* sendto(MSG_FASTOPEN) begins it */
    bool syn_cookie_in;            /* the peer's SYN has a cookie, and its data was taken */
    struct tcp_ev_seg cookie_syn;  /* our SYN with a cookie; h.words 0: none */
    int64_t fastopen_mode;         /* tcp_fastopen */
};

/* ---- the first walk ---- */

static bool is_syn(const struct tcp_ev_seg *e)
{
    return (e->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static void scan_seg(struct pkt *p, const struct trace_event *ev, uint32_t *inout_syn_len)
{
    const struct tcp_ev_seg *e = &ev->e.seg;
    bool cookie = (e->opt_bits & TCP_REC_OPT_FASTOPEN) && e->fastopen_bytes > 0;

    if (p->first_segment == UINT64_MAX) {
        p->first_segment = ev->number;
        p->handshake = is_syn(e) && (ev->type == TCP_REC_T_SEG_IN) == (p->tr->head.passive != 0);
    }
    if (ev->type == TCP_REC_T_SEG_IN) {
        if (e->gso_size && e->len > e->gso_size && !p->gso)
            p->gso = p->gso_now = e->gso_size;
        if (is_syn(e) && cookie)
            *inout_syn_len = e->len;
        return;
    }
    if (!(ev->e.h.flags & TCP_REC_F_REPLY))
        p->sent_end = e->seq + e->len + ((e->tcp_flags & TCP_SYN) != 0) + ((e->tcp_flags & TCP_FIN) != 0);
    if ((e->tcp_flags & TCP_SYN) && (e->opt_bits & TCP_REC_OPT_MD5))
        p->md5 = true;
    if (is_syn(e) && cookie && !p->cookie_syn.h.words)
        p->cookie_syn = *e;
    if ((e->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) && *inout_syn_len > 0)
        p->syn_cookie_in = p->syn_cookie_in || e->ack == p->tr->head.irs + 1 + *inout_syn_len;
}

static int refuse(const char *why, const char **ret_error)
{
    *ret_error = why;
    return -ENODATA;
}

/* A key as the configuration has them: it becomes a word of a command. */
static bool is_key(const struct tcp_ev_config *c)
{
    const char *const parts[] = {c->name0, c->name1, c->name2};

    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < 16 && parts[k][i]; i++) {
            char ch = parts[k][i];

            if (!(ch >= 'a' && ch <= 'z') && ((k == 0 && i == 0) || (!(ch >= '0' && ch <= '9') && ch != '_')))
                return false;
        }
    }
    return c->name0[0] != 0;
}

static int scan(struct pkt *p, const char **ret_error)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    uint32_t syn_len = 0;
    bool begun = false;
    int r;

    while ((r = trace_next(p->tr, &cursor, &ev)) == 1) {
        p->last_at = ev.type == TCP_REC_T_CONFIG ? p->last_at : ev.e.h.at;
        if (ev.type == TCP_REC_T_CONFIG) {
            if (!is_key(&ev.e.config))
                return refuse("the record is damaged: it has a configuration key that can't be one", ret_error);
            if (memcmp(ev.e.config.name0, "tcp_fastopen\0\0\0", 16) == 0)
                p->fastopen_mode = ev.e.config.value;
            continue;
        }
        if (!begun && (ev.type != TCP_REC_T_START || ev.e.h.code != TCP_REC_START_NEW || ev.number != 0))
            return refuse("the beginning of this record is lost: it can't be replayed (a larger trace_ring keeps more)",
                          ret_error);
        begun = true;
        if (ev.type == TCP_REC_T_SEG_IN || ev.type == TCP_REC_T_SEG_OUT)
            scan_seg(p, &ev, &syn_len);
        else if (ev.type == TCP_REC_T_CALL && ev.e.h.code == TCP_REC_CALL_FASTOPEN)
            p->fastopen = true;
        else if (ev.type == TCP_REC_T_CALL && ev.e.h.code == TCP_REC_CALL_ACCEPT && p->accepted_at == UINT64_MAX)
            p->accepted_at = ev.number;
        else if (ev.type == TCP_REC_T_START && ev.number > 0)
            return refuse("a part of this record is lost: it can't be replayed", ret_error);
    }
    if (r < 0)
        return refuse("the record is damaged", ret_error);
    if (!begun)
        return refuse("the record is empty", ret_error);
    if (p->first_segment != UINT64_MAX && !p->handshake)
        return refuse("the handshake of this connection is not in its record: it can't be replayed", ret_error);
    return 0;
}

/* ---- lines ---- */

static void at(const struct pkt *p, uint64_t time)
{
    int64_t ns = trace_time(p->tr, time) + p->shift;

    ns = ns > 0 ? ns : 0;
    if (ns % 1000)
        trace_print(p->out, "%" PRId64 ".%09" PRId64 " ", ns / NS, ns % NS);
    else
        trace_print(p->out, "%" PRId64 ".%06" PRId64 " ", ns / NS, ns % NS / 1000);
}

static void call_line(const struct pkt *p, uint64_t time, const char *text)
{
    at(p, time);
    trace_print(p->out, "%s\n", text);
}

/* What text_format_seg() writes, with any options where ours can't be the same. */
static void put_segment(const struct pkt *p, const struct trace_event *ev)
{
    bool in = ev->type == TCP_REC_T_SEG_IN;
    static const char *const marks[] = {"", "[ect1] ", "[ect0] ", "[ce] "};
    uint32_t seq_base, ack_base;
    char text[TEXT_SEG_MAX], *options;
    struct tcp_seg seg;
    struct trace_event copy = *ev;

    if (in && is_syn(&copy.e.seg) && p->syn_cookie_in)
        copy.e.seg.opt_bits &= (uint8_t) ~(TCP_REC_OPT_FASTOPEN | TCP_REC_OPT_FASTOPEN_EXP);
    trace_seg(&copy.e.seg, &seg);
    if (in && p->bad_md5)
        memset(seg.opt.md5, 0x55, sizeof seg.opt.md5); /* the right one is left out, drill makes it */
    trace_bases(p->tr, ev, &seq_base, &ack_base);
    text_format_seg(&seg, seq_base, ack_base, text, sizeof text);
    options = strstr(text, " <");
    if (!in && seg.opt.fastopen_ok && seg.opt.fastopen_bytes > 0 && (seg.flags & TCP_ACK) && options)
        strcpy(options, " <...>"); /* a cookie of ours: its key is secret */
    at(p, ev->e.h.at);
    trace_print(p->out, "%c %s%s", in ? '<' : '>', marks[seg.ecn], text);
    if (!in)
        trace_print(p->out, "  // %s", tcp_rec_code_name(ev->type, ev->e.h.code));
    trace_print(p->out, "\n");
}

static void put_icmp(const struct pkt *p, const struct trace_event *ev)
{
    const struct tcp_ev_icmp *e = &ev->e.icmp;
    bool v6 = p->tr->head.family == IP_V6;
    uint32_t seq = e->seq - p->tr->head.iss;

    at(p, e->h.at);
    trace_print(p->out, "< icmp ");
    switch (e->h.arg) {
    case EMSGSIZE:
        trace_print(p->out, v6 ? "packet_too_big mtu %u" : "unreachable frag_needed mtu %u", e->mtu);
        break;
    case ECONNREFUSED:
        trace_print(p->out, "unreachable port_unreachable");
        break;
    case EACCES:
        trace_print(p->out, v6 ? "unreachable admin_prohibited" : "unreachable packet_filtered");
        break;
    case ENETUNREACH:
        trace_print(p->out, v6 ? "unreachable no_route" : "unreachable net_unreachable");
        break;
    case ENOPROTOOPT:
        trace_print(p->out, "unreachable protocol_unreachable");
        break;
    default:
        trace_print(p->out, v6 ? "unreachable address_unreachable" : "unreachable host_unreachable");
        break;
    }
    trace_print(p->out, " [%" PRIu32 ":%" PRIu32 "(0)]\n", seq, seq);
}

/* ---- calls ---- */

static void set_nonblock(struct pkt *p, uint64_t time)
{
    if (p->nonblock)
        return;
    p->nonblock = true;
    at(p, time);
    trace_print(p->out, "fcntl(%d, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n", p->fd);
}

static void put_option(const struct pkt *p, const struct tcp_ev_call *c, uint64_t time)
{
    const char *name = tcp_rec_option_text(c->h.arg);

    if (c->result < 0 || c->h.arg >= TCP_REC_OPTION_MAX)
        return;
    if (c->h.arg == TCP_REC_OPTION_TOS && p->tr->head.family == IP_V6)
        name = "SOL_IPV6, IPV6_TCLASS";
    at(p, time);
    if (c->h.arg == TCP_REC_OPTION_CONGESTION)
        trace_print(p->out, "setsockopt(%d, %s, \"%s\", %zu) = 0\n", p->fd, name, p->tr->head.congestion,
                    strlen(p->tr->head.congestion));
    else
        trace_print(p->out, "setsockopt(%d, %s, [%" PRId32 "], 4) = 0\n", p->fd, name, (int32_t)c->want);
}

/* Keys are not recorded; any others do, as long as both ends change them at the same times. */
static void put_key(struct pkt *p, bool set, uint64_t time)
{
    at(p, time);
    if (set)
        trace_print(p->out, "setsockopt(%d, SOL_TCP, TCP_MD5SIG, \"key%u\", 4) = 0\n", p->fd, p->keys++ % 10);
    else
        trace_print(p->out, "setsockopt(%d, SOL_TCP, TCP_MD5SIG, \"\", 0) = 0\n", p->fd);
}

static void put_result(const struct pkt *p, int64_t result)
{
    if (result >= 0)
        trace_print(p->out, " = %" PRId64 "\n", result);
    else
        trace_print(p->out, " = -1 %s\n", result == -EAGAIN ? "EAGAIN" : result == -EINPROGRESS ? "EINPROGRESS" : "");
}

static void put_send(struct pkt *p, const struct tcp_ev_call *c)
{
    set_nonblock(p, c->h.at);
    at(p, c->h.at);
    if (c->h.arg == 0)
        trace_print(p->out, "write(%d, ..., %" PRIu32 ")", p->fd, c->want);
    else
        trace_print(p->out, "send(%d, ..., %" PRIu32 ", %s%s%s0)", p->fd, c->want, c->h.arg & 1 ? "MSG_MORE|" : "",
                    c->h.arg & 2 ? "MSG_OOB|" : "", c->h.arg & 4 ? "MSG_EOR|" : "");
    put_result(p, c->result);
}

static void put_close(struct pkt *p, const struct tcp_ev_call *c)
{
    if (p->closed)
        return;
    p->closed = true;
    if (c->h.code == TCP_REC_CALL_ABORT) {
        at(p, c->h.at);
        trace_print(p->out, "setsockopt(%d, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0\n", p->fd);
    }
    at(p, c->h.at);
    trace_print(p->out, "close(%d) = 0\n", p->fd);
}

static void put_accept(struct pkt *p, uint64_t time)
{
    if (p->fd == CHILD_FD)
        return;
    at(p, time);
    trace_print(p->out, "accept(%d, ..., ...) = %d\n", FD, CHILD_FD);
    p->fd = CHILD_FD;
}

static void put_call(struct pkt *p, const struct trace_event *ev)
{
    const struct tcp_ev_call *c = &ev->e.call;

    if (p->tr->head.passive && c->h.code != TCP_REC_CALL_SETOPT)
        put_accept(p, c->h.at);
    switch (c->h.code) {
    case TCP_REC_CALL_CONNECT:
        if (!p->fastopen)
            call_line(p, c->h.at, "connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)");
        break;
    case TCP_REC_CALL_FASTOPEN:
        at(p, c->h.at);
        trace_print(p->out, "sendto(%d, ..., %" PRIu32 ", MSG_FASTOPEN, ..., ...)", p->fd, c->want);
        put_result(p, c->result > 0 ? c->result : -EINPROGRESS);
        break;
    case TCP_REC_CALL_SEND:
        put_send(p, c);
        break;
    case TCP_REC_CALL_RECV:
        set_nonblock(p, c->h.at);
        at(p, c->h.at);
        trace_print(p->out, "read(%d, ..., %" PRId64 ")", p->fd, c->result);
        put_result(p, c->result);
        break;
    case TCP_REC_CALL_SHUTDOWN_WR:
    case TCP_REC_CALL_SHUTDOWN_RD:
        at(p, c->h.at);
        trace_print(p->out, "shutdown(%d, %s) = 0\n", p->fd,
                    c->h.code == TCP_REC_CALL_SHUTDOWN_WR ? "SHUT_WR" : "SHUT_RD");
        break;
    case TCP_REC_CALL_POLL_OUT:
        at(p, c->h.at);
        trace_print(p->out, "poll([{fd=%d, events=POLLOUT, revents=0}], 1, 0) = 0\n", p->fd);
        break;
    case TCP_REC_CALL_CLOSE:
    case TCP_REC_CALL_ABORT:
        put_close(p, c);
        break;
    case TCP_REC_CALL_MD5:
        if (c->result == 0 && ev->number > p->first_segment)
            put_key(p, c->want != 0, c->h.at);
        break;
    default:
        break;
    }
}

/* ---- turns ---- */

/* Several timers that ran out at once are one expiry. */
static void put_expiry(struct pkt *p, uint64_t time)
{
    if (p->expired_at == time)
        return;
    call_line(p, time, "`: expire`");
    p->expired_at = time;
}

static void put_refused(const struct pkt *p, const struct trace_event *ev)
{
    if (ev->e.h.code != TCP_REC_DEVICE_FULL)
        return; /* it is lost, as others on the way */
    at(p, ev->e.h.at);
    trace_print(p->out, "`: refused %" PRIu32 "`\n", ev->e.h.arg - p->tr->head.iss);
}

/*
 * Where in its frame's chunks the payload lies: what is kept there is charged to the receive buffer by the chunk, what
 * is copied by what it fills. Only where the first chunk ends within the payload its beginning can be told.
 */
static void put_chunks(struct pkt *p, const struct trace_event *ev)
{
    const struct tcp_ev_seg *e = &ev->e.seg;
    unsigned front = 0;
    struct tcp_seg seg;
    uint8_t header[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];

    if (ev->type != TCP_REC_T_SEG_IN || e->len == 0)
        return;
    if (e->h.arg) {
        trace_seg(e, &seg);
        front = CHUNK_SMALL_BYTES - (e->h.arg - 1) - (p->tr->head.family == IP_V6 ? 40 : 20) -
                (unsigned)tcp_header_encode(&seg, header);
        if (e->h.arg - 1 >= e->len || front > FRONT_MAX)
            front = p->front ? p->front : FRONT;
    }
    if (front == p->front)
        return;
    p->front = front;
    at(p, e->h.at);
    trace_print(p->out, "`: chunks %u`\n", front);
}

/*
 * Does each segment of a coalesced packet lie in a chunk of its own (the stack made it of a burst's frames), or does the
 * packet as it came from the device? Then its first slice is longer than a segment.
 */
static void put_runs(struct pkt *p, const struct tcp_ev_seg *e)
{
    bool runs = e->h.arg && e->h.arg - 1 == e->gso_size;

    if (e->h.type != TCP_REC_T_SEG_IN || !e->gso_size || e->len <= e->gso_size || runs == p->runs)
        return;
    p->runs = runs;
    at(p, e->h.at);
    trace_print(p->out, "`: runs %u`\n", runs);
}

/* Another length of what a coalesced packet consists of. */
static void put_gso(struct pkt *p, const struct tcp_ev_seg *e)
{
    if (e->h.type != TCP_REC_T_SEG_IN || e->gso_size == p->gso_now || !e->gso_size || e->len <= e->gso_size)
        return;
    p->gso_now = e->gso_size;
    at(p, e->h.at);
    trace_print(p->out, "`: gso %u`\n", e->gso_size);
}

/* The record was made while its connection was in the middle of something: what would leave next is not known. */
static bool is_open_end(const struct pkt *p)
{
    const struct tcp_rec_head *h = &p->tr->head;

    return h->kind == TCP_REC_KIND_CONN && (h->dumped_at < p->last_at + SETTLED_NS || p->sent_end != h->snd_nxt);
}

/* ---- what stands before the first segment ---- */

static void put_config(const struct pkt *p)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;
    int64_t fastopen = p->fastopen_mode | (p->syn_cookie_in ? 0x202 : 0);

    while (trace_next(p->tr, &cursor, &ev) == 1) {
        const struct tcp_ev_config *c = &ev.e.config;

        if (ev.type == TCP_REC_T_CONFIG && memcmp(c->name0, "tcp_fastopen\0\0\0", 16) != 0)
            trace_print(p->out, " sysctl -q %.16s%.16s%.16s=%" PRId64 "\n", c->name0, c->name1, c->name2, c->value);
    }
    trace_print(p->out, " sysctl -q tcp_fastopen=%" PRId64 "`\n\n", fastopen);
}

/* What was remembered of the peer when the connection began to use it. */
static void put_metrics(const struct pkt *p)
{
    struct trace_cursor cursor = {0};
    struct trace_event ev;

    while (trace_next(p->tr, &cursor, &ev) == 1) {
        const struct tcp_ev_metrics *m = &ev.e.metrics;

        if (ev.type == TCP_REC_T_METRICS) {
            trace_print(p->out, " : metrics %" PRIu32 " %" PRIu32 " %" PRIu32 "\n", m->rtt, m->ssthresh, m->reordering);
            return;
        }
    }
}

static void put_route(const struct pkt *p)
{
    const struct tcp_rec_head *h = &p->tr->head;

    if (h->mtu == (h->family == IP_V6 ? 1520 : 1500) && !h->initcwnd && !h->initrwnd)
        return;
    trace_print(p->out, " ip route change default dev tun0 mtu %u", h->mtu);
    if (h->initcwnd)
        trace_print(p->out, " initcwnd %u", h->initcwnd);
    if (h->initrwnd)
        trace_print(p->out, " initrwnd %u", h->initrwnd);
    trace_print(p->out, "\n");
}

/* Options that were set before the first segment; the last value of each. */
static void put_options_before(const struct pkt *p)
{
    struct tcp_ev_call last[TCP_REC_OPTION_MAX] = {0};
    uint64_t limit = p->tr->head.passive ? p->accepted_at : p->first_segment;
    struct trace_cursor cursor = {0};
    struct trace_event ev;

    while (trace_next(p->tr, &cursor, &ev) == 1) {
        if (ev.type == TCP_REC_T_CALL && ev.e.h.code == TCP_REC_CALL_SETOPT && ev.number < limit &&
            ev.e.h.arg < TCP_REC_OPTION_MAX)
            last[ev.e.h.arg] = ev.e.call;
    }
    for (unsigned i = 0; i < TCP_REC_OPTION_MAX; i++) {
        if (last[i].h.words)
            put_option(p, &last[i], p->tr->zero);
    }
}

/* A connection of another time, which brings the cookie that our SYN has. */
static void put_prelude(struct pkt *p)
{
    const struct tcp_ev_seg *syn = &p->cookie_syn;
    unsigned len = syn->fastopen_bytes <= 16 ? syn->fastopen_bytes : 16, pad;
    bool exp = (syn->opt_bits & TCP_REC_OPT_FASTOPEN_EXP) != 0;

    trace_print(p->out,
                "0 `sysctl -q tcp_no_metrics_save=1`\n"
                "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 9\n"
                "0 fcntl(9, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n"
                "0 sendto(9, ..., 0, MSG_FASTOPEN, ..., ...) = -1 EINPROGRESS\n"
                "0 > S 0:0(0) <...>\n"
                "+.01 < S. 0:0(0) ack 1 win 65535 <mss %u,FO%s ",
                syn->mss ? syn->mss : 1460, exp ? "EXP" : "");
    for (unsigned i = 0; i < len; i++)
        trace_print(p->out, "%02x", syn->cookie[i]);
    pad = (4 - (len + (exp ? 4 : 2)) % 4) % 4;
    while (pad-- > 0)
        trace_print(p->out, ",nop");
    trace_print(p->out, ">\n"
                        "+0 > . 1:1(0) ack 1\n"
                        "+0 close(9) = 0\n"
                        "+0 > F. 1:1(0) ack 1\n"
                        "+.01 < F. 1:1(0) ack 2 win 65535\n"
                        "+0 > . 2:2(0) ack 2\n"
                        "+0 `sysctl -q tcp_no_metrics_save=0`\n\n");
    p->shift = PRELUDE_NS;
}

static void put_beginning(struct pkt *p)
{
    const struct tcp_rec_head *h = &p->tr->head;
    char local[IP_ADDR_PORT_MAX], remote[IP_ADDR_PORT_MAX];
    uint64_t clock;

    trace_print(p->out, "// A connection of taut's flight recorder: %s %s %s. Run it as %s.\n",
                trace_addr_text(h->local, h->family, h->local_port, local), h->passive ? "from" : "to",
                trace_addr_text(h->remote, h->family, h->remote_port, remote), h->family == IP_V6 ? "ipv6" : "ipv4");
    clock = p->tr->zero - (p->cookie_syn.h.words ? PRELUDE_NS : 0);
    trace_print(p->out, "// drill: held from %" PRIu64 ".%09" PRIu64 "%s\n", clock / NS, clock % NS,
                is_open_end(p) ? ", open end" : "");
    trace_print(p->out, "// (Only taut's drill replays the order within the daemon's turns; to others this is a comment.)\n");
    if (p->gso)
        trace_print(p->out, "--mss=%u\n", p->gso);
    trace_print(p->out, "`");
    put_route(p);
    if (h->gso_max != GSO_MAX)
        trace_print(p->out, " ip link set dev tun0 gso_max_size %" PRIu32 "\n", h->gso_max);
    put_metrics(p);
    put_config(p);
    if (p->cookie_syn.h.words)
        put_prelude(p);
    call_line(p, p->tr->zero, "socket(..., SOCK_STREAM, IPPROTO_TCP) = 3");
    if (p->md5)
        put_key(p, true, p->tr->zero);
    if (!h->passive) {
        put_options_before(p);
        set_nonblock(p, p->tr->zero);
        return;
    }
    call_line(p, p->tr->zero, "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0");
    put_options_before(p);
    call_line(p, p->tr->zero, "bind(3, ..., ...) = 0");
    at(p, p->tr->zero);
    trace_print(p->out, "listen(3, %" PRIu32 ") = 0\n", h->backlog ? h->backlog : 128);
}

/* ---- the second walk ---- */

/* Is what comes at the cursor the drop of the segment before it, for its signature? */
static bool drops_signature(const struct pkt *p, struct trace_cursor cursor)
{
    struct trace_event ev;

    return trace_next(p->tr, &cursor, &ev) == 1 && ev.type == TCP_REC_T_DROP && ev.e.h.code == TCP_DROP_MD5_FAILURE;
}

static void put_events(struct pkt *p)
{
    uint64_t options_from = p->tr->head.passive ? p->accepted_at : p->first_segment;
    struct trace_cursor cursor = {0};
    struct trace_event ev;

    while (trace_next(p->tr, &cursor, &ev) == 1) {
        if (ev.type == TCP_REC_T_FIRED) {
            put_expiry(p, ev.e.h.at);
            continue;
        }
        switch (ev.type) {
        case TCP_REC_T_SEG_IN:
        case TCP_REC_T_SEG_OUT:
            p->bad_md5 = drops_signature(p, cursor);
            put_gso(p, &ev.e.seg);
            put_chunks(p, &ev);
            put_runs(p, &ev.e.seg);
            put_segment(p, &ev);
            break;
        case TCP_REC_T_NEIGHBOUR:
            at(p, ev.e.h.at);
            trace_print(p->out, "`: next_hop %u %" PRIu32 "`\n", ev.e.h.code, ev.e.h.arg);
            break;
        case TCP_REC_T_ASKED:
            call_line(p, ev.e.h.at, "`: asked`");
            break;
        case TCP_REC_T_ICMP:
            put_icmp(p, &ev);
            break;
        case TCP_REC_T_CALL:
            if (ev.e.h.code != TCP_REC_CALL_SETOPT)
                put_call(p, &ev);
            else if (ev.number >= options_from)
                put_option(p, &ev.e.call, ev.e.h.at);
            break;
        case TCP_REC_T_DEVICE:
            put_refused(p, &ev);
            break;
        default:
            continue;
        }
        p->expired_at = UINT64_MAX;
    }
}

int trace_packetdrill(const struct trace *tr, struct trace_text *out, const char **ret_error)
{
    struct pkt p = {.tr = tr, .out = out, .fd = FD, .first_segment = UINT64_MAX, .accepted_at = UINT64_MAX,
                    .expired_at = UINT64_MAX,
                    .fastopen_mode = 1};
    int r;

    if (tr->head.kind == TCP_REC_KIND_ENGINE)
        return refuse("what belongs to no connection can't be replayed", ret_error);
    if (tr->head.first_event > 0)
        return refuse("the beginning of this record is lost: it can't be replayed (a larger trace_ring keeps more)",
                      ret_error);
    r = scan(&p, ret_error);
    if (r < 0)
        return r;
    put_beginning(&p);
    put_events(&p);
    return 0;
}
