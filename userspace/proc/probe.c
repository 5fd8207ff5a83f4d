/* SPDX-License-Identifier: Apache-2.0 */
/* probe.c: see probe.h. */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BPFFS "/sys/fs/bpf"
#define BTF "/sys/kernel/btf/vmlinux"

void probe_row(struct probe *p, const char *name, enum wire_probe_state state, const char *fmt, ...)
{
	struct wire_probe *row = NULL;
	va_list args;

	for (unsigned i = 0; i < p->rows && !row; i++)
		if (text_equal(p->row[i].name, name))
			row = &p->row[i];
	if (!row && p->rows == WIRE_PROBES)
		return;
	if (!row)
		row = &p->row[p->rows++];
	text_copy(row->name, sizeof(row->name), name);
	row->state = state;
	va_start(args, fmt);
	(void)vsnprintf(row->detail, sizeof(row->detail), fmt, args);
	va_end(args);
}

void probe_hear(const char *said, char *words, size_t size)
{
	const char *log = strstr(said, "LOAD LOG --\n"), *line = log ? log : said, *reason = NULL;

	if (!log && words[0])
		return;
	for (size_t len; *line; line += len + (line[len] == '\n')) {
		len = strcspn(line, "\n");
		if (text_starts(line, "processed ") || text_starts(line, "verification time") ||
		    text_starts(line, "-- END"))
			break;
		if (len && line != log)
			reason = line;
		if (!log)
			break;
	}
	if (!reason)
		return;
	text_copy(words, size, reason);
	words[strcspn(words, "\n")] = '\0';
}

void probe_print(const struct probe *p, FILE *to)
{
	static const char *const state[] = {
		[WIRE_PROBE_OK] = "ok",
		[WIRE_PROBE_OFF] = "off",
		[WIRE_PROBE_FAILED] = "FAILED",
	};

	for (unsigned i = 0; i < p->rows; i++)
		(void)fprintf(to, "%-14s %-7s %s\n", p->row[i].name, state[p->row[i].state],
			      p->row[i].detail);
}

/* ------------------------------------------------------------------ the kernel's version */

static bool version_parse(const char *s, unsigned v[3])
{
	v[2] = 0; /* "6.18-rc1" */
	return sscanf(s, "%u.%u.%u", &v[0], &v[1], &v[2]) >= 2;
}

/*
 * Debian's release ("6.1.0-40-amd64") and Ubuntu's hide the stable version: Debian has it in the version text
 * ("#1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1 (2025-09-20)"), Ubuntu in /proc/version_signature.
 */
static void version_read(struct probe *p)
{
	char signature[128] = "";
	const char *hidden = NULL;
	struct utsname u;
	FILE *file;

	if (uname(&u))
		return;
	(void)version_parse(u.release, p->version);
	file = fopen("/proc/version_signature", "re");
	if (file) {
		if (fgets(signature, sizeof(signature), file))
			hidden = strrchr(signature, ' ');
		(void)fclose(file);
	}
	if (!hidden) {
		hidden = strstr(u.version, "Debian ");
		if (hidden)
			hidden += strlen("Debian ");
	}
	if (hidden && version_parse(hidden, p->version))
		(void)snprintf(p->kernel, sizeof(p->kernel), "%.60s (%u.%u.%u)", u.release, p->version[0],
			       p->version[1], p->version[2]);
	else
		text_copy(p->kernel, sizeof(p->kernel), u.release);
}

static bool at_least(const unsigned v[3], unsigned major, unsigned minor, unsigned patch)
{
	if (v[0] != major)
		return v[0] > major;
	if (v[1] != minor)
		return v[1] > minor;
	return v[2] >= patch;
}

/* Of the series major.minor, from `patch` on? */
static bool series(const unsigned v[3], unsigned major, unsigned minor, unsigned patch)
{
	return v[0] == major && v[1] == minor && v[2] >= patch;
}

/*
 * Faults that no test can see, because they need a race: the version decides (facts/kernel.md section 3).
 *	use after free of sk_redir in the send verdict	fixed 6.1.183, 6.12.104, mainline of mid-2026
 * So 6.1 from .183, 6.12 from .104, 6.18 from .44 (the first that was seen good: where between .15 and .44 the fix
 * came is not known, and unknown is unsafe), 7.2 and later. 6.19 to 7.1 ended before the fix. A kernel whose
 * distribution took the fix alone is taken for unsafe too. How the kernel behaves is asked of itself: selftest.h.
 */
bool probe_has_fixes(const unsigned version[3])
{
	return series(version, 6, 1, 183) || series(version, 6, 12, 104) || series(version, 6, 18, 44) ||
	       at_least(version, 7, 2, 0);
}

