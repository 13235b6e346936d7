/*
 * trace/pkt.c: a record as a packetdrill script.
 */
#include <errno.h>

#include "trace/trace.h"

int trace_packetdrill(const struct trace *tr, struct trace_text *out, const char **ret_error)
{
    (void)tr;
    (void)out;
    *ret_error = "not yet";
    return -ENODATA;
}
