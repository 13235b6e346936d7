/*
 * daemon/args.c: arguments against the method table. What passes has the right type and range, with defaults
 * filled in, so handlers never check types; what fails names the parameter and says what would be right.
 * Pure: looks at the call only.
 */
#include "daemon/call.h"

#include <string.h>

#include "daemon/ids.h"

static bool bad(struct control_call *call, const char *name, const char *why)
{
    control_fail(call, CONTROL_INVALID_PARAMS, 0, "parameter \"%.64s\": %s", name, why);
    return false;
}

static bool check_int(struct control_call *call, const struct control_param *p, const json_t *v)
{
    char text[96];

    snprintf(text, sizeof text, "an integer from %lld to %lld is expected", (long long)p->min,
             (long long)p->max);
    if (!json_is_integer(v) || json_integer_value(v) < p->min || json_integer_value(v) > p->max)
        return bad(call, p->name, text);
    return true;
}

static bool check_string(struct control_call *call, const struct control_param *p, const json_t *v)
{
    size_t max = p->max ? (size_t)p->max : 256;
    struct ip_addr addr;
    char text[64];
    tcp_id id;

    if (p->type == PARAM_ADDRESS)
        return (json_is_string(v) && ip_addr_parse(json_string_value(v), &addr)) ||
               bad(call, p->name, "an IPv4 or IPv6 address is expected, as \"192.0.2.1\" or \"2001:db8::1\"");
    if (p->type == PARAM_CONN)
        return (json_is_string(v) && id_parse(json_string_value(v), &id)) ||
               bad(call, p->name, "a connection's id is expected, as \"7.100003\" (conn.list shows them)");
    snprintf(text, sizeof text, "a string of at most %zu bytes is expected", max);
    return (json_is_string(v) && json_string_length(v) <= max) || bad(call, p->name, text);
}

static bool check_strings(struct control_call *call, const struct control_param *p, const json_t *v)
{
    size_t i;
    const json_t *item;

    if (!json_is_array(v) || json_array_size(v) > 64)
        return bad(call, p->name, "an array of strings is expected");
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item))
            return bad(call, p->name, "an array of strings is expected");
    }
    return true;
}

static bool check_one(struct control_call *call, const struct control_param *p, const json_t *v)
{
    switch (p->type) {
    case PARAM_INT:
        return check_int(call, p, v);
    case PARAM_BOOL:
        return json_is_boolean(v) || bad(call, p->name, "true or false is expected");
    case PARAM_STRINGS:
        return check_strings(call, p, v);
    case PARAM_SCALAR:
        return json_is_string(v) || json_is_integer(v) || json_is_boolean(v) ||
               bad(call, p->name, "a string, an integer, true or false is expected");
    case PARAM_STRING:
    case PARAM_ADDRESS:
    case PARAM_CONN:
    default:
        return check_string(call, p, v);
    }
}

static bool no_unknown(struct control_call *call, const json_t *params)
{
    const struct control_param *p;
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)params, key, v)
    {
        for (p = call->method->params; p->name && strcmp(p->name, key) != 0; p++)
            ;
        if (p->name)
            continue;
        control_fail(call, CONTROL_INVALID_PARAMS, 0, "%s has no parameter \"%.64s\"", call->method->name,
                     key);
        return false;
    }
    return true;
}

bool control_check_args(struct control_call *call, const json_t *params)
{
    if (params && !json_is_object(params)) {
        control_fail(call, CONTROL_INVALID_PARAMS, 0, "\"params\" is to be an object: parameters have names");
        return false;
    }
    call->args = json_object();
    if (!no_unknown(call, params))
        return false;
    for (const struct control_param *p = call->method->params; p->name; p++) {
        json_t *v = json_object_get(params, p->name);

        if (json_is_null(v))
            v = NULL; /* null: as if absent */
        if (!v && p->required)
            return bad(call, p->name, "is required");
        if (v && !check_one(call, p, v))
            return false;
        if (v)
            json_object_set(call->args, p->name, v);
        else if (p->def)
            json_object_set_new(call->args, p->name, json_loads(p->def, JSON_DECODE_ANY, NULL));
    }
    return true;
}

const char *arg_string(const struct control_call *call, const char *name)
{
    return json_string_value(json_object_get(call->args, name));
}

int64_t arg_int(const struct control_call *call, const char *name, int64_t absent)
{
    const json_t *v = json_object_get(call->args, name);

    return v ? json_integer_value(v) : absent;
}

bool arg_bool(const struct control_call *call, const char *name)
{
    return json_is_true(json_object_get(call->args, name));
}

bool arg_address(const struct control_call *call, const char *name, struct ip_addr *ret)
{
    const char *text = arg_string(call, name);

    return text && ip_addr_parse(text, ret);
}

tcp_id arg_conn(const struct control_call *call, const char *name)
{
    tcp_id id = 0;

    id_parse(arg_string(call, name), &id);
    return id;
}
