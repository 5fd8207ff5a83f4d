/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c: terms as the rows of abi.h: for each dimension the bits of the terms that hold, by key, and for
 * all keys that are not listed.
 *
 * any_source are the bits of a stranger: an identity of the mesh's trust domain in a namespace that no policy
 * names. So `sources` lists only identities that some pattern tells from a stranger, and usually 0.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "decide.h"
#include "policy.h"

static void bit_set(struct abi_bits *b, unsigned i)
{
	b->word[i / 64] |= 1ull << (i % 64);
}

static bool bits_equal(const struct abi_bits *a, const struct abi_bits *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* ------------------------------------------------------------------ who is selected */

static bool selector_fits(const struct pairs *selector, const struct pairs *labels)
{
	for (unsigned i = 0; i < selector->count; i++)
		if (!text_equal(pairs_get(labels, selector->item[i].key), selector->item[i].value))
			return false;
	return true;
}

bool policy_selects(const struct object *policy, const char *root_namespace, const char *namespace,
		    const struct pairs *labels)
{
	return (text_equal(policy->namespace, namespace) || text_equal(policy->namespace, root_namespace)) &&
	       selector_fits(&policy->authorization.selector, labels);
}

/* Of two PeerAuthentications of one scope the older counts, then the first by name. */
static const struct object *older(const struct object *a, const struct object *b)
{
	return a && object_by_age(a, b) <= 0 ? a : b;
}

void policy_mtls(const struct object *const *object, unsigned count, const char *root_namespace,
		 const char *namespace, const struct pairs *labels, struct policy_mtls *ret)
{
	enum { MESH,
	       NAMESPACE,
	       WORKLOAD,
	       SCOPES };
	const struct object *found[SCOPES] = {NULL};

	for (unsigned i = 0; i < count; i++) {
		const struct object *o = object[i];
		bool here = text_equal(o->namespace, namespace);
		int scope = WORKLOAD;

		if (!o->peer.selector.count)
			scope = text_equal(o->namespace, root_namespace) ? MESH : NAMESPACE;
		if (scope != MESH && !here)
			continue;
		if (scope == WORKLOAD && !selector_fits(&o->peer.selector, labels))
			continue;
		found[scope] = older(found[scope], o);
	}
	*ret = (struct policy_mtls){.mtls = ABI_MTLS_PERMISSIVE};
	for (int scope = MESH; scope < SCOPES; scope++) {
		if (found[scope] && found[scope]->peer.mtls_given) {
			ret->mtls = found[scope]->peer.mtls;
			ret->from = found[scope];
		}
	}
	if (found[WORKLOAD] && found[WORKLOAD]->peer.ports) {
		ret->port = found[WORKLOAD]->peer.port;
		ret->ports = found[WORKLOAD]->peer.ports;
		ret->port_from = found[WORKLOAD];
	}
}

/* ------------------------------------------------------------------ sources */

static void source_bits(const struct policy_set *s, const struct identity *who, struct abi_bits *ret)
{
	const struct terms_who asking = terms_who(who);

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < s->terms.count; i++)
		if (terms_source_holds(&s->terms.term[i].dim[DIM_SOURCE], &asking))
			bit_set(ret, i);
}

static struct policy_source_row *source_find(const struct policy_set *s, uint32_t identity, unsigned *ret_at)
{
	unsigned low = 0, high = s->sources;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (s->source[mid].identity < identity)
			low = mid + 1;
		else
			high = mid;
	}
	if (ret_at)
		*ret_at = low;
	return low < s->sources && s->source[low].identity == identity ? &s->source[low] : NULL;
}

static const struct policy_source_row *source_add(struct policy_set *s, uint32_t number,
						  const struct identity *who)
{
	struct policy_source_row row = {.identity = number};
	struct policy_source_row *old;
	unsigned at;

	old = source_find(s, number, &at);
	if (old)
		return old;
	source_bits(s, who, &row.bits);
	if (bits_equal(&row.bits, &s->head.any_source))
		return NULL;
	if (s->sources == s->source_size) {
		s->source_size = s->source_size ? s->source_size * 2 : 8;
		s->source = mem_grow(s->source, s->source_size, sizeof(*s->source));
	}
	memmove(&s->source[at + 1], &s->source[at], (s->sources - at) * sizeof(*s->source));
	s->source[at] = row;
	s->sources++;
	return &s->source[at];
}

