/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbone_parts.h: what the files of HBONE share, and nobody else sees.
 *
 *	hbone_send.c	frames down: nghttp2's own, gathered; DATA, straight from the writer's memory
 *	hbone_tunnel.c	one CONNECT: its stream, its life, its windows
 *	hbone_receive.c	frames up: what nghttp2 found, handed on when the bytes were all read
 *	hbone.c		one connection: its life, its timers
 *
 * Nothing of an owner is called from within nghttp2, or from within a call of his: what happened is noted in the tunnel
 * (`events`, list `touched`) and told by hbone_settle(), from a ready() of the transport, a timer, or the turn's end.
 */
#ifndef WEFT_HBONE_PARTS_H
#define WEFT_HBONE_PARTS_H

#include <nghttp2/nghttp2.h>

#include "hbone.h"

#define HBONE_RECORD 16384   /* plaintext of one TLS record: frame and header together fill whole ones */
#define HBONE_FRAME_HEAD 9   /* RFC 9113 section 4.1 */
#define HBONE_GATHER 2048    /* nghttp2's frames that go down in one write */
#define HBONE_LITTLE 1024    /* bytes for a transport that has less room than a frame's header takes */
#define HBONE_BATCH_RUNS 256 /* runs of one batch; what is more is copied */
#define HBONE_SLICE 16384    /* bytes given to nghttp2 between two looks at what it has to say */
#define HBONE_SLICE_FRAMES (HBONE_SLICE / HBONE_FRAME_HEAD + 1)

/*
 * A stream's window starts small and grows when its reader keeps up (as TCP's does): a reader that sleeps costs no more
 * than the start, and the connection's own window never closes because of him, since its bytes count as read when they
 * come. So what one connection can make us keep is streams * HBONE_WINDOW_START + connection_window / HBONE_GROWTH.
 * All that is granted may stand in a queue before a small message of another stream: with 16 bulk streams at 3 Gbit/s
 * 16 MiB of growth were 59 ms to it, 4 MiB are 27, 2 MiB 18; below 4 MiB the CPU for each byte rises by a third.
 */
#define HBONE_WINDOW_START 65535
#define HBONE_WINDOW_STEP 4 /* times */
#define HBONE_GROWTH 4	    /* part of the connection's window */

/* Frames that move nothing. One that carries bytes, or a CONNECT that was answered, pays for one. */
#define HBONE_GLITCHES 1000	   /* that may come at once */
#define HBONE_GLITCHES_SECOND 50   /* that are forgiven each second */
#define HBONE_GLITCHES_SAVED 65536 /* that a good past pays for */
#define HBONE_UPDATE_LEAST 512	   /* bytes of DATA for which a WINDOW_UPDATE is no glitch */
#define HBONE_ANSWERED 2	   /* what an answer of the owner pays: the CONNECT, and its RST_STREAM */
#define HBONE_PING_ALIVE "weft-png"
#define HBONE_PING_DRAIN "weft-drn"
#define HBONE_QUEUE 256			 /* frames that wait for the transport: more, and we read no further */
#define HBONE_OUT (64 * 1024)		 /* bytes that wait for it: the same */
#define HBONE_SETTINGS_NS 10000000000ull /* until the peer's SETTINGS */

enum tunnel_state {		  /* in order of life */
		    TUNNEL_NEW,	  /* server: its headers are coming; client: CONNECT goes out */
		    TUNNEL_ASKED, /* server: the owner has it and has not answered */
		    TUNNEL_OPEN,  /* 200 */
		    TUNNEL_LEFT,  /* the owner has closed it; END_STREAM or RST_STREAM is on its way */
		    TUNNEL_FREE,  /* nobody has it; freed when the turn ends */
};

/* The fields of a CONNECT or of its answer that we keep, until the owner has seen them. */
struct ask {
	char *authority, *forwarded, *baggage, *traceparent;
	bool connect, bad; /* method; a field is too long */
};

struct run {
	uint8_t *data;
	size_t len, headroom;
	unsigned next; /* index + 1 */
};

/* What one read of the transport brought. Lives on the stack of who reads: an idle connection costs nothing. */
struct batch {
	const uint8_t *slice; /* being parsed */
	bool head;	      /* a frame header was parsed, nothing after it yet */
	unsigned runs;
	struct run run[HBONE_BATCH_RUNS];
};

struct tunnel {
	struct stream s;
	struct hbone *h;
	struct list link;    /* h->tunnels, or h->asking: client, until it is answered */
	struct list touched; /* h->touched */
	struct list waiting; /* h->waiting: for room */
	struct ask *ask;
	struct buf kept;      /* bytes that the owner has not read yet, before those of the batch */
	unsigned first, last; /* runs of the batch: index + 1 */
	int32_t id;
	uint32_t window;   /* what we let the peer send */
	uint32_t read_new; /* since the window grew */
	uint16_t status;
	uint8_t state;	   /* enum tunnel_state */
	uint8_t events;	   /* enum stream_event, to be told */
	bool tell_asked;   /* server: the owner is to be asked */
	bool want_read;	   /* peek() gave 0 */
	bool peer_ended;   /* END_STREAM, or RST_STREAM that says as much: nothing comes any more */
	bool gone;	   /* nghttp2 has no such stream any more */
	bool cut;	   /* gone by RST_STREAM: what the owner writes reaches nobody */
	bool end_sent;	   /* END_STREAM has left */
	bool ticked;	   /* TUNNEL_LEFT: has seen one tick already */
	uint64_t asked_ns; /* client: CONNECT */
};

