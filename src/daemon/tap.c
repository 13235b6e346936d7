/*
 * daemon/tap.c: the TAP device (theory of operation).
 *
 * With IFF_VNET_HDR each frame begins with a virtio-net header, by which the kernel hands over super-frames of up to
 * 64 KiB uncut and with partial checksums, and takes the same (TUN_F_CSUM, TSO4, TSO6, TSO_ECN). What the kernel does
 * not offer is left out step by step; without any of it plain frames are used.
 *
 * A frame is read by one readv() into three chunks: a small one (2 KiB: all headers, and an MTU-sized frame whole) and
 * two big ones. The stack adopts chunks by reference; tap_read_done() gives up ours for those that it kept, and the next
 * read takes new ones. So a small frame costs a small chunk, and no frame is copied to be kept. Where no frame can be
 * larger than the small one it is read alone.
 *
 * When the pool is spent, frames are read into memory of our own and offered without a chunk: a TAP that is not read
 * would keep the very acknowledgements outside that free chunks.
 *
 * Invariant: between two reads each rx[i] is NULL or a chunk with exactly our one reference.
 */
#include "daemon/tap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define VNET_HDR_BYTES 12
#define ETHER_BYTES_MAX 18 /* with a VLAN tag */
#define SPARE_BYTES (CHUNK_SMALL_BYTES + 2 * CHUNK_BIG_BYTES)
#define TUN_PATH "/dev/net/tun"

static int fail(char *ret_error, size_t bytes, int error, const char *what, const char *name)
{
    snprintf(ret_error, bytes, "%s (interface %s): %s", what, name, strerror(error));
    return -error;
}

/* Offloads are asked for from all to none; what is accepted is noted. */
static void negotiate_offload(struct tap *tap, bool wanted)
{
    static const unsigned tries[] = {TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
                                     TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, TUN_F_CSUM, 0};
    int hdr_bytes = VNET_HDR_BYTES;

    if (!tap->offload.vnet_hdr)
        return;
    tap->offload.vnet_hdr_bytes = ioctl(tap->fd, TUNSETVNETHDRSZ, &hdr_bytes) == 0 ? VNET_HDR_BYTES : 10;
    for (size_t i = wanted ? 0 : 3; i < sizeof tries / sizeof *tries; i++) {
        if (ioctl(tap->fd, TUNSETOFFLOAD, (unsigned long)tries[i]) != 0)
            continue;
        tap->offload.csum = tries[i] & TUN_F_CSUM;
        tap->offload.tso4 = tries[i] & TUN_F_TSO4;
        tap->offload.tso6 = tries[i] & TUN_F_TSO6;
        tap->offload.tso_ecn = tries[i] & TUN_F_TSO_ECN;
        return;
    }
}

/* Interface index, MAC and MTU of the kernel's end. */
static int read_link(struct tap *tap, char *ret_error, size_t error_bytes)
{
    struct ifreq ifr = {0};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sock < 0)
        return fail(ret_error, error_bytes, errno, "cannot make a socket to ask for the interface", tap->name);
    memcpy(ifr.ifr_name, tap->name, IFNAMSIZ);
    if (ioctl(sock, SIOCGIFINDEX, &ifr) != 0)
        goto failed;
    tap->ifindex = ifr.ifr_ifindex;
    if (ioctl(sock, SIOCGIFMTU, &ifr) != 0)
        goto failed;
    tap->mtu = (uint16_t)(ifr.ifr_mtu > 65535 ? 65535 : ifr.ifr_mtu);
    if (ioctl(sock, SIOCGIFHWADDR, &ifr) != 0)
        goto failed;
    memcpy(tap->host_mac, ifr.ifr_hwaddr.sa_data, STACK_MAC_BYTES);
    close(sock);
    return 0;
failed:;
    int error = errno;

    close(sock);
    return fail(ret_error, error_bytes, error, "cannot read the interface's index, MTU or MAC", tap->name);
}

/* An inherited descriptor: it must be a TAP without packet information. */
static int attach_fd(struct tap *tap, int fd, char *ret_error, size_t error_bytes)
{
    struct ifreq ifr = {0};

    if (ioctl(fd, TUNGETIFF, &ifr) != 0)
        return fail(ret_error, error_bytes, errno, "interface.fd is no TAP descriptor", "?");
    memcpy(tap->name, ifr.ifr_name, IFNAMSIZ);
    tap->name[IFNAMSIZ - 1] = '\0';
    if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_NO_PI))
        return fail(ret_error, error_bytes, EINVAL, "interface.fd must be a TAP (not TUN) with IFF_NO_PI", tap->name);
    tap->offload.vnet_hdr = ifr.ifr_flags & IFF_VNET_HDR;
    tap->fd = fd;
    return 0;
}

static int open_by_name(struct tap *tap, const struct daemon_config *config, char *ret_error, size_t error_bytes)
{
    struct ifreq ifr = {0};
    int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return fail(ret_error, error_bytes, errno, "cannot open " TUN_PATH " (root or CAP_NET_ADMIN is needed)",
                    config->ifname);
    snprintf(ifr.ifr_name, IFNAMSIZ, "%s", config->ifname);
    ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | (config->offload ? IFF_VNET_HDR : 0));
    if (ioctl(fd, TUNSETIFF, &ifr) != 0) {
        int error = errno;

        close(fd);
        return fail(ret_error, error_bytes, error,
                    error == EBUSY ? "cannot attach: another process holds it" : "cannot make or attach to the TAP",
                    config->ifname);
    }
    memcpy(tap->name, ifr.ifr_name, IFNAMSIZ);
    tap->name[IFNAMSIZ - 1] = '\0';
    tap->offload.vnet_hdr = config->offload;
    tap->fd = fd;
    return 0;
}