const struct policy_source_row *policy_learn(struct policy_set *s, const struct identity *who)
{
	return source_add(s, who->number, who);
}

static void build_sources(struct policy_set *s, const char *trust_domain, const struct identities *ids)
{
	char *principal = mem_format("%s/ns/\1/sa/\1", trust_domain);
	struct identity stranger = {.trust_domain = trust_domain,
				    .namespace = "\1",
				    .service_account = "\1",
				    .principal = principal,
				    .account = "\1/\1"};

	source_bits(s, &stranger, &s->head.any_source);
	free(principal);
	source_add(s, 0, NULL);
	for (unsigned i = 0; i < ids->count; i++)
		source_add(s, ids->all[i]->number, ids->all[i]);
}

/* ------------------------------------------------------------------ dimensions whose keys the tests list */

/*
 * The bits of all terms in one dimension. mark() sets mark[row] where the list of a test holds; the row behind the
 * last one stands for every key that is not listed.
 */
static void build_rows(struct policy_set *s, enum dimension dim, unsigned rows,
		       void (*mark)(const struct policy_set *s, const struct test *t, uint8_t *mark),
		       struct abi_bits *(*bits)(struct policy_set *s, unsigned row))
{
	uint8_t *holds = mem_alloc(rows + 1), *marked = mem_alloc(rows + 1);

	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct predicate *p = &s->terms.term[i].dim[dim];

		for (unsigned a = 0; a < p->alts; a++) {
			memset(holds, 1, rows + 1);
			for (unsigned t = 0; t < p->alt[a].count; t++) {
				const struct test *test = p->alt[a].test[t];

				memset(marked, 0, rows + 1);
				mark(s, test, marked);
				for (unsigned r = 0; r <= rows; r++)
					holds[r] &= marked[r] != test->invert;
			}
			for (unsigned r = 0; r <= rows; r++)
				if (holds[r])
					bit_set(bits(s, r), i);
		}
	}
	free(holds);
	free(marked);
}

/* How many keys the tests of one dimension list, doubles counted. */
static unsigned count_listed(const struct policy_set *s, enum dimension dim)
{
	unsigned count = 0;

	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct predicate *p = &s->terms.term[i].dim[dim];

		for (unsigned a = 0; a < p->alts; a++)
			for (unsigned t = 0; t < p->alt[a].count; t++)
				count += p->alt[a].test[t]->count;
	}
	return count;
}

/* ------------------------------------------------------------------ blocks */

static uint64_t half(const struct abi_addr *a, unsigned at)
{
	uint64_t n;

	memcpy(&n, a->byte + at, sizeof(n));
	return be64toh(n);
}

static int compare_blocks(const void *pa, const void *pb)
{
	const struct block *a = pa, *b = pb;

	for (unsigned at = 0; at < 16; at += 8) {
		uint64_t x = half(&a->addr, at), y = half(&b->addr, at);

		if (x != y)
			return x < y ? -1 : 1;
	}
	return (a->bits > b->bits) - (a->bits < b->bits);
}

