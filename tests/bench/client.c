/*
 * tests/bench/client.c: the one client of scripts/bench, on sockets of the kernel whatever is measured (theory of
 * operation).
 *
 *     bench_client [-n NETNS] [-s SOURCE/COUNT] [-r REQUEST] out|in ADDRESS PORT CONNECTIONS SECONDS
 *     bench_client ... connect|echo ADDRESS PORT THREADS SECONDS      connections a second
 *     bench_client ... rtt ADDRESS PORT 1 SECONDS                     1 byte there and back
 *     bench_client ... hold|closed ADDRESS PORT CONNECTIONS SECONDS   memory: see below
 *
 * `out` reads what the peer sends, `in` writes; both for a third of SECONDS unmeasured, then for SECONDS. What went in is
 * what was acknowledged (tcp_info), not what lies in the send buffer. One connection is served by blocking calls, more by
 * epoll. -r: this is sent first; a connection that ends is made again (downloads from an HTTP server).
 * `connect` connects and closes without waiting for the peer's FIN, `echo` has a byte echoed between. The clock stops when
 * a byte was echoed on one connection more: a server accepts in order, so it has served all before. Sources rotate over
 * SOURCE and the COUNT - 1 addresses after it, so that TIME-WAIT does not use up the ports.
 * `hold` makes CONNECTIONS, says so and holds them until its stdin ends; `closed` makes them one after the other, waits
 * for the peer to close, then closes: the peer has the TIME-WAIT.
 *
 * cubic on every socket: where the kernel's default is BBR it paces. Busy time is the whole machine's, from /proc/stat.
 * One JSON object at the end.
 */
#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tool.h"

#define WRITE_BYTES   131072
#define READ_BYTES    262144
#define FLOWS_MAX     1024
#define THREADS_MAX   128
#define SAMPLES_MAX   2000000
#define PATIENCE_SECS 1 /* a call that blocks longer is a stall: the rate tells */

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static struct {
    struct sockaddr_in to;
    const char *request, *mode;
    uint32_t source, sources;
    unsigned n;
    double seconds;
} a;
static char buffer[READ_BYTES], congestion[16];
static atomic_uint next_source;

/* What /proc/stat says of the machine, in ticks. */
struct ticks {
    unsigned long long busy, steal;
};

static struct ticks ticks(void)
{
    unsigned long long v[8] = {0};
    FILE *f = fopen("/proc/stat", "r");

    if (!f || fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6],
                     &v[7]) != 8)
        fail("/proc/stat");
    fclose(f);
    return (struct ticks){v[0] + v[1] + v[2] + v[5] + v[6], v[7]};
}

static double since(uint64_t at)
{
    return (double)(now_ns() - at) / 1e9;
}

static double ticks_s(unsigned long long n)
{
    return (double)n / (double)sysconf(_SC_CLK_TCK);
}

static int new_socket(void)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t bytes = sizeof congestion;
    struct timeval patience = {PATIENCE_SECS, 0};

    if (fd < 0)
        fail("socket");
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) != 0)
        fail("TCP_CONGESTION cubic");
    if (!congestion[0])
        getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &bytes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (a.sources) {
        uint32_t k = atomic_fetch_add_explicit(&next_source, 1, memory_order_relaxed) % a.sources;
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(a.source + k)};

        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
            fail("bind");
    }
    return fd;
}

/* Connected, or -1. */
static int connected(void)
{
    int fd = new_socket();

    if (connect(fd, (struct sockaddr *)&a.to, sizeof a.to) == 0)
        return fd;
    close(fd);
    return -1;
}

