// SPDX-License-Identifier: Apache-2.0
/* policy_random.c: see policy_random.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "policy_random.h"

static const char *const namespaces[] = {"a", "ab", "b", "shop", "shop-dev", RANDOM_ROOT};
static const char *const accounts[] = {"x", "xy", "default", "web"};
static const char *const domains[] = {RANDOM_TRUST_DOMAIN, "other.org"};
static const uint16_t ports[] = {80, 81, 443, 8080, 9090, 65535};
static const char *const blocks[] = {
	"0.0.0.0/0",
	"10.0.0.0/8",
	"10.1.0.0/16",
	"10.1.2.0/24",
	"10.1.2.3/32",
	"10.1.2.4",
	"10.128.0.0/9",
	"192.168.0.0/16",
	"192.168.7.0/25",
	"192.168.7.96/27",
	"::/0",
	"fd00::/8",
	"fd00:1::/32",
	"fd00:1:2::/48",
	"fd00:1:2::3/128",
	"2001:db8::/32",
	"::/64",
	"172.16.0.0/12",
	"10.1.2.128/25",
	"fd00:1:2::/127",
};
static const char *const addrs_v4[] = {"10.1.2.3", "10.1.2.4", "10.1.2.200", "10.1.9.9", "10.200.0.1",
				       "192.168.7.5", "192.168.7.100", "192.168.9.1", "172.17.0.2", "8.8.8.8"};
static const char *const addrs_v6[] = {"fd00:1:2::3", "fd00:1:2::1", "fd00:1:2::", "fd00:1:9::1", "fd00:9::1",
				       "2001:db8::7", "::7", "2a00::1"};

uint32_t random_draw(struct random_source *r, uint32_t below)
{
	r->state = r->state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((r->state >> 33) % below);
}

bool random_chance(struct random_source *r, unsigned percent)
{
	return random_draw(r, 100) < percent;
}

const char *random_of(struct random_source *r, const char *const *list, unsigned count)
{
	return list[random_draw(r, count)];
}

struct abi_addr random_addr(struct random_source *r, bool ipv6)
{
	const char *s = ipv6 ? random_of(r, addrs_v6, array_size(addrs_v6))
			     : random_of(r, addrs_v4, array_size(addrs_v4));
	struct abi_addr a;

	if (addr_parse(s, &a))
		abort();
	if (random_chance(r, 10)) /* anywhere, but of the family */
		for (unsigned i = ipv6 ? 1 : 13; i < 16; i++)
			a.byte[i] = random_draw(r, 256);
	return a;
}

uint16_t random_port(struct random_source *r)
{
	return random_chance(r, 10) ? 1 + random_draw(r, 65535) : ports[random_draw(r, array_size(ports))];
}

const char *random_namespace(struct random_source *r)
{
	return random_of(r, namespaces, array_size(namespaces));
}

const char *random_account(struct random_source *r)
{
	return random_of(r, accounts, array_size(accounts));
}

void random_labels(struct random_source *r, char *text, size_t size)
{
	static const char *const app[] = {"app=web", "app=db", "app=api"}, *const tier[] = {"tier=1", "tier=2"};
	const char *a = random_of(r, app, 3), *t = random_of(r, tier, 2);
	size_t n = strlen(a) + 1;

	assert(size >= 64);
	memset(text, 0, 64);
	if (random_chance(r, 80))
		memcpy(text, a, n);
	else
		n = 0;
	if (random_chance(r, 50))
		memcpy(text + n, t, strlen(t) + 1);
}

const char *random_host(struct random_source *r)
{
	static const char *const list[] = {"web.shop", "api.shop", "web", "a.example"};

	return random_of(r, list, array_size(list));
}

const char *random_method(struct random_source *r)
{
	static const char *const list[] = {"GET", "POST", "PUT", "DELETE"};

	return random_of(r, list, array_size(list));
}

const char *random_path(struct random_source *r)
{
	static const char *const list[] = {"/", "/a", "/a/b", "/admin", "/admin/x"};

	return random_of(r, list, array_size(list));
}

const char *random_value(struct random_source *r)
{
	static const char *const list[] = {"1", "12", "2", "", "on"};

	return random_of(r, list, array_size(list));
}

