/*
 * sock/past.c: claims of connections in TIME-WAIT whose socket is gone.
 *
 * A server that closes first leaves thousands of them, and all that bind() has to know of each is which address and
 * port of ours it holds, and whether it was bound and with SO_REUSEADDR. So all that agree in this share one claim
 * (struct sock_past), by whose number (from 1) their TIME-WAIT entries are marked in the engine, which counts:
 *
 *     a claim lives as long as tcp_tw_marked(number) > 0
 *
 * Found by port; those that are over are freed where they are met, or by sock_past_collect(), one at a time. Pure
 * book-keeping, as bind.c, which calls it.
 */
#include "sock/sock_priv.h"

static struct sock_past *past_of(const struct socks *ss, uint32_t number)
{
    return &ss->past[number - 1];
}

/* Takes those of a port that are over out of its chain. */
static void prune(struct socks *ss, uint16_t port)
{
    uint32_t *at = &ss->past_first[port];

    while (*at) {
        uint32_t number = *at;
        struct sock_past *p = past_of(ss, number);

        if (tcp_tw_marked(ss->tcp, number)) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        *p = (struct sock_past){.next = ss->past_free};
        ss->past_free = number;
    }
}

/* 0: no memory. */
static uint32_t past_new(struct socks *ss)
{
    uint32_t number = ss->past_free;

    if (number) {
        ss->past_free = past_of(ss, number)->next;
        return number;
    }
    if (ss->n_past == ss->past_size) {
        uint32_t size = ss->past_size ? 2 * ss->past_size : 16;
        struct sock_past *more = realloc(ss->past, size * sizeof *more);

        if (!more)
            return 0;
        ss->past = more;
        ss->past_size = size;
    }
    return ++ss->n_past;
}

static uint32_t past_for(struct socks *ss, const struct sock_bind *b)
{
    uint16_t port = b->tuple.local_port;
    uint32_t number;

    for (number = ss->past_first[port]; number; number = past_of(ss, number)->next) {
        const struct sock_past *p = past_of(ss, number);

        if (p->reuse == b->reuse && p->bound == b->bound && ip_addr_eq(&p->local, &b->tuple.local))
            return number;
    }
    number = past_new(ss);
    if (!number)
        return 0;
    *past_of(ss, number) = (struct sock_past){.local = b->tuple.local,
                                              .port = port,
                                              .reuse = b->reuse,
                                              .bound = b->bound,
                                              .used = true,
                                              .next = ss->past_first[port]};
    ss->past_first[port] = number;
    return number;
}

bool sock_past_take(struct socks *ss, const struct sock_bind *b)
{
    struct tcp_info info;
    uint32_t number;

    /* An orphan has its own claim; of a socket that knew of its end, TIME-WAIT goes on under another id. */
    if (tcp_get_info(ss->tcp, b->conn, ss->now, &info) == 0 && info.state != TCP_STATE_TIME_WAIT &&
        info.state != TCP_STATE_CLOSE)
        return false;
    number = past_for(ss, b);
    return number && tcp_tw_mark(ss->tcp, &b->tuple, number) == 0;
}

const struct sock_past *sock_past_of_port(struct socks *ss, uint16_t port, const struct sock_past *after)
{
    uint32_t next;

    if (!after)
        prune(ss, port);
    next = after ? after->next : ss->past_first[port];
    return next ? past_of(ss, next) : NULL;
}

void sock_past_collect(struct socks *ss)
{
    if (!ss->n_past)
        return;
    if (++ss->past_at > ss->n_past)
        ss->past_at = 1;
    if (past_of(ss, ss->past_at)->used)
        prune(ss, past_of(ss, ss->past_at)->port);
}
