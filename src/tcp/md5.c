/*
 * tcp/md5.c: TCP-MD5 (RFC 2385): which key counts, what is signed with it, what is dropped for want of it.
 *
 * The MD5 itself is handed in (tcp_params.crypto). A signature covers decoded fields only (pseudo-header, header without
 * options, payload, key), so the engine signs a segment as the last step of making it, and each is a segment of its own:
 * no super-frames, no changes behind the engine. Secrets lie in one bounded table and nowhere else; connections,
 * listeners, TIME-WAIT entries and reply intents name them by place:
 *
 *     refs of a place = owners that name it; 0 => its bytes are wiped, in an arena by the next commit
 *
 * Half-open entries name none: their listener's key is looked up, as in Linux. Nothing here is ever printed.
 *
 * In an arena a place that lost its last owner stays as it is until the commit (tcp_record.h): a crash within the turn
 * brings the owner back. A new engine finds the places, counts owners anew, and tcp_restore() wipes those without one.
 */
#include "base/wipe.h"
#include "tcp/tcp_priv.h"

#define KEYS_DEFAULT 1024u
#define PIECES_MAX   (TCP_SLICES_MAX + 2) /* headers, payload, key */

/* In an arena it outlives the engine. bytes 0: free. */
struct secret {
    uint32_t refs;
    uint8_t bytes;
    uint8_t key[TCP_MD5_KEY_MAX];
};

struct tcp_md5_table {
    struct secret *slot; /* place n is slot[n - 1] */
    uint32_t size;
    bool own;
    bool unowned; /* since the last commit places lost their last owner */
};

/* ---- the table of keys ---- */

size_t tcp_md5_slot_bytes(void)
{
    return sizeof(struct secret);
}

/* Keys that an earlier engine left in the arena stay, without owners yet. */
int tcp_md5_init(struct tcp *t)
{
    struct tcp_md5_table *m = calloc(1, sizeof *m);

    if (!m)
        return -ENOMEM;
    t->md5 = m;
    m->size = t->params.max_md5_keys ? t->params.max_md5_keys : KEYS_DEFAULT;
    if (m->size > TCP_MD5_KEYS_MAX)
        m->size = TCP_MD5_KEYS_MAX;
    m->own = !t->params.md5_arena;
    m->slot = m->own ? calloc(m->size, sizeof *m->slot) : t->params.md5_arena;
    for (uint32_t i = 0; m->slot && i < m->size; i++) {
        if (m->slot[i].refs) /* or a place that holds nothing would be touched */
            m->slot[i].refs = 0;
        if (m->slot[i].bytes > TCP_MD5_KEY_MAX)
            wipe(&m->slot[i], sizeof m->slot[i]); /* damaged */
    }
    return m->slot ? 0 : -ENOMEM;
}

void tcp_md5_destroy(struct tcp *t)
{
    if (!t->md5)
        return;
    if (t->md5->own && t->md5->slot) {
        for (uint32_t i = 0; i < t->md5->size; i++)
            wipe(&t->md5->slot[i], sizeof *t->md5->slot);
        free(t->md5->slot);
    }
    free(t->md5);
    t->md5 = NULL;
}

uint16_t tcp_md5_ref(struct tcp *t, uint16_t key)
{
    if (key)
        t->md5->slot[key - 1].refs++;
    return key;
}

void tcp_md5_unref(struct tcp *t, uint16_t key)
{
    if (!key || --t->md5->slot[key - 1].refs != 0)
        return;
    if (t->md5->own)
        wipe(&t->md5->slot[key - 1], sizeof *t->md5->slot);
    else
        t->md5->unowned = true;
}

bool tcp_md5_known(const struct tcp *t, uint16_t key)
{
    return key && key <= t->md5->size && t->md5->slot[key - 1].bytes;
}

void tcp_md5_sweep(struct tcp *t)
{
    for (uint32_t i = 0; i < t->md5->size; i++) {
        if (t->md5->slot[i].bytes && !t->md5->slot[i].refs)
            wipe(&t->md5->slot[i], sizeof *t->md5->slot);
    }
}

void tcp_md5_commit(struct tcp *t)
{
    if (t->md5->unowned)
        tcp_md5_sweep(t);
    t->md5->unowned = false;
}