/* The last row that is not after `b`, in the order of the rows; -1 if all are. */
static int block_last(const struct policy_set *s, const struct block *b)
{
	int low = 0, high = s->blocks;

	while (low < high) {
		int mid = (low + high) / 2;

		if (compare_blocks(&s->block[mid].block, b) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low - 1;
}

/* Every block that some test names, in order, doubles too; one more place is left. */
static struct block *listed_blocks(const struct policy_set *s, unsigned *ret_count)
{
	static const struct block all_v4 = {.addr.byte = {[10] = 0xff, [11] = 0xff}, .bits = 96};
	struct block *list = mem_alloc((count_listed(s, DIM_BLOCK) + 1) * sizeof(*list));
	unsigned count = 0, named;

	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct predicate *p = &s->terms.term[i].dim[DIM_BLOCK];

		for (unsigned a = 0; a < p->alts; a++) {
			for (unsigned t = 0; t < p->alt[a].count; t++) {
				const struct test *test = p->alt[a].test[t];

				memcpy(list + count, test->block, test->count * sizeof(*list));
				count += test->count;
			}
		}
	}
	named = count;
	for (unsigned i = 0; i < named && count == named; i++)
		if (list[i].bits < 96 && addr_in_block(&all_v4.addr, &list[i].addr, list[i].bits))
			list[count++] = all_v4; /* ::/0 holds no IPv4: fence it off */
	if (count)
		qsort(list, count, sizeof(*list), compare_blocks);
	*ret_count = count;
	return list;
}

/* Each of them once, with the one around it. */
static void list_blocks(struct policy_set *s)
{
	unsigned count, kept = 0;
	struct block *list = listed_blocks(s, &count);

	s->block = mem_alloc(count * sizeof(*s->block) + 1);
	for (unsigned i = 0; i < count; i++) {
		int parent = (int)kept - 1;

		if (kept && !compare_blocks(&list[i], &s->block[kept - 1].block))
			continue;
		while (parent >= 0 && !addr_in_block(&list[i].addr, &s->block[parent].block.addr,
						     s->block[parent].block.bits))
			parent = s->block[parent].parent;
		s->block[kept++] = (struct policy_block_row){.block = list[i], .parent = parent};
	}
	s->blocks = kept;
	free(list);
}

/* The rows whose addresses are in one of the blocks of the test. */
static void mark_blocks(const struct policy_set *s, const struct test *t, uint8_t *mark)
{
	for (unsigned b = 0; b < t->count; b++) {
		const struct block *block = &t->block[b];

		for (unsigned i = block_last(s, block); i < s->blocks; i++) {
			const struct block *in = &s->block[i].block;

			if (!addr_in_block(&in->addr, &block->addr, block->bits))
				break;
			if (terms_in_block(&in->addr, block))
				mark[i] = 1;
		}
	}
}

static struct abi_bits *block_bits(struct policy_set *s, unsigned row)
{
	return row < s->blocks ? &s->block[row].bits : &s->head.any_block;
}

static void build_blocks(struct policy_set *s)
{
	list_blocks(s);
	build_rows(s, DIM_BLOCK, s->blocks, mark_blocks, block_bits);
}

/* ------------------------------------------------------------------ ports */

static int compare_ports(const void *pa, const void *pb)
{
	const struct policy_port_row *a = pa, *b = pb;

	return (a->port > b->port) - (a->port < b->port);
}

static struct policy_port_row *port_row(const struct policy_set *s, uint16_t port)
{
	struct policy_port_row key = {.port = port};

	return s->ports ? bsearch(&key, s->port, s->ports, sizeof(*s->port), compare_ports) : NULL;
}

/* Every port that some test or PeerAuthentication names, once, in order. */
static void list_ports(struct policy_set *s)
{
	unsigned count = 0, kept = 0;

	s->port = mem_alloc((s->mtls_ports + count_listed(s, DIM_PORT)) * sizeof(*s->port) + 1);
	for (; count < s->mtls_ports; count++)
		s->port[count].port = s->mtls_port[count].port;
	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct predicate *p = &s->terms.term[i].dim[DIM_PORT];

		for (unsigned a = 0; a < p->alts; a++)
			for (unsigned t = 0; t < p->alt[a].count; t++)
				for (unsigned v = 0; v < p->alt[a].test[t]->count; v++)
					s->port[count++].port = p->alt[a].test[t]->port[v];
	}
	if (count)
		qsort(s->port, count, sizeof(*s->port), compare_ports);
	for (unsigned i = 0; i < count; i++)
		if (!kept || s->port[i].port != s->port[kept - 1].port)
			s->port[kept++] = s->port[i];
	s->ports = kept;
}

static void mark_ports(const struct policy_set *s, const struct test *t, uint8_t *mark)
{
	for (unsigned i = 0; i < t->count; i++)
		mark[port_row(s, t->port[i]) - s->port] = 1;
}

static struct abi_bits *port_bits(struct policy_set *s, unsigned row)
{
	return row < s->ports ? &s->port[row].value.bits : &s->head.any_port;
}

static void build_ports(struct policy_set *s)
{
	list_ports(s);
	for (unsigned i = 0; i < s->ports; i++)
		s->port[i].value.mtls = s->head.mtls;
	for (unsigned i = 0; i < s->mtls_ports; i++)
		port_row(s, s->mtls_port[i].port)->value.mtls = s->mtls_port[i].mtls;
	build_rows(s, DIM_PORT, s->ports, mark_ports, port_bits);
}