static void reset(int fd)
{
    struct linger hard = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

/* ---- Bulk ------------------------------------------------------------------------------------------------------ */

static int flow[FLOWS_MAX];
static unsigned long long moved; /* read; or acknowledged on connections that are over */

static int flow_open(void)
{
    int fd = connected();

    if (fd < 0)
        fail("connect");
    if (a.request && write(fd, a.request, strlen(a.request)) < 0)
        fail("request");
    return fd;
}

static unsigned long long acked_total(void)
{
    unsigned long long sum = 0;

    for (unsigned i = 0; i < a.n; i++) {
        struct tcp_info info = {0};
        socklen_t bytes = sizeof info;

        if (getsockopt(flow[i], IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0)
            sum += info.tcpi_bytes_acked;
    }
    return sum;
}

/* One call on one flow; false if it would have blocked (or did for too long). */
static bool flow_step(unsigned i, bool out)
{
    ssize_t n = out ? recv(flow[i], buffer, READ_BYTES, 0) : send(flow[i], buffer, WRITE_BYTES, MSG_NOSIGNAL);

    if (n > 0) {
        moved += out ? (unsigned long long)n : 0;
        return true;
    }
    if (n == 0 && out && a.request) {
        close(flow[i]);
        flow[i] = flow_open();
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n == 0)
        errno = ECONNRESET;
    fail(out ? "recv" : "send");
    return false;
}

/* Until `end`, all flows as they are ready. */
static void flows_run(int epoll, bool out, uint64_t end)
{
    struct epoll_event e[64];

    if (a.n == 1) {
        while (now_ns() < end)
            flow_step(0, out);
        return;
    }
    while (now_ns() < end) {
        int n = epoll_wait(epoll, e, 64, 20);

        for (int k = 0; k < n; k++)
            flow_step(e[k].data.u32, out);
    }
}

static int bulk(bool out)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    unsigned long long bytes;
    struct ticks before, after;
    uint64_t began;
    double took;

    for (unsigned i = 0; i < a.n; i++) {
        struct epoll_event e = {.events = out ? EPOLLIN : EPOLLOUT, .data.u32 = i};

        flow[i] = flow_open();
        if (a.n > 1 && (fcntl(flow[i], F_SETFL, O_NONBLOCK) != 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, flow[i], &e) != 0))
            fail("epoll");
    }
    flows_run(epoll, out, now_ns() + (uint64_t)(a.seconds / 3 * 1e9));
    before = ticks();
    began = now_ns();
    bytes = out ? moved : acked_total();
    flows_run(epoll, out, began + (uint64_t)(a.seconds * 1e9));
    bytes = (out ? moved : acked_total()) - bytes;
    took = since(began);
    after = ticks();
    for (unsigned i = 0; i < a.n; i++)
        reset(flow[i]);
    printf("{\"gbit_s\":%.6f,\"ns_per_byte\":%.4f,\"steal_s\":%.3f,\"congestion\":\"%s\"}\n", (double)bytes * 8 / took / 1e9,
           bytes ? ticks_s(after.busy - before.busy) * 1e9 / (double)bytes : 0.0, ticks_s(after.steal - before.steal),
           congestion);
    return 0;
}

/* ---- Connections a second -------------------------------------------------------------------------------------- */

static atomic_bool stopping;
static atomic_ullong made, failed;

static bool one_echo(int fd)
{
    char x = 'x';

    return write(fd, &x, 1) == 1 && read(fd, &x, 1) == 1;
}

/* Until the server has served all that came so far. */
static void caught_up(void)
{
    struct timeval patience = {20, 0};
    int fd = connected();

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 || !one_echo(fd))
        fail("a byte echoed");
    close(fd);
}

static void *connect_loop(void *arg)
{
    bool with_echo = strcmp(a.mode, "echo") == 0;

    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
        int fd = connected();
        bool good = fd >= 0 && (!with_echo || one_echo(fd));

        if (fd >= 0)
            close(fd);
        atomic_fetch_add_explicit(good ? &made : &failed, 1, memory_order_relaxed);
    }
    return arg;
}

static void connect_for(double seconds)
{
    pthread_t thread[THREADS_MAX];

    stopping = false;
    made = failed = 0;
    for (unsigned i = 0; i < a.n; i++) {
        if (pthread_create(&thread[i], NULL, connect_loop, NULL) != 0)
            fail("thread");
    }
    usleep((useconds_t)(seconds * 1e6));
    stopping = true;
    for (unsigned i = 0; i < a.n; i++)
        pthread_join(thread[i], NULL);
    caught_up();
}

