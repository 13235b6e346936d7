/*
 * cli/stream.c: connect and listen in netcat's manner: standard input goes to the connection, what comes goes
 * to standard output. End of input is a half-close (FIN); the command ends when the peer has finished too. A
 * reset ends it with status 1. Ctrl-C closes the descriptors, which closes the connection.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"

#define FIRST_BYTES 4096 /* of the input, taken before the call with -f: more than a SYN carries */

struct half {
    int from, to;
    char buf[65536];
    size_t len, done;
    bool eof, ended;
};

/* One read or write of a direction, as far as it goes now. 0 or -errno. */
static int move(struct half *h, short from_events, short to_events, bool to_socket)
{
    ssize_t n;

    if (h->done < h->len && (to_events & (POLLOUT | POLLERR | POLLHUP))) {
        n = to_socket ? send(h->to, h->buf + h->done, h->len - h->done, MSG_DONTWAIT | MSG_NOSIGNAL)
                      : write(h->to, h->buf + h->done, h->len - h->done);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        h->done += (size_t)n;
    }
    if (h->done == h->len && !h->eof && (from_events & (POLLIN | POLLHUP | POLLERR))) {
        n = read(h->from, h->buf, sizeof h->buf);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        h->len = (size_t)n;
        h->done = 0;
        h->eof = n == 0;
    }
    if (h->eof && h->done == h->len && !h->ended) {
        h->ended = true;
        if (to_socket)
            shutdown(h->to, SHUT_WR);
    }
    return 0;
}

static bool wants_read(const struct half *h)
{
    return !h->eof && h->done == h->len;
}

static bool wants_write(const struct half *h)
{
    return h->done < h->len;
}

/* Until the peer has finished. input_ended: nothing more is to be sent. */
static int join(struct cli *c, int fd, bool input_ended)
{
    static struct half up, down;
    int r = 0;

    up = (struct half){.from = STDIN_FILENO, .to = fd, .eof = input_ended, .ended = input_ended};
    if (input_ended)
        shutdown(fd, SHUT_WR);
    down = (struct half){.from = fd, .to = STDOUT_FILENO};
    while (!down.ended && r == 0 && !*c->stopped) {
        struct pollfd p[3] = {
            {.fd = wants_read(&up) ? STDIN_FILENO : -1, .events = POLLIN},
            {.fd = fd,
             .events = (short)((wants_read(&down) ? POLLIN : 0) | (wants_write(&up) ? POLLOUT : 0))},
            {.fd = wants_write(&down) ? STDOUT_FILENO : -1, .events = POLLOUT},
        };

        if (poll(p, 3, -1) < 0) {
            r = errno == EINTR ? 0 : -errno;
            continue;
        }
        r = move(&down, p[1].revents, p[2].revents, false);
        if (r == 0 && !down.ended)
            r = move(&up, p[0].revents, p[1].revents, true);
        if (r == -EPIPE && !down.ended) /* the peer may have said something before */
            up.eof = up.ended = true, up.len = up.done = 0, r = 0;
    }
    close(fd);
    if (r < 0)
        fprintf(stderr, "taut: %s\n", strerror(-r));
    return r < 0 ? EXIT_REFUSED : EXIT_OK;
}

/* -f: the first input goes into the call. */
static bool first_input(struct cli *c, char *data, struct taut_connect_options *options, bool *ret_ended)
{
    ssize_t n = -1;

    errno = EINTR;
    while (n < 0 && errno == EINTR && !*c->stopped)
        n = read(STDIN_FILENO, data, FIRST_BYTES);
    if (n < 0) {
        fprintf(stderr, "taut: standard input: %s\n", strerror(errno));
        return false;
    }
    options->data = data;
    options->data_bytes = (size_t)n;
    *ret_ended = n == 0;
    return true;
}

enum { OPT_KEY_FILE = 1, OPT_PEER };
static const struct option md5_options[] = {
    {"md5-key-file", required_argument, NULL, OPT_KEY_FILE},
    {"md5-peer", required_argument, NULL, OPT_PEER},
    {0},
};

