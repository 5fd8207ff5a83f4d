/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c: see loader.h. */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reader.h"
#include "settings.h"
#include "weft.skel.h"

#define PATH (WIRE_PATH / 2)

/* Maps that the worker gets, by place in WIRE_START. `splices` and `socks` stay with the programs. */
static const char *const map_name[] = {
	[WIRE_FD_SETTINGS] = "settings",
	[WIRE_FD_PODS] = "pods",
	[WIRE_FD_ADDRESSES] = "addresses",
	[WIRE_FD_SERVICES] = "services",
	[WIRE_FD_ENDPOINTS] = "endpoints",
	[WIRE_FD_AFFINITY] = "affinity",
	[WIRE_FD_POLICIES] = "policies",
	[WIRE_FD_SOURCES] = "sources",
	[WIRE_FD_BLOCKS] = "blocks",
	[WIRE_FD_PORTS] = "ports",
	[WIRE_FD_CONNS] = "conns",
	[WIRE_FD_PAIRS] = "pairs",
	[WIRE_FD_READERS] = "readers",
	[WIRE_FD_TRAFFIC] = "traffic",
	[WIRE_FD_REFUSALS] = "refusals",
	[WIRE_FD_REASONS] = "reasons",
	[WIRE_FD_BEAT] = "beat",
	[WIRE_FD_OWN] = "own",
};

enum hook { HOOK_CGROUP, HOOK_MSG, HOOK_NETNS, HOOK_ITERATOR, HOOK_RUN };

/*
 * Every program, in the order of attaching: sk_msg and setsockopt stand before the first socket is entered.
 * What is `needed` decides who may talk with whom, so there is no weft without; the rest costs a feature.
 */
static const struct program {
	const char *name, *row;
	enum hook hook;
	enum bpf_attach_type attach;
	bool needed;
	const char *without;
} programs[] = {
	{"weft_msg", "sk_msg", HOOK_MSG, BPF_SK_MSG_VERDICT, false, "no splice: same-node traffic by TCP"},
	{"weft_live", "iterator", HOOK_ITERATOR, BPF_TRACE_ITER, false, "bytes that TCP carries are not shown"},
	{"weft_watch", "watch", HOOK_ITERATOR, BPF_TRACE_ITER, false, "no splice: same-node traffic by TCP"},
	{"weft_enter", "enter", HOOK_RUN, 0, false, "no splice: same-node traffic by TCP"},
	{"weft_setopt", "setsockopt", HOOK_CGROUP, BPF_CGROUP_SETSOCKOPT, false,
	 "no splice: an option that is set later would be missed"},
	{"weft_sockops", "sockops", HOOK_CGROUP, BPF_CGROUP_SOCK_OPS, true, NULL},
	{"weft_getpeer4", "getpeername4", HOOK_CGROUP, BPF_CGROUP_INET4_GETPEERNAME, false,
	 "apps see the endpoint, not the service's address"},
	{"weft_getpeer6", "getpeername6", HOOK_CGROUP, BPF_CGROUP_INET6_GETPEERNAME, false,
	 "apps see the endpoint, not the service's address"},
	{"weft_connect4", "connect4", HOOK_CGROUP, BPF_CGROUP_INET4_CONNECT, true, NULL},
	{"weft_connect6", "connect6", HOOK_CGROUP, BPF_CGROUP_INET6_CONNECT, true, NULL},
	{"weft_inbound", "sk_lookup", HOOK_NETNS, BPF_SK_LOOKUP, true, NULL},
};

struct loader {
	char root[PATH]; /* PINS_ROOT/INSTANCE */
	int fd[WIRE_FD_LIVE + 1];
	int settings; /* to write; the worker's only reads */
	int inbound; /* program weft_inbound */
	int listeners;
	bool live; /* fd[WIRE_FD_LIVE] is an iterator */
	struct loader_watch watch;
};

/* ------------------------------------------------------------------ libbpf's voice */

static char last_words[160]; /* why the last load failed */

