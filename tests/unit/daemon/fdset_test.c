/*
 * daemon/fdset.c: events reach their watch and nobody else: not one that ended while its event was fetched, not one that
 * took over its slot, also when the table grows meanwhile.
 */
#include "net.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#define MANY 500

struct end {
    struct fdwatch watch;
    struct end *victim; /* ends it when it hears something */
    struct end *heir;   /* is added in the victim's place */
    struct fdset *set;
    unsigned heard, events;
    int other; /* the far end */
};

static void on_event(struct fdwatch *self, uint32_t events, uint64_t now)
{
    struct end *e = list_entry(self, struct end, watch);

    (void)now;
    e->heard++;
    e->events |= events;
    if (!e->victim)
        return;
    fdset_del(&e->victim->watch);
    if (e->heir)
        assert_int_equal(fdset_add(e->set, &e->heir->watch), 0);
    e->victim = NULL;
}

static void make(struct end *e, struct fdset *set)
{
    int fd[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    *e = (struct end){.watch = {.fd = fd[0], .ready = on_event}, .set = set, .other = fd[1]};
}

static void end(struct end *e)
{
    fdset_del(&e->watch);
    fdset_del(&e->watch); /* safe to repeat */
    close(e->watch.fd);
    close(e->other);
}

static void run(struct ev_loop *loop)
{
    for (int i = 0; i < 20; i++)
        ev_run(loop, EVRUN_NOWAIT);
}

static void test_edges(void **state)
{
    struct ev_loop *loop = ev_default_loop(0);
    struct fdset *set = fdset_new(loop, -1);
    struct end e;

    (void)state;
    make(&e, set);
    assert_int_equal(fdset_add(set, &e.watch), 0);
    run(loop);
    assert_int_equal(e.heard, 1); /* writable; unread data would not tell twice */
    assert_int_equal(e.events, EPOLLOUT);
    assert_int_equal(write(e.other, "x", 1), 1);
    run(loop);
    assert_int_equal(e.heard, 2);
    assert_true(e.events & EPOLLIN);
    shutdown(e.other, SHUT_WR);
    run(loop);
    assert_true(e.events & EPOLLRDHUP);
    assert_false(e.events & EPOLLHUP);
    fdset_del(&e.watch);
    e.heard = 0;
    assert_int_equal(write(e.watch.fd, "x", 1), 1);
    close(e.other);
    run(loop);
    assert_int_equal(e.heard, 0);
    close(e.watch.fd);
    fdset_free(set);
}

/* Both have an event in one batch; whichever comes first ends the other and puts a third into its slot. */
static void test_stale_event(void **state)
{
    struct ev_loop *loop = ev_default_loop(0);
    struct fdset *set = fdset_new(loop, -1);
    struct end a, b, heir;

    (void)state;
    make(&a, set);
    make(&b, set);
    make(&heir, set);
    assert_int_equal(fdset_add(set, &a.watch), 0);
    assert_int_equal(fdset_add(set, &b.watch), 0);
    run(loop);
    a.heard = b.heard = 0;
    a.victim = &b;
    b.victim = &a;
    a.heir = b.heir = &heir;
    assert_int_equal(write(a.other, "x", 1), 1);
    assert_int_equal(write(b.other, "x", 1), 1);
    ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(a.heard + b.heard, 1); /* the second event is stale */
    assert_int_equal(heir.heard, 0);        /* and not the heir's */
    assert_int_equal(heir.watch.slot, a.heard ? b.watch.slot : a.watch.slot);
    run(loop);
    assert_int_equal(heir.events, EPOLLOUT);
    end(&a);
    end(&b);
    end(&heir);
    fdset_free(set);
}

static void test_growth(void **state)
{
    struct ev_loop *loop = ev_default_loop(0);
    struct fdset *set = fdset_new(loop, -1);
    struct end *e = calloc(MANY, sizeof *e);
    struct rlimit limit;

    (void)state;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < MANY; i++) {
        make(&e[i], set);
        assert_int_equal(fdset_add(set, &e[i].watch), 0);
        for (int k = 0; k < i; k += 37)
            assert_int_not_equal(e[k].watch.slot, e[i].watch.slot);
    }
    for (int i = 0; i < MANY; i += 2) { /* every second one goes and comes back */
        fdset_del(&e[i].watch);
        assert_int_equal(fdset_add(set, &e[i].watch), 0);
    }
    run(loop);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(e[i].heard, 1);
        assert_int_equal(write(e[i].other, "x", 1), 1);
    }
    run(loop);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(e[i].heard, 2);
        end(&e[i]);
    }
    free(e);
    fdset_free(set);
}

static void test_bad_descriptor(void **state)
{
    struct ev_loop *loop = ev_default_loop(0);
    struct fdset *set = fdset_new(loop, -1);
    struct fdwatch bad = {.fd = -1, .ready = on_event};

    (void)state;
    assert_int_equal(fdset_add(set, &bad), -EBADF);
    fdset_del(&bad);
    fdset_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_stale_event),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_bad_descriptor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
