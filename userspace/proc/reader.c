/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c: see reader.h. */
#include "reader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader.h"
#include "reader.skel.h"

#define FENTRIES 3
#define SLOTS 4	      /* pointers that are watched: two of each family */
#define SLOT_WAIT_US 10000
#define SLOT_TRIES 50 /* half a second: the slots of links that are gone are given back a little later */

/* ------------------------------------------------------------------ what is there */

static bool exists(const char *name)
{
	char path[WIRE_PATH];

	(void)snprintf(path, sizeof(path), READER_ROOT "/%s", name);
	return !access(path, F_OK);
}

static const char *slot_name(char buf[32], unsigned cpu, unsigned slot)
{
	(void)snprintf(buf, 32, "weft_loaded_%u_%u", cpu, slot);
	return buf;
}

/* Attached by another instance, or by a predecessor? */
static bool attached(struct probe *p, int caught)
{
	struct abi_caught c = {0};
	__u32 key = 0;
	char name[32];

	if (bpf_map_lookup_elem(caught, &key, &c) || c.version != ABI_VERSION)
		return false;
	if (exists("weft_spliced")) {
		probe_row(p, "splice readers", WIRE_PROBE_OK, "fentry on tcp_splice_read");
		return true;
	}
	if (exists("weft_read_sock")) {
		probe_row(p, "splice readers", WIRE_PROBE_OK, "a tracepoint of TCP, as there is no fentry");
		return true;
	}
	if (exists("weft_sys_splice")) {
		probe_row(p, "splice readers", WIRE_PROBE_OK, "tracepoints of system calls, as there is no fentry");
		return true;
	}
	if (!exists(slot_name(name, 0, 0)))
		return false;
	probe_row(p, "splice readers", WIRE_PROBE_OK, "hardware watchpoints on proto_ops of TCP");
	return true;
}

/* For everybody who has these maps: the programs are there from now on. */
static bool announce(int caught)
{
	struct abi_caught c = {0};
	__u32 key = 0;

	if (bpf_map_lookup_elem(caught, &key, &c))
		return false;
	c.version = ABI_VERSION;
	c.caught++; /* whoever is spliced is judged again */
	return !bpf_map_update_elem(caught, &key, &c, BPF_ANY);
}

/* ------------------------------------------------------------------ the object */

static struct reader_bpf *object_open(const struct reader_maps *m)
{
	struct reader_bpf *skel = reader_bpf__open();
	struct bpf_program *prog;

	if (!skel)
		return NULL;
	bpf_object__for_each_program(prog, skel->obj)
		(void)bpf_program__set_autoload(prog, false);
	if (bpf_map__reuse_fd(skel->maps.members, m->members) ||
	    bpf_map__reuse_fd(skel->maps.readers, m->readers) || bpf_map__reuse_fd(skel->maps.misled, m->misled) ||
	    bpf_map__reuse_fd(skel->maps.caught, m->caught)) {
		reader_bpf__destroy(skel);
		return NULL;
	}
	return skel;
}

static int attach_fentry(const struct reader_maps *m, bool count_fault)
{
	struct reader_bpf *skel = object_open(m);
	struct bpf_program *programs[FENTRIES];
	int err = skel ? 0 : -ENOMEM;
	bool own_ioctl = libbpf_find_vmlinux_btf_id("tcp_bpf_ioctl", BPF_TRACE_FENTRY) > 0; /* older: tcp_ioctl only */
	unsigned count = !count_fault ? 1 : own_ioctl ? FENTRIES : FENTRIES - 1;

	if (skel) {
		programs[0] = skel->progs.weft_spliced;
		programs[1] = skel->progs.weft_counted;
		programs[2] = skel->progs.weft_counted_in;
		for (unsigned i = 0; i < count; i++)
			(void)bpf_program__set_autoload(programs[i], true);
		err = reader_bpf__load(skel);
	}
	for (unsigned i = 0; !err && i < count; i++) {
		struct bpf_link *link = bpf_program__attach(programs[i]);

		err = link ? pins_replace(bpf_link__fd(link), READER_ROOT, bpf_program__name(programs[i])) : -errno;
		bpf_link__destroy(link);
	}
	reader_bpf__destroy(skel);
	return err;
}

/* ------------------------------------------------------------------ tracepoints */

/* A tracefs that nobody else sees: the numbers of events stand there, and it may not be mounted. fd or -errno */
static int tracefs(void)
{
	int fs = fsopen("tracefs", FSOPEN_CLOEXEC), mount, err;

	if (fs < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) {
		err = -errno;
		close(fs);
		return err;
	}
	mount = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	err = -errno;
	close(fs);
	return mount < 0 ? err : mount;
}

