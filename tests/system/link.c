/*
 * tests/system/link.c: a link between TAPs in real time, for tests/system/compare (theory of operation).
 *
 *     link --port NAME[@NETNS]... [--forward MODEL] [--reverse MODEL] [--lanes N] [--settle MS] [--spin US]
 *
 * It makes one TAP per --port (without virtio-net header: the kernel cuts super-frames, each frame is one segment) and
 * carries frames between them until SIGTERM. The last port is the receiver's side: `forward` is towards it, `reverse`
 * away from it. Frames to senders go by learned MAC. "ready" on stdout: the TAPs are there. At the end one JSON object.
 *
 * MODEL: key=value, separated by commas; every key may be absent.
 *     rate       bits a second; a frame takes its bytes (from the MAC addresses on) x 8 / rate. 0: no limit
 *     delay      microseconds, after the last bit
 *     jitter     microseconds at most by which a frame is late at the queue, in the order of its port. With flows that
 *                share a bottleneck about one frame's time: otherwise who answers an ACK at once always finds the room
 *                that just became free (traffic phase effects, Floyd and Jacobson 1991)
 *     queue      bytes that may wait or be in transmission; more is dropped at the tail. 0: no limit
 *     mark       bytes: an ECN-capable IPv4 packet that finds more waiting gets CE
 *     loss, duplicate, corrupt, reorder      share of data segments
 *     reorder_by microseconds at most by which a reordered one comes later (evenly distributed)
 *     jitter_seed  of jitter alone
 *     mtu        larger packets are dropped
 *     seed       of all these choices
 *
 * What happens to a data segment (TCP with DATA_MIN bytes or more) is a hash of (seed, lane, number of that segment in
 * its direction): the same for every sender, whatever ACKs it sends or gets between. Smaller ones are never impaired.
 * A segment is counted and perhaps lost before the queue: a lost one takes no time at the bottleneck.
 *
 * Lanes: independent links with the same model, of which a TCP segment takes that of its port on the receiver's side,
 * modulo N. So one run measures N flows that share nothing but the programs.
 *
 * Time: a frame arrives when it is read. When it leaves is then computed, not waited for: the queue is arithmetic on
 * `free_at`, so that a late wake-up does not change rates. Frames wait for their due time in one heap. How late they
 * were written is counted, in a histogram of microseconds: large figures mean that the machine was busy and the
 * measurement is not to be trusted. The process asks for SCHED_FIFO and locked memory, and goes on without.
 *
 * Flows: what was delivered is known exactly, as [first, max) less holes. A data segment below max is a retransmission;
 * one that meets no hole is a spurious one, all of it was delivered already. The same measure for every stack.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <math.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "wire/bytes.h"
#include "wire/csum.h"

#define PORTS_MAX   8
#define LANES_MAX   64
#define FLOWS_MAX   128
#define HOLES_MAX   4096
#define FRAMES_MAX  (1u << 17)
#define FRAME_BYTES 2048 /* an MTU of 1500 and to spare; longer ones are dropped */
#define BATCH       32
#define DATA_MIN    200
#define LATE_MAX    100000 /* us */
#define GAPS_MAX    (1u << 21)
#define NSEC        1000000000ull

struct model {
    double rate, delay, jitter, jitter_seed, queue, mark, loss, duplicate, corrupt, reorder, reorder_by, mtu,
        seed;
};

enum drop { DROP_LOSS, DROP_QUEUE, DROP_MTU, DROP_LONG, DROP_MEMORY, DROP_NOWHERE, N_DROPS };
static const char *const drop_names[] = {"loss", "queue", "mtu", "too_long", "memory", "nowhere"};

struct lane {
    uint64_t free_at; /* the last frame's last bit has left */
    uint64_t data_index;
    double queue_max;
};

struct direction {
    const char *name;
    struct model model;
    struct lane lane[LANES_MAX];
    uint64_t packets, bytes, data, drops[N_DROPS], marked, duplicated, corrupted, reordered;
};

struct frame {
    uint64_t due, order;
    uint32_t ports; /* bits; 0: it is due at the queue of its direction, not at its end */
    uint16_t bytes;
    uint8_t from; /* port */
    uint8_t data[FRAME_BYTES];
};

struct hole {
    uint64_t from, to;
};