/* ------------------------------------------------------------------ sets */

static void sign_predicate(struct text *t, const struct predicate *p)
{
	for (unsigned a = 0; a < p->alts; a++) {
		text_add(t, "|");
		for (unsigned i = 0; i < p->alt[a].count; i++) {
			const struct test *test = p->alt[a].test[i];

			text_add(t, "&%d%d=%u ", test->what, test->invert, test->count);
			for (unsigned v = 0; v < test->count; v++) {
				if (test->what == TEST_BLOCK)
					text_add_bytes(t, &test->block[v], sizeof(test->block[v]));
				else if (test->what == TEST_PORT)
					text_add_bytes(t, &test->port[v], sizeof(test->port[v]));
				else
					text_add_bytes(t, test->text[v], strlen(test->text[v]) + 1);
			}
		}
	}
}

/* Everything that the set says and shows, in a form that differs where two sets differ. */
static void sign(struct policy_set *s)
{
	struct text *t = &s->signature;

	text_add(t, "%u%u%u m%s p%s", s->head.mtls, s->head.has_allow, s->head.closed,
		 s->mtls_from ? s->mtls_from : "", s->mtls_port_from ? s->mtls_port_from : "");
	for (unsigned i = 0; i < s->mtls_ports; i++)
		text_add(t, ";%u=%u", s->mtls_port[i].port, s->mtls_port[i].mtls);
	for (unsigned i = 0; i < s->policies; i++)
		text_add(t, ";%s/%s %d%d", s->policy[i].namespace, s->policy[i].name, s->policy[i].deny,
			 s->policy[i].stand_in);
	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct term *term = &s->terms.term[i];

		text_add(t, "\n%d%d", term->deny, term->l7);
		for (unsigned o = 0; o < term->origins; o++)
			text_add(t, " %s/%s:%u", term->origin[o].namespace, term->origin[o].name,
				 term->origin[o].rule);
		for (enum dimension d = 0; d < DIM_COUNT; d++) {
			text_add(t, "\t");
			sign_predicate(t, &term->dim[d]);
		}
	}
}

/* The rules of HTTP, whole: by policy and rule, as the origins of the terms have them. */
static void keep_http(struct policy_set *s, const struct policy_input *in)
{
	for (unsigned i = 0; i < in->policies; i++) {
		const struct object_authorization *p = &in->policy[i]->authorization;

		for (unsigned r = 0; r < p->rules && !p->stand_in; r++) {
			struct policy_http *h = policy_http_new(&s->arena, in->policy[i], r, in->addr, in->addrs);

			if (!h)
				continue;
			if (!s->http)
				s->http = arena_alloc(&s->arena, in->policies * sizeof(*s->http));
			if (!s->http[i])
				s->http[i] = arena_alloc(&s->arena, p->rules * sizeof(*s->http[i]));
			s->http[i][r] = h;
			text_add(&s->signature, "\n%u.%u", i, r);
			policy_http_sign(h, &s->signature);
		}
	}
}

static const char *object_text(struct arena *a, const struct object *o)
{
	char *text, *copy;

	if (!o)
		return NULL;
	text = mem_format("%s/%s", o->namespace, o->name);
	copy = arena_string(a, text, strlen(text));
	free(text);
	return copy;
}

struct policy_set *policy_new(const struct policy_input *in)
{
	struct policy_set *s = mem_alloc(sizeof(*s));
	struct abi_bits *verdict[2][2] = {{&s->head.allow, &s->head.allow_l7},
					  {&s->head.deny, &s->head.deny_l7}};

