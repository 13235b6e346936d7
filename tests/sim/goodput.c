/*
 * tests/sim/goodput.c: the golden throughput table: fixed scenarios in virtual time, so that a change which moves one shows
 * in review.
 *
 *     goodput                   prints the table
 *     goodput --check FILE      compares it with the copy in the repository; tells what moved, by how much
 *     goodput --update FILE     writes the copy anew
 *     goodput --row NAME        one row, as often as it takes to look at it
 *     goodput --pacing          error of max_pacing_rate from 1 Mbit/s to 1 Gbit/s; fails from 5 % on
 *
 * One sender writes as fast as it can over a bottleneck with a queue of one bandwidth-delay product (20 packets at least)
 * and the delay behind it; single segments, as the kernel's qdiscs would see them. Losses hit single segments of the data's
 * direction by seed and index. Each row is measured for a number of round trips, the rows without loss from their start.
 *
 *   Mbit/s   bytes read by the receiving program over the time measured
 *   util     of the bottleneck's payload rate
 *   rtx%     segments sent again of all data segments; spur% of those sent again what the receiver had already
 *   rto      timeouts
 *   queue    mean time in the bottleneck's queue, ms
 *   theory   ratio to what the theory says, where one is known: reno's and cubic's response functions
 *            (Mathis et al. 1997: mss/rtt * sqrt(3/2p); RFC 9438 section 5.1), where less than the link's rate
 *   share    of the first flow, where two share the bottleneck
 *
 * Rows with 100M are the cells of the comparison with the kernel's bbr: 100 Mbit/s, a queue of at least 64 frames, 15 s. A row
 * that is asked for by words with commas between them ("bbr ,100M") is every row that has them.
 *
 * What must hold besides: util >= 0.9 without loss or reordering and with a queue that is not shallow (bbr, which drains and
 * probes: 0.85; dctcp at 100 ms, which begins anew from half its window: 0.75); shares of equals within 40:60.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

#define MTU      1500u
#define MSS      1448.0 /* with timestamps */
#define RATE     2500000ull /* bytes/s: 20 Mbit/s */
#define ROWS_MAX 400u

enum cc { RENO, CUBIC, DCTCP, BBR, CUBICPP };
static const char *const cc_names[] = {"reno", "cubic", "dctcp", "bbr", "cubic++"};

enum queue { FIFO, DEEP, SHALLOW, CODEL, CODEL_ECN, MARK };
static const char *const queue_names[] = {"fifo", "deep", "shallow", "codel", "codel-ecn", "mark"};

struct scenario {
    char name[48];
    enum cc cc, second; /* second: of another flow, if two */
    enum queue queue;
    uint32_t rtt_ms, loss_ppm;
    bool reorder, two;
    uint64_t app_rate; /* bytes/s, 0: as fast as it can */
    uint64_t rate;     /* bytes/s, 0: RATE; else as the comparison with the kernel measures: 15 s, from the start */
};

struct row {
    char name[48];
    double mbit, util, rtx, spurious, queue_ms, theory, share; /* theory, share: NAN where there is none */
    uint64_t timeouts;
};

/* ---- One scenario --------------------------------------------------------------------------------------------- */

static struct tcp_config config_of(enum cc cc, enum queue queue)
{
    struct tcp_config c;

    tcp_config_defaults(&c);
    c.tcp_congestion_control = (int32_t)(cc == CUBICPP ? CUBIC : cc);
    c.tcp_hystart = cc == CUBICPP ? 2 : 1;
    c.tcp_ecn = cc == DCTCP || queue == CODEL_ECN || queue == MARK;
    c.tcp_no_metrics_save = 1;
    return c;
}

static uint64_t rate_of(const struct scenario *s)
{
    return s->rate ? s->rate : RATE;
}

static struct link_params bottleneck(const struct scenario *s)
{
    uint64_t bdp = rate_of(s) * s->rtt_ms / 1000, least = (s->rate ? 64 : 20) * MTU;
    struct link_params p = {.rate = rate_of(s), .delay_ns = s->rtt_ms * NSEC_PER_MSEC / 2, .loss_ppm = s->loss_ppm};

