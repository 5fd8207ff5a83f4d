// SPDX-License-Identifier: Apache-2.0
/* pingpong.c: one message there, one of the same size back, one at a time. See load.h. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *message(const struct load *l)
{
	void *buf = malloc(l->size);

	if (!buf)
		fail("malloc");
	memset(buf, 'w', l->size);
	return buf;
}

int pingpong_client(const struct load *l)
{
	int fd = endpoint_connect(l);
	struct waiter w = waiter_open(fd, l->blocking);
	struct samples s = {};
	unsigned char *buf = message(l);
	char congestion[16];
	uint64_t start, last, end, bytes = 0;
	struct cpu before, after;

	endpoint_congestion(fd, congestion, sizeof(congestion));
	before = cpu_used();
	start = last = now_ns();
	end = start + (uint64_t)(l->seconds * 1e9);
	while (last < end) {
		const unsigned char *out = l->check ? pattern_at(bytes) : buf;

		if (!waiter_write(&w, out, l->size) || !waiter_read(&w, buf, l->size)) {
			fprintf(stderr, "load: the peer closed after %zu round trips\n", s.count);
			return 1;
		}
		if (l->check && memcmp(buf, pattern_at(bytes), l->size)) {
			fprintf(stderr, "load: wrong byte in round trip %zu\n", s.count);
			return 1;
		}
		bytes += l->size;
		samples_add(&s, now_ns() - last);
		last = now_ns();
	}
	after = cpu_used();
	printf("{\"test\":\"pingpong\",\"size\":%zu,\"count\":%zu,\"seconds\":%.6f,\"p50_us\":%.2f,"
	       "\"p99_us\":%.2f,\"cpu_user_s\":%.6f,\"cpu_system_s\":%.6f,\"congestion\":\"%s\"}\n",
	       l->size, s.count, (double)(last - start) / 1e9, samples_us(&s, 0.5), samples_us(&s, 0.99),
	       after.user - before.user, after.system - before.system, congestion);
	waiter_close(&w);
	return 0;
}

int pingpong_echo(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	int listener = endpoint_listen(&e);
	unsigned char *buf = message(l);

	for (;;) {
		struct waiter w = waiter_open(endpoint_accept(listener, l), l->blocking);
		struct cpu before = cpu_used(), after;
		uint64_t count = 0;

		while (waiter_read(&w, buf, l->size) && waiter_write(&w, buf, l->size))
			count++;
		waiter_close(&w);
		after = cpu_used();
		printf("{\"test\":\"echo\",\"count\":%llu,\"cpu_user_s\":%.6f,\"cpu_system_s\":%.6f}\n",
		       (unsigned long long)count, after.user - before.user, after.system - before.system);
	}
}
