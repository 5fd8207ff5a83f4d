/* SPDX-License-Identifier: Apache-2.0 */
/* sock_error.c: what was wrong with a connection, in constants that people read. */
#include <errno.h>

#include "stream.h"

const char *sock_error(int error)
{
	switch (error) {
	case ECONNRESET:
	case EPIPE:
		return "reset by peer";
	case ECONNREFUSED:
		return "refused";
	case ETIMEDOUT:
		return "timed out";
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
		return "no route";
	case ECONNABORTED: /* SOCK_DESTROY */
		return "ended by policy";
	case EPERM:
	case EACCES:
		return "forbidden";
	case EADDRNOTAVAIL:
	case EADDRINUSE:
		return "no free port";
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
	case ENOSPC:
		return SOCK_RESOURCES;
	}
	return "socket error";
}
