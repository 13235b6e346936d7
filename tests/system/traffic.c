/*
 * tests/system/traffic.c: the two ends of tests/system/compare (theory of operation).
 *
 *     traffic receive ADDRESS PORT N SECONDS
 *     traffic send ADDRESS PORT N SECONDS PAUSE kernel|taut:DIRECTORY CONGESTION [RATE]
 *
 * The receiver listens on N ports from PORT on and takes one connection on each. A flow's clock starts when it is
 * accepted and runs for SECONDS; what came by then is its goodput, from the first byte of slow start on. Then it is
 * reset: nothing is waited for. Bytes are counted, not copied (MSG_TRUNC). One JSON object at the end: bytes of each
 * flow, and of each tenth of a second.
 *
 * The sender connects N times, PAUSE microseconds apart (a handshake takes a round trip: without a pause the bursts
 * of all flows would come at once), and keeps every connection full from a thread of its own, with the same calls
 * whether they are sockets of the kernel or descriptors of libtaut. CONGESTION is set by name on a socket of the kernel;
 * on a connection of taut too, which is to confirm it. RATE: SO_MAX_PACING_RATE in bytes a second. It ends when all
 * flows were reset, or SECONDS + 15 are over. One JSON object at the end: of each flow its congestion control and what
 * tcp_info told last.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <taut.h>

#define FLOWS_MAX 64
#define BINS_MAX  2000 /* of a tenth of a second */
#define BLOCK     65536

static struct flow {
    int listener, fd;
    double begun;
    unsigned long long bytes;
    unsigned bin[BINS_MAX]; /* bytes */
    char id[TAUT_ID_MAX], congestion[16];
    struct tcp_info info;
    bool done;
} flow[FLOWS_MAX];
static unsigned n_flows;
static int epoll_fd;

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int fd, uint32_t events, unsigned i)
{
    struct epoll_event e = {.events = events, .data.u32 = i};

    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0)
        fail("epoll_ctl");
}

static struct sockaddr_in at(const char *address, unsigned port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    if (inet_pton(AF_INET, address, &sa.sin_addr) != 1)
        fail(address);
    return sa;
}

/* ---- receive
 * ---------------------------------------------------------------------------------------------------- */

static void listen_all(const char *address, unsigned port)
{
    for (unsigned i = 0; i < n_flows; i++) {
        struct sockaddr_in sa = at(address, port + i);
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 4) != 0)
            fail("listen");
        flow[i].listener = fd;
        flow[i].fd = -1;
        watch(fd, EPOLLIN, i);
    }
    printf("ready\n");
    fflush(stdout);
}

static void take(unsigned i)
{
    struct flow *f = &flow[i];
    int fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK);

    if (fd < 0)
        return;
    f->begun = now();
    f->fd = fd;
    close(f->listener);
    watch(fd, EPOLLIN, i);
}

static void finish(struct flow *f)
{
    struct linger hard = {1, 0};

    setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(f->fd);
    f->done = true;
}

static void swallow(struct flow *f, double seconds)
{
    static char nothing[1];
    ssize_t n = recv(f->fd, nothing, 4 << 20, MSG_TRUNC);
    double age = now() - f->begun;

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        fprintf(stderr, "a flow ended after %.3f s: %s\n", age, n ? strerror(errno) : "end of stream");
        finish(f);
    } else if (n > 0 && age < seconds) {
        f->bytes += (unsigned long long)n;
        f->bin[age * 10 < BINS_MAX ? (unsigned)(age * 10) : BINS_MAX - 1] += (unsigned)n;
    }
}

static int receive(const char *address, unsigned port, double seconds)
{
    double give_up = now() + seconds + 20;
    unsigned left = n_flows;

    listen_all(address, port);
    while (left && now() < give_up) {
        struct epoll_event e[64];
        int n = epoll_wait(epoll_fd, e, 64, 20);

        for (int k = 0; k < n; k++) {
            struct flow *f = &flow[e[k].data.u32];

            if (f->fd < 0)
                take(e[k].data.u32);
            else if (!f->done)
                swallow(f, seconds);
        }
        left = 0;
        for (unsigned i = 0; i < n_flows; i++) {
            if (flow[i].fd >= 0 && !flow[i].done && now() - flow[i].begun >= seconds)
                finish(&flow[i]);
            left += !flow[i].done;
        }
    }
    printf("{\"seconds\":%g,\"flows\":[", seconds);
    for (unsigned i = 0; i < n_flows; i++) {
        printf("%s{\"bytes\":%llu,\"begun\":%.6f,\"bins\":[", i ? "," : "", flow[i].bytes, flow[i].begun);
        for (unsigned b = 0; b < seconds * 10 && b < BINS_MAX; b++)
            printf("%s%u", b ? "," : "", flow[i].bin[b]);
        printf("]}");
    }
    printf("]}\n");
    return left ? 1 : 0;
}

/* ---- send
 * ------------------------------------------------------------------------------------------------------- */

static int connect_kernel(struct flow *f, const char *address, unsigned port, const char *congestion,
                          unsigned long rate)
{
    struct sockaddr_in sa = at(address, port);
    socklen_t bytes = sizeof f->congestion;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)) != 0)
        fail(congestion);
    if (rate && setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate) != 0)
        fail("SO_MAX_PACING_RATE");
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0)
        fail("connect");
    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, f->congestion, &bytes);
    return fd;
}

