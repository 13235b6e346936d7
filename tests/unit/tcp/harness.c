/*
 * tests/unit/tcp/harness.c: see harness.h. The engine's whole surface is used as the shell will use it;
 * nothing here looks into private structs, so that every trace test also tests the public contract.
 */
#include "../coverage.h"
#include "harness.h"

#include <openssl/evp.h>
#include "daemon/crypto.h"

#include "tcp/tcp_priv.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "wire/text.h"

#define QUEUE_MAX        8192
#define LOG_MAX          (1u << 20)
#define SEG_TEXT         (TEXT_SEG_MAX + 32)
#define EXPIRE_STEPS_MAX 200000

struct h_out {
    uint64_t at;
    uint16_t port;
    enum tcp_cause cause;
    uint32_t tsval;
    char text[SEG_TEXT];
};

uint8_t h_pattern(uint64_t pos)
{
    return (uint8_t)(pos * 131 + (pos >> 8) * 17 + (pos >> 16) * 7 + 3);
}

static void h_log(struct harness *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void h_log(struct harness *h, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (h->log_len + 512 > LOG_MAX)
        return;
    n = snprintf(h->log + h->log_len, LOG_MAX - h->log_len, "%12.6f ", (double)(h->now - h->start) / 1e9);
    h->log_len += (size_t)n;
    va_start(ap, fmt);
    n = vsnprintf(h->log + h->log_len, LOG_MAX - h->log_len, fmt, ap);
    va_end(ap);
    h->log_len += (size_t)n;
    h->log[h->log_len++] = '\n';
    h->log[h->log_len] = '\0';
}

void h_fail(struct harness *h, const char *file, int line, const char *fmt, ...)
{
    char text[2048];
    const char *tail = h->log_len > 8192 ? h->log + h->log_len - 8192 : h->log;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, "---- trace ----\n%s---- %12.6f ----\n%s\n", tail, (double)(h->now - h->start) / 1e9,
            text);
    _fail(file, line);
    abort();
}

/* ---- Creation
 * ------------------------------------------------------------------------------------------------- */

static void flow_init(struct harness *h, int k, bool v6)
{
    static const uint8_t a6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1}, b6[16] = {0x20, 1, 0xd, 0xb8, [15] = 2};
    struct h_flow *f = &h->flows[k];

    f->tuple.local = v6 ? ip_addr_v6_bytes(a6, 0) : ip_addr_v4(192, 0, 2, 1);
    f->tuple.remote = v6 ? ip_addr_v6_bytes(b6, 0) : ip_addr_v4(192, 0, 2, 2);
    f->tuple.local_port = H_PORT;
    f->tuple.remote_port = (uint16_t)(H_PEER_PORT + k);
    f->irs = 0xfffffe00u + (uint32_t)k * 77777u; /* close to the wrap */
}

/* Pages that cost nothing until they are touched. */
static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

struct harness *h_new_args(const struct h_args *args)
{
    struct harness *h = calloc(1, sizeof *h);
    size_t bytes = args->arena_bytes ? args->arena_bytes : 32u << 20;
    struct tcp_params p = {0};

    assert_non_null(h);
    h->queue = map(QUEUE_MAX * sizeof *h->queue);
    h->log = map(LOG_MAX);
    h->arena = map(bytes);
    h->arena_bytes = bytes;
    h->pool = chunk_pool_create(h->arena, bytes);
    assert_non_null(h->pool);
    if (args->config) {
        h->cfg = *args->config;
    } else {
        tcp_config_defaults(&h->cfg);
        h->cfg.tcp_timestamps = 2;
        h->cfg.tcp_congestion_control = 0; /* reno: what most traces are written for */
    }
    h->start = h->now = H_START_MS * NSEC_PER_MSEC;
    h->path = (struct tcp_path){.mtu = 1500};
    p.config = &h->cfg;
    p.pool = h->pool;
    p.secrets = (struct tcp_secrets){{1, 2}, {3, 4}, {5, 6}, {7, 8}, 9};
    p.now = h->now;
    p.max_conns = args->max_conns ? args->max_conns : 256;
    p.max_half_open = args->max_half_open ? args->max_half_open : 256;
    p.max_time_wait = args->max_time_wait ? args->max_time_wait : 256;
    p.generation = 1;
    p.crypto = args->no_crypto ? NULL : daemon_crypto();
    p.max_md5_keys = args->max_md5_keys;
    p.trace_bytes = args->trace_bytes ? args->trace_bytes : 1 << 20;
    p.park_eager = getenv("TAUT_PARK") != NULL;
    h->t = tcp_create(&p);
    assert_non_null(h->t);
    for (int k = 0; k < H_FLOWS; k++)
        flow_init(h, k, args->ipv6);
    return h;
}

