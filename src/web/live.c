/*
 * web/live.c: server-sent events (theory of operation).
 *
 * A subscriber is an answer whose body never ends. libmicrohttpd asks for more when the socket takes more; a message is
 * made only then, from what is true then, and only when the one before is all out. So a subscriber that does not read
 * costs one message and one socket buffer, however long it sleeps (libmicrohttpd's time-out ends it), and misses what is
 * old. Between messages the connection is suspended; a thread of our own wakes those that are due, and sleeps itself while
 * there is no subscriber. The list is shared with that thread and held by `lock`; all else belongs to libmicrohttpd's
 * thread. Of an overview only parts that changed since the last message are sent.
 */
#include "web/web.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SUBSCRIBERS_MAX 64
#define TICK_NS         50000000L
#define OVERVIEW_S      1.0
#define CONNECTION_S    0.25
#define BLOCK_BYTES     16384
#define PARTS_MAX       16

struct subscriber {
    struct subscriber *next, **at;
    struct web_live *live;
    struct MHD_Connection *c;
    bool suspended, ended;
    double due;
    char id[TAUT_ID_MAX]; /* "": the overview */
    struct web_select select;
    uint64_t sent_hash[PARTS_MAX];
    char *text; /* the message on its way */
    size_t bytes, done;
    unsigned messages;
};

struct web_live {
    struct web *w;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct subscriber *first;
    unsigned n;
    bool stopping;
};

/* ---- Messages ---------------------------------------------------------------------------------------------------------- */

static uint64_t hash(const char *text, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return h;
}

/* Adds a part's HTML unless it is what was sent last. */
static void add_part(struct subscriber *s, json_t *message, unsigned i, const char *name, char *text, size_t n)
{
    uint64_t h = hash(text, n);

    if (s->sent_hash[i] != h)
        json_object_set_new(message, name, json_stringn_nocheck(text, n));
    s->sent_hash[i] = h;
    free(text);
}

static json_t *overview_message(struct subscriber *s)
{
    json_t *message = json_object();
    struct web_data data;

    if (!ask_overview(s->live->w, &s->select, &data)) {
        json_object_set_new(message, "error", json_string(data.error));
        return message;
    }
    for (unsigned i = 0; overview_parts[i].name; i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);

        if (!out)
            continue;
        overview_parts[i].write(out, &data);
        fclose(out);
        add_part(s, message, i, overview_parts[i].name, text, n);
    }
    ask_free(&data);
    return message;
}

static json_t *connection_message(struct subscriber *s)
{
    char params[TAUT_ID_MAX + 16], error[256] = "", *text = NULL;
    json_t *message = json_object(), *conn;
    size_t n = 0;

    snprintf(params, sizeof params, "{\"id\":\"%s\"}", s->id);
    conn = ask(s->live->w, "conn.get", params, error, sizeof error);
    if (!conn) {
        json_object_set_new(message, "error", json_string(error));
        s->ended = strstr(error, "NO_SUCH") != NULL;
        json_object_set_new(message, "gone", json_boolean(s->ended));
        return message;
    }
    json_object_set_new(message, "sample", conn_sample(conn));
    for (unsigned i = 0; i < 2 && s->messages % 4 == 0; i++) { /* people read once a second */
        FILE *out = open_memstream(&text, &n);

        if (!out)
            continue;
        if (i == 0)
            conn_facts(out, conn);
        else
            sequence_graph(out, s->live->w, s->id);
        fclose(out);
        add_part(s, message, i, i == 0 ? "facts" : "sequence", text, n);
    }
    json_decref(conn);
    return message;
}

static void make_message(struct subscriber *s)
{
    json_t *message = s->id[0] ? connection_message(s) : overview_message(s);
    FILE *out = open_memstream(&s->text, &s->bytes);

    s->done = 0;
    s->messages++;
    s->due = web_seconds() + (s->id[0] ? CONNECTION_S : OVERVIEW_S);
    if (out) {
        fputs("data: ", out);
        json_dumpf(message, out, JSON_COMPACT); /* one line: JSON text holds no line feed */
        fputs("\n\n", out);
        fclose(out);
    }
    json_decref(message);
}

/* ---- libmicrohttpd's side ---------------------------------------------------------------------------------------------- */

static ssize_t take(struct subscriber *s, char *buf, size_t max)
{
    size_t n = s->bytes - s->done < max ? s->bytes - s->done : max;

    memcpy(buf, s->text + s->done, n);
    s->done += n;
    if (s->done == s->bytes) {
        free(s->text);
        s->text = NULL;
        s->bytes = s->done = 0;
    }
    return (ssize_t)n;
}

static ssize_t more(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct subscriber *s = cls;
    struct web_live *l = s->live;
    bool stopping;

    (void)pos;
    if (s->text)
        return take(s, buf, max);
    pthread_mutex_lock(&l->lock);
    stopping = l->stopping;
    if (!stopping && !s->ended && web_seconds() < s->due) {
        s->suspended = true;
        MHD_suspend_connection(s->c);
        pthread_mutex_unlock(&l->lock);
        return 0;
    }
    pthread_mutex_unlock(&l->lock);
    if (stopping || s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    make_message(s);
    return s->text ? take(s, buf, max) : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void subscriber_free(void *cls)
{
    struct subscriber *s = cls;
    struct web_live *l = s->live;

    pthread_mutex_lock(&l->lock);
    *s->at = s->next;
    if (s->next)
        s->next->at = s->at;
    l->n--;
    pthread_mutex_unlock(&l->lock);
    free(s->text);
    free(s);
}

struct MHD_Response *live_response(struct web_live *l, struct MHD_Connection *c, const char *id,
                                   const struct web_select *select)
{
    struct subscriber *s = l->n < SUBSCRIBERS_MAX ? calloc(1, sizeof *s) : NULL;
    struct MHD_Response *r;

    if (!s)
        return NULL;
    s->live = l;
    s->c = c;
    s->select = *select;
    snprintf(s->id, sizeof s->id, "%s", id ? id : "");
    r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, more, s, subscriber_free);
    if (!r) {
        free(s);
        return NULL;
    }
    pthread_mutex_lock(&l->lock);
    s->next = l->first;
    s->at = &l->first;
    if (s->next)
        s->next->at = &s->next;
    l->first = s;
    l->n++;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return r;
}

/* ---- The waking thread ------------------------------------------------------------------------------------------------- */

static void wake(struct web_live *l, bool all)
{
    double now = web_seconds();

    for (struct subscriber *s = l->first; s; s = s->next) {
        if (!s->suspended || (!all && now < s->due))
            continue;
        s->suspended = false;
        MHD_resume_connection(s->c);
    }
}

static void *ticker(void *cls)
{
    struct web_live *l = cls;

    pthread_mutex_lock(&l->lock);
    while (!l->stopping) {
        if (!l->n) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
        pthread_mutex_lock(&l->lock);
        wake(l, false);
    }
    wake(l, true);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

struct web_live *live_new(struct web *w)
{
    struct web_live *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->w = w;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (pthread_create(&l->thread, NULL, ticker, l) != 0) {
        free(l);
        return NULL;
    }
    return l;
}

void live_stop(struct web_live *l)
{
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
}

void live_free(struct web_live *l)
{
    free(l);
}
