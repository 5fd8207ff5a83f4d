/* SPDX-License-Identifier: Apache-2.0 */
/* channel.c: see channel.h. */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "destroy.h"
#include "edges.h"
#include "pulse.h"
#include "sweep.h"

#define YOUNG_NS 10000000000ull /* a worker that dies before this died young; */
#define YOUNG_FREE 5		/* this many in a row are accidents, more are a crash loop */
#define DELAY_MIN_NS 100000000ull
#define DELAY_MAX_NS 5000000000ull
#define WANT_NS 1000000000ull /* see wire_want() */
#define MESSAGES_A_TURN 64

unsigned channel_end_ms = 3000;

struct channel {
	struct channel_plan plan;
	struct edges *edges;
	struct pulse *pulse;
	int program;
	bool running;
	struct spawn worker;
	struct loop_watch sock, process;
	struct loop_timer again, later;
	uint64_t started_ns;
	unsigned young; /* how many in a row died so */
	unsigned restarts;
	uint64_t ended_ns; /* of the last one */
	char end[96];	   /* how */
	uint32_t seq;

	/* what is to be sent, in this order; the buffers of the socket are finite */
	struct wire *answer; /* to WIRE_OPEN, WIRE_SOCKETS ...; while it waits nothing is read */
	int answer_fd[WIRE_FDS];
	unsigned answer_fds;
	bool answer_lent; /* the fds are of c->edges */
	bool start_due, splice_due;
	bool named_due;		 /* WIRE_NAMED goes when the first round of pods is out */

	bool ready, answered, read_again;
	bool asked_to_end; /* by us: it is started again at once, and nothing is wrong */
	bool hung;	   /* killed for it */
	struct sweeps sweeps;
	char why[256];
};

static void set_ready(struct channel *c, bool ready, const char *why)
{
	bool same = c->ready == ready && text_equal(c->why, why);

	c->ready = ready;
	text_copy(c->why, sizeof(c->why), why);
	if (!same)
		c->plan.ready(c->plan.ctx);
}

/* ------------------------------------------------------------------ sending */

static int send_start(struct channel *c)
{
	struct wire *m = wire_new(WIRE_START);
	int fd[WIRE_FD_COUNT], err;

	memcpy(fd, c->plan.fd, sizeof(fd));
	/* Anew for each worker: what is left in the queue of the last one is not for this one. */
	fd[WIRE_FD_NOTIFY] = folders_watch(fd[WIRE_FD_MANIFESTS]);
	err = fd[WIRE_FD_NOTIFY] < 0 ? fd[WIRE_FD_NOTIFY] : 0;
	if (err)
		log_error("the manifest folder %s cannot be watched: %s", c->plan.start->manifests, strerror(-err));
	fd[WIRE_FD_CERTS] = err ? -1 : certdir_watch(c->plan.certs);
	if (!err && fd[WIRE_FD_CERTS] < 0)
		err = fd[WIRE_FD_CERTS];
	m->start = *c->plan.start;
	m->seq = ++c->seq;
	if (!err)
		err = wire_send(c->worker.sock, m, fd, WIRE_FD_COUNT);
	if (fd[WIRE_FD_NOTIFY] >= 0)
		close(fd[WIRE_FD_NOTIFY]);
	free(m);
	return err;
}

static int send_pod(struct channel *c, struct pod *pod)
{
	struct wire *m = wire_new(pod->state == POD_NEW ? WIRE_ENROL : WIRE_RELEASE);
	int err = pods_read(pod, &m->pod);

	m->seq = ++c->seq;
	if (err == -ENOENT || err == -EBADMSG) { /* it will not come back: one pod less, and not the worker */
		log_error("pod %s/%s: its file in the run folder is lost (%s): enrol it again", pod->namespace,
			  pod->name, strerror(-err));
		free(m);
		pods_unreadable(pod);
		return 0;
	}
	if (err)
		log_error("pod %s/%s: its file cannot be read: %s", pod->namespace, pod->name, strerror(-err));
	else
		err = wire_send(c->worker.sock, m, NULL, 0);
	if (!err)
		pods_sent(pod, m->seq);
	free(m);
	return err;
}

/* Of as many threads as a message has room for. */
static int send_listeners(struct channel *c, struct pod *pod)
{
	unsigned from = pod->served, count = c->plan.start->threads - from;
	struct wire *m;
	int err;

	if (count > WIRE_FDS / WIRE_LISTENERS)
		count = WIRE_FDS / WIRE_LISTENERS;
	m = wire_new(WIRE_POD_FDS);
	m->seq = ++c->seq;
	m->number = (int)from;
	m->pod.netns = pod->netns;
	m->pod.pod = pod->number;
	err = wire_send(c->worker.sock, m, pod->listener + from * WIRE_LISTENERS, count * WIRE_LISTENERS);
	free(m);
	if (!err)
		pod->served = from + count;
	return err;
}