struct harness *h_new(void)
{
    return h_new_args(&(struct h_args){0});
}

void h_free(struct harness *h)
{
    coverage_tcp(h->t);
    if (h->q_head != h->q_tail)
        h_fail(h, __FILE__, __LINE__, "unexpected segment at the end: %s", h->queue[h->q_head].text);
    tcp_destroy(h->t);
    assert_int_equal(chunk_pool_used_bytes(h->pool), 0);
    chunk_pool_destroy(h->pool);
    munmap(h->arena, h->arena_bytes);
    munmap(h->queue, QUEUE_MAX * sizeof *h->queue);
    munmap(h->log, LOG_MAX);
    free(h);
}

/* ---- Looking
 * --------------------------------------------------------------------------------------------------- */

void flow(struct harness *h, int k)
{
    h->cur = k;
}

struct h_flow *h_flow(struct harness *h)
{
    return &h->flows[h->cur];
}

static bool tuple_eq(const struct ip_tuple *a, const struct ip_tuple *b)
{
    return ip_addr_eq(&a->local, &b->local) && ip_addr_eq(&a->remote, &b->remote) &&
           a->local_port == b->local_port && a->remote_port == b->remote_port;
}

tcp_id h_id(const struct harness *h)
{
    struct tcp_info info;
    tcp_id found = 0;

    for (tcp_id id = tcp_next_id(h->t, 0); id; id = tcp_next_id(h->t, id)) {
        if (tcp_get_info(h->t, id, h->now, &info) || !tuple_eq(&info.tuple, &h->flows[h->cur].tuple))
            continue;
        if (info.state != TCP_STATE_CLOSE)
            return id;
        found = id;
    }
    return found;
}

int h_state(const struct harness *h)
{
    struct tcp_info info;
    tcp_id id = h_id(h);

    if (!id || tcp_get_info(h->t, id, h->now, &info))
        return H_GONE;
    return info.state;
}

struct tcp_info h_info(struct harness *h)
{
    struct tcp_info info = {0};

    if (tcp_get_info(h->t, h_id(h), h->now, &info))
        h_fail(h, __FILE__, __LINE__, "no such connection");
    return info;
}

uint64_t h_drops(const struct harness *h, enum tcp_drop d)
{
    return tcp_get_drops(h->t)[d];
}

uint64_t h_causes(const struct harness *h, enum tcp_cause c)
{
    return tcp_get_causes(h->t)[c];
}

static struct h_flow *flow_of_port(struct harness *h, uint16_t port)
{
    unsigned k = (unsigned)(port - H_PEER_PORT);

    return k < H_FLOWS ? &h->flows[k] : NULL;
}

static const char *state_text(int s)
{
    return s == H_GONE ? "(gone)" : tcp_state_name((enum tcp_state)s);
}

void h_expect_state(struct harness *h, int want, const char *file, int line)
{
    int got = h_state(h);

    if (got != want)
        h_fail(h, file, line, "state: expected %s, got %s", state_text(want), state_text(got));
}

void h_expect_event(struct harness *h, unsigned bits, const char *file, int line)
{
    struct h_flow *f = h_flow(h);

    if ((f->events & bits) != bits)
        h_fail(h, file, line, "events: expected 0x%x, got 0x%x", bits, f->events);
    f->events = 0;
}

void h_expect_rc(struct harness *h, int64_t got, int64_t want, const char *what, const char *file, int line)
{
    if (got != want)
        h_fail(h, file, line, "%s: expected %lld, got %lld", what, (long long)want, (long long)got);
}

