/*
 * daemon/fdset.c: an edge-triggered epoll set (theory of operation).
 *
 * epoll's data is {slot, generation}, never a pointer: a watch may end while events for it lie in the batch just fetched;
 * its slot's generation has moved on then, and the event is dropped. Invariant: slots[i].watch is NULL or a watch whose
 * set is this one and whose slot is i.
 */
#include "daemon/fdset.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64
#define SLOTS_MAX (1u << 20)

struct slot {
    struct fdwatch *watch;
    uint32_t generation;
    uint32_t next_free;
};

struct fdset {
    struct ev_loop *loop;
    ev_io io;
    int epoll_fd;
    bool own;
    struct slot *slots;
    uint32_t n_slots, free_slot; /* free_slot == n_slots: none */
};

static void fdset_cb(struct ev_loop *loop, ev_io *io, int revents)
{
    struct fdset *set = io->data;
    struct epoll_event events[BATCH];
    int n = epoll_wait(set->epoll_fd, events, BATCH, 0);
    uint64_t now = daemon_now();

    (void)loop, (void)revents;
    for (int i = 0; i < n; i++) {
        uint32_t index = (uint32_t)events[i].data.u64;
        uint32_t generation = (uint32_t)(events[i].data.u64 >> 32);
        struct slot *s = index < set->n_slots ? &set->slots[index] : NULL;

        if (s && s->watch && s->generation == generation)
            s->watch->ready(s->watch, events[i].events, now);
    }
}

struct fdset *fdset_new(struct ev_loop *loop, int epoll_fd)
{
    struct fdset *set = calloc(1, sizeof *set);

    if (!set)
        return NULL;
    set->loop = loop;
    set->own = epoll_fd < 0;
    set->epoll_fd = set->own ? epoll_create1(EPOLL_CLOEXEC) : epoll_fd;
    if (set->epoll_fd < 0) {
        free(set);
        return NULL;
    }
    ev_io_init(&set->io, fdset_cb, set->epoll_fd, EV_READ);
    set->io.data = set;
    ev_io_start(loop, &set->io);
    return set;
}

int fdset_fd(const struct fdset *set)
{
    return set->epoll_fd;
}

void fdset_free(struct fdset *set)
{
    if (!set)
        return;
    ev_io_stop(set->loop, &set->io);
    if (set->own)
        close(set->epoll_fd);
    free(set->slots);
    free(set);
}

static int grow(struct fdset *set)
{
    uint32_t n = set->n_slots ? set->n_slots * 2 : 64;
    struct slot *slots = realloc(set->slots, n * sizeof *slots);

    if (!slots)
        return -ENOMEM;
    /* The free ones end with n_slots: the new ones go on from there. */
    for (uint32_t i = set->n_slots; i < n; i++)
        slots[i] = (struct slot){.next_free = i + 1};
    set->slots = slots;
    set->n_slots = n;
    return 0;
}

/* Out of the free list, which begins with lower numbers by chance only. */
static void take_slot(struct fdset *set, uint32_t index)
{
    uint32_t *at = &set->free_slot;

    while (*at != index && *at != set->n_slots)
        at = &set->slots[*at].next_free;
    if (*at == index)
        *at = set->slots[index].next_free;
}

int fdset_adopt(struct fdset *set, struct fdwatch *w, uint32_t slot, uint32_t generation)
{
    while (slot >= set->n_slots)
        if (slot >= SLOTS_MAX || grow(set) < 0)
            return -ENOMEM;
    if (set->slots[slot].watch)
        return -EEXIST;
    take_slot(set, slot);
    set->slots[slot].watch = w;
    set->slots[slot].generation = generation;
    w->set = set;
    w->slot = slot;
    return 0;
}

int fdset_add(struct fdset *set, struct fdwatch *w)
{
    uint32_t slot, generation;

    return fdset_add_as(set, w, &slot, &generation);
}

int fdset_add_as(struct fdset *set, struct fdwatch *w, uint32_t *ret_slot, uint32_t *ret_generation)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};

    if (set->free_slot == set->n_slots && grow(set) < 0)
        return -ENOMEM;
    uint32_t index = set->free_slot;
    struct slot *s = &set->slots[index];

    event.data.u64 = (uint64_t)s->generation << 32 | index;
    *ret_slot = index;
    *ret_generation = s->generation;
    /* A dead process may have watched it without having said so. */
    if (epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, w->fd, &event) != 0 &&
        (errno != EEXIST || epoll_ctl(set->epoll_fd, EPOLL_CTL_MOD, w->fd, &event) != 0))
        return -errno;
    set->free_slot = s->next_free;
    s->watch = w;
    w->set = set;
    w->slot = index;
    return 0;
}

void fdset_del(struct fdwatch *w)
{
    struct fdset *set = w->set;

    if (!set)
        return;
    epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    struct slot *s = &set->slots[w->slot];

    s->watch = NULL;
    s->generation++;
    s->next_free = set->free_slot;
    set->free_slot = w->slot;
    w->set = NULL;
}