static void drop_answer(struct channel *c)
{
	while (c->answer_fds) {
		c->answer_fds--;
		if (!c->answer_lent)
			close(c->answer_fd[c->answer_fds]);
	}
	c->answer_lent = false;
	free(c->answer);
	c->answer = NULL;
}

static int send_answer(struct channel *c)
{
	int err = wire_send(c->worker.sock, c->answer, c->answer_fd, c->answer_fds);

	if (!err)
		drop_answer(c);
	return err;
}

static int send_named(struct channel *c)
{
	struct wire *m = wire_new(WIRE_NAMED);
	int err;

	m->seq = ++c->seq;
	err = wire_send(c->worker.sock, m, NULL, 0);
	if (!err)
		c->named_due = false;
	free(m);
	return err;
}

static int send_splice(struct channel *c)
{
	struct wire *m = wire_new(WIRE_SETTINGS);
	int err;

	m->seq = ++c->seq;
	m->number = (int)c->plan.start->splice_on;
	err = wire_send(c->worker.sock, m, NULL, 0);
	if (!err)
		c->splice_due = false;
	free(m);
	return err;
}

/* The next thing to be sent: 1 sent, 0 nothing, or -errno */
static int send_one(struct channel *c)
{
	struct pod *pod;
	int err;

	if (c->start_due) {
		err = send_start(c);
		c->start_due = err != 0;
	} else if (c->answer) {
		err = send_answer(c);
	} else if (c->splice_due) {
		err = send_splice(c);
	} else {
		pod = pods_first(c->plan.pods, POD_LEAVING);
		if (!pod)
			pod = pods_first(c->plan.pods, POD_NEW);
		if (!pod && !c->named_due)
			return 0;
		if (pod && pod->state == POD_NEW && pod->served < pod->listeners / WIRE_LISTENERS)
			err = send_listeners(c, pod);
		else
			err = pod ? send_pod(c, pod) : send_named(c);
	}
	return err ? err : 1;
}

static void listen_for(struct channel *c, uint32_t events)
{
	if (c->sock.events == events)
		return;
	c->sock.events = events;
	if (loop_watch(c->plan.loop, &c->sock))
		abort(); /* another mask for an fd that is watched: EPOLL_CTL_MOD has no reason to fail */
}

/* Its end of the socket is closed: it is ending, or must. The pidfd tells. */
static void parted(struct channel *c)
{
	(void)syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGTERM, NULL, 0);
	loop_unwatch(c->plan.loop, &c->sock);
	loop_arm(c->plan.loop, &c->later, channel_end_ms * 1000000ull);
}

static void give_up(struct channel *c, const char *what, int err)
{
	log_error("worker %d: %s: %s: killed", (int)c->worker.pid, what, strerror(-err));
	(void)syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGKILL, NULL, 0);
	loop_disarm(c->plan.loop, &c->later);
	loop_unwatch(c->plan.loop, &c->sock); /* its pidfd tells when it is over */
}

static void later_due(struct loop_timer *t)
{
	struct channel *c = container_of(t, struct channel, later);

	if (c->sock.active)
		channel_pump(c);
	else
		give_up(c, "it has closed its socket and does not end", -ETIME);
}

void channel_pump(struct channel *c)
{
	int got;

	if (!c || !c->running || !c->sock.active)
		return;
	do {
		got = send_one(c);
	} while (got > 0);
	if (wire_want(got)) { /* no reason to end a worker with all that it carries */
		loop_arm(c->plan.loop, &c->later, WANT_NS);
		got = 0;
	}
	if (got && got != -EAGAIN) {
		if (got == -EPIPE || got == -ECONNRESET)
			parted(c);
		else
			give_up(c, "a message cannot be sent", got);
		return;
	}
	listen_for(c, (got ? EPOLLOUT : 0) | (c->answer ? 0 : EPOLLIN));
}

/* ------------------------------------------------------------------ receiving */

static struct wire *answer(struct channel *c, enum wire_type type, const struct wire *asked)
{
	c->answer = wire_new(type);
	c->answer->seq = asked->seq;
	return c->answer;
}