/* ---- Output
 * ---------------------------------------------------------------------------------------------------- */

static void check_payload(struct harness *h, const struct tcp_seg *seg, const struct h_flow *f,
                          const char *file, int line)
{
    uint64_t pos = (uint32_t)(seg->seq - f->iss - (seg->flags & TCP_SYN ? 0 : 1));
    uint32_t sum = 0;

    /* Past the first 2^32 bytes the position is not known; no trace goes there. */
    for (unsigned i = 0; i < seg->n_slices; i++) {
        for (uint32_t k = 0; k < seg->slice[i].len; k++, pos++)
            if (seg->slice[i].data[k] != h_pattern(pos) && f->tx_pos > pos)
                h_fail(h, file, line, "payload byte %llu is wrong", (unsigned long long)pos);
        sum += seg->slice[i].len;
    }
    if (sum != seg->len)
        h_fail(h, file, line, "slices hold %u bytes, len is %u", sum, seg->len);
}

/* RFC 2385 section 2.0, from the bytes of the header: pseudo-header, header without options, payload, key. */
void h_sign(const struct tcp_seg *seg, const char *key, uint8_t ret[16])
{
    bool v6 = seg->src.family == IP_V6;
    uint8_t header[TCP_HEADER_BYTES + TCP_OPTIONS_MAX], pseudo[40] = {0};
    uint32_t n = (uint32_t)tcp_header_encode(seg, header), total = n + seg->len, at = v6 ? 16 : 4;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    memcpy(pseudo, seg->src.b, at);
    memcpy(pseudo + at, seg->dst.b, at);
    at *= 2;
    pseudo[at + (v6 ? 7 : 1)] = 6;
    pseudo[at + 2] = (uint8_t)(total >> 8);
    pseudo[at + 3] = (uint8_t)total;
    EVP_DigestInit_ex(ctx, EVP_md5(), NULL);
    EVP_DigestUpdate(ctx, pseudo, v6 ? 40 : 12);
    EVP_DigestUpdate(ctx, header, TCP_HEADER_BYTES);
    for (unsigned i = 0; i < seg->n_slices; i++)
        EVP_DigestUpdate(ctx, seg->slice[i].data, seg->slice[i].len);
    EVP_DigestUpdate(ctx, key, strlen(key));
    EVP_DigestFinal_ex(ctx, ret, NULL);
    EVP_MD_CTX_free(ctx);
}

static void took(struct harness *h, struct tcp_out *o, const char *file, int line)
{
    uint8_t digest[16];
    struct h_flow *f = flow_of_port(h, o->seg.dst_port);
    struct h_out *q = &h->queue[h->q_tail];
    size_t n;

    if (!f || h->q_tail + 1 >= QUEUE_MAX)
        h_fail(h, file, line, "segment to port %u, %zu queued", o->seg.dst_port, h->q_tail);
    if (!ip_addr_eq(&o->seg.src, &f->tuple.local) || !ip_addr_eq(&o->seg.dst, &f->tuple.remote))
        h_fail(h, file, line, "segment with wrong addresses");
    if (o->seg.ttl || o->seg.offset || (!(o->seg.flags & TCP_URG) && o->seg.urg_ptr) || (!o->seg.len && o->seg.n_slices) ||
        (!(o->seg.flags & TCP_ACK) && o->seg.ack))
        h_fail(h, file, line, "segment with something of what was there before");
    if (o->seg.flags & TCP_SYN)
        f->iss = o->seg.seq;
    q->at = h->now;
    q->port = o->seg.dst_port;
    q->cause = o->cause;
    q->tsval = o->seg.opt.tsval;
    if (o->seg.opt.md5_ok && h->md5_key) {
        h_sign(&o->seg, h->md5_key, digest);
        if (memcmp(digest, o->seg.opt.md5, sizeof digest) == 0)
            memset(o->seg.opt.md5, 0, sizeof digest);
    }
    text_format_seg(&o->seg, f->iss, f->irs, q->text, sizeof q->text);
    n = strlen(q->text);
    if (o->seg.gso_size)
        n += (size_t)snprintf(q->text + n, sizeof q->text - n, " gso %u", o->seg.gso_size);
    if (o->seg.ecn)
        snprintf(q->text + n, sizeof q->text - n, " ecn %u", o->seg.ecn);
    h_log(h, "> %s  [%s, flow %d]", q->text, tcp_cause_name(o->cause), (int)(f - h->flows));
    h->q_tail++;
    check_payload(h, &o->seg, f, file, line);
}

