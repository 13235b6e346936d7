/*
 * daemon/notify.h: sd_notify(3)'s datagram, by hand: tells the service manager READY=1, RELOADING=1, STOPPING=1, STATUS=.
 */
#ifndef TAUT_DAEMON_NOTIFY_H
#define TAUT_DAEMON_NOTIFY_H

/* printf-like; nothing happens without $NOTIFY_SOCKET. */
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
