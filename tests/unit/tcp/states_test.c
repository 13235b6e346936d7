/*
 * tests/unit/tcp/states_test.c: RFC 9293 section 3.10.7 as a table: every state against every kind of
 * segment, with the answer and the next state. Where the RFC and Linux differ, Linux's column is here and the
 * row says so.
 *
 * Each row runs in a new engine. A set-up brings the connection into its state with known numbers: r =
 * rcv_nxt, u = snd_una, n = snd_nxt (relative); the kinds of segments and answers are written in these.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

enum kind {
    SYN,        /* at r */
    SYN_NEW,    /* far behind the old sequence space */
    SYN_ACK,    /* at r, acknowledges n */
    RST_EXACT,  /* at r */
    RST_ACK,    /* at r, acknowledges n */
    RST_WINDOW, /* at r + 1 */
    RST_OUT,    /* beyond the window */
    ACK_GOOD,   /* of n */
    ACK_OLD,    /* of u - 1 */
    ACK_TOO_OLD,
    ACK_UNSENT, /* of n + 1 */
    DATA_IN,    /* 10 bytes at r */
    DATA_OOO,   /* 10 bytes at r + 10 */
    DATA_OUT,   /* beyond the window */
    DATA_OLD,   /* all before r */
    FIN_IN,     /* at r */
    FIN_OUT,    /* beyond the window */
    FIN_OLD,    /* at r - 1: repeated */
    NO_FLAGS,   /* in order, no ACK bit */
    KINDS
};

static const char *const kind_names[KINDS] = {
    "SYN",      "SYN_NEW", "SYN_ACK",     "RST_EXACT",  "RST_ACK",  "RST_WINDOW", "RST_OUT",
    "ACK_GOOD", "ACK_OLD", "ACK_TOO_OLD", "ACK_UNSENT", "DATA_IN",  "DATA_OOO",   "DATA_OUT",
    "DATA_OLD", "FIN_IN",  "FIN_OUT",     "FIN_OLD",    "NO_FLAGS",
};

enum reply {
    NONE,
    ACK,      /* seq n, ack r */
    ACK_10,   /* ack r + 10 */
    ACK_1,    /* ack r + 1 */
    RST_A,    /* seq = the segment's ack */
    RST_Z,    /* seq 0, acknowledges all of the segment */
    SYNACK,   /* a new half-open entry's */
    SYNACK_X, /* a crossed SYN's answer */
};

struct row {
    enum kind kind;
    enum reply reply;
    int next;
};

struct numbers {
    uint32_t r, u, n;
};

/* ---- Set-ups
 * ---------------------------------------------------------------------------------------------------- */

static void half_open(struct harness *h)
{
    h_listen(h, 8);
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
}

static void crossed(struct harness *h)
{
    expect(h, h_connect(h), 0);
    out(h, "S 0:0(0) <...>");
    in(h, "S 0:0(0) win 65535 <mss 1460>");
    out(h, "S. 0:0(0) ack 1 <...>");
}

/* Both sides have sent 100 bytes; 100 more of ours are not yet acknowledged. */
static void talking(struct harness *h)
{
    h_listen(h, 8);
    h_passive_on(h, "mss 1460", 65535);
    in(h, "P. 1:101(100) ack 1 win 65535");
    out(h, ". 1:1(0) ack 101");
    expect(h, h_recv(h, 100), 100);
    expect(h, h_send(h, 100), 100);
    out(h, "P. 1:101(100) ack 101");
    in(h, ". 101:101(0) ack 101 win 65535");
    expect(h, h_send(h, 100), 100);
    out(h, "P. 101:201(100) ack 101");
}

static void shut(struct harness *h)
{
    expect(h, h_shutdown(h), 0);
    out(h, "F. 201:201(0) ack *");
}

static void peer_fin(struct harness *h, const char *text)
{
    in(h, text);
    out(h, ". *:*(0) ack 102");
}