static int event_number(int traces, const char *event)
{
	char path[128], text[16] = {0};
	long long number;
	int fd;

	(void)snprintf(path, sizeof(path), "events/%s/id", event);
	fd = openat(traces, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	number = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[strcspn(text, "\n")] = '\0';
	return number <= 0 || text_number(text, 1, INT32_MAX, &number) ? -EIO : (int)number;
}

/* One event is enough: the program runs on every CPU. */
static int trace(int traces, const char *event, const struct bpf_program *prog)
{
	struct perf_event_attr attr = {.type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .sample_period = 1};
	int number = event_number(traces, event), fd, link, err;

	if (number < 0)
		return number;
	attr.config = (uint64_t)number;
	fd = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return -errno;
	link = bpf_link_create(bpf_program__fd(prog), fd, BPF_PERF_EVENT, NULL);
	close(fd);
	if (link < 0)
		return link;
	err = pins_replace(link, READER_ROOT, bpf_program__name(prog));
	close(link);
	return err;
}

/* Splices by a ring. Fine without, if the kernel has no io_uring. */
static int trace_rings(int traces, const struct reader_bpf *skel)
{
	int err = trace(traces, "io_uring/io_uring_submit_req", skel->progs.weft_submit);

	return err == -ENOENT ? 0 : err;
}

static int trace_tcp(const struct bpf_program *prog)
{
	int link = bpf_raw_tracepoint_open("tcp_rcv_space_adjust", bpf_program__fd(prog)), err;

	if (link < 0)
		return link;
	err = pins_replace(link, READER_ROOT, bpf_program__name(prog));
	close(link);
	return err;
}

static int trace_calls(int traces, const struct reader_bpf *skel, bool count_fault)
{
	int err = count_fault ? trace(traces, "syscalls/sys_enter_ioctl", skel->progs.weft_sys_ioctl) : 0;

	return err ? err : trace(traces, "syscalls/sys_enter_splice", skel->progs.weft_sys_splice);
}

static int attach_tracepoints(const struct reader_maps *m, bool count_fault, bool calls)
{
	struct reader_bpf *skel = object_open(m);
	int err = skel ? 0 : -ENOMEM, traces = -1;

	if (skel) {
		(void)bpf_program__set_autoload(skel->progs.weft_submit, true);
		(void)bpf_program__set_autoload(skel->progs.weft_read_sock, !calls);
		(void)bpf_program__set_autoload(skel->progs.weft_sys_splice, calls);
		(void)bpf_program__set_autoload(skel->progs.weft_sys_ioctl, calls && count_fault);
		err = reader_bpf__load(skel);
	}
	if (!err) {
		traces = tracefs();
		err = traces < 0 ? traces : trace_rings(traces, skel);
	}
	if (!err) /* the last: it says that all are there */
		err = calls ? trace_calls(traces, skel, count_fault) : trace_tcp(skel->progs.weft_read_sock);
	if (traces >= 0)
		close(traces);
	reader_bpf__destroy(skel);
	return err;
}

/* ------------------------------------------------------------------ watchpoints */

/* proto_ops of a TCP socket of that family, as the kernel's own socket shows it. */
static int ops_of(const struct reader_bpf *skel, int family, struct abi_ops *ret)
{
	union bpf_iter_link_info info = {.map.map_fd = (__u32)bpf_map__fd(skel->maps.samples)};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	int sock = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), link, fd, err = 0;
	__u32 value = 0;

	if (sock < 0)
		return -errno;
	if (bpf_map_update_elem((int)info.map.map_fd, &sock, &value, BPF_ANY)) {
		err = -errno;
		close(sock);
		return err;
	}
	link = bpf_link_create(bpf_program__fd(skel->progs.weft_ops), 0, BPF_TRACE_ITER, &opts);
	fd = link < 0 ? link : bpf_iter_create(link);
	if (fd < 0)
		err = fd;
	else if (read(fd, ret, sizeof(*ret)) != sizeof(*ret) || !ret->splice_read || !ret->ioctl)
		err = -EIO;
	if (fd >= 0)
		close(fd);
	if (link >= 0)
		close(link);
	close(sock);
	return err;
}

/* Addresses of the pointers, 0 where there is no such family; ops of both families. */
static int find_ops(const struct reader_maps *m, bool count_fault, uint64_t ops[2], uint64_t pointer[SLOTS])
{
	static const int family[] = {AF_INET, AF_INET6};
	struct reader_bpf *skel = object_open(m);
	struct abi_ops at;
	int err = skel ? 0 : -ENOMEM;

	if (skel) {
		(void)bpf_program__set_autoload(skel->progs.weft_ops, true);
		err = reader_bpf__load(skel);
	}
	for (unsigned i = 0; !err && i < array_size(family); i++) {
		err = ops_of(skel, family[i], &at);
		if (err == -EAFNOSUPPORT) {
			err = 0;
			continue;
		}
		if (err)
			break;
		ops[i] = at.ops;
		pointer[2 * i] = at.splice_read;
		pointer[2 * i + 1] = count_fault ? at.ioctl : 0;
	}
	reader_bpf__destroy(skel);
	return err;
}

