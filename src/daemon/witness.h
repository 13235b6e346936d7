/*
 * daemon/witness.h: how many bytes a call moved, known even if the caller died in it.
 *
 * The mmsghdr given to recvmmsg() or sendmmsg() lies in memory that outlives the process, so the kernel writes msg_len
 * there before a SIGKILL can take effect. Two slots and a selector:
 *
 *     position = slot[selector].at + slot[selector].call.msg_len
 *
 * A call fills the other slot {at, msg_len 0}, stores the selector, then enters the kernel; whenever it dies, the
 * position is what the kernel did.
 */
#ifndef TAUT_DAEMON_WITNESS_H
#define TAUT_DAEMON_WITNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct witness {
    struct {
        uint64_t at;
        struct mmsghdr call;
    } slot[2];
    uint32_t selector; /* 0: no call yet; else slot[selector & 1] */
    uint32_t unused;
};

/* As recvmsg() and sendmsg() without blocking (and without SIGPIPE); bytes, or -errno. `at`: position before the call. */
ssize_t witness_recv(struct witness *w, int fd, const struct msghdr *msg, uint64_t at);
ssize_t witness_send(struct witness *w, int fd, const struct msghdr *msg, uint64_t at);
/* Bytes of the last call, and where it began; false: there was none. */
bool witness_last(const struct witness *w, uint64_t *ret_at, uint32_t *ret_bytes);
/* What the last call moved is known elsewhere, or nobody is to know it. */
void witness_forget(struct witness *w);

#endif
