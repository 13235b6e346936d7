/*
 * The configuration file, table-driven: what is accepted lands in the struct, and every kind of mistake is one line
 * "FILE:LINE: section.key: what is wrong; expected what would be right" with nothing changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"

static char path[64];
static struct daemon_config config;
static char error[CONFIG_ERROR_MAX];

static int load(const char *text)
{
    int fd;
    FILE *f;

    strcpy(path, "/tmp/taut-config-test-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    f = fdopen(fd, "w");
    fputs(text, f);
    fclose(f);
    error[0] = '\0';
    int r = config_load(path, &config, error, sizeof error);

    unlink(path);
    return r;
}

static void test_defaults(void **state)
{
    (void)state;
    config_defaults(&config);
    assert_string_equal(config.ifname, "taut0");
    assert_int_equal(config.tap_fd, -1);
    assert_int_equal(config.echo.port, 7);
    assert_true(config.chargen.enabled);
    assert_int_equal(config.buffer_bytes, 256 << 20);
    assert_int_equal(config.tcp.tcp_syn_retries, 6);
    assert_int_equal(config.drain_ms, 5000);
    assert_int_equal(config.n_addr, 0);
}

static void test_everything_lands(void **state)
{
    char text[IP_ADDR_TEXT_MAX];

    (void)state;
    int r = load("# comment\n[interface]\nname = tap7 ; behind\nmac = 02:11:22:33:44:55\nmtu=9000\noffload = no\n"
                 "host_address = 10.0.0.1/24, fd00::1/64\n"
                 "[network]\naddress = 10.0.0.2/24\naddress = fd00::2/64\n"
                 "route = default via 10.0.0.1, 10.9.0.0/16 via 10.0.0.9 mtu 1400 initcwnd 20 initrwnd 30\n"
                 "[limits]\nbuffers = 64M\ndrain = 250ms\n"
                 "[log]\nlevel = debug\n[services]\necho = off\nchargen = 1900\n"
                 "[tcp]\ntcp_syn_retries = 3\n[stack]\nip_ttl = 9\n"
                 "[forward web]\nlisten = 80\nto = tcp:127.0.0.1:8080\nproxy_protocol = v2\n"
                 "[forward six]\nlisten = [fd00::2]:443\nto = unix:/run/x.sock\nconnect_timeout = 2s\n");

    assert_string_equal(error, "");
    assert_int_equal(r, 0);
    assert_string_equal(config.ifname, "tap7");
    assert_true(config.has_mac);
    assert_int_equal(config.mac[5], 0x55);
    assert_int_equal(config.mtu, 9000);
    assert_false(config.offload);
    assert_int_equal(config.n_host_addr, 2);
    assert_int_equal(config.n_addr, 2);
    assert_string_equal(ip_addr_format(&config.addr[1].addr, text), "fd00::2");
    assert_int_equal(config.n_routes, 2);
    assert_int_equal(config.route[0].prefix_bits, 0);
    assert_int_equal(config.route[0].prefix.family, IP_V4);
    assert_int_equal(config.route[1].mtu, 1400);
    assert_int_equal(config.route[1].initcwnd, 20);
    assert_int_equal(config.route[1].initrwnd, 30);
    assert_int_equal(config.buffer_bytes, 64 << 20);
    assert_int_equal(config.drain_ms, 250);
    assert_int_equal(config.log_level, 7);
    assert_false(config.echo.enabled);
    assert_int_equal(config.chargen.port, 1900);
    assert_int_equal(config.tcp.tcp_syn_retries, 3);
    assert_int_equal(config.stack.ip_ttl, 9);
    assert_int_equal(config.n_forwards, 2);
    assert_int_equal(config.forward[0].proxy, FORWARD_PROXY_V2);
    assert_int_equal(config.forward[1].target, FORWARD_UNIX);
    assert_string_equal(config.forward[1].to_path, "/run/x.sock");
    assert_int_equal(config.forward[1].connect_timeout_ms, 2000);
    assert_int_equal(config.forward[1].listen_addr.family, IP_V6);
}

struct bad {
    const char *text;
    unsigned line;
    const char *where;    /* "section.key" */
    const char *expected; /* in the sentence */
};