struct flow {
    uint8_t from[4], to[4];
    uint16_t sport, dport;
    bool begun;
    uint64_t max; /* unwrapped sequence number behind all that was sent */
    uint64_t data, bytes, retrans, retrans_bytes, spurious, spurious_bytes, lost, queue_lost, gaps_before_us,
        acks;
    struct hole hole[HOLES_MAX];
    unsigned n_holes;
    bool holes_overflowed;
    /* what --settle leaves: pacing is measured on it */
    uint64_t first_at, measured_at, last_at, measured_bytes, measured_wire, measured_data;
};

/* What a frame carries, as far as this program cares. */
struct parsed {
    bool tcp, ip4;
    unsigned ip, l4, payload, payload_bytes;
    uint16_t sport, dport;
    uint32_t seq;
    uint8_t flags;
};

static struct {
    int fd[PORTS_MAX];
    char name[PORTS_MAX][IFNAMSIZ];
    uint64_t at_queue[PORTS_MAX]; /* when its last frame comes there, with jitter */
    unsigned n;
} ports;
static struct direction forward = {.name = "forward"}, reverse = {.name = "reverse"};
static unsigned n_lanes = 1;
static uint64_t settle, spin;
static struct frame *heap[FRAMES_MAX];
static struct frame *spare;
static unsigned n_heap, heap_max;
static uint64_t n_allocated, order;
static struct flow *flow[FLOWS_MAX];
static unsigned n_flows;
static struct {
    uint8_t mac[6];
    unsigned port;
} learned[64];
static unsigned n_learned;
static uint64_t late[LATE_MAX + 1], released, late_max, write_errors;
static uint32_t *gaps; /* ns, between measured data segments of the first flow */
static unsigned n_gaps;
static volatile sig_atomic_t stopping;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC + (uint64_t)ts.tv_nsec;
}

/* Evenly in [0, 1): splitmix64's finisher over what names the segment and the question. */
static double chance(const struct direction *d, unsigned lane, uint64_t index, unsigned question)
{
    uint64_t x = (uint64_t)d->model.seed * 0x9e3779b97f4a7c15u + lane * 0xd1342543de82ef95u +
                 question * 0x2545f4914f6cdd1du;

    for (int i = 0; i < 2; i++) {
        x += index + 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        x ^= x >> 31;
    }
    return (double)(x >> 11) / (double)(1ull << 53);
}

/* ---- The heap of frames that wait for their time
 * ---------------------------------------------------------------- */

