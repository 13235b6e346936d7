/*
 * client/example.c: a worked example of libtaut: an echo server for one connection after the other.
 *
 *     taut-example 7777        listens on port 7777 of the stack until it is interrupted
 *
 * What comes out of libtaut are ordinary descriptors: read, write, poll and close are the system's own.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <taut.h>

/* Sends back what comes until the peer has finished; false if the connection broke. */
static int echo(int fd)
{
    char buf[16384];
    ssize_t n;

    while ((n = read(fd, buf, sizeof buf)) > 0) {
        for (ssize_t done = 0, w; done < n; done += w) {
            w = write(fd, buf + done, (size_t)(n - done));
            if (w < 0)
                return 0;
        }
    }
    return n == 0;
}

int main(int argc, char **argv)
{
    struct taut_accepted who;
    struct taut *t;
    unsigned port;
    int listener, fd;

    if (argc != 2 || sscanf(argv[1], "%u", &port) != 1 || port < 1 || port > 65535) {
        fprintf(stderr, "usage: taut-example PORT\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, into a pipe too */
    t = taut_open(NULL);
    if (!t) {
        perror("no tautd");
        return 3;
    }
    listener = taut_listen(t, NULL, (uint16_t)port, 16);
    if (listener < 0) {
        fprintf(stderr, "%s\n", taut_error(t));
        return 1;
    }
    while ((fd = taut_accept(listener, &who)) >= 0) {
        printf("%s from %s\n", who.id, who.peer);
        if (!echo(fd))
            printf("%s broke\n", who.id);
        close(fd);
    }
    fprintf(stderr, "listener: %s\n", strerror(-fd));
    taut_close(t);
    return 1;
}