static int hear(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char *said = NULL;

	if (level == LIBBPF_DEBUG || vasprintf(&said, fmt, args) < 0)
		return 0;
	if (level == LIBBPF_WARN)
		probe_hear(said, last_words, sizeof(last_words));
	log_debug("%.*s", (int)strcspn(said, "\n"), said);
	free(said);
	return 0;
}

/* ------------------------------------------------------------------ loading */

static const char *in(char buf[WIRE_PATH], const struct loader *l, const char *folder, const char *name)
{
	(void)snprintf(buf, WIRE_PATH, "%s/%s%s%s", l->root, folder, folder[0] ? "/" : "", name);
	return buf;
}

static const char *map_path(char buf[WIRE_PATH], const struct loader *l, const char *name)
{
	if (text_equal(name, "members") || text_equal(name, "readers") || text_equal(name, "misled") ||
	    text_equal(name, "caught")) /* of all instances: reader.h */
		(void)snprintf(buf, WIRE_PATH, READER_ROOT "/%s", name);
	else
		(void)in(buf, l, "", name);
	return buf;
}

/* One program alone, with small maps that nobody keeps. 0 or -errno */
static int try_one(const struct program *which)
{
	struct weft_bpf *skel = weft_bpf__open();
	struct bpf_program *prog;
	struct bpf_map *map;
	int err;

	if (!skel)
		return -errno;
	bpf_object__for_each_program(prog, skel->obj)
		(void)bpf_program__set_autoload(prog, text_equal(bpf_program__name(prog), which->name));
	bpf_object__for_each_map(map, skel->obj)
		if (bpf_map__max_entries(map) > 4096)
			(void)bpf_map__set_max_entries(map, 4096);
	last_words[0] = '\0';
	err = weft_bpf__load(skel);
	weft_bpf__destroy(skel);
	return err;
}

static void row_ok(struct probe *p, const struct program *which)
{
	static const char *const hook[] = {
		[HOOK_CGROUP] = "on the cgroup",
		[HOOK_MSG] = "on map splices",
		[HOOK_NETNS] = "in each pod's netns",
		[HOOK_ITERATOR] = "over its map",
		[HOOK_RUN] = "run in a pod's netns",
	};

	probe_row(p, which->row, WIRE_PROBE_OK, "%s %s", which->name, hook[which->hook]);
}

static void row_refused(struct probe *p, const struct program *which, int err)
{
	if (which->needed) {
		probe_row(p, which->row, WIRE_PROBE_FAILED, "%s: %s", strerror(-err), last_words);
		return;
	}
	probe_row(p, which->row, WIRE_PROBE_OFF, "%s: %s", which->without, strerror(-err));
	log_info("program %s is not taken by this kernel: %s: %s", which->name, strerror(-err), last_words);
}

/* Which programs does the kernel take? Bits of `programs`; rows of `p`. */
static uint32_t try_all(struct probe *p, const struct bpf_object *obj)
{
	uint32_t good = 0;

	for (unsigned i = 0; i < array_size(programs); i++) {
		int err;

		if (!bpf_object__find_program_by_name(obj, programs[i].name))
			continue; /* this version of weft has none */
		err = try_one(&programs[i]);
		if (err) {
			row_refused(p, &programs[i], err);
			if (programs[i].needed)
				log_error("program %s cannot be loaded: %s: %s", programs[i].name,
					  strerror(-err), last_words);
			continue;
		}
		row_ok(p, &programs[i]);
		good |= 1u << i;
	}
	return good;
}

static bool all_needed(uint32_t good)
{
	for (unsigned i = 0; i < array_size(programs); i++)
		if (programs[i].needed && !(good & 1u << i))
			return false;
	return true;
}

int loader_try(struct probe *p)
{
	struct weft_bpf *skel;
	uint32_t good;

	libbpf_set_print(hear);
	skel = weft_bpf__open();
	if (!skel) {
		log_error("the BPF programs cannot be read: %s", strerror(errno));
		return -errno;
	}
	good = try_all(p, skel->obj);
	weft_bpf__destroy(skel);
	return all_needed(good) ? 0 : -ENOTSUP;
}

/* ------------------------------------------------------------------ pinned maps of a predecessor */

