/* SPDX-License-Identifier: Apache-2.0 */
/* pods.c: see pods.h. */
#include "pods.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "podfile.h"
#include "takeover.h"

#define AGAIN_NS 1000000000ull /* a pod that is outside */

struct pods {
	struct pods_plan plan;
	struct vigil_room *room;
	struct list all;
	unsigned count[POD_LEFT + 1]; /* by state */
	struct loop_timer again; /* while a pod is outside */
};

static bool leaving(const struct pod *pod)
{
	return pod->state >= POD_LEAVING;
}

static void set_state(struct pod *pod, enum pod_state to)
{
	static const unsigned char from[] = {
		/* bits of the states before */
		[POD_NEW] = 1u << POD_NEW | 1u << POD_SENT | 1u << POD_ENROLLED,
		[POD_SENT] = 1u << POD_NEW,
		[POD_ENROLLED] = 1u << POD_SENT,
		[POD_LEAVING] = 1u << POD_NEW | 1u << POD_SENT | 1u << POD_ENROLLED | 1u << POD_LEFT,
		[POD_LEFT] = 1u << POD_LEAVING,
	};

	if (!(from[to] & 1u << pod->state)) {
		log_error("pod %s/%s: state %d cannot follow %d", pod->namespace, pod->name, to, pod->state);
		abort();
	}
	pod->pods->count[pod->state]--;
	pod->state = to;
	pod->pods->count[to]++;
}

/* ------------------------------------------------------------------ making and freeing */

static void take_info(struct pod *pod, const struct wire_pod *info)
{
	free(pod->namespace);
	free(pod->name);
	free(pod->path);
	pod->namespace = mem_string(info->namespace);
	pod->name = mem_string(info->name);
	pod->path = mem_string(info->netns_path);
	pod->number = info->pod;
	pod->netns = info->netns;
	pod->addrs = info->addrs;
	memcpy(pod->addr, info->addr, sizeof(pod->addr));
}

static struct pod *make(struct pods *p, const struct wire_pod *info, enum pod_state state)
{
	struct pod *pod = mem_alloc(sizeof(*pod));

	pod->pods = p;
	pod->state = state;
	pod->diag = -1;
	take_info(pod, info);
	list_add(&p->all, &pod->link);
	p->count[state]++;
	return pod;
}

static void drop(struct pod *pod)
{
	pod->pods->count[pod->state]--;
	list_del(&pod->link);
	free(pod->namespace);
	free(pod->name);
	free(pod->path);
	free(pod);
}

/* Nothing of ours stays in the netns: it can die. */
static void let_go(struct pod *pod)
{
	if (pod->vigil)
		vigil_stop(pod->vigil);
	pod->vigil = NULL;
	inside_leave(pod, pod->pods->plan.loader);
	if (pod->diag >= 0)
		close(pod->diag);
	pod->diag = -1;
}

/* The file says it first: a weftd that is killed from here on goes on with the release. */
static void begin_leave(struct pod *pod)
{
	struct pods *p = pod->pods;
	int err;

	if (pod->kept) {
		err = podfile_turn(p->plan.folder, pod->number, PODFILE_KEPT, PODFILE_LEAVING);
		podfile_remove(p->plan.folder, PODFILE_NEW, pod->number);
	} else {
		err = podfile_turn(p->plan.folder, pod->number, PODFILE_NEW, PODFILE_LEAVING);
	}
	if (err)
		log_warning("pod %s/%s: its file cannot be renamed: %s", pod->namespace, pod->name, strerror(-err));
	pod->update = pod->outside = false;
	let_go(pod);
	set_state(pod, POD_LEAVING);
	p->plan.hooks.to_send(p->plan.hooks.ctx);
}

static void netns_gone(void *ctx)
{
	struct pod *pod = ctx;

	log_info("pod %s/%s: its network namespace %s is gone: released", pod->namespace, pod->name, pod->path);
	begin_leave(pod);
}

static int move_in(struct pod *pod, int netns, char why[PODS_WHY])
{
	int err = inside_enter(pod, pod->pods->plan.loader, pod->pods->plan.threads, netns, why);

	if (err)
		return err;
	pod->inode = netns_inode(netns);
	pod->vigil = vigil_start(pod->pods->room, pod->path, pod->inode, netns_gone, pod);
	return 0;
}