    bdp = bdp > least ? bdp : least;
    p.queue_bytes = (uint32_t)(s->queue == SHALLOW ? bdp / 8 + 8 * MTU : s->queue == DEEP || s->queue >= CODEL ? 4 * bdp : bdp);
    if (s->queue == CODEL || s->queue == CODEL_ECN) {
        p.codel_target_ns = 5 * NSEC_PER_MSEC;
        p.codel_interval_ns = 100 * NSEC_PER_MSEC;
        p.ecn = s->queue == CODEL_ECN;
    }
    if (s->queue == MARK) /* RFC 8257: more than a seventh of the product */
        p.mark_bytes = (uint32_t)(bdp / 5);
    if (s->reorder) {
        p.reorder_ppm = 10000;
        p.reorder_ns = s->rtt_ms * NSEC_PER_MSEC / (s->rate ? 8 : 10);
    }
    return p;
}

/* Long enough for the sawtooth to be seen, short enough for the whole table. */
static uint64_t duration(const struct scenario *s)
{
    if (s->two)
        return 60 * NSEC_PER_SEC;
    if (s->rate)
        return 15 * NSEC_PER_SEC;
    return s->rtt_ms < 20 ? 6 * NSEC_PER_SEC : s->loss_ppm >= 10000 ? 60 * NSEC_PER_SEC : 20 * NSEC_PER_SEC;
}

static struct net *build(const struct scenario *s, unsigned *ret_bottleneck)
{
    struct net *n = net_create(1, false);
    struct link_params fast = {.rate = 40 * rate_of(s)}, back = {.delay_ns = s->rtt_ms * NSEC_PER_MSEC / 2};
    unsigned middle, back_link = net_link(n, &back);

    n->now = NSEC_PER_SEC;
    *ret_bottleneck = middle = net_link(n, (const struct link_params[]){bottleneck(s)});
    for (unsigned i = 0; i < (s->two ? 2u : 1u); i++) {
        struct tcp_config c = config_of(i ? s->second : s->cc, s->queue);
        struct node *client = net_node(n, &c, MTU, false), *server = net_node(n, &c, MTU, false);
        struct flow *f;
        uint8_t access = (uint8_t)net_link(n, &fast), there[2] = {access, (uint8_t)middle}, home[1] = {(uint8_t)back_link};

        client->gso_max = 65536;
        net_route(n, client, server, 2, there);
        net_route(n, server, client, 1, home);
        f = net_flow(n, client, server);
        f->end[0].plan.bytes = 1ull << 40;
        f->end[0].plan.exact = f->end[1].plan.exact = true;
        f->start_at = i * 100 * NSEC_PER_MSEC; /* the second comes a little later */
        if (s->app_rate) {
            f->end[0].plan.burst_ns = 20 * NSEC_PER_MSEC;
            f->end[0].plan.burst_bytes = s->app_rate / 50;
        }
    }
    n->until = n->now + duration(s);
    return n;
}

static double theory_mbit(const struct scenario *s)
{
    double p = s->loss_ppm / 1e6, rtt = s->rtt_ms / 1e3 + MTU / (double)RATE, reno, cubic;

    if (s->loss_ppm == 0 || s->reorder || s->two || s->rate || s->queue != FIFO)
        return NAN;
    reno = sqrt(1.5 / p) / rtt;
    cubic = sqrt(sqrt(0.4 * 3.7 / 1.2)) * pow(rtt, 0.75) / pow(p, 0.75) / rtt; /* beta 0.7, C 0.4 */
    if (s->cc == RENO)
        return reno * MSS * 8 / 1e6;
    return s->cc == CUBIC || s->cc == CUBICPP ? (cubic > reno ? cubic : reno) * MSS * 8 / 1e6 : NAN;
}

static void measure(const struct net *n, const struct scenario *s, unsigned middle, struct row *r)
{
    const struct link *l = &n->link[middle];
    double seconds = (double)(n->until - n->begun) / 1e9, most = (double)rate_of(s) * MSS / MTU * 8 / 1e6, theory = theory_mbit(s), read = 0;
    uint64_t sent = 0, again = 0, twice = 0;

    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", s->name);
    for (unsigned i = 0; i < n->n_flows; i++) {
        const struct end *a = &n->flow[i].end[0], *b = &n->flow[i].end[1];
        struct tcp_info info = {0};

        tcp_get_info(a->node->t, a->id, n->now, &info);
        sent += info.data_segs_out;
        again += info.total_retrans;
        twice += tcp_get_counters(b->node->t)->ofo_merge + tcp_get_drops(b->node->t)[TCP_DROP_OLD_DATA];
        r->timeouts += tcp_get_counters(a->node->t)->timeouts;
        read += (double)b->read;
    }
    r->mbit = read * 8 / seconds / 1e6;
    if (s->app_rate)
        most = (double)s->app_rate * 8 / 1e6;
    r->util = r->mbit / most;
    r->rtx = sent ? 100.0 * (double)again / (double)sent : 0;
    r->spurious = again ? 100.0 * (double)twice / (double)again : 0;
    r->queue_ms = l->fates[LINK_PASSED] ? (double)l->waited_ns / (double)l->fates[LINK_PASSED] / 1e6 : 0;
    r->theory = isnan(theory) || theory > most ? NAN : r->mbit / theory;
    r->share = s->two && read > 0 ? (double)n->flow[0].end[1].read / read : NAN;
}

