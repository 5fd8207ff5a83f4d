/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c: see watch.h. */
#include "watch.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"
#include "netlink.h"
#include "reader.h"

#define ERRANDS_MOST 64 /* to a read */
#define ETHERNET 14

struct watch {
	struct watch_plan plan;
	ino_t pin; /* of READER_ROOT/caught; 0: nobody sees readers for us */
	uint64_t pin_seen_ns;
	struct ring_buffer *ring;
	struct loop_watch woken;
	struct loop_timer pass;
	struct loop_timer poll; /* of `caught` */
	volatile struct abi_watch *shared;
	volatile const struct abi_caught *caught;
	uint64_t next_ns; /* what `pass` was armed with */
	uint64_t young_ns; /* how long the next pass for young connections waits, at least */
	uint64_t cost_ns;  /* of the last one */
	uint32_t seen;	/* abi_caught.caught */
	bool complained; /* the iterator failed: said once */
	bool barred;	 /* weft_enter could not be run: said once */
	uint64_t errands_ns; /* of this pass; once for each connection, so it is no reason to look less often */
};

/* ------------------------------------------------------------------ connections that must end */

static void end_one(const struct watch *w, const struct abi_errand *e, enum abi_end end)
{
	struct pod *pod = pods_by_netns(w->plan.pods, e->netns[end], false);
	struct wire_destroy d;
	int diag = pod ? pods_diag(pod) : -ENOENT, err;

	if (!pod)
		return; /* it left, and its sockets with it */
	netlink_diag_end(&d, &e->tuple, end, e->netns[end], e->cookie[end]);
	err = diag < 0 ? diag : netlink_diag_destroy(diag, &d);
	if (err && err != -ENOENT)
		log_error("pod %s/%s: a connection with bytes that its reader cannot see could not be ended: %s",
			  pod->namespace, pod->name, strerror(-err));
}

static void end_both(const struct watch *w, const struct abi_errand *e)
{
	const struct pod *client = pods_by_netns(w->plan.pods, e->netns[ABI_CLIENT], false);
	const struct pod *server = pods_by_netns(w->plan.pods, e->netns[ABI_SERVER], false);

	end_one(w, e, ABI_SERVER);
	end_one(w, e, ABI_CLIENT);
	log_warning("the connection of pod %s/%s to %s/%s, port %u, was ended (%s): %s; from now on its "
		    "pod's connections go by TCP",
		    client ? client->namespace : "?", client ? client->name : "?", server ? server->namespace : "?",
		    server ? server->name : "?", e->tuple.dst_port, reason_name(e->reason), reason_text(e->reason));
}

/* Of this thread: what a pass costs, however long others keep us from it. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ sockets that enter */

struct entry { /* of one socket */
	int prog;
	struct __sk_buff from;
	unsigned char packet[ETHERNET + sizeof(struct abi_errand)];
};

static int enter_inside(void *ctx)
{
	struct entry *e = ctx;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = e->packet, .data_size_in = sizeof(e->packet), .repeat = 1,
		    .ctx_in = &e->from, .ctx_size_in = sizeof(e->from));

	return bpf_prog_test_run_opts(e->prog, &opts);
}

/* If it cannot be done now, the next pass asks again. */
static int enter_one(const struct watch *w, const struct abi_errand *e)
{
	struct pod *pod = pods_by_netns(w->plan.pods, e->netns[e->end & 1], false);
	struct entry entry = {.prog = w->plan.from->enter, .from.ifindex = e->device};
	int diag = pod ? pods_diag(pod) : -ENOENT, netns, err;

	if (!pod)
		return 0; /* it left, and its sockets with it */
	if (diag < 0)
		return diag;
	netns = netns_of(diag);
	if (netns < 0)
		return netns;
	memcpy(entry.packet + ETHERNET, e, sizeof(*e));
	err = netns_run(netns, enter_inside, &entry);
	close(netns);
	return err;
}

static void errands(struct watch *w, const struct abi_errand *e, unsigned count)
{
	uint64_t began = cpu_ns();

	for (unsigned i = 0; i < count; i++, e++) {
		int err = 0;

		if (e->reason)
			end_both(w, e);
		else
			err = enter_one(w, e);
		if (err && !w->barred)
			log_error("a connection stays with TCP, its socket cannot be reached in its pod: %s",
				  strerror(-err));
		w->barred |= err != 0;
	}
	w->errands_ns += cpu_ns() - began;
}

/* ------------------------------------------------------------------ a pass */

static int run(struct watch *w)
{
	struct abi_errand errand[ERRANDS_MOST];
	int fd = kernel_iterate(w->plan.from->link), err = 0;

	if (fd < 0)
		return fd;
	for (;;) {
		ssize_t n = read(fd, errand, sizeof(errand));

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue; /* EAGAIN: a million sockets; it goes on from there */
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		errands(w, errand, (unsigned)((size_t)n / sizeof(*errand)));
	}
	close(fd);
	return err;
}

static void count_nothing(struct watch *w)
{
	w->shared->young = w->shared->pending = w->shared->entering = w->shared->spliced = 0;
}

/* What waits for another pass? */
static bool busy(const struct watch *w)
{
	return w->shared->young || w->shared->pending || w->shared->entering || w->shared->spliced;
}