static void check_all(struct harness *h, const char *when, const char *file, int line)
{
    const char *what = tcp_check_all(h->t);

    if (what)
        h_fail(h, file, line, "tcp_check_all %s: %s", when, what);
}

static void drain_events(struct harness *h)
{
    struct tcp_event e;

    while (tcp_next_event(h->t, &e)) {
        struct tcp_info info;
        struct h_flow *f = NULL;

        h_log(h, "! event 0x%x error %d state %s", e.bits, e.error, state_text((int)e.state));
        if (e.bits & TCP_EVENT_ACCEPT) {
            if (!tcp_get_info(h->t, e.id, h->now, &info))
                f = flow_of_port(h, info.tuple.remote_port);
            if (f) {
                f->id = e.id;
                f->accept_pending = true;
            }
        }
        for (int k = 0; k < H_FLOWS; k++)
            if (h->flows[k].id == e.id)
                f = &h->flows[k];
        if (f) {
            f->events |= e.bits;
            if (e.bits & TCP_EVENT_ERROR)
                f->error = e.error;
        }
    }
}

static void drain_output(struct harness *h, const char *file, int line)
{
    struct tcp_out o;
    unsigned n = 0;

    while (tcp_next_reply(h->t, h->now, &o))
        took(h, &o, file, line);
    while (tcp_next_ready(h->t, &o)) {
        tcp_id id = o.id;

        if (++n > 100000)
            h_fail(h, file, line, "READY does not get empty");
        memset(&o, 0xa5, sizeof o); /* of what was there nothing may be left in the segment */
        if (tcp_output(h->t, id, h->now, &o))
            took(h, &o, file, line);
    }
    while (tcp_next_reply(h->t, h->now, &o))
        took(h, &o, file, line);
}

void h_step(struct harness *h, const char *file, int line)
{
    const struct tcp_conn *c;

    check_all(h, "after a verb", file, line);
    if (!h->hold_events)
        drain_events(h);
    if (h->hold)
        return;
    tcp_commit(h->t, h->now);
    drain_output(h, file, line);
    check_all(h, "after output", file, line);
    if (!h->hold_events)
        drain_events(h);
    c = tcp_conn_view(h->t, h_flow(h)->id);
    if (c && c->state != TCP_STATE_CLOSE && !c->suspended && !list_linked(&c->ready) && tcp_may_send(h->t, c, h->now))
        h_fail(h, file, line, "a connection that is not READY has output");
    if (tcp_deadline(h->t) <= h->now)
        h_fail(h, file, line, "deadline %lld ns in the past: busy loop",
               (long long)(h->now - tcp_deadline(h->t)));
}

/* ---- Time
 * ------------------------------------------------------------------------------------------------------ */

struct snapshot {
    struct tcp_counters counters;
    uint64_t drops[TCP_DROP_MAX], causes[TCP_CAUSE_MAX];
    struct tcp_totals totals;
    struct tcp_info info;
};

static void snapshot_take(struct harness *h, struct snapshot *s)
{
    memset(s, 0, sizeof *s);
    s->counters = *tcp_get_counters(h->t);
    memcpy(s->drops, tcp_get_drops(h->t), sizeof s->drops);
    memcpy(s->causes, tcp_get_causes(h->t), sizeof s->causes);
    tcp_get_totals(h->t, &s->totals);
    if (h_id(h) && !tcp_get_info(h->t, h_id(h), h->now, &s->info)) {
        s->info.age = s->info.timer_left = 0; /* what time itself changes */
        s->info.last_data_sent = s->info.last_data_recv = s->info.last_ack_recv = 0;
        s->info.busy_time = s->info.rwnd_limited = s->info.sndbuf_limited = 0;
    }
}

