/*
 * daemon/method_server.c: server.*, config.* and stats.get: what the daemon as a whole tells, and its
 * configuration. Looks at the stack and the daemon; changes only by daemon_reload() and config_set_value().
 */
#include "daemon/arena.h"
#include "daemon/call.h"

#include <string.h>
#include <unistd.h>

#include "base/chunk.h"
#include "daemon/forward.h"
#include "daemon/service.h"
#include "daemon/tap.h"

enum control_outcome method_server_hello(struct control_call *call)
{
    const char *who = arg_string(call, "client");

    if (who)
        log_msg(&call->d->log, LOG_LVL_DEBUG, "control: pid %d is %s", (int)call->client->pid, who);
    call->result = json_pack("{s:s, s:s, s:i, s:i, s:s, s:s}", "name", "taut", "version", TAUT_VERSION, "api",
                             1, "pid", (int)(call->d->arena ? getppid() : getpid()), "interface", call->d->ifname, "level",
                             call->client->level == CONTROL_LEVEL_CONTROL ? "control" : "read-only");
    return CONTROL_DONE;
}

/* ---- server.status
 * ----------------------------------------------------------------------------------------------- */

static json_t *interface_json(const struct daemon *d)
{
    static const struct stack_offload none;
    const struct stack_offload *o = d->tap ? &d->tap->offload : &none;
    json_t *j = link_row(d);

    json_object_del(j, "kind");
    json_object_set_new(j, "name", json_string(d->ifname));
    json_object_del(j, "interface");
    json_object_set_new(j, "mac", json_mac(d->mac));
    json_object_set_new(j, "offload",
                        json_pack("{s:b, s:b, s:b, s:b, s:b}", "vnet_hdr", (int)o->vnet_hdr, "csum",
                                  (int)o->csum, "tso4", (int)o->tso4, "tso6", (int)o->tso6, "tso_ecn",
                                  (int)o->tso_ecn));
    return j;
}

static json_t *seconds_left(uint64_t at, uint64_t now)
{
    return at == TIME_NEVER ? json_null() : json_u64(time_since(at, now) / NSEC_PER_SEC);
}

static json_t *addresses_json(const struct control_call *call)
{
    json_t *a = json_array();
    struct stack_addr addr;

    for (unsigned i = 0; stack_addr_get(call->d->stack, i, &addr); i++) {
        json_t *row = addr_row(&addr);

        json_object_del(row, "kind");
        json_object_set_new(row, "valid_s", seconds_left(addr.valid_until, call->now));
        json_object_set_new(row, "preferred_s", seconds_left(addr.preferred_until, call->now));
        json_array_append_new(a, row);
    }
    return a;
}

static json_t *routes_json(const struct daemon *d)
{
    json_t *a = json_array();
    struct stack_route r;
    char text[IP_ADDR_TEXT_MAX], prefix[IP_ADDR_TEXT_MAX + 8];

    for (unsigned i = 0; stack_route_get(d->stack, i, &r); i++) {
        snprintf(prefix, sizeof prefix, "%s/%u", ip_addr_format(&r.prefix, text), r.prefix_bits);
        json_array_append_new(a, json_pack("{s:s, s:o, s:i, s:i, s:i, s:i, s:b}", "prefix", prefix, "gateway",
                                           r.gateway.family == IP_NONE ? json_null() : json_addr(&r.gateway),
                                           "mtu", r.mtu, "advmss", r.advmss, "initcwnd", r.initcwnd,
                                           "initrwnd", r.initrwnd, "from_ra", (int)r.from_ra));
    }
    return a;
}

static json_t *forwards_json(const struct daemon *d)
{
    json_t *a = json_array();
    struct forward_info f;

    for (unsigned i = 0; d->forwards && forwards_get(d, i, &f); i++)
        json_array_append_new(a,
                              json_pack("{s:s, s:o, s:s, s:i, s:i, s:I, s:I}", "name", f.name, "listen",
                                        json_addr_port(&f.listen_addr, f.listen_port), "to", f.to,
                                        "connections", (int)f.connections, "connecting", (int)f.connecting,
                                        "accepted", (json_int_t)f.accepted, "failed", (json_int_t)f.failed));
    return a;
}

static json_t *services_json(const struct daemon *d)
{
    json_t *a = json_array();
    struct service_info s;

    for (unsigned i = 0; d->services && services_get(d, i, &s); i++)
        json_array_append_new(a,
                              json_pack("{s:s, s:i, s:i, s:I}", "name", s.name, "port", s.port, "connections",
                                        (int)s.connections, "accepted", (json_int_t)s.accepted));
    return a;
}