/* Every pin has an inode of its own: another number, or none, says that it was replaced or removed. */
static ino_t pin_inode(void)
{
	struct stat st;

	return stat(READER_ROOT "/caught", &st) ? 0 : st.st_ino;
}

/* The programs that see readers write into the maps that are pinned: still ours? */
static void look_at_pin(struct watch *w)
{
	uint64_t now = clock_ns();

	if (!w->pin || now - w->pin_seen_ns < WATCH_OLD_NS)
		return;
	w->pin_seen_ns = now;
	if (pin_inode() == w->pin)
		return;
	w->pin = 0;
	w->plan.lost(w->plan.ctx);
}

/* When the next pass is due, by what this one has seen and cost. */
static uint64_t rest(struct watch *w)
{
	if (!w->shared->young && !w->shared->entering)
		return WATCH_OLD_NS;
	w->young_ns = w->young_ns * 2 < WATCH_YOUNG_NS ? w->young_ns * 2 : WATCH_YOUNG_NS;
	return watch_wait(w->cost_ns, w->young_ns, WATCH_YOUNG_MOST_NS);
}

static void pass(struct watch *w)
{
	uint64_t began = cpu_ns();
	int err;

	look_at_pin(w);
	w->seen = w->caught->caught;
	w->errands_ns = 0;
	/* Whoever comes from now on wakes us, unless the next pass is near anyway. */
	w->shared->asleep = 1;
	__sync_synchronize();
	count_nothing(w);
	err = run(w);
	if (!err && w->shared->entering) { /* their sockets have entered meanwhile */
		count_nothing(w);
		err = run(w);
	}
	if (err && !w->complained)
		log_error("the sockets of this node cannot be watched, so that none is spliced any more: %s",
			  strerror(-err));
	w->complained = err;
	w->cost_ns = cpu_ns() - began - w->errands_ns;
	if (!err && !busy(w)) {
		loop_disarm(w->plan.loop, &w->pass);
		loop_disarm(w->plan.loop, &w->poll);
		return;
	}
	w->next_ns = rest(w);
	if (w->next_ns < WATCH_OLD_NS)
		w->shared->asleep = 0;
	loop_arm(w->plan.loop, &w->pass, w->next_ns);
	if (!w->shared->spliced && !w->shared->entering)
		loop_disarm(w->plan.loop, &w->poll);
	else if (!w->poll.armed)
		loop_arm(w->plan.loop, &w->poll, WATCH_YOUNG_NS);
}

static void due(struct loop_timer *t)
{
	pass(container_of(t, struct watch, pass));
}

/* Was a reader caught? Spliced connections of it may have to end at once. A look at shared memory, no syscall. */
static void poll_caught(struct loop_timer *t)
{
	struct watch *w = container_of(t, struct watch, poll);

	loop_arm(w->plan.loop, &w->poll, WATCH_YOUNG_NS);
	if (w->caught->caught != w->seen)
		pass(w);
}

static void woken(struct loop_watch *watch, uint32_t events)
{
	struct watch *w = container_of(watch, struct watch, woken);

	(void)events;
	(void)ring_buffer__consume(w->ring);
	if (!w->pass.armed || w->next_ns > WATCH_YOUNG_MOST_NS) {
		w->young_ns = WATCH_FIRST_NS;
		w->next_ns = watch_wait(w->cost_ns, WATCH_FIRST_NS, WATCH_YOUNG_NS);
		loop_arm(w->plan.loop, &w->pass, w->next_ns);
	}
}

void watch_now(struct watch *w)
{
	if (w->plan.from->link >= 0)
		pass(w);
}

/* ------------------------------------------------------------------ open, close */

static int ignore(void *ctx, void *data, size_t size)
{
	(void)ctx;
	(void)data;
	(void)size;
	return 0;
}

static void *map_page(int fd, int protection)
{
	void *at = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), protection, MAP_SHARED, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

int watch_open(struct watch **ret, const struct watch_plan *plan)
{
	const struct loader_watch *from = plan->from;
	struct watch *w = mem_alloc(sizeof(*w));
	int err;

	*w = (struct watch){.plan = *plan,
			    .pin = pin_inode(),
			    .young_ns = WATCH_FIRST_NS,
			    .pass.due = due,
			    .poll.due = poll_caught};
	*ret = w;
	if (from->link < 0)
		return 0;
	w->shared = map_page(from->watches, PROT_READ | PROT_WRITE);
	w->caught = w->shared ? map_page(from->caught, PROT_READ) : NULL;
	if (!w->caught)
		return -errno;
	w->ring = ring_buffer__new(from->wake, ignore, w, NULL);
	if (!w->ring)
		return -errno;
	w->woken = (struct loop_watch){.fd = ring_buffer__epoll_fd(w->ring), .events = EPOLLIN, .ready = woken};
	err = loop_watch(w->plan.loop, &w->woken);
	if (!err)
		pass(w); /* what a predecessor left */
	return err;
}

void watch_close(struct watch *w)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!w)
		return;
	loop_disarm(w->plan.loop, &w->pass);
	loop_disarm(w->plan.loop, &w->poll);
	if (w->ring) {
		loop_unwatch(w->plan.loop, &w->woken);
		ring_buffer__free(w->ring);
	}
	if (w->shared)
		(void)munmap((void *)(uintptr_t)w->shared, page);
	if (w->caught)
		(void)munmap((void *)(uintptr_t)w->caught, page);
	free(w);
}
