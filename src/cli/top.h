/*
 * cli/top.h: what the parts of `taut top` share: top_data.c samples and sorts, top.c shows and reads keys.
 */
#ifndef TAUT_CLI_TOP_H
#define TAUT_CLI_TOP_H

#include "cli/cli.h"
#include "cli/conns.h"

enum top_column { TOP_ID, TOP_STATE, TOP_LOCAL, TOP_PEER, TOP_OWNER, TOP_IN, TOP_OUT, TOP_RETRANS, TOP_RTT, TOP_CWND, TOP_LIMIT, TOP_COLUMNS };

struct top_row {
    char id[TAUT_ID_MAX], state[16], local[TAUT_ADDR_MAX], peer[TAUT_ADDR_MAX], owner[48], limit[16];
    double bytes_in, bytes_out, retrans, rtt_us, cwnd;
    double in_s, out_s, retrans_s; /* rates since the look before; -1: was not seen then */
};

struct top_rate {
    char name[40];
    double per_s;
};
#define TOP_RATES 8

struct top_data {
    struct cli *c;
    struct filter *filter;
    bool idle_too;     /* idle connections of a large table */
    double delay_s;
    enum top_column sort;
    bool reverse;
    /* The last look. */
    struct top_row *row, *before; /* before: sorted by id */
    size_t rows, room, n_before;
    double at, at_before;
    bool only_active;  /* idle ones were left out */
    json_t *status, *stats, *stats_before;
    struct top_rate drops[TOP_RATES], causes[TOP_RATES]; /* the largest, 0 behind the last */
    bool (*interrupted)(void *user); /* asked behind each page: true ends the look */
    void *user;
};

/* Tables with more connections than this show idle ones only when asked to. */
#define TOP_SMALL 2000

/* A look: an exit status. On failure the last look stays. */
int top_look(struct top_data *d);
void top_sort(struct top_data *d);
void top_free(struct top_data *d);
/* Rate of a counter between the last two looks. */
double top_counter_rate(const struct top_data *d, const char *group, const char *name);
extern const char *const top_column_names[TOP_COLUMNS];

#endif