static void got_open(struct channel *c, const struct wire *m)
{
	bool link;
	int fd = folders_open_named(c->plan.fd[WIRE_FD_MANIFESTS], m->text, &link);
	struct wire *a = answer(c, WIRE_FILE, m);

	a->number = fd < 0 ? fd : link;
	text_copy(a->text, sizeof(a->text), m->text);
	if (fd >= 0)
		c->answer_fd[c->answer_fds++] = fd;
}

static void got_sockets(struct channel *c, const struct wire *m)
{
	struct pod *pod = pods_by_netns(c->plan.pods, m->sockets.netns, false);
	struct wire *a = answer(c, WIRE_SOCKETS, m);

	a->sockets = m->sockets;
	if (m->sockets.netns & WIRE_GATEWAY)
		a->number = edges_sockets(c->edges, &m->sockets, c->answer_fd, a->text, sizeof(a->text));
	else
		a->number = pod ? inside_sockets(pod, c->plan.loader, &m->sockets, c->answer_fd, a->text) : -ENOENT;
	if (!a->number)
		c->answer_fds = m->sockets.count;
}

static void got_certs(struct channel *c, const struct wire *m, const int *fds, unsigned nfds)
{
	struct wire *a = answer(c, WIRE_CERTS, m);

	c->answer_fds = certdir_answer(c->plan.certs, m, fds, nfds, a, c->answer_fd);
}

static void got_edge(struct channel *c, const struct wire *m, const int *fds, unsigned nfds)
{
	struct wire *a;

	if (m->type == WIRE_EDGE_CLOSE) {
		edges_close(c->edges, &m->edge);
		return;
	}
	a = answer(c, WIRE_EDGE_OPEN, m);
	a->edge = m->edge;
	c->answer_lent = true;
	a->number = edges_open(c->edges, &m->edge, fds, nfds, c->answer_fd, &c->answer_fds, a->text, sizeof(a->text));
}

static void got_ready(struct channel *c, const struct wire *m)
{
	edges_settle(c->edges);
	c->answered = true;
	set_ready(c, m->number == 1, m->number == 1 ? "" : m->text[0] ? m->text
								      : "the worker is not ready");
	if (c->read_again)
		channel_read_again(c);
}

static void got_enrolled(struct channel *c, const struct wire *m)
{
	struct pod *pod = pods_by_netns(c->plan.pods, m->pod.netns, false);

	if (!pod || pod->state != POD_SENT || (m->seq && m->seq != pod->seq))
		return; /* it left or changed meanwhile */
	if (m->number)
		log_error("pod %s/%s: the worker refuses it: %s", pod->namespace, pod->name,
			  m->text[0] ? m->text : strerror(-m->number));
	if (m->number)
		pods_refused(pod);
	else
		pods_accepted(pod);
	/* On disk first: who was told yes is taken back even if we are killed now. */
	c->plan.enrolled(c->plan.ctx, pod, m->number, m->text);
	c->plan.ready(c->plan.ctx);
}

static void got_released(struct channel *c, const struct wire *m)
{
	struct pod *pod = pods_by_netns(c->plan.pods, m->pod.netns, true);

	if (!pod || pod->state != POD_LEFT)
		return;
	c->plan.released(c->plan.ctx, pod);
	pods_released(pod);
}

static void got_stale(struct channel *c, const struct wire *m)
{
	struct wire *a = answer(c, WIRE_SWEPT, m);

	a->number = sweep(&c->sweeps, c->plan.loader, &m->stale);
}

static void dispatch(struct channel *c, const struct wire *m, const int *fds, unsigned nfds)
{
	switch (m->type) {
	case WIRE_READY:
		got_ready(c, m);
		break;
	case WIRE_ENROLLED:
		got_enrolled(c, m);
		break;
	case WIRE_RELEASED:
		got_released(c, m);
		break;
	case WIRE_DESTROY:
		destroy(c->plan.pods, &m->destroys);
		break;
	case WIRE_STALE:
		got_stale(c, m);
		break;
	case WIRE_STUCK:
		pulse_stuck(c->pulse, m->number, m->seq);
		break;
	case WIRE_OPEN:
		got_open(c, m);
		break;
	case WIRE_SOCKETS:
		got_sockets(c, m);
		break;
	case WIRE_CERTS:
		got_certs(c, m, fds, nfds);
		break;
	case WIRE_EDGE_OPEN:
	case WIRE_EDGE_CLOSE:
		got_edge(c, m, fds, nfds);
		break;
	default:
		give_up(c, "it sent a message that is not for a supervisor", -EBADMSG);
	}
}

