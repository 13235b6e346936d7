/*
 * sock/bind.c: who has which local address and port.
 *
 * A claim (struct sock_bind) is what Linux keeps in its bind hash: one per socket that was bound, listens, is connected
 * or was accepted. It outlives its socket while the connection lives as an orphan or in TIME-WAIT, because these
 * conflict with bind() too. Two claims on a port conflict if their addresses overlap and not both have SO_REUSEADDR
 * with the older one not listening (inet_csk_bind_conflict()). Those in TIME-WAIT whose sockets are gone are claims of
 * many at once (past.c).
 *
 * Accepted sockets share one claim per local address and SO_REUSEADDR, as they share Linux's bind bucket.
 *
 * Invariant: every claim lies in ports[its local port], shared ones first, then those with `bound`, then the others; a claim
 * without owner and sharers is in `left`. Pure book-keeping: nothing here marks a connection.
 */
#include "sock/sock_priv.h"

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct ip_addr sock_addr_unmap(const struct ip_addr *a)
{
    return a->family == IP_V6 && ip_addr_is_v4_mapped(a) ? ip_addr_v4_bytes(a->b + 12) : *a;
}

struct ip_addr sock_addr_map(const struct ip_addr *a)
{
    uint8_t b[16];

    memcpy(b, mapped_prefix, 12);
    memcpy(b + 12, a->b, 4);
    return ip_addr_v6_bytes(b, 0);
}

/* ---- Claims ---------------------------------------------------------------------------------------------------- */

/* A list begins to be one when it is first asked for: 65,536 of them would be a megabyte touched at every start. */
static struct list_node *port_claims(struct socks *ss, uint16_t port)
{
    struct list_node *list = &ss->ports[port];

    if (!list->next)
        list_init(list);
    return list;
}

static void claim_link(struct socks *ss, struct sock_bind *b)
{
    struct list_node *list = port_claims(ss, b->tuple.local_port);

    struct list_node *before = list;

    while (b->bound && before->next != list && list_entry(before->next, struct sock_bind, port_link)->sharers)
        before = before->next;
    if (b->bound)
        list_insert(&b->port_link, before, before->next);
    else
        list_add_tail(list, &b->port_link);
}

void sock_bind_free(struct sock_bind *b)
{
    list_del(&b->port_link);
    list_del(&b->left_link);
    free(b);
}

static struct sock_bind *claim_new(struct sock *s, const struct ip_tuple *tuple, bool bound)
{
    struct sock_bind *b = calloc(1, sizeof *b);

    if (!b)
        return NULL;
    list_init(&b->left_link);
    b->owner = s;
    b->tuple = *tuple;
    b->conn = s->conn;
    b->reuse = s->reuse;
    b->bound = bound;
    claim_link(s->ss, b);
    s->bind = b;
    return b;
}

/* A closed socket's connection still has its tuple: as an orphan by its id, or in TIME-WAIT under another one. */
static bool claim_alive(const struct socks *ss, const struct sock_bind *b)
{
    struct tcp_info info;

    if (b->owner || b->sharers)
        return true;
    if (b->tuple.remote_port == 0)
        return false; /* it never was a connection's */
    if (b->conn && tcp_get_info(ss->tcp, b->conn, ss->now, &info) == 0 && info.state != TCP_STATE_CLOSE)
        return true;
    return tcp_tuple_in_use(ss->tcp, &b->tuple, ss->now);
}

/* It has no owner (any more). */
static void claim_left(struct socks *ss, struct sock_bind *b)
{
    if (claim_alive(ss, b) && !sock_past_take(ss, b))
        list_add_tail(&ss->left, &b->left_link);
    else
        sock_bind_free(b);
}

/* One that was accepted goes: what is left of its connection gets a claim of its own; without memory it goes unseen. */
static void share_release(struct sock *s, struct sock_bind *b, tcp_id id)
{
    struct sock_bind probe = {.conn = id, .tuple = s->tuple, .reuse = s->reuse, .bound = b->bound}, *left = NULL;

    if (claim_alive(s->ss, &probe) && !sock_past_take(s->ss, &probe))
        left = claim_new(s, &s->tuple, b->bound);
    s->bind = NULL;
    if (left) {
        left->owner = NULL;
        left->conn = id;
        list_add_tail(&s->ss->left, &left->left_link);
    }
    if (--b->sharers == 0)
        sock_bind_free(b);
}

void sock_bind_release(struct sock *s, tcp_id id)
{
    struct sock_bind *b = s->bind;

    if (b && b->sharers) {
        share_release(s, b, id);
        return;
    }
    s->bind = NULL;
    if (!b)
        return;
    b->owner = NULL;
    claim_left(s->ss, b);
}

