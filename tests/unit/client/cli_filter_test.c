/*
 * The filter language of ss(8), as `taut ss` and `taut top` read it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cli/filter.h"

static struct filter *parse(const char *text)
{
    const char *error;
    char copy[4096], *word = copy;

    strcpy(copy, text);
    struct filter *f = filter_parse(1, &word, FILTER_DEFAULT, &error);

    if (!f)
        fail_msg("%s: %s", text, error);
    return f;
}

static bool matches(const char *text, const char *state, const char *local, const char *peer)
{
    struct filter *f = parse(text);
    bool r = filter_match(f, state, local, peer);

    filter_free(f);
    return r;
}

static bool established(const char *text, const char *local, const char *peer)
{
    return matches(text, "ESTABLISHED", local, peer);
}

static void refused(const char *text, const char *because)
{
    const char *error;
    char copy[4096], *word = copy;

    strcpy(copy, text);
    struct filter *f = filter_parse(1, &word, FILTER_DEFAULT, &error);

    if (f)
        fail_msg("%s was taken", text);
    if (!strstr(error, because))
        fail_msg("%s: \"%s\" does not say \"%s\"", text, error, because);
}

static void ports(void **state)
{
    (void)state;
    assert_true(established("dport = :80", "10.0.0.1:40000", "10.0.0.2:80"));
    assert_false(established("dport = :80", "10.0.0.1:80", "10.0.0.2:40000"));
    assert_true(established("sport == 80", "10.0.0.1:80", "10.0.0.2:40000"));
    assert_true(established("sport eq http", "10.0.0.1:80", "10.0.0.2:40000"));
    assert_true(established("dport gt :1024", "10.0.0.1:80", "10.0.0.2:1025"));
    assert_false(established("dport > 1024", "10.0.0.1:80", "10.0.0.2:1024"));
    assert_true(established("dport >= 1024", "10.0.0.1:80", "10.0.0.2:1024"));
    assert_true(established("dport geq 1024", "10.0.0.1:80", "10.0.0.2:1024"));
    assert_true(established("dport < 1024", "10.0.0.1:80", "10.0.0.2:1023"));
    assert_true(established("dport leq 1024", "10.0.0.1:80", "10.0.0.2:1024"));
    assert_true(established("dport != 1024", "10.0.0.1:80", "10.0.0.2:1023"));
    assert_false(established("dport neq 1024", "10.0.0.1:80", "10.0.0.2:1024"));
    assert_true(established("sport = :*", "10.0.0.1:80", "10.0.0.2:1024"));
}

static void hosts(void **state)
{
    (void)state;
    assert_true(established("dst 10.0.0.2", "10.0.0.1:80", "10.0.0.2:1"));
    assert_true(established("dst = 10.0.0.2", "10.0.0.1:80", "10.0.0.2:1"));
    assert_false(established("dst != 10.0.0.2", "10.0.0.1:80", "10.0.0.2:1"));
    assert_true(established("dst 10.0.0.0/8", "10.0.0.1:80", "10.200.0.2:1"));
    assert_true(established("dst 10/8", "10.0.0.1:80", "10.200.0.2:1"));
    assert_false(established("dst 10.0.0.0/9", "10.0.0.1:80", "10.200.0.2:1"));
    assert_true(established("dst 0.0.0.0/0", "10.0.0.1:80", "10.200.0.2:1"));
    assert_false(established("dst 0.0.0.0/0", "[::1]:80", "[::1]:1"));
    assert_true(established("src 10.0.0.1:80", "10.0.0.1:80", "10.0.0.2:1"));
    assert_false(established("src 10.0.0.1:81", "10.0.0.1:80", "10.0.0.2:1"));
    assert_true(established("src :80", "10.0.0.1:80", "10.0.0.2:1"));
    assert_true(established("src *:80", "10.0.0.1:80", "10.0.0.2:1"));
    assert_true(established("dst [2001:db8::2]:443", "[2001:db8::1]:80", "[2001:db8::2]:443"));
    assert_true(established("dst [2001:db8::]/32:https", "[2001:db8::1]:80", "[2001:db8::2]:443"));
    assert_true(established("dst 2001:db8::/32", "[2001:db8::1]:80", "[2001:db8::2]:443"));
    assert_false(established("dst 2001:db9::/32", "[2001:db8::1]:80", "[2001:db8::2]:443"));
    assert_true(established("src fe80::1", "[fe80::1%taut0]:80", "[fe80::2%taut0]:443"));
}

static void joined(void **state)
{
    static const char *const local = "10.0.0.1:22", *const peer = "10.0.0.2:40000";

    (void)state;
    assert_true(established("( dport = :80 or sport lt :1024 ) and dst 10.0.0.0/8", local, peer));
    assert_true(established("(dport=:80||sport<1024)&&dst 10.0.0.0/8", local, peer));
    assert_false(established("dport = :80 or sport = :22 and dst 192.0.2.1", local, peer));
    assert_true(established("sport = :22 or sport = :22 and dst 192.0.2.1", local, peer)); /* and binds closer */
    assert_true(established("sport = :22 dst 10/8", local, peer));                         /* no word: and */
    assert_false(established("not sport = :22", local, peer));
    assert_true(established("! ! sport = :22", local, peer));
    assert_true(established("not ( sport = :23 | dport = :23 )", local, peer));
    assert_true(established("", local, peer));
}

