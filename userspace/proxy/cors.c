/* SPDX-License-Identifier: Apache-2.0 */
/* cors.c: is this origin allowed, and what does its browser hear of that? */
#include <string.h>
#include <strings.h>

#include "filter.h"

#define ECHO 4096 /* of access-control-request-headers: longer ones are not answered */

static const struct http_text allow_origin = HTTP_TEXT("access-control-allow-origin");
static const struct http_text allow_credentials = HTTP_TEXT("access-control-allow-credentials");
static const struct http_text allow_methods = HTTP_TEXT("access-control-allow-methods");
static const struct http_text allow_headers = HTTP_TEXT("access-control-allow-headers");
static const struct http_text expose_headers = HTTP_TEXT("access-control-expose-headers");
static const struct http_text max_age = HTTP_TEXT("access-control-max-age");
static const struct http_text vary = HTTP_TEXT("vary");
static const struct http_text any = HTTP_TEXT("*");

/* ------------------------------------------------------------------ origins */

struct origin {
	struct http_text scheme, host, port; /* port: digits; the scheme's own where there is none */
};

static bool cut(struct http_text t, struct origin *ret)
{
	const char *end = t.at + t.len, *colon = t.len ? memchr(t.at, ':', t.len) : NULL, *s;
	const char *port = NULL;

	if (!colon || end - colon < 4 || colon[1] != '/' || colon[2] != '/')
		return false;
	ret->scheme = (struct http_text){t.at, (size_t)(colon - t.at)};
	s = colon + 3;
	for (const char *p = end; p > s && !port; p--) /* the last colon that only digits follow */
		if (p[-1] == ':')
			port = p;
		else if (p[-1] < '0' || p[-1] > '9')
			break;
	ret->host = (struct http_text){s, (size_t)((port ? port - 1 : end) - s)};
	if (port)
		ret->port = (struct http_text){port, (size_t)(end - port)};
	else if (http_text_equal_nocase(ret->scheme, HTTP_TEXT("https")))
		ret->port = HTTP_TEXT("443");
	else
		ret->port = HTTP_TEXT("80");
	return ret->scheme.len && ret->host.len && ret->port.len;
}

/* "*" at the front of a host stands for one character or more: also for several labels. */
static bool host_matches(struct http_text pattern, struct http_text host)
{
	struct http_text rest = {pattern.at + 1, pattern.len - 1};

	if (pattern.at[0] != '*')
		return http_text_equal_nocase(pattern, host);
	return host.len > rest.len &&
	       http_text_equal_nocase(rest, (struct http_text){host.at + host.len - rest.len, rest.len});
}

static bool origin_allowed(const struct route_filter *f, struct http_text value)
{
	struct origin asks, wants;
	bool good = cut(value, &asks);

	for (unsigned i = 0; i < f->cors.origins; i++) {
		if (http_text_equal(f->cors.origin[i], any))
			return true;
		if (good && cut(f->cors.origin[i], &wants) && http_text_equal_nocase(asks.scheme, wants.scheme) &&
		    http_text_equal(asks.port, wants.port) && host_matches(wants.host, asks.host))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ answers */

static void say(struct cors *c, struct http_text name, struct http_text value)
{
	c->field[c->fields++] = (struct http_field){
		.name = name,
		.value = value,
		.id = http_name(name.at, name.len),
	};
}

/* A list of the route's. "*": what was asked for, which a request with credentials needs, and no other is hurt by. */
static void say_list(struct arena *a, struct cors *c, struct http_text name, struct http_text list,
		     const struct http_field *asked)
{
	if (!list.len)
		return;
	if (!http_text_equal(list, any))
		say(c, name, http_text_keep(a, list));
	else if (asked && asked->value.len && asked->value.len <= ECHO)
		say(c, name, http_text_keep(a, asked->value));
}

static void say_preflight(struct arena *a, const struct route_filter *f, const struct http_head *request,
			  struct cors *c)
{
	char seconds[16];
	int n = snprintf(seconds, sizeof(seconds), "%u", (unsigned)f->cors.max_age_s);

	say_list(a, c, allow_methods, f->cors.methods,
		 http_field(request, HTTP_NAME_ACCESS_CONTROL_REQUEST_METHOD, NULL));
	say_list(a, c, allow_headers, f->cors.headers,
		 http_field(request, HTTP_NAME_ACCESS_CONTROL_REQUEST_HEADERS, NULL));
	if (f->cors.max_age_s)
		say(c, max_age, http_text_keep(a, (struct http_text){seconds, (size_t)n}));
}

void cors_judge(struct arena *a, const struct route_filter *f, const struct http_head *request, struct cors *ret)
{
	const struct http_field *origin = http_field(request, HTTP_NAME_ORIGIN, NULL);

	*ret = (struct cors){0};
	ret->preflight = origin && request->method == HTTP_OPTIONS &&
			 http_field(request, HTTP_NAME_ACCESS_CONTROL_REQUEST_METHOD, NULL);
	/* Two origins are none. */
	ret->allowed = origin && !http_field(request, HTTP_NAME_ORIGIN, origin) && origin_allowed(f, origin->value);
	say(ret, vary,
	    ret->preflight ? HTTP_TEXT("Origin, Access-Control-Request-Method, Access-Control-Request-Headers") :
			     HTTP_TEXT("Origin"));
	if (!ret->allowed)
		return;
	say(ret, allow_origin, http_text_keep(a, origin->value));
	if (f->cors.credentials)
		say(ret, allow_credentials, HTTP_TEXT("true"));
	/* "*" is no wildcard where there are credentials (Fetch, section 3.3.5): then it would name a header "*". */
	if (f->cors.expose.len && !(f->cors.credentials && http_text_equal(f->cors.expose, any)))
		say(ret, expose_headers, http_text_keep(a, f->cors.expose));
	if (ret->preflight)
		say_preflight(a, f, request, ret);
}

bool cors_is_own(struct http_text name)
{
	return http_text_equal_nocase(name, allow_origin) || http_text_equal_nocase(name, allow_credentials) ||
	       http_text_equal_nocase(name, expose_headers);
}