static struct numbers set_up(struct harness *h, int s)
{
    switch (s) {
    case TCP_STATE_CLOSE:
        return (struct numbers){1, 1, 1};
    case TCP_STATE_LISTEN:
        h_listen(h, 8);
        return (struct numbers){1, 1, 1};
    case TCP_STATE_NEW_SYN_RECV:
        half_open(h);
        return (struct numbers){1, 1, 1};
    case TCP_STATE_SYN_SENT:
        expect(h, h_connect(h), 0);
        out(h, "S 0:0(0) <...>");
        return (struct numbers){0, 1, 1};
    case TCP_STATE_SYN_RECV:
        crossed(h);
        return (struct numbers){1, 1, 1};
    default:
        talking(h);
    }
    switch (s) {
    case TCP_STATE_FIN_WAIT1:
        shut(h);
        return (struct numbers){101, 101, 202};
    case TCP_STATE_FIN_WAIT2:
        shut(h);
        in(h, ". 101:101(0) ack 202 win 65535");
        return (struct numbers){101, 202, 202};
    case TCP_STATE_CLOSE_WAIT:
        peer_fin(h, "F. 101:101(0) ack 101 win 65535");
        return (struct numbers){102, 101, 201};
    case TCP_STATE_CLOSING:
        shut(h);
        peer_fin(h, "F. 101:101(0) ack 101 win 65535");
        return (struct numbers){102, 101, 202};
    case TCP_STATE_LAST_ACK:
        peer_fin(h, "F. 101:101(0) ack 101 win 65535");
        shut(h);
        return (struct numbers){102, 101, 202};
    case TCP_STATE_TIME_WAIT:
        expect(h, h_close(h), 0);
        out(h, "F. 201:201(0) ack 101");
        peer_fin(h, "F. 101:101(0) ack 202 win 65535");
        return (struct numbers){102, 202, 202};
    default:
        return (struct numbers){101, 101, 201};
    }
}

/* ---- Segments and answers
 * ---------------------------------------------------------------------------------------- */

#define OUT 200000u

static void segment_text(char *text, size_t max, enum kind k, struct numbers x, uint32_t *ret_ack)
{
    uint32_t r = x.r, o = x.r + OUT, a = x.u;

    switch (k) {
    case SYN:
        snprintf(text, max, "S %u:%u(0) win 65535 <mss 1460>", r, r);
        break;
    case SYN_NEW:
        snprintf(text, max, "S %u:%u(0) win 65535 <mss 1460>", r + 5000, r + 5000);
        break;
    case SYN_ACK:
        a = x.n;
        snprintf(text, max, "S. %u:%u(0) ack %u win 65535 <mss 1460>", r, r, a);
        break;
    case RST_EXACT:
        snprintf(text, max, "R %u:%u(0) win 0", r, r);
        break;
    case RST_ACK:
        snprintf(text, max, "R. %u:%u(0) ack %u win 0", r, r, x.n);
        break;
    case RST_WINDOW:
        snprintf(text, max, "R %u:%u(0) win 0", r + 1, r + 1);
        break;
    case RST_OUT:
        snprintf(text, max, "R %u:%u(0) win 0", o, o);
        break;
    case ACK_GOOD:
        a = x.n;
        snprintf(text, max, ". %u:%u(0) ack %u win 65535", r, r, a);
        break;
    case ACK_OLD:
        a = x.u - 1;
        snprintf(text, max, ". %u:%u(0) ack %u win 65535", r, r, a);
        break;
    case ACK_TOO_OLD:
        a = x.u - 300000;
        snprintf(text, max, ". %u:%u(0) ack %u win 65535", r, r, a);
        break;
    case ACK_UNSENT:
        a = x.n + 1;
        snprintf(text, max, ". %u:%u(0) ack %u win 65535", r, r, a);
        break;
    case DATA_IN:
        snprintf(text, max, "P. %u:%u(10) ack %u win 65535", r, r + 10, a);
        break;
    case DATA_OOO:
        snprintf(text, max, "P. %u:%u(10) ack %u win 65535", r + 10, r + 20, a);
        break;
    case DATA_OUT:
        snprintf(text, max, "P. %u:%u(10) ack %u win 65535", o, o + 10, a);
        break;
    case DATA_OLD:
        snprintf(text, max, "P. 11:21(10) ack %u win 65535", a);
        break;
    case FIN_IN:
        snprintf(text, max, "F. %u:%u(0) ack %u win 65535", r, r, a);
        break;
    case FIN_OUT:
        snprintf(text, max, "F. %u:%u(0) ack %u win 65535", o, o, a);
        break;
    case FIN_OLD:
        snprintf(text, max, "F. %u:%u(0) ack %u win 65535", r - 1, r - 1, a);
        break;
    case NO_FLAGS:
        snprintf(text, max, "- %u:%u(10) win 65535", r, r + 10);
        break;
    case KINDS:
        abort();
    }
    *ret_ack = a;
}