static bool before(const struct frame *a, const struct frame *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void heap_push(struct frame *f)
{
    unsigned i = n_heap++;

    if (n_heap > heap_max)
        heap_max = n_heap;
    for (; i > 0 && before(f, heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = f;
}

static struct frame *heap_pop(void)
{
    struct frame *first = heap[0], *f = heap[--n_heap];
    unsigned i = 0;

    for (unsigned child; (child = 2 * i + 1) < n_heap; i = child) {
        if (child + 1 < n_heap && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], f))
            break;
        heap[i] = heap[child];
    }
    heap[i] = f;
    return first;
}

static void give_back(struct frame *f)
{
    memcpy(f->data, &spare, sizeof spare); /* a list through the data */
    spare = f;
}

static struct frame *take(void)
{
    struct frame *f = spare;

    if (!f) {
        if (n_allocated == FRAMES_MAX)
            return NULL;
        n_allocated++;
        return malloc(sizeof *f);
    }
    memcpy(&spare, f->data, sizeof spare);
    return f;
}

/* ---- Reading a frame
 * ---------------------------------------------------------------------------------------------- */

static struct parsed parse(const uint8_t *f, unsigned bytes)
{
    struct parsed p = {.ip = 14};
    unsigned end;

    if (bytes < 14 + 20)
        return p;
    if (get_be16(f + 12) == 0x0800) {
        p.ip4 = true;
        p.l4 = p.ip + (f[14] & 15u) * 4;
        end = p.ip + get_be16(f + 16);
        p.tcp = f[23] == 6;
    } else if (get_be16(f + 12) == 0x86dd && bytes >= 14 + 40) {
        p.l4 = p.ip + 40;
        end = p.l4 + get_be16(f + 18);
        p.tcp = f[20] == 6;
    } else {
        return p;
    }
    if (!p.tcp || end > bytes || p.l4 + 20 > end) {
        p.tcp = false;
        return p;
    }
    p.sport = (uint16_t)get_be16(f + p.l4);
    p.dport = (uint16_t)get_be16(f + p.l4 + 2);
    p.seq = get_be32(f + p.l4 + 4);
    p.flags = f[p.l4 + 13];
    p.payload = p.l4 + (f[p.l4 + 12] >> 4) * 4u;
    p.payload_bytes = p.payload < end ? end - p.payload : 0;
    return p;
}

static uint32_t output_ports(const uint8_t *f, unsigned from)
{
    if (from != ports.n - 1)
        return 1u << (ports.n - 1);
    for (unsigned i = 0; i < n_learned; i++) {
        if (memcmp(learned[i].mac, f, 6) == 0)
            return 1u << learned[i].port;
    }
    return f[0] & 1 ? (1u << (ports.n - 1)) - 1 : ports.n == 2 ? 1 : 0;
}

static void learn(const uint8_t *f, unsigned port)
{
    for (unsigned i = 0; i < n_learned; i++) {
        if (memcmp(learned[i].mac, f + 6, 6) == 0) {
            learned[i].port = port;
            return;
        }
    }
    if (n_learned < sizeof learned / sizeof *learned) {
        memcpy(learned[n_learned].mac, f + 6, 6);
        learned[n_learned++].port = port;
    }
}

/* ---- What flows did
 * --------------------------------------------------------------------------------------------- */

static struct flow *find_flow(const uint8_t *f, const struct parsed *p)
{
    const uint8_t *from = f + p->ip + (p->ip4 ? 12 : 20),
                  *to = from + (p->ip4 ? 4 : 16); /* v6: its last 4 bytes */

    for (unsigned i = 0; i < n_flows; i++) {
        if (flow[i]->sport == p->sport && flow[i]->dport == p->dport && memcmp(flow[i]->from, from, 4) == 0)
            return flow[i];
    }
    if (n_flows == FLOWS_MAX || !(flow[n_flows] = calloc(1, sizeof **flow)))
        return NULL;
    flow[n_flows]->sport = p->sport;
    flow[n_flows]->dport = p->dport;
    memcpy(flow[n_flows]->from, from, 4);
    memcpy(flow[n_flows]->to, to, 4);
    return flow[n_flows++];
}

static void add_hole(struct flow *w, uint64_t from, uint64_t to)
{
    if (from >= to)
        return;
    if (w->n_holes && w->hole[w->n_holes - 1].to == from)
        w->hole[w->n_holes - 1].to = to;
    else if (w->n_holes < HOLES_MAX)
        w->hole[w->n_holes++] = (struct hole){from, to};
    else
        w->holes_overflowed = true;
}

static bool meets_hole(const struct flow *w, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < w->n_holes; i++) {
        if (w->hole[i].from < to && w->hole[i].to > from)
            return true;
    }
    return false;
}

static void fill_holes(struct flow *w, uint64_t from, uint64_t to)
{
    unsigned n = 0;
    struct hole right[2 * 64];
    unsigned n_right = 0;

    for (unsigned i = 0; i < w->n_holes; i++) {
        struct hole h = w->hole[i];

        if (h.from >= to || h.to <= from) {
            w->hole[n++] = h;
            continue;
        }
        if (h.from < from && h.to > to && n_right < sizeof right / sizeof *right)
            right[n_right++] = (struct hole){to, h.to}; /* split: only one hole can be */
        if (h.from < from)
            w->hole[n++] = (struct hole){h.from, from};
        else if (h.to > to)
            w->hole[n++] = (struct hole){to, h.to};
    }
    w->n_holes = n;
    for (unsigned k = 0; k < n_right && w->n_holes < HOLES_MAX; k++) {
        unsigned at = w->n_holes;

        while (at > 0 && w->hole[at - 1].from > right[k].from)
            at--;
        memmove(w->hole + at + 1, w->hole + at, (w->n_holes - at) * sizeof *w->hole);
        w->hole[at] = right[k];
        w->n_holes++;
    }
}