/* ------------------------------------------------------------------ what is asked for */

static struct pod *by_addr(const struct pods *p, const struct abi_addr *a)
{
	list_each(at, &p->all) {
		struct pod *pod = container_of(at, struct pod, link);

		for (unsigned i = 0; i < pod->addrs && !leaving(pod); i++)
			if (addr_equal(&pod->addr[i], a))
				return pod;
	}
	return NULL;
}

static struct pod *by_name(const struct pods *p, const char *namespace, const char *name)
{
	list_each(at, &p->all) {
		struct pod *pod = container_of(at, struct pod, link);

		if (!leaving(pod) && text_equal(pod->namespace, namespace) && text_equal(pod->name, name))
			return pod;
	}
	return NULL;
}

/* Is it still there? If not, it goes now rather than when the event comes. */
static bool stands(struct pod *pod)
{
	if (!pod)
		return false;
	if (!pod->vigil || vigil_alive(pod->vigil)) /* it is outside: again_due() sees */
		return true;
	netns_gone(pod);
	return false;
}

static int check_addrs(const struct pods *p, const struct wire_pod *a, const struct pod *same, char why[PODS_WHY])
{
	char text[ADDR_TEXT];

	for (unsigned i = 0; i < a->addrs; i++) {
		struct pod *other = by_addr(p, &a->addr[i]);

		if (other && other != same && stands(other))
			return pods_say(why, -EADDRINUSE,
					"address %s belongs to pod %.100s/%.100s: delete that one first",
					addr_text(&a->addr[i], text), other->namespace, other->name);
	}
	return 0;
}

/* Fills cookie; *ret_same is the pod if this is an update. */
static int check_netns(struct pods *p, struct wire_pod *a, int netns, struct pod **ret_same, char why[PODS_WHY])
{
	struct pod *holder, *named;
	int err;

	if (netns_is_host(netns) || netns_is_home(netns))
		return pods_say(why, -EINVAL,
				"%.200s is the network namespace of the node itself: host-network pods are not weft's "
				"business",
				a->netns_path);
	err = netns_cookie(netns, &a->netns);
	if (err)
		return pods_say(why, err, "network namespace %.200s cannot be entered: %s", a->netns_path,
				strerror(-err));
	holder = pods_by_netns(p, a->netns, false);
	named = by_name(p, a->namespace, a->name);
	if (holder && holder != named)
		return pods_say(why, -EEXIST,
				"network namespace %.150s is enrolled as pod %.100s/%.100s: delete that one first",
				a->netns_path, holder->namespace, holder->name);
	if (!holder && stands(named))
		return pods_say(why, -EEXIST, "pod %.100s/%.100s is enrolled with another network namespace (%.150s): "
					      "delete it first",
				a->namespace, a->name, named->path);
	*ret_same = holder;
	return 0;
}

static int add_new(struct pods *p, struct wire_pod *a, int netns, struct pod **ret, char why[PODS_WHY])
{
	struct pod *pod;
	int err;

	if (p->count[POD_NEW] + p->count[POD_SENT] + p->count[POD_ENROLLED] >= ABI_MAX_PODS)
		return pods_say(why, -E2BIG, "%d pods are enrolled already: that is as many as one instance takes",
				ABI_MAX_PODS);
	err = podfile_next(p->plan.folder, &a->pod);
	if (!err)
		err = podfile_write(p->plan.folder, PODFILE_NEW, a);
	if (err)
		return pods_say(why, err, "the enrolment cannot be written to the run folder: %s", strerror(-err));
	pod = make(p, a, POD_NEW);
	pod->update = true;
	err = move_in(pod, netns, why);
	if (err) {
		podfile_remove(p->plan.folder, PODFILE_NEW, pod->number);
		drop(pod);
		return err;
	}
	*ret = pod;
	return 0;
}

/* A pod that could not be entered has listeners now, which the worker has to get. */
static void taken_back(struct pod *pod)
{
	pod->outside = false;
	log_info("pod %s/%s: taken back", pod->namespace, pod->name);
	set_state(pod, POD_NEW);
	pod->pods->plan.hooks.to_send(pod->pods->plan.hooks.ctx);
}

