/*
 * tests/fuzz/tcp_fuzz.c: stateful, structure-aware fuzzing of one engine. Bytes of the input choose verbs:
 * segments near the window with any flags, options, lengths and super-frame sizes; steps of time; calls of
 * programs; ICMP errors; output, all of it or a part. After every verb tcp_check_all() must hold, after a
 * full drain the deadline must lie in the future, and at the end every chunk must come back.
 *
 * With libFuzzer (-Dfuzz=true), or as a program of its own with -DFUZZ_REPLAY:
 *     tcp_fuzz FILE...            replays inputs
 *     tcp_fuzz --seeds A:B        makes inputs from seeds, says which one failed; --seeds A traces the one
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tcp/tcp.h"
#include "tcp/tcp_record.h"
#include "wire/text.h"

#define ARENA_BYTES (2u << 20)
#define IDS         8
#define PORTS       4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t at_seed;
static bool tracing; /* print the verbs: --seed */

struct fuzz {
    const uint8_t *data;
    size_t left;
    struct tcp *t;
    struct tcp_config cfg;
    struct chunk_pool *pool;
    uint64_t now;
    uint32_t listener;
    tcp_id ids[IDS];
    bool keyed; /* a key was set: the peers sign */
    volatile uint32_t sink; /* payload that left is read */
};

static uint8_t byte(struct fuzz *f)
{
    if (!f->left)
        return 0;
    f->left--;
    return *f->data++;
}

static uint32_t word(struct fuzz *f)
{
    uint32_t v = byte(f);

    v = v << 8 | byte(f);
    v = v << 8 | byte(f);
    return v << 8 | byte(f);
}

static void trace_seg(const struct fuzz *f, const char *dir, const struct tcp_seg *seg)
{
    char text[TEXT_SEG_MAX];

    if (tracing)
        printf("%14.9f %s %u:%u %s gso %u\n", (double)f->now / 1e9, dir, seg->src_port, seg->dst_port,
               text_format_seg(seg, 0, 0, text, sizeof text), seg->gso_size);
}

static void trace_call(const struct fuzz *f, const char *verb, unsigned long long id)
{
    if (tracing)
        printf("%14.9f %s %llx\n", (double)f->now / 1e9, verb, id);
}

static void must(struct fuzz *f, const char *verb)
{
    const char *what = tcp_check_all(f->t);

    trace_call(f, verb, 0);
    if (what) {
        fprintf(stderr, "seed %llu: tcp_check_all after %s: %s\n", (unsigned long long)at_seed, verb, what);
        abort();
    }
}

/* ---- Segments
 * ----------------------------------------------------------------------------------------------------- */

static struct ip_tuple tuple_of(unsigned k)
{
    /* The peer's ports 1000..1003; our listener is 80, our active opens come from 2000. */
    return (struct ip_tuple){ip_addr_v4(192, 0, 2, 1), ip_addr_v4(192, 0, 2, 2), k & 4 ? 2000 : 80,
                             (uint16_t)(1000 + (k & 3))};
}

static bool find(struct fuzz *f, const struct ip_tuple *tuple, struct tcp_info *ret)
{
    for (tcp_id id = tcp_next_id(f->t, 0); id; id = tcp_next_id(f->t, id)) {
        if (tcp_get_info(f->t, id, f->now, ret)) {
            fprintf(stderr, "seed %llu: tcp_next_id() names an id that tcp_get_info() does not know\n",
                    (unsigned long long)at_seed);
            abort();
        }
        if (ret->tuple.remote_port == tuple->remote_port && ret->tuple.local_port == tuple->local_port &&
            ret->state != TCP_STATE_CLOSE)
            return true;
    }
    memset(ret, 0, sizeof *ret);
    return false;
}

static uint32_t near_value(struct fuzz *f, uint32_t base, uint32_t other)
{
    static const int32_t deltas[] = {0,   0,    0,    0,    1,     -1,    2,     10,
                                     100, 1000, 1460, 2920, 14600, -1000, 60000, 70000};
    uint8_t how = byte(f);

    if (how < 240)
        return base + (uint32_t)deltas[how & 15];
    return how < 250 ? other + (uint32_t)deltas[how & 15] : word(f);
}

