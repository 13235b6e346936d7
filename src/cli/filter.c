/*
 * cli/filter.c: the filter language of ss(8) (theory of operation).
 *
 *     filter    := { "state" STATE | "exclude" STATE } [ expr ]
 *     expr      := and { ("or" | "|" | "||") and }
 *     and       := not { ["and" | "&" | "&&"] not }
 *     not       := ("not" | "!") not | "(" expr ")" | predicate
 *     predicate := ("src" | "dst") [OP] HOST | ("sport" | "dport") OP PORT
 *     OP        := = == eq  != ne neq  > gt  >= ge geq  < lt  <= le leq
 *     HOST      := ADDRESS[/BITS][:PORT] | *[:PORT] | :PORT | NAME[:PORT]; IPv6 with a port stands in brackets
 *     PORT      := [:]NUMBER | [:]SERVICE | :*
 *
 * The words become tokens, a recursive descent over them makes a tree in one array of nodes (an index stands for a
 * subtree), whose size and depth the number of tokens bounds. Matching walks the tree; nothing is allocated then.
 */
#include "cli/filter.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TOKENS_MAX 256
#define TOKEN_MAX  128
#define ADDRS_MAX  8

/* ---- States ---------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *ss, *word; /* the daemon's, ss's column, ss's filter */
    unsigned bit;
} states[] = {
    {"ESTABLISHED", "ESTAB", "established", FILTER_ESTAB},
    {"SYN_SENT", "SYN-SENT", "syn-sent", FILTER_BIT(2)},
    {"SYN_RECV", "SYN-RECV", "syn-recv", FILTER_SYN_RECV},
    {"NEW_SYN_RECV", "SYN-RECV", "syn-recv", FILTER_SYN_RECV},
    {"FIN_WAIT1", "FIN-WAIT-1", "fin-wait-1", FILTER_BIT(4)},
    {"FIN_WAIT2", "FIN-WAIT-2", "fin-wait-2", FILTER_BIT(5)},
    {"TIME_WAIT", "TIME-WAIT", "time-wait", FILTER_TIME_WAIT},
    {"CLOSE", "UNCONN", "closed", FILTER_CLOSE},
    {"CLOSE_WAIT", "CLOSE-WAIT", "close-wait", FILTER_BIT(8)},
    {"LAST_ACK", "LAST-ACK", "last-ack", FILTER_BIT(9)},
    {"LISTEN", "LISTEN", "listening", FILTER_LISTEN},
    {"CLOSING", "CLOSING", "closing", FILTER_BIT(11)},
};
#define STATES (sizeof states / sizeof *states)

static const struct {
    const char *word;
    unsigned mask;
} groups[] = {
    {"all", FILTER_ALL},
    {"connected", FILTER_ALL & ~(FILTER_CLOSE | FILTER_LISTEN)},
    {"synchronized", FILTER_ALL & ~(FILTER_CLOSE | FILTER_LISTEN | FILTER_BIT(2))},
    {"bucket", FILTER_SYN_RECV | FILTER_TIME_WAIT},
    {"big", FILTER_ALL & ~(FILTER_SYN_RECV | FILTER_TIME_WAIT)},
    {"listen", FILTER_LISTEN},
    {"unconnected", FILTER_CLOSE},
    {"fin-wait-{1,2}", FILTER_BIT(4) | FILTER_BIT(5)},
};

unsigned state_bit(const char *state)
{
    for (size_t i = 0; i < STATES; i++)
        if (strcmp(states[i].name, state) == 0)
            return states[i].bit;
    return 0;
}

const char *state_ss_name(const char *state)
{
    for (size_t i = 0; i < STATES; i++)
        if (strcmp(states[i].name, state) == 0)
            return states[i].ss;
    return state;
}

const char *state_in_mask(unsigned mask, unsigned i)
{
    for (size_t k = 0; k < STATES; k++)
        if ((states[k].bit & mask) && i-- == 0)
            return states[k].name;
    return NULL;
}