static void probe_fixes(struct probe *p)
{
	p->fixes = probe_has_fixes(p->version);
	if (p->fixes)
		probe_row(p, "known fixes", WIRE_PROBE_OK, "use after free in the sockmap's send verdict");
	else
		probe_row(p, "known fixes", WIRE_PROBE_OFF,
			  "%u.%u.%u has a use after free in the sockmap's send verdict: fixed in 6.1.183, "
			  "6.12.104, 6.18.44, 7.2",
			  p->version[0], p->version[1], p->version[2]);
}

/*
 * Since a rework of local storage in 7.x an iterator over socket storage reads selem->local_storage twice and trusts
 * the second (__bpf_sk_storage_map_seq_show): a socket that is freed in between crashes the kernel, as was seen on
 * 7.3.4 in QEMU. What the rework brought is known by its name.
 */
static void probe_iterators(struct probe *p)
{
	static const char rework[] = " bpf_selem_unlink_nofail\n";
	FILE *file = at_least(p->version, 6, 19, 0) ? fopen("/proc/kallsyms", "re") : NULL;
	char line[256];

	p->iterates = true;
	while (file && p->iterates && fgets(line, sizeof(line), file))
		p->iterates = !text_ends(line, rework);
	if (file)
		(void)fclose(file);
	if (!p->iterates)
		probe_row(p, "socket iterators", WIRE_PROBE_OFF,
			  "this kernel can crash in an iterator over socket storage: no splice, and weftctl "
			  "connections shows no bytes that TCP carries");
}

/*
 * Kernel TLS is never used: the worker's own records cost what AES costs and little else (docs/performance.md), and
 * no kernel that has it was measured. The row says which of the two it is. Asked by name: setsockopt() would load it.
 */
static void probe_ktls(struct probe *p)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_available_ulp", "re");
	char names[128] = "";

	if (file) {
		if (!fgets(names, sizeof(names), file))
			names[0] = '\0';
		(void)fclose(file);
	}
	probe_row(p, "kernel TLS", WIRE_PROBE_OFF, "%s: the worker encrypts",
		  strstr(names, "tls") ? "there, but not used" : "this kernel has none loaded");
}

/* ------------------------------------------------------------------ mounts */

static bool is_fs(const char *path, long magic)
{
	struct statfs fs;

	return !statfs(path, &fs) && (long)fs.f_type == magic;
}

/*
 * Is this another mount namespace than the machine's? What is mounted here is not seen there, and dies with us. The
 * machine's is that of process 1, or, where we may not look at it, of the oldest process that we may look at.
 */
static bool private_mounts(void)
{
	DIR *dir = opendir("/proc"); /* numbers come in order */
	struct stat ours, first = {0};
	const struct dirent *e;
	char path[300];

	while (dir && !first.st_ino && (e = readdir(dir))) {
		(void)snprintf(path, sizeof(path), "/proc/%s/ns/mnt", e->d_name);
		if (e->d_name[0] < '0' || e->d_name[0] > '9' || stat(path, &first))
			first.st_ino = 0;
	}
	if (dir)
		closedir(dir);
	return first.st_ino && !stat("/proc/self/ns/mnt", &ours) && ours.st_ino != first.st_ino;
}

/*
 * `ip netns exec NAME` mounts a sysfs whose source is NAME over /sys, which hides bpffs and cgroup2 below it. Returns
 * that name or "".
 */
static void ip_netns_exec(char *ret, size_t size)
{
	FILE *file = setmntent("/proc/self/mounts", "re");
	const struct mntent *m;
	char path[WIRE_PATH];

	ret[0] = '\0';
	while (file && (m = getmntent(file))) {
		(void)snprintf(path, sizeof(path), "/run/netns/%s", m->mnt_fsname);
		if (text_equal(m->mnt_dir, "/sys") && text_equal(m->mnt_type, "sysfs") &&
		    !strchr(m->mnt_fsname, '/') && !access(path, F_OK))
			text_copy(ret, size, m->mnt_fsname);
	}
	if (file)
		(void)endmntent(file);
}

