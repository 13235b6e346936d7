/*
 * tcp/listen.c: listeners. A listener owns nothing but its name, its place and two counts; half-open entries
 * (request.c) and connections that nobody has accepted yet name it by number:
 *
 *     accept_queue = number of connections with in_accept_queue that name it = length of unaccepted
 */
#include "tcp/tcp_priv.h"

int tcp_listen(struct tcp *t, const struct tcp_listen_args *args, uint32_t *ret_listener)
{
    uint32_t most = (uint32_t)t->config->somaxconn;
    struct tcp_listener *l;

    list_for_each(node, &t->listeners[args->port % 64])
    {
        l = list_entry(node, struct tcp_listener, link);
        if (l->port == args->port && ip_addr_eq(&l->addr, &args->addr))
            return -EADDRINUSE;
    }
    l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->addr = args->addr;
    l->port = args->port;
    l->user = args->user;
    l->backlog = args->backlog < most ? args->backlog : most;
    list_init(&l->unaccepted);
    list_init(&l->fastopen_rst);
    /* Without TCP_FASTOPEN where the configuration says so for all listeners. */
    if ((t->config->tcp_fastopen & TFO_SERVER_WO_SOCKOPT1) && (t->config->tcp_fastopen & TFO_SERVER_ENABLE))
        l->fastopen_max_qlen = l->backlog;
    tcp_listener_add(t, l);
    t->n_listeners++;
    *ret_listener = l->number;
    return 0;
}

/* inet_csk_listen_stop() */
void tcp_listen_close(struct tcp *t, uint32_t listener, uint64_t now)
{
    struct tcp_listener *l = tcp_listener_by_number(t, listener);
    struct list_node *node;

    if (!l)
        return;
    tcp_req_listener_closed(t, l, now);
    while ((node = list_first(&l->unaccepted)) != NULL)
        tcp_disconnect(t, list_entry(node, struct tcp_conn, listener_link), TCP_CAUSE_RST_LISTENER_CLOSED,
                       now);
    tcp_fastopen_listener_closed(l);
    tcp_md5_listener_closed(t, l);
    tcp_listener_remove(l);
    t->n_listeners--;
    free(l);
}

int tcp_listen_set_backlog(struct tcp *t, uint32_t listener, uint32_t backlog)
{
    struct tcp_listener *l = tcp_listener_by_number(t, listener);
    uint32_t most = (uint32_t)t->config->somaxconn;

    if (!l)
        return -ENOENT;
    l->backlog = backlog < most ? backlog : most;
    return 0;
}

/* Linux's secs_to_retrans(): the number of SYN-ACK timeouts that begin within so many seconds. */
static uint8_t defer_accept(const struct tcp *t, int32_t seconds)
{
    int64_t step = t->config->tcp_rto_initial / 1000, most = t->config->tcp_rto_max / 1000, period;
    unsigned n = 1;

    if (seconds <= 0)
        return 0;
    step = step > 0 ? step : 1;
    for (period = step; seconds > period && n < UINT8_MAX; n++) {
        step = 2 * step < most ? 2 * step : most;
        period += step;
    }
    return (uint8_t)n;
}

static int set_fastopen(struct tcp *t, struct tcp_listener *l, int32_t value)
{
    if (value < 0)
        return -EINVAL;
    l->fastopen_max_qlen =
        (uint32_t)value < (uint32_t)t->config->somaxconn ? (uint32_t)value : (uint32_t)t->config->somaxconn;
    return 0;
}

/* Values are those of tcp_set_opt(): a receive buffer is doubled, as Linux does. */
int tcp_listen_set_opt(struct tcp *t, uint32_t listener, enum tcp_opt opt, int32_t value)
{
    struct tcp_listener *l = tcp_listener_by_number(t, listener);
    uint32_t doubled = value < 0 ? 0 : value > INT32_MAX / 2 ? INT32_MAX : (uint32_t)value * 2;

    if (!l)
        return -ENOENT;
    if (opt == TCP_OPT_MAXSEG) {
        if (value != 0 && (value < (int32_t)TCP_MIN_MSS || value > (int32_t)TCP_MAX_WINDOW))
            return -EINVAL;
        l->user_mss = (uint16_t)value;
    } else if (opt == TCP_OPT_RCVBUF) {
        l->rcvbuf = doubled > 2304 ? doubled : 2304; /* SOCK_MIN_RCVBUF */
    } else if (opt == TCP_OPT_FASTOPEN) {
        return set_fastopen(t, l, value);
    } else if (opt == TCP_OPT_FASTOPEN_NO_COOKIE) {
        l->fastopen_no_cookie = value != 0;
    } else if (opt == TCP_OPT_DEFER_ACCEPT) {
        l->defer_accept = defer_accept(t, value);
    } else if (opt == TCP_OPT_CONGESTION) {
        if (value < 0 || !cc_name((unsigned)value))
            return -EINVAL;
        l->cc = (uint8_t)(value + 1);
    }
    return 0;
}

void tcp_listen_accepted(struct tcp *t, uint32_t listener)
{
    struct tcp_listener *l = tcp_listener_by_number(t, listener);
    struct list_node *node = l ? list_pop(&l->unaccepted) : NULL;
    struct tcp_conn *c;

    if (!node)
        return;
    c = list_entry(node, struct tcp_conn, listener_link);
    c->in_accept_queue = false;
    tcp_rec_call(t, c, TCP_REC_CALL_ACCEPT, 0, 0, 0, 0, tcp_rec_time_of(t));
    l->accept_queue--;
    tcp_mark_dirty(t, c);
}

int tcp_listen_info(const struct tcp *t, uint32_t listener, struct tcp_listen_info *ret)
{
    const struct tcp_listener *l = tcp_listener_by_number(t, listener);

    if (!l)
        return -ENOENT;
    *ret = (struct tcp_listen_info){
        .addr = l->addr,
        .port = l->port,
        .backlog = l->backlog,
        .accept_queue = l->accept_queue,
        .half_open = l->half_open,
        .user = l->user,
    };
    return 0;
}