static bool run_row(const struct scenario *s, struct row *r)
{
    unsigned middle;
    struct net *n = build(s, &middle);
    bool ok = net_run(n);

    if (ok)
        measure(n, s, middle, r);
    else
        printf("%s: %s\n", s->name, n->failure);
    net_free(n);
    return ok;
}

/* ---- The table ------------------------------------------------------------------------------------------------ */

static void name_row(struct scenario *s)
{
    char loss[16];

    snprintf(loss, sizeof loss, "%g%%", s->loss_ppm / 1e4);
    if (s->two)
        snprintf(s->name, sizeof s->name, "%s|%s %ums %s", cc_names[s->cc], cc_names[s->second], s->rtt_ms, queue_names[s->queue]);
    else
        snprintf(s->name, sizeof s->name, "%s %ums %s %s%s%s%s", cc_names[s->cc], s->rtt_ms, loss, queue_names[s->queue],
                 s->rate ? " 100M" : "", s->reorder ? " reorder" : "", s->app_rate ? " app" : "");
}

static unsigned scenarios(struct scenario *all)
{
    static const uint32_t rtts[] = {1, 20, 66, 100}, losses[] = {0, 30, 1000, 10000, 30000};
    static const enum cc pairs[][2] = {{CUBIC, CUBIC}, {RENO, RENO}, {BBR, BBR}, {DCTCP, DCTCP}, {CUBIC, RENO}, {CUBIC, BBR}};
    unsigned n = 0;

    for (enum cc cc = RENO; cc <= CUBICPP; cc++)
        for (unsigned rtt = 0; rtt < 4; rtt++)
            for (unsigned loss = 0; loss < 5; loss++)
                for (int reorder = 0; reorder < 2; reorder++)
                    all[n++] = (struct scenario){.cc = cc, .rtt_ms = rtts[rtt], .loss_ppm = losses[loss], .reorder = reorder,
                                                 .queue = cc == DCTCP ? MARK : FIFO};
    for (enum cc cc = RENO; cc <= CUBICPP; cc++)
        for (enum queue q = DEEP; q <= CODEL_ECN; q++)
            all[n++] = (struct scenario){.cc = cc, .rtt_ms = 20, .queue = q};
    for (enum cc cc = RENO; cc <= CUBICPP; cc++)
        all[n++] = (struct scenario){.cc = cc, .rtt_ms = 66, .queue = cc == DCTCP ? MARK : FIFO, .app_rate = RATE / 5};
    for (unsigned p = 0; p < sizeof pairs / sizeof pairs[0]; p++)
        all[n++] = (struct scenario){.cc = pairs[p][0], .second = pairs[p][1], .two = true, .rtt_ms = 20,
                                     .queue = pairs[p][0] == DCTCP ? MARK : FIFO};
    for (unsigned rtt = 0; rtt < 4; rtt++)
        for (unsigned loss = 0; loss < 4; loss++)
            for (int reorder = 0; reorder < 2; reorder++)
                all[n++] = (struct scenario){.cc = BBR, .rtt_ms = rtts[rtt], .loss_ppm = losses[loss], .reorder = reorder,
                                             .queue = FIFO, .rate = 5 * RATE};
    for (unsigned i = 0; i < n; i++)
        name_row(&all[i]);
    return n;
}

static void number(char *text, size_t n, double v)
{
    snprintf(text, n, isnan(v) ? "-" : "%.2f", v);
}

