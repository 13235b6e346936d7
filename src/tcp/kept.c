/*
 * tcp/kept.c: what of an engine outlives it beside connections: counters, and by metrics.c what is known of destinations.
 *
 * Secrets of Fast Open, SYN cookies, ISNs and timestamps need no place here: they are functions of tcp_params.secrets. The
 * tables are the caller's memory (base/keep.h). Published at the end of tcp_commit(), so that what a client was told of
 * a counter is never more than what the next engine begins with.
 */
#include "tcp/tcp_priv.h"

static const char *counter_name(unsigned i)
{
    static const char *const names[] = {
#define X(name, metric, help) metric,
        TCP_COUNTERS(X)
#undef X
    };

    return names[i];
}

static const char *drop_name(unsigned i)
{
    return tcp_drop_name((enum tcp_drop)i);
}

static const char *cause_name(unsigned i)
{
    return tcp_cause_name((enum tcp_cause)i);
}

static_assert(sizeof(struct tcp_counters) / 8 + TCP_DROP_MAX + TCP_CAUSE_MAX <= KEEP_COUNTERS_MAX, "all are kept");
static_assert(sizeof(unsigned long long) == 8, "counters are of 64 bits");

int tcp_kept_init(struct tcp *t)
{
    t->keep.n_groups = 3;
    t->keep.group[0] = (struct keep_group){"tcp", counter_name, &t->counters, sizeof t->counters / 8};
    t->keep.group[1] = (struct keep_group){"drop", drop_name, t->drops, TCP_DROP_MAX};
    t->keep.group[2] = (struct keep_group){"cause", cause_name, t->causes, TCP_CAUSE_MAX};
    return keep_counters_open(&t->keep, t->params.keep, "tcp counters") ? 0 : -ENOMEM;
}

void tcp_kept_destroy(struct tcp *t)
{
    keep_counters_close(&t->keep);
}

void tcp_kept_commit(struct tcp *t)
{
    tcp_metrics_commit(t);
    keep_counters_commit(&t->keep);
}

unsigned tcp_keep_specs(uint32_t max_metrics, struct keep_spec *ret)
{
    ret[0] = tcp_metrics_spec(max_metrics);
    ret[1] = keep_counters_spec("tcp counters");
    return TCP_KEEP_TABLES;
}

void tcp_get_keep_found(const struct tcp *t, struct tcp_keep_found *ret)
{
    tcp_metrics_restored(t, &ret->metrics, &ret->damaged);
    ret->damaged += t->keep.table.damaged;
}
