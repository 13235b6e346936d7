/*
 * daemon/sandbox.h: what a worker may still do once it serves.
 */
#ifndef TAUT_DAEMON_SANDBOX_H
#define TAUT_DAEMON_SANDBOX_H

#include "daemon/config.h"

/*
 * No new privileges; Landlock: files can be read in the folder of the configuration and nowhere else, nothing can be
 * written; seccomp: only the system calls that serving needs, others fail with EPERM. What the kernel or the build does not
 * offer is left out and named in the text: "Landlock, seccomp". Never fails: the daemon runs without, too.
 * sandbox_prepare(), in the supervisor: what all workers' have in common, so that none computes it.
 */
void sandbox_prepare(void);
void sandbox_enter(const struct daemon_config *config, char *ret_text, size_t bytes);
/*
 * Gives up every capability(7) of this process and of what it executes: once the TAP is up nothing needs one. Root's own
 * files stay within reach, other users' no longer do. 0 or -errno.
 */
int sandbox_drop_capabilities(void);

#endif