static void draw_options(struct fuzz *f, const struct tcp_info *info, struct tcp_options *o)
{
    uint8_t which = byte(f);

    o->mss_ok = which & 1;
    o->wscale_ok = which & 2;
    o->timestamps_ok = which & 4 || (info->options & TCP_INFO_OPT_TIMESTAMPS && !(which & 64));
    o->sack_permitted = which & 8;
    if (o->mss_ok)
        o->mss = (uint16_t)(byte(f) * 36);
    if (o->wscale_ok)
        o->wscale = byte(f) & 15;
    if (o->timestamps_ok) {
        o->tsval = (uint32_t)(f->now / NSEC_PER_MSEC) + (uint32_t)(int8_t)byte(f);
        o->tsecr = which & 32 ? word(f) : (uint32_t)(f->now / NSEC_PER_MSEC);
    }
    if (which & 16) {
        o->sack_count = (uint8_t)(1 + (byte(f) & 3));
        for (unsigned i = 0; i < o->sack_count; i++) {
            o->sack[i].start = near_value(f, info->snd_una, info->snd_nxt);
            o->sack[i].end = o->sack[i].start + near_value(f, 1460, 0);
        }
    }
}

static uint32_t draw_len(struct fuzz *f, uint16_t *ret_gso)
{
    static const uint32_t lens[] = {0,    0,    0,    1,    10,   100,   511,   536,
                                    1000, 1448, 1460, 2048, 2921, 14600, 40000, 65000};
    uint8_t how = byte(f);
    uint32_t len = lens[how & 15];

    *ret_gso = len > 1460 ? (uint16_t)(how & 16 ? 1460 : how & 32 ? 536 : 1) : 0;
    if (how & 64)
        *ret_gso = 0;
    return len;
}

/* ---- TCP-MD5: a digest that is quickly computed, keys that are one letter ---- */

static bool toy_md5(void *ctx, const struct tcp_bytes *piece, unsigned n, uint8_t ret[TCP_MD5_BYTES])
{
    uint64_t h = 14695981039346656037u;

    (void)ctx;
    for (unsigned i = 0; i < n; i++)
        for (size_t k = 0; k < piece[i].len; k++)
            h = (h ^ ((const uint8_t *)piece[i].data)[k]) * 1099511628211u;
    memcpy(ret, &h, sizeof h);
    memcpy(ret + 8, &h, sizeof h);
    return true;
}

static const struct tcp_crypto toy_crypto = {.md5 = toy_md5};

/* Mostly as the engine's key "a" asks; else with another key, or nonsense. */
static void sign_seg(struct fuzz *f, struct tcp_seg *seg)
{
    uint8_t header[TCP_SIGNED_BYTES_MAX], how = byte(f);
    struct tcp_bytes piece[TCP_SLICES_MAX + 2];
    unsigned n = 0;

    if (!(how & 15) || !f->keyed)
        return;
    seg->opt.md5_ok = true;
    piece[n++] = (struct tcp_bytes){header, tcp_signed_header(seg, header)};
    for (unsigned i = 0; i < seg->n_slices; i++)
        piece[n++] = (struct tcp_bytes){seg->slice[i].data, seg->slice[i].len};
    piece[n++] = (struct tcp_bytes){(how & 15) == 1 ? "b" : "a", 1};
    toy_md5(NULL, piece, n, seg->opt.md5);
    seg->opt.md5[0] ^= (how & 15) == 2;
}

/* Sets or forgets a key of a connection or of the listener, for a prefix that holds its peer or not. */
static void do_key(struct fuzz *f, tcp_id id)
{
    uint8_t how = byte(f);
    struct ip_tuple tuple = tuple_of(byte(f));
    struct tcp_md5_key key = {.addr = tuple.remote, .bytes = how & 3 ? 1 : 0, .key = {how & 4 ? 'a' : 'b'}};

    key.prefix = (uint8_t)(how & 8 ? (tuple.remote.family == IP_V6 ? 128 : 32) : byte(f) % 35);
    if (how & 4)
        f->keyed = true;
    if (how & 16)
        tcp_md5_set(f->t, id, &key, f->now);
    else
        tcp_listen_md5_set(f->t, f->listener, &key);
}