	s->holders = 1;
	list_init(&s->all);
	terms_compile(&s->arena, in->policy, in->policies, in->addr, in->addrs, &s->terms);
	s->head.mtls = in->mtls.mtls;
	s->head.has_allow = s->terms.has_allow;
	s->head.closed = s->terms.too_many;
	s->mtls_from = object_text(&s->arena, in->mtls.from);
	s->mtls_port_from = object_text(&s->arena, in->mtls.port_from);
	s->policy = arena_alloc(&s->arena, in->policies * sizeof(*s->policy) + 1);
	for (s->policies = 0; s->policies < in->policies; s->policies++) {
		const struct object *o = in->policy[s->policies];

		s->policy[s->policies] = (struct policy_named){
			.namespace = arena_string(&s->arena, o->namespace, strlen(o->namespace)),
			.name = arena_string(&s->arena, o->name, strlen(o->name)),
			.deny = o->authorization.action == POLICY_DENY,
			.stand_in = o->authorization.stand_in};
	}
	for (unsigned i = 0; i < s->terms.count; i++)
		bit_set(verdict[s->terms.term[i].deny][s->terms.term[i].l7], i);
	s->mtls_port = arena_alloc(&s->arena, in->mtls.ports * sizeof(*s->mtls_port) + 1);
	if (in->mtls.ports)
		memcpy(s->mtls_port, in->mtls.port, in->mtls.ports * sizeof(*s->mtls_port));
	s->mtls_ports = in->mtls.ports;
	sign(s);
	keep_http(s, in);
	return s;
}

void policy_build(struct policy_set *s, const char *trust_domain, const struct identities *ids)
{
	build_ports(s);
	build_blocks(s);
	build_sources(s, trust_domain, ids);
	s->head.rows = (uint8_t)((s->blocks ? ABI_POLICY_BLOCKS : 0) | (s->ports ? ABI_POLICY_PORTS : 0));
}

struct policy_set *policy_hold(struct policy_set *s)
{
	__atomic_add_fetch(&s->holders, 1, __ATOMIC_RELAXED);
	return s;
}

void policy_free(struct policy_set *s)
{
	if (!s || __atomic_sub_fetch(&s->holders, 1, __ATOMIC_ACQ_REL))
		return;
	free(s->source);
	free(s->block);
	free(s->port);
	text_free(&s->signature);
	arena_free(&s->arena);
	free(s);
}

/* ------------------------------------------------------------------ deciding */

static const struct abi_bits *block_find(const struct policy_set *s, const struct abi_addr *addr)
{
	struct block all = {.addr = *addr, .bits = 128};
	int i = block_last(s, &all);

	while (i >= 0 && !addr_in_block(addr, &s->block[i].block.addr, s->block[i].block.bits))
		i = s->block[i].parent;
	return i < 0 ? NULL : &s->block[i].bits;
}

static const struct abi_port *port_find(const struct policy_set *s, uint16_t port)
{
	const struct policy_port_row *row = port_row(s, port);

	return row ? &row->value : NULL;
}

enum abi_reason policy_decide(const struct policy_set *s, const struct identity *who,
			      const struct abi_addr *source, uint16_t port, struct abi_bits *ret_hit)
{
	uint32_t number = who ? who->number : 0;
	const struct policy_source_row *row = source_find(s, number, NULL);
	struct abi_bits hit = {0};
	enum abi_reason why;

	why = decide_policy(&s->head, row ? &row->bits : NULL, block_find(s, source), port_find(s, port),
			    number, &hit);
	if (ret_hit)
		*ret_hit = hit;
	return why;
}

enum abi_reason policy_judge(const struct policy_set *s, const struct identity *who, const struct abi_addr *source,
			     uint16_t port)
{
	struct abi_bits bits, hit = {0};

	source_bits(s, who, &bits);
	return decide_policy(&s->head, &bits, block_find(s, source), port_find(s, port), who ? 1 : 0, &hit);
}

bool policy_needs_http(const struct policy_set *s, uint16_t port)
{
	const struct abi_port *row = port_find(s, port);
	const struct abi_bits *bits = row ? &row->bits : &s->head.any_port;
	uint64_t any = s->head.closed;

	for (unsigned i = 0; i < ABI_BIT_WORDS; i++)
		any |= bits->word[i] & (s->head.deny_l7.word[i] | s->head.allow_l7.word[i]);
	return any;
}

/* NULL: it asks for what nobody here can know. */
static const struct policy_http *rule_http(const struct policy_set *s, const struct policy_origin *from)
{
	return s->http && s->http[from->policy] ? s->http[from->policy][from->rule] : NULL;
}

/* The rules behind one bit: the first that holds, else whether one could not be asked. */
static enum policy_answer bit_holds(const struct policy_set *s, unsigned bit, const struct policy_request *q)
{
	const struct term *t = &s->terms.term[bit];
	enum policy_answer best = POLICY_NO;