/* A place for the key, with one owner: that of the same bytes, or a new one; 0: full. */
static uint16_t key_enter(struct tcp *t, const struct tcp_md5_key *key)
{
    uint32_t place = 0;

    for (uint32_t i = t->md5->size; i > 0; i--) {
        const struct secret *s = &t->md5->slot[i - 1];

        if (s->bytes == key->bytes && memcmp(s->key, key->key, key->bytes) == 0)
            return tcp_md5_ref(t, (uint16_t)i);
        if (!s->bytes)
            place = i;
    }
    if (!place)
        return 0;
    memcpy(t->md5->slot[place - 1].key, key->key, key->bytes);
    t->md5->slot[place - 1].bytes = key->bytes;
    return tcp_md5_ref(t, (uint16_t)place);
}

/* ---- whose keys ---- */

static int check_args(const struct tcp *t, const struct tcp_md5_key *key)
{
    if (!t->params.crypto)
        return -ENOPROTOOPT;
    if ((key->addr.family != IP_V4 && key->addr.family != IP_V6) || key->bytes > TCP_MD5_KEY_MAX ||
        key->prefix > (key->addr.family == IP_V4 ? 32 : 128))
        return -EINVAL;
    return 0;
}

/* Without the interface of a link-local address: prefixes have none. */
static bool in_prefix(const struct ip_addr *prefix, const struct ip_addr *addr, unsigned bits)
{
    return prefix->family == addr->family && ip_addr_prefix_eq(prefix, addr, bits);
}

uint16_t tcp_md5_of_listener(const struct tcp_listener *l, const struct ip_addr *peer)
{
    for (unsigned i = 0; i < l->n_md5; i++) {
        if (in_prefix(&l->md5[i].addr, peer, l->md5[i].prefix))
            return l->md5[i].key;
    }
    return 0;
}

static struct tcp_listener_md5 *listener_entry(const struct tcp_listener *l, const struct tcp_md5_key *key)
{
    for (unsigned i = 0; i < l->n_md5; i++) {
        if (l->md5[i].prefix == key->prefix && in_prefix(&l->md5[i].addr, &key->addr, key->prefix))
            return &l->md5[i];
    }
    return NULL;
}

static void listener_forget(struct tcp *t, struct tcp_listener *l, struct tcp_listener_md5 *e)
{
    tcp_md5_unref(t, e->key);
    l->n_md5--;
    memmove(e, e + 1, (size_t)(l->md5 + l->n_md5 - e) * sizeof *e);
}

static int listener_add(struct tcp *t, struct tcp_listener *l, const struct tcp_md5_key *key)
{
    struct tcp_listener_md5 *more = realloc(l->md5, (l->n_md5 + 1) * sizeof *more);
    uint16_t place;
    unsigned i = 0;

    if (!more)
        return -ENOMEM;
    l->md5 = more;
    place = key_enter(t, key);
    if (!place)
        return -ENOMEM;
    while (i < l->n_md5 && more[i].prefix >= key->prefix)
        i++;
    memmove(more + i + 1, more + i, (l->n_md5 - i) * sizeof *more);
    more[i] = (struct tcp_listener_md5){.addr = key->addr, .prefix = key->prefix, .key = place};
    l->n_md5++;
    return 0;
}

int tcp_listen_md5_set(struct tcp *t, uint32_t listener, const struct tcp_md5_key *key)
{
    struct tcp_listener *l = tcp_listener_by_number(t, listener);
    struct tcp_listener_md5 *e;
    uint16_t place;
    int r = check_args(t, key);

    if (!l || r < 0)
        return l ? r : -ENOENT;
    e = listener_entry(l, key);
    if (!key->bytes) {
        if (!e)
            return -ENOENT;
        listener_forget(t, l, e);
        return 0;
    }
    if (!e)
        return listener_add(t, l, key);
    place = key_enter(t, key);
    if (!place)
        return -ENOMEM;
    tcp_md5_unref(t, e->key);
    e->key = place;
    return 0;
}

void tcp_md5_listener_closed(struct tcp *t, struct tcp_listener *l)
{
    while (l->n_md5)
        tcp_md5_unref(t, l->md5[--l->n_md5].key);
    free(l->md5);
    l->md5 = NULL;
}

static uint8_t whole_address(const struct tcp_conn *c)
{
    return c->tuple.remote.family == IP_V6 ? 128 : 32;
}

void tcp_md5_inherit(struct tcp *t, struct tcp_conn *c, const struct tcp_listener *l)
{
    c->md5_key[0] = tcp_md5_ref(t, tcp_md5_of_listener(l, &c->tuple.remote));
    c->md5_prefix[0] = c->md5_key[0] ? whole_address(c) : 0;
}

