/* SPDX-License-Identifier: Apache-2.0 */
/* protocol.c: what a port of a Service speaks: see protocol.h. */
#include <string.h>
#include <strings.h>

#include "protocol.h"

struct word {
	const char *name;
	enum view_protocol is;
};

/* Standard names of Kubernetes: of appProtocol only. */
static const struct word standard[] = {
	{"kubernetes.io/h2c", VIEW_HTTP2},
	{"kubernetes.io/ws", VIEW_HTTP},
	{"kubernetes.io/wss", VIEW_TLS},
};

/* https is TLS to whoever does not terminate it. */
static const struct word words[] = {
	{"tcp", VIEW_TCP},   {"http", VIEW_HTTP}, {"http2", VIEW_HTTP2}, {"grpc", VIEW_HTTP2}, {"tls", VIEW_TLS},
	{"https", VIEW_TLS}, {"mysql", VIEW_TCP}, {"redis", VIEW_TCP},	 {"mongo", VIEW_TCP},  {"udp", VIEW_TCP},
};

/* The server speaks first: FTP, SSH, Telnet, SMTP, POP3, NNTP, IMAP, submission, MySQL, VNC. */
static const uint16_t greeting[] = {21, 22, 23, 25, 110, 119, 143, 587, 3306, 5900};

static bool named(const char *s, size_t len, const char *name)
{
	return len == strlen(name) && !strncasecmp(s, name, len);
}

/* The one place in which a name has a "-" of its own. */
static bool grpc_web(const char *s)
{
	return !strncasecmp(s, "grpc-web", 8);
}

enum view_protocol protocol_of(const struct service_port *p)
{
	const char *name = p->app_protocol ? p->app_protocol : p->name;
	size_t len = strcspn(name, "-");

	for (size_t i = 0; p->app_protocol && i < array_size(standard); i++)
		if (!strcmp(name, standard[i].name))
			return standard[i].is;
	if (grpc_web(name))
		return VIEW_HTTP;
	for (size_t i = 0; i < array_size(words); i++)
		if (named(name, len, words[i].name))
			return words[i].is;
	for (size_t i = 0; i < array_size(greeting); i++)
		if (p->port == greeting[i])
			return VIEW_TCP;
	return VIEW_DETECT;
}

const char *protocol_name(enum view_protocol p)
{
	static const char *const names[] = {
		[VIEW_DETECT] = "detect", [VIEW_TCP] = "tcp", [VIEW_HTTP] = "http", [VIEW_HTTP2] = "http2",
		[VIEW_TLS] = "tls",
	};

	return names[p];
}
