/*
 * cli/capture.c: `taut capture`: frames of the daemon's interface into a pcapng file. The daemon sends whole blocks on a
 * descriptor (capture.open); they are written as they come, until the count, the time or an interrupt ends it.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

#define BLOCK_MAX (1u << 20)
#define LAG_BYTES 8192

struct options {
    const char *out, *host;
    long count, seconds, port, snaplen; /* 0: no limit */
};

static double clock_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint32_t word(const uint8_t *b, size_t at)
{
    uint32_t v;

    memcpy(&v, b + at, 4);
    return v;
}

/* More lies unread than a moment brings: what was missed behind it is not known. */
static bool lags(int fd)
{
    int unread = 0;

    return ioctl(fd, FIONREAD, &unread) == 0 && unread > LAG_BYTES;
}

/* Blocks until something ends it; the exit status. */
static int copy(struct cli *c, const struct options *o, int fd, FILE *out)
{
    static uint8_t b[BLOCK_MAX];
    double end = o->seconds ? clock_s() + (double)o->seconds : 0;
    unsigned long long frames = 0, missed = 0;
    int status = EXIT_OK;

    while (!*c->stopped && (!o->count || frames < (unsigned long long)o->count)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        double left = end > 0 ? end - clock_s() : 1;
        ssize_t n;

        if (left <= 0)
            break;
        if (poll(&p, 1, left < 1 ? (int)(left * 1000) + 1 : 1000) <= 0)
            continue;
        n = read(fd, b, sizeof b);
        if (n <= 0) {
            fprintf(stderr, "taut: the daemon ended the capture\n");
            status = EXIT_NO_DAEMON;
            break;
        }
        if (n >= 44 && word(b, 0) == 5) /* statistics: isb_ifdrop */
            memcpy(&missed, b + 36, 8);
        frames += n >= 12 && word(b, 0) == 6;
        if (fwrite(b, 1, (size_t)n, out) != (size_t)n || fflush(out) != 0) {
            fprintf(stderr, "taut: %s: %s\n", o->out, strerror(errno));
            status = EXIT_REFUSED;
            break;
        }
    }
    fprintf(stderr, "%llu frames captured, %s%llu missed\n", frames, lags(fd) ? "at least " : "", missed);
    return status;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {{"host", required_argument, NULL, 'h'}, {"port", required_argument, NULL, 'p'},
                                          {"output", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
    int opt;

    while ((opt = getopt_long(argc, argv, "o:c:t:s:p:", longs, NULL)) != -1) {
        if (opt == 'o')
            o->out = optarg;
        else if (opt == 'h')
            o->host = optarg;
        else if (opt == 'c' ? !cli_number("-c", optarg, 1, 1000000000, &o->count)
                 : opt == 't' ? !cli_number("-t", optarg, 1, 1000000, &o->seconds)
                 : opt == 's' ? !cli_number("-s", optarg, 54, 262144, &o->snaplen)
                 : opt == 'p' ? !cli_number("--port", optarg, 1, 65535, &o->port) : true)
            return false;
    }
    if (o->out && optind == argc)
        return true;
    cli_usage("capture -o FILE [-c N] [-t SECONDS] [-s BYTES] [--host ADDRESS] [--port PORT]");
    return false;
}

int cmd_capture(struct cli *c, int argc, char **argv)
{
    struct options o = {.snaplen = 262144};
    char *params, *result = NULL;
    FILE *out;
    int fd = -1, r, status;

    if (!parse(argc, argv, &o))
        return EXIT_USAGE;
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    json_t *j = json_pack("{s:I, s:I, s:s*}", "snaplen", (json_int_t)o.snaplen, "port", (json_int_t)o.port, "host", o.host);

    params = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    r = taut_call(c->t, "capture.open", params, &result, &fd);
    free(params);
    free(result);
    if (r < 0)
        return cli_failed(c, r);
    out = strcmp(o.out, "-") == 0 ? stdout : fopen(o.out, "wb");
    if (!out) {
        fprintf(stderr, "taut: %s: %s\n", o.out, strerror(errno));
        close(fd);
        return EXIT_REFUSED;
    }
    status = copy(c, &o, fd, out);
    close(fd);
    if (out != stdout && fclose(out) != 0 && status == EXIT_OK)
        status = EXIT_REFUSED;
    return status;
}