static json_t *listeners_json(const struct daemon *d)
{
    json_t *a = json_array();
    unsigned n = 0;

    for (struct sock *s = NULL; n < 1000 && (s = sock_next_listener(d->socks, s)) != NULL; n++) {
        json_t *row = listener_row(s);

        json_object_del(row, "kind");
        json_object_del(row, "gone");
        json_array_append_new(a, row);
    }
    return a;
}

static json_t *totals_json(const struct daemon *d)
{
    struct tcp_totals t;

    tcp_get_totals(d->tcp, &t);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections", (json_int_t)t.conns, "established",
                     (json_int_t)t.established, "half_open", (json_int_t)t.half_open, "time_wait",
                     (json_int_t)t.time_wait, "orphans", (json_int_t)t.orphans, "listeners",
                     (json_int_t)t.listeners, "ready", (json_int_t)t.ready, "parked", (json_int_t)t.parked);
}

enum control_outcome method_server_status(struct control_call *call)
{
    struct daemon *d = call->d;
    const struct stack_counters *c = stack_get_counters(d->stack);
    json_t *j = json_pack("{s:s, s:i, s:f, s:b}", "version", TAUT_VERSION, "pid",
                          (int)(d->arena ? getppid() : getpid()), "uptime_s",
                          (double)time_since(call->now, d->started_at) / 1e9, "draining", (int)d->draining);
    uint64_t counting_since = d->arena ? d->arena->head->began_at : d->started_at;

    json_object_set_new(j, "counters_s", json_real((double)time_since(call->now, counting_since) / 1e9));
    json_object_set_new(j, "generation", json_integer(d->arena ? d->arena->head->generation : 1));
    json_object_set_new(j, "interface", interface_json(d));
    json_object_set_new(j, "addresses", addresses_json(call));
    json_object_set_new(j, "routes", routes_json(d));
    json_object_set_new(j, "totals", totals_json(d));
    json_object_set_new(j, "memory",
                        json_pack("{s:I, s:I}", "chunk_bytes_used",
                                  (json_int_t)chunk_pool_used_bytes(d->pool), "chunk_bytes_budget",
                                  (json_int_t)chunk_pool_budget_bytes(d->pool)));
    json_object_set_new(j, "forwards", forwards_json(d));
    json_object_set_new(j, "services", services_json(d));
    json_object_set_new(j, "listeners", listeners_json(d));
    json_object_set_new(j, "rates",
                        json_pack("{s:I, s:I, s:I, s:I}", "rx_bytes", (json_int_t)c->rx_bytes, "tx_bytes",
                                  (json_int_t)c->tx_bytes, "rx_frames", (json_int_t)c->rx_frames, "tx_frames",
                                  (json_int_t)c->tx_frames));
    call->result = j;
    return CONTROL_DONE;
}

static void add_ignored(void *user, const char *name, const char *file, const char *value)
{
    json_array_append_new(user, json_pack("{s:s, s:s, s:s}", "name", name, "file", file, "value", value));
}

enum control_outcome method_server_reload(struct control_call *call)
{
    char error[CONFIG_ERROR_MAX] = "";
    json_t *ignored = json_array();

    if (daemon_reload(call->d, add_ignored, ignored, error, sizeof error) < 0) {
        json_decref(ignored);
        return control_fail(call, CONTROL_CONFIG_INVALID, 0, "%s", error);
    }
    call->result = json_pack("{s:[s, s, s], s:o}", "changed", "forward", "services", "log", "needs_restart", ignored);
    return CONTROL_DONE;
}

/* ---- stats.get
 * --------------------------------------------------------------------------------------------------- */

static void put(json_t *o, bool with_help, const char *name, uint64_t value, const char *help)
{
    json_object_set_new(o, name,
                        with_help ? json_pack("{s:o, s:s}", "value", json_u64(value), "help", help)
                                  : json_u64(value));
}

static json_t *tcp_counters_json(const struct tcp *t, bool with_help)
{
    const struct tcp_counters *c = tcp_get_counters(t);
    json_t *o = json_object();

#define X(name, metric, help) put(o, with_help, metric, c->name, help);
    TCP_COUNTERS(X)
#undef X
    return o;
}

static json_t *stack_counters_json(const struct stack *st, bool with_help)
{
    const struct stack_counters *c = stack_get_counters(st);
    json_t *o = json_object();

#define X(name, metric, help) put(o, with_help, metric, c->name, help);
    STACK_COUNTERS(X)
#undef X
    return o;
}

static json_t *daemon_counters_json(const struct daemon *d, bool with_help)
{
    const struct daemon_counters *c = &d->counters;
    json_t *o = json_object();

#define X(name, metric, help) put(o, with_help, metric, c->name, help);
    DAEMON_COUNTERS(X)
#undef X
    return o;
}

enum control_outcome method_stats_get(struct control_call *call)
{
    struct daemon *d = call->d;
    bool help = arg_bool(call, "help");
    json_t *causes = json_object(), *drops = json_object(), *stack_drops = json_object();

