/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_rig.c: see selftest_rig.h. */
#include "selftest_rig.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "selftest.skel.h"

#define CHUNK 65536
#define LOOKS 256	/* records of one look; closed sockets stay for a while */
#define ENTER_TRIES 100 /* an iterator finds a socket busy while a softirq works on it */

struct rig {
	struct selftest_bpf *skel;
	int look; /* link of the iterator */
	uint32_t numbers;
	char why[120];
	bool off;
	unsigned char chunk[CHUNK];
};

static char last_words[120]; /* libbpf's last warning */

/* ------------------------------------------------------------------ what went wrong */

bool rig_fail(struct rig *r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(r->why, sizeof(r->why), fmt, args);
	va_end(args);
	return false;
}

bool rig_failed(struct rig *r, const char *call)
{
	return rig_fail(r, "%s: %s", call, strerror(errno));
}

bool rig_lacks(struct rig *r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(r->why, sizeof(r->why), fmt, args);
	va_end(args);
	r->off = true;
	return true;
}

const char *rig_why(const struct rig *r)
{
	return r->why;
}

bool rig_is_off(const struct rig *r)
{
	return r->off;
}

void rig_start_row(struct rig *r)
{
	r->why[0] = '\0';
	r->off = false;
}

/* ------------------------------------------------------------------ open, close */

static int hear_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
{
	if (level == LIBBPF_WARN) {
		(void)vsnprintf(last_words, sizeof(last_words), fmt, args);
		last_words[strcspn(last_words, "\n")] = '\0';
	}
	return 0;
}

static bool loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = sock >= 0 && !ioctl(sock, SIOCSIFFLAGS, &lo);

	if (sock >= 0)
		close(sock);
	return up;
}

/* sock.bpf.h brings weft's maps with it: none of them is made. */
static int load(struct selftest_bpf *skel)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, skel->obj)
		if (!text_starts(bpf_map__name(map), "selftest"))
			(void)bpf_map__set_autocreate(map, false);
	return selftest_bpf__load(skel);
}

static int attach(struct rig *r)
{
	union bpf_iter_link_info info = {.map.map_fd = (__u32)bpf_map__fd(r->skel->maps.selftest_marks)};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	int msg = bpf_program__fd(r->skel->progs.selftest_msg), err;

	err = bpf_prog_attach(msg, bpf_map__fd(r->skel->maps.selftest_socks), BPF_SK_MSG_VERDICT, 0);
	if (!err)
		err = bpf_prog_attach(msg, bpf_map__fd(r->skel->maps.selftest_other), BPF_SK_MSG_VERDICT, 0);
	if (err)
		return err;
	r->look = bpf_link_create(bpf_program__fd(r->skel->progs.selftest_look), 0, BPF_TRACE_ITER, &opts);
	return r->look < 0 ? r->look : 0;
}

struct rig *rig_open(const char **ret_why)
{
	struct rig *r = mem_alloc(sizeof(*r));
	int err;

	r->look = -1;
	*ret_why = last_words;
	(void)libbpf_set_print(hear_libbpf);
	if (!loopback_up()) {
		text_copy(last_words, sizeof(last_words), "loopback cannot be brought up");
		rig_close(r);
		return NULL;
	}
	r->skel = selftest_bpf__open();
	err = r->skel ? load(r->skel) : -errno;
	if (!err)
		err = attach(r);
	if (!err)
		return r;
	if (!last_words[0])
		(void)snprintf(last_words, sizeof(last_words), "its programs cannot be loaded: %s",
			       strerror(-err));
	rig_close(r);
	return NULL;
}

void rig_close(struct rig *r)
{
	if (r->look >= 0)
		close(r->look);
	selftest_bpf__destroy(r->skel);
	free(r);
}

/* ------------------------------------------------------------------ looks */