static unsigned mask_of_word(const char *word)
{
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strcasecmp(groups[i].word, word) == 0)
            return groups[i].mask;
    for (size_t i = 0; i < STATES; i++)
        if (strcasecmp(states[i].word, word) == 0 || strcasecmp(states[i].ss, word) == 0 ||
            strcasecmp(states[i].name, word) == 0)
            return states[i].bit;
    return 0;
}

/* ---- The tree -------------------------------------------------------------------------------------------------------- */

enum kind { K_TRUE, K_AND, K_OR, K_NOT, K_HOST, K_PORT };
enum op { OP_EQ, OP_NE, OP_GT, OP_GE, OP_LT, OP_LE };

struct addr {
    int family; /* AF_INET, AF_INET6, 0: none or any */
    unsigned bits;
    unsigned char b[16];
};

struct node {
    enum kind kind;
    enum op op;
    bool local;       /* src, sport */
    int left, right;  /* K_NOT: left */
    int port;         /* -1: any */
    unsigned n_addrs; /* 0: any */
    struct addr addr[ADDRS_MAX];
};

struct filter {
    unsigned mask;
    int family, root;
    unsigned n_nodes;
    struct node node[TOKENS_MAX];
};

struct parser {
    struct filter *f;
    unsigned n, at;
    char token[TOKENS_MAX + 1][TOKEN_MAX];
};

static _Thread_local char error[256];

static int wrong(const char *fmt, const char *text)
{
    if (!error[0])
        snprintf(error, sizeof error, fmt, text);
    return -1;
}

static int add(struct filter *f, struct node n)
{
    if (f->n_nodes == TOKENS_MAX)
        return wrong("the filter is too long%s", "");
    f->node[f->n_nodes] = n;
    return (int)f->n_nodes++;
}

/* ---- Tokens ---------------------------------------------------------------------------------------------------------- */

static bool add_token(struct parser *p, const char *s, size_t n)
{
    if (p->n == TOKENS_MAX || n >= TOKEN_MAX) {
        wrong("the filter is too long%s", "");
        return false;
    }
    memcpy(p->token[p->n], s, n);
    p->token[p->n++][n] = '\0';
    return true;
}

static bool tokenize(struct parser *p, const char *s)
{
    static const char special[] = "()!=<>&|";

    while (*s) {
        size_t n = strcspn(s, " \t\n()!=<>&|");

        if (n == 0 && strchr(special, *s)) {
            n = (strchr("!=<>", *s) && s[1] == '=') || ((*s == '&' || *s == '|') && s[1] == *s) ? 2 : 1;
        } else if (n == 0) {
            s++;
            continue;
        }
        if (!add_token(p, s, n))
            return false;
        s += n;
    }
    return true;
}

static const char *peek(const struct parser *p)
{
    return p->at < p->n ? p->token[p->at] : "";
}

static bool take(struct parser *p, const char *a, const char *b, const char *c)
{
    const char *t = peek(p);

    if (!*t || (strcasecmp(t, a) && (!b || strcasecmp(t, b)) && (!c || strcasecmp(t, c))))
        return false;
    p->at++;
    return true;
}

static bool take_op(struct parser *p, enum op *ret)
{
    static const struct {
        const char *a, *b, *c;
        enum op op;
    } ops[] = {{"=", "==", "eq", OP_EQ},   {"!=", "ne", "neq", OP_NE},  {">", "gt", NULL, OP_GT},
               {">=", "ge", "geq", OP_GE}, {"<", "lt", NULL, OP_LT},    {"<=", "le", "leq", OP_LE}};

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (take(p, ops[i].a, ops[i].b, ops[i].c)) {
            *ret = ops[i].op;
            return true;
        }
    }
    return false;
}

/* ---- Hosts and ports ------------------------------------------------------------------------------------------------- */

