/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c: the threads of the data plane.
 *
 * An inbox is a stack that is pushed to by compare and swap and taken as a whole; turned round, it is in order. Who
 * pushes on an empty one writes the eventfd. It is watched for edges and never read: each write is one, and 2^64 of
 * them take longer than the machine lives.
 *
 * RCU is QSBR: offline around each wait says at once that nothing is held, and that a sleeping thread holds up nobody.
 */
#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <urcu/urcu-qsbr.h>

#include "thread.h"

#define LINE 128     /* bytes that must not be shared: two cache lines, which are prefetched in pairs */
#define POOL_KEEP 64 /* chunks: 1 MiB a thread */
#define SCRATCH_STEP (THREAD_HEADROOM + THREAD_SCRATCH)

struct thread_inbox {
	_Atomic(struct thread_job *) last; /* the newest; written by everybody */
	_Alignas(LINE) int event;
	struct loop_watch watch;
	struct thread *thread;
	pthread_t id;
	_Alignas(LINE) _Atomic unsigned turn; /* see thread_turn(); written by the thread alone */
	_Atomic pid_t tid;
	struct thread_job stop;
	void (*start)(struct thread *t);
	void (*end)(struct thread *t);
};

static struct thread *threads[THREAD_MAX];
static __thread struct thread_inbox *here;
static unsigned count;

/* ------------------------------------------------------------------ inbox */

void thread_do(struct thread *t, struct thread_job *job)
{
	struct thread_inbox *in = t->inbox;
	struct thread_job *last = atomic_load_explicit(&in->last, memory_order_relaxed);
	uint64_t one = 1;

	do
		job->next = last;
	while (!atomic_compare_exchange_weak_explicit(&in->last, &last, job, memory_order_release,
						      memory_order_relaxed));
	/* Not empty: whoever made it so has written, and the jobs were not taken since. */
	if (!last && write(in->event, &one, sizeof(one)) != sizeof(one)) {
		log_error("thread %u cannot be woken: %m", t->index);
		abort();
	}
}

static void take(struct thread_inbox *in)
{
	struct thread_job *job = atomic_exchange_explicit(&in->last, NULL, memory_order_acquire), *first = NULL;

	while (job) {
		struct thread_job *before = job->next;

		job->next = first;
		first = job;
		job = before;
	}
	while (first) {
		job = first;
		first = job->next;
		job->run(in->thread, job);
	}
}

static void ready(struct loop_watch *w, uint32_t events)
{
	take(container_of(w, struct thread_inbox, watch));
}

/* ------------------------------------------------------------------ one thread */

static void *aligned(size_t size)
{
	void *p = aligned_alloc(LINE, (size + LINE - 1) / LINE * LINE);

	if (!p) {
		log_error("out of memory for a thread");
		abort();
	}
	memset(p, 0, size);
	return p;
}

static void end_orphans(struct thread *t)
{
	while (!list_empty(&t->orphans)) {
		struct thread_orphan *o = container_of(t->orphans.next, struct thread_orphan, link);

		o->end(o);
	}
}

static void unmake(struct thread *t)
{
	loop_unwatch(t->loop, &t->inbox->watch);
	munmap(t->scratch[0] - THREAD_HEADROOM, SCRATCH_COUNT * SCRATCH_STEP);
	buf_pool_free(&t->pool);
	for (unsigned i = 0; i < SLAB_COUNT; i++)
		slab_end(&t->slab[i], &t->pages);
	pages_free(&t->pages);
	close(t->inbox->event);
	free(t->inbox);
	free(t);
}

/* Of the loop; scratch is memory only where it was touched. */
static struct thread *make(struct loop *loop, unsigned index)
{
	struct thread *t = aligned(sizeof(*t));
	struct thread_inbox *in = aligned(sizeof(*in));
	uint8_t *scratch = mmap(NULL, SCRATCH_COUNT * SCRATCH_STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				-1, 0);
	unsigned i;

	if (scratch == MAP_FAILED) {
		log_error("no memory for the buffers of a thread: %m");
		abort();
	}
	t->index = index;
	t->loop = loop;
	t->inbox = in;
	list_init(&t->orphans);
	buf_pool_init(&t->pool, POOL_KEEP);
	for (i = 0; i < SCRATCH_COUNT; i++)
		t->scratch[i] = scratch + i * SCRATCH_STEP + THREAD_HEADROOM;
	in->thread = t;
	in->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	in->watch = (struct loop_watch){.fd = in->event, .events = EPOLLIN | EPOLLET, .ready = ready};
	if (in->event < 0 || loop_watch(loop, &in->watch) < 0) {
		log_error("no event for a thread: %m: raise the limit of open files (ulimit -n)");
		abort();
	}
	return t;
}

/* Of the own thread: nobody else writes it, so no bus is locked for it. */
static void turn_on(void)
{
	unsigned turn = atomic_load_explicit(&here->turn, memory_order_relaxed);

	atomic_store_explicit(&here->turn, turn + 1, memory_order_relaxed);
}

static void go_offline(void)
{
	turn_on();
	urcu_qsbr_thread_offline();
}

