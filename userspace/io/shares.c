/* SPDX-License-Identifier: Apache-2.0 */
/* shares.c: see shares.h. */
#include <string.h>

#include "shares.h"
#include "stream.h"

#define TIGHT_NS 1000000000ull /* since one of the last eighth was given out: they are still used */
#define LOOK_NS 10000000ull

/* Of all threads: when that was, and how many connections there were. */
static uint64_t tight_ns;
static int64_t tight_all;

static uint32_t place_of(const void *key, size_t len)
{
	uint32_t place = (uint32_t)table_hash(key, len);

	return place ? place : 1;
}

uint32_t shares_pod(uint64_t netns)
{
	return place_of(&netns, sizeof(netns));
}

uint32_t shares_stranger(const struct abi_addr *from)
{
	return place_of(from, addr_is_v4(from) ? sizeof(*from) : 8);
}

static unsigned column(uint32_t place, unsigned row)
{
	return place >> row * 16 & (SHARES_COLUMNS - 1);
}

static void add(struct thread *t, uint32_t place, int n)
{
	for (unsigned i = 0; place && i < SHARES_ROWS; i++) {
		int32_t *held = &t->shares.held[i][column(place, i)];

		__atomic_store_n(held, *held + n, __ATOMIC_RELAXED); /* one writer */
	}
}

void shares_hold(struct thread *t, uint32_t place)
{
	add(t, place, 1);
}

void shares_let_go(struct thread *t, uint32_t place)
{
	add(t, place, -1);
}

static int64_t held(const struct thread *t, unsigned row, unsigned column)
{
	unsigned count = threads_count();
	int64_t all = 0;

	if (!count) /* nobody but the control thread: tests */
		return t->shares.held[row][column];
	for (unsigned i = 0; i < count; i++)
		all += __atomic_load_n(&thread_at(i)->shares.held[row][column], __ATOMIC_RELAXED);
	return all;
}

/* No older than that; 0: of this turn. */
static const struct shares *look(struct thread *t, uint64_t now, uint64_t age)
{
	struct shares *s = &t->shares;

	if (s->looked_ns && now - s->looked_ns <= age)
		return s;
	s->looked_ns = now;
	s->most = s->all = 0;
	for (unsigned i = 0; i < SHARES_COLUMNS; i++) {
		int64_t n = held(t, 0, i);

		s->most = n > s->most ? n : s->most;
		s->all += n;
	}
	return s;
}

/* The lowest that is free is given out: one of the last eighth says that the others are used. */
static bool tight(struct thread *t, int fd, uint64_t now)
{
	unsigned files = sock_files();
	int64_t then;

	if (fd >= 0 && (unsigned)fd >= files - files / 8) {
		__atomic_store_n(&tight_all, look(t, now, 0)->all, __ATOMIC_RELAXED);
		__atomic_store_n(&tight_ns, now, __ATOMIC_RELAXED);
		return true;
	}
	if ((int64_t)(now - __atomic_load_n(&tight_ns, __ATOMIC_RELAXED)) >= (int64_t)TIGHT_NS)
		return false;
	then = __atomic_load_n(&tight_all, __ATOMIC_RELAXED);
	return look(t, now, LOOK_NS)->all > then - then / 8; /* else many have gone since */
}

void shares_seen(struct thread *t, int fd)
{
	(void)tight(t, fd, loop_now(t->loop));
}

bool shares_scarce(struct thread *t)
{
	return tight(t, -1, loop_now(t->loop));
}

bool shares_over(struct thread *t, int fd, uint32_t place)
{
	uint64_t now = loop_now(t->loop);
	int64_t has = INT64_MAX;

	if (!tight(t, fd, now))
		return false;
	for (unsigned i = 0; i < SHARES_ROWS; i++) {
		int64_t n = held(t, i, column(place, i));

		has = n < has ? n : has;
	}
	return has >= sock_files() / SHARES_PART && 2 * has > look(t, now, 0)->most;
}
