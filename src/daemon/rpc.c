/*
 * daemon/rpc.c: one request becomes at most one answer (JSON-RPC 2.0).
 *
 * The order in which a request is refused: not JSON, not a request, no such method, no right to it, no
 * descriptor can travel here, arguments. A notification (no "id") is carried out and not answered, not even
 * with an error, except that its id could not be read (parse error, not a request: id null). Every error
 * carries data.name (stable) and data.errno. Called by control.c in the first half of a turn; answers are
 * queued only.
 */
#include "daemon/call.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int code, err;
} errors[] = {
#define X(name, code, err, help) {#name, code, err},
    CONTROL_ERRORS(X)
#undef X
};
_Static_assert(sizeof errors / sizeof *errors == CONTROL_ERROR_MAX, "one row per error");

/* ---- Errors
 * ------------------------------------------------------------------------------------------------------ */

enum control_outcome control_fail(struct control_call *call, enum control_error e, int err, const char *fmt,
                                  ...)
{
    va_list ap;

    call->fault.error = e;
    call->fault.err = err;
    va_start(ap, fmt);
    vsnprintf(call->fault.text, sizeof call->fault.text, fmt, ap);
    va_end(ap);
    return CONTROL_FAILED;
}

enum control_error control_error_of_errno(int err)
{
    switch (err) {
    case ECONNREFUSED:
        return CONTROL_CONNECTION_REFUSED;
    case ECONNRESET:
        return CONTROL_CONNECTION_RESET;
    case ETIMEDOUT:
        return CONTROL_TIMED_OUT;
    case EHOSTUNREACH:
    case EHOSTDOWN:
        return CONTROL_HOST_UNREACHABLE;
    case ENETUNREACH:
    case ENETDOWN:
        return CONTROL_NETWORK_UNREACHABLE;
    case EADDRINUSE:
        return CONTROL_ADDRESS_IN_USE;
    case EADDRNOTAVAIL:
        return CONTROL_ADDRESS_NOT_AVAILABLE;
    case EMFILE:
        return CONTROL_NO_DESCRIPTORS;
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        return CONTROL_NO_MEMORY;
    case EINVAL:
    case ENOPROTOOPT:
    case EAFNOSUPPORT:
    case EACCES:
        return CONTROL_INVALID_PARAMS;
    case ENOENT:
        return CONTROL_NO_SUCH_CONNECTION;
    default:
        return CONTROL_INTERNAL_ERROR;
    }
}

enum control_outcome control_fail_errno(struct control_call *call, int err, const char *what)
{
    return control_fail(call, control_error_of_errno(err), err, "%s: %s", what, strerror(err));
}

void control_answer_error(struct control_client *cl, const json_t *id, const struct control_fault *f)
{
    int err = f->err ? f->err : errors[f->error].err;
    const char *err_name = strerrorname_np(err);
    json_t *text = json_string(f->text);

    cl->control->d->counters.control_errors++;
    if (!text) /* what was quoted in it is not UTF-8 */
        text = json_string("refused; the reason cannot be shown as text");
    control_send(cl,
                 json_pack("{s:s, s:O?, s:{s:i, s:o, s:{s:s, s:s, s:i}}}", "jsonrpc", "2.0", "id",
                           (json_t *)(uintptr_t)id, "error", "code", errors[f->error].code, "message", text,
                           "data", "name", errors[f->error].name, "errno", err_name ? err_name : "EIO",
                           "errno_number", err),
                 -1);
}