int tap_open(struct tap *tap, const struct daemon_config *config, char *ret_error, size_t error_bytes)
{
    int r;

    memset(tap, 0, sizeof *tap);
    tap->fd = -1;
    r = config->tap_fd >= 0 ? attach_fd(tap, config->tap_fd, ret_error, error_bytes)
                            : open_by_name(tap, config, ret_error, error_bytes);
    if (r < 0)
        return r;
    if (fcntl(tap->fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(tap->fd, F_SETFD, FD_CLOEXEC) != 0)
        return fail(ret_error, error_bytes, errno, "cannot make the TAP non-blocking", tap->name);
    negotiate_offload(tap, config->offload);
    return read_link(tap, ret_error, error_bytes);
}

void tap_close(struct tap *tap)
{
    for (int i = 0; i < 3; i++) {
        if (tap->rx[i])
            chunk_unref(tap->pool, tap->rx[i]);
        tap->rx[i] = NULL;
    }
    free(tap->spare);
    tap->spare = NULL;
    if (tap->fd >= 0)
        close(tap->fd);
    tap->fd = -1;
}

int tap_attach_pool(struct tap *tap, struct chunk_pool *pool)
{
    tap->pool = pool;
    if (!tap->spare)
        tap->spare = malloc(SPARE_BYTES);
    return tap->spare ? 0 : -ENOMEM;
}

/* Chunks that the largest frame can need. If the MTU grows meanwhile a frame is cut off, and lost like any other. */
static int rx_chunks(const struct tap *tap)
{
    bool super = tap->offload.tso4 || tap->offload.tso6;

    return !super && VNET_HDR_BYTES + ETHER_BYTES_MAX + (unsigned)tap->mtu <= CHUNK_SMALL_BYTES ? 1 : 3;
}

static bool have_rx_chunks(struct tap *tap, int n)
{
    for (int i = 0; i < n; i++) {
        if (!tap->rx[i])
            tap->rx[i] = chunk_alloc(tap->pool, i == 0 ? CHUNK_SMALL_BYTES : CHUNK_BIG_BYTES);
        if (!tap->rx[i])
            return false;
    }
    return true;
}

static enum tap_read_result read_failed(int error)
{
    if (error == EAGAIN || error == EINTR)
        return TAP_READ_EMPTY;
    /* EBADFD: the interface was deleted under us. */
    return error == EBADFD || error == ENODEV ? TAP_READ_GONE : TAP_READ_ERROR;
}

static enum tap_read_result read_spare(struct tap *tap, struct stack_rx *rx)
{
    ssize_t n;

    n = read(tap->fd, tap->spare, SPARE_BYTES);
    if (n < 0)
        return read_failed(errno);
    rx->slice[0] = (struct tcp_slice){.data = tap->spare, .len = (uint32_t)n};
    rx->n_slices = 1;
    return TAP_READ_WITHOUT_CHUNK;
}

enum tap_read_result tap_read(struct tap *tap, struct stack_rx *rx)
{
    int chunks = rx_chunks(tap);
    struct iovec iov[3];
    ssize_t n;

    if (!have_rx_chunks(tap, chunks))
        return read_spare(tap, rx);
    for (int i = 0; i < chunks; i++) {
        iov[i].iov_base = tap->rx[i]->data;
        iov[i].iov_len = tap->rx[i]->size;
    }
    n = chunks == 1 ? read(tap->fd, iov[0].iov_base, iov[0].iov_len) : readv(tap->fd, iov, chunks);
    if (n < 0)
        return read_failed(errno);
    rx->n_slices = 0;
    for (int i = 0; i < chunks && n > 0; i++) {
        size_t part = (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

        rx->slice[rx->n_slices++] =
            (struct tcp_slice){.data = tap->rx[i]->data, .len = (uint32_t)part, .chunk = tap->rx[i]};
        n -= (ssize_t)part;
    }
    return TAP_READ_FRAME;
}

void tap_read_done(struct tap *tap)
{
    for (int i = 0; i < 3; i++) {
        if (tap->rx[i] && tap->rx[i]->refs > 1) {
            chunk_unref(tap->pool, tap->rx[i]);
            tap->rx[i] = NULL;
        }
    }
}

int tap_write(struct tap *tap, const struct stack_tx *tx)
{
    struct iovec iov[1 + TCP_SLICES_MAX];
    int n = 1;

    iov[0].iov_base = (void *)(uintptr_t)tx->header;
    iov[0].iov_len = tx->header_bytes;
    for (unsigned i = 0; i < tx->n_slices; i++, n++) {
        iov[n].iov_base = (void *)(uintptr_t)tx->slice[i].data;
        iov[n].iov_len = tx->slice[i].len;
    }
    ssize_t r = n == 1 ? write(tap->fd, iov[0].iov_base, iov[0].iov_len) : writev(tap->fd, iov, n);

    if (r < 0)
        return -errno;
    return (size_t)r == tx->frame_bytes ? 0 : -EIO;
}
