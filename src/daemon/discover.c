/*
 * daemon/discover.c: the method table as an OpenRPC document (rpc.discover, tautd --dump-api), with the
 * errors. What OpenRPC has no word for is under names that begin with "x-": who may call, whether a
 * descriptor comes along. Pure: a function of the tables.
 */
#include "daemon/call.h"

#include <string.h>

static json_t *param_schema(const struct control_param *p)
{
    json_t *s = json_object();

    if (p->type == PARAM_SCALAR)
        json_object_set_new(s, "type", json_pack("[s, s, s]", "string", "integer", "boolean"));
    else
        json_object_set_new(s, "type", json_string(control_param_type_name(p->type)));
    if (p->type == PARAM_STRINGS)
        json_object_set_new(s, "items", json_pack("{s:s}", "type", "string"));
    if (p->type == PARAM_ADDRESS)
        json_object_set_new(s, "format", json_string("ip-address"));
    if (p->type == PARAM_CONN)
        json_object_set_new(s, "pattern", json_string("^(0|[1-9][0-9]*)\\.(0|[1-9a-f][0-9a-f]*)$"));
    if (p->type == PARAM_STRING)
        json_object_set_new(s, "maxLength", json_integer(p->max ? p->max : 256));
    if (p->type == PARAM_INT) {
        json_object_set_new(s, "minimum", json_integer(p->min));
        json_object_set_new(s, "maximum", json_integer(p->max));
    }
    if (p->def)
        json_object_set_new(s, "default", json_loads(p->def, JSON_DECODE_ANY, NULL));
    return s;
}

static json_t *params_of(const struct control_method *m)
{
    json_t *a = json_array();

    for (const struct control_param *p = m->params; p->name; p++)
        json_array_append_new(a, json_pack("{s:s, s:s, s:b, s:o}", "name", p->name, "description", p->help,
                                           "required", (int)p->required, "schema", param_schema(p)));
    return a;
}

static json_t *result_of(const struct control_method *m)
{
    json_t *fields = json_array();

    for (const struct control_field *f = m->result; f->name; f++)
        json_array_append_new(
            fields, json_pack("{s:s, s:s, s:s}", "name", f->name, "type", f->type, "description", f->help));
    return json_pack("{s:s, s:{s:s}, s:o}", "name", "result", "schema", "type", "object", "x-fields", fields);
}

static json_t *errors_list(void)
{
    json_t *a = json_array();

#define X(name, code, err, help)                                                                             \
    json_array_append_new(a,                                                                                 \
                          json_pack("{s:i, s:s, s:{s:s, s:s, s:i}}", "code", code, "message", help, "data",  \
                                    "name", #name, "errno", strerrorname_np(err), "errno_number", err));
    CONTROL_ERRORS(X)
#undef X
    return a;
}

json_t *control_discover(void)
{
    json_t *methods = json_array();

    for (const struct control_method *m = control_methods; m->name; m++)
        json_array_append_new(methods, json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:b}", "name", m->name,
                                                 "summary", m->help, "paramStructure", "by-name", "params",
                                                 params_of(m), "result", result_of(m), "x-level",
                                                 m->level == CONTROL_LEVEL_CONTROL ? "control" : "read-only",
                                                 "x-descriptor", (int)m->carries_fd));
    return json_pack("{s:s, s:{s:s, s:s}, s:o, s:o}", "openrpc", "1.2.6", "info", "title", "taut control API",
                     "version", "1", "methods", methods, "x-errors", errors_list());
}

int control_dump_api(FILE *out)
{
    json_t *doc = control_discover();
    int r = doc ? json_dumpf(doc, out, JSON_INDENT(2)) : -1;

    json_decref(doc);
    return r == 0 && fputc('\n', out) != EOF && fflush(out) == 0 ? 0 : -1;
}

enum control_outcome method_rpc_discover(struct control_call *call)
{
    call->result = control_discover();
    return CONTROL_DONE;
}