static int change(struct pod *pod, struct wire_pod *a, int netns, char why[PODS_WHY])
{
	int err = pod->outside ? move_in(pod, netns, why) : 0;

	if (err)
		return err;
	if (pod->outside)
		taken_back(pod);
	a->pod = pod->number;
	err = podfile_write(pod->pods->plan.folder, PODFILE_NEW, a);
	if (err)
		return pods_say(why, err, "the enrolment cannot be written to the run folder: %s", strerror(-err));
	take_info(pod, a);
	pod->update = true;
	set_state(pod, POD_NEW);
	return 0;
}

int pods_add(struct pods *p, const struct wire_pod *asked, int netns, struct pod **ret, char why[PODS_WHY])
{
	struct wire_pod *a = mem_alloc(sizeof(*a));
	struct pod *same = NULL;
	int fd = -1, err;

	*a = *asked;
	err = pods_check(a, why);
	if (!err) {
		fd = inside_find(a, netns, why);
		err = fd < 0 ? fd : check_netns(p, a, fd, &same, why);
	}
	if (!err)
		err = check_addrs(p, a, same, why);
	if (!err && same)
		err = change(same, a, fd, why);
	else if (!err)
		err = add_new(p, a, fd, &same, why);
	if (fd >= 0)
		close(fd);
	free(a);
	if (err)
		return err;
	*ret = same;
	p->plan.hooks.to_send(p->plan.hooks.ctx);
	return 0;
}

int pods_del(struct pods *p, const char *namespace, const char *name, struct pod **ret, char why[PODS_WHY])
{
	struct pod *pod = by_name(p, namespace, name);

	if (!pod) {
		list_each(at, &p->all) { /* asked again while the worker has not answered: the same answer */
			struct pod *gone = container_of(at, struct pod, link);

			if (text_equal(gone->namespace, namespace) && text_equal(gone->name, name))
				pod = gone;
		}
	}
	if (!pod)
		return pods_say(why, -ENOENT, "pod %.100s/%.100s is not enrolled", namespace, name);
	*ret = pod;
	if (!leaving(pod))
		begin_leave(pod);
	return 0;
}

/* ------------------------------------------------------------------ for the channel */

struct pod *pods_first(const struct pods *p, enum pod_state state)
{
	bool leave = p->count[POD_LEAVING] || p->count[POD_LEFT];

	if (!p->count[state])
		return NULL;
	list_each(at, &p->all) {
		struct pod *pod = container_of(at, struct pod, link);

		/* Told of both at once, the worker would let go of the listeners of both. */
		if (pod->state == state && !(state == POD_NEW && leave && pods_by_netns(p, pod->netns, true)))
			return pod;
	}
	return NULL;
}

struct pod *pods_by_netns(const struct pods *p, uint64_t netns, bool left)
{
	list_each(at, &p->all) {
		struct pod *pod = container_of(at, struct pod, link);

		if (pod->netns == netns && leaving(pod) == left)
			return pod;
	}
	return NULL;
}

unsigned pods_count(const struct pods *p)
{
	return p->count[POD_NEW] + p->count[POD_SENT] + p->count[POD_ENROLLED];
}

unsigned pods_waiting(const struct pods *p)
{
	return p->count[POD_NEW] + p->count[POD_SENT];
}

const struct pod *pods_outside(const struct pods *p, unsigned *ret_count)
{
	const struct pod *one = NULL;

	*ret_count = 0;
	if (!p->again.armed)
		return NULL;
	list_each(at, &p->all) {
		const struct pod *pod = container_of(at, struct pod, link);

		if (pod->outside && !(*ret_count)++)
			one = pod;
	}
	return one;
}

int pods_read(const struct pod *pod, struct wire_pod *ret)
{
	enum podfile_kind kind = leaving(pod) ? PODFILE_LEAVING : pod->update ? PODFILE_NEW
									      : PODFILE_KEPT;
	int err = podfile_read(pod->pods->plan.folder, kind, pod->number, ret);

	if (!err || !leaving(pod))
		return err;
	*ret = (struct wire_pod){.netns = pod->netns, .pod = pod->number};
	text_copy(ret->namespace, sizeof(ret->namespace), pod->namespace);
	text_copy(ret->name, sizeof(ret->name), pod->name);
	return 0;
}

void pods_unreadable(struct pod *pod)
{
	if (pod->update && pod->kept)
		pods_refused(pod);
	else
		begin_leave(pod);
}