static bool same_definition(int fd, const struct bpf_map *map)
{
	struct bpf_map_info info = {0};
	__u32 size = sizeof(info);

	return !bpf_obj_get_info_by_fd(fd, &info, &size) && info.type == bpf_map__type(map) &&
	       info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map);
}

static bool same_version(int settings)
{
	struct abi_settings s;
	__u32 key = 0;

	return !bpf_map_lookup_elem(settings, &key, &s) && s.version == ABI_VERSION;
}

/* Can all that is pinned be taken over? A map that is not there is simply made. */
static bool may_adopt(const struct loader *l, const struct bpf_object *obj)
{
	const struct bpf_map *map;
	char path[WIRE_PATH];
	bool same = true;

	bpf_object__for_each_map(map, obj) {
		int fd = bpf_map__is_internal(map) ? -1 : bpf_obj_get(map_path(path, l, bpf_map__name(map)));

		if (fd < 0)
			continue;
		if (!same_definition(fd, map) ||
		    (text_equal(bpf_map__name(map), "settings") && !same_version(fd))) {
			log_info("pinned map %s is of another version of weft", bpf_map__name(map));
			same = false;
		}
		close(fd);
	}
	return same;
}

/*
 * Maps of another version lose their pins before the new ones are made; the old programs hold them until the links
 * are updated. Their splice is off from now on.
 */
static int retire(const struct loader *l)
{
	char path[WIRE_PATH];
	int fd = bpf_obj_get(in(path, l, "", "settings"));

	log_warning("replacing the maps of another version of weft: live connections go on by TCP, new "
		    "ones are undecided until the worker has read its objects");
	if (fd >= 0) {
		int err = pins_switch_off(fd);

		close(fd);
		if (err)
			log_warning("splice of the old version cannot be switched off: %s", strerror(-err));
	}
	return pins_unlink(l->root, false);
}

static int set_pins(const struct loader *l, const struct bpf_object *obj)
{
	struct bpf_map *map;
	char path[WIRE_PATH];
	int err = 0;

	bpf_object__for_each_map(map, obj) {
		if (err || bpf_map__is_internal(map))
			continue;
		err = bpf_map__set_pin_path(map, map_path(path, l, bpf_map__name(map)));
	}
	return err;
}

static int load(struct loader *l, struct weft_bpf **ret, struct probe *p)
{
	uint32_t good = ~0u;

	for (;;) {
		struct weft_bpf *skel = weft_bpf__open();
		int err;

		if (!skel)
			return -errno;
		for (unsigned i = 0; i < array_size(programs); i++) {
			struct bpf_program *prog =
				bpf_object__find_program_by_name(skel->obj, programs[i].name);

			if (prog && (!(good & 1u << i) ||
				     (programs[i].hook == HOOK_ITERATOR && !p->iterates)))
				(void)bpf_program__set_autoload(prog, false);
		}
		err = may_adopt(l, skel->obj) ? 0 : retire(l);
		if (!err)
			err = set_pins(l, skel->obj);
		last_words[0] = '\0';
		if (!err)
			err = weft_bpf__load(skel);
		if (!err) {
			*ret = skel;
			return 0;
		}
		if (good == ~0u) { /* who is it? */
			good = try_all(p, skel->obj);
			weft_bpf__destroy(skel);
			if (!all_needed(good))
				return err;
			continue;
		}
		log_error("the BPF programs cannot be loaded: %s: %s", strerror(-err), last_words);
		weft_bpf__destroy(skel);
		return err;
	}
}

/* ------------------------------------------------------------------ attaching */

/* Does this pinned link hold our cgroup? A link whose cgroup is gone says 0. */
static bool same_cgroup(int link, int cgroup)
{
	struct bpf_link_info info = {0};
	__u32 size = sizeof(info);
	struct stat st;

	return !bpf_obj_get_info_by_fd(link, &info, &size) && info.type == BPF_LINK_TYPE_CGROUP &&
	       !fstat(cgroup, &st) && info.cgroup.cgroup_id == st.st_ino; /* kernfs: 64-bit inode = id */
}

