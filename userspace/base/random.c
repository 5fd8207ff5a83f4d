/* SPDX-License-Identifier: Apache-2.0 */
/* random.c: xorshift128+ (Vigna, Further scramblings of Marsaglia's xorshift generators, 2017). */
#include <errno.h>
#include <sys/random.h>

#include "base.h"

int random_seed(struct random *r)
{
	do {
		if (getrandom(r->s, sizeof(r->s), 0) != (ssize_t)sizeof(r->s)) {
			if (errno != EINTR)
				return -errno;
			r->s[0] = r->s[1] = 0;
		}
	} while (!r->s[0] && !r->s[1]);
	return 0;
}

uint64_t random_next(struct random *r)
{
	uint64_t a = r->s[0], b = r->s[1];

	r->s[0] = b;
	a ^= a << 23;
	r->s[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
	return r->s[1] + b;
}