void tcp_md5_release(struct tcp *t, struct tcp_conn *c)
{
    for (unsigned i = 0; i < TCP_MD5_KEYS_CONN; i++) {
        tcp_md5_unref(t, c->md5_key[i]);
        c->md5_key[i] = 0;
    }
}

/* All prefixes hold the peer, so their lengths tell them apart. Place of this one, or where it belongs. */
static unsigned conn_place(const struct tcp_conn *c, unsigned prefix)
{
    unsigned i = 0;

    while (i < TCP_MD5_KEYS_CONN && c->md5_key[i] && c->md5_prefix[i] > prefix)
        i++;
    return i;
}

static void conn_forget(struct tcp *t, struct tcp_conn *c, unsigned i)
{
    tcp_md5_unref(t, c->md5_key[i]);
    for (; i + 1 < TCP_MD5_KEYS_CONN; i++) {
        c->md5_key[i] = c->md5_key[i + 1];
        c->md5_prefix[i] = c->md5_prefix[i + 1];
    }
    c->md5_key[i] = 0;
    c->md5_prefix[i] = 0;
}

static int conn_set(struct tcp *t, struct tcp_conn *c, const struct tcp_md5_key *key)
{
    unsigned i = conn_place(c, key->prefix), last = TCP_MD5_KEYS_CONN - 1;
    bool there = i <= last && c->md5_key[i] && c->md5_prefix[i] == key->prefix;
    uint16_t place;

    if (!key->bytes) {
        if (!there)
            return -ENOENT;
        conn_forget(t, c, i);
        return 0;
    }
    if (!there && c->md5_key[last])
        return -ENOMEM;
    place = key_enter(t, key);
    if (!place)
        return -ENOMEM;
    if (there) {
        tcp_md5_unref(t, c->md5_key[i]);
    } else {
        for (unsigned j = last; j > i; j--) {
            c->md5_key[j] = c->md5_key[j - 1];
            c->md5_prefix[j] = c->md5_prefix[j - 1];
        }
    }
    c->md5_key[i] = place;
    c->md5_prefix[i] = key->prefix;
    return 0;
}

int tcp_md5_set(struct tcp *t, tcp_id id, const struct tcp_md5_key *key, uint64_t now)
{
    struct tcp_conn *c = tcp_conn_by_id(t, id);
    int r = check_args(t, key);

    if (!c || r < 0)
        return c ? r : -ENOENT;
    if (!in_prefix(&key->addr, &c->tuple.remote, key->prefix))
        return -EINVAL;
    r = conn_set(t, c, key);
    tcp_rec_call(t, c, TCP_REC_CALL_MD5, key->prefix, r, key->bytes > 0, 0, now);
    if (r < 0)
        return r;
    if (c->state == TCP_STATE_SYN_SENT) {
        tcp_set_offers(t, c);
        if (c->snd_nxt == c->iss && c->snd_una == c->iss && !c->syn_data)
            tcp_prepare_syn(t, c);
    } else if (c->state != TCP_STATE_CLOSE) {
        tcp_sync_mss(t, c, c->pmtu); /* the option takes a part of each segment */
    }
    tcp_mark_dirty(t, c);
    tcp_assert(t, c);
    return 0;
}

bool tcp_md5_available(const struct tcp *t)
{
    return t->params.crypto != NULL;
}

bool tcp_md5_is_on(const struct tcp *t, tcp_id id)
{
    const struct tcp_conn *c = tcp_conn_view(t, id);

    return c && c->md5_key[0];
}

static void count_entries(const struct tcp *t, uint32_t *counts)
{
    for (uint32_t slot = 0; slot < tcp_table_slots(t); slot++) {
        enum tcp_kind kind;
        tcp_id id;
        const void *entry = tcp_table_at(t, slot, &kind, &id);
        const struct tcp_conn *c = entry;

        if (entry && kind == TCP_KIND_TW)
            counts[tcp_tw_md5(entry)]++;
        for (unsigned i = 0; entry && kind == TCP_KIND_CONN && i < TCP_MD5_KEYS_CONN; i++)
            counts[c->md5_key[i]]++;
    }
}

