/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h: the threads of the data plane, each with a loop of its own (io/thread.c).
 *
 * Nothing that is written on the hot path is shared between threads. The control thread gives work to a thread with
 * thread_do(); a thread gives work to another, or to the control thread, in the same way. Each thread is an RCU reader
 * (liburcu, QSBR): what it took from a pointer published by the control thread stays good until its turn of the loop
 * ends, and no longer.
 */
#ifndef WEFT_THREAD_H
#define WEFT_THREAD_H

#include "buf.h"
#include "loop.h"
#include "shares.h"
#include "slab.h"

#define THREAD_MAX 64
#define THREAD_HEADROOM 64 /* free bytes before each scratch */
#define THREAD_SCRATCH (257 * 1024) /* 16 full records of TLS */

/*
 * Scratch memory for what is read and handed on within one callback; nobody keeps a pointer into it past the return to
 * the loop, or into a room that another layer writes.
 */
enum thread_scratch {
	SCRATCH_SOCK,	/* io/sock.c: what recv() brought */
	SCRATCH_SOCK_2, /* the same, for who reads another socket while he looks at that */
	SCRATCH_CIPHER, /* io/tls.c: records off the wire, and on their way to it */
	SCRATCH_PLAIN,	/* io/tls.c: what they said */
	SCRATCH_FRAME,	/* http/http2_memory.c: a frame that goes out */
	SCRATCH_COUNT
};

/* What is lent piece by piece, by who lends it. */
enum thread_slab {
	SLAB_HTTP1, /* http/http1.c: a connection's codec */
	SLAB_SERVE, /* proxy/serve*.c: struct serve */
	SLAB_COUNT
};

/* What outlives its owner for a while (a socket that lingers): ended with the thread at the latest. */
struct thread_orphan {
	void (*end)(struct thread_orphan *o);
	struct list link; /* of orphans; end() takes it out */
};

struct thread {
	unsigned index; /* 0 .. threads-1; the control thread has a struct too, with index THREAD_MAX */
	struct loop *loop;
	struct buf_pool pool;
	struct pages pages;
	struct slab slab[SLAB_COUNT];
	struct shares shares;
	uint8_t *scratch[SCRATCH_COUNT]; /* THREAD_SCRATCH bytes each, with 64 free bytes before them */
	struct thread_inbox *inbox;
	struct list orphans;
	uint64_t shook; /* io/tls.c: the turn (loop_now) of the last handshakes, and how many steps of them it did */
	unsigned shakes;
	const void *lender[2]; /* io/sock.c: whose bytes are in SCRATCH_SOCK and SCRATCH_SOCK_2; NULL: nobody's */
	const void *framer; /* http/http2_send.c: whose frame is in SCRATCH_FRAME; NULL: nobody's */
	void *cipher; /* io/tls.c: whose records are in SCRATCH_CIPHER; NULL: nobody's */
	void *proxy; /* of proxy/: everything that this thread serves */
};

/* Work for another thread: embedded by who sends it and his again once run() was called. Runs in order of thread_do. */
struct thread_job {
	void (*run)(struct thread *t, struct thread_job *job);
	struct thread_job *next;
};

/*
 * Starts `count` threads, pinned one to each core of our cpuset in turn (count may be greater). `start` runs first in
 * each, `end` last (either may be NULL). 0 or -errno; then none runs.
 */
int threads_start(unsigned count, void (*start)(struct thread *t), void (*end)(struct thread *t)) must_check;
/* Ends and joins them all. Jobs that were given before have run; of those given from now on nobody knows. */
void threads_stop(void);
unsigned threads_count(void);
struct thread *thread_at(unsigned index);
/* Which turn of its loop it is in: odd while it works, even while it waits. And its id (gettid). From any thread. */
unsigned thread_turn(const struct thread *t, pid_t *ret_id);
/* The control thread's: made from the loop that it runs already. Once, before threads_start(). */
struct thread *thread_control(struct loop *loop);
void thread_control_end(struct thread *t); /* after threads_stop() */
void thread_do(struct thread *t, struct thread_job *job); /* from any thread; never blocks */
unsigned threads_cores(void);				  /* of our cpuset */
/*
 * Of listeners of one port (SO_REUSEPORT), of which the n-th is thread n's: a connection that a program of this machine
 * makes on a thread's core comes to that thread. All others are spread by hash as before: those of cores without a
 * thread, and all of them where threads share cores. Without it (it may fail) nothing is different but for speed.
 */
void threads_near(int listener);

#endif
