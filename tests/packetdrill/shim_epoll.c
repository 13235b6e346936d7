/*
 * tests/packetdrill/shim_epoll.c: epoll as the kernel has it (fs/eventpoll.c): an item goes on the ready list when a
 * wake-up brings one of its bits, or when it is added or changed and one of them holds; epoll_wait() asks the socket
 * again, and puts a level-triggered item back.
 *
 * Invariant: an item is in exactly one set and watches exactly one socket; it leaves with either of them.
 */
#include <sys/epoll.h>
#include "shim_priv.h"

#define ALWAYS (EPOLLERR | EPOLLHUP)
#define MODES  (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)

static void make_ready(struct drill_item *item)
{
    if (!list_linked(&item->ready_link))
        list_add_tail(&item->set->ready, &item->ready_link);
}

static uint32_t held(const struct drill_item *item)
{
    return sock_poll(item->file->sock) & item->events & ~(uint32_t)MODES;
}

static struct drill_item *find_item(const struct drill_fd *set, const struct drill_fd *file)
{
    list_for_each(node, &set->items) {
        struct drill_item *item = list_entry(node, struct drill_item, set_link);

        if (item->file == file)
            return item;
    }
    return NULL;
}

static void free_item(struct drill_item *item)
{
    list_del(&item->set_link);
    list_del(&item->sock_link);
    list_del(&item->ready_link);
    free(item);
}

int drill_epoll_create(struct drill *d)
{
    struct drill_fd *f = drill_fd_new(d, DRILL_FD_EPOLL);

    return f ? f->number : -EMFILE;
}

static int add_item(struct drill_fd *set, struct drill_fd *file, const struct drill_epoll_event *event)
{
    struct drill_item *item = calloc(1, sizeof *item);

    if (!item)
        return -ENOMEM;
    list_init(&item->ready_link);
    item->set = set;
    item->file = file;
    item->events = event->events | ALWAYS;
    item->data = event->data;
    list_add_tail(&set->items, &item->set_link);
    list_add_tail(&file->watchers, &item->sock_link);
    if (held(item))
        make_ready(item);
    return 0;
}

int drill_epoll_ctl(struct drill *d, int epfd, int op, int fd, const struct drill_epoll_event *event)
{
    struct drill_fd *set = drill_fd_get(d, epfd, DRILL_FD_EPOLL), *file = drill_fd_get(d, fd, DRILL_FD_SOCK);
    struct drill_item *item;
    int r = 0;

    if (!set)
        return drill_fd_get(d, epfd, DRILL_FD_SOCK) ? -EINVAL : -EBADF;
    if (!file)
        return -EBADF;
    item = find_item(set, file);
    if (op == EPOLL_CTL_ADD) {
        r = item ? -EEXIST : add_item(set, file, event);
    } else if (!item) {
        r = -ENOENT;
    } else if (op == EPOLL_CTL_DEL) {
        free_item(item);
    } else if (op == EPOLL_CTL_MOD) {
        item->events = event->events | ALWAYS;
        item->data = event->data;
        if (held(item))
            make_ready(item);
    } else {
        r = -EINVAL;
    }
    drill_turn(d);
    return r;
}

void drill_epoll_wake(struct drill_fd *f, unsigned bits)
{
    list_for_each(node, &f->watchers) {
        struct drill_item *item = list_entry(node, struct drill_item, sock_link);

        if (bits & item->events & ~(uint32_t)MODES)
            make_ready(item);
    }
}

int drill_epoll_collect(struct drill_fd *set, struct drill_epoll_event *events, int max)
{
    struct list_node again;
    struct list_node *node;
    int n = 0;

    list_init(&again);
    while (n < max && (node = list_pop(&set->ready)) != NULL) {
        struct drill_item *item = list_entry(node, struct drill_item, ready_link);
        uint32_t bits = held(item);

        if (bits == 0)
            continue;
        events[n++] = (struct drill_epoll_event){.events = bits, .data = item->data};
        if (item->events & EPOLLONESHOT)
            item->events &= MODES;
        else if (!(item->events & EPOLLET))
            list_add_tail(&again, &item->ready_link);
    }
    while ((node = list_pop(&again)) != NULL)
        list_add_tail(&set->ready, node);
    return n;
}

void drill_epoll_forget(struct drill_fd *f)
{
    list_for_each_safe(node, &f->watchers)
        free_item(list_entry(node, struct drill_item, sock_link));
    list_for_each_safe(node, &f->items)
        free_item(list_entry(node, struct drill_item, set_link));
}