static void state_words(void **state)
{
    static const char *const l = "10.0.0.1:22", *const p = "10.0.0.2:40000";

    (void)state;
    assert_true(matches("", "ESTABLISHED", l, p));
    assert_false(matches("", "TIME_WAIT", l, p));
    assert_false(matches("", "LISTEN", l, "*:0"));
    assert_true(matches("state time-wait", "TIME_WAIT", l, p));
    assert_false(matches("state time-wait", "ESTABLISHED", l, p));
    assert_true(matches("state time-wait state established", "ESTABLISHED", l, p));
    assert_true(matches("exclude time-wait", "LISTEN", l, p));
    assert_false(matches("exclude time-wait", "TIME_WAIT", l, p));
    assert_true(matches("state bucket", "NEW_SYN_RECV", l, p));
    assert_false(matches("state big", "NEW_SYN_RECV", l, p));
    assert_true(matches("state synchronized", "NEW_SYN_RECV", l, p));
    assert_false(matches("state synchronized", "SYN_SENT", l, p));
    assert_true(matches("state connected", "SYN_SENT", l, p));
    assert_false(matches("state connected", "LISTEN", l, p));
    assert_false(matches("state connected exclude syn-sent", "SYN_SENT", l, p));
    assert_true(matches("state fin-wait-1 sport = :22", "FIN_WAIT1", l, p));
    assert_false(matches("state fin-wait-1 sport = :23", "FIN_WAIT1", l, p));
    assert_string_equal(state_ss_name("NEW_SYN_RECV"), "SYN-RECV");
}

/* What the daemon may leave out: only what every match has. */
static void hints(void **state)
{
    static const struct {
        const char *text;
        int local, peer;
    } cases[] = {{"dport = :80 and dst 10/8", -1, 80}, {"dport = :80 or dst 10/8", -1, -1}, {"not dport = :80", -1, -1},
                 {"src 10.0.0.1:22 and ( dport = 5 and sport != 3 )", 22, 5}, {"dport gt 80", -1, -1}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct filter *f = parse(cases[i].text);

        assert_int_equal(filter_local_port(f), cases[i].local);
        assert_int_equal(filter_peer_port(f), cases[i].peer);
        filter_free(f);
    }
}

static void mistakes(void **state)
{
    char deep[3000] = "";

    (void)state;
    refused("dport", "comparison");
    refused("dport = :x", "no port");
    refused("dport = :70000", "no port");
    refused("dport =", "no port");
    refused("dport >> 4", "no port");
    refused("dst 300.1.1.1/8", "no address");
    refused("dst 10.0.0.0/33", "no address");
    refused("dst > 10.0.0.1", "equal or not");
    refused("( dport = :80", ") is missing");
    refused("dport = :80 )", "too much");
    refused("dport = :80 and", "missing");
    refused("state nowhere", "no state");
    refused("colour blue", "expected");
    for (int i = 0; i < 1400; i++)
        strcat(deep, "( ");
    refused(deep, "too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports),  cmocka_unit_test(hosts),       cmocka_unit_test(joined), cmocka_unit_test(state_words),
        cmocka_unit_test(hints), cmocka_unit_test(mistakes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