static void reply_text(char *text, size_t max, enum reply reply, struct numbers x, uint32_t seg_ack)
{
    switch (reply) {
    case NONE:
        text[0] = '\0';
        break;
    case ACK:
        snprintf(text, max, ". %u:%u(0) ack %u", x.n, x.n, x.r);
        break;
    case ACK_10:
        snprintf(text, max, ". %u:%u(0) ack %u", x.n, x.n, x.r + 10);
        break;
    case ACK_1:
        snprintf(text, max, ". %u:%u(0) ack %u", x.n, x.n, x.r + 1);
        break;
    case RST_A:
        snprintf(text, max, "R %u:%u(0) win 0", seg_ack, seg_ack);
        break;
    case RST_Z:
        snprintf(text, max, "R. *:*(0) ack * win 0");
        break;
    case SYNACK:
        snprintf(text, max, "S. 0:0(0) ack * <...>");
        break;
    case SYNACK_X:
        snprintf(text, max, "S. 0:0(0) ack 1 <...>");
        break;
    }
}

static bool run_row(int s, const struct row *row)
{
    struct harness *h = h_new();
    struct numbers x = set_up(h, s);
    char seg[128], reply[128];
    uint32_t seg_ack;

    if (s != TCP_STATE_CLOSE && s != TCP_STATE_LISTEN)
        state(h, s);
    assert_int_equal(h_pending(h), 0);
    segment_text(seg, sizeof seg, row->kind, x, &seg_ack);
    reply_text(reply, sizeof reply, row->reply, x, seg_ack);
    print_message("  %s: %s: %s -> %s\n", tcp_state_name((enum tcp_state)s), kind_names[row->kind], seg,
                  reply);
    in(h, seg);
    if (row->reply == ACK_10 && !h_pending(h))
        pass_ms(h, 41); /* both sides have talked: the ACK waits for data to ride on */
    if (row->reply != NONE)
        out(h, reply);
    if (h_pending(h))
        out(h, "nothing (more)");
    state(h, row->next);
    h_free(h);
    return true;
}

static void run(int s, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        run_row(s, &rows[i]);
}

#define RUN(s, rows) run(TCP_STATE_##s, rows, sizeof(rows) / sizeof((rows)[0]))
#define ST(s)        TCP_STATE_##s

/* ---- The table
 * ---------------------------------------------------------------------------------------------------- */

static void closed(void **st)
{
    static const struct row rows[] = {
        {SYN, RST_Z, H_GONE},      {SYN_ACK, RST_A, H_GONE},   {RST_EXACT, NONE, H_GONE},
        {RST_ACK, NONE, H_GONE},   {RST_WINDOW, NONE, H_GONE}, {RST_OUT, NONE, H_GONE},
        {ACK_GOOD, RST_A, H_GONE}, {ACK_OLD, RST_A, H_GONE},   {ACK_UNSENT, RST_A, H_GONE},
        {DATA_IN, RST_A, H_GONE},  {DATA_OUT, RST_A, H_GONE},  {FIN_IN, RST_A, H_GONE},
        {NO_FLAGS, RST_Z, H_GONE},
    };

    (void)st;
    RUN(CLOSE, rows);
}

static void listen_(void **st)
{
    static const struct row rows[] = {
        {SYN, SYNACK, ST(NEW_SYN_RECV)}, {SYN_ACK, RST_A, H_GONE},   {RST_EXACT, NONE, H_GONE},
        {RST_ACK, NONE, H_GONE},         {RST_WINDOW, NONE, H_GONE}, {RST_OUT, NONE, H_GONE},
        {ACK_GOOD, RST_A, H_GONE},       {ACK_OLD, RST_A, H_GONE},   {ACK_UNSENT, RST_A, H_GONE},
        {DATA_IN, RST_A, H_GONE},        {DATA_OUT, RST_A, H_GONE},  {FIN_IN, RST_A, H_GONE},
        {NO_FLAGS, NONE, H_GONE},
    };

    (void)st;
    RUN(LISTEN, rows);
}