int pods_diag(struct pod *pod)
{
	char other[WIRE_PATH];
	int netns;

	if (pod->diag >= 0)
		return pod->diag;
	netns = netns_open(pod->path);
	if (netns < 0 && !netns_find(pod->inode, other, sizeof(other)))
		netns = netns_open(other); /* the process of the path has ended, others are in there */
	if (netns < 0)
		return netns;
	/* The path may lead elsewhere by now. */
	pod->diag = netns_inode(netns) == pod->inode ? netns_diag(netns) : -ESTALE;
	close(netns);
	return pod->diag;
}

void pods_sent(struct pod *pod, uint32_t seq)
{
	pod->seq = seq;
	set_state(pod, pod->state == POD_NEW ? POD_SENT : POD_LEFT);
}

void pods_accepted(struct pod *pod)
{
	int err = pod->update ? podfile_turn(pod->pods->plan.folder, pod->number, PODFILE_NEW, PODFILE_KEPT) : 0;

	if (err)
		log_warning("pod %s/%s: its file cannot be renamed, a restart will forget it: %s", pod->namespace,
			    pod->name, strerror(-err));
	pod->kept |= pod->update && !err;
	pod->update = false;
	set_state(pod, POD_ENROLLED);
}

void pods_refused(struct pod *pod)
{
	struct pods *p = pod->pods;
	struct wire_pod *was;

	pod->served = 0; /* for whoever changes it meanwhile: it may have been for want of these */
	if (!pod->update) /* the worker takes back what it had accepted: keep it, try again with the next worker */
		return;
	if (!pod->kept) {
		begin_leave(pod);
		return;
	}
	was = mem_alloc(sizeof(*was));
	podfile_remove(p->plan.folder, PODFILE_NEW, pod->number);
	pod->update = false;
	if (podfile_read(p->plan.folder, PODFILE_KEPT, pod->number, was)) {
		log_error("pod %s/%s: its file cannot be read: released", pod->namespace, pod->name);
		begin_leave(pod);
	} else {
		take_info(pod, was);
		set_state(pod, POD_NEW);
		p->plan.hooks.to_send(p->plan.hooks.ctx);
	}
	free(was);
}

void pods_released(struct pod *pod)
{
	podfile_remove(pod->pods->plan.folder, PODFILE_LEAVING, pod->number);
	drop(pod);
}

void pods_unsent(struct pods *p)
{
	list_each(at, &p->all) {
		struct pod *pod = container_of(at, struct pod, link);

		pod->served = 0;
		if (pod->state != POD_LEAVING)
			set_state(pod, leaving(pod) ? POD_LEAVING : POD_NEW);
	}
}

/* ------------------------------------------------------------------ start and end */

/*
 * An app in there may listen on a port of ours by now, or we have no files left: no reason to take from a pod what
 * guards it, or guards others from it.
 */
static void come_back(struct pod *pod)
{
	struct pods *p = pod->pods;
	char why[PODS_WHY] = "";
	int netns = inside_same(pod->path, pod->netns), err = netns;

	if (netns < 0 && !wire_want(netns)) {
		log_warning("pod %s/%s is not taken back: its network namespace is gone", pod->namespace, pod->name);
		begin_leave(pod);
		return;
	}
	if (netns >= 0) {
		pod->inode = netns_inode(netns); /* its connections can be ended, whether it is entered or not */
		err = move_in(pod, netns, why);
		close(netns);
	}
	if (err && !pod->outside)
		log_error("pod %s/%s cannot be entered: %s; the kernel goes on deciding for it by what it has; tried "
			  "again every second",
			  pod->namespace, pod->name, why[0] ? why : strerror(-err));
	pod->outside = err;
	if (err)
		loop_arm(p->plan.loop, &p->again, AGAIN_NS);
}

static void again_due(struct loop_timer *t)
{
	struct pods *p = container_of(t, struct pods, again);

	list_each_safe(at, next, &p->all) {
		struct pod *pod = container_of(at, struct pod, link);

		if (!pod->outside)
			continue;
		come_back(pod);
		if (!pod->outside && !leaving(pod))
			taken_back(pod);
	}
}

static void adopt_one(struct pods *p, const struct wire_pod *info)
{
	struct pod *pod = make(p, info, POD_NEW);

	pod->kept = true;
	pod->listener = takeover_listeners(p->plan.takeover, pod->netns, p->plan.threads);
	pod->served = pod->listener ? p->plan.threads : 0;
	pod->listeners = pod->listener ? p->plan.threads * WIRE_LISTENERS : 0;
	come_back(pod);
}

