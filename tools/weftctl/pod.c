// SPDX-License-Identifier: Apache-2.0
/* pod.c: commands that change something: pod add, pod del, splice on, splice off. See ctl.h. */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "wire.h"

/* "NAMESPACE/NAME", as command_parse() saw, into the message; CTL_USAGE (said) if it is too long. */
static int name_of(const char *word, struct wire_pod *ret)
{
	const char *slash = strchr(word, '/');
	char namespace[WIRE_NAME];

	snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - word), word);
	if ((size_t)(slash - word) >= WIRE_NAME || !text_copy(ret->name, sizeof(ret->name), slash + 1)) {
		ctl_error("the name of the pod is longer than %d characters", WIRE_NAME - 1);
		return CTL_USAGE;
	}
	memcpy(ret->namespace, namespace, sizeof(namespace));
	return CTL_DONE;
}

static int add_address(struct wire_pod *pod, const char *s)
{
	struct abi_addr a;

	if (addr_parse(s, &a) || addr_is_zero(&a)) {
		ctl_error("--ip %s: not an address; give IPv4 or IPv6 without a prefix length", s);
		return CTL_USAGE;
	}
	if (pod->addrs == WIRE_ADDRS) {
		ctl_error("--ip: more than %d addresses", WIRE_ADDRS);
		return CTL_USAGE;
	}
	pod->addr[pod->addrs++] = a;
	return CTL_DONE;
}

/* "10.0.0.1,fd00::1" */
static int add_addresses(struct wire_pod *pod, const char *list)
{
	char *copy = mem_string(list), *rest = copy, *one;
	int err = CTL_DONE;

	while (!err && (one = strsep(&rest, ",")))
		err = add_address(pod, one);
	free(copy);
	return err;
}

/* Said, not refused: what enrols pods may pass on all that it knows of them. */
static void warn_stray(const char *pair)
{
	char *key = mem_format("%.*s", (int)strcspn(pair, "="), pair);

	if (wire_annotation_stray(key))
		ctl_error("--annotation %s has no effect on a pod: see docs/manifests.md", key);
	free(key);
}

static int add_pairs(const struct args *a, const char *option, char pairs[WIRE_PAIRS])
{
	const char *value;
	unsigned at = 0;

	while ((value = command_each(a, option, &at))) {
		const char *equals = strchr(value, '=');

		if (!equals || equals == value) {
			ctl_error("%s %s: give KEY=VALUE", option, value);
			return CTL_USAGE;
		}
		if (!wire_pairs_add(pairs, value)) {
			ctl_error("%s: more than %d bytes in all", option, WIRE_PAIRS);
			return CTL_FAILED;
		}
		if (text_equal(option, "--annotation"))
			warn_stray(value);
	}
	return CTL_DONE;
}

/*
 * The netns by path and by fd. A bare name is one of `ip netns`. The path is not resolved: /proc/PID/ns/net is a
 * magic link, and the supervisor watches the name for its end.
 */
static int open_netns(const char *given, struct wire_pod *pod, int *ret_fd)
{
	char path[PATH_MAX], cwd[PATH_MAX];
	struct statfs fs;
	int fd;

	if (!strchr(given, '/'))
		snprintf(path, sizeof(path), "/run/netns/%s", given);
	else if (given[0] == '/')
		snprintf(path, sizeof(path), "%s", given);
	else if (getcwd(cwd, sizeof(cwd)) && strlen(cwd) + strlen(given) + 1 < sizeof(path))
		snprintf(path, sizeof(path), "%.2047s/%.2047s", cwd, given);
	else
		path[0] = '\0';
	if (!path[0] || !text_copy(pod->netns_path, sizeof(pod->netns_path), path)) {
		ctl_error("--netns %s: the path is longer than %d characters", given, WIRE_PATH - 1);
		return CTL_USAGE;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		ctl_error("--netns %s: cannot open %s: %s", given, path, strerror(errno));
		return CTL_FAILED;
	}
	if (fstatfs(fd, &fs) || fs.f_type != NSFS_MAGIC || ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET) {
		ctl_error("--netns %s: %s is not a network namespace%s", given, path,
			  text_starts(path, "/run/netns/")
				  ? " (it may be the file of one that is gone: ip netns del)"
				  : "");
		close(fd);
		return CTL_FAILED;
	}
	*ret_fd = fd;
	return CTL_DONE;
}

/* Send, and say what came back. */
static int request(const struct ctl *c, const struct wire *m, const int *fds, unsigned nfds, const char *done)
{
	struct wire *answer = mem_alloc(sizeof(*answer));
	int err = ask_supervisor(c, m, fds, nfds, answer, false);

	if (!err && answer->type != WIRE_DONE) {
		ctl_error("weftd answered \"%s\": is it of the version of weftctl?",
			  wire_type_name(answer->type));
		err = CTL_FAILED;
	} else if (!err && answer->number) {
		ctl_error("%s", *answer->text ? answer->text : strerror(-answer->number));
		err = CTL_FAILED;
	} else if (!err && c->json) {
		fprintf(c->out, "{\"done\": true}\n");
	} else if (!err) {
		fprintf(c->out, "%s\n", done);
	}
	free(answer);
	return err;
}

static int fill(const struct args *a, struct wire_pod *pod)
{
	const char *account = command_given(a, "--service-account"), *uid = command_given(a, "--uid"), *ip;
	unsigned at = 0;
	int err = name_of(a->word[0], pod);

	while (!err && (ip = command_each(a, "--ip", &at)))
		err = add_addresses(pod, ip);
	if (!err && account && !text_copy(pod->service_account, sizeof(pod->service_account), account)) {
		ctl_error("--service-account: longer than %zu characters", sizeof(pod->service_account) - 1);
		err = CTL_USAGE;
	}
	if (!err && uid && !text_copy(pod->uid, sizeof(pod->uid), uid)) {
		ctl_error("--uid: longer than %zu characters", sizeof(pod->uid) - 1);
		err = CTL_USAGE;
	}
	if (!err)
		err = add_pairs(a, "--label", pod->labels);
	if (!err)
		err = add_pairs(a, "--annotation", pod->annotations);
	return err;
}

int pod_add(const struct ctl *c, const struct args *a)
{
	struct wire *m = wire_new(WIRE_POD_ADD);
	char done[2 * WIRE_NAME + 32];
	int fd = -1;
	int err = fill(a, &m->pod);

	if (!err)
		err = open_netns(command_given(a, "--netns"), &m->pod, &fd);
	if (!err) {
		snprintf(done, sizeof(done), "pod %s enrolled", a->word[0]);
		err = request(c, m, &fd, 1, done);
	}
	if (fd >= 0)
		close(fd);
	free(m);
	return err;
}

int pod_del(const struct ctl *c, const struct args *a)
{
	struct wire *m = wire_new(WIRE_POD_DEL);
	char done[2 * WIRE_NAME + 32];
	int err = name_of(a->word[0], &m->pod);

	if (!err) {
		snprintf(done, sizeof(done), "pod %s released", a->word[0]);
		err = request(c, m, NULL, 0, done);
	}
	free(m);
	return err;
}

static int splice_turn(const struct ctl *c, bool on)
{
	struct wire *m = wire_new(WIRE_SPLICE);
	int err;

	m->number = on;
	err = request(c, m, NULL, 0,
		      on ? "splice is on: new connections may enter it"
			 : "splice is off: every message goes by TCP");
	free(m);
	return err;
}

int pod_splice_on(const struct ctl *c, const struct args *a)
{
	return splice_turn(c, true);
}

int pod_splice_off(const struct ctl *c, const struct args *a)
{
	return splice_turn(c, false);
}
