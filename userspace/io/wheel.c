/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wheel.c: see wheel.h.
 *
 * A slot of level n spans 64^n ticks. Because a timer's level is that of the highest bit in which it differs from now,
 * each slot that holds timers lies after the one of now in its level, and all of a level are due before the next level:
 * the first timer is in the lowest bit of the lowest level, and nothing ever wraps around.
 */
#include "wheel.h"

void wheel_init(struct wheel *w, uint64_t tick)
{
	unsigned i;

	w->now = tick;
	for (i = 0; i < WHEEL_LEVELS; i++)
		w->full[i] = 0;
	for (i = 0; i < array_size(w->slot); i++)
		list_init(&w->slot[i]);
}

bool wheel_add(struct wheel *w, struct loop_timer *t)
{
	uint64_t due = wheel_due(t);
	unsigned level, slot;

	t->slot = WHEEL_NOWHERE;
	if (due <= w->now)
		return false;
	level = (63 - (unsigned)__builtin_clzll(w->now ^ due)) / WHEEL_SLOT_BITS;
	slot = (due >> (level * WHEEL_SLOT_BITS)) % WHEEL_SLOTS;
	w->full[level] |= 1ull << slot;
	t->slot = (uint16_t)(level * WHEEL_SLOTS + slot);
	list_add(&w->slot[t->slot], &t->link);
	return true;
}

void wheel_del(struct wheel *w, struct loop_timer *t)
{
	list_del(&t->link);
	if (t->slot == WHEEL_NOWHERE)
		return;
	if (list_empty(&w->slot[t->slot]))
		w->full[t->slot / WHEEL_SLOTS] &= ~(1ull << t->slot % WHEEL_SLOTS);
	t->slot = WHEEL_NOWHERE;
}

static bool first_slot(const struct wheel *w, unsigned *ret_slot, uint64_t *ret_tick)
{
	unsigned level, slot, shift;

	for (level = 0; level < WHEEL_LEVELS && !w->full[level]; level++)
		;
	if (level == WHEEL_LEVELS)
		return false;
	slot = (unsigned)__builtin_ctzll(w->full[level]);
	shift = level * WHEEL_SLOT_BITS;
	*ret_slot = level * WHEEL_SLOTS + slot;
	*ret_tick = (w->now >> (shift + WHEEL_SLOT_BITS) << (shift + WHEEL_SLOT_BITS)) | (uint64_t)slot << shift;
	return true;
}

void wheel_advance(struct wheel *w, uint64_t tick, struct list *ret)
{
	unsigned slot;
	uint64_t at;

	while (first_slot(w, &slot, &at) && at <= tick) {
		w->now = at;
		w->full[slot / WHEEL_SLOTS] &= ~(1ull << slot % WHEEL_SLOTS);
		while (!list_empty(&w->slot[slot])) {
			struct loop_timer *t = container_of(w->slot[slot].next, struct loop_timer, link);

			list_del(&t->link);
			if (!wheel_add(w, t))
				list_add(ret, &t->link);
		}
	}
	if (tick > w->now)
		w->now = tick;
}

bool wheel_next(const struct wheel *w, uint64_t *ret_tick)
{
	unsigned slot;

	return first_slot(w, &slot, ret_tick);
}
