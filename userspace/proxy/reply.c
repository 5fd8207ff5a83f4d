/* SPDX-License-Identifier: Apache-2.0 */
/* reply.c: what weft answers by itself: status, a line that names the reason, and for gRPC its own status. */
#include <time.h>

#include "filter.h"

#define REPLY_MESSAGE 512 /* of grpc-message, escaped */

/* What a reason comes to: status of HTTP and of gRPC, and the error type of Proxy-Status (RFC 9209 section 2.3). */
static const struct outcome {
	uint16_t status;
	int8_t grpc; /* 0: by the status of HTTP */
	const char *error;
} outcomes[ABI_REASON_MAX] = {
	[ABI_DENIED] = {403, 0, "http_request_denied"},
	[ABI_NOT_ALLOWED] = {403, 0, "http_request_denied"},
	[ABI_MTLS_REQUIRED] = {403, 0, "http_request_denied"},
	[ABI_POLICY_UNSETTLED] = {503, 0, "http_request_denied"},
	[ABI_POLICY_CHANGED] = {403, 0, "http_request_denied"},
	[ABI_EGRESS] = {403, 0, "http_request_denied"},
	[ABI_PEER_REFUSED] = {403, 0, "http_request_denied"},
	[ABI_NO_ENDPOINT] = {503, 0, "destination_unavailable"},
	[ABI_NO_SERVICE_PORT] = {503, 0, "destination_not_found"},
	[ABI_ENDPOINT_GONE] = {503, 0, "destination_unavailable"},
	[ABI_POD_GONE] = {503, 0, "destination_unavailable"},
	[ABI_UNREACHABLE] = {503, 0, "connection_refused"},
	[ABI_TUNNEL_FAILED] = {503, 0, "connection_terminated"},
	[ABI_HANDSHAKE_FAILED] = {503, 0, "tls_protocol_error"},
	[ABI_RESET] = {502, 0, "connection_terminated"},
	[ABI_BAD_REQUEST] = {400, 0, "http_request_error"},
	[ABI_MALFORMED] = {400, 0, "http_request_error"},
	[ABI_NO_ROUTE] = {404, 0, "destination_not_found"},
	/* GRPCRoute of the Gateway API: an invalid backend is UNAVAILABLE */
	[ABI_BAD_BACKEND] = {500, GRPC_UNAVAILABLE, "proxy_configuration_error"},
	[ABI_TIMEOUT] = {504, GRPC_DEADLINE_EXCEEDED, "http_response_timeout"},
	[ABI_STALLED] = {504, 0, "connection_write_timeout"},
	[ABI_BAD_ANSWER] = {502, 0, "http_protocol_error"},
	[ABI_OVERLOADED] = {503, 0, "connection_limit_reached"},
};
static const struct outcome any_other = {503, 0, "proxy_internal_error"};

static const struct outcome *outcome_of(enum abi_reason reason)
{
	return (unsigned)reason < array_size(outcomes) && outcomes[reason].status ? &outcomes[reason] : &any_other;
}

unsigned reply_status(enum abi_reason reason)
{
	return outcome_of(reason)->status;
}

/* ------------------------------------------------------------------ heads */

/* IMF-fixdate, RFC 9110 section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT" */
static struct http_text date(struct arena *a, int64_t wall_ms)
{
	static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t s = (time_t)(wall_ms / 1000);
	char buf[32];
	struct tm tm;
	int n;

	if (!gmtime_r(&s, &tm) || tm.tm_year < 0 || tm.tm_year > 9999 - 1900)
		return (struct http_text){"", 0};
	n = snprintf(buf, sizeof(buf), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday,
		     months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	return (struct http_text){arena_string(a, buf, (size_t)n), (size_t)n};
}

struct http_head *reply_head(struct arena *a, const struct http_head *request, unsigned status, int64_t wall_ms)
{
	struct http_head *h = arena_alloc(a, sizeof(*h));
	struct http_text now = wall_ms > 0 ? date(a, wall_ms) : HTTP_TEXT("");

	h->version = HTTP_1_1;
	h->status = (uint16_t)status;
	h->body = request && request->method == HTTP_HEAD ? HTTP_NO_BODY : HTTP_LENGTH;
	h->has_length = true;
	http_field_put(a, h, HTTP_TEXT("server"), HTTP_TEXT("weft"));
	if (now.len)
		http_field_put(a, h, HTTP_TEXT("date"), now);
	return h;
}

/* ------------------------------------------------------------------ answers */

static struct http_text format(struct arena *a, const char *fmt, ...) printf_like(2, 3);
static struct http_text format(struct arena *a, const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n >= sizeof(buf))
		n = sizeof(buf) - 1;
	return (struct http_text){arena_string(a, buf, (size_t)n), (size_t)n};
}

/* Trailers-only: head and trailers are one (gRPC over HTTP2, Responses). */
static void answer_grpc(struct arena *a, struct http_head *h, int status, struct http_text message)
{
	char *escaped = arena_alloc(a, REPLY_MESSAGE);
	size_t len = grpc_message_encode(message, escaped, REPLY_MESSAGE);

	http_field_put(a, h, HTTP_TEXT("content-type"), HTTP_TEXT("application/grpc"));
	http_field_put(a, h, HTTP_TEXT("grpc-status"), format(a, "%d", status));
	http_field_put(a, h, HTTP_TEXT("grpc-message"), (struct http_text){escaped, len});
	h->status = 200;
	h->body = HTTP_NO_BODY;
	h->has_length = false;
}

struct reply reply_make(struct arena *a, const struct http_head *request, unsigned status, enum abi_reason reason,
			const char *why, int64_t wall_ms)
{
	const struct outcome *o = outcome_of(reason);
	const char *said = why ? why : reason_text(reason);
	bool own = !status || status == o->status; /* the status of the reason: its gRPC status is too */
	struct reply r = {.head = reply_head(a, request, status ? status : o->status, wall_ms)};

	http_field_put(a, r.head, HTTP_TEXT("proxy-status"),
		       format(a, "weft; error=%s; details=\"%s\"", o->error, reason_name(reason)));
	if (request && http_is_grpc(request)) {
		answer_grpc(a, r.head, own && o->grpc ? o->grpc : (int)grpc_status_of_http(r.head->status),
			    format(a, "weft: %s: %s", reason_name(reason), said));
		return r;
	}
	http_field_put(a, r.head, HTTP_TEXT("content-type"), HTTP_TEXT("text/plain"));
	r.body = format(a, "weft: %s: %s\n", reason_name(reason), said);
	r.head->length = r.body.len;
	if (r.head->body == HTTP_NO_BODY)
		r.body = (struct http_text){"", 0};
	return r;
}
