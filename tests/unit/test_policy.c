// SPDX-License-Identifier: Apache-2.0
/*
 * Policies one by one: patterns, merging, what is too much, PeerAuthentication's scopes, blocks and families.
 * tests/bpf/test_policy_oracle.c asks the rest at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy.h"

static void patterns(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool fits;
	} cases[] = {
		{"*", "anything", true},
		{"*", "", true},
		{"a", "a", true},
		{"a", "ab", false},
		{"", "", true},
		{"", "a", false},
		{"ab*", "abc", true},
		{"ab*", "ab", true},
		{"ab*", "a", false},
		{"*bc", "abc", true},
		{"*bc", "bc", true},
		{"*bc", "bcd", false},
		{"a*c", "abc", false},
		{"a*c", "a*c", true},
		{"*b*", "abc", false},
		{"*b*", "ab*", true},
		{"td/ns/*", "td/ns/", true},
		{"**", "x*", true},
		{"*/sa/x", "t/sa/x", true},
		{"*/sa/x", "sa/x", false},
	};

	for (size_t i = 0; i < array_size(cases); i++)
		if (terms_fit(cases[i].pattern, cases[i].text) != cases[i].fits)
			fail_msg("\"%s\" and \"%s\"", cases[i].pattern, cases[i].text);
}

/* ------------------------------------------------------------------ many terms */

static struct object *policy(const char *name, bool deny, unsigned rules)
{
	struct object *o = object_new(KIND_AUTHORIZATION_POLICY);

	o->namespace = "shop";
	o->name = name;
	o->authorization.action = deny ? POLICY_DENY : POLICY_ALLOW;
	o->authorization.rules = rules;
	o->authorization.rule = arena_alloc(&o->arena, (rules + 1) * sizeof(*o->authorization.rule));
	return o;
}

static struct policy_source *add_from(struct object *o, unsigned rule)
{
	struct policy_rule *r = &o->authorization.rule[rule];

	r->from = arena_alloc(&o->arena, sizeof(*r->from));
	r->froms = 1;
	return r->from;
}

static void add_port(struct object *o, unsigned rule, unsigned port)
{
	struct policy_rule *r = &o->authorization.rule[rule];

	r->to = arena_alloc(&o->arena, sizeof(*r->to));
	r->tos = 1;
	r->to->ports.given = true;
	r->to->ports.values.item = arena_alloc(&o->arena, sizeof(uint16_t));
	r->to->ports.values.item[0] = port;
	r->to->ports.values.count = 1;
}

static void set_principal(struct object *o, struct policy_source *s, const char *text)
{
	s->principals.given = true;
	s->principals.values.item = arena_alloc(&o->arena, sizeof(char *));
	s->principals.values.item[0] = arena_string(&o->arena, text, strlen(text));
	s->principals.values.count = 1;
}

static void set_block(struct object *o, struct policy_source *s, const char *text)
{
	s->ip_blocks.given = true;
	s->ip_blocks.values.item = arena_alloc(&o->arena, sizeof(struct block));
	s->ip_blocks.values.count = 1;
	assert_int_equal(addr_parse_block(text, &s->ip_blocks.values.item->addr, &s->ip_blocks.values.item->bits), 0);
}

static struct policy_set *build(struct object *const *o, unsigned count, struct identities *ids)
{
	struct abi_addr pod;
	struct policy_input in = {
		.policy = (const struct object *const *)o, .policies = count, .addr = &pod, .addrs = 1};
	struct policy_set *s;

	assert_int_equal(addr_parse("10.1.0.1", &pod), 0);
	s = policy_new(&in);
	policy_build(s, "cluster.local", ids);
	return s;
}

static enum abi_reason ask(const struct policy_set *s, const struct identity *who, const char *from, uint16_t port,
			   struct abi_bits *hit)
{
	struct abi_addr a;

	assert_int_equal(addr_parse(from, &a), 0);
	return policy_decide(s, who, &a, port, hit);
}

