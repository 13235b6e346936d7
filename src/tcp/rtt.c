/*
 * tcp/rtt.c: see tcp/rtt.h. Pure arithmetic; called by ack.c and at establishment.
 */
#include "base/seq.h"
#include "base/time.h"
#include "tcp/rtt.h"

#define MIN_RTT_WINDOW_NS (300 * NSEC_PER_SEC) /* Linux tcp_min_rtt_wlen */
#define SAMPLE_MAX_US     0x0fffffffu          /* keeps srtt << 3 in 32 bits */

void tcp_rtt_init(struct tcp_rtt *r, uint32_t rto_us)
{
    *r = (struct tcp_rtt){.rto_us = rto_us, .mdev_us = rto_us, .min_rtt_us = UINT32_MAX};
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* RFC 6298 section 2.2. */
static void first_sample(struct tcp_rtt *r, uint32_t rtt_us, uint32_t snd_nxt, uint32_t rto_min_us)
{
    r->srtt_us = rtt_us << 3;
    r->mdev_us = rtt_us << 1;
    r->rttvar_us = max_u32(r->mdev_us, rto_min_us);
    r->mdev_max_us = r->rttvar_us;
    r->rtt_seq = snd_nxt;
}

/*
 * RFC 6298 section 2.3. A sample that falls below srtt counts only an eighth of its deviation: a path that
 * suddenly became faster is no reason for a larger RTO (Linux).
 */
static void next_mdev(struct tcp_rtt *r, uint32_t rtt_us)
{
    int64_t err = (int64_t)rtt_us - (int64_t)(r->srtt_us >> 3);

    r->srtt_us = (uint32_t)((int64_t)r->srtt_us + err);
    if (err < 0) {
        err = -err - (int64_t)(r->mdev_us >> 2);
        if (err > 0)
            err >>= 3;
    } else {
        err -= (int64_t)(r->mdev_us >> 2);
    }
    r->mdev_us = (uint32_t)((int64_t)r->mdev_us + err);
}

static void set_rto(struct tcp_rtt *r, uint32_t rto_max_us)
{
    uint64_t rto = (uint64_t)(r->srtt_us >> 3) + r->rttvar_us;

    rto = (rto + 999) / 1000 * 1000;
    r->rto_us = rto < rto_max_us ? (uint32_t)rto : rto_max_us;
}

void tcp_rtt_sample(struct tcp_rtt *r, uint32_t rtt_us, uint32_t snd_una, uint32_t snd_nxt,
                    uint32_t rto_min_us, uint32_t rto_max_us)
{
    rtt_us = rtt_us == 0 ? 1 : rtt_us;
    if (rtt_us > SAMPLE_MAX_US)
        rtt_us = SAMPLE_MAX_US;
    if (r->srtt_us == 0) {
        first_sample(r, rtt_us, snd_nxt, rto_min_us);
    } else {
        next_mdev(r, rtt_us);
        if (r->mdev_us > r->mdev_max_us) {
            r->mdev_max_us = r->mdev_us;
            r->rttvar_us = max_u32(r->rttvar_us, r->mdev_max_us);
        }
        if (seq_gt(snd_una, r->rtt_seq)) { /* a round trip is over */
            if (r->mdev_max_us < r->rttvar_us)
                r->rttvar_us -= (r->rttvar_us - r->mdev_max_us) >> 2;
            r->rtt_seq = snd_nxt;
            r->mdev_max_us = rto_min_us;
        }
    }
    r->srtt_us = max_u32(r->srtt_us, 1);
    set_rto(r, rto_max_us);
}

void tcp_rtt_update_min(struct tcp_rtt *r, uint32_t rtt_us, uint64_t now)
{
    rtt_us = rtt_us == 0 ? 1 : rtt_us;
    if (rtt_us <= r->min_rtt_us || time_since(now, r->min_rtt_at) > MIN_RTT_WINDOW_NS) {
        r->min_rtt_us = rtt_us;
        r->min_rtt_at = now;
    }
}

uint64_t tcp_rtt_backed_off_us(const struct tcp_rtt *r, unsigned backoff, uint32_t rto_max_us)
{
    uint64_t rto = (uint64_t)r->rto_us << (backoff < 32 ? backoff : 31);

    return rto < rto_max_us ? rto : rto_max_us;
}