static const struct bad bads[] = {
    {"[interface]\nname =\n", 2, "interface.name", "1 to 15 characters"},
    {"[interface]\nname = a_name_much_too_long\n", 2, "interface.name", "1 to 15 characters"},
    {"[interface]\nmac = 01:00:00:00:00:01\n", 2, "interface.mac", "unicast MAC"},
    {"[interface]\nmtu = 99999\n", 2, "interface.mtu", "from 0 to 65521"},
    {"[interface]\noffload = maybe\n", 2, "interface.offload", "yes or no"},
    {"[interface]\n\n\nspeed = 10\n", 4, "interface.speed", "unknown key"},
    {"[network]\naddress = 10.0.0.2\n", 2, "network.address", "ADDRESS/BITS"},
    {"[network]\naddress = 10.0.0.2/33\n", 2, "network.address", "ADDRESS/BITS"},
    {"[network]\naddress = 10.0.0.256/24\n", 2, "network.address", "ADDRESS/BITS"},
    {"[network]\nroute = default\n", 2, "network.route", "via GATEWAY"},
    {"[network]\nroute = 10.0.0.0/8 via fd00::1\n", 2, "network.route", "via GATEWAY"},
    {"[network]\nroute = 10.0.0.0/8 via 10.0.0.1 mtu 3\n", 2, "network.route", "mtu N"},
    {"[limits]\nbuffers = 1x\n", 2, "limits.buffers", "64M"},
    {"[limits]\nbuffers = 1M\n", 2, "limits.buffers", "at least 4M"},
    {"[limits]\ndrain = soon\n", 2, "limits.drain", "500ms"},
    {"[log]\nlevel = loud\n", 2, "log.level", "debug"},
    {"[services]\necho = 70000\n", 2, "services.echo", "1 to 65535"},
    {"[interface]\nmtu = 50\n", 2, "interface.mtu", "68 to 65521"},
    {"[interface]\nname = \"taut0\"\n", 2, "interface.name", "quotes"},
    {"[network]\naddress = 224.0.0.1/24\n", 2, "network.address", "a host can have"},
    {"[network]\naddress = 10.0.0.2/24, 10.0.0.2/24\n", 2, "network.address", "twice"},
    {"[interface]\nhost_address = 10.0.0.1/24\n[network]\naddress = 10.0.0.1/24\n", 4, "network.address", "kernel's end"},
    {"[control]\ndirectory = run\n", 2, "control.directory", "absolute"},
    {"[control]\ngroup = no-such-group-here\n", 2, "control.group", "no group"},
    {"[services]\necho = 9\n", 2, "services.discard", "services.echo's already"},
    {"[forward web]\nlisten = 7\nto = tcp:127.0.0.1:80\n", 3, "services.echo", "forward web's already"},
    {"[tcp]\ntcp_syn_retries = 0\n", 2, "tcp.tcp_syn_retries", "from 1 to 127"},
    {"[tcp]\ntcp_syn_retries = 1e3\n", 2, "tcp.tcp_syn_retries", "whole number"},
    {"[tcp]\ntcp_magic = 1\n", 2, "tcp.tcp_magic", "unknown key"},
    {"[tcp]\nip_local_port_low = 61000\n", 2, "tcp.ip_local_port_low", "ip_local_port_high"},
    {"[stack]\nip_ttl = 0\n", 2, "stack.ip_ttl", "from 1 to 255"},
    {"[nonsense]\na = 1\n", 2, "nonsense", "unknown section"},
    {"stray = 1\n", 1, "(no section)", "unknown section"},
    {"[interface]\nname\n", 2, "syntax", "key = value"},
    {"[forward]\nlisten = 80\n", 2, "forward ", "needs a name"},
    {"[forward web]\nlisten = 0\nto = tcp:127.0.0.1:80\n", 2, "forward web.listen", "PORT"},
    {"[forward web]\nlisten = 80\n", 1, "forward web.to", "missing"},
    {"[forward web]\nto = tcp:127.0.0.1:80\n", 1, "forward web.listen", "missing"},
    {"[forward web]\nlisten = 80\nto = 127.0.0.1:80\n", 3, "forward web.to", "tcp:ADDRESS:PORT"},
    {"[forward web]\nlisten = 80\nto = tcp:127.0.0.1\n", 3, "forward web.to", "tcp:ADDRESS:PORT"},
    {"[forward web]\nlisten = 80\nto = unix:relative\n", 3, "forward web.to", "unix:/PATH"},
    {"[forward web]\nlisten = 80\nto = tcp:127.0.0.1:80\nproxy_protocol = v1\n", 4, "forward web.proxy_protocol", "v2"},
    {"[forward web]\nlisten = 80\nport = 80\n", 3, "forward web.port", "unknown key"},
    {"[forward a]\nlisten = 80\nto = tcp:127.0.0.1:1\n[forward b]\nlisten = 80\nto = tcp:127.0.0.1:2\n", 5,
     "forward b.listen", "forward a's already"},
};

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        char head[256];

        memset(&config, 0x5a, sizeof config);
        assert_int_equal(load(bads[i].text), -1);
        snprintf(head, sizeof head, "%s:%u: %s", path, bads[i].line, bads[i].where);
        if (!strstr(error, head) || !strstr(error, bads[i].expected))
            fail_msg("row %zu: '%s' does not hold '%s' or does not say '%s'", i, error, head, bads[i].expected);
        assert_int_equal(((unsigned char *)&config)[0], 0x5a); /* untouched */
    }
}

