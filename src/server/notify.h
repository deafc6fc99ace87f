/* Tells systemd how the service is: a datagram to the socket that NOTIFY_SOCKET names; nothing where there is none. */
#ifndef ROCMFORGE_SERVER_NOTIFY_H
#define ROCMFORGE_SERVER_NOTIFY_H

void notify_systemd(const char *state); /* "READY=1", "STOPPING=1" */

#endif
