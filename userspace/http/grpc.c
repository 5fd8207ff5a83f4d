/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.c: names, timeouts, statuses and messages of gRPC; no frames. */
#include <string.h>

#include "grpc.h"

static const char *const names[GRPC_STATUS_COUNT] = {
	[GRPC_OK] = "OK",
	[GRPC_CANCELLED] = "CANCELLED",
	[GRPC_UNKNOWN] = "UNKNOWN",
	[GRPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	[GRPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	[GRPC_NOT_FOUND] = "NOT_FOUND",
	[GRPC_ALREADY_EXISTS] = "ALREADY_EXISTS",
	[GRPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
	[GRPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	[GRPC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	[GRPC_ABORTED] = "ABORTED",
	[GRPC_OUT_OF_RANGE] = "OUT_OF_RANGE",
	[GRPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
	[GRPC_INTERNAL] = "INTERNAL",
	[GRPC_UNAVAILABLE] = "UNAVAILABLE",
	[GRPC_DATA_LOSS] = "DATA_LOSS",
	[GRPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *grpc_status_name(unsigned status)
{
	return status < array_size(names) ? names[status] : "";
}

int grpc_status_parse(struct http_text value)
{
	unsigned n = 0;

	if (!value.len || value.len > 2)
		return -1;
	for (size_t i = 0; i < value.len; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return -1;
		n = 10 * n + (unsigned)(value.at[i] - '0');
	}
	return n < GRPC_STATUS_COUNT ? (int)n : -1;
}

enum grpc_status grpc_status_of_http(unsigned status)
{
	switch (status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

/* ------------------------------------------------------------------ timeouts */

#define DIGITS 8 /* of its value, at most */

static const struct {
	char letter;
	uint64_t ns;
} units[] = { /* the finest first */
	{'n', 1},
	{'u', 1000},
	{'m', 1000000},
	{'S', 1000000000},
	{'M', 60000000000},
	{'H', 3600000000000},
};

bool grpc_timeout_parse(struct http_text value, uint64_t *ret_ns)
{
	uint64_t n = 0;

	if (value.len < 2 || value.len > DIGITS + 1)
		return false;
	for (size_t i = 0; i < value.len - 1; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return false;
		n = 10 * n + (uint64_t)(value.at[i] - '0');
	}
	for (size_t i = 0; i < array_size(units); i++) {
		if (units[i].letter != value.at[value.len - 1])
			continue;
		*ret_ns = n > GRPC_TIMEOUT_MOST / units[i].ns ? GRPC_TIMEOUT_MOST : n * units[i].ns;
		return true;
	}
	return false;
}

size_t grpc_timeout_format(uint64_t ns, char buf[GRPC_TIMEOUT_TEXT])
{
	uint64_t n = ns;
	size_t i = 0;

	/* Ends with hours at the latest: 2^64 ns are 5 124 096 of them. */
	while (n > 99999999) {
		i++;
		n = ns / units[i].ns + (ns % units[i].ns != 0);
	}
	return (size_t)snprintf(buf, GRPC_TIMEOUT_TEXT, "%u%c", (unsigned)n, units[i].letter);
}

/* ------------------------------------------------------------------ messages and methods */

size_t grpc_message_encode(struct http_text message, char *buf, size_t size)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t len = 0;

	for (size_t i = 0; i < message.len; i++) {
		unsigned char c = (unsigned char)message.at[i];

		if (c >= 0x20 && c <= 0x7e && c != '%') {
			if (len + 1 > size)
				break;
			buf[len++] = (char)c;
			continue;
		}
		if (len + 3 > size)
			break;
		buf[len++] = '%';
		buf[len++] = hex[c >> 4];
		buf[len++] = hex[c & 15];
	}
	return len;
}

bool grpc_method(struct http_text path, struct http_text *ret_service, struct http_text *ret_method)
{
	const char *slash;

	if (path.len < 4 || path.at[0] != '/' || memchr(path.at, '?', path.len))
		return false;
	slash = memchr(path.at + 1, '/', path.len - 1);
	if (!slash)
		return false;
	*ret_service = (struct http_text){path.at + 1, (size_t)(slash - path.at) - 1};
	*ret_method = (struct http_text){slash + 1, path.len - ret_service->len - 2};
	return ret_service->len && ret_method->len && !memchr(ret_method->at, '/', ret_method->len);
}