static void new_syn_recv(void **st)
{
    static const struct row rows[] = {
        {RST_EXACT, NONE, H_GONE},
        {RST_ACK, NONE, H_GONE},
        {RST_WINDOW, NONE, H_GONE}, /* Linux takes a RST anywhere in a half-open entry's window */
        {RST_OUT, NONE, ST(NEW_SYN_RECV)},
        {ACK_GOOD, NONE, ST(ESTABLISHED)},
        {ACK_OLD, RST_A, ST(NEW_SYN_RECV)},
        {ACK_TOO_OLD, RST_A, ST(NEW_SYN_RECV)},
        {ACK_UNSENT, RST_A, ST(NEW_SYN_RECV)},
        {DATA_IN, ACK_10, ST(ESTABLISHED)},
        {DATA_OOO, ACK, ST(ESTABLISHED)},
        {DATA_OUT, ACK, ST(NEW_SYN_RECV)},
        {FIN_IN, ACK_1, ST(CLOSE_WAIT)},
        {FIN_OUT, ACK, ST(NEW_SYN_RECV)},
        {NO_FLAGS, NONE, ST(NEW_SYN_RECV)},
    };

    (void)st;
    RUN(NEW_SYN_RECV, rows);
}

static void syn_sent(void **st)
{
    static const struct row rows[] = {
        {SYN, SYNACK_X, ST(SYN_RECV)},  {SYN_ACK, ACK_1, ST(ESTABLISHED)}, {RST_EXACT, NONE, ST(SYN_SENT)},
        {RST_ACK, NONE, ST(CLOSE)},     {RST_OUT, NONE, ST(SYN_SENT)},     {ACK_GOOD, NONE, ST(SYN_SENT)},
        {ACK_OLD, RST_A, ST(SYN_SENT)}, {ACK_UNSENT, RST_A, ST(SYN_SENT)}, {DATA_IN, NONE, ST(SYN_SENT)},
        {FIN_IN, NONE, ST(SYN_SENT)},   {NO_FLAGS, NONE, ST(SYN_SENT)},
    };

    (void)st;
    RUN(SYN_SENT, rows);
}

static void syn_recv(void **st)
{
    static const struct row rows[] = {
        {SYN, ACK, ST(SYN_RECV)},          {SYN_NEW, ACK, ST(SYN_RECV)},
        {SYN_ACK, ACK, ST(SYN_RECV)}, /* at r: in the window; the crossed one (at r - 1) is in
                                         trace_open_test.c */
        {RST_EXACT, NONE, ST(CLOSE)},      {RST_WINDOW, ACK, ST(SYN_RECV)},
        {RST_OUT, NONE, ST(SYN_RECV)},     {ACK_GOOD, NONE, ST(ESTABLISHED)},
        {ACK_OLD, RST_A, ST(SYN_RECV)},    {ACK_TOO_OLD, RST_A, ST(SYN_RECV)},
        {ACK_UNSENT, RST_A, ST(SYN_RECV)}, {DATA_IN, ACK_10, ST(ESTABLISHED)},
        {DATA_OOO, ACK, ST(ESTABLISHED)},  {DATA_OUT, ACK, ST(SYN_RECV)},
        {FIN_IN, ACK_1, ST(CLOSE_WAIT)},   {FIN_OUT, ACK, ST(SYN_RECV)},
        {NO_FLAGS, NONE, ST(SYN_RECV)},
    };

    (void)st;
    RUN(SYN_RECV, rows);
}

/* Rows that all synchronised states (but TIME-WAIT) share. */
static void synchronised(int s)
{
    const struct row rows[] = {
        {SYN, ACK, s},        {SYN_NEW, ACK, s},          {SYN_ACK, ACK, s},  {RST_EXACT, NONE, ST(CLOSE)},
        {RST_WINDOW, ACK, s}, {RST_OUT, NONE, s},         {ACK_OLD, NONE, s}, {ACK_TOO_OLD, ACK, s},
        {ACK_UNSENT, s == TCP_STATE_ESTABLISHED ? NONE : ACK, s}, {DATA_OUT, ACK, s},         {DATA_OLD, ACK, s}, {FIN_OUT, ACK, s},
        {NO_FLAGS, NONE, s},  {RST_ACK, NONE, ST(CLOSE)},
    };

    run(s, rows, sizeof rows / sizeof rows[0]);
}

static void established(void **st)
{
    static const struct row rows[] = {
        {ACK_GOOD, NONE, ST(ESTABLISHED)},
        {DATA_IN, ACK_10, ST(ESTABLISHED)},
        {DATA_OOO, ACK, ST(ESTABLISHED)},
        {FIN_IN, ACK_1, ST(CLOSE_WAIT)},
    };

    (void)st;
    synchronised(TCP_STATE_ESTABLISHED);
    RUN(ESTABLISHED, rows);
}