static int attach_cgroup(const struct loader *l, const struct program *which, int prog, int cgroup)
{
	char path[WIRE_PATH], dir[WIRE_PATH];
	int link = bpf_obj_get(in(path, l, "links", which->name)), err;

	if (link >= 0 && same_cgroup(link, cgroup)) {
		err = bpf_link_update(link, prog, NULL);
		close(link);
		return err;
	}
	if (link >= 0)
		close(link);
	link = bpf_link_create(prog, cgroup, which->attach, NULL);
	if (link < 0)
		return link;
	(void)snprintf(dir, sizeof(dir), "%s/links", l->root);
	err = pins_replace(link, dir, which->name); /* a link to another cgroup goes with its pin */
	close(link);
	return err;
}

static int keep_fd(int fd, int *ret)
{
	*ret = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return *ret < 0 ? -errno : 0;
}

static int attach_iterator(struct loader *l, const struct weft_bpf *skel, const struct program *which, int prog)
{
	bool watch = text_equal(which->name, "weft_watch");
	union bpf_iter_link_info info = {
		.map.map_fd = (__u32)bpf_map__fd(watch ? skel->maps.socks : skel->maps.conns)};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	int link = bpf_link_create(prog, 0, which->attach, &opts), err;
	char dir[WIRE_PATH];

	if (link < 0)
		return link;
	(void)snprintf(dir, sizeof(dir), "%s/links", l->root);
	err = pins_replace(link, dir, which->name);
	if (err)
		close(link);
	else
		*(watch ? &l->watch.link : &l->fd[WIRE_FD_LIVE]) = link;
	return err;
}

static int attach(struct loader *l, const struct weft_bpf *skel, const struct program *which, int prog, int cgroup)
{
	switch (which->hook) {
	case HOOK_CGROUP:
		return attach_cgroup(l, which, prog, cgroup);
	case HOOK_MSG:
		return bpf_prog_attach(prog, bpf_map__fd(skel->maps.splices), which->attach, 0);
	case HOOK_ITERATOR:
		return attach_iterator(l, skel, which, prog);
	case HOOK_RUN:
		return keep_fd(prog, &l->watch.enter);
	case HOOK_NETNS:
		return keep_fd(prog, &l->inbound);
	}
	return -EINVAL;
}

/* EPERM of a cgroup hook, for one who has the capability */
static const char foreign[] = ": another program holds the cgroup without BPF_F_ALLOW_MULTI: see "
			      "`bpftool cgroup tree`";

static int attach_all(struct loader *l, const struct weft_bpf *skel, struct probe *p)
{
	char dir[WIRE_PATH];

	(void)snprintf(dir, sizeof(dir), "%s/progs", l->root);
	for (unsigned i = 0; i < array_size(programs); i++) {
		const struct program *which = &programs[i];
		const struct bpf_program *prog = bpf_object__find_program_by_name(skel->obj, which->name);
		int fd = prog && bpf_program__autoload(prog) ? bpf_program__fd(prog) : -1, err;

		if (fd < 0)
			continue;
		err = attach(l, skel, which, fd, p->cgroup_fd);
		if (!err)
			err = pins_replace(fd, dir, which->name);
		if (!err) {
			row_ok(p, which);
			continue;
		}
		row_refused(p, which, err);
		if (!which->needed)
			continue;
		log_error("program %s cannot be attached: %s%s", which->name, strerror(-err),
			  err == -EPERM && which->hook == HOOK_CGROUP ? foreign : "");
		return err;
	}
	return 0;
}

/* ------------------------------------------------------------------ settings */

int loader_reader_lost(struct loader *l)
{
	return settings_reader_lost(l->settings);
}

int loader_splice(struct loader *l, bool on)
{
	return settings_splice(l->settings, on);
}

bool loader_splice_on(const struct loader *l)
{
	return settings_splice_on(l->settings);
}

/* ------------------------------------------------------------------ open, close */

static int folders(const struct loader *l)
{
	static const char *const below[] = {"progs", "links", "netns"};
	char path[WIRE_PATH];
	int err = pins_folder(PINS_ROOT);

	if (!err)
		err = pins_folder(READER_ROOT);
	if (!err)
		err = pins_folder(l->root);
	for (unsigned i = 0; i < array_size(below) && !err; i++)
		err = pins_folder(in(path, l, "", below[i]));
	if (err)
		log_error("pin folder %s cannot be made: %s; weftd must write there", l->root, strerror(-err));
	return err;
}

