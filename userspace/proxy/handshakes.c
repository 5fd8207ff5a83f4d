/* SPDX-License-Identifier: Apache-2.0 */
/* handshakes.c: of strangers who have not shown yet who they are, which one makes room for the next. See parts.h. */
#include <string.h>

#include "parts.h"

#define SHARE 64 /* a part of all that so many have who come from one place: from then on they push out each other */

/* Who has one address of IPv6 has all of its /64. */
static bool one_place(const struct abi_addr *a, const struct abi_addr *b)
{
	return addr_is_v4(a) || addr_is_v4(b) ? addr_equal(a, b) : !memcmp(a->byte, b->byte, 8);
}

struct list *handshakes_room(const struct handshakes *h, const struct abi_addr *from)
{
	struct list *oldest = NULL;
	unsigned found = 0;

	if (h->count < h->most)
		return NULL;
	list_each(l, &h->all) {
		if (!one_place(h->from(l), from))
			continue;
		oldest = oldest ? oldest : l;
		if (++found >= h->most / SHARE)
			return oldest;
	}
	return h->all.next;
}