static void do_segment(struct fuzz *f)
{
    static const uint16_t flags[] = {TCP_ACK,
                                     TCP_ACK,
                                     TCP_ACK | TCP_PSH,
                                     TCP_ACK | TCP_PSH,
                                     TCP_ACK,
                                     TCP_SYN,
                                     TCP_SYN | TCP_ACK,
                                     TCP_FIN | TCP_ACK,
                                     TCP_RST,
                                     TCP_RST | TCP_ACK,
                                     TCP_ACK | TCP_URG,
                                     TCP_FIN | TCP_ACK | TCP_PSH,
                                     TCP_SYN | TCP_ECE | TCP_CWR};
    static uint8_t zeros[CHUNK_BIG_BYTES];
    static const struct tcp_path path = {.mtu = 1500};
    struct tcp_seg seg = {0};
    struct chunk *chunks[TCP_SLICES_MAX];
    unsigned n = 0;
    struct tcp_info info;
    uint8_t how = byte(f), kind = byte(f);
    struct ip_tuple tuple = tuple_of(how);

    find(f, &tuple, &info);
    seg.src = tuple.remote;
    seg.dst = tuple.local;
    seg.src_port = tuple.remote_port;
    seg.dst_port = tuple.local_port;
    seg.flags = kind < 250 ? flags[kind % 13] : (uint16_t)(word(f) & 0x1ff);
    seg.seq = near_value(f, info.rcv_nxt, info.rcv_nxt + info.rcv_open);
    seg.ack = near_value(f, how & 8 ? info.snd_nxt : info.snd_una, info.iss);
    if (info.state == TCP_STATE_NEW_SYN_RECV && !(how & 16))
        seg.ack = info.snd_nxt;
    seg.wnd = how & 32 ? (uint16_t)(byte(f) * 257) : 0xffff;
    seg.urg_ptr = seg.flags & TCP_URG ? byte(f) : 0;
    seg.ecn = how & 64 ? byte(f) & 3 : 0;
    draw_options(f, &info, &seg.opt);
    seg.len = draw_len(f, &seg.gso_size);
    for (uint32_t left = seg.len; left;) {
        uint32_t len = left < CHUNK_BIG_BYTES ? left : CHUNK_BIG_BYTES;
        struct chunk *c =
            how & 128 ? chunk_alloc(f->pool, len > CHUNK_SMALL_BYTES ? CHUNK_BIG_BYTES : CHUNK_SMALL_BYTES)
                      : NULL;

        seg.slice[seg.n_slices++] = (struct tcp_slice){.data = c ? c->data : zeros, .len = len, .chunk = c};
        if (c)
            chunks[n++] = c;
        left -= len;
    }
    sign_seg(f, &seg);
    trace_seg(f, "<", &seg);
    tcp_input(f->t, &seg, &path, f->now);
    while (n)
        chunk_unref(f->pool, chunks[--n]);
}

/* ---- Output, events, time
 * ------------------------------------------------------------------------------------------ */

static void took(struct fuzz *f, const struct tcp_out *o)
{
    uint32_t sum = 0, seen = 0;

    trace_seg(f, ">", &o->seg);
    for (unsigned i = 0; i < o->seg.n_slices; i++) {
        sum += o->seg.slice[i].len;
        for (uint32_t k = 0; k < o->seg.slice[i].len; k += 61)
            seen += o->seg.slice[i].data[k];
        if (o->seg.slice[i].len)
            seen += o->seg.slice[i].data[o->seg.slice[i].len - 1];
    }
    f->sink += seen;
    if (sum != o->seg.len) {
        fprintf(stderr, "seed %llu: slices hold %u bytes, len is %u\n", (unsigned long long)at_seed, sum,
                o->seg.len);
        abort();
    }
}

static void do_events(struct fuzz *f)
{
    struct tcp_event e;

    while (tcp_next_event(f->t, &e)) {
        if (!(e.bits & TCP_EVENT_ACCEPT))
            continue;
        tcp_listen_accepted(f->t, f->listener);
        for (unsigned i = 0; i <= IDS; i++) {
            if (i == IDS) {
                tcp_abort(f->t, e.id, f->now);
            } else if (!f->ids[i]) {
                f->ids[i] = e.id;
                break;
            }
        }
    }
}