/*
 * An fd by which nothing can be changed: the worker reads strangers' bytes, and decides nothing by these. Of `conns`
 * and `pairs` the programs follow addresses into the kernel, and weft_live tells what it finds there.
 */
static int keep_readable(int map, int *ret)
{
	LIBBPF_OPTS(bpf_get_fd_by_id_opts, opts, .open_flags = BPF_F_RDONLY);
	struct bpf_map_info info = {0};
	__u32 size = sizeof(info);
	int err = bpf_obj_get_info_by_fd(map, &info, &size);

	*ret = err ? -1 : bpf_map_get_fd_by_id_opts(info.id, &opts);
	return err ? err : *ret < 0 ? *ret : 0;
}

static bool reads_only(unsigned which)
{
	return which == WIRE_FD_SETTINGS || which == WIRE_FD_READERS || which == WIRE_FD_CONNS ||
	       which == WIRE_FD_PAIRS;
}

/* The fds that are kept; libbpf's object goes, with its megabytes. */
static int keep(struct loader *l, const struct weft_bpf *skel)
{
	const struct {
		const struct bpf_map *map;
		int *to;
	} own[] = {{skel->maps.watches, &l->watch.watches}, {skel->maps.wake, &l->watch.wake},
		   {skel->maps.caught, &l->watch.caught}, {skel->maps.members, &l->watch.members},
		   {skel->maps.misled, &l->watch.misled}, {skel->maps.listeners, &l->listeners},
		   {skel->maps.conns, &l->watch.conns},	  {skel->maps.pairs, &l->watch.pairs},
		   {skel->maps.holds, &l->watch.holds},
		   {skel->maps.settings, &l->settings}};
	int err = 0;

	for (unsigned i = 0; !err && i < array_size(own); i++)
		err = keep_fd(bpf_map__fd(own[i].map), own[i].to);
	if (err)
		return err;
	for (unsigned i = 0; i < array_size(map_name); i++) {
		const struct bpf_map *map = bpf_object__find_map_by_name(skel->obj, map_name[i]);

		err = !map ? -ENOENT : reads_only(i) ? keep_readable(bpf_map__fd(map), &l->fd[i])
						     : keep_fd(bpf_map__fd(map), &l->fd[i]);
		if (err)
			return err;
	}
	return 0;
}

int loader_open(struct loader **ret, const char *instance, struct probe *p)
{
	struct loader *l = mem_alloc(sizeof(*l));
	struct weft_bpf *skel = NULL;
	int err;

	libbpf_set_print(hear);
	for (unsigned i = 0; i < array_size(l->fd); i++)
		l->fd[i] = -1;
	l->inbound = l->listeners = l->settings = -1;
	l->watch = (struct loader_watch){.link = -1, .enter = -1, .watches = -1, .wake = -1, .caught = -1,
					 .members = -1, .misled = -1, .conns = -1, .pairs = -1, .holds = -1};
	(void)snprintf(l->root, sizeof(l->root), PINS_ROOT "/%s", instance);
	err = folders(l);
	if (!err)
		err = load(l, &skel, p);
	if (!err)
		err = keep(l, skel);
	if (!err) {
		bool reader_seen = p->iterates && reader_open(
			p,
			&(struct reader_maps){.members = l->watch.members,
					      .readers = bpf_map__fd(skel->maps.readers),
					      .misled = l->watch.misled,
					      .caught = l->watch.caught},
			!p->counts_tcp);

		err = settings_begin(l->settings, p, reader_seen);
		if (!err)
			err = attach_all(l, skel, p);
	}
	if (skel)
		weft_bpf__destroy(skel);
	(void)malloc_trim(0); /* the kernel's BTF, parsed, was 40 MB */
	l->live = l->fd[WIRE_FD_LIVE] >= 0;
	if (!err && !l->live) { /* the worker gets an fd in its place */
		l->fd[WIRE_FD_LIVE] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		err = l->fd[WIRE_FD_LIVE] < 0 ? -errno : 0;
	}
	if (!err && wire_splice_lacks(p->row, p->rows))
		err = loader_splice(l, false);
	if (err) {
		loader_close(l);
		return err;
	}
	*ret = l;
	return 0;
}