static int connects(void)
{
    struct ticks before, after;
    uint64_t began;
    double took;

    connect_for(a.seconds / 4);
    before = ticks();
    began = now_ns();
    connect_for(a.seconds);
    took = since(began);
    after = ticks();
    printf("{\"per_s\":%.1f,\"failed\":%llu,\"steal_s\":%.3f,\"congestion\":\"%s\"}\n", (double)made / took,
           (unsigned long long)failed, ticks_s(after.steal - before.steal), congestion);
    return 0;
}

/* ---- Round trips ------------------------------------------------------------------------------------------------- */

static uint32_t *sample;

static int by_value(const void *x, const void *y)
{
    uint32_t p = *(const uint32_t *)x, q = *(const uint32_t *)y;

    return (p > q) - (p < q);
}

static int round_trips(void)
{
    int fd = connected();
    uint64_t began = now_ns();
    unsigned long n = 0;

    sample = calloc(SAMPLES_MAX, sizeof *sample);
    if (fd < 0 || !sample)
        fail("connect");
    while (since(began) < a.seconds * 4 / 3 && n < SAMPLES_MAX) {
        uint64_t t = now_ns();

        if (!one_echo(fd))
            fail("echo");
        if (since(began) > a.seconds / 3)
            sample[n++] = (uint32_t)(now_ns() - t);
    }
    close(fd);
    if (n == 0) {
        errno = ETIMEDOUT;
        fail("no round trip");
    }
    qsort(sample, n, sizeof *sample, by_value);
    printf("{\"p50_us\":%.2f,\"p99_us\":%.2f,\"samples\":%lu,\"congestion\":\"%s\"}\n", sample[n / 2] / 1e3,
           sample[n - 1 - n / 100] / 1e3, n, congestion);
    return 0;
}

/* ---- Connections to be weighed ----------------------------------------------------------------------------------- */

static int hold(void)
{
    unsigned good = 0;
    char x;

    for (unsigned i = 0; i < a.n; i++)
        good += connected() >= 0;
    printf("{\"made\":%u}\n", good);
    fflush(stdout);
    while (read(0, &x, 1) > 0)
        ;
    return 0;
}

static int closed_by_peer(void)
{
    unsigned good = 0;
    char x;

    for (unsigned i = 0; i < a.n; i++) {
        int fd = connected();

        good += fd >= 0 && read(fd, &x, 1) == 0;
        if (fd >= 0)
            close(fd);
    }
    printf("{\"made\":%u}\n", good);
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: bench_client [-n NETNS] [-s SOURCE/COUNT] [-r REQUEST]\n"
                    "       out|in|connect|echo|rtt|hold|closed ADDRESS PORT N SECONDS\n");
    return 2;
}

int main(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "n:s:r:")) > 0) {
        char *slash = option == 's' ? strchr(optarg, '/') : NULL;

        if (option == 'n') {
            enter_net(optarg);
        } else if (option == 'r') {
            a.request = optarg;
        } else if (slash) {
            *slash = '\0';
            a.source = ntohl(inet_addr(optarg));
            a.sources = (uint32_t)atoi(slash + 1);
        } else {
            return usage();
        }
    }
    if (argc - optind != 5)
        return usage();
    argv += optind;
    a.mode = argv[0];
    a.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(argv[1])};
    a.to.sin_port = htons((uint16_t)atoi(argv[2]));
    a.n = (unsigned)atoi(argv[3]);
    a.seconds = atof(argv[4]);
    many_files();
    if (strcmp(a.mode, "hold") == 0)
        return hold();
    if (strcmp(a.mode, "closed") == 0)
        return closed_by_peer();
    if (a.n < 1 || a.n > FLOWS_MAX || a.seconds <= 0)
        return usage();
    if (strcmp(a.mode, "out") == 0 || strcmp(a.mode, "in") == 0)
        return bulk(a.mode[0] == 'o');
    if ((strcmp(a.mode, "connect") == 0 || strcmp(a.mode, "echo") == 0) && a.n <= THREADS_MAX)
        return connects();
    return strcmp(a.mode, "rtt") == 0 ? round_trips() : usage();
}