    for (int i = 0; i < TCP_CAUSE_MAX; i++)
        put(causes, help, tcp_cause_name((enum tcp_cause)i), tcp_get_causes(d->tcp)[i],
            tcp_cause_text((enum tcp_cause)i));
    for (int i = 0; i < TCP_DROP_MAX; i++)
        put(drops, help, tcp_drop_name((enum tcp_drop)i), tcp_get_drops(d->tcp)[i],
            tcp_drop_text((enum tcp_drop)i));
    for (int i = 0; i < STACK_DROP_MAX; i++)
        put(stack_drops, help, stack_drop_name((enum stack_drop)i), stack_get_drops(d->stack)[i],
            stack_drop_text((enum stack_drop)i));
    call->result =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "tcp", tcp_counters_json(d->tcp, help), "tcp_causes",
                  causes, "tcp_drops", drops, "stack", stack_counters_json(d->stack, help), "stack_drops",
                  stack_drops, "daemon", daemon_counters_json(d, help));
    return CONTROL_DONE;
}

/* ---- config.get, config.set
 * -------------------------------------------------------------------------------------- */

static const struct tcp_config_row *limits_of(const struct config_row_info *r)
{
    const struct tcp_config_row *row = NULL;

    if (strcmp(r->type, "name") == 0)
        return NULL;
    if (strcmp(r->section, "tcp") == 0)
        return tcp_config_find(r->key);
    if (strcmp(r->section, "stack") == 0) {
        for (row = stack_config_rows; row->name && strcmp(row->name, r->key) != 0; row++)
            ;
    }
    return row && row->name ? row : NULL;
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *config_row_json(const struct daemon *d, unsigned i, const struct config_row_info *r)
{
    const struct tcp_config_row *limits = limits_of(r);
    char name[128], value[4096] = "";

    snprintf(name, sizeof name, "%s.%s", r->section, r->key);
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "name", name, "value",
                     text_or_null(config_value(d->config, i, value, sizeof value)), "default",
                     text_or_null(r->def), "min", limits ? json_integer(limits->min) : json_null(), "max",
                     limits ? json_integer(limits->max) : json_null(), "unit", text_or_null(r->unit), "scope",
                     text_or_null(r->scope), "help", text_or_null(r->help), "section", r->section, "type",
                     text_or_null(r->type));
}

static bool config_matches(const struct config_row_info *r, const char *name)
{
    size_t n = strlen(r->section);

    return strcmp(r->key, name) == 0 ||
           (strncmp(name, r->section, n) == 0 && name[n] == '.' && strcmp(name + n + 1, r->key) == 0);
}

enum control_outcome method_config_get(struct control_call *call)
{
    const char *name = arg_string(call, "name");
    json_t *rows = json_array();
    struct config_row_info r;

    for (unsigned i = 0; config_row(i, &r); i++) {
        if (!name || config_matches(&r, name))
            json_array_append_new(rows, config_row_json(call->d, i, &r));
    }
    if (name && json_array_size(rows) == 0) {
        json_decref(rows);
        return control_fail(call, CONTROL_NO_SUCH_KEY, 0,
                            "no key \"%s\"; config.get without a name lists all", name);
    }
    call->result = json_pack("{s:o}", "rows", rows);
    return CONTROL_DONE;
}

static const char *scalar_text(const json_t *v, char *buf, size_t n)
{
    if (json_is_string(v))
        return json_string_value(v);
    if (json_is_integer(v))
        snprintf(buf, n, "%lld", (long long)json_integer_value(v));
    else
        snprintf(buf, n, "%s", json_is_true(v) ? "yes" : "no");
    return buf;
}

enum control_outcome method_config_set(struct control_call *call)
{
    const char *name = arg_string(call, "name"), *value;
    char error[CONFIG_ERROR_MAX] = "", buf[32], full[128], now_is[4096] = "";
    struct config_row_info r;
    unsigned i = 0;

    while (config_row(i, &r) && !config_matches(&r, name))
        i++;
    if (!config_row(i, &r))
        return control_fail(call, CONTROL_NO_SUCH_KEY, 0, "no key \"%s\"; config.get lists all", name);
    value = scalar_text(json_object_get(call->args, "value"), buf, sizeof buf);
    if (config_set_value(call->d->config, r.section, r.key, value, error, sizeof error) < 0)
        return control_fail(call, CONTROL_CONFIG_INVALID, 0, "%s", error);
    if (call->d->arena)
        arena_put_config(call->d->arena, call->d->config);
    snprintf(full, sizeof full, "%s.%s", r.section, r.key);
    call->result = json_pack("{s:s, s:o}", "name", full, "value",
                             text_or_null(config_value(call->d->config, i, now_is, sizeof now_is)));
    return CONTROL_DONE;
}