const char *tcp_md5_check_refs(const struct tcp *t)
{
    uint32_t counts[TCP_MD5_KEYS_MAX + 1] = {0};

    count_entries(t, counts);
    tcp_replies_count_md5(t, counts);
    for (unsigned i = 0; i < 64; i++) {
        list_for_each(node, &t->listeners[i])
        {
            const struct tcp_listener *l = list_entry(node, struct tcp_listener, link);

            for (unsigned k = 0; k < l->n_md5; k++)
                counts[l->md5[k].key]++;
        }
    }
    for (uint32_t i = 0; i < t->md5->size; i++) {
        if (counts[i + 1] != t->md5->slot[i].refs)
            return "refs of a TCP-MD5 key are not those who name it";
        if (t->md5->slot[i].refs && !t->md5->slot[i].bytes)
            return "a TCP-MD5 key without bytes is named";
    }
    return t->md5_in ? "md5_in is left from a segment" : NULL;
}

/* ---- signatures ---- */

/* RFC 2385 section 2.0: pseudo-header, header, payload, key, in this order. */
static bool digest(const struct tcp *t, uint16_t key, const struct tcp_seg *seg, uint8_t ret[TCP_MD5_BYTES])
{
    const struct secret *s = &t->md5->slot[key - 1];
    const struct tcp_crypto *crypto = t->params.crypto;
    struct tcp_bytes piece[PIECES_MAX];
    uint8_t header[TCP_SIGNED_BYTES_MAX];
    unsigned n = 0;

    if (!crypto)
        return false;
    piece[n++] = (struct tcp_bytes){header, tcp_signed_header(seg, header)};
    for (unsigned i = 0; i < seg->n_slices; i++)
        piece[n++] = (struct tcp_bytes){seg->slice[i].data, seg->slice[i].len};
    piece[n++] = (struct tcp_bytes){s->key, s->bytes};
    return crypto->md5(crypto->ctx, piece, n, ret);
}

/* Takes equally long wherever the first difference lies. */
static bool equal(const uint8_t *a, const uint8_t *b)
{
    uint8_t different = 0;

    for (unsigned i = 0; i < TCP_MD5_BYTES; i++)
        different |= a[i] ^ b[i];
    return !different;
}

static bool is_signed_with(const struct tcp *t, uint16_t key, const struct tcp_seg *seg)
{
    uint8_t want[TCP_MD5_BYTES];

    return digest(t, key, seg, want) && equal(want, seg->opt.md5);
}

static bool refuse(struct tcp *t, struct tcp_conn *c, enum tcp_drop reason, unsigned long long *counter)
{
    (*counter)++;
    tcp_drop(t, c, reason);
    return false;
}

bool tcp_md5_check(struct tcp *t, struct tcp_conn *c, uint16_t key, const struct tcp_seg *seg)
{
    if (!key && !seg->opt.md5_ok)
        return true;
    if (!key)
        return refuse(t, c, TCP_DROP_MD5_UNEXPECTED, &t->counters.md5_unexpected);
    if (!seg->opt.md5_ok)
        return refuse(t, c, TCP_DROP_MD5_NOT_FOUND, &t->counters.md5_not_found);
    if (!is_signed_with(t, key, seg))
        return refuse(t, c, TCP_DROP_MD5_FAILURE, &t->counters.md5_failure);
    tcp_md5_unref(t, t->md5_in);
    t->md5_in = tcp_md5_ref(t, key); /* its owner may end meanwhile */
    return true;
}

/*
 * The connection was opened by us and is lost here: no listener has its port. But one on the port that the peer used (two
 * BGP speakers, say) may have a key that proves the segment genuine, and signs the answer. Else there is none.
 */
bool tcp_md5_may_reset(struct tcp *t, const struct tcp_seg *seg)
{
    const struct tcp_listener *l;
    uint16_t key;

    if (!seg->opt.md5_ok)
        return true;
    l = tcp_lookup_listener(t, &seg->dst, seg->src_port);
    key = l ? tcp_md5_of_listener(l, &seg->src) : 0;
    return key && tcp_md5_check(t, NULL, key, seg);
}

void tcp_md5_sign(struct tcp *t, uint16_t key, struct tcp_seg *seg)
{
    if (!key)
        return;
    seg->opt.md5_ok = true;
    seg->opt.fastopen_ok = false;
    if (!digest(t, key, seg, seg->opt.md5))
        memset(seg->opt.md5, 0, sizeof seg->opt.md5); /* as good as lost: the peer drops it */
}