/* One pass of the iterator over every marked socket. Returns the number of records or -errno. */
static int look(struct rig *r, struct selftest_seen seen[LOOKS])
{
	int fd = bpf_iter_create(r->look), err = 0;
	size_t got = 0;

	if (fd < 0)
		return fd;
	while (got < LOOKS * sizeof(*seen)) {
		ssize_t n = read(fd, (char *)seen + got, LOOKS * sizeof(*seen) - got);

		if (n < 0 && errno == EAGAIN)
			continue;
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	return err ? err : (int)(got / sizeof(*seen));
}

bool rig_look(struct rig *r, const struct rig_end *e, struct selftest_seen *ret)
{
	struct selftest_seen seen[LOOKS];
	int count = look(r, seen);

	if (count < 0)
		return rig_fail(r, "the iterator over sockets: %s", strerror(-count));
	for (int i = 0; i < count; i++) {
		if (seen[i].number != e->number)
			continue;
		*ret = seen[i];
		return true;
	}
	return rig_fail(r, "the iterator does not find the socket");
}

static bool mark(struct rig *r, const struct rig_end *e, bool enter)
{
	struct selftest_mark m = {
		.port = e->port, .enter = enter, .peer = e->peer->sock, .number = e->number};

	if (bpf_map_update_elem(bpf_map__fd(r->skel->maps.selftest_marks), &e->fd, &m, BPF_ANY))
		return rig_failed(r, "marking a socket");
	return true;
}

static bool find(struct rig *r, struct rig_end *e)
{
	struct selftest_seen seen;

	if (!rig_look(r, e, &seen))
		return false;
	e->sock = seen.sock;
	return true;
}

/* ------------------------------------------------------------------ pairs */

static bool is_in(struct rig *r, const struct rig_end *e)
{
	__u64 cookie;

	return !bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.selftest_socks), &e->port, &cookie);
}

bool rig_enter(struct rig *r, struct rig_pair *p)
{
	struct selftest_seen seen[LOOKS];
	int err = 0;

	for (int i = 0; i < ENTER_TRIES; i++) {
		bool client = is_in(r, &p->client), server = is_in(r, &p->server);

		if (client && server)
			return true;
		if ((!client && !mark(r, &p->client, true)) || (!server && !mark(r, &p->server, true)))
			return false;
		err = look(r, seen);
		for (int k = 0; k < err; k++)
			if (seen[k].entered && seen[k].entered != -EBUSY)
				return rig_fail(r, "a socket cannot enter: %s", strerror(-seen[k].entered));
	}
	return rig_fail(r, "a socket cannot enter: %s", strerror(err < 0 ? -err : EBUSY));
}

bool rig_leave(struct rig *r, struct rig_pair *p)
{
	int map = bpf_map__fd(r->skel->maps.selftest_socks);

	if (bpf_map_delete_elem(map, &p->client.port) || bpf_map_delete_elem(map, &p->server.port))
		return rig_failed(r, "removing a socket from the map");
	return true;
}

static uint32_t local_port(int fd)
{
	struct sockaddr_in6 a; /* the port of IPv4 stands in the same place */
	socklen_t len = sizeof(a);

	return getsockname(fd, (struct sockaddr *)&a, &len) ? 0 : ntohs(a.sin6_port);
}

/* A listener hands all of it down. reno: what the machine is tuned to must not matter; no waiting for ACKs. */
static bool prepare(int fd, int buffers)
{
	const int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		return false;
	return !buffers || (!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffers, sizeof(buffers)) &&
			    !setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffers, sizeof(buffers)));
}

