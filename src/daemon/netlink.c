/*
 * daemon/netlink.c: rtnetlink by libmnl (theory of operation).
 *
 * Two uses. At the start the kernel's end of the TAP is set up by a few acknowledged requests on a socket of its own
 * (needs CAP_NET_ADMIN): MTU, queue length and IFF_UP in one RTM_NEWLINK, then one RTM_NEWADDR per address, IPv6 ones
 * without duplicate address detection, which would only cost a second on a link of two. While running, a second socket in
 * the RTNLGRP_LINK group hears RTM_NEWLINK and RTM_DELLINK; messages are taken one by one by netlink_next_link().
 */
#include "daemon/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES 32768

struct netlink {
    struct mnl_socket *sock;
    char *buf;
    const struct nlmsghdr *next; /* the next message in buf */
    int left;                    /* bytes from there on */
    uint32_t seq;
    int ifindex; /* last asked for */
};

struct netlink *netlink_open(void)
{
    struct netlink *nl = calloc(1, sizeof *nl);

    if (!nl)
        return NULL;
    nl->buf = malloc(BUFFER_BYTES);
    nl->sock = nl->buf ? mnl_socket_open2(NETLINK_ROUTE, SOCK_NONBLOCK | SOCK_CLOEXEC) : NULL;
    if (!nl->sock || mnl_socket_bind(nl->sock, RTMGRP_LINK, MNL_SOCKET_AUTOPID) < 0) {
        netlink_close(nl);
        return NULL;
    }
    return nl;
}

void netlink_close(struct netlink *nl)
{
    if (!nl)
        return;
    if (nl->sock)
        mnl_socket_close(nl->sock);
    free(nl->buf);
    free(nl);
}

int netlink_fd(const struct netlink *nl)
{
    return mnl_socket_get_fd(nl->sock);
}

int netlink_ask_link(struct netlink *nl, int ifindex)
{
    char buf[256] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

    nlh->nlmsg_type = RTM_GETLINK;
    nlh->nlmsg_flags = NLM_F_REQUEST;
    nlh->nlmsg_seq = ++nl->seq;
    nl->ifindex = ifindex;
    struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof *ifi);
    ifi->ifi_family = AF_UNSPEC;
    ifi->ifi_index = ifindex;
    return mnl_socket_sendto(nl->sock, nlh, nlh->nlmsg_len) < 0 ? -errno : 0;
}

static int link_attr(const struct nlattr *attr, void *data)
{
    struct netlink_link *ret = data;

    if (mnl_attr_get_type(attr) == IFLA_MTU && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0) {
        uint32_t mtu = mnl_attr_get_u32(attr);

        ret->mtu = (uint16_t)(mtu > 65535 ? 65535 : mtu);
    }
    return MNL_CB_OK;
}

static bool link_message(const struct nlmsghdr *nlh, struct netlink_link *ret)
{
    const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);

    if (nlh->nlmsg_type != RTM_NEWLINK && nlh->nlmsg_type != RTM_DELLINK)
        return false;
    /* A bridge tells of its ports in AF_BRIDGE: RTM_DELLINK there means that ours left it, no more. */
    if (ifi->ifi_family != AF_UNSPEC)
        return false;
    *ret = (struct netlink_link){.ifindex = ifi->ifi_index};
    ret->gone = nlh->nlmsg_type == RTM_DELLINK;
    ret->up = (ifi->ifi_flags & IFF_UP) && (ifi->ifi_flags & (1u << 16) /* IFF_LOWER_UP */);
    mnl_attr_parse(nlh, sizeof *ifi, link_attr, ret);
    return true;
}

bool netlink_next_link(struct netlink *nl, struct netlink_link *ret)
{
    for (;;) {
        while (nl->left > 0 && mnl_nlmsg_ok(nl->next, nl->left)) {
            const struct nlmsghdr *nlh = nl->next;

            nl->next = mnl_nlmsg_next(nlh, &nl->left);
            if (link_message(nlh, ret))
                return true;
        }
        ssize_t n = mnl_socket_recvfrom(nl->sock, nl->buf, BUFFER_BYTES);

        if (n < 0 && errno == ENOBUFS && nl->ifindex) { /* the kernel dropped some: the present state tells all */
            netlink_ask_link(nl, nl->ifindex);
            continue;
        }
        if (n <= 0)
            return false;
        nl->next = (const struct nlmsghdr *)(void *)nl->buf;
        nl->left = (int)n;
    }
}

/* Sends one request and waits for the kernel's acknowledgement. 0 or -errno. */
static int transact(struct mnl_socket *sock, struct nlmsghdr *nlh)
{
    static _Thread_local uint32_t seq;
    char buf[8192];
    ssize_t n;

    nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    nlh->nlmsg_seq = ++seq;
    if (mnl_socket_sendto(sock, nlh, nlh->nlmsg_len) < 0)
        return -errno;
    n = mnl_socket_recvfrom(sock, buf, sizeof buf);
    if (n < 0)
        return -errno;
    return mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(sock), NULL, NULL) < 0 ? -errno : 0;
}

static int set_link(struct mnl_socket *sock, int ifindex, const struct daemon_config *c)
{
    char buf[512] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

    nlh->nlmsg_type = RTM_NEWLINK;
    struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof *ifi);
    ifi->ifi_family = AF_UNSPEC;
    ifi->ifi_index = ifindex;
    ifi->ifi_flags = IFF_UP;
    ifi->ifi_change = IFF_UP;
    if (c->mtu)
        mnl_attr_put_u32(nlh, IFLA_MTU, c->mtu);
    if (c->txqueuelen)
        mnl_attr_put_u32(nlh, IFLA_TXQLEN, c->txqueuelen);
    return transact(sock, nlh);
}

static int add_addr(struct mnl_socket *sock, int ifindex, const struct config_prefix *p)
{
    char buf[512] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    bool v4 = p->addr.family == IP_V4;

    nlh->nlmsg_type = RTM_NEWADDR;
    nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
    struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof *ifa);
    ifa->ifa_family = v4 ? AF_INET : AF_INET6;
    ifa->ifa_prefixlen = (uint8_t)p->bits;
    ifa->ifa_index = (uint32_t)ifindex;
    ifa->ifa_flags = v4 ? 0 : IFA_F_NODAD;
    mnl_attr_put(nlh, IFA_LOCAL, v4 ? 4 : 16, p->addr.b);
    mnl_attr_put(nlh, IFA_ADDRESS, v4 ? 4 : 16, p->addr.b);
    return transact(sock, nlh);
}

int netlink_setup_host(int ifindex, const struct daemon_config *c, char *ret_error, size_t error_bytes)
{
    struct mnl_socket *sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    int r = sock && mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) == 0 ? 0 : -errno;

    if (r < 0)
        snprintf(ret_error, error_bytes, "cannot open rtnetlink: %s", strerror(-r));
    if (r == 0 && (r = set_link(sock, ifindex, c)) < 0)
        snprintf(ret_error, error_bytes, "cannot bring the kernel's end up (MTU %u): %s", c->mtu, strerror(-r));
    for (unsigned i = 0; r == 0 && i < c->n_host_addr; i++) {
        char text[IP_ADDR_TEXT_MAX];

        r = add_addr(sock, ifindex, &c->host_addr[i]);
        if (r < 0)
            snprintf(ret_error, error_bytes, "cannot give the kernel's end %s/%u: %s",
                     ip_addr_format(&c->host_addr[i].addr, text), c->host_addr[i].bits, strerror(-r));
    }
    if (sock)
        mnl_socket_close(sock);
    return r;
}