/* 2 000 rules of one kind become few terms; what they say stays. */
static void many_rules_are_merged(void **state)
{
	struct object *o = policy("many", false, 2000);
	struct identities ids = {0};
	struct identity *in = identity_get(&ids, "cluster.local", "shop", "sa777");
	struct identity *out = identity_get(&ids, "cluster.local", "shop", "sa2001");
	struct policy_set *s;

	for (unsigned i = 0; i < 2000; i++) {
		char text[64];

		snprintf(text, sizeof(text), "cluster.local/ns/shop/sa/sa%u", i);
		set_principal(o, add_from(o, i), text);
		add_port(o, i, i % 2 ? 80 : 81);
	}
	s = build(&o, 1, &ids);
	assert_false(s->head.closed);
	assert_int_equal(s->terms.count, 2);
	assert_int_equal(ask(s, in, "10.0.0.1", 80, NULL), ABI_NONE);
	assert_int_equal(ask(s, in, "10.0.0.1", 81, NULL), ABI_NOT_ALLOWED);
	assert_int_equal(ask(s, out, "10.0.0.1", 80, NULL), ABI_NOT_ALLOWED);
	assert_int_equal(s->sources, 1); /* a stranger and nobody are alike: only sa777 is listed */
	policy_free(s);
	identities_free(&ids);
	object_free(o);
}

/* Rules that differ in who, from where and to which port cannot merge: over 256 the set closes. */
static void too_many_rules_close(void **state)
{
	struct object *o = policy("many", false, ABI_TERMS + 1);
	struct identities ids = {0};
	struct identity *who = identity_get(&ids, "cluster.local", "shop", "sa3");
	struct policy_set *s;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i <= ABI_TERMS; i++) {
			struct policy_source *from = add_from(o, i);
			char text[64];

			snprintf(text, sizeof(text), "cluster.local/ns/shop/sa/sa%u", i);
			set_principal(o, from, text);
			snprintf(text, sizeof(text), "10.%u.%u.0/24", i / 256, i % 256);
			set_block(o, from, text);
			add_port(o, i, 1000 + i);
		}
		o->authorization.rules = ABI_TERMS + pass;
		s = build(&o, 1, &ids);
		assert_int_equal(s->head.closed, pass);
		assert_int_equal(ask(s, who, "10.0.3.1", 1003, NULL), pass ? ABI_NEEDS_WORKER : ABI_NONE);
		assert_int_equal(ask(s, who, "10.0.3.1", 1004, NULL), pass ? ABI_NEEDS_WORKER : ABI_NOT_ALLOWED);
		policy_free(s);
	}
	identities_free(&ids);
	object_free(o);
}

/* A rule whose lists multiply is still few terms. */
static void lists_do_not_multiply(void **state)
{
	struct object *o = policy("wide", true, 1);
	struct policy_rule *r = &o->authorization.rule[0];
	struct identities ids = {0};
	struct policy_set *s;

	r->from = arena_alloc(&o->arena, 1000 * sizeof(*r->from));
	r->to = arena_alloc(&o->arena, 1000 * sizeof(*r->to));
	r->froms = r->tos = 1000;
	for (unsigned i = 0; i < 1000; i++) {
		char text[64];

		snprintf(text, sizeof(text), "10.%u.%u.0/24", i / 256, i % 256);
		set_block(o, &r->from[i], text);
		r->to[i].ports.given = true;
		r->to[i].ports.values = (struct ports){arena_alloc(&o->arena, sizeof(uint16_t)), 1};
		r->to[i].ports.values.item[0] = 1000 + i;
	}
	s = build(&o, 1, &ids);
	assert_int_equal(s->terms.count, 1);
	assert_int_equal(s->blocks, 1000);
	assert_int_equal(ask(s, NULL, "10.3.100.7", 1999, NULL), ABI_DENIED);
	assert_int_equal(ask(s, NULL, "10.4.0.7", 1999, NULL), ABI_NONE);
	assert_int_equal(ask(s, NULL, "10.3.100.7", 2000, NULL), ABI_NONE);
	policy_free(s);
	identities_free(&ids);
	object_free(o);
}