static void measure(struct flow *w, const struct parsed *p, unsigned bytes, uint64_t now)
{
    if (!w->first_at)
        w->first_at = now;
    if (now < w->first_at + settle)
        return;
    if (!w->measured_at) {
        w->measured_at = w->last_at = now; /* this one's bytes do not count: it only starts the clock */
        return;
    }
    if (gaps && w == flow[0] && n_gaps < GAPS_MAX)
        gaps[n_gaps++] = (uint32_t)(now - w->last_at < UINT32_MAX ? now - w->last_at : UINT32_MAX);
    w->last_at = now;
    w->measured_bytes += p->payload_bytes;
    w->measured_wire += bytes;
    w->measured_data++;
}

/* A segment with data, however short, on its way to the receiver; dropped says what became of it. */
static void track(struct flow *w, const struct parsed *p, bool dropped, bool by_queue)
{
    uint64_t from, to;

    if (!w->begun) {
        w->begun = true;
        w->max = (1ull << 32) + p->seq; /* room to look back */
    }
    from = w->max + (uint64_t)(int64_t)(int32_t)(p->seq - (uint32_t)w->max);
    to = from + p->payload_bytes;
    w->data++;
    w->bytes += p->payload_bytes;
    w->lost += dropped && !by_queue;
    w->queue_lost += dropped && by_queue;
    if (from < w->max) {
        bool again = meets_hole(w, from, to < w->max ? to : w->max);

        w->retrans++;
        w->retrans_bytes += p->payload_bytes;
        if (!again && to <= w->max) {
            w->spurious++;
            w->spurious_bytes += p->payload_bytes;
        }
        if (!dropped)
            fill_holes(w, from, to);
    }
    if (from > w->max) { /* lost before it came here: a TAP's queue overflowed */
        w->gaps_before_us++;
        add_hole(w, w->max, from);
    }
    if (to > w->max) {
        if (dropped)
            add_hole(w, from > w->max ? from : w->max, to);
        w->max = to;
    }
}

/* ---- The link model
 * --------------------------------------------------------------------------------------------- */

/* CE, with IPv4's header checksum put right (RFC 1624). */
static bool mark_ce(uint8_t *f, const struct parsed *p)
{
    uint8_t *ip = f + p->ip;
    uint16_t before_word = get_be16(ip);

    if (!p->ip4 || (ip[1] & 3) == 0)
        return false;
    ip[1] |= 3;
    put_be16(ip + 10, csum_update16(get_be16(ip + 10), before_word, get_be16(ip)));
    return true;
}

static void count_drop(struct direction *d, enum drop reason, struct frame *f)
{
    d->drops[reason]++;
    give_back(f);
}

static uint64_t us(double microseconds)
{
    return (uint64_t)(microseconds * 1000.0);
}

static void duplicate(struct direction *d, const struct frame *f)
{
    struct frame *copy = take();

    if (!copy)
        return;
    memcpy(copy, f, sizeof *copy);
    copy->order = order++;
    d->duplicated++;
    heap_push(copy);
}

/* Bytes that the lane still holds: what it takes time to send. */
static double backlog(const struct direction *d, const struct lane *l, uint64_t now)
{
    return l->free_at > now ? (double)(l->free_at - now) * d->model.rate / 8e9 : 0;
}

/* Through the queue; false: dropped at its tail. */
static bool enqueue(struct direction *d, struct lane *l, struct frame *f, const struct parsed *p,
                    uint64_t now)
{
    double waiting;

    if (d->model.rate <= 0) {
        f->due = now;
        return true;
    }
    waiting = backlog(d, l, now);
    if (d->model.queue > 0 && waiting + f->bytes > d->model.queue)
        return false;
    if (d->model.mark > 0 && waiting > d->model.mark)
        d->marked += mark_ce(f->data, p);
    if (waiting + f->bytes > l->queue_max)
        l->queue_max = waiting + f->bytes;
    if (l->free_at < now)
        l->free_at = now;
    l->free_at += (uint64_t)(f->bytes * 8e9 / d->model.rate);
    f->due = l->free_at;
    return true;
}