void sock_bind_collect(struct socks *ss, unsigned steps)
{
    sock_past_collect(ss);
    while (steps-- > 0 && !list_empty(&ss->left))
        claim_left(ss, list_entry(list_pop(&ss->left), struct sock_bind, left_link));
}

/* ---- Conflicts ------------------------------------------------------------------------------------------------- */

static bool is_wildcard(const struct ip_addr *a)
{
    return a->family == IP_NONE || ip_addr_is_unspecified(a);
}

/* inet_rcv_saddr_equal() with wildcards; a wildcard of family IP_NONE stands for both families. */
static bool addrs_overlap(const struct ip_addr *x, const struct ip_addr *y)
{
    bool same_family = x->family == y->family || x->family == IP_NONE || y->family == IP_NONE;

    return same_family && (is_wildcard(x) || is_wildcard(y) || ip_addr_eq(x, y));
}

/*
 * Does somebody else's claim on the port stand against `addr`? `relax`: SO_REUSEADDR counts (a port that the program
 * named), otherwise any overlap does (a port that is being chosen).
 */
static bool conflicts(const struct sock *s, const struct ip_addr *addr, uint16_t port, bool relax)
{
    struct socks *ss = s->ss;

    list_for_each_safe(node, port_claims(ss, port)) {
        struct sock_bind *b = list_entry(node, struct sock_bind, port_link);

        if (b == s->bind || !addrs_overlap(addr, &b->tuple.local))
            continue;
        if (relax && s->reuse && b->reuse && !b->listening)
            continue;
        if (claim_alive(ss, b))
            return true;
        sock_bind_free(b);
    }
    for (const struct sock_past *p = NULL; (p = sock_past_of_port(ss, port, p)) != NULL;)
        if (addrs_overlap(addr, &p->local) && !(relax && s->reuse && p->reuse))
            return true;
    return false;
}

bool sock_bind_may_listen(const struct sock *s)
{
    return !conflicts(s, &s->more->bind_addr, s->bind->tuple.local_port, true);
}

static void port_range(const struct socks *ss, uint32_t *ret_low, uint32_t *ret_n)
{
    uint32_t low = (uint32_t)ss->config->ip_local_port_low, high = (uint32_t)ss->config->ip_local_port_high;

    *ret_low = low;
    *ret_n = high >= low ? high - low + 1 : 1;
}

/* inet_csk_find_open_port(): a random start, then upwards. 0: none. */
static uint16_t choose_port(struct sock *s)
{
    uint32_t low, n, start;

    port_range(s->ss, &low, &n);
    start = (uint32_t)rng_below(&s->ss->rng, n);
    for (uint32_t i = 0; i < n; i++) {
        uint16_t port = (uint16_t)(low + (start + i) % n);

        if (!conflicts(s, &s->more->bind_addr, port, false))
            return port;
    }
    return 0;
}

int sock_bind_claim(struct sock *s, uint16_t port)
{
    struct ip_tuple tuple = {.local = s->more->bind_addr};

    if (port == 0)
        port = choose_port(s);
    else if (conflicts(s, &s->more->bind_addr, port, true))
        port = 0;
    if (port == 0)
        return -EADDRINUSE;
    tuple.local_port = port;
    return claim_new(s, &tuple, true) ? 0 : -ENOMEM;
}

int sock_bind_claim_tuple(struct sock *s, const struct ip_tuple *tuple, bool bound)
{
    if (s->bind) {
        s->bind->tuple = *tuple; /* the port is the same */
        return 0;
    }
    return claim_new(s, tuple, bound) ? 0 : -ENOMEM;
}

int sock_bind_share(struct sock *s)
{
    struct ip_tuple here = {.local = s->tuple.local, .local_port = s->tuple.local_port};
    struct list_node *list = port_claims(s->ss, here.local_port);
    struct sock_bind *b;

    list_for_each(node, list) {
        b = list_entry(node, struct sock_bind, port_link);
        if (!b->sharers)
            break; /* they come first: there are few of them, and many others may be behind */
        if (b->reuse == s->reuse && ip_addr_eq(&b->tuple.local, &here.local)) {
            b->sharers++;
            s->bind = b;
            return 0;
        }
    }
    b = claim_new(s, &here, true);
    if (!b)
        return -ENOMEM;
    b->owner = NULL;
    b->conn = 0;
    b->sharers = 1;
    list_del(&b->port_link);
    list_add_head(list, &b->port_link);
    return 0;
}