int cmd_connect(struct cli *c, int argc, char **argv)
{
    struct taut_connect_options options = {0};
    bool first = false, ended = false;
    char id[TAUT_ID_MAX] = "", data[FIRST_BYTES], key[CLI_KEY_MAX + 1];
    long port, seconds = 0;
    int o, fd;

    while ((o = getopt_long(argc, argv, "dft:b:", md5_options, NULL)) != -1) {
        if (o == 'd')
            options.nodelay = true;
        else if (o == 'f')
            first = true;
        else if (o == 'b')
            options.source = optarg;
        else if (o == OPT_KEY_FILE && !cli_key_file(optarg, key))
            return EXIT_USAGE;
        else if (o == OPT_KEY_FILE)
            options.md5_key = key;
        else if (o == OPT_PEER)
            return cli_usage("connect [--md5-key-file FILE] HOST PORT");
        else if (o == 't' && !cli_number("-t", optarg, 1, 86400, &seconds))
            return EXIT_USAGE;
        else if (o == '?')
            return EXIT_USAGE;
    }
    if (argc - optind != 2)
        return cli_usage("connect HOST PORT");
    if (!cli_number("PORT", argv[optind + 1], 1, 65535, &port))
        return EXIT_USAGE;
    options.timeout_ms = (unsigned)seconds * 1000;
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    if (first && !first_input(c, data, &options, &ended))
        return EXIT_REFUSED;
    fd = taut_connect(c->t, argv[optind], (uint16_t)port, &options, id);
    explicit_bzero(key, sizeof key);
    if (fd < 0)
        return cli_failed(c, fd);
    if (c->json)
        fprintf(stderr, "{\"id\":\"%s\"}\n", id);
    return join(c, fd, ended);
}

#define CLI_PREFIX_MAX 70

/* With a key: signed by these peers, or by everybody. */
static int listen_signed(struct cli *c, const char *address, uint16_t port, unsigned backlog, const char *key,
                         const char *peer)
{
    char text[2][CLI_KEY_MAX + CLI_PREFIX_MAX + 2];
    const char *md5[3] = {text[0], text[1], NULL};
    int fd;

    snprintf(text[0], sizeof text[0], "%s %s", peer ? peer : "0.0.0.0/0", key);
    snprintf(text[1], sizeof text[1], "::/0 %s", key);
    if (peer)
        md5[1] = NULL;
    fd = taut_listen_with(c->t, address, port, &(struct taut_listen_options){.backlog = backlog, .md5 = md5});
    explicit_bzero(text, sizeof text);
    return fd;
}

int cmd_listen(struct cli *c, int argc, char **argv)
{
    const char *address = NULL, *peer = NULL;
    char key[CLI_KEY_MAX + 1] = "";
    struct taut_accepted who;
    int o, listener, fd, status = EXIT_OK;
    bool again = false;
    long port;

    while ((o = getopt_long(argc, argv, "ka:", md5_options, NULL)) != -1) {
        again |= o == 'k';
        address = o == 'a' ? optarg : address;
        peer = o == OPT_PEER ? optarg : peer;
        if (o == '?' || (o == OPT_KEY_FILE && !cli_key_file(optarg, key)))
            return EXIT_USAGE;
    }
    if (peer && (strlen(peer) > CLI_PREFIX_MAX || strchr(peer, ' '))) { /* the key would begin at the blank */
        fprintf(stderr, "taut: --md5-peer: ADDRESS or ADDRESS/BITS is expected, as 192.0.2.0/24\n");
        return EXIT_USAGE;
    }
    if (argc - optind != 1 || (peer && !*key))
        return cli_usage("listen [--md5-key-file FILE [--md5-peer PREFIX]] PORT");
    if (!cli_number("PORT", argv[optind], 0, 65535, &port))
        return EXIT_USAGE;
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    if (*key)
        listener = listen_signed(c, address, (uint16_t)port, again ? 128 : 1, key, peer);
    else
        listener = taut_listen(c->t, address, (uint16_t)port, again ? 128 : 1);
    explicit_bzero(key, sizeof key);
    if (listener < 0)
        return cli_failed(c, listener);
    do {
        fd = taut_accept(listener, &who);
        if (fd < 0) {
            status = *c->stopped ? EXIT_OK : EXIT_NO_DAEMON;
            if (!*c->stopped)
                fprintf(stderr, "taut: the listener ended: %s\n", strerror(-fd));
            break;
        }
        if (c->json)
            fprintf(stderr, "{\"id\":\"%s\",\"peer\":\"%s\",\"local\":\"%s\"}\n", who.id, who.peer,
                    who.local);
        if (!again)
            close(listener);
        status = join(c, fd, false);
    } while (again && !*c->stopped);
    if (again)
        close(listener);
    return status;
}
