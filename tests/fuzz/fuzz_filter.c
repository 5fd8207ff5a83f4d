/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request past everything that a proxy does to its head: identity and id, one form of the path, the filters of a
 * route, the log line. What is written afterwards is one head as strict as any, with the framing that it had; so
 * is each answer.
 *
 *	flags (4 bytes), texts of a route with "\n" between and a NUL behind, the bytes of a request
 */
#include <stdlib.h>
#include <string.h>

#include "../../userspace/http/http1_parts.h"
#include "../../userspace/proxy/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct http1_limit limit = {.head_bytes = 8000, .line_bytes = 4000, .fields = 60};
static const struct http1_limit grown = {.head_bytes = 1 << 20, .line_bytes = 1 << 20, .fields = HTTP1_FIELDS};

static void must(bool law)
{
	if (!law)
		abort();
}

/* ------------------------------------------------------------------ a route */

#define TEXTS 8
static struct http_text texts[TEXTS];
static uint32_t flags;

static const uint8_t *read_texts(const uint8_t *data, const uint8_t *end)
{
	const uint8_t *stop = memchr(data, 0, (size_t)(end - data));
	unsigned i;

	if (!stop)
		return NULL;
	for (i = 0; i < TEXTS; i++) {
		const uint8_t *line = memchr(data, '\n', (size_t)(stop - data));

		texts[i] = (struct http_text){(const char *)data, (size_t)((line ? line : stop) - data)};
		data = line ? line + 1 : stop;
	}
	return stop + 1;
}

/* As route_compile() lets them through. */
static struct http_field field_of(unsigned i)
{
	struct http_field f = {.name = texts[i], .value = texts[i + 1]};

	if (!http1_is_token(f.name.at, f.name.len) || f.name.len > 64)
		f.name = HTTP_TEXT("X-Route");
	if (http1_scan_value(f.value.at, f.value.len) != f.value.len || f.value.len > 256)
		f.value = HTTP_TEXT("of the route");
	f.id = http_name(f.name.at, f.name.len);
	return f;
}

static struct http_text host_of(struct http_text t, char buf[256])
{
	struct http_text host;
	uint16_t port;

	return flags & 1 && http_host(t, buf, &host, &port) ? host : (struct http_text){NULL, 0};
}

static uint64_t draw(void *ctx)
{
	return flags * 0x9e3779b97f4a7c15ull;
}

static unsigned make_filters(struct route_filter *f, struct http_field change[2], struct http_text *remove,
			     struct http_text *origin, char host[256])
{
	unsigned n = 0;

	change[0] = field_of(0);
	change[1] = field_of(2);
	*remove = field_of(4).name;
	*origin = texts[5];
	for (unsigned kind = FILTER_REQUEST_HEADERS; kind <= FILTER_CORS; kind++) {
		if (!(flags >> (8 + kind) & 1))
			continue;
		f[n].kind = (enum route_filter_kind)kind;
		switch (f[n].kind) {
		case FILTER_REQUEST_HEADERS:
		case FILTER_RESPONSE_HEADERS:
			f[n].headers.set = change;
			f[n].headers.add = change + 1;
			f[n].headers.remove = remove;
			f[n].headers.sets = flags >> 1 & 1;
			f[n].headers.adds = flags >> 2 & 1;
			f[n].headers.removes = flags >> 3 & 1;
			break;
		case FILTER_REDIRECT:
		case FILTER_REWRITE:
			f[n].url.scheme = flags & 2 ? HTTP_TEXT("https") : HTTP_TEXT("");
			f[n].url.host = host_of(texts[6], host);
			f[n].url.port = (uint16_t)(flags >> 16);
			f[n].url.change = (enum route_path_change)(flags >> 4 & 3) % 3;
			f[n].url.path = texts[7];
			break;
		case FILTER_MIRROR:
			f[n].mirror.numerator = flags >> 16 & 127;
			f[n].mirror.denominator = 100;
			break;
		case FILTER_CORS:
			f[n].cors.origin = origin;
			f[n].cors.origins = 1;
			f[n].cors.methods = f[n].cors.headers = flags & 4 ? HTTP_TEXT("*") : HTTP_TEXT("GET, PUT");
			f[n].cors.expose = change[0].name;
			f[n].cors.credentials = flags >> 5 & 1;
			f[n].cors.max_age_s = flags;
			break;
		}
		n++;
	}
	return n;
}

/* ------------------------------------------------------------------ what is written */

static unsigned count(const char *head, size_t len, const char *name)
{
	unsigned n = 0;

	for (size_t i = 0; i + strlen(name) < len; i++)
		n += head[i] == '\n' && !strncasecmp(head + i + 1, name, strlen(name));
	return n;
}