static void go_online(void)
{
	urcu_qsbr_thread_online();
	turn_on();
}

/* The loop of this thread begins, in its first turn. */
static void settle_in(struct thread *t)
{
	here = t->inbox;
	atomic_store(&here->tid, gettid());
	atomic_store(&here->turn, 1);
	loop_around_wait(t->loop, go_offline, go_online);
}

static void *run(void *arg)
{
	struct thread *t = arg;
	struct thread_inbox *in = t->inbox;
	int r;

	urcu_qsbr_register_thread();
	settle_in(t);
	if (in->start)
		in->start(t);
	r = loop_run(t->loop);
	if (r < 0) {
		errno = -r;
		log_error("thread %u: epoll_wait: %m", t->index);
		abort(); /* the supervisor starts another worker */
	}
	if (in->end)
		in->end(t);
	end_orphans(t);
	loop_settle(t->loop);
	urcu_qsbr_unregister_thread();
	return NULL;
}

static void stop(struct thread *t, struct thread_job *job)
{
	loop_stop(t->loop);
}

/* ------------------------------------------------------------------ all */

static bool cores(cpu_set_t *set)
{
	return sched_getaffinity(0, sizeof(*set), set) == 0 && CPU_COUNT(set) > 0;
}

unsigned threads_cores(void)
{
	cpu_set_t set;
	long n;

	if (cores(&set))
		return (unsigned)CPU_COUNT(&set);
	n = sysconf(_SC_NPROCESSORS_ONLN); /* a machine of more cores than cpu_set_t has bits */
	return n > 0 ? (unsigned)n : 1;
}

/* The core of thread `index`: the index-th of our cpuset, round and round. */
static unsigned core_of(const cpu_set_t *set, unsigned index)
{
	unsigned cpu, nth = index % (unsigned)CPU_COUNT(set);

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, set) && nth-- == 0)
			break;
	return cpu;
}

static void pin(pthread_attr_t *attr, unsigned index)
{
	cpu_set_t set, one;

	if (!cores(&set))
		return;
	CPU_ZERO(&one);
	CPU_SET(core_of(&set, index), &one);
	pthread_attr_setaffinity_np(attr, sizeof(one), &one);
}

/* The kernel asks it on the core that handles the SYN: for a program of this machine that is the program's. */
void threads_near(int listener)
{
	struct sock_filter code[2 * THREAD_MAX + 2];
	struct sock_fprog program = {.filter = code};
	cpu_set_t set;

	if (count < 2 || !cores(&set) || count > (unsigned)CPU_COUNT(&set))
		return;
	code[program.len++] =
		(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_CPU));
	for (unsigned i = 0; i < count; i++) {
		code[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, core_of(&set, i), 0, 1);
		code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, i);
	}
	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX); /* none of them: by hash */
	if (setsockopt(listener, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)))
		log_debug("connections are not kept on their cores: %m");
}

static int start_thread(struct thread *t)
{
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pin(&attr, t->index);
	r = pthread_create(&t->inbox->id, &attr, run, t);
	pthread_attr_destroy(&attr);
	return -r;
}

static void end_thread(struct thread *t)
{
	struct loop *loop = t->loop;

	unmake(t);
	loop_free(loop);
}

int threads_start(unsigned want, void (*start)(struct thread *t), void (*end)(struct thread *t))
{
	sigset_t all, before;
	int r = 0;

	assert(!count);
	if (!want || want > THREAD_MAX)
		return -EINVAL;
	/* Signals are the control thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (count < want && !r) {
		struct thread *t = make(loop_new(), count);

		t->inbox->start = start;
		t->inbox->end = end;
		threads[count] = t;
		r = start_thread(t);
		if (!r) {
			count++;
			continue;
		}
		threads[count] = NULL;
		end_thread(t);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		threads_stop();
	return r;
}

void threads_stop(void)
{
	unsigned i;

	for (i = 0; i < count; i++) {
		threads[i]->inbox->stop.run = stop;
		thread_do(threads[i], &threads[i]->inbox->stop);
	}
	for (i = 0; i < count; i++)
		pthread_join(threads[i]->inbox->id, NULL);
	/* Only now: until here one may have given work to another. */
	for (i = 0; i < count; i++) {
		end_thread(threads[i]);
		threads[i] = NULL;
	}
	count = 0;
}

unsigned threads_count(void)
{
	return count;
}

struct thread *thread_at(unsigned index)
{
	assert(index < count);
	return threads[index];
}

unsigned thread_turn(const struct thread *t, pid_t *ret_id)
{
	*ret_id = atomic_load_explicit(&t->inbox->tid, memory_order_relaxed);
	return atomic_load_explicit(&t->inbox->turn, memory_order_relaxed);
}

/* ------------------------------------------------------------------ the control thread */

struct thread *thread_control(struct loop *loop)
{
	struct thread *t = make(loop, THREAD_MAX);

	urcu_qsbr_register_thread();
	settle_in(t);
	return t;
}

void thread_control_end(struct thread *t)
{
	end_orphans(t);
	loop_settle(t->loop);
	loop_around_wait(t->loop, NULL, NULL);
	urcu_qsbr_unregister_thread();
	unmake(t);
}