static bool read_port(const char *text, int *ret)
{
    const struct servent *service;
    char *end;
    long v;

    text += *text == ':';
    if (strcmp(text, "*") == 0) {
        *ret = -1;
        return true;
    }
    v = strtol(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && v <= 65535) {
        *ret = (int)v;
        return true;
    }
    service = *text && !(*text >= '0' && *text <= '9') ? getservbyname(text, "tcp") : NULL;
    if (!service)
        return false;
    *ret = ntohs((uint16_t)service->s_port);
    return true;
}

/* "10/8" as ss takes it: what is missing of an IPv4 address is 0. */
static bool read_v4(const char *text, unsigned char b[16])
{
    unsigned v[4] = {0};
    int n = 0, used = 0;

    n = sscanf(text, "%3u%n.%3u%n.%3u%n.%3u%n", &v[0], &used, &v[1], &used, &v[2], &used, &v[3], &used);
    if (n < 1 || text[used] || v[0] > 255 || v[1] > 255 || v[2] > 255 || v[3] > 255)
        return false;
    for (int i = 0; i < 4; i++)
        b[i] = (unsigned char)v[i];
    return true;
}

static bool read_addr(char *text, struct addr *ret)
{
    char *slash = strchr(text, '/'), *end;
    unsigned whole;
    long bits;

    if (slash)
        *slash = '\0';
    text[strcspn(text, "%")] = '\0'; /* a scope is not compared */
    memset(ret, 0, sizeof *ret);
    if (strchr(text, ':') ? inet_pton(AF_INET6, text, ret->b) == 1 : false)
        ret->family = AF_INET6, whole = 128;
    else if (inet_pton(AF_INET, text, ret->b) == 1 || (slash && read_v4(text, ret->b)))
        ret->family = AF_INET, whole = 32;
    else
        return false;
    ret->bits = whole;
    if (!slash)
        return true;
    bits = strtol(slash + 1, &end, 10);
    if (end == slash + 1 || *end || bits < 0 || bits > (long)whole)
        return false;
    ret->bits = (unsigned)bits;
    return true;
}