static void check_no_early_work(struct harness *h, uint64_t before, const char *file, int line)
{
    struct snapshot a, b;
    struct tcp_out o;
    uint64_t deadline = tcp_deadline(h->t);

    snapshot_take(h, &a);
    h->now = before;
    tcp_expire(h->t, h->now);
    snapshot_take(h, &b);
    if (memcmp(&a.counters, &b.counters, sizeof a.counters) || memcmp(a.drops, b.drops, sizeof a.drops) ||
        memcmp(a.causes, b.causes, sizeof a.causes) || memcmp(&a.totals, &b.totals, sizeof a.totals))
        h_fail(h, file, line, "early work: counters changed before the deadline");
    if (a.info.state != b.info.state || a.info.snd_nxt != b.info.snd_nxt ||
        a.info.rcv_nxt != b.info.rcv_nxt || a.info.rto != b.info.rto || a.info.ato != b.info.ato ||
        a.info.backoff != b.info.backoff || a.info.snd_cwnd != b.info.snd_cwnd ||
        a.info.lost != b.info.lost || a.info.rcv_wnd != b.info.rcv_wnd)
        h_fail(h, file, line, "early work: the connection changed before the deadline");
    if (tcp_next_reply(h->t, h->now, &o) || tcp_next_ready(h->t, &o))
        h_fail(h, file, line, "early work: output before the deadline");
    if (tcp_deadline(h->t) < deadline)
        h_fail(h, file, line, "the deadline moved earlier by itself");
}

/* Time goes on to `to`; stops at the first segment that leaves if `until_out`. */
static void advance_to(struct harness *h, uint64_t to, bool until_out, const char *file, int line)
{
    unsigned steps = 0;

    while (!(until_out && h->q_head != h->q_tail)) {
        uint64_t d = tcp_deadline(h->t);

        if (d > to)
            break;
        if (++steps > EXPIRE_STEPS_MAX)
            h_fail(h, file, line, "too many deadlines");
        if (d - 1 > h->now)
            check_no_early_work(h, d - 1, file, line);
        h->now = d;
        tcp_expire(h->t, h->now);
        h_step(h, file, line);
    }
    if (!(until_out && h->q_head != h->q_tail) && to > h->now) {
        check_no_early_work(h, to, file, line);
        h_step(h, file, line);
    }
}

static void expect_nothing(struct harness *h, const char *file, int line)
{
    if (h->q_head != h->q_tail)
        h_fail(h, file, line, "unexpected segment: %s  [%s]", h->queue[h->q_head].text,
               tcp_cause_name(h->queue[h->q_head].cause));
}

void h_advance(struct harness *h, uint64_t ms, const char *file, int line)
{
    expect_nothing(h, file, line);
    advance_to(h, h->now + ms * NSEC_PER_MSEC, false, file, line);
}

void h_quiet(struct harness *h, uint64_t ms, const char *file, int line)
{
    expect_nothing(h, file, line);
    advance_to(h, h->now + ms * NSEC_PER_MSEC, false, file, line);
    expect_nothing(h, file, line);
}

unsigned h_pending(const struct harness *h)
{
    return (unsigned)(h->q_tail - h->q_head);
}

void h_skip_out(struct harness *h, const char *file, int line)
{
    (void)file;
    (void)line;
    h->q_head = h->q_tail = 0;
}

/* "win" may be missing in an expectation, and "<...>" is any option list or none. RSTs have a window only
 * with ACK. */