int sock_bind_set_reuse(struct sock *s, bool reuse)
{
    struct sock_bind *was = s->bind;
    bool before = s->reuse;
    int r;

    s->reuse = reuse;
    if (!was || !was->sharers || before == reuse) {
        if (was && !was->sharers)
            was->reuse = reuse;
        return 0;
    }
    s->bind = NULL;
    r = sock_bind_share(s);
    if (r < 0) {
        s->bind = was;
        s->reuse = before;
    } else if (--was->sharers == 0) {
        sock_bind_free(was);
    }
    return r;
}

/* Drawn at its first use; one that comes round to 0 is drawn again. */
static uint32_t *perturb_of(struct socks *ss, uint32_t i)
{
    if (!ss->perturb[i])
        ss->perturb[i] = (uint32_t)rng_next(&ss->rng);
    return &ss->perturb[i];
}

/* Did a bind() have this port? */
static bool was_bound(struct socks *ss, uint16_t port)
{
    const struct list_node *first = list_first(port_claims(ss, port));

    if (first && list_entry(first, struct sock_bind, port_link)->bound)
        return true;
    for (const struct sock_past *p = NULL; (p = sock_past_of_port(ss, port, p)) != NULL;)
        if (p->bound)
            return true;
    return false;
}

/*
 * RFC 6056 section 3.3.4, algorithm 4 (double-hash): F and G are halves of one keyed hash over what is known of the
 * tuple. Ports that a bind() has are left alone; those of other connections are shared as long as the tuple is new.
 */
uint16_t sock_bind_ephemeral(struct socks *ss, const struct ip_tuple *tuple)
{
    struct ip_tuple t = *tuple;
    uint32_t low, n, *perturb;
    uint64_t hash;

    t.local_port = 0;
    hash = siphash(&ss->port_key, &t, sizeof t);
    perturb = perturb_of(ss, (uint32_t)(hash >> 32) % SOCK_PERTURB);
    port_range(ss, &low, &n);
    for (uint32_t i = 0; i < n; i++) {
        t.local_port = (uint16_t)(low + ((uint32_t)hash + (*perturb)++) % n);
        if (was_bound(ss, t.local_port))
            continue;
        if (!tcp_tuple_in_use(ss->tcp, &t, ss->now))
            return t.local_port;
    }
    return 0;
}

/* ---- bind(2) --------------------------------------------------------------------------------------------------- */

/* May this socket have this address? *ret is the engine's view; wildcards become the socket's. */
static int check_addr(const struct sock *s, const struct ip_addr *addr, struct ip_addr *ret)
{
    struct ip_addr a;

    if (addr->family != IP_NONE && addr->family != s->family)
        return -EAFNOSUPPORT;
    if (addr->family == IP_NONE || ip_addr_is_unspecified(addr)) {
        memset(ret, 0, sizeof *ret);
        ret->family = s->family == IP_V4 ? IP_V4 : s->v6only ? IP_V6 : IP_NONE;
        return 0;
    }
    if (addr->family == IP_V6 && ip_addr_is_multicast(addr))
        return -EINVAL;
    a = sock_addr_unmap(addr);
    if (s->family == IP_V6 && a.family == IP_V4 && s->v6only)
        return -EINVAL;
    if (a.family == IP_V6 && ip_addr_is_link_local(&a) && a.scope == 0)
        return -EINVAL;
    /* inet_addr_valid_or_nonlocal(): IPv4 groups and broadcast may be bound, little as it is worth to TCP. */
    if (!s->freebind && !ip_addr_is_unspecified(&a) && !(a.family == IP_V4 && (ip_addr_is_multicast(&a) || ip_addr_is_broadcast(&a))) &&
        !s->ss->net.is_local(s->ss->net.ctx, &a))
        return -EADDRNOTAVAIL;
    *ret = a;
    return 0;
}

int sock_bind(struct sock *s, const struct ip_addr *addr, uint16_t port)
{
    struct ip_addr a;
    int r;

    socks_drain(s->ss);
    r = check_addr(s, addr, &a);
    if (r < 0)
        return r;
    if (s->state != TCP_STATE_CLOSE || s->bind)
        return -EINVAL;
    if (!sock_more_own(s))
        return -ENOMEM;
    s->more->bind_addr = a;
    r = sock_bind_claim(s, port);
    if (r < 0) {
        memset(&s->more->bind_addr, 0, sizeof s->more->bind_addr);
        return r;
    }
    s->addr_locked = !is_wildcard(&a);
    s->port_locked = port != 0;
    return 0;
}