/* ------------------------------------------------------------------ what the bits mean */

static void origins(void **state)
{
	struct object *o[2] = {policy("first", false, 2), policy("second", true, 1)};
	struct identities ids = {0};
	struct policy_set *s;
	struct abi_bits hit;

	set_block(o[0], add_from(o[0], 0), "10.1.0.0/16");
	set_block(o[0], add_from(o[0], 1), "10.2.0.0/16");
	set_block(o[1], add_from(o[1], 0), "10.2.3.0/24");
	s = build(o, 2, &ids);
	assert_int_equal(ask(s, NULL, "10.2.9.9", 80, &hit), ABI_NONE);
	assert_int_equal(hit.word[0], 1 << 1);
	assert_string_equal(policy_origin(s, 1)->name, "first");
	assert_int_equal(policy_origin(s, 1)->rule, 1);
	assert_int_equal(ask(s, NULL, "10.2.3.9", 80, &hit), ABI_DENIED);
	assert_int_equal(hit.word[0], 1 << 1 | 1 << 2);
	assert_string_equal(policy_origin(s, 2)->name, "second");
	assert_int_equal(policy_origin(s, 2)->rule, 0);
	assert_null(policy_origin(s, 3));
	policy_free(s);
	identities_free(&ids);
	object_free(o[0]);
	object_free(o[1]);
}

static void blocks_by_family(void **state)
{
	struct object *o = policy("six", true, 1);
	struct identities ids = {0};
	struct policy_set *s;

	set_block(o, add_from(o, 0), "::/0");
	s = build(&o, 1, &ids);
	assert_int_equal(ask(s, NULL, "fd00::1", 80, NULL), ABI_DENIED);
	assert_int_equal(ask(s, NULL, "::", 80, NULL), ABI_DENIED);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 80, NULL), ABI_NONE);
	policy_free(s);
	set_block(o, add_from(o, 0), "0.0.0.0/0");
	s = build(&o, 1, &ids);
	assert_int_equal(ask(s, NULL, "fd00::1", 80, NULL), ABI_NONE);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 80, NULL), ABI_DENIED);
	policy_free(s);
	identities_free(&ids);
	object_free(o);
}

static void stand_ins_close(void **state)
{
	struct object *deny = policy("d", true, 0), *allow = policy("a", false, 0);
	struct identities ids = {0};
	struct policy_set *s;

	s = build(&deny, 1, &ids);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 80, NULL), ABI_NONE); /* DENY without rules does nothing */
	policy_free(s);
	s = build(&allow, 1, &ids);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 80, NULL), ABI_NOT_ALLOWED); /* ALLOW without rules closes */
	policy_free(s);
	deny->authorization.stand_in = true;
	s = build(&deny, 1, &ids);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 80, NULL), ABI_DENIED);
	policy_free(s);
	identities_free(&ids);
	object_free(deny);
	object_free(allow);
}

/* ------------------------------------------------------------------ PeerAuthentication */