static int watch_pointer(int prog, unsigned cpu, unsigned slot, uint64_t address)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_RW,
		.bp_addr = address,
		.bp_len = HW_BREAKPOINT_LEN_8,
		.sample_period = 1,
	};
	char name[32];
	int fd, link, err;

	for (unsigned i = 0;; i++) {
		fd = (int)syscall(SYS_perf_event_open, &attr, -1, (int)cpu, -1, PERF_FLAG_FD_CLOEXEC);
		if (fd >= 0 || errno != ENOSPC || i == SLOT_TRIES)
			break;
		(void)usleep(SLOT_WAIT_US);
	}
	if (fd < 0)
		return -errno;
	link = bpf_link_create(prog, fd, BPF_PERF_EVENT, NULL);
	close(fd);
	if (link < 0)
		return link;
	err = pins_replace(link, READER_ROOT, slot_name(name, cpu, slot));
	close(link);
	return err;
}

static int attach_watchpoints(const struct reader_maps *m, bool count_fault)
{
	uint64_t ops[2] = {0}, pointer[SLOTS] = {0};
	struct reader_bpf *skel = NULL;
	int err = pins_unlink(READER_ROOT, false), cpus = libbpf_num_possible_cpus(), prog[2] = {-1, -1};

	if (!err)
		err = bpf_obj_pin(m->members, READER_ROOT "/members");
	if (!err)
		err = bpf_obj_pin(m->readers, READER_ROOT "/readers");
	if (!err)
		err = bpf_obj_pin(m->misled, READER_ROOT "/misled");
	if (!err)
		err = bpf_obj_pin(m->caught, READER_ROOT "/caught");
	if (!err)
		err = find_ops(m, count_fault, ops, pointer);
	if (!err) {
		skel = object_open(m);
		err = skel ? 0 : -ENOMEM;
	}
	if (!err) {
		skel->rodata->stream_ops[0] = ops[0];
		skel->rodata->stream_ops[1] = ops[1];
		(void)bpf_program__set_autoload(skel->progs.weft_loaded, true);
		(void)bpf_program__set_autoload(skel->progs.weft_asked, count_fault);
		err = reader_bpf__load(skel);
	}
	if (!err) {
		prog[0] = bpf_program__fd(skel->progs.weft_loaded);
		prog[1] = count_fault ? bpf_program__fd(skel->progs.weft_asked) : -1;
	}
	for (int cpu = 0; !err && cpu < cpus; cpu++) {
		for (unsigned slot = 0; !err && slot < SLOTS; slot++) {
			if (pointer[slot])
				err = watch_pointer(prog[slot & 1], (unsigned)cpu, slot, pointer[slot]);
			if (err == -ENODEV) { /* this CPU is not there */
				err = 0;
				break;
			}
		}
	}
	reader_bpf__destroy(skel);
	return err;
}

/* ------------------------------------------------------------------ open, remove */

static int lock(void)
{
	int dir = open(READER_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir >= 0 && flock(dir, LOCK_EX)) {
		close(dir);
		return -errno;
	}
	return dir < 0 ? -errno : dir;
}

bool reader_open(struct probe *p, const struct reader_maps *m, bool count_fault)
{
	int dir = lock(), fentry, tcp = 0, traced = 0, watch = 0;
	bool seen = dir >= 0 && attached(p, m->caught);

	if (dir >= 0 && !seen) {
		fentry = attach_fentry(m, count_fault);
		if (fentry && !count_fault)
			tcp = attach_tracepoints(m, false, false);
		if (fentry && (count_fault || tcp))
			traced = attach_tracepoints(m, count_fault, true);
		if (fentry && traced)
			watch = attach_watchpoints(m, count_fault);
		if (!fentry || !traced || !watch)
			seen = announce(m->caught) && attached(p, m->caught);
		if (!seen)
			probe_row(p, "splice readers", WIRE_PROBE_OFF,
				  "only `always` splices: this kernel shows no reader by splice(2): fentry: %s; "
				  "tracepoint: %s; watchpoint: %s",
				  strerror(-fentry), strerror(-traced), strerror(-watch));
	}
	if (dir < 0)
		probe_row(p, "splice readers", WIRE_PROBE_OFF, READER_ROOT ": %s", strerror(-dir));
	else
		close(dir);
	return seen;
}

void reader_forget(uint64_t netns)
{
	int members = bpf_obj_get(READER_ROOT "/members");

	if (members < 0)
		return;
	(void)bpf_map_delete_elem(members, &netns);
	close(members);
}

/* Each version has a folder of its own, and only an instance of that version would remove it. */
static int remove_all(void)
{
	DIR *folder = opendir(READER_FOLDER);
	char path[WIRE_PATH];
	const struct dirent *e;
	int err = 0;

	if (!folder)
		return errno == ENOENT ? 0 : -errno;
	while (!err && (e = readdir(folder))) {
		if (!text_starts(e->d_name, READER_NAME))
			continue;
		(void)snprintf(path, sizeof(path), READER_FOLDER "/%s", e->d_name);
		err = pins_unlink(path, false);
		if (!err && rmdir(path) && errno != ENOENT)
			err = -errno;
	}
	closedir(folder);
	return err;
}

int reader_remove(void)
{
	int dir = lock(), err = 0;

	if (dir < 0 && dir != -ENOENT)
		return dir;
	if (access(PINS_ROOT, F_OK)) /* else another instance is there, or is just coming */
		err = remove_all();
	if (dir >= 0)
		close(dir);
	return err;
}
