/* SPDX-License-Identifier: Apache-2.0 */
/* forwarded.c: what a client says of itself and of hops before it; the id of a request. */
#include <string.h>

#include "filter.h"

#define ID 128 /* longest x-request-id that is kept */

/* ------------------------------------------------------------------ the id */

/* What a log line, a URL and a shell take as it is; nothing that ends a field or a quotation. */
static bool is_id(struct http_text t)
{
	if (!t.len || t.len > ID)
		return false;
	for (size_t i = 0; i < t.len; i++) {
		char c = t.at[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      (c && strchr("-._~:/+=@", c))))
			return false;
	}
	return true;
}

/* UUID, version 4 (RFC 9562 section 5.4) */
static struct http_text new_id(struct arena *a, struct random *random)
{
	uint64_t bits[2] = {random_next(random), random_next(random)};
	char *s = arena_alloc(a, 37), digits[32];

	bits[0] = (bits[0] & ~0xf000ull) | 0x4000;
	bits[1] = (bits[1] & ~(3ull << 62)) | 1ull << 63;
	(void)text_hex(text_hex(digits, bits[0], 16), bits[1], 16);
	s[8] = s[13] = s[18] = s[23] = '-';
	memcpy(s, digits, 8);
	memcpy(s + 9, digits + 8, 4);
	memcpy(s + 14, digits + 12, 4);
	memcpy(s + 19, digits + 16, 4);
	memcpy(s + 24, digits + 20, 12);
	return (struct http_text){s, 36};
}

/* ------------------------------------------------------------------ fields that are not a client's */

/*
 * Is it that name, or with `all` false does it begin with it? "_" counts as "-": apps that get fields as CGI, WSGI and
 * PHP have them (RFC 3875 section 4.1.18) cannot tell the two apart. `lower` has letters, digits and "-".
 */
static bool reads_as(struct http_text name, struct http_text lower, bool all)
{
	if (all ? name.len != lower.len : name.len < lower.len)
		return false;
	for (size_t i = 0; i < lower.len; i++)
		if ((name.at[i] == '_' ? '-' : name.at[i] | 0x20) != lower.at[i])
			return false;
	return true;
}

/*
 * Who the client is, as meshes tell it to apps: that of others (Envoy and Istio, Linkerd), which an app may be set up
 * to believe, and the names that weft keeps for itself.
 */
static bool tells_identity(const struct http_field *f)
{
	if (f->id)
		return f->id == HTTP_NAME_X_FORWARDED_CLIENT_CERT;
	if (!f->name.len)
		return false;
	switch (f->name.at[0] | 0x20) {
	case 'x':
		return reads_as(f->name, HTTP_TEXT("x-weft-"), false) ||
		       reads_as(f->name, HTTP_TEXT("x-forwarded-client-cert"), true);
	case 'l':
		return reads_as(f->name, HTTP_TEXT("l5d-client-id"), true);
	}
	return false;
}

/* All of x-forwarded-*: who stands behind proxies is told a port, a prefix, a user by some of them. */
static bool tells_hops(const struct http_field *f)
{
	if (f->id)
		return f->id == HTTP_NAME_FORWARDED || f->id == HTTP_NAME_X_FORWARDED_FOR ||
		       f->id == HTTP_NAME_X_FORWARDED_HOST || f->id == HTTP_NAME_X_FORWARDED_PROTO;
	return reads_as(f->name, HTTP_TEXT("x-forwarded-"), false) || reads_as(f->name, HTTP_TEXT("x-real-ip"), true);
}

/* What is not passed on of a client whose hops are (not) believed. */
static bool goes(const struct http_field *f, bool hops)
{
	return tells_identity(f) || (!hops && (tells_hops(f) || f->id == HTTP_NAME_X_REQUEST_ID));
}

/* One walk: what may stay. The first good id is the request's; what is no id, and further ones, go. */
static void sift(struct http_head *h, bool hops, struct http_text *ret_id)
{
	unsigned kept = 0;

	*ret_id = HTTP_TEXT("");
	for (unsigned i = 0; i < h->fields; i++) {
		const struct http_field *f = &h->field[i];

		if (goes(f, hops))
			continue;
		if (f->id == HTTP_NAME_X_REQUEST_ID) {
			if (ret_id->len || !is_id(f->value))
				continue;
			*ret_id = f->value;
		}
		if (kept != i)
			h->field[kept] = *f;
		kept++;
	}
	h->fields = kept;
}

const struct http_head *forwarded_trailers(struct arena *a, const struct http_head *trailers,
					   enum forwarded_trust trust)
{
	bool hops = trust != FORWARDED_REPLACE;
	struct http_head *kept;
	struct http_text id;

	for (unsigned i = 0; i < trailers->fields; i++) {
		if (!goes(&trailers->field[i], hops))
			continue;
		kept = http_head_keep(a, trailers, 0);
		sift(kept, hops, &id);
		return kept;
	}
	return trailers;
}

/* ------------------------------------------------------------------ hops */

/* Behind what the last field of that name says, or in a new one. */
static void append(struct arena *a, struct http_head *h, enum http_name id, struct http_text name,
		   struct http_text value)
{
	struct http_field *last = NULL;
	size_t len;
	char *s;

	for (unsigned i = 0; i < h->fields; i++)
		if (h->field[i].id == id && h->field[i].value.len)
			last = &h->field[i];
	if (!last) {
		http_field_put(a, h, name, value);
		return;
	}
	len = last->value.len;
	s = arena_alloc(a, len + 2 + value.len + 1);
	memcpy(s, last->value.at, len);
	memcpy(s + len, ", ", 2);
	memcpy(s + len + 2, value.at, value.len);
	last->value = (struct http_text){s, len + 2 + value.len};
}

static void tell_hop(struct arena *a, struct http_head *h, const struct forwarded_hop *hop)
{
	char addr[ADDR_TEXT], element[ADDR_TEXT + 32];
	bool v4 = addr_is_v4(&hop->client);
	int n;

	addr_text(&hop->client, addr);
	append(a, h, HTTP_NAME_X_FORWARDED_FOR, HTTP_TEXT("x-forwarded-for"),
	       http_text_keep(a, (struct http_text){addr, strlen(addr)}));
	if (!http_field(h, HTTP_NAME_X_FORWARDED_PROTO, NULL))
		http_field_put(a, h, HTTP_TEXT("x-forwarded-proto"),
			       hop->secure ? HTTP_TEXT("https") : HTTP_TEXT("http"));
	if (!http_field(h, HTTP_NAME_FORWARDED, NULL))
		return; /* RFC 7239 only for who uses it */
	n = snprintf(element, sizeof(element), "for=%s%s%s;proto=%s", v4 ? "" : "\"[", addr, v4 ? "" : "]\"",
		     hop->secure ? "https" : "http");
	append(a, h, HTTP_NAME_FORWARDED, HTTP_TEXT("forwarded"),
	       http_text_keep(a, (struct http_text){element, (size_t)n}));
}

struct http_text forwarded_apply(struct arena *a, struct http_head *request, const struct forwarded_hop *hop)
{
	struct http_text id;

	sift(request, hop->trust != FORWARDED_REPLACE, &id);
	if (hop->trust != FORWARDED_KEEP)
		tell_hop(a, request, hop);
	if (!id.len) {
		id = new_id(a, hop->random);
		http_field_put(a, request, HTTP_TEXT("x-request-id"), id);
	}
	return id;
}