static void answer_result(struct control_client *cl, json_t *id, json_t *result, int fd)
{
    cl->control->d->counters.control_calls++;
    control_send(cl, json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", id, "result", result), fd);
}

/* ---- Answers that come later
 * ------------------------------------------------------------------------------------- */

void control_pend(struct control_call *call, struct control_pending *p,
                  void (*cancel)(struct control_pending *p, uint64_t now))
{
    p->client = call->client;
    p->id = call->id ? json_incref(call->id) : NULL;
    p->cancel = cancel;
    list_init(&p->link);
    list_add_tail(&call->client->pending, &p->link);
    call->client->n_pending++;
}

static struct control_client *pending_done(struct control_pending *p)
{
    struct control_client *cl = p->client;

    list_del(&p->link);
    cl->n_pending--;
    daemon_defer(cl->control->d, &cl->flush);
    daemon_kick(cl->control->d);
    return cl;
}

void control_resolve(struct control_pending *p, json_t *result, int fd)
{
    struct control_client *cl = pending_done(p);

    if (p->id) {
        answer_result(cl, p->id, result, fd);
        json_decref(p->id);
        return;
    }
    json_decref(result);
    if (fd >= 0)
        close(fd);
}

void control_reject(struct control_pending *p, enum control_error e, int err, const char *text)
{
    struct control_client *cl = pending_done(p);
    struct control_fault f = {.error = e, .err = err};

    snprintf(f.text, sizeof f.text, "%s", text);
    if (p->id)
        control_answer_error(cl, p->id, &f);
    json_decref(p->id);
}

/* ---- Requests
 * ---------------------------------------------------------------------------------------------------- */

/* False with the fault that says why this is no request. */
static bool is_request(struct control_call *call, json_t *req)
{
    static const char *const members[] = {"jsonrpc", "id", "method", "params"};
    const char *version = json_string_value(json_object_get(req, "jsonrpc")), *key;
    json_t *id = json_object_get(req, "id"), *value;

    if (json_is_array(req)) {
        control_fail(call, CONTROL_INVALID_REQUEST, 0,
                     "batches are not served: send the requests one by one");
        return false;
    }
    if (!json_is_object(req)) {
        control_fail(call, CONTROL_INVALID_REQUEST, 0, "a request is a JSON object");
        return false;
    }
    if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id)) {
        control_fail(call, CONTROL_INVALID_REQUEST, 0, "\"id\" is to be a string, a number or null");
        return false;
    }
    call->id = id;
    if (!version || strcmp(version, "2.0") != 0) {
        control_fail(call, CONTROL_INVALID_REQUEST, 0, "\"jsonrpc\" is to be \"2.0\"");
        return false;
    }
    if (!json_is_string(json_object_get(req, "method"))) {
        control_fail(call, CONTROL_INVALID_REQUEST, 0, "\"method\" is to be a string");
        return false;
    }
    json_object_foreach(req, key, value)
    {
        bool known = false;

        for (size_t i = 0; i < sizeof members / sizeof *members; i++)
            known |= strcmp(key, members[i]) == 0;
        if (!known) {
            control_fail(call, CONTROL_INVALID_REQUEST, 0,
                         "unknown member \"%.64s\": a request has jsonrpc, id, method and params", key);
            return false;
        }
    }
    return true;
}

/* True if the method may be called so. */
static bool may_call(struct control_call *call, const char *name)
{
    struct control_client *cl = call->client;

    call->method = control_method_find(name);
    if (!call->method) {
        control_fail(call, CONTROL_METHOD_NOT_FOUND, 0, "no method \"%.64s\"; rpc.discover lists them", name);
        return false;
    }
    if (call->method->level == CONTROL_LEVEL_CONTROL && cl->level != CONTROL_LEVEL_CONTROL) {
        control_fail(call, CONTROL_PERMISSION_DENIED, 0,
                     "%s needs root, the daemon's user or its control group", name);
        return false;
    }
    if (call->method->carries_fd && !cl->seq) {
        control_fail(call, CONTROL_NEEDS_SEQPACKET, 0, "%s answers with a descriptor: call it on control.seq",
                     name);
        return false;
    }
    if (cl->n_pending >= CONTROL_PENDING_MAX) {
        control_fail(call, CONTROL_TOO_MANY_CALLS, 0, "%u calls are unanswered already", cl->n_pending);
        return false;
    }
    return true;
}

static enum control_outcome carry_out(struct control_call *call, json_t *req)
{
    if (!may_call(call, json_string_value(json_object_get(req, "method"))) ||
        !control_check_args(call, json_object_get(req, "params")))
        return CONTROL_FAILED;
    return call->method->handler(call);
}

void control_request(struct control_client *cl, const char *text, size_t len, uint64_t now)
{
    struct control_call call = {.d = cl->control->d, .client = cl, .now = now, .fd = -1};
    enum control_outcome outcome = CONTROL_FAILED;
    bool notification = false;
    json_error_t e;
    json_t *req = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);

    if (!req) {
        control_fail(&call, CONTROL_PARSE_ERROR, 0, "not JSON: %s (byte %d)", e.text, e.position);
    } else if (is_request(&call, req)) {
        notification = call.id == NULL;
        outcome = carry_out(&call, req);
    }
    if (outcome == CONTROL_DONE && !notification) {
        answer_result(cl, call.id, call.result, call.fd);
    } else if (outcome == CONTROL_DONE) {
        json_decref(call.result);
        if (call.fd >= 0)
            close(call.fd);
    } else if (outcome == CONTROL_FAILED && !notification) {
        control_answer_error(cl, call.id, &call.fault);
    }
    json_decref(call.args);
    json_decref(req);
}
