// SPDX-License-Identifier: Apache-2.0
/* stream.c: writes of one size in one direction; the end is a half-close that the sink answers by its own. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SINK_BUFFER (256u << 10)

int stream_client(const struct load *l)
{
	int fd = endpoint_connect(l);
	struct waiter w = waiter_open(fd, l->blocking);
	char congestion[16];
	uint64_t start, now, end, sent = 0;
	struct cpu before, after;
	unsigned char verdict;

	endpoint_congestion(fd, congestion, sizeof(congestion));
	before = cpu_used();
	start = now = now_ns();
	end = start + (uint64_t)(l->seconds * 1e9);
	while (l->bytes ? sent < l->bytes : now < end) {
		size_t n = l->bytes && l->bytes - sent < l->size ? (size_t)(l->bytes - sent) : l->size;

		if (!waiter_write(&w, pattern_at(l->check ? sent : 0), n)) {
			fprintf(stderr, "load: the sink closed after %llu bytes\n", (unsigned long long)sent);
			return 1;
		}
		sent += n;
		/* the clock once in 64 KB: it would cost as much as a small write */
		if (sent % (64 << 10) < l->size)
			now = now_ns();
	}
	if (shutdown(fd, SHUT_WR))
		fail("shutdown");
	if (!waiter_read(&w, &verdict, 1) || verdict != 'k') {
		fprintf(stderr, "load: the sink saw a wrong byte or lost some of %llu\n",
			(unsigned long long)sent);
		return 1;
	}
	now = now_ns();
	after = cpu_used();
	printf("{\"test\":\"stream\",\"size\":%zu,\"bytes\":%llu,\"seconds\":%.6f,\"gbit_s\":%.4f,"
	       "\"cpu_user_s\":%.6f,\"cpu_system_s\":%.6f,\"checked\":%s,\"congestion\":\"%s\"}\n",
	       l->size, (unsigned long long)sent, (double)(now - start) / 1e9,
	       (double)sent * 8 / (double)(now - start), after.user - before.user,
	       after.system - before.system, l->check ? "true" : "false", congestion);
	waiter_close(&w);
	return 0;
}

/* Reads to the end. False: a byte was not what the pattern says. */
static bool drain(struct waiter *w, const struct load *l, unsigned char *buf, uint64_t *ret_bytes)
{
	bool good = true;
	size_t n;

	while ((n = waiter_read_some(w, buf, SINK_BUFFER))) {
		if (l->check && memcmp(buf, pattern_at(*ret_bytes), n))
			good = false;
		*ret_bytes += n;
	}
	return good;
}

int stream_sink(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	int listener = endpoint_listen(&e);
	unsigned char *buf = malloc(SINK_BUFFER);

	if (!buf)
		fail("malloc");
	for (;;) {
		struct waiter w = waiter_open(endpoint_accept(listener, l), l->blocking);
		struct cpu before = cpu_used(), after;
		uint64_t bytes = 0;
		bool good = drain(&w, l, buf, &bytes);

		if (!waiter_write(&w, good ? "k" : "x", 1))
			fprintf(stderr, "load: the writer is gone after %llu bytes\n",
				(unsigned long long)bytes);
		waiter_close(&w);
		after = cpu_used();
		printf("{\"test\":\"sink\",\"bytes\":%llu,\"good\":%s,\"cpu_user_s\":%.6f,"
		       "\"cpu_system_s\":%.6f}\n",
		       (unsigned long long)bytes, good ? "true" : "false", after.user - before.user,
		       after.system - before.system);
	}
}