static void selector(struct random_source *r, struct object *o, struct pairs *ret)
{
	static const char *const app[] = {"web", "db", "api"}, *const tier[] = {"1", "2"};

	ret->item = arena_alloc(&o->arena, 2 * sizeof(*ret->item));
	if (random_chance(r, 40))
		ret->item[ret->count++] = (struct pair){"app", random_of(r, app, 3)};
	if (random_chance(r, 20))
		ret->item[ret->count++] = (struct pair){"tier", random_of(r, tier, 2)};
}

/* ------------------------------------------------------------------ lists */

static const char *keep(struct object *o, char *text)
{
	const char *copy = arena_string(&o->arena, text, strlen(text));

	free(text);
	return copy;
}

static const char *pattern(struct random_source *r, struct object *o, const char *text)
{
	size_t len = strlen(text), cut = len ? random_draw(r, len) : 0;

	switch (random_draw(r, 6)) {
	case 0:
		return "*";
	case 1:
		return keep(o, mem_format("%.*s*", (int)cut, text));
	case 2:
		return keep(o, mem_format("*%s", text + cut));
	default:
		return keep(o, mem_string(text));
	}
}

static const char *value(struct random_source *r, struct object *o, char what)
{
	const char *ns = random_namespace(r), *sa = random_account(r), *td = random_of(r, domains, 2);
	const char *full;

	switch (what) {
	case 'p':
		full = keep(o, mem_format("%s/ns/%s/sa/%s", td, ns, sa));
		return pattern(r, o, full);
	case 'n':
		return pattern(r, o, ns);
	case 't':
		return pattern(r, o, td);
	case 'h':
		return pattern(r, o, random_host(r));
	case 'm':
		return pattern(r, o, random_method(r));
	case '/':
		return pattern(r, o, random_path(r));
	case 'v':
		return pattern(r, o, random_value(r));
	default:
		return random_chance(r, 50) ? sa : keep(o, mem_format("%s/%s", ns, sa));
	}
}

static void texts(struct random_source *r, struct object *o, struct match_strings *m, char what, unsigned percent)
{
	if (!random_chance(r, percent))
		return;
	m->given = true;
	m->values.count = random_chance(r, 3) ? 0 : 1 + random_draw(r, 3);
	m->values.item = arena_alloc(&o->arena, 4 * sizeof(char *));
	for (unsigned i = 0; i < m->values.count; i++)
		m->values.item[i] = value(r, o, what);
}

static void cidrs(struct random_source *r, struct object *o, struct match_blocks *m, unsigned percent)
{
	if (!random_chance(r, percent))
		return;
	m->given = true;
	m->values.count = random_chance(r, 3) ? 0 : 1 + random_draw(r, 4);
	m->values.item = arena_alloc(&o->arena, 5 * sizeof(struct block));
	for (unsigned i = 0; i < m->values.count; i++) {
		struct block *b = &m->values.item[i];

		if (addr_parse_block(random_of(r, blocks, array_size(blocks)), &b->addr, &b->bits))
			abort();
	}
}

static void numbers(struct random_source *r, struct object *o, struct match_ports *m, unsigned percent)
{
	if (!random_chance(r, percent))
		return;
	m->given = true;
	m->values.count = random_chance(r, 3) ? 0 : 1 + random_draw(r, 3);
	m->values.item = arena_alloc(&o->arena, 4 * sizeof(uint16_t));
	for (unsigned i = 0; i < m->values.count; i++)
		m->values.item[i] = random_port(r);
}

/* ------------------------------------------------------------------ objects */

static void source(struct random_source *r, struct object *o, struct policy_source *s)
{
	texts(r, o, &s->principals, 'p', 25);
	texts(r, o, &s->not_principals, 'p', 12);
	texts(r, o, &s->namespaces, 'n', 25);
	texts(r, o, &s->not_namespaces, 'n', 12);
	texts(r, o, &s->service_accounts, 's', 15);
	texts(r, o, &s->not_service_accounts, 's', 8);
	texts(r, o, &s->trust_domains, 't', 10);
	texts(r, o, &s->not_trust_domains, 't', 8);
	cidrs(r, o, &s->ip_blocks, 30);
	cidrs(r, o, &s->not_ip_blocks, 20);
	s->l7 = random_chance(r, 5);
}

