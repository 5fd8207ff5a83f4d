/* SPDX-License-Identifier: Apache-2.0 */
/* pick.c: see pick.h. */
#include "pick.h"

#define DRAWS 8 /* of each candidate, before all are looked at */

struct draw {
	const struct view_service *service;
	const struct pick_question *q;
	unsigned first, count; /* endpoints of the family */
	uint64_t before, weights; /* of who stands before them; their sum, 0: drawn evenly */
	uint64_t random;
};

void pick_raise(struct view_load *load)
{
	__atomic_fetch_add(&load->active, 1, __ATOMIC_RELAXED);
}

void pick_lower(struct view_load *load)
{
	__atomic_fetch_sub(&load->active, 1, __ATOMIC_RELEASE);
}

/* ------------------------------------------------------------------ who failed */

static unsigned slot_of(const struct abi_addr *addr, uint16_t port)
{
	return (unsigned)((table_hash(addr, sizeof(*addr)) + port) % PICK_SLOTS);
}

void pick_failed(struct pick_memory *m, const struct abi_addr *addr, uint16_t port, uint64_t now_ns)
{
	m->slot[slot_of(addr, port)] =
		(struct pick_slot){.addr = *addr, .port = port, .until_ns = now_ns + PICK_AGO_NS};
}

static bool failed_lately(const struct pick_question *q, const struct view_endpoint *e)
{
	const struct pick_slot *s = &q->memory->slot[slot_of(&e->addr, e->port)];

	return s->until_ns > q->now_ns && s->port == e->port && addr_equal(&s->addr, &e->addr);
}

static bool was_tried(const struct pick_question *q, const struct view_endpoint *e)
{
	for (unsigned i = 0; i < q->tries; i++)
		if (q->tried[i] == e->load)
			return true;
	return false;
}

const struct view_endpoint *pick_find(const struct view_service *s, const struct abi_addr *addr, uint16_t port)
{
	for (unsigned i = 0; i < s->endpoints; i++)
		if (s->endpoint[i].port == port && addr_equal(&s->endpoint[i].addr, addr))
			return &s->endpoint[i];
	return NULL;
}

bool pick_avoids(const struct pick_question *q, const struct view_endpoint *e)
{
	return was_tried(q, e) || failed_lately(q, e);
}

/* ------------------------------------------------------------------ drawing */

/* splitmix64 (Steele, Lea, Flood 2014): many draws from one random number */
static uint64_t next(struct draw *d)
{
	uint64_t z = d->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Evenly below n: the high half of a product (Lemire 2019); its bias is n / 2^64. */
static uint64_t below(struct draw *d, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)next(d) * n) >> 64);
}

static const struct view_endpoint *draw_one(struct draw *d)
{
	const struct view_endpoint *e = d->service->endpoint + d->first;
	unsigned low = 0, high = d->count - 1;
	uint64_t at;

	if (!d->weights)
		return e + below(d, d->count);
	at = d->before + below(d, d->weights);
	while (low < high) { /* the first whose sum is above it: one without weight never is */
		unsigned mid = low + (high - low) / 2;

		if (e[mid].upto > at)
			high = mid;
		else
			low = mid + 1;
	}
	return e + low;
}

static const struct view_endpoint *draw_good(struct draw *d, const struct view_endpoint *other)
{
	for (unsigned i = 0; i < DRAWS; i++) {
		const struct view_endpoint *e = draw_one(d);

		if (e != other && !pick_avoids(d->q, e))
			return e;
	}
	return NULL;
}

/* Luck has not helped: all of them in turn, from anywhere; who failed lately only where nobody else is left. */
static const struct view_endpoint *look_at_all(struct draw *d)
{
	const struct view_endpoint *last = NULL;
	unsigned start = (unsigned)below(d, d->count);

	for (unsigned i = 0; i < d->count; i++) {
		const struct view_endpoint *e = d->service->endpoint + d->first + (start + i) % d->count;

		if ((d->weights && !e->weight) || was_tried(d->q, e))
			continue;
		if (!failed_lately(d->q, e))
			return e;
		last = last ? last : e;
	}
	return last;
}

static uint64_t busy(const struct view_endpoint *e)
{
	return __atomic_load_n(&e->load->active, __ATOMIC_RELAXED);
}

/* IPv4 ones come first. */
static unsigned family_border(const struct view_service *s)
{
	unsigned low = 0, high = s->endpoints;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (addr_is_v4(&s->endpoint[mid].addr))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void weigh(struct draw *d)
{
	const struct view_endpoint *e = d->service->endpoint + d->first;

	if (d->service->even)
		return;
	d->before = e->upto - e->weight;
	d->weights = e[d->count - 1].upto - d->before;
}

const struct view_endpoint *pick(const struct view_service *s, const struct pick_question *q)
{
	struct draw d = {.service = s, .q = q, .random = q->random};
	const struct view_endpoint *a = q->near ? pick_find(s, q->near, q->near_port) : NULL, *b;
	unsigned border = family_border(s);

	if (a && !pick_avoids(q, a))
		return a;
	d.first = q->ipv4 ? 0 : border;
	d.count = q->ipv4 ? border : s->endpoints - border;
	if (!d.count)
		return NULL;
	weigh(&d);
	a = draw_good(&d, NULL);
	if (!a)
		return look_at_all(&d);
	/* By weight the same one may be drawn twice: else the lighter one of two would always be looked at. */
	b = d.count > 1 ? draw_good(&d, d.weights ? NULL : a) : NULL;
	if (!b)
		return a;
	/* Fewer under way for its weight, compared without a division; none at all: as they were drawn. */
	return busy(a) * b->weight <= busy(b) * a->weight ? a : b;
}
