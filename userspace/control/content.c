/* SPDX-License-Identifier: Apache-2.0 */
/* content.c: see content.h. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "doc.h"

#define MAP_MIN (256u << 10) /* bytes; for fewer the page faults cost more than a copy */

/* ------------------------------------------------------------------ SIGBUS */

/*
 * Where a look at mapped bytes goes on when they are not there any more. What looks holds nothing: it compares, hashes,
 * splits or copies.
 */
static _Thread_local sigjmp_buf gone;
static _Thread_local const struct content *volatile looking;

static void on_bus(int number, siginfo_t *info, void *context)
{
	const struct content *c = looking;
	const char *at = info->si_addr;

	if (c && at >= c->bytes && at < c->bytes + c->size)
		siglongjmp(gone, 1);
	(void)signal(number, SIG_DFL); /* nobody's: the access comes again, and ends us */
}

/* Each time: it is one call for a large file, and nobody need know who else catches it. */
static int catch_bus(void)
{
	/* SA_NODEFER: the jump has no mask to restore. */
	const struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};

	return sigaction(SIGBUS, &action, NULL) ? -errno : 0;
}

/* What look() returns, or -EIO. */
static int guarded(const struct content *c, int (*look)(const struct content *c, void *arg), void *arg)
{
	int r;

	if (!c->mapped)
		return look(c, arg);
	if (sigsetjmp(gone, 0)) {
		looking = NULL;
		return -EIO;
	}
	looking = c;
	atomic_signal_fence(memory_order_seq_cst);
	r = look(c, arg);
	atomic_signal_fence(memory_order_seq_cst);
	looking = NULL;
	return r;
}

/* ------------------------------------------------------------------ opening */

static int read_all(struct content *c, int fd)
{
	char *bytes = mem_grow(NULL, c->size + 1, 1); /* one more shows that the file has grown */
	size_t have = 0;
	ssize_t n;

	c->bytes = bytes;
	do {
		n = read(fd, bytes + have, c->size + 1 - have);
		if (n > 0)
			have += (size_t)n;
	} while ((n > 0 && have <= c->size) || (n < 0 && errno == EINTR));
	if (n < 0)
		return -errno;
	return have == c->size ? 0 : -EAGAIN;
}

static int look_for_mark(const struct content *c, void *arg)
{
	return c->size >= 3 && !memcmp(c->bytes, "\xef\xbb\xbf", 3);
}

int content_open(struct content *c, int fd, size_t size)
{
	void *bytes = MAP_FAILED;
	int r;

	*c = (struct content){.size = size};
	if (size >= MAP_MIN && !catch_bus())
		bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	c->mapped = bytes != MAP_FAILED;
	if (c->mapped)
		c->bytes = bytes;
	r = c->mapped ? 0 : read_all(c, fd); /* not every file system can map */
	if (!r)
		r = guarded(c, look_for_mark, NULL);
	if (r < 0) {
		content_close(c);
		return r;
	}
	c->begin = r ? 3 : 0;
	return 0;
}

void content_close(struct content *c)
{
	if (c->mapped)
		munmap((void *)(uintptr_t)c->bytes, c->size);
	else
		free((void *)(uintptr_t)c->bytes);
	free(c->copy);
	*c = (struct content){0};
}

/* ------------------------------------------------------------------ looking */

struct range {
	size_t at, len, dash;
	uint64_t hash;
	bool json;
	char *to;
};

/* Where a line starts. */
static bool line_at(const struct content *c, size_t at)
{
	return at == c->begin || (at > c->begin && at <= c->size && c->bytes[at - 1] == '\n');
}

static int look_equal(const struct content *c, void *arg)
{
	const struct range *r = arg;

	return r->len <= c->size - r->at && table_hash(c->bytes + r->at, r->len) == r->hash;
}

static int look_document_ends(const struct content *c, void *arg)
{
	const struct range *r = arg;

	return r->at == c->size || (line_at(c, r->at) && doc_starts(c->bytes + r->at, c->bytes + c->size));
}

static int look_item_starts(const struct content *c, void *arg)
{
	const struct range *r = arg;

	return line_at(c, r->at) && doc_item_starts(c->bytes + r->at, c->bytes + c->size, r->dash);
}

static int look_item(const struct content *c, void *arg)
{
	struct range *r = arg;

	r->len = doc_item(c->bytes + r->at, c->bytes + c->size, r->dash);
	return r->len > 0;
}

/*
 * A document with a marker of its own ends at the first marker behind it. None is in these bytes, or they end with
 * its line (...), for so it was when they were split off.
 */
static int look_same(const struct content *c, void *arg)
{
	struct range *r = arg, behind = {.at = r->at + r->len};

	return r->len <= c->size - r->at && doc_starts(c->bytes + r->at, c->bytes + c->size) &&
	       look_document_ends(c, &behind) && look_equal(c, r);
}

static int look_split(const struct content *c, void *arg)
{
	struct range *r = arg;

	r->len = doc_split(c->bytes + r->at, c->size - r->at, r->json);
	return 0;
}

static int look_copy(const struct content *c, void *arg)
{
	const struct range *r = arg;

	memcpy(r->to, c->bytes + r->at, r->len);
	return 0;
}

int content_same(const struct content *c, size_t at, size_t len, uint64_t hash)
{
	struct range r = {.at = at, .len = len, .hash = hash};

	return guarded(c, look_same, &r);
}

int content_equal(const struct content *c, size_t at, size_t len, uint64_t hash)
{
	struct range r = {.at = at, .len = len, .hash = hash};

	return guarded(c, look_equal, &r);
}

int content_item_starts(const struct content *c, size_t at, size_t dash)
{
	struct range r = {.at = at, .dash = dash};

	return guarded(c, look_item_starts, &r);
}

int content_document_ends(const struct content *c, size_t at)
{
	struct range r = {.at = at};

	return guarded(c, look_document_ends, &r);
}

int content_item(const struct content *c, size_t at, size_t dash, size_t *ret_len)
{
	struct range r = {.at = at, .dash = dash};
	int is = guarded(c, look_item, &r);

	*ret_len = r.len;
	return is;
}

int content_copy(struct content *c, size_t at, size_t len, const char **ret)
{
	struct range r = {.at = at, .len = len};

	*ret = c->bytes + at;
	if (!c->mapped)
		return 0;
	if (c->room < len) {
		c->room = len > 2 * c->room ? len : 2 * c->room;
		free(c->copy);
		c->copy = mem_grow(NULL, c->room, 1);
	}
	r.to = c->copy;
	*ret = c->copy;
	return guarded(c, look_copy, &r);
}

int content_document(struct content *c, size_t at, bool json, const char **ret, size_t *ret_len)
{
	struct range r = {.at = at, .json = json};
	int err = guarded(c, look_split, &r);

	*ret_len = r.len;
	return err ? err : content_copy(c, at, r.len, ret);
}