static void condition(struct random_source *r, struct object *o, struct policy_condition *c)
{
	c->key = random_chance(r, 15) ? WHEN_L7 : random_draw(r, WHEN_L7);
	switch (c->key) {
	case WHEN_SOURCE_IP:
	case WHEN_DESTINATION_IP:
		cidrs(r, o, &c->blocks, 70);
		cidrs(r, o, &c->not_blocks, 40);
		break;
	case WHEN_DESTINATION_PORT:
		numbers(r, o, &c->ports, 70);
		numbers(r, o, &c->not_ports, 40);
		break;
	case WHEN_SOURCE_NAMESPACE:
	case WHEN_SOURCE_PRINCIPAL:
	case WHEN_SOURCE_SERVICE_ACCOUNT: {
		char what = c->key == WHEN_SOURCE_NAMESPACE ? 'n' : c->key == WHEN_SOURCE_PRINCIPAL ? 'p'
												    : 's';

		texts(r, o, &c->values, what, 70);
		texts(r, o, &c->not_values, what, 40);
		break;
	}
	case WHEN_L7:
		c->header = random_chance(r, 20) ? NULL : random_chance(r, 20) ? "x-b" : "x-a";
		texts(r, o, &c->values, 'v', 70);
		texts(r, o, &c->not_values, 'v', 40);
		break;
	}
}

static void operation_of_http(struct random_source *r, struct object *o, struct policy_operation *to)
{
	texts(r, o, &to->hosts, 'h', 30);
	texts(r, o, &to->not_hosts, 'h', 15);
	texts(r, o, &to->methods, 'm', 30);
	texts(r, o, &to->not_methods, 'm', 15);
	texts(r, o, &to->paths, '/', 50);
	texts(r, o, &to->not_paths, '/', 25);
	to->l7 = to->hosts.given || to->not_hosts.given || to->methods.given || to->not_methods.given ||
		 to->paths.given || to->not_paths.given;
}

static struct object *named(enum object_kind kind, const char *namespace, const char *name)
{
	struct object *o = object_new(kind);

	o->namespace = arena_string(&o->arena, namespace, strlen(namespace));
	o->name = arena_string(&o->arena, name, strlen(name));
	return o;
}

struct object *random_policy(struct random_source *r, const char *namespace, const char *name)
{
	struct object *o = named(KIND_AUTHORIZATION_POLICY, namespace, name);
	struct object_authorization *p = &o->authorization;

	p->action = random_chance(r, 40) ? POLICY_DENY : POLICY_ALLOW;
	selector(r, o, &p->selector);
	p->stand_in = random_chance(r, 2);
	p->rules = random_draw(r, 4);
	p->rule = arena_alloc(&o->arena, 4 * sizeof(*p->rule));
	for (unsigned i = 0; i < p->rules; i++) {
		struct policy_rule *rule = &p->rule[i];

		rule->froms = random_draw(r, 4);
		rule->tos = random_draw(r, 3);
		rule->whens = random_chance(r, 35) ? 1 + random_draw(r, 2) : 0;
		rule->from = arena_alloc(&o->arena, 4 * sizeof(*rule->from));
		rule->to = arena_alloc(&o->arena, 4 * sizeof(*rule->to));
		rule->when = arena_alloc(&o->arena, 4 * sizeof(*rule->when));
		for (unsigned f = 0; f < rule->froms; f++)
			source(r, o, &rule->from[f]);
		for (unsigned t = 0; t < rule->tos; t++) {
			numbers(r, o, &rule->to[t].ports, 60);
			numbers(r, o, &rule->to[t].not_ports, 25);
			if (random_chance(r, 30))
				operation_of_http(r, o, &rule->to[t]);
		}
		for (unsigned w = 0; w < rule->whens; w++)
			condition(r, o, &rule->when[w]);
	}
	return o;
}

struct object *random_peer(struct random_source *r, const char *namespace, const char *name)
{
	struct object *o = named(KIND_PEER_AUTHENTICATION, namespace, name);
	struct object_peer_authentication *p = &o->peer;

	o->created = random_draw(r, 3);
	selector(r, o, &p->selector);
	p->mtls_given = random_chance(r, 70);
	p->mtls = random_draw(r, 3);
	p->port = arena_alloc(&o->arena, 4 * sizeof(*p->port));
	for (p->ports = 0; p->selector.count && p->ports < random_draw(r, 4); p->ports++)
		p->port[p->ports] =
			(struct port_mtls){.port = ports[p->ports + random_draw(r, 1)], .mtls = random_draw(r, 3)};
	return o;
}