static void expectation_pattern(const char *text, char *ret, size_t n)
{
    const char *dots = strstr(text, "<...>"), *opts = strchr(text, '<'), *gso = strstr(text, " gso "),
               *ecn = strstr(text, " ecn "), *zero = strstr(text, " win 0");
    size_t head = strlen(text);

    if (dots) {
        snprintf(ret, n, "%.*s%s*%s", (int)(dots - text - 1), text, strstr(text, "win") ? "" : " win [0-9]*",
                 dots + 5);
        return;
    }
    if (zero && text[0] == 'R') {
        snprintf(ret, n, "%.*s*", (int)(zero - text), text);
        return;
    }
    if (strstr(text, "win") || strchr(text, '*')) {
        snprintf(ret, n, "%s", text);
        return;
    }
    if (opts)
        head = (size_t)(opts - text) - 1;
    else if (gso)
        head = (size_t)(gso - text);
    else if (ecn)
        head = (size_t)(ecn - text);
    snprintf(ret, n, "%.*s win [0-9]*%s", (int)head, text, text + head);
}

static bool text_matches(const char *text, const char *actual)
{
    char pattern[SEG_TEXT];

    expectation_pattern(text, pattern, sizeof pattern);
    if (strchr(text, '*') && !strstr(pattern, "win") && fnmatch(pattern, actual, 0))
        snprintf(pattern, sizeof pattern, "%s win [0-9]*", text);
    if (fnmatch(pattern, actual, 0))
        return false;
    return strchr(text, '<') || strchr(text, '*') || !strchr(actual, '<');
}

void h_out_after(struct harness *h, int64_t ms, const char *text, const char *file, int line)
{
    uint64_t due = h->now + (ms > 0 ? (uint64_t)ms * NSEC_PER_MSEC : 0);
    struct h_out *q;

    if (ms >= 0) {
        if (ms > 0)
            expect_nothing(h, file, line);
        advance_to(h, due + NSEC_PER_MSEC, true, file, line);
    }
    if (h->q_head == h->q_tail)
        h_fail(h, file, line, "expected: %s\nactual:   nothing%s", text, ms >= 0 ? " by then" : "");
    q = &h->queue[h->q_head];
    if (q->port != h_flow(h)->tuple.remote_port || !text_matches(text, q->text))
        h_fail(h, file, line, "expected: %s\nactual:   %s  [%s%s]", text, q->text, tcp_cause_name(q->cause),
               q->port != h_flow(h)->tuple.remote_port ? ", other flow" : "");
    if (ms >= 0 && (q->at + NSEC_PER_MSEC < due || q->at > due + NSEC_PER_MSEC))
        h_fail(h, file, line, "left %.6f s after the expected time: %s", ((double)q->at - (double)due) / 1e9,
               text);
    h->cause = q->cause;
    h->tsval = q->tsval;
    if (++h->q_head == h->q_tail)
        h->q_head = h->q_tail = 0;
}

/* ---- Input
 * ----------------------------------------------------------------------------------------------------- */

static unsigned strip_number(char *text, const char *key)
{
    char *at = strstr(text, key);
    unsigned value;

    if (!at)
        return 0;
    value = (unsigned)strtoul(at + strlen(key), NULL, 10);
    *at = '\0';
    return value;
}

/* Fills chunks with the payload's pattern; every other small segment goes in without a chunk (copied by the
 * engine). */
static unsigned fill_payload(struct harness *h, struct tcp_seg *seg, struct chunk **chunks, uint8_t *plain)
{
    uint64_t pos = (uint32_t)(seg->seq - h_flow(h)->irs - (seg->flags & TCP_SYN ? 0 : 1));
    uint32_t left = seg->len;
    unsigned n = 0;

    seg->n_slices = 0;
    if (seg->len && seg->len < 512) {
        for (uint32_t k = 0; k < left; k++)
            plain[k] = h_pattern(pos + k);
        seg->slice[seg->n_slices++] = (struct tcp_slice){.data = plain, .len = left};
        return 0;
    }
    while (left) {
        struct chunk *c =
            chunk_alloc(h->pool, left > CHUNK_SMALL_BYTES ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES);
        uint32_t len;

        assert_non_null(c);
        len = left < c->size ? left : c->size;
        for (uint32_t k = 0; k < len; k++)
            c->data[k] = h_pattern(pos++);
        seg->slice[seg->n_slices++] = (struct tcp_slice){.data = c->data, .len = len, .chunk = c};
        chunks[n++] = c;
        left -= len;
    }
    return n;
}