static void fin_wait1(void **st)
{
    static const struct row rows[] = {
        {ACK_GOOD, NONE, ST(FIN_WAIT2)},
        {DATA_IN, ACK_10, ST(FIN_WAIT1)},
        {DATA_OOO, ACK, ST(FIN_WAIT1)},
        {FIN_IN, ACK_1, ST(CLOSING)},
    };

    (void)st;
    synchronised(TCP_STATE_FIN_WAIT1);
    RUN(FIN_WAIT1, rows);
}

static void fin_wait2(void **st)
{
    static const struct row rows[] = {
        {ACK_GOOD, NONE, ST(FIN_WAIT2)},
        {DATA_IN, ACK_10, ST(FIN_WAIT2)},
        {DATA_OOO, ACK, ST(FIN_WAIT2)},
        {FIN_IN, ACK_1, ST(TIME_WAIT)},
    };

    (void)st;
    synchronised(TCP_STATE_FIN_WAIT2);
    RUN(FIN_WAIT2, rows);
}

static void close_wait(void **st)
{
    static const struct row rows[] = {
        {ACK_GOOD, NONE, ST(CLOSE_WAIT)}, {DATA_IN, NONE, ST(CLOSE_WAIT)}, {DATA_OOO, NONE, ST(CLOSE_WAIT)},
        {FIN_IN, NONE, ST(CLOSE_WAIT)},   {FIN_OLD, ACK, ST(CLOSE_WAIT)},
    };

    (void)st;
    synchronised(TCP_STATE_CLOSE_WAIT);
    RUN(CLOSE_WAIT, rows);
}

static void closing(void **st)
{
    static const struct row rows[] = {
        {ACK_GOOD, NONE, ST(TIME_WAIT)}, {DATA_IN, NONE, ST(CLOSING)}, {DATA_OOO, NONE, ST(CLOSING)},
        {FIN_IN, NONE, ST(CLOSING)},     {FIN_OLD, ACK, ST(CLOSING)},
    };

    (void)st;
    synchronised(TCP_STATE_CLOSING);
    RUN(CLOSING, rows);
}

static void last_ack(void **st)
{
    static const struct row rows[] = {
        {ACK_GOOD, NONE, ST(CLOSE)},  {DATA_IN, NONE, ST(LAST_ACK)}, {DATA_OOO, NONE, ST(LAST_ACK)},
        {FIN_IN, NONE, ST(LAST_ACK)}, {FIN_OLD, ACK, ST(LAST_ACK)},
    };

    (void)st;
    synchronised(TCP_STATE_LAST_ACK);
    RUN(LAST_ACK, rows);
}

static void time_wait(void **st)
{
    static const struct row rows[] = {
        {SYN, ACK, ST(TIME_WAIT)}, /* not beyond the old sequence space */
        {SYN_NEW, SYNACK, ST(NEW_SYN_RECV)}, {SYN_ACK, ACK, ST(TIME_WAIT)},
        {RST_EXACT, NONE, H_GONE},           {RST_WINDOW, NONE, ST(TIME_WAIT)},
        {RST_OUT, NONE, ST(TIME_WAIT)},      {ACK_GOOD, NONE, ST(TIME_WAIT)},
        {ACK_OLD, NONE, ST(TIME_WAIT)},      {ACK_UNSENT, NONE, ST(TIME_WAIT)},
        {DATA_IN, ACK, ST(TIME_WAIT)},       {DATA_OLD, ACK, ST(TIME_WAIT)},
        {DATA_OUT, ACK, ST(TIME_WAIT)},      {FIN_IN, ACK, ST(TIME_WAIT)},
        {FIN_OLD, ACK, ST(TIME_WAIT)},
    };

    (void)st;
    RUN(TIME_WAIT, rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed),    cmocka_unit_test(listen_),   cmocka_unit_test(new_syn_recv),
        cmocka_unit_test(syn_sent),  cmocka_unit_test(syn_recv),  cmocka_unit_test(established),
        cmocka_unit_test(fin_wait1), cmocka_unit_test(fin_wait2), cmocka_unit_test(close_wait),
        cmocka_unit_test(closing),   cmocka_unit_test(last_ack),  cmocka_unit_test(time_wait),
    };

    return cmocka_run_group_tests_name("tcp_states", tests, NULL, NULL);
}
