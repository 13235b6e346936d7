/*
 * daemon/netlink.h: rtnetlink by libmnl: sets up the kernel's end of the TAP, and follows its state.
 */
#ifndef TAUT_DAEMON_NETLINK_H
#define TAUT_DAEMON_NETLINK_H

#include "daemon/config.h"
#include "daemon/daemon.h"

struct netlink_link {
    int ifindex;
    bool up; /* IFF_UP and IFF_LOWER_UP */
    bool gone;
    uint16_t mtu;
};

/* Opens a socket that hears link changes. NULL with errno. */
struct netlink *netlink_open(void);
void netlink_close(struct netlink *nl);
int netlink_fd(const struct netlink *nl);
/* Up, MTU, queue length, addresses of the kernel's end, as the configuration says. 0, or -errno with a sentence. */
int netlink_setup_host(int ifindex, const struct daemon_config *config, char *ret_error, size_t error_bytes);
/* The next change of a link that waits on the socket; false: none now. */
bool netlink_next_link(struct netlink *nl, struct netlink_link *ret);
/* Asks for the present state of one link; the answer comes as netlink_next_link(). */
int netlink_ask_link(struct netlink *nl, int ifindex);

#endif