static void test_missing_file(void **state)
{
    (void)state;
    assert_int_equal(config_load("/nonexistent/taut.conf", &config, error, sizeof error), -1);
    assert_string_equal(error, "/nonexistent/taut.conf: No such file or directory");
    assert_int_equal(config_load("/tmp", &config, error, sizeof error), -1); /* a directory opens, but holds no text */
    assert_non_null(strstr(error, "cannot be read"));
}

static void test_set(void **state)
{
    (void)state;
    config_defaults(&config);
    assert_int_equal(config_set_value(&config, "tcp", "tcp_fin_timeout", "30", error, sizeof error), 0);
    assert_int_equal(config.tcp.tcp_fin_timeout, 30);
    assert_int_equal(config_set_value(&config, "tcp", "tcp_fin_timeout", "x", error, sizeof error), -1);
    assert_non_null(strstr(error, "whole number"));
    assert_int_equal(config.tcp.tcp_fin_timeout, 30);
    assert_int_equal(config_set_value(&config, "interface", "name", "x", error, sizeof error), -1);
    assert_non_null(strstr(error, "restart the daemon"));
    assert_int_equal(config_set_value(&config, "tcp", "nothing", "1", error, sizeof error), -1);
}

/* Every row's present value, read back as the file would, is the same value. */
static void test_values_round_trip(void **state)
{
    struct config_row_info r;
    char value[1024], file[1200], again[1024];

    (void)state;
    for (unsigned i = 0; config_row(i, &r); i++) {
        config_defaults(&config);
        config_value(&config, i, value, sizeof value);
        if (!value[0])
            continue;
        snprintf(file, sizeof file, "[%s]\n%s = %s\n", r.section, r.key, value);
        assert_int_equal(load(file), 0);
        assert_string_equal(config_value(&config, i, again, sizeof again), value);
    }
}

/* The example file with every comment sign taken off its keys is accepted, and changes nothing. */
static void test_dump_is_the_defaults(void **state)
{
    char *text = NULL, *plain, *at;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    struct config_row_info r;
    char a[1024], b[1024];

    (void)state;
    assert_int_equal(config_dump(out), 0);
    fclose(out);
    plain = at = malloc(n + 1);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strcmp(line, "#[forward web]"))
            break;
        at += sprintf(at, "%s\n", line[0] == '#' && line[1] != ' ' ? line + 1 : line);
    }
    assert_int_equal(load(plain), 0);
    struct daemon_config *defaults = malloc(sizeof *defaults);

    config_defaults(defaults);
    for (unsigned i = 0; config_row(i, &r); i++)
        assert_string_equal(config_value(&config, i, a, sizeof a), config_value(defaults, i, b, sizeof b));
    free(defaults);
    free(plain);
    free(text);
}

/* All mistakes, in the order of the file; what follows from another one is not told; at most 20 and a count. */
static void test_all_mistakes(void **state)
{
    char text[8192] = "", expected[512];
    const char *at = error;

    (void)state;
    assert_int_equal(load("[interface]\nmtu = no\n[forward web]\nlisten = x\nto = y\n[tcp]\ntcp_sack = 2\nno_key = 1\n"
                          "[services]\necho = 80\nchargen = 80\n[nowhere]\na = 1\nb = 2\n"), -1);
    for (const char *const *line = (const char *const[]){"2: interface.mtu: ", "4: forward web.listen: ", "5: forward web.to: ",
                                                         "7: tcp.tcp_sack: ", "8: tcp.no_key: ", "13: nowhere: ", NULL};
         *line; line++) {
        snprintf(expected, sizeof expected, "%s:%s", path, *line);
        assert_memory_equal(at, expected, strlen(expected));
        at = strchr(at, '\n') ? strchr(at, '\n') + 1 : "";
    }
    snprintf(expected, sizeof expected, "%s:14: services.chargen: port 80", path); /* from looking at the whole */
    assert_memory_equal(at, expected, strlen(expected));
    assert_null(strchr(at, '\n'));
    strcpy(text, "[tcp]\n");
    for (int i = 0; i < 50; i++)
        sprintf(text + strlen(text), "key%d = 1\n", i);
    assert_int_equal(load(text), -1);
    assert_non_null(strstr(error, "tcp.key19: "));
    assert_null(strstr(error, "tcp.key20: "));
    assert_non_null(strstr(error, ": and 30 more"));
    assert_int_equal(load("[tcp]\ntcp_sack = 9\nno setting\n[interface\nname = x\n"), -1);
    assert_non_null(strstr(error, ":2: tcp.tcp_sack: "));
    assert_non_null(strstr(error, ":3: syntax: "));
    assert_null(strstr(error, "no section"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),        cmocka_unit_test(test_everything_lands),
        cmocka_unit_test(test_all_mistakes),
        cmocka_unit_test(test_mistakes),        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_set),             cmocka_unit_test(test_values_round_trip),
        cmocka_unit_test(test_dump_is_the_defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
