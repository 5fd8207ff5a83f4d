/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor.c: the life of weftd. See supervisor.h.
 *
 *	probe -> lock -> load -> worker of a killed predecessor -> pods back -> fewer privileges -> else a new worker
 */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "channel.h"
#include "privilege.h"
#include "reader.h"
#include "selftest.h"
#include "takeover.h"
#include "version.h"
#include "watch.h"

#define BACKLOG 128

struct supervisor {
	const struct options *options;
	struct probe probe;
	struct selftest selftest;
	struct folders folders;
	struct certdir certs;
	struct loop *loop;
	struct loader *loader;
	struct pods *pods;
	struct watch *watch;
	struct channel *channel;
	struct clients *clients;
	struct loop_watch signals;
	struct wire_start start;
	struct takeover takeover;
	int client_listener, admin_listener, resume_listener, manifests;
	bool was_ready, told_systemd;
	uint64_t started_ns;
};

/* ------------------------------------------------------------------ systemd */

/* man 3 sd_notify: one datagram to NOTIFY_SOCKET, "@" for an abstract address. No error: nobody may listen. */
static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;
	int sock;

	if (!len || len >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return;
	if (sendto(sock, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_debug("NOTIFY_SOCKET %s: %s", path, strerror(errno));
	close(sock);
}

/* ------------------------------------------------------------------ what happened */

static bool is_ready(const struct supervisor *s, char *why, size_t size)
{
	bool ready = channel_ready(s->channel, why, size);
	unsigned waiting = pods_waiting(s->pods), outside;
	const struct pod *one = pods_outside(s->pods, &outside);

	if (ready && waiting)
		(void)snprintf(why, size, "%u of %u pod%s not in the kernel yet", waiting, pods_count(s->pods),
			       text_plural(pods_count(s->pods)));
	else if (ready && one)
		(void)snprintf(why, size, "%u pod%s cannot be entered, %.63s/%.80s: see the log of weftd", outside,
			       text_plural(outside), one->namespace, one->name);
	return ready && !waiting && !one;
}

static void ready_changed(void *ctx)
{
	struct supervisor *s = ctx;
	char why[256];
	bool ready;

	if (!s->channel)
		return;
	ready = is_ready(s, why, sizeof(why));
	/* Rejected objects make weftd not ready, but it has started: the rest is in force. */
	if (!s->told_systemd && channel_answered(s->channel) && !pods_waiting(s->pods)) {
		s->told_systemd = true;
		notify("READY=1");
	}
	if (ready == s->was_ready)
		return;
	s->was_ready = ready;
	if (ready)
		log_info("ready");
	else
		log_warning("not ready: %s", why);
}

static void pods_to_send(void *ctx)
{
	struct supervisor *s = ctx;

	channel_pump(s->channel);
}

static void enrolled(void *ctx, struct pod *pod, int error, const char *why)
{
	struct supervisor *s = ctx;

	clients_enrolled(s->clients, pod, error, why);
}

static void released(void *ctx, struct pod *pod)
{
	struct supervisor *s = ctx;

	clients_released(s->clients, pod);
}

static void get_status(void *ctx, struct wire_status *ret)
{
	const struct supervisor *s = ctx;

	text_copy(ret->version, sizeof(ret->version), WEFT_VERSION);
	text_copy(ret->kernel, sizeof(ret->kernel), s->probe.kernel);
	text_copy(ret->node, sizeof(ret->node), s->options->node);
	ret->ready = is_ready(s, ret->why, sizeof(ret->why));
	ret->worker_pid = (uint32_t)channel_pid(s->channel);
	ret->worker_restarts = channel_restarts(s->channel, &ret->worker_ended_ns, ret->worker_end,
						sizeof(ret->worker_end));
	ret->pods = pods_count(s->pods);
	ret->splice_on = loader_splice_on(s->loader);
	ret->kernel_safe = s->probe.kernel_safe;
	ret->started_ns = s->started_ns;
	ret->probes = s->probe.rows;
	memcpy(ret->probe, s->probe.row, sizeof(ret->probe));
	selftest_report(&s->selftest, ret);
}

static int set_splice(void *ctx, bool on)
{
	struct supervisor *s = ctx;
	int err = loader_splice(s->loader, on);

	if (err)
		return err;
	log_info("splice switched %s", on ? "on" : "off");
	watch_now(s->watch);
	s->start.splice_on = on;
	channel_splice(s->channel);
	return 0;
}

/* The folder may be another one by now: renamed away, or removed and made again. */
static void read_again(struct supervisor *s)
{
	int fd = open(s->start.manifests, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat held, there;

	if (fd < 0) {
		log_error("SIGHUP: manifest folder %s cannot be opened: %s; its objects stay in force",
			  s->start.manifests, strerror(errno));
		return;
	}
	if (!fstat(fd, &there) && !fstat(s->manifests, &held) &&
	    (there.st_dev != held.st_dev || there.st_ino != held.st_ino) &&
	    dup3(fd, s->manifests, O_CLOEXEC) >= 0) { /* in its place: every worker is started with that number */
		log_info("SIGHUP: %s is another folder now: the worker starts again to read it",
			 s->start.manifests);
		takeover_folder(&s->start, &there);
		channel_restart(s->channel);
	} else {
		log_info("SIGHUP: reading the manifests again");
		channel_read_again(s->channel);
	}
	close(fd);
}

static void got_signal(struct loop_watch *w, uint32_t events)
{
	struct supervisor *s = container_of(w, struct supervisor, signals);
	struct signalfd_siginfo info;

	(void)events;
	while (read(w->fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP) {
			read_again(s);
			continue;
		}
		log_info("%s: ending; the kernel goes on deciding", strsignal((int)info.ssi_signo));
		notify("STOPPING=1");
		loop_stop(s->loop);
	}
}

/* Somebody removed or replaced the pins that all instances share: nobody may be spliced whose reader is not seen. */
static void readers_lost(void *ctx)
{
	static const char why[] = READER_ROOT " was removed or replaced: readers by splice(2) are not seen any "
					      "more, so only `always` splices; restart weftd";
	struct supervisor *s = ctx;
	int err = loader_reader_lost(s->loader);

	log_error("%s%s%s", why, err ? "; the setting cannot be written: " : "", err ? strerror(-err) : "");
	probe_row(&s->probe, "splice readers", WIRE_PROBE_OFF, "%s", why);
}

/* ------------------------------------------------------------------ start */

static int open_signals(struct supervisor *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	s->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	s->signals.events = EPOLLIN;
	s->signals.ready = got_signal;
	return s->signals.fd < 0 ? -errno : loop_watch(s->loop, &s->signals);
}

static int open_socket(const struct supervisor *s, const char *name, int type, int *ret)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err;

	if (sock < 0)
		return -errno;
	if (snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", s->folders.path, name) >=
	    (int)sizeof(at.sun_path)) { /* cannot be: instance names are short */
		close(sock);
		return -ENAMETOOLONG;
	}
	if ((unlink(at.sun_path) && errno != ENOENT) || bind(sock, (struct sockaddr *)&at, sizeof(at)) ||
	    listen(sock, BACKLOG)) {
		err = -errno;
		log_error("socket %s cannot be opened: %s", at.sun_path, strerror(-err));
		close(sock);
		return err;
	}
	*ret = sock;
	return 0;
}

/* Without --manifests the worker gets an empty folder of ours: it always has one to look at. */
static int open_manifests(struct supervisor *s)
{
	const char *path = s->options->manifests;
	char empty[160];

	if (!path[0]) {
		(void)snprintf(empty, sizeof(empty), "%s/empty", s->folders.path);
		if (mkdir(empty, 0755) && errno != EEXIST)
			return -errno;
		path = empty;
		log_info("no --manifests: pods know only what `weftctl pod add` says, and no policy is in force");
	}
	s->manifests = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->manifests < 0) {
		int err = -errno;

		log_error("manifest folder %s cannot be opened: %s; make it, or give --manifests another one", path,
			  strerror(-err));
		return err;
	}
	text_copy(s->start.manifests, sizeof(s->start.manifests), path);
	return 0;
}

/* What may be mended is no reason not to start: the kernel decides without certificates. */
static int open_certs(struct supervisor *s)
{
	const struct options *o = s->options;
	const char *given = o->certs_dir[0] ? o->certs_dir : o->ca_dir;
	char path[WIRE_PATH];
	int err;

	(void)snprintf(path, sizeof(path), FOLDERS_STATE "/%s/ca", o->instance);
	err = certdir_open(&s->certs, given[0] ? given : path, !o->certs_dir[0], given[0]);
	text_copy(s->start.certs, sizeof(s->start.certs), s->certs.path);
	s->start.certs_pem = o->certs_dir[0] != 0;
	return err;
}

static int open_channel(struct supervisor *s, uid_t uid, gid_t gid)
{
	static const char *const level[] = {
		[LOG_ERROR] = "error",
		[LOG_WARNING] = "warning",
		[LOG_INFO] = "info",
		[LOG_DEBUG] = "debug",
	};
	struct channel_plan plan = {
		.loop = s->loop,
		.pods = s->pods,
		.loader = s->loader,
		.folders = &s->folders,
		.start = &s->start,
		.taken = s->takeover.taken ? &s->takeover.worker : NULL,
		.log_format = s->options->log_json ? "json" : "text",
		.log_level = level[s->options->log_level],
		.uid = uid,
		.gid = gid,
		.ready = ready_changed,
		.enrolled = enrolled,
		.released = released,
		.ctx = s,
	};

	for (unsigned i = 0; i <= WIRE_FD_LIVE; i++)
		plan.fd[i] = loader_fd(s->loader, (enum wire_fd)i);
	plan.fd[WIRE_FD_ADMIN] = s->admin_listener;
	plan.fd[WIRE_FD_RESUME] = s->resume_listener;
	plan.fd[WIRE_FD_MANIFESTS] = s->manifests;
	plan.fd[WIRE_FD_NOTIFY] = -1;
	plan.fd[WIRE_FD_STATE] = s->folders.state;
	plan.fd[WIRE_FD_CERTS] = -1;
	plan.certs = &s->certs;
	return channel_open(&s->channel, &plan);
}

static int open_clients(struct supervisor *s)
{
	struct clients_plan plan = {
		.loop = s->loop,
		.pods = s->pods,
		.listener = s->client_listener,
		.status = get_status,
		.splice = set_splice,
		.ctx = s,
	};

	s->clients = clients_open(&plan);
	return s->clients ? 0 : -ENOMEM;
}

/* Each pod costs three listeners a thread and a sock_diag socket. */
static void raise_files(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int fill_start(struct supervisor *s)
{
	const struct options *o = s->options;

	text_copy(s->start.version, sizeof(s->start.version), WEFT_VERSION);
	text_copy(s->start.instance, sizeof(s->start.instance), o->instance);
	text_copy(s->start.node, sizeof(s->start.node), o->node);
	text_copy(s->start.trust_domain, sizeof(s->start.trust_domain), o->trust_domain);
	text_copy(s->start.root_namespace, sizeof(s->start.root_namespace), o->root_namespace);
	s->start.threads = o->threads;
	s->start.splice_on = loader_splice_on(s->loader);
	s->start.kernel_safe = s->probe.kernel_safe;
	s->start.live = loader_live(s->loader);
	text_copy(s->start.at_stake, sizeof(s->start.at_stake), s->probe.at_stake);
	return takeover_start(&s->start, s->loader, s->manifests);
}

/* The worker that is there already, or what a new one needs. */
static int open_worker(struct supervisor *s)
{
	int err;

	takeover_try(&s->takeover, &s->folders, &s->start);
	if (s->takeover.taken) {
		s->admin_listener = s->takeover.admin;
		s->resume_listener = s->takeover.resume;
		return 0;
	}
	err = open_socket(s, FOLDERS_ADMIN, SOCK_STREAM, &s->admin_listener);
	return err ? err : open_socket(s, FOLDERS_RESUME, SOCK_SEQPACKET, &s->resume_listener);
}

/* The part that needs every privilege. */
static int prepare(struct supervisor *s, uid_t uid, gid_t gid)
{
	const struct options *o = s->options;
	int err = probe_base(&s->probe, o->cgroup[0] ? o->cgroup : NULL);

	if (!err)
		err = folders_open(&s->folders, o->instance, uid, gid);
	if (!err)
		err = open_certs(s);
	if (err)
		return err;
	if (s->probe.iterates)
		selftest_run(&s->selftest);
	selftest_settle(&s->selftest, &s->probe);
	err = netns_home(uid);
	if (!err)
		err = open_manifests(s);
	if (!err)
		err = loader_open(&s->loader, o->instance, &s->probe);
	if (!err)
		err = fill_start(s);
	if (!err)
		err = open_worker(s);
	if (!err)
		err = pods_open(&s->pods, &(struct pods_plan){.loop = s->loop,
							      .loader = s->loader,
							      .folder = s->folders.pods,
							      .threads = o->threads,
							      .takeover = &s->takeover,
							      .hooks = {.to_send = pods_to_send, .ctx = s}});
	if (!err)
		err = pods_adopt(s->pods);
	takeover_close(&s->takeover);
	if (err)
		return err;
	err = watch_open(&s->watch, &(struct watch_plan){.loop = s->loop,
							 .from = loader_watch(s->loader),
							 .pods = s->pods,
							 .lost = readers_lost,
							 .ctx = s});
	if (err) {
		log_error("the splice cannot be watched: %s", strerror(-err));
		return err;
	}
	err = privilege_keep();
	if (err)
		log_error("privileges cannot be dropped: %s", strerror(-err));
	return err;
}

static int begin(struct supervisor *s)
{
	uid_t uid;
	gid_t gid;
	int err;

	raise_files();
	privilege_worker(&uid, &gid);
	err = open_signals(s);
	if (!err)
		err = prepare(s, uid, gid);
	if (err)
		return err;
	err = open_channel(s, uid, gid);
	/* Last: whoever reaches the socket finds a whole weftd. */
	if (!err)
		err = open_socket(s, FOLDERS_CLIENT, SOCK_SEQPACKET, &s->client_listener);
	if (!err)
		err = open_clients(s);
	if (!err && !s->probe.sees_own)
		log_warning("weftd is not below --cgroup %s, whose hooks do not see its sockets then: what the worker "
			    "delivers to pods has no record and is judged as from nobody; start weftd in a cgroup "
			    "below that one",
			    s->probe.cgroup);
	if (!err)
		log_info("weftd %s, instance %s, node %s, kernel %s", WEFT_VERSION, s->options->instance,
			 s->options->node, s->probe.kernel);
	return err;
}

static void end(struct supervisor *s)
{
	int *fd[] = {&s->client_listener, &s->admin_listener,	 &s->resume_listener,
		     &s->manifests,	  &s->probe.cgroup_fd, &s->signals.fd};

	if (s->client_listener >= 0)
		(void)unlinkat(s->folders.run, FOLDERS_CLIENT, 0);
	clients_close(s->clients);
	s->clients = NULL;
	if (s->channel) { /* else a worker of a predecessor may still wait for somebody there */
		(void)unlinkat(s->folders.run, FOLDERS_ADMIN, 0);
		(void)unlinkat(s->folders.run, FOLDERS_RESUME, 0);
	}
	channel_close(s->channel);
	s->channel = NULL;
	watch_close(s->watch);
	pods_close(s->pods);
	loader_close(s->loader);
	loop_free(s->loop);
	folders_close(&s->folders);
	for (unsigned i = 0; i < array_size(fd); i++)
		if (*fd[i] >= 0)
			close(*fd[i]);
}

int supervisor_run(const struct options *o)
{
	struct supervisor s = {
		.options = o,
		.probe.cgroup_fd = -1,
		.folders = {.run = -1, .pods = -1, .state = -1, .lock = -1},
		.signals.fd = -1,
		.client_listener = -1,
		.admin_listener = -1,
		.resume_listener = -1,
		.manifests = -1,
		.started_ns = clock_ns(),
	};
	int err;

	s.loop = loop_new();
	err = begin(&s);
	if (!err) {
		err = loop_run(s.loop);
		if (err)
			log_error("the event loop failed: %s", strerror(-err));
	}
	end(&s);
	return err ? 1 : 0;
}

int supervisor_probe(const struct options *o)
{
	struct selftest t = {0};
	struct probe p;
	int err = probe_base(&p, o->cgroup[0] ? o->cgroup : NULL);

	if (!err) {
		if (p.iterates)
			selftest_run(&t);
		selftest_settle(&t, &p);
		err = loader_try(&p);
	}
	probe_print(&p, stdout);
	if (!err || t.rows)
		selftest_print(&t, stdout);
	if (p.cgroup_fd >= 0)
		close(p.cgroup_fd);
	return err ? 1 : 0;
}

static void leave_pods(int run)
{
	int pods = openat(run, "pods", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int err = pods < 0 ? -errno : netns_home(0);

	if (!err)
		err = inside_forget_all(pods);
	if (err && err != -ENOENT)
		log_warning("weft's routes may still be in pods: %s", strerror(-err));
	if (pods >= 0)
		close(pods);
}

int supervisor_uninstall(const struct options *o)
{
	int lock = -1, run, err;
	char path[128];

	if (geteuid()) {
		log_error("weftd must be root to remove what it left in the kernel: use sudo");
		return 1;
	}
	err = folders_lock(o->instance, &lock);
	if (err) {
		if (err != -EBUSY)
			log_error("the lock of instance %s cannot be taken: %s", o->instance, strerror(-err));
		return 1;
	}
	(void)snprintf(path, sizeof(path), FOLDERS_RUN "/%s", o->instance);
	run = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (run >= 0) {
		spawn_end_orphan(run, FOLDERS_WORKER);
		leave_pods(run);
		close(run);
	}
	err = pins_remove(o->instance);
	if (!err) {
		err = reader_remove();
		if (err)
			log_error("pins below " READER_ROOT " cannot be removed: %s", strerror(-err));
	}
	if (!err)
		err = folders_remove(o->instance);
	if (lock >= 0)
		close(lock);
	return err ? 1 : 0;
}
