/*
 * tcp/cookies.c: SYN cookies (RFC 4987 section 3.6): a half-open connection that costs nothing, because what is to be
 * remembered of it lies in the ISN and the timestamp of our SYN-ACK, which the peer's ACK brings back.
 *
 *     ISN = hash(tuple) + IRS + (minute << 24) + (hash(tuple, minute) + index of the MSS) mod 2^24
 *     TSval = clock with its low 6 bits replaced by {ECN, SACK, window scale or 15}
 *
 * as Linux has it, with SipHash, and with its weakness: MSS and sequence number are added, so that an ACK whose sequence
 * number is off by one to three may pass for one with another MSS. A cookie is good for two minutes. Without timestamps
 * there is neither SACK nor window scaling. Pure; request.c decides when.
 */
#include "tcp/tcp_priv.h"

#define COOKIE_BITS   24
#define COOKIE_MASK   ((1u << COOKIE_BITS) - 1)
#define COOKIE_AGE    2u                   /* Linux MAX_SYNCOOKIE_AGE */
#define COOKIE_PERIOD (60 * NSEC_PER_SEC)  /* TCP_SYNCOOKIE_PERIOD */
#define TS_BITS       6
#define TS_WSCALE     0xfu /* TS_OPT_WSCALE_MASK: also "no window scaling" */
#define TS_SACK       0x10u
#define TS_ECN        0x20u

static const uint16_t mss_v4[] = {536, 1300, 1440, 1460};
static const uint16_t mss_v6[] = {1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60};

#define N_MSS (sizeof mss_v4 / sizeof mss_v4[0])
static_assert(sizeof mss_v6 == sizeof mss_v4, "one index for both families");

/* Two keys from the ISN's secret, so that a restarted engine knows its cookies. */
void tcp_cookies_init(struct tcp *t)
{
    for (unsigned i = 0; i < 2; i++) {
        const char label[2][16] = {"syn cookie k0", "syn cookie k1"};
        uint8_t text[17];

        memcpy(text, label[0], 16);
        text[16] = (uint8_t)i;
        t->cookie_key[i].k0 = siphash(&t->secrets.isn, text, sizeof text);
        memcpy(text, label[1], 16);
        t->cookie_key[i].k1 = siphash(&t->secrets.isn, text, sizeof text);
    }
}

static uint32_t cookie_hash(const struct tcp *t, const struct ip_tuple *tuple, uint32_t count, unsigned key)
{
    struct {
        struct ip_tuple tuple;
        uint32_t count;
    } text = {*tuple, count};

    static_assert(sizeof text == sizeof(struct ip_tuple) + 4, "no padding is hashed");
    return (uint32_t)siphash(&t->cookie_key[key], &text, sizeof text);
}

static uint32_t cookie_time(uint64_t now)
{
    return (uint32_t)(now / COOKIE_PERIOD);
}

static const uint16_t *mss_table(const struct ip_tuple *tuple)
{
    return tuple->local.family == IP_V6 ? mss_v6 : mss_v4;
}

uint32_t tcp_cookie_make(const struct tcp *t, const struct ip_tuple *tuple, uint32_t irs, uint16_t *inout_mss,
                         uint64_t now)
{
    const uint16_t *table = mss_table(tuple);
    uint32_t count = cookie_time(now), i = N_MSS - 1;

    while (i > 0 && *inout_mss < table[i])
        i--;
    *inout_mss = table[i];
    return cookie_hash(t, tuple, 0, 0) + irs + (count << COOKIE_BITS) +
           ((cookie_hash(t, tuple, count, 1) + i) & COOKIE_MASK);
}

uint16_t tcp_cookie_check(const struct tcp *t, const struct ip_tuple *tuple, uint32_t irs, uint32_t cookie,
                          uint64_t now)
{
    uint32_t count = cookie_time(now), rest = cookie - cookie_hash(t, tuple, 0, 0) - irs, age, i;

    age = (count - (rest >> COOKIE_BITS)) & (UINT32_MAX >> COOKIE_BITS);
    if (age >= COOKIE_AGE)
        return 0;
    i = (rest - cookie_hash(t, tuple, count - age, 1)) & COOKIE_MASK;
    return i < N_MSS ? mss_table(tuple)[i] : 0;
}

/* Never in the future: what follows must not look older (RFC 7323 section 5). */
uint32_t tcp_cookie_tsval(const struct tcp *t, const struct ip_tuple *tuple, bool wscale_ok,
                          uint8_t snd_wscale, bool sack_ok, bool ecn_ok, uint64_t now)
{
    uint64_t clock = now / NSEC_PER_MSEC, ts = clock >> TS_BITS << TS_BITS;

    ts |= (wscale_ok ? snd_wscale : TS_WSCALE) | (sack_ok ? TS_SACK : 0) | (ecn_ok ? TS_ECN : 0);
    if (ts > clock)
        ts -= 1u << TS_BITS;
    return (uint32_t)ts + tcp_ts_offset(t, tuple);
}

bool tcp_cookie_options(const struct tcp *t, const struct ip_tuple *tuple, uint32_t tsecr,
                        bool *ret_wscale_ok, uint8_t *ret_snd_wscale, bool *ret_sack_ok, bool *ret_ecn_ok)
{
    uint32_t bits = tsecr - tcp_ts_offset(t, tuple);
    bool sack = (bits & TS_SACK) != 0, wscale = (bits & TS_WSCALE) != TS_WSCALE;

    if (!t->config->tcp_timestamps || (sack && !t->config->tcp_sack) ||
        (wscale && !t->config->tcp_window_scaling))
        return false;
    *ret_sack_ok = sack;
    *ret_ecn_ok = (bits & TS_ECN) && t->config->tcp_ecn;
    *ret_wscale_ok = wscale;
    *ret_snd_wscale = (uint8_t)(wscale ? bits & TS_WSCALE : 0);
    return true;
}
