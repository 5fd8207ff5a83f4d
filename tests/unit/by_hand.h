/* SPDX-License-Identifier: Apache-2.0 */
/* by_hand.h: a peer of HTTP/2 in frames (frames.h) toward weft's own end of one (messages.h). */
#ifndef WEFT_TEST_BY_HAND_H
#define WEFT_TEST_BY_HAND_H

#include "frames.h"
#include "messages.h"

static struct meeting m;
static struct raw r;

/* The far end's transport: what our end is to be made of. */
static inline struct pair_end *by_hand_connect(bool we_are_client)
{
	struct pair_end *ends[2];

	meeting_thread(&m);
	pair_make(&m.s.thread, ends, 1 << 20, 0, 1);
	raw_take(&m.s, &r, ends[0], we_are_client);
	return ends[1];
}

static inline void by_hand_settings(void)
{
	raw_frame(&r, F_SETTINGS, 0, 0, NULL, 0);
	raw_frame(&r, F_SETTINGS, ACK, 0, NULL, 0);
	scene_turns(&m.s);
}

/* A client by hand toward our server. */
static inline void by_hand_client(const struct http_limits *l)
{
	struct pair_end *ours = by_hand_connect(false);

	m.server.c = http2_server(&m.s.thread, &ours->s, l, &party_events, &m.server);
	raw_bytes(&r, PREFACE, sizeof(PREFACE) - 1);
	by_hand_settings();
}

/* A server by hand toward our client. */
static inline void by_hand_server(const struct http_limits *l)
{
	struct pair_end *ours = by_hand_connect(true);

	m.client.c = http2_client(&m.s.thread, &ours->s, l, &party_events, &m.client);
	by_hand_settings();
}

static inline void by_hand_leave(void)
{
	party_end(&m.client);
	party_end(&m.server);
	raw_end(&m.s, &r);
}

#endif