static int connect_taut(struct taut *t, struct flow *f, const char *address, unsigned port,
                        const char *congestion, unsigned long rate)
{
    int fd = taut_connect(t, address, (uint16_t)port, NULL, f->id);
    char params[160], *result = NULL, wanted[64];

    if (fd < 0) {
        fprintf(stderr, "taut_connect: %s\n", taut_error(t));
        exit(1);
    }
    snprintf(params, sizeof params, "{\"id\":\"%s\",\"option\":\"congestion\",\"value\":\"%s\"}", f->id,
             congestion);
    snprintf(wanted, sizeof wanted, "\"%s\"", congestion);
    if (taut_call(t, "conn.set", params, &result, NULL) < 0 || !strstr(result, wanted)) {
        fprintf(stderr, "conn.set: %s\n", result ? result : taut_error(t));
        exit(1);
    }
    free(result);
    snprintf(f->congestion, sizeof f->congestion, "%.15s", congestion);
    snprintf(params, sizeof params, "{\"id\":\"%s\",\"option\":\"max_pacing_rate\",\"value\":%lu}", f->id,
             rate);
    if (rate && taut_call(t, "conn.set", params, &result, NULL) < 0) {
        fprintf(stderr, "conn.set: %s\n", taut_error(t));
        exit(1);
    }
    return fd;
}

static struct {
    const char *address, *stack, *congestion;
    unsigned port;
    useconds_t pause;
    unsigned long rate;
} to;

/* One flow, from its connection to its reset. */
static void *send_one(void *arg)
{
    static const char block[BLOCK];
    struct flow *f = arg;
    unsigned i = (unsigned)(f - flow);
    bool taut = strncmp(to.stack, "taut:", 5) == 0;
    struct taut *t = taut ? taut_open(to.stack + 5) : NULL;
    ssize_t n;

    if (taut && !t)
        fail(to.stack);
    usleep(to.pause * i);
    f->fd = t ? connect_taut(t, f, to.address, to.port + i, to.congestion, to.rate)
              : connect_kernel(f, to.address, to.port + i, to.congestion, to.rate);
    while ((n = send(f->fd, block, sizeof block, MSG_NOSIGNAL)) > 0) {
        struct tcp_info info;
        socklen_t bytes = sizeof info;

        f->bytes += (unsigned long long)n;
        if (!t && getsockopt(f->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
            info.tcpi_state == 1 /* ESTABLISHED */)
            f->info = info;
    }
    close(f->fd);
    taut_close(t);
    return NULL;
}

static void report_sent(struct taut *t)
{
    char *stats = NULL;

    printf("{\"flows\":[");
    for (unsigned i = 0; i < n_flows; i++) {
        const struct tcp_info *x = &flow[i].info;

        printf("%s{\"congestion\":\"%s\",\"bytes\":%llu", i ? "," : "", flow[i].congestion, flow[i].bytes);
        if (!flow[i].id[0])
            printf(",\"rtt\":%u,\"cwnd\":%u,\"retrans\":%u,\"reordering\":%u,\"reord_seen\":%u,\"dsack_"
                   "dups\":%u,"
                   "\"rwnd_limited\":%llu,\"sndbuf_limited\":%llu",
                   x->tcpi_rtt, x->tcpi_snd_cwnd, x->tcpi_total_retrans, x->tcpi_reordering,
                   x->tcpi_reord_seen, x->tcpi_dsack_dups, (unsigned long long)x->tcpi_rwnd_limited,
                   (unsigned long long)x->tcpi_sndbuf_limited);
        printf("}");
    }
    if (t && taut_call(t, "stats.get", NULL, &stats, NULL) == 0)
        printf("],\"stats\":%s}\n", stats);
    else
        printf("]}\n");
    free(stats);
}

static int send_all(double seconds)
{
    pthread_t thread[FLOWS_MAX];
    struct timespec end;
    struct taut *t = strncmp(to.stack, "taut:", 5) == 0 ? taut_open(to.stack + 5) : NULL;
    int status = 0;

    for (unsigned i = 0; i < n_flows; i++) {
        if (pthread_create(&thread[i], NULL, send_one, &flow[i]) != 0)
            fail("thread");
    }
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += (time_t)seconds + 15;
    for (unsigned i = 0; i < n_flows; i++)
        status |= pthread_timedjoin_np(thread[i], NULL, &end) != 0;
    report_sent(t);
    taut_close(t);
    return status;
}

int main(int argc, char **argv)
{
    bool to_send = argc >= 9 && argc <= 10 && strcmp(argv[1], "send") == 0;

    if (!to_send && !(argc == 6 && strcmp(argv[1], "receive") == 0)) {
        fprintf(stderr,
                "usage: traffic receive ADDRESS PORT N SECONDS\n"
                "       traffic send ADDRESS PORT N SECONDS PAUSE kernel|taut:DIRECTORY CONGESTION [RATE]\n");
        return 2;
    }
    n_flows = (unsigned)atoi(argv[4]);
    if (n_flows < 1 || n_flows > FLOWS_MAX || atof(argv[5]) <= 0 || atof(argv[5]) > BINS_MAX / 10) {
        fprintf(stderr, "traffic: 1 to %d flows, up to %d seconds\n", FLOWS_MAX, BINS_MAX / 10);
        return 2;
    }
    if (to_send) {
        to.address = argv[2];
        to.port = (unsigned)atoi(argv[3]);
        to.pause = (useconds_t)atoi(argv[6]);
        to.stack = argv[7];
        to.congestion = argv[8];
        to.rate = argc == 10 ? strtoul(argv[9], NULL, 10) : 0;
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (to_send)
        return send_all(atof(argv[5]));
    return receive(argv[2], (unsigned)atoi(argv[3]), atof(argv[5]));
}
