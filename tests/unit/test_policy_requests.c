// SPDX-License-Identifier: Apache-2.0
/* AuthorizationPolicies with fields of HTTP, from YAML to the answer for one request. Chance: tests/bpf. */
#include "scene.h"
#include "view.h"

static void policy(struct scene *s, const char *action, const char *rule)
{
	char *text = mem_format("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
				"metadata: {namespace: shop, name: %s}\nspec: {action: %s, rules: [%s]}\n",
				strcmp(action, "DENY") ? "allow" : "deny", action, rule);

	scene_yaml(s->store, text);
	free(text);
	world_update(s->world);
}

static struct scene begin(void)
{
	struct scene s = scene_new();

	scene_enrol(s.world, 1, "shop/web", "web", "10.0.0.1,fd00::1", "");
	world_update(s.world);
	return s;
}

/* "GET shop.example:80 /path x-a:1 x-a:2"; "-" for the host: there is none (HTTP/1.0); NULL: it is no HTTP */
static enum abi_reason ask(const struct scene *s, const char *line)
{
	const struct policy_set *set = world_pod_named(s->world, "shop", "web")->set;
	struct abi_addr from = scene_addr("10.9.9.9");
	struct identity who = {.principal = (char *)"cluster.local/ns/shop/sa/a", .trust_domain = "cluster.local",
			       .namespace = "shop", .service_account = "a", .account = (char *)"shop/a"};
	struct policy_request q = {.who = &who, .source = &from, .port = 80};
	char *copy = mem_string(line ? line : ""), *save = NULL, *at, host[256];
	struct http_field field[8];
	struct http_head head = {.field = field};
	enum abi_reason r;
	uint16_t port;

	if (line) {
		at = strtok_r(copy, " ", &save);
		head.method_text = (struct http_text){at, strlen(at)};
		at = strtok_r(NULL, " ", &save);
		head.authority = (struct http_text){at, strcmp(at, "-") ? strlen(at) : 0};
		assert_true(!head.authority.len || http_host(head.authority, host, &q.host, &port));
		at = strtok_r(NULL, " ", &save);
		q.path = (struct http_text){at, strlen(at)};
		while ((at = strtok_r(NULL, " ", &save))) {
			char *colon = strchr(at, ':');

			field[head.fields++] = (struct http_field){.name = {at, (size_t)(colon - at)},
								   .value = {colon + 1, strlen(colon + 1)}};
		}
		q.head = &head;
	}
	r = policy_judge_request(set, &q);
	free(copy);
	return r;
}