static void do_output(struct fuzz *f, unsigned max)
{
    struct tcp_out o;
    unsigned n = 0;

    tcp_commit(f->t, f->now);
    while (n < max && tcp_next_reply(f->t, f->now, &o)) {
        took(f, &o);
        n++;
    }
    while (n < max && tcp_next_ready(f->t, &o)) {
        if (tcp_output(f->t, o.id, f->now, &o)) {
            took(f, &o);
            switch (byte(f)) {
            case 255:
                tcp_tx_failed(f->t, &o);
                break;
            case 254:
                tcp_tx_refused(f->t, &o, f->now);
                break;
            case 253:
                tcp_path_mtu(f->t, o.id, (uint16_t)(byte(f) * 7));
                break;
            default:
                break;
            }
        }
        if (++n > 1000000) {
            fprintf(stderr, "seed %llu: READY does not get empty\n", (unsigned long long)at_seed);
            abort();
        }
    }
}

static void do_drain(struct fuzz *f)
{
    do_events(f);
    do_output(f, UINT32_MAX);
    do_output(f, UINT32_MAX);
    if (tcp_deadline(f->t) <= f->now) {
        fprintf(stderr, "seed %llu: deadline in the past after the drain\n", (unsigned long long)at_seed);
        abort();
    }
}

static void do_time(struct fuzz *f)
{
    uint8_t how = byte(f);
    uint64_t deadline = tcp_deadline(f->t);

    if (how < 100 && deadline != TIME_NEVER)
        f->now = time_max(f->now, deadline);
    else if (how < 130 && deadline != TIME_NEVER && deadline > f->now)
        f->now = deadline - 1;
    else if (how < 240)
        f->now += (uint64_t)how * NSEC_PER_MSEC;
    else
        f->now += (uint64_t)(how - 239) * 10 * NSEC_PER_SEC;
    tcp_expire(f->t, f->now);
}

/* ---- Calls of programs
 * ----------------------------------------------------------------------------------------------- */

static void do_connect(struct fuzz *f, unsigned slot)
{
    static const uint8_t bytes[2000];
    struct tcp_connect_args c = {.tuple = tuple_of(4 | byte(f)), .path = {.mtu = 1500}};
    uint8_t data = byte(f);

    if (f->ids[slot])
        return;
    c.fastopen = data & 1;
    if (tcp_connect(f->t, &c, f->now, &f->ids[slot]))
        f->ids[slot] = 0;
    else if (c.fastopen && !(data & 2))
        (void)tcp_fastopen_connect(f->t, f->ids[slot], bytes, (size_t)data * 7, f->now);
}

static void do_write(struct fuzz *f, tcp_id id)
{
    static const uint8_t bytes[70000];
    struct tcp_iov iov[3];
    size_t want = (size_t)byte(f) * 257, room = 0;
    uint8_t flags = byte(f);

    if (flags & 128) {
        int n = tcp_send_reserve(f->t, id, want, iov, 3);

        for (int i = 0; i < n; i++) {
            memset(iov[i].data, 1, iov[i].len);
            room += iov[i].len;
        }
        if (n > 0)
            tcp_send_commit(f->t, id, room * (flags & 15) / 15, flags >> 4 & 7, f->now);
    } else {
        tcp_send(f->t, id, bytes, want + 1, flags & 7, f->now);
    }
}

static void do_read(struct fuzz *f, tcp_id id)
{
    struct tcp_iov iov[4];
    size_t want = (size_t)byte(f) * 257, got = 0;
    bool eof;
    int n = tcp_recv_peek(f->t, id, iov, 4, &eof);

    for (int i = 0; i < n; i++) {
        f->sink += iov[i].data[0] + iov[i].data[iov[i].len - 1];
        got += iov[i].len;
    }
    if (got)
        tcp_recv_consume(f->t, id, got < want ? got : want, f->now);
}