struct hbone {
	nghttp2_session *session;
	struct stream *below;
	struct thread *thread;
	const struct hbone_events *events;
	void *owner;
	struct hbone_limits limit;
	uint32_t window_start; /* of a stream */
	struct list tunnels, asking, touched, waiting, free;
	struct loop_timer tick;	  /* PING, idle, tunnels that do not end */
	struct loop_timer answer; /* of the first in `asking` */
	struct loop_timer again;  /* `more` */
	struct loop_task end;	  /* of the turn */
	struct batch *batch;	  /* while something is being read */
	struct buf out;		  /* what the transport did not take */
	uint8_t *gather;	  /* while something is being sent: HBONE_GATHER bytes */
	size_t gathered;
	struct { /* the write that is under way */
		struct tunnel *t;
		const struct stream_bytes *run;
		size_t at;   /* in *run */
		size_t left; /* bytes */
	} give;
	unsigned streams; /* that nghttp2 has */
	unsigned held;	  /* tunnels that exist */
	uint64_t opened;
	uint64_t grown; /* bytes of windows above their start */
	uint64_t born_ns, heard_ns, idle_ns, glitch_ns;
	uint64_t ping_ns, rtt_ns; /* sent, 0: none on its way */
	uint64_t pinged_ns, drain_ns, tick_ns;
	int glitches;	       /* below zero: saved */
	uint32_t header_bytes; /* of the list that is coming */
	const char *why;
	bool server, draining, told_draining, last_goaway, settings, first_frame;
	bool over;   /* nothing is sent or read any more */
	bool closed; /* and the owner knows */
	bool settling;
	bool doomed; /* GOAWAY is the last that we say: nothing is read any more */
	bool doomed_ticks;
	bool drain_asked; /* by the owner */
	bool cut;	  /* the transport is of no use any more */
	bool deaf;	  /* the peer does not take what we say: we read no further */
	bool more;	  /* to read, when the others had their turn */
	bool may_write;	  /* somebody who waits for room may have it */
};

/* hbone_send.c */
void hbone_flush(struct hbone *h);		  /* what nghttp2 has to say, as far as the transport takes it */
void hbone_settle_later(struct hbone *h);	  /* at the end of the turn */
void hbone_end(struct hbone *h, const char *why); /* over; NULL: in order. `closed` comes from hbone_settle() */
size_t hbone_frame_most(struct hbone *h);	  /* payload of the largest DATA frame that we send */
ssize_t hbone_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
		      nghttp2_data_source *source, void *arg);
void hbone_send_callbacks(nghttp2_session_callbacks *c);

/* hbone_tunnel.c */
struct tunnel *tunnel_new(struct hbone *h, int32_t id);
void tunnel_let_go(struct tunnel *t); /* the owner has done with it */
void tunnel_touch(struct tunnel *t, unsigned events);
void tunnel_fail(struct tunnel *t, const char *why);
void tunnel_gone(struct tunnel *t, uint32_t error); /* nghttp2 closed it */
void tunnel_reset(struct tunnel *t, uint32_t error);
void tunnel_ended(struct tunnel *t);						/* END_STREAM came */
void tunnel_take(struct tunnel *t, uint8_t *data, size_t len, size_t headroom); /* of DATA */
void tunnel_keep(struct tunnel *t);						/* copies what is left of the batch */
bool tunnel_may_write(struct tunnel *t);
void tunnel_set_state(struct tunnel *t, enum tunnel_state state);
void ask_free(struct ask *a);
/* A header for nghttp2, which copies the value; v may be NULL. */
#define FIELD_FLAGS(n, v, f)                                                                 \
	{                                                                                    \
		.name = (uint8_t *)(n), .namelen = sizeof(n) - 1, .value = (uint8_t *)(v),   \
		.valuelen = (v) ? strlen(v) : 0, .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | (f) \
	}
#define FIELD(n, v) FIELD_FLAGS(n, v, 0)
static inline struct tunnel *tunnel_of(const struct stream *s)
{
	return container_of(s, struct tunnel, s);
}

/* hbone_receive.c */
void hbone_read(struct hbone *h);  /* what the transport has, and tells who it is for */
void hbone_tell(struct hbone *h);  /* every event that waits */
void hbone_offer(struct hbone *h); /* room, to who waits for it, in turn */
void hbone_receive_callbacks(nghttp2_session_callbacks *c);

#endif