/* One frame that was read; it ends in the heap, or dropped with a reason. */
static void carry(struct direction *d, struct frame *f, uint64_t now)
{
    const struct model *m = &d->model;
    struct parsed p = parse(f->data, f->bytes);
    unsigned port = d == &forward ? p.dport : p.sport, lane = p.tcp ? port % n_lanes : 0;
    struct lane *l = &d->lane[lane];
    bool is_data = p.tcp && p.payload_bytes >= DATA_MIN, lost, queued;
    uint64_t index = is_data ? l->data_index++ : 0;
    struct flow *w = d == &forward && p.tcp && p.payload_bytes ? find_flow(f->data, &p) : NULL;

    d->packets++;
    d->bytes += f->bytes;
    d->data += is_data;
    f->ports = output_ports(f->data, f->from);
    if (!f->ports || (m->mtu > 0 && f->bytes > m->mtu + 14)) {
        count_drop(d, f->ports ? DROP_MTU : DROP_NOWHERE, f);
        return;
    }
    lost = is_data && m->loss > 0 && chance(d, lane, index, 1) < m->loss;
    queued = !lost && enqueue(d, l, f, &p, now);
    if (w) {
        measure(w, &p, f->bytes, now);
        track(w, &p, !queued || (is_data && m->corrupt > 0 && chance(d, lane, index, 2) < m->corrupt),
              !lost && !queued);
    }
    if (!queued) {
        count_drop(d, lost ? DROP_LOSS : DROP_QUEUE, f);
        return;
    }
    f->due += us(m->delay);
    f->order = order++;
    if (is_data && m->reorder > 0 && chance(d, lane, index, 3) < m->reorder) {
        f->due += us(m->reorder_by * chance(d, lane, index, 4));
        d->reordered++;
    }
    if (is_data && m->corrupt > 0 && chance(d, lane, index, 2) < m->corrupt) {
        f->data[p.payload + index % p.payload_bytes] ^= 0x55;
        d->corrupted++;
    }
    if (is_data && m->duplicate > 0 && chance(d, lane, index, 5) < m->duplicate)
        duplicate(d, f);
    heap_push(f);
}

static struct direction *direction_from(unsigned port)
{
    return port == ports.n - 1 ? &reverse : &forward;
}

static void arrive(struct frame *f, uint64_t now)
{
    struct direction *d = direction_from(f->from);
    uint64_t *last = &ports.at_queue[f->from];

    if (d->model.jitter <= 0) {
        carry(d, f, now);
        return;
    }
    f->ports = 0;
    f->order = order++;
    f->due = now + us(d->model.jitter *
                      chance(d, f->from, f->order + (uint64_t)d->model.jitter_seed * 1000000007u, 6));
    if (f->due < *last)
        f->due = *last;
    *last = f->due;
    heap_push(f);
}

/* Up to BATCH frames of one port; true: there may be more. */
static bool read_port(unsigned port)
{
    struct direction *d = direction_from(port);

    for (unsigned i = 0; i < BATCH; i++) {
        struct frame *f = take();
        static uint8_t sink[FRAME_BYTES];
        ssize_t n = read(ports.fd[port], f ? f->data : sink, FRAME_BYTES);

        if (n <= 0) {
            if (f)
                give_back(f);
            if (errno != EAGAIN && errno != EINTR)
                stopping = 1; /* the interface is gone */
            return false;
        }
        if (!f) {
            d->drops[DROP_MEMORY]++;
            continue;
        }
        if (n == FRAME_BYTES || n < 14) {
            count_drop(d, DROP_LONG, f);
            continue;
        }
        f->bytes = (uint16_t)n;
        f->from = (uint8_t)port;
        learn(f->data, port);
        arrive(f, now_ns());
    }
    return true;
}

static void release(void)
{
    for (unsigned i = 0; i < BATCH && n_heap; i++) {
        uint64_t now = now_ns(), by;
        struct frame *f;

        if (heap[0]->due > now)
            return;
        f = heap_pop();
        if (!f->ports) {
            carry(direction_from(f->from), f, f->due);
            continue;
        }
        by = now - f->due;
        released++;
        late[by / 1000 < LATE_MAX ? by / 1000 : LATE_MAX]++;
        if (by > late_max)
            late_max = by;
        for (unsigned port = 0; port < ports.n; port++) {
            if (f->ports >> port & 1 && write(ports.fd[port], f->data, f->bytes) != f->bytes)
                write_errors++;
        }
        give_back(f);
    }
}