static int listen_at(int family, int buffers, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	*ret_len = family == AF_INET6 ? sizeof(six) : sizeof(four);
	memcpy(ret, family == AF_INET6 ? (void *)&six : (void *)&four, *ret_len);
	if (!prepare(fd, buffers) || bind(fd, (struct sockaddr *)ret, *ret_len) || listen(fd, 1) ||
	    getsockname(fd, (struct sockaddr *)ret, ret_len)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool join(struct rig_pair *p, int family, int buffers)
{
	struct sockaddr_storage to;
	socklen_t len;
	int listener = listen_at(family, buffers, &to, &len);
	struct pollfd in = {.fd = listener, .events = POLLIN};
	bool done = false;

	if (listener < 0)
		return false;
	p->client.fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->client.fd >= 0 && prepare(p->client.fd, buffers) &&
	    (!connect(p->client.fd, (struct sockaddr *)&to, len) || errno == EINPROGRESS) &&
	    poll(&in, 1, RIG_WAIT_MS) == 1) {
		p->server.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		done = p->server.fd >= 0 && rig_await(&p->client, POLLOUT) & POLLOUT;
	}
	close(listener);
	return done;
}

bool rig_connect(struct rig *r, struct rig_pair *p, int family, int buffers)
{
	struct rig_end *e[] = {&p->client, &p->server};

	*p = (struct rig_pair){.client = {.fd = -1, .peer = &p->server},
			       .server = {.fd = -1, .peer = &p->client}};
	if (!join(p, family, buffers))
		return rig_failed(r, "a connection over loopback");
	for (unsigned i = 0; i < array_size(e); i++) {
		e[i]->port = local_port(e[i]->fd);
		e[i]->number = ++r->numbers;
		if (!e[i]->port || !mark(r, e[i], false) || !find(r, e[i]))
			return false;
	}
	return mark(r, &p->client, false) && mark(r, &p->server, false);
}

bool rig_pair(struct rig *r, struct rig_pair *p)
{
	return rig_connect(r, p, AF_INET, 0) && rig_enter(r, p);
}

void rig_part(struct rig_pair *p)
{
	struct rig_end *e[] = {&p->client, &p->server};

	for (unsigned i = 0; i < array_size(e); i++) {
		if (e[i]->fd >= 0)
			close(e[i]->fd);
		e[i]->fd = -1;
	}
}

/* ------------------------------------------------------------------ messages */

static unsigned char byte_at(uint64_t at)
{
	return (unsigned char)(at * 167 + (at >> 8) * 13 + (at >> 16));
}

static const unsigned char *bytes(struct rig *r, uint64_t at, size_t size)
{
	for (size_t i = 0; i < size; i++)
		r->chunk[i] = byte_at(at + i);
	return r->chunk;
}

static bool switch_to(struct rig *r, const struct rig_end *e, enum rig_by by, struct selftest_end *ret)
{
	int map = bpf_map__fd(r->skel->maps.selftest_ends);

	*ret = (struct selftest_end){0};
	(void)bpf_map_lookup_elem(map, &e->port, ret); /* none yet: zeros */
	ret->redirect = by == RIG_SPLICE;
	if (bpf_map_update_elem(map, &e->port, ret, BPF_ANY))
		return rig_failed(r, "map selftest_ends");
	return true;
}

bool rig_say(struct rig *r, struct rig_end *from, enum rig_by by, size_t size)
{
	struct selftest_end was, now;
	ssize_t n;

	if (size > CHUNK || !switch_to(r, from, by, &was))
		return false;
	n = send(from->fd, bytes(r, from->said, size), size, MSG_NOSIGNAL);
	if (n < 0)
		return rig_failed(r, by == RIG_SPLICE ? "a message to redirect" : "a message by TCP");
	from->said += (uint64_t)n;
	if ((size_t)n != size)
		return rig_fail(r, "%zd of %zu bytes were taken", n, size);
	if (!is_in(r, from)) /* not in the map: no program runs */
		return true;
	if (bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.selftest_ends), &from->port, &now))
		return rig_failed(r, "map selftest_ends");
	if (by == RIG_SPLICE && (now.redirected == was.redirected || now.passed != was.passed))
		return rig_fail(r, "the message was not redirected");
	if (by == RIG_TCP && now.redirected != was.redirected)
		return rig_fail(r, "the message was redirected");
	return true;
}

