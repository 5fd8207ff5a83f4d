/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages from a hostile peer. Input: instructions that change a sound message (place, length, byte), so that the
 * fuzzer reaches the fields behind the 18 KiB; an odd first byte sends the input as it is. What wire_recv takes is
 * read the way that the supervisor and the worker read it: every text to its NUL, every list to its end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int pair[2] = {-1, -1};
static struct wire *m, *got;

static void must(bool law)
{
	if (!law)
		abort();
}

/* strlen over a copy that ends where the field ends: the sanitizer sees one byte too many. */
static void read_text(const char *field, size_t size)
{
	char *copy = mem_alloc(size);

	memcpy(copy, field, size);
	must(strlen(copy) < size);
	free(copy);
}

static void read_pairs(const char *field)
{
	char *copy = mem_alloc(WIRE_PAIRS);
	const char *s;

	memcpy(copy, field, WIRE_PAIRS);
	for (s = wire_pairs_next(copy, NULL); s; s = wire_pairs_next(copy, s))
		must(strchr(s, '=') && *s != '=');
	if (wire_pairs_add(copy, "k=v"))
		for (s = wire_pairs_next(copy, NULL); s; s = wire_pairs_next(copy, s))
			must(strlen(s) < WIRE_PAIRS);
	free(copy);
}

static void read_pod(const struct wire_pod *p)
{
	read_text(p->uid, sizeof(p->uid));
	read_text(p->namespace, sizeof(p->namespace));
	read_text(p->name, sizeof(p->name));
	read_text(p->service_account, sizeof(p->service_account));
	read_text(p->netns_path, sizeof(p->netns_path));
	read_pairs(p->labels);
	read_pairs(p->annotations);
	must(p->addrs <= WIRE_ADDRS);
}

static void read_status(const struct wire_status *s)
{
	unsigned i;

	read_text(s->version, sizeof(s->version));
	read_text(s->kernel, sizeof(s->kernel));
	read_text(s->node, sizeof(s->node));
	read_text(s->why, sizeof(s->why));
	read_text(s->worker_end, sizeof(s->worker_end));
	must(s->probes <= WIRE_PROBES);
	for (i = 0; i < s->probes; i++) {
		read_text(s->probe[i].name, sizeof(s->probe[i].name));
		read_text(s->probe[i].detail, sizeof(s->probe[i].detail));
	}
	must(s->selftests <= WIRE_SELFTESTS);
	for (i = 0; i < s->selftests; i++) {
		read_text(s->selftest[i].name, sizeof(s->selftest[i].name));
		read_text(s->selftest[i].detail, sizeof(s->selftest[i].detail));
	}
}

static void read_message(const struct wire *w)
{
	must(w->version == WIRE_VERSION && strcmp(wire_type_name(w->type), "unknown"));
	read_text(w->text, sizeof(w->text));
	switch ((enum wire_type)w->type) {
	case WIRE_POD_ADD:
	case WIRE_POD_DEL:
	case WIRE_ENROL:
	case WIRE_RELEASE:
		read_pod(&w->pod);
		break;
	case WIRE_SOCKETS:
		must(w->sockets.count <= WIRE_SOCKET_BATCH && w->sockets.kind <= WIRE_SOCKET_APP);
		break;
	case WIRE_START:
	case WIRE_RESUME:
		read_text(w->start.version, sizeof(w->start.version));
		read_text(w->start.instance, sizeof(w->start.instance));
		read_text(w->start.node, sizeof(w->start.node));
		read_text(w->start.trust_domain, sizeof(w->start.trust_domain));
		read_text(w->start.manifests, sizeof(w->start.manifests));
		read_text(w->start.root_namespace, sizeof(w->start.root_namespace));
		read_text(w->start.at_stake, sizeof(w->start.at_stake));
		break;
	case WIRE_STATUS:
		read_status(&w->status);
		break;
	case WIRE_DESTROY:
		must(w->destroys.count <= WIRE_DESTROYS);
		break;
	default:
		break;
	}
}

/* Each five bytes: place (2), length (2, squared down so that short ones are common), byte. */
static void change(const uint8_t *data, size_t len)
{
	char *bytes = (char *)m;

	for (; len >= 5; data += 5, len -= 5) {
		size_t at = (size_t)(data[0] | data[1] << 8) % sizeof(*m), n = (size_t)data[2] * data[3] % 8300 + 1;

		if (n > sizeof(*m) - at)
			n = sizeof(*m) - at;
		memset(bytes + at, data[4], n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int fds[WIRE_FDS], give[WIRE_FDS + 8], r;
	unsigned nfds, i, count;
	bool raw;

	if (pair[0] < 0) {
		must(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
		m = wire_new(WIRE_POD_ADD);
		got = wire_new(WIRE_POD_ADD);
	}
	if (len < 3)
		return 0;
	raw = data[0] & 1;
	count = data[1] % (WIRE_FDS + 1);
	memset(m, 0, sizeof(*m));
	m->version = WIRE_VERSION;
	m->type = data[2] % (WIRE_TYPE_MAX + 1);
	for (i = 0; i < count; i++)
		give[i] = pair[i % 2];
	if (raw) {
		r = send(pair[0], data, len, MSG_NOSIGNAL) < 0 ? -errno : 0;
	} else {
		change(data + 3, len - 3);
		r = wire_send(pair[0], m, give, count);
	}
	if (r < 0)
		return 0;
	r = wire_recv(pair[1], got, fds, &nfds);
	must(r == 1 || r == -EBADMSG);
	must(r == 1 ? raw || nfds == count : !nfds);
	if (r == 1)
		read_message(got);
	for (i = 0; i < nfds; i++)
		must(!close(fds[i]));
	return 0;
}
