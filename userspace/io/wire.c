/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c: one struct wire, of which one packet carries what its type needs; checked before anybody looks into it. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

/* Which member of the union a type uses. */
enum body {
	BODY_NONE,
	BODY_POD,
	BODY_WHICH, /* of wire_pod what stands before its addresses: netns and number */
	BODY_START,
	BODY_DESTROY,
	BODY_SOCKETS,
	BODY_EDGE,
	BODY_FILES,
	BODY_STALE,
	BODY_STATUS,
	BODY_COUNT
};

#define HEAD offsetof(struct wire, pod)

static const size_t body_size[BODY_COUNT] = {
	[BODY_POD] = sizeof(struct wire_pod),
	[BODY_WHICH] = offsetof(struct wire_pod, addrs),
	[BODY_START] = sizeof(struct wire_start),
	[BODY_DESTROY] = sizeof(struct wire_destroys),
	[BODY_SOCKETS] = sizeof(struct wire_sockets),
	[BODY_EDGE] = sizeof(struct wire_edge),
	[BODY_FILES] = sizeof(struct wire_files),
	[BODY_STALE] = sizeof(struct wire_stale),
	[BODY_STATUS] = sizeof(struct wire_status),
};

static const struct {
	const char *name;
	enum body body;
} types[WIRE_TYPE_MAX] = {
	[WIRE_POD_ADD] = {"pod_add", BODY_POD},
	[WIRE_POD_DEL] = {"pod_del", BODY_POD},
	[WIRE_SPLICE] = {"splice", BODY_NONE},
	[WIRE_STATUS] = {"status", BODY_STATUS},
	[WIRE_DONE] = {"done", BODY_NONE},
	[WIRE_START] = {"start", BODY_START},
	[WIRE_ENROL] = {"enrol", BODY_POD},
	[WIRE_RELEASE] = {"release", BODY_POD},
	[WIRE_POD_FDS] = {"pod_fds", BODY_WHICH},
	[WIRE_SETTINGS] = {"settings", BODY_NONE},
	[WIRE_FILE] = {"file", BODY_NONE},
	[WIRE_READY] = {"ready", BODY_NONE},
	[WIRE_ENROLLED] = {"enrolled", BODY_WHICH},
	[WIRE_RELEASED] = {"released", BODY_WHICH},
	[WIRE_DESTROY] = {"destroy", BODY_DESTROY},
	[WIRE_OPEN] = {"open", BODY_NONE},
	[WIRE_NAMED] = {"named", BODY_NONE},
	[WIRE_SOCKETS] = {"sockets", BODY_SOCKETS},
	[WIRE_CERTS] = {"certs", BODY_FILES},
	[WIRE_RESUME] = {"resume", BODY_START},
	[WIRE_RESUMED] = {"resumed", BODY_NONE},
	[WIRE_EDGE_OPEN] = {"edge_open", BODY_EDGE},
	[WIRE_EDGE_CLOSE] = {"edge_close", BODY_EDGE},
	[WIRE_STALE] = {"stale", BODY_STALE},
	[WIRE_STUCK] = {"stuck", BODY_NONE},
	[WIRE_SWEPT] = {"swept", BODY_NONE},
};

/* Every text of the message, by its place: all of them must end. */
struct field {
	enum body body;
	size_t at, size;
	bool pairs;
};

/* clang-format off */
#define FIELD(b, member, p) \
	{.body = (b), .at = offsetof(struct wire, member), .size = sizeof(((struct wire *)0)->member), .pairs = (p)}
/* clang-format on */
#define TEXT(b, member) FIELD(b, member, false)
#define PAIRS(b, member) FIELD(b, member, true)

static const struct field fields[] = {
	TEXT(BODY_NONE, text), /* of every message */
	TEXT(BODY_POD, pod.uid),
	TEXT(BODY_POD, pod.namespace),
	TEXT(BODY_POD, pod.name),
	TEXT(BODY_POD, pod.service_account),
	TEXT(BODY_POD, pod.netns_path),
	PAIRS(BODY_POD, pod.labels),
	PAIRS(BODY_POD, pod.annotations),
	TEXT(BODY_START, start.version),
	TEXT(BODY_START, start.instance),
	TEXT(BODY_START, start.node),
	TEXT(BODY_START, start.trust_domain),
	TEXT(BODY_START, start.manifests),
	TEXT(BODY_START, start.root_namespace),
	TEXT(BODY_START, start.at_stake),
	TEXT(BODY_START, start.certs),
	TEXT(BODY_STATUS, status.version),
	TEXT(BODY_STATUS, status.kernel),
	TEXT(BODY_STATUS, status.node),
	TEXT(BODY_STATUS, status.why),
	TEXT(BODY_STATUS, status.worker_end),
};