bool rig_fill(struct rig *r, struct rig_end *from, size_t size, size_t most, size_t *ret_said)
{
	*ret_said = 0;
	while (*ret_said < most) {
		ssize_t n = send(from->fd, bytes(r, from->said, size), size, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0)
			return rig_failed(r, "send");
		from->said += (uint64_t)n;
		*ret_said += (size_t)n;
	}
	return true;
}

int rig_await(const struct rig_end *e, int events)
{
	struct pollfd p = {.fd = e->fd, .events = (short)events};

	return poll(&p, 1, RIG_WAIT_MS) == 1 ? p.revents : 0;
}

bool rig_hear(struct rig *r, struct rig_end *to, size_t size, size_t piece)
{
	size_t done = 0;

	while (done < size) {
		size_t want = size - done;
		ssize_t n;

		if (want > CHUNK)
			want = CHUNK;
		if (piece && want > piece)
			want = piece;
		n = recv(to->fd, r->chunk, want, 0);
		if (n < 0 && errno == EAGAIN && rig_await(to, POLLIN) & POLLIN)
			n = recv(to->fd, r->chunk, want, 0);
		if (n <= 0)
			return rig_fail(r, "%zu of %zu bytes came, then %s", done, size,
					n ? strerror(errno) : "the end of the stream");
		for (ssize_t i = 0; i < n; i++)
			if (r->chunk[i] != byte_at(to->heard + (uint64_t)i))
				return rig_fail(r, "byte %llu is wrong",
						(unsigned long long)(to->heard + (uint64_t)i));
		to->heard += (uint64_t)n;
		done += (size_t)n;
	}
	return true;
}

bool rig_nothing(struct rig *r, struct rig_end *to)
{
	ssize_t n = recv(to->fd, r->chunk, 1, MSG_PEEK);

	if (n < 0 && errno == EAGAIN)
		return true;
	return rig_fail(r, "recv says %s where nothing is", n < 0 ? strerror(errno) : n ? "bytes" : "end");
}

bool rig_end_of_stream(struct rig *r, struct rig_end *to)
{
	ssize_t n = rig_await(to, POLLIN) & POLLIN ? recv(to->fd, r->chunk, 1, 0) : -2;

	if (!n)
		return true;
	if (n == -2)
		return rig_fail(r, "the reader is not told of the end");
	return rig_fail(r, "recv says %s in place of the end", n < 0 ? strerror(errno) : "bytes");
}

bool rig_arrived(struct rig *r, const struct rig_end *e)
{
	uint64_t deadline = clock_ns() + RIG_WAIT_MS * 1000000ull;
	struct selftest_seen seen;

	for (;;) {
		bool last = clock_ns() > deadline; /* before the look: who was interrupted looks once more */

		if (!rig_look(r, e, &seen))
			return false;
		if (seen.arrived)
			return true;
		if (last)
			return rig_fail(r, "bytes by TCP do not arrive");
		(void)poll(NULL, 0, 1);
	}
}

bool rig_inq(struct rig *r, const struct rig_end *e, int want)
{
	int is = -1;

	if (!rig_arrived(r, e))
		return false;
	if (!(rig_await(e, POLLIN) & POLLIN))
		return rig_fail(r, "poll does not see %d bytes", want);
	if (ioctl(e->fd, FIONREAD, &is))
		return rig_failed(r, "FIONREAD");
	return is == want || rig_fail(r, "FIONREAD says %d of %d bytes", is, want);
}

/* ------------------------------------------------------------------ the map */

int rig_other_owner(struct rig *r, const struct rig_end *e)
{
	__u64 fd = (__u64)e->fd; /* the map's values are cookies, so this is as wide */

	return bpf_map_update_elem(bpf_map__fd(r->skel->maps.selftest_other), &e->port, &fd, BPF_ANY);
}

bool rig_empty(struct rig *r)
{
	__u32 key;

	if (!bpf_map_get_next_key(bpf_map__fd(r->skel->maps.selftest_socks), NULL, &key))
		return rig_fail(r, "the entry of port %u stays in the map", key);
	return errno == ENOENT || rig_failed(r, "the keys of the map");
}