static void run(void)
{
    struct pollfd fds[PORTS_MAX];
    sigset_t during_wait;

    for (unsigned i = 0; i < ports.n; i++)
        fds[i] = (struct pollfd){.fd = ports.fd[i], .events = POLLIN};
    sigemptyset(&during_wait);
    while (!stopping) {
        uint64_t now = now_ns(), due = n_heap ? heap[0]->due : UINT64_MAX, wait;
        struct timespec ts;

        wait = due == UINT64_MAX ? NSEC : due <= now + spin ? 0 : due - now - spin;
        ts = (struct timespec){.tv_sec = (time_t)(wait / NSEC), .tv_nsec = (long)(wait % NSEC)};
        if (ppoll(fds, ports.n, &ts, &during_wait) > 0) {
            for (unsigned i = 0; i < ports.n; i++) {
                if (fds[i].revents)
                    (void)read_port(i);
                release();
            }
        }
        release();
    }
}

/* ---- The report
 * ------------------------------------------------------------------------------------------------- */

static double late_percentile(double share)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i <= LATE_MAX; i++) {
        sum += late[i];
        if (sum && (double)sum >= share * (double)released)
            return i;
    }
    return 0;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void report_gaps(void)
{
    static const double shares[] = {0.01, 0.05, 0.5, 0.95, 0.99};
    double sum = 0, squares = 0;

    if (!n_gaps)
        return;
    qsort(gaps, n_gaps, sizeof *gaps, by_size);
    for (unsigned i = 0; i < n_gaps; i++) {
        sum += gaps[i];
        squares += (double)gaps[i] * gaps[i];
    }
    sum /= n_gaps;
    printf(",\"gaps\":{\"n\":%u,\"mean\":%.0f,\"sd\":%.0f", n_gaps, sum,
           sqrt(fmax(0, squares / n_gaps - sum * sum)));
    for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++)
        printf(",\"p%.0f\":%" PRIu32, shares[i] * 100, gaps[(unsigned)(shares[i] * (n_gaps - 1))]);
    printf("}");
}

static void report_direction(const struct direction *d)
{
    double queue_max = 0;

    for (unsigned i = 0; i < n_lanes; i++)
        queue_max = fmax(queue_max, d->lane[i].queue_max);
    printf(",\"%s\":{\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"data\":%" PRIu64
           ",\"queue_max\":%.0f,\"marked\":%" PRIu64 ",\"duplicated\":%" PRIu64 ",\"corrupted\":%" PRIu64
           ",\"reordered\":%" PRIu64 ",\"drops\":{",
           d->name, d->packets, d->bytes, d->data, queue_max, d->marked, d->duplicated, d->corrupted,
           d->reordered);
    for (unsigned i = 0; i < N_DROPS; i++)
        printf("%s\"%s\":%" PRIu64, i ? "," : "", drop_names[i], d->drops[i]);
    printf("}}");
}

static void report_flow(const struct flow *w)
{
    double seconds = (double)(w->last_at - w->measured_at) / 1e9;

    printf("{\"from\":\"%u.%u.%u.%u\",\"sport\":%u,\"dport\":%u,\"data\":%" PRIu64 ",\"bytes\":%" PRIu64
           ",\"lost\":%" PRIu64 ",\"queue_lost\":%" PRIu64 ",\"before_us\":%" PRIu64 ",\"retrans\":%" PRIu64
           ",\"retrans_bytes\":%" PRIu64 ",\"spurious\":%" PRIu64 ",\"spurious_bytes\":%" PRIu64
           ",\"overflowed\":%s",
           w->from[0], w->from[1], w->from[2], w->from[3], w->sport, w->dport, w->data, w->bytes, w->lost,
           w->queue_lost, w->gaps_before_us, w->retrans, w->retrans_bytes, w->spurious, w->spurious_bytes,
           w->holes_overflowed ? "true" : "false");
    printf(",\"seconds\":%.6f,\"measured_data\":%" PRIu64 ",\"payload_bps\":%.0f,\"wire_bps\":%.0f}", seconds,
           w->measured_data, seconds > 0 ? (double)w->measured_bytes * 8 / seconds : 0,
           seconds > 0 ? (double)w->measured_wire * 8 / seconds : 0);
}

static void report(bool fifo)
{
    printf(
        "{\"fifo\":%s,\"released\":%" PRIu64 ",\"write_errors\":%" PRIu64
        ",\"heap_max\":%u,\"late_us\":{\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"p999\":%.0f,\"max\":%" PRIu64
        "}",
        fifo ? "true" : "false", released, write_errors, heap_max, late_percentile(0.5), late_percentile(0.9),
        late_percentile(0.99), late_percentile(0.999), late_max / 1000);
    report_direction(&forward);
    report_direction(&reverse);
    report_gaps();
    printf(",\"flows\":[");
    for (unsigned i = 0; i < n_flows; i++) {
        printf(i ? "," : "");
        report_flow(flow[i]);
    }
    printf("]}\n");
}