void h_in(struct harness *h, const char *text, const char *file, int line)
{
    struct h_flow *f = h_flow(h);
    struct tcp_seg seg;
    struct chunk *chunks[TCP_SLICES_MAX];
    uint8_t plain[512];
    char copy[SEG_TEXT];
    const char *error = NULL;
    unsigned n, ecn, gso;

    if (!h->hold)
        expect_nothing(h, file, line);
    snprintf(copy, sizeof copy, "%s", text);
    ecn = strip_number(copy, " ecn ");
    gso = strip_number(copy, " gso ");
    if (!text_parse_seg(copy, f->irs, f->iss, &seg, &error))
        h_fail(h, file, line, "cannot read \"%s\": %s", text, error ? error : "?");
    seg.src = f->tuple.remote;
    seg.dst = f->tuple.local;
    seg.src_port = f->tuple.remote_port;
    seg.dst_port = f->tuple.local_port;
    seg.ecn = (uint8_t)ecn;
    seg.gso_size = (uint16_t)gso;
    seg.ttl = 64;
    n = fill_payload(h, &seg, chunks, plain);
    if (seg.opt.md5_ok && h->md5_key && !seg.opt.md5[0] && !seg.opt.md5[1])
        h_sign(&seg, h->md5_key, seg.opt.md5);
    h_log(h, "< %s  [flow %d]", text, h->cur);
    tcp_input(h->t, &seg, &h->path, h->now);
    while (n)
        chunk_unref(h->pool, chunks[--n]);
    h_step(h, file, line);
}

void h_icmp(struct harness *h, uint32_t rel_seq, int error, bool hard, uint16_t mtu)
{
    struct tcp_icmp icmp = {
        .tuple = h_flow(h)->tuple, .seq = h_flow(h)->iss + rel_seq, .error = error, .hard = hard, .mtu = mtu};

    h_log(h, "< icmp seq %u error %d mtu %u", rel_seq, error, mtu);
    tcp_icmp(h->t, &icmp, h->now);
    flush(h);
}

/* ---- Calls of programs
 * ------------------------------------------------------------------------------------------ */

void h_listen(struct harness *h, uint32_t backlog)
{
    struct tcp_listen_args args = {
        .addr = h->flows[0].tuple.local, .port = H_PORT, .backlog = backlog, .user = 7};

    assert_int_equal(tcp_listen(h->t, &args, &h->listener), 0);
    assert_true(h->listener > 0);
    flush(h);
}

void h_accept(struct harness *h)
{
    struct h_flow *f = h_flow(h);

    if (!f->accept_pending)
        h_fail(h, __FILE__, __LINE__, "nothing to accept");
    f->accept_pending = false;
    h_log(h, ": accept");
    tcp_listen_accepted(h->t, h->listener);
    tcp_set_user(h->t, f->id, 11);
    flush(h);
}

int h_connect(struct harness *h)
{
    struct h_flow *f = h_flow(h);
    struct tcp_connect_args args = {.tuple = f->tuple, .path = h->path, .user = 5};
    int rc;

    h_log(h, ": connect");
    f->tx_pos = f->rx_pos = 0;
    rc = tcp_connect(h->t, &args, h->now, &f->id);
    flush(h);
    return rc;
}

int64_t h_send_flags(struct harness *h, size_t bytes, unsigned flags)
{
    struct h_flow *f = h_flow(h);
    uint8_t *data = malloc(bytes ? bytes : 1);
    int64_t rc;

    for (size_t k = 0; k < bytes; k++)
        data[k] = h_pattern(f->tx_pos + k);
    rc = tcp_send(h->t, f->id, data, bytes, flags, h->now);
    h_log(h, ": send(%zu) = %lld", bytes, (long long)rc);
    if (rc > 0)
        f->tx_pos += (uint64_t)rc;
    free(data);
    flush(h);
    return rc;
}

int64_t h_send(struct harness *h, size_t bytes)
{
    return h_send_flags(h, bytes, 0);
}