static void operations(void **state)
{
	struct scene s = begin();

	policy(&s, "ALLOW", "{to: [{operation: {methods: [GET, HEAD], paths: [/a, '/public/*', '*.css']}}, "
			    "{operation: {hosts: ['Admin.Shop', '*.internal', 'old:81'], notPaths: ['/secret*']}}]}");
	assert_int_equal(ask(&s, "GET web /a"), ABI_NONE);
	assert_int_equal(ask(&s, "HEAD web /public/x/y"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web /z.css"), ABI_NONE);
	assert_int_equal(ask(&s, "POST web /a"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "get web /a"), ABI_NOT_ALLOWED); /* methods are what they are */
	assert_int_equal(ask(&s, "GET web /A"), ABI_NOT_ALLOWED); /* and so are paths */
	assert_int_equal(ask(&s, "GET web /a/"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /public"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "DELETE ADMIN.shop:8080 /x"), ABI_NONE); /* hosts have no case, and need no port */
	assert_int_equal(ask(&s, "DELETE a.internal /x"), ABI_NONE);
	assert_int_equal(ask(&s, "DELETE old /x"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "DELETE OLD:81 /x"), ABI_NONE);
	assert_int_equal(ask(&s, "DELETE admin.shop /secret/1"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, NULL), ABI_NOT_ALLOWED); /* no HTTP: what asks for it does not match */

	policy(&s, "DENY", "{to: [{operation: {methods: [DELETE]}}]}");
	assert_int_equal(ask(&s, "DELETE admin.shop /x"), ABI_DENIED); /* DENY first */
	assert_int_equal(ask(&s, "GET web /a"), ABI_NONE);
	assert_int_equal(ask(&s, NULL), ABI_DENIED); /* no HTTP: closed rather than open */
	scene_free(&s);
}

/* A request's path comes in one form: so the patterns must, or what they deny would pass. */
static void escapes(void **state)
{
	struct scene s = begin();

	policy(&s, "DENY", "{to: [{operation: {paths: ['/caf%c3%a9', '/%61dmin*', '*%7e', '/u/{*}/%e2%82%ac', '/%', "
			   "'/a%2fb', '/%zz']}}]}");
	assert_int_equal(ask(&s, "GET web /caf%C3%A9"), ABI_DENIED);
	assert_int_equal(ask(&s, "GET web /admin/x"), ABI_DENIED);
	assert_int_equal(ask(&s, "GET web /home/~"), ABI_DENIED);
	assert_int_equal(ask(&s, "GET web /u/7/%E2%82%AC"), ABI_DENIED);
	assert_int_equal(ask(&s, "GET web /caf%C3%A8"), ABI_NONE);
	policy(&s, "DENY", "{to: [{operation: {methods: [PUT], notPaths: ['/open/%c3%a9', '/plain%']}}]}");
	assert_int_equal(ask(&s, "PUT web /open/%C3%A9"), ABI_NONE);
	assert_int_equal(ask(&s, "PUT web /open/%C3%A8"), ABI_DENIED);
	assert_int_equal(ask(&s, "PUT web /plain%"), ABI_NONE); /* no path of a request, but compared as it is */
	scene_free(&s);
}

static void templates(void **state)
{
	struct scene s = begin();

	policy(&s, "ALLOW", "{to: [{operation: {paths: ['/u/{*}/orders', '/f/{**}', '/g/{*}/{**}/end']}}]}");
	assert_int_equal(ask(&s, "GET web /u/7/orders"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web /u//orders"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /u/7/8/orders"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /u/7/orders/1"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /u/7"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /f/"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web /f/a/b"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web /f"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /g/1/2/3/end"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web /g/1/2/3"), ABI_NOT_ALLOWED);
	scene_free(&s);
}

/* A field that is sent twice does not get past a rule. */
static void headers(void **state)
{
	struct scene s = begin();

	policy(&s, "ALLOW", "{when: [{key: 'request.headers[X-Team]', values: [blue, 'green*']}]}");
	assert_int_equal(ask(&s, "GET web / x-team:blue"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web / X-TEAM:greenish"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web / x-team:blue x-team:green"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web / x-team:blue x-team:red"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web / x-team:blue,red"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /"), ABI_NOT_ALLOWED);
	policy(&s, "DENY", "{when: [{key: 'request.headers[x-debug]', values: ['*']}]}");
	assert_int_equal(ask(&s, "GET web / x-team:blue x-debug:"), ABI_DENIED);
	policy(&s, "DENY", "{when: [{key: 'request.headers[x-team]', values: [green]}]}");
	assert_int_equal(ask(&s, "GET web / x-team:blue x-team:green"), ABI_DENIED);
	assert_int_equal(ask(&s, "GET web / x-team:blue"), ABI_NONE);
	policy(&s, "DENY", "{when: [{key: 'request.headers[x-ok]', notValues: ['1']}]}");
	assert_int_equal(ask(&s, "GET web / x-team:blue"), ABI_DENIED); /* it is not there, so it is not 1 */
	assert_int_equal(ask(&s, "GET web / x-team:blue x-ok:1"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web / x-team:blue x-ok:1 x-ok:2"), ABI_DENIED);
	policy(&s, "DENY", "{when: [{key: 'request.headers[host]', values: [evil]}]}");
	assert_int_equal(ask(&s, "GET evil / x-team:blue"), ABI_DENIED);
	assert_int_equal(ask(&s, "GET web / x-team:blue"), ABI_NONE);
	assert_int_equal(ask(&s, "GET - / x-team:blue"), ABI_NONE);
	policy(&s, "DENY", "{when: [{key: 'request.headers[host]', notValues: ['*']}]}");
	assert_int_equal(ask(&s, "GET - / x-team:blue"), ABI_DENIED); /* as with any field that is not there */
	assert_int_equal(ask(&s, "GET web / x-team:blue"), ABI_NONE);
	policy(&s, "DENY", "{when: [{key: 'request.headers[nobody]', values: [x]}]}");
	policy(&s, "ALLOW", "{when: [{key: 'request.headers[host]', values: ['*']}]}");
	assert_int_equal(ask(&s, "GET - /"), ABI_NOT_ALLOWED);
	assert_int_equal(ask(&s, "GET web /"), ABI_NONE);
	policy(&s, "ALLOW", "{when: [{key: 'request.headers[host]', values: ['*']}]}, "
			    "{to: [{operation: {hosts: ['*']}}]}");
	assert_int_equal(ask(&s, "GET - /"), ABI_NOT_ALLOWED);
	scene_free(&s);
}

/* What weft does not know closes what it might concern, and opens nothing. */
static void unknown(void **state)
{
	static const char *const when[] = {"request.auth.claims[iss]", "request.headers[content-length]", "remote.ip"};
	struct scene s = begin();

	for (unsigned i = 0; i < array_size(when); i++) {
		char *rule = mem_format("{to: [{operation: {methods: [GET]}}], when: [{key: '%s', values: ['1']}]}",
					when[i]);

		store_del(s.store, KIND_AUTHORIZATION_POLICY, "shop", "deny");
		policy(&s, "ALLOW", rule);
		assert_int_equal(ask(&s, "GET web /"), ABI_NEEDS_WORKER);
		assert_int_equal(ask(&s, "PUT web /"), ABI_NOT_ALLOWED);
		store_del(s.store, KIND_AUTHORIZATION_POLICY, "shop", "allow");
		policy(&s, "DENY", rule);
		assert_int_equal(ask(&s, "GET web /"), ABI_NEEDS_WORKER);
		assert_int_equal(ask(&s, "PUT web /"), ABI_NONE);
		free(rule);
	}
	store_del(s.store, KIND_AUTHORIZATION_POLICY, "shop", "deny");
	policy(&s, "ALLOW", "{from: [{source: {requestPrincipals: ['*']}}, {source: {namespaces: [shop]}}], "
			    "to: [{operation: {paths: [/a]}}]}");
	assert_int_equal(ask(&s, "GET web /a"), ABI_NONE); /* by its other source */
	assert_int_equal(ask(&s, "GET web /b"), ABI_NOT_ALLOWED);
	scene_free(&s);
}

/* Two sets that differ in a path alone are two, and a pod changes over. */
static void changes(void **state)
{
	struct scene s = begin();
	const struct world_pod *p = world_pod_named(s.world, "shop", "web");
	uint32_t number;

	assert_false(policy_needs_http(p->set, 80));
	policy(&s, "ALLOW", "{to: [{operation: {paths: [/a], ports: ['80']}}]}");
	assert_true(policy_needs_http(p->set, 80));
	assert_false(policy_needs_http(p->set, 81));
	number = p->set->number;
	policy(&s, "ALLOW", "{to: [{operation: {paths: [/a], ports: ['80']}}]}");
	assert_int_equal(p->set->number, number);
	policy(&s, "ALLOW", "{to: [{operation: {paths: [/b], ports: ['80']}}]}");
	assert_int_not_equal(p->set->number, number);
	assert_int_equal(ask(&s, "GET web /b"), ABI_NONE);
	assert_int_equal(ask(&s, "GET web /a"), ABI_NOT_ALLOWED);
	scene_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operations),
		cmocka_unit_test(escapes),
		cmocka_unit_test(templates),
		cmocka_unit_test(headers),
		cmocka_unit_test(unknown),
		cmocka_unit_test(changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