static void print_row(FILE *out, const struct row *r)
{
    char theory[16], share[16];

    number(theory, sizeof theory, r->theory);
    number(share, sizeof share, r->share);
    fprintf(out, "%-34s %7.3f %5.3f %6.2f %6.1f %4" PRIu64 " %8.2f %6s %6s\n", r->name, r->mbit, r->util, r->rtx, r->spurious,
            r->timeouts, r->queue_ms, theory, share);
}

#define HEAD "%-34s %7s %5s %6s %6s %4s %8s %6s %6s\n", "scenario", "Mbit/s", "util", "rtx%", "spur%", "rto", "queue ms", "theory", "share"

/* What the table must say, whatever it said before. */
static unsigned broken_rules(const struct scenario *s, const struct row *r)
{
    unsigned n = 0;

    double least = s->cc == BBR ? 0.85 : s->cc == DCTCP && s->rtt_ms > 66 ? 0.75 : 0.9;

    if (!s->two && !s->rate && s->queue != SHALLOW && !s->loss_ppm && !s->reorder && r->util < least) {
        printf("%s: utilisation %.3f without loss, %.2f is the least\n", r->name, r->util, least);
        n++;
    }
    /* The comparison with the kernel's bbr: 0.9 of what it gets where windows do not hold it back. */
    least = s->rtt_ms <= 20 ? 0.9 : s->rtt_ms <= 66 ? 0.84 : 0.7;
    if (s->rate && r->util < least) {
        printf("%s: utilisation %.3f, %.2f is the least\n", r->name, r->util, least);
        n++;
    }
    if (s->two && s->cc == s->second && (r->share < 0.4 || r->share > 0.6)) {
        printf("%s: share %.2f is not within 40:60\n", r->name, r->share);
        n++;
    }
    return n;
}

static bool make(struct row *rows, struct scenario *all, unsigned *ret_n, unsigned *ret_broken)
{
    *ret_n = scenarios(all);
    *ret_broken = 0;
    for (unsigned i = 0; i < *ret_n; i++) {
        if (!run_row(&all[i], &rows[i]))
            return false;
        *ret_broken += broken_rules(&all[i], &rows[i]);
    }
    return true;
}

static void print_table(FILE *out, const struct row *rows, unsigned n)
{
    fprintf(out, HEAD);
    for (unsigned i = 0; i < n; i++)
        print_row(out, &rows[i]);
}

/* ---- Comparing ------------------------------------------------------------------------------------------------ */

static void row_text(const struct row *r, char *text, size_t n)
{
    FILE *f = fmemopen(text, n, "w");

    print_row(f, r);
    fclose(f);
    text[strcspn(text, "\n")] = 0;
}

/* The line of that scenario in the copy, without its end; false: there is none. */
static bool find_line(FILE *f, const char *name, char *line, int n)
{
    size_t len = strlen(name);

    rewind(f);
    while (fgets(line, n, f))
        if (strncmp(line, name, len) == 0 && line[len] == ' ' && line[len + strspn(line + len, " ")] >= '0' &&
            line[len + strspn(line + len, " ")] <= '9' && len + strspn(line + len, " ") >= 34) {
            line[strcspn(line, "\n")] = 0;
            return true;
        }
    return false;
}

static int compare(const char *path, const struct row *rows, unsigned n)
{
    FILE *f = fopen(path, "r");
    unsigned moved = 0, lines = 0;
    char old[200], now[200];

    if (!f) {
        perror(path);
        return 1;
    }
    for (unsigned i = 0; i < n; i++) {
        double before;

        row_text(&rows[i], now, sizeof now);
        if (!find_line(f, rows[i].name, old, sizeof old)) {
            printf("new      %s\n", now);
            moved++;
        } else if (strcmp(old, now) != 0) {
            before = strtod(old + 34, NULL);
            printf("-        %s\n+ %+6.1f%% %s\n", old, before > 0 ? 100 * (rows[i].mbit / before - 1) : 0, now);
            moved++;
        }
    }
    rewind(f);
    while (fgets(old, sizeof old, f))
        lines++;
    fclose(f);
    if (lines != n + 1)
        printf("%u lines in %s, %u are expected\n", lines, path, n + 1);
    if (moved || lines != n + 1)
        printf("%u of %u rows moved; if that is meant: goodput --update %s\n", moved, n, path);
    return moved || lines != n + 1;
}

/* ---- Pacing --------------------------------------------------------------------------------------------------- */