static void mtls_scopes(void **state)
{
	static struct pair web = {"app", "web"};
	struct port_mtls port = {8080, ABI_MTLS_DISABLE};
	struct object mesh = {.kind = KIND_PEER_AUTHENTICATION, .namespace = "istio-system", .name = "mesh"};
	struct object space = {.kind = KIND_PEER_AUTHENTICATION, .namespace = "shop", .name = "b"};
	struct object space2 = {.kind = KIND_PEER_AUTHENTICATION, .namespace = "shop", .name = "a"};
	struct object work = {.kind = KIND_PEER_AUTHENTICATION, .namespace = "shop", .name = "w"};
	struct object elsewhere = {.kind = KIND_PEER_AUTHENTICATION, .namespace = "lab", .name = "x"};
	const struct object *all[] = {&mesh, &space, &space2, &work, &elsewhere};
	struct pairs labels = {&web, 1}, none = {0};
	struct policy_mtls m;

	mesh.peer = (struct object_peer_authentication){.mtls_given = true, .mtls = ABI_MTLS_STRICT};
	space.peer = (struct object_peer_authentication){.mtls_given = true, .mtls = ABI_MTLS_PERMISSIVE};
	space2.peer = (struct object_peer_authentication){.mtls_given = true, .mtls = ABI_MTLS_DISABLE};
	work.peer = (struct object_peer_authentication){
		.selector = {&web, 1}, .mtls_given = true, .mtls = ABI_MTLS_STRICT, .port = &port, .ports = 1};
	elsewhere.peer = (struct object_peer_authentication){.mtls_given = true, .mtls = ABI_MTLS_STRICT};

	policy_mtls(all, 0, "istio-system", "shop", &labels, &m);
	assert_int_equal(m.mtls, ABI_MTLS_PERMISSIVE);
	assert_null(m.from);
	policy_mtls(all, 1, "istio-system", "shop", &labels, &m);
	assert_ptr_equal(m.from, &mesh);
	policy_mtls(all, 3, "istio-system", "shop", &labels, &m);
	assert_ptr_equal(m.from, &space2); /* of one age: the first by name */
	space2.created = 5;
	space.created = 4;
	policy_mtls(all, 3, "istio-system", "shop", &labels, &m);
	assert_ptr_equal(m.from, &space); /* older */
	space.peer.mtls_given = false;	  /* UNSET inherits; space2 does not step in */
	policy_mtls(all, 3, "istio-system", "shop", &labels, &m);
	assert_ptr_equal(m.from, &mesh);
	policy_mtls(all, 5, "istio-system", "shop", &labels, &m);
	assert_ptr_equal(m.from, &work);
	assert_int_equal(m.ports, 1);
	work.peer.mtls_given = false;
	policy_mtls(all, 5, "istio-system", "shop", &labels, &m);
	assert_ptr_equal(m.from, &mesh);
	assert_ptr_equal(m.port_from, &work);
	policy_mtls(all, 5, "istio-system", "shop", &none, &m);
	assert_int_equal(m.ports, 0);
}

static void mtls_by_port(void **state)
{
	struct port_mtls port[] = {{8080, ABI_MTLS_DISABLE}, {9090, ABI_MTLS_STRICT}};
	struct object work = {.kind = KIND_PEER_AUTHENTICATION, .namespace = "shop", .name = "w"};
	struct policy_input in = {
		.mtls = {.mtls = ABI_MTLS_STRICT, .from = &work, .port = port, .ports = 2, .port_from = &work}};
	struct identities ids = {0};
	struct identity *who = identity_get(&ids, "cluster.local", "shop", "web");
	struct policy_set *s = policy_new(&in);

	policy_build(s, "cluster.local", &ids);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 80, NULL), ABI_MTLS_REQUIRED);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 8080, NULL), ABI_NONE);
	assert_int_equal(ask(s, NULL, "10.0.0.1", 9090, NULL), ABI_MTLS_REQUIRED);
	assert_int_equal(ask(s, who, "10.0.0.1", 80, NULL), ABI_NONE);
	assert_int_equal(policy_mtls_of(s, 8080), ABI_MTLS_DISABLE);
	assert_int_equal(policy_mtls_of(s, 80), ABI_MTLS_STRICT);
	assert_string_equal(s->mtls_from, "shop/w");
	policy_free(s);
	identities_free(&ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns),
		cmocka_unit_test(many_rules_are_merged),
		cmocka_unit_test(too_many_rules_close),
		cmocka_unit_test(lists_do_not_multiply),
		cmocka_unit_test(origins),
		cmocka_unit_test(blocks_by_family),
		cmocka_unit_test(stand_ins_close),
		cmocka_unit_test(mtls_scopes),
		cmocka_unit_test(mtls_by_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