int64_t h_recv(struct harness *h, size_t bytes)
{
    struct h_flow *f = h_flow(h);
    struct tcp_iov iov[8];
    size_t done = 0;

    while (done < bytes) {
        bool eof = false;
        size_t got = 0;
        int n = tcp_recv_peek(h->t, f->id, iov, 8, &eof);

        if (n <= 0) {
            int64_t rc = done ? (int64_t)done : n < 0 ? n : eof ? 0 : -EAGAIN;

            h_log(h, ": recv(%zu) = %lld", bytes, (long long)rc);
            flush(h);
            return rc;
        }
        for (int i = 0; i < n; i++)
            for (size_t k = 0; k < iov[i].len && done + got < bytes; k++, got++)
                if (iov[i].data[k] != h_pattern(f->rx_pos + got))
                    h_fail(h, __FILE__, __LINE__, "received byte %llu is wrong",
                           (unsigned long long)(f->rx_pos + got));
        tcp_recv_consume(h->t, f->id, got, h->now);
        f->rx_pos += got;
        done += got;
    }
    h_log(h, ": recv(%zu) = %zu", bytes, done);
    flush(h);
    return (int64_t)done;
}

int h_shutdown(struct harness *h)
{
    int rc = tcp_shutdown_write(h->t, h_flow(h)->id, h->now);

    h_log(h, ": shutdown(WR) = %d", rc);
    flush(h);
    return rc;
}

int h_close(struct harness *h)
{
    int rc = tcp_close(h->t, h_flow(h)->id, h->now);

    h_log(h, ": close = %d", rc);
    h_flow(h)->id = 0;
    flush(h);
    return rc;
}

int h_abort(struct harness *h)
{
    int rc = tcp_abort(h->t, h_flow(h)->id, h->now);

    h_log(h, ": abort = %d", rc);
    h_flow(h)->id = 0;
    flush(h);
    return rc;
}

int h_opt(struct harness *h, enum tcp_opt opt, int32_t value)
{
    int rc = tcp_set_opt(h->t, h_flow(h)->id, opt, value, h->now);

    h_log(h, ": set_opt(%d, %d) = %d", (int)opt, value, rc);
    flush(h);
    return rc;
}

/* ---- Connections that are ready-made
 * ---------------------------------------------------------------------------- */

void h_passive_on(struct harness *h, const char *syn_opts, unsigned wnd)
{
    char text[SEG_TEXT];
    bool ts = strstr(syn_opts, "TS val") != NULL;

    snprintf(text, sizeof text, "S 0:0(0) win %u <%s>", wnd > 65535 ? 65535 : wnd, syn_opts);
    in(h, text);
    out(h, "S. 0:0(0) ack 1 <...>");
    if (ts)
        snprintf(text, sizeof text, ". 1:1(0) ack 1 win %u <nop,nop,TS val 100 ecr %u>", wnd, h->tsval);
    else
        snprintf(text, sizeof text, ". 1:1(0) ack 1 win %u", wnd);
    in(h, text);
    state(h, TCP_STATE_ESTABLISHED);
    h_accept(h);
    h_flow(h)->events = 0;
}

struct harness *h_passive(const char *syn_opts, unsigned wnd)
{
    struct harness *h = h_new();

    h_listen(h, 16);
    h_passive_on(h, syn_opts, wnd);
    return h;
}

void h_active_on(struct harness *h, const char *synack_opts, unsigned wnd)
{
    char text[SEG_TEXT];

    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    if (strstr(synack_opts, "TS val"))
        snprintf(text, sizeof text, "S. 0:0(0) ack 1 win %u <%s ecr %u>", wnd, synack_opts, h->tsval);
    else
        snprintf(text, sizeof text, "S. 0:0(0) ack 1 win %u <%s>", wnd, synack_opts);
    in(h, text);
    if (strstr(synack_opts, "TS val"))
        out(h, ". 1:1(0) ack 1 <...>");
    else
        out(h, ". 1:1(0) ack 1");
    state(h, TCP_STATE_ESTABLISHED);
    event(h, TCP_EVENT_CONNECTED);
}

struct harness *h_active(const char *synack_opts, unsigned wnd)
{
    struct harness *h = h_new();

    h_active_on(h, synack_opts, wnd);
    return h;
}