void loader_close(struct loader *l)
{
	const int watch[] = {l ? l->watch.link : -1,	l ? l->watch.enter : -1,   l ? l->watch.watches : -1,
			     l ? l->watch.wake : -1,	l ? l->watch.caught : -1,  l ? l->watch.members : -1,
			     l ? l->watch.misled : -1, l ? l->listeners : -1,  l ? l->settings : -1,
			     l ? l->watch.conns : -1,	l ? l->watch.pairs : -1,   l ? l->watch.holds : -1};

	if (!l)
		return;
	for (unsigned i = 0; i < array_size(l->fd); i++)
		if (l->fd[i] >= 0)
			close(l->fd[i]);
	if (l->inbound >= 0)
		close(l->inbound);
	for (unsigned i = 0; i < array_size(watch); i++)
		if (watch[i] >= 0)
			close(watch[i]);
	free(l);
}

int loader_member(struct loader *l, uint64_t netns)
{
	__u32 one = 1;

	return bpf_map_update_elem(l->watch.members, &netns, &one, BPF_ANY);
}

void loader_member_gone(struct loader *l, uint64_t netns)
{
	(void)bpf_map_delete_elem(l->watch.members, &netns); /* no error if it has aged out */
}

int loader_own(struct loader *l, int sock, enum abi_path path)
{
	struct abi_own own = {.own = 1, .path = path};

	return bpf_map_update_elem(l->fd[WIRE_FD_OWN], &sock, &own, BPF_ANY);
}

int loader_listener(struct loader *l, uint64_t netns, int sock)
{
	__u64 value = (__u64)sock;

	return bpf_map_update_elem(l->listeners, &netns, &value, BPF_ANY);
}

void loader_listener_gone(struct loader *l, uint64_t netns)
{
	(void)bpf_map_delete_elem(l->listeners, &netns); /* gone already if it was closed */
}

const struct loader_watch *loader_watch(const struct loader *l)
{
	return &l->watch;
}

bool loader_live(const struct loader *l)
{
	return l->live;
}

int loader_fd(const struct loader *l, enum wire_fd which)
{
	return which <= WIRE_FD_LIVE ? l->fd[which] : -1;
}

/* ------------------------------------------------------------------ sk_lookup in a pod's netns */

static bool same_netns(int link, int netns)
{
	struct bpf_link_info info = {0};
	__u32 size = sizeof(info);
	struct stat st;

	return !bpf_obj_get_info_by_fd(link, &info, &size) && info.type == BPF_LINK_TYPE_NETNS &&
	       !fstat(netns, &st) && info.netns.netns_ino == st.st_ino;
}

int loader_inbound(struct loader *l, uint32_t pod, int netns)
{
	char path[WIRE_PATH], dir[WIRE_PATH], name[16];
	int link, err;

	(void)snprintf(name, sizeof(name), "%u", pod);
	link = bpf_obj_get(in(path, l, "netns", name));
	if (link >= 0 && same_netns(link, netns)) {
		err = bpf_link_update(link, l->inbound, NULL);
		close(link);
		return err;
	}
	if (link >= 0)
		close(link);
	link = bpf_link_create(l->inbound, netns, BPF_SK_LOOKUP, NULL);
	if (link < 0)
		return link;
	(void)snprintf(dir, sizeof(dir), "%s/netns", l->root);
	err = pins_replace(link, dir, name);
	close(link);
	return err;
}

void loader_inbound_gone(struct loader *l, uint32_t pod)
{
	char dir[WIRE_PATH], name[16];

	(void)snprintf(name, sizeof(name), "%u", pod);
	pins_drop(in(dir, l, "", "netns"), name);
}

int loader_inbound_rest(struct loader *l, bool (*stays)(void *ctx, uint32_t pod), void *ctx)
{
	char dir[WIRE_PATH];

	return pins_rest(in(dir, l, "", "netns"), stays, ctx);
}