static bool read_name(const char *text, struct node *n)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;

    if (strchr(text, ':') || getaddrinfo(text, NULL, &hints, &list) != 0)
        return false;
    for (const struct addrinfo *a = list; a && n->n_addrs < ADDRS_MAX; a = a->ai_next) {
        struct addr *to = &n->addr[n->n_addrs];

        to->family = a->ai_family;
        to->bits = a->ai_family == AF_INET ? 32 : 128;
        if (a->ai_family == AF_INET)
            memcpy(to->b, &((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr, 4);
        else if (a->ai_family == AF_INET6)
            memcpy(to->b, &((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr, 16);
        else
            continue;
        n->n_addrs++;
    }
    freeaddrinfo(list);
    return n->n_addrs > 0;
}

/* Cuts text into host and port; the port is NULL where there is none. */
static char *split_host(char *text, char **ret_port)
{
    char *close = text[0] == '[' ? strchr(text, ']') : NULL, *colon;

    *ret_port = NULL;
    if (close) {
        colon = strchr(close, ':');
        if (colon)
            *colon++ = '\0';
        *ret_port = colon;
        memmove(close, close + 1, strlen(close + 1) + 1); /* "[::1]/64" -> "::1/64" */
        return text + 1;
    }
    colon = strchr(text, ':');
    if (!colon || strchr(colon + 1, ':')) /* none, or IPv6 without brackets */
        return text;
    *colon++ = '\0';
    *ret_port = colon;
    return text;
}

static bool read_host(const char *given, struct node *n)
{
    char text[TOKEN_MAX], *port, *host;

    snprintf(text, sizeof text, "%s", given);
    host = split_host(text, &port);
    n->port = -1;
    if (port && !read_port(port, &n->port))
        return false;
    if (!*host || strcmp(host, "*") == 0)
        return port || *host;
    if (read_addr(host, &n->addr[0])) {
        n->n_addrs = 1;
        return true;
    }
    return !strchr(given, '/') && read_name(host, n);
}

/* ---- The descent ----------------------------------------------------------------------------------------------------- */

static int parse_or(struct parser *p);

static int parse_predicate(struct parser *p)
{
    struct node n = {.kind = K_HOST, .port = -1};
    bool src = take(p, "src", NULL, NULL), host = src || take(p, "dst", NULL, NULL);
    bool sport = !host && take(p, "sport", NULL, NULL);

    if (!host && !sport && !take(p, "dport", NULL, NULL))
        return wrong(*peek(p) ? "\"%s\": src, dst, sport, dport, state, exclude, not or ( is expected"
                              : "something is missing at the filter's end%s",
                     peek(p));
    n.local = src || sport;
    if (!host) {
        n.kind = K_PORT;
        if (!take_op(p, &n.op))
            return wrong("\"%s\": a comparison as = != > >= < <= is expected", peek(p));
        if (!read_port(peek(p), &n.port))
            return wrong("\"%s\" is no port", peek(p));
    } else {
        take_op(p, &n.op);
        if (n.op > OP_NE)
            return wrong("addresses are equal or not; \"%s\" cannot be compared otherwise", peek(p));
        if (!*peek(p) || !read_host(peek(p), &n))
            return wrong("\"%s\" is no address, ADDRESS/BITS, ADDRESS:PORT or :PORT", peek(p));
    }
    p->at++;
    return add(p->f, n);
}

static int parse_not(struct parser *p)
{
    int inner;

    if (take(p, "not", "!", NULL)) {
        inner = parse_not(p);
        return inner < 0 ? inner : add(p->f, (struct node){.kind = K_NOT, .left = inner});
    }
    if (take(p, "(", NULL, NULL)) {
        inner = parse_or(p);
        if (inner >= 0 && !take(p, ")", NULL, NULL))
            return wrong("a ) is missing%s", "");
        return inner;
    }
    return parse_predicate(p);
}

static int parse_and(struct parser *p)
{
    int left = parse_not(p);

    while (left >= 0) {
        int right;

        if (!take(p, "and", "&", "&&") && (!*peek(p) || strcmp(peek(p), ")") == 0 || strcasecmp(peek(p), "or") == 0 ||
                                           peek(p)[0] == '|'))
            return left;
        right = parse_not(p);
        left = right < 0 ? right : add(p->f, (struct node){.kind = K_AND, .left = left, .right = right});
    }
    return left;
}

static int parse_or(struct parser *p)
{
    int left = parse_and(p);

    while (left >= 0 && take(p, "or", "|", "||")) {
        int right = parse_and(p);

        left = right < 0 ? right : add(p->f, (struct node){.kind = K_OR, .left = left, .right = right});
    }
    return left;
}

/* "state X", "exclude X" at the front; the default mask where there is none. */
static bool parse_states(struct parser *p, unsigned by_default)
{
    unsigned with = 0, without = 0;

    for (;;) {
        bool state = take(p, "state", NULL, NULL);
        unsigned mask;

        if (!state && !take(p, "exclude", NULL, NULL))
            break;
        mask = mask_of_word(peek(p));
        if (!mask) {
            wrong("\"%s\" is no state", peek(p));
            return false;
        }
        p->at++;
        with |= state ? mask : 0;
        without |= state ? 0 : mask;
    }
    p->f->mask = (with ? with : without ? FILTER_ALL : by_default) & ~without;
    return true;
}

static bool parse_all(struct parser *p, int words, char **word, unsigned by_default)
{
    for (int i = 0; i < words; i++)
        if (!tokenize(p, word[i]))
            return false;
    if (!parse_states(p, by_default))
        return false;
    p->f->root = p->at < p->n ? parse_or(p) : add(p->f, (struct node){.kind = K_TRUE});
    if (p->f->root >= 0 && p->at < p->n)
        wrong("\"%s\" is too much", peek(p));
    return p->f->root >= 0 && !error[0];
}

struct filter *filter_parse(int words, char **word, unsigned by_default, const char **ret_error)
{
    struct parser *p = calloc(1, sizeof *p);
    struct filter *f = calloc(1, sizeof *f);

    error[0] = '\0';
    *ret_error = error;
    if (p && f) {
        p->f = f;
        if (parse_all(p, words, word, by_default)) {
            free(p);
            return f;
        }
    }
    wrong("out of memory%s", "");
    free(p);
    free(f);
    return NULL;
}

void filter_free(struct filter *f)
{
    free(f);
}

/* ---- Matching -------------------------------------------------------------------------------------------------------- */

struct end {
    struct addr addr;
    int port;
};

static void read_end(const char *text, struct end *ret)
{
    const char *colon = strrchr(text, ':');
    char host[TOKEN_MAX];
    size_t n = colon ? (size_t)(colon - text) : 0;

    *ret = (struct end){.port = colon ? atoi(colon + 1) : 0};
    if (!n || n >= sizeof host)
        return;
    memcpy(host, text, n);
    host[n] = '\0';
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        read_addr(host + 1, &ret->addr);
    } else if (strcmp(host, "*") != 0) {
        read_addr(host, &ret->addr);
    }
}

static bool in_prefix(const struct addr *a, const struct addr *prefix)
{
    unsigned whole = prefix->bits / 8, rest = prefix->bits % 8;

    if (a->family != prefix->family || memcmp(a->b, prefix->b, whole) != 0)
        return false;
    return !rest || ((a->b[whole] ^ prefix->b[whole]) >> (8 - rest)) == 0;
}

static bool compare(enum op op, int a, int b)
{
    switch (op) {
    case OP_EQ:
        return a == b;
    case OP_NE:
        return a != b;
    case OP_GT:
        return a > b;
    case OP_GE:
        return a >= b;
    case OP_LT:
        return a < b;
    case OP_LE:
    default:
        return a <= b;
    }
}

static bool match_host(const struct node *n, const struct end *e)
{
    bool found = n->n_addrs == 0;

    for (unsigned i = 0; i < n->n_addrs && !found; i++)
        found = in_prefix(&e->addr, &n->addr[i]);
    found = found && (n->port < 0 || n->port == e->port);
    return found == (n->op == OP_EQ);
}

static bool match(const struct filter *f, int i, const struct end *local, const struct end *peer)
{
    const struct node *n = &f->node[i];
    const struct end *e = n->local ? local : peer;

    switch (n->kind) {
    case K_AND:
        return match(f, n->left, local, peer) && match(f, n->right, local, peer);
    case K_OR:
        return match(f, n->left, local, peer) || match(f, n->right, local, peer);
    case K_NOT:
        return !match(f, n->left, local, peer);
    case K_HOST:
        return match_host(n, e);
    case K_PORT:
        return n->port < 0 || compare(n->op, e->port, n->port);
    case K_TRUE:
    default:
        return true;
    }
}

bool filter_match(const struct filter *f, const char *state, const char *local, const char *peer)
{
    struct end l, p;

    if (!(state_bit(state) & f->mask))
        return false;
    if (f->node[f->root].kind == K_TRUE && !f->family)
        return true;
    read_end(local, &l);
    read_end(peer, &p);
    if (f->family && l.addr.family && l.addr.family != (f->family == 4 ? AF_INET : AF_INET6))
        return false;
    return match(f, f->root, &l, &p);
}

unsigned filter_states(const struct filter *f)
{
    return f->mask;
}

void filter_set_family(struct filter *f, int family)
{
    f->family = family;
}

static int fixed_port(const struct filter *f, int i, bool local)
{
    const struct node *n = &f->node[i];
    int port;

    if (n->kind == K_AND)
        return (port = fixed_port(f, n->left, local)) >= 0 ? port : fixed_port(f, n->right, local);
    if ((n->kind == K_PORT || n->kind == K_HOST) && n->op == OP_EQ && n->local == local)
        return n->port;
    return -1;
}

int filter_local_port(const struct filter *f)
{
    return fixed_port(f, f->root, true);
}

int filter_peer_port(const struct filter *f)
{
    return fixed_port(f, f->root, false);
}
