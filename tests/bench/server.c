/*
 * tests/bench/server.c: the server of scripts/bench: echo, discard, chargen, and one that closes first (theory of
 * operation).
 *
 *     bench_server [-n NETNS] [-t DIRECTORY]
 *
 * One program whether its connections are sockets of the kernel or, with -t, descriptors of the tautd there (on the
 * ports + 7000, because taut's own services have the others): one thread, level-triggered epoll, and a new connection is
 * read at once. cubic on every socket of the kernel. It runs until it is killed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <taut.h>

#include "tool.h"

#define FILES       1048576
#define ACCEPT_TURN 64
#define READ_BYTES  262144
#define WRITE_BYTES 131072

static const uint16_t ports[] = {ECHO_PORT, DISCARD_PORT, CLOSING_PORT, CHARGEN_PORT};
static uint16_t service[FILES]; /* of each descriptor */
static bool listens[FILES];
static int epoll;
static bool on_taut;
static char buffer[READ_BYTES];

static void watch(int fd, uint16_t port, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};

    if (fd >= FILES || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0)
        fail("epoll_ctl");
    service[fd] = port;
}

static int kernel_listener(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* what is accepted has both, too */
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 65535) != 0)
        fail("listen");
    return fd;
}

static int taut_listener(struct taut *t, uint16_t port)
{
    int fd = taut_listen(t, NULL, (uint16_t)(port + TAUT_PORT_ADD), 65535);

    if (fd < 0) {
        fprintf(stderr, "taut_listen: %s\n", taut_error(t));
        exit(1);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* False: the connection is over. */
static bool send_pattern(int fd)
{
    ssize_t n = send(fd, buffer, WRITE_BYTES, MSG_NOSIGNAL | MSG_DONTWAIT);

    return n >= 0 || errno == EAGAIN;
}

static bool serve(int fd)
{
    ssize_t n;

    if (service[fd] == CHARGEN_PORT)
        return send_pattern(fd);
    n = recv(fd, buffer, READ_BYTES, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    if (service[fd] == ECHO_PORT) {
        ssize_t sent = send(fd, buffer, (size_t)n, MSG_NOSIGNAL);

        return sent == n;
    }
    return true;
}

static void take(int listener)
{
    for (int i = 0; i < ACCEPT_TURN; i++) {
        int fd = on_taut ? taut_accept(listener, NULL) : accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            return;
        if (service[listener] == CLOSING_PORT) {
            close(fd);
            continue;
        }
        service[fd] = service[listener];
        if (serve(fd))
            watch(fd, service[listener], service[listener] == CHARGEN_PORT ? EPOLLOUT : EPOLLIN);
        else
            close(fd);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event e[64];
    struct taut *t = NULL;
    int option;

    while ((option = getopt(argc, argv, "n:t:")) > 0) {
        if (option == 'n')
            enter_net(optarg);
        else if (option == 't')
            on_taut = true, t = taut_open(optarg);
        else
            return 2;
    }
    if (on_taut && !t)
        fail("tautd");
    many_files();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < sizeof ports / sizeof *ports; i++) {
        int fd = on_taut ? taut_listener(t, ports[i]) : kernel_listener(ports[i]);

        watch(fd, ports[i], EPOLLIN);
        listens[fd] = true;
    }
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll, e, 64, -1);

        for (int i = 0; i < n; i++) {
            int fd = e[i].data.fd;

            if (listens[fd])
                take(fd);
            else if (!serve(fd))
                close(fd);
        }
    }
}
