/*
 * cli/explain.c: `taut explain`: where the time of a connection went. The record (trace.get) and what the connection is
 * now (conn.get, server.status, stats.get) are fetched here; src/trace/explain.c judges them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/record.h"
#include "trace/explain.h"

static uint64_t u64(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return json_is_integer(v) ? (uint64_t)json_integer_value(v) : json_is_null(v) ? UINT64_MAX : 0;
}

static void print(const struct cli *c, const struct explained *x, const struct explain_context *ctx)
{
    struct trace_text text = {0};

    if (c->json)
        trace_explain_json(x, ctx, &text);
    else
        trace_explain_text(x, ctx, &text);
    if (text.at)
        fwrite(text.at, 1, text.len, stdout);
    if (c->json)
        putchar('\n');
    trace_text_free(&text);
}

/* The port behind the last colon. */
static long port_of(const char *address)
{
    const char *colon = strrchr(address, ':');

    return colon ? strtol(colon + 1, NULL, 10) : -1;
}

/* A listener on that port into ctx, the fullest if there are several; false: there is none (or no daemon: *ret_status).
 */
static bool find_listener(struct cli *c, long port, struct explain_context *ctx, int *ret_status)
{
    json_t *j = cli_call(c, "server.status", NULL, ret_status);
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(j, "listeners"), i, row)
    {
        if (port_of(jstr(row, "address")) != port ||
            (ctx->listener_known && u64(row, "accept_queue") <= ctx->accept_queue))
            continue;
        ctx->listener_known = true;
        ctx->backlog = u64(row, "backlog");
        ctx->accept_queue = u64(row, "accept_queue");
        ctx->half_opens = u64(row, "half_open");
        snprintf(ctx->owner, sizeof ctx->owner, "%s", jstr(row, "owner"));
    }
    json_decref(j);
    j = ctx->listener_known ? cli_call(c, "stats.get", NULL, ret_status) : NULL;
    ctx->drops_accept_queue = u64(json_object_get(j, "tcp_drops"), "LISTEN_BACKLOG");
    json_decref(j);
    return ctx->listener_known;
}

static int explain_listener(struct cli *c, const char *text)
{
    struct explain_context ctx = {.listening = true};
    struct explained x;
    int status = EXIT_OK;
    long port;

    if (!cli_number("port", text, 1, 65535, &port))
        return EXIT_USAGE;
    if (!cli_daemon(c))
        return EXIT_NO_DAEMON;
    if (!find_listener(c, port, &ctx, &status)) {
        if (status == EXIT_OK)
            fprintf(stderr, "taut: nobody listens on port %ld\n", port);
        return status == EXIT_OK ? EXIT_REFUSED : status;
    }
    trace_explain_context(&ctx, &x);
    print(c, &x, &ctx);
    return EXIT_OK;
}

static void take_figures(const json_t *j, struct explain_context *ctx)
{
    const json_t *pump = json_object_get(j, "pump");

    ctx->live = true;
    ctx->half_open = strstr(jstr(j, "state"), "NEW_SYN_RECV") != NULL;
    ctx->forward = strncmp(jstr(j, "owner"), "forward", 7) == 0;
    snprintf(ctx->owner, sizeof ctx->owner, "%s", jstr(j, "owner"));
    ctx->unread_bytes = u64(j, "unread_bytes");
    ctx->undelivered = json_is_object(pump) ? u64(pump, "undelivered") : 0;
    ctx->notsent_bytes = u64(j, "notsent_bytes");
    ctx->sndbuf = u64(j, "sndbuf");
    ctx->sndbuf_used = u64(j, "sndbuf_used");
    ctx->rcvbuf = u64(j, "rcvbuf");
    ctx->snd_wnd = u64(j, "snd_wnd");
    ctx->cwnd = u64(j, "snd_cwnd");
    ctx->snd_mss = u64(j, "snd_mss");
    ctx->rtt_us = u64(j, "rtt");
    ctx->pacing_rate = u64(j, "pacing_rate");
    ctx->max_pacing_rate = u64(j, "max_pacing_rate");
    ctx->retrans = u64(j, "total_retrans");
}

#define NO_CONNECTION "what belongs to no connection can't be explained"

/* Every record in it; what: the file, or NULL. A record in several sections is one. */
static int explain_bytes(struct cli *c, const char *what, const struct bytes *b, const struct explain_context *ctx)
{
    const char *why = "?";
    size_t used, bytes;

    for (size_t pos = 0; pos < b->n; pos += used) {
        struct explained x;
        struct trace tr;

        if (trace_join(b->at + pos, b->n - pos, &used, &bytes, &why) < 0 ||
            trace_open(b->at + pos, bytes, &tr, NULL, &why) < 0)
            return cli_damaged(what, why);
        if (tr.head.kind == TCP_REC_KIND_ENGINE)
            return cli_damaged(what, NO_CONNECTION);
        if (trace_explain(&tr, ctx, &x) < 0)
            return cli_damaged(what, "the trace is damaged");
        if (pos && !c->json)
            putchar('\n');
        print(c, &x, ctx);
    }
    return EXIT_OK;
}

static int explain_conn(struct cli *c, const char *id)
{
    struct explain_context ctx = {0};
    struct explained x;
    struct bytes b = {0};
    int status = EXIT_OK;
    json_t *j;

    c->quiet = true; /* one that is gone has a record, perhaps */
    j = cli_call(c, "conn.get", json_pack("{s:s}", "id", id), &status);
    c->quiet = false;
    if (j)
        take_figures(j, &ctx);
    if (ctx.half_open) {
        (void)find_listener(c, port_of(jstr(j, "local")), &ctx, &status);
        trace_explain_context(&ctx, &x);
        print(c, &x, &ctx);
    } else {
        status = cli_fetch_record(c, id, &b);
        if (status == EXIT_OK)
            status = explain_bytes(c, NULL, &b, &ctx);
    }
    json_decref(j);
    free(b.at);
    return status;
}

int cmd_explain(struct cli *c, int argc, char **argv)
{
    const struct explain_context none = {0};
    struct bytes b = {0};
    int status;

    if (argc != 2)
        return cli_usage("explain ID|FILE|:PORT");
    if (argv[1][0] == ':')
        return explain_listener(c, argv[1] + 1);
    if (strcmp(argv[1], "engine") == 0)
        return cli_damaged(NULL, NO_CONNECTION);
    if (cli_is_id(argv[1]))
        return cli_daemon(c) ? explain_conn(c, argv[1]) : EXIT_NO_DAEMON;
    status = cli_load_file(argv[1], CLI_RECORD_MAX, &b);
    if (status == EXIT_OK)
        status = explain_bytes(c, argv[1], &b, &none);
    free(b.at);
    return status;
}
