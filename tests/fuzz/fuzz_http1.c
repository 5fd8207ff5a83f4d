/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection and a hostile peer. The first byte says: our side, what its owner does, how large the pieces are. The
 * same bytes at once and in pieces: the same heads, the same bodies, the same words back, the same end.
 */
#include <stdlib.h>
#include <string.h>

#define ENDS_TEXT (256u << 10)
#include "../unit/http1_ends.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct result {
	char *notes, *heard;
	uint64_t sum;
	bool over, reset, failed, ended;
	unsigned requests, answers, refusals;
};

static void must(bool law)
{
	if (!law)
		abort();
}

static struct result play(uint8_t how, const uint8_t *data, size_t len, size_t step)
{
	static struct ends s;
	struct result r;

	ends_start(&s, how & 1, how & 2 ? ENDS_ECHO : ENDS_HELLO, NULL);
	s.read_most = how & 64 ? 3 : 0;
	if (!(how & 1)) {
		struct http_head ask = {.method = how & 4 ? HTTP_HEAD : how & 8 ? HTTP_CONNECT : HTTP_GET};

		ask.method_text = how & 4 ? HTTP_TEXT("HEAD") : how & 8 ? HTTP_TEXT("CONNECT") : HTTP_TEXT("GET");
		if (how & 16)
			ask.upgrade = HTTP_TEXT("websocket");
		ends_ask(&s, &ask, !(how & 24));
		ends_turns(&s);
	}
	ends_say_bytes(&s, data, len, step);
	if (s.pair[1]->other) /* a head that came in parts is refused when it ends: here by FIN */
		stream_finish(&s.pair[1]->s);
	ends_turns(&s);
	must(s.thread->pool.lent < 64);
	r = (struct result){
		.notes = strdup(s.notes),
		.heard = strdup(s.heard),
		.sum = s.sum,
		.over = s.over,
		.reset = s.peer_reset,
		.failed = s.app.failed,
		.ended = s.app.ended,
		.requests = s.requests,
		.answers = s.answers,
		.refusals = s.refusals,
	};
	ends_end(&s);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct result whole, pieces;
	uint8_t how;

	if (len < 2 || len > 4000)
		return 0;
	how = *data++;
	len--;
	whole = play(how, data, len, 0);
	pieces = play(how, data, len, how & 128 ? 1 : 1 + len / 5);
	must(!strcmp(whole.notes, pieces.notes));
	must(whole.over == pieces.over && whole.failed == pieces.failed && whole.ended == pieces.ended);
	must(whole.requests == pieces.requests && whole.answers == pieces.answers);
	/* What was cut may have given some of it before. */
	if (!whole.failed)
		must(whole.sum == pieces.sum);
	if (!whole.reset && !pieces.reset && !whole.refusals && !pieces.refusals && (how & 3) == 1)
		must(!strcmp(whole.heard, pieces.heard));
	free(whole.notes);
	free(whole.heard);
	free(pieces.notes);
	free(pieces.heard);
	return 0;
}
