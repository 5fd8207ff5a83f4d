/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchanges.h: a client's connection to shop/web:80 (10.96.0.1) of a site, whose requests become exchanges, and the
 * endpoint 10.3.0.1.
 */
#ifndef WEFT_TEST_EXCHANGES_H
#define WEFT_TEST_EXCHANGES_H

#include "../../userspace/proxy/exchange.h"
#include "site.h"

#define PORT 8080
#define OK(body) "HTTP/1.1 200 OK\r\nContent-Length: " body "\r\n\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: web.shop\r\n\r\n"
#define POST(path, length) "POST " path " HTTP/1.1\r\nHost: web.shop\r\nContent-Length: " length "\r\n\r\n"
/* A Service of namespace shop, with fields of YAML behind its name, and the slice of its one endpoint. */
#define SERVICE(name, more, spec)                                                                 \
	"---\napiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: " name more "}\n"  \
	"spec: {" spec ", ports: [{name: http, port: 80, targetPort: 8080}]}\n"
#define ENDPOINTS(name, addresses)                                                                \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                              \
	"metadata: {namespace: shop, name: " name "-1, labels: {kubernetes.io/service-name: " name "}}\n" \
	"addressType: IPv4\nendpoints: [" addresses "]\nports: [{name: http, port: 8080}]\n"

static struct serve serve;
static int listening; /* 10.3.0.1 */

static void requested(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	exchange_begin(c->owner, x, h);
}

static void closed(struct http_connection *c, const char *why)
{
	struct serve *v = c->owner;

	list_del(&v->link);
	v->http = NULL;
}

static void draining(struct http_connection *c)
{
}

static const struct http_events events = {.request = requested, .draining = draining, .closed = closed};

/* A client's connection to shop/web:80; its far end. */
SITE_FN int client_fd(bool http2)
{
	static const struct http_limits limits;
	struct abi_addr vip = scene_addr("10.96.0.1");
	struct stream *s;
	int fd[2];

	pair(fd);
	serve = (struct serve){.site = &site,
			       .state = SERVE_HTTP,
			       .caller = {.netns = 1001,
					  .service = world_front(scene.world, &vip, 80)->number,
					  .tuple = {.src = scene_addr("10.1.0.1"), .src_port = 4711},
					  .asked = vip,
					  .asked_port = 80}};
	list_init(&serve.exchanges);
	list_add(&site.serves, &serve.link);
	s = sock_stream(thread, fd[0]);
	serve.http = (http2 ? http2_server : http1_server)(thread, s, &limits, &events, &serve);
	return fd[1];
}

SITE_FN struct raw client(void)
{
	return raw_of(client_fd(false));
}

SITE_FN struct raw endpoint(int at)
{
	return raw_of(site_accept(at));
}

/* The client's connection is gone, and nothing of its requests is left. */
SITE_FN void exchanges_over(struct raw *r)
{
	raw_close(r);
	UNTIL(!serve.http && list_empty(&serve.exchanges) && list_empty(&site.mirrors));
}

SITE_FN uint64_t counted(enum abi_reason reason)
{
	return site.reasons[reason];
}

SITE_FN int exchanges_begin(const char *world)
{
	int r = site_begin(exchange_answered);

	stalls_start(&site);
	site_yaml("%s", world);
	listening = site_listen("10.3.0.1", PORT);
	return r;
}

/* For site_end() */
SITE_FN void exchanges_clear(void)
{
	exchanges_end(&serve.exchanges, ABI_RESET, "the test is over");
	if (serve.http)
		serve.http->ops->close(serve.http, "the test is over");
	mirrors_close(&site);
	loop_disarm(loop, &site.stalls);
	rest();
	exchanges_free(&site);
	close(listening);
}

#endif