const char *wire_type_name(unsigned type)
{
	return type < WIRE_TYPE_MAX && types[type].name ? types[type].name : "unknown";
}

size_t wire_size(unsigned type)
{
	return type < WIRE_TYPE_MAX && types[type].name ? HEAD + body_size[types[type].body] : 0;
}

struct wire *wire_new(enum wire_type type)
{
	struct wire *m = mem_alloc(sizeof(*m));

	m->version = WIRE_VERSION;
	m->type = type;
	return m;
}

int wire_send(int sock, const struct wire *m, const int *fds, unsigned nfds)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS)];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)m, .iov_len = wire_size(m->type)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (nfds > WIRE_FDS || !iov.iov_len)
		return -EINVAL;
	if (nfds) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * nfds);
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == (ssize_t)iov.iov_len ? 0 : -EMSGSIZE;
}

/* Closes what does not fit, as an fd that nobody knows of would stay open for ever; false then. */
static bool take_fds(struct msghdr *msg, int fds[WIRE_FDS], unsigned *ret_nfds)
{
	struct cmsghdr *c;
	bool fit = true;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t i, count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (*ret_nfds < WIRE_FDS) {
				fds[(*ret_nfds)++] = fd;
				continue;
			}
			close(fd);
			fit = false;
		}
	}
	return fit;
}

static bool ends(const char *s, size_t size)
{
	return memchr(s, 0, size);
}

/* "key=value" NUL "key=value" NUL NUL; an empty list is one NUL. Each has a key and a "=". */
static bool pairs_end(const char *s, size_t size)
{
	const char *end = s + size;

	while (s < end && *s) {
		const char *nul = memchr(s, 0, (size_t)(end - s)), *equals;

		if (!nul)
			return false;
		equals = memchr(s, '=', (size_t)(nul - s));
		if (!equals || equals == s)
			return false;
		s = nul + 1;
	}
	return s < end;
}

static bool probes_sound(const struct wire_probe *probe, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!ends(probe[i].name, sizeof(probe[i].name)) ||
		    !ends(probe[i].detail, sizeof(probe[i].detail)) || probe[i].state > WIRE_PROBE_FAILED)
			return false;
	return true;
}

static bool status_sound(const struct wire_status *s)
{
	return s->probes <= WIRE_PROBES && probes_sound(s->probe, WIRE_PROBES) &&
	       s->selftests <= WIRE_SELFTESTS && probes_sound(s->selftest, WIRE_SELFTESTS);
}

static bool destroys_sound(const struct wire_destroys *d)
{
	unsigned i;

	if (d->count > WIRE_DESTROYS)
		return false;
	for (i = 0; i < d->count; i++)
		if (d->item[i].ipv6_socket > 1)
			return false;
	return true;
}

static bool files_sound(const struct wire_files *f)
{
	if (f->count > WIRE_FILES)
		return false;
	for (unsigned i = 0; i < WIRE_FILES; i++)
		if (!ends(f->name[i], sizeof(f->name[i])))
			return false;
	return true;
}

/* Of a packet whose size is right */
static bool sound(const struct wire *m)
{
	enum body body = types[m->type].body;
	size_t i;

	if (m->version != WIRE_VERSION)
		return false;
	for (i = 0; i < array_size(fields); i++) {
		const struct field *f = &fields[i];
		const char *s = (const char *)m + f->at;

		if (f->body != BODY_NONE && f->body != body)
			continue;
		if (f->pairs ? !pairs_end(s, f->size) : !ends(s, f->size))
			return false;
	}
	switch (body) {
	case BODY_POD:
		return m->pod.addrs <= WIRE_ADDRS;
	case BODY_STATUS:
		return status_sound(&m->status);
	case BODY_DESTROY:
		return destroys_sound(&m->destroys);
	case BODY_SOCKETS:
		return m->sockets.kind <= WIRE_SOCKET_APP && m->sockets.ipv6 <= 1 &&
		       m->sockets.count <= WIRE_SOCKET_BATCH;
	case BODY_EDGE:
		return m->edge.count <= WIRE_FDS;
	case BODY_FILES:
		return files_sound(&m->files);
	default:
		return true;
	}
}