struct adoption {
	struct pods *pods;
	bool kept; /* the second round; a netns that one pod left may be another one's by now */
	int err;
};

static void adopt(void *ctx, enum podfile_kind kind, uint32_t number)
{
	struct adoption *a = ctx;
	struct pods *p = a->pods;
	struct wire_pod *info;
	int err;

	if (a->err || a->kept != (kind == PODFILE_KEPT))
		return;
	info = mem_alloc(sizeof(*info));
	err = podfile_read(p->plan.folder, kind, number, info);
	if (wire_want(err)) {
		log_error("enrolment %u cannot be read: %s", number, strerror(-err));
		a->err = err;
	} else if (err) {
		log_warning("enrolment %u cannot be read (%s): forgotten", number, strerror(-err));
		podfile_remove(p->plan.folder, kind, number);
		if (kind != PODFILE_NEW)
			loader_inbound_gone(p->plan.loader, number);
	} else if (kind == PODFILE_NEW && podfile_is(p->plan.folder, PODFILE_KEPT, number)) {
		podfile_remove(p->plan.folder, kind, number); /* a change that nobody was told of */
	} else if (kind == PODFILE_KEPT) {
		adopt_one(p, info);
	} else {
		/* The worker may have put it into the maps: it is told, too, of what nobody was promised. */
		if (kind == PODFILE_NEW)
			err = podfile_turn(p->plan.folder, number, PODFILE_NEW, PODFILE_LEAVING);
		if (err)
			log_warning("enrolment %u cannot be renamed: %s", number, strerror(-err));
		loader_inbound_gone(p->plan.loader, number);
		loader_member_gone(p->plan.loader, info->netns);
		inside_forget(info);
		make(p, info, POD_LEAVING);
	}
	free(info);
}

static bool is_kept(void *ctx, uint32_t number)
{
	const struct pods *p = ctx;

	return podfile_is(p->plan.folder, PODFILE_KEPT, number);
}

/* Of pods that the worker has and no file knows: it is told that they have left, by a file like any other. */
static int forget_unknown(struct pods *p)
{
	struct wire_pod *info = mem_alloc(sizeof(*info));
	int err = 0;

	while (!err && (info->netns = takeover_rest(p->plan.takeover))) {
		takeover_drop(p->plan.takeover, info->netns);
		loader_member_gone(p->plan.loader, info->netns);
		if (pods_by_netns(p, info->netns, true))
			continue;
		err = podfile_next(p->plan.folder, &info->pod);
		if (!err)
			err = podfile_write(p->plan.folder, PODFILE_LEAVING, info);
		if (!err)
			make(p, info, POD_LEAVING);
	}
	free(info);
	return err;
}

int pods_adopt(struct pods *p)
{
	struct adoption a = {.pods = p};
	int err = podfile_each(p->plan.folder, adopt, &a);

	a.kept = true;
	if (!err)
		err = podfile_each(p->plan.folder, adopt, &a);
	if (!err)
		err = a.err;
	if (!err)
		err = loader_inbound_rest(p->plan.loader, is_kept, p);
	if (!err)
		err = forget_unknown(p);
	if (!err && pods_count(p))
		log_info("%u pod%s taken back", pods_count(p), text_plural(pods_count(p)));
	return err;
}

int pods_open(struct pods **ret, const struct pods_plan *plan)
{
	struct pods *p = mem_alloc(sizeof(*p));

	p->plan = *plan;
	list_init(&p->all);
	p->again.due = again_due;
	p->room = vigil_open(plan->loop);
	if (!p->room) {
		int err = -errno;

		log_error("inotify cannot be used: %s", strerror(-err));
		free(p);
		return err;
	}
	*ret = p;
	return 0;
}

void pods_close(struct pods *p)
{
	if (!p)
		return;
	list_each_safe(at, next, &p->all) {
		struct pod *pod = container_of(at, struct pod, link);

		if (pod->vigil)
			vigil_stop(pod->vigil);
		inside_close(pod);
		if (pod->diag >= 0)
			close(pod->diag);
		drop(pod);
	}
	loop_disarm(p->plan.loop, &p->again);
	vigil_close(p->room);
	free(p);
}