static void do_icmp(struct fuzz *f)
{
    static const int errors[] = {EMSGSIZE, EMSGSIZE, EHOSTUNREACH, ECONNREFUSED, ENETUNREACH, EPROTO};
    struct tcp_icmp icmp = {.tuple = tuple_of(byte(f))};
    struct tcp_info info;

    find(f, &icmp.tuple, &info);
    icmp.seq = near_value(f, info.snd_una, info.snd_nxt);
    icmp.error = errors[byte(f) % 6];
    icmp.hard = byte(f) & 1;
    icmp.mtu = (uint16_t)(byte(f) * 7);
    tcp_icmp(f->t, &icmp, f->now);
}

static void do_listener(struct fuzz *f)
{
    struct tcp_listen_args l = {.addr = ip_addr_v4(192, 0, 2, 1), .port = 80, .backlog = 2};

    if (f->listener)
        tcp_listen_close(f->t, f->listener, f->now);
    f->listener = 0;
    if (tcp_listen(f->t, &l, &f->listener))
        f->listener = 0;
}

static void do_record(struct fuzz *f, tcp_id id)
{
    struct tcp_record r;
    char text[4096];

    if (tcp_record_save(f->t, id, &r))
        return;
    tcp_record_dump(&r, text, sizeof text);
    if (tcp_record_check(&r)) {
        fprintf(stderr, "seed %llu: a record that was saved does not check: %s\n",
                (unsigned long long)at_seed, tcp_record_check(&r));
        abort();
    }
    ((uint8_t *)&r)[word(f) % sizeof r] ^= byte(f);
    (void)tcp_record_check(&r); /* safe on any bytes */
}

static void do_call(struct fuzz *f)
{
    uint8_t how = byte(f);
    unsigned slot = how & (IDS - 1);
    tcp_id id = f->ids[slot];

    if (tracing)
        printf("%14.9f call %d on %llx\n", (double)f->now / 1e9, how >> 3 & 31, (unsigned long long)id);
    switch (how >> 3 & 31) {
    case 0:
        do_connect(f, slot);
        break;
    case 1:
    case 2:
    case 3:
        do_write(f, id);
        break;
    case 4:
    case 5:
    case 6:
        do_read(f, id);
        break;
    case 7:
        tcp_shutdown_write(f->t, id, f->now);
        break;
    case 8:
        tcp_shutdown_read(f->t, id, f->now);
        break;
    case 9:
        tcp_close(f->t, id, f->now);
        f->ids[slot] = 0;
        break;
    case 10:
        tcp_abort(f->t, id, f->now);
        f->ids[slot] = 0;
        break;
    case 11:
        tcp_set_opt(f->t, id, (enum tcp_opt)(byte(f) % TCP_OPT_MAX), (int32_t)(byte(f) * byte(f)), f->now);
        break;
    case 12:
        do_icmp(f);
        break;
    case 13:
        tcp_suspend(f->t, id);
        break;
    case 14:
    case 16:
        byte(f) & 3 ? tcp_resume(f->t, id) : tcp_unreachable(f->t, id, EHOSTUNREACH, f->now);
        break;
    case 15:
        do_record(f, id);
        break;
    default:
        switch (byte(f) & 7) {
        case 0:
            do_listener(f);
            break;
        case 1:
        case 2:
        case 3:
            do_key(f, id);
            break;
        default:
            tcp_set_gso_max(f->t, (uint32_t)byte(f) * 257);
            break;
        }
        break;
    }
}

/* ---- One input
 * ----------------------------------------------------------------------------------------------------------
 */

