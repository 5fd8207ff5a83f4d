// SPDX-License-Identifier: Apache-2.0
/* ask.c: weftctl's two conversations: structs with the supervisor, JSON lines with the worker. See ctl.h. */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "grid.h"
#include "wire.h"

#define SUPERVISOR_MS 15000 /* it gives the worker 5 s to enrol a pod */
#define WORKER_MS 5000	    /* without a byte */
#define ANSWER_MAX (256u << 20)

void ctl_error(const char *fmt, ...)
{
	char *text, *safe;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vformat(fmt, ap);
	va_end(ap);
	safe = grid_safe(text);
	fprintf(stderr, "weftctl: %s\n", safe);
	free(safe);
	free(text);
}

/* Connected socket or -errno; why[] says what to do. */
static int dial(const struct ctl *c, const char *name, int type, char why[ASK_WHY])
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int n = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s/%s", c->run, c->instance, name);
	bool usual = text_equal(c->instance, "default");
	int fd, err;

	if (n < 0 || (size_t)n >= sizeof(sun.sun_path)) {
		snprintf(why, ASK_WHY, "instance name is too long for a socket path: %s", c->instance);
		return -ENAMETOOLONG;
	}
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		err = -errno;
		snprintf(why, ASK_WHY, "no socket: %s", strerror(-err));
		return err;
	}
	if (!connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return fd;
	err = -errno;
	close(fd);
	if (err == -EACCES || err == -EPERM)
		snprintf(why, ASK_WHY, "no permission to talk to weftd at %s: run weftctl as root",
			 sun.sun_path);
	else if (err == -ENOENT || err == -ECONNREFUSED)
		/* Not just `weftd`: without its manifests it would take all policies out of the kernel. */
		snprintf(why, ASK_WHY, "weftd of instance %s is not running: start it with %s%s and all of its options",
			 c->instance, usual ? "systemctl start weftd, or weftd" : "weftd --instance ",
			 usual ? "" : c->instance);
	else
		snprintf(why, ASK_WHY, "%s: %s", sun.sun_path, strerror(-err));
	return err;
}

int ask_supervisor(const struct ctl *c, const struct wire *m, const int *fds, unsigned nfds, struct wire *ret,
		   bool quiet)
{
	char why[ASK_WHY];
	int fd = dial(c, "weftd.sock", SOCK_SEQPACKET, why);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int got[WIRE_FDS], err;
	unsigned ngot = 0;

	if (fd < 0)
		goto failed;
	err = wire_send(fd, m, fds, nfds);
	if (err) {
		snprintf(why, sizeof(why), "weftd does not take the request: %s", strerror(-err));
		goto failed;
	}
	do
		err = poll(&p, 1, SUPERVISOR_MS);
	while (err < 0 && errno == EINTR);
	if (!err) {
		snprintf(why, sizeof(why), "weftd did not answer within %d s: see its log",
			 SUPERVISOR_MS / 1000);
		goto failed;
	}
	err = wire_recv(fd, ret, got, &ngot);
	while (ngot)
		close(got[--ngot]);
	if (err <= 0) {
		snprintf(why, sizeof(why), "weftd %s: is it of the version of weftctl? See its log",
			 err ? "gave an answer that weftctl cannot read"
			     : "closed the connection without an answer");
		goto failed;
	}
	close(fd);
	return CTL_DONE;
failed:
	if (fd >= 0)
		close(fd);
	if (!quiet)
		ctl_error("%s", why);
	return CTL_FAILED;
}

static int send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Everything until the worker closes. */
static int read_all(int fd, struct text *to)
{
	char buf[65536];

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, WORKER_MS);
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (!ready)
			return -ETIMEDOUT;
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		if (to->len + (size_t)n > ANSWER_MAX)
			return -EMSGSIZE;
		text_add_bytes(to, buf, (size_t)n);
	}
}

static int understand(const struct text *answer, json_t **ret, char why[ASK_WHY])
{
	json_error_t error;
	const char *said;

	if (!answer->len) {
		snprintf(why, ASK_WHY,
			 "the worker closed the connection without an answer: it was restarted or is busy; "
			 "try again, or see the log of weftd");
		return CTL_FAILED;
	}
	*ret = json_loadb(answer->data, answer->len, JSON_REJECT_DUPLICATES, &error);
	if (!*ret) {
		snprintf(why, ASK_WHY,
			 "the worker's answer is not JSON (%s): it was restarted meanwhile, or is of another "
			 "version",
			 error.text);
		return CTL_FAILED;
	}
	said = json_string_value(json_object_get(*ret, "error"));
	if (said) {
		snprintf(why, ASK_WHY, "%s", said);
		json_decref(*ret);
		*ret = NULL;
		return CTL_FAILED;
	}
	return CTL_DONE;
}

int ask_worker(const struct ctl *c, json_t *request, json_t **ret, char why[ASK_WHY])
{
	char *line = json_dumps(request, JSON_COMPACT);
	struct text answer = {0};
	int fd, err;

	json_decref(request);
	*ret = NULL;
	if (!line)
		abort();
	fd = dial(c, "admin.sock", SOCK_STREAM, why);
	if (fd < 0) {
		free(line);
		return CTL_FAILED;
	}
	err = send_all(fd, line, strlen(line));
	if (!err)
		err = send_all(fd, "\n", 1);
	/* An answer may be there although sending failed: "too many clients" */
	if (!err || err == -EPIPE)
		err = read_all(fd, &answer);
	close(fd);
	free(line);
	if (err == -ETIMEDOUT)
		snprintf(why, ASK_WHY,
			 "the worker does not answer: it is not running or hangs; see `weftctl status`");
	else if (err)
		snprintf(why, ASK_WHY, "talking to the worker failed: %s", strerror(-err));
	else
		err = understand(&answer, ret, why);
	text_free(&answer);
	return err ? CTL_FAILED : CTL_DONE;
}

int ask_worker_said(const struct ctl *c, json_t *request, json_t **ret)
{
	char why[ASK_WHY];
	int err = ask_worker(c, request, ret, why);

	if (err)
		ctl_error("%s", why);
	return err;
}

void ask_print_json(const struct ctl *c, const json_t *answer)
{
	json_dumpf(answer, c->out, (c->watch ? JSON_COMPACT : JSON_INDENT(2)) | JSON_PRESERVE_ORDER);
	fputc('\n', c->out);
}

json_t *ask_request(const char *command, const char *key, const struct args *a)
{
	json_t *r = json_pack("{s:s}", "command", command);

	if (key && a->words)
		json_object_set_new(r, key, json_string(a->word[0]));
	return r;
}

static int printed(const struct ctl *c, json_t **ret)
{
	if (!c->json)
		return CTL_DONE;
	ask_print_json(c, *ret);
	json_decref(*ret);
	*ret = NULL;
	return CTL_DONE;
}

int ask_fetch(const struct ctl *c, json_t *request, json_t **ret)
{
	int err = ask_worker_said(c, request, ret);

	return err ? err : printed(c, ret);
}

int ask_named(const struct ctl *c, const struct ask_name *n, json_t *request, json_t **ret)
{
	int err = ask_worker_said(c, request, ret);

	if (err)
		return err;
	if (n->name && !json_array_size(json_object_get(*ret, n->array))) {
		ctl_error("there is no %s %s%s See `weftctl status`", n->what, n->name, n->doubt);
		json_decref(*ret);
		*ret = NULL;
		return CTL_FAILED;
	}
	return printed(c, ret);
}

const char *string_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

uint64_t number_of(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return n < 0 ? 0 : (uint64_t)n;
}