static void sock_ready(struct loop_watch *w, uint32_t events)
{
	struct channel *c = container_of(w, struct channel, sock);
	struct wire *m;

	(void)events;
	if (c->answer) { /* there is room: a question that is read before it has gone would take its place */
		channel_pump(c);
		if (c->answer || !c->sock.active)
			return;
	}
	m = wire_new(WIRE_READY);
	for (unsigned i = 0; i < MESSAGES_A_TURN && c->sock.active; i++) {
		unsigned fds;
		int fd[WIRE_FDS], got = wire_recv(w->fd, m, fd, &fds);

		if (got == -EAGAIN)
			break;
		if (got == 0 || got == -ECONNRESET) {
			parted(c);
			break;
		}
		if (got < 0) {
			give_up(c, "its message cannot be read", got);
			break;
		}
		dispatch(c, m, fd, fds);
		while (fds--)
			close(fd[fds]);
		if (!c->answer)
			continue;
		channel_pump(c); /* who asked waits for it */
		if (c->answer)
			break;
	}
	free(m);
	channel_pump(c);
}

/* ------------------------------------------------------------------ the process */

static void forget_worker(struct channel *c)
{
	pulse_stop(c->pulse);
	loop_disarm(c->plan.loop, &c->later);
	loop_unwatch(c->plan.loop, &c->sock);
	loop_unwatch(c->plan.loop, &c->process);
	close(c->worker.sock);
	close(c->worker.pidfd);
	drop_answer(c);
	c->splice_due = false;
	c->running = false;
	c->answered = false;
	pods_unsent(c->plan.pods);
	edges_begin(c->edges);
}

/* At once: what connects waits for it. In a crash loop later and later. */
static void start_later(struct channel *c, bool young)
{
	uint64_t delay = 0;

	c->restarts++;
	c->young = young ? c->young + 1 : 0;
	for (unsigned i = YOUNG_FREE; i < c->young && delay < DELAY_MAX_NS; i++)
		delay = delay ? 2 * delay : DELAY_MIN_NS;
	loop_arm(c->plan.loop, &c->again, delay < DELAY_MAX_NS ? delay : DELAY_MAX_NS);
}

/* How it ended. */
static void note_end(struct channel *c, const siginfo_t *how)
{
	if (c->asked_to_end)
		text_copy(c->end, sizeof(c->end), "started with what has changed");
	else if (c->hung)
		text_copy(c->end, sizeof(c->end), "hung, and killed by weftd");
	else if (!how->si_pid)
		text_copy(c->end, sizeof(c->end), "ended, and it was another weftd's child");
	else if (how->si_code == CLD_EXITED)
		(void)snprintf(c->end, sizeof(c->end), "exit code %d", how->si_status);
	else
		(void)snprintf(c->end, sizeof(c->end), "killed by signal %d (%s)", how->si_status,
			       strsignal(how->si_status));
	c->ended_ns = clock_ns();
	log_line(c->asked_to_end ? LOG_INFO : LOG_ERROR, "worker %d: %s: started again", (int)c->worker.pid, c->end);
}

static void process_ready(struct loop_watch *w, uint32_t events)
{
	struct channel *c = container_of(w, struct channel, process);
	bool young = clock_ns() - c->started_ns < YOUNG_NS;
	siginfo_t how = {0};

	(void)events;
	if (waitid(P_PIDFD, (id_t)c->worker.pidfd, &how, WEXITED | WNOHANG) ? errno != ECHILD : !how.si_pid)
		return;
	note_end(c, &how);
	forget_worker(c);
	set_ready(c, false,
		  c->asked_to_end ? "the worker is being started again; the kernel goes on deciding"
				  : "the worker died and is being started again; the kernel goes on deciding");
	start_later(c, young && !c->asked_to_end);
	c->asked_to_end = c->hung = false;
}

static void hangs(void *ctx, const char *what)
{
	struct channel *c = ctx;

	log_error("worker %d hangs: %s: killed", (int)c->worker.pid, what);
	c->hung = true;
	(void)syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGKILL, NULL, 0); /* as all else: no core, no keys */
}

/* c->worker runs. */
static int attend(struct channel *c)
{
	int err;

	c->started_ns = clock_ns();
	c->running = true;
	c->named_due = true;
	c->sock = (struct loop_watch){.fd = c->worker.sock, .events = EPOLLIN, .ready = sock_ready};
	c->process = (struct loop_watch){.fd = c->worker.pidfd, .events = EPOLLIN, .ready = process_ready};
	err = loop_watch(c->plan.loop, &c->sock);
	if (!err)
		err = loop_watch(c->plan.loop, &c->process);
	if (err) {
		(void)syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGKILL, NULL, 0);
		(void)waitid(P_PIDFD, (id_t)c->worker.pidfd, NULL, WEXITED);
		forget_worker(c);
		return err;
	}
	pulse_start(c->pulse, c->worker.pid);
	return 0;
}