	for (unsigned i = 0; i < t->origins && best != POLICY_YES; i++) {
		const struct policy_http *h = rule_http(s, &t->origin[i]);
		enum policy_answer a = h ? policy_http_holds(h, q) : POLICY_UNKNOWN;

		if (a != POLICY_NO)
			best = a;
	}
	return best;
}

static enum policy_answer any_holds(const struct policy_set *s, const struct abi_bits *hit, const struct abi_bits *of,
				    const struct policy_request *q)
{
	enum policy_answer best = POLICY_NO;

	for (unsigned w = 0; w < ABI_BIT_WORDS; w++) {
		for (uint64_t left = hit->word[w] & of->word[w]; left && best != POLICY_YES; left &= left - 1) {
			enum policy_answer a = bit_holds(s, w * 64 + (unsigned)__builtin_ctzll(left), q);

			if (a != POLICY_NO)
				best = a;
		}
	}
	return best;
}

enum abi_reason policy_judge_request(const struct policy_set *s, const struct policy_request *q)
{
	const struct abi_policy *head = &s->head;
	struct abi_bits bits, hit = {0};
	enum policy_answer deny, allow;
	enum abi_reason why;

	source_bits(s, q->who, &bits);
	why = decide_policy(head, &bits, block_find(s, q->source), port_find(s, q->port), q->who ? 1 : 0, &hit);
	if (why != ABI_NEEDS_WORKER || head->closed)
		return why;
	deny = any_holds(s, &hit, &head->deny_l7, q);
	if (deny != POLICY_NO)
		return deny == POLICY_YES ? ABI_DENIED : ABI_NEEDS_WORKER;
	if (!head->has_allow)
		return ABI_NONE;
	for (unsigned w = 0; w < ABI_BIT_WORDS; w++)
		if (hit.word[w] & head->allow.word[w])
			return ABI_NONE;
	allow = any_holds(s, &hit, &head->allow_l7, q);
	return allow == POLICY_YES ? ABI_NONE : allow == POLICY_NO ? ABI_NOT_ALLOWED : ABI_NEEDS_WORKER;
}

/* How many of the rules behind these bits may answer that? */
static unsigned rules_may(const struct policy_set *s, const struct abi_bits *hit, const struct abi_bits *of,
			  const struct policy_request *q, enum policy_answer answer, unsigned *ret_rules)
{
	unsigned may = 0;

	*ret_rules = 0;
	for (unsigned bit = 0; bit < s->terms.count; bit++) {
		const struct term *t = &s->terms.term[bit];

		if (!(hit->word[bit / 64] & of->word[bit / 64] & (1ull << (bit % 64))))
			continue;
		*ret_rules += t->origins;
		for (unsigned i = 0; i < t->origins; i++) {
			const struct policy_http *h = rule_http(s, &t->origin[i]);

			may += h && policy_http_answers(h, q) & (1u << answer);
		}
	}
	return may;
}

enum abi_reason policy_foresee(const struct policy_set *s, const struct identity *who, const struct abi_addr *source,
			       uint16_t port, struct abi_bits *ret_hit)
{
	const struct policy_request q = {.who = who, .source = source, .port = port};
	const struct abi_policy *head = &s->head;
	struct abi_bits hit;
	uint64_t allow = 0;
	unsigned rules;
	enum abi_reason why = policy_decide(s, who, source, port, &hit);

	if (ret_hit)
		*ret_hit = hit;
	if (why != ABI_NEEDS_WORKER || head->closed)
		return why;
	if (rules_may(s, &hit, &head->deny_l7, &q, POLICY_NO, &rules) < rules)
		return why;
	for (unsigned w = 0; w < ABI_BIT_WORDS; w++)
		allow |= hit.word[w] & head->allow.word[w];
	if (head->has_allow && !allow && !rules_may(s, &hit, &head->allow_l7, &q, POLICY_YES, &rules))
		return why;
	return ABI_PROXIED;
}

const struct policy_origin *policy_origin(const struct policy_set *s, unsigned bit)
{
	return bit < s->terms.count ? &s->terms.term[bit].origin[0] : NULL;
}

enum abi_mtls policy_mtls_of(const struct policy_set *s, uint16_t port)
{
	const struct abi_port *p = port_find(s, port);

	return p ? p->mtls : s->head.mtls;
}