/* A clean link that is faster than anything; the rate is that of the payload. */
static int pacing(void)
{
    static const double mbits[] = {1, 3, 10, 30, 100, 300, 1000};
    int bad = 0;

    for (unsigned i = 0; i < sizeof mbits / sizeof mbits[0]; i++)
        for (enum cc cc = RENO; cc <= CUBIC; cc++) {
            struct net *n = net_create(1, false);
            struct link_params fast = {.rate = 10000000000ull / 8, .delay_ns = NSEC_PER_MSEC};
            struct tcp_config c = config_of(cc, FIFO);
            uint64_t rate = (uint64_t)(mbits[i] * 1e6 / 8);
            struct node *a, *b;
            struct flow *f;
            uint8_t there = (uint8_t)net_link(n, &fast), back = (uint8_t)net_link(n, &fast);
            double seconds, error;

            c.tcp_wmem_default = c.tcp_wmem_max = 4 << 20; /* the gate is to be all that holds */
            c.tcp_rmem_default = c.tcp_rmem_max = 6 << 20;
            a = net_node(n, &c, MTU, false);
            b = net_node(n, &c, MTU, false);
            a->gso_max = 65536;
            net_route(n, a, b, 1, &there);
            net_route(n, b, a, 1, &back);
            f = net_flow(n, a, b);
            f->end[0].plan.bytes = rate + 100000;
            f->end[0].plan.exact = f->end[1].plan.exact = true;
            f->end[0].plan.max_pacing_rate = rate;
            f->end[1].plan.mark_at = 50000; /* the first ten segments go as they come, as Linux's */
            n->now = NSEC_PER_SEC;
            n->until = n->now + 3 * NSEC_PER_SEC;
            if (!net_run(n))
                printf("%s\n", n->failure);
            seconds = (double)(f->end[1].last_read_at - f->end[1].marked_at) / 1e9;
            error = (double)(f->end[1].read - f->end[1].marked) / seconds / (double)rate - 1;
            printf("pacing %-5s %6.0f Mbit/s: %9.3f, error %+.2f %%\n", cc_names[cc], mbits[i],
                   (double)(f->end[1].read - f->end[1].marked) * 8 / seconds / 1e6, 100 * error);
            bad += !(error < 0.05 && error > -0.05);
            net_free(n);
        }
    return bad != 0;
}

/* The row of that name, or all that have the words between commas: "bbr ,100M". */
static int some(struct scenario *all, const char *name)
{
    unsigned n = scenarios(all), shown = 0;
    bool words = strchr(name, ',') != NULL;

    for (unsigned i = 0; i < n; i++) {
        char copy[100], *rest, *word;
        bool is = words || strcmp(all[i].name, name) == 0;
        struct row r;

        snprintf(copy, sizeof copy, "%s", name);
        for (word = words ? strtok_r(copy, ",", &rest) : NULL; word && is; word = strtok_r(NULL, ",", &rest))
            is = strstr(all[i].name, word) != NULL;
        if (!is || !run_row(&all[i], &r))
            continue;
        if (!shown++)
            fprintf(stdout, HEAD);
        print_row(stdout, &r);
        fflush(stdout);
    }
    if (!shown)
        printf("no such row\n");
    return shown ? 0 : 2;
}

int main(int argc, char **argv)
{
    static struct scenario all[ROWS_MAX];
    static struct row rows[ROWS_MAX];
    unsigned n, broken;
    int status;

    if (argc == 2 && strcmp(argv[1], "--pacing") == 0)
        return pacing();
    if (argc == 3 && strcmp(argv[1], "--row") == 0)
        return some(all, argv[2]);
    if (argc != 1 && !(argc == 3 && (strcmp(argv[1], "--check") == 0 || strcmp(argv[1], "--update") == 0))) {
        fprintf(stderr, "usage: goodput [--check FILE | --update FILE | --row NAME | --pacing]\n");
        return 2;
    }
    if (!make(rows, all, &n, &broken))
        return 1;
    if (argc == 1) {
        print_table(stdout, rows, n);
        return 0;
    }
    if (strcmp(argv[1], "--update") == 0) {
        FILE *f = fopen(argv[2], "w");

        if (!f) {
            perror(argv[2]);
            return 1;
        }
        print_table(f, rows, n);
        return fclose(f) ? 1 : 0;
    }
    status = compare(argv[2], rows, n);
    return status || broken ? 1 : 0;
}