int wire_recv(int sock, struct wire *ret, int fds[WIRE_FDS], unsigned *ret_nfds)
{
	union {
		/* Credentials come first where somebody switched SO_PASSCRED on: they must not push fds out. */
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * WIRE_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = ret, .iov_len = sizeof(*ret)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	bool fit, whole, lost;
	unsigned i;
	ssize_t n;

	*ret_nfds = 0;
	for (i = 0; i < WIRE_FDS; i++)
		fds[i] = -1;
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	fit = take_fds(&msg, fds, ret_nfds);
	whole = fit && n >= (ssize_t)HEAD && n == (ssize_t)wire_size(ret->type) && !(msg.msg_flags & MSG_TRUNC) &&
		sound(ret);
	lost = msg.msg_flags & MSG_CTRUNC;
	if (whole)
		memset((char *)ret + n, 0, sizeof(*ret) - (size_t)n);
	if (whole && !lost)
		return 1;
	whole = whole && *ret_nfds < WIRE_FDS; /* there was room for more, but not in our table of files */
	for (i = 0; i < *ret_nfds; i++) {
		close(fds[i]);
		fds[i] = -1;
	}
	*ret_nfds = 0;
	if (whole)
		return -EMFILE;
	return n ? -EBADMSG : 0; /* an empty packet looks like the end, and is treated as such */
}

static bool works(const struct wire_probe *row, unsigned rows, const char *name)
{
	for (unsigned i = 0; i < rows && i < WIRE_PROBES; i++)
		if (text_equal(row[i].name, name))
			return row[i].state == WIRE_PROBE_OK;
	return false;
}

const char *wire_splice_lacks(const struct wire_probe *row, unsigned rows)
{
	static const char *const needed[] = {"sk_msg", "watch", "enter", "setsockopt"};

	for (size_t i = 0; i < array_size(needed); i++)
		if (!works(row, rows, needed[i]))
			return needed[i];
	return NULL;
}

bool wire_want(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ENOBUFS || err == -ETOOMANYREFS;
}

const char *wire_pairs_next(const char pairs[WIRE_PAIRS], const char *after)
{
	const char *s = after ? after + strlen(after) + 1 : pairs;

	return *s ? s : NULL;
}

bool wire_pairs_add(char pairs[WIRE_PAIRS], const char *pair)
{
	const char *s = NULL, *next;
	size_t at, len = strlen(pair);

	if (*pair == '=' || !strchr(pair, '='))
		return false;
	while ((next = wire_pairs_next(pairs, s)))
		s = next;
	at = s ? (size_t)(s - pairs) + strlen(s) + 1 : 0;
	if (len > WIRE_PAIRS - 2 || at > WIRE_PAIRS - 2 - len)
		return false;
	memcpy(pairs + at, pair, len + 1);
	pairs[at + len + 1] = 0;
	return true;
}

static const struct { /* what a pod can have of weft's annotations */
	const char *key, *word[3], *text;
} annotations[] = {
	{"weft.io/splice", {"auto", "always", "off"}, "\"auto\", \"always\" or \"off\""},
	{"weft.io/proxy", {"auto", "always"}, "\"auto\" or \"always\""},
	{"weft.io/egress", {"any", "registry-only"}, "\"any\" or \"registry-only\""},
	{"weft.io/fail-open", {"true", "false"}, "\"true\" or \"false\""},
};

const char *wire_annotation_words(const char *key, const char *value)
{
	for (size_t i = 0; i < array_size(annotations); i++) {
		if (strcmp(key, annotations[i].key))
			continue;
		for (size_t k = 0; k < array_size(annotations[i].word); k++)
			if (text_equal(value, annotations[i].word[k]))
				return NULL;
		return annotations[i].text;
	}
	return NULL;
}

bool wire_annotation_stray(const char *key)
{
	for (size_t i = 0; i < array_size(annotations); i++)
		if (text_equal(key, annotations[i].key))
			return false;
	return text_starts(key, "weft.io/");
}
