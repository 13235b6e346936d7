/*
 * daemon/witness.c: see witness.h. The compiler may not move the stores across the selector's, and the call comes after
 * both: SIGKILL stops between instructions, so program order is all that is needed.
 */
#include "daemon/witness.h"

#include <errno.h>
#include <string.h>

static struct mmsghdr *prepare(struct witness *w, const struct msghdr *msg, uint64_t at)
{
    uint32_t next = w->selector + 1 ? w->selector + 1 : 2;
    struct mmsghdr *call = &w->slot[next & 1].call;

    call->msg_hdr = *msg;
    call->msg_len = 0;
    w->slot[next & 1].at = at;
    __atomic_store_n(&w->selector, next, __ATOMIC_SEQ_CST);
    return call;
}

ssize_t witness_recv(struct witness *w, int fd, const struct msghdr *msg, uint64_t at)
{
    struct mmsghdr *call = prepare(w, msg, at);

    return recvmmsg(fd, call, 1, MSG_DONTWAIT, NULL) == 1 ? (ssize_t)call->msg_len : -errno;
}

ssize_t witness_send(struct witness *w, int fd, const struct msghdr *msg, uint64_t at)
{
    struct mmsghdr *call = prepare(w, msg, at);

    return sendmmsg(fd, call, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? (ssize_t)call->msg_len : -errno;
}

bool witness_last(const struct witness *w, uint64_t *ret_at, uint32_t *ret_bytes)
{
    uint32_t selector = __atomic_load_n(&w->selector, __ATOMIC_SEQ_CST);

    if (!selector)
        return false;
    *ret_at = w->slot[selector & 1].at;
    *ret_bytes = w->slot[selector & 1].call.msg_len;
    return true;
}

void witness_forget(struct witness *w)
{
    __atomic_store_n(&w->selector, 0, __ATOMIC_SEQ_CST);
}