static void sound(const struct http_head *h, bool answer)
{
	struct http_field field[HTTP1_FIELDS];
	struct http1_head again = {.h = {.field = field, .room = HTTP1_FIELDS}};
	struct http1_plan p = {.framing = FRAME_NONE, .length = h->length, .say_length = h->has_length};
	struct http1_asked asked = {.method = HTTP_GET};
	size_t size = http1_head_size(h) + h->upgrade.len, len;
	char *to = mem_alloc(size);
	int r;

	if (h->body == HTTP_LENGTH)
		p.framing = FRAME_LENGTH;
	if (h->body == HTTP_STREAM)
		p.framing = FRAME_CHUNKED;
	if (h->body == HTTP_TUNNEL) {
		p.framing = FRAME_TUNNEL;
		p.upgrade = h->upgrade;
	}
	len = answer ? http1_write_answer(h, &p, to) : http1_write_request(h, &p, to);
	must(len <= size);
	r = answer ? http1_parse_answer(to, len, &grown, &asked, &again) :
		     http1_parse_request(to, len, &grown, &again);
	must(r == (int)len);
	must(!memchr(to, 0, len));
	must(count(to, len, "content-length:") + count(to, len, "transfer-encoding:") <= 1);
	must(count(to, len, "host:") == !answer);
	must(again.h.length == h->length || h->body == HTTP_NO_BODY);
	if (!answer) {
		must(again.h.body == h->body);
		must(http_text_equal(again.h.path, h->path) && http_text_equal(again.h.authority, h->authority));
	}
	free(to);
}

static void log_it(const struct http_head *h, struct http_text id)
{
	const struct access x = {.method = h->method_text, .authority = h->authority, .path = h->path, .id = id};
	char line[ACCESS_TEXT];
	size_t len = access_text(&x, line);

	must(len < sizeof(line) && !line[len]);
	for (size_t i = 0; i < len; i++)
		must(line[i] >= 0x20 && line[i] < 0x7f);
}

/* The answer has the fields of the request: as odd as any. */
static void answers(struct arena *a, const struct http_head *request, const struct filter_out *out)
{
	struct http_head *h = http_head_keep(a, request, 0);
	struct reply reply = reply_make(a, request, 0, ABI_NO_ROUTE, NULL, 1);

	h->status = 200;
	h->reason = (struct http_text){NULL, 0};
	h->body = HTTP_LENGTH;
	h->has_length = true;
	h->length = 7;
	filter_answer(a, out->changes, h);
	sound(h, true);
	filter_answer(a, out->changes, reply.head);
	sound(reply.head, true);
	if (out->answer) {
		filter_answer(a, out->changes, out->answer);
		sound(out->answer, true);
	}
}

/* ------------------------------------------------------------------ one request */

static void pass(struct arena *a, const struct http_head *came)
{
	struct random random = {{flags + 1, 2}};
	struct forwarded_hop hop = {.trust = (enum forwarded_trust)(flags >> 6 & 3) % 3, .random = &random};
	struct filter_scene scene = {.arena = a, .random = draw, .wall_ms = flags & 8 ? 1 : 0, .port = 80};
	struct route_filter filter[8] = {0};
	struct http_head *h = http_head_keep(a, came, 4);
	struct http_field change[2];
	struct http_text remove, origin, id;
	struct filter_out out = {0};
	char host[256], buf[256];
	struct websocket w;
	const char *why;
	uint16_t port;
	unsigned n;

	id = forwarded_apply(a, h, &hop);
	if (h->authority.len && !http_host(h->authority, buf, &(struct http_text){0}, &port))
		return;
	if (h->method == HTTP_CONNECT ||
	    !http_path_normalise(h->path, flags & 16, (char *)h->path.at, &scene.path, &scene.query, &why))
		return;
	h->path = (struct http_text){scene.path.at, scene.path.len + (scene.query.at ? 1 + scene.query.len : 0)};
	scene.head = h;
	scene.scheme = h->scheme;
	scene.prefix = flags >> 24 & 31;
	n = make_filters(filter, change, &remove, &origin, host);
	filter_request(filter, n, &scene, &out);
	filter_request(filter, n, &scene, &out); /* as a backend's */
	must(out.mirrors <= FILTER_MIRRORS);
	(void)filter_timeout(a, h, flags >> 16);
	why = websocket_request(a, h, HTTP_2, (const uint8_t *)"0123456789abcdef", &w);
	must(why || !http_text_equal_nocase(h->upgrade, HTTP_TEXT("websocket")) ||
	     (w.add && !http_field(h, HTTP_NAME_SEC_WEBSOCKET_KEY, NULL)));
	answers(a, h, &out);
	log_it(h, id);
	sound(h, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const uint8_t *end = data + len, *request;
	struct http_field field[HTTP1_FIELDS];
	struct http1_head head = {.h = {.field = field, .room = HTTP1_FIELDS}};
	struct arena a = {0};

	if (len < sizeof(flags))
		return 0;
	memcpy(&flags, data, sizeof(flags));
	request = read_texts(data + sizeof(flags), end);
	if (!request)
		return 0;
	if (http1_parse_request((const char *)request, (size_t)(end - request), &limit, &head) <= 0)
		return 0;
	if (head.h.version == HTTP_1_1)
		pass(&a, &head.h);
	arena_free(&a);
	return 0;
}