/* ---- Beginning
 * -------------------------------------------------------------------------------------------------- */

static void fail(const char *what, const char *which)
{
    fprintf(stderr, "link: %s: %s: %s\n", which, what, strerror(errno));
    exit(1);
}

/* NAME[@NETNS]: the namespace is entered to make the TAP, and left again. */
static void open_port(char *text)
{
    char *at = strchr(text, '@'), path[256];
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there, fd;

    if (at) {
        *at = '\0';
        snprintf(path, sizeof path, "/run/netns/%s", at + 1);
        there = open(path, O_RDONLY | O_CLOEXEC);
        if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0)
            fail("cannot enter the namespace", path);
        close(there);
    }
    snprintf(ifr.ifr_name, IFNAMSIZ, "%.15s", text);
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) != 0)
        fail("cannot make the TAP", text);
    if (at && setns(home, CLONE_NEWNET) != 0)
        fail("cannot leave the namespace", path);
    close(home);
    memcpy(ports.name[ports.n], ifr.ifr_name, IFNAMSIZ);
    ports.fd[ports.n++] = fd;
}

static bool parse_model(char *text, struct model *m)
{
    const struct {
        const char *key;
        double *value;
    } keys[] = {{"rate", &m->rate},
                {"delay", &m->delay},
                {"jitter", &m->jitter},
                {"jitter_seed", &m->jitter_seed},
                {"queue", &m->queue},
                {"mark", &m->mark},
                {"loss", &m->loss},
                {"duplicate", &m->duplicate},
                {"corrupt", &m->corrupt},
                {"reorder", &m->reorder},
                {"reorder_by", &m->reorder_by},
                {"mtu", &m->mtu},
                {"seed", &m->seed}};

    for (char *rest, *part = strtok_r(text, ",", &rest); part; part = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(part, '=');
        bool known = false;

        for (size_t i = 0; equals && i < sizeof keys / sizeof *keys; i++) {
            if (strlen(keys[i].key) == (size_t)(equals - part) &&
                strncmp(part, keys[i].key, (size_t)(equals - part)) == 0) {
                *keys[i].value = atof(equals + 1);
                known = true;
            }
        }
        if (!known)
            return false;
    }
    return true;
}

static bool parse_arguments(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *option = argv[i];

        if (strcmp(option, "--port") == 0 && ports.n < PORTS_MAX)
            open_port(argv[i + 1]);
        else if (strcmp(option, "--forward") == 0 && parse_model(argv[i + 1], &forward.model))
            continue;
        else if (strcmp(option, "--reverse") == 0 && parse_model(argv[i + 1], &reverse.model))
            continue;
        else if (strcmp(option, "--lanes") == 0)
            n_lanes = (unsigned)atoi(argv[i + 1]);
        else if (strcmp(option, "--settle") == 0)
            settle = (uint64_t)atoi(argv[i + 1]) * 1000000u;
        else if (strcmp(option, "--spin") == 0)
            spin = (uint64_t)atoi(argv[i + 1]) * 1000u;
        else
            return false;
    }
    return argc % 2 == 1 && ports.n >= 2 && n_lanes >= 1 && n_lanes <= LANES_MAX;
}

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

int main(int argc, char **argv)
{
    struct sched_param highest = {.sched_priority = 10};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;
    bool fifo;

    if (!parse_arguments(argc, argv)) {
        fprintf(stderr, "usage: link --port NAME[@NETNS]... [--forward MODEL] [--reverse MODEL] [--lanes N] "
                        "[--settle MS] "
                        "[--spin US]\n");
        return 2;
    }
    /* Signals only while it waits, so that none is missed. */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    (void)prctl(PR_SET_TIMERSLACK, 1ul, 0, 0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    fifo = sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &highest) == 0;
    if (settle)
        gaps = malloc(GAPS_MAX * sizeof *gaps);
    (void)mlockall(MCL_CURRENT | MCL_FUTURE);
    printf("ready\n");
    fflush(stdout);
    run();
    report(fifo);
    return 0;
}
