/*
 * tcp/config.c: the configuration table as data, from the X-macro of tcp_config.h. Every value passes
 * tcp_config_set(), so a struct tcp_config that began with tcp_config_defaults() holds row.min <= value <=
 * row.max for every row.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "cc/cc.h"
#include "tcp/tcp_config.h"

#define X(name, def, min, max, unit, scope, help)                                                            \
    _Static_assert((min) <= (def) && (def) <= (max), #name ": default outside its range");
TCP_CONFIG(X)
#undef X

const struct tcp_config_row tcp_config_rows[] = {
#define X(name, def, min, max, unit, scope, help)                                                            \
    {#name, def, min, max, unit, scope, help, (uint32_t)offsetof(struct tcp_config, name)},
    TCP_CONFIG(X)
#undef X
        {NULL, 0, 0, 0, NULL, NULL, NULL, 0},
};

void tcp_config_defaults(struct tcp_config *ret)
{
#define X(name, def, min, max, unit, scope, help) ret->name = def;
    TCP_CONFIG(X)
#undef X
}

const struct tcp_config_row *tcp_config_find(const char *name)
{
    for (const struct tcp_config_row *row = tcp_config_rows; row->name; row++) {
        if (strcmp(row->name, name) == 0)
            return row;
    }
    return NULL;
}

int32_t tcp_config_get(const struct tcp_config *c, const struct tcp_config_row *row)
{
    int32_t value;

    memcpy(&value, (const char *)c + row->offset, sizeof value);
    return value;
}

const char *tcp_config_name(const struct tcp_config_row *row, int32_t value)
{
    if (strcmp(row->name, "tcp_congestion_control") != 0 || value < 0)
        return NULL;
    return cc_name((unsigned)value);
}

int32_t tcp_config_named(const struct tcp_config_row *row, const char *name)
{
    const char *known;

    for (int32_t i = 0; (known = tcp_config_name(row, i)); i++) {
        if (strcmp(known, name) == 0)
            return i;
    }
    return -1;
}

int tcp_config_set(struct tcp_config *c, const struct tcp_config_row *row, int64_t value)
{
    int32_t narrow;

    if (value == UINT32_MAX && row->min == -1)
        value = -1; /* as Linux's unsigned ones say "no limit" */
    narrow = (int32_t)value;
    if (value < row->min || value > row->max)
        return -ERANGE;
    memcpy((char *)c + row->offset, &narrow, sizeof narrow);
    return 0;
}
