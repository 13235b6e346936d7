/*
 * cli/keyfile.c: a secret from a file, for TCP-MD5 (RFC 2385): a command line would show it to every process. Nobody but
 * its owner and group may read the file; a newline at its end is not part of the key. Keys go to the daemon as JSON, so they
 * are UTF-8 text; the daemon's own key files may hold any bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "cli/cli.h"

bool cli_key_file(const char *path, char ret[CLI_KEY_MAX + 1])
{
    char bytes[CLI_KEY_MAX + 2];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    bool exposed = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IRWXO | S_IWGRP)) != 0;
    bool fits, is_text;
    json_t *text;

    if (fd >= 0)
        close(fd);
    if (n < 0) {
        fprintf(stderr, "taut: %s: %s\n", path, strerror(errno));
        return false;
    }
    if (n > 0 && bytes[n - 1] == '\n')
        n--;
    fits = n >= 1 && n <= CLI_KEY_MAX && !memchr(bytes, 0, (size_t)n);
    text = fits ? json_stringn(bytes, (size_t)n) : NULL;
    is_text = text != NULL;
    json_decref(text);
    if (exposed)
        fprintf(stderr, "taut: %s: others can read this key (chmod 640)\n", path);
    else if (!fits)
        fprintf(stderr, "taut: %s: a key has 1 to %d bytes, none of them NUL\n", path, CLI_KEY_MAX);
    else if (!is_text)
        fprintf(stderr, "taut: %s: a key that is given here is UTF-8 text; [md5] key_file takes any bytes\n", path);
    if (is_text) {
        memcpy(ret, bytes, (size_t)n);
        ret[n] = '\0';
    }
    explicit_bzero(bytes, sizeof bytes);
    return is_text && !exposed;
}
