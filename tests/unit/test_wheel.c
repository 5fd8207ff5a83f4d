/* SPDX-License-Identifier: Apache-2.0 */
/* The timer wheel against a list that is searched from end to end. Time is a number here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "wheel.h"

enum { TIMERS = 300 };

static struct loop_timer timer[TIMERS];
static struct wheel wheel;

static uint64_t any(void)
{
	return (uint64_t)random() << 62 ^ (uint64_t)random() << 31 ^ (uint64_t)random();
}

/* From a nanosecond to for ever, each size as likely. */
static uint64_t any_span(void)
{
	return any() >> (unsigned)(random() % 64);
}

static void add(struct loop_timer *t, uint64_t due_ns)
{
	t->due_ns = due_ns;
	t->armed = wheel_add(&wheel, t);
	assert_int_equal(t->armed, wheel_due(t) > wheel.now);
}

static bool first_due(uint64_t *ret_tick)
{
	bool some = false;
	unsigned i;

	for (i = 0; i < TIMERS; i++)
		if (timer[i].armed && (!some || wheel_due(&timer[i]) < *ret_tick)) {
			*ret_tick = wheel_due(&timer[i]);
			some = true;
		}
	return some;
}

static void advance(uint64_t tick)
{
	uint64_t last = 0;
	struct list due;
	unsigned i;

	list_init(&due);
	wheel_advance(&wheel, tick, &due);
	assert_true(wheel.now >= tick);
	list_each_safe(at, next, &due) {
		struct loop_timer *t = container_of(at, struct loop_timer, link);

		assert_true(t->armed);
		assert_int_equal(t->slot, WHEEL_NOWHERE);
		assert_true(wheel_due(t) <= tick);
		assert_true(wheel_due(t) >= last);
		last = wheel_due(t);
		t->armed = false;
		wheel_del(&wheel, t);
	}
	for (i = 0; i < TIMERS; i++)
		assert_false(timer[i].armed && wheel_due(&timer[i]) <= tick);
}

/* The wheel may ask to be looked at early, to move timers down, but only seven times for each. */
static void next_is_never_late(unsigned *looks)
{
	uint64_t tick, due;

	if (!first_due(&due)) {
		assert_false(wheel_next(&wheel, &tick));
		return;
	}
	assert_true(wheel_next(&wheel, &tick));
	assert_true(tick > wheel.now);
	assert_true(tick <= due);
	if (tick < due)
		(*looks)++;
}

static void play(uint64_t start, unsigned steps)
{
	unsigned step, looks = 0, added = 0;

	wheel_init(&wheel, wheel_tick(start));
	memset(timer, 0, sizeof(timer));
	for (step = 0; step < steps; step++) {
		struct loop_timer *t = &timer[random() % TIMERS];
		uint64_t tick, due;

		if (t->armed) {
			wheel_del(&wheel, t);
			t->armed = false;
		} else {
			if (__builtin_add_overflow(wheel.now << WHEEL_TICK_BITS, any_span(), &due))
				due = UINT64_MAX;
			add(t, due);
			added++;
		}
		next_is_never_late(&looks);
		if (random() % 4)
			continue;
		if (random() % 2 && wheel_next(&wheel, &tick))
			advance(tick);
		else
			advance(wheel.now + (any_span() >> (WHEEL_TICK_BITS + 24)));
		next_is_never_late(&looks);
	}
	advance(1ull << (64 - WHEEL_TICK_BITS));
	assert_false(wheel_next(&wheel, &(uint64_t){0}));
	assert_true(looks < 10 * added + steps);
}

static void as_a_list(void **state)
{
	unsigned i;

	srandom(1);
	for (i = 0; i < 30; i++)
		play(i < 10 ? 0 : any_span(), 1000);
}

static void nobody_waits_longer_than_a_tick(void **state)
{
	struct loop_timer *t = &timer[0];
	uint64_t tick;
	unsigned i;

	wheel_init(&wheel, 0);
	for (i = 1; i < 100000; i += 7) {
		struct list due;

		list_init(&due);
		add(t, wheel.now * (1 << WHEEL_TICK_BITS) + (uint64_t)i * 1000000);
		while (wheel_next(&wheel, &tick) && list_empty(&due))
			wheel_advance(&wheel, tick, &due);
		assert_int_equal(wheel.now, wheel_due(t));
		list_del(&t->link);
	}
}

static void slots_that_are_empty_are_not_looked_at(void **state)
{
	uint64_t tick;

	wheel_init(&wheel, 5);
	add(&timer[0], 100ull << WHEEL_TICK_BITS);
	add(&timer[1], 7ull << WHEEL_TICK_BITS);
	assert_true(wheel_next(&wheel, &tick));
	assert_int_equal(tick, 7);
	wheel_del(&wheel, &timer[1]);
	assert_true(wheel_next(&wheel, &tick));
	assert_int_equal(tick, 64);
	wheel_del(&wheel, &timer[0]);
	assert_false(wheel_next(&wheel, &tick));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_a_list),
		cmocka_unit_test(nobody_waits_longer_than_a_tick),
		cmocka_unit_test(slots_that_are_empty_are_not_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