static void set_up(struct fuzz *f, void *arena)
{
    struct tcp_params p = {0};
    uint8_t how = byte(f);

    f->now = 5 * NSEC_PER_SEC;
    tcp_config_defaults(&f->cfg);
    f->cfg.tcp_timestamps = how & 1 ? 2 : 0;
    f->cfg.tcp_sack = how >> 1 & 1;
    f->cfg.tcp_window_scaling = how >> 2 & 1;
    f->cfg.tcp_rmem_default = how & 8 ? 8192 : 131072;
    f->cfg.tcp_max_orphans = how & 16 ? 2 : 65536;
    f->cfg.tcp_abort_on_overflow = how >> 5 & 1;
    f->cfg.tcp_max_tw_buckets = how & 64 ? 1 : 65536;
    f->cfg.tcp_fastopen = how & 8 ? 0x603 : 5; /* server: every SYN's data is taken; client: always sent */
    f->cfg.tcp_syncookies = how & 16 ? 2 : how >> 5 & 1;
    f->cfg.tcp_congestion_control = how >> 1 & 3;
    f->cfg.tcp_ecn = how & 32 ? 1 : 2;
    f->cfg.tcp_pacing = how & 64 ? 1 : 0;
    f->cfg.tcp_mtu_probing = how >> 5 & 3 ? (how >> 5 & 3) - 1 : 2;
    f->cfg.tcp_base_mss = how & 4 ? 600 : 1024;
    f->cfg.tcp_initcwnd = how & 32 ? 10 : 20;
    f->pool = chunk_pool_create(arena, ARENA_BYTES);
    p.config = &f->cfg;
    p.pool = f->pool;
    p.secrets = (struct tcp_secrets){{1, 2}, {3, 4}, {5, 6}, {7, 8}, 9};
    p.now = f->now;
    p.max_conns = IDS;
    p.max_half_open = 6;
    p.max_time_wait = 4;
    p.generation = 1;
    p.crypto = &toy_crypto;
    p.max_md5_keys = 2;
    p.trace_bytes = how & 16 ? 48 << 10 : 1 << 20; /* the former is never enough */
    p.park_eager = how & 8;
    f->t = tcp_create(&p);
    do_listener(f);
    if (how & 128)
        tcp_set_gso_max(f->t, 65536);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t *arena;
    struct fuzz f = {.data = data, .left = size};

    if (!arena)
        arena = aligned_alloc(4096, ARENA_BYTES);
    set_up(&f, arena);
    while (f.left) {
        uint8_t verb = byte(&f);

        if (verb < 110) {
            do_segment(&f);
            must(&f, "segment");
        } else if (verb < 190) {
            do_call(&f);
            must(&f, "call");
        } else if (verb < 215) {
            do_time(&f);
            must(&f, "time");
        } else if (verb < 225) {
            do_output(&f, 1 + (verb & 3));
            must(&f, "some output");
        } else {
            do_drain(&f);
            must(&f, "drain");
        }
    }
    do_drain(&f);
    must(&f, "the last drain");
    tcp_destroy(f.t);
    if (chunk_pool_used_bytes(f.pool)) {
        fprintf(stderr, "seed %llu: %zu bytes of chunks leaked\n", (unsigned long long)at_seed,
                chunk_pool_used_bytes(f.pool));
        abort();
    }
    chunk_pool_destroy(f.pool);
    return 0;
}

#ifdef FUZZ_REPLAY
static int replay_file(const char *name)
{
    static uint8_t data[1 << 20];
    FILE *in = fopen(name, "rb");
    size_t n;

    if (!in) {
        perror(name);
        return 1;
    }
    n = fread(data, 1, sizeof data, in);
    fclose(in);
    return LLVMFuzzerTestOneInput(data, n);
}

/* Inputs from seeds; the seed is printed before it runs where a crash would not tell. */
static int run_seeds(uint64_t from, uint64_t to)
{
    static uint8_t data[4096];

    printf("seeds %llu:%llu\n", (unsigned long long)from, (unsigned long long)to);
    for (uint64_t seed = from; seed <= to; seed++) {
        struct rng rng;
        size_t n;

        rng_seed(&rng, seed);
        n = (size_t)rng_below(&rng, sizeof data);
        for (size_t i = 0; i < n; i++)
            data[i] = (uint8_t)rng_next(&rng);
        at_seed = seed;
        LLVMFuzzerTestOneInput(data, n);
    }
    printf("ok\n");
    return 0;
}

int main(int argc, char **argv)
{
    int rc = 0;

    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        char *colon = strchr(argv[2], ':');
        uint64_t from = strtoull(argv[2], NULL, 0);

        tracing = !colon;
        setvbuf(stdout, NULL, _IOLBF, 0);
        return run_seeds(from, colon ? strtoull(colon + 1, NULL, 0) : from);
    }
    for (int i = 1; i < argc; i++)
        rc |= replay_file(argv[i]);
    return rc;
}
#endif
