/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.h: what weft must know of gRPC over HTTP/2 (http/grpc.c; grpc/doc/PROTOCOL-HTTP2.md of the project). Pure.
 *
 * Messages are passed on unread: only who is asked for what (the path), how long it may take, and how it ended.
 * http_is_grpc() (http.h) tells whether a head is gRPC's at all.
 */
#ifndef WEFT_GRPC_H
#define WEFT_GRPC_H

#include "http.h"

enum grpc_status {
	GRPC_OK,
	GRPC_CANCELLED,
	GRPC_UNKNOWN,
	GRPC_INVALID_ARGUMENT,
	GRPC_DEADLINE_EXCEEDED,
	GRPC_NOT_FOUND,
	GRPC_ALREADY_EXISTS,
	GRPC_PERMISSION_DENIED,
	GRPC_RESOURCE_EXHAUSTED,
	GRPC_FAILED_PRECONDITION,
	GRPC_ABORTED,
	GRPC_OUT_OF_RANGE,
	GRPC_UNIMPLEMENTED,
	GRPC_INTERNAL,
	GRPC_UNAVAILABLE,
	GRPC_DATA_LOSS,
	GRPC_UNAUTHENTICATED,
	GRPC_STATUS_COUNT
};
const char *grpc_status_name(unsigned status); /* "UNAVAILABLE"; "" of numbers that gRPC does not have */
/* `grpc-status` of a head or of trailers; -1: none, or no number of gRPC's */
int grpc_status_parse(struct http_text value) must_check;
/* What an answer of HTTP without grpc-status means: grpc/doc/http-grpc-status-mapping.md */
enum grpc_status grpc_status_of_http(unsigned status);

/*
 * `grpc-timeout`: at most eight digits and one of H M S m u n. false: it is not one; such a value counts as none, and
 * is passed on. More than GRPC_TIMEOUT_MOST is that: a hundred days, which no timer overflows at.
 */
#define GRPC_TIMEOUT_MOST (100ull * 86400 * 1000000000)
bool grpc_timeout_parse(struct http_text value, uint64_t *ret_ns) must_check;
/* The finest unit in which it has at most eight digits, rounded up. */
#define GRPC_TIMEOUT_TEXT 12
size_t grpc_timeout_format(uint64_t ns, char buf[GRPC_TIMEOUT_TEXT]);

/* `grpc-message`: all but printable ASCII, and "%", as %XX; cut (not within an escape) at `size`. Bytes written. */
size_t grpc_message_encode(struct http_text message, char *buf, size_t size);

/* "/package.Service/Method" in its two parts. false: the path is not of that form. */
bool grpc_method(struct http_text path, struct http_text *ret_service, struct http_text *ret_method) must_check;

#endif