static int start(struct channel *c)
{
	const struct channel_plan *p = &c->plan;
	char *argv[] = {(char *)"weft-worker", (char *)"--log-format", (char *)p->log_format,
			(char *)"--log-level", (char *)p->log_level, NULL};
	int err = spawn_start(&c->worker, c->program, p->uid, p->gid, argv);

	if (err)
		return err;
	err = spawn_note(p->folders->run, FOLDERS_WORKER, c->worker.pid);
	if (err)
		log_warning("%s/%s cannot be written: %s", p->folders->path, FOLDERS_WORKER, strerror(-err));
	c->start_due = true;
	err = attend(c);
	if (err)
		return err;
	log_info("worker %d started", (int)c->worker.pid);
	channel_pump(c);
	return 0;
}

/* It has all that a start brings; the pods are named to it anew. */
static int take(struct channel *c)
{
	int err;

	c->worker = *c->plan.taken;
	err = attend(c);
	if (!err)
		channel_pump(c);
	return err;
}

static void again_due(struct loop_timer *t)
{
	struct channel *c = container_of(t, struct channel, again);

	if (start(c))
		start_later(c, true);
}

int channel_open(struct channel **ret, const struct channel_plan *plan)
{
	struct channel *c = mem_alloc(sizeof(*c));
	int err;

	c->plan = *plan;
	c->again.due = again_due;
	c->later.due = later_due;
	text_copy(c->why, sizeof(c->why), "the worker is reading its objects");
	err = pulse_open(&c->pulse, &(const struct pulse_plan){.loop = plan->loop,
							       .beat = plan->fd[WIRE_FD_BEAT],
							       .hangs = hangs,
							       .ctx = c});
	if (err) {
		free(c);
		return err;
	}
	c->edges = edges_new(plan->loader, plan->start->threads);
	c->program = spawn_find();
	err = c->program < 0 ? c->program : plan->taken ? take(c)
							: start(c);
	if (err) {
		pulse_close(c->pulse);
		if (c->program >= 0)
			close(c->program);
		edges_free(c->edges);
		free(c);
		return err;
	}
	*ret = c;
	return 0;
}

void channel_splice(struct channel *c)
{
	c->splice_due = true;
	channel_pump(c);
}

void channel_read_again(struct channel *c)
{
	/* Before its first answer it may not yet have a handler, and reads everything anyway. */
	c->read_again = !c->answered;
	if (c->answered && syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGHUP, NULL, 0))
		log_warning("worker %d cannot be told to read again: %s", (int)c->worker.pid, strerror(errno));
}

void channel_restart(struct channel *c)
{
	if (!c->running)
		return; /* the next one is due */
	c->asked_to_end = true;
	(void)syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGKILL, NULL, 0);
}

bool channel_ready(const struct channel *c, char *why, size_t size)
{
	text_copy(why, size, c->why);
	return c->ready;
}

bool channel_answered(const struct channel *c)
{
	return c->answered;
}

pid_t channel_pid(const struct channel *c)
{
	return c->running ? c->worker.pid : 0;
}

unsigned channel_restarts(const struct channel *c, uint64_t *ret_ended_ns, char *ret_how, size_t size)
{
	*ret_ended_ns = c->ended_ns;
	text_copy(ret_how, size, c->end);
	return c->restarts;
}

void channel_close(struct channel *c)
{
	struct pollfd p;

	if (!c)
		return;
	loop_disarm(c->plan.loop, &c->again);
	if (c->running) {
		(void)syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGTERM, NULL, 0);
		p = (struct pollfd){.fd = c->worker.pidfd, .events = POLLIN};
		if (poll(&p, 1, (int)channel_end_ms) == 0) {
			log_warning("worker %d does not end: killed", (int)c->worker.pid);
			(void)syscall(SYS_pidfd_send_signal, c->worker.pidfd, SIGKILL, NULL, 0);
			(void)poll(&p, 1, (int)channel_end_ms); /* waitid knows nothing of one that was taken over */
		}
		(void)waitid(P_PIDFD, (id_t)c->worker.pidfd, NULL, WEXITED);
		forget_worker(c);
	}
	close(c->program); /* FOLDERS_WORKER stays, for its room: spawn.h */
	pulse_close(c->pulse);
	edges_free(c->edges);
	free(c);
}