static bool is_cgroup(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static bool find_cgroup(char *ret, size_t size)
{
	FILE *file = setmntent("/proc/self/mounts", "re");
	const struct mntent *m;
	bool found = false;

	while (file && !found && (m = getmntent(file)))
		found = text_equal(m->mnt_type, "cgroup2") && text_copy(ret, size, m->mnt_dir) &&
			is_fs(m->mnt_dir, CGROUP2_SUPER_MAGIC);
	if (file)
		(void)endmntent(file);
	return found;
}

static int base_cgroup(struct probe *p, const char *asked)
{
	if (asked) {
		text_copy(p->cgroup, sizeof(p->cgroup), asked);
		if (!is_fs(asked, CGROUP2_SUPER_MAGIC)) {
			log_error("--cgroup %s is not a folder of a cgroup v2 mount: give one below the "
				  "mount that `grep cgroup2 /proc/mounts` shows",
				  asked);
			return -EINVAL;
		}
	} else if (!find_cgroup(p->cgroup, sizeof(p->cgroup))) {
		log_error("no cgroup v2 is mounted: mount it with `mount -t cgroup2 none "
			  "/sys/fs/cgroup/unified`, or boot with systemd.unified_cgroup_hierarchy=1");
		return -ENOENT;
	}
	p->cgroup_fd = open(p->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->cgroup_fd < 0) {
		log_error("cgroup %s cannot be opened: %s", p->cgroup, strerror(errno));
		return -errno;
	}
	probe_row(p, "cgroup2", WIRE_PROBE_OK, "%.120s", p->cgroup);
	return 0;
}

/* Our own folder in the hierarchy. fd or -errno */
static int open_own(void)
{
	char line[WIRE_PATH], path[2 * WIRE_PATH], root[WIRE_PATH];
	FILE *file = fopen("/proc/self/cgroup", "re");
	int fd = -ENOENT;

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3) || !find_cgroup(root, sizeof(root)))
			continue;
		(void)snprintf(path, sizeof(path), "%s%s", root, line + 3);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	if (file)
		(void)fclose(file);
	return fd;
}

/*
 * Hooks of a cgroup see the sockets that its processes made, wherever the sockets are: those that weftd makes in pods
 * are weftd's.
 */
static void probe_place(struct probe *p)
{
	int at = open_own();
	bool below = false;
	struct stat want, here, last = {0};

	if (fstat(p->cgroup_fd, &want))
		want.st_ino = 0;
	while (at >= 0 && !below && !fstat(at, &here) && here.st_ino != last.st_ino && is_cgroup(at)) {
		int up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		below = here.st_ino == want.st_ino;
		last = here;
		close(at);
		at = up;
	}
	if (at >= 0)
		close(at);
	p->sees_own = below;
	if (below) {
		probe_row(p, "own sockets", WIRE_PROBE_OK, "weftd is in that cgroup");
		return;
	}
	probe_row(p, "own sockets", WIRE_PROBE_OFF,
		  "weftd is not below --cgroup, so its hooks do not see the worker's connections: start it in there");
}

static int base_bpffs(struct probe *p)
{
	if (is_fs(BPFFS, BPF_FS_MAGIC)) {
		probe_row(p, "bpffs", WIRE_PROBE_OK, BPFFS);
		return 0;
	}
	if (private_mounts()) {
		log_error("no bpffs at " BPFFS " in this mount namespace, and one that is mounted here "
			  "would vanish with it: run `mount -t bpf bpf " BPFFS "` on the host and start "
			  "weftd where it can be seen");
		return -ENOENT;
	}
	if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")) {
		int err = -errno;

		log_error("no bpffs is mounted at " BPFFS " and it cannot be mounted (%s): run `mount -t "
			  "bpf bpf " BPFFS "`",
			  strerror(-err));
		return err;
	}
	log_info("mounted bpffs at " BPFFS);
	probe_row(p, "bpffs", WIRE_PROBE_OK, BPFFS " (mounted by weftd)");
	return 0;
}

int probe_base(struct probe *p, const char *cgroup)
{
	char hidden[64];
	int err;

	*p = (struct probe){.cgroup_fd = -1};
	if (geteuid()) {
		log_error("weftd must be root to load BPF programs: start it with sudo, or by its "
			  "systemd unit");
		return -EPERM;
	}
	version_read(p);
	if (!at_least(p->version, 6, 1, 0)) {
		log_error("kernel %s is too old: weft needs Linux 6.1 or later", p->kernel);
		return -ENOSYS;
	}
	probe_row(p, "kernel", WIRE_PROBE_OK, "%s", p->kernel);
	ip_netns_exec(hidden, sizeof(hidden));
	if (hidden[0]) {
		log_error("started by `ip netns exec`, which hides bpffs and cgroup2 behind a /sys of its "
			  "own: use `nsenter --net=/run/netns/%s weftd ...`",
			  hidden);
		return -EINVAL;
	}
	err = base_cgroup(p, cgroup);
	if (!err)
		err = base_bpffs(p);
	if (err)
		return err;
	if (access(BTF, R_OK)) {
		log_error("the kernel has no BTF (" BTF "): use a kernel with CONFIG_DEBUG_INFO_BTF, as "
			  "distributions ship it");
		return -ENOENT;
	}
	probe_row(p, "btf", WIRE_PROBE_OK, BTF);
	probe_place(p);
	probe_fixes(p);
	probe_iterators(p);
	probe_ktls(p);
	return 0;
}
