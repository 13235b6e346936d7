/*
 * daemon/tap.h: the TAP device: opened by name or inherited, virtio-net header and offloads negotiated, frames read
 * into chunks and written from header and slices.
 */
#ifndef TAUT_DAEMON_TAP_H
#define TAUT_DAEMON_TAP_H

#include "daemon/config.h"
#include "daemon/daemon.h"

struct tap {
    int fd;
    char name[16];
    int ifindex;
    uint8_t host_mac[STACK_MAC_BYTES]; /* the kernel's end */
    uint16_t mtu;
    struct stack_offload offload;
    struct chunk_pool *pool;
    struct chunk *rx[3]; /* one small, two big: what the next frame is read into */
    uint8_t *spare;      /* read into instead when there are no chunks */
};

/* 0, or -errno with a sentence in ret_error. Sets up offloads; does not bring the interface up. */
int tap_open(struct tap *tap, const struct daemon_config *config, char *ret_error, size_t error_bytes);
void tap_close(struct tap *tap);
/* 0 or -ENOMEM. */
int tap_attach_pool(struct tap *tap, struct chunk_pool *pool);

enum tap_read_result {
    TAP_READ_FRAME,
    TAP_READ_WITHOUT_CHUNK, /* a frame too */
    TAP_READ_EMPTY,
    TAP_READ_GONE,
    TAP_READ_ERROR
};
/*
 * Reads one frame into rx; its slices point into chunks that tap_read_done() takes back. Without chunks they have none
 * (the stack copies what it keeps or drops it), so that acknowledgements, which free chunks, still come in.
 */
enum tap_read_result tap_read(struct tap *tap, struct stack_rx *rx);
/* After stack_input(): chunks that it adopted are replaced at the next read. */
void tap_read_done(struct tap *tap);
/* One writev. 0 or -errno. */
int tap_write(struct tap *tap, const struct stack_tx *tx);

#endif
